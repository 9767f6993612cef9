/* lease.c: which attempt a place holds. A place is used again at once; the token tells a late call
 * for the attempt before. What the end of an attempt means is in end.c. */
#include "delivery/delivery_i.h"

#include <assert.h>
#include <stdlib.h>

bool hk_places_new(hk_core *c)
{
    c->soonest = -1;
    c->places = calloc(c->opts.workers + 1, sizeof *c->places);
    c->order = calloc(c->opts.workers + 1, sizeof *c->order);
    if (!c->places || !c->order)
        return false;
    for (size_t i = 0; i < c->opts.workers; i++)
        c->order[i] = c->places[i].at = i;
    return true;
}

/* Looks for the earliest end again: rare, as most leases that are ended were not the earliest. */
static void find_soonest(hk_core *c)
{
    c->soonest = -1;
    for (size_t i = 0; i < c->n_running; i++) {
        int64_t until = c->places[c->order[i]].until;
        if (until >= 0 && (c->soonest < 0 || until < c->soonest))
            c->soonest = until;
    }
}

/* It does not run before the bytes are there: a dead letter would have none. Nor while its commit
 * is under way: it may be settled already. */
static void set_until(hk_core *c, hk_place *p, int64_t until)
{
    int64_t old = p->until;
    p->wanted = until;
    if (until < 0 || !p->item || !p->item->payload || p->sealed)
        until = -1;
    p->until = until;
    if (old >= 0 && old == c->soonest)
        find_soonest(c);
    else if (until >= 0 && (c->soonest < 0 || until < c->soonest))
        c->soonest = until;
}

hk_lease hk_lease_begin(hk_core *c, hk_item *item, int64_t until)
{
    assert(c->n_running < c->opts.workers);
    size_t place = c->order[c->n_running++];
    c->places[place].item = item;
    c->places[place].token = ++c->token;
    c->places[place].extended = c->places[place].sealed = false;
    c->places[place].until = -1;
    set_until(c, &c->places[place], until);
    return (hk_lease){.place = place, .token = c->token};
}

hk_item *hk_lease_item(const hk_core *c, hk_lease lease)
{
    if (lease.place >= c->opts.workers)
        return NULL;
    const hk_place *p = &c->places[lease.place];
    return p->token == lease.token || HK_BUG(8) ? p->item : NULL;
}

void hk_lease_end(hk_core *c, hk_lease lease)
{
    hk_place *p = &c->places[lease.place];
    size_t last = --c->n_running, other = c->order[last];
    c->order[last] = lease.place;
    c->order[p->at] = other;
    c->places[other].at = p->at;
    p->at = last;
    p->item = NULL;
    set_until(c, p, -1);
}

hark_err hk_core_extend(hk_core *c, hk_lease lease, int64_t until)
{
    if (!hk_lease_item(c, lease))
        return HARK_ESTALE;
    c->places[lease.place].extended = true;
    if (HK_BUG(56))
        c->places[lease.place].sealed = false;
    if (!HK_BUG(24))
        set_until(c, &c->places[lease.place], until);
    return HARK_OK;
}

void hk_core_keep(hk_core *c, hk_lease lease, int64_t until)
{
    if (hk_lease_item(c, lease) && !c->places[lease.place].extended)
        set_until(c, &c->places[lease.place], until);
}

hark_err hk_core_seal(hk_core *c, hk_lease lease)
{
    if (!hk_lease_item(c, lease) || c->places[lease.place].sealed)
        return HARK_ESTALE;
    hk_place *p = &c->places[lease.place];
    p->sealed = !HK_BUG(46);
    set_until(c, p, p->wanted);
    return HARK_OK;
}

void hk_core_unseal(hk_core *c, hk_lease lease)
{
    if (!hk_lease_item(c, lease))
        return;
    hk_place *p = &c->places[lease.place];
    p->sealed = false;
    set_until(c, p, HK_BUG(47) ? -1 : p->wanted);
}

hark_err hk_core_payload_set(hk_core *c, hk_lease lease, void *payload)
{
    hk_item *item = hk_lease_item(c, lease);
    if (!item)
        return HARK_ESTALE;
    hk_item_payload_set(c, item, payload);
    set_until(c, &c->places[lease.place], c->places[lease.place].wanted);
    return HARK_OK;
}

void *hk_core_payload(const hk_core *c, hk_lease lease)
{
    const hk_item *item = hk_lease_item(c, lease);
    return item ? item->payload : NULL;
}

uint64_t hk_core_running(const hk_core *c, size_t i)
{
    return i < c->n_running ? c->places[c->order[i]].item->seq : 0;
}
