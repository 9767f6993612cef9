/* schedule.c: publishing later. A schedule is a row of the store; a queue of what is due when
 * (hk_sched, in src/delivery) is kept in memory. The writer takes what is due, appends the event and
 * drops the row in one group, so an event is published once, whatever crashes. */
#include "bus/bus_i.h"

#include <string.h>

/* While something waits by the wall clock, that is looked at so often: it may be set. */
#define CLOCK_LOOK_NS (INT64_C(250) * 1000000)

enum { BY_DELAY = 1, TIME_GIVEN = 2 };

/* ---- opening --------------------------------------------------------------------------------- */

typedef struct loading {
    hk_writer *w;
    hk_now now;
    hark_err err;
} loading;

static bool load_one(void *ud, const hark_store_schedule *sch)
{
    loading *x = ud;
    bool by_delay = (sch->by_delay & BY_DELAY) != 0;
    int64_t due = by_delay ? x->now.mono + (sch->due_ns - x->now.wall) : sch->due_ns;
    x->err = hk_sched_add(x->w->sched, sch->id, due, by_delay);
    return !x->err;
}

hark_err hk_schedules_open(hark_bus *bus, hark_errinfo *ei)
{
    loading x = {.w = &bus->writer, .now = hk_now_get()};
    bus->writer.sched = hk_sched_new();
    if (!bus->writer.sched)
        return hk_fail(ei, HARK_ENOMEM, "no memory for schedules");
    hark_err err = bus->ops->schedules(bus->store, 0, 0, false, load_one, &x, ei);
    if (!err && x.err)
        err = hk_fail(ei, x.err, "no memory for the schedules that the store keeps");
    return err;
}

void hk_schedules_close(hark_bus *bus)
{
    hk_sched_free(bus->writer.sched);
    bus->writer.sched = NULL;
}

/* ---- what is due ----------------------------------------------------------------------------- */

typedef struct firing {
    hark_bus *bus;
    uint64_t id;
    bool found;
    hark_err err;
} firing;

/* The event of a schedule as a spec; its time is now unless the publisher gave one. */
static void spec_of(const hark_store_schedule *sch, hark_ext *ext, char *time, hark_event_spec *ret)
{
    hark_event_to_spec(sch->event, ext, time, ret);
    if (!(sch->by_delay & TIME_GIVEN))
        ret->time = NULL;
}

static bool fire(void *ud, const hark_store_schedule *sch)
{
    firing *f = ud;
    hark_ext ext[HARK_EXTENSIONS_MAX];
    char time[HARK_TIME_TEXT];
    hark_event_spec spec;
    f->found = true;
    spec_of(sch, ext, time, &spec);
    if (f->bus->info.direct) {
        f->err = hk_publish(f->bus, &spec, HK_PUB_INSIDE | HK_PUB_PAST_ALL, NULL, NULL);
        return false;
    }
    hk_request *r;
    f->err = hk_request_inside(f->bus, &spec, hk_request_ignore, NULL, &r, NULL);
    if (!f->err) {
        r->schedule = sch->id;
        hk_list_append(&f->bus->writer.backlog, &r->work);
    }
    return false;
}

void hk_schedule_again(hark_bus *bus, uint64_t id)
{
    hk_writer *w = &bus->writer;
    pthread_mutex_lock(&w->sched_lock); /* a short pause: the store is failing */
    if (w->sched)
        hk_sched_again(w->sched, id, hk_mono_ns() + INT64_C(500000000));
    pthread_mutex_unlock(&w->sched_lock);
}

void hk_schedule_done(hark_bus *bus, uint64_t id)
{
    hk_writer *w = &bus->writer;
    pthread_mutex_lock(&w->sched_lock);
    if (w->sched)
        (void)hk_sched_remove(w->sched, id);
    pthread_mutex_unlock(&w->sched_lock);
}

static bool take(hk_writer *w, hk_now now, uint64_t *ret_id)
{
    pthread_mutex_lock(&w->sched_lock);
    bool got = w->sched && hk_sched_take(w->sched, now, ret_id);
    pthread_mutex_unlock(&w->sched_lock);
    return got;
}

/* False: to be tried again. */
static bool publish_due(hark_bus *bus, firing *f)
{
    hark_errinfo ei = {0};
    hark_err err = bus->ops->schedules(bus->store, f->id, 0, true, fire, f, &ei);
    if (err == HARK_ECORRUPT) { /* it alone */
        hk_log(HK_ERROR, "schedule %llu cannot be published: %s", (unsigned long long)f->id,
               hk_err_says(err, &ei));
        return true;
    }
    if (err || (f->err && hark_err_class(f->err) != HARK_CLASS_REFUSED))
        return false;
    if (f->found && f->err)
        hk_log(HK_WARN, "schedule %llu was not published: %s", (unsigned long long)f->id,
               hark_err_text(f->err));
    if (f->found && bus->info.direct)
        (void)bus->ops->schedule_drop(bus->store, f->id, NULL);
    return true;
}

static void attempt(hark_bus *bus, uint64_t id)
{
    firing f = {.bus = bus, .id = id};
    if (!publish_due(bus, &f))
        hk_schedule_again(bus, id);
    else if (!f.found || f.err || bus->info.direct)
        hk_schedule_done(bus, id);
    /* else its group decides */
}

/* Events of one turn; more wait for the next group. */
enum { TURN = 1024 };

int64_t hk_schedules_due(hark_bus *bus)
{
    hk_writer *w = &bus->writer;
    hk_now now = hk_now_get();
    uint64_t id;
    for (size_t n = 0; n < TURN && take(w, now, &id); n++)
        attempt(bus, id);
    pthread_mutex_lock(&w->sched_lock);
    int64_t wait = w->sched ? hk_sched_wait(w->sched, now, CLOCK_LOOK_NS) : -1;
    pthread_mutex_unlock(&w->sched_lock);
    return wait;
}

/* ---- the calls ------------------------------------------------------------------------------- */

typedef struct adding {
    hark_store_schedule sch;
    uint64_t sequence;
    bool duplicate;
} adding;

static hark_err add_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    adding *a = ud;
    return bus->ops->schedule_add(bus->store, &a->sch, &a->sequence, &a->duplicate, ei);
}

static hark_err set_due(hark_when when, hk_now now, adding *a, int64_t *ret_due, hark_errinfo *ei)
{
    if (when.after_ms < 0 || when.at_ns < 0 || (when.at_ns && when.after_ms))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_when: at_ns is %lld and after_ms %lld; give a time since 1970 by "
                       "hark_at, or a delay by hark_after",
                       (long long)when.at_ns, (long long)when.after_ms);
    int64_t delay = hk_ms_to_ns(when.after_ms);
    a->sch.by_delay |= when.at_ns ? 0 : BY_DELAY;
    a->sch.due_ns = when.at_ns                     ? when.at_ns
                    : delay > INT64_MAX - now.wall ? INT64_MAX
                                                   : now.wall + delay;
    *ret_due = when.at_ns                     ? when.at_ns
               : delay > INT64_MAX - now.mono ? INT64_MAX
                                              : now.mono + delay;
    return HARK_OK;
}

/* After the commit the queue learns it, and the writer looks again. */
static hark_err queue(hark_bus *bus, const adding *a, int64_t due, hark_errinfo *ei)
{
    hk_writer *w = &bus->writer;
    pthread_mutex_lock(&w->sched_lock);
    hark_err err = w->sched
                       ? hk_sched_add(w->sched, a->sch.id, due, (a->sch.by_delay & BY_DELAY) != 0)
                       : HARK_ECLOSED;
    pthread_mutex_unlock(&w->sched_lock);
    hk_inbox_wake(&w->inbox);
    if (err)
        return hk_fail(ei, err, "schedule %llu is stored, and published after the next start",
                       (unsigned long long)a->sch.id);
    return HARK_OK;
}

static hark_err add(hark_bus *bus, adding *a, int64_t due, hark_schedule_id *ret, hark_errinfo *ei)
{
    hark_err err = hk_writer_run(bus, add_job, a, ei);
    if (err)
        return err;
    if (a->duplicate && a->sequence)
        return hk_fail(ei, HARK_EEXIST,
                       "the event with id '%.60s' is in the log already, as sequence %llu",
                       hark_event_id(a->sch.event), (unsigned long long)a->sequence);
    if (!a->duplicate)
        err = queue(bus, a, due, ei);
    if (!err && ret)
        *ret = a->sch.id;
    return err;
}

hark_err hark_schedule(hark_bus *bus, const hark_event_spec *given, hark_when when,
                       hark_schedule_id *ret, hark_errinfo *ei)
{
    hark_event_spec spec;
    hk_now now = hk_now_get();
    adding a = {.sch.created_ns = now.wall};
    int64_t due = 0;
    hark_err err = hk_may_operate(bus, "hark_schedule", ei);
    if (!err && !hk_bus_accepts(bus) && hk_role_get() != HK_ROLE_HANDLER)
        err = hk_fail(ei, HARK_ECLOSED, "the bus is draining");
    if (!err)
        err = hk_opts_take(given, &spec, sizeof spec, "hark_event_spec", ei);
    if (!err && spec.expected_version)
        err = hk_fail(ei, HARK_EINVAL,
                      "expected_version cannot be checked later: publish now, or "
                      "leave it out");
    if (!err)
        err = set_due(when, now, &a, &due, ei);
    if (!err)
        err = hk_publish_make(bus, &spec, 1, 0, &a.sch.event, ei);
    if (err)
        return err;
    a.sch.by_delay |= spec.time ? TIME_GIVEN : 0;
    hk_event_digest(a.sch.event, bus->info.log_id, a.sch.digest);
    err = add(bus, &a, due, ret, ei);
    hark_event_unref(a.sch.event);
    return err;
}

static hark_err drop_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    return bus->ops->schedule_drop(bus->store, *(uint64_t *)ud, ei);
}

hark_err hark_schedule_cancel(hark_bus *bus, hark_schedule_id id, hark_errinfo *ei)
{
    hark_err err = hk_may_operate(bus, "hark_schedule_cancel", ei);
    if (!err)
        err = hk_writer_run(bus, drop_job, &id, ei);
    if (err)
        return err;
    hk_schedule_done(bus, id);
    return HARK_OK;
}

typedef struct listing {
    bool (*fn)(const hark_schedule_info *info, void *ud);
    void *ud;
} listing;

static bool list_one(void *ud, const hark_store_schedule *sch)
{
    listing *x = ud;
    const hark_schedule_info info = {
        .id = sch->id, .due_ns = sch->due_ns, .created_ns = sch->created_ns, .event = sch->event};
    return x->fn(&info, x->ud);
}

hark_err hark_schedules(hark_bus *bus, bool (*fn)(const hark_schedule_info *info, void *ud),
                        void *ud, hark_errinfo *ei)
{
    listing x = {.fn = fn, .ud = ud};
    hark_err err = hk_may_operate(bus, "hark_schedules", ei);
    if (err)
        return err;
    err = hk_store_enter(bus, ei);
    if (err)
        return err;
    err = bus->ops->schedules(bus->store, 0, 0, true, list_one, &x, ei);
    hk_store_leave(bus);
    return err;
}
