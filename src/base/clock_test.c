/* Tests of the clock and of RFC 3339 in both directions. */
#include "base/base.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

#define NS INT64_C(1000000000)

static bool parse(const char *s, int64_t *ret)
{
    return hk_rfc3339_parse(s, strlen(s), ret);
}

static void check_parse(const char *s, int64_t expected)
{
    int64_t t = 42;
    if (!parse(s, &t))
        fail_msg("'%s' was refused", s);
    if (t != expected)
        fail_msg("'%s' gave %lld, expected %lld", s, (long long)t, (long long)expected);
}

static void test_the_clocks_run_forward(void **state UNUSED)
{
    int64_t a = hk_mono_ns(), b = hk_mono_ns();
    assert_true(b >= a);
    assert_true(hk_wall_ns() > INT64_C(1700000000) * NS);
    assert_true(hk_mono_ms() >= a / 1000000);
}

static void test_known_instants_are_read(void **state UNUSED)
{
    check_parse("1970-01-01T00:00:00Z", 0);
    check_parse("1970-01-01t00:00:00z", 0);
    check_parse("1969-12-31T23:59:59.999999999Z", -1);
    check_parse("2001-09-09T01:46:40Z", INT64_C(1000000000) * NS);
    check_parse("2038-01-19T03:14:08Z", INT64_C(2147483648) * NS);
    check_parse("1985-04-12T23:20:50.52Z", INT64_C(482196050) * NS + 520000000);
    check_parse("1996-12-19T16:39:57-08:00", INT64_C(851042397) * NS);
    check_parse("1937-01-01T12:00:27.87+00:20", INT64_C(-1041337173) * NS + 870000000);
    check_parse("2018-04-05T17:31:00Z", INT64_C(1522949460) * NS);
}

static void test_offsets_are_taken_into_account(void **state UNUSED)
{
    check_parse("1970-01-01T00:00:00+00:00", 0);
    check_parse("1970-01-01T00:00:00-00:00", 0);
    check_parse("1970-01-01T05:30:00+05:30", 0);
    check_parse("1969-12-31T16:00:00-08:00", 0);
    check_parse("1970-01-01T23:59:00+23:59", 0);
    check_parse("1970-01-01T00:00:00.5+01:00", -3600 * NS + 500000000);
}

static void test_fractions_count_to_nine_digits(void **state UNUSED)
{
    check_parse("1970-01-01T00:00:00.1Z", 100000000);
    check_parse("1970-01-01T00:00:00.000000001Z", 1);
    check_parse("1970-01-01T00:00:00.123456789Z", 123456789);
    check_parse("1970-01-01T00:00:00.1234567899999999999999999999Z", 123456789);
}

static void test_leap_years_have_a_29th_of_february(void **state UNUSED)
{
    check_parse("2000-02-29T00:00:00Z", INT64_C(951782400) * NS);
    check_parse("2024-02-29T00:00:00Z", INT64_C(1709164800) * NS);
    check_parse("2100-03-01T00:00:00Z", INT64_C(4107542400) * NS);
    int64_t t;
    assert_false(parse("2023-02-29T00:00:00Z", &t));
    assert_false(parse("1900-02-29T00:00:00Z", &t));
    assert_false(parse("2100-02-29T00:00:00Z", &t));
}

static void test_a_leap_second_is_the_next_second(void **state UNUSED)
{
    check_parse("1990-12-31T23:59:60Z", INT64_C(662688000) * NS);
    check_parse("1990-12-31T15:59:60-08:00", INT64_C(662688000) * NS);
}

static void test_what_is_not_rfc_3339_is_refused(void **state UNUSED)
{
    static const char *const bad[] = {
        "",
        "now",
        "2026-01-31",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        " 2026-01-31T12:00:00Z",
        "2026-01-31T12:00:00Z ",
        "2026-01-31T12:00:00ZZ",
        "2026-01-31T12:00:00.Z",
        "2026-01-31T12:00:00,5Z",
        "2026-01-31T12:00:00.5",
        "2026-01-31T12:00:00.5.5Z",
        "2026-01-31T24:00:00Z",
        "2026-01-31T12:60:00Z",
        "2026-01-31T12:00:61Z",
        "2026-00-31T12:00:00Z",
        "2026-13-31T12:00:00Z",
        "2026-01-00T12:00:00Z",
        "2026-01-32T12:00:00Z",
        "2026-04-31T12:00:00Z",
        "2026-1-31T12:00:00.0Z",
        "26-01-31T12:00:00.00Z",
        "+2026-01-31T12:00:00Z",
        "-026-01-31T12:00:00Z",
        "2026-01-31T12:00:00+01",
        "2026-01-31T12:00:00+0100",
        "2026-01-31T12:00:00+01:0",
        "2026-01-31T12:00:00+01:000",
        "2026-01-31T12:00:00+24:00",
        "2026-01-31T12:00:00+01:60",
        "2026-01-31T12:00:00 +01:00",
        "2026-01-31T12:00:00GMT",
        "2026-01-31T12:00:00+1a:00",
        "2026/01/31T12:00:00Z",
        "2026-01-31T12-00-00Z",
        "20260131T120000.0000Z",
        "2026-01-31T1 :00:00Z",
        "\xd9\xa2\xd9\xa0\xd9\xa2\xd9\xa6-01-31T12:00:00Z",
    };
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        int64_t t = 42;
        if (parse(bad[i], &t))
            fail_msg("'%s' was accepted", bad[i]);
        assert_int_equal(t, 42);
    }
    int64_t t;
    assert_false(hk_rfc3339_parse("2026-01-31T12:00:00\0Z", 21, &t));
}

static void test_years_outside_of_64_bits_of_nanoseconds_are_refused(void **state UNUSED)
{
    int64_t t;
    assert_true(parse("1678-01-01T00:00:00+23:59", &t));
    assert_true(parse("2261-12-31T23:59:60-23:59", &t));
    assert_false(parse("1677-12-31T23:59:59Z", &t));
    assert_false(parse("2262-01-01T00:00:00Z", &t));
    assert_false(parse("0000-01-01T00:00:00Z", &t));
    assert_false(parse("0001-01-01T00:00:00Z", &t));
    assert_false(parse("9999-12-31T23:59:59Z", &t));
}

static void check_exact(const char *s, hk_time_fault fault, int64_t expected)
{
    int64_t t = 42;
    hk_time_fault got = hk_rfc3339_parse_exact(s, strlen(s), &t);
    if (got != fault || t != (fault == HK_TIME_OK ? expected : 42))
        fail_msg("'%s' gave fault %d and %lld", s, (int)got, (long long)t);
}

static void test_exact_reading_goes_to_the_ends_of_64_bits_and_cuts_nothing(void **state UNUSED)
{
    check_exact("1677-09-21T00:12:43.145224192Z", HK_TIME_OK, INT64_MIN);
    check_exact("2262-04-11T23:47:16.854775807Z", HK_TIME_OK, INT64_MAX);
    check_exact("1677-09-21T00:12:43.145224191Z", HK_TIME_RANGE, 0);
    check_exact("2262-04-11T23:47:16.854775808Z", HK_TIME_RANGE, 0);
    check_exact("0000-01-01T00:00:00+23:59", HK_TIME_RANGE, 0);
    check_exact("9999-12-31T23:59:60-23:59", HK_TIME_SYNTAX, 0);
    check_exact("9999-12-31T23:59:59-23:59", HK_TIME_RANGE, 0);
    check_exact("1969-12-31T23:59:59.999999999Z", HK_TIME_OK, -1);
    check_exact("1970-01-01T00:00:00.000000001Z", HK_TIME_OK, 1);
    check_exact("1970-01-01T00:00:00.0000000010Z", HK_TIME_FINE, 0);
    check_exact("2016-12-31T23:59:60Z", HK_TIME_OK, INT64_C(1483228800) * NS);
    check_exact("2016-12-31T12:59:60Z", HK_TIME_SYNTAX, 0);
    check_exact("2016-12-31T12:00:61Z", HK_TIME_SYNTAX, 0);
}

static void test_every_day_agrees_with_the_c_library(void **state UNUSED)
{
    int64_t first, last;
    assert_true(parse("1678-01-01T00:00:00Z", &first));
    assert_true(parse("2261-12-31T00:00:00Z", &last));
    for (int64_t t = first / NS; t <= last / NS; t += 86400) {
        time_t seconds = (time_t)t;
        struct tm tm;
        char text[64];
        gmtime_r(&seconds, &tm);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
        check_parse(text, t * NS);
    }
}

static void check_format(int64_t t, int digits, const char *expected)
{
    char text[HK_RFC3339_MAX];
    assert_int_equal(hk_rfc3339_format(t, digits, text), strlen(expected));
    assert_string_equal(text, expected);
}

static void test_times_are_written_with_the_digits_asked_for(void **state UNUSED)
{
    check_format(0, 0, "1970-01-01T00:00:00Z");
    check_format(123456789, 0, "1970-01-01T00:00:00Z");
    check_format(123456789, 3, "1970-01-01T00:00:00.123Z");
    check_format(123456789, 6, "1970-01-01T00:00:00.123456Z");
    check_format(123456789, 9, "1970-01-01T00:00:00.123456789Z");
    check_format(5, 9, "1970-01-01T00:00:00.000000005Z");
    check_format(-1, 9, "1969-12-31T23:59:59.999999999Z");
    check_format(INT64_C(1795413657) * NS + 123456789, 9, "2026-11-23T06:00:57.123456789Z");
    check_format(INT64_MIN, 9, "1677-09-21T00:12:43.145224192Z");
    check_format(INT64_MAX, 9, "2262-04-11T23:47:16.854775807Z");
}

static void test_any_time_survives_a_round_trip(void **state UNUSED)
{
    uint64_t seed = 20260131;
    int64_t first, last;
    assert_true(parse("1678-01-01T00:00:00Z", &first));
    assert_true(parse("2261-12-31T23:59:59Z", &last));
    for (int i = 0; i < 200000; i++) {
        char text[HK_RFC3339_MAX];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t high = seed;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t span = (uint64_t)last - (uint64_t)first;
        int64_t t = (int64_t)((uint64_t)first + (high ^ seed >> 32) % span);
        size_t n = hk_rfc3339_format(t, 9, text);
        assert_int_equal(n, 30);
        check_parse(text, t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_clocks_run_forward),
        cmocka_unit_test(test_known_instants_are_read),
        cmocka_unit_test(test_offsets_are_taken_into_account),
        cmocka_unit_test(test_fractions_count_to_nine_digits),
        cmocka_unit_test(test_leap_years_have_a_29th_of_february),
        cmocka_unit_test(test_a_leap_second_is_the_next_second),
        cmocka_unit_test(test_what_is_not_rfc_3339_is_refused),
        cmocka_unit_test(test_years_outside_of_64_bits_of_nanoseconds_are_refused),
        cmocka_unit_test(test_exact_reading_goes_to_the_ends_of_64_bits_and_cuts_nothing),
        cmocka_unit_test(test_every_day_agrees_with_the_c_library),
        cmocka_unit_test(test_times_are_written_with_the_digits_asked_for),
        cmocka_unit_test(test_any_time_survives_a_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
