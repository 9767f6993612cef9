/* provider.c: the payment provider, simulated: slow, declining some cards, leaving some charges
 * without an answer at first, as the options say. What it answers depends on the order alone, so that
 * a charge that is repeated after a crash is no second one. It keeps no books. */
#include "consumers.h"

#include <inttypes.h>
#include <stdio.h>

/* FNV-1a, then mixed: 64 bits that look random and are the same each time. */
static uint64_t digest(const char *text, const char *salt)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *salt; salt++)
        h = (h ^ (unsigned char)*salt) * UINT64_C(1099511628211);
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(1099511628211);
    h = (h ^ (h >> 31)) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ (h >> 29);
}

static bool drawn(const char *order_id, const char *salt, double rate)
{
    return (double)(digest(order_id, salt) >> 11) / 9007199254740992.0 < rate; /* 2^53 */
}

charge provider_charge(shop *s, const char *order_id, int64_t attempt, char reference[40])
{
    if (!take_time(s, s->o.payment_delay_ms))
        return INTERRUPTED;
    int64_t silent = 1 + (int64_t)(digest(order_id, "silent") % 2); /* attempts: one or two */
    if (attempt <= silent && drawn(order_id, "timeout", s->o.payment_timeout_rate))
        return NO_ANSWER;
    if (drawn(order_id, "decline", s->o.payment_fail_rate))
        return DECLINED;
    snprintf(reference, 40, "ch-%016" PRIx64, digest(order_id, "reference"));
    return CHARGED;
}

bool provider_refund(shop *s, const char *reference)
{
    if (!take_time(s, s->o.payment_delay_ms))
        return false;
    story(s, "provider: %s is paid back", reference);
    return true;
}
