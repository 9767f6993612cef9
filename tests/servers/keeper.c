/* The keeper of one server: a process between the test and the server, with one thread. It starts and
 * ends the server on demand, is the parent of whatever the server leaves behind, and removes all of it
 * when the test program is gone. */
#include "servers_i.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    SOON_MS = 5,       /* between two looks at whether a server answers */
    START_MS = 120000, /* nothing takes that long unless it hangs, on a busy machine */
    STOP_MS = 60000,
    ABANDON_MS = 5000,
    TRIES = 5 /* of ports */
};

bool keeper_says(keeper *k, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(k->error, sizeof k->error, fmt, ap);
    va_end(ap);
    return false;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- programs ---- */

static const char *log_path(const keeper *k, char ret[96])
{
    (void)snprintf(ret, 96, "%s/log", k->dir);
    return ret;
}

static const char *preload_path(const keeper *k, char ret[96])
{
    (void)snprintf(ret, 96, "%s/preload.so", k->dir);
    return ret;
}

/* The server's user may not be allowed to look where the library is. */
static bool copy_preload(keeper *k)
{
    char path[96], buf[65536];
    FILE *from = fopen(k->preload, "rb"), *to = fopen(preload_path(k, path), "wb");
    bool good = from && to;
    for (size_t n; good && (n = fread(buf, 1, sizeof buf, from)) > 0;)
        good = fwrite(buf, 1, n, to) == n;
    if (from)
        (void)fclose(from);
    if (to && fclose(to) != 0)
        good = false;
    return good && chmod(path, 0644) == 0 ? true : keeper_says(k, "cannot copy %s", k->preload);
}

/* The server is told nothing by the environment, and does not outlive its keeper. */
static _Noreturn void become(const keeper *k, const char *const *argv)
{
    char log[96];
    const char *path = getenv("PATH");
    union {
        const char *const *given;
        char *const *taken;
    } args = {.given = argv};
    int in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int out = open(log_path(k, log), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 || dup2(out, STDERR_FILENO) < 0)
        _exit(126);
    if (k->uid != geteuid() &&
        (setgroups(0, NULL) != 0 || setgid(k->gid) != 0 || setuid(k->uid) != 0))
        _exit(126);
    (void)prctl(PR_SET_PDEATHSIG, k->kind->abandon); /* after setuid, which clears it */
    path = path ? strdup(path) : NULL;
    if (clearenv() != 0 || setenv("PATH", path ? path : "/usr/bin:/bin", 1) != 0 ||
        setenv("HOME", k->dir, 1) != 0 || setenv("LC_ALL", "C", 1) != 0 || chdir(k->dir) != 0)
        _exit(126);
    if (k->preload && setenv("LD_PRELOAD", preload_path(k, log), 1) != 0)
        _exit(126);
    (void)execvp(argv[0], args.taken);
    (void)fprintf(stderr, "cannot run %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static pid_t spawn(keeper *k, const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0)
        become(k, argv);
    if (pid < 0)
        (void)keeper_says(k, "fork: %s", strerror(errno));
    return pid;
}

bool keeper_run(keeper *k, const char *const *argv)
{
    int status = 0;
    pid_t pid = spawn(k, argv);
    if (pid < 0)
        return false;
    bool ended = procs_wait(pid, START_MS);
    if (!ended)
        kill(pid, SIGKILL);
    if (waitpid(pid, &status, 0) == pid && ended && WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    return keeper_says(k, ended ? "%s failed, wait status %d" : "%s hangs, wait status %d", argv[0],
                       status);
}

/* ---- what the test asks for ---- */

static bool wait_for_answer(keeper *k)
{
    int64_t end = now_ms() + START_MS;
    while (!k->kind->answers(k) || procs_wait(k->pid, 0)) { /* whoever answers, if it has ended */
        if (procs_wait(k->pid, SOON_MS)) {
            procs_reap();
            k->pid = 0;
            return keeper_says(k, "it ended at its start");
        }
        if (now_ms() > end)
            return keeper_says(k, "it runs, and does not answer on port %d within %d s", k->port,
                               START_MS / 1000);
    }
    return true;
}

static bool launch(keeper *k)
{
    const char *argv[ARGV_MAX] = {NULL};
    k->kind->command(k, argv);
    k->pid = spawn(k, argv);
    if (k->pid > 0)
        return wait_for_answer(k);
    k->pid = 0;
    return false;
}

/* Its first start finds a port; others than keepers may be faster at taking it. */
static bool give_birth(keeper *k)
{
    if (k->preload && !copy_preload(k))
        return false;
    if (k->kind->prepare && !k->kind->prepare(k))
        return false;
    for (int i = 0; i < TRIES; i++) {
        if (k->claim >= 0)
            (void)close(k->claim);
        k->port = port_claim(&k->claim);
        if (!k->port)
            return keeper_says(k, "no free port");
        if (launch(k)) {
            k->born = true;
            return !k->kind->born || k->kind->born(k);
        }
        if (k->pid)
            return false; /* it hangs; another port does not help */
    }
    return false;
}

static bool await_end(keeper *k)
{
    if (k->pid && !procs_wait(k->pid, STOP_MS))
        return keeper_says(k, "it does not end within %d s", STOP_MS / 1000);
    procs_reap();
    k->pid = 0;
    return true;
}

static bool start(keeper *k)
{
    if (k->pid && !procs_wait(k->pid, 0))
        return keeper_says(k, "it runs already");
    if (k->pid)
        (void)await_end(k);
    return k->born ? launch(k) : give_birth(k);
}

static void thaw(keeper *k)
{
    procs_signal_children(k->pid, SIGCONT);
    kill(k->pid, SIGCONT);
}

static bool freeze(keeper *k)
{
    int64_t end = now_ms() + STOP_MS;
    kill(k->pid, SIGSTOP); /* first, so that it has no more children */
    do {
        procs_signal_children(k->pid, SIGSTOP);
        if (now_ms() > end)
            return keeper_says(k, "it does not stand still");
    } while (!procs_all_stopped(k->pid));
    return true;
}

static bool kill_all(keeper *k)
{
    kill(k->pid, SIGSTOP); /* so that it does not see its children die */
    procs_signal_children(k->pid, SIGKILL);
    kill(k->pid, SIGKILL);
    procs_reap();
    k->pid = 0;
    return true;
}

static bool end_by(keeper *k, int sig, int ms)
{
    thaw(k);
    kill(k->pid, sig);
    bool ended = procs_wait(k->pid, ms);
    (void)kill_all(k);
    return ended || keeper_says(k, "it does not end within %d s of %s", ms / 1000, strsignal(sig));
}

static bool obey(keeper *k, keeper_op op)
{
    if (op == OP_START)
        return start(k);
    if (op == OP_AWAIT_END)
        return await_end(k);
    if (!k->pid || procs_wait(k->pid, 0))
        return keeper_says(k, "it does not run");
    if (op == OP_STOP)
        return end_by(k, k->kind->stop, STOP_MS);
    if (op == OP_KILL)
        return kill_all(k);
    if (op == OP_FREEZE)
        return freeze(k);
    thaw(k);
    return true;
}

/* ---- its life ---- */

static void settle_in(keeper *k, int sock)
{
    sigset_t none;
    sigemptyset(&none);
    (void)setsid(); /* what is sent to the test's process group does not end us before our work */
    for (int sig = 1; sig < NSIG; sig++)
        (void)signal(sig, SIG_DFL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    (void)prctl(PR_SET_NAME, "server keeper");
    (void)dup2(sock, 3); /* the test's files are none of our business */
    (void)close_range(4, ~0u, 0);
    (void)fcntl(3, F_SETFD, FD_CLOEXEC);
    scratch_hold(k->dir);
    if (k->uid != geteuid() && chown(k->dir, k->uid, k->gid) != 0)
        (void)keeper_says(k, "chown %s: %s", k->dir, strerror(errno)); /* initdb will fail */
}

_Noreturn void keeper_main(keeper *k, int sock)
{
    unsigned char wish;
    settle_in(k, sock);
    for (;;) {
        ssize_t n = recv(3, &wish, 1, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n != 1)
            break;
        keeper_answer a = {.ok = obey(k, (keeper_op)wish), .port = k->port};
        memcpy(a.error, k->error, sizeof a.error);
        (void)send(3, &a, sizeof a, MSG_NOSIGNAL);
    }
    if (k->pid)
        (void)end_by(k, k->kind->abandon, ABANDON_MS);
    procs_reap();
    if (k->kind->gone)
        k->kind->gone(k->dir);
    scratch_remove(k->dir);
    _exit(0);
}
