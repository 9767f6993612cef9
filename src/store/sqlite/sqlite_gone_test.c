/* What SQLite lets one closure break for all: deadlines, a ROLLBACK by a conflict, a full disk. The
 * group is lost then, and nothing of it stays, and the bus is told who did it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/tx_fixture_i.h"

/* ---- the deadline ---------------------------------------------------------------------------- */

#define FOR_EVER "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "

static void tx_begin_short(fixture *f)
{
    assert_ok(f, OPS.tx_begin(f->store, hk_mono_ns() + SECOND / 100, true, &f->ei));
}

static void test_a_query_is_interrupted_at_the_deadline(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_short(f);
    assert_ok(f, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    assert_err(f, HARK_EDEADLINE, run(f, FOR_EVER "SELECT count(*) FROM n"));
    assert_says(f, "WITH RECURSIVE");
    tx_refused(f, HARK_EDEADLINE);
    goes_on(f);
}

static void test_a_write_that_is_interrupted_takes_the_group_along(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_short(f);
    assert_err(f, HARK_EDEADLINE, run(f, FOR_EVER "INSERT INTO stock SELECT i, i FROM n"));
    assert_err(f, HARK_EDEADLINE, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    tx_gone(f, HARK_EDEADLINE);
    assert_says(f, "WITH RECURSIVE");
    begins_anew(f);
}

static void test_a_write_through_the_programs_handle_is_interrupted_too(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_short(f);
    assert_int_not_equal(
        sqlite3_exec(native(f), FOR_EVER "INSERT INTO stock SELECT i, i FROM n", NULL, NULL, NULL),
        SQLITE_OK);
    tx_gone(f, HARK_EDEADLINE);
    begins_anew(f);
}

static void test_a_closure_that_is_late_by_its_own_code_is_undone(void **state)
{
    fixture *f = *state;
    two_good(f);
    assert_ok(f, OPS.tx_begin(f->store, hk_mono_ns(), true, &f->ei));
    assert_ok(f, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    (void)add(f, "bad", "bad");
    tx_refused(f, HARK_EDEADLINE);
    assert_says(f, "after its deadline");
    goes_on(f);
}

static void test_the_stores_own_writes_are_not_interrupted(void **state)
{
    fixture *f = *state;
    char id[16];
    two_good(f);
    assert_ok(f, OPS.tx_begin(f->store, hk_mono_ns(), true, &f->ei));
    for (int i = 0; i < 300; i++) { /* some 100 steps of SQLite's machine each */
        (void)snprintf(id, sizeof id, "x%d", i);
        (void)add(f, "bad", id);
    }
    tx_refused(f, HARK_EDEADLINE);
    goes_on(f);
}

/* ---- undoing the whole group ----------------------------------------------------------------- */

static void test_or_rollback_takes_the_group_along(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT OR ROLLBACK INTO stock VALUES('good-1', 1)"));
    assert_says(f, "ABORT");
    tx_gone(f, HARK_ECONSTRAINT);
    assert_says(f, "UNIQUE constraint failed: stock.sku");
    begins_anew(f);
}

static void test_raise_rollback_takes_the_group_along(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TRIGGER none BEFORE INSERT ON stock WHEN new.n = 0 "
             "BEGIN SELECT RAISE(ROLLBACK, 'nothing of it'); END");
    two_good(f);
    tx_begin(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT INTO stock VALUES('bad', 0)"));
    tx_gone(f, HARK_ECONSTRAINT);
    assert_says(f, "nothing of it");
    begins_anew(f);
}

static void test_nothing_is_written_after_the_transaction_is_gone(void **state)
{
    fixture *f = *state;
    hark_store_append a = item(simple_event("t", "late"), 1);
    hark_store_fate fate;
    two_good(f);
    tx_begin(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT OR ROLLBACK INTO stock VALUES('good-1', 1)"));
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    assert_err(f, HARK_ECONSTRAINT, append(f, &a, 1));
    assert_err(f, HARK_ECONSTRAINT, OPS.keep(f->store, "k", "v", 1, 2, 1, &f->ei));
    assert_err(f, HARK_ECONSTRAINT, tx_end(f, false, &fate));
    assert_int_equal(HARK_STORE_SPOILT, fate);
    OPS.rollback(f->store);
    drop_items(&a, 1);
    begins_anew(f);
}

/* How large the file may become; SQLite answers as on a full disk. */
static void limit_pages(fixture *f, const char *pragma)
{
    assert_int_equal(sqlite3_exec(native(f), pragma, NULL, NULL, NULL), SQLITE_OK);
}

static void fill(fixture *f, const char *sql)
{
    limit_pages(f, "PRAGMA max_page_count = 1"); /* as many as there are */
    two_good(f);
    tx_begin(f);
    assert_err(f, HARK_EFULL, run(f, sql));
}

static void test_a_disk_that_fills_up_undoes_what_sqlite_says(void **state)
{
    fixture *f = *state;
    hark_store_fate fate;
    fill(f, "INSERT INTO stock VALUES(zeroblob(100000), 1)");
    assert_err(f, HARK_EFULL, tx_end(f, true, &fate));
    limit_pages(f, "PRAGMA max_page_count = 1000000");
    if (fate == HARK_STORE_SPOILT) {
        OPS.rollback(f->store);
        begins_anew(f);
    } else {
        goes_on(f);
    }
}

static void test_a_full_disk_that_the_closure_ignores_undoes_it(void **state)
{
    fixture *f = *state;
    hark_store_fate fate;
    in_tx(f, "CREATE TABLE other(a, b UNIQUE)");
    fill(f, "INSERT INTO other SELECT zeroblob(9000), value FROM "
            "(SELECT 1 AS value UNION SELECT 2 UNION SELECT 3)");
    assert_err(f, HARK_EFULL, tx_end(f, true, &fate));
    limit_pages(f, "PRAGMA max_page_count = 1000000");
    if (fate == HARK_STORE_SPOILT)
        OPS.rollback(f->store);
    else
        commit(f);
    assert_query(f, "0 ", "SELECT count(*) FROM other");
}

static void test_the_programs_handle_commits_nothing_by_itself(void **state)
{
    fixture *f = *state;
    sqlite3_stmt *st = NULL;
    two_good(f);
    tx_begin(f);
    assert_int_equal(
        sqlite3_prepare_v2(native(f), "INSERT INTO stock VALUES('bad', 1)", -1, &st, NULL), 0);
    assert_int_not_equal(sqlite3_exec(native(f),
                                      "INSERT OR ROLLBACK INTO stock VALUES('good-1', 1)", NULL,
                                      NULL, NULL),
                         0);
    assert_int_not_equal(sqlite3_step(st), SQLITE_DONE); /* would be a transaction of its own */
    sqlite3_finalize(st);
    assert_int_equal(
        sqlite3_exec(native(f), "INSERT INTO stock VALUES('bad', 1)", NULL, NULL, NULL),
        SQLITE_AUTH);
    tx_gone(f, HARK_ESQL);
    assert_says(f, "hark_tx_native");
    begins_anew(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STOCK(test_a_query_is_interrupted_at_the_deadline),
        STOCK(test_a_write_that_is_interrupted_takes_the_group_along),
        STOCK(test_a_write_through_the_programs_handle_is_interrupted_too),
        STOCK(test_a_closure_that_is_late_by_its_own_code_is_undone),
        STOCK(test_the_stores_own_writes_are_not_interrupted),
        STOCK(test_or_rollback_takes_the_group_along),
        STOCK(test_raise_rollback_takes_the_group_along),
        STOCK(test_nothing_is_written_after_the_transaction_is_gone),
        STOCK(test_a_disk_that_fills_up_undoes_what_sqlite_says),
        STOCK(test_a_full_disk_that_the_closure_ignores_undoes_it),
        STOCK(test_the_programs_handle_commits_nothing_by_itself),
    };
    return cmocka_run_group_tests_name("sqlite_gone", tests, NULL, NULL);
}
