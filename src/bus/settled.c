/* settled.c: who waits until a consumer has settled an event. The waiters of a bus belong to one
 * thread, which is started with the first of them: it looks for each at how far the consumer is
 * with its event (settled_look.c), and sleeps until a consumer's state moves, a deadline passes or
 * somebody comes. A consumer's threads pay one load for a bus on which nobody waits
 * (hk_settled_poke). */
#include "bus/bus_i.h"

#include <stdlib.h>
#include <string.h>

/* After a look the thread rests REST times as long as it took, since looking takes the consumers'
 * locks; but nobody is to wait for that for long. */
enum { REST = 4 };
#define REST_MOST_NS  (INT64_C(4) * 1000000)
#define DOUBT_NS      (INT64_C(2000) * 1000000)
#define LOOK_AGAIN_NS (INT64_C(20) * 1000000)

struct hk_waiter {
    hk_waiter *next;
    hk_sought sought;
    int64_t timeout_ms, deadline; /* mono, ns; -1 = never */
    bool doubtful;                /* its sequence is farther on than what is shown here */
    int64_t doubt; /* the log has not got there: it may until then; 0 = not looked yet */
    hark_settled_fn fn;
    void *ud;
    char consumer[];
};

void hk_settled_init(hk_settled *m)
{
    hk_gate_init(&m->gate);
    hk_gate_init(&m->end);
    hk_gate_init(&m->ended);
    pthread_mutex_init(&m->lock, NULL);
}

void hk_settled_free(hk_settled *m)
{
    pthread_mutex_destroy(&m->lock);
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static hark_err timed_out(const hk_sought *x, int64_t timeout_ms, hark_errinfo *ei)
{
    return hk_fail(
        ei, HARK_ETIMEDOUT,
        "consumer %.128s has not settled event %llu within %lld ms, its lag up to there is "
        "%llu; hark_why tells what it is at",
        x->consumer, (unsigned long long)x->seq, (long long)timeout_ms,
        (unsigned long long)x->ret.lag);
}

static hark_err not_in_log(const char *call, uint64_t seq, uint64_t newest, hark_errinfo *ei)
{
    return hk_fail(
        ei, HARK_EINVAL,
        "%s: sequence %llu is not in the log yet, whose newest is %llu; wait for what was "
        "published",
        call, (unsigned long long)seq, (unsigned long long)newest);
}

static hark_err closed(const char *consumer, uint64_t seq, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECLOSED,
                   "the bus was closed before consumer %.128s settled event %llu; ask again on an "
                   "open bus",
                   consumer, (unsigned long long)seq);
}

/* A waiter that is on no list any more. */
static void tell(hark_bus *bus, hk_waiter *w, hark_err err, const hark_errinfo *ei)
{
    (void)hk_count_sub(&bus->settled.waiting, 1);
    w->fn(err, &w->sought.ret, ei, w->ud);
    free(w);
}

static void tell_all(hark_bus *bus, hk_waiter *list, hark_err err)
{
    for (hk_waiter *next; list; list = next) {
        hark_errinfo ei = {0};
        next = list->next;
        if (err == HARK_ECLOSED)
            (void)closed(list->consumer, list->sought.seq, &ei);
        else
            (void)hk_fail(&ei, err, "the thread for waiters cannot be started: %s",
                          hark_err_text(err));
        tell(bus, list, err, &ei);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* Another process's event, which is not shown here yet, or nobody's. The store is asked once; what was appended and
 * removed since is seen by the tail alone. False: nothing is known yet. */
static bool look_at_end(hark_bus *bus, hk_waiter *w, int64_t now)
{
    hk_sought *x = &w->sought;
    uint64_t newest = hk_bus_visible(bus);
    if (!w->doubt) {
        x->err = hk_bus_newest(bus, &newest, &x->ei);
        w->doubt = now + DOUBT_NS;
    }
    if (x->err)
        return true;
    w->doubtful = newest < x->seq;
    x->again = w->doubtful ? now + LOOK_AGAIN_NS : -1;
    if (!w->doubtful || (now < w->doubt && (w->deadline < 0 || now < w->deadline)))
        return false;
    x->err = not_in_log("hark_settled_async", x->seq, newest, &x->ei);
    return true;
}

/* Looks for one; false: it waits on. */
static bool look_for(hk_settled_round *r, hk_waiter *w)
{
    hk_sought *x = &w->sought;
    if (w->doubtful && look_at_end(r->bus, w, hk_mono_ns()))
        return true;
    if (w->doubtful)
        return false;
    bool late = w->deadline >= 0 && hk_mono_ns() >= w->deadline;
    if (hk_settled_look(r, x))
        return true;
    if (late)
        x->err = timed_out(x, w->timeout_ms, &x->ei);
    return late;
}

/* Looks for all; when to look again (mono) even if nothing moves, -1 = never. */
static int64_t look_for_all(hark_bus *bus, hk_waiter **list)
{
    hk_settled_round r = {.bus = bus};
    hk_waiter *over = NULL, **over_last = &over;
    int64_t due = -1;
    for (hk_waiter **link = list, *w; (w = *link);) {
        if (!look_for(&r, w)) {
            due = hk_sooner(due, hk_sooner(w->deadline, w->sought.again));
            link = &w->next;
            continue;
        }
        *link = w->next;
        w->next = NULL;
        *over_last = w;
        over_last = &w->next;
    }
    hk_settled_round_end(&r);
    for (hk_waiter *next; over; over = next) {
        next = over->next;
        tell(bus, over, over->sought.err, &over->sought.ei);
    }
    return due;
}

/* Takes over who has come; false when the bus ends. */
static bool take_new(hk_settled *m, hk_waiter **list)
{
    pthread_mutex_lock(&m->lock);
    bool go_on = !m->stopping;
    while (*list)
        list = &(*list)->next;
    *list = m->come;
    m->come = NULL;
    pthread_mutex_unlock(&m->lock);
    return go_on;
}

/* After a look that took so long. */
static void rest(hk_settled *m, unsigned end, int64_t took)
{
    (void)hk_gate_wait(&m->end, end, took < REST_MOST_NS / REST ? took * REST : REST_MOST_NS);
}

/* Until something moves or is due. */
static void sleep_until(hk_settled *m, unsigned seen, int64_t due)
{
    int64_t wait = due < 0 ? -1 : due - hk_mono_ns();
    if (due < 0 || wait > 0)
        (void)hk_gate_wait(&m->gate, seen, wait);
}

/* Does the thread run? `still` false: no longer. */
static bool runs(hk_settled *m, bool still)
{
    pthread_mutex_lock(&m->lock);
    bool running = m->running &= still;
    pthread_mutex_unlock(&m->lock);
    return running;
}

static void *settled_main(void *arg)
{
    hark_bus *bus = arg;
    hk_settled *m = &bus->settled;
    hk_waiter *list = NULL;
    (void)hk_role_set(HK_ROLE_WRITER); /* callbacks must not block */
    for (;;) {
        unsigned seen = hk_gate_look(&m->gate), end = hk_gate_look(&m->end);
        if (!take_new(m, &list))
            break;
        int64_t began = hk_mono_ns();
        int64_t due = look_for_all(bus, &list);
        if (list)
            rest(m, end, hk_mono_ns() - began);
        sleep_until(m, seen, due);
    }
    tell_all(bus, list, HARK_ECLOSED);
    (void)runs(m, false);
    hk_gate_open(&m->ended);
    hk_bus_thread_end(bus);
    return NULL;
}

void hk_settled_stop(hark_bus *bus)
{
    hk_settled *m = &bus->settled;
    pthread_mutex_lock(&m->lock);
    m->stopping = true; /* from here on none is started */
    pthread_mutex_unlock(&m->lock);
    hk_gate_open(&m->end);
    hk_gate_open(&m->gate);
    for (;;) {
        unsigned seen = hk_gate_look(&m->ended);
        if (!runs(m, true))
            return;
        (void)hk_gate_wait(&m->ended, seen, -1);
    }
}

/* ---- coming ---------------------------------------------------------------------------------- */

/* No thread: who came meanwhile hears of it, but the caller of this is told by its return value. */
static void start_failed(hark_bus *bus, hk_waiter *own, hark_err err)
{
    hk_settled *m = &bus->settled;
    pthread_mutex_lock(&m->lock);
    hk_waiter *list = m->come, **link = &list;
    m->come = NULL;
    m->running = false;
    pthread_mutex_unlock(&m->lock);
    hk_gate_open(&m->ended); /* for a drain that has seen it running */
    while (*link != own)
        link = &(*link)->next;
    *link = own->next;
    (void)hk_count_sub(&m->waiting, 1);
    tell_all(bus, list, err);
}

/* On failure the waiter is the caller's still. */
static hark_err come(hark_bus *bus, hk_waiter *w)
{
    hk_settled *m = &bus->settled;
    pthread_mutex_lock(&m->lock);
    bool open = !m->stopping, start = open && !m->running;
    if (open) {
        w->next = m->come;
        m->come = w;
        m->running = true;
        (void)hk_count_add(&m->waiting, 1);
    }
    pthread_mutex_unlock(&m->lock);
    if (!open)
        return HARK_ECLOSED;
    hark_err err = start ? hk_bus_thread(bus, "hark-settled", settled_main, bus) : HARK_OK;
    if (err)
        start_failed(bus, w, err);
    else
        hk_gate_open(&m->gate);
    return err;
}

/* Is it in the log? On a direct store a receipt may come a moment before the event can be read: a reader waits for that. On a
 * shared store it may be another process's: the store is asked, or, for who is not to block, by the thread later. */
static hark_err check_in_log(hark_bus *bus, const char *call, uint64_t seq, bool may_ask,
                             hark_errinfo *ei)
{
    uint64_t newest = hk_bus_visible(bus);
    hark_event *e = NULL;
    hark_err err = HARK_OK;
    if (seq <= newest || (bus->info.shared && !may_ask))
        return HARK_OK;
    if (bus->info.shared)
        err = hk_bus_newest(bus, &newest, ei);
    else if (bus->info.direct && !hk_bus_read_one(bus, seq, &e, NULL))
        newest = hk_bus_visible(bus);
    hark_event_unref(e);
    return err || seq <= newest ? err : not_in_log(call, seq, newest, ei);
}

static hark_err check(hark_bus *bus, const char *call, const char *consumer, uint64_t seq,
                      int64_t timeout_ms, bool may_ask, hark_errinfo *ei)
{
    if (!consumer || !*consumer)
        return hk_fail(ei, HARK_EINVAL, "%s: no consumer is named", call);
    if (timeout_ms < -1)
        return hk_fail(ei, HARK_EINVAL, "%s: timeout_ms is %lld; -1 waits for ever", call,
                       (long long)timeout_ms);
    if (!hk_bus_accepts(bus))
        return hk_fail(ei, HARK_ECLOSED, "%s: the bus is closed", call);
    if (bus->info.live_only)
        return hk_no_log(bus, call, ei);
    return check_in_log(bus, call, seq, may_ask, ei);
}

static hark_err wait_async(hark_bus *bus, const char *consumer, uint64_t seq, int64_t timeout_ms,
                           hark_settled_fn fn, void *ud, hark_errinfo *ei)
{
    size_t size = strlen(consumer) + 1;
    hk_waiter *w = calloc(1, sizeof *w + size);
    if (!w)
        return hk_fail(ei, HARK_ENOMEM, "no memory to wait for consumer %.128s", consumer);
    memcpy(w->consumer, consumer, size);
    w->sought = (hk_sought){.consumer = w->consumer, .seq = seq, .again = -1};
    w->doubtful = bus->info.shared && seq > hk_bus_visible(bus);
    w->timeout_ms = timeout_ms;
    w->deadline = timeout_ms < 0 ? -1 : hk_mono_ns() + hk_ms_to_ns(timeout_ms);
    w->fn = fn;
    w->ud = ud;
    hark_err err = come(bus, w);
    if (!err)
        return HARK_OK;
    free(w);
    return err == HARK_ECLOSED ? closed(consumer, seq, ei)
                               : hk_fail(ei, err, "the thread for waiters cannot be started: %s",
                                         hark_err_text(err));
}

hark_err hark_settled_async(hark_bus *bus, const char *consumer, uint64_t sequence,
                            int64_t timeout_ms, hark_settled_fn fn, void *ud, hark_errinfo *ei)
{
    if (!fn)
        return hk_fail(ei, HARK_EINVAL, "hark_settled_async: fn is NULL");
    hark_err err = check(bus, "hark_settled_async", consumer, sequence, timeout_ms, false, ei);
    return err ? err : wait_async(bus, consumer, sequence, timeout_ms, fn, ud, ei);
}

/* ---- waiting here ---------------------------------------------------------------------------- */

typedef struct told {
    hark_settlement s;
    hark_errinfo ei;
    hark_err err;
    hk_gate done;
} told;

static void on_told(hark_err err, const hark_settlement *s, const hark_errinfo *ei, void *ud)
{
    told *t = ud;
    t->err = err;
    t->s = *s;
    t->ei = *ei;
    hk_gate_open(&t->done);
}

static hark_err wait_here(hark_bus *bus, const char *consumer, uint64_t seq, int64_t timeout_ms,
                          told *t)
{
    hk_gate_init(&t->done);
    hark_err err = wait_async(bus, consumer, seq, timeout_ms, on_told, t, &t->ei);
    if (err)
        return err;
    while (hk_gate_look(&t->done) == 0)
        (void)hk_gate_wait(&t->done, 0, -1);
    return t->err;
}

/* What is settled already needs no other thread. */
hark_err hark_settled(hark_bus *bus, const char *consumer, uint64_t sequence, int64_t timeout_ms,
                      hark_settlement *ret, hark_errinfo *ei)
{
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "hark_settled would block this thread; use hark_settled_async");
    hark_err err = check(bus, "hark_settled", consumer, sequence, timeout_ms, true, ei);
    if (err)
        return err;
    hk_settled_round r = {.bus = bus};
    hk_sought x = {.consumer = consumer, .seq = sequence, .again = -1};
    told t = {.err = HARK_OK};
    bool over = hk_settled_look(&r, &x);
    hk_settled_round_end(&r);
    if (!over && timeout_ms == 0)
        x.err = timed_out(&x, 0, &x.ei);
    else if (!over)
        x.err = wait_here(bus, consumer, sequence, timeout_ms, &t);
    if (ret && (!x.err || x.err == HARK_ETIMEDOUT || x.err == HARK_EDEAD))
        *ret = over || timeout_ms == 0 ? x.ret : t.s;
    if (ei && x.err)
        *ei = over || timeout_ms == 0 ? x.ei : t.ei;
    return x.err;
}
