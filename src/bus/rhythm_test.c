/* Tests of when a process among others beats and asks, and what it tells of trouble. */
#include "bus/rhythm_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))
#define MS     INT64_C(1000000)
#define NOW    (1000000 * MS)

/* One whose beat at NOW has brought a lease of ten seconds. */
static hk_rhythm beaten(void)
{
    hk_rhythm r = {.rng = 1};
    assert_int_equal(hk_rhythm_beaten(&r, NOW, NOW + MS, NOW + 10000 * MS), HK_TIDING_NONE);
    return r;
}

static void test_the_next_beat_is_after_a_third_of_the_lease(void **state UNUSED)
{
    hk_rhythm r = beaten();
    assert_int_equal(hk_rhythm_beat(&r, false), NOW + 10000 * MS / 3);
    assert_int_equal(hk_rhythm_due(&r, false), NOW + 10000 * MS / 3);
}

static void test_with_open_consumers_it_beats_each_second(void **state UNUSED)
{
    hk_rhythm r = beaten();
    assert_int_equal(hk_rhythm_beat(&r, true), NOW + 1000 * MS);
}

static void test_a_short_lease_is_beaten_for_more_often_than_that(void **state UNUSED)
{
    hk_rhythm r = {.rng = 1};
    (void)hk_rhythm_beaten(&r, NOW, NOW, NOW + 600 * MS);
    assert_int_equal(hk_rhythm_beat(&r, true), NOW + 200 * MS);
}

static void test_missed_beats_are_repeated_after_pauses_within_bounds(void **state UNUSED)
{
    hk_rhythm r = beaten();
    int64_t now = NOW + 1000 * MS, longest = 0;
    for (int i = 0; i < 1000; i++) {
        (void)hk_rhythm_missed(&r, now);
        int64_t pause = hk_rhythm_beat(&r, true) - now;
        assert_in_range(pause, 20 * MS, 1020 * MS);
        longest = pause > longest ? pause : longest;
        now += pause;
    }
    assert_true(longest > 500 * MS);
}

static void test_trouble_is_told_once_and_so_is_its_end(void **state UNUSED)
{
    hk_rhythm r = beaten();
    int64_t now = NOW + 3000 * MS;
    assert_int_equal(hk_rhythm_missed(&r, now), HK_TIDING_TROUBLE);
    assert_int_equal(hk_rhythm_missed(&r, now + 100 * MS), HK_TIDING_NONE);
    assert_int_equal(hk_rhythm_beaten(&r, now + 200 * MS, now + 201 * MS, now + 10200 * MS),
                     HK_TIDING_WELL);
    assert_false(r.lapsed);
    assert_int_equal(hk_rhythm_beaten(&r, now + 1200 * MS, now + 1201 * MS, now + 11200 * MS),
                     HK_TIDING_NONE);
}

static void test_the_end_of_the_lease_is_told_once_and_on_time(void **state UNUSED)
{
    hk_rhythm r = beaten();
    for (int64_t now = NOW + 9000 * MS; now < r.until;) {
        (void)hk_rhythm_missed(&r, now);
        assert_int_equal(hk_rhythm_look(&r, now), HK_TIDING_NONE);
        int64_t due = hk_rhythm_due(&r, true);
        assert_in_range(due, now + 1, r.until);
        now = due;
    }
    assert_int_equal(hk_rhythm_look(&r, r.until), HK_TIDING_OVER);
    assert_int_equal(hk_rhythm_look(&r, r.until + MS), HK_TIDING_NONE);
    assert_int_equal(hk_rhythm_missed(&r, r.until + MS), HK_TIDING_NONE);
    assert_true(hk_rhythm_due(&r, true) > r.until);
}

static void test_a_lease_that_was_over_before_it_was_prolonged_has_lapsed(void **state UNUSED)
{
    hk_rhythm r = beaten();
    int64_t until = r.until;
    /* begun in time, answered late: when the store counted it is not known */
    assert_int_equal(hk_rhythm_beaten(&r, until - MS, until + MS, until + 9000 * MS),
                     HK_TIDING_NONE);
    assert_true(r.lapsed);
}

static void test_a_process_that_slept_through_its_lease_tells_of_it(void **state UNUSED)
{
    hk_rhythm r = beaten();
    int64_t now = r.until + 60000 * MS;
    assert_int_equal(hk_rhythm_look(&r, now), HK_TIDING_OVER);
    assert_int_equal(hk_rhythm_beaten(&r, now, now + MS, now + 10000 * MS), HK_TIDING_WELL);
    assert_true(r.lapsed);
    assert_int_equal(hk_rhythm_look(&r, now + MS), HK_TIDING_NONE);
}

static void test_a_lapse_is_kept_until_somebody_has_seen_to_it(void **state UNUSED)
{
    hk_rhythm r = beaten();
    int64_t now = r.until + MS;
    (void)hk_rhythm_beaten(&r, now, now, now + 10000 * MS);
    (void)hk_rhythm_beaten(&r, now + MS, now + MS, now + 10001 * MS);
    assert_true(r.lapsed);
}

static void test_a_lease_of_no_length_is_no_reason_to_ask_without_end(void **state UNUSED)
{
    hk_rhythm r = {.rng = 1};
    (void)hk_rhythm_beaten(&r, NOW, NOW + MS, NOW - MS);
    assert_int_equal(hk_rhythm_beat(&r, true), NOW + 20 * MS);
    assert_int_equal(hk_rhythm_look(&r, NOW + MS), HK_TIDING_OVER);
}

static void test_consumers_are_asked_for_each_second_and_sooner_on_a_hint(void **state UNUSED)
{
    assert_int_equal(hk_rhythm_ask(0, false), 0);
    assert_int_equal(hk_rhythm_ask(NOW, false), NOW + 1000 * MS);
    assert_int_equal(hk_rhythm_ask(NOW, true), NOW + 20 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_next_beat_is_after_a_third_of_the_lease),
        cmocka_unit_test(test_with_open_consumers_it_beats_each_second),
        cmocka_unit_test(test_a_short_lease_is_beaten_for_more_often_than_that),
        cmocka_unit_test(test_missed_beats_are_repeated_after_pauses_within_bounds),
        cmocka_unit_test(test_trouble_is_told_once_and_so_is_its_end),
        cmocka_unit_test(test_the_end_of_the_lease_is_told_once_and_on_time),
        cmocka_unit_test(test_a_lease_that_was_over_before_it_was_prolonged_has_lapsed),
        cmocka_unit_test(test_a_process_that_slept_through_its_lease_tells_of_it),
        cmocka_unit_test(test_a_lapse_is_kept_until_somebody_has_seen_to_it),
        cmocka_unit_test(test_a_lease_of_no_length_is_no_reason_to_ask_without_end),
        cmocka_unit_test(test_consumers_are_asked_for_each_second_and_sooner_on_a_hint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
