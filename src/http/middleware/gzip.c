/* gzip: bodies in memory are compressed when they go out, after everybody else has had a say; what
 * is stored (hark_idempotency) is stored before that. It runs on the loop, hence max_bytes. Files
 * and streams are left as they are. */
#include "http/keyed_i.h"
#include "http/middleware/header_values_i.h"
#include "http/middleware/shared_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { MIN_BYTES = 1024, MAX_BYTES = 1 << 20, GZIP_WRAPPER = 16 };

typedef struct state {
    size_t min_bytes, max_bytes;
    int level;
    hk_skip skip;
} state;

static void state_free(void *ud)
{
    state *s = ud;
    if (!s)
        return;
    hk_skip_free(&s->skip);
    free(s);
}

/* ---- may it be compressed, and is it wanted ---- */

static bool ends(const char *s, size_t len, const char *with)
{
    size_t n = strlen(with);
    return len >= n && strncasecmp(s + len - n, with, n) == 0;
}

static bool compressible(const char *type)
{
    static const char *const types[] = {"application/json", "application/xml",
                                        "application/javascript", "application/x-ndjson"};
    size_t len = type ? strcspn(type, "; \t") : 0;
    if (len == 0 || (len == 17 && strncasecmp(type, "text/event-stream", len) == 0))
        return false;
    for (size_t i = 0; i < HK_COUNTOF(types); i++)
        if (len == strlen(types[i]) && strncasecmp(type, types[i], len) == 0)
            return true;
    return strncasecmp(type, "text/", 5) == 0 || ends(type, len, "+json") ||
           ends(type, len, "+xml"); /* SVG among them */
}

/* Something is said of these very bytes: what they are the code of, a digest, places in them. */
static bool bound(const hark_ctx *c)
{
    static const char *const names[] = {"Content-Encoding", "Content-Range", "Content-Digest",
                                        "Repr-Digest",      "Digest",        "Content-MD5"};
    for (size_t i = 0; i < HK_COUNTOF(names); i++)
        if (hk_out_find(c, names[i]))
            return true;
    return hk_out_says(c, "Accept-Ranges", "bytes");
}

/* A reply of which there could be a compressed form: files and streams have no body here. */
static bool eligible(const hark_ctx *c)
{
    const char *own_type = hk_out_find(c, "Content-Type");
    int status = c->reply.status;
    return c->reply.body && status != 204 && status != 205 && status != 206 && status != 304 &&
           compressible(own_type ? own_type : c->reply.content_type) && !bound(c) &&
           !hk_out_says(c, "Cache-Control", "no-transform");
}

static bool wanted(const hark_ctx *c)
{
    hk_codings a = HK_CODINGS_NONE;
    for (size_t i = 0; i < c->n_headers; i++)
        if (strcasecmp(c->headers[i].name, "Accept-Encoding") == 0)
            hk_codings_read(&a, c->headers[i].value);
    return hk_codings_want_gzip(&a);
}

/* ---- compressing ---- */

/* Memory that zlib takes goes with the size of the body: about 6 KiB to 256 KiB. */
static bool begin(z_stream *z, int level, size_t len)
{
    int bits = 9;
    while (bits < 15 && (size_t)1 << bits < len)
        bits++;
    return deflateInit2(z, level, Z_DEFLATED, bits + GZIP_WRAPPER, bits - 7, Z_DEFAULT_STRATEGY) ==
           Z_OK;
}

/* Malloc'ed; NULL when there is no memory, or when it would not get smaller. */
static void *compressed(const void *data, size_t len, int level, size_t *ret_len)
{
    union {
        const void *in;
        Bytef *out;
    } from = {data};
    z_stream z = {0};
    void *to = malloc(len);
    if (!to || !begin(&z, level, len)) {
        free(to);
        return NULL;
    }
    z.next_in = from.out;
    z.avail_in = (uInt)len;
    z.next_out = to;
    z.avail_out = (uInt)len - 1;
    bool fits = deflate(&z, Z_FINISH) == Z_STREAM_END;
    *ret_len = (size_t)z.total_out;
    (void)deflateEnd(&z);
    if (fits)
        return to;
    free(to);
    return NULL;
}

static bool weaken(hark_ctx *c)
{
    const char *tag = hk_out_find(c, "ETag");
    if (!tag || tag[0] != '"')
        return true;
    const char *weak = hark_ctx_printf(c, "W/%s", tag);
    return weak && !hark_ctx_set_header(c, "ETag", weak);
}

/* The old body may hold the content type too (hk_keyed_replay). */
static bool keep_type(hark_ctx *c)
{
    const char *type = c->reply.content_type;
    char *kept = type ? hk_arena_copy(&c->arena, type, strlen(type)) : NULL;
    if (kept)
        c->reply.content_type = kept;
    return !type || kept;
}

/* Either all of it or nothing. */
static void replace(hark_ctx *c, void *body, size_t len)
{
    hk_noted *before = hk_headers_note(c);
    if (!before || !keep_type(c) || !weaken(c) ||
        hark_ctx_set_header(c, "Content-Encoding", "gzip")) {
        if (before)
            hk_headers_back(c, before);
        free(body);
        return;
    }
    free(c->reply.heap);
    c->reply.heap = body;
    c->reply.body = body;
    c->reply.len = len;
}

/* "Not changed" is said of the form that the client has: a cache finds it by the tag. */
static void tag_as_asked(hark_ctx *c)
{
    const char *tag = hk_out_find(c, "ETag"), *asked = hark_ctx_header(c, "If-None-Match");
    const char *weak = tag && tag[0] == '"' ? hark_ctx_printf(c, "W/%s", tag) : NULL;
    if (weak && asked && strstr(asked, weak))
        (void)hark_ctx_set_header(c, "ETag", weak);
}

static void on_reply(hark_ctx *c, int status, void *ud)
{
    const state *s = ud;
    hk_reply *r = &c->reply;
    size_t len;
    if (status == 304 && !hk_out_vary(c, "Accept-Encoding"))
        tag_as_asked(c);
    if (!eligible(c) || hk_out_vary(c, "Accept-Encoding"))
        return;
    if (r->len < s->min_bytes || r->len > s->max_bytes || !wanted(c))
        return;
    void *body = compressed(r->body, r->len, s->level, &len);
    if (body)
        replace(c, body, len);
}

static hark_err run(hark_ctx *c, void *ud)
{
    state *s = ud;
    if (!hk_skip_covers(&s->skip, c))
        (void)hark_ctx_on_reply(c, on_reply, s);
    return hark_ctx_next(c);
}

/* ---- making one ---- */

static hark_err take(void *to, const void *opts, hark_errinfo *ei)
{
    state *s = to;
    const hark_gzip_opts *o = opts;
    s->min_bytes = o->min_bytes ? o->min_bytes : MIN_BYTES;
    s->max_bytes = o->max_bytes ? o->max_bytes : MAX_BYTES;
    s->level = o->level ? (int)o->level : Z_BEST_SPEED;
    if (o->level < 0 || o->level > 9)
        return hk_fail(ei, HARK_EINVAL, "hark_gzip: level is %lld; 1 to 9, 0 = 1",
                       (long long)o->level);
    if (s->max_bytes > INT32_MAX || s->max_bytes < s->min_bytes)
        return hk_fail(ei, HARK_EINVAL, "hark_gzip: max_bytes is %zu; from min_bytes (%zu) to %d",
                       s->max_bytes, s->min_bytes, INT32_MAX);
    if (!hk_skip_copy(&s->skip, o->skip))
        return hk_fail(ei, HARK_ENOMEM, "hark_gzip: out of memory");
    return HARK_OK;
}

hark_middleware hark_gzip(const hark_gzip_opts *opts)
{
    static const hk_maker maker = {
        "hark_gzip", sizeof(hark_gzip_opts), sizeof(state), run, state_free, take};
    hark_gzip_opts room;
    return hk_make(&maker, opts, &room);
}
