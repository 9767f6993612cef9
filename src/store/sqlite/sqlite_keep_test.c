/* What is kept under a key: there until its time is over, and then removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/tx_fixture_i.h"

static hark_err keep(fixture *f, const char *key, const char *text, int64_t until, int64_t now)
{
    return OPS.keep(f->store, key, text, strlen(text), until, now, &f->ei);
}

static void assert_kept(fixture *f, const char *key, const char *expected, int64_t now)
{
    void *data = NULL;
    size_t len = 0;
    assert_ok(f, OPS.kept(f->store, key, now, &data, &len, &f->ei));
    assert_int_equal(len, strlen(expected));
    assert_string_equal(data, expected);
    free(data);
}

static void assert_not_kept(fixture *f, const char *key, int64_t now)
{
    void *data = NULL;
    size_t len = 7;
    assert_err(f, HARK_ENOTFOUND, OPS.kept(f->store, key, now, &data, &len, &f->ei));
    assert_null(data);
    assert_int_equal(len, 7);
}

static void test_a_value_is_kept_until_its_time_is_over(void **state)
{
    fixture *f = *state;
    begin(f);
    tx_begin(f);
    assert_ok(f, keep(f, "k", "first", 100, 50));
    assert_kept(f, "k", "first", 99);
    assert_not_kept(f, "k", 100);
    assert_not_kept(f, "other", 50);
    tx_keep(f);
    commit(f);
    reopen_log(f);
    begin(f);
    tx_begin(f);
    assert_kept(f, "k", "first", 99);
    tx_keep(f);
    commit(f);
}

static void test_a_second_value_is_refused_while_the_first_stands(void **state)
{
    fixture *f = *state;
    begin(f);
    tx_begin(f);
    assert_ok(f, keep(f, "k", "first", 100, 50));
    assert_err(f, HARK_EEXIST, keep(f, "k", "second", 200, 99));
    assert_kept(f, "k", "first", 60);
    assert_ok(f, keep(f, "k", "second", 200, 100));
    assert_kept(f, "k", "second", 150);
    tx_keep(f);
    commit(f);
}

static void test_an_empty_value_and_zero_bytes_come_back(void **state)
{
    fixture *f = *state;
    void *data = NULL;
    size_t len = 7;
    begin(f);
    tx_begin(f);
    assert_ok(f, OPS.keep(f->store, "none", NULL, 0, 100, 50, &f->ei));
    assert_ok(f, OPS.keep(f->store, "some", "a\0b", 3, 100, 50, &f->ei));
    assert_ok(f, OPS.kept(f->store, "none", 60, &data, &len, &f->ei));
    assert_int_equal(len, 0);
    assert_string_equal(data, "");
    free(data);
    assert_ok(f, OPS.kept(f->store, "some", 60, &data, &len, &f->ei));
    assert_int_equal(len, 3);
    assert_memory_equal(data, "a\0b", 4);
    free(data);
    tx_keep(f);
    commit(f);
}

static void test_an_undone_closure_keeps_nothing(void **state)
{
    fixture *f = *state;
    begin(f);
    tx_begin(f);
    assert_ok(f, keep(f, "k", "first", 100, 50));
    tx_undo(f);
    tx_begin(f);
    assert_not_kept(f, "k", 60);
    assert_ok(f, keep(f, "k", "second", 100, 50));
    tx_keep(f);
    commit(f);
}

static void test_the_programs_last_row_is_not_disturbed(void **state)
{
    fixture *f = *state;
    begin(f);
    tx_begin(f);
    assert_ok(f, run(f, "CREATE TABLE t(id INTEGER PRIMARY KEY)"));
    assert_ok(f, run(f, "INSERT INTO t VALUES(42)"));
    assert_ok(f, keep(f, "k", "v", 100, 50));
    assert_rows(f, "42 ", "SELECT last_insert_rowid()", HARK_NO_ARGS);
    tx_keep(f);
    commit(f);
}

/* Keeps n values; the odd ones stay. */
static void keep_many(fixture *f, int n)
{
    char key[32];
    int64_t now = hk_wall_ns();
    begin(f);
    tx_begin(f);
    for (int i = 0; i < n; i++) {
        (void)snprintf(key, sizeof key, "key-%d", i);
        assert_ok(f, keep(f, key, "v", i % 2 ? now + 3600 * SECOND : now - SECOND, now - SECOND));
    }
    tx_keep(f);
    commit(f);
}

#define COUNT "SELECT count(*) FROM hark_kept"

static void test_expired_values_are_removed_between_groups(void **state)
{
    fixture *f = *state;
    keep_many(f, 10);
    (void)OPS.maintain(f->store, 2000000);
    assert_int_equal(number_sql(f->path, COUNT), 5);
    begin(f);
    tx_begin(f);
    assert_kept(f, "key-1", "v", hk_wall_ns());
    tx_keep(f);
    commit(f);
}

static void test_many_expired_values_are_removed_in_slices(void **state)
{
    fixture *f = *state;
    int64_t until = hk_mono_ns() + 20 * SECOND;
    keep_many(f, 1200);
    (void)OPS.maintain(f->store, 2000000);
    assert_int_equal(number_sql(f->path, COUNT), 1000);
    while (number_sql(f->path, COUNT) > 600 && hk_mono_ns() < until)
        (void)OPS.maintain(f->store, 2000000);
    assert_int_equal(number_sql(f->path, COUNT), 600);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_value_is_kept_until_its_time_is_over, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_second_value_is_refused_while_the_first_stands,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_an_empty_value_and_zero_bytes_come_back, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_an_undone_closure_keeps_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_the_programs_last_row_is_not_disturbed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_expired_values_are_removed_between_groups, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_many_expired_values_are_removed_in_slices, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests_name("sqlite_keep", tests, NULL, NULL);
}
