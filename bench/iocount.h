/* iocount: counts what the process syncs and writes, by standing before libc's calls. Linked into
 * a program, it also sees the calls of shared libraries such as SQLite.
 */
#ifndef BENCH_IOCOUNT_H
#define BENCH_IOCOUNT_H

#include <stdint.h>

typedef struct iocount {
    uint64_t syncs;      /* fsync and fdatasync, all files */
    uint64_t db_syncs;   /* of them of files that are no WAL: one a checkpoint */
    uint64_t bytes;      /* written by pwrite */
    uint64_t wal_bytes;  /* of them to files named *-wal */
    uint64_t wal_starts; /* times that a WAL was begun anew */
} iocount;

iocount iocount_now(void);

/* Commits between two counts: all syncs but those of a checkpoint (the WAL's, the database's) and
 * the one of the header when the WAL is begun anew. */
uint64_t iocount_commits(iocount from, iocount to);

#endif
