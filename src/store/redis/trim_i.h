/* trim_i.h: retention on the server: trim.c walks, trim_force.c finds out who misses what is removed by force. */
#ifndef HK_STORE_REDIS_TRIM_I_H
#define HK_STORE_REDIS_TRIM_I_H

#include "store/redis/stream_i.h"

/* A consumer that may have yet to see something. */
typedef struct hk_rs_holder {
    uint64_t id;
    char *pattern;
    /* when it is forced, by share */
    hark_store_claim *shares;
    size_t n_shares;
    uint64_t first, last; /* what it misses of the slice; 0 = nothing */
} hk_rs_holder;

typedef struct hk_rs_trimming {
    hark_store *s;
    hark_store_trim *t;
    hk_rs_pass *pass;
    hk_rs_types_of types;
    uint64_t below; /* by age */
    char terms[24]; /* consumers as they were when the holders were loaded */
    hk_rs_holder *holders;
    size_t n_holders, cap_holders;
} hk_rs_trimming;

/* By number, so many more of the pattern may go, as far as is known here: the script counts itself. */
uint64_t hk_rs_excess(const hk_rs_trimming *w);

/* trim_force.c */
/* Looks at the next slice, in *ret_upto, and keeps the gaps that its removal makes. *ret_room false: t->gaps has no room
 * for them, nothing is to be removed. */
hark_err hk_rs_force_look(hk_rs_trimming *w, uint64_t *ret_upto, bool *ret_room, hark_errinfo *ei);
/* What the consumer has, in all shares. */
hark_err hk_rs_force_load(hk_rs_trimming *w, hk_rs_holder *h, hark_errinfo *ei);

#endif
