/* Operating consumers: looking one up, pausing, resetting to another place, and the list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"

static hark_store_consumer find(const char *name)
{
    return (hark_store_consumer){.size = sizeof(hark_store_consumer), .name = name, .find = 1};
}

/* A reset in a group of its own. */
static hark_err reset(fixture *f, hark_store_reset *r)
{
    begin(f);
    hark_err err = OPS.consumer_reset(f->store, r, &f->ei);
    commit(f);
    return err;
}

static hark_store_reset reset_of(const hark_store_consumer *c, int64_t start)
{
    return (hark_store_reset){
        .size = sizeof(hark_store_reset), .consumer = c->ret_id, .start = start};
}

static void test_find_loads_what_is_registered_and_changes_nothing(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c"), found = find("c");
    hark_store_row row = {.sequence = 4, .state = HARK_ROW_RETRY, .key = "k"};
    assert_ok(f, load(f, &c));
    assert_string_equal(c.ret_pattern, "t");
    put_row(f, &c, &row);
    assert_ok(f, load(f, &found));
    assert_false(found.ret_created);
    assert_int_equal(found.ret_id, c.ret_id);
    assert_string_equal(found.ret_pattern, "t");
    assert_string_equal(found.ret_policy, "p");
    assert_int_equal(found.ret_n_rows, 1);
    hark_store_consumer_clear(&c);
    hark_store_consumer_clear(&found);
    assert_null(found.ret_pattern);
    assert_ok(f, load(f, &c)); /* neither pattern nor policy was changed */
    hark_store_consumer_clear(&c);
}

static void test_find_of_an_unknown_name_registers_nothing(void **state)
{
    fixture *f = *state;
    hark_store_consumer found = find("nobody");
    assert_err(f, HARK_ENOTFOUND, load(f, &found));
    assert_says(f, "no consumer nobody is registered");
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM consumers"), 0);
}

static void test_an_update_tells_what_is_registered_from_now_on(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c"), other = consumer("c");
    hark_store_consumer_clear(&c);
    other.pattern = "u";
    other.update = 1;
    assert_ok(f, load(f, &other));
    assert_string_equal(other.ret_pattern, "u");
    hark_store_consumer_clear(&other);
}

static void test_a_pause_is_kept_until_it_is_ended(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c");
    hark_store_consumer_clear(&c);
    assert_int_equal(c.ret_paused, 0);
    for (int paused = 1; paused >= 0; paused--) {
        begin(f);
        assert_ok(f, OPS.consumer_pause(f->store, c.ret_id, paused, &f->ei));
        commit(f);
        reopen_log(f);
        c = loaded(f, "c");
        assert_int_equal(c.ret_paused, paused);
        hark_store_consumer_clear(&c);
    }
    begin(f);
    assert_err(f, HARK_ENOTFOUND, OPS.consumer_pause(f->store, 99, true, &f->ei));
    commit(f);
}

/* A consumer that has all kinds of state. */
static hark_store_consumer busy(fixture *f, const char *name)
{
    hark_store_consumer c = consumer(name);
    hark_store_range settled = {4, 4};
    hark_store_row row = {.sequence = 3, .state = HARK_ROW_RETRY};
    hark_store_attempt attempt = {.sequence = 3, .number = 1, .outcome = "retry"};
    c.start = FIRST;
    assert_ok(f, load(f, &c));
    (void)bury(f, &c, 2, "rejected", false);
    hark_store_save v = save_of(&c);
    v.floor = 2;
    v.highest = 4;
    v.settled = &settled;
    v.n_settled = 1;
    v.put = &row;
    v.n_put = 1;
    v.attempts = &attempt;
    v.n_attempts = 1;
    save(f, &v);
    hark_store_consumer_clear(&c);
    return loaded(f, name);
}

static void test_a_reset_drops_open_rows_and_keeps_letters_and_attempts(void **state)
{
    fixture *f = *state;
    add_five(f);
    hark_store_consumer c = busy(f, "c"), other = busy(f, "other");
    run_sql(f->path, "INSERT INTO gaps VALUES(1, 1, 1), (2, 1, 1)");
    hark_store_reset r = reset_of(&c, FIRST);
    assert_ok(f, reset(f, &r));
    assert_int_equal(r.ret_generation, 2);
    assert_int_equal(r.ret_floor, 0);
    hark_store_consumer_clear(&c);
    c = loaded(f, "c");
    assert_int_equal(c.ret_generation, 2);
    assert_int_equal(c.ret_floor, 0);
    assert_int_equal(c.ret_highest, 4);
    assert_int_equal(c.ret_n_rows + c.ret_n_settled + c.ret_gap_to, 0);
    assert_string_equal(c.ret_rerun.id, "");
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM dead_letters"), 2);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM attempts"), 2);
    hark_store_consumer_clear(&other);
    other = loaded(f, "other"); /* nothing of it was touched */
    assert_int_equal(other.ret_n_rows, 1);
    assert_int_equal(other.ret_n_settled, 1);
    assert_int_equal(other.ret_gap_to, 1);
    assert_int_equal(other.ret_generation, 1);
    hark_store_consumer_clear(&c);
    hark_store_consumer_clear(&other);
}

static void test_a_reset_begins_where_it_was_told_to(void **state)
{
    fixture *f = *state;
    page pg = {0};
    hark_store_consumer c = loaded(f, "c");
    hark_store_consumer_clear(&c);
    add_five(f);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    hark_store_reset r[] = {reset_of(&c, FIRST), reset_of(&c, NOW), reset_of(&c, SEQUENCE),
                            reset_of(&c, TIME)};
    static const uint64_t floors[] = {0, 5, 3, 2};
    r[2].start_sequence = 4;
    r[3].start_time_ns = hark_event_recorded_ns(pg.events[2]);
    drop_page(&pg);
    for (size_t i = 0; i < HK_COUNTOF(r); i++) {
        assert_ok(f, reset(f, &r[i]));
        assert_int_equal(r[i].ret_floor, floors[i]);
        assert_int_equal(r[i].ret_generation, i + 2);
    }
}

static void test_a_replay_reaches_up_to_the_highest_that_was_delivered(void **state)
{
    fixture *f = *state;
    add_five(f);
    hark_store_consumer c = busy(f, "c");
    hark_store_reset r = reset_of(&c, SEQUENCE);
    r.start_sequence = 2;
    r.rerun = (hark_store_rerun){.id = "again", .rate = 7};
    assert_ok(f, reset(f, &r));
    assert_string_equal(r.rerun.id, "again");
    assert_int_equal(r.rerun.from, 2);
    assert_int_equal(r.rerun.upto, 4);
    assert_true(r.rerun.started_ns > 0);
    reopen_log(f);
    hark_store_consumer_clear(&c);
    c = loaded(f, "c");
    assert_memory_equal(&c.ret_rerun, &r.rerun, sizeof r.rerun);
    hark_store_consumer_clear(&c);
    r.start_sequence = 5; /* beyond what it had seen: nothing comes again */
    assert_ok(f, reset(f, &r));
    assert_string_equal(r.rerun.id, "");
    c = loaded(f, "c");
    assert_string_equal(c.ret_rerun.id, "");
    assert_int_equal(c.ret_rerun.upto, 0);
    hark_store_consumer_clear(&c);
}

static void test_a_replay_knows_of_deliveries_that_were_not_saved(void **state)
{
    fixture *f = *state;
    add_five(f);
    hark_store_consumer c = busy(f, "c");
    hark_store_consumer_clear(&c);
    hark_store_reset r = reset_of(&c, FIRST);
    r.reached = 5;
    r.rerun = (hark_store_rerun){.id = "again"};
    assert_ok(f, reset(f, &r));
    assert_int_equal(r.rerun.upto, 5);
    r.reached = 3; /* less than what is known */
    assert_ok(f, reset(f, &r));
    c = loaded(f, "c");
    assert_int_equal(c.ret_highest, 5);
    hark_store_consumer_clear(&c);
}

static void test_a_save_from_before_a_reset_is_refused(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c");
    hark_store_consumer_clear(&c);
    hark_store_save v = save_of(&c);
    hark_store_reset r = reset_of(&c, NOW);
    assert_ok(f, reset(f, &r));
    begin(f);
    assert_err(f, HARK_ENOTFOUND, OPS.consumer_save(f->store, &v, &f->ei));
    commit(f);
}

static void test_a_refused_reset_leaves_nothing_in_the_group(void **state)
{
    fixture *f = *state;
    add_five(f);
    hark_store_consumer c = busy(f, "c");
    hark_store_reset unknown = reset_of(&c, NOW), bad = reset_of(&c, 77),
                     far = reset_of(&c, SEQUENCE);
    unknown.consumer = 99;
    far.start_sequence = HARK_SEQ_MAX + 1;
    begin(f);
    assert_err(f, HARK_ENOTFOUND, OPS.consumer_reset(f->store, &unknown, &f->ei));
    assert_err(f, HARK_EINVAL, OPS.consumer_reset(f->store, &bad, &f->ei));
    assert_says(f, "consumer c: 77 is not a hark_start");
    assert_err(f, HARK_EINVAL, OPS.consumer_reset(f->store, &far, &f->ei));
    commit(f);
    hark_store_consumer_clear(&c);
    c = loaded(f, "c");
    assert_int_equal(c.ret_generation, 1);
    assert_int_equal(c.ret_n_rows, 1);
    hark_store_consumer_clear(&c);
}

static void test_gaps_come_as_one_and_go_when_they_were_handed_out(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c");
    hark_store_consumer_clear(&c);
    run_sql(f->path, "INSERT INTO gaps VALUES(1, 3, 5), (1, 9, 12), (2, 1, 99)");
    c = loaded(f, "c");
    assert_int_equal(c.ret_gap_from, 3);
    assert_int_equal(c.ret_gap_to, 12);
    hark_store_save v = save_of(&c);
    hark_store_consumer_clear(&c);
    save(f, &v); /* without gap_done they stay */
    v.gap_done = 5;
    save(f, &v);
    c = loaded(f, "c");
    assert_int_equal(c.ret_gap_from, 9);
    hark_store_consumer_clear(&c);
    v.gap_done = 12;
    save(f, &v);
    assert_int_equal(number_sql(f->path, "SELECT sum(consumer_id) FROM gaps"), 2);
}

typedef struct seen {
    size_t n, most;
    hark_store_consumer_row rows[4];
    char names[64];
} seen;

static bool see(void *ud, const hark_store_consumer_row *row)
{
    seen *s = ud;
    size_t at = strlen(s->names);
    (void)snprintf(s->names + at, sizeof s->names - at, "%s:%s:%s ", row->name, row->pattern,
                   row->policy);
    s->rows[s->n++] = *row;
    return s->n < s->most;
}

static void test_the_list_counts_rows_by_state_and_letters(void **state)
{
    fixture *f = *state;
    add_five(f);
    hark_store_consumer z = loaded(f, "z"), a = busy(f, "a");
    hark_store_row rows[] = {{.sequence = 1, .state = HARK_ROW_RETRY},
                             {.sequence = 2, .state = HARK_ROW_RETRY},
                             {.sequence = 3, .state = HARK_ROW_BEHIND},
                             {.sequence = 4, .state = HARK_ROW_DEAD, .key = "k"},
                             {.sequence = 5, .state = HARK_ROW_PARKED, .key = "k"},
                             {.sequence = 6, .state = HARK_ROW_PARKED, .key = "k"},
                             {.sequence = 7, .state = HARK_ROW_DEAD},
                             {.sequence = 8, .state = HARK_ROW_COUNTS}};
    hark_store_save v = save_of(&z);
    v.put = rows;
    v.n_put = HK_COUNTOF(rows);
    save(f, &v);
    seen s = {.most = 4};
    assert_ok(f, OPS.consumers(f->store, see, &s, &f->ei));
    assert_string_equal(s.names, "a:t:p z:t:p ");
    assert_int_equal(s.rows[0].id, a.ret_id);
    assert_int_equal(s.rows[0].highest, 4);
    assert_int_equal(s.rows[0].letters, 1);
    assert_int_equal(s.rows[0].retrying, 1);
    const hark_store_consumer_row *r = &s.rows[1];
    assert_int_equal(r->retrying, 2);
    assert_int_equal(r->behind, 1);
    assert_int_equal(r->parked, 2);
    assert_int_equal(r->dead, 2);
    assert_int_equal(r->dead_lanes, 2);
    assert_int_equal(r->letters, 0);
    assert_true(r->created_ns > 0);
    hark_store_consumer_clear(&a);
    hark_store_consumer_clear(&z);
    s = (seen){.most = 1};
    assert_ok(f, OPS.consumers(f->store, see, &s, &f->ei));
    assert_int_equal(s.n, 1);
}

static void test_the_list_shows_what_is_committed_only(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    seen s = {.most = 4};
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    assert_ok(f, OPS.consumers(f->store, see, &s, &f->ei));
    assert_int_equal(s.n, 0);
    commit(f);
    assert_ok(f, OPS.consumers(f->store, see, &s, &f->ei));
    assert_int_equal(s.n, 1);
    hark_store_consumer_clear(&c);
}

static void test_writing_calls_are_refused_outside_of_a_group(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c");
    hark_store_reset r = reset_of(&c, NOW);
    hark_store_letter_done done;
    hark_store_schedule sch = {0};
    hark_store_replay replay = {.id = "r", .pattern = "t"};
    uint64_t sequence;
    bool duplicate;
    assert_err(f, HARK_EINTERNAL, OPS.consumer_reset(f->store, &r, &f->ei));
    assert_err(f, HARK_EINTERNAL, OPS.consumer_pause(f->store, c.ret_id, true, &f->ei));
    assert_err(f, HARK_EINTERNAL, OPS.letter_redrive(f->store, 1, 1, &done, &f->ei));
    assert_err(f, HARK_EINTERNAL, OPS.letter_discard(f->store, 1, &done, &f->ei));
    assert_err(f, HARK_EINTERNAL, OPS.schedule_add(f->store, &sch, &sequence, &duplicate, &f->ei));
    assert_err(f, HARK_EINTERNAL, OPS.schedule_drop(f->store, 1, &f->ei));
    assert_err(f, HARK_EINTERNAL, OPS.replay_put(f->store, &replay, &f->ei));
    hark_store_consumer_clear(&c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_find_loads_what_is_registered_and_changes_nothing),
        T(test_find_of_an_unknown_name_registers_nothing),
        T(test_an_update_tells_what_is_registered_from_now_on),
        T(test_a_pause_is_kept_until_it_is_ended),
        T(test_a_reset_drops_open_rows_and_keeps_letters_and_attempts),
        T(test_a_reset_begins_where_it_was_told_to),
        T(test_a_replay_reaches_up_to_the_highest_that_was_delivered),
        T(test_a_replay_knows_of_deliveries_that_were_not_saved),
        T(test_a_save_from_before_a_reset_is_refused),
        T(test_a_refused_reset_leaves_nothing_in_the_group),
        T(test_gaps_come_as_one_and_go_when_they_were_handed_out),
        T(test_the_list_counts_rows_by_state_and_letters),
        T(test_the_list_shows_what_is_committed_only),
        T(test_writing_calls_are_refused_outside_of_a_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
