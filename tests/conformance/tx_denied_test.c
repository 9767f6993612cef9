/* What SQL a closure and hark_query may not run, what they get for it, and that the bus goes on after each of it
 * with nothing half-done. */
#include "refused.h"

static void test_what_would_break_the_transaction_is_denied(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const denied[] = {"BEGIN",
                                         "COMMIT",
                                         "END",
                                         "ROLLBACK",
                                         "SAVEPOINT x",
                                         "RELEASE x",
                                         "ROLLBACK TO x",
                                         "VACUUM",
                                         "CREATE TEMP TABLE t(n int)",
                                         "CREATE TEMP VIEW v AS SELECT 1",
                                         NULL};
    static const char *const of_sqlite[] = {
        "BEGIN IMMEDIATE",
        "PRAGMA synchronous = OFF",
        "PRAGMA journal_mode",
        "PRAGMA user_version = 7",
        "SELECT * FROM pragma_table_info('effects')",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "VACUUM INTO 'copy.db'",
        "CREATE TEMP TRIGGER t AFTER INSERT ON effects BEGIN SELECT 1; END",
        "SELECT load_extension('x')",
        NULL};
    static const char *const of_postgresql[] = {
        "START TRANSACTION",
        "ABORT",
        "PREPARE TRANSACTION 'x'",
        "SET search_path = pg_temp",
        "SET LOCAL statement_timeout = 0",
        "SET CONSTRAINTS ALL DEFERRED",
        "RESET ALL",
        "DISCARD ALL",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT pg_advisory_unlock_all()",
        "LISTEN x",
        "LOCK effects",
        "COPY effects TO STDOUT",
        "DO $$ BEGIN COMMIT; END $$",
        "CREATE DATABASE other",
        "CREATE INDEX CONCURRENTLY ON effects(n)",
        "ALTER SYSTEM SET fsync = off",
        "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", /* by the server */
        NULL};
    refused_with(f, HARK_EDENIED, denied);
    refused_with(f, HARK_EDENIED, said_to(f, of_sqlite, of_postgresql));
}

static void test_the_logs_own_tables_are_out_of_reach(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const denied[] = {
        "SELECT * FROM @events",
        "SELECT count(*) FROM @events",
        "SELECT n FROM effects WHERE n IN (SELECT seq FROM @events)",
        "INSERT INTO effects(n) SELECT seq FROM @events",
        "INSERT INTO @events(seq) VALUES(1)",
        "UPDATE @events SET seq = seq + 1",
        "DELETE FROM @events",
        "DELETE FROM @consumers",
        "DROP TABLE @events",
        "ALTER TABLE @events RENAME TO mine",
        "ALTER TABLE @events ADD COLUMN mine int",
        "CREATE INDEX mine ON @events(seq)",
        "CREATE TRIGGER mine AFTER INSERT ON @events BEGIN DELETE FROM effects; END",
        "CREATE TABLE hark_mine(n int)",
        "CREATE VIEW hark_mine AS SELECT 1",
        "CREATE TABLE mine AS SELECT * FROM @events",
        "REINDEX @events",
        "ANALYZE @events",
        NULL};
    refused_with(f, HARK_EDENIED, denied);
    /* SQLite asks nobody of the first, which shows at the end of the closure */
    assert_err(f, HARK_EDENIED, shop_sql(f, "ALTER TABLE effects RENAME TO hark_effects"));
    assert_err(f, HARK_EDENIED,
               shop_sql(f, in_log(f, "CREATE TABLE mine(e int REFERENCES @events(seq))").s));
    /* the names of the program's own tables may look like the log's old ones */
    assert_ok(f, shop_sql(f, "CREATE TABLE events(n int)"));
    assert_ok(f, shop_sql(f, "CREATE TABLE harken(n int)"));
}

static void test_the_stores_own_catalog_is_out_of_reach(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    if (strcmp(f->store->name, "sqlite") != 0)
        left_out(f, "the catalog", "it is guarded by the role that the program connects as");
    assert_err(f, HARK_ESQL, shop_sql(f, "DELETE FROM sqlite_schema"));
}

/* Through a trigger, a function or a view of the program's own, made in one transaction and used in another. */
static void test_no_detour_leads_to_the_logs_own_tables(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const of_sqlite[] = {
        "CREATE TRIGGER detour AFTER INSERT ON effects BEGIN DELETE FROM @events; END",
        "INSERT INTO effects(n) VALUES(1)", "DROP TRIGGER IF EXISTS detour", NULL};
    static const char *const of_postgresql[] = {"CREATE FUNCTION detour() RETURNS int LANGUAGE sql "
                                                "AS $$ DELETE FROM @events RETURNING 1 $$",
                                                "SELECT detour()",
                                                "DROP FUNCTION IF EXISTS detour()", NULL};
    static const char *const view[] = {"CREATE VIEW detour AS SELECT seq FROM @events",
                                       "SELECT * FROM detour", "DROP VIEW IF EXISTS detour", NULL};
    const char *const *ways[] = {said_to(f, of_sqlite, of_postgresql), view};
    for (size_t i = 0; i < HK_COUNTOF(ways); i++) {
        hark_err made = shop_sql(f, in_log(f, ways[i][0]).s);
        if (made)
            assert_int_equal(made, HARK_EDENIED);
        else
            assert_err(f, HARK_EDENIED, shop_sql(f, ways[i][1]));
        assert_ok(f, shop_sql(f, ways[i][2]));
        publish(f, "other");
    }
    assert_u64(shop_said(f, "other", NULL, 0), HK_COUNTOF(ways));
}

static hark_err deny_native(hark_tx *tx, shop_work *w)
{
    fixture *f = w->ud;
    static const char *const denied[] = {"COMMIT", "PRAGMA journal_mode", "DELETE FROM hark_events",
                                         "SAVEPOINT x"};
    for (size_t i = 0; i < HK_COUNTOF(denied); i++)
        if (dialect_of(f)->native(tx, denied[i]) != HARK_EDENIED)
            return hark_tx_fail(tx, HARK_EINTERNAL, "%s was not denied", denied[i]);
    return shop_both(tx, w);
}

static void test_the_same_is_denied_through_the_stores_own_handle(void **state)
{
    fixture *f = *state;
    size_t n = 1;
    if (!shop_open(f))
        return;
    if (strcmp(f->store->name, "sqlite") != 0)
        left_out(f, "denied with its own handle",
                 "the server asks nobody; COMMIT and ROLLBACK are in the tests of groups");
    publish(f, "other");
    assert_ok(f, shop_run(f, &(shop_work){.then = deny_native, .ud = f}, NULL));
    goes_on(f, &n);
    assert_u64(shop_said(f, "other", NULL, 0), 1);
}

static void asked_with(fixture *f, hark_err expected, const char *const *sql, size_t *n)
{
    for (; *sql; sql++) {
        sql_text text = in_log(f, *sql);
        f->ei = (hark_errinfo){0};
        hark_err err = hark_query(f->bus, text.s, HARK_NO_ARGS, NULL, NULL, &f->ei);
        if (err != expected)
            fail_msg("%s: expected %s, got %s: %s", text.s, hark_err_name(expected),
                     hark_err_name(err), f->ei.text);
        assert_int_equal(f->ei.err, err);
        goes_on(f, n);
    }
}

static void
test_a_query_beside_the_log_writes_nothing_and_sees_only_the_programs_tables(void **state)
{
    fixture *f = *state;
    size_t n = 1;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = 0}, NULL));
    static const char *const denied[] = {
        "INSERT INTO effects VALUES(1, 'x')",
        "DELETE FROM effects",
        "CREATE TABLE mine(n int)",
        "CREATE TEMP TABLE mine(n int)",
        "BEGIN",
        "SELECT * FROM @events",
        "SELECT n FROM effects WHERE n IN (SELECT seq FROM @events)",
        NULL};
    static const char *const of_sqlite[] = {"PRAGMA query_only = 0", "ATTACH ':memory:' AS other",
                                            NULL};
    static const char *const of_postgresql[] = {
        "SET default_transaction_read_only = off",
        "SET TRANSACTION READ WRITE",
        "COMMIT",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "WITH x AS (DELETE FROM effects RETURNING n) SELECT n FROM x",
        "SELECT nextval(pg_get_serial_sequence('effects', 'rowid'))",
        "SELECT 1 FROM effects FOR UPDATE",
        NULL};
    static const char *const wrong[] = {"NONSENSE", "SELECT * FROM nowhere", NULL};
    static const char *const not_one[] = {"", "SELECT 1; SELECT 2", "SELECT ?", NULL};
    asked_with(f, HARK_EDENIED, denied, &n);
    asked_with(f, HARK_EDENIED, said_to(f, of_sqlite, of_postgresql), &n);
    asked_with(f, HARK_ESQL, wrong, &n);
    asked_with(f, HARK_EINVAL, not_one, &n);
}

static const struct CMUnitTest tests[] = {
    TEST(test_what_would_break_the_transaction_is_denied),
    TEST(test_the_logs_own_tables_are_out_of_reach),
    TEST(test_the_stores_own_catalog_is_out_of_reach),
    TEST(test_no_detour_leads_to_the_logs_own_tables),
    TEST(test_the_same_is_denied_through_the_stores_own_handle),
    TEST(test_a_query_beside_the_log_writes_nothing_and_sees_only_the_programs_tables),
};

CONFORMANCE_MAIN("tx_denied")
