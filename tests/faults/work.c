/* See work.h. */
#include "work.h"

#include "kit.h"

#include <stdio.h>
#include <string.h>

void work_make(uint64_t n, uint64_t first, unsigned count, work *ret)
{
    uint64_t r = n * 2 + 1, h = kit_random(&r);
    size_t pad = h % 16 ? h / 16 % 100 : h / 16 % 3000;
    (void)snprintf(ret->id, sizeof ret->id, "n-%llu", (unsigned long long)n);
    (void)snprintf(ret->key, sizeof ret->key, "k%u", (unsigned)(h >> 32) % 16);
    int len =
        snprintf(ret->data, sizeof ret->data, "{\"n\":%llu,\"first\":%llu,\"count\":%u,\"pad\":\"",
                 (unsigned long long)n, (unsigned long long)first, count);
    memset(ret->data + len, 'a' + (int)(n % 26), pad);
    (void)snprintf(ret->data + (size_t)len + pad, sizeof ret->data - (size_t)len - pad, "\"}");
}

work_fate work_fate_of(uint64_t n)
{
    uint64_t r = n ^ 0xfa7e, h = kit_random(&r) % 40;
    if (h == 0)
        return WORK_REJECT;
    if (h == 1)
        return WORK_HOPELESS;
    return h < 5 ? WORK_RETRY_ONCE : WORK_ACK;
}
