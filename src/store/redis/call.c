/* call.c: a call of the script: what it is told, and its answer. Operations of a group go together; others go by
 * themselves, once more over a new connection when the first one was lost. */
#include "store/redis/stream_i.h"

#include <inttypes.h>
#include <string.h>

hark_err hk_rs_no_memory(const hark_store *s, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory to work with %s", s->where);
}

hark_err hk_rs_strange(const hark_store *s, hark_errinfo *ei)
{
    return hk_fail(
        ei, HARK_ECORRUPT,
        "%s: what is under {hark:%s}: is not what hark has written there; restore it from "
        "a backup",
        s->where, s->log);
}

/* ---- arguments --------------------------------------------------------------------------------- */

void hk_rs_arg(hk_rs_args *a, const void *data, size_t len)
{
    char head[24] = "$";
    size_t n = 1 + hk_digits(len, head + 1);
    head[n++] = '\r';
    head[n++] = '\n';
    hk_buf_add(&a->bytes, head, n);
    hk_buf_add(&a->bytes, data, len);
    hk_buf_add(&a->bytes, "\r\n", 2);
    a->n++;
}

void hk_rs_arg_str(hk_rs_args *a, const char *s)
{
    hk_rs_arg(a, s ? s : "", s ? strlen(s) : 0);
}

void hk_rs_arg_int(hk_rs_args *a, int64_t n)
{
    char text[21];
    hk_rs_arg(a, text, hk_decimal(n, text));
}

void hk_rs_arg_buf(hk_rs_args *a, const hk_buf *b)
{
    if (b->failed)
        a->bytes.failed = true;
    hk_rs_arg(a, b->data ? b->data : "", b->len);
}

/* ---- the call ---------------------------------------------------------------------------------- */

static void add_op(hk_rs_args *head, const hk_rs_call *call, const hk_rs_op *op)
{
    hk_rs_arg_str(head, op->name);
    if (op->lenient)
        hk_rs_arg_str(head, "*");
    else
        hk_rs_arg(head, call->pins && op->n_pin ? call->pins->data + op->pin : "", op->n_pin);
    if (op->n_units)
        hk_rs_arg_int(head, (int64_t)op->n_units);
}

/* Of the arguments of all operations, those of one. */
static void add_args(hk_buf *out, const hk_rs_call *call, size_t i)
{
    size_t to = i + 1 < call->n ? call->ops[i + 1].from : call->args->bytes.len;
    hk_buf_add(out, call->args->bytes.data + call->ops[i].from, to - call->ops[i].from);
}

static bool appends_only(const hk_rs_call *call)
{
    for (size_t i = 0; i < call->n; i++)
        if (strcmp(call->ops[i].name, "append") != 0)
            return false;
    return true;
}

void hk_rs_stamp(hark_store *s, char ret[HK_RS_STAMP])
{
    (void)snprintf(ret, HK_RS_STAMP, "%s:%" PRIu64, s->log_hex, hk_mark_get(&s->epoch));
}

static void add_head(hark_store *s, const hk_rs_call *call, hk_rs_args *head)
{
    char stamp[HK_RS_STAMP];
    hk_rs_stamp(s, stamp);
    hk_rs_arg_str(head, "EVALSHA");
    hk_rs_arg_str(head, s->sha[appends_only(call)]);
    hk_rs_arg_str(head, "1");
    hk_rs_arg_str(head, s->key);
    hk_rs_arg_str(head, call->commits ? "commit" : "judge");
    hk_rs_arg_str(head, s->process);
    hk_rs_arg_int(head, (int64_t)call->ticket);
    hk_rs_arg_str(head, call->any_epoch ? "" : stamp);
    hk_rs_arg_int(head, (int64_t)call->n);
}

static void add_call(hark_store *s, hk_buf *out, const hk_rs_call *call)
{
    hk_rs_args part = {0};
    size_t n = 9;
    for (size_t i = 0; i < call->n; i++)
        n += 2 + (call->ops[i].n_units ? 1U : 0U) + call->ops[i].n;
    hk_buf_addf(out, "*%zu\r\n", n);
    add_head(s, call, &part);
    hk_buf_add(out, part.bytes.data, part.bytes.len);
    for (size_t i = 0; i < call->n; i++) {
        hk_buf_clear(&part.bytes);
        add_op(&part, call, &call->ops[i]);
        hk_buf_add(out, part.bytes.data, part.bytes.len);
        add_args(out, call, i);
    }
    if (part.bytes.failed || call->args->bytes.failed)
        out->failed = true;
    hk_buf_free(&part.bytes);
}

static hark_err answer_of(const hark_store *s, hk_link *l, const redisReply *r, hark_errinfo *ei)
{
    if (r->type == REDIS_REPLY_STRING)
        return HARK_OK;
    if (r->type != REDIS_REPLY_ERROR)
        return hk_redis_strange(&l->conn, "EVALSHA", ei);
    if (hk_redis_is_error(r, "HARKEPOCH"))
        return hk_fail(ei, HARK_EAGAIN, "%s: the server has lost a part of the log; try again",
                       s->where);
    if (hk_redis_is_error(r, "HARKCHANGED"))
        return hk_fail(ei, HARK_ECONFLICT, "%s: another process was quicker; try again", s->where);
    return hk_link_refused(s, l, r, ei);
}

static hark_err send_call(hark_store *s, hk_link *l, const hk_rs_call *call, redisReply **ret,
                          hark_errinfo *ei)
{
    add_call(s, &l->conn.out, call);
    return hk_link_ask(l, ret, ei);
}

/* A server may be told to forget its scripts. */
hark_err hk_rs_call_once(hark_store *s, hk_link *l, const hk_rs_call *call, redisReply **ret,
                         hark_errinfo *ei)
{
    redisReply *r = NULL;
    hark_err err = send_call(s, l, call, &r, ei);
    if (!err && hk_redis_is_error(r, "NOSCRIPT")) {
        freeReplyObject(r);
        r = NULL;
        err = hk_link_load(s, l, ei);
        if (!err)
            err = send_call(s, l, call, &r, ei);
    }
    if (err)
        return err;
    err = answer_of(s, l, r, ei);
    if (err)
        freeReplyObject(r);
    else
        *ret = r;
    return err;
}

hark_err hk_rs_reply_next(const hark_store *s, hk_wire *w, hk_rs_reply *ret, hark_errinfo *ei)
{
    hk_wire both = hk_wire_of(hk_wire_next(w));
    ret->pin = hk_wire_next(&both);
    ret->more = hk_wire_next(&both);
    ret->is = hk_wire_of(ret->pin);
    ret->code = hk_wire_int(&ret->is);
    return w->bad || both.bad || ret->is.bad ? hk_rs_strange(s, ei) : HARK_OK;
}

/* ---- one operation ----------------------------------------------------------------------------- */

static hark_err try_once(hark_store *s, hk_link *l, const hk_rs_call *call, redisReply **ret,
                         hark_errinfo *ei)
{
    hark_err err = hk_link_ready(s, l, ei);
    if (!err)
        err = hk_rs_call_once(s, l, call, ret, ei);
    if (err == HARK_EAGAIN)
        err = hk_rs_revive(s, l, ei);
    return err;
}

hark_err hk_rs_do(hark_store *s, hk_link *l, bool commits, const char *name, const hk_rs_args *args,
                  redisReply **ret_raw, hk_rs_reply *ret, hark_errinfo *ei)
{
    static const hk_rs_args none;
    const hk_rs_op op = {.name = name, .n = args ? args->n : 0};
    const hk_rs_call call = {.commits = commits, .args = args ? args : &none, .ops = &op, .n = 1};
    redisReply *r = NULL;
    hark_err err = try_once(s, l, &call, &r, ei);
    if (!r && (!err || err == HARK_ESTORE)) /* revived, or the connection was lost */
        err = try_once(s, l, &call, &r, ei);
    if (!err && !r)
        err = hk_fail(ei, HARK_ESTORE, "%s: the server loses the log again and again", s->where);
    if (err)
        return err;
    hk_wire w = hk_wire_of((hk_text){r->str, r->len});
    err = hk_rs_reply_next(s, &w, ret, ei);
    if (err)
        freeReplyObject(r);
    else
        *ret_raw = r;
    return err;
}

hark_err hk_rs_look(hark_store *s, const char *name, const hk_rs_args *args, redisReply **ret_raw,
                    hk_rs_reply *ret, hark_errinfo *ei)
{
    hk_link *l;
    hark_err err = hk_rs_reader_take(s, &l, ei);
    if (err)
        return err;
    err = hk_rs_do(s, l, false, name, args, ret_raw, ret, ei);
    hk_rs_reader_give(s, l);
    return err;
}
