/* Tests of the delivery core: each move, saving while items move on, loading. The model is in
 * delivery_model_test.c. */
#include "delivery/delivery_test_i.h"

/* ---- starting and settling ------------------------------------------------------------------------- */

static void test_items_start_by_sequence_as_many_as_there_are_workers(void **state)
{
    fixture *f = *state;
    for (uint64_t i = 1; i <= 6; i++)
        arrive(f, i, NULL);
    hk_lease items[5];
    for (uint64_t i = 1; i <= 4; i++)
        items[i] = start(f, i, 1);
    assert_idle(f);
    assert_int_equal(hk_core_running(f->core, 3), 4);
    assert_int_equal(hk_core_running(f->core, 4), 0);
    assert_int_equal(settle(f, items[3], HARK_ACK), HARK_ACK);
    (void)start(f, 5, 1);
    assert_idle(f);
    assert_int_equal(facts(f).floor, 0);
    settle(f, items[1], HARK_ACK);
    settle(f, items[2], HARK_ACK);
    assert_int_equal(facts(f).floor, 3);
    assert_int_equal(facts(f).highest, 5);
}

static void test_a_lane_runs_one_at_a_time_in_order(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    arrive(f, 3, "b");
    arrive(f, 4, "a");
    hk_lease a = start(f, 1, 1), b = start(f, 3, 1);
    assert_idle(f);
    settle(f, b, HARK_ACK);
    assert_idle(f);
    settle(f, a, HARK_ACK); /* frees its lane at once */
    a = start(f, 2, 1);
    assert_idle(f);
    settle(f, a, HARK_ACK);
    settle(f, start(f, 4, 1), HARK_ACK);
    assert_int_equal(facts(f).floor, 4);
    assert_int_equal(facts(f).in_memory, 0);
}

static void test_an_unstarted_item_is_as_if_it_had_never_started(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    hk_core_unstart(f->core, start(f, 1, 1));
    settle(f, start(f, 1, 1), HARK_ACK);
}

static void test_what_does_not_concern_it_only_moves_the_floor(void **state)
{
    fixture *f = *state;
    assert_int_equal(hk_core_dirt(f->core), HK_CLEAN);
    hk_core_cover(f->core, 10);
    assert_int_equal(hk_core_covered(f->core), 10);
    assert_int_equal(facts(f).floor, 10);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_LAZY);
    hk_core_cover(f->core, 5);
    assert_int_equal(hk_core_covered(f->core), 10);
    save(f);
    assert_int_equal(hk_core_dirt(f->core), HK_CLEAN);
    assert_int_equal(f->disk.floor, 10);
}

static void test_the_window_bounds_what_may_arrive(void **state)
{
    fixture *f = *state;
    for (uint64_t i = 1; i <= 16; i++) {
        assert_int_equal(hk_core_room(f->core), 17 - i);
        arrive(f, i, NULL);
    }
    assert_int_equal(hk_core_room(f->core), 0);
    settle(f, start(f, 1, 1), HARK_ACK);
    assert_int_equal(hk_core_room(f->core), 1);
}

/* ---- retry ------------------------------------------------------------------------------------------ */

static void test_a_retry_waits_for_its_save_and_its_delay(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    assert_int_equal(settle(f, start(f, 1, 1), HARK_RETRY), HARK_RETRY);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    f->clock += 100 * MS;
    assert_idle(f); /* not saved */
    assert_int_equal(hk_core_due(f->core), -1);
    f->clock -= 100 * MS;
    save(f);
    assert_int_equal(hk_core_due(f->core), f->clock + 10 * MS);
    assert_int_equal(f->disk.n_rows, 1);
    assert_int_equal(f->disk.rows[0].state, HARK_ROW_RETRY);
    assert_int_equal(f->disk.rows[0].attempts, 1);
    assert_string_equal(f->disk.errors[0], "because");
    assert_int_equal(f->disk.n_attempts, 1);
    f->clock += 10 * MS - 1;
    assert_idle(f);
    f->clock += 1;
    settle(f, start(f, 1, 2), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(facts(f).deferred, 0);
}

static void test_a_retry_may_have_a_delay_of_its_own(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    (void)settle_in(f, start(f, 1, 1), HARK_RETRY, 0);
    save(f);
    (void)settle_in(f, start(f, 1, 2), HARK_RETRY, 50 * MS);
    save(f);
    assert_int_equal(hk_core_due(f->core), f->clock + 50 * MS);
}

static void test_what_is_behind_a_retry_goes_to_the_ledger_and_others_go_on(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    arrive(f, 3, "b");
    settle(f, start(f, 1, 1), HARK_RETRY);
    arrive(f, 4, "a"); /* behind it too */
    assert_int_equal(facts(f).deferred, 3);
    assert_int_equal(facts(f).in_memory, 1);
    settle(f, start(f, 3, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.floor, 4); /* the rows hold what is open */
    assert_int_equal(f->disk.n_rows, 3);
    assert_int_equal(f->disk.rows[1].state, HARK_ROW_BEHIND);
    assert_string_equal(f->disk.keys[2], "a");
    f->clock += 10 * MS;
    hk_lease head = start(f, 1, 2);
    arrive(f, 5, "a"); /* it runs: this one waits in memory, behind those in the ledger */
    assert_int_equal(facts(f).in_memory, 1);
    assert_idle(f);
    settle(f, head, HARK_ACK);
    for (uint64_t seq = 2; seq <= 5; seq++) {
        if (seq == 3)
            continue;
        settle(f, start(f, seq, 1), HARK_ACK);
        assert_true(seq == 5 || facts(f).deferred > 0 || seq == 4);
    }
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.floor, 5);
}

static void test_each_retry_of_a_head_defers_what_was_queued_since_the_last(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    f->clock += 10 * MS;
    hk_lease lease = start(f, 1, 2);
    arrive(f, 3, "a");
    arrive(f, 4, "a");
    assert_int_equal(facts(f).in_memory, 2);
    settle(f, lease, HARK_RETRY);
    assert_int_equal(facts(f).in_memory, 0);
    assert_int_equal(facts(f).behind, 3);
    begin_save(f);
    assert_int_equal(f->flight.n_put, 3); /* 2 is there already */
    commit(f);
    f->clock += 10 * MS;
    lease = start(f, 1, 3);
    arrive(f, 5, "a");
    settle(f, lease, HARK_ACK);
    for (uint64_t seq = 2; seq <= 4; seq++)
        settle(f, start(f, seq, 1), HARK_ACK);
    lease = start(f, 5, 1); /* was queued, and heads the lane now */
    arrive(f, 6, "a");
    settle(f, lease, HARK_RETRY);
    assert_int_equal(facts(f).in_memory, 0);
    assert_int_equal(facts(f).behind, 1);
    save(f);
    assert_int_equal(f->disk.n_rows, 2);
}

static void test_the_ledger_is_bounded(void **state)
{
    fixture *f = *state;
    f->opts.max_deferred = 5;
    core_anew(f);
    arrive(f, 1, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    for (uint64_t i = 2; hk_core_room(f->core) > 0; i++)
        arrive(f, i, "a");
    assert_int_equal(facts(f).deferred, 5);
    save(f);
    f->clock += 10 * MS;
    settle(f, start(f, 1, 2), HARK_ACK);
    assert_int_equal(hk_core_room(f->core), 1);
}

/* ---- dead letters ------------------------------------------------------------------------------------ */

static void test_a_rejected_item_frees_its_lane_when_its_dead_letter_is_saved(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    assert_int_equal(settle(f, start(f, 1, 1), HARK_REJECT), HARK_REJECT);
    assert_idle(f);
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 1);
    assert_string_equal(f->flight.dead[0].reason, "rejected");
    assert_string_equal(f->flight.dead[0].error, "because");
    assert_int_equal(f->flight.dead[0].attempts, 1);
    assert_string_equal(f->flight.attempts[0].outcome, "reject");
    assert_int_equal(f->flight.floor, 1);
    assert_int_equal(f->flight.n_put + f->flight.n_drop, 0);
    assert_idle(f);
    commit(f);
    settle(f, start(f, 2, 1), HARK_ACK);
}

static void test_the_last_attempt_is_a_dead_letter(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    for (int64_t attempt = 1; attempt <= 3; attempt++) {
        hark_verdict v = settle(f, start(f, 1, attempt), HARK_RETRY);
        assert_int_equal(v, attempt < 3 ? HARK_RETRY : HARK_REJECT);
        begin_save(f);
        assert_int_equal(f->flight.n_dead, attempt == 3);
        if (attempt == 3)
            assert_string_equal(f->flight.dead[0].reason, "max_attempts");
        commit(f);
        f->clock += 10 * MS;
    }
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.n_attempts, 3);
    assert_int_equal(facts(f).deferred, 0);
    assert_int_equal(facts(f).in_memory, 0);
}

static void test_without_a_limit_it_is_tried_for_ever(void **state)
{
    fixture *f = *state;
    f->opts.max_attempts = -1;
    core_anew(f);
    arrive(f, 1, NULL);
    for (int64_t attempt = 1; attempt <= 100; attempt++) {
        assert_int_equal(settle(f, start(f, 1, attempt), HARK_RETRY), HARK_RETRY);
        save(f);
        f->clock += 10 * MS;
    }
}

/* ---- saving ------------------------------------------------------------------------------------------ */

static void test_settled_ranges_are_what_lies_between_open_items(void **state)
{
    fixture *f = *state;
    hk_lease items[8];
    for (uint64_t i = 1; i <= 4; i++)
        arrive(f, i * 2, NULL);
    hk_core_cover(f->core, 20);
    for (uint64_t i = 1; i <= 4; i++)
        items[i] = start(f, i * 2, 1);
    settle(f, items[3], HARK_ACK); /* 6; open: 2, 4, 8 */
    begin_save(f);
    assert_int_equal(f->flight.floor, 1);
    assert_int_equal(f->flight.n_settled, 3);
    static const hark_store_range expected[] = {{3, 3}, {5, 7}, {9, 20}};
    assert_memory_equal(f->flight.settled, expected, sizeof expected);
    commit(f);
    restart(f);
    assert_int_equal(hk_core_covered(f->core), 1);
    arrive(f, 2, NULL);
    arrive(f, 4, NULL);
    arrive(f, 6, NULL); /* settled before: passed over */
    arrive(f, 8, NULL);
    hk_core_cover(f->core, 9);
    begin_save(f); /* what was not reached yet is not forgotten */
    assert_int_equal(f->flight.settled[f->flight.n_settled - 1].last, 20);
    commit(f);
    settle(f, start(f, 2, 1), HARK_ACK);
    settle(f, start(f, 4, 1), HARK_ACK);
    settle(f, start(f, 8, 1), HARK_ACK);
    assert_idle(f);
}

static void test_an_item_that_moves_on_while_its_save_is_under_way_is_saved_again(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    f->clock += 10 * MS;
    hk_lease head = start(f, 1, 2);
    arrive(f, 3, "a");
    settle(f, head, HARK_RETRY);
    begin_save(f); /* 1 is SAVING, 3 is BEHIND */
    commit(f);
    f->clock += 10 * MS;
    settle(f, start(f, 1, 3), HARK_ACK);
    begin_save(f);                       /* drops the row of 1 */
    settle(f, start(f, 2, 1), HARK_ACK); /* meanwhile */
    hk_lease third = start(f, 3, 1);
    commit(f);
    assert_int_equal(f->disk.n_rows, 2);
    begin_save(f);
    settle(f, third, HARK_RETRY); /* and once more */
    commit(f);
    assert_int_equal(f->disk.n_rows, 1);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    f->clock += 100 * MS;
    assert_idle(f);
    save(f);
    settle(f, start(f, 3, 2), HARK_REJECT);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.n_dead, 1);
    assert_int_equal(f->disk.floor, 3);
}

static void test_a_deferred_item_acked_while_its_row_is_on_its_way_is_dropped_later(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    (void)settle_in(f, start(f, 1, 1), HARK_RETRY, 0);
    save(f);
    hk_lease head = start(f, 1, 2);
    (void)settle_in(f, head, HARK_RETRY, 0);
    arrive(f, 2, "a"); /* to the ledger */
    save(f);
    head = start(f, 1, 3);
    arrive(f, 3, "a");
    settle(f, head, HARK_ACK);
    begin_save(f);
    settle(f, start(f, 2, 1), HARK_ACK);
    settle(f, start(f, 3, 1), HARK_ACK);
    commit(f);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.floor, 3);
    assert_int_equal(hk_core_dirt(f->core), HK_CLEAN);
}

static void test_a_failed_save_is_collected_again_with_everything(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    arrive(f, 3, NULL);
    settle(f, start(f, 1, 1), HARK_RETRY);
    settle(f, start(f, 3, 1), HARK_REJECT);
    for (int i = 0; i < 3; i++) {
        begin_save(f);
        assert_int_equal(f->flight.n_put, 2);
        assert_int_equal(f->flight.n_dead, 1);
        assert_int_equal(f->flight.n_attempts, 2);
        assert_int_equal(f->flight.floor, 3);
        hk_core_saved(f->core, false);
        assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
        f->clock += 100 * MS;
        assert_idle(f); /* nothing follows from what is not saved */
    }
    save(f);
    settle(f, start(f, 1, 2), HARK_ACK);
    settle(f, start(f, 2, 1), HARK_ACK);
    begin_save(f);
    assert_int_equal(f->flight.n_drop, 2);
    hk_core_saved(f->core, false);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.n_attempts, 2);
    assert_int_equal(f->disk.n_dead, 1);
}

/* ---- loading ----------------------------------------------------------------------------------------- */

static void test_lanes_and_attempts_are_loaded(void **state)
{
    fixture *f = *state;
    for (uint64_t i = 1; i <= 3; i++)
        arrive(f, i, "a");
    arrive(f, 4, NULL);
    settle(f, start(f, 1, 1), HARK_RETRY);
    settle(f, start(f, 4, 1), HARK_RETRY);
    save(f);
    restart(f);
    assert_int_equal(facts(f).deferred, 4);
    assert_idle(f);
    assert_int_equal(hk_core_due(f->core), f->clock + 10 * MS);
    arrive(f, 5, "a"); /* behind those in the ledger */
    f->clock += 10 * MS;
    hk_lease head = start(f, 1, 2);
    settle(f, start(f, 4, 2), HARK_ACK);
    assert_idle(f);
    settle(f, head, HARK_ACK);
    for (uint64_t seq = 2; seq <= 5; seq++)
        if (seq != 4)
            settle(f, start(f, seq, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_a_row_whose_head_is_gone_may_start_at_once(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    f->clock += 10 * MS;
    settle(f, start(f, 1, 2), HARK_ACK);
    save(f); /* 2 may have run after that, which nobody knows */
    restart(f);
    settle(f, start(f, 2, 1), HARK_ACK);
}

static void test_a_stored_time_farther_than_an_hour_is_not_trusted(void **state)
{
    fixture *f = *state;
    const hark_store_row rows[] = {
        {.sequence = 3,
         .state = HARK_ROW_RETRY,
         .attempts = 1,
         .due_ns = now(f).wall + 3 * 3600000 * MS},
        {.sequence = 4, .state = HARK_ROW_RETRY, .attempts = 1, .due_ns = 1}};
    const hark_store_consumer stored = {
        .ret_floor = 5, .ret_rows = (hark_store_row *)(uintptr_t)rows, .ret_n_rows = 2};
    assert_int_equal(hk_core_load(f->core, &stored, now(f)), HARK_OK);
    hk_core_unstart(f->core, start(f, 4, 2)); /* long due */
    assert_int_equal(hk_core_due(f->core), f->clock + 3600000 * MS);
}

static void test_rows_above_the_floor_are_not_read_twice(void **state)
{
    fixture *f = *state;
    hk_lease items[5];
    for (uint64_t i = 1; i <= 4; i++)
        arrive(f, i, NULL);
    for (uint64_t i = 1; i <= 4; i++)
        items[i] = start(f, i, 1);
    settle(f, items[3], HARK_RETRY); /* 1 is still open: the floor stays at 0 */
    settle(f, items[4], HARK_ACK);
    save(f);
    assert_int_equal(f->disk.floor, 0);
    restart(f);
    for (uint64_t i = 1; i <= 4; i++)
        arrive(f, i, NULL);
    settle(f, start(f, 1, 1), HARK_ACK);
    settle(f, start(f, 2, 1), HARK_ACK);
    assert_idle(f);
    f->clock += 10 * MS;
    settle(f, start(f, 3, 2), HARK_ACK);
    assert_idle(f);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_items_start_by_sequence_as_many_as_there_are_workers),
        TEST(test_a_lane_runs_one_at_a_time_in_order),
        TEST(test_an_unstarted_item_is_as_if_it_had_never_started),
        TEST(test_what_does_not_concern_it_only_moves_the_floor),
        TEST(test_the_window_bounds_what_may_arrive),
        TEST(test_a_retry_waits_for_its_save_and_its_delay),
        TEST(test_a_retry_may_have_a_delay_of_its_own),
        TEST(test_what_is_behind_a_retry_goes_to_the_ledger_and_others_go_on),
        TEST(test_each_retry_of_a_head_defers_what_was_queued_since_the_last),
        TEST(test_the_ledger_is_bounded),
        TEST(test_a_rejected_item_frees_its_lane_when_its_dead_letter_is_saved),
        TEST(test_the_last_attempt_is_a_dead_letter),
        TEST(test_without_a_limit_it_is_tried_for_ever),
        TEST(test_settled_ranges_are_what_lies_between_open_items),
        TEST(test_an_item_that_moves_on_while_its_save_is_under_way_is_saved_again),
        TEST(test_a_deferred_item_acked_while_its_row_is_on_its_way_is_dropped_later),
        TEST(test_a_failed_save_is_collected_again_with_everything),
        TEST(test_lanes_and_attempts_are_loaded),
        TEST(test_a_row_whose_head_is_gone_may_start_at_once),
        TEST(test_a_stored_time_farther_than_an_hour_is_not_trusted),
        TEST(test_rows_above_the_floor_are_not_read_twice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
