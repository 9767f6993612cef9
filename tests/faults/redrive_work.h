/* The work of kill_redrive_victim, for it and for the test that kills it: one consumer that rejects,
 * and after a mend handles, and the record that it keeps of what it answered. */
#ifndef HK_FAULTS_REDRIVE_WORK_H
#define HK_FAULTS_REDRIVE_WORK_H

#include <stdbool.h>
#include <stdint.h>

#define REDRIVE_TYPE     "mail:sent"
#define REDRIVE_CONSUMER "post"
#define REDRIVE_RECORD   "record" /* in the scratch directory */

/* Written before the handler answers; of a size that a kill never tears. */
typedef struct redrive_record {
    uint64_t seq;
    uint32_t life;
    uint8_t attempt;
    char verdict; /* 'A' ack, 'R' retry, 'X' reject */
    uint8_t unused[2];
} redrive_record;

/* What begins with "bad" is rejected by the first life. */
static inline char redrive_verdict(bool sick, bool bad, uint64_t seq, int64_t attempt)
{
    if (sick)
        return bad ? 'X' : 'A';
    return seq % 16 == 3 && attempt == 1 ? 'R' : 'A';
}

#endif
