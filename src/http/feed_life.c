/* Feeds: how they are made, subscribe, and end. With a pattern, a live subscription is their source;
 * it goes on from the log by itself when it cannot keep up, and tells what the log has lost. */
#include "http/stream_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the subscription ---- */

static hark_err as_cloudevent(hark_frame *w, const hark_event *e, void *ud)
{
    char *text;
    size_t len;
    (void)ud;
    hark_err err = hark_event_to_json(e, &text, &len);
    if (err)
        return err;
    err = hark_frame_data(w, text, len);
    free(text);
    return err;
}

static hark_verdict on_event(hark_delivery *d, void *ud)
{
    hark_feed *f = ud;
    uint64_t from, to;
    if (hark_delivery_gap(d, &from, &to)) {
        hk_feed_append(f, hk_feed_gap(f, from, to, "retention"), from, to);
        return HARK_ACK;
    }
    const hark_event *e = hark_delivery_event(d);
    uint64_t seq = hark_event_sequence(e);
    hk_feed_append(f, hk_feed_encode(f, &f->frame, &f->bytes, e), seq, seq);
    return HARK_ACK;
}

/* ---- life ---- */

static void feed_free(hark_feed *f)
{
    hk_feed_clear(f);
    for (size_t i = 0; i < f->n_muted; i++)
        free(f->muted[i]);
    if (f->free_ud)
        f->free_ud(f->ud);
    hk_frame_free(&f->frame);
    hk_buf_free(&f->bytes);
    pthread_mutex_destroy(&f->lock);
    free(f->ring);
    free(f->at);
    free(f->pattern);
    free(f);
}

static hark_err check(const hark_app *app, const hark_feed_opts *o, hark_errinfo *ei)
{
    if (app->started)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_app_feed: the app has been started; make feeds before");
    if (o->pattern && !app->has_bus)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_app_feed: a pattern is given and the app has no bus; set "
                       "hark_app_opts.bus");
    if (!o->pattern && (o->encode || o->dataversion))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_app_feed: encode and dataversion are for feeds with a pattern");
    if (o->keep > 1 << 20)
        return hk_fail(ei, HARK_EINVAL, "hark_app_feed: keep is %zu; at most %d", o->keep, 1 << 20);
    return o->pattern ? hark_pattern_check(o->pattern, ei) : HARK_OK;
}

static hark_feed *feed_new(hark_app *app, const hark_feed_opts *o)
{
    size_t keep_n = o->keep ? o->keep : 1024, cap = 1;
    while (cap < keep_n)
        cap *= 2;
    hark_feed *f = calloc(1, sizeof *f);
    if (!f)
        return NULL;
    *f = (hark_feed){.app = app,
                     .pattern = hk_strdup(o->pattern),
                     .encode = o->encode ? o->encode : as_cloudevent,
                     .ud = o->ud,
                     .keep = keep_n,
                     .keep_bytes = o->keep_bytes ? o->keep_bytes : 4 << 20,
                     .dataversion = o->dataversion,
                     .mask = cap - 1,
                     .ring = calloc(cap, sizeof(hk_block *))};
    pthread_mutex_init(&f->lock, NULL);
    if (f->ring && (f->pattern || !o->pattern))
        return f;
    feed_free(f);
    return NULL;
}

static hark_err subscribe(hark_feed *f, hark_errinfo *ei)
{
    char zero[HARK_CURSOR_TEXT];
    hark_cursor_format(f->app->bus, 0, zero);
    (void)snprintf(f->prefix, sizeof f->prefix, "%.*s", (int)strcspn(zero, "-") + 1, zero);
    hark_sub_opts o = {.size = sizeof o,
                       .overflow = HARK_OVERFLOW_LOG,
                       .flags = HARK_SUB_GAPS,
                       .dataversion = f->dataversion};
    return hark_subscribe(f->app->bus, f->pattern, on_event, f, &o, &f->sub, ei);
}

static hark_err make(hark_app *app, const hark_feed_opts *opts, hark_feed **ret, hark_errinfo *ei)
{
    hark_feed_opts o = {0};
    hark_err err = hk_opts_take(opts, &o, sizeof o, "hark_feed_opts", ei);
    if (!err)
        err = check(app, &o, ei);
    hark_feed *f = err ? NULL : feed_new(app, &o);
    if (!err && !f)
        err = hk_fail(ei, HARK_ENOMEM, "hark_app_feed: out of memory");
    if (!err && f->pattern)
        err = subscribe(f, ei);
    if (!err) {
        f->free_ud = o.free_ud;
        *ret = f;
        return HARK_OK;
    }
    if (f)
        feed_free(f);
    if (o.free_ud)
        o.free_ud(o.ud);
    return err;
}

hark_err hark_app_feed(hark_app *app, const hark_feed_opts *opts, hark_feed **ret)
{
    hark_errinfo ei = {0};
    hark_feed *f = NULL;
    hark_err err = make(app, opts, &f, &ei);
    if (err)
        return hk_app_fault(app, err, &ei);
    f->next = app->feeds;
    app->feeds = f;
    *ret = f;
    return HARK_OK;
}

static hark_err feed_start(hark_feed *f)
{
    size_t n = f->app->n_loops;
    hk_readers *at = calloc(n, sizeof *at);
    if (!at)
        return HARK_ENOMEM;
    for (size_t i = 0; i < n; i++) {
        at[i].feed = f;
        at[i].mail.fn = hk_stream_news;
    }
    pthread_mutex_lock(&f->lock);
    f->at = at;
    f->n_at = n;
    pthread_mutex_unlock(&f->lock);
    return HARK_OK;
}

hark_err hk_feeds_start(hark_app *app)
{
    hark_err err = HARK_OK;
    for (hark_feed *f = app->feeds; f && !err; f = f->next) {
        err = feed_start(f);
        if (!err && f->pattern && !app->catchup)
            err = hk_catchup_start(app);
    }
    return err;
}

void hk_feeds_end(hark_app *app)
{
    for (hark_feed *f = app->feeds; f; f = f->next)
        if (f->sub)
            hark_sub_close(f->sub);
    for (hark_feed *f = app->feeds; f; f = f->next) {
        if (f->sub && hark_sub_join(f->sub, -1))
            hk_log(HK_ERROR, "http: a feed's subscription cannot be ended from its own encoder");
        f->sub = hark_sub_unref(f->sub);
    }
    hk_catchup_stop(app);
}

void hk_feeds_free(hark_app *app)
{
    for (hark_feed *f = app->feeds, *next; f; f = next) {
        next = f->next;
        feed_free(f);
    }
    app->feeds = NULL;
}
