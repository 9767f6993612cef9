/* guard.c: which delivery a thread has in hand, on record before its handler runs, in memory that
 * outlives the process (hark_store_slot); and the handler of faults that marks the slot of the
 * thread that faulted. What becomes of a slot after a crash is the store's to say when it is opened
 * again, and the delivery core's.
 *
 * Signal actions belong to the process, so what was there before is kept in one place for the
 * process: the exception to STYLE's "no global state". Once installed the handler stays; it touches
 * its own thread's words, the slot and the kernel, nothing else. */
#include "bus/bus_i.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
enum { N_FAULTS = HK_COUNTOF(faults) };

static struct {
    pthread_mutex_t lock; /* installing */
    hk_mark installed;
    hk_mark pid; /* whose slots they are: a forked child that faults marks none of its parent's */
    struct sigaction before[N_FAULTS];
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* initial-exec: reached from a signal handler without the allocation that other models may need. */
#define OF_THREAD static _Thread_local __attribute__((tls_model("initial-exec")))
OF_THREAD hark_store_slot *volatile in_hand;
OF_THREAD void *own_stack; /* with its guard page; NULL = none of ours */

/* ---- slots ---- */

void hk_slot_begin(hark_store_slot *slot, uint64_t consumer, uint64_t generation, uint64_t seq,
                   int64_t attempt, int64_t now_wall)
{
    hk_word_set(&slot->state, HARK_SLOT_FREE);
    slot->consumer = consumer;
    slot->generation = generation;
    slot->sequence = seq;
    slot->attempt = attempt;
    slot->started_ns = now_wall;
    slot->address = 0;
    slot->signal = 0;
    slot->check = hk_hash(slot, offsetof(hark_store_slot, address));
    hk_word_set(&slot->state, HARK_SLOT_RUNNING);
}

void hk_slot_end(hark_store_slot *slot)
{
    hk_word_set(&slot->state, HARK_SLOT_FREE);
}

hark_store_slot *hk_guard_enter(hark_store_slot *slot)
{
    hark_store_slot *before = in_hand;
    in_hand = slot;
    return before;
}

hark_store_slot *hk_guard_in_hand(void)
{
    return in_hand;
}

void hk_guard_leave(void)
{
    in_hand = NULL;
}

void hk_guard_drop(const hark_store_slot *slot)
{
    if (in_hand == slot)
        in_hand = NULL;
}

/* ---- the handler ---- */

/* Raised by this thread: by what it did, or by itself as abort() does it. One that somebody sent to
 * the process hits any thread, and blames nobody. */
static bool is_own_fault(const siginfo_t *si)
{
    return si->si_code > 0 || (si->si_code == SI_TKILL && si->si_pid == getpid());
}

/* The slot marked, or NULL. The first fault of a delivery counts: an abort() that follows is what a
 * sanitizer, or the program's own handler, does about it. */
static hark_store_slot *mark(int sig, const siginfo_t *si)
{
    hark_store_slot *slot = in_hand;
    if (!slot || slot->state != HARK_SLOT_RUNNING || !is_own_fault(si) ||
        hk_mark_get(&guard.pid) != (uint64_t)getpid())
        return NULL;
    slot->signal = (uint32_t)sig;
    slot->address = si->si_code > 0 ? (uint64_t)(uintptr_t)si->si_addr : 0;
    hk_word_set(&slot->state, HARK_SLOT_CRASHED);
    return slot;
}

static void to_default(int sig)
{
    struct sigaction sa = {.sa_handler = SIG_DFL};
    (void)sigaction(sig, &sa, NULL);
}

/* A fault comes again when the instruction does, and is then the kernel's to act upon, with the
 * core where it belongs. What was only sent must be sent again; it waits until this handler has
 * returned. */
static void die(int sig, const siginfo_t *si)
{
    to_default(sig);
    if (si->si_code <= 0)
        (void)syscall(SYS_tgkill, getpid(), (pid_t)syscall(SYS_gettid), sig);
}

/* Runs the previous handler as the kernel would have, but on our stack. */
static void run(const struct sigaction *sa, int sig, siginfo_t *si, void *context)
{
    sigset_t own, mask = sa->sa_mask;
    if (sa->sa_flags & (int)SA_RESETHAND)
        to_default(sig);
    if (!(sa->sa_flags & SA_NODEFER))
        (void)sigaddset(&mask, sig);
    (void)pthread_sigmask(SIG_BLOCK, &mask, &own);
    if (sa->sa_flags & SA_NODEFER) {
        (void)sigemptyset(&mask);
        (void)sigaddset(&mask, sig);
        (void)pthread_sigmask(SIG_UNBLOCK, &mask, NULL);
    }
    if (sa->sa_flags & SA_SIGINFO)
        sa->sa_sigaction(sig, si, context);
    else
        sa->sa_handler(sig);
    (void)pthread_sigmask(SIG_SETMASK, &own, NULL);
}

static const struct sigaction *before_of(int sig)
{
    size_t i = 0;
    while (i < N_FAULTS - 1 && faults[i] != sig)
        i++;
    return &guard.before[i];
}

static void on_fault(int sig, siginfo_t *si, void *context);

/* After a previous handler returned: if the fault is still ours to handle, it was mended, as
 * garbage collectors and the like do, and nothing has crashed. abort() goes on to its end in any
 * case. */
static bool is_mended(int sig)
{
    struct sigaction now;
    return sig != SIGABRT && sigaction(sig, NULL, &now) == 0 && (now.sa_flags & SA_SIGINFO) &&
           now.sa_sigaction == on_fault;
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
    int saved = errno;
    const struct sigaction *before = before_of(sig);
    hark_store_slot *slot = mark(sig, si);
    if (!(before->sa_flags & SA_SIGINFO) && before->sa_handler == SIG_DFL) {
        die(sig, si);
    } else if (!(before->sa_flags & SA_SIGINFO) && before->sa_handler == SIG_IGN) {
        if (si->si_code > 0)
            die(sig, si); /* the kernel does not let a fault be ignored either */
    } else {
        run(before, sig, si, context);
        if (slot && is_mended(sig))
            hk_word_set(&slot->state, HARK_SLOT_RUNNING);
    }
    errno = saved;
}

/* ---- a stack for it ---- */

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static size_t stack_size(void)
{
    size_t size = (size_t)SIGSTKSZ, page = page_size();
    size = size < 65536 ? 65536 : size;
    return (size + page - 1) / page * page;
}

static bool give_stack(void)
{
    stack_t st = {.ss_flags = SS_DISABLE};
    size_t page = page_size(), size = stack_size();
    if (own_stack || (sigaltstack(NULL, &st) == 0 && !(st.ss_flags & SS_DISABLE)))
        return true;
    void *p = mmap(NULL, page + size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (p == MAP_FAILED)
        return false;
    st = (stack_t){.ss_sp = (char *)p + page, .ss_size = size};
    if (mprotect(p, page, PROT_NONE) != 0 || sigaltstack(&st, NULL) != 0) {
        (void)munmap(p, page + size);
        return false;
    }
    own_stack = p;
    return true;
}

void hk_guard_thread(void)
{
    if (!hk_mark_get(&guard.installed))
        return;
    hk_mark_set(&guard.pid, (uint64_t)getpid());
    if (!give_stack())
        hk_log(HK_WARN, "no memory for a stack on which to handle a stack overflow of this thread");
}

void hk_guard_thread_end(void)
{
    stack_t off = {.ss_flags = SS_DISABLE};
    if (!own_stack)
        return;
    (void)sigaltstack(&off, NULL);
    (void)munmap(own_stack, page_size() + stack_size());
    own_stack = NULL;
}

/* ---- installing ---- */

static hark_err install_locked(hark_errinfo *ei)
{
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (hk_mark_get(&guard.installed))
        return HARK_OK;
    for (size_t i = 0; i < N_FAULTS; i++) {
        /* what was there must be known before ours can run */
        if (sigaction(faults[i], NULL, &guard.before[i]) == 0 &&
            sigaction(faults[i], &sa, NULL) == 0)
            continue;
        int e = errno;
        for (size_t k = 0; k < i; k++)
            (void)sigaction(faults[k], &guard.before[k], NULL);
        return hk_fail(ei, HARK_ESYS, "the crash guard cannot handle %s: %s",
                       hk_signal_name(faults[i]), strerror(e));
    }
    hk_mark_set(&guard.installed, 1);
    return HARK_OK;
}

hark_err hark_crash_guard(hark_errinfo *ei)
{
    if (!give_stack())
        return hk_fail(ei, HARK_ESYS, "the crash guard needs a stack of %zu bytes: %s",
                       stack_size(), strerror(errno));
    pthread_mutex_lock(&guard.lock);
    hark_err err = install_locked(ei);
    pthread_mutex_unlock(&guard.lock);
    if (!err)
        hk_mark_set(&guard.pid, (uint64_t)getpid());
    return err;
}
