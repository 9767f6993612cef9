/* Promises of field tables: one that does not fit its struct is refused with a text that names
 * table, field and reason, and never used. */
#include "json/order_test_i.h"
#include "json/table_i.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pair {
    int32_t a;
    uint16_t b;
    bool has_b;
    char name[8];
    char *text;
    double real;
    int32_t *list;
    size_t n;
    int64_t at;
    unsigned char *bytes;
};

static const hark_json_name no_names[] = {{NULL, 0}};

/* A good table whose field is then spoiled. */
static hark_json_field fields[2];
static hark_json_table table;

static void fresh(hark_json_field field)
{
    table = (hark_json_table){.size = sizeof(table),
                              .name = "pair_json",
                              .struct_size = sizeof(struct pair),
                              .fields = fields,
                              .n_fields = 1,
                              .field_size = sizeof(hark_json_field)};
    memset(fields, 0, sizeof(fields));
    fields[0] = field;
}

static void fresh_int(void)
{
    fresh((hark_json_field)HARK_JSON_INT(struct pair, a));
}

static void fresh_decimal(void)
{
    fresh((hark_json_field)HARK_JSON_DECIMAL(struct pair, at, 18, HARK_JSON_RANGE(-1, 1)));
}

static void fresh_list(void)
{
    fresh((hark_json_field)HARK_JSON_LIST(struct pair, list, n));
}

static void assert_unfit(const char *want)
{
    hark_errinfo ei = {0};
    struct pair p = {0}, zero = {0};
    hark_json_errors errors;
    char *text;
    assert_int_equal(hark_json_table_check(&table, &ei), HARK_EINVAL);
    assert_string_equal(ei.text, want);
    assert_int_equal(hark_json_table_check(&table, NULL), HARK_EINVAL);
    assert_int_equal(hark_json_decode(&table, "{}", 2, &p, &errors), HARK_EINVAL);
    assert_int_equal(errors.count, 1);
    assert_string_equal(errors.list[0].rule, "table");
    assert_int_equal(hark_json_encode(&table, &p, &text, NULL, &ei), HARK_EINVAL);
    hark_json_free(&table, &p);
    assert_memory_equal(&p, &zero, sizeof(p));
}

static void test_good_tables_pass(void **state)
{
    (void)state;
    assert_int_equal(hark_json_table_check(&order_json, NULL), HARK_OK);
    fresh_int();
    assert_int_equal(hark_json_table_check(&table, NULL), HARK_OK);
    fresh_list();
    assert_int_equal(hark_json_table_check(&table, NULL), HARK_OK);
    assert_int_equal(hark_json_table_check(NULL, NULL), HARK_EINVAL);
}

static void test_macros_find_type_and_size_of_the_member(void **state)
{
    hark_json_field a = HARK_JSON_INT(struct pair, a);
    hark_json_field b = HARK_JSON_INT(struct pair, b, HARK_JSON_HAS(struct pair, has_b));
    hark_json_field list = HARK_JSON_LIST(struct pair, list, n);
    hark_json_field real = HARK_JSON_DOUBLE(struct pair, real, HARK_JSON_RANGE(-0.5, 3));
    (void)state;
    assert_int_equal(a.type, HARK_JSON_T_INT);
    assert_int_equal(b.type, HARK_JSON_T_UINT);
    assert_int_equal(b.size, 2);
    assert_int_equal(b.has_offset, offsetof(struct pair, has_b));
    assert_int_equal(list.elem, HARK_JSON_T_INT);
    assert_int_equal(list.elem_size, 4);
    assert_true(real.min_real == -0.5 && real.max_real == 3.0);
    hark_json_field bytes = HARK_JSON_BYTES(struct pair, bytes, n);
    hark_json_field at = HARK_JSON_TIME(struct pair, at, HARK_JSON_HAS(struct pair, has_b));
    hark_json_field price = HARK_JSON_DECIMAL(struct pair, at, 2, .as_text = true);
    assert_int_equal(bytes.count_offset, offsetof(struct pair, n));
    assert_int_equal(bytes.size, sizeof(void *));
    assert_int_equal(at.size, 8);
    assert_int_equal(at.has_offset, offsetof(struct pair, has_b));
    assert_true(price.digits == 2 && price.as_text);
}

static void test_a_member_outside_its_struct_is_refused(void **state)
{
    (void)state;
    fresh_int();
    fields[0].offset = sizeof(struct pair) - 3;
    assert_unfit("table pair_json, field a: the member reaches beyond its struct");
    fields[0].offset = SIZE_MAX;
    assert_unfit("table pair_json, field a: the member reaches beyond its struct");
    fresh_int();
    fields[0].owner_size = 8;
    assert_unfit("table pair_json, field a: the field is of another struct");
    fresh_list();
    fields[0].count_offset = sizeof(struct pair);
    assert_unfit("table pair_json, field list: the count reaches beyond its struct");
    fresh((hark_json_field)HARK_JSON_BYTES(struct pair, bytes, n));
    fields[0].count_offset = sizeof(struct pair) - 7;
    assert_unfit("table pair_json, field bytes: the count reaches beyond its struct");
    fields[0].count_size = 4;
    assert_unfit("table pair_json, field bytes: the count must be a size_t");
    fresh((hark_json_field)HARK_JSON_TIME(struct pair, at));
    fields[0].offset = sizeof(struct pair) - 7;
    assert_unfit("table pair_json, field at: the member reaches beyond its struct");
    fresh((hark_json_field)HARK_JSON_INT(struct pair, b, HARK_JSON_HAS(struct pair, has_b)));
    fields[0].has_offset = sizeof(struct pair);
    assert_unfit("table pair_json, field b: the has member reaches beyond its struct");
}

static void test_a_member_of_the_wrong_size_is_refused(void **state)
{
    static const struct {
        hark_json_type type;
        const char *text;
    } rows[] = {
        {HARK_JSON_T_BOOL, "a bool member must have the size of bool"},
        {HARK_JSON_T_INT, "an integer member must have 1, 2, 4 or 8 bytes"},
        {HARK_JSON_T_UINT, "an integer member must have 1, 2, 4 or 8 bytes"},
        {HARK_JSON_T_DOUBLE, "a double member must have the size of double"},
        {HARK_JSON_T_STR, "a string member must have the size of a pointer"},
        {HARK_JSON_T_RAW, "a string member must have the size of a pointer"},
        {HARK_JSON_T_ENUM, "an enum member must have the size of int"},
        {HARK_JSON_T_LIST, "a list must be a pointer or a fixed array"},
        {HARK_JSON_T_OBJECT, "a nested struct needs a table"},
        {HARK_JSON_T_TIME, "a time member must have the size of int64_t"},
        {HARK_JSON_T_BYTES, "a bytes member must have the size of a pointer"},
        {HARK_JSON_T_DECIMAL, "a decimal member must have the size of int64_t"},
        {(hark_json_type)99, "unknown type"},
    };
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(rows); i++) {
        char want[128];
        fresh_int();
        fields[0].type = rows[i].type;
        fields[0].size = 3;
        snprintf(want, sizeof(want), "table pair_json, field a: %s", rows[i].text);
        assert_unfit(want);
    }
    fresh((hark_json_field)HARK_JSON_CHARS(struct pair, name));
    fields[0].size = 1;
    assert_unfit(
        "table pair_json, field name: a char array must have room for a character and its end");
}

static void test_bounds_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    fresh((hark_json_field)HARK_JSON_INT(struct pair, b, HARK_JSON_MIN(-1)));
    assert_unfit("table pair_json, field b: the lower bound does not fit the type");
    fresh((hark_json_field)HARK_JSON_INT(struct pair, a, HARK_JSON_MAX(1.5)));
    assert_unfit("table pair_json, field a: the upper bound does not fit the type");
    fresh((hark_json_field)HARK_JSON_INT(struct pair, a, HARK_JSON_RANGE(2, 1)));
    assert_unfit("table pair_json, field a: the lower bound is above the upper one");
    fresh((hark_json_field)HARK_JSON_STR(struct pair, text, HARK_JSON_MAX(3)));
    assert_unfit("table pair_json, field text: the upper bound does not fit the type");
    fresh((hark_json_field)HARK_JSON_STR(struct pair, text, .min_len = 3, .max_len = 2));
    assert_unfit("table pair_json, field text: min_len is above max_len");
}

static void test_bounds_of_64_bits_are_compared_exactly(void **state)
{
    (void)state;
    fresh((hark_json_field)HARK_JSON_TIME(
        struct pair, at,
        HARK_JSON_RANGE(INT64_C(1700000000000000001), INT64_C(1700000000000000000))));
    assert_unfit("table pair_json, field at: the lower bound is above the upper one");
    fresh((hark_json_field)HARK_JSON_DECIMAL(struct pair, at, 2, HARK_JSON_MIN(0.5)));
    assert_unfit("table pair_json, field at: the lower bound does not fit the type");
    fresh((hark_json_field)HARK_JSON_DECIMAL(struct pair, at, 2, HARK_JSON_MAX(1e19)));
    assert_unfit("table pair_json, field at: the upper bound does not fit the type");
    fresh((hark_json_field)HARK_JSON_BYTES(struct pair, bytes, n, HARK_JSON_MIN(1)));
    assert_unfit("table pair_json, field bytes: the lower bound does not fit the type");
}

static void test_digits_of_a_decimal_are_0_to_18(void **state)
{
    (void)state;
    fresh_decimal();
    assert_int_equal(hark_json_table_check(&table, NULL), HARK_OK);
    fields[0].digits = 19;
    assert_unfit("table pair_json, field at: the digits of a decimal must be from 0 to 18");
    fields[0].digits = -1;
    assert_unfit("table pair_json, field at: the digits of a decimal must be from 0 to 18");
    fresh_int();
    fields[0].as_text = true;
    assert_unfit("table pair_json, field a: as_text is an option of decimals only");
    fresh_int();
    fields[0].digits = 2;
    assert_unfit("table pair_json, field a: an unknown option is set");
    fresh_decimal();
    fields[0].spare[2] = 1;
    assert_unfit("table pair_json, field at: an unknown option is set");
}

static void test_names_must_be_there_and_differ(void **state)
{
    (void)state;
    fresh_int();
    fields[1] = fields[0];
    table.n_fields = 2;
    assert_unfit("table pair_json, field a: another field has this name");
    fresh_int();
    fields[0].as = "\xff";
    assert_unfit("table pair_json, field a: the field needs a name in UTF-8");
    fresh_int();
    fields[0].member = NULL;
    assert_unfit("table pair_json, field ?: the field needs a name in UTF-8");
    fresh_int();
    fields[0].type = HARK_JSON_T_ENUM;
    fields[0].names = no_names;
    assert_unfit("table pair_json, field a: an enum needs names");
}

static void test_nested_tables_must_fit_their_member(void **state)
{
    (void)state;
    fresh_int();
    fields[0].type = HARK_JSON_T_OBJECT;
    fields[0].table = &item_json;
    assert_unfit("table pair_json, field a: the nested table is of another struct");
    fields[0].table = &table;
    fields[0].size = table.struct_size;
    assert_unfit("table pair_json, field a: a struct cannot contain itself");
    fresh_list();
    fields[0].elem = HARK_JSON_T_OBJECT;
    fields[0].table = &item_json;
    assert_unfit("table pair_json, field list: the nested table is of another struct");
    fields[0].elem = HARK_JSON_T_LIST;
    assert_unfit("table pair_json, field list: lists of lists, raw values or char arrays are not "
                 "supported");
    fields[0].elem = HARK_JSON_T_DECIMAL;
    assert_unfit(
        "table pair_json, field list: lists of times, bytes or decimals are not supported; "
        "make a list of structs");
}

static void test_faults_of_a_nested_table_are_found_from_outside(void **state)
{
    static hark_json_field inner_field = HARK_JSON_INT(struct pair, a);
    static hark_json_table inner;
    hark_errinfo ei;
    (void)state;
    fresh_list();
    inner = table;
    inner.name = "inner_json";
    inner.fields = &inner_field;
    inner_field.size = 3;
    fields[0].elem = HARK_JSON_T_OBJECT;
    fields[0].elem_size = sizeof(struct pair);
    fields[0].table = &inner;
    assert_int_equal(hark_json_table_check(&table, &ei), HARK_EINVAL);
    assert_non_null(strstr(ei.text, "table inner_json, field a: an integer member"));
}

static void test_tables_of_another_making_are_refused(void **state)
{
    (void)state;
    fresh_int();
    table.flags = 2;
    assert_unfit("table pair_json: an unknown flag is set");
    fresh_int();
    table.size = 8;
    assert_unfit("table pair_json: the table is too small to be one");
    fresh_int();
    table.name = NULL;
    assert_unfit("table ?: the table has no name");
    fresh_int();
    table.n_fields = 0;
    assert_unfit("table pair_json: a table has 1 to 256 fields");
    fresh_int();
    table.field_size = 16;
    assert_unfit("table pair_json: its fields have the wrong size");
    fresh_int();
    fields[0].unused = 1;
    assert_unfit("table pair_json, field a: an unknown option is set");
}

struct newer_field {
    hark_json_field known;
    uint64_t option;
};

static void test_a_larger_field_is_taken_if_what_is_new_is_not_used(void **state)
{
    static struct newer_field newer[2] = {{HARK_JSON_INT(struct pair, a), 0},
                                          {HARK_JSON_INT(struct pair, b), 0}};
    struct pair p = {0};
    (void)state;
    fresh_int();
    table.fields = &newer[0].known;
    table.n_fields = 2;
    table.field_size = sizeof(newer[0]);
    assert_int_equal(hark_json_decode(&table, "{\"a\":1,\"b\":2}", 13, &p, NULL), HARK_OK);
    assert_int_equal(p.b, 2);
    newer[1].option = 1;
    assert_unfit("table pair_json: its fields use options of a newer version");
}

/* Fields as the first version had them, at the end of their memory: whoever reads on is caught. */
static char *first_version_of(const hark_json_field *list, size_t n)
{
    char *old = malloc(n * HK_JSON_FIELD_FIRST);
    assert_non_null(old);
    for (size_t i = 0; i < n; i++)
        memcpy(old + i * HK_JSON_FIELD_FIRST, &list[i], HK_JSON_FIELD_FIRST);
    return old;
}

static void test_tables_of_the_first_version_work_as_before(void **state)
{
    static const char json[] = "{\"a\":1,\"at\":\"1970-01-01T00:00:01Z\",\"list\":[1,2]}";
    const hark_json_field now[] = {HARK_JSON_INT(struct pair, a), HARK_JSON_TIME(struct pair, at),
                                   HARK_JSON_LIST(struct pair, list, n)};
    char *old = first_version_of(now, 3), *text;
    struct pair p = {0};
    (void)state;
    fresh_int();
    table.fields = (const hark_json_field *)(void *)old;
    table.n_fields = 3;
    table.field_size = HK_JSON_FIELD_FIRST;
    assert_int_equal(hark_json_decode(&table, json, strlen(json), &p, NULL), HARK_OK);
    assert_true(p.at == 1000000000 && p.n == 2);
    assert_int_equal(hark_json_encode(&table, &p, &text, NULL, NULL), HARK_OK);
    assert_string_equal(text, json);
    free(text);
    hark_json_free(&table, &p);
    assert_int_equal(hark_json_schema(&table, &text, NULL), HARK_OK);
    free(text);
    free(old);
}

static void test_a_decimal_in_fields_of_the_first_version_is_refused(void **state)
{
    (void)state;
    fresh_decimal();
    char *old = first_version_of(fields, 1);
    table.fields = (const hark_json_field *)(void *)old;
    table.field_size = HK_JSON_FIELD_FIRST;
    assert_unfit("table pair_json, field at: decimals need the hark_json_field of this version");
    free(old);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_tables_pass),
        cmocka_unit_test(test_macros_find_type_and_size_of_the_member),
        cmocka_unit_test(test_a_member_outside_its_struct_is_refused),
        cmocka_unit_test(test_a_member_of_the_wrong_size_is_refused),
        cmocka_unit_test(test_bounds_that_make_no_sense_are_refused),
        cmocka_unit_test(test_names_must_be_there_and_differ),
        cmocka_unit_test(test_nested_tables_must_fit_their_member),
        cmocka_unit_test(test_faults_of_a_nested_table_are_found_from_outside),
        cmocka_unit_test(test_tables_of_another_making_are_refused),
        cmocka_unit_test(test_a_larger_field_is_taken_if_what_is_new_is_not_used),
        cmocka_unit_test(test_bounds_of_64_bits_are_compared_exactly),
        cmocka_unit_test(test_digits_of_a_decimal_are_0_to_18),
        cmocka_unit_test(test_tables_of_the_first_version_work_as_before),
        cmocka_unit_test(test_a_decimal_in_fields_of_the_first_version_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
