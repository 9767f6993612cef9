/* tailer.c: follows what other processes append to a shared log. The thread hark-tail waits at the store, reads what is new, and
 * with the writer's role shows and dispatches it, page by page, as the writer does with its own events. The writer
 * does the same (hk_tailer_catch_up) when others came before its group: the tail grows in sequence order only, and what one of the two
 * has shown the other passes over. Also tells the rest of the bus what else the store has to tell. */
#include "bus/party_i.h"

#include <stdlib.h>

enum { PAGE = 512 };
#define PAGE_BYTES ((size_t)4 << 20)
#define WAIT_NS    INT64_C(1000000000)
#define FIRST_NS   INT64_C(10000000) /* pauses when the store fails, growing */
#define LONGEST_NS INT64_C(1000000000)

struct hk_tailer {
    hark_bus *bus;
    pthread_t thread;
    hk_mark stopping;
    hk_gate gate;                /* opened at the stop: ends a pause */
    uint64_t lost_from, lost_to; /* to be told of, when all before it is shown; 0 = nothing */
    int64_t fails;               /* in a row */
    uint64_t rng;
    hark_event *page[PAGE];
};

/* ---- with the writer's role ------------------------------------------------------------------ */

/* Part of the log is gone before it was shown here: live subscriptions look at the log, where they find the gap as any reader does; one
 * that a server lost (`lost_to`) is not to be seen there. */
static void skip(hark_bus *bus, uint64_t upto, uint64_t lost_from, uint64_t lost_to)
{
    hk_tail_skip(&bus->tail, upto);
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next) {
        if (hk_mark_get(&s->closed))
            continue;
        if (s->consumer) {
            hk_gate_open(&s->gate);
            continue;
        }
        if (lost_to)
            hk_live_lost(s, lost_from, lost_to);
        hk_live_fall_behind(s);
        hk_live_ring(s);
    }
    pthread_mutex_unlock(&bus->lock);
}

/* What was shown since the page was read is passed over; so are sequences that it does not have: retention was quicker. */
static void show(hark_bus *bus, hark_store_page *page, uint64_t upto)
{
    uint64_t visible = hk_bus_visible(bus);
    uint64_t covered = page->covered < upto ? page->covered : upto;
    size_t n = 0;
    if (page->gap > visible)
        skip(bus, visible = page->gap, 0, 0);
    for (size_t i = 0; i < page->n; i++) {
        hark_event *e = page->events[i];
        uint64_t seq = hark_event_sequence(e);
        if (seq <= visible) {
            hark_event_unref(e);
            continue;
        }
        if (seq > visible + 1)
            hk_tail_skip(&bus->tail, seq - 1);
        hk_event_ref_n(e, 1);
        hk_tail_fill(&bus->tail, seq, e);
        hk_tail_admit(&bus->tail, seq, e);
        hk_tail_show(&bus->tail, visible = seq);
        page->events[n++] = e;
    }
    if (covered > visible) {
        hk_tail_skip(&bus->tail, covered);
        hk_sweep_note(bus);
    }
    page->n = 0;
    if (n)
        hk_dispatch_all(bus, page->events, n);
}

/* ---- reading --------------------------------------------------------------------------------- */

static hark_err read_page(hark_bus *bus, uint64_t after, uint64_t upto, hark_store_page *page,
                          hark_errinfo *ei)
{
    const hark_store_query q = {.size = sizeof q,
                                .after = after,
                                .before = upto + 1,
                                .limit = PAGE,
                                .limit_bytes = PAGE_BYTES};
    page->n = 0;
    page->gap = 0;
    page->covered = after;
    return bus->ops->read(bus->store, &q, page, ei);
}

/* It would be read again and again. */
static hark_err no_progress(uint64_t after, uint64_t upto, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ESTORE,
                   "the store says that the log ends at sequence %llu, but shows nothing after "
                   "%llu; it is read again",
                   (unsigned long long)upto, (unsigned long long)after);
}

hark_err hk_tailer_catch_up(hark_bus *bus, uint64_t upto, hark_errinfo *ei)
{
    hark_event *events[PAGE];
    hark_store_page page = {.events = events};
    for (uint64_t after; (after = hk_bus_visible(bus)) < upto;) {
        hark_err err = read_page(bus, after, upto, &page, ei);
        if (err)
            return err;
        show(bus, &page, upto);
        if (hk_bus_visible(bus) == after)
            return no_progress(after, upto, ei);
    }
    return HARK_OK;
}

/* The same without the role: that is taken for each page that was read, so that the writer need not wait for a server. */
static hark_err follow(hk_tailer *t, uint64_t upto, hark_errinfo *ei)
{
    hark_bus *bus = t->bus;
    hark_store_page page = {.events = t->page};
    for (uint64_t after; !hk_mark_get(&t->stopping) && (after = hk_bus_visible(bus)) < upto;) {
        hark_err err = read_page(bus, after, upto, &page, ei);
        if (err)
            return err;
        pthread_mutex_lock(&bus->writer.role);
        show(bus, &page, upto);
        pthread_mutex_unlock(&bus->writer.role);
        if (hk_bus_visible(bus) == after)
            return no_progress(after, upto, ei);
    }
    return HARK_OK;
}

/* ---- history that a server lost -------------------------------------------------------------- */

/* Open consumers, with holds; the caller frees *ret. */
static hark_err open_consumers(hark_bus *bus, hark_sub ***ret, size_t *ret_n)
{
    size_t n = 0;
    hark_err err = HARK_OK;
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next)
        n += !hk_mark_get(&s->closed) && s->consumer;
    *ret_n = 0;
    *ret = n ? calloc(n, sizeof(hark_sub *)) : NULL;
    if (n && !*ret)
        err = HARK_ENOMEM;
    for (hark_sub *s = bus->subs; *ret && s; s = s->next)
        if (*ret_n < n && !hk_mark_get(&s->closed) && s->consumer) {
            hk_sub_hold(s);
            (*ret)[(*ret_n)++] = s;
        }
    pthread_mutex_unlock(&bus->lock);
    return err;
}

/* Under `admin`, as retention's gaps: a consumer that is being opened either finds the log as it is now, or is found here. */
static hark_err tell_lost(hk_tailer *t)
{
    hark_bus *bus = t->bus;
    hark_sub **subs;
    size_t n;
    hark_err err = open_consumers(bus, &subs, &n);
    if (err)
        return err;
    pthread_mutex_lock(&bus->writer.role);
    uint64_t visible = hk_bus_visible(bus);
    skip(bus, visible > t->lost_to ? visible : t->lost_to, t->lost_from, t->lost_to);
    pthread_mutex_unlock(&bus->writer.role);
    for (size_t i = 0; i < n; i++) {
        hk_consumer_gap(subs[i], t->lost_from, t->lost_to);
        hk_sub_release(subs[i]);
    }
    free(subs);
    return HARK_OK;
}

/* What is left of the log before it comes first. */
static hark_err pass_lost(hk_tailer *t, hark_errinfo *ei)
{
    if (!t->lost_to)
        return HARK_OK;
    hark_err err = follow(t, t->lost_from - 1, ei);
    if (err || hk_mark_get(&t->stopping))
        return err;
    pthread_mutex_lock(&t->bus->admin);
    err = tell_lost(t);
    pthread_mutex_unlock(&t->bus->admin);
    if (err)
        return hk_fail(ei, err, "no memory to tell consumers of a gap");
    hk_log(
        HK_WARN,
        "%s: the server has lost history that was committed: sequences %llu to %llu are gone, and "
        "are told as a gap; the log goes on above",
        t->bus->ops->scheme, (unsigned long long)t->lost_from, (unsigned long long)t->lost_to);
    t->lost_from = t->lost_to = 0;
    return HARK_OK;
}

static void note_lost(hk_tailer *t, const hark_store_tail *x)
{
    if (!x->lost_to)
        return;
    uint64_t from = x->lost_from ? x->lost_from : 1;
    t->lost_from = t->lost_to && t->lost_from < from ? t->lost_from : from;
    t->lost_to = t->lost_to > x->lost_to ? t->lost_to : x->lost_to;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static hark_err take_news(hk_tailer *t, const hark_store_tail *x, hark_errinfo *ei)
{
    hk_mark_set(&t->bus->epoch, x->epoch);
    note_lost(t, x);
    if (x->shares)
        hk_party_poke(t->bus);
    if (x->schedules)
        hk_schedules_hint(t->bus);
    hark_err err = pass_lost(t, ei);
    return err ? err : follow(t, x->last, ei);
}

/* Told once, until it goes well again. */
static void failed(hk_tailer *t, hark_err err, const hark_errinfo *ei)
{
    if (t->fails++ == 0)
        hk_log(HK_WARN, "%s: what other processes publish does not come just now: %s",
               t->bus->ops->scheme, hk_err_says(err, ei));
    unsigned seen = hk_gate_look(&t->gate);
    if (!hk_mark_get(&t->stopping))
        (void)hk_gate_wait(&t->gate, seen, hk_backoff(FIRST_NS, LONGEST_NS, t->fails, &t->rng));
}

/* Hints may have been missed meanwhile. */
static void goes_well(hk_tailer *t)
{
    if (!t->fails)
        return;
    t->fails = 0;
    hk_party_poke(t->bus);
    hk_schedules_hint(t->bus);
}

static void *tail_main(void *arg)
{
    hk_tailer *t = arg;
    hark_bus *bus = t->bus;
    (void)hk_role_set(HK_ROLE_WRITER); /* dispatch may give back data of the program */
    while (!hk_mark_get(&t->stopping)) {
        hark_errinfo ei = {0};
        hark_store_tail x = {.size = sizeof x};
        hark_err err = bus->ops->tail(bus->store, hk_bus_visible(bus), WAIT_NS, &x, &ei);
        if (!err)
            err = take_news(t, &x, &ei);
        if (err)
            failed(t, err, &ei);
        else
            goes_well(t);
    }
    return NULL;
}

hark_err hk_tailer_start(hark_bus *bus, hark_errinfo *ei)
{
    if (!bus->info.shared)
        return HARK_OK;
    hk_tailer *t = calloc(1, sizeof *t);
    if (!t)
        return hk_fail(ei, HARK_ENOMEM, "no memory to follow a shared log");
    t->bus = bus;
    hk_gate_init(&t->gate);
    hk_random(&t->rng, sizeof t->rng);
    hark_err err = hk_thread_start(&t->thread, "hark-tail", tail_main, t);
    if (err) {
        free(t);
        return hk_fail(ei, err, "the thread that follows a shared log cannot be started: %s",
                       hark_err_text(err));
    }
    bus->tailer = t;
    return HARK_OK;
}

void hk_tailer_stop(hark_bus *bus)
{
    hk_tailer *t = bus->tailer;
    if (!t)
        return;
    hk_mark_set(&t->stopping, 1);
    hk_gate_open(&t->gate);
    bus->ops->tail_wake(bus->store);
    pthread_join(t->thread, NULL);
    free(t);
    bus->tailer = NULL;
}
