/* retry.c: how long to wait before the next attempt. Full jitter: those that failed together do not
 * come back together. */
#include "delivery/delivery.h"

static uint64_t next(uint64_t *state) /* SplitMix64 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

int64_t hk_backoff(int64_t first, int64_t most, int64_t n, uint64_t *rng)
{
    if (first <= 0 || most <= 0)
        return 0;
    int64_t doublings = n > 1 ? n - 1 : 0;
    bool beyond = doublings > 62 || first > most >> doublings;
    int64_t limit = beyond ? most : first << doublings;
    return (int64_t)(next(rng) % ((uint64_t)limit + 1));
}
