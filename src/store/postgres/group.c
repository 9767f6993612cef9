/* group: the writer's connection and its transactions. A group is one transaction, whose BEGIN goes with its first statement; it
 * ends with one flush that also notes where the log is now, and the group's ticket: a random number, by which one
 * can tell, when the connection is lost before the answer, whether it was committed. */
#include "store/postgres/store_i.h"

#include <string.h>
#include <time.h>

#define MS INT64_C(1000000)
#define LOCK_PATIENCE                                                                              \
    (1500 * MS) /* a process that was killed holds its locks until the server notices */
#define RETRY_FIRST (50 * MS)
#define RETRY_MOST  (1000 * MS)

static const hk_pg_sql begin_tx = {"begin", "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"};
/* A program that has the connection and ends the transaction with it (tx.c) must not go on writing. */
static const hk_pg_sql only_groups_write = {"only_groups_write",
                                            "SET default_transaction_read_only = on"};
static const hk_pg_sql commit_tx = {"commit", "COMMIT"};
static const hk_pg_sql rollback_tx = {"rollback", "ROLLBACK"};
/* Fails when the log is not where this process left it. */
static const hk_pg_sql note_place = {
    "note_place", "WITH u AS (UPDATE @log SET last = $1, recorded = $2, ticket = $3 WHERE ticket = "
                  "$4 RETURNING 1) SELECT 1 / count(*) FROM u"};
static const hk_pg_sql get_ticket = {"get_ticket", "SELECT ticket FROM @log"};
static const hk_pg_sql take_lock = {
    "take_lock",
    "SELECT pg_try_advisory_lock(($1::int8)::int4, ($2::int8)::int4), "
    "pg_is_in_recovery(), current_setting('fsync'), current_setting('synchronous_commit'), "
    "current_setting('synchronous_standby_names')"};
static const hk_pg_sql who_am_i = {
    "who_am_i", "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::int8 FROM "
                "pg_stat_activity WHERE pid = pg_backend_pid()"};
static const hk_pg_sql find_holder = {
    "find_holder",
    "SELECT a.pid, a.application_name, a.client_addr::text, (extract(epoch FROM a.backend_start) * "
    "1000000)::int8 FROM pg_locks l JOIN pg_stat_activity a "
    "ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 AND "
    "l.classid::int8 = $1 AND l.objid::int8 = $2 AND l.database = (SELECT oid FROM pg_database "
    "WHERE datname = current_database())"};
static const hk_pg_sql terminate = {
    "terminate", "SELECT CASE WHEN $3::int8 = 0 THEN false ELSE pg_terminate_backend(pid) END FROM "
                 "pg_stat_activity WHERE pid = $1::int8 AND "
                 "(extract(epoch FROM backend_start) * 1000000)::int8 = $2"};

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

/* Doubling, and between half and all of it. */
static int64_t backoff(hark_store *s)
{
    int64_t most = s->retries < 5 ? RETRY_FIRST << s->retries : RETRY_MOST;
    s->retries++;
    return most / 2 + (int64_t)(hk_pg_mix(&s->jitter) % (uint64_t)(most / 2));
}

/* ---- after which no write may be tried --------------------------------------------------------- */

static hark_err refuse_broken(const hark_store *s, hark_errinfo *ei)
{
    hark_err err = s->broken == HARK_ECORRUPT ? HARK_ECORRUPT : HARK_EREADONLY;
    return hk_fail(ei, err,
                   "%s takes no more writes after an earlier failure (%s); look at the server and "
                   "open the log again",
                   s->where, hark_err_name(s->broken));
}

hark_err hk_pg_note(hark_store *s, hark_err err)
{
    if (err == HARK_EUNKNOWN || err == HARK_EREADONLY || err == HARK_ECORRUPT)
        s->broken = err;
    return err;
}

/* ---- the lock ---------------------------------------------------------------------------------- */

static hark_durability class_of(const PGresult *r)
{
    const char *fsync = hk_pg_get_text(r, 0, 2, NULL), *sync = hk_pg_get_text(r, 0, 3, NULL);
    const char *standbys = hk_pg_get_text(r, 0, 4, NULL);
    if (!fsync || strcmp(fsync, "on") != 0 || !sync || strcmp(sync, "off") == 0)
        return HARK_MEMORY;
    bool waits = strcmp(sync, "on") == 0 || strcmp(sync, "remote_apply") == 0;
    return waits && standbys && *standbys ? HARK_REPLICATED : HARK_DISK;
}

static void lock_args(const hark_store *s, hk_pg_args *args)
{
    *args = (hk_pg_args){0};
    hk_pg_int(args, HK_PG_LOCK);
    hk_pg_int(args, s->lock_no);
}

static bool is_ours(const hark_store *s, hk_pg_backend b)
{
    for (size_t i = 0; i < s->n_earlier; i++)
        if (s->earlier[i].pid == b.pid && s->earlier[i].started == b.started)
            return true;
    return false;
}

static hark_err held(const hark_store *s, const PGresult *r, hark_errinfo *ei)
{
    const hk_pg_backend b = {hk_pg_get_int(r, 0, 0), hk_pg_get_int(r, 0, 3)};
    const char *name = hk_pg_get_text(r, 0, 1, NULL), *from = hk_pg_get_text(r, 0, 2, NULL);
    if (is_ours(s, b))
        return hk_fail(ei, HARK_ESTORE,
                       "%s: the server has not noticed yet that the last connection is gone; try "
                       "again",
                       s->where);
    return hk_fail(ei, HARK_ELOCKED,
                   "%s: the log %s is held by another process (backend %lld, %s from %s); close "
                   "it there first, or give the log another name with ?log=NAME",
                   s->where, s->schema, (long long)b.pid, name && *name ? name : "unnamed",
                   from ? from : "this machine");
}

static hark_err locked(hark_store *s, hark_errinfo *ei)
{
    hk_pg_args args;
    PGresult *r = NULL;
    lock_args(s, &args);
    hark_err err = hk_pg_run(&s->w, &find_holder, &args, &r, "asking who has the log", ei);
    if (err)
        return err;
    if (PQntuples(r) > 0)
        err = held(s, r, ei);
    else
        err = hk_fail(ei, HARK_ESTORE,
                      "%s: the log %s was held, and was released this moment; try again", s->where,
                      s->schema);
    PQclear(r);
    return err;
}

/* *ret_got false: somebody else has it. */
static hark_err try_lock(hark_store *s, bool *ret_got, hark_errinfo *ei)
{
    hk_pg_args args;
    PGresult *r = NULL;
    lock_args(s, &args);
    hark_err err = hk_pg_run(&s->w, &take_lock, &args, &r, "taking the log's lock", ei);
    if (err)
        return err;
    *ret_got = hk_pg_get_int(r, 0, 0) != 0;
    if (*ret_got && hk_pg_get_int(r, 0, 1)) /* it may be promoted yet */
        err = hk_fail(ei, s->known ? HARK_ESTORE : HARK_EREADONLY,
                      "%s is a standby and takes no writes; give the URL of the primary", s->where);
    if (*ret_got && !err) {
        s->w.writer = true;
        hk_mark_set(&s->durability, (uint64_t)class_of(r));
    }
    PQclear(r);
    return err;
}

static hark_err wait_for_lock(hark_store *s, hark_errinfo *ei)
{
    int64_t until = hk_mono_ns() + LOCK_PATIENCE;
    bool got = false;
    hark_err err = try_lock(s, &got, ei);
    while (!err && !got && hk_mono_ns() < until) {
        pause_for(10 * MS + (int64_t)(hk_pg_mix(&s->jitter) % (20 * MS)));
        err = try_lock(s, &got, ei);
    }
    return err || got ? err : locked(s, ei);
}

/* ---- connecting -------------------------------------------------------------------------------- */

static void remember(hark_store *s, hk_pg_backend now)
{
    if (s->pid == now.pid && s->started == now.started)
        return;
    if (s->n_earlier == HK_PG_EARLIER) /* all still there: the oldest has had most time to go */
        memmove(s->earlier, s->earlier + 1, --s->n_earlier * sizeof *s->earlier);
    if (s->pid)
        s->earlier[s->n_earlier++] = (hk_pg_backend){s->pid, s->started};
    s->pid = (int)now.pid;
    s->started = now.started;
}

/* Before the lock is tried: when the answer to that is lost, this connection may have it. */
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

/* What earlier connections of ours left at the server would hold the lock until the server misses us. Those that
 * are gone are forgotten. */
static hark_err end_earlier(hark_store *s, bool by_force, hark_errinfo *ei)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_earlier; i++)
        if (!end_one(s, s->earlier[i], by_force, ei))
            s->earlier[n++] = s->earlier[i];
    s->n_earlier = n;
    return hk_pg_connected(&s->w) ? HARK_OK : HARK_ESTORE;
}

/* A connection with the log's lock. */
static hark_err attach(hark_store *s, bool by_force, hark_errinfo *ei)
{
    hark_err err = hk_pg_connected(&s->w) ? HARK_OK : hk_pg_connect(&s->w, ei);
    if (!err)
        err = know_backend(s, ei);
    if (!err)
        err = end_earlier(s, by_force, ei);
    return err ? err : wait_for_lock(s, ei);
}

static hark_err failed(hark_store *s, hark_err err, hark_errinfo *ei)
{
    hk_pg_disconnect(&s->w);
    s->retry_at = hk_mono_ns() + backoff(s);
    if (!s->known)
        return err;
    if (err == HARK_ELOCKED || err == HARK_ECORRUPT || err == HARK_EREADONLY) {
        s->broken = err;
        err = err == HARK_ELOCKED ? HARK_EREADONLY : err;
    } else if (hark_err_class(err) == HARK_CLASS_REFUSED) { /* the password was changed, ... */
        err = HARK_ESTORE;
    }
    if (ei)
        ei->err = err;
    return err;
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
    hark_err err = attach(s, true, ei);
    if (!err)
        err = hk_pg_load(s, ei);
    if (!err)
        err = hk_pg_run(&s->w, &only_groups_write, NULL, NULL, "preparing to write", ei);
    if (err)
        return failed(s, err, ei);
    s->retries = 0;
    s->used_at = hk_mono_ns();
    s->w.opening = false;
    return HARK_OK;
}

/* ---- groups ------------------------------------------------------------------------------------ */

hark_err hk_pg_begin(hark_store *s, hark_errinfo *ei)
{
    hark_err err = hk_pg_writer(s, ei);
    if (err)
        return err;
    s->kept = s->now;
    s->entered = false;
    s->in_group = true;
    return HARK_OK;
}

hark_err hk_pg_enter(hark_store *s, const char *op, hark_errinfo *ei)
{
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "%s outside of a group", op);
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
    return err;
}

void hk_pg_rollback(hark_store *s)
{
    if (!s->in_group)
        return;
    s->in_group = s->entered = false;
    s->tx = (hk_pg_closure){0};
    memset(s->passes, 0, sizeof s->passes);
    hk_pg_batch_back(&s->batch, 0);
    s->now = s->kept;
    if (!s->w.in_tx)
        return;
    (void)hk_pg_flush(&s->w, "rolling back", NULL);
    if (hk_pg_connected(&s->w) &&
        hk_pg_run(&s->w, &rollback_tx, NULL, NULL, "rolling back", NULL) != HARK_OK)
        hk_pg_disconnect(&s->w); /* the server rolls back then */
    s->w.in_tx = false;
}

/* ---- a commit without an answer ---------------------------------------------------------------- */

static hark_err read_ticket(hark_store *s, uint64_t *ret, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_run(&s->w, &get_ticket, NULL, &r, "asking for the last commit", ei);
    if (!err)
        *ret = (uint64_t)hk_pg_get_int(r, 0, 0);
    PQclear(r);
    return err;
}

/* With the lock nobody else can have written since, and the old transaction is over. A backend that waits for a
 * standby is left alone: ended, it would have committed here without the standby having confirmed it. */
static hark_err last_ticket(hark_store *s, uint64_t *ret, hark_errinfo *ei)
{
    bool by_force = hk_mark_get(&s->durability) != HARK_REPLICATED;
    int64_t until = hk_mono_ns() + HK_PG_RESOLVE_NS;
    hark_err err;
    s->retries = 0;
    for (;;) {
        err = attach(s, by_force, ei);
        if (!err)
            err = read_ticket(s, ret, ei);
        if (!err)
            break;
        hk_pg_disconnect(&s->w);
        if (err == HARK_ELOCKED || hk_mono_ns() >= until)
            break;
        pause_for(backoff(s));
    }
    return err;
}

static hark_err resolve(hark_store *s, uint64_t ticket, hark_errinfo *ei)
{
    hark_errinfo why = {0};
    uint64_t last = 0;
    hark_err err = last_ticket(s, &last, &why);
    hk_pg_disconnect(&s->w); /* it has the lock but was not made ready to write, as the next is */
    if (!err && last == ticket)
        return HARK_OK;
    if (!err && last == s->ticket)
        return hk_fail(ei, HARK_ESTORE,
                       "%s: the connection was lost while committing, and nothing was stored; try "
                       "again",
                       s->where);
    return hk_fail(
        ei, HARK_EUNKNOWN,
        "%s: the connection was lost while committing, and whether it was stored could "
        "not be found out (%s); see to the server and open the log again; repeating with "
        "the same id is safe",
        s->where, err ? why.text : "another process has written since");
}

/* ---- commit ------------------------------------------------------------------------------------ */

static hark_err send_place(hark_store *s, uint64_t ticket, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_int(&args, (int64_t)s->now.last);
    hk_pg_int(&args, s->now.recorded);
    hk_pg_int(&args, (int64_t)ticket);
    hk_pg_int(&args, (int64_t)s->ticket);
    return hk_pg_send(&s->w, &note_place, &args, ei);
}

static hark_err commit(hark_store *s, hark_errinfo *ei)
{
    PGresult *r = NULL;
    uint64_t ticket = hk_pg_mix(&s->jitter) >> 1;
    hark_err err = hk_pg_enter(s, "commit", ei); /* is the transaction still there? */
    if (!err)
        err = send_place(s, ticket, ei);
    if (err)
        return err;
    err = hk_pg_run(&s->w, &commit_tx, NULL, &r, "committing", ei);
    if (!err && strcmp(PQcmdStatus(r), "COMMIT") != 0)
        err = hk_fail(ei, HARK_ESTORE, "%s rolled the group back; try again", s->where);
    else if (err && !hk_pg_connected(&s->w))
        err = resolve(s, ticket, ei);
    PQclear(r);
    if (err)
        return err;
    s->w.in_tx = false;
    s->ticket = ticket;
    s->used_at = hk_mono_ns();
    return HARK_OK;
}

static void show(hark_store *s)
{
    if (s->now.last == s->shown.last && s->now.first == s->shown.first)
        return;
    pthread_mutex_lock(&s->lock);
    s->shown = s->now;
    pthread_mutex_unlock(&s->lock);
}

hark_err hk_pg_commit(hark_store *s, hark_errinfo *ei)
{
    hark_errinfo why = {0};
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "commit without a group");
    hark_err err = hk_pg_append_flush(s, &why);
    if (!err && s->entered)
        err = commit(s, &why);
    if (HK_UNLIKELY(err)) {
        (void)hk_pg_note(s, err);
        hk_pg_rollback(s);
        return hk_fail(ei, err, "%s", why.text);
    }
    s->in_group = s->entered = false;
    s->kept = s->now;
    show(s);
    return HARK_OK;
}
