/* Closures in a group: what one breaks is undone with it, all others stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/tx_fixture_i.h"

static void test_rows_and_events_are_committed_as_one(void **state)
{
    fixture *f = *state;
    two_good(f);
    goes_on(f);
    reopen_log(f);
    assert_query(f, "good-1|1 good-2|2 good-3|3 ", "SELECT sku, n FROM stock ORDER BY sku");
}

static void test_a_closure_sees_those_before_it_and_readers_do_not(void **state)
{
    fixture *f = *state;
    begin(f);
    good(f, 1);
    tx_begin(f);
    assert_rows(f, "good-1|1 ", "SELECT sku, n FROM stock", HARK_NO_ARGS);
    assert_query(f, "0 ", "SELECT count(*) FROM stock");
    tx_keep(f);
    commit(f);
    assert_query(f, "1 ", "SELECT count(*) FROM stock");
}

static void test_a_group_rolled_back_takes_its_closures_along(void **state)
{
    fixture *f = *state;
    two_good(f);
    OPS.rollback(f->store);
    begins_anew(f);
}

static void test_a_group_is_rolled_back_within_a_closure(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    OPS.rollback(f->store);
    begins_anew(f);
}

static void test_the_log_is_closed_within_a_closure(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    reopen_log(f);
    begins_anew(f);
}

/* ---- undone alone ---------------------------------------------------------------------------- */

static void test_an_undone_closure_leaves_no_row_and_no_event(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "UPDATE stock SET n = 100"));
    assert_int_equal(add(f, "bad", "bad"), 3);
    tx_undo(f);
    goes_on(f);
}

static void test_an_undone_closure_frees_the_ids_of_its_events(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    (void)add(f, "other", "good-3");
    tx_undo(f);
    goes_on(f);
}

static void test_a_name_first_used_in_an_undone_closure_is_used_again(void **state)
{
    fixture *f = *state;
    page pg = {0};
    two_good(f);
    tx_begin(f);
    (void)add(f, "new:one", "x");
    (void)add(f, "new:two", "y");
    tx_undo(f);
    tx_begin(f);
    (void)add(f, "new:two", "y");
    (void)add(f, "new:one", "x");
    tx_keep(f);
    commit(f);
    reopen_log(f);
    assert_ok(f, read_into(f, &pg, (hark_store_query){.limit = 0}));
    assert_int_equal(pg.p.n, 4);
    assert_string_equal(hark_event_type(pg.events[2]), "new:two");
    assert_string_equal(hark_event_type(pg.events[3]), "new:one");
    drop_page(&pg);
}

static void test_a_name_of_an_undone_closure_is_forgotten_by_the_group_too(void **state)
{
    fixture *f = *state;
    page pg = {0};
    begin(f);
    tx_begin(f);
    (void)add(f, "new:one", "x");
    tx_undo(f);
    tx_begin(f);
    (void)add(f, "new:two", "y");
    tx_keep(f);
    OPS.rollback(f->store);
    begin(f);
    (void)add(f, "new:one", "x");
    (void)add(f, "new:two", "y");
    commit(f);
    assert_ok(f, read_into(f, &pg, (hark_store_query){.limit = 0}));
    assert_string_equal(hark_event_type(pg.events[0]), "new:one");
    assert_string_equal(hark_event_type(pg.events[1]), "new:two");
    drop_page(&pg);
}

typedef struct tally {
    char text[256];
} tally;

static bool count_version(void *ud, const hark_store_version *v)
{
    tally *t = ud;
    size_t at = strlen(t->text);
    (void)snprintf(t->text + at, sizeof t->text - at, "%s %d: %d, ", v->type, (int)v->version,
                   (int)v->events);
    return true;
}

static void test_an_undone_closure_does_not_count_in_versions(void **state)
{
    fixture *f = *state;
    tally t = {.text = ""};
    two_good(f);
    tx_begin(f);
    (void)add(f, "bad", "bad");
    (void)add(f, "good", "worse");
    tx_undo(f);
    commit(f);
    assert_ok(f, OPS.versions(f->store, count_version, &t, &f->ei));
    assert_string_equal(t.text, "good 1: 2, ");
}

static void test_a_failed_statement_is_undone_alone(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT INTO stock VALUES('good-3', 3), ('good-1', 9)"));
    assert_says(f, "UNIQUE constraint failed: stock.sku");
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT INTO stock VALUES('minus', -1)"));
    assert_says(f, "CHECK constraint failed");
    tx_keep(f);
    goes_on(f);
}

static void test_a_conflict_of_events_undoes_its_closure_alone(void **state)
{
    fixture *f = *state;
    hark_store_append a = item(simple_event("good", "good-1"), 77);
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    assert_err(f, HARK_ECONFLICT, append(f, &a, 1));
    tx_undo(f);
    drop_items(&a, 1);
    goes_on(f);
}

static void test_a_schema_made_by_an_undone_closure_is_gone(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "CREATE TABLE bad(a)"));
    assert_ok(f, run(f, "INSERT INTO bad VALUES(1)"));
    (void)add(f, "bad", "bad");
    tx_undo(f);
    tx_begin(f);
    assert_err(f, HARK_ESQL, run(f, "INSERT INTO bad VALUES(1)"));
    assert_says(f, "no such table: bad");
    tx_undo(f);
    goes_on(f);
}

/* ---- refused at the end ---------------------------------------------------------------------- */

static void test_a_broken_deferred_foreign_key_undoes_its_closure_alone(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE line(sku TEXT REFERENCES stock(sku) DEFERRABLE INITIALLY DEFERRED)");
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "INSERT INTO line VALUES('nowhere')"));
    tx_refused(f, HARK_ECONSTRAINT);
    assert_says(f, "FOREIGN KEY");
    tx_begin(f); /* and one that is mended in time stays */
    assert_ok(f, run(f, "INSERT INTO line VALUES('good-2')"));
    tx_keep(f);
    goes_on(f);
}

static void test_foreign_keys_are_enforced(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE line(sku TEXT REFERENCES stock(sku))");
    reopen_log(f);
    two_good(f);
    tx_begin(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT INTO line VALUES('nowhere')"));
    assert_ok(f, run(f, "INSERT INTO line VALUES('good-1')"));
    assert_err(f, HARK_ECONSTRAINT, run(f, "DELETE FROM stock WHERE sku = 'good-1'"));
    tx_undo(f);
    goes_on(f);
}

static void test_a_statement_left_open_undoes_its_closure_alone(void **state)
{
    fixture *f = *state;
    sqlite3_stmt *st = NULL;
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, "INSERT INTO stock VALUES('bad', 1)"));
    assert_int_equal(sqlite3_prepare_v2(native(f), "SELECT sku FROM stock", -1, &st, NULL), 0);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    tx_refused(f, HARK_ESQL);
    assert_says(f, "SELECT sku FROM stock");
    assert_false(sqlite3_stmt_busy(st));
    sqlite3_finalize(st);
    goes_on(f);
}

static void test_a_write_left_open_undoes_its_closure_alone(void **state)
{
    fixture *f = *state;
    sqlite3_stmt *st = NULL;
    two_good(f);
    tx_begin(f);
    assert_int_equal(sqlite3_prepare_v2(native(f),
                                        "INSERT INTO stock VALUES('bad', 1), ('worse', 2) "
                                        "RETURNING sku",
                                        -1, &st, NULL),
                     0);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    tx_refused(f, HARK_ESQL);
    sqlite3_finalize(st);
    goes_on(f);
}

/* Search indexes keep readers of their own open from one statement to the next. */
static void test_what_a_search_index_leaves_open_is_not_the_closures(void **state)
{
    fixture *f = *state;
    if (!sqlite3_compileoption_used("ENABLE_FTS5"))
        skip();
    begin(f);
    tx_begin(f);
    assert_non_null(native(f)); /* from here on closures are looked at */
    assert_ok(f, run(f, "CREATE VIRTUAL TABLE words USING fts5(a)"));
    tx_keep(f);
    for (int i = 0; i < 300; i++) {
        tx_begin(f);
        assert_ok(f, run(f, "INSERT INTO words VALUES('one two three four five six')"));
        tx_keep(f);
    }
    commit(f);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM words"), 300);
}

static void test_left_over_statements_do_not_keep_the_log_open(void **state)
{
    fixture *f = *state;
    sqlite3_stmt *st = NULL, *idle = NULL;
    two_good(f);
    tx_begin(f);
    assert_int_equal(sqlite3_prepare_v2(native(f), "SELECT sku FROM stock", -1, &st, NULL), 0);
    assert_int_equal(sqlite3_prepare_v2(native(f), "SELECT 1", -1, &idle, NULL), 0);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW);
    tx_refused(f, HARK_ESQL);
    goes_on(f);
    assert_int_equal(sqlite3_step(st), SQLITE_ROW); /* between groups, even */
    reopen_log(f);
    assert_query(f, "3 ", "SELECT count(*) FROM stock");
}

/* ---- the programs' own schema ---------------------------------------------------------------- */

static void test_triggers_and_views_use_ordinary_functions(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE noted(sku TEXT, at TEXT, n INTEGER)");
    in_tx(f, "CREATE TRIGGER note AFTER INSERT ON stock BEGIN INSERT INTO noted VALUES("
             "upper(new.sku), strftime('%Y', 'now'), "
             "abs(random() % 1) + coalesce(new.n, 0) + length(hex(randomblob(1))) - 2); END");
    in_tx(f, "CREATE VIEW shown AS SELECT sku || '/' || printf('%03d', n) AS x, "
             "round(n * 1.5, 1) AS y, datetime(0, 'unixepoch') LIKE '1970%' AS z, "
             "substr(sku, 1, 2) AS a, at > '2000' AS b FROM noted");
    begin(f);
    good(f, 7);
    tx_begin(f);
    assert_rows(f, "GOOD-7/007|10.500|1|GO|1 ", "SELECT * FROM shown", HARK_NO_ARGS);
    tx_keep(f);
    commit(f);
    assert_query(f, "GOOD-7/007|10.500|1|GO|1 ", "SELECT * FROM shown");
}

static void test_tables_can_be_altered_and_dropped(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE a(id INTEGER PRIMARY KEY AUTOINCREMENT, b TEXT)");
    in_tx(f, "INSERT INTO a(b) VALUES('x')");
    in_tx(f, "ALTER TABLE a ADD COLUMN c INTEGER CHECK(c > 0)");
    in_tx(f, "ALTER TABLE a RENAME COLUMN b TO bb");
    in_tx(f, "CREATE INDEX a_by_bb ON a(bb)");
    in_tx(f, "ALTER TABLE a RENAME TO aa");
    assert_query(f, "1|x|null ", "SELECT id, bb, c FROM aa");
    in_tx(f, "REINDEX a_by_bb");
    in_tx(f, "DROP INDEX a_by_bb");
    in_tx(f, "DROP TABLE aa");
    assert_query(f, "0 ", "SELECT count(*) FROM sqlite_master WHERE name LIKE 'a%'");
}

static void test_a_search_index_of_the_programs_works(void **state)
{
    fixture *f = *state;
    if (!sqlite3_compileoption_used("ENABLE_FTS5"))
        skip();
    begin(f);
    tx_begin(f);
    assert_ok(f, run(f, "CREATE VIRTUAL TABLE found USING fts5(text)"));
    assert_ok(f, run(f, "INSERT INTO found VALUES('one swallow')"));
    tx_keep(f);
    tx_begin(f);
    assert_ok(f, run(f, "INSERT INTO found VALUES('two swallows')"));
    tx_undo(f);
    commit(f);
    assert_query(f, "one swallow ", "SELECT text FROM found WHERE found MATCH 'swallow*'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STOCK(test_rows_and_events_are_committed_as_one),
        STOCK(test_a_closure_sees_those_before_it_and_readers_do_not),
        STOCK(test_a_group_rolled_back_takes_its_closures_along),
        STOCK(test_a_group_is_rolled_back_within_a_closure),
        STOCK(test_the_log_is_closed_within_a_closure),
        STOCK(test_an_undone_closure_leaves_no_row_and_no_event),
        STOCK(test_an_undone_closure_frees_the_ids_of_its_events),
        STOCK(test_a_name_first_used_in_an_undone_closure_is_used_again),
        STOCK(test_a_name_of_an_undone_closure_is_forgotten_by_the_group_too),
        STOCK(test_an_undone_closure_does_not_count_in_versions),
        STOCK(test_a_failed_statement_is_undone_alone),
        STOCK(test_a_conflict_of_events_undoes_its_closure_alone),
        STOCK(test_a_schema_made_by_an_undone_closure_is_gone),
        STOCK(test_a_broken_deferred_foreign_key_undoes_its_closure_alone),
        STOCK(test_foreign_keys_are_enforced),
        STOCK(test_a_statement_left_open_undoes_its_closure_alone),
        STOCK(test_a_write_left_open_undoes_its_closure_alone),
        STOCK(test_what_a_search_index_leaves_open_is_not_the_closures),
        STOCK(test_left_over_statements_do_not_keep_the_log_open),
        STOCK(test_triggers_and_views_use_ordinary_functions),
        STOCK(test_tables_can_be_altered_and_dropped),
        STOCK(test_a_search_index_of_the_programs_works),
    };
    return cmocka_run_group_tests_name("sqlite_tx", tests, NULL, NULL);
}
