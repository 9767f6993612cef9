/* core.c: what arrives, what starts, what its end means. Saving is in save.c. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

hk_core *hk_core_new(const hk_core_opts *opts)
{
    hk_core *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->opts = *opts;
    c->waiting.by_due = true;
    c->running = calloc(opts->workers, sizeof(hk_item *));
    c->cap_running = opts->workers;
    if (!c->running) {
        free(c);
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
    free(c->ready.items);
    free(c->waiting.items);
    free(c->running);
    free(c->known);
    free(c->known_rows);
    hk_save_free(c);
    free(c);
}

size_t hk_core_room(const hk_core *c)
{
    if (c->n_deferred >= c->opts.max_deferred || c->n_memory >= c->opts.window)
        return 0;
    size_t memory = c->opts.window - c->n_memory, ledger = c->opts.max_deferred - c->n_deferred;
    return memory < ledger ? memory : ledger;
}

/* Was this event settled, or given a row, before this run? Sequences come in ascending order. */
static bool known(hk_core *c, uint64_t seq)
{
    while (c->at_known < c->n_known && c->known[c->at_known].last < seq)
        c->at_known++;
    while (c->at_known_rows < c->n_known_rows && c->known_rows[c->at_known_rows] < seq)
        c->at_known_rows++;
    return (c->at_known < c->n_known && c->known[c->at_known].first <= seq) ||
           (c->at_known_rows < c->n_known_rows && c->known_rows[c->at_known_rows] == seq);
}

/* Does the lane wait for a retry or a save, so that what comes after goes to the ledger? */
static bool lane_waits(const hk_lane *lane)
{
    if (!lane->first)
        return false;
    hk_state s = lane->first->state;
    return s == HK_SAVING || s == HK_WAITING;
}

void hk_core_ready(hk_core *c, hk_item *item)
{
    hk_item_move(item, HK_READY);
    hk_heap_push(&c->ready, item);
}

/* Puts an item behind its lane into the ledger. */
static void defer(hk_core *c, hk_item *item)
{
    hk_item_move(item, HK_BEHIND);
    hk_item_drop_payload(c, item);
    hk_item_close(c, item);
    c->n_deferred += !item->has_row;
    item->has_row = true;
    hk_item_dirty(c, item);
    c->moved = true;
}

hark_err hk_core_arrive(hk_core *c, uint64_t seq, const char *key, void *payload, bool *ret_kept)
{
    *ret_kept = false;
    assert(seq > c->covered && (!c->open_last || seq > c->open_last->seq));
    if (known(c, seq))
        return HARK_OK;
    hk_lane *lane = key ? hk_lane_take(c, key) : NULL;
    hk_item *item = key && !lane ? NULL : hk_item_new(c, seq);
    if (!item) {
        if (lane)
            hk_lane_free_if_empty(c, lane);
        return HARK_ENOMEM;
    }
    bool first = !lane || !lane->first, waits = lane && lane_waits(lane);
    if (lane)
        hk_lane_append(lane, item);
    hk_item_open(c, item);
    if (waits) {
        defer(c, item);
        return HARK_OK;
    }
    hk_item_payload_set(c, item, payload);
    *ret_kept = true;
    if (first)
        hk_core_ready(c, item);
    else
        hk_item_move(item, HK_QUEUED);
    return HARK_OK;
}

void hk_core_cover(hk_core *c, uint64_t upto)
{
    if (upto <= c->covered)
        return;
    c->covered = upto;
    c->moved = true;
}

uint64_t hk_core_covered(const hk_core *c)
{
    return c->covered;
}

static void wake_due(hk_core *c, int64_t mono)
{
    hk_item *item;
    while ((item = hk_heap_top(&c->waiting)) && item->due <= mono) {
        hk_heap_remove(&c->waiting, item);
        hk_core_ready(c, item);
    }
}

bool hk_core_start(hk_core *c, hk_now now, hk_started *ret)
{
    wake_due(c, now.mono);
    hk_item *item = hk_heap_top(&c->ready);
    if (!item || c->n_running >= c->opts.workers)
        return false;
    hk_heap_remove(&c->ready, item);
    hk_item_move(item, HK_RUNNING);
    c->running[c->n_running++] = item;
    item->started_wall = now.wall;
    if (!item->first_wall)
        item->first_wall = now.wall;
    c->highest = item->seq > c->highest ? item->seq : c->highest;
    *ret = (hk_started){
        .item = item, .seq = item->seq, .attempt = item->attempts + 1, .payload = item->payload};
    return true;
}

int64_t hk_core_due(const hk_core *c)
{
    hk_item *item = hk_heap_top(&c->waiting);
    return item ? item->due : -1;
}

static void stop_running(hk_core *c, const hk_item *item)
{
    size_t i = 0;
    while (i < c->n_running && c->running[i] != item)
        i++;
    assert(i < c->n_running);
    c->running[i] = c->running[--c->n_running];
}

void hk_core_release(hk_core *c, hk_item *head)
{
    hk_lane *lane = head->lane;
    if (!lane)
        return;
    assert(lane->first == head);
    lane->first = head->lane_next;
    head->lane = NULL;
    head->lane_next = NULL;
    if (!lane->first) {
        lane->last = NULL;
        hk_lane_free_if_empty(c, lane);
    } else {
        hk_core_ready(c, lane->first);
    }
}

/* Settled for good: off the lane, and off the ledger if it has a row there. */
static void ack(hk_core *c, hk_item *item)
{
    hk_item_close(c, item);
    hk_item_drop_payload(c, item);
    hk_core_release(c, item);
    hk_item_move(item, HK_GONE);
    c->moved = true;
    if (item->has_row) {
        c->n_deferred--;
        hk_item_dirty(c, item);
    } else if (!item->on_list) {
        hk_item_free(c, item);
    }
}

static void end_attempt(hk_core *c, hk_item *item, hark_verdict verdict, const char *error,
                        hk_now now)
{
    item->attempts++;
    item->ended_wall = now.wall;
    item->verdict = verdict;
    item->attempted = true;
    free(item->error);
    item->error = hk_strdup(error);
    hk_item_close(c, item);
    c->urgent = true;
}

static void retry(hk_core *c, hk_item *item, int64_t delay_ns, hk_now now)
{
    int64_t delay = delay_ns >= 0 ? delay_ns : c->opts.retry_delay_ns;
    item->due = now.mono + delay;
    item->due_wall = now.wall + delay;
    hk_item_drop_payload(c, item);
    hk_item_move(item, HK_SAVING);
    c->n_deferred += !item->has_row;
    item->has_row = true;
    hk_item_dirty(c, item);
    for (hk_item *behind = item->lane_next; behind; behind = behind->lane_next)
        if (behind->state == HK_QUEUED)
            defer(c, behind);
}

hark_verdict hk_core_settle(hk_core *c, hk_item *item, hark_verdict verdict, int64_t delay_ns,
                            const char *error, hk_now now)
{
    stop_running(c, item);
    if (verdict == HARK_ACK) {
        ack(c, item);
        return HARK_ACK;
    }
    end_attempt(c, item, verdict, error, now);
    bool last = c->opts.max_attempts >= 0 && item->attempts >= c->opts.max_attempts;
    if (verdict == HARK_RETRY && !last) {
        retry(c, item, delay_ns, now);
        return HARK_RETRY;
    }
    hk_item_move(item, HK_DYING); /* keeps its payload: the dead letter copies it */
    hk_item_dirty(c, item);
    return HARK_REJECT;
}

void hk_core_unstart(hk_core *c, hk_item *item)
{
    stop_running(c, item);
    hk_core_ready(c, item);
}

void hk_core_facts_get(const hk_core *c, hk_core_facts *ret)
{
    *ret = (hk_core_facts){.floor = c->open_first ? c->open_first->seq - 1 : c->covered,
                           .covered = c->covered,
                           .highest = c->highest,
                           .in_memory = c->n_memory,
                           .running = c->n_running,
                           .ready = c->ready.n,
                           .waiting = c->waiting.n,
                           .deferred = c->n_deferred};
}

uint64_t hk_core_running(const hk_core *c, size_t i)
{
    return i < c->n_running ? c->running[i]->seq : 0;
}
