/* guard.c: the crash guard of a share. A process that dies tells nothing any more, so what may start is said before: nothing
 * above `claimed` starts, and saves raise that well ahead. The next owner knows from it what may have been running: all that is
 * not settled up to `suspect`; and what was interrupted before, which also a share given up in order does not forget. Of
 * those, one starts only when it is on record (MARKING) with an interruption more. When it ends in order that is taken
 * back; else it stays, and at the limit there is a dead letter.
 *
 * Suspects are marked when they would start. Some are marked ahead, as each would wait for a commit otherwise: only those
 * that were never interrupted, for which it counts once at most, should they never run. One that was interrupted half as often
 * as it may be runs alone until its end is committed, so that it does not die of its neighbours: see cores_guard.c. */
#include "delivery/delivery_i.h"

enum { AHEAD = 4096 };

void hk_core_guard(hk_core *c, uint64_t claimed, uint64_t suspect)
{
    c->guard = (hk_guard){.on = true, .claimed = claimed, .suspect = HK_BUG(81) ? 0 : suspect};
    for (hk_item *item = c->all; item; item = item->all_next)
        hk_guard_loaded(c, item);
}

/* ---- how far --------------------------------------------------------------------------------- */

static uint64_t ahead(const hk_core *c)
{
    return c->opts.claim_ahead ? c->opts.claim_ahead : AHEAD;
}

bool hk_guard_admits(hk_core *c, const hk_item *item)
{
    hk_guard *g = &c->guard;
    if (item->seq <= g->claimed || HK_BUG(84))
        return true;
    if (item->seq > g->wanted)
        g->wanted = item->seq;
    c->urgent |= g->wanted > g->raised;
    return false;
}

/* Before half of it is used up, along with whatever is saved: so nothing waits for it. */
uint64_t hk_guard_collect(hk_core *c)
{
    hk_guard *g = &c->guard;
    uint64_t base = c->covered > g->wanted ? c->covered : g->wanted;
    g->ending_saved = g->ending;
    if (!g->on || g->claimed >= base + ahead(c) / 2)
        return 0;
    g->raised = base + ahead(c);
    if (HK_BUG(85))
        g->claimed = g->raised;
    return g->raised;
}

void hk_guard_saved(hk_core *c, bool ok)
{
    hk_guard *g = &c->guard;
    if (ok && g->raised > g->claimed)
        g->claimed = g->raised;
    if (ok && g->ending_saved)
        g->ending = false;
    g->raised = 0;
    g->ending_saved = false;
    c->urgent |= g->wanted > g->claimed || g->ending;
}

/* ---- suspects -------------------------------------------------------------------------------- */

bool hk_guard_needs(const hk_core *c, const hk_item *item)
{
    return item->suspect && !item->noted && !hk_core_doom(c, item);
}

bool hk_guard_solitary(const hk_core *c, const hk_item *item)
{
    int64_t most = c->opts.max_interruptions;
    return most > 0 && item->interruptions >= most - most / 2 && !HK_BUG(87);
}

void hk_guard_mark(hk_core *c, hk_item *item, hk_now now, bool urgent)
{
    hk_guard *g = &c->guard;
    hk_core_unready(c, item);
    hk_item_move(c, item, HK_MARKING);
    item->noted = true;
    item->reserved = urgent;
    g->n_marking++;
    g->n_noted++;
    g->n_reserved += urgent;
    if (urgent && hk_guard_solitary(c, item))
        g->alone = item;
    if (!item->first_wall)
        item->first_wall = now.wall;
    hk_item_dirty(c, item);
    c->urgent |= urgent;
    if (HK_BUG(82))
        hk_core_ready(c, item);
}

/* Not what waits for a replay's pace: it may wait for long. */
hk_item *hk_guard_ahead(hk_core *c)
{
    hk_item *item = c->paused ? NULL : hk_heap_top(&c->ready);
    bool may = item && item->seq <= c->guard.claimed && hk_guard_needs(c, item);
    return may && !item->interruptions && !hk_guard_solitary(c, item) ? item : NULL;
}

void hk_guard_marked(hk_core *c, hk_item *item)
{
    c->guard.n_marking--;
    c->guard.n_reserved -= item->reserved;
    item->reserved = false;
}

void hk_guard_forget(hk_core *c, hk_item *item)
{
    c->guard.n_noted -= item->noted;
    item->noted = false;
    if (c->guard.alone == item)
        c->guard.alone = NULL;
}

/* Nothing runs beside one that was alone until it is on record that it is interrupted no more. */
static void stays_alone(hk_core *c, const hk_item *item)
{
    if (c->guard.alone == item)
        c->guard.ending = c->urgent = true;
}

void hk_guard_ended(hk_core *c, hk_item *item)
{
    item->suspect = false;
    stays_alone(c, item);
    if (item->noted && !HK_BUG(83))
        hk_guard_forget(c, item);
}

static void unmark(hk_core *c, hk_item *item)
{
    if (!HK_BUG(88))
        stays_alone(c, item);
    hk_guard_forget(c, item);
    if (item->state == HK_MARKING)
        hk_core_ready(c, item);
    if (!item->attempts && !item->crashes && !item->interruptions)
        item->first_wall = 0;
    hk_item_dirty(c, item);
}

void hk_guard_rest(hk_core *c)
{
    if (c->guard.n_noted == 0 || HK_BUG(86))
        return;
    for (hk_item *item = c->all; item; item = item->all_next)
        if (item->noted && item->state != HK_RUNNING)
            unmark(c, item);
}

void hk_guard_abandon(hk_core *c)
{
    for (hk_item *item = c->all; item; item = item->all_next)
        if (item->noted)
            unmark(c, item);
}
