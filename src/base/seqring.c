/* seqring.c: the newest N objects by sequence, shared between threads without a lock.
 *
 * A reader may find a pointer to an object that is being recycled. That is safe because slab blocks
 * stay objects of their kind for ever (hk_slab_alloc): it tries to take a reference, then looks at
 * the slot again; only if the slot still names that sequence was it the right object. */
#include "base/base.h"

#include <stdlib.h>

typedef struct slot {
    _Atomic uint64_t seq; /* 0 = empty or being written */
    hk_ref *_Atomic object;
} slot;

struct hk_seqring {
    size_t mask;
    void (*drop)(hk_ref *object);
    slot slots[];
};

hk_seqring *hk_seqring_new(size_t capacity, void (*drop)(hk_ref *object))
{
    size_t n = 64;
    while (n < capacity && n < SIZE_MAX / 64)
        n *= 2;
    hk_seqring *r = calloc(1, sizeof *r + n * sizeof(slot));
    if (r) {
        r->mask = n - 1;
        r->drop = drop;
    }
    return r;
}

void hk_seqring_free(hk_seqring *r)
{
    for (size_t i = 0; r && i <= r->mask; i++) {
        hk_ref *o = atomic_load_explicit(&r->slots[i].object, memory_order_acquire);
        if (o)
            r->drop(o);
    }
    free(r);
}

size_t hk_seqring_capacity(const hk_seqring *r)
{
    return r->mask + 1;
}

void hk_seqring_put(hk_seqring *r, uint64_t seq, hk_ref *object)
{
    slot *s = &r->slots[seq & r->mask];
    /* A slot a little further on is about to be overwritten: its object's count is far away. */
    hk_ref *soon =
        atomic_load_explicit(&r->slots[(seq + 8) & r->mask].object, memory_order_relaxed);
    if (soon)
        __builtin_prefetch(soon, 1, 3);
    hk_ref *old = atomic_load_explicit(&s->object, memory_order_relaxed);
    atomic_store_explicit(&s->seq, 0, memory_order_relaxed);
    atomic_store_explicit(&s->object, object, memory_order_release);
    atomic_store_explicit(&s->seq, seq, memory_order_release);
    if (old)
        r->drop(old);
}

bool hk_seqring_has(hk_seqring *r, uint64_t seq)
{
    return atomic_load_explicit(&r->slots[seq & r->mask].seq, memory_order_seq_cst) == seq;
}

hk_ref *hk_seqring_peek(hk_seqring *r, uint64_t seq)
{
    return atomic_load_explicit(&r->slots[seq & r->mask].object, memory_order_relaxed);
}

hk_ref *hk_seqring_get(hk_seqring *r, uint64_t seq)
{
    slot *s = &r->slots[seq & r->mask];
    if (seq == 0 || atomic_load_explicit(&s->seq, memory_order_acquire) != seq)
        return NULL;
    hk_ref *o = atomic_load_explicit(&s->object, memory_order_acquire);
    if (!o || !hk_ref_try(o))
        return NULL;
    if (atomic_load_explicit(&s->object, memory_order_acquire) == o &&
        atomic_load_explicit(&s->seq, memory_order_acquire) == seq)
        return o;
    r->drop(o);
    return NULL;
}

void hk_seqring_evict(hk_seqring *r, uint64_t seq)
{
    slot *s = &r->slots[seq & r->mask];
    if (atomic_load_explicit(&s->seq, memory_order_relaxed) != seq)
        return;
    /* The next ones will follow soon, and their counts are far away. */
    hk_ref *soon =
        atomic_load_explicit(&r->slots[(seq + 8) & r->mask].object, memory_order_relaxed);
    if (soon)
        __builtin_prefetch(soon, 1, 3);
    atomic_store_explicit(&s->seq, 0, memory_order_relaxed);
    hk_ref *old = atomic_exchange_explicit(&s->object, NULL, memory_order_acq_rel);
    if (old)
        r->drop(old);
}
