/* places.c: what a consumer has open: a place for each sequence that has a row or dead letters, and
 * with it the attempts. Finding, opening and closing one costs the same however many there are; they
 * are put in order when a consumer is loaded, which is rare. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

hk_mem_row *hk_mem_row_new(const hark_store_row *r)
{
    hk_mem_row *row = malloc(sizeof *row + hk_mem_text_size(r->key) + hk_mem_text_size(r->error));
    if (!row)
        return NULL;
    char *room = row->text;
    row->r = *r;
    row->r.key = hk_mem_text_put(&room, r->key);
    row->r.error = hk_mem_text_put(&room, r->error);
    return row;
}

hk_mem_attempt *hk_mem_attempt_new(const hark_store_attempt *a)
{
    hk_mem_attempt *m =
        malloc(sizeof *m + hk_mem_text_size(a->outcome) + hk_mem_text_size(a->error));
    if (!m)
        return NULL;
    char *room = m->text;
    m->next = NULL;
    m->a = *a;
    m->a.outcome = hk_mem_text_put(&room, a->outcome);
    m->a.error = hk_mem_text_put(&room, a->error);
    return m;
}

/* ---- places ------------------------------------------------------------------------------------ */

hk_mem_place *hk_mem_place_find(const hk_mem_consumer *c, uint64_t seq)
{
    return hk_mem_map_find(&c->places, seq);
}

hk_mem_place *hk_mem_place_make(hk_mem_consumer *c, uint64_t seq)
{
    hk_mem_place *p = hk_mem_place_find(c, seq);
    if (p || !hk_mem_map_room(&c->places, 1) || !(p = calloc(1, sizeof *p)))
        return p;
    p->sequence = seq;
    hk_mem_map_put(&c->places, seq, p);
    return p;
}

static void place_free(hk_mem_place *p)
{
    free(p->row);
    for (hk_mem_attempt *a; (a = p->first);) {
        p->first = a->next;
        free(a);
    }
    free(p);
}

void hk_mem_place_tidy(hk_mem_consumer *c, uint64_t seq)
{
    hk_mem_place *p = hk_mem_place_find(c, seq);
    if (!p || p->row || p->letters)
        return;
    hk_mem_map_take(&c->places, seq);
    place_free(p);
}

static void count(hk_mem_consumer *c, const hk_mem_row *row, bool more)
{
    if (!row || row->r.state < 0 || row->r.state > HARK_ROW_COUNTS)
        return;
    uint64_t *n = &c->by_state[row->r.state];
    *n = more ? *n + 1 : *n - 1;
}

void hk_mem_place_open(hk_mem_ledger *g, hk_mem_consumer *c, hk_mem_place *p, hk_mem_row *row)
{
    count(c, p->row, false);
    free(p->row);
    p->row = row;
    count(c, row, true);
    hk_mem_letters_loose(g, p);
}

void hk_mem_place_retry(hk_mem_consumer *c, hk_mem_place *p, int64_t due_ns)
{
    count(c, p->row, false);
    p->row->r = (hark_store_row){
        .sequence = p->sequence, .state = HARK_ROW_RETRY, .due_ns = due_ns, .key = p->row->r.key};
    count(c, p->row, true);
}

static bool reset_place(void *value, void *ud)
{
    hk_mem_place *p = value;
    if (p->row) {
        free(p->row);
        p->row = NULL;
        for (hk_mem_letter *m = p->letters; m; m = m->beside)
            hk_mem_letter_set_state(m, HARK_LETTER_DEAD);
        hk_mem_letters_loose(ud, p);
    }
    bool gone = !p->letters;
    if (gone)
        place_free(p);
    return gone;
}

void hk_mem_places_reset(hk_mem_ledger *g, hk_mem_consumer *c)
{
    hk_mem_map_sweep(&c->places, reset_place, g);
    memset(c->by_state, 0, sizeof c->by_state);
    hk_mem_letters_bound(g);
}

void hk_mem_places_free(hk_mem_consumer *c)
{
    size_t at = 0;
    for (hk_mem_place *p; (p = hk_mem_map_next(&c->places, &at));)
        place_free(p);
    hk_mem_map_free(&c->places);
}

/* ---- counts ------------------------------------------------------------------------------------ */

static int by_key(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Keys of rows that are dead, in order, each once; one without a key is a lane of its own. */
static size_t dead_keys(const hk_mem_consumer *c, const char **ret, uint64_t *ret_lanes)
{
    size_t n = 0, left = 0, at = 0;
    *ret_lanes = 0;
    for (const hk_mem_place *p; (p = hk_mem_map_next(&c->places, &at));) {
        if (!p->row || p->row->r.state != HARK_ROW_DEAD)
            continue;
        if (p->row->r.key)
            ret[n++] = p->row->r.key;
        else
            ++*ret_lanes;
    }
    qsort(ret, n, sizeof *ret, by_key);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(ret[i - 1], ret[i]) != 0)
            ret[left++] = ret[i];
    *ret_lanes += left;
    return left;
}

/* What a lane whose head is a dead letter has besides it is parked, whatever it was saved as. */
static void count_parked(const hk_mem_consumer *c, const char *const *keys, size_t n,
                         hark_store_consumer_row *ret)
{
    size_t at = 0;
    for (const hk_mem_place *p; (p = hk_mem_map_next(&c->places, &at));) {
        const hark_store_row *r = p->row ? &p->row->r : NULL;
        if (!r || !r->key || r->state >= HARK_ROW_DEAD ||
            !bsearch(&r->key, keys, n, sizeof *keys, by_key))
            continue;
        ret->parked++;
        --*(r->state == HARK_ROW_RETRY ? &ret->retrying : &ret->behind);
    }
}

bool hk_mem_places_count(const hk_mem_consumer *c, hark_store_consumer_row *ret)
{
    ret->retrying = c->by_state[HARK_ROW_RETRY];
    ret->behind = c->by_state[HARK_ROW_BEHIND] + c->by_state[HARK_ROW_PARKED];
    ret->dead = c->by_state[HARK_ROW_DEAD];
    if (ret->dead == 0)
        return true;
    const char **keys = malloc(ret->dead * sizeof *keys);
    if (!keys)
        return false;
    count_parked(c, keys, dead_keys(c, keys, &ret->dead_lanes), ret);
    free(keys);
    return true;
}

/* ---- attempts ---------------------------------------------------------------------------------- */

void hk_mem_place_attempt(hk_mem_place *p, hk_mem_attempt *a)
{
    if (p->last)
        p->last->next = a;
    else
        p->first = a;
    p->last = a;
    if (++p->n_attempts <= HK_MEM_ATTEMPTS)
        return;
    hk_mem_attempt *oldest = p->first;
    p->first = oldest->next;
    p->n_attempts--;
    free(oldest);
}

static bool copy_attempts(const hk_mem_ledger *g, uint64_t consumer, uint64_t sequence,
                          hk_mem_copies *ret)
{
    const hk_mem_consumer *c = hk_mem_list_find(&g->consumers, consumer);
    const hk_mem_place *p = c ? hk_mem_place_find(c, sequence) : NULL;
    bool ok = true;
    for (const hk_mem_attempt *a = p ? p->first : NULL; a && ok; a = a->next)
        ok = hk_mem_copies_add(ret, hk_mem_attempt_new(&a->a));
    return ok;
}

hark_err hk_mem_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                         hark_store_attempt_fn fn, void *ud, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    hk_mem_copies list = {0};
    pthread_mutex_lock(&g->lock);
    bool ok = copy_attempts(g, consumer, sequence, &list);
    pthread_mutex_unlock(&g->lock);
    for (size_t i = 0; ok && i < list.n; i++)
        if (!fn(ud, &((const hk_mem_attempt *)list.blocks[i])->a))
            break;
    hk_mem_copies_free(&list);
    return ok ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "no memory to list the attempts");
}

/* ---- loading ----------------------------------------------------------------------------------- */

static int by_sequence(const void *a, const void *b)
{
    const hark_store_row *x = a, *y = b;
    return x->sequence < y->sequence ? -1 : x->sequence > y->sequence;
}

static bool copy_row(const hark_store_row *from, hark_store_row *to)
{
    *to = *from;
    to->key = hk_strdup(from->key);
    to->error = hk_strdup(from->error);
    return (to->key || !from->key) && (to->error || !from->error);
}

hark_err hk_mem_rows_copy(const hk_mem_consumer *m, hark_store_consumer *c)
{
    size_t at = 0;
    if (m->places.n == 0)
        return HARK_OK;
    c->ret_rows = calloc(m->places.n, sizeof *c->ret_rows);
    if (!c->ret_rows)
        return HARK_ENOMEM;
    for (const hk_mem_place *p; (p = hk_mem_map_next(&m->places, &at));)
        if (p->row && !copy_row(&p->row->r, &c->ret_rows[c->ret_n_rows++]))
            return HARK_ENOMEM;
    qsort(c->ret_rows, c->ret_n_rows, sizeof *c->ret_rows, by_sequence);
    return HARK_OK;
}
