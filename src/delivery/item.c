/* item.c: items, the moves that they may make, and the lists they are on. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>

#define TO(s) (1u << HK_##s)
/* From each state, where to. Loading a ledger starts in NEW too. */
static const unsigned moves[HK_STATES] = {
    [HK_NEW] = TO(READY) | TO(QUEUED) | TO(BEHIND) | TO(WAITING),
    [HK_READY] = TO(RUNNING),
    [HK_QUEUED] = TO(READY) | TO(BEHIND),
    [HK_BEHIND] = TO(READY),
    [HK_RUNNING] = TO(GONE) | TO(SAVING) | TO(DYING) | TO(READY),
    [HK_SAVING] = TO(WAITING),
    [HK_WAITING] = TO(READY),
    [HK_DYING] = TO(GONE),
    [HK_GONE] = 0,
};
#undef TO

void hk_item_move(hk_item *item, hk_state to)
{
    bool allowed = (moves[item->state] & 1u << to) != 0;
    assert(allowed);
    (void)allowed; /* release builds do not check */
    item->state = to;
    /* Behind the head of a lane nothing may run. */
    assert(!item->lane || item->lane->first == item || to == HK_QUEUED || to == HK_BEHIND ||
           to == HK_GONE);
}

hk_item *hk_item_new(hk_core *c, uint64_t seq)
{
    /* Whatever becomes of the item later needs no memory then. */
    if (!hk_heap_reserve(&c->ready, c->n_items + 1) ||
        !hk_heap_reserve(&c->waiting, c->n_items + 1))
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
    return item;
}

void hk_item_free(hk_core *c, hk_item *item)
{
    hk_item_drop_payload(c, item);
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
    item->prev = c->open_last;
    if (c->open_last)
        c->open_last->next = item;
    else
        c->open_first = item;
    c->open_last = item;
}

void hk_item_close(hk_core *c, hk_item *item)
{
    if (!item->is_open)
        return;
    item->is_open = false;
    if (item->prev)
        item->prev->next = item->next;
    else
        c->open_first = item->next;
    if (item->next)
        item->next->prev = item->prev;
    else
        c->open_last = item->prev;
    item->prev = item->next = NULL;
    c->moved = true;
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
    item->counted = !item->has_row; /* the ledger counts those that have a row */
    c->n_memory += item->counted;
}

void *hk_item_payload(const hk_item *item)
{
    return item->payload;
}
