/* What a handler asks its context about the request, and the memory and values kept with it. */
#include "http/http_i.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

const char *hark_ctx_method(const hark_ctx *c)
{
    return c->method;
}

const char *hark_ctx_path(const hark_ctx *c)
{
    return c->path.text;
}

const char *hark_ctx_target(const hark_ctx *c)
{
    return c->target;
}

const char *hark_ctx_route(const hark_ctx *c)
{
    return c->route ? c->route->entry->pattern : "";
}

hark_app *hark_ctx_app(const hark_ctx *c)
{
    return c->app;
}

hark_bus *hark_ctx_bus(const hark_ctx *c)
{
    return c->app->bus;
}

int64_t hark_ctx_started_ns(const hark_ctx *c)
{
    return c->started_ns;
}

const void *hark_ctx_body(const hark_ctx *c, size_t *ret_len)
{
    if (ret_len)
        *ret_len = c->body.len;
    return c->body.len ? c->body.data : NULL;
}

const char *hark_ctx_param(const hark_ctx *c, const char *name)
{
    if (!c->route)
        return NULL;
    const hk_route_entry *e = c->route->entry;
    for (size_t i = 0; i < c->n_params; i++)
        if (strcmp(e->names[i], name) == 0)
            return c->params[i];
    return NULL;
}

const char *hark_ctx_query(hark_ctx *c, const char *name)
{
    return hk_query_find(c, name);
}

/* Values lie in the copied head, followed by a NUL; trailing blanks are cut when first asked for.
 */
const char *hark_ctx_header(const hark_ctx *c, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < c->n_headers; i++) {
        const hk_header *h = &c->headers[i];
        if (h->name_len == len && strncasecmp(h->name, name, len) == 0)
            return h->value;
    }
    return NULL;
}

size_t hk_ctx_headers(const hark_ctx *c, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < c->n_headers; i++)
        n += strcasecmp(c->headers[i].name, name) == 0;
    return n;
}

static void format_address(char *out, size_t size, const struct sockaddr_in6 *sa)
{
    char host[INET6_ADDRSTRLEN] = "";
    struct sockaddr_in in4;
    memcpy(&in4, sa, sizeof in4);
    if (sa->sin6_family == AF_INET) {
        inet_ntop(AF_INET, &in4.sin_addr, host, sizeof host);
        snprintf(out, size, "%s:%u", host, (unsigned)ntohs(in4.sin_port));
    } else if (sa->sin6_family == AF_INET6) {
        inet_ntop(AF_INET6, &sa->sin6_addr, host, sizeof host);
        snprintf(out, size, "[%s]:%u", host, (unsigned)ntohs(sa->sin6_port));
    } else {
        snprintf(out, size, "local");
    }
}

const char *hark_ctx_remote(hark_ctx *c)
{
    if (c->remote)
        return c->remote;
    char text[INET6_ADDRSTRLEN + 16];
    format_address(text, sizeof text, &c->peer);
    c->remote = hk_arena_copy(&c->arena, text, strlen(text));
    return c->remote ? c->remote : "";
}

const char *hark_ctx_request_id(hark_ctx *c)
{
    if (c->request_id)
        return c->request_id;
    char *id = hk_arena_alloc(&c->arena, HK_UUID_TEXT + 1);
    if (!id)
        return "";
    hk_uuid7(c->started_ns, id);
    return c->request_id = id;
}

void *hark_ctx_alloc(hark_ctx *c, size_t size)
{
    return hk_arena_alloc(&c->arena, size);
}

char *hark_ctx_printf(hark_ctx *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *out = n < 0 ? NULL : hk_arena_alloc(&c->arena, (size_t)n + 1);
    if (!out)
        return NULL;
    va_start(ap, fmt);
    vsnprintf(out, (size_t)n + 1, fmt, ap);
    va_end(ap);
    return out;
}

hark_err hark_ctx_set(hark_ctx *c, const void *key, void *value)
{
    hk_value *v = c->values;
    while (v && v->key != key)
        v = v->next;
    if (!v) {
        v = hk_arena_alloc(&c->arena, sizeof *v);
        if (!v)
            return HARK_ENOMEM;
        *v = (hk_value){c->values, key, NULL};
        c->values = v;
    }
    v->value = value;
    return HARK_OK;
}

void *hark_ctx_get(const hark_ctx *c, const void *key)
{
    for (const hk_value *v = c->values; v; v = v->next)
        if (v->key == key)
            return v->value;
    return NULL;
}

static hark_err add_hook(hark_ctx *c, hk_hook **at, hk_hook hook)
{
    hk_hook *h = hk_arena_alloc(&c->arena, sizeof *h);
    if (!h)
        return c->kept = HARK_ENOMEM;
    *h = hook;
    h->next = *at;
    *at = h;
    return HARK_OK;
}

/* The last one first, from the handler outwards: whoever is further out sees what the others add. */

hark_err hark_ctx_on_reply(hark_ctx *c, hark_reply_fn fn, void *ud)
{
    return add_hook(c, &c->reply_hooks, (hk_hook){NULL, fn, NULL, ud});
}

hark_err hark_ctx_on_done(hark_ctx *c, hark_done_fn fn, void *ud)
{
    hk_hook **at = &c->done_hooks;
    while (*at)
        at = &(*at)->next;
    return add_hook(c, at, (hk_hook){NULL, NULL, fn, ud});
}
