/* stats.c: figures of the bus, of types and of consumers. They are counted where things happen, each
 * by one thread at a time with plain stores, and added up here when somebody asks; what is read
 * beside the counting may lag by an event. Why a consumer does not move is why.c's. */
#include "bus/bus_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- counting -------------------------------------------------------------------------------- */

static hk_type_figures *first_type(hk_figures *f)
{
    return (hk_type_figures *)(uintptr_t)hk_mark_get(&f->types);
}

static hk_type_figures *add(hk_figures *f, const char *type, size_t len)
{
    hk_type_figures *t = calloc(1, sizeof *t + len + 1);
    if (!t)
        return NULL;
    memcpy(t->type, type, len);
    t->next = first_type(f);
    hk_mark_set(&f->types, (uint64_t)(uintptr_t)t);
    return t;
}

static hk_type_figures *other_types(hk_figures *f)
{
    static const char name[] = "other types";
    if (!f->other)
        f->other = add(f, name, sizeof name - 1);
    return f->other;
}

hk_type_figures *hk_figures_type(hark_bus *bus, const char *type, size_t len)
{
    hk_figures *f = &bus->figures;
    if (!type)
        return other_types(f);
    hk_type_figures **bucket = &f->buckets[hk_hash(type, len) % HK_TYPE_BUCKETS];
    for (hk_type_figures *t = *bucket; t; t = t->chain)
        if (strncmp(t->type, type, len) == 0 && t->type[len] == '\0')
            return t;
    hk_type_figures *t = f->n_types < HK_TYPES_MAX ? add(f, type, len) : NULL;
    if (!t)
        return other_types(f);
    t->chain = *bucket;
    *bucket = t;
    f->n_types++;
    return t;
}

void hk_figures_free(hark_bus *bus)
{
    for (hk_type_figures *t = first_type(&bus->figures), *next; t; t = next) {
        next = t->next;
        free(t);
    }
    bus->figures = (hk_figures){0};
}

void hk_figures_committed(hark_bus *bus, int64_t made_ns, int64_t now_wall)
{
    hk_hist_add(&bus->figures.commit, now_wall - made_ns);
}

void hk_figures_started(hk_consumer *c, const hark_delivery *d, hk_now now)
{
    if (d->event && d->attempt == 1 && !d->replay_id[0])
        hk_hist_add(&c->figures.wait, now.wall - hark_event_recorded_ns(d->event));
}

void hk_figures_settled(hk_consumer *c, const hark_delivery *d, hk_now now)
{
    hk_hist_add(&c->figures.handler, now.mono - d->started_ns);
    hk_rate_add(&c->figures.rate, now.mono, 1);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void read_latency(hk_hist *h, hark_latency *ret)
{
    hk_quantiles q;
    hk_hist_read(h, &q);
    *ret = (hark_latency){.count = q.count,
                          .p50_ns = q.p50,
                          .p90_ns = q.p90,
                          .p99_ns = q.p99,
                          .p999_ns = q.p999,
                          .max_ns = q.max,
                          .mean_ns = q.mean};
}

static uint64_t count_schedules(hk_writer *w)
{
    pthread_mutex_lock(&w->sched_lock);
    uint64_t n = w->sched ? hk_sched_count(w->sched) : 0;
    pthread_mutex_unlock(&w->sched_lock);
    return n;
}

/* The log's end as far as it is known here, without asking: on a shared store that may be farther on than what is shown. */
static uint64_t known_end(hark_bus *bus)
{
    hark_bus_info info = {.size = sizeof info};
    if (!bus->info.shared || hark_bus_info_get(bus, &info))
        return hk_bus_visible(bus);
    return info.last_sequence;
}

hark_err hark_stats_get(hark_bus *bus, hark_stats *ret)
{
    if (ret->size != sizeof *ret)
        return HARK_EINVAL;
    hk_figures *f = &bus->figures;
    int64_t wall = hk_wall_ns();
    *ret = (hark_stats){.size = sizeof *ret,
                        .duplicates = hk_count_get(&f->duplicates),
                        .commits = hk_count_get(&f->commits),
                        .failed_commits = hk_count_get(&f->failed_commits),
                        .schedules = count_schedules(&bus->writer),
                        .last_sequence = known_end(bus)};
    for (hk_type_figures *t = first_type(f); t; t = t->next) {
        ret->published += hk_count_get(&t->count);
        ret->rate += hk_rate_read(&t->rate, wall);
    }
    read_latency(&f->commit, &ret->commit);
    return HARK_OK;
}

hark_err hark_stats_types(hark_bus *bus, bool (*fn)(const hark_type_stats *s, void *ud), void *ud)
{
    int64_t wall = hk_wall_ns();
    bool more = true;
    for (hk_type_figures *t = first_type(&bus->figures); t && more; t = t->next) {
        const hark_type_stats s = {.type = t->type,
                                   .count = hk_count_get(&t->count),
                                   .bytes = hk_count_get(&t->bytes),
                                   .first_ns = (int64_t)hk_count_get(&t->first_ns),
                                   .last_ns = (int64_t)hk_count_get(&t->last_ns),
                                   .rate = hk_rate_read(&t->rate, wall)};
        if (s.count) /* else its first event is just being counted */
            more = fn(&s, ud);
    }
    return HARK_OK;
}

/* ---- consumers ------------------------------------------------------------------------------- */

static bool is_open(hark_sub *s)
{
    return !hk_mark_get(&s->closed) && s->consumer; /* in this order: it is set while opening */
}

/* The consumers that are open, with a hold each, so that `fn` is called and the log is read without
 * the bus's lock. */
static hark_err take_consumers(hark_bus *bus, hark_sub ***ret, size_t *ret_n)
{
    size_t most = 0, n = 0;
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next)
        most += is_open(s);
    hark_sub **subs = calloc(most + 1, sizeof(hark_sub *));
    for (hark_sub *s = bus->subs; subs && s && n < most; s = s->next)
        if (is_open(s)) {
            hk_sub_hold(s);
            subs[n++] = s;
        }
    pthread_mutex_unlock(&bus->lock);
    *ret = subs;
    *ret_n = n;
    return subs ? HARK_OK : HARK_ENOMEM;
}

/* When an event was recorded; 0 = it is not there. */
static int64_t recorded_of(hark_bus *bus, uint64_t seq)
{
    hark_event *e = NULL;
    if (hk_bus_read_one(bus, seq, &e, NULL) || !e)
        return 0;
    int64_t at = hark_event_recorded_ns(e);
    hark_event_unref(e);
    return at;
}

/* How far behind, and since when: of what is neither settled nor in the ledger, and of what the
 * ledger will hand out first. Events of other types do not wake a consumer, so that its floor may
 * stay below them while it has nothing to do. */
static void read_lag(hark_sub *s, const hk_core_facts *f, hark_consumer_stats *ret)
{
    hark_event *e = NULL;
    uint64_t row = f->next_retry, end = known_end(s->bus);
    if (!hk_bus_first(s->bus, s->pattern, f->floor, &e, NULL) && e) {
        ret->lag = end > f->floor ? end - f->floor : 0;
        ret->oldest_ns = hark_event_recorded_ns(e);
        hark_event_unref(e);
    }
    if (f->first_parked && (!row || f->first_parked < row))
        row = f->first_parked;
    int64_t at = row && row <= f->floor ? recorded_of(s->bus, row) : 0;
    if (at && (!ret->oldest_ns || at < ret->oldest_ns))
        ret->oldest_ns = at;
}

static void read_consumer(hark_sub *s, int64_t mono, hark_consumer_stats *ret)
{
    hk_consumer *c = s->consumer;
    hk_core_facts f;
    bool here = hk_consumer_facts(s, &f);
    *ret = (hark_consumer_stats){.consumer = s->name,
                                 .delivered = hk_count_get(&s->delivered),
                                 .acked = hk_count_get(&s->acked),
                                 .retried = hk_count_get(&s->retried),
                                 .rejected = hk_count_get(&s->rejected),
                                 .timed_out = hk_count_get(&s->timed_out),
                                 .gaps = hk_count_get(&s->gaps),
                                 .gap_events = hk_count_get(&s->gap_events),
                                 .running = f.running,
                                 .in_memory = f.in_memory,
                                 .deferred = f.deferred,
                                 .floor = f.floor,
                                 .rate = hk_rate_read(&c->figures.rate, mono)};
    if (here) /* else others see to what is behind */
        read_lag(s, &f, ret);
    read_latency(&c->figures.wait, &ret->wait);
    read_latency(&c->figures.handler, &ret->handler);
}

hark_err hark_stats_consumers(hark_bus *bus, bool (*fn)(const hark_consumer_stats *s, void *ud),
                              void *ud)
{
    hark_sub **subs;
    size_t n;
    hark_err err = take_consumers(bus, &subs, &n);
    int64_t mono = hk_mono_ns();
    bool more = true;
    for (size_t i = 0; i < n; i++) {
        hark_consumer_stats s;
        if (more) {
            read_consumer(subs[i], mono, &s);
            more = fn(&s, ud);
        }
        hk_sub_release(subs[i]);
    }
    free(subs);
    return err;
}
