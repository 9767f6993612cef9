/* upcast.c: what a program knows of the versions of event data: a chain of upcasters for each type,
 * and the versions that are registered with a table. Pure: it keeps chains without a gap and plans
 * which steps lead from one version to another; src/bus runs them.
 *
 * What is known is never changed. Adding makes another set, whose buckets share what is behind with
 * the set before: what is new of a type stands in front of what was known of it. */
#include "event/event_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 64 };

struct hk_chains {
    hk_chains *before; /* that it was made from */
    const hk_known *buckets[BUCKETS];
};

/* ---- looking up ------------------------------------------------------------------------------ */

const hk_known *hk_chains_find(const hk_chains *v, const char *type, size_t len)
{
    if (!v)
        return NULL;
    uint64_t hash = hk_hash(type, len);
    const hk_known *k = v->buckets[hash % BUCKETS];
    while (k && (k->hash != hash || strcmp(k->type, type) != 0))
        k = k->next;
    return k;
}

static int64_t begin_of(const hk_known *k)
{
    return k && k->n_steps ? k->steps[0].from : 0;
}

static int64_t end_of(const hk_known *k)
{
    return k && k->n_steps ? k->steps[k->n_steps - 1].to : 0;
}

int64_t hk_known_newest(const hk_known *k)
{
    int64_t highest = k && k->n_shapes ? k->shapes[k->n_shapes - 1].version : 0, end = end_of(k);
    return highest > end ? highest : end;
}

const hark_json_table *hk_known_table(const hk_known *k, int64_t version)
{
    for (size_t i = 0; k && i < k->n_shapes; i++)
        if (k->shapes[i].version == version)
            return k->shapes[i].table;
    return NULL;
}

/* ---- planning -------------------------------------------------------------------------------- */

/* The step that passes over this version; NULL = none does. */
static const hk_step *step_over(const hk_known *k, int64_t version)
{
    for (size_t i = 0; k && i < k->n_steps; i++)
        if (k->steps[i].from < version && version < k->steps[i].to)
            return &k->steps[i];
    return NULL;
}

static hk_fit tell_split(hark_errinfo *ei, int64_t stored, int64_t to, const hk_step *over,
                         int64_t at)
{
    (void)hk_fail(ei, HARK_EUPCAST,
                  "no upcaster leads from version %lld to version %lld: the one from %lld to %lld "
                  "passes over version %lld; make it two, %lld to %lld and %lld to %lld",
                  (long long)stored, (long long)to, (long long)over->from, (long long)over->to,
                  (long long)at, (long long)over->from, (long long)at, (long long)at,
                  (long long)over->to);
    return HK_FIT_NONE;
}

static hk_fit tell_missing(hark_errinfo *ei, int64_t stored, int64_t to, int64_t from,
                           int64_t until)
{
    (void)hk_fail(ei, HARK_EUPCAST,
                  "no upcaster leads from version %lld to version %lld; add one from %lld to %lld",
                  (long long)stored, (long long)to, (long long)from, (long long)until);
    return HK_FIT_NONE;
}

/* Why there is no path up. */
static hk_fit no_path(const hk_known *k, int64_t stored, int64_t to, hark_errinfo *ei)
{
    int64_t begin = begin_of(k), end = end_of(k);
    const hk_step *over = step_over(k, stored);
    if (over)
        return tell_split(ei, stored, to, over, stored);
    if (end && stored < begin)
        return tell_missing(ei, stored, to, stored, to < begin ? to : begin);
    if (end && stored > end) {
        (void)hk_fail(ei, HARK_EUPCAST,
                      "no upcaster leads from version %lld to version %lld; add one from %lld to "
                      "%lld, where their chain ends, and one from %lld to %lld",
                      (long long)stored, (long long)to, (long long)end, (long long)stored,
                      (long long)stored, (long long)to);
        return HK_FIT_NONE;
    }
    over = step_over(k, to);
    if (over)
        return tell_split(ei, stored, to, over, to);
    return tell_missing(ei, stored, to, end ? end : stored, to);
}

static hk_fit find_steps(const hk_known *k, int64_t stored, int64_t to, hk_upcast_path *ret)
{
    size_t n = k ? k->n_steps : 0, first = 0;
    while (first < n && k->steps[first].from != stored)
        first++;
    for (size_t i = first; i < n; i++)
        if (k->steps[i].to == to) {
            ret->steps = k->steps + first;
            ret->n = i - first + 1;
            return HK_FIT_STEPS;
        }
    return HK_FIT_NONE;
}

hk_fit hk_known_plan(const hk_known *k, int64_t stored, int64_t wanted, hk_upcast_path *ret,
                     hark_errinfo *ei)
{
    int64_t newest = wanted == 0 ? hk_known_newest(k) : 0;
    *ret = (hk_upcast_path){.to = wanted > 0 ? wanted : newest};
    if (ret->to == 0 || ret->to == stored)
        return HK_FIT_STORED;
    if (stored > ret->to) {
        (void)hk_fail(ei, HARK_EUPCAST, "it is newer than version %lld, %s", (long long)ret->to,
                      wanted ? "the one asked for" : "the newest that this program knows");
        return HK_FIT_NEWER;
    }
    hk_fit fit = find_steps(k, stored, ret->to, ret);
    return fit == HK_FIT_NONE ? no_path(k, stored, ret->to, ei) : fit;
}

/* ---- adding ---------------------------------------------------------------------------------- */

static hark_err check_type(const char *type, hark_errinfo *ei)
{
    if (!type || !*type)
        return hk_fail(ei, HARK_EINVAL, "no type of events is given");
    if (strpbrk(type, "*|"))
        return hk_fail(
            ei, HARK_EINVAL,
            "'%.255s' is a pattern; give the type of events that it is for, each its own", type);
    hark_err err = hk_attr_check("type", type, strlen(type), HARK_TYPE_MAX, ei);
    if (err && ei)
        ei->err = HARK_EINVAL;
    return err ? HARK_EINVAL : HARK_OK;
}

static hark_err check_step(const char *type, const hk_step *s, hark_errinfo *ei)
{
    hark_err err = check_type(type, ei);
    if (err)
        return err;
    if (!s->fn)
        return hk_fail(ei, HARK_EINVAL, "an upcaster of %s is given without its function", type);
    if (s->from < 1 || s->from > INT32_MAX || s->to > INT32_MAX)
        return hk_fail(ei, HARK_EINVAL,
                       "an upcaster of %s from version %lld to %lld: versions go from 1 to %d",
                       type, (long long)s->from, (long long)s->to, INT32_MAX);
    if (s->to <= s->from)
        return hk_fail(
            ei, HARK_EINVAL,
            "an upcaster of %s from version %lld to %lld would make a cycle; it must lead "
            "to a later version",
            type, (long long)s->from, (long long)s->to);
    return HARK_OK;
}

/* Names the step between the chain and what does not touch it. */
static hark_err gap(const hk_known *k, const hk_step *s, int64_t from, int64_t to, hark_errinfo *ei)
{
    hark_err err =
        hk_fail(ei, HARK_EGAP,
                "%s has upcasters from %lld to %lld; one from %lld to %lld leaves a gap: "
                "add %lld to %lld first",
                k->type, (long long)begin_of(k), (long long)end_of(k), (long long)s->from,
                (long long)s->to, (long long)from, (long long)to);
    size_t at = ei ? strlen(ei->text) : 0;
    if (ei && to - from > 1)
        (void)snprintf(ei->text + at, sizeof ei->text - at, " (or %lld to %lld and %lld to %lld)",
                       (long long)from, (long long)from + 1, (long long)from + 1, (long long)to);
    return err;
}

/* Does it join the chain at an end? */
static hark_err check_joins(const hk_known *k, const hk_step *s, hark_errinfo *ei)
{
    int64_t begin = begin_of(k), end = end_of(k);
    if (!end || s->from == end || s->to == begin)
        return HARK_OK;
    if (s->from > end)
        return gap(k, s, end, s->from, ei);
    if (s->to < begin)
        return gap(k, s, s->to, begin, ei);
    for (size_t i = 0; i < k->n_steps; i++)
        if (k->steps[i].from == s->from)
            return hk_fail(ei, HARK_EEXIST,
                           "%s has an upcaster from version %lld already, to %lld; there is one "
                           "from each version",
                           k->type, (long long)s->from, (long long)k->steps[i].to);
    return hk_fail(ei, HARK_EEXIST,
                   "%s has upcasters from %lld to %lld already; one from %lld to %lld lies over "
                   "them",
                   k->type, (long long)begin, (long long)end, (long long)s->from, (long long)s->to);
}

/* A copy of what is known of a type (`k` NULL = nothing) with room for one more of each list; all
 * in one block. */
static hk_known *known_new(const hk_known *k, const char *type)
{
    size_t len = strlen(type), steps = k ? k->n_steps : 0, shapes = k ? k->n_shapes : 0;
    size_t steps_size = (steps + 1) * sizeof(hk_step),
           shapes_size = (shapes + 1) * sizeof(hk_shape);
    char *block = calloc(1, sizeof(hk_known) + steps_size + shapes_size + len + 1);
    if (!block)
        return NULL;
    char *at = block + sizeof(hk_known);
    if (steps)
        memcpy(at, k->steps, steps * sizeof(hk_step));
    if (shapes)
        memcpy(at + steps_size, k->shapes, shapes * sizeof(hk_shape));
    memcpy(at + steps_size + shapes_size, type, len + 1);
    hk_known *mine = (hk_known *)(void *)block;
    *mine = (hk_known){.hash = hk_hash(type, len),
                       .type = at + steps_size + shapes_size,
                       .steps = (const hk_step *)(void *)at,
                       .n_steps = steps,
                       .shapes = (const hk_shape *)(void *)(at + steps_size),
                       .n_shapes = shapes};
    return mine;
}

/* Another set, with this in front of what it replaces. Takes `mine` over. */
static hark_err set_new(hk_chains *v, hk_known *mine, hk_chains **ret, hark_errinfo *ei)
{
    hk_chains *set = mine ? calloc(1, sizeof *set) : NULL;
    if (!set) {
        free(mine);
        return hk_fail(ei, HARK_ENOMEM, "no memory for what is known of event versions");
    }
    if (v)
        *set = *v;
    set->before = v;
    const hk_known **bucket = &set->buckets[mine->hash % BUCKETS];
    mine->next = *bucket;
    *bucket = mine;
    *ret = set;
    return HARK_OK;
}

hark_err hk_chains_add_step(hk_chains *v, const char *type, const hk_step *step, hk_chains **ret,
                            hark_errinfo *ei)
{
    hark_err err = check_step(type, step, ei);
    const hk_known *k = err ? NULL : hk_chains_find(v, type, strlen(type));
    if (!err)
        err = check_joins(k, step, ei);
    if (err)
        return err;
    hk_known *mine = known_new(k, type);
    if (mine) {
        hk_step *steps = (hk_step *)(uintptr_t)mine->steps;
        bool in_front = mine->n_steps && step->to == steps[0].from;
        if (in_front)
            memmove(steps + 1, steps, mine->n_steps * sizeof *steps);
        steps[in_front ? 0 : mine->n_steps] = *step;
        mine->n_steps++;
    }
    return set_new(v, mine, ret, ei);
}

static hark_err check_shape(const hk_chains *v, const char *type, const hk_shape *s,
                            hark_errinfo *ei)
{
    hark_err err = check_type(type, ei);
    if (err)
        return err;
    if (s->version < 1 || s->version > INT32_MAX)
        return hk_fail(ei, HARK_EINVAL, "version %lld of %s: versions go from 1 to %d",
                       (long long)s->version, type, INT32_MAX);
    if (!s->table)
        return hk_fail(ei, HARK_EINVAL, "version %lld of %s is given without a table",
                       (long long)s->version, type);
    if (hk_known_table(hk_chains_find(v, type, strlen(type)), s->version))
        return hk_fail(ei, HARK_EEXIST, "version %lld of %s is registered already",
                       (long long)s->version, type);
    return HARK_OK;
}

hark_err hk_chains_add_shape(hk_chains *v, const char *type, const hk_shape *shape, hk_chains **ret,
                             hark_errinfo *ei)
{
    hark_err err = check_shape(v, type, shape, ei);
    if (err)
        return err;
    hk_known *mine = known_new(hk_chains_find(v, type, strlen(type)), type);
    if (mine) {
        hk_shape *shapes = (hk_shape *)(uintptr_t)mine->shapes;
        size_t at = mine->n_shapes++;
        for (; at > 0 && shapes[at - 1].version > shape->version; at--)
            shapes[at] = shapes[at - 1];
        shapes[at] = *shape;
    }
    return set_new(v, mine, ret, ei);
}

/* ---- the end --------------------------------------------------------------------------------- */

/* Each step's data once: what stands in front of a bucket for a type has all of its steps. */
static void free_steps(const hk_chains *v)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (const hk_known *k = v->buckets[i]; k; k = k->next)
            for (size_t n = 0; hk_chains_find(v, k->type, strlen(k->type)) == k && n < k->n_steps;
                 n++)
                if (k->steps[n].free_ud)
                    k->steps[n].free_ud(k->steps[n].ud);
}

void hk_chains_free(hk_chains *v)
{
    if (!v)
        return;
    free_steps(v);
    for (size_t i = 0; i < BUCKETS; i++)
        for (const hk_known *k = v->buckets[i], *next; k; k = next) {
            next = k->next;
            free((void *)(uintptr_t)k);
        }
    while (v) {
        hk_chains *before = v->before;
        free(v);
        v = before;
    }
}
