/* base64.c: base64 as RFC 4648 section 4 has it, with padding. Strict when it reads: no white
 * space, no other alphabet, and no bits set that stand for nothing, so that bytes have one text. */
#include "base/base.h"

void hk_buf_add_base64(hk_buf *b, const void *data, size_t len)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = data;
    if (len / 3 > SIZE_MAX / 8 || !hk_buf_reserve(b, len / 3 * 4 + 5)) {
        b->failed = true;
        return;
    }
    char *to = b->data + b->len;
    for (; len >= 3; len -= 3, p += 3) {
        *to++ = digits[p[0] >> 2];
        *to++ = digits[(p[0] & 3) << 4 | p[1] >> 4];
        *to++ = digits[(p[1] & 15) << 2 | p[2] >> 6];
        *to++ = digits[p[2] & 63];
    }
    if (len) {
        unsigned second = len == 2 ? p[1] : 0;
        *to++ = digits[p[0] >> 2];
        *to++ = digits[(p[0] & 3u) << 4 | second >> 4];
        *to++ = len == 2 ? digits[(second & 15) << 2] : '=';
        *to++ = '=';
    }
    *to = '\0';
    b->len = (size_t)(to - b->data);
}

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

size_t hk_base64_decode(const char *s, size_t len, void *ret, size_t *ret_len)
{
    size_t pad = len >= 1 && s[len - 1] == '=' ? len >= 2 && s[len - 2] == '=' ? 2 : 1 : 0;
    unsigned bits = 0;
    unsigned char *to = ret;
    for (size_t i = 0; i < len - pad; i++) {
        int digit = digit_of(s[i]);
        if (digit < 0)
            return i;
        bits = bits << 6 | (unsigned)digit;
        if (i % 4 != 0)
            *to++ = (unsigned char)(bits >> (6 - 2 * (i % 4)) & 0xFF);
    }
    unsigned unused = pad == 2 ? bits & 15 : pad == 1 ? bits & 3 : 0;
    if (len % 4 != 0 || unused)
        return len - pad - (len > pad); /* of the last digit: it is cut off or says too much */
    *ret_len = (size_t)(to - (unsigned char *)ret);
    return len;
}
