/* letters.c: dead letters and attempts as they are stored, and lists of them. A letter is a list (wire.c): first what the
 * script looks at (letters.lua), then what is told of it, then its event: the envelope as CloudEvents JSON, the
 * data byte for byte, so that it outlives the log's retention. */
#include "store/redis/stream_i.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ----------------------------------------------------------------------------------- */

hark_err hk_rs_letter_text(const hark_store_save *v, const hark_store_dead *d, hk_buf *ret,
                           hark_errinfo *ei)
{
    char *json;
    size_t json_len, len;
    const void *data = hark_event_data(d->event, &len);
    hark_err err = hk_envelope_text(d->event, &json, &json_len, ei);
    if (err)
        return err;
    hk_wire_add_int(ret, (int64_t)v->consumer);
    hk_wire_add_int(ret, (int64_t)v->generation);
    hk_wire_add_int(ret, (int64_t)hark_event_sequence(d->event));
    hk_wire_add_int(ret, v->share);
    hk_wire_add_str(ret, hark_event_type(d->event));
    hk_wire_add_int(ret, hark_event_dataversion(d->event));
    hk_wire_add_str(ret, hark_event_key(d->event));
    hk_wire_add_str(ret, d->reason);
    hk_wire_add_str(ret, d->error);
    hk_wire_add_int(ret, d->attempts);
    hk_wire_add_int(ret, d->crashes);
    hk_wire_add_int(ret, d->interruptions);
    hk_wire_add_int(ret, d->first_ns);
    hk_wire_add_int(ret, d->dead_ns);
    hk_wire_add_int(ret, hark_event_recorded_ns(d->event));
    hk_wire_add(ret, json, json_len);
    hk_wire_add(ret, data, len);
    free(json);
    return HARK_OK;
}

void hk_rs_attempt_text(const hark_store_attempt *a, hk_buf *ret)
{
    hk_wire_add_int(ret, a->number);
    hk_wire_add_int(ret, a->started_ns);
    hk_wire_add_int(ret, a->ended_ns);
    hk_wire_add_str(ret, a->outcome);
    hk_wire_add_str(ret, a->error);
}

/* ---- reading ----------------------------------------------------------------------------------- */

static hark_err take_event(hk_wire *w, int64_t recorded, hark_store_letter *l, hark_event **ret,
                           hark_errinfo *ei)
{
    char what[48];
    hk_text json = hk_wire_next(w), data = hk_wire_next(w);
    (void)snprintf(what, sizeof what, "dead letter %" PRIu64, l->id);
    hark_err err =
        hk_envelope_event(json.s ? json.s : "", json.len, data.s, data.len, what, ret, ei);
    if (!err)
        hark_event_stamp(*ret, l->sequence, recorded);
    return err;
}

/* Everything but the event and the consumer's name; the recorded time of the event. */
static int64_t take_head(hk_wire *w, hark_store_letter *l, const char **ret_type)
{
    l->consumer_id = hk_wire_u64(w);
    l->generation = hk_wire_u64(w);
    l->sequence = hk_wire_u64(w);
    (void)hk_wire_next(w);
    *ret_type = hk_wire_next(w).s;
    (void)hk_wire_next(w);
    (void)hk_wire_next(w);
    l->reason = hk_wire_next(w).s;
    l->error = hk_wire_next(w).s;
    l->attempts = hk_wire_int(w);
    l->crashes = hk_wire_int(w);
    l->interruptions = hk_wire_int(w);
    l->first_ns = hk_wire_int(w);
    l->dead_ns = hk_wire_int(w);
    return hk_wire_int(w);
}

/* ---- the list ---------------------------------------------------------------------------------- */

enum { PAGE = 64 };

typedef struct list {
    hark_store *s;
    const hark_store_letters_query *q;
    hark_store_letter_fn fn;
    void *ud;
    redisReply *names; /* ids and names of consumers, by turns: HGETALL cn */
    size_t left;
    bool more;
} list;

static const char *name_of(const list *l, uint64_t id)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, id);
    for (size_t i = 0; i + 1 < l->names->elements; i += 2)
        if (strcmp(l->names->element[i + 1]->str, text) == 0)
            return l->names->element[i]->str;
    return "?";
}

static bool is_wanted(const hark_store_letters_query *q, const hark_store_letter *l,
                      const char *type)
{
    return (!q->id || q->id == l->id) && (!q->consumer || strcmp(q->consumer, l->consumer) == 0) &&
           (!q->pattern || (type && hark_pattern_match(q->pattern, type))) &&
           (!q->reason || (l->reason && strcmp(q->reason, l->reason) == 0)) &&
           (!q->sequence || q->sequence == l->sequence) && (!q->state || q->state == l->state) &&
           (!q->from_ns || l->dead_ns >= q->from_ns) && (!q->to_ns || l->dead_ns < q->to_ns);
}

static hark_err show(list *x, uint64_t id, const redisReply *text, const redisReply *state,
                     hark_errinfo *ei)
{
    hark_store_letter l = {.id = id};
    hark_event *e = NULL;
    const char *type;
    hk_wire w = hk_wire_of((hk_text){text->str, text->len});
    int64_t recorded = take_head(&w, &l, &type);
    if (w.bad)
        return hk_rs_strange(x->s, ei);
    l.consumer = name_of(x, l.consumer_id);
    l.state = state->type == REDIS_REPLY_STRING ? HARK_LETTER_REDRIVEN : HARK_LETTER_DEAD;
    if (!is_wanted(x->q, &l, type))
        return HARK_OK;
    hark_err err = take_event(&w, recorded, &l, &e, ei);
    if (err)
        return err;
    l.event = e;
    x->more = x->fn(x->ud, &l) && --x->left > 0;
    (void)hark_event_unref(e);
    return HARK_OK;
}

/* What went meanwhile is left out. */
static hark_err show_page(list *x, const char *const *ids, size_t n, hark_errinfo *ei)
{
    redisReply *texts = NULL, *states = NULL;
    hark_err err = hk_rs_ask(x->s, "HMGET", "l", ids, n, &texts, ei);
    if (!err)
        err = hk_rs_ask(x->s, "HMGET", "lt", ids, n, &states, ei);
    for (size_t i = 0; i < n && !err && x->more && i < texts->elements; i++)
        if (texts->element[i]->type == REDIS_REPLY_STRING)
            err = show(x, strtoull(ids[i], NULL, 10), texts->element[i], states->element[i], ei);
    if (texts)
        freeReplyObject(texts);
    if (states)
        freeReplyObject(states);
    return err;
}

/* *ret_last: the last id looked at; 0 = there were none. */
static hark_err next_page(list *x, uint64_t after, uint64_t *ret_last, hark_errinfo *ei)
{
    char low[32];
    const char *ids[PAGE];
    redisReply *r = NULL;
    (void)snprintf(low, sizeof low, "(%" PRIu64, after);
    const char *const more[] = {low, "+inf", "LIMIT", "0", "64"};
    _Static_assert(PAGE == 64, "as it is written above");
    hark_err err = hk_rs_ask(x->s, "ZRANGEBYSCORE", "lz", more, HK_COUNTOF(more), &r, ei);
    if (err)
        return err;
    size_t n = r->elements;
    for (size_t i = 0; i < n; i++)
        ids[i] = r->element[i]->str;
    *ret_last = n ? strtoull(ids[n - 1], NULL, 10) : 0;
    if (n)
        err = show_page(x, ids, n, ei);
    freeReplyObject(r);
    return err;
}

static hark_err show_one(list *x, hark_errinfo *ei)
{
    char text[24];
    const char *const ids[] = {text};
    (void)snprintf(text, sizeof text, "%" PRIu64, x->q->id);
    return x->q->id > x->q->after_id ? show_page(x, ids, 1, ei) : HARK_OK;
}

/* Those of one consumer and event are found without a walk: a consumer asks for them to redeliver what the log no longer
 * has. */
static hark_err show_at(list *x, hark_errinfo *ei)
{
    char key[40] = "", field[24];
    const char *ids[PAGE], *const fields[] = {field};
    redisReply *r = NULL;
    size_t n = 0;
    (void)snprintf(field, sizeof field, "%" PRIu64, x->q->sequence);
    for (size_t i = 0; i + 1 < x->names->elements; i += 2)
        if (strcmp(x->names->element[i]->str, x->q->consumer) == 0)
            (void)snprintf(key, sizeof key, "ls:%.24s", x->names->element[i + 1]->str);
    hark_err err = key[0] ? hk_rs_ask(x->s, "HGET", key, fields, 1, &r, ei) : HARK_OK;
    if (err || !r)
        return err;
    for (char *rest = r->str, *id; rest && !err && (id = strtok_r(rest, " ", &rest));) {
        if (strtoull(id, NULL, 10) <= x->q->after_id)
            continue;
        ids[n++] = id;
        if (n == PAGE) {
            err = show_page(x, ids, n, ei);
            n = 0;
        }
    }
    if (!err && n)
        err = show_page(x, ids, n, ei);
    freeReplyObject(r);
    return err;
}

static hark_err show_all(list *x, hark_errinfo *ei)
{
    uint64_t after = x->q->after_id;
    hark_err err = HARK_OK;
    while (!err && x->more) {
        err = next_page(x, after, &after, ei);
        if (after == 0)
            break;
    }
    return err;
}

hark_err hk_rs_letters(hark_store *s, const hark_store_letters_query *q, hark_store_letter_fn fn,
                       void *ud, hark_errinfo *ei)
{
    list x = {
        .s = s, .q = q, .fn = fn, .ud = ud, .left = q->limit ? q->limit : SIZE_MAX, .more = true};
    hark_err err = hk_rs_ask(s, "HGETALL", "cn", NULL, 0, &x.names, ei);
    if (!err)
        err = q->id                        ? show_one(&x, ei)
              : q->consumer && q->sequence ? show_at(&x, ei)
                                           : show_all(&x, ei);
    if (x.names)
        freeReplyObject(x.names);
    return err;
}

/* ---- attempts ---------------------------------------------------------------------------------- */

static bool take_attempt(hk_wire *w, uint64_t sequence, hark_store_attempt *ret)
{
    *ret = (hark_store_attempt){.sequence = sequence, .number = hk_wire_int(w)};
    ret->started_ns = hk_wire_int(w);
    ret->ended_ns = hk_wire_int(w);
    ret->outcome = hk_wire_next(w).s;
    ret->error = hk_wire_next(w).s;
    return !w->bad && ret->outcome;
}

hark_err hk_rs_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                        hark_store_attempt_fn fn, void *ud, hark_errinfo *ei)
{
    char key[32], field[24];
    const char *const more[] = {field};
    redisReply *r = NULL;
    (void)snprintf(key, sizeof key, "a:%" PRIu64, consumer);
    (void)snprintf(field, sizeof field, "%" PRIu64, sequence);
    hark_err err = hk_rs_ask(s, "HGET", key, more, 1, &r, ei);
    if (err)
        return err;
    hk_wire w = hk_wire_of((hk_text){r->str, r->str ? r->len : 0});
    while (!err && hk_wire_more(&w)) {
        hark_store_attempt a;
        if (!take_attempt(&w, sequence, &a))
            err = hk_rs_strange(s, ei);
        else if (!fn(ud, &a))
            break;
    }
    freeReplyObject(r);
    return err;
}
