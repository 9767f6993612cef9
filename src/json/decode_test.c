/* Promises of decoding: exact or refused with path and words, all faults at once, and nothing
 * half-done when it fails. */
#include "json/order_test_i.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hark_json_errors errors;

static hark_err decode(const char *text, struct order *ret)
{
    return hark_json_decode(&order_json, text, strlen(text), ret, &errors);
}

static struct order decoded(const char *text)
{
    struct order o = {0};
    if (decode(text, &o) != HARK_OK)
        fail_msg("%s: %s %s", text, errors.list[0].path, errors.list[0].text);
    assert_int_equal(errors.count, 0);
    return o;
}

/* The text is refused for one fault, and the struct stays as it was. */
static void refused(const char *json, const char *path, const char *rule, const char *text)
{
    struct order o = {0}, zero = {0};
    hark_err err = decode(json, &o);
    if (err != HARK_ESCHEMA || errors.count != 1 || strcmp(errors.list[0].path, path) != 0 ||
        strcmp(errors.list[0].rule, rule) != 0 || strcmp(errors.list[0].text, text) != 0)
        fail_msg("%s: %s, %zu faults: %s [%s] %s", json, hark_err_name(err), errors.count,
                 errors.list[0].path, errors.list[0].rule, errors.list[0].text);
    assert_memory_equal(&o, &zero, sizeof(o));
}

/* ---- values ---------------------------------------------------------------------------------- */

static void test_every_sort_of_member_is_read(void **state)
{
    struct order o = decoded(ORDER_FULL);
    (void)state;
    assert_string_equal(o.user_id, "u-1");
    assert_int_equal(o.n_items, 2);
    assert_string_equal(o.items[0].sku, "abc");
    assert_int_equal(o.items[0].quantity, 2);
    assert_true(o.items[0].price == 9.99);
    assert_string_equal(o.items[1].sku, "d\xc3\xa9\x66");
    assert_true(o.has_to);
    assert_string_equal(o.to.street, "Main \"st\"");
    assert_string_equal(o.to.zip, "12345678");
    assert_int_equal(o.status, STATUS_SHIPPED);
    assert_true(o.gift && o.has_gift && o.has_weight && o.weight == 1.5);
    assert_string_equal(o.note, "");
    assert_true(o.total == INT64_C(-9007199254740993));
    assert_true(o.serial == UINT64_MAX);
    assert_string_equal(o.currency, "EUR");
    assert_int_equal(o.n_tags, 2);
    assert_string_equal(o.tags[1], "b");
    assert_int_equal(o.n_rgb, 3);
    assert_int_equal(o.rgb[2], 200);
    assert_int_equal(o.n_stops, 1);
    assert_string_equal(o.stops[0].street, "x");
    assert_int_equal(o.n_history, 2);
    assert_int_equal(o.history[1], STATUS_PAID);
    hark_json_free(&order_json, &o);
}

static void test_a_raw_value_keeps_its_bytes(void **state)
{
    struct order o = decoded("{\"userId\":\"u\",\"meta\": [1.0, 1e400 ,\"\\u0061\"] }");
    (void)state;
    assert_string_equal(o.meta, "[1.0, 1e400 ,\"\\u0061\"]");
    assert_int_equal(o.meta_len, strlen(o.meta));
    assert_int_equal(decode("{\"userId\":\"u\",\"meta\":null}", &o), HARK_OK);
    assert_string_equal(o.meta, "null");
    hark_json_free(&order_json, &o);
}

static void test_number_beyond_int32_is_an_error_not_wrapped(void **state)
{
    (void)state;
    refused("{\"userId\":\"u\",\"items\":[{\"sku\":\"a\",\"quantity\":4294967297}]}",
            "$.items[0].quantity", "range", "is 4294967297, expected an integer from 1 to 1000");
    refused("{\"userId\":\"u\",\"total\":9223372036854775808}", "$.total", "range",
            "is 9223372036854775808, expected an integer from -9223372036854775808 to "
            "9223372036854775807");
    refused("{\"userId\":\"u\",\"serial\":-1}", "$.serial", "range",
            "is -1, expected an integer from 0 to 18446744073709551615");
    refused("{\"userId\":\"u\",\"rgb\":[1,256]}", "$.rgb[1]", "range",
            "is 256, expected an integer from 0 to 200");
}

static void test_a_fraction_is_no_integer_but_5_point_0_is_5(void **state)
{
    (void)state;
    refused("{\"userId\":\"u\",\"total\":5.5}", "$.total", "range",
            "is 5.5, expected an integer from -9223372036854775808 to 9223372036854775807");
    struct order o = decoded("{\"userId\":\"u\",\"total\":5.0}");
    assert_int_equal(o.total, 5);
    hark_json_free(&order_json, &o);
}

static void test_1e400_is_no_double(void **state)
{
    (void)state;
    refused("{\"userId\":\"u\",\"weight\":1e400}", "$.weight", "range",
            "is 1e400, expected a number");
}

static void test_the_range_of_a_double_is_kept(void **state)
{
    (void)state;
    refused("{\"userId\":\"u\",\"items\":[{\"sku\":\"a\",\"quantity\":1,\"price\":0.009}]}",
            "$.items[0].price", "range", "is 0.009, expected a number of at least 0.01");
}

static void test_a_value_of_another_type_is_refused(void **state)
{
    (void)state;
    refused("{\"userId\":12}", "$.userId", "type",
            "is 12, expected a string of at most 16 characters");
    refused("{\"userId\":\"u\",\"total\":\"5\"}", "$.total", "type",
            "is \"5\", expected an integer from -9223372036854775808 to 9223372036854775807");
    refused("{\"userId\":\"u\",\"gift\":1}", "$.gift", "type", "is 1, expected true or false");
    refused("{\"userId\":\"u\",\"to\":[]}", "$.to", "type", "is an array, expected an object");
    refused("{\"userId\":\"u\",\"tags\":{}}", "$.tags", "type",
            "is an object, expected an array of at most 4 elements");
    refused("{\"userId\":\"u\",\"tags\":[\"a\",null]}", "$.tags[1]", "type",
            "is null, expected a string");
    refused("[]", "$", "type", "is an array, expected an object");
    refused("null", "$", "type", "is null, expected an object");
}

static void test_lengths_count_characters_and_elements(void **state)
{
    (void)state;
    struct order o = decoded("{\"userId\":\"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
                             "\xc3\xa9\xc3\xa9\xc3\xa9\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9\\u00e9"
                             "\\u00e9\"}");
    assert_int_equal(strlen(o.user_id), 32);
    hark_json_free(&order_json, &o);
    refused("{\"userId\":\"12345678901234567\"}", "$.userId", "length",
            "has 17 characters, expected a string of at most 16 characters");
    refused("{\"userId\":\"u\",\"items\":[]}", "$.items", "length",
            "has 0 elements, expected an array of 1 to 100 elements");
    refused("{\"userId\":\"u\",\"tags\":[\"\",\"\",\"\",\"\",\"\"]}", "$.tags", "length",
            "has 5 elements, expected an array of at most 4 elements");
    refused("{\"userId\":\"u\",\"rgb\":[1,2,3,4]}", "$.rgb", "length",
            "has 4 elements, expected an array of at most 3 elements");
}

static void test_a_char_array_is_never_overrun(void **state)
{
    (void)state;
    refused("{\"userId\":\"u\",\"currency\":\"EURO\"}", "$.currency", "length",
            "has 4 bytes, expected a string of at least 3 characters and at most 3 bytes");
    refused("{\"userId\":\"u\",\"currency\":\"EU\"}", "$.currency", "length",
            "has 2 characters, expected a string of at least 3 characters and at most 3 bytes");
    refused("{\"userId\":\"u\",\"to\":{\"zip\":\"123456789\"}}", "$.to.zip", "length",
            "has 9 bytes, expected a string of at most 8 bytes");
}

static void test_nul_inside_a_c_string_is_refused(void **state)
{
    (void)state;
    refused("{\"userId\":\"a\\u0000b\"}", "$.userId", "nul",
            "contains \\u0000, which a C string cannot hold, expected a string of at most 16 "
            "characters");
    refused("{\"userId\":\"u\",\"currency\":\"a\\u0000b\"}", "$.currency", "nul",
            "contains \\u0000, which a C string cannot hold, expected a string of at least 3 "
            "characters and at most 3 bytes");
}

static void test_an_enum_takes_its_names_only(void **state)
{
    (void)state;
    refused("{\"userId\":\"u\",\"status\":\"OPEN\"}", "$.status", "enum",
            "is \"OPEN\", expected one of \"open\", \"paid\", \"shipped\"");
    refused("{\"userId\":\"u\",\"history\":[\"open\",2]}", "$.history[1]", "type",
            "is 2, expected one of \"open\", \"paid\", \"shipped\"");
}

/* ---- missing, null, unknown ------------------------------------------------------------------ */

static void test_a_missing_required_member_is_named(void **state)
{
    (void)state;
    refused("{}", "$.userId", "required", "is missing, expected a string of at most 16 characters");
    refused("{\"userId\":null}", "$.userId", "type",
            "is null, expected a string of at most 16 characters");
}

static void test_a_member_left_out_keeps_what_the_struct_had(void **state)
{
    struct order o = {.total = 7, .has_weight = true, .weight = 2.5, .note = hk_strdup("default")};
    (void)state;
    assert_int_equal(decode("{\"userId\":\"u\",\"to\":{\"zip\":\"1\"}}", &o), HARK_OK);
    assert_int_equal(o.total, 7);
    assert_true(o.has_weight && o.weight == 2.5 && !o.has_gift);
    assert_string_equal(o.note, "default");
    hark_json_free(&order_json, &o);
}

static void test_decoding_again_merges_and_frees_what_it_replaces(void **state)
{
    struct order o = decoded(ORDER_FULL);
    (void)state;
    assert_int_equal(decode("{\"userId\":\"v\",\"items\":[{\"sku\":\"z\",\"quantity\":1}],"
                            "\"to\":{\"zip\":\"9\"},\"stops\":[{},{\"street\":\"y\"}],"
                            "\"tags\":[],\"meta\":0}",
                            &o),
                     HARK_OK);
    assert_string_equal(o.user_id, "v");
    assert_int_equal(o.n_items, 1);
    assert_string_equal(o.to.street, "Main \"st\"");
    assert_string_equal(o.to.zip, "9");
    assert_null(o.stops[0].street);
    assert_string_equal(o.stops[1].street, "y");
    assert_null(o.tags);
    assert_int_equal(o.n_tags, 0);
    assert_string_equal(o.currency, "EUR");
    hark_json_free(&order_json, &o);
}

static void test_null_clears_an_optional_member(void **state)
{
    struct order o = decoded(ORDER_FULL);
    (void)state;
    assert_int_equal(decode("{\"userId\":\"u\",\"items\":null,\"to\":null,\"gift\":null,"
                            "\"weight\":null,\"note\":null,\"total\":null,\"tags\":null,"
                            "\"stops\":null,\"history\":null}",
                            &o),
                     HARK_OK);
    assert_null(o.items);
    assert_null(o.note);
    assert_null(o.tags);
    assert_null(o.history);
    assert_null(o.stops[0].street);
    assert_int_equal(o.n_items + o.n_tags + o.n_stops + o.n_history, 0);
    assert_false(o.has_to || o.has_gift || o.has_weight);
    assert_true(o.total == INT64_C(-9007199254740993)); /* has no way to say "not there" */
    hark_json_free(&order_json, &o);
}

static void test_unknown_members_are_ignored_unless_the_table_is_strict(void **state)
{
    (void)state;
    struct order o = decoded("{\"more\":{\"x\":[1,{}]},\"userId\":\"u\",\"\":1}");
    hark_json_free(&order_json, &o);
    refused("{\"userId\":\"u\",\"items\":[{\"sku\":\"a\",\"quantity\":1,\"qty\":2}]}",
            "$.items[0].qty", "unknown", "is not a known member");
    refused("{\"userId\":\"u\",\"items\":[{\"sku\":\"a\",\"quantity\":1,\"q ty\\n\":2}]}",
            "$.items[0][\"q ty\\n\"]", "unknown", "is not a known member");
}

static void test_names_match_however_they_are_escaped_and_ordered(void **state)
{
    struct order o = decoded("{\"total\":1,\"\\u0075serId\":\"u\",\"note\":\"n\"}");
    (void)state;
    assert_string_equal(o.user_id, "u");
    assert_string_equal(o.note, "n");
    hark_json_free(&order_json, &o);
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void test_all_faults_are_reported_at_once_with_their_places(void **state)
{
    struct order o = {0}, zero = {0};
    (void)state;
    assert_int_equal(decode("{\"items\":[\n {\"sku\":\"ok\",\"quantity\":1},\n"
                            " {\"sku\":\"\",\"quantity\":0}],\n\"tags\":[\"kept\",7]}",
                            &o),
                     HARK_ESCHEMA);
    assert_int_equal(errors.count, 4);
    assert_string_equal(errors.list[0].path, "$.items[1].sku");
    assert_int_equal(errors.list[0].line, 3);
    assert_int_equal(errors.list[0].column, 9);
    assert_string_equal(errors.list[1].path, "$.items[1].quantity");
    assert_string_equal(errors.list[2].path, "$.tags[1]");
    assert_string_equal(errors.list[3].path, "$.userId");
    assert_memory_equal(&o, &zero, sizeof(o));
}

static void test_a_failed_decode_leaves_a_filled_struct_as_it_was(void **state)
{
    struct order o = decoded(ORDER_FULL), before = o;
    (void)state;
    assert_int_equal(decode("{\"userId\":\"new\",\"items\":[{\"sku\":\"n\",\"quantity\":1}],"
                            "\"tags\":[\"x\"],\"stops\":[{\"street\":\"s\"}],\"rgb\":[9],"
                            "\"note\":null,\"to\":{\"street\":\"t\"},\"meta\":1,\"total\":\"\"}",
                            &o),
                     HARK_ESCHEMA);
    assert_memory_equal(&o, &before, sizeof(o));
    assert_string_equal(o.items[0].sku, "abc");
    hark_json_free(&order_json, &o);
}

static void test_more_faults_than_the_list_holds_are_counted(void **state)
{
    struct order o = {0};
    hk_buf b = {0};
    char text[8192];
    (void)state;
    hk_buf_adds(&b, "{\"userId\":\"u\",\"items\":[");
    for (int i = 0; i < 50; i++)
        hk_buf_addf(&b, "%s{\"sku\":\"a\",\"quantity\":0}", i > 0 ? "," : "");
    hk_buf_adds(&b, "]}");
    assert_int_equal(decode(b.data, &o), HARK_ESCHEMA);
    assert_int_equal(errors.count, HARK_JSON_MAX_ERRORS);
    assert_int_equal(errors.more, 50 - HARK_JSON_MAX_ERRORS);
    size_t n = hark_json_errors_format(&errors, text, sizeof(text));
    assert_int_equal(n, strlen(text));
    assert_non_null(strstr(text, "$.items[31].quantity is 0, expected an integer from 1 to 1000 "
                                 "(line 1, column "));
    assert_string_equal(text + n - strlen("and 18 more\n"), "and 18 more\n");
    assert_int_equal(hark_json_errors_format(&errors, text, 10), n);
    assert_int_equal(strlen(text), 9);
    assert_int_equal(hark_json_errors_format(&errors, NULL, 0), n);
    hk_buf_free(&b);
}

static void test_a_syntax_error_tells_byte_line_and_column(void **state)
{
    struct order o = {0};
    (void)state;
    assert_int_equal(decode("{\n \"userId\": \"u\",\n}", &o), HARK_ESYNTAX);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.list[0].path, "$");
    assert_string_equal(errors.list[0].rule, "syntax");
    assert_string_equal(errors.list[0].text, "expected a member name in double quotes");
    assert_int_equal(errors.list[0].offset, 18);
    assert_int_equal(errors.list[0].line, 3);
    assert_int_equal(errors.list[0].column, 1);
}

static void test_duplicates_depth_and_bad_utf8_are_syntax_errors(void **state)
{
    struct order o = {0};
    char deep[1000];
    (void)state;
    assert_int_equal(decode("{\"userId\":\"u\",\"userId\":\"v\"}", &o), HARK_ESYNTAX);
    assert_int_equal(decode("{\"userId\":\"\xff\"}", &o), HARK_ESYNTAX);
    memset(deep, '[', sizeof(deep));
    assert_int_equal(hark_json_decode(&order_json, deep, sizeof(deep), &o, &errors), HARK_ESYNTAX);
    assert_int_equal(decode("", &o), HARK_ESYNTAX);
}

static void test_long_paths_and_values_are_cut_at_a_character(void **state)
{
    struct order o = {0};
    hk_buf b = {0};
    (void)state;
    hk_buf_adds(&b, "{\"userId\":\"u\",\"status\":\"");
    for (int i = 0; i < 100; i++)
        hk_buf_adds(&b, "\xe2\x82\xac");
    hk_buf_adds(&b, "\",\"items\":[{\"sku\":\"a\",\"quantity\":1,\"");
    for (int i = 0; i < 500; i++)
        hk_buf_adds(&b, "\xe2\x82\xac");
    hk_buf_adds(&b, "\":0}]}");
    assert_int_equal(decode(b.data, &o), HARK_ESCHEMA);
    assert_int_equal(errors.count, 2);
    const char *text = errors.list[0].text, *path = errors.list[1].path;
    assert_non_null(strstr(text, "..., expected one of"));
    assert_int_equal(hk_utf8_valid(text, strlen(text)), strlen(text));
    assert_int_equal(hk_utf8_valid(path, strlen(path)), strlen(path));
    assert_string_equal(path + strlen(path) - 3, "...");
    hk_buf_free(&b);
}

static void test_the_error_list_may_be_left_out(void **state)
{
    struct order o = {0};
    (void)state;
    assert_int_equal(hark_json_decode(&order_json, "{}", 2, &o, NULL), HARK_ESCHEMA);
    assert_int_equal(hark_json_decode(&order_json, "{", 1, &o, NULL), HARK_ESYNTAX);
    assert_int_equal(hark_json_decode(NULL, "{}", 2, &o, NULL), HARK_EINVAL);
}

static void test_missing_arguments_are_refused(void **state)
{
    struct order o = {0};
    (void)state;
    assert_int_equal(hark_json_decode(&order_json, "{}", 2, NULL, &errors), HARK_EINVAL);
    assert_int_equal(hark_json_decode(&order_json, NULL, 2, &o, &errors), HARK_EINVAL);
    assert_int_equal(errors.count, 1);
    assert_int_equal(hark_json_decode(&order_json, NULL, 0, &o, &errors), HARK_ESYNTAX);
}

/* ---- size and recursion ---------------------------------------------------------------------- */

struct wide {
    char big[1 << 20];
};
struct wides {
    struct wide *list;
    size_t n;
};
HARK_JSON_TABLE(wide_json, struct wide, HARK_JSON_CHARS(struct wide, big));
HARK_JSON_TABLE(wides_json, struct wides, HARK_JSON_ARRAY(struct wides, list, n, &wide_json));

static void test_a_small_document_cannot_ask_for_endless_memory(void **state)
{
    struct wides w = {0};
    hk_buf b = {0};
    (void)state;
    hk_buf_adds(&b, "{\"list\":[{}");
    for (int i = 0; i < 1000; i++)
        hk_buf_adds(&b, ",{}");
    hk_buf_adds(&b, "]}");
    assert_int_equal(hark_json_decode(&wides_json, b.data, b.len, &w, &errors), HARK_ETOOBIG);
    assert_null(w.list);
    assert_string_equal(errors.list[0].rule, "memory");
    assert_string_equal(errors.list[0].path, "$.list");
    hk_buf_free(&b);
}

struct tree {
    char *name;
    struct tree *kids;
    size_t n_kids;
};
HARK_JSON_TABLE(tree_json, struct tree, HARK_JSON_STR(struct tree, name),
                HARK_JSON_ARRAY(struct tree, kids, n_kids, &tree_json));

static void test_a_table_may_name_itself(void **state)
{
    struct tree t = {0};
    const char *text = "{\"name\":\"a\",\"kids\":[{\"kids\":[{\"name\":\"c\"}]},{\"name\":1}]}";
    (void)state;
    assert_int_equal(hark_json_decode(&tree_json, text, strlen(text), &t, &errors), HARK_ESCHEMA);
    assert_string_equal(errors.list[0].path, "$.kids[1].name");
    text = "{\"name\":\"a\",\"kids\":[{\"kids\":[{\"name\":\"c\"}]}]}";
    assert_int_equal(hark_json_decode(&tree_json, text, strlen(text), &t, &errors), HARK_OK);
    assert_string_equal(t.kids[0].kids[0].name, "c");
    hark_json_free(&tree_json, &t);
    assert_null(t.kids);
}

static void test_freeing_twice_or_nothing_is_harmless(void **state)
{
    struct order o = decoded(ORDER_FULL), zero = {0};
    (void)state;
    hark_json_free(&order_json, &o);
    assert_null(o.items);
    assert_null(o.to.street);
    assert_int_equal(o.n_items + o.meta_len + o.n_stops, 0);
    hark_json_free(&order_json, &o);
    hark_json_free(&order_json, &zero);
    hark_json_free(&order_json, NULL);
    hark_json_free(NULL, &o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sort_of_member_is_read),
        cmocka_unit_test(test_a_raw_value_keeps_its_bytes),
        cmocka_unit_test(test_number_beyond_int32_is_an_error_not_wrapped),
        cmocka_unit_test(test_a_fraction_is_no_integer_but_5_point_0_is_5),
        cmocka_unit_test(test_1e400_is_no_double),
        cmocka_unit_test(test_the_range_of_a_double_is_kept),
        cmocka_unit_test(test_a_value_of_another_type_is_refused),
        cmocka_unit_test(test_lengths_count_characters_and_elements),
        cmocka_unit_test(test_a_char_array_is_never_overrun),
        cmocka_unit_test(test_nul_inside_a_c_string_is_refused),
        cmocka_unit_test(test_an_enum_takes_its_names_only),
        cmocka_unit_test(test_a_missing_required_member_is_named),
        cmocka_unit_test(test_a_member_left_out_keeps_what_the_struct_had),
        cmocka_unit_test(test_decoding_again_merges_and_frees_what_it_replaces),
        cmocka_unit_test(test_null_clears_an_optional_member),
        cmocka_unit_test(test_unknown_members_are_ignored_unless_the_table_is_strict),
        cmocka_unit_test(test_names_match_however_they_are_escaped_and_ordered),
        cmocka_unit_test(test_all_faults_are_reported_at_once_with_their_places),
        cmocka_unit_test(test_a_failed_decode_leaves_a_filled_struct_as_it_was),
        cmocka_unit_test(test_more_faults_than_the_list_holds_are_counted),
        cmocka_unit_test(test_a_syntax_error_tells_byte_line_and_column),
        cmocka_unit_test(test_duplicates_depth_and_bad_utf8_are_syntax_errors),
        cmocka_unit_test(test_long_paths_and_values_are_cut_at_a_character),
        cmocka_unit_test(test_the_error_list_may_be_left_out),
        cmocka_unit_test(test_missing_arguments_are_refused),
        cmocka_unit_test(test_a_small_document_cannot_ask_for_endless_memory),
        cmocka_unit_test(test_a_table_may_name_itself),
        cmocka_unit_test(test_freeing_twice_or_nothing_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
