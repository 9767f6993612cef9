/* insist.c: publishing that repeats while the store fails. The id is fixed before the first try, so
 * that a repeat of what was stored after all is a duplicate. What is given up goes to the caller, and
 * is kept here until the store takes an event that says so: the writer's turns put those into its
 * backlog, all of them while groups are being committed, one a second as a probe while they fail. */
#include "bus/bus_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEPT_MAX = 1024, A_TURN = 64, MAKES_MAX = 3 };
#define PROBE_NS INT64_C(1000000000)

/* An event that was given up and is to be announced. */
typedef struct given {
    struct given *next;
    hk_given_up *home;
    hark_event *event;
    int64_t attempts;
    unsigned makes; /* how often its announcement could not be made */
    char error[512];
} given;

struct hk_given_up {
    hark_bus *bus;
    pthread_mutex_t lock; /* everything below */
    given *first, **last;
    size_t n; /* waiting, or on their way through a group */
    int64_t probe_at;
};

/* ---- what was given up ----------------------------------------------------------------------- */

static hk_given_up *home_of(hark_bus *bus, bool make)
{
    pthread_mutex_lock(&bus->lock);
    hk_given_up *g = bus->given_up;
    if (!g && make && (g = calloc(1, sizeof *g))) {
        pthread_mutex_init(&g->lock, NULL);
        g->bus = bus;
        g->last = &g->first;
        bus->given_up = g;
    }
    pthread_mutex_unlock(&bus->lock);
    return g;
}

static void given_free(given *x)
{
    hark_event_unref(x->event);
    free(x);
}

/* Under the lock. */
static given *shift(hk_given_up *g)
{
    given *x = g->first;
    if (x && !(g->first = x->next))
        g->last = &g->first;
    return x;
}

/* Under the lock. At the head: it was there before the others. */
static void put_back(hk_given_up *g, given *x)
{
    x->next = g->first;
    g->first = x;
    if (!x->next)
        g->last = &x->next;
}

static void is_not_announced(const given *x, const char *why)
{
    hk_log(HK_WARN,
           "event %.200s (%.200s) could not be published, and no dead_letter event will say so: %s",
           hark_event_id(x->event), hark_event_type(x->event), why);
}

/* Takes over x, or refuses it when too many wait. */
static bool add(hk_given_up *g, given *x)
{
    pthread_mutex_lock(&g->lock);
    bool room = g->n < KEPT_MAX;
    if (room) {
        x->next = NULL;
        *g->last = x;
        g->last = &x->next;
        g->n++;
    }
    pthread_mutex_unlock(&g->lock);
    return room;
}

static void keep(hark_bus *bus, hark_event *e, int64_t attempts, const char *error)
{
    given *x = calloc(1, sizeof *x);
    hk_given_up *g = home_of(bus, true);
    if (!x || !g) {
        hk_log(HK_WARN,
               "event %.200s could not be published, and there is no memory to announce it",
               hark_event_id(e));
        free(x);
        return;
    }
    x->home = g;
    x->event = hark_event_ref(e);
    x->attempts = attempts;
    (void)snprintf(x->error, sizeof x->error, "%s", error);
    if (!add(g, x)) {
        is_not_announced(x, "1024 others wait for that already");
        given_free(x);
        return;
    }
    hk_inbox_wake(&bus->writer.inbox);
}

bool hk_given_up_any(hark_bus *bus)
{
    hk_given_up *g = home_of(bus, false);
    if (!g || hk_mark_get(&bus->read_only))
        return false;
    pthread_mutex_lock(&g->lock);
    bool any = g->first != NULL;
    pthread_mutex_unlock(&g->lock);
    return any;
}

/* ---- announcing: with the writer's role ------------------------------------------------------ */

/* The outcome of an announcement; whoever has the writer's role calls it. */
static void announced(hark_err err, const hark_receipt *receipt, void *ud)
{
    given *x = ud;
    hk_given_up *g = x->home;
    (void)receipt;
    hark_class class = hark_err_class(err);
    bool again = class == HARK_CLASS_TRANSIENT || class == HARK_CLASS_UNKNOWN ||
                 class == HARK_CLASS_FATAL || err == HARK_ECLOSED;
    pthread_mutex_lock(&g->lock);
    if (again)
        put_back(g, x);
    else
        g->n--;
    bool more = !again && g->first;
    pthread_mutex_unlock(&g->lock);
    if (again)
        return;
    if (more) /* the store is back */
        hk_inbox_wake(&g->bus->writer.inbox);
    if (err)
        is_not_announced(x, hark_err_text(err));
    given_free(x);
}

static hk_request *make_request(hark_bus *bus, given *x)
{
    const hk_obituary o = {
        .reason = "publish", .error = x->error, .attempts = x->attempts, .event = x->event};
    hk_request *r = hk_obituary_request(bus, &o);
    if (r) {
        r->fn = announced;
        r->ud = x;
    }
    return r;
}

/* Takes one that may be tried now; NULL when there is none. */
static given *next_due(hk_given_up *g, bool failing)
{
    given *x = NULL;
    pthread_mutex_lock(&g->lock);
    int64_t now = failing && g->first ? hk_mono_ns() : 0;
    if (!failing || now >= g->probe_at)
        x = shift(g);
    if (x && failing)
        g->probe_at = now + PROBE_NS;
    pthread_mutex_unlock(&g->lock);
    return x;
}

static bool announce(hark_bus *bus, hk_given_up *g, given *x)
{
    hk_request *r = make_request(bus, x);
    if (r) {
        hk_list_append(&bus->writer.backlog, &r->work);
        return true;
    }
    bool over = ++x->makes >= MAKES_MAX; /* memory is out, or it is too large for an event */
    pthread_mutex_lock(&g->lock);
    if (over)
        g->n--;
    else
        put_back(g, x);
    pthread_mutex_unlock(&g->lock);
    if (over) {
        is_not_announced(x, "its announcement cannot be made; is it near max_event_bytes?");
        given_free(x);
    }
    return false;
}

void hk_given_up_turn(hark_bus *bus)
{
    hk_given_up *g = home_of(bus, false);
    if (HK_LIKELY(!g) || hk_mark_get(&bus->read_only))
        return;
    bool failing = hk_mark_get(&bus->writer.last_failed_ns) != 0;
    given *x;
    for (size_t i = 0; i < A_TURN && (x = next_due(g, failing)); i++)
        if (!announce(bus, g, x))
            return;
}

void hk_given_up_free(hark_bus *bus)
{
    hk_given_up *g = bus->given_up;
    if (!g)
        return;
    for (given *x; (x = shift(g));) {
        is_not_announced(x, "the store did not come back before the bus was closed");
        given_free(x);
    }
    pthread_mutex_destroy(&g->lock);
    free(g);
    bus->given_up = NULL;
}

/* ---- the call -------------------------------------------------------------------------------- */

/* One call under way. */
typedef struct insistence {
    hark_bus *bus;
    hark_retry_opts o;
    hark_event_spec spec;
    char id[HK_UUID_TEXT + 1], time[HK_RFC3339_MAX];
    int64_t attempts, began, deadline; /* mono; deadline -1 = none */
    uint64_t rng;
    hark_errinfo ei; /* of the last attempt */
} insistence;

static hark_err refuse(hark_errinfo *ei, const char *field, int64_t value, const char *allowed)
{
    return hk_fail(ei, HARK_EINVAL, "hark_retry_opts.%s is %lld; %s", field, (long long)value,
                   allowed);
}

static hark_err take_opts(const hark_retry_opts *opts, hark_retry_opts *o, hark_errinfo *ei)
{
    hark_err err = hk_opts_take(opts, o, sizeof *o, "hark_retry_opts", ei);
    if (err)
        return err;
    if (o->max_attempts < -1)
        return refuse(ei, "max_attempts", o->max_attempts, "1 or more, or -1 for no limit");
    if (o->first_delay_ms < 0)
        return refuse(ei, "first_delay_ms", o->first_delay_ms, "1 or more");
    if (o->max_delay_ms < 0)
        return refuse(ei, "max_delay_ms", o->max_delay_ms, "1 or more");
    if (o->deadline_ms < -1)
        return refuse(ei, "deadline_ms", o->deadline_ms, "1 or more, or -1 for none");
    if (o->flags & ~(int64_t)HARK_RETRY_SILENT)
        return refuse(ei, "flags", o->flags, "only HARK_RETRY_SILENT is known");
    o->max_attempts = o->max_attempts ? o->max_attempts : 10;
    o->first_delay_ms = o->first_delay_ms ? o->first_delay_ms : 100;
    o->max_delay_ms = o->max_delay_ms ? o->max_delay_ms : 5000;
    o->deadline_ms = o->deadline_ms ? o->deadline_ms : 30000;
    return HARK_OK;
}

static hark_err begin(insistence *in, const hark_event_spec *spec, hark_errinfo *ei)
{
    hark_err err = hk_opts_take(spec, &in->spec, sizeof in->spec, "hark_event_spec", ei);
    if (err)
        return err;
    if (!in->spec.id) {
        hk_uuid7(hk_wall_ns(), in->id);
        in->spec.id = in->id;
    }
    hk_random(&in->rng, sizeof in->rng);
    in->began = hk_mono_ns();
    in->deadline = in->o.deadline_ms < 0 ? -1 : in->began + hk_ms_to_ns(in->o.deadline_ms);
    return HARK_OK;
}

static hark_err try_once(insistence *in, hark_receipt *ret)
{
    in->ei = (hark_errinfo){0};
    in->attempts++;
    hark_err err = hk_publish(in->bus, &in->spec, 0, ret, &in->ei);
    if (err && !in->ei.err) /* the store had nothing to add */
        (void)hk_fail(&in->ei, err, "%s", hark_err_text(err));
    if (err && !in->spec.time) { /* later tries are about the same moment */
        (void)hk_rfc3339_format(hk_wall_ns(), 9, in->time);
        in->spec.time = in->time;
    }
    return err;
}

/* Until the next try. False when there is to be none: the limit, the deadline, or the bus's end. */
static bool rest(insistence *in)
{
    int64_t now = hk_mono_ns();
    if (in->o.max_attempts > 0 && in->attempts >= in->o.max_attempts)
        return false;
    if (in->deadline >= 0 && now >= in->deadline)
        return false;
    int64_t until = now + hk_backoff(hk_ms_to_ns(in->o.first_delay_ms),
                                     hk_ms_to_ns(in->o.max_delay_ms), in->attempts, &in->rng);
    if (in->deadline >= 0 && until > in->deadline)
        until = in->deadline; /* a last try there */
    return hk_bus_rest(in->bus, until);
}

/* Errors that the next try may not meet. */
static bool passes(hark_err err)
{
    hark_class class = hark_err_class(err);
    return class == HARK_CLASS_TRANSIENT || class == HARK_CLASS_UNKNOWN;
}

/* Without memory for the event only the caller hears of it, by the error. */
static void give_up(insistence *in, hark_err err)
{
    hark_event *e;
    if (hk_publish_event(in->bus, &in->spec, 1, 0, &e, NULL)) {
        hk_log(HK_WARN, "event %.200s could not be published: %s", in->spec.id, in->ei.text);
        return;
    }
    if (in->o.gave_up)
        in->o.gave_up(e, err, in->o.ud);
    bool itself = strcmp(hark_event_type(e), HK_DEAD_LETTER_TYPE) == 0;
    if (!(in->o.flags & HARK_RETRY_SILENT) && !itself) {
        const hk_obituary o = {
            .reason = "publish", .error = in->ei.text, .attempts = in->attempts, .event = e};
        if (in->bus->info.direct)
            hk_obituary_publish(in->bus, &o);
        else
            keep(in->bus, e, in->attempts, in->ei.text);
    }
    hark_event_unref(e);
}

hark_err hark_publish_with_retry(hark_bus *bus, const hark_event_spec *spec,
                                 const hark_retry_opts *opts, hark_receipt *ret, hark_errinfo *ei)
{
    insistence in = {.bus = bus};
    hark_err err = take_opts(opts, &in.o, ei);
    if (!err)
        err = begin(&in, spec, ei);
    if (err)
        return err;
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "hark_publish_with_retry would block this thread; use hark_publish_async");
    do
        err = try_once(&in, ret);
    while (passes(err) && rest(&in));
    bool over = passes(err) || hark_err_class(err) == HARK_CLASS_FATAL ||
                (err == HARK_ECLOSED && in.attempts > 1);
    if (passes(err) && !hk_bus_accepts(bus))
        err = hk_wrap(&in.ei, HARK_ECLOSED, "the bus was closed before the next attempt");
    if (over) {
        (void)hk_wrap(&in.ei, err, "given up after %lld attempts", (long long)in.attempts);
        give_up(&in, err);
    }
    if (err && ei)
        *ei = in.ei;
    return err;
}
