/* consume.c: the deliveries of a durable consumer: reading the log for its cores, handing out what
 * they start, settling, timeouts, and the threads that run handlers. Handlers, reading and the store
 * are outside of the consumer's lock. A reset may put other cores in their place while the lock is
 * given up: `generation` tells. Shares may come and go meanwhile, too: leases tell. */
#include "bus/party_i.h"
#include "bus/versions_i.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 512 }; /* one round trip of a server's store */
#define TROUBLE_NS (INT64_C(100) * 1000000)

/* While this process cannot say that it lives, others may have its shares already. */
static bool may_start(const hk_consumer *c)
{
    const hark_bus *bus = c->sub->bus;
    return !bus->info.shared || hk_party_lives(bus);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Under the lock. One at a time: who notes one hands it out before anything else. */
static void tell_gap(hk_consumer *c, uint64_t from, uint64_t to)
{
    hk_sub_gap(c->sub, from, to);
    if (!(c->sub->flags & HARK_SUB_GAPS))
        return;
    c->gap_from = c->gap_to && c->gap_from < from ? c->gap_from : from;
    c->gap_to = c->gap_to > to ? c->gap_to : to;
}

void hk_consumer_note_gap(hk_consumer *c, uint64_t from, uint64_t to)
{
    bool joins = c->told_from && from >= c->told_from && from <= c->told_to + 1;
    if (joins && to <= c->told_to) /* retention, the ledger and a page may tell of the same one */
        return;
    tell_gap(c, joins ? c->told_to + 1 : from, to);
    c->told_from = joins ? c->told_from : from;
    c->told_to = to;
}

/* Under the lock: what a page behind `after` brought. Returns false when memory is out: the rest is read again. */
static bool arrive(hk_consumer *c, uint64_t after, hark_store_page *page)
{
    bool ok = true;
    hk_now now = hk_consumer_now(c);
    for (size_t i = 0; i < page->n; i++) {
        hark_event *e = page->events[i];
        uint64_t seq = hark_event_sequence(e);
        bool kept = false;
        if (ok) {
            ok = hk_cores_arrive(c->cores, after, seq, hark_event_key(e), e, now, &kept) == HARK_OK;
            if (ok)
                hk_cores_cover(c->cores, after, seq);
        }
        if (!kept)
            hark_event_unref(e);
    }
    if (ok)
        hk_cores_cover(c->cores, after, page->covered);
    return ok;
}

/* Under the lock: the outcome of a read. It tries again ten times a second: told once, until it goes well again or fails
 * otherwise. */
static void note_read(hk_consumer *c, hark_err err, const hark_errinfo *ei)
{
    if (err && err != HARK_ECLOSED && err != c->read_err)
        hk_log(HK_WARN, "consumer %s cannot read the log just now: %s", c->sub->name,
               hk_err_says(err, ei));
    c->read_err = err;
}

/* Under the lock, which it gives up while it reads. False when the store is in trouble. */
static bool read_more(hk_consumer *c)
{
    hark_sub *s = c->sub;
    hark_event *events[PAGE];
    size_t room = hk_cores_room(c->cores);
    uint64_t after = hk_cores_covered(c->cores), generation = c->generation;
    const hark_store_query q = {.size = sizeof q,
                                .pattern = s->pattern,
                                .after = after,
                                .limit = room < PAGE ? room : PAGE,
                                .limit_bytes = (size_t)4 << 20};
    hark_store_page page = {.events = events};
    c->reading = true;
    pthread_mutex_unlock(&c->lock);
    hark_errinfo ei = {0};
    hark_err err = hk_bus_read(s->bus, &q, &page, &ei);
    pthread_mutex_lock(&c->lock);
    c->reading = false;
    note_read(c, err, &ei);
    if (err)
        return false;
    if (c->generation != generation || c->stale) { /* reset meanwhile: not what is wanted now */
        hk_page_drop(&page);
        return true;
    }
    if (page.gap > after && hk_consumer_tells_gaps(c))
        hk_consumer_note_gap(c, after + 1, page.gap);
    bool ok = arrive(c, after, &page);
    if (c->workers > 1 || !s->fn)
        hk_gate_open(&s->gate);
    return ok;
}

static bool take_letter(void *ud, const hark_store_letter *l)
{
    *(hark_event **)ud = hark_event_ref(l->event);
    return false;
}

/* A redriven event that the log no longer has: its dead letter keeps a copy. */
static hark_event *read_letter(hark_sub *s, uint64_t seq, hark_err *ret_err)
{
    hark_event *e = NULL;
    const hark_store_letters_query q = {.size = sizeof q,
                                        .consumer = s->name,
                                        .sequence = seq,
                                        .state = HARK_LETTER_REDRIVEN,
                                        .limit = 1};
    *ret_err = hk_store_enter(s->bus, NULL);
    if (*ret_err)
        return NULL;
    *ret_err = s->bus->ops->letters(s->bus->store, &q, take_letter, &e, NULL);
    hk_store_leave(s->bus);
    return e;
}

/* The event of a row in the ledger; NULL when it is nowhere any more, err when that is not known. */
static hark_event *read_one(hark_sub *s, uint64_t seq, hark_err *ret_err)
{
    hark_event *e;
    *ret_err = hk_bus_read_one(s->bus, seq, &e, NULL);
    return *ret_err || e ? e : read_letter(s, seq, ret_err);
}

/* ---- taking the next delivery ---------------------------------------------------------------- */

/* It is on record from here on. */
static void take_slot(hk_consumer *c, hark_delivery *d, hk_now now)
{
    if (c->n_free_slots == 0)
        return;
    d->slot = c->free_slots[--c->n_free_slots];
    hk_slot_begin(d->slot, c->id, c->generation, d->seq, d->attempt, now.wall);
}

static void fill_delivery(hk_consumer *c, hark_delivery *d, const hk_started *st, hk_now now)
{
    hk_sub_deliver(c->sub, d, hark_event_ref(hk_cores_payload(c->cores, st->lease)));
    d->seq = st->seq;
    d->attempt = st->attempt;
    d->lease = st->lease;
    d->generation = c->generation;
    d->started_ns = now.mono;
    if (st->replayed)
        memcpy(d->replay_id, c->rerun.id, sizeof d->replay_id);
    take_slot(c, d, now);
    c->running++;
    hk_bus_running(c->sub->bus, 1);
    hk_count_bump(&c->sub->delivered, 1);
    hk_figures_started(c, d, now);
}

static bool take_gap(hk_consumer *c, hark_delivery *d)
{
    if (!c->gap_to)
        return false;
    hk_sub_deliver(c->sub, d, NULL);
    d->seq = d->gap_to = c->gap_to;
    d->gap_from = c->gap_from;
    d->generation = c->generation;
    c->gap_to = 0;
    return true;
}

typedef enum fetched { FETCHED, GONE, LATER } fetched;

/* Under the lock, which it gives up while it reads: the event of an item that has none in memory. */
static fetched fetch(hk_consumer *c, const hk_started *st)
{
    hark_err err;
    uint64_t generation = c->generation;
    c->running++; /* it must not be over meanwhile */
    pthread_mutex_unlock(&c->lock);
    hark_event *e = read_one(c->sub, st->seq, &err);
    pthread_mutex_lock(&c->lock);
    c->running--;
    note_read(c, err, &(hark_errinfo){0});
    if (c->generation != generation || c->stale) {
        hark_event_unref(e);
        return LATER;
    }
    if (err || !hk_sub_may_deliver(c->sub)) { /* the store is in trouble, or closed meanwhile */
        hark_event_unref(e);
        hk_cores_unstart(c->cores, st->lease);
        return LATER;
    }
    if (!e)
        return GONE;
    if (hk_cores_payload_set(c->cores, st->lease, e) == HARK_OK)
        return FETCHED;
    hark_event_unref(e);
    return LATER;
}

/* Under the lock, which it may give up: one delivery that may start now. */
static bool start_one(hk_consumer *c, hark_delivery *d, bool *ret_trouble)
{
    hk_started st;
    if (!may_start(c))
        return false;
    if (take_gap(c, d))
        return true;
    for (;;) {
        hk_now now = hk_consumer_now(c);
        int64_t limit = c->sub->fn ? c->handler_ns : c->hold_ns;
        if (c->stale || hk_consumer_ahead(c) || !may_start(c) ||
            !hk_cores_start(c->cores, now, limit < 0 ? -1 : now.mono + limit, &st))
            return false;
        fetched f = st.payload ? FETCHED : fetch(c, &st);
        if (f == LATER) {
            *ret_trouble = true;
            return false;
        }
        if (f == GONE) { /* no longer retained: an explicit gap */
            if (st.seq < c->told_from || st.seq > c->told_to)
                tell_gap(c, st.seq, st.seq);
            (void)hk_cores_settle(c->cores, st.lease, HARK_ACK, 0, NULL, now, NULL);
            if (take_gap(c, d))
                return true;
        } else if (st.doomed) {
            hk_cores_die(c->cores, st.lease, now);
            hk_count_bump(&c->sub->rejected, 1);
        } else if (!hk_upcast_matters(c->sub->bus, c->sub->dataversion) ||
                   !hk_consumer_refuse(c, &st, now)) {
            fill_delivery(c, d, &st, now);
            return true;
        }
    }
}

/* How long to sleep when nothing may start, at most `left`. */
static int64_t nap(hk_consumer *c, int64_t left, bool trouble)
{
    if (!may_start(c))
        return hk_sooner(left, TROUBLE_NS);
    int64_t due = c->stale || hk_consumer_ahead(c) ? -1 : hk_cores_due(c->cores);
    if (due >= 0) {
        due -= hk_mono_ns();
        due = due > 0 ? due : 0;
    }
    int64_t t = hk_sooner(left, due);
    return trouble ? hk_sooner(t, TROUBLE_NS) : t;
}

/* Waits for a delivery; fills *d. */
static hark_err next(hark_sub *s, int64_t timeout_ns, hark_delivery *d)
{
    hk_consumer *c = s->consumer;
    int64_t deadline = timeout_ns < 0 ? 0 : hk_mono_ns() + timeout_ns;
    pthread_mutex_lock(&c->lock);
    for (;;) {
        bool trouble = false;
        unsigned seen = hk_gate_look(&s->gate); /* before looking at anything else */
        if (!hk_sub_may_deliver(s)) {
            hk_consumer_unlock(c);
            return HARK_ECLOSED;
        }
        hk_consumer_timeouts(c);
        if (start_one(c, d, &trouble)) {
            hk_consumer_unlock(c);
            return HARK_OK;
        }
        if (!c->stale && hk_cores_room(c->cores) > 0 &&
            hk_cores_covered(c->cores) < hk_bus_visible(s->bus)) {
            trouble = c->reading || !read_more(c); /* who else reads may fail */
            if (!trouble)
                continue;
        }
        int64_t left = timeout_ns < 0 ? -1 : deadline - hk_mono_ns();
        if (timeout_ns >= 0 && left <= 0) {
            hk_consumer_unlock(c);
            return HARK_ETIMEDOUT;
        }
        int64_t wait = nap(c, left, trouble);
        hk_consumer_unlock(c);
        (void)hk_gate_wait(&s->gate, seen, wait);
        pthread_mutex_lock(&c->lock);
    }
}

/* The thread may be one that handles another delivery: its slot is put back. False: what was pulled
 * is not for the handler, and is settled. */
static bool fit_pulled(hark_delivery *d)
{
    hark_store_slot *before = hk_guard_enter(d->slot);
    bool fits = hk_consumer_fit(d);
    (void)hk_guard_enter(before);
    if (!fits)
        hk_delivery_clear(d);
    return fits;
}

hark_err hk_consumer_next(hark_sub *s, int64_t timeout_ns, hark_delivery **ret)
{
    hark_delivery *d = calloc(1, sizeof *d);
    if (!d)
        return HARK_ENOMEM;
    int64_t deadline = timeout_ns < 0 ? 0 : hk_mono_ns() + timeout_ns, left = timeout_ns;
    hark_err err = next(s, left, d);
    while (!err && !fit_pulled(d)) {
        if (timeout_ns >= 0)
            left = deadline - hk_mono_ns();
        if (timeout_ns >= 0 && left < 0)
            left = 0;
        err = next(s, left, d);
    }
    if (err)
        free(d);
    else
        *ret = d;
    return err;
}

/* ---- workers --------------------------------------------------------------------------------- */

/* Before a handler runs that may time out. */
static void worker_busy(hk_consumer *c, hk_worker *w, const hark_delivery *d)
{
    pthread_mutex_lock(&c->lock);
    w->lease = d->lease;
    w->generation = d->generation;
    w->busy = true;
    pthread_mutex_unlock(&c->lock);
    hk_watch_poke(c->sub->bus);
}

/* And after it. False when another thread has taken this one's place; from then on it does not count
 * as a thread, so that not two leave for one. */
static bool worker_free(hk_consumer *c, hk_worker *w)
{
    pthread_mutex_lock(&c->lock);
    c->stuck -= w->stuck;
    w->busy = w->stuck = false;
    w->left = c->threads > c->workers + c->stuck;
    c->threads -= w->left;
    bool stay = !w->left;
    hk_consumer_unlock(c);
    return stay;
}

/* The handler keeps the delivery: from here on it is held, not handled. */
static void kept(hk_consumer *c, hk_lease lease, uint64_t generation)
{
    pthread_mutex_lock(&c->lock);
    if (generation == c->generation && !c->stale)
        hk_cores_keep(c->cores, lease, c->hold_ns < 0 ? -1 : hk_mono_ns() + c->hold_ns);
    hk_consumer_unlock(c);
    hk_gate_open(&c->sub->gate); /* it may run out before what they wait for */
}

static void worker_link(hk_consumer *c, hk_worker *w, bool on)
{
    pthread_mutex_lock(&c->lock);
    hk_worker **link = &c->workers_first;
    while (!on && *link != w)
        link = &(*link)->next;
    if (on)
        w->next = *link;
    *link = on ? w : w->next;
    pthread_mutex_unlock(&c->lock);
}

/* Runs the handler on one delivery. NULL: the handler kept it. */
static hark_delivery *handle(hark_sub *s, hark_delivery *d, hk_worker *w, bool *ret_stay)
{
    hk_consumer *c = s->consumer;
    bool gap = d->gap_to != 0, watched = !gap && c->handler_ns >= 0;
    hk_lease lease = d->lease;
    uint64_t generation = d->generation;
    if (watched)
        worker_busy(c, w, d);
    (void)hk_guard_enter(d->slot);
    bool fits = hk_consumer_fit(d);
    hark_verdict v = fits ? s->fn(d, s->ud) : HARK_RETRY;
    hk_guard_leave();
    if (!fits) {
        hk_delivery_clear(d);
    } else if (v == HARK_LATER) { /* it may be settled, and gone, by now */
        if (!gap)
            kept(c, lease, generation);
        d = NULL;
    } else {
        if (gap)
            hk_consumer_gap_done(d);
        else
            (void)hk_consumer_settle(d, v == HARK_ACK || v == HARK_REJECT ? v : HARK_RETRY);
        hk_delivery_clear(d);
    }
    *ret_stay = !watched || worker_free(c, w);
    return d;
}

static void worker_end(hark_sub *s, hk_worker *w)
{
    hk_consumer *c = s->consumer;
    hark_bus *bus = s->bus;
    worker_link(c, w, false);
    pthread_mutex_lock(&c->lock);
    c->threads -= !w->left;
    hk_consumer_unlock(c);
    hk_guard_thread_end();
    hk_sub_release(s);
    hk_bus_thread_end(bus);
}

static void *worker_main(void *arg)
{
    hark_sub *s = arg;
    hk_worker me = {0};
    hark_delivery *d = NULL;
    bool stay = true;
    (void)hk_role_set(HK_ROLE_HANDLER);
    hk_guard_thread();
    worker_link(s->consumer, &me, true);
    while (stay) {
        if (!d && !(d = calloc(1, sizeof *d))) {
            (void)hk_gate_wait(&s->gate, hk_gate_look(&s->gate), TROUBLE_NS);
            if (hk_mark_get(&s->closed))
                break;
            continue;
        }
        if (next(s, -1, d))
            break;
        d = handle(s, d, &me, &stay);
    }
    free(d);
    worker_end(s, &me);
    return NULL;
}

hark_err hk_consumer_thread(hark_sub *s)
{
    hk_consumer *c = s->consumer;
    hk_sub_hold(s);
    hark_err err = hk_bus_thread(s->bus, "hark-consumer", worker_main, s);
    if (err) {
        pthread_mutex_lock(&c->lock);
        c->threads--;
        hk_consumer_unlock(c);
        hk_sub_release(s);
    }
    return err;
}

hark_err hk_consumer_start(hark_sub *s)
{
    hk_consumer *c = s->consumer;
    hark_err err = c->handler_ns >= 0 ? hk_watch_start(s->bus) : HARK_OK;
    for (size_t i = 0; !err && i < c->workers; i++) {
        pthread_mutex_lock(&c->lock);
        c->threads++;
        pthread_mutex_unlock(&c->lock);
        err = hk_consumer_thread(s);
        if (err && i > 0) {
            hk_log(HK_WARN, "consumer %s has %zu workers, not %zu: %s", s->name, i, c->workers,
                   hark_err_text(err));
            return HARK_OK;
        }
    }
    return err;
}
