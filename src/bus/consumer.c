/* consumer.c: durable consumers: threads, locks and the log around the pure core (src/delivery).
 * The core is stepped under the consumer's lock; handlers, reading and the store are outside it.
 * Its changes ride in the writer's groups: while one is on its way (`queued`) the next ones gather.
 */
#include "bus/bus_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 128, DEFAULT_WINDOW = 1024, DEFAULT_DEFERRED = 100000, DEFAULT_ATTEMPTS = 10 };
#define DEFAULT_RETRY_MS 1000
#define TROUBLE_NS       (INT64_C(100) * 1000000)

static hk_now now(void)
{
    return (hk_now){.mono = hk_mono_ns(), .wall = hk_wall_ns()};
}

static void drop_event(void *payload)
{
    hark_event_unref(payload);
}

/* ---- opening
 * ----------------------------------------------------------------------------------------- */

typedef struct policy {
    size_t max_deferred;
    int64_t retry_delay_ms, max_attempts;
} policy;

static policy policy_of(const hark_sub_opts *o)
{
    return (policy){.max_deferred = o->max_deferred ? o->max_deferred : DEFAULT_DEFERRED,
                    .retry_delay_ms = o->retry_delay_ms ? o->retry_delay_ms : DEFAULT_RETRY_MS,
                    .max_attempts = o->max_attempts ? o->max_attempts : DEFAULT_ATTEMPTS};
}

/* Canonical: fixed order, and what is default is left out, so that later settings change nothing
 * for consumers that do not use them. */
static void policy_text(const policy *p, hk_buf *b)
{
    hk_buf_addc(b, '{');
    if (p->max_attempts != DEFAULT_ATTEMPTS)
        hk_buf_addf(b, "\"max_attempts\":%lld,", (long long)p->max_attempts);
    if (p->max_deferred != DEFAULT_DEFERRED)
        hk_buf_addf(b, "\"max_deferred\":%zu,", p->max_deferred);
    if (p->retry_delay_ms != DEFAULT_RETRY_MS)
        hk_buf_addf(b, "\"retry_delay_ms\":%lld,", (long long)p->retry_delay_ms);
    if (b->len > 1)
        b->len--;
    hk_buf_addc(b, '}');
}

static hark_err open_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    return bus->ops->consumer_open(bus->store, ud, ei);
}

static hark_err load(hk_consumer *c, const policy *p, const hark_sub_opts *o,
                     const hark_store_consumer *state)
{
    const hk_core_opts core = {.workers = c->workers,
                               .window = o->window ? o->window : DEFAULT_WINDOW,
                               .max_deferred = p->max_deferred,
                               .retry_delay_ns = hk_ms_to_ns(p->retry_delay_ms),
                               .max_attempts = p->max_attempts,
                               .drop = drop_event};
    c->id = state->ret_id;
    c->generation = state->ret_generation;
    c->core = hk_core_new(&core);
    return c->core ? hk_core_load(c->core, state, now()) : HARK_ENOMEM;
}

hark_err hk_consumer_open(hark_sub *s, const hark_sub_opts *o, hark_errinfo *ei)
{
    hk_consumer *c = calloc(1, sizeof *c);
    hk_buf text = {0};
    policy p = policy_of(o);
    policy_text(&p, &text);
    if (!c || text.failed) {
        free(c);
        hk_buf_free(&text);
        return HARK_ENOMEM;
    }
    c->work.kind = HK_SAVE;
    c->sub = s;
    c->workers = o->workers ? o->workers : 1;
    pthread_mutex_init(&c->lock, NULL);
    s->consumer = c;
    hark_store_consumer state = {.size = sizeof state,
                                 .name = s->name,
                                 .pattern = s->pattern,
                                 .policy = text.data,
                                 .update = o->update,
                                 .start = o->start,
                                 .start_sequence = o->start_sequence,
                                 .start_time_ns = o->start_time_ns};
    hark_err err = hk_writer_start(s->bus);
    if (!err)
        err = hk_writer_run(s->bus, open_job, &state, ei);
    if (!err)
        err = load(c, &p, o, &state);
    hark_store_consumer_clear(&state);
    hk_buf_free(&text);
    return err;
}

void hk_consumer_free(hark_sub *s)
{
    hk_core_free(s->consumer->core);
    pthread_mutex_destroy(&s->consumer->lock);
    free(s->consumer);
}

/* ---- saving
 * ------------------------------------------------------------------------------------------ */

/* Under the lock: must the caller push the consumer to the writer, after unlocking? */
static bool needs_push(hk_consumer *c)
{
    hk_dirt dirt = hk_core_dirt(c->core);
    if (dirt == HK_CLEAN)
        return false;
    if (c->queued) {
        if (dirt == HK_DIRTY_URGENT)
            hk_inbox_wake(&c->sub->bus->writer.inbox);
        return false;
    }
    c->queued = true;
    hk_sub_hold(c->sub);
    return true;
}

/* Under the lock: is it closed, nothing runs, and nothing is left to save? */
static bool is_over(hk_consumer *c)
{
    return hk_mark_get(&c->sub->closed) && c->threads == 0 && c->running == 0 && !c->queued &&
           (hk_core_dirt(c->core) == HK_CLEAN || hk_mark_get(&c->sub->bus->gate) == HK_CLOSED);
}

/* Unlocks, and does what must be done without the lock. */
static void unlock(hk_consumer *c)
{
    bool push = needs_push(c), over = !push && is_over(c);
    pthread_mutex_unlock(&c->lock);
    if (push)
        hk_writer_push(c->sub->bus, &c->work);
    if (over)
        hk_sub_ended(c->sub);
}

hk_dirt hk_consumer_dirt(hk_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    hk_dirt dirt = hk_core_dirt(c->core);
    pthread_mutex_unlock(&c->lock);
    return dirt;
}

bool hk_consumer_collect(hk_consumer *c, hark_store_save *save)
{
    pthread_mutex_lock(&c->lock);
    hark_err err = hk_core_collect(c->core, save);
    c->collected = !err;
    save->consumer = c->id;
    save->generation = c->generation;
    pthread_mutex_unlock(&c->lock);
    return !err;
}

void hk_consumer_saved(hk_consumer *c, bool ok)
{
    hark_sub *s = c->sub;
    pthread_mutex_lock(&c->lock);
    if (c->collected)
        hk_core_saved(c->core, ok);
    c->collected = false;
    c->queued = false;
    if (hk_mark_get(&s->bus->gate) == HK_CLOSED) { /* nobody will save any more */
        bool over = is_over(c);
        pthread_mutex_unlock(&c->lock);
        if (over)
            hk_sub_ended(s);
    } else {
        unlock(c);
    }
    hk_gate_open(&s->gate);
    hk_sub_release(s);
}

/* ---- reading
 * ----------------------------------------------------------------------------------------- */

/* Under the lock. One at a time: who notes one hands it out before anything else. */
static void note_gap(hk_consumer *c, uint64_t from, uint64_t to)
{
    hk_sub_gap(c->sub, from, to);
    if (!(c->sub->flags & HARK_SUB_GAPS))
        return;
    c->gap_from = from;
    c->gap_to = to;
}

/* Under the lock: what a page brought. Returns false when memory is out: the rest is read again. */
static bool arrive(hk_consumer *c, hark_store_page *page)
{
    bool ok = true;
    for (size_t i = 0; i < page->n; i++) {
        hark_event *e = page->events[i];
        bool kept = false;
        if (ok) {
            ok = hk_core_arrive(c->core, hark_event_sequence(e), hark_event_key(e), e, &kept) ==
                 HARK_OK;
            if (ok)
                hk_core_cover(c->core, hark_event_sequence(e));
        }
        if (!kept)
            hark_event_unref(e);
    }
    if (ok)
        hk_core_cover(c->core, page->covered);
    return ok;
}

/* Under the lock, which it gives up while it reads. False when the store is in trouble. */
static bool read_more(hk_consumer *c)
{
    hark_sub *s = c->sub;
    hark_event *events[PAGE];
    size_t room = hk_core_room(c->core);
    uint64_t after = hk_core_covered(c->core);
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
    if (err) {
        if (err != HARK_ECLOSED)
            hk_log(HK_WARN, "consumer %s cannot read the log: %s", s->name, ei.text);
        return false;
    }
    if (page.gap > after)
        note_gap(c, after + 1, page.gap);
    bool ok = arrive(c, &page);
    if (c->workers > 1 || !s->fn)
        hk_gate_open(&s->gate);
    return ok;
}

/* The event of a row in the ledger; NULL when the log no longer has it, err when it cannot tell. */
static hark_event *read_one(hark_sub *s, uint64_t seq, hark_err *ret_err)
{
    hark_event *e = NULL;
    const hark_store_query q = {.size = sizeof q, .after = seq - 1, .before = seq + 1, .limit = 1};
    hark_store_page page = {.events = &e};
    *ret_err = hk_bus_read(s->bus, &q, &page, NULL);
    return *ret_err || page.n == 0 ? NULL : e;
}

/* ---- taking the next delivery
 * --------------------------------------------------------------------------- */

static void fill_delivery(hk_consumer *c, hark_delivery *d, const hk_started *st)
{
    hk_sub_deliver(c->sub, d, hark_event_ref(hk_item_payload(st->item)));
    d->seq = st->seq;
    d->attempt = st->attempt;
    d->item = st->item;
    d->generation = c->generation;
}

static bool may_deliver(hk_consumer *c)
{
    return !hk_mark_get(&c->sub->closed) && hk_bus_accepts(c->sub->bus);
}

static bool take_gap(hk_consumer *c, hark_delivery *d)
{
    if (!c->gap_to)
        return false;
    hk_sub_deliver(c->sub, d, NULL);
    d->seq = d->gap_to = c->gap_to;
    d->gap_from = c->gap_from;
    c->gap_to = 0;
    return true;
}

/* Under the lock, which it gives up while it reads: one delivery that may start now. */
static bool start_one(hk_consumer *c, hark_delivery *d, bool *ret_trouble)
{
    hk_started st;
    if (take_gap(c, d))
        return true;
    while (hk_core_start(c->core, now(), &st)) {
        c->running++;
        if (!st.payload) {
            hark_err err;
            pthread_mutex_unlock(&c->lock);
            hark_event *e = read_one(c->sub, st.seq, &err);
            pthread_mutex_lock(&c->lock);
            if (e)
                hk_item_payload_set(c->core, st.item, e);
            if (err || !may_deliver(c)) { /* the store is in trouble, or closed meanwhile: later */
                hk_core_unstart(c->core, st.item);
                c->running--;
                *ret_trouble = true;
                return false;
            }
            if (!e) { /* no longer retained: an explicit gap */
                note_gap(c, st.seq, st.seq);
                (void)hk_core_settle(c->core, st.item, HARK_ACK, 0, NULL, now());
                c->running--;
                if (take_gap(c, d))
                    return true;
                continue;
            }
        }
        fill_delivery(c, d, &st);
        hk_bus_running(c->sub->bus, 1);
        hk_count_bump(&c->sub->delivered, 1);
        return true;
    }
    return false;
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

/* How long to sleep when nothing may start, at most `left`. */
static int64_t nap(hk_consumer *c, int64_t left, bool trouble)
{
    int64_t due = hk_core_due(c->core);
    if (due >= 0) {
        due -= hk_mono_ns();
        due = due > 0 ? due : 0;
    }
    int64_t t = sooner(left, due);
    return trouble ? sooner(t, TROUBLE_NS) : t;
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
        if (!may_deliver(c)) {
            unlock(c);
            return HARK_ECLOSED;
        }
        if (start_one(c, d, &trouble)) {
            unlock(c);
            return HARK_OK;
        }
        if (hk_core_room(c->core) > 0 && hk_core_covered(c->core) < hk_bus_visible(s->bus)) {
            trouble = c->reading || !read_more(c); /* who else reads may fail */
            if (!trouble)
                continue;
        }
        int64_t left = timeout_ns < 0 ? -1 : deadline - hk_mono_ns();
        if (timeout_ns >= 0 && left <= 0) {
            unlock(c);
            return HARK_ETIMEDOUT;
        }
        int64_t wait = nap(c, left, trouble);
        unlock(c);
        (void)hk_gate_wait(&s->gate, seen, wait);
        pthread_mutex_lock(&c->lock);
    }
}

hark_err hk_consumer_next(hark_sub *s, int64_t timeout_ns, hark_delivery **ret)
{
    hark_delivery *d = calloc(1, sizeof *d);
    if (!d)
        return HARK_ENOMEM;
    hark_err err = next(s, timeout_ns, d);
    if (err)
        free(d);
    else
        *ret = d;
    return err;
}

/* ---- settling
 * ---------------------------------------------------------------------------------------- */

static void count_verdict(hark_sub *s, hark_verdict verdict)
{
    hk_count_bump(verdict == HARK_ACK     ? &s->acked
                  : verdict == HARK_RETRY ? &s->retried
                                          : &s->rejected,
                  1);
}

hark_err hk_consumer_settle(hark_delivery *d, hark_verdict verdict)
{
    hark_sub *s = d->sub;
    hk_consumer *c = s->consumer;
    hark_err err = HARK_OK;
    int64_t delay_ns = d->delay_ms < 0 ? -1 : hk_ms_to_ns(d->delay_ms);
    pthread_mutex_lock(&c->lock);
    if (d->generation != c->generation) {
        err = HARK_ESTALE;
    } else if (hk_mark_get(&s->bus->gate) == HK_CLOSED) {
        hk_core_unstart(c->core, d->item);
        err = HARK_ECLOSED;
    } else {
        count_verdict(s, hk_core_settle(c->core, d->item, verdict, delay_ns, d->error, now()));
    }
    c->running--;
    unlock(c);
    hk_gate_open(&s->gate); /* a lane or a place came free; a load and a step when nobody waits */
    hk_bus_running(s->bus, -1);
    return err;
}

/* ---- workers
 * ----------------------------------------------------------------------------------------- */

static void *worker_main(void *arg)
{
    hark_sub *s = arg;
    hk_consumer *c = s->consumer;
    hark_bus *bus = s->bus;
    (void)hk_role_set(HK_ROLE_HANDLER);
    hark_delivery *d = NULL;
    for (;;) {
        if (!d && !(d = calloc(1, sizeof *d))) {
            (void)hk_gate_wait(&s->gate, hk_gate_look(&s->gate), TROUBLE_NS);
            if (hk_mark_get(&s->closed))
                break;
            continue;
        }
        if (next(s, -1, d))
            break;
        bool gap = d->gap_to != 0;
        hark_verdict v = s->fn(d, s->ud);
        if (v == HARK_LATER) { /* it may be settled, and gone, by now */
            d = NULL;
            continue;
        }
        if (!gap)
            (void)hk_consumer_settle(d, v == HARK_ACK || v == HARK_REJECT ? v : HARK_RETRY);
        hk_delivery_clear(d);
    }
    free(d);
    pthread_mutex_lock(&c->lock);
    c->threads--;
    unlock(c);
    hk_sub_release(s);
    hk_bus_thread_end(bus);
    return NULL;
}

hark_err hk_consumer_start(hark_sub *s)
{
    hk_consumer *c = s->consumer;
    for (size_t i = 0; i < c->workers; i++) {
        pthread_mutex_lock(&c->lock);
        c->threads++;
        pthread_mutex_unlock(&c->lock);
        hk_sub_hold(s);
        hark_err err = hk_bus_thread(s->bus, "hark-consumer", worker_main, s);
        if (!err)
            continue;
        pthread_mutex_lock(&c->lock);
        c->threads--;
        pthread_mutex_unlock(&c->lock);
        hk_sub_release(s);
        if (i == 0)
            return err;
        hk_log(HK_WARN, "consumer %s has %zu workers, not %zu: %s", s->name, i, c->workers,
               hark_err_text(err));
        break;
    }
    return HARK_OK;
}

void hk_consumer_closed(hark_sub *s)
{
    pthread_mutex_lock(&s->consumer->lock);
    unlock(s->consumer);
}
