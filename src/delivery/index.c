/* index.c: items by sequence, in a chained hash table that doubles. Sequences are handed out one by
 * one, but a consumer may get every hundredth only, so their low bits alone would not spread. */
#include "delivery/delivery_i.h"

#include <stdlib.h>

static size_t bucket(uint64_t seq, size_t n)
{
    return (size_t)(seq * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (n - 1);
}

bool hk_index_reserve(hk_core *c, size_t n)
{
    if (n <= c->n_index)
        return true;
    size_t more = c->n_index ? c->n_index * 2 : 64;
    hk_item **index = calloc(more, sizeof(hk_item *));
    if (!index)
        return c->n_index > 0; /* longer chains are fine, no table is not */
    for (hk_item *item = c->all; item; item = item->all_next) {
        hk_item **first = &index[bucket(item->seq, more)];
        item->index_next = *first;
        *first = item;
    }
    free(c->index);
    c->index = index;
    c->n_index = more;
    return true;
}

void hk_index_add(hk_core *c, hk_item *item)
{
    hk_item **first = &c->index[bucket(item->seq, c->n_index)];
    item->index_next = *first;
    *first = item;
}

void hk_index_remove(hk_core *c, const hk_item *item)
{
    hk_item **link = &c->index[bucket(item->seq, c->n_index)];
    while (*link != item)
        link = &(*link)->index_next;
    *link = item->index_next;
}

hk_item *hk_index_find(const hk_core *c, uint64_t seq)
{
    if (!c->n_index)
        return NULL;
    hk_item *item = c->index[bucket(seq, c->n_index)];
    while (item && (item->seq != seq || item->state == HK_GONE))
        item = item->index_next;
    return item;
}
