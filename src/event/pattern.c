/* pattern.c: types against patterns. A pattern is one or several alternatives with '|' between them.
 * An alternative is walked once, side by side with the type: each `*` takes exactly one segment and
 * `**` is only allowed at its end, so there is nothing to go back to. */
#include "event/event_i.h"

#include <string.h>

/* Of a pattern, where '|' ends one too. */
static size_t segment(const char *s)
{
    size_t n = 0;
    while (s[n] && s[n] != '|' && !hk_type_separator(s[n]))
        n++;
    return n;
}

static bool ends(char c)
{
    return c == '\0' || c == '|';
}

/* Of a type. */
static size_t type_segment(const char *s)
{
    size_t n = 0;
    while (s[n] && !hk_type_separator(s[n]))
        n++;
    return n;
}

static hark_err check_one(const char *pattern, const char *p, const char **ret_end,
                          hark_errinfo *ei)
{
    if (ends(*p))
        return hk_fail(ei, HARK_EINVAL,
                       "pattern '%s', byte %zu: there is nothing between two '|', or before or "
                       "after one",
                       pattern, (size_t)(p - pattern));
    for (;;) {
        size_t n = segment(p);
        bool rest = n == 2 && p[0] == '*' && p[1] == '*';
        bool one = n == 1 && p[0] == '*';
        if (!rest && !one && memchr(p, '*', n))
            return hk_fail(
                ei, HARK_EINVAL,
                "pattern '%s', byte %zu: '*' must be a whole segment (order:*), '**' the "
                "last one (order:**)",
                pattern, (size_t)(p - pattern));
        if (rest && !ends(p[n]))
            return hk_fail(ei, HARK_EINVAL, "pattern '%s', byte %zu: '**' must be the last segment",
                           pattern, (size_t)(p - pattern));
        if (ends(p[n])) {
            *ret_end = p + n;
            return HARK_OK;
        }
        p += n + 1;
    }
}

hark_err hark_pattern_check(const char *pattern, hark_errinfo *ei)
{
    if (!pattern || !*pattern)
        return hk_fail(ei, HARK_EINVAL, "the pattern is empty; '**' matches every type");
    size_t len = strlen(pattern);
    hark_err err = hk_attr_check("type (pattern)", pattern, len, HARK_TYPE_MAX, ei);
    const char *p = pattern;
    while (!err) {
        err = check_one(pattern, p, &p, ei);
        if (!err && *p++ == '\0')
            break;
    }
    return err;
}

/* hark's own types are matched only by a pattern that names their first segment. */
static bool own_type(const char *type)
{
    size_t n = type_segment(type);
    return (n == 4 && memcmp(type, "hark", 4) == 0 && type[4] == ':') ||
           strcmp(type, "dead_letter") == 0;
}

/* Does the pattern's next segment, n bytes long, match the type's? That is *ret_len long then. */
static bool match_segment(const char *pattern, size_t n, const char *type, size_t *ret_len)
{
    if (n == 1 && *pattern == '*') {
        *ret_len = type_segment(type);
        return *ret_len > 0;
    }
    *ret_len = n;
    return strncmp(pattern, type, n) == 0 && (!type[n] || hk_type_separator(type[n]));
}

static bool match_one(const char *pattern, const char *type)
{
    for (;;) {
        size_t n = segment(pattern), m;
        if (n == 2 && pattern[0] == '*' && pattern[1] == '*')
            return true;
        if (!match_segment(pattern, n, type, &m))
            return false;
        pattern += n;
        type += m;
        if (!*type) /* "a:**" matches "a" too: the rest may be empty */
            return ends(*pattern) || (pattern[1] == '*' && pattern[2] == '*' && ends(pattern[3]));
        if (*pattern != *type)
            return false;
        pattern++;
        type++;
    }
}

bool hark_pattern_match(const char *pattern, const char *type)
{
    bool own = own_type(type);
    for (const char *p = pattern;; p++) {
        if (!(own && *p == '*') && match_one(p, type))
            return true;
        p = strchrnul(p, '|');
        if (!*p)
            return false;
    }
}
