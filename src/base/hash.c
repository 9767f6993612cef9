/* hash.c: a fast in-process hash, SipHash-2-4-128 (Aumasson and Bernstein, "SipHash: a fast
 * short-input PRF", 2012) for what is stored, and random bytes. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

__extension__ typedef unsigned __int128 wide;

static uint64_t mix(uint64_t a, uint64_t b)
{
    wide m = (wide)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static uint64_t load(const unsigned char *p, size_t n)
{
    uint64_t v = 0;
    memcpy(&v, p, n);
    return v;
}

/* Folded multiplication, after the idea of wyhash (Wang Yi). */
uint64_t hk_hash(const void *data, size_t len)
{
    const unsigned char *p = data;
    uint64_t h = UINT64_C(0x9E3779B97F4A7C15) ^ len;
    size_t left = len;
    for (; left >= 8; left -= 8, p += 8)
        h = mix(h ^ load(p, 8), UINT64_C(0xA0761D6478BD642F));
    if (left)
        h = mix(h ^ load(p, left), UINT64_C(0xE7037ED1A0B428DB));
    return mix(h, UINT64_C(0x8EBC6AF09C88C6E3));
}

static uint64_t rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

static void sip_round(hk_sip *s)
{
    s->v0 += s->v1;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v3;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 += s->v3;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 += s->v1;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v2 = rotate(s->v2, 32);
}

static void sip_word(hk_sip *s, uint64_t m)
{
    s->v3 ^= m;
    sip_round(s);
    sip_round(s);
    s->v0 ^= m;
}

void hk_sip_init(hk_sip *s, const uint8_t key[16])
{
    uint64_t k0 = load(key, 8), k1 = load(key + 8, 8);
    *s = (hk_sip){.v0 = k0 ^ UINT64_C(0x736f6d6570736575),
                  .v1 = k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xEE,
                  .v2 = k0 ^ UINT64_C(0x6c7967656e657261),
                  .v3 = k1 ^ UINT64_C(0x7465646279746573)};
}

void hk_sip_add(hk_sip *s, const void *data, size_t len)
{
    const unsigned char *p = data;
    while (len && s->len % 8) {
        s->tail |= (uint64_t)*p << (8 * (s->len % 8));
        s->len++, p++, len--;
        if (s->len % 8 == 0) {
            sip_word(s, s->tail);
            s->tail = 0;
        }
    }
    for (; len >= 8; len -= 8, p += 8, s->len += 8)
        sip_word(s, load(p, 8));
    if (len) {
        s->tail = load(p, len);
        s->len += len;
    }
}

void hk_sip_end(hk_sip *s, uint8_t ret[16])
{
    sip_word(s, s->tail | (uint64_t)(s->len & 0xFF) << 56);
    s->v2 ^= 0xEE;
    for (int i = 0; i < 4; i++)
        sip_round(s);
    uint64_t a = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    s->v1 ^= 0xDD;
    for (int i = 0; i < 4; i++)
        sip_round(s);
    uint64_t b = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    memcpy(ret, &a, 8);
    memcpy(ret + 8, &b, 8);
}

uint32_t hk_share_of(const char *key, uint64_t number, uint32_t n)
{
    static const uint8_t zeroes[16] = {0};
    uint8_t place[8], sum[16];
    hk_sip s;
    if (n <= 1)
        return 0;
    for (size_t i = 0; i < sizeof place; i++)
        place[i] = (uint8_t)(number >> (8 * i));
    hk_sip_init(&s, zeroes);
    hk_sip_add(&s, key ? (const void *)key : place, key ? strlen(key) : sizeof place);
    hk_sip_end(&s, sum);
    return (uint32_t)(load(sum, 8) % n);
}

void hk_random(void *ret, size_t len)
{
    unsigned char *p = ret;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0)
            continue; /* only EINTR is possible here */
        p += n;
        len -= (size_t)n;
    }
}
