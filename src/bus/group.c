/* group.c: one transaction: publishes, jobs and the states of consumers, committed once. Then every
 * publisher gets its receipt and the events go to the tail and to dispatch. */
#include "bus/party_i.h"

#include <stdlib.h>

/* What is in the group: lists moved off the writer's. */
typedef struct group {
    hk_list publishes, jobs, saves;
    size_t events, queued, bytes;
    int64_t closures_ns; /* what closures took */
    bool full;           /* takes no more publishes */
    bool behind;  /* shared stores: what came before it could not be read, so it is not shown */
    bool careful; /* closures can be undone one by one */
    hark_err err; /* of the store: nothing of the group stays */
    hark_errinfo ei;
} group;

/* Others wait for the commit: beyond this no further closure is begun. */
#define CLOSURES_NS (INT64_C(10) * 1000000)

/* Most closures succeed, and being able to undo them costs. So it is done without until one fails: that group is
 * run once more, and so many after it are careful. */
enum { CAREFUL_GROUPS = 64 };

/* An error of one member leaves the group alone; the store's own ends it. */
static bool ends_group(hark_err err)
{
    return err && hark_err_class(err) != HARK_CLASS_REFUSED;
}

/* A direct store has no groups: each call is all or nothing by itself, and what has succeeded is done.
 * A failed save or job is nobody else's business there; told to others, they would be done twice. */
static bool spreads(const hark_bus *bus, hark_err err)
{
    return ends_group(err) && !bus->info.direct;
}

static hark_err append_items(hark_bus *bus, group *g, hk_request *r)
{
    return bus->ops->append(bus->store, r->items, r->n, r->ei ? r->ei : &g->ei);
}

/* A schedule's row goes first: if it has gone already, it was cancelled after it had become due, or on a shared store
 * another process publishes it. */
static hark_err append_scheduled(hark_bus *bus, group *g, hk_request *r)
{
    hark_err err = bus->ops->schedule_drop(bus->store, r->schedule, &g->ei);
    if (err)
        return err;
    return append_items(bus, g, r);
}

static void append(hark_bus *bus, group *g, hk_request *r)
{
    r->err = r->schedule ? append_scheduled(bus, g, r) : append_items(bus, g, r);
    if (ends_group(r->err)) {
        g->err = r->err;
        if (r->ei)
            g->ei = *r->ei;
    }
}

static hark_store_fate run_closure(group *g, hk_request *r)
{
    hark_store_fate fate = HARK_STORE_STAYS;
    int64_t began = hk_mono_ns();
    g->err = hk_tx_run(r->tx, g->careful, &fate);
    if (g->err)
        g->ei = *r->ei;
    g->closures_ns += hk_mono_ns() - began;
    return fate;
}

/* Makes a member part of the transaction; its fate is the group's. */
static hark_store_fate put(hark_bus *bus, group *g, hk_request *r)
{
    hark_store_fate fate = HARK_STORE_STAYS;
    if (r->tx)
        fate = run_closure(g, r);
    else
        append(bus, g, r);
    g->events += r->n;
    return fate;
}

static hark_store_fate put_all(hark_bus *bus, group *g)
{
    hark_store_fate fate = HARK_STORE_STAYS;
    g->events = 0;
    for (hk_node *n = g->publishes.first; n && !fate && !g->err; n = n->next) {
        hk_request *r = (hk_request *)(void *)n;
        /* Others that failed may have met rows of a neighbour that does not come this time. */
        if (!r->spoilt && r->err != HARK_EDEADLINE)
            fate = put(bus, g, r);
    }
    return fate;
}

static bool reserve_fresh(hk_writer *w, size_t n)
{
    if (n <= w->cap_fresh)
        return true;
    hark_event **fresh = realloc(w->fresh, n * sizeof(hark_event *));
    if (fresh) {
        w->fresh = fresh;
        w->cap_fresh = n;
    }
    return fresh != NULL;
}

/* Once more, without a closure that spoilt it, and then no further ones: each group has one such
 * closure to bear. Should others spoil it this time, they are left out, too. */
static void begin_again(hark_bus *bus, group *g, hark_store_fate fate)
{
    bus->writer.careful = CAREFUL_GROUPS;
    g->careful = true;
    do {
        g->full = g->full || fate == HARK_STORE_SPOILT;
        bus->ops->rollback(bus->store);
        g->err = bus->ops->begin(bus->store, &g->ei);
    } while (!g->err && (fate = put_all(bus, g)) != HARK_STORE_STAYS);
    /* closures may publish more than they did the first time */
    if (!g->err && !reserve_fresh(&bus->writer, g->events))
        g->err = hk_fail(&g->ei, HARK_ENOMEM, "no memory for a group of %zu events", g->events);
}

static void add_publish(hark_bus *bus, group *g, hk_request *r)
{
    if (bus->info.shared && !r->tx)
        r->items[0].late = &r->err;
    hk_list_append(&g->publishes, &r->work);
    g->queued += r->queued;
    g->bytes += r->bytes;
    hark_store_fate fate = put(bus, g, r);
    if (fate && !g->err)
        begin_again(bus, g, fate);
}

static bool may_add(const hark_bus *bus, const group *g, const hk_request *r)
{
    if (g->err || g->full || (r->tx && g->closures_ns > CLOSURES_NS))
        return false;
    if (r->tx && bus->info.tx_alone && g->publishes.first)
        return false;
    return g->events == 0 || g->events + r->n <= bus->opts.group_events;
}

/* On a shared store a publish hears at the commit what became of it: the store asks nothing of a server for it before. A closure
 * is told at once, since it may want to know. */
static void add_publishes(hark_bus *bus, group *g)
{
    hk_list *backlog = &bus->writer.backlog;
    while (backlog->first && may_add(bus, g, (hk_request *)(void *)backlog->first)) {
        hk_request *r = (hk_request *)(void *)hk_list_shift(backlog);
        add_publish(bus, g, r);
        g->full = g->full || (r->tx && bus->info.tx_alone);
    }
}

static void add_jobs(hark_bus *bus, group *g)
{
    while (!g->err && bus->writer.jobs.first) {
        hk_job *job = (hk_job *)(void *)hk_list_shift(&bus->writer.jobs);
        hk_list_append(&g->jobs, &job->work);
        job->err = job->run(bus, job->ud, job->ei);
        if (spreads(bus, job->err)) {
            g->err = job->err;
            if (job->ei)
                g->ei = *job->ei;
        }
    }
}

/* Each dead letter of a save is announced in the same group. */
static void announce(hark_bus *bus, group *g, const hk_consumer *c, const hark_store_save *save)
{
    for (size_t i = 0; i < save->n_dead && !g->err; i++) {
        const hark_store_dead *d = &save->dead[i];
        const hk_obituary o = {.consumer = c->sub->name,
                               .letter = d->ret_id,
                               .reason = d->reason,
                               .error = d->error,
                               .attempts = d->attempts,
                               .crashes = d->crashes,
                               .interruptions = d->interruptions,
                               .event = d->event};
        if (bus->info.direct) {
            hk_obituary_publish(bus, &o);
            continue;
        }
        hk_request *r = hk_obituary_request(bus, &o);
        if (r) {
            r->announces = true;
            add_publish(bus, g, r);
        }
        if (!g->err && !reserve_fresh(&bus->writer, g->events))
            g->err = HARK_ENOMEM;
    }
}

/* One that is refused leaves the others alone. */
static void add_share(hark_bus *bus, group *g, hk_consumer *c, size_t i)
{
    hark_err err = bus->ops->consumer_save(bus->store, &c->saves[i], &g->ei);
    if (err)
        hk_consumer_refused(c, i, err);
    if (spreads(bus, err))
        g->err = err;
    else if (!err)
        announce(bus, g, c, &c->saves[i]);
    else if (ends_group(err))
        bus->writer.retry_at_ns = hk_mono_ns() + 100000000;
}

static void add_save(hark_bus *bus, group *g, hk_consumer *c)
{
    hark_err err = hk_consumer_collect(c);
    if (err) {
        if (err == HARK_ENOMEM)
            bus->writer.retry_at_ns = hk_mono_ns() + 100000000;
        hk_consumer_saved(c, err);
        return;
    }
    hk_list_append(&g->saves, &c->work);
    for (size_t i = 0; i < c->n_saves && !g->err; i++)
        add_share(bus, g, c, i);
}

static void add_saves(hark_bus *bus, group *g)
{
    hk_writer *w = &bus->writer;
    while (!g->err && w->saves.first)
        add_save(bus, g, (hk_consumer *)(void *)hk_list_shift(&w->saves));
    w->saves_since_ns = w->saves.first ? hk_mono_ns() : 0;
}

static void dispatch(hark_bus *bus)
{
    hk_writer *w = &bus->writer;
    size_t n = w->n_fresh;
    w->n_fresh = 0;
    if (n) /* on a direct store there are none, and dispatch is others' */
        hk_dispatch_all(bus, w->fresh, n);
}

/* On a shared store others' events may come before ours: they are shown first, those up to `seq`. False: they could not be read;
 * then what is ours comes with them later, from the store. */
static bool reach(hark_bus *bus, group *g, uint64_t seq)
{
    if (HK_LIKELY(!bus->info.shared || hk_mark_get(&bus->tail.visible) >= seq) || g->behind)
        return !g->behind;
    dispatch(bus);
    g->behind = hk_tailer_catch_up(bus, seq, NULL) != HARK_OK;
    if (g->behind)
        bus->ops->tail_wake(bus->store);
    return !g->behind;
}

/* New events of a committed request: a reference for the tail, one for dispatch. */
static void show(hark_bus *bus, group *g, const hk_request *r, int64_t now_wall)
{
    hk_writer *w = &bus->writer;
    for (size_t i = 0; !r->err && i < r->n; i++) {
        hark_event *e = r->items[i].event;
        if (r->items[i].ret_duplicate) {
            hk_count_bump(&bus->figures.duplicates, 1);
            (void)reach(bus, g, r->items[i].ret_sequence);
            continue;
        }
        hk_figures_committed(bus, r->made_ns, now_wall);
        uint64_t seq = hark_event_sequence(e);
        /* retention of another process may have come past it already, and the tail with that */
        if (!reach(bus, g, seq - 1) || HK_UNLIKELY(hk_mark_get(&bus->tail.visible) >= seq))
            continue;
        hk_event_ref_n(e, 2);
        hk_tail_fill(&bus->tail, seq, e);
        hk_tail_admit(&bus->tail, seq, e);
        hk_tail_show(&bus->tail, seq);
        w->fresh[w->n_fresh++] = e;
    }
}

/* The group of a schedule has come to its end. HARK_ELOCKED: another process is about to drop it, or not after all. */
static void finish_schedule(hark_bus *bus, const group *g, const hk_request *r)
{
    if (g->err || r->err == HARK_ELOCKED) {
        hk_schedule_again(bus, r->schedule);
        return;
    }
    if (r->err && r->err != HARK_ENOTFOUND)
        hk_log(HK_WARN, "schedule %llu was not published: event '%.60s': %s",
               (unsigned long long)r->schedule, hark_event_id(r->items[0].event),
               hark_err_text(r->err));
    hk_schedule_done(bus, r->schedule);
}

static void finish_publishes(hark_bus *bus, group *g)
{
    hk_writer *w = &bus->writer;
    w->n_fresh = 0;
    int64_t now = g->publishes.first ? hk_wall_ns() : 0;
    if (!g->err)
        for (hk_node *n = g->publishes.first; n; n = n->next)
            show(bus, g, (hk_request *)(void *)n, now);
    if (g->queued) {
        (void)hk_count_sub(&w->queued_events, g->queued);
        (void)hk_count_sub(&w->queued_bytes, g->bytes);
        hk_gate_open(&w->room);
    }
    for (hk_work *work; (work = hk_list_shift(&g->publishes));) {
        hk_request *r = (hk_request *)(void *)work;
        if (r->schedule)
            finish_schedule(bus, g, r);
        if (g->err && r->ei) /* also for a conflict: the other event may have been of this group */
            *r->ei = g->ei;
        hk_request_done(bus, r, g->err ? g->err : r->err);
    }
    hk_consumers_committed(bus);
    dispatch(bus);
}

/* Cores first: whoever a job wakes may tell them what the same commit did to their letters. */
static void finish_others(group *g)
{
    for (hk_work *work; (work = hk_list_shift(&g->saves));) {
        hk_consumer *c = (hk_consumer *)(void *)work;
        hk_consumer_saved(c, g->err);
    }
    for (hk_work *work; (work = hk_list_shift(&g->jobs));) {
        hk_job *job = (hk_job *)(void *)work;
        if (g->err && !job->err) {
            job->err = g->err;
            if (job->ei)
                *job->ei = g->ei;
        }
        hk_gate_open(&job->done);
    }
}

/* What receipts are worth: the server may be set otherwise, or be another one, since the last connection. */
static void note_class(hark_bus *bus)
{
    hark_store_info info;
    bus->ops->info(bus->store, &info);
    hk_mark_set(&bus->durability, (uint64_t)info.durability);
}

static size_t count_publishes(const group *g)
{
    size_t n = 0;
    for (const hk_node *node = g->publishes.first; node; node = node->next)
        n++;
    return n;
}

/* While the store is away that would be so of every publish: it is told when it begins, or goes on for another reason. */
static void tell_failed(hk_failing *f, const group *g, size_t refused)
{
    if (!f->err)
        *f = (hk_failing){.since = hk_mono_ns()};
    if (f->err != g->err)
        hk_log(HK_WARN,
               "a group of %zu publishes and transactions was not committed, further ones are only "
               "counted: %s",
               refused, hk_err_says(g->err, &g->ei));
    f->err = g->err;
    f->refused += refused;
}

static void tell_well(hk_failing *f)
{
    if (HK_LIKELY(!f->err))
        return;
    hk_log(
        HK_WARN,
        "groups are committed again after %lld ms, in which %llu publishes and transactions were "
        "refused",
        (long long)((hk_mono_ns() - f->since) / 1000000), (unsigned long long)f->refused);
    *f = (hk_failing){0};
}

/* On a shared store a job was promised something, and another process came before the commit. Nothing was stored: the job
 * hears of it, publishes go into the next group. */
static bool lost_race(const hark_bus *bus, const group *g)
{
    return g->err == HARK_EAGAIN && bus->info.shared;
}

static void put_back(hark_bus *bus, group *g)
{
    hk_list kept = {0}, back = {0};
    for (hk_work *work; (work = hk_list_shift(&g->publishes));) {
        hk_request *r = (hk_request *)(void *)work;
        bool again = !r->schedule && !r->tx && !r->announces;
        if (again) {
            r->err = HARK_OK;
            g->queued -= r->queued;
            g->bytes -= r->bytes;
        }
        hk_list_append(again ? &back : &kept, work);
    }
    for (hk_work *work; (work = hk_list_shift(&bus->writer.backlog));)
        hk_list_append(&back, work);
    bus->writer.backlog = back;
    g->publishes = kept;
    bus->writer.retry_at_ns = 0; /* of states, which were of this group */
}

/* A failed group: all its members hear of it; states are tried again a little later. */
static void failed(hark_bus *bus, const group *g)
{
    hark_class class = hark_err_class(g->err);
    hk_count_bump(&bus->figures.failed_commits, 1);
    hk_mark_set(&bus->writer.last_error, (uint64_t)g->err);
    hk_mark_set(&bus->writer.last_failed_ns, (uint64_t)hk_wall_ns());
    bus->writer.retry_at_ns =
        hk_mono_ns() + (class == HARK_CLASS_TRANSIENT ? 100000000 : 1000000000);
    tell_failed(&bus->writer.failing, g, count_publishes(g));
    if (class == HARK_CLASS_FATAL || (class == HARK_CLASS_UNKNOWN && !bus->info.shared))
        hk_mark_set(&bus->read_only, 1);
}

static void went_well(hark_bus *bus)
{
    hk_count_bump(&bus->figures.commits, 1);
    hk_mark_set(&bus->writer.last_failed_ns, 0);
    tell_well(&bus->writer.failing);
    note_class(bus);
}

/* Of a group that could not be begun: its members must hear of it. */
static void take_all(hark_bus *bus, group *g)
{
    for (hk_work *work; (work = hk_list_shift(&bus->writer.backlog));) {
        hk_request *r = (hk_request *)(void *)work;
        r->err = HARK_OK;
        g->queued += r->queued;
        g->bytes += r->bytes;
        hk_list_append(&g->publishes, work);
    }
    for (hk_work *work; (work = hk_list_shift(&bus->writer.jobs));) {
        ((hk_job *)(void *)work)->err = HARK_OK;
        hk_list_append(&g->jobs, work);
    }
}

void hk_group(hark_bus *bus)
{
    if (bus->info.live_only) {
        hk_send(bus);
        return;
    }
    group g = {.careful = bus->writer.careful > 0};
    size_t most = bus->opts.group_events + 4096; /* the last batch may go over */
    g.err = reserve_fresh(&bus->writer, most) ? bus->ops->begin(bus->store, &g.ei) : HARK_ENOMEM;
    bool began = !g.err; /* begin_again may fail to: rolling back is safe then, too */
    bus->writer.careful -= g.careful;
    if (g.err)
        take_all(bus, &g);
    add_publishes(bus, &g);
    add_jobs(bus, &g);
    if (hk_mono_ns() >= bus->writer.retry_at_ns)
        add_saves(bus, &g);
    if (began) {
        if (!g.err)
            g.err = bus->ops->commit(bus->store, &g.ei);
        else
            bus->ops->rollback(bus->store);
    }
    if (lost_race(bus, &g))
        put_back(bus, &g);
    else if (g.err)
        failed(bus, &g);
    else
        went_well(bus);
    finish_publishes(bus, &g);
    finish_others(&g);
}
