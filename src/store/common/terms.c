/* terms: on what terms a consumer is registered, against those that whoever opens it gives. */
#include "store/common/common.h"

#include <string.h>

void hk_consumer_unfilled(hark_store_consumer *c)
{
    c->ret_settled = NULL;
    c->ret_rows = NULL;
    c->ret_n_settled = c->ret_n_rows = 0;
    c->ret_pattern = c->ret_policy = NULL;
    c->ret_created = c->ret_paused = 0;
    c->ret_rerun = (hark_store_rerun){0};
    c->ret_gap_from = c->ret_gap_to = 0;
    c->ret_shares = 1;
}

hark_err hk_consumer_terms(hark_store_consumer *c, const char *pattern, const char *policy,
                           bool *ret_differs, hark_errinfo *ei)
{
    *ret_differs = !c->find && (strcmp(pattern, c->pattern) != 0 || strcmp(policy, c->policy) != 0);
    if (*ret_differs && !c->update)
        return hk_fail(ei, HARK_ECONFLICT,
                       "consumer %s is registered for %.100s with %.100s; register it so, set "
                       ".update, or choose another name",
                       c->name, pattern, policy);
    c->ret_pattern = hk_strdup(*ret_differs ? c->pattern : pattern);
    c->ret_policy = hk_strdup(*ret_differs ? c->policy : policy);
    if (!c->ret_pattern || !c->ret_policy)
        return hk_fail(ei, HARK_ENOMEM, "no memory for consumer %s", c->name);
    return HARK_OK;
}
