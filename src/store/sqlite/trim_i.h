/* trim: one call that removes events: what may go, and who is in the way. */
#ifndef HK_SQLITE_TRIM_I_H
#define HK_SQLITE_TRIM_I_H

#include "store/sqlite/store_i.h"

#define HK_TRIM_BATCH 128 /* events removed between two looks at the clock */

/* A consumer that has something of the log yet to see. */
typedef struct hk_holder {
    uint64_t id, floor;
    uint64_t row; /* its lowest open row; 0 = none */
    char *pattern;
    hark_store_range *settled; /* loaded when forced */
    size_t n_settled;
    bool matches;         /* the type in hand */
    uint64_t first, last; /* what it has yet to see of the batch in hand; 0 = nothing */
} hk_holder;

typedef struct hk_trimming {
    hark_store *s;
    hark_store_trim *t;
    hk_trim_pass *pass;
    int64_t *types; /* numbers of those that the pattern matches, ascending */
    size_t n_types;
    hk_holder *holders;
    size_t n_holders, cap_holders;
    uint64_t limit; /* sequences from here on stay, whatever the type */
    int64_t until;  /* monotonic ns */
    size_t steps;
    uint64_t lowest, highest;        /* removed; 0 = nothing yet */
    int64_t versions[HK_TRIM_BATCH]; /* of the events of the batch in hand */
} hk_trimming;

/* True when the budget is used up; never at the first step of a call, so that each gets on. */
static inline bool hk_trim_pauses(hk_trimming *w)
{
    return w->steps++ > 0 && hk_mono_ns() >= w->until;
}

/* trim_keep.c: the sequence from which on there are exactly `keep` events of the pattern, 0 when
 * there are not more than that. *ret_done false: the budget is used up, call again. */
hark_err hk_trim_keep(hk_trimming *w, uint64_t *ret, bool *ret_done, hark_errinfo *ei);
/* An event of the pattern was removed. */
void hk_trim_uncount(hk_trim_pass *pass, uint64_t seq);

/* trim_hold.c */
hark_err hk_holders_load(hk_trimming *w, hark_errinfo *ei);
void hk_holders_free(hk_trimming *w);
/* Looks which holders match a type; *ret_limit: sequences of it from there on stay. */
hark_err hk_holders_match(hk_trimming *w, int64_t type, uint64_t *ret_limit, hark_errinfo *ei);
/* Takes out of the batch, and of w->versions, what a consumer has as an open row. */
hark_err hk_holders_keep(hk_trimming *w, uint64_t *seqs, size_t *n, hark_errinfo *ei);
/* Forced: tells the caller who misses what of the batch, and drops open rows of it. *ret_room
 * false, and nothing done: the caller's array is full. */
hark_err hk_holders_miss(hk_trimming *w, const uint64_t *seqs, size_t n, bool *ret_room,
                         hark_errinfo *ei);
/* Keeps what was told so for consumers that are not there to hear it. */
hark_err hk_holders_save_gaps(hk_trimming *w, hark_errinfo *ei);

#endif
