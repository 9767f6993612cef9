/* Schedules in groups: looked up by the group that adds or fires them, and undone with it; and an event
 * at the limits of what a schedule keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"

typedef struct added {
    uint64_t id, sequence;
    bool duplicate;
} added;

/* Inside a group. `digest` stands for the content. */
static hark_err schedule(fixture *f, const char *id, uint8_t digest, added *ret)
{
    hark_event *e = simple_event("t", id);
    hark_store_schedule sch = {
        .due_ns = 50, .by_delay = 1, .created_ns = 40, .event = e, .digest = {digest}};
    hark_err err = OPS.schedule_add(f->store, &sch, &ret->sequence, &ret->duplicate, &f->ei);
    ret->id = sch.id;
    hark_event_unref(e);
    return err;
}

static void schedule_three(fixture *f)
{
    added a;
    begin(f);
    assert_ok(f, schedule(f, "a", 1, &a));
    assert_int_equal(a.id, 1);
    assert_false(a.duplicate);
    assert_ok(f, schedule(f, "b", 1, &a));
    assert_ok(f, schedule(f, "c", 1, &a));
    assert_int_equal(a.id, 3);
    commit(f);
}

typedef struct found {
    char text[128];
    hark_store_schedule last;
    hark_event *event; /* of the last, a reference */
} found;

static bool note(void *ud, const hark_store_schedule *s)
{
    found *l = ud;
    size_t at = strlen(l->text);
    (void)snprintf(l->text + at, sizeof l->text - at, "%llu:%s ", (unsigned long long)s->id,
                   s->event ? hark_event_id(s->event) : "-");
    hark_event_unref(l->event);
    l->event = hark_event_ref(s->event);
    l->last = *s;
    return true;
}

#define assert_lists(f, expected, id, after, events)                                               \
    do {                                                                                           \
        found found_ = {0};                                                                        \
        assert_ok(f, OPS.schedules((f)->store, id, after, events, note, &found_, &(f)->ei));       \
        assert_string_equal(found_.text, expected);                                                \
        hark_event_unref(found_.event);                                                            \
    } while (0)

static void test_a_schedule_comes_back_whole(void **state)
{
    fixture *f = *state;
    hark_event *e = event_of(HARK_OPTS(
        hark_event_spec, .type = "t", .id = "x", .source = "/s", .subject = "s", .key = "k",
        .time = "2026-01-31T13:00:00.123456789123456789123456789123456789123456789+01:00",
        .data = "a\0b", .data_len = 3, .datacontenttype = "text/plain"));
    hark_store_schedule sch = {.due_ns = 50, .created_ns = 40, .event = e};
    uint64_t sequence = 0;
    bool duplicate = true;
    found l = {0};
    char *was, *is;
    for (size_t i = 0; i < sizeof sch.digest; i++)
        sch.digest[i] = (uint8_t)(i + 1);
    begin(f);
    assert_ok(f, OPS.schedule_add(f->store, &sch, &sequence, &duplicate, &f->ei));
    commit(f);
    assert_ok(f, OPS.schedules(f->store, 0, 0, true, note, &l, &f->ei));
    assert_int_equal(l.last.due_ns, 50);
    assert_int_equal(l.last.by_delay, 0);
    assert_int_equal(l.last.created_ns, 40);
    assert_memory_equal(l.last.digest, sch.digest, sizeof sch.digest);
    assert_int_equal(hark_event_to_json(e, &was, NULL), HARK_OK);
    assert_int_equal(hark_event_to_json(l.event, &is, NULL), HARK_OK);
    assert_string_equal(was, is);
    free(was);
    free(is);
    hark_event_unref(e);
    hark_event_unref(l.event);
}

static void test_a_group_looks_up_the_schedule_that_it_added_itself(void **state)
{
    fixture *f = *state;
    added a;
    begin(f);
    assert_ok(f, schedule(f, "a", 1, &a));
    assert_lists(f, "1:a ", a.id, 0, true);
    assert_lists(f, "1:- ", a.id, 0, false);
    assert_lists(f, "", 9, 0, true);
    assert_lists(f, "", 0, 0, true); /* for the others it isn't there yet */
    OPS.rollback(f->store);
    assert_lists(f, "", 0, 0, true);
    schedule_three(f);
    assert_lists(f, "2:b ", 2, 0, true); /* between groups too */
}

static bool fire(void *ud, const hark_store_schedule *s)
{
    fixture *f = ud;
    hark_store_append a = {.event = s->event};
    memcpy(a.digest, s->digest, sizeof a.digest);
    assert_ok(f, append(f, &a, 1));
    assert_ok(f, OPS.schedule_drop(f->store, s->id, &f->ei));
    return true;
}

static void test_a_schedule_fires_in_one_step_with_its_end(void **state)
{
    fixture *f = *state;
    schedule_three(f);
    begin(f);
    assert_ok(f, OPS.schedules(f->store, 2, 0, true, fire, f, &f->ei));
    OPS.rollback(f->store);
    assert_lists(f, "1:a 2:b 3:c ", 0, 0, true);
    begin(f);
    assert_ok(f, OPS.schedules(f->store, 2, 0, true, fire, f, &f->ei));
    commit(f);
    assert_lists(f, "1:a 3:c ", 0, 0, true);
    assert_reads(f, "1 end", .limit = 10);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_schedule_comes_back_whole),
        T(test_a_group_looks_up_the_schedule_that_it_added_itself),
        T(test_a_schedule_fires_in_one_step_with_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
