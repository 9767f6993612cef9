/* A live reply begins: options, where it starts, and taking the connection over. libmicrohttpd keeps
 * tens of KiB for each connection and has no means to write now and then; so when the reply is due,
 * the socket moves to an hk_stream and everything else of the request is released.
 *
 * The way it moves (libmicrohttpd 0.9.75): suspending a connection takes its descriptor out of the
 * daemon's epoll set at once. Then the socket gets another descriptor, and a dead socket goes in the
 * place of the old one (dup2), so that what libmicrohttpd shuts down and closes when it ends the
 * connection is not the client's. Without the first step its registration would live on with the
 * socket. */
#include "http/stream_i.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What lies in the kernel for a client: a slow one has few KiB that are not sent. */
enum { SEND_BUFFER = 64 * 1024, NOT_SENT_MAX = 16 * 1024, TIME_LEAST_MS = 10, DOUBT_MS = 3000 };

void hk_stream_free(hk_stream *s)
{
    hk_block_put(s->part);
    if (s->free_ud)
        s->free_ud(s->ud);
    free(s->pattern);
    free(s);
}

/* ---- hark_ctx_stream ---- */

static hark_err HARK_PRINTF(3, 4) refuse(hark_ctx *c, hark_err err, const char *fmt, ...)
{
    char why[300];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    (void)hark_ctx_fail(c, HARK_EINTERNAL, "hark_ctx_stream: %s", why);
    return hk_ctx_keep(c, err);
}

static hark_err check_kind(hark_ctx *c, const hark_feed *f, const hark_stream_opts *o)
{
    if (!f || f->app != c->app)
        return refuse(c, HARK_EINVAL, "the feed is not this app's");
    if (c->keyed)
        return refuse(c, HARK_EINVAL,
                      "a request with an Idempotency-Key has a reply that can be stored; leave the "
                      "route of a stream out of hark_idempotency");
    if (f->pattern && o->last)
        return refuse(c, HARK_EINVAL, "last is for feeds without a pattern; use after");
    if (!f->pattern && (o->pattern || o->filter || o->after))
        return refuse(c, HARK_EINVAL, "pattern, filter and after are for feeds with a pattern");
    return HARK_OK;
}

static bool is_odd(int64_t ms, int64_t least)
{
    return ms != 0 && (ms < least || ms > INT32_MAX / 2);
}

static hark_err check(hark_ctx *c, const hark_feed *f, const hark_stream_opts *o)
{
    hark_errinfo ei = {0};
    if (is_odd(o->heartbeat_ms, TIME_LEAST_MS) || is_odd(o->stall_ms, TIME_LEAST_MS) ||
        is_odd(o->retry_ms, 1))
        return refuse(c, HARK_EINVAL,
                      "heartbeat_ms, stall_ms or retry_ms is over 12 days, or one of the first two "
                      "under %d; 0 is the default",
                      TIME_LEAST_MS);
    hark_err err = check_kind(c, f, o);
    if (!err && o->pattern && hark_pattern_check(o->pattern, &ei))
        err = refuse(c, HARK_EINVAL, "pattern: %s", ei.text);
    return err;
}

static int64_t or_else(int64_t v, int64_t otherwise)
{
    return v ? v : otherwise;
}

static hk_stream *stream_new(hark_feed *f, const hark_stream_opts *o)
{
    hk_stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->fd = -1;
    s->feed = f;
    s->filter = o->filter;
    s->ud = o->ud;
    s->last = o->last;
    s->heartbeat_ms = or_else(o->heartbeat_ms, 15000);
    s->retry_ms = or_else(o->retry_ms, 2000);
    s->stall_ms = or_else(o->stall_ms, 60000);
    s->pattern = hk_strdup(o->pattern);
    if (s->pattern || !o->pattern)
        return s;
    hk_stream_free(s);
    return NULL;
}

/* What the client has seen, by its header, or by the query as clients without headers say it. */
static const char *last_event_id(hark_ctx *c)
{
    const char *id = hark_ctx_header(c, "Last-Event-ID");
    if (!id || !*id)
        id = hark_ctx_query(c, "lastEventId");
    return id && *id ? id : NULL;
}

static hark_err take_cursor(hark_ctx *c, hk_stream *s, const char *text, hark_errinfo *ei)
{
    hark_app *app = c->app;
    pthread_rwlock_rdlock(&app->bus_lock);
    hark_err err = app->bus ? hark_cursor_parse(app->bus, text, &s->seen, ei) : HARK_ECLOSED;
    pthread_rwlock_unlock(&app->bus_lock);
    s->from = err == HARK_EGAP ? HK_FROM_OTHER : HK_FROM_SEEN;
    return err == HARK_EGAP ? HARK_OK : err;
}

static hark_err take_start(hark_ctx *c, hk_stream *s, const char *after)
{
    hark_errinfo ei = {0};
    const char *id = s->feed->pattern ? last_event_id(c) : NULL;
    if (id) {
        hark_err err = take_cursor(c, s, id, &ei);
        return err ? hark_ctx_fail(c, err, "Last-Event-ID: %s", hk_err_says(err, &ei)) : HARK_OK;
    }
    if (after && strcmp(after, "first") == 0) {
        s->from = HK_FROM_FIRST;
        return HARK_OK;
    }
    hark_err err = after ? take_cursor(c, s, after, &ei) : HARK_OK;
    return err ? refuse(c, HARK_EINVAL, "after: %s", hk_err_says(err, &ei)) : HARK_OK;
}

static hark_err make(hark_ctx *c, hark_feed *f, const hark_stream_opts *opts, hark_stream_opts *o,
                     hk_stream **ret)
{
    hark_errinfo ei = {0};
    hark_err err = hk_opts_take(opts, o, sizeof *o, "hark_stream_opts", &ei);
    if (err)
        return refuse(c, err, "%s", ei.text);
    err = check(c, f, o);
    if (err)
        return err;
    hk_stream *s = stream_new(f, o);
    if (!s)
        return hk_ctx_keep(c, HARK_ENOMEM);
    err = take_start(c, s, o->after);
    if (!err)
        err = hk_reply_set(c, 200, "text/event-stream", "", 0, NULL);
    if (err) {
        hk_stream_free(s);
        return err;
    }
    *ret = s;
    return HARK_OK;
}

hark_err hark_ctx_stream(hark_ctx *c, hark_feed *feed, const hark_stream_opts *opts)
{
    hark_stream_opts o = {0};
    hk_stream *s = NULL;
    hark_err err = make(c, feed, opts, &o, &s);
    if (err) {
        if (o.free_ud)
            o.free_ud(o.ud);
        return err;
    }
    s->free_ud = o.free_ud;
    c->reply.stream = s;
    return HARK_OK;
}

/* ---- the head -------------------------------------------------------------------------------- */

static bool is_ours(const char *name)
{
    static const char *const ours[] = {"Content-Type", "Cache-Control", "X-Accel-Buffering",
                                       "Content-Encoding"};
    for (size_t i = 0; i < HK_COUNTOF(ours); i++)
        if (strcasecmp(name, ours[i]) == 0)
            return true;
    return false;
}

static void write_head(hk_buf *b, const hark_ctx *c)
{
    char date[HK_HTTP_DATE];
    hk_http_date(time(NULL), date);
    hk_buf_addf(b,
                "HTTP/1.1 200 OK\r\nDate: %s\r\nConnection: close\r\n"
                "Content-Type: text/event-stream\r\nCache-Control: no-store\r\n"
                "X-Accel-Buffering: no\r\n",
                date);
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        if (!is_ours(h->name))
            hk_buf_addf(b, "%s: %s\r\n", h->name, h->value);
    hk_buf_adds(b, "\r\n");
}

/* Clients that lost the same server do not come back all at once. */
static void write_retry(hk_buf *b, int64_t ms)
{
    uint64_t dice;
    hk_random(&dice, sizeof dice);
    int64_t spread = ms / 2 + 1;
    hk_buf_addf(b, "retry: %lld\n", (long long)(ms - ms / 4 + (int64_t)(dice % (uint64_t)spread)));
}

/* ---- where it begins ------------------------------------------------------------------------- */

/* The log's end as far as it is known here; the feed, when it began, asked the store. */
static uint64_t newest_of(const hk_stream *s, uint64_t seen, hark_bus_info *ret)
{
    *ret = (hark_bus_info){.size = sizeof *ret};
    uint64_t newest = hark_bus_info_get(s->feed->app->bus, ret) ? 0 : ret->last_sequence;
    return newest > seen ? newest : seen;
}

/* A cursor that the log has not reached was not given out by it; but on a log that others append to, it
 * may have been by one that is a moment ahead. */
static void weigh_seen(hk_stream *s, uint64_t newest, bool shared)
{
    if (s->from != HK_FROM_SEEN || s->seen <= newest)
        return;
    if (shared)
        s->doubt_ms = s->loop->now_ms + DOUBT_MS;
    else
        s->from = HK_FROM_OTHER;
}

/* The feed's end is taken first: what comes in between is then told by the ring, and passed over as
 * seen. */
static void begin_of_events(hk_stream *s, hk_buf *b)
{
    char id[HARK_CURSOR_TEXT];
    hark_bus_info info;
    uint64_t seen;
    s->at = hk_feed_end(s->feed, &seen);
    uint64_t newest = newest_of(s, seen, &info);
    weigh_seen(s, newest, info.shared);
    if (s->from == HK_FROM_FIRST)
        s->seen = info.first_sequence ? info.first_sequence - 1 : newest;
    if (s->from == HK_FROM_NOW || s->from == HK_FROM_OTHER)
        s->seen = newest;
    else
        s->from_log = true; /* unless the ring has it all: see hk_stream_go_on */
    hk_feed_id(s->feed, s->seen, id);
    if (s->from == HK_FROM_OTHER)
        hk_gap_write(b, 0, 0, "other log", id);
    else
        hk_buf_addf(b, "id: %s\n\n", id);
    s->told = s->seen;
}

/* The log has not come to the cursor: it goes on from now. What came since is part of what it cannot be
 * told. */
static void tell_other(hk_stream *s, uint64_t newest)
{
    char id[HARK_CURSOR_TEXT];
    hk_buf b = {0};
    s->seen = s->told = newest;
    hk_feed_id(s->feed, newest, id);
    hk_gap_write(&b, 0, 0, "other log", id);
    s->part = hk_block_new(&b, 0, NULL);
    s->off = 0;
    hk_buf_free(&b);
    if (s->part)
        hk_stream_go_on(s);
    else
        hk_stream_close(s);
}

/* Time is up: who reads the log asks the store, so that a server that cannot be reached just now is not
 * taken for another log. */
void hk_stream_doubt(hk_stream *s)
{
    hark_bus_info info;
    uint64_t newest = newest_of(s, hk_feed_seen(s->feed), &info);
    bool over = s->loop->now_ms >= s->doubt_ms;
    if (newest < s->seen && !over)
        return;
    s->doubt_ms = 0;
    if (newest >= s->seen)
        return;
    s->asks = s->from_log = true;
    hk_stream_go_on(s);
}

void hk_stream_asked(hk_stream *s)
{
    hark_bus_info info;
    uint64_t newest = newest_of(s, hk_feed_seen(s->feed), &info);
    s->asks = false;
    if (newest >= s->seen)
        hk_stream_go_on(s);
    else
        tell_other(s, newest);
}

static void begin_of_messages(hk_stream *s, hk_buf *b)
{
    hk_buf_addc(b, '\n');
    s->at = hk_feed_newest(s->feed, s->last);
}

/* ---- taking the connection over -------------------------------------------------------------- */

static void settle_socket(int fd, int64_t stall_ms)
{
    int on = 1, buffer = SEND_BUFFER;
    unsigned not_sent = NOT_SENT_MAX, lost = (unsigned)(2 * stall_ms);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &not_sent, sizeof not_sent);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &lost, sizeof lost);
}

/* The client's socket under another descriptor; -1 when there is none left, and then the connection
 * just ends, which clients take as a reason to come back. */
static int take_socket(hark_ctx *c)
{
    hk_conn *k = c->conn;
    hk_loop *l = c->loop;
    if (!c->suspended)
        MHD_suspend_connection(k->mhd);
    int fd = fcntl(k->fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0 && dup3(l->dead_fd, k->fd, O_CLOEXEC) < 0) {
        close(fd);
        fd = -1;
    }
    if (fd < 0)
        (void)shutdown(k->fd, SHUT_RDWR);
    c->suspended = false;
    MHD_resume_connection(k->mhd); /* on_request then ends it */
    l->again = true;
    return fd;
}

/* Streams leave some connections to requests that are answered. */
static bool has_room(hk_loop *l)
{
    size_t limit = hk_accept_limit(l), most = limit > 1 ? limit - limit / 16 - 1 : 1;
    return !l->stopping && hk_count_get(&l->counts.streams) < most;
}

static void open_stream(hk_stream *s, hk_loop *l, hk_buf *b)
{
    s->loop = l;
    if (s->feed->pattern)
        begin_of_events(s, b);
    else
        begin_of_messages(s, b);
    s->part = hk_block_new(b, 0, NULL);
    if (s->part) {
        hk_stream_add(s);
        return;
    }
    close(s->fd);
    hk_stream_free(s);
}

static void send_and_close(hk_stream *s, hk_loop *l, const hk_buf *b)
{
    if (!b->failed) {
        ssize_t n = send(s->fd, b->data, b->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)n; /* the buffer of a new connection has room for a head */
    }
    hk_conn_linger_fd(l, s->fd);
    hk_stream_free(s);
}

void hk_stream_begin(hark_ctx *c)
{
    hk_stream *s = c->reply.stream;
    hk_loop *l = c->loop;
    hk_buf b = {0};
    c->reply.stream = NULL;
    s->fd = take_socket(c);
    c->queued = true;
    hk_conn_stage(c->conn, HK_STAGE_SEND, 0);
    if (s->fd < 0) {
        hk_stream_free(s);
        return;
    }
    c->taken = true;
    c->outcome.status = 200;
    settle_socket(s->fd, s->stall_ms);
    write_head(&b, c);
    if (c->method_id != HK_HEAD)
        write_retry(&b, s->retry_ms);
    if (c->method_id == HK_HEAD || !has_room(l)) {
        if (c->method_id != HK_HEAD)
            hk_buf_addc(&b, '\n');
        send_and_close(s, l, &b);
    } else {
        open_stream(s, l, &b);
    }
    hk_buf_free(&b);
}
