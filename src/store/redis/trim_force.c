/* trim_force.c: retention by force: who has yet to see what is about to be removed? That depends on the share that each
 * event belongs to, so that it is found here, before the script removes: a gap is kept first. What is settled in between
 * is told as missed all the same, which is no harm; the other way round it would be lost in silence. */
#include "store/redis/trim_i.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE = 256 }; /* as in trim.lua */

/* ---- loading ----------------------------------------------------------------------------------- */

static hark_err take_share(hk_rs_trimming *w, const redisReply *field, const redisReply *value,
                           hk_rs_holder *h, hark_errinfo *ei)
{
    char key[64];
    redisReply *rows = NULL;
    hk_buf list = {0};
    uint64_t share = strtoull(field->str, NULL, 10);
    if (share >= h->n_shares)
        return hk_rs_strange(w->s, ei);
    (void)snprintf(key, sizeof key, "r:%" PRIu64 ":%" PRIu64, h->id, share);
    hark_err err = hk_rs_ask(w->s, "HGETALL", key, NULL, 0, &rows, ei);
    if (err)
        return err;
    hk_wire stored = hk_wire_of((hk_text){value->str, value->len});
    for (size_t i = 0; i < 4; i++) /* owner, token, claimed, suspect: not of its state */
        (void)hk_wire_next(&stored);
    hk_buf_add(&list, stored.p, (size_t)(stored.end - stored.p));
    hk_buf all = {0};
    for (size_t i = 0; i < rows->elements; i++)
        hk_wire_add(&all, rows->element[i]->str, rows->element[i]->len);
    hk_wire_add(&list, all.data ? all.data : "", all.len);
    if (list.failed || all.failed) {
        err = hk_rs_no_memory(w->s, ei);
    } else {
        hk_wire state = hk_wire_of((hk_text){list.data, list.len});
        err = hk_rs_take_state(w->s, &state, &h->shares[share], ei);
    }
    hk_buf_free(&all);
    hk_buf_free(&list);
    freeReplyObject(rows);
    return err;
}

hark_err hk_rs_force_load(hk_rs_trimming *w, hk_rs_holder *h, hark_errinfo *ei)
{
    char key[40];
    redisReply *r = NULL;
    (void)snprintf(key, sizeof key, "h:%" PRIu64, h->id);
    hark_err err = hk_rs_ask(w->s, "HGETALL", key, NULL, 0, &r, ei);
    if (err)
        return err;
    h->n_shares = r->elements / 2;
    h->shares = calloc(h->n_shares + 1, sizeof *h->shares);
    if (!h->shares)
        err = hk_rs_no_memory(w->s, ei);
    for (size_t i = 0; i + 1 < r->elements && !err; i += 2)
        err = take_share(w, r->element[i], r->element[i + 1], h, ei);
    freeReplyObject(r);
    return err;
}

/* ---- looking ----------------------------------------------------------------------------------- */

/* Does a letter that is redriven have the event? When it cannot be found out, none has. */
static bool is_redriven(hk_rs_trimming *w, const hk_rs_holder *h, uint64_t seq)
{
    char key[40], field[24];
    const char *const fields[] = {field};
    redisReply *ids = NULL, *state = NULL;
    bool found = false;
    (void)snprintf(key, sizeof key, "ls:%" PRIu64, h->id);
    (void)snprintf(field, sizeof field, "%" PRIu64, seq);
    if (hk_rs_ask(w->s, "HGET", key, fields, 1, &ids, NULL))
        return false;
    for (char *rest = ids->str, *id; rest && !found && (id = strtok_r(rest, " ", &rest));) {
        const char *const one[] = {id};
        if (hk_rs_ask(w->s, "HGET", "lt", one, 1, &state, NULL))
            break;
        found = state->type == REDIS_REPLY_STRING;
        freeReplyObject(state);
    }
    freeReplyObject(ids);
    return found;
}

/* Rows whose event a dead letter has go on without the log; the others are dropped. */
static bool misses(hk_rs_trimming *w, const hk_rs_holder *h, const hark_event *e)
{
    uint64_t seq = hark_event_sequence(e);
    uint32_t n = (uint32_t)h->n_shares;
    if (n == 0)
        return false;
    const hark_store_claim *c = &h->shares[hark_store_share_of(hark_event_key(e), seq, n)];
    for (size_t i = 0; i < c->n_rows; i++)
        if (c->rows[i].sequence == seq && c->rows[i].state != HARK_ROW_DEAD)
            return !is_redriven(w, h, seq);
    return seq > c->floor && !hk_ranges_have(c->settled, c->n_settled, seq) &&
           hark_pattern_match(h->pattern, hark_event_type(e));
}

static void note_misses(hk_rs_trimming *w, const hark_event *e)
{
    for (size_t i = 0; i < w->n_holders; i++) {
        hk_rs_holder *h = &w->holders[i];
        if (!misses(w, h, e))
            continue;
        if (h->first == 0)
            h->first = hark_event_sequence(e);
        h->last = hark_event_sequence(e);
    }
}

/* Of a page of the log, what the script would remove. */
static uint64_t look_at(hk_rs_trimming *w, const hark_store_page *page)
{
    uint64_t excess = hk_rs_excess(w), upto = w->pass->from;
    for (size_t i = 0; i < page->n; i++) {
        const hark_event *e = page->events[i];
        uint64_t seq = hark_event_sequence(e);
        if (seq >= w->below && excess == 0)
            break;
        upto = seq;
        if (!hark_pattern_match(w->t->pattern, hark_event_type(e)))
            continue;
        excess -= excess > 0;
        note_misses(w, e);
    }
    return upto;
}

/* ---- telling ----------------------------------------------------------------------------------- */

static hark_store_gap *gap_of(hk_rs_trimming *w, const hk_rs_holder *h)
{
    for (size_t i = 0; i < w->t->ret_n_gaps; i++)
        if (w->t->gaps[i].consumer == h->id)
            return &w->t->gaps[i];
    return NULL;
}

static void tell(hk_rs_trimming *w, const hk_rs_holder *h)
{
    hark_store_gap *gap = gap_of(w, h);
    if (!gap) {
        gap = &w->t->gaps[w->t->ret_n_gaps++];
        *gap = (hark_store_gap){.consumer = h->id, .from = h->first, .to = h->last};
    }
    gap->from = h->first < gap->from ? h->first : gap->from;
    gap->to = h->last > gap->to ? h->last : gap->to;
}

static hark_err keep_gaps(hk_rs_trimming *w, size_t n, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    if (n == 0)
        return HARK_OK;
    hk_rs_arg_int(&args, (int64_t)n);
    for (size_t i = 0; i < w->n_holders; i++) {
        const hk_rs_holder *h = &w->holders[i];
        if (!h->first)
            continue;
        hk_rs_arg_int(&args, (int64_t)h->id);
        hk_rs_arg_int(&args, (int64_t)h->first);
        hk_rs_arg_int(&args, (int64_t)h->last);
        tell(w, h);
    }
    hark_err err = hk_rs_do(w->s, &w->s->write, true, "gaps", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (!err)
        freeReplyObject(raw);
    return err;
}

static hark_err tell_all(hk_rs_trimming *w, bool *ret_room, hark_errinfo *ei)
{
    size_t more = 0, n = 0;
    for (size_t i = 0; i < w->n_holders; i++) {
        n += w->holders[i].first != 0;
        more += w->holders[i].first && !gap_of(w, &w->holders[i]);
    }
    *ret_room = w->t->ret_n_gaps + more <= w->t->cap_gaps;
    if (*ret_room)
        return keep_gaps(w, n, ei);
    if (w->t->ret_n_gaps == 0 && w->t->ret_removed == 0)
        return hk_fail(ei, HARK_EINVAL, "room for %zu gaps, and %zu consumers have one",
                       w->t->cap_gaps, more);
    return HARK_OK;
}

hark_err hk_rs_force_look(hk_rs_trimming *w, uint64_t *ret_upto, bool *ret_room, hark_errinfo *ei)
{
    hark_event *events[SLICE];
    const hark_store_query q = {
        .size = sizeof q, .after = w->pass->from - 1, .limit = SLICE, .limit_bytes = 16 << 20};
    hark_store_page page = {.events = events};
    hark_err err = hk_rs_read(w->s, &q, &page, ei);
    if (err)
        return err;
    for (size_t i = 0; i < w->n_holders; i++)
        w->holders[i].first = w->holders[i].last = 0;
    *ret_upto = look_at(w, &page);
    for (size_t i = 0; i < page.n; i++)
        (void)hark_event_unref(events[i]);
    return tell_all(w, ret_room, ei);
}
