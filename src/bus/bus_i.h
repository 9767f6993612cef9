/* bus_i.h: the inside of a bus, a room at a time: bus.c (life), publish.c, writer.c, group.c,
 * dispatch.c, live.c, consumer.c, sub.c, delivery.c, read.c. Who owns what, and the order of locks,
 * is in docs/locking.md. */
#ifndef HK_BUS_I_H
#define HK_BUS_I_H

#include "base/base.h"
#include "bus/bus.h"
#include "delivery/delivery.h"
#include "event/event.h"
#include "store/store.h"

/* ---- what travels to the writer
 * ------------------------------------------------------------------ */

typedef enum hk_kind { HK_PUBLISH, HK_JOB, HK_SAVE } hk_kind;

/* A node in the writer's inbox; the first member of what it stands for. */
typedef struct hk_work {
    hk_node node;
    hk_kind kind;
} hk_work;

/* A publish on its way. A single event's lies in the event's extra room, a batch's in one block. */
typedef struct hk_request {
    hk_work work;
    size_t n, bytes;
    hark_store_append *items;
    hark_store_append one;
    hark_receipt *receipts; /* blocking: NULL, or room for n */
    hark_published_fn fn;   /* async */
    void *ud;
    hark_errinfo *ei; /* blocking: the caller's, or NULL */
    hark_err err;
    hk_gate done; /* blocking: opened at the end */
} hk_request;

/* Something else for the writer to do inside a group; the caller waits. */
typedef struct hk_job {
    hk_work work;
    hark_err (*run)(hark_bus *bus, void *ud, hark_errinfo *ei);
    void *ud;
    hark_errinfo *ei;
    hark_err err;
    hk_gate done;
} hk_job;

typedef struct hk_list {
    hk_node *first, *last;
} hk_list;

typedef struct hk_writer {
    hk_inbox inbox;
    hk_count queued_events, queued_bytes;
    hk_gate room; /* opened when the queue gets shorter */
    hk_mark stopping;
    bool running; /* under the bus's lock */
    pthread_t thread;
    pthread_mutex_t role; /* who writes: the thread, or a publisher that found nobody at it */
    /* of whoever has the role */
    unsigned led; /* groups led by publishers */
    hk_list backlog, jobs, saves;
    int64_t saves_since_ns; /* when the oldest lazy save came; 0 = none */
    int64_t retry_at_ns;    /* after a failed group: no save before this */
    hark_event **fresh;     /* events of the group, for dispatch */
    size_t n_fresh, cap_fresh;
} hk_writer;

/* ---- dispatch
 * ------------------------------------------------------------------------------------ */

/* A type and who subscribes to it. All of this is the dispatching thread's. */
typedef struct hk_topic {
    uint64_t hash;
    uint64_t generation; /* of the list of subscriptions that the arrays were made from */
    hark_sub **subs;     /* references: live ones first, then consumers */
    size_t n_live, n_subs;
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
} hk_dispatch;

/* ---- subscriptions
 * -------------------------------------------------------------------------------- */

/* A live subscription between its ring and the log. LIVE -> BEHIND and CAUGHT_UP -> LIVE are moves
 * of the dispatcher, BEHIND -> CAUGHT_UP is the reader's. */
enum { HK_LIVE, HK_BEHIND_RING, HK_CAUGHT_UP };

enum { HK_LIVE_BATCH = 64 };

typedef struct hk_live {
    /* read by both sides, or written rarely */
    hk_ring *ring;
    hark_overflow overflow;
    size_t high;      /* HARK_OVERFLOW_WAIT: publishers wait above this */
    hk_bell bell;     /* for the reader */
    bool pushing;     /* the dispatcher's own copy of mode == LIVE */
    hk_count dropped; /* the dispatcher's */
    hk_mark mode;
    hk_mark full;              /* 1 = counted in the bus's full_subs */
    hk_mark waits;             /* 1 = counted in the bus's wait_subs */
    pthread_mutex_t pull_lock; /* pull style: one reader at a time */
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
} hk_live;

typedef struct hk_consumer {
    hk_work work; /* first: in the writer's inbox while `queued` */
    hark_sub *sub;
    pthread_mutex_t lock; /* everything below */
    hk_core *core;
    uint64_t id, generation;
    size_t workers;
    uint64_t gap_from, gap_to; /* to be handed out; 0 = none */
    bool reading;              /* one thread reads the log for all */
    bool queued;
    bool collected; /* a save of it is under way */
    size_t running; /* deliveries out */
    size_t threads;
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
    hk_count acked, retried, rejected, gap_events, gaps;
};

struct hark_delivery {
    hark_event *event; /* a reference; NULL for a gap */
    hark_sub *sub;     /* a hold */
    uint64_t seq;
    int64_t attempt;
    uint64_t gap_from, gap_to;
    hk_item *item; /* consumers */
    uint64_t generation;
    uint64_t ordinal; /* of the next derived id */
    int64_t delay_ms; /* -1 = the policy's */
    char *error;
};

/* ---- the bus
 * -------------------------------------------------------------------------------------- */

enum { HK_OPEN, HK_DRAINING, HK_CLOSED };

struct hark_bus {
    hk_ref users;
    hk_ref holds; /* one for all users, one for each subscription */
    hark_bus_opts opts;
    char *source;
    const hark_store_ops *ops;
    hark_store *store;
    hark_store_info info;        /* what never changes of it */
    pthread_rwlock_t store_lock; /* readers of the store against its end */
    bool store_open;             /* under store_lock */
    hark_store_info last;        /* likewise: of a store that was closed */
    hk_mark gate;
    hk_mark read_only;
    hk_tail tail; /* not for direct stores: they are one */
    hk_writer writer;
    hk_dispatch dispatch;
    pthread_mutex_t lock; /* subscriptions, threads, drain */
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
static inline bool hk_bus_accepts(hark_bus *bus)
{
    return hk_mark_get_strong(&bus->gate) == HK_OPEN;
}

/* publish.c */
enum { HK_PUB_INSIDE = 1, HK_PUB_FIRST_STANDS = 2 };
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
/* Runs a job on the writer and waits. */
hark_err hk_writer_run(hark_bus *bus, hark_err (*run)(hark_bus *, void *, hark_errinfo *), void *ud,
                       hark_errinfo *ei);
hk_work *hk_list_shift(hk_list *l);

/* group.c: one transaction of what is on the writer's lists. */
void hk_group(hark_bus *bus);

/* dispatch.c */
void hk_dispatch_free(hk_dispatch *d);
/* Takes over a reference of each event; one thread at a time, in order of sequence. */
void hk_dispatch_all(hark_bus *bus, hark_event *const *events, size_t n);

/* sub.c */
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
void hk_live_ring(hark_sub *s);        /* the dispatcher's, after pushing */
void hk_live_closed(hark_sub *s);
hark_err hk_live_next(hark_sub *s, int64_t timeout_ns, hark_delivery **ret);

/* consumer.c */
hark_err hk_consumer_open(hark_sub *s, const hark_sub_opts *o, hark_errinfo *ei);
void hk_consumer_free(hark_sub *s);
hark_err hk_consumer_start(hark_sub *s);
void hk_consumer_closed(hark_sub *s);
hark_err hk_consumer_next(hark_sub *s, int64_t timeout_ns, hark_delivery **ret);
hark_err hk_consumer_settle(hark_delivery *d, hark_verdict verdict);
hk_dirt hk_consumer_dirt(hk_consumer *c);
bool hk_consumer_collect(hk_consumer *c, hark_store_save *save); /* the writer's */
void hk_consumer_saved(hk_consumer *c, bool ok);                 /* the writer's */

/* delivery.c */
void hk_delivery_clear(hark_delivery *d); /* drops what it holds, not the block */

/* read.c */
uint64_t hk_bus_visible(hark_bus *bus);
/* A page from memory if all of it is there, else from the store. */
hark_err hk_bus_read(hark_bus *bus, const hark_store_query *q, hark_store_page *ret,
                     hark_errinfo *ei);

#endif
