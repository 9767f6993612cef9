/* rate.c: events a second, from counts of whole seconds. One thread at a time adds, with plain
 * stores; any thread reads meanwhile. There are more places than are read, so that the place of a
 * second that is being read is not turned to another one under the reader. */
#include "base/base.h"

enum { READ = 10 };

void hk_rate_turn(hk_rate *r, uint64_t second)
{
    size_t place = second % HK_RATE_SECONDS;
    hk_count_set(&r->n[place], 0);
    hk_count_set(&r->second[place], second);
}

double hk_rate_read(hk_rate *r, int64_t now_ns)
{
    uint64_t now = hk_rate_second(now_ns), sum = 0;
    for (uint64_t s = now > READ ? now - READ : 0; s < now; s++)
        if (hk_count_get(&r->second[s % HK_RATE_SECONDS]) == s)
            sum += hk_count_get(&r->n[s % HK_RATE_SECONDS]);
    return (double)sum / READ;
}
