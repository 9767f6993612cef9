/* fit.c: a consumer's events in the version that it reads. What can be told from what is known
 * alone (an event is newer, or nothing leads to the version wanted) is settled under the consumer's
 * lock before the event is handed out. Upcasters are the program's code: they run outside of it, as
 * the handler does, on the record of the same attempt. The core keeps the event as it is stored. */
#include "bus/bus_i.h"
#include "bus/versions_i.h"

#include <stdio.h>

#define AGAIN_NS  (INT64_C(30) * 1000000000) /* what waits for another program */
#define MEMORY_NS INT64_C(1000000000)        /* what waits for memory */

/* ---- what is not handed out ------------------------------------------------------------------ */

static hark_err wait_for_program(hk_consumer *c, hk_lease lease, const hark_event *e, hk_now now)
{
    char text[512];
    int64_t reads = c->sub->dataversion;
    if (!reads)
        reads = hk_known_newest(hk_upcast_known(c->sub->bus, e));
    (void)snprintf(text, sizeof text,
                   "waits for a program that knows version %lld of %s (this one reads %lld)",
                   (long long)hark_event_dataversion(e), hark_event_type(e), (long long)reads);
    return hk_cores_postpone(c->cores, lease, AGAIN_NS, text, now);
}

/* Under the lock: ends the attempt as the policy says. HARK_ESTALE: it had ended. */
static hark_err refuse(hk_consumer *c, hk_lease lease, hk_fit fit, const hark_event *e,
                       const hark_errinfo *why, hk_now now)
{
    if (fit == HK_FIT_NEWER && c->sub->newer == HARK_NEWER_WAIT)
        return wait_for_program(c, lease, e, now);
    if (why->err == HARK_ENOMEM)
        return hk_cores_postpone(c->cores, lease, MEMORY_NS, why->text, now);
    hark_err err = hk_cores_bury(c->cores, lease, "upcast", why->text, now);
    hk_count_bump(&c->sub->rejected, err == HARK_OK);
    return err;
}

static bool may_go(const hark_sub *s, hk_fit fit)
{
    return fit != HK_FIT_NONE && (fit != HK_FIT_NEWER || s->newer == HARK_NEWER_DELIVER);
}

bool hk_consumer_refuse(hk_consumer *c, const hk_started *st, hk_now now)
{
    hark_sub *s = c->sub;
    hk_upcast_path path;
    hark_errinfo why = {0};
    const hark_event *e = hk_cores_payload(c->cores, st->lease);
    hk_fit fit = hk_upcast_plan(s->bus, e, s->dataversion, &path, &why);
    if (may_go(s, fit))
        return false;
    (void)refuse(c, st->lease, fit, e, &why, now);
    return true;
}

/* ---- what is --------------------------------------------------------------------------------- */

/* The delivery that was taken for the handler does not go there. `fit` HK_FIT_STEPS: because its
 * attempt has ended meanwhile. */
static void put_away(hark_delivery *d, hk_fit fit, const hark_errinfo *why)
{
    hark_sub *s = d->sub;
    hk_consumer *c = s->consumer;
    pthread_mutex_lock(&c->lock);
    bool live = !c->stale && d->generation == c->generation && fit != HK_FIT_STEPS;
    hk_consumer_give_slot(c, d);
    if (live && hk_mark_get(&s->bus->gate) == HK_CLOSED)
        hk_cores_unstart(c->cores, d->lease);
    else if (live)
        c->unsaved += refuse(c, d->lease, fit, d->event, why, hk_consumer_now(c)) == HARK_OK;
    hk_count_bump(&s->delivered, UINT64_MAX); /* one less */
    c->running--;
    hk_consumer_unlock(c);
    hk_gate_open(&s->gate);
    hk_bus_running(s->bus, -1);
}

static bool still_runs(hark_delivery *d)
{
    hk_consumer *c = d->sub->consumer;
    pthread_mutex_lock(&c->lock);
    bool runs = !c->stale && d->generation == c->generation && hk_cores_payload(c->cores, d->lease);
    pthread_mutex_unlock(&c->lock);
    return runs;
}

bool hk_consumer_brought(hark_delivery *d)
{
    hark_sub *s = d->sub;
    hark_errinfo why = {0};
    hk_fit fit = hk_upcast_event(s->bus, &d->event, s->dataversion, &why);
    if (may_go(s, fit) && (fit != HK_FIT_STEPS || still_runs(d)))
        return true;
    put_away(d, fit, &why);
    return false;
}
