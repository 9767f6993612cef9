/* delivery.c: the delivery that a handler holds: what it carries, settling, publishing from it. */
#include "bus/bus_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ERROR_MAX = 1024 };

void hk_delivery_clear(hark_delivery *d)
{
    hark_event_unref(d->event);
    free(d->error);
    hark_sub *s = d->sub;
    *d = (hark_delivery){0};
    hk_sub_release(s);
}

const hark_event *hark_delivery_event(const hark_delivery *d)
{
    return d->event;
}

uint64_t hark_delivery_sequence(const hark_delivery *d)
{
    return d->seq;
}

int64_t hark_delivery_attempt(const hark_delivery *d)
{
    return d->attempt;
}

int64_t hark_delivery_recorded_ns(const hark_delivery *d)
{
    return d->event ? hark_event_recorded_ns(d->event) : 0;
}

const char *hark_delivery_replay_id(const hark_delivery *d)
{
    return d->replay_id[0] ? d->replay_id : NULL;
}

const char *hark_delivery_consumer(const hark_delivery *d)
{
    return d->sub->name;
}

hark_bus *hark_delivery_bus(const hark_delivery *d)
{
    return d->sub->bus;
}

bool hark_delivery_gap(const hark_delivery *d, uint64_t *ret_from, uint64_t *ret_to)
{
    if (!d->gap_to)
        return false;
    *ret_from = d->gap_from;
    *ret_to = d->gap_to;
    return true;
}

hark_gap_cause hark_delivery_gap_cause(const hark_delivery *d)
{
    return !d->gap_to ? HARK_GAP_NONE : d->gap_cause ? d->gap_cause : HARK_GAP_LOG;
}

void hark_delivery_explain(hark_delivery *d, const char *fmt, ...)
{
    char text[ERROR_MAX];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0)
        return;
    text[hk_utf8_valid(text, strlen(text))] = '\0'; /* a cut character, or bytes of no text */
    free(d->error);
    d->error = hk_strdup(text);
}

void hark_delivery_retry_after(hark_delivery *d, int64_t delay_ms)
{
    d->delay_ms = delay_ms < 0 ? 0 : delay_ms;
}

hark_err hark_delivery_extend(hark_delivery *d, int64_t ms)
{
    if (ms <= 0)
        return HARK_EINVAL;
    return d->sub->consumer && !d->gap_to ? hk_consumer_extend(d, ms) : HARK_OK;
}

hark_err hark_settle(hark_delivery **dp, const hark_settle_opts *opts)
{
    hark_delivery *d = *dp;
    hark_settle_opts o;
    hark_err bad = hk_opts_take(opts, &o, sizeof o, "hark_settle_opts", NULL);
    *dp = NULL;
    if (!d)
        return HARK_EINVAL;
    if (o.verdict != HARK_ACK && o.verdict != HARK_RETRY && o.verdict != HARK_REJECT)
        bad = HARK_EINVAL;
    if (o.error)
        hark_delivery_explain(d, "%s", o.error);
    if (o.delay_ms > 0)
        d->delay_ms = o.delay_ms;
    hark_err err = HARK_OK;
    if (d->sub->consumer && d->gap_to)
        hk_consumer_gap_done(d);
    else if (d->sub->consumer)
        err = hk_consumer_settle(d, bad ? HARK_RETRY : (hark_verdict)o.verdict);
    hk_delivery_clear(d);
    free(d);
    return bad ? bad : err;
}

/* An id that a redelivery will derive again. */
static void derive_id(const hark_delivery *d, uint64_t ordinal, const char *type,
                      char ret[HK_UUID_TEXT + 1])
{
    uint8_t digest[16];
    uint64_t place[2] = {d->seq, ordinal};
    hk_sip sip;
    hk_sip_init(&sip, d->sub->bus->info.log_id);
    hk_sip_add(&sip, place, sizeof place);
    hk_sip_add(&sip, d->sub->name, strlen(d->sub->name) + 1);
    /* with the type, one that failed is not taken for the next of other type */
    hk_sip_add(&sip, type, strlen(type));
    hk_sip_end(&sip, digest);
    hk_uuid8(digest, ret);
}

unsigned hk_delivery_stamp(const hark_delivery *d, uint64_t ordinal, hark_event_spec *s,
                           char id[HK_UUID_TEXT + 1])
{
    unsigned flags = HK_PUB_INSIDE;
    if (!s->id && s->type && d->sub->name && d->event) {
        derive_id(d, ordinal, s->type, id);
        s->id = id;
        flags |= HK_PUB_FIRST_STANDS;
    }
    if (d->event && !s->causationid)
        s->causationid = hark_event_id(d->event);
    if (d->event && !s->correlationid) {
        const char *given = hark_event_correlationid(d->event);
        s->correlationid = given ? given : hark_event_id(d->event);
    }
    return flags;
}

hark_err hk_delivery_publish(hark_delivery *d, const hark_event_spec *spec, hark_receipt *ret,
                             hark_errinfo *ei)
{
    hark_event_spec s;
    hark_err err = hk_opts_take(spec, &s, sizeof s, "hark_event_spec", ei);
    if (err)
        return err;
    char id[HK_UUID_TEXT + 1];
    unsigned flags = hk_delivery_stamp(d, d->ordinal, &s, id);
    hark_bus *bus = d->sub->bus;
    hk_bus_running(bus, 1); /* a drain waits for it, whoever holds the delivery */
    err = hk_publish(bus, &s, flags, ret, ei);
    hk_bus_running(bus, -1);
    if (!err && flags & HK_PUB_FIRST_STANDS)
        d->ordinal++; /* not after a failure: the repeat must get the same id */
    return err;
}

hark_err hark_delivery_publish(hark_delivery *d, const hark_event_spec *spec, hark_receipt *ret)
{
    return hk_delivery_publish(d, spec, ret, NULL);
}
