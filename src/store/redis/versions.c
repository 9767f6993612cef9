/* versions.c: what there is of each version of each type, as the script counts it when things come and go: hashes whose
 * fields are "VERSION:TYPE". And which types a pattern means. */
#include "store/redis/stream_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- counts ------------------------------------------------------------------------------------ */

typedef struct counts {
    hark_store *s;
    hark_store_version *list;
    size_t n, cap;
} counts;

static bool split(const redisReply *field, int64_t *ret_version, const char **ret_type)
{
    uint64_t n;
    const char *colon = strchr(field->str, ':');
    if (!colon || !hk_parse_u64(field->str, (size_t)(colon - field->str), &n))
        return false;
    *ret_version = (int64_t)n;
    *ret_type = colon + 1;
    return true;
}

static hark_store_version *find(counts *c, const char *type, int64_t version)
{
    for (size_t i = 0; i < c->n; i++)
        if (c->list[i].version == version && strcmp(c->list[i].type, type) == 0)
            return &c->list[i];
    return NULL;
}

static hark_store_version *find_or_add(counts *c, const char *type, int64_t version)
{
    hark_store_version *v = find(c, type, version);
    if (v)
        return v;
    hark_store_version *list = hk_array_room(c->list, c->n, &c->cap, 16, sizeof *list);
    if (!list)
        return NULL;
    c->list = list;
    list[c->n] = (hark_store_version){.type = type, .version = version};
    return &list[c->n++];
}

static void take_events(hark_store_version *v, const redisReply *value)
{
    hk_wire w = hk_wire_of((hk_text){value->str, value->len});
    v->events = hk_wire_u64(&w);
    v->first_ns = hk_wire_int(&w) * 1000;
    v->last_ns = hk_wire_int(&w) * 1000;
}

/* Pairs of a hash; `kind`: t, td, tl. */
static hark_err take_pairs(counts *c, const redisReply *r, const char *kind, hark_errinfo *ei)
{
    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        int64_t version;
        const char *type;
        if (!split(r->element[i], &version, &type))
            return hk_rs_strange(c->s, ei);
        hark_store_version *v = find_or_add(c, type, version);
        if (!v)
            return hk_rs_no_memory(c->s, ei);
        if (kind[1] == '\0')
            take_events(v, r->element[i + 1]);
        else
            *(kind[1] == 'd' ? &v->dead_letters : &v->schedules) =
                strtoull(r->element[i + 1]->str, NULL, 10);
    }
    return HARK_OK;
}

static int by_type(const void *a, const void *b)
{
    const hark_store_version *x = a, *y = b;
    int c = strcmp(x->type, y->type);
    return c ? c : x->version < y->version ? -1 : x->version > y->version;
}

hark_err hk_rs_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei)
{
    static const char *const kinds[] = {"t", "td", "tl"};
    redisReply *r[HK_COUNTOF(kinds)] = {NULL};
    counts c = {.s = s};
    hark_err err = HARK_OK;
    for (size_t i = 0; i < HK_COUNTOF(kinds) && !err; i++) {
        err = hk_rs_ask(s, "HGETALL", kinds[i], NULL, 0, &r[i], ei);
        if (!err)
            err = take_pairs(&c, r[i], kinds[i], ei);
    }
    if (!err && c.n > 1)
        qsort(c.list, c.n, sizeof *c.list, by_type);
    for (size_t i = 0; i < c.n && !err; i++) {
        const hark_store_version *v = &c.list[i];
        if (v->events + v->dead_letters + v->schedules > 0 && !fn(ud, v))
            break;
    }
    for (size_t i = 0; i < HK_COUNTOF(kinds); i++)
        if (r[i])
            freeReplyObject(r[i]);
    free(c.list);
    return err;
}

/* ---- types of a pattern ------------------------------------------------------------------------ */

hark_err hk_rs_types(hark_store *s, const char *pattern, hk_rs_types_of *ret, hark_errinfo *ei)
{
    counts c = {.s = s};
    *ret = (hk_rs_types_of){.all = true};
    hark_err err = hk_rs_ask(s, "HGETALL", "t", NULL, 0, &ret->raw, ei);
    if (!err)
        err = take_pairs(&c, ret->raw, "t", ei);
    if (!err) {
        ret->names = calloc(c.n + 1, sizeof *ret->names);
        if (!ret->names)
            err = hk_rs_no_memory(s, ei);
    }
    if (!err && c.n > 1)
        qsort(c.list, c.n, sizeof *c.list, by_type);
    for (size_t i = 0; i < c.n && !err; i++) {
        const hark_store_version *v = &c.list[i];
        if (pattern && !hark_pattern_match(pattern, v->type)) {
            ret->all = ret->all && v->events == 0;
            continue;
        }
        ret->events += v->events;
        if (ret->n == 0 || strcmp(ret->names[ret->n - 1], v->type) != 0)
            ret->names[ret->n++] = v->type;
    }
    free(c.list);
    return err;
}

void hk_rs_types_free(hk_rs_types_of *t)
{
    if (t->raw)
        freeReplyObject(t->raw);
    free(t->names);
    *t = (hk_rs_types_of){0};
}

hark_err hk_rs_skip(hark_store *s, const hk_rs_types_of *types, uint64_t from, uint64_t *ret,
                    hark_errinfo *ei)
{
    hk_rs_args args = {0};
    redisReply *raw = NULL;
    hk_rs_reply r;
    hk_rs_arg_int(&args, (int64_t)from);
    hk_rs_arg_int(&args, (int64_t)types->n);
    for (size_t i = 0; i < types->n; i++)
        hk_rs_arg_str(&args, types->names[i]);
    hark_err err = hk_rs_look(s, "skip", &args, &raw, &r, ei);
    hk_buf_free(&args.bytes);
    if (err)
        return err;
    *ret = hk_wire_u64(&r.is);
    freeReplyObject(raw);
    return HARK_OK;
}
