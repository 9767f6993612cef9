/* party_leave_i.h: the inside of a party: what party.c and party_leave.c share. */
#ifndef HK_PARTY_LEAVE_I_H
#define HK_PARTY_LEAVE_I_H

#include "bus/party_i.h"
#include "bus/rhythm_i.h"

struct hk_party {
    hark_bus *bus;
    pthread_t thread;
    bool running;          /* of whoever starts and stops it */
    pthread_mutex_t calls; /* beat and shares: one at a time */
    hk_gate gate;
    hk_mark stopping, pokes;
    hk_mark until;        /* mono: deliveries may start before that; see `lapsed` */
    hk_mark lapses;       /* how often the lease ran out before it was prolonged */
    hk_mark clock;        /* the server's wall clock less our monotonic one */
    pthread_mutex_t lock; /* these three */
    hk_consumer *leavers; /* over: they give up their shares, and then end. A hold each */
    hk_consumer
        *debts; /* ended without having done so; taken off under `admin` only. A hold each */
    bool ended; /* the thread looks no more */
    /* the thread's */
    hk_rhythm rhythm;
    bool well;         /* that it is, is to be told */
    hark_errinfo why;  /* the last call that failed: what it says */
    int64_t lapsed_at; /* mono: who was asked for since knows what it has */
    bool busy;         /* consumers are open */
    uint64_t round;
    int64_t leave_again, leave_fails; /* mono; in a row */
};

/* party.c */
hark_err hk_party_call(hk_party *p, hark_store_shares *x, hark_errinfo *ei);
void hk_party_beat_if_due(hk_party *p); /* the thread's */

/* party_leave.c. The thread's: does what is due, and tells when to look again. */
int64_t hk_party_see_off(hk_party *p);
bool hk_party_all_gone(hk_party *p); /* true: from now on consumers end by themselves */
/* Under `admin`: this consumer is opened again here, and so has to answer for what it had before. */
void hk_party_forgive(hk_party *p, uint64_t consumer);

#endif
