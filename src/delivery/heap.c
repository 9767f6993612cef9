/* heap.c: a binary heap of items that knows where each one is. */
#include "delivery/delivery_i.h"

#include <stdlib.h>

static bool before(const hk_heap *h, const hk_item *a, const hk_item *b)
{
    if (h->by_due && a->due != b->due)
        return a->due < b->due;
    return a->seq < b->seq;
}

static void place(hk_heap *h, size_t at, hk_item *item)
{
    h->items[at] = item;
    item->heap_at = at;
}

static void up(hk_heap *h, size_t at, hk_item *item)
{
    for (; at > 1 && before(h, item, h->items[at / 2]); at /= 2)
        place(h, at, h->items[at / 2]);
    place(h, at, item);
}

static void down(hk_heap *h, size_t at, hk_item *item)
{
    for (size_t child; (child = at * 2) <= h->n; at = child) {
        if (child < h->n && before(h, h->items[child + 1], h->items[child]))
            child++;
        if (!before(h, h->items[child], item))
            break;
        place(h, at, h->items[child]);
    }
    place(h, at, item);
}

bool hk_heap_reserve(hk_heap *h, size_t n)
{
    if (n + 1 <= h->cap)
        return true;
    size_t cap = h->cap ? h->cap * 2 : 64;
    while (cap < n + 1)
        cap *= 2;
    hk_item **items = realloc(h->items, cap * sizeof *items);
    if (!items)
        return false;
    h->items = items;
    h->cap = cap;
    return true;
}

void hk_heap_push(hk_heap *h, hk_item *item)
{
    h->n++;
    up(h, h->n, item);
}

void hk_heap_remove(hk_heap *h, hk_item *item)
{
    size_t at = item->heap_at;
    hk_item *last = h->items[h->n--];
    item->heap_at = 0;
    if (last == item)
        return;
    if (at > 1 && before(h, last, h->items[at / 2]))
        up(h, at, last);
    else
        down(h, at, last);
}
