/* Runs the public JSONTestSuite against the slicer; the cases are in tests/data/jsontestsuite. */
#include "json/json.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct jts_case {
    const char *name;
    const char *unit;
    size_t unit_len;
    size_t times;
    const char *tail;
    size_t tail_len;
} jts_case;

static const jts_case cases[] = {
#include "../../tests/data/jsontestsuite/cases.inc"
};

/* What hark does where the suite leaves the choice: numbers are kept as text and refused only by a
 * conversion that they do not fit; all that is not strict UTF-8 with paired surrogates is refused,
 * and so are a byte order mark and more than 64 levels. */
static const char *const accepted_by_choice[] = {
    "i_number_double_huge_neg_exp.json", "i_number_huge_exp.json",
    "i_number_neg_int_huge_exp.json",    "i_number_pos_double_huge_exp.json",
    "i_number_real_neg_overflow.json",   "i_number_real_pos_overflow.json",
    "i_number_real_underflow.json",      "i_number_too_big_neg_int.json",
    "i_number_too_big_pos_int.json",     "i_number_very_big_negative_int.json",
};

static const char *const duplicates[] = {
    "y_object_duplicated_key.json",
    "y_object_duplicated_key_and_value.json",
};

static bool is_among(const char *name, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i], name) == 0)
            return true;
    return false;
}

/* The text of a case in memory of exactly its size, so that a read beyond it is seen. */
static char *case_text(const jts_case *c, size_t *ret_len)
{
    size_t len = c->unit_len * c->times + c->tail_len;
    char *text = malloc(len > 0 ? len : 1);
    assert_non_null(text);
    for (size_t i = 0; i < c->times; i++)
        memcpy(text + i * c->unit_len, c->unit, c->unit_len);
    memcpy(text + c->unit_len * c->times, c->tail, c->tail_len);
    *ret_len = len;
    return text;
}

static hark_err case_check(const jts_case *c, bool allow_duplicates, hk_json_error *ret_error)
{
    hk_json_limits limits = {.allow_duplicates = allow_duplicates};
    hk_json_slice root;
    size_t len;
    char *text = case_text(c, &len);
    hark_err err = hk_json_check(text, len, &limits, &root, ret_error);
    free(text);
    return err;
}

static bool accept_expected(const jts_case *c, bool allow_duplicates)
{
    if (c->name[0] == 'i')
        return is_among(c->name, accepted_by_choice, HK_COUNTOF(accepted_by_choice));
    if (!allow_duplicates && is_among(c->name, duplicates, HK_COUNTOF(duplicates)))
        return false;
    return c->name[0] == 'y';
}

static void run_suite(bool allow_duplicates)
{
    int wrong = 0;
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        hk_json_error fault = {0};
        hark_err err = case_check(&cases[i], allow_duplicates, &fault);
        hark_err want = accept_expected(&cases[i], allow_duplicates) ? HARK_OK : HARK_ESYNTAX;
        if (err == want)
            continue;
        printf("%s: %s, byte %zu: %s\n", cases[i].name, hark_err_name(err), fault.offset,
               fault.reason);
        wrong++;
    }
    assert_int_equal(wrong, 0);
}

static void test_the_suite_is_complete(void **state)
{
    size_t count[256] = {0};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(cases); i++)
        count[(unsigned char)cases[i].name[0]]++;
    assert_int_equal(count['y'], 95);
    assert_int_equal(count['n'], 188);
    assert_int_equal(count['i'], 35);
}

static void test_every_case_is_decided_as_the_suite_asks(void **state)
{
    (void)state;
    run_suite(true);
}

static void test_ijson_refuses_two_valid_cases_for_their_duplicate_names(void **state)
{
    hk_json_error fault;
    (void)state;
    run_suite(false);
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        if (!is_among(cases[i].name, duplicates, HK_COUNTOF(duplicates)))
            continue;
        assert_int_equal(case_check(&cases[i], false, &fault), HARK_ESYNTAX);
        assert_int_equal(fault.fault, HK_JSON_FAULT_DUPLICATE);
    }
}

static void test_every_fault_is_placed_inside_its_text_and_has_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        hk_json_error fault = {0};
        size_t len = cases[i].unit_len * cases[i].times + cases[i].tail_len;
        if (case_check(&cases[i], false, &fault) == HARK_OK)
            continue;
        assert_true(fault.offset <= len);
        assert_true(fault.fault != HK_JSON_FAULT_NONE);
        assert_non_null(fault.reason);
        assert_true(fault.line >= 1 && fault.column >= 1);
    }
}

/* Walks all values, so that the walk is seen to stay inside the text and to end. */
static size_t walk(hk_json_slice value)
{
    hk_json_iter it;
    hk_json_slice name, inner;
    size_t seen = 1;
    for (hk_json_iter_init(&it, value); hk_json_iter_next(&it, &name, &inner);) {
        assert_true(inner.ptr >= value.ptr && inner.ptr + inner.len <= value.ptr + value.len);
        seen += walk(inner);
    }
    return seen;
}

static void test_the_walk_of_an_accepted_case_finds_what_jansson_finds(void **state)
{
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        size_t len;
        char *text = case_text(&cases[i], &len);
        hk_json_slice root;
        if (hk_json_check(text, len, NULL, &root, NULL) == HARK_OK) {
            assert_true(walk(root) >= 1);
            json_t *peer = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            if (json_is_object(peer))
                assert_int_equal(hk_json_count(root), json_object_size(peer));
            if (json_is_array(peer))
                assert_int_equal(hk_json_count(root), json_array_size(peer));
            json_decref(peer);
        }
        free(text);
    }
}

static void test_walking_unchecked_text_stays_inside_it(void **state)
{
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        size_t len;
        char *text = case_text(&cases[i], &len);
        hk_json_slice root = hk_json_root(text, len), value, name;
        hk_json_iter it;
        for (hk_json_iter_init(&it, root); hk_json_iter_next(&it, &name, &value);) {
            assert_true(value.ptr + value.len <= text + len);
            hk_json_string_measure(value);
            hk_json_string_measure(name);
        }
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_suite_is_complete),
        cmocka_unit_test(test_every_case_is_decided_as_the_suite_asks),
        cmocka_unit_test(test_ijson_refuses_two_valid_cases_for_their_duplicate_names),
        cmocka_unit_test(test_every_fault_is_placed_inside_its_text_and_has_a_reason),
        cmocka_unit_test(test_the_walk_of_an_accepted_case_finds_what_jansson_finds),
        cmocka_unit_test(test_walking_unchecked_text_stays_inside_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
