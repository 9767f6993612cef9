/* revive.c: the log as a whole: making it, and going on with one whose end the server has lost, by FLUSHALL, or by a
 * crash when not every command was synced. Whoever notices begins another epoch above all that it has seen, and above
 * what others may have seen beyond that: sequences are never used twice. Consumers that are open here and
 * forgotten there are registered again, with a gap. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- what is open here ------------------------------------------------------------------------- */

static void known_clear(hk_rs_known *k)
{
    free(k->name);
    free(k->pattern);
    free(k->policy);
}

void hk_rs_known_free(hark_store *s)
{
    for (size_t i = 0; i < s->n_known; i++)
        known_clear(&s->known[i]);
    free(s->known);
}

static hk_rs_known *known_named(hark_store *s, const char *name)
{
    for (size_t i = 0; i < s->n_known; i++)
        if (strcmp(s->known[i].name, name) == 0)
            return &s->known[i];
    return NULL;
}

static hark_err known_put(hark_store *s, const hk_rs_known *k)
{
    hk_rs_known *old = known_named(s, k->name);
    if (!old) {
        hk_rs_known *list = hk_array_room(s->known, s->n_known, &s->cap_known, 8, sizeof *list);
        if (!list)
            return HARK_ENOMEM;
        s->known = list;
        old = &list[s->n_known++];
    } else {
        known_clear(old);
    }
    *old = *k;
    return HARK_OK;
}

hark_err hk_rs_know(hark_store *s, const hark_store_consumer *c, hark_errinfo *ei)
{
    hk_rs_known k = {.name = hk_strdup(c->name),
                     .pattern = hk_strdup(c->ret_pattern),
                     .policy = hk_strdup(c->ret_policy),
                     .id = c->ret_id,
                     .generation = c->ret_generation,
                     .shares = c->ret_shares};
    hark_err err = k.name && k.pattern && k.policy ? HARK_OK : HARK_ENOMEM;
    pthread_mutex_lock(&s->lock);
    if (!err)
        err = known_put(s, &k);
    pthread_mutex_unlock(&s->lock);
    if (!err)
        return HARK_OK;
    known_clear(&k);
    return hk_rs_no_memory(s, ei);
}

static void add_known(hark_store *s, hk_rs_args *args)
{
    pthread_mutex_lock(&s->lock);
    hk_rs_arg_int(args, (int64_t)s->n_known);
    for (size_t i = 0; i < s->n_known; i++) {
        const hk_rs_known *k = &s->known[i];
        hk_rs_arg_str(args, k->name);
        hk_rs_arg_str(args, k->pattern);
        hk_rs_arg_str(args, k->policy);
        hk_rs_arg_int(args, (int64_t)k->id);
        hk_rs_arg_int(args, (int64_t)k->generation);
        hk_rs_arg_int(args, k->shares);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- one operation over a link that is not looked after ---------------------------------------- */

/* Of any epoch: these are what finds out about it. */
static hark_err ask(hark_store *s, hk_link *l, const char *name, const hk_rs_args *args,
                    redisReply **ret_raw, hk_rs_reply *ret, hark_errinfo *ei)
{
    const hk_rs_op op = {.name = name, .n = args->n};
    const hk_rs_call call = {.commits = true, .any_epoch = true, .args = args, .ops = &op, .n = 1};
    hark_err err =
        args->bytes.failed ? hk_rs_no_memory(s, ei) : hk_rs_call_once(s, l, &call, ret_raw, ei);
    if (err)
        return err;
    hk_wire w = hk_wire_of((hk_text){(*ret_raw)->str, (*ret_raw)->len});
    err = hk_rs_reply_next(s, &w, ret, ei);
    if (err)
        freeReplyObject(*ret_raw);
    return err;
}

/* ---- reviving ---------------------------------------------------------------------------------- */

static hark_err replaced(hark_store *s, hark_errinfo *ei)
{
    hk_mark_set(&s->replaced, 1);
    return hk_fail(ei, HARK_EREADONLY,
                   "%s: another log has taken the place of this one; open it again", s->where);
}

/* Epoch before place: who reads a place of the new epoch knows of that. */
static void take_over(hark_store *s, hk_rs_reply *r)
{
    uint64_t epoch = hk_wire_u64(&r->is), first = hk_wire_u64(&r->is), last = hk_wire_u64(&r->is);
    if (r->is.bad)
        return;
    if (hk_mark_get(&s->epoch) && epoch != hk_mark_get(&s->epoch))
        hk_log(HK_WARN,
               "%s: the server has lost a part of the log (its data was removed, or not all of it "
               "was on "
               "disk); sequences go on above %llu, in epoch %llu",
               s->where, (unsigned long long)last, (unsigned long long)epoch);
    if (epoch != hk_mark_get(&s->epoch)) /* an older state may be back */
        hk_mark_set(&s->gone, 0);
    hk_mark_set(&s->epoch, epoch);
    hk_rs_begins(s, first, last);
    hk_rs_reached(s, last);
}

hark_err hk_rs_revive(hark_store *s, hk_link *l, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    hk_rs_reply r;
    redisReply *raw = NULL;
    hk_rs_arg_str(&args, s->log_hex);
    hk_rs_arg_int(&args, (int64_t)hk_mark_get(&s->epoch));
    hk_rs_arg_int(&args, (int64_t)hk_mark_get(&s->last));
    hk_rs_arg_int(&args, HK_RS_SLACK);
    add_known(s, &args);
    hark_err err = ask(s, l, "revive", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    if (r.code == HK_RS_OK)
        take_over(s, &r);
    else
        err = replaced(s, ei);
    freeReplyObject(raw);
    return err;
}

/* ---- the first time ---------------------------------------------------------------------------- */

static bool take_id(hk_text t, uint8_t ret[16])
{
    static const char digits[] = "0123456789abcdef";
    if (t.len != 32)
        return false;
    for (size_t i = 0; i < 32; i++) {
        const char *at = memchr(digits, t.s[i], 16);
        if (!at)
            return false;
        ret[i / 2] = (uint8_t)(ret[i / 2] << 4 | (at - digits));
    }
    return true;
}

static hark_err take_log(hark_store *s, hk_rs_reply *r, hark_errinfo *ei)
{
    if (r->code == HK_RS_ENOTFOUND)
        return hk_fail(
            ei, HARK_ENOTFOUND,
            "%s is not there; mend the URL, or open it without HARK_OPEN_EXISTING to make "
            "it",
            s->where);
    int64_t format = hk_wire_int(&r->is);
    if (format != HK_RS_FORMAT)
        return hk_fail(ei, HARK_EFORMAT,
                       "%s has format %lld, this version of hark reads %d; use the version that "
                       "wrote it, or another ?log=NAME",
                       s->where, (long long)format, HK_RS_FORMAT);
    hk_text id = hk_wire_next(&r->is);
    if (!take_id(id, s->log_id))
        return hk_rs_strange(s, ei);
    (void)snprintf(s->log_hex, sizeof s->log_hex, "%s", id.s);
    take_over(s, r);
    s->seen_epoch = hk_mark_get(&s->epoch); /* what is lost from here on is told by `tail` */
    return r->is.bad ? hk_rs_strange(s, ei) : HARK_OK;
}

static hark_err found(hark_store *s, hk_link *l, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    hk_rs_reply r;
    redisReply *raw = NULL;
    hk_rs_arg_str(&args, s->log_hex);
    hk_rs_arg_int(&args, HK_RS_FORMAT);
    hk_rs_arg_str(&args, s->existing ? "1" : "0");
    hark_err err = ask(s, l, "found", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    err = take_log(s, &r, ei);
    freeReplyObject(raw);
    return err;
}

/* What the server has may be less than what is known here. */
static hark_err check_place(hark_store *s, hk_link *l, hk_rs_reply *r, hark_errinfo *ei)
{
    uint64_t last = hk_wire_u64(&r->is);
    hk_rs_begins(s, hk_wire_u64(&r->is), last);
    return last >= hk_mark_get(&s->last) ? HARK_OK : hk_rs_revive(s, l, ei);
}

hark_err hk_rs_hello(hark_store *s, hk_link *l, const char *run, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    hk_rs_reply r;
    redisReply *raw = NULL;
    hark_err err = hk_mark_get(&s->epoch) ? HARK_OK : found(s, l, ei);
    hk_rs_arg_str(&args, run);
    hk_rs_arg_int(&args, s->lease_ms);
    if (!err)
        err = ask(s, l, "hello", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    err = check_place(s, l, &r, ei);
    freeReplyObject(raw);
    return err;
}
