/* The settled set above a consumer's floor as bytes: for each range the number of unsettled
 * sequences before it (from the floor or the range before it), then its length less one, each as a
 * variable-length integer: seven bits a byte, lowest first, the high bit set on all but the last.
 */
#include "store/common/common.h"

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

static void put_range(hark_store_consumer *c, hark_store_range r)
{
    hark_store_range *last = c->ret_n_settled ? &c->ret_settled[c->ret_n_settled - 1] : NULL;
    if (r.first <= c->ret_floor + 1)
        c->ret_floor = r.last > c->ret_floor ? r.last : c->ret_floor;
    else if (last && r.first <= last->last + 1)
        last->last = r.last > last->last ? r.last : last->last;
    else
        c->ret_settled[c->ret_n_settled++] = r;
}

/* Both are in order: merged, what touches the floor raises it. */
hark_err hk_ranges_settle(hark_store_consumer *c, const uint64_t *seqs, size_t n)
{
    hark_store_range *old = c->ret_settled;
    size_t n_old = c->ret_n_settled, i = 0, j = 0;
    if (n == 0)
        return HARK_OK;
    hark_store_range *merged = malloc((n_old + n) * sizeof *merged);
    if (!merged)
        return HARK_ENOMEM;
    c->ret_settled = merged;
    c->ret_n_settled = 0;
    while (i < n_old || j < n) {
        if (j == n || (i < n_old && old[i].first <= seqs[j])) {
            put_range(c, old[i++]);
        } else {
            put_range(c, (hark_store_range){seqs[j], seqs[j]});
            j++;
        }
    }
    free(old);
    if (seqs[n - 1] > c->ret_highest)
        c->ret_highest = seqs[n - 1];
    return HARK_OK;
}
