/* ring.c: a bounded ring of pointers between one producer and one consumer. Positions only grow;
 * the slot is the position modulo the capacity. Producer and consumer each keep a stale copy of the
 * other's position, so that they touch its cache line once a lap instead of once an item. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

struct hk_ring {
    size_t mask;
    _Alignas(HK_CACHELINE) atomic_size_t tail; /* next to write; producer */
    size_t head_seen;
    _Alignas(HK_CACHELINE) atomic_size_t head; /* next to read; consumer, or drop_oldest */
    size_t tail_seen;
    _Alignas(HK_CACHELINE) void *_Atomic slots[];
};

hk_ring *hk_ring_new(size_t capacity)
{
    size_t n = 2;
    while (n < capacity && n < SIZE_MAX / 64)
        n *= 2;
    size_t bytes = sizeof(hk_ring) + n * sizeof(void *);
    bytes = (bytes + HK_CACHELINE - 1) & ~(size_t)(HK_CACHELINE - 1);
    hk_ring *r = aligned_alloc(HK_CACHELINE, bytes);
    if (!r)
        return NULL;
    memset(r, 0, bytes);
    r->mask = n - 1;
    return r;
}

void hk_ring_free(hk_ring *r)
{
    free(r);
}

size_t hk_ring_capacity(const hk_ring *r)
{
    return r->mask + 1;
}

size_t hk_ring_count(const hk_ring *r)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    size_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
    return tail - head;
}

bool hk_ring_push(hk_ring *r, void *p)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail - r->head_seen > r->mask) {
        r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
        if (tail - r->head_seen > r->mask)
            return false;
    }
    atomic_store_explicit(&r->slots[tail & r->mask], p, memory_order_relaxed);
    atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
    return true;
}

bool hk_ring_over(hk_ring *r, size_t n)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (tail - r->head_seen <= n)
        return false;
    r->head_seen = atomic_load_explicit(&r->head, memory_order_acquire);
    return tail - r->head_seen > n;
}

void *hk_ring_drop_oldest(hk_ring *r)
{
    size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&r->head, memory_order_acquire);
    while (head != tail) {
        void *p = atomic_load_explicit(&r->slots[head & r->mask], memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&r->head, &head, head + 1, memory_order_acq_rel,
                                                  memory_order_acquire))
            return p;
    }
    return NULL;
}

size_t hk_ring_pop(hk_ring *r, void **ret, size_t max)
{
    size_t head = atomic_load_explicit(&r->head, memory_order_acquire), n;
    do {
        size_t seen = r->tail_seen - head; /* wraps to something large when head overtook */
        if (seen == 0 || seen > r->mask + 1) {
            r->tail_seen = atomic_load_explicit(&r->tail, memory_order_acquire);
            if (r->tail_seen == head)
                return 0;
        }
        n = r->tail_seen - head;
        if (n > max)
            n = max;
        for (size_t i = 0; i < n; i++)
            ret[i] = atomic_load_explicit(&r->slots[(head + i) & r->mask], memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(&r->head, &head, head + n, memory_order_acq_rel,
                                                    memory_order_acquire));
    return n;
}
