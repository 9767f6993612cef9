/* group: a group is one transaction, whose BEGIN goes with its first statement, and which ends with one flush.
 *
 * Whoever draws sequences holds the log's advisory lock from then on until the transaction is over: reads where the log is
 * under it, counts on from there, and writes back where it is with the commit. So sequences have no holes, and are
 * committed in their order. The lock is released after the commit is visible. Groups that draw none do without.
 *
 * What a group locks, in this order: whatever the program's closure does; the log; a consumer; its shares; deliveries (see
 * party_i.h). So nobody who holds the log waits for a program. */
#include "store/postgres/store_i.h"

#include <stdio.h>
#include <string.h>

static const hk_pg_sql begin_tx = {"begin", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"};
static const hk_pg_sql commit_tx = {"commit", "COMMIT"};
static const hk_pg_sql rollback_tx = {"rollback", "ROLLBACK"};
/* A statement of its own: what comes after it sees what the last holder has committed. */
static const hk_pg_sql lock_log = {
    "lock_log", "SELECT pg_advisory_xact_lock(($1::int8)::int4, ($2::int8)::int4)"};
static const hk_pg_sql find_end = {"find_end", "SELECT last, recorded FROM @log"};
/* Fails when somebody else has drawn sequences. */
static const hk_pg_sql note_end = {
    "note_end", "WITH u AS (UPDATE @log SET last = $1, recorded = $2 WHERE last = $3 RETURNING 1) "
                "SELECT 1 / count(*) FROM u"};
/* Fails when this process is not registered any more, and when it has given up on this transaction: its answer came too late. */
static const hk_pg_sql note_ticket = {
    "note_ticket", "WITH u AS (UPDATE @tickets SET ticket = $2 WHERE process_id = $1 AND ticket < "
                   "$2 RETURNING 1) SELECT 1 / count(*) FROM u"};
static const hk_pg_sql is_there = {"process_is_there",
                                   "SELECT 1 FROM @tickets WHERE process_id = $1::int8"};
static const hk_pg_sql for_closure = {
    "for_closure",
    "SELECT pg_catalog.set_config('idle_in_transaction_session_timeout', $1::text, true), "
    "pg_catalog.set_config('plan_cache_mode', 'auto', true), "
    "pg_catalog.set_config('enable_seqscan', 'on', true)"};

/* ---- begin ------------------------------------------------------------------------------------- */

hark_err hk_pg_begin(hark_store *s, hark_errinfo *ei)
{
    hark_err err = hk_pg_writer(s, ei);
    if (err)
        return err;
    s->entered = false;
    s->log = HK_PG_FREE;
    s->in_group = true;
    return HARK_OK;
}

/* The server must not take the connection away from a closure that thinks for as long as it may, and plans its statements
 * as it likes. */
hark_err hk_pg_for_closure(hark_store *s, hark_errinfo *ei)
{
    char text[24];
    hk_pg_args args = {0};
    int64_t ms = (s->tx.until - hk_mono_ns()) / 1000000 + HK_PG_CLOSURE_MORE_MS;
    (void)snprintf(text, sizeof text, "%lld", (long long)(ms > HK_PG_IDLE_MS ? ms : HK_PG_IDLE_MS));
    hk_pg_text(&args, text);
    return hk_pg_send(&s->w, &for_closure, &args, ei);
}

hark_err hk_pg_enter(hark_store *s, const char *op, hark_errinfo *ei)
{
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "%s outside of a group", op);
    if (HK_UNLIKELY(s->units.n) && !s->tx.open) {
        hark_err err = hk_pg_units_flush(s, ei);
        if (err)
            return err;
    }
    if (s->tx.open && hk_pg_in_rows(s))
        return hk_fail(ei, HARK_EINVAL,
                       "%s in the function that is shown rows; do it after the query", op);
    if (s->tx.open && hk_pg_tx_back(s, ei) != HARK_OK)
        return s->tx.err;
    if (HK_LIKELY(s->w.in_tx))
        return HARK_OK;
    if (s->entered || !s->w.writer)
        return hk_fail(ei, HARK_ESTORE,
                       "%s: the connection was lost within the group, of which nothing was stored; "
                       "try again",
                       s->where);
    hark_err err = hk_pg_send(&s->w, &begin_tx, NULL, ei);
    if (!err)
        s->entered = s->w.in_tx = true;
    return err || !s->tx.open ? err : hk_pg_for_closure(s, ei);
}

/* ---- the log's lock ---------------------------------------------------------------------------- */

hark_err hk_pg_log_ask(hark_store *s, const char *op, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hark_err err = hk_pg_enter(s, op, ei);
    if (err || s->log != HK_PG_FREE)
        return err;
    hk_pg_int(&args, HK_PG_LOCK);
    hk_pg_int(&args, s->lock_no);
    err = hk_pg_send(&s->w, &lock_log, &args, ei);
    if (!err)
        s->log = HK_PG_ASKED;
    return err;
}

void hk_pg_log_at(hark_store *s, uint64_t last, int64_t recorded)
{
    if (s->log == HK_PG_HELD)
        return;
    s->log = HK_PG_HELD;
    s->now = s->found = (hk_pg_place){.last = last, .recorded = recorded};
    if (s->tx.open) /* what it goes back to when the closure is undone and the lock stays */
        s->tx.now = s->now;
}

hark_err hk_pg_log_take(hark_store *s, const char *op, hark_errinfo *ei)
{
    PGresult *r = NULL;
    if (HK_LIKELY(s->log == HK_PG_HELD && s->w.in_tx && !s->tx.open))
        return HARK_OK;
    hark_err err = hk_pg_log_ask(s, op, ei);
    if (err || s->log == HK_PG_HELD)
        return err;
    err = hk_pg_run(&s->w, &find_end, NULL, &r, "waiting for the log", ei);
    if (!err && PQntuples(r) != 1)
        err = hk_fail(ei, HARK_ECORRUPT,
                      "%s: the table %s.log does not have its one row; restore from a backup",
                      s->where, s->schema);
    if (!err)
        hk_pg_log_at(s, (uint64_t)hk_pg_get_int(r, 0, 0), hk_pg_get_int(r, 0, 1));
    PQclear(r);
    return err;
}

/* ---- rollback ---------------------------------------------------------------------------------- */

void hk_pg_rollback_sent(hark_store *s)
{
    s->entered = false;
    s->log = HK_PG_FREE;
    if (!s->w.in_tx)
        return;
    (void)hk_pg_flush(&s->w, "rolling back", NULL);
    if (hk_pg_connected(&s->w) &&
        hk_pg_run(&s->w, &rollback_tx, NULL, NULL, "rolling back", NULL) != HARK_OK)
        hk_pg_disconnect(&s->w); /* the server rolls back then */
    s->w.in_tx = false;
}

void hk_pg_rollback(hark_store *s)
{
    if (!s->in_group)
        return;
    s->in_group = s->trimmed = s->tell_schedules = false;
    hk_pg_saves_end(s, false);
    s->tx = (hk_pg_closure){0};
    memset(s->passes, 0, sizeof s->passes);
    hk_pg_batch_back(&s->batch, 0);
    hk_pg_units_clear(&s->units);
    hk_pg_rollback_sent(s);
}

/* ---- commit ------------------------------------------------------------------------------------ */

static hark_err send_end(hark_store *s, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    if (s->log != HK_PG_HELD || s->now.last == s->found.last)
        return HARK_OK;
    hk_pg_int(&args, (int64_t)s->now.last);
    hk_pg_int(&args, s->now.recorded);
    hk_pg_int(&args, (int64_t)s->found.last);
    return hk_pg_send(&s->w, &note_end, &args, ei);
}

static hark_err send_ticket(hark_store *s, uint64_t ticket, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    s->ticket_of = hk_mark_get(&s->process);
    hk_pg_int(&args, (int64_t)s->ticket_of);
    hk_pg_int(&args, (int64_t)ticket);
    return hk_pg_send(&s->w, &note_ticket, &args, ei);
}

hark_err hk_pg_commit_sent(hark_store *s, hark_errinfo *ei)
{
    PGresult *r = NULL;
    uint64_t ticket = ++s->ticket;               /* whatever comes of it, no other group has it */
    hark_err err = hk_pg_enter(s, "commit", ei); /* is the transaction still there? */
    if (!err)
        err = send_end(s, ei);
    if (!err)
        err = send_ticket(s, ticket, ei);
    if (err)
        return err;
    err = hk_pg_run(&s->w, &commit_tx, NULL, &r, "committing", ei);
    if (!err && strcmp(PQcmdStatus(r), "COMMIT") != 0)
        err = hk_fail(ei, HARK_ESTORE, "%s rolled the group back; try again", s->where);
    else if (err && !hk_pg_connected(&s->w))
        err = hk_pg_resolve(s, ticket, ei);
    PQclear(r);
    if (err)
        return err;
    s->w.in_tx = false;
    s->used_at = hk_mono_ns();
    return HARK_OK;
}

/* A process that was silent for very long has been forgotten: the next group finds it registered again. */
static void look_registered(hark_store *s)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)hk_mark_get(&s->process));
    if (!s->w.writer)
        return;
    hark_err err = hk_pg_run(&s->w, &is_there, &args, &r, "looking for this process", NULL);
    bool gone = !err && PQntuples(r) == 0;
    PQclear(r);
    if (!gone)
        return;
    hk_log(HK_WARN, "%s: this process was silent for so long that it was forgotten", s->where);
    /* of a default that is read only: see writer.c */
    if (hk_pg_script(&s->w, "SET default_transaction_read_only = off", "registering", NULL) ||
        hk_pg_register(s, &s->w, NULL) ||
        hk_pg_script(&s->w, "SET default_transaction_read_only = on", "registering", NULL))
        hk_pg_disconnect(&s->w);
}

/* Of what is shown, the last sequence never goes back. */
void hk_pg_show(hark_store *s, uint64_t first, uint64_t last)
{
    pthread_mutex_lock(&s->lock);
    if (last >= s->shown_last) {
        s->shown_first = first;
        s->shown_last = last;
    }
    pthread_mutex_unlock(&s->lock);
}

static void show(hark_store *s)
{
    bool drew = s->log == HK_PG_HELD && s->now.last > s->found.last;
    if (HK_LIKELY(!drew && !s->trimmed))
        return;
    pthread_mutex_lock(&s->lock);
    if (s->trimmed)
        s->shown_first = s->first_left;
    if (drew && s->shown_first == 0)
        s->shown_first = s->found.last + 1;
    if (drew && s->now.last > s->shown_last)
        s->shown_last = s->now.last;
    pthread_mutex_unlock(&s->lock);
    if (drew)
        hk_pg_hint(s, &s->hint_events);
}

static void committed(hark_store *s)
{
    s->in_group = s->entered = false;
    hk_pg_saves_end(s, true);
    hk_pg_units_clear(&s->units);
    show(s);
    if (hk_mark_get(&s->hint_shares))
        hk_pg_hint(s, &s->hint_shares);
    if (s->tell_schedules)
        hk_pg_hint(s, &s->hint_schedules);
    s->trimmed = s->tell_schedules = false;
    s->log = HK_PG_FREE;
}

/* The log comes before shares: see above. */
static hark_err commit_one_by_one(hark_store *s, hark_errinfo *ei)
{
    hark_err err = hk_pg_append_flush(s, ei);
    if (!err)
        err = hk_pg_saves_flush(s, ei);
    return err || !s->entered ? err : hk_pg_commit_sent(s, ei);
}

hark_err hk_pg_commit(hark_store *s, hark_errinfo *ei)
{
    hark_errinfo why = {0};
    bool again = true;
    hark_err err = HARK_OK;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "commit without a group");
    if (hk_pg_quick_may(s))
        err = hk_pg_quick(s, &again, &why);
    if (!err && again)
        err = commit_one_by_one(s, &why);
    if (HK_UNLIKELY(err)) {
        (void)hk_pg_note(s, err);
        hk_pg_rollback(s);
        if (hk_pg_connected(&s->w))
            look_registered(s);
        return hk_fail(ei, err, "%s", why.text);
    }
    committed(s);
    return HARK_OK;
}
