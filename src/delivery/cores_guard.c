/* cores_guard.c: who may run beside whom, where deliveries that may have killed a process are on record before they start again
 * (guard.c). Marks are made for what really starts: until they are committed a place is kept for each. */
#include "delivery/cores_i.h"

/* Besides those that start: marked before their turn, so that not each of many suspects waits for a commit. */
enum { AHEAD = 12, AHEAD_OF_EACH = 4 };

typedef struct sums {
    size_t running, reserved, noted;
    hk_part *alone; /* has the one beside which nothing runs */
} sums;

static sums sum_up(const hk_cores *c)
{
    sums s = {0};
    for (size_t i = 0; i < c->n; i++) {
        const hk_core *core = c->here[i]->core;
        s.running += core->n_running;
        s.reserved += core->guard.n_reserved;
        s.noted += core->guard.n_noted;
        if (hk_guard_alone(core))
            s.alone = c->here[i];
    }
    return s;
}

/* True: it was marked, and others may be looked at meanwhile. */
static bool mark(hk_cores *c, const sums *s, hk_core *core, hk_item *item, hk_now now)
{
    bool alone = hk_guard_solitary(core, item);
    size_t busy = s->running + s->reserved;
    if (busy >= (alone ? 1 : c->opts.workers))
        return false;
    hk_guard_mark(core, item, now, true);
    return !alone;
}

/* While something runs alone, or waits for that, nothing else starts; but all are asked, see hk_part_next. */
hk_part *hk_cores_guarded(hk_cores *c, hk_now now)
{
    for (;;) {
        hk_part *p = hk_part_next(c, now);
        const sums s = sum_up(c);
        p = s.alone ? s.alone : p;
        hk_item *item = p ? hk_core_next_item(p->core, now) : NULL;
        if (!item)
            return NULL;
        if (!hk_guard_needs(p->core, item))
            return s.running + s.reserved < c->opts.workers || HK_BUG(67) ? p : NULL;
        if (!mark(c, &s, p->core, item, now))
            return NULL;
    }
}

void hk_cores_abandon(hk_cores *c)
{
    for (size_t i = 0; i < c->n; i++)
        hk_guard_abandon(c->here[i]->core);
}

static hk_core *lowest_ahead(const hk_cores *c)
{
    hk_core *lowest = NULL;
    uint64_t seq = 0;
    for (size_t i = 0; i < c->n; i++) {
        const hk_item *item = hk_guard_ahead(c->here[i]->core);
        if (!item || (lowest && item->seq > seq))
            continue;
        lowest = c->here[i]->core;
        seq = item->seq;
    }
    return lowest;
}

void hk_cores_mark_ahead(hk_cores *c, hk_now now)
{
    const sums s = sum_up(c);
    size_t most = c->opts.workers * AHEAD_OF_EACH + AHEAD;
    hk_core *core;
    for (size_t n = s.noted; !s.alone && n < most && (core = lowest_ahead(c)); n++)
        hk_guard_mark(core, hk_guard_ahead(core), now, false);
}
