/* text.c: UTF-8 validation, names and strict numbers. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

/* Length of the sequence that starts here, 0 if it is not well-formed (RFC 3629 section 4). */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
    unsigned char a = s[0];
    if (a < 0x80)
        return 1;
    if (a < 0xC2 || a > 0xF4)
        return 0;
    size_t need = a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
    if (len < need)
        return 0;
    unsigned char low = 0x80, high = 0xBF;
    if (a == 0xE0)
        low = 0xA0;
    else if (a == 0xED)
        high = 0x9F;
    else if (a == 0xF0)
        low = 0x90;
    else if (a == 0xF4)
        high = 0x8F;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < need; i++)
        if ((s[i] & 0xC0) != 0x80)
            return 0;
    return need;
}

size_t hk_utf8_valid(const char *s, size_t len)
{
    size_t i = 0;
    while (i < len) {
        uint64_t word;
        while (len - i >= 8 && (memcpy(&word, s + i, 8), (word & 0x8080808080808080u) == 0))
            i += 8;
        if (i == len)
            break;
        size_t n = utf8_sequence((const unsigned char *)s + i, len - i);
        if (n == 0)
            break;
        i += n;
    }
    return i;
}

bool hk_name_valid(const char *s, size_t max)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-");
    return n > 0 && n <= max && s[n] == '\0';
}

char *hk_strdup(const char *s)
{
    return s ? strdup(s) : NULL;
}

void *hk_zalloc_lines(size_t size)
{
    size_t whole = (size + HK_CACHELINE - 1) / HK_CACHELINE * HK_CACHELINE;
    void *p = aligned_alloc(HK_CACHELINE, whole);
    if (p)
        memset(p, 0, whole);
    return p;
}

bool hk_parse_u64(const char *s, size_t len, uint64_t *ret)
{
    if (len == 0)
        return false;
    uint64_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s[i] - '0');
        if (n > (UINT64_MAX - digit) / 10)
            return false;
        n = n * 10 + digit;
    }
    *ret = n;
    return true;
}
