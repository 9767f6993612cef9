/* shares_store.c: what is committed, and whose it is. Of a share that is given on, the token grows;
 * a save or an ack with another one changes nothing. */
#include "shares.h"

#include <string.h>

static void put_row(shr_world *x, const hark_store_row *row)
{
    shr_row *r = &x->store.rows[row->sequence];
    r->there = true;
    r->row = *row;
    r->row.key = shr_key(&x->events[row->sequence]);
    r->row.error = NULL;
}

static bool in_settled(const shr_share *s, uint64_t seq)
{
    for (size_t i = 0; i < s->n_settled; i++)
        if (s->settled[i].first <= seq && seq <= s->settled[i].last)
            return true;
    return seq <= s->floor;
}

bool store_settled(const shr_world *x, uint64_t seq)
{
    const shr_row *r = &x->store.rows[seq];
    return r->acked || (!r->there && in_settled(&x->store.shares[x->events[seq].share], seq));
}

/* ---- whose ----------------------------------------------------------------------------------- */

void store_beat(shr_world *x, const shr_process *p)
{
    size_t i = (size_t)(p - x->processes);
    x->store.members[i].id = p->id;
    x->store.members[i].until = x->w.mono + LEASE;
}

void store_leave(shr_world *x, const shr_process *p)
{
    x->store.members[p - x->processes].id = 0;
}

static bool lives(const shr_world *x, uint64_t id)
{
    for (size_t i = 0; i < MEMBERS; i++)
        if (x->store.members[i].id == id)
            return x->store.members[i].until > x->w.mono;
    return false;
}

void store_release(shr_world *x, const shr_process *p, hark_store_owned of)
{
    shr_share *s = &x->store.shares[of.share];
    if (s->owner == p->id && s->token == of.token) {
        s->owner = 0;
        s->claimed = 0;
    }
}

/* What it was about, goes on alone from here on. */
static void orphan(shr_world *x, uint32_t share)
{
    for (size_t i = 0; i < x->n_processes; i++)
        for (size_t k = 0; k < x->processes[i].n_running; k++)
            x->processes[i].running[k].orphan |= x->processes[i].running[k].of.share == share;
}

static void take_from_the_dead(shr_world *x)
{
    for (uint32_t i = 0; i < SHARES; i++) {
        shr_share *s = &x->store.shares[i];
        if (!s->owner || (lives(x, s->owner) && hk_planted != 79))
            continue;
        s->owner = 0;
        orphan(x, i);
    }
}

void store_poisoned(shr_world *x, const shr_process *p)
{
    for (uint32_t i = 0; i < SHARES; i++)
        x->store.shares[i].poisoned |= x->store.shares[i].owner == p->id;
}

/* The next owner does not know what the last one ran of it, unless that has given it up; and then not what that, in its
 * turn, had not come to. */
static hk_reach reach(shr_world *x, shr_share *s)
{
    uint64_t known = s->highest > s->floor ? s->highest : s->floor;
    uint64_t ahead = known + x->opts.claim_ahead;
    uint64_t suspect = s->claimed < x->visible ? s->claimed : x->visible;
    s->suspect = suspect > s->suspect || hk_planted == 89 ? suspect : s->suspect;
    s->claimed = s->claimed > ahead ? s->claimed : ahead;
    return (hk_reach){.claimed = s->claimed, .suspect = s->suspect};
}

void store_shares(shr_world *x, shr_process *p, shr_answer *ret)
{
    size_t members = 0, has = 0;
    *ret = (shr_answer){.n_owned = 0};
    for (size_t i = 0; i < MEMBERS; i++)
        members += x->store.members[i].id && x->store.members[i].until > x->w.mono;
    size_t most = p->closing || !members ? 0 : (SHARES + members - 1) / members;
    take_from_the_dead(x);
    for (uint32_t i = 0; i < SHARES; i++) {
        shr_share *s = &x->store.shares[i];
        if (s->owner != p->id)
            continue;
        ret->give[i] = has++ >= most;
        ret->owned[ret->n_owned++] = (hark_store_owned){i, s->token};
    }
    for (uint32_t i = 0; i < SHARES && has < most; i++) {
        shr_share *s = &x->store.shares[i];
        if (s->owner)
            continue;
        s->owner = p->id;
        s->token++;
        s->news = hk_planted == 76 ? s->news : x->store.n_news;
        ret->reach[ret->n_claimed] = reach(x, s);
        ret->claimed[ret->n_claimed++] = (hark_store_owned){i, s->token};
        shr_audit_claim(x, i);
        has++;
    }
}

/* What transactions have settled becomes part of the settled set. */
static void merge_acks(shr_world *x, uint32_t share)
{
    shr_share *s = &x->store.shares[share];
    for (uint64_t seq = 1; seq <= x->n_events; seq++) {
        shr_row *r = &x->store.rows[seq];
        if (x->events[seq].share != share || !r->acked)
            continue;
        r->acked = false;
        if (in_settled(s, seq))
            continue;
        size_t at = s->n_settled++;
        for (; at > 0 && s->settled[at - 1].first > seq; at--)
            s->settled[at] = s->settled[at - 1];
        s->settled[at] = (hark_store_range){seq, seq};
    }
}

void store_state(shr_world *x, uint32_t share, hark_store_consumer *ret, hark_store_row *rows)
{
    shr_share *s = &x->store.shares[share];
    merge_acks(x, share);
    *ret = (hark_store_consumer){.size = sizeof *ret,
                                 .ret_floor = s->floor,
                                 .ret_highest = s->highest,
                                 .ret_settled = s->settled,
                                 .ret_n_settled = s->n_settled,
                                 .ret_rows = rows};
    for (uint64_t seq = 1; seq <= x->n_events && hk_planted != 72; seq++)
        if (x->store.rows[seq].there && x->events[seq].share == share)
            rows[ret->ret_n_rows++] = x->store.rows[seq].row;
}

/* ---- fenced ---------------------------------------------------------------------------------- */

hark_err store_save(shr_world *x, const shr_process *p, const hark_store_save *s)
{
    shr_share *share = &x->store.shares[s->share];
    if (share->token != s->token && hk_planted != 64)
        return HARK_ESTALE;
    share->floor = s->floor;
    share->highest = s->highest;
    share->claimed = s->claimed > share->claimed ? s->claimed : share->claimed;
    share->n_settled = s->n_settled;
    memcpy(share->settled, s->settled, s->n_settled * sizeof *s->settled);
    for (size_t i = 0; i < s->n_drop; i++)
        x->store.rows[s->drop[i]] = (shr_row){.there = false};
    for (size_t i = 0; i < s->n_put; i++)
        if (!x->store.rows[s->put[i].sequence].acked)
            put_row(x, &s->put[i]);
    if (share->token == s->token)
        shr_audit_saved(x, p, s);
    return HARK_OK;
}

hark_err store_ack(shr_world *x, hark_store_owned of, uint64_t seq)
{
    shr_event *e = &x->events[seq];
    if (x->store.shares[of.share].token != of.token && hk_planted != 75)
        return HARK_ESTALE;
    x->store.rows[seq] = (shr_row){.acked = true};
    e->saved.by_tx = true;
    e->saved.end = e->now.end = SIM_ACKED;
    e->redriven = e->blocks = false;
    if (++e->effects > 1)
        sim_fail(&x->w, "%llu has %zu effects", (unsigned long long)seq, e->effects);
    return HARK_OK;
}

/* ---- dead letters ---------------------------------------------------------------------------- */

static void tell(shr_world *x, uint64_t seq, hark_news_kind kind)
{
    shr_store *d = &x->store;
    if (d->n_news == NEWS)
        sim_fail(&x->w, "more than %d news", NEWS);
    d->news[d->n_news] = (hark_store_news){.id = d->n_news + 1,
                                           .share = x->events[seq].share,
                                           .kind = kind,
                                           .sequence = seq,
                                           .due_ns = x->w.wall};
    d->n_news++;
}

void store_redrive(shr_world *x, uint64_t seq)
{
    shr_event *e = &x->events[seq];
    put_row(x, &(hark_store_row){.sequence = seq, .state = HARK_ROW_RETRY, .due_ns = x->w.wall});
    e->now = e->saved = (sim_truth){.end = SIM_OPEN};
    e->redriven = true;
    e->effects = 0;
    e->known_to = 0;
    e->suspect = e->suspect_saved = e->killed = false;
    e->interrupted = 0;
    e->crashes = e->free_runs = e->foreign = 0;
    for (size_t i = 0; i < x->n_processes; i++) {
        x->processes[i].got[seq] = e->now;
        x->processes[i].got_suspect[seq] = false;
    }
    tell(x, seq, HARK_NEWS_REDRIVEN);
}

void store_discard(shr_world *x, uint64_t seq)
{
    bool parked = x->store.rows[seq].there;
    x->store.rows[seq].there = false;
    x->events[seq].blocks = false;
    x->events[seq].discarded = true;
    x->events[seq].untold = parked;
    if (parked)
        tell(x, seq, HARK_NEWS_DISCARDED);
}
