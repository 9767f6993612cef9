/* replay.c: starting a replay into an ad-hoc handler, and the list of those that run here. A replay
 * is a row of the store's (where it stands) and, while it runs, an entry of that list with a thread
 * (replay_run.c). An entry counts among the bus's running deliveries, so that a drain waits until it
 * has stopped and stored where.
 *
 * The list's lock is a leaf: neither the store, the writer nor a handler is called under it. */
#include "bus/party_i.h"
#include "bus/replay_i.h"
#include "bus/versions_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the list -------------------------------------------------------------------------------- */

hk_replays *hk_replays_of(hark_bus *bus, bool make)
{
    pthread_mutex_lock(&bus->lock);
    hk_replays *rs = bus->replays;
    if (!rs && make && (rs = calloc(1, sizeof *rs))) {
        pthread_mutex_init(&rs->lock, NULL);
        hk_cond_init(&rs->changed);
        bus->replays = rs;
    }
    pthread_mutex_unlock(&bus->lock);
    return rs;
}

static hk_replay *replay_new(hark_bus *bus, const char *id)
{
    hk_replay *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    hk_ref_init(&r->refs, 1);
    r->bus = bus;
    hk_gate_init(&r->gate);
    (void)snprintf(r->row.id, sizeof r->row.id, "%s", id);
    return r;
}

/* Under the lock. */
static hk_replay *find_locked(hk_replays *rs, const char *id)
{
    hk_replay *r = rs->list;
    while (r && strcmp(r->row.id, id) != 0)
        r = r->next;
    return r;
}

hark_err hk_replay_take(hark_bus *bus, const char *id, hk_replay **ret, hark_errinfo *ei)
{
    hk_replays *rs = hk_replays_of(bus, true);
    hk_replay *r = replay_new(bus, id);
    if (!rs || !r) {
        free(r);
        return hk_fail(ei, HARK_ENOMEM, "no memory for a replay");
    }
    hark_err err = HARK_OK;
    hk_bus_running(bus, 1); /* before the look at the bus: a drain that comes later waits */
    pthread_mutex_lock(&rs->lock);
    if (!hk_bus_accepts(bus))
        err = hk_fail(ei, HARK_ECLOSED, "the bus is closed or draining");
    else if (find_locked(rs, id))
        err = hk_fail(ei, HARK_EEXIST, "replay %s runs in this process; cancel it, or wait for it",
                      id);
    if (!err) {
        r->next = rs->list;
        rs->list = r;
    }
    pthread_mutex_unlock(&rs->lock);
    if (err) {
        hk_bus_running(bus, -1);
        hk_replay_release(r);
    } else {
        *ret = r;
    }
    return err;
}

void hk_replay_drop(hk_replay *r)
{
    hk_replays *rs = hk_replays_of(r->bus, false);
    hark_bus *bus = r->bus;
    pthread_mutex_lock(&rs->lock);
    hk_replay **link = &rs->list;
    while (*link != r)
        link = &(*link)->next;
    *link = r->next;
    r->phase = HK_REPLAY_ENDED;
    r->ended_at = hk_mono_ns();
    pthread_cond_broadcast(&rs->changed);
    pthread_mutex_unlock(&rs->lock);
    hk_replay_release(r);
    hk_bus_running(bus, -1);
}

void hk_replay_release(hk_replay *r)
{
    if (!hk_ref_put(&r->refs))
        return;
    hark_sub *s = r->sub;
    free(r);
    if (s)
        hk_sub_release(s);
}

hk_replay *hk_replay_find(hark_bus *bus, const char *id)
{
    hk_replays *rs = hk_replays_of(bus, false);
    if (!rs)
        return NULL;
    pthread_mutex_lock(&rs->lock);
    hk_replay *r = find_locked(rs, id);
    if (r && r->phase != HK_REPLAY_RUNS)
        r = NULL;
    if (r)
        hk_ref_get(&r->refs, 1);
    pthread_mutex_unlock(&rs->lock);
    return r;
}

void hk_replays_stop(hark_bus *bus)
{
    hk_replays *rs = hk_replays_of(bus, false);
    if (!rs)
        return;
    pthread_mutex_lock(&rs->lock);
    for (hk_replay *r = rs->list; r; r = r->next) {
        (void)hk_mark_move(&r->how, HK_REPLAY_GOES, HK_REPLAY_DRAINED);
        hk_gate_open(&r->gate);
    }
    pthread_cond_broadcast(&rs->changed);
    pthread_mutex_unlock(&rs->lock);
}

void hk_replays_free(hark_bus *bus)
{
    hk_replays *rs = bus->replays;
    if (!rs)
        return;
    pthread_mutex_destroy(&rs->lock);
    pthread_cond_destroy(&rs->changed);
    free(rs);
    bus->replays = NULL;
}

uint64_t hk_replays_hold(hark_bus *bus)
{
    hk_replays *rs = hk_replays_of(bus, false);
    uint64_t hold = 0;
    if (!rs)
        return 0;
    pthread_mutex_lock(&rs->lock);
    for (hk_replay *r = rs->list; r; r = r->next) {
        uint64_t next = hk_mark_get(&r->position) + 1;
        if (r->phase != HK_REPLAY_TAKEN && next <= r->row.r.last && (!hold || next < hold))
            hold = next;
    }
    pthread_mutex_unlock(&rs->lock);
    return hold;
}

/* ---- rows of the store ----------------------------------------------------------------------- */

void hk_replay_row_set(hk_replay_row *row, const hark_store_replay *r)
{
    row->r = *r;
    if (r->id != row->id)
        (void)snprintf(row->id, sizeof row->id, "%s", r->id);
    if (r->pattern != row->pattern)
        (void)snprintf(row->pattern, sizeof row->pattern, "%s", r->pattern);
    if (r->error != row->error)
        (void)snprintf(row->error, sizeof row->error, "%s", r->error ? r->error : "");
    row->r.id = row->id;
    row->r.pattern = row->pattern;
    row->r.error = row->error[0] ? row->error : NULL;
}

hark_err hk_replay_rows(hark_bus *bus, hark_store_replay_fn fn, void *ud, hark_errinfo *ei)
{
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->replays(bus->store, fn, ud, ei);
    hk_store_leave(bus);
    return err;
}

typedef struct search {
    const char *id;
    hk_replay_row *ret;
    bool found;
} search;

static bool is_it(void *ud, const hark_store_replay *r)
{
    search *s = ud;
    s->found = strcmp(r->id, s->id) == 0;
    if (s->found)
        hk_replay_row_set(s->ret, r);
    return !s->found;
}

hark_err hk_replay_row_find(hark_bus *bus, const char *id, hk_replay_row *ret, hark_errinfo *ei)
{
    search s = {.id = id, .ret = ret};
    hark_err err = hk_replay_rows(bus, is_it, &s, ei);
    return err || s.found ? err : HARK_ENOTFOUND;
}

static hark_err put_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    const hk_replay_row *row = ud;
    return bus->ops->replay_put(bus->store, &row->r, ei);
}

hark_err hk_replay_put(hark_bus *bus, hk_replay_row *row, hark_errinfo *ei)
{
    row->r.changed_ns = hk_wall_ns();
    return hk_writer_insist(bus, put_job, row, ei);
}

/* Where it stands is looked up on the writer: of two savers the later one has the later state. */
static hark_err save_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    hk_replay *r = ud;
    hk_replays *rs = hk_replays_of(bus, false);
    hk_replay_row now;
    pthread_mutex_lock(&rs->lock);
    bool cancelled = hk_mark_get(&r->how) == HK_REPLAY_CANCELLED;
    hk_replay_row_set(&now, &r->row.r);
    pthread_mutex_unlock(&rs->lock);
    if (cancelled)
        now.r.state = HARK_REPLAY_STOPPED;
    now.r.position = hk_mark_get(&r->position);
    now.r.done = hk_count_get(&r->done);
    now.r.rejected = hk_count_get(&r->rejected);
    now.r.holds = hk_mark_get(&r->how) == HK_REPLAY_GOES;
    now.r.changed_ns = hk_wall_ns();
    return bus->ops->replay_put(bus->store, &now.r, ei);
}

hark_err hk_replay_save(hk_replay *r, hark_errinfo *ei)
{
    return hk_writer_insist(r->bus, save_job, r, ei);
}

hark_err hk_replay_count(hark_bus *bus, const hark_store_replay *r, uint64_t first, uint64_t last,
                         uint64_t *ret, hark_errinfo *ei)
{
    const hark_store_query q = {.size = sizeof q,
                                .pattern = r->pattern,
                                .after = first - 1,
                                .before = last + 1,
                                .from_ns = r->from_ns,
                                .to_ns = r->to_ns};
    return hk_bus_count(bus, &q, ret, ei);
}

hark_err hk_replay_missing(hark_bus *bus, const hark_store_replay *r, uint64_t *ret,
                           hark_errinfo *ei)
{
    uint64_t left = 0;
    hark_err err = r->state == HARK_REPLAYED
                       ? HARK_OK
                       : hk_replay_count(bus, r, r->position + 1, r->last, &left, ei);
    if (!err)
        *ret = hk_replay_lost(r, r->done, left);
    return err;
}

/* ---- starting one ---------------------------------------------------------------------------- */

static hark_err check(const hark_replay_opts *o, hark_handler_fn fn, const hark_replay_info *ret,
                      hark_errinfo *ei)
{
    if (!fn && !o->dry_run)
        return hk_fail(ei, HARK_EINVAL, "hark_replay: no handler is given, and it is no dry run");
    if (ret && ret->size != sizeof *ret)
        return hk_fail(ei, HARK_EINVAL, "hark_replay_info.size is %zu; set it to its sizeof",
                       ret->size);
    if (o->id && !hk_name_valid(o->id, 39))
        return hk_fail(ei, HARK_EINVAL,
                       "replay id '%.60s': 1 to 39 of letters, digits, '_', '.', ':', '-'", o->id);
    if (o->first > HARK_SEQ_MAX || (o->last && o->last < o->first))
        return hk_fail(ei, HARK_EINVAL, "hark_replay_opts: a range from %llu to %llu has no events",
                       (unsigned long long)o->first, (unsigned long long)o->last);
    if (o->from_ns < 0 || o->to_ns < 0 || (o->to_ns && o->to_ns <= o->from_ns))
        return hk_fail(
            ei, HARK_EINVAL,
            "hark_replay_opts: no time is at or after from_ns %lld and before to_ns %lld",
            (long long)o->from_ns, (long long)o->to_ns);
    if (o->rate < 0)
        return hk_fail(ei, HARK_EINVAL, "hark_replay_opts.rate is %lld; 0 or more events a second",
                       (long long)o->rate);
    hark_err err = hk_upcast_opt_check("hark_replay_opts", o->dataversion, ei);
    return !err && o->type ? hark_pattern_check(o->type, ei) : err;
}

/* What it will read: as asked for, but no further than the newest event now. */
static hark_err plan(hk_replay *r, const hark_replay_opts *o, hark_errinfo *ei)
{
    hark_bus_info facts = {.size = sizeof facts};
    uint64_t newest = 0;
    hark_err err = hark_bus_info_get(r->bus, &facts);
    if (!err)
        err = hk_bus_newest(r->bus, &newest, ei);
    if (err)
        return err;
    hark_store_replay x = {.id = r->row.id,
                           .pattern = o->type ? o->type : "**",
                           .first = o->first,
                           .last = o->last && o->last < newest ? o->last : newest,
                           .from_ns = o->from_ns,
                           .to_ns = o->to_ns,
                           .state = HARK_REPLAYING,
                           .started_ns = hk_wall_ns()};
    if (!x.first)
        x.first = facts.first_sequence ? facts.first_sequence : 1;
    x.position = x.first - 1;
    hk_replays *rs = hk_replays_of(r->bus, false);
    pthread_mutex_lock(&rs->lock);
    hk_replay_row_set(&r->row, &x);
    hk_mark_set(&r->position, x.position);
    r->phase = HK_REPLAY_OPEN; /* before it counts: retention leaves alone what was counted */
    pthread_mutex_unlock(&rs->lock);
    return hk_replay_count(r->bus, &r->row.r, x.first, x.last, &r->row.r.total, ei);
}

/* Goes on where an earlier one with this id stopped. */
static hark_err take_up(hk_replay *r, const hk_replay_row *was, hark_errinfo *ei)
{
    if (was->r.state != HARK_REPLAYING && was->r.state != HARK_REPLAY_BROKEN)
        return hk_fail(ei, HARK_ECONFLICT,
                       "replay %s %s; give another id, or none, to begin another one", was->id,
                       was->r.state == HARK_REPLAYED ? "has come to its end" : "was cancelled");
    if (was->r.elsewhere)
        return hk_fail(ei, HARK_EEXIST,
                       "replay %s runs in another process; cancel it there, or wait for it",
                       was->id);
    hark_store_replay x = was->r;
    x.state = HARK_REPLAYING;
    x.error = NULL;
    hk_replays *rs = hk_replays_of(r->bus, false);
    pthread_mutex_lock(&rs->lock);
    hk_replay_row_set(&r->row, &x);
    hk_mark_set(&r->position, x.position);
    hk_count_bump(&r->done, x.done);
    hk_count_bump(&r->rejected, x.rejected);
    r->done_before = x.done;
    r->phase = HK_REPLAY_OPEN;
    pthread_mutex_unlock(&rs->lock);
    uint64_t missing = 0;
    hark_err err = hk_replay_missing(r->bus, &r->row.r, &missing, ei);
    hk_mark_set(&r->missing, missing);
    return err;
}

static hark_err prepare(hk_replay *r, const hark_replay_opts *o, hark_errinfo *ei)
{
    hk_replay_row was;
    hark_err err = o->id ? hk_replay_row_find(r->bus, o->id, &was, ei) : HARK_ENOTFOUND;
    if (err == HARK_ENOTFOUND)
        err = plan(r, o, ei);
    else if (!err)
        err = take_up(r, &was, ei);
    r->row.r.rate = o->rate;
    r->since = hk_mono_ns();
    return err;
}

/* Deliveries belong to a subscription; a replay's is on no list, has no name, and reads nothing. */
static hark_sub *hidden_sub(hark_bus *bus, const char *pattern)
{
    const hark_sub_opts none = {.size = sizeof none};
    hark_sub *s = hk_sub_new(bus, pattern, NULL, NULL, &none);
    if (s)
        hk_mark_set(&s->closed, 1);
    return s;
}

/* Stores its beginning and starts its thread, which has the entry from then on. */
static hark_err start(hk_replay *r, hark_errinfo *ei)
{
    hk_replays *rs = hk_replays_of(r->bus, false);
    r->sub = hidden_sub(r->bus, r->row.pattern);
    if (!r->sub)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a replay");
    r->row.r.holds = 1;
    r->lapses = hk_party_lapses(r->bus);
    hark_err err = hk_replay_put(r->bus, &r->row, ei);
    if (err)
        return err;
    pthread_mutex_lock(&rs->lock);
    r->phase = HK_REPLAY_RUNS;
    pthread_mutex_unlock(&rs->lock);
    hk_ref_get(&r->refs, 1);
    err = hk_bus_thread(r->bus, "hark-replay", hk_replay_main, r);
    if (err) {
        hk_replay_release(r);
        return hk_fail(ei, err, "no thread for replay %s: its id goes on with it later", r->row.id);
    }
    return HARK_OK;
}

hark_err hark_replay(hark_bus *bus, hark_handler_fn fn, void *ud, const hark_replay_opts *opts,
                     hark_replay_info *ret, hark_errinfo *ei)
{
    hark_replay_opts o;
    hark_err err = hk_opts_take(opts, &o, sizeof o, "hark_replay_opts", ei);
    if (!err)
        err = check(&o, fn, ret, ei);
    if (!err)
        err = hk_may_operate(bus, "hark_replay", ei);
    char id[HK_UUID_TEXT + 1];
    hk_replay *r = NULL;
    if (!err && !o.id)
        hk_uuid7(hk_wall_ns(), id);
    if (!err)
        err = hk_replay_take(bus, o.id ? o.id : id, &r, ei);
    if (err)
        return err;
    hk_ref_get(&r->refs, 1); /* for this call: the thread may be through with it at once */
    r->fn = fn;
    r->ud = ud;
    r->free_ud = o.free_ud;
    r->dataversion = o.dataversion;
    err = prepare(r, &o, ei);
    bool run = !err && !o.dry_run;
    if (run)
        err = start(r, ei);
    if (!err && ret)
        hk_replay_look(r, ret);
    if (!err && ret && o.dry_run) {
        ret->state = 0;
        ret->id[0] = o.id ? ret->id[0] : '\0';
    }
    if (err || !run)
        hk_replay_drop(r);
    hk_replay_release(r);
    return err;
}
