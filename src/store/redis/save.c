/* save.c: what the delivery core decided about a share. The script compares generation and token; the ids of dead
 * letters are drawn before, since they are wanted at once: what is not committed leaves a hole in them. */
#include "store/redis/stream_i.h"

static void add_rows(hk_rs_args *a, const hark_store_save *v, hk_buf *b)
{
    hk_rs_arg_int(a, (int64_t)v->n_put);
    for (size_t i = 0; i < v->n_put; i++) {
        hk_buf_clear(b);
        hk_rs_row(&v->put[i], b);
        hk_rs_arg_int(a, (int64_t)v->put[i].sequence);
        hk_rs_arg_buf(a, b);
    }
}

static void add_attempts(hk_rs_args *a, const hark_store_save *v, hk_buf *b)
{
    hk_rs_arg_int(a, (int64_t)v->n_attempts);
    for (size_t i = 0; i < v->n_attempts; i++) {
        hk_buf_clear(b);
        hk_rs_attempt_text(&v->attempts[i], b);
        hk_rs_arg_int(a, (int64_t)v->attempts[i].sequence);
        hk_rs_arg_buf(a, b);
    }
}

static hark_err add_dead(hk_rs_args *a, const hark_store_save *v, hk_buf *b, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    hk_rs_arg_int(a, (int64_t)v->n_dead);
    for (size_t i = 0; i < v->n_dead && !err; i++) {
        hk_buf_clear(b);
        err = hk_rs_letter_text(v, &v->dead[i], b, ei);
        hk_rs_arg_int(a, (int64_t)v->dead[i].ret_id);
        hk_rs_arg_int(a, (int64_t)hark_event_sequence(v->dead[i].event));
        hk_rs_arg_buf(a, b);
    }
    return err;
}

static hark_err add_args(hk_rs_args *a, const hark_store_save *v, hark_errinfo *ei)
{
    hk_buf b = {0};
    hk_ranges_encode(v->floor, v->settled, v->n_settled, &b);
    hk_rs_arg_int(a, (int64_t)v->consumer);
    hk_rs_arg_int(a, (int64_t)v->generation);
    hk_rs_arg_int(a, v->share);
    hk_rs_arg_int(a, (int64_t)v->token);
    hk_rs_arg_int(a, (int64_t)v->claimed);
    hk_rs_arg_int(a, (int64_t)v->floor);
    hk_rs_arg_int(a, (int64_t)v->highest);
    hk_rs_arg_buf(a, &b);
    hk_rs_arg_int(a, (int64_t)v->gap_done);
    hk_rs_arg_int(a, (int64_t)v->n_stale);
    hk_rs_arg_int(a, (int64_t)v->n_drop);
    for (size_t i = 0; i < v->n_drop; i++)
        hk_rs_arg_int(a, (int64_t)v->drop[i]);
    add_rows(a, v, &b);
    add_attempts(a, v, &b);
    hark_err err = add_dead(a, v, &b, ei);
    hk_buf_free(&b);
    return err;
}

static hark_err draw_ids(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    uint64_t first;
    if (v->n_dead == 0)
        return HARK_OK;
    hark_err err = hk_rs_draw(s, "letter", v->n_dead, &first, ei);
    for (size_t i = 0; i < v->n_dead && !err; i++)
        v->dead[i].ret_id = first + i;
    return err;
}

static hark_err told(hark_store *s, hk_rs_op *op, hk_rs_reply *r, hark_errinfo *ei)
{
    hark_err *late = op->of;
    *late = r->code == HK_RS_OK          ? HARK_OK
            : r->code == HK_RS_ENOTFOUND ? HARK_ENOTFOUND
            : r->code == HK_RS_ESTALE    ? HARK_ESTALE
                                         : HARK_ECORRUPT;
    return *late == HARK_ECORRUPT ? hk_rs_strange(s, ei) : HARK_OK;
}

static hark_err refused(const hark_store *s, const hark_store_save *v, const hk_rs_reply *r,
                        hark_errinfo *ei)
{
    if (r->code == HK_RS_ENOTFOUND)
        return hk_fail(ei, HARK_ENOTFOUND, "consumer %llu of generation %llu is not there any more",
                       (unsigned long long)v->consumer, (unsigned long long)v->generation);
    if (r->code == HK_RS_ESTALE)
        return hk_fail(
            ei, HARK_ESTALE,
            "share %u of consumer %llu is another process's now; what was not saved of it "
            "is delivered there",
            v->share, (unsigned long long)v->consumer);
    return r->code == HK_RS_OK ? HARK_OK : hk_rs_strange(s, ei);
}

hark_err hk_rs_consumer_save(hark_store *s, const hark_store_save *v, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    hark_err err = draw_ids(s, v, ei);
    if (err)
        return err;
    hk_rs_op *op = hk_rs_op_new(s, "save", ei);
    if (!op)
        return HARK_ENOMEM;
    op->told = v->late ? told : NULL;
    op->of = v->late;
    err = add_args(&s->group.args, v, ei);
    if (v->late || err) {
        hark_err ended = hk_rs_op_wait(s, err ? NULL : ei);
        if (err || ended)
            hk_rs_op_drop(s);
        return err ? err : ended;
    }
    err = hk_rs_op_judge(s, &raw, &r, ei);
    if (err)
        return err;
    err = refused(s, v, &r, ei);
    freeReplyObject(raw);
    return err;
}
