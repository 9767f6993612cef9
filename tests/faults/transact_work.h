/* The work of kill_transact_victim, for it and for the test that kills it: one consumer whose handler
 * writes a row and an event with its ack, and what becomes of each event, which follows from its
 * number. */
#ifndef HK_FAULTS_TRANSACT_WORK_H
#define HK_FAULTS_TRANSACT_WORK_H

#include <stdbool.h>
#include <stdint.h>

enum { TRANSACT_KEYS = 13, TRANSACT_WORKERS = 4, TRANSACT_CRASHES = 3 };
#define TRANSACT_ITEM     "work:item" /* data: its number */
#define TRANSACT_DONE     "work:done" /* data: the item's sequence; one for each, some scheduled */
#define TRANSACT_NOTE     "work:note" /* likewise, by hark_delivery_publish, of some */
#define TRANSACT_CONSUMER "effects"

typedef enum transact_fate {
    TRANSACT_PLAIN,
    TRANSACT_FAILS,        /* its first closure fails after it has written */
    TRANSACT_LIES,         /* its handler answers HARK_RETRY after the commit */
    TRANSACT_DIES,         /* is rejected once, and redriven */
    TRANSACT_NOTES,        /* publishes a note before */
    TRANSACT_LATER,        /* its event is scheduled, not published */
    TRANSACT_CRASHES_ONCE, /* its first closure crashes */
    TRANSACT_POISON,       /* each of its closures does; only where there is poison */
    TRANSACT_POISON_BESIDE /* likewise, one of hark_transact */
} transact_fate;

static inline transact_fate transact_fate_of(uint64_t n, bool poisoned)
{
    if (poisoned)
        return n % 16 == 5    ? TRANSACT_POISON
               : n % 16 == 13 ? TRANSACT_POISON_BESIDE
                              : TRANSACT_PLAIN;
    if (n % 1024 == 21)
        return TRANSACT_CRASHES_ONCE;
    switch (n % 16) {
    case 2:
    case 3:
        return TRANSACT_FAILS;
    case 5:
        return TRANSACT_DIES;
    case 8:
        return TRANSACT_LIES;
    case 6:
    case 9:
    case 15:
        return TRANSACT_LATER;
    case 11:
    case 12:
        return TRANSACT_NOTES;
    default:
        return TRANSACT_PLAIN;
    }
}

#endif
