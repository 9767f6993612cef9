/* hark/http.h: an HTTP layer in the manner of Echo: routes, groups, middleware, a context.
 *
 * Handlers run on event loops and must not block; a route marked .blocking runs on a worker pool.
 * A handler publishes with hark_ctx_publish and sets its reply; the reply is held back until every
 * receipt of the request has arrived, without holding the loop, and becomes a problem document
 * (RFC 9457) if a publish failed. What goes wrong while an app is set up (a route twice, a bad
 * middleware) is returned at once and also kept: hark_app_listen and hark_app_start refuse with the
 * first such fault, so a program may leave those results unread. The same holds inside a request:
 * a call that composes the reply and fails turns the reply into a problem document.
 */
#ifndef HARK_HTTP_H
#define HARK_HTTP_H

#include <hark/bus.h>
#include <hark/error.h>
#include <hark/json.h>
#include <hark/tx.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hark_app hark_app;
typedef struct hark_group hark_group;
typedef struct hark_ctx hark_ctx;

/* A handler or a middleware. An error that it returns becomes a problem document: the status comes
 * from hark_err_http, the detail from hark_ctx_fail. */
typedef hark_err (*hark_http_fn)(hark_ctx *c, void *ud);

/* ---- the app --------------------------------------------------------------------------------- */

typedef struct hark_app_opts {
    size_t size;
    hark_bus *bus;          /* what hark_ctx_publish publishes on; may be NULL */
    size_t loops;           /* event loops, a thread each; default one for two cores, at most 64 */
    size_t workers;         /* threads for blocking routes; default 4 */
    size_t worker_queue;    /* requests waiting for them; default 256, then 503 */
    size_t body_limit;      /* bytes of a request body; default 1 MiB */
    size_t max_connections; /* default 16384 over all loops, streams among them; further ones are
                               closed */
    size_t memory_per_connection; /* head of a request, read buffer; default 16 KiB */
    size_t backlog;               /* of the listening socket; default 1024 */
    int64_t header_timeout_ms;    /* to send a whole request head; default 10000 */
    int64_t idle_timeout_ms;      /* until the next request, and grace of bodies; default 60000 */
    int64_t drain_ms;             /* to finish requests on stop; default 5000 */
    int64_t flags;                /* none yet: 0 */
} hark_app_opts;

/* Makes an app.
 * Ownership: *ret holds one reference; the app keeps a reference to the bus.
 * Threads: any; until it is started, one at a time.
 * Blocks: no.
 * Errors: HARK_EINVAL, HARK_ENOMEM, HARK_ESYS. */
HARK_API HARK_MUST hark_err hark_app_new(const hark_app_opts *opts, hark_app **ret,
                                         hark_errinfo *ei);

/* Stops the app if it runs and drops the reference.
 * Ownership: takes the reference; NULL is fine; returns NULL.
 * Threads: as hark_app_stop; on others it does nothing but log that.
 * Blocks: as hark_app_stop.
 * Errors: none. */
HARK_API hark_app *hark_app_unref(hark_app *app);

/* Binds "HOST:PORT", an IPv4 address or a bracketed IPv6 one; port 0 takes a free port. May be
 * called several times, before the app is started. If the process was handed a socket that is bound
 * to this address (by hark_supervise, or by systemd in LISTEN_FDS) and nobody has taken it yet, that
 * one is taken; it keeps the backlog that it has. Port 0 takes the first one with this host.
 * Ownership: none.
 * Threads: any, one at a time.
 * Blocks: no.
 * Errors: HARK_EINVAL (address, or a fault kept from setting up), HARK_EEXIST (in use),
 * HARK_EDENIED, HARK_ESYS; `ei` says which address and what to do. */
HARK_API HARK_MUST hark_err hark_app_listen(hark_app *app, const char *address, hark_errinfo *ei);

/* Listens on a socket that is bound and listening already (handed over by a parent or systemd).
 * Ownership: takes fd over, also when it fails.
 * Threads: any, one at a time.
 * Blocks: no.
 * Errors: HARK_EINVAL when fd is no listening stream socket. */
HARK_API HARK_MUST hark_err hark_app_listen_fd(hark_app *app, int fd, hark_errinfo *ei);

/* Port of the first address bound; 0 when there is none.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API int hark_app_port(const hark_app *app);

/* Starts the loops and returns. Routes and middleware are fixed from then on.
 * Ownership: none.
 * Threads: any.
 * Blocks: until the loops run.
 * Errors: HARK_EINVAL (nothing bound, started already, or a fault kept from setting up),
 * HARK_ENOMEM, HARK_ESYS. */
HARK_API HARK_MUST hark_err hark_app_start(hark_app *app, hark_errinfo *ei);

/* Stops: no new connections, idle ones are closed, requests in flight are finished, at most for
 * drain_ms; what still runs then is cut off. Stopping twice, or what never ran, is fine.
 * Ownership: none.
 * Threads: any that may block, a handler of the bus too, but no loop or worker of an app, and not
 * the encoder of a feed of this app; hark_app_quit may be called on all.
 * Blocks: at most drain_ms and what blocking handlers and encoders of feeds take to return.
 * Errors: HARK_EWRONGTHREAD (nothing is stopped then); HARK_ETIMEDOUT when requests were cut off. */
HARK_API HARK_MUST hark_err hark_app_stop(hark_app *app, hark_errinfo *ei);

/* Asks a running hark_app_run to return. Does nothing more; may be called from a handler.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_app_quit(hark_app *app);

/* hark_app_start, then waits for SIGTERM, SIGINT or hark_app_quit, then hark_app_stop. The two
 * signals are handled while it runs; the same one a second time ends the process (one that
 * hark_supervise passes on beside one that came directly is not a second one).
 * Ownership: none.
 * Threads: any, one app of the process at a time.
 * Blocks: yes.
 * Errors: as hark_app_start and hark_app_stop; HARK_EWRONGTHREAD. */
HARK_API HARK_MUST hark_err hark_app_run(hark_app *app, hark_errinfo *ei);

typedef struct hark_app_stats {
    size_t size;
    uint64_t connections;    /* open now */
    uint64_t accepted;       /* since the start */
    uint64_t requests;       /* answered, refusals included */
    uint64_t refused;        /* malformed: never reached a handler */
    uint64_t timed_out;      /* connections closed for being slow */
    uint64_t events_dropped; /* hark_request_events: the bus had no room */
    uint64_t streams;        /* open now; not among the connections */
    uint64_t streams_cut;    /* since the start: the client had stalled */
} hark_app_stats;

/* Counters of an app, gathered from its loops. `ret->size` must be set (zero the rest).
 * Ownership: fills *ret.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL for an unknown size. */
HARK_API HARK_MUST hark_err hark_app_stats_get(hark_app *app, hark_app_stats *ret);

/* ---- routes ------------------------------------------------------------------------------------
 */

typedef struct hark_route_opts {
    size_t size;
    int64_t blocking;          /* not 0: the handler may block; it runs on the worker pool */
    size_t body_limit;         /* instead of the middleware's or the app's */
    void (*free_ud)(void *ud); /* called once when the app is freed */
    int64_t flags;             /* none yet: 0 */
} hark_route_opts;

/* For a route whose handler blocks: hark_route(app, "GET", "/orders", list, shop, HARK_BLOCKING). */
#define HARK_BLOCKING HARK_OPTS(hark_route_opts, .blocking = 1)

/* Adds a route. A path is made of segments: text, ":name" for any one segment that is not empty, a
 * final "*name" (or "*") for any rest, also an empty one. Text goes before ":name" before "*name".
 * `method` NULL stands for every method that has no route of its own. HEAD is answered by GET
 * unless it has a route, OPTIONS by the list of methods, a path without this method by 405.
 * Ownership: strings are copied; ud goes to opts->free_ud (also when this call fails).
 * Threads: any, one at a time, before the app is started.
 * Blocks: no.
 * Errors: HARK_EINVAL (malformed), HARK_EEXIST (the route is there), HARK_ENOMEM; kept. */
HARK_API hark_err hark_route(hark_app *app, const char *method, const char *path, hark_http_fn fn,
                             void *ud, const hark_route_opts *opts);

/* hark_route for one method; hark_any for every method that has no route of its own.
 * Ownership: as hark_route.
 * Threads: as hark_route.
 * Blocks: no.
 * Errors: as hark_route. */
HARK_API hark_err hark_get(hark_app *app, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_post(hark_app *app, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_put(hark_app *app, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_patch(hark_app *app, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_delete(hark_app *app, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_any(hark_app *app, const char *path, hark_http_fn fn, void *ud);

/* A group: routes under a common prefix with middleware of their own, which runs after the app's.
 * hark_group_group nests one in another.
 * Ownership: *ret belongs to the app and lives as long as it; untouched on failure.
 * Threads: as hark_route.
 * Blocks: no.
 * Errors: HARK_EINVAL (prefix), HARK_ENOMEM; kept. */
HARK_API hark_err hark_app_group(hark_app *app, const char *prefix, hark_group **ret);
HARK_API hark_err hark_group_group(hark_group *g, const char *prefix, hark_group **ret);

/* hark_route and its short forms inside a group; a NULL group (one whose making failed) fails.
 * Ownership: as hark_route.
 * Threads: as hark_route.
 * Blocks: no.
 * Errors: as hark_route. */
HARK_API hark_err hark_group_route(hark_group *g, const char *method, const char *path,
                                   hark_http_fn fn, void *ud, const hark_route_opts *opts);
HARK_API hark_err hark_group_get(hark_group *g, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_group_post(hark_group *g, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_group_put(hark_group *g, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_group_patch(hark_group *g, const char *path, hark_http_fn fn, void *ud);
HARK_API hark_err hark_group_delete(hark_group *g, const char *path, hark_http_fn fn, void *ud);

/* ---- middleware --------------------------------------------------------------------------------
 */

/* What a middleware constructor returns, by value; one whose `err` is set is refused by
 * hark_app_use with `text`. Make your own with fn, ud and free_ud; zero the rest. */
typedef struct hark_middleware {
    hark_http_fn fn;
    void *ud;
    void (*free_ud)(void *ud); /* called once when the app is freed */
    size_t body_limit;         /* not 0: limit for bodies of the routes it covers */
    int64_t err;               /* hark_err of a constructor that failed */
    char text[200];            /* why */
} hark_middleware;

/* Adds middleware to every request of the app, 404 and 405 too, or to a group's routes. The order
 * of calls is the order in which it runs; the app's comes before a group's.
 * Ownership: takes mw.ud over, also when it fails.
 * Threads: any, one at a time, before the app is started.
 * Blocks: no.
 * Errors: HARK_EINVAL, HARK_ENOMEM, the constructor's; kept. */
HARK_API hark_err hark_app_use(hark_app *app, hark_middleware mw);
HARK_API hark_err hark_group_use(hark_group *g, hark_middleware mw);

/* Runs the next middleware or the handler, and returns what it returned. A middleware that does not
 * call it answers the request itself. The reply may still change or wait for receipts after this
 * returns, and when the handler has deferred it (hark_ctx_defer) the context must not be touched:
 * use hark_ctx_on_reply and hark_ctx_on_done, registered before, to see what became of it.
 * Ownership: none.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: the handler's. */
HARK_API hark_err hark_ctx_next(hark_ctx *c);

/* What became of a request. */
typedef struct hark_outcome {
    size_t size;
    int64_t status;      /* of the reply; 0 when the connection died before there was one */
    uint64_t bytes;      /* of its body */
    int64_t duration_ns; /* from the request line to the last byte handed to the kernel */
    int64_t complete;    /* not 0: all was sent */
} hark_outcome;

typedef void (*hark_reply_fn)(hark_ctx *c, int status, void *ud);
typedef void (*hark_done_fn)(hark_ctx *c, const hark_outcome *outcome, void *ud);

/* on_reply: called before the head of the reply goes out; may set headers, nothing else. The one
 * registered last is called first: so a middleware that stands further out sees what those behind
 * it have set. Not called for a reply that hark_timeout sends in the handler's place. on_done:
 * called after the reply was sent or the connection died, when nothing of the request is under way
 * any more, in the order of registering.
 * Ownership: ud stays the caller's; take it from hark_ctx_alloc.
 * Threads: the handler's; fn is called on the request's loop and must not block.
 * Blocks: no.
 * Errors: HARK_ENOMEM; kept. */
HARK_API hark_err hark_ctx_on_reply(hark_ctx *c, hark_reply_fn fn, void *ud);
HARK_API hark_err hark_ctx_on_done(hark_ctx *c, hark_done_fn fn, void *ud);

/* ---- context: the request ----------------------------------------------------------------------
 */

/* method: as sent. path: percent-decoded once. target: as sent, with the query. route: the pattern
 * that matched, "" when none did. remote: the peer's "address:port". request_id: what the
 * middleware hark_request_id set, else made on first use. param: of the route, decoded. query:
 * first of that name, decoded. header: first of that name, case-insensitive. NULL when absent.
 * Ownership: borrowed; live as long as the request.
 * Threads: the handler's, or whoever holds a deferred context.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_ctx_method(const hark_ctx *c);
HARK_API const char *hark_ctx_path(const hark_ctx *c);
HARK_API const char *hark_ctx_target(const hark_ctx *c);
HARK_API const char *hark_ctx_route(const hark_ctx *c);
HARK_API const char *hark_ctx_remote(hark_ctx *c);
HARK_API const char *hark_ctx_request_id(hark_ctx *c);
HARK_API const char *hark_ctx_param(const hark_ctx *c, const char *name);
HARK_API const char *hark_ctx_query(hark_ctx *c, const char *name);
HARK_API const char *hark_ctx_header(const hark_ctx *c, const char *name);
HARK_API hark_app *hark_ctx_app(const hark_ctx *c);
HARK_API hark_bus *hark_ctx_bus(const hark_ctx *c);

/* When the request began: wall clock, ns since 1970 UTC.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API int64_t hark_ctx_started_ns(const hark_ctx *c);

/* The body, whole; NULL and 0 when there is none. A NUL follows it.
 * Ownership: borrowed; lives as long as the request.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: none. */
HARK_API const void *hark_ctx_body(const hark_ctx *c, size_t *ret_len);

/* Reads the JSON body into a struct through a field table (<hark/json.h>). All faults go into
 * `errors` of the problem document. hark_ctx_bind_optional leaves the struct as it is when there is
 * no body; to hark_ctx_bind that is a fault.
 * Ownership: strings and lists that it makes belong to the request and are freed with it: copy what
 * you keep, do not call hark_json_free. Owned members must be NULL before.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_EMEDIA (the content type is not JSON), HARK_ESYNTAX, HARK_ESCHEMA, HARK_ETOOBIG,
 * HARK_EINVAL (table), HARK_ENOMEM; return it and the client is told. */
HARK_API HARK_MUST hark_err hark_ctx_bind(hark_ctx *c, const hark_json_table *table,
                                          void *ret_struct);
HARK_API HARK_MUST hark_err hark_ctx_bind_optional(hark_ctx *c, const hark_json_table *table,
                                                   void *ret_struct);

/* Reads a whole number of the query, ?limit=20. *ret stays as it is when the query has none of this
 * name.
 * Ownership: fills *ret.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_EINVAL (no whole number, or out of bounds); return it and the client is told. */
HARK_API HARK_MUST hark_err hark_ctx_query_int(hark_ctx *c, const char *name, int64_t min,
                                               int64_t max, int64_t *ret);

/* Memory that lives as long as the request, 16-aligned, not zeroed. printf returns such text.
 * Ownership: the request's.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: NULL when memory is out. */
HARK_API void *hark_ctx_alloc(hark_ctx *c, size_t size);
HARK_API char *hark_ctx_printf(hark_ctx *c, const char *fmt, ...) HARK_PRINTF(2, 3);

/* A value kept with the request under a key: the address of something of your own.
 * Ownership: none is taken; the value should live as long as the request.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_ENOMEM; hark_ctx_get gives NULL when there is none. */
HARK_API HARK_MUST hark_err hark_ctx_set(hark_ctx *c, const void *key, void *value);
HARK_API void *hark_ctx_get(const hark_ctx *c, const void *key);

/* ---- context: the reply ------------------------------------------------------------------------
 */

/* Set the reply; the last one counts. It is sent when the handler has returned HARK_OK and every
 * receipt of the request is there. json: a struct through its field table. json_text, text: copied.
 * bytes: copied, with a content type. redirect: a 3xx status and where to.
 * Ownership: everything is copied.
 * Threads: the handler's, or whoever holds a deferred context.
 * Blocks: no.
 * Errors: HARK_EINVAL (status, location), HARK_ESCHEMA (what cannot be encoded), HARK_ENOMEM. */
HARK_API hark_err hark_ctx_json(hark_ctx *c, int status, const hark_json_table *table,
                                const void *from);
HARK_API hark_err hark_ctx_json_text(hark_ctx *c, int status, const char *json);
HARK_API hark_err hark_ctx_text(hark_ctx *c, int status, const char *text);
HARK_API hark_err hark_ctx_bytes(hark_ctx *c, int status, const char *content_type,
                                 const void *data, size_t len);
HARK_API hark_err hark_ctx_no_content(hark_ctx *c);
HARK_API hark_err hark_ctx_redirect(hark_ctx *c, int status, const char *location);

/* Replies with the content of an open file, from `offset` on, sent by the kernel.
 * Ownership: takes fd over, also when it fails.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_EINVAL, HARK_ENOMEM. */
HARK_API hark_err hark_ctx_file(hark_ctx *c, int status, const char *content_type, int fd,
                                uint64_t offset, uint64_t len);

/* Replies with a problem document (RFC 9457) of your own; detail may be NULL.
 * Ownership: copied.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_EINVAL (status), HARK_ENOMEM. */
HARK_API hark_err hark_ctx_problem(hark_ctx *c, int status, const char *title, const char *detail);

/* Returns `err` after keeping a detail text for its problem document: return hark_ctx_fail(...).
 * Texts for errors of status 500 are logged and not shown to the client.
 * Ownership: copied.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: the one given. */
HARK_API hark_err hark_ctx_fail(hark_ctx *c, hark_err err, const char *fmt, ...) HARK_PRINTF(3, 4);

/* The same for one place of the body, as what hark_ctx_bind finds: the problem document's `errors`
 * name it. `path` is like "$.items[0].sku"; the text reads on after it: "is sold out". HARK_ESCHEMA
 * is status 422.
 * Ownership: copied.
 * Threads: the handler's, or the closure's of hark_ctx_transact.
 * Blocks: no.
 * Errors: the one given. */
HARK_API hark_err hark_ctx_fail_at(hark_ctx *c, hark_err err, const char *path, const char *fmt,
                                   ...) HARK_PRINTF(4, 5);

/* set_header replaces all headers of this name by one, add_header adds one more. Content-Length,
 * Transfer-Encoding, Connection and Date are the server's.
 * Ownership: copied.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_EINVAL (name or value), HARK_ENOMEM; kept. */
HARK_API hark_err hark_ctx_set_header(hark_ctx *c, const char *name, const char *value);
HARK_API hark_err hark_ctx_add_header(hark_ctx *c, const char *name, const char *value);

/* Status of the reply as it stands; 0 when none is set. hark_ctx_set_status changes it.
 * Ownership: none.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_EINVAL (no status from 200 to 599, no reply is set, or it is a stream); kept. */
HARK_API int hark_ctx_status(const hark_ctx *c);
HARK_API hark_err hark_ctx_set_status(hark_ctx *c, int status);

/* Composes the problem document that an error would get, as the reply: for middleware.
 * Ownership: none.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: HARK_ENOMEM. */
HARK_API hark_err hark_ctx_problem_of(hark_ctx *c, hark_err err);

/* ---- context: work that takes its time
 * ----------------------------------------------------------- */

/* Publishes on the app's bus without waiting. correlationid and causationid are the request id
 * unless given. The reply is held back until the receipt is there; if the publish fails, the reply
 * becomes a problem document, with Retry-After where repeating may help.
 * Ownership: the spec is copied.
 * Threads: the handler's, or whoever holds a deferred context.
 * Blocks: no.
 * Errors: as hark_publish_async; HARK_ENOTSUP (the app has no bus). Return it, or reply otherwise.
 */
HARK_API HARK_MUST hark_err hark_ctx_publish(hark_ctx *c, const hark_event_spec *spec);

/* Publishes a struct as JSON through its field table; the spec gives the rest and no data.
 * Ownership: everything is copied.
 * Threads: as hark_ctx_publish.
 * Blocks: no.
 * Errors: as hark_ctx_publish; HARK_EINTERNAL (the struct breaks the table's rules). */
HARK_API HARK_MUST hark_err hark_ctx_publish_json(hark_ctx *c, const hark_event_spec *spec,
                                                  const hark_json_table *table, const void *from);

/* Called with the outcome of a publish, to compose the reply; receipt is NULL unless err is OK. */
typedef hark_err (*hark_ctx_published_fn)(hark_ctx *c, hark_err err, const hark_receipt *receipt,
                                          void *ud);

/* Like hark_ctx_publish, but fn gets the outcome and sets the reply; what it returns counts like
 * what a handler returns. With a bus on "memory:" fn may be called before this returns.
 * Ownership: the spec is copied; the receipt is borrowed in fn; take ud from hark_ctx_alloc.
 * Threads: as hark_ctx_publish; fn is called on the request's loop or by this call.
 * Blocks: no.
 * Errors: as hark_ctx_publish; fn is not called then. */
HARK_API HARK_MUST hark_err hark_ctx_publish_then(hark_ctx *c, const hark_event_spec *spec,
                                                  hark_ctx_published_fn fn, void *ud);

/* A transaction of a request: as hark_tx_fn, and composes the reply with hark_ctx_json and the
 * like. It runs where the log is written: of `c` it may use what reads the request, hark_ctx_alloc
 * and what sets the reply; each run begins without a reply. */
typedef hark_err (*hark_ctx_tx_fn)(hark_ctx *c, hark_tx *tx, void *ud);

/* Runs a transaction (<hark/tx.h>) and holds the reply back until it is committed; the handler
 * returns what this returns and touches the context no more. Events are stamped as by
 * hark_ctx_publish. When it fails, the reply becomes a problem document of the error: say with
 * hark_ctx_fail what the client is to read (its own SQL is not shown, and SQL that is denied is
 * status 500). On a route with hark_idempotency the reply is stored in the same commit; a reply of
 * status 500 or more undoes the transaction there.
 * Ownership: ud must live as long as the request; take it from hark_ctx_alloc.
 * Threads: the handler's.
 * Blocks: no.
 * Errors: as hark_transact_async; HARK_EINVAL (the reply is deferred already). Return it. */
HARK_API HARK_MUST hark_err hark_ctx_transact(hark_ctx *c, hark_ctx_tx_fn fn, void *ud,
                                              const hark_tx_opts *opts);

/* Defers the reply: the handler returns HARK_OK right after it and touches the context no more;
 * whoever took it composes the reply on any one thread and gives it back with hark_ctx_resume,
 * once, with HARK_OK or an error. The context lives until then, even if the client is gone.
 * Ownership: the context goes to the caller until hark_ctx_resume.
 * Threads: defer: the handler's; resume: any.
 * Blocks: no.
 * Errors: HARK_EINVAL when it is deferred already. */
HARK_API HARK_MUST hark_err hark_ctx_defer(hark_ctx *c);
HARK_API void hark_ctx_resume(hark_ctx *c, hark_err err);

/* Gives a context back like hark_ctx_resume, but goes on instead of replying: for middleware that
 * waits for something before it lets a request through. `fn` is called in the place of the
 * middleware that deferred, with all that a middleware may do: hark_ctx_next, a reply, an error,
 * deferring again. NULL goes on with what follows. The middlewares before it have returned already:
 * an error that `fn` returns becomes the problem document. `fn` is not called when the request has
 * ended meanwhile (the client is gone, hark_timeout has answered, the app was stopped): let go what
 * was taken in hark_ctx_on_done.
 * Ownership: the context goes back; take ud from hark_ctx_alloc.
 * Threads: any; fn is called on the request's loop, for a blocking route by a worker.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_ctx_continue(hark_ctx *c, hark_http_fn fn, void *ud);

#ifdef __cplusplus
}
#endif
#endif
