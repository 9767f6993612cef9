/* supervise.c: the parent of a supervised program. It binds, forks, waits, passes signals on and
 * decides when a child that a signal ended is started again; it opens nothing else and allocates
 * nothing, so that it has no reason to crash. All of its signals are blocked and taken one by one:
 * no handler, no race. The child's side is child.c. */
#include "bus/supervise_i.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const int passed_on[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGQUIT};

/* How often the child of this process, or this child, was started before. */
static hk_count restarts;

uint64_t hark_supervise_restarts(void)
{
    return hk_count_get(&restarts);
}

/* ---- when to start again ---- */

int64_t hk_series_next(hk_series *s, const hark_supervise_opts *o, int64_t ran_ms)
{
    if (ran_ms >= o->stable_ms)
        s->n = 0;
    s->n++;
    if (o->max_restarts >= 0 && s->n > o->max_restarts)
        return -1;
    if (s->n <= 2)
        return 0;
    int64_t pause = o->backoff_ms < o->backoff_max_ms ? o->backoff_ms : o->backoff_max_ms;
    for (int64_t i = 3; i < s->n && pause < o->backoff_max_ms; i++)
        pause = pause < o->backoff_max_ms / 2 ? pause * 2 : o->backoff_max_ms;
    return pause;
}

/* ---- options ---- */

static hark_err take_ms(const char *name, int64_t *ms, int64_t standard, int64_t least,
                        hark_errinfo *ei)
{
    *ms = *ms ? *ms : standard;
    if (*ms >= least)
        return HARK_OK;
    return hk_fail(ei, HARK_EINVAL, "hark_supervise_opts.%s is %lld; at least %lld", name,
                   (long long)*ms, (long long)least);
}

static hark_err take_opts(const hark_supervise_opts *opts, hark_supervise_opts *o, hark_errinfo *ei)
{
    enum { LISTEN_MAX = 16 };
    hark_err err = hk_opts_take(opts, o, sizeof *o, "hark_supervise_opts", ei);
    if (err)
        return err;
    if (o->flags)
        return hk_fail(ei, HARK_EINVAL, "hark_supervise_opts.flags is %lld; no flag is known",
                       (long long)o->flags);
    if (o->n_listen > LISTEN_MAX || (o->n_listen && !o->listen))
        return hk_fail(ei, HARK_EINVAL,
                       "hark_supervise_opts.n_listen is %zu with listen %s; at most %d addresses",
                       o->n_listen, o->listen ? "given" : "NULL", LISTEN_MAX);
    err = take_ms("stop_ms", &o->stop_ms, 10000, -1, ei);
    if (!err)
        err = take_ms("backoff_ms", &o->backoff_ms, 100, 1, ei);
    if (!err)
        err = take_ms("backoff_max_ms", &o->backoff_max_ms, 5000, 1, ei);
    if (!err)
        err = take_ms("stable_ms", &o->stable_ms, 10000, 1, ei);
    if (!err)
        err = take_ms("max_restarts", &o->max_restarts, -1, -1, ei);
    return err;
}

/* ---- sockets ---- */

static void close_sockets(hk_parent *p)
{
    while (p->n_fds > 0)
        close(p->fds[--p->n_fds]);
}

/* What this process was itself handed is used, and the rest of that passed on. */
static hark_err open_sockets(hk_parent *p, hark_errinfo *ei)
{
    for (size_t i = 0; i < p->opts.n_listen; i++) {
        int fd = -1;
        hark_err err = hk_listen_inherited(p->opts.listen[i], &fd, ei);
        if (!err && fd < 0)
            err = hk_listen_bind(p->opts.listen[i], SOMAXCONN, &fd, ei);
        if (err) {
            close_sockets(p);
            return err;
        }
        p->fds[p->n_fds++] = fd;
    }
    p->n_fds += hk_listen_rest(p->fds + p->n_fds, HK_INHERITED_MAX - p->n_fds);
    hk_listen_arrange(p->fds, p->n_fds);
    return HARK_OK;
}

/* ---- signals ---- */

/* SIGPIPE too: a line of the log that nobody reads must not end the parent. A program that has
 * SIGCHLD ignored would never hear of a child's end. */
static void hold_signals(hk_parent *p)
{
    struct sigaction usual = {.sa_handler = SIG_DFL};
    (void)sigemptyset(&p->waited);
    (void)sigaddset(&p->waited, SIGCHLD);
    (void)sigaddset(&p->waited, SIGPIPE);
    for (size_t i = 0; i < HK_COUNTOF(passed_on); i++)
        (void)sigaddset(&p->waited, passed_on[i]);
    (void)sigprocmask(SIG_BLOCK, &p->waited, &p->mask_before);
    (void)sigaction(SIGCHLD, &usual, &p->chld_before);
}

/* The next signal, or 0 when the time (mono; -1 = never) has come. */
static int next_signal(hk_parent *p, int64_t until_ns, siginfo_t *ret)
{
    for (;;) {
        int64_t left = until_ns < 0 ? 0 : until_ns - hk_mono_ns();
        left = left > 0 ? left : 0;
        struct timespec t = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        int sig = until_ns < 0 ? sigwaitinfo(&p->waited, ret) : sigtimedwait(&p->waited, ret, &t);
        if (sig > 0)
            return sig;
        if (errno != EINTR)
            return 0;
    }
}

static void release_signals(hk_parent *p)
{
    siginfo_t si;
    while (next_signal(p, 0, &si))
        continue;
    (void)sigaction(SIGCHLD, &p->chld_before, NULL);
    (void)sigprocmask(SIG_SETMASK, &p->mask_before, NULL);
}

/* A signal that the parent was told to ignore (nohup, a shell's background job) asks for no end. */
static bool asks_for_end(int sig)
{
    struct sigaction sa;
    return (sig == SIGTERM || sig == SIGINT) && sigaction(sig, NULL, &sa) == 0 &&
           ((sa.sa_flags & SA_SIGINFO) || sa.sa_handler != SIG_IGN);
}

/* Nobody will take over from this child, so new connections are refused as soon as it stops
 * listening, instead of waiting for nobody. */
static void stop(hk_parent *p)
{
    p->stopping = true;
    close_sockets(p);
    if (p->kill_at_ns < 0 && p->opts.stop_ms >= 0)
        p->kill_at_ns = hk_mono_ns() + hk_ms_to_ns(p->opts.stop_ms);
}

/* A terminal sends to its whole foreground group, and the child has had that one already. */
static void pass_on(hk_parent *p, const siginfo_t *si)
{
    bool has_it = si->si_code == SI_KERNEL && getpgid(p->child) == getpgrp();
    if (!has_it)
        (void)kill(p->child, si->si_signo);
    p->passed_on |= UINT64_C(1) << si->si_signo;
    if (asks_for_end(si->si_signo))
        stop(p);
}

/* ---- one child ---- */

static bool start_child(hk_parent *p)
{
    (void)fflush(NULL); /* or what is buffered is written twice */
    p->passed_on = 0;
    p->kill_at_ns = -1;
    p->started_ns = hk_mono_ns();
    p->child = fork();
    if (p->child == 0)
        hk_child_run(p);
    return p->child > 0;
}

static void await_end(hk_parent *p)
{
    siginfo_t si;
    while (waitpid(p->child, &p->wait_status, WNOHANG) != p->child) {
        int sig = next_signal(p, p->kill_at_ns, &si);
        if (sig == 0) {
            hk_log(HK_WARN, "supervise: child %d has not ended within %lld ms; it is killed",
                   (int)p->child, (long long)p->opts.stop_ms);
            (void)kill(p->child, SIGKILL);
            p->kill_at_ns = -1;
        } else if (sig != SIGCHLD && sig != SIGPIPE) {
            pass_on(p, &si);
        }
    }
}

/* By a signal that nobody asked for; one that was passed on and that it does not handle is none. */
static bool has_crashed(const hk_parent *p)
{
    return WIFSIGNALED(p->wait_status) && !p->stopping &&
           !(p->passed_on >> WTERMSIG(p->wait_status) & 1);
}

static int exit_status(const hk_parent *p)
{
    return WIFEXITED(p->wait_status) ? WEXITSTATUS(p->wait_status) : 128 + WTERMSIG(p->wait_status);
}

/* ---- child after child ---- */

static void report(const hk_parent *p, const char *what, int64_t pause_ms)
{
    char next[64] = "it is started again at once";
    if (pause_ms < 0)
        (void)snprintf(next, sizeof next, "it is not started again: that is enough");
    else if (pause_ms > 0)
        (void)snprintf(next, sizeof next, "it is started again in %lld ms", (long long)pause_ms);
    hk_log(HK_ERROR, "supervise: %s (%lld in a row); %s", what, (long long)p->series.n, next);
}

/* How long to wait before the next start, ms; -1 = no more. */
static int64_t after_crash(hk_parent *p)
{
    char what[128];
    int sig = WTERMSIG(p->wait_status);
    int64_t ran_ms = (hk_mono_ns() - p->started_ns) / 1000000;
    int64_t pause = hk_series_next(&p->series, &p->opts, ran_ms);
    (void)snprintf(what, sizeof what, "child %d was ended by %s (%d)%s after %lld ms",
                   (int)p->child, hk_signal_name(sig), sig,
                   WCOREDUMP(p->wait_status) ? ", core dumped," : "", (long long)ran_ms);
    report(p, what, pause);
    return pause;
}

static int64_t after_failed_fork(hk_parent *p)
{
    char what[128];
    int e = errno;
    int64_t pause = hk_series_next(&p->series, &p->opts, 0);
    if (pause == 0)
        pause = p->opts.backoff_ms;
    (void)snprintf(what, sizeof what, "no new process: %s", strerror(e));
    report(p, what, pause);
    return pause;
}

/* Between two children; false when told to end. What else is sent then finds nobody to go to. */
static bool rest(hk_parent *p, int64_t pause_ms)
{
    siginfo_t si;
    int64_t until = hk_mono_ns() + hk_ms_to_ns(pause_ms);
    for (int sig; (sig = next_signal(p, until, &si));)
        if (asks_for_end(sig))
            return false;
    return true;
}

static hark_err run(hk_parent *p, hark_errinfo *ei)
{
    if (!start_child(p))
        return hk_fail(ei, HARK_ESYS, "hark_supervise: no child process: %s", strerror(errno));
    for (;;) {
        int64_t pause;
        if (p->child > 0) {
            await_end(p);
            if (!has_crashed(p))
                return HARK_OK;
            pause = after_crash(p);
        } else {
            pause = after_failed_fork(p);
        }
        if (pause < 0 || !rest(p, pause))
            return HARK_OK;
        (void)hk_count_add(&restarts, 1);
        (void)start_child(p);
    }
}

/* ---- the call ---- */

static bool is_off(void)
{
    const char *s = getenv("HARK_NO_SUPERVISE");
    return s && *s && strcmp(s, "0") != 0;
}

static hark_err run_here(int (*child_main)(void *ud), void *ud, int *ret_status, hark_errinfo *ei)
{
    hark_err err = hark_crash_guard(ei);
    if (!err)
        *ret_status = child_main(ud);
    return err;
}

hark_err hark_supervise(const hark_supervise_opts *opts, int (*child_main)(void *ud), void *ud,
                        int *ret_status, hark_errinfo *ei)
{
    hk_parent p = {.child_main = child_main, .ud = ud, .pid = getpid()};
    if (!child_main || !ret_status)
        return hk_fail(ei, HARK_EINVAL, "hark_supervise: child_main and ret_status must be given");
    hark_err err = take_opts(opts, &p.opts, ei);
    if (!err && is_off())
        return run_here(child_main, ud, ret_status, ei);
    if (!err)
        err = hk_child_possible(ei);
    if (!err)
        err = open_sockets(&p, ei);
    if (err)
        return err;
    hold_signals(&p);
    err = run(&p, ei);
    release_signals(&p);
    close_sockets(&p);
    (void)hk_count_sub(&restarts, hk_count_get(&restarts));
    if (!err)
        *ret_status = exit_status(&p);
    return err;
}
