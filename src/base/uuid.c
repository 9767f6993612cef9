/* uuid.c: UUID version 7 (RFC 9562, section 5.7 with method 3 of section 6.2: the bits after the
 * milliseconds carry a finer clock), strictly increasing over all threads of a process.
 *
 * One atomic word counts 1/65536 ms since 1970. A new id takes max(clock, last + 1), so ids stay in
 * order when the clock stands still or goes back; 65 ids a microsecond keep up with the clock. */
#include "base/base.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

static _Atomic uint64_t last_tick;
static atomic_uint fork_count; /* a child must not repeat its parent's random bits */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void after_fork(void)
{
    atomic_fetch_add_explicit(&fork_count, 1, memory_order_relaxed);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, after_fork);
}

/* Random bits that need not be secret: a SplitMix64 stream a thread (Steele, Lea, Flood 2014). */
static uint64_t random_bits(void)
{
    static _Thread_local uint64_t state;
    static _Thread_local unsigned seeded; /* fork_count + 1 at the time of seeding */
    unsigned forks = atomic_load_explicit(&fork_count, memory_order_relaxed);
    if (HK_UNLIKELY(seeded != forks + 1)) {
        pthread_once(&fork_once, watch_forks);
        hk_random(&state, sizeof state);
        seeded = forks + 1;
    }
    uint64_t z = state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

static uint64_t next_tick(int64_t wall_ns)
{
    uint64_t ms = (uint64_t)wall_ns / 1000000, rest = (uint64_t)wall_ns % 1000000;
    uint64_t now =
        ms << 16 | (rest * 4294) >> 16; /* 4294 / 65536 = 65536 / 1000000, rounded down */
    uint64_t last = atomic_load_explicit(&last_tick, memory_order_relaxed), mine;
    do
        mine = now > last ? now : last + 1;
    while (!atomic_compare_exchange_weak_explicit(&last_tick, &last, mine, memory_order_relaxed,
                                                  memory_order_relaxed));
    return mine;
}

static const char hex_pairs[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                                "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
                                "404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f"
                                "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
                                "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
                                "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
                                "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
                                "e0e1e2e3e4e5e6e7e8e9eaebecedeeeff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

static char *hex(char *p, uint64_t bits, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--, p += 2)
        memcpy(p, hex_pairs + 2 * (bits >> (8 * i) & 0xFF), 2);
    return p;
}

static void format(uint64_t high, uint64_t low, char ret[HK_UUID_TEXT + 1])
{
    char *p = hex(ret, high >> 32, 4);
    *p++ = '-';
    p = hex(p, high >> 16, 2);
    *p++ = '-';
    p = hex(p, high, 2);
    *p++ = '-';
    p = hex(p, low >> 48, 2);
    *p++ = '-';
    p = hex(p, low, 6);
    *p = '\0';
}

void hk_uuid7(int64_t wall_ns, char ret[HK_UUID_TEXT + 1])
{
    uint64_t tick = next_tick(wall_ns);
    uint64_t high = (tick >> 16) << 16 | UINT64_C(0x7000) | (tick >> 4 & 0xFFF);
    uint64_t low =
        UINT64_C(2) << 62 | (tick & 0xF) << 58 | (random_bits() & ((UINT64_C(1) << 58) - 1));
    format(high, low, ret);
}

void hk_uuid8(const uint8_t bytes[16], char ret[HK_UUID_TEXT + 1])
{
    uint64_t high = 0, low = 0;
    for (int i = 0; i < 8; i++) { /* the first byte comes first in the text, on any machine */
        high = high << 8 | bytes[i];
        low = low << 8 | bytes[i + 8];
    }
    high = (high & ~UINT64_C(0xF000)) | UINT64_C(0x8000);
    low = (low & ~(UINT64_C(3) << 62)) | UINT64_C(2) << 62;
    format(high, low, ret);
}
