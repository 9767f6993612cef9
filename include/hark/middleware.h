/* hark/middleware.h: the middleware that comes with hark, for hark_app_use and hark_group_use. How to write
 * your own: hark_http_fn and hark_ctx_next in <hark/http.h>.
 */
#ifndef HARK_MIDDLEWARE_H
#define HARK_MIDDLEWARE_H

#include <hark/http.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum hark_log_format { HARK_LOG_TEXT = 0, HARK_LOG_JSON = 1 } hark_log_format;

typedef struct hark_logger_opts {
    size_t size;
    int64_t format;                                        /* hark_log_format */
    int64_t fd;                                            /* where to; 0 = standard error */
    void (*write)(const char *line, size_t len, void *ud); /* instead: called on loops */
    void *ud;
} hark_logger_opts;

/* Writes one line for each request when it is done: time, method, path, status, bytes, duration,
 * request id.
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no; a line is written with one write.
 * Errors: in the result, for hark_app_use. */
HARK_API hark_middleware hark_logger(const hark_logger_opts *opts);

/* Turns an error of what follows into a problem document at that place of the chain, so that
 * middleware before it sees an answered request. Errors that nobody turns get one in the end.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. opts must be NULL: there are none yet. */
HARK_API hark_middleware hark_recover(const void *opts);

typedef struct hark_request_id_opts {
    size_t size;
    const char *header; /* default "X-Request-Id" */
    int64_t ignore;     /* not 0: never take the client's */
} hark_request_id_opts;

/* Takes the request id from the client if it is sane (1 to 128 of [A-Za-z0-9._:/+=-]), else makes a
 * UUIDv7, and sends it with the reply.
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no.
 * Errors: in the result, for hark_app_use. */
HARK_API hark_middleware hark_request_id(const hark_request_id_opts *opts);

/* Limits request bodies of the routes it covers, above or below the app's limit: 413 from
 * Content-Length alone, otherwise as soon as the limit is passed.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: in the result: 0 is refused. */
HARK_API hark_middleware hark_body_limit(size_t bytes);

typedef struct hark_timeout_opts {
    size_t size;
    int64_t ms;     /* for a request, from here on; default 30000 */
    int64_t status; /* of the reply then: 503 (default) or 504 */
} hark_timeout_opts;

/* Answers for a handler whose deferred work, blocking code or receipts take too long. The work goes
 * on and its reply is dropped; the context lives until it ends.
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no.
 * Errors: in the result, for hark_app_use. */
HARK_API hark_middleware hark_timeout(const hark_timeout_opts *opts);

typedef struct hark_static_opts {
    size_t size;
    const char *root;   /* directory; must be given */
    const char *prefix; /* of the paths that it serves; default "/" */
    const char *index;  /* file shown for a directory; default "index.html" */
    int64_t max_age;    /* seconds for Cache-Control; default none */
    int64_t flags;      /* none yet: 0 */
} hark_static_opts;

/* Serves GET and HEAD from files under a directory, with ETag, Last-Modified, If-None-Match and
 * one byte range; passes on what is not there. Nothing outside the directory is reached, neither by
 * ".." nor through links. Files are opened on the loop: keep them on a local disk.
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: on the file system, briefly.
 * Errors: in the result, for hark_app_use: HARK_EINVAL, HARK_ENOTFOUND (root). */
HARK_API hark_middleware hark_static_files(const hark_static_opts *opts);

typedef struct hark_request_events_opts {
    size_t size;
    const char *const *skip;                /* route patterns or paths to leave out, NULL-ended;
                                               a final "*" stands for any rest */
    bool (*skip_fn)(hark_ctx *c, void *ud); /* and what this says; called when it is done */
    void *ud;
    const char *type;   /* default "request:completed" */
    const char *source; /* default: the bus's */
} hark_request_events_opts;

/* Publishes `request:completed` on the app's bus after each request: path, route, method, status,
 * time, duration_ms, request_id. It never slows the reply: the event goes out after it, and when
 * the bus has no room it is dropped and counted (hark_app_stats).
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no.
 * Errors: in the result, for hark_app_use. */
HARK_API hark_middleware hark_request_events(const hark_request_events_opts *opts);

typedef struct hark_idempotency_opts {
    size_t size;
    const char *header; /* default "Idempotency-Key" */
    int64_t keep_ms;    /* how long replies are kept; default 24 h */
    int64_t required;   /* not 0: POST and PATCH without a key get 400 */
    size_t max_bytes;   /* of a reply; a larger one is an error; default 1 MiB */
} hark_idempotency_opts;

/* Makes POST and PATCH requests that carry a key (1 to 255 printable characters) safe to repeat.
 * The reply to the first one is stored, by hark_ctx_transact in the same commit as its rows and
 * events, else before it is sent; a repeat of method, path and key by the same Authorization gets
 * the same status, headers and bytes with "Idempotent-Replay: true". Another body, content type or
 * query under the same key gets 422, a request whose first one still runs 409 (a crash frees it).
 * Not stored is a reply of 500 or more, one of 400 or more with Retry-After, and what middleware
 * behind this one answers in the handler's place; files cannot be, which is an error. A handler
 * that publishes with a key outside of hark_ctx_transact gets an error that names the route. Needs
 * a bus with transactions: hark_app_use refuses others. Clients that are told apart by something
 * else than Authorization (a cookie) share keys: make these of many random characters.
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no.
 * Errors: in the result, for hark_app_use. */
HARK_API hark_middleware hark_idempotency(const hark_idempotency_opts *opts);

typedef struct hark_wait_opts {
    size_t size;
    int64_t max_ms; /* longest wait that a client may ask for; default 5000 */
} hark_wait_opts;

/* Lets clients read what they wrote. With or without this middleware, every reply of a request that
 * published says in "Hark-Seq" the cursor of its last event. A later request may say
 * "Hark-Wait: consumer=NAME; seq=CURSOR; max=200ms" (default 1 s): it is handled when that consumer
 * has settled that event, or does not match it; meanwhile it holds neither the loop nor a worker.
 * It gets 409 with `consumer`, `lag` and `seq` when the time is up, 424 with `consumer` and
 * `dead_letter`, its id, when it was dead-lettered, 400 for a header that cannot be read, 404 for
 * an unknown consumer, 410 for a cursor of another log.
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no.
 * Errors: in the result, for hark_app_use. */
HARK_API hark_middleware hark_wait(const hark_wait_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
