/* A party: closures that share a commit, some of which misbehave. While a first closure waits at a latch, 64
 * queue up behind it; then it is let go. */
#ifndef HK_CONFORMANCE_PARTY_H
#define HK_CONFORMANCE_PARTY_H

#include "shop.h"

#include <libpq-fe.h>
#include <sqlite3.h>

enum { GROUP = 64 };

typedef struct party party;

/* A way to misbehave. */
typedef struct vice {
    const char *name;
    hark_err (*act)(hark_tx *tx, party *p);
    hark_err expected;
    const char *says;    /* part of the text */
    int64_t deadline_ms; /* 0 = patient */
    const char *only;    /* the store where it can be had; NULL = all */
    const char *why;     /* the others are without it */
} vice;

typedef struct guest {
    party *p;
    int64_t n;
    const vice *vice; /* NULL: it behaves */
    hark_receipt receipt;
    atomic_int runs, calls;
    hark_err err;
    hark_receipt last;
    char text[512];
} guest;

struct party {
    fixture *f;
    latch at;
    atomic_int host;    /* calls of the first closure's done */
    sqlite3_stmt *left; /* by a closure that does not clean up */
    guest guests[GROUP];
};

/* ---- vices --------------------------------------------------------------------------------------- */

static inline hark_err exec(hark_tx *tx, const char *sql)
{
    return hark_tx_exec(tx, sql, HARK_NO_ARGS);
}

static inline hark_err return_an_error(hark_tx *tx, party *p)
{
    (void)p;
    return hark_tx_fail(tx, HARK_ECONFLICT, "given up");
}

static inline hark_err break_a_constraint(hark_tx *tx, party *p)
{
    (void)p;
    return exec(tx, "INSERT INTO one VALUES(1)");
}

static inline hark_err or_rollback(hark_tx *tx, party *p)
{
    (void)p;
    return exec(tx, "INSERT OR ROLLBACK INTO one VALUES(1)");
}

static inline hark_err raise_in_a_trigger(hark_tx *tx, party *p)
{
    (void)p;
    return exec(tx, "INSERT INTO trap VALUES(1)");
}

#define ENDLESS                                                                                    \
    "INSERT INTO effects(n) WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "      \
    "SELECT n FROM r"

static inline hark_err be_late_in_sql(hark_tx *tx, party *p)
{
    (void)p;
    return exec(tx, ENDLESS);
}

static inline hark_err be_late_in_c(hark_tx *tx, party *p)
{
    (void)tx, (void)p;
    shop_dawdle(25);
    return HARK_OK;
}

static inline hark_err leave_an_orphan(hark_tx *tx, party *p)
{
    (void)p;
    return exec(tx, "INSERT INTO child VALUES(77)");
}

static inline hark_err leave_a_statement_open(hark_tx *tx, party *p)
{
    sqlite3 *db = hark_tx_native(tx);
    if (p->left) /* of an earlier run */
        sqlite3_finalize(p->left);
    MUST(sqlite3_prepare_v2(db, "SELECT n FROM one", -1, &p->left, NULL) == SQLITE_OK);
    MUST(sqlite3_step(p->left) == SQLITE_ROW);
    return HARK_OK;
}

static inline hark_err commit(hark_tx *tx, party *p)
{
    (void)p;
    return exec(tx, "COMMIT");
}

static inline hark_err native(hark_tx *tx, party *p, const char *sql)
{
    return dialect_of(p->f)->native(tx, sql);
}

static inline hark_err commit_natively(hark_tx *tx, party *p)
{
    return native(tx, p, "COMMIT");
}

static inline hark_err rollback_natively(hark_tx *tx, party *p)
{
    return native(tx, p, "ROLLBACK");
}

static inline hark_err change_settings(hark_tx *tx, party *p)
{
    return exec(tx, dialect_of(p->f)->settings);
}

static inline hark_err write_to_the_log(hark_tx *tx, party *p)
{
    return exec(tx, in_log(p->f, "DELETE FROM @events").s);
}

static inline hark_err publish_what_conflicts(hark_tx *tx, party *p)
{
    (void)p;
    return hark_tx_publish(
        tx, HARK_OPTS(hark_event_spec, .type = "other", .id = "taken", .json = "2"), NULL);
}

static inline hark_err expect_another_version(hark_tx *tx, party *p)
{
    (void)p;
    return hark_tx_publish(
        tx, HARK_OPTS(hark_event_spec, .type = "other", .subject = "s", .expected_version = 9),
        NULL);
}

/* What follows a rollback would be committed by itself. */
static inline hark_err go_on_after_a_rollback(hark_tx *tx, party *p)
{
    (void)exec(tx, "INSERT OR ROLLBACK INTO one VALUES(1)");
    (void)exec(tx, "INSERT INTO effects(n) VALUES(-2)");
    (void)shop_say(tx, -2, NULL);
    (void)!hark_tx_keep(tx, "key", "x", 1, HOUR_MS);
    (void)p;
    return HARK_OK;
}

static inline hark_err go_on_natively_after_a_rollback(hark_tx *tx, party *p)
{
    sqlite3 *db = hark_tx_native(tx);
    sqlite3_stmt *st;
    MUST(sqlite3_prepare_v2(db, "INSERT INTO effects(n) VALUES(-3)", -1, &st, NULL) == SQLITE_OK);
    (void)native(tx, p, "INSERT OR ROLLBACK INTO one VALUES(1)");
    (void)sqlite3_step(st); /* prepared before: no authorizer is asked */
    sqlite3_finalize(st);
    (void)native(tx, p, "INSERT INTO effects(n) VALUES(-4)");
    return HARK_OK;
}

static inline hark_err roll_back_natively_by_conflict(hark_tx *tx, party *p)
{
    return native(tx, p, "INSERT OR ROLLBACK INTO one VALUES(1)");
}

/* The same on PostgreSQL, where only what is sent with the connection itself ends the transaction. */
static inline hark_err go_on_after_native_rollback(hark_tx *tx, party *p)
{
    (void)native(tx, p, "ROLLBACK");
    (void)native(tx, p, "INSERT INTO effects(n) VALUES(-3)");
    (void)exec(tx, "INSERT INTO effects(n) VALUES(-2)");
    (void)shop_say(tx, -2, NULL);
    (void)!hark_tx_keep(tx, "key", "x", 1, HOUR_MS);
    (void)native(tx, p, "INSERT INTO effects(n) VALUES(-4)");
    return HARK_OK;
}

static inline hark_err begin_another(hark_tx *tx, party *p)
{
    (void)native(tx, p, "COMMIT");
    (void)native(tx, p, "BEGIN; INSERT INTO effects(n) VALUES(-6)");
    return HARK_OK;
}

static inline hark_err swallow_a_native_error(hark_tx *tx, party *p)
{
    (void)native(tx, p, "INSERT INTO effects(n) VALUES(-7)");
    (void)native(tx, p, "INSERT INTO one VALUES(1)");
    return HARK_OK;
}

static inline hark_err leave_a_copy_open(hark_tx *tx, party *p)
{
    (void)p;
    PQclear(PQexec(hark_tx_native(tx), "COPY one FROM STDIN"));
    return HARK_OK;
}

static inline hark_err lose_the_connection(hark_tx *tx, party *p)
{
    (void)exec(tx, "SELECT pg_terminate_backend(pg_backend_pid())");
    (void)exec(tx, "INSERT INTO effects(n) VALUES(-8)");
    (void)p;
    return HARK_OK;
}

static inline hark_err fail_after_a_native_rollback(hark_tx *tx, party *p)
{
    (void)native(tx, p, "ROLLBACK");
    return hark_tx_fail(tx, HARK_ECONFLICT, "given up after a rollback");
}

static inline hark_err go_on_after_the_deadline(hark_tx *tx, party *p)
{
    (void)exec(tx, ENDLESS);
    (void)exec(tx, "INSERT INTO effects(n) VALUES(-5)");
    (void)shop_say(tx, -5, NULL);
    (void)p;
    return HARK_OK;
}

static inline hark_err fail_and_break_another(hark_tx *tx, party *p)
{
    (void)or_rollback(tx, p);
    return hark_tx_fail(tx, HARK_ECONFLICT, "given up after a rollback");
}

#define SQLITE     "sqlite"
#define POSTGRESQL "postgresql"

static const vice vices[] = {
    {"returns an error", return_an_error, HARK_ECONFLICT, "given up", 0, NULL, NULL},
    {"constraint", break_a_constraint, HARK_ECONSTRAINT, "constraint", 0, NULL, NULL},
    {"OR ROLLBACK", or_rollback, HARK_ECONSTRAINT, "one.n", 0, SQLITE,
     "no conflict clause undoes a transaction there: see native ROLLBACK"},
    {"RAISE", raise_in_a_trigger, HARK_ECONSTRAINT, "it snapped", 0, NULL, NULL},
    {"late in SQL", be_late_in_sql, HARK_EDEADLINE, "deadline", 20, NULL, NULL},
    {"late in C", be_late_in_c, HARK_EDEADLINE, "deadline", 20, NULL, NULL},
    {"deferred foreign key", leave_an_orphan, HARK_ECONSTRAINT, "constraint", 0, NULL, NULL},
    {"statement left open", leave_a_statement_open, HARK_ESQL, "SELECT n FROM one", 0, SQLITE,
     "libpq has no statements that stay open: see COPY left open"},
    {"COPY left open", leave_a_copy_open, HARK_EDENIED, "COPY", 0, POSTGRESQL,
     "it has no COPY: see statement left open"},
    {"COMMIT", commit, HARK_EDENIED, "COMMIT", 0, NULL, NULL},
    {"native COMMIT", commit_natively, HARK_EDENIED, "native", 0, NULL, NULL},
    {"native ROLLBACK", rollback_natively, HARK_EDENIED, "native", 0, NULL, NULL},
    {"native COMMIT and BEGIN", begin_another, HARK_EDENIED, "native", 0, POSTGRESQL,
     "its COMMIT is denied, and a BEGIN after it fails"},
    {"settings", change_settings, HARK_EDENIED, "settings", 0, NULL, NULL},
    {"write to the log", write_to_the_log, HARK_EDENIED, "hark_", 0, NULL, NULL},
    {"conflict of ids", publish_what_conflicts, HARK_ECONFLICT, "taken", 0, NULL, NULL},
    {"another version", expect_another_version, HARK_EVERSION, "", 0, NULL, NULL},
    {"goes on after a rollback", go_on_after_a_rollback, HARK_ECONSTRAINT, "one.n", 0, SQLITE,
     NULL},
    {"goes on after a rollback", go_on_after_native_rollback, HARK_EDENIED, "native", 0, POSTGRESQL,
     NULL},
    {"goes on natively after a rollback", go_on_natively_after_a_rollback, HARK_ESQL, "ROLLBACK", 0,
     SQLITE, "covered there by: goes on after a rollback"},
    {"native OR ROLLBACK", roll_back_natively_by_conflict, HARK_ESQL, "", 0, SQLITE,
     "no conflict clause undoes a transaction there: see native ROLLBACK"},
    {"native error swallowed", swallow_a_native_error, HARK_ESQL, "native", 0, POSTGRESQL,
     "an error undoes its statement there, also natively"},
    {"goes on after the deadline", go_on_after_the_deadline, HARK_EDEADLINE, "deadline", 20, NULL,
     NULL},
    {"own error after a rollback", fail_and_break_another, HARK_ECONSTRAINT, "one.n", 0, SQLITE,
     NULL},
    {"own error after a rollback", fail_after_a_native_rollback, HARK_EDENIED, "native", 0,
     POSTGRESQL, NULL},
    {"lost connection", lose_the_connection, HARK_ESTORE, "", 0, POSTGRESQL, "it has none"},
};

static inline bool can_be_had(const fixture *f, const vice *v)
{
    return !v->only || strcmp(v->only, f->store->name) == 0;
}

static inline const vice *vice_named(const fixture *f, const char *name)
{
    const vice *of_another = NULL;
    for (size_t i = 0; i < HK_COUNTOF(vices); i++) {
        if (strcmp(vices[i].name, name) != 0)
            continue;
        if (can_be_had(f, &vices[i]))
            return &vices[i];
        of_another = &vices[i];
    }
    if (!of_another)
        fail_msg("no vice is called %s", name);
    left_out(f, name, of_another->why);
    return NULL;
}

/* The i-th of those that can be had; it begins again at the end. */
static inline const vice *vice_at(const fixture *f, size_t i)
{
    size_t at = 0;
    for (;; at++)
        if (can_be_had(f, &vices[at % HK_COUNTOF(vices)]) && i-- == 0)
            return &vices[at % HK_COUNTOF(vices)];
}

static inline const vice *spoiler(const fixture *f)
{
    return vice_named(f, dialect_of(f)->spoiler);
}

/* ---- the party ----------------------------------------------------------------------------------- */

static inline hark_err hold(hark_tx *tx, void *ud)
{
    party *p = ud;
    (void)tx;
    latch_wait(&p->at);
    return HARK_OK;
}

static inline void held(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    (void)last, (void)ei;
    MUST(err == HARK_OK);
    atomic_fetch_add(&((party *)ud)->host, 1);
}

static inline hark_err attend(hark_tx *tx, void *ud)
{
    guest *g = ud;
    atomic_fetch_add(&g->runs, 1);
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)", HARK_ARGS(hark_int(g->n)));
    err = err ? err : shop_say(tx, g->n, &g->receipt);
    return err || !g->vice ? err : g->vice->act(tx, g->p);
}

static inline void leave(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    guest *g = ud;
    g->err = err;
    if (last)
        g->last = *last;
    MUST((last != NULL) == (err == HARK_OK || err == HARK_EVERSION));
    (void)snprintf(g->text, sizeof g->text, "%s", err ? ei->text : "");
    atomic_fetch_add(&g->calls, 1);
}

static inline party *party_new(fixture *f)
{
    static const char *const tables[] = {
        "CREATE TABLE one(n INTEGER PRIMARY KEY)", "INSERT INTO one VALUES(1)",
        "CREATE TABLE child(parent INT REFERENCES one(n) DEFERRABLE INITIALLY DEFERRED)", NULL};
    shop_all(f, tables);
    shop_all(f, dialect_of(f)->trap);
    assert_ok(
        f, hark_publish_ei(f->bus,
                           HARK_OPTS(hark_event_spec, .type = "other", .id = "taken", .json = "1"),
                           NULL, &f->ei));
    party *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->f = f;
    return p;
}

/* From here on what comes queues up. */
static inline void shut(party *p)
{
    latch_init(&p->at);
    memset(p->guests, 0, sizeof p->guests);
    assert_ok(p->f, hark_transact_async(p->f->bus, hold, held, p, SHOP_PATIENT, &p->f->ei));
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
}

static inline void invite(party *p, int64_t n, const vice *v)
{
    guest *g = &p->guests[n];
    *g = (guest){.p = p, .n = n, .vice = v};
    const hark_tx_opts *opts =
        v && v->deadline_ms ? TX(.deadline_ms = v->deadline_ms) : SHOP_PATIENT;
    assert_ok(p->f, hark_transact_async(p->f->bus, attend, leave, g, opts, &p->f->ei));
}

static inline uint64_t commits(party *p)
{
    hark_stats s = {.size = sizeof s};
    assert_ok(p->f, hark_stats_get(p->f->bus, &s));
    assert_u64(s.failed_commits, 0);
    return s.commits;
}

/* Lets them in; returns the commits it took. */
static inline uint64_t celebrate(party *p)
{
    uint64_t before = commits(p);
    latch_open(&p->at);
    for (int i = 0; i < GROUP; i++)
        WAIT_UNTIL(atomic_load(&p->guests[i].calls) == 1);
    return commits(p) - before;
}

static inline void assert_guest(const guest *g)
{
    const vice *v = g->vice;
    const char *who = v ? v->name : "behaves";
    if (g->err != (v ? v->expected : HARK_OK))
        fail_msg("guest %lld, %s: expected %s, got %s: %s", (long long)g->n, who,
                 hark_err_name(v ? v->expected : HARK_OK), hark_err_name(g->err), g->text);
    if (v && !strstr(g->text, v->says))
        fail_msg("guest %lld, %s: expected '%s' in: %s", (long long)g->n, who, v->says, g->text);
    if (v && !g->text[0])
        fail_msg("guest %lld, %s: no text", (long long)g->n, who);
    assert_int_equal(atomic_load(&g->calls), 1);
    assert_true(atomic_load(&g->runs) >= 1);
    assert_true(v ? g->receipt.sequence == 0
                  : g->receipt.sequence > 0 && g->last.sequence == g->receipt.sequence);
}

/* Those who behaved are there, each once and in order, and nobody else; then it goes on. */
static inline void assert_outcome(party *p)
{
    fixture *f = p->f;
    static int64_t said[8192];
    size_t there = 0;
    uint64_t last = 0;
    shop_agrees(f);
    size_t n = shop_said(f, SHOP_TYPE, said, HK_COUNTOF(said));
    for (int i = 0; i < GROUP; i++) {
        const guest *g = &p->guests[i];
        assert_guest(g);
        if (g->vice)
            continue;
        assert_true(there < n);
        assert_u64(said[there], g->n);
        assert_true(g->receipt.sequence > last);
        last = g->receipt.sequence;
        there++;
    }
    assert_u64(n, there);
    assert_u64(shop_ask(f, "SELECT count(*) FROM one"), 1);
    assert_u64(shop_ask(f, "SELECT count(*) FROM child"), 0);
    assert_u64(shop_said(f, "other", NULL, 0), 1);
    assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = GROUP}, NULL));
}

/* Closes the bus, and looks at what it left without the library. */
static inline void clear_up(fixture *f, party *p)
{
    if (p->left)
        sqlite3_finalize(p->left);
    p->left = NULL;
    close_bus(f);
    dialect_of(f)->look(f);
    free(p);
}

static inline party *begin_party(void **state)
{
    return shop_open(*state) ? party_new(*state) : NULL;
}

#endif
