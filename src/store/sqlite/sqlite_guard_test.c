/* What closures may not do: transactions of their own, the connection's settings, the log's
 * tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/tx_fixture_i.h"

/* Each of these is denied, alone: the closure goes on and stays. */
static void denied(fixture *f, const char *const *sql, size_t n)
{
    two_good(f);
    tx_begin(f);
    for (size_t i = 0; i < n; i++) {
        hark_err err = run(f, sql[i]);
        if (err != HARK_EDENIED)
            fail_msg("%s: %s: %s", sql[i], hark_err_name(err), err ? f->ei.text : "");
        assert_says(f, " is denied inside a transaction closure: ");
    }
    tx_keep(f);
    goes_on(f);
}

/* The native handle is told the same. */
static void denied_natively(fixture *f, const char *const *sql, size_t n)
{
    begin(f);
    tx_begin(f);
    sqlite3 *db = native(f);
    for (size_t i = 0; i < n; i++)
        if (sqlite3_exec(db, sql[i], NULL, NULL, NULL) != SQLITE_AUTH)
            fail_msg("%s: %s", sql[i], sqlite3_errmsg(db));
    tx_undo(f);
    OPS.rollback(f->store);
}

#define DENIED(f, ...)                                                                             \
    do {                                                                                           \
        const char *const sql_[] = {__VA_ARGS__};                                                  \
        denied(f, sql_, HK_COUNTOF(sql_));                                                         \
    } while (0)
#define DENIED_BOTH(f, ...)                                                                        \
    do {                                                                                           \
        const char *const both_[] = {__VA_ARGS__};                                                 \
        denied_natively(f, both_, HK_COUNTOF(both_));                                              \
        denied(f, both_, HK_COUNTOF(both_));                                                       \
    } while (0)

static void test_transaction_control_is_denied(void **state)
{
    fixture *f = *state;
    DENIED_BOTH(f, "BEGIN", "begin immediate", "COMMIT", "END", "ROLLBACK", "SAVEPOINT x",
                "RELEASE hark_closure", "ROLLBACK TO hark_closure", "/* x */ commit -- y");
}

static void test_the_text_says_what_to_do_instead(void **state)
{
    fixture *f = *state;
    begin(f);
    tx_begin(f);
    assert_err(f, HARK_EDENIED, run(f, "COMMIT"));
    assert_string_equal(f->ei.text,
                        "COMMIT is denied inside a transaction closure: return HARK_OK to commit");
    assert_err(f, HARK_EDENIED, run(f, "ROLLBACK"));
    assert_says(f, "return an error");
    assert_err(f, HARK_EDENIED, run(f, "DELETE FROM hark_events"));
    assert_says(f, "DELETE FROM hark_events is denied");
    tx_keep(f);
    commit(f);
}

static void test_settings_are_denied(void **state)
{
    fixture *f = *state;
    DENIED_BOTH(f, "PRAGMA foreign_keys = OFF", "PRAGMA journal_mode", "PRAGMA table_info(stock)",
                "PRAGMA writable_schema = 1", "PRAGMA defer_foreign_keys = 1",
                "SELECT * FROM pragma_table_info('stock')", "ANALYZE", "ANALYZE stock", "REINDEX");
}

static void test_other_files_and_temporary_tables_are_denied(void **state)
{
    fixture *f = *state;
    DENIED_BOTH(f, "ATTACH ':memory:' AS m", "DETACH main", "CREATE TEMP TABLE t(a)",
                "CREATE TABLE temp.t(a)", "CREATE TEMP VIEW v AS SELECT 1",
                "CREATE TEMP TRIGGER t AFTER INSERT ON stock BEGIN SELECT 1; END");
}

static void test_vacuum_and_extensions_are_denied(void **state)
{
    fixture *f = *state;
    DENIED(f, "VACUUM", "vacuum into '/nowhere'", "SELECT load_extension('x')");
}

static void test_the_logs_tables_are_denied(void **state)
{
    fixture *f = *state;
    DENIED_BOTH(f, "SELECT * FROM hark_events", "SELECT count(*) FROM main.HARK_Events",
                "SELECT 1 FROM \"hark_meta\"", "DELETE FROM hark_events",
                "UPDATE hark_meta SET value = 0", "INSERT INTO hark_types(name) VALUES('x')",
                "INSERT INTO stock SELECT id, seq FROM hark_events",
                "SELECT sku FROM stock WHERE n IN (SELECT seq FROM hark_events)",
                "WITH e AS (SELECT * FROM hark_events) SELECT count(*) FROM e",
                "UPDATE stock SET n = seq FROM hark_events",
                "CREATE TABLE copy AS SELECT * FROM hark_events", "DROP TABLE hark_kept",
                "DROP INDEX hark_events_by_id", "CREATE INDEX stock_x ON hark_events(time)",
                "CREATE INDEX hark_stock ON stock(n)", "CREATE TABLE hark_x(a)",
                "CREATE TABLE Hark_x(a)", "CREATE VIEW hark_v AS SELECT 1",
                "CREATE TRIGGER hark_t AFTER INSERT ON stock BEGIN SELECT 1; END",
                "CREATE TRIGGER t AFTER INSERT ON hark_events BEGIN SELECT 1; END",
                "ALTER TABLE hark_events RENAME TO gone", "ALTER TABLE hark_kept ADD COLUMN x",
                "ALTER TABLE hark_kept DROP COLUMN data", "REINDEX hark_events_by_id",
                "REINDEX sqlite_autoindex_hark_types_1");
}

/* SQLite does not tell where a statement of the program's own begins. */
static void test_ids_of_the_log_are_looked_at_behind_the_programs_handle(void **state)
{
    fixture *f = *state;
    begin(f);
    good(f, 1);
    tx_begin(f);
    assert_int_equal(sqlite3_exec(native(f), "CREATE TABLE q(a)", NULL, NULL, NULL), 0);
    (void)sqlite3_exec(native(f), "INSERT INTO sqlite_sequence VALUES('hark_dead_letters', 9)",
                       NULL, NULL, NULL);
    tx_refused(f, HARK_EDENIED);
    assert_says(f, "sqlite_sequence");
    good(f, 2);
    commit(f);
}

static void test_a_table_may_be_named_like_the_program(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE hark(name TEXT PRIMARY KEY, alias TEXT UNIQUE)");
    in_tx(f, "INSERT INTO hark VALUES('a', 'b')");
    in_tx(f, "DROP TABLE hark");
}

static void test_what_sqlite_keeps_for_the_log_is_denied(void **state)
{
    fixture *f = *state;
    DENIED_BOTH(f, "DELETE FROM sqlite_sequence", "UPDATE sqlite_sequence SET seq = 0",
                "INSERT INTO sqlite_sequence VALUES('x', 1)");
}

static void test_the_schema_may_be_read_and_not_written(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_rows(f, "stock ", "SELECT name FROM sqlite_schema WHERE type = 'table' AND name = ?",
                HARK_ARGS(hark_text("stock")));
    assert_err(f, HARK_ESQL, run(f, "DELETE FROM sqlite_master"));
    assert_err(f, HARK_ESQL, run(f, "UPDATE sqlite_schema SET name = 'hark_x'"));
    tx_keep(f);
    goes_on(f);
}

static void test_a_view_of_the_log_shows_nothing(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE VIEW peek AS SELECT * FROM hark_events");
    DENIED_BOTH(f, "SELECT * FROM peek", "SELECT count(*) FROM peek");
}

static void test_a_trigger_of_the_programs_does_not_reach_the_log(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE door(a)");
    in_tx(f, "CREATE TRIGGER through AFTER INSERT ON door BEGIN DELETE FROM hark_events; END");
    DENIED_BOTH(f, "INSERT INTO door VALUES(1)");
}

static void test_a_table_is_not_renamed_into_the_logs_names(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "ALTER TABLE stock RENAME TO Hark_stock"));
    tx_refused(f, HARK_EDENIED);
    assert_says(f, "begins with hark_");
    goes_on(f);
}

static void test_a_foreign_key_does_not_refer_to_the_log(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_ok(f,
              run(f, "CREATE TABLE child(seq INTEGER REFERENCES Hark_events ON DELETE CASCADE)"));
    tx_refused(f, HARK_EDENIED);
    assert_says(f, "child");
    tx_begin(f);
    assert_ok(f, run(f, "ALTER TABLE stock ADD COLUMN seq REFERENCES hark_events(seq)"));
    tx_refused(f, HARK_EDENIED);
    goes_on(f);
}

static void test_a_statement_kept_from_another_closure_is_looked_at_too(void **state)
{
    fixture *f = *state;
    sqlite3_stmt *st = NULL;
    two_good(f);
    tx_begin(f);
    assert_int_equal(sqlite3_prepare_v2(native(f),
                                        "CREATE TABLE child(seq REFERENCES hark_events(seq))", -1,
                                        &st, NULL),
                     SQLITE_OK);
    tx_keep(f);
    tx_begin(f);
    assert_int_equal(sqlite3_step(st), SQLITE_DONE);
    tx_refused(f, HARK_EDENIED);
    sqlite3_finalize(st);
    goes_on(f);
}

static void test_the_stores_own_calls_are_not_denied(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = {.size = sizeof c, .name = "c", .pattern = "*", .policy = "{}"};
    void *data = NULL;
    size_t len;
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    good(f, 1);
    good(f, 2);
    tx_begin(f);
    assert_ok(f, run(f, "CREATE TABLE other(a)")); /* makes all statements be prepared anew */
    assert_int_equal(add(f, "x", "x"), 3);
    assert_ok(f, OPS.keep(f->store, "k", "v", 1, 100, 50, &f->ei));
    assert_ok(f, OPS.kept(f->store, "k", 60, &data, &len, &f->ei));
    free(data);
    assert_ok(f, OPS.ack(f->store, c.ret_id, c.ret_generation, NO_SHARE, 3, &f->ei));
    assert_err(f, HARK_EDENIED, run(f, "SELECT * FROM hark_events"));
    tx_keep(f);
    commit(f);
    hark_store_consumer_clear(&c);
    assert_reads(f, "1 2 3 end", .limit = 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STOCK(test_transaction_control_is_denied),
        STOCK(test_the_text_says_what_to_do_instead),
        STOCK(test_settings_are_denied),
        STOCK(test_other_files_and_temporary_tables_are_denied),
        STOCK(test_vacuum_and_extensions_are_denied),
        STOCK(test_the_logs_tables_are_denied),
        STOCK(test_ids_of_the_log_are_looked_at_behind_the_programs_handle),
        STOCK(test_a_table_may_be_named_like_the_program),
        STOCK(test_what_sqlite_keeps_for_the_log_is_denied),
        STOCK(test_the_schema_may_be_read_and_not_written),
        STOCK(test_a_view_of_the_log_shows_nothing),
        STOCK(test_a_trigger_of_the_programs_does_not_reach_the_log),
        STOCK(test_a_table_is_not_renamed_into_the_logs_names),
        STOCK(test_a_foreign_key_does_not_refer_to_the_log),
        STOCK(test_a_statement_kept_from_another_closure_is_looked_at_too),
        STOCK(test_the_stores_own_calls_are_not_denied),
    };
    return cmocka_run_group_tests_name("sqlite_guard", tests, NULL, NULL);
}
