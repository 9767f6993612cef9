/* crew: processes that share one consumer of one log, the test that publishes to them, and the file in
 * which all write what they do. Every line is one write to the end of the file, so that the order of its
 * lines is the order in time:
 *
 *     H who pid key number sequence attempt us    before the handler's work
 *     A, R or X who key number                    after it: the answer will be ack, retry or reject
 *     S who key number                            hark_settle said HARK_ESTALE
 *     K who, G who                                by the test: it is about to be killed, and is gone
 *     P who, C who                                by the test: it stands still, and is about to go on
 *
 * `who` counts processes from 1, keys and numbers in a key count from 0 and 1. */
#ifndef HK_SHARED_CREW_H
#define HK_SHARED_CREW_H

#include "kit.h"
#include "servers.h"

#include <hark/hark.h>

#define CREW_CONSUMER "crew"
#define CREW_TYPE     "step"
#define CREW_ECHO     "echo" /* what handlers publish */

enum { CREW_MAX = 4, CREW_KEYS_MAX = 1000, CREW_BATCH = 64 };

/* What the processes do. */
typedef struct crew_how {
    unsigned workers;
    unsigned work_us;  /* of each event */
    unsigned lease_ms; /* 0 = the default */
    unsigned
        retry_every; /* the first attempt of every such number is answered with a retry; 0 = none */
    unsigned echo_every; /* the handler of every such number publishes; 0 = none */
    bool pull;           /* hark_next and hark_settle instead of a handler */
} crew_how;

typedef struct crew_member {
    kit_proc proc;
    uint32_t who; /* 0 = does not run */
    bool up;      /* it has subscribed */
} crew_member;

typedef struct crew {
    server *server;
    const char *victim, *path;
    char url[160];
    crew_how how;
    crew_member of[CREW_MAX];
    uint32_t n_who; /* so many were started */
    int file;       /* for the test's own lines */
    hark_bus *bus;  /* the test's own */
} crew;

/* A server of that scheme, a log on it, and a bus of the test's own. */
void crew_open(crew *c, const char *scheme, const char *victim, const crew_how *how);
/* Another log on the same server, and another file. */
void crew_afresh(crew *c, const crew_how *how);
void crew_close(crew *c);

void crew_start(crew *c, size_t i); /* does not wait */
void crew_up(crew *c, size_t i);    /* waits until it has subscribed */
void crew_kill(crew *c, size_t i);
void crew_stop(crew *c, size_t i); /* SIGTERM; it drains, and ends well */
void crew_freeze(crew *c, size_t i);
void crew_thaw(crew *c, size_t i);
/* Waits a moment for what one of them says; fails when one has ended by itself. */
void crew_wait(crew *c, int ms);
void crew_note(crew *c, char kind, uint32_t who);

/* ---- publishing -------------------------------------------------------------------------------- */

/* Events are numbered in their key. An event's id is made of both. */
typedef struct crew_speaker {
    uint32_t keys;
    uint32_t said[CREW_KEYS_MAX]; /* the last number of each key that was asked for */
    uint64_t random, total;
} crew_speaker;

typedef struct crew_word {
    char id[32], key[16], json[16];
    hark_event_spec spec;
} crew_word;

/* The next event of a key; it is counted as said. The spec points into *ret. */
void crew_next_word(crew_speaker *s, uint32_t key, crew_word *ret);
/* n events, at most CREW_BATCH, of keys by chance, in one batch. */
void crew_say(crew *c, crew_speaker *s, size_t n);
/* The next event of each key. */
void crew_say_all_keys(crew *c, crew_speaker *s);

/* ---- the consumer as the store has it ---------------------------------------------------------- */

typedef struct crew_state {
    uint64_t floor, open, dead_letters; /* open: retrying, behind, parked */
    bool found, paused;
} crew_state;
crew_state crew_look(crew *c);
/* Waits until the store has everything settled up to that sequence (what comes behind it is not for this
 * consumer, and may have to wait for what is), and no rows; then there must be no dead letters. */
void crew_all_settled(crew *c, uint64_t upto);
/* The log has so many events of a type, neither fewer nor more, no holes, and no event twice. */
void crew_check_log(crew *c, const char *type, uint64_t expected);

#endif
