/* facts.c: what the core is at, for those who ask why. */
#include "delivery/delivery_i.h"

static const char *key_of(const hk_item *item)
{
    return item->lane ? item->lane->key : NULL;
}

static void facts_running(const hk_core *c, hk_core_facts *ret)
{
    const hk_item *oldest = NULL;
    for (size_t i = 0; i < c->n_running; i++) {
        const hk_item *item = c->places[c->order[i]].item;
        if (!oldest || item->started < oldest->started)
            oldest = item;
    }
    if (!oldest)
        return;
    ret->oldest_running = oldest->seq;
    ret->running_since = oldest->started;
    ret->running_key = key_of(oldest);
    ret->running_attempts = oldest->attempts;
}

static void facts_retry(const hk_core *c, hk_core_facts *ret)
{
    const hk_item *item = hk_heap_top(&c->waiting);
    if (!item)
        return;
    ret->next_retry = item->seq;
    ret->retry_due = item->due;
    ret->retry_first_wall = item->first_wall;
    ret->retry_key = key_of(item);
    ret->retry_error = item->error;
    ret->retry_attempts = item->attempts;
}

static void facts_parked(const hk_core *c, hk_core_facts *ret)
{
    const hk_item *item = c->dead.first;
    if (!item)
        return;
    ret->first_parked = item->seq;
    ret->parked_key = key_of(item);
    ret->parked_since_wall = item->due_wall;
}

hk_core_counts hk_core_counts_get(const hk_core *c)
{
    return (hk_core_counts){.in_memory = c->n_memory,
                            .extra = c->n_extra,
                            .deferred = c->n_deferred,
                            .running = c->n_running};
}

void hk_core_facts_get(const hk_core *c, hk_core_facts *ret)
{
    *ret = (hk_core_facts){.floor = c->open.first ? c->open.first->seq - 1 : c->covered,
                           .covered = c->covered,
                           .highest = c->highest,
                           .in_memory = c->n_memory,
                           .running = c->n_running,
                           .ready = c->ready.n + c->paced.n + c->guard.n_marking,
                           .waiting = c->waiting.n,
                           .deferred = c->n_deferred,
                           .behind = c->n_behind,
                           .parked = c->n_parked,
                           .parked_keys = c->n_dead,
                           .paused = c->paused,
                           .window_full = c->n_memory + c->n_extra >= c->opts.window,
                           .ledger_full = c->n_deferred >= c->opts.max_deferred,
                           .throttled = c->rerun.throttled,
                           .alone = c->guard.alone && c->guard.alone->state == HK_RUNNING};
    facts_running(c, ret);
    facts_retry(c, ret);
    facts_parked(c, ret);
}
