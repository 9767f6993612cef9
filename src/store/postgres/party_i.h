/* party_i.h: this process among others that have the log open, and whose part of a consumer is what. A row of `processes` is
 * a process, as long as its lease runs by the server's clock; rows of `members` tell which consumers it has open; a row
 * of `shares` tells whose that part of a consumer is (`owner`, a process; NULL = nobody's), and what state its last owner left.
 * `token` grows when the owner changes, and when the consumer is reset: whoever saves or acks must know it.
 *
 * Locks on rows, always in this order: a consumer; its shares, by number; deliveries; letters. `shares` takes the consumer's (so
 * that one process at a time divides it) and of the shares it claims only those that nobody has locked: a
 * group that saves keeps its shares locked until it ends, and is not waited for. */
#ifndef HK_PG_PARTY_I_H
#define HK_PG_PARTY_I_H

#include "store/postgres/conn_i.h"

#include <hark/store.h>

#define HK_PG_SHARES   32 /* of a consumer that is new */
#define HK_PG_LEASE_MS 10000
#define HK_PG_PARTY_MS 4000 /* `beat` and `shares` wait so long for an answer */

/* A share as `shares` last told that it is ours. When an answer does not reach the caller, what it would have told is not
 * here: what is ours by the table and not by this list is claimed anew, with another token. */
typedef struct hk_pg_known {
    uint64_t consumer, token;
    uint32_t share;
    bool taken; /* and the caller has asked again since: it has what it was told */
} hk_pg_known;

typedef struct hk_pg_party {
    hk_pg c; /* for beat and shares, which come one at a time */
    int64_t lease_ns;
    int64_t swept_at;   /* mono ns: when processes that are long gone were last removed */
    hk_pg_known *known; /* guarded by the store's lock */
    size_t n_known, cap_known;
} hk_pg_party;

/* Saves that wait to be judged. ledger.c */
typedef struct hk_pg_saves {
    hark_store_save *list;
    size_t n, cap;
    bool tell; /* the group changes what others are to hear of: hint_shares when it is committed */
} hk_pg_saves;

/* beat.c */
/* A row of `processes` for this one, on any connection outside of a transaction: at the opening, and when the
 * row is gone. */
hark_err hk_pg_register(hark_store *s, hk_pg *c, hark_errinfo *ei);
/* At the closing: its shares are nobody's, its row goes. */
void hk_pg_unregister(hark_store *s);
void hk_pg_party_init(hark_store *s, int64_t lease_ms); /* 0 = HK_PG_LEASE_MS */
void hk_pg_party_free(hark_store *s);
hark_err hk_pg_beat(hark_store *s, int64_t *ret_until, int64_t *ret_ahead, hark_errinfo *ei);
/* The connection for beat and shares, connected. */
hark_err hk_pg_party_connect(hark_store *s, hark_errinfo *ei);

/* shares.c */
hark_err hk_pg_shares(hark_store *s, hark_store_shares *x, hark_errinfo *ei);

/* known.c. taken: the caller has asked again since it was told, and so has it. Any thread. */
bool hk_pg_is_known(hark_store *s, uint64_t consumer, uint32_t share, uint64_t token, bool taken);
bool hk_pg_known_taken(hark_store *s, uint64_t consumer, uint32_t share, uint64_t token);
void hk_pg_known_forget(hark_store *s, uint64_t consumer);
void hk_pg_know_asked(hark_store *s, const hark_store_shares *x);
void hk_pg_know_answer(hark_store *s, const hark_store_shares *x);

/* claim.c: in the transaction of `shares`: takes these of the consumer, those that can be locked, and loads them into x->claimed. */
hark_err hk_pg_claim(hark_store *s, hark_store_shares *x, const uint32_t *shares, size_t n,
                     hark_errinfo *ei);

#endif
