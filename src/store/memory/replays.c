/* replays.c: how far replays into ad-hoc handlers have come. They are few, so they are an array. */
#include "store/memory/memory_i.h"

#include <stdlib.h>
#include <string.h>

static hk_mem_replay *copy(const hark_store_replay *r)
{
    hk_mem_replay *m = malloc(sizeof *m + hk_mem_text_size(r->id) + hk_mem_text_size(r->pattern) +
                              hk_mem_text_size(r->error));
    if (!m)
        return NULL;
    char *room = m->text;
    m->r = *r;
    m->r.id = hk_mem_text_put(&room, r->id);
    m->r.pattern = hk_mem_text_put(&room, r->pattern);
    m->r.error = hk_mem_text_put(&room, r->error);
    return m;
}

static bool put(hk_mem_copies *list, hk_mem_replay *m)
{
    for (size_t i = 0; m && i < list->n; i++) {
        const hk_mem_replay *old = list->blocks[i];
        if (strcmp(old->r.id, m->r.id) == 0) {
            free(list->blocks[i]);
            list->blocks[i] = m;
            return true;
        }
    }
    return hk_mem_copies_add(list, m);
}

hark_err hk_mem_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    pthread_mutex_lock(&g->lock);
    bool ok = put(&g->replays, copy(r));
    pthread_mutex_unlock(&g->lock);
    return ok ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "no memory for replay %s", r->id);
}

static int in_order(const void *a, const void *b)
{
    const hk_mem_replay *const *x = a, *const *y = b;
    if ((*x)->r.started_ns != (*y)->r.started_ns)
        return (*x)->r.started_ns < (*y)->r.started_ns ? -1 : 1;
    return strcmp((*x)->r.id, (*y)->r.id);
}

hark_err hk_mem_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei)
{
    hk_mem_ledger *g = &s->ledger;
    hk_mem_copies list = {0};
    bool ok = true;
    pthread_mutex_lock(&g->lock);
    for (size_t i = 0; ok && i < g->replays.n; i++)
        ok = hk_mem_copies_add(&list, copy(&((const hk_mem_replay *)g->replays.blocks[i])->r));
    pthread_mutex_unlock(&g->lock);
    if (ok && list.n)
        qsort(list.blocks, list.n, sizeof *list.blocks, in_order);
    for (size_t i = 0; ok && i < list.n; i++)
        if (!fn(ud, &((const hk_mem_replay *)list.blocks[i])->r))
            break;
    hk_mem_copies_free(&list);
    return ok ? HARK_OK : hk_fail(ei, HARK_ENOMEM, "no memory to list the replays");
}
