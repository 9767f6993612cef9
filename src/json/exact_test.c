/* Promises of times, bytes and decimals: what is read is exact or refused with path and words, and
 * what is written reads back the same. */
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS INT64_C(1000000000)

struct bill {
    int64_t at;
    bool has_at;
    int64_t due;
    unsigned char *seal;
    size_t seal_len;
    void *blob;
    size_t blob_len;
    int64_t total;
    bool has_total;
    int64_t rate;
    bool has_rate;
    int64_t fine;
    bool has_fine;
    int64_t units;
    bool has_units;
};

HARK_JSON_TABLE(
    bill_json, struct bill, HARK_JSON_TIME(struct bill, at, HARK_JSON_HAS(struct bill, has_at)),
    HARK_JSON_TIME(struct bill, due, HARK_JSON_RANGE(1600000000 * NS, 1700000000 * NS + 500)),
    HARK_JSON_BYTES(struct bill, seal, seal_len, .min_len = 2, .max_len = 4),
    HARK_JSON_BYTES(struct bill, blob, blob_len),
    HARK_JSON_DECIMAL(struct bill, total, 2, HARK_JSON_HAS(struct bill, has_total),
                      HARK_JSON_RANGE(-100, 99999)),
    HARK_JSON_DECIMAL(struct bill, rate, 4, .as_text = true, HARK_JSON_HAS(struct bill, has_rate)),
    HARK_JSON_DECIMAL(struct bill, fine, 18, HARK_JSON_HAS(struct bill, has_fine)),
    HARK_JSON_DECIMAL(struct bill, units, 0, HARK_JSON_HAS(struct bill, has_units)));

static hark_json_errors errors;

static struct bill decoded(const char *text)
{
    struct bill b = {0};
    if (hark_json_decode(&bill_json, text, strlen(text), &b, &errors) != HARK_OK)
        fail_msg("%s: %s %s", text, errors.list[0].path, errors.list[0].text);
    return b;
}

static void refused(const char *json, const char *path, const char *rule, const char *text)
{
    struct bill b = {0}, zero = {0};
    hark_err err = hark_json_decode(&bill_json, json, strlen(json), &b, &errors);
    if (err != HARK_ESCHEMA || errors.count != 1 || strcmp(errors.list[0].path, path) != 0 ||
        strcmp(errors.list[0].rule, rule) != 0 || strcmp(errors.list[0].text, text) != 0)
        fail_msg("%s: %s, %zu faults: %s [%s] %s", json, hark_err_name(err), errors.count,
                 errors.list[0].path, errors.list[0].rule, errors.list[0].text);
    assert_memory_equal(&b, &zero, sizeof(b));
}

static void written(const struct bill *b, const char *want)
{
    char *text;
    hark_errinfo ei = {0};
    if (hark_json_encode(&bill_json, b, &text, NULL, &ei) != HARK_OK)
        fail_msg("%s", ei.text);
    assert_string_equal(text, want);
    free(text);
}

static void not_written(const struct bill *b, const char *want)
{
    char *text;
    hark_errinfo ei = {0};
    assert_int_equal(hark_json_encode(&bill_json, b, &text, NULL, &ei), HARK_ESCHEMA);
    assert_string_equal(ei.text, want);
}

/* ---- times ----------------------------------------------------------------------------------- */

/* In `text` decodes to ns, which is written as `again`. */
static void check_time(const char *text, int64_t ns, const char *again)
{
    char json[200], want[200];
    snprintf(json, sizeof(json), "{\"at\":\"%s\"}", text);
    snprintf(want, sizeof(want), "{\"at\":\"%s\"}", again);
    struct bill b = decoded(json);
    assert_true(b.has_at);
    if (b.at != ns)
        fail_msg("%s: %lld, expected %lld", text, (long long)b.at, (long long)ns);
    written(&b, want);
    struct bill back = decoded(want);
    assert_true(back.at == ns);
}

static void test_a_time_of_any_offset_is_read_and_written_in_utc(void **state)
{
    (void)state;
    check_time("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
    check_time("1996-12-19t16:39:57-08:00", 851042397 * NS, "1996-12-20T00:39:57Z");
    check_time("1937-01-01T12:00:27.87+00:20", -1041337173 * NS + 870000000,
               "1937-01-01T11:40:27.870Z");
    check_time("1970-01-01T00:00:00z", 0, "1970-01-01T00:00:00Z");
    check_time("1970-01-01T00:00:0\\u0030\\u005a", 0, "1970-01-01T00:00:00Z");
}

static void test_a_time_is_written_with_the_fewest_digits_that_are_exact(void **state)
{
    (void)state;
    check_time("1970-01-01T00:00:00.100Z", 100000000, "1970-01-01T00:00:00.100Z");
    check_time("1970-01-01T00:00:00.0001Z", 100000, "1970-01-01T00:00:00.000100Z");
    check_time("1970-01-01T00:00:00.000000100Z", 100, "1970-01-01T00:00:00.000000100Z");
    check_time("1969-12-31T23:59:59.999999999Z", -1, "1969-12-31T23:59:59.999999999Z");
    check_time("1969-12-31T23:59:59.5Z", -500000000, "1969-12-31T23:59:59.500Z");
}

static void test_times_go_to_the_ends_of_64_bits(void **state)
{
    (void)state;
    check_time("1677-09-21T00:12:43.145224192Z", INT64_MIN, "1677-09-21T00:12:43.145224192Z");
    check_time("2262-04-11T23:47:16.854775807Z", INT64_MAX, "2262-04-11T23:47:16.854775807Z");
    check_time("2262-04-12T23:46:16.854775807+23:59", INT64_MAX, "2262-04-11T23:47:16.854775807Z");
}

static void test_a_time_that_64_bits_do_not_hold_is_refused(void **state)
{
    static const char *const far[] = {
        "1677-09-21T00:12:43.145224191Z", "2262-04-11T23:47:16.854775808Z",
        "1677-09-21T00:12:42Z",           "2262-04-11T23:47:17Z",
        "0000-01-01T00:00:00+23:59",      "9999-12-31T23:59:59.999999999-23:59"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(far); i++) {
        char json[100];
        snprintf(json, sizeof(json), "{\"at\":\"%s\"}", far[i]);
        refused(json, "$.at", "range",
                "is beyond the years 1677 to 2262 that can be kept, expected a time of RFC 3339 "
                "like 2026-01-31T12:00:00Z");
    }
}

static void test_a_leap_second_is_the_first_of_the_next_day(void **state)
{
    (void)state;
    check_time("1990-12-31T23:59:60Z", 662688000 * NS, "1991-01-01T00:00:00Z");
    check_time("1990-12-31T15:59:60.25-08:00", 662688000 * NS + 250000000,
               "1991-01-01T00:00:00.250Z");
    refused("{\"at\":\"1990-12-31T23:58:60Z\"}", "$.at", "format",
            "is \"1990-12-31T23:58:60Z\", expected a time of RFC 3339 like 2026-01-31T12:00:00Z");
    refused("{\"at\":\"1990-12-31T23:59:60-08:00\"}", "$.at", "format",
            "is \"1990-12-31T23:59:60-08:00\", expected a time of RFC 3339 like "
            "2026-01-31T12:00:00Z");
}

static void test_what_is_no_time_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "now",
                                      "2026-02-29T00:00:00Z",
                                      "2026-01-31 12:00:00Z",
                                      "2026-01-31T12:00:00",
                                      "2026-01-31T12:00:00.Z"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        char json[100], want[200];
        snprintf(json, sizeof(json), "{\"at\":\"%s\"}", bad[i]);
        snprintf(want, sizeof(want),
                 "is \"%s\", expected a time of RFC 3339 like 2026-01-31T12:00:00Z", bad[i]);
        refused(json, "$.at", "format", want);
    }
    refused("{\"at\":1769860800}", "$.at", "type",
            "is 1769860800, expected a time of RFC 3339 like 2026-01-31T12:00:00Z");
    refused("{\"at\":\"2026-01-31T12:00:00.1234567890Z\"}", "$.at", "format",
            "has more than 9 digits of a second, expected a time of RFC 3339 like "
            "2026-01-31T12:00:00Z");
}

static void test_the_range_of_a_time_is_kept_both_ways(void **state)
{
    struct bill b = {.due = 1600000000 * NS - 1};
    (void)state;
    refused("{\"due\":\"2023-11-14T22:13:20.000000501Z\"}", "$.due", "range",
            "is \"2023-11-14T22:13:20.000000501Z\", expected a time of RFC 3339 like "
            "2026-01-31T12:00:00Z from 2020-09-13T12:26:40Z to 2023-11-14T22:13:20.000000500Z");
    assert_true(decoded("{\"due\":\"2023-11-14T22:13:20.0000005Z\"}").due == 1700000000 * NS + 500);
    not_written(&b, "$.due is 2020-09-13T12:26:39.999999999Z, expected a time of RFC 3339 like "
                    "2026-01-31T12:00:00Z from 2020-09-13T12:26:40Z to "
                    "2023-11-14T22:13:20.000000500Z");
    b.due = 0; /* not there */
    written(&b, "{}");
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void test_bytes_are_base64(void **state)
{
    struct bill b = decoded("{\"seal\":\"AP8=\",\"blob\":\"+\\/+\\u002f\"}");
    (void)state;
    assert_int_equal(b.seal_len, 2);
    assert_memory_equal(b.seal, "\0\xff", 2);
    assert_int_equal(b.blob_len, 3);
    assert_memory_equal(b.blob, "\xfb\xff\xbf", 3);
    written(&b, "{\"seal\":\"AP8=\",\"blob\":\"+/+/\"}");
    hark_json_free(&bill_json, &b);
    assert_true(b.seal == NULL && b.seal_len == 0 && b.blob == NULL && b.blob_len == 0);
}

static void test_no_bytes_differ_from_bytes_that_are_not_there(void **state)
{
    struct bill b = decoded("{\"blob\":\"\"}");
    (void)state;
    assert_non_null(b.blob);
    assert_int_equal(b.blob_len, 0);
    written(&b, "{\"blob\":\"\"}");
    assert_int_equal(hark_json_decode(&bill_json, "{\"blob\":null}", 13, &b, NULL), HARK_OK);
    assert_true(b.blob == NULL && b.blob_len == 0);
    written(&b, "{}");
}

static void test_bytes_that_are_replaced_are_freed_and_kept_on_failure(void **state)
{
    struct bill b = decoded("{\"blob\":\"AAAA\"}");
    const char *bad = "{\"blob\":\"AQ==\",\"total\":1e9}";
    (void)state;
    void *before = b.blob;
    assert_int_equal(hark_json_decode(&bill_json, bad, strlen(bad), &b, NULL), HARK_ESCHEMA);
    assert_ptr_equal(b.blob, before);
    assert_int_equal(b.blob_len, 3);
    assert_int_equal(hark_json_decode(&bill_json, "{\"blob\":\"AQ==\"}", 15, &b, NULL), HARK_OK);
    assert_int_equal(b.blob_len, 1);
    hark_json_free(&bill_json, &b);
}

static void test_what_is_not_strict_base64_is_refused(void **state)
{
    (void)state;
    refused("{\"blob\":\"AA\"}", "$.blob", "format",
            "is not base64 at character 1, expected a string of base64 with padding");
    refused("{\"blob\":\"AB==\"}", "$.blob", "format",
            "is not base64 at character 1, expected a string of base64 with padding");
    refused("{\"blob\":\"AAAA\\nAAAA\"}", "$.blob", "format",
            "is not base64 at character 4, expected a string of base64 with padding");
    refused("{\"blob\":\"A-_A\"}", "$.blob", "format",
            "is not base64 at character 1, expected a string of base64 with padding");
    refused("{\"blob\":\"\\u0000AAA\"}", "$.blob", "format",
            "is not base64 at character 0, expected a string of base64 with padding");
    refused("{\"blob\":[0]}", "$.blob", "type",
            "is an array, expected a string of base64 with padding");
}

static void test_lengths_of_bytes_are_kept_both_ways(void **state)
{
    struct bill b = {.seal = (unsigned char[]){1, 2, 3, 4, 5}, .seal_len = 5};
    (void)state;
    refused("{\"seal\":\"AA==\"}", "$.seal", "length",
            "has 1 bytes, expected a string of base64 with padding of 2 to 4 bytes");
    refused("{\"seal\":\"AAAAAAA=\"}", "$.seal", "length",
            "has 5 bytes, expected a string of base64 with padding of 2 to 4 bytes");
    not_written(&b, "$.seal has 5 bytes, expected a string of base64 with padding of 2 to 4 bytes");
    b.seal = NULL;
    not_written(&b, "$.seal is NULL and has 5 bytes, expected a string of base64 with padding of 2 "
                    "to 4 bytes");
}

/* ---- decimals -------------------------------------------------------------------------------- */

static void check_total(const char *number, int64_t units, const char *again)
{
    char json[1000], want[100];
    snprintf(json, sizeof(json), "{\"total\":%s}", number);
    snprintf(want, sizeof(want), "{\"total\":%s}", again);
    struct bill b = decoded(json);
    assert_true(b.has_total);
    if (b.total != units)
        fail_msg("%s: %lld, expected %lld", number, (long long)b.total, (long long)units);
    written(&b, want);
}

static void test_a_decimal_is_read_however_it_is_written(void **state)
{
    char zeros[900];
    (void)state;
    check_total("12.3", 1230, "12.30");
    check_total("12.30", 1230, "12.30");
    check_total("12.300000", 1230, "12.30");
    check_total("1.23e1", 1230, "12.30");
    check_total("1230E-2", 1230, "12.30");
    check_total("0.00123e+4", 1230, "12.30");
    check_total("-0.05", -5, "-0.05");
    check_total("-1", -100, "-1.00");
    check_total("999.99", 99999, "999.99");
    check_total("4.35", 435, "4.35");
    check_total("0e999999999999999999999", 0, "0.00");
    check_total("-0.00", 0, "0.00");
    snprintf(zeros, sizeof(zeros), "1.%0850d", 0);
    check_total(zeros, 100, "1.00");
}

static void test_a_decimal_that_is_not_exact_is_refused(void **state)
{
    (void)state;
    refused("{\"total\":12.345}", "$.total", "range",
            "is 12.345, expected a number with at most 2 decimals from -1.00 to 999.99");
    refused("{\"total\":1e-19}", "$.total", "range",
            "is 1e-19, expected a number with at most 2 decimals from -1.00 to 999.99");
    refused("{\"units\":0.5}", "$.units", "range",
            "is 0.5, expected an integer from -9223372036854775808 to 9223372036854775807");
    refused("{\"total\":\"12.34\"}", "$.total", "type",
            "is \"12.34\", expected a number with at most 2 decimals from -1.00 to 999.99");
    refused("{\"fine\":1e-19}", "$.fine", "range",
            "is 1e-19, expected a number with at most 18 decimals from -9.223372036854775808 to "
            "9.223372036854775807");
}

static void test_the_range_of_a_decimal_is_in_its_units(void **state)
{
    struct bill b = {.total = 100000, .has_total = true};
    (void)state;
    refused("{\"total\":1000}", "$.total", "range",
            "is 1000, expected a number with at most 2 decimals from -1.00 to 999.99");
    refused("{\"total\":-1.01}", "$.total", "range",
            "is -1.01, expected a number with at most 2 decimals from -1.00 to 999.99");
    not_written(&b, "$.total is 1000.00, expected a number with at most 2 decimals from -1.00 to "
                    "999.99");
}

static void test_huge_exponents_are_refused(void **state)
{
    static const char *const huge[] = {"1e40",
                                       "1e99999999999999999999999999",
                                       "-1e9223372036854775807",
                                       "1e-99999999999999999999999999",
                                       "1e-9223372036854775808",
                                       "1e18446744073709551616"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(huge); i++) {
        char json[100], want[200];
        snprintf(json, sizeof(json), "{\"total\":%s}", huge[i]);
        snprintf(want, sizeof(want),
                 "is %s, expected a number with at most 2 decimals from -1.00 to 999.99", huge[i]);
        refused(json, "$.total", "range", want);
        snprintf(json, sizeof(json), "{\"rate\":\"%s\"}", huge[i]);
        snprintf(want, sizeof(want),
                 "is \"%s\", expected a string with a number with at most 4 decimals from "
                 "-922337203685477.5808 to 922337203685477.5807",
                 huge[i]);
        refused(json, "$.rate", "range", want);
    }
}

static void check_fine(const char *number, int64_t units)
{
    char json[100];
    snprintf(json, sizeof(json), "{\"fine\":%s}", number);
    struct bill b = decoded(json);
    assert_true(b.fine == units);
    written(&b, json);
}

static void test_decimals_of_0_and_18_digits_go_to_the_ends_of_64_bits(void **state)
{
    (void)state;
    check_fine("9.223372036854775807", INT64_MAX);
    check_fine("-9.223372036854775808", INT64_MIN);
    check_fine("0.000000000000000001", 1);
    check_fine("-0.000000000000000001", -1);
    refused("{\"fine\":9.223372036854775808}", "$.fine", "range",
            "is 9.223372036854775808, expected a number with at most 18 decimals from "
            "-9.223372036854775808 to 9.223372036854775807");
    struct bill b = decoded("{\"units\":-9223372036854775808}");
    assert_true(b.units == INT64_MIN);
    written(&b, "{\"units\":-9223372036854775808}");
    b = decoded("{\"units\":9223372036854775807.0}");
    written(&b, "{\"units\":9223372036854775807}");
}

static void test_a_decimal_as_text_is_a_string_with_a_number(void **state)
{
    struct bill b = decoded("{\"rate\":\"1.5e-1\"}");
    (void)state;
    assert_int_equal(b.rate, 1500);
    written(&b, "{\"rate\":\"0.1500\"}");
    b = decoded("{\"rate\":\"-\\u0031\\u002E5\"}");
    written(&b, "{\"rate\":\"-1.5000\"}");
}

static void test_a_decimal_as_text_is_a_json_number_and_nothing_else(void **state)
{
    static const char *const bad[] = {"",   " 1",   "1 ",   "+1",  ".5",   "5.",
                                      "01", "1,5",  "0x10", "1e",  "NaN",  "one",
                                      "[]", "null", "1 2",  "--1", "1_000"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        char json[100], want[200];
        snprintf(json, sizeof(json), "{\"rate\":\"%s\"}", bad[i]);
        snprintf(want, sizeof(want),
                 "is \"%s\", expected a string with a number with at most 4 decimals from "
                 "-922337203685477.5808 to 922337203685477.5807",
                 bad[i]);
        refused(json, "$.rate", "format", want);
    }
    refused("{\"rate\":1.5}", "$.rate", "type",
            "is 1.5, expected a string with a number with at most 4 decimals from "
            "-922337203685477.5808 to 922337203685477.5807");
}

/* ---- all of them ----------------------------------------------------------------------------- */

static void test_null_clears_flags_of_the_exact_kinds(void **state)
{
    struct bill b = decoded("{\"at\":\"1970-01-01T00:00:01Z\",\"total\":1,\"rate\":\"1\"}");
    const char *nulls = "{\"at\":null,\"total\":null,\"rate\":null}";
    (void)state;
    assert_int_equal(hark_json_decode(&bill_json, nulls, strlen(nulls), &b, NULL), HARK_OK);
    assert_false(b.has_at || b.has_total || b.has_rate);
    written(&b, "{}");
}

static void test_all_faults_of_a_document_come_in_its_order(void **state)
{
    const char *json = "{\"blob\":\"?\",\"rate\":\"x\",\"total\":0.001,\"at\":\"x\"}";
    struct bill b = {0};
    (void)state;
    assert_int_equal(hark_json_decode(&bill_json, json, strlen(json), &b, &errors), HARK_ESCHEMA);
    assert_int_equal(errors.count, 4);
    assert_string_equal(errors.list[0].path, "$.blob");
    assert_string_equal(errors.list[3].path, "$.at");
    assert_int_equal(errors.list[3].offset, strlen(json) - 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_time_of_any_offset_is_read_and_written_in_utc),
        cmocka_unit_test(test_a_time_is_written_with_the_fewest_digits_that_are_exact),
        cmocka_unit_test(test_times_go_to_the_ends_of_64_bits),
        cmocka_unit_test(test_a_time_that_64_bits_do_not_hold_is_refused),
        cmocka_unit_test(test_a_leap_second_is_the_first_of_the_next_day),
        cmocka_unit_test(test_what_is_no_time_is_refused),
        cmocka_unit_test(test_the_range_of_a_time_is_kept_both_ways),
        cmocka_unit_test(test_bytes_are_base64),
        cmocka_unit_test(test_no_bytes_differ_from_bytes_that_are_not_there),
        cmocka_unit_test(test_bytes_that_are_replaced_are_freed_and_kept_on_failure),
        cmocka_unit_test(test_what_is_not_strict_base64_is_refused),
        cmocka_unit_test(test_lengths_of_bytes_are_kept_both_ways),
        cmocka_unit_test(test_a_decimal_is_read_however_it_is_written),
        cmocka_unit_test(test_a_decimal_that_is_not_exact_is_refused),
        cmocka_unit_test(test_the_range_of_a_decimal_is_in_its_units),
        cmocka_unit_test(test_huge_exponents_are_refused),
        cmocka_unit_test(test_decimals_of_0_and_18_digits_go_to_the_ends_of_64_bits),
        cmocka_unit_test(test_a_decimal_as_text_is_a_string_with_a_number),
        cmocka_unit_test(test_a_decimal_as_text_is_a_json_number_and_nothing_else),
        cmocka_unit_test(test_null_clears_flags_of_the_exact_kinds),
        cmocka_unit_test(test_all_faults_of_a_document_come_in_its_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
