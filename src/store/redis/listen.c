/* listen.c: the receiving side of redis+pubsub: a thread that hands what comes in to the bus, in the
 * order of arrival and with sequences of this process' own. When the connection is lost it connects
 * again and tells of a gap: one sequence stands for all that was missed, since nobody knows how
 * much that was. A message that is no event of its channel is a gap of one, too. */
#include "store/redis/pubsub_i.h"

#include <poll.h>
#include <string.h>

/* A connection on which nothing comes for QUIET_NS is asked whether it is alive. */
#define QUIET_NS (INT64_C(10) * 1000000000)

/* ---- handing over ----------------------------------------------------------------------------- */

static void hand_over(hark_store *s)
{
    if (!s->n)
        return;
    hk_mark_set(&s->last, s->given);
    s->host.committed(s->host.ud, s->batch, s->n);
    s->n = 0;
}

static void add(hark_store *s, hark_event *e)
{
    int64_t now = hk_wall_ns();
    s->recorded_ns = now > s->recorded_ns ? now : s->recorded_ns;
    hark_event_stamp(e, ++s->given, s->recorded_ns);
    s->batch[s->n++] = e;
    if (s->n == HK_PUBSUB_BATCH)
        hand_over(s);
}

/* `type` NULL: of any. */
static void tell_lost(hark_store *s, const char *type, hark_gap_cause cause)
{
    hand_over(s);
    uint64_t seq = ++s->given;
    hk_mark_set(&s->last, seq);
    s->host.lost(s->host.ud, type, seq, seq, cause);
}

/* ---- messages --------------------------------------------------------------------------------- */

/* Told once for each type. */
static void warn(hark_store *s, const char *type, size_t len, const hark_errinfo *why)
{
    uint64_t h = hk_hash(type, len) % HK_PUBSUB_WARNED, bit = UINT64_C(1) << (h % 64);
    if (s->warned[h / 64] & bit)
        return;
    s->warned[h / 64] |= bit;
    hk_log(
        HK_WARN,
        "redis at %s: a message on channel %s%s is passed over as a gap, and so are further ones, "
        "untold: %s",
        s->url.place, s->prefix, type, why->text);
}

/* The server's own channels, which a subscription to all others gets, too. */
static bool is_servers(const char *channel)
{
    return strncmp(channel, "__keyspace@", 11) == 0 || strncmp(channel, "__keyevent@", 11) == 0;
}

static void take_message(hark_store *s, const redisReply *channel, const redisReply *text)
{
    if (channel->len <= s->prefix_len || is_servers(channel->str))
        return;
    const char *type = channel->str + s->prefix_len;
    size_t len = channel->len - s->prefix_len;
    if (hk_attr_check("type", type, len, HARK_TYPE_MAX, NULL))
        return; /* no type has this name: it is somebody else's channel */
    hark_errinfo ei = {0};
    hark_event *e = NULL;
    hark_err err = hark_event_from_json(text->str, text->len, NULL, &e, &ei);
    if (!err && strcmp(hark_event_type(e), type) != 0)
        err = hk_fail(&ei, HARK_ESCHEMA,
                      "the event is of type %.100s; publish it on the channel of its type",
                      hark_event_type(e));
    if (!err) {
        add(s, e);
        return;
    }
    hark_event_unref(e);
    if (err != HARK_ENOMEM) /* which says nothing about the message */
        warn(s, type, len, &ei);
    tell_lost(s, type, HARK_GAP_UNREADABLE);
}

static bool is_text(const redisReply *r, const char *text)
{
    return r->type == REDIS_REPLY_STRING && strcmp(r->str, text) == 0;
}

/* Is it a push of that name? */
static bool has_name(const redisReply *r, const char *name)
{
    return r->type == REDIS_REPLY_ARRAY && r->elements > 0 && is_text(r->element[0], name);
}

/* HARK_ESTORE: the server sent an error, which ends a connection that has subscribed. */
static hark_err take_reply(hark_store *s, const redisReply *r, hark_errinfo *ei)
{
    if (r->type == REDIS_REPLY_ERROR)
        return hk_redis_refused(&s->in.conn, r, ei);
    if (has_name(r, "pmessage") && r->elements == 4 && r->element[2]->type == REDIS_REPLY_STRING &&
        r->element[3]->type == REDIS_REPLY_STRING)
        take_message(s, r->element[2], r->element[3]);
    return HARK_OK;
}

/* ---- subscribing ------------------------------------------------------------------------------ */

/* The prefix as it stands, then anything. */
static void pattern(const hark_store *s, hk_buf *ret)
{
    for (const char *p = s->prefix; *p; p++) {
        if (strchr("*?[]\\", *p))
            hk_buf_addc(ret, '\\');
        hk_buf_addc(ret, *p);
    }
    hk_buf_addc(ret, '*');
}

static hark_err ask(hark_store *s, hark_errinfo *ei)
{
    hk_redis_conn *c = &s->in.conn;
    hk_buf p = {0};
    int64_t deadline = hk_mono_ns() + HK_REDIS_TIMEOUT_NS;
    pattern(s, &p);
    if (p.failed)
        return hk_fail(ei, HARK_ENOMEM, "no memory to subscribe");
    const hk_redis_arg args[] = {{"PSUBSCRIBE", 10}, {p.data, p.len}};
    hk_redis_add(c, args, HK_COUNTOF(args));
    hk_buf_free(&p);
    redisReply *r = NULL;
    hark_err err = hk_redis_flush(c, deadline, ei);
    hk_redis_forget(c);
    if (!err)
        err = hk_redis_reply(c, deadline, &r, ei);
    if (!err && r->type == REDIS_REPLY_ERROR)
        err = hk_redis_refused(c, r, ei);
    else if (!err && !has_name(r, "psubscribe"))
        err = hk_redis_strange(c, "PSUBSCRIBE", ei);
    if (r)
        freeReplyObject(r);
    return hk_redis_in_time(err, ei);
}

hark_err hk_pubsub_subscribe(hark_store *s, hark_errinfo *ei)
{
    hark_err err = hk_redis_connect(&s->in.conn, &s->url, s->in.name, s->stop, ei);
    if (!err)
        err = ask(s, ei);
    if (err)
        hk_redis_close(&s->in.conn);
    return err;
}

/* ---- the thread ------------------------------------------------------------------------------- */

static hark_err send_ping(hark_store *s, hark_errinfo *ei)
{
    const hk_redis_arg ping = {"PING", 4};
    hk_redis_conn *c = &s->in.conn;
    hk_redis_add(c, &ping, 1);
    hark_err err = hk_redis_flush(c, hk_mono_ns() + HK_REDIS_TIMEOUT_NS, ei);
    hk_redis_forget(c);
    return err;
}

/* The next reply; what came before it is handed over before anybody waits. */
static hark_err next(hark_store *s, redisReply **ret, hark_errinfo *ei)
{
    hk_redis_conn *c = &s->in.conn;
    hark_err err = hk_redis_look(c, ret, ei);
    if (err || *ret)
        return err;
    hand_over(s);
    err = hk_redis_reply(c, hk_mono_ns() + QUIET_NS, ret, ei);
    if (err != HARK_ETIMEDOUT)
        return err;
    err = send_ping(s, ei);
    return err ? err : hk_redis_reply(c, hk_mono_ns() + HK_REDIS_TIMEOUT_NS, ret, ei);
}

/* Until the connection is lost, or the store is closed (HARK_ECANCELED). */
static hark_err receive(hark_store *s, hark_errinfo *ei)
{
    hark_err err;
    redisReply *r;
    while (!(err = next(s, &r, ei))) {
        err = take_reply(s, r, ei);
        freeReplyObject(r);
        if (err)
            break;
    }
    hand_over(s);
    return err;
}

/* False: the store is closed meanwhile. */
static bool rest(hark_store *s)
{
    struct pollfd p = {.fd = s->stop, .events = POLLIN};
    for (;;) {
        int64_t left = s->in.next_ns - hk_mono_ns();
        int n = poll(&p, 1, left > 0 ? (int)(left / 1000000) + 1 : 0);
        if (n > 0)
            return false;
        if (n == 0)
            return true;
    }
}

/* Connects until it succeeds. False: the store is closed. */
static bool come_back(hark_store *s)
{
    for (;;) {
        hark_errinfo ei = {0};
        if (!rest(s))
            return false;
        hark_err err = hk_pubsub_subscribe(s, &ei);
        if (err == HARK_ECANCELED)
            return false;
        if (!err)
            break;
        hk_pubsub_failed(&s->in, &ei);
    }
    hk_pubsub_connected(s, &s->in);
    tell_lost(s, NULL, HARK_GAP_CONNECTION);
    return true;
}

void *hk_pubsub_listen(void *store)
{
    hark_store *s = store;
    (void)hk_role_set(HK_ROLE_WRITER); /* nothing that it calls may wait for it */
    do {
        hark_errinfo ei = {0};
        if (receive(s, &ei) == HARK_ECANCELED)
            break;
        hk_redis_close(&s->in.conn);
        hk_pubsub_failed(&s->in, &ei);
    } while (come_back(s));
    return NULL;
}
