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
 *     READY    may start                                   RUNNING, DYING, MARKING
 *     MARKING  that it starts is not yet on record         READY
 *     QUEUED   in memory behind its lane's head            READY, BEHIND
 *     BEHIND   in the ledger behind its lane's head        READY, WAITING
 *     RUNNING  a handler has it                            GONE, SAVING, DYING, READY
 *     SAVING   its retry is not yet committed              WAITING
 *     WAITING  its retry is due later                      READY
 *     DYING    its dead letter is not yet committed        GONE, DEAD
 *     DEAD     a dead letter at the head of a parked lane  WAITING, GONE
 *     GONE     settled
 *
 * Invariant: in a lane only the first item may be READY, MARKING, RUNNING, SAVING, WAITING, DYING or DEAD. */
#ifndef HK_DELIVERY_H
#define HK_DELIVERY_H

#include "base/base.h"

#include <hark/bus.h>
#include <hark/store.h>

typedef struct hk_core_opts {
    size_t workers;         /* items RUNNING at a time */
    size_t window;          /* items in memory only: read, not settled, not in the ledger */
    size_t max_deferred;    /* items in the ledger */
    int64_t retry_delay_ns; /* the n-th pause is random in [0, this * 2^(n-1)], */
    int64_t retry_max_ns;   /* and at most this */
    int64_t max_attempts;   /* -1 = no limit */
    int64_t max_crashes;
    int64_t max_interruptions;
    /* Of a share: so far beyond what is read a save says that deliveries may start; 0 = 4096. */
    uint64_t claim_ahead;
    uint32_t shares; /* this core has one of so many (0 = 1): of a replay's pace its part */
    bool park;       /* a dead letter parks its lane */
    bool paused;     /* starts nothing until hk_core_pause(c, false) */
    uint64_t seed;   /* of the jitter */
    void (*drop)(void *payload);
} hk_core_opts;

/* Two readings of one moment: timers go by `mono`, what is stored by `wall`. In ns. */
typedef struct hk_now {
    int64_t mono, wall;
} hk_now;

/* A started item, for as long as its attempt lasts: a place below `workers`, and a number that tells
 * this attempt from an earlier one in the same place. Never all zero. Share and life tell whose core it is; a
 * core leaves them alone. */
typedef struct hk_lease {
    size_t place;
    uint64_t token;
    uint32_t share;
    uint32_t life;
} hk_lease;
static inline bool hk_lease_same(hk_lease a, hk_lease b)
{
    return a.place == b.place && a.token == b.token && a.share == b.share && a.life == b.life;
}

/* How far it is with the event at a place of the log. */
typedef enum hk_stage {
    HK_STAGE_AHEAD, /* not read yet */
    HK_STAGE_OPEN,  /* read and not settled; also a dead letter that is not committed yet */
    HK_STAGE_DEAD,  /* a dead letter at the head of its parked lane, or parked behind one */
    HK_STAGE_DONE   /* settled, dead-lettered, or of no concern to this consumer */
} hk_stage;

typedef struct hk_started {
    hk_lease lease;
    uint64_t seq;
    int64_t attempt; /* from 1 */
    void *payload;   /* NULL: the runtime must read it again, see hk_core_payload_set */
    bool replayed;   /* part of the replay of hk_core_load */
    bool doomed;     /* must not run: it needs its payload and then hk_core_die */
} hk_started;

/* What a commit must contain: everything that changed since the last one. */
typedef enum hk_dirt { HK_CLEAN = 0, HK_DIRTY_LAZY, HK_DIRTY_URGENT } hk_dirt;

/* Keys and pointers are the core's, good until it is stepped again. */
typedef struct hk_core_facts {
    uint64_t floor, covered, highest;
    size_t in_memory, running, ready, waiting, deferred;
    size_t behind, parked,
        parked_keys; /* in the ledger: behind a retry; behind a dead letter; lanes */
    bool paused, window_full, ledger_full, throttled;
    bool alone;              /* what runs was interrupted often, and nothing starts beside it */
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

/* ---- a consumer's shares ---------------------------------------------------------------------- */

/* What one consumer does next, when it is divided into shares (hark_store_share_of) of which this process has
 * some: a core (core_i.h) for each of them, and the limits that are the consumer's: workers, window, ledger. Same verbs,
 * as pure. On a store that is not shared there is one share, and it is always here.
 *
 * Reading is done once for all: the next page begins behind the share that has come least far, and each event goes to
 * its share's core, if that is here and has not seen it. All events of a key are of one share, so order within a key is the core's
 * matter; of what may start in several shares, the lowest sequence is first.
 *
 * A share comes with `claim`, in the state that its last owner left. It goes in one of two ways. In order: `leave`, from when
 * on nothing of it starts; when it is `dry`, nothing runs and all is saved, and it may be given away and
 * dropped. Or at once: `drop`, when another process has had it since; what of it still runs has a stale lease from then on.
 *
 * Leases carry the share and the life of its core, so that an answer to a delivery of a core that is no more is HARK_ESTALE
 * everywhere, also when the share has come back meanwhile. */
typedef struct hk_cores hk_cores;

/* `shares`: how many the consumer has in all processes together, up to HARK_SHARES_MAX. opts.shares is filled in. NULL: no
 * memory. */
hk_cores *hk_cores_new(const hk_core_opts *opts, uint32_t shares);
void hk_cores_free(hk_cores *c);

/* ---- whose ----------------------------------------------------------------------------------- */

/* Of a share that is taken over, as in hark_store_claim. With the token 0 there is no crash guard, and they are of no use. */
typedef struct hk_reach {
    uint64_t claimed, suspect;
} hk_reach;

/* Takes over a share. `state`: floor, highest, settled, rows of this share; rerun. One that is here already is put in
 * place of. HARK_ENOMEM: nothing changed. A replay's pace is divided among the shares. */
hark_err hk_cores_claim(hk_cores *c, hark_store_owned of, const hark_store_consumer *state,
                        hk_reach reach, hk_now now);
/* From when on nothing of it starts, and nothing is read for it: hk_cores_covered leaves it out. Timeouts and
 * answers go on. False: it may stay after all. */
void hk_cores_leave(hk_cores *c, uint32_t share, bool leave);
/* It is leaving, nothing of it runs, no save is under way and none is due. */
bool hk_cores_dry(const hk_cores *c, uint32_t share);
/* Gone; one that is not here is fine. What is collected of it stays until hk_cores_saved, which then changes
 * nothing more. */
void hk_cores_drop(hk_cores *c, uint32_t share);
size_t hk_cores_count(const hk_cores *c);
bool hk_cores_has(const hk_cores *c, uint32_t share, uint64_t *ret_token); /* ret_token: or NULL */
/* The i-th that is here, in order of share. */
hark_store_owned hk_cores_at(const hk_cores *c, size_t i);
/* By which right an attempt runs; HARK_ESTALE. */
hark_err hk_cores_owned(const hk_cores *c, hk_lease lease, hark_store_owned *ret);

/* ---- facts: as hk_core_* (core_i.h) unless said --------------------------------------------------------- */

size_t hk_cores_room(const hk_cores *c); /* 0 also when no share is here that stays */
/* `after`: where the page began; a share that was claimed behind that, while the page was read, is left alone by it. An event
 * that its share has seen, or whose share is not here, is not kept. */
hark_err hk_cores_arrive(hk_cores *c, uint64_t after, uint64_t seq, const char *key, void *payload,
                         hk_now now, bool *ret_kept);
void hk_cores_cover(hk_cores *c, uint64_t after, uint64_t upto);
/* Where the next page begins: the least of all here that stay; UINT64_MAX when none does. */
uint64_t hk_cores_covered(const hk_cores *c);

hark_err hk_cores_settle(hk_cores *c, hk_lease lease, hark_verdict verdict, int64_t delay_ns,
                         const char *error, hk_now now, hark_verdict *ret);
void hk_cores_unstart(hk_cores *c, hk_lease lease);
hark_err hk_cores_extend(hk_cores *c, hk_lease lease, int64_t until);
void hk_cores_keep(hk_cores *c, hk_lease lease, int64_t until);
bool hk_cores_expire(hk_cores *c, hk_now now, hk_lease *ret_lease, uint64_t *ret_seq,
                     hark_verdict *ret_verdict);
void hk_cores_die(hk_cores *c, hk_lease lease, hk_now now);
hark_err hk_cores_seal(hk_cores *c, hk_lease lease);
void hk_cores_unseal(hk_cores *c, hk_lease lease);
hark_err hk_cores_acked(hk_cores *c, hk_lease lease);
hark_err hk_cores_postpone(hk_cores *c, hk_lease lease, int64_t delay_ns, const char *error,
                           hk_now now);
hark_err hk_cores_bury(hk_cores *c, hk_lease lease, const char *reason, const char *error,
                       hk_now now);
/* Of a share that is not here: HARK_OK, and nothing to do. */
hark_err hk_cores_redriven(hk_cores *c, uint64_t seq, const char *key, int64_t due,
                           int64_t due_wall);
void hk_cores_discarded(hk_cores *c, uint64_t seq, const char *key);
/* False: its share is not here. */
bool hk_cores_stage(const hk_cores *c, uint64_t seq, const char *key, hk_stage *ret);
bool hk_cores_stage_in(const hk_cores *c, uint32_t share, uint64_t seq, hk_stage *ret);
void hk_cores_pause(hk_cores *c, bool paused);
void hk_cores_end_replay(hk_cores *c);
/* Saved with the first share that is here, or that comes: the store takes the highest of all. When another process
 * has taken that share before it was saved, the gap is handed out once more. */
void hk_cores_gap_done(hk_cores *c, uint64_t upto);

/* ---- decisions ------------------------------------------------------------------------------- */

bool hk_cores_start(hk_cores *c, hk_now now, int64_t until, hk_started *ret);
/* Also when a lazy save becomes due, unless that was so at the last hk_cores_start or hk_cores_expire: then
 * hk_cores_dirt tells it. */
int64_t hk_cores_due(const hk_cores *c);
hark_err hk_cores_payload_set(hk_cores *c, hk_lease lease, void *payload);
void *hk_cores_payload(const hk_cores *c, hk_lease lease);

/* ---- saving ---------------------------------------------------------------------------------- */

/* How far a share has read, without anything else that is new of it, is saved once a second only: else each event would
 * change all shares. With one share, and once hk_cores_finish was called (the consumer is being closed), at
 * once; likewise of a share that leaves. */
hk_dirt hk_cores_dirt(const hk_cores *c, hk_now now);
void hk_cores_finish(hk_cores *c);
/* Finished, and what still runs is abandoned: that is no interruption, and with the next save none is on record. */
void hk_cores_abandon(hk_cores *c);
/* One save for each share that has something to save, perhaps none; *ret and what it points to live until
 * hk_cores_saved. `consumer` and `generation` are left to the caller. `late` points to where hk_cores_saved looks for the
 * verdict; of a save with dead letters it is NULL: as they are announced in the same group, its verdict is needed
 * at once. HARK_ENOMEM: nothing is collected. */
hark_err hk_cores_collect(hk_cores *c, hk_now now, hark_store_save **ret, size_t *ret_n);
/* The store has refused the i-th of them at once. */
void hk_cores_refused(hk_cores *c, size_t i, hark_err err);
/* committed: those whose verdict is HARK_OK are saved, the others will be collected again. A share whose verdict is
 * HARK_ESTALE is another process's: it is dropped, also when the group was not committed. Returns how many were. */
size_t hk_cores_saved(hk_cores *c, bool committed);

/* Sums; floor and covered are the least, highest is the most, of the rest what is first. All 0 when no share is here. */
void hk_cores_facts_get(const hk_cores *c, hk_core_facts *ret);
uint64_t hk_cores_running(const hk_cores *c, size_t i);

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
bool hk_sched_knows(const hk_sched *q, uint64_t id); /* also when it was taken */
/* Takes one that is due, the earlier first; false when none is. It stays known until it is removed,
 * having been published, or put back, which takes no memory and so cannot fail. */
bool hk_sched_take(hk_sched *q, hk_now now, uint64_t *ret_id);
void hk_sched_again(hk_sched *q, uint64_t id, int64_t mono);
/* How long to wait, ns; -1 = nothing waits. While something waits by the wall clock at most
 * `most`: the clock may be set meanwhile. */
int64_t hk_sched_wait(const hk_sched *q, hk_now now, int64_t most);
size_t hk_sched_count(const hk_sched *q); /* with those taken */

#endif
