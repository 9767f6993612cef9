/* trail: goes through the lines of a crew (crew.h) while they are written, and knows what is promised of
 * them:
 *
 *  - in every key the numbers come one after the other, from 1, each when the one before was acked;
 *  - of a key one event is handled at a time, whoever handles it;
 *  - an event comes again only after a retry, or when the process that handled it was killed or stood still
 *    since; then what follows in the key may come again too, in order, as far as such processes handled it;
 *  - an event has one sequence, and sequences grow in a key.
 *
 * What breaks one of these ends the test. */
#ifndef HK_SHARED_TRAIL_H
#define HK_SHARED_TRAIL_H

#include "crew.h"

enum { TRAIL_WHO_MAX = 4096 };

typedef struct trail_event {
    uint64_t seq;
    uint32_t who, life; /* who handled it last, and in which of its lives */
    int32_t attempt;
    char end; /* of the last handling: A, R, X, 0 = none was seen */
    bool acked;
} trail_event;

typedef struct trail_key {
    trail_event *events; /* by number */
    size_t cap;
    uint32_t at, top; /* number of the last handling; the highest */
    uint32_t open;    /* the number that is being handled; 0 = none */
} trail_key;

typedef struct trail_process {
    char state;    /* 0 = runs, K, G, P; see crew.h */
    uint32_t life; /* grows when it goes on after a stop */
    uint32_t late; /* deliveries that it may still begin, being late */
    uint64_t handled;
} trail_process;

typedef struct trail {
    int file;
    kit_lines lines;
    const crew_speaker *said;
    trail_key keys[CREW_KEYS_MAX];
    trail_process of[TRAIL_WHO_MAX];
    uint64_t handled; /* different events that were acked */
    uint64_t repeats; /* handlings of events that were begun before, retries not counted */
    uint64_t retries;
    uint64_t late, stale;
    uint64_t newest;           /* the highest sequence */
    uint64_t echoes;           /* events that should have been published by handlers */
    int64_t first_us, last_us; /* of handlings */
    unsigned workers, echo_every;
} trail;

/* Begins at the start of the crew's file. */
void trail_open(trail *t, const crew *c, const crew_speaker *said);
void trail_close(trail *t);
/* Reads what is there. */
void trail_read(trail *t);
/* Waits until everything that was said has been acked. */
void trail_all_handled(trail *t, crew *c);
/* What is being handled by one process now. */
uint32_t trail_in_hand(const trail *t, uint32_t who);
void trail_print(const trail *t, const char *what);

#endif
