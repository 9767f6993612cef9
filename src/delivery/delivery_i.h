/* delivery_i.h: the core's inside: items, lanes, heaps. */
#ifndef HK_DELIVERY_I_H
#define HK_DELIVERY_I_H

#include "delivery/delivery.h"

typedef enum hk_state {
    HK_NEW,
    HK_READY,
    HK_QUEUED,
    HK_BEHIND,
    HK_RUNNING,
    HK_SAVING,
    HK_WAITING,
    HK_DYING,
    HK_GONE,
    HK_STATES
} hk_state;

/* What the save under way holds of an item. */
typedef enum hk_saved_as { HK_AS_NOTHING, HK_AS_PUT, HK_AS_DROP, HK_AS_DEAD } hk_saved_as;

typedef struct hk_lane {
    struct hk_lane *chain; /* same bucket */
    uint64_t hash;
    hk_item *first, *last;
    char key[];
} hk_lane;

struct hk_item {
    uint64_t seq;
    hk_state state;
    hk_saved_as saved_as;
    bool has_row; /* the ledger has a row, or will have after the save under way */
    bool on_list; /* on the core's dirty or in-flight list */
    bool in_flight;
    bool again; /* changed while in flight: to be collected once more */
    bool attempt_in_flight;
    bool counted;   /* holds a payload that counts against the window */
    bool attempted; /* an ended attempt is not in the attempt log yet */
    hark_verdict verdict;
    hk_lane *lane; /* NULL = no key */
    hk_item *lane_next;
    hk_item *prev, *next; /* open list: read, neither settled nor in the ledger */
    bool is_open;
    hk_item *dirty_next;
    hk_item *all_prev, *all_next;
    size_t heap_at; /* 1-based place in the heap it is in; 0 = none */
    int64_t attempts, crashes, interruptions;
    int64_t due;      /* mono */
    int64_t due_wall; /* stored */
    int64_t first_wall, started_wall, ended_wall;
    char *error;
    void *payload;
};

typedef struct hk_heap {
    hk_item **items; /* from 1 */
    size_t n, cap;
    bool by_due; /* else by sequence */
} hk_heap;

bool hk_heap_reserve(hk_heap *h, size_t n);
void hk_heap_push(hk_heap *h, hk_item *item); /* room was reserved */
void hk_heap_remove(hk_heap *h, hk_item *item);
static inline hk_item *hk_heap_top(const hk_heap *h)
{
    return h->n ? h->items[1] : NULL;
}

struct hk_core {
    hk_core_opts opts;
    hk_lane **buckets;
    size_t n_buckets, n_lanes;
    hk_heap ready;   /* READY by sequence */
    hk_heap waiting; /* WAITING by due time */
    hk_item **running;
    size_t n_running, cap_running;
    hk_item *all;
    hk_item *open_first, *open_last;
    size_t n_items, n_memory, n_deferred;
    uint64_t covered, highest;
    hark_store_range *known; /* settled before this run, not reached by reading yet */
    size_t n_known, at_known;
    uint64_t *known_rows; /* sequences of rows loaded above the floor, ascending */
    size_t n_known_rows, at_known_rows;
    hk_item *dirty_first, *dirty_last;
    hk_item *flight; /* items of the save under way */
    bool saving;
    bool moved; /* floor or settled set changed since the last collect */
    bool urgent;
    hark_store_save save;
    hk_buf arena; /* strings of the save */
};

/* item.c */
hk_item *hk_item_new(hk_core *c, uint64_t seq);
void hk_item_free(hk_core *c, hk_item *item);
void hk_item_move(hk_item *item, hk_state to);
void hk_item_drop_payload(hk_core *c, hk_item *item);
void hk_item_open(hk_core *c, hk_item *item);  /* onto the open list's end */
void hk_item_close(hk_core *c, hk_item *item); /* off it: settled, or in the ledger */
void hk_item_dirty(hk_core *c, hk_item *item);

/* lane.c */
hk_lane *hk_lane_find(hk_core *c, const char *key);
hk_lane *hk_lane_take(hk_core *c, const char *key); /* makes it if need be; NULL = no memory */
void hk_lane_append(hk_lane *lane, hk_item *item);
void hk_lane_free_if_empty(hk_core *c, hk_lane *lane);
void hk_lanes_free(hk_core *c);

/* save.c */
void hk_save_free(hk_core *c);

/* core.c: the head of a lane is settled; the next one may start. */
void hk_core_release(hk_core *c, hk_item *head);
void hk_core_ready(hk_core *c, hk_item *item);

#endif
