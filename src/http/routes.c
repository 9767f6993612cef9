/* Setting an app up: groups, middleware and routes, and their fixing into chains at the start. The
 * first fault is kept, so that a program may leave the results of these calls unread. */
#include "http/http_i.h"
#include "http/keyed_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

hark_err hk_app_fault(hark_app *app, hark_err err, const hark_errinfo *ei)
{
    if (app->fault.err)
        return err;
    app->fault = *ei;
    app->fault.err = err;
    if (!app->fault.text[0])
        (void)hk_fail(&app->fault, err, "%s", hark_err_text(err));
    return err;
}

static hark_err fault(hark_app *app, hark_err err, const char *text)
{
    hark_errinfo ei = {0};
    (void)hk_fail(&ei, err, "%s", text);
    return hk_app_fault(app, err, &ei);
}

/* ---- middleware ---- */

static void drop_ud(hark_middleware *m)
{
    if (m->free_ud)
        m->free_ud(m->ud);
}

hark_err hark_group_use(hark_group *g, hark_middleware mw)
{
    if (!g || g->app->started || mw.err || !mw.fn) {
        drop_ud(&mw);
        if (!g)
            return HARK_EINVAL;
        mw.text[sizeof mw.text - 1] = '\0';
        return fault(g->app, mw.err ? (hark_err)mw.err : HARK_EINVAL,
                     mw.text[0]        ? mw.text
                     : g->app->started ? "middleware was added to a running app"
                                       : "a middleware without a function");
    }
    hark_errinfo ei = {0};
    hark_err err = hk_keyed_check(g->app, &mw, &ei);
    if (err) {
        drop_ud(&mw);
        return hk_app_fault(g->app, err, &ei);
    }
    hk_mw *m = calloc(1, sizeof *m);
    if (!m) {
        drop_ud(&mw);
        return fault(g->app, HARK_ENOMEM, "out of memory");
    }
    m->m = mw;
    if (g->last_mw)
        g->last_mw->next = m;
    else
        g->first_mw = m;
    g->last_mw = m;
    return HARK_OK;
}

hark_err hark_app_use(hark_app *app, hark_middleware mw)
{
    return hark_group_use(&app->root, mw);
}

/* ---- groups ---- */

static char *join(const char *prefix, const char *path)
{
    size_t n = strlen(prefix), m = strlen(path);
    char *out = malloc(n + m + 1);
    if (!out)
        return NULL;
    memcpy(out, prefix, n);
    memcpy(out + n, path, m + 1);
    return out;
}

static hark_err check_prefix(const char *prefix, hark_errinfo *ei)
{
    hark_err err = hk_route_check(prefix, ei);
    if (!err && (strchr(prefix, '*') || prefix[strlen(prefix) - 1] == '/'))
        err = hk_fail(ei, HARK_EINVAL, "it ends in '/' or holds a '*'");
    return err ? hk_wrap(ei, err, "prefix %.200s", prefix ? prefix : "(null)") : HARK_OK;
}

hark_err hark_group_group(hark_group *g, const char *prefix, hark_group **ret)
{
    hark_errinfo ei = {0};
    if (!g)
        return HARK_EINVAL;
    hark_err err = check_prefix(prefix, &ei);
    if (err)
        return hk_app_fault(g->app, err, &ei);
    hark_group *sub = calloc(1, sizeof *sub);
    if (sub)
        sub->prefix = join(g->prefix, prefix);
    if (!sub || !sub->prefix) {
        free(sub);
        return fault(g->app, HARK_ENOMEM, "out of memory");
    }
    sub->app = g->app;
    sub->parent = g;
    sub->next = g->app->groups;
    g->app->groups = sub;
    *ret = sub;
    return HARK_OK;
}

hark_err hark_app_group(hark_app *app, const char *prefix, hark_group **ret)
{
    return hark_group_group(&app->root, prefix, ret);
}

/* ---- routes ---- */

static hark_err add_route(hark_group *g, const char *method, const char *path, hk_route *r,
                          hark_errinfo *ei)
{
    hark_app *app = g->app;
    if (app->started)
        return hk_fail(ei, HARK_EINVAL, "route %.200s was added to a running app", path);
    if (!r->fn)
        return hk_fail(ei, HARK_EINVAL, "route %.200s has no handler", path ? path : "(null)");
    if (method && !hk_token(method, strlen(method)))
        return hk_fail(ei, HARK_EINVAL, "route %.200s: '%.40s' is no method", path, method);
    if (!path || path[0] != '/')
        return hk_fail(ei, HARK_EINVAL, "route %.20s %.200s: a path begins with '/'",
                       method ? method : "*", path ? path : "(null)");
    char *whole = join(g->prefix, path);
    if (!whole)
        return hk_fail(ei, HARK_ENOMEM, "out of memory");
    hark_err err = hk_router_add(&app->router, method, whole, r, &r->entry, ei);
    free(whole);
    return err;
}

hark_err hark_group_route(hark_group *g, const char *method, const char *path, hark_http_fn fn,
                          void *ud, const hark_route_opts *opts)
{
    hark_errinfo ei = {0};
    hark_route_opts o;
    hark_err err = hk_opts_take(opts, &o, sizeof o, "hark_route_opts", &ei);
    if (!err && o.flags)
        err = hk_fail(&ei, HARK_EINVAL, "hark_route_opts: unknown flags");
    hk_route *r = err || !g ? NULL : calloc(1, sizeof *r);
    if (r) {
        *r = (hk_route){.group = g,
                        .fn = fn,
                        .ud = ud,
                        .free_ud = o.free_ud,
                        .blocking = o.blocking != 0,
                        .body_limit = o.body_limit};
        err = add_route(g, method, path, r, &ei);
    } else if (!err) {
        err = g ? HARK_ENOMEM : HARK_EINVAL;
    }
    if (!err) {
        r->next = g->app->routes;
        g->app->routes = r;
        return HARK_OK;
    }
    free(r);
    if (o.free_ud)
        o.free_ud(ud);
    return g ? hk_app_fault(g->app, err, &ei) : err;
}

hark_err hark_route(hark_app *app, const char *method, const char *path, hark_http_fn fn, void *ud,
                    const hark_route_opts *opts)
{
    return hark_group_route(&app->root, method, path, fn, ud, opts);
}

#define SHORT_FORMS(name, method)                                                                  \
    hark_err hark_##name(hark_app *app, const char *path, hark_http_fn fn, void *ud)               \
    {                                                                                              \
        return hark_group_route(&app->root, method, path, fn, ud, NULL);                           \
    }                                                                                              \
    hark_err hark_group_##name(hark_group *g, const char *path, hark_http_fn fn, void *ud)         \
    {                                                                                              \
        return hark_group_route(g, method, path, fn, ud, NULL);                                    \
    }
SHORT_FORMS(get, "GET")
SHORT_FORMS(post, "POST")
SHORT_FORMS(put, "PUT")
SHORT_FORMS(patch, "PATCH")
SHORT_FORMS(delete, "DELETE")

hark_err hark_any(hark_app *app, const char *path, hark_http_fn fn, void *ud)
{
    return hark_group_route(&app->root, NULL, path, fn, ud, NULL);
}

/* ---- chains ---- */

static size_t count_mw(const hark_group *g)
{
    size_t n = 0;
    for (; g; g = g->parent)
        for (const hk_mw *m = g->first_mw; m; m = m->next)
            n++;
    return n;
}

/* The app's middleware first, then group by group inwards, then the handler. The innermost limit
 * of the body counts. */
static bool make_chain(hark_app *app, hark_group *g, hk_link last, size_t body_limit,
                       hk_chain *chain)
{
    size_t at = count_mw(g);
    chain->links = calloc(at + 1, sizeof *chain->links);
    if (!chain->links)
        return false;
    chain->n = at + 1;
    chain->links[at] = last;
    chain->body_limit = body_limit;
    for (; g; g = g->parent) {
        size_t own = 0, i = 0, limit = 0;
        for (const hk_mw *m = g->first_mw; m; m = m->next)
            own++;
        at -= own;
        for (const hk_mw *m = g->first_mw; m; m = m->next) {
            chain->links[at + i++] = (hk_link){m->m.fn, m->m.ud};
            limit = m->m.body_limit ? m->m.body_limit : limit;
        }
        if (!chain->body_limit)
            chain->body_limit = limit;
    }
    if (!chain->body_limit)
        chain->body_limit = app->opts.body_limit;
    return true;
}

hark_err hk_app_freeze(hark_app *app, hark_errinfo *ei)
{
    bool ok = app->plain.links || make_chain(app, &app->root, hk_no_route, 0, &app->plain);
    for (hk_route *r = app->routes; r && ok; r = r->next)
        ok = r->chain.links ||
             make_chain(app, r->group, (hk_link){r->fn, r->ud}, r->body_limit, &r->chain);
    return ok ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "out of memory");
}

static void group_free(hark_group *g)
{
    for (hk_mw *m = g->first_mw, *next; m; m = next) {
        next = m->next;
        drop_ud(&m->m);
        free(m);
    }
    free(g->prefix);
}

void hk_routes_free(hark_app *app)
{
    for (hk_route *r = app->routes, *next; r; r = next) {
        next = r->next;
        if (r->free_ud)
            r->free_ud(r->ud);
        free(r->chain.links);
        free(r);
    }
    for (hark_group *g = app->groups, *next; g; g = next) {
        next = g->next;
        group_free(g);
        free(g);
    }
    group_free(&app->root);
    free(app->plain.links);
    hk_router_free(&app->router);
}
