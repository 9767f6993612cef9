/* work: events that can be made again from their number alone, so that one program can publish them
 * and another check them; and what the consumer does with each. */
#ifndef HK_FAULTS_WORK_H
#define HK_FAULTS_WORK_H

#include <stdint.h>

#define WORK_TYPE     "work:done"
#define WORK_CONSUMER "worker"
#define WORK_ATTEMPTS 3 /* max_attempts of the consumer */
#define WORK_BATCH    8 /* at most */

typedef struct work {
    char id[32];
    char key[8];
    char data[4096];
} work;

typedef enum work_fate {
    WORK_ACK,
    WORK_RETRY_ONCE,
    WORK_REJECT,  /* a dead letter at once */
    WORK_HOPELESS /* retried until max_attempts: a dead letter */
} work_fate;

/* `first` and `count` say which events were published as one. */
void work_make(uint64_t n, uint64_t first, unsigned count, work *ret);
work_fate work_fate_of(uint64_t n);

#endif
