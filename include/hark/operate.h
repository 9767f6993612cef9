/* hark/operate.h: looking at consumers and mending them: why one does not move, figures, pause and
 * reset, dead letters, replays, retention. What a service's admin page, the hub and the command line
 * are made of.
 *
 * Lists call a function for each entry: what it gets is borrowed for the call, it returns false to
 * stop, and it must not call the bus.
 */
#ifndef HARK_OPERATE_H
#define HARK_OPERATE_H

#include <hark/bus.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- consumers ------------------------------------------------------------------------------- */

typedef struct hark_consumer_info {
    size_t size;
    const char *name, *pattern;
    const char *policy;                /* JSON, what is not default */
    uint64_t generation;               /* raised by a reset */
    uint64_t floor;                    /* all up to it is settled */
    uint64_t highest;                  /* highest sequence ever delivered */
    uint64_t lag;                      /* positions of the log after the floor */
    uint64_t retrying, behind, parked; /* rows in the ledger */
    uint64_t parked_keys;
    uint64_t dead_letters;
    int64_t paused;
    int64_t open_here;     /* not 0: subscribed in this process */
    const char *replay_id; /* of the replay under way; NULL = none */
} hark_consumer_info;

/* Lists the consumers that the store knows, by name.
 * Ownership: borrowed for the call of fn.
 * Threads: any that may block.
 * Blocks: on the store.
 * Errors: HARK_ECLOSED, HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_consumers(hark_bus *bus,
                                           bool (*fn)(const hark_consumer_info *info, void *ud),
                                           void *ud, hark_errinfo *ei);

/* Stops and starts deliveries of a consumer; durable. What runs goes on.
 * Ownership: none.
 * Threads: any that may block.
 * Blocks: until committed.
 * Errors: HARK_ENOTFOUND, HARK_ECLOSED, HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_consumer_pause(hark_bus *bus, const char *name, hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_consumer_resume(hark_bus *bus, const char *name, hark_errinfo *ei);

typedef struct hark_reset_opts {
    size_t size;
    int64_t start; /* hark_start: HARK_START_NOW = the end */
    uint64_t start_sequence;
    int64_t start_time_ns;
    int64_t rate;    /* events a second while it replays; 0 = as fast as it goes */
    int64_t dry_run; /* not 0: only say what would be */
} hark_reset_opts;

typedef struct hark_reset_result {
    size_t size;
    uint64_t from;      /* first sequence that will be looked at */
    uint64_t upto;      /* deliveries up to here are part of the replay; 0 = none */
    uint64_t events;    /* matching events in between */
    char replay_id[40]; /* empty = nothing is replayed */
} hark_reset_result;

/* Starts a consumer anew from another place, which has to be given: what lies before it is passed
 * over, settled or not. Its generation goes up: what runs now is refused when it settles (HARK_ESTALE);
 * open rows are dropped, dead letters stay. Deliveries up to the highest sequence that it had reached
 * carry a replay id.
 * Ownership: fills *ret (may be NULL; set its size).
 * Threads: any that may block.
 * Blocks: until committed.
 * Errors: HARK_ENOTFOUND, HARK_EINVAL, HARK_ECLOSED, HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_consumer_reset(hark_bus *bus, const char *name,
                                                const hark_reset_opts *opts, hark_reset_result *ret,
                                                hark_errinfo *ei);

/* ---- why is it not moving -------------------------------------------------------------------- */

typedef enum hark_why_code {
    HARK_WHY_IDLE = 0,      /* everything is settled */
    HARK_WHY_CATCHING_UP,   /* it moves: `lag` positions to go */
    HARK_WHY_NOT_OPEN,      /* nobody in this process subscribes with this name, or all of its
                               shares are other processes' */
    HARK_WHY_PAUSED,        /* until hark_consumer_resume */
    HARK_WHY_STORE_FAILING, /* reads or commits fail; `text` says how */
    HARK_WHY_LEDGER_FULL,   /* max_deferred events retry, wait behind retries, or are parked */
    HARK_WHY_WINDOW_FULL,   /* the window holds only events behind `key`, which runs */
    HARK_WHY_WORKER_BUSY,   /* all workers run handlers: `sequence` since `since_ns` */
    HARK_WHY_LANE_WAITING,  /* `key` retries: since `since_ns`, next attempt at `next_ns` */
    HARK_WHY_PARKED,        /* `parked_keys` wait for redrive or discard; the first is `key` */
    HARK_WHY_THROTTLED      /* a replay's rate holds it back */
} hark_why_code;

typedef struct hark_why_info {
    size_t size;
    int64_t code;      /* hark_why_code */
    uint64_t sequence; /* of the event that it is about; 0 = none */
    uint64_t lag;      /* positions of the log after the floor; 0 if none is for it */
    uint64_t running, waiting, behind, parked, parked_keys;
    int64_t since_ns; /* wall clock; 0 = not known */
    int64_t next_ns;  /* wall clock; 0 = nothing is due */
    int64_t attempts; /* failed so far, of `sequence` */
    char key[128];    /* cut at a character; empty = none */
    char text[512];   /* one sentence */
} hark_why_info;

/* Name of a hark_why_code, for logs and JSON: "idle", "catching-up", "not-open", "paused",
 * "store-failing", "ledger-full", "window-full", "worker-busy", "lane-waiting", "parked",
 * "throttled"; "other" for a value that is none.
 * Ownership: static string.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_why_name(int64_t code);

/* Says why a consumer stands where it stands; one cause, the most telling one.
 * Ownership: fills *ret (set its size).
 * Threads: any that may block.
 * Blocks: on a look at the store.
 * Errors: HARK_ENOTFOUND, HARK_EINVAL, HARK_ECLOSED, and the store's. */
HARK_API HARK_MUST hark_err hark_why(hark_bus *bus, const char *consumer, hark_why_info *ret,
                                     hark_errinfo *ei);

/* ---- figures ---------------------------------------------------------------------------------- */

/* A latency in ns: quantiles are upper bounds within 1/16. */
typedef struct hark_latency {
    uint64_t count;
    int64_t p50_ns, p90_ns, p99_ns, p999_ns, max_ns, mean_ns;
} hark_latency;

typedef struct hark_stats {
    size_t size;
    uint64_t published;  /* events made visible since the bus was opened */
    uint64_t duplicates; /* repeats that got an earlier receipt; stores with a writer */
    uint64_t commits;    /* groups */
    uint64_t failed_commits;
    uint64_t schedules; /* waiting */
    uint64_t last_sequence;
    double rate;         /* events a second, over the last ten full seconds */
    hark_latency commit; /* publish -> commit; stores with a writer */
} hark_stats;

typedef struct hark_type_stats {
    const char *type;
    uint64_t count, bytes; /* since the bus was opened */
    int64_t first_ns, last_ns;
    double rate;
} hark_type_stats;

typedef struct hark_consumer_stats {
    const char *consumer;
    uint64_t delivered, acked, retried, rejected, timed_out, gaps, gap_events;
    uint64_t running, in_memory, deferred;
    uint64_t floor, lag;  /* positions of the log after the floor; 0 if none is for it */
    int64_t oldest_ns;    /* recorded time of the first event that is not settled; 0 = none */
    double rate;          /* settled a second, over the last ten full seconds */
    hark_latency wait;    /* commit -> handler, first attempts */
    hark_latency handler; /* handler time */
} hark_consumer_stats;

/* Figures of the bus, of each type seen since it was opened (up to 4096 types, the rest together as
 * "other types"), and of each consumer open in this process.
 * Ownership: hark_stats_get fills *ret (set its size); the lists lend.
 * Threads: any.
 * Blocks: no; hark_stats_consumers may read one event per consumer from the store.
 * Errors: HARK_EINVAL for an unknown size; HARK_ENOMEM (hark_stats_consumers). */
HARK_API HARK_MUST hark_err hark_stats_get(hark_bus *bus, hark_stats *ret);
HARK_API HARK_MUST hark_err hark_stats_types(hark_bus *bus,
                                             bool (*fn)(const hark_type_stats *s, void *ud),
                                             void *ud);
HARK_API HARK_MUST hark_err hark_stats_consumers(hark_bus *bus,
                                                 bool (*fn)(const hark_consumer_stats *s, void *ud),
                                                 void *ud);

/* ---- dead letters ----------------------------------------------------------------------------- */

/* One failed attempt. */
typedef struct hark_attempt {
    int64_t number; /* from 1; a crash or interruption has the number of the attempt it ended */
    int64_t started_ns, ended_ns;
    const char *outcome; /* "retry", "reject", "timeout", "crash", "interrupted" */
    const char *error;   /* or NULL */
} hark_attempt;

typedef struct hark_dead_letter {
    size_t size;
    uint64_t id;
    const char *consumer;
    uint64_t sequence, generation;
    const char *reason; /* "rejected", "max_attempts", "crash", "interrupted", "upcast" */
    const char *error;  /* of the last attempt, or NULL */
    int64_t attempts, crashes, interruptions;
    int64_t first_ns, dead_ns; /* first attempt; when it was given up */
    int64_t redriven;          /* not 0: its new delivery is under way */
    const hark_event *event;   /* the dead letter's own copy */
    const hark_attempt *log;   /* hark_dead_letter_get: every failed attempt, oldest first */
    size_t n_log;
} hark_dead_letter;

typedef struct hark_dead_filter {
    size_t size;
    const char *consumer;   /* NULL = any */
    const char *type;       /* pattern; NULL = any */
    const char *reason;     /* one of those above; NULL = any */
    int64_t from_ns, to_ns; /* given up at or after, before; 0 = any */
    uint64_t after_id;      /* ids above this, for pages */
    size_t limit;           /* 0 = all */
    int64_t redriven;       /* not 0: list those that are being redriven too */
} hark_dead_filter;

typedef bool (*hark_dead_fn)(const hark_dead_letter *letter, void *ud);

/* Lists dead letters in order of their ids; shows one with its attempts.
 * Ownership: borrowed for the call of fn; a NULL filter is all.
 * Threads: any that may block.
 * Blocks: on the store.
 * Errors: HARK_ENOTFOUND (no such letter; a filter's consumer that the store does not know),
 * HARK_EINVAL, HARK_ECLOSED, HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_dead_letters(hark_bus *bus, const hark_dead_filter *filter,
                                              hark_dead_fn fn, void *ud, hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_dead_letter_get(hark_bus *bus, uint64_t id, hark_dead_fn fn,
                                                 void *ud, hark_errinfo *ei);

/* Redrives a dead letter: a new delivery of the same sequence to that one consumer, attempts from 1,
 * ahead of its parked lane. Once committed it survives crashes; before, it has not happened.
 * Ownership: none.
 * Threads: any that may block.
 * Blocks: until committed.
 * Errors: HARK_ENOTFOUND, HARK_ECONFLICT (redriven already), HARK_EAGAIN (the consumer was reset and
 * will come to the event by itself; or a transaction has settled the event this moment),
 * HARK_ECLOSED, HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_redrive(hark_bus *bus, uint64_t id, hark_errinfo *ei);

/* Redrives all that the filter finds when it is called (redriven ones are passed over; what dies again
 * meanwhile is left for another call), in commits of up to 256, each due at once when it is committed.
 * With a rate the caller feeds them: every 100 ms as many as `rate` a second allows, at least one at a
 * time. With rate 0 all are redriven one commit after the other; until they are settled they count
 * towards the consumer's max_deferred, so a big redrive holds up its reading of new events for that
 * long: give a rate that it keeps up with. Repeating the call after a crash, or on another bus after a
 * drain, does the rest.
 * Ownership: *ret_count (may be NULL) counts those redriven, also on failure.
 * Threads: any that may block.
 * Blocks: until all are committed, not until they are delivered: with a rate for count/rate seconds,
 * without a lock. A drain or close of the bus ends that at once, with HARK_ECLOSED.
 * Errors: as hark_redrive, but for letters that somebody else redrove or discarded meanwhile, which are
 * passed over; HARK_ENOTFOUND for a filter's consumer that the store does not know; HARK_EINVAL;
 * HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_redrive_all(hark_bus *bus, const hark_dead_filter *filter,
                                             int64_t rate, uint64_t *ret_count, hark_errinfo *ei);

/* Discards a dead letter, or all that the filter finds; a lane parked behind it goes on.
 * Ownership: as hark_redrive, hark_redrive_all.
 * Threads: any that may block.
 * Blocks: until committed.
 * Errors: as hark_redrive, hark_redrive_all. */
HARK_API HARK_MUST hark_err hark_discard(hark_bus *bus, uint64_t id, hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_discard_all(hark_bus *bus, const hark_dead_filter *filter,
                                             uint64_t *ret_count, hark_errinfo *ei);

/* ---- replays ---------------------------------------------------------------------------------- */

typedef struct hark_replay_opts {
    size_t size;
    const char *id;   /* NULL = a fresh one; naming an unfinished replay goes on with it, and then
                         pattern and range are its own; [A-Za-z0-9_.:-]{1,39} */
    const char *type; /* pattern; NULL = every type but hark's own */
    uint64_t first;   /* sequence; 0 = the oldest */
    uint64_t last;    /* sequence, inclusive; 0 = the newest now */
    int64_t from_ns, to_ns; /* recorded at or after, before; 0 = any */
    int64_t rate;           /* events a second; 0 = as fast as it goes; also of one gone on with */
    int64_t dry_run;        /* not 0: only count; the handler may be NULL */
    void (*free_ud)(void *ud); /* called once after the last call of the handler */
    /* HARK_VERSION_NEWEST (what is newer comes as it is), HARK_VERSION_STORED, or a version; what
     * no upcaster can bring there counts as rejected. */
    int64_t dataversion;
} hark_replay_opts;

typedef struct hark_replay_info {
    size_t size;
    char id[40];
    char consumer[132]; /* replay by reset; empty = an ad-hoc handler's */
    char pattern[264];
    int64_t state; /* hark_replay_status */
    uint64_t first, last, position;
    uint64_t done, total; /* events */
    uint64_t rejected;
    double rate;     /* events a second, since it was started or resumed here */
    int64_t left_ms; /* at this rate; -1 = not known */
    char error[256];
    uint64_t missing; /* of `total`, as known now: gone from the log before their turn came; 0 for a
                         consumer's, which is handed gaps */
} hark_replay_info;

typedef enum hark_replay_status {
    HARK_REPLAYING = 1,
    HARK_REPLAYED = 2,
    HARK_REPLAY_STOPPED = 3,    /* cancelled */
    HARK_REPLAY_BROKEN = 4,     /* its handler failed, or the log; `error` */
    HARK_REPLAY_INTERRUPTED = 5 /* its process ended; hark_replay with its id goes on */
} hark_replay_status;

/* Reads history again into a handler, in log order, on a thread of its own. Deliveries carry the
 * replay's id. HARK_RETRY repeats the event after a growing pause, ten times, then the replay is
 * broken there; HARK_REJECT counts and goes on; HARK_LATER is not allowed (it counts as HARK_RETRY).
 * Progress is kept in the store: after a restart, or a break, a replay goes on where it was (up to
 * the last 1000 events or 200 ms come again). What is gone from the log when its turn comes is passed
 * over and counted as `missing`: what memory: no longer keeps, what a rule of retention removed by
 * `force` or while the replay did not run. A replay that comes to its end so is HARK_REPLAYED, and
 * `error` tells.
 * Ownership: ud goes to free_ud (not when this call fails); fills *ret (may be NULL; set its size).
 * Threads: any that may block.
 * Blocks: while it counts, and until its beginning is committed.
 * Errors: HARK_EINVAL, HARK_EEXIST (that id runs here, or in another process on a log that several share),
 * HARK_ECONFLICT (it is finished), HARK_ECLOSED,
 * HARK_EWRONGTHREAD, HARK_ENOMEM, and the store's. */
HARK_API HARK_MUST hark_err hark_replay(hark_bus *bus, hark_handler_fn fn, void *ud,
                                        const hark_replay_opts *opts, hark_replay_info *ret,
                                        hark_errinfo *ei);

/* Looks at a replay, waits for its end, lists all, cancels one. Replays into consumers (made by
 * hark_consumer_reset) are among them. Cancelling one of these puts its consumer back to where it
 * stood before the reset: behind the stretch in which it had settled everything, so that nothing is
 * passed over that it never did, while what it had settled beyond a gap, or a moment before, may
 * come again. If it is there already, only the mark goes, and what runs may still be settled. The
 * replay is gone then. A cancel is committed when it returns, and does not wait for a handler that
 * runs; waiting does. Waiting for one that nobody runs here returns at once, as
 * HARK_REPLAY_INTERRUPTED.
 * Ownership: fills *ret (set its size); lists lend.
 * Threads: any that may block.
 * Blocks: on the store; hark_replay_wait at most timeout_ms (-1 = for ever).
 * Errors: HARK_ENOTFOUND, HARK_ETIMEDOUT, HARK_ECONFLICT (cancelling what has ended), HARK_EEXIST (cancelling
 * what runs in another process), HARK_ECLOSED, HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_replay_get(hark_bus *bus, const char *id, hark_replay_info *ret,
                                            hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_replay_wait(hark_bus *bus, const char *id, int64_t timeout_ms,
                                             hark_replay_info *ret, hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_replays(hark_bus *bus,
                                         bool (*fn)(const hark_replay_info *info, void *ud),
                                         void *ud, hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_replay_cancel(hark_bus *bus, const char *id, hark_errinfo *ei);

/* ---- retention -------------------------------------------------------------------------------- */

typedef struct hark_retention {
    size_t size;
    const char *pattern;
    int64_t max_age_ms;  /* 0 = no limit */
    uint64_t max_events; /* newest so many of the pattern; 0 = no limit */
    int64_t force;       /* not 0: also what a consumer has yet to see; it gets an explicit gap */
} hark_retention;

/* Sets the rule of a pattern for as long as the bus is open; a rule without limits ends it. The writer
 * applies rules between groups, in slices of about 2 ms, at most every second. It removes nothing
 * that a consumer whose pattern matches, a parked key or a running replay has yet to see, unless
 * `force` is set; then the consumer is handed a gap.
 * Ownership: the rule is copied.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL, HARK_ENOTSUP (memory: keeps the newest tail_events), HARK_ECLOSED,
 * HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_retain(hark_bus *bus, const hark_retention *rule,
                                        hark_errinfo *ei);

/* Applies all rules now, to the end.
 * Ownership: *ret_removed (may be NULL) counts events.
 * Threads: any that may block.
 * Blocks: until done, in groups between those of publishers.
 * Errors: HARK_ENOTSUP, HARK_ECLOSED, HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_retain_now(hark_bus *bus, uint64_t *ret_removed, hark_errinfo *ei);

#ifdef __cplusplus
}
#endif
#endif
