/* trim.c: retention. The script walks and removes a slice at a time and judges what has to stay in the same step
 * (trim.lua); which types a pattern means, and which consumers want them, is found here, and the script refuses
 * when that is not so any more.
 *
 * Each slice is done at once, not with the group's commit: what retention removes is gone whatever becomes of the
 * group, and would be removed by the next pass anyway. */
#include "store/redis/trim_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- where the rule stands --------------------------------------------------------------------- */

static hk_rs_pass *find_pass(hark_store *s, const hark_store_trim *t)
{
    uint64_t key[2] = {hk_hash(t->pattern, strlen(t->pattern)), t->keep};
    uint64_t rule = hk_hash(key, sizeof key) | 1;
    for (size_t i = 0; i < HK_RS_PASSES; i++)
        if (s->passes[i].rule == rule)
            return &s->passes[i];
    hk_rs_pass *p = &s->passes[s->next_pass];
    s->next_pass = (s->next_pass + 1) % HK_RS_PASSES;
    *p = (hk_rs_pass){.rule = rule};
    return p;
}

/* ---- who may be in the way --------------------------------------------------------------------- */

static hark_err add_holder(hk_rs_trimming *w, const char *id, hark_errinfo *ei)
{
    char key[40];
    const char *const fields[] = {"pattern"};
    redisReply *r = NULL;
    (void)snprintf(key, sizeof key, "c:%.24s", id);
    hark_err err = hk_rs_ask(w->s, "HMGET", key, fields, 1, &r, ei);
    if (err)
        return err;
    hk_rs_holder *list = hk_array_room(w->holders, w->n_holders, &w->cap_holders, 16, sizeof *list);
    if (list) {
        w->holders = list;
        hk_rs_holder *h = &list[w->n_holders++];
        *h = (hk_rs_holder){.id = strtoull(id, NULL, 10)};
        h->pattern = hk_strdup(r->element[0]->str ? r->element[0]->str : "");
        err = !h->pattern   ? hk_rs_no_memory(w->s, ei)
              : w->t->force ? hk_rs_force_load(w, h, ei)
                            : HARK_OK;
    } else {
        err = hk_rs_no_memory(w->s, ei);
    }
    freeReplyObject(r);
    return err;
}

static void drop_holders(hk_rs_trimming *w)
{
    for (size_t i = 0; i < w->n_holders; i++) {
        for (size_t k = 0; k < w->holders[i].n_shares; k++)
            hk_rs_claim_clear(&w->holders[i].shares[k]);
        free(w->holders[i].shares);
        free(w->holders[i].pattern);
    }
    free(w->holders);
    w->holders = NULL;
    w->n_holders = w->cap_holders = 0;
}

/* What the consumers' terms are counted by, before them: what changes in between is noticed. */
static hark_err load_holders(hk_rs_trimming *w, hark_errinfo *ei)
{
    static const char *const terms[] = {"terms"};
    redisReply *r = NULL, *ids = NULL;
    drop_holders(w);
    hark_err err = hk_rs_ask(w->s, "HGET", "log", terms, 1, &r, ei);
    if (!err)
        err = hk_rs_ask(w->s, "HVALS", "cn", NULL, 0, &ids, ei);
    if (!err)
        (void)snprintf(w->terms, sizeof w->terms, "%.23s", r->str ? r->str : "0");
    for (size_t i = 0; !err && i < ids->elements; i++)
        err = add_holder(w, ids->element[i]->str, ei);
    if (r)
        freeReplyObject(r);
    if (ids)
        freeReplyObject(ids);
    return err;
}

/* ---- a slice ----------------------------------------------------------------------------------- */

static void add_types(const hk_rs_trimming *w, hk_rs_args *a)
{
    hk_rs_arg_int(a, (int64_t)w->types.n);
    for (size_t i = 0; i < w->types.n; i++) {
        hk_rs_args ids = {0};
        for (size_t k = 0; k < w->n_holders && !w->t->force; k++)
            if (hark_pattern_match(w->holders[k].pattern, w->types.names[i]))
                hk_rs_arg_int(&ids, (int64_t)w->holders[k].id);
        hk_rs_arg_str(a, w->types.names[i]);
        hk_rs_arg_int(a, (int64_t)ids.n);
        hk_buf_add(&a->bytes, ids.bytes.data, ids.bytes.len);
        a->n += ids.n;
        a->bytes.failed |= ids.bytes.failed;
        hk_buf_free(&ids.bytes);
    }
}

static void add_args(const hk_rs_trimming *w, uint64_t upto, hk_rs_args *a)
{
    hk_rs_arg_int(a, (int64_t)w->pass->from);
    hk_rs_arg_int(a, (int64_t)upto);
    hk_rs_arg_int(a, (int64_t)w->below);
    hk_rs_arg_int(a, (int64_t)w->t->keep);
    hk_rs_arg_int(a, (int64_t)w->pass->held);
    hk_rs_arg_int(a, w->t->force ? 0 : (int64_t)w->t->hold);
    hk_rs_arg_str(a, w->t->force ? "1" : "0");
    hk_rs_arg_str(a, w->types.all ? "1" : "0");
    hk_rs_arg_str(a, w->terms);
    add_types(w, a);
}

static hark_err take(hk_rs_trimming *w, hk_rs_reply *r, bool *ret_more, hark_errinfo *ei)
{
    w->pass->from = hk_wire_u64(&r->is);
    w->t->ret_removed += hk_wire_u64(&r->is);
    w->pass->held = hk_wire_u64(&r->is);
    *ret_more = hk_wire_int(&r->is) != 0;
    return r->is.bad ? hk_rs_strange(w->s, ei) : HARK_OK;
}

static hark_err remove_slice(hk_rs_trimming *w, bool *ret_more, bool *ret_room, hark_errinfo *ei)
{
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    uint64_t upto = 0;
    hark_err err = HARK_OK;
    *ret_room = true;
    if (w->t->force)
        err = hk_rs_force_look(w, &upto, ret_room, ei);
    if (err || !*ret_room)
        return err;
    add_args(w, upto, &args);
    err = hk_rs_do(w->s, &w->s->write, true, "trim", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    if (r.code == HK_RS_EAGAIN) {
        *ret_more = true;
        err = load_holders(w, ei);
    } else {
        err = take(w, &r, ret_more, ei);
    }
    freeReplyObject(raw);
    return err;
}

static hark_err remove_slices(hk_rs_trimming *w, hark_errinfo *ei)
{
    int64_t until = hk_mono_ns() + w->t->budget_ns;
    bool more = true, room = true;
    hark_err err = HARK_OK;
    for (size_t i = 0; !err && more && room; i++) {
        if (i && hk_mono_ns() >= until)
            break;
        err = remove_slice(w, &more, &room, ei);
    }
    w->t->ret_more = !err && more;
    return err;
}

/* ---- the whole --------------------------------------------------------------------------------- */

uint64_t hk_rs_excess(const hk_rs_trimming *w)
{
    uint64_t stay = w->t->keep + w->pass->held + w->t->ret_removed;
    return w->t->keep && w->types.events > stay ? w->types.events - stay : 0;
}

static hark_err begin_pass(hk_rs_trimming *w, hark_errinfo *ei)
{
    uint64_t at = 0;
    hark_err err = w->t->before_ns ? hk_rs_seek(w->s, w->t->before_ns, &at, ei) : HARK_OK;
    w->below = at;
    if (w->pass->from)
        return err;
    w->pass->from = 1;
    w->pass->held = 0;
    return err;
}

static hark_err finish(hk_rs_trimming *w, hark_errinfo *ei)
{
    redisReply *raw = NULL;
    hk_rs_reply r;
    if (!w->t->ret_removed)
        return HARK_OK;
    hark_err err = hk_rs_do(w->s, &w->s->write, true, "trimmed", NULL, &raw, &r, ei);
    if (err)
        return err;
    uint64_t first = hk_wire_u64(&r.is);
    hk_rs_begins(w->s, first, hk_wire_u64(&r.is));
    freeReplyObject(raw);
    return HARK_OK;
}

hark_err hk_rs_trim(hark_store *s, hark_store_trim *t, hark_errinfo *ei)
{
    hk_rs_trimming w = {.s = s, .t = t};
    t->ret_removed = 0;
    t->ret_more = 0;
    t->ret_n_gaps = 0;
    if (!s->group.open)
        return hk_fail(ei, HARK_EINTERNAL, "trim outside of a group");
    if (t->before_ns == 0 && t->keep == 0)
        return HARK_OK;
    w.pass = find_pass(s, t);
    hark_err err = hk_rs_types(s, t->pattern, &w.types, ei);
    if (!err)
        err = load_holders(&w, ei);
    if (!err)
        err = begin_pass(&w, ei);
    if (!err && w.types.events && (w.below > 1 || hk_rs_excess(&w)))
        err = remove_slices(&w, ei);
    if (!err)
        err = finish(&w, ei);
    if (err || !t->ret_more)
        w.pass->from = 0;
    drop_holders(&w);
    hk_rs_types_free(&w.types);
    return err;
}
