/* audit_tx.c: the promises about transactions (effect and ack are one), about what could not be
 * made ready for its handler, and about how far the consumer says it is with an event. */
#include "sim.h"

#define S(seq) ((unsigned long long)(seq))

/* ---- transactions ---------------------------------------------------------------------------- */

/* One is committed, with its group. */
void audit_tx(sim_world *w, const sim_tx *tx)
{
    uint64_t seq = tx->seq;
    if (tx->generation != w->disk.generation)
        sim_fail(w, "%llu: a transaction of before the reset is committed", S(seq));
    if (w->saved[seq].end != SIM_OPEN)
        sim_fail(w, "%llu: a transaction is committed though it is settled", S(seq));
    w->collected[seq] =
        (sim_truth){.end = SIM_ACKED, .attempts = w->now[seq].attempts, .by_tx = true};
    audit_commit_truth(w, seq);
    w->events[seq].untold = true;
    audit_effects(w, seq);
}

void audit_acked(sim_world *w, uint64_t seq)
{
    w->now[seq] = w->saved[seq];
    w->events[seq].running = w->events[seq].untold = false;
}

/* Since it was last reset or redriven: one for a transaction that settled it, none else. */
void audit_effects(sim_world *w, uint64_t seq)
{
    const sim_truth *t = &w->saved[seq];
    size_t expected = t->end == SIM_ACKED && t->by_tx;
    if (w->disk.effects[seq] != expected)
        sim_fail(w, "%llu has %zu effects, it should have %zu", S(seq), w->disk.effects[seq],
                 expected);
    if (expected && !disk_settled(&w->disk, seq))
        sim_fail(w, "%llu has its effect and would come again", S(seq));
}

/* ---- not ready for its handler --------------------------------------------------------------- */

void audit_postpone(sim_world *w, const hk_started *s, int64_t delay)
{
    sim_event *e = &w->events[s->seq];
    audit_unstart(w, s);
    e->postponed = SIM_POSTPONED;
    e->given = delay;
    e->settled_mono = w->mono;
    e->settled_wall = w->wall;
    if (hk_cores_dirt(w->cores, sim_now(w)) != HK_DIRTY_URGENT)
        sim_fail(w, "%llu is postponed, and the commit is not urgent", S(s->seq));
}

void audit_bury(sim_world *w, uint64_t seq)
{
    audit_settle(w, seq, HARK_REJECT, HARK_REJECT, -1, "upcast");
    w->events[seq].reason = "upcast";
}

/* Its row, as it is saved. */
void audit_postponed(sim_world *w, const hark_store_row *row)
{
    sim_event *e = &w->events[row->sequence];
    int64_t pause = row->due_ns - e->settled_wall;
    if (row->state != HARK_ROW_RETRY || pause != 0 || !row->error)
        sim_fail(w, "%llu is postponed, and its row says %lld ns in state %lld", S(row->sequence),
                 (long long)pause, (long long)row->state);
    if (!row->attempts && !row->crashes && !row->interruptions && row->first_ns)
        sim_fail(w, "%llu was never tried, but its row has a first time", S(row->sequence));
    e->not_before = e->settled_mono + e->given; /* but at once after a restart */
    e->postponed = SIM_COLLECTED;
}

void audit_postponed_saved(sim_world *w, bool ok)
{
    for (uint64_t i = 1; i <= w->n_events; i++)
        if (w->events[i].postponed == SIM_COLLECTED)
            w->events[i].postponed = ok ? SIM_READY : SIM_POSTPONED;
}

/* ---- how far it is --------------------------------------------------------------------------- */

static bool heads_parked(const sim_world *w, uint64_t seq)
{
    return w->now[seq].end == SIM_DEAD && w->events[seq].blocks;
}

static bool behind_parked(const sim_world *w, uint64_t seq)
{
    for (uint64_t i = 1; i <= w->n_events; i++)
        if (i != seq && audit_same_key(w, i, seq) && heads_parked(w, i))
            return true;
    return false;
}

static hk_stage stage(const sim_world *w, uint64_t seq)
{
    const sim_event *e = &w->events[seq];
    bool covered = seq <= hk_cores_covered(w->cores);
    sim_end end = w->now[seq].end;
    if (!audit_concerns(w, seq))
        return covered ? HK_STAGE_DONE : HK_STAGE_AHEAD;
    if (heads_parked(w, seq))
        return HK_STAGE_DEAD;
    if (end == SIM_ACKED || end == SIM_DEAD)
        return HK_STAGE_DONE;
    if (!covered && !e->read)
        return HK_STAGE_AHEAD;
    return behind_parked(w, seq) ? HK_STAGE_DEAD : HK_STAGE_OPEN;
}

void audit_stages(const sim_world *w)
{
    for (uint64_t i = 1; i <= w->n_events; i++) {
        const char *key = w->events[i].key;
        hk_stage expected = stage(w, i), got = HK_STAGE_AHEAD;
        if (!hk_cores_stage(w->cores, i, key[0] ? key : NULL, &got))
            sim_fail(w, "%llu is of a share that is not here", S(i));
        bool unknown = !audit_concerns(w, i) && got == HK_STAGE_DONE; /* an earlier run passed it */
        if (got != expected && !unknown)
            sim_fail(w, "%llu is said to be in stage %d, it is in %d", S(i), (int)got,
                     (int)expected);
    }
}
