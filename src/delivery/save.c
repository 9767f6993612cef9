/* save.c: the core's durable state: loading it, and collecting what a commit must change.
 *
 * The floor lies below the first open item; what was read above it and is not open is settled (or
 * in the ledger), so the settled ranges are the gaps between open items. A change that was
 * collected is in flight until hk_core_saved; items may move on meanwhile and are then looked at
 * again. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static hark_err load_known(hk_core *c, const hark_store_consumer *state)
{
    c->known = calloc(state->ret_n_settled + 1, sizeof *c->known);
    c->known_rows = calloc(state->ret_n_rows + 1, sizeof *c->known_rows);
    if (!c->known || !c->known_rows)
        return HARK_ENOMEM;
    if (state->ret_n_settled)
        memcpy(c->known, state->ret_settled, state->ret_n_settled * sizeof *c->known);
    c->n_known = state->ret_n_settled;
    for (size_t i = 0; i < state->ret_n_rows; i++)
        if (state->ret_rows[i].sequence > state->ret_floor)
            c->known_rows[c->n_known_rows++] = state->ret_rows[i].sequence;
    return HARK_OK;
}

/* A stored time is only trusted so far: clocks jump. Handlers may ask for more than the policy's. */
#define FARTHEST_DUE_NS (INT64_C(3600) * 1000000000)

static int64_t clamp_due(const hk_core *c, const hark_store_row *row, hk_now now)
{
    int64_t left = row->due_ns - now.wall;
    int64_t most =
        c->opts.retry_delay_ns > FARTHEST_DUE_NS ? c->opts.retry_delay_ns : FARTHEST_DUE_NS;
    return now.mono + (left < 0 ? 0 : left > most ? most : left);
}

static hark_err load_row(hk_core *c, const hark_store_row *row, hk_now now)
{
    hk_lane *lane = row->key ? hk_lane_take(c, row->key) : NULL;
    hk_item *item = row->key && !lane ? NULL : hk_item_new(c, row->sequence);
    if (!item)
        return HARK_ENOMEM;
    item->has_row = true;
    item->attempts = row->attempts;
    item->crashes = row->crashes;
    item->interruptions = row->interruptions;
    item->first_wall = row->first_ns;
    item->error = hk_strdup(row->error);
    item->due_wall = row->due_ns;
    c->n_deferred++;
    bool first = !lane || !lane->first;
    if (lane)
        hk_lane_append(lane, item);
    if (!first) {
        hk_item_move(item, HK_BEHIND);
    } else if (row->state == HARK_ROW_RETRY) {
        item->due = clamp_due(c, row, now);
        hk_item_move(item, HK_WAITING);
        hk_heap_push(&c->waiting, item);
    } else {
        hk_core_ready(c, item); /* what it waited behind is gone */
    }
    return HARK_OK;
}

hark_err hk_core_load(hk_core *c, const hark_store_consumer *state, hk_now now)
{
    c->covered = state->ret_floor;
    c->highest = state->ret_highest;
    hark_err err = load_known(c, state);
    for (size_t i = 0; !err && i < state->ret_n_rows; i++)
        err = load_row(c, &state->ret_rows[i], now);
    return err;
}

hk_dirt hk_core_dirt(const hk_core *c)
{
    if (c->urgent)
        return HK_DIRTY_URGENT;
    return c->moved || c->dirty_first ? HK_DIRTY_LAZY : HK_CLEAN;
}

static hark_err collect_settled(hk_core *c, hark_store_save *save)
{
    size_t n = c->n_known - c->at_known + 1;
    for (const hk_item *item = c->open_first; item; item = item->next)
        n++;
    hark_store_range *ranges = calloc(n, sizeof *ranges);
    if (!ranges)
        return HARK_ENOMEM;
    uint64_t from = 0;
    save->floor = c->open_first ? c->open_first->seq - 1 : c->covered;
    for (const hk_item *item = c->open_first; item; item = item->next) {
        if (from && item->seq > from)
            ranges[save->n_settled++] = (hark_store_range){from, item->seq - 1};
        from = item->seq + 1;
    }
    if (from && from <= c->covered)
        ranges[save->n_settled++] = (hark_store_range){from, c->covered};
    for (size_t i = c->at_known; i < c->n_known; i++) { /* not reached by reading yet */
        hark_store_range r = c->known[i];
        r.first = r.first > c->covered ? r.first : c->covered + 1;
        if (r.first <= r.last)
            ranges[save->n_settled++] = r;
    }
    save->settled = ranges;
    return HARK_OK;
}

/* Arena strings are offsets + 1 until the arena stops moving. */
static const char *keep(hk_core *c, const char *s)
{
    if (!s)
        return NULL;
    uintptr_t at = c->arena.len + 1;
    hk_buf_add(&c->arena, s, strlen(s) + 1);
    return (const char *)at;
}

static const char *kept(const hk_core *c, const char *offset)
{
    return offset ? c->arena.data + (uintptr_t)offset - 1 : NULL;
}

static hark_row_state row_state(const hk_item *item)
{
    return item->state == HK_SAVING || item->state == HK_WAITING ? HARK_ROW_RETRY : HARK_ROW_BEHIND;
}

static hark_store_row row_of(hk_core *c, const hk_item *item)
{
    return (hark_store_row){.sequence = item->seq,
                            .state = row_state(item),
                            .attempts = item->attempts,
                            .crashes = item->crashes,
                            .interruptions = item->interruptions,
                            .due_ns = item->due_wall,
                            .first_ns = item->first_wall,
                            .key = keep(c, item->lane ? item->lane->key : NULL),
                            .error = keep(c, item->error)};
}

typedef struct arrays {
    hark_store_row *put;
    uint64_t *drop;
    hark_store_attempt *attempts;
    hark_store_dead *dead;
} arrays;

static hark_err arrays_new(arrays *a, size_t n)
{
    *a = (arrays){.put = calloc(n + 1, sizeof *a->put),
                  .drop = calloc(n + 1, sizeof *a->drop),
                  .attempts = calloc(n + 1, sizeof *a->attempts),
                  .dead = calloc(n + 1, sizeof *a->dead)};
    if (a->put && a->drop && a->attempts && a->dead)
        return HARK_OK;
    free(a->put);
    free(a->drop);
    free(a->attempts);
    free(a->dead);
    return HARK_ENOMEM;
}

static void collect_item(hk_core *c, hk_item *item, hark_store_save *save, arrays *a)
{
    item->attempt_in_flight = item->attempted;
    item->attempted = false;
    item->in_flight = true;
    if (item->attempt_in_flight)
        a->attempts[save->n_attempts++] =
            (hark_store_attempt){.sequence = item->seq,
                                 .number = item->attempts,
                                 .started_ns = item->started_wall,
                                 .ended_ns = item->ended_wall,
                                 .outcome = item->verdict == HARK_REJECT ? "reject" : "retry",
                                 .error = keep(c, item->error)};
    if (item->state == HK_DYING) {
        a->dead[save->n_dead++] =
            (hark_store_dead){.event = item->payload,
                              .reason = item->verdict == HARK_REJECT ? "rejected" : "max_attempts",
                              .error = keep(c, item->error),
                              .attempts = item->attempts,
                              .first_ns = item->first_wall,
                              .dead_ns = item->ended_wall};
        item->saved_as = HK_AS_DEAD;
    }
    if (item->state == HK_GONE)
        item->saved_as = HK_AS_DROP;
    if (item->state == HK_GONE || (item->state == HK_DYING && item->has_row)) {
        a->drop[save->n_drop++] = item->seq;
    } else if (item->state != HK_DYING) {
        a->put[save->n_put++] = row_of(c, item);
        item->saved_as = HK_AS_PUT;
    }
}

/* The arena has its final place: offsets become pointers. */
static void fix_strings(hk_core *c, hark_store_save *save, arrays *a)
{
    for (size_t i = 0; i < save->n_put; i++) {
        a->put[i].key = kept(c, a->put[i].key);
        a->put[i].error = kept(c, a->put[i].error);
    }
    for (size_t i = 0; i < save->n_attempts; i++)
        a->attempts[i].error = kept(c, a->attempts[i].error);
    for (size_t i = 0; i < save->n_dead; i++)
        a->dead[i].error = kept(c, a->dead[i].error);
    save->put = a->put;
    save->drop = a->drop;
    save->attempts = a->attempts;
    save->dead = a->dead;
}

void hk_save_free(hk_core *c)
{
    free((void *)(uintptr_t)c->save.settled);
    free((void *)(uintptr_t)c->save.put);
    free((void *)(uintptr_t)c->save.drop);
    free((void *)(uintptr_t)c->save.attempts);
    free((void *)(uintptr_t)c->save.dead);
    hk_buf_free(&c->arena);
    c->save = (hark_store_save){0};
}

hark_err hk_core_collect(hk_core *c, hark_store_save *ret)
{
    assert(!c->saving);
    size_t n = 0;
    for (const hk_item *item = c->dirty_first; item; item = item->dirty_next)
        n++;
    hark_store_save save = {.size = sizeof save, .highest = c->highest};
    arrays a;
    hark_err err = arrays_new(&a, n);
    if (err)
        return err;
    err = collect_settled(c, &save);
    for (hk_item *item = c->dirty_first; !err && item; item = item->dirty_next)
        collect_item(c, item, &save, &a);
    fix_strings(c, &save, &a);
    c->save = save;
    bool failed = err || c->arena.failed;
    c->flight = c->dirty_first;
    c->dirty_first = c->dirty_last = NULL;
    c->saving = true;
    c->moved = c->urgent = false;
    if (failed) {
        hk_core_saved(c, false);
        return HARK_ENOMEM;
    }
    *ret = save;
    return HARK_OK;
}

static void commit_item(hk_core *c, hk_item *item, hk_saved_as as)
{
    if (as == HK_AS_DEAD) {
        c->n_deferred -= item->has_row;
        hk_core_release(c, item);
        hk_item_move(item, HK_GONE);
        hk_item_free(c, item);
    } else if (as == HK_AS_DROP) {
        hk_item_free(c, item);
    } else if (item->again) {
        item->again = false;
        hk_item_dirty(c, item);
    } else if (item->state == HK_SAVING) {
        hk_item_move(item, HK_WAITING);
        hk_heap_push(&c->waiting, item);
    }
}

void hk_core_saved(hk_core *c, bool ok)
{
    assert(c->saving);
    c->saving = false;
    hk_item *item = c->flight;
    c->flight = NULL;
    for (hk_item *next; item; item = next) {
        next = item->dirty_next;
        hk_saved_as as = item->saved_as;
        item->saved_as = HK_AS_NOTHING;
        item->on_list = item->in_flight = false;
        if (ok) {
            item->attempt_in_flight = false;
            commit_item(c, item, as);
        } else {
            item->again = false;
            item->attempted |= item->attempt_in_flight;
            hk_item_dirty(c, item);
            c->urgent |= item->state == HK_SAVING || item->state == HK_DYING;
        }
    }
    if (!ok)
        c->moved = true;
    hk_save_free(c);
}
