/* publish.c: the sending side of redis+pubsub. Everything that was handed over in one call shares
 * round trips: commands go out together, then the replies are read. An event that did not go out
 * whole was not published (HARK_ESTORE); one that did, and whose reply was lost, may have been
 * (HARK_EUNKNOWN). Nothing is repeated and nothing is kept for later. */
#include "store/redis/pubsub_i.h"

#include <stdlib.h>
#include <string.h>

/* Of one round trip. */
enum { SLICE = 256, SLICE_BYTES = 1 << 20 };

typedef struct slice {
    hark_store_message *messages;
    size_t n;
    size_t ends[SLICE]; /* where each one's commands end in what is sent */
} slice;

static void add_text(hk_redis_conn *c, const char *text)
{
    const hk_redis_arg arg = {text, strlen(text)};
    hk_redis_add(c, &arg, 1);
}

/* ---- making commands -------------------------------------------------------------------------- */

static hark_err add_event(hark_store *s, const hark_event *e)
{
    char *json, channel[256 + HARK_TYPE_MAX], *large = NULL, *at = channel;
    size_t len, type_len = hk_event_type_len(e), channel_len = s->prefix_len + type_len;
    hark_err err = hark_event_to_json(e, &json, &len);
    if (err)
        return err;
    if (channel_len > sizeof channel)
        at = large = malloc(channel_len);
    if (at) {
        memcpy(at, s->prefix, s->prefix_len);
        memcpy(at + s->prefix_len, hark_event_type(e), type_len);
        const hk_redis_arg args[] = {{"PUBLISH", 7}, {at, channel_len}, {json, len}};
        hk_redis_add(&s->out.conn, args, HK_COUNTOF(args));
    }
    free(large);
    free(json);
    return at ? HARK_OK : HARK_ENOMEM;
}

/* A batch is a transaction of the server's: all of it or nothing, and nobody's events in between. */
static hark_err add_message(hark_store *s, const hark_store_message *m)
{
    hk_buf *out = &s->out.conn.out;
    size_t before = out->len;
    hark_err err = HARK_OK;
    if (m->n > 1)
        add_text(&s->out.conn, "MULTI");
    for (size_t i = 0; i < m->n && !err; i++)
        err = add_event(s, m->items[i].event);
    if (m->n > 1)
        add_text(&s->out.conn, "EXEC");
    if (err && !out->failed)
        out->len = before; /* as if it had not come */
    return out->failed ? HARK_ENOMEM : err;
}

static void refuse(hark_store_message *m, hark_err err, const hark_errinfo *why)
{
    m->ret_err = err;
    (void)hk_fail(m->ei, err, "%s", hk_err_says(err, why));
}

/* Adds messages until the slice is full; those that cannot be made have their verdict then. */
static void fill(hark_store *s, slice *x, size_t n)
{
    const hark_errinfo none = {0};
    hk_redis_conn *c = &s->out.conn;
    for (x->n = 0; x->n < n && x->n < SLICE && c->out.len < SLICE_BYTES; x->n++) {
        hark_store_message *m = &x->messages[x->n];
        m->ret_err = add_message(s, m);
        if (m->ret_err)
            refuse(m, m->ret_err, &none);
        x->ends[x->n] = c->out.len;
    }
}

/* ---- replies ---------------------------------------------------------------------------------- */

/* The connection is of no use any more: what becomes of those from `i` on. */
static void break_off(hark_store *s, slice *x, size_t i, const hark_errinfo *why)
{
    size_t sent = s->out.conn.sent;
    for (; i < x->n; i++) {
        hark_store_message *m = &x->messages[i];
        if (m->ret_err)
            continue;
        if (x->ends[i] > sent) {
            refuse(m, HARK_ESTORE, why);
            continue;
        }
        m->ret_err =
            hk_fail(m->ei, HARK_EUNKNOWN,
                    "%.300s; whether the event was published before that is not known", why->text);
    }
    hk_redis_close(&s->out.conn);
    hk_pubsub_failed(&s->out, why);
}

static bool is_status(const redisReply *r, const char *text)
{
    return r->type == REDIS_REPLY_STATUS && strcmp(r->str, text) == 0;
}

/* What EXEC carried out. */
static hark_err judge_exec(hark_store *s, hark_store_message *m, const redisReply *r,
                           hark_errinfo *ei)
{
    if (r->type != REDIS_REPLY_ARRAY || r->elements != m->n)
        return hk_redis_strange(&s->out.conn, "EXEC", ei);
    for (size_t i = 0; i < r->elements; i++) {
        const redisReply *part = r->element[i];
        if (part->type == REDIS_REPLY_ERROR && !m->ret_err)
            m->ret_err = hk_fail(m->ei, HARK_EUNKNOWN,
                                 "a part of the batch was refused when it was carried out: %.300s",
                                 part->str);
        else if (part->type != REDIS_REPLY_ERROR && part->type != REDIS_REPLY_INTEGER)
            return hk_redis_strange(&s->out.conn, "EXEC", ei);
    }
    return HARK_OK;
}

/* The reply to the i-th command of a batch: MULTI, one for each event, EXEC. */
static hark_err judge_part(hark_store *s, hark_store_message *m, size_t i, const redisReply *r,
                           hark_errinfo *ei)
{
    if (i == m->n + 1)
        return judge_exec(s, m, r, ei);
    if (i == 0)
        return is_status(r, "OK") ? HARK_OK : hk_redis_strange(&s->out.conn, "MULTI", ei);
    if (is_status(r, "QUEUED"))
        return HARK_OK;
    if (r->type != REDIS_REPLY_INTEGER)
        return hk_redis_strange(&s->out.conn, "PUBLISH", ei);
    m->ret_err = hk_fail(m->ei, HARK_EUNKNOWN,
                         "redis at %s has taken the batch apart, and some of its events are "
                         "published; allow MULTI and EXEC, or publish them one by one",
                         s->url.place);
    return HARK_OK;
}

/* An error of the server's becomes the message's verdict if it has none. An error returned: it is no
 * reply to this command. */
static hark_err judge(hark_store *s, hark_store_message *m, size_t i, const redisReply *r,
                      hark_errinfo *ei)
{
    if (r->type == REDIS_REPLY_ERROR) {
        if (!m->ret_err)
            m->ret_err = hk_redis_refused(&s->out.conn, r, m->ei);
        return HARK_OK;
    }
    if (m->n > 1)
        return judge_part(s, m, i, r, ei);
    return r->type == REDIS_REPLY_INTEGER ? HARK_OK : hk_redis_strange(&s->out.conn, "PUBLISH", ei);
}

static hark_err take_reply(hark_store *s, hark_store_message *m, size_t i, int64_t deadline,
                           hark_errinfo *ei)
{
    redisReply *r = NULL;
    hark_err err = hk_redis_reply(&s->out.conn, deadline, &r, ei);
    if (err)
        return err;
    err = judge(s, m, i, r, ei);
    freeReplyObject(r);
    return err;
}

static hark_err take_replies(hark_store *s, hark_store_message *m, int64_t deadline,
                             hark_errinfo *ei)
{
    size_t n = m->n > 1 ? m->n + 2 : 1; /* MULTI and EXEC have their own */
    hark_err err = HARK_OK;
    for (size_t i = 0; i < n && !err; i++)
        err = take_reply(s, m, i, deadline, ei);
    if (err)
        m->ret_err = HARK_OK; /* the verdict of an unfinished batch is break_off's */
    return err;
}

/* ---- sending ---------------------------------------------------------------------------------- */

/* A connection, or the reason why there is none now. Attempts are no closer together than their
 * pauses, so that publishers are told at once meanwhile. */
static hark_err connected(hark_store *s, hark_errinfo *ei)
{
    hk_pubsub_side *out = &s->out;
    if (hk_redis_is_open(&out->conn) && !hk_redis_is_stale(&out->conn))
        return HARK_OK;
    hk_redis_close(&out->conn);
    if (hk_mono_ns() < out->next_ns)
        return hk_fail(ei, HARK_ESTORE, "%.300s; not tried again yet", out->why);
    hark_err err = hk_redis_connect(&out->conn, &s->url, out->name, -1, ei);
    if (err)
        hk_pubsub_failed(out, ei);
    else
        hk_pubsub_connected(s, out);
    return err;
}

/* Sends one slice of them; returns how many it has done. */
static size_t send_slice(hark_store *s, hark_store_message *messages, size_t n)
{
    slice x = {.messages = messages};
    hark_errinfo ei = {0};
    hark_err err = connected(s, &ei);
    if (err) {
        for (; x.n < n; x.n++)
            refuse(&messages[x.n], err, &ei);
        return n;
    }
    fill(s, &x, n);
    int64_t deadline = hk_mono_ns() + HK_REDIS_TIMEOUT_NS;
    err = hk_redis_flush(&s->out.conn, deadline, &ei);
    size_t i = 0;
    while (!err && i < x.n &&
           (messages[i].ret_err || !(err = take_replies(s, &messages[i], deadline, &ei))))
        i++;
    if (err)
        break_off(s, &x, i, &ei);
    else
        hk_redis_forget(&s->out.conn);
    return x.n;
}

void hk_pubsub_send(hark_store *s, hark_store_message *messages, size_t n)
{
    for (size_t done = 0; done < n;)
        done += send_slice(s, messages + done, n - done);
}
