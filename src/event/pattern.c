/* pattern.c: types against patterns. A pattern is walked once, side by side with the type: each `*`
 * takes exactly one segment and `**` is only allowed at the end, so there is nothing to go back to.
 */
#include "event/event_i.h"

#include <string.h>

static size_t segment(const char *s)
{
    size_t n = 0;
    while (s[n] && !hk_type_separator(s[n]))
        n++;
    return n;
}

hark_err hark_pattern_check(const char *pattern, hark_errinfo *ei)
{
    if (!pattern || !*pattern)
        return hk_fail(ei, HARK_EINVAL, "the pattern is empty; '**' matches every type");
    size_t len = strlen(pattern);
    hark_err err = hk_attr_check("type (pattern)", pattern, len, HARK_TYPE_MAX, ei);
    if (err)
        return err;
    for (const char *p = pattern;;) {
        size_t n = segment(p);
        bool rest = n == 2 && p[0] == '*' && p[1] == '*';
        bool one = n == 1 && p[0] == '*';
        if (!rest && !one && memchr(p, '*', n))
            return hk_fail(
                ei, HARK_EINVAL,
                "pattern '%s', byte %zu: '*' must be a whole segment (order:*), '**' the "
                "last one (order:**)",
                pattern, (size_t)(p - pattern));
        if (rest && p[n])
            return hk_fail(ei, HARK_EINVAL, "pattern '%s', byte %zu: '**' must be the last segment",
                           pattern, (size_t)(p - pattern));
        if (!p[n])
            return HARK_OK;
        p += n + 1;
    }
}

/* hark's own types are matched only by a pattern that names their first segment. */
static bool own_type(const char *type)
{
    size_t n = segment(type);
    return (n == 4 && memcmp(type, "hark", 4) == 0 && type[4] == ':') ||
           strcmp(type, "dead_letter") == 0;
}

bool hark_pattern_match(const char *pattern, const char *type)
{
    if (pattern[0] == '*' && own_type(type))
        return false;
    for (;;) {
        size_t n = segment(pattern), m = segment(type);
        if (n == 2 && pattern[0] == '*' && pattern[1] == '*')
            return true;
        bool any = n == 1 && pattern[0] == '*';
        if (any ? m == 0 : n != m || memcmp(pattern, type, n) != 0)
            return false;
        pattern += n;
        type += m;
        if (!*type) /* "a:**" matches "a" too: the rest may be empty */
            return !*pattern || strcmp(pattern + 1, "**") == 0;
        if (*pattern != *type)
            return false;
        pattern++;
        type++;
    }
}
