/* Promise of schemas: they accept what decoding accepts, and refuse what it refuses but for what
 * <hark/json.h> says they cannot. A small validator of its own, for the words that schemas are
 * written with, judges every sample in every field next to hark_json_decode. */
#include "json/json.h"

#include "json/pattern_test_i.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a validator ----------------------------------------------------------------------------- */

static json_t *root; /* the schema */

static bool valid(const json_t *schema, const json_t *value);

/* Beyond 2^53 every double is. */
static bool is_whole(double n)
{
    return n >= 9007199254740992.0 || n <= -9007199254740992.0 || (double)(int64_t)n == n;
}

static bool is_type(const json_t *value, const char *type)
{
    double n = json_number_value(value);
    if (strcmp(type, "integer") == 0)
        return json_is_number(value) && is_whole(n);
    return (strcmp(type, "null") == 0 && json_is_null(value)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(value)) ||
           (strcmp(type, "number") == 0 && json_is_number(value)) ||
           (strcmp(type, "string") == 0 && json_is_string(value)) ||
           (strcmp(type, "array") == 0 && json_is_array(value)) ||
           (strcmp(type, "object") == 0 && json_is_object(value));
}

static bool is_one_of_types(const json_t *value, const json_t *types)
{
    if (json_is_string(types))
        return is_type(value, json_string_value(types));
    for (size_t i = 0; i < json_array_size(types); i++)
        if (is_type(value, json_string_value(json_array_get(types, i))))
            return true;
    return false;
}

static bool is_one_of(const json_t *value, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), value))
            return true;
    return false;
}

static bool is_valid_as_one_of(const json_t *value, const json_t *schemas)
{
    for (size_t i = 0; i < json_array_size(schemas); i++)
        if (valid(json_array_get(schemas, i), value))
            return true;
    return false;
}

static const json_t *target(const char *ref)
{
    static const char defs[] = "#/$defs/";
    if (strcmp(ref, "#") == 0)
        return root;
    assert_int_equal(strncmp(ref, defs, sizeof(defs) - 1), 0);
    const json_t *found = json_object_get(json_object_get(root, "$defs"), ref + sizeof(defs) - 1);
    assert_non_null(found);
    return found;
}

static bool number_is_valid(const char *word, double bound, double n)
{
    return strcmp(word, "minimum") == 0 ? n >= bound : n <= bound;
}

static bool matches(const json_t *value, const char *pattern)
{
    assert_true(pattern[0] == '^' && pattern[strlen(pattern) - 1] == '$');
    assert_true(json_string_length(value) <= PATTERN_TEXT_MOST);
    return strlen(json_string_value(value)) == json_string_length(value) &&
           pattern_matches(pattern, json_string_value(value));
}

static bool length_is_valid(const char *word, size_t bound, size_t n)
{
    return strncmp(word, "min", 3) == 0 ? n >= bound : n <= bound;
}

static size_t chars(const json_t *string)
{
    size_t n = 0;
    for (size_t i = 0; i < json_string_length(string); i++)
        n += ((unsigned char)json_string_value(string)[i] & 0xc0) != 0x80;
    return n;
}

static bool string_is_valid(const char *word, const json_t *rule, const json_t *value)
{
    if (strcmp(word, "pattern") == 0)
        return matches(value, json_string_value(rule));
    return length_is_valid(word, (size_t)json_number_value(rule), chars(value));
}

static bool array_is_valid(const char *word, const json_t *rule, const json_t *value)
{
    if (strcmp(word, "items") != 0)
        return length_is_valid(word, (size_t)json_number_value(rule), json_array_size(value));
    for (size_t i = 0; i < json_array_size(value); i++)
        if (!valid(rule, json_array_get(value, i)))
            return false;
    return true;
}

static bool object_is_valid(const json_t *schema, const char *word, const json_t *rule,
                            const json_t *value)
{
    const char *name;
    json_t *member;
    if (strcmp(word, "required") == 0) {
        for (size_t i = 0; i < json_array_size(rule); i++)
            if (json_object_get(value, json_string_value(json_array_get(rule, i))) == NULL)
                return false;
        return true;
    }
    json_object_foreach((json_t *)(uintptr_t)value, name, member)
    {
        const json_t *of = json_object_get(json_object_get(schema, "properties"), name);
        if (strcmp(word, "properties") == 0 ? of != NULL && !valid(of, member) : of == NULL)
            return false;
    }
    return true;
}

static bool is_among(const char *word, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(*words, word) == 0)
            return true;
    return false;
}

static bool word_is_valid(const json_t *schema, const char *word, const json_t *rule,
                          const json_t *value)
{
    static const char *const notes[] = {"$schema", "title",           "description", "$defs",
                                        "format",  "contentEncoding", NULL};
    static const char *const of_numbers[] = {"minimum", "maximum", NULL};
    static const char *const of_strings[] = {"minLength", "maxLength", "pattern", NULL};
    static const char *const of_arrays[] = {"items", "minItems", "maxItems", NULL};
    static const char *const of_objects[] = {"properties", "required", "additionalProperties",
                                             NULL};
    if (is_among(word, notes))
        return true;
    if (is_among(word, of_numbers))
        return !json_is_number(value) ||
               number_is_valid(word, json_number_value(rule), json_number_value(value));
    if (is_among(word, of_strings))
        return !json_is_string(value) || string_is_valid(word, rule, value);
    if (is_among(word, of_arrays))
        return !json_is_array(value) || array_is_valid(word, rule, value);
    if (is_among(word, of_objects))
        return !json_is_object(value) || object_is_valid(schema, word, rule, value);
    if (strcmp(word, "type") == 0)
        return is_one_of_types(value, rule);
    if (strcmp(word, "enum") == 0)
        return is_one_of(value, rule);
    if (strcmp(word, "anyOf") == 0)
        return is_valid_as_one_of(value, rule);
    assert_string_equal(word, "$ref");
    return valid(target(json_string_value(rule)), value);
}

static bool valid(const json_t *schema, const json_t *value)
{
    const char *word;
    json_t *rule;
    assert_true(json_is_object(schema));
    json_object_foreach((json_t *)(uintptr_t)schema, word, rule)
    {
        if (!word_is_valid(schema, word, rule, value))
            return false;
    }
    return true;
}

/* ---- the table and its samples --------------------------------------------------------------- */

enum color { RED = 1, BLUE = 2 };
struct leaf {
    int8_t n;
};
struct all {
    bool flag;
    int8_t small;
    uint64_t big;
    uint16_t bounded;
    double real;
    char *name;
    char code[5];
    enum color color;
    char *any;
    size_t any_len;
    int64_t at;
    void *blob;
    size_t blob_len;
    int64_t total, rate, whole;
    struct leaf leaf, must;
    struct leaf *leaves;
    size_t n_leaves;
    struct all *kids;
    size_t n_kids;
    char **words;
    size_t n_words;
    uint8_t three[3];
    size_t n_three;
    enum color *colors;
    size_t n_colors;
};

static const hark_json_name colors[] = {{"red", RED}, {"blue", BLUE}, {NULL, 0}};

HARK_JSON_TABLE_STRICT(leaf_json, struct leaf, HARK_JSON_INT(struct leaf, n, .required = true));
HARK_JSON_TABLE(
    all_json, struct all, HARK_JSON_BOOL(struct all, flag), HARK_JSON_INT(struct all, small),
    HARK_JSON_INT(struct all, big), HARK_JSON_INT(struct all, bounded, HARK_JSON_RANGE(1, 1000)),
    HARK_JSON_DOUBLE(struct all, real, HARK_JSON_RANGE(-0.5, 5.5)),
    HARK_JSON_STR(struct all, name, .min_len = 1, .max_len = 4), HARK_JSON_CHARS(struct all, code),
    HARK_JSON_ENUM(struct all, color, colors), HARK_JSON_RAW(struct all, any, any_len),
    HARK_JSON_TIME(struct all, at),
    HARK_JSON_BYTES(struct all, blob, blob_len, .min_len = 2, .max_len = 4),
    HARK_JSON_DECIMAL(struct all, total, 2, HARK_JSON_RANGE(-100, 100000)),
    HARK_JSON_DECIMAL(struct all, rate, 2, .as_text = true),
    HARK_JSON_DECIMAL(struct all, whole, 0, HARK_JSON_MIN(1)),
    HARK_JSON_OBJECT(struct all, leaf, &leaf_json),
    HARK_JSON_OBJECT(struct all, must, &leaf_json, .required = true),
    HARK_JSON_ARRAY(struct all, leaves, n_leaves, &leaf_json, .min_len = 1, .max_len = 2),
    HARK_JSON_ARRAY(struct all, kids, n_kids, &all_json),
    HARK_JSON_LIST(struct all, words, n_words), HARK_JSON_FIXED_LIST(struct all, three, n_three),
    HARK_JSON_ENUM_LIST(struct all, colors, n_colors, colors));

static const char *const samples[] = {
    "null", "true", "0", "-0", "1", "-1", "5.0", "50e-1", "5.5", "5.51", "0.01", "0.1", "4.35",
    "12.34", "12.340", "12.345", "1.23e1", "127", "128", "-128", "-129", "255", "256", "1000",
    "1000.0", "1000.01", "1001", "-0.5", "-0.51", "-1.01", "1e40", "1e-19",
    /* strings */
    "\"\"", "\"a\"", "\"abcd\"", "\"abcde\"", "\"\\u00e4\\u00e4\\u00e4\\u00e4\"", "\"\\u0000\"",
    "\"red\"", "\"blue\"", "\"Red\"",
    /* decimals as text */
    "\"0\"", "\"12.34\"", "\"12.3\"", "\"12.34000\"", "\"12.345\"", "\"1.5e1\"", "\"1e-3\"",
    "\"1E+400\"", "\"99999999999999999999\"", "\"+1\"", "\"01\"", "\"1.\"", "\".5\"", "\" 1\"",
    "\"-0.00\"", "\"-\"", "\"1e\"",
    /* base64 */
    "\"AA==\"", "\"AB==\"", "\"AAA=\"", "\"AAB=\"", "\"AAAA\"", "\"AAAAAA==\"", "\"AAAAAAA=\"",
    "\"AAAAAAAA\"", "\"AAAAAAAAAAAA\"", "\"AAAA=\"", "\"A-_A\"", "\"+/+/\"", "\"AAA\\n\"",
    /* times */
    "\"2026-01-31T12:00:00Z\"", "\"2026-01-31t12:00:00.5z\"", "\"2026-01-31T12:00:00+05:30\"",
    "\"2026-01-31T12:00:00.123456789-00:00\"", "\"2026-01-31T12:00:00.1234567891Z\"",
    "\"2026-01-31T12:00:00.Z\"", "\"2026-01-31T12:00:00\"", "\"2026-01-31 12:00:00Z\"",
    "\"2026-02-30T12:00:00Z\"", "\"2026-13-01T12:00:00Z\"", "\"2026-01-32T12:00:00Z\"",
    "\"2026-01-31T24:00:00Z\"", "\"2026-01-31T12:60:00Z\"", "\"2026-01-31T12:00:61Z\"",
    "\"2026-01-31T12:00:00+24:00\"", "\"2026-01-31T12:00:00+0100\"", "\"2016-12-31T23:59:60Z\"",
    "\"2016-12-31T15:59:60-08:00\"", "\"2016-12-31T22:59:60Z\"", "\"1676-12-31T00:00:00Z\"",
    "\"1677-01-01T00:00:00Z\"", "\"1677-09-21T00:12:43.145224192Z\"", "\"1800-01-01T00:00:00Z\"",
    "\"1699-12-31T00:00:00Z\"", "\"2259-12-31T00:00:00Z\"", "\"2262-04-11T23:47:16.854775807Z\"",
    "\"2262-04-12T23:46:16.854775807+23:59\"", "\"2262-12-01T00:00:00Z\"",
    "\"2263-01-01T00:00:00Z\"", "\"0001-01-01T00:00:00Z\"",
    /* containers */
    "[]", "[0]", "[1,2,3]", "[1,2,3,4]", "[256]", "[1.0,true]", "[null]", "[\"\"]",
    "[\"red\",\"blue\"]", "[\"a\",\"\\u0000\"]", "{}", "{\"n\":1}", "{\"n\":128}", "{\"n\":null}",
    "{\"n\":1,\"m\":2}", "[{\"n\":1}]", "[{\"n\":1},{\"n\":2}]", "[{\"n\":1},{\"n\":2},{\"n\":3}]",
    "[{\"n\":\"1\"}]", "[{\"must\":{\"n\":1}}]", "[{\"must\":{\"n\":1},\"small\":300}]", "[{}]",
    "[{\"must\":{\"n\":1},\"kids\":[{\"must\":{\"n\":1},\"x\":1}]}]",
    "[{\"must\":{\"n\":1},\"kids\":[{\"must\":{\"n\":1},\"flag\":1}]}]"};

/* What a schema cannot say, see hark_json_schema. */
static bool may_be_laxer(hark_json_type type, const char *rule)
{
    if (strcmp(rule, "nul") == 0)
        return true;
    if (strcmp(rule, "format") == 0)
        return type == HARK_JSON_T_TIME;
    if (strcmp(rule, "length") == 0)
        return type == HARK_JSON_T_BYTES || type == HARK_JSON_T_CHARS;
    if (strcmp(rule, "type") == 0)
        return type == HARK_JSON_T_DECIMAL;
    return strcmp(rule, "range") == 0 && (type == HARK_JSON_T_TIME || type == HARK_JSON_T_DECIMAL);
}

static unsigned laxer, both_take, both_refuse;

static void judge(const hark_json_field *field, const char *text)
{
    struct all all = {0};
    hark_json_errors errors;
    hark_err err = hark_json_decode(&all_json, text, strlen(text), &all, &errors);
    json_t *value = json_loads(text, JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    bool accepted = valid(root, value);
    if (err == HARK_OK && !accepted)
        fail_msg("%s is decoded, but the schema refuses it", text);
    if (err != HARK_OK && accepted && !may_be_laxer(field->type, errors.list[0].rule))
        fail_msg("%s is accepted by the schema, but %s %s", text, errors.list[0].path,
                 errors.list[0].text);
    laxer += err != HARK_OK && accepted;
    both_take += err == HARK_OK && accepted;
    both_refuse += err != HARK_OK && !accepted;
    hark_json_free(&all_json, &all);
    json_decref(value);
}

static void test_the_schema_takes_what_decoding_takes(void **state)
{
    (void)state;
    for (size_t i = 0; i < all_json.n_fields; i++) {
        const hark_json_field *field = &all_json.fields[i];
        bool must = strcmp(field->member, "must") == 0;
        for (size_t k = 0; k < HK_COUNTOF(samples); k++) {
            char text[512];
            snprintf(text, sizeof(text), "{%s\"%s\":%s}", must ? "" : "\"must\":{\"n\":1},",
                     field->member, samples[k]);
            judge(field, text);
        }
    }
    print_message("%u taken, %u refused by both, %u by decoding only\n", both_take, both_refuse,
                  laxer);
    assert_true(both_take > 300 && both_refuse > 1000 && laxer > 0 && laxer < 40);
}

/* The matcher judges, so it is judged first. */
static void test_patterns_are_matched_as_validators_do(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } rows[] = {
        {"^a$", "a", true},           {"^a$", "ab", false},          {"^a$", "", false},
        {"^(a|bc)*$", "", true},      {"^(a|bc)*$", "abca", true},   {"^(a|bc)*$", "abb", false},
        {"^[a-c+-]{2}$", "b-", true}, {"^[a-c+-]{2}$", "bd", false}, {"^[.]+$", "..", true},
        {"^[.]+$", "x", false},       {"^a{1,3}0*$", "aa00", true},  {"^a{1,3}0*$", "aaaa", false},
        {"^a?b$", "b", true},         {"^a?b$", "aab", false},       {"^((a)?|b+c)$", "bbc", true},
        {"^((a)?|b+c)$", "bb", false}};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(rows); i++)
        if (pattern_matches(rows[i].pattern, rows[i].text) != rows[i].matches)
            fail_msg("%s and '%s'", rows[i].pattern, rows[i].text);
}

static void test_members_that_must_be_there_and_unknown_ones(void **state)
{
    static const char *const texts[] = {"{}",
                                        "{\"must\":null}",
                                        "{\"must\":{}}",
                                        "{\"must\":{\"n\":1},\"x\":[]}",
                                        "{\"must\":{\"n\":1,\"x\":[]}}",
                                        "[]"};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(texts); i++)
        judge(&all_json.fields[0], texts[i]);
}

static int make_schema(void **state)
{
    char *text = NULL;
    (void)state;
    if (hark_json_schema(&all_json, &text, NULL) != HARK_OK)
        return -1;
    root = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
    free(text);
    return root != NULL ? 0 : -1;
}

static int drop_schema(void **state)
{
    (void)state;
    json_decref(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patterns_are_matched_as_validators_do),
        cmocka_unit_test(test_the_schema_takes_what_decoding_takes),
        cmocka_unit_test(test_members_that_must_be_there_and_unknown_ones),
    };
    return cmocka_run_group_tests(tests, make_schema, drop_schema);
}
