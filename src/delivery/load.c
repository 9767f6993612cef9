/* load.c: what an earlier run left: rows become items again; the settled set, and rows that only
 * keep counts, are looked up as reading comes to them. */
#include "delivery/delivery_i.h"

#include <stdlib.h>
#include <string.h>

static hark_err past_new(hk_past *p, const hark_store_consumer *state)
{
    size_t n = state->ret_n_rows + 1;
    p->settled = calloc(state->ret_n_settled + 1, sizeof *p->settled);
    p->rows = calloc(n, sizeof *p->rows);
    p->lent = calloc(n, sizeof *p->lent);
    p->stale = calloc(n, sizeof *p->stale);
    if (!p->settled || !p->rows || !p->lent || !p->stale)
        return HARK_ENOMEM;
    if (state->ret_n_settled)
        memcpy(p->settled, state->ret_settled, state->ret_n_settled * sizeof *p->settled);
    p->n_settled = state->ret_n_settled;
    return HARK_OK;
}

void hk_past_free(hk_core *c)
{
    hk_past *p = &c->past;
    for (size_t i = 0; i < p->n_lent; i++)
        free(p->lent[i].error);
    free(p->settled);
    free(p->rows);
    free(p->lent);
    free(p->stale);
}

static bool settled_has(hk_past *p, uint64_t seq)
{
    while (p->at_settled < p->n_settled && p->settled[p->at_settled].last < seq)
        p->at_settled++;
    return p->at_settled < p->n_settled && p->settled[p->at_settled].first <= seq;
}

bool hk_past_has(hk_core *c, uint64_t seq)
{
    hk_past *p = &c->past;
    while (p->at_rows < p->n_rows && p->rows[p->at_rows] < seq)
        p->at_rows++;
    return (settled_has(p, seq) && !HK_BUG(26)) ||
           (p->at_rows < p->n_rows && p->rows[p->at_rows] == seq);
}

/* Of things in ascending order, how many lie before `seq`. */
static size_t ranges_before(const hk_past *p, uint64_t seq)
{
    size_t from = 0, to = p->n_settled;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (p->settled[mid].last < seq)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

static size_t rows_before(const hk_past *p, uint64_t seq)
{
    size_t from = 0, to = p->n_rows;
    while (from < to) {
        size_t mid = from + (to - from) / 2;
        if (p->rows[mid] < seq)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

bool hk_past_knows(const hk_core *c, uint64_t seq)
{
    const hk_past *p = &c->past;
    size_t range = ranges_before(p, seq), row = rows_before(p, seq);
    return (range < p->n_settled && p->settled[range].first <= seq && !HK_BUG(58)) ||
           (row < p->n_rows && p->rows[row] == seq);
}

static void stale(hk_core *c, uint64_t seq)
{
    c->past.stale[c->past.n_stale++] = seq;
    c->moved = true;
}

/* Those below did not arrive: what they would have lent is of no use any more. */
static void skip_lent(hk_core *c, uint64_t below)
{
    hk_past *p = &c->past;
    for (; p->at_lent < p->n_lent && p->lent[p->at_lent].seq < below; p->at_lent++)
        stale(c, p->lent[p->at_lent].seq);
}

void hk_past_lend(hk_core *c, hk_item *item)
{
    skip_lent(c, item->seq);
    hk_past *p = &c->past;
    if (p->at_lent == p->n_lent || p->lent[p->at_lent].seq != item->seq)
        return;
    hk_lent *lent = &p->lent[p->at_lent++];
    item->marked = true;
    item->crashes = HK_BUG(20) ? 0 : lent->crashes;
    item->interruptions = lent->interruptions;
    item->first_wall = lent->first_wall;
    item->error = lent->error;
    lent->error = NULL;
}

void hk_past_reach(hk_core *c, uint64_t upto)
{
    skip_lent(c, upto + 1);
}

void hk_past_forget(hk_core *c, uint64_t seq)
{
    hk_past *p = &c->past;
    size_t i = HK_BUG(41) ? p->n_stale : p->stale_in_flight;
    while (i < p->n_stale && p->stale[i] != seq)
        i++;
    if (i < p->n_stale)
        p->stale[i] = p->stale[--p->n_stale];
}

/* A stored time is only trusted so far: clocks jump. Handlers may ask for more than the policy's. */
#define FARTHEST_DUE_NS (INT64_C(3600) * 1000000000)

static int64_t clamp_due(const hk_core *c, const hark_store_row *row, hk_now now)
{
    int64_t most = c->opts.retry_max_ns > FARTHEST_DUE_NS ? c->opts.retry_max_ns : FARTHEST_DUE_NS;
    if (row->due_ns <= now.wall)
        return now.mono;
    bool far = row->due_ns >= hk_later(now.wall, most) && !HK_BUG(42);
    return hk_later(now.mono, far ? most : row->due_ns - now.wall);
}

/* The drop is urgent: somebody may redrive the event, and then its row must stay. */
static void load_stale(hk_core *c, uint64_t seq)
{
    stale(c, seq);
    c->urgent = true;
}

static void load_counts(hk_core *c, const hark_store_row *row)
{
    hk_past *p = &c->past;
    if (row->sequence <= c->covered || settled_has(p, row->sequence)) {
        load_stale(c, row->sequence);
        return;
    }
    p->lent[p->n_lent++] = (hk_lent){.seq = row->sequence,
                                     .crashes = row->crashes,
                                     .interruptions = row->interruptions,
                                     .first_wall = row->first_ns,
                                     .error = hk_strdup(row->error)};
}

static void fill(hk_core *c, hk_item *item, const hark_store_row *row, hk_now now)
{
    item->loaded = row->state;
    item->attempts = row->attempts + (HK_BUG(6) ? row->crashes : 0);
    item->crashes = row->crashes;
    item->interruptions = row->interruptions;
    item->first_wall = row->first_ns;
    item->error = hk_strdup(row->error);
    item->due_wall = row->due_ns;
    item->due = clamp_due(c, row, now);
    item->timed = row->state == HARK_ROW_RETRY;
    hk_item_row(c, item);
}

static hark_err load_row(hk_core *c, const hark_store_row *row, hk_now now)
{
    hk_lane *lane;
    hk_item *item = hk_lane_item(c, row->sequence, row->key, &lane);
    if (!item)
        return HARK_ENOMEM;
    fill(c, item, row, now);
    /* What was redriven while the lane was parked waits behind the dead letter, though it is older. */
    if (lane && row->state == HARK_ROW_DEAD && lane->first && lane->first->loaded != HARK_ROW_DEAD)
        hk_lane_prepend(lane, item);
    else if (lane && HK_BUG(7) && lane->first)
        hk_lane_prepend(lane, item);
    else if (lane)
        hk_lane_append(lane, item);
    return HARK_OK;
}

/* Its lane is complete. */
static void place(hk_core *c, hk_item *item)
{
    if (item->lane && item->lane->first != item)
        hk_item_move(c, item, HK_BEHIND);
    else if (item->loaded == HARK_ROW_DEAD)
        hk_item_move(c, item, HK_DEAD);
    else if (item->loaded == HARK_ROW_RETRY)
        hk_core_wait(c, item);
    else
        hk_core_ready(c, item); /* what it waited behind is gone */
}

static hark_err load_rows(hk_core *c, const hark_store_consumer *state, hk_now now)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; !err && i < state->ret_n_rows; i++) {
        const hark_store_row *row = &state->ret_rows[i];
        if (row->state == HARK_ROW_COUNTS) {
            load_counts(c, row);
            continue;
        }
        if (row->sequence > c->covered)
            c->past.rows[c->past.n_rows++] = row->sequence;
        if (row->state == HARK_ROW_DEAD && (!c->opts.park || !row->key))
            load_stale(c, row->sequence);
        else
            err = load_row(c, row, now);
    }
    return err;
}

hark_err hk_core_load(hk_core *c, const hark_store_consumer *state, hk_now now)
{
    c->covered = state->ret_floor;
    c->highest = state->ret_highest;
    hk_rerun_load(&c->rerun, &state->ret_rerun, c->opts.shares, now);
    hark_err err = past_new(&c->past, state);
    if (!err)
        err = load_rows(c, state, now);
    if (err)
        return err;
    c->past.at_settled = 0;
    for (hk_item *item = c->all; item; item = item->all_next)
        place(c, item);
    return HARK_OK;
}
