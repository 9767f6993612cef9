/* inbox.c: a queue of intrusive nodes, many senders, one receiver, without a lock. Senders push on
 * a stack (Treiber, 1986); the receiver takes it whole and turns it round, so nodes come in the
 * order in which they were pushed. */
#include "base/base.h"

void hk_inbox_init(hk_inbox *b)
{
    atomic_init(&b->top, NULL);
    hk_gate_init(&b->gate);
}

void hk_inbox_push(hk_inbox *b, hk_node *n)
{
    hk_node *top = atomic_load_explicit(&b->top, memory_order_relaxed);
    do
        n->next = top;
    while (!atomic_compare_exchange_weak_explicit(&b->top, &top, n, memory_order_seq_cst,
                                                  memory_order_relaxed));
    if (!top) /* whoever made it non-empty wakes; the receiver takes everything at once */
        hk_gate_open(&b->gate);
}

hk_node *hk_inbox_take(hk_inbox *b)
{
    if (!atomic_load_explicit(&b->top, memory_order_relaxed))
        return NULL;
    hk_node *n = atomic_exchange_explicit(&b->top, NULL, memory_order_acquire), *first = NULL;
    while (n) {
        hk_node *next = n->next;
        n->next = first;
        first = n;
        n = next;
    }
    return first;
}

void hk_inbox_wait(hk_inbox *b, int64_t timeout_ns)
{
    unsigned seen = hk_gate_look(&b->gate);
    if (atomic_load_explicit(&b->top, memory_order_seq_cst))
        return;
    (void)hk_gate_wait(&b->gate, seen, timeout_ns);
}

void hk_inbox_wake(hk_inbox *b)
{
    hk_gate_open(&b->gate);
}
