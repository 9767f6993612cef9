/* cores.c: which shares are here, what they read, and which of them starts the next delivery. What
 * ends an attempt is in cores_end.c, saving in cores_save.c, what people ask in cores_facts.c. */
#include "delivery/cores_i.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

hk_cores *hk_cores_new(const hk_core_opts *opts, uint32_t shares)
{
    assert(shares >= 1 && shares <= HARK_SHARES_MAX);
    hk_cores *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->opts = *opts;
    c->opts.shares = c->shares = shares;
    c->read_at = c->seen = INT64_MIN;
    c->by_share = calloc(shares, sizeof *c->by_share);
    c->here = calloc(shares, sizeof *c->here);
    c->flight = calloc(shares, sizeof *c->flight);
    c->saves = calloc(shares, sizeof *c->saves);
    c->verdicts = calloc(shares, sizeof *c->verdicts);
    if (c->by_share && c->here && c->flight && c->saves && c->verdicts)
        return c;
    hk_cores_free(c);
    return NULL;
}

void hk_part_free(hk_part *p)
{
    hk_core_free(p->core);
    free(p);
}

void hk_cores_free(hk_cores *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_flight; i++)
        if (c->flight[i]->gone)
            hk_part_free(c->flight[i]);
    for (size_t i = 0; i < c->n; i++)
        hk_part_free(c->here[i]);
    free(c->by_share);
    free(c->here);
    free(c->flight);
    free(c->saves);
    free(c->verdicts);
    free(c);
}

/* ---- whose ----------------------------------------------------------------------------------- */

static size_t place_of(const hk_cores *c, uint32_t share)
{
    size_t i = 0;
    while (i < c->n && c->here[i]->of.share < share)
        i++;
    return i;
}

void hk_part_remove(hk_cores *c, hk_part *p)
{
    size_t i = place_of(c, p->of.share);
    memmove(c->here + i, c->here + i + 1, (--c->n - i) * sizeof(hk_part *));
    c->by_share[p->of.share] = NULL;
    p->gone = true;
    if (!p->saving)
        hk_part_free(p);
}

static void insert(hk_cores *c, hk_part *p)
{
    size_t i = place_of(c, p->of.share);
    memmove(c->here + i + 1, c->here + i, (c->n++ - i) * sizeof(hk_part *));
    c->here[i] = c->by_share[p->of.share] = p;
}

static hk_part *part_new(hk_cores *c, hark_store_owned of, const hark_store_consumer *state,
                         hk_reach reach, hk_now now)
{
    hk_core_opts o = c->opts;
    o.seed += c->life * UINT64_C(0x9E3779B97F4A7C15); /* not all the same pauses */
    hk_part *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    *p = (hk_part){.of = of, .core = hk_core_new(&o)};
    if (!p->core || hk_core_load(p->core, state, now) != HARK_OK) {
        hk_part_free(p);
        return NULL;
    }
    if (of.token)
        hk_core_guard(p->core, reach.claimed, reach.suspect);
    return p;
}

/* Of what is being closed nothing starts any more where that would have to be on record. */
static void pause(const hk_cores *c, hk_part *p)
{
    hk_core_pause(p->core, c->opts.paused || p->leaving || (c->finishing && p->of.token));
}

hark_err hk_cores_claim(hk_cores *c, hark_store_owned of, const hark_store_consumer *state,
                        hk_reach reach, hk_now now)
{
    assert(of.share < c->shares);
    hk_part *p = part_new(c, of, state, reach, now);
    if (!p)
        return HARK_ENOMEM;
    hk_cores_drop(c, of.share);
    p->life = ++c->life ? c->life : ++c->life; /* a lease is never all zero */
    insert(c, p);
    pause(c, p);
    c->guarded |= of.token != 0;
    hk_core_gap_done(p->core, c->gap_done);
    c->gap_done = 0;
    return HARK_OK;
}

void hk_cores_leave(hk_cores *c, uint32_t share, bool leave)
{
    hk_part *p = hk_part_at(c, share);
    if (!p)
        return;
    p->leaving = leave;
    pause(c, p);
}

bool hk_cores_dry(const hk_cores *c, uint32_t share)
{
    const hk_part *p = hk_part_at(c, share);
    if (HK_BUG(65) && p && p->leaving)
        return true;
    return p && p->leaving && !p->saving && p->core->n_running == 0 &&
           hk_core_dirt(p->core) == HK_CLEAN;
}

void hk_cores_drop(hk_cores *c, uint32_t share)
{
    hk_part *p = hk_part_at(c, share);
    if (p)
        hk_part_remove(c, p);
}

size_t hk_cores_count(const hk_cores *c)
{
    return c->n;
}

bool hk_cores_has(const hk_cores *c, uint32_t share, uint64_t *ret_token)
{
    const hk_part *p = hk_part_at(c, share);
    if (p && ret_token)
        *ret_token = p->of.token;
    return p != NULL;
}

hark_store_owned hk_cores_at(const hk_cores *c, size_t i)
{
    assert(i < c->n);
    return c->here[i]->of;
}

hark_err hk_cores_owned(const hk_cores *c, hk_lease lease, hark_store_owned *ret)
{
    const hk_part *p = hk_part_leased(c, lease);
    if (!p || !hk_lease_item(p->core, lease))
        return HARK_ESTALE;
    *ret = p->of;
    return HARK_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

static size_t left(size_t used, size_t most)
{
    return used < most ? most - used : 0;
}

size_t hk_cores_room(const hk_cores *c)
{
    hk_core_counts sum = {0};
    bool reads = false;
    for (size_t i = 0; i < c->n; i++) {
        hk_core_counts x = hk_core_counts_get(c->here[i]->core);
        sum.in_memory += HK_BUG(15) ? 0 : x.in_memory;
        sum.deferred += HK_BUG(14) ? 0 : x.deferred;
        reads |= !c->here[i]->leaving;
    }
    size_t memory = left(sum.in_memory, c->opts.window);
    size_t ledger = left(sum.deferred, c->opts.max_deferred);
    return !reads ? 0 : memory < ledger ? memory : ledger;
}

/* A page that began behind what the share has read does not concern it: it came meanwhile. */
static bool follows(const hk_part *p, uint64_t after)
{
    return !p->leaving && (hk_core_covered(p->core) >= after || HK_BUG(66));
}

hark_err hk_cores_arrive(hk_cores *c, uint64_t after, uint64_t seq, const char *key, void *payload,
                         hk_now now, bool *ret_kept)
{
    hk_part *p = hk_part_of(c, seq, key);
    *ret_kept = false;
    if (!p || !follows(p, after) || seq <= hk_core_covered(p->core))
        return HARK_OK;
    return hk_core_arrive(p->core, seq, key, payload, now, ret_kept);
}

void hk_cores_cover(hk_cores *c, uint64_t after, uint64_t upto)
{
    for (size_t i = 0; i < c->n; i++)
        if (follows(c->here[i], after))
            hk_core_cover(c->here[i]->core, upto);
}

uint64_t hk_cores_covered(const hk_cores *c)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < c->n; i++) {
        uint64_t covered = hk_core_covered(c->here[i]->core);
        if (!c->here[i]->leaving && covered < least)
            least = covered;
    }
    return least;
}

/* ---- what starts ----------------------------------------------------------------------------- */

void hk_cores_pause(hk_cores *c, bool paused)
{
    c->opts.paused = paused;
    for (size_t i = 0; i < c->n; i++)
        pause(c, c->here[i]);
}

void hk_cores_end_replay(hk_cores *c)
{
    for (size_t i = 0; i < c->n; i++)
        hk_core_end_replay(c->here[i]->core);
}

/* A gap is the consumer's, and the store keeps the highest that any share tells. */
void hk_cores_gap_done(hk_cores *c, uint64_t upto)
{
    if (c->n)
        hk_core_gap_done(c->here[0]->core, upto);
    else if (upto > c->gap_done)
        c->gap_done = upto;
}

/* The one whose next sequence is the lowest. All are asked, also when no place is free: what is due
 * wakes, and does not keep on being due. */
hk_part *hk_part_next(hk_cores *c, hk_now now)
{
    hk_part *next = NULL;
    uint64_t lowest = 0;
    size_t running = 0, extra = 0;
    for (size_t i = 0; i < c->n; i++) {
        hk_part *p = c->here[i];
        uint64_t seq = hk_core_next(p->core, now);
        running += p->core->n_running;
        extra += p->core->n_extra; /* dead letters that cannot be saved are not piled up */
        if (seq && (!next || (seq < lowest && !HK_BUG(68)))) {
            next = p;
            lowest = seq;
        }
    }
    bool room = running < c->opts.workers || HK_BUG(67);
    return room && extra < c->opts.window ? next : NULL;
}

bool hk_cores_start(hk_cores *c, hk_now now, int64_t until, hk_started *ret)
{
    c->seen = now.mono;
    hk_part *p = c->guarded ? hk_cores_guarded(c, now)
                 : c->n > 1 ? hk_part_next(c, now)
                 : c->n     ? c->here[0]
                            : NULL;
    if (!p || !hk_core_start(p->core, now, until, ret))
        return false;
    ret->lease = hk_part_lease(p, ret->lease);
    return true;
}

void hk_cores_finish(hk_cores *c)
{
    c->finishing = true;
    for (size_t i = 0; i < c->n; i++)
        pause(c, c->here[i]);
}

static int64_t earlier(int64_t a, int64_t b)
{
    if (a < 0 || b < 0)
        return a < 0 ? b : a;
    return a < b ? a : b;
}

int64_t hk_cores_due(const hk_cores *c)
{
    int64_t due = hk_cores_read_due(c);
    for (size_t i = 0; i < c->n; i++)
        due = earlier(due, hk_core_due(c->here[i]->core));
    return due;
}
