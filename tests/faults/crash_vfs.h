/* crash_vfs: SQLite's files on a disk that can lose its power or be full. It stands before SQLite's
 * own VFS: all work is done on real files as usual, and every write, cut, sync, removal and new name
 * is also kept in a list. From that list crash_disk makes what a disk may hold when the power fails
 * at any moment of it. Shared memory (-shm) is passed on: it never reaches a disk. */
#ifndef HK_FAULTS_CRASH_VFS_H
#define HK_FAULTS_CRASH_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum crash_kind {
    CRASH_CREATE,   /* a name for a new file; `data` is what was in it, if it was there already */
    CRASH_WRITE,    /* `len` bytes at `at` */
    CRASH_TRUNCATE, /* to `at` bytes */
    CRASH_SYNC,
    CRASH_DELETE /* of the name */
} crash_kind;

typedef struct crash_op {
    crash_kind kind;
    size_t file;      /* its number */
    const char *name; /* without directory */
    bool dir;         /* SYNC, DELETE: the directory was synced too; CREATE: it was there already */
    int64_t at;
    size_t len;
    unsigned char *data;
} crash_op;

/* The default VFS from now on, with an empty list; and no longer. The list stays until the next
 * crash_vfs_on. No file may be open. */
void crash_vfs_on(void);
void crash_vfs_off(void);
/* A default VFS that notes nothing (the list stays as it is) and leaves out syncs: SQLite's own, but
 * faster, for what is not under test. */
void crash_vfs_hurry(void);

size_t crash_ops(void); /* how many there are; any thread */
const crash_op *crash_op_get(size_t i);
/* The power fails before the operation of this number: that and all after it fail. SIZE_MAX = never. */
void crash_power_fails_at(size_t op);
/* Bytes by which files may still grow, then writes get SQLITE_FULL; -1 = no limit. */
void crash_room(int64_t bytes);
size_t crash_refused(void); /* writes refused for want of room so far */

/* How a disk behaves that loses power: what becomes of the writes since the last sync. */
typedef enum crash_way {
    CRASH_NONE,    /* lost, all of them */
    CRASH_ALL,     /* there */
    CRASH_PREFIX,  /* the first so many */
    CRASH_SOME,    /* any of them */
    CRASH_TORN,    /* any sectors of 512 bytes of any of them: torn, and in any order */
    CRASH_PAGES,   /* the same with 4096 bytes */
    CRASH_GARBAGE, /* as CRASH_TORN, but where a sector is lost there may be anything */
    CRASH_WAYS
} crash_way;

typedef struct crash_disk crash_disk;
crash_disk *crash_disk_new(void);
void crash_disk_free(crash_disk *d);
/* Makes in `dir` the files as a disk may hold them when the power fails before operation `op`. One
 * disk only goes forward: `op` must not be less than last time. */
void crash_disk_write(crash_disk *d, size_t op, crash_way way, uint64_t seed, const char *dir);

#endif
