/* sweep.c: consumers whose pattern does not match the newest events. Dispatch wakes only whom an event concerns; the others
 * would not see how far the log goes, so their floors, which lag and retention go by, would stay behind until an event
 * of theirs comes. The writer wakes them when nothing was shown for a while, and now and then while events come all the time; never
 * while none do. What they then find to be of no concern is saved as any state, and so this is not to be done often. */
#include "bus/bus_i.h"

#define QUIET_NS INT64_C(250000000)
#define MOST_NS  INT64_C(5000000000)

void hk_sweep_begin(hark_bus *bus)
{
    hk_mark_set(&bus->dispatch.unswept, 1);
    hk_inbox_wake(&bus->writer.inbox);
}

/* Does it have room for what it has not looked at? */
static bool lags(hk_consumer *c, uint64_t visible)
{
    pthread_mutex_lock(&c->lock);
    bool lags = !c->stale && hk_cores_room(c->cores) > 0 && hk_cores_covered(c->cores) < visible;
    pthread_mutex_unlock(&c->lock);
    return lags;
}

static void sweep(hark_bus *bus)
{
    uint64_t visible = hk_bus_visible(bus);
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next)
        if (!hk_mark_get(&s->closed) && s->consumer && lags(s->consumer, visible))
            hk_gate_open(&s->gate);
    pthread_mutex_unlock(&bus->lock);
}

/* The mark goes down long before the sweep: who finds it up, and leaves it to that sweep, has shown its events by then. */
int64_t hk_sweep_turn(hark_bus *bus)
{
    hk_writer *w = &bus->writer;
    int64_t now = hk_mono_ns();
    if (bus->info.live_only)
        return -1;
    bool due = w->sweep_at && now >= w->sweep_at, more = hk_mark_get(&bus->dispatch.unswept);
    if (due && (!more || now >= w->sweep_by)) {
        w->sweep_at = 0;
        sweep(bus);
    }
    if (more && (due || !w->sweep_at)) {
        hk_mark_set(&bus->dispatch.unswept, 0);
        w->sweep_by = w->sweep_at ? w->sweep_by : now + MOST_NS;
        w->sweep_at = now + QUIET_NS;
    }
    return w->sweep_at ? w->sweep_at - now : -1;
}
