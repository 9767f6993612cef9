/* Promises of base64: the examples of RFC 4648, one text for any bytes, and strict reading. */
#include "base/base.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static void test_the_examples_of_rfc_4648_go_both_ways(void **state UNUSED)
{
    static const char *const rows[][2] = {{"", ""},
                                          {"f", "Zg=="},
                                          {"fo", "Zm8="},
                                          {"foo", "Zm9v"},
                                          {"foob", "Zm9vYg=="},
                                          {"fooba", "Zm9vYmE="},
                                          {"foobar", "Zm9vYmFy"},
                                          {"\xfb\xff\xbf", "+/+/"}};
    for (size_t i = 0; i < HK_COUNTOF(rows); i++) {
        hk_buf b = {0};
        char back[16];
        size_t n = 99, len = strlen(rows[i][1]);
        hk_buf_add_base64(&b, rows[i][0], strlen(rows[i][0]));
        assert_string_equal(b.data, rows[i][1]);
        assert_int_equal(hk_base64_decode(b.data, len, back, &n), len);
        assert_int_equal(n, strlen(rows[i][0]));
        assert_memory_equal(back, rows[i][0], n);
        hk_buf_free(&b);
    }
}

static void test_bytes_of_any_length_survive_in_place(void **state UNUSED)
{
    unsigned char bytes[260];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 167 + 13);
    for (size_t len = 0; len <= sizeof bytes; len++) {
        hk_buf b = {0};
        size_t n = 0;
        hk_buf_add_base64(&b, bytes, len);
        assert_int_equal(b.len, (len + 2) / 3 * 4);
        assert_int_equal(hk_base64_decode(b.data, b.len, b.data, &n), b.len);
        assert_int_equal(n, len);
        assert_memory_equal(b.data, bytes, n);
        hk_buf_free(&b);
    }
}

static void test_what_is_not_strict_is_refused_at_its_place(void **state UNUSED)
{
    static const struct {
        const char *text;
        size_t place;
    } rows[] = {{"A", 0},     {"AA", 1},     {"AAA", 2},        {"AA=", 1},      {"=", 0},
                {"A===", 1},  {"====", 0},   {"AA==AAAA", 2},   {"AAAA====", 4}, {"AB==", 1},
                {"AAB=", 2},  {"A-_A", 1},   {"AAAA\nAAAA", 4}, {"AA A", 2},     {" AAAA", 0},
                {"AAAA ", 4}, {"AAA\xc3", 3}};
    for (size_t i = 0; i < HK_COUNTOF(rows); i++) {
        char back[16];
        size_t n = 99, place = hk_base64_decode(rows[i].text, strlen(rows[i].text), back, &n);
        if (place != rows[i].place || n != 99)
            fail_msg("'%s': fault at %zu, expected %zu", rows[i].text, place, rows[i].place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_examples_of_rfc_4648_go_both_ways),
        cmocka_unit_test(test_bytes_of_any_length_survive_in_place),
        cmocka_unit_test(test_what_is_not_strict_is_refused_at_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
