/* settle.c: how an attempt ends: by an answer, by its transaction, by time. Whoever answers late,
 * or after a reset, changes nothing. */
#include "bus/bus_i.h"

#include <stdlib.h>

/* Under the lock. */
void hk_consumer_give_slot(hk_consumer *c, hark_delivery *d)
{
    if (d->slot && c->slots) { /* else the store is closed */
        hk_guard_drop(d->slot);
        hk_slot_end(d->slot);
        c->free_slots[c->n_free_slots++] = d->slot;
    }
    d->slot = NULL;
}

/* ---- settling -------------------------------------------------------------------------------- */

static void count_verdict(hark_sub *s, hark_verdict verdict)
{
    hk_count_bump(verdict == HARK_ACK     ? &s->acked
                  : verdict == HARK_RETRY ? &s->retried
                                          : &s->rejected,
                  1);
}

static bool is_stale(const hk_consumer *c, const hark_delivery *d)
{
    return c->stale || d->generation != c->generation;
}

/* Under the lock. */
static void note_settled(hk_consumer *c, const hark_delivery *d, hark_verdict came, hk_now now)
{
    c->unsaved++;
    count_verdict(c->sub, came);
    hk_figures_settled(c, d, now);
}

/* Under the lock: a verdict for what is not settled yet. */
static hark_err settle(hk_consumer *c, hark_delivery *d, hark_verdict verdict)
{
    hark_verdict came;
    int64_t delay_ns = d->delay_ms < 0 ? -1 : hk_ms_to_ns(d->delay_ms);
    hk_now now = hk_consumer_now(c);
    hark_err err = is_stale(c, d) ? HARK_ESTALE : HARK_OK;
    /* first: a crash in between leaves the event as if it had not been started */
    hk_consumer_give_slot(c, d);
    if (!err && hk_mark_get(&c->sub->bus->gate) == HK_CLOSED) {
        hk_cores_unstart(c->cores, d->lease);
        err = HARK_ECLOSED;
    }
    if (!err)
        err = hk_cores_settle(c->cores, d->lease, verdict, delay_ns, d->error, now, &came);
    if (!err)
        note_settled(c, d, came, now);
    return err;
}

hark_err hk_consumer_settle(hark_delivery *d, hark_verdict verdict)
{
    hark_sub *s = d->sub;
    hk_consumer *c = s->consumer;
    pthread_mutex_lock(&c->lock);
    hark_err err = d->settled ? HARK_OK : settle(c, d, verdict);
    c->running--;
    hk_consumer_unlock(c);
    hk_gate_open(&s->gate); /* a lane or a place came free; a load and a step when nobody waits */
    hk_bus_running(s->bus, -1);
    return err;
}

/* Under the lock. By which right it is acked is settled now: should the share be lost before the commit, and come back,
 * the store refuses it by its token. */
static hark_err seal(hk_consumer *c, hark_delivery *d)
{
    hark_err err = d->settled || is_stale(c, d) ? HARK_ESTALE : HARK_OK;
    if (!err)
        err = hk_cores_owned(c->cores, d->lease, &d->of);
    return err ? err : hk_cores_seal(c->cores, d->lease);
}

hark_err hk_consumer_seal(hark_delivery *d, hark_errinfo *ei)
{
    hk_consumer *c = d->sub->consumer;
    pthread_mutex_lock(&c->lock);
    hark_err err = seal(c, d);
    pthread_mutex_unlock(&c->lock);
    if (!err)
        return HARK_OK;
    return hk_fail(ei, err,
                   "event %llu of consumer %s is settled, timed out%s or reset: nothing was done",
                   (unsigned long long)d->seq, d->sub->name,
                   d->sub->bus->info.shared ? ", another process's" : "");
}

/* Under the lock. */
static void unseal(hk_consumer *c, hark_delivery *d, bool committed, hk_now now)
{
    bool stale = is_stale(c, d);
    d->settled = committed;
    if (committed)
        hk_consumer_give_slot(c, d);
    if (committed && !stale && hk_cores_acked(c->cores, d->lease) == HARK_OK)
        note_settled(c, d, HARK_ACK, now);
    else if (!committed && !stale)
        hk_cores_unseal(c->cores, d->lease);
}

void hk_consumer_unseal(hark_delivery *d, bool committed)
{
    hk_consumer *c = d->sub->consumer;
    pthread_mutex_lock(&c->lock);
    unseal(c, d, committed, hk_consumer_now(c));
    hk_consumer_unlock(c);
    hk_gate_open(&d->sub->gate);
}

/* ---- settled by the transactions of one group ------------------------------------------------ */

void hk_consumer_committed(hark_delivery *d, hark_tx *tx)
{
    hk_consumer *c = d->sub->consumer;
    hk_writer *w = &d->sub->bus->writer;
    d->tx = tx;
    d->next = NULL;
    if (c->committed) {
        c->committed_last->next = d;
    } else {
        c->committed = d;
        c->next_committed = w->committed;
        w->committed = c;
    }
    c->committed_last = d;
}

/* Their lanes go on before anybody is told. Returns how many there are. */
static size_t unseal_all(hk_consumer *c, hark_delivery *all)
{
    size_t n = 0;
    hk_now now = hk_consumer_now(c);
    pthread_mutex_lock(&c->lock);
    for (hark_delivery *d = all; d; d = d->next, n++)
        unseal(c, d, true, now);
    hk_consumer_unlock(c);
    hk_gate_open(&c->sub->gate);
    return n;
}

/* Each delivery holds the subscription until it is dropped. */
static void drop_all(hark_bus *bus, hark_delivery *d)
{
    for (hark_delivery *next; d; d = next) {
        next = d->next;
        hk_delivery_clear(d);
        free(d);
        hk_bus_running(bus, -1); /* the delivery, */
        hk_bus_running(bus, -1); /* and its transaction */
    }
}

void hk_consumers_committed(hark_bus *bus)
{
    for (hk_consumer *c; (c = bus->writer.committed) != NULL;) {
        hark_delivery *all = c->committed;
        bus->writer.committed = c->next_committed;
        c->committed = NULL;
        size_t n = unseal_all(c, all);
        for (hark_delivery *d = all; d; d = d->next)
            hk_tx_tell(d->tx);
        pthread_mutex_lock(&c->lock);
        c->running -= n;
        hk_consumer_unlock(c);
        hk_gate_open(&c->sub->gate);
        drop_all(bus, all);
    }
}

hark_err hk_consumer_extend(hark_delivery *d, int64_t ms)
{
    hk_consumer *c = d->sub->consumer;
    pthread_mutex_lock(&c->lock);
    hark_err err = is_stale(c, d)
                       ? HARK_ESTALE
                       : hk_cores_extend(c->cores, d->lease, hk_mono_ns() + hk_ms_to_ns(ms));
    hk_consumer_unlock(c);
    if (!err) {
        hk_gate_open(&d->sub->gate);
        hk_watch_poke(d->sub->bus);
    }
    return err;
}

void hk_consumer_gap_done(hark_delivery *d)
{
    hk_consumer *c = d->sub->consumer;
    pthread_mutex_lock(&c->lock);
    if (!is_stale(c, d))
        hk_cores_gap_done(c->cores, d->gap_to);
    hk_consumer_unlock(c);
}

/* ---- timeouts -------------------------------------------------------------------------------- */

static void replace(hk_consumer *c, hk_worker *w)
{
    w->stuck = true;
    c->stuck++;
    if (c->threads + c->to_start < 2 * c->workers)
        c->to_start++;
}

/* Under the lock: the thread whose handler has this lease gets a successor. */
static void note_stuck(hk_consumer *c, hk_lease lease)
{
    for (hk_worker *w = c->workers_first; w; w = w->next)
        if (w->busy && !w->stuck && w->generation == c->generation &&
            hk_lease_same(w->lease, lease))
            replace(c, w);
}

void hk_consumer_outlived(hk_consumer *c)
{
    for (hk_worker *w = c->workers_first; w; w = w->next)
        if (w->busy && !w->stuck)
            replace(c, w);
}

void hk_consumer_bereft(hk_consumer *c)
{
    hark_store_owned of;
    for (hk_worker *w = c->workers_first; w; w = w->next)
        if (w->busy && !w->stuck && w->generation == c->generation &&
            hk_cores_owned(c->cores, w->lease, &of))
            replace(c, w);
}

/* Under the lock. */
void hk_consumer_timeouts(hk_consumer *c)
{
    hk_lease lease;
    uint64_t seq;
    hark_verdict verdict;
    while (!c->stale && hk_cores_expire(c->cores, hk_consumer_now(c), &lease, &seq, &verdict)) {
        hk_log(HK_WARN, "consumer %s: no answer to event %llu within its time", c->sub->name,
               (unsigned long long)seq);
        hk_count_bump(&c->sub->timed_out, 1);
        count_verdict(c->sub, verdict);
        note_stuck(c, lease);
        hk_gate_open(&c->sub->gate);
    }
}

int64_t hk_consumer_expire(hark_sub *s)
{
    hk_consumer *c = s->consumer;
    pthread_mutex_lock(&c->lock);
    hk_consumer_timeouts(c);
    int64_t due = c->handler_ns >= 0 && !c->stale ? hk_cores_due(c->cores) : -1;
    hk_consumer_unlock(c);
    return due;
}
