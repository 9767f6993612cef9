/* consumer.c: registers consumers and loads what is known of them. What a consumer has is divided into shares; without
 * `find` their bounds are told, and no rows, unless there is but one share: they come when a share is claimed. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>

/* hark_store_consumer.start, the values of hark_start in <hark/bus.h>. */
enum { START_NOW, START_FIRST, START_SEQUENCE, START_TIME };

hark_err hk_rs_start(hk_rs_args *a, const char *name, int64_t start, uint64_t sequence,
                     int64_t time_ns, hark_errinfo *ei)
{
    if (start < START_NOW || start > START_TIME)
        return hk_fail(ei, HARK_EINVAL,
                       "consumer %s: start %lld is not a hark_start; give one of <hark/bus.h>",
                       name, (long long)start);
    if (start == START_SEQUENCE && sequence > HARK_SEQ_MAX)
        return hk_fail(ei, HARK_EINVAL,
                       "consumer %s: start_sequence %llu is over 2^53 - 1, the highest that there "
                       "can be",
                       name, (unsigned long long)sequence);
    hk_rs_arg_int(a, start);
    hk_rs_arg_int(a, start == START_TIME ? hk_rs_us(time_ns) : (int64_t)(sequence & HARK_SEQ_MAX));
    return HARK_OK;
}

/* ---- rows -------------------------------------------------------------------------------------- */

/* The script knows the first field, the state, and the seventh, the lane. */
void hk_rs_row(const hark_store_row *r, hk_buf *ret)
{
    hk_wire_add_int(ret, r->state);
    hk_wire_add_int(ret, r->attempts);
    hk_wire_add_int(ret, r->crashes);
    hk_wire_add_int(ret, r->interruptions);
    hk_wire_add_int(ret, r->due_ns);
    hk_wire_add_int(ret, r->first_ns);
    hk_wire_add_str(ret, r->key);
    hk_wire_add_str(ret, r->error);
}

/* False: memory is out. */
static bool copy(hk_text t, const char **ret)
{
    *ret = hk_strdup(t.s);
    return *ret || !t.s;
}

static bool take_row(hk_wire *all, hark_store_row *r)
{
    r->sequence = hk_wire_u64(all);
    hk_wire w = hk_wire_of(hk_wire_next(all));
    r->state = hk_wire_int(&w);
    r->attempts = hk_wire_int(&w);
    r->crashes = hk_wire_int(&w);
    r->interruptions = hk_wire_int(&w);
    r->due_ns = hk_wire_int(&w);
    r->first_ns = hk_wire_int(&w);
    bool key = copy(hk_wire_next(&w), &r->key), error = copy(hk_wire_next(&w), &r->error);
    all->bad |= w.bad;
    return key && error;
}

static int by_sequence(const void *a, const void *b)
{
    const hark_store_row *x = a, *y = b;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static hark_err take_rows(const hark_store *s, hk_text text, hark_store_claim *ret,
                          hark_errinfo *ei)
{
    hk_wire w = hk_wire_of(text);
    size_t cap = 0;
    while (hk_wire_more(&w)) {
        hark_store_row *rows = hk_array_room(ret->rows, ret->n_rows, &cap, 16, sizeof *rows);
        if (!rows)
            return hk_rs_no_memory(s, ei);
        ret->rows = rows;
        hark_store_row *r = &rows[ret->n_rows++];
        *r = (hark_store_row){0};
        if (!take_row(&w, r))
            return hk_rs_no_memory(s, ei);
    }
    if (w.bad)
        return hk_rs_strange(s, ei);
    if (ret->n_rows > 1)
        qsort(ret->rows, ret->n_rows, sizeof *ret->rows, by_sequence);
    return HARK_OK;
}

hark_err hk_rs_take_state(const hark_store *s, hk_wire *w, hark_store_claim *ret, hark_errinfo *ei)
{
    ret->floor = hk_wire_u64(w);
    ret->highest = hk_wire_u64(w);
    hk_text settled = hk_wire_next(w), rows = hk_wire_next(w);
    hark_err err = w->bad ? HARK_ECORRUPT : HARK_OK;
    if (!err && settled.len)
        err = hk_ranges_decode(ret->floor, (const uint8_t *)settled.s, settled.len, &ret->settled,
                               &ret->n_settled);
    if (err == HARK_ENOMEM)
        return hk_rs_no_memory(s, ei);
    return err ? hk_rs_strange(s, ei) : take_rows(s, rows, ret, ei);
}

void hk_rs_claim_clear(hark_store_claim *c)
{
    for (size_t i = 0; i < c->n_rows; i++) {
        free((char *)(uintptr_t)c->rows[i].key);
        free((char *)(uintptr_t)c->rows[i].error);
    }
    free(c->rows);
    free(c->settled);
    *c = (hark_store_claim){0};
}

void hk_rs_take_rerun(hk_text text, hark_store_rerun *ret)
{
    hk_wire w = hk_wire_of(text);
    *ret = (hark_store_rerun){0};
    if (!text.len)
        return;
    hk_text id = hk_wire_next(&w);
    (void)snprintf(ret->id, sizeof ret->id, "%s", id.s ? id.s : "");
    ret->from = hk_wire_u64(&w);
    ret->upto = hk_wire_u64(&w);
    ret->rate = hk_wire_int(&w);
    ret->started_ns = hk_wire_int(&w);
    ret->settled = hk_wire_u64(&w);
}

/* ---- what is answered -------------------------------------------------------------------------- */

static hark_err refused(const hark_store *s, const hark_store_consumer *c, hk_rs_reply *r,
                        hark_errinfo *ei)
{
    if (r->code == HK_RS_ENOTFOUND)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "no consumer %s is registered in %s; check the name, or subscribe with it",
                       c->name, s->where);
    if (r->code != HK_RS_ECONFLICT)
        return hk_rs_strange(s, ei);
    hk_text pattern = hk_wire_next(&r->is), policy = hk_wire_next(&r->is);
    return hk_fail(
        ei, HARK_ECONFLICT,
        "consumer %s is registered for %.100s with %.100s; register it so, set .update, or "
        "choose another name",
        c->name, pattern.s ? pattern.s : "?", policy.s ? policy.s : "?");
}

/* The state of one share, where it is asked for, or of the only one. */
static hark_err take_share(const hark_store *s, hk_wire *w, hark_store_consumer *c,
                           hark_errinfo *ei)
{
    hark_store_claim state = {0};
    c->ret_paused = hk_wire_int(w);
    hk_rs_take_rerun(hk_wire_next(w), &c->ret_rerun);
    c->ret_gap_from = hk_wire_u64(w);
    c->ret_gap_to = hk_wire_u64(w);
    hark_err err = hk_rs_take_state(s, w, &state, ei);
    if (err || (!c->find && c->ret_shares > 1)) {
        hk_rs_claim_clear(&state);
        return err;
    }
    c->ret_floor = state.floor;
    c->ret_highest = state.highest;
    c->ret_settled = state.settled;
    c->ret_n_settled = state.n_settled;
    c->ret_rows = state.rows;
    c->ret_n_rows = state.n_rows;
    return HARK_OK;
}

static hark_err take_more(const hark_store *s, hk_text more, hark_store_consumer *c,
                          hark_errinfo *ei)
{
    hk_wire w = hk_wire_of(more);
    c->ret_generation = hk_wire_u64(&w);
    hk_text pattern = hk_wire_next(&w), policy = hk_wire_next(&w);
    c->ret_pattern = hk_strdup(pattern.s);
    c->ret_policy = hk_strdup(policy.s);
    c->ret_shares = (uint32_t)hk_wire_u64(&w);
    c->ret_floor = hk_wire_u64(&w);
    c->ret_highest = hk_wire_u64(&w);
    hk_wire state = hk_wire_of(hk_wire_next(&w));
    if (w.bad)
        return hk_rs_strange(s, ei);
    if (!c->ret_pattern || !c->ret_policy)
        return hk_rs_no_memory(s, ei);
    return take_share(s, &state, c, ei);
}

/* *ret_reads: nothing is changed by it. */
static hark_err take(hark_store *s, hk_rs_reply *r, hark_store_consumer *c, bool *ret_reads,
                     hark_errinfo *ei)
{
    c->ret_id = hk_wire_u64(&r->is);
    c->ret_created = hk_wire_int(&r->is);
    *ret_reads = !c->ret_created && hk_wire_int(&r->is) == 0;
    hark_err err = take_more(s, r->more, c, ei);
    if (!err && !c->find)
        err = hk_rs_know(s, c, ei);
    return err;
}

/* ---- asking ------------------------------------------------------------------------------------ */

static hark_err add_args(hark_store *s, const hark_store_consumer *c, hark_errinfo *ei)
{
    hk_rs_args *a = &s->group.args;
    hk_rs_arg_str(a, c->name);
    hk_rs_arg_str(a, c->pattern);
    hk_rs_arg_str(a, c->policy);
    hk_rs_arg_str(a, c->update ? "1" : "0");
    hk_rs_arg_str(a, c->find ? "1" : "0");
    hark_err err = hk_rs_start(a, c->name, c->find ? START_NOW : c->start, c->start_sequence,
                               c->start_time_ns, ei);
    hk_rs_arg_int(a, hk_wall_ns());
    hk_rs_arg_int(a, s->shares);
    hk_rs_arg_int(a, c->find ? c->share : 0);
    return err;
}

/* What only looks does not wait for the commit, nor can another process come before it. */
hark_err hk_rs_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    bool reads = true;
    hk_consumer_unfilled(c);
    if (!hk_rs_op_new(s, "open", ei))
        return HARK_ENOMEM;
    hark_err err = add_args(s, c, ei);
    if (err) {
        (void)hk_rs_op_wait(s, NULL);
        hk_rs_op_drop(s);
        return err;
    }
    err = hk_rs_op_judge(s, &raw, &r, ei);
    if (err)
        return err;
    bool good = r.code == HK_RS_OK;
    err = good ? take(s, &r, c, &reads, ei) : refused(s, c, &r, ei);
    if (good && (err || reads))
        hk_rs_op_drop(s);
    if (err)
        hark_store_consumer_clear(c);
    freeReplyObject(raw);
    return err;
}
