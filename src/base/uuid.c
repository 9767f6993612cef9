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

/* Eight hexadecimal digits at once: a nibble into each byte, then to '0'..'9' and 'a'..'f'. */
static void hex8(char *p, uint32_t bits)
{
    uint64_t x = bits;
    x = (x << 16 | x) & UINT64_C(0x0000FFFF0000FFFF);
    x = (x << 8 | x) & UINT64_C(0x00FF00FF00FF00FF);
    x = (x << 4 | x) & UINT64_C(0x0F0F0F0F0F0F0F0F);
    uint64_t letters = ((x + UINT64_C(0x0606060606060606)) >> 4) & UINT64_C(0x0101010101010101);
    x += UINT64_C(0x3030303030303030) + letters * ('a' - '0' - 10);
    if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        x = __builtin_bswap64(x);
    memcpy(p, &x, 8);
}

static void format(uint64_t high, uint64_t low, char ret[HK_UUID_TEXT + 1])
{
    char digits[32];
    hex8(digits, (uint32_t)(high >> 32));
    hex8(digits + 8, (uint32_t)high);
    hex8(digits + 16, (uint32_t)(low >> 32));
    hex8(digits + 24, (uint32_t)low);
    memcpy(ret, digits, 8);
    ret[8] = '-';
    memcpy(ret + 9, digits + 8, 4);
    ret[13] = '-';
    memcpy(ret + 14, digits + 12, 4);
    ret[18] = '-';
    memcpy(ret + 19, digits + 16, 4);
    ret[23] = '-';
    memcpy(ret + 24, digits + 20, 12);
    ret[36] = '\0';
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
