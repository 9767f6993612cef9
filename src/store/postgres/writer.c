/* writer: the connection that writes: made, looked after, and made again; and what became of a COMMIT whose answer was lost.
 *
 * Each group that is committed counts this process's ticket on, in its row of `tickets`. When the answer is lost,
 * that row tells: locked by the old transaction from then on until it is over, it has the group's ticket exactly when the
 * group was committed. The old transaction may not even have come so far, and still be waiting for the log: whoever asks
 * counts the ticket on, too, so that it fails when it comes. */
#include "store/postgres/store_i.h"

#include <string.h>
#include <time.h>

#define MS          INT64_C(1000000)
#define RETRY_FIRST (50 * MS)
#define RETRY_MOST  (1000 * MS)

/* A program that has the connection and ends the transaction with it (tx.c) must not go on writing. A process that is
 * stopped in a group must let the log go before others have waited for it in vain (lock_timeout in conn.c);
 * for closures see group.c. */
static const char ready[] =
    "SET default_transaction_read_only = on; SET idle_in_transaction_session_timeout = '6s'; "
    /* Ours go by indexes, and to plan one anew costs more than to run it. For closures see group.c. */
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off";
_Static_assert(HK_PG_IDLE_MS == 6000, "the text above says the same");
static const hk_pg_sql server_class = {"server_class",
                                       "SELECT pg_is_in_recovery(), current_setting('fsync'), "
                                       "current_setting('synchronous_commit'), "
                                       "current_setting('synchronous_standby_names')"};
static const hk_pg_sql who_am_i = {
    "who_am_i", "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::int8 FROM "
                "pg_stat_activity WHERE pid = pg_backend_pid()"};
static const hk_pg_sql terminate = {
    "terminate", "SELECT CASE WHEN $3::int8 = 0 THEN false ELSE pg_terminate_backend(pid) END FROM "
                 "pg_stat_activity WHERE pid = $1::int8 AND "
                 "(extract(epoch FROM backend_start) * 1000000)::int8 = $2"};
/* When the group with ticket $2 is not there by now, it never will be: see note_ticket in group.c. */
static const hk_pg_sql settle_ticket = {
    "settle_ticket", "UPDATE @tickets SET ticket = CASE WHEN ticket = $2::int8 THEN $2 ELSE $2 + 1 "
                     "END WHERE process_id = $1::int8 RETURNING ticket"};

/* Splitmix64 (Steele, Lea, Flood, 2014). */
uint64_t hk_pg_mix(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void pause_for(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / (1000 * MS), .tv_nsec = ns % (1000 * MS)};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

int64_t hk_pg_backoff(int64_t *tries, uint64_t *jitter)
{
    int64_t most = *tries < 5 ? RETRY_FIRST << *tries : RETRY_MOST;
    (*tries)++;
    return most / 2 + (int64_t)(hk_pg_mix(jitter) % (uint64_t)(most / 2));
}

/* ---- after which no write may be tried --------------------------------------------------------- */

static hark_err refuse_broken(const hark_store *s, hark_errinfo *ei)
{
    return hk_fail(ei, s->broken,
                   "%s takes no more writes after an earlier failure (%s); look at the server and "
                   "open the log again",
                   s->where, hark_err_name(s->broken));
}

hark_err hk_pg_note(hark_store *s, hark_err err)
{
    if (err == HARK_EREADONLY || err == HARK_ECORRUPT)
        s->broken = err;
    return err;
}

/* ---- who serves us ------------------------------------------------------------------------------ */

static void remember(hark_store *s, hk_pg_backend now)
{
    if (s->serves.pid == now.pid && s->serves.started == now.started)
        return;
    if (s->n_earlier == HK_PG_EARLIER) /* all still there: the oldest has had most time to go */
        memmove(s->earlier, s->earlier + 1, --s->n_earlier * sizeof *s->earlier);
    if (s->serves.pid)
        s->earlier[s->n_earlier++] = s->serves;
    s->serves = now;
}

static hark_err know_backend(hark_store *s, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_run(&s->w, &who_am_i, NULL, &r, "asking who we are", ei);
    if (!err && PQntuples(r) == 1)
        remember(s, (hk_pg_backend){hk_pg_get_int(r, 0, 0), hk_pg_get_int(r, 0, 1)});
    else if (!err)
        err = hk_fail(ei, HARK_ESTORE, "%s does not tell which backend serves us; try again",
                      s->where);
    PQclear(r);
    return err;
}

static bool end_one(hark_store *s, hk_pg_backend b, bool by_force, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_int(&args, b.pid);
    hk_pg_int(&args, b.started);
    hk_pg_int(&args, by_force);
    hark_err err = hk_pg_run(&s->w, &terminate, &args, &r, "ending the last connection", ei);
    bool gone = !err && PQntuples(r) == 0;
    PQclear(r);
    return gone;
}

/* What earlier connections of ours left at the server would hold the log until the server misses us. Those that are gone
 * are forgotten. A backend that waits for a standby is left alone: ended, it would have committed here without
 * the standby having confirmed it. */
static hark_err end_earlier(hark_store *s, hark_errinfo *ei)
{
    bool by_force = hk_mark_get(&s->durability) != HARK_REPLICATED;
    size_t n = 0;
    for (size_t i = 0; i < s->n_earlier; i++)
        if (!end_one(s, s->earlier[i], by_force, ei))
            s->earlier[n++] = s->earlier[i];
    s->n_earlier = n;
    return hk_pg_connected(&s->w) ? HARK_OK : HARK_ESTORE;
}

/* ---- connecting -------------------------------------------------------------------------------- */

static hark_durability class_of(const PGresult *r)
{
    const char *fsync = hk_pg_get_text(r, 0, 1, NULL), *sync = hk_pg_get_text(r, 0, 2, NULL);
    const char *standbys = hk_pg_get_text(r, 0, 3, NULL);
    if (!fsync || strcmp(fsync, "on") != 0 || !sync || strcmp(sync, "off") == 0)
        return HARK_MEMORY;
    bool waits = strcmp(sync, "on") == 0 || strcmp(sync, "remote_apply") == 0;
    return waits && standbys && *standbys ? HARK_REPLICATED : HARK_DISK;
}

static hark_err look_at_server(hark_store *s, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_run(&s->w, &server_class, NULL, &r, "looking at the server", ei);
    if (!err && hk_pg_get_int(r, 0, 0)) /* it may be promoted yet */
        err = hk_fail(ei, s->known ? HARK_ESTORE : HARK_EREADONLY,
                      "%s is a standby and takes no writes; give the URL of the primary", s->where);
    if (!err)
        hk_mark_set(&s->durability, (uint64_t)class_of(r));
    PQclear(r);
    return err;
}

static hark_err attach(hark_store *s, hark_errinfo *ei)
{
    hark_err err = hk_pg_connected(&s->w) ? HARK_OK : hk_pg_connect(&s->w, ei);
    if (!err)
        err = know_backend(s, ei);
    return err ? err : end_earlier(s, ei);
}

static hark_err failed(hark_store *s, hark_err err, hark_errinfo *ei)
{
    hk_pg_disconnect(&s->w);
    s->retry_at = hk_mono_ns() + hk_pg_backoff(&s->retries, &s->jitter);
    if (!s->known)
        return err;
    if (hark_err_class(err) == HARK_CLASS_REFUSED) /* the password was changed, ... */
        err = HARK_ESTORE;
    if (ei)
        ei->err = err;
    return hk_pg_note(s, err);
}

hark_err hk_pg_writer(hark_store *s, hark_errinfo *ei)
{
    int64_t now = hk_mono_ns();
    if (HK_UNLIKELY(s->broken))
        return refuse_broken(s, ei);
    if (HK_LIKELY(s->w.writer))
        return HARK_OK;
    if (now < s->retry_at)
        return hk_fail(ei, HARK_ESTORE, "%s: no connection; the next attempt is in %lld ms",
                       s->where, (long long)((s->retry_at - now) / MS + 1));
    hark_err err = attach(s, ei);
    if (!err)
        err = look_at_server(s, ei);
    if (!err)
        err = hk_pg_load(s, &s->w, ei);
    if (!err)
        err = hk_pg_script(&s->w, ready, "preparing to write", ei);
    if (err)
        return failed(s, err, ei);
    s->retries = 0;
    s->used_at = hk_mono_ns();
    s->w.opening = false;
    s->w.writer = s->known = true;
    return HARK_OK;
}

/* ---- a commit without an answer ---------------------------------------------------------------- */

/* Waits for the old transaction to be over. Its own commit also tells that what was found is with the standbys. */
static hark_err read_ticket(hark_store *s, uint64_t ticket, uint64_t *ret, bool *ret_there,
                            hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)s->ticket_of);
    hk_pg_int(&args, (int64_t)ticket);
    hark_err err = hk_pg_script(&s->w, "SET lock_timeout = '2s'", "preparing to ask", ei);
    if (!err)
        err = hk_pg_run(&s->w, &settle_ticket, &args, &r, "asking for the last commit", ei);
    *ret_there = !err && PQntuples(r) == 1;
    if (*ret_there)
        *ret = (uint64_t)hk_pg_get_int(r, 0, 0);
    PQclear(r);
    return err;
}

static hark_err last_ticket(hark_store *s, uint64_t ticket, uint64_t *ret, bool *ret_there,
                            hark_errinfo *ei)
{
    int64_t until = hk_mono_ns() + HK_PG_RESOLVE_NS;
    hark_err err;
    s->retries = 0;
    for (;;) {
        s->w.patience_ms = (int)(HK_PG_RESOLVE_NS / MS);
        err = attach(s, ei);
        if (!err)
            err = read_ticket(s, ticket, ret, ret_there, ei);
        if (!err || hk_mono_ns() >= until)
            break;
        hk_pg_disconnect(&s->w);
        pause_for(hk_pg_backoff(&s->retries, &s->jitter));
    }
    hk_pg_disconnect(&s->w); /* it was not made ready to write, as the next is */
    return err;
}

hark_err hk_pg_resolve(hark_store *s, uint64_t ticket, hark_errinfo *ei)
{
    hark_errinfo why = {0};
    uint64_t last = 0;
    bool there = false;
    hark_err err = last_ticket(s, ticket, &last, &there, &why);
    s->ticket = ticket + 1; /* the one that settles it */
    if (there && last == ticket)
        return HARK_OK;
    if (there)
        return hk_fail(ei, HARK_ESTORE,
                       "%s: the connection was lost while committing, and nothing was stored; try "
                       "again",
                       s->where);
    return hk_fail(ei, HARK_EUNKNOWN,
                   "%s: the connection was lost while committing, and whether it was stored could "
                   "not be found out (%s); repeating with the same id is safe",
                   s->where, err ? why.text : "this process is not registered any more");
}
