/* admin.c: what operators do with consumers: a reset to another place, a pause, and the list of all of them. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>

static hark_err no_consumer(const hark_store *s, uint64_t id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTFOUND, "%s has no consumer %llu any more; list the consumers",
                   s->where, (unsigned long long)id);
}

/* ---- reset ------------------------------------------------------------------------------------- */

static hark_err add_reset(hark_store *s, const hark_store_reset *r, int64_t now, hark_errinfo *ei)
{
    char name[24];
    hk_rs_args *a = &s->group.args;
    (void)snprintf(name, sizeof name, "%llu", (unsigned long long)r->consumer);
    hk_rs_arg_int(a, (int64_t)r->consumer);
    hk_rs_arg_str(a, r->keep ? "1" : "0");
    hark_err err =
        hk_rs_start(a, name, r->keep ? 0 : r->start, r->start_sequence, r->start_time_ns, ei);
    hk_rs_arg_int(a, (int64_t)r->reached);
    hk_rs_arg_str(a, r->keep ? "" : r->rerun.id);
    hk_rs_arg_int(a, r->rerun.rate);
    hk_rs_arg_int(a, now);
    return err;
}

static hark_err take_reset(hark_store *s, hk_rs_reply *reply, int64_t now, hark_store_reset *r,
                           hark_errinfo *ei)
{
    uint64_t generation = hk_wire_u64(&reply->is);
    hk_wire more = hk_wire_of(reply->more), *w = r->keep ? &more : &reply->is;
    uint64_t floor = hk_wire_u64(w), from = hk_wire_u64(w), upto = hk_wire_u64(w);
    uint64_t settled = hk_wire_u64(w);
    if (w->bad || reply->is.bad)
        return hk_rs_strange(s, ei);
    r->ret_generation = generation;
    r->ret_floor = floor;
    if (!from) {
        r->rerun = (hark_store_rerun){0};
        return HARK_OK;
    }
    r->rerun.from = from;
    r->rerun.upto = upto;
    r->rerun.settled = settled;
    r->rerun.started_ns = now;
    return HARK_OK;
}

hark_err hk_rs_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply reply;
    int64_t now = hk_wall_ns();
    if (!hk_rs_op_new(s, "reset", ei))
        return HARK_ENOMEM;
    hark_err err = add_reset(s, r, now, ei);
    if (err) {
        (void)hk_rs_op_wait(s, NULL);
        hk_rs_op_drop(s);
        return err;
    }
    err = hk_rs_op_judge(s, &raw, &reply, ei);
    if (err)
        return err;
    err = reply.code == HK_RS_OK ? take_reset(s, &reply, now, r, ei)
                                 : no_consumer(s, r->consumer, ei);
    freeReplyObject(raw);
    return err;
}

/* ---- pause ------------------------------------------------------------------------------------- */

hark_err hk_rs_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    if (!hk_rs_op_new(s, "pause", ei))
        return HARK_ENOMEM;
    hk_rs_arg_int(&s->group.args, (int64_t)consumer);
    hk_rs_arg_str(&s->group.args, paused ? "1" : "0");
    hark_err err = hk_rs_op_judge(s, &raw, &r, ei);
    if (err)
        return err;
    err = r.code == HK_RS_OK ? HARK_OK : no_consumer(s, consumer, ei);
    freeReplyObject(raw);
    return err;
}

/* ---- the list ---------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static void take_row(const char *name, hk_rs_reply *r, hark_store_consumer_row *ret)
{
    hk_wire *w = &r->is;
    *ret = (hark_store_consumer_row){.name = name, .id = hk_wire_u64(w)};
    ret->pattern = hk_wire_next(w).s;
    ret->policy = hk_wire_next(w).s;
    ret->generation = hk_wire_u64(w);
    ret->floor = hk_wire_u64(w);
    ret->highest = hk_wire_u64(w);
    ret->paused = hk_wire_int(w);
    ret->created_ns = hk_wire_int(w);
    hk_rs_take_rerun(hk_wire_next(w), &ret->rerun);
    ret->retrying = hk_wire_u64(w);
    ret->behind = hk_wire_u64(w);
    ret->parked = hk_wire_u64(w);
    ret->dead = hk_wire_u64(w);
    ret->dead_lanes = hk_wire_u64(w);
    ret->letters = hk_wire_u64(w);
}

/* One that goes meanwhile is not shown. */
static hark_err describe(hark_store *s, const char *name, hark_store_consumer_fn fn, void *ud,
                         bool *ret_more, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    hk_rs_arg_str(&args, name);
    hark_err err = hk_rs_look(s, "describe", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    if (r.code == HK_RS_OK) {
        hark_store_consumer_row row;
        take_row(name, &r, &row);
        if (r.is.bad)
            err = hk_rs_strange(s, ei);
        else
            *ret_more = fn(ud, &row);
    }
    freeReplyObject(raw);
    return err;
}

hark_err hk_rs_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei)
{
    redisReply *names = NULL;
    hark_err err = hk_rs_ask(s, "HKEYS", "cn", NULL, 0, &names, ei);
    if (err)
        return err;
    size_t n = names->elements;
    const char **list = calloc(n + 1, sizeof *list);
    if (!list)
        err = hk_rs_no_memory(s, ei);
    for (size_t i = 0; i < n && !err; i++)
        list[i] = names->element[i]->str;
    if (!err)
        qsort(list, n, sizeof *list, by_name);
    bool more = true;
    for (size_t i = 0; i < n && !err && more; i++)
        err = describe(s, list[i], fn, ud, &more, ei);
    free(list);
    freeReplyObject(names);
    return err;
}
