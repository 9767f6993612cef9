/* redrive.c: what becomes of a dead letter: redriven, it is an open row of its consumer again and goes with that row;
 * discarded, it is gone, and with it the row that parked its lane. The script judges (letters.lua); whose share it
 * is learns of it by `shares`. */
#include "store/redis/stream_i.h"

#include <stdlib.h>

static hark_err refused(const hark_store *s, uint64_t id, hk_rs_reply *r, hark_errinfo *ei)
{
    unsigned long long letter = id;
    bool second = hk_wire_int(&r->is) != 0;
    unsigned long long seq = r->code == HK_RS_ENOTFOUND ? 0 : hk_wire_u64(&r->is);
    if (r->code == HK_RS_ENOTFOUND && second)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "the consumer of dead letter %llu is not there any more; discard it",
                       letter);
    if (r->code == HK_RS_ENOTFOUND)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "there is no dead letter %llu (any more); list the dead letters", letter);
    if (r->code == HK_RS_ECONFLICT && second)
        return hk_fail(ei, HARK_ECONFLICT,
                       "sequence %llu of dead letter %llu is being delivered again; wait for what "
                       "comes of it",
                       seq, letter);
    if (r->code == HK_RS_ECONFLICT)
        return hk_fail(ei, HARK_ECONFLICT,
                       "dead letter %llu is being redriven already; wait for what comes of it",
                       letter);
    if (r->code == HK_RS_EAGAIN)
        return hk_fail(ei, HARK_EAGAIN,
                       "the consumer of dead letter %llu was reset and comes to sequence %llu by "
                       "itself; try again when it is past it",
                       letter, seq);
    return hk_rs_strange(s, ei);
}

static hark_err take(const hark_store *s, hk_rs_reply *r, hark_store_letter_done *ret,
                     hark_errinfo *ei)
{
    hark_store_letter_done done = {.consumer = hk_wire_u64(&r->is)};
    done.generation = hk_wire_u64(&r->is);
    done.sequence = hk_wire_u64(&r->is);
    hk_text key = hk_wire_next(&r->is);
    bool has_key = hk_wire_int(&r->is) != 0;
    done.parked = hk_wire_int(&r->is);
    done.remote = hk_wire_int(&r->is);
    if (r->is.bad)
        return hk_rs_strange(s, ei);
    done.key = has_key ? hk_strdup(key.s) : NULL;
    if (has_key && !done.key)
        return hk_rs_no_memory(s, ei);
    *ret = done;
    return HARK_OK;
}

static hark_err judge(hark_store *s, uint64_t id, hark_store_letter_done *ret, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    hark_err err = hk_rs_op_judge(s, &raw, &r, ei);
    if (err)
        return err;
    if (r.code != HK_RS_OK) {
        err = refused(s, id, &r, ei);
    } else {
        err = take(s, &r, ret, ei);
        if (err)
            hk_rs_op_drop(s);
    }
    freeReplyObject(raw);
    return err;
}

hark_err hk_rs_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                              hark_store_letter_done *ret, hark_errinfo *ei)
{
    if (!hk_rs_op_new(s, "redrive", ei))
        return HARK_ENOMEM;
    hk_rs_arg_int(&s->group.args, (int64_t)id);
    hk_rs_arg_int(&s->group.args, due_ns);
    return judge(s, id, ret, ei);
}

hark_err hk_rs_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                              hark_errinfo *ei)
{
    if (!hk_rs_op_new(s, "discard", ei))
        return HARK_ENOMEM;
    hk_rs_arg_int(&s->group.args, (int64_t)id);
    return judge(s, id, ret, ei);
}
