/* item.c: items, the moves that they may make, and the lists they are on. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>

#define TO(s) (1u << HK_##s)
/* From each state, where to. Loading a ledger starts in NEW too. */
static const unsigned moves[HK_STATES] = {
    [HK_NEW] = TO(READY) | TO(QUEUED) | TO(BEHIND) | TO(WAITING) | TO(DEAD),
    [HK_READY] = TO(RUNNING) | TO(DYING) | TO(MARKING),
    [HK_MARKING] = TO(READY),
    [HK_QUEUED] = TO(READY) | TO(BEHIND),
    [HK_BEHIND] = TO(READY) | TO(WAITING),
    [HK_RUNNING] = TO(GONE) | TO(SAVING) | TO(DYING) | TO(READY),
    [HK_SAVING] = TO(WAITING),
    [HK_WAITING] = TO(READY),
    [HK_DYING] = TO(GONE) | TO(DEAD),
    [HK_DEAD] = TO(WAITING) | TO(GONE),
    [HK_GONE] = 0,
};
#undef TO

static void list_add(hk_list *l, hk_item *item)
{
    item->prev = l->last;
    item->next = NULL;
    if (l->last)
        l->last->next = item;
    else
        l->first = item;
    l->last = item;
}

static void list_remove(hk_list *l, hk_item *item)
{
    if (item->prev)
        item->prev->next = item->next;
    else
        l->first = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else
        l->last = item->prev;
    item->prev = item->next = NULL;
}

/* The figures of what waits behind lanes. */
static void count_behind(hk_core *c, hk_lane *lane, bool more)
{
    size_t *figure = lane->parked ? &c->n_parked : &c->n_behind;
    lane->n_behind = more ? lane->n_behind + 1 : lane->n_behind - 1;
    *figure = more ? *figure + 1 : *figure - 1;
}

static void park(hk_core *c, hk_item *item)
{
    item->lane->parked = true;
    c->n_behind -= item->lane->n_behind;
    c->n_parked += item->lane->n_behind;
    c->n_dead++;
    list_add(&c->dead, item);
}

static void unpark(hk_core *c, hk_item *item)
{
    item->lane->parked = false;
    c->n_behind += item->lane->n_behind;
    c->n_parked -= item->lane->n_behind;
    c->n_dead--;
    list_remove(&c->dead, item);
}

void hk_item_move(hk_core *c, hk_item *item, hk_state to)
{
    bool allowed = (moves[item->state] & 1u << to) != 0;
    assert(allowed);
    (void)allowed; /* release builds do not check */
    if (item->state == HK_BEHIND)
        count_behind(c, item->lane, false);
    if (item->state == HK_DEAD)
        unpark(c, item);
    if (item->state == HK_MARKING)
        hk_guard_marked(c, item);
    item->state = to;
    if (to == HK_BEHIND)
        count_behind(c, item->lane, true);
    if (to == HK_QUEUED && (!item->lane->queued || HK_BUG(44)))
        item->lane->queued = item; /* it came last */
    if (to == HK_DEAD)
        park(c, item);
    /* Behind the head of a lane nothing may run. */
    assert(!item->lane || item->lane->first == item || to == HK_QUEUED || to == HK_BEHIND);
}

hk_item *hk_item_new(hk_core *c, uint64_t seq)
{
    /* Whatever becomes of the item later needs no memory then. */
    if (!hk_heap_reserve(&c->ready, c->n_items + 1) ||
        !hk_heap_reserve(&c->paced, c->n_items + 1) ||
        !hk_heap_reserve(&c->waiting, c->n_items + 1) || !hk_index_reserve(c, c->n_items + 1))
        return NULL;
    hk_item *item = calloc(1, sizeof *item);
    if (!item)
        return NULL;
    item->seq = seq;
    item->all_next = c->all;
    if (c->all)
        c->all->all_prev = item;
    c->all = item;
    c->n_items++;
    hk_index_add(c, item);
    return item;
}

void hk_item_free(hk_core *c, hk_item *item)
{
    hk_item_drop_payload(c, item);
    hk_index_remove(c, item);
    if (item->all_prev)
        item->all_prev->all_next = item->all_next;
    else
        c->all = item->all_next;
    if (item->all_next)
        item->all_next->all_prev = item->all_prev;
    free(item->error);
    free(item);
    c->n_items--;
}

void hk_item_drop_payload(hk_core *c, hk_item *item)
{
    if (item->counted)
        c->n_memory--;
    item->counted = false;
    if (item->payload)
        c->opts.drop(item->payload);
    item->payload = NULL;
}

void hk_item_open(hk_core *c, hk_item *item)
{
    item->is_open = true;
    list_add(&c->open, item);
}

void hk_item_close(hk_core *c, hk_item *item)
{
    if (!item->is_open)
        return;
    item->is_open = false;
    list_remove(&c->open, item);
    c->moved = true;
}

void hk_item_row(hk_core *c, hk_item *item)
{
    c->n_deferred += !item->has_row;
    item->has_row = true;
}

void hk_item_dirty(hk_core *c, hk_item *item)
{
    if (item->on_list) {
        item->again = item->in_flight;
        return;
    }
    item->on_list = true;
    item->dirty_next = NULL;
    if (c->dirty_last)
        c->dirty_last->dirty_next = item;
    else
        c->dirty_first = item;
    c->dirty_last = item;
}

void hk_item_payload_set(hk_core *c, hk_item *item, void *payload)
{
    assert(!item->payload);
    item->payload = payload;
    item->counted = payload && !item->has_row; /* the ledger counts those that have a row */
    c->n_memory += item->counted;
}
