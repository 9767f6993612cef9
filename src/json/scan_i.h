/* Byte-level tools of the slicer: white space, runs of plain string bytes, UTF-8 and escapes.
 * Header only, because these are its inner loops. */
#ifndef HK_JSON_SCAN_I_H
#define HK_JSON_SCAN_I_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define HK_JSON_EACH UINT64_C(0x0101010101010101)

static inline const char *hk_json_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

static inline bool hk_json_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline const char *hk_json_digits(const char *p, const char *end)
{
    while (p < end && hk_json_digit(*p))
        p++;
    return p;
}

/* The high bit of each byte that ends a run of plain string bytes: quote, backslash, control or
 * beyond ASCII. Subtractions borrow upwards only, so the lowest mark is always a true one. */
static inline uint64_t hk_json_marks(uint64_t word)
{
    uint64_t quote = word ^ (HK_JSON_EACH * '"');
    uint64_t slash = word ^ (HK_JSON_EACH * '\\');
    uint64_t low = (word - HK_JSON_EACH * 0x20) | (quote - HK_JSON_EACH) | (slash - HK_JSON_EACH);
    return (low | word) & (HK_JSON_EACH * 0x80);
}

static inline bool hk_json_plain_byte(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

/* First byte from p on that is not plain, eight at a time. */
static inline const char *hk_json_plain(const char *p, const char *end)
{
    while (end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        uint64_t marks = hk_json_marks(word);
        if (marks != 0) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
            return p + (__builtin_ctzll(marks) >> 3);
#else
            break;
#endif
        }
        p += 8;
    }
    while (p < end && hk_json_plain_byte(*p))
        p++;
    return p;
}

static inline bool hk_json_between(char c, unsigned lo, unsigned hi)
{
    return (unsigned char)c >= lo && (unsigned char)c <= hi;
}

/* Length of the UTF-8 sequence beyond ASCII at p (RFC 3629), 0 if it is none. */
static inline size_t hk_json_utf8(const char *p, size_t left)
{
    unsigned c = (unsigned char)*p;
    if (c < 0xc2 || c > 0xf4 || left < 2)
        return 0;
    if (c < 0xe0)
        return hk_json_between(p[1], 0x80, 0xbf) ? 2 : 0;
    if (left < 3 || !hk_json_between(p[2], 0x80, 0xbf))
        return 0;
    if (c < 0xf0)
        return hk_json_between(p[1], c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf) ? 3 : 0;
    if (left < 4 || !hk_json_between(p[3], 0x80, 0xbf))
        return 0;
    return hk_json_between(p[1], c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf) ? 4 : 0;
}

static inline int hk_json_hex(char c)
{
    if (hk_json_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* The four hex digits at p, or -1. */
static inline int hk_json_hex4(const char *p, const char *end)
{
    int value = 0;
    if (end - p < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hk_json_hex(p[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

/* One step through the inside of a checked string: unescapes what is at *p (or copies one byte)
 * into `ret` and moves on; returns the bytes made, 1 to 4. */
size_t hk_json_unescape_step(const char **p, const char *end, char ret[4]);

#endif
