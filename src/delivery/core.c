/* core.c: what arrives and what starts. What an end means is in end.c, leases are in lease.c, what
 * is stored in load.c and save.c. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>

hk_core *hk_core_new(const hk_core_opts *opts)
{
    hk_core *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->opts = *opts;
    c->paused = opts->paused;
    c->rng = opts->seed;
    c->waiting.by_due = true;
    if (!hk_places_new(c)) {
        hk_core_free(c);
        return NULL;
    }
    return c;
}

void hk_core_free(hk_core *c)
{
    if (!c)
        return;
    while (c->all)
        hk_item_free(c, c->all);
    hk_lanes_free(c);
    free(c->index);
    free(c->ready.items);
    free(c->paced.items);
    free(c->waiting.items);
    free(c->places);
    free(c->order);
    hk_past_free(c);
    hk_save_free(c);
    free(c);
}

static size_t left(size_t used, size_t most)
{
    return used < most ? most - used : 0;
}

size_t hk_core_room(const hk_core *c)
{
    size_t memory = left(HK_BUG(15) ? 0 : c->n_memory, c->opts.window);
    size_t ledger = HK_BUG(14) ? memory : left(c->n_deferred, c->opts.max_deferred);
    return memory < ledger ? memory : ledger;
}

static hk_heap *ready_heap(hk_core *c, const hk_item *item)
{
    return hk_rerun_paces(&c->rerun, item->seq) ? &c->paced : &c->ready;
}

void hk_core_ready(hk_core *c, hk_item *item)
{
    item->timed = false;
    hk_item_move(c, item, HK_READY);
    hk_heap_push(ready_heap(c, item), item);
}

void hk_core_unready(hk_core *c, hk_item *item)
{
    hk_heap_remove(ready_heap(c, item), item);
}

void hk_core_wait(hk_core *c, hk_item *item)
{
    hk_item_move(c, item, HK_WAITING);
    hk_heap_push(&c->waiting, item);
}

const char *hk_core_doom(const hk_core *c, const hk_item *item)
{
    int64_t crashes = item->crashes - HK_BUG(23) + (HK_BUG(37) ? item->interruptions : 0);
    if (c->opts.max_crashes > 0 && crashes >= c->opts.max_crashes)
        return "crash";
    bool interrupted =
        c->opts.max_interruptions > 0 && item->interruptions >= c->opts.max_interruptions;
    return interrupted ? "interrupted" : NULL;
}

static void kill_ready(hk_core *c, hk_item *item, hk_now now)
{
    hk_core_unready(c, item);
    hk_core_give_up(c, item, hk_core_doom(c, item), now);
}

hark_err hk_core_arrive(hk_core *c, uint64_t seq, const char *key, void *payload, hk_now now,
                        bool *ret_kept)
{
    *ret_kept = false;
    assert(seq > c->covered && (!c->open.last || seq > c->open.last->seq));
    if (hk_past_has(c, seq))
        return HARK_OK;
    hk_lane *lane;
    hk_item *item = hk_lane_item(c, seq, key, &lane);
    if (!item)
        return HARK_ENOMEM;
    bool waits = lane && hk_lane_waits(c, lane);
    if (lane)
        hk_lane_append(lane, item);
    hk_past_lend(c, item);
    hk_guard_loaded(c, item);
    hk_item_open(c, item);
    if (waits) {
        hk_core_defer(c, item);
        return HARK_OK;
    }
    hk_item_payload_set(c, item, payload);
    *ret_kept = true;
    if (item->lane && item->lane->first != item) {
        hk_item_move(c, item, HK_QUEUED);
        return HARK_OK;
    }
    hk_core_ready(c, item);
    if (!c->paused && hk_core_doom(c, item))
        kill_ready(c, item, now);
    return HARK_OK;
}

void hk_core_cover(hk_core *c, uint64_t upto)
{
    if (upto <= c->covered)
        return;
    c->covered = upto;
    c->read = true;
    hk_past_reach(c, upto);
}

uint64_t hk_core_covered(const hk_core *c)
{
    return c->covered;
}

void hk_core_pause(hk_core *c, bool paused)
{
    c->paused = paused;
    if (paused)
        hk_guard_rest(c);
}

void hk_core_end_replay(hk_core *c)
{
    hk_item *item;
    while ((item = hk_heap_top(&c->paced))) {
        hk_heap_remove(&c->paced, item);
        hk_heap_push(&c->ready, item);
    }
    c->rerun = (hk_rerun){0};
}

void hk_core_gap_done(hk_core *c, uint64_t upto)
{
    if (upto <= c->gap_done)
        return;
    c->gap_done = upto;
    c->moved = true;
}

static void wake_due(hk_core *c, int64_t mono)
{
    hk_item *item;
    while ((item = hk_heap_top(&c->waiting)) && (item->due <= mono || HK_BUG(25))) {
        hk_heap_remove(&c->waiting, item);
        hk_core_ready(c, item);
    }
}

/* The first of a heap. Those before it that must not run, and whose bytes are at hand, become dead
 * letters. */
static hk_item *first_ready(hk_core *c, const hk_heap *h, hk_now now)
{
    hk_item *item;
    while ((item = hk_heap_top(h)) && item->payload && hk_core_doom(c, item))
        kill_ready(c, item, now);
    return item;
}

/* While the store fails, dead letters are not piled up beyond the window. A replay that keeps its
 * pace does not hold up the others. */
static hk_item *first(hk_core *c, hk_now now)
{
    wake_due(c, now.mono);
    c->rerun.throttled = false;
    if (c->paused && !HK_BUG(29))
        return NULL;
    if (hk_guard_alone(c))
        return c->guard.alone && c->guard.alone->state == HK_READY ? c->guard.alone : NULL;
    hk_item *paced = first_ready(c, &c->paced, now), *item = first_ready(c, &c->ready, now);
    if (c->n_running >= c->opts.workers || c->n_extra >= c->opts.window)
        return NULL;
    if (paced && hk_rerun_may(&c->rerun, now.mono))
        return paced;
    return paced && HK_BUG(40) ? NULL : item;
}

hk_item *hk_core_next_item(hk_core *c, hk_now now)
{
    hk_item *item = first(c, now);
    return item && (!c->guard.on || hk_guard_admits(c, item)) ? item : NULL;
}

static hk_started begin(hk_core *c, hk_item *item, hk_now now, int64_t until)
{
    bool doomed = hk_core_doom(c, item) != NULL;
    hk_rerun_pass(&c->rerun, item->seq, now.mono);
    hk_core_unready(c, item);
    hk_item_move(c, item, HK_RUNNING);
    item->started = now.mono;
    item->started_wall = now.wall;
    if (!item->first_wall)
        item->first_wall = now.wall;
    if (item->seq > c->highest || HK_BUG(35)) {
        c->highest = item->seq;
        c->moved = true;
    }
    return (hk_started){.lease = hk_lease_begin(c, item, doomed ? -1 : until),
                        .seq = item->seq,
                        .attempt = item->attempts + 1,
                        .payload = item->payload,
                        .replayed = item->seq <= c->rerun.upto,
                        .doomed = doomed};
}

bool hk_core_start(hk_core *c, hk_now now, int64_t until, hk_started *ret)
{
    hk_item *item = hk_core_next_item(c, now);
    if (!item || (item->suspect && hk_guard_needs(c, item)))
        return false;
    *ret = begin(c, item, now, until);
    return true;
}

uint64_t hk_core_next(hk_core *c, hk_now now)
{
    const hk_item *item = hk_core_next_item(c, now);
    return item ? item->seq : 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

int64_t hk_core_due(const hk_core *c)
{
    if (c->paused)
        return c->soonest;
    const hk_item *item = hk_heap_top(&c->waiting);
    int64_t due = earlier(HK_BUG(27) ? -1 : c->soonest, item && !HK_BUG(28) ? item->due : -1);
    return earlier(due, hk_rerun_due(&c->rerun));
}
