/* Tests of redrives without a parked lane, of the pace of a replay, of gaps, and of what `why` asks. */
#include "delivery/delivery_test_i.h"

static void redrive(fixture *f, uint64_t seq, const char *key, int64_t in)
{
    hark_store_row row = {.sequence = seq,
                          .state = HARK_ROW_RETRY,
                          .due_ns = now(f).wall + in,
                          .key = key}; /* as the store does */
    put_row(&f->disk, &row);
    assert_int_equal(hk_core_redriven(f->core, seq, key, f->clock + in, now(f).wall + in), HARK_OK);
}

static void test_a_redriven_event_without_a_key_comes_when_it_is_due(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    settle(f, start(f, 1, 1), HARK_REJECT);
    save(f);
    redrive(f, 1, NULL, 5 * MS);
    assert_int_equal(hk_core_dirt(f->core), HK_CLEAN);
    assert_int_equal(facts(f).deferred, 1);
    assert_idle(f);
    f->clock += 5 * MS;
    settle(f, start(f, 1, 1), HARK_ACK);
    begin_save(f);
    assert_int_equal(f->flight.n_drop, 1); /* the store's letter goes with it */
    assert_int_equal(f->flight.floor, 1);
    commit(f);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_a_redriven_event_goes_behind_the_head_of_its_lane(void **state)
{
    fixture *f = *state;
    for (uint64_t i = 1; i <= 3; i++) {
        arrive(f, i, "a");
        settle(f, start(f, i, 1), HARK_REJECT);
        save(f);
    }
    arrive(f, 4, "a");
    arrive(f, 5, "a");
    hk_lease head = start(f, 4, 1);
    redrive(f, 3, "a", 0);
    redrive(f, 1, "a", 0);
    redrive(f, 2, "a", 0);
    assert_int_equal(facts(f).behind, 3);
    assert_idle(f);
    settle(f, head, HARK_ACK);
    for (uint64_t i = 1; i <= 3; i++)
        settle(f, start(f, i, 1), HARK_ACK);
    settle(f, start(f, 5, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.floor, 5);
}

static void test_redriven_events_of_one_key_keep_their_pace_after_a_restart(void **state)
{
    fixture *f = *state;
    hk_core_cover(f->core, 9);
    save(f);
    redrive(f, 1, "a", 0);
    redrive(f, 2, "a", 20 * MS);
    for (int restarts = 0; restarts < 2; restarts++) {
        hk_lease lease = start(f, 1, 1);
        settle(f, lease, HARK_ACK);
        assert_idle(f); /* not before its time */
        assert_int_equal(hk_core_due(f->core), f->clock + 20 * MS);
        restart(f);
    }
}

static void test_a_redriven_event_that_dies_again_is_a_new_dead_letter(void **state)
{
    fixture *f = *state;
    hk_core_cover(f->core, 9);
    save(f);
    redrive(f, 1, "a", 0);
    settle(f, start(f, 1, 1), HARK_REJECT);
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 1);
    assert_int_equal(f->flight.n_drop, 1);
    commit(f);
    assert_int_equal(facts(f).deferred, 0);
}

static void test_a_replay_keeps_its_pace(void **state)
{
    fixture *f = *state;
    f->opts.workers = 64;
    f->opts.window = 64;
    f->disk.rerun = (hark_store_rerun){.id = "r", .from = 1, .upto = 40, .rate = 100};
    f->disk.highest = 40;
    restart(f);
    for (uint64_t i = 1; i <= 42; i++)
        arrive(f, i, NULL);
    uint64_t next = 1;
    for (; next <= 10; next++) /* a tenth of a second's worth at once */
        assert_true(start_until(f, next, -1).replayed);
    assert_false(start_until(f, 41, -1).replayed); /* the others are not held up */
    assert_false(start_until(f, 42, -1).replayed);
    assert_idle(f);
    assert_true(facts(f).throttled);
    assert_int_equal(hk_core_due(f->core), f->clock + 10 * MS);
    for (; next <= 40; next++) {
        f->clock += 10 * MS - 1;
        assert_idle(f);
        f->clock += 1;
        assert_true(start_until(f, next, -1).replayed);
    }
    assert_idle(f);
    assert_false(facts(f).throttled);
    assert_int_equal(facts(f).highest, 42);
}

static void test_a_replay_that_is_ended_holds_nothing_up(void **state)
{
    fixture *f = *state;
    f->opts.workers = 64;
    f->disk.rerun = (hark_store_rerun){.id = "r", .from = 1, .upto = 40, .rate = 1};
    restart(f);
    for (uint64_t i = 1; i <= 3; i++)
        arrive(f, i, NULL);
    hk_lease first = start(f, 1, 1);
    assert_idle(f);
    hk_core_end_replay(f->core);
    assert_false(start_until(f, 2, -1).replayed);
    hk_core_unstart(f->core, first); /* it was started as a part of it */
    settle(f, start(f, 1, 1), HARK_ACK);
    arrive(f, 4, NULL);
    (void)start(f, 3, 1);
    (void)start(f, 4, 1);
    assert_int_equal(hk_core_due(f->core), -1);
    assert_false(facts(f).throttled);
}

static void test_a_replay_without_a_rate_is_not_held_up(void **state)
{
    fixture *f = *state;
    f->disk.rerun = (hark_store_rerun){.id = "r", .from = 1, .upto = 3};
    restart(f);
    for (uint64_t i = 1; i <= 4; i++) {
        arrive(f, i, NULL);
        assert_int_equal(start_until(f, i, -1).replayed, i <= 3);
    }
}

static void test_an_unstarted_event_costs_a_replay_nothing(void **state)
{
    fixture *f = *state;
    f->disk.rerun = (hark_store_rerun){.id = "r", .from = 1, .upto = 3, .rate = 1};
    restart(f);
    arrive(f, 1, NULL);
    for (int i = 0; i < 5; i++)
        hk_core_unstart(f->core, start(f, 1, 1));
    settle(f, start(f, 1, 1), HARK_ACK);
}

static void test_highest_never_falls(void **state)
{
    fixture *f = *state;
    f->disk.highest = 30;
    restart(f);
    arrive(f, 1, NULL);
    settle(f, start(f, 1, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.highest, 30);
}

static void test_a_gap_that_was_handed_out_is_saved(void **state)
{
    fixture *f = *state;
    hk_core_gap_done(f->core, 7);
    hk_core_gap_done(f->core, 5);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_LAZY);
    begin_save(f);
    assert_int_equal(f->flight.gap_done, 7);
    hk_core_saved(f->core, false);
    begin_save(f);
    assert_int_equal(f->flight.gap_done, 7);
    hk_core_gap_done(f->core, 9);
    commit(f);
    begin_save(f);
    assert_int_equal(f->flight.gap_done, 9);
    commit(f);
    begin_save(f);
    assert_int_equal(f->flight.gap_done, 0);
    commit(f);
}

static void test_facts_say_what_it_waits_for(void **state)
{
    fixture *f = *state;
    assert_int_equal(facts(f).oldest_running, 0);
    assert_int_equal(facts(f).next_retry, 0);
    assert_int_equal(facts(f).first_parked, 0);
    arrive(f, 1, "a");
    arrive(f, 2, "b");
    arrive(f, 3, NULL);
    arrive(f, 4, "a");
    f->clock = 5 * MS;
    settle_in(f, start(f, 1, 1), HARK_RETRY, 50 * MS);
    save(f);
    (void)start(f, 2, 1);
    f->clock = 7 * MS;
    (void)start(f, 3, 1);
    hk_core_facts x = facts(f);
    assert_int_equal(x.oldest_running, 2);
    assert_int_equal(x.running_since, 5 * MS);
    assert_string_equal(x.running_key, "b");
    assert_int_equal(x.next_retry, 1);
    assert_int_equal(x.retry_due, 55 * MS);
    assert_int_equal(x.retry_attempts, 1);
    assert_string_equal(x.retry_key, "a");
    assert_true(x.retry_first_wall > 0);
    assert_int_equal(x.behind, 1);
    assert_int_equal(x.parked, 0);
    assert_false(x.window_full || x.ledger_full);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_redriven_event_without_a_key_comes_when_it_is_due),
        TEST(test_a_redriven_event_goes_behind_the_head_of_its_lane),
        TEST(test_redriven_events_of_one_key_keep_their_pace_after_a_restart),
        TEST(test_a_redriven_event_that_dies_again_is_a_new_dead_letter),
        TEST(test_a_replay_keeps_its_pace),
        TEST(test_a_replay_that_is_ended_holds_nothing_up),
        TEST(test_a_replay_without_a_rate_is_not_held_up),
        TEST(test_an_unstarted_event_costs_a_replay_nothing),
        TEST(test_highest_never_falls),
        TEST(test_a_gap_that_was_handed_out_is_saved),
        TEST(test_facts_say_what_it_waits_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
