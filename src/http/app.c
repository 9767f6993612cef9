/* The app object: options, counters, its end. */
#include "http/http_i.h"
#include "http/stream_i.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void set_default(size_t *v, size_t to)
{
    if (*v == 0)
        *v = to;
}

static void set_default_ms(int64_t *v, int64_t to)
{
    if (*v == 0)
        *v = to;
}

static size_t cores(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > HK_LOOPS_MAX ? HK_LOOPS_MAX : (size_t)n;
}

static hark_err check_opts(const hark_app_opts *o, hark_errinfo *ei)
{
    if (o->flags)
        return hk_fail(ei, HARK_EINVAL, "hark_app_opts: unknown flags");
    if (o->loops > HK_LOOPS_MAX)
        return hk_fail(ei, HARK_EINVAL, "hark_app_opts: loops is over %d", HK_LOOPS_MAX);
    if (o->workers > 1024)
        return hk_fail(ei, HARK_EINVAL, "hark_app_opts: workers is over 1024");
    if (o->memory_per_connection < 2048 || o->memory_per_connection > 1 << 20)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_app_opts: memory_per_connection is not from 2048 to 1048576");
    if (o->max_connections > 1000000 || o->backlog > INT32_MAX)
        return hk_fail(ei, HARK_EINVAL, "hark_app_opts: max_connections or backlog is too large");
    if (o->header_timeout_ms < 0 || o->idle_timeout_ms < 0 || o->drain_ms < 0 ||
        o->header_timeout_ms > INT32_MAX || o->idle_timeout_ms > INT32_MAX ||
        o->drain_ms > INT32_MAX)
        return hk_fail(ei, HARK_EINVAL, "hark_app_opts: a time is negative or over 24 days");
    return HARK_OK;
}

static hark_err take_opts(const hark_app_opts *opts, hark_app_opts *o, hark_errinfo *ei)
{
    hark_err err = hk_opts_take(opts, o, sizeof *o, "hark_app_opts", ei);
    if (err)
        return err;
    set_default(&o->loops, (cores() + 1) / 2); /* writer and handlers need cores too */
    set_default(&o->workers, 4);
    set_default(&o->worker_queue, 256);
    set_default(&o->body_limit, 1 << 20);
    set_default(&o->max_connections, 16384);
    set_default(&o->memory_per_connection, 16384);
    set_default(&o->backlog, 1024);
    set_default_ms(&o->header_timeout_ms, 10000);
    set_default_ms(&o->idle_timeout_ms, 60000);
    set_default_ms(&o->drain_ms, 5000);
    return check_opts(o, ei);
}

hark_err hark_app_new(const hark_app_opts *opts, hark_app **ret, hark_errinfo *ei)
{
    hark_app_opts o;
    hark_err err = take_opts(opts, &o, ei);
    if (err)
        return err;
    hark_app *app = calloc(1, sizeof *app);
    if (!app)
        return hk_fail(ei, HARK_ENOMEM, "out of memory");
    hk_ref_init(&app->refs, 1);
    app->opts = o;
    app->root.app = app;
    app->root.prefix = hk_strdup("");
    app->reserve_fd = -1;
    app->quit_fd = -1;
    app->drops = calloc(1, sizeof *app->drops);
    err = app->root.prefix && app->drops ? hk_router_init(&app->router) : HARK_ENOMEM;
    if (err) {
        free(app->root.prefix);
        free(app->drops);
        free(app);
        return hk_fail(ei, err, "out of memory");
    }
    hk_ref_init(&app->drops->refs, 1);
    app->bus = o.bus ? hark_bus_ref(o.bus) : NULL;
    app->has_bus = o.bus != NULL;
    pthread_rwlock_init(&app->bus_lock, NULL);
    *ret = app;
    return HARK_OK;
}

static void close_all(hark_app *app)
{
    for (size_t i = 0; i < app->n_listeners; i++)
        close(app->listeners[i].fd);
    if (app->reserve_fd >= 0)
        close(app->reserve_fd);
    if (app->quit_fd >= 0)
        close(app->quit_fd);
}

void hk_drops_put(hk_drops *d)
{
    if (hk_ref_put(&d->refs))
        free(d);
}

/* Contexts that somebody still holds after the end keep the app. */
void hk_app_put(hark_app *app)
{
    if (!hk_ref_put(&app->refs))
        return;
    for (size_t i = 0; i < app->n_loops; i++)
        pthread_mutex_destroy(&app->loops[i].lock);
    free(app->loops);
    hk_feeds_free(app);
    hk_routes_free(app);
    hk_drops_put(app->drops);
    close_all(app);
    pthread_rwlock_destroy(&app->bus_lock);
    free(app);
}

hark_err hk_app_publish(hark_app *app, const hark_event_spec *spec, hark_published_fn fn, void *ud)
{
    pthread_rwlock_rdlock(&app->bus_lock);
    hark_err err = app->bus ? hark_publish_async(app->bus, spec, fn, ud) : HARK_ECLOSED;
    pthread_rwlock_unlock(&app->bus_lock);
    return err;
}

hark_app *hark_app_unref(hark_app *app)
{
    if (!app)
        return NULL;
    hark_err err = hark_app_stop(app, NULL);
    if (err == HARK_EWRONGTHREAD) {
        hk_log(HK_ERROR, "http: hark_app_unref in a handler or an encoder of it; the app goes on");
        return NULL;
    }                  /* what was cut off was logged */
    hk_feeds_end(app); /* one that never ran */
    pthread_rwlock_wrlock(&app->bus_lock);
    hark_bus *bus = app->bus;
    app->bus = NULL; /* contexts that are still held publish no more */
    pthread_rwlock_unlock(&app->bus_lock);
    hark_bus_unref(bus);
    hk_app_put(app);
    return NULL;
}

hark_err hark_app_stats_get(hark_app *app, hark_app_stats *ret)
{
    if (ret->size != sizeof *ret)
        return HARK_EINVAL;
    *ret = (hark_app_stats){.size = sizeof *ret};
    for (size_t i = 0; i < app->n_loops; i++) {
        hk_counts *n = &app->loops[i].counts;
        ret->connections += hk_count_get(&n->connections);
        ret->accepted += hk_count_get(&n->accepted);
        ret->requests += hk_count_get(&n->requests);
        ret->refused += hk_count_get(&n->refused);
        ret->timed_out += hk_count_get(&n->timed_out);
        ret->streams += hk_count_get(&n->streams);
        ret->streams_cut += hk_count_get(&n->streams_cut);
    }
    ret->events_dropped = hk_count_get(&app->drops->n);
    return HARK_OK;
}
