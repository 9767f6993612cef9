/* schedules.c: events that wait for their time. Kept as lists (wire.c): what the script looks at, then the envelope as
 * CloudEvents JSON and the data.
 *
 * Two processes may find the same one due. A drop is told at once; when another process was quicker by the time of
 * the commit, the unit that follows it in the group is refused (HARK_ENOTFOUND) in place of the whole group. */
#include "store/redis/stream_i.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- adding ------------------------------------------------------------------------------------ */

static hark_err text_of(const hark_store_schedule *sch, const hk_buf *name, hk_buf *ret,
                        hark_errinfo *ei)
{
    char *json;
    size_t json_len, len;
    const void *data = hark_event_data(sch->event, &len);
    hark_err err = hk_envelope_text(sch->event, &json, &json_len, ei);
    if (err)
        return err;
    hk_wire_add_int(ret, sch->due_ns);
    hk_wire_add_int(ret, sch->by_delay);
    hk_wire_add_int(ret, sch->created_ns);
    hk_wire_add(ret, sch->digest, sizeof sch->digest);
    hk_wire_add(ret, name->data, name->len);
    hk_wire_add_str(ret, hark_event_type(sch->event));
    hk_wire_add_int(ret, hark_event_dataversion(sch->event));
    hk_wire_add(ret, json, json_len);
    hk_wire_add(ret, data, len);
    free(json);
    return HARK_OK;
}

static hark_err add_args(hark_store *s, const hark_store_schedule *sch, hark_errinfo *ei)
{
    hk_buf name = {0}, text = {0};
    hk_rs_args *a = &s->group.args;
    hk_rs_name(sch->event, &name);
    hark_err err = text_of(sch, &name, &text, ei);
    hk_rs_arg_int(a, hk_rs_us(sch->due_ns));
    hk_rs_arg_buf(a, &name);
    hk_rs_arg(a, sch->digest, sizeof sch->digest);
    hk_rs_arg_str(a, sch->first_stands ? "1" : "0");
    hk_rs_arg_str(a, hark_event_type(sch->event));
    hk_rs_arg_int(a, hark_event_dataversion(sch->event));
    hk_rs_arg_buf(a, &text);
    hk_buf_free(&name);
    hk_buf_free(&text);
    return err;
}

static hark_err conflict(const hark_store_schedule *sch, hk_rs_reply *r, hark_errinfo *ei)
{
    uint64_t seq = hk_wire_u64(&r->is), id = hk_wire_u64(&r->is);
    return hk_fail(ei, HARK_ECONFLICT,
                   "an event with id %.100s and source %.100s is %s %llu with other content; give "
                   "the new event an id of its own",
                   hark_event_id(sch->event), hark_event_source(sch->event),
                   seq ? "at sequence" : "waiting in schedule",
                   (unsigned long long)(seq ? seq : id));
}

hark_err hk_rs_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                            bool *ret_duplicate, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    if (!hk_rs_op_new(s, "schedule_add", ei))
        return HARK_ENOMEM;
    hark_err err = add_args(s, sch, ei);
    if (err) {
        (void)hk_rs_op_wait(s, NULL);
        hk_rs_op_drop(s);
        return err;
    }
    err = hk_rs_op_judge(s, &raw, &r, ei);
    if (err)
        return err;
    if (r.code == HK_RS_OK) {
        sch->id = hk_wire_u64(&r.is);
        *ret_sequence = hk_wire_u64(&r.is);
        *ret_duplicate = hk_wire_int(&r.is) != 0;
    } else {
        err = conflict(sch, &r, ei);
    }
    freeReplyObject(raw);
    return err;
}

/* ---- dropping ---------------------------------------------------------------------------------- */

hark_err hk_rs_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    if (!hk_rs_op_new(s, "schedule_drop", ei))
        return HARK_ENOMEM;
    hk_rs_arg_int(&s->group.args, (int64_t)id);
    hark_err err = hk_rs_op_judge(s, &raw, &r, ei);
    if (err)
        return err;
    if (r.code != HK_RS_OK)
        err = hk_fail(ei, HARK_ENOTFOUND,
                      "there is no schedule %llu (any more): it was published, cancelled, or never "
                      "there; list the schedules",
                      (unsigned long long)id);
    freeReplyObject(raw);
    return err;
}

/* ---- showing ----------------------------------------------------------------------------------- */

static hark_err take_event(hk_wire *w, hark_store_schedule *sch, hark_errinfo *ei)
{
    char what[48];
    hk_text json = hk_wire_next(w), data = hk_wire_next(w);
    (void)snprintf(what, sizeof what, "schedule %" PRIu64, sch->id);
    return hk_envelope_event(json.s ? json.s : "", json.len, data.s, data.len, what, &sch->event,
                             ei);
}

static hark_err show(const hark_store *s, uint64_t id, hk_text text, bool events,
                     hark_store_schedule_fn fn, void *ud, bool *ret_more, hark_errinfo *ei)
{
    hk_wire w = hk_wire_of(text);
    hark_store_schedule sch = {.id = id, .due_ns = hk_wire_int(&w)};
    sch.by_delay = hk_wire_int(&w);
    sch.created_ns = hk_wire_int(&w);
    hk_text digest = hk_wire_next(&w);
    (void)hk_wire_next(&w);
    (void)hk_wire_next(&w);
    (void)hk_wire_next(&w);
    if (w.bad || digest.len != sizeof sch.digest)
        return hk_rs_strange(s, ei);
    memcpy(sch.digest, digest.s, sizeof sch.digest);
    hark_err err = events ? take_event(&w, &sch, ei) : HARK_OK;
    if (err)
        return err;
    *ret_more = fn(ud, &sch);
    hark_event_unref(sch.event);
    return HARK_OK;
}

/* In a group as it is there; the operation itself is not of the group. `fn` may drop it. */
static hark_err show_one(hark_store *s, uint64_t id, bool events, hark_store_schedule_fn fn,
                         void *ud, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    bool more, alone = !s->group.open;
    if (alone)
        (void)hk_rs_begin(s, NULL);
    hark_err err = hk_rs_op_new(s, "schedule", ei) ? HARK_OK : HARK_ENOMEM;
    if (!err) {
        hk_rs_arg_int(&s->group.args, (int64_t)id);
        err = hk_rs_op_judge(s, &raw, &r, ei);
    }
    if (!err)
        hk_rs_op_drop(s);
    if (alone)
        hk_rs_rollback(s);
    if (err)
        return err;
    if (r.more.len)
        err = show(s, id, r.more, events, fn, ud, &more, ei);
    freeReplyObject(raw);
    return err;
}

enum { PAGE = 64 };

static hark_err show_page(hark_store *s, const redisReply *list, bool events,
                          hark_store_schedule_fn fn, void *ud, bool *ret_more, hark_errinfo *ei)
{
    const char *ids[PAGE];
    redisReply *texts = NULL;
    size_t n = list->elements < PAGE ? list->elements : PAGE;
    for (size_t i = 0; i < n; i++)
        ids[i] = list->element[i]->str;
    hark_err err = hk_rs_ask(s, "HMGET", "sd", ids, n, &texts, ei);
    for (size_t i = 0; !err && i < n && *ret_more; i++) {
        const redisReply *t = texts->element[i];
        if (t->type == REDIS_REPLY_STRING) /* or it went meanwhile */
            err = show(s, strtoull(ids[i], NULL, 10), (hk_text){t->str, t->len}, events, fn, ud,
                       ret_more, ei);
    }
    if (texts)
        freeReplyObject(texts);
    return err;
}

static hark_err show_all(hark_store *s, uint64_t after, bool events, hark_store_schedule_fn fn,
                         void *ud, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (bool more = true; !err && more;) {
        char low[32];
        redisReply *list = NULL;
        (void)snprintf(low, sizeof low, "(%" PRIu64, after);
        const char *const words[] = {low, "+inf", "LIMIT", "0", "64"};
        _Static_assert(PAGE == 64, "as it is written above");
        err = hk_rs_ask(s, "ZRANGEBYSCORE", "so", words, HK_COUNTOF(words), &list, ei);
        if (err)
            return err;
        if (list->elements == 0)
            more = false;
        else
            after = strtoull(list->element[list->elements - 1]->str, NULL, 10);
        if (more)
            err = show_page(s, list, events, fn, ud, &more, ei);
        freeReplyObject(list);
    }
    return err;
}

hark_err hk_rs_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                         hark_store_schedule_fn fn, void *ud, hark_errinfo *ei)
{
    return id ? show_one(s, id, events, fn, ud, ei) : show_all(s, after, events, fn, ud, ei);
}

/* ---- what is due ------------------------------------------------------------------------------- */

hark_err hk_rs_schedules_due(hark_store *s, int64_t ahead_ns, size_t most,
                             hark_store_schedule_fn fn, void *ud, int64_t *ret_next_ns,
                             hark_errinfo *ei)
{
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    bool more = true;
    hk_rs_arg_int(&args, ahead_ns / 1000);
    hk_rs_arg_int(&args, (int64_t)(most < 10000 ? most : 10000));
    hark_err err = hk_rs_look(s, "due", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    int64_t next = hk_wire_int(&r.is);
    hk_wire list = hk_wire_of(hk_wire_next(&r.is));
    while (!err && more && hk_wire_more(&list)) {
        uint64_t id = hk_wire_u64(&list);
        err = show(s, id, hk_wire_next(&list), false, fn, ud, &more, ei);
    }
    if (!err)
        *ret_next_ns = next < 0 ? -1 : next * 1000;
    freeReplyObject(raw);
    return err;
}
