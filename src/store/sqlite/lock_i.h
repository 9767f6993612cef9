/* lock: who may write a database file. One writer a file over all processes (an OFD lock on the
 * inode) and inside this process (a registry by device and inode). */
#ifndef HK_SQLITE_LOCK_I_H
#define HK_SQLITE_LOCK_I_H

#include <hark/error.h>

#include <stdbool.h>
#include <sys/types.h>

typedef struct hk_file_lock {
    struct hk_file_lock *next;
    int fd; /* of the database itself: close it only after SQLite has closed every connection */
    dev_t dev;
    ino_t ino;
    pid_t pid;    /* a forked child sees its parent's entries: they aren't its own */
    bool created; /* the file wasn't there before and holds no log yet */
} hk_file_lock;

/* Creates the file if need be and takes the lock, before SQLite touches it. */
hark_err hk_file_lock_take(const char *path, bool existing, hk_file_lock **ret, hark_errinfo *ei);
/* Is `path` still the locked file? */
bool hk_file_lock_names(const hk_file_lock *l, const char *path);
/* Gives the lock back; removes a file that was made here and never became a log. NULL is fine. */
void hk_file_lock_drop(hk_file_lock *l, const char *path);

#endif
