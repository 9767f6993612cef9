/* shares.c: what a consumer has of itself in this process: the question to the store, and its answer carried out on the cores
 * (hk_cores), both under `admin`. It asks nobody and waits for nothing; party.c does. */
#include "bus/party_i.h"

#include <stdlib.h>
#include <string.h>

/* How far ahead a redrive of another process is believed to be: clocks differ, and jump. */
#define FARTHEST_NS (INT64_C(3600) * 1000000000)

/* ---- which shares leave ---------------------------------------------------------------------- */

static bool leaves(const hk_member *m, uint32_t share)
{
    return share < HARK_SHARES_MAX && (m->leaving[share / 64] >> share % 64 & 1);
}

static void set_leaving(hk_member *m, uint32_t share, bool on)
{
    uint64_t bit = UINT64_C(1) << share % 64;
    if (share >= HARK_SHARES_MAX)
        return;
    m->leaving[share / 64] = on ? m->leaving[share / 64] | bit : m->leaving[share / 64] & ~bit;
    m->any_leaving = false;
    for (size_t i = 0; i < HK_COUNTOF(m->leaving); i++)
        m->any_leaving |= m->leaving[i] != 0;
}

/* Those that nothing runs of any more and that are saved, into `ret` (NULL: only counted). */
static size_t dry_ones(const hk_consumer *c, hark_store_owned *ret)
{
    size_t n = 0, here = c->member.any_leaving ? hk_cores_count(c->cores) : 0;
    for (size_t i = 0; i < here; i++) {
        hark_store_owned o = hk_cores_at(c->cores, i);
        if (!leaves(&c->member, o.share) || !hk_cores_dry(c->cores, o.share))
            continue;
        if (ret)
            ret[n] = o;
        n++;
    }
    return n;
}

void hk_shares_stepped(hk_consumer *c)
{
    if (!c->member.any_leaving || c->member.dry_told || dry_ones(c, NULL) == 0)
        return;
    c->member.dry_told = true;
    hk_party_doubt(c->sub);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* Under the lock. */
static hark_err to_release(hk_consumer *c, hark_store_shares *x)
{
    hk_member *m = &c->member;
    size_t n = dry_ones(c, NULL) + m->n_unheld;
    hark_store_owned *list = n ? malloc(n * sizeof *list) : NULL;
    if (!list)
        return n ? HARK_ENOMEM : HARK_OK;
    x->n_release = dry_ones(c, list);
    memcpy(list + x->n_release, m->unheld, m->n_unheld * sizeof *list);
    x->n_release += m->n_unheld;
    x->release = list;
    return HARK_OK;
}

/* Under the lock. A reset, here or elsewhere, leaves nothing of this. */
static void forget_if_reset(hk_consumer *c)
{
    hk_member *m = &c->member;
    if (m->generation == c->generation)
        return;
    m->generation = c->generation;
    memset(m->leaving, 0, sizeof m->leaving);
    m->any_leaving = false;
    m->n_unheld = 0;
    m->gap_to = 0;
}

/* One that was reset elsewhere asks with a generation that no consumer has: whatever it had, it has not after that. */
hark_err hk_shares_ask(hark_sub *s, hark_store_shares *x)
{
    hk_consumer *c = s->consumer;
    hark_err err = HARK_OK;
    pthread_mutex_lock(&c->lock);
    *x = (hark_store_shares){.size = sizeof *x,
                             .consumer = c->id,
                             .generation = c->stale ? 0 : c->generation,
                             .news_done = c->news_done};
    forget_if_reset(c);
    if (!c->stale)
        err = to_release(c, x);
    c->member.dry_told = false;
    pthread_mutex_unlock(&c->lock);
    return err;
}

/* ---- another generation ---------------------------------------------------------------------- */

/* Under the lock. Until it is done nothing starts and nothing is saved. The gap that a reset may bring is told with the first
 * share (take_gap). */
static hark_err begin_anew(hk_consumer *c, const hark_store_shares *x, hk_cores **ret_old,
                           bool *ret_again)
{
    const hark_store_consumer state = {.size = sizeof state,
                                       .ret_id = c->id,
                                       .ret_generation = x->ret_generation,
                                       .ret_paused = x->ret_paused,
                                       .ret_rerun = x->ret_rerun};
    *ret_again = true;
    c->stale = true;
    if (c->collected) /* the writer uses arrays of the old one */
        return HARK_OK;
    return hk_consumer_anew(c, &state, ret_old);
}

/* ---- the answer ------------------------------------------------------------------------------ */

static bool among(const hark_store_owned *list, size_t n, hark_store_owned o)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].share == o.share && list[i].token == o.token)
            return true;
    return false;
}

static bool is_given(const hark_store_shares *x, uint32_t share)
{
    for (size_t i = 0; i < x->n_give; i++)
        if (x->give[i] == share)
            return true;
    return false;
}

static bool is_here(const hk_consumer *c, hark_store_owned o)
{
    uint64_t token;
    return hk_cores_has(c->cores, o.share, &token) && token == o.token;
}

/* A list of its own: dropping moves them. */
static size_t all_here(const hk_consumer *c, hark_store_owned ret[HARK_SHARES_MAX])
{
    size_t n = hk_cores_count(c->cores);
    n = n < HARK_SHARES_MAX ? n : HARK_SHARES_MAX;
    for (size_t i = 0; i < n; i++)
        ret[i] = hk_cores_at(c->cores, i);
    return n;
}

static void drop(hk_consumer *c, uint32_t share)
{
    hk_cores_drop(c->cores, share);
    set_leaving(&c->member, share, false);
}

/* What is no longer ours goes; of what is, some shares begin to leave, and some need not any more. Returns whether
 * anything changed. */
static bool take_owned(hk_consumer *c, const hark_store_shares *x)
{
    hark_store_owned here[HARK_SHARES_MAX];
    size_t n = all_here(c, here), lost = 0;
    bool changed = false;
    for (size_t i = 0; i < n; i++) {
        uint32_t share = here[i].share;
        bool given = is_given(x, share);
        if (!among(x->owned, x->n_owned, here[i])) {
            lost += !among(x->release, x->n_release, here[i]);
            drop(c, share);
            changed = true;
        } else if (given != leaves(&c->member, share)) {
            hk_cores_leave(c->cores, share, given);
            set_leaving(&c->member, share, given);
            changed = true;
        }
    }
    if (!lost)
        return changed;
    hk_consumer_bereft(c); /* no time limit ends what still runs of them */
    hk_log(HK_INFO, "consumer %s: %zu of its shares are another process's now", c->sub->name, lost);
    return changed;
}

/* Those for which there is no memory are given back (see take_unheld), and come again. */
static bool take_claims(hk_consumer *c, const hark_store_shares *x, hk_now now)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < x->n_claimed; i++) {
        const hark_store_claim *got = &x->claimed[i];
        const hark_store_consumer state = {.size = sizeof state,
                                           .ret_id = c->id,
                                           .ret_generation = x->ret_generation,
                                           .ret_floor = got->floor,
                                           .ret_highest = got->highest,
                                           .ret_settled = got->settled,
                                           .ret_n_settled = got->n_settled,
                                           .ret_rows = got->rows,
                                           .ret_n_rows = got->n_rows,
                                           .ret_paused = x->ret_paused,
                                           .ret_rerun = x->ret_rerun};
        const hark_store_owned of = {.share = got->share, .token = got->token};
        const hk_reach reach = {.claimed = got->claimed, .suspect = got->suspect};
        hark_err one =
            of.share < c->shares ? hk_cores_claim(c->cores, of, &state, reach, now) : HARK_ECORRUPT;
        set_leaving(&c->member, got->share, false);
        err = one ? one : err;
    }
    if (err)
        hk_log(HK_WARN, "consumer %s: a share of it could not be taken over, it is given back: %s",
               c->sub->name, hark_err_text(err));
    return x->n_claimed > 0;
}

static bool note_unheld(hk_consumer *c, hark_store_owned o)
{
    hk_member *m = &c->member;
    if (is_here(c, o))
        return false;
    if (m->n_unheld < HK_UNHELD_MAX) /* the rest is found the next time */
        m->unheld[m->n_unheld++] = o;
    return true;
}

/* What the store says is ours and is not here: of a consumer of this name that was closed while the store did not answer, or
 * there was no memory. It is given back with the next question, and then comes in the state in which it is. */
static void take_unheld(hk_consumer *c, const hark_store_shares *x, bool *ret_again)
{
    c->member.n_unheld = 0;
    for (size_t i = 0; i < x->n_owned; i++)
        *ret_again |= note_unheld(c, x->owned[i]);
    for (size_t i = 0; i < x->n_claimed; i++) {
        const hark_store_owned o = {.share = x->claimed[i].share, .token = x->claimed[i].token};
        (void)note_unheld(c, o);
    }
}

/* ---- news ------------------------------------------------------------------------------------ */

static hark_err take_redriven(hk_consumer *c, const hark_store_news *n, hk_now now)
{
    int64_t wait = n->due_ns > now.wall ? n->due_ns - now.wall : 0;
    wait = wait < FARTHEST_NS ? wait : FARTHEST_NS;
    return hk_cores_redriven(c->cores, n->sequence, n->key, now.mono + wait, n->due_ns);
}

/* One of them. HARK_EAGAIN: the core has yet to hear that the dead letter it made is committed. */
static hark_err take_one_news(hk_consumer *c, const hark_store_news *n, hk_now now)
{
    hk_stage stage;
    if (!hk_cores_stage(c->cores, n->sequence, n->key, &stage))
        return HARK_OK; /* whose share it is by now has it in its rows */
    if (stage == HK_STAGE_OPEN && c->collected)
        return HARK_EAGAIN;
    if (n->kind == HARK_NEWS_DISCARDED)
        hk_cores_discarded(c->cores, n->sequence, n->key);
    else if (n->kind == HARK_NEWS_REDRIVEN &&
             stage != HK_STAGE_OPEN) /* else it came with a claim */
        return take_redriven(c, n, now);
    return HARK_OK;
}

static bool take_news(hk_consumer *c, const hark_store_shares *x, hk_now now)
{
    hark_err err = HARK_OK;
    bool changed = false;
    for (size_t i = 0; i < x->n_news && !err; i++) {
        if (x->news[i].id <= c->news_done)
            continue;
        err = take_one_news(c, &x->news[i], now);
        if (!err)
            c->news_done = x->news[i].id;
        changed |= !err;
    }
    if (err && err != HARK_EAGAIN)
        hk_log(HK_WARN, "consumer %s: what was redriven elsewhere is taken over later: %s",
               c->sub->name, hark_err_text(err));
    if (err)
        hk_party_doubt(c->sub);
    return changed;
}

/* ---- what is the consumer's as a whole ------------------------------------------------------- */

static bool take_pause(hk_consumer *c, const hark_store_shares *x)
{
    bool paused = x->ret_paused != 0, changed = paused != c->member.paused;
    hk_cores_pause(c->cores, paused); /* by this process it may have been changed meanwhile, too */
    c->member.paused = paused;
    return changed;
}

static void take_rerun(hk_consumer *c, const hark_store_shares *x)
{
    if (c->rerun.id[0] && !x->ret_rerun.id[0])
        hk_cores_end_replay(c->cores);
    c->rerun = x->ret_rerun;
}

/* Gaps are told by whoever has the first share. The store tells of one until it was handed out. */
static bool take_gap(hk_consumer *c, const hark_store_shares *x)
{
    hk_member *m = &c->member;
    if (x->ret_gap_to <= m->gap_to || !hk_consumer_tells_gaps(c))
        return false;
    uint64_t from = x->ret_gap_from > m->gap_to ? x->ret_gap_from : m->gap_to + 1;
    hk_consumer_note_gap(c, from, x->ret_gap_to);
    if (!(c->sub->flags & HARK_SUB_GAPS))
        hk_cores_gap_done(c->cores, x->ret_gap_to);
    m->gap_to = x->ret_gap_to;
    return true;
}

/* Under the lock. Returns whether workers may find something else than before. */
static bool carry_out(hk_consumer *c, const hark_store_shares *x, bool *ret_again)
{
    hk_now now = hk_consumer_now(c);
    take_rerun(c, x);
    bool changed = take_owned(c, x);
    changed |= take_claims(c, x, now);
    take_unheld(c, x, ret_again);
    changed |= take_news(c, x, now);
    changed |= take_pause(c, x);
    changed |= take_gap(c, x);
    *ret_again |= dry_ones(c, NULL) > 0;
    return changed;
}

hark_err hk_shares_take(hark_sub *s, const hark_store_shares *x, bool *ret_again)
{
    hk_consumer *c = s->consumer;
    hk_cores *old = NULL;
    hark_err err = HARK_OK;
    bool changed = false;
    *ret_again = false;
    pthread_mutex_lock(&c->lock);
    if (hk_mark_get(&s->closed) == 1) { /* it gives all of it up as soon as it is over */
        pthread_mutex_unlock(&c->lock);
        return HARK_OK;
    }
    if (x->ret_generation != x->generation)
        err = begin_anew(c, x, &old, ret_again);
    else if (c->stale) /* reset after the store had answered */
        *ret_again = true;
    else
        changed = carry_out(c, x, ret_again);
    hk_consumer_unlock(c);
    if (old)
        hk_cores_free(old);
    if (old || changed)
        hk_gate_open(&s->gate);
    return err;
}
