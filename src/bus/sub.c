/* sub.c: what live subscriptions and consumers share: subscribing, references, their end. */
#include "bus/party_i.h"
#include "bus/versions_i.h"

#include <stdlib.h>
#include <string.h>

static hark_err refuse(hark_errinfo *ei, const char *field, int64_t value, const char *allowed)
{
    return hk_fail(ei, HARK_EINVAL, "hark_sub_opts.%s is %lld; %s", field, (long long)value,
                   allowed);
}

static hark_err check(const char *pattern, const hark_sub_opts *o, hark_errinfo *ei)
{
    hark_err err = hark_pattern_check(pattern, ei);
    if (err)
        return err;
    if (o->flags & ~(int64_t)HARK_SUB_GAPS)
        return refuse(ei, "flags", o->flags, "only HARK_SUB_GAPS is known");
    if (o->overflow < HARK_OVERFLOW_LOG || o->overflow > HARK_OVERFLOW_WAIT)
        return refuse(ei, "overflow", o->overflow, "see hark_overflow");
    if (o->start < HARK_START_NOW || o->start > HARK_START_TIME)
        return refuse(ei, "start", o->start, "see hark_start");
    if (o->ring > (size_t)1 << 24)
        return refuse(ei, "ring", (int64_t)o->ring, "at most 2^24");
    if (o->workers > 1024)
        return refuse(ei, "workers", (int64_t)o->workers, "at most 1024");
    if (o->in_flight > 4096)
        return refuse(ei, "in_flight", (int64_t)o->in_flight, "at most 4096");
    if (o->in_flight && o->in_flight < o->workers)
        return refuse(ei, "in_flight", (int64_t)o->in_flight, "at least as many as workers");
    if (o->window > (size_t)1 << 20)
        return refuse(ei, "window", (int64_t)o->window, "at most 2^20");
    if (o->retry_delay_ms < 0 || (o->retry_delay_ms && o->retry_delay_ms < 10))
        return refuse(ei, "retry_delay_ms", o->retry_delay_ms, "at least 10");
    if (o->retry_max_ms < 0)
        return refuse(ei, "retry_max_ms", o->retry_max_ms, "1 or more");
    if (o->retry_max_ms && o->retry_delay_ms > o->retry_max_ms)
        return refuse(ei, "retry_delay_ms", o->retry_delay_ms, "at most retry_max_ms");
    if (o->max_attempts < -1)
        return refuse(ei, "max_attempts", o->max_attempts, "1 or more, or -1 for no limit");
    if (o->max_crashes < 0)
        return refuse(ei, "max_crashes", o->max_crashes, "1 or more");
    if (o->max_interruptions < 0)
        return refuse(ei, "max_interruptions", o->max_interruptions, "1 or more");
    if (o->dead_policy < HARK_DEAD_CONTINUE || o->dead_policy > HARK_DEAD_PARK)
        return refuse(ei, "dead_policy", o->dead_policy, "see hark_dead_policy");
    if (o->hold_ms < -1)
        return refuse(ei, "hold_ms", o->hold_ms, "1 or more, or -1 for no limit");
    if (o->handler_ms < -1)
        return refuse(ei, "handler_ms", o->handler_ms, "1 or more, or 0 for no limit");
    if (o->newer < HARK_NEWER_DELIVER || o->newer > HARK_NEWER_DEAD)
        return refuse(ei, "newer", o->newer, "see hark_newer");
    if (o->consumer && !hk_name_valid(o->consumer, 128))
        return hk_fail(ei, HARK_EINVAL,
                       "consumer name '%.140s': 1 to 128 of letters, digits, '_', '.', ':', '-'",
                       o->consumer);
    return hk_upcast_opt_check("hark_sub_opts", o->dataversion, ei);
}

static void sub_free(hark_sub *s)
{
    if (s->live)
        hk_live_free(s);
    if (s->consumer)
        hk_consumer_free(s);
    pthread_mutex_destroy(&s->end_lock);
    pthread_cond_destroy(&s->end_cond);
    free(s->pattern);
    free(s->name);
    hark_bus *bus = s->bus;
    free(s);
    hk_bus_release(bus);
}

hark_sub *hk_sub_new(hark_bus *bus, const char *pattern, hark_handler_fn fn, void *ud,
                     const hark_sub_opts *o)
{
    hark_sub *s = hk_zalloc_lines(sizeof *s);
    char *copy = hk_strdup(pattern);
    if (!s || !copy) {
        free(s);
        free(copy);
        return NULL;
    }
    hk_ref_init(&s->users, fn ? 2 : 1); /* the bus is a user of one with a handler */
    hk_ref_init(&s->holds, 1);
    s->bus = bus;
    s->pattern = copy;
    s->fn = fn;
    s->ud = ud;
    s->free_ud = o->free_ud;
    s->flags = o->flags;
    s->dataversion = o->dataversion;
    s->newer = o->newer;
    hk_gate_init(&s->gate);
    pthread_mutex_init(&s->end_lock, NULL);
    hk_cond_init(&s->end_cond);
    hk_bus_hold(bus);
    return s;
}

/* Puts a subscription on the list, so that its name is taken; dispatch does not see it while it is
 * `closed`. */
static hark_err list_add(hark_sub *s, const char *consumer, hark_errinfo *ei)
{
    hark_bus *bus = s->bus;
    hark_err err = HARK_OK;
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *other = bus->subs; consumer && other && !err; other = other->next)
        if (other->name && strcmp(other->name, consumer) == 0)
            err =
                hk_fail(ei, HARK_EEXIST, "consumer '%s' is open in this process already", consumer);
    if (!err) {
        hk_sub_hold(s);
        s->next = bus->subs;
        s->link = &bus->subs;
        if (bus->subs)
            bus->subs->link = &s->next;
        bus->subs = s;
    }
    pthread_mutex_unlock(&bus->lock);
    return err;
}

static void list_remove(hark_sub *s)
{
    hark_bus *bus = s->bus;
    pthread_mutex_lock(&bus->lock);
    bool was_on = s->link != NULL;
    if (was_on) {
        *s->link = s->next;
        if (s->next)
            s->next->link = s->link;
        s->link = NULL;
    }
    hk_mark_set(&bus->subs_generation, hk_mark_get(&bus->subs_generation) + 1);
    pthread_cond_broadcast(&bus->changed);
    pthread_mutex_unlock(&bus->lock);
    if (was_on)
        hk_sub_release(s);
}

/* From here on dispatch sees it, and so does a drain; one that began before is seen here. */
static hark_err list_activate(hark_sub *s, hark_errinfo *ei)
{
    hark_bus *bus = s->bus;
    hark_err err = HARK_OK;
    pthread_mutex_lock(&bus->lock);
    if (!hk_bus_accepts(bus))
        err = hk_fail(ei, HARK_ECLOSED, "the bus is closed or draining");
    else
        hk_mark_set(&s->closed, 0);
    hk_mark_set(&bus->subs_generation, hk_mark_get(&bus->subs_generation) + 1);
    pthread_mutex_unlock(&bus->lock);
    return err;
}

/* What is done to a consumer from outside meanwhile finds it closed, and then is loaded with it, or
 * open: never in between. */
static hark_err open_consumer(hark_sub *s, const hark_sub_opts *o, hark_errinfo *ei)
{
    pthread_mutex_lock(&s->bus->admin);
    hark_err err = hk_consumer_open(s, o, ei);
    if (!err)
        err = list_activate(s, ei);
    pthread_mutex_unlock(&s->bus->admin);
    return err;
}

static hark_err open_live(hark_sub *s, const hark_sub_opts *o, hark_errinfo *ei)
{
    hark_err err = hk_live_open(s, o);
    return err ? err : list_activate(s, ei);
}

static hark_err open_sub(hark_sub *s, const hark_sub_opts *o, hark_errinfo *ei)
{
    hark_err err = list_add(s, o->consumer, ei);
    if (err)
        return err;
    err = o->consumer ? open_consumer(s, o, ei) : open_live(s, o, ei);
    if (!err && s->fn)
        err = o->consumer ? hk_consumer_start(s) : hk_live_start(s);
    if (err) {
        (void)hk_mark_move(&s->closed, 0, 1); /* first: it is not asked for any more */
        hk_party_withdraw(s);
        list_remove(s);
    }
    return err;
}

hark_err hark_subscribe(hark_bus *bus, const char *pattern, hark_handler_fn fn, void *ud,
                        const hark_sub_opts *opts, hark_sub **ret, hark_errinfo *ei)
{
    hark_sub_opts o;
    hark_err err = hk_opts_take(opts, &o, sizeof o, "hark_sub_opts", ei);
    if (!err)
        err = check(pattern, &o, ei);
    if (!err && !fn && !ret)
        err = hk_fail(ei, HARK_EINVAL, "neither a handler nor room for the subscription is given");
    if (!err && !hk_bus_accepts(bus))
        err = hk_fail(ei, HARK_ECLOSED, "the bus is closed or draining");
    if (!err && bus->info.live_only)
        err = hk_lost_check(bus, &o, ei);
    if (!err && o.consumer && !hk_role_may_block())
        err = hk_fail(ei, HARK_EWRONGTHREAD, "registering a consumer would block this thread");
    if (err)
        return err;
    hark_sub *s = hk_sub_new(bus, pattern, fn, ud, &o);
    if (!s)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a subscription");
    if (o.consumer && !(s->name = hk_strdup(o.consumer)))
        err = hk_fail(ei, HARK_ENOMEM, "no memory for consumer '%s'", o.consumer);
    hk_mark_set(&s->closed, HK_SUB_OPENING);
    if (!err)
        err = open_sub(s, &o, ei);
    if (err) {
        s->free_ud = NULL; /* ud stays the caller's */
        hk_sub_release(s);
        return err;
    }
    if (ret)
        *ret = s;
    else
        hark_sub_unref(s);
    return HARK_OK;
}

hark_sub *hark_sub_ref(hark_sub *s)
{
    if (s)
        hk_ref_get(&s->users, 1);
    return s;
}

hark_sub *hark_sub_unref(hark_sub *s)
{
    if (!s || !hk_ref_put(&s->users))
        return NULL;
    hark_sub_close(s);
    hk_sub_release(s);
    return NULL;
}

void hk_sub_hold(hark_sub *s)
{
    hk_ref_get(&s->holds, 1);
}

void hk_sub_release(hark_sub *s)
{
    if (hk_ref_put(&s->holds))
        sub_free(s);
}

void hark_sub_close(hark_sub *s)
{
    if (!hk_mark_move(&s->closed, 0, 1))
        return;
    hk_sub_hold(s);
    pthread_mutex_lock(&s->bus->lock);
    hk_mark_set(&s->bus->subs_generation, hk_mark_get(&s->bus->subs_generation) + 1);
    pthread_mutex_unlock(&s->bus->lock);
    hk_gate_open(&s->gate);
    if (s->live)
        hk_live_closed(s);
    else
        hk_consumer_closed(s);
    if (s->fn)
        hark_sub_unref(s); /* the bus's use of it */
    hk_sub_release(s);
}

/* After the last call: the program's data goes back, joiners go on, the name is free. */
void hk_sub_ended(hark_sub *s)
{
    pthread_mutex_lock(&s->end_lock);
    bool first = !s->ended;
    s->ended = true;
    pthread_mutex_unlock(&s->end_lock);
    if (!first)
        return;
    if (s->free_ud)
        s->free_ud(s->ud);
    hk_sub_hold(s);
    list_remove(s);
    pthread_mutex_lock(&s->end_lock);
    s->joinable = true;
    pthread_cond_broadcast(&s->end_cond);
    pthread_mutex_unlock(&s->end_lock);
    hk_sub_release(s);
}

hark_err hark_sub_join(hark_sub *s, int64_t timeout_ms)
{
    if (hk_role_get() != HK_ROLE_USER)
        return HARK_EWRONGTHREAD;
    if (!hk_mark_get(&s->closed))
        return HARK_EINVAL;
    int64_t deadline = hk_mono_ns() + hk_ms_to_ns(timeout_ms);
    hark_err err = HARK_OK;
    pthread_mutex_lock(&s->end_lock);
    while (!s->joinable && !err) {
        int64_t left = timeout_ms < 0 ? -1 : deadline - hk_mono_ns();
        if (timeout_ms >= 0 && left <= 0)
            err = HARK_ETIMEDOUT;
        else
            (void)hk_cond_wait(&s->end_cond, &s->end_lock, left);
    }
    pthread_mutex_unlock(&s->end_lock);
    return err;
}

void hk_sub_deliver(hark_sub *s, hark_delivery *d, hark_event *e)
{
    hk_sub_hold(s);
    *d = (hark_delivery){
        .event = e, .sub = s, .seq = e ? hark_event_sequence(e) : 0, .attempt = 1, .delay_ms = -1};
}

void hk_sub_gap(hark_sub *s, uint64_t from, uint64_t to)
{
    (void)hk_count_add(&s->gaps, 1);
    (void)hk_count_add(&s->gap_events, to - from + 1);
}

hark_err hark_sub_stats_get(hark_sub *s, hark_sub_stats *ret)
{
    if (ret->size != sizeof *ret)
        return HARK_EINVAL;
    *ret = (hark_sub_stats){.size = sizeof *ret,
                            .delivered = hk_count_get(&s->delivered),
                            .acked = hk_count_get(&s->acked),
                            .retried = hk_count_get(&s->retried),
                            .rejected = hk_count_get(&s->rejected),
                            .timed_out = hk_count_get(&s->timed_out),
                            .gaps = hk_count_get(&s->gaps),
                            .gap_events = hk_count_get(&s->gap_events)};
    if (s->live) {
        ret->dropped = hk_count_get(&s->live->dropped) + hk_count_get(&s->live->passed);
        ret->pending = hk_ring_count(s->live->ring);
        ret->position = hk_mark_get(&s->live->pos);
        ret->catching_up = hk_mark_get(&s->live->mode) == HK_BEHIND_RING;
    } else {
        hk_core_facts f;
        hk_consumer_facts(s, &f);
        ret->pending = f.in_memory + f.deferred;
        ret->position = f.floor;
    }
    return HARK_OK;
}

hark_err hark_next(hark_sub *s, int64_t timeout_ms, hark_delivery **ret)
{
    if (s->fn)
        return HARK_EINVAL;
    if (timeout_ms != 0 && !hk_role_may_block())
        return HARK_EWRONGTHREAD;
    int64_t ns = timeout_ms < 0 ? -1 : hk_ms_to_ns(timeout_ms);
    return s->live ? hk_live_next(s, ns, ret) : hk_consumer_next(s, ns, ret);
}
