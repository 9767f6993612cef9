/* delivery: the pure core that decides what one consumer does next. Facts and `now` in, decisions
 * out; no threads, no I/O, no clock. The runtime in src/bus steps it under the consumer's lock and
 * carries out what it says; the simulator steps it too.
 *
 * An item is an event that was read and is not settled. Items with the same key form a lane: one at
 * a time, in order. An item whose attempt failed gets a row in the ledger and waits there for its
 * next attempt, and so do the items behind it; all others go on.
 *
 *     state    meaning                                     may become
 *     READY    may start                                   RUNNING
 *     QUEUED   in memory behind its lane's head            READY, BEHIND
 *     BEHIND   in the ledger behind its lane's head        READY
 *     RUNNING  a handler has it                            GONE, SAVING, DYING
 *     SAVING   its retry is not yet committed              WAITING
 *     WAITING  its retry is due later                      READY
 *     DYING    its dead letter is not yet committed        GONE
 *     GONE     settled
 *
 * Invariant: in a lane only the first item may be READY, RUNNING, SAVING, WAITING or DYING. */
#ifndef HK_DELIVERY_H
#define HK_DELIVERY_H

#include "base/base.h"

#include <hark/bus.h>
#include <hark/store.h>

typedef struct hk_core hk_core;
typedef struct hk_item hk_item;

typedef struct hk_core_opts {
    size_t workers;         /* items RUNNING at a time */
    size_t window;          /* items in memory only: read, not settled, not in the ledger */
    size_t max_deferred;    /* items in the ledger */
    int64_t retry_delay_ns; /* fixed */
    int64_t max_attempts;   /* -1 = no limit */
    void (*drop)(void *payload);
} hk_core_opts;

/* Two readings of one moment: timers go by `mono`, what is stored by `wall`. In ns. */
typedef struct hk_now {
    int64_t mono, wall;
} hk_now;

hk_core *hk_core_new(const hk_core_opts *opts); /* NULL when memory is out */
void hk_core_free(hk_core *c);                  /* drops payloads */

/* Takes over the durable state; once, before anything else. Reading goes on after the floor. */
hark_err hk_core_load(hk_core *c, const hark_store_consumer *state, hk_now now);

/* ---- facts --------------------------------------------------------------------------------------
 */

/* How many more events may arrive now. 0 = window or ledger full. */
size_t hk_core_room(const hk_core *c);
/* An event was read. In order of sequence. `*ret_kept` tells whether the payload was taken over
 * (not when the event is settled already or goes to the ledger). */
hark_err hk_core_arrive(hk_core *c, uint64_t seq, const char *key, void *payload, bool *ret_kept);
/* Everything up to here was read; what did not arrive does not concern this consumer. */
void hk_core_cover(hk_core *c, uint64_t upto);
uint64_t hk_core_covered(const hk_core *c);

/* The handler's answer. delay_ns -1 = the policy's. After HARK_ACK the lane is free at once, else
 * when it is saved. The item is invalid after the call. `error` is copied. Returns what comes of it:
 * HARK_REJECT also for a retry after the last attempt. */
hark_verdict hk_core_settle(hk_core *c, hk_item *item, hark_verdict verdict, int64_t delay_ns,
                            const char *error, hk_now now);
/* A started item that will not be worked on: it is as if it had never started. */
void hk_core_unstart(hk_core *c, hk_item *item);

/* ---- decisions ----------------------------------------------------------------------------------
 */

typedef struct hk_started {
    hk_item *item;
    uint64_t seq;
    int64_t attempt; /* from 1 */
    void *payload;   /* NULL: the runtime must read it again, see hk_item_payload_set */
} hk_started;

/* The next item to run, lowest sequence first; false when nothing may start now. */
bool hk_core_start(hk_core *c, hk_now now, hk_started *ret);
/* When something becomes startable by time alone (mono ns); -1 = nothing waits. */
int64_t hk_core_due(const hk_core *c);
/* Gives a started item its payload (taken over until it is settled). */
void hk_item_payload_set(hk_core *c, hk_item *item, void *payload);
void *hk_item_payload(const hk_item *item);

/* ---- saving -------------------------------------------------------------------------------------
 */

/* What a commit must contain: everything that changed since the last one. */
typedef enum hk_dirt { HK_CLEAN = 0, HK_DIRTY_LAZY, HK_DIRTY_URGENT } hk_dirt;
hk_dirt hk_core_dirt(const hk_core *c); /* urgent: somebody waits for the commit */

/* Collects the change; its arrays live until hk_core_saved. One at a time. */
hark_err hk_core_collect(hk_core *c, hark_store_save *ret);
/* The collected change was committed, or was not and will be collected again. */
void hk_core_saved(hk_core *c, bool ok);

/* ---- facts for people
 * ----------------------------------------------------------------------------- */

typedef struct hk_core_facts {
    uint64_t floor, covered, highest;
    size_t in_memory, running, ready, waiting, deferred;
} hk_core_facts;
void hk_core_facts_get(const hk_core *c, hk_core_facts *ret);
/* The i-th running item's sequence, 0 past the end. */
uint64_t hk_core_running(const hk_core *c, size_t i);

#endif
