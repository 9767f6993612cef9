/* The settled set above a consumer's floor as bytes: for each range the number of unsettled
 * sequences before it (from the floor or the range before it), then its length less one, each as a
 * variable-length integer: seven bits a byte, lowest first, the high bit set on all but the last.
 */
#include "store/sqlite/store_i.h"

#include <stdlib.h>

static void put(hk_buf *b, uint64_t n)
{
    for (; n >= 0x80; n >>= 7)
        hk_buf_addc(b, (char)(n | 0x80));
    hk_buf_addc(b, (char)n);
}

void hk_ranges_encode(uint64_t floor, const hark_store_range *ranges, size_t n, hk_buf *ret)
{
    for (size_t i = 0; i < n; i++) {
        put(ret, ranges[i].first - floor - 1);
        put(ret, ranges[i].last - ranges[i].first);
        floor = ranges[i].last;
    }
}

static bool take(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
    uint64_t n = 0;
    for (unsigned shift = 0; *p < end && shift <= 56; shift += 7) {
        uint8_t byte = *(*p)++;
        n |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            *ret = n;
            return n <= HARK_SEQ_MAX;
        }
    }
    return false;
}

static bool take_range(const uint8_t **p, const uint8_t *end, uint64_t floor, hark_store_range *ret)
{
    uint64_t gap, more;
    if (!take(p, end, &gap) || !take(p, end, &more) || floor > HARK_SEQ_MAX)
        return false;
    ret->first = floor + 1 + gap;
    ret->last = ret->first + more;
    return ret->last <= HARK_SEQ_MAX;
}

hark_err hk_ranges_decode(uint64_t floor, const uint8_t *bytes, size_t len, hark_store_range **ret,
                          size_t *ret_n)
{
    const uint8_t *p = bytes, *end = bytes + len;
    hark_store_range *ranges = malloc((len / 2 + 1) * sizeof *ranges);
    size_t n = 0;
    if (!ranges)
        return HARK_ENOMEM;
    for (; p < end; n++) {
        if (!take_range(&p, end, floor, &ranges[n])) {
            free(ranges);
            return HARK_ECORRUPT;
        }
        floor = ranges[n].last;
    }
    if (n == 0) {
        free(ranges);
        ranges = NULL;
    }
    *ret = ranges;
    *ret_n = n;
    return HARK_OK;
}

bool hk_ranges_have(const hark_store_range *ranges, size_t n, uint64_t seq)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && ranges[low].first <= seq;
}
