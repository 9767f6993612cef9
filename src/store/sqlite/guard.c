/* What statements of the program's may do on our connections. One authorizer for each connection is
 * set when it is opened (setting one makes all statements be prepared anew) and looks at `on`,
 * which is off while our own statements are prepared and run. It is asked when a statement is
 * prepared, also for what views and triggers do. What it can't see, because SQLite does not ask, is
 * looked at afterwards in the schema: a new name given by ALTER TABLE, and what foreign keys refer
 * to. */
#include "store/sqlite/store_i.h"

#include <stdio.h>
#include <string.h>

/* What the arguments of an action are, and what it does. */
enum {
    A = 1,       /* the first is the name of a table, index, trigger or view */
    B = 2,       /* so is the second */
    DDL = 4,     /* it changes the schema */
    WRITE = 8,   /* it changes rows */
    TEMP = 16,   /* it is about the temporary schema */
    SHOW = 32,   /* all that a query may do */
    SPECIAL = 64 /* see special() */
};

typedef struct rule {
    uint8_t is;
    const char *verb;
} rule;

static const rule rules[] = {
    [SQLITE_CREATE_INDEX] = {A | B | DDL, "CREATE INDEX"},
    [SQLITE_CREATE_TABLE] = {A | DDL, "CREATE TABLE"},
    [SQLITE_CREATE_TEMP_INDEX] = {TEMP, "CREATE INDEX"},
    [SQLITE_CREATE_TEMP_TABLE] = {TEMP, "CREATE TABLE"},
    [SQLITE_CREATE_TEMP_TRIGGER] = {TEMP, "CREATE TRIGGER"},
    [SQLITE_CREATE_TEMP_VIEW] = {TEMP, "CREATE VIEW"},
    [SQLITE_CREATE_TRIGGER] = {A | B | DDL, "CREATE TRIGGER"},
    [SQLITE_CREATE_VIEW] = {A | DDL, "CREATE VIEW"},
    [SQLITE_DELETE] = {A | WRITE, "DELETE FROM"},
    [SQLITE_DROP_INDEX] = {A | B | DDL, "DROP INDEX"},
    [SQLITE_DROP_TABLE] = {A | DDL, "DROP TABLE"},
    [SQLITE_DROP_TEMP_INDEX] = {TEMP, "DROP INDEX"},
    [SQLITE_DROP_TEMP_TABLE] = {TEMP, "DROP TABLE"},
    [SQLITE_DROP_TEMP_TRIGGER] = {TEMP, "DROP TRIGGER"},
    [SQLITE_DROP_TEMP_VIEW] = {TEMP, "DROP VIEW"},
    [SQLITE_DROP_TRIGGER] = {A | B | DDL, "DROP TRIGGER"},
    [SQLITE_DROP_VIEW] = {A | DDL, "DROP VIEW"},
    [SQLITE_INSERT] = {A | WRITE, "INSERT INTO"},
    [SQLITE_PRAGMA] = {SPECIAL, "PRAGMA"},
    [SQLITE_READ] = {A | SHOW, "reading"},
    [SQLITE_SELECT] = {SHOW, "SELECT"},
    [SQLITE_TRANSACTION] = {SPECIAL, "a transaction"},
    [SQLITE_UPDATE] = {A | WRITE, "UPDATE"},
    [SQLITE_ATTACH] = {SPECIAL, "ATTACH"},
    [SQLITE_DETACH] = {SPECIAL, "DETACH"},
    [SQLITE_ALTER_TABLE] = {B | DDL, "ALTER TABLE"},
    [SQLITE_REINDEX] = {A, "REINDEX"},
    [SQLITE_ANALYZE] = {SPECIAL, "ANALYZE"},
    [SQLITE_CREATE_VTABLE] = {A | DDL, "CREATE VIRTUAL TABLE"},
    [SQLITE_DROP_VTABLE] = {A | DDL, "DROP TABLE"},
    [SQLITE_FUNCTION] = {SHOW | SPECIAL, "function"},
    [SQLITE_SAVEPOINT] = {SPECIAL, "SAVEPOINT"},
    [SQLITE_RECURSIVE] = {SHOW, "WITH RECURSIVE"},
};

static bool begins(const char *name, const char *with)
{
    return name && sqlite3_strnicmp(name, with, (int)strlen(with)) == 0;
}

/* A table of ours, or the index that SQLite made for one. */
static bool ours(const char *name)
{
    static const char of_keys[] = "sqlite_autoindex_hark_"; /* "…hark_1" is of a table "hark" */
    return begins(name, "hark_") ||
           (begins(name, of_keys) &&
            strspn(name + sizeof of_keys - 1, "0123456789") < strlen(name + sizeof of_keys - 1));
}

/* The schema's own table, which SQLite protects by itself. */
static bool of_schema(const char *name)
{
    return begins(name, "sqlite_master") || begins(name, "sqlite_schema");
}

/* Tables of SQLite's that could be written to directly. */
static bool of_sqlite(const char *name)
{
    return begins(name, "sqlite_sequence") || begins(name, "sqlite_stat");
}

/* "COMMIT is denied inside a transaction closure: ..." */
static int deny(hk_program *p, const char *verb, const char *name, const char *via,
                const char *instead)
{
    (void)snprintf(p->denied, sizeof p->denied, "%s%s%.60s%s%.40s is denied %s: %s", verb,
                   name ? " " : "", name ? name : "", via ? " through " : "", via ? via : "",
                   p->reads ? "in a query" : "inside a transaction closure", instead);
    return SQLITE_DENY;
}

static int deny_transaction(hk_program *p, const char *verb)
{
    if (p->reads)
        return deny(p, verb, NULL, NULL, "it has a transaction of its own");
    if (strcmp(verb, "COMMIT") == 0)
        return deny(p, verb, NULL, NULL, "return HARK_OK to commit");
    if (strcmp(verb, "ROLLBACK") == 0)
        return deny(p, verb, NULL, NULL, "return an error to undo all that it did");
    return deny(p, verb, NULL, NULL, "it is one transaction as a whole; leave this out");
}

/* What ALTER TABLE, fts5, fts3 and rtree ask of the connection themselves; this only reads. */
static bool used_by_sqlite(const char *pragma, const char *value)
{
    return sqlite3_stricmp(pragma, "quick_check") == 0 ||
           (!value && (sqlite3_stricmp(pragma, "data_version") == 0 ||
                       sqlite3_stricmp(pragma, "page_size") == 0));
}

static int special(hk_program *p, int action, const char *a, const char *b)
{
    const char *verb = rules[action].verb;
    switch (action) {
    case SQLITE_TRANSACTION:
        return deny_transaction(p, a);
    case SQLITE_SAVEPOINT:
        return deny(p, verb, b, NULL,
                    "a statement that fails is undone by itself; return an error to undo all");
    case SQLITE_PRAGMA:
        if (used_by_sqlite(a, b))
            return SQLITE_OK;
        return deny(p, verb, a, NULL,
                    "the connection's settings are the library's; read sqlite_schema for tables");
    case SQLITE_FUNCTION:
        if (!begins(b, "load_extension"))
            return SQLITE_OK;
        return deny(p, verb, b, NULL, "the connection is the library's; compute it in the program");
    case SQLITE_ANALYZE:
        return deny(p, verb, a, NULL, "run it with another program, while the log is closed");
    default:
        return deny(p, verb, a, NULL, "keep the program's tables in the log's own file");
    }
}

static int deny_ours(hk_program *p, const char *verb, const char *name, const char *via)
{
    return deny(p, verb, name, via,
                p->reads ? "names that begin with hark_ are the log's; read events with hark_read"
                         : "names that begin with hark_ are the log's; publish, and give tables of "
                           "your own other names");
}

static int authorize(void *ud, int action, const char *a, const char *b, const char *db,
                     const char *via)
{
    hk_program *p = ud;
    if (HK_LIKELY(!p->on))
        return SQLITE_OK;
    const rule *r = action >= 0 && (size_t)action < HK_COUNTOF(rules) ? &rules[action] : &rules[0];
    const char *verb = r->verb ? r->verb : "this statement";
    if (p->in_tx && sqlite3_get_autocommit(p->conn->db))
        return deny(p, verb, NULL, NULL, "a ROLLBACK has ended the transaction; return the error");
    if (r->is & SPECIAL)
        return special(p, action, a, b);
    if ((r->is & A && ours(a)) || (r->is & B && ours(b)))
        return deny_ours(p, verb, r->is & A && ours(a) ? a : b, via);
    if (p->reads && !(r->is & SHOW) && !of_schema(a)) /* asked for a virtual table, too */
        return deny(p, verb, a, via, "it only reads; write in a transaction (hark_transact)");
    if (r->is & TEMP || (r->is & DDL && begins(db, "temp")))
        return deny(p, verb, a, NULL,
                    "temporary tables would outlive the closure; use WITH, or a table");
    if (!r->is || begins(a, "sqlite_dbpage"))
        return deny(p, verb, a, via, "leave it out");
    if (r->is & WRITE && !p->altering && of_sqlite(a))
        return deny(p, verb, a, via, "the log relies on it; use tables of your own");
    if (r->is & DDL)
        p->altering = p->altered = true;
    return SQLITE_OK;
}

static int late(void *ud)
{
    const hk_program *p = ud;
    return p->on && p->in_tx && hk_mono_ns() >= p->until;
}

/* When a closure's statement has undone the transaction, the next ones would commit by
 * themselves. */
static int refuse_commit(void *ud)
{
    const hk_program *p = ud;
    return p->in_tx;
}

#define STEPS 1000 /* of SQLite's machine, from one look at the clock to the next */

void hk_guard_open(hk_program *p)
{
    sqlite3_set_authorizer(p->conn->db, authorize, p);
    if (p->reads)
        return;
    sqlite3_progress_handler(p->conn->db, STEPS, late, p);
    sqlite3_commit_hook(p->conn->db, refuse_commit, p);
}

static hark_err refers_to_ours(hark_store *s, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_REFERRING, &st, ei);
    if (!err)
        err = hk_conn_step(&s->conn, st, &row, "checking the program's tables", ei);
    if (!err && row)
        err = hk_fail(ei, HARK_EDENIED,
                      "a foreign key of %.60s refers to %.60s: names that begin with hark_ are the "
                      "log's; keep the event's id or sequence without a foreign key",
                      (const char *)sqlite3_column_text(st, 0),
                      (const char *)sqlite3_column_text(st, 1));
    if (st)
        sqlite3_reset(st);
    return err;
}

hark_err hk_guard_schema(hark_store *s, hark_errinfo *ei)
{
    uint64_t n = 0;
    hark_err err = hk_conn_number(&s->conn, HK_SQL_OWN_NAMES, &n, ei);
    if (!err && n != s->own_names)
        err = hk_fail(ei, HARK_EDENIED,
                      "ALTER TABLE to a name that begins with hark_ is denied inside a transaction "
                      "closure: those are the log's; use another name");
    return err ? err : refers_to_ours(s, ei);
}
