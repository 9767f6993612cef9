/* From a decoded path to the chain that answers it; also what answers when there is no route. */
#include "http/http_i.h"

/* Last station of the chain for paths without a route: 404, 405, or OPTIONS by list. */
static hark_err no_route(hark_ctx *c, void *ud)
{
    (void)ud;
    if (!c->allow)
        return hark_ctx_fail(c, HARK_ENOTFOUND, "there is nothing at %s", c->path.text);
    (void)hark_ctx_set_header(c, "Allow", c->allow);
    if (c->method_id == HK_OPTIONS)
        return hark_ctx_no_content(c);
    return hark_ctx_fail(c, HARK_EMETHOD, "%s takes %s", c->path.text, c->allow);
}

const hk_link hk_no_route = {no_route, NULL};

static const char *allow_of(hark_ctx *c, const hk_match *m)
{
    hk_buf b = {0};
    if (m->n_ends == 0)
        return NULL;
    hk_router_allow(m, &b);
    const char *text = b.failed ? NULL : hk_arena_copy(&c->arena, b.data, b.len);
    hk_buf_free(&b);
    return text;
}

void hk_dispatch(hark_ctx *c)
{
    hk_match m;
    c->chain = &c->app->plain;
    c->body_limit = c->app->plain.body_limit;
    if (!hk_router_match(&c->app->router, c->method_id, c->method, &c->path, &m)) {
        c->allow = allow_of(c, &m);
        return;
    }
    c->route = m.route->owner;
    c->chain = &c->route->chain;
    c->body_limit = c->route->chain.body_limit;
    for (size_t i = 0; i < m.n_values; i++) {
        const char *value = hk_arena_copy(&c->arena, m.values[i].s, m.values[i].len);
        c->params[i] = value ? value : "";
    }
    c->n_params = m.n_values;
}
