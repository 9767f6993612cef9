/* Schedules in groups: looked up by the group that adds or fires them, and undone with it, or with the
 * closure that does so; and an event at the limits of what a schedule keeps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/tx_fixture_i.h"

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

/* ---- in closures ----------------------------------------------------------------------------- */

static void test_what_a_closure_adds_and_drops_is_undone_with_it_alone(void **state)
{
    fixture *f = *state;
    added a;
    schedule_three(f);
    begin(f);
    tx_begin(f);
    assert_ok(f, schedule(f, "d", 1, &a));
    assert_ok(f, OPS.schedule_drop(f->store, 1, &f->ei));
    tx_keep(f);
    tx_begin(f);
    assert_ok(f, schedule(f, "e", 1, &a));
    assert_ok(f, OPS.schedule_drop(f->store, 2, &f->ei));
    assert_err(f, HARK_ENOTFOUND, OPS.schedule_drop(f->store, 1, &f->ei));
    tx_undo(f);
    tx_begin(f);
    assert_ok(f, schedule(f, "f", 1, &a));
    tx_keep(f);
    commit(f);
    assert_lists(f, "2:b 3:c 4:d 5:f ", 0, 0, true);
}

static void test_a_closure_goes_on_after_a_conflict(void **state)
{
    fixture *f = *state;
    added a;
    schedule_three(f);
    begin(f);
    tx_begin(f);
    assert_err(f, HARK_ECONFLICT, schedule(f, "a", 2, &a));
    assert_ok(f, schedule(f, "d", 1, &a));
    tx_keep(f);
    commit(f);
    assert_lists(f, "1:a 2:b 3:c 4:d ", 0, 0, true);
}

static void test_nothing_is_scheduled_after_the_transaction_is_gone(void **state)
{
    fixture *f = *state;
    added a;
    schedule_three(f);
    in_tx(f, "INSERT INTO stock VALUES('a', 1)");
    begin(f);
    tx_begin(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT OR ROLLBACK INTO stock VALUES('a', 1)"));
    assert_err(f, HARK_ECONSTRAINT, schedule(f, "d", 1, &a));
    assert_err(f, HARK_ECONSTRAINT, OPS.schedule_drop(f->store, 1, &f->ei));
    tx_gone(f, HARK_ECONSTRAINT);
    assert_lists(f, "1:a 2:b 3:c ", 0, 0, true);
}

/* Its own ids move, and what the program does to those of others shows nevertheless. */
static void test_a_schedule_hides_no_change_of_the_logs_ids(void **state)
{
    fixture *f = *state;
    added a;
    begin(f);
    tx_begin(f);
    assert_int_equal(sqlite3_exec(native(f), "CREATE TABLE q(a)", NULL, NULL, NULL), 0);
    assert_ok(f, schedule(f, "a", 1, &a));
    tx_keep(f);
    tx_begin(f);
    assert_int_equal(sqlite3_exec(native(f), "CREATE TABLE r(a)", NULL, NULL, NULL), 0);
    (void)sqlite3_exec(native(f), "INSERT INTO sqlite_sequence VALUES('hark_dead_letters', 9)",
                       NULL, NULL, NULL);
    assert_ok(f, schedule(f, "b", 1, &a));
    tx_refused(f, HARK_EDENIED);
    assert_says(f, "sqlite_sequence");
    commit(f);
    assert_lists(f, "1:a ", 0, 0, true);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_schedule_comes_back_whole),
        T(test_a_group_looks_up_the_schedule_that_it_added_itself),
        T(test_a_schedule_fires_in_one_step_with_its_end),
        STOCK(test_what_a_closure_adds_and_drops_is_undone_with_it_alone),
        STOCK(test_a_closure_goes_on_after_a_conflict),
        STOCK(test_nothing_is_scheduled_after_the_transaction_is_gone),
        STOCK(test_a_schedule_hides_no_change_of_the_logs_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
