/* A running app on a real bus in a scratch directory, with a table of orders beside the log, and
 * handlers that wait until the test lets them go on. */
#ifndef HK_TEST_STORE_APP_H
#define HK_TEST_STORE_APP_H

#include "client.h"
#include "expect.h"

#include "base/base.h"

#include <hark/hark.h>
#include <hark/middleware.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct store_app {
    char dir[64];
    hark_bus *bus;
    hark_app *app;
    int port;
} store_app;

/* Two loops unless the options say otherwise. */
void store_app_new(store_app *a, const hark_app_opts *opts);
void store_app_start(store_app *a);
void store_app_again(store_app *a); /* ends app and bus and makes new ones of the same log */
void store_app_close(store_app *a); /* app and bus, with requests cut off or not */
void store_app_end(store_app *a);   /* fails when requests were cut off; removes all */

/* No closure of a test is over its deadline because the machine is busy. */
#define PATIENT HARK_OPTS(hark_tx_opts, .deadline_ms = 10000)

/* In a closure: an order named as the body, and the event order:placed. */
hark_err store_insert(hark_ctx *c, hark_tx *tx);
int64_t orders(store_app *a);                  /* rows */
size_t events(store_app *a, const char *type); /* in the log */
/* Copies an attribute of the first event of a type: correlationid or causationid. */
void event_attribute(store_app *a, const char *type, const char *what, char *ret, size_t size);

/* A gate: what waits there is counted. */
typedef struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
    size_t waiting, passed;
} gate;
#define GATE                                                                                       \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER                     \
    }
void gate_shut(gate *g); /* and forgets its counts */
void gate_pass(gate *g); /* waits until it is open */
void gate_open(gate *g);
void gate_await(gate *g, size_t waiting); /* until so many wait */

/* A request on a thread of its own. */
typedef struct caller {
    pthread_t thread;
    int port;
    const char *method, *target, *lines, *body;
    reply r;
} caller;
void caller_start(caller *c, int port, const char *method, const char *target, const char *lines,
                  const char *body);
void caller_join(caller *c);

/* For requests with a key. */
#define KEY(k) "Idempotency-Key: " k "\r\n"
#define EXPECT_REPLAY(first, second)                                                               \
    do {                                                                                           \
        EXPECT_HEADER(first, "Idempotent-Replay", "");                                             \
        EXPECT_HEADER(second, "Idempotent-Replay", "true");                                        \
        assert_int_equal((first)->status, (second)->status);                                       \
        assert_int_equal((first)->len, (second)->len);                                             \
        assert_memory_equal((first)->body, (second)->body, (first)->len);                          \
    } while (0)

#endif
