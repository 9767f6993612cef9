/* rhythm_i.h: when a process among others says that it lives, when it asks for its shares, and what it tells people when it is not
 * heard. Pure: times (mono, ns) in, times and words out; party.c is who lives by it. */
#ifndef HK_RHYTHM_I_H
#define HK_RHYTHM_I_H

#include <stdbool.h>
#include <stdint.h>

#define HK_ASK_NS  INT64_C(1000000000) /* each consumer is asked for so often */
#define HK_HINT_NS INT64_C(20000000)   /* and on a hint, but not more often than this */

typedef struct hk_rhythm {
    int64_t until; /* when the lease is over; 0 = there was none yet */
    int64_t every; /* a third of what the last one lasted */
    int64_t beaten, again;
    int64_t fails; /* in a row */
    bool over;     /* that the lease is over was told */
    bool lapsed;   /* it was over before it was prolonged: others may have taken what was ours */
    uint64_t rng;
} hk_rhythm;

/* What to tell people, each once. */
typedef enum hk_tiding {
    HK_TIDING_NONE,
    HK_TIDING_TROUBLE,
    HK_TIDING_OVER,
    HK_TIDING_WELL
} hk_tiding;

/* A beat that was begun then was answered now, with a lease until then. Sets `lapsed`, which is the caller's to clear. */
hk_tiding hk_rhythm_beaten(hk_rhythm *r, int64_t began, int64_t now, int64_t until);
/* It was not. Of the first one whoever opens the bus is told. */
hk_tiding hk_rhythm_missed(hk_rhythm *r, int64_t now);
/* To be asked whenever hk_rhythm_due has come. */
hk_tiding hk_rhythm_look(hk_rhythm *r, int64_t now);
/* When the next beat is to be. `busy`: consumers are open. */
int64_t hk_rhythm_beat(const hk_rhythm *r, bool busy);
/* When to look again: for a beat, or at the end of the lease. */
int64_t hk_rhythm_due(const hk_rhythm *r, bool busy);

/* When a consumer that was asked for then (0 = never) is asked for next. */
int64_t hk_rhythm_ask(int64_t asked, bool hinted);
/* The pause after so many failures in a row, from 1. */
int64_t hk_rhythm_pause(hk_rhythm *r, int64_t fails);

#endif
