/* Opens connections, keeps their prepared statements and turns SQLite's errors into ours. Every
 * text names the file, what was being done, what SQLite says and how to mend it. */
#include "store/sqlite/conn_i.h"

#include "base/base.h"

#include <string.h>

hark_err hk_sqlite_err(int code)
{
    switch (code) {
    case SQLITE_IOERR_NOMEM:
        return HARK_ENOMEM;
    case SQLITE_IOERR_FSYNC:
    case SQLITE_IOERR_DIR_FSYNC:
        return HARK_EUNKNOWN;
    case SQLITE_IOERR_CORRUPTFS:
    case SQLITE_IOERR_DATA:
        return HARK_ECORRUPT;
    default:
        break;
    }
    switch (code & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return HARK_OK;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return HARK_ECORRUPT;
    case SQLITE_FULL:
        return HARK_EFULL;
    case SQLITE_READONLY:
        return HARK_EREADONLY;
    case SQLITE_NOMEM:
        return HARK_ENOMEM;
    case SQLITE_TOOBIG:
        return HARK_ETOOBIG;
    default:
        return HARK_ESTORE;
    }
}

static const char *way_out(hark_err err, int code)
{
    if ((code & 0xff) == SQLITE_BUSY)
        return "another program holds a lock on it: close that program, then try again";
    switch (err) {
    case HARK_ECORRUPT:
        return "keep a copy, check it with PRAGMA integrity_check, restore from a backup";
    case HARK_EFULL:
        return "free some space; nothing was stored, writing goes on by itself";
    case HARK_EREADONLY:
        return "make the file and its directory writable, then open it again";
    case HARK_EUNKNOWN:
        return "check the disk and open the log again; repeating with the same id is safe";
    case HARK_ENOMEM:
        return "free some memory, then try again";
    case HARK_ETOOBIG:
        return "make the event smaller";
    default:
        return "nothing was stored; try again";
    }
}

hark_err hk_conn_fail(hk_conn *c, const char *doing, hark_errinfo *ei)
{
    int code = c->db ? sqlite3_extended_errcode(c->db) : SQLITE_NOMEM;
    hark_err err = hk_sqlite_err(code);
    const char *path = c->db ? sqlite3_db_filename(c->db, "main") : NULL;
    if (err == HARK_OK)
        err = HARK_EINTERNAL;
    return hk_fail(ei, err, "%s: %s (SQLite %d) while %s; %s", path ? path : "the database",
                   c->db ? sqlite3_errmsg(c->db) : "out of memory", code, doing,
                   way_out(err, code));
}

hark_err hk_conn_open(hk_conn *c, const char *path, int flags, hark_errinfo *ei)
{
    memset(c, 0, sizeof *c);
    int rc = sqlite3_open_v2(path, &c->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        hark_err err = hk_conn_fail(c, "opening it", ei);
        hk_conn_close(c);
        return err;
    }
    sqlite3_extended_result_codes(c->db, 1);
    if (flags & SQLITE_OPEN_READONLY) /* checkpoints are the writer's, on closing too */
        sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_wal_autocheckpoint(c->db, 0);
    return HARK_OK;
}

/* Of statements that a program left behind; a younger one may be a part of it, in a virtual
 * table. */
static sqlite3_stmt *oldest_stmt(sqlite3 *db)
{
    sqlite3_stmt *oldest = NULL;
    for (sqlite3_stmt *st = NULL; (st = sqlite3_next_stmt(db, st)) != NULL;)
        oldest = st;
    return oldest;
}

void hk_conn_close(hk_conn *c)
{
    sqlite3_stmt *left;
    for (size_t i = 0; i < HK_SQL_COUNT; i++)
        sqlite3_finalize(c->stmts[i]);
    while (sqlite3_close(c->db) == SQLITE_BUSY && (left = oldest_stmt(c->db)) != NULL)
        sqlite3_finalize(left);
    memset(c, 0, sizeof *c);
}

static sqlite3_stmt *prepare(hk_conn *c, hk_sql which, hark_errinfo *ei)
{
    if (sqlite3_prepare_v3(c->db, hk_sql_text(which), -1, SQLITE_PREPARE_PERSISTENT,
                           &c->stmts[which], NULL) != SQLITE_OK)
        (void)hk_conn_fail(c, "preparing a statement", ei);
    return c->stmts[which];
}

sqlite3_stmt *hk_conn_stmt(hk_conn *c, hk_sql which, hark_errinfo *ei)
{
    return HK_LIKELY(c->stmts[which] != NULL) ? c->stmts[which] : prepare(c, which, ei);
}

hark_err hk_conn_get(hk_conn *c, hk_sql which, sqlite3_stmt **ret, hark_errinfo *ei)
{
    *ret = hk_conn_stmt(c, which, ei);
    if (HK_LIKELY(*ret != NULL))
        return HARK_OK;
    hark_err err = hk_sqlite_err(sqlite3_extended_errcode(c->db));
    return err ? err : HARK_EINTERNAL;
}

hark_err hk_conn_step(hk_conn *c, sqlite3_stmt *st, bool *ret_row, const char *doing,
                      hark_errinfo *ei)
{
    int rc = sqlite3_step(st);
    if (HK_UNLIKELY(rc != SQLITE_ROW && rc != SQLITE_DONE))
        return hk_conn_fail(c, doing, ei);
    *ret_row = rc == SQLITE_ROW;
    return HARK_OK;
}

hark_err hk_conn_run(hk_conn *c, sqlite3_stmt *st, const char *doing, hark_errinfo *ei)
{
    bool row = false;
    hark_err err = hk_conn_step(c, st, &row, doing, ei);
    sqlite3_reset(st);
    return err;
}

hark_err hk_conn_do(hk_conn *c, hk_sql which, const char *doing, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(c, which, &st, ei);
    return err ? err : hk_conn_run(c, st, doing, ei);
}

hark_err hk_conn_exec(hk_conn *c, const char *sql, const char *doing, hark_errinfo *ei)
{
    if (sqlite3_exec(c->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return hk_conn_fail(c, doing, ei);
    return HARK_OK;
}

hark_err hk_conn_int(hk_conn *c, sqlite3_stmt *st, int64_t none, int64_t *ret, hark_errinfo *ei)
{
    bool row = false;
    hark_err err = hk_conn_step(c, st, &row, "reading a number", ei);
    if (!err)
        *ret =
            row && sqlite3_column_type(st, 0) != SQLITE_NULL ? sqlite3_column_int64(st, 0) : none;
    sqlite3_reset(st);
    return err;
}

hark_err hk_conn_number(hk_conn *c, hk_sql which, uint64_t *ret, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    int64_t n = 0;
    hark_err err = hk_conn_get(c, which, &st, ei);
    if (!err)
        err = hk_conn_int(c, st, 0, &n, ei);
    *ret = (uint64_t)n;
    return err;
}
