/* dispatch.c: from a committed event to its subscribers. One thread at a time: the writer, or on a
 * direct store whoever makes events visible. A type's subscribers are worked out once and kept
 * until the list of subscriptions changes, so that no lock is taken for a type that was seen
 * before. */
#include "bus/bus_i.h"

#include <stdlib.h>
#include <string.h>

/* Types remembered; beyond that the table starts afresh. */
enum { TOPICS_MAX = 65536 };

static void wake(hark_sub *s)
{
    if (s->live)
        hk_live_ring(s);
    else
        hk_gate_open(&s->gate);
}

/* Wakes whom the events so far concern. Before a topic lets go of its subscribers too: the list of
 * those to be woken relies on the topics' holds. */
static void wake_touched(hk_dispatch *d)
{
    for (size_t i = 0; i < d->n_touched; i++)
        wake(d->touched[i]);
    d->n_touched = 0;
    d->round++;
}

static void topic_clear(hk_topic *t)
{
    for (size_t i = 0; i < t->n_subs; i++)
        hk_sub_release(t->subs[i]);
    free(t->subs);
    t->subs = NULL;
    t->n_subs = t->n_live = 0;
}

static void forget_all(hk_dispatch *d)
{
    wake_touched(d);
    for (size_t i = 0; i < d->cap; i++)
        if (d->table[i]) {
            topic_clear(d->table[i]);
            free(d->table[i]);
        }
    free(d->table);
    d->table = NULL;
    d->cap = d->n = 0;
    d->last = NULL;
}

void hk_dispatch_free(hk_dispatch *d)
{
    forget_all(d);
    free(d->touched);
    *d = (hk_dispatch){0};
}

static bool grow(hk_dispatch *d)
{
    size_t cap = d->cap ? d->cap * 2 : 256;
    hk_topic **table = calloc(cap, sizeof(hk_topic *));
    if (!table)
        return false;
    for (size_t i = 0; i < d->cap; i++) {
        if (!d->table[i])
            continue;
        size_t at = d->table[i]->hash & (cap - 1);
        while (table[at])
            at = (at + 1) & (cap - 1);
        table[at] = d->table[i];
    }
    free(d->table);
    d->table = table;
    d->cap = cap;
    return true;
}

/* Works out the subscribers of a type. What the old list held is released. */
static void resolve(hark_bus *bus, hk_topic *t)
{
    wake_touched(&bus->dispatch);
    topic_clear(t);
    pthread_mutex_lock(&bus->lock);
    t->generation = hk_mark_get(&bus->subs_generation);
    size_t n = 0;
    for (hark_sub *s = bus->subs; s; s = s->next)
        n += !hk_mark_get(&s->closed) && hark_pattern_match(s->pattern, t->type);
    t->subs = n ? calloc(n, sizeof(hark_sub *)) : NULL;
    if (n && !t->subs)
        t->generation = UINT64_MAX; /* without memory: tried again with the next event */
    for (int consumers = 0; t->subs && consumers < 2; consumers++) {
        for (hark_sub *s = bus->subs; s && t->n_subs < n; s = s->next)
            if (!hk_mark_get(&s->closed) && (s->consumer != NULL) == consumers &&
                hark_pattern_match(s->pattern, t->type)) {
                hk_sub_hold(s);
                t->subs[t->n_subs++] = s;
            }
        if (!consumers)
            t->n_live = t->n_subs;
    }
    pthread_mutex_unlock(&bus->lock);
}

static hk_topic *topic_new(hark_bus *bus, const char *type, size_t len, uint64_t hash)
{
    hk_dispatch *d = &bus->dispatch;
    if (d->n >= TOPICS_MAX)
        forget_all(d);
    if (d->n * 2 >= d->cap && !grow(d))
        return NULL;
    hk_topic *t = calloc(1, sizeof *t + len + 1);
    if (!t)
        return NULL;
    t->hash = hash;
    t->len = len;
    t->generation = UINT64_MAX;
    t->figures = hk_figures_type(bus, type, len); /* the bus's: they outlive the topic */
    memcpy(t->type, type, len + 1);
    size_t at = hash & (d->cap - 1);
    while (d->table[at])
        at = (at + 1) & (d->cap - 1);
    d->table[at] = t;
    d->n++;
    return t;
}

static bool is_topic(const hk_topic *t, const char *type, size_t len)
{
    return t->len == len && memcmp(t->type, type, len) == 0;
}

static bool is_resolved(const hk_topic *t)
{
    return t->generation != UINT64_MAX;
}

/* NULL, or a topic that is not resolved: there was no memory. */
static hk_topic *topic_of(hark_bus *bus, const hark_event *e)
{
    hk_dispatch *d = &bus->dispatch;
    const char *type = hark_event_type(e);
    size_t len = hk_event_type_len(e);
    hk_topic *t = d->last;
    if (!t || !is_topic(t, type, len)) {
        uint64_t hash = hk_hash(type, len);
        t = NULL;
        for (size_t at = hash & (d->cap - 1); d->cap && d->table[at]; at = (at + 1) & (d->cap - 1))
            if (d->table[at]->hash == hash && is_topic(d->table[at], type, len)) {
                t = d->table[at];
                break;
            }
        if (!t)
            t = topic_new(bus, type, len, hash);
        d->last = t;
    }
    if (t && HK_UNLIKELY(t->generation != hk_mark_get(&bus->subs_generation)))
        resolve(bus, t);
    return t;
}

/* Remembers whom to wake at the end of the batch; wakes at once when it cannot. */
static void touch(hk_dispatch *d, hark_sub *s)
{
    if (s->round == d->round)
        return;
    if (d->n_touched == d->cap_touched) {
        size_t cap = d->cap_touched ? d->cap_touched * 2 : 64;
        hark_sub **touched = realloc(d->touched, cap * sizeof(hark_sub *));
        if (!touched) {
            wake(s);
            return;
        }
        d->touched = touched;
        d->cap_touched = cap;
    }
    s->round = d->round;
    d->touched[d->n_touched++] = s;
}

static void hand_out(hark_bus *bus, hk_topic *t, hark_event *e)
{
    if (t->n_live > 1)
        hk_event_ref_n(e, (unsigned)t->n_live - 1);
    for (size_t i = 0; i < t->n_live; i++) {
        hk_live_push(t->subs[i], e);
        touch(&bus->dispatch, t->subs[i]);
    }
    for (size_t i = t->n_live; i < t->n_subs; i++)
        touch(&bus->dispatch, t->subs[i]);
    if (!t->n_live)
        hark_event_unref(e);
}

/* No memory to find out for whom an event is: everybody looks for it in the log. */
static void send_to_log(hark_bus *bus, hark_event *e)
{
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next) {
        if (hk_mark_get(&s->closed))
            continue;
        if (s->live && s->live->lost)
            hk_lost_pass(s, e);
        else if (s->live)
            hk_live_fall_behind(s);
        wake(s);
    }
    pthread_mutex_unlock(&bus->lock);
    hark_event_unref(e);
}

void hk_dispatch_all(hark_bus *bus, hark_event *const *events, size_t n)
{
    hk_dispatch *d = &bus->dispatch;
    d->round++;
    for (size_t i = 0; i < n; i++) {
        hk_topic *t = topic_of(bus, events[i]);
        hk_figures_shown(bus, t ? t->figures : NULL, events[i]);
        if (t && is_resolved(t))
            hand_out(bus, t, events[i]);
        else
            send_to_log(bus, events[i]);
    }
    wake_touched(d);
    hk_sweep_note(bus);
}
