/* cores_save.c: what of the shares a commit must change: a save for each of them that has changed,
 * with a verdict each. */
#include "delivery/cores_i.h"

#include <assert.h>

/* How far shares have read is saved so often, and no oftener, when nothing else is new. */
#define READ_NS INT64_C(1000000000)

/* Nothing is new of it but how far it has read, and that may wait. */
static bool may_wait(const hk_cores *c, const hk_part *p)
{
    return c->shares > 1 && !c->finishing && !p->leaving && hk_core_only_read(p->core);
}

static hk_dirt dirt_of(const hk_cores *c, const hk_part *p, hk_now now)
{
    hk_dirt dirt = hk_core_dirt(p->core);
    bool waits = now.mono < c->read_at || HK_BUG(78);
    return dirt && waits && may_wait(c, p) ? HK_CLEAN : dirt;
}

hk_dirt hk_cores_dirt(const hk_cores *c, hk_now now)
{
    hk_dirt most = HK_CLEAN;
    for (size_t i = 0; i < c->n && most != HK_DIRTY_URGENT; i++) {
        hk_dirt dirt = dirt_of(c, c->here[i], now);
        most = dirt > most ? dirt : most;
    }
    return most;
}

/* Once that is in the past hk_cores_dirt tells it, and waiting for it would be over at once. */
int64_t hk_cores_read_due(const hk_cores *c)
{
    for (size_t i = 0; c->read_at > c->seen && i < c->n; i++)
        if (may_wait(c, c->here[i]))
            return c->read_at;
    return -1;
}

static hark_err collect(hk_cores *c, hk_part *p)
{
    hark_store_save *save = &c->saves[c->n_flight];
    hark_err err = hk_core_collect(p->core, save);
    if (err)
        return err;
    hark_err *verdict = &c->verdicts[c->n_flight];
    *verdict = HARK_OK;
    save->share = p->of.share;
    save->token = p->of.token;
    save->late = save->n_dead ? NULL : verdict; /* dead letters are announced in the same group */
    p->saving = true;
    c->flight[c->n_flight++] = p;
    return HARK_OK;
}

hark_err hk_cores_collect(hk_cores *c, hk_now now, hark_store_save **ret, size_t *ret_n)
{
    assert(c->n_flight == 0);
    hark_err err = HARK_OK;
    bool read = false;
    if (c->guarded)
        hk_cores_mark_ahead(c, now);
    for (size_t i = 0; !err && i < c->n; i++) {
        if (dirt_of(c, c->here[i], now) == HK_CLEAN)
            continue;
        read |= may_wait(c, c->here[i]);
        err = collect(c, c->here[i]);
    }
    if (err) {
        (void)hk_cores_saved(c, false);
        return err;
    }
    if (read)
        c->read_at = now.mono + READ_NS;
    *ret = c->saves;
    *ret_n = c->n_flight;
    return HARK_OK;
}

void hk_cores_refused(hk_cores *c, size_t i, hark_err err)
{
    assert(i < c->n_flight);
    c->verdicts[i] = err;
}

/* True: it is another process's. A group that was not committed has told that no less. */
static bool saved(hk_cores *c, hk_part *p, hark_err verdict, bool committed)
{
    p->saving = false;
    if (p->gone && !HK_BUG(69)) {
        hk_part_free(p);
        return false;
    }
    hk_core_saved(p->core, committed && (!verdict || HK_BUG(70)));
    if (verdict != HARK_ESTALE || HK_BUG(71))
        return false;
    hk_part_remove(c, p);
    return true;
}

size_t hk_cores_saved(hk_cores *c, bool committed)
{
    size_t dropped = 0, n = c->n_flight;
    c->n_flight = 0;
    for (size_t i = 0; i < n; i++)
        dropped += saved(c, c->flight[i], c->verdicts[i], committed);
    return dropped;
}
