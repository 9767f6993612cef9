/* hark/bus.h: one open event system: publish, subscribe, consume, read.
 *
 * Threads: a bus may be used from any thread. Handlers run on threads of the bus. A call that
 * blocks returns HARK_EWRONGTHREAD at once on a thread that must not block: an HTTP loop, the
 * log's writer (where async receipts are called back), a transaction closure.
 */
#ifndef HARK_BUS_H
#define HARK_BUS_H

#include <hark/error.h>
#include <hark/event.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hark_bus hark_bus;
typedef struct hark_sub hark_sub;
typedef struct hark_delivery hark_delivery;

/* ---- the bus -------------------------------------------------------------------------------- */

typedef struct hark_bus_opts {
    size_t size;
    const char *source;     /* `source` of events that give none; default "/hark" */
    size_t queue_events;    /* publishes waiting for the writer; default 65536 */
    size_t queue_bytes;     /* their bytes; default 64 MiB */
    size_t group_events;    /* most events in one commit; default 4096 */
    size_t max_event_bytes; /* data of one event; default 16 MiB */
    size_t tail_events;     /* newest events kept in memory; `memory:` keeps no others;
                               default 8192, rounded up to a power of two */
    size_t tail_bytes;      /* their bytes; default 64 MiB */
    int64_t min_durability; /* refuse to open a store below this class; default HARK_ANY */
    int64_t drain_ms;       /* deadline used by hark_bus_unref; default 5000 */
    int64_t flags;          /* HARK_OPEN_EXISTING */
    int64_t
        lease_ms; /* on a log that several processes share: one that has been silent for so long loses its
                               part of the consumers to the others; 500 or more, default 10000 */
} hark_bus_opts;

/* Flag: the log must be there already; HARK_ENOTFOUND, and nothing is made, when it is not. */
#define HARK_OPEN_EXISTING 1

/* Opens a bus on a store: "memory:", "sqlite:PATH" (relative, absolute, or sqlite://PATH),
 * "postgresql://[user[:password]@]host[:port]/database[?log=NAME]" (several processes may share it),
 * "redis://[user:password@]host[:port][/database][?log=NAME]" (likewise), or
 * "redis+pubsub://[user:password@]host[:port][/prefix]" (nothing is kept: live subscriptions only).
 * Ownership: *ret holds one reference.
 * Threads: any.
 * Blocks: on the store.
 * Errors: HARK_EINVAL (URL or options), HARK_ENOTFOUND (HARK_OPEN_EXISTING), HARK_ELOCKED (another
 * process writes; its pid is in the text), HARK_EEXIST (open in this process already),
 * HARK_EFORMAT, HARK_ECORRUPT, HARK_EDURABILITY, HARK_EDENIED (a server refuses the login),
 * HARK_ESYS, HARK_ESTORE (a server is not there), HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_open(const char *url, const hark_bus_opts *opts, hark_bus **ret,
                                      hark_errinfo *ei);

/* Takes another reference.
 * Ownership: returns bus; NULL stays NULL.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API hark_bus *hark_bus_ref(hark_bus *bus);

/* Drops a reference; the last one drains (opts.drain_ms), closes and frees the bus.
 * Ownership: takes the reference; NULL is fine; returns NULL.
 * Threads: any but a handler or the writer of this bus for the last one.
 * Blocks: for the last reference, until the bus's threads have ended.
 * Errors: none. */
HARK_API hark_bus *hark_bus_unref(hark_bus *bus);

/* Ends a bus in order: outside publishes and new deliveries are refused; running handlers may still
 * publish and settle; at the deadline deliveries that still run are recorded as abandoned; the log
 * is committed and closed against late calls. Calling it again is fine.
 * Ownership: the bus stays until hark_bus_unref.
 * Threads: any but a handler's (HARK_EWRONGTHREAD).
 * Blocks: at most timeout_ms (-1 = for ever) and the last commit.
 * Errors: HARK_ETIMEDOUT: the text names the deliveries that still ran; HARK_ESTORE: the last states
 * of consumers could not be committed. */
HARK_API HARK_MUST hark_err hark_drain(hark_bus *bus, int64_t timeout_ms, hark_errinfo *ei);

typedef struct hark_bus_info {
    size_t size;
    char log_id[40];         /* random, in hexadecimal */
    uint64_t epoch;          /* raised when history may have been lost or rewritten */
    uint64_t format;         /* format number of the store */
    uint64_t first_sequence; /* oldest event retained; 0 = none */
    uint64_t last_sequence;  /* newest event; 0 = none yet */
    int64_t durability;      /* hark_durability of receipts */
    int64_t read_only;       /* not 0 after a fatal error of the store */
    char store[64];          /* scheme of the store */
    int64_t transactions;    /* not 0: it has transactions (<hark/tx.h>) */
    int64_t shared;          /* not 0: other processes append to the log, too */
} hark_bus_info;

/* Facts about the bus and its log. `ret->size` must be set (zero the rest).
 * Ownership: fills *ret.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL for an unknown size. */
HARK_API HARK_MUST hark_err hark_bus_info_get(hark_bus *bus, hark_bus_info *ret);

/* A cursor: a sequence in the form used outside a process, "<logid8>.<epoch>-<seq>".
 * Ownership: fills buf.
 * Threads: any.
 * Blocks: no.
 * Errors: hark_cursor_parse: HARK_ESYNTAX; HARK_EGAP for a cursor of another log or epoch. */
#define HARK_CURSOR_TEXT 64
HARK_API void hark_cursor_format(hark_bus *bus, uint64_t seq, char buf[HARK_CURSOR_TEXT]);
HARK_API HARK_MUST hark_err hark_cursor_parse(hark_bus *bus, const char *text, uint64_t *ret_seq,
                                              hark_errinfo *ei);

/* ---- publishing ------------------------------------------------------------------------------ */

typedef struct hark_receipt {
    uint64_t sequence;  /* place in the log; 0 = there is none (redis+pubsub:) */
    int64_t durability; /* hark_durability met */
    int64_t duplicate;  /* not 0: the same source and id was there with the same content */
    char id[64];        /* the event's id, if it has up to 63 bytes; else empty */
    /* Version of its subject with this event, or with the one it repeats; 0 = it has no subject, or
     * the store keeps none. After HARK_EVERSION, where all else is 0: that the subject is at. */
    int64_t subject_version;
    uint64_t reserved[3]; /* 0 */
} hark_receipt;

/* Publishes and waits for the receipt. A repeat of the same source and id gives the first receipt's
 * sequence with `duplicate`, whatever expected_version it carries.
 * Ownership: the spec is copied; *ret is filled on success and after HARK_EVERSION (ret may be
 * NULL).
 * Threads: any that may block (see the top).
 * Blocks: until the event is committed; on a full queue until there is room.
 * Errors: HARK_EINVAL, HARK_ETOOBIG, HARK_ECONFLICT, HARK_EVERSION, HARK_ESCHEMA (its type is
 * registered and the data does not fit), HARK_ENOTSUP (expected_version on memory:, redis+pubsub:),
 * HARK_EDURABILITY, HARK_ECLOSED, HARK_EWRONGTHREAD,
 * HARK_EAGAIN (a handler's publish meeting a full waiting subscriber),
 * HARK_ENOMEM; of the store: HARK_ESTORE, HARK_EFULL, HARK_EUNKNOWN, HARK_EREADONLY, HARK_EDENIED (of
 * a server). */
HARK_API HARK_MUST hark_err hark_publish(hark_bus *bus, const hark_event_spec *spec,
                                         hark_receipt *ret);

/* Like hark_publish with detail text for a refusal.
 * Ownership: as hark_publish; ei may be NULL.
 * Threads: as hark_publish.
 * Blocks: as hark_publish.
 * Errors: as hark_publish. */
HARK_API HARK_MUST hark_err hark_publish_ei(hark_bus *bus, const hark_event_spec *spec,
                                            hark_receipt *ret, hark_errinfo *ei);

/* Called once with the outcome of an async publish. `receipt` is NULL unless err is HARK_OK or
 * HARK_EVERSION (see hark_receipt). */
typedef void (*hark_published_fn)(hark_err err, const hark_receipt *receipt, void *ud);

/* Publishes without waiting. `fn` is called once by whoever writes the log then (its writer thread, or
 * another publisher that leads a commit), must not block, and gets HARK_EWRONGTHREAD from calls that
 * would; with `memory:` it is called before this call returns. When this call itself fails, fn is not called.
 * Ownership: the spec is copied; the receipt is borrowed in the callback.
 * Threads: any.
 * Blocks: no; a full queue gives HARK_EAGAIN.
 * Errors: HARK_EAGAIN, HARK_EREADONLY, HARK_EINVAL, HARK_ETOOBIG, HARK_ESCHEMA, HARK_ENOTSUP,
 * HARK_EDURABILITY, HARK_ECLOSED, HARK_ENOMEM; HARK_EWRONGTHREAD inside a transaction's closure,
 * which may run more than once. */
HARK_API HARK_MUST hark_err hark_publish_async(hark_bus *bus, const hark_event_spec *spec,
                                               hark_published_fn fn, void *ud);

/* Publishes n events as one: all or none, with neighbouring sequences (duplicates keep theirs).
 * After HARK_EVERSION the receipt of the event that was refused has the subject's version, all
 * others are zero.
 * Ownership: the specs are copied; ret (may be NULL) has room for n receipts.
 * Threads: any that may block.
 * Blocks: until all are committed.
 * Errors: as hark_publish; the text names the element; n over 4096 is HARK_ETOOBIG. */
HARK_API HARK_MUST hark_err hark_publish_batch(hark_bus *bus, const hark_event_spec *const *specs,
                                               size_t n, hark_receipt *ret, hark_errinfo *ei);

/* How hard hark_publish_with_retry tries. */
typedef struct hark_retry_opts {
    size_t size;
    int64_t max_attempts;   /* default 10; -1 = no limit */
    int64_t first_delay_ms; /* pause after the first failure, doubling; default 100 */
    int64_t max_delay_ms;   /* longest pause; default 5000 */
    int64_t deadline_ms;    /* gives up after so long; default 30000; -1 = never */
    /* Called once when it gives up, before the call returns; not when the event was refused, or there
     * is no memory to make it. The event is borrowed; keep it with hark_event_ref. May be NULL. */
    void (*gave_up)(const hark_event *event, hark_err err, void *ud);
    void *ud;
    int64_t flags; /* HARK_RETRY_SILENT */
} hark_retry_opts;

/* Flag: no event of type dead_letter is published for an event that was given up. */
#define HARK_RETRY_SILENT 1

/* Publishes like hark_publish and repeats while the store fails (errors of class transient and
 * unknown) with backoff and full jitter, always with the same id, so that nothing is stored twice. When it
 * gives up, the event goes to opts.gave_up, and an event of type dead_letter (data: reason
 * "publish", error, attempts, event) is published as soon as the store is back; up to 1024 of
 * these wait in memory, so not beyond the end of the process.
 * Ownership: as hark_publish; opts is read during the call.
 * Threads: any that may block.
 * Blocks: at most deadline_ms and one publish.
 * Errors: as hark_publish: that of the last attempt; HARK_ECLOSED when the bus is drained meanwhile. */
HARK_API HARK_MUST hark_err hark_publish_with_retry(hark_bus *bus, const hark_event_spec *spec,
                                                    const hark_retry_opts *opts, hark_receipt *ret,
                                                    hark_errinfo *ei);

/* When a scheduled event is published: at a time, which follows the wall clock when it is set, or
 * after a delay, which does not (but what is left of it at a restart goes by the wall clock). */
typedef struct hark_when {
    int64_t at_ns;    /* ns since 1970 UTC; 0 = use after_ms */
    int64_t after_ms; /* 0 = at once */
} hark_when;
static inline hark_when hark_at(int64_t wall_ns)
{
    hark_when when;
    when.at_ns = wall_ns;
    when.after_ms = 0;
    return when;
}
static inline hark_when hark_after(int64_t ms)
{
    hark_when when;
    when.at_ns = 0;
    when.after_ms = ms;
    return when;
}

typedef uint64_t hark_schedule_id;

/* Publishes an event later. The schedule is durable where the store is; after a restart what is
 * overdue is published at once. Source and id are checked for repeats now and when it is published:
 * the same event scheduled again gives the first schedule's id, one that is in the log already is
 * HARK_EEXIST, other content HARK_ECONFLICT; what was published meanwhile is not published again.
 * Ownership: the spec is copied; *ret is filled on success (may be NULL).
 * Threads: any that may block.
 * Blocks: until the schedule is committed.
 * Errors: as hark_publish; HARK_EEXIST; HARK_EINVAL for a negative delay, a time before 1970, or an
 * expected_version. */
HARK_API HARK_MUST hark_err hark_schedule(hark_bus *bus, const hark_event_spec *spec,
                                          hark_when when, hark_schedule_id *ret, hark_errinfo *ei);

/* Cancels a schedule.
 * Ownership: none.
 * Threads: any that may block.
 * Blocks: until that is committed.
 * Errors: HARK_ENOTFOUND (published, cancelled, or never there), and the store's. */
HARK_API HARK_MUST hark_err hark_schedule_cancel(hark_bus *bus, hark_schedule_id id,
                                                 hark_errinfo *ei);

typedef struct hark_schedule_info {
    hark_schedule_id id;
    int64_t due_ns; /* wall clock */
    int64_t created_ns;
    const hark_event *event; /* its sequence is 0 */
} hark_schedule_info;

/* Lists schedules in order of their ids; `fn` returns false to stop.
 * Ownership: info and event are borrowed for the call.
 * Threads: any that may block.
 * Blocks: on the store; fn must not call the bus.
 * Errors: the store's. */
HARK_API HARK_MUST hark_err hark_schedules(hark_bus *bus,
                                           bool (*fn)(const hark_schedule_info *info, void *ud),
                                           void *ud, hark_errinfo *ei);

/* ---- subscribing ----------------------------------------------------------------------------- */

/* What a handler answers. */
typedef enum hark_verdict {
    HARK_ACK = 0,    /* done */
    HARK_RETRY = 1,  /* again after a delay */
    HARK_REJECT = 2, /* never again: a dead letter */
    HARK_LATER = 3   /* the handler keeps the delivery and gives it to hark_settle */
} hark_verdict;

/* Handles one delivery, borrowed unless HARK_LATER is returned. A handler may publish, subscribe,
 * and drop its own subscription. */
typedef hark_verdict (*hark_handler_fn)(hark_delivery *d, void *ud);

/* What a live subscription does when its ring is full. */
typedef enum hark_overflow {
    /* Read on from the log; what is not retained is a counted gap. Without a log (redis+pubsub:) the
     * newest is dropped, counted, and told as a gap. */
    HARK_OVERFLOW_LOG = 0,
    HARK_OVERFLOW_OLDEST = 1, /* drop the oldest, count it */
    HARK_OVERFLOW_NEWEST = 2, /* drop the newest, count it */
    /* Publishers wait as they enter; handlers and loops: HARK_EAGAIN. HARK_ENOTSUP where those of other
     * processes would not (redis+pubsub:). */
    HARK_OVERFLOW_WAIT = 3
} hark_overflow;

/* What becomes of an event whose version is newer than the one to be handed out. */
typedef enum hark_newer {
    HARK_NEWER_DELIVER = 0, /* it is handed out as it is stored */
    /* Consumers: it waits, and what comes behind it in its key, for a program that knows it; looked
     * at again every 30 s and at each start. */
    HARK_NEWER_WAIT = 1,
    HARK_NEWER_DEAD = 2 /* consumers: a dead letter with reason "upcast" */
} hark_newer;

/* Values of `dataversion` in options: which version of its data an event is handed out with. */
#define HARK_VERSION_NEWEST 0    /* the newest that the program knows, see <hark/versions.h> */
#define HARK_VERSION_STORED (-1) /* as it is stored; no upcaster is called */

/* Where a new consumer starts. */
typedef enum hark_start {
    HARK_START_NOW = 0,      /* after the newest event */
    HARK_START_FIRST = 1,    /* at the oldest event retained */
    HARK_START_SEQUENCE = 2, /* at start_sequence */
    HARK_START_TIME = 3      /* at the first event recorded at or after start_time_ns */
} hark_start;

/* What comes after a dead letter. */
typedef enum hark_dead_policy {
    HARK_DEAD_CONTINUE = 0, /* the rest of its key goes on */
    HARK_DEAD_PARK = 1      /* the rest of its key waits, in order, for redrive or discard */
} hark_dead_policy;

typedef struct hark_sub_opts {
    size_t size;
    const char *consumer; /* NULL = live; else a durable consumer's name, [A-Za-z0-9_.:-]{1,128} */
    /* live subscriptions */
    size_t ring;      /* events the ring holds; default 1024, rounded up to a power of two */
    int64_t overflow; /* hark_overflow */
    /* consumers */
    int64_t start;           /* hark_start; fixed by the first registration */
    uint64_t start_sequence; /* for HARK_START_SEQUENCE */
    int64_t start_time_ns;   /* for HARK_START_TIME, ns since 1970 UTC */
    size_t workers;          /* handlers at a time; default 1, which gives log order */
    size_t window;           /* events in memory: read and not settled; default 1024 */
    size_t max_deferred;    /* ledger rows: retrying, waiting behind them, parked; default 100000 */
    int64_t retry_delay_ms; /* the n-th pause is random, up to this times 2^(n-1); default 1000,
                               at least 10 */
    int64_t max_attempts;   /* dead letter after so many; default 10; -1 = never */
    int64_t update;         /* not 0: change pattern and policy of a consumer that exists */
    /* both */
    void (*free_ud)(void *ud); /* called once after the last call of the handler */
    int64_t flags;             /* HARK_SUB_GAPS */
    /* consumers */
    int64_t retry_max_ms; /* longest pause of the policy; default 300000 */
    int64_t dead_policy;  /* hark_dead_policy */
    int64_t hold_ms; /* a delivery from hark_next, or kept with HARK_LATER, that is neither settled
                             nor extended for so long has failed; default 30000; -1 = never */
    int64_t
        handler_ms; /* a handler that runs for so long has failed, its late answer is refused, and
                             another thread takes its place; default 0 = never: a running handler is
                             taken to be alive */
    int64_t max_crashes;       /* dead letter after so many crashes of the process; default 3 */
    int64_t max_interruptions; /* likewise, of kills and of neighbours' crashes; default 20 */
    /* Both: HARK_VERSION_NEWEST, HARK_VERSION_STORED, or a version; this process's choice, not part
     * of what is registered. */
    int64_t dataversion;
    /* Both: hark_newer; a live subscription passes such an event over and counts it as dropped,
     * unless it is to be delivered. */
    int64_t newer;
    /* Consumers: deliveries handed out and not settled, at most; default: as many as workers. More
     * than that is for handlers that answer HARK_LATER (hark_delivery_transact_async) and for
     * whoever pulls several; up to 4096. */
    size_t in_flight;
} hark_sub_opts;

/* Flag: deliver gaps too, see hark_delivery_gap. */
#define HARK_SUB_GAPS 1

/* Subscribes a handler to the types that a pattern matches; with a NULL handler, pull style
 * (hark_next). A live subscription sees what is published after this call returns. A consumer sees
 * every matching event after its start until it acks or rejects it; its state is durable.
 * Ownership: *ret holds one reference; ud goes to free_ud when the subscription has ended (not
 * when this call fails).
 * Threads: any.
 * Blocks: for a consumer, on the store.
 * Errors: HARK_EINVAL, HARK_EEXIST (that consumer is open in this process), HARK_ECONFLICT
 * (registered with another pattern or policy, and .update not set), HARK_ECLOSED, HARK_ENOMEM,
 * HARK_EWRONGTHREAD, HARK_ENOTSUP (redis+pubsub: has live subscriptions only), and the store's. */
HARK_API HARK_MUST hark_err hark_subscribe(hark_bus *bus, const char *pattern, hark_handler_fn fn,
                                           void *ud, const hark_sub_opts *opts, hark_sub **ret,
                                           hark_errinfo *ei);

/* Takes another reference.
 * Ownership: returns s; NULL stays NULL.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API hark_sub *hark_sub_ref(hark_sub *s);

/* Drops a reference; the last one ends the subscription like hark_sub_close. The bus holds one of
 * its own for a subscription with a handler, so that dropping yours leaves it running.
 * Ownership: takes the reference; NULL is fine; returns NULL.
 * Threads: any, handlers too.
 * Blocks: no.
 * Errors: none. */
HARK_API hark_sub *hark_sub_unref(hark_sub *s);

/* Ends a subscription: what its handler runs, or is just being handed, goes on; nothing more is
 * started. hark_sub_join tells when that is over. A consumer's state stays in the store.
 * Ownership: your reference stays yours.
 * Threads: any, its own handler too.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_sub_close(hark_sub *s);

/* Waits until a closed subscription's running handlers have returned and its state is committed.
 * Ownership: none.
 * Threads: any but its own handler (HARK_EWRONGTHREAD).
 * Blocks: at most timeout_ms (-1 = for ever).
 * Errors: HARK_ETIMEDOUT, HARK_EWRONGTHREAD, HARK_EINVAL when it was not closed. */
HARK_API HARK_MUST hark_err hark_sub_join(hark_sub *s, int64_t timeout_ms);

typedef struct hark_sub_stats {
    size_t size;
    uint64_t delivered;  /* handed to the handler or to hark_next, attempts included */
    uint64_t acked;      /* consumers */
    uint64_t retried;    /* consumers */
    uint64_t rejected;   /* consumers: dead letters written */
    uint64_t dropped;    /* live: exact count of matching events dropped by the overflow policy */
    uint64_t gap_events; /* positions passed over because the log no longer has them, or they were
                            missed */
    uint64_t gaps;       /* number of such stretches */
    uint64_t pending;    /* live: in the ring; consumers: read and not settled */
    uint64_t position;   /* consumers: the floor, all up to it is settled, though the last of it may
                             not be committed yet; live: last seen */
    uint64_t catching_up; /* live: not 0 while it reads from the log */
    uint64_t timed_out;   /* consumers: of those retried or rejected, by hold_ms or handler_ms */
} hark_sub_stats;

/* Counters of a subscription. `ret->size` must be set (zero the rest).
 * Ownership: fills *ret.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL for an unknown size. */
HARK_API HARK_MUST hark_err hark_sub_stats_get(hark_sub *s, hark_sub_stats *ret);

/* Takes the next delivery of a pull-style subscription. Upcasters are called by it: what they fail
 * at becomes a dead letter when somebody pulls.
 * Ownership: *ret is yours; give it to hark_settle.
 * Threads: any that may block; several may pull from one consumer.
 * Blocks: at most timeout_ms (0 = only to read the log when it is behind, -1 = for ever).
 * Errors: HARK_ETIMEDOUT (nothing came), HARK_ECLOSED (the subscription or bus ended),
 * HARK_EINVAL (it has a handler), HARK_EWRONGTHREAD (only when timeout_ms is not 0). */
HARK_API HARK_MUST hark_err hark_next(hark_sub *s, int64_t timeout_ms, hark_delivery **ret);

/* ---- deliveries ------------------------------------------------------------------------------ */

/* What a delivery carries. With HARK_SUB_GAPS in the subscription's flags a handler is also called
 * for each stretch of positions that the log no longer has: hark_delivery_gap tells from where to
 * where, the event is NULL, and the answer counts as an ack. Without the flag gaps are only counted.
 * Ownership: borrowed from the delivery.
 * Threads: any, while the delivery is held.
 * Blocks: no.
 * Errors: none. */
HARK_API const hark_event *hark_delivery_event(const hark_delivery *d);
HARK_API uint64_t hark_delivery_sequence(const hark_delivery *d);
HARK_API int64_t hark_delivery_attempt(const hark_delivery *d); /* from 1 */
HARK_API int64_t hark_delivery_recorded_ns(const hark_delivery *d);
HARK_API const char *hark_delivery_replay_id(const hark_delivery *d); /* NULL = not a replay */
HARK_API const char *hark_delivery_consumer(const hark_delivery *d);  /* NULL = live */
HARK_API hark_bus *hark_delivery_bus(const hark_delivery *d);
HARK_API bool hark_delivery_gap(const hark_delivery *d, uint64_t *ret_from, uint64_t *ret_to);

/* Why there is a gap. */
typedef enum hark_gap_cause {
    HARK_GAP_NONE = 0, /* it is an event */
    HARK_GAP_LOG = 1,  /* the log no longer has it, by retention or a bounded memory */
    /* Live subscriptions of redis+pubsub: */
    HARK_GAP_CONNECTION =
        2, /* the connection was lost: one position stands for all that was missed,
                                which may be nothing */
    HARK_GAP_UNREADABLE = 3, /* a message was no event */
    HARK_GAP_OVERFLOW = 4    /* the ring was full; not told with HARK_OVERFLOW_OLDEST and _NEWEST */
} hark_gap_cause;

/* Why a delivery is a gap.
 * Ownership: none.
 * Threads: any, while the delivery is held.
 * Blocks: no.
 * Errors: none. */
HARK_API hark_gap_cause hark_delivery_gap_cause(const hark_delivery *d);

/* Says why, before the handler answers HARK_RETRY or HARK_REJECT; kept with the attempt.
 * Ownership: the text is copied, up to 1 KiB.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_delivery_explain(hark_delivery *d, const char *fmt, ...) HARK_PRINTF(2, 3);

/* Sets the delay of this retry instead of the policy's.
 * Ownership: none.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: none; negative counts as 0. After a restart of the process the rest of a delay is at most an
 * hour, or the policy's, since clocks jump. */
HARK_API void hark_delivery_retry_after(hark_delivery *d, int64_t delay_ms);

/* Gives this attempt `ms` from now, instead of hold_ms or handler_ms.
 * Ownership: none.
 * Threads: whoever holds the delivery.
 * Blocks: no.
 * Errors: HARK_ESTALE: the attempt has timed out already, or the consumer was reset; stop working
 * on it. HARK_EINVAL: not positive. A live subscription ignores it. */
HARK_API HARK_MUST hark_err hark_delivery_extend(hark_delivery *d, int64_t ms);

typedef struct hark_settle_opts {
    size_t size;
    int64_t verdict;   /* hark_verdict: HARK_ACK (default), HARK_RETRY, HARK_REJECT */
    int64_t delay_ms;  /* of a retry; 0 = the policy's */
    const char *error; /* why; copied */
} hark_settle_opts;

/* Settles a delivery that came from hark_next or was kept with HARK_LATER. A live subscription
 * ignores the verdict. A delivery that is dropped unsettled at the end counts as a retry.
 * Ownership: takes *d and clears it, also on error.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL, HARK_ESTALE (timed out, reset, or another process's meanwhile), HARK_ECLOSED (the
 * event will come again). */
HARK_API HARK_MUST hark_err hark_settle(hark_delivery **d, const hark_settle_opts *opts);

/* Publishes from a delivery: correlationid and causationid are stamped, and the id, unless given,
 * is derived from log, consumer, sequence and ordinal, so that a redelivery publishes no twins.
 * Ownership: as hark_publish.
 * Threads: the handler's, or whoever holds the delivery.
 * Blocks: until the event is committed.
 * Errors: as hark_publish. */
HARK_API HARK_MUST hark_err hark_delivery_publish(hark_delivery *d, const hark_event_spec *spec,
                                                  hark_receipt *ret);

/* ---- reading the log --------------------------------------------------------------------------
 */

typedef struct hark_read_opts {
    size_t size;
    const char *type;    /* a pattern; NULL = every type but hark's own */
    const char *subject; /* exact; NULL = any */
    uint64_t after;      /* sequences above this; 0 = from the start */
    uint64_t before;     /* sequences below this; 0 = to the end */
    int64_t from_ns;     /* recorded at or after, ns since 1970 UTC; 0 = any */
    int64_t to_ns;       /* recorded before; 0 = any */
    size_t limit;        /* events a page; default 1000, at most 10000 */
    int64_t descending;  /* not 0: newest first */
    /* HARK_VERSION_NEWEST (what is newer comes as it is), HARK_VERSION_STORED, or a version. */
    int64_t dataversion;
    size_t limit_bytes; /* bytes of events a page, about; default 0 = no bound */
} hark_read_opts;

/* A page of events, opaque. */
typedef struct hark_page hark_page;

/* Reads a page of the log. With `subject`, its events come in order of its versions.
 * Ownership: *ret is yours; give it to hark_page_free.
 * Threads: any that may block.
 * Blocks: on the store, and on upcasters.
 * Errors: HARK_EINVAL, HARK_ECLOSED, HARK_EWRONGTHREAD, HARK_ECORRUPT, HARK_ESTORE, HARK_ENOMEM,
 * HARK_EUPCAST (the text names the sequence). */
HARK_API HARK_MUST hark_err hark_read(hark_bus *bus, const hark_read_opts *opts, hark_page **ret,
                                      hark_errinfo *ei);

/* What a page holds: its events; where to go on (.after, or .before when descending; 0 = that was
 * the end; a page may be empty and yet not the last); the first stretch of positions asked for that
 * the log no longer has (false when there is none).
 * Ownership: events are borrowed from the page.
 * Threads: any.
 * Blocks: no.
 * Errors: none; hark_page_event gives NULL past the end. */
HARK_API size_t hark_page_count(const hark_page *page);
HARK_API const hark_event *hark_page_event(const hark_page *page, size_t i);
HARK_API uint64_t hark_page_next(const hark_page *page);
HARK_API bool hark_page_gap(const hark_page *page, uint64_t *ret_from, uint64_t *ret_to);

/* Drops a page and its references to events.
 * Ownership: takes the page; NULL is fine.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_page_free(hark_page *page);

/* ---- reading what one has written ------------------------------------------------------------ */

typedef struct hark_settlement {
    uint64_t lag;         /* positions that the consumer has yet to settle, up to this event */
    uint64_t dead_letter; /* its id; 0 = none */
} hark_settlement;

/* Waits until a consumer has settled an event, or has passed it over because its pattern does not
 * match: then what the consumer writes shows it. *ret may be NULL. A handler that waits for its own
 * event waits in vain. Of a consumer that is open here the waiter hears at once, of another one
 * within 50 ms.
 * Ownership: fills *ret, also on HARK_ETIMEDOUT and HARK_EDEAD.
 * Threads: any that may block.
 * Blocks: at most timeout_ms (-1 = for ever).
 * Errors: HARK_ETIMEDOUT; HARK_EDEAD (the consumer made a dead letter of it that is not redriven);
 * HARK_ENOTFOUND (no such consumer), HARK_EINVAL (a sequence that is not in the log yet),
 * HARK_ENOTSUP (redis+pubsub:), HARK_ECLOSED, HARK_EWRONGTHREAD, HARK_ENOMEM, HARK_ESYS, and the
 * store's. */
HARK_API HARK_MUST hark_err hark_settled(hark_bus *bus, const char *consumer, uint64_t sequence,
                                         int64_t timeout_ms, hark_settlement *ret,
                                         hark_errinfo *ei);

/* Called once with the outcome, on a thread of the bus; must not block. `s` and `ei` are
 * borrowed. */
typedef void (*hark_settled_fn)(hark_err err, const hark_settlement *s, const hark_errinfo *ei,
                                void *ud);

/* The same without waiting. When this call itself fails, fn is not called.
 * Ownership: the name is copied.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL, HARK_ENOTSUP (redis+pubsub:), HARK_ECLOSED, HARK_ENOMEM, HARK_ESYS. On a
 * shared log a sequence that is not in it yet may be given 2 s to come before fn is told HARK_EINVAL. */
HARK_API HARK_MUST hark_err hark_settled_async(hark_bus *bus, const char *consumer,
                                               uint64_t sequence, int64_t timeout_ms,
                                               hark_settled_fn fn, void *ud, hark_errinfo *ei);

/* ---- threads of your own -----------------------------------------------------------------------
 */

/* Marks the calling thread as one that must not block, such as an event loop: blocking calls return
 * HARK_EWRONGTHREAD from then on. Returns what was set before.
 * Ownership: none.
 * Threads: the calling one.
 * Blocks: no.
 * Errors: none. */
HARK_API bool hark_thread_nonblocking(bool on);

#ifdef __cplusplus
}
#endif
#endif
