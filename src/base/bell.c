/* bell.c: a gate whose ringers pay nothing while nobody sleeps: the store-load barrier
 * that such a hand-over needs on both sides is done for all threads at once by the sleeper, with
 * membarrier(2) in its private expedited form (Linux 4.14). */
#include "base/base.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

bool hk_bell_needs_fence;

static pthread_once_t once = PTHREAD_ONCE_INIT;

static long membarrier(int command)
{
    return syscall(SYS_membarrier, command, 0, 0);
}

static void enlist(void)
{
    hk_bell_needs_fence = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) != 0;
}

void hk_bell_init(hk_bell *b)
{
    (void)pthread_once(&once, enlist);
    hk_mark_set(&b->asleep, 0);
    hk_gate_init(&b->gate);
}

void hk_bell_wake(hk_bell *b)
{
    hk_gate_open(&b->gate);
}

unsigned hk_bell_lie_down(hk_bell *b)
{
    unsigned seen = hk_gate_look(&b->gate);
    (void)hk_mark_claim(&b->asleep, 1);
    if (!hk_bell_needs_fence)
        (void)membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
    return seen;
}

void hk_bell_sleep(hk_bell *b, unsigned seen, int64_t timeout_ns)
{
    (void)hk_gate_wait(&b->gate, seen, timeout_ns);
}

void hk_bell_get_up(hk_bell *b)
{
    (void)atomic_fetch_sub_explicit(&b->asleep.v, 1, memory_order_seq_cst);
}

void hk_pause(void)
{
    for (int i = 0; i < 40; i++)
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#else
        atomic_signal_fence(memory_order_seq_cst);
#endif
}
