/* What SQL a closure and hark_query may run, what they get for what they may not, and that the bus goes on
 * after each of it with nothing half-done. */
#include "shop.h"

#include <sqlite3.h>

/* A row and an event go before it, so that it shows when they stay. */
static hark_err both_then_sql(hark_tx *tx, void *ud)
{
    shop_work *w = ud, before = {.n = -1};
    atomic_fetch_add(&w->runs, 1);
    hark_err err = shop_both(tx, &before);
    if (!err)
        err = w->seen = hark_tx_exec(tx, w->sql, HARK_NO_ARGS);
    (void)snprintf(w->text, sizeof w->text, "%s", hark_tx_error(tx));
    return err;
}

static hark_err run_after_both(fixture *f, shop_work *w)
{
    f->ei = (hark_errinfo){0};
    return hark_transact(f->bus, both_then_sql, w, SHOP_PATIENT, NULL, &f->ei);
}

/* The bus goes on: one more row, one more event, and what is there agrees. */
static void goes_on(fixture *f, size_t *n)
{
    assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = (int64_t)*n}, NULL));
    shop_has(f, ++*n);
    shop_agrees(f);
}

static void refused_with(fixture *f, hark_err expected, const char *const *sql, size_t n_sql)
{
    size_t n = (size_t)shop_rows(f);
    for (size_t i = 0; i < n_sql; i++) {
        shop_work w = {.sql = sql[i]};
        hark_err err = run_after_both(f, &w);
        if (err != expected || w.seen != expected)
            fail_msg("%s: expected %s, got %s: %s", sql[i], hark_err_name(expected),
                     hark_err_name(err), f->ei.text);
        assert_int_equal(f->ei.err, expected);
        assert_true(strlen(f->ei.text) > 0);
        assert_string_equal(f->ei.text, w.text);
        goes_on(f, &n);
    }
}

static void test_sql_that_fails_is_told_with_its_own_text(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const wrong[] = {
        "NONSENSE",
        "INSERT INTO nowhere VALUES(1)",
        "SELECT no_function(1)",
        "SELECT nothing FROM effects",
        "INSERT INTO effects VALUES(1, 2, 3)",
        "INSERT INTO effects(n) VALUES(abs(-9223372036854775808))",
        "SELECT RAISE(ABORT, 'outside')",
    };
    refused_with(f, HARK_ESQL, wrong, HK_COUNTOF(wrong));
    assert_err(f, HARK_ESQL, shop_sql(f, "INSERT INTO nowhere VALUES(1)"));
    assert_says(f, "no such table: nowhere");
}

static void test_statements_that_are_not_one_are_refused(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const wrong[] = {
        "",
        "  -- nothing",
        "INSERT INTO effects(n) VALUES(1); INSERT INTO effects(n) VALUES(2)",
        "INSERT INTO effects(n) VALUES(1); nonsense",
        "INSERT INTO effects(n) VALUES(?)",
    };
    refused_with(f, HARK_EINVAL, wrong, HK_COUNTOF(wrong));
    assert_ok(f, shop_sql(f, "INSERT INTO effects(n) VALUES(1); -- only a comment behind it"));
}

static void test_a_constraint_of_the_programs_own_is_told_as_one(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE strict(id INTEGER PRIMARY KEY, n INT NOT NULL CHECK(n > "
                             "0), u TEXT UNIQUE)"));
    assert_ok(f, shop_sql(f, "CREATE TABLE child(id INTEGER PRIMARY KEY, parent INT REFERENCES "
                             "strict(id))"));
    assert_ok(f, shop_sql(f, "INSERT INTO strict VALUES(1, 1, 'a')"));
    static const char *const wrong[] = {
        "INSERT INTO strict VALUES(1, 1, 'b')", "INSERT INTO strict VALUES(2, NULL, 'b')",
        "INSERT INTO strict VALUES(2, 0, 'b')", "INSERT INTO strict VALUES(2, 1, 'a')",
        "INSERT INTO child VALUES(1, 77)",
    };
    assert_ok(f, shop_sql(f, "INSERT INTO child VALUES(2, 1)"));
    refused_with(f, HARK_ECONSTRAINT, wrong, HK_COUNTOF(wrong));
    assert_u64(shop_ask(f, "SELECT count(*) FROM strict"), 1);
    assert_u64(shop_ask(f, "SELECT count(*) FROM child"), 1);
}

static void test_what_would_break_the_transaction_is_denied(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const denied[] = {
        "BEGIN",
        "BEGIN IMMEDIATE",
        "COMMIT",
        "END",
        "ROLLBACK",
        "SAVEPOINT x",
        "RELEASE x",
        "ROLLBACK TO x",
        "PRAGMA synchronous = OFF",
        "PRAGMA journal_mode",
        "PRAGMA user_version = 7",
        "SELECT * FROM pragma_table_info('effects')",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM",
        "VACUUM INTO 'copy.db'",
        "CREATE TEMP TABLE t(n)",
        "CREATE TEMP VIEW v AS SELECT 1",
        "CREATE TEMP TRIGGER t AFTER INSERT ON effects BEGIN SELECT 1; END",
        "SELECT load_extension('x')",
    };
    refused_with(f, HARK_EDENIED, denied, HK_COUNTOF(denied));
}

static void test_the_logs_own_tables_are_out_of_reach(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const denied[] = {
        "SELECT * FROM hark_events",
        "SELECT count(*) FROM hark_events",
        "SELECT n FROM effects WHERE n IN (SELECT seq FROM hark_events)",
        "INSERT INTO effects(n) SELECT seq FROM hark_events",
        "INSERT INTO hark_events(seq) VALUES(1)",
        "UPDATE hark_events SET seq = seq + 1",
        "DELETE FROM hark_events",
        "DELETE FROM hark_consumers",
        "DROP TABLE hark_events",
        "ALTER TABLE hark_events RENAME TO mine",
        "ALTER TABLE hark_events ADD COLUMN mine",
        "CREATE INDEX mine ON hark_events(seq)",
        "CREATE TRIGGER mine AFTER INSERT ON hark_events BEGIN DELETE FROM effects; END",
        "CREATE TABLE hark_mine(n)",
        "CREATE VIEW hark_mine AS SELECT 1",
        "CREATE TABLE mine AS SELECT * FROM hark_events",
        "REINDEX hark_events",
        "ANALYZE hark_events",
    };
    refused_with(f, HARK_EDENIED, denied, HK_COUNTOF(denied));
    /* SQLite itself refuses this one */
    assert_err(f, HARK_ESQL, shop_sql(f, "DELETE FROM sqlite_schema"));
    /* of this one SQLite asks nobody: it shows at the end of the closure */
    assert_err(f, HARK_EDENIED, shop_sql(f, "ALTER TABLE effects RENAME TO hark_effects"));
    assert_err(f, HARK_EDENIED, shop_sql(f, "CREATE TABLE mine(e REFERENCES hark_events(seq))"));
    /* the names of the program's own tables may look like the log's old ones */
    assert_ok(f, shop_sql(f, "CREATE TABLE events(n)"));
    assert_ok(f, shop_sql(f, "CREATE TABLE harken(n)"));
}

/* Through a trigger or a view of the program's own, made in one transaction and used in another. */
static void test_no_detour_leads_to_the_logs_own_tables(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const ways[][2] = {
        {"CREATE TRIGGER detour AFTER INSERT ON effects BEGIN DELETE FROM hark_events; END",
         "INSERT INTO effects(n) VALUES(1)"},
        {"CREATE VIEW detour AS SELECT seq FROM hark_events", "SELECT * FROM detour"},
    };
    static const char *const gone[] = {"DROP TRIGGER IF EXISTS detour",
                                       "DROP VIEW IF EXISTS detour"};
    for (size_t i = 0; i < HK_COUNTOF(ways); i++) {
        hark_err made = shop_sql(f, ways[i][0]);
        if (made)
            assert_int_equal(made, HARK_EDENIED);
        else
            assert_err(f, HARK_EDENIED, shop_sql(f, ways[i][1]));
        assert_ok(f, shop_sql(f, gone[i]));
        publish(f, "other");
    }
    assert_u64(shop_said(f, "other", NULL, 0), HK_COUNTOF(ways));
}

static hark_err three_rows_of_which_one_fails(hark_tx *tx, shop_work *w)
{
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)", HARK_ARGS(hark_int(w->n)));
    w->seen = hark_tx_exec(tx, "INSERT INTO one(n) VALUES(7), (8), (1)", HARK_NO_ARGS);
    (void)snprintf(w->text, sizeof w->text, "%s", hark_tx_error(tx));
    return err ? err : shop_say(tx, w->n, NULL);
}

static void test_an_error_undoes_its_statement_and_the_closure_may_go_on(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = three_rows_of_which_one_fails, .n = 5};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE one(n INTEGER PRIMARY KEY)"));
    assert_ok(f, shop_sql(f, "INSERT INTO one VALUES(1)"));
    assert_ok(f, shop_run(f, &w, NULL));
    assert_int_equal(w.seen, HARK_ECONSTRAINT);
    assert_non_null(strstr(w.text, "one.n"));
    assert_u64(shop_ask(f, "SELECT count(*) FROM one"), 1);
    shop_has(f, 1);
}

/* ---- values ------------------------------------------------------------------------------------- */

static bool check_row(const hark_row *row, void *ud)
{
    size_t len = 0;
    ++*(int *)ud;
    assert_u64(row->n, 5);
    assert_string_equal(row->names[0], "i");
    assert_string_equal(row->names[4], "z");
    assert_int_equal(row->values[0].kind, HARK_INTEGER);
    assert_int_equal(row->values[1].kind, HARK_REAL);
    assert_int_equal(row->values[2].kind, HARK_TEXT);
    assert_int_equal(row->values[3].kind, HARK_BLOB);
    assert_int_equal(row->values[4].kind, HARK_NULL);
    assert_true(hark_row_int(row, 0) == INT64_MIN);
    assert_true(hark_row_real(row, 1) == 0.5);
    assert_string_equal(hark_row_text(row, 2), "12 Äpfel");
    assert_memory_equal(hark_row_blob(row, 3, &len), "a\0b", 3);
    assert_u64(len, 3);
    assert_true(hark_row_null(row, 4));
    assert_false(hark_row_null(row, 0));
    assert_null(hark_row_text(row, 4));
    assert_null(hark_row_text(row, 0));
    assert_null(hark_row_text(row, 9));
    assert_true(hark_row_int(row, 4) == 0 && hark_row_int(row, 9) == 0);
    return true;
}

static hark_err write_values(hark_tx *tx, shop_work *w)
{
    (void)w;
    return hark_tx_exec(tx, "INSERT INTO kinds VALUES(?, ?, ?, ?, ?)",
                        HARK_ARGS(hark_int(INT64_MIN), hark_real(0.5), hark_text("12 Äpfel"),
                                  hark_blob("a\0b", 3), hark_text(NULL)));
}

static hark_err read_values(hark_tx *tx, shop_work *w)
{
    int rows = 0;
    hark_err err = hark_tx_query(tx, "SELECT * FROM kinds", HARK_NO_ARGS, check_row, &rows);
    w->n = rows;
    return err;
}

static void test_values_of_every_kind_come_back_as_they_were_given(void **state)
{
    fixture *f = *state;
    shop_work r = {.then = read_values};
    int rows = 0;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE kinds(i, r, t, b, z)"));
    assert_ok(f, shop_run(f, &(shop_work){.then = write_values}, NULL));
    assert_ok(f, shop_run(f, &r, NULL));
    assert_u64(r.n, 1);
    assert_ok(f, hark_query(f->bus, "SELECT * FROM kinds WHERE r = ? AND b = ?",
                            HARK_ARGS(hark_real(0.5), hark_blob("a\0b", 3)), check_row, &rows,
                            &f->ei));
    assert_int_equal(rows, 1);
}

static bool second_row_is_enough(const hark_row *row, void *ud)
{
    (void)row;
    return ++*(int64_t *)ud < 2;
}

static hark_err query_returning(hark_tx *tx, shop_work *w)
{
    return hark_tx_query(tx, "INSERT INTO effects(n) VALUES(1), (2), (3), (4) RETURNING n",
                         HARK_NO_ARGS, second_row_is_enough, &w->n);
}

static void test_a_query_that_has_seen_enough_leaves_what_it_wrote(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = query_returning};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(w.n, 2);
    assert_u64(shop_rows(f), 4);
}

/* ---- the store's own handle ---------------------------------------------------------------------- */

static hark_err use_native(hark_tx *tx, shop_work *w)
{
    sqlite3 *db = hark_tx_native(tx);
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, "INSERT INTO effects(n) VALUES(?)", -1, &st, NULL) != SQLITE_OK)
        return hark_tx_fail(tx, HARK_ESQL, "%s", sqlite3_errmsg(db));
    for (int i = 0; i < 3; i++) {
        sqlite3_bind_int(st, 1, i);
        MUST(sqlite3_step(st) == SQLITE_DONE);
        sqlite3_reset(st);
    }
    sqlite3_finalize(st);
    return w->n ? HARK_ECANCELED : HARK_OK;
}

static void test_the_stores_own_handle_writes_in_the_transaction(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = use_native}, NULL));
    assert_u64(shop_rows(f), 3);
    assert_err(f, HARK_ECANCELED, shop_run(f, &(shop_work){.then = use_native, .n = 1}, NULL));
    assert_u64(shop_rows(f), 3);
}

static hark_err deny_native(hark_tx *tx, shop_work *w)
{
    static const char *const denied[] = {"COMMIT", "PRAGMA journal_mode", "DELETE FROM hark_events",
                                         "SAVEPOINT x"};
    for (size_t i = 0; i < HK_COUNTOF(denied); i++)
        if (sqlite3_exec(hark_tx_native(tx), denied[i], NULL, NULL, NULL) != SQLITE_AUTH)
            return hark_tx_fail(tx, HARK_EINTERNAL, "%s was not denied", denied[i]);
    return shop_both(tx, w);
}

static void test_the_same_is_denied_through_the_stores_own_handle(void **state)
{
    fixture *f = *state;
    size_t n = 1;
    if (!shop_open(f))
        return;
    publish(f, "other");
    assert_ok(f, shop_run(f, &(shop_work){.then = deny_native}, NULL));
    goes_on(f, &n);
    assert_u64(shop_said(f, "other", NULL, 0), 1);
}

/* ---- reading beside the log ------------------------------------------------------------------------ */

static void
test_a_query_beside_the_log_writes_nothing_and_sees_only_the_programs_tables(void **state)
{
    fixture *f = *state;
    size_t n = 1;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = 0}, NULL));
    static const struct {
        const char *sql;
        hark_err err;
    } tries[] = {
        {"INSERT INTO effects VALUES(1, 'x')", HARK_EDENIED},
        {"DELETE FROM effects", HARK_EDENIED},
        {"CREATE TABLE mine(n)", HARK_EDENIED},
        {"CREATE TEMP TABLE mine(n)", HARK_EDENIED},
        {"BEGIN", HARK_EDENIED},
        {"PRAGMA query_only = 0", HARK_EDENIED},
        {"ATTACH ':memory:' AS other", HARK_EDENIED},
        {"SELECT * FROM hark_events", HARK_EDENIED},
        {"SELECT n FROM effects WHERE n IN (SELECT seq FROM hark_events)", HARK_EDENIED},
        {"NONSENSE", HARK_ESQL},
        {"SELECT * FROM nowhere", HARK_ESQL},
        {"", HARK_EINVAL},
        {"SELECT 1; SELECT 2", HARK_EINVAL},
        {"SELECT ?", HARK_EINVAL},
    };
    for (size_t i = 0; i < HK_COUNTOF(tries); i++) {
        f->ei = (hark_errinfo){0};
        hark_err err = hark_query(f->bus, tries[i].sql, HARK_NO_ARGS, NULL, NULL, &f->ei);
        if (err != tries[i].err)
            fail_msg("%s: expected %s, got %s: %s", tries[i].sql, hark_err_name(tries[i].err),
                     hark_err_name(err), f->ei.text);
        assert_int_equal(f->ei.err, err);
        goes_on(f, &n);
    }
}

static hark_err write_and_wait(hark_tx *tx, shop_work *w)
{
    hark_err err = shop_both(tx, w);
    latch_wait(w->ud);
    return err;
}

static void told(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    (void)last, (void)ei;
    shop_work *w = ud;
    w->seen = err;
    atomic_fetch_add(&w->runs, 100);
}

static void test_a_query_beside_the_log_sees_what_is_committed_and_no_more(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    shop_work w = {.then = write_and_wait, .ud = &at};
    if (!shop_open(f))
        return;
    assert_ok(f, hark_transact_async(f->bus, shop_do, told, &w, SHOP_PATIENT, &f->ei));
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_u64(shop_rows(f), 0); /* nor does it wait for the writer */
    latch_open(&at);
    WAIT_UNTIL(atomic_load(&w.runs) > 100);
    assert_ok(f, w.seen);
    assert_u64(shop_rows(f), 1);
}

static bool take_columns(const hark_row *row, void *ud)
{
    *(int64_t *)ud = (int64_t)row->n;
    return true;
}

static bool take_first_two(const hark_row *row, void *ud)
{
    int64_t *n = ud;
    n[0] = hark_row_int(row, 0);
    n[1] = hark_row_int(row, 1);
    return true;
}

static hark_err count_columns(hark_tx *tx, shop_work *w)
{
    return hark_tx_query(tx, "SELECT * FROM effects", HARK_NO_ARGS, take_columns, &w->n);
}

/* The same text is prepared once and kept. */
static void test_a_statement_that_was_used_before_sees_a_changed_table(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = count_columns};
    int64_t n = 0;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "INSERT INTO effects VALUES(1, 'x')"));
    static const char *const more[] = {"ALTER TABLE effects ADD COLUMN a",
                                       "ALTER TABLE effects ADD COLUMN b DEFAULT 7"};
    for (size_t i = 0; i <= HK_COUNTOF(more); i++) {
        assert_ok(f, shop_run(f, &w, NULL));
        assert_u64(w.n, 2 + i);
        assert_ok(
            f, hark_query(f->bus, "SELECT * FROM effects", HARK_NO_ARGS, take_columns, &n, &f->ei));
        assert_u64(n, 2 + i);
        if (i < HK_COUNTOF(more))
            assert_ok(f, shop_sql(f, more[i]));
    }
    assert_ok(f, shop_sql(f, "DROP TABLE effects"));
    assert_err(f, HARK_ESQL, shop_run(f, &w, NULL));
    assert_err(f, HARK_ESQL,
               hark_query(f->bus, "SELECT * FROM effects", HARK_NO_ARGS, take_columns, &n, &f->ei));
}

typedef struct asker {
    fixture *f;
    pthread_t thread;
    atomic_int *stop;
    int64_t seen;
} asker;

static void *ask_main(void *arg)
{
    asker *a = arg;
    while (!atomic_load(a->stop)) {
        int64_t n[2] = {0, 0};
        MUST(hark_query(a->f->bus, "SELECT count(*), count(DISTINCT n) FROM effects", HARK_NO_ARGS,
                        take_first_two, n, NULL) == HARK_OK);
        MUST(n[0] == n[1] && n[0] % 2 == 0 && n[0] >= a->seen);
        a->seen = n[0];
    }
    return NULL;
}

static hark_err write_two(hark_tx *tx, shop_work *w)
{
    for (int i = 0; i < 2; i++) {
        hark_err err =
            hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)", HARK_ARGS(hark_int(2 * w->n + i)));
        if (err)
            return err;
    }
    return HARK_OK;
}

static void test_queries_beside_the_writer_never_see_half_a_transaction(void **state)
{
    enum { ASKERS = 3, N = 150 };
    fixture *f = *state;
    asker a[ASKERS];
    atomic_int stop;
    atomic_init(&stop, 0);
    if (!shop_open(f))
        return;
    for (int i = 0; i < ASKERS; i++) {
        a[i] = (asker){.f = f, .stop = &stop};
        MUST(pthread_create(&a[i].thread, NULL, ask_main, &a[i]) == 0);
    }
    for (int64_t n = 0; n < N; n++)
        assert_ok(f, shop_run(f, &(shop_work){.then = write_two, .n = n}, NULL));
    atomic_store(&stop, 1);
    for (int i = 0; i < ASKERS; i++)
        pthread_join(a[i].thread, NULL);
    assert_u64(shop_rows(f), 2 * N);
}

static const struct CMUnitTest tests[] = {
    TEST(test_sql_that_fails_is_told_with_its_own_text),
    TEST(test_statements_that_are_not_one_are_refused),
    TEST(test_a_constraint_of_the_programs_own_is_told_as_one),
    TEST(test_what_would_break_the_transaction_is_denied),
    TEST(test_the_logs_own_tables_are_out_of_reach),
    TEST(test_no_detour_leads_to_the_logs_own_tables),
    TEST(test_an_error_undoes_its_statement_and_the_closure_may_go_on),
    TEST(test_values_of_every_kind_come_back_as_they_were_given),
    TEST(test_a_query_that_has_seen_enough_leaves_what_it_wrote),
    TEST(test_the_stores_own_handle_writes_in_the_transaction),
    TEST(test_the_same_is_denied_through_the_stores_own_handle),
    TEST(test_a_query_beside_the_log_writes_nothing_and_sees_only_the_programs_tables),
    TEST(test_a_query_beside_the_log_sees_what_is_committed_and_no_more),
    TEST(test_a_statement_that_was_used_before_sees_a_changed_table),
    TEST(test_queries_beside_the_writer_never_see_half_a_transaction),
};

CONFORMANCE_MAIN("tx_sql")
