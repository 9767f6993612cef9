/* core_i.h: the pure core of one share: hk_cores steps one for each share that is here. The states of its items are
 * told in delivery.h, its inside is in delivery_i.h. */
#ifndef HK_CORE_I_H
#define HK_CORE_I_H

#include "delivery/delivery.h"

typedef struct hk_core hk_core;

hk_core *hk_core_new(const hk_core_opts *opts); /* NULL when memory is out */
void hk_core_free(hk_core *c);                  /* drops payloads */

/* Takes over the durable state, ret_rerun's rate too; once, before anything else. Reading goes on
 * after the floor. Rows of state HARK_ROW_COUNTS only lend their counts to the event when it
 * arrives; such rows that cannot come any more are dropped with the next save. DEAD rows under the
 * policy `continue` are dropped too and their lanes go on. */
hark_err hk_core_load(hk_core *c, const hark_store_consumer *state, hk_now now);

/* Right after hk_core_load: the crash guard of a share, see guard.c. Suspects start only when hk_cores has them marked. */
void hk_core_guard(hk_core *c, uint64_t claimed, uint64_t suspect);

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
hk_stage hk_core_stage(const hk_core *c, uint64_t seq);

void hk_core_pause(hk_core *c, bool paused);
/* The replay of hk_core_load is none any more: what is left of it goes on as anything else. */
void hk_core_end_replay(hk_core *c);
/* A gap up to here was handed out. */
void hk_core_gap_done(hk_core *c, uint64_t upto);

/* ---- decisions ------------------------------------------------------------------------------- */

/* The next item to run, lowest sequence first; false when nothing may start now. The lease ends at
 * `until` (mono; -1 = never). */
bool hk_core_start(hk_core *c, hk_now now, int64_t until, hk_started *ret);
/* When something can be done by time alone (mono ns): a retry is due, a replay's rate allows the
 * next, a lease runs out. -1 = never. */
int64_t hk_core_due(const hk_core *c);
/* What hk_core_start would start, nothing else happening in between: its sequence; 0 = nothing. */
uint64_t hk_core_next(hk_core *c, hk_now now);
/* Gives a started item its payload (taken over until it is settled); HARK_ESTALE: not taken. */
hark_err hk_core_payload_set(hk_core *c, hk_lease lease, void *payload);
void *hk_core_payload(const hk_core *c, hk_lease lease); /* NULL when stale */

/* ---- saving ---------------------------------------------------------------------------------- */

hk_dirt hk_core_dirt(const hk_core *c); /* urgent: somebody waits for the commit */

/* Of what is dirty nothing but how far it has read. */
bool hk_core_only_read(const hk_core *c);

/* Collects the change; its arrays live until hk_core_saved. One at a time. */
hark_err hk_core_collect(hk_core *c, hark_store_save *ret);
/* The collected change was committed, or was not and will be collected again. */
void hk_core_saved(hk_core *c, bool ok);

/* ---- facts for people ------------------------------------------------------------------------ */

void hk_core_facts_get(const hk_core *c, hk_core_facts *ret);
/* Of these, what limits look at often. */
typedef struct hk_core_counts {
    size_t in_memory, extra, deferred, running;
} hk_core_counts;
hk_core_counts hk_core_counts_get(const hk_core *c);
/* The i-th running item's sequence, 0 past the end. */
uint64_t hk_core_running(const hk_core *c, size_t i);

#endif
