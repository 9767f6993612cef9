/* Processes below another, found in /proc by the number of their parent: a server's children are in
 * sessions of their own, so that no signal to a group reaches them, and not every kernel lists children. */
#include "servers_i.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCS_MAX = 8192 };

typedef struct proc {
    pid_t pid, parent;
    char state; /* 'T' = stopped, 'Z' = ended */
} proc;

typedef struct table {
    size_t n;
    proc at[PROCS_MAX];
} table;

static bool read_proc(const char *pid, proc *ret)
{
    char path[64], line[512];
    int parent;
    (void)snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    bool got = fgets(line, sizeof line, f) != NULL;
    (void)fclose(f);
    const char *name_end = got ? strrchr(line, ')') : NULL; /* a name may have anything in it */
    if (!name_end || sscanf(name_end, ") %c %d", &ret->state, &parent) != 2)
        return false;
    ret->pid = (pid_t)strtol(pid, NULL, 10);
    ret->parent = (pid_t)parent;
    return true;
}

static table *look(void)
{
    table *t = calloc(1, sizeof *t);
    DIR *d = opendir("/proc");
    if (!t || !d)
        abort();
    for (const struct dirent *e; t->n < PROCS_MAX && (e = readdir(d));)
        if (isdigit((unsigned char)e->d_name[0]) && read_proc(e->d_name, &t->at[t->n]))
            t->n++;
    (void)closedir(d);
    return t;
}

static bool is_below(const table *t, pid_t pid, pid_t of)
{
    while (pid > 1 && pid != of) {
        size_t i = 0;
        while (i < t->n && t->at[i].pid != pid)
            i++;
        pid = i < t->n ? t->at[i].parent : 0;
    }
    return pid == of;
}

void procs_signal_children(pid_t of, int sig)
{
    table *t = look();
    for (size_t i = 0; i < t->n; i++)
        if (t->at[i].pid != of && t->at[i].state != 'Z' && is_below(t, t->at[i].pid, of))
            kill(t->at[i].pid, sig);
    free(t);
}

bool procs_all_stopped(pid_t of)
{
    bool all = true;
    table *t = look();
    for (size_t i = 0; i < t->n; i++)
        if (!strchr("TtZX", t->at[i].state) && is_below(t, t->at[i].pid, of))
            all = false;
    free(t);
    return all;
}

void procs_reap(void)
{
    for (;;) {
        procs_signal_children(getpid(), SIGKILL);
        pid_t pid = waitpid(-1, NULL, 0);
        if (pid < 0 && errno == ECHILD)
            return;
    }
}

bool procs_wait(pid_t pid, int ms)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd end = {.fd = fd, .events = POLLIN};
    if (fd < 0)
        return true;
    int n;
    do
        n = poll(&end, 1, ms);
    while (n < 0 && errno == EINTR);
    (void)close(fd);
    return n == 1;
}
