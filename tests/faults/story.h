/* story: a short life of a log, lived while something under it fails: two sessions with publishes of
 * every kind, a live subscriber, a consumer that goes on after a dead letter and one that parks,
 * retries, redrives, a discard, schedules, a replay. Every call may fail. It keeps what its calls said
 * and when; story_audit opens the log again and compares. "When" is a number that `now` gives. */
#ifndef HK_FAULTS_STORY_H
#define HK_FAULTS_STORY_H

#include <hark/hark.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STORY_EVENTS = 96, STORY_ANSWERS = 4096, STORY_LETTERS = 64, STORY_ATTEMPTS = 3 };
#define STORY_NEVER SIZE_MAX

typedef struct story_event {
    size_t asked;        /* before it was published; STORY_NEVER = it was not */
    size_t told;         /* when its receipt came, or a live subscriber saw it */
    uint64_t seq;        /* that the receipt named */
    size_t first, count; /* published as one */
    hark_err err;        /* of the publish */
    bool answered;       /* the publish returned, or called back */
    bool scheduled;
    size_t kept_at; /* when its schedule was said to be kept */
    size_t cancel_asked, cancelled_at;
} story_event;

/* What a handler answered, noted before it did. */
typedef struct story_answer {
    int consumer;
    size_t n; /* the event */
    hark_verdict verdict;
    int64_t attempt;
    size_t at;
} story_answer;

/* A call that mended a dead letter. */
typedef struct story_mend {
    int consumer;
    size_t n;
    bool discard;
    size_t asked, told;
} story_mend;

typedef struct story {
    const char *url;
    size_t (*now)(void);
    bool (*over)(void); /* nothing can move any more: waits end; may be NULL */
    bool big;           /* enough for a checkpoint in the middle */
    int64_t patience_ms;
    /* filled in */
    hark_bus *bus; /* open now */
    story_event events[STORY_EVENTS];
    story_answer answers[STORY_ANSWERS];
    size_t n_answers;
    story_mend mends[STORY_LETTERS];
    size_t n_mends;
    size_t announced[2][STORY_EVENTS]; /* when its dead letter was */
    bool mended;                       /* handlers take everything now */
    char stuck[160];                   /* what was waited for in vain; empty = nothing */
} story;

/* Lives it. The struct is zero but for its first part. */
void story_live(story *s);
/* Opens the log at `path`, which is as it was at `at`, and fails the test, naming `what`, where it is
 * not as the story says. `finish`: redrives everything and consumes the rest too. */
void story_audit(story *s, const char *path, size_t at, const char *what, bool finish);

#endif
