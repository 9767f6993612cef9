/* consumers.c: the list of all consumers, how they are subscribed, and what they share. */
#include "consumers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const consumer *const all[] = {
    &inventory, &payment, &shipping, &notification, &analytics, &loyalty, &audit, &checkout,
};
enum { ALL = sizeof all / sizeof *all };

const consumer *consumer_at(size_t i)
{
    return i < ALL ? all[i] : NULL;
}

const consumer *consumer_named(const char *name)
{
    for (size_t i = 0; i < ALL; i++)
        if (strcmp(all[i]->name, name) == 0)
            return all[i];
    return NULL;
}

/* ---- subscribing ---- */

typedef struct listener {
    shop *s;
    const consumer *c;
} listener;

static hark_verdict handle(hark_delivery *d, void *ud)
{
    const listener *l = ud;
    if (chaos_strikes(l->s, l->c->name, d))
        return HARK_RETRY;
    return l->c->handle(l->s, d);
}

static hark_err start(shop *s, const consumer *c, hark_errinfo *ei)
{
    listener *l = malloc(sizeof *l);
    if (!l) {
        *ei = (hark_errinfo){HARK_ENOMEM, "no memory to subscribe a consumer"};
        return HARK_ENOMEM;
    }
    *l = (listener){s, c};
    const hark_sub_opts *opts =
        HARK_OPTS(hark_sub_opts, .consumer = c->name, .start = HARK_START_FIRST,
                  .workers = (size_t)s->o.workers, .max_attempts = c->max_attempts,
                  .retry_max_ms = 5000, .update = 1, .free_ud = free,
                  .dataversion = c->as_stored ? HARK_VERSION_STORED : HARK_VERSION_NEWEST);
    hark_err err = hark_subscribe(s->bus, c->pattern, handle, l, opts, NULL, ei);
    if (err)
        free(l);
    return err;
}

hark_err consumers_start(shop *s, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < ALL && !err; i++)
        err = start(s, all[i], ei);
    return err ? err : analytics_resume(s, ei);
}

/* ---- what handlers share ---- */

hark_verdict verdict_of(hark_err err)
{
    switch (hark_err_class(err)) {
    case HARK_CLASS_OK:
        return HARK_ACK;
    case HARK_CLASS_REFUSED: /* it would be refused again; but a bus that closes says so to all */
        return err == HARK_ECLOSED ? HARK_RETRY : HARK_REJECT;
    default:
        return HARK_RETRY;
    }
}

bool is_type(const hark_delivery *d, const char *type)
{
    return strcmp(hark_event_type(hark_delivery_event(d)), type) == 0;
}

const char *money_text(int64_t cents, const char *currency, char buf[MONEY_TEXT])
{
    snprintf(buf, MONEY_TEXT, "%" PRId64 ".%02d %s", cents / 100, (int)(cents % 100), currency);
    return buf;
}

void take_time(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (ms > 0 && nanosleep(&t, &t) != 0)
        continue;
}
