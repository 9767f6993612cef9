/* Schedules, on every store: kept whole, listed in order, and never the same event twice. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

static const hark_ext region = {.name = "region", .value = "north"};

static hark_event *named_event(const char *id, const char *source, const char *json)
{
    return event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = id, .source = source,
                              .subject = "s", .json = json, .extensions = &region,
                              .n_extensions = 1));
}

typedef struct added {
    uint64_t id, sequence;
    bool duplicate;
} added;

static hark_err try_add_as(fixture *f, const char *id, const char *source, const char *json,
                           bool first_stands, added *ret)
{
    hark_store_schedule sch = {
        .due_ns = 50, .by_delay = 3, .created_ns = 40, .first_stands = first_stands};
    sch.event = named_event(id, source, json);
    hk_event_digest(sch.event, f->info.log_id, sch.digest);
    begin(f);
    hark_err err = f->ops->schedule_add(f->store, &sch, &ret->sequence, &ret->duplicate, &f->ei);
    commit(f);
    ret->id = sch.id;
    hark_event_unref(sch.event);
    return err;
}

static hark_err try_add(fixture *f, const char *id, const char *source, const char *json,
                        added *ret)
{
    return try_add_as(f, id, source, json, false, ret);
}

static added schedule(fixture *f, const char *id)
{
    added a = {.sequence = 99, .duplicate = true};
    assert_ok(f, try_add(f, id, "/test", "1", &a));
    return a;
}

static bool say_schedule(void *ud, const hark_store_schedule *s)
{
    say(ud, "%s", hark_event_id(s->event));
    return entry_ends(ud);
}

static const char *schedules_text(fixture *f, uint64_t id, uint64_t after, text *t)
{
    assert_ok(f, f->ops->schedules(f->store, id, after, true, say_schedule, t, &f->ei));
    return text_end(t);
}

#define assert_schedules(f, expected, id, after)                                                   \
    do {                                                                                           \
        text t_ = {.n = 0};                                                                        \
        assert_string_equal(expected, schedules_text(f, id, after, &t_));                          \
    } while (0)

/* ---- keeping and listing ----------------------------------------------------------------------- */

static bool check_whole(void *ud, const hark_store_schedule *s)
{
    uint8_t digest[16];
    hark_ext ext;
    size_t len = 0;
    fixture *f = ud;
    assert_int_equal(s->due_ns, 50);
    assert_int_equal(s->by_delay, 3); /* bits, stored as they are */
    assert_int_equal(s->created_ns, 40);
    assert_int_equal(hark_event_sequence(s->event), 0);
    assert_string_equal(hark_event_id(s->event), "a");
    assert_string_equal(hark_event_source(s->event), "/test");
    assert_string_equal(hark_event_subject(s->event), "s");
    assert_string_equal(hark_event_datacontenttype(s->event), "application/json");
    assert_memory_equal(hark_event_data(s->event, &len), "1", 1);
    assert_int_equal(len, 1);
    assert_true(hark_event_extension(s->event, 0, &ext));
    assert_string_equal(ext.value, "north");
    hk_event_digest(s->event, f->info.log_id, digest);
    assert_memory_equal(digest, s->digest, sizeof digest);
    return true;
}

static void test_a_schedule_comes_back_whole(void **state)
{
    fixture *f = *state;
    added a = schedule(f, "a");
    assert_int_not_equal(a.id, 0);
    assert_int_equal(a.sequence, 0);
    assert_false(a.duplicate);
    restart(f);
    assert_ok(f, f->ops->schedules(f->store, 0, 0, true, check_whole, f, &f->ei));
    assert_schedules(f, "a", 0, 0);
}

static bool check_bare(void *ud, const hark_store_schedule *s)
{
    ++*(int *)ud;
    assert_null(s->event);
    assert_int_equal(s->due_ns, 50);
    assert_int_not_equal(s->id, 0);
    return true;
}

static void test_a_list_without_events_has_none(void **state)
{
    fixture *f = *state;
    int n = 0;
    (void)schedule(f, "a");
    (void)schedule(f, "b");
    assert_ok(f, f->ops->schedules(f->store, 0, 0, false, check_bare, &n, &f->ei));
    assert_int_equal(n, 2);
}

static void test_schedules_are_listed_in_order_of_their_ids(void **state)
{
    fixture *f = *state;
    assert_schedules(f, "", 0, 0);
    added a = schedule(f, "a"), b = schedule(f, "b"), c = schedule(f, "c");
    assert_true(a.id < b.id && b.id < c.id);
    assert_schedules(f, "a; b; c", 0, 0);
    assert_schedules(f, "b; c", 0, a.id);
    text t = {.most = 2};
    assert_string_equal("a; b", schedules_text(f, 0, 0, &t));
}

static void test_a_group_looks_up_one_schedule(void **state)
{
    fixture *f = *state;
    added a = schedule(f, "a");
    hark_store_schedule sch = {.due_ns = 1, .event = named_event("b", "/test", "1")};
    uint64_t sequence;
    bool duplicate;
    (void)schedule(f, "c");
    begin(f);
    assert_ok(f, f->ops->schedule_add(f->store, &sch, &sequence, &duplicate, &f->ei));
    assert_schedules(f, "b", sch.id, 0); /* its own, too */
    assert_schedules(f, "a", a.id, 0);
    assert_schedules(f, "", sch.id + 1, 0);
    commit(f);
    assert_schedules(f, "b", sch.id, 0);
    hark_event_unref(sch.event);
}

static bool drop_it(void *ud, const hark_store_schedule *s)
{
    fixture *f = ud;
    assert_ok(f, f->ops->schedule_drop(f->store, s->id, &f->ei));
    assert_string_equal(hark_event_id(s->event), "a"); /* still lent */
    return true;
}

static void test_who_looks_a_schedule_up_may_drop_it_there(void **state)
{
    fixture *f = *state;
    added a = schedule(f, "a");
    write_ok(f, f->ops->schedules(f->store, a.id, 0, true, drop_it, f, &f->ei));
    assert_schedules(f, "", 0, 0);
}

static bool check_order(void *ud, const hark_store_schedule *s)
{
    uint64_t *next = ud; /* every third was dropped */
    *next += *next % 3 == 0;
    assert_int_equal(s->id, (*next)++);
    return true;
}

static void test_hundreds_of_schedules_are_listed_without_a_gap(void **state)
{
    fixture *f = *state;
    enum { SCHEDULES = 300 };
    uint64_t next = 1;
    for (uint64_t i = 1; i <= SCHEDULES; i++) {
        char id[24];
        (void)snprintf(id, sizeof id, "%llu", (unsigned long long)i);
        assert_int_equal(schedule(f, id).id, i);
    }
    for (uint64_t i = 3; i <= SCHEDULES; i += 3)
        write_ok(f, f->ops->schedule_drop(f->store, i, &f->ei));
    assert_ok(f, f->ops->schedules(f->store, 0, 0, false, check_order, &next, &f->ei));
    assert_int_equal(next, SCHEDULES);
}

/* ---- repeats ----------------------------------------------------------------------------------- */

static void test_an_event_that_waits_already_gives_the_first_schedule(void **state)
{
    fixture *f = *state;
    added a = schedule(f, "a"), again = schedule(f, "a");
    assert_true(again.duplicate);
    assert_int_equal(again.id, a.id);
    assert_int_equal(again.sequence, 0);
    assert_schedules(f, "a", 0, 0);
}

static void test_other_content_under_a_waiting_id_is_a_conflict(void **state)
{
    fixture *f = *state;
    added a = {.sequence = 0};
    (void)schedule(f, "a");
    assert_err(f, HARK_ECONFLICT, try_add(f, "a", "/test", "2", &a));
    assert_says(f, "id a and source /test is");
    assert_says(f, "schedule 1 with other content");
    assert_schedules(f, "a", 0, 0);
}

static void publish(fixture *f, const char *id, const char *json)
{
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .id = id, .source = "/test",
                                .subject = "s", .json = json));
}

static void test_an_event_of_the_log_is_not_scheduled(void **state)
{
    fixture *f = *state;
    publish(f, "other", "1");
    publish(f, "a", "1");
    added a = schedule(f, "a");
    assert_true(a.duplicate);
    assert_int_equal(a.sequence, 2);
    assert_int_equal(a.id, 0);
    assert_schedules(f, "", 0, 0);
}

static void test_other_content_under_an_id_of_the_log_is_a_conflict(void **state)
{
    fixture *f = *state;
    added a = {.sequence = 0};
    publish(f, "a", "2");
    assert_err(f, HARK_ECONFLICT, try_add(f, "a", "/test", "1", &a));
    assert_says(f, "at sequence 1 with other content");
    assert_schedules(f, "", 0, 0);
}

static void test_of_a_derived_id_the_first_stands_whatever_its_content(void **state)
{
    fixture *f = *state;
    added a = {.id = 9}, waits = schedule(f, "a");
    publish(f, "b", "1");
    assert_ok(f, try_add_as(f, "a", "/test", "2", true, &a));
    assert_true(a.duplicate && a.id == waits.id && a.sequence == 0);
    assert_ok(f, try_add_as(f, "b", "/test", "2", true, &a));
    assert_true(a.duplicate && a.id == 0 && a.sequence == 1);
    assert_ok(f, try_add_as(f, "c", "/test", "2", true, &a));
    assert_false(a.duplicate);
    assert_schedules(f, "a; c", 0, 0);
}

static void test_another_source_is_another_event(void **state)
{
    fixture *f = *state;
    added a = {.duplicate = true}, first = schedule(f, "a");
    publish(f, "b", "1");
    assert_ok(f, try_add(f, "a", "/elsewhere", "2", &a));
    assert_false(a.duplicate);
    assert_true(a.id > first.id);
    assert_ok(f, try_add(f, "b", "/elsewhere", "2", &a));
    assert_false(a.duplicate);
    assert_schedules(f, "a; a; b", 0, 0);
}

/* ---- dropping ---------------------------------------------------------------------------------- */

static void test_a_schedule_is_dropped_once(void **state)
{
    fixture *f = *state;
    added a = schedule(f, "a");
    (void)schedule(f, "b");
    write_ok(f, f->ops->schedule_drop(f->store, a.id, &f->ei));
    write_err(f, HARK_ENOTFOUND, f->ops->schedule_drop(f->store, a.id, &f->ei));
    restart(f);
    assert_schedules(f, "b", 0, 0);
}

static void test_what_was_dropped_may_be_scheduled_anew(void **state)
{
    fixture *f = *state;
    added first = schedule(f, "a"), again = {.duplicate = true};
    write_ok(f, f->ops->schedule_drop(f->store, first.id, &f->ei));
    restart(f);
    assert_ok(f, try_add(f, "a", "/test", "2", &again));
    assert_false(again.duplicate);
    assert_true(again.id > first.id); /* an id is not used again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_a_schedule_comes_back_whole),
        EACH(test_a_list_without_events_has_none),
        EACH(test_schedules_are_listed_in_order_of_their_ids),
        EACH(test_a_group_looks_up_one_schedule),
        EACH(test_who_looks_a_schedule_up_may_drop_it_there),
        EACH(test_hundreds_of_schedules_are_listed_without_a_gap),
        EACH(test_an_event_that_waits_already_gives_the_first_schedule),
        EACH(test_other_content_under_a_waiting_id_is_a_conflict),
        EACH(test_an_event_of_the_log_is_not_scheduled),
        EACH(test_other_content_under_an_id_of_the_log_is_a_conflict),
        EACH(test_of_a_derived_id_the_first_stands_whatever_its_content),
        EACH(test_another_source_is_another_event),
        EACH(test_a_schedule_is_dropped_once),
        EACH(test_what_was_dropped_may_be_scheduled_anew),
    };
    return RUN_CONTRACT(tests);
}
