/* settled_i.h: who waits until a consumer has settled an event (settled.c), and how far it is with
 * that one (settled_look.c). A part of bus_i.h. */
#ifndef HK_SETTLED_I_H
#define HK_SETTLED_I_H

#include "base/base.h"

#include <hark/bus.h>

typedef struct hk_waiter hk_waiter;

/* The waiters of a bus. */
typedef struct hk_settled {
    hk_count waiting;     /* how many; a look at it is all that a bus without any pays */
    hk_gate gate;         /* opened when something may have changed for them */
    hk_gate end;          /* by the drain */
    hk_gate ended;        /* all have been told */
    pthread_mutex_t lock; /* below */
    hk_waiter *come;      /* whom the thread has not taken over yet */
    bool running, stopping;
} hk_settled;

void hk_settled_init(hk_settled *m);
void hk_settled_free(hk_settled *m);
void hk_settled_stop(hark_bus *bus); /* all are told that it is closed; nobody comes any more */

/* After a step of a core, without its lock. A waiter counts itself in before its consumer is looked
 * at under that lock: either that look saw the step, or this one sees the waiter. */
static inline void hk_settled_poke(hk_settled *m)
{
    if (HK_UNLIKELY(hk_count_get(&m->waiting)))
        hk_gate_open(&m->gate);
}

enum { HK_SETTLED_STATE = 8 };

/* Which share of the consumer an event belongs to, on a shared store. Of one that is in the log no more, nor among the dead
 * letters, it is not known. */
typedef enum hk_placing { HK_NOT_PLACED = 0, HK_PLACED, HK_NOWHERE } hk_placing;

/* An event that somebody waits for, and what became of it. */
typedef struct hk_sought {
    const char *consumer;
    uint64_t seq;
    bool matches; /* its pattern, as far as was asked */
    hk_placing placing;
    uint32_t share; /* 0 unless it is placed */
    int64_t again;  /* when the store is to be looked at again (mono); -1 = when something moves */
    uint64_t state[HK_SETTLED_STATE]; /* of a consumer that is not open here, when looked at last */
    hark_settlement ret;
    hark_err err;
    hark_errinfo ei;
} hk_sought;

/* One after the other; `sub` is held between looks. */
typedef struct hk_settled_round {
    hark_bus *bus;
    hark_sub *sub;
} hk_settled_round;

/* False: not yet. True: see err, ret, ei. */
bool hk_settled_look(hk_settled_round *r, hk_sought *x);
void hk_settled_round_end(hk_settled_round *r);

#endif
