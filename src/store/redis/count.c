/* count.c: how many events does a query ask for? The whole log, or types of it, are counted by the script as they come
 * and go; anything else is counted in slices, so that the server is not kept for long. What is published or
 * removed meanwhile may or may not be among it. */
#include "store/redis/stream_i.h"

#include <string.h>

enum { SLICE = 1000 }; /* entries that the server looks at in one go: a few ms */

typedef struct counting {
    hark_store *s;
    const hark_store_query *q;
    hk_rs_types_of types;
    uint64_t low, high, total;
} counting;

static hark_err set_bounds(counting *n, hark_errinfo *ei)
{
    const hark_store_query *q = n->q;
    uint64_t at;
    hark_err err = HARK_OK;
    n->low = q->after + 1;
    n->high = q->before ? q->before - 1 : HARK_SEQ_MAX;
    if (q->from_ns > 0) {
        err = hk_rs_seek(n->s, q->from_ns, &at, ei);
        n->low = !err && at > n->low ? at : n->low;
    }
    if (!err && q->to_ns) {
        err = hk_rs_seek(n->s, q->to_ns, &at, ei);
        if (!err && (at == 0 || at - 1 < n->high))
            n->high = at ? at - 1 : 0;
    }
    return err;
}

static void add_args(const counting *n, hk_rs_args *args)
{
    size_t types = n->types.all ? 0 : n->types.n;
    hk_rs_arg_int(args, (int64_t)n->low);
    hk_rs_arg_int(args, (int64_t)n->high);
    hk_rs_arg_int(args, SLICE);
    hk_rs_arg_str(args, n->q->subject);
    hk_rs_arg_int(args, (int64_t)types);
    for (size_t i = 0; i < types; i++)
        hk_rs_arg_str(args, n->types.names[i]);
}

static hark_err count_slice(counting *n, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    add_args(n, &args);
    hark_err err = hk_rs_look(n->s, "count", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    n->total += hk_wire_u64(&r.is);
    n->low = hk_wire_u64(&r.is) + 1;
    freeReplyObject(raw);
    return HARK_OK;
}

static hark_err count(counting *n, hark_errinfo *ei)
{
    const hark_store_query *q = n->q;
    bool whole = !q->subject && !q->after && !q->before && !q->from_ns && !q->to_ns;
    n->total = n->types.events;
    if (whole)
        return HARK_OK;
    n->total = 0;
    if (n->types.n == 0)
        return HARK_OK;
    hark_err err = set_bounds(n, ei);
    while (!err && n->low <= n->high)
        err = count_slice(n, ei);
    return err;
}

hark_err hk_rs_count(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei)
{
    counting n = {.s = s, .q = q};
    hark_err err = hk_rs_types(s, q->pattern, &n.types, ei);
    if (!err)
        err = count(&n, ei);
    hk_rs_types_free(&n.types);
    if (!err)
        *ret = n.total;
    return err;
}
