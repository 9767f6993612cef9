/* What the tests of the store redis: share: a real server for the program, a log of its own for each test, and a few
 * processes on it, which are stores opened side by side. */
#ifndef HK_REDIS_LOG_KIT_H
#define HK_REDIS_LOG_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "event/event.h"
#include "proxy.h"
#include "servers.h"
#include "store/store.h"

enum { PROCESSES = 4 };

typedef struct process {
    hark_store *store;
    const hark_store_ops *ops;
    hark_store_info info;
    hark_errinfo ei;
} process;

typedef struct logs {
    char url[160];
    int64_t lease_ms;     /* 0 = the store's own */
    process p[PROCESSES]; /* those that are open */
} logs;

extern server *redis; /* the program's */

/* Runs a program's tests with a server. */
int logs_main(const char *subject, const struct CMUnitTest *tests, size_t n);
#define LOG_TEST(fn) cmocka_unit_test_setup_teardown(fn, logs_set_up, logs_tear_down)
int logs_set_up(void **state); /* a fresh log, on which nothing is open */
int logs_tear_down(void **state);

#define assert_ok(p, call)                                                                         \
    do {                                                                                           \
        hark_err err_ = (call);                                                                    \
        if (err_)                                                                                  \
            fail_msg("%s: %s: %s", #call, hark_err_name(err_), (p)->ei.text);                      \
    } while (0)

#define assert_err(p, expected, part, call)                                                        \
    do {                                                                                           \
        (p)->ei.text[0] = '\0';                                                                    \
        hark_err err_ = (call);                                                                    \
        if (err_ != (expected))                                                                    \
            fail_msg("%s: expected %s, got %s: %s", #call, hark_err_name(expected),                \
                     hark_err_name(err_), (p)->ei.text);                                           \
        if (!strstr((p)->ei.text, part))                                                           \
            fail_msg("%s: expected '%s' in: %s", #call, part, (p)->ei.text);                       \
    } while (0)

/* "redis://127.0.0.1:PORT?log=…", through a proxy or another server by its port. */
void url_at(const logs *x, int port, char *ret, size_t size);
hark_err try_open(process *p, const char *url, int64_t lease_ms);
process *open_process(logs *x, size_t i);
void close_process(process *p);

/* An event in a group of its own; its sequence. */
uint64_t publish(process *p, const char *type, const char *id, const char *key);
hark_err try_publish(process *p, const char *type, const char *id, const char *key,
                     uint64_t *ret_sequence);
/* How many there are. */
uint64_t count(process *p);

/* Registers a consumer of everything, from the first event on. */
void join(process *p, const char *name, hark_store_consumer *ret);
/* Asks for shares; the answer is the caller's. */
hark_store_shares ask_shares(process *p, const hark_store_consumer *c,
                             const hark_store_owned *release, size_t n, bool leaves);
void beat(process *p);

/* One command to the server, as text; NULL is a failure. Valid until the next call. Words are separated by spaces. */
const char *say_to(server *s, const char *fmt, ...) HARK_PRINTF(2, 3);

#endif
