/* read: a page. The log's place is asked together with the entries and before them, so that every position up to it was
 * looked at when the page was not full. Types and subjects are filtered here; where a page has nothing of a pattern, the next block that has
 * is looked for, so that the few events of a rare type are found without reading all others. */
#include "store/redis/stream_i.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE_MOST = 512,  /* entries of one reply */
    LOOK_MOST = 16384 /* that one call looks at when a filter lets few through */
};
#define PAGE_BYTES ((size_t)4 << 20) /* of one reply, about */

int64_t hk_rs_us(int64_t ns)
{
    if (ns <= 0)
        return 0;
    return ns / 1000 + (ns % 1000 != 0);
}

hark_err hk_rs_seek(hark_store *s, int64_t ns, uint64_t *ret, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    hk_rs_reply r;
    redisReply *raw = NULL;
    hk_rs_arg_int(&args, hk_rs_us(ns));
    hark_err err = hk_rs_look(s, "seek", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    *ret = hk_wire_u64(&r.is);
    freeReplyObject(raw);
    return HARK_OK;
}

typedef struct walk {
    hark_store *s;
    const hark_store_query *q;
    hark_store_page *page;
    uint64_t low, high;   /* what is left to look at, inclusive */
    uint64_t first, last; /* of the log */
    size_t bytes, looked;
    bool full;
} walk;

/* ---- bounds ------------------------------------------------------------------------------------ */

static hark_err set_bounds(walk *w, hark_errinfo *ei)
{
    const hark_store_query *q = w->q;
    uint64_t at = 0;
    hark_err err = HARK_OK;
    w->low = q->after + 1;
    w->high = q->before ? q->before - 1 : HARK_SEQ_MAX;
    if (q->from_ns > 0) {
        err = hk_rs_seek(w->s, q->from_ns, &at, ei);
        w->low = at > w->low ? at : w->low;
    }
    if (!err && q->to_ns) {
        err = hk_rs_seek(w->s, q->to_ns, &at, ei);
        if (at == 0 || at - 1 < w->high)
            w->high = at ? at - 1 : 0;
    }
    return err;
}

/* ---- one reply --------------------------------------------------------------------------------- */

/* How many entries hold what is wanted, going by those that were looked at so far; not more than have room. */
static size_t page_size(const walk *w)
{
    size_t each = (size_t)hk_mark_get(&w->s->entry_bytes) + 1;
    size_t bytes =
        w->q->limit_bytes && w->q->limit_bytes < PAGE_BYTES ? w->q->limit_bytes : PAGE_BYTES;
    size_t room = bytes / each + 1, n = w->q->limit - w->page->n;
    n = n < PAGE_MOST ? n : PAGE_MOST;
    if (w->looked)
        n = n * w->looked / (w->page->n + 1) + 1;
    n = n < room ? n : room;
    return n < PAGE_MOST ? n : PAGE_MOST;
}

static void add_range(walk *w, hk_redis_conn *c, size_t most)
{
    char key[sizeof w->s->key], low[32], high[32], count[24];
    (void)snprintf(key, sizeof key, "{hark:%s}:s", w->s->log);
    (void)snprintf(low, sizeof low, "%" PRIu64 "-0", w->low);
    (void)snprintf(high, sizeof high, "%" PRIu64 "-0", w->high);
    (void)snprintf(count, sizeof count, "%zu", most);
    const char *words[] = {w->q->descending ? "XREVRANGE" : "XRANGE",
                           key,
                           w->q->descending ? high : low,
                           w->q->descending ? low : high,
                           "COUNT",
                           count};
    hk_redis_arg args[HK_COUNTOF(words)];
    for (size_t i = 0; i < HK_COUNTOF(words); i++)
        args[i] = (hk_redis_arg){words[i], strlen(words[i])};
    hk_redis_add(c, args, HK_COUNTOF(args));
}

static void add_place(walk *w, hk_redis_conn *c)
{
    const hk_redis_arg args[] = {
        {"HMGET", 5}, {w->s->key, strlen(w->s->key)}, {"last", 4}, {"first", 5}};
    hk_redis_add(c, args, HK_COUNTOF(args));
}

static hark_err take_place(walk *w, hk_link *l, hark_errinfo *ei)
{
    redisReply *r = NULL;
    hark_err err = hk_link_ask(l, &r, ei);
    if (err)
        return err;
    if (r->type == REDIS_REPLY_ARRAY && r->elements == 2) {
        w->last = hk_rs_number(r->element[0]);
        w->first = hk_rs_number(r->element[1]);
        hk_rs_begins(w->s, w->first, w->last);
    } else {
        err = r->type == REDIS_REPLY_ERROR ? hk_link_refused(w->s, l, r, ei)
                                           : hk_rs_strange(w->s, ei);
    }
    freeReplyObject(r);
    return err;
}

static hark_err fetch(walk *w, hk_link *l, size_t most, redisReply **ret, hark_errinfo *ei)
{
    redisReply *r = NULL;
    add_place(w, &l->conn);
    add_range(w, &l->conn, most);
    hark_err err = take_place(w, l, ei), range = HARK_OK;
    if (l->conn.context) /* its reply comes in any case */
        range = hk_link_ask(l, &r, err ? NULL : ei);
    if (!err && (range || !r))
        return range;
    if (!err && r->type == REDIS_REPLY_ARRAY) {
        *ret = r;
        return HARK_OK;
    }
    if (!err)
        err = r->type == REDIS_REPLY_ERROR ? hk_link_refused(w->s, l, r, ei)
                                           : hk_rs_strange(w->s, ei);
    if (r)
        freeReplyObject(r);
    return err;
}

/* ---- entries ----------------------------------------------------------------------------------- */

static bool is_wanted(const walk *w, const hark_event *e)
{
    const hark_store_query *q = w->q;
    const char *subject = hark_event_subject(e);
    return (!q->pattern || hark_pattern_match(q->pattern, hark_event_type(e))) &&
           (!q->subject || (subject && strcmp(q->subject, subject) == 0));
}

static void move_past(walk *w, uint64_t seq)
{
    w->page->covered = seq;
    if (w->q->descending)
        w->high = seq - 1;
    else
        w->low = seq + 1;
}

static hark_err take_entry(walk *w, const redisReply *entry, hark_errinfo *ei)
{
    size_t len;
    hark_event *e;
    hark_err err = hk_rs_entry(w->s, entry, &e, ei);
    if (err)
        return err;
    (void)hark_event_data(e, &len);
    hk_mark_set(&w->s->entry_bytes, (hk_mark_get(&w->s->entry_bytes) * 7 + len + 400) / 8);
    move_past(w, hark_event_sequence(e));
    w->looked++;
    if (!is_wanted(w, e)) {
        (void)hark_event_unref(e);
        return HARK_OK;
    }
    w->page->events[w->page->n++] = e;
    w->bytes += len;
    w->full = w->page->n >= w->q->limit || (w->q->limit_bytes && w->bytes >= w->q->limit_bytes);
    return HARK_OK;
}

static void set_gap(walk *w)
{
    uint64_t gone = w->first ? w->first - 1 : w->last;
    if (!w->q->descending)
        w->page->gap = gone > w->q->after ? gone : 0;
}

/* *ret_end: there was no more. */
static hark_err take_reply(walk *w, const redisReply *r, size_t most, bool *ret_end,
                           hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    set_gap(w);
    for (size_t i = 0; i < r->elements && !err && !w->full; i++)
        err = take_entry(w, r->element[i], ei);
    *ret_end = !err && !w->full && (r->elements < most || w->low > w->high);
    return err;
}

/* Nothing of the pattern was in the last reply: on to where there is something. The types are asked for after the
 * log's place, so that all types up to there are known; beyond it nothing is passed over. */
static hark_err skip(walk *w, hark_errinfo *ei)
{
    hk_rs_types_of types = {0};
    uint64_t next = 0, known = w->last + 1;
    hark_err err = hk_rs_types(w->s, w->q->pattern, &types, ei);
    if (!err)
        err = hk_rs_skip(w->s, &types, w->low, &next, ei);
    hk_rs_types_free(&types);
    next = next && next < known ? next : known;
    if (!err && next > w->low && w->low <= w->last)
        move_past(w, next - 1);
    return err;
}

/* Every position that was asked for was looked at. */
static void finish(walk *w)
{
    const hark_store_query *q = w->q;
    w->page->end = 1;
    if (q->descending) {
        w->page->covered = q->after + 1;
        return;
    }
    uint64_t to = q->before && q->before <= w->last ? q->before - 1 : w->last;
    if (to > w->page->covered)
        w->page->covered = to;
    if (w->page->covered < q->after)
        w->page->covered = q->after;
}

/* Nothing is asked for but where the log is. */
static hark_err read_nothing(walk *w, hk_link *l, hark_errinfo *ei)
{
    add_place(w, &l->conn);
    hark_err err = take_place(w, l, ei);
    if (err)
        return err;
    set_gap(w);
    finish(w);
    return HARK_OK;
}

static hark_err read_on(walk *w, hk_link *l, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    bool end = false;
    while (!err && !w->full && !end && w->looked < LOOK_MOST) {
        redisReply *r = NULL;
        size_t most = page_size(w), before = w->page->n;
        err = fetch(w, l, most, &r, ei);
        if (err)
            break;
        err = take_reply(w, r, most, &end, ei);
        freeReplyObject(r);
        if (!err && !end && w->q->pattern && !w->q->descending && w->page->n == before)
            err = skip(w, ei);
        end = end || w->low > w->high;
    }
    if (!err && end)
        finish(w);
    /* What lies before a damaged place is good; the next page begins with the error. */
    return err == HARK_ECORRUPT && w->page->n > 0 ? HARK_OK : err;
}

static void drop_page(hark_store_page *page)
{
    for (; page->n > 0; page->n--)
        (void)hark_event_unref(page->events[page->n - 1]);
}

static hark_err read_page(walk *w, hark_errinfo *ei)
{
    hk_link *l;
    hark_err err = set_bounds(w, ei);
    if (!err)
        err = hk_rs_reader_take(w->s, &l, ei);
    if (err)
        return err;
    err = w->low > w->high ? read_nothing(w, l, ei) : read_on(w, l, ei);
    hk_rs_reader_give(w->s, l);
    return err;
}

hark_err hk_rs_read(hark_store *s, const hark_store_query *q, hark_store_page *ret,
                    hark_errinfo *ei)
{
    hark_err err = HARK_ESTORE;
    if (q->limit == 0)
        return hk_fail(ei, HARK_EINVAL, "a page of 0 events");
    for (int i = 0; i < 2 && err == HARK_ESTORE; i++) { /* again when the connection was lost */
        walk w = {.s = s, .q = q, .page = ret};
        ret->n = 0;
        ret->end = 0;
        ret->covered = q->descending ? (q->before ? q->before : HARK_SEQ_MAX) : q->after;
        err = read_page(&w, ei);
        if (err)
            drop_page(ret);
        else
            hk_rs_reached(s, w.last);
    }
    return err;
}
