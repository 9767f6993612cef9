/* What the path of a route may look like, with errors that say what is wrong and where. */
#include "http/router_i.h"

#include <string.h>

static bool plain(unsigned char c)
{
    return c > 0x20 && c != 0x7f && !strchr("\"<>\\^`{|}%?#", c);
}

static bool name_char(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

static hark_err check_name(const char *s, size_t len, hark_errinfo *ei)
{
    if (*s == ':' && len == 1)
        return hk_fail(ei, HARK_EINVAL, "a ':' without a name");
    for (size_t i = 1; i < len; i++)
        if (!name_char((unsigned char)s[i]))
            return hk_fail(ei, HARK_EINVAL, "the name in '%.*s' has other than [A-Za-z0-9_-]",
                           (int)len, s);
    return HARK_OK;
}

static hark_err check_segment(const char *s, size_t len, hark_errinfo *ei)
{
    if (*s == ':' || *s == '*') {
        if (*s == '*' && s[len] == '/')
            return hk_fail(ei, HARK_EINVAL, "'%.*s' must come last", (int)len, s);
        return check_name(s, len, ei);
    }
    for (size_t i = 0; i < len; i++) {
        if (s[i] == ':' || s[i] == '*')
            return hk_fail(ei, HARK_EINVAL, "'%c' inside '%.*s'; it must begin a segment", s[i],
                           (int)len, s);
        if (!plain((unsigned char)s[i]))
            return hk_fail(ei, HARK_EINVAL,
                           "'%.*s' has a character that no decoded path is written with", (int)len,
                           s);
    }
    if ((len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.'))
        return hk_fail(ei, HARK_EINVAL, "a segment '%.*s'", (int)len, s);
    return HARK_OK;
}

/* Is the name of this segment used by an earlier one? */
static bool name_twice(const char *path, const char *s, size_t len)
{
    for (const char *p = path; p < s - 1;) {
        size_t n = strcspn(++p, "/");
        if (p != s && n == len && (*p == ':' || *p == '*') && memcmp(p + 1, s + 1, len - 1) == 0)
            return true;
        p += n;
    }
    return false;
}

hark_err hk_route_check(const char *path, hark_errinfo *ei)
{
    size_t n = 0, names = 0;
    if (!path || path[0] != '/')
        return hk_fail(ei, HARK_EINVAL, "a path begins with '/'");
    if (strlen(path) > 1024)
        return hk_fail(ei, HARK_EINVAL, "longer than 1024 bytes");
    for (const char *s = path; *s == '/';) {
        size_t len = strcspn(++s, "/");
        hark_err err = check_segment(s, len, ei);
        if (err)
            return err;
        if (*s == ':' || *s == '*') {
            if (len > 1 && name_twice(path, s, len))
                return hk_fail(ei, HARK_EINVAL, "the name '%.*s' twice", (int)(len - 1), s + 1);
            names++;
        }
        if (++n > HK_ROUTE_SEGMENTS || names > HK_ROUTE_PARAMS)
            return hk_fail(ei, HARK_EINVAL, "more than %d segments or %d names", HK_ROUTE_SEGMENTS,
                           HK_ROUTE_PARAMS);
        s += len;
    }
    return HARK_OK;
}
