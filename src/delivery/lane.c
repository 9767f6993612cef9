/* lane.c: lanes by key, in a chained hash table that doubles. */
#include "delivery/delivery_i.h"

#include <stdlib.h>
#include <string.h>

hk_lane *hk_lane_find(const hk_core *c, const char *key)
{
    if (!c->n_buckets)
        return NULL;
    uint64_t h = hk_hash(key, strlen(key));
    hk_lane *lane = c->buckets[h & (c->n_buckets - 1)];
    while (lane && (lane->hash != h || strcmp(lane->key, key) != 0))
        lane = lane->chain;
    return lane;
}

static bool grow(hk_core *c)
{
    size_t n = c->n_buckets ? c->n_buckets * 2 : 64;
    hk_lane **buckets = calloc(n, sizeof(hk_lane *));
    if (!buckets)
        return c->n_buckets > 0; /* longer chains are fine, no table is not */
    for (size_t i = 0; i < c->n_buckets; i++)
        for (hk_lane *lane = c->buckets[i], *next; lane; lane = next) {
            next = lane->chain;
            lane->chain = buckets[lane->hash & (n - 1)];
            buckets[lane->hash & (n - 1)] = lane;
        }
    free(c->buckets);
    c->buckets = buckets;
    c->n_buckets = n;
    return true;
}

hk_lane *hk_lane_take(hk_core *c, const char *key)
{
    hk_lane *lane = hk_lane_find(c, key);
    if (lane || (c->n_lanes >= c->n_buckets && !grow(c)))
        return lane;
    size_t len = strlen(key);
    lane = malloc(sizeof *lane + len + 1);
    if (!lane)
        return NULL;
    *lane = (hk_lane){.hash = hk_hash(key, len)};
    memcpy(lane->key, key, len + 1);
    lane->chain = c->buckets[lane->hash & (c->n_buckets - 1)];
    c->buckets[lane->hash & (c->n_buckets - 1)] = lane;
    c->n_lanes++;
    return lane;
}

hk_item *hk_lane_item(hk_core *c, uint64_t seq, const char *key, hk_lane **ret_lane)
{
    hk_lane *lane = *ret_lane = key ? hk_lane_take(c, key) : NULL;
    hk_item *item = key && !lane ? NULL : hk_item_new(c, seq);
    if (!item && lane)
        hk_lane_free_if_empty(c, lane);
    return item;
}

void hk_lane_append(hk_lane *lane, hk_item *item)
{
    item->lane = lane;
    item->lane_next = NULL;
    if (lane->last)
        lane->last->lane_next = item;
    else
        lane->first = item;
    lane->last = item;
}

void hk_lane_prepend(hk_lane *lane, hk_item *item)
{
    item->lane = lane;
    item->lane_next = lane->first;
    lane->first = item;
    if (!lane->last)
        lane->last = item;
}

/* Many are mostly redriven in order of sequence, so each is looked for from the one before. */
void hk_lane_insert(hk_lane *lane, hk_item *item)
{
    hk_item *at = lane->redriven && lane->redriven->seq < item->seq ? lane->redriven : lane->first;
    while (at && at->lane_next && at->lane_next->seq < item->seq)
        at = at->lane_next;
    if (!at || !at->lane_next) {
        hk_lane_append(lane, item);
    } else {
        item->lane = lane;
        item->lane_next = at->lane_next;
        at->lane_next = item;
    }
    if (lane->first != item)
        lane->redriven = item;
}

bool hk_lane_parks(const hk_core *c, const hk_lane *lane)
{
    if (!lane->first)
        return false;
    hk_state s = lane->first->state;
    return (s == HK_DEAD && !HK_BUG(16)) || (s == HK_DYING && c->opts.park);
}

bool hk_lane_waits(const hk_core *c, const hk_lane *lane)
{
    if (!lane->first)
        return false;
    hk_state s = lane->first->state;
    return s == HK_SAVING || s == HK_WAITING || hk_lane_parks(c, lane);
}

void hk_lane_free_if_empty(hk_core *c, hk_lane *lane)
{
    if (lane->first)
        return;
    hk_lane **link = &c->buckets[lane->hash & (c->n_buckets - 1)];
    while (*link != lane)
        link = &(*link)->chain;
    *link = lane->chain;
    c->n_lanes--;
    free(lane);
}

void hk_lanes_free(hk_core *c)
{
    for (size_t i = 0; i < c->n_buckets; i++)
        for (hk_lane *lane = c->buckets[i], *next; lane; lane = next) {
            next = lane->chain;
            free(lane);
        }
    free(c->buckets);
}
