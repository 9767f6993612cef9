/* delivery: the pure core that decides what one consumer does next. Facts and `now` in, decisions
 * out; no threads, no I/O, no clock. The runtime in src/bus steps it under the consumer's lock and
 * carries out what it says; the simulator steps it too. Beside it, as pure: the pauses of retries, and
 * the queue of scheduled publishes.
 *
 * An item is an event that was read and is not settled. Items with the same key form a lane: one at
 * a time, in order. An item whose attempt failed gets a row in the ledger and waits there for its
 * next attempt, and so do the items behind it; all others go on. With the policy `park` a dead
 * letter stays at the head of its lane until it is redriven or discarded, and the rest waits.
 *
 *     state    meaning                                     may become
 *     READY    may start                                   RUNNING, DYING
 *     QUEUED   in memory behind its lane's head            READY, BEHIND
 *     BEHIND   in the ledger behind its lane's head        READY, WAITING
 *     RUNNING  a handler has it                            GONE, SAVING, DYING, READY
 *     SAVING   its retry is not yet committed              WAITING
 *     WAITING  its retry is due later                      READY
 *     DYING    its dead letter is not yet committed        GONE, DEAD
 *     DEAD     a dead letter at the head of a parked lane  WAITING, GONE
 *     GONE     settled
 *
 * Invariant: in a lane only the first item may be READY, RUNNING, SAVING, WAITING, DYING or DEAD. */
#ifndef HK_DELIVERY_H
#define HK_DELIVERY_H

#include "base/base.h"

#include <hark/bus.h>
#include <hark/store.h>

typedef struct hk_core hk_core;

typedef struct hk_core_opts {
    size_t workers;         /* items RUNNING at a time */
    size_t window;          /* items in memory only: read, not settled, not in the ledger */
    size_t max_deferred;    /* items in the ledger */
    int64_t retry_delay_ns; /* the n-th pause is random in [0, this * 2^(n-1)], */
    int64_t retry_max_ns;   /* and at most this */
    int64_t max_attempts;   /* -1 = no limit */
    int64_t max_crashes;
    int64_t max_interruptions;
    bool park;     /* a dead letter parks its lane */
    bool paused;   /* starts nothing until hk_core_pause(c, false) */
    uint64_t seed; /* of the jitter */
    void (*drop)(void *payload);
} hk_core_opts;

/* Two readings of one moment: timers go by `mono`, what is stored by `wall`. In ns. */
typedef struct hk_now {
    int64_t mono, wall;
} hk_now;

/* A started item, for as long as its attempt lasts: a place below `workers`, and a number that tells
 * this attempt from an earlier one in the same place. Never all zero. */
typedef struct hk_lease {
    size_t place;
    uint64_t token;
} hk_lease;

hk_core *hk_core_new(const hk_core_opts *opts); /* NULL when memory is out */
void hk_core_free(hk_core *c);                  /* drops payloads */

/* Takes over the durable state, ret_rerun's rate too; once, before anything else. Reading goes on
 * after the floor. Rows of state HARK_ROW_COUNTS only lend their counts to the event when it
 * arrives; such rows that cannot come any more are dropped with the next save. DEAD rows under the
 * policy `continue` are dropped too and their lanes go on. */
hark_err hk_core_load(hk_core *c, const hark_store_consumer *state, hk_now now);

/* ---- facts ----------------------------------------------------------------------------------- */

/* How many more events may arrive now. 0 = window or ledger full. */
size_t hk_core_room(const hk_core *c);
/* An event was read. In order of sequence. `*ret_kept` tells whether the payload was taken over
 * (not when the event is settled already or goes to the ledger). An event whose crashes or
 * interruptions have reached their limit becomes a dead letter without being started. */
hark_err hk_core_arrive(hk_core *c, uint64_t seq, const char *key, void *payload, hk_now now,
                        bool *ret_kept);
/* Everything up to here was read; what did not arrive does not concern this consumer. */
void hk_core_cover(hk_core *c, uint64_t upto);
uint64_t hk_core_covered(const hk_core *c);

/* The handler's answer. delay_ns -1 = the policy's. After HARK_ACK the lane is free at once, else
 * when it is saved. `error` is copied. *ret (may be NULL) is what comes of it: HARK_REJECT also for
 * a retry after the last attempt. HARK_ESTALE, and nothing done: the lease has ended. */
hark_err hk_core_settle(hk_core *c, hk_lease lease, hark_verdict verdict, int64_t delay_ns,
                        const char *error, hk_now now, hark_verdict *ret);
/* A started item that will not be worked on: it is as if it had never started. */
void hk_core_unstart(hk_core *c, hk_lease lease);
/* The lease ends at `until` (mono; -1 = never) unless it is extended again. HARK_ESTALE. */
hark_err hk_core_extend(hk_core *c, hk_lease lease, int64_t until);
/* Its handler has returned and keeps the delivery: the lease ends at `until`, unless it was extended. */
void hk_core_keep(hk_core *c, hk_lease lease, int64_t until);
/* Fails one attempt whose lease has run out, with outcome "timeout"; false when there is none. Call
 * it until then. */
bool hk_core_expire(hk_core *c, hk_now now, hk_lease *ret_lease, uint64_t *ret_seq,
                    hark_verdict *ret_verdict);

/* Ends a started item that is `doomed` as a dead letter; it has its payload. */
void hk_core_die(hk_core *c, hk_lease lease, hk_now now);

/* Redriven: the store has made its dead letter a row, due at `due` (mono; `due_wall` likewise),
 * attempts from 1. If it heads its parked lane it is what the lane waits for now; else it goes
 * behind the lane's head, in order of sequence. After hk_core_saved of what was committed before or
 * with it, and not for what hk_core_load has brought already. HARK_ENOMEM: nothing changed. */
hark_err hk_core_redriven(hk_core *c, uint64_t seq, const char *key, int64_t due, int64_t due_wall);
/* Discarded: the store has removed the dead letter and its row; the lane parked behind it goes on.
 * Only when hark_store_letter_done.parked says so: the core knows events, not letters, and the one
 * discarded may be older than the one that parks, of before a reset. The core would let the lane go,
 * and what comes after the dead letter would overtake it. A redrive is always told: one delivery
 * answers for all letters of the event. */
void hk_core_discarded(hk_core *c, uint64_t seq, const char *key);

/* A handler's transaction. seal: the attempt does not time out while its commit is under way;
 * HARK_ESTALE, also when it is sealed already: two commits would be two effects. unseal: it does
 * again, when its time had been, or at once. acked: it was committed with hark_store_ops.ack:
 * settled, and the row that tells so goes with the next save. A save that is collected before
 * `acked`, in the same group or a later one, still holds the item as open and may put its row: the
 * store keeps the row of an ack against that. The core knows no generations: for a lease of before
 * a reset the caller calls none of the three. */
hark_err hk_core_seal(hk_core *c, hk_lease lease);
void hk_core_unseal(hk_core *c, hk_lease lease);
hark_err hk_core_acked(hk_core *c, hk_lease lease);

/* What could not be made ready for its handler. postpone: it waits in the ledger as for a retry,
 * for delay_ns (0 or more; whoever loads the ledger comes to it at once, being another program
 * perhaps), and no attempt is counted or logged; nor does it take of a replay's rate. bury (it has its payload): a dead letter at once, with this reason (static), which is the
 * outcome of the attempt, too. HARK_ESTALE: the lease has ended. */
hark_err hk_core_postpone(hk_core *c, hk_lease lease, int64_t delay_ns, const char *error,
                          hk_now now);
hark_err hk_core_bury(hk_core *c, hk_lease lease, const char *reason, const char *error,
                      hk_now now);

/* How far it is with the event at a place of the log. */
typedef enum hk_stage {
    HK_STAGE_AHEAD, /* not read yet */
    HK_STAGE_OPEN,  /* read and not settled; also a dead letter that is not committed yet */
    HK_STAGE_DEAD,  /* a dead letter at the head of its parked lane, or parked behind one */
    HK_STAGE_DONE   /* settled, dead-lettered, or of no concern to this consumer */
} hk_stage;
hk_stage hk_core_stage(const hk_core *c, uint64_t seq);

void hk_core_pause(hk_core *c, bool paused);
/* The replay of hk_core_load is none any more: what is left of it goes on as anything else. */
void hk_core_end_replay(hk_core *c);
/* A gap up to here was handed out. */
void hk_core_gap_done(hk_core *c, uint64_t upto);

/* ---- decisions ------------------------------------------------------------------------------- */

typedef struct hk_started {
    hk_lease lease;
    uint64_t seq;
    int64_t attempt; /* from 1 */
    void *payload;   /* NULL: the runtime must read it again, see hk_core_payload_set */
    bool replayed;   /* part of the replay of hk_core_load */
    bool doomed;     /* must not run: it needs its payload and then hk_core_die */
} hk_started;

/* The next item to run, lowest sequence first; false when nothing may start now. The lease ends at
 * `until` (mono; -1 = never). */
bool hk_core_start(hk_core *c, hk_now now, int64_t until, hk_started *ret);
/* When something can be done by time alone (mono ns): a retry is due, a replay's rate allows the
 * next, a lease runs out. -1 = never. */
int64_t hk_core_due(const hk_core *c);
/* Gives a started item its payload (taken over until it is settled); HARK_ESTALE: not taken. */
hark_err hk_core_payload_set(hk_core *c, hk_lease lease, void *payload);
void *hk_core_payload(const hk_core *c, hk_lease lease); /* NULL when stale */

/* ---- saving ---------------------------------------------------------------------------------- */

/* What a commit must contain: everything that changed since the last one. */
typedef enum hk_dirt { HK_CLEAN = 0, HK_DIRTY_LAZY, HK_DIRTY_URGENT } hk_dirt;
hk_dirt hk_core_dirt(const hk_core *c); /* urgent: somebody waits for the commit */

/* Collects the change; its arrays live until hk_core_saved. One at a time. */
hark_err hk_core_collect(hk_core *c, hark_store_save *ret);
/* The collected change was committed, or was not and will be collected again. */
void hk_core_saved(hk_core *c, bool ok);

/* ---- facts for people ------------------------------------------------------------------------ */

/* Keys and pointers are the core's, good until it is stepped again. */
typedef struct hk_core_facts {
    uint64_t floor, covered, highest;
    size_t in_memory, running, ready, waiting, deferred;
    size_t behind, parked,
        parked_keys; /* in the ledger: behind a retry; behind a dead letter; lanes */
    bool paused, window_full, ledger_full, throttled;
    uint64_t oldest_running; /* sequence of the attempt that runs longest; 0 = none */
    int64_t running_since;   /* mono */
    const char *running_key; /* NULL = none */
    int64_t running_attempts;
    uint64_t next_retry; /* sequence of the retry that is due first; 0 = none */
    int64_t retry_due;   /* mono */
    int64_t retry_first_wall;
    const char *retry_key;
    const char *retry_error; /* why it waits; NULL = nothing was said */
    int64_t retry_attempts;
    uint64_t first_parked; /* sequence of a DEAD item; 0 = none */
    const char *parked_key;
    int64_t parked_since_wall;
} hk_core_facts;
void hk_core_facts_get(const hk_core *c, hk_core_facts *ret);
/* The i-th running item's sequence, 0 past the end. */
uint64_t hk_core_running(const hk_core *c, size_t i);

/* ---- retry pauses, shared with hark_publish_with_retry --------------------------------------- */

/* Exponential backoff with full jitter: uniform in [0, min(most, first * 2^(n-1))], n from 1. *rng is
 * the state of the random numbers. */
int64_t hk_backoff(int64_t first, int64_t most, int64_t n, uint64_t *rng);

/* ---- the queue of scheduled publishes -------------------------------------------------------- */

/* Which schedule is due. One that was given as a time goes by the wall clock, whatever becomes of
 * that; one that was given as a delay by the monotonic one. */
typedef struct hk_sched hk_sched;
hk_sched *hk_sched_new(void);
void hk_sched_free(hk_sched *q);
/* due: mono for by_delay, else wall. HARK_ENOMEM. */
hark_err hk_sched_add(hk_sched *q, uint64_t id, int64_t due, bool by_delay);
/* Room for one that may come: it is put there, which cannot fail, or forgone. NULL: no memory. What
 * is promised when the queue is freed is the holder's to free(). */
typedef struct hk_sched_entry hk_sched_entry;
hk_sched_entry *hk_sched_promise(hk_sched *q);
void hk_sched_put(hk_sched *q, hk_sched_entry *e, uint64_t id, int64_t due, bool by_delay);
void hk_sched_forgo(hk_sched *q, hk_sched_entry *e);
bool hk_sched_remove(hk_sched *q, uint64_t id);
/* Takes one that is due, the earlier first; false when none is. It stays known until it is removed,
 * having been published, or put back, which takes no memory and so cannot fail. */
bool hk_sched_take(hk_sched *q, hk_now now, uint64_t *ret_id);
void hk_sched_again(hk_sched *q, uint64_t id, int64_t mono);
/* How long to wait, ns; -1 = nothing waits. While something waits by the wall clock at most
 * `most`: the clock may be set meanwhile. */
int64_t hk_sched_wait(const hk_sched *q, hk_now now, int64_t most);
size_t hk_sched_count(const hk_sched *q); /* with those taken */

#endif
