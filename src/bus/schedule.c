/* schedule.c: publishing later. A schedule is a row of the store; a queue of what is due when
 * (hk_sched, in src/delivery) is kept in memory. The writer takes what is due, appends the event and
 * drops the row in one group, so an event is published once, whatever crashes.
 *
 * On a shared store schedules are everybody's, and the server's clock says when they are due. Each process looks now and then for
 * those that are due soon; the group that drops the row first is the one that publishes. */
#include "bus/party_i.h"
#include "bus/schedule_i.h"

#include <stdlib.h>
#include <string.h>

/* While something waits by the wall clock, that is looked at so often: it may be set. */
#define CLOCK_LOOK_NS (INT64_C(250) * 1000000)
/* Schedules of other processes are looked for this long before they are due, no more often than this, and no less. */
#define AHEAD_NS     INT64_C(1500000000)
#define LOOK_NS      INT64_C(1000000000)
#define LOOK_MOST_NS INT64_C(5000000000)

enum { BY_DELAY = 1, TIME_GIVEN = 2 };

/* Events of one turn; more wait for the next group. */
enum { TURN = 1024 };

/* ---- opening --------------------------------------------------------------------------------- */

typedef struct loading {
    hk_writer *w;
    bool shared;
    hk_now now;
    size_t n, added;
    hark_err err;
} loading;

static bool load_one(void *ud, const hark_store_schedule *sch)
{
    loading *x = ud;
    bool by_delay = !x->shared && (sch->by_delay & BY_DELAY) != 0;
    int64_t due = by_delay ? x->now.mono + (sch->due_ns - x->now.wall) : sch->due_ns;
    x->err = hk_sched_add(x->w->sched, sch->id, due, by_delay);
    return !x->err;
}

hark_err hk_schedules_open(hark_bus *bus, hark_errinfo *ei)
{
    loading x = {.w = &bus->writer, .shared = bus->info.shared, .now = hk_now_get()};
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

/* ---- those of others ------------------------------------------------------------------------- */

void hk_schedules_hint(hark_bus *bus)
{
    hk_mark_set(&bus->writer.sched_hint, 1);
    hk_inbox_wake(&bus->writer.inbox);
}

static bool learn_one(void *ud, const hark_store_schedule *sch)
{
    loading *x = ud;
    hk_writer *w = x->w;
    pthread_mutex_lock(&w->sched_lock);
    bool fresh = w->sched && !hk_sched_knows(w->sched, sch->id);
    if (fresh)
        x->err = hk_sched_add(w->sched, sch->id, sch->due_ns, false);
    pthread_mutex_unlock(&w->sched_lock);
    x->n++;
    x->added += fresh;
    return !x->err;
}

/* How long until the next look. */
static int64_t look(hark_bus *bus)
{
    loading x = {.w = &bus->writer, .shared = true};
    int64_t next = -1;
    hark_err err = bus->ops->schedules_due(bus->store, AHEAD_NS, TURN, learn_one, &x, &next, NULL);
    if (err || x.err)
        return LOOK_NS;
    if (x.n >= TURN && x.added > 0) /* more of them, when these are published */
        return 0;
    if (x.n >= TURN)
        return LOOK_NS;
    if (next < 0 || next - LOOK_NS > LOOK_MOST_NS)
        return LOOK_MOST_NS;
    return next > LOOK_NS * 2 ? next - LOOK_NS : LOOK_NS;
}

/* How long until the next look, after one if it was due; -1 = there is none. */
static int64_t look_for_others(hark_bus *bus)
{
    hk_writer *w = &bus->writer;
    if (!bus->info.shared)
        return -1;
    int64_t now = hk_mono_ns(), at = w->sched_look, soon = w->sched_looked + LOOK_NS;
    if (hk_mark_get(&w->sched_hint) && soon < at)
        at = soon;
    if (now < at)
        return at - now;
    hk_mark_set(&w->sched_hint, 0); /* before the look: what comes meanwhile is for the next one */
    int64_t wait = look(bus);
    w->sched_looked = now;
    w->sched_look = now + wait;
    return wait;
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

int64_t hk_schedules_due(hark_bus *bus)
{
    hk_writer *w = &bus->writer;
    int64_t others = look_for_others(bus);
    hk_now now = hk_bus_now(bus);
    uint64_t id;
    for (size_t n = 0; n < TURN && take(w, now, &id); n++)
        attempt(bus, id);
    pthread_mutex_lock(&w->sched_lock);
    int64_t wait = w->sched ? hk_sched_wait(w->sched, now, CLOCK_LOOK_NS) : -1;
    pthread_mutex_unlock(&w->sched_lock);
    return others < 0 || (wait >= 0 && wait < others) ? wait : others;
}

/* ---- making one ------------------------------------------------------------------------------ */

static hark_err set_due(hark_when when, hk_now now, hk_scheduling *x, hark_errinfo *ei)
{
    if (when.after_ms < 0 || when.at_ns < 0 || (when.at_ns && when.after_ms))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_when: at_ns is %lld and after_ms %lld; give a time since 1970 by "
                       "hark_at, or a delay by hark_after",
                       (long long)when.at_ns, (long long)when.after_ms);
    int64_t delay = hk_ms_to_ns(when.after_ms);
    x->due.by_delay = !when.at_ns;
    x->sch.by_delay = when.at_ns ? 0 : BY_DELAY;
    x->sch.due_ns = when.at_ns                     ? when.at_ns
                    : delay > INT64_MAX - now.wall ? INT64_MAX
                                                   : now.wall + delay;
    x->due.due = when.at_ns                     ? when.at_ns
                 : delay > INT64_MAX - now.mono ? INT64_MAX
                                                : now.mono + delay;
    return HARK_OK;
}

static hark_err take_room(hark_bus *bus, hk_due *due, hark_errinfo *ei)
{
    hk_writer *w = &bus->writer;
    pthread_mutex_lock(&w->sched_lock);
    bool closed = !w->sched;
    due->room = closed ? NULL : hk_sched_promise(w->sched);
    pthread_mutex_unlock(&w->sched_lock);
    if (due->room)
        return HARK_OK;
    return closed ? hk_fail(ei, HARK_ECLOSED, "the bus is closed")
                  : hk_fail(ei, HARK_ENOMEM, "no memory for a schedule; free some, then try again");
}

bool hk_due_queue(hark_bus *bus, hk_due *due)
{
    hk_writer *w = &bus->writer;
    pthread_mutex_lock(&w->sched_lock);
    bool open = w->sched != NULL;
    if (open) {
        hk_sched_put(w->sched, due->room, due->id, due->due, due->by_delay);
        due->room = NULL;
    }
    pthread_mutex_unlock(&w->sched_lock);
    return open;
}

void hk_due_drop(hark_bus *bus, hk_due *due)
{
    hk_writer *w = &bus->writer;
    if (!due->room)
        return;
    pthread_mutex_lock(&w->sched_lock);
    if (w->sched)
        hk_sched_forgo(w->sched, due->room);
    else
        free(due->room);
    pthread_mutex_unlock(&w->sched_lock);
    due->room = NULL;
}

hark_err hk_scheduling_make(hark_bus *bus, const hark_event_spec *spec, hark_when when,
                            hk_scheduling *ret, hark_errinfo *ei)
{
    hk_now now = hk_bus_now(bus);
    hk_scheduling x = {.sch.created_ns = now.wall};
    if (spec->expected_version)
        return hk_fail(ei, HARK_EINVAL,
                       "expected_version cannot be checked later: publish now, or leave it out");
    hark_err err = set_due(when, now, &x, ei);
    if (!err)
        err = take_room(bus, &x.due, ei);
    if (err)
        return err;
    err = hk_publish_make(bus, spec, 1, 0, &x.sch.event, ei);
    if (err) {
        hk_due_drop(bus, &x.due);
        return err;
    }
    x.sch.by_delay |= spec->time ? TIME_GIVEN : 0;
    hk_event_digest(x.sch.event, bus->info.log_id, x.sch.digest);
    *ret = x;
    return HARK_OK;
}

hark_err hk_scheduling_keep(hark_bus *bus, hk_scheduling *x, bool *ret_duplicate, hark_errinfo *ei)
{
    uint64_t sequence = 0;
    hark_err err = bus->ops->schedule_add(bus->store, &x->sch, &sequence, ret_duplicate, ei);
    if (err)
        return err;
    if (sequence && !x->sch.first_stands)
        return hk_fail(ei, HARK_EEXIST,
                       "the event with id '%.60s' is in the log already, as sequence %llu",
                       hark_event_id(x->sch.event), (unsigned long long)sequence);
    x->due.id = sequence ? 0 : x->sch.id;
    return HARK_OK;
}

void hk_scheduling_clear(hark_bus *bus, hk_scheduling *x)
{
    hk_due_drop(bus, &x->due);
    hark_event_unref(x->sch.event);
}

/* ---- the calls ------------------------------------------------------------------------------- */

typedef struct adding {
    hk_scheduling x;
    bool duplicate;
} adding;

static hark_err add_job(hark_bus *bus, void *ud, hark_errinfo *ei)
{
    adding *a = ud;
    return hk_scheduling_keep(bus, &a->x, &a->duplicate, ei);
}

static hark_err add(hark_bus *bus, adding *a, hark_schedule_id *ret, hark_errinfo *ei)
{
    hark_err err = hk_writer_insist(bus, add_job, a, ei);
    if (err)
        return err;
    uint64_t id = a->x.due.id;
    if (!a->duplicate && !hk_due_queue(bus, &a->x.due))
        return hk_fail(ei, HARK_ECLOSED,
                       "schedule %llu is stored, and published after the next start",
                       (unsigned long long)id);
    hk_inbox_wake(&bus->writer.inbox);
    if (ret)
        *ret = id;
    return HARK_OK;
}

hark_err hark_schedule(hark_bus *bus, const hark_event_spec *given, hark_when when,
                       hark_schedule_id *ret, hark_errinfo *ei)
{
    hark_event_spec spec;
    adding a = {.duplicate = false};
    hark_err err = hk_may_operate(bus, "hark_schedule", ei);
    if (!err && !hk_bus_accepts(bus) && hk_role_get() != HK_ROLE_HANDLER)
        err = hk_fail(ei, HARK_ECLOSED, "the bus is draining");
    if (!err)
        err = hk_opts_take(given, &spec, sizeof spec, "hark_event_spec", ei);
    if (!err)
        err = hk_scheduling_make(bus, &spec, when, &a.x, ei);
    if (err)
        return err;
    err = add(bus, &a, ret, ei);
    hk_scheduling_clear(bus, &a.x);
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
        err = hk_writer_insist(bus, drop_job, &id, ei);
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
