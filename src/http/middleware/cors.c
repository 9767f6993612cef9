/* cors: which other origins may read replies (WHATWG Fetch, "CORS protocol"). A preflight is
 * answered here. Everything else goes on, and its reply gets the headers when it goes out, whatever
 * it has become by then. Nothing is kept out: that is for the browser to do. */
#include "http/middleware/header_values_i.h"
#include "http/middleware/shared_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALLOW_ORIGIN "Access-Control-Allow-Origin"

typedef struct state {
    char **origins;
    size_t n;
    bool everybody; /* "*": the same headers for all */
    bool null;      /* "null", which the page of anybody can be: a frame of it in a sandbox */
    bool (*allow)(hark_ctx *c, const char *origin, void *ud);
    void *ud;
    char *methods, *headers, *expose; /* NULL: not said */
    bool credentials;
    char max_age[24]; /* "": not said */
} state;

typedef struct asked {
    const state *of;
    const char *origin; /* what is admitted: this one, "*", or NULL: it is not */
} asked;

static void state_free(void *ud)
{
    state *s = ud;
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++)
        free(s->origins[i]);
    free(s->origins);
    free(s->methods);
    free(s->headers);
    free(s->expose);
    free(s);
}

/* ---- a request ---- */

static bool admits(const state *s, hark_ctx *c, const char *origin)
{
    for (size_t i = 0; i < s->n; i++)
        if (hk_origin_covers(s->origins[i], origin))
            return true;
    return s->allow && s->allow(c, origin, s->ud);
}

static void allow(hark_ctx *c, const asked *a)
{
    (void)hark_ctx_set_header(c, ALLOW_ORIGIN, a->origin);
    if (a->of->credentials)
        (void)hark_ctx_set_header(c, "Access-Control-Allow-Credentials", "true");
}

static void on_reply(hark_ctx *c, int status, void *ud)
{
    const asked *a = ud;
    (void)status;
    if (hk_out_find(c, ALLOW_ORIGIN))
        return;
    /* Vary also on replies to others: a cache may give them to this one. */
    if ((!a->of->everybody && hk_out_vary(c, "Origin")) || !a->origin)
        return;
    allow(c, a);
    if (a->of->expose)
        (void)hark_ctx_set_header(c, "Access-Control-Expose-Headers", a->of->expose);
}

/* What it would like to send, if that can be read. */
static const char *wanted_headers(const hark_ctx *c)
{
    static const char name[] = "Access-Control-Request-Headers";
    const char *list = hark_ctx_header(c, name);
    return list && hk_ctx_headers(c, name) == 1 && hk_names_ok(list) ? list : NULL;
}

static hark_err preflight(hark_ctx *c, const asked *a)
{
    const state *s = a->of;
    if (hk_out_vary(c, "Origin") || hk_out_vary(c, "Access-Control-Request-Method") ||
        hk_out_vary(c, "Access-Control-Request-Headers"))
        return HARK_ENOMEM;
    if (a->origin) {
        const char *headers = s->headers ? s->headers : wanted_headers(c);
        allow(c, a);
        (void)hark_ctx_set_header(c, "Access-Control-Allow-Methods", s->methods);
        if (headers)
            (void)hark_ctx_set_header(c, "Access-Control-Allow-Headers", headers);
        if (s->max_age[0])
            (void)hark_ctx_set_header(c, "Access-Control-Max-Age", s->max_age);
    }
    return hark_ctx_no_content(c);
}

static hark_err run(hark_ctx *c, void *ud)
{
    const state *s = ud;
    const char *origin = hark_ctx_header(c, "Origin");
    asked *a = hk_arena_alloc(&c->arena, sizeof *a);
    if (!a)
        return HARK_ENOMEM;
    *a = (asked){.of = s};
    if (s->everybody) /* also without an Origin: a cache may give the reply to one who has it */
        a->origin = "*";
    else if (origin && hk_ctx_headers(c, "Origin") == 1 && admits(s, c, origin))
        a->origin = origin;
    if (origin && c->method_id == HK_OPTIONS && hark_ctx_header(c, "Access-Control-Request-Method"))
        return preflight(c, a);
    (void)hark_ctx_on_reply(c, on_reply, a);
    return hark_ctx_next(c);
}

/* ---- making one ---- */

static hark_err no_memory(hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "hark_cors: out of memory");
}

static hark_err check_origin(const char *origin, hark_errinfo *ei)
{
    if (!hk_origin_pattern_ok(origin))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_cors: '%.80s' is no origin; write it like https://shop.example, in "
                       "lower case and without a path",
                       origin);
    if (hk_origin_usual_port(origin))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_cors: '%.80s' would never match: browsers leave out the port that its "
                       "scheme has anyway; leave it out, too",
                       origin);
    return HARK_OK;
}

static hark_err take_origins(state *s, const char *const *list, hark_errinfo *ei)
{
    size_t n = 0;
    while (list[n])
        n++;
    s->origins = calloc(n + 1, sizeof *s->origins);
    if (!s->origins)
        return no_memory(ei);
    for (size_t i = 0; i < n; i++) {
        hark_err err = check_origin(list[i], ei);
        if (err)
            return err;
        s->everybody = s->everybody || strcmp(list[i], "*") == 0;
        s->null = s->null || strcmp(list[i], "null") == 0;
        s->origins[i] = strdup(list[i]);
        if (!s->origins[i])
            return no_memory(ei);
        s->n++;
    }
    return HARK_OK;
}

static hark_err take_names(char **to, const char *given, const char *what, bool credentials,
                           hark_errinfo *ei)
{
    if (!given)
        return HARK_OK;
    if (!hk_names_ok(given) || (credentials && strchr(given, '*')))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_cors: %s is '%.80s', not names with commas between them%s", what,
                       given, credentials ? "; with credentials '*' stands for nothing" : "");
    *to = strdup(given);
    return *to ? HARK_OK : no_memory(ei);
}

static hark_err take_rest(state *s, const hark_cors_opts *o, hark_errinfo *ei)
{
    s->allow = o->allow;
    s->ud = o->ud;
    s->credentials = o->credentials != 0;
    if ((s->everybody || s->null) && s->credentials)
        return hk_fail(
            ei, HARK_EINVAL,
            "hark_cors: credentials for every origin (\"*\") or \"null\", which any page "
            "can be, would open the app to any page; name the origins, or give `allow`");
    if (o->max_age < -1)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_cors: max_age is %lld; seconds, 0, or -1 = not at all",
                       (long long)o->max_age);
    if (o->max_age)
        (void)snprintf(s->max_age, sizeof s->max_age, "%lld",
                       (long long)(o->max_age > 0 ? o->max_age : 0));
    const char *methods = o->methods ? o->methods : "GET, HEAD, PUT, PATCH, POST, DELETE";
    hark_err err = take_names(&s->methods, methods, "methods", s->credentials, ei);
    if (!err)
        err = take_names(&s->headers, o->headers, "headers", s->credentials, ei);
    return err ? err : take_names(&s->expose, o->expose, "expose", s->credentials, ei);
}

static hark_err take(void *to, const void *opts, hark_errinfo *ei)
{
    static const char *const anybody[] = {"*", NULL}, *const nobody[] = {NULL};
    const hark_cors_opts *o = opts;
    hark_err err = take_origins(to, o->origins ? o->origins : o->allow ? nobody : anybody, ei);
    return err ? err : take_rest(to, o, ei);
}

hark_middleware hark_cors(const hark_cors_opts *opts)
{
    static const hk_maker maker = {
        "hark_cors", sizeof(hark_cors_opts), sizeof(state), run, state_free, take};
    hark_cors_opts room;
    return hk_make(&maker, opts, &room);
}
