/* A running app on a free port, for a test to set up and talk to. */
#ifndef HK_TEST_FIXTURE_H
#define HK_TEST_FIXTURE_H

#include "client.h"
#include "expect.h"
#include "fake_bus.h"

#include <hark/middleware.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct fixture {
    hark_app *app;
    hark_bus *bus;
    int port;
} fixture;

/* Two loops unless the options say otherwise; a bus of that mode. */
void fixture_new(fixture *f, fake_mode mode, const hark_app_opts *opts);
void fixture_start(fixture *f); /* binds a free port and starts */
void fixture_end(fixture *f);   /* stops; fails when requests were cut off */

/* Waits, without sleeping, until the condition holds; aborts as hung after half a minute. */
#define WAIT_UNTIL(cond)                                                                           \
    do {                                                                                           \
        int64_t until_ms_ = 0;                                                                     \
        while (!(cond))                                                                            \
            fixture_yield(&until_ms_, #cond, __FILE__, __LINE__);                                  \
    } while (0)
void fixture_yield(int64_t *until_ms, const char *what, const char *file, int line);

hark_err say_hello(hark_ctx *c, void *ud); /* 200 "hello" */

#endif
