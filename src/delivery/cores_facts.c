/* cores_facts.c: what the shares that are here are at together, for those who ask why. */
#include "delivery/cores_i.h"

static void add_running(hk_core_facts *sum, const hk_core_facts *x)
{
    sum->running += x->running;
    if (!x->oldest_running || (sum->oldest_running && sum->running_since <= x->running_since))
        return;
    sum->oldest_running = x->oldest_running;
    sum->running_since = x->running_since;
    sum->running_key = x->running_key;
    sum->running_attempts = x->running_attempts;
}

static void add_retry(hk_core_facts *sum, const hk_core_facts *x)
{
    sum->waiting += x->waiting;
    if (!x->next_retry || (sum->next_retry && sum->retry_due <= x->retry_due))
        return;
    sum->next_retry = x->next_retry;
    sum->retry_due = x->retry_due;
    sum->retry_first_wall = x->retry_first_wall;
    sum->retry_key = x->retry_key;
    sum->retry_error = x->retry_error;
    sum->retry_attempts = x->retry_attempts;
}

static void add_parked(hk_core_facts *sum, const hk_core_facts *x)
{
    sum->parked += x->parked;
    sum->parked_keys += x->parked_keys;
    if (!x->first_parked || (sum->first_parked && sum->parked_since_wall <= x->parked_since_wall))
        return;
    sum->first_parked = x->first_parked;
    sum->parked_key = x->parked_key;
    sum->parked_since_wall = x->parked_since_wall;
}

static void add(hk_core_facts *sum, const hk_core_facts *x, bool first)
{
    if (first || x->floor < sum->floor)
        sum->floor = x->floor;
    if (first || x->covered < sum->covered)
        sum->covered = x->covered;
    if (x->highest > sum->highest)
        sum->highest = x->highest;
    sum->in_memory += x->in_memory;
    sum->ready += x->ready;
    sum->deferred += x->deferred;
    sum->behind += x->behind;
    sum->throttled |= x->throttled;
    sum->alone |= x->alone;
    add_running(sum, x);
    add_retry(sum, x);
    add_parked(sum, x);
}

void hk_cores_facts_get(const hk_cores *c, hk_core_facts *ret)
{
    size_t extra = 0;
    *ret = (hk_core_facts){.paused = c->opts.paused};
    for (size_t i = 0; i < c->n; i++) {
        hk_core_facts x;
        hk_core_facts_get(c->here[i]->core, &x);
        extra += hk_core_counts_get(c->here[i]->core).extra;
        add(ret, &x, i == 0);
    }
    ret->window_full = ret->in_memory + extra >= c->opts.window;
    ret->ledger_full = ret->deferred >= c->opts.max_deferred;
}

uint64_t hk_cores_running(const hk_cores *c, size_t i)
{
    for (size_t k = 0; k < c->n; k++) {
        size_t n = c->here[k]->core->n_running;
        if (i < n)
            return hk_core_running(c->here[k]->core, i);
        i -= n;
    }
    return 0;
}

static bool stage_in(const hk_part *p, uint64_t seq, hk_stage *ret)
{
    if (p)
        *ret = hk_core_stage(p->core, seq);
    return p != NULL;
}

bool hk_cores_stage(const hk_cores *c, uint64_t seq, const char *key, hk_stage *ret)
{
    return stage_in(hk_part_of(c, seq, key), seq, ret);
}

bool hk_cores_stage_in(const hk_cores *c, uint32_t share, uint64_t seq, hk_stage *ret)
{
    return stage_in(hk_part_at(c, share), seq, ret);
}
