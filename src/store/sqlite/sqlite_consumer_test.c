/* Consumers, as far as only this store has it: gaps, what is not committed yet, and calls that need a
 * group. The rest is in the tests of every store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"

static hark_store_reset reset_of(const hark_store_consumer *c, int64_t start)
{
    return (hark_store_reset){
        .size = sizeof(hark_store_reset), .consumer = c->ret_id, .start = start};
}

static void test_gaps_come_as_one_and_go_when_they_were_handed_out(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c");
    hark_store_consumer_clear(&c);
    run_sql(f->path, "INSERT INTO hark_gaps VALUES(1, 3, 5), (1, 9, 12), (2, 1, 99)");
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
    assert_int_equal(number_sql(f->path, "SELECT sum(consumer_id) FROM hark_gaps"), 2);
}

static void test_a_reset_drops_the_gaps_of_its_consumer(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c"), other = loaded(f, "other");
    hark_store_reset r = reset_of(&c, FIRST);
    run_sql(f->path, "INSERT INTO hark_gaps VALUES(1, 3, 5), (2, 3, 5)");
    begin(f);
    assert_ok(f, OPS.consumer_reset(f->store, &r, &f->ei));
    commit(f);
    assert_ok(f, load(f, &c));
    assert_int_equal(c.ret_gap_to, 0);
    assert_ok(f, load(f, &other));
    assert_int_equal(other.ret_gap_to, 5);
    hark_store_consumer_clear(&c);
    hark_store_consumer_clear(&other);
}

static bool count_one(void *ud, const hark_store_consumer_row *row)
{
    assert_string_equal(row->name, "c");
    ++*(int *)ud;
    return true;
}

static void test_the_list_shows_what_is_committed_only(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    int n = 0;
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    assert_ok(f, OPS.consumers(f->store, count_one, &n, &f->ei));
    assert_int_equal(n, 0);
    commit(f);
    assert_ok(f, OPS.consumers(f->store, count_one, &n, &f->ei));
    assert_int_equal(n, 1);
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
        T(test_gaps_come_as_one_and_go_when_they_were_handed_out),
        T(test_a_reset_drops_the_gaps_of_its_consumer),
        T(test_the_list_shows_what_is_committed_only),
        T(test_writing_calls_are_refused_outside_of_a_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
