/* writer_i.h: the writer's lists and what travels to it (writer.c, group.c). */
#ifndef HK_WRITER_I_H
#define HK_WRITER_I_H

#include "base/base.h"
#include "bus/bus.h"
#include "delivery/delivery.h"
#include "store/store.h"

#include <hark/tx.h>

/* ---- what travels to the writer -------------------------------------------------------------- */

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
    int64_t made_ns; /* wall clock */
    hark_store_append *items;
    hark_store_append one;
    hark_receipt *receipts; /* blocking: NULL, or room for n */
    hark_published_fn fn;   /* async */
    void *ud;
    hark_errinfo *ei; /* blocking: the caller's, or NULL */
    hark_err err;
    hk_gate done;      /* blocking: opened at the end */
    uint64_t schedule; /* not 0: it is this schedule's, which goes in the same group */
    size_t queued;     /* what it counts in the queue */
    hark_tx *tx;       /* not NULL: a closure, whose events are made when it runs */
    bool spoilt;       /* its closure undid a whole group: it does not run again */
    bool announces;    /* a dead letter of a save in its group: without that it is not to be */
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

/* Groups that are not committed: told when it begins and when it is over (group.c). */
typedef struct hk_failing {
    hark_err err;     /* that it failed with last; HARK_OK = it goes well */
    int64_t since;    /* mono */
    uint64_t refused; /* publishes and transactions */
} hk_failing;

typedef struct hk_writer {
    hk_inbox inbox;
    hk_count queued_events, queued_bytes;
    hk_gate room; /* opened when the queue gets shorter */
    hk_mark stopping;
    bool running; /* under the bus's lock */
    pthread_t thread;
    pthread_mutex_t role; /* who writes: the thread, or a publisher that found nobody at it */
    /* of whoever has the role */
    unsigned led;                  /* groups led by publishers */
    unsigned careful;              /* groups to come in which closures are undoable one by one */
    int64_t group_ns;              /* what the last group took */
    struct hk_consumer *committed; /* of which deliveries were settled by the group under way */
    hk_list backlog, jobs, saves;
    int64_t saves_since_ns; /* when the oldest lazy save came; 0 = none */
    int64_t retry_at_ns;    /* after a failed group: no save before this */
    hk_failing failing;
    int64_t sweep_at, sweep_by; /* mono; 0 = none is due; it is not put off for longer */
    bool ending;                /* the thread has seen `stopping` */
    size_t unsaved;             /* consumers whose last state did not come to be committed */
    hark_event **fresh;         /* events of the group, for dispatch */
    size_t n_fresh, cap_fresh;
    /* shared stores: when schedules of others are looked for next, and when they were (mono) */
    int64_t sched_look, sched_looked;
    hk_mark sched_hint;     /* 1 = there may be new ones */
    hk_mark last_failed_ns; /* wall time of the last failed group; 0 = the last one was committed */
    hk_mark last_error;     /* the hark_err that it failed with; 0 = not known */
    /* schedule.c; under its lock */
    pthread_mutex_t sched_lock;
    hk_sched *sched;
} hk_writer;

#endif
