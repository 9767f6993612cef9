/* Promises of schemas: the document as a whole for tables of each kind, each table once however it
 * is reached, and a clear refusal of a table that does not fit. */
#include "json/order_test_i.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#define DRAFT "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\","
#define TIME_PATTERN                                                                               \
    "\"^(167[789]|16[89][0-9]|1[789][0-9]{2}|2[01][0-9]{2}|22[0-5][0-9]|226[012])"                 \
    "-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"                                                    \
    "[Tt]([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)([.][0-9]{1,9})?"                            \
    "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$\""
#define BASE64_PATTERN                                                                             \
    "\"^([A-Za-z0-9+/]{4})*"                                                                       \
    "([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$\""

static void assert_schema(const hark_json_table *table, const char *want)
{
    char *text = NULL;
    hark_errinfo ei = {0};
    if (hark_json_schema(table, &text, &ei) != HARK_OK)
        fail_msg("%s", ei.text);
    assert_string_equal(text, want);
    assert_int_equal(hk_json_check(text, strlen(text), NULL, NULL, NULL), HARK_OK);
    free(text);
}

static void test_an_order_line_is_described(void **state)
{
    (void)state;
    assert_schema(&item_json,
                  DRAFT "\"title\":\"item_json\",\"type\":\"object\",\"properties\":{"
                        "\"sku\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":8},"
                        "\"quantity\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":1000},"
                        "\"price\":{\"type\":[\"number\",\"null\"],\"minimum\":0.01}},"
                        "\"required\":[\"sku\",\"quantity\"],\"additionalProperties\":false}");
}

struct kinds {
    int64_t at;
    unsigned char *seal;
    size_t seal_len;
    int64_t total, rate, count, points;
    bool sure;
    uint8_t small;
    char code[5];
    char *any;
    size_t any_len;
    enum status status;
    double *reals;
    size_t n_reals;
};

static const hark_json_name twice[] = {{"a", 1}, {"b", 1}, {"a", 2}, {NULL, 0}};

HARK_JSON_TABLE(kinds_json, struct kinds,
                HARK_JSON_TIME(struct kinds, at, .doc = "When it \"was\".", .required = true),
                HARK_JSON_BYTES(struct kinds, seal, seal_len, .min_len = 1, .max_len = 4),
                HARK_JSON_DECIMAL(struct kinds, total, 2, .required = true, HARK_JSON_MIN(-5)),
                HARK_JSON_DECIMAL(struct kinds, rate, 4, .as_text = true),
                HARK_JSON_DECIMAL(struct kinds, count, 0, HARK_JSON_RANGE(0, 7)),
                HARK_JSON_DECIMAL(struct kinds, points, 0, .as_text = true, .required = true),
                HARK_JSON_BOOL(struct kinds, sure), HARK_JSON_INT(struct kinds, small),
                HARK_JSON_CHARS(struct kinds, code, .max_len = 9),
                HARK_JSON_RAW(struct kinds, any, any_len),
                HARK_JSON_ENUM(struct kinds, status, twice, .as = "st\xc3\xa4t"),
                HARK_JSON_LIST(struct kinds, reals, n_reals, HARK_JSON_MAX(1.5), .min_len = 1,
                               .max_len = 3));

static void test_every_kind_has_its_words(void **state)
{
    (void)state;
    assert_schema(
        &kinds_json,
        DRAFT "\"title\":\"kinds_json\",\"type\":\"object\",\"properties\":{"
              "\"at\":{\"description\":\"When it \\\"was\\\".\",\"type\":\"string\","
              "\"format\":\"date-time\",\"pattern\":" TIME_PATTERN "},"
              "\"seal\":{\"type\":[\"string\",\"null\"],\"contentEncoding\":\"base64\","
              "\"pattern\":" BASE64_PATTERN ",\"minLength\":4,\"maxLength\":8},"
              "\"total\":{\"type\":\"number\",\"minimum\":-0.05,\"maximum\":92233720368547758.07},"
              "\"rate\":{\"type\":[\"string\",\"null\"],\"pattern\":"
              "\"^-?(0|[1-9][0-9]*)(([.][0-9]{1,4}0*)?|([.][0-9]+)?[eE][+-]?[0-9]+)$\"},"
              "\"count\":{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":7},"
              "\"points\":{\"type\":\"string\",\"pattern\":"
              "\"^-?(0|[1-9][0-9]*)(([.]0+)?|([.][0-9]+)?[eE][+-]?[0-9]+)$\"},"
              "\"sure\":{\"type\":[\"boolean\",\"null\"]},"
              "\"small\":{\"type\":[\"integer\",\"null\"],\"minimum\":0,\"maximum\":255},"
              "\"code\":{\"type\":[\"string\",\"null\"],\"maxLength\":4},"
              "\"any\":{},"
              "\"st\xc3\xa4t\":{\"type\":[\"string\",\"null\"],\"enum\":[\"a\",\"b\",null]},"
              "\"reals\":{\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"number\","
              "\"maximum\":1.5},\"minItems\":1,\"maxItems\":3}},"
              "\"required\":[\"at\",\"total\",\"points\"]}");
}

/* ---- nested tables --------------------------------------------------------------------------- */

struct leaf {
    int32_t n;
};
struct tree {
    struct leaf leaf, more;
    struct tree *kids;
    size_t n_kids;
    struct leaf fixed[2];
    size_t n_fixed;
};

HARK_JSON_TABLE(leaf_json, struct leaf, HARK_JSON_INT(struct leaf, n, HARK_JSON_RANGE(1, 2)));
HARK_JSON_TABLE(tree_json, struct tree,
                HARK_JSON_OBJECT(struct tree, leaf, &leaf_json, .required = true),
                HARK_JSON_OBJECT(struct tree, more, &leaf_json, .doc = "Another."),
                HARK_JSON_ARRAY(struct tree, kids, n_kids, &tree_json),
                HARK_JSON_FIXED_ARRAY(struct tree, fixed, n_fixed, &leaf_json));

#define LEAF                                                                                       \
    "\"title\":\"leaf_json\",\"type\":\"object\",\"properties\":{\"n\":{\"type\":"                 \
    "[\"integer\",\"null\"],\"minimum\":1,\"maximum\":2}}}"

static void test_a_table_is_described_once_even_if_it_names_itself(void **state)
{
    (void)state;
    assert_schema(&tree_json,
                  DRAFT "\"title\":\"tree_json\",\"type\":\"object\",\"properties\":{"
                        "\"leaf\":{\"$ref\":\"#/$defs/leaf_json\"},"
                        "\"more\":{\"description\":\"Another.\",\"anyOf\":["
                        "{\"$ref\":\"#/$defs/leaf_json\"},{\"type\":\"null\"}]},"
                        "\"kids\":{\"type\":[\"array\",\"null\"],\"items\":{\"$ref\":\"#\"}},"
                        "\"fixed\":{\"type\":[\"array\",\"null\"],\"items\":"
                        "{\"$ref\":\"#/$defs/leaf_json\"},\"maxItems\":2}},"
                        "\"required\":[\"leaf\"],\"$defs\":{\"leaf_json\":{" LEAF "}}");
}

struct pair {
    struct leaf a, b, c;
};

static void test_tables_of_one_name_get_names_that_differ(void **state)
{
    hark_json_table second = leaf_json, third = leaf_json;
    const hark_json_field fields[] = {
        HARK_JSON_OBJECT(struct pair, a, &leaf_json, .required = true),
        HARK_JSON_OBJECT(struct pair, b, &second, .required = true),
        HARK_JSON_OBJECT(struct pair, c, &third, .required = true)};
    const hark_json_table pair_json = {
        sizeof(pair_json), "leaf_json", sizeof(struct pair), fields, 3, sizeof(fields[0]), 0};
    (void)state;
    third.name = "leaf/json";
    assert_schema(&pair_json, DRAFT
                  "\"title\":\"leaf_json\",\"type\":\"object\",\"properties\":{"
                  "\"a\":{\"$ref\":\"#/$defs/leaf_json\"},"
                  "\"b\":{\"$ref\":\"#/$defs/leaf_json_2\"},"
                  "\"c\":{\"$ref\":\"#/$defs/leaf_json_3\"}},"
                  "\"required\":[\"a\",\"b\",\"c\"],\"$defs\":{"
                  "\"leaf_json\":{" LEAF ",\"leaf_json_2\":{" LEAF ",\"leaf_json_3\":{"
                  "\"title\":\"leaf/json\",\"type\":\"object\",\"properties\":{\"n\":{\"type\":"
                  "[\"integer\",\"null\"],\"minimum\":1,\"maximum\":2}}}}}");
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void assert_refused(const hark_json_table *table, const char *want)
{
    char untouched = 'x', *text = &untouched;
    hark_errinfo ei = {0};
    assert_int_equal(hark_json_schema(table, &text, &ei), HARK_EINVAL);
    assert_string_equal(ei.text, want);
    assert_ptr_equal(text, &untouched);
    assert_int_equal(hark_json_schema(table, &text, NULL), HARK_EINVAL);
}

static void test_a_table_that_does_not_fit_has_no_schema(void **state)
{
    hark_json_field field = HARK_JSON_INT(struct leaf, n);
    hark_json_table table = leaf_json;
    hark_errinfo ei;
    (void)state;
    table.fields = &field;
    field.offset = 1;
    assert_refused(&table, "table leaf_json, field n: the member reaches beyond its struct");
    assert_refused(NULL, "no table");
    assert_int_equal(hark_json_schema(&leaf_json, NULL, &ei), HARK_EINVAL);
    assert_string_equal(ei.text, "no place for the text");
}

static void test_texts_that_are_not_utf8_are_refused(void **state)
{
    static const hark_json_name names[] = {{"\xff", 0}, {NULL, 0}};
    hark_json_field field = HARK_JSON_INT(struct leaf, n, .doc = "a\xc3");
    hark_json_table table = leaf_json;
    (void)state;
    table.fields = &field;
    assert_refused(&table, "table leaf_json, field n: its .doc is not UTF-8");
    field.doc = NULL;
    field.type = HARK_JSON_T_ENUM;
    field.names = names;
    assert_refused(&table, "table leaf_json, field n: a name of its enum is not UTF-8");
    table.name = "\xff";
    assert_refused(&table, "the name of a table is not UTF-8");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_order_line_is_described),
        cmocka_unit_test(test_every_kind_has_its_words),
        cmocka_unit_test(test_a_table_is_described_once_even_if_it_names_itself),
        cmocka_unit_test(test_tables_of_one_name_get_names_that_differ),
        cmocka_unit_test(test_a_table_that_does_not_fit_has_no_schema),
        cmocka_unit_test(test_texts_that_are_not_utf8_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
