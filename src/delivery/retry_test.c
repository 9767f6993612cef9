/* Tests of the pauses between attempts. */
#include "delivery/delivery_test_i.h"

static void test_pauses_double_up_to_the_most(void **state)
{
    (void)state;
    uint64_t rng = 1;
    for (int64_t n = 1; n <= 100; n++) {
        int64_t limit = n <= 7 ? 10 * MS << (n - 1) : 1000 * MS, longest = 0;
        for (int i = 0; i < 400; i++) {
            int64_t pause = hk_backoff(10 * MS, 1000 * MS, n, &rng);
            assert_true(pause >= 0 && pause <= limit);
            longest = pause > longest ? pause : longest;
        }
        assert_true(longest > limit / 10 * 9); /* full jitter: all of it is used */
    }
}

static void test_pauses_are_spread_evenly(void **state)
{
    (void)state;
    uint64_t rng = 7, quarter[4] = {0};
    for (int i = 0; i < 4000; i++)
        quarter[hk_backoff(1000, 1000, 1, &rng) * 4 / 1001]++;
    for (int i = 0; i < 4; i++)
        assert_in_range(quarter[i], 900, 1100);
}

static void test_no_number_is_too_large(void **state)
{
    (void)state;
    uint64_t rng = 1;
    static const int64_t n[] = {INT64_MIN, -1, 0, 1, 2, 62, 63, 64, 65, 1000, INT64_MAX};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        assert_true(hk_backoff(INT64_MAX, INT64_MAX, n[i], &rng) >= 0);
        assert_true(hk_backoff(1, INT64_MAX, n[i], &rng) >= 0);
        assert_in_range(hk_backoff(1, 5, n[i], &rng), 0, 5);
        assert_int_equal(hk_backoff(0, 5, n[i], &rng), 0);
        assert_int_equal(hk_backoff(5, 0, n[i], &rng), 0);
        assert_int_equal(hk_backoff(-5, -5, n[i], &rng), 0);
    }
}

static void test_a_seed_repeats_its_pauses(void **state)
{
    (void)state;
    uint64_t a = 5, b = 5;
    for (int64_t n = 1; n < 50; n++)
        assert_int_equal(hk_backoff(MS, 100 * MS, n, &a), hk_backoff(MS, 100 * MS, n, &b));
}

static void test_the_policys_pause_is_used_unless_one_is_given(void **state)
{
    fixture *f = *state;
    f->opts.max_attempts = -1;
    core_anew(f);
    arrive(f, 1, NULL);
    for (int64_t n = 1; n <= 12; n++) {
        (void)settle_in(f, start(f, 1, n), HARK_RETRY, -1);
        save(f);
        int64_t pause = hk_core_due(f->core) - f->clock;
        assert_in_range(pause, 0, n <= 7 ? 10 * MS << (n - 1) : 1000 * MS);
        f->clock += pause;
    }
    (void)settle_in(f, start(f, 1, 13), HARK_RETRY, INT64_MAX);
    save(f);
    assert_int_equal(hk_core_due(f->core), INT64_MAX);
    assert_int_equal(f->disk.rows[0].due_ns, INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pauses_double_up_to_the_most),
        cmocka_unit_test(test_pauses_are_spread_evenly),
        cmocka_unit_test(test_no_number_is_too_large),
        cmocka_unit_test(test_a_seed_repeats_its_pauses),
        cmocka_unit_test_setup_teardown(test_the_policys_pause_is_used_unless_one_is_given, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
