/* hark/store.h: what a store of events is. A backend is a folder that fills in one hark_store_ops.
 *
 * One delivery core decides, in the bus; a store keeps what it decided in the same place as the
 * log, so that both change in one step. The contract in short:
 *
 *  - Writing calls (marked W) come from one thread at a time, the bus's writer, between `begin` and
 *    `commit` or `rollback`. Nothing of a group is visible to `read` before `commit` returned.
 *  - Reading calls (R) come from any thread at any time, beside a group that is being written.
 *  - Sequences strictly increase from 1, are never reused and stay below 2^53. `recorded` times
 *    never decrease with the sequence.
 *  - A store with `direct` set takes `append` from any thread, outside of groups, without blocking,
 *    and calls host->committed itself, in sequence order, from one thread at a time. Of each event
 *    that it appends it takes over two references: one is its own, one goes on to host->committed.
 *
 * All strings are UTF-8. Times are ns since 1970 UTC.
 */
#ifndef HARK_STORE_H
#define HARK_STORE_H

#include <hark/error.h>
#include <hark/event.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hark_store hark_store; /* the backend's own */

/* What the bus offers to a store. */
typedef struct hark_store_host {
    size_t size;
    void *ud;
    /* Direct stores: events that became visible, in sequence order, from one thread at a time. The
     * references are handed over; the array stays the store's. */
    void (*committed)(void *ud, hark_event *const *events, size_t n);
} hark_store_host;

typedef struct hark_store_opts {
    size_t size;
    size_t retain_events; /* direct stores: newest events kept; a power of two */
    size_t retain_bytes;  /* and their bytes */
} hark_store_opts;

typedef struct hark_store_info {
    size_t size;
    uint8_t log_id[16];
    uint64_t epoch;
    uint64_t format;
    uint64_t first_sequence; /* oldest retained; 0 = none */
    uint64_t last_sequence;  /* newest; 0 = none yet */
    int64_t durability;      /* hark_durability reached by commit */
    int64_t direct;          /* see above */
} hark_store_info;

/* One event to append. */
typedef struct hark_store_append {
    hark_event *event;  /* the store stamps it with hark_event_stamp on success */
    uint8_t digest[16]; /* over the content that makes a repeat a duplicate; see hk_event_digest */
    int64_t first_stands;  /* derived ids: other content is a duplicate too, never a conflict */
    int64_t fresh_id;      /* the library has just made the id: it cannot repeat */
    uint64_t ret_sequence; /* place of this event, or of the one it repeats */
    int64_t ret_duplicate;
} hark_store_append;

/* A page of the log to read. Positions are walked from `after` up, or from `before` down. */
typedef struct hark_store_query {
    size_t size;
    const char *pattern; /* NULL = every type, hark's own too */
    const char *subject; /* NULL = any */
    uint64_t after;      /* sequences above this */
    uint64_t before;     /* sequences below this; 0 = to the end */
    int64_t from_ns;     /* recorded at or after; 0 = any */
    int64_t to_ns;       /* recorded before; 0 = any */
    size_t limit;        /* at most so many events; the store may return fewer */
    size_t limit_bytes;  /* stop after about so many bytes of data; 0 = no limit */
    int64_t descending;
} hark_store_query;

/* The answer; the caller gives `events` with room for query.limit. */
typedef struct hark_store_page {
    hark_event **events; /* n references, handed over, in walking order */
    size_t n;
    uint64_t covered; /* every position up to here (down to here) was looked at */
    uint64_t gap;     /* ascending: positions above `after` up to here are no longer in the log; 0 =
                         none are missing. Left alone when descending */
    int64_t end;      /* not 0: nothing further at the moment of reading */
} hark_store_page;

/* ---- the ledger: durable state of consumers -------------------------------------------------- */

typedef struct hark_store_range {
    uint64_t first, last; /* inclusive */
} hark_store_range;

/* Why a row is open. Values are stored. */
typedef enum hark_row_state {
    HARK_ROW_RETRY = 1,  /* waits for its next attempt at `due` */
    HARK_ROW_BEHIND = 2, /* read, waits behind its lane */
    HARK_ROW_PARKED = 3  /* waits for the redrive or discard of its lane's dead letter */
} hark_row_state;

typedef struct hark_store_row {
    uint64_t sequence;
    int64_t state;         /* hark_row_state */
    int64_t attempts;      /* failed so far */
    int64_t crashes;       /* of them ended by a crash of the process */
    int64_t interruptions; /* neighbours of a crash, kills */
    int64_t due_ns;        /* HARK_ROW_RETRY */
    int64_t first_ns;      /* first attempt; 0 = none */
    const char *key;       /* lane; NULL = none */
    const char *error;     /* of the last attempt; NULL = none */
} hark_store_row;

/* One finished attempt that failed, for the attempt log. */
typedef struct hark_store_attempt {
    uint64_t sequence;
    int64_t number; /* from 1 */
    int64_t started_ns;
    int64_t ended_ns;
    const char *outcome; /* "retry", "reject", "crash", "interrupted", "timeout" */
    const char *error;   /* or NULL */
} hark_store_attempt;

/* An event that its consumer gave up on. */
typedef struct hark_store_dead {
    hark_event *event;  /* copied whole; borrowed */
    const char *reason; /* "rejected", "max_attempts", later more */
    const char *error;  /* or NULL */
    int64_t attempts;
    int64_t first_ns; /* first attempt */
    int64_t dead_ns;  /* now */
} hark_store_dead;

/* A consumer as it is registered, and its state as loaded. */
typedef struct hark_store_consumer {
    size_t size;
    /* in */
    const char *name;
    const char *pattern;
    const char *policy; /* canonical text; compared as a whole */
    int64_t update;     /* not 0: take over pattern and policy if they differ */
    int64_t start;      /* hark_start, for one that is new */
    uint64_t start_sequence;
    int64_t start_time_ns;
    /* out; arrays and strings belong to the caller: give them to hark_store_consumer_clear */
    int64_t ret_created;
    uint64_t ret_id;
    uint64_t ret_generation;
    uint64_t ret_floor;   /* all up to it is settled */
    uint64_t ret_highest; /* highest sequence ever delivered */
    hark_store_range *ret_settled;
    size_t ret_n_settled;
    hark_store_row *ret_rows; /* in order of sequence */
    size_t ret_n_rows;
} hark_store_consumer;

/* A change of one consumer's state: part of a group. */
typedef struct hark_store_save {
    size_t size;
    uint64_t consumer; /* ret_id */
    uint64_t generation;
    uint64_t floor;
    uint64_t highest;
    const hark_store_range *settled; /* all above the floor, ascending */
    size_t n_settled;
    const hark_store_row *put; /* rows to insert or replace */
    size_t n_put;
    const uint64_t *drop; /* rows to remove */
    size_t n_drop;
    const hark_store_attempt *attempts;
    size_t n_attempts;
    const hark_store_dead *dead;
    size_t n_dead;
} hark_store_save;

typedef struct hark_store_ops {
    size_t size;
    const char *scheme; /* "sqlite" */

    /* Opens the store at what follows "scheme:" in the URL. Takes nothing over. Errors as
     * hark_open. */
    hark_err (*open)(const char *rest, const hark_store_opts *opts, const hark_store_host *host,
                     hark_store **ret, hark_errinfo *ei);
    void (*close)(hark_store *s);

    /* R: never blocks. */
    void (*info)(hark_store *s, hark_store_info *ret);

    /* W: a group. After an error of class refused the group goes on without what was refused; after
     * any other error from a call of a group the bus rolls it back. commit: HARK_ESTORE, HARK_EFULL = nothing stored; HARK_EUNKNOWN = may be
     * stored, the store takes no more writes; HARK_EREADONLY, HARK_ECORRUPT likewise. */
    hark_err (*begin)(hark_store *s, hark_errinfo *ei);
    hark_err (*commit)(hark_store *s, hark_errinfo *ei);
    void (*rollback)(hark_store *s);

    /* W: appends n events as one unit, all or none: on HARK_ECONFLICT (text names id and sequence;
     * ei may be NULL), or another refusal, nothing of the unit stays and the group goes on. */
    hark_err (*append)(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei);

    /* R: a page. */
    hark_err (*read)(hark_store *s, const hark_store_query *q, hark_store_page *ret,
                     hark_errinfo *ei);

    /* W: registers a consumer or loads the one that is there. HARK_ECONFLICT: another pattern or
     * policy is registered and `update` is not set. */
    hark_err (*consumer_open)(hark_store *s, hark_store_consumer *c, hark_errinfo *ei);

    /* W: HARK_ENOTFOUND when consumer and generation are not there any more. */
    hark_err (*consumer_save)(hark_store *s, const hark_store_save *save, hark_errinfo *ei);

    /* W, outside groups: housekeeping for about budget_ns; true when more is to do. May be NULL. */
    bool (*maintain)(hark_store *s, int64_t budget_ns);
} hark_store_ops;

/* Frees what consumer_open returned and zeroes it.
 * Ownership: takes the ret_ arrays.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_store_consumer_clear(hark_store_consumer *c);

/* Sets an event's place in a log, before others see the event; for stores only.
 * Ownership: none.
 * Threads: the one that owns the event so far.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_event_stamp(hark_event *e, uint64_t sequence, int64_t recorded_ns);

#ifdef __cplusplus
}
#endif
#endif
