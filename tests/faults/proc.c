/* Programs that a test starts: their output, their end, their death. See kit.h. */
#include "kit.h"

#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void become(const char *const *argv, const kit_how *how, int out, int err)
{
    const char *dir = how && how->in_dir ? how->in_dir : kit_dir();
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGHUP, SIG_DFL); /* the tests themselves may run under nohup */
    if (how && how->no_override)
        (void)prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0);
    if (dup2(out, STDOUT_FILENO) < 0 || dup2(err, STDERR_FILENO) < 0 || chdir(dir) != 0)
        _exit(126);
    union {
        const char *const *given;
        char *const *taken;
    } args = {.given = argv};
    execv(argv[0], args.taken);
    _exit(127);
}

kit_proc kit_start(const char *const *argv, const kit_how *how)
{
    int out[2], err[2] = {-1, -1};
    if (how && how->err_path)
        err[1] = open(how->err_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    else
        KIT_CHECK(pipe2(err, O_CLOEXEC) == 0, "pipe: %s", strerror(errno));
    KIT_CHECK(pipe2(out, O_CLOEXEC) == 0 && err[1] >= 0, "pipe: %s", strerror(errno));
    kit_proc p = {.pid = fork(), .out = out[0], .err = err[0]};
    KIT_CHECK(p.pid >= 0, "fork: %s", strerror(errno));
    if (p.pid == 0)
        become(argv, how, out[1], err[1]);
    close(out[1]);
    close(err[1]);
    return p;
}

static int reap(kit_proc *p)
{
    int status = 0;
    KIT_CHECK(waitpid(p->pid, &status, 0) == p->pid, "waitpid: %s", strerror(errno));
    p->pid = -1;
    if (p->out >= 0)
        close(p->out);
    if (p->err >= 0)
        close(p->err);
    p->out = p->err = -1;
    return status;
}

int kit_wait(kit_proc *p, int64_t ms)
{
    int fd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    struct pollfd end = {.fd = fd, .events = POLLIN};
    KIT_CHECK(fd >= 0, "pidfd_open: %s", strerror(errno));
    KIT_CHECK(poll(&end, 1, (int)ms) == 1, "process %d did not end within %lld ms", (int)p->pid,
              (long long)ms);
    close(fd);
    return reap(p);
}

void kit_kill(kit_proc *p)
{
    kill(p->pid, SIGKILL);
    (void)reap(p);
}

bool kit_exited(int status, int code)
{
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

/* ---- output ---- */

/* Reads what is there; false at the end. What does not fit is dropped. */
static bool collect(int fd, char *buf, size_t size, size_t *len)
{
    char chunk[4096];
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0)
        return errno == EINTR || errno == EAGAIN;
    size_t room = size - 1 - *len, take = (size_t)n < room ? (size_t)n : room;
    memcpy(buf + *len, chunk, take);
    *len += take;
    buf[*len] = '\0';
    return n > 0;
}

void kit_finish(kit_proc *p, kit_output *ret)
{
    size_t out = 0, err = 0;
    int64_t end = kit_ms() + KIT_HUNG_MS;
    struct pollfd fds[2] = {{.fd = p->out, .events = POLLIN}, {.fd = p->err, .events = POLLIN}};
    ret->out[0] = ret->err[0] = '\0';
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        int64_t left = end - kit_ms();
        KIT_CHECK(left > 0 && poll(fds, 2, (int)left) > 0, "a program hangs; it said so far:\n%s%s",
                  ret->out, ret->err);
        if (fds[0].revents && !collect(p->out, ret->out, sizeof ret->out, &out))
            fds[0].fd = -1;
        if (fds[1].revents && !collect(p->err, ret->err, sizeof ret->err, &err))
            fds[1].fd = -1;
    }
    ret->status = kit_wait(p, KIT_HUNG_MS);
}

void kit_run(const char *const *argv, const kit_how *how, kit_output *ret)
{
    kit_proc p = kit_start(argv, how);
    kit_finish(&p, ret);
}

bool kit_read_lines(kit_lines *l, int fd, void (*take)(void *ud, const char *line), void *ud)
{
    char buf[32768];
    ssize_t n = read(fd, buf, sizeof buf);
    for (ssize_t i = 0; i < n; i++) {
        l->line[l->n++] = buf[i];
        KIT_CHECK(l->n < sizeof l->line, "an endless line");
        if (buf[i] != '\n')
            continue;
        l->line[l->n - 1] = '\0';
        l->n = 0;
        take(ud, l->line);
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

kit_proc kit_quickstart(const char *program, const char *store, const char *err_path, int *ret_port)
{
    const char *argv[] = {program, "--listen", "127.0.0.1:0", "--store", store, NULL};
    kit_proc p = kit_start(argv, &(kit_how){.err_path = err_path});
    char line[1024];
    size_t len = 0;
    for (*ret_port = 0; *ret_port == 0;) {
        struct pollfd ready = {.fd = p.out, .events = POLLIN};
        KIT_CHECK(poll(&ready, 1, KIT_HUNG_MS) == 1, "quickstart does not start");
        /* byte by byte, so that what follows the line stays in the pipe */
        if (len == sizeof line - 1 || read(p.out, line + len, 1) != 1)
            kit_fail("quickstart did not start: %s", kit_slurp(err_path, NULL));
        if (line[len++] != '\n')
            continue;
        line[len - 1] = '\0';
        len = 0;
        (void)sscanf(line, "listening on port %d,", ret_port);
    }
    return p;
}

void kit_stop(kit_proc *p, int port)
{
    static kit_output output;
    static reply r;
    client_do(port, "GET", "/", "", "", &r);
    KIT_CHECK(r.status == 404, "GET /: %d", r.status);
    kill(p->pid, SIGTERM);
    kit_finish(p, &output);
    KIT_CHECK(kit_exited(output.status, 0), "SIGTERM: wait status %d: %s", output.status,
              output.err);
}
