/* watch.c: one thread a bus that fails attempts whose handlers have run out of time, for consumers
 * with handler_ms: all their workers may be stuck, so nobody else would look. It is started with the
 * first such consumer and sleeps until the next attempt may run out. */
#include "bus/bus_i.h"

/* The first consumer to watch that this round has not looked at, with a hold. */
static hark_sub *next_watched(hark_bus *bus, uint64_t round)
{
    pthread_mutex_lock(&bus->lock);
    hark_sub *s = bus->subs;
    while (s && (hk_mark_get(&s->closed) || !s->consumer || s->consumer->handler_ns < 0 ||
                 s->consumer->watched == round))
        s = s->next;
    if (s) {
        s->consumer->watched = round;
        hk_sub_hold(s);
    }
    pthread_mutex_unlock(&bus->lock);
    return s;
}

/* Looks at all consumers; when to look again (mono), -1 = nothing runs. */
static int64_t look(hark_bus *bus, uint64_t round)
{
    int64_t next = -1;
    for (hark_sub *s; (s = next_watched(bus, round));) {
        int64_t due = hk_consumer_expire(s);
        if (due >= 0 && (next < 0 || due < next))
            next = due;
        hk_sub_release(s);
    }
    return next;
}

static void *watch_main(void *arg)
{
    hark_bus *bus = arg;
    for (uint64_t round = 1; hk_bus_accepts(bus); round++) {
        unsigned seen = hk_gate_look(&bus->watch);
        int64_t due = look(bus, round), wait = due < 0 ? -1 : due - hk_mono_ns();
        if (due >= 0 && wait <= 0)
            wait = 1000000; /* somebody else fails it just now */
        if (hk_bus_accepts(bus))
            (void)hk_gate_wait(&bus->watch, seen, wait);
    }
    hk_bus_thread_end(bus);
    return NULL;
}

hark_err hk_watch_start(hark_bus *bus)
{
    if (!hk_mark_move(&bus->watching, 0, 1))
        return HARK_OK;
    hark_err err = hk_bus_thread(bus, "hark-watch", watch_main, bus);
    if (err)
        hk_mark_set(&bus->watching, 0);
    return err;
}

void hk_watch_poke(hark_bus *bus)
{
    if (hk_mark_get(&bus->watching))
        hk_gate_open(&bus->watch);
}
