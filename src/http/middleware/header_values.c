/* Reading Accept-Encoding, Origin and Authorization. Pure functions, one pass over the text,
 * nothing is allocated: what they are given comes from anybody. */
#include "http/middleware/header_values_i.h"

#include "http/http_i.h"

#include <string.h>

static size_t blanks(const char *s, size_t len)
{
    size_t n = 0;
    while (n < len && (s[n] == ' ' || s[n] == '\t'))
        n++;
    return n;
}

static size_t trimmed(const char *s, size_t len)
{
    while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
        len--;
    return len;
}

static bool is(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && strncasecmp(s, word, len) == 0;
}

static bool digit(char ch)
{
    return ch >= '0' && ch <= '9';
}

/* ---- Accept-Encoding ---- */

/* "0.123" in thousandths; -1: no weight. */
static int weight(const char *s, size_t len)
{
    int n = 0, unit = 1000;
    if (len == 0 || len > 5 || (s[0] != '0' && s[0] != '1') || (len > 1 && s[1] != '.'))
        return -1;
    for (size_t i = 0; i < len; i++) {
        if (i == 1)
            continue;
        if (!digit(s[i]))
            return -1;
        n += (s[i] - '0') * unit;
        unit /= 10;
    }
    return n <= 1000 ? n : -1;
}

/* What comes behind the coding: nothing, or ";q=WEIGHT". */
static int parameter(const char *s, size_t len)
{
    if (len == 0)
        return 1000;
    size_t at = 1 + blanks(s + 1, len - 1);
    if (len < at + 2 || (s[at] != 'q' && s[at] != 'Q') || s[at + 1] != '=')
        return -1;
    return weight(s + at + 2, len - at - 2);
}

static void lower(int *to, int weight)
{
    if (*to < 0 || weight < *to)
        *to = weight;
}

/* An element that is malformed says nothing. */
static void coding(hk_codings *a, const char *s, size_t len)
{
    const char *semi = memchr(s, ';', len);
    size_t all = semi ? (size_t)(semi - s) : len, name = trimmed(s, all);
    int w = parameter(s + all, len - all);
    if (w < 0)
        return;
    if (is(s, name, "gzip") || is(s, name, "x-gzip"))
        lower(&a->gzip, w);
    else if (is(s, name, "identity"))
        lower(&a->identity, w);
    else if (is(s, name, "*"))
        lower(&a->any, w);
}

void hk_codings_read(hk_codings *a, const char *value)
{
    for (;;) {
        size_t len = strcspn(value, ","), skip = blanks(value, len);
        coding(a, value + skip, trimmed(value + skip, len - skip));
        if (!value[len])
            return;
        value += len + 1;
    }
}

bool hk_codings_want_gzip(const hk_codings *a)
{
    int gzip = a->gzip >= 0 ? a->gzip : a->any;
    return gzip > 0 && gzip >= a->identity;
}

/* ---- Origin ---- */

static bool label_char(char ch)
{
    return (ch >= 'a' && ch <= 'z') || digit(ch) || ch == '-' || ch == '_';
}

static size_t label(const char *s)
{
    size_t n = 0;
    while (label_char(s[n]))
        n++;
    return n;
}

static bool port_ok(const char *s)
{
    size_t n = 0;
    while (digit(s[n]))
        n++;
    return n >= 1 && n <= 5 && s[0] != '0' && !s[n];
}

static bool host_ok(const char *s)
{
    if (s[0] == '[') { /* IPv6 */
        size_t n = 1 + strspn(s + 1, "0123456789abcdef:.");
        return n > 2 && s[n] == ']' && (!s[n + 1] || (s[n + 1] == ':' && port_ok(s + n + 2)));
    }
    for (;;) {
        size_t n = label(s);
        if (n == 0)
            return false;
        if (s[n] != '.')
            return !s[n] || (s[n] == ':' && port_ok(s + n + 1));
        s += n + 1;
    }
}

/* Browsers send scheme and host in lower case, and nothing behind them but a port. */
bool hk_origin_pattern_ok(const char *pattern)
{
    if (strcmp(pattern, "*") == 0 || strcmp(pattern, "null") == 0)
        return true;
    size_t scheme = strspn(pattern, "abcdefghijklmnopqrstuvwxyz0123456789+-.");
    if (scheme == 0 || strncmp(pattern + scheme, "://", 3) != 0)
        return false;
    const char *host = pattern + scheme + 3;
    return host_ok(strncmp(host, "*.", 2) == 0 ? host + 2 : host);
}

bool hk_origin_usual_port(const char *pattern)
{
    const char *port = strrchr(pattern, ':');
    return port && ((strncmp(pattern, "http://", 7) == 0 && strcmp(port, ":80") == 0) ||
                    (strncmp(pattern, "https://", 8) == 0 && strcmp(port, ":443") == 0));
}

bool hk_origin_covers(const char *pattern, const char *origin)
{
    const char *star = strstr(pattern, "://*.");
    if (strcmp(pattern, "*") == 0)
        return true;
    if (!star)
        return strcmp(pattern, origin) == 0;
    size_t before = (size_t)(star - pattern) + 3;
    if (strncmp(pattern, origin, before) != 0)
        return false;
    size_t n = label(origin + before);
    return n > 0 && strcmp(origin + before + n, star + 4) == 0;
}

bool hk_names_ok(const char *list)
{
    for (;;) {
        size_t len = strcspn(list, ","), skip = blanks(list, len);
        if (!hk_token(list + skip, trimmed(list + skip, len - skip)))
            return false;
        if (!list[len])
            return true;
        list += len + 1;
    }
}

/* ---- credentials ---- */

bool hk_key_ok(const char *key)
{
    size_t n = 0;
    while (key[n] > ' ' && key[n] <= '~' && n <= HK_KEY_MAX)
        n++;
    return n >= 1 && n <= HK_KEY_MAX && !key[n];
}

hk_credentials hk_credentials_read(const char *value, const char *scheme, const char **ret_key)
{
    size_t len = strlen(scheme);
    const char *key = value;
    if (len) {
        if (strncasecmp(value, scheme, len) != 0 || (value[len] && value[len] != ' '))
            return HK_CRED_NONE;
        key = value + len + strspn(value + len, " ");
    }
    if (!hk_key_ok(key))
        return HK_CRED_MALFORMED;
    *ret_key = key;
    return HK_CRED_KEY;
}
