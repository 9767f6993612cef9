/* bus_i.h: the inside of a bus, a room at a time: bus.c (life), publish.c, insist.c (publishing with
 * retries), schedule.c, writer.c, group.c, dispatch.c, live.c, consumer.c, sub.c, delivery.c, read.c,
 * lost.c, send.c (stores without a log), watch.c (timeouts), letters.c (dead letters), admin.c
 * (pause, reset), replay.c, retain.c, sweep.c, why.c, stats.c, settled.c, tx.c, tx_schedule.c, guard.c
 * (in-flight slots and crashes). Who owns what, and the order of locks, is in docs/locking.md. */
#ifndef HK_BUS_I_H
#define HK_BUS_I_H

#include "base/base.h"
#include "bus/bus.h"
#include "bus/figures_i.h"
#include "bus/member_i.h"
#include "bus/settled_i.h"
#include "bus/writer_i.h"
#include "delivery/delivery.h"
#include "event/event.h"
#include "store/store.h"

#include <hark/operate.h>
#include <hark/supervise.h>
#include <hark/tx.h>

typedef struct hk_replays hk_replays;   /* replay.c: those that run here */
typedef struct hk_retains hk_retains;   /* retain.c: the rules */
typedef struct hk_party hk_party;       /* party.c; NULL = not a shared store */
typedef struct hk_tailer hk_tailer;     /* tailer.c; likewise */
typedef struct hk_given_up hk_given_up; /* insist.c: announcements that wait for the store */

/* ---- dispatch -------------------------------------------------------------------------------- */

/* A type and who subscribes to it. All of this is the dispatching thread's. */
typedef struct hk_topic {
    uint64_t hash;
    uint64_t generation; /* of the list of subscriptions that the arrays were made from */
    hark_sub **subs;     /* references: live ones first, then consumers */
    size_t n_live, n_subs;
    hk_type_figures *figures;
    size_t len;
    char type[];
} hk_topic;

typedef struct hk_dispatch {
    hk_topic **table; /* open addressing; cap is a power of two */
    size_t cap, n;
    hk_topic *last;
    hark_sub **touched; /* to be woken at the end of the batch */
    size_t n_touched, cap_touched;
    uint64_t round;
    hk_mark unswept; /* 1 = events were shown since the writer cleared it, see sweep.c */
} hk_dispatch;

/* ---- subscriptions --------------------------------------------------------------------------- */

/* A live subscription between its ring and the log. LIVE -> BEHIND and CAUGHT_UP -> LIVE are moves
 * of the dispatcher, BEHIND -> CAUGHT_UP is the reader's. */
enum { HK_LIVE, HK_BEHIND_RING, HK_CAUGHT_UP };

enum { HK_LIVE_BATCH = 64, HK_LIVE_WARNED = 1024 };

/* A stretch that did not come; see lost.c. */
typedef struct hk_gap {
    uint64_t from, to;
    hark_gap_cause cause;
} hk_gap;

enum { HK_LOST_MAX = 16 };

/* What is special about a live subscription on a store without a log. */
typedef struct hk_lost {
    pthread_mutex_t lock; /* gaps, first, changes of n */
    hk_gap gaps[HK_LOST_MAX];
    size_t first;
    hk_mark n; /* that wait for the reader */
    bool told; /* they are handed out; else only counted */
    /* the dispatcher's */
    bool open;            /* nothing was pushed since the last one: it may grow */
    hark_gap_cause cause; /* of the last one */
} hk_lost;

typedef struct hk_live {
    /* read by both sides, or written rarely */
    hk_ring *ring;
    hk_lost *lost; /* NULL = there is a log */
    hark_overflow overflow;
    size_t high;                         /* HARK_OVERFLOW_WAIT: publishers wait above this */
    hk_bell bell;                        /* for the reader */
    bool pushing;                        /* the dispatcher's own copy of mode == LIVE */
    hk_count dropped;                    /* the dispatcher's */
    hk_count passed;                     /* the readers': versions that do not fit */
    hk_mark warned[HK_LIVE_WARNED / 64]; /* bits: types for which that was told, by their hash */
    hk_mark mode;
    hk_mark lost_from, lost_to; /* the dispatcher's to set: history that a server lost; 0 = none */
    hk_mark full;               /* 1 = counted in the bus's full_subs */
    hk_mark waits;              /* 1 = counted in the bus's wait_subs */
    pthread_mutex_t pull_lock;  /* pull style: one reader at a time */
    /* the reader's */
    _Alignas(HK_CACHELINE) hk_mark pos; /* all up to here was delivered or passed over */
    unsigned spin;                      /* how long to watch the gate before sleeping */
    bool recheck;                       /* caught up: read the log once more before the ring */
    void *batch[HK_LIVE_BATCH];
    size_t at, n;
    hark_event *page[HK_LIVE_BATCH];
    size_t page_at, page_n;
    uint64_t page_covered;
    uint64_t gap_from, gap_to; /* to be handed out before the page; 0 = none */
    hark_gap_cause gap_cause;
} hk_live;

/* A thread that runs handlers; all under the consumer's lock. */
typedef struct hk_worker {
    struct hk_worker *next;
    hk_lease lease; /* of the delivery whose handler runs */
    uint64_t generation;
    bool busy, stuck; /* stuck: that has timed out */
    bool left;        /* no longer among `threads` */
} hk_worker;

typedef struct hk_consumer {
    hk_work work; /* first: in the writer's inbox while `queued` */
    hark_sub *sub;
    pthread_mutex_t lock; /* everything below */
    hk_cores *cores;
    uint64_t id, generation;
    uint32_t shares;    /* it has in all processes; 1 on stores that are not shared */
    uint64_t news_done; /* shared stores: what others did up to here is known */
    size_t workers, in_flight;
    uint64_t gap_from, gap_to;   /* to be handed out; 0 = none */
    uint64_t told_from, told_to; /* the stretch noted last, whoever found it */
    bool reading;                /* one thread reads the log for all */
    bool queued;
    bool collected; /* a save of it is under way */
    /* more than acks of what has no row: somebody may go on when it is committed */
    bool save_wakes;
    /* the writer's, as the next four: the save under way, one for each share that has something */
    hark_store_save *saves;
    size_t n_saves;
    hark_err save_err; /* of those that the store refused at once */
    hark_delivery *committed, *committed_last;
    struct hk_consumer *next_committed;
    size_t unsaved, saving; /* settled since the last commit; of these in the save under way */
    bool stale;     /* being reset, or reset by somebody else: starts nothing, saves nothing */
    size_t running; /* deliveries out */
    size_t threads, stuck;           /* of the threads, those whose handler has timed out */
    size_t to_start;                 /* threads to take the place of those */
    struct hk_worker *workers_first; /* the threads */
    int64_t hold_ns, handler_ns;     /* -1 = never */
    hk_core_opts core_opts;          /* for the next core, after a reset */
    hark_store_rerun rerun;
    hark_store_slot *slots; /* NULL = no crash guard */
    hark_store_slot **free_slots;
    size_t n_slots, n_free_slots;
    hark_err read_err; /* of the last read; HARK_OK when it went well */
    uint64_t watched;  /* watch.c's round; under the bus's lock */
    hk_consumer_figures figures;
    hk_member member;
} hk_consumer;

/* Values of hark_sub.closed beside 0 and 1: on the list for its name only, not yet complete. */
enum { HK_SUB_OPENING = 2 };

struct hark_sub {
    hk_ref users; /* of the program */
    hk_ref holds; /* of the bus, its threads, topics, deliveries; one for all users */
    hark_bus *bus;
    hark_sub *next, **link; /* the bus's list */
    char *pattern;
    char *name; /* consumers */
    hark_handler_fn fn;
    void *ud;
    void (*free_ud)(void *ud);
    int64_t flags;
    int64_t dataversion, newer; /* as in hark_sub_opts */
    hk_mark closed;
    hk_live *live; /* either */
    hk_consumer *consumer;
    pthread_mutex_t end_lock;
    pthread_cond_t end_cond;
    bool ended;    /* no more calls, state committed */
    bool joinable; /* and its data given back, its name free */
    /* the dispatcher's */
    _Alignas(HK_CACHELINE) hk_gate gate; /* consumers: events came, or anything else changed */
    uint64_t round;                      /* last batch in which it was touched */
    /* the threads' that deliver */
    _Alignas(HK_CACHELINE) hk_count delivered;
    hk_count acked, retried, rejected, timed_out, gap_events, gaps;
};

struct hark_delivery {
    hark_event *event; /* a reference; NULL for a gap */
    hark_sub *sub;     /* a hold */
    uint64_t seq;
    int64_t attempt;
    uint64_t gap_from, gap_to;
    hark_gap_cause gap_cause; /* HARK_GAP_NONE = the log's */
    hk_lease lease;           /* consumers */
    hark_store_owned of;      /* by which right its transaction acks it; set when it is sealed */
    hark_store_slot *slot;    /* what it has of the crash guard; NULL = nothing */
    uint64_t generation;
    uint64_t ordinal;    /* of the next derived id */
    int64_t delay_ms;    /* -1 = the policy's */
    int64_t started_ns;  /* mono */
    bool settled;        /* by its transaction; its holder has not given it back yet */
    hark_delivery *next; /* of those that the group under way has settled; the writer's, */
    hark_tx *tx;         /* as is its transaction */
    char *error;
    char replay_id[40]; /* empty = not a replay */
};

/* ---- the bus --------------------------------------------------------------------------------- */

enum { HK_OPEN, HK_DRAINING, HK_CLOSED };

struct hark_bus {
    hk_ref users;
    hk_ref holds; /* one for all users, one for each subscription */
    hark_bus_opts opts;
    char *source;
    const hark_store_ops *ops;
    hark_store *store;
    hark_store_info info; /* what never changes of it */
    hk_mark durability;   /* of receipts; a server may be set to another class, or be another one */
    hk_mark epoch;        /* of cursors; it grows when a server has lost history */
    pthread_rwlock_t store_lock;      /* readers of the store against its end */
    bool store_open;                  /* under store_lock */
    hark_store_info last;             /* likewise: of a store that was closed */
    int64_t opened_wall, opened_mono; /* one moment by both clocks */
    hk_mark gate;
    hk_mark read_only;
    hk_tail tail; /* not for direct stores: they are one */
    hk_writer writer;
    hk_dispatch dispatch;
    hk_figures figures;
    hk_replays *replays; /* NULL until the first one */
    hk_retains *retains; /* likewise */
    hk_given_up *given_up;
    hk_party *party;
    hk_tailer *tailer;
    hk_mark versions;      /* a pointer, set under `lock`: what upcast.c knows; 0 = nothing */
    pthread_mutex_t admin; /* opens, redrives, resets: the store's part and the core's as one */
    hk_settled settled;
    hk_mark watching; /* 1 = watch.c has its thread */
    hk_gate watch;
    pthread_mutex_t lock; /* subscriptions, threads, drain; the pointers above */
    pthread_cond_t changed;
    hark_sub *subs;
    hk_mark subs_generation;
    size_t threads;
    bool unused;                            /* the program has dropped its last reference */
    hk_count wait_subs;                     /* subscriptions that make publishers wait */
    pthread_mutex_t turn;                   /* direct stores: see publish.c */
    hk_count full_subs;                     /* waiting subscribers whose ring is full */
    hk_gate room;                           /* opened when full_subs falls */
    _Alignas(HK_CACHELINE) hk_mark running; /* handlers that run, deliveries that are out */
};

/* bus.c */
void hk_bus_hold(hark_bus *bus);
void hk_bus_release(hark_bus *bus);
/* Starts a detached thread that counts among the bus's; `fn` ends with hk_bus_thread_end. */
hark_err hk_bus_thread(hark_bus *bus, const char *name, void *(*fn)(void *), void *arg);
void hk_bus_thread_end(hark_bus *bus);
void hk_bus_running(hark_bus *bus, int by); /* +1, -1 */
/* Reading the store without the role of the writer: between the two it stays open. HARK_ECLOSED: it
 * is closed, and there is nothing to leave. */
hark_err hk_store_enter(hark_bus *bus, hark_errinfo *ei);
void hk_store_leave(hark_bus *bus);
static inline bool hk_bus_accepts(hark_bus *bus)
{
    return hk_mark_get_strong(&bus->gate) == HK_OPEN;
}
static inline bool hk_sub_may_deliver(hark_sub *s)
{
    return !hk_mark_get(&s->closed) && hk_bus_accepts(s->bus);
}
/* Waits until then (mono), without any lock. False, and at once, when the bus comes to its end: a
 * drain opens `room` after shutting the gate. */
static inline bool hk_bus_rest(hark_bus *bus, int64_t until)
{
    for (;;) {
        unsigned seen = hk_gate_look(&bus->room);
        if (!hk_bus_accepts(bus))
            return false;
        int64_t now = hk_mono_ns();
        if (now >= until)
            return true;
        (void)hk_gate_wait(&bus->room, seen, until - now);
    }
}

/* party.c: this process's clocks; and those that a bus goes by, on a shared store with the server's wall clock. */
hk_now hk_now_get(void);
hk_now hk_bus_now(const hark_bus *bus);

/* publish.c */
enum { HK_PUB_INSIDE = 1, HK_PUB_FIRST_STANDS = 2, HK_PUB_PAST_ALL = 4 /* no bound stops it */ };
/* May this caller publish now? may_wait: for subscribers that make publishers wait. */
hark_err hk_publish_enter(hark_bus *bus, unsigned flags, bool may_wait, hark_errinfo *ei);
/* Room in the writer's queue, or a wait for it. */
hark_err hk_publish_room(hark_bus *bus, size_t n, size_t bytes, bool may_wait, hark_errinfo *ei);
/* Hands a request over and waits. Afterwards the caller frees it. */
hark_err hk_publish_wait(hark_bus *bus, hk_request *r);
/* The event of a spec as an item to append. */
hark_err hk_publish_item(hark_bus *bus, const hark_event_spec *spec, unsigned flags, unsigned refs,
                         hark_store_append *ret, hark_errinfo *ei);
void hk_publish_receipt(hark_bus *bus, const hark_store_append *a, const char *id,
                        hark_receipt *ret);
/* The event of a spec, checked against the bus's limits. hk_publish_make: and against what its type
 * is registered with; not for what was taken on before (schedules), or is the library's own. */
hark_err hk_publish_event(hark_bus *bus, const hark_event_spec *spec, unsigned refs, size_t extra,
                          hark_event **ret, hark_errinfo *ei);
hark_err hk_publish_make(hark_bus *bus, const hark_event_spec *spec, unsigned refs, size_t extra,
                         hark_event **ret, hark_errinfo *ei);
/* The library's own request, past the bounds of the queue: `fn` as in hark_publish_async. It must be
 * pushed to the writer, or put into its backlog by whoever has the role. Not for direct stores. */
hark_err hk_request_inside(hark_bus *bus, const hark_event_spec *spec, hark_published_fn fn,
                           void *ud, hk_request **ret, hark_errinfo *ei);
enum { HK_BATCH_MAX = 4096 };
hark_err hk_publish(hark_bus *bus, const hark_event_spec *spec, unsigned flags, hark_receipt *ret,
                    hark_errinfo *ei);
void hk_request_done(hark_bus *bus, hk_request *r, hark_err err);
void hk_request_ignore(hark_err err, const hark_receipt *receipt, void *ud);

/* writer.c */
hark_err hk_writer_start(hark_bus *bus); /* once; later calls do nothing */
void hk_writer_stop(hark_bus *bus);      /* commits what is there; afterwards all is refused */
void hk_writer_push(hark_bus *bus, hk_work *work);
/* Commits on the caller's own thread if nobody writes and nothing is queued: no hand-over to the
 * writer and back. False, and nothing done, when somebody else is at it. */
bool hk_writer_lead(hark_bus *bus, hk_work *work);
/* Runs a job on the writer and waits. On a shared store it may run several times: until no other process comes before its commit.
 * HARK_EAGAIN: some did, for seconds. */
hark_err hk_writer_insist(hark_bus *bus, hark_err (*run)(hark_bus *, void *, hark_errinfo *),
                          void *ud, hark_errinfo *ei);
hk_work *hk_list_shift(hk_list *l);
void hk_list_append(hk_list *l, hk_work *work);

/* group.c: one transaction of what is on the writer's lists. */
void hk_group(hark_bus *bus);

/* dispatch.c */
void hk_dispatch_free(hk_dispatch *d);
/* Takes over a reference of each event; one thread at a time, in order of sequence. */
void hk_dispatch_all(hark_bus *bus, hark_event *const *events, size_t n);

/* sub.c */
/* On no list yet; what `o` says of its kind is not looked at. NULL: no memory. */
hark_sub *hk_sub_new(hark_bus *bus, const char *pattern, hark_handler_fn fn, void *ud,
                     const hark_sub_opts *o);
void hk_sub_hold(hark_sub *s);
void hk_sub_release(hark_sub *s);
void hk_sub_ended(hark_sub *s);
/* Fills a fresh delivery (error etc. zeroed); takes over the event's reference; takes a hold. */
void hk_sub_deliver(hark_sub *s, hark_delivery *d, hark_event *e);
void hk_sub_gap(hark_sub *s, uint64_t from, uint64_t to);

/* live.c */
hark_err hk_live_open(hark_sub *s, const hark_sub_opts *o);
void hk_live_free(hark_sub *s);
void hk_live_push(hark_sub *s, hark_event *e); /* the dispatcher's; takes over a reference */
hark_err hk_live_start(hark_sub *s);
void hk_live_fall_behind(hark_sub *s); /* the dispatcher's: it must read on from the log */
/* The dispatcher's, before it falls behind: the reader is not to look for these in the log. */
void hk_live_lost(hark_sub *s, uint64_t from, uint64_t to);
void hk_live_ring(hark_sub *s); /* the dispatcher's, after pushing */
void hk_live_closed(hark_sub *s);
hark_err hk_live_next(hark_sub *s, int64_t timeout_ns, hark_delivery **ret);

/* lost.c: live subscriptions on a store without a log. */
hark_err hk_lost_check(const hark_bus *bus, const hark_sub_opts *o, hark_errinfo *ei);
hk_lost *hk_lost_new(bool told);               /* NULL: no memory */
void hk_lost_free(hk_lost *x);                 /* NULL is fine */
void hk_lost_push(hark_sub *s, hark_event *e); /* the dispatcher's; takes over a reference */
/* The dispatcher's: there was no memory for this event; is the subscription one for it? */
void hk_lost_pass(hark_sub *s, const hark_event *e);
/* The dispatcher's: tells all subscriptions to a type (NULL = any) of a gap. */
void hk_lost_tell(hark_bus *bus, const char *type, uint64_t from, uint64_t to,
                  hark_gap_cause cause);
/* The reader's: the next event. NULL: a gap is to be handed out (hk_live.gap_to), or nothing is
 * there. */
hark_event *hk_lost_take(hark_sub *s);

/* send.c: publishing on a store without a log. */
void hk_send(hark_bus *bus); /* the writer's: takes the place of hk_group */
/* HARK_ENOTSUP, with the stores that have it. `what`: a call, or what was asked for. */
hark_err hk_no_log(const hark_bus *bus, const char *what, hark_errinfo *ei);

/* watch.c: one thread a bus that fails attempts which have run out of time; started when needed. */
hark_err hk_watch_start(hark_bus *bus);
void hk_watch_poke(hark_bus *bus); /* something may run out earlier */

/* letters.c: dead letters. What is told of one in the event that announces it. */
typedef struct hk_obituary {
    const char *consumer; /* NULL = it could not be published */
    uint64_t letter;      /* id; 0 = none */
    const char *reason, *error;
    int64_t attempts, crashes, interruptions;
    const hark_event *event;
} hk_obituary;
#define HK_DEAD_LETTER_TYPE "dead_letter"
/* A request that announces it, for the writer's group; NULL: none is to be made, or no memory. */
hk_request *hk_obituary_request(hark_bus *bus, const hk_obituary *o);
/* Direct stores: publishes it. */
void hk_obituary_publish(hark_bus *bus, const hk_obituary *o);

/* admin.c */
/* Loads the registered state of a consumer, in a group of its own (give it to
 * hark_store_consumer_clear). On shared stores floor, highest, settled set and rows are those of one share. */
hark_err hk_consumer_look(hark_bus *bus, const char *name, uint32_t share, hark_store_consumer *ret,
                          hark_errinfo *ei);
/* A reset that is no replay. */
hark_err hk_consumer_skip_to(hark_bus *bus, const char *name, uint64_t seq, hark_errinfo *ei);
/* A call that blocks, from a thread that may, on a bus that is open. */
hark_err hk_may_operate(hark_bus *bus, const char *call, hark_errinfo *ei);

/* schedule.c */
hark_err hk_schedules_open(hark_bus *bus, hark_errinfo *ei); /* takes over what is stored */
void hk_schedules_close(hark_bus *bus);
/* Other processes may have made some: they are looked for soon. Any thread. */
void hk_schedules_hint(hark_bus *bus);
/* The writer's: puts what is due into the backlog; how long until the next, ns; -1 = none. */
int64_t hk_schedules_due(hark_bus *bus);
/* The writer's: the group of a schedule's request failed, it is due again. */
void hk_schedule_again(hark_bus *bus, uint64_t id);
/* It was published, or cancelled. */
void hk_schedule_done(hark_bus *bus, uint64_t id);

/* insist.c: the writer's, with the role: puts announcements of what was given up into the backlog,
 * when groups are being committed again. */
void hk_given_up_turn(hark_bus *bus);
bool hk_given_up_any(hark_bus *bus); /* something waits to be announced */
void hk_given_up_free(hark_bus *bus);

/* replay.c */
void hk_replays_stop(hark_bus *bus); /* at the drain: they end, to be gone on with later */
void hk_replays_free(hark_bus *bus);
/* The lowest sequence that a running replay has yet to read; 0 = none runs. */
uint64_t hk_replays_hold(hark_bus *bus);

/* sweep.c */
/* Dispatch's, when it is through with a batch: who was not woken by it has to look, too. */
void hk_sweep_begin(hark_bus *bus);
static inline void hk_sweep_note(hark_bus *bus)
{
    if (HK_UNLIKELY(!hk_mark_get(&bus->dispatch.unswept)))
        hk_sweep_begin(bus);
}
/* The writer's, with the role: wakes whom it is due to wake; how long until then, ns; -1 = nobody is to be. */
int64_t hk_sweep_turn(hark_bus *bus);

/* retain.c: the writer's, with the role, outside groups: a slice of what the rules ask for; true when
 * more is to do now. */
bool hk_retain_turn(hark_bus *bus);
bool hk_retains_any(hark_bus *bus); /* there are rules */
void hk_retains_free(hark_bus *bus);

/* guard.c: what a worker has in hand. hk_guard_thread: this thread gets a stack for the fault
 * handler, if one is installed; hk_guard_thread_end gives it back. */
void hk_guard_thread(void);
void hk_guard_thread_end(void);
void hk_slot_begin(hark_store_slot *slot, uint64_t consumer, uint64_t generation, uint64_t seq,
                   int64_t attempt, int64_t now_wall);
void hk_slot_end(hark_store_slot *slot);
/* The slot of the delivery whose handler runs on this thread; NULL = none. Returns the one
 * before. */
hark_store_slot *hk_guard_enter(hark_store_slot *slot);
hark_store_slot *hk_guard_in_hand(void); /* this thread's; NULL = none */
void hk_guard_leave(void);
/* The slot is given back: should it be this thread's, then its handler has settled by itself. */
void hk_guard_drop(const hark_store_slot *slot);

/* tx.c: transactions. */
/* The writer's, in a group: runs the closure, once more each time; request.err is what came of it.
 * *ret: what its end means for the group. Returns an error of the store that ends the group. */
hark_err hk_tx_run(hark_tx *tx, bool undoable, hark_store_fate *ret);
void hk_tx_done(hark_tx *tx, hark_err err);
/* tx_delivery.c: tells the program that its delivery is settled, and frees it. */
void hk_tx_tell(hark_tx *tx);

/* delivery.c */
hark_err hk_delivery_publish(hark_delivery *d, const hark_event_spec *spec, hark_receipt *ret,
                             hark_errinfo *ei);
/* Stamps what is published from a delivery; `id` is room for an id. Returns HK_PUB_ flags. */
unsigned hk_delivery_stamp(const hark_delivery *d, uint64_t ordinal, hark_event_spec *spec,
                           char id[HK_UUID_TEXT + 1]);
void hk_delivery_clear(hark_delivery *d); /* drops what it holds, not the block */

/* read.c */
uint64_t hk_bus_visible(hark_bus *bus);
/* The log's end. On a shared store that is farther on than what is shown here, perhaps, and the store is asked: it blocks. */
hark_err hk_bus_newest(hark_bus *bus, uint64_t *ret, hark_errinfo *ei);
/* A page from memory if all of it is there, else from the store. */
hark_err hk_bus_read(hark_bus *bus, const hark_store_query *q, hark_store_page *ret,
                     hark_errinfo *ei);
void hk_page_drop(hark_store_page *page); /* gives back its events */
/* The event of this sequence: a reference in *ret, NULL when the log does not have it. */
hark_err hk_bus_read_one(hark_bus *bus, uint64_t seq, hark_event **ret, hark_errinfo *ei);
/* The first event after `after` that a pattern matches: a reference in *ret, NULL when there is none
 * now. */
hark_err hk_bus_first(hark_bus *bus, const char *pattern, uint64_t after, hark_event **ret,
                      hark_errinfo *ei);
/* How many events a query finds. */
hark_err hk_bus_count(hark_bus *bus, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei);

#include "bus/consumer_i.h"

#endif
