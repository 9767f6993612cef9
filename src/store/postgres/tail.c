/* tail: waits for what other processes do with the log. A connection of its own asks where the log is: often while something
 * comes, more and more seldom while nothing does. In between it listens for notifications, which make it ask
 * at once.
 *
 * A notification is a hint and no more: a process that has none to listen (it reconnects, its hint was coalesced, a pooler
 * is in between) is late by one pause of its asking. Therefore it need not be part of what it hints at: it is sent
 * from here, after the commit, at most once in a while, and only while others live. Within the group's transaction it would
 * cost every commit the lock over all the server's databases under which NOTIFY commits.
 *
 * Kinds: e, events; c, consumers and whose their shares are; s, schedules. */
#include "store/postgres/store_i.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MS          INT64_C(1000000)
#define PAUSE_FIRST (5 * MS)
#define PAUSE_MOST  (1000 * MS)
#define HINTS_APART (10 * MS)
#define PATIENCE_MS 10000

static const hk_pg_sql look = {
    "tail",
    "SELECT l.last, l.epoch, l.lost_from, l.lost_to, (SELECT min(seq) FROM @events), (SELECT "
    "max(id) FROM @news), (SELECT max(id) FROM @schedules), (SELECT count(*) FROM @processes WHERE "
    "id <> $1::int8 AND until > clock_timestamp()) FROM @log l"};
enum { T_LAST, T_EPOCH, T_LOST_FROM, T_LOST_TO, T_FIRST, T_NEWS, T_SCHEDULES, T_OTHERS };
/* Not worth waiting for a disk. */
static const hk_pg_sql notify = {
    "notify",
    "SELECT pg_notify($1::text, $2::text), set_config('synchronous_commit', 'off', true)"};

/* ---- from other threads ------------------------------------------------------------------------ */

static void wake(hark_store *s)
{
    const uint64_t one = 1;
    (void)!write(s->tail.wake, &one, sizeof one); /* full: it is awake anyway */
}

void hk_pg_hint(hark_store *s, hk_mark *hint)
{
    uint64_t was = hk_mark_swap(hint, 1);
    if (hk_mark_get(&s->others) && (!was || hint != &s->hint_events))
        wake(s);
}

void hk_pg_tail_wake(hark_store *s)
{
    hk_mark_set(&s->tail_ends, 1);
    wake(s);
}

/* ---- the connection ---------------------------------------------------------------------------- */

hark_err hk_pg_tail_init(hark_store *s, hark_errinfo *ei)
{
    hk_pg_tail_state *t = &s->tail;
    t->c = (hk_pg){.info = s->info, .where = s->where, .schema = s->schema};
    t->pause = PAUSE_FIRST;
    hk_random(&t->jitter, sizeof t->jitter);
    t->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->wake >= 0)
        return HARK_OK;
    return hk_fail(ei, HARK_ESTORE, "no file descriptor to follow a log with; raise the limit");
}

void hk_pg_tail_free(hark_store *s)
{
    hk_pg_disconnect(&s->tail.c);
    if (s->tail.wake > 0)
        (void)close(s->tail.wake);
}

static void channel(const hark_store *s, char ret[24])
{
    (void)snprintf(ret, 24, "hark_%d", s->lock_no);
}

static hark_err listen_there(hark_store *s, hark_errinfo *ei)
{
    char text[160], name[24];
    hk_pg *c = &s->tail.c;
    channel(s, name);
    (void)snprintf(text, sizeof text,
                   "SET default_transaction_read_only = on; SET enable_seqscan = off; SET jit = "
                   "off; LISTEN %s",
                   name);
    c->patience_ms = PATIENCE_MS;
    hark_err err = hk_pg_connect(c, ei);
    if (!err)
        err = hk_pg_load(s, c, ei);
    return err ? err : hk_pg_script(c, text, "preparing to follow the log", ei);
}

/* Hints may have been missed. */
static hark_err connect(hark_store *s, hark_errinfo *ei)
{
    hk_pg_tail_state *t = &s->tail;
    hark_err err = listen_there(s, ei);
    if (err) {
        hk_pg_disconnect(&t->c);
        t->retry_at = hk_mono_ns() + hk_pg_backoff(&t->retries, &t->jitter);
        if (hark_err_class(err) == HARK_CLASS_REFUSED) { /* it was let in when the log was opened */
            err = HARK_ESTORE;
            if (ei)
                ei->err = err;
        }
        return err;
    }
    t->retries = 0;
    t->pause = PAUSE_FIRST;
    t->shares = t->schedules = true;
    return HARK_OK;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

static void take_hints(hk_pg_tail_state *t)
{
    PGnotify *n;
    while (t->c.pg && (n = PQnotifies(t->c.pg)) != NULL) {
        if (n->be_pid != PQbackendPID(t->c.pg)) {
            t->shares = t->shares || n->extra[0] == 'c';
            t->schedules = t->schedules || n->extra[0] == 's';
            t->pause = PAUSE_FIRST;
            t->hinted = true;
        }
        PQfreemem(n);
    }
}

/* Until `at` (mono ns), a hint, or a call of wake. Without a connection only for the latter. */
static hark_err wait_until(hk_pg_tail_state *t, int64_t at, hark_errinfo *ei)
{
    struct pollfd p[2] = {{.fd = t->wake, .events = POLLIN},
                          {.fd = t->c.pg ? PQsocket(t->c.pg) : -1, .events = POLLIN}};
    int64_t left = at - hk_mono_ns();
    uint64_t n;
    if (left <= 0 || poll(p, 2, (int)((left + MS - 1) / MS)) <= 0)
        return HARK_OK;
    if (p[0].revents)
        (void)!read(t->wake, &n, sizeof n);
    if (!p[1].revents)
        return HARK_OK;
    if (!PQconsumeInput(t->c.pg)) {
        hark_err err = hk_pg_fail(&t->c, NULL, "following the log", ei);
        hk_pg_disconnect(&t->c);
        return err;
    }
    take_hints(t);
    return HARK_OK;
}

/* Not before the time for the next attempt. */
static hark_err connected(hark_store *s, int64_t until, hark_errinfo *ei)
{
    hk_pg_tail_state *t = &s->tail;
    if (HK_LIKELY(hk_pg_connected(&t->c)))
        return HARK_OK;
    while (hk_mono_ns() < t->retry_at && hk_mono_ns() < until && !hk_mark_get(&s->tail_ends))
        (void)wait_until(t, t->retry_at < until ? t->retry_at : until, NULL);
    if (hk_mono_ns() < t->retry_at)
        return hk_fail(ei, HARK_ESTORE, "%s: no connection to follow the log with", s->where);
    return connect(s, ei);
}

/* ---- asking ------------------------------------------------------------------------------------ */

/* Those whose mark is set, if there is anybody to hear them; they go with the question. */
static hark_err send_hints(hark_store *s, hark_errinfo *ei)
{
    hk_mark *const marks[] = {&s->hint_events, &s->hint_shares, &s->hint_schedules};
    static const char *const kinds[] = {"e", "c", "s"};
    hk_pg_tail_state *t = &s->tail;
    int64_t now = hk_mono_ns();
    char name[24];
    hark_err err = HARK_OK;
    if (now < t->hints_at)
        return HARK_OK;
    channel(s, name);
    for (size_t i = 0; i < HK_COUNTOF(marks) && !err; i++) {
        hk_pg_args args = {0};
        if (!hk_mark_get(marks[i]))
            continue;
        hk_mark_set_strong(marks[i], 0);
        if (!hk_mark_get(&s->others))
            continue;
        hk_pg_text(&args, name);
        hk_pg_text(&args, kinds[i]);
        err = hk_pg_send(&t->c, &notify, &args, ei);
        t->hints_at = now + HINTS_APART;
    }
    return err;
}

static bool have_hints(hark_store *s)
{
    return hk_mark_get(&s->others) &&
           (hk_mark_get(&s->hint_events) || hk_mark_get(&s->hint_shares) ||
            hk_mark_get(&s->hint_schedules));
}

static void take_epoch(hark_store *s, const PGresult *r, hark_store_tail *ret)
{
    uint64_t from = (uint64_t)hk_pg_get_int(r, 0, T_LOST_FROM);
    uint64_t to = (uint64_t)hk_pg_get_int(r, 0, T_LOST_TO);
    if (ret->epoch == s->tail.epoch)
        return;
    s->tail.epoch = ret->epoch;
    hk_mark_set(&s->epoch, ret->epoch);
    if (from <= to) {
        ret->lost_from = from;
        ret->lost_to = to;
    }
}

static void take_counters(hark_store *s, const PGresult *r)
{
    hk_pg_tail_state *t = &s->tail;
    uint64_t others = (uint64_t)hk_pg_get_int(r, 0, T_OTHERS);
    int64_t news = hk_pg_get_int(r, 0, T_NEWS), schedules = hk_pg_get_int(r, 0, T_SCHEDULES);
    t->shares = t->shares || news > t->news || others != hk_mark_get(&s->others);
    t->schedules = t->schedules || schedules > t->newest_schedule;
    t->news = news;
    t->newest_schedule = schedules;
    hk_mark_set(&s->others, others);
}

/* *ret_lost: the log ends before what is known to have been there. */
static hark_err ask(hark_store *s, hark_store_tail *ret, bool *ret_lost, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    uint64_t known = hk_pg_shown(s);
    hk_pg_int(&args, (int64_t)hk_mark_get(&s->process));
    hark_err err = send_hints(s, ei);
    if (!err)
        err = hk_pg_run(&s->tail.c, &look, &args, &r, "following the log", ei);
    if (!err && PQntuples(r) != 1)
        err = hk_fail(ei, HARK_ECORRUPT,
                      "%s: the table %s.log does not have its one row; restore from a backup",
                      s->where, s->schema);
    if (!err) {
        ret->last = (uint64_t)hk_pg_get_int(r, 0, T_LAST);
        ret->epoch = (uint64_t)hk_pg_get_int(r, 0, T_EPOCH);
        *ret_lost = ret->last < known;
    }
    if (!err && !*ret_lost) {
        hk_pg_show(s, (uint64_t)hk_pg_get_int(r, 0, T_FIRST), ret->last);
        take_epoch(s, r, ret);
        take_counters(s, r);
    }
    PQclear(r);
    take_hints(&s->tail);
    return err;
}

static hark_err look_now(hark_store *s, hark_store_tail *ret, hark_errinfo *ei)
{
    bool lost = false;
    s->tail.hinted = false;
    hark_err err = ask(s, ret, &lost, ei);
    if (HK_LIKELY(err || !lost))
        return err;
    err = hk_pg_load(s, &s->tail.c, ei);
    if (!err)
        err = ask(s, ret, &lost, ei);
    return err || !lost
               ? err
               : hk_fail(ei, HARK_ESTORE, "%s: the log is behind itself; try again", s->where);
}

/* ---- the call ---------------------------------------------------------------------------------- */

static bool is_news(hk_pg_tail_state *t, uint64_t after, hark_store_tail *ret)
{
    ret->shares = t->shares;
    ret->schedules = t->schedules;
    t->shares = t->schedules = false;
    return ret->last > after || ret->shares || ret->schedules || ret->lost_to;
}

/* When to ask again: sooner when hints are to be sent. Alone there is nobody who could do something, and whoever comes
 * sends hints. */
static int64_t next_look(hark_store *s, int64_t until)
{
    hk_pg_tail_state *t = &s->tail;
    int64_t now = hk_mono_ns();
    int64_t at = now + (hk_mark_get(&s->others) ? t->pause : PAUSE_MOST);
    if (have_hints(s) && t->hints_at < at)
        at = t->hints_at;
    t->pause = t->pause < PAUSE_MOST / 2 ? t->pause * 2 : PAUSE_MOST;
    return at < until ? at : until;
}

static hark_err follow(hark_store *s, uint64_t after, int64_t until, hark_store_tail *ret,
                       hark_errinfo *ei)
{
    hk_pg_tail_state *t = &s->tail;
    for (;;) {
        hark_err err = look_now(s, ret, ei);
        if (err)
            return err;
        if (is_news(t, after, ret)) {
            t->pause = PAUSE_FIRST;
            return HARK_OK;
        }
        int64_t at = next_look(s, until);
        while (!t->hinted && hk_mono_ns() < at && !hk_mark_get(&s->tail_ends)) {
            err = wait_until(t, at, ei);
            if (err)
                return err;
            if (have_hints(s) && t->hints_at < at)
                at = t->hints_at;
        }
        if (hk_mark_get(&s->tail_ends) || hk_mono_ns() >= until)
            return HARK_OK;
    }
}

hark_err hk_pg_tail(hark_store *s, uint64_t after, int64_t timeout_ns, hark_store_tail *ret,
                    hark_errinfo *ei)
{
    int64_t now = hk_mono_ns();
    int64_t until = timeout_ns < 0 || timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
    *ret = (hark_store_tail){
        .size = sizeof *ret, .last = hk_pg_shown(s), .epoch = hk_mark_get(&s->epoch)};
    if (!s->tail.epoch)
        s->tail.epoch = ret->epoch;
    hark_err err = connected(s, until, ei);
    if (!err)
        err = follow(s, after, until, ret, ei);
    hk_mark_set(&s->tail_ends, 0);
    return err;
}
