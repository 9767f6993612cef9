/* Transactions of the program's inside a group: an undoable closure is a savepoint on the writer's connection,
 * and what it breaks is undone with it; without one, a closure that fails after a change undoes its group. The
 * log's own rows of such a closure wait in the group's batch, or were sent after the savepoint.
 *
 * A program that asks for the connection gets it out of pipeline mode. Nothing keeps it from sending COMMIT then:
 * therefore a row that breaks a deferred constraint is there for so long, with which no transaction can be committed. */
#include "store/postgres/program_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const hk_pg_sql SAVEPOINT = {"tx_savepoint", "SAVEPOINT hark_tx"};
static const hk_pg_sql RELEASE = {"tx_release", "RELEASE hark_tx"};
static const hk_pg_sql ROLLBACK_TO = {"tx_rollback_to", "ROLLBACK TO hark_tx"};
static const hk_pg_sql GUARD = {"tx_guard", "INSERT INTO @native VALUES(2)"};
static const hk_pg_sql UNGUARD = {"tx_unguard", "DELETE FROM @native"};
static const hk_pg_sql NATIVE = {"tx_native", "SAVEPOINT hark_native"};
static const hk_pg_sql NATIVE_RELEASE = {"tx_native_release", "RELEASE hark_native"};
static const hk_pg_sql NATIVE_BACK = {"tx_native_back", "ROLLBACK TO hark_native"};
static const hk_pg_sql LIMIT = {
    "tx_limit", "SELECT pg_catalog.set_config('statement_timeout', $1::text, true)"};

#define NEAR INT64_C(2000000) /* the server counts its limits in milliseconds */

/* ---- within a closure ------------------------------------------------------------------------ */

/* Keeps what its end must tell: what the closure cannot be kept after. */
static hark_err note(hark_store *s, hark_err err, const hark_errinfo *ei)
{
    if (err && !s->tx.err && hark_err_class(err) != HARK_CLASS_REFUSED) {
        s->tx.err = err;
        s->tx.why = *ei;
    }
    return err;
}

/* Without a savepoint there is nothing to go back to: it counts as a change. */
hark_err hk_pg_tx_note(hark_store *s, hark_err err, const hark_errinfo *ei)
{
    if (HK_LIKELY(!err || !s->tx.open || hark_err_class(err) == HARK_CLASS_REFUSED))
        return err;
    hk_pg_tx_wrote(s);
    return note(s, err, ei);
}

/* The transaction that the closure is a part of is not there any more. */
static bool lost(const hark_store *s)
{
    return s->program->gone || (s->entered && (!hk_pg_connected(&s->w) || !s->w.in_tx));
}

static hark_err spoil(hark_store *s, hark_err err, const char *text, hark_errinfo *ei)
{
    if (!s->tx.err) {
        s->tx.err = err;
        (void)hk_fail(&s->tx.why, err, "%s", text);
    }
    return hk_fail(ei, s->tx.err, "%s", s->tx.why.text);
}

/* ---- the store's own handle ------------------------------------------------------------------ */

/* `left`: mono ns; 0 = no limit. */
static hark_err limit(hark_store *s, int64_t left, hark_errinfo *ei)
{
    char text[24] = "0";
    hk_pg_args a = {.n = 0};
    if (left > 0)
        (void)snprintf(text, sizeof text, "%lld", (long long)(left / 1000000 + 1));
    hk_pg_text(&a, text);
    return hk_pg_send(&s->w, &LIMIT, &a, ei);
}

static hark_err hand_out(hark_store *s, hark_errinfo *ei)
{
    int64_t left = s->tx.until - hk_mono_ns();
    hark_err err = hk_pg_enter(s, "tx_native", ei);
    if (!err)
        err = hk_pg_send(&s->w, &GUARD, NULL, ei);
    if (!err)
        err = hk_pg_send(&s->w, &NATIVE, NULL, ei);
    if (!err)
        err = limit(s, left > 0 ? left : 1, ei);
    if (!err)
        err = hk_pg_flush(&s->w, "handing out the connection", ei);
    if (!err && !PQexitPipelineMode(s->w.pg))
        err = hk_fail(ei, HARK_ESTORE, "%s: the connection cannot be handed out; try again",
                      s->w.where);
    return err;
}

void *hk_pg_tx_native(hark_store *s)
{
    hark_errinfo ei;
    if (!s->tx.open || lost(s))
        return NULL;
    if (s->program->out)
        return s->w.pg;
    s->tx.wrote = s->program->wrote = true;
    s->program->looked = false;
    hark_err err = hand_out(s, &ei);
    if (err)
        (void)note(s, err, &ei);
    s->program->out = !err;
    return err ? NULL : s->w.pg;
}

/* What the program has left unread, and the state that it left. */
static PGTransactionStatusType settle(hark_store *s)
{
    PGresult *r;
    ExecStatusType st = PGRES_COMMAND_OK;
    while (st != PGRES_COPY_IN && st != PGRES_COPY_OUT && st != PGRES_COPY_BOTH &&
           (r = PQgetResult(s->w.pg)) != NULL) {
        st = PQresultStatus(r);
        PQclear(r);
    }
    return PQtransactionStatus(s->w.pg);
}

/* The guard's row goes, and the savepoint; that both are there tells that it is still our transaction. */
static hark_err unguard(hark_store *s, bool failed, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = failed ? hk_pg_send(&s->w, &NATIVE_BACK, NULL, ei) : HARK_OK;
    if (!err)
        err = limit(s, 0, ei);
    if (!err)
        err = hk_pg_send(&s->w, &NATIVE_RELEASE, NULL, ei);
    if (!err)
        err = hk_pg_run(&s->w, &UNGUARD, NULL, &r, "taking the connection back", ei);
    if (!err && strcmp(PQcmdTuples(r), "1") != 0)
        err = HARK_EDENIED;
    PQclear(r);
    return err;
}

/* The connection is ours again: after this nothing of what it did natively is in the way of our own statements. */
bool hk_pg_in_rows(const hark_store *s)
{
    return s->program->running;
}

hark_err hk_pg_tx_back(hark_store *s, hark_errinfo *ei)
{
    static const char ended[] =
        "the closure ended the transaction through the handle of hark_tx_native: COMMIT and "
        "ROLLBACK are denied there, too; return HARK_OK to commit, or an error to undo";
    static const char was_lost[] = "the connection was lost while the closure had it";
    hk_pg_statements *p = s->program;
    if (HK_LIKELY(!p->out))
        return HARK_OK;
    p->out = false;
    PGTransactionStatusType st = settle(s);
    if (st == PQTRANS_IDLE)
        s->w.in_tx = false;
    if (st == PQTRANS_ACTIVE || st == PQTRANS_UNKNOWN || !PQenterPipelineMode(s->w.pg)) {
        hk_pg_disconnect(&s->w);
        return spoil(s, st == PQTRANS_ACTIVE ? HARK_EDENIED : HARK_ESTORE,
                     st == PQTRANS_ACTIVE ? "the closure left the connection in a COPY; end it "
                                            "before returning"
                                          : was_lost,
                     ei);
    }
    p->gone = st == PQTRANS_IDLE || unguard(s, st == PQTRANS_INERROR, ei) != HARK_OK;
    if (p->gone && !hk_pg_connected(&s->w))
        return spoil(s, HARK_ESTORE, was_lost, ei);
    if (p->gone)
        return spoil(s, HARK_EDENIED, ended, ei);
    if (st == PQTRANS_INERROR && s->tx.until - hk_mono_ns() < NEAR)
        return spoil(s, HARK_EDEADLINE,
                     "the closure's deadline passed while it ran a statement through "
                     "hark_tx_native; make it quicker, or give it a longer deadline_ms",
                     ei);
    if (st == PQTRANS_INERROR)
        return spoil(s, HARK_ESQL,
                     "a statement that was run through hark_tx_native failed, which undid all "
                     "that was done through it: put SAVEPOINT and ROLLBACK TO around what may fail",
                     ei);
    return HARK_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

static hark_err check_open(hark_store *s, hark_errinfo *ei)
{
    if (!s->tx.open)
        return hk_fail(ei, HARK_EINTERNAL, "a call of a transaction outside of one");
    if (s->program->running)
        return hk_fail(ei, HARK_EINVAL,
                       "the function that is shown rows runs a statement; run it after the query");
    hark_err err = hk_pg_tx_back(s, ei);
    if (!err && s->tx.err)
        err = hk_fail(ei, s->tx.err, "%s", s->tx.why.text);
    if (!err && hk_mono_ns() >= s->tx.until)
        err = note(s,
                   hk_fail(ei, HARK_EDEADLINE,
                           "the closure's deadline had passed before this statement; make it "
                           "quicker, or give it a longer deadline_ms"),
                   ei);
    return err;
}

hark_err hk_pg_tx_run(hark_store *s, const char *sql, const hark_value *args, size_t n,
                      hark_row_fn fn, void *ud, int64_t *ret_changes, hark_errinfo *ei)
{
    hark_errinfo own;
    const hk_pg_ask ask = {.sql = sql, .args = args, .n = n, .fn = fn, .ud = ud};
    ei = ei ? ei : &own;
    hark_err err = check_open(s, ei);
    if (!err && (!sql || (n && !args)))
        err = hk_fail(ei, HARK_EINVAL, "%s is NULL; give one",
                      sql ? "the array of arguments" : "the statement");
    if (err)
        return err;
    err = hk_pg_enter(s, "tx_run", ei);
    if (!err)
        err = hk_pg_program_run(s, &ask, ret_changes, ei);
    return note(s, err, ei);
}

/* ---- begin and end --------------------------------------------------------------------------- */

static hark_err set_savepoint(hark_store *s, hark_errinfo *ei)
{
    hark_err err = hk_pg_enter(s, "tx_begin", ei);
    if (!err) /* what others have appended or saved must not be undone with it */
        err = hk_pg_append_flush(s, ei);
    if (!err)
        err = hk_pg_saves_flush(s, ei);
    return err ? err : hk_pg_send(&s->w, &SAVEPOINT, NULL, ei);
}

hark_err hk_pg_tx_begin(hark_store *s, int64_t until_ns, bool undoable, hark_errinfo *ei)
{
    if (!s->in_group || s->tx.open)
        return hk_fail(ei, HARK_EINTERNAL, "a transaction %s",
                       s->in_group ? "inside another" : "outside of a group");
    if (!s->program && !(s->program = calloc(1, sizeof *s->program)))
        return hk_fail(ei, HARK_ENOMEM, "no memory for a transaction; free some, then try again");
    hark_err err = hk_pg_units_flush(s, ei);
    if (!err && undoable)
        err = set_savepoint(s, ei);
    if (err)
        return err;
    hk_pg_statements *p = s->program;
    p->wrote = p->looked = p->deferred = p->out = p->gone = false;
    s->tx = (hk_pg_closure){.open = true,
                            .savepoint = undoable,
                            .until = until_ns,
                            .log = s->log,
                            .now = s->now,
                            .batch = s->batch.n};
    return s->w.in_tx ? hk_pg_tx_note(s, hk_pg_for_closure(s, ei), ei) : HARK_OK;
}

static hark_err may_stay(hark_store *s, hark_errinfo *ei)
{
    int64_t late = hk_mono_ns() - s->tx.until;
    if (s->tx.err)
        return hk_fail(ei, s->tx.err, "%s", s->tx.why.text);
    if (late >= 0)
        return hk_fail(ei, HARK_EDEADLINE,
                       "the closure ended %.1f ms after its deadline; make it quicker, or give it "
                       "a longer deadline_ms",
                       (double)late / 1e6);
    return hk_pg_program_check(s, ei);
}

/* What waits to be read first: should it fail, the server does nothing up to the next turn. */
static hark_err back_to_savepoint(hark_store *s, hark_errinfo *ei)
{
    hark_errinfo of_it;
    (void)!hk_pg_flush(&s->w, "undoing a transaction", &of_it);
    hark_err err = hk_pg_send(&s->w, &ROLLBACK_TO, NULL, ei);
    if (!err)
        err = hk_pg_send(&s->w, &RELEASE, NULL, ei);
    return err ? err : hk_pg_flush(&s->w, "undoing a transaction", ei);
}

static hark_err undo(hark_store *s, hark_store_fate *ret, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    if (s->tx.savepoint) {
        err = back_to_savepoint(s, ei);
        s->log = s->tx.log; /* the server undoes locks, too */
    } else if (s->tx.wrote) {
        *ret = HARK_STORE_AGAIN;
    }
    if (s->batch.n > s->tx.batch)
        hk_pg_batch_back(&s->batch, s->tx.batch);
    s->now = s->tx.now;
    return err;
}

/* After these the group cannot be committed. */
static bool ends_group(hark_err err)
{
    hark_class cls = hark_err_class(err);
    return cls == HARK_CLASS_FATAL || cls == HARK_CLASS_UNKNOWN;
}

static hark_err end(hark_store *s, bool keep, hark_store_fate *ret, hark_errinfo *ei)
{
    hark_errinfo why;
    hark_err failure, err = hk_pg_tx_back(s, ei);
    if (HK_UNLIKELY(lost(s))) {
        *ret = HARK_STORE_SPOILT;
        return spoil(s, HARK_ESTORE, "the connection was lost within the closure; try again", ei);
    }
    err = keep ? may_stay(s, ei) : HARK_OK; /* it is undone anyway */
    if (keep && !err)
        failure = err = s->tx.savepoint ? hk_pg_send(&s->w, &RELEASE, NULL, ei) : HARK_OK;
    else if ((failure = undo(s, ret, &why)) != HARK_OK)
        err = hk_fail(ei, failure, "%s", why.text);
    if (ends_group(s->tx.err)) /* whatever else it did */
        err = hk_fail(ei, s->tx.err, "%s", s->tx.why.text);
    if (HK_UNLIKELY(failure || lost(s) || ends_group(err)))
        *ret = HARK_STORE_SPOILT;
    return err;
}

hark_err hk_pg_tx_end(hark_store *s, bool keep, hark_store_fate *ret, hark_errinfo *ei)
{
    hark_errinfo own;
    ei = ei ? ei : &own;
    if (!s->tx.open)
        return hk_fail(ei, HARK_EINTERNAL, "the end of a transaction that has not begun");
    *ret = HARK_STORE_STAYS;
    hark_err err = end(s, keep, ret, ei);
    s->tx.open = false;
    return err;
}
