/* Promises of the conversions: exact or refused, the same in every locale, and doubles that read
 * back the same. */
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static hk_json_slice number(const char *text)
{
    hk_json_slice root;
    assert_int_equal(hk_json_check(text, strlen(text), NULL, &root, NULL), HARK_OK);
    return root;
}

static void assert_int(const char *text, int64_t want)
{
    int64_t value = 0;
    assert_int_equal(hk_json_int64(number(text), &value), HARK_OK);
    assert_true(value == want);
}

static void assert_no_int(const char *text)
{
    int64_t value = 77;
    assert_int_equal(hk_json_int64(number(text), &value), HARK_ESCHEMA);
    assert_int_equal(value, 77);
}

static void assert_uint(const char *text, uint64_t want)
{
    uint64_t value = 0;
    assert_int_equal(hk_json_uint64(number(text), &value), HARK_OK);
    assert_true(value == want);
}

static void assert_no_uint(const char *text)
{
    uint64_t value = 77;
    assert_int_equal(hk_json_uint64(number(text), &value), HARK_ESCHEMA);
    assert_int_equal(value, 77);
}

static void assert_double(const char *text, double want)
{
    double value = -1;
    assert_int_equal(hk_json_double(number(text), &value), HARK_OK);
    if (memcmp(&value, &want, sizeof(value)) != 0)
        fail_msg("%s: expected %a, came %a", text, want, value);
}

static void test_integers_are_exact_to_their_last_digit(void **state)
{
    (void)state;
    assert_int("9007199254740993", INT64_C(9007199254740993)); /* 2^53 + 1 */
    assert_int("9223372036854775807", INT64_MAX);
    assert_int("-9223372036854775808", INT64_MIN);
    assert_uint("18446744073709551615", UINT64_MAX);
    assert_int("0", 0);
    assert_int("-0", 0);
    assert_uint("-0", 0);
}

static void test_integers_beyond_their_type_are_refused_not_wrapped(void **state)
{
    (void)state;
    assert_no_int("9223372036854775808");
    assert_no_int("-9223372036854775809");
    assert_no_int("100000000000000000000000000");
    assert_no_int("1e19");
    assert_no_int("1e1000000000000000000000000000");
    assert_no_uint("18446744073709551616");
    assert_no_uint("99999999999999999999");
    assert_no_uint("-1");
    assert_no_uint("1e20");
}

static void test_an_integer_may_be_written_in_any_way(void **state)
{
    (void)state;
    assert_int("5.0", 5);
    assert_int("5.000e0", 5);
    assert_int("50e-1", 5);
    assert_int("0.5E+1", 5);
    assert_int("-1e3", -1000);
    assert_int("9223372036854775807.0", INT64_MAX);
    assert_int("-922337203685477580.80e1", INT64_MIN);
    assert_int("0.000e-99999999999999999999", 0);
    assert_int("1000000000000000000000e-21", 1);
    assert_uint("1.8446744073709551615e19", UINT64_MAX);
}

static void test_fractions_are_no_integers(void **state)
{
    (void)state;
    assert_no_int("5.5");
    assert_no_int("5e-1");
    assert_no_int("1e-400");
    assert_no_int("9007199254740993.0000000000000000000000001");
    assert_no_uint("0.1");
}

static void test_what_is_no_number_does_not_convert(void **state)
{
    double d;
    (void)state;
    assert_no_int("\"5\"");
    assert_no_uint("true");
    assert_int_equal(hk_json_double(number("null"), &d), HARK_ESCHEMA);
}

static void test_doubles_are_the_nearest_ones(void **state)
{
    (void)state;
    assert_double("0", 0.0);
    assert_double("-0", -0.0);
    assert_double("-0.0e5", -0.0);
    assert_double("0.1", 0.1);
    assert_double("123.456", 123.456);
    assert_double("9007199254740993", 9007199254740992.0); /* half to even */
    assert_double("9007199254740992.9999999999", 9007199254740992.0 + 0.0);
    assert_double("9007199254740993.0000000000000001", 9007199254740994.0);
    assert_double("1.7976931348623157e308", DBL_MAX);
    assert_double("2.2250738585072011e-308", 2.2250738585072011e-308);
    assert_double("4.9e-324", 4.9e-324);
    assert_double("1e-400", 0.0);
    assert_double("-1e-400", -0.0);
}

static void test_thousands_of_digits_still_decide(void **state)
{
    hk_buf b = {0};
    (void)state;
    hk_buf_adds(&b, "9007199254740993."); /* a tie, but for one digit far away */
    for (int i = 0; i < 5000; i++)
        hk_buf_addc(&b, '0');
    assert_double(b.data, 9007199254740992.0);
    hk_buf_addc(&b, '1');
    assert_double(b.data, 9007199254740994.0);
    hk_buf_free(&b);
}

static void test_a_number_beyond_double_is_an_error(void **state)
{
    static const char *const texts[] = {"1e400", "-1e400", "1.8e308", "1e99999999999999999999999"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(texts); i++) {
        double value = 77;
        assert_int_equal(hk_json_double(number(texts[i]), &value), HARK_ESCHEMA);
        assert_true(value == 77);
    }
}

static void assert_written(double value, const char *want)
{
    hk_buf b = {0};
    assert_true(hk_json_add_double(&b, value));
    assert_string_equal(b.data, want);
    hk_buf_free(&b);
}

static void test_doubles_are_written_with_the_fewest_digits(void **state)
{
    (void)state;
    assert_written(0.0, "0");
    assert_written(-0.0, "-0");
    assert_written(5, "5");
    assert_written(-1.5, "-1.5");
    assert_written(0.1, "0.1");
    assert_written(0.1 + 0.2, "0.30000000000000004");
    assert_written(100, "100");
    assert_written(1e20, "100000000000000000000");
    assert_written(1e21, "1e+21");
    assert_written(1.25e-7, "1.25e-7");
    assert_written(0.000001, "0.000001");
    assert_written(123456789.125, "123456789.125");
    assert_written(5e-324, "5e-324");
    assert_written(DBL_MAX, "1.7976931348623157e+308");
    assert_written(9007199254740993.0, "9007199254740992");
}

static void test_nan_and_infinity_are_not_written(void **state)
{
    hk_buf b = {0};
    (void)state;
    assert_false(hk_json_add_double(&b, (double)NAN));
    assert_false(hk_json_add_double(&b, (double)INFINITY));
    assert_false(hk_json_add_double(&b, -(double)INFINITY));
    assert_int_equal(b.len, 0);
}

static double random_double(uint64_t *seed)
{
    double value;
    do {
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t bits = *seed ^ (*seed >> 29);
        memcpy(&value, &bits, sizeof(value));
    } while (!isfinite(value));
    return value;
}

static void test_every_double_reads_back_the_same(void **state)
{
    uint64_t seed = 42;
    hk_buf b = {0};
    (void)state;
    for (int i = 0; i < 20000; i++) {
        double value = random_double(&seed);
        hk_buf_clear(&b);
        assert_true(hk_json_add_double(&b, value));
        assert_double(b.data, value);
        assert_true(strtod(b.data, NULL) == value);
    }
    hk_buf_free(&b);
}

static void assert_decimal(int64_t units, int digits, const char *want)
{
    hk_buf b = {0};
    int64_t back = 77;
    hk_json_add_decimal(&b, units, digits);
    assert_string_equal(b.data, want);
    assert_int_equal(hk_json_decimal(number(b.data), digits, &back), HARK_OK);
    assert_true(back == units);
    hk_buf_free(&b);
}

static void test_decimals_are_written_with_all_their_digits(void **state)
{
    (void)state;
    assert_decimal(0, 0, "0");
    assert_decimal(0, 2, "0.00");
    assert_decimal(-5, 2, "-0.05");
    assert_decimal(1230, 2, "12.30");
    assert_decimal(1230, 0, "1230");
    assert_decimal(-1, 18, "-0.000000000000000001");
    assert_decimal(INT64_MAX, 18, "9.223372036854775807");
    assert_decimal(INT64_MIN, 18, "-9.223372036854775808");
    assert_decimal(INT64_MIN, 0, "-9223372036854775808");
}

static void test_every_decimal_reads_back_the_same(void **state)
{
    uint64_t seed = 7;
    hk_buf b = {0};
    (void)state;
    for (int i = 0; i < 20000; i++) {
        int64_t units, back = 0;
        int digits = i % 19;
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t bits = seed >> (i % 60);
        memcpy(&units, &bits, sizeof(units));
        hk_buf_clear(&b);
        hk_json_add_decimal(&b, units, digits);
        hk_buf_adds(&b, i % 2 ? "0" : "e0");
        if (i % 2 && digits == 0)
            continue; /* that was another integer */
        assert_int_equal(hk_json_decimal(number(b.data), digits, &back), HARK_OK);
        assert_true(back == units);
    }
    hk_buf_free(&b);
}

static void test_a_decimal_that_is_not_exact_is_no_decimal(void **state)
{
    static const char *const texts[] = {
        "0.001",           "1e-3", "92233720368547758.08", "1e17", "-92233720368547758.09",
        "1e1000000000000", "true"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(texts); i++) {
        int64_t value = 77;
        assert_int_equal(hk_json_decimal(number(texts[i]), 2, &value), HARK_ESCHEMA);
        assert_int_equal(value, 77);
    }
}

static void test_the_locale_changes_nothing(void **state)
{
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ps_AF.UTF-8", "de_DE"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(names); i++) {
        if (setlocale(LC_ALL, names[i]) == NULL)
            continue;
        assert_written(123.456789012345678, "123.45678901234568");
        assert_double("123.45678901234567890", 123.45678901234567890);
    }
    setlocale(LC_ALL, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_integers_are_exact_to_their_last_digit),
        cmocka_unit_test(test_integers_beyond_their_type_are_refused_not_wrapped),
        cmocka_unit_test(test_an_integer_may_be_written_in_any_way),
        cmocka_unit_test(test_fractions_are_no_integers),
        cmocka_unit_test(test_what_is_no_number_does_not_convert),
        cmocka_unit_test(test_doubles_are_the_nearest_ones),
        cmocka_unit_test(test_thousands_of_digits_still_decide),
        cmocka_unit_test(test_a_number_beyond_double_is_an_error),
        cmocka_unit_test(test_doubles_are_written_with_the_fewest_digits),
        cmocka_unit_test(test_nan_and_infinity_are_not_written),
        cmocka_unit_test(test_every_double_reads_back_the_same),
        cmocka_unit_test(test_decimals_are_written_with_all_their_digits),
        cmocka_unit_test(test_every_decimal_reads_back_the_same),
        cmocka_unit_test(test_a_decimal_that_is_not_exact_is_no_decimal),
        cmocka_unit_test(test_the_locale_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
