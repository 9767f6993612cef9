/* versions.c: which version of an event's data is handed out: adding upcasters and types, running
 * the steps that lead to the version wanted, and the version gate. What is known and which steps
 * lead where is src/event/upcast.c's. The bus holds what is known as one pointer, which is set
 * under its lock and read without; what it pointed to before lives on with the bus. */
#include "bus/bus_i.h"
#include "bus/versions_i.h"

#include <hark/versions.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is known --------------------------------------------------------------------------- */

static hk_chains *known_now(hark_bus *bus)
{
    return (hk_chains *)(uintptr_t)hk_mark_get(&bus->versions);
}

const hk_known *hk_upcast_known(hark_bus *bus, const hark_event *e)
{
    return hk_chains_find(known_now(bus), hark_event_type(e), hk_event_type_len(e));
}

void hk_upcast_free(hark_bus *bus)
{
    hk_chains_free(known_now(bus));
    hk_mark_set(&bus->versions, 0);
}

static hark_err add(hark_bus *bus, const char *type, const hk_step *step, const hk_shape *shape,
                    hark_errinfo *ei)
{
    hk_chains *next = NULL;
    hark_err err;
    pthread_mutex_lock(&bus->lock);
    if (!hk_bus_accepts(bus))
        err = hk_fail(ei, HARK_ECLOSED, "the bus is closed or draining");
    else if (step)
        err = hk_chains_add_step(known_now(bus), type, step, &next, ei);
    else
        err = hk_chains_add_shape(known_now(bus), type, shape, &next, ei);
    if (!err)
        hk_mark_set(&bus->versions, (uint64_t)(uintptr_t)next);
    pthread_mutex_unlock(&bus->lock);
    return err;
}

hark_err hark_upcaster_add(hark_bus *bus, const hark_upcaster *upcaster, hark_errinfo *ei)
{
    hark_upcaster u;
    hark_err err = hk_opts_take(upcaster, &u, sizeof u, "hark_upcaster", ei);
    const hk_step step = {.from = u.from, .to = u.to, .fn = u.fn, .ud = u.ud, .free_ud = u.free_ud};
    return err ? err : add(bus, u.type, &step, NULL, ei);
}

hark_err hark_type_add(hark_bus *bus, const hark_type *type, hark_errinfo *ei)
{
    hark_type t;
    hark_err err = hk_opts_take(type, &t, sizeof t, "hark_type", ei);
    const hk_shape shape = {.version = t.version ? t.version : 1, .table = t.table};
    if (!err && t.table)
        err = hark_json_table_check(t.table, ei);
    return err ? err : add(bus, t.type, NULL, &shape, ei);
}

hark_err hk_upcast_opt_check(const char *opts, int64_t wanted, hark_errinfo *ei)
{
    if (wanted >= HARK_VERSION_STORED && wanted <= INT32_MAX)
        return HARK_OK;
    return hk_fail(ei, HARK_EINVAL,
                   "%s.dataversion is %lld; HARK_VERSION_NEWEST, HARK_VERSION_STORED, or a version "
                   "up to %d",
                   opts, (long long)wanted, INT32_MAX);
}

/* ---- one step -------------------------------------------------------------------------------- */

struct hark_upcast {
    size_t max;   /* bytes of data */
    hk_buf data;  /* what came last */
    bool given;   /* some came */
    bool none;    /* and it was NULL */
    hark_err bad; /* of the last call that gives data */
    hark_errinfo ei;
};

hark_err hark_upcast_fail(hark_upcast *out, hark_err err, const char *fmt, ...)
{
    char text[sizeof out->ei.text];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return hk_fail(&out->ei, err, "%s", n < 0 ? hark_err_text(err) : text);
}

static hark_err take_data(hark_upcast *out, const void *data, size_t len)
{
    if (!data && len)
        return hark_upcast_fail(out, HARK_EINVAL, "it gives %zu bytes of data at NULL", len);
    if (len > out->max)
        return hark_upcast_fail(
            out, HARK_ETOOBIG, "it gives %zu bytes of data; max_event_bytes is %zu", len, out->max);
    hk_buf_clear(&out->data);
    hk_buf_add(&out->data, data ? data : "", len);
    return out->data.failed ? hark_upcast_fail(out, HARK_ENOMEM, "no memory for %zu bytes", len)
                            : HARK_OK;
}

hark_err hark_upcast_data(hark_upcast *out, const void *data, size_t len)
{
    out->bad = take_data(out, data, len);
    out->given = true;
    out->none = !data;
    return out->bad;
}

hark_err hark_upcast_json(hark_upcast *out, const hark_json_table *table, const void *from)
{
    char *json = NULL;
    size_t len = 0;
    out->bad = hark_json_encode(table, from, &json, &len, &out->ei);
    if (out->bad)
        return out->bad;
    hark_err err = hark_upcast_data(out, json, len);
    free(json);
    return err;
}

/* The event with what a step made of its data; the rest is as it was. */
static hark_err remade(const hark_event *e, const hk_step *step, const hark_upcast *out,
                       hark_event **ret, hark_errinfo *ei)
{
    hark_ext ext[HARK_EXTENSIONS_MAX];
    char time[HARK_TIME_TEXT];
    hark_event_spec spec;
    hark_event *made;
    hark_event_to_spec(e, ext, time, &spec);
    spec.time = hk_event_time_given(e);
    spec.dataversion = step->to;
    if (out->given) {
        spec.data = out->none ? NULL : out->data.data ? out->data.data : "";
        spec.data_len = out->data.len;
    }
    hark_err err =
        hk_event_make(&spec, NULL, hark_event_time_ns(e), 1, 0, HK_EVENT_TRUSTED, &made, ei);
    if (err)
        return err;
    hark_event_stamp(made, hark_event_sequence(e), hk_event_made_ns(e));
    hark_event_stamp_subject(made, hark_event_subject_version(e));
    *ret = made;
    return HARK_OK;
}

/* Replaces *e by what the step makes of it. */
static hark_err take_step(hark_bus *bus, hark_event **e, const hk_step *step, hark_errinfo *ei)
{
    hark_upcast out = {.max = bus->opts.max_event_bytes};
    hark_event *next = NULL;
    hark_err err = step->fn(*e, &out, step->ud);
    err = err ? err : out.bad;
    if (err)
        (void)hk_fail(ei, err, "the upcaster from %lld to %lld failed: %.400s",
                      (long long)step->from, (long long)step->to, hk_err_says(err, &out.ei));
    else
        err = remade(*e, step, &out, &next, ei);
    hk_buf_free(&out.data);
    if (err)
        return err;
    hark_event_unref(*e);
    *e = next;
    return HARK_OK;
}

/* ---- a path ---------------------------------------------------------------------------------- */

hk_fit hk_upcast_plan(hark_bus *bus, const hark_event *e, int64_t wanted, hk_upcast_path *ret,
                      hark_errinfo *ei)
{
    int64_t stored = hark_event_dataversion(e);
    hk_fit fit = hk_known_plan(hk_upcast_known(bus, e), stored, wanted, ret, ei);
    if (fit == HK_FIT_NEWER || fit == HK_FIT_NONE)
        (void)hk_wrap(ei, HARK_EUPCAST, "%s version %lld", hark_event_type(e), (long long)stored);
    return fit;
}

hk_fit hk_upcast_event(hark_bus *bus, hark_event **e, int64_t wanted, hark_errinfo *ei)
{
    hk_upcast_path path;
    hk_fit fit = hk_upcast_plan(bus, *e, wanted, &path, ei);
    if (fit != HK_FIT_STEPS)
        return fit;
    hark_event *now = hark_event_ref(*e);
    for (size_t i = 0; i < path.n; i++) {
        hark_err err = take_step(bus, &now, &path.steps[i], ei);
        if (!err)
            continue;
        (void)hk_wrap(ei, err == HARK_ENOMEM ? err : HARK_EUPCAST, "%s version %lld",
                      hark_event_type(*e), (long long)hark_event_dataversion(*e));
        hark_event_unref(now);
        return HK_FIT_NONE;
    }
    hark_event_unref(*e);
    *e = now;
    return HK_FIT_STEPS;
}

/* ---- the gate -------------------------------------------------------------------------------- */

typedef struct gate {
    const hk_chains *known;
    hark_version_fn fn;
    void *ud;
    bool check;   /* only what cannot be read is of interest, and all of it is counted */
    bool stopped; /* fn wants no more */
    uint64_t unreadable;
    hark_errinfo first; /* of these */
} gate;

/* "12 events and 1 dead letter" */
static void say_counts(const hark_store_version *v, char *ret, size_t size)
{
    const struct {
        uint64_t n;
        const char *what;
    } parts[] = {
        {v->events, "event"}, {v->dead_letters, "dead letter"}, {v->schedules, "schedule"}};
    size_t last = 0, at = 0;
    for (size_t i = 0; i < HK_COUNTOF(parts); i++)
        last = parts[i].n ? i : last;
    for (size_t i = 0; i < HK_COUNTOF(parts); i++) {
        if (!parts[i].n)
            continue;
        at += (size_t)snprintf(ret + at, size - at, "%s%llu %s%s",
                               at == 0     ? ""
                               : i == last ? " and "
                                           : ", ",
                               (unsigned long long)parts[i].n, parts[i].what,
                               parts[i].n == 1 ? "" : "s");
    }
}

static void note_unreadable(gate *g, const hark_store_version *v, const char *why)
{
    char counts[128] = "";
    if (g->unreadable++ > 0)
        return;
    say_counts(v, counts, sizeof counts);
    (void)hk_fail(&g->first, HARK_EUPCAST, "%s version %lld: %s in the log, and %s", v->type,
                  (long long)v->version, counts, why);
}

static bool look(void *ud, const hark_store_version *v)
{
    gate *g = ud;
    const hk_known *k = hk_chains_find(g->known, v->type, strlen(v->type));
    hk_upcast_path path;
    hark_errinfo ei = {0};
    hk_fit fit = hk_known_plan(k, v->version, HARK_VERSION_NEWEST, &path, &ei);
    bool readable = fit == HK_FIT_STORED || fit == HK_FIT_STEPS;
    if (g->check && (readable || !(v->events || v->dead_letters || v->schedules)))
        return true;
    if (g->check)
        note_unreadable(g, v, ei.text);
    const hark_version_info info = {.type = v->type,
                                    .version = v->version,
                                    .events = v->events,
                                    .dead_letters = v->dead_letters,
                                    .schedules = v->schedules,
                                    .first_ns = v->first_ns,
                                    .last_ns = v->last_ns,
                                    .reads = hk_known_newest(k),
                                    .readable = readable,
                                    .why = readable ? "" : ei.text};
    if (g->fn && !g->stopped)
        g->stopped = !g->fn(&info, g->ud);
    return g->check || !g->stopped;
}

static hark_err walk(hark_bus *bus, gate *g, const char *call, hark_errinfo *ei)
{
    hark_err err = hk_may_operate(bus, call, ei);
    if (!err && !bus->ops->versions)
        err = hk_fail(ei, HARK_ENOTSUP, "%s: this store keeps no counts of versions", call);
    if (!err)
        err = hk_store_enter(bus, ei);
    if (err)
        return err;
    g->known = known_now(bus);
    err = bus->ops->versions(bus->store, look, g, ei);
    hk_store_leave(bus);
    return err;
}

hark_err hark_versions(hark_bus *bus, hark_version_fn fn, void *ud, hark_errinfo *ei)
{
    gate g = {.fn = fn, .ud = ud};
    if (!fn)
        return hk_fail(ei, HARK_EINVAL, "hark_versions: no function is given to list them to");
    return walk(bus, &g, "hark_versions", ei);
}

hark_err hark_versions_check(hark_bus *bus, hark_version_fn fn, void *ud, hark_errinfo *ei)
{
    gate g = {.fn = fn, .ud = ud, .check = true};
    hark_err err = walk(bus, &g, "hark_versions_check", ei);
    if (err || !g.unreadable)
        return err;
    if (g.unreadable == 1)
        return hk_fail(ei, HARK_EUPCAST, "%s", g.first.text);
    return hk_fail(ei, HARK_EUPCAST, "%.460s; and %llu more like it", g.first.text,
                   (unsigned long long)(g.unreadable - 1));
}
