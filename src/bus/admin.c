/* admin.c: what is done to a consumer from outside: listing, pause, reset. Each is a job of the
 * writer, and then, when the consumer is open here, a step of its cores; both under `admin`. Other processes learn of it
 * with their shares (party.c). */
#include "bus/bus_i.h"

#include <stdlib.h>
#include <string.h>

hark_err hk_may_operate(hark_bus *bus, const char *call, hark_errinfo *ei)
{
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD, "%s would block this thread", call);
    if (hk_mark_get(&bus->gate) == HK_CLOSED)
        return hk_fail(ei, HARK_ECLOSED, "%s: the bus is closed", call);
    if (bus->info.live_only) /* each of these calls is about what a log keeps */
        return hk_no_log(bus, call, ei);
    hark_err err = hk_writer_start(bus);
    return err ? hk_fail(ei, err, "%s: the writer cannot be started: %s", call, hark_err_text(err))
               : err;
}

hark_err hk_consumer_look(hark_bus *bus, const char *name, uint32_t share, hark_store_consumer *ret,
                          hark_errinfo *ei)
{
    *ret = (hark_store_consumer){.size = sizeof *ret, .name = name, .find = 1, .share = share};
    hark_err err = hk_writer_insist(bus, hk_consumer_open_job, ret, ei);
    if (err)
        hark_store_consumer_clear(ret);
    return err;
}

/* ---- listing --------------------------------------------------------------------------------- */

typedef struct listing {
    hark_bus *bus;
    bool (*fn)(const hark_consumer_info *info, void *ud);
    void *ud;
    uint64_t newest;
} listing;

static bool list_one(void *ud, const hark_store_consumer_row *row)
{
    listing *x = ud;
    hark_sub *s = hk_consumer_find(x->bus, row->name);
    const hark_consumer_info info = {
        .size = sizeof info,
        .name = row->name,
        .pattern = row->pattern,
        .policy = row->policy,
        .generation = row->generation,
        .floor = row->floor,
        .highest = row->highest,
        .lag = x->newest > row->floor ? x->newest - row->floor : 0,
        .retrying = row->retrying,
        .behind = row->behind,
        .parked = row->parked,
        .parked_keys = row->dead_lanes,
        .dead_letters = row->letters,
        .paused = row->paused,
        .open_here = s != NULL,
        .replay_id = row->rerun.id[0] && row->floor < row->rerun.upto ? row->rerun.id : NULL};
    if (s)
        hk_sub_release(s);
    return x->fn(&info, x->ud);
}

hark_err hark_consumers(hark_bus *bus, bool (*fn)(const hark_consumer_info *info, void *ud),
                        void *ud, hark_errinfo *ei)
{
    listing x = {.bus = bus, .fn = fn, .ud = ud};
    hark_err err = hk_may_operate(bus, "hark_consumers", ei);
    if (!err)
        err = hk_bus_newest(bus, &x.newest, ei);
    if (!err)
        err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->consumers(bus->store, list_one, &x, ei);
    hk_store_leave(bus);
    return err;
}

/* ---- pause ----------------------------------------------------------------------------------- */

typedef struct pausing {
    const char *name;
    bool paused;
} pausing;

static hark_err pause_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    const pausing *p = ud;
    hark_store_consumer state = {.size = sizeof state, .name = p->name, .find = 1};
    hark_err err = bus->ops->consumer_open(bus->store, &state, ei);
    if (!err)
        err = bus->ops->consumer_pause(bus->store, state.ret_id, p->paused, ei);
    hark_store_consumer_clear(&state);
    return err;
}

static hark_err set_paused(hark_bus *bus, const char *name, bool paused, const char *call,
                           hark_errinfo *ei)
{
    pausing p = {.name = name, .paused = paused};
    hark_err err = hk_may_operate(bus, call, ei);
    if (err)
        return err;
    pthread_mutex_lock(&bus->admin);
    err = hk_writer_insist(bus, pause_job, &p, ei);
    hark_sub *s = err ? NULL : hk_consumer_find(bus, name);
    if (s) {
        pthread_mutex_lock(&s->consumer->lock);
        hk_cores_pause(s->consumer->cores, paused);
        hk_consumer_unlock(s->consumer);
        hk_gate_open(&s->gate);
        hk_sub_release(s);
    }
    pthread_mutex_unlock(&bus->admin);
    return err;
}

hark_err hark_consumer_pause(hark_bus *bus, const char *name, hark_errinfo *ei)
{
    return set_paused(bus, name, true, "hark_consumer_pause", ei);
}

hark_err hark_consumer_resume(hark_bus *bus, const char *name, hark_errinfo *ei)
{
    return set_paused(bus, name, false, "hark_consumer_resume", ei);
}

/* ---- reset ----------------------------------------------------------------------------------- */

typedef struct resetting {
    const char *name;
    hark_store_reset reset;
    hark_store_consumer state; /* afterwards */
} resetting;

static hark_err find_job(hark_bus *bus, resetting *x, hark_errinfo *ei)
{
    hark_store_consumer_clear(&x->state);
    x->state = (hark_store_consumer){.size = sizeof x->state, .name = x->name, .find = 1};
    return bus->ops->consumer_open(bus->store, &x->state, ei);
}

static hark_err reset_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    resetting *x = ud;
    hark_err err = find_job(bus, x, ei);
    hark_store_reset r = x->reset; /* which stays as it was asked for: the job may be run again */
    r.consumer = x->state.ret_id;
    if (!err)
        err = bus->ops->consumer_reset(bus->store, &r, ei);
    return err ? err : find_job(bus, x, ei);
}

/* From here on an open consumer starts and saves nothing, until it is renewed. Returns how far it has
 * come. */
static uint64_t set_stale(hark_sub *s, bool stale)
{
    hk_core_facts facts = {0};
    if (!s)
        return 0;
    pthread_mutex_lock(&s->consumer->lock);
    s->consumer->stale = stale;
    if (hk_cores_count(s->consumer->cores) > 0)
        hk_cores_facts_get(s->consumer->cores, &facts);
    hk_consumer_unlock(s->consumer);
    hk_gate_open(&s->gate);
    return facts.highest;
}

static hark_err run_reset(hark_bus *bus, resetting *x, hark_errinfo *ei)
{
    pthread_mutex_lock(&bus->admin);
    hark_sub *s = hk_consumer_find(bus, x->name);
    x->reset.reached = set_stale(s, true);
    hark_err err = hk_writer_insist(bus, reset_job, x, ei);
    if (s && !err)
        err = hk_consumer_renew(s, &x->state);
    else
        (void)set_stale(s, false);
    if (s)
        hk_sub_release(s);
    pthread_mutex_unlock(&bus->admin);
    return err;
}

hark_err hk_consumer_skip_to(hark_bus *bus, const char *name, uint64_t seq, hark_errinfo *ei)
{
    resetting x = {
        .name = name,
        .reset = {.size = sizeof x.reset, .start = HARK_START_SEQUENCE, .start_sequence = seq}};
    hark_err err = run_reset(bus, &x, ei);
    hark_store_consumer_clear(&x.state);
    return err;
}

static hark_err check(const hark_reset_opts *given, hark_reset_opts *o,
                      const hark_reset_result *ret, hark_errinfo *ei)
{
    if (!given) /* a zeroed start would pass over everything: that should be said */
        return hk_fail(ei, HARK_EINVAL,
                       "hark_consumer_reset needs hark_reset_opts: .start = HARK_START_FIRST, or "
                       "another place, see hark_start");
    hark_err err = hk_opts_take(given, o, sizeof *o, "hark_reset_opts", ei);
    if (!err && ret && ret->size != sizeof *ret)
        err = hk_fail(ei, HARK_EINVAL, "hark_reset_result.size is %zu; it is %zu bytes", ret->size,
                      sizeof *ret);
    if (!err && (o->start < HARK_START_NOW || o->start > HARK_START_TIME))
        err = hk_fail(ei, HARK_EINVAL, "hark_reset_opts.start is %lld; see hark_start",
                      (long long)o->start);
    if (!err && (o->rate < 0 || o->rate > 1000000000))
        err = hk_fail(ei, HARK_EINVAL, "hark_reset_opts.rate is %lld; 0 to 10^9 a second",
                      (long long)o->rate);
    return err;
}

typedef struct whole {
    const char *name;
    uint64_t highest;
} whole;

static bool take_whole(void *ud, const hark_store_consumer_row *row)
{
    whole *x = ud;
    if (strcmp(row->name, x->name) != 0)
        return true;
    x->highest = row->highest;
    return false;
}

/* Of a shared store one share was loaded; how far the consumer has come as a whole the list tells. */
static hark_err look_at_whole(hark_bus *bus, const char *name, hark_store_consumer *state,
                              hark_errinfo *ei)
{
    whole x = {.name = name};
    if (!bus->info.shared)
        return HARK_OK;
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->consumers(bus->store, take_whole, &x, ei);
    hk_store_leave(bus);
    state->ret_highest = x.highest > state->ret_highest ? x.highest : state->ret_highest;
    return err;
}

/* What a reset to `from` means for a consumer in this state. */
static hark_err tell(hark_bus *bus, const hark_store_consumer *state, uint64_t from,
                     hark_reset_result *ret, hark_errinfo *ei)
{
    hark_reset_result r = {.size = sizeof r, .from = from};
    if (from <= state->ret_highest)
        r.upto = state->ret_highest;
    const hark_store_query q = {
        .size = sizeof q, .pattern = state->ret_pattern, .after = from - 1, .before = r.upto + 1};
    hark_err err = hk_bus_count(bus, &q, &r.events, ei);
    if (!err && ret)
        *ret = r;
    return err;
}

/* The first event that was recorded then or later; *ret is left alone when there is none up to `last`. */
static hark_err first_at(hark_bus *bus, int64_t from_ns, uint64_t last, uint64_t *ret,
                         hark_errinfo *ei)
{
    hark_event *e = NULL;
    hark_store_query q = {.size = sizeof q, .from_ns = from_ns, .before = last + 1, .limit = 1};
    hark_store_page page = {.events = &e};
    while (q.after < last) {
        hark_err err = hk_bus_read(bus, &q, &page, ei);
        if (err)
            return err;
        if (page.n > 0)
            *ret = hark_event_sequence(e);
        if (page.n > 0 || page.end || page.covered <= q.after)
            break;
        q.after = page.covered;
    }
    hk_page_drop(&page);
    return HARK_OK;
}

/* Where a reset would start, without doing it. */
static hark_err foresee(hark_bus *bus, const hark_reset_opts *o, uint64_t *ret, hark_errinfo *ei)
{
    hark_bus_info info = {.size = sizeof info};
    uint64_t newest = 0;
    hark_err err = hark_bus_info_get(bus, &info);
    if (!err)
        err = hk_bus_newest(bus, &newest, ei);
    if (err)
        return err;
    *ret = newest + 1;
    if (o->start == HARK_START_FIRST && info.first_sequence)
        *ret = info.first_sequence;
    if (o->start == HARK_START_SEQUENCE)
        *ret = o->start_sequence ? o->start_sequence : 1;
    return o->start == HARK_START_TIME ? first_at(bus, o->start_time_ns, newest, ret, ei) : err;
}

static hark_err try_reset(hark_bus *bus, const char *name, const hark_reset_opts *o,
                          hark_reset_result *ret, hark_errinfo *ei)
{
    hark_store_consumer state;
    uint64_t from;
    hark_err err = hk_consumer_look(bus, name, 0, &state, ei);
    if (err)
        return err;
    err = look_at_whole(bus, name, &state, ei);
    hark_sub *s = hk_consumer_find(bus, name);
    if (s) { /* what it has been handed since it was saved */
        hk_core_facts facts;
        hk_consumer_facts(s, &facts);
        state.ret_highest = facts.highest > state.ret_highest ? facts.highest : state.ret_highest;
        hk_sub_release(s);
    }
    if (!err)
        err = foresee(bus, o, &from, ei);
    if (!err)
        err = tell(bus, &state, from, ret, ei);
    hark_store_consumer_clear(&state);
    return err;
}

hark_err hark_consumer_reset(hark_bus *bus, const char *name, const hark_reset_opts *opts,
                             hark_reset_result *ret, hark_errinfo *ei)
{
    hark_reset_opts o;
    hark_err err = hk_may_operate(bus, "hark_consumer_reset", ei);
    if (!err)
        err = check(opts, &o, ret, ei);
    if (err)
        return err;
    uint64_t newest = hk_bus_visible(bus);
    if (o.start == HARK_START_SEQUENCE && o.start_sequence > newest + 1)
        err = hk_bus_newest(bus, &newest, ei);
    if (err)
        return err;
    if (o.start == HARK_START_SEQUENCE && o.start_sequence > newest + 1)
        return hk_fail(
            ei, HARK_EINVAL,
            "hark_reset_opts.start_sequence is %llu, but the log ends at %llu; what comes "
            "in between would never be delivered",
            (unsigned long long)o.start_sequence, (unsigned long long)newest);
    if (o.dry_run)
        return try_reset(bus, name, &o, ret, ei);
    resetting x = {.name = name,
                   .reset = {.size = sizeof x.reset,
                             .start = o.start,
                             .start_sequence = o.start_sequence,
                             .start_time_ns = o.start_time_ns,
                             .rerun = {.rate = o.rate}}};
    hk_uuid7(hk_wall_ns(), x.reset.rerun.id);
    err = run_reset(bus, &x, ei);
    if (bus->info.shared) /* what was loaded is one share's */
        x.state.ret_highest = x.state.ret_rerun.upto;
    if (!err)
        err = tell(bus, &x.state, x.state.ret_floor + 1, ret, ei);
    if (!err && ret)
        memcpy(ret->replay_id, x.state.ret_rerun.id, sizeof ret->replay_id);
    hark_store_consumer_clear(&x.state);
    return err;
}
