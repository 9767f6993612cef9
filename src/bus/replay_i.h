/* replay_i.h: replays into ad-hoc handlers, for the three files that make them: replay.c (starting
 * one, and which run here), replay_run.c (its thread), replay_list.c (looking at them, waiting,
 * cancelling; replays into consumers are seen there too). */
#ifndef HK_REPLAY_I_H
#define HK_REPLAY_I_H

#include "bus/bus_i.h"

/* A row of the store's with room for its strings, whose pointers hk_replay_row_set sets. */
typedef struct hk_replay_row {
    hark_store_replay r;
    char id[40], pattern[264], error[256];
} hk_replay_row;

/* How it goes on; moved once, from the first. */
enum { HK_REPLAY_GOES, HK_REPLAY_CANCELLED, HK_REPLAY_DRAINED, HK_REPLAY_OVER };

/* An id is taken first, so that nobody else starts or cancels it meanwhile; a replay that is open
 * holds back retention. */
typedef enum hk_replay_phase {
    HK_REPLAY_TAKEN,
    HK_REPLAY_OPEN,
    HK_REPLAY_RUNS,
    HK_REPLAY_ENDED
} hk_replay_phase;

typedef struct hk_replay {
    struct hk_replay *next; /* under the lock of hk_replays */
    hk_ref refs;
    hark_bus *bus;
    hark_sub *sub; /* what its deliveries hold; on no list */
    hark_handler_fn fn;
    void *ud;
    void (*free_ud)(void *ud);
    int64_t dataversion; /* as in hark_replay_opts */
    hk_replay_row row;   /* as it began; state and error under the lock; for the rest see below */
    hk_mark position;    /* all up to here was handed out; the thread's to set, as are the counts */
    hk_count done, rejected;
    hk_mark missing; /* likewise; see hark_replay_info */
    hk_mark how;
    hk_gate gate; /* opened when `how` moves, and at a drain */
    uint64_t done_before;
    uint64_t lapses;         /* of the lease (party.c), before it was stored as this process's */
    int64_t since, ended_at; /* mono; the latter under the lock, 0 = it runs */
    bool lost;               /* likewise: its end could not be stored */
    hk_replay_phase phase;   /* likewise */
    pthread_t thread;        /* likewise, once it runs */
} hk_replay;

struct hk_replays {
    pthread_mutex_t lock;
    pthread_cond_t changed; /* one has ended; or the bus drains */
    hk_replay *list;
};

/* replay.c */
hk_replays *hk_replays_of(hark_bus *bus, bool make); /* NULL: there is none, or no memory */
/* Takes an id; the list has the only reference until hk_replay_drop. HARK_EEXIST, HARK_ECLOSED,
 * HARK_ENOMEM. */
hark_err hk_replay_take(hark_bus *bus, const char *id, hk_replay **ret, hark_errinfo *ei);
void hk_replay_drop(hk_replay *r); /* off the list, its reference gone; wakes those who wait */
void hk_replay_release(hk_replay *r);
/* One that runs here, a reference; NULL. */
hk_replay *hk_replay_find(hark_bus *bus, const char *id);
void hk_replay_row_set(hk_replay_row *row, const hark_store_replay *r);
/* Lists the store's rows. `fn` must not call the bus. */
hark_err hk_replay_rows(hark_bus *bus, hark_store_replay_fn fn, void *ud, hark_errinfo *ei);
/* The store's row of an id. HARK_ENOTFOUND, which is left to the caller to tell of. */
hark_err hk_replay_row_find(hark_bus *bus, const char *id, hk_replay_row *ret, hark_errinfo *ei);
hark_err hk_replay_put(hark_bus *bus, hk_replay_row *row, hark_errinfo *ei); /* commits it */
hark_err hk_replay_save(hk_replay *r, hark_errinfo *ei); /* commits where it stands now */
/* Events of a pattern from `first` to `last`. */
hark_err hk_replay_count(hark_bus *bus, const hark_store_replay *r, uint64_t first, uint64_t last,
                         uint64_t *ret, hark_errinfo *ei);
/* Of the events that it is to hand out, those that it neither did nor will. */
static inline uint64_t hk_replay_lost(const hark_store_replay *r, uint64_t done, uint64_t left)
{
    return r->total > done + left ? r->total - done - left : 0;
}
/* As hark_replay_info.missing, of one that does not run. */
hark_err hk_replay_missing(hark_bus *bus, const hark_store_replay *r, uint64_t *ret,
                           hark_errinfo *ei);

/* replay_run.c */
void *hk_replay_main(void *arg); /* takes over a reference, and a count of the bus's `running` */

/* replay_list.c */
void hk_replay_look(hk_replay *r, hark_replay_info *ret); /* one that runs here, or has run */

#endif
