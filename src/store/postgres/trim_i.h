/* trim: one call that removes events: what may go, and who is in the way. */
#ifndef HK_PG_TRIM_I_H
#define HK_PG_TRIM_I_H

#include "store/postgres/store_i.h"

enum { HK_PG_SLICE = 500 }; /* events looked at between two looks at the clock */

/* A share of a consumer, as it was saved. */
typedef struct hk_pg_held {
    uint64_t floor;
    hark_store_range *settled;
    size_t n_settled;
} hk_pg_held;

/* A consumer that has something of the log yet to see. */
typedef struct hk_pg_holder {
    uint64_t id, floor; /* the lowest of its shares */
    char *pattern;
    uint32_t n_shares;
    hk_pg_held *shares;   /* loaded when forced */
    uint64_t first, last; /* what it has yet to see of the slice in hand; 0 = nothing */
} hk_pg_holder;

/* An event that may go, by its place, and its type. */
typedef struct hk_pg_old {
    uint64_t seq;
    const char *type, *key; /* in the slice's result */
} hk_pg_old;

typedef struct hk_pg_trimming {
    hark_store *s;
    hark_store_trim *t;
    hk_pg_pass *pass;
    hk_pg_array types;  /* that the pattern matches */
    hk_pg_array limits; /* of each: sequences from there on stay */
    bool all_types;
    uint64_t first, last; /* of the log */
    hk_pg_holder *holders;
    size_t n_holders, cap_holders;
    hk_pg_array ids;                       /* of the holders */
    uint64_t limit;                        /* sequences from here on stay, whatever the type */
    int64_t until;                         /* mono ns */
    hk_pg_array gone;                      /* of the slice: events that go */
    hk_pg_array rows_of, rows_in, rows_at; /* and open rows that go with them: consumers, shares,
                                              sequences */
} hk_pg_trimming;

/* trim_hold.c. HARK_ENOMEM, HARK_ECORRUPT: a consumer's state is damaged. */
hark_err hk_pg_holders_load(hk_pg_trimming *w, hark_errinfo *ei);
void hk_pg_holders_free(hk_pg_trimming *w);
/* From which sequence on do events of this type stay? */
uint64_t hk_pg_holders_limit(const hk_pg_trimming *w, const char *type);
/* Fills in what goes of these events. Forced: tells the caller who misses what; *ret_room false, and nothing goes: the
 * caller's array is full. */
hark_err hk_pg_holders_judge(hk_pg_trimming *w, const hk_pg_old *old, size_t n, bool *ret_room,
                             hark_errinfo *ei);
/* Keeps what was told so for consumers that are not there to hear it. */
hark_err hk_pg_holders_save_gaps(hk_pg_trimming *w, hark_errinfo *ei);

#endif
