/* request_events: an event for each request, after its reply has gone out. It takes no part in the
 * reply: a bus without room costs the event, which is counted, and never the client. */
#include "http/middleware/shared_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct state {
    hk_skip skip;
    bool (*skip_fn)(hark_ctx *c, void *ud);
    void *ud;
    char *type, *source;
} state;

static void state_free(void *ud)
{
    state *s = ud;
    if (!s)
        return;
    hk_skip_free(&s->skip);
    free(s->type);
    free(s->source);
    free(s);
}

static bool skipped(const state *s, hark_ctx *c)
{
    return hk_skip_covers(&s->skip, c) || (s->skip_fn && s->skip_fn(c, s->ud));
}

static void member(hk_buf *b, const char *name, const char *value)
{
    hk_buf_addf(b, "\"%s\":", name);
    hk_buf_add_json_string(b, value, strlen(value));
    hk_buf_addc(b, ',');
}

static void write_data(hk_buf *b, hark_ctx *c, const hark_outcome *o)
{
    char time[HK_RFC3339_MAX];
    hk_rfc3339_format(hark_ctx_started_ns(c), 3, time);
    hk_buf_addc(b, '{');
    member(b, "path", hark_ctx_path(c));
    member(b, "route", hark_ctx_route(c));
    member(b, "method", hark_ctx_method(c));
    hk_buf_addf(b, "\"status\":%d,\"time\":\"%s\",\"duration_ms\":%lld.%03lld,", (int)o->status,
                time, (long long)(o->duration_ns / 1000000),
                (long long)(o->duration_ns / 1000 % 1000));
    hk_buf_adds(b, "\"request_id\":");
    hk_buf_add_json_string(b, hark_ctx_request_id(c), strlen(hark_ctx_request_id(c)));
    hk_buf_addc(b, '}');
}

static void on_published(hark_err err, const hark_receipt *receipt, void *ud)
{
    hk_drops *d = ud;
    (void)receipt;
    if (err)
        hk_count_add(&d->n, 1);
    hk_drops_put(d);
}

static void publish(const state *s, hark_ctx *c, const hk_buf *data)
{
    hk_drops *d = c->app->drops;
    const char *id = hark_ctx_request_id(c);
    hk_ref_get(&d->refs, 1);
    hark_err err = hk_app_publish(c->app,
                                  HARK_OPTS(hark_event_spec, .type = s->type, .source = s->source,
                                            .data = data->data, .data_len = data->len,
                                            .datacontenttype = "application/json",
                                            .correlationid = id, .causationid = id),
                                  on_published, d);
    if (err) /* not called back then */
        on_published(err, NULL, d);
}

static void on_done(hark_ctx *c, const hark_outcome *o, void *ud)
{
    const state *s = ud;
    hk_buf b = {0};
    if (!c->app->has_bus || skipped(s, c))
        return;
    (void)hk_buf_reserve(&b, 512);
    write_data(&b, c, o);
    if (b.failed)
        hk_count_add(&c->app->drops->n, 1);
    else
        publish(s, c, &b);
    hk_buf_free(&b);
}

static hark_err run(hark_ctx *c, void *ud)
{
    (void)hark_ctx_on_done(c, on_done, ud);
    return hark_ctx_next(c);
}

hark_middleware hark_request_events(const hark_request_events_opts *opts)
{
    hark_request_events_opts o;
    hark_middleware mw = {.fn = run, .free_ud = state_free};
    hark_errinfo ei = {0};
    mw.err = hk_opts_take(opts, &o, sizeof o, "hark_request_events_opts", &ei);
    snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    state *s = mw.err ? NULL : calloc(1, sizeof *s);
    if (!s) {
        mw.err = mw.err ? mw.err : HARK_ENOMEM;
        return mw;
    }
    mw.ud = s;
    s->skip_fn = o.skip_fn;
    s->ud = o.ud;
    s->type = strdup(o.type ? o.type : "request:completed");
    s->source = hk_strdup(o.source);
    if (!hk_skip_copy(&s->skip, o.skip) || !s->type || (o.source && !s->source))
        mw.err = HARK_ENOMEM;
    return mw;
}
