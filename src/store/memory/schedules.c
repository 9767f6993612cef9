/* schedules.c: events that are to be published later, in order of their ids, and found by source and
 * id: what repeats an event of the log or of another schedule is not kept twice. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

static hark_err conflict(const hark_event *e, const char *where, uint64_t number, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECONFLICT,
                   "an event with id %.100s and source %.100s is at %s %llu with other content; "
                   "give the new event an id of its own",
                   hark_event_id(e), hark_event_source(e), where, (unsigned long long)number);
}

/* ---- repeats ----------------------------------------------------------------------------------- */

/* An event of the log; *ret_sequence 0 = none. */
static hark_err find_in_log(hark_store *s, const hark_store_schedule *sch, uint64_t *ret_sequence,
                            hark_errinfo *ei)
{
    uint8_t digest[16];
    *ret_sequence = 0;
    (void)hk_mem_wait_visible(s);
    pthread_mutex_lock(&s->index.lock);
    hark_err err = hk_mem_index_update(s);
    hark_event *e = err ? NULL : hk_mem_index_find(s, sch->event);
    pthread_mutex_unlock(&s->index.lock);
    if (err)
        return hk_fail(ei, err, "no memory for the index of ids");
    if (!e)
        return HARK_OK;
    uint64_t seq = hark_event_sequence(e);
    hk_event_digest(e, s->log_id, digest);
    hark_event_unref(e);
    if (!sch->first_stands && memcmp(digest, sch->digest, sizeof digest) != 0)
        return conflict(sch->event, "sequence", seq, ei);
    *ret_sequence = seq;
    return HARK_OK;
}

static hk_mem_schedule *find_waiting(const hk_mem_ledger *g, const hark_event *e)
{
    hk_mem_schedule *m = hk_mem_map_find(&g->by_event, hk_mem_id_hash(e));
    while (m && !hk_mem_same_id(m->s.event, e))
        m = m->same;
    return m;
}

/* ---- adding and dropping ----------------------------------------------------------------------- */

static hark_err keep(hk_mem_ledger *g, hark_store_schedule *sch, hark_errinfo *ei)
{
    hk_mem_schedule *m = malloc(sizeof *m);
    if (!m || !hk_mem_list_room(&g->schedules, 1) || !hk_mem_map_room(&g->by_event, 1)) {
        free(m);
        return hk_fail(ei, HARK_ENOMEM, "no memory for a schedule");
    }
    sch->id = ++g->last_schedule;
    uint64_t hash = hk_mem_id_hash(sch->event);
    *m = (hk_mem_schedule){.s = *sch, .hash = hash, .same = hk_mem_map_find(&g->by_event, hash)};
    m->s.event = hark_event_ref(sch->event);
    hk_mem_map_put(&g->by_event, hash, m);
    hk_mem_list_add(&g->schedules, m->s.id, m);
    return HARK_OK;
}

static hark_err add_locked(hk_mem_ledger *g, hark_store_schedule *sch, bool *ret_duplicate,
                           hark_errinfo *ei)
{
    const hk_mem_schedule *m = find_waiting(g, sch->event);
    if (!m)
        return keep(g, sch, ei);
    if (!sch->first_stands && memcmp(m->s.digest, sch->digest, sizeof sch->digest) != 0)
        return conflict(sch->event, "schedule", m->s.id, ei);
    sch->id = m->s.id;
    *ret_duplicate = true;
    return HARK_OK;
}

hark_err hk_mem_schedule_add(hark_store *s, hark_store_schedule *sch, uint64_t *ret_sequence,
                             bool *ret_duplicate, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    uint64_t seq = 0;
    bool duplicate = false;
    hark_err err = find_in_log(s, sch, &seq, ei);
    if (!err && seq == 0) {
        pthread_mutex_lock(&g->lock);
        err = add_locked(g, sch, &duplicate, ei);
        pthread_mutex_unlock(&g->lock);
    }
    if (err)
        return err;
    *ret_sequence = seq;
    *ret_duplicate = duplicate || seq;
    return HARK_OK;
}

static void unchain(hk_mem_ledger *g, hk_mem_schedule *m)
{
    hk_mem_schedule *first = hk_mem_map_find(&g->by_event, m->hash);
    if (first == m && m->same)
        hk_mem_map_put(&g->by_event, m->hash, m->same);
    else if (first == m)
        hk_mem_map_take(&g->by_event, m->hash);
    else
        for (; first; first = first->same)
            if (first->same == m)
                first->same = m->same;
}

static void schedule_free(hk_mem_schedule *m)
{
    hark_event_unref(m->s.event);
    free(m);
}

hark_err hk_mem_schedule_drop(hark_store *s, uint64_t id, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    pthread_mutex_lock(&g->lock);
    hk_mem_schedule *m = hk_mem_list_find(&g->schedules, id);
    if (m) {
        unchain(g, m);
        hk_mem_list_take(&g->schedules, id);
        schedule_free(m);
    }
    pthread_mutex_unlock(&g->lock);
    return m ? HARK_OK
             : hk_fail(ei, HARK_ENOTFOUND,
                       "schedule %llu is not in the store: it was published or cancelled",
                       (unsigned long long)id);
}

void hk_mem_schedules_free(hk_mem_ledger *g)
{
    uint64_t id = 0;
    for (hk_mem_schedule *m; (m = hk_mem_list_above(&g->schedules, id, &id));)
        schedule_free(m);
    hk_mem_list_free(&g->schedules);
    hk_mem_map_free(&g->by_event);
}

/* ---- listing: a page at a time, shown without the lock ----------------------------------------- */

enum { PAGE = 64 };

/* Events are references. */
static size_t take_page(hk_mem_ledger *g, uint64_t last, uint64_t *after,
                        hark_store_schedule page[PAGE])
{
    size_t n = 0;
    pthread_mutex_lock(&g->lock);
    for (hk_mem_schedule *m;
         n < PAGE && (m = hk_mem_list_above(&g->schedules, *after, after)) && m->s.id <= last;) {
        page[n] = m->s;
        page[n++].event = hark_event_ref(m->s.event);
    }
    pthread_mutex_unlock(&g->lock);
    return n;
}

static bool show(hark_store_schedule *sch, bool events, hark_store_schedule_fn fn, void *ud)
{
    hark_event *e = sch->event;
    if (!events)
        sch->event = NULL;
    bool more = fn(ud, sch);
    hark_event_unref(e);
    return more;
}

hark_err hk_mem_schedules(hark_store *s, uint64_t id, uint64_t after, bool events,
                          hark_store_schedule_fn fn, void *ud, hark_errinfo *ei)
{
    hark_store_schedule page[PAGE];
    uint64_t last = id ? id : UINT64_MAX;
    bool more = true;
    size_t n;
    (void)ei;
    if (id && id - 1 > after)
        after = id - 1;
    while (more && (n = take_page(&s->ledger, last, &after, page)))
        for (size_t i = 0; i < n; i++)
            if (more)
                more = show(&page[i], events, fn, ud);
            else
                hark_event_unref(page[i].event);
    return HARK_OK;
}
