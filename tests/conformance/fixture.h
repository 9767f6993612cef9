/* What the conformance tests share: a fresh bus on the store under test in a scratch directory,
 * waiting on conditions, a recorder for what a handler saw. Each test is run once for each store of
 * stores.c; the store's name is the program's first argument, a test's name may be the second. */
#ifndef HK_CONFORMANCE_FIXTURE_H
#define HK_CONFORMANCE_FIXTURE_H

#include "base/base.h"

#include <hark/bus.h>
#include <hark/event.h>
#include <hark/operate.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct server; /* servers.h */

/* A store under test, and what of its nature changes what is asserted. */
typedef struct store_case {
    const char *name;
    const char *url; /* %s stands for the scratch directory; NULL with `start` */
    /* Starts the server that all tests of a program share, each with a log of its own; may be NULL. */
    struct server *(*start)(void);
    int64_t durability; /* the class of its receipts */
    bool survives;      /* a bus opened again finds the log and the consumers */
    bool direct;        /* publishing does not go through the writer thread */
    bool keeps_all;     /* the log is not limited to the newest tail_events */
    bool tx_alone;      /* closures do not share a commit */
} store_case;

extern const store_case stores[];
extern const size_t n_stores;

typedef struct fixture {
    const store_case *store;
    struct server *server; /* the program's; NULL when the store has none */
    char dir[96];
    char url[160];
    hark_bus *bus;
    hark_errinfo ei;
    size_t live_blocks; /* at the start; a test must leave no event behind */
} fixture;

/* Runs a program's tests against the store that the command line names. */
int conformance_main(int argc, char **argv, const char *subject, const struct CMUnitTest *tests,
                     size_t n);
#define CONFORMANCE_MAIN(subject)                                                                  \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return conformance_main(argc, argv, subject, tests, HK_COUNTOF(tests));                    \
    }
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
int set_up(void **state); /* opens f->bus with default options */
int tear_down(void **state);

void open_bus(fixture *f, const hark_bus_opts *opts);
void close_bus(fixture *f);
void reopen_bus(fixture *f, const hark_bus_opts *opts);

#define assert_ok(f, call)                                                                         \
    do {                                                                                           \
        hark_err err_ = (call);                                                                    \
        if (err_)                                                                                  \
            fail_msg("%s: %s: %s", #call, hark_err_name(err_), (f)->ei.text);                      \
    } while (0)
#define assert_err(f, expected, call)                                                              \
    do {                                                                                           \
        hark_err err_ = (call);                                                                    \
        if (err_ != (expected))                                                                    \
            fail_msg("%s: expected %s, got %s: %s", #call, hark_err_name(expected),                \
                     hark_err_name(err_), (f)->ei.text);                                           \
    } while (0)
#define assert_says(f, part)                                                                       \
    do {                                                                                           \
        if (!strstr((f)->ei.text, part))                                                           \
            fail_msg("expected '%s' in: %s", part, (f)->ei.text);                                  \
    } while (0)
#define assert_u64(got, expected)                                                                  \
    do {                                                                                           \
        uint64_t got_ = (uint64_t)(got), expected_ = (uint64_t)(expected);                         \
        if (got_ != expected_)                                                                     \
            fail_msg("%s is %llu, expected %llu", #got, (unsigned long long)got_,                  \
                     (unsigned long long)expected_);                                               \
    } while (0)

/* For threads other than the test's own, from where cmocka cannot jump. */
#define MUST(cond)                                                                                 \
    do {                                                                                           \
        if (!(cond))                                                                               \
            must_failed(#cond, __FILE__, __LINE__);                                                \
    } while (0)
_Noreturn void must_failed(const char *what, const char *file, int line);

/* Nothing takes that long unless it hangs, also under a sanitizer on a busy machine. */
enum { HUNG_MS = 30000, HOUR_MS = 3600000 };

/* Waits until the condition holds, without sleeping; after HUNG_MS the test hangs: abort. */
#define WAIT_UNTIL(cond)                                                                           \
    do {                                                                                           \
        int64_t until_ms_ = 0;                                                                     \
        while (!(cond))                                                                            \
            wait_yield(&until_ms_, #cond, __FILE__, __LINE__);                                     \
    } while (0)
void wait_yield(int64_t *until_ms, const char *what, const char *file, int line);

/* ---- publishing ------------------------------------------------------------------------------ */

uint64_t publish(fixture *f, const char *type);
uint64_t publish_keyed(fixture *f, const char *type, const char *key);
/* n events with data "0", "1", ... in batches; returns the first sequence. */
uint64_t publish_many(fixture *f, const char *type, size_t n);

/* ---- a latch: handlers wait at it until the test opens it ------------------------------------- */

typedef struct latch {
    atomic_int arrived; /* how many came so far */
    atomic_int open;
    hk_gate gate;
} latch;
void latch_init(latch *l);
void latch_wait(latch *l);
void latch_open(latch *l);

/* ---- a recorder: what a handler saw, in order -------------------------------------------------- */

enum { RECORD_MAX = 40000 };
typedef struct recorded {
    uint64_t seq;
    int64_t attempt;
    char key[16];
    uint64_t gap_from, gap_to;
} recorded;
typedef struct recorder {
    pthread_mutex_t lock;
    atomic_size_t n;
    atomic_int freed; /* how often free_ud came */
    latch *at;        /* every call waits here; may be NULL */
    recorded *seen;
} recorder;
recorder *recorder_new(void);
recorder *recorder_at(latch *at); /* a latch made anew, at which every call waits */
void recorder_free(recorder *r);
hark_verdict record(hark_delivery *d, void *ud); /* a handler that acks */
void record_only(recorder *r, const hark_delivery *d);
void recorder_freed(void *ud); /* a free_ud */
/* Everything from `first` on, n events one after the other, each once. */
void assert_consecutive(recorder *r, uint64_t first, size_t n);
void assert_ascending(recorder *r);

hark_sub_stats stats_of(hark_sub *s);
/* The only consumer, as far as it is committed; its strings are gone. */
hark_consumer_info consumer_now(fixture *f);
/* Consumer "c" is to see everything again. */
hark_reset_result reset_to_first(fixture *f);
/* Ends a subscription and waits until it has ended. */
void end_sub(hark_sub *s);

#endif
