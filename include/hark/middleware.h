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
                                               a final "*" stands for any rest; by its route only
                                               goes a path with an encoded slash */
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
    int64_t required;   /* not 0: POST and PATCH (not PUT) without a key get 400 */
    size_t max_bytes;   /* of a reply; a larger one is an error; default 1 MiB */
} hark_idempotency_opts;

/* Makes POST, PATCH and PUT requests that carry a key (1 to 255 printable characters) safe to
 * repeat. The reply to the first one is stored, by hark_ctx_transact in the same commit as its rows
 * and events, else before it is sent; a repeat of method, path and key by the same client gets the
 * same status, headers and bytes with "Idempotent-Replay: true". Another body, content type or query
 * under the same key gets 422, a request whose first one still runs 409 (a crash frees it).
 * Not stored is a reply of 500 or more, one of 400 or more with Retry-After, and what middleware
 * behind this one answers in the handler's place; files cannot be, which is an error. A handler
 * that publishes with a key outside of hark_ctx_transact gets an error that names the route. Needs
 * a bus with transactions: hark_app_use refuses others. Clients are told apart by Authorization and
 * by the key that a hark_key_auth in front of this one has let pass, whatever header it came in;
 * those that only something else tells apart (a cookie) share keys: make these of many random
 * characters.
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

typedef struct hark_cors_opts {
    size_t size;
    const char *const *origins; /* whom to admit, NULL-ended: "https://shop.example" (with "*."
                                   before the host: any one label there; without the port that
                                   the scheme has anyway), "null", or "*" for everybody; default
                                   "*", nobody when `allow` is given */
    bool (*allow)(hark_ctx *c, const char *origin, void *ud); /* and whom this admits; must not
                                                                 block */
    void *ud;
    const char *methods; /* "GET, PUT"; default "GET, HEAD, PUT, PATCH, POST, DELETE" */
    const char *headers; /* of requests: "Content-Type, X-Mine"; default: those asked for */
    const char *expose;  /* of replies, for scripts to read: "Hark-Seq, Location"; default none */
    int64_t credentials; /* not 0: with cookies and Authorization; not together with "*" or
                            "null", which any page can be */
    int64_t max_age;     /* seconds that browsers keep the answer; 0: theirs, -1: not at all */
} hark_cors_opts;

/* Tells browsers which other origins may read replies (WHATWG Fetch, "CORS protocol"), problem
 * documents included, with the Vary that caches need. Preflights are answered with 204 here, for
 * every path: so use it on the app, not on a group, and before hark_key_auth and whatever else
 * refuses requests. An origin that is not admitted gets no such headers, and its request goes on:
 * to keep requests out is not what CORS does. A reply whose handler has set
 * Access-Control-Allow-Origin is left alone. Requests that are refused before there is a route to
 * speak of (400, 413 and the like) and the reply of hark_timeout go out without any of it.
 * Ownership: copies the options.
 * Threads: any; `allow` is called on loops and workers.
 * Blocks: no.
 * Errors: in the result, for hark_app_use: HARK_EINVAL says which option. */
HARK_API hark_middleware hark_cors(const hark_cors_opts *opts);

typedef struct hark_secure_headers_opts {
    size_t size; /* of the texts, NULL is the default and "" leaves the header out */
    const char *content_type_options;    /* X-Content-Type-Options; "nosniff" */
    const char *frame_options;           /* X-Frame-Options; "SAMEORIGIN" */
    const char *referrer_policy;         /* Referrer-Policy; "strict-origin-when-cross-origin" */
    const char *opener_policy;           /* Cross-Origin-Opener-Policy; "same-origin" */
    const char *resource_policy;         /* Cross-Origin-Resource-Policy; left out */
    const char *permissions_policy;      /* Permissions-Policy; left out */
    const char *content_security_policy; /* Content-Security-Policy; left out */
    int64_t csp_report_only;             /* not 0: that is Content-Security-Policy-Report-Only */
    int64_t hsts_max_age;                /* seconds of Strict-Transport-Security; 0: left out */
    int64_t hsts_this_host;              /* not 0: without includeSubDomains */
    int64_t hsts_preload;                /* not 0: with preload */
} hark_secure_headers_opts;

/* Sets headers that make browsers careful, on every reply from here inwards, problem documents and
 * 404 too; one that the reply has already stands. Strict-Transport-Security goes out only when the
 * proxy in front says "X-Forwarded-Proto: https" (RFC 6797 section 7.2: never without TLS). Requests
 * that are refused before there is a route to speak of (400, 413 and the like) and the reply of
 * hark_timeout go out without them: they show nothing but why.
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no.
 * Errors: in the result, for hark_app_use: HARK_EINVAL says which option. */
HARK_API hark_middleware hark_secure_headers(const hark_secure_headers_opts *opts);

typedef struct hark_gzip_opts {
    size_t size;
    size_t min_bytes;        /* smaller bodies go out as they are; default 1 KiB */
    size_t max_bytes;        /* larger ones too: it runs on the loop; default 1 MiB, about 10 ms */
    int64_t level;           /* 1 (default, fast) to 9 (small) */
    const char *const *skip; /* as in hark_request_events_opts */
} hark_gzip_opts;

/* Compresses replies that are text, JSON, XML, JavaScript or SVG for clients whose Accept-Encoding
 * wants gzip (RFC 9110 section 12.5.3), the last thing before they go out; with Vary:
 * Accept-Encoding whether it does or not. Left as they are: files (hark_static_files,
 * hark_ctx_file), streams, what has Content-Encoding, Content-Range, Accept-Ranges: bytes, a digest
 * (Content-Digest, Repr-Digest, Digest, Content-MD5) or "no-transform", and what would not get
 * smaller. A strong ETag becomes weak, since the bytes are others (section 8.8.3): so
 * If-None-Match, which compares weakly, works on; a handler that compares tags leaves the W/ out,
 * and If-Match, which wants a strong one, is for who asks without gzip. What hark_idempotency stores
 * is not compressed. Skip replies that hold a secret beside text of the client's choice: their
 * length tells of it (the BREACH attack).
 * Ownership: copies the options.
 * Threads: any.
 * Blocks: no; takes the loop's time, see max_bytes.
 * Errors: in the result, for hark_app_use: HARK_EINVAL says which option. */
HARK_API hark_middleware hark_gzip(const hark_gzip_opts *opts);

typedef struct hark_auth_key {
    const char *key;  /* 1 to 4096 visible ASCII characters; NULL ends a list */
    const char *user; /* whose it is, for hark_key_auth_user; NULL stands for "" */
} hark_auth_key;

typedef struct hark_key_auth_opts {
    size_t size;
    const hark_auth_key *keys; /* ended by {NULL}; all are compared each time, in constant time */
    /* Or, for what is not among them: HARK_OK and whose key it is (copied; default ""),
     * HARK_EUNAUTHORIZED for one that is unknown, or what else the request is to fail with. Must
     * not block; compare in constant time. */
    hark_err (*check)(hark_ctx *c, const char *key, const char **ret_user, void *ud);
    void *ud;
    const char *header; /* default "Authorization" */
    const char *scheme; /* before the key; default "Bearer" for Authorization, else "", none */
    const char *query;  /* also takes the key from this parameter of the query; default none. It
                           then stands in logs (hark_logger writes it), histories and Referer */
    const char *realm;  /* told in WWW-Authenticate; default "api" */
    const char *const *skip; /* as in hark_request_events_opts */
} hark_key_auth_opts;

/* Lets only requests pass that carry a key: "Authorization: Bearer KEY" unless the options say
 * otherwise (RFC 6750, RFC 9110 section 11). Without one, or with an unknown one, they get 401 with
 * WWW-Authenticate; 400 when it is malformed or there are several. So that no cache gives a reply
 * to somebody else, it says Vary with a header other than Authorization, and "Cache-Control: private"
 * with a key in the query, whatever the handler says (but no-store and no-cache, which stand). It
 * goes before hark_idempotency, which tells clients apart by their keys.
 * Ownership: copies the options; of keys it remembers digests only.
 * Threads: any; `check` is called on loops and workers.
 * Blocks: no.
 * Errors: in the result, for hark_app_use: HARK_EINVAL says which option. */
HARK_API hark_middleware hark_key_auth(const hark_key_auth_opts *opts);

/* Whose key hark_key_auth has found; NULL when none was asked for (skip, or no such middleware).
 * Ownership: borrowed; lives as long as the request.
 * Threads: the handler's, or whoever holds a deferred context.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_key_auth_user(const hark_ctx *c);

typedef struct hark_rate_limit_opts {
    size_t size;
    int64_t rate;   /* requests that a client may make in per_ms; must be given */
    int64_t per_ms; /* default 1000 */
    int64_t burst;  /* and at once, after a rest; default: rate */
    size_t clients; /* that are remembered, 24 bytes each; default 65536 */
    /* Whose request it is, borrowed for the call; NULL: not limited. Must not block. Default: the
     * peer's address, of IPv6 its /64. Behind a proxy that is the proxy: take what it tells you,
     * or hark_key_auth_user. */
    const char *(*key)(hark_ctx *c, void *ud);
    void *ud;
    const char *name;        /* of the policy in the headers; default "default" */
    int64_t no_headers;      /* not 0: no RateLimit and RateLimit-Policy */
    const char *const *skip; /* as in hark_request_events_opts */
} hark_rate_limit_opts;

/* Limits how often each client may ask, by a token bucket: 429 with Retry-After beyond that.
 * Replies tell in RateLimit and RateLimit-Policy what is left
 * (draft-ietf-httpapi-ratelimit-headers-10).
 * When there are more clients than are remembered, those are forgotten that have asked least, which
 * are those to whom it makes the least difference. Each process counts for itself.
 * Ownership: copies the options.
 * Threads: any; `key` is called on loops and workers.
 * Blocks: no.
 * Errors: in the result, for hark_app_use: HARK_EINVAL says which option, HARK_ENOMEM. */
HARK_API hark_middleware hark_rate_limit(const hark_rate_limit_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
