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

/* One character of checked text, decoded; moves on past it. `plus` also makes '+' a space, as in
 * queries. */
static char decoded(const char **s, bool plus)
{
    char ch = *(*s)++;
    if (ch != '%')
        return plus && ch == '+' ? ' ' : ch;
    ch = (char)(hex((*s)[0]) << 4 | hex((*s)[1]));
    *s += 2;
    return ch;
}

/* Returns the length. */
static size_t decode(char *out, const char *s, size_t len, bool plus)
{
    size_t n = 0;
    for (const char *end = s + len; s < end;)
        out[n++] = decoded(&s, plus);
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

/* ---- the query ---- */

typedef struct pair { /* not decoded */
    const char *name, *value;
    size_t name_len, value_len;
} pair;

/* The next one that has something in it, from *at, which moves past it. */
static bool next_pair(const char **at, pair *ret)
{
    const char *s = *at + strspn(*at, "&");
    size_t len = strcspn(s, "&");
    const char *eq = memchr(s, '=', len), *end = s + len;
    *at = end;
    *ret = (pair){.name = s, .name_len = eq ? (size_t)(eq - s) : len, .value = eq ? eq + 1 : end};
    ret->value_len = (size_t)(end - ret->value);
    return len > 0;
}

static bool is_named(const pair *p, const char *name)
{
    for (const char *s = p->name, *end = s + p->name_len; s < end; name++)
        if (!*name || decoded(&s, true) != *name)
            return false;
    return !*name;
}

const char *hk_query_find(hark_ctx *c, const char *name)
{
    pair p;
    for (const char *at = c->query ? c->query : ""; next_pair(&at, &p);) {
        if (!is_named(&p, name))
            continue;
        char *out = hk_arena_alloc(&c->arena, p.value_len + 1);
        if (out)
            decode(out, p.value, p.value_len, true);
        return out;
    }
    return NULL;
}

size_t hk_query_count(const hark_ctx *c, const char *name)
{
    pair p;
    size_t n = 0;
    for (const char *at = c->query ? c->query : ""; next_pair(&at, &p);)
        n += is_named(&p, name);
    return n;
}
