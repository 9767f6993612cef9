/* replay_list.c: looking at replays, waiting for them, cancelling them. There are two kinds: into an
 * ad-hoc handler (a row of the store's, and an entry of the list in replay.c while it runs), and into
 * a consumer that was reset (part of the consumer's state; deliveries up to a sequence belong to it).
 *
 * The store calls back under locks of its own: what it lists is copied first, and counted and handed
 * on after. */
#include "bus/replay_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How often the floor of a consumer, or the row of a replay in another process, is looked at while somebody waits
 * for the end of the replay. */
#define LOOK_NS (INT64_C(20) * 1000000)

/* ---- one of ours ----------------------------------------------------------------------------- */

static void set_rate(hark_replay_info *ret, uint64_t done_here, int64_t ns)
{
    ret->rate = ns > 0 ? (double)done_here * 1e9 / (double)ns : 0;
    ret->left_ms = -1;
    if (ret->done + ret->missing >= ret->total)
        ret->left_ms = 0;
    else if (ret->rate > 0)
        ret->left_ms =
            (int64_t)((double)(ret->total - ret->done - ret->missing) * 1000 / ret->rate);
}

static void look_at_row(const hark_store_replay *r, hark_replay_info *ret)
{
    *ret = (hark_replay_info){.size = sizeof *ret,
                              .state = r->state,
                              .first = r->first,
                              .last = r->last,
                              .position = r->position,
                              .done = r->done,
                              .total = r->total,
                              .rejected = r->rejected,
                              .left_ms = r->state == HARK_REPLAYED ? 0 : -1};
    (void)snprintf(ret->id, sizeof ret->id, "%s", r->id);
    (void)snprintf(ret->pattern, sizeof ret->pattern, "%s", r->pattern);
    (void)snprintf(ret->error, sizeof ret->error, "%s", r->error ? r->error : "");
}

/* What the store says of one that does not run here: then one that was running no longer is, unless another process
 * has it. */
static hark_err look_at_rest(hark_bus *bus, const hark_store_replay *r, hark_replay_info *ret,
                             hark_errinfo *ei)
{
    look_at_row(r, ret);
    if (ret->state == HARK_REPLAYING && !r->elsewhere)
        ret->state = HARK_REPLAY_INTERRUPTED;
    return hk_replay_missing(bus, r, &ret->missing, ei);
}

void hk_replay_look(hk_replay *r, hark_replay_info *ret)
{
    hk_replays *rs = hk_replays_of(r->bus, false);
    pthread_mutex_lock(&rs->lock);
    bool ended = r->phase == HK_REPLAY_ENDED;
    int64_t now = ended ? r->ended_at : hk_mono_ns();
    look_at_row(&r->row.r, ret);
    if (ended && (r->lost || ret->state == HARK_REPLAYING))
        ret->state = HARK_REPLAY_INTERRUPTED;
    pthread_mutex_unlock(&rs->lock);
    if (!ended && hk_mark_get(&r->how) == HK_REPLAY_CANCELLED)
        ret->state = HARK_REPLAY_STOPPED; /* one more handler may still run */
    ret->position = hk_mark_get(&r->position);
    ret->done = hk_count_get(&r->done);
    ret->rejected = hk_count_get(&r->rejected);
    ret->missing = hk_mark_get(&r->missing);
    set_rate(ret, ret->done - r->done_before, now - r->since);
}

/* ---- consumers ------------------------------------------------------------------------------- */

/* A consumer that is, or was last, replayed into. */
typedef struct rerun {
    char consumer[132], pattern[264];
    hark_store_rerun rerun;
    uint64_t floor;
} rerun;

typedef struct reruns {
    const char *id; /* only this one; NULL = all */
    rerun *list;
    size_t n, cap;
    bool failed;
} reruns;

static bool take_rerun(void *ud, const hark_store_consumer_row *row)
{
    reruns *x = ud;
    if (!row->rerun.id[0] || (x->id && strcmp(x->id, row->rerun.id) != 0))
        return true;
    rerun *list = hk_array_room(x->list, x->n, &x->cap, 4, sizeof *list);
    x->failed = !list;
    if (!list)
        return false;
    x->list = list;
    rerun *r = &x->list[x->n++];
    *r = (rerun){.rerun = row->rerun, .floor = row->floor};
    (void)snprintf(r->consumer, sizeof r->consumer, "%s", row->name);
    (void)snprintf(r->pattern, sizeof r->pattern, "%s", row->pattern);
    return true;
}

/* The caller frees the list, also after an error. */
static hark_err list_reruns(hark_bus *bus, reruns *x, hark_errinfo *ei)
{
    hark_err err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->consumers(bus->store, take_rerun, x, ei);
    hk_store_leave(bus);
    if (!err && x->failed)
        err = hk_fail(ei, HARK_ENOMEM, "no memory for a list of replays");
    return err;
}

static hark_err no_such(const char *id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTFOUND, "no replay has the id '%.60s'; hark_replays lists them", id);
}

static hark_err find_rerun(hark_bus *bus, const char *id, rerun *ret, hark_errinfo *ei)
{
    reruns x = {.id = id};
    hark_err err = list_reruns(bus, &x, ei);
    if (!err && x.n == 0)
        err = no_such(id, ei);
    if (!err)
        *ret = x.list[0];
    free(x.list);
    return err;
}

static bool is_over(const rerun *r)
{
    return r->floor >= r->rerun.upto;
}

static hark_err look_at_rerun(hark_bus *bus, const rerun *r, hark_replay_info *ret,
                              hark_errinfo *ei)
{
    const hark_store_replay x = {.id = r->rerun.id,
                                 .pattern = r->pattern,
                                 .first = r->rerun.from,
                                 .last = r->rerun.upto,
                                 .position = is_over(r) ? r->rerun.upto : r->floor,
                                 .state = is_over(r) ? HARK_REPLAYED : HARK_REPLAYING};
    look_at_row(&x, ret);
    (void)snprintf(ret->consumer, sizeof ret->consumer, "%s", r->consumer);
    hark_err err = hk_replay_count(bus, &x, x.first, x.position, &ret->done, ei);
    if (!err)
        err = hk_replay_count(bus, &x, x.first, x.last, &ret->total, ei);
    if (!is_over(r))
        set_rate(ret, ret->done, hk_wall_ns() - r->rerun.started_ns);
    return err;
}

/* ---- getting one ----------------------------------------------------------------------------- */

static hark_err check(hark_bus *bus, const char *call, const hark_replay_info *ret,
                      hark_errinfo *ei)
{
    if (!ret || ret->size != sizeof *ret)
        return hk_fail(ei, HARK_EINVAL, "hark_replay_info.size is %zu; set it to its sizeof",
                       ret ? ret->size : 0);
    return hk_may_operate(bus, call, ei);
}

static hark_err get(hark_bus *bus, const char *id, hark_replay_info *ret, hark_errinfo *ei)
{
    hk_replay *r = hk_replay_find(bus, id);
    if (r) {
        hk_replay_look(r, ret);
        hk_replay_release(r);
        return HARK_OK;
    }
    hk_replay_row row;
    hark_err err = hk_replay_row_find(bus, id, &row, ei);
    if (err != HARK_ENOTFOUND)
        return err ? err : look_at_rest(bus, &row.r, ret, ei);
    rerun of;
    err = find_rerun(bus, id, &of, ei);
    return err ? err : look_at_rerun(bus, &of, ret, ei);
}

hark_err hark_replay_get(hark_bus *bus, const char *id, hark_replay_info *ret, hark_errinfo *ei)
{
    hark_err err = check(bus, "hark_replay_get", ret, ei);
    return err ? err : get(bus, id, ret, ei);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static int64_t time_left(int64_t deadline)
{
    int64_t left = deadline < 0 ? INT64_MAX : deadline - hk_mono_ns();
    return left > 0 ? left : 0;
}

static hark_err too_late(const char *id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ETIMEDOUT, "replay %.60s had not ended yet; wait on, or cancel it", id);
}

static hark_err wait_for_ours(hk_replay *r, int64_t deadline, hark_errinfo *ei)
{
    hk_replays *rs = hk_replays_of(r->bus, false);
    hark_err err = HARK_OK;
    pthread_mutex_lock(&rs->lock);
    if (pthread_equal(r->thread, pthread_self()))
        err = hk_fail(ei, HARK_EWRONGTHREAD, "the handler of replay %s would wait for itself",
                      r->row.id);
    while (!err && r->phase != HK_REPLAY_ENDED) {
        int64_t left = time_left(deadline);
        if (left == 0)
            err = too_late(r->row.id, ei);
        else
            (void)hk_cond_wait(&rs->changed, &rs->lock, deadline < 0 ? -1 : left);
    }
    pthread_mutex_unlock(&rs->lock);
    return err;
}

/* Of one that does not run here: is it under way? The floor of the consumer tells, or the other process. */
static hark_err look_if_under_way(hark_bus *bus, const char *id, bool consumer, bool *ret,
                                  hark_errinfo *ei)
{
    rerun r = {.floor = 0};
    hk_replay_row row = {.r.elsewhere = 0};
    hark_err err = consumer ? find_rerun(bus, id, &r, ei) : hk_replay_row_find(bus, id, &row, ei);
    if (err == HARK_ENOTFOUND && !consumer)
        err = no_such(id, ei);
    *ret = consumer ? !is_over(&r) : row.r.elsewhere && row.r.state == HARK_REPLAYING;
    return err;
}

/* The store keeps it: it is looked at every now and then. */
static hark_err wait_for_others(hark_bus *bus, const char *id, bool consumer, int64_t deadline,
                                hark_errinfo *ei)
{
    hk_replays *rs = hk_replays_of(bus, true);
    if (!rs)
        return hk_fail(ei, HARK_ENOMEM, "no memory to wait for a replay");
    for (;;) {
        bool goes = false;
        hark_err err = look_if_under_way(bus, id, consumer, &goes, ei);
        if (!err && !hk_bus_accepts(bus))
            err = hk_fail(ei, HARK_ECLOSED, "the bus is closed or draining");
        if (err || !goes)
            return err;
        int64_t left = time_left(deadline);
        if (left == 0)
            return too_late(id, ei);
        pthread_mutex_lock(&rs->lock); /* a drain wakes it early */
        (void)hk_cond_wait(&rs->changed, &rs->lock, left < LOOK_NS ? left : LOOK_NS);
        pthread_mutex_unlock(&rs->lock);
    }
}

hark_err hark_replay_wait(hark_bus *bus, const char *id, int64_t timeout_ms, hark_replay_info *ret,
                          hark_errinfo *ei)
{
    int64_t deadline = timeout_ms < 0 ? -1 : hk_mono_ns() + hk_ms_to_ns(timeout_ms);
    hark_err err = check(bus, "hark_replay_wait", ret, ei);
    if (err)
        return err;
    hk_replay *r = hk_replay_find(bus, id);
    if (r) {
        err = wait_for_ours(r, deadline, ei);
        if (!err)
            hk_replay_look(r, ret);
        hk_replay_release(r);
        return err;
    }
    hark_replay_info now = {.size = sizeof now};
    err = get(bus, id, &now, ei);
    if (!err && now.state == HARK_REPLAYING) {
        err = wait_for_others(bus, id, now.consumer[0] != '\0', deadline, ei);
        if (!err)
            err = get(bus, id, &now, ei);
    }
    if (!err)
        *ret = now;
    return err;
}

/* ---- all of them ----------------------------------------------------------------------------- */

typedef struct rows {
    hk_replay_row *list;
    size_t n, cap;
    bool failed;
} rows;

static bool take_row(void *ud, const hark_store_replay *r)
{
    rows *x = ud;
    hk_replay_row *list = hk_array_room(x->list, x->n, &x->cap, 8, sizeof *list);
    x->failed = !list;
    if (!list)
        return false;
    x->list = list;
    hk_replay_row *row = &x->list[x->n++];
    row->error[0] = '\0';
    hk_replay_row_set(row, r);
    return true;
}

static hark_err look_at_listed(hark_bus *bus, hk_replay_row *row, hark_replay_info *ret,
                               hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    hk_replay *r = hk_replay_find(bus, row->id);
    row->r.error = row->error[0] ? row->error : NULL; /* the list may have been moved since */
    row->r.id = row->id;
    row->r.pattern = row->pattern;
    if (r)
        hk_replay_look(r, ret);
    else
        err = look_at_rest(bus, &row->r, ret, ei);
    if (r)
        hk_replay_release(r);
    return err;
}

static hark_err show_all(hark_bus *bus, rows *own, reruns *others,
                         bool (*fn)(const hark_replay_info *, void *), void *ud, hark_errinfo *ei)
{
    for (size_t i = 0; i < own->n + others->n; i++) {
        hark_replay_info info;
        hark_err err = i < own->n ? look_at_listed(bus, &own->list[i], &info, ei)
                                  : look_at_rerun(bus, &others->list[i - own->n], &info, ei);
        if (err || !fn(&info, ud))
            return err;
    }
    return HARK_OK;
}

hark_err hark_replays(hark_bus *bus, bool (*fn)(const hark_replay_info *info, void *ud), void *ud,
                      hark_errinfo *ei)
{
    rows own = {0};
    reruns others = {0};
    hark_err err = hk_may_operate(bus, "hark_replays", ei);
    if (!err)
        err = hk_replay_rows(bus, take_row, &own, ei);
    if (!err && own.failed)
        err = hk_fail(ei, HARK_ENOMEM, "no memory for a list of replays");
    if (!err)
        err = list_reruns(bus, &others, ei);
    if (!err)
        err = show_all(bus, &own, &others, fn, ud, ei);
    free(own.list);
    free(others.list);
    return err;
}

/* ---- cancelling ------------------------------------------------------------------------------ */

static hark_err has_ended(const char *id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECONFLICT, "replay %.60s has ended already", id);
}

/* Nothing more is started; what its handler runs goes on. Stored when this returns. */
static hark_err cancel_ours(hk_replay *r, hark_errinfo *ei)
{
    if (!hk_mark_move(&r->how, HK_REPLAY_GOES, HK_REPLAY_CANCELLED))
        return hk_mark_get(&r->how) == HK_REPLAY_DRAINED
                   ? hk_fail(ei, HARK_ECLOSED, "the bus is closed or draining")
                   : has_ended(r->row.id, ei);
    hk_gate_open(&r->gate);
    return hk_replay_save(r, ei);
}

/* Its id is taken meanwhile, so that nobody goes on with it. */
static hark_err cancel_stored(hark_bus *bus, const char *id, hark_errinfo *ei)
{
    hk_replay_row row;
    hk_replay *taken;
    hark_err err = hk_replay_row_find(bus, id, &row, ei);
    if (!err)
        err = hk_replay_take(bus, row.id, &taken, ei);
    if (err)
        return err;
    hk_ref_get(&taken->refs, 1);
    err = hk_replay_row_find(bus, id, &row, ei);
    if (!err && (row.r.state == HARK_REPLAYED || row.r.state == HARK_REPLAY_STOPPED))
        err = has_ended(id, ei);
    if (!err && row.r.elsewhere)
        err = hk_fail(ei, HARK_EEXIST, "replay %.60s runs in another process; cancel it there", id);
    row.r.state = HARK_REPLAY_STOPPED;
    row.r.holds = 0;
    if (!err)
        err = hk_replay_put(bus, &row, ei);
    hk_replay_drop(taken);
    hk_replay_release(taken);
    return err;
}

static hark_err end_rerun_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    const rerun *r = ud;
    hark_store_consumer state = {.size = sizeof state, .name = r->consumer, .find = 1};
    hark_err err = bus->ops->consumer_open(bus->store, &state, ei);
    hark_store_reset end = {.size = sizeof end, .consumer = state.ret_id, .keep = 1};
    if (!err && strcmp(state.ret_rerun.id, r->rerun.id) != 0) /* reset again meanwhile */
        err = no_such(r->rerun.id, ei);
    if (!err)
        err = bus->ops->consumer_reset(bus->store, &end, ei);
    hark_store_consumer_clear(&state);
    return err;
}

static void end_rerun_here(hark_sub *s)
{
    hk_consumer *c = s->consumer;
    pthread_mutex_lock(&c->lock);
    hk_cores_end_replay(c->cores);
    c->rerun = (hark_store_rerun){0};
    hk_consumer_unlock(c);
    hk_gate_open(&s->gate); /* what its rate held back */
    hk_sub_release(s);
}

/* It has come to where it stood before the reset: only the mark goes. */
static hark_err drop_mark(hark_bus *bus, rerun *r, hark_errinfo *ei)
{
    pthread_mutex_lock(&bus->admin);
    hark_err err = hk_writer_insist(bus, end_rerun_job, r, ei);
    hark_sub *s = err ? NULL : hk_consumer_find(bus, r->consumer);
    if (s)
        end_rerun_here(s);
    pthread_mutex_unlock(&bus->admin);
    return err;
}

/* Back to where it stood before the reset, as far as everything was settled then: nothing that it
 * never did is passed over. */
static hark_err cancel_consumer(hark_bus *bus, const char *id, hark_errinfo *ei)
{
    rerun r;
    hark_err err = find_rerun(bus, id, &r, ei);
    if (err)
        return err;
    if (is_over(&r))
        return has_ended(id, ei);
    if (r.floor >= r.rerun.settled)
        return drop_mark(bus, &r, ei);
    return hk_consumer_skip_to(bus, r.consumer, r.rerun.settled + 1, ei);
}

hark_err hark_replay_cancel(hark_bus *bus, const char *id, hark_errinfo *ei)
{
    hark_err err = hk_may_operate(bus, "hark_replay_cancel", ei);
    if (err)
        return err;
    hk_replay *r = hk_replay_find(bus, id);
    if (r) {
        err = cancel_ours(r, ei);
        hk_replay_release(r);
        return err;
    }
    err = cancel_stored(bus, id, ei);
    return err == HARK_ENOTFOUND ? cancel_consumer(bus, id, ei) : err;
}
