/* Promises of encoding: what is written reads back the same, and what breaks the table's rules is
 * refused with its path instead of being written. */
#include "json/order_test_i.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static char user[] = "u", sku[] = "a";

static void assert_written(const hark_json_table *table, const void *from, const char *want)
{
    char *text = NULL;
    size_t len = 0;
    hark_errinfo ei = {0};
    if (hark_json_encode(table, from, &text, &len, &ei) != HARK_OK)
        fail_msg("%s", ei.text);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
    free(text);
}

static void assert_refused(const hark_json_table *table, const void *from, const char *want)
{
    char untouched = 'x', *text = &untouched;
    size_t len = 99;
    hark_errinfo ei = {0};
    assert_int_equal(hark_json_encode(table, from, &text, &len, &ei), HARK_ESCHEMA);
    assert_string_equal(ei.text, want);
    assert_ptr_equal(text, &untouched);
    assert_int_equal(len, 99);
}

static void test_what_was_read_is_written_the_same(void **state)
{
    struct order o = {0};
    (void)state;
    assert_int_equal(hark_json_decode(&order_json, ORDER_FULL, strlen(ORDER_FULL), &o, NULL),
                     HARK_OK);
    assert_written(&order_json, &o, ORDER_FULL);
    hark_json_free(&order_json, &o);
}

static void test_members_that_are_not_there_are_left_out(void **state)
{
    struct item item = {.sku = (char[]){"a"}, .quantity = 1, .price = 1};
    struct order o = {.user_id = (char[]){"u"},
                      .items = &item,
                      .n_items = 1,
                      .status = STATUS_OPEN,
                      .currency = "USD"};
    (void)state;
    assert_written(&order_json, &o,
                   "{\"userId\":\"u\",\"items\":[{\"sku\":\"a\",\"quantity\":1,\"price\":1}],"
                   "\"status\":\"open\",\"total\":0,\"serial\":0,\"currency\":\"USD\",\"tags\":[],"
                   "\"rgb\":[],\"stops\":[],\"history\":[]}");
}

struct text {
    char *t;
};
HARK_JSON_TABLE(text_json, struct text, HARK_JSON_STR(struct text, t));

static void test_an_optional_zero_that_breaks_its_rules_is_left_out(void **state)
{
    struct item item = {.sku = sku, .quantity = 1};
    struct order o = {.user_id = user};
    (void)state;
    assert_written(&item_json, &item, "{\"sku\":\"a\",\"quantity\":1}");
    assert_written(&order_json, &o,
                   "{\"userId\":\"u\",\"total\":0,\"serial\":0,\"tags\":[],\"rgb\":[],"
                   "\"stops\":[],\"history\":[]}");
}

static void test_an_object_without_members_is_empty(void **state)
{
    struct text s = {0};
    (void)state;
    assert_written(&text_json, &s, "{}");
    s.t = (char[]){"\"\\\n\x01\xf0\x9f\x98\x80"};
    struct text back = {0};
    char *json;
    assert_int_equal(hark_json_encode(&text_json, &s, &json, NULL, NULL), HARK_OK);
    assert_int_equal(hark_json_decode(&text_json, json, strlen(json), &back, NULL), HARK_OK);
    assert_string_equal(back.t, s.t);
    hark_json_free(&text_json, &back);
    free(json);
}

struct limits {
    int8_t i8;
    int16_t i16;
    int32_t i32;
    int64_t i64;
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    double *reals;
    size_t n_reals;
    bool *flags;
    size_t n_flags;
};
HARK_JSON_TABLE(limits_json, struct limits, HARK_JSON_INT(struct limits, i8),
                HARK_JSON_INT(struct limits, i16), HARK_JSON_INT(struct limits, i32),
                HARK_JSON_INT(struct limits, i64), HARK_JSON_INT(struct limits, u8),
                HARK_JSON_INT(struct limits, u16), HARK_JSON_INT(struct limits, u32),
                HARK_JSON_INT(struct limits, u64), HARK_JSON_LIST(struct limits, reals, n_reals),
                HARK_JSON_LIST(struct limits, flags, n_flags));

static void test_integers_of_every_size_go_to_their_ends(void **state)
{
    struct limits low = {INT8_MIN, INT16_MIN, INT32_MIN, INT64_MIN, 0, 0, 0, 0, NULL, 0, NULL, 0};
    struct limits high = {INT8_MAX,   INT16_MAX,  INT32_MAX, INT64_MAX, UINT8_MAX, UINT16_MAX,
                          UINT32_MAX, UINT64_MAX, NULL,      0,         NULL,      0};
    const struct limits *both[] = {&low, &high};
    (void)state;
    assert_written(&limits_json, &low,
                   "{\"i8\":-128,\"i16\":-32768,\"i32\":-2147483648,\"i64\":-9223372036854775808,"
                   "\"u8\":0,\"u16\":0,\"u32\":0,\"u64\":0,\"reals\":[],\"flags\":[]}");
    for (size_t i = 0; i < HK_COUNTOF(both); i++) {
        struct limits back = {0};
        char *text;
        size_t len;
        assert_int_equal(hark_json_encode(&limits_json, both[i], &text, &len, NULL), HARK_OK);
        assert_int_equal(hark_json_decode(&limits_json, text, len, &back, NULL), HARK_OK);
        assert_written(&limits_json, &back, text);
        free(text);
    }
}

static void test_each_integer_type_refuses_what_is_one_beyond(void **state)
{
    static const char *const texts[] = {
        "{\"i8\":128}",         "{\"i8\":-129}",         "{\"i16\":32768}", "{\"i16\":-32769}",
        "{\"i32\":2147483648}", "{\"i32\":-2147483649}", "{\"u8\":256}",    "{\"u8\":-1}",
        "{\"u16\":65536}",      "{\"u32\":4294967296}",  "{\"u32\":-1}",    "{\"u16\":-1}",
    };
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(texts); i++) {
        struct limits s = {0};
        assert_int_equal(hark_json_decode(&limits_json, texts[i], strlen(texts[i]), &s, NULL),
                         HARK_ESCHEMA);
    }
}

static void test_lists_of_scalars_are_written(void **state)
{
    struct limits s = {.reals = (double[]){0.1, -2e300},
                       .n_reals = 2,
                       .flags = (bool[]){true, false},
                       .n_flags = 2};
    (void)state;
    assert_written(&limits_json, &s,
                   "{\"i8\":0,\"i16\":0,\"i32\":0,\"i64\":0,\"u8\":0,\"u16\":0,\"u32\":0,\"u64\":0,"
                   "\"reals\":[0.1,-2e+300],\"flags\":[true,false]}");
    s.reals[1] = (double)NAN;
    assert_refused(&limits_json, &s, "$.reals[1] is not finite, expected a number");
}

static struct item good_item = {.sku = (char[]){"a"}, .quantity = 1, .price = 1};

static struct order good_order(void)
{
    return (struct order){.user_id = user,
                          .items = &good_item,
                          .n_items = 1,
                          .status = STATUS_OPEN,
                          .currency = "USD"};
}

static void test_values_that_could_not_be_read_back_are_not_written(void **state)
{
    struct order o = good_order();
    (void)state;
    o.user_id = NULL;
    assert_refused(&order_json, &o,
                   "$.userId is missing, expected a string of at most 16 characters");
    o.user_id = (char[]){"a\xff"};
    assert_refused(&order_json, &o,
                   "$.userId is not UTF-8 at byte 1, expected a string of at most 16 characters");
    o.user_id = (char[]){"12345678901234567"};
    assert_refused(&order_json, &o,
                   "$.userId has 17 characters, expected a string of at most 16 characters");
    o = good_order();
    o.n_items = 101;
    assert_refused(&order_json, &o,
                   "$.items has 101 elements, expected an array of 1 to 100 elements");
    o.items = NULL;
    o.n_items = 2;
    assert_refused(&order_json, &o,
                   "$.items is NULL and has 2 elements, expected an array of 1 to 100 elements");
    o = good_order();
    o.status = (enum status)7;
    assert_refused(&order_json, &o,
                   "$.status is 7, expected one of \"open\", \"paid\", \"shipped\"");
    o = good_order();
    memcpy(o.currency, "USDX", 4);
    assert_refused(&order_json, &o,
                   "$.currency has no end, expected a string of at least 3 characters and at most "
                   "3 bytes");
    o = good_order();
    o.tags = (char *[]){(char[]){"a"}, NULL};
    o.n_tags = 2;
    assert_refused(&order_json, &o, "$.tags[1] is NULL, expected a string");
    o = good_order();
    o.rgb[0] = 201;
    o.n_rgb = 1;
    assert_refused(&order_json, &o, "$.rgb[0] is 201, expected an integer from 0 to 200");
    o.n_rgb = 4;
    assert_refused(&order_json, &o,
                   "$.rgb has 4 elements, expected an array of at most 3 elements");
}

static void test_numbers_out_of_their_range_are_not_written(void **state)
{
    struct item item = {.sku = (char[]){"a"}, .quantity = 0, .price = 1};
    (void)state;
    assert_refused(&item_json, &item, "$.quantity is 0, expected an integer from 1 to 1000");
    item.quantity = 1;
    item.price = -1;
    assert_refused(&item_json, &item, "$.price is -1, expected a number of at least 0.01");
    item.price = (double)INFINITY;
    assert_refused(&item_json, &item, "$.price is not finite, expected a number of at least 0.01");
}

static void test_raw_text_that_is_no_json_is_not_written(void **state)
{
    struct order o = good_order();
    (void)state;
    o.meta = (char[]){"{\"a\":1}}"};
    o.meta_len = strlen(o.meta);
    assert_refused(&order_json, &o,
                   "$.meta is not JSON at byte 7: unexpected text after the document");
    o.meta_len = 0;
    assert_refused(&order_json, &o, "$.meta is not JSON at byte 0: the text is empty");
}

static void test_raw_depth_counts_in_the_depth_of_the_whole(void **state)
{
    struct order o = good_order();
    char raw[128], *text;
    (void)state;
    memset(raw, '[', 63);
    memset(raw + 63, ']', 63);
    o.meta = raw;
    o.meta_len = 126;
    assert_int_equal(hark_json_encode(&order_json, &o, &text, NULL, NULL), HARK_OK);
    assert_int_equal(hk_json_check(text, strlen(text), NULL, NULL, NULL), HARK_OK);
    free(text);
    memset(raw, '[', 64);
    memset(raw + 64, ']', 64);
    o.meta_len = 128;
    assert_refused(&order_json, &o, "$.meta is not JSON at byte 63: nested too deeply");
}

struct ring {
    struct ring *next;
    size_t n;
};
HARK_JSON_TABLE(ring_json, struct ring, HARK_JSON_ARRAY(struct ring, next, n, &ring_json));

static void test_a_struct_that_contains_itself_ends_at_the_depth_limit(void **state)
{
    struct ring ring = {.n = 1};
    hark_errinfo ei;
    char *text;
    (void)state;
    ring.next = &ring;
    assert_int_equal(hark_json_encode(&ring_json, &ring, &text, NULL, &ei), HARK_ESCHEMA);
    assert_non_null(strstr(ei.text, "is nested deeper than 64"));
}

static void test_the_deepest_document_that_is_read_can_be_written(void **state)
{
    struct ring ring = {0};
    hk_buf b = {0};
    char *text;
    (void)state;
    for (int i = 0; i < 31; i++)
        hk_buf_adds(&b, "{\"next\":[");
    hk_buf_adds(&b, "{\"next\":[]}");
    for (int i = 0; i < 31; i++)
        hk_buf_adds(&b, "]}");
    assert_int_equal(hark_json_decode(&ring_json, b.data, b.len, &ring, NULL), HARK_OK);
    assert_int_equal(hark_json_encode(&ring_json, &ring, &text, NULL, NULL), HARK_OK);
    assert_string_equal(text, b.data);
    free(text);
    hark_json_free(&ring_json, &ring);
    hk_buf_free(&b);
}

static void test_missing_arguments_are_refused(void **state)
{
    struct order o = good_order();
    char *text;
    (void)state;
    assert_int_equal(hark_json_encode(NULL, &o, &text, NULL, NULL), HARK_EINVAL);
    assert_int_equal(hark_json_encode(&order_json, NULL, &text, NULL, NULL), HARK_EINVAL);
    assert_int_equal(hark_json_encode(&order_json, &o, NULL, NULL, NULL), HARK_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_read_is_written_the_same),
        cmocka_unit_test(test_members_that_are_not_there_are_left_out),
        cmocka_unit_test(test_an_optional_zero_that_breaks_its_rules_is_left_out),
        cmocka_unit_test(test_an_object_without_members_is_empty),
        cmocka_unit_test(test_integers_of_every_size_go_to_their_ends),
        cmocka_unit_test(test_each_integer_type_refuses_what_is_one_beyond),
        cmocka_unit_test(test_lists_of_scalars_are_written),
        cmocka_unit_test(test_values_that_could_not_be_read_back_are_not_written),
        cmocka_unit_test(test_numbers_out_of_their_range_are_not_written),
        cmocka_unit_test(test_raw_text_that_is_no_json_is_not_written),
        cmocka_unit_test(test_raw_depth_counts_in_the_depth_of_the_whole),
        cmocka_unit_test(test_a_struct_that_contains_itself_ends_at_the_depth_limit),
        cmocka_unit_test(test_the_deepest_document_that_is_read_can_be_written),
        cmocka_unit_test(test_missing_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
