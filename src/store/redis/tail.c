/* tail.c: waiting for what others do, on a connection of its own: XREAD BLOCK for the log's next entry, and for the next
 * hint, a stream of one entry that is written when shares or schedules change. Neither the server nor a clock here is
 * asked again and again; a wake-up from this process is an event descriptor. An XREAD that was left by that is
 * waited for by the next call, and by none but this connection.
 *
 * The log's place is asked before each wait, since a server that has lost everything has nothing to say. */
#include "store/redis/stream_i.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* The server lets us go after so long, so that the place is looked at again. */
enum { BLOCK_MS = 1000 };

void hk_rs_tail_wake(hark_store *s)
{
    const uint64_t one = 1;
    while (write(s->wake, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

static void drain(hark_store *s)
{
    uint64_t n;
    while (read(s->wake, &n, sizeof n) > 0)
        ;
}

/* ---- the log's place --------------------------------------------------------------------------- */

typedef struct place {
    uint64_t epoch, first, last, shares, schedules, hint, lost_from, lost_to;
} place;

/* False: the log is of another epoch than is known here, or gone. */
static bool take_place(hark_store *s, const redisReply *r, place *ret)
{
    uint64_t *const to[] = {&ret->epoch,     &ret->first, &ret->last,      &ret->shares,
                            &ret->schedules, &ret->hint,  &ret->lost_from, &ret->lost_to};
    char stamp[HK_RS_STAMP];
    for (size_t i = 0; i < HK_COUNTOF(to); i++)
        *to[i] = hk_rs_number(r->element[i + 1]);
    hk_rs_stamp(s, stamp);
    return r->element[0]->type == REDIS_REPLY_STRING && strcmp(r->element[0]->str, stamp) == 0;
}

static hark_err ask_place(hark_store *s, place *ret, bool *ret_known, hark_errinfo *ei)
{
    const char *const words[] = {"HMGET",  s->key,      "stamp", "epoch",     "first",  "last",
                                 "shares", "schedules", "hint",  "lost_from", "lost_to"};
    redisReply *r = NULL;
    hark_err err = hk_link_ready(s, &s->tail, ei);
    if (!err)
        err = hk_link_command(&s->tail, words, HK_COUNTOF(words), &r, ei);
    if (err)
        return err;
    if (r->type == REDIS_REPLY_ERROR)
        err = hk_link_refused(s, &s->tail, r, ei);
    else if (r->type != REDIS_REPLY_ARRAY || r->elements != HK_COUNTOF(words) - 2)
        err = hk_redis_strange(&s->tail.conn, "HMGET", ei);
    else
        *ret_known = take_place(s, r, ret);
    freeReplyObject(r);
    return err;
}

/* Once more when the log was revived, or the connection was lost. */
static hark_err look(hark_store *s, place *ret, hark_errinfo *ei)
{
    hark_err err = HARK_ESTORE;
    bool known = false;
    s->tail.conn.wake = -1; /* this is answered at once */
    for (int i = 0; i < 2 && !known && (!err || err == HARK_ESTORE); i++) {
        err = ask_place(s, ret, &known, ei);
        if (!err && !known)
            err = hk_rs_revive(s, &s->tail, ei);
    }
    if (!err && !known)
        err = hk_fail(ei, HARK_ESTORE, "%s: the server loses the log again and again", s->where);
    s->tail.conn.wake = s->wake;
    if (err)
        return err;
    hk_rs_begins(s, ret->first, ret->last);
    hk_rs_reached(s, ret->last);
    return HARK_OK;
}

/* Is there something to tell? Each change is told once. */
static bool tell(hark_store *s, uint64_t after, const place *p, hark_store_tail *ret)
{
    ret->last = p->last;
    ret->epoch = p->epoch;
    ret->shares |= p->shares != s->seen_shares;
    ret->schedules |= p->schedules != s->seen_schedules;
    if (p->epoch != s->seen_epoch && s->seen_epoch && p->lost_to) {
        ret->lost_from = p->lost_from;
        ret->lost_to = p->lost_to;
    }
    s->seen_epoch = p->epoch;
    s->seen_shares = p->shares;
    s->seen_schedules = p->schedules;
    s->seen_hint = p->hint;
    return p->last > after || ret->shares || ret->schedules || ret->lost_to;
}

/* ---- waiting ----------------------------------------------------------------------------------- */

static hark_err send_wait(hark_store *s, uint64_t after, hark_errinfo *ei)
{
    char block[16], events[HK_RS_NAME + 16], hints[HK_RS_NAME + 16], from[32], hint[32];
    (void)snprintf(block, sizeof block, "%d", BLOCK_MS);
    (void)snprintf(events, sizeof events, "{hark:%s}:s", s->log);
    (void)snprintf(hints, sizeof hints, "{hark:%s}:hint", s->log);
    (void)snprintf(from, sizeof from, "%" PRIu64 "-0", after);
    (void)snprintf(hint, sizeof hint, "%" PRIu64 "-0", s->seen_hint);
    const char *const words[] = {"XREAD",   "COUNT", "1",   "BLOCK", block,
                                 "STREAMS", events,  hints, from,    hint};
    hk_redis_arg args[HK_COUNTOF(words)];
    for (size_t i = 0; i < HK_COUNTOF(words); i++)
        args[i] = (hk_redis_arg){words[i], strlen(words[i])};
    hk_redis_add(&s->tail.conn, args, HK_COUNTOF(args));
    hark_err err = hk_redis_flush(&s->tail.conn, hk_mono_ns() + HK_REDIS_TIMEOUT_NS, ei);
    hk_redis_forget(&s->tail.conn);
    s->waiting = err == HARK_OK;
    if (err) /* a part of it may have gone */
        hk_link_close(&s->tail);
    return err;
}

/* HARK_ECANCELED: woken; HARK_ETIMEDOUT: the time is over; the XREAD stays. A server that does not let us go in its
 * time is gone. */
static hark_err wait_reply(hark_store *s, int64_t until, hark_errinfo *ei)
{
    redisReply *r = NULL;
    hark_err err = hk_redis_reply(&s->tail.conn, until, &r, ei);
    if (err)
        return err;
    s->waiting = false;
    if (r->type == REDIS_REPLY_ERROR)
        err = hk_link_refused(s, &s->tail, r, ei);
    freeReplyObject(r);
    return err;
}

static void lose_link(hark_store *s)
{
    hk_link_close(&s->tail);
    s->waiting = false;
}

/* *ret_over: the caller's time is over, or it was woken. */
static hark_err wait(hark_store *s, uint64_t after, int64_t until, bool *ret_over, hark_errinfo *ei)
{
    int64_t late = hk_mono_ns() + HK_REDIS_TIMEOUT_NS + BLOCK_MS * INT64_C(1000000);
    hark_err err = s->waiting ? HARK_OK : send_wait(s, after, ei);
    if (!err)
        err = wait_reply(s, until < late ? until : late, ei);
    if (err == HARK_ECANCELED || (err == HARK_ETIMEDOUT && until <= late)) {
        *ret_over = true;
        return HARK_OK;
    }
    if (err)
        lose_link(s);
    return hk_redis_in_time(err, ei);
}

/* An XREAD is left from the last time: its answer, or the end of its time, comes first. */
static hark_err finish_last(hark_store *s, int64_t until, bool *ret_over, hark_errinfo *ei)
{
    if (!s->waiting)
        return HARK_OK;
    if (!s->tail.ready || !s->tail.conn.context) {
        s->waiting = false;
        return HARK_OK;
    }
    return wait(s, 0, until, ret_over, ei);
}

hark_err hk_rs_tail(hark_store *s, uint64_t after, int64_t timeout_ns, hark_store_tail *ret,
                    hark_errinfo *ei)
{
    int64_t until = hk_mono_ns() + timeout_ns;
    bool over = false;
    place p = {0};
    *ret = (hark_store_tail){
        .size = sizeof *ret, .last = hk_mark_get(&s->last), .epoch = hk_mark_get(&s->epoch)};
    hark_err err = finish_last(s, until, &over, ei);
    while (!err && !over) {
        err = look(s, &p, ei);
        if (err || tell(s, after, &p, ret))
            break;
        err = wait(s, after, until, &over, ei);
    }
    drain(s);
    return err;
}
