/* consumers.c: consumers of the memory store: registering, loading, resetting, pausing and listing
 * them. Their open rows are in places.c, saving is in save.c.
 *
 * No gaps are kept: `trim` is not offered, and what the ring has let go of is told by each page. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

/* hark_store_consumer.start, the values of hark_start in <hark/bus.h>. */
enum { START_NOW, START_FIRST, START_SEQUENCE, START_TIME };

void hk_mem_ledger_init(hk_mem_ledger *g)
{
    *g = (hk_mem_ledger){0};
    pthread_mutex_init(&g->lock, NULL);
}

static void consumer_free(hk_mem_consumer *c)
{
    hk_mem_places_free(c);
    free(c->settled);
    free(c->name);
    free(c->pattern);
    free(c->policy);
    free(c);
}

void hk_mem_ledger_free(hk_mem_ledger *g)
{
    uint64_t id = 0;
    for (hk_mem_letter *m; (m = hk_mem_list_above(&g->letters, id, &id));)
        hk_mem_letter_unref(m);
    id = 0;
    for (hk_mem_consumer *c; (c = hk_mem_list_above(&g->consumers, id, &id));)
        consumer_free(c);
    hk_mem_list_free(&g->letters);
    hk_mem_list_free(&g->consumers);
    hk_mem_schedules_free(g);
    hk_mem_copies_free(&g->replays);
    pthread_mutex_destroy(&g->lock);
}

hark_err hk_mem_no_consumer(uint64_t id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTFOUND, "consumer %llu is not in the store; list the consumers",
                   (unsigned long long)id);
}

/* ---- where to start ---------------------------------------------------------------------------- */

/* The first sequence recorded at or after a time; one past `visible` when there is none. */
static uint64_t seek_time(hark_store *s, int64_t time_ns, uint64_t visible)
{
    uint64_t low = hk_mark_get(&s->tail.oldest), high = visible + 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        hark_event *e = hk_tail_get(&s->tail, middle); /* NULL: overwritten meanwhile */
        bool reached = e && hark_event_recorded_ns(e) >= time_ns;
        hark_event_unref(e);
        if (reached)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The floor of a consumer that starts there: all up to it is none of its business. Without the
 * ledger's lock. */
static hark_err start_floor(hark_store *s, int64_t start, uint64_t sequence, int64_t time_ns,
                            uint64_t *ret, hark_errinfo *ei)
{
    uint64_t visible = hk_mem_wait_visible(s);
    switch (start) {
    case START_NOW:
        *ret = visible;
        return HARK_OK;
    case START_FIRST:
        *ret = hk_mark_get(&s->tail.oldest) - 1;
        return HARK_OK;
    case START_SEQUENCE:
        if (sequence > HARK_SEQ_MAX)
            return hk_fail(ei, HARK_EINVAL,
                           "start_sequence %llu is over 2^53 - 1, the highest that there can be",
                           (unsigned long long)sequence);
        *ret = sequence ? sequence - 1 : 0;
        return HARK_OK;
    case START_TIME:
        *ret = seek_time(s, time_ns, visible) - 1;
        return HARK_OK;
    default:
        return hk_fail(ei, HARK_EINVAL, "start %lld is not a hark_start; give one of <hark/bus.h>",
                       (long long)start);
    }
}

/* ---- registering and loading ------------------------------------------------------------------- */

hk_mem_consumer *hk_mem_consumer_named(const hk_mem_ledger *g, const char *name)
{
    uint64_t id = 0;
    for (hk_mem_consumer *c; (c = hk_mem_list_above(&g->consumers, id, &id));)
        if (strcmp(c->name, name) == 0)
            return c;
    return NULL;
}

/* Not in the list yet. */
static hk_mem_consumer *consumer_new(const hark_store_consumer *c, uint64_t floor)
{
    hk_mem_consumer *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->name = hk_strdup(c->name);
    m->pattern = hk_strdup(c->pattern);
    m->policy = hk_strdup(c->policy);
    if (!m->name || !m->pattern || !m->policy) {
        consumer_free(m);
        return NULL;
    }
    m->generation = 1;
    m->floor = m->highest = floor;
    m->created_ns = hk_wall_ns();
    return m;
}

static hark_err update(hk_mem_consumer *m, const hark_store_consumer *c)
{
    char *pattern = hk_strdup(c->pattern), *policy = hk_strdup(c->policy);
    if (!pattern || !policy) {
        free(pattern);
        free(policy);
        return HARK_ENOMEM;
    }
    free(m->pattern);
    free(m->policy);
    m->pattern = pattern;
    m->policy = policy;
    return HARK_OK;
}

static hark_err load(const hk_mem_consumer *m, const char *pattern, const char *policy,
                     hark_store_consumer *c)
{
    c->ret_id = m->id;
    c->ret_generation = m->generation;
    c->ret_floor = m->floor;
    c->ret_highest = m->highest;
    c->ret_paused = m->paused;
    c->ret_rerun = m->rerun;
    c->ret_pattern = hk_strdup(pattern);
    c->ret_policy = hk_strdup(policy);
    c->ret_settled = m->n_settled ? calloc(m->n_settled, sizeof *c->ret_settled) : NULL;
    if (!c->ret_pattern || !c->ret_policy || (m->n_settled && !c->ret_settled))
        return HARK_ENOMEM;
    c->ret_n_settled = m->n_settled;
    if (m->n_settled)
        memcpy(c->ret_settled, m->settled, m->n_settled * sizeof *m->settled);
    return hk_mem_rows_copy(m, c);
}

static void clear_results(hark_store_consumer *c)
{
    c->ret_created = c->ret_paused = 0;
    c->ret_id = c->ret_generation = c->ret_floor = c->ret_highest = 0;
    c->ret_settled = NULL;
    c->ret_rows = NULL;
    c->ret_n_settled = c->ret_n_rows = 0;
    c->ret_pattern = c->ret_policy = NULL;
    c->ret_rerun = (hark_store_rerun){0};
    c->ret_gap_from = c->ret_gap_to = 0;
    c->ret_shares = 1;
}

/* What is registered changes last: a call that fails has changed nothing. */
static hark_err open_known(hk_mem_consumer *m, hark_store_consumer *c, hark_errinfo *ei)
{
    bool differs =
        !c->find && (strcmp(m->pattern, c->pattern) != 0 || strcmp(m->policy, c->policy) != 0);
    if (differs && !c->update)
        return hk_fail(ei, HARK_ECONFLICT,
                       "consumer %s is registered for %.100s with %.100s; register it so, set "
                       ".update, or choose another name",
                       c->name, m->pattern, m->policy);
    hark_err err = load(m, differs ? c->pattern : m->pattern, differs ? c->policy : m->policy, c);
    return err || !differs ? err : update(m, c);
}

static hark_err open_new(hk_mem_ledger *g, hark_store_consumer *c, uint64_t floor)
{
    hk_mem_consumer *m = consumer_new(c, floor);
    if (!m)
        return HARK_ENOMEM;
    m->id = g->last_consumer + 1;
    if (load(m, m->pattern, m->policy, c) || !hk_mem_list_room(&g->consumers, 1)) {
        consumer_free(m);
        return HARK_ENOMEM;
    }
    g->last_consumer = m->id;
    hk_mem_list_add(&g->consumers, m->id, m);
    c->ret_created = 1;
    return HARK_OK;
}

static hark_err open_locked(hk_mem_ledger *g, hark_store_consumer *c, hark_err start,
                            uint64_t floor, hark_errinfo *ei)
{
    hk_mem_consumer *m = hk_mem_consumer_named(g, c->name);
    if (m)
        return open_known(m, c, ei);
    if (c->find)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "consumer %s is not in the store; subscribe with this name first", c->name);
    return start ? start : open_new(g, c, floor);
}

hark_err hk_mem_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    uint64_t floor = 0;
    clear_results(c);
    hark_err start =
        c->find ? HARK_OK
                : start_floor(s, c->start, c->start_sequence, c->start_time_ns, &floor, ei);
    hk_tail_know_types(&s->tail);
    pthread_mutex_lock(&g->lock);
    hark_err err = open_locked(g, c, start, floor, ei);
    pthread_mutex_unlock(&g->lock);
    if (err)
        hark_store_consumer_clear(c);
    return err == HARK_ENOMEM ? hk_fail(ei, err, "no memory for consumer %s", c->name) : err;
}

/* ---- reset and pause --------------------------------------------------------------------------- */

/* What is below the floor and still open has a row. When it is reset again while it replays, it stood
 * farther on before. */
static uint64_t settled_up_to(const hk_mem_consumer *m)
{
    uint64_t settled = m->floor;
    size_t at = 0;
    for (const hk_mem_place *p; (p = hk_mem_map_next(&m->places, &at));)
        if (p->row && p->sequence <= settled)
            settled = p->sequence - 1;
    return m->rerun.settled > settled ? m->rerun.settled : settled;
}

static void begin_anew(hk_mem_ledger *g, hk_mem_consumer *m, hark_store_reset *r, uint64_t floor)
{
    uint64_t settled = settled_up_to(m);
    hk_mem_places_reset(g, m);
    free(m->settled);
    m->settled = NULL;
    m->n_settled = 0;
    m->floor = floor;
    m->generation++;
    r->ret_generation = m->generation;
    r->ret_floor = floor;
    m->highest = m->highest > r->reached ? m->highest : r->reached;
    if (!r->rerun.id[0] || m->highest <= floor) { /* it had not come beyond */
        r->rerun = (hark_store_rerun){0};
    } else {
        r->rerun.from = floor + 1;
        r->rerun.upto = m->highest;
        r->rerun.settled = settled;
        r->rerun.started_ns = hk_wall_ns();
    }
    m->rerun = r->rerun;
}

static void end_rerun(hk_mem_consumer *m, hark_store_reset *r)
{
    m->rerun = r->rerun = (hark_store_rerun){0};
    r->ret_generation = m->generation;
    r->ret_floor = m->floor;
}

hark_err hk_mem_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    uint64_t floor = 0;
    hark_err err = r->keep
                       ? HARK_OK
                       : start_floor(s, r->start, r->start_sequence, r->start_time_ns, &floor, ei);
    if (err)
        return err;
    pthread_mutex_lock(&g->lock);
    hk_mem_consumer *m = hk_mem_list_find(&g->consumers, r->consumer);
    if (m && r->keep)
        end_rerun(m, r);
    else if (m)
        begin_anew(g, m, r, floor);
    pthread_mutex_unlock(&g->lock);
    return m ? HARK_OK : hk_mem_no_consumer(r->consumer, ei);
}

hark_err hk_mem_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    pthread_mutex_lock(&g->lock);
    hk_mem_consumer *m = hk_mem_list_find(&g->consumers, consumer);
    if (m)
        m->paused = paused;
    pthread_mutex_unlock(&g->lock);
    return m ? HARK_OK : hk_mem_no_consumer(consumer, ei);
}

/* ---- listing ----------------------------------------------------------------------------------- */

typedef struct listed {
    hark_store_consumer_row row;
    char text[];
} listed;

static listed *list_one(const hk_mem_consumer *m)
{
    listed *c = malloc(sizeof *c + hk_mem_text_size(m->name) + hk_mem_text_size(m->pattern) +
                       hk_mem_text_size(m->policy));
    if (!c)
        return NULL;
    char *room = c->text;
    c->row = (hark_store_consumer_row){.name = hk_mem_text_put(&room, m->name),
                                       .pattern = hk_mem_text_put(&room, m->pattern),
                                       .policy = hk_mem_text_put(&room, m->policy),
                                       .id = m->id,
                                       .generation = m->generation,
                                       .floor = m->floor,
                                       .highest = m->highest,
                                       .paused = m->paused,
                                       .created_ns = m->created_ns,
                                       .rerun = m->rerun,
                                       .letters = m->n_dead};
    if (hk_mem_places_count(m, &c->row))
        return c;
    free(c);
    return NULL;
}

static int in_order_of_names(const void *a, const void *b)
{
    const listed *const *x = a, *const *y = b;
    return strcmp((*x)->row.name, (*y)->row.name);
}

hark_err hk_mem_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    hk_mem_copies list = {0};
    uint64_t id = 0;
    bool ok = true;
    pthread_mutex_lock(&g->lock);
    for (hk_mem_consumer *m; ok && (m = hk_mem_list_above(&g->consumers, id, &id));)
        ok = hk_mem_copies_add(&list, list_one(m));
    pthread_mutex_unlock(&g->lock);
    if (ok && list.n)
        qsort(list.blocks, list.n, sizeof *list.blocks, in_order_of_names);
    for (size_t i = 0; ok && i < list.n; i++)
        if (!fn(ud, &((const listed *)list.blocks[i])->row))
            break;
    hk_mem_copies_free(&list);
    return ok ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "no memory to list the consumers");
}
