/* replays.c: the progress of replays into ad-hoc handlers. The server keeps with each who has it under way. */
#include "store/redis/stream_i.h"

#include <stdlib.h>

/* The position comes first: retention looks at it (trim.lua). */
static void text_of(const hark_store_replay *r, hk_buf *ret)
{
    hk_wire_add_int(ret, (int64_t)r->position);
    hk_wire_add_str(ret, r->id);
    hk_wire_add_str(ret, r->pattern);
    hk_wire_add_int(ret, (int64_t)r->first);
    hk_wire_add_int(ret, (int64_t)r->last);
    hk_wire_add_int(ret, r->from_ns);
    hk_wire_add_int(ret, r->to_ns);
    hk_wire_add_int(ret, r->rate);
    hk_wire_add_int(ret, (int64_t)r->done);
    hk_wire_add_int(ret, (int64_t)r->total);
    hk_wire_add_int(ret, (int64_t)r->rejected);
    hk_wire_add_int(ret, r->state);
    hk_wire_add_int(ret, r->started_ns);
    hk_wire_add_int(ret, r->changed_ns);
    hk_wire_add_str(ret, r->error);
    hk_wire_add_int(ret, r->holds);
}

static bool take(hk_wire *all, hark_store_replay *ret)
{
    *ret = (hark_store_replay){.elsewhere = hk_wire_int(all)};
    hk_wire w = hk_wire_of(hk_wire_next(all));
    ret->position = hk_wire_u64(&w);
    ret->id = hk_wire_next(&w).s;
    ret->pattern = hk_wire_next(&w).s;
    ret->first = hk_wire_u64(&w);
    ret->last = hk_wire_u64(&w);
    ret->from_ns = hk_wire_int(&w);
    ret->to_ns = hk_wire_int(&w);
    ret->rate = hk_wire_int(&w);
    ret->done = hk_wire_u64(&w);
    ret->total = hk_wire_u64(&w);
    ret->rejected = hk_wire_u64(&w);
    ret->state = hk_wire_int(&w);
    ret->started_ns = hk_wire_int(&w);
    ret->changed_ns = hk_wire_int(&w);
    ret->error = hk_wire_next(&w).s;
    ret->holds = hk_wire_int(&w);
    return !w.bad && !all->bad && ret->id && ret->pattern;
}

hark_err hk_rs_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei)
{
    hk_buf text = {0};
    if (!hk_rs_op_new(s, "replay", ei))
        return HARK_ENOMEM;
    text_of(r, &text);
    hk_rs_arg_str(&s->group.args, r->id);
    hk_rs_arg_str(&s->group.args, r->holds ? "1" : "0");
    hk_rs_arg_buf(&s->group.args, &text);
    hk_buf_free(&text);
    hark_err err = hk_rs_op_wait(s, ei);
    if (err)
        hk_rs_op_drop(s);
    return err;
}

/* ---- the list ---------------------------------------------------------------------------------- */

static int by_start(const void *a, const void *b)
{
    const hark_store_replay *x = a, *y = b;
    return x->started_ns < y->started_ns ? -1 : x->started_ns > y->started_ns;
}

static hark_err take_all(const hark_store *s, hk_text text, hark_store_replay **ret, size_t *ret_n,
                         hark_errinfo *ei)
{
    hk_wire w = hk_wire_of(text);
    size_t cap = 0;
    while (hk_wire_more(&w)) {
        hark_store_replay *list = hk_array_room(*ret, *ret_n, &cap, 8, sizeof *list);
        if (!list)
            return hk_rs_no_memory(s, ei);
        *ret = list;
        if (!take(&w, &list[(*ret_n)++]))
            return hk_rs_strange(s, ei);
    }
    if (*ret_n > 1)
        qsort(*ret, *ret_n, sizeof **ret, by_start);
    return HARK_OK;
}

hark_err hk_rs_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    hark_store_replay *list = NULL;
    size_t n = 0;
    hark_err err = hk_rs_look(s, "replays", NULL, &raw, &r, ei);
    if (err)
        return err;
    err = take_all(s, hk_wire_next(&r.is), &list, &n, ei);
    for (size_t i = 0; i < n && !err; i++)
        if (!fn(ud, &list[i]))
            break;
    free(list);
    freeReplyObject(raw);
    return err;
}
