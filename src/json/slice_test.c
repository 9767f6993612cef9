/* Promises of the slicer: what it refuses and where, that slices are the bytes of the text, and
 * that size and depth cannot hurt it. */
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static hk_json_error refused(const char *text, size_t len)
{
    hk_json_error fault = {0};
    char *exact = malloc(len > 0 ? len : 1); /* a read beyond it is seen */
    assert_non_null(exact);
    memcpy(exact, text, len);
    assert_int_equal(hk_json_check(exact, len, NULL, NULL, &fault), HARK_ESYNTAX);
    free(exact);
    return fault;
}

static hk_json_slice accepted(const char *text)
{
    hk_json_slice root;
    hk_json_error fault = {0};
    if (hk_json_check(text, strlen(text), NULL, &root, &fault) != HARK_OK)
        fail_msg("%s: byte %zu: %s", text, fault.offset, fault.reason);
    return root;
}

static void assert_slice(hk_json_slice s, const char *text)
{
    if (s.len != strlen(text) || memcmp(s.ptr, text, s.len) != 0)
        fail_msg("expected %s, came %.*s", text, (int)s.len, s.ptr);
}

/* ---- faults ---------------------------------------------------------------------------------- */

static void test_every_fault_has_its_place_and_reason(void **state)
{
    static const struct {
        const char *text;
        hk_json_fault fault;
        size_t offset;
    } rows[] = {
        {"", HK_JSON_FAULT_EMPTY, 0},
        {" \n", HK_JSON_FAULT_EMPTY, 2},
        {"[1,", HK_JSON_FAULT_END, 3},
        {"{\"a\"", HK_JSON_FAULT_END, 4},
        {"\"ab", HK_JSON_FAULT_END, 3},
        {"\"ab\\", HK_JSON_FAULT_END, 4},
        {"-", HK_JSON_FAULT_END, 1},
        {"1e", HK_JSON_FAULT_END, 2},
        {"tru", HK_JSON_FAULT_END, 3},
        {"[1,]", HK_JSON_FAULT_VALUE, 3},
        {"[+1]", HK_JSON_FAULT_VALUE, 1},
        {"['a']", HK_JSON_FAULT_VALUE, 1},
        {"[NaN]", HK_JSON_FAULT_VALUE, 1},
        {"{a:1}", HK_JSON_FAULT_NAME, 1},
        {"{\"a\":1,}", HK_JSON_FAULT_NAME, 7},
        {"{\"a\" 1}", HK_JSON_FAULT_COLON, 5},
        {"{\"a\":1 \"b\":2}", HK_JSON_FAULT_OBJECT, 7},
        {"[1 2]", HK_JSON_FAULT_ARRAY, 3},
        {"[1}", HK_JSON_FAULT_ARRAY, 2},
        {"1 2", HK_JSON_FAULT_TRAILING, 2},
        {"{}}", HK_JSON_FAULT_TRAILING, 2},
        {"[trve]", HK_JSON_FAULT_LITERAL, 1},
        {"[01]", HK_JSON_FAULT_NUMBER, 1},
        {"[1.]", HK_JSON_FAULT_NUMBER, 3},
        {"[1e+]", HK_JSON_FAULT_NUMBER, 4},
        {"[-a]", HK_JSON_FAULT_NUMBER, 2},
        {"[\"a\tb\"]", HK_JSON_FAULT_CONTROL, 3},
        {"[\"12345678\x1f\"]", HK_JSON_FAULT_CONTROL, 10},
        {"[\"\\x\"]", HK_JSON_FAULT_ESCAPE, 2},
        {"[\"\\u12g4\"]", HK_JSON_FAULT_ESCAPE, 2},
        {"[\"\\ud800\"]", HK_JSON_FAULT_SURROGATE, 2},
        {"[\"\\udc00\"]", HK_JSON_FAULT_SURROGATE, 2},
        {"[\"\\ud800\\u0041\"]", HK_JSON_FAULT_SURROGATE, 2},
        {"[\"a\xc0\xaf\"]", HK_JSON_FAULT_UTF8, 3},
        {"[\"\xed\xa0\x80\"]", HK_JSON_FAULT_UTF8, 2},
        {"[\"\xf4\x90\x80\x80\"]", HK_JSON_FAULT_UTF8, 2},
        {"[\"\xe4\xb8", HK_JSON_FAULT_UTF8, 2},
        {"\xef\xbb\xbf{}", HK_JSON_FAULT_BOM, 0},
        {"{\"a\":1,\"a\":2}", HK_JSON_FAULT_DUPLICATE, 7},
    };
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(rows); i++) {
        hk_json_error fault = refused(rows[i].text, strlen(rows[i].text));
        if (fault.fault != rows[i].fault || fault.offset != rows[i].offset)
            fail_msg("%s: fault %d at %zu: %s", rows[i].text, (int)fault.fault, fault.offset,
                     fault.reason);
    }
}

static void test_nul_bytes_are_refused_wherever_they_stand(void **state)
{
    (void)state;
    assert_int_equal(refused("[1\0]", 4).offset, 2);
    assert_int_equal(refused("[\"a\0\"]", 6).fault, HK_JSON_FAULT_CONTROL);
    assert_int_equal(refused("{}\0", 3).fault, HK_JSON_FAULT_TRAILING);
}

static void test_a_fault_tells_line_and_column_in_characters(void **state)
{
    const char *text = "{\n  \"\xc3\xa9\": 1,\n  \"b\xc3\xa9\" 2\n}";
    hk_json_error fault = refused(text, strlen(text));
    hark_errinfo ei = {0};
    (void)state;
    assert_int_equal(fault.line, 3);
    assert_int_equal(fault.column, 8);
    assert_int_equal(hk_json_fail(&ei, HARK_ESYNTAX, &fault), HARK_ESYNTAX);
    assert_non_null(strstr(ei.text, "line 3, column 8"));
}

static void test_every_cut_of_a_document_is_refused_and_none_crashes(void **state)
{
    const char *text = "{\"a\":[1,-2.5e+3,true,null,\"\\ud83d\\ude00 \xf0\x9f\x98\x80\"],\"b\":{}}";
    (void)state;
    accepted(text);
    for (size_t len = 0; len < strlen(text); len++)
        refused(text, len);
}

static void test_limits_beyond_the_library_are_refused(void **state)
{
    hk_json_limits limits = {.max_depth = HK_JSON_DEPTH_MOST + 1};
    (void)state;
    assert_int_equal(hk_json_check("1", 1, &limits, NULL, NULL), HARK_EINVAL);
}

/* ---- depth ----------------------------------------------------------------------------------- */

static char *nested(size_t depth)
{
    char *text = malloc(depth * 2);
    assert_non_null(text);
    memset(text, '[', depth);
    memset(text + depth, ']', depth);
    return text;
}

static void check_depth(unsigned limit, size_t depth, hark_err want)
{
    char *text = nested(depth);
    hk_json_limits limits = {.max_depth = limit};
    assert_int_equal(hk_json_check(text, depth * 2, &limits, NULL, NULL), want);
    free(text);
}

static void test_depth_is_bounded_at_64_unless_said_otherwise(void **state)
{
    (void)state;
    check_depth(0, 64, HARK_OK);
    check_depth(0, 65, HARK_ESYNTAX);
    check_depth(1, 1, HARK_OK);
    check_depth(1, 2, HARK_ESYNTAX);
    check_depth(HK_JSON_DEPTH_MOST, HK_JSON_DEPTH_MOST, HARK_OK);
    check_depth(HK_JSON_DEPTH_MOST, HK_JSON_DEPTH_MOST + 1, HARK_ESYNTAX);
}

static void test_a_million_brackets_are_refused_at_the_limit(void **state)
{
    char *text = nested(1000000);
    hk_json_error fault;
    (void)state;
    assert_int_equal(hk_json_check(text, 2000000, NULL, NULL, &fault), HARK_ESYNTAX);
    assert_int_equal(fault.fault, HK_JSON_FAULT_DEPTH);
    assert_int_equal(fault.offset, 64);
    free(text);
}

/* ---- duplicate names ------------------------------------------------------------------------- */

static void test_names_are_compared_unescaped(void **state)
{
    (void)state;
    assert_int_equal(refused("{\"a\":1,\"\\u0061\":2}", 18).fault, HK_JSON_FAULT_DUPLICATE);
    const char *longer = "{\"longer name \xc3\xa9\":1,\"longer\\u0020name \\u00E9\":2}";
    assert_int_equal(refused(longer, strlen(longer)).fault, HK_JSON_FAULT_DUPLICATE);
    accepted("{\"longer\\u0020name 1\":1,\"longer name 2\":2,\"longer\\u0020name 3\":3}");
    accepted("{\"a\":1,\"a\\u0000\":2,\"\":3,\"\\u0000\":4}");
}

static void test_the_same_name_in_different_objects_is_no_duplicate(void **state)
{
    (void)state;
    accepted("{\"a\":{\"a\":[{\"a\":1},{\"a\":2}]},\"b\":{\"a\":1}}");
    const char *late = "{\"a\":{\"b\":{\"a\":1}},\"a\":1}";
    assert_int_equal(refused(late, strlen(late)).offset, 19);
}

static void test_duplicates_are_taken_when_allowed(void **state)
{
    hk_json_limits limits = {.allow_duplicates = true};
    (void)state;
    assert_int_equal(hk_json_check("{\"a\":1,\"a\":2}", 13, &limits, NULL, NULL), HARK_OK);
}

/* An object with `count` names; the one at `twin` (if within) has the name of the first. */
static hk_buf big_object(int count, int twin, const char *prefix)
{
    hk_buf b = {0};
    hk_buf_addc(&b, '{');
    for (int i = 0; i < count; i++)
        hk_buf_addf(&b, "%s\"%s%d\":%d", i > 0 ? "," : "", prefix, i == twin ? 0 : i, i);
    hk_buf_addc(&b, '}');
    assert_false(b.failed);
    return b;
}

static void test_a_duplicate_is_found_in_objects_of_every_size(void **state)
{
    static const char *const prefixes[] = {"", "a common prefix ", "\\u0061 common prefix "};
    (void)state;
    for (size_t p = 0; p < HK_COUNTOF(prefixes); p++) {
        for (int count = 2; count < 200; count++) {
            hk_buf twins = big_object(count, count - 1, prefixes[p]);
            assert_int_equal(refused(twins.data, twins.len).fault, HK_JSON_FAULT_DUPLICATE);
            hk_buf_free(&twins);
            hk_buf good = big_object(count, count, prefixes[p]);
            accepted(good.data);
            hk_buf_free(&good);
        }
    }
}

static void test_100000_names_in_one_object_take_no_quadratic_time(void **state)
{
    (void)state;
    int64_t start = hk_mono_ns();
    hk_buf good = big_object(100000, -1, "\\u006bey with a long common prefix ");
    accepted(good.data);
    hk_buf_free(&good);
    hk_buf twins = big_object(100000, 99999, "");
    assert_int_equal(refused(twins.data, twins.len).fault, HK_JSON_FAULT_DUPLICATE);
    hk_buf_free(&twins);
    /* 10^10 comparisons would take a minute and more; this takes 0.2 s, under ASan 2 s. */
    assert_true(hk_mono_ns() - start < INT64_C(30000000000));
}

static void test_many_open_objects_share_the_stack_of_names(void **state)
{
    hk_buf b = {0};
    (void)state;
    for (int depth = 0; depth < 60; depth++)
        hk_buf_adds(&b, "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":");
    hk_buf_adds(&b, "null");
    for (int depth = 0; depth < 60; depth++)
        hk_buf_adds(&b, ",\"f\":6}");
    accepted(b.data);
    b.data[b.len - 5] = 'a'; /* the outermost "f" */
    assert_int_equal(refused(b.data, b.len).fault, HK_JSON_FAULT_DUPLICATE);
    hk_buf_free(&b);
}

/* ---- walking --------------------------------------------------------------------------------- */

static void test_a_value_is_kept_byte_for_byte(void **state)
{
    hk_json_slice value;
    hk_json_slice root =
        accepted(" {\"id\":\"1\", \"data\" : {\"n\": 1.0, \"m\":[1e400 , \"]}\\\"\"]}\n"
                 ", \"big\":12345678901234567890123 } ");
    (void)state;
    assert_true(hk_json_find(root, "data", &value));
    assert_slice(value, "{\"n\": 1.0, \"m\":[1e400 , \"]}\\\"\"]}");
    assert_int_equal(value.kind, HK_JSON_OBJECT);
    assert_true(hk_json_find(root, "big", &value));
    assert_slice(value, "12345678901234567890123");
    assert_false(hk_json_find(root, "none", &value));
    assert_false(hk_json_find(value, "id", &value));
}

static void test_members_come_in_order_with_their_kinds(void **state)
{
    static const struct {
        const char *name, *value;
        hk_json_kind kind;
    } want[] = {
        {"\"a\"", "null", HK_JSON_NULL},        {"\"b\\n\"", "true", HK_JSON_BOOL},
        {"\"\"", "-0.5e1", HK_JSON_NUMBER},     {"\"d\"", "\"x\\\\\"", HK_JSON_STRING},
        {"\"e\"", "[ [ ] , 1]", HK_JSON_ARRAY}, {"\"f\"", "{\"g\":{}}", HK_JSON_OBJECT},
    };
    hk_json_slice name, value;
    hk_json_iter it;
    size_t i = 0;
    (void)state;
    hk_json_slice root = accepted("{\"a\":null,\"b\\n\" :true , \"\": -0.5e1,\"d\":\"x\\\\\",\n"
                                  "\"e\":[ [ ] , 1], \"f\":{\"g\":{}}}");
    for (hk_json_iter_init(&it, root); hk_json_iter_next(&it, &name, &value); i++) {
        assert_slice(name, want[i].name);
        assert_slice(value, want[i].value);
        assert_int_equal(value.kind, want[i].kind);
    }
    assert_int_equal(i, HK_COUNTOF(want));
    assert_int_equal(hk_json_count(root), HK_COUNTOF(want));
    assert_false(hk_json_iter_next(&it, &name, &value));
}

static void test_empty_containers_and_scalars_have_no_members(void **state)
{
    (void)state;
    assert_int_equal(hk_json_count(accepted("{ }")), 0);
    assert_int_equal(hk_json_count(accepted("[\n]")), 0);
    assert_int_equal(hk_json_count(accepted("\"[1,2]\"")), 0);
    assert_int_equal(hk_json_count(accepted("12")), 0);
}

static void test_the_root_is_the_document_without_its_margins(void **state)
{
    (void)state;
    assert_slice(accepted("\t [1, 2]\r\n"), "[1, 2]");
    hk_json_slice s = accepted(" \"a\\tb\" ");
    assert_slice(s, "\"a\\tb\"");
    assert_true(s.escaped);
    assert_int_equal(hk_json_root("  ", 2).kind, HK_JSON_NONE);
    assert_int_equal(hk_json_root("", 0).kind, HK_JSON_NONE);
}

/* ---- strings --------------------------------------------------------------------------------- */

static void assert_unescapes(const char *json, const char *want, size_t len, size_t chars)
{
    hk_json_slice s = accepted(json);
    hk_buf b = {0};
    hk_buf_adds(&b, "<");
    hk_json_unescape(s, &b);
    assert_int_equal(b.len, len + 1);
    assert_memory_equal(b.data + 1, want, len);
    assert_int_equal(b.data[b.len], 0);
    assert_int_equal(hk_json_string_measure(s).bytes, len);
    assert_int_equal(hk_json_string_measure(s).chars, chars);
    assert_true(hk_json_string_measure(s).has_nul == (memchr(want, 0, len) != NULL));
    hk_buf_free(&b);
}

static void test_strings_unescape_to_utf8(void **state)
{
    (void)state;
    assert_unescapes("\"\"", "", 0, 0);
    assert_unescapes("\"plain\"", "plain", 5, 5);
    assert_unescapes("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8, 8);
    assert_unescapes("\"a\\u00e9\xc3\xa9z\"", "a\xc3\xa9\xc3\xa9z", 6, 4);
    assert_unescapes("\"\\u20AC\\uD83D\\ude00\"", "\xe2\x82\xac\xf0\x9f\x98\x80", 7, 2);
    assert_unescapes("\"\\udbff\\udfff\\uffff\"", "\xf4\x8f\xbf\xbf\xef\xbf\xbf", 7, 2);
    assert_unescapes("\"a\\u0000b\"", "a\0b", 3, 3);
}

static void test_names_are_found_however_they_are_escaped(void **state)
{
    (void)state;
    assert_true(hk_json_equals(accepted("\"data\""), "data"));
    assert_true(hk_json_equals(accepted("\"d\\u0061t\\u0061\""), "data"));
    assert_true(hk_json_equals(accepted("\"\\u20ac\""), "\xe2\x82\xac"));
    assert_false(hk_json_equals(accepted("\"data\""), "dat"));
    assert_false(hk_json_equals(accepted("\"dat\""), "data"));
    assert_false(hk_json_equals(accepted("\"d\\u0061t\""), "data"));
    assert_false(hk_json_equals(accepted("\"data\\u0000\""), "data"));
    assert_false(hk_json_equals(accepted("\"\\u0064\\u0000\""), "d"));
    assert_false(hk_json_equals(accepted("12"), "12"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_fault_has_its_place_and_reason),
        cmocka_unit_test(test_nul_bytes_are_refused_wherever_they_stand),
        cmocka_unit_test(test_a_fault_tells_line_and_column_in_characters),
        cmocka_unit_test(test_every_cut_of_a_document_is_refused_and_none_crashes),
        cmocka_unit_test(test_limits_beyond_the_library_are_refused),
        cmocka_unit_test(test_depth_is_bounded_at_64_unless_said_otherwise),
        cmocka_unit_test(test_a_million_brackets_are_refused_at_the_limit),
        cmocka_unit_test(test_names_are_compared_unescaped),
        cmocka_unit_test(test_the_same_name_in_different_objects_is_no_duplicate),
        cmocka_unit_test(test_duplicates_are_taken_when_allowed),
        cmocka_unit_test(test_a_duplicate_is_found_in_objects_of_every_size),
        cmocka_unit_test(test_100000_names_in_one_object_take_no_quadratic_time),
        cmocka_unit_test(test_many_open_objects_share_the_stack_of_names),
        cmocka_unit_test(test_a_value_is_kept_byte_for_byte),
        cmocka_unit_test(test_members_come_in_order_with_their_kinds),
        cmocka_unit_test(test_empty_containers_and_scalars_have_no_members),
        cmocka_unit_test(test_the_root_is_the_document_without_its_margins),
        cmocka_unit_test(test_strings_unescape_to_utf8),
        cmocka_unit_test(test_names_are_found_however_they_are_escaped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
