/* Strings of checked documents: measuring, comparing and unescaping them. Bytes that are no escape
 * are copied as they are; the check has seen to UTF-8 and to surrogates that come in pairs. */
#include "json/json.h"

#include "json/scan_i.h"

#include <string.h>

/* Writes a code point as UTF-8; returns its bytes. */
static size_t put_utf8(uint32_t cp, char ret[4])
{
    if (cp < 0x80) {
        ret[0] = (char)cp;
        return 1;
    }
    if (cp < 0x800) {
        ret[0] = (char)(0xc0 | (cp >> 6));
        ret[1] = (char)(0x80 | (cp & 0x3f));
        return 2;
    }
    if (cp < 0x10000) {
        ret[0] = (char)(0xe0 | (cp >> 12));
        ret[1] = (char)(0x80 | ((cp >> 6) & 0x3f));
        ret[2] = (char)(0x80 | (cp & 0x3f));
        return 3;
    }
    ret[0] = (char)(0xf0 | (cp >> 18));
    ret[1] = (char)(0x80 | ((cp >> 12) & 0x3f));
    ret[2] = (char)(0x80 | ((cp >> 6) & 0x3f));
    ret[3] = (char)(0x80 | (cp & 0x3f));
    return 4;
}

static char short_escape(char c)
{
    switch (c) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return c; /* quote, backslash, slash */
    }
}

size_t hk_json_unescape_step(const char **at, const char *end, char ret[4])
{
    const char *p = *at;
    if (*p != '\\' || end - p < 2) {
        ret[0] = *p;
        *at = p + 1;
        return 1;
    }
    int unit = p[1] == 'u' ? hk_json_hex4(p + 2, end) : -1;
    if (unit < 0) {
        ret[0] = short_escape(p[1]);
        *at = p + 2;
        return 1;
    }
    uint32_t cp = (uint32_t)unit;
    *at = p + 6;
    if (unit >= 0xd800 && unit < 0xdc00 && end - p >= 12) {
        cp = 0x10000 + ((cp & 0x3ff) << 10) + ((uint32_t)hk_json_hex4(p + 8, end) & 0x3ff);
        *at = p + 12;
    }
    return put_utf8(cp, ret);
}

/* The text between the quotes; false if this is no string. */
static bool inside(hk_json_slice s, const char **ret_p, const char **ret_end)
{
    if (s.kind != HK_JSON_STRING || s.len < 2)
        return false;
    *ret_p = s.ptr + 1;
    *ret_end = s.ptr + s.len - 1;
    return true;
}

static bool starts_char(char c)
{
    return ((unsigned char)c & 0xc0) != 0x80;
}

hk_json_measure hk_json_string_measure(hk_json_slice s)
{
    hk_json_measure m = {0};
    const char *p, *end;
    char unit[4];
    if (!inside(s, &p, &end))
        return m;
    while (p < end) {
        size_t n = 1;
        if (*p == '\\')
            n = hk_json_unescape_step(&p, end, unit);
        else
            unit[0] = *p++;
        m.bytes += n;
        m.chars += starts_char(unit[0]);
        m.has_nul |= unit[0] == '\0';
    }
    return m;
}

size_t hk_json_unescape_to(hk_json_slice s, char *ret)
{
    const char *p, *end;
    char *to = ret, unit[4];
    if (!inside(s, &p, &end))
        return 0;
    while (p < end) {
        const char *stop = s.escaped ? memchr(p, '\\', (size_t)(end - p)) : NULL;
        size_t plain = (size_t)((stop != NULL ? stop : end) - p);
        memcpy(to, p, plain);
        to += plain;
        p += plain;
        if (p < end) {
            size_t n = hk_json_unescape_step(&p, end, unit);
            memcpy(to, unit, n);
            to += n;
        }
    }
    return (size_t)(to - ret);
}

void hk_json_unescape(hk_json_slice s, hk_buf *buf)
{
    if (s.kind != HK_JSON_STRING || s.len < 2 || !hk_buf_reserve(buf, s.len))
        return;
    buf->len += hk_json_unescape_to(s, buf->data + buf->len);
    buf->data[buf->len] = '\0'; /* in the room of the quotes */
}

bool hk_json_equals(hk_json_slice s, const char *text)
{
    const char *p, *end;
    char unit[4];
    if (!inside(s, &p, &end))
        return false;
    if (!s.escaped)
        return strncmp(p, text, (size_t)(end - p)) == 0 && text[end - p] == '\0';
    while (p < end) {
        size_t n = hk_json_unescape_step(&p, end, unit);
        if (unit[0] == '\0' || strncmp(text, unit, n) != 0)
            return false;
        text += n;
    }
    return *text == '\0';
}
