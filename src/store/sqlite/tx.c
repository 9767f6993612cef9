/* Transactions of the program's inside a group: an undoable closure is a savepoint on the writer's
 * connection, and what it breaks is undone with it. A savepoint copies each page that is changed
 * after it (measured: a sixth of the time of closures that write a few rows); without one, a closure that
 * fails after a change undoes its group. What SQLite lets it break for all (a ROLLBACK by OR
 * ROLLBACK or RAISE, an interrupted write, a full disk) is found by looking at autocommit: the
 * transaction is gone then, the caller is told who did it, and nothing commits until the group is
 * rolled back. Our own calls within a closure pass through here, so that the authorizer and the
 * deadline are not for them. */
#include "store/sqlite/store_i.h"

#include <string.h>

hark_err hk_sqlite_tx_open(hark_store *s, hark_errinfo *ei)
{
    hk_program_open(&s->program, &s->conn, false);
    return hk_conn_number(&s->conn, HK_SQL_OWN_NAMES, &s->own_names, ei);
}

void hk_sqlite_tx_drop(hark_store *s)
{
    s->tx.open = s->program.on = s->program.in_tx = false;
}

static bool gone(const hark_store *s)
{
    return sqlite3_get_autocommit(s->conn.db) != 0;
}

/* ---- within a closure ------------------------------------------------------------------------ */

/* Keeps what its end must tell: the store's failures, and who undid the transaction. */
static hark_err note(hark_store *s, hark_err err, hark_errinfo *ei)
{
    if (gone(s) && err == HARK_ECONSTRAINT && !s->tx.err)
        err = hk_wrap(ei, err, "it undid the whole transaction, use ABORT in place of ROLLBACK");
    if (s->tx.err == HARK_OK && (gone(s) || hark_err_class(err) != HARK_CLASS_REFUSED)) {
        s->tx.err = err;
        s->tx.why = *ei;
    }
    return hk_group_note(s, err);
}

/* Nothing may be done after the transaction is gone: it would be committed by itself. */
static hark_err refuse_gone(hark_store *s, hark_errinfo *ei)
{
    if (s->tx.err)
        return hk_fail(ei, s->tx.err, "%s", s->tx.why.text);
    if (hk_mono_ns() >= s->program.until)
        return hk_fail(ei, HARK_EDEADLINE,
                       "a write of the closure's was interrupted at its deadline, which undid the "
                       "whole transaction; make it quicker, or give it a longer deadline_ms");
    return hk_fail(ei, HARK_ESQL,
                   "a statement that was run through hark_tx_native undid the whole transaction; "
                   "use ABORT in place of ROLLBACK in its conflict clause or trigger");
}

static hark_err check_open(hark_store *s, hark_errinfo *ei)
{
    if (!s->tx.open)
        return hk_fail(ei, HARK_EINTERNAL, "a call of a transaction outside of one");
    return HK_UNLIKELY(gone(s)) ? refuse_gone(s, ei) : HARK_OK;
}

hark_err hk_sqlite_tx_run(hark_store *s, const char *sql, const hark_value *args, size_t n,
                          hark_row_fn fn, void *ud, int64_t *ret_changes, hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    hark_err err = check_open(s, ei);
    if (!err)
        err = hk_program_run(&s->program, sql, args, n, fn, ud, ret_changes, ei);
    return HK_UNLIKELY(err && s->tx.open) ? note(s, err, ei) : err;
}

/* The number that SQLite raises with every change of the schema. */
static hark_err schema_number(hark_store *s, uint64_t *ret, hark_errinfo *ei)
{
    return hk_conn_number(&s->conn, HK_SQL_SCHEMA_NUMBER, ret, ei);
}

/* What a program that has the connection could change without being asked: the schema, by a statement of an
 * earlier closure, and once it has changed that, what ids of ours come next. */
static hark_err look_around(hark_store *s, hark_errinfo *ei)
{
    hark_err err = schema_number(s, &s->tx.schema, ei);
    return err ? err : hk_conn_number(&s->conn, HK_SQL_OWN_IDS, &s->tx.ids, ei);
}

void *hk_sqlite_tx_native(hark_store *s)
{
    hark_errinfo ei;
    if (s->tx.open && !s->native) {
        s->native = true;
        s->program.on = false;
        hark_err err = look_around(s, &ei);
        s->program.on = true;
        if (err)
            (void)note(s, err, &ei);
    }
    return s->conn.db;
}

/* Our own call begins within a closure; true if it may. */
static bool enter(hark_store *s, hark_err *ret, hark_errinfo *ei)
{
    *ret = check_open(s, ei);
    s->program.on = false;
    return *ret == HARK_OK;
}

static hark_err leave(hark_store *s, hark_err err, hark_errinfo *ei)
{
    s->program.on = true;
    return HK_UNLIKELY(err != HARK_OK) ? note(s, err, ei) : HARK_OK;
}

hark_err hk_sqlite_tx_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    hark_errinfo own;
    hark_err err;
    if (!s->tx.open)
        return hk_append(s, items, n, ei);
    ei = ei ? ei : &own;
    if (enter(s, &err, ei))
        err = hk_append(s, items, n, ei);
    return leave(s, err, ei);
}

hark_err hk_sqlite_tx_ack(hark_store *s, uint64_t consumer, uint64_t generation,
                          hark_store_owned of, uint64_t sequence, hark_errinfo *ei)
{
    hark_errinfo own;
    hark_err err;
    (void)of; /* the log is this process's alone */
    if (!s->tx.open)
        return hk_sqlite_ack(s, consumer, generation, sequence, ei);
    ei = ei ? ei : &own;
    if (enter(s, &err, ei))
        err = hk_sqlite_ack(s, consumer, generation, sequence, ei);
    return leave(s, err, ei);
}

hark_err hk_sqlite_tx_keep(hark_store *s, const char *key, const void *data, size_t len,
                           int64_t until, int64_t now, hark_errinfo *ei)
{
    hark_errinfo own;
    hark_err err;
    if (!s->tx.open)
        return hk_kept_put(s, key, data, len, until, now, ei);
    ei = ei ? ei : &own;
    if (enter(s, &err, ei))
        err = hk_kept_put(s, key, data, len, until, now, ei);
    return leave(s, err, ei);
}

hark_err hk_sqlite_tx_kept(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                           hark_errinfo *ei)
{
    hark_errinfo own;
    hark_err err;
    if (!s->tx.open)
        return hk_kept_get(s, key, now, ret, ret_len, ei);
    ei = ei ? ei : &own;
    if (enter(s, &err, ei))
        err = hk_kept_get(s, key, now, ret, ret_len, ei);
    return leave(s, err, ei);
}

/* The ids that it takes are no change of the program's: check_ids must not see them. */
static hark_err add_schedule(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                             bool *ret_duplicate, hark_errinfo *ei)
{
    uint64_t before = 0, after = 0;
    hark_err err = s->native ? hk_conn_number(&s->conn, HK_SQL_OWN_IDS, &before, ei) : HARK_OK;
    if (!err)
        err = hk_sqlite_schedule_add(s, sch, ret_sequence, ret_duplicate, ei);
    if (!err && s->native)
        err = hk_conn_number(&s->conn, HK_SQL_OWN_IDS, &after, ei);
    if (!err)
        s->tx.ids += after - before;
    return err;
}

hark_err hk_sqlite_tx_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                                   bool *ret_duplicate, hark_errinfo *ei)
{
    hark_errinfo own;
    hark_err err;
    if (!s->tx.open)
        return hk_sqlite_schedule_add(s, sch, ret_sequence, ret_duplicate, ei);
    ei = ei ? ei : &own;
    if (enter(s, &err, ei))
        err = add_schedule(s, sch, ret_sequence, ret_duplicate, ei);
    return leave(s, err, ei);
}

hark_err hk_sqlite_tx_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei)
{
    hark_errinfo own;
    hark_err err;
    if (!s->tx.open)
        return hk_sqlite_schedule_drop(s, id, ei);
    ei = ei ? ei : &own;
    if (enter(s, &err, ei))
        err = hk_sqlite_schedule_drop(s, id, ei);
    return leave(s, err, ei);
}

/* ---- begin and end --------------------------------------------------------------------------- */

hark_err hk_sqlite_tx_begin(hark_store *s, int64_t until_ns, bool undoable, hark_errinfo *ei)
{
    if (!s->in_group || s->tx.open)
        return hk_fail(ei, HARK_EINTERNAL, "a transaction %s",
                       s->in_group ? "inside another" : "outside of a group");
    hark_err err =
        undoable ? hk_conn_do(&s->conn, HK_SQL_SAVEPOINT, "beginning a transaction", ei) : HARK_OK;
    if (!err && s->native)
        err = look_around(s, ei);
    if (err)
        return hk_group_note(s, err);
    s->tx.open = true;
    s->tx.savepoint = undoable;
    s->tx.changes = sqlite3_total_changes(s->conn.db);
    s->tx.err = HARK_OK;
    s->tx.now = s->now;
    s->tx.versions = hk_versions_mark(s);
    for (size_t i = 0; i < HK_NAME_KINDS; i++)
        s->tx.names[i] = hk_intern_mark(&s->names[i]);
    s->program.until = until_ns;
    s->program.altering = s->program.altered = s->program.wrote = false;
    s->program.on = s->program.in_tx = true;
    return HARK_OK;
}

/* Statements that the closure stepped and neither finished nor reset would hold the savepoint. The
 * one that is named is the oldest: younger ones may be parts of it, in a virtual table. */
static hark_err reset_left_open(hark_store *s, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    char head[HK_SQL_BEGINNING + 4];
    for (sqlite3_stmt *st = NULL; (st = sqlite3_next_stmt(s->conn.db, st)) != NULL;) {
        /* NULL: of a blob handle; fts5 and rtree keep some that read */
        const char *sql = sqlite3_sql(st);
        if (!sqlite3_stmt_busy(st) || (!sql && sqlite3_stmt_readonly(st)))
            continue;
        err = hk_fail(ei, HARK_ESQL,
                      "the closure left a statement open: %s; finalize it before returning",
                      hk_sql_beginning(sql ? sql : "(a blob handle)", head));
        sqlite3_reset(st);
    }
    return err;
}

void hk_sqlite_tx_finish(hark_store *s)
{
    hark_errinfo ei;
    if (s->native && reset_left_open(s, &ei))
        hk_log(HK_WARN, "%s", ei.text);
}

static hark_err check_ids(hark_store *s, hark_errinfo *ei)
{
    uint64_t ids;
    hark_err err = hk_conn_number(&s->conn, HK_SQL_OWN_IDS, &ids, ei);
    if (err || ids == s->tx.ids)
        return err;
    return hk_fail(ei, HARK_EDENIED,
                   "the closure changed the log's rows of sqlite_sequence; leave those whose name "
                   "begins with hark_ alone");
}

static hark_err check_schema(hark_store *s, hark_errinfo *ei)
{
    uint64_t number = s->tx.schema;
    hark_err err = HARK_OK;
    if (s->native && !s->program.altered)
        err = schema_number(s, &number, ei);
    if (!err && (s->program.altered || number != s->tx.schema))
        err = hk_guard_schema(s, ei);
    if (!err && s->native && s->program.altered)
        err = check_ids(s, ei);
    return err;
}

static hark_err may_stay(hark_store *s, hark_errinfo *ei)
{
    int broken = 0, most = 0;
    int64_t late = hk_mono_ns() - s->program.until;
    if (s->tx.err)
        return hk_fail(ei, s->tx.err, "%s", s->tx.why.text);
    if (late >= 0)
        return hk_fail(ei, HARK_EDEADLINE,
                       "the closure ended %.1f ms after its deadline; make it quicker, or give it "
                       "a longer deadline_ms",
                       (double)late / 1e6);
    if (sqlite3_db_status(s->conn.db, SQLITE_DBSTATUS_DEFERRED_FKS, &broken, &most, 0) ==
            SQLITE_OK &&
        broken)
        return hk_fail(ei, HARK_ECONSTRAINT,
                       "FOREIGN KEY constraint failed: at the end of the closure a row refers to "
                       "one that is not there; add that row, or leave this one out");
    return check_schema(s, ei);
}

/* Did it leave nothing in the database? The program's statements only read or were refused, our own changed no
 * row. SQLite's count is not enough for the program's: it leaves out the schema, and the ids that an
 * INSERT OR IGNORE uses up. What a program does with the connection cannot be known. */
static bool left_nothing(const hark_store *s)
{
    return !s->program.wrote && !s->native && sqlite3_total_changes(s->conn.db) == s->tx.changes;
}

static hark_err undo(hark_store *s, hark_store_fate *ret, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    if (!s->tx.savepoint && !left_nothing(s)) {
        *ret = HARK_STORE_AGAIN;
        return HARK_OK;
    }
    if (s->tx.savepoint)
        err = hk_conn_do(&s->conn, HK_SQL_ROLLBACK_TO, "undoing a transaction", ei);
    if (s->tx.savepoint && !err)
        err = hk_conn_do(&s->conn, HK_SQL_RELEASE, "undoing a transaction", ei);
    s->now = s->tx.now;
    hk_versions_back(s, s->tx.versions);
    for (size_t i = 0; i < HK_NAME_KINDS; i++)
        hk_intern_back(&s->names[i], s->tx.names[i]);
    return err;
}

/* After these the group cannot be committed. */
static bool ends_group(hark_err err)
{
    hark_class cls = hark_err_class(err);
    return cls == HARK_CLASS_FATAL || cls == HARK_CLASS_UNKNOWN;
}

static hark_err keep_it(hark_store *s, hark_errinfo *ei)
{
    return s->tx.savepoint ? hk_conn_do(&s->conn, HK_SQL_RELEASE, "ending a transaction", ei)
                           : HARK_OK;
}

static hark_err end(hark_store *s, bool keep, hark_store_fate *ret, hark_errinfo *ei)
{
    hark_err err = s->native ? reset_left_open(s, ei) : HARK_OK;
    if (HK_UNLIKELY(gone(s))) {
        *ret = HARK_STORE_SPOILT;
        return refuse_gone(s, ei);
    }
    if (!keep)
        err = HARK_OK; /* it is undone anyway */
    else if (!err)
        err = may_stay(s, ei);
    hark_errinfo why;
    hark_err failure;
    if (keep && !err)
        failure = err = keep_it(s, ei);
    else if ((failure = undo(s, ret, &why)) != HARK_OK)
        err = hk_fail(ei, failure, "%s", why.text);
    if (ends_group(s->tx.err)) /* whatever else it did */
        err = hk_fail(ei, s->tx.err, "%s", s->tx.why.text);
    if (HK_UNLIKELY(failure || gone(s) || ends_group(err)))
        *ret = HARK_STORE_SPOILT;
    return err;
}

hark_err hk_sqlite_tx_end(hark_store *s, bool keep, hark_store_fate *ret, hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    if (!s->tx.open)
        return hk_fail(ei, HARK_EINTERNAL, "the end of a transaction that has not begun");
    *ret = HARK_STORE_STAYS;
    s->program.on = false;
    hark_err err = end(s, keep, ret, ei);
    hk_sqlite_tx_drop(s);
    return hk_group_note(s, err);
}
