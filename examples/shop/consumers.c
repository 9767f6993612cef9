/* consumers.c: the list of all consumers, how they are subscribed, and what they share. */
#include "consumers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

enum { IN_FLIGHT = 256 }; /* events of one consumer whose transactions are under way */

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
    const hark_sub_opts *opts = HARK_OPTS(
        hark_sub_opts, .consumer = c->name, .start = HARK_START_FIRST,
        .workers = c->takes_time ? (size_t)s->o.workers : 1, .in_flight = IN_FLIGHT,
        .max_attempts = c->max_attempts, .retry_max_ms = 5000, .update = 1, .free_ud = free,
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

/* ---- jobs ---- */

void *job_new(shop *s, size_t size, void (*clear)(job *j))
{
    job *j = calloc(1, size);
    if (j)
        *j = (job){.s = s, .clear = clear};
    return j;
}

hark_verdict job_drop(job *j, hark_verdict verdict)
{
    if (j->clear)
        j->clear(j);
    free(j);
    return verdict;
}

static hark_verdict job_over(hark_delivery *d, hark_err err, const hark_errinfo *ei, void *ud)
{
    job *j = ud;
    (void)d, (void)ei;
    return job_drop(j, j->over ? j->over(j, err) : verdict_of(err));
}

hark_verdict job_do(job *j, hark_delivery *d, hark_tx_fn fn,
                    hark_verdict (*over)(job *j, hark_err err))
{
    j->over = over;
    hark_err err = hark_delivery_transact_async(&d, fn, job_over, j, SHOP_TX, NULL);
    return err ? job_drop(j, verdict_of(err)) : HARK_LATER;
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

bool row_found(const hark_row *row, void *ud)
{
    (void)row;
    *(bool *)ud = true;
    return false;
}

const char *money_text(int64_t cents, const char *currency, char buf[MONEY_TEXT])
{
    snprintf(buf, MONEY_TEXT, "%" PRId64 ".%02d %s", cents / 100, (int)(cents % 100), currency);
    return buf;
}
