/* member_i.h: the part of a consumer that party.c, party_leave.c and shares.c keep. */
#ifndef HK_MEMBER_I_H
#define HK_MEMBER_I_H

#include "base/base.h"

#include <hark/store.h>

/* What a consumer is among those of its name in other processes (party.c, shares.c). On stores that are not shared it
 * stays zero. */
enum { HK_UNHELD_MAX = 16 };
typedef struct hk_member {
    /* under the consumer's lock: shares.c's */
    uint64_t generation;                    /* of which the next ones tell */
    uint64_t leaving[HARK_SHARES_MAX / 64]; /* bits: shares that were told to leave */
    bool any_leaving, dry_told;             /* dry_told: that one may have run dry is known */
    bool paused;
    uint64_t gap_to;                        /* gaps up to here were noted as the store told them */
    hark_store_owned unheld[HK_UNHELD_MAX]; /* ours by the store, but not here */
    size_t n_unheld;
    /* under the party's lock */
    struct hk_consumer *next;
    bool leaves;
    /* the party thread's; until the consumer is active, its opener's */
    bool joined, told; /* told: that it cannot be asked for */
    uint64_t round, pokes;
    int64_t leave_by, asked, answered, again; /* mono */
    int64_t fails;                            /* in a row */
    hk_mark doubted;
} hk_member;

#endif
