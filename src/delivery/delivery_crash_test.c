/* Tests of crashes and interruptions that an earlier run is known to have had. */
#include "delivery/delivery_test_i.h"

static void test_a_counting_row_lends_its_counts_to_the_event(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 2, 1, 0);
    restart(f);
    assert_int_equal(facts(f).deferred, 0); /* it is not in the ledger */
    arrive(f, 1, NULL);
    arrive(f, 2, "a");
    assert_int_equal(facts(f).in_memory, 2);
    settle(f, start(f, 1, 1), HARK_ACK);
    hk_lease lease = start(f, 2, 1); /* a crash is no attempt */
    save(f);
    assert_int_equal(f->disk.floor, 1); /* it is still open */
    assert_int_equal(row_on_disk(&f->disk, 2)->state, HARK_ROW_COUNTS);
    settle(f, lease, HARK_RETRY);
    save(f);
    const hark_store_row *row = row_on_disk(&f->disk, 2);
    assert_int_equal(row->state, HARK_ROW_RETRY);
    assert_int_equal(row->crashes, 1);
    assert_int_equal(row->attempts, 1);
    assert_int_equal(row->first_ns, 77);
    f->clock += 10 * MS;
    settle(f, start(f, 2, 2), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_a_counting_row_goes_when_its_event_is_acked(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 1, 0, 1);
    restart(f);
    arrive(f, 1, NULL);
    settle(f, start(f, 1, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.floor, 1);
}

static void test_the_third_crash_is_a_dead_letter_without_another_start(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 1, 3, 2);
    restart(f);
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    assert_idle(f);
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 1);
    assert_string_equal(f->flight.dead[0].reason, "crash");
    assert_string_equal(f->flight.dead[0].error, "SIGSEGV at 0x0");
    assert_int_equal(f->flight.dead[0].crashes, 3);
    assert_int_equal(f->flight.dead[0].interruptions, 2);
    assert_int_equal(f->flight.dead[0].attempts, 0);
    assert_int_equal(f->flight.dead[0].first_ns, 77);
    assert_int_equal(f->flight.n_attempts, 0);
    assert_int_equal(hk_core_dirt(f->core), HK_CLEAN);
    commit(f);
    settle(f, start(f, 2, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_one_crash_less_is_started_again(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 1, 2, 19);
    restart(f);
    arrive(f, 1, "a");
    settle(f, start(f, 1, 1), HARK_ACK);
}

static void test_the_twentieth_interruption_is_a_dead_letter(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 1, 2, 20);
    restart(f);
    arrive(f, 1, "a");
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 1);
    assert_string_equal(f->flight.dead[0].reason, "interrupted");
    commit(f);
}

static void test_what_is_doomed_keeps_its_place_in_its_lane(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 2, 3, 0);
    restart(f);
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    arrive(f, 3, "a");
    hk_lease lease = start(f, 1, 1);
    assert_idle(f);
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 0);
    commit(f);
    settle(f, lease, HARK_ACK);
    assert_idle(f); /* 2 is dying now, 3 waits for its dead letter */
    save(f);
    assert_int_equal(f->disk.n_dead, 1);
    settle(f, start(f, 3, 1), HARK_ACK);
}

static void test_a_doomed_row_is_handed_out_for_its_bytes(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    count_on_disk(&f->disk, 1, 3, 0);
    f->clock += 10 * MS;
    restart(f);
    hk_started s;
    assert_true(hk_core_start(f->core, now(f), f->clock + 1, &s));
    assert_true(s.doomed);
    assert_null(s.payload);
    hk_core_unstart(f->core, s.lease); /* could not be read */
    assert_true(hk_core_start(f->core, now(f), f->clock + 1, &s));
    assert_true(s.doomed);
    assert_int_equal(hk_core_payload_set(f->core, s.lease, payload_new(f)), HARK_OK);
    assert_int_equal(hk_core_due(f->core), -1); /* its lease does not run out */
    hk_core_die(f->core, s.lease, now(f));
    hk_core_die(f->core, s.lease, now(f)); /* stale: nothing */
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    begin_save(f);
    assert_string_equal(f->flight.dead[0].reason, "crash");
    assert_int_equal(f->flight.dead[0].attempts, 1);
    assert_int_equal(f->flight.n_attempts, 0);
    commit(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(facts(f).deferred, 0);
}

static void test_a_paused_consumer_dead_letters_nothing(void **state)
{
    fixture *f = *state;
    f->opts.paused = true;
    count_on_disk(&f->disk, 1, 3, 0);
    restart(f);
    arrive(f, 1, NULL);
    assert_idle(f);
    save(f);
    assert_int_equal(f->disk.n_dead, 0);
    hk_core_pause(f->core, false);
    assert_idle(f);
    save(f);
    assert_int_equal(f->disk.n_dead, 1);
}

static void test_counting_rows_of_settled_events_are_dropped(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    arrive(f, 3, NULL);
    hk_lease two;
    settle(f, start(f, 1, 1), HARK_ACK);
    two = start(f, 2, 1);
    settle(f, start(f, 3, 1), HARK_ACK);
    (void)two;
    save(f);
    for (uint64_t seq = 1; seq <= 3; seq++)
        count_on_disk(&f->disk, seq, 0, 1); /* 1 is below the floor, 3 settled above it */
    restart(f);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    begin_save(f);
    hk_core_saved(f->core, false);
    save(f);
    assert_int_equal(f->disk.n_rows, 1);
    assert_int_equal(f->disk.rows[0].sequence, 2);
}

static void test_a_counting_row_of_a_dead_letter_goes_though_that_is_discarded(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    settle(f, start(f, 1, 1), HARK_REJECT);
    save(f);
    count_on_disk(&f->disk, 1, 0, 1); /* killed before its handler was back */
    restart(f);
    hk_core_discarded(f->core, 1, NULL);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_a_counting_row_whose_event_never_comes_is_dropped(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 2, 0, 1);
    count_on_disk(&f->disk, 4, 0, 1);
    restart(f);
    arrive(f, 1, NULL);
    arrive(f, 3, NULL);
    save(f);
    assert_null(row_on_disk(&f->disk, 2));
    assert_non_null(row_on_disk(&f->disk, 4));
    hk_core_cover(f->core, 9);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(hk_core_dirt(f->core), HK_CLEAN);
}

static void test_a_counting_event_behind_a_retry_gets_a_row_of_its_own(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    count_on_disk(&f->disk, 2, 1, 0);
    restart(f);
    arrive(f, 2, "a");
    assert_int_equal(facts(f).deferred, 2);
    save(f);
    assert_int_equal(row_on_disk(&f->disk, 2)->state, HARK_ROW_BEHIND);
    assert_int_equal(row_on_disk(&f->disk, 2)->crashes, 1);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_counting_row_lends_its_counts_to_the_event),
        TEST(test_a_counting_row_goes_when_its_event_is_acked),
        TEST(test_the_third_crash_is_a_dead_letter_without_another_start),
        TEST(test_one_crash_less_is_started_again),
        TEST(test_the_twentieth_interruption_is_a_dead_letter),
        TEST(test_what_is_doomed_keeps_its_place_in_its_lane),
        TEST(test_a_doomed_row_is_handed_out_for_its_bytes),
        TEST(test_a_paused_consumer_dead_letters_nothing),
        TEST(test_counting_rows_of_settled_events_are_dropped),
        TEST(test_a_counting_row_of_a_dead_letter_goes_though_that_is_discarded),
        TEST(test_a_counting_row_whose_event_never_comes_is_dropped),
        TEST(test_a_counting_event_behind_a_retry_gets_a_row_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
