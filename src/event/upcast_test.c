/* Tests of what is known of event versions: which steps may be added, which lead where, and what is
 * said when none do. */
#include "event/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static hk_chains *known;
static hark_errinfo ei;
static int freed, one = 1;

static int set_up(void **state)
{
    (void)state;
    known = NULL;
    ei = (hark_errinfo){0};
    freed = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    hk_chains_free(known);
    return 0;
}
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

static hark_err keep_bytes(const hark_event *event, struct hark_upcast *out, void *ud)
{
    (void)event, (void)out, (void)ud;
    return HARK_OK;
}

static void note_freed(void *ud)
{
    freed += *(int *)ud;
}

static hark_err add(const char *type, int64_t from, int64_t to)
{
    const hk_step step = {.from = from, .to = to, .fn = keep_bytes, .ud = &one, note_freed};
    return hk_chains_add_step(known, type, &step, &known, &ei);
}

static hark_err add_shape(const char *type, int64_t version)
{
    static const hark_json_table table;
    const hk_shape shape = {.version = version, .table = &table};
    return hk_chains_add_shape(known, type, &shape, &known, &ei);
}

static const hk_known *find(const char *type)
{
    return hk_chains_find(known, type, strlen(type));
}

/* "1-2 2-3" */
static const char *steps_of(const hk_step *steps, size_t n, char ret[128])
{
    size_t at = 0;
    ret[0] = '\0';
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(ret + at, 128 - at, "%s%d-%d", i ? " " : "", (int)steps[i].from,
                               (int)steps[i].to);
    return ret;
}

static void assert_chain(const char *type, const char *expected)
{
    char text[128];
    const hk_known *k = find(type);
    assert_non_null(k);
    assert_string_equal(steps_of(k->steps, k->n_steps, text), expected);
}

static void assert_path(const char *type, int64_t stored, int64_t wanted, const char *expected)
{
    char text[128];
    hk_upcast_path path;
    assert_int_equal(hk_known_plan(find(type), stored, wanted, &path, &ei), HK_FIT_STEPS);
    assert_string_equal(steps_of(path.steps, path.n, text), expected);
}

static void assert_no_path(const char *type, int64_t stored, int64_t wanted, const char *says)
{
    hk_upcast_path path;
    assert_int_equal(hk_known_plan(find(type), stored, wanted, &path, &ei), HK_FIT_NONE);
    assert_string_equal(ei.text, says);
}

static hk_fit fit(const char *type, int64_t stored, int64_t wanted)
{
    hk_upcast_path path;
    return hk_known_plan(find(type), stored, wanted, &path, &ei);
}

static void test_a_chain_grows_at_both_ends(void **state)
{
    (void)state;
    assert_int_equal(add("a", 3, 4), HARK_OK);
    assert_int_equal(add("a", 4, 7), HARK_OK);
    assert_int_equal(add("a", 2, 3), HARK_OK);
    assert_int_equal(add("a", 1, 2), HARK_OK);
    assert_chain("a", "1-2 2-3 3-4 4-7");
    assert_int_equal(hk_known_newest(find("a")), 7);
}

static void test_a_gap_is_refused_and_named(void **state)
{
    (void)state;
    assert_int_equal(add("order:created", 1, 2), HARK_OK);
    assert_int_equal(add("order:created", 4, 5), HARK_EGAP);
    assert_string_equal(ei.text,
                        "order:created has upcasters from 1 to 2; one from 4 to 5 leaves a "
                        "gap: add 2 to 4 first (or 2 to 3 and 3 to 4)");
    assert_int_equal(add("order:created", 3, 4), HARK_EGAP);
    assert_string_equal(ei.text,
                        "order:created has upcasters from 1 to 2; one from 3 to 4 leaves a "
                        "gap: add 2 to 3 first");
    assert_int_equal(add("b", 5, 6), HARK_OK);
    assert_int_equal(add("b", 2, 4), HARK_EGAP);
    assert_non_null(strstr(ei.text, "add 4 to 5 first"));
    assert_chain("order:created", "1-2");
    assert_chain("b", "5-6");
}

static void test_a_cycle_is_refused(void **state)
{
    (void)state;
    assert_int_equal(add("a", 1, 2), HARK_OK);
    assert_int_equal(add("a", 2, 1), HARK_EINVAL);
    assert_non_null(strstr(ei.text, "cycle"));
    assert_int_equal(add("a", 2, 2), HARK_EINVAL);
    assert_chain("a", "1-2");
}

static void test_two_upcasters_for_one_step_are_refused(void **state)
{
    (void)state;
    assert_int_equal(add("a", 1, 2), HARK_OK);
    assert_int_equal(add("a", 2, 4), HARK_OK);
    assert_int_equal(add("a", 1, 2), HARK_EEXIST);
    assert_non_null(strstr(ei.text, "from version 1 already"));
    assert_int_equal(add("a", 2, 3), HARK_EEXIST);
    assert_int_equal(add("a", 3, 4), HARK_EEXIST);
    assert_non_null(strstr(ei.text, "lies over"));
    assert_int_equal(add("a", 3, 9), HARK_EEXIST);
    assert_int_equal(add("a", 1, 9), HARK_EEXIST);
    assert_chain("a", "1-2 2-4");
}

static void test_what_is_no_step_of_a_type_is_refused(void **state)
{
    (void)state;
    const hk_step none = {.from = 1, .to = 2};
    assert_int_equal(add("a", 0, 1), HARK_EINVAL);
    assert_int_equal(add("a", 1, (int64_t)INT32_MAX + 1), HARK_EINVAL);
    assert_int_equal(add("order:*", 1, 2), HARK_EINVAL);
    assert_non_null(strstr(ei.text, "pattern"));
    assert_int_equal(add("", 1, 2), HARK_EINVAL);
    assert_int_equal(add(NULL, 1, 2), HARK_EINVAL);
    char wide[HARK_TYPE_MAX + 2] = "";
    memset(wide, 'a', HARK_TYPE_MAX + 1);
    assert_int_equal(add(wide, 1, 2), HARK_EINVAL);
    assert_int_equal(ei.err, HARK_EINVAL);
    assert_int_equal(hk_chains_add_step(known, "a", &none, &known, &ei), HARK_EINVAL);
    assert_non_null(strstr(ei.text, "function"));
    assert_null(known);
}

static void test_a_stored_version_is_led_to_the_newest_or_to_the_one_wanted(void **state)
{
    (void)state;
    assert_int_equal(add("a", 1, 2), HARK_OK);
    assert_int_equal(add("a", 2, 3), HARK_OK);
    assert_int_equal(add("a", 3, 5), HARK_OK);
    assert_path("a", 1, 0, "1-2 2-3 3-5");
    assert_path("a", 3, 0, "3-5");
    assert_path("a", 1, 2, "1-2");
    assert_path("a", 2, 3, "2-3");
    assert_int_equal(fit("a", 5, 0), HK_FIT_STORED);
    assert_int_equal(fit("a", 2, 2), HK_FIT_STORED);
    assert_int_equal(fit("a", 1, -1), HK_FIT_STORED);
    assert_int_equal(fit("a", 4, -1), HK_FIT_STORED);
}

static void test_a_type_that_nothing_is_known_of_comes_as_it_is(void **state)
{
    (void)state;
    assert_int_equal(fit("a", 7, 0), HK_FIT_STORED);
    assert_int_equal(add("b", 1, 2), HARK_OK);
    assert_int_equal(fit("a", 7, 0), HK_FIT_STORED);
    assert_int_equal(fit("a", 7, 7), HK_FIT_STORED);
    assert_no_path("a", 1, 3, "no upcaster leads from version 1 to version 3; add one from 1 to 3");
}

static void test_what_is_newer_is_told_apart(void **state)
{
    (void)state;
    assert_int_equal(add("a", 1, 2), HARK_OK);
    assert_int_equal(fit("a", 3, 0), HK_FIT_NEWER);
    assert_string_equal(ei.text, "it is newer than version 2, the newest that this program knows");
    assert_int_equal(fit("a", 2, 1), HK_FIT_NEWER);
    assert_string_equal(ei.text, "it is newer than version 1, the one asked for");
    assert_int_equal(fit("b", 2, 1), HK_FIT_NEWER);
}

static void test_what_is_missing_is_named(void **state)
{
    (void)state;
    assert_int_equal(add("a", 2, 3), HARK_OK);
    assert_int_equal(add("a", 3, 6), HARK_OK);
    assert_no_path("a", 1, 0, "no upcaster leads from version 1 to version 6; add one from 1 to 2");
    assert_no_path("a", 4, 0,
                   "no upcaster leads from version 4 to version 6: the one from 3 to 6 passes over "
                   "version 4; make it two, 3 to 4 and 4 to 6");
    assert_no_path("a", 2, 5,
                   "no upcaster leads from version 2 to version 5: the one from 3 to 6 passes over "
                   "version 5; make it two, 3 to 5 and 5 to 6");
    assert_no_path("a", 2, 9, "no upcaster leads from version 2 to version 9; add one from 6 to 9");
    assert_no_path("a", 7, 9,
                   "no upcaster leads from version 7 to version 9; add one from 6 to 7, where "
                   "their chain ends, and one from 7 to 9");
}

static void test_the_highest_registered_version_counts_as_known(void **state)
{
    (void)state;
    assert_int_equal(add_shape("a", 3), HARK_OK);
    assert_int_equal(add_shape("a", 1), HARK_OK);
    assert_int_equal(add_shape("a", 3), HARK_EEXIST);
    assert_int_equal(add_shape("a", 0), HARK_EINVAL);
    assert_int_equal(hk_known_newest(find("a")), 3);
    assert_int_equal(find("a")->shapes[0].version, 1);
    assert_non_null(hk_known_table(find("a"), 1));
    assert_null(hk_known_table(find("a"), 2));
    assert_no_path("a", 1, 0, "no upcaster leads from version 1 to version 3; add one from 1 to 3");
    assert_int_equal(add("a", 1, 2), HARK_OK);
    assert_no_path("a", 1, 0, "no upcaster leads from version 1 to version 3; add one from 2 to 3");
    assert_int_equal(add("a", 2, 4), HARK_OK);
    assert_int_equal(hk_known_newest(find("a")), 4);
    assert_path("a", 1, 0, "1-2 2-4");
}

static void test_adding_leaves_what_others_look_at_as_it_is(void **state)
{
    (void)state;
    char text[128];
    assert_int_equal(add("a", 1, 2), HARK_OK);
    const hk_chains *before = known;
    const hk_known *a = find("a");
    assert_int_equal(add("a", 2, 3), HARK_OK);
    assert_int_equal(add("b", 1, 2), HARK_OK);
    assert_string_equal(steps_of(a->steps, a->n_steps, text), "1-2");
    assert_ptr_equal(hk_chains_find(before, "a", 1), a);
    assert_null(hk_chains_find(before, "b", 1));
    assert_chain("a", "1-2 2-3");
}

static void test_many_types_are_kept_apart(void **state)
{
    (void)state;
    char type[16], text[128];
    for (int i = 0; i < 300; i++) {
        (void)snprintf(type, sizeof type, "t:%d", i);
        assert_int_equal(add(type, 1, 2 + i), HARK_OK);
    }
    for (int i = 0; i < 300; i++) {
        (void)snprintf(type, sizeof type, "t:%d", i);
        (void)snprintf(text, sizeof text, "1-%d", 2 + i);
        assert_chain(type, text);
    }
}

static void test_each_steps_data_is_freed_once(void **state)
{
    (void)state;
    for (int i = 1; i <= 5; i++) {
        assert_int_equal(add("a", i, i + 1), HARK_OK);
        assert_int_equal(add("b", i, i + 1), HARK_OK);
    }
    assert_int_equal(add("a", 1, 2), HARK_EEXIST);
    assert_int_equal(add_shape("a", 6), HARK_OK);
    assert_int_equal(freed, 0);
    hk_chains_free(known);
    known = NULL;
    assert_int_equal(freed, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_chain_grows_at_both_ends),
        TEST(test_a_gap_is_refused_and_named),
        TEST(test_a_cycle_is_refused),
        TEST(test_two_upcasters_for_one_step_are_refused),
        TEST(test_what_is_no_step_of_a_type_is_refused),
        TEST(test_a_stored_version_is_led_to_the_newest_or_to_the_one_wanted),
        TEST(test_a_type_that_nothing_is_known_of_comes_as_it_is),
        TEST(test_what_is_newer_is_told_apart),
        TEST(test_what_is_missing_is_named),
        TEST(test_the_highest_registered_version_counts_as_known),
        TEST(test_adding_leaves_what_others_look_at_as_it_is),
        TEST(test_many_types_are_kept_apart),
        TEST(test_each_steps_data_is_freed_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
