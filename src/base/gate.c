/* gate.c: sleeping and waking. A gate is one futex word: a value that changes with each opening, and
 * in its lowest bit the mark of sleepers, so that opening a gate at which nobody sleeps costs no
 * system call. */
#include "base/base.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long futex(atomic_uint *word, int op, unsigned value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

/* A time limit on the monotonic clock; one too far away is the end of time. */
static int64_t deadline_in(int64_t timeout_ns)
{
    int64_t now = hk_mono_ns();
    return timeout_ns > INT64_MAX - now ? INT64_MAX : now + timeout_ns;
}

void hk_gate_init(hk_gate *g)
{
    atomic_init(&g->word, 0);
}

bool hk_gate_wait(hk_gate *g, unsigned seen, int64_t timeout_ns)
{
    int64_t deadline = timeout_ns < 0 ? 0 : deadline_in(timeout_ns);
    unsigned word = atomic_load_explicit(&g->word, memory_order_seq_cst);
    while ((word & ~HK_GATE_SLEEPER) == seen) {
        struct timespec left, *wait = NULL;
        if (timeout_ns >= 0) {
            int64_t ns = deadline - hk_mono_ns();
            if (ns <= 0)
                return false;
            left = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
            wait = &left;
        }
        if (!(word & HK_GATE_SLEEPER) &&
            !atomic_compare_exchange_strong_explicit(&g->word, &word, word | HK_GATE_SLEEPER,
                                                     memory_order_seq_cst, memory_order_seq_cst))
            continue;
        (void)futex(&g->word, FUTEX_WAIT, seen | HK_GATE_SLEEPER, wait);
        word = atomic_load_explicit(&g->word, memory_order_seq_cst);
    }
    return true;
}

/* One step changes the value and takes the mark off, so no sleeper can be missed in between; and
 * nothing of the gate is touched after it, since a waiter may return and its gate be gone. (The
 * kernel gets the address only; waking there by mistake is harmless.) Whoever took the mark off
 * wakes them all, so a sleeper is woken once however many come. */
void hk_gate_open(hk_gate *g)
{
    unsigned word = atomic_load_explicit(&g->word, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&g->word, &word, (word | HK_GATE_SLEEPER) + 1,
                                                  memory_order_seq_cst, memory_order_relaxed))
        ;
    if (HK_UNLIKELY(word & HK_GATE_SLEEPER))
        (void)futex(&g->word, FUTEX_WAKE, INT_MAX, NULL);
}

void hk_cond_init(pthread_cond_t *c)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
}

bool hk_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t timeout_ns)
{
    if (timeout_ns < 0)
        return pthread_cond_wait(c, m) == 0;
    int64_t at = deadline_in(timeout_ns);
    struct timespec t = {.tv_sec = at / 1000000000, .tv_nsec = at % 1000000000};
    return pthread_cond_timedwait(c, m, &t) != ETIMEDOUT;
}
