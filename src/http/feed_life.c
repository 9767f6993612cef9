/* Feeds: how they are made, subscribe, and end. With a pattern, a live subscription is their source;
 * it goes on from the log by itself when it cannot keep up, and tells what the log has lost. */
#include "http/stream_i.h"

#include <sched.h>
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

static uint64_t this_thread(void)
{
    return (uint64_t)(uintptr_t)pthread_self();
}

static hark_verdict on_event(hark_delivery *d, void *ud)
{
    hark_feed *f = ud;
    uint64_t from, to;
    hk_block *b;
    if (!hk_mark_get(&f->caller))
        hk_mark_set(&f->caller, this_thread());
    hark_err err = HARK_OK;
    if (hark_delivery_gap(d, &from, &to)) {
        b = hk_feed_gap(f, from, to, "retention");
        err = b ? HARK_OK : HARK_ENOMEM;
    } else {
        const hark_event *e = hark_delivery_event(d);
        to = hark_event_sequence(e);
        err = hk_feed_encode(f, &f->frame, &f->bytes, e, &b);
    }
    if (err)
        hk_feed_lose(f, to);
    else
        hk_feed_append(f, b, to);
    return HARK_ACK;
}

/* The subscription's last sign of life: the feed may be gone when this returns. */
static void on_over(void *ud)
{
    hark_feed *f = ud;
    hk_mark_set(&f->caller, 0);
    hk_gate_open(&f->over);
}

/* Another subscription's handler may wait for it too, which hark_sub_join does not allow. */
static void end_subscription(hark_feed *f)
{
    if (!f->sub)
        return;
    while (hk_gate_look(&f->over) == 0)
        (void)hk_gate_wait(&f->over, 0, -1);
    f->sub = hark_sub_unref(f->sub);
}

bool hk_feeds_call(hark_app *app)
{
    bool call = hk_catchup_is_this(app);
    for (hark_feed *f = app->feeds; f; f = f->next)
        call = call || hk_mark_get(&f->caller) == this_thread();
    return call;
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
    hk_gate_init(&f->over);
    pthread_mutex_init(&f->lock, NULL);
    if (f->ring && (f->pattern || !o->pattern))
        return f;
    feed_free(f);
    return NULL;
}

/* One event of the feed's; *ret is freed by the caller. */
static hark_err look(hark_feed *f, uint64_t after, int64_t descending, hark_page **ret,
                     hark_errinfo *ei)
{
    const hark_read_opts o = {.size = sizeof o,
                              .type = f->pattern,
                              .after = after,
                              .limit = 1,
                              .descending = descending,
                              .dataversion = HARK_VERSION_STORED};
    return hark_read(f->app->bus, &o, ret, ei);
}

/* The newest event of its pattern, else a position that none comes behind. */
static hark_err find_newest(hark_feed *f, uint64_t *ret, bool *ret_event, hark_errinfo *ei)
{
    hark_page *page;
    hark_err err = look(f, 0, 1, &page, ei);
    if (err)
        return err;
    const hark_event *e = hark_page_event(page, 0);
    uint64_t down_to = hark_page_next(page);
    *ret_event = e != NULL;
    *ret = e ? hark_event_sequence(e) : down_to ? down_to - 1 : 0;
    hark_page_free(page);
    return HARK_OK;
}

/* True: readers of the log see it as well, or what lies below it is gone: then *at is the end of
 * that. An event that the writer is about to show may be read in the store alone. */
static hark_err is_shown(hark_feed *f, uint64_t *at, bool event, bool *ret, hark_errinfo *ei)
{
    hark_page *page;
    uint64_t from, to;
    hark_err err = look(f, event ? *at - 1 : *at, 0, &page, ei);
    if (err)
        return err;
    const hark_event *e = hark_page_event(page, 0);
    *ret = !event || (e && hark_event_sequence(e) == *at);
    if (!event && hark_page_gap(page, &from, &to))
        *at = to;
    hark_page_free(page);
    return HARK_OK;
}

/* After subscribing: everything of its pattern behind the newest that the log has then is handed to
 * the subscription (see docs/locking.md). So whoever has seen that one has missed nothing, also when
 * it comes from a process before this one. */
static hark_err find_begin(hark_feed *f, hark_errinfo *ei)
{
    hark_bus_info info = {.size = sizeof info};
    uint64_t at = 0;
    bool event = false, shown = false;
    hark_err err = hark_bus_info_get(f->app->bus, &info);
    while (!err && !shown) {
        err = find_newest(f, &at, &event, ei);
        if (!err)
            err = is_shown(f, &at, event, &shown, ei);
        if (!err && !shown)
            sched_yield();
    }
    if (!err)
        hk_feed_begin(f, at);
    return err;
}

static hark_err subscribe(hark_feed *f, hark_errinfo *ei)
{
    hark_sub_opts o = {.size = sizeof o,
                       .overflow = HARK_OVERFLOW_LOG,
                       .flags = HARK_SUB_GAPS,
                       .free_ud = on_over,
                       .dataversion = f->dataversion};
    hark_err err = hark_subscribe(f->app->bus, f->pattern, on_event, f, &o, &f->sub, ei);
    if (!err)
        err = find_begin(f, ei);
    if (!err || !f->sub)
        return err;
    hark_sub_close(f->sub);
    end_subscription(f);
    return err;
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
    for (hark_feed *f = app->feeds; f; f = f->next)
        end_subscription(f);
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
