/* Tests of the crash guard: a fault is noted on the slot of the thread that faulted, and then
 * goes the way that it would have gone without the guard. Each fault happens in a forked child,
 * the slots are memory shared with it. Under a sanitizer its own handler is the one that was
 * there before. */
#include "bus/bus_i.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

enum { SLOTS = 4, NOWHERE = 24 };

static struct sigaction at_start[NSIG]; /* before cmocka puts its own in place */
static hark_store_slot *slots;

static int fresh_slots(void **state UNUSED)
{
    memset(slots, 0, SLOTS * sizeof *slots);
    return 0;
}

/* ---- children ---- */

static void prepare_child(void)
{
    const struct rlimit none = {0, 0};
    int null = open("/dev/null", O_WRONLY);
    for (int sig = 1; sig < NSIG; sig++)
        if (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGABRT)
            (void)sigaction(sig, &at_start[sig], NULL);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)dup2(null, STDERR_FILENO); /* a sanitizer's report of what is meant to be */
}

/* Runs `fn` in a child; returns how that ended. */
static int run_child(void (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prepare_child();
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void install(void)
{
    if (hark_crash_guard(NULL))
        _exit(99);
}

static void take_in_hand(int i)
{
    hk_slot_begin(&slots[i], 7, 1, 41 + (uint64_t)i, 2, 1000);
    hk_guard_enter(&slots[i]);
}

static void assert_died_of(int sig, int status)
{
    if (!(at_start[sig].sa_flags & SA_SIGINFO) && at_start[sig].sa_handler == SIG_DFL) {
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), sig);
    } else { /* as the sanitizer wants it */
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 0);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) != 99);
    }
}

static void assert_crashed(int i, int sig, uint64_t address)
{
    assert_int_equal(slots[i].state, HARK_SLOT_CRASHED);
    assert_int_equal(slots[i].signal, sig);
    assert_int_equal(slots[i].address, address);
    assert_int_equal(slots[i].consumer, 7);
    assert_int_equal(slots[i].generation, 1);
    assert_int_equal(slots[i].sequence, 41 + i);
    assert_int_equal(slots[i].attempt, 2);
    assert_int_equal(slots[i].started_ns, 1000);
    assert_int_equal(slots[i].check, hk_hash(&slots[i], offsetof(hark_store_slot, address)));
}

/* ---- faults ---- */

static volatile uintptr_t nowhere = NOWHERE;

__attribute__((no_sanitize("undefined", "thread"), noinline)) static void
dereference_at(uintptr_t offset)
{
    *(volatile char *)(nowhere + offset) = 1;
}

static void dereference(void)
{
    dereference_at(0);
}

static void segv_in_hand(void)
{
    install();
    take_in_hand(0);
    dereference();
}

static void test_a_segmentation_fault_is_noted_with_its_address(void **state UNUSED)
{
    assert_died_of(SIGSEGV, run_child(segv_in_hand));
    assert_crashed(0, SIGSEGV, NOWHERE);
}

static void abort_in_hand(void)
{
    install();
    take_in_hand(0);
    abort();
}

static void test_an_abort_is_noted(void **state UNUSED)
{
    assert_died_of(SIGABRT, run_child(abort_in_hand));
    assert_crashed(0, SIGABRT, 0);
}

static void fpe_in_hand(void)
{
    install();
    take_in_hand(0);
    (void)raise(SIGFPE);
}

static void test_a_signal_that_the_thread_sends_itself_is_noted(void **state UNUSED)
{
    assert_died_of(SIGFPE, run_child(fpe_in_hand));
    assert_crashed(0, SIGFPE, 0);
}

static void ill_in_hand(void)
{
    install();
    take_in_hand(0);
    __builtin_trap();
}

static void test_an_illegal_instruction_is_noted(void **state UNUSED)
{
    int status = run_child(ill_in_hand);
    if (slots[0].signal == SIGTRAP || slots[0].state == HARK_SLOT_RUNNING)
        skip(); /* this machine traps otherwise */
    assert_died_of(SIGILL, status);
    assert_int_equal(slots[0].signal, SIGILL);
    assert_int_equal(slots[0].state, HARK_SLOT_CRASHED);
}

static char *past_the_end(void)
{
    int fd = memfd_create("short", MFD_CLOEXEC);
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || p == MAP_FAILED)
        _exit(99);
    return p;
}

static void bus_in_hand(void)
{
    volatile char *p = past_the_end();
    install();
    take_in_hand(0);
    *p = 1;
}

static void test_a_bus_error_is_noted(void **state UNUSED)
{
    assert_died_of(SIGBUS, run_child(bus_in_hand));
    assert_int_equal(slots[0].signal, SIGBUS);
    assert_int_equal(slots[0].state, HARK_SLOT_CRASHED);
}

static volatile size_t depth_wanted = SIZE_MAX;

__attribute__((noinline)) static size_t dive(size_t depth)
{
    volatile char frame[512];
    frame[depth % sizeof frame] = 1;
    if (depth == depth_wanted)
        return 0;
    return dive(depth + 1) + (size_t)frame[0];
}

static void overflow_in_hand(void)
{
    install();
    take_in_hand(0);
    (void)dive(0);
}

static void test_a_stack_overflow_of_the_main_thread_is_noted(void **state UNUSED)
{
    assert_died_of(SIGSEGV, run_child(overflow_in_hand));
    assert_int_equal(slots[0].state, HARK_SLOT_CRASHED);
    assert_int_equal(slots[0].signal, SIGSEGV);
    assert_true(slots[0].address != 0);
}

static void *overflowing_thread(void *arg UNUSED)
{
    hk_guard_thread();
    take_in_hand(1);
    (void)dive(0);
    return NULL;
}

static void overflow_in_a_thread(void)
{
    pthread_t t;
    install();
    take_in_hand(0);
    if (hk_thread_start(&t, "diver", overflowing_thread, NULL) == HARK_OK)
        pthread_join(t, NULL);
}

static void test_a_stack_overflow_of_a_thread_blames_that_thread_only(void **state UNUSED)
{
    assert_died_of(SIGSEGV, run_child(overflow_in_a_thread));
    assert_int_equal(slots[1].state, HARK_SLOT_CRASHED);
    assert_int_equal(slots[0].state, HARK_SLOT_RUNNING);
}

/* ---- several at once ---- */

static pthread_barrier_t together;

static void *faulting_thread(void *arg)
{
    hk_guard_thread();
    take_in_hand((int)(intptr_t)arg);
    pthread_barrier_wait(&together);
    dereference_at(64 * (uintptr_t)arg);
    return NULL;
}

static void two_threads(void)
{
    pthread_t t[2];
    install();
    take_in_hand(3);
    pthread_barrier_init(&together, NULL, 2);
    for (intptr_t i = 0; i < 2; i++)
        if (hk_thread_start(&t[i], "faulty", faulting_thread, (void *)i))
            _exit(99);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i], NULL);
}

static void
test_two_threads_that_fault_at_once_end_the_process_and_blame_no_third(void **state UNUSED)
{
    for (int round = 0; round < 20; round++) {
        fresh_slots(NULL);
        assert_died_of(SIGSEGV, run_child(two_threads));
        int crashed = 0;
        for (int i = 0; i < 2; i++)
            if (slots[i].state == HARK_SLOT_CRASHED) {
                assert_crashed(i, SIGSEGV, NOWHERE + 64 * (uint64_t)i);
                crashed++;
            }
        assert_true(crashed >= 1);
        assert_int_equal(slots[3].state, HARK_SLOT_RUNNING);
    }
}

/* ---- what was there before ---- */

static void before(int sig, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction sa = {.sa_sigaction = fn, .sa_flags = SA_SIGINFO | flags};
    if (sigaction(sig, &sa, NULL) != 0)
        _exit(99);
}

static void exits_with_42(int sig, siginfo_t *si, void *context UNUSED)
{
    bool marked = slots[0].state == HARK_SLOT_CRASHED && slots[0].signal == (uint32_t)sig;
    _exit(marked && (uintptr_t)si->si_addr == NOWHERE ? 42 : 43);
}

static void segv_with_a_handler(void)
{
    before(SIGSEGV, exits_with_42, 0);
    segv_in_hand();
}

static void test_the_handler_that_was_there_runs_after_the_mark(void **state UNUSED)
{
    int status = run_child(segv_with_a_handler);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

static char *page;

static void mends(int sig UNUSED, siginfo_t *si UNUSED, void *context UNUSED)
{
    (void)mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void segv_that_is_mended(void)
{
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    before(SIGSEGV, mends, 0);
    install();
    take_in_hand(0);
    *(volatile char *)page = 5;
    _exit(slots[0].state == HARK_SLOT_RUNNING && *(volatile char *)page == 5 ? 42 : 43);
}

static void test_a_fault_that_the_program_mends_is_no_crash(void **state UNUSED)
{
    int status = run_child(segv_that_is_mended);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    assert_int_equal(slots[0].state, HARK_SLOT_RUNNING);
}

static void gives_up(int sig, siginfo_t *si UNUSED, void *context UNUSED)
{
    (void)signal(sig, SIG_DFL);
}

static void segv_given_up(void)
{
    before(SIGSEGV, gives_up, 0);
    segv_in_hand();
}

static void test_a_handler_that_gives_up_leaves_the_mark(void **state UNUSED)
{
    int status = run_child(segv_given_up);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_crashed(0, SIGSEGV, NOWHERE);
}

static void does_nothing(int sig UNUSED, siginfo_t *si UNUSED, void *context UNUSED) {}

static void segv_with_a_handler_for_once(void)
{
    before(SIGSEGV, does_nothing, (int)SA_RESETHAND);
    segv_in_hand();
}

static void test_a_handler_for_once_runs_once(void **state UNUSED)
{
    int status = run_child(segv_with_a_handler_for_once);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_crashed(0, SIGSEGV, NOWHERE);
}

static sigjmp_buf back;

static void jumps_out(int sig UNUSED, siginfo_t *si UNUSED, void *context UNUSED)
{
    siglongjmp(back, 1);
}

static void segv_that_is_left_by_a_jump(void)
{
    before(SIGSEGV, jumps_out, 0);
    install();
    for (int i = 0; i < 2; i++) {
        take_in_hand(i);
        if (sigsetjmp(back, 1) == 0)
            dereference();
        hk_guard_leave();
        hk_slot_end(&slots[i]);
    }
    _exit(42);
}

static void test_a_handler_may_jump_out_again_and_again(void **state UNUSED)
{
    int status = run_child(segv_that_is_left_by_a_jump);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    assert_int_equal(slots[0].state, HARK_SLOT_FREE);
    assert_int_equal(slots[1].state, HARK_SLOT_FREE);
}

static void segv_ignored(void)
{
    (void)signal(SIGSEGV, SIG_IGN);
    segv_in_hand();
}

static void test_a_fault_cannot_be_ignored(void **state UNUSED)
{
    int status = run_child(segv_ignored);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_crashed(0, SIGSEGV, NOWHERE);
}

static void installed_twice(void)
{
    install();
    segv_in_hand();
}

static void test_installing_it_again_changes_nothing(void **state UNUSED)
{
    assert_died_of(SIGSEGV, run_child(installed_twice));
    assert_crashed(0, SIGSEGV, NOWHERE);
}

/* ---- who is not to blame ---- */

static void segv_with_empty_hands(void)
{
    install();
    take_in_hand(0);
    hk_guard_leave();
    dereference();
}

static void test_a_thread_with_nothing_in_hand_blames_no_delivery(void **state UNUSED)
{
    assert_died_of(SIGSEGV, run_child(segv_with_empty_hands));
    assert_int_equal(slots[0].state, HARK_SLOT_RUNNING);
    assert_int_equal(slots[0].signal, 0);
}

static void waits_for_a_signal(void)
{
    install();
    take_in_hand(0);
    (void)kill(getppid(), SIGCHLD);
    for (;;)
        (void)pause();
}

static void test_an_abort_sent_from_outside_blames_nobody(void **state UNUSED)
{
    sigset_t ready, old;
    int status = 0, sig = 0;
    sigemptyset(&ready);
    sigaddset(&ready, SIGCHLD);
    sigprocmask(SIG_BLOCK, &ready, &old);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prepare_child();
        waits_for_a_signal();
    }
    assert_int_equal(sigwait(&ready, &sig), 0);
    assert_int_equal(kill(pid, SIGABRT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    sigprocmask(SIG_SETMASK, &old, NULL);
    assert_died_of(SIGABRT, status);
    assert_int_equal(slots[0].state, HARK_SLOT_RUNNING);
}

static void fault_in_a_grandchild(void)
{
    install();
    take_in_hand(0);
    pid_t pid = fork();
    if (pid == 0)
        dereference();
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || (WIFEXITED(status) && WEXITSTATUS(status) == 0))
        _exit(43);
    _exit(slots[0].state == HARK_SLOT_RUNNING ? 42 : 44);
}

static void test_a_forked_childs_fault_is_not_its_parents(void **state UNUSED)
{
    int status = run_child(fault_in_a_grandchild);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

/* ---- stacks ---- */

static void *looks_at_its_stack(void *arg)
{
    stack_t st[3];
    (void)sigaltstack(NULL, &st[0]);
    hk_guard_thread();
    hk_guard_thread();
    (void)sigaltstack(NULL, &st[1]);
    hk_guard_thread_end();
    hk_guard_thread_end();
    (void)sigaltstack(NULL, &st[2]);
    *(bool *)arg = !(st[1].ss_flags & SS_DISABLE) && st[1].ss_size >= 32768 &&
                   (st[0].ss_flags & SS_DISABLE) == (st[2].ss_flags & SS_DISABLE);
    return NULL;
}

static void gives_stacks(void)
{
    pthread_t t;
    bool good = false;
    install();
    if (hk_thread_start(&t, "stack", looks_at_its_stack, &good))
        _exit(99);
    pthread_join(t, NULL);
    _exit(good ? 42 : 43);
}

static void test_a_thread_gets_a_stack_and_gives_it_back(void **state UNUSED)
{
    int status = run_child(gives_stacks);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
}

#define CASE(f) cmocka_unit_test_setup(f, fresh_slots)

int main(void)
{
    for (int sig = 1; sig < NSIG; sig++)
        (void)sigaction(sig, NULL, &at_start[sig]);
    slots = mmap(NULL, SLOTS * sizeof *slots, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                 -1, 0);
    if (slots == MAP_FAILED)
        return 1;
    const struct CMUnitTest tests[] = {
        CASE(test_a_segmentation_fault_is_noted_with_its_address),
        CASE(test_an_abort_is_noted),
        CASE(test_a_signal_that_the_thread_sends_itself_is_noted),
        CASE(test_an_illegal_instruction_is_noted),
        CASE(test_a_bus_error_is_noted),
        CASE(test_a_stack_overflow_of_the_main_thread_is_noted),
        CASE(test_a_stack_overflow_of_a_thread_blames_that_thread_only),
        CASE(test_two_threads_that_fault_at_once_end_the_process_and_blame_no_third),
        CASE(test_the_handler_that_was_there_runs_after_the_mark),
        CASE(test_a_fault_that_the_program_mends_is_no_crash),
        CASE(test_a_handler_that_gives_up_leaves_the_mark),
        CASE(test_a_handler_for_once_runs_once),
        CASE(test_a_handler_may_jump_out_again_and_again),
        CASE(test_a_fault_cannot_be_ignored),
        CASE(test_installing_it_again_changes_nothing),
        CASE(test_a_thread_with_nothing_in_hand_blames_no_delivery),
        CASE(test_an_abort_sent_from_outside_blames_nobody),
        CASE(test_a_forked_childs_fault_is_not_its_parents),
        CASE(test_a_thread_gets_a_stack_and_gives_it_back),
    };
    return cmocka_run_group_tests_name("crash_guard", tests, NULL, NULL);
}
