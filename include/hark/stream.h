/* hark/stream.h: live replies by Server-Sent Events (WHATWG HTML, "Server-sent events"): what a
 * browser's EventSource reads.
 *
 * A feed is what is shown: events of the app's bus, or messages that the program sends. Each is
 * encoded once, however many clients read it. A client holds a position, no queue: a slow one is
 * given what the feed still keeps, and before that what the log keeps. Of a feed of events the ids
 * are cursors, "<log>.<epoch>-<sequence>"; a client that comes back with Last-Event-ID (a header,
 * or `lastEventId` in the query) goes on behind it without loss or repeat. What the log no longer
 * has (by retention, or since a server lost it), or a cursor of another log or epoch, gives an event
 * named "gap" whose data is {"from":…,"to":…,"reason":"retention"} or {"reason":"other log"}. On a log
 * that several processes append to, a client may come from one that is ahead of this one: what it has
 * not seen follows when it is here, and only if the log, which is asked after 3 s, does not go so far,
 * it is another one's.
 */
#ifndef HARK_STREAM_H
#define HARK_STREAM_H

#include <hark/http.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hark_feed hark_feed;   /* belongs to an app */
typedef struct hark_frame hark_frame; /* one message while it is made */

/* Makes the message that clients get of an event, with the functions below; without data they get
 * none. Called once for each event on a thread of the feed, and again, on another thread and maybe at
 * the same time, for clients that read it from the log: it must not depend on who reads. Everything
 * is borrowed. After an error clients do not get this event; that is logged, once for each of the
 * first 64 types. HARK_ENOMEM is another matter: clients are sent to the log for the event, and who
 * finds no memory there either is cut off and comes back. */
typedef hark_err (*hark_feed_fn)(hark_frame *f, const hark_event *e, void *ud);

/* What a frame holds: `event` of the message (none: EventSource calls onmessage), and its data, as
 * text of any lines or as a struct through its field table. The last one set counts.
 * Ownership: everything is copied.
 * Threads: the encoder's.
 * Blocks: no.
 * Errors: HARK_EINVAL (a name with control characters, data that is not UTF-8), HARK_ESCHEMA,
 * HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_frame_name(hark_frame *f, const char *name);
HARK_API HARK_MUST hark_err hark_frame_data(hark_frame *f, const void *text, size_t len);
HARK_API HARK_MUST hark_err hark_frame_json(hark_frame *f, const hark_json_table *table,
                                            const void *from);

typedef struct hark_feed_opts {
    size_t size;
    const char *pattern; /* events of the app's bus; NULL: the program sends (hark_feed_send) */
    hark_feed_fn encode; /* default: the event as CloudEvents JSON, without a name */
    void *ud;
    void (*free_ud)(void *ud); /* called once after the last call of `encode` */
    size_t keep;               /* messages kept for readers; default 1024 */
    /* And about so many bytes of them, with their events, which patterns and filters of streams look
     * at; the newest message is always kept. Default 4 MiB. */
    size_t keep_bytes;
    int64_t dataversion; /* as in hark_sub_opts: which version `encode` sees */
} hark_feed_opts;

/* Makes a feed. Events count from this call on; older ones are in the log.
 * Ownership: *ret belongs to the app and lives as long as it; ud goes to free_ud (also when this
 * fails).
 * Threads: any that may block, one at a time, before the app is started.
 * Blocks: with a pattern, on reading its newest event.
 * Errors: HARK_EINVAL (pattern; or one is given and the app has no bus), HARK_ENOMEM, and as
 * hark_subscribe and hark_read; kept. */
HARK_API hark_err hark_app_feed(hark_app *app, const hark_feed_opts *opts, hark_feed **ret);

/* Sends a message to all who read a feed that has no pattern. `name` may be NULL. Nobody is waited
 * for: who is so slow that the feed no longer keeps it, misses it, and goes on with the oldest one
 * kept.
 * Ownership: everything is copied.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL (the feed has a pattern; as hark_frame_data), HARK_ESCHEMA, HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_feed_send(hark_feed *feed, const char *name, const void *text,
                                           size_t len);
HARK_API HARK_MUST hark_err hark_feed_send_json(hark_feed *feed, const char *name,
                                                const hark_json_table *table, const void *from);

/* How many clients read it now.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API size_t hark_feed_readers(const hark_feed *feed);

typedef struct hark_stream_opts {
    size_t size;
    const char *pattern; /* only events whose type it matches; NULL = all that the feed shows */
    bool (*filter)(const hark_event *e, void *ud); /* and of which this is true; called on loops */
    void *ud;
    void (*free_ud)(void *ud); /* called once when the stream has ended */
    const char *after;         /* where it begins, unless Last-Event-ID says: behind this cursor, or
                             "first": with the oldest event; NULL: with what comes from now on */
    size_t last; /* feeds without a pattern: begin with the newest so many that are kept */
    /* Times, at most 12 days each; heartbeat_ms and stall_ms at least 10. */
    int64_t heartbeat_ms; /* a comment when nothing was sent for so long; default 15000 */
    int64_t retry_ms;     /* told to the client: wait so long before coming back; spread by a
                             quarter; default 2000 */
    int64_t stall_ms;     /* a client that takes nothing of what is there for so long is cut off;
                             default 60000 */
} hark_stream_opts;

/* Replies with a stream. Headers set so far are sent with it, with status 200, which cannot be
 * changed. The request is done (hooks, logger) when the head is sent: its outcome tells of 0 bytes
 * and of the time until then. The connection ends with the stream: when the client goes, when it
 * stalls, when the app stops. Streams count among max_connections, of which they leave a sixteenth
 * to other requests; one too many gets status 200, retry, and its end, since browsers never come
 * back after any other status.
 * Ownership: opts are copied; ud goes to free_ud (also when this fails).
 * Threads: the handler's, or whoever holds a deferred context.
 * Blocks: no.
 * Errors: HARK_EINVAL (options, a feed of another app, a request that hark_idempotency has a key
 * of), HARK_ENOMEM; kept. A Last-Event-ID that
 * cannot be read is HARK_ESYNTAX. */
HARK_API hark_err hark_ctx_stream(hark_ctx *c, hark_feed *feed, const hark_stream_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
