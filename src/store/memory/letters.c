/* letters.c: dead letters: keeping them in order of their ids, listing them, and letting the oldest
 * go when there are too many. A letter whose place has an open row stays however old it is: it heads
 * a parked lane, or its new delivery is under way. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

hk_mem_letter *hk_mem_letter_new(hk_mem_consumer *c, const hark_store_dead *d)
{
    hk_mem_letter *m =
        calloc(1, sizeof *m + hk_mem_text_size(d->reason) + hk_mem_text_size(d->error));
    if (!m)
        return NULL;
    char *room = m->text;
    m->refs = 1;
    m->owner = c;
    m->l = (hark_store_letter){.sequence = hark_event_sequence(d->event),
                               .generation = c->generation,
                               .consumer = c->name,
                               .consumer_id = c->id,
                               .reason = hk_mem_text_put(&room, d->reason),
                               .error = hk_mem_text_put(&room, d->error),
                               .attempts = d->attempts,
                               .crashes = d->crashes,
                               .interruptions = d->interruptions,
                               .first_ns = d->first_ns,
                               .dead_ns = d->dead_ns,
                               .state = HARK_LETTER_DEAD,
                               .event = hark_event_ref(d->event)};
    return m;
}

void hk_mem_letter_unref(hk_mem_letter *m)
{
    if (--m->refs)
        return;
    hark_event_unref(m->l.event);
    free(m);
}

/* ---- those that may go ------------------------------------------------------------------------- */

static void bind(hk_mem_ledger *g, hk_mem_letter *m)
{
    if (!m->loose)
        return;
    *(m->older ? &m->older->newer : &g->oldest) = m->newer;
    *(m->newer ? &m->newer->older : &g->newest) = m->older;
    m->older = m->newer = NULL;
    m->loose = false;
    g->n_loose--;
    g->loose_bytes -= hk_event_footprint(m->l.event);
}

static void loosen(hk_mem_ledger *g, hk_mem_letter *m)
{
    if (m->loose)
        return;
    m->older = g->newest;
    *(m->older ? &m->older->newer : &g->oldest) = m;
    g->newest = m;
    m->loose = true;
    g->n_loose++;
    g->loose_bytes += hk_event_footprint(m->l.event);
}

void hk_mem_letters_loose(hk_mem_ledger *g, hk_mem_place *p)
{
    for (hk_mem_letter *m = p->letters; m; m = m->beside)
        if (p->row)
            bind(g, m);
        else
            loosen(g, m);
}

static void warn_once(hk_mem_ledger *g, const hk_mem_letter *m)
{
    if (!g->warned)
        hk_log(HK_WARN,
               "memory: keeps %d dead letters of %d MiB; the oldest is dropped, of consumer %s at "
               "sequence %llu, and others will be; redrive or discard them, or use sqlite:PATH",
               HK_MEM_LETTERS, HK_MEM_LETTER_BYTES >> 20, m->l.consumer,
               (unsigned long long)m->l.sequence);
    g->warned = true;
}

void hk_mem_letters_bound(hk_mem_ledger *g)
{
    while (g->n_loose > HK_MEM_LETTERS ||
           (g->loose_bytes > HK_MEM_LETTER_BYTES && g->n_loose > 1)) {
        hk_mem_letter *m = g->oldest;
        hk_mem_consumer *c = m->owner;
        uint64_t seq = m->l.sequence;
        warn_once(g, m);
        hk_mem_letter_remove(g, hk_mem_place_find(c, seq), m);
        hk_mem_place_tidy(c, seq);
    }
}

/* ---- adding and removing ----------------------------------------------------------------------- */

void hk_mem_letter_add(hk_mem_ledger *g, hk_mem_place *p, hk_mem_letter *m)
{
    m->l.id = ++g->last_letter;
    hk_mem_list_add(&g->letters, m->l.id, m);
    m->beside = p->letters;
    p->letters = m;
    m->owner->n_dead++;
    if (!p->row)
        loosen(g, m);
}

void hk_mem_letter_set_state(hk_mem_letter *m, hark_letter_state state)
{
    if (m->l.state == (int64_t)state)
        return;
    m->l.state = state;
    m->owner->n_dead += state == HARK_LETTER_DEAD ? 1 : UINT64_MAX; /* or one less */
}

void hk_mem_letter_remove(hk_mem_ledger *g, hk_mem_place *p, hk_mem_letter *m)
{
    hk_mem_letter **at = &p->letters;
    while (*at != m)
        at = &(*at)->beside;
    *at = m->beside;
    bind(g, m);
    hk_mem_list_take(&g->letters, m->l.id);
    if (m->l.state == HARK_LETTER_DEAD)
        m->owner->n_dead--;
    hk_mem_letter_unref(m);
}

void hk_mem_letters_settled(hk_mem_ledger *g, hk_mem_place *p)
{
    for (hk_mem_letter *m = p->letters, *rest; m; m = rest) {
        rest = m->beside;
        if (m->l.state == HARK_LETTER_REDRIVEN)
            hk_mem_letter_remove(g, p, m);
    }
}

/* ---- listing: a page at a time, shown without the lock ----------------------------------------- */

enum { PAGE = 64, SCAN_MAX = 4096 };

typedef struct page {
    hk_mem_letter *letters[PAGE]; /* references */
    hark_store_letter shown[PAGE];
    size_t n;
} page;

static bool wanted(const hark_store_letters_query *q, const hark_store_letter *l)
{
    return (!q->consumer || strcmp(q->consumer, l->consumer) == 0) &&
           (!q->pattern || hark_pattern_match(q->pattern, hark_event_type(l->event))) &&
           (!q->reason || (l->reason && strcmp(q->reason, l->reason) == 0)) &&
           (!q->sequence || q->sequence == l->sequence) && (!q->state || q->state == l->state) &&
           (!q->from_ns || l->dead_ns >= q->from_ns) && (!q->to_ns || l->dead_ns < q->to_ns);
}

/* The next letter to look at. Those of one consumer and sequence are found without a scan: a consumer
 * asks for them to redeliver what the log no longer has. */
static hk_mem_letter *next(const hk_mem_ledger *g, const hark_store_letters_query *q,
                           uint64_t *after)
{
    if (!q->consumer || !q->sequence)
        return hk_mem_list_above(&g->letters, *after, after);
    const hk_mem_consumer *c = hk_mem_consumer_named(g, q->consumer);
    const hk_mem_place *p = c ? hk_mem_place_find(c, q->sequence) : NULL;
    hk_mem_letter *first = NULL;
    for (hk_mem_letter *m = p ? p->letters : NULL; m; m = m->beside)
        if (m->l.id > *after && (!first || m->l.id < first->l.id))
            first = m;
    *after = first ? first->l.id : *after;
    return first;
}

/* Under the lock: what is wanted after *after, which moves on; false at the end. */
static bool take_page(const hk_mem_ledger *g, const hark_store_letters_query *q, uint64_t *after,
                      size_t most, page *pg)
{
    for (size_t i = 0; i < SCAN_MAX && pg->n < PAGE && pg->n < most; i++) {
        hk_mem_letter *m = next(g, q, after);
        if (!m || (q->id && m->l.id > q->id))
            return false;
        if (!wanted(q, &m->l))
            continue;
        m->refs++;
        pg->letters[pg->n] = m;
        pg->shown[pg->n++] = m->l;
    }
    return true;
}

static void drop_page(hk_mem_ledger *g, page *pg)
{
    pthread_mutex_lock(&g->lock);
    while (pg->n)
        hk_mem_letter_unref(pg->letters[--pg->n]);
    pthread_mutex_unlock(&g->lock);
}

hark_err hk_mem_letters(hark_store *s, const hark_store_letters_query *q, hark_store_letter_fn fn,
                        void *ud, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    uint64_t after = q->id && q->id - 1 > q->after_id ? q->id - 1 : q->after_id;
    size_t left = q->limit ? q->limit : SIZE_MAX;
    bool more = true;
    page pg = {.n = 0};
    (void)ei;
    while (more && left) {
        pthread_mutex_lock(&g->lock);
        more = take_page(g, q, &after, left, &pg);
        pthread_mutex_unlock(&g->lock);
        left -= pg.n;
        for (size_t i = 0; i < pg.n; i++)
            if (!fn(ud, &pg.shown[i])) {
                more = false;
                break;
            }
        drop_page(g, &pg);
    }
    return HARK_OK;
}
