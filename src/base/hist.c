/* hist.c: a histogram of durations with a bounded error: below 16 ns one bucket for each value, above
 * that 16 buckets to each power of two, so that a bucket's upper bound is at most 1/16 above what it
 * holds. One thread at a time adds, with plain stores; any thread reads meanwhile and may miss the
 * newest, no more. */
#include "base/base.h"

#include <string.h>

enum { STEPS = 16, STEP_BITS = 4, LAST = HK_HIST_BUCKETS - 1 };

static size_t bucket_of(uint64_t v)
{
    if (v < STEPS)
        return (size_t)v;
    unsigned shift = 63 - (unsigned)__builtin_clzll(v) - STEP_BITS;
    size_t i = (size_t)(shift + 1) * STEPS + (size_t)((v >> shift) & (STEPS - 1));
    return i < LAST ? i : LAST; /* the last one holds all that is longer too */
}

/* The first value of a bucket; of the one past the end: what no longer has a bucket of its own. */
static uint64_t lower_bound(size_t i)
{
    if (i < STEPS)
        return i;
    return (uint64_t)(STEPS + i % STEPS) << (i / STEPS - 1);
}

void hk_hist_add(hk_hist *h, int64_t ns)
{
    uint64_t v = ns > 0 ? (uint64_t)ns : 0, sum = hk_count_get(&h->sum);
    hk_count_bump(&h->n[bucket_of(v)], 1);
    hk_count_bump(&h->sum, v <= UINT64_MAX - sum ? v : UINT64_MAX - sum);
    uint64_t max = hk_count_get(&h->max);
    if (v > max)
        hk_count_bump(&h->max, v - max);
}

/* The upper bound of the bucket that holds the value of this rank, from 1. */
static int64_t of_rank(const uint64_t *n, uint64_t rank, uint64_t max)
{
    size_t i = 0;
    for (uint64_t seen = n[0]; seen < rank && i < LAST; seen += n[i])
        i++;
    uint64_t upper = lower_bound(i + 1) - 1;
    if (max >= lower_bound(i) && (max < upper || i == LAST))
        upper = max;
    return (int64_t)upper;
}

/* The rank of the value that `thousandths` of all do not exceed. */
static uint64_t rank_of(uint64_t count, uint64_t thousandths)
{
    uint64_t whole = count / 1000 * thousandths, rest = count % 1000 * thousandths;
    return whole + (rest + 999) / 1000;
}

/* After centuries of durations the sum no longer fits; then the buckets' bounds tell. */
static int64_t mean_of(const uint64_t *n, uint64_t count, uint64_t sum, uint64_t max)
{
    if (sum < UINT64_MAX)
        return (int64_t)(sum / count);
    double total = 0;
    for (size_t i = 0; i < HK_HIST_BUCKETS; i++)
        total += (double)n[i] * (double)(i < LAST ? lower_bound(i) : max);
    double mean = total / (double)count;
    return mean < (double)max ? (int64_t)mean : (int64_t)max;
}

void hk_hist_read(hk_hist *h, hk_quantiles *ret)
{
    uint64_t n[HK_HIST_BUCKETS], count = 0;
    for (size_t i = 0; i < HK_HIST_BUCKETS; i++)
        count += n[i] = hk_count_get(&h->n[i]);
    memset(ret, 0, sizeof *ret);
    if (!count)
        return;
    uint64_t max = hk_count_get(&h->max);
    *ret = (hk_quantiles){.count = count,
                          .p50 = of_rank(n, rank_of(count, 500), max),
                          .p90 = of_rank(n, rank_of(count, 900), max),
                          .p99 = of_rank(n, rank_of(count, 990), max),
                          .p999 = of_rank(n, rank_of(count, 999), max),
                          .max = (int64_t)max,
                          .mean = mean_of(n, count, hk_count_get(&h->sum), max)};
}
