/* Tests of the ring: order, bounds, and dropping the oldest under a reader. */
#include "base/base.h"

#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static void *number(uintptr_t n)
{
    return (void *)n;
}

static void test_what_is_pushed_comes_out_in_order(void **state UNUSED)
{
    hk_ring *r = hk_ring_new(8);
    void *out[8];
    uintptr_t in = 1, expected = 1;
    for (int lap = 0; lap < 1000; lap++) {
        for (int i = 0; i < lap % 8 + 1; i++)
            assert_true(hk_ring_push(r, number(in++)));
        size_t n = hk_ring_pop(r, out, 8);
        assert_int_equal(n, lap % 8 + 1);
        for (size_t i = 0; i < n; i++)
            assert_ptr_equal(out[i], number(expected++));
    }
    hk_ring_free(r);
}

static void test_the_capacity_is_the_next_power_of_two(void **state UNUSED)
{
    static const size_t wanted[][2] = {{0, 2}, {1, 2}, {2, 2}, {3, 4}, {1000, 1024}, {4096, 4096}};
    for (size_t i = 0; i < HK_COUNTOF(wanted); i++) {
        hk_ring *r = hk_ring_new(wanted[i][0]);
        assert_int_equal(hk_ring_capacity(r), wanted[i][1]);
        hk_ring_free(r);
    }
    hk_ring_free(NULL);
}

static void test_a_full_ring_refuses_and_an_empty_one_gives_nothing(void **state UNUSED)
{
    hk_ring *r = hk_ring_new(4);
    void *out[4];
    assert_int_equal(hk_ring_pop(r, out, 4), 0);
    assert_null(hk_ring_drop_oldest(r));
    for (uintptr_t i = 1; i <= 4; i++)
        assert_true(hk_ring_push(r, number(i)));
    assert_false(hk_ring_push(r, number(5)));
    assert_int_equal(hk_ring_count(r), 4);
    assert_int_equal(hk_ring_pop(r, out, 1), 1);
    assert_ptr_equal(out[0], number(1));
    assert_true(hk_ring_push(r, number(5)));
    size_t n = 0;
    while (n < 4) { /* it may give fewer than there are, but gives some */
        size_t more = hk_ring_pop(r, out + n, 4 - n);
        assert_true(more > 0);
        n += more;
    }
    assert_ptr_equal(out[3], number(5));
    assert_int_equal(hk_ring_count(r), 0);
    hk_ring_free(r);
}

static void test_dropping_takes_the_oldest_and_makes_room(void **state UNUSED)
{
    hk_ring *r = hk_ring_new(4);
    void *out[4];
    for (uintptr_t i = 1; i <= 4; i++)
        assert_true(hk_ring_push(r, number(i)));
    assert_ptr_equal(hk_ring_drop_oldest(r), number(1));
    assert_ptr_equal(hk_ring_drop_oldest(r), number(2));
    assert_true(hk_ring_push(r, number(5)));
    assert_int_equal(hk_ring_pop(r, out, 4), 3);
    assert_ptr_equal(out[0], number(3));
    assert_ptr_equal(out[2], number(5));
    hk_ring_free(r);
}

static void test_a_reader_that_was_overtaken_by_drops_finds_its_place(void **state UNUSED)
{
    hk_ring *r = hk_ring_new(4);
    void *out[4];
    assert_true(hk_ring_push(r, number(1)));
    assert_int_equal(hk_ring_pop(r, out, 4), 1); /* the reader's copy of the tail is now 1 */
    for (uintptr_t i = 2; i < 100; i++) {
        if (!hk_ring_push(r, number(i))) {
            assert_non_null(hk_ring_drop_oldest(r));
            assert_true(hk_ring_push(r, number(i)));
        }
    }
    assert_int_equal(hk_ring_pop(r, out, 4), 4);
    assert_ptr_equal(out[0], number(96));
    assert_ptr_equal(out[3], number(99));
    hk_ring_free(r);
}

/* ---- two threads ------------------------------------------------------------------------------
 */

enum { ITEMS = 300000 };

typedef struct stress {
    hk_ring *ring;
    hk_mark done;         /* the producer has pushed its last */
    uint8_t seen[ITEMS];  /* by the consumer */
    size_t disorder;      /* out of order at the consumer */
    uint8_t drops[ITEMS]; /* by the producer */
} stress;

static void *consume(void *arg)
{
    stress *s = arg;
    void *out[17];
    uintptr_t last = 0;
    for (;;) {
        bool done = hk_mark_get(&s->done) != 0;
        size_t n = hk_ring_pop(s->ring, out, HK_COUNTOF(out));
        for (size_t i = 0; i < n; i++) {
            uintptr_t v = (uintptr_t)out[i];
            s->disorder += v <= last;
            last = v;
            s->seen[v - 1]++;
        }
        if (!n && done)
            return NULL;
        if (!n)
            sched_yield();
    }
}

static stress *stress_new(size_t capacity, pthread_t *ret)
{
    stress *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->ring = hk_ring_new(capacity);
    assert_int_equal(pthread_create(ret, NULL, consume, s), 0);
    return s;
}

static void stress_end(stress *s, pthread_t consumer)
{
    hk_mark_set(&s->done, 1);
    pthread_join(consumer, NULL);
    assert_int_equal(s->disorder, 0);
    for (size_t i = 0; i < ITEMS; i++)
        if (s->seen[i] + s->drops[i] != 1)
            fail_msg("item %zu: seen %u times, dropped %u times", i + 1, s->seen[i], s->drops[i]);
    hk_ring_free(s->ring);
    free(s);
}

static void test_two_threads_pass_everything_once_and_in_order(void **state UNUSED)
{
    pthread_t consumer;
    stress *s = stress_new(64, &consumer);
    for (uintptr_t i = 1; i <= ITEMS; i++)
        while (!hk_ring_push(s->ring, number(i)))
            sched_yield();
    stress_end(s, consumer);
}

static void test_dropping_under_a_reader_loses_and_doubles_nothing_else(void **state UNUSED)
{
    static const size_t capacities[] = {2, 16, 256};
    for (size_t c = 0; c < HK_COUNTOF(capacities); c++) {
        pthread_t consumer;
        stress *s = stress_new(capacities[c], &consumer);
        for (uintptr_t i = 1; i <= ITEMS; i++) {
            while (!hk_ring_push(s->ring, number(i))) {
                void *oldest = hk_ring_drop_oldest(s->ring);
                if (oldest)
                    s->drops[(uintptr_t)oldest - 1]++;
            }
            if (i % 1024 == 0)
                sched_yield(); /* lets the reader in, also on one core */
        }
        stress_end(s, consumer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_pushed_comes_out_in_order),
        cmocka_unit_test(test_the_capacity_is_the_next_power_of_two),
        cmocka_unit_test(test_a_full_ring_refuses_and_an_empty_one_gives_nothing),
        cmocka_unit_test(test_dropping_takes_the_oldest_and_makes_room),
        cmocka_unit_test(test_a_reader_that_was_overtaken_by_drops_finds_its_place),
        cmocka_unit_test(test_two_threads_pass_everything_once_and_in_order),
        cmocka_unit_test(test_dropping_under_a_reader_loses_and_doubles_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
