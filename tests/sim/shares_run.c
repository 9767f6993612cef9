/* shares_run.c: one process of several, as src/bus is: it says that it lives, asks what is its own,
 * reads, runs handlers and saves. After its lease was over it starts nothing until it was
 * answered. */
#include "shares.h"

#include <stdlib.h>

typedef struct payload {
    shr_process *p;
    uint64_t seq;
} payload;

static void drop(void *given)
{
    payload *y = given;
    y->p->payloads--;
    free(y);
}

static payload *payload_new(shr_process *p, uint64_t seq)
{
    payload *y = malloc(sizeof *y);
    if (!y)
        abort();
    y->p = p;
    y->seq = seq;
    p->payloads++;
    return y;
}

static void memory_may_be_out(shr_world *x)
{
    sim_memory_in = !x->w.calm && sim_chance(&x->w, 20) ? (int)sim_roll(&x->w, 12) : -1;
}

static bool memory_was_out(shr_world *x, hark_err err)
{
    sim_memory_in = -1;
    if (err && err != HARK_ENOMEM)
        sim_fail(&x->w, "error %d where only memory may be out", (int)err);
    return err != HARK_OK;
}

void shr_boot(shr_world *x, shr_process *p)
{
    hk_core_opts o = x->opts;
    o.seed = sim_roll(&x->w, UINT64_MAX);
    o.drop = drop;
    *p = (shr_process){.id = ++x->last_id, .cores = hk_cores_new(&o, SHARES)};
    if (!p->cores)
        abort();
    sim_say(&x->w, "process %llu starts", (unsigned long long)p->id);
}

static void over(shr_process *p)
{
    hk_cores_free(p->cores);
    p->cores = NULL;
    p->id = 0;
    p->n_running = 0;
    p->flight = p->reading = false;
}

void shr_kill(shr_world *x, shr_process *p)
{
    if (!p->id)
        return;
    sim_say(&x->w, "process %llu is killed", (unsigned long long)p->id);
    over(p);
}

void shr_close(shr_world *x, shr_process *p)
{
    sim_say(&x->w, "process %llu is being closed", (unsigned long long)p->id);
    p->closing = true;
    hk_cores_finish(p->cores);
}

void shr_pause(shr_world *x, shr_process *p, bool paused)
{
    if (p->paused == paused)
        return;
    sim_say(&x->w, "process %llu %s", (unsigned long long)p->id, paused ? "pauses" : "goes on");
    p->paused = paused;
    hk_cores_pause(p->cores, paused);
}

/* ---- whose ----------------------------------------------------------------------------------- */

void shr_beat(shr_world *x, shr_process *p)
{
    bool lived = x->w.mono < p->lives_until;
    store_beat(x, p);
    if (lived || hk_planted == 74)
        p->lives_until = x->w.mono + LEASE;
}

/* Those that are dry. */
static void release(shr_world *x, shr_process *p, bool heard)
{
    for (uint32_t i = 0; i < SHARES; i++) {
        uint64_t token;
        if (!hk_cores_has(p->cores, i, &token) || !hk_cores_dry(p->cores, i))
            continue;
        hark_store_owned of = {i, token};
        if (shr_holds(x, p, of))
            shr_audit_release(x, p, i);
        hk_cores_drop(p->cores, i);
        if (heard)
            store_release(x, p, of);
    }
    for (size_t i = 0; heard && i < p->n_strange; i++)
        store_release(x, p, p->strange[i]);
}

static bool among(const hark_store_owned *all, size_t n, hark_store_owned of)
{
    for (size_t i = 0; i < n; i++)
        if (all[i].share == of.share && all[i].token == of.token)
            return true;
    return false;
}

static void keep(shr_world *x, shr_process *p, const shr_answer *a)
{
    for (size_t i = hk_cores_count(p->cores); i-- > 0;) {
        hark_store_owned of = hk_cores_at(p->cores, i);
        if (among(a->owned, a->n_owned, of) || hk_planted == 73)
            continue;
        sim_say(&x->w, "process %llu has lost share %u", (unsigned long long)p->id, of.share);
        hk_cores_drop(p->cores, of.share);
    }
    p->n_strange = 0;
    for (size_t i = 0; i < a->n_owned; i++) {
        hark_store_owned of = a->owned[i];
        uint64_t token;
        if (!hk_cores_has(p->cores, of.share, &token) || token != of.token) {
            p->strange[p->n_strange++] = of;
            continue;
        }
        p->leaves[of.share] = a->give[of.share];
        hk_cores_leave(p->cores, of.share, a->give[of.share]);
    }
}

static void claim(shr_world *x, shr_process *p, hark_store_owned of, hk_reach reach)
{
    hark_store_consumer state;
    hark_store_row rows[PLACES];
    store_state(x, of.share, &state, rows);
    memory_may_be_out(x);
    if (memory_was_out(x, hk_cores_claim(p->cores, of, &state, reach, sim_now(&x->w)))) {
        p->strange[p->n_strange++] = of;
        return;
    }
    p->leaves[of.share] = false;
    sim_say(&x->w, "process %llu has share %u from now on, floor %llu, %zu rows",
            (unsigned long long)p->id, of.share, (unsigned long long)state.ret_floor,
            state.ret_n_rows);
}

static bool tell(shr_world *x, shr_process *p, const hark_store_news *news)
{
    shr_event *e = &x->events[news->sequence];
    uint64_t token;
    if (x->store.shares[news->share].owner != p->id ||
        news->id <= x->store.shares[news->share].news ||
        !hk_cores_has(p->cores, news->share, &token))
        return true;
    if (news->kind == HARK_NEWS_DISCARDED) {
        hk_cores_discarded(p->cores, news->sequence, shr_key(e));
        e->untold = false;
        return true;
    }
    memory_may_be_out(x);
    if (memory_was_out(
            x, hk_cores_redriven(p->cores, news->sequence, shr_key(e), x->w.mono, x->w.wall)))
        return false;
    e->known_to = token;
    return true;
}

/* Not while a save is under way: it may be of before. */
static void news(shr_world *x, shr_process *p)
{
    for (size_t i = 0; !p->flight && i < x->store.n_news; i++) {
        const hark_store_news *n = &x->store.news[i];
        if (n->id > p->news_done && !tell(x, p, n))
            return;
        p->news_done = n->id > p->news_done ? n->id : p->news_done;
    }
}

void shr_ask(shr_world *x, shr_process *p)
{
    shr_answer a;
    bool heard = x->w.calm || !sim_chance(&x->w, 15),
         answered = x->w.calm || !sim_chance(&x->w, 15);
    release(x, p, heard);
    if (!heard)
        return;
    store_beat(x, p);
    store_shares(x, p, &a);
    if (!answered)
        return;
    p->lives_until = x->w.mono + LEASE;
    p->asked = x->w.mono;
    keep(x, p, &a);
    for (size_t i = 0; i < a.n_claimed; i++)
        claim(x, p, a.claimed[i], a.reach[i]);
    news(x, p);
    if (p->closing && hk_cores_count(p->cores) == 0 && p->n_strange == 0) {
        store_leave(x, p);
        sim_say(&x->w, "process %llu is closed", (unsigned long long)p->id);
        over(p);
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool arrive(shr_world *x, shr_process *p, uint64_t seq)
{
    shr_event *e = &x->events[seq];
    payload *y = payload_new(p, seq);
    hk_stage stage;
    uint64_t token;
    bool kept;
    memory_may_be_out(x);
    bool out = memory_was_out(
        x, hk_cores_arrive(p->cores, p->after, seq, shr_key(e), y, sim_now(&x->w), &kept));
    if (out || !kept)
        drop(y);
    if (out)
        return false;
    if (hk_cores_stage(p->cores, seq, shr_key(e), &stage) && stage == HK_STAGE_OPEN &&
        hk_cores_has(p->cores, e->share, &token))
        e->known_to = token;
    hk_cores_cover(p->cores, p->after, seq);
    return true;
}

void shr_read(shr_world *x, shr_process *p)
{
    if (!p->reading) {
        size_t room = hk_cores_room(p->cores);
        p->after = hk_cores_covered(p->cores);
        if (!room || p->after >= x->visible)
            return;
        p->upto = x->visible - p->after < room ? x->visible : p->after + room;
        p->reading = true;
        if (sim_chance(&x->w, 2)) /* that takes its time */
            return;
    }
    for (uint64_t seq = p->after + 1; seq <= p->upto && arrive(x, p, seq);)
        seq++;
    p->reading = false;
}

/* ---- handlers -------------------------------------------------------------------------------- */

static void handle(shr_world *x, shr_process *p, const hk_started *s, hark_store_owned of)
{
    shr_event *e = &x->events[s->seq];
    bool hangs = e->script == SIM_HANG && e->runs < e->times;
    int64_t takes = (int64_t)sim_roll(&x->w, sim_chance(&x->w, 10) ? 80 : 8) * MS;
    p->running[p->n_running++] = (shr_running){.lease = s->lease,
                                               .of = of,
                                               .seq = s->seq,
                                               .until = x->w.mono + x->timeout,
                                               .ends = hangs ? INT64_MAX : x->w.mono + takes};
    sim_say(&x->w, "process %llu: %llu of share %u starts, attempt %lld", (unsigned long long)p->id,
            (unsigned long long)s->seq, of.share, (long long)s->attempt);
}

/* It cannot be read just now. */
static bool unread(shr_world *x, shr_process *p, const hk_started *s)
{
    if (s->payload || x->w.calm || !sim_chance(&x->w, 8))
        return false;
    sim_say(&x->w, "process %llu: %llu is not started after all", (unsigned long long)p->id,
            (unsigned long long)s->seq);
    hk_cores_unstart(p->cores, s->lease);
    return true;
}

/* No program here knows it yet. */
static bool postpone(shr_world *x, shr_process *p, const hk_started *s)
{
    if (x->w.calm || !sim_chance(&x->w, 40))
        return false;
    int64_t delay = (int64_t)sim_roll(&x->w, 30) * MS;
    sim_say(&x->w, "process %llu: %llu is postponed", (unsigned long long)p->id,
            (unsigned long long)s->seq);
    if (hk_cores_postpone(p->cores, s->lease, delay, "later", sim_now(&x->w)) != HARK_OK)
        sim_fail(&x->w, "%llu is not postponed", (unsigned long long)s->seq);
    x->events[s->seq].unheard = true; /* until when, is its core's affair */
    return true;
}

void shr_start(shr_world *x, shr_process *p)
{
    hk_started s;
    hark_store_owned of;
    while (p->n_running < HANDLERS && (x->w.mono < p->lives_until || hk_planted == 80)) {
        if (!hk_cores_start(p->cores, sim_now(&x->w), x->w.mono + x->timeout, &s))
            return;
        if (hk_cores_owned(p->cores, s.lease, &of) != HARK_OK)
            sim_fail(&x->w, "%llu starts by no right", (unsigned long long)s.seq);
        if (unread(x, p, &s))
            return;
        shr_audit_start(x, p, &s, of);
        if (!s.payload && hk_cores_payload_set(p->cores, s.lease, payload_new(p, s.seq)) != HARK_OK)
            sim_fail(&x->w, "%llu does not take its payload", (unsigned long long)s.seq);
        if (s.doomed) {
            hk_cores_die(p->cores, s.lease, sim_now(&x->w));
            continue;
        }
        if (postpone(x, p, &s))
            continue;
        handle(x, p, &s, of);
        if (sim_chance(&x->w, 3))
            return;
    }
}

/* Is it still an attempt, as far as this process can know? */
static bool live(const shr_process *p, const shr_running *r)
{
    uint64_t token;
    return !r->timed_out && hk_cores_has(p->cores, r->of.share, &token) && token == r->of.token;
}

static void check(const shr_world *x, const shr_running *r, bool lives, hark_err err)
{
    if (lives != (err == HARK_OK) || (err && err != HARK_ESTALE))
        sim_fail(&x->w, "%llu: %s gave %d", (unsigned long long)r->seq,
                 lives ? "an answer in time" : "an answer that comes too late", (int)err);
}

static void forget(shr_process *p, shr_running *r)
{
    *r = p->running[--p->n_running];
}

static void expire(shr_world *x, shr_process *p)
{
    hk_lease lease;
    uint64_t seq;
    hark_verdict came;
    while (hk_cores_expire(p->cores, sim_now(&x->w), &lease, &seq, &came)) {
        size_t i = 0;
        while (i < p->n_running && !hk_lease_same(p->running[i].lease, lease))
            i++;
        if (i == p->n_running || p->running[i].until > x->w.mono || !live(p, &p->running[i]))
            sim_fail(&x->w, "%llu is timed out before its time", (unsigned long long)seq);
        shr_running *r = &p->running[i];
        r->timed_out = true;
        x->events[seq].runs += r->ends == INT64_MAX;
        if (x->store.shares[r->of.share].token == r->of.token)
            shr_audit_settle(x, seq, HARK_RETRY, came);
        if (r->ends == INT64_MAX)
            forget(p, r);
    }
}

/* Nothing of it is left but what is committed. */
static void crash(shr_world *x, shr_process *p, uint64_t seq)
{
    sim_say(&x->w, "process %llu dies of %llu", (unsigned long long)p->id, (unsigned long long)seq);
    shr_audit_crash(x, p, seq);
    if (p->flight && sim_chance(&x->w, 2))
        shr_commit(x, p, true);
    store_poisoned(x, p);
    if (x->w.calm || sim_chance(&x->w, 2))
        store_leave(x, p);
    shr_kill(x, p);
}

static void answer(shr_world *x, shr_process *p, shr_running r)
{
    shr_event *e = &x->events[r.seq];
    bool lives = live(p, &r), again = lives && e->runs++ < e->times;
    hark_verdict v = again && e->script == SIM_RETRY    ? HARK_RETRY
                     : again && e->script == SIM_REJECT ? HARK_REJECT
                                                        : HARK_ACK;
    hark_verdict came = v;
    hark_err err =
        hk_cores_settle(p->cores, r.lease, v, -1, v ? "because" : NULL, sim_now(&x->w), &came);
    sim_say(&x->w, "process %llu: %llu answers %d: %d", (unsigned long long)p->id,
            (unsigned long long)r.seq, (int)v, (int)err);
    check(x, &r, lives, err);
    if (lives && x->store.shares[r.of.share].token == r.of.token)
        shr_audit_settle(x, r.seq, v, came);
}

/* What its transaction came to is known now. */
static void committed(shr_world *x, shr_process *p, shr_running *r)
{
    check(x, r, live(p, r), hk_cores_acked(p->cores, r->lease));
    forget(p, r);
}

/* True: it waits for the group in which its ack is committed. */
static bool transact(shr_world *x, shr_process *p, shr_running *r)
{
    if (!x->events[r->seq].transacts)
        return false;
    bool lives = live(p, r);
    hark_err err = hk_cores_seal(p->cores, r->lease);
    check(x, r, lives, err);
    if (err)
        return false;
    r->state = SHR_SEALED;
    r->ends = INT64_MAX;
    return true;
}

void shr_handlers(shr_world *x, shr_process *p)
{
    expire(x, p);
    for (size_t i = 0; i < p->n_running;) {
        shr_running *r = &p->running[i];
        if (r->state == SHR_COMMITTED && !sim_chance(&x->w, 3)) {
            committed(x, p, r);
        } else if (r->ends == INT64_MAX && r->state == SHR_RUNS && !live(p, r)) {
            forget(p, r); /* it hangs, and nobody waits for it */
        } else if (r->ends > x->w.mono || transact(x, p, r)) {
            i++;
        } else if (x->events[r->seq].poison && live(p, r)) {
            crash(x, p, r->seq);
        } else {
            shr_running ended = *r;
            forget(p, r);
            answer(x, p, ended);
        }
    }
}

/* ---- saving ---------------------------------------------------------------------------------- */

void shr_collect(shr_world *x, shr_process *p)
{
    if (p->flight)
        return;
    memory_may_be_out(x);
    if (memory_was_out(x, hk_cores_collect(p->cores, sim_now(&x->w), &p->saves, &p->n_saves)))
        return;
    p->flight = true;
    for (size_t i = 0; i < p->n_saves; i++)
        for (size_t k = 0; k < p->saves[i].n_dead &&
                           p->saves[i].token == x->store.shares[p->saves[i].share].token;
             k++) {
            const payload *y = (const payload *)(const void *)p->saves[i].dead[k].event;
            shr_audit_died(x, y->seq, &p->saves[i].dead[k]);
        }
    for (uint64_t i = 1; i <= x->n_events; i++) {
        p->got[i] = x->events[i].now;
        p->got_suspect[i] = x->events[i].suspect;
    }
}

/* Ack and effect of those that are sealed. */
static void run_transactions(shr_world *x, shr_process *p, bool ok)
{
    for (size_t i = 0; i < p->n_running; i++) {
        shr_running *r = &p->running[i];
        if (r->state != SHR_SEALED)
            continue;
        hark_err err = ok ? store_ack(x, r->of, r->seq) : HARK_ESTORE;
        sim_say(&x->w, "process %llu: the transaction of %llu: %d", (unsigned long long)p->id,
                (unsigned long long)r->seq, (int)err);
        r->state = err ? SHR_RUNS : SHR_COMMITTED;
        if (err) {
            hk_cores_unseal(p->cores, r->lease);
            r->ends = x->w.mono + 3 * MS;
        }
    }
}

static void save(shr_world *x, shr_process *p, size_t i)
{
    hark_store_save *s = &p->saves[i];
    uint64_t token;
    if (hk_planted == 77 && hk_cores_has(p->cores, s->share, &token))
        s->token = token;
    bool refused = !x->w.calm && sim_chance(&x->w, 12);
    hark_err err = refused ? HARK_ESTORE : store_save(x, p, s);
    sim_say(&x->w, "process %llu saves share %u, floor %llu, %zu put, %zu dropped, %zu dead: %d",
            (unsigned long long)p->id, s->share, (unsigned long long)s->floor, s->n_put, s->n_drop,
            s->n_dead, (int)err);
    if (err == HARK_ESTALE)
        p->stale[p->n_stale++] = (hark_store_owned){s->share, s->token};
    if (err && s->late && sim_chance(&x->w, 2))
        *s->late = err;
    else if (err)
        hk_cores_refused(p->cores, i, err);
}

/* Of a share that another process has had since, nothing goes on. */
static void saved(shr_world *x, shr_process *p, bool ok)
{
    hark_store_owned before[SHARES];
    size_t n = hk_cores_count(p->cores), stale = 0;
    for (size_t i = 0; i < n; i++)
        before[i] = hk_cores_at(p->cores, i);
    size_t dropped = hk_cores_saved(p->cores, ok);
    for (size_t i = 0; i < n; i++)
        stale += !hk_cores_has(p->cores, before[i].share, NULL);
    for (size_t i = 0; i < p->n_stale; i++) {
        uint64_t token;
        if (hk_cores_has(p->cores, p->stale[i].share, &token) && token == p->stale[i].token)
            sim_fail(&x->w, "share %u goes on though its save was stale", p->stale[i].share);
    }
    if (stale != dropped)
        sim_fail(&x->w, "%zu shares are gone, and %zu are said to be", stale, dropped);
    p->n_stale = 0;
}

/* Committed, but nobody has heard of it. With dead letters a store takes no more writes then. */
static bool is_unheard(shr_world *x, const shr_process *p)
{
    for (size_t i = 0; i < p->n_saves; i++)
        if (p->saves[i].n_dead)
            return false;
    if (x->w.calm || !sim_chance(&x->w, 15))
        return false;
    for (uint64_t i = 1; i <= x->n_events; i++)
        x->events[i].unheard = true;
    return true;
}

void shr_commit(shr_world *x, shr_process *p, bool ok)
{
    run_transactions(x, p, ok);
    for (size_t i = 0; p->flight && ok && i < p->n_saves; i++)
        save(x, p, i);
    shr_audit_store(x);
    if (p->flight)
        saved(x, p, ok && !is_unheard(x, p));
    p->flight = false;
}
