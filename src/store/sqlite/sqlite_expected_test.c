/* Versions of subjects: what an append may expect, what it is told, and one subject's history. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/trim_fixture_i.h"

static hark_store_append expecting(const char *subject, const char *id, int64_t expected)
{
    hark_store_append a = item(event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = id,
                                                  .source = "/test", .subject = subject)),
                               1);
    a.expected = expected;
    a.ret_subject_version = 99;
    return a;
}

/* One event in a group of its own; the version that the store tells. */
static int64_t put(fixture *f, hark_err expected_err, const char *subject, const char *id,
                   int64_t expected)
{
    hark_store_append a = expecting(subject, id, expected);
    begin(f);
    assert_err(f, expected_err, append(f, &a, 1));
    commit(f);
    drop_items(&a, 1);
    return a.ret_subject_version;
}

static void test_an_append_is_told_the_version_of_its_subject(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f, HARK_OK, "s", NULL, 0), 1);
    assert_int_equal(put(f, HARK_OK, "other", NULL, 0), 1);
    assert_int_equal(put(f, HARK_OK, "s", NULL, 0), 2);
    assert_int_equal(put(f, HARK_OK, NULL, NULL, 0), 0);
    reopen_log(f);
    assert_int_equal(put(f, HARK_OK, "s", NULL, 0), 3);
}

static void test_an_append_goes_in_only_at_the_version_it_expects(void **state)
{
    fixture *f = *state;
    assert_int_equal(put(f, HARK_EVERSION, "s", NULL, 1), 0);
    assert_says(f, "subject s is at version 0 and the event expects version 1");
    assert_int_equal(put(f, HARK_OK, "s", NULL, HARK_EXPECT_NONE), 1);
    assert_int_equal(put(f, HARK_EVERSION, "s", NULL, HARK_EXPECT_NONE), 1);
    assert_says(f, "expects no event of it");
    assert_int_equal(put(f, HARK_OK, "s", NULL, 1), 2);
    assert_int_equal(put(f, HARK_EVERSION, "s", NULL, 1), 2);
    assert_says(f, "subject s is at version 2 and the event expects version 1; read it again");
    assert_int_equal(put(f, HARK_EVERSION, "s", NULL, 3), 2);
    assert_int_equal(put(f, HARK_OK, "s", NULL, 2), 3);
    assert_reads(f, "1 2 3 end", .limit = 9); /* no sequence is spent on a refusal */
}

static void test_of_those_who_expect_the_same_in_one_group_one_wins(void **state)
{
    fixture *f = *state;
    hark_store_append a[5];
    int won = 0;
    (void)put(f, HARK_OK, "s", NULL, 0);
    begin(f);
    for (int i = 0; i < 5; i++) {
        a[i] = expecting("s", NULL, 1);
        hark_err err = append(f, &a[i], 1);
        won += err == HARK_OK;
        assert_true(!err || err == HARK_EVERSION);
        assert_int_equal(a[i].ret_subject_version, 2);
    }
    commit(f);
    drop_items(a, 5);
    assert_int_equal(won, 1);
    assert_reads(f, "1 2 end", .limit = 9);
}

static void test_a_repeat_is_a_duplicate_whatever_it_expects(void **state)
{
    fixture *f = *state;
    static const int64_t expect[] = {HARK_EXPECT_NONE, 0, 1, 7};
    (void)put(f, HARK_OK, "s", "once", HARK_EXPECT_NONE);
    (void)put(f, HARK_OK, "s", NULL, 1);
    for (size_t i = 0; i < HK_COUNTOF(expect); i++) {
        hark_store_append a = expecting("s", "once", expect[i]);
        begin(f);
        assert_ok(f, append(f, &a, 1));
        assert_int_equal(a.ret_duplicate, 1);
        assert_int_equal(a.ret_sequence, 1);
        assert_int_equal(a.ret_subject_version, 1);
        a.digest[0] = 2;
        assert_err(f, HARK_ECONFLICT, append(f, &a, 1));
        commit(f);
        drop_items(&a, 1);
    }
    assert_int_equal(put(f, HARK_OK, "s", NULL, 2), 3);
}

static void test_a_unit_counts_what_it_brings_and_is_undone_as_a_whole(void **state)
{
    fixture *f = *state;
    (void)put(f, HARK_OK, "s", NULL, 0);
    hark_store_append good[] = {expecting("s", NULL, 1), expecting("u", NULL, HARK_EXPECT_NONE),
                                expecting("s", NULL, 2)};
    hark_store_append bad[] = {expecting("s", NULL, 3), expecting("v", NULL, HARK_EXPECT_NONE),
                               expecting("u", NULL, 5)};
    begin(f);
    assert_ok(f, append(f, good, 3));
    assert_int_equal(good[2].ret_subject_version, 3);
    assert_err(f, HARK_EVERSION, append(f, bad, 3));
    assert_says(f, "subject u is at version 1");
    assert_int_equal(bad[2].ret_subject_version, 1);
    commit(f);
    drop_items(good, 3);
    drop_items(bad, 3);
    assert_int_equal(put(f, HARK_OK, "s", NULL, 3), 4);
    assert_int_equal(put(f, HARK_OK, "v", NULL, HARK_EXPECT_NONE), 1);
}

static void test_what_cannot_be_expected_is_refused(void **state)
{
    fixture *f = *state;
    (void)put(f, HARK_EINVAL, "s", NULL, -2);
    assert_says(f, "HARK_EXPECT_NONE");
    (void)put(f, HARK_EINVAL, NULL, NULL, HARK_EXPECT_NONE);
    assert_says(f, "without a subject");
    (void)put(f, HARK_EINVAL, NULL, NULL, 3);
    assert_int_equal(put(f, HARK_OK, "s", NULL, HARK_EXPECT_NONE), 1);
}

static void test_retention_keeps_what_is_expected(void **state)
{
    fixture *f = *state;
    for (int64_t i = 0; i < 3; i++)
        (void)put(f, HARK_OK, "s", NULL, i);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "t", .keep = 1}), 2);
    assert_int_equal(put(f, HARK_EVERSION, "s", NULL, 1), 3);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "t", .before_ns = INT64_MAX}), 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(put(f, HARK_EVERSION, "s", NULL, HARK_EXPECT_NONE), 3);
        assert_int_equal(put(f, HARK_EVERSION, "s", NULL, 2), 3);
        reopen_log(f);
    }
    assert_int_equal(put(f, HARK_OK, "s", NULL, 3), 4);
}

/* ---- one subject's history ------------------------------------------------------------------- */

/* Events 1 to 30 of a, b and c in turn. */
static void add_thirty(fixture *f)
{
    static const char *const subjects[] = {"a", "b", "c"};
    for (int i = 0; i < 30; i++)
        assert_int_equal(put(f, HARK_OK, subjects[i % 3], NULL, 0), i / 3 + 1);
}

static void test_a_history_is_in_order_of_versions_both_ways_and_page_by_page(void **state)
{
    fixture *f = *state;
    add_thirty(f);
    assert_reads(f, "2 5 8 11 14 17 20 23 26 29 end", .subject = "b");
    assert_reads(f, "29 26 23 20 17 14 11 8 5 2 end", .subject = "b", .descending = 1);
    assert_reads(f, "2 5 8 11 more from 11", .subject = "b", .limit = 4);
    assert_reads(f, "14 17 20 23 more from 23", .subject = "b", .limit = 4, .after = 11);
    assert_reads(f, "26 29 end", .subject = "b", .limit = 4, .after = 23);
    assert_reads(f, "29 26 23 20 more from 20", .subject = "b", .limit = 4, .descending = 1);
    assert_reads(f, "17 14 11 8 more from 8", .subject = "b", .limit = 4, .descending = 1,
                 .before = 20);
    assert_reads(f, "5 2 end", .subject = "b", .limit = 4, .descending = 1, .before = 8);
}

static void test_a_history_goes_on_after_retention(void **state)
{
    fixture *f = *state;
    add_thirty(f);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "t", .keep = 10}), 20);
    assert_reads(f, "23 26 29 end", .subject = "b");
    assert_reads(f, "29 26 more from 26", .subject = "b", .limit = 2, .descending = 1);
    assert_int_equal(put(f, HARK_OK, "b", NULL, 10), 11);
    assert_reads(f, "29 31 end", .subject = "b", .after = 26);
    assert_reads(f, "31 29 26 23 end", .subject = "b", .descending = 1);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "t", .before_ns = INT64_MAX}), 11);
    assert_reads(f, "end", .subject = "b");
    assert_int_equal(put(f, HARK_OK, "c", NULL, 10), 11);
    assert_reads(f, "32 end", .subject = "c");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_an_append_is_told_the_version_of_its_subject),
        T(test_an_append_goes_in_only_at_the_version_it_expects),
        T(test_of_those_who_expect_the_same_in_one_group_one_wins),
        T(test_a_repeat_is_a_duplicate_whatever_it_expects),
        T(test_a_unit_counts_what_it_brings_and_is_undone_as_a_whole),
        T(test_what_cannot_be_expected_is_refused),
        T(test_retention_keeps_what_is_expected),
        T(test_a_history_is_in_order_of_versions_both_ways_and_page_by_page),
        T(test_a_history_goes_on_after_retention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
