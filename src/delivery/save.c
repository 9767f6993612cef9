/* save.c: collecting what a commit must change, and what follows from the commit. Loading is in
 * load.c.
 *
 * The floor lies below the first open item; what was read above it and is not open is settled (or
 * in the ledger), so the settled ranges are the gaps between open items. A change that was
 * collected is in flight until hk_core_saved; items may move on meanwhile and are then looked at
 * again. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

hk_dirt hk_core_dirt(const hk_core *c)
{
    if (c->urgent)
        return HK_DIRTY_URGENT;
    return c->moved || c->read || c->dirty_first ? HK_DIRTY_LAZY : HK_CLEAN;
}

bool hk_core_only_read(const hk_core *c)
{
    return c->read && !c->moved && !c->urgent && !c->dirty_first;
}

static hark_err collect_settled(hk_core *c, hark_store_save *save)
{
    const hk_past *p = &c->past;
    size_t n = p->n_settled - p->at_settled + 1;
    for (const hk_item *item = c->open.first; item; item = item->next)
        n++;
    hark_store_range *ranges = calloc(n, sizeof *ranges);
    if (!ranges)
        return HARK_ENOMEM;
    uint64_t from = 0;
    save->floor = c->open.first ? c->open.first->seq - !HK_BUG(2) : c->covered;
    for (const hk_item *item = c->open.first; item; item = item->next) {
        if (from && item->seq > from)
            ranges[save->n_settled++] = (hark_store_range){from, item->seq - 1};
        from = item->seq + 1;
    }
    if (from && from <= c->covered && !HK_BUG(10))
        ranges[save->n_settled++] = (hark_store_range){from, c->covered};
    for (size_t i = p->at_settled; i < p->n_settled; i++) { /* not reached by reading yet */
        hark_store_range r = p->settled[i];
        r.first = r.first > c->covered || HK_BUG(11) ? r.first : c->covered + 1;
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

/* In memory only, and not settled: a row of it keeps no more than its counts. */
static bool is_bare(const hk_item *item)
{
    return item->is_open && !item->has_row;
}

static hark_row_state row_state(const hk_core *c, const hk_item *item)
{
    if (item->state == HK_SAVING || item->state == HK_WAITING || item->timed)
        return HARK_ROW_RETRY;
    if (item->state == HK_DYING)
        return HARK_ROW_DEAD;
    if (is_bare(item))
        return HARK_ROW_COUNTS;
    if (c->guard.on && item->due_wall && item->state != HK_BEHIND) /* it waits for its mark only */
        return HARK_ROW_RETRY;
    return item->lane && hk_lane_parks(c, item->lane) ? HARK_ROW_PARKED : HARK_ROW_BEHIND;
}

static hark_store_row row_of(hk_core *c, const hk_item *item)
{
    return (hark_store_row){.sequence = item->seq,
                            .state = row_state(c, item),
                            .attempts = item->attempts,
                            .crashes = item->crashes,
                            .interruptions = item->interruptions + item->noted,
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

static hark_err arrays_new(arrays *a, size_t n, size_t n_stale)
{
    *a = (arrays){.put = calloc(n + 1, sizeof *a->put),
                  .drop = calloc(n + n_stale + 1, sizeof *a->drop),
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

static void collect_attempt(hk_core *c, const hk_item *item, hark_store_save *save, arrays *a)
{
    a->attempts[save->n_attempts++] = (hark_store_attempt){.sequence = item->seq,
                                                           .number = item->attempts,
                                                           .started_ns = item->started_wall,
                                                           .ended_ns = item->ended_wall,
                                                           .outcome = item->outcome,
                                                           .error = keep(c, item->error)};
}

static void collect_dead(hk_core *c, const hk_item *item, hark_store_save *save, arrays *a)
{
    a->dead[save->n_dead++] = (hark_store_dead){.event = item->payload,
                                                .reason = item->reason,
                                                .error = keep(c, item->error),
                                                .attempts = item->attempts,
                                                .crashes = item->crashes,
                                                .interruptions = item->interruptions,
                                                .first_ns = item->first_wall,
                                                .dead_ns = item->ended_wall};
}

/* Does its dead letter stay at the head of its lane? */
static bool stays(const hk_core *c, const hk_item *item)
{
    return c->opts.park && item->lane;
}

/* The row of what is open, or nothing, if there is nothing to keep. */
static hk_saved_as collect_open(hk_core *c, hk_item *item, hark_store_save *save, arrays *a)
{
    if (!is_bare(item) || item->noted || item->crashes || item->interruptions) {
        item->marked |= is_bare(item);
        a->put[save->n_put++] = row_of(c, item);
        return HK_AS_PUT;
    }
    if (item->marked)
        a->drop[save->n_drop++] = item->seq;
    return HK_AS_BARE;
}

static void collect_item(hk_core *c, hk_item *item, hark_store_save *save, arrays *a)
{
    item->attempt_in_flight = item->attempted;
    item->attempted = false;
    item->in_flight = true;
    if (item->attempt_in_flight)
        collect_attempt(c, item, save, a);
    if (item->state == HK_DYING)
        collect_dead(c, item, save, a);
    bool ends = item->state == HK_GONE || (item->state == HK_DYING && !stays(c, item));
    if (!ends) {
        item->saved_as = collect_open(c, item, save, a);
    } else {
        if ((item->has_row || item->marked) && !(HK_BUG(3) && item->state == HK_GONE))
            a->drop[save->n_drop++] = item->seq;
        item->saved_as = HK_AS_DROP;
    }
    if (item->state == HK_DYING)
        item->saved_as = HK_AS_DEAD;
}

/* Rows that an earlier run left and that nothing needs any more. */
static void collect_stale(hk_core *c, hark_store_save *save, arrays *a)
{
    c->past.stale_in_flight = c->past.n_stale;
    for (size_t i = HK_BUG(34); i < c->past.n_stale; i++)
        a->drop[save->n_drop++] = c->past.stale[i];
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
    hark_store_save save = {.size = sizeof save,
                            .highest = c->highest,
                            .gap_done = c->gap_done,
                            .n_stale = c->past.n_stale};
    arrays a;
    hark_err err = arrays_new(&a, n, c->past.n_stale);
    if (err)
        return err;
    collect_stale(c, &save, &a);
    err = collect_settled(c, &save);
    for (hk_item *item = c->dirty_first; !err && item; item = item->dirty_next)
        collect_item(c, item, &save, &a);
    fix_strings(c, &save, &a);
    save.claimed = hk_guard_collect(c);
    c->save = save;
    bool failed = err || c->arena.failed;
    c->flight = c->dirty_first;
    c->dirty_first = c->dirty_last = NULL;
    c->saving = true;
    c->moved = c->read = c->urgent = false;
    if (failed) {
        hk_core_saved(c, false);
        return HARK_ENOMEM;
    }
    *ret = save;
    return HARK_OK;
}

static void commit_dead(hk_core *c, hk_item *item)
{
    c->n_extra -= !item->counted;
    hk_item_drop_payload(c, item);
    if (stays(c, item) && !HK_BUG(9)) {
        hk_item_move(c, item, HK_DEAD);
        return;
    }
    c->n_deferred -= item->has_row;
    hk_item_move(c, item, HK_GONE);
    hk_core_release(c, item);
    hk_item_free(c, item);
}

static void commit_item(hk_core *c, hk_item *item, hk_saved_as as)
{
    item->attempt_in_flight = false;
    if (as == HK_AS_DEAD) {
        commit_dead(c, item);
    } else if (as == HK_AS_DROP) {
        hk_item_free(c, item);
    } else if (item->again) {
        item->again = false;
        if (!HK_BUG(31))
            hk_item_dirty(c, item);
    } else if (item->state == HK_SAVING) {
        hk_core_wait(c, item);
    } else if (item->state == HK_MARKING) {
        hk_core_ready(c, item);
    } else if (as == HK_AS_BARE) {
        item->marked = false;
    }
}

static void keep_dirty(hk_core *c, hk_item *item)
{
    item->again = false;
    item->attempted |= item->attempt_in_flight && !HK_BUG(32);
    hk_item_dirty(c, item);
    c->urgent |= item->state == HK_SAVING || item->state == HK_DYING || item->state == HK_MARKING;
}

static void commit_rest(hk_core *c)
{
    hk_past *p = &c->past;
    p->n_stale -= p->stale_in_flight;
    if (p->n_stale)
        memmove(p->stale, p->stale + p->stale_in_flight, p->n_stale * sizeof *p->stale);
    if (c->gap_done == c->save.gap_done || HK_BUG(39))
        c->gap_done = 0;
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
        if (ok || (HK_BUG(12) && item->state == HK_SAVING))
            commit_item(c, item, as);
        else
            keep_dirty(c, item);
    }
    if (ok)
        commit_rest(c);
    else
        c->moved = true;
    c->past.stale_in_flight = 0;
    hk_guard_saved(c, ok);
    hk_save_free(c);
}
