/* lost.c: live subscriptions on a store without a log. There is nothing to read on from, so what
 * does not come is a gap: the store tells of what it may have missed, and the dispatcher of what the
 * ring had no room for. Gaps wait in a short queue beside the ring. Each has sequences that no event
 * in the ring has, so the reader puts both in order again: a gap comes before the first event above
 * it. When the queue is full nothing is pushed any more, and its last gap grows, until the reader
 * has taken one. */
#include "bus/bus_i.h"

#include <stdlib.h>

hark_err hk_lost_check(const hark_bus *bus, const hark_sub_opts *o, hark_errinfo *ei)
{
    if (o->consumer)
        return hk_no_log(bus, "a durable consumer", ei);
    if (o->overflow == HARK_OVERFLOW_WAIT)
        return hk_fail(ei, HARK_ENOTSUP,
                       "%s: cannot make publishers in other processes wait, so there is no "
                       "HARK_OVERFLOW_WAIT; take another hark_overflow, or a store with a log",
                       bus->ops->scheme);
    return HARK_OK;
}

hk_lost *hk_lost_new(bool told)
{
    hk_lost *x = calloc(1, sizeof *x);
    if (!x)
        return NULL;
    x->told = told;
    pthread_mutex_init(&x->lock, NULL);
    return x;
}

void hk_lost_free(hk_lost *x)
{
    if (x)
        pthread_mutex_destroy(&x->lock);
    free(x);
}

/* ---- the dispatcher's side ------------------------------------------------------------------- */

static hk_gap *gap_at(hk_lost *x, uint64_t i)
{
    return &x->gaps[(x->first + i) % HK_LOST_MAX];
}

static bool is_full(hk_lost *x)
{
    return hk_mark_get(&x->n) == HK_LOST_MAX;
}

/* Under the lock. False: the last gap has grown, there is no further one. */
static bool queue(hk_lost *x, hk_gap gap)
{
    uint64_t n = hk_mark_get(&x->n);
    bool grows = n == HK_LOST_MAX || (n > 0 && x->open && x->cause == gap.cause);
    if (grows) {
        gap_at(x, n - 1)->to = gap.to;
        return false;
    }
    *gap_at(x, n) = gap;
    hk_mark_set(&x->n, n + 1);
    return true;
}

static void note(hark_sub *s, hk_gap gap)
{
    hk_lost *x = s->live->lost;
    bool further = !x->open || x->cause != gap.cause;
    if (x->told) {
        pthread_mutex_lock(&x->lock);
        further = queue(x, gap);
        pthread_mutex_unlock(&x->lock);
    }
    if (further) {
        x->cause = gap.cause;
        (void)hk_count_add(&s->gaps, 1);
    }
    x->open = true;
    (void)hk_count_add(&s->gap_events, gap.to - gap.from + 1);
}

static bool push_over_oldest(hk_live *l, hark_event *e)
{
    hark_event *oldest = hk_ring_drop_oldest(l->ring);
    if (oldest)
        hk_count_bump(&l->dropped, 1);
    hark_event_unref(oldest);
    return hk_ring_push(l->ring, e);
}

void hk_lost_push(hark_sub *s, hark_event *e)
{
    hk_live *l = s->live;
    bool full = is_full(l->lost);
    if (!full && (hk_ring_push(l->ring, e) ||
                  (l->overflow == HARK_OVERFLOW_OLDEST && push_over_oldest(l, e)))) {
        l->lost->open = false;
        return;
    }
    uint64_t seq = hark_event_sequence(e);
    hark_event_unref(e);
    hk_count_bump(&l->dropped, 1);
    if (full || l->overflow == HARK_OVERFLOW_LOG)
        note(s, (hk_gap){seq, seq, HARK_GAP_OVERFLOW});
}

void hk_lost_pass(hark_sub *s, const hark_event *e)
{
    uint64_t seq = hark_event_sequence(e);
    if (!hark_pattern_match(s->pattern, hark_event_type(e)))
        return;
    hk_count_bump(&s->live->dropped, 1);
    note(s, (hk_gap){seq, seq, HARK_GAP_OVERFLOW});
}

void hk_lost_tell(hark_bus *bus, const char *type, uint64_t from, uint64_t to, hark_gap_cause cause)
{
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next) {
        if (hk_mark_get(&s->closed) || (type && !hark_pattern_match(s->pattern, type)))
            continue;
        note(s, (hk_gap){from, to, cause});
        hk_live_ring(s);
    }
    pthread_mutex_unlock(&bus->lock);
}

/* ---- the reader's side ----------------------------------------------------------------------- */

/* Where the next gap begins; 0 = none waits. */
static uint64_t next_gap(hk_lost *x)
{
    if (HK_LIKELY(!hk_mark_get(&x->n)))
        return 0;
    pthread_mutex_lock(&x->lock);
    uint64_t from = gap_at(x, 0)->from;
    pthread_mutex_unlock(&x->lock);
    return from;
}

/* The next gap is what comes next. False: it is from before it subscribed. */
static bool take_gap(hk_live *l)
{
    hk_lost *x = l->lost;
    pthread_mutex_lock(&x->lock);
    hk_gap gap = *gap_at(x, 0);
    x->first = (x->first + 1) % HK_LOST_MAX;
    hk_mark_set(&x->n, hk_mark_get(&x->n) - 1);
    pthread_mutex_unlock(&x->lock);
    if (gap.to <= hk_mark_get(&l->pos))
        return false;
    l->gap_from = gap.from;
    l->gap_to = gap.to;
    l->gap_cause = gap.cause;
    hk_mark_set(&l->pos, gap.to);
    return true;
}

static bool refill(hk_live *l)
{
    if (l->at < l->n)
        return true;
    l->at = 0;
    l->n = hk_ring_pop(l->ring, l->batch, HK_LIVE_BATCH);
    return l->n > 0;
}

hark_event *hk_lost_take(hark_sub *s)
{
    hk_live *l = s->live;
    for (;;) {
        bool some = refill(l);
        uint64_t gap = next_gap(l->lost);
        if (!some && !gap)
            return NULL;
        /* looked at again: what was pushed before the gap comes first */
        hark_event *e = some || refill(l) ? l->batch[l->at] : NULL;
        uint64_t seq = e ? hark_event_sequence(e) : UINT64_MAX;
        if (gap && gap < seq) {
            if (take_gap(l))
                return NULL;
            continue;
        }
        l->at++;
        if (HK_LIKELY(seq > hk_mark_get(&l->pos))) {
            hk_mark_set(&l->pos, seq);
            return e;
        }
        hark_event_unref(e); /* from before it subscribed */
    }
}
