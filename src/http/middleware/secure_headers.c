/* secure_headers: headers that make browsers careful. They are added when the reply goes out, where
 * it has none of that name, so that what a handler says about its own page counts. */
#include "http/middleware/shared_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADERS = 7, HSTS_MAX = 80 };

typedef struct state {
    const char *names[HEADERS];
    char *values[HEADERS]; /* NULL: left out */
    char hsts[HSTS_MAX];   /* "": left out */
} state;

static void state_free(void *ud)
{
    state *s = ud;
    if (!s)
        return;
    for (size_t i = 0; i < HEADERS; i++)
        free(s->values[i]);
    free(s);
}

/* The proxy in front says so; who says it without one gets a header that his browser ignores. */
static bool over_tls(const hark_ctx *c)
{
    const char *proto = hark_ctx_header(c, "X-Forwarded-Proto");
    return proto && strcasecmp(proto, "https") == 0;
}

static void add(hark_ctx *c, const char *name, const char *value)
{
    if (!hk_out_find(c, name))
        (void)hark_ctx_set_header(c, name, value);
}

static void on_reply(hark_ctx *c, int status, void *ud)
{
    const state *s = ud;
    (void)status;
    for (size_t i = 0; i < HEADERS; i++)
        if (s->values[i])
            add(c, s->names[i], s->values[i]);
    if (s->hsts[0] && over_tls(c))
        add(c, "Strict-Transport-Security", s->hsts);
}

static hark_err run(hark_ctx *c, void *ud)
{
    (void)hark_ctx_on_reply(c, on_reply, ud);
    return hark_ctx_next(c);
}

/* ---- making one ---- */

static hark_err take_value(state *s, size_t i, const char *name, const char *given,
                           const char *usual, hark_errinfo *ei)
{
    const char *value = given ? given : usual;
    s->names[i] = name;
    if (!value || !*value)
        return HARK_OK;
    if (!hk_field_value(value, strlen(value)))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_secure_headers: %s has a line break or control character in it", name);
    s->values[i] = strdup(value);
    return s->values[i] ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "hark_secure_headers: out of memory");
}

static hark_err take_hsts(state *s, const hark_secure_headers_opts *o, hark_errinfo *ei)
{
    if (o->hsts_max_age < 0)
        return hk_fail(ei, HARK_EINVAL, "hark_secure_headers: hsts_max_age is %lld; 0 or more",
                       (long long)o->hsts_max_age);
    if (o->hsts_max_age)
        (void)snprintf(s->hsts, sizeof s->hsts, "max-age=%lld%s%s", (long long)o->hsts_max_age,
                       o->hsts_this_host ? "" : "; includeSubDomains",
                       o->hsts_preload ? "; preload" : "");
    return HARK_OK;
}

static hark_err take(void *to, const void *opts, hark_errinfo *ei)
{
    state *s = to;
    const hark_secure_headers_opts *o = opts;
    const char *csp =
        o->csp_report_only ? "Content-Security-Policy-Report-Only" : "Content-Security-Policy";
    const struct {
        const char *name, *given, *usual;
    } all[HEADERS] = {
        {"X-Content-Type-Options", o->content_type_options, "nosniff"},
        {"X-Frame-Options", o->frame_options, "SAMEORIGIN"},
        {"Referrer-Policy", o->referrer_policy, "strict-origin-when-cross-origin"},
        {"Cross-Origin-Opener-Policy", o->opener_policy, "same-origin"},
        {"Cross-Origin-Resource-Policy", o->resource_policy, NULL},
        {"Permissions-Policy", o->permissions_policy, NULL},
        {csp, o->content_security_policy, NULL},
    };
    hark_err err = take_hsts(s, o, ei);
    for (size_t i = 0; i < HEADERS && !err; i++)
        err = take_value(s, i, all[i].name, all[i].given, all[i].usual, ei);
    return err;
}

hark_middleware hark_secure_headers(const hark_secure_headers_opts *opts)
{
    static const hk_maker maker = {"hark_secure_headers",
                                   sizeof(hark_secure_headers_opts),
                                   sizeof(state),
                                   run,
                                   state_free,
                                   take};
    hark_secure_headers_opts room;
    return hk_make(&maker, opts, &room);
}
