/* Tests of the queue of scheduled publishes. */
#include "delivery/delivery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static int set_up(void **state)
{
    *state = hk_sched_new();
    return *state ? 0 : -1;
}

static int tear_down(void **state)
{
    hk_sched_free(*state);
    return 0;
}

static uint64_t take(hk_sched *q, int64_t mono, int64_t wall)
{
    uint64_t id = 0;
    return hk_sched_take(q, (hk_now){mono, wall}, &id) ? id : 0;
}

static void add(hk_sched *q, uint64_t id, int64_t due, bool by_delay)
{
    assert_int_equal(hk_sched_add(q, id, due, by_delay), HARK_OK);
}

static void test_each_goes_by_its_own_clock(void **state)
{
    hk_sched *q = *state;
    add(q, 1, 100, true);
    add(q, 2, 1000, false);
    assert_int_equal(take(q, 99, 999), 0);
    assert_int_equal(take(q, 99, 5000), 2); /* the wall clock was set */
    assert_int_equal(take(q, 99, 5000), 0);
    assert_int_equal(take(q, 100, 0), 1);
    assert_int_equal(hk_sched_count(q), 2); /* with those taken */
}

static void test_the_one_that_waited_longer_is_first(void **state)
{
    hk_sched *q = *state;
    add(q, 1, 100, true);
    add(q, 2, 1000, false);
    add(q, 3, 90, true);
    add(q, 4, 1000, false);
    assert_int_equal(take(q, 110, 1015), 3);
    assert_int_equal(take(q, 110, 1015), 2);
    assert_int_equal(take(q, 110, 1015), 4);
    assert_int_equal(take(q, 110, 1015), 1);
    assert_int_equal(take(q, 110, 1015), 0);
}

static void test_the_wait_is_short_while_the_wall_clock_matters(void **state)
{
    hk_sched *q = *state;
    assert_int_equal(hk_sched_wait(q, (hk_now){0, 0}, 50), -1);
    add(q, 1, 1000, true);
    assert_int_equal(hk_sched_wait(q, (hk_now){100, 0}, 50), 900);
    add(q, 2, 2000, false);
    assert_int_equal(hk_sched_wait(q, (hk_now){100, 0}, 50), 50);
    assert_int_equal(hk_sched_wait(q, (hk_now){100, 1990}, 50), 10);
    assert_int_equal(hk_sched_wait(q, (hk_now){995, 0}, 50), 5);
    assert_int_equal(hk_sched_wait(q, (hk_now){2000, 0}, 50), 0);
    assert_int_equal(hk_sched_wait(q, (hk_now){0, 9000}, 50), 0);
}

static void test_a_cancelled_one_is_gone(void **state)
{
    hk_sched *q = *state;
    add(q, 1, 10, true);
    add(q, 2, 20, false);
    assert_false(hk_sched_remove(q, 3));
    assert_true(hk_sched_remove(q, 1));
    assert_false(hk_sched_remove(q, 1));
    assert_int_equal(hk_sched_count(q), 1);
    assert_int_equal(take(q, 100, 100), 2);
}

static void test_added_twice_it_has_the_new_time(void **state)
{
    hk_sched *q = *state;
    add(q, 1, 10, true);
    add(q, 1, 50, false);
    assert_int_equal(hk_sched_count(q), 1);
    assert_int_equal(take(q, 100, 49), 0);
    assert_int_equal(take(q, 0, 50), 1);
}

static void test_what_was_taken_counts_until_it_is_removed_or_put_back(void **state)
{
    hk_sched *q = *state;
    add(q, 1, 10, false);
    assert_int_equal(take(q, 0, 10), 1);
    assert_int_equal(take(q, 0, 10), 0);
    assert_int_equal(hk_sched_wait(q, (hk_now){0, 0}, 50), -1);
    assert_int_equal(hk_sched_count(q), 1);
    hk_sched_again(q, 1, 20); /* now by the other clock */
    assert_int_equal(take(q, 19, 1000), 0);
    assert_int_equal(take(q, 20, 0), 1);
    assert_true(hk_sched_remove(q, 1));
    assert_int_equal(hk_sched_count(q), 0);
    hk_sched_again(q, 1, 20); /* cancelled meanwhile */
    assert_int_equal(take(q, 100, 100), 0);
}

static void test_a_new_time_wins_over_putting_back(void **state)
{
    hk_sched *q = *state;
    add(q, 1, 10, true);
    assert_int_equal(take(q, 10, 0), 1);
    add(q, 1, 500, true);
    hk_sched_again(q, 1, 20);
    assert_int_equal(take(q, 499, 0), 0);
    assert_int_equal(take(q, 500, 0), 1);
}

static void test_what_was_promised_room_comes_in_order_with_the_others(void **state)
{
    hk_sched *q = *state;
    enum { N = 1000 };
    hk_sched_entry *room[N];
    for (size_t i = 0; i < N; i++)
        assert_non_null(room[i] = hk_sched_promise(q));
    assert_int_equal(hk_sched_count(q), 0);
    for (uint64_t id = N + 1; id <= 2 * N; id++)
        add(q, id, (int64_t)id, id % 2);
    for (uint64_t id = N; id > 0; id--)
        if (id % 4)
            hk_sched_put(q, room[id - 1], id, (int64_t)id, id % 2);
        else
            hk_sched_forgo(q, room[id - 1]);
    for (uint64_t id = 1; id <= 2 * N; id++)
        if (id % 4 || id > N)
            assert_int_equal(take(q, (int64_t)id, (int64_t)id), id);
    assert_int_equal(take(q, 9 * N, 9 * N), 0);
}

static void test_a_hundred_thousand_come_in_order_and_go_quickly(void **state)
{
    hk_sched *q = *state;
    enum { N = 100000 };
    for (uint64_t i = 1; i <= N; i++)
        add(q, i, (int64_t)(i * 7919 % N), i % 2);
    for (uint64_t i = 1; i <= N; i++)
        if (i % 3 == 0)
            assert_true(hk_sched_remove(q, i));
    size_t n = 0;
    int64_t last = -1;
    for (uint64_t id; (id = take(q, N, N)) != 0; n++) {
        assert_true((int64_t)(id * 7919 % N) >= last);
        last = (int64_t)(id * 7919 % N);
        assert_true(id % 3 != 0);
    }
    assert_int_equal(n, N - N / 3);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_each_goes_by_its_own_clock),
        TEST(test_the_one_that_waited_longer_is_first),
        TEST(test_what_was_taken_counts_until_it_is_removed_or_put_back),
        TEST(test_a_new_time_wins_over_putting_back),
        TEST(test_the_wait_is_short_while_the_wall_clock_matters),
        TEST(test_a_cancelled_one_is_gone),
        TEST(test_added_twice_it_has_the_new_time),
        TEST(test_what_was_promised_room_comes_in_order_with_the_others),
        TEST(test_a_hundred_thousand_come_in_order_and_go_quickly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
