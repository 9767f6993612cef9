/* The VFS of crash_vfs.h. A file of ours is a small head with SQLite's own file behind it. */
#include "crash_vfs.h"

#include "kit.h"

#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

typedef struct file {
    sqlite3_file base;
    size_t number;
    const char *name; /* NULL: a temporary file, not followed */
    bool dir_due;     /* SQLite syncs the directory at the first sync of a file that it made */
} file;

/* Where a path leads now. */
typedef struct place {
    char *path;
    const char *name;
    size_t number;
    bool there;
} place;

static sqlite3_vfs vfs, *real;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    crash_op *ops;
    size_t n, cap, off_at, n_files, refused;
    int64_t room;
    bool hurry;
    place places[32];
    size_t n_places;
} disk = {.off_at = SIZE_MAX, .room = -1};

static size_t head_size(void)
{
    return (sizeof(file) + 15) & ~(size_t)15;
}

static sqlite3_file *behind(sqlite3_file *f)
{
    return (sqlite3_file *)(void *)((char *)f + head_size());
}

static file *ours(sqlite3_file *f)
{
    return (file *)(void *)f;
}

/* ---- the list ---- */

static bool off_locked(void)
{
    return disk.n >= disk.off_at;
}

static void note_locked(crash_op op, const void *data)
{
    if (disk.n == disk.cap) {
        disk.cap = disk.cap ? disk.cap * 2 : 4096;
        disk.ops = realloc(disk.ops, disk.cap * sizeof *disk.ops);
        KIT_CHECK(disk.ops != NULL, "out of memory");
    }
    if (op.len > 0) {
        op.data = malloc(op.len);
        KIT_CHECK(op.data != NULL, "out of memory");
        memcpy(op.data, data, op.len);
    }
    disk.ops[disk.n++] = op;
}

static place *place_locked(const char *path)
{
    for (size_t i = 0; i < disk.n_places; i++)
        if (strcmp(disk.places[i].path, path) == 0)
            return &disk.places[i];
    KIT_CHECK(disk.n_places < sizeof disk.places / sizeof *disk.places, "too many files");
    place *p = &disk.places[disk.n_places++];
    p->path = strdup(path);
    KIT_CHECK(p->path != NULL, "out of memory");
    const char *slash = strrchr(p->path, '/');
    p->name = slash ? slash + 1 : p->path;
    return p;
}

/* ---- a file's methods ---- */

static int do_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at)
{
    sqlite3_int64 size = 0;
    (void)behind(f)->pMethods->xFileSize(behind(f), &size);
    int64_t more = at + n > size ? at + n - size : 0;
    if (disk.room >= 0 && more > disk.room) {
        disk.refused++;
        return SQLITE_FULL;
    }
    int rc = behind(f)->pMethods->xWrite(behind(f), data, n, at);
    if (rc == SQLITE_OK && disk.room >= 0)
        disk.room -= more;
    if (rc == SQLITE_OK)
        note_locked((crash_op){.kind = CRASH_WRITE,
                               .file = ours(f)->number,
                               .name = ours(f)->name,
                               .at = at,
                               .len = (size_t)n},
                    data);
    return rc;
}

static int file_write(sqlite3_file *f, const void *data, int n, sqlite3_int64 at)
{
    if (!ours(f)->name)
        return behind(f)->pMethods->xWrite(behind(f), data, n, at);
    pthread_mutex_lock(&lock);
    int rc = off_locked() ? SQLITE_IOERR_WRITE : do_write(f, data, n, at);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int file_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    if (!ours(f)->name)
        return behind(f)->pMethods->xTruncate(behind(f), size);
    pthread_mutex_lock(&lock);
    int rc = off_locked() ? SQLITE_IOERR_TRUNCATE : behind(f)->pMethods->xTruncate(behind(f), size);
    if (rc == SQLITE_OK)
        note_locked(
            (crash_op){
                .kind = CRASH_TRUNCATE, .file = ours(f)->number, .name = ours(f)->name, .at = size},
            NULL);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int file_sync(sqlite3_file *f, int flags)
{
    (void)flags;
    if (!ours(f)->name)
        return SQLITE_OK;
    pthread_mutex_lock(&lock);
    int rc = off_locked() ? SQLITE_IOERR_FSYNC : SQLITE_OK; /* the real disk is not bothered */
    if (rc == SQLITE_OK) {
        note_locked((crash_op){.kind = CRASH_SYNC,
                               .file = ours(f)->number,
                               .name = ours(f)->name,
                               .dir = ours(f)->dir_due},
                    NULL);
        ours(f)->dir_due = false;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static int file_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 at)
{
    pthread_mutex_lock(&lock);
    bool off = off_locked();
    pthread_mutex_unlock(&lock);
    return off ? SQLITE_IOERR_READ : behind(f)->pMethods->xRead(behind(f), buf, n, at);
}

static int file_close(sqlite3_file *f)
{
    return behind(f)->pMethods->xClose(behind(f));
}

static int file_size(sqlite3_file *f, sqlite3_int64 *ret)
{
    return behind(f)->pMethods->xFileSize(behind(f), ret);
}

static int file_lock(sqlite3_file *f, int level)
{
    return behind(f)->pMethods->xLock(behind(f), level);
}

static int file_unlock(sqlite3_file *f, int level)
{
    return behind(f)->pMethods->xUnlock(behind(f), level);
}

static int file_reserved(sqlite3_file *f, int *ret)
{
    return behind(f)->pMethods->xCheckReservedLock(behind(f), ret);
}

static int file_control(sqlite3_file *f, int what, void *arg)
{
    return behind(f)->pMethods->xFileControl(behind(f), what, arg);
}

static int file_sector(sqlite3_file *f)
{
    return behind(f)->pMethods->xSectorSize(behind(f));
}

static int file_nature(sqlite3_file *f)
{
    return behind(f)->pMethods->xDeviceCharacteristics(behind(f));
}

static int shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **ret)
{
    return behind(f)->pMethods->xShmMap(behind(f), page, size, extend, ret);
}

static int shm_lock(sqlite3_file *f, int at, int n, int flags)
{
    return behind(f)->pMethods->xShmLock(behind(f), at, n, flags);
}

static void shm_barrier(sqlite3_file *f)
{
    behind(f)->pMethods->xShmBarrier(behind(f));
}

static int shm_unmap(sqlite3_file *f, int remove)
{
    return behind(f)->pMethods->xShmUnmap(behind(f), remove);
}

static int file_fetch(sqlite3_file *f, sqlite3_int64 at, int n, void **ret)
{
    (void)f;
    (void)at;
    (void)n;
    *ret = NULL; /* no memory maps: all goes through here */
    return SQLITE_OK;
}

static int file_unfetch(sqlite3_file *f, sqlite3_int64 at, void *p)
{
    (void)f;
    (void)at;
    (void)p;
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {.iVersion = 3,
                                           .xClose = file_close,
                                           .xRead = file_read,
                                           .xWrite = file_write,
                                           .xTruncate = file_truncate,
                                           .xSync = file_sync,
                                           .xFileSize = file_size,
                                           .xLock = file_lock,
                                           .xUnlock = file_unlock,
                                           .xCheckReservedLock = file_reserved,
                                           .xFileControl = file_control,
                                           .xSectorSize = file_sector,
                                           .xDeviceCharacteristics = file_nature,
                                           .xShmMap = shm_map,
                                           .xShmLock = shm_lock,
                                           .xShmBarrier = shm_barrier,
                                           .xShmUnmap = shm_unmap,
                                           .xFetch = file_fetch,
                                           .xUnfetch = file_unfetch};

/* ---- names ---- */

/* A file that has something in it was there before; an empty one was made just now. */
static void note_new_locked(place *p)
{
    size_t len = 0;
    char *all = kit_slurp(p->path, &len);
    p->number = disk.n_files++;
    p->there = true;
    note_locked(
        (crash_op){
            .kind = CRASH_CREATE, .file = p->number, .name = p->name, .dir = len > 0, .len = len},
        all);
    free(all);
}

static int open_locked(const char *path, sqlite3_file *f, int flags, int *ret_flags)
{
    int rc = real->xOpen(real, path, behind(f), flags, ret_flags);
    if (rc != SQLITE_OK)
        return rc;
    if (path && !disk.hurry) {
        place *p = place_locked(path);
        if (!p->there)
            note_new_locked(p);
        ours(f)->number = p->number;
        ours(f)->name = p->name;
        ours(f)->dir_due =
            (flags & SQLITE_OPEN_CREATE) != 0 &&
            (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_SUPER_JOURNAL)) != 0;
    }
    f->pMethods = &methods;
    return rc;
}

static int vfs_open(sqlite3_vfs *v, const char *path, sqlite3_file *f, int flags, int *ret_flags)
{
    (void)v;
    memset(f, 0, sizeof(file));
    pthread_mutex_lock(&lock);
    int rc = off_locked() ? SQLITE_CANTOPEN : open_locked(path, f, flags, ret_flags);
    pthread_mutex_unlock(&lock);
    return rc;
}

static int vfs_delete(sqlite3_vfs *v, const char *path, int sync_dir)
{
    (void)v;
    pthread_mutex_lock(&lock);
    int rc = off_locked() ? SQLITE_IOERR_DELETE : real->xDelete(real, path, 0);
    if (rc == SQLITE_OK && !disk.hurry) {
        place *p = place_locked(path);
        if (p->there)
            note_locked(
                (crash_op){
                    .kind = CRASH_DELETE, .file = p->number, .name = p->name, .dir = sync_dir != 0},
                NULL);
        p->there = false;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- for tests ---- */

static void forget(void)
{
    for (size_t i = 0; i < disk.n; i++)
        free(disk.ops[i].data);
    for (size_t i = 0; i < disk.n_places; i++)
        free(disk.places[i].path);
    free(disk.ops);
    memset(&disk, 0, sizeof disk);
    disk.off_at = SIZE_MAX;
    disk.room = -1;
}

static void turn_on(bool hurry)
{
    KIT_CHECK(sqlite3_initialize() == SQLITE_OK, "SQLite does not start");
    if (!hurry)
        forget();
    disk.hurry = hurry;
    disk.off_at = SIZE_MAX;
    real = sqlite3_vfs_find("unix");
    vfs = *real;
    vfs.zName = "crash";
    vfs.szOsFile = (int)head_size() + real->szOsFile;
    vfs.xOpen = vfs_open;
    vfs.xDelete = vfs_delete;
    KIT_CHECK(sqlite3_vfs_register(&vfs, 1) == SQLITE_OK, "no VFS");
}

void crash_vfs_on(void)
{
    turn_on(false);
}

void crash_vfs_hurry(void)
{
    turn_on(true);
}

void crash_vfs_off(void)
{
    sqlite3_vfs_unregister(&vfs);
    KIT_CHECK(sqlite3_vfs_register(real, 1) == SQLITE_OK, "no VFS");
}

size_t crash_ops(void)
{
    pthread_mutex_lock(&lock);
    size_t n = disk.n;
    pthread_mutex_unlock(&lock);
    return n;
}

const crash_op *crash_op_get(size_t i)
{
    return &disk.ops[i];
}

void crash_power_fails_at(size_t op)
{
    pthread_mutex_lock(&lock);
    disk.off_at = op;
    pthread_mutex_unlock(&lock);
}

void crash_room(int64_t bytes)
{
    pthread_mutex_lock(&lock);
    disk.room = bytes;
    pthread_mutex_unlock(&lock);
}

size_t crash_refused(void)
{
    pthread_mutex_lock(&lock);
    size_t n = disk.refused;
    pthread_mutex_unlock(&lock);
    return n;
}
