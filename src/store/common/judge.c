/* judge: what an append says about what is in the log already: its id is taken, its subject is at another
 * version. The store looks; the comparison and the words are the same everywhere. */
#include "store/common/common.h"

#include <stdio.h>

hark_err hk_repeat_conflict(const hark_store_append *a, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECONFLICT,
                   "an event with id %.100s and source %.100s is at sequence %llu with other "
                   "content; give the new event an id of its own",
                   hark_event_id(a->event), hark_event_source(a->event),
                   (unsigned long long)a->ret_sequence);
}

hark_err hk_expected_check(const hark_store_append *a, hark_errinfo *ei)
{
    if (a->expected < HARK_EXPECT_NONE)
        return hk_fail(ei, HARK_EINVAL,
                       "expected_version %lld; give a version from 1, 0 for any, or "
                       "HARK_EXPECT_NONE",
                       (long long)a->expected);
    if (!hark_event_subject(a->event))
        return hk_fail(ei, HARK_EINVAL,
                       "expected_version %lld of an event without a subject; give it the subject "
                       "whose version it is, or expect none",
                       (long long)a->expected);
    return HARK_OK;
}

bool hk_expected_met(const hark_store_append *a, int64_t current)
{
    return a->expected == 0 || (a->expected == HARK_EXPECT_NONE ? 0 : a->expected) == current;
}

hark_err hk_expected_other(hark_store_append *a, int64_t current, hark_errinfo *ei)
{
    char expected[48] = "no event of it";
    a->ret_subject_version = current;
    if (a->expected > 0)
        (void)snprintf(expected, sizeof expected, "version %lld", (long long)a->expected);
    return hk_fail(ei, HARK_EVERSION,
                   "subject %.100s is at version %lld and the event expects %s; read it again and "
                   "decide anew",
                   hark_event_subject(a->event), (long long)current, expected);
}
