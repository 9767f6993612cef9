/* The decisions of rate_limit, without a lock, a clock or a request.
 *
 * A bucket is one number: when it will be full again. One that is full says nothing, so it can be
 * forgotten; and the further it is from full, the more its client has asked. Time is any clock that
 * only goes forward, in nanoseconds above 0. */
#ifndef HK_RATE_BUCKET_I_H
#define HK_RATE_BUCKET_I_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct hk_rate_rule {
    int64_t step_ns; /* in which a bucket gains one */
    int64_t burst;   /* what a full one holds */
} hk_rate_rule;

/* `rate` in `per_ms` and `burst` at once; false when that is beyond what is counted. */
bool hk_rate_rule_make(int64_t rate, int64_t per_ms, int64_t burst, hk_rate_rule *ret);

typedef struct hk_rate_verdict {
    bool allowed;
    int64_t left;    /* further requests at once */
    int64_t wait_ns; /* of one refused: until one is allowed */
    int64_t full_ns; /* until the bucket is full */
} hk_rate_verdict;

hk_rate_verdict hk_rate_take(const hk_rate_rule *r, int64_t *full_at_ns, int64_t now_ns);

/* ---- the clients' buckets ---- */

enum { HK_RATE_WAYS = 8 };

typedef struct hk_rate_slot { /* all zero: empty, which is full */
    uint64_t id[2];
    int64_t full_at_ns;
} hk_rate_slot;

/* The client's slot among the HK_RATE_WAYS where it may be. A client that is not there takes the
 * slot that is full, or nearest to it: to make one forgotten that has asked much, all the others of
 * its set must have asked more. */
hk_rate_slot *hk_rate_find(hk_rate_slot *set, const uint64_t id[2], int64_t now_ns);

/* What stands for a peer: IPv4 and mapped addresses whole, the /64 of IPv6 (a host has all of it);
 * returns the length. */
enum { HK_RATE_PEER = 9 };
size_t hk_rate_peer(const struct sockaddr_in6 *peer, uint8_t ret[HK_RATE_PEER]);

#endif
