/* base: the ground under everything, without a word of the domain. Buffers, hashing, clock, UUIDs,
 * recycled memory, refcounts, a single-producer ring, sleeping and waking, thread roles, logging.
 * Atomics live only here (STYLE section 4). May use libc only. */
#ifndef HK_BASE_H
#define HK_BASE_H

#include <hark/error.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HK_LIKELY(x)   __builtin_expect(!!(x), 1)
#define HK_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define HK_CACHELINE   64
#define HK_COUNTOF(a)  (sizeof(a) / sizeof((a)[0]))

/* ---- errors -------------------------------------------------------------------------------- */

/* So that callers write `return hk_fail(ei, ...)`. */
#define hk_fail hark_errinfo_set

/* Puts "prefix: " before the text that is there; truncates at the end, never overflows. */
hark_err hk_wrap(hark_errinfo *ei, hark_err err, const char *fmt, ...) HARK_PRINTF(3, 4);

/* What to tell of a failure: the text that was given, or of the error when none was. */
const char *hk_err_says(hark_err err, const hark_errinfo *ei);

/* Checks an options struct against what this library knows: `opts` NULL is fine; size 0 or a
 * non-zero unknown tail is HARK_EINVAL. Copies what was given into `ret` (zeroed first). */
hark_err hk_opts_take(const void *opts, void *ret, size_t known, const char *name,
                      hark_errinfo *ei);

/* ---- buffers: growable bytes, always NUL-terminated once non-empty ------------------------- */

typedef struct hk_buf {
    char *data;
    size_t len;
    size_t cap;
    bool failed; /* an allocation failed; later appends do nothing, check once at the end */
} hk_buf;

bool hk_buf_reserve(hk_buf *b, size_t more);
void hk_buf_add(hk_buf *b, const void *data, size_t len);
void hk_buf_adds(hk_buf *b, const char *s);
void hk_buf_addc(hk_buf *b, char c);
void hk_buf_addf(hk_buf *b, const char *fmt, ...) HARK_PRINTF(2, 3);
void hk_buf_add_json_string(hk_buf *b, const char *s, size_t len); /* quotes and escapes */
char *hk_buf_steal(hk_buf *b, size_t *len);                        /* NULL if failed */
void hk_buf_clear(hk_buf *b);                                      /* keeps the memory */
void hk_buf_free(hk_buf *b);

/* An array with room for one more item than `n`, which may have moved: at first `cap` (0) becomes
 * `first`, then it doubles. NULL: no memory, and the array is as it was. */
void *hk_array_room(void *list, size_t n, size_t *cap, size_t first, size_t item);

/* ---- strings ------------------------------------------------------------------------------- */

/* Length of valid UTF-8 prefix; equals len when the whole is valid (RFC 3629). */
size_t hk_utf8_valid(const char *s, size_t len);
char *hk_strdup(const char *s); /* NULL stays NULL */
/* Zeroed memory on cache lines of its own, for structs with aligned members; free() it. */
void *hk_zalloc_lines(size_t size);
/* A name: 1 to `max` of letters, digits, '_', '.', ':', '-'. */
bool hk_name_valid(const char *s, size_t max);
/* Strict decimal: digits only, no sign, no overflow. */
bool hk_parse_u64(const char *s, size_t len, uint64_t *ret);

/* ---- base64 (RFC 4648 section 4, with padding) ----------------------------------------------- */

void hk_buf_add_base64(hk_buf *b, const void *data, size_t len);
/* Strict: no white space, no bits that stand for nothing. `ret` has room for len / 4 * 3 + 2 bytes
 * and may be `s` itself. Returns the place of the fault; `len` when there is none, and only then is
 * *ret_len set. */
size_t hk_base64_decode(const char *s, size_t len, void *ret, size_t *ret_len);

/* ---- hashing ------------------------------------------------------------------------------- */

/* Fast, unkeyed, in-process only; never stored. */
uint64_t hk_hash(const void *data, size_t len);
/* SipHash-2-4 with 128-bit output (Aumasson and Bernstein, 2012); may be stored. */
typedef struct hk_sip {
    uint64_t v0, v1, v2, v3;
    uint64_t tail;
    size_t len;
} hk_sip;
void hk_sip_init(hk_sip *s, const uint8_t key[16]);
void hk_sip_add(hk_sip *s, const void *data, size_t len);
void hk_sip_end(hk_sip *s, uint8_t ret[16]);
/* Which of n parts a key belongs to, or, when it is NULL, a number: hark_store_share_of. */
uint32_t hk_share_of(const char *key, uint64_t number, uint32_t n);
/* Random bytes from the kernel. */
void hk_random(void *ret, size_t len);

/* ---- clock --------------------------------------------------------------------------------- */

int64_t hk_wall_ns(void); /* CLOCK_REALTIME */
int64_t hk_mono_ns(void); /* CLOCK_MONOTONIC */
/* Milliseconds in ns; what does not fit, or is far beyond any use, is 100 years. */
static inline int64_t hk_ms_to_ns(int64_t ms)
{
    const int64_t most = INT64_C(100) * 365 * 86400 * 1000;
    return (ms > most ? most : ms) * 1000000;
}
/* The earlier of two times or waits; -1 = never. */
static inline int64_t hk_sooner(int64_t a, int64_t b)
{
    return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}
static inline int64_t hk_mono_ms(void)
{
    return hk_mono_ns() / 1000000;
}
#define HK_RFC3339_MAX 36
/* "2026-11-23T06:00:57.123456789Z" with `digits` fraction digits (0, 3, 6, 9); returns length. */
size_t hk_rfc3339_format(int64_t wall_ns, int digits, char ret[HK_RFC3339_MAX]);
/* Strict RFC 3339; leap second 60 accepted as the next second; years 1678 to 2261. What is finer
 * than a nanosecond is cut. */
bool hk_rfc3339_parse(const char *s, size_t len, int64_t *ret_wall_ns);
typedef enum hk_time_fault {
    HK_TIME_OK = 0,
    HK_TIME_SYNTAX, /* no time of RFC 3339, or a second 60 that does not end a day in UTC */
    HK_TIME_FINE,   /* more than nine fraction digits */
    HK_TIME_RANGE   /* 64 bits of nanoseconds do not hold it */
} hk_time_fault;
/* The same for all times that 64 bits hold, and without cutting; sets *ret_wall_ns when it is
 * OK. */
hk_time_fault hk_rfc3339_parse_exact(const char *s, size_t len, int64_t *ret_wall_ns);

/* ---- UUID version 7 (RFC 9562 section 5.7, method 3), monotonic in a process ---------------- */

#define HK_UUID_TEXT 36
void hk_uuid7(int64_t wall_ns, char ret[HK_UUID_TEXT + 1]);
/* Version 8 from 16 bytes that the caller derived. */
void hk_uuid8(const uint8_t bytes[16], char ret[HK_UUID_TEXT + 1]);

/* ---- slabs: recycled blocks of size classes, fast per thread -------------------------------- */

/* A block of at least `size` bytes (up to HK_SLAB_MAX), 16-aligned, freed on any thread; NULL when
 * it is larger or memory is out. Blocks are recycled and never unmapped. They are all of one kind:
 * they begin with an hk_ref that is 0 while the block is free, so that hk_ref_try on a pointer that
 * may be stale is safe (event rings rely on it). */
#define HK_SLAB_MAX 65536
void *hk_slab_alloc(size_t size);
void hk_slab_free(void *block);
/* Live blocks over all threads; exact only while no thread allocates. For leak tests. */
size_t hk_slab_live(void);

/* ---- refcounts ----------------------------------------------------------------------------- */

typedef struct hk_ref {
    atomic_uint n;
} hk_ref;
static inline void hk_ref_init(hk_ref *r, unsigned n)
{
    /* release: whoever tries a stale pointer must also see that it was taken out of its slot */
    atomic_store_explicit(&r->n, n, memory_order_release);
}
static inline void hk_ref_get(hk_ref *r, unsigned n)
{
    atomic_fetch_add_explicit(&r->n, n, memory_order_relaxed);
}
/* True when this was the last reference. (No short cut for a sole owner: hk_ref_try may come in
 * between.) */
static inline bool hk_ref_put(hk_ref *r)
{
    return atomic_fetch_sub_explicit(&r->n, 1, memory_order_acq_rel) == 1;
}
/* Takes a reference only if there still is one; for pointers read from shared slots. */
static inline bool hk_ref_try(hk_ref *r)
{
    unsigned n = atomic_load_explicit(&r->n, memory_order_relaxed);
    while (n != 0)
        if (atomic_compare_exchange_weak_explicit(&r->n, &n, n + 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
    return false;
}

/* ---- words shared between threads ------------------------------------------------------------ */

/* A statistic: any thread adds (hk_count_add), or one only (hk_count_bump, cheaper). */
typedef struct hk_count {
    _Atomic uint64_t n;
} hk_count;
static inline uint64_t hk_count_get(hk_count *c)
{
    return atomic_load_explicit(&c->n, memory_order_relaxed);
}
static inline void hk_count_bump(hk_count *c, uint64_t by)
{
    atomic_store_explicit(&c->n, hk_count_get(c) + by, memory_order_relaxed);
}
static inline void hk_count_set(hk_count *c, uint64_t n) /* by the one who bumps it */
{
    atomic_store_explicit(&c->n, n, memory_order_relaxed);
}
static inline uint64_t hk_count_add(hk_count *c, uint64_t by)
{
    return atomic_fetch_add_explicit(&c->n, by, memory_order_relaxed) + by;
}
static inline uint64_t hk_count_sub(hk_count *c, uint64_t by)
{
    return atomic_fetch_sub_explicit(&c->n, by, memory_order_relaxed) - by;
}

/* A position or state that one thread publishes and others read: what was written before
 * hk_mark_set is seen after hk_mark_get. hk_mark_claim hands out positions to many threads. The
 * _strong ones take part in one total order: for "I announce, then look at what you announced" on
 * both sides. */
typedef struct hk_mark {
    _Atomic uint64_t v;
} hk_mark;
static inline uint64_t hk_mark_get(hk_mark *m)
{
    return atomic_load_explicit(&m->v, memory_order_acquire);
}
static inline void hk_mark_set(hk_mark *m, uint64_t v)
{
    atomic_store_explicit(&m->v, v, memory_order_release);
}
static inline uint64_t hk_mark_get_strong(hk_mark *m)
{
    return atomic_load_explicit(&m->v, memory_order_seq_cst);
}
static inline void hk_mark_set_strong(hk_mark *m, uint64_t v)
{
    (void)atomic_exchange_explicit(&m->v, v, memory_order_seq_cst);
}
static inline uint64_t hk_mark_claim(hk_mark *m, uint64_t n) /* returns the first of n claimed */
{
    return atomic_fetch_add_explicit(&m->v, n, memory_order_seq_cst) + 1;
}
/* Likewise, for a loop: *seen is what was expected, and what was there when it fails. */
static inline bool hk_mark_move_seen(hk_mark *m, uint64_t *seen, uint64_t to)
{
    return atomic_compare_exchange_weak_explicit(&m->v, seen, to, memory_order_seq_cst,
                                                 memory_order_acquire);
}
/* Set or clear bits; return what was there. */
static inline uint64_t hk_mark_raise(hk_mark *m, uint64_t bits)
{
    return atomic_fetch_or_explicit(&m->v, bits, memory_order_seq_cst);
}
static inline uint64_t hk_mark_clear(hk_mark *m, uint64_t bits)
{
    return atomic_fetch_and_explicit(&m->v, ~bits, memory_order_seq_cst);
}
/* Adds, or takes away, and returns what there is then: a full hand-over in both directions. */
static inline uint64_t hk_mark_add(hk_mark *m, int64_t n)
{
    return atomic_fetch_add_explicit(&m->v, (uint64_t)n, memory_order_seq_cst) + (uint64_t)n;
}
/* Sets and returns what was there: a full hand-over in both directions. Two threads that announce
 * something and then look at the other's announcement both do it through swaps of one mark. */
static inline uint64_t hk_mark_swap(hk_mark *m, uint64_t v)
{
    return atomic_exchange_explicit(&m->v, v, memory_order_seq_cst);
}
/* The value, with the same force as a swap. */
static inline uint64_t hk_mark_look(hk_mark *m)
{
    return atomic_fetch_add_explicit(&m->v, 0, memory_order_seq_cst);
}
/* Changes `from` into `to`; true for the one who did it. */
static inline bool hk_mark_move(hk_mark *m, uint64_t from, uint64_t to)
{
    return atomic_compare_exchange_strong_explicit(&m->v, &from, to, memory_order_seq_cst,
                                                   memory_order_seq_cst);
}

/* A word of memory that outlives the process (a mapped file): it is written after all that comes
 * before it and before all that comes after it, as whoever looks when the writer is dead sees it. */
static inline void hk_word_set(uint32_t *word, uint32_t v)
{
    __atomic_store_n(word, v, __ATOMIC_RELEASE);
    atomic_signal_fence(memory_order_seq_cst);
}

/* ---- figures: written by one thread at a time, read by any ----------------------------------- */

/* A histogram of durations: 16 buckets to each power of two, from 1 ns to 2^42 ns (73 min). */
enum { HK_HIST_BUCKETS = 16 * 40 };
typedef struct hk_hist {
    hk_count n[HK_HIST_BUCKETS];
    hk_count sum, max;
} hk_hist;
typedef struct hk_quantiles {
    uint64_t count;
    int64_t p50, p90, p99, p999, max, mean; /* ns; quantiles are upper bounds of their buckets */
} hk_quantiles;
void hk_hist_add(hk_hist *h, int64_t ns);
void hk_hist_read(hk_hist *h, hk_quantiles *ret);

/* Events a second over the last ten full seconds. `now_ns` is any clock, the same for both. */
enum { HK_RATE_SECONDS = 16 };
typedef struct hk_rate {
    hk_count second[HK_RATE_SECONDS]; /* which one a place stands for */
    hk_count n[HK_RATE_SECONDS];
} hk_rate;
void hk_rate_turn(hk_rate *r, uint64_t second); /* a place begins to stand for this one */
static inline uint64_t hk_rate_second(int64_t now_ns)
{
    return now_ns > 0 ? (uint64_t)now_ns / 1000000000u : 0;
}
static inline void hk_rate_add(hk_rate *r, int64_t now_ns, uint64_t n)
{
    uint64_t second = hk_rate_second(now_ns);
    size_t place = second % HK_RATE_SECONDS;
    if (HK_UNLIKELY(hk_count_get(&r->second[place]) != second))
        hk_rate_turn(r, second);
    hk_count_bump(&r->n[place], n);
}
double hk_rate_read(hk_rate *r, int64_t now_ns);

/* ---- sleeping and waking (futex) ------------------------------------------------------------ */

/* A one-shot or repeated gate: waiters sleep until the word differs from what they saw. */
typedef struct hk_gate {
    atomic_uint word;
} hk_gate;
#define HK_GATE_SLEEPER 1u /* bit of the word: somebody sleeps, or is about to */
void hk_gate_init(hk_gate *g);
static inline unsigned hk_gate_look(hk_gate *g)
{
    return atomic_load_explicit(&g->word, memory_order_acquire) & ~HK_GATE_SLEEPER;
}
/* Sleeps while the word equals `seen`; timeout_ns -1 = for ever. False on timeout. */
bool hk_gate_wait(hk_gate *g, unsigned seen, int64_t timeout_ns);
/* Changes the word and wakes everybody who sleeps; no system call when nobody does. Does not touch
 * the gate after that, so it may lie on the stack of a waiter that then returns. */
void hk_gate_open(hk_gate *g);

/* A bell: ringing while nobody sleeps is one plain load. The price is the sleeper's, who makes every
 * thread of the process pass a barrier (membarrier(2)) before it looks a last time:
 *     ringer:  publish something; hk_bell_ring
 *     sleeper: hk_bell_lie_down; look whether something is there; hk_bell_sleep; hk_bell_get_up */
typedef struct hk_bell {
    hk_mark asleep; /* how many are, or are about to be */
    hk_gate gate;
} hk_bell;
extern bool hk_bell_needs_fence; /* no membarrier on this kernel; set by the first hk_bell_init */
void hk_bell_init(hk_bell *b);
static inline void hk_bell_ring(hk_bell *b)
{
    if (HK_UNLIKELY(hk_bell_needs_fence))
        (void)hk_mark_look(&b->asleep);
    atomic_signal_fence(memory_order_seq_cst);
    if (HK_UNLIKELY(atomic_load_explicit(&b->asleep.v, memory_order_relaxed)))
        hk_gate_open(&b->gate);
}
void hk_bell_wake(hk_bell *b); /* wakes a sleeper whatever; for what is rare */
unsigned hk_bell_lie_down(hk_bell *b);
void hk_bell_sleep(hk_bell *b, unsigned seen, int64_t timeout_ns);
void hk_bell_get_up(hk_bell *b);
/* About a microsecond's pause inside a loop that watches for something. */
void hk_pause(void);

/* An inbox: nodes from many senders to one receiver. */
typedef struct hk_node {
    struct hk_node *next;
} hk_node;
typedef struct hk_inbox {
    hk_node *_Atomic top;
    hk_gate gate;
} hk_inbox;
void hk_inbox_init(hk_inbox *b);
void hk_inbox_push(hk_inbox *b, hk_node *n);         /* wakes a receiver that sleeps */
hk_node *hk_inbox_take(hk_inbox *b);                 /* all, oldest first; NULL when empty */
void hk_inbox_wait(hk_inbox *b, int64_t timeout_ns); /* until not empty, woken or timed out */
void hk_inbox_wake(hk_inbox *b);

/* A condition variable on the monotonic clock. */
void hk_cond_init(pthread_cond_t *c);
/* Waits at most timeout_ns (-1 = for ever); false on timeout. */
bool hk_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t timeout_ns);

/* ---- a ring of pointers: one producer, one consumer ------------------------------------------ */

/* The producer may also drop the oldest entry (hk_ring_drop_oldest), therefore the consumer claims
 * a batch by compare-and-swap after it has copied it. */
typedef struct hk_ring hk_ring;
hk_ring *hk_ring_new(size_t capacity); /* rounded up to a power of two */
void hk_ring_free(hk_ring *r);
size_t hk_ring_capacity(const hk_ring *r);
size_t hk_ring_count(const hk_ring *r);  /* exact for the producer or the consumer at rest */
bool hk_ring_push(hk_ring *r, void *p);  /* false when full */
bool hk_ring_over(hk_ring *r, size_t n); /* producer side: does it hold more than n? */
void *hk_ring_drop_oldest(hk_ring *r);   /* producer side; NULL when empty */
/* Takes up to `max`, sometimes fewer than there are, 0 only when empty. */
size_t hk_ring_pop(hk_ring *r, void **ret, size_t max);

/* ---- a ring of refcounted slab objects by sequence: the newest N ----------------------------- */

/* A position is written by one thread at a time and read by any; a reader gets a reference or NULL,
 * never a wrong object. `drop` releases one reference. */
typedef struct hk_seqring hk_seqring;
hk_seqring *hk_seqring_new(size_t capacity, void (*drop)(hk_ref *object)); /* to a power of two */
void hk_seqring_free(hk_seqring *r); /* drops what it holds; NULL is fine */
size_t hk_seqring_capacity(const hk_seqring *r);
/* Takes over one reference; drops what the slot held. */
void hk_seqring_put(hk_seqring *r, uint64_t seq, hk_ref *object);
bool hk_seqring_has(hk_seqring *r, uint64_t seq); /* is this very position filled? */
/* Borrowed; only for a thread that knows that the position is filled and stays so. */
hk_ref *hk_seqring_peek(hk_seqring *r, uint64_t seq);
/* A reference, or NULL when the position was overwritten, evicted or not written yet. */
hk_ref *hk_seqring_get(hk_seqring *r, uint64_t seq);
void hk_seqring_evict(hk_seqring *r, uint64_t seq); /* empties a position */

/* ---- thread roles ---------------------------------------------------------------------------- */

typedef enum hk_role {
    HK_ROLE_USER = 0, /* may block */
    HK_ROLE_WORKER,   /* of an HTTP app: runs blocking routes; may block, but not stop the app */
    HK_ROLE_HANDLER,  /* runs a subscription's handler: may publish and block on a receipt */
    HK_ROLE_LOOP,     /* an HTTP or other event loop: must not block */
    HK_ROLE_WRITER,   /* the log's writer: must not block on itself */
    HK_ROLE_CLOSURE   /* inside a transaction closure */
} hk_role;
hk_role hk_role_get(void);
hk_role hk_role_set(hk_role role); /* returns the previous one */
static inline bool hk_role_may_block(void)
{
    hk_role r = hk_role_get();
    return r == HK_ROLE_USER || r == HK_ROLE_WORKER || r == HK_ROLE_HANDLER;
}

/* Starts a named thread with signals blocked (so that they reach the main thread). */
hark_err hk_thread_start(pthread_t *ret, const char *name, void *(*fn)(void *), void *arg);

/* ---- the process ------------------------------------------------------------------------------ */

extern hk_count hk_buses;     /* open in this process */
extern hk_mark hk_supervisor; /* pid of the hark_supervise that this is a child of; 0 = none */
size_t hk_thread_count(void); /* of this process; 0 = the system does not tell */
const char *hk_signal_name(int sig); /* "SIGSEGV"; "signal" for one without a name */

/* ---- listening sockets ----------------------------------------------------------------------- */

enum { HK_INHERITED_MAX = 64 };
/* Binds "HOST:PORT" and listens; the descriptor is close-on-exec and non-blocking. */
hark_err hk_listen_bind(const char *address, int backlog, int *ret_fd, hark_errinfo *ei);
/* A listening socket for this address that the process was handed: by systemd (LISTEN_PID,
 * LISTEN_FDS), or by hark_supervise. Each is given out once, close-on-exec and non-blocking; -1 =
 * there is none. Port 0 takes the first one with that host. */
hark_err hk_listen_inherited(const char *address, int *ret_fd, hark_errinfo *ei);
/* All that nobody has taken yet; they count as taken then. Returns how many. */
size_t hk_listen_rest(int *ret_fds, size_t max);
/* Hands sockets over to this process, which was forked for it. When they lie at descriptors from 3
 * on, the environment tells other libraries, too. */
hark_err hk_listen_give(const int *fds, size_t n);
/* Moves sockets to the descriptors from 3 on, if all of these are free or among them. */
void hk_listen_arrange(int *fds, size_t n);
int hk_listen_port(int fd); /* 0 = it has none */

/* ---- logging --------------------------------------------------------------------------------- */

typedef enum hk_level { HK_DEBUG, HK_INFO, HK_WARN, HK_ERROR } hk_level;
/* One line on stderr, "2026-… WARN text"; the level below which nothing is written comes from
 * HARK_LOG (debug, info, warn, error, off; default warn). */
void hk_log(hk_level level, const char *fmt, ...) HARK_PRINTF(2, 3);

#endif
