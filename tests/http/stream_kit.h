/* An app with live replies on a real bus, and a reader of Server-Sent Events, for tests. */
#ifndef HK_TEST_STREAM_KIT_H
#define HK_TEST_STREAM_KIT_H

#include "client.h"
#include "expect.h"

#include "base/base.h"

#include <hark/hark.h>
#include <hark/middleware.h>
#include <hark/stream.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern const char *kit_store; /* "memory" or "sqlite" */
extern const char *kit_url;   /* not NULL: of a log that is there, instead */

typedef struct live {
    char dir[64];
    hark_bus *bus;
    hark_app *app;
    int port;
} live;

/* A fresh bus of kit_store and an app of two loops unless the options say otherwise. */
void live_new(live *l, const hark_bus_opts *bus_opts, const hark_app_opts *opts);
void live_start(live *l);
void live_end(live *l); /* fails when requests were cut off */
hark_feed *live_feed(live *l, const hark_feed_opts *opts);
/* GET and POST `path` answer with a stream. */
typedef struct shown {
    hark_feed *feed;
    hark_stream_opts opts;
} shown;
void live_route(live *l, const char *path, const shown *s);
hark_err show(hark_ctx *c, void *ud); /* the handler of such a route */
uint64_t live_publish(live *l, const char *type, const char *json); /* its sequence */
hark_app_stats live_stats(live *l);

/* Waits, without sleeping, until the condition holds; aborts as hung after half a minute. */
#define WAIT_UNTIL(cond)                                                                           \
    do {                                                                                           \
        int64_t until_ms_ = 0;                                                                     \
        while (!(cond))                                                                            \
            kit_yield(&until_ms_, #cond, __FILE__, __LINE__);                                      \
    } while (0)
void kit_yield(int64_t *until_ms, const char *what, const char *file, int line);

/* ---- the reader ---- */

typedef struct message { /* one block: empty strings where it has no such field */
    char id[64], event[64], data[4096];
    long retry; /* -1 = none */
    bool has_data, comment;
} message;

typedef struct reader {
    int fd;
    char head[8192];
    char last_id[64]; /* as an EventSource keeps it */
    long retry;
    size_t n, at;
    char buf[65536];
} reader;

/* Asks for a stream: reads the head and the first block (retry); `lines` are further headers. */
void reader_open(reader *r, live *l, const char *target, const char *lines);
void reader_again(reader *r, live *l, const char *target); /* with Last-Event-ID */
bool reader_block(reader *r, message *m);                  /* any block; false at the end */
bool reader_next(reader *r, message *m);                   /* the next one with data */
uint64_t reader_seq(const reader *r);                      /* of last_id */
void reader_close(reader *r);

#define EXPECT_NEXT(r, want)                                                                       \
    do {                                                                                           \
        message m_;                                                                                \
        if (!reader_next(r, &m_))                                                                  \
            fail_msg("the stream has ended; expected '%s'", want);                                 \
        assert_string_equal(m_.data, want);                                                        \
    } while (0)

#endif
