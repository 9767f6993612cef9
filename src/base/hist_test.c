/* Tests of the histogram: its bounded error, odd values, and reading beside the writer. */
#include "base/base.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static hk_hist *hist_new(void)
{
    hk_hist *h = calloc(1, sizeof *h);
    assert_non_null(h);
    return h;
}

static void test_an_empty_histogram_reads_as_nothing(void **state UNUSED)
{
    hk_hist *h = hist_new();
    hk_quantiles q, zero;
    memset(&q, 0xff, sizeof q);
    memset(&zero, 0, sizeof zero);
    hk_hist_read(h, &q);
    assert_memory_equal(&q, &zero, sizeof q);
    free(h);
}

static void test_one_value_is_every_quantile(void **state UNUSED)
{
    static const int64_t values[] = {0,        1, 15, 16, 17, 1000, 123456789, INT64_C(1) << 42,
                                     INT64_MAX};
    for (size_t i = 0; i < HK_COUNTOF(values); i++) {
        hk_hist *h = hist_new();
        hk_quantiles q;
        hk_hist_add(h, values[i]);
        hk_hist_read(h, &q);
        assert_int_equal(q.count, 1);
        assert_int_equal(q.p50, values[i]);
        assert_int_equal(q.p999, values[i]);
        assert_int_equal(q.max, values[i]);
        assert_int_equal(q.mean, values[i]);
        free(h);
    }
}

/* The median of three equal values and a huge one shows the bucket's own upper bound. */
static int64_t bound_of(int64_t value)
{
    hk_hist *h = hist_new();
    hk_quantiles q;
    for (int i = 0; i < 3; i++)
        hk_hist_add(h, value);
    hk_hist_add(h, INT64_MAX);
    hk_hist_read(h, &q);
    free(h);
    return q.p50;
}

static void check_error(int64_t value)
{
    int64_t bound = bound_of(value);
    if (bound < value || bound - value > value / 16)
        fail_msg("%lld is shown as %lld", (long long)value, (long long)bound);
}

static void test_a_quantile_is_an_upper_bound_within_a_sixteenth(void **state UNUSED)
{
    for (int64_t v = 0; v < 5000; v++)
        check_error(v);
    for (int bits = 12; bits < 42; bits++)
        for (int64_t step = 0; step < 16; step++) {
            int64_t first = (INT64_C(1) << bits) + step * (INT64_C(1) << (bits - 4));
            check_error(first);
            check_error(first + 1);
            check_error(first - 1);
        }
}

static void test_quantiles_have_their_share_below_them(void **state UNUSED)
{
    hk_hist *h = hist_new();
    hk_quantiles q;
    for (int64_t i = 1000; i >= 1; i--)
        hk_hist_add(h, i * 1000);
    hk_hist_read(h, &q);
    assert_int_equal(q.count, 1000);
    assert_in_range(q.p50, 500000, 500000 + 500000 / 16);
    assert_in_range(q.p90, 900000, 900000 + 900000 / 16);
    assert_in_range(q.p99, 990000, 1000000);
    assert_in_range(q.p999, 999000, 1000000);
    assert_int_equal(q.max, 1000000);
    assert_int_equal(q.mean, 500500);
    free(h);
}

static void
test_a_single_slow_one_in_a_thousand_shows_in_the_last_quantile_only(void **state UNUSED)
{
    hk_hist *h = hist_new();
    hk_quantiles q;
    for (int i = 0; i < 998; i++)
        hk_hist_add(h, 10);
    hk_hist_add(h, 1000000);
    hk_hist_add(h, 1000000);
    hk_hist_read(h, &q);
    assert_int_equal(q.p99, 10);
    assert_int_equal(q.p999, 1000000);
    free(h);
}

static void test_negative_durations_count_as_none(void **state UNUSED)
{
    hk_hist *h = hist_new();
    hk_quantiles q;
    hk_hist_add(h, -1);
    hk_hist_add(h, INT64_MIN);
    hk_hist_read(h, &q);
    assert_int_equal(q.count, 2);
    assert_int_equal(q.p50, 0);
    assert_int_equal(q.max, 0);
    assert_int_equal(q.mean, 0);
    free(h);
}

static void test_durations_beyond_the_last_bucket_do_not_wrap_the_mean(void **state UNUSED)
{
    hk_hist *h = hist_new();
    hk_quantiles q;
    for (int i = 0; i < 1000; i++)
        hk_hist_add(h, INT64_MAX - i);
    hk_hist_read(h, &q);
    assert_int_equal(q.count, 1000);
    assert_int_equal(q.p50, INT64_MAX);
    assert_int_equal(q.max, INT64_MAX);
    assert_true(q.mean > INT64_MAX / 2);
    free(h);
}

enum { ADDED = 200000 };

static void *add_many(void *arg)
{
    for (int64_t i = 0; i < ADDED; i++)
        hk_hist_add(arg, 100 + i % 50);
    return NULL;
}

static void test_a_reader_beside_the_writer_sees_only_what_was_added(void **state UNUSED)
{
    hk_hist *h = hist_new();
    hk_quantiles q = {0};
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, add_many, h), 0);
    for (uint64_t last = 0; last < ADDED; last = q.count) {
        hk_hist_read(h, &q);
        assert_true(q.count >= last && q.count <= ADDED);
        assert_true(q.count == 0 || (q.p50 >= 100 && q.p999 <= 159));
    }
    pthread_join(writer, NULL);
    hk_hist_read(h, &q);
    assert_int_equal(q.max, 149);
    assert_in_range(q.mean, 124, 125);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_histogram_reads_as_nothing),
        cmocka_unit_test(test_one_value_is_every_quantile),
        cmocka_unit_test(test_a_quantile_is_an_upper_bound_within_a_sixteenth),
        cmocka_unit_test(test_quantiles_have_their_share_below_them),
        cmocka_unit_test(test_a_single_slow_one_in_a_thousand_shows_in_the_last_quantile_only),
        cmocka_unit_test(test_negative_durations_count_as_none),
        cmocka_unit_test(test_durations_beyond_the_last_bucket_do_not_wrap_the_mean),
        cmocka_unit_test(test_a_reader_beside_the_writer_sees_only_what_was_added),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
