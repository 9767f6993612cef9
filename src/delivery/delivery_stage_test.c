/* Tests of how far a consumer says it is with an event. */
#include "delivery/delivery_test_i.h"

static void assert_stage(fixture *f, uint64_t seq, hk_stage expected)
{
    assert_int_equal(hk_core_stage(f->core, seq), expected);
}

static void test_an_event_is_ahead_then_open_then_done(void **state)
{
    fixture *f = *state;
    assert_stage(f, 1, HK_STAGE_AHEAD);
    arrive(f, 1, NULL);
    assert_stage(f, 1, HK_STAGE_OPEN);
    hk_lease lease = start(f, 1, 1);
    assert_stage(f, 1, HK_STAGE_OPEN);
    settle(f, lease, HARK_RETRY);
    assert_stage(f, 1, HK_STAGE_OPEN);
    save(f);
    f->clock += 10 * MS;
    assert_stage(f, 1, HK_STAGE_OPEN);
    settle(f, start(f, 1, 2), HARK_ACK);
    assert_stage(f, 1, HK_STAGE_DONE); /* its row is still to be dropped */
    save(f);
    assert_stage(f, 1, HK_STAGE_DONE);
    assert_stage(f, 2, HK_STAGE_AHEAD);
}

static void test_what_does_not_concern_the_consumer_is_done_once_it_was_passed(void **state)
{
    fixture *f = *state;
    assert_stage(f, 5, HK_STAGE_AHEAD);
    hk_core_cover(f->core, 5);
    assert_stage(f, 5, HK_STAGE_DONE);
}

static void test_a_dead_letter_is_done_when_it_is_committed_unless_it_parks(void **state)
{
    fixture *f = *state;
    f->opts.park = true;
    core_anew(f);
    arrive(f, 1, NULL);
    arrive(f, 2, "a");
    arrive(f, 3, "a");
    settle(f, start(f, 1, 1), HARK_REJECT);
    settle(f, start(f, 2, 1), HARK_REJECT);
    for (uint64_t i = 1; i <= 3; i++)
        assert_stage(f, i, HK_STAGE_OPEN);
    save(f);
    assert_stage(f, 1, HK_STAGE_DONE); /* no key, no lane to park */
    assert_stage(f, 2, HK_STAGE_DEAD);
    assert_stage(f, 3, HK_STAGE_DEAD);
    assert_int_equal(hk_core_redriven(f->core, 2, "a", f->clock, now(f).wall), HARK_OK);
    assert_stage(f, 2, HK_STAGE_OPEN);
    assert_stage(f, 3, HK_STAGE_OPEN);
    settle(f, start(f, 2, 1), HARK_ACK);
    assert_stage(f, 2, HK_STAGE_DONE);
    settle(f, start(f, 3, 1), HARK_REJECT);
    save(f);
    hk_core_discarded(f->core, 3, "a");
    assert_stage(f, 3, HK_STAGE_DONE);
}

static void test_an_event_that_is_redriven_after_it_was_done_is_open(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    settle(f, start(f, 1, 1), HARK_REJECT);
    save(f);
    assert_stage(f, 1, HK_STAGE_DONE);
    assert_int_equal(hk_core_redriven(f->core, 1, "a", f->clock, now(f).wall), HARK_OK);
    assert_stage(f, 1, HK_STAGE_OPEN);
}

/* 1 is open; 2 and 5 settled; 3 waits for its retry; 4 is not of this consumer; 6 only counts. */
static void leave_some(fixture *f)
{
    for (uint64_t i = 1; i <= 5; i++)
        if (i == 4)
            hk_core_cover(f->core, 4);
        else
            arrive(f, i, NULL);
    hk_lease first = start(f, 1, 1);
    settle(f, start(f, 2, 1), HARK_ACK);
    settle(f, start(f, 3, 1), HARK_RETRY);
    settle(f, start(f, 5, 1), HARK_ACK);
    save(f);
    hk_core_unstart(f->core, first);
    count_on_disk(&f->disk, 6, 1, 0);
    restart(f);
}

static void test_after_a_restart_it_is_as_far_as_what_was_committed(void **state)
{
    fixture *f = *state;
    leave_some(f);
    static const hk_stage expected[] = {HK_STAGE_AHEAD, HK_STAGE_DONE, HK_STAGE_OPEN,
                                        HK_STAGE_DONE,  HK_STAGE_DONE, HK_STAGE_AHEAD};
    for (uint64_t i = 1; i <= 6; i++)
        assert_stage(f, i, expected[i - 1]);
    f->clock += 10 * MS;
    settle(f, start(f, 3, 2), HARK_ACK);
    save(f);
    assert_stage(f, 3, HK_STAGE_DONE); /* though reading has not come to it */
    arrive(f, 1, NULL);
    assert_stage(f, 1, HK_STAGE_OPEN);
}

static void test_a_dead_row_that_parks_no_more_is_done(void **state)
{
    fixture *f = *state;
    f->opts.park = true;
    core_anew(f);
    arrive(f, 1, NULL);
    hk_lease first = start(f, 1, 1);
    arrive(f, 2, "a");
    settle(f, start(f, 2, 1), HARK_REJECT);
    save(f);
    hk_core_unstart(f->core, first);
    f->opts.park = false;
    restart(f);
    assert_stage(f, 1, HK_STAGE_AHEAD);
    assert_stage(f, 2, HK_STAGE_DONE);
}

static void test_many_events_are_told_apart(void **state)
{
    fixture *f = *state;
    enum { N = 3000, STEP = 256 };
    f->opts.window = N;
    f->opts.workers = N;
    core_anew(f);
    hk_lease *leases = calloc(N, sizeof *leases);
    assert_non_null(leases);
    for (uint64_t i = 1; i <= N; i++)
        arrive(f, i * STEP, NULL);
    for (uint64_t i = 1; i <= N; i++)
        leases[i - 1] = start(f, i * STEP, 1);
    for (uint64_t i = 1; i <= N; i += 3)
        settle(f, leases[i - 1], HARK_ACK);
    for (uint64_t i = 1; i <= N; i++)
        assert_stage(f, i * STEP, i % 3 == 1 ? HK_STAGE_DONE : HK_STAGE_OPEN);
    free(leases);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_an_event_is_ahead_then_open_then_done),
        TEST(test_what_does_not_concern_the_consumer_is_done_once_it_was_passed),
        TEST(test_a_dead_letter_is_done_when_it_is_committed_unless_it_parks),
        TEST(test_an_event_that_is_redriven_after_it_was_done_is_open),
        TEST(test_after_a_restart_it_is_as_far_as_what_was_committed),
        TEST(test_a_dead_row_that_parks_no_more_is_done),
        TEST(test_many_events_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
