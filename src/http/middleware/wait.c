/* wait: a request that says "Hark-Wait: consumer=NAME; seq=CURSOR; max=200ms" goes on when that
 * consumer has settled that event. Meanwhile it holds neither the loop nor a worker: the bus calls
 * back on a thread of its own, and the chain goes on where it stopped. */
#include "http/http_i.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADER "Hark-Wait"
enum { DEFAULT_MS = 1000, DEFAULT_MOST_MS = 5000, NAME_MAX_LEN = 128 };

typedef struct asked {
    const char *consumer, *cursor, *max;
    uint64_t seq;
    int64_t ms;
    /* the answer */
    hark_ctx *c;
    hark_err err;
    hark_settlement s;
    hark_errinfo ei;
} asked;

/* ---- reading the header ---------------------------------------------------------------------- */

static hark_err HARK_PRINTF(2, 3) refuse(hark_ctx *c, const char *fmt, ...)
{
    char why[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    return hark_ctx_fail(c, HARK_EINVAL,
                         HEADER ": %s; one looks like consumer=NAME; seq=CURSOR; max=200ms", why);
}

/* Without the blanks around it; NUL-terminated, in the request's memory. */
static char *trimmed(hark_ctx *c, const char *s, size_t len)
{
    while (len && (*s == ' ' || *s == '\t')) {
        s++;
        len--;
    }
    while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
        len--;
    return hk_arena_copy(&c->arena, s, len);
}

/* One "name=value". */
static hark_err take_part(hark_ctx *c, const char *s, size_t len, asked *a)
{
    const char *eq = memchr(s, '=', len);
    if (!eq)
        return refuse(c, "'%.*s' is no name=value", len < 80 ? (int)len : 80, s);
    const char *name = trimmed(c, s, (size_t)(eq - s));
    const char *value = trimmed(c, eq + 1, len - (size_t)(eq + 1 - s));
    if (!name || !value)
        return HARK_ENOMEM;
    const char **to = strcmp(name, "consumer") == 0 ? &a->consumer
                      : strcmp(name, "seq") == 0    ? &a->cursor
                      : strcmp(name, "max") == 0    ? &a->max
                                                    : NULL;
    if (!to)
        return refuse(c, "'%.80s' is not known", name);
    if (*to)
        return refuse(c, "%s is there twice", name);
    *to = value;
    return HARK_OK;
}

static hark_err take_parts(hark_ctx *c, const char *text, asked *a)
{
    for (;;) {
        size_t len = strcspn(text, ";");
        hark_err err = take_part(c, text, len, a);
        if (err || !text[len])
            return err;
        text += len + 1;
    }
}

/* "200ms" or "2s", at most `most`. */
static bool take_max(const char *text, int64_t most, int64_t *ret)
{
    uint64_t n;
    size_t digits = strspn(text, "0123456789");
    bool seconds = strcmp(text + digits, "s") == 0;
    if ((!seconds && strcmp(text + digits, "ms") != 0) || !hk_parse_u64(text, digits, &n))
        return false;
    uint64_t unit = seconds ? 1000 : 1;
    *ret = n > (uint64_t)most / unit ? most : (int64_t)(n * unit);
    return true;
}

static hark_err take_ask(hark_ctx *c, const char *text, int64_t most, asked *a)
{
    hark_err err = take_parts(c, text, a);
    if (err)
        return err;
    if (!a->consumer || !hk_name_valid(a->consumer, NAME_MAX_LEN))
        return refuse(c, "consumer is missing, or no name of one");
    if (!a->cursor)
        return refuse(c, "seq is missing");
    a->ms = DEFAULT_MS < most ? DEFAULT_MS : most;
    if (a->max && !take_max(a->max, most, &a->ms))
        return refuse(c, "max is '%.40s', not milliseconds or seconds", a->max);
    err = hark_cursor_parse(hark_ctx_bus(c), a->cursor, &a->seq, &a->ei);
    return err ? hark_ctx_fail(c, err, HEADER ": %s", a->ei.text) : HARK_OK;
}

/* The header, NULL when it is not there; an error when it is there more than once. */
static hark_err find_header(hark_ctx *c, const char **ret)
{
    *ret = hark_ctx_header(c, HEADER);
    return hk_ctx_headers(c, HEADER) > 1 ? refuse(c, "it is there more than once") : HARK_OK;
}

/* ---- what came of it ------------------------------------------------------------------------- */

/* A problem document with members of its own, which begin with a comma. */
static hark_err problem(hark_ctx *c, int status, const char *detail, const hk_buf *members)
{
    hk_buf b = {0};
    size_t len;
    hk_problem_write(&b, status, NULL, detail, c->request_id, NULL);
    if (!b.failed && !members->failed) {
        b.len--; /* the brace goes behind them */
        hk_buf_add(&b, members->data, members->len);
        hk_buf_addc(&b, '}');
    }
    char *text = members->failed ? NULL : hk_buf_steal(&b, &len);
    hk_buf_free(&b);
    return text ? hk_reply_set(c, status, "application/problem+json", text, len, text)
                : HARK_ENOMEM;
}

static hark_err say_late(hark_ctx *c, const asked *a)
{
    hk_buf m = {0};
    hk_buf_addf(&m, ",\"consumer\":\"%s\",\"lag\":%llu,\"seq\":\"%s\"", a->consumer,
                (unsigned long long)a->s.lag, a->cursor);
    hark_err err = problem(c, 409, a->ei.text, &m);
    hk_buf_free(&m);
    return err;
}

static hark_err say_dead(hark_ctx *c, const asked *a)
{
    hk_buf m = {0};
    hk_buf_addf(&m, ",\"consumer\":\"%s\",\"dead_letter\":%llu", a->consumer,
                (unsigned long long)a->s.dead_letter);
    hark_err err = problem(c, 424, a->ei.text, &m);
    hk_buf_free(&m);
    return err;
}

/* On the request's loop, or a worker: in the place of run. */
static hark_err go_on(hark_ctx *c, void *ud)
{
    const asked *a = ud;
    if (!a->err)
        return hark_ctx_next(c);
    if (a->err == HARK_ETIMEDOUT)
        return say_late(c, a);
    if (a->err == HARK_EDEAD)
        return say_dead(c, a);
    return hark_ctx_fail(c, a->err, HEADER ": %s", a->ei.text);
}

/* On the bus's thread. */
static void on_settled(hark_err err, const hark_settlement *s, const hark_errinfo *ei, void *ud)
{
    asked *a = ud;
    a->err = err;
    a->s = *s;
    a->ei = *ei;
    hark_ctx_continue(a->c, go_on, a);
}

/* ---- the middleware -------------------------------------------------------------------------- */

static hark_err wait_for(hark_ctx *c, asked *a)
{
    hark_err err = hark_ctx_defer(c); /* first: the answer may come before the call returns */
    if (err)
        return err;
    a->c = c;
    err = hark_settled_async(hark_ctx_bus(c), a->consumer, a->seq, a->ms, on_settled, a, &a->ei);
    if (err) {
        a->err = err;
        hark_ctx_continue(c, go_on, a);
    }
    return HARK_OK;
}

static hark_err run(hark_ctx *c, void *ud)
{
    const int64_t *most = ud;
    const char *text;
    hark_err err = find_header(c, &text);
    if (err || !text)
        return err ? err : hark_ctx_next(c);
    if (!c->app->has_bus)
        return hark_ctx_fail(c, HARK_ENOTSUP, HEADER ": the app has no bus");
    asked *a = hk_arena_alloc(&c->arena, sizeof *a);
    if (!a)
        return HARK_ENOMEM;
    memset(a, 0, sizeof *a);
    err = take_ask(c, text, *most, a);
    return err ? err : wait_for(c, a);
}

hark_middleware hark_wait(const hark_wait_opts *opts)
{
    hark_wait_opts o;
    hark_middleware mw = {.fn = run, .free_ud = free};
    hark_errinfo ei = {0};
    mw.err = hk_opts_take(opts, &o, sizeof o, "hark_wait_opts", &ei);
    if (!mw.err && (o.max_ms < 0 || o.max_ms > INT32_MAX))
        mw.err = hk_fail(&ei, HARK_EINVAL, "hark_wait: max_ms is %lld; 0 to %d",
                         (long long)o.max_ms, INT32_MAX);
    int64_t *most = mw.err ? NULL : malloc(sizeof *most);
    if (most)
        *most = o.max_ms ? o.max_ms : DEFAULT_MOST_MS;
    else if (!mw.err)
        mw.err = hk_fail(&ei, HARK_ENOMEM, "hark_wait: out of memory");
    (void)snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    mw.ud = most;
    return mw;
}
