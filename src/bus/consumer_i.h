/* consumer_i.h: what the files of a durable consumer offer each other and the rest of the bus. A part of bus_i.h, which is
 * to be included. */
#ifndef HK_CONSUMER_I_H
#define HK_CONSUMER_I_H

#include "bus/bus_i.h"

/* Other processes may have shares of it. */
static inline bool hk_consumer_shared(const hk_consumer *c)
{
    return c->sub->bus->info.shared != 0;
}

/* consumer.c: a consumer's state: opening, renewing. */
/* A job of the writer: opens, or finds, the consumer that `ud`, a hark_store_consumer, tells of. */
hark_err hk_consumer_open_job(hark_bus *bus, void *ud, hark_errinfo *ei);
/* Under `admin`, until the subscription is active. */
hark_err hk_consumer_open(hark_sub *s, const hark_sub_opts *o, hark_errinfo *ei);
void hk_consumer_free(hark_sub *s);
void hk_consumer_closed(hark_sub *s);
/* Its keys are not to be looked at. False: no share of it is here, and there are none. */
bool hk_consumer_facts(hark_sub *s, hk_core_facts *ret);
/* Under the lock: is it this process's to tell of gaps, those of a page and those that retention made? Of several
 * processes it is the one that has share 0, so that each gap is told once. */
bool hk_consumer_tells_gaps(const hk_consumer *c);
/* The clocks for its cores: by the store's wall clock, which all its processes share. */
hk_now hk_consumer_now(const hk_consumer *c);
/* The open consumer of this name or id: its subscription with a hold (give it back with
 * hk_sub_release); NULL when none is open here. */
hark_sub *hk_consumer_find(hark_bus *bus, const char *name);
hark_sub *hk_consumer_find_id(hark_bus *bus, uint64_t id);
/* Under `admin`. Takes over the state after a reset that this process did; blocks while a save is under way. On shared
 * stores it has no share then, and asks for some. */
hark_err hk_consumer_renew(hark_sub *s, const hark_store_consumer *state);
/* Under the lock, while no save is collected: another, empty set of cores takes the place of the old one, with the
 * generation, pause, replay and gaps of `state`; the old one is the caller's, to be freed when the lock is released.
 * It is no longer stale. HARK_ENOMEM: nothing changed. On stores that are not shared the one share is claimed with it. */
hark_err hk_consumer_anew(hk_consumer *c, const hark_store_consumer *state, hk_cores **ret_old);
/* Under the lock: a gap, to be handed out unless it was already. */
void hk_consumer_note_gap(hk_consumer *c, uint64_t from, uint64_t to);
/* A gap that retention made. */
void hk_consumer_gap(hark_sub *s, uint64_t from, uint64_t to);
/* Under the bus's lock, the writer is about to be stopped: what still runs is abandoned, and was not interrupted. */
void hk_consumer_forsake(hk_consumer *c);
/* The store is about to be closed: what still runs is abandoned and leaves no trace in its slots. */
void hk_consumer_abandon(hk_consumer *c);

/* consumer_save.c: carrying its changes to the store, and its end. */
/* Unlocks after a step of the core; saves, starts threads, ends, as that calls for. */
void hk_consumer_unlock(hk_consumer *c);
/* Under the lock: commits fail, and so much is settled that a crash would undo that it starts nothing
 * further. */
bool hk_consumer_ahead(const hk_consumer *c);
hk_dirt hk_consumer_dirt(hk_consumer *c);
hk_dirt hk_consumer_dirt_locked(const hk_consumer *c);
/* The writer's: fills in saves and n_saves. HARK_ESTALE: it is being reset, there is nothing to save. */
hark_err hk_consumer_collect(hk_consumer *c);
/* The writer's: the store has refused the i-th of them. */
void hk_consumer_refused(hk_consumer *c, size_t i, hark_err err);
/* The writer's: the end of a save, also of one that could not be collected. HARK_OK: committed, each of the saves as its
 * verdict says. HARK_ENOTFOUND there: reset or removed meanwhile; HARK_ESTALE: another process has the share. */
void hk_consumer_saved(hk_consumer *c, hark_err err);

/* settle.c: how attempts end. */
void hk_consumer_give_slot(hk_consumer *c, hark_delivery *d); /* under the lock */
void hk_consumer_timeouts(hk_consumer *c); /* under the lock: fails what has run out of time */

/* consume.c: reading, handing out; the workers. */
hark_err hk_consumer_start(hark_sub *s);
hark_err hk_consumer_thread(hark_sub *s); /* one more; it has been counted */
hark_err hk_consumer_next(hark_sub *s, int64_t timeout_ns, hark_delivery **ret);
/* Of a delivery that is settled already: only gives back what it holds. */
hark_err hk_consumer_settle(hark_delivery *d, hark_verdict verdict);
/* A transaction that acks it: it does not time out until the end is told. `committed`: it is
 * settled. */
hark_err hk_consumer_seal(hark_delivery *d, hark_errinfo *ei);
void hk_consumer_unseal(hark_delivery *d, bool committed);
/* The writer's. Its transaction without waiting is committed: it is handed over, and at the end of
 * the group hk_consumers_committed unseals them, those of a consumer under one lock with one wake-up, tells
 * the program, and gives them back. */
void hk_consumer_committed(hark_delivery *d, hark_tx *tx);
void hk_consumers_committed(hark_bus *bus);
hark_err hk_consumer_extend(hark_delivery *d, int64_t ms);
void hk_consumer_gap_done(hark_delivery *d);
/* Under the lock: the cores have changed, handlers of the old ones may run on for ever. */
void hk_consumer_outlived(hk_consumer *c);
/* Under the lock: likewise those of shares that were dropped. */
void hk_consumer_bereft(hk_consumer *c);
/* Fails what has run out of time; when to look again (mono; -1 = nothing to watch). */
int64_t hk_consumer_expire(hark_sub *s);

#endif
