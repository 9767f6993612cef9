/* dedupe.c: finding the event with a given source and id among the newest N.
 *
 * Ids that the library has just made cannot repeat, so publishing without an id never comes here.
 * The first publish that brings an id makes the index, and each further one first takes in what was
 * published since. Chains as in LZ77 compressors: `heads` names the newest sequence of a hash,
 * `prev` the one before; whoever walks stops at the oldest event retained, so nothing is ever
 * removed. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

void hk_mem_index_init(hk_mem_index *x, size_t capacity)
{
    *x = (hk_mem_index){.mask = capacity - 1};
    pthread_mutex_init(&x->lock, NULL);
}

void hk_mem_index_free(hk_mem_index *x)
{
    free(x->heads);
    free(x->prev);
    pthread_mutex_destroy(&x->lock);
}

uint64_t hk_mem_id_hash(const hark_event *e)
{
    const char *id = hark_event_id(e), *source = hark_event_source(e);
    return hk_hash(id, strlen(id)) ^ hk_hash(source, strlen(source)) * 31;
}

bool hk_mem_same_id(const hark_event *a, const hark_event *b)
{
    return strcmp(hark_event_id(a), hark_event_id(b)) == 0 &&
           strcmp(hark_event_source(a), hark_event_source(b)) == 0;
}

static size_t head_of(const hk_mem_index *x, const hark_event *e)
{
    return (size_t)hk_mem_id_hash(e) & (2 * x->mask + 1);
}

hark_err hk_mem_index_update(hark_store *s)
{
    hk_mem_index *x = &s->index;
    if (!x->heads) {
        x->heads = calloc(2 * (x->mask + 1), sizeof *x->heads);
        x->prev = calloc(x->mask + 1, sizeof *x->prev);
        if (!x->heads || !x->prev) {
            free(x->heads);
            free(x->prev);
            x->heads = x->prev = NULL;
            return HARK_ENOMEM;
        }
    }
    uint64_t visible = hk_mark_get(&s->tail.visible), oldest = hk_mark_get(&s->tail.oldest);
    uint64_t seq = x->upto + 1 > oldest ? x->upto + 1 : oldest;
    for (; seq <= visible; seq++) {
        hark_event *e = hk_tail_get(&s->tail, seq);
        if (!e)
            continue; /* overwritten meanwhile */
        size_t h = head_of(x, e);
        x->prev[seq & x->mask] = x->heads[h];
        x->heads[h] = seq;
        hark_event_unref(e);
    }
    x->upto = visible;
    return HARK_OK;
}

hark_event *hk_mem_index_find(hark_store *s, const hark_event *e)
{
    hk_mem_index *x = &s->index;
    uint64_t oldest = hk_mark_get(&s->tail.oldest), last = UINT64_MAX;
    for (uint64_t seq = x->heads[head_of(x, e)]; seq >= oldest && seq != 0 && seq < last;) {
        hark_event *other = hk_tail_get(&s->tail, seq);
        if (other && hk_mem_same_id(other, e))
            return other;
        hark_event_unref(other);
        last = seq;
        seq = x->prev[seq & x->mask];
    }
    return NULL;
}
