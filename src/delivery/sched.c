/* sched.c: the queue of scheduled publishes: a heap for each clock, and a hash table by id so that a
 * cancelled one is found at once. */
#include "delivery/delivery.h"

#include <stdlib.h>

typedef struct hk_sched_entry entry;
struct hk_sched_entry {
    uint64_t id;
    int64_t due;
    bool by_delay;
    size_t at;    /* 1-based place in its heap; 0 = taken */
    entry *chain; /* same bucket */
};

typedef struct heap {
    entry **e; /* from 1 */
    size_t n, cap;
} heap;

struct hk_sched {
    /* each has room for all entries and for those promised: adding or putting back cannot fail */
    heap wall, mono;
    size_t n_taken, n_promised;
    entry **buckets;
    size_t n_buckets; /* a power of two */
};

static bool before(const entry *a, const entry *b)
{
    return a->due != b->due ? a->due < b->due : a->id < b->id;
}

static void put(heap *h, size_t at, entry *e)
{
    h->e[at] = e;
    e->at = at;
}

static void up(heap *h, size_t at, entry *e)
{
    for (; at > 1 && before(e, h->e[at / 2]); at /= 2)
        put(h, at, h->e[at / 2]);
    put(h, at, e);
}

static void down(heap *h, size_t at, entry *e)
{
    for (size_t child; (child = at * 2) <= h->n; at = child) {
        if (child < h->n && before(h->e[child + 1], h->e[child]))
            child++;
        if (!before(h->e[child], e))
            break;
        put(h, at, h->e[child]);
    }
    put(h, at, e);
}

static bool heap_reserve(heap *h, size_t n)
{
    if (n + 1 <= h->cap) /* place 0 is not used */
        return true;
    size_t cap = h->cap ? h->cap * 2 : 64;
    entry **e = realloc(h->e, cap * sizeof *e);
    if (!e)
        return false;
    h->e = e;
    h->cap = cap;
    return true;
}

static void heap_add(heap *h, entry *e)
{
    h->n++;
    up(h, h->n, e);
}

static void heap_remove(heap *h, const entry *e)
{
    size_t at = e->at;
    entry *last = h->e[h->n--];
    if (last == e)
        return;
    if (at > 1 && before(last, h->e[at / 2]))
        up(h, at, last);
    else
        down(h, at, last);
}

static heap *heap_of(hk_sched *q, bool by_delay)
{
    return by_delay ? &q->mono : &q->wall;
}

static entry **bucket(const hk_sched *q, uint64_t id)
{
    return &q->buckets[hk_hash(&id, sizeof id) & (q->n_buckets - 1)];
}

/* Longer chains are fine when memory is out. */
static void grow(hk_sched *q)
{
    if (hk_sched_count(q) < q->n_buckets)
        return;
    entry **old = q->buckets;
    size_t n_old = q->n_buckets;
    entry **buckets = calloc(n_old * 2, sizeof(entry *));
    if (!buckets)
        return;
    q->buckets = buckets;
    q->n_buckets = n_old * 2;
    for (size_t i = 0; i < n_old; i++)
        for (entry *e = old[i], *next; e; e = next) {
            next = e->chain;
            e->chain = *bucket(q, e->id);
            *bucket(q, e->id) = e;
        }
    free(old);
}

hk_sched *hk_sched_new(void)
{
    hk_sched *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->n_buckets = 64;
    q->buckets = calloc(q->n_buckets, sizeof(entry *));
    if (q->buckets)
        return q;
    free(q);
    return NULL;
}

void hk_sched_free(hk_sched *q)
{
    if (!q)
        return;
    for (size_t i = 0; i < q->n_buckets; i++)
        for (entry *e = q->buckets[i], *next; e; e = next) {
            next = e->chain;
            free(e);
        }
    free(q->wall.e);
    free(q->mono.e);
    free(q->buckets);
    free(q);
}

hk_sched_entry *hk_sched_promise(hk_sched *q)
{
    size_t n = hk_sched_count(q) + q->n_promised + 1;
    bool room = heap_reserve(&q->wall, n) && heap_reserve(&q->mono, n);
    entry *e = room ? malloc(sizeof *e) : NULL;
    q->n_promised += e != NULL;
    return e;
}

void hk_sched_forgo(hk_sched *q, hk_sched_entry *e)
{
    q->n_promised--;
    free(e);
}

void hk_sched_put(hk_sched *q, hk_sched_entry *e, uint64_t id, int64_t due, bool by_delay)
{
    q->n_promised--;
    (void)hk_sched_remove(q, id); /* it has a new time */
    grow(q);
    *e = (entry){.id = id, .due = due, .by_delay = by_delay, .chain = *bucket(q, id)};
    *bucket(q, id) = e;
    heap_add(heap_of(q, by_delay), e);
}

hark_err hk_sched_add(hk_sched *q, uint64_t id, int64_t due, bool by_delay)
{
    entry *e = hk_sched_promise(q);
    if (!e)
        return HARK_ENOMEM;
    hk_sched_put(q, e, id, due, by_delay);
    return HARK_OK;
}

static entry **find(const hk_sched *q, uint64_t id)
{
    entry **link = bucket(q, id);
    while (*link && (*link)->id != id)
        link = &(*link)->chain;
    return link;
}

bool hk_sched_knows(const hk_sched *q, uint64_t id)
{
    return *find(q, id) != NULL;
}

void hk_sched_again(hk_sched *q, uint64_t id, int64_t mono)
{
    entry *e = *find(q, id);
    if (!e || e->at)
        return; /* cancelled or given a new time meanwhile */
    q->n_taken--;
    e->due = mono;
    e->by_delay = true;
    heap_add(&q->mono, e);
}

bool hk_sched_remove(hk_sched *q, uint64_t id)
{
    entry **link = find(q, id), *e = *link;
    if (!e)
        return false;
    *link = e->chain;
    if (e->at)
        heap_remove(heap_of(q, e->by_delay), e);
    else
        q->n_taken--;
    free(e);
    return true;
}

/* How long it is overdue; INT64_MIN = it is not. */
static int64_t overdue(const heap *h, int64_t now)
{
    return h->n && h->e[1]->due <= now ? now - h->e[1]->due : INT64_MIN;
}

bool hk_sched_take(hk_sched *q, hk_now now, uint64_t *ret_id)
{
    int64_t mono = overdue(&q->mono, now.mono), wall = overdue(&q->wall, now.wall);
    if (mono == INT64_MIN && wall == INT64_MIN)
        return false;
    heap *h = mono > wall ? &q->mono : &q->wall;
    entry *e = h->e[1];
    heap_remove(h, e);
    e->at = 0;
    q->n_taken++;
    *ret_id = e->id;
    return true;
}

static int64_t left(const heap *h, int64_t now)
{
    int64_t due = h->e[1]->due;
    return due > now ? due - now : 0;
}

int64_t hk_sched_wait(const hk_sched *q, hk_now now, int64_t most)
{
    int64_t wait = q->mono.n ? left(&q->mono, now.mono) : -1;
    if (!q->wall.n)
        return wait;
    int64_t wall = left(&q->wall, now.wall);
    if (wall > most)
        wall = most;
    return wait < 0 || wall < wait ? wall : wait;
}

size_t hk_sched_count(const hk_sched *q)
{
    return q->wall.n + q->mono.n + q->n_taken;
}
