/* What the parts of story share. */
#ifndef HK_FAULTS_STORY_I_H
#define HK_FAULTS_STORY_I_H

#include "story.h"

#define STORY_SMALL "t:small"
#define STORY_BIG   "t:big"
enum { STORY_KEYS = 4, STORY_DATA = 400000 };

extern const char *const story_consumers[2]; /* the second parks */

/* Event n: its data, its type, its key, its id. */
size_t story_data(size_t n, bool big, char *buf);
bool story_is_big(size_t n);
hark_event_spec story_spec(size_t n, bool big, char id[16], char key[8], char *buf);
size_t story_number(const hark_event *e); /* of an event of ours; STORY_NEVER = another's */

/* Events that are published with a row of the story's own in one transaction, and those that the first
 * consumer acks with one. */
#define STORY_ROWS    "placed" /* (n) */
#define STORY_EFFECTS "effects"
bool story_by_tx(size_t n);
bool story_acked_by_tx(int consumer, size_t n);
hark_err story_row(hark_tx *tx, const char *table, size_t n);

hark_verdict story_fate(const story *s, size_t n, int64_t attempt);
/* How an event of a consumer ended: HARK_ACK, HARK_REJECT; HARK_RETRY = not yet. Answers later than
 * `at` do not count. */
hark_verdict story_end(const story *s, int consumer, size_t n, size_t at);

typedef struct story_taker {
    story *s;
    int consumer;
} story_taker;
hark_err story_consume(story_taker *t, hark_bus *bus, hark_sub **ret);

/* Waits for a condition; false when it does not come. */
bool story_await(story *s, bool (*done)(story *s, void *ud), void *ud, const char *what);
void story_lock(void);
void story_unlock(void);

#endif
