/* bus.c: the life of a bus: open, references, drain, end. */
#include "bus/party_i.h"
#include "bus/versions_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEASE_MS = 10000, LEASE_LEAST_MS = 500 };

static size_t power_of_two(size_t n)
{
    size_t p = 64;
    while (p < n && p < SIZE_MAX / 4)
        p *= 2;
    return p;
}

static size_t or_default(size_t given, size_t standard)
{
    return given ? given : standard;
}

static hark_err take_opts(const hark_bus_opts *opts, hark_bus_opts *o, hark_errinfo *ei)
{
    hark_err err = hk_opts_take(opts, o, sizeof *o, "hark_bus_opts", ei);
    if (err)
        return err;
    if (o->flags & ~(int64_t)HARK_OPEN_EXISTING)
        return hk_fail(ei, HARK_EINVAL, "hark_bus_opts.flags is %lld; known is %d",
                       (long long)o->flags, HARK_OPEN_EXISTING);
    if (o->min_durability < HARK_ANY || o->min_durability > HARK_REPLICATED)
        return hk_fail(ei, HARK_EINVAL, "hark_bus_opts.min_durability is %lld; see hark_durability",
                       (long long)o->min_durability);
    if (o->tail_events > (size_t)1 << 28)
        return hk_fail(ei, HARK_EINVAL, "hark_bus_opts.tail_events is %zu; at most 2^28",
                       o->tail_events);
    if (o->group_events > (size_t)1 << 20)
        return hk_fail(ei, HARK_EINVAL, "hark_bus_opts.group_events is %zu; at most 2^20",
                       o->group_events);
    if (o->lease_ms && o->lease_ms < LEASE_LEAST_MS)
        return hk_fail(ei, HARK_EINVAL, "hark_bus_opts.lease_ms is %lld; at least %d, 0 = %d",
                       (long long)o->lease_ms, LEASE_LEAST_MS, LEASE_MS);
    o->source = o->source ? o->source : "/hark";
    o->queue_events = or_default(o->queue_events, 65536);
    o->queue_bytes = or_default(o->queue_bytes, (size_t)64 << 20);
    o->group_events = or_default(o->group_events, 4096);
    o->max_event_bytes = or_default(o->max_event_bytes, (size_t)16 << 20);
    o->tail_events = power_of_two(or_default(o->tail_events, 8192));
    o->tail_bytes = or_default(o->tail_bytes, (size_t)64 << 20);
    o->drain_ms = o->drain_ms ? o->drain_ms : 5000;
    o->lease_ms = o->lease_ms ? o->lease_ms : LEASE_MS;
    return hk_attr_check("source", o->source, strlen(o->source), HARK_ATTR_MAX, ei);
}

static void committed(void *ud, hark_event *const *events, size_t n)
{
    hark_bus *bus = ud;
    if (bus->ops->send) /* without a log: all that there is of its tail is how far it has come */
        hk_tail_show(&bus->tail, hark_event_sequence(events[n - 1]));
    hk_dispatch_all(bus, events, n);
}

static void lost(void *ud, const char *type, uint64_t from, uint64_t to, hark_gap_cause cause)
{
    hark_bus *bus = ud;
    hk_tail_show(&bus->tail, to);
    hk_lost_tell(bus, type, from, to, cause);
}

/* The party first: the writer asks it for the server's clock. */
static hark_err start_threads(hark_bus *bus, hark_errinfo *ei)
{
    hark_err err = hk_party_start(bus, ei);
    if (!err)
        err = hk_writer_start(bus);
    if (err)
        hk_party_stop(bus);
    return err;
}

static hark_err open_store(hark_bus *bus, const char *rest, hark_errinfo *ei)
{
    const hark_store_opts o = {.size = sizeof o,
                               .retain_events = bus->opts.tail_events,
                               .retain_bytes = bus->opts.tail_bytes,
                               .existing = bus->opts.flags & HARK_OPEN_EXISTING,
                               .lease_ms = bus->opts.lease_ms};
    const hark_store_host host = {
        .size = sizeof host, .ud = bus, .committed = committed, .lost = lost};
    hark_err err = bus->ops->open(rest, &o, &host, &bus->store, ei);
    if (err)
        return err;
    bus->store_open = true;
    bus->opened_wall = hk_wall_ns();
    bus->opened_mono = hk_mono_ns();
    bus->ops->info(bus->store, &bus->info);
    hk_mark_set(&bus->durability, (uint64_t)bus->info.durability);
    hk_mark_set(&bus->epoch, bus->info.epoch);
    if (bus->info.durability < bus->opts.min_durability)
        return hk_fail(ei, HARK_EDURABILITY, "the store gives class %s, not the %s asked for",
                       hark_durability_name((hark_durability)bus->info.durability),
                       hark_durability_name((hark_durability)bus->opts.min_durability));
    if (bus->info.live_only)
        return hk_writer_start(bus);
    err = hk_schedules_open(bus, ei);
    if (err || bus->info.direct)
        return err;
    err = hk_tail_init(&bus->tail, bus->opts.tail_events, bus->opts.tail_bytes);
    if (err)
        return err;
    hk_tail_start(&bus->tail, bus->info.last_sequence);
    return start_threads(bus, ei);
}

static void bus_free(hark_bus *bus)
{
    if (bus->store_open) /* first: a thread of its own may dispatch until then */
        bus->ops->close(bus->store);
    hk_dispatch_free(&bus->dispatch);
    hk_schedules_close(bus);
    hk_replays_free(bus);
    hk_retains_free(bus);
    hk_given_up_free(bus);
    hk_upcast_free(bus);
    hk_party_free(bus);
    hk_figures_free(bus);
    hk_tail_free(&bus->tail);
    free(bus->writer.fresh);
    free(bus->source);
    pthread_rwlock_destroy(&bus->store_lock);
    pthread_mutex_destroy(&bus->lock);
    pthread_mutex_destroy(&bus->turn);
    pthread_mutex_destroy(&bus->writer.role);
    pthread_mutex_destroy(&bus->writer.sched_lock);
    pthread_mutex_destroy(&bus->admin);
    hk_settled_free(&bus->settled);
    pthread_cond_destroy(&bus->changed);
    free(bus);
    (void)hk_count_sub(&hk_buses, 1);
}

static hark_bus *bus_new(const hark_bus_opts *o)
{
    hark_bus *bus = hk_zalloc_lines(sizeof *bus);
    char *source = hk_strdup(o->source);
    if (!bus || !source) {
        free(bus);
        free(source);
        return NULL;
    }
    (void)hk_count_add(&hk_buses, 1);
    hk_ref_init(&bus->users, 1);
    hk_ref_init(&bus->holds, 1);
    bus->opts = *o;
    bus->opts.source = bus->source = source;
    pthread_rwlock_init(&bus->store_lock, NULL);
    pthread_mutex_init(&bus->lock, NULL);
    pthread_mutex_init(&bus->turn, NULL);
    hk_cond_init(&bus->changed);
    hk_gate_init(&bus->room);
    hk_inbox_init(&bus->writer.inbox);
    hk_gate_init(&bus->writer.room);
    pthread_mutex_init(&bus->writer.role, NULL);
    pthread_mutex_init(&bus->writer.sched_lock, NULL);
    pthread_mutex_init(&bus->admin, NULL);
    hk_gate_init(&bus->watch);
    hk_settled_init(&bus->settled);
    return bus;
}

hark_err hark_open(const char *url, const hark_bus_opts *opts, hark_bus **ret, hark_errinfo *ei)
{
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD, "hark_open would block this thread");
    hark_bus_opts o;
    const hark_store_ops *ops;
    const char *rest;
    hark_err err = take_opts(opts, &o, ei);
    if (!err)
        err = hk_store_find(url, &ops, &rest, ei);
    if (err)
        return err;
    hark_bus *bus = bus_new(&o);
    if (!bus)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a bus");
    bus->ops = ops;
    err = open_store(bus, rest, ei);
    if (err) {
        bus_free(bus);
        return err;
    }
    *ret = bus;
    return HARK_OK;
}

hark_bus *hark_bus_ref(hark_bus *bus)
{
    if (bus)
        hk_ref_get(&bus->users, 1);
    return bus;
}

/* Something came to its end. When nobody is left who could publish, the topics are let go: they
 * hold subscriptions, and these the bus. */
static void something_ended(hark_bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    bool last = bus->unused && bus->threads == 0 && hk_mark_get_strong(&bus->running) == 0;
    bus->unused &= !last;
    pthread_cond_broadcast(&bus->changed);
    pthread_mutex_unlock(&bus->lock);
    if (last)
        hk_dispatch_free(&bus->dispatch);
}

hark_bus *hark_bus_unref(hark_bus *bus)
{
    if (!bus || !hk_ref_put(&bus->users))
        return NULL;
    hark_errinfo ei;
    if (hark_drain(bus, bus->opts.drain_ms, &ei))
        hk_log(HK_WARN, "%s", ei.text);
    pthread_mutex_lock(&bus->lock);
    while (bus->threads > 0 &&
           hk_cond_wait(&bus->changed, &bus->lock, hk_ms_to_ns(bus->opts.drain_ms)))
        ;
    bus->unused = true;
    pthread_mutex_unlock(&bus->lock);
    something_ended(bus);
    hk_bus_release(bus);
    return NULL;
}

void hk_bus_hold(hark_bus *bus)
{
    hk_ref_get(&bus->holds, 1);
}

void hk_bus_release(hark_bus *bus)
{
    if (hk_ref_put(&bus->holds))
        bus_free(bus);
}

/* ---- threads --------------------------------------------------------------------------------- */

hark_err hk_bus_thread(hark_bus *bus, const char *name, void *(*fn)(void *), void *arg)
{
    pthread_mutex_lock(&bus->lock);
    bus->threads++;
    pthread_mutex_unlock(&bus->lock);
    hk_bus_hold(bus);
    pthread_t t;
    hark_err err = hk_thread_start(&t, name, fn, arg);
    if (err)
        hk_bus_thread_end(bus);
    else
        pthread_detach(t);
    return err;
}

void hk_bus_thread_end(hark_bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    bus->threads--;
    pthread_mutex_unlock(&bus->lock);
    something_ended(bus);
    hk_bus_release(bus);
}

void hk_bus_running(hark_bus *bus, int by)
{
    if (by > 0) {
        (void)hk_mark_add(&bus->running, 1);
        return;
    }
    if (hk_mark_add(&bus->running, -1) == 0 && !hk_bus_accepts(bus))
        something_ended(bus);
}

/* ---- drain ----------------------------------------------------------------------------------- */

/* "consumer stock: sequence 41; " for each delivery that still runs. */
static void name_running(hark_bus *bus, hk_buf *text)
{
    for (hark_sub *s = bus->subs; s; s = s->next) {
        hk_consumer *c = hk_mark_get(&s->closed) == HK_SUB_OPENING ? NULL : s->consumer;
        if (!c)
            continue;
        pthread_mutex_lock(&c->lock);
        uint64_t seq;
        for (size_t i = 0; (seq = hk_cores_running(c->cores, i)) != 0; i++)
            hk_buf_addf(text, "%sconsumer %s: sequence %llu", text->len ? "; " : "", s->name,
                        (unsigned long long)seq);
        pthread_mutex_unlock(&c->lock);
    }
}

static hark_err wait_for_handlers(hark_bus *bus, int64_t timeout_ms, hark_errinfo *ei)
{
    int64_t deadline = hk_mono_ns() + hk_ms_to_ns(timeout_ms);
    hark_err err = HARK_OK;
    pthread_mutex_lock(&bus->lock);
    while (hk_mark_get_strong(&bus->running) > 0 && !err) {
        int64_t left = timeout_ms < 0 ? -1 : deadline - hk_mono_ns();
        if (timeout_ms >= 0 && left <= 0)
            err = HARK_ETIMEDOUT;
        else
            (void)hk_cond_wait(&bus->changed, &bus->lock, left);
    }
    if (err) {
        hk_buf text = {0};
        name_running(bus, &text);
        err = hk_fail(ei, err, "drain: %llu deliveries still run after %lld ms, abandoned: %.300s",
                      (unsigned long long)hk_mark_get_strong(&bus->running), (long long)timeout_ms,
                      text.len ? text.data : "live subscriptions or replays");
        hk_buf_free(&text);
    }
    pthread_mutex_unlock(&bus->lock);
    return err;
}

/* What still runs when time is up counts neither way, also where it is on record before it runs. */
static void forsake(hark_bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next)
        if (s->consumer && hk_mark_get(&s->closed) != HK_SUB_OPENING)
            hk_consumer_forsake(s->consumer);
    pthread_mutex_unlock(&bus->lock);
}

/* Ends every subscription. A hold each, since closing takes it off the list. */
static void close_subs(hark_bus *bus)
{
    for (;;) {
        pthread_mutex_lock(&bus->lock);
        hark_sub *s = bus->subs;
        while (s && hk_mark_get(&s->closed))
            s = s->next;
        if (s)
            hk_sub_hold(s);
        pthread_mutex_unlock(&bus->lock);
        if (!s)
            return;
        hark_sub_close(s);
        hk_sub_release(s);
    }
}

/* What still runs may not write into the store's slots any more. */
static void abandon(hark_bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next)
        if (s->consumer && hk_mark_get(&s->closed) != HK_SUB_OPENING)
            hk_consumer_abandon(s->consumer);
    pthread_mutex_unlock(&bus->lock);
}

static void close_store(hark_bus *bus)
{
    abandon(bus);
    pthread_rwlock_wrlock(&bus->store_lock);
    if (bus->store_open && !bus->info.direct) {
        bus->ops->info(bus->store, &bus->last);
        bus->ops->close(bus->store);
        bus->store_open = false;
    }
    pthread_rwlock_unlock(&bus->store_lock);
}

hark_err hk_store_enter(hark_bus *bus, hark_errinfo *ei)
{
    pthread_rwlock_rdlock(&bus->store_lock);
    if (bus->store_open)
        return HARK_OK;
    pthread_rwlock_unlock(&bus->store_lock);
    return hk_fail(ei, HARK_ECLOSED, "the bus is closed");
}

void hk_store_leave(hark_bus *bus)
{
    pthread_rwlock_unlock(&bus->store_lock);
}

hark_err hark_drain(hark_bus *bus, int64_t timeout_ms, hark_errinfo *ei)
{
    if (hk_role_get() != HK_ROLE_USER)
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "hark_drain was called on a thread of the bus or a loop");
    if (!hk_mark_move(&bus->gate, HK_OPEN, HK_DRAINING)) {
        pthread_mutex_lock(&bus->lock); /* another thread drains, or has drained */
        while (hk_mark_get(&bus->gate) != HK_CLOSED)
            (void)hk_cond_wait(&bus->changed, &bus->lock, -1);
        pthread_mutex_unlock(&bus->lock);
        return HARK_OK;
    }
    hk_gate_open(&bus->room);
    hk_gate_open(&bus->watch);
    hk_settled_stop(bus);
    close_subs(bus);
    hk_replays_stop(bus);
    hark_err err = wait_for_handlers(bus, timeout_ms, ei);
    if (err)
        forsake(bus);
    hk_writer_stop(bus); /* sets the gate to CLOSED after its last commit */
    if (!err && bus->writer.unsaved)
        err = hk_fail(ei, HARK_ESTORE,
                      "the state of %zu consumers could not be committed: what they settled last "
                      "comes again",
                      bus->writer.unsaved);
    hk_party_stop(bus);
    close_store(bus);
    pthread_mutex_lock(&bus->lock);
    pthread_cond_broadcast(&bus->changed);
    pthread_mutex_unlock(&bus->lock);
    return err;
}

/* ---- facts ----------------------------------------------------------------------------------- */

static void log_id_hex(const hark_bus *bus, char ret[33])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < 16; i++) {
        ret[2 * i] = digits[bus->info.log_id[i] >> 4];
        ret[2 * i + 1] = digits[bus->info.log_id[i] & 15];
    }
    ret[32] = '\0';
}

hark_err hark_bus_info_get(hark_bus *bus, hark_bus_info *ret)
{
    if (ret->size != sizeof *ret)
        return HARK_EINVAL;
    pthread_rwlock_rdlock(&bus->store_lock);
    hark_store_info now = bus->last;
    if (bus->store_open)
        bus->ops->info(bus->store, &now);
    pthread_rwlock_unlock(&bus->store_lock);
    uint64_t shown = hk_mark_get(&bus->tail.visible); /* by a page that the store has read since */
    if (bus->info.shared && shown > now.last_sequence)
        now.last_sequence = shown;
    *ret = (hark_bus_info){.size = sizeof *ret,
                           .epoch = now.epoch,
                           .format = now.format,
                           .first_sequence = now.first_sequence,
                           .last_sequence = now.last_sequence,
                           .durability = now.durability,
                           .read_only = (int64_t)hk_mark_get(&bus->read_only),
                           .transactions = bus->ops->tx_begin != NULL,
                           .shared = bus->info.shared};
    log_id_hex(bus, ret->log_id);
    (void)snprintf(ret->store, sizeof ret->store, "%s", bus->ops->scheme);
    return HARK_OK;
}

void hark_cursor_format(hark_bus *bus, uint64_t seq, char buf[HARK_CURSOR_TEXT])
{
    char id[33];
    log_id_hex(bus, id);
    (void)snprintf(buf, HARK_CURSOR_TEXT, "%.8s.%llu-%llu", id,
                   (unsigned long long)hk_mark_get(&bus->epoch), (unsigned long long)seq);
}

hark_err hark_cursor_parse(hark_bus *bus, const char *text, uint64_t *ret_seq, hark_errinfo *ei)
{
    size_t len = strlen(text);
    const char *dot = strchr(text, '.'), *dash = strchr(text, '-');
    uint64_t epoch, seq;
    if (len < 12 || !dot || dot != text + 8 || !dash || dash < dot ||
        strspn(text, "0123456789abcdef") != 8 ||
        !hk_parse_u64(dot + 1, (size_t)(dash - dot - 1), &epoch) ||
        !hk_parse_u64(dash + 1, strlen(dash + 1), &seq) || seq > HARK_SEQ_MAX)
        return hk_fail(
            ei, HARK_ESYNTAX,
            "'%.80s' is not a cursor; one looks like 3f2a9c01.1-42 (log, epoch, sequence)", text);
    char id[33];
    log_id_hex(bus, id);
    if (memcmp(text, id, 8) != 0 || epoch != hk_mark_get(&bus->epoch))
        return hk_fail(
            ei, HARK_EGAP,
            "cursor %.80s belongs to another log or epoch than %.8s.%llu; start from the "
            "beginning or from now",
            text, id, (unsigned long long)hk_mark_get(&bus->epoch));
    *ret_seq = seq;
    return HARK_OK;
}

bool hark_thread_nonblocking(bool on)
{
    hk_role role = hk_role_get();
    if (role == HK_ROLE_USER || role == HK_ROLE_LOOP) /* threads of the library keep theirs */
        (void)hk_role_set(on ? HK_ROLE_LOOP : HK_ROLE_USER);
    return role == HK_ROLE_LOOP;
}
