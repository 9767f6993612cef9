/* Tests of leases: late answers, timeouts, extension, payloads, and what is due. */
#include "delivery/delivery_test_i.h"

static void test_an_answer_after_the_end_of_its_lease_is_refused(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    hk_lease old = start(f, 1, 1);
    settle(f, old, HARK_ACK);
    hk_lease next = start(f, 2, 1); /* in the same place */
    assert_int_equal(next.place, old.place);
    assert_int_not_equal(next.token, old.token);
    hark_verdict v = HARK_REJECT;
    assert_int_equal(hk_core_settle(f->core, old, HARK_ACK, -1, NULL, now(f), &v), HARK_ESTALE);
    assert_int_equal(v, HARK_REJECT); /* untouched */
    assert_int_equal(hk_core_extend(f->core, old, 5), HARK_ESTALE);
    hk_core_unstart(f->core, old);
    assert_null(hk_core_payload(f->core, old));
    int other;
    assert_int_equal(hk_core_payload_set(f->core, old, &other), HARK_ESTALE);
    assert_int_equal(facts(f).running, 1);
    settle(f, next, HARK_ACK);
}

static void test_a_lease_of_nobody_is_refused(void **state)
{
    fixture *f = *state;
    const hk_lease wrong[] = {{.place = 0, .token = 0},
                              {.place = 0, .token = 1},
                              {.place = 3, .token = 0},
                              {.place = 4, .token = 1},
                              {.place = SIZE_MAX, .token = 1}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(hk_core_settle(f->core, wrong[i], HARK_ACK, -1, NULL, now(f), NULL),
                         HARK_ESTALE);
}

static bool expire(fixture *f, uint64_t seq, hark_verdict expected)
{
    hk_lease lease;
    uint64_t got;
    hark_verdict v;
    if (!hk_core_expire(f->core, now(f), &lease, &got, &v))
        return false;
    assert_int_equal(got, seq);
    assert_int_equal(v, expected);
    assert_int_equal(hk_core_settle(f->core, lease, HARK_ACK, -1, NULL, now(f), NULL), HARK_ESTALE);
    return true;
}

static void test_a_lease_that_runs_out_is_a_failed_attempt(void **state)
{
    fixture *f = *state;
    f->opts.retry_delay_ns = 0;
    core_anew(f);
    arrive(f, 1, NULL);
    for (int i = 1; i <= 3; i++) {
        hk_started s = start_until(f, 1, f->clock + 5 * MS);
        assert_int_equal(s.attempt, i);
        assert_int_equal(hk_core_due(f->core), f->clock + 5 * MS);
        f->clock += 5 * MS - 1;
        assert_false(expire(f, 1, HARK_RETRY));
        f->clock += 1;
        assert_true(expire(f, 1, i < 3 ? HARK_RETRY : HARK_REJECT));
        assert_false(expire(f, 1, HARK_RETRY));
        begin_save(f);
        assert_string_equal(f->flight.attempts[0].outcome, "timeout");
        assert_string_equal(f->flight.attempts[0].error, "no answer within its time");
        if (i == 3)
            assert_string_equal(f->flight.dead[0].reason, "max_attempts");
        commit(f);
    }
    assert_int_equal(f->disk.n_dead, 1);
    assert_int_equal(hk_core_due(f->core), -1);
}

static void test_an_extended_lease_runs_on(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    hk_lease a = start_until(f, 1, f->clock + 5 * MS).lease;
    hk_lease b = start_until(f, 2, f->clock + 9 * MS).lease;
    assert_int_equal(hk_core_extend(f->core, a, f->clock + 20 * MS), HARK_OK);
    assert_int_equal(hk_core_due(f->core), f->clock + 9 * MS);
    f->clock += 9 * MS;
    assert_true(expire(f, 2, HARK_RETRY));
    assert_false(expire(f, 1, HARK_RETRY));
    assert_int_equal(hk_core_due(f->core), f->clock + 11 * MS);
    assert_int_equal(hk_core_extend(f->core, a, -1), HARK_OK);
    assert_int_equal(hk_core_due(f->core), -1);
    f->clock += 10000 * MS;
    assert_false(expire(f, 1, HARK_RETRY));
    assert_int_equal(hk_core_extend(f->core, b, 5), HARK_ESTALE);
    settle(f, a, HARK_ACK);
}

static void test_several_leases_run_out_the_earliest_first(void **state)
{
    fixture *f = *state;
    for (uint64_t i = 1; i <= 4; i++) {
        arrive(f, i, NULL);
        (void)start_until(f, i, f->clock + (int64_t)(10 - i) * MS);
    }
    f->clock += 10 * MS;
    for (uint64_t i = 4; i >= 1; i--)
        assert_true(expire(f, i, HARK_RETRY));
    assert_int_equal(facts(f).running, 0);
}

static void test_a_lease_runs_from_when_the_bytes_are_there(void **state)
{
    fixture *f = *state;
    f->opts.max_attempts = 2;
    core_anew(f);
    arrive(f, 1, NULL);
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    f->clock += 10 * MS;
    hk_started s;
    assert_true(hk_core_start(f->core, now(f), f->clock + MS, &s));
    assert_null(s.payload);
    f->clock += 2 * MS;
    assert_int_equal(hk_core_due(f->core), -1);
    assert_false(expire(f, 1, HARK_REJECT)); /* its dead letter would be empty */
    assert_int_equal(hk_core_payload_set(f->core, s.lease, payload_new(f)), HARK_OK);
    assert_true(expire(f, 1, HARK_REJECT));
    save(f); /* asserts that the bytes are there */
    assert_int_equal(f->disk.n_dead, 1);
}

static void test_an_unstarted_item_gives_its_place_back(void **state)
{
    fixture *f = *state;
    f->opts.workers = 1;
    core_anew(f);
    arrive(f, 1, NULL);
    hk_lease lease = start_until(f, 1, f->clock + 5 * MS).lease;
    assert_idle(f);
    hk_core_unstart(f->core, lease);
    assert_int_equal(hk_core_due(f->core), -1);
    hk_core_unstart(f->core, lease); /* twice does nothing */
    f->clock += 100 * MS;
    hk_lease again = start(f, 1, 1);
    begin_save(f);
    assert_int_equal(f->flight.n_attempts, 0);
    commit(f);
    settle(f, again, HARK_ACK);
}

static void test_a_paused_consumer_starts_nothing_but_its_leases_end(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    (void)start_until(f, 1, f->clock + 5 * MS);
    hk_core_pause(f->core, true);
    assert_true(facts(f).paused);
    assert_idle(f);
    f->clock += 5 * MS;
    assert_true(expire(f, 1, HARK_RETRY));
    save(f);
    f->clock += 100 * MS;
    assert_idle(f);
    assert_int_equal(hk_core_due(f->core), -1); /* time alone changes nothing */
    hk_core_pause(f->core, false);
    settle(f, start(f, 1, 2), HARK_ACK);
    settle(f, start(f, 2, 1), HARK_ACK);
}

static void test_a_core_may_begin_paused(void **state)
{
    fixture *f = *state;
    f->opts.paused = true;
    core_anew(f);
    arrive(f, 1, NULL);
    assert_idle(f);
    hk_core_pause(f->core, false);
    settle(f, start(f, 1, 1), HARK_ACK);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_an_answer_after_the_end_of_its_lease_is_refused),
        TEST(test_a_lease_of_nobody_is_refused),
        TEST(test_a_lease_that_runs_out_is_a_failed_attempt),
        TEST(test_an_extended_lease_runs_on),
        TEST(test_several_leases_run_out_the_earliest_first),
        TEST(test_a_lease_runs_from_when_the_bytes_are_there),
        TEST(test_an_unstarted_item_gives_its_place_back),
        TEST(test_a_paused_consumer_starts_nothing_but_its_leases_end),
        TEST(test_a_core_may_begin_paused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
