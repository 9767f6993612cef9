/* group.c: the writer's group. Operations are kept until the commit, which is one call of the script. Whoever wants a
 * verdict before it gets it from a call that only judges; the commit is pinned to it.
 *
 * The call has a ticket, one more for each group. When its reply is lost it is made again, over a new connection, with
 * the same ticket: either it is carried out then, or the answer of the first time comes back. HARK_EUNKNOWN is left
 * for a server that cannot be reached for as long as HK_RS_RESOLVE_NS. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HK_RS_RESOLVE_NS (INT64_C(5) * 1000000000)

/* ---- collecting -------------------------------------------------------------------------------- */

static void clear(hk_rs_group *g)
{
    enum { KEEP = 1 << 20 };
    if (g->args.bytes.failed || g->args.bytes.cap > KEEP)
        hk_buf_free(&g->args.bytes);
    else
        hk_buf_clear(&g->args.bytes);
    if (g->part.failed || g->part.cap > KEEP)
        hk_buf_free(&g->part);
    hk_buf_clear(&g->pins);
    hk_buf_clear(&g->part);
    g->args.n = 0;
    g->n = g->n_units = 0;
}

void hk_rs_group_free(hark_store *s)
{
    hk_rs_group *g = &s->group;
    hk_buf_free(&g->args.bytes);
    hk_buf_free(&g->pins);
    hk_buf_free(&g->part);
    free(g->ops);
    free(g->units);
    *g = (hk_rs_group){0};
}

hark_err hk_rs_begin(hark_store *s, hark_errinfo *ei)
{
    if (hk_mark_get(&s->replaced))
        return hk_link_ready(s, &s->write, ei);
    clear(&s->group);
    s->group.open = true;
    return HARK_OK;
}

void hk_rs_rollback(hark_store *s)
{
    clear(&s->group);
    s->group.open = false;
}

hk_rs_op *hk_rs_op_new(hark_store *s, const char *name, hark_errinfo *ei)
{
    hk_rs_group *g = &s->group;
    if (!g->open) {
        (void)hk_fail(ei, HARK_EINTERNAL, "%s outside of a group", name);
        return NULL;
    }
    hk_rs_op *ops = hk_array_room(g->ops, g->n, &g->cap, 64, sizeof *ops);
    if (!ops) {
        (void)hk_rs_no_memory(s, ei);
        return NULL;
    }
    g->ops = ops;
    ops[g->n] = (hk_rs_op){.name = name, .from = g->args.bytes.len, .n = g->args.n};
    return &ops[g->n++];
}

/* Until it ends, an operation's `n` is how many arguments there were before it. */
static hark_err end_op(hark_store *s, hark_errinfo *ei)
{
    hk_rs_group *g = &s->group;
    hk_rs_op *op = &g->ops[g->n - 1];
    op->n = g->args.n - op->n;
    return g->args.bytes.failed ? hk_rs_no_memory(s, ei) : HARK_OK;
}

void hk_rs_op_drop(hark_store *s)
{
    hk_rs_group *g = &s->group;
    hk_rs_op *op = &g->ops[--g->n];
    g->args.bytes.len = op->from;
    g->args.n -= op->n;
    g->n_units -= op->n_units;
}

hark_err hk_rs_op_wait(hark_store *s, hark_errinfo *ei)
{
    hk_rs_group *g = &s->group;
    if (g->n > 1 && g->ops[g->n - 1].n_units && strcmp(g->ops[g->n - 2].name, "schedule_drop") == 0)
        g->ops[g->n - 2].lenient = true;
    return end_op(s, ei);
}

/* ---- judging ----------------------------------------------------------------------------------- */

static hk_rs_call group_call(const hk_rs_group *g)
{
    return (hk_rs_call){.args = &g->args, .pins = &g->pins, .ops = g->ops, .n = g->n};
}

/* The group was promised something else: it has to begin again. */
static hark_err changed(hark_err err, hark_errinfo *ei)
{
    if (err == HARK_ECONFLICT && ei)
        ei->err = HARK_EAGAIN;
    return err == HARK_ECONFLICT ? HARK_EAGAIN : err;
}

/* Once more when the server has lost the log, or was lost: nothing was written. */
static hark_err ask_verdict(hark_store *s, redisReply **ret, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    *ret = NULL;
    for (int i = 0; i < 3 && !*ret; i++) {
        const hk_rs_call call = group_call(&s->group);
        err = hk_link_ready(s, &s->write, ei);
        if (!err)
            err = hk_rs_call_once(s, &s->write, &call, ret, ei);
        if (err == HARK_EAGAIN)
            err = hk_rs_revive(s, &s->write, ei);
        if (err && err != HARK_ESTORE)
            return changed(err, ei);
    }
    return !err && !*ret
               ? hk_fail(ei, HARK_ESTORE, "%s: the server loses the log again and again", s->where)
               : err;
}

/* The last of the replies. */
static hark_err last_reply(hark_store *s, const redisReply *raw, hk_rs_reply *ret, hark_errinfo *ei)
{
    hk_wire w = hk_wire_of((hk_text){raw->str, raw->len});
    hark_err err = HARK_OK;
    for (size_t i = 0; i < s->group.n && !err; i++)
        err = hk_rs_reply_next(s, &w, ret, ei);
    return err;
}

/* The reply becomes what the commit is pinned to. */
static hark_err pin(hark_store *s, const hk_rs_reply *r, hark_errinfo *ei)
{
    hk_rs_group *g = &s->group;
    hk_rs_op *op = &g->ops[g->n - 1];
    op->pin = g->pins.len;
    op->n_pin = r->pin.len;
    hk_buf_add(&g->pins, r->pin.s, r->pin.len);
    return g->pins.failed ? hk_rs_no_memory(s, ei) : HARK_OK;
}

hark_err hk_rs_op_judge(hark_store *s, redisReply **ret_raw, hk_rs_reply *ret, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hark_err err = end_op(s, ei);
    if (!err)
        err = ask_verdict(s, &raw, ei);
    if (!err)
        err = last_reply(s, raw, ret, ei);
    if (!err && ret->code == HK_RS_OK)
        err = pin(s, ret, ei);
    if (err || ret->code != HK_RS_OK)
        hk_rs_op_drop(s);
    if (err && raw)
        freeReplyObject(raw);
    else
        *ret_raw = raw;
    return err;
}

hark_err hk_rs_draw(hark_store *s, const char *counter, size_t n, uint64_t *ret, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    hk_rs_reply r;
    redisReply *raw = NULL;
    hk_rs_arg_str(&args, counter);
    hk_rs_arg_int(&args, (int64_t)n);
    hark_err err = hk_rs_do(s, &s->write, false, "draw", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    *ret = hk_wire_u64(&r.is);
    freeReplyObject(raw);
    return HARK_OK;
}

/* ---- the commit -------------------------------------------------------------------------------- */

/* An earlier call whose answer was lost may have been carried out, and only the script, which looks at the ticket, knows. So
 * it was asked when it answers, or fails as it writes; what is refused before, by another epoch, by a server that is a
 * replica by now, tells nothing of that. */
static bool resolves(hark_err err)
{
    return !err || err == HARK_ECONFLICT || err == HARK_EFULL;
}

/* *ret_sent: the group may have been stored, by this call or by one before. */
static hark_err call_once(hark_store *s, const hk_rs_call *call, redisReply **ret, bool *ret_sent,
                          hark_errinfo *ei)
{
    hark_err err = hk_link_ready(s, &s->write, ei);
    if (err)
        return err;
    bool before = *ret_sent;
    *ret_sent = true;
    err = hk_rs_call_once(s, &s->write, call, ret, ei);
    if (s->write.conn.context && (!before || resolves(err)))
        *ret_sent = false;
    return err;
}

static void rest(uint64_t n)
{
    int64_t ns = hk_redis_pause(n);
    (void)usleep((useconds_t)(ns / 1000));
}

/* Calls until there is an answer. */
static hark_err call_until_known(hark_store *s, const hk_rs_call *call, redisReply **ret,
                                 hark_errinfo *ei)
{
    int64_t until = hk_mono_ns() + HK_RS_RESOLVE_NS;
    bool sent = false;
    for (uint64_t n = 1;; n++) {
        hark_err err = call_once(s, call, ret, &sent, ei);
        if (err == HARK_EAGAIN) {
            err = hk_rs_revive(s, &s->write, ei);
            if (!err && n < 5)
                continue;
            err = err ? err : hk_fail(ei, HARK_ESTORE, "%s: the server loses the log", s->where);
        }
        if (!err || !sent)
            return changed(err, ei);
        if (hk_mono_ns() >= until)
            return hk_wrap(ei, HARK_EUNKNOWN, "whether a group was stored is not known");
        rest(n);
    }
}

/* Each hears its own; the first error that is not a refusal is the group's: it cannot be, after the fact. */
static hark_err tell(hark_store *s, const redisReply *raw, hark_errinfo *ei)
{
    hk_rs_group *g = &s->group;
    hk_wire w = hk_wire_of((hk_text){raw->str, raw->len});
    hark_err err = HARK_OK;
    for (size_t i = 0; i < g->n && !err; i++) {
        hk_rs_reply r;
        err = hk_rs_reply_next(s, &w, &r, ei);
        if (!err && g->ops[i].told)
            err = g->ops[i].told(s, &g->ops[i], &r, ei);
    }
    return err;
}

hark_err hk_rs_commit(hark_store *s, hark_errinfo *ei)
{
    hark_errinfo own;
    redisReply *raw = NULL;
    hark_err err = HARK_OK;
    ei = ei ? ei : &own;
    if (s->group.n > 0) {
        hk_rs_call call = group_call(&s->group);
        call.commits = true;
        call.ticket = ++s->ticket;
        err = call_until_known(s, &call, &raw, ei);
    }
    if (!err && raw)
        err = tell(s, raw, ei);
    if (raw)
        freeReplyObject(raw);
    hk_rs_rollback(s);
    return err;
}
