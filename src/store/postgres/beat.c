/* beat: this process as a row of `processes`: made when the log is opened, held up by `beat`, and gone when it is
 * closed. Times are the server's, all of them; the process itself counts its lease from before it asked. */
#include "store/postgres/store_i.h"

#include <stdlib.h>

#define MS       INT64_C(1000000)
#define SWEEP_NS (INT64_C(600) * 1000 * MS)

/* A lease is not worth waiting for a standby. */
#define ALONE "(SELECT set_config('synchronous_commit', 'local', true) AS c OFFSET 0) x"

static const hk_pg_sql add = {
    "process_add",
    "WITH p AS (INSERT INTO @processes(who, until) VALUES($1::text, clock_timestamp() + $2::int8 * "
    "interval '1 microsecond') RETURNING id) INSERT INTO @tickets(process_id, ticket) SELECT id, 0 "
    "FROM p RETURNING process_id"};
static const hk_pg_sql live_on = {
    "process_beat",
    "UPDATE @processes SET until = clock_timestamp() + $2::int8 * interval '1 microsecond' "
    "FROM " ALONE
    " WHERE id = $1::int8 AND x.c IS NOT NULL RETURNING (extract(epoch FROM clock_timestamp()) * "
    "1000000)::int8"};
/* Their shares and members are looked at with them, and count as nobody's when they are gone. */
static const hk_pg_sql sweep = {"process_sweep",
                                "WITH p AS (DELETE FROM @processes WHERE until < clock_timestamp() "
                                "- interval '1 hour' AND id <> $1::int8 RETURNING id) DELETE FROM "
                                "@tickets t USING p WHERE t.process_id = p.id"};

static const hk_pg_sql begin_tx = {"process_begin",
                                   "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"};
static const hk_pg_sql commit_tx = {"process_commit", "COMMIT"};
static const hk_pg_sql rollback_tx = {"process_rollback", "ROLLBACK"};
static const hk_pg_sql end[] = {
    {"process_free", "UPDATE @shares SET owner = NULL WHERE owner = $1::int8"},
    {"process_part", "DELETE FROM @members WHERE process_id = $1::int8"},
    {"process_ticket", "DELETE FROM @tickets WHERE process_id = $1::int8"},
    {"process_drop", "DELETE FROM @processes WHERE id = $1::int8"}};

void hk_pg_party_init(hark_store *s, int64_t lease_ms)
{
    s->party = (hk_pg_party){.lease_ns = (lease_ms > 0 ? lease_ms : HK_PG_LEASE_MS) * MS,
                             .swept_at = hk_mono_ns()};
}

void hk_pg_party_free(hark_store *s)
{
    hk_pg_disconnect(&s->party.c);
    free(s->party.known);
    free(s->saves.list);
}

hark_err hk_pg_party_connect(hark_store *s, hark_errinfo *ei)
{
    static const char settings[] = "SET lock_timeout = '2s'; "
                                   "SET idle_in_transaction_session_timeout = '5s'";
    hk_pg *c = &s->party.c;
    if (HK_LIKELY(hk_pg_connected(c)))
        return HARK_OK;
    *c = (hk_pg){
        .info = s->info, .where = s->where, .schema = s->schema, .patience_ms = HK_PG_PARTY_MS};
    hark_err err = hk_pg_connect(c, ei);
    if (!err)
        err = hk_pg_script(c, settings, "preparing a connection", ei);
    if (err)
        hk_pg_disconnect(c);
    if (err && ei)
        ei->err = HARK_ESTORE; /* of what was asked nothing is known */
    return err ? HARK_ESTORE : HARK_OK;
}

hark_err hk_pg_register(hark_store *s, hk_pg *c, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    char who[HK_WHO_MAX];
    hk_who_self(who);
    hk_pg_text(&args, who);
    hk_pg_int(&args, s->party.lease_ns / 1000);
    hark_err err = hk_pg_run(c, &add, &args, &r, "registering this process", ei);
    if (!err)
        hk_mark_set(&s->process, (uint64_t)hk_pg_get_int(r, 0, 0));
    PQclear(r);
    return err;
}

/* False: it is not known to have been done, and may be done once more. */
static bool unregister_by(hk_pg *c, uint64_t id)
{
    hk_pg_args args = {0};
    hk_pg_int(&args, (int64_t)id);
    if (!hk_pg_connected(c))
        return false;
    hark_err err = hk_pg_send(c, &begin_tx, NULL, NULL);
    for (size_t i = 0; i < HK_COUNTOF(end) && !err; i++)
        err = hk_pg_send(c, &end[i], &args, NULL);
    if (!err)
        err = hk_pg_run(c, &commit_tx, NULL, NULL, "closing", NULL);
    if (err && hk_pg_connected(c))
        (void)hk_pg_run(c, &rollback_tx, NULL, NULL, "closing", NULL);
    return !err;
}

/* The connection for beats may turn out to be lost only now: otherwise nobody has its shares until the lease is over. Whoever closes
 * does not wait twice for a server that does not answer. */
void hk_pg_unregister(hark_store *s)
{
    uint64_t id = hk_mark_get(&s->process);
    int64_t since = hk_mono_ns();
    if (!id || unregister_by(&s->party.c, id) || hk_mono_ns() - since > 1000 * MS)
        return;
    s->w.patience_ms = HK_PG_PARTY_MS;
    (void)unregister_by(&s->w, id);
}

/* ---- beats ------------------------------------------------------------------------------------- */

static hark_err ask(hark_store *s, bool *ret_there, int64_t *ret_wall, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)hk_mark_get(&s->process));
    hk_pg_int(&args, s->party.lease_ns / 1000);
    hark_err err =
        hk_pg_run(&s->party.c, &live_on, &args, &r, "saying that this process lives", ei);
    *ret_there = !err && PQntuples(r) > 0;
    if (*ret_there)
        *ret_wall = hk_pg_get_int(r, 0, 0) * 1000;
    PQclear(r);
    return err;
}

/* When nobody does, a log that is opened and left without a word keeps a row for each time. */
static void sweep_now_and_then(hark_store *s)
{
    hk_pg_args args = {0};
    int64_t now = hk_mono_ns();
    if (now - s->party.swept_at < SWEEP_NS)
        return;
    s->party.swept_at = now;
    hk_pg_int(&args, (int64_t)hk_mark_get(&s->process));
    (void)hk_pg_run(&s->party.c, &sweep, &args, NULL, "removing processes that are gone", NULL);
}

/* A connection that turns out to be lost is made anew: the server may have been restarted long ago. Not when that took
 * time to find out. */
static hark_err say(hark_store *s, bool *ret_there, int64_t *ret_wall, int64_t *ret_since,
                    hark_errinfo *ei)
{
    bool fresh = !hk_pg_connected(&s->party.c);
    hark_err err = hk_pg_party_connect(s, ei);
    *ret_since = hk_mono_ns();
    if (!err)
        err = ask(s, ret_there, ret_wall, ei);
    bool late = hk_mono_ns() - *ret_since > 1000 * MS;
    if (!err || fresh || late || hk_pg_connected(&s->party.c))
        return err;
    err = hk_pg_party_connect(s, ei);
    *ret_since = hk_mono_ns();
    return err ? err : ask(s, ret_there, ret_wall, ei);
}

hark_err hk_pg_beat(hark_store *s, int64_t *ret_until, int64_t *ret_ahead, hark_errinfo *ei)
{
    bool there = false;
    int64_t wall = 0, since = 0;
    hark_err err = say(s, &there, &wall, &since, ei);
    if (!err &&
        !there) { /* it was silent for so long that its row was removed: what it had is lost */
        err = hk_pg_register(s, &s->party.c, ei);
        since = hk_mono_ns();
        if (!err)
            err = ask(s, &there, &wall, ei);
    }
    if (err)
        return err;
    int64_t took = hk_mono_ns() - since;
    *ret_until = since + s->party.lease_ns;
    *ret_ahead = wall - (hk_wall_ns() - took / 2);
    sweep_now_and_then(s);
    return HARK_OK;
}
