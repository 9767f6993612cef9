/* query: runs one statement of the program's, in a closure or beside the log, and says what went wrong. In a closure
 * it is between SAVEPOINT and RELEASE, since PostgreSQL ends a transaction at its first error; all is sent at
 * once (measured on this machine's own server: 16 us without both, 18 with them, 22 with the limit of time before
 * and behind). */
#include "store/postgres/program_i.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const hk_pg_sql LIMIT = {
    "q_limit", "SELECT pg_catalog.set_config('statement_timeout', $1::text, true)"};
/* With it: whether there are constraints that are looked at no earlier than at the commit. */
static const hk_pg_sql LIMIT_AND_LOOK = {
    "q_limit_and_look", "SELECT pg_catalog.set_config('statement_timeout', $1::text, true), "
                        "(SELECT count(*) FROM pg_catalog.pg_constraint WHERE condeferred "
                        "AND conrelid <> '@native'::regclass)"};
static const hk_pg_sql BEGIN_READING = {"q_begin", "BEGIN READ ONLY"};
/* Which readers.c has set for our own statements. */
static const hk_pg_sql ANY_PLAN = {"q_any_plan",
                                   "SELECT pg_catalog.set_config('enable_seqscan', 'on', true), "
                                   "pg_catalog.set_config('enable_bitmapscan', 'on', true), "
                                   "pg_catalog.set_config('plan_cache_mode', 'auto', true)"};
static const hk_pg_sql END_READING = {"q_end", "ROLLBACK"};

/* ---- one run ----------------------------------------------------------------------------------- */

typedef struct run {
    hk_pg *c;
    const hk_pg_ask *ask;
    hk_pg_values *values;
    int64_t until; /* mono ns; 0 = beside the log */
    bool enough, shown;
    bool failed; /* the server refused the statement; the connection is fine */
    bool stale;  /* maybe because it was prepared before something was altered */
    int64_t changes;
    hark_err err; /* of it, or of showing its rows */
    hark_errinfo *ei;
} run;

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static bool begins_with_one(const char *s, const char *const *list)
{
    for (; *list; list++)
        if (begins(s, *list))
            return true;
    return false;
}

/* "duplicate key value violates unique constraint "one_pkey" (Key (n)=(1) already exists.), in: ..." */
static hark_err says(run *x, hark_err err, const PGresult *r, const char *mend)
{
    char head[HK_SQL_BEGINNING + 4];
    const char *text = PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY);
    const char *detail = PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL);
    return hk_fail(x->ei, err, "%.240s%s%.160s%s, in: %s%s", text ? text : "an error",
                   detail ? " (" : "", detail ? detail : "", detail ? ")" : "",
                   hk_sql_beginning(x->ask->sql, head), mend);
}

static hark_err canceled(run *x, const PGresult *r)
{
    char head[HK_SQL_BEGINNING + 4];
    const int64_t near = INT64_C(2000000); /* the server counts in milliseconds */
    if (x->until && hk_mono_ns() + near >= x->until)
        return hk_fail(x->ei, HARK_EDEADLINE,
                       "the closure's deadline passed while it ran: %s; make it quicker, or give "
                       "it a longer deadline_ms",
                       hk_sql_beginning(x->ask->sql, head));
    return says(x, HARK_ESTORE, r, "; try again");
}

static hark_err told(run *x, const PGresult *r)
{
    static const char *const broken[] = {"23", "P0001", NULL}; /* a trigger's RAISE, too */
    static const char *const denied[] = {"42501", "25001", NULL};
    static const char *const stores[] = {"08", "25P03", "40", "53", "55P03",
                                         "57", "58",    "XX", NULL};
    const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
    if (state && strcmp(state, "57014") == 0)
        return canceled(x, r);
    if (!state || begins_with_one(state, stores))
        return hk_pg_fail(x->c, r, "running the program's SQL", x->ei);
    if (begins_with_one(state, broken))
        return says(x, HARK_ECONSTRAINT, r, "");
    if (strcmp(state, "25006") == 0)
        return says(x, HARK_EDENIED, r,
                    x->until ? "; the server, or the role, only reads"
                             : "; it only reads; write in a transaction (hark_transact)");
    if (begins_with_one(state, denied))
        return says(x, HARK_EDENIED, r, "; grant it to the role, or leave it out");
    return says(x, HARK_ESQL, r, "; mend the statement");
}

static void show(run *x, const PGresult *r)
{
    char head[HK_SQL_BEGINNING + 4];
    hark_row row;
    for (int i = 0; i < PQntuples(r) && !x->enough; i++) {
        if (!hk_pg_values_row(x->values, r, i, &row)) {
            x->err =
                hk_fail(x->ei, HARK_ENOMEM, "no memory for a row of: %s; free some, then try again",
                        hk_sql_beginning(x->ask->sql, head));
            x->enough = true;
            return;
        }
        x->shown = true;
        x->enough = !x->ask->fn(&row, x->ask->ud);
    }
}

static void result(void *ud, const PGresult *r)
{
    static const char *const stale[] = {"0A", "26", "42", NULL};
    static const char *const counted[] = {"INSERT", "UPDATE", "DELETE", "MERGE", NULL};
    run *x = ud;
    ExecStatusType st = PQresultStatus(r);
    if (st != PGRES_COMMAND_OK && st != PGRES_TUPLES_OK && st != PGRES_SINGLE_TUPLE) {
        const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);
        x->failed = true;
        x->stale = state && begins_with_one(state, stale);
        x->err = told(x, r);
        return;
    }
    if (x->ask->fn && st != PGRES_COMMAND_OK)
        show(x, r);
    /* libpq's functions for this take no const */
    if (st != PGRES_SINGLE_TUPLE && begins_with_one(PQcmdStatus((PGresult *)(uintptr_t)r), counted))
        x->changes = strtoll(PQcmdTuples((PGresult *)(uintptr_t)r), NULL, 10);
}

/* ---- in a closure -------------------------------------------------------------------------------- */

static hark_err send_limit(hk_pg *c, int64_t left_ns, hark_errinfo *ei)
{
    char text[24];
    hk_pg_args a = {.n = 0};
    int64_t ms = left_ns > 0 ? left_ns / 1000000 + 1 : 1; /* 0 would be no limit */
    (void)snprintf(text, sizeof text, "%d", ms > INT_MAX ? INT_MAX : (int)ms);
    hk_pg_text(&a, text);
    return hk_pg_send(c, &LIMIT, &a, ei);
}

static hark_err lift_limit(hk_pg *c, bool look, PGresult **ret, hark_errinfo *ei)
{
    hk_pg_args a = {.n = 0};
    hk_pg_text(&a, "0");
    return hk_pg_run(c, look ? &LIMIT_AND_LOOK : &LIMIT, &a, ret, "running the program's SQL", ei);
}

/* The statement has failed: it alone is undone. */
static hark_err recover(run *x, hark_errinfo *ei)
{
    hark_err err = hk_pg_send(x->c, &hk_pg_q_rollback_to, NULL, ei);
    if (!err)
        err = hk_pg_send(x->c, &hk_pg_q_release, NULL, ei);
    return err ? err : lift_limit(x->c, false, NULL, ei);
}

/* All in one go. `undo`: it was only to see whether it fails. */
static hark_err send_all(hark_store *s, run *x, hk_pg_theirs *t, bool undo, hark_errinfo *ei)
{
    hk_pg_statements *p = s->program;
    bool look = p->wrote && !p->looked && !undo;
    PGresult *r = NULL;
    hark_err err = send_limit(x->c, x->until - hk_mono_ns(), ei);
    if (!err)
        err = hk_pg_send(x->c, &hk_pg_q_savepoint, NULL, ei);
    if (!err)
        err = hk_pg_send_theirs(x->c, t, ei);
    if (!err && undo)
        err = hk_pg_send(x->c, &hk_pg_q_rollback_to, NULL, ei);
    if (!err)
        err = hk_pg_send(x->c, &hk_pg_q_release, NULL, ei);
    if (!err)
        err = lift_limit(x->c, look, &r, ei);
    if (!err && look) {
        p->looked = true;
        p->deferred = hk_pg_get_int(r, 0, 1) > 0;
    }
    PQclear(r);
    return err;
}

/* What went wrong with the statement comes before what that did to the rest. */
static hark_err run_in_closure(hark_store *s, run *x, hk_pg_theirs *t, bool undo)
{
    hark_errinfo why;
    hark_err err = send_all(s, x, t, undo, &why);
    if (x->failed && hk_pg_connected(x->c)) {
        err = recover(x, &why);
        return err ? hk_fail(x->ei, err, "%s", why.text) : x->err;
    }
    if (err && !x->failed)
        return hk_fail(x->ei, err, "%s", why.text);
    return x->err;
}

static hark_err run_one(hark_store *s, run *x, hk_pg_ready *k, const hk_pg_statement *said)
{
    char name[16] = "";
    bool was = k && k->prepared;
    if (k)
        hk_pg_ready_name(s->program, k, name);
    const hk_pg_values *v = x->values;
    hk_pg_theirs t = {.name = name,
                      .prepare = was ? NULL : said->sql,
                      .types = v->types,
                      .values = v->in,
                      .lengths = v->lengths,
                      .formats = v->formats,
                      .n = (int)x->ask->n,
                      .rows = x->ask->fn != NULL,
                      .result = result,
                      .ud = x};
    hark_err err = run_in_closure(s, x, &t, false);
    if (k)
        k->prepared = hk_pg_connected(x->c) && (was || t.ret_prepared);
    x->stale = x->stale && was && !x->shown;
    return err;
}

/* What was prepared long ago may not fit the tables of today: once more, prepared anew. */
static hark_err run_it(hark_store *s, run *x, hk_pg_ready *k, const hk_pg_statement *said)
{
    hark_errinfo ei;
    hark_err err = run_one(s, x, k, said);
    if (!err || !x->stale || !hk_pg_connected(x->c))
        return err;
    if (hk_pg_ready_forget(s->program, x->c, k, &ei))
        return hk_fail(x->ei, ei.err, "%s", ei.text);
    x->err = HARK_OK;
    x->failed = x->stale = false;
    return run_one(s, x, k, said);
}

hark_err hk_pg_program_run(hark_store *s, const hk_pg_ask *ask, int64_t *ret_changes,
                           hark_errinfo *ei)
{
    hk_pg_statements *p = s->program;
    hk_pg_ready *k = NULL;
    hk_pg_statement own = {0};
    run x = {.c = &s->w, .ask = ask, .values = &p->values, .until = s->tx.until, .ei = ei};
    hk_pg_ready_look(p, &s->w);
    hark_err err = hk_pg_ready_take(s, ask, &k, &own, ei);
    const hk_pg_statement *said = k ? &k->said : &own;
    if (!err)
        err = hk_pg_values_in(x.values, ask, ei);
    if (!err) {
        p->wrote = p->wrote || !said->reads;
        s->tx.wrote = s->tx.wrote || !said->reads;
        p->looked = p->looked && said->often; /* CREATE TABLE, ...: there may be new ones */
        p->running = true;
        err = run_it(s, &x, k, said);
        p->running = false;
    }
    free(own.sql);
    if (!err && ret_changes)
        *ret_changes = x.changes;
    return err;
}

hark_err hk_pg_program_check(hark_store *s, hark_errinfo *ei)
{
    static const char all[] = "SET CONSTRAINTS ALL IMMEDIATE";
    const hk_pg_ask ask = {.sql = "the end of the closure"};
    hk_pg_statements *p = s->program;
    PGresult *r = NULL;
    hark_err err = HARK_OK;
    if (!p->wrote)
        return HARK_OK;
    if (!p->looked)
        err = lift_limit(&s->w, true, &r, ei);
    if (!err && !p->looked)
        p->deferred = hk_pg_get_int(r, 0, 1) > 0;
    PQclear(r);
    if (err || !p->deferred)
        return err;
    run x = {.c = &s->w, .ask = &ask, .until = s->tx.until, .ei = ei};
    hk_pg_theirs t = {.name = "", .prepare = all, .result = result, .ud = &x};
    return run_in_closure(s, &x, &t, true);
}

/* ---- beside the log ------------------------------------------------------------------------------ */

typedef struct question {
    const hk_pg_ask *ask;
    const hk_pg_statement *said;
    hk_pg_values values;
    bool shown; /* some rows were: it cannot be asked again */
} question;

static hark_err ask_it(hk_pg *c, run *x, hk_pg_theirs *t, hark_errinfo *ei)
{
    hark_err err = hk_pg_send(c, &BEGIN_READING, NULL, ei);
    if (!err)
        err = hk_pg_send(c, &ANY_PLAN, NULL, ei);
    if (!err)
        err = hk_pg_send_theirs(c, t, ei);
    if (!err)
        err = hk_pg_run(c, &END_READING, NULL, NULL, "running a query", ei);
    if (err && hk_pg_connected(c) && /* no reader goes back inside a transaction */
        (!x->failed || hk_pg_run(c, &END_READING, NULL, NULL, "ending a query", NULL) != HARK_OK))
        hk_pg_disconnect(c);
    return err;
}

static hark_err answer(hk_pg *c, void *ud, hark_errinfo *ei)
{
    question *q = ud;
    hark_errinfo why = {0};
    run x = {.c = c, .ask = q->ask, .values = &q->values, .ei = &why};
    hk_pg_theirs t = {.name = "",
                      .prepare = q->said->sql,
                      .types = q->values.types,
                      .values = q->values.in,
                      .lengths = q->values.lengths,
                      .formats = q->values.formats,
                      .n = (int)q->ask->n,
                      .rows = q->ask->fn != NULL,
                      .result = result,
                      .ud = &x};
    if (q->shown)
        return hk_fail(ei, HARK_ESTORE, "the connection was lost within a query; ask again");
    hark_err err = ask_it(c, &x, &t, ei);
    q->shown = x.shown;
    return x.err ? hk_fail(ei, x.err, "%s", why.text) : err;
}

hark_err hk_pg_query_beside(hark_store *s, const char *sql, const hark_value *args, size_t n,
                            hark_row_fn fn, void *ud, hark_errinfo *ei)
{
    const hk_pg_ask ask = {.sql = sql, .args = args, .n = n, .fn = fn, .ud = ud};
    hk_pg_statement said = {0};
    question q = {.ask = &ask, .said = &said};
    if (!sql || (n && !args))
        return hk_fail(ei, HARK_EINVAL, "%s is NULL; give one",
                       sql ? "the array of arguments" : "the statement");
    hark_err err = hk_pg_translate(sql, s->schema, true, &said, ei);
    if (!err)
        err = hk_pg_count_args(&ask, said.params, ei);
    if (!err)
        err = hk_pg_values_in(&q.values, &ask, ei);
    if (!err)
        err = hk_pg_reader_query(s, answer, &q, ei);
    hk_pg_values_free(&q.values);
    free(said.sql);
    return err;
}
