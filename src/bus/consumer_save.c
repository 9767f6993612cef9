/* consumer_save.c: a consumer's changes on their way to the store, and what is to be done after each step of its cores: a
 * save, threads in place of those that are stuck, its end. A save is collected when the writer's group has room for it, one
 * part for each share that has something to tell; each part has its own verdict. */
#include "bus/party_i.h"

/* ---- after a step ---------------------------------------------------------------------------- */

/* How far a share has read may wait for a while: what that means goes by the clock. */
hk_dirt hk_consumer_dirt_locked(const hk_consumer *c)
{
    hk_now now = hk_consumer_shared(c) ? hk_consumer_now(c) : (hk_now){0};
    return hk_cores_dirt(c->cores, now);
}

/* Under the lock: must the caller push the consumer to the writer, after unlocking? */
static bool needs_push(hk_consumer *c)
{
    hk_dirt dirt = c->cores && !c->stale ? hk_consumer_dirt_locked(c) : HK_CLEAN;
    if (dirt == HK_CLEAN)
        return false;
    if (c->queued) {
        if (dirt == HK_DIRTY_URGENT)
            hk_inbox_wake(&c->sub->bus->writer.inbox);
        return false;
    }
    c->queued = true;
    hk_sub_hold(c->sub);
    return true;
}

bool hk_consumer_ahead(const hk_consumer *c)
{
    return c->unsaved >= c->core_opts.window &&
           hk_mark_get(&c->sub->bus->writer.last_failed_ns) != 0;
}

/* Under the lock: is it closed, nothing runs, and nothing is left to save? */
static bool is_over(hk_consumer *c)
{
    return hk_mark_get(&c->sub->closed) == 1 && c->threads == 0 && c->running == 0 && !c->queued &&
           (!c->cores || c->stale || hk_consumer_dirt_locked(c) == HK_CLEAN ||
            hk_mark_get(&c->sub->bus->gate) == HK_CLOSED);
}

/* Without the lock. Among other processes it gives up its shares first. */
static void tell_end(hark_sub *s)
{
    if (s->bus->info.shared)
        hk_party_leave(s);
    else
        hk_sub_ended(s);
}

/* Threads in place of those that are stuck. */
static void start_threads(hk_consumer *c, size_t n)
{
    for (; n > 0; n--) {
        hark_err err = hk_consumer_thread(c->sub);
        if (err)
            hk_log(HK_WARN, "consumer %s: no thread in place of one whose handler timed out: %s",
                   c->sub->name, hark_err_text(err));
    }
}

void hk_consumer_unlock(hk_consumer *c)
{
    hark_sub *s = c->sub;
    size_t start = hk_mark_get(&s->closed) ? 0 : c->to_start;
    c->to_start = 0;
    c->threads += start;
    bool push = needs_push(c), over = !push && is_over(c);
    if (hk_consumer_shared(c) && c->cores)
        hk_shares_stepped(c);
    pthread_mutex_unlock(&c->lock);
    hk_settled_poke(&s->bus->settled);
    if (push)
        hk_writer_push(s->bus, &c->work);
    if (start)
        start_threads(c, start);
    if (over)
        tell_end(s);
}

/* It has not ended, and here it does not end: that takes the lock of the bus. */
void hk_consumer_forsake(hk_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    hk_cores_abandon(c->cores);
    bool push = needs_push(c);
    pthread_mutex_unlock(&c->lock);
    if (push)
        hk_writer_push(c->sub->bus, &c->work);
}

hk_dirt hk_consumer_dirt(hk_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    hk_dirt dirt = c->stale ? HK_DIRTY_URGENT : hk_consumer_dirt_locked(c);
    pthread_mutex_unlock(&c->lock);
    return dirt;
}

/* ---- saves ------------------------------------------------------------------------------------ */

/* More than acks of what has no row: lanes wait for it, or what may start only when that is on record. */
static bool frees_lanes(const hk_consumer *c)
{
    for (size_t i = 0; i < c->n_saves; i++)
        if (c->saves[i].n_put || c->saves[i].n_drop || c->saves[i].n_dead || c->saves[i].claimed)
            return true;
    return false;
}

hark_err hk_consumer_collect(hk_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    c->n_saves = 0;
    c->save_err = HARK_OK;
    hark_err err = c->stale
                       ? HARK_ESTALE
                       : hk_cores_collect(c->cores, hk_consumer_now(c), &c->saves, &c->n_saves);
    c->collected = !err;
    c->saving = c->unsaved;
    c->save_wakes = err || frees_lanes(c);
    for (size_t i = 0; !err && i < c->n_saves; i++) {
        c->saves[i].consumer = c->id;
        c->saves[i].generation = c->generation;
    }
    pthread_mutex_unlock(&c->lock);
    return err;
}

/* What is wrong for all of the consumer, of two. A share that is another process's is not: the cores drop it. */
static hark_err worse(hark_err a, hark_err b)
{
    if (a == HARK_ENOTFOUND || b == HARK_ESTALE)
        return a;
    return b ? b : a;
}

void hk_consumer_refused(hk_consumer *c, size_t i, hark_err err)
{
    pthread_mutex_lock(&c->lock);
    hk_cores_refused(c->cores, i, err);
    c->save_err = worse(c->save_err, err);
    pthread_mutex_unlock(&c->lock);
}

/* Of a save that was committed; the store may have given verdicts with the commit only. */
static hark_err verdict_of(const hk_consumer *c)
{
    hark_err err = c->save_err;
    for (size_t i = 0; i < c->n_saves; i++)
        err = worse(err, c->saves[i].late ? *c->saves[i].late : HARK_OK);
    return err;
}

/* Under the lock: the cores hear of it. Returns whether something of the consumer has got lost to others. */
static bool tell_cores(hk_consumer *c, hark_err *err)
{
    bool committed = !*err;
    if (!c->collected)
        return false;
    if (committed)
        *err = verdict_of(c);
    bool fenced = hk_cores_saved(c->cores, committed) > 0;
    c->n_saves = 0; /* the cores' until now */
    c->stale |= *err == HARK_ENOTFOUND;
    c->collected = false;
    if (fenced)
        hk_consumer_bereft(c);
    return fenced || *err == HARK_ENOTFOUND;
}

void hk_consumer_saved(hk_consumer *c, hark_err err)
{
    hark_sub *s = c->sub;
    pthread_mutex_lock(&c->lock);
    bool doubt = tell_cores(c, &err);
    c->queued = false;
    bool wake = err || doubt || c->unsaved >= c->core_opts.window || c->save_wakes || c->stale ||
                hk_mark_get(&s->closed);
    c->unsaved -= err ? 0 : c->saving;
    if (hk_mark_get(&s->bus->gate) == HK_CLOSED) { /* nobody will save any more */
        bool over = is_over(c);
        pthread_mutex_unlock(&c->lock);
        if (over)
            tell_end(s);
    } else {
        hk_consumer_unlock(c);
    }
    if (doubt && s->bus->info.shared)
        hk_party_doubt(s);
    if (wake)
        hk_gate_open(&s->gate);
    hk_sub_release(s);
}
