/* iocount: see iocount.h. A sync costs a hundred times as much as the look at the file's name. */
#include "iocount.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_ullong syncs, db_syncs, bytes, wal_bytes, wal_starts;

#define SEEN_BY_LIBRARIES __attribute__((visibility("default")))

SEEN_BY_LIBRARIES int fsync(int fd);
SEEN_BY_LIBRARIES int fdatasync(int fd);
/* Named by label: with 64-bit file offsets the headers give pwrite the symbol of pwrite64. */
SEEN_BY_LIBRARIES ssize_t counted_pwrite(int fd, const void *data, size_t n,
                                         int64_t at) __asm__("pwrite");
SEEN_BY_LIBRARIES ssize_t counted_pwrite64(int fd, const void *data, size_t n,
                                           int64_t at) __asm__("pwrite64");

static bool is_wal(int fd)
{
    char link[32], path[4096];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path));
    return n > 4 && memcmp(path + n - 4, "-wal", 4) == 0;
}

static void count_sync(int fd)
{
    atomic_fetch_add(&syncs, 1);
    if (!is_wal(fd))
        atomic_fetch_add(&db_syncs, 1);
}

int fsync(int fd)
{
    count_sync(fd);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    count_sync(fd);
    return (int)syscall(SYS_fdatasync, fd);
}

/* The name of the file is looked up once for each descriptor number in a row of writes. */
static ssize_t write_at(int fd, const void *data, size_t n, int64_t at)
{
    static _Thread_local int last_fd = -1;
    static _Thread_local bool last_is_wal;
    if (fd != last_fd) {
        last_fd = fd;
        last_is_wal = is_wal(fd);
    }
    ssize_t done = (ssize_t)syscall(SYS_pwrite64, fd, data, n, at);
    if (done > 0) {
        atomic_fetch_add_explicit(&bytes, (unsigned long long)done, memory_order_relaxed);
        if (last_is_wal)
            atomic_fetch_add_explicit(&wal_bytes, (unsigned long long)done, memory_order_relaxed);
        if (last_is_wal && at == 0)
            atomic_fetch_add(&wal_starts, 1);
    }
    return done;
}

ssize_t counted_pwrite(int fd, const void *data, size_t n, int64_t at)
{
    return write_at(fd, data, n, at);
}

ssize_t counted_pwrite64(int fd, const void *data, size_t n, int64_t at)
{
    return write_at(fd, data, n, at);
}

iocount iocount_now(void)
{
    return (iocount){.syncs = syncs,
                     .db_syncs = db_syncs,
                     .bytes = bytes,
                     .wal_bytes = wal_bytes,
                     .wal_starts = wal_starts};
}

uint64_t iocount_commits(iocount from, iocount to)
{
    uint64_t all = to.syncs - from.syncs, db = to.db_syncs - from.db_syncs;
    uint64_t others = 2 * db + to.wal_starts - from.wal_starts;
    return all > others ? all - others : 0;
}
