/* Tests of the rate: which seconds count, and clocks that jump. */
#include "base/base.h"

#include <stdarg.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))
#define NS     INT64_C(1000000000)

#define assert_rate(r, now, expected)                                                              \
    do {                                                                                           \
        double got_ = hk_rate_read(r, now);                                                        \
        if (got_ < (expected)-1e-9 || got_ > (expected) + 1e-9)                                    \
            fail_msg("rate is %f, expected %f", got_, (double)(expected));                         \
    } while (0)

static void test_nothing_added_is_a_rate_of_nothing(void **state UNUSED)
{
    hk_rate r = {0};
    assert_rate(&r, 0, 0);
    assert_rate(&r, 5 * NS, 0);
    assert_rate(&r, INT64_MAX, 0);
}

static void test_the_second_that_is_under_way_does_not_count_yet(void **state UNUSED)
{
    hk_rate r = {0};
    hk_rate_add(&r, 100 * NS, 7);
    hk_rate_add(&r, 101 * NS - 1, 3);
    assert_rate(&r, 101 * NS - 1, 0);
    assert_rate(&r, 101 * NS, 1);
}

static void test_a_second_counts_for_ten_seconds(void **state UNUSED)
{
    hk_rate r = {0};
    hk_rate_add(&r, 100 * NS, 10);
    for (int64_t s = 101; s <= 110; s++)
        assert_rate(&r, s * NS, 1);
    assert_rate(&r, 111 * NS, 0);
    assert_rate(&r, 116 * NS, 0); /* the same place */
    assert_rate(&r, 126 * NS, 0);
}

static void test_a_steady_flow_has_its_rate(void **state UNUSED)
{
    hk_rate r = {0};
    for (int64_t ms = 0; ms < 60000; ms += 2) {
        hk_rate_add(&r, 1000 * NS + ms * 1000000, 1);
        if (ms >= 10000 && ms % 500 == 0)
            assert_rate(&r, 1000 * NS + ms * 1000000, 500);
    }
}

static void test_an_old_second_gives_its_place_to_a_new_one(void **state UNUSED)
{
    hk_rate r = {0};
    hk_rate_add(&r, 100 * NS, 1000);
    hk_rate_add(&r, (100 + HK_RATE_SECONDS) * NS, 20);
    assert_rate(&r, (101 + HK_RATE_SECONDS) * NS, 2);
}

static void test_a_clock_that_jumps_back_does_no_lasting_harm(void **state UNUSED)
{
    hk_rate r = {0};
    for (int64_t s = 1000; s < 1020; s++)
        hk_rate_add(&r, s * NS, 10);
    for (int64_t s = 500; s < 520; s++)
        hk_rate_add(&r, s * NS, 20);
    assert_rate(&r, 520 * NS, 20);
}

static void test_times_before_1970_and_far_away_are_taken(void **state UNUSED)
{
    hk_rate r = {0};
    hk_rate_add(&r, -5 * NS, 5);
    hk_rate_add(&r, INT64_MIN, 5);
    assert_rate(&r, INT64_MIN, 0);
    assert_rate(&r, 1 * NS, 1);
    hk_rate_add(&r, INT64_MAX - 2 * NS, 30);
    assert_rate(&r, INT64_MAX, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_added_is_a_rate_of_nothing),
        cmocka_unit_test(test_the_second_that_is_under_way_does_not_count_yet),
        cmocka_unit_test(test_a_second_counts_for_ten_seconds),
        cmocka_unit_test(test_a_steady_flow_has_its_rate),
        cmocka_unit_test(test_an_old_second_gives_its_place_to_a_new_one),
        cmocka_unit_test(test_a_clock_that_jumps_back_does_no_lasting_harm),
        cmocka_unit_test(test_times_before_1970_and_far_away_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
