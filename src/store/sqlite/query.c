/* Runs one statement of the program's: takes it from the ones kept prepared, binds, shows the rows
 * and says what went wrong. On the writer's connection within a closure (tx.c), on a reader's for
 * hk_sqlite_query. */
#include "store/sqlite/store_i.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

void hk_program_open(hk_program *p, hk_conn *c, bool reads)
{
    p->conn = c;
    p->reads = reads;
    hk_guard_open(p);
}

void hk_program_close(hk_program *p)
{
    for (size_t i = 0; i < p->n; i++) {
        sqlite3_finalize(p->stmts[i].st);
        free(p->stmts[i].sql);
    }
    p->n = 0;
    free(p->values);
    free(p->names);
    p->values = NULL;
    p->names = NULL;
    p->cap = 0;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* Where in the text SQLite found the mistake, from 1; 0 = it doesn't say. */
static int place_of_mistake(sqlite3 *db)
{
#if SQLITE_VERSION_NUMBER >= 3038000
    return sqlite3_error_offset(db) + 1;
#else
    (void)db;
    return 0;
#endif
}

static hark_err mistaken(hk_program *p, const char *sql, hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    const char *says = sqlite3_errmsg(p->conn->db);
    if (strncmp(says, "cannot VACUUM", 13) == 0)
        return hk_fail(ei, HARK_EDENIED,
                       "VACUUM is denied %s: run it with another program, while the log is closed",
                       p->reads ? "in a query" : "inside a transaction closure");
    if (strncmp(says, "unsafe use of", 13) == 0)
        return hk_fail(ei, HARK_ESQL,
                       "%.200s: this SQLite does not allow it in a view, trigger or table; use it "
                       "in the statement itself, in: %s",
                       says, hk_sql_beginning(sql, head));
    int at = place_of_mistake(p->conn->db);
    (void)hk_sql_beginning(sql, head);
    if (at > 0)
        return hk_fail(ei, HARK_ESQL, "%.200s at character %d, in: %s; mend the statement", says,
                       at, head);
    return hk_fail(ei, HARK_ESQL, "%.200s, in: %s; mend the statement", says, head);
}

static hark_err failed(hk_program *p, const char *sql, hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    int code = sqlite3_errcode(p->conn->db) & 0xff;
    if (p->denied[0] && (code == SQLITE_AUTH || code == SQLITE_ERROR))
        return hk_fail(ei, HARK_EDENIED, "%s", p->denied);
    if (sqlite3_extended_errcode(p->conn->db) == SQLITE_CORRUPT_VTAB)
        return mistaken(p, sql, ei); /* a search index that does not match its table, say */
    switch (code) {
    case SQLITE_CONSTRAINT:
        return hk_fail(ei, HARK_ECONSTRAINT, "%.300s, in: %s", sqlite3_errmsg(p->conn->db),
                       hk_sql_beginning(sql, head));
    case SQLITE_INTERRUPT:
        if (!p->in_tx || hk_mono_ns() < p->until)
            return mistaken(p, sql, ei);
        return hk_fail(ei, HARK_EDEADLINE,
                       "the closure's deadline passed while it ran: %s; make it quicker, or give "
                       "it a longer deadline_ms",
                       hk_sql_beginning(sql, head));
    case SQLITE_FULL:
        return hk_wrap(ei, hk_conn_fail(p->conn, "running the program's SQL", ei),
                       "no room, or the ids of an AUTOINCREMENT table are used up");
    case SQLITE_IOERR:
    case SQLITE_NOMEM:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_BUSY:
    case SQLITE_PROTOCOL:
        return hk_conn_fail(p->conn, "running the program's SQL", ei);
    default:
        return mistaken(p, sql, ei);
    }
}

static hark_err out_of_memory(const char *sql, hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    return hk_fail(ei, HARK_ENOMEM, "no memory for a row of: %s; free some, then try again",
                   hk_sql_beginning(sql, head));
}

/* ---- statements ------------------------------------------------------------------------------ */

static hark_err check_one(hk_program *p, const char *sql, sqlite3_stmt *st, const char *tail,
                          hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    sqlite3_stmt *next = NULL;
    if (!st)
        return hk_fail(ei, HARK_EINVAL, "there is no statement in: '%s'; give one",
                       hk_sql_beginning(sql, head));
    if (*tail == '\0')
        return HARK_OK;
    int rc = sqlite3_prepare_v2(p->conn->db, tail, -1, &next, NULL);
    sqlite3_finalize(next);
    if (rc == SQLITE_OK && !next) /* only blanks and comments */
        return HARK_OK;
    return hk_fail(ei, HARK_EINVAL,
                   "more than one statement: the second begins with: %s; run each with a call of "
                   "its own",
                   hk_sql_beginning(tail, head));
}

static hark_err prepare(hk_program *p, const char *sql, size_t len, sqlite3_stmt **ret,
                        hark_errinfo *ei)
{
    const char *tail = NULL;
    if (len >= INT_MAX)
        return hk_fail(ei, HARK_EINVAL,
                       "a statement of %zu bytes is too long; pass its data as arguments", len);
    if (sqlite3_prepare_v3(p->conn->db, sql, (int)len + 1, SQLITE_PREPARE_PERSISTENT, ret, &tail) !=
        SQLITE_OK)
        return failed(p, sql, ei);
    hark_err err = check_one(p, sql, *ret, tail, ei);
    if (err) {
        sqlite3_finalize(*ret);
        *ret = NULL;
    }
    return err;
}

static struct hk_program_stmt *find(hk_program *p, const char *sql, size_t len, uint64_t hash)
{
    for (size_t i = 0; i < p->n; i++) {
        struct hk_program_stmt *e = &p->stmts[i];
        if (e->hash == hash && e->len == len && memcmp(e->sql, sql, len) == 0)
            return e;
    }
    return NULL;
}

/* A place for one more: the one that was not used for the longest time goes. */
static struct hk_program_stmt *make_place(hk_program *p)
{
    if (p->n < HK_PROGRAM_STMTS)
        return &p->stmts[p->n++];
    struct hk_program_stmt *old = &p->stmts[0];
    for (size_t i = 1; i < p->n; i++)
        if (p->stmts[i].used < old->used)
            old = &p->stmts[i];
    sqlite3_finalize(old->st);
    free(old->sql);
    return old;
}

#define LONG 65536 /* a text that is not kept */

/* *ret_kept: whoever runs it need not finalize it. What changes the schema is not kept, so that the
 * authorizer sees it each time. */
static hark_err take(hk_program *p, const char *sql, sqlite3_stmt **ret, bool *ret_kept,
                     hark_errinfo *ei)
{
    size_t len = strlen(sql);
    uint64_t hash = hk_hash(sql, len);
    struct hk_program_stmt *e = find(p, sql, len, hash);
    *ret_kept = true;
    if (HK_LIKELY(e != NULL)) {
        e->used = ++p->uses;
        *ret = e->st;
        return HARK_OK;
    }
    hark_err err = prepare(p, sql, len, ret, ei);
    char *copy = err || p->altering || len > LONG ? NULL : hk_strdup(sql);
    *ret_kept = copy != NULL;
    if (copy)
        *make_place(p) = (struct hk_program_stmt){
            .st = *ret, .sql = copy, .len = len, .hash = hash, .used = ++p->uses};
    return err;
}

static int bind(sqlite3_stmt *st, int i, const hark_value *v)
{
    switch (v->kind) {
    case HARK_NULL:
        return sqlite3_bind_null(st, i);
    case HARK_INTEGER:
        return sqlite3_bind_int64(st, i, v->integer);
    case HARK_REAL:
        return sqlite3_bind_double(st, i, v->real);
    case HARK_TEXT:
        return sqlite3_bind_text64(st, i, v->data ? v->data : "", v->len, SQLITE_STATIC,
                                   SQLITE_UTF8);
    default:
        return sqlite3_bind_blob64(st, i, v->data ? v->data : "", v->len, SQLITE_STATIC);
    }
}

static hark_err bind_all(hk_program *p, const char *sql, sqlite3_stmt *st, const hark_value *args,
                         size_t n, hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    int wanted = sqlite3_bind_parameter_count(st);
    if (n != (size_t)wanted)
        return hk_fail(ei, HARK_EINVAL,
                       "the statement has %d parameter%s, %zu argument%s given, in: %s", wanted,
                       wanted == 1 ? "" : "s", n, n == 1 ? " was" : "s were",
                       hk_sql_beginning(sql, head));
    for (int i = 0; i < wanted; i++) {
        if (args[i].kind < HARK_NULL || args[i].kind > HARK_BLOB ||
            (args[i].kind >= HARK_TEXT && !args[i].data && args[i].len))
            return hk_fail(ei, HARK_EINVAL,
                           "argument %d is no value (kind %lld); make it with hark_int, hark_text, "
                           "..., in: %s",
                           i + 1, (long long)args[i].kind, hk_sql_beginning(sql, head));
        if (bind(st, i + 1, &args[i]) != SQLITE_OK)
            return failed(p, sql, ei);
    }
    return HARK_OK;
}

/* ---- rows ------------------------------------------------------------------------------------ */

static bool room_for(hk_program *p, size_t columns)
{
    if (HK_LIKELY(columns <= p->cap))
        return true;
    hark_value *values = realloc(p->values, columns * sizeof *values);
    if (values)
        p->values = values;
    const char **names = realloc(p->names, columns * sizeof *names);
    if (names)
        p->names = names;
    if (values && names)
        p->cap = columns;
    return values && names;
}

/* False when memory is out. */
static bool column(sqlite3_stmt *st, int i, hark_value *ret)
{
    *ret = (hark_value){0};
    switch (sqlite3_column_type(st, i)) {
    case SQLITE_NULL:
        return true;
    case SQLITE_INTEGER:
        ret->kind = HARK_INTEGER;
        ret->integer = sqlite3_column_int64(st, i);
        return true;
    case SQLITE_FLOAT:
        ret->kind = HARK_REAL;
        ret->real = sqlite3_column_double(st, i);
        return true;
    case SQLITE_TEXT:
        ret->kind = HARK_TEXT;
        ret->data = sqlite3_column_text(st, i);
        ret->len = (size_t)sqlite3_column_bytes(st, i);
        return ret->data != NULL;
    default:
        ret->kind = HARK_BLOB;
        return hk_column_data(st, i, &ret->data, &ret->len);
    }
}

static hark_err show(hk_program *p, const char *sql, sqlite3_stmt *st, hark_row_fn fn, void *ud,
                     bool *ret_more, hark_errinfo *ei)
{
    int n = sqlite3_data_count(st);
    if (!room_for(p, (size_t)n))
        return out_of_memory(sql, ei);
    for (int i = 0; i < n; i++) {
        p->names[i] = sqlite3_column_name(st, i);
        if (!p->names[i] || !column(st, i, &p->values[i]))
            return out_of_memory(sql, ei);
    }
    hark_row row = {.n = (size_t)n, .values = p->values, .names = p->names};
    *ret_more = fn(&row, ud);
    return HARK_OK;
}

/* A statement that writes is run to its end when no more rows are wanted, too: only there SQLite
 * checks its foreign keys. */
static hark_err step_all(hk_program *p, const char *sql, sqlite3_stmt *st, hark_row_fn fn, void *ud,
                         hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    bool more = fn != NULL;
    int rc;
    while ((rc = sqlite3_step(st)) == SQLITE_ROW) {
        if (more)
            err = show(p, sql, st, fn, ud, &more, ei);
        if (err || (fn && !more && sqlite3_stmt_readonly(st)))
            return err;
    }
    if (rc != SQLITE_DONE)
        return failed(p, sql, ei);
    p->wrote = p->wrote || !sqlite3_stmt_readonly(st);
    return HARK_OK;
}

static hark_err run(hk_program *p, const char *sql, const hark_value *args, size_t n,
                    hark_row_fn fn, void *ud, hark_errinfo *ei)
{
    sqlite3_stmt *st = NULL;
    bool kept = false;
    hark_err err = take(p, sql, &st, &kept, ei);
    if (err)
        return err;
    err = bind_all(p, sql, st, args, n, ei);
    if (!err)
        err = step_all(p, sql, st, fn, ud, ei);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st); /* they point to what is the caller's */
    if (!kept)
        sqlite3_finalize(st);
    return err;
}

hark_err hk_program_run(hk_program *p, const char *sql, const hark_value *args, size_t n,
                        hark_row_fn fn, void *ud, int64_t *ret_changes, hark_errinfo *ei)
{
    if (!sql || (n && !args))
        return hk_fail(ei, HARK_EINVAL, "%s is NULL; give one",
                       sql ? "the array of arguments" : "the statement");
    if (p->running)
        return hk_fail(ei, HARK_EINVAL,
                       "the function that is shown rows runs a statement; run it after the query");
    int before = sqlite3_total_changes(p->conn->db);
    bool was = p->on;
    p->on = p->running = true;
    p->altering = false; /* of a statement that was prepared through the program's handle */
    p->denied[0] = '\0';
    hark_err err = run(p, sql, args, n, fn, ud, ei);
    p->on = was;
    p->running = p->altering = false;
    if (!err && ret_changes) /* what changes no rows leaves sqlite3_changes as it was */
        *ret_changes =
            sqlite3_total_changes(p->conn->db) == before ? 0 : sqlite3_changes(p->conn->db);
    return err;
}

/* ---- beside the log -------------------------------------------------------------------------- */

typedef struct question {
    const char *sql;
    const hark_value *args;
    size_t n;
    hark_row_fn fn;
    void *ud;
} question;

static hark_err ask(hk_reader *r, void *ud, hark_errinfo *ei)
{
    const question *q = ud;
    return hk_program_run(&r->program, q->sql, q->args, q->n, q->fn, q->ud, NULL, ei);
}

hark_err hk_sqlite_query(hark_store *s, const char *sql, const hark_value *args, size_t n,
                         hark_row_fn fn, void *ud, hark_errinfo *ei)
{
    question q = {.sql = sql, .args = args, .n = n, .fn = fn, .ud = ud};
    return hk_reader_run(s, ask, &q, ei);
}
