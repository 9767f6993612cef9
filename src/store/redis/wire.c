/* wire.c: lists of fields as text, as the script and this process exchange and store them: of each field its
 * length, a colon, its bytes and a NUL, so that a field can be used as a string where it lies; "-" is a
 * field that is absent. */
#include "store/redis/stream_i.h"

#include <string.h>

/* Every event has a dozen of them: printf would be a third of what it costs to send one. */
size_t hk_digits(uint64_t n, char ret[20])
{
    char back[20];
    size_t len = 0;
    do
        back[len++] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    for (size_t i = 0; i < len; i++)
        ret[i] = back[len - 1 - i];
    return len;
}

void hk_wire_add(hk_buf *b, const void *data, size_t len)
{
    char head[21];
    if (!data) {
        hk_buf_addc(b, '-');
        return;
    }
    size_t n = hk_digits(len, head);
    head[n] = ':';
    hk_buf_add(b, head, n + 1);
    hk_buf_add(b, data, len);
    hk_buf_addc(b, '\0');
}

void hk_wire_add_str(hk_buf *b, const char *s)
{
    hk_wire_add(b, s, s ? strlen(s) : 0);
}

size_t hk_decimal(int64_t n, char ret[21])
{
    ret[0] = '-';
    return n < 0 ? 1 + hk_digits(-(uint64_t)n, ret + 1) : hk_digits((uint64_t)n, ret);
}

void hk_wire_add_int(hk_buf *b, int64_t n)
{
    char text[21];
    hk_wire_add(b, text, hk_decimal(n, text));
}

hk_wire hk_wire_of(hk_text t)
{
    return (hk_wire){.p = t.s ? t.s : "", .end = t.s ? t.s + t.len : ""};
}

/* The length before the colon. */
static bool take_length(hk_wire *w, size_t *ret)
{
    const char *colon = memchr(w->p, ':', (size_t)(w->end - w->p));
    uint64_t len;
    if (!colon || !hk_parse_u64(w->p, (size_t)(colon - w->p), &len))
        return false;
    w->p = colon + 1;
    *ret = (size_t)len;
    return len < (uint64_t)(w->end - w->p);
}

bool hk_wire_more(const hk_wire *w)
{
    return !w->bad && w->p < w->end;
}

hk_text hk_wire_next(hk_wire *w)
{
    hk_text t = {0};
    size_t len;
    if (!hk_wire_more(w)) {
        w->bad = true;
        return t;
    }
    if (*w->p == '-') {
        w->p++;
        return t;
    }
    if (!take_length(w, &len) || w->p[len] != '\0') {
        w->bad = true;
        return t;
    }
    t = (hk_text){w->p, len};
    w->p += len + 1;
    return t;
}

int64_t hk_wire_int(hk_wire *w)
{
    hk_text t = hk_wire_next(w);
    uint64_t n = 0;
    bool minus = t.len > 0 && t.s[0] == '-';
    if (t.s && !hk_parse_u64(t.s + minus, t.len - minus, &n))
        w->bad = true;
    return (int64_t)(minus ? -n : n);
}

uint64_t hk_wire_u64(hk_wire *w)
{
    return (uint64_t)hk_wire_int(w);
}
