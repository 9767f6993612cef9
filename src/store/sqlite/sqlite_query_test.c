/* Statements of the program's: arguments, rows, texts of errors, and queries beside the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/program_i.h"
#include "store/sqlite/tx_fixture_i.h"

/* Within a closure. */
static fixture *inside(void **state)
{
    fixture *f = *state;
    begin(f);
    tx_begin(f);
    return f;
}

static void ends(fixture *f)
{
    tx_keep(f);
    commit(f);
}

static hark_err run_with(fixture *f, const char *sql, const hark_value *args, size_t n,
                         int64_t *ret_changes)
{
    return OPS.tx_run(f->store, sql, args, n, NULL, NULL, ret_changes, &f->ei);
}

static void test_values_of_every_kind_come_back(void **state)
{
    fixture *f = inside(state);
    assert_rows(f, "null|-7|1.500|text||blob:2|blob:0 ", "SELECT ?, ?, ?, ?, ?, ?, ?",
                HARK_ARGS(hark_null(), hark_int(-7), hark_real(1.5), hark_text("text"),
                          hark_text(""), hark_blob("\0x", 2), hark_blob(NULL, 0)));
    assert_rows(f, "null|9223372036854775807 ", "SELECT ?2, ?1",
                HARK_ARGS(hark_int(INT64_MAX), hark_text(NULL)));
    ends(f);
}

static bool look(const hark_row *row, void *ud)
{
    bool *seen = ud;
    assert_int_equal(row->n, 3);
    assert_string_equal(row->names[0], "first");
    assert_string_equal(row->names[1], "b");
    assert_int_equal(row->values[1].len, 3);
    assert_memory_equal(row->values[1].data, "a\0b", 4); /* and a NUL behind */
    assert_int_equal(row->values[2].kind, HARK_BLOB);
    assert_non_null(row->values[2].data);
    *seen = true;
    return true;
}

static void test_columns_have_names_and_text_has_a_nul_behind(void **state)
{
    fixture *f = inside(state);
    hark_value text = {.kind = HARK_TEXT, .data = "a\0b", .len = 3};
    bool seen = false;
    assert_ok(f, OPS.tx_run(f->store, "SELECT 1 AS first, ? AS b, x''", &text, 1, look, &seen, NULL,
                            &f->ei));
    assert_true(seen);
    ends(f);
}

static void test_a_wide_row_comes_whole(void **state)
{
    fixture *f = inside(state);
    char sql[2048] = "SELECT 0";
    lines l = {.rows = 0};
    for (int i = 1; i < 100; i++)
        (void)snprintf(sql + strlen(sql), sizeof sql - strlen(sql), ", %d", i % 10);
    assert_ok(f, OPS.tx_run(f->store, sql, HARK_NO_ARGS, line, &l, NULL, &f->ei));
    assert_int_equal(strlen(l.text), 200);
    ends(f);
}

static void test_the_number_of_arguments_is_checked(void **state)
{
    fixture *f = inside(state);
    const char *sql = "INSERT INTO stock VALUES(?, ?)";
    assert_err(f, HARK_EINVAL, run_with(f, sql, HARK_ARGS(hark_text("a")), NULL));
    assert_says(f, "the statement has 2 parameters, 1 argument was given");
    assert_err(f, HARK_EINVAL,
               run_with(f, sql, HARK_ARGS(hark_int(1), hark_int(2), hark_int(3)), NULL));
    assert_err(f, HARK_EINVAL, run_with(f, "SELECT ?", HARK_NO_ARGS, NULL));
    assert_says(f, "1 parameter, 0 arguments were given");
    assert_err(f, HARK_EINVAL, run_with(f, "SELECT ?", &(hark_value){.kind = 9}, 1, NULL));
    ends(f);
}

static void test_exactly_one_statement_is_run(void **state)
{
    fixture *f = inside(state);
    assert_err(f, HARK_EINVAL, run(f, ""));
    assert_err(f, HARK_EINVAL, run(f, "  -- nothing\n /* at all */ ;"));
    assert_says(f, "no statement");
    assert_err(f, HARK_EINVAL,
               run(f, "INSERT INTO stock VALUES('a', 1); INSERT INTO stock VALUES('b', 2)"));
    assert_says(f, "INSERT INTO stock VALUES('b', 2)");
    assert_err(f, HARK_EINVAL, run(f, "SELECT 1; nonsense"));
    assert_err(f, HARK_EINVAL, run(f, NULL));
    assert_ok(f, run(f, "INSERT INTO stock VALUES('c', 1) ; -- a comment\n /* another */ ; "));
    assert_rows(f, "c ", "SELECT sku FROM stock", HARK_NO_ARGS);
    ends(f);
}

static void test_a_mistake_is_told_with_its_place(void **state)
{
    fixture *f = inside(state);
    assert_err(f, HARK_ESQL, run(f, "SELECT *\n  FORM stock"));
    assert_says(f, "near \"FORM\": syntax error");
    assert_says(f, "in: SELECT * FORM stock;");
    assert_err(f, HARK_ESQL, run(f, "SELECT missing FROM stock"));
    assert_says(f, SQLITE_VERSION_NUMBER >= 3038000 ? "no such column: missing at character 8"
                                                    : "no such column: missing");
    assert_err(f, HARK_ESQL, run(f, "SELECT json('{')"));
    assert_says(f, "malformed JSON, in: SELECT json('{');");
    ends(f);
}

static void test_changes_are_counted(void **state)
{
    fixture *f = inside(state);
    int64_t n = -1;
    assert_ok(f, run_with(f, "INSERT INTO stock VALUES('a', 1), ('b', 2), ('c', 3)", NULL, 0, &n));
    assert_int_equal(n, 3);
    assert_ok(f, run_with(f, "SELECT * FROM stock", NULL, 0, &n));
    assert_int_equal(n, 0);
    assert_ok(f, run_with(f, "UPDATE stock SET n = 9 WHERE n > 1", NULL, 0, &n));
    assert_int_equal(n, 2);
    assert_err(f, HARK_ECONSTRAINT, run_with(f, "INSERT INTO stock VALUES('a', 1)", NULL, 0, &n));
    assert_int_equal(n, 2);
    assert_ok(f, run_with(f, "CREATE TABLE other(a)", NULL, 0, &n));
    assert_int_equal(n, 0);
    assert_ok(f, run_with(f, "DELETE FROM stock WHERE 0", NULL, 0, &n));
    assert_int_equal(n, 0);
    ends(f);
}

static void test_returning_gives_rows_and_does_all_when_stopped(void **state)
{
    fixture *f = inside(state);
    lines l = {.most = 1};
    assert_ok(f, OPS.tx_run(f->store, "INSERT INTO stock VALUES('a', 1), ('b', 2) RETURNING sku",
                            HARK_NO_ARGS, line, &l, NULL, &f->ei));
    assert_string_equal(l.text, "a ");
    assert_rows(f, "2 ", "SELECT count(*) FROM stock", HARK_NO_ARGS);
    ends(f);
}

static void test_a_stopped_write_still_obeys_foreign_keys(void **state)
{
    fixture *f = *state;
    lines l = {.most = 1};
    in_tx(f, "CREATE TABLE line(sku TEXT REFERENCES stock(sku))");
    in_tx(f, "INSERT INTO stock VALUES('a', 1)");
    in_tx(f, "INSERT INTO line VALUES('a')");
    (void)inside(state);
    assert_err(f, HARK_ECONSTRAINT,
               OPS.tx_run(f->store, "DELETE FROM stock RETURNING sku", HARK_NO_ARGS, line, &l, NULL,
                          &f->ei));
    assert_rows(f, "1 ", "SELECT count(*) FROM stock", HARK_NO_ARGS);
    ends(f);
}

static void test_more_statements_than_are_kept_go_through(void **state)
{
    fixture *f = inside(state);
    char sql[64], expected[16];
    assert_ok(f, run(f, "INSERT INTO stock VALUES('a', 1)"));
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < HK_PROGRAM_STMTS + 8; i++) {
            (void)snprintf(sql, sizeof sql, "SELECT n + %d FROM stock", i);
            (void)snprintf(expected, sizeof expected, "%d ", i + 1);
            assert_rows(f, expected, sql, HARK_NO_ARGS);
            assert_rows(f, "a ", "SELECT sku FROM stock", HARK_NO_ARGS); /* never the oldest */
        }
    ends(f);
}

static void test_a_kept_statement_follows_a_change_of_the_schema(void **state)
{
    fixture *f = inside(state);
    const char *all = "SELECT * FROM stock";
    assert_ok(f, run(f, "INSERT INTO stock VALUES('a', 1)"));
    assert_rows(f, "a|1 ", all, HARK_NO_ARGS);
    tx_keep(f);
    tx_begin(f);
    assert_ok(f, run(f, "ALTER TABLE stock ADD COLUMN note TEXT DEFAULT 'new'"));
    assert_rows(f, "a|1|new ", all, HARK_NO_ARGS);
    tx_undo(f);
    tx_begin(f);
    assert_rows(f, "a|1 ", all, HARK_NO_ARGS);
    assert_ok(f, run(f, "DROP TABLE stock"));
    assert_err(f, HARK_ESQL, run(f, all));
    assert_says(f, "no such table: stock");
    ends(f);
}

static bool ask_again(const hark_row *row, void *ud)
{
    fixture *f = ud;
    (void)row;
    assert_err(f, HARK_EINVAL, run(f, "SELECT 1"));
    return true;
}

static void test_a_statement_is_not_run_while_rows_are_shown(void **state)
{
    fixture *f = inside(state);
    assert_ok(f, OPS.tx_run(f->store, "SELECT 1 UNION SELECT 2", HARK_NO_ARGS, ask_again, f, NULL,
                            &f->ei));
    ends(f);
}

/* ---- beside the log -------------------------------------------------------------------------- */

static hark_err query(fixture *f, const char *sql)
{
    return OPS.query(f->store, sql, HARK_NO_ARGS, NULL, NULL, &f->ei);
}

static void test_a_query_takes_arguments_and_stops_when_told(void **state)
{
    fixture *f = *state;
    lines l = {.most = 2};
    in_tx(f, "INSERT INTO stock VALUES('a', 1), ('b', 2), ('c', 3), ('d', 4)");
    assert_ok(f, OPS.query(f->store, "SELECT sku FROM stock WHERE n > ? ORDER BY n",
                           HARK_ARGS(hark_int(1)), line, &l, &f->ei));
    assert_string_equal(l.text, "b c ");
    assert_query(f, "10 ", "SELECT sum(n) FROM stock");
    assert_query(f, "3 ",
                 "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < 3) "
                 "SELECT max(i) FROM c");
}

static void test_a_query_writes_nothing(void **state)
{
    fixture *f = *state;
    static const char *const sql[] = {"INSERT INTO stock VALUES('a', 1)",
                                      "UPDATE stock SET n = 0",
                                      "DELETE FROM stock",
                                      "CREATE TABLE t(a)",
                                      "DROP TABLE stock",
                                      "CREATE TEMP TABLE t(a)",
                                      "BEGIN",
                                      "COMMIT",
                                      "SAVEPOINT x",
                                      "PRAGMA query_only = 0",
                                      "PRAGMA table_info(stock)",
                                      "ATTACH ':memory:' AS m",
                                      "VACUUM",
                                      "ANALYZE",
                                      "REINDEX stock",
                                      "ALTER TABLE stock RENAME TO t",
                                      "SELECT load_extension('x')"};
    for (size_t i = 0; i < HK_COUNTOF(sql); i++) {
        hark_err err = query(f, sql[i]);
        if (err != HARK_EDENIED)
            fail_msg("%s: %s: %s", sql[i], hark_err_name(err), err ? f->ei.text : "");
        assert_says(f, " is denied in a query: ");
    }
    assert_query(f, "0 ", "SELECT count(*) FROM stock");
}

static void test_a_query_does_not_see_the_logs_tables(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE VIEW peek AS SELECT * FROM hark_events");
    assert_err(f, HARK_EDENIED, query(f, "SELECT * FROM hark_events"));
    assert_err(f, HARK_EDENIED, query(f, "SELECT count(*) FROM \"Hark_Kept\""));
    assert_err(f, HARK_EDENIED, query(f, "SELECT * FROM peek"));
    assert_says(f, "through peek");
    assert_reads(f, "end", .limit = 0); /* which the same connection reads for us */
}

static void test_mistakes_in_a_query_are_told(void **state)
{
    fixture *f = *state;
    assert_err(f, HARK_ESQL, query(f, "SELECT missing FROM stock"));
    assert_err(f, HARK_EINVAL, query(f, "SELECT ?"));
    assert_err(f, HARK_EINVAL, query(f, "SELECT 1; SELECT 2"));
    assert_query(f, "0 ", "SELECT count(*) FROM stock");
}

/* Writes the log many times while its query is under way. */
static bool write_meanwhile(const hark_row *row, void *ud)
{
    fixture *f = ud;
    static const char big[20000];
    assert_string_equal(row->values[0].data, "old");
    for (int i = 0; i < 200; i++) {
        begin(f);
        for (int j = 0; j < 20; j++)
            (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = big,
                                        .data_len = sizeof big,
                                        .datacontenttype = "application/octet-stream"));
        if (i == 0) {
            tx_begin(f);
            assert_ok(f, run(f, "UPDATE stock SET sku = 'new' WHERE n = 1"));
            tx_keep(f);
        }
        commit(f);
        (void)OPS.maintain(f->store, 2000000);
    }
    return true;
}

static void test_a_long_query_stops_neither_the_writer_nor_sees_what_it_writes(void **state)
{
    fixture *f = *state;
    lines l = {.rows = 0};
    in_tx(f, "INSERT INTO stock VALUES('old', 1), ('older', 2)");
    int64_t start = hk_mono_ns();
    assert_ok(f, OPS.query(f->store, "SELECT sku FROM stock WHERE n = 1", HARK_NO_ARGS,
                           write_meanwhile, f, &f->ei));
    assert_true(hk_mono_ns() - start < 60 * SECOND);
    assert_ok(f, OPS.query(f->store, "SELECT sku FROM stock WHERE n = 1", HARK_NO_ARGS, line, &l,
                           &f->ei));
    assert_string_equal(l.text, "new ");
}

static bool ask_beside(const hark_row *row, void *ud)
{
    (void)row;
    assert_query((fixture *)ud, "1 ", "SELECT count(*) FROM stock");
    return true;
}

static void test_a_query_within_a_query_has_a_connection_of_its_own(void **state)
{
    fixture *f = *state;
    in_tx(f, "INSERT INTO stock VALUES('a', 1)");
    assert_ok(f, OPS.query(f->store, "SELECT sku FROM stock", HARK_NO_ARGS, ask_beside, f, &f->ei));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STOCK(test_values_of_every_kind_come_back),
        STOCK(test_columns_have_names_and_text_has_a_nul_behind),
        STOCK(test_a_wide_row_comes_whole),
        STOCK(test_the_number_of_arguments_is_checked),
        STOCK(test_exactly_one_statement_is_run),
        STOCK(test_a_mistake_is_told_with_its_place),
        STOCK(test_changes_are_counted),
        STOCK(test_returning_gives_rows_and_does_all_when_stopped),
        STOCK(test_a_stopped_write_still_obeys_foreign_keys),
        STOCK(test_more_statements_than_are_kept_go_through),
        STOCK(test_a_kept_statement_follows_a_change_of_the_schema),
        STOCK(test_a_statement_is_not_run_while_rows_are_shown),
        STOCK(test_a_query_takes_arguments_and_stops_when_told),
        STOCK(test_a_query_writes_nothing),
        STOCK(test_a_query_does_not_see_the_logs_tables),
        STOCK(test_mistakes_in_a_query_are_told),
        STOCK(test_a_long_query_stops_neither_the_writer_nor_sees_what_it_writes),
        STOCK(test_a_query_within_a_query_has_a_connection_of_its_own),
    };
    return cmocka_run_group_tests_name("sqlite_query", tests, NULL, NULL);
}
