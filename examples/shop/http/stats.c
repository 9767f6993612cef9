/* http/stats.c: GET /stats, the same live as GET /stats/stream, and POST /analytics/rebuild. A thread
 * gathers the figures once a second, while somebody watches. */
#include "../stats.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- once a second ---- */

struct ticker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
};

/* Waits until the next second, or the end: false. */
static bool tick(struct ticker *t)
{
    struct timespec next;
    clock_gettime(CLOCK_REALTIME, &next);
    next.tv_sec++;
    pthread_mutex_lock(&t->lock);
    int late = 0;
    while (!t->stop && !late)
        late = pthread_cond_timedwait(&t->changed, &t->lock, &next);
    bool stop = t->stop;
    pthread_mutex_unlock(&t->lock);
    return !stop;
}

static void send_now(shop *s)
{
    stats st;
    hark_errinfo ei;
    hark_err err = stats_gather(s, &st, &ei);
    if (!err)
        err = hark_feed_send_json(s->stats, NULL, stats_table(), &st);
    if (err)
        fprintf(stderr, "shop: no figures at this moment: %s\n", hark_err_text(err));
    stats_clear(&st);
}

static void *watch(void *ud)
{
    shop *s = ud;
    while (tick(s->ticker))
        if (hark_feed_readers(s->stats) > 0)
            send_now(s);
    return NULL;
}

static hark_err start(shop *s)
{
    struct ticker *t = calloc(1, sizeof *t);
    if (!t)
        return HARK_ENOMEM;
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    s->ticker = t;
    if (pthread_create(&t->thread, NULL, watch, s) == 0)
        return HARK_OK;
    free(t);
    s->ticker = NULL;
    return HARK_ESYS;
}

void shop_stats_stop(shop *s)
{
    struct ticker *t = s->ticker;
    if (!t)
        return;
    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
    s->ticker = NULL;
}

/* ---- routes ---- */

static hark_err get_stats(hark_ctx *c, void *ud)
{
    shop *s = ud;
    stats st;
    hark_errinfo ei;
    hark_err err = stats_gather(s, &st, &ei);
    err = err ? hark_ctx_fail(c, err, "%s", ei.text) : hark_ctx_json(c, 200, stats_table(), &st);
    stats_clear(&st);
    return err;
}

static hark_err stream_stats(hark_ctx *c, void *ud)
{
    shop *s = ud;
    if (hark_feed_readers(s->stats) == 0) /* what the last one saw is old */
        send_now(s);
    return hark_ctx_stream(c, s->stats, HARK_OPTS(hark_stream_opts, .last = 1, .retry_ms = 500));
}

static hark_err rebuild(hark_ctx *c, void *ud)
{
    hark_errinfo ei;
    hark_err err = analytics_rebuild(ud, &ei);
    return err ? hark_ctx_fail(c, err, "%s", ei.text)
               : hark_ctx_json_text(c, 202, "{\"state\":\"rebuilding\"}");
}

hark_err shop_stats_routes(shop *s, hark_errinfo *ei)
{
    hark_err err = hark_app_feed(s->app, HARK_OPTS(hark_feed_opts, .keep = 2), &s->stats);
    hark_route(s->app, "GET", "/stats", get_stats, s, HARK_BLOCKING);
    hark_route(s->app, "GET", "/stats/stream", stream_stats, s, HARK_BLOCKING);
    hark_route(s->app, "POST", "/analytics/rebuild", rebuild, s, HARK_BLOCKING);
    if (!err)
        err = start(s);
    return err ? hark_errinfo_set(ei, err, "GET /stats/stream cannot be served: %s",
                                  hark_err_text(err))
               : HARK_OK;
}
