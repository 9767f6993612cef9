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
 *  - A store with `live_only` set keeps nothing. It has `open`, `close`, `info` and `send`; all other
 *    operations are NULL, and the bus refuses what needs them with HARK_ENOTSUP. What it receives, what
 *    this process has sent among it, it numbers by itself, from 1 at each open, and gives it to
 *    host->committed, from a thread of its own, or to host->lost; until `close` has returned, even while
 *    `open` has not.
 *
 *  - A store with `shared` set is appended to by other processes, too. A group's sequences are then known
 *    when it is committed, not before. Consumers are divided into shares (hark_store_share_of: by the event's key),
 *    each of which belongs to one process at a time: `beat` says that this one lives, `shares` says what
 *    is its own. What is saved or acked for a share carries the token of that ownership, a number that grows with each
 *    change of it, and is refused with HARK_ESTALE when another process has had the share since. `tail` waits for
 *    what others do. Schedules are everybody's; the group that drops one publishes it.
 *
 * All strings are UTF-8. Times are ns since 1970 UTC.
 */
#ifndef HARK_STORE_H
#define HARK_STORE_H

#include <hark/error.h>
#include <hark/event.h>
#include <hark/tx.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hark_store hark_store; /* the backend's own */

/* What the bus offers to a store. Both calls come from one thread at a time, in sequence order. */
typedef struct hark_store_host {
    size_t size;
    void *ud;
    /* Direct and live-only stores: events that became visible. The references are handed over; the
     * array stays the store's. */
    void (*committed)(void *ud, hark_event *const *events, size_t n);
    /* Live-only stores: events of this type (NULL: of any) may have been missed; these sequences, which
     * no event has, stand for them. */
    void (*lost)(void *ud, const char *type, uint64_t from, uint64_t to, hark_gap_cause cause);
} hark_store_host;

typedef struct hark_store_opts {
    size_t size;
    size_t retain_events; /* direct stores: newest events kept; a power of two */
    size_t retain_bytes;  /* and their bytes */
    int64_t existing;     /* not 0: HARK_ENOTFOUND unless there is a log already */
    int64_t lease_ms; /* shared stores: a process that has not said for so long that it lives loses
                             its shares */
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
    int64_t live_only;       /* likewise */
    int64_t shared;          /* likewise */
    int64_t tx_alone;        /* a closure is the only member of its group that publishes */
} hark_store_info;

/* One event to append. */
typedef struct hark_store_append {
    hark_event *event;  /* the store stamps it with hark_event_stamp on success */
    uint8_t digest[16]; /* over the content that makes a repeat a duplicate; see hk_event_digest */
    int64_t first_stands; /* derived ids: other content is a duplicate too, never a conflict */
    int64_t fresh_id;     /* the library has just made the id: it cannot repeat */
    int64_t expected;     /* version of the subject before it: as in hark_event_spec */
    hark_err *
        late; /* of a unit's first item. Not NULL: `append` may return HARK_OK and give the verdict here,
                       and fill in the ret_ fields, when the group is committed; a refusal's text goes
                       where append's `ei` pointed. The items stay where they are until then */
    uint64_t ret_sequence; /* place of this event, or of the one it repeats */
    int64_t ret_duplicate;
    int64_t ret_subject_version; /* with this event, or after HARK_EVERSION without it */
} hark_store_append;

/* One publish for `send`: its events are sent as one, all or none. */
typedef struct hark_store_message {
    hark_store_append *items; /* stay as they are: no place, no duplicates */
    size_t n;
    hark_errinfo *ei; /* or NULL */
    hark_err ret_err; /* the verdict: HARK_EUNKNOWN = it may have been sent, the store goes on */
} hark_store_message;

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
    HARK_ROW_PARKED = 3, /* waits for the redrive or discard of its lane's dead letter */
    HARK_ROW_DEAD = 4,   /* that dead letter: the head of a parked lane */
    HARK_ROW_COUNTS = 5  /* not read by any run that saved it: the row only keeps its crashes and
                            interruptions; the event itself is still to be read */
    /* 6 is for stores: see `ack` */
} hark_row_state;

typedef struct hark_store_row {
    uint64_t sequence;
    int64_t state;         /* hark_row_state */
    int64_t attempts;      /* failed so far, crashes and interruptions not among them */
    int64_t crashes;       /* of the process, by the thread that had it */
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
    const char *outcome; /* "retry", "reject", "crash", "interrupted", "timeout", "upcast" */
    const char *error;   /* or NULL */
} hark_store_attempt;

/* An event that its consumer gave up on. */
typedef struct hark_store_dead {
    hark_event *event;  /* copied whole; borrowed */
    const char *reason; /* "rejected", "max_attempts", "crash", "interrupted", "upcast" */
    const char *error;  /* or NULL */
    int64_t attempts, crashes, interruptions;
    int64_t first_ns; /* first attempt */
    int64_t dead_ns;  /* now */
    uint64_t ret_id;  /* of the dead letter */
} hark_store_dead;

/* A replay into a consumer: deliveries up to `upto` are part of it. */
typedef struct hark_store_rerun {
    char id[40];         /* empty = none */
    uint64_t from, upto; /* sequences */
    int64_t rate;        /* events a second; 0 = as fast as it goes */
    int64_t started_ns;
    uint64_t settled; /* all up to it was settled before */
} hark_store_rerun;

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
    int64_t find;   /* not 0: only load it; pattern and policy are not compared; HARK_ENOTFOUND */
    uint32_t share; /* shared stores, with `find`: whose floor, settled set and rows are loaded */
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
    char *ret_pattern, *ret_policy; /* as registered now */
    int64_t ret_paused;
    hark_store_rerun ret_rerun;
    uint64_t ret_gap_from, ret_gap_to; /* retention went past it here; 0 = nowhere */
    /* How many shares it has, all its life; 1 on stores that are not shared. On those that are, without `find`:
     * floor and highest are the lowest and the highest of all shares, and there are neither settled
     * ranges nor rows: they come with `shares`. */
    uint32_t ret_shares;
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
    size_t
        n_stale; /* the first so many of `drop`: what an earlier owner left and nothing needs. Shared stores: not if it is a
                       HARK_ROW_RETRY; then another process has redriven it since */
    const hark_store_attempt *attempts;
    size_t n_attempts;
    hark_store_dead *dead; /* ret_id is filled in */
    size_t n_dead;
    uint64_t gap_done; /* gaps up to here were handed out; 0 = none were */
    uint32_t share;    /* shared stores: of which share, */
    uint64_t token;    /* and by which right; */
    uint64_t claimed;  /* deliveries up to here may start once this is committed; 0 = as it was */
    hark_err
        *late; /* as in hark_store_append: HARK_ENOTFOUND or HARK_ESTALE may come with the commit;
                          dead[].ret_id are filled in at once. What the save points to stays until then */
} hark_store_save;

/* Starts a consumer anew: its generation goes up, its open rows, settled set and gaps are dropped,
 * dead letters stay, `highest` stays. */
typedef struct hark_store_reset {
    size_t size;
    uint64_t consumer;
    int64_t start; /* hark_start */
    uint64_t start_sequence;
    int64_t start_time_ns;
    uint64_t reached;       /* delivered up to here, not all of it saved: `highest` is no lower */
    hark_store_rerun rerun; /* id empty: not a replay. from, upto, started_ns are filled in */
    uint64_t ret_generation, ret_floor;
    int64_t keep; /* not 0: no reset. Only the replay under way ends; all else stays, and only
                     `consumer` is looked at */
} hark_store_reset;

/* One consumer in a list. Strings are borrowed for the call. */
typedef struct hark_store_consumer_row {
    const char *name, *pattern, *policy;
    uint64_t id, generation, floor, highest;
    int64_t paused, created_ns;
    hark_store_rerun rerun;
    uint64_t retrying, behind, parked, dead; /* rows by state; but what a lane has besides its dead
                                                head is `parked`, whatever it was saved as, and what
                                                was saved as parked is `behind` without one */
    uint64_t dead_lanes;                     /* lanes with a dead head */
    uint64_t letters;                        /* dead letters that were not redriven */
} hark_store_consumer_row;
typedef bool (*hark_store_consumer_fn)(void *ud, const hark_store_consumer_row *row);

/* ---- dead letters ---------------------------------------------------------------------------- */

typedef enum hark_letter_state {
    HARK_LETTER_DEAD = 1,
    HARK_LETTER_REDRIVEN = 2 /* its new delivery is under way; gone when that is settled */
} hark_letter_state;

typedef struct hark_store_letter {
    uint64_t id, sequence, generation;
    const char *consumer; /* its name */
    uint64_t consumer_id;
    const char *reason, *error; /* error may be NULL */
    int64_t attempts, crashes, interruptions, first_ns, dead_ns, state;
    const hark_event *event; /* its own copy, with sequence and recorded time */
} hark_store_letter;

typedef struct hark_store_letters_query {
    size_t size;
    uint64_t id;            /* this one; 0 = any */
    const char *consumer;   /* name; NULL = any */
    const char *pattern;    /* of the event's type; NULL = any */
    const char *reason;     /* NULL = any */
    uint64_t sequence;      /* 0 = any */
    int64_t state;          /* hark_letter_state; 0 = any */
    int64_t from_ns, to_ns; /* of dead_ns: at or after, before; 0 = any */
    uint64_t after_id;      /* ids above this */
    size_t limit;           /* at most so many; 0 = all */
} hark_store_letters_query;

/* Strings and event are borrowed for the call. False stops. */
typedef bool (*hark_store_letter_fn)(void *ud, const hark_store_letter *l);
typedef bool (*hark_store_attempt_fn)(void *ud, const hark_store_attempt *a);

/* What became of a dead letter that was redriven or discarded. */
typedef struct hark_store_letter_done {
    uint64_t consumer, generation, sequence;
    char *key;      /* its lane, or NULL; the caller frees it */
    int64_t parked; /* not 0: it was the head of a parked lane */
    int64_t
        remote; /* not 0: its share is not this process's; whose it is learns of it by `shares` */
} hark_store_letter_done;

/* ---- schedules, replays ---------------------------------------------------------------------- */

typedef struct hark_store_schedule {
    uint64_t id;
    int64_t due_ns;   /* wall clock */
    int64_t by_delay; /* bit 0: was given as a delay; bit 1: its time is the publisher's own; stored
                         as it is */
    int64_t created_ns;
    hark_event *event;    /* as it will be appended; borrowed */
    uint8_t digest[16];   /* as in hark_store_append */
    int64_t first_stands; /* likewise */
} hark_store_schedule;
typedef bool (*hark_store_schedule_fn)(void *ud, const hark_store_schedule *s);

/* Progress of a replay into an ad-hoc handler. */
typedef struct hark_store_replay {
    const char *id;
    const char *pattern;
    uint64_t first, last; /* sequences, inclusive */
    int64_t from_ns, to_ns;
    int64_t rate;
    uint64_t position; /* all up to here was handed out */
    uint64_t done, total, rejected;
    int64_t state; /* the bus's; stored as it is */
    int64_t started_ns, changed_ns;
    const char *error; /* or NULL */
    int64_t
        holds; /* not 0: it is under way; on shared stores retention leaves what it has yet to see,
                          as long as its process lives */
    int64_t elsewhere; /* out: it is under way in another process, which lives */
} hark_store_replay;
typedef bool (*hark_store_replay_fn)(void *ud, const hark_store_replay *r);

/* ---- retention -------------------------------------------------------------------------------- */

/* Removes events of a pattern that are older than `before_ns` or beyond the newest `keep`, oldest
 * first, but none above what a consumer whose pattern matches has yet to see (its floor, its open
 * rows, its parked lanes) or a running replay (`hold`), unless `force`. */
typedef struct hark_store_trim {
    size_t size;
    const char *pattern;
    int64_t before_ns; /* recorded before; 0 = no limit by age */
    uint64_t keep;     /* newest so many of the pattern; 0 = no limit by count */
    uint64_t hold;     /* sequences from here on stay; 0 = none are held */
    int64_t force;
    int64_t budget_ns; /* about; one step may take longer */
    /* out */
    uint64_t ret_removed;
    int64_t ret_more; /* not 0: call again */
    /* forced: consumers that had yet to see what was removed; the caller's array */
    struct hark_store_gap {
        uint64_t consumer, from, to;
    } * gaps;
    size_t cap_gaps, ret_n_gaps;
} hark_store_trim;
typedef struct hark_store_gap hark_store_gap;

/* ---- in-flight slots --------------------------------------------------------------------------- */

typedef enum hark_slot_state {
    HARK_SLOT_FREE = 0,
    HARK_SLOT_RUNNING = 1,
    HARK_SLOT_CRASHED = 2 /* the thread that had it faulted: see signal, address */
} hark_slot_state;

/* What a worker has in hand, in memory that outlives the process. Written by one thread; the
 * fields before `state`, which is written last and cleared first. */
typedef struct hark_store_slot {
    uint64_t consumer, generation, sequence;
    int64_t attempt;
    int64_t started_ns;
    uint64_t address;
    uint32_t signal;
    uint32_t state; /* hark_slot_state */
    uint64_t check; /* hk_hash of the bytes before `address` */
} hark_store_slot;

/* ---- shared stores: whose part is what ------------------------------------------------------- */

enum { HARK_SHARES_MAX = 256 }; /* of one consumer */

/* A share that this process has, */
typedef struct hark_store_owned {
    uint32_t share;
    uint64_t token;
} hark_store_owned;

/* and one that it has from now on, as its last owner left it. */
typedef struct hark_store_claim {
    uint32_t share;
    uint64_t token;
    uint64_t floor, highest;
    /* Deliveries above `claimed` do not start before a save has raised it. `shares` has set it somewhat above
     * what was delivered before. What is not settled up to `suspect` may have been running when an owner died, stopped or lost
     * the share; also if later ones gave it up in order, since none of them need have run it. 0 = all gave it up in order. It is on record (HARK_ROW_COUNTS, or the row it has, with an
     * interruption more) before it runs again: so what kills its process does not do so for ever. */
    uint64_t claimed, suspect;
    hark_store_range *settled;
    size_t n_settled;
    hark_store_row *rows; /* in order of sequence */
    size_t n_rows;
} hark_store_claim;

/* What another process did to this one's deliveries, in the ledger already. */
typedef enum hark_news_kind {
    HARK_NEWS_REDRIVEN = 1, /* as letter_redrive: now a row that is due at due_ns */
    HARK_NEWS_DISCARDED = 2 /* the head of a parked lane */
} hark_news_kind;

typedef struct hark_store_news {
    uint64_t id; /* grows, per consumer */
    uint32_t share;
    int64_t kind; /* hark_news_kind */
    uint64_t sequence;
    int64_t due_ns;
    char *key; /* or NULL */
} hark_store_news;

/* Who has what of a consumer: asked now and then by each process that has the consumer open, and answered in one
 * step. A process should have shares / members of them, rounded up. It is given free ones, and those of processes whose lease
 * is over or that are known to be dead, up to that; of what it has beyond, it is told which to give up: those it
 * releases when nothing of them runs and all is saved. With another generation than the present one, and with `leave`,
 * it has none afterwards, whatever it had. */
typedef struct hark_store_shares {
    size_t size;
    /* in */
    uint64_t consumer, generation;
    const hark_store_owned *release; /* given up */
    size_t n_release;
    int64_t leave;      /* not 0: the consumer is being closed here */
    uint64_t news_done; /* news up to here are known */
    /* out; give it to hark_store_shares_clear */
    uint64_t ret_generation;
    int64_t ret_paused;
    hark_store_rerun ret_rerun;
    uint64_t ret_gap_from, ret_gap_to; /* as in hark_store_consumer */
    uint32_t ret_members;              /* processes that have it open, this one among them */
    hark_store_owned *owned;           /* what it still has of before */
    size_t n_owned;
    uint32_t *give; /* of those, what others should have */
    size_t n_give;
    hark_store_claim *claimed;
    size_t n_claimed;
    hark_store_news *news; /* of `owned`, in order of id; what is claimed has them in its rows */
    size_t n_news;
} hark_store_shares;

/* What `tail` saw. */
typedef struct hark_store_tail {
    size_t size;
    uint64_t last; /* the log's end */
    uint64_t epoch;
    int64_t shares;              /* not 0: something that `shares` tells may have changed */
    int64_t schedules;           /* likewise schedules_due */
    uint64_t lost_from, lost_to; /* history that a server lost; sequences go on above. 0 = none */
} hark_store_tail;

/* ---- versions -------------------------------------------------------------------------------- */

/* What there is of one version of one type. The string is borrowed for the call. */
typedef struct hark_store_version {
    const char *type;
    int64_t version;
    uint64_t events, dead_letters, schedules;
    /* Recorded times of the first and last one ever appended; 0 = none was. */
    int64_t first_ns, last_ns;
} hark_store_version;
typedef bool (*hark_store_version_fn)(void *ud, const hark_store_version *v);

/* What the end of a closure means for its group. SPOILT: the closure undid all of it; the bus rolls
 * back and runs the others again. AGAIN: its part cannot stay, and cannot be taken out, since it was begun
 * without `undoable`; the bus rolls back and runs all again, it too, undoable this time. */
typedef enum hark_store_fate {
    HARK_STORE_STAYS = 0,
    HARK_STORE_SPOILT = 1,
    HARK_STORE_AGAIN = 2
} hark_store_fate;

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
     * any other error from a call of a group the bus rolls it back. commit: HARK_ESTORE, HARK_EFULL =
     * nothing stored; HARK_EUNKNOWN = may be stored, the store takes no more writes; HARK_EREADONLY,
     * HARK_ECORRUPT likewise. */
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

    /* W: HARK_ENOTFOUND when consumer and generation are not there any more; HARK_ESTALE when another
     * process has had the share since. */
    hark_err (*consumer_save)(hark_store *s, const hark_store_save *save, hark_errinfo *ei);

    /* W, outside groups: housekeeping for about budget_ns; true when more is to do. May be NULL. */
    bool (*maintain)(hark_store *s, int64_t budget_ns);

    /* W: HARK_ENOTFOUND when the consumer is not there. */
    hark_err (*consumer_reset)(hark_store *s, hark_store_reset *r, hark_errinfo *ei);
    hark_err (*consumer_pause)(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei);
    /* R: in order of names. */
    hark_err (*consumers)(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei);

    /* R: in order of ids; the failed attempts of one consumer at one event, oldest first. */
    hark_err (*letters)(hark_store *s, const hark_store_letters_query *q, hark_store_letter_fn fn,
                        void *ud, hark_errinfo *ei);
    hark_err (*attempts)(hark_store *s, uint64_t consumer, uint64_t sequence,
                         hark_store_attempt_fn fn, void *ud, hark_errinfo *ei);
    /* W: turns a dead letter into an open row, HARK_ROW_RETRY with attempts, crashes and
     * interruptions 0, due at due_ns; the letter becomes HARK_LETTER_REDRIVEN, and goes with the
     * row. HARK_ENOTFOUND: no such letter or consumer; HARK_ECONFLICT: redriven already, or the
     * event is being retried; HARK_EAGAIN: the consumer was reset and comes to the event by itself,
     * or it was settled by `ack` and no save has told that yet;
     * HARK_ECORRUPT: this letter is damaged. Every dead letter of that consumer and sequence is
     * marked: one delivery answers for all. A reset makes them HARK_LETTER_DEAD again. */
    hark_err (*letter_redrive)(hark_store *s, uint64_t id, int64_t due_ns,
                               hark_store_letter_done *ret, hark_errinfo *ei);
    /* W: removes a dead letter that was not redriven, and its HARK_ROW_DEAD row if the letter is of
     * the present generation of its consumer and there is one. */
    hark_err (*letter_discard)(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                               hark_errinfo *ei);

    /* W: keeps a schedule and fills in its id. An event with this source and id that is in the log,
     * or waits in another schedule: with the same content *ret_sequence, or sch->id of that
     * schedule, with *ret_duplicate; with other content HARK_ECONFLICT (first_stands: likewise a
     * duplicate). */
    hark_err (*schedule_add)(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                             bool *ret_duplicate, hark_errinfo *ei);
    /* W: HARK_ENOTFOUND; HARK_ELOCKED: on a shared store, a transaction of another process's may be about to drop it. */
    hark_err (*schedule_drop)(hark_store *s, uint64_t id, hark_errinfo *ei);
    /* id 0: R: committed schedules with ids above `after` in order of ids. id != 0: W, inside a group
     * or between groups: this one, also when the group itself added it; no call of fn when it is not
     * there. `events` false: without them. */
    hark_err (*schedules)(hark_store *s, uint64_t id, uint64_t after, bool events,
                          hark_store_schedule_fn fn, void *ud, hark_errinfo *ei);

    /* W: inserts or replaces by id; HARK_EEXIST: on a shared store, it is under way in another process. R: in order of
     * started_ns. */
    hark_err (*replay_put)(hark_store *s, const hark_store_replay *r, hark_errinfo *ei);
    hark_err (*replays)(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei);

    /* R: how many events a query asks for (limits and direction are ignored). */
    hark_err (*count)(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei);

    /* W, in a group. NULL: retention is by the options of opening (HARK_ENOTSUP). HARK_ELOCKED: on a shared store, another
     * process is at it. */
    hark_err (*trim)(hark_store *s, hark_store_trim *t, hark_errinfo *ei);

    /* Any thread: n free slots for one consumer's workers; NULL: none are kept (no crash guard).
     * What an earlier run left in slots was merged into the ledger by open. slots_give: they are
     * free again. */
    hark_err (*slots_take)(hark_store *s, size_t n, hark_store_slot **ret, hark_errinfo *ei);
    void (*slots_give)(hark_store *s, hark_store_slot *slots, size_t n);

    /* R: every (type, version) that is stored, in order of type and version; exact as of the last
     * commit. */
    hark_err (*versions)(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei);

    /* W: settles a delivery within a group: from its commit on, it counts as settled when the
     * consumer is loaded, whatever rows and floor say. A save that puts a row for it, collected
     * before the core knew, changes nothing of that; a later one tells the same, and drops it.
     * HARK_ESTALE: consumer and generation are not there any more, or the share is somebody else's
     * (`of` is of no other use where stores are not shared). NULL where tx_begin is. */
    hark_err (*ack)(hark_store *s, uint64_t consumer, uint64_t generation, hark_store_owned of,
                    uint64_t sequence, hark_errinfo *ei);

    /* W, in a group: one transaction of the program's as a part of it. NULL: the store has none
     * (HARK_ENOTSUP). Between tx_begin and tx_end come tx_run, tx_native, append, ack, keep, kept,
     * schedule_add, schedule_drop.
     * `until` (mono ns): statements of the program's are interrupted then.
     * `undoable`: the store prepares to undo it by itself, which costs; without, it need not be able to.
     * tx_end: with `keep` its part stays in the group, HARK_OK; otherwise, or when it cannot stay
     * (statements left open, deferred foreign keys broken, the log's tables referred to), it is
     * undone. The fate tells at what price. The error tells what the closure did; HARK_OK if `keep`
     * is false and there is nothing to say. */
    hark_err (*tx_begin)(hark_store *s, int64_t until_ns, bool undoable, hark_errinfo *ei);
    hark_err (*tx_end)(hark_store *s, bool keep, hark_store_fate *ret, hark_errinfo *ei);
    /* fn NULL: rows are dropped. *ret_changes: rows changed; may be NULL. */
    hark_err (*tx_run)(hark_store *s, const char *sql, const hark_value *args, size_t n,
                       hark_row_fn fn, void *ud, int64_t *ret_changes, hark_errinfo *ei);
    void *(*tx_native)(hark_store *s);
    /* `until` and `now`: wall ns. HARK_EEXIST: one is there whose time is not over at `now`. kept:
     * *ret is malloc'ed, with a NUL behind; HARK_ENOTFOUND. */
    hark_err (*keep)(hark_store *s, const char *key, const void *data, size_t len, int64_t until,
                     int64_t now, hark_errinfo *ei);
    hark_err (*kept)(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                     hark_errinfo *ei);
    /* R: one reading statement of the program's. */
    hark_err (*query)(hark_store *s, const char *sql, const hark_value *args, size_t n,
                      hark_row_fn fn, void *ud, hark_errinfo *ei);

    /* W, live-only stores: sends messages in this order, as many as it can in one round trip, and gives
     * each its verdict. It waits at most a few seconds; what could not be sent is not kept. */
    void (*send)(hark_store *s, hark_store_message *messages, size_t n);

    /* Shared stores; NULL on others. `beat` and `shares` come from any thread, not inside groups and not two at a
     * time; they wait at most a few seconds. HARK_ESTORE: nothing is known, ask again; until *ret_until the
     * process has what it had.
     * beat: this process lives. *ret_until (mono ns): when its lease is over, counted from before it was asked.
     * *ret_ahead: the server's wall clock less this machine's, ns. After `close` it lives no longer. */
    hark_err (*beat)(hark_store *s, int64_t *ret_until, int64_t *ret_ahead, hark_errinfo *ei);
    /* HARK_ENOTFOUND: there is no such consumer any more. */
    hark_err (*shares)(hark_store *s, hark_store_shares *x, hark_errinfo *ei);
    /* A thread of its own: waits until the log has more than `after`, until there is something else to tell, until
     * tail_wake (any thread), or until the time is over; all of these are HARK_OK. */
    hark_err (*tail)(hark_store *s, uint64_t after, int64_t timeout_ns, hark_store_tail *ret,
                     hark_errinfo *ei);
    void (*tail_wake)(hark_store *s);
    /* R: schedules that are due at the server's now + ahead_ns, the earliest first, without their events, at most `most`;
     * *ret_next_ns: how long until the next one after those is due; -1 = there is none. */
    hark_err (*schedules_due)(hark_store *s, int64_t ahead_ns, size_t most,
                              hark_store_schedule_fn fn, void *ud, int64_t *ret_next_ns,
                              hark_errinfo *ei);
} hark_store_ops;

/* The share that an event belongs to, of a consumer with n of them: by its key, which all processes and versions
 * must agree on, or, when it has none, by its sequence. The first 8 bytes, little-endian, of SipHash-2-4
 * with 128-bit output (Aumasson, Bernstein, 2012) and a key of zeroes, modulo n.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API uint32_t hark_store_share_of(const char *key, uint64_t sequence, uint32_t n);

/* Frees what `shares` returned and zeroes it.
 * Ownership: takes the arrays.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_store_shares_clear(hark_store_shares *x);

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

/* Likewise its place in its subject.
 * Ownership: none.
 * Threads: the one that owns the event so far.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_event_stamp_subject(hark_event *e, int64_t version);

#ifdef __cplusplus
}
#endif
#endif
