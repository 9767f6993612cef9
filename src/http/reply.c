/* Composing a reply, and handing it to libmicrohttpd. The last reply set counts. Bodies live in the
 * request's memory until the last byte is sent, so they are copied once at most. */
#include "http/http_i.h"
#include "http/keyed_i.h"
#include "http/stream_i.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void hk_reply_clear(hk_reply *r)
{
    free(r->heap);
    if (r->fd >= 0)
        close(r->fd);
    if (r->stream)
        hk_stream_free(r->stream);
    *r = (hk_reply){.fd = -1};
}

hark_err hk_ctx_keep(hark_ctx *c, hark_err err)
{
    if (!c->kept)
        c->kept = err;
    return err;
}

hark_err hk_reply_set(hark_ctx *c, int status, const char *type, const void *body, size_t len,
                      void *heap)
{
    hk_reply_clear(&c->reply);
    if (status < 200 || status > 599) {
        free(heap);
        (void)hark_ctx_fail(c, HARK_EINTERNAL, "%d is no status of a reply", status);
        return hk_ctx_keep(c, HARK_EINVAL);
    }
    c->reply = (hk_reply){status, type, body, len, heap, -1, 0, NULL};
    return HARK_OK;
}

static hark_err set_copy(hark_ctx *c, int status, const char *type, const void *data, size_t len)
{
    const void *body = hk_arena_copy(&c->arena, data, len);
    if (!body)
        return hk_ctx_keep(c, HARK_ENOMEM);
    return hk_reply_set(c, status, type, body, len, NULL);
}

hark_err hark_ctx_json(hark_ctx *c, int status, const hark_json_table *table, const void *from)
{
    char *text;
    size_t len;
    hark_errinfo ei = {0};
    hark_err err = hark_json_encode(table, from, &text, &len, &ei);
    if (err) {
        (void)hark_ctx_fail(c, HARK_EINTERNAL, "the reply cannot be encoded: %s", ei.text);
        return hk_ctx_keep(c, err);
    }
    return hk_reply_set(c, status, "application/json", text, len, text);
}

hark_err hark_ctx_json_text(hark_ctx *c, int status, const char *json)
{
    return set_copy(c, status, "application/json", json, strlen(json));
}

hark_err hark_ctx_text(hark_ctx *c, int status, const char *text)
{
    return set_copy(c, status, "text/plain; charset=utf-8", text, strlen(text));
}

hark_err hark_ctx_bytes(hark_ctx *c, int status, const char *content_type, const void *data,
                        size_t len)
{
    const char *type = content_type ? content_type : "application/octet-stream";
    if (!hk_field_value(type, strlen(type)))
        return hk_ctx_keep(c, HARK_EINVAL);
    type = hk_arena_copy(&c->arena, type, strlen(type));
    return type ? set_copy(c, status, type, data, len) : hk_ctx_keep(c, HARK_ENOMEM);
}

hark_err hark_ctx_no_content(hark_ctx *c)
{
    return hk_reply_set(c, 204, NULL, "", 0, NULL);
}

hark_err hark_ctx_redirect(hark_ctx *c, int status, const char *location)
{
    if (status < 300 || status > 399)
        return hk_ctx_keep(c, HARK_EINVAL);
    hark_err err = hark_ctx_set_header(c, "Location", location);
    return err ? err : hk_reply_set(c, status, NULL, "", 0, NULL);
}

hark_err hark_ctx_file(hark_ctx *c, int status, const char *content_type, int fd, uint64_t offset,
                       uint64_t len)
{
    const char *type = hk_arena_copy(&c->arena, content_type, strlen(content_type));
    hark_err err =
        type ? hk_reply_set(c, status, type, NULL, 0, NULL) : hk_ctx_keep(c, HARK_ENOMEM);
    if (err || len > INT64_MAX) {
        close(fd);
        return err ? err : hk_ctx_keep(c, HARK_EINVAL);
    }
    c->reply.fd = fd;
    c->reply.fd_off = offset;
    c->reply.len = (size_t)len;
    return HARK_OK;
}

int hark_ctx_status(const hark_ctx *c)
{
    return c->reply.status;
}

hark_err hark_ctx_set_status(hark_ctx *c, int status)
{
    if (c->reply.stream)
        (void)hark_ctx_fail(c, HARK_EINTERNAL, "hark_ctx_set_status: a stream has status 200");
    if (!c->reply.status || c->reply.stream || status < 200 || status > 599)
        return hk_ctx_keep(c, HARK_EINVAL);
    c->reply.status = status;
    return HARK_OK;
}

/* ---- headers ---- */

static bool servers_own(const char *name)
{
    static const char *const own[] = {"Content-Length", "Transfer-Encoding", "Connection", "Date"};
    for (size_t i = 0; i < HK_COUNTOF(own); i++)
        if (strcasecmp(name, own[i]) == 0)
            return true;
    return false;
}

/* The first of this name, or NULL; the others go. */
static hk_out_header *only_one(hark_ctx *c, const char *name)
{
    hk_out_header *first = NULL;
    for (hk_out_header **at = &c->out_headers; *at;) {
        hk_out_header *h = *at;
        bool same = strcasecmp(h->name, name) == 0;
        if (same && first) {
            *at = h->next;
            continue;
        }
        if (same)
            first = h;
        at = &h->next;
    }
    return first;
}

static hk_out_header *append(hark_ctx *c, const char *name, size_t len)
{
    hk_out_header *h = hk_arena_alloc(&c->arena, sizeof *h), **at = &c->out_headers;
    char *copy = h ? hk_arena_copy(&c->arena, name, len) : NULL;
    if (!copy)
        return NULL;
    *h = (hk_out_header){NULL, copy, ""};
    while (*at)
        at = &(*at)->next;
    return *at = h;
}

static hark_err put_header(hark_ctx *c, const char *name, const char *value, bool replace)
{
    size_t name_len = strlen(name), value_len = value ? strlen(value) : 0;
    if (!value || !hk_token(name, name_len) || !hk_field_value(value, value_len) ||
        servers_own(name)) {
        (void)hark_ctx_fail(c, HARK_EINTERNAL, "the header '%.100s' cannot be set so", name);
        return hk_ctx_keep(c, HARK_EINVAL);
    }
    char *v = hk_arena_copy(&c->arena, value, value_len);
    hk_out_header *h = v && replace ? only_one(c, name) : NULL;
    if (v && !h)
        h = append(c, name, name_len);
    if (!h)
        return hk_ctx_keep(c, HARK_ENOMEM);
    h->value = v;
    return HARK_OK;
}

hark_err hark_ctx_set_header(hark_ctx *c, const char *name, const char *value)
{
    return put_header(c, name, value, true);
}

hark_err hark_ctx_add_header(hark_ctx *c, const char *name, const char *value)
{
    return put_header(c, name, value, false);
}

/* Headers are only ever added at the end, get another value or go: in the order in which they were
 * noted they can be put together again. */
struct hk_noted {
    size_t n;
    struct {
        hk_out_header *header;
        const char *value;
    } at[];
};

hk_noted *hk_headers_note(hark_ctx *c)
{
    size_t n = 0;
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        n++;
    hk_noted *was = hk_arena_alloc(&c->arena, sizeof *was + n * sizeof was->at[0]);
    if (!was)
        return NULL;
    was->n = n;
    n = 0;
    for (hk_out_header *h = c->out_headers; h; h = h->next) {
        was->at[n].header = h;
        was->at[n++].value = h->value;
    }
    return was;
}

void hk_headers_back(hark_ctx *c, const hk_noted *was)
{
    hk_out_header **at = &c->out_headers;
    for (size_t i = 0; i < was->n; i++) {
        *at = was->at[i].header;
        (*at)->value = was->at[i].value;
        at = &(*at)->next;
    }
    *at = NULL;
}

bool hk_headers_noted(const hk_noted *was, const hk_out_header *h)
{
    for (size_t i = 0; i < was->n; i++)
        if (was->at[i].header == h)
            return was->at[i].value == h->value;
    return false;
}

/* ---- to libmicrohttpd ---- */

static struct MHD_Response *body_of(hark_ctx *c)
{
    hk_reply *r = &c->reply;
    if (r->fd >= 0) {
        struct MHD_Response *file =
            MHD_create_response_from_fd_at_offset64(r->len, r->fd, r->fd_off);
        if (file)
            r->fd = -1; /* it closes it */
        return file;
    }
    union {
        const void *in;
        void *out;
    } body = {r->body ? r->body : ""};
    return MHD_create_response_from_buffer(r->len, body.out, MHD_RESPMEM_PERSISTENT);
}

struct MHD_Response *hk_reply_make(hark_ctx *c)
{
    struct MHD_Response *r = body_of(c);
    bool own_type = false;
    if (!r)
        return NULL;
    for (const hk_out_header *h = c->out_headers; h; h = h->next) {
        MHD_add_response_header(r, h->name, h->value);
        own_type = own_type || strcasecmp(h->name, "Content-Type") == 0;
    }
    if (c->reply.content_type && !own_type)
        MHD_add_response_header(r, "Content-Type", c->reply.content_type);
    if (c->close)
        MHD_add_response_header(r, "Connection", "close");
    return r;
}
