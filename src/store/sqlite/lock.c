/* Keeps a second writer away from a database file.
 *
 * The lock is an open-file-description lock on the inode, so symbolic links, hard links and bind
 * mounts all lead to it. It starts at LOCK_START, far beyond the largest database SQLite can make
 * (2^48 bytes) and so beyond SQLite's own lock bytes at 2^30; its length is 1 + the holder's pid:
 * every holder's range begins with the same byte, and whoever is refused reads the pid from the
 * length of the lock in its way. Nothing is written, so nothing is left over after a crash.
 *
 * Closing any descriptor of a file drops the process's POSIX locks on it, and SQLite's are such
 * locks. Therefore a second open in this process is found before anything is opened, and a
 * descriptor that turns out to be of a file in use is never closed. */
#include "store/sqlite/lock_i.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LOCK_START ((off_t)0x6861726b00000000) /* "hark" */

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static hk_file_lock *registry;

static bool registered_locked(const struct stat *st)
{
    for (const hk_file_lock *l = registry; l; l = l->next)
        if (l->dev == st->st_dev && l->ino == st->st_ino && l->pid == getpid())
            return true;
    return false;
}

static hark_err open_twice(const char *path, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_EEXIST,
                   "%s is open in this process already; share that bus instead of opening another",
                   path);
}

static hark_err refuse_kind(const char *path, const struct stat *st, hark_errinfo *ei)
{
    if (S_ISDIR(st->st_mode))
        return hk_fail(ei, HARK_EINVAL, "%s is a directory; name a file in it, e.g. %s/hark.db",
                       path, path);
    if (!S_ISREG(st->st_mode))
        return hk_fail(ei, HARK_EINVAL, "%s is not a regular file; name another path", path);
    return HARK_OK;
}

static hark_err open_failed(const char *path, int err, hark_errinfo *ei)
{
    const char *mend = "check the path";
    if (err == ENOENT || err == ENOTDIR)
        mend = "create its directory first";
    else if (err == EACCES || err == EPERM)
        mend = "give this user the right to write the file and its directory";
    else if (err == EROFS)
        mend = "choose a path on a file system that is mounted for writing";
    else if (err == ENOSPC || err == EDQUOT)
        mend = "free some space";
    return hk_fail(ei, HARK_ESYS, "cannot open %s for writing: %s; %s", path, strerror(err), mend);
}

/* Opens the file, makes it if it may, and says whether it did. */
static int open_or_create(const char *path, bool existing, bool *ret_created)
{
    *ret_created = false;
    if (existing)
        return open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0644);
    *ret_created = fd >= 0;
    if (fd < 0 && errno == EEXIST)
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0644);
    return fd;
}

/* SQLite's write-ahead log needs memory shared by all who use the file: not over a network. */
static hark_err refuse_network(int fd, const char *path, hark_errinfo *ei)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } remote[] = {{0x6969, "NFS"},      {0x517b, "SMB"},      {0xff534d42, "CIFS"},
                  {0xfe534d42, "SMB2"}, {0x5346414f, "AFS"},  {0x01021997, "9P"},
                  {0x00c36400, "Ceph"}, {0x73757245, "Coda"}, {0x0bd00bd0, "Lustre"},
                  {0x47504653, "GPFS"}, {0x01161970, "GFS2"}, {0x7461636f, "OCFS2"}};
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0)
        return HARK_OK;
    for (size_t i = 0; i < HK_COUNTOF(remote); i++)
        if (((unsigned long)fs.f_type & 0xffffffffUL) == remote[i].magic)
            return hk_fail(ei, HARK_EINVAL,
                           "%s is on a network file system (%s), where a database can be damaged; "
                           "choose a local disk, or a shared store",
                           path, remote[i].name);
    return HARK_OK;
}

/* The pid of the process whose lock is in the way; 0 when it has just gone. */
static long holder_pid(int fd)
{
    struct flock other = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_START, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &other) != 0 || other.l_type == F_UNLCK)
        return 0;
    return (long)(other.l_len - 1);
}

static hark_err lock_file(int fd, const char *path, hark_errinfo *ei)
{
    struct flock mine = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = LOCK_START,
                         .l_len = 1 + (off_t)getpid()};
    if (fcntl(fd, F_OFD_SETLK, &mine) == 0)
        return HARK_OK;
    int err = errno;
    if (err != EAGAIN && err != EACCES)
        return hk_fail(ei, HARK_ESYS, "cannot lock %s: %s; choose a path on a local disk", path,
                       strerror(err));
    return hk_fail(ei, HARK_ELOCKED,
                   "%s is written by process %ld; one process writes a log: stop that one, or "
                   "publish through it",
                   path, holder_pid(fd));
}

bool hk_file_lock_names(const hk_file_lock *l, const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino;
}

/* With the lock held: is this file a safe home for a log? */
static hark_err check_locked_file(const hk_file_lock *l, const char *path, bool existing,
                                  hark_errinfo *ei)
{
    struct stat st;
    if (fstat(l->fd, &st) != 0)
        return hk_fail(ei, HARK_ESYS, "cannot examine %s: %s; try again", path, strerror(errno));
    if (!hk_file_lock_names(l, path))
        return hk_fail(ei, HARK_ESYS, "%s was replaced while it was being opened; try again", path);
    if (existing && st.st_size == 0)
        return hk_fail(ei, HARK_ENOTFOUND, "%s is empty, there is no log in it; name another path",
                       path);
    if (st.st_size == 1) /* SQLite takes such a file for an empty one and would overwrite it */
        return hk_fail(ei, HARK_EFORMAT,
                       "%s is not a database; name another path, or move the file away", path);
    if (st.st_nlink > 1)
        return hk_fail(ei, HARK_EINVAL,
                       "%s has %lu names (hard links), and SQLite finds its write-ahead log by "
                       "name; keep only one of them",
                       path, (unsigned long)st.st_nlink);
    return HARK_OK;
}

static hark_err fill_locked(hk_file_lock *l, const char *path, bool existing, hark_errinfo *ei)
{
    struct stat st;
    if (stat(path, &st) == 0) {
        if (registered_locked(&st))
            return open_twice(path, ei);
        hark_err err = refuse_kind(path, &st, ei);
        if (err)
            return err;
    }
    l->fd = open_or_create(path, existing, &l->created);
    if (l->fd < 0 && existing && errno == ENOENT)
        return hk_fail(ei, HARK_ENOTFOUND, "there is no %s; name the log's file", path);
    if (l->fd < 0)
        return open_failed(path, errno, ei);
    if (fstat(l->fd, &st) != 0)
        return hk_fail(ei, HARK_ESYS, "cannot examine %s: %s; try again", path, strerror(errno));
    l->dev = st.st_dev;
    l->ino = st.st_ino;
    l->pid = getpid();
    if (registered_locked(&st)) {
        l->fd = -1; /* the path was turned to a file in use: see the top about closing it */
        return open_twice(path, ei);
    }
    hark_err err = refuse_kind(path, &st, ei);
    if (!err)
        err = refuse_network(l->fd, path, ei);
    if (err)
        return err;
    err = lock_file(l->fd, path, ei);
    if (err) {
        l->created = false; /* whoever was faster owns the file now */
        return err;
    }
    return check_locked_file(l, path, existing, ei);
}

static void close_lock(hk_file_lock *l, const char *path)
{
    if (l->fd < 0)
        return;
    if (l->created && hk_file_lock_names(l, path))
        (void)unlink(path);
    close(l->fd);
}

hark_err hk_file_lock_take(const char *path, bool existing, hk_file_lock **ret, hark_errinfo *ei)
{
    hk_file_lock *l = calloc(1, sizeof *l);
    if (!l)
        return hk_fail(ei, HARK_ENOMEM, "no memory to open %s", path);
    l->fd = -1;
    pthread_mutex_lock(&registry_lock);
    hark_err err = fill_locked(l, path, existing, ei);
    if (!err) {
        l->next = registry;
        registry = l;
        *ret = l;
    } else {
        close_lock(l, path);
        free(l);
    }
    pthread_mutex_unlock(&registry_lock);
    return err;
}

void hk_file_lock_drop(hk_file_lock *l, const char *path)
{
    if (!l)
        return;
    pthread_mutex_lock(&registry_lock);
    for (hk_file_lock **p = &registry; *p; p = &(*p)->next)
        if (*p == l) {
            *p = l->next;
            break;
        }
    close_lock(l, path);
    pthread_mutex_unlock(&registry_lock);
    free(l);
}
