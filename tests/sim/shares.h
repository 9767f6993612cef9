/* The simulator's second world: a consumer in shares, on a log that several processes share.
 * Processes come, are killed, hang past their lease and come back; shares wander. The core's own
 * promises are audited in the first world; here it is what concerns ownership.
 *
 *     shares.c        chance: what happens next, and the calm end
 *     shares_run.c    a process: reads, starts handlers, settles, saves, asks for shares
 *     shares_store.c  what is committed, and whose it is, by the contract of hark/store.h
 *     shares_audit.c  the promises */
#ifndef SIM_SHARES_H
#define SIM_SHARES_H

#include "sim.h"

#include "delivery/delivery.h"

enum { MEMBERS = 5, SHARES = 8, PLACES = 200, KEYS = 60, HANDLERS = 24, NEWS = 400 };
#define LEASE (60 * MS)

typedef struct shr_event {
    char key[8]; /* empty = none */
    uint32_t share;
    sim_script script; /* ACK, RETRY, REJECT or HANG */
    uint64_t times, runs;
    bool transacts;
    sim_truth now, saved; /* as the present owner of its share knows; as committed */
    bool redriven, blocks, discarded;
    bool untold; /* the owner of its share does not know yet that it was discarded */
    size_t effects;
    bool poison;                 /* its handler kills its process */
    int64_t interrupted;         /* what its row said when its share was claimed */
    bool suspect, suspect_saved; /* it has not ended in order since then; as committed */
    bool killed; /* it has killed the owner of its share, and not ended in order since */
    size_t crashes, free_runs; /* free: when it was no suspect */
    size_t foreign;            /* interruptions for which nobody's handler is to blame */
    int64_t not_before;
    bool unheard;      /* what is committed of it is perhaps not known to its core */
    uint64_t known_to; /* by which right its share's core has it */
} shr_event;

typedef struct shr_running {
    hk_lease lease;
    hark_store_owned of;
    uint64_t seq;
    int64_t ends, until;
    bool timed_out; /* its lease has ended */
    bool orphan;    /* its share was taken when the process's lease was over */
    enum { SHR_RUNS, SHR_SEALED, SHR_COMMITTED } state;
} shr_running;

typedef struct shr_process {
    uint64_t id; /* another one after each start; 0 = it is not up */
    hk_cores *cores;
    int64_t lives_until; /* as it knows itself */
    int64_t hangs_until;
    int64_t asked; /* for its shares, and was answered */
    shr_running running[HANDLERS];
    size_t n_running;
    bool flight, closing, paused;
    hark_store_save *saves;
    size_t n_saves;
    hark_store_owned stale[SHARES]; /* of these saves */
    size_t n_stale;
    sim_truth got[PLACES + 1]; /* at the last collect */
    bool got_suspect[PLACES + 1];
    bool reading; /* a page */
    uint64_t after, upto;
    uint64_t news_done;
    hark_store_owned
        strange[SHARES]; /* its own by what the store says, and not here: to be released */
    size_t n_strange, payloads;
    bool leaves[SHARES];
} shr_process;

typedef struct shr_share {
    uint64_t token, owner; /* owner: process; 0 = free */
    uint64_t floor, highest;
    hark_store_range settled[PLACES + 2];
    size_t n_settled;
    uint64_t news; /* those up to here are in its rows */
    uint64_t claimed, suspect;
    bool poisoned; /* its owner was killed by a handler */
} shr_share;

typedef struct shr_row {
    bool there, acked; /* acked: by a transaction, and no save has told so yet */
    hark_store_row row;
} shr_row;

typedef struct shr_store {
    shr_share shares[SHARES];
    shr_row rows[PLACES + 1];
    struct {
        uint64_t id;
        int64_t until;
    } members[MEMBERS];
    hark_store_news news[NEWS];
    size_t n_news;
} shr_store;

typedef struct shr_world {
    sim_world w; /* seed, random numbers, clock */
    hk_core_opts opts;
    shr_event events[PLACES + 1];
    uint64_t n_events, visible, last_id;
    int64_t timeout;
    shr_process processes[MEMBERS];
    size_t n_processes;
    shr_store store;
} shr_world;

typedef struct shr_answer {
    hark_store_owned owned[SHARES];
    size_t n_owned;
    bool give[SHARES];
    hark_store_owned claimed[SHARES];
    hk_reach reach[SHARES];
    size_t n_claimed;
} shr_answer;

static inline const char *shr_key(const shr_event *e)
{
    return e->key[0] ? e->key : NULL;
}

/* shares.c */
void shares_run(uint64_t seed, bool loud);

/* shares_run.c */
void shr_boot(shr_world *x, shr_process *p);
void shr_kill(shr_world *x, shr_process *p);
void shr_close(shr_world *x, shr_process *p);
void shr_pause(shr_world *x, shr_process *p, bool paused);
void shr_beat(shr_world *x, shr_process *p);
void shr_ask(shr_world *x, shr_process *p);
void shr_read(shr_world *x, shr_process *p); /* begins a page, or takes one that was begun */
void shr_start(shr_world *x, shr_process *p);
void shr_handlers(shr_world *x, shr_process *p);
void shr_collect(shr_world *x, shr_process *p);
void shr_commit(shr_world *x, shr_process *p, bool ok);

/* shares_store.c */
void store_beat(shr_world *x, const shr_process *p);
void store_leave(shr_world *x, const shr_process *p);
void store_release(shr_world *x, const shr_process *p, hark_store_owned of);
void store_shares(shr_world *x, shr_process *p, shr_answer *ret);
/* The state of a share, as `shares` tells it to who claims it. */
void store_state(shr_world *x, uint32_t share, hark_store_consumer *ret, hark_store_row *rows);
hark_err store_save(shr_world *x, const shr_process *p, const hark_store_save *s);
hark_err store_ack(shr_world *x, hark_store_owned of, uint64_t seq);
/* Of the shares of a process that a handler has killed. */
void store_poisoned(shr_world *x, const shr_process *p);
void store_redrive(shr_world *x, uint64_t seq);
void store_discard(shr_world *x, uint64_t seq);
bool store_settled(const shr_world *x, uint64_t seq);

/* shares_audit.c */
bool shr_holds(const shr_world *x, const shr_process *p, hark_store_owned of);
void shr_audit_claim(shr_world *x, uint32_t share);
void shr_audit_crash(shr_world *x, const shr_process *p, uint64_t seq);
void shr_audit_release(shr_world *x, const shr_process *p, uint32_t share);
void shr_audit_start(shr_world *x, const shr_process *p, const hk_started *s, hark_store_owned of);
void shr_audit_settle(shr_world *x, uint64_t seq, hark_verdict asked, hark_verdict came);
void shr_audit_died(shr_world *x, uint64_t seq, const hark_store_dead *d);
void shr_audit_saved(shr_world *x, const shr_process *p, const hark_store_save *s);
void shr_audit_store(shr_world *x);
bool shr_audit_done(const shr_world *x);
void shr_audit_end(shr_world *x);

#endif
