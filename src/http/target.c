/* The request target: taken apart at '/' first, percent-decoded once after that, so that an encoded
 * slash never makes a segment. What is not well formed, holds an encoded NUL or is not UTF-8 once
 * decoded is refused. */
#include "http/http_i.h"

#include <string.h>

static int hex(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if (ch >= 'a' && ch <= 'f')
        return ch - 'a' + 10;
    if (ch >= 'A' && ch <= 'F')
        return ch - 'A' + 10;
    return -1;
}

/* Only visible ASCII without '#', and escapes that are whole and not NUL. */
static const char *check(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char ch = (unsigned char)s[i];
        if (ch <= ' ' || ch >= 0x7f || ch == '#')
            return "the target has a character that must be percent-encoded";
        if (ch != '%')
            continue;
        int hi = i + 2 < len ? hex(s[i + 1]) : -1, lo = i + 2 < len ? hex(s[i + 2]) : -1;
        if (hi < 0 || lo < 0)
            return "the target has a '%' that is not followed by two hexadecimal digits";
        if (hi == 0 && lo == 0)
            return "the target has an encoded NUL";
    }
    return NULL;
}

/* Decodes checked text; returns the length. `plus` also makes '+' a space, as in queries. */
static size_t decode(char *out, const char *s, size_t len, bool plus)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '%') {
            out[n++] = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
            i += 2;
        } else {
            out[n++] = plus && s[i] == '+' ? ' ' : s[i];
        }
    }
    out[n] = '\0';
    return n;
}

/* "http://host/path" is allowed by RFC 9112 section 3.2.2; what counts is the path. */
static const char *skip_authority(const char *s, const char *end)
{
    if (end - s > 7 && strncasecmp(s, "http://", 7) == 0)
        s += 7;
    else if (end - s > 8 && strncasecmp(s, "https://", 8) == 0)
        s += 8;
    else
        return s;
    const char *slash = memchr(s, '/', (size_t)(end - s));
    return slash ? slash : end;
}

static const char *split(hk_path *p, const char *raw, size_t len, char *out)
{
    size_t at = 0;
    for (size_t i = 0; i < len;) {
        const char *slash = memchr(raw + i + 1, '/', len - i - 1);
        size_t end = slash ? (size_t)(slash - raw) : len;
        if (p->n == HK_PATH_SEGMENTS)
            return "the path has too many segments";
        out[at++] = '/';
        size_t n = decode(out + at, raw + i + 1, end - i - 1, false);
        p->off[p->n] = (uint16_t)at;
        p->seg_len[p->n++] = (uint16_t)n;
        at += n;
        i = end;
    }
    out[at] = '\0';
    p->text = out;
    p->len = at;
    return hk_utf8_valid(out, at) == at ? NULL : "the decoded path is not valid UTF-8";
}

static const char *check_query(hark_ctx *c)
{
    if (!c->query || !strchr(c->query, '%'))
        return NULL;
    size_t len = strlen(c->query);
    char *scratch = hk_arena_alloc(&c->arena, len + 1);
    if (!scratch)
        return "out of memory";
    size_t n = decode(scratch, c->query, len, true);
    return hk_utf8_valid(scratch, n) == n ? NULL : "the decoded query is not valid UTF-8";
}

const char *hk_target_parse(hark_ctx *c, const char *raw, size_t len)
{
    const char *why = check(raw, len);
    if (why)
        return why;
    const char *end = raw + len, *q = memchr(raw, '?', len);
    const char *path_end = q ? q : end;
    const char *path = skip_authority(raw, path_end);
    c->query = q ? q + 1 : NULL;
    c->path.n = 0;
    size_t n = (size_t)(path_end - path);
    char *out = hk_arena_alloc(&c->arena, n + 2);
    if (!out)
        return "out of memory";
    if (n == 0 && path != raw) /* "http://host" */
        return split(&c->path, "/", 1, out);
    if (n == 1 && *path == '*') {
        c->path.text = "*";
        c->path.len = 1;
        c->path.off[0] = 0;
        c->path.seg_len[0] = 1;
        c->path.n = 1;
        return NULL;
    }
    if (n == 0 || *path != '/')
        return "the target is no path";
    why = split(&c->path, path, n, out);
    return why ? why : check_query(c);
}

static bool name_is(hark_ctx *c, const char *s, size_t len, const char *name, size_t name_len)
{
    if (!memchr(s, '%', len) && !memchr(s, '+', len))
        return len == name_len && memcmp(s, name, len) == 0;
    char *out = hk_arena_alloc(&c->arena, len + 1);
    return out && decode(out, s, len, true) == name_len && memcmp(out, name, name_len) == 0;
}

const char *hk_query_find(hark_ctx *c, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *s = c->query; s && *s;) {
        size_t len = strcspn(s, "&");
        const char *eq = memchr(s, '=', len);
        size_t key_len = eq ? (size_t)(eq - s) : len;
        if (len && name_is(c, s, key_len, name, name_len)) {
            const char *value = eq ? eq + 1 : s + len;
            size_t n = len - (size_t)(value - s);
            char *out = hk_arena_alloc(&c->arena, n + 1);
            if (out)
                decode(out, value, n, true);
            return out;
        }
        s += len + (s[len] == '&');
    }
    return NULL;
}
