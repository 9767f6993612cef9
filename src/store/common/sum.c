/* The check sum of a row: what SQLite itself does not notice, a bit that flipped on the disk, must
 * never reach a handler. It covers every part of the event and its place, and is laid down in
 * docs/format-sqlite.md: the folded 128-bit product h = lo ^ hi of (a ^ K0) and (b ^ h), over 16
 * bytes at a time. It costs about 5 % of reading a row. */
#include "store/common/common.h"

#include <endian.h>
#include <string.h>

#define K0 UINT64_C(0x9e3779b97f4a7c15)
#define K1 UINT64_C(0xbf58476d1ce4e5b9)

__extension__ typedef unsigned __int128 product;

static inline uint64_t mix(uint64_t h, uint64_t a, uint64_t b)
{
    product p = (product)(a ^ K0) * (b ^ h);
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static inline uint64_t word(const char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return le64toh(w);
}

static inline uint64_t half_word(const char *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return le32toh(w);
}

/* The last 1 to 16 bytes, read as two words that may overlap. */
static inline uint64_t mix_tail(uint64_t h, const char *p, size_t len)
{
    if (len >= 8)
        return mix(h, word(p), word(p + len - 8));
    if (len >= 4)
        return mix(h, half_word(p), half_word(p + len - 4));
    return mix(h, (uint8_t)p[0], (uint64_t)(uint8_t)p[len / 2] << 8 | (uint8_t)p[len - 1]);
}

/* Two chains side by side keep the multiplier busy. */
static inline uint64_t mix_text(uint64_t h, const struct hk_text *t)
{
    const char *p = t->s;
    size_t len = t->len;
    h = mix(h, (uint64_t)len, K1);
    if (len > 32) {
        uint64_t g = h ^ K1;
        for (; len > 32; p += 32, len -= 32) {
            h = mix(h, word(p), word(p + 8));
            g = mix(g, word(p + 16), word(p + 24));
        }
        h = mix(h, g, K1);
    }
    if (len > 16) {
        h = mix(h, word(p), word(p + 8));
        p += 16;
        len -= 16;
    }
    return len ? mix_tail(h, p, len) : h;
}

int64_t hk_row_sum(const hk_row *r)
{
    uint64_t present = 0;
    for (size_t i = 0; i < HK_ROW_TEXTS; i++)
        present |= (uint64_t)(r->text[i].s != NULL) << i;
    uint64_t h = mix(K1, r->seq, (uint64_t)r->recorded);
    h = mix(h, (uint64_t)r->time, (uint64_t)r->dataversion);
    h = mix(h, (uint64_t)r->subject_version, present);
    for (size_t i = 0; i < HK_ROW_TEXTS; i++)
        if (r->text[i].s)
            h = mix_text(h, &r->text[i]);
    return (int64_t)h;
}
