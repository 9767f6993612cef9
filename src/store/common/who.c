/* who: a process as a text that others on the same machine can judge by: the boot of the machine, the namespace its number
 * is of, the number, and when it started, since numbers are used again. "Dead" is only said when it is certain; what cannot
 * be read, or is of another machine or container, is not. */
#include "store/common/common.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORD = 64 };

typedef struct who {
    char boot[WORD], space[WORD];
    long pid;
    unsigned long long started; /* clock ticks since the boot */
} who;

/* The beginning of a file, up to its first newline. */
static bool read_line(const char *path, char *ret, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, ret, cap - 1);
    if (fd >= 0)
        (void)close(fd);
    if (n <= 0)
        return false;
    ret[n] = '\0';
    ret[strcspn(ret, "\n")] = '\0';
    return true;
}

static bool read_link(const char *path, char *ret, size_t cap)
{
    ssize_t n = readlink(path, ret, cap - 1);
    if (n <= 0 || (size_t)n == cap - 1)
        return false;
    ret[n] = '\0';
    return true;
}

typedef struct stat_line {
    char state;
    unsigned long long started;
    long threads;
} stat_line;

/* The name in it, in parentheses, may have any character. */
static bool read_stat(long pid, stat_line *ret)
{
    char path[48], line[1024];
    (void)snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    if (!read_line(path, line, sizeof line))
        return false;
    const char *s = strrchr(line, ')');
    if (!s || s[1] != ' ')
        return false;
    s += 2;
    ret->state = *s;
    for (int field = 3; field < 22; field++) { /* as proc(5) counts them */
        if (field == 20)
            ret->threads = strtol(s, NULL, 10);
        s = strchr(s, ' ');
        if (!s)
            return false;
        s++;
    }
    ret->started = strtoull(s, NULL, 10);
    return true;
}

/* /proc may be of another namespace than we are: then it tells of others under our numbers. */
static bool proc_is_ours(void)
{
    char self[WORD];
    return read_link("/proc/self", self, sizeof self) && strtol(self, NULL, 10) == (long)getpid();
}

static bool read_self(who *ret)
{
    stat_line st = {0};
    ret->pid = (long)getpid();
    if (!proc_is_ours() || !read_stat(ret->pid, &st))
        return false;
    ret->started = st.started;
    return read_line("/proc/sys/kernel/random/boot_id", ret->boot, sizeof ret->boot) &&
           read_link("/proc/self/ns/pid", ret->space, sizeof ret->space);
}

void hk_who_self(char ret[HK_WHO_MAX])
{
    who w = {.pid = 0};
    if (read_self(&w))
        (void)snprintf(ret, HK_WHO_MAX, "%s %s %ld %llu", w.boot, w.space, w.pid, w.started);
    else
        (void)snprintf(ret, HK_WHO_MAX, "? ? %ld 0", (long)getpid());
}

bool hk_who_is_dead(const char *text)
{
    who self = {.pid = 0}, w = {.pid = 0};
    stat_line st = {0};
    if (sscanf(text, "%63s %63s %ld %llu", w.boot, w.space, &w.pid, &w.started) != 4 || w.pid <= 0)
        return false;
    if (!read_self(&self) || strcmp(self.boot, w.boot) != 0 || strcmp(self.space, w.space) != 0)
        return false;
    if (kill((pid_t)w.pid, 0) != 0 && errno == ESRCH)
        return true;
    if (!read_stat(w.pid, &st))
        return false;
    /* one that has ended and waits for its parent; its first thread may end before others do */
    bool ended = st.state == 'X' || (st.state == 'Z' && st.threads <= 1);
    return ended || st.started != w.started;
}
