/* child.c: the side of hark_supervise that does the work: what a forked child puts in order
 * before it runs the program, and when a program may be forked at all. */
#include "bus/supervise_i.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1
#endif
#endif

/* ThreadSanitizer has a thread of its own, which bears a fork. */
static size_t threads_besides(void)
{
    size_t n = hk_thread_count(), expected = 1;
#ifdef __SANITIZE_THREAD__
    expected = 2;
#endif
    return n > expected ? n - expected : 0;
}

/* Threads do not come along in a fork, and what they held stays locked for ever. */
hark_err hk_child_possible(hark_errinfo *ei)
{
    if (hk_mark_get(&hk_supervisor))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_supervise: this is a supervised child already; call it once, in main");
    if (hk_count_get(&hk_buses))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_supervise: a bus is open; open it in child_main, after the fork");
    size_t n = threads_besides();
    if (n)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_supervise: %zu other threads run, which a fork would lose; call it "
                       "first in main and start them in child_main",
                       n);
    return HARK_OK;
}

/* The kernel kills the child when its parent is gone; a parent that went before it was asked to is
 * told by getppid. A change of user takes that back: prctl(2), PR_SET_PDEATHSIG. */
static void die_with(pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        (void)kill(getpid(), SIGKILL);
}

static _Noreturn void cannot_start(const char *why)
{
    hk_log(HK_ERROR, "supervise: the child cannot start: %s", why);
    exit(EXIT_FAILURE);
}

_Noreturn void hk_child_run(const hk_parent *p)
{
    hark_errinfo ei;
    die_with(p->pid);
    hk_mark_set(&hk_supervisor, (uint64_t)p->pid);
    if (hk_listen_give(p->fds, p->n_fds))
        cannot_start("out of memory");
    (void)sigaction(SIGCHLD, &p->chld_before, NULL);
    (void)sigprocmask(SIG_SETMASK, &p->mask_before, NULL);
    if (hark_crash_guard(&ei))
        cannot_start(ei.text);
    exit(p->child_main(p->ud));
}
