/* The guard in front of routing: refuses heads that two parsers could understand differently. What
 * libmicrohttpd takes too lightly (FAULTS 2.3) is found in the bytes of the head itself: it parses
 * in place, so from the method's first byte to the end of the head everything is still there, with
 * NULs where its parser cut. Walking over that shows bare line feeds, folded lines, embedded NULs
 * and spaces before colons, which its list of headers hides. Later versions are strict themselves
 * and may lay their memory out otherwise; with those the list of headers is used. */
#include "http/http_i.h"

#include <string.h>

/* RFC 9110 section 5.6.2: one bit for each ASCII character. */
static const uint64_t token_bits[2] = {0x03ff6cfa00000000, 0x57ffffffc7fffffe};

bool hk_token(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)s[i];
        if (ch >= 128 || !(token_bits[ch >> 6] >> (ch & 63) & 1))
            return false;
    }
    return len > 0;
}

bool hk_field_value(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)s[i];
        if ((ch < ' ' && ch != '\t') || ch == 0x7f)
            return false;
    }
    return true;
}

static int refuse(const char **ret_why, int status, const char *why)
{
    *ret_why = why;
    return status;
}

/* Appends a header to the context's; the array grows by doubling in the arena. */
static int add_header(hark_ctx *c, const char *name, size_t nlen, char *value, size_t vlen,
                      const char **ret_why)
{
    if (!hk_token(name, nlen))
        return refuse(ret_why, 400,
                      nlen ? "a header name has a character that is not allowed there"
                           : "a header name is empty");
    if (!hk_field_value(value, vlen))
        return refuse(ret_why, 400, "a header value has a control character");
    size_t n = c->n_headers;
    if (n == HK_HEADERS_MAX)
        return refuse(ret_why, 431, "too many headers");
    if (n == 0 || (n >= 16 && (n & (n - 1)) == 0)) {
        hk_header *more = hk_arena_alloc(&c->arena, (n ? n * 2 : 16) * sizeof *more);
        if (!more)
            return refuse(ret_why, 503, "out of memory");
        if (n)
            memcpy(more, c->headers, n * sizeof *more);
        c->headers = more;
    }
    c->headers[c->n_headers++] = (hk_header){name, value, (uint32_t)nlen, (uint32_t)vlen};
    return 0;
}

/* ---- walking over the head ---- */

/* One line "name\0value\0\0"; `*at` moves to the next. */
static int walk_line(hark_ctx *c, char **at, const char *end, const char **ret_why)
{
    char *name = *at;
    size_t room = (size_t)(end - name);
    size_t nlen = strnlen(name, room);
    char *value = name + nlen + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    if (value >= end)
        return refuse(ret_why, 400, "a line of the head is no header");
    size_t vlen = strnlen(value, (size_t)(end - value));
    char *next = value + vlen + 2;
    if (next > end || next[-1] != '\0')
        return refuse(ret_why, 400, "a line of the head has a NUL in it or ends in a bare LF");
    *at = next;
    return add_header(c, name, nlen, value, vlen, ret_why);
}

int hk_guard_head(hark_ctx *c, char *head, size_t len, const char **ret_why)
{
    /* "GET\0target\0HTTP/1.1\0\0", then lines, then "\0\0" */
    size_t first = c->method_len + 1 + c->raw_len + 1 + 8;
    if (len < first + 4 || head[first] || head[first + 1])
        return refuse(ret_why, 400, "the request line has a NUL in it or ends in a bare LF");
    char *at = head + first + 2, *end = head + len - 2;
    if (end[0] || end[1])
        return refuse(ret_why, 400, "the head does not end in an empty line");
    while (at < end) {
        int status = walk_line(c, &at, end, ret_why);
        if (status)
            return status;
    }
    return at == end ? 0 : refuse(ret_why, 400, "the head has a bare LF");
}

/* ---- the rules about certain headers ---- */

static bool is(const hk_header *h, const char *name, size_t len)
{
    return h->name_len == len && strncasecmp(h->name, name, len) == 0;
}

static size_t trimmed(const hk_header *h)
{
    size_t n = h->value_len;
    while (n && (h->value[n - 1] == ' ' || h->value[n - 1] == '\t'))
        n--;
    return n;
}

static bool host_ok(const hk_header *h)
{
    for (size_t i = 0; i < trimmed(h); i++)
        if (strchr(" \t/?#@,\\<>\"", h->value[i]))
            return false;
    return true;
}

static int check_length(hark_ctx *c, const hk_header *h, const char **ret_why)
{
    if (c->has_length)
        return refuse(ret_why, 400, "two Content-Length headers");
    c->has_length = true;
    if (!hk_parse_u64(h->value, trimmed(h), &c->content_length))
        return refuse(ret_why, 400, "Content-Length is no decimal number");
    return 0;
}

/* Blanks after a value are no part of it. */
static void trim_all(hark_ctx *c)
{
    for (size_t i = 0; i < c->n_headers; i++) {
        hk_header *h = &c->headers[i];
        h->value_len = (uint32_t)trimmed(h);
        h->value[h->value_len] = '\0';
    }
}

int hk_guard_fields(hark_ctx *c, bool http_1_0, const char **ret_why)
{
    size_t hosts = 0;
    int status = 0;
    for (size_t i = 0; i < c->n_headers && !status; i++) {
        const hk_header *h = &c->headers[i];
        if (is(h, "Host", 4)) {
            if (++hosts > 1)
                status = refuse(ret_why, 400, "two Host headers");
            else if (!host_ok(h))
                status = refuse(ret_why, 400, "the Host header is malformed");
        } else if (is(h, "Content-Length", 14)) {
            status = check_length(c, h, ret_why);
        } else if (is(h, "Transfer-Encoding", 17)) {
            if (c->chunked || http_1_0 || h->value_len != 7 ||
                strncasecmp(h->value, "chunked", 7) != 0)
                status = refuse(ret_why, 400, "Transfer-Encoding is not exactly 'chunked'");
            c->chunked = true;
        }
    }
    if (status)
        return status;
    if (c->chunked && c->has_length)
        return refuse(ret_why, 400, "both Content-Length and Transfer-Encoding");
    if (!http_1_0 && hosts == 0)
        return refuse(ret_why, 400, "no Host header");
    trim_all(c);
    return 0;
}

/* ---- what libmicrohttpd hands over ---- */

/* Versions whose parser leaves the head as hk_guard_head walks over it. */
static bool layout_known(void)
{
    const char *v = MHD_get_version();
    return strcmp(v, "0.9.75") == 0 || strcmp(v, "0.9.76") == 0 || strcmp(v, "0.9.77") == 0;
}

typedef struct listing {
    hark_ctx *c;
    const char **ret_why;
    int status;
} listing;

static enum MHD_Result list_one(void *cls, enum MHD_ValueKind kind, const char *name, size_t nlen,
                                const char *value, size_t vlen)
{
    listing *l = cls;
    (void)kind;
    char *n = hk_arena_copy(&l->c->arena, name, nlen);
    char *v = hk_arena_copy(&l->c->arena, value ? value : "", value ? vlen : 0);
    l->status = n && v ? add_header(l->c, n, nlen, v, vlen, l->ret_why)
                       : refuse(l->ret_why, 503, "out of memory");
    return l->status ? MHD_NO : MHD_YES;
}

static int from_list(hark_ctx *c, enum MHD_ValueKind kind, const char **ret_why)
{
    listing l = {c, ret_why, 0};
    MHD_get_connection_values_n(c->conn->mhd, kind, list_one, &l);
    return l.status;
}

static int from_head(hark_ctx *c, const char *method, const char *url, const char *version,
                     const char **ret_why)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c->conn->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t len = info ? info->header_size : 0;
    if (url != method + c->method_len + 1 || version != url + c->raw_len + 1)
        return refuse(ret_why, 400, "the request line has a NUL or more spaces than two");
    if (len == 0 || len > c->app->opts.memory_per_connection)
        return refuse(ret_why, 400, "a line of the head is folded");
    char *copy = hk_arena_copy(&c->arena, method, len);
    if (!copy)
        return refuse(ret_why, 503, "out of memory");
    c->method = copy;
    int status = hk_guard_head(c, copy, len, ret_why);
    size_t n = (size_t)MHD_get_connection_values_n(c->conn->mhd, MHD_HEADER_KIND, NULL, NULL);
    if (!status && n != c->n_headers)
        status = refuse(ret_why, 400, "the head can be read in two ways");
    return status;
}

int hk_guard(hark_ctx *c, const char *method, const char *url, const char *version,
             const char **ret_why)
{
    c->method_len = strlen(method);
    c->method_id = hk_method_of(method, c->method_len);
    if (c->raw_len > HK_TARGET_MAX)
        return refuse(ret_why, 414, "the target is longer than 8192 bytes");
    if (!hk_token(method, c->method_len))
        return refuse(ret_why, 400, "the method has a character that is not allowed there");
    int status;
    if (layout_known()) {
        status = from_head(c, method, url, version, ret_why);
    } else {
        c->method = hk_arena_copy(&c->arena, method, c->method_len);
        status = c->method ? from_list(c, MHD_HEADER_KIND, ret_why)
                           : refuse(ret_why, 503, "out of memory");
    }
    if (status == 0)
        status = hk_guard_fields(c, strcmp(version, "HTTP/1.0") == 0, ret_why);
    if (status == 0) {
        *ret_why = hk_target_parse(c, c->target, c->target_len);
        status = *ret_why ? 400 : 0;
    }
    return status;
}

/* Trailers are checked and not kept: nobody may smuggle framing headers in behind a body. */
int hk_guard_trailers(hark_ctx *c, const char **ret_why)
{
    size_t n = c->n_headers;
    int status = c->chunked ? from_list(c, MHD_FOOTER_KIND, ret_why) : 0;
    for (size_t i = n; i < c->n_headers && !status; i++) {
        const hk_header *h = &c->headers[i];
        if (is(h, "Host", 4) || is(h, "Content-Length", 14) || is(h, "Transfer-Encoding", 17))
            status = refuse(ret_why, 400, "a trailer that is not allowed there");
    }
    c->n_headers = n;
    return status;
}
