/* http/stats.c: GET /stats, the same live as GET /stats/stream, and POST /analytics/rebuild. A thread
 * gathers the figures once a second, while somebody watches. */
#include "../stats.h"

#include <stdio.h>

/* ---- once a second ---- */

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
    while (take_time(s, 1000))
        if (hark_feed_readers(s->stats) > 0)
            send_now(s);
    return NULL;
}

void shop_stats_stop(shop *s)
{
    if (s->ticks)
        pthread_join(s->ticker, NULL); /* rest_end has told it */
    s->ticks = false;
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
        s->ticks = pthread_create(&s->ticker, NULL, watch, s) == 0;
    if (!err && !s->ticks)
        err = HARK_ESYS;
    return err ? hark_errinfo_set(ei, err, "GET /stats/stream cannot be served: %s",
                                  hark_err_text(err))
               : HARK_OK;
}
