/* What there is of each type and version: events, dead letters, schedules; on every store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

/* "t 2: 1 stored 1 dead". */
static bool say_version(void *ud, const hark_store_version *v)
{
    text *t = ud;
    say(t, "%s %lld:", v->type, (long long)v->version);
    if (v->events)
        say(t, " %llu stored", (unsigned long long)v->events);
    if (v->dead_letters)
        say(t, " %llu dead", (unsigned long long)v->dead_letters);
    if (v->schedules)
        say(t, " %llu later", (unsigned long long)v->schedules);
    assert_int_equal(v->first_ns != 0, v->last_ns != 0);
    assert_true(v->first_ns <= v->last_ns);
    return entry_ends(t);
}

static const char *versions_text(fixture *f, text *t)
{
    assert_ok(f, f->ops->versions(f->store, say_version, t, &f->ei));
    return text_end(t);
}

#define assert_versions(f, expected)                                                               \
    do {                                                                                           \
        text t_ = {.n = 0};                                                                        \
        assert_string_equal(expected, versions_text(f, &t_));                                      \
    } while (0)

static uint64_t add_version(fixture *f, const char *type, int64_t version)
{
    return add_spec(
        f, HARK_OPTS(hark_event_spec, .type = type, .source = "/test", .dataversion = version));
}

static uint64_t schedule(fixture *f, const char *id, int64_t version)
{
    uint64_t sequence;
    bool duplicate;
    hark_event *e = event_of(HARK_OPTS(hark_event_spec, .type = "later", .id = id,
                                       .source = "/test", .dataversion = version));
    hark_store_schedule sch = {.due_ns = 9, .created_ns = 8, .event = e};
    hk_event_digest(e, f->info.log_id, sch.digest);
    write_ok(f, f->ops->schedule_add(f->store, &sch, &sequence, &duplicate, &f->ei));
    hark_event_unref(e);
    return sch.id;
}

static void test_events_are_counted_by_type_and_version_in_order(void **state)
{
    fixture *f = *state;
    assert_versions(f, "");
    (void)add_version(f, "t", 2);
    (void)add_version(f, "b", 10);
    (void)add_version(f, "t", 0); /* is 1 */
    (void)add_version(f, "b", 9);
    (void)add_version(f, "t", 2);
    (void)add_version(f, "t:b", INT32_MAX);
    assert_versions(f, "b 9: 1 stored; b 10: 1 stored; t 1: 1 stored; t 2: 2 stored; "
                       "t:b 2147483647: 1 stored");
    restart(f);
    (void)add_version(f, "t", 2);
    assert_versions(f, "b 9: 1 stored; b 10: 1 stored; t 1: 1 stored; t 2: 3 stored; "
                       "t:b 2147483647: 1 stored");
}

static void test_a_repeat_is_not_counted_again(void **state)
{
    fixture *f = *state;
    hark_store_append a = {.event = event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = "1",
                                                       .source = "/test", .dataversion = 3))};
    hk_event_digest(a.event, f->info.log_id, a.digest);
    if (f->info.direct)
        hk_event_ref_n(a.event, 2);
    write_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    write_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    assert_int_equal(a.ret_duplicate, 1);
    hark_event_unref(a.event);
    assert_versions(f, "t 3: 1 stored");
}

static void test_dead_letters_and_schedules_are_counted_beside_their_events(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    (void)add_version(f, "t", 2);
    (void)add_version(f, "t", 1);
    uint64_t id = bury(f, "c", 1, false);
    (void)bury(f, "d", 1, true);
    uint64_t later = schedule(f, "a", 4);
    (void)schedule(f, "b", 4);
    (void)schedule(f, "c", 1);
    assert_versions(f, "later 1: 1 later; later 4: 2 later; t 1: 1 stored; t 2: 1 stored 2 dead");
    restart(f);
    write_ok(f, f->ops->letter_discard(f->store, id, &done, &f->ei));
    free(done.key);
    write_ok(f, f->ops->schedule_drop(f->store, later, &f->ei));
    assert_versions(f, "later 1: 1 later; later 4: 1 later; t 1: 1 stored; t 2: 1 stored 1 dead");
}

static void test_whoever_has_seen_enough_is_told_no_more(void **state)
{
    fixture *f = *state;
    text t = {.most = 2};
    for (int64_t v = 1; v < 5; v++)
        (void)add_version(f, "t", v);
    assert_string_equal("t 1: 1 stored; t 2: 1 stored", versions_text(f, &t));
}

static void test_what_is_no_longer_retained_is_not_counted(void **state)
{
    fixture *f = *state;
    (void)add_version(f, "old", 1);
    (void)add_version(f, "t", 1);
    (void)bury(f, "c", 1, false);
    for (int i = 0; i < RETAINED; i++)
        (void)add_version(f, "t", 2);
    assert_versions(f, "old 1: 1 dead; t 2: 1024 stored");
}

static void test_memory_has_no_versions_of_subjects_to_expect(void **state)
{
    fixture *f = *state;
    hark_store_append a = {.event = event_of(HARK_OPTS(hark_event_spec, .type = "t",
                                                       .source = "/test", .subject = "s")),
                           .expected = HARK_EXPECT_NONE};
    assert_err(f, HARK_ENOTSUP, f->ops->append(f->store, &a, 1, &f->ei));
    assert_says(f, "sqlite:PATH");
    a.expected = 0;
    hk_event_ref_n(a.event, 2);
    a.ret_subject_version = 5;
    write_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    assert_int_equal(a.ret_sequence, 1);
    assert_int_equal(a.ret_subject_version, 0);
    hark_event_unref(a.event);
    assert_null(f->ops->ack);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_events_are_counted_by_type_and_version_in_order),
        EACH(test_a_repeat_is_not_counted_again),
        EACH(test_dead_letters_and_schedules_are_counted_beside_their_events),
        EACH(test_whoever_has_seen_enough_is_told_no_more),
        ON("memory", test_what_is_no_longer_retained_is_not_counted),
        ON("memory", test_memory_has_no_versions_of_subjects_to_expect),
    };
    return RUN_CONTRACT(tests);
}
