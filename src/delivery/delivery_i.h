/* delivery_i.h: the core's inside: items, lanes, heaps, leases, and what an earlier run left. */
#ifndef HK_DELIVERY_I_H
#define HK_DELIVERY_I_H

#include "delivery/core_i.h"

/* Mistakes that the simulator plants in a build of its own, to see that its auditor finds them. */
#ifdef HK_PLANT
extern int hk_planted;
#define HK_BUG(n) (hk_planted == (n))
#else
#define HK_BUG(n) false
#endif

typedef enum hk_state {
    HK_NEW,
    HK_READY,
    HK_MARKING,
    HK_QUEUED,
    HK_BEHIND,
    HK_RUNNING,
    HK_SAVING,
    HK_WAITING,
    HK_DYING,
    HK_DEAD,
    HK_GONE,
    HK_STATES
} hk_state;

/* What the save under way holds of an item. */
typedef enum hk_saved_as {
    HK_AS_NOTHING,
    HK_AS_PUT,
    HK_AS_BARE, /* without its HARK_ROW_COUNTS row; it goes on */
    HK_AS_DROP,
    HK_AS_DEAD
} hk_saved_as;

typedef struct hk_item hk_item;

typedef struct hk_lane {
    struct hk_lane *chain; /* same bucket */
    uint64_t hash;
    hk_item *first, *last;
    hk_item *redriven; /* put in last by hk_lane_insert and still behind the head; or NULL */
    hk_item *queued;   /* behind the head, none before this one is QUEUED; NULL = none at all is */
    size_t n_behind;   /* items BEHIND */
    bool parked;       /* the first one is DEAD */
    char key[];
} hk_lane;

struct hk_item {
    uint64_t seq;
    hk_state state;
    hk_saved_as saved_as;
    int64_t loaded; /* hark_row_state of the row that it was loaded from; 0 = none */
    bool has_row;   /* the ledger has a row, or will have after the save under way */
    bool marked;    /* the ledger has a HARK_ROW_COUNTS row, or may have */
    bool suspect;   /* the last owner of the share may have been running it: see guard.c */
    bool noted;     /* its row says an interruption more, or will before it starts */
    bool reserved;  /* MARKING, and a place is kept for it */
    bool on_list;   /* on the core's dirty or in-flight list */
    bool in_flight;
    bool again; /* changed while in flight: to be collected once more */
    bool attempt_in_flight;
    bool counted;   /* holds a payload that counts against the window */
    bool attempted; /* an ended attempt is not in the attempt log yet */
    bool timed;     /* BEHIND: not before `due` */
    const char *outcome, *reason;
    hk_lane *lane; /* NULL = no key */
    hk_item *lane_next;
    hk_item *prev, *next; /* on the open list, or on that of the DEAD */
    bool is_open;
    hk_item *dirty_next;
    hk_item *all_prev, *all_next;
    hk_item *index_next; /* same bucket of the index */
    size_t heap_at;      /* 1-based place in the heap it is in; 0 = none */
    int64_t attempts, crashes, interruptions;
    int64_t due;      /* mono */
    int64_t due_wall; /* stored; of DEAD items the time of death */
    int64_t started;  /* mono */
    int64_t first_wall, started_wall, ended_wall;
    char *error;
    void *payload;
};

typedef struct hk_list {
    hk_item *first, *last;
} hk_list;

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

typedef struct hk_place {
    hk_item *item; /* NULL = free */
    uint64_t token;
    int64_t until;  /* -1 = never */
    int64_t wanted; /* `until` once the item has its payload and is not sealed */
    bool sealed;    /* its commit is under way: it does not time out */
    bool extended;  /* by its handler: that limit stands */
    size_t at;      /* in hk_core.order */
} hk_place;

/* A HARK_ROW_COUNTS row: what it lends to an event that has not arrived yet. */
typedef struct hk_lent {
    uint64_t seq;
    int64_t crashes, interruptions, first_wall;
    char *error;
} hk_lent;

/* What an earlier run left, for as long as reading has not passed it. Ascending. */
typedef struct hk_past {
    hark_store_range *settled;
    size_t n_settled, at_settled;
    uint64_t *rows; /* sequences of items that were loaded above the floor */
    size_t n_rows, at_rows;
    hk_lent *lent;
    size_t n_lent, at_lent;
    uint64_t *stale; /* sequences of rows to be dropped with the next save */
    size_t n_stale, stale_in_flight;
} hk_past;

/* The replay that the consumer was reset to. */
typedef struct hk_rerun {
    uint64_t upto;     /* 0 = none */
    int64_t interval;  /* ns an event; 0 = as fast as it goes */
    int64_t tolerance; /* so much earlier than evenly spaced an event may start */
    int64_t next;      /* when the next one is due if they are evenly spaced, mono */
    bool throttled;
} hk_rerun;

/* The crash guard of a share, see guard.c. All 0 on stores that are not shared. */
typedef struct hk_guard {
    bool on;
    uint64_t claimed; /* nothing above starts; */
    uint64_t wanted;  /* this one would, and */
    uint64_t raised;  /* this is in the save under way; 0 = none is */
    uint64_t suspect; /* what is not settled up to here is a suspect */
    size_t n_marking, n_noted, n_reserved;
    /* Beside this suspect nothing else may run, from its mark until its end is committed. NULL: there is none; or it has
     * ended, which is not committed, or is in the save under way. */
    hk_item *alone;
    bool ending, ending_saved;
} hk_guard;

struct hk_core {
    hk_core_opts opts;
    bool paused;
    uint64_t rng;
    hk_lane **buckets;
    size_t n_buckets, n_lanes;
    hk_heap ready;   /* READY by sequence */
    hk_heap paced;   /* READY, and its start is up to the replay's rate; by sequence */
    hk_heap waiting; /* WAITING by due time */
    hk_place *places;
    size_t *order; /* places: those in use, then those that are free */
    size_t n_running;
    int64_t soonest; /* end of a lease; -1 = none has one */
    uint64_t token;
    hk_item *all;
    hk_item **index; /* all of them by sequence: buckets, a power of two */
    size_t n_index;
    hk_list open; /* read, neither settled nor in the ledger; ascending */
    hk_list dead; /* DEAD */
    size_t n_items, n_memory, n_deferred;
    size_t n_behind, n_parked, n_dead;
    size_t n_extra; /* DYING, with payloads that do not count against the window */
    uint64_t covered, highest, gap_done;
    hk_past past;
    hk_rerun rerun;
    hk_guard guard;
    hk_item *dirty_first, *dirty_last;
    hk_item *flight; /* items of the save under way */
    bool saving;
    bool moved; /* floor, settled set or stale rows changed since the last collect */
    bool read;  /* it has read further since then */
    bool urgent;
    hark_store_save save;
    hk_buf arena; /* strings of the save */
};

/* item.c */
hk_item *hk_item_new(hk_core *c, uint64_t seq);
void hk_item_free(hk_core *c, hk_item *item);
void hk_item_move(hk_core *c, hk_item *item, hk_state to);
void hk_item_payload_set(hk_core *c, hk_item *item, void *payload);
void hk_item_drop_payload(hk_core *c, hk_item *item);
void hk_item_open(hk_core *c, hk_item *item);  /* onto the open list's end */
void hk_item_close(hk_core *c, hk_item *item); /* off it: settled, or in the ledger */
void hk_item_row(hk_core *c, hk_item *item);   /* it has a row from now on */
void hk_item_dirty(hk_core *c, hk_item *item);

/* index.c */
bool hk_index_reserve(hk_core *c, size_t n); /* for n items; false: memory is out */
void hk_index_add(hk_core *c, hk_item *item);
void hk_index_remove(hk_core *c, const hk_item *item);
hk_item *hk_index_find(const hk_core *c, uint64_t seq); /* one that is not GONE, or NULL */

/* lane.c */
hk_lane *hk_lane_find(const hk_core *c, const char *key);
hk_lane *hk_lane_take(hk_core *c, const char *key); /* makes it if need be; NULL = no memory */
/* A new item, and its lane, where it is not yet; NULL: no memory, and nothing is left of it. */
hk_item *hk_lane_item(hk_core *c, uint64_t seq, const char *key, hk_lane **ret_lane);
void hk_lane_append(hk_lane *lane, hk_item *item);
void hk_lane_prepend(hk_lane *lane, hk_item *item);
void hk_lane_insert(hk_lane *lane, hk_item *item); /* behind the head, in order of sequence */
void hk_lane_free_if_empty(hk_core *c, hk_lane *lane);
void hk_lanes_free(hk_core *c);
/* Does a dead letter, saved or not, hold the lane? Do retry or dead letter send what comes after to
 * the ledger? */
bool hk_lane_parks(const hk_core *c, const hk_lane *lane);
bool hk_lane_waits(const hk_core *c, const hk_lane *lane);

/* lease.c */
bool hk_places_new(hk_core *c);
hk_lease hk_lease_begin(hk_core *c, hk_item *item, int64_t until);
hk_item *hk_lease_item(const hk_core *c, hk_lease lease); /* NULL = stale */
void hk_lease_end(hk_core *c, hk_lease lease);

/* load.c */
bool hk_past_has(hk_core *c, uint64_t seq);         /* settled, or with a row, before this run */
bool hk_past_knows(const hk_core *c, uint64_t seq); /* the same, of any place, by a search */
void hk_past_lend(hk_core *c, hk_item *item);
void hk_past_reach(hk_core *c, uint64_t upto); /* everything up to there was read */
void hk_past_forget(hk_core *c, uint64_t seq); /* its row is none to be dropped */
void hk_past_free(hk_core *c);

/* save.c */
void hk_save_free(hk_core *c);

/* end.c */
/* The head of a lane, settled, leaves it; the next one may start. */
void hk_core_release(hk_core *c, hk_item *head);
/* Becomes a dead letter with the next save. */
void hk_core_give_up(hk_core *c, hk_item *item, const char *reason, hk_now now);
void hk_core_defer(hk_core *c, hk_item *item); /* puts an item behind its lane into the ledger */

/* core.c */
void hk_core_ready(hk_core *c, hk_item *item);
void hk_core_wait(hk_core *c, hk_item *item);
/* Why it must not be run any more; NULL = it may be. */
const char *hk_core_doom(const hk_core *c, const hk_item *item);

/* What hk_core_start would start; NULL = nothing. */
hk_item *hk_core_next_item(hk_core *c, hk_now now);
/* READY: it will not be started; hk_core_ready makes that undone. */
void hk_core_unready(hk_core *c, hk_item *item);

/* guard.c */
/* Nothing of this core starts, but what runs alone. */
static inline bool hk_guard_alone(const hk_core *c)
{
    return c->guard.alone || c->guard.ending;
}
/* What is read, or was loaded, has the counts of its row. */
static inline void hk_guard_loaded(const hk_core *c, hk_item *item)
{
    item->suspect = c->guard.on && (item->seq <= c->guard.suspect || item->interruptions > 0);
}
bool hk_guard_admits(hk_core *c, const hk_item *item); /* else a save must come first */
/* Must it be on record before it starts, and may nothing else run beside it then? Both of what is READY. */
bool hk_guard_needs(const hk_core *c, const hk_item *item);
bool hk_guard_solitary(const hk_core *c, const hk_item *item);
/* Puts it on record with the next save; it is READY again when that is committed. Urgent: a place is kept for it. */
void hk_guard_mark(hk_core *c, hk_item *item, hk_now now, bool urgent);
hk_item *hk_guard_ahead(hk_core *c);             /* what may be marked before its turn; or NULL */
void hk_guard_marked(hk_core *c, hk_item *item); /* it is MARKING no more */
void hk_guard_ended(hk_core *c, hk_item *item);  /* in order: of a suspect */
void hk_guard_rest(hk_core *c);                  /* unmarks what does not run: nothing starts */
void hk_guard_abandon(hk_core *c);               /* likewise what does */
uint64_t hk_guard_collect(hk_core *c); /* up to where the save raises `claimed`; 0 = as it was */
void hk_guard_saved(hk_core *c, bool ok);
void hk_guard_forget(hk_core *c, hk_item *item); /* it is noted no more, whatever its row says */

/* rerun.c */
void hk_rerun_load(hk_rerun *r, const hark_store_rerun *stored, uint32_t shares, hk_now now);
bool hk_rerun_paces(const hk_rerun *r, uint64_t seq);
bool hk_rerun_may(hk_rerun *r, int64_t mono);                /* does its rate allow the next? */
void hk_rerun_pass(hk_rerun *r, uint64_t seq, int64_t mono); /* this one starts */
void hk_rerun_undo(hk_rerun *r, uint64_t seq);
int64_t hk_rerun_due(const hk_rerun *r); /* -1 = it holds up nothing */

/* A later time; the end of all times instead of an overflow. */
static inline int64_t hk_later(int64_t t, int64_t delay)
{
    return t > 0 && delay > INT64_MAX - t ? INT64_MAX : t + delay;
}

#endif
