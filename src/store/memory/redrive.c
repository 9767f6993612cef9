/* redrive.c: what people do with dead letters: redriving makes one an open row again, discarding
 * removes it. */
#include "store/memory/memory_i.h"

#include <stdlib.h>

static hark_err no_letter(uint64_t id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTFOUND,
                   "dead letter %llu is not in the store: its delivery was settled, or it was "
                   "discarded; list the dead letters",
                   (unsigned long long)id);
}

/* Finds a letter that was not redriven. */
static hark_err find(const hk_mem_ledger *g, uint64_t id, hk_mem_letter **ret, hark_errinfo *ei)
{
    hk_mem_letter *m = hk_mem_list_find(&g->letters, id);
    if (!m)
        return no_letter(id, ei);
    if (m->l.state != HARK_LETTER_DEAD)
        return hk_fail(ei, HARK_ECONFLICT,
                       "dead letter %llu was redriven: consumer %s has yet to settle sequence "
                       "%llu; wait for that",
                       (unsigned long long)id, m->l.consumer, (unsigned long long)m->l.sequence);
    *ret = m;
    return HARK_OK;
}

/* What is told of it; false when memory is out. The row's lane is the one that counts. */
static bool tell(const hk_mem_letter *m, const hk_mem_place *p, bool parked,
                 hark_store_letter_done *ret)
{
    const char *key = p->row ? p->row->r.key : hark_event_key(m->l.event);
    char *copy = hk_strdup(key);
    if (key && !copy)
        return false;
    *ret = (hark_store_letter_done){.consumer = m->owner->id,
                                    .generation = m->owner->generation,
                                    .sequence = m->l.sequence,
                                    .key = copy,
                                    .parked = parked};
    return true;
}

/* May the event be delivered once more? */
static hark_err check(const hk_mem_letter *m, const hk_mem_place *p, hark_errinfo *ei)
{
    const hk_mem_consumer *c = m->owner;
    if (p->row && p->row->r.state != HARK_ROW_DEAD)
        return hk_fail(ei, HARK_ECONFLICT,
                       "dead letter %llu: consumer %s has sequence %llu open; wait until it is "
                       "settled",
                       (unsigned long long)m->l.id, c->name, (unsigned long long)p->sequence);
    if (!p->row && m->l.generation != c->generation && m->l.sequence > c->floor)
        return hk_fail(ei, HARK_EAGAIN,
                       "dead letter %llu: consumer %s was reset and comes to sequence %llu by "
                       "itself; wait for that",
                       (unsigned long long)m->l.id, c->name, (unsigned long long)p->sequence);
    return HARK_OK;
}

/* One delivery answers for every dead letter of this consumer and event. */
static hark_err redrive(hk_mem_ledger *g, hk_mem_letter *m, int64_t due_ns,
                        hark_store_letter_done *ret, hark_errinfo *ei)
{
    hk_mem_consumer *c = m->owner;
    hk_mem_place *p = hk_mem_place_find(c, m->l.sequence);
    hark_err err = check(m, p, ei);
    if (err)
        return err;
    bool parked = p->row != NULL;
    const hark_store_row r = {.sequence = m->l.sequence,
                              .state = HARK_ROW_RETRY,
                              .due_ns = due_ns,
                              .key = hark_event_key(m->l.event)};
    hk_mem_row *row = parked ? NULL : hk_mem_row_new(&r);
    if ((!parked && !row) || !tell(m, p, parked, ret)) {
        free(row);
        return hk_fail(ei, HARK_ENOMEM, "no memory to redrive dead letter %llu",
                       (unsigned long long)m->l.id);
    }
    if (parked)
        hk_mem_place_retry(c, p, due_ns);
    else
        hk_mem_place_open(g, c, p, row);
    for (m = p->letters; m; m = m->beside)
        hk_mem_letter_set_state(m, HARK_LETTER_REDRIVEN);
    return HARK_OK;
}

hark_err hk_mem_letter_redrive(hark_store *s, uint64_t id, int64_t due_ns,
                               hark_store_letter_done *ret, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    hk_mem_letter *m = NULL;
    pthread_mutex_lock(&g->lock);
    hark_err err = find(g, id, &m, ei);
    if (!err)
        err = redrive(g, m, due_ns, ret, ei);
    pthread_mutex_unlock(&g->lock);
    return err;
}

/* A row that is dead belongs to a letter of its consumer's present generation: a reset drops rows. */
static hark_err discard(hk_mem_ledger *g, hk_mem_letter *m, hark_store_letter_done *ret,
                        hark_errinfo *ei)
{
    hk_mem_consumer *c = m->owner;
    uint64_t seq = m->l.sequence;
    hk_mem_place *p = hk_mem_place_find(c, seq);
    bool parked = p->row && p->row->r.state == HARK_ROW_DEAD && m->l.generation == c->generation;
    if (!tell(m, p, parked, ret))
        return hk_fail(ei, HARK_ENOMEM, "no memory to discard dead letter %llu",
                       (unsigned long long)m->l.id);
    hk_mem_letter_remove(g, p, m);
    if (parked)
        hk_mem_place_open(g, c, p, NULL);
    hk_mem_place_tidy(c, seq);
    hk_mem_letters_bound(g);
    return HARK_OK;
}

hark_err hk_mem_letter_discard(hark_store *s, uint64_t id, hark_store_letter_done *ret,
                               hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    hk_mem_letter *m = NULL;
    pthread_mutex_lock(&g->lock);
    hark_err err = find(g, id, &m, ei);
    if (!err)
        err = discard(g, m, ret, ei);
    pthread_mutex_unlock(&g->lock);
    return err;
}
