/* logger: one line for each request that reached the app, when it is done. The target is written as
 * it was sent: visible ASCII, so that nobody writes log lines of their own. */
#include "http/http_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct state {
    bool json;
    int fd;
    void (*write)(const char *line, size_t len, void *ud);
    void *ud;
} state;

static void member(hk_buf *b, const char *name, const char *value)
{
    hk_buf_addf(b, ",\"%s\":", name);
    hk_buf_add_json_string(b, value, hk_utf8_valid(value, strlen(value)));
}

static void write_json(hk_buf *b, hark_ctx *c, const hark_outcome *o, const char *time)
{
    hk_buf_addf(b, "{\"time\":\"%s\"", time);
    member(b, "method", hark_ctx_method(c));
    member(b, "path", hark_ctx_target(c));
    member(b, "route", hark_ctx_route(c));
    hk_buf_addf(b, ",\"status\":%d,\"bytes\":%llu,\"duration_ms\":%.3f,\"complete\":%s",
                (int)o->status, (unsigned long long)o->bytes, (double)o->duration_ns / 1e6,
                o->complete ? "true" : "false");
    member(b, "request_id", hark_ctx_request_id(c));
    member(b, "remote", hark_ctx_remote(c));
    hk_buf_adds(b, "}\n");
}

static void write_text(hk_buf *b, hark_ctx *c, const hark_outcome *o, const char *time)
{
    hk_buf_addf(b, "%s %s %s %d %lluB %.3fms %s%s\n", time, hark_ctx_method(c), hark_ctx_target(c),
                (int)o->status, (unsigned long long)o->bytes, (double)o->duration_ns / 1e6,
                hark_ctx_request_id(c), o->complete ? "" : " (cut off)");
}

static void on_done(hark_ctx *c, const hark_outcome *o, void *ud)
{
    const state *s = ud;
    char time[HK_RFC3339_MAX];
    hk_buf b = {0};
    hk_rfc3339_format(hark_ctx_started_ns(c), 3, time);
    (void)hk_buf_reserve(&b, 256);
    if (s->json)
        write_json(&b, c, o, time);
    else
        write_text(&b, c, o, time);
    if (!b.failed && s->write) {
        s->write(b.data, b.len, s->ud);
    } else if (!b.failed) {
        ssize_t n = write(s->fd, b.data, b.len);
        (void)n; /* a log that cannot be written must not stop the service */
    }
    hk_buf_free(&b);
}

static hark_err run(hark_ctx *c, void *ud)
{
    (void)hark_ctx_on_done(c, on_done, ud);
    return hark_ctx_next(c);
}

hark_middleware hark_logger(const hark_logger_opts *opts)
{
    hark_logger_opts o;
    hark_middleware mw = {.fn = run, .free_ud = free};
    hark_errinfo ei = {0};
    mw.err = hk_opts_take(opts, &o, sizeof o, "hark_logger_opts", &ei);
    if (!mw.err && (o.format < 0 || o.format > HARK_LOG_JSON || o.fd < 0 || o.fd > INT32_MAX))
        mw.err = hk_fail(&ei, HARK_EINVAL, "hark_logger: unknown format or bad descriptor");
    snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    state *s = mw.err ? NULL : calloc(1, sizeof *s);
    if (!s) {
        mw.err = mw.err ? mw.err : HARK_ENOMEM;
        return mw;
    }
    *s = (state){o.format == HARK_LOG_JSON, o.fd ? (int)o.fd : STDERR_FILENO, o.write, o.ud};
    mw.ud = s;
    return mw;
}
