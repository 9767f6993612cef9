/* The crash guard's slots: what a process had in hand when it died is counted once at the next
 * opening, and nothing else is. Processes that die here are children that kill themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/slots_fixture_i.h"

static void test_who_faulted_counts_a_crash_and_its_neighbours_an_interruption(void **state)
{
    fixture *f = *state;
    die_with(f, 4, one_crash);
    assert_ok(f, open_log(f));
    assert_false(has_file(f));
    assert_rows(f, "one", "3:5:0:0:1 7:5:0:1:0 ");
    assert_rows(f, "two", "7:5:0:0:1 ");
    hark_store_consumer c = load(f, "one");
    assert_null(c.ret_rows[0].error);
    assert_string_equal(c.ret_rows[1].error, "SIGSEGV at 0x10");
    assert_int_equal(c.ret_rows[1].first_ns, 1007);
    hark_store_consumer_clear(&c);
}

static void test_what_was_counted_is_in_the_log_of_attempts(void **state)
{
    fixture *f = *state;
    die_with(f, 4, one_crash);
    assert_ok(f, open_log(f));
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_attempts"), 3);
    assert_int_equal(number_sql(f->path,
                                "SELECT count(*) FROM hark_attempts WHERE outcome = 'crash' "
                                "AND consumer_id = 1 AND seq = 7 AND number = 1 AND "
                                "started = 1007 AND error = 'SIGSEGV at 0x10'"),
                     1);
    assert_int_equal(number_sql(f->path,
                                "SELECT count(*) FROM hark_attempts WHERE error IS NULL AND "
                                "outcome = 'interrupted' AND ended > started"),
                     2);
}

static void test_every_further_death_counts_once_more(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 3; i++)
        die_with(f, 4, one_crash);
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "3:5:0:0:3 7:5:0:3:0 ");
}

static void settled_ones(hark_store_slot *s)
{
    for (uint64_t i = 0; i < 6; i++)
        crashed(&s[i], 1, i + 1, 1);
    crashed(&s[6], 1, EVENTS + 1, 1); /* beyond the log */
    crashed(&s[7], 9, 1, 1);          /* nobody */
}

static void test_what_is_settled_is_not_counted(void **state)
{
    fixture *f = *state;
    assert_ok(f, open_log(f));
    hark_store_range settled = {4, 5};
    begin(f);
    assert_ok(f, OPS.consumer_save(f->store,
                                   &(hark_store_save){.size = sizeof(hark_store_save),
                                                      .consumer = 1,
                                                      .generation = 1,
                                                      .floor = 2,
                                                      .highest = 5,
                                                      .settled = &settled,
                                                      .n_settled = 1},
                                   &f->ei));
    commit(f);
    close_log(f);
    die_with(f, 8, settled_ones);
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "3:5:0:1:0 6:5:0:1:0 ");
}

static void test_a_consumer_that_was_reset_counts_nothing(void **state)
{
    fixture *f = *state;
    run_sql(f->path, "UPDATE hark_consumers SET generation = 2 WHERE id = 1");
    die_with(f, 4, one_crash);
    assert_ok(f, open_log(f));
    assert_int_equal(
        number_sql(f->path, "SELECT count(*) FROM hark_deliveries WHERE consumer_id = 1"), 0);
    assert_rows(f, "two", "7:5:0:0:1 ");
}

static void ended_and_torn(hark_store_slot *s)
{
    running(&s[0], 1, 3, 1);
    s[0].state = HARK_SLOT_FREE;
    crashed(&s[1], 1, 4, 1);
    s[1].sequence = 5; /* it was being written */
    crashed(&s[2], 1, 6, 1);
    s[2].state = 77;
}

static void test_slots_that_are_free_or_torn_count_nothing(void **state)
{
    fixture *f = *state;
    die_with(f, 4, ended_and_torn);
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "");
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_attempts"), 0);
}

static void two_attempts(hark_store_slot *s)
{
    crashed(&s[0], 1, 3, 1); /* a handler that had timed out */
    running(&s[1], 1, 3, 2); /* its repeat */
    running(&s[2], 1, 4, 2);
    running(&s[3], 1, 4, 1);
}

static void save_row(fixture *f, hark_store_row row)
{
    assert_ok(f, open_log(f));
    begin(f);
    assert_ok(f, OPS.consumer_save(f->store,
                                   &(hark_store_save){.size = sizeof(hark_store_save),
                                                      .consumer = 1,
                                                      .generation = 1,
                                                      .put = &row,
                                                      .n_put = 1},
                                   &f->ei));
    commit(f);
    close_log(f);
}

static void test_a_handler_that_timed_out_and_its_repeat_count_once(void **state)
{
    fixture *f = *state;
    die_with(f, 4, two_attempts);
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "3:5:0:1:0 4:5:1:0:1 ");
}

static void test_an_open_row_keeps_its_state_and_counts(void **state)
{
    fixture *f = *state;
    save_row(f, (hark_store_row){.sequence = 3,
                                 .state = HARK_ROW_RETRY,
                                 .attempts = 1,
                                 .crashes = 1,
                                 .due_ns = 5,
                                 .first_ns = 4,
                                 .key = "k",
                                 .error = "before"});
    die_with(f, 4, two_attempts);
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "3:1:1:2:0 4:5:1:0:1 ");
    hark_store_consumer c = load(f, "one");
    assert_string_equal(c.ret_rows[0].key, "k");
    assert_string_equal(c.ret_rows[0].error, "SIGSEGV at 0x10");
    assert_int_equal(c.ret_rows[0].due_ns, 5);
    assert_int_equal(c.ret_rows[0].first_ns, 4);
    hark_store_consumer_clear(&c);
}

static void late_handler(hark_store_slot *s)
{
    running(&s[0], 1, 3, 1);
}

static void test_an_attempt_whose_time_was_up_is_not_an_interruption_too(void **state)
{
    fixture *f = *state;
    save_row(f, (hark_store_row){.sequence = 3, .state = HARK_ROW_RETRY, .attempts = 1});
    die_with(f, 1, late_handler);
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "3:1:1:0:0 ");
}

static void test_a_damaged_consumer_does_not_keep_the_log_shut(void **state)
{
    fixture *f = *state;
    die_with(f, 4, one_crash);
    run_sql(f->path, "UPDATE hark_consumers SET settled = x'ff' WHERE name = 'one'");
    assert_ok(f, open_log(f));
    assert_false(has_file(f));
    assert_rows(f, "two", "7:5:0:0:1 ");
    hark_store_consumer c = consumer("one");
    begin(f);
    assert_err(f, HARK_ECORRUPT, OPS.consumer_open(f->store, &c, &f->ei));
    commit(f);
    run_sql(f->path, "UPDATE hark_consumers SET settled = NULL WHERE name = 'one'");
    assert_rows(f, "one", ""); /* nothing was counted, nothing counts as settled */
    c = load(f, "one");
    assert_int_equal(c.ret_floor, 0);
    hark_store_consumer_clear(&c);
}

static void many(hark_store_slot *s)
{
    for (uint64_t i = 0; i < EVENTS; i++)
        running(&s[i], 1, i + 1, 1);
}

static void test_slots_of_several_chunks_are_counted(void **state)
{
    fixture *f = *state;
    die_with(f, EVENTS, many);
    assert_ok(f, open_log(f));
    assert_int_equal(number_sql(f->path, "SELECT sum(interruptions) FROM hark_deliveries"), EVENTS);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up_log, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_who_faulted_counts_a_crash_and_its_neighbours_an_interruption),
        TEST(test_what_was_counted_is_in_the_log_of_attempts),
        TEST(test_every_further_death_counts_once_more),
        TEST(test_what_is_settled_is_not_counted),
        TEST(test_a_consumer_that_was_reset_counts_nothing),
        TEST(test_slots_that_are_free_or_torn_count_nothing),
        TEST(test_a_handler_that_timed_out_and_its_repeat_count_once),
        TEST(test_an_open_row_keeps_its_state_and_counts),
        TEST(test_an_attempt_whose_time_was_up_is_not_an_interruption_too),
        TEST(test_a_damaged_consumer_does_not_keep_the_log_shut),
        TEST(test_slots_of_several_chunks_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
