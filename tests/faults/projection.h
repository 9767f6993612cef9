/* A projection as a service would keep one: a row for each key, in a file, changed in one piece by
 * each event, and knowing the last sequence that it has in it, so that what comes again after a kill
 * changes nothing. The hash tells one order of events from another. */
#ifndef HK_FAULTS_PROJECTION_H
#define HK_FAULTS_PROJECTION_H

#include <hark/hark.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PROJECTION_TYPE "account:moved"

enum { PROJECTION_KEYS = 251 };

/* 32 bytes, so that no row lies across two pages, and a kill -9 tears none. */
typedef struct projection_row {
    uint64_t last; /* sequence */
    int64_t sum;
    uint64_t n, hash;
} projection_row;

typedef struct projection {
    int fd; /* -1 = not kept in a file */
    atomic_ullong applied, repeats;
    projection_row rows[PROJECTION_KEYS];
} projection;

/* Fails the test when the file cannot be used. `anew` empties it. */
void projection_open(projection *p, const char *path, bool anew);
void projection_close(projection *p);
/* At most one thread at a time for each key. False: the event is in it already, or it failed. */
bool projection_apply(projection *p, const hark_event *e);
/* The two differ in nothing, or the test fails. */
void projection_same(const projection *got, const projection *expected, const char *what);

#endif
