/* shares.c: this process among others: that it lives, and what of each consumer is its own. Everything is decided by the
 * script, by the server's clock (shares.lua); which processes of this machine are dead is what we know better. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- beat -------------------------------------------------------------------------------------- */

hark_err hk_rs_beat(hark_store *s, int64_t *ret_until, int64_t *ret_ahead, hark_errinfo *ei)
{
    char who[HK_WHO_MAX];
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    int64_t asked = hk_mono_ns();
    hk_who_self(who);
    hk_rs_arg_int(&args, s->lease_ms);
    hk_rs_arg_str(&args, who);
    hark_err err = hk_rs_do(s, &s->party, true, "beat", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    *ret_until = asked + hk_ms_to_ns(s->lease_ms);
    *ret_ahead = hk_wire_int(&r.is) * 1000 - hk_wall_ns();
    freeReplyObject(raw);
    return HARK_OK;
}

/* Over whichever connection is there, and once: nobody waits for a server that is gone. */
void hk_rs_leave(hark_store *s)
{
    hk_link *l = s->party.ready ? &s->party : &s->write;
    const hk_rs_args none = {0};
    const hk_rs_op op = {.name = "leave"};
    const hk_rs_call call = {.commits = true, .args = &none, .ops = &op, .n = 1};
    redisReply *raw = NULL;
    if (hk_redis_is_stale(&l->conn) || hk_rs_call_once(s, l, &call, &raw, NULL))
        return;
    freeReplyObject(raw);
}

/* ---- what is asked ----------------------------------------------------------------------------- */

static hark_err find_dead(hark_store *s, hk_rs_args *ret, hark_errinfo *ei)
{
    redisReply *r = NULL;
    hark_err err = hk_rs_ask(s, "HGETALL", "p", NULL, 0, &r, ei);
    if (err)
        return err;
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        hk_wire w = hk_wire_of((hk_text){r->element[i + 1]->str, r->element[i + 1]->len});
        (void)hk_wire_next(&w);
        hk_text who = hk_wire_next(&w);
        if (who.s && strcmp(r->element[i]->str, s->process) != 0 && hk_who_is_dead(who.s))
            hk_rs_arg_str(ret, r->element[i]->str);
    }
    freeReplyObject(r);
    return HARK_OK;
}

static hark_err add_args(hark_store *s, const hark_store_shares *x, hk_rs_args *args,
                         hark_errinfo *ei)
{
    hk_rs_args dead = {0};
    hark_err err = find_dead(s, &dead, ei);
    hk_rs_arg_int(args, (int64_t)x->consumer);
    hk_rs_arg_int(args, (int64_t)x->generation);
    hk_rs_arg_str(args, x->leave ? "1" : "0");
    hk_rs_arg_int(args, (int64_t)x->news_done);
    hk_rs_arg_int(args, (int64_t)dead.n);
    hk_buf_add(&args->bytes, dead.bytes.data, dead.bytes.len);
    args->n += dead.n;
    args->bytes.failed |= dead.bytes.failed;
    hk_buf_free(&dead.bytes);
    hk_rs_arg_int(args, (int64_t)x->n_release);
    for (size_t i = 0; i < x->n_release; i++) {
        hk_rs_arg_int(args, x->release[i].share);
        hk_rs_arg_int(args, (int64_t)x->release[i].token);
    }
    return !err && args->bytes.failed ? hk_rs_no_memory(s, ei) : err;
}

/* ---- what is answered -------------------------------------------------------------------------- */

static hark_err take_owned(const hark_store *s, hk_text text, hark_store_shares *x,
                           hark_errinfo *ei)
{
    hk_wire w = hk_wire_of(text);
    x->owned = calloc(HARK_SHARES_MAX, sizeof *x->owned);
    x->give = calloc(HARK_SHARES_MAX, sizeof *x->give);
    if (!x->owned || !x->give)
        return hk_rs_no_memory(s, ei);
    while (hk_wire_more(&w) && x->n_owned < HARK_SHARES_MAX) {
        hark_store_owned *o = &x->owned[x->n_owned++];
        o->share = (uint32_t)hk_wire_u64(&w);
        o->token = hk_wire_u64(&w);
    }
    return w.bad ? hk_rs_strange(s, ei) : HARK_OK;
}

/* The highest ones: each process gives up others than it would be given. */
static void take_surplus(uint64_t n, hark_store_shares *x)
{
    while (x->n_give < n && x->n_give < x->n_owned) {
        x->give[x->n_give] = x->owned[x->n_owned - 1 - x->n_give].share;
        x->n_give++;
    }
}

static hark_err take_claims(const hark_store *s, hk_text text, hark_store_shares *x,
                            hark_errinfo *ei)
{
    hk_wire all = hk_wire_of(text);
    hark_err err = HARK_OK;
    x->claimed = calloc(HARK_SHARES_MAX, sizeof *x->claimed);
    if (!x->claimed)
        return hk_rs_no_memory(s, ei);
    while (!err && hk_wire_more(&all) && x->n_claimed < HARK_SHARES_MAX) {
        hark_store_claim *c = &x->claimed[x->n_claimed++];
        hk_wire w = hk_wire_of(hk_wire_next(&all));
        c->share = (uint32_t)hk_wire_u64(&w);
        c->token = hk_wire_u64(&w);
        c->claimed = hk_wire_u64(&w);
        c->suspect = hk_wire_u64(&w);
        err = hk_rs_take_state(s, &w, c, ei);
    }
    return !err && all.bad ? hk_rs_strange(s, ei) : err;
}

static hark_err take_news(const hark_store *s, hk_text text, hark_store_shares *x, hark_errinfo *ei)
{
    hk_wire all = hk_wire_of(text);
    size_t cap = 0;
    while (hk_wire_more(&all)) {
        hark_store_news *list = hk_array_room(x->news, x->n_news, &cap, 8, sizeof *list);
        if (!list)
            return hk_rs_no_memory(s, ei);
        x->news = list;
        hark_store_news *n = &list[x->n_news++];
        *n = (hark_store_news){.id = hk_wire_u64(&all)};
        hk_wire w = hk_wire_of(hk_wire_next(&all));
        n->share = (uint32_t)hk_wire_u64(&w);
        n->kind = hk_wire_int(&w);
        n->sequence = hk_wire_u64(&w);
        n->due_ns = hk_wire_int(&w);
        hk_text key = hk_wire_next(&w);
        n->key = hk_strdup(key.s);
        if (key.s && !n->key)
            return hk_rs_no_memory(s, ei);
        if (w.bad)
            return hk_rs_strange(s, ei);
    }
    return all.bad ? hk_rs_strange(s, ei) : HARK_OK;
}

static hark_err take(const hark_store *s, hk_rs_reply *r, hark_store_shares *x, hark_errinfo *ei)
{
    hk_wire *w = &r->is;
    x->ret_generation = hk_wire_u64(w);
    x->ret_paused = hk_wire_int(w);
    hk_rs_take_rerun(hk_wire_next(w), &x->ret_rerun);
    x->ret_gap_from = hk_wire_u64(w);
    x->ret_gap_to = hk_wire_u64(w);
    x->ret_members = (uint32_t)hk_wire_u64(w);
    hark_err err = take_owned(s, hk_wire_next(w), x, ei);
    take_surplus(hk_wire_u64(w), x);
    if (!err)
        err = take_claims(s, hk_wire_next(w), x, ei);
    if (!err)
        err = take_news(s, hk_wire_next(w), x, ei);
    return err;
}

static void clear_results(hark_store_shares *x)
{
    x->ret_members = 0;
    x->owned = NULL;
    x->give = NULL;
    x->claimed = NULL;
    x->news = NULL;
    x->n_owned = x->n_give = x->n_claimed = x->n_news = 0;
}

/* What is claimed and cannot be carried home, for want of memory, is found as `owned` the next time. */
hark_err hk_rs_shares(hark_store *s, hark_store_shares *x, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    clear_results(x);
    hark_err err = add_args(s, x, &args, ei);
    if (!err)
        err = hk_rs_do(s, &s->party, true, "shares", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    err = r.code == HK_RS_OK
              ? take(s, &r, x, ei)
              : hk_fail(ei, HARK_ENOTFOUND, "%s has no consumer %llu any more; subscribe again",
                        s->where, (unsigned long long)x->consumer);
    freeReplyObject(raw);
    if (err)
        hark_store_shares_clear(x);
    return err;
}
