/* live.c: live subscriptions. Each has a bounded ring that dispatch fills and one reader empties.
 * When the ring is full the reader goes on from the log (or events are dropped, by its policy) and
 * comes back to the ring when it has caught up:
 *
 *     dispatcher: ring full, mode LIVE -> BEHIND; pushes no more
 *     reader:     ring empty and BEHIND: reads the log to its end, mode -> CAUGHT_UP, reads it once
 *                 more (what came between), then waits at the ring
 *     dispatcher: sees CAUGHT_UP, mode -> LIVE; pushes again
 *
 * The reader passes over what it has seen (pos), so an event that came both ways is delivered once.
 * Dispatcher and reader exchange `mode` by swaps: either the dispatcher sees CAUGHT_UP and pushes,
 * or the reader's second look sees the event in the log. */
#include "bus/bus_i.h"
#include "bus/versions_i.h"

#include <sched.h>
#include <stdlib.h>

/* When memory or the store fails, it is tried again after so long. */
#define TROUBLE_NS (INT64_C(100) * 1000000)

hark_err hk_live_open(hark_sub *s, const hark_sub_opts *o)
{
    hk_live *l = hk_zalloc_lines(sizeof *l);
    if (!l)
        return HARK_ENOMEM;
    size_t ring = o->ring ? o->ring : 1024;
    l->overflow = (hark_overflow)o->overflow;
    l->high = ring;
    if (l->overflow == HARK_OVERFLOW_WAIT) /* what entered before it was full still finds room */
        ring += s->bus->info.direct ? HK_BATCH_MAX : ring;
    l->ring = hk_ring_new(ring);
    l->lost = s->bus->info.live_only ? hk_lost_new((o->flags & HARK_SUB_GAPS) != 0) : NULL;
    if (!l->ring || (s->bus->info.live_only && !l->lost)) {
        hk_ring_free(l->ring);
        hk_lost_free(l->lost);
        free(l);
        return HARK_ENOMEM;
    }
    l->pushing = true;
    l->spin = 8;
    hk_bell_init(&l->bell);
    pthread_mutex_init(&l->pull_lock, NULL);
    if (l->overflow == HARK_OVERFLOW_WAIT) {
        hk_mark_set(&l->waits, 1);
        (void)hk_count_add(&s->bus->wait_subs, 1);
    }
    hk_mark_set(&l->pos, hk_bus_visible(s->bus));
    s->live = l;
    return HARK_OK;
}

/* It makes no publisher wait any more. */
static void stop_waiting(hark_sub *s)
{
    if (hk_mark_move(&s->live->waits, 1, 0))
        (void)hk_count_sub(&s->bus->wait_subs, 1);
}

static void set_full(hark_sub *s, bool full)
{
    if (hk_mark_get_strong(&s->live->full) == full || !hk_mark_move(&s->live->full, !full, full))
        return;
    if (full) {
        (void)hk_count_add(&s->bus->full_subs, 1);
        if (hk_mark_get_strong(&s->closed)) /* nobody would empty it */
            set_full(s, false);
    } else {
        (void)hk_count_sub(&s->bus->full_subs, 1);
        hk_gate_open(&s->bus->room);
    }
}

/* The reader is gone. */
static void drop_pending(hk_live *l)
{
    while (l->page_at < l->page_n)
        hark_event_unref(l->page[l->page_at++]);
    do {
        while (l->at < l->n)
            hark_event_unref(l->batch[l->at++]);
        l->at = 0;
        l->n = hk_ring_pop(l->ring, l->batch, HK_LIVE_BATCH);
    } while (l->n);
}

void hk_live_free(hark_sub *s)
{
    stop_waiting(s);
    set_full(s, false);
    drop_pending(s->live);
    hk_ring_free(s->live->ring);
    hk_lost_free(s->live->lost);
    pthread_mutex_destroy(&s->live->pull_lock);
    free(s->live);
}

/* ---- the dispatcher's side ------------------------------------------------------------------- */

void hk_live_fall_behind(hark_sub *s)
{
    hk_live *l = s->live;
    l->pushing = false;
    if (l->overflow == HARK_OVERFLOW_WAIT)
        set_full(s, true); /* before the reader can know: it takes the mark back when caught up */
    (void)hk_mark_swap(&l->mode, HK_BEHIND_RING);
}

static void overflow(hark_sub *s, hark_event *e)
{
    hk_live *l = s->live;
    if (l->overflow == HARK_OVERFLOW_OLDEST) {
        hark_event *oldest = hk_ring_drop_oldest(l->ring);
        if (oldest)
            hk_count_bump(&l->dropped, 1);
        hark_event_unref(oldest);
        if (hk_ring_push(l->ring, e))
            return;
    }
    hark_event_unref(e);
    if (l->overflow == HARK_OVERFLOW_OLDEST || l->overflow == HARK_OVERFLOW_NEWEST) {
        hk_count_bump(&l->dropped, 1);
        return;
    }
    hk_live_fall_behind(s);
}

/* While an earlier stretch is yet to be told, both are one: in between there is nothing that is not told again. */
void hk_live_lost(hark_sub *s, uint64_t from, uint64_t to)
{
    hk_live *l = s->live;
    if (hk_mark_get(&l->lost_to) <= hk_mark_get(&l->pos))
        hk_mark_set(&l->lost_from, from);
    hk_mark_set(&l->lost_to, to); /* last: the reader looks at it first */
}

void hk_live_ring(hark_sub *s)
{
    hk_bell_ring(&s->live->bell);
}

void hk_live_push(hark_sub *s, hark_event *e)
{
    hk_live *l = s->live;
    if (HK_UNLIKELY(l->lost != NULL)) {
        hk_lost_push(s, e);
        return;
    }
    if (HK_UNLIKELY(!l->pushing)) {
        if (hk_mark_look(&l->mode) != HK_CAUGHT_UP) {
            hark_event_unref(e);
            return;
        }
        (void)hk_mark_swap(&l->mode, HK_LIVE);
        l->pushing = true;
    }
    if (HK_UNLIKELY(!hk_ring_push(l->ring, e)))
        overflow(s, e);
    else if (l->overflow == HARK_OVERFLOW_WAIT && HK_UNLIKELY(hk_ring_over(l->ring, l->high))) {
        set_full(s, true);
        if (!hk_ring_over(l->ring, l->high)) /* the reader emptied it before it could see that */
            set_full(s, false);
    }
}

/* ---- the reader's side ----------------------------------------------------------------------- */

typedef enum outcome { MORE, END, FAILED } outcome;

static void gap(hark_sub *s, uint64_t from, uint64_t to)
{
    hk_sub_gap(s, from, to);
    if (!(s->flags & HARK_SUB_GAPS))
        return;
    s->live->gap_from = from;
    s->live->gap_to = to;
}

/* Where a stretch that a server lost begins, of what is after pos; 0 = there is none. */
static uint64_t lost_after(hk_live *l, uint64_t pos)
{
    if (HK_LIKELY(hk_mark_get(&l->lost_to) <= pos))
        return 0;
    uint64_t from = hk_mark_get(&l->lost_from);
    return from > pos ? from : pos + 1;
}

/* Reads the next page after pos. */
static outcome read_page(hark_sub *s)
{
    hk_live *l = s->live;
    uint64_t pos = hk_mark_get(&l->pos), lost = lost_after(l, pos);
    if (lost == pos + 1) {
        uint64_t to = hk_mark_get(&l->lost_to);
        gap(s, lost, to);
        hk_mark_set(&l->pos, to);
        return MORE;
    }
    const hark_store_query q = {.size = sizeof q,
                                .pattern = s->pattern,
                                .after = pos,
                                .before = lost,
                                .limit = HK_LIVE_BATCH,
                                .limit_bytes = (size_t)4 << 20};
    hark_store_page page = {.events = l->page};
    if (hk_bus_read(s->bus, &q, &page, NULL))
        return FAILED; /* closed, or a store in trouble: tried again later */
    if (page.gap > pos)
        gap(s, pos + 1, page.gap);
    if (lost && page.end)
        page.covered = lost - 1;
    l->page_at = 0;
    l->page_n = page.n;
    l->page_covered = page.covered;
    if (page.n == 0)
        hk_mark_set(&l->pos, page.covered > pos ? page.covered : pos);
    return page.n > 0 || !page.end || lost ? MORE : END;
}

/* The next event from the log while behind; NULL when it has come to the ring again, or `recheck`
 * still stands: at a gap to be handed out, or when reading failed. */
static hark_event *catch_up(hark_sub *s)
{
    hk_live *l = s->live;
    for (;;) {
        if (l->page_at < l->page_n)
            return l->page[l->page_at++];
        if (l->page_n) {
            hk_mark_set(&l->pos, l->page_covered);
            l->page_n = l->page_at = 0;
        }
        outcome got = read_page(s);
        if (got == FAILED || l->gap_to)
            return NULL;
        if (got == MORE)
            continue;
        if (hk_mark_look(&l->mode) == HK_BEHIND_RING) {
            (void)hk_mark_swap(&l->mode, HK_CAUGHT_UP);
            continue;
        }
        l->recheck = false;
        set_full(s, false);
        return NULL;
    }
}

/* The next event, not seen yet; NULL when there is none now. */
static hark_event *take(hark_sub *s)
{
    hk_live *l = s->live;
    for (;;) {
        hark_event *e;
        if (HK_UNLIKELY(l->recheck) && ((e = catch_up(s)) || l->recheck))
            return e;
        if (l->at == l->n) {
            bool behind = hk_mark_get(&l->mode) == HK_BEHIND_RING; /* before looking at the ring */
            l->at = 0;
            l->n = hk_ring_pop(l->ring, l->batch, HK_LIVE_BATCH);
            for (size_t i = 0; i < l->n && i < 8; i++)
                hk_event_prefetch(l->batch[i]);
            if (l->overflow == HARK_OVERFLOW_WAIT && hk_mark_look(&l->full) &&
                hk_ring_count(l->ring) <= l->high / 2)
                set_full(s, false);
            if (l->n == 0 && !behind)
                return NULL;
            if (l->n == 0) {
                l->recheck = true;
                continue;
            }
        }
        e = l->batch[l->at++];
        if (l->at + 8 <= l->n)
            hk_event_prefetch(l->batch[l->at + 7]);
        uint64_t seq = hark_event_sequence(e);
        if (HK_LIKELY(seq > hk_mark_get(&l->pos))) {
            hk_mark_set(&l->pos, seq);
            return e;
        }
        hark_event_unref(e);
    }
}

static hark_delivery *delivery_new(hark_sub *s)
{
    hark_delivery *d = calloc(1, sizeof *d);
    if (d)
        hk_sub_deliver(s, d, NULL);
    return d;
}

/* The next delivery into `d`: an event, or a stretch of the log that is gone. */
static bool fill(hark_sub *s, hark_delivery *d)
{
    hk_live *l = s->live;
    d->gap_to = 0;
    d->event = HK_UNLIKELY(l->lost != NULL) ? hk_lost_take(s) : take(s);
    if (HK_LIKELY(d->event != NULL)) {
        d->seq = hark_event_sequence(d->event);
        return true;
    }
    d->seq = d->gap_to = l->gap_to;
    d->gap_from = l->gap_from;
    d->gap_cause = l->gap_cause;
    l->gap_to = 0;
    return d->gap_to != 0;
}

/* Told once for each type. */
static void warn(hark_sub *s, const hark_event *e, const hark_errinfo *why)
{
    uint64_t h = hk_hash(hark_event_type(e), hk_event_type_len(e)) % HK_LIVE_WARNED;
    uint64_t bit = UINT64_C(1) << (h % 64);
    if (hk_mark_raise(&s->live->warned[h / 64], bit) & bit)
        return;
    hk_log(HK_WARN,
           "a live subscription to '%s' passes over sequence %llu, and only counts further ones of "
           "its type: %s",
           s->pattern, (unsigned long long)hark_event_sequence(e), why->text);
}

/* Without any lock: the event in the version that is wanted. False: it is passed over. */
static bool fits(hark_sub *s, hark_delivery *d)
{
    hark_errinfo why = {0};
    if (!d->event || HK_LIKELY(!hk_upcast_matters(s->bus, s->dataversion)))
        return true;
    hk_fit fit = hk_upcast_event(s->bus, &d->event, s->dataversion, &why);
    if (fit != HK_FIT_NONE && (fit != HK_FIT_NEWER || s->newer == HARK_NEWER_DELIVER))
        return true;
    warn(s, d->event, &why);
    (void)hk_count_add(&s->live->passed, 1);
    hark_event_unref(d->event);
    d->event = NULL;
    return false;
}

/* Calls the handler until nothing is left. `d` is used again and again, with a hold on the
 * subscription of its own, unless a handler keeps it. */
static hark_delivery *run_handlers(hark_sub *s, hark_delivery *d)
{
    while (d && hk_sub_may_deliver(s) && fill(s, d)) {
        if (HK_UNLIKELY(!fits(s, d)))
            continue;
        hark_event *e = d->event;
        hark_verdict v = s->fn(d, s->ud);
        hk_count_bump(&s->delivered, e != NULL);
        if (HK_UNLIKELY(v == HARK_LATER)) { /* settled, and gone, by now perhaps */
            d = delivery_new(s);
            continue;
        }
        hark_event_unref(e);
        if (HK_UNLIKELY(d->error != NULL)) {
            free(d->error);
            d->error = NULL;
        }
    }
    return d;
}

static bool something(hark_sub *s)
{
    return hk_ring_count(s->live->ring) > 0 || hk_mark_get(&s->live->mode) == HK_BEHIND_RING ||
           !hk_sub_may_deliver(s) || (s->live->lost && hk_mark_get(&s->live->lost->n));
}

/* Watches the ring for a while. The time grows while watching pays, and shrinks while it does not. */
static bool watch(hark_sub *s)
{
    enum { LEAST = 4, MOST = 64 };
    unsigned *spin = &s->live->spin;
    for (unsigned i = 0; i < *spin; i++) {
        sched_yield(); /* to a publisher or another reader, if there are more than cores */
        hk_pause();    /* so that a few events come together */
        if (something(s)) {
            *spin = *spin < MOST / 2 ? *spin * 2 : MOST;
            return true;
        }
    }
    *spin = *spin / 2 > LEAST ? *spin / 2 : LEAST;
    return false;
}

/* Until something is there, or for a while when memory or the log failed: then nothing new is
 * awaited. */
static void rest(hark_sub *s, bool trouble, int64_t timeout_ns)
{
    unsigned seen = hk_bell_lie_down(&s->live->bell);
    if (trouble ? hk_sub_may_deliver(s) : !something(s))
        hk_bell_sleep(&s->live->bell, seen, timeout_ns);
    hk_bell_get_up(&s->live->bell);
}

static void *live_main(void *arg)
{
    hark_sub *s = arg;
    hark_bus *bus = s->bus;
    (void)hk_role_set(HK_ROLE_HANDLER);
    hark_delivery *d = delivery_new(s);
    for (;;) {
        hk_bus_running(bus, 1);
        if (!d)
            d = delivery_new(s);
        do
            d = run_handlers(s, d);
        while (d && hk_sub_may_deliver(s) && !s->live->recheck && watch(s));
        hk_bus_running(bus, -1);
        if (!hk_sub_may_deliver(s))
            break;
        bool trouble = !d || s->live->recheck; /* no memory, or the log cannot be read just now */
        rest(s, trouble, trouble ? TROUBLE_NS : -1);
    }
    if (d) {
        d->event = NULL;
        hk_delivery_clear(d);
        free(d);
    }
    hark_sub_close(s); /* a drain may not have come to it yet, and finds it no more */
    hk_sub_ended(s);
    hk_sub_release(s);
    hk_bus_thread_end(bus);
    return NULL;
}

hark_err hk_live_start(hark_sub *s)
{
    hk_sub_hold(s);
    hark_err err = hk_bus_thread(s->bus, "hark-live", live_main, s);
    if (err)
        hk_sub_release(s);
    return err;
}

void hk_live_closed(hark_sub *s)
{
    stop_waiting(s);
    set_full(s, false);
    hk_bell_wake(&s->live->bell);
    if (!s->fn) /* it has no thread that would say so */
        hk_sub_ended(s);
}

hark_err hk_live_next(hark_sub *s, int64_t timeout_ns, hark_delivery **ret)
{
    int64_t deadline = timeout_ns < 0 ? 0 : hk_mono_ns() + timeout_ns;
    for (;;) {
        if (!hk_sub_may_deliver(s))
            return HARK_ECLOSED;
        hark_delivery *d = calloc(1, sizeof *d);
        if (!d)
            return HARK_ENOMEM;
        hk_sub_deliver(s, d, NULL);
        pthread_mutex_lock(&s->live->pull_lock);
        bool got = fill(s, d), trouble = s->live->recheck;
        pthread_mutex_unlock(&s->live->pull_lock);
        if (got && fits(s, d)) {
            (void)hk_count_add(&s->delivered, d->event != NULL);
            *ret = d;
            return HARK_OK;
        }
        hk_delivery_clear(d);
        free(d);
        if (got)
            continue;
        int64_t left = timeout_ns < 0 ? TROUBLE_NS : deadline - hk_mono_ns();
        if (left <= 0)
            return HARK_ETIMEDOUT;
        rest(s, trouble, left < TROUBLE_NS ? left : TROUBLE_NS);
    }
}
