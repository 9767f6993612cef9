/* The dialects, see dialect.h. */
#include "dialect.h"

#include <libpq-fe.h>
#include <sqlite3.h>

/* ---- SQLite -------------------------------------------------------------------------------------- */

static hark_err sqlite_native(hark_tx *tx, const char *sql)
{
    sqlite3 *db = hark_tx_native(tx);
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        return HARK_OK;
    return hark_tx_fail(tx, rc == SQLITE_AUTH ? HARK_EDENIED : HARK_ESQL, "native: %s",
                        sqlite3_errmsg(db));
}

static hark_err sqlite_native_rows(hark_tx *tx, int n)
{
    sqlite3 *db = hark_tx_native(tx);
    sqlite3_stmt *st = NULL;
    if (sqlite3_prepare_v2(db, "INSERT INTO effects(n) VALUES(?)", -1, &st, NULL) != SQLITE_OK)
        return hark_tx_fail(tx, HARK_ESQL, "%s", sqlite3_errmsg(db));
    for (int i = 0; i < n; i++) {
        sqlite3_bind_int(st, 1, i);
        MUST(sqlite3_step(st) == SQLITE_DONE);
        sqlite3_reset(st);
    }
    sqlite3_finalize(st);
    return HARK_OK;
}

static void sqlite_look(const fixture *f)
{
    sqlite3 *db;
    sqlite3_stmt *st;
    MUST(sqlite3_open(f->url + strlen("sqlite:"), &db) == SQLITE_OK);
    MUST(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &st, NULL) == SQLITE_OK);
    MUST(sqlite3_step(st) == SQLITE_ROW);
    assert_string_equal(sqlite3_column_text(st, 0), "ok");
    sqlite3_finalize(st);
    sqlite3_close(db);
}

static const char *const sqlite_effects[] = {"CREATE TABLE effects(n INTEGER, note TEXT)", NULL};
static const char *const sqlite_trap[] = {
    "CREATE TABLE trap(n)",
    "CREATE TRIGGER snap BEFORE INSERT ON trap BEGIN SELECT RAISE(ROLLBACK, 'it snapped'); END",
    NULL};

static const dialect of_sqlite = {.store = "sqlite",
                                  .effects = sqlite_effects,
                                  .columns = 2,
                                  .trap = sqlite_trap,
                                  .kinds = "CREATE TABLE kinds(i, r, t, b, z)",
                                  .counting = "CREATE TABLE a(n INTEGER PRIMARY KEY AUTOINCREMENT)",
                                  .one_twice = "one.n",
                                  .no_table = "no such table: nowhere",
                                  .settings = "PRAGMA synchronous = OFF",
                                  .spoiler = "OR ROLLBACK",
                                  .native = sqlite_native,
                                  .native_rows = sqlite_native_rows,
                                  .look = sqlite_look};

/* ---- PostgreSQL ----------------------------------------------------------------------------------- */

static hark_err told(hark_tx *tx, PGconn *pg, PGresult *r)
{
    ExecStatusType st = PQresultStatus(r);
    PQclear(r);
    if (st == PGRES_COMMAND_OK || st == PGRES_TUPLES_OK)
        return HARK_OK;
    return hark_tx_fail(tx, HARK_ESQL, "native: %s", PQerrorMessage(pg));
}

static hark_err pg_native(hark_tx *tx, const char *sql)
{
    PGconn *pg = hark_tx_native(tx);
    return told(tx, pg, PQexec(pg, sql));
}

static hark_err pg_native_rows(hark_tx *tx, int n)
{
    PGconn *pg = hark_tx_native(tx);
    hark_err err =
        told(tx, pg, PQprepare(pg, "mine", "INSERT INTO effects(n) VALUES($1)", 1, NULL));
    for (int i = 0; i < n && !err; i++) {
        char text[16];
        const char *const args[] = {text};
        (void)snprintf(text, sizeof text, "%d", i);
        err = told(tx, pg, PQexecPrepared(pg, "mine", 1, args, NULL, NULL, 0));
    }
    return err ? err : told(tx, pg, PQexec(pg, "DEALLOCATE mine"));
}

static void log_of(const fixture *f, char ret[64])
{
    const char *name = strstr(f->url, "?log=");
    (void)snprintf(ret, 64, "hark%s%s", name ? "_" : "", name ? name + strlen("?log=") : "");
}

/* Sequences have no holes, and the guard of tx.c is gone. */
static void pg_look(const fixture *f)
{
    char url[sizeof f->url], log[64], sql[400];
    (void)snprintf(url, sizeof url, "%.*s", (int)strcspn(f->url, "?"), f->url);
    log_of(f, log);
    (void)snprintf(sql, sizeof sql,
                   "SELECT (SELECT count(*) - max(seq) FROM %s.events), "
                   "(SELECT max(seq) - (SELECT last FROM %s.log) FROM %s.events), "
                   "(SELECT count(*) FROM %s.native)",
                   log, log, log, log);
    PGconn *pg = PQconnectdb(url);
    PGresult *r = PQexec(pg, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(pg));
    for (int i = 0; i < 3; i++)
        assert_string_equal(PQgetvalue(r, 0, i), "0");
    PQclear(r);
    PQfinish(pg);
}

/* All tests of a program share a database, each with a log of its own. */
static const char *const pg_effects[] = {
    "DROP SCHEMA IF EXISTS public CASCADE", "CREATE SCHEMA public",
    "CREATE TABLE effects(n int8, note text, rowid int8 GENERATED ALWAYS AS IDENTITY)", NULL};
static const char *const pg_trap[] = {
    "CREATE TABLE trap(n int)",
    "CREATE FUNCTION snap() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'it snapped'; END $$",
    "CREATE TRIGGER snap BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION snap()", NULL};

static const dialect of_postgresql = {
    .store = "postgresql",
    .effects = pg_effects,
    .columns = 3,
    .trap = pg_trap,
    .kinds = "CREATE TABLE kinds(i int8, r float8, t text, b bytea, z text)",
    .counting = "CREATE TABLE a(n serial PRIMARY KEY)",
    .one_twice = "one_pkey",
    .no_table = "relation \"nowhere\" does not exist",
    .settings = "SET synchronous_commit = off",
    .spoiler = "native ROLLBACK",
    .native = pg_native,
    .native_rows = pg_native_rows,
    .look = pg_look};

/* ---- which one ----------------------------------------------------------------------------------- */

const dialect *dialect_of(const fixture *f)
{
    static const dialect *const all[] = {&of_sqlite, &of_postgresql};
    for (size_t i = 0; i < HK_COUNTOF(all); i++)
        if (strcmp(all[i]->store, f->store->name) == 0)
            return all[i];
    return NULL;
}

sql_text in_log(const fixture *f, const char *sql)
{
    sql_text ret = {""};
    char log[64];
    const char *at = strchr(sql, '@');
    bool sqlite = dialect_of(f) == &of_sqlite;
    log_of(f, log);
    if (at)
        (void)snprintf(ret.s, sizeof ret.s, "%.*s%s%s%s", (int)(at - sql), sql,
                       sqlite ? "hark" : log, sqlite ? "_" : ".", at + 1);
    else
        (void)snprintf(ret.s, sizeof ret.s, "%s", sql);
    return ret;
}

const char *const *said_to(const fixture *f, const char *const *sqlite,
                           const char *const *postgresql)
{
    return dialect_of(f) == &of_sqlite ? sqlite : postgresql;
}

void left_out(const fixture *f, const char *what, const char *why)
{
    print_message("left out on %s: %s: %s\n", f->store->name, what, why);
    skip();
}
