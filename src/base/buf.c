/* buf.c: growable byte buffers. A failed allocation is remembered, so that a chain of appends needs
 * one check at its end. */
#include "base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool hk_buf_reserve(hk_buf *b, size_t more)
{
    if (b->failed)
        return false;
    if (more > SIZE_MAX / 2 - b->len - 1) {
        b->failed = true;
        return false;
    }
    size_t need = b->len + more + 1;
    if (need <= b->cap)
        return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < need)
        cap *= 2;
    char *data = realloc(b->data, cap);
    if (!data) {
        b->failed = true;
        return false;
    }
    b->data = data;
    b->cap = cap;
    b->data[b->len] = '\0';
    return true;
}

void hk_buf_add(hk_buf *b, const void *data, size_t len)
{
    if (!hk_buf_reserve(b, len) || len == 0)
        return;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
}

void hk_buf_adds(hk_buf *b, const char *s)
{
    hk_buf_add(b, s, strlen(s));
}

void hk_buf_addc(hk_buf *b, char c)
{
    hk_buf_add(b, &c, 1);
}

void hk_buf_addf(hk_buf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        b->failed = true;
    else if (hk_buf_reserve(b, (size_t)n)) {
        (void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
}

static bool json_plain(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7F;
}

void hk_buf_add_json_string(hk_buf *b, const char *s, size_t len)
{
    hk_buf_addc(b, '"');
    for (size_t i = 0; i < len;) {
        size_t run = i;
        while (run < len && json_plain((unsigned char)s[run]))
            run++;
        hk_buf_add(b, s + i, run - i);
        i = run;
        if (i == len)
            break;
        char c = s[i++];
        switch (c) {
        case '"':
            hk_buf_add(b, "\\\"", 2);
            break;
        case '\\':
            hk_buf_add(b, "\\\\", 2);
            break;
        case '\n':
            hk_buf_add(b, "\\n", 2);
            break;
        case '\r':
            hk_buf_add(b, "\\r", 2);
            break;
        case '\t':
            hk_buf_add(b, "\\t", 2);
            break;
        default:
            hk_buf_addf(b, "\\u%04x", (unsigned)(unsigned char)c);
            break;
        }
    }
    hk_buf_addc(b, '"');
}

char *hk_buf_steal(hk_buf *b, size_t *len)
{
    if (!hk_buf_reserve(b, 0)) {
        hk_buf_free(b);
        return NULL;
    }
    char *data = b->data;
    if (len)
        *len = b->len;
    *b = (hk_buf){0};
    return data;
}

void hk_buf_clear(hk_buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->data)
        b->data[0] = '\0';
}

void hk_buf_free(hk_buf *b)
{
    free(b->data);
    *b = (hk_buf){0};
}

void *hk_array_room(void *list, size_t n, size_t *cap, size_t first, size_t item)
{
    if (n < *cap)
        return list;
    size_t more = *cap ? *cap * 2 : first;
    void *room = realloc(list, more * item);
    if (room)
        *cap = more;
    return room;
}
