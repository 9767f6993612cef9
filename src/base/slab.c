/* slab.c: recycled memory for objects that are made on one thread and dropped on another.
 *
 * Each thread keeps a stock of free blocks for each size class. A stock that runs full gives half
 * of it to the depot as one magazine; one that runs empty takes a magazine from there, so threads
 * meet at a lock once in MAGAZINE blocks. Magazines are arrays of pointers: moving free blocks does
 * not touch their memory. Chunks are never given back (see hk_slab_alloc in base.h); the idea is
 * Bonwick and Adams's, "Magazines and Vmem", 2001. */
#include "base/base.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(p, n)   __asan_poison_memory_region(p, n)
#define UNPOISON(p, n) __asan_unpoison_memory_region(p, n)
#else
#define POISON(p, n)   ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

enum { MAGAZINE = 64, STOCK = 2 * MAGAZINE, CLASSES = 40, KEPT_OPEN = 64 };

typedef struct header {
    uint32_t class;
    uint32_t magic;
    uint64_t size; /* of the block without this header */
} header;

#define MAGIC 0x4B52414Bu

typedef struct magazine {
    struct magazine *next;
    size_t n;
    void *blocks[MAGAZINE];
} magazine;

typedef struct depot {
    pthread_mutex_t lock;
    magazine *full;
    magazine *empty;
} depot;

typedef struct stock {
    size_t n;
    void *blocks[STOCK];
} stock;

typedef struct cache {
    struct cache *next, **link; /* all caches, under caches_lock */
    _Atomic int64_t live;       /* taken minus freed by this thread; written by it alone */
    stock stocks[CLASSES];
} cache;

static depot depots[CLASSES];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static pthread_mutex_t caches_lock = PTHREAD_MUTEX_INITIALIZER;
static cache *caches;
static int64_t live_retired; /* of threads that ended */
static void **chunks; /* a list of all chunks, so that they stay reachable for leak checkers */
static _Thread_local cache *mine;

/* 16 classes of 64 bytes each up to 1 KiB, then four a doubling. */
static size_t class_of(size_t size)
{
    if (size <= 1024)
        return size ? (size - 1) / 64 : 0;
    unsigned bits = 63 - (unsigned)__builtin_clzll(size - 1); /* 2^bits < size <= 2^(bits+1) */
    size_t quarter = ((size - 1) >> (bits - 2)) & 3;
    return 16 + (bits - 10) * 4 + quarter;
}

static size_t size_of(size_t class)
{
    if (class < 16)
        return (class + 1) * 64;
    size_t base = (size_t)1024 << (class - 16) / 4;
    return base + base / 4 * ((class - 16) % 4 + 1);
}

static void put_magazine(magazine **list, magazine *m)
{
    m->next = *list;
    *list = m;
}

static magazine *take_magazine(magazine **list)
{
    magazine *m = *list;
    if (m)
        *list = m->next;
    return m;
}

/* Moves the n newest blocks of a stock to the depot. Without memory for a magazine the blocks are
 * lost to recycling, not to safety; that takes an allocator with not even 500 bytes left. */
static void give(size_t class, stock *s, size_t n)
{
    depot *d = &depots[class];
    pthread_mutex_lock(&d->lock);
    magazine *m = take_magazine(&d->empty);
    if (!m)
        m = malloc(sizeof *m);
    if (m) {
        m->n = n;
        memcpy(m->blocks, s->blocks + s->n - n, n * sizeof(void *));
        put_magazine(&d->full, m);
    }
    pthread_mutex_unlock(&d->lock);
    s->n -= n;
}

static void end_thread(void *arg)
{
    cache *c = arg;
    for (size_t i = 0; i < CLASSES; i++)
        while (c->stocks[i].n)
            give(i, &c->stocks[i], c->stocks[i].n < MAGAZINE ? c->stocks[i].n : MAGAZINE);
    pthread_mutex_lock(&caches_lock);
    live_retired += atomic_load_explicit(&c->live, memory_order_relaxed);
    *c->link = c->next;
    if (c->next)
        c->next->link = c->link;
    pthread_mutex_unlock(&caches_lock);
    mine = NULL;
    free(c);
}

static void start(void)
{
    for (size_t i = 0; i < CLASSES; i++)
        pthread_mutex_init(&depots[i].lock, NULL);
    pthread_key_create(&key, end_thread);
}

static cache *cache_new(void)
{
    pthread_once(&once, start);
    cache *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    pthread_mutex_lock(&caches_lock);
    c->next = caches;
    c->link = &caches;
    if (caches)
        caches->link = &c->next;
    caches = c;
    pthread_mutex_unlock(&caches_lock);
    pthread_setspecific(key, c);
    mine = c;
    return c;
}

/* Cuts a fresh chunk into blocks for the stock. */
static bool cut_chunk(size_t class, stock *s)
{
    size_t block = sizeof(header) + size_of(class);
    size_t n = 131072 / block;
    n = n < 1 ? 1 : n > MAGAZINE ? MAGAZINE : n;
    /* 16 bytes of list link, then 48 of room, so that block data starts on a cache line when the
     * size class is a multiple of 64. */
    size_t step = (block + 63) & ~(size_t)63;
    char *chunk = aligned_alloc(64, 64 + n * step);
    if (!chunk)
        return false;
    pthread_mutex_lock(&caches_lock);
    memcpy(chunk, &chunks, sizeof chunks);
    chunks = (void **)(void *)chunk;
    pthread_mutex_unlock(&caches_lock);
    for (size_t i = 0; i < n; i++) {
        header *h = (header *)(void *)(chunk + 64 + i * step);
        *h = (header){.class = (uint32_t) class, .magic = MAGIC, .size = size_of(class)};
        memset(h + 1, 0, KEPT_OPEN < h->size ? KEPT_OPEN : h->size);
        s->blocks[s->n++] = h + 1;
    }
    return true;
}

static bool refill(size_t class, stock *s)
{
    depot *d = &depots[class];
    pthread_mutex_lock(&d->lock);
    magazine *m = take_magazine(&d->full);
    if (m) {
        memcpy(s->blocks, m->blocks, m->n * sizeof(void *));
        s->n = m->n;
        put_magazine(&d->empty, m);
    }
    pthread_mutex_unlock(&d->lock);
    return m || cut_chunk(class, s);
}

static void count(cache *c, int64_t by)
{
    atomic_store_explicit(&c->live, atomic_load_explicit(&c->live, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

void *hk_slab_alloc(size_t size)
{
    if (HK_UNLIKELY(size > HK_SLAB_MAX))
        return NULL;
    cache *c = mine;
    if (HK_UNLIKELY(!c) && !(c = cache_new()))
        return NULL;
    size_t class = class_of(size);
    stock *s = &c->stocks[class];
    if (HK_UNLIKELY(s->n == 0) && !refill(class, s))
        return NULL;
    count(c, 1);
    void *block = s->blocks[--s->n];
    UNPOISON(block, size_of(class));
    return block;
}

void hk_slab_free(void *block)
{
    if (!block)
        return;
    header *h = (header *)block - 1;
    if (HK_UNLIKELY(h->magic != MAGIC))
        abort(); /* not a block, or freed twice after reuse: going on would corrupt memory */
    cache *c = mine;
    if (HK_UNLIKELY(!c) && !(c = cache_new()))
        return; /* no memory for a stock: the block is not recycled */
    stock *s = &c->stocks[h->class];
    if (HK_UNLIKELY(s->n == STOCK))
        give(h->class, s, MAGAZINE);
    if (h->size > KEPT_OPEN)
        POISON((char *)block + KEPT_OPEN, h->size - KEPT_OPEN);
    s->blocks[s->n++] = block;
    count(c, -1);
}

size_t hk_slab_live(void)
{
    pthread_mutex_lock(&caches_lock);
    int64_t n = live_retired;
    for (cache *c = caches; c; c = c->next)
        n += atomic_load_explicit(&c->live, memory_order_relaxed);
    pthread_mutex_unlock(&caches_lock);
    return n > 0 ? (size_t)n : 0;
}
