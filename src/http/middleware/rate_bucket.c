/* Token buckets in whole nanoseconds, kept as the time at which they are full (see the header). */
#include "http/middleware/rate_bucket_i.h"

#include <string.h>

/* Nothing that is added up below can overflow. */
#define MOST_NS (INT64_C(100) * 365 * 86400 * 1000000000)

bool hk_rate_rule_make(int64_t rate, int64_t per_ms, int64_t burst, hk_rate_rule *ret)
{
    if (rate < 1 || per_ms < 1 || burst < 1 || per_ms > MOST_NS / 1000000)
        return false;
    int64_t step = per_ms * 1000000 / rate;
    if (step < 1 || burst > MOST_NS / step)
        return false;
    *ret = (hk_rate_rule){step, burst};
    return true;
}

hk_rate_verdict hk_rate_take(const hk_rate_rule *r, int64_t *full_at_ns, int64_t now_ns)
{
    int64_t lacks = *full_at_ns > now_ns ? *full_at_ns - now_ns : 0;
    int64_t most = r->step_ns * r->burst;
    if (lacks > most - r->step_ns)
        return (hk_rate_verdict){false, 0, lacks - (most - r->step_ns), lacks};
    lacks += r->step_ns;
    *full_at_ns = now_ns + lacks;
    return (hk_rate_verdict){true, (most - lacks) / r->step_ns, 0, lacks};
}

hk_rate_slot *hk_rate_find(hk_rate_slot *set, const uint64_t id[2], int64_t now_ns)
{
    hk_rate_slot *least = set;
    for (size_t i = 0; i < HK_RATE_WAYS; i++) {
        if (set[i].id[0] == id[0] && set[i].id[1] == id[1])
            return &set[i];
        if (set[i].full_at_ns < least->full_at_ns)
            least = &set[i];
    }
    *least = (hk_rate_slot){{id[0], id[1]}, now_ns};
    return least;
}

size_t hk_rate_peer(const struct sockaddr_in6 *peer, uint8_t ret[HK_RATE_PEER])
{
    const uint8_t *ip6 = peer->sin6_addr.s6_addr;
    if (peer->sin6_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&peer->sin6_addr)) {
        ret[0] = 6;
        memcpy(ret + 1, ip6, 8);
        return 9;
    }
    ret[0] = peer->sin6_family == AF_INET || peer->sin6_family == AF_INET6 ? 4 : 0;
    if (peer->sin6_family == AF_INET6) {
        memcpy(ret + 1, ip6 + 12, 4);
    } else {
        struct sockaddr_in in4;
        memcpy(&in4, peer, sizeof in4);
        memcpy(ret + 1, &in4.sin_addr, 4);
    }
    return ret[0] ? 5 : 1;
}
