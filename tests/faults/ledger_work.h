/* The work of kill_ledger_victim, for it and for the test that kills it: eight consumers of different
 * policies, and what each answers for an event, which follows from the event's number alone. */
#ifndef HK_FAULTS_LEDGER_WORK_H
#define HK_FAULTS_LEDGER_WORK_H

#include "kit.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    LEDGER_CONSUMERS = 8,
    LEDGER_KEYS = 12,
    LEDGER_ATTEMPTS = 3,
    LEDGER_PER_RUN = 1000 /* numbers */
};
#define LEDGER_TYPE "work:ledger"

typedef struct ledger_policy {
    const char *name;
    bool park;
    unsigned workers, max_deferred; /* 0 = the default */
} ledger_policy;

static const ledger_policy ledger_policies[LEDGER_CONSUMERS] = {
    {"on-1", false, 1, 0},         {"on-4", false, 4, 0},        {"on-1-small", false, 1, 24},
    {"on-4-small", false, 4, 40},  {"park-1", true, 1, 0},       {"park-4", true, 4, 0},
    {"park-1-small", true, 1, 60}, {"park-4-small", true, 4, 90}};

/* 'A' ack, 'R' retry, 'X' reject. */
static inline char ledger_fate(int consumer, uint64_t n, int64_t attempt)
{
    uint64_t r = n * LEDGER_CONSUMERS + (uint64_t)consumer, h = kit_random(&r) % 120;
    if (h == 0)
        return 'X';
    if (h == 1)
        return 'R';
    return h < 10 && attempt == 1 ? 'R' : 'A';
}

static inline unsigned ledger_key(uint64_t n)
{
    uint64_t r = n ^ 0x6b6579;
    return (unsigned)(kit_random(&r) % LEDGER_KEYS);
}

/* The last word of a consumer on an attempt: 0 = there will be another. */
static inline char ledger_end(char verdict, int64_t attempt)
{
    if (verdict == 'R')
        return attempt >= LEDGER_ATTEMPTS ? 'X' : 0;
    return verdict;
}

#endif
