/* full: preloaded into a server, so that its disk can be full. While there is a file "full" in the
 * server's scratch directory (its HOME), no file becomes longer: ENOSPC. What rewrites a file in place
 * goes on, as on a disk. Standard error is left out: it is the server's log, which tests look at. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))

/* Under the names that libc has for them, whatever this file's own off_t is. */
PUBLIC ssize_t full_write(int fd, const void *p, size_t n) __asm__("write");
PUBLIC ssize_t full_writev(int fd, const struct iovec *v, int n) __asm__("writev");
PUBLIC ssize_t full_pwrite(int fd, const void *p, size_t n, off_t at) __asm__("pwrite");
PUBLIC ssize_t full_pwrite64(int fd, const void *p, size_t n, off_t at) __asm__("pwrite64");
PUBLIC ssize_t full_pwritev(int fd, const struct iovec *v, int n, off_t at) __asm__("pwritev");
PUBLIC ssize_t full_pwritev64(int fd, const struct iovec *v, int n, off_t at) __asm__("pwritev64");
PUBLIC int full_posix_fallocate(int fd, off_t at, off_t n) __asm__("posix_fallocate");
PUBLIC int full_posix_fallocate64(int fd, off_t at, off_t n) __asm__("posix_fallocate64");

static char flag[128]; /* the file's path */

__attribute__((constructor)) static void find_flag(void)
{
    const char *home = getenv("HOME");
    (void)snprintf(flag, sizeof flag, "%.100s/full", home ? home : "/nowhere");
}

/* Writing n bytes at a place makes the file longer, and the disk is full; at < 0: where it stands. */
static bool no_room(int fd, off_t at, size_t n)
{
    struct stat st;
    if (fd <= STDERR_FILENO || syscall(SYS_access, flag, F_OK) != 0 || fstat(fd, &st) != 0 ||
        !S_ISREG(st.st_mode))
        return false;
    if (at < 0)
        at = fcntl(fd, F_GETFL) & O_APPEND ? st.st_size : lseek(fd, 0, SEEK_CUR);
    return at + (off_t)n > st.st_size;
}

static size_t length(const struct iovec *v, int n)
{
    size_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += v[i].iov_len;
    return sum;
}

static ssize_t refuse(void)
{
    errno = ENOSPC;
    return -1;
}

ssize_t full_write(int fd, const void *p, size_t n)
{
    return no_room(fd, -1, n) ? refuse() : (ssize_t)syscall(SYS_write, fd, p, n);
}

ssize_t full_writev(int fd, const struct iovec *v, int n)
{
    return no_room(fd, -1, length(v, n)) ? refuse() : (ssize_t)syscall(SYS_writev, fd, v, n);
}

ssize_t full_pwrite(int fd, const void *p, size_t n, off_t at)
{
    return no_room(fd, at, n) ? refuse() : (ssize_t)syscall(SYS_pwrite64, fd, p, n, at);
}

ssize_t full_pwrite64(int fd, const void *p, size_t n, off_t at)
{
    return full_pwrite(fd, p, n, at);
}

ssize_t full_pwritev(int fd, const struct iovec *v, int n, off_t at)
{
    return no_room(fd, at, length(v, n)) ? refuse()
                                         : (ssize_t)syscall(SYS_pwritev, fd, v, n, (long)at, 0L);
}

ssize_t full_pwritev64(int fd, const struct iovec *v, int n, off_t at)
{
    return full_pwritev(fd, v, n, at);
}

int full_posix_fallocate(int fd, off_t at, off_t n)
{
    if (no_room(fd, at, (size_t)n))
        return ENOSPC;
    return syscall(SYS_fallocate, fd, 0, at, n) == 0 ? 0 : errno;
}

int full_posix_fallocate64(int fd, off_t at, off_t n)
{
    return full_posix_fallocate(fd, at, n);
}
