/* audit.c: the promises (delivery, order, attempts, crashes, bounds), checked at each start and
 * settle, and when nothing more starts. What is saved is checked in audit_save.c, transactions and
 * the like in audit_tx.c. It knows what handlers answered, what was committed and what the world
 * did; of the core only what it hands out. */
#include "sim.h"

#include <string.h>

#define S(seq) ((unsigned long long)(seq))

/* Does the consumer have to do with it? */
bool audit_concerns(const sim_world *w, uint64_t seq)
{
    return w->events[seq].matches && (seq > w->start || w->events[seq].called);
}

bool audit_same_key(const sim_world *w, uint64_t a, uint64_t b)
{
    return w->events[a].key[0] && strcmp(w->events[a].key, w->events[b].key) == 0;
}

bool audit_unsaved(const sim_world *w, uint64_t seq)
{
    return w->now[seq].attempts != w->saved[seq].attempts;
}

static bool blocks(const sim_world *w, uint64_t seq)
{
    return w->events[seq].blocks && w->now[seq].end != SIM_ACKED;
}

/* ---- starting -------------------------------------------------------------------------------- */

/* Must `seq` wait for another of its key? 0 = no. */
uint64_t audit_waits_for(const sim_world *w, uint64_t seq)
{
    for (uint64_t i = 1; i <= w->n_events; i++) {
        if (i == seq || !audit_same_key(w, i, seq))
            continue;
        if (w->events[i].running)
            return i;
        if (i > seq || !audit_concerns(w, i))
            continue;
        bool open = w->now[i].end == SIM_OPEN || w->now[i].end == SIM_DYING;
        if (blocks(w, i) || (open && !w->events[i].redriven))
            return i;
    }
    return 0;
}

static size_t live(const sim_world *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n_running; i++)
        n += w->running[i].live;
    return n;
}

static void audit_pace(sim_world *w)
{
    int64_t rate = w->disk.rerun.rate, burst = rate / 10 > 1 ? rate / 10 : 1;
    if (!rate || w->n_replayed == REPLAYED)
        return;
    w->replayed_at[w->n_replayed++] = w->mono;
    for (size_t i = 0; i < w->n_replayed; i++) {
        int64_t elapsed = w->mono - w->replayed_at[i];
        int64_t most = burst + 1 + rate * (elapsed / MS + 1) / 1000;
        if ((int64_t)(w->n_replayed - i) > most)
            sim_fail(w, "%zu were replayed within %lld ms, at most %lld may be", w->n_replayed - i,
                     (long long)(elapsed / MS), (long long)most);
    }
}

static void audit_state(const sim_world *w, uint64_t seq)
{
    const sim_event *e = &w->events[seq];
    if (w->opts.paused)
        sim_fail(w, "%llu starts while paused", S(seq));
    if (w->now[seq].end != SIM_OPEN)
        sim_fail(w, "%llu comes again after it was settled", S(seq));
    if (e->running)
        sim_fail(w, "%llu runs twice at a time", S(seq));
    if (audit_unsaved(w, seq) || e->postponed)
        sim_fail(w, "%llu is tried again before its failure or delay was committed", S(seq));
    if (w->mono < e->not_before)
        sim_fail(w, "%llu is tried again %lld ns before its time", S(seq),
                 (long long)(e->not_before - w->mono));
    if (sim_doomed(w, seq))
        sim_fail(w, "%llu starts after %lld crashes and %lld interruptions", S(seq),
                 (long long)e->crashes, (long long)e->interruptions);
    uint64_t other = audit_waits_for(w, seq);
    if (other)
        sim_fail(w, "%llu of key %s starts before %llu is settled", S(seq), e->key, S(other));
}

void audit_start(sim_world *w, const hk_started *s)
{
    if (s->seq < 1 || s->seq > w->visible || !audit_concerns(w, s->seq))
        sim_fail(w, "%llu does not concern the consumer", S(s->seq));
    audit_state(w, s->seq);
    int64_t failed = w->now[s->seq].attempts;
    if (s->attempt != failed + 1)
        sim_fail(w, "%llu: attempt %lld after %lld failed ones", S(s->seq), (long long)s->attempt,
                 (long long)failed);
    if (w->opts.max_attempts >= 0 && s->attempt > w->opts.max_attempts)
        sim_fail(w, "%llu has more than %lld attempts", S(s->seq), (long long)w->opts.max_attempts);
    if (s->replayed != (w->disk.rerun.id[0] && s->seq <= w->disk.rerun.upto))
        sim_fail(w, "%llu is %s marked as replayed", S(s->seq), s->replayed ? "wrongly" : "not");
    w->events[s->seq].running = true;
    if (live(w) + 1 > w->opts.workers)
        sim_fail(w, "more run than there are workers (%zu)", w->opts.workers);
    if (s->replayed)
        audit_pace(w);
}

void audit_unstart(sim_world *w, const hk_started *s)
{
    w->events[s->seq].running = false;
    if (s->replayed && w->n_replayed)
        w->n_replayed--;
}

/* ---- nothing more could be started ------------------------------------------------------------- */

/* Another of its key that was redriven: the two may come in any order. */
static bool beside_redriven(const sim_world *w, uint64_t seq)
{
    for (uint64_t i = 1; i <= w->n_events; i++)
        if (i != seq && audit_same_key(w, i, seq) && w->events[i].redriven)
            return true;
    return false;
}

/* One that was redriven waits for whatever heads its lane. */
static bool behind_head(const sim_world *w, uint64_t seq)
{
    for (uint64_t i = 1; w->events[seq].redriven && i <= w->n_events; i++) {
        bool ended = w->now[i].end == SIM_ACKED || (w->now[i].end == SIM_DEAD && !blocks(w, i));
        if (i != seq && audit_same_key(w, i, seq) && w->events[i].read && !ended)
            return true;
    }
    return false;
}

static bool dying(const sim_world *w, uint64_t seq)
{
    return w->now[seq].end == SIM_DYING || (w->now[seq].end == SIM_OPEN && sim_doomed(w, seq));
}

/* As soon as its time has come. */
static bool could_start(const sim_world *w, uint64_t seq)
{
    const sim_event *e = &w->events[seq];
    return audit_concerns(w, seq) && e->read && w->now[seq].end == SIM_OPEN && !e->running &&
           !audit_unsaved(w, seq) && !e->postponed && !sim_doomed(w, seq) &&
           !beside_redriven(w, seq) && !behind_head(w, seq) && !audit_waits_for(w, seq);
}

/* What waits behind a pause or a dead letter is in the ledger, not in memory. */
static void audit_memory(sim_world *w, uint64_t head)
{
    bool waits = w->now[head].end == SIM_OPEN && w->mono < w->events[head].not_before &&
                 !audit_unsaved(w, head) && w->events[head].read;
    bool parks = w->now[head].end == SIM_DEAD && w->events[head].blocks;
    bool beside = w->events[head].redriven && !blocks(w, head); /* it may be behind another one */
    if ((!waits && !parks) || beside || audit_waits_for(w, head) || beside_redriven(w, head))
        return;
    for (uint64_t i = head + 1; i <= w->n_events; i++)
        if (audit_same_key(w, i, head) && w->holding[i])
            sim_fail(w, "%llu is in memory, but waits behind %llu", S(i), S(head));
}

static void audit_room(sim_world *w)
{
    size_t open = 0, rows = 0, room = hk_cores_room(w->cores);
    for (uint64_t i = 1; i <= w->n_events; i++) {
        bool ended = w->now[i].end == SIM_ACKED || (w->now[i].end == SIM_DEAD && !blocks(w, i));
        open += w->events[i].read && audit_concerns(w, i) && !ended;
        rows += disk_row(&w->disk, i) && !ended;
    }
    if (room == 0 && w->arrived < w->opts.window && open < w->opts.max_deferred)
        sim_fail(w, "nothing may arrive, with %zu of %zu in memory and %zu of %zu in the ledger",
                 w->arrived, w->opts.window, open, w->opts.max_deferred);
    if (room > 0 && rows >= w->opts.max_deferred)
        sim_fail(w, "%zu rows are in the ledger, at most %zu may be, and %zu more may arrive", rows,
                 w->opts.max_deferred, room);
}

/* It does not sleep through what is due. */
static void audit_due(sim_world *w)
{
    int64_t due = hk_cores_due(w->cores);
    for (size_t i = 0; i < w->n_running; i++)
        if (w->running[i].live && !w->running[i].sealed && (due < 0 || due > w->running[i].until))
            sim_fail(w, "%llu is timed out earlier than anybody wakes", S(w->running[i].seq));
    for (uint64_t i = 1; i <= w->n_events && !w->opts.paused; i++) {
        int64_t at = w->events[i].not_before;
        if (at > w->mono && could_start(w, i) && (due < 0 || due > at))
            sim_fail(w, "%llu is due earlier than anybody wakes", S(i));
    }
}

void audit_idle(sim_world *w)
{
    if (w->tell != SIM_TOLD)
        return;
    audit_room(w);
    audit_due(w);
    audit_stages(w);
    size_t n_dying = 0;
    for (uint64_t i = 1; i <= w->n_events; i++) {
        n_dying += dying(w, i);
        audit_memory(w, i);
    }
    if (w->opts.paused || live(w) >= w->opts.workers || n_dying >= w->opts.window)
        return;
    uint64_t paced = w->disk.rerun.rate ? w->disk.rerun.upto : 0;
    for (uint64_t i = paced + 1; i <= w->n_events; i++)
        if (w->mono >= w->events[i].not_before && could_start(w, i))
            sim_fail(w, "%llu could start and a worker is free, but nothing starts", S(i));
}

/* ---- settling --------------------------------------------------------------------------------- */

void audit_settle(sim_world *w, uint64_t seq, hark_verdict asked, hark_verdict came, int64_t delay,
                  const char *outcome)
{
    sim_event *e = &w->events[seq];
    sim_truth *t = &w->now[seq];
    e->running = false;
    if (asked == HARK_ACK) {
        if (came != HARK_ACK)
            sim_fail(w, "%llu: its ack is taken as %d", S(seq), (int)came);
        t->end = SIM_ACKED;
        return;
    }
    t->attempts++;
    bool last = w->opts.max_attempts >= 0 && t->attempts >= w->opts.max_attempts;
    hark_verdict expected = asked == HARK_REJECT || last ? HARK_REJECT : HARK_RETRY;
    if (came != expected)
        sim_fail(w, "%llu: verdict %d after %lld attempts is taken as %d", S(seq), (int)asked,
                 (long long)t->attempts, (int)came);
    e->outcome = outcome;
    e->reason = asked == HARK_REJECT ? "rejected" : "max_attempts";
    e->given = delay;
    e->limit = w->opts.retry_delay_ns;
    for (int64_t n = 1; n < t->attempts && e->limit < w->opts.retry_max_ns; n++)
        e->limit *= 2;
    e->limit = e->limit < w->opts.retry_max_ns ? e->limit : w->opts.retry_max_ns;
    e->settled_mono = w->mono;
    e->settled_wall = w->wall;
    if (expected == HARK_REJECT)
        t->end = SIM_DYING;
    if (hk_cores_dirt(w->cores, sim_now(w)) != HK_DIRTY_URGENT)
        sim_fail(w, "%llu failed, and the commit is not urgent", S(seq));
}

/* ---- the world's doing ------------------------------------------------------------------------ */

static int64_t not_before(const sim_world *w, const hark_store_row *row)
{
    int64_t most = w->opts.retry_max_ns > HOUR ? w->opts.retry_max_ns : HOUR;
    int64_t left = row->due_ns - w->wall;
    return w->mono + (left < 0 ? 0 : left > most ? most : left);
}

void audit_boot(sim_world *w)
{
    memcpy(w->now, w->saved, sizeof w->now);
    w->most_started = 0;
    w->gap_handed = w->disk.gap_done;
    for (uint64_t i = 1; i <= w->n_events; i++) {
        sim_event *e = &w->events[i];
        const sim_row *r = &w->disk.rows[i];
        bool row = disk_row(&w->disk, i);
        bool parked = row && r->row.state == HARK_ROW_DEAD;
        e->running = e->untold = false;
        e->postponed = SIM_READY;
        e->read = row;
        e->not_before = row && r->row.state == HARK_ROW_RETRY ? not_before(w, &r->row) : 0;
        e->blocks = w->opts.park && (e->blocks || parked);
    }
}

void audit_redriven(sim_world *w, uint64_t seq)
{
    sim_event *e = &w->events[seq];
    w->saved[seq] = w->collected[seq] = (sim_truth){.end = SIM_OPEN};
    w->disk.effects[seq] = 0;
    e->redriven = e->called = true;
    e->answers = e->letters;
    e->crashes = e->interruptions = 0;
}

void audit_discarded(sim_world *w, uint64_t seq)
{
    w->events[seq].blocks = false;
}

void audit_reset(sim_world *w)
{
    for (uint64_t i = 1; i <= w->n_events; i++) {
        w->saved[i] = (sim_truth){.end = SIM_OPEN};
        w->disk.effects[i] = 0;
        sim_event *e = &w->events[i];
        e->redriven = e->called = e->blocks = false;
        e->crashes = e->interruptions = 0;
    }
}

bool audit_done(const sim_world *w)
{
    if (w->flight || w->tell != SIM_TOLD || hk_cores_dirt(w->cores, sim_now(w)) != HK_CLEAN ||
        hk_cores_covered(w->cores) != w->n_events)
        return false;
    for (uint64_t i = 1; i <= w->n_events; i++)
        if (audit_concerns(w, i) && (w->saved[i].end == SIM_OPEN || w->events[i].blocks))
            return false;
    return true;
}

void audit_end(sim_world *w)
{
    for (uint64_t i = 1; i <= w->n_events; i++)
        if (w->disk.rows[i].there)
            sim_fail(w, "%llu has a row when all is settled", S(i));
    if (w->disk.floor != w->n_events || w->disk.n_settled)
        sim_fail(w, "all is settled, but the floor is %llu and %zu ranges are left",
                 S(w->disk.floor), w->disk.n_settled);
    if (w->disk.gap_done < w->gap_handed)
        sim_fail(w, "a gap that was handed out is not saved");
    if (w->payloads)
        sim_fail(w, "%zu payloads are held when all is settled", w->payloads);
    hk_core_facts f;
    hk_cores_facts_get(w->cores, &f);
    if (f.in_memory + f.deferred + f.behind + f.parked + f.parked_keys + f.waiting + f.ready)
        sim_fail(w, "all is settled, but the figures are not 0");
}
