/* Tests of what cannot be made ready for its handler: postponed for a later program, or buried. */
#include "delivery/delivery_test_i.h"

#define LATER (30 * MS)

static void postpone(fixture *f, hk_lease lease)
{
    assert_int_equal(hk_core_postpone(f->core, lease, LATER, "version 3", now(f)), HARK_OK);
}

static void bury(fixture *f, hk_lease lease)
{
    assert_int_equal(hk_core_bury(f->core, lease, "upcast", "no name in it", now(f)), HARK_OK);
}

static void test_a_postponed_event_waits_and_no_attempt_is_counted(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    postpone(f, start(f, 1, 1));
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    assert_idle(f); /* not before it is committed */
    begin_save(f);
    assert_int_equal(f->flight.n_attempts, 0);
    assert_int_equal(f->flight.n_put, 1);
    assert_int_equal(f->flight.put[0].state, HARK_ROW_RETRY);
    assert_int_equal(f->flight.put[0].attempts, 0);
    assert_int_equal(f->flight.put[0].first_ns, 0);
    assert_int_equal(f->flight.put[0].due_ns, now(f).wall); /* at once, to the next program */
    assert_string_equal(f->flight.put[0].error, "version 3");
    commit(f);
    hk_core_facts x = facts(f);
    assert_int_equal(x.waiting, 1);
    assert_int_equal(x.next_retry, 1);
    assert_int_equal(x.retry_due, f->clock + LATER);
    assert_int_equal(x.retry_attempts, 0);
    assert_int_equal(x.retry_first_wall, 0);
    assert_int_equal(hk_core_due(f->core), f->clock + LATER);
    f->clock += LATER - 1;
    assert_idle(f);
    f->clock += 1;
    settle(f, start(f, 1, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.n_attempts, 0);
}

static void test_an_event_may_be_postponed_for_ever(void **state)
{
    fixture *f = *state;
    f->opts.max_attempts = 1;
    core_anew(f);
    arrive(f, 1, NULL);
    for (int i = 0; i < 20; i++) {
        postpone(f, start(f, 1, 1));
        save(f);
        f->clock += LATER;
    }
    assert_int_equal(f->disk.n_dead, 0);
}

static void test_its_key_waits_for_a_postponed_event_and_others_do_not(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    postpone(f, start(f, 1, 1));
    arrive(f, 3, "a");
    arrive(f, 4, "b");
    assert_int_equal(facts(f).in_memory, 1); /* all of "a" is in the ledger */
    settle(f, start(f, 4, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.n_rows, 3);
    assert_idle(f);
    f->clock += LATER;
    for (uint64_t i = 1; i <= 3; i++)
        settle(f, start(f, i, 1), HARK_ACK);
    save(f);
    assert_int_equal(f->disk.floor, 4);
}

static void test_a_postponed_event_comes_again_at_once_after_a_restart(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    int64_t first = row_on_disk(&f->disk, 1)->first_ns;
    f->clock += 10 * MS;
    postpone(f, start(f, 1, 2));
    arrive(f, 2, "a");
    save(f);
    assert_int_equal(row_on_disk(&f->disk, 1)->first_ns, first); /* it has been tried once */
    assert_idle(f);
    restart(f); /* with a program that knows it, perhaps */
    settle(f, start(f, 1, 2), HARK_ACK);
    settle(f, start(f, 2, 1), HARK_ACK);
}

static void test_a_postponement_that_is_not_saved_is_saved_again(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    postpone(f, start(f, 1, 1));
    begin_save(f);
    hk_core_saved(f->core, false);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    f->clock += LATER;
    assert_idle(f);
    save(f);
    settle(f, start(f, 1, 1), HARK_ACK);
}

static void test_a_buried_event_is_a_dead_letter_with_its_reason(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    bury(f, start(f, 1, 1));
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_URGENT);
    begin_save(f);
    assert_int_equal(f->flight.n_dead, 1);
    assert_string_equal(f->flight.dead[0].reason, "upcast");
    assert_string_equal(f->flight.dead[0].error, "no name in it");
    assert_int_equal(f->flight.dead[0].attempts, 1);
    assert_int_equal(f->flight.n_attempts, 1);
    assert_string_equal(f->flight.attempts[0].outcome, "upcast");
    assert_string_equal(f->flight.attempts[0].error, "no name in it");
    assert_int_equal(f->flight.attempts[0].number, 1);
    commit(f);
    assert_int_equal(f->disk.floor, 1);
    assert_int_equal(f->disk.n_rows, 0);
}

static void test_a_buried_event_parks_its_lane_and_runs_when_it_is_redriven(void **state)
{
    fixture *f = *state;
    f->opts.park = true;
    core_anew(f);
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    bury(f, start(f, 1, 1));
    save(f);
    assert_idle(f);
    assert_int_equal(facts(f).first_parked, 1);
    assert_int_equal(hk_core_redriven(f->core, 1, "a", f->clock, now(f).wall), HARK_OK);
    settle(f, start(f, 1, 1), HARK_ACK);
    settle(f, start(f, 2, 1), HARK_ACK);
}

static void test_nobody_else_postpones_or_buries(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    hk_lease old = start(f, 1, 1);
    settle(f, old, HARK_ACK);
    assert_int_equal(hk_core_postpone(f->core, old, LATER, NULL, now(f)), HARK_ESTALE);
    assert_int_equal(hk_core_bury(f->core, old, "upcast", NULL, now(f)), HARK_ESTALE);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_postponed_event_waits_and_no_attempt_is_counted),
        TEST(test_an_event_may_be_postponed_for_ever),
        TEST(test_its_key_waits_for_a_postponed_event_and_others_do_not),
        TEST(test_a_postponed_event_comes_again_at_once_after_a_restart),
        TEST(test_a_postponement_that_is_not_saved_is_saved_again),
        TEST(test_a_buried_event_is_a_dead_letter_with_its_reason),
        TEST(test_a_buried_event_parks_its_lane_and_runs_when_it_is_redriven),
        TEST(test_nobody_else_postpones_or_buries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
