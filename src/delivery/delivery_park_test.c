/* Tests of the policy `park`: what waits behind a dead letter, redrive and discard of it. */
#include "delivery/delivery_test_i.h"

static int set_up_parking(void **state)
{
    set_up(state);
    fixture *f = *state;
    f->opts.park = true;
    core_anew(f);
    return 0;
}

/* 1 of key a is a dead letter, 2 and 3 wait behind it. */
static void park(fixture *f)
{
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    settle(f, start(f, 1, 1), HARK_REJECT);
    arrive(f, 3, "a");
    save(f);
}

static void test_a_parked_key_waits_and_others_go_on(void **state)
{
    fixture *f = *state;
    park(f);
    arrive(f, 4, "b");
    arrive(f, 5, "a");
    settle(f, start(f, 4, 1), HARK_ACK);
    f->clock += 100000 * MS;
    assert_idle(f);
    assert_int_equal(hk_core_due(f->core), -1);
    save(f);
    assert_int_equal(f->disk.n_rows, 4);
    assert_int_equal(f->disk.rows[0].state, HARK_ROW_DEAD);
    for (size_t i = 1; i < 4; i++)
        assert_int_equal(f->disk.rows[i].state, HARK_ROW_PARKED);
    assert_int_equal(f->disk.floor, 5);
    assert_int_equal(f->disk.n_dead, 1);
    hk_core_facts x = facts(f);
    assert_int_equal(x.deferred, 4);
    assert_int_equal(x.parked, 3);
    assert_int_equal(x.parked_keys, 1);
    assert_int_equal(x.behind, 0);
    assert_int_equal(x.in_memory, 0);
    assert_int_equal(x.first_parked, 1);
    assert_string_equal(x.parked_key, "a");
    assert_true(x.parked_since_wall > 0);
}

static void test_what_is_behind_goes_to_the_ledger_with_the_dead_letter(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    settle(f, start(f, 1, 1), HARK_REJECT);
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 1);
    assert_int_equal(f->flight.n_put, 2);
    assert_int_equal(f->flight.n_drop, 0);
    hk_core_saved(f->core, false);
    assert_idle(f);
    assert_int_equal(facts(f).parked_keys, 0); /* not before it is committed */
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 1);
    assert_int_equal(f->flight.n_put, 2);
    commit(f);
    assert_int_equal(facts(f).parked_keys, 1);
    assert_int_equal(facts(f).in_memory, 0);
}

static void test_without_a_key_nothing_parks(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    settle(f, start(f, 1, 1), HARK_REJECT);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(facts(f).deferred, 0);
    assert_int_equal(f->disk.floor, 1);
}

static void finish(fixture *f)
{
    settle(f, start(f, 2, 1), HARK_ACK);
    settle(f, start(f, 3, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(facts(f).deferred, 0);
    assert_int_equal(facts(f).parked + facts(f).parked_keys + facts(f).behind, 0);
}

static void test_a_redriven_head_comes_before_its_parked_lane(void **state)
{
    fixture *f = *state;
    park(f);
    assert_int_equal(hk_core_redriven(f->core, 1, "a", f->clock + 5 * MS, now(f).wall + 5 * MS),
                     HARK_OK);
    assert_idle(f);
    assert_int_equal(hk_core_due(f->core), f->clock + 5 * MS);
    assert_int_equal(facts(f).parked_keys, 0);
    assert_int_equal(facts(f).behind, 2);
    f->clock += 5 * MS;
    hk_lease lease = start(f, 1, 1); /* attempts from 1 */
    assert_idle(f);
    settle(f, lease, HARK_ACK);
    finish(f);
}

static void test_a_redriven_head_that_dies_again_parks_again(void **state)
{
    fixture *f = *state;
    park(f);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(hk_core_redriven(f->core, 1, "a", f->clock, now(f).wall), HARK_OK);
        settle(f, start(f, 1, 1), HARK_REJECT);
        assert_idle(f);
        save(f);
        assert_int_equal(f->disk.rows[0].state, HARK_ROW_DEAD);
        assert_int_equal(facts(f).parked, 2);
        assert_int_equal(facts(f).parked_keys, 1);
    }
    assert_int_equal(f->disk.n_dead, 4);
}

static void test_a_discarded_head_lets_its_lane_go_on(void **state)
{
    fixture *f = *state;
    park(f);
    hk_core_discarded(f->core, 1, "b"); /* not its lane */
    hk_core_discarded(f->core, 2, "a"); /* not its head */
    assert_idle(f);
    drop_row(&f->disk, 1); /* as the store does */
    hk_core_discarded(f->core, 1, "a");
    finish(f);
}

static void test_a_parked_lane_is_loaded_parked(void **state)
{
    fixture *f = *state;
    park(f);
    restart(f);
    assert_idle(f);
    assert_int_equal(facts(f).parked, 2);
    assert_int_equal(facts(f).parked_keys, 1);
    assert_true(facts(f).parked_since_wall > 0);
    arrive(f, 4, "a");
    assert_int_equal(facts(f).parked, 3);
    assert_int_equal(hk_core_redriven(f->core, 1, "a", f->clock, now(f).wall), HARK_OK);
    settle(f, start(f, 1, 1), HARK_ACK);
    settle(f, start(f, 2, 1), HARK_ACK);
    settle(f, start(f, 3, 1), HARK_ACK);
    settle(f, start(f, 4, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_with_continue_a_parked_lane_is_loaded_free(void **state)
{
    fixture *f = *state;
    park(f);
    f->opts.park = false;
    restart(f);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    begin_save(f);
    assert_int_equal(f->flight.n_drop, 1);
    assert_int_equal(f->flight.drop[0], 1);
    hk_core_saved(f->core, false);
    finish(f);
}

static void test_a_dead_row_to_be_dropped_is_kept_when_it_is_redriven(void **state)
{
    fixture *f = *state;
    park(f);
    f->opts.park = false;
    restart(f);
    assert_int_equal(hk_core_redriven(f->core, 1, "a", f->clock, now(f).wall), HARK_OK);
    save(f);
    assert_non_null(row_on_disk(&f->disk, 1));
    settle(f, start(f, 2, 1), HARK_ACK); /* heads the lane already */
    settle(f, start(f, 1, 1), HARK_ACK);
    settle(f, start(f, 3, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_a_redriven_row_of_a_parked_lane_waits_for_its_head_after_a_restart(void **state)
{
    fixture *f = *state;
    static const hark_store_row rows[] = {
        {.sequence = 3, .state = HARK_ROW_RETRY, .due_ns = 1, .key = "a"},
        {.sequence = 10, .state = HARK_ROW_DEAD, .key = "a"},
        {.sequence = 12, .state = HARK_ROW_PARKED, .key = "a"}};
    const hark_store_consumer stored = {
        .ret_floor = 20, .ret_rows = (hark_store_row *)(uintptr_t)rows, .ret_n_rows = 3};
    assert_int_equal(hk_core_load(f->core, &stored, now(f)), HARK_OK);
    assert_idle(f);
    assert_int_equal(facts(f).parked, 2);
    hk_core_discarded(f->core, 10, "a");
    settle(f, start(f, 3, 1), HARK_ACK);
    settle(f, start(f, 12, 1), HARK_ACK);
}

static void test_under_continue_what_is_behind_stays_in_memory(void **state)
{
    fixture *f = *state;
    f->opts.park = false;
    core_anew(f);
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    settle(f, start(f, 1, 1), HARK_REJECT);
    arrive(f, 3, "a");
    assert_int_equal(facts(f).deferred, 0);
    assert_int_equal(facts(f).in_memory, 3);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    finish(f);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up_parking, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_parked_key_waits_and_others_go_on),
        TEST(test_what_is_behind_goes_to_the_ledger_with_the_dead_letter),
        TEST(test_without_a_key_nothing_parks),
        TEST(test_a_redriven_head_comes_before_its_parked_lane),
        TEST(test_a_redriven_head_that_dies_again_parks_again),
        TEST(test_a_discarded_head_lets_its_lane_go_on),
        TEST(test_a_parked_lane_is_loaded_parked),
        TEST(test_with_continue_a_parked_lane_is_loaded_free),
        TEST(test_a_dead_row_to_be_dropped_is_kept_when_it_is_redriven),
        TEST(test_a_redriven_row_of_a_parked_lane_waits_for_its_head_after_a_restart),
        TEST(test_under_continue_what_is_behind_stays_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
