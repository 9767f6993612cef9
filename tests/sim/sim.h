/* The simulator: a seeded world around the pure delivery core. One consumer of one log; everything
 * outside the core is made up here, and an auditor checks what happens against the promises.
 *
 *     world.c    chance: what happens next, and the calm end in which everything must be settled
 *     runtime.c  the process: reads, starts handlers, settles, saves; crashes and comes back
 *     tx.c       handlers that settle by a transaction
 *     disk.c     what is committed, by the contract of hark/store.h
 *     audit*.c   the promises: knows events, handlers and commits, nothing of the core's inside */
#ifndef SIM_H
#define SIM_H

#include "delivery/delivery.h"

#include <hark/store.h>

#define MS   INT64_C(1000000)
#define HOUR (3600000 * MS)

enum { EVENTS = 48, LETTERS = 400, RUNNING = 16, TXS = 64, REPLAYED = 2048 };

/* What a handler does with an event, the first n times; then it acks. BROKEN: no upcaster can bring
 * it to its handler. NEWER: nor can the program, until a newer one runs. */
typedef enum sim_script {
    SIM_ACK,
    SIM_RETRY,
    SIM_REJECT,
    SIM_HANG,
    SIM_CRASH,
    SIM_BROKEN,
    SIM_NEWER
} sim_script;

/* What a store keeps in the ledger after hark_store_ops.ack. */
#define SIM_ROW_SETTLED 6

typedef enum sim_end { SIM_OPEN = 0, SIM_ACKED, SIM_DYING, SIM_DEAD } sim_end;

/* What is known of an event at one time: now, at the last collect, or by what was committed. */
typedef struct sim_truth {
    sim_end end;
    int64_t attempts; /* that failed */
    bool by_tx;       /* ACKED: by a transaction */
} sim_truth;

typedef struct sim_event {
    char key[4];             /* empty = none */
    bool matches, transacts; /* transacts: its handler acks by a transaction */
    sim_script script;
    uint64_t times, runs; /* n, and how often a handler had it */
    /* by what is committed */
    int64_t crashes, interruptions;
    bool redriven;  /* open again by a redrive */
    size_t answers; /* so many letters go when that is settled */
    bool called;    /* was redriven since the last reset */
    bool blocks;    /* a dead letter that parks its key, or one of these redriven and not settled */
    size_t letters; /* that there must be */
    /* of this life of the process */
    bool running, read;
    int64_t not_before;          /* mono: when its retry is due */
    int64_t settled_wall, limit; /* of the last retry: pause at most this; -1 = none */
    int64_t given;               /* the pause that the handler asked for; -1 = none */
    int64_t settled_mono;
    const char *outcome, *reason;
    enum { SIM_READY, SIM_POSTPONED, SIM_COLLECTED } postponed; /* until that is committed */
    bool untold; /* a transaction has settled it, and the core does not know yet */
} sim_event;

typedef struct sim_letter {
    uint64_t id, seq, generation;
    hark_letter_state state;
} sim_letter;

typedef struct sim_row {
    bool there;
    hark_store_row row;
    char key[4], error[32];
} sim_row;

typedef struct sim_disk {
    uint64_t floor, highest, generation, gap_done;
    hark_store_range settled[EVENTS + 2];
    size_t n_settled;
    sim_row rows[EVENTS + 1];
    size_t effects[EVENTS + 1]; /* of transactions, since it was reset or redriven */
    sim_letter letters[LETTERS];
    size_t n_letters;
    uint64_t last_letter;
    bool paused;
    hark_store_rerun rerun;
} sim_disk;

/* A handler that runs. */
typedef struct sim_running {
    hk_lease lease;
    uint64_t seq;
    int64_t ends, until;
    bool live;   /* its lease has not ended, as far as the world knows */
    bool beats;  /* extends its lease */
    bool sealed; /* waits for the commit of its transaction */
    sim_script does;
} sim_running;

/* A transaction, from when the handler asks for it until its thread learns what came of it. */
typedef struct sim_tx {
    hk_lease lease;
    uint64_t seq, generation;
    enum { SIM_TX_QUEUED, SIM_TX_COMMITTED, SIM_TX_FAILED } state;
} sim_tx;

typedef struct sim_payload {
    struct sim_world *w;
    uint64_t seq;
    bool arrived; /* kept as it arrived: counts against the window */
} sim_payload;

typedef struct sim_world {
    uint64_t seed, rng;
    bool loud;
    hk_core_opts opts;
    hk_cores *cores;
    int64_t mono, wall, timeout;
    sim_event events[EVENTS + 1];
    uint64_t n_events, visible, start; /* start: nothing up to here concerns the consumer */
    uint64_t most_started, gap_handed;
    sim_disk disk;
    sim_truth now[EVENTS + 1], collected[EVENTS + 1], saved[EVENTS + 1];
    sim_running running[RUNNING];
    size_t n_running;
    sim_tx txs[TXS];
    size_t n_txs;
    bool knows, buries; /* the program knows NEWER events; else they are buried, not postponed */
    /* of so many chances to save what nobody waits for, and to commit, one is taken */
    uint64_t lazy, slow;
    bool calm;
    size_t payloads, arrived; /* alive; of these, kept as they arrived */
    size_t holding[EVENTS + 1];
    bool flight;
    hark_store_save save;
    int64_t lazy_since; /* mono: there is something to save; -1 = no */
    /* a redrive or discard that is committed and not told yet */
    enum { SIM_TOLD, SIM_TELL_REDRIVEN, SIM_TELL_DISCARDED } tell;
    uint64_t tell_seq;
    int64_t tell_due, tell_due_wall;
    bool tell_first; /* nothing is collected before it is told */
    size_t redrives;
    int64_t replayed_at[REPLAYED];
    size_t n_replayed;
} sim_world;

/* main.c */
_Noreturn void sim_fail(const sim_world *w, const char *fmt, ...) HARK_PRINTF(2, 3);
void sim_say(const sim_world *w, const char *fmt, ...) HARK_PRINTF(2, 3);

/* main.c: which mistake is planted in the core, or in the world's dealing with it; 0 = none. */
extern int hk_planted;

/* main.c: the core's memory; `sim_memory_in` allocations from now on there is none, once. */
extern int sim_memory_in;
void *sim_malloc(size_t n);
void *sim_calloc(size_t n, size_t size);
void *sim_realloc(void *p, size_t n);

/* world.c */
uint64_t sim_roll(sim_world *w, uint64_t n);
bool sim_chance(sim_world *w, uint64_t one_in);
hk_now sim_now(const sim_world *w);
void sim_run(uint64_t seed, bool loud);

/* runtime.c */
void sim_boot(sim_world *w); /* a new core from the disk */
void sim_read(sim_world *w);
void sim_start(sim_world *w, bool all);
void sim_handlers(sim_world *w); /* those that are done, and leases that ran out */
void sim_collect(sim_world *w);
void sim_commit(sim_world *w, bool ok);
void sim_tell(sim_world *w);
typedef enum sim_stop { SIM_CLEAN, SIM_KILLED, SIM_CRASHED } sim_stop;
void sim_restart(sim_world *w, sim_stop how, uint64_t culprit);
void sim_redrive(sim_world *w, uint64_t id, int64_t in);
void sim_discard(sim_world *w, uint64_t id);
void sim_reset(sim_world *w);
bool sim_doomed(const sim_world *w, uint64_t seq);

/* tx.c */
bool sim_transact(sim_world *w, sim_running *r);
void sim_run_txs(sim_world *w, bool ok); /* as part of a group that is committed, or is not */
void sim_tell_txs(sim_world *w, bool all);

/* disk.c */
void disk_save(sim_world *w, const hark_store_save *s);
bool disk_count(sim_disk *d, uint64_t seq, bool crash, int64_t first_ns);
hark_err disk_ack(sim_disk *d, uint64_t seq, uint64_t generation);
bool disk_settled(const sim_disk *d, uint64_t seq);
bool disk_row(const sim_disk *d, uint64_t seq); /* has it a row that holds it open or dead? */
sim_letter *disk_letter(sim_disk *d, uint64_t id);
hark_err disk_redrive(sim_world *w, sim_letter *l, int64_t due_ns);
bool disk_discard(sim_world *w, sim_letter *l); /* true: it headed a parked lane */
void disk_reset(sim_world *w, uint64_t floor, const hark_store_rerun *rerun);
size_t disk_consumer(sim_disk *d, hark_store_consumer *ret, hark_store_row *rows);

/* audit.c */
bool audit_concerns(const sim_world *w, uint64_t seq); /* has the consumer to do with it? */
bool audit_unsaved(const sim_world *w, uint64_t seq);  /* has it a failure that is not committed? */
bool audit_same_key(const sim_world *w, uint64_t a, uint64_t b);
uint64_t audit_waits_for(const sim_world *w, uint64_t seq); /* another of its key; 0 = none */
void audit_boot(sim_world *w);
void audit_start(sim_world *w, const hk_started *s);
void audit_unstart(sim_world *w, const hk_started *s);
void audit_settle(sim_world *w, uint64_t seq, hark_verdict asked, hark_verdict came, int64_t delay,
                  const char *outcome);
void audit_collect(sim_world *w);
void audit_commit(sim_world *w, bool ok);
void audit_idle(sim_world *w); /* nothing more could be started */
void audit_redriven(sim_world *w, uint64_t seq);
void audit_discarded(sim_world *w, uint64_t seq);
void audit_reset(sim_world *w);
void audit_end(sim_world *w);
bool audit_done(const sim_world *w);

/* audit_save.c */
void audit_commit_truth(sim_world *w, uint64_t seq); /* what was collected of it is committed */

/* audit_tx.c */
void audit_tx(sim_world *w, const sim_tx *tx);
void audit_acked(sim_world *w, uint64_t seq);
void audit_effects(sim_world *w, uint64_t seq);
void audit_postpone(sim_world *w, const hk_started *s, int64_t delay);
void audit_bury(sim_world *w, uint64_t seq);
void audit_postponed(sim_world *w, const hark_store_row *row);
void audit_postponed_saved(sim_world *w, bool ok);
void audit_stages(const sim_world *w);

#endif
