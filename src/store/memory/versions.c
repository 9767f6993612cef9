/* versions.c: how many events of each type and version are retained, as events, in dead letters and
 * in schedules. Counted when somebody asks: publishers pay nothing for it. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

typedef struct pair {
    hark_store_version v;
    char *type; /* v.type */
} pair;

/* In order of type and version. */
typedef struct tally {
    pair *pairs;
    size_t n, cap;
    bool failed; /* memory is out */
} tally;

static int compare(const hark_store_version *v, const char *type, int64_t version)
{
    int order = strcmp(v->type, type);
    return order ? order : (v->version > version) - (v->version < version);
}

/* The first pair that is not below this one. */
static size_t place_of(const tally *t, const char *type, int64_t version)
{
    size_t low = 0, high = t->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(&t->pairs[middle].v, type, version) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool room(tally *t)
{
    if (t->n < t->cap)
        return true;
    size_t cap = t->cap ? t->cap * 2 : 64;
    pair *pairs = realloc(t->pairs, cap * sizeof *pairs);
    if (!pairs)
        return false;
    t->pairs = pairs;
    t->cap = cap;
    return true;
}

/* The pair of an event; NULL when memory is out. */
static hark_store_version *pair_of(tally *t, const hark_event *e)
{
    const char *type = hark_event_type(e);
    int64_t version = hark_event_dataversion(e);
    size_t at = place_of(t, type, version);
    if (at < t->n && compare(&t->pairs[at].v, type, version) == 0)
        return &t->pairs[at].v;
    char *copy = room(t) ? hk_strdup(type) : NULL;
    if (!copy) {
        t->failed = true;
        return NULL;
    }
    memmove(&t->pairs[at + 1], &t->pairs[at], (t->n - at) * sizeof *t->pairs);
    t->pairs[at] = (pair){.v = {.type = copy, .version = version}, .type = copy};
    t->n++;
    return &t->pairs[at].v;
}

static void count_event(tally *t, const hark_event *e)
{
    hark_store_version *v = pair_of(t, e);
    int64_t recorded = hark_event_recorded_ns(e);
    if (!v)
        return;
    v->events++;
    v->first_ns = v->first_ns ? v->first_ns : recorded;
    v->last_ns = recorded;
}

static void count_log(hark_store *s, tally *t)
{
    uint64_t visible = hk_mem_wait_visible(s);
    for (uint64_t seq = hk_mark_get(&s->tail.oldest); seq <= visible && !t->failed; seq++) {
        hark_event *e = hk_tail_get(&s->tail, seq); /* NULL: overwritten meanwhile */
        if (e)
            count_event(t, e);
        hark_event_unref(e);
    }
}

static bool count_letter(void *ud, const hark_store_letter *l)
{
    tally *t = ud;
    hark_store_version *v = pair_of(t, l->event);
    if (v)
        v->dead_letters++;
    return v != NULL;
}

static bool count_schedule(void *ud, const hark_store_schedule *sch)
{
    tally *t = ud;
    hark_store_version *v = pair_of(t, sch->event);
    if (v)
        v->schedules++;
    return v != NULL;
}

/* Schedules become events and events letters: in this order nothing is passed over. */
static hark_err count_all(hark_store *s, tally *t, hark_errinfo *ei)
{
    const hark_store_letters_query all = {.size = sizeof all};
    hark_err err = hk_mem_schedules(s, 0, 0, true, count_schedule, t, ei);
    if (!err)
        count_log(s, t);
    if (!err)
        err = hk_mem_letters(s, &all, count_letter, t, ei);
    if (!err && t->failed)
        err = hk_fail(ei, HARK_ENOMEM,
                      "no memory to count events by version; free some, then try again");
    return err;
}

hark_err hk_mem_versions(hark_store *s, hark_store_version_fn fn, void *ud, hark_errinfo *ei)
{
    tally t = {0};
    hark_err err = count_all(s, &t, ei);
    for (size_t i = 0; i < t.n && !err; i++)
        if (!fn(ud, &t.pairs[i].v))
            break;
    for (size_t i = 0; i < t.n; i++)
        free(t.pairs[i].type);
    free(t.pairs);
    return err;
}
