/* shares_audit.c: the promises of a log that several processes share: nothing is lost, keys keep
 * their order, what is another's is neither started nor changed. What was settled and not committed
 * when a share was taken from a process that seemed dead comes again, in its order. */
#include "shares.h"

#include <string.h>

#define S(seq) ((unsigned long long)(seq))

bool shr_holds(const shr_world *x, const shr_process *p, hark_store_owned of)
{
    const shr_share *s = &x->store.shares[of.share];
    return s->owner == p->id && s->token == of.token;
}

/* ---- shares wander --------------------------------------------------------------------------- */

/* Its new owner knows what is committed. */
void shr_audit_claim(shr_world *x, uint32_t share)
{
    shr_share *s = &x->store.shares[share];
    for (uint64_t i = 1; i <= x->n_events; i++) {
        shr_event *e = &x->events[i];
        if (e->share != share)
            continue;
        const shr_row *r = &x->store.rows[i];
        e->now = e->saved;
        e->untold = e->unheard = false;
        e->known_to = r->there && r->row.state != HARK_ROW_COUNTS ? s->token : 0;
        int64_t counted = r->there ? r->row.interruptions : 0;
        e->foreign += counted > e->interrupted && !s->poisoned;
        e->interrupted = counted;
        e->suspect = e->suspect_saved =
            (i <= s->suspect || counted > 0) && e->saved.end == SIM_OPEN;
    }
    s->poisoned = false;
}

/* In order: nothing of it runs, and nothing of it is to be saved. */
void shr_audit_release(shr_world *x, const shr_process *p, uint32_t share)
{
    for (size_t i = 0; i < p->n_running; i++)
        if (p->running[i].of.share == share && !p->running[i].timed_out &&
            shr_holds(x, p, p->running[i].of))
            sim_fail(&x->w, "share %u is released while %llu runs", share, S(p->running[i].seq));
    for (uint64_t i = 1; i <= x->n_events; i++) {
        const shr_event *e = &x->events[i];
        if (e->share == share &&
            (e->now.end != e->saved.end || e->now.attempts != e->saved.attempts))
            sim_fail(&x->w, "share %u is released before %llu is saved", share, S(i));
        if (e->share == share && x->store.rows[i].there &&
            x->store.rows[i].row.interruptions != e->interrupted)
            sim_fail(&x->w,
                     "share %u is released, and %llu, which did not run, counts as interrupted",
                     share, S(i));
    }
}

/* ---- what kills processes ------------------------------------------------------------------------ */

static bool often(const shr_world *x, const shr_event *e)
{
    return e->interrupted >= (x->opts.max_interruptions + 1) / 2;
}

static bool solitary(const shr_world *x, const shr_event *e)
{
    return e->suspect && often(x, e);
}

/* Whatever kills the process now would count for it, too. */
static bool is_on_record(const shr_world *x, const shr_process *p, uint64_t seq)
{
    const shr_event *e = &x->events[seq];
    const shr_share *s = &x->store.shares[e->share];
    const shr_row *r = &x->store.rows[seq];
    return often(x, e) && r->there && r->row.interruptions > e->interrupted && s->owner == p->id;
}

/* On record before it runs, by those who know that it may have killed its last process; and from a certain number on alone. */
static void audit_record(shr_world *x, const shr_process *p, uint64_t seq)
{
    shr_event *e = &x->events[seq];
    const shr_row *r = &x->store.rows[seq];
    e->free_runs += !e->suspect;
    if (seq > x->store.shares[e->share].claimed)
        sim_fail(&x->w, "%llu starts, and no claim of its share says so", S(seq));
    if ((e->suspect || e->killed) && (!r->there || r->row.interruptions != e->interrupted + 1))
        sim_fail(&x->w, "%llu may have killed its last process, and starts without a mark", S(seq));
    for (size_t i = 0; i < p->n_running; i++) {
        const shr_running *o = &p->running[i];
        bool runs = !o->timed_out && hk_cores_payload(p->cores, o->lease);
        if (runs && (solitary(x, e) || solitary(x, &x->events[o->seq])))
            sim_fail(&x->w, "%llu runs beside %llu, of which one was interrupted too often", S(seq),
                     S(o->seq));
    }
    for (uint64_t i = 1; i <= x->visible; i++)
        if (i != seq && is_on_record(x, p, i))
            sim_fail(&x->w, "%llu starts, and %llu, which runs alone, has a mark", S(seq), S(i));
}

void shr_audit_crash(shr_world *x, const shr_process *p, uint64_t seq)
{
    shr_event *e = &x->events[seq];
    e->killed |= x->store.shares[e->share].owner == p->id;
    if (++e->crashes > (size_t)x->opts.max_interruptions + e->free_runs)
        sim_fail(&x->w, "%llu has killed %zu processes", S(seq), e->crashes);
}

/* Without an answer: of those the world has not heard. An innocent one does not die of what others did. */
void shr_audit_died(shr_world *x, uint64_t seq, const hark_store_dead *d)
{
    shr_event *e = &x->events[seq];
    if (e->now.end == SIM_OPEN)
        e->now.end = SIM_DYING;
    if (strcmp(d->reason, "interrupted") != 0)
        return;
    int64_t most = x->opts.max_interruptions;
    if (d->interruptions != e->interrupted || d->interruptions < most)
        sim_fail(&x->w, "%llu dies after %lld interruptions, there were %lld", S(seq),
                 (long long)d->interruptions, (long long)e->interrupted);
    if (!e->poison && (int64_t)e->foreign < most / 2)
        sim_fail(&x->w,
                 "%llu dies of %lld interruptions of %lld, and %zu of them were nobody's doing",
                 S(seq), (long long)d->interruptions, (long long)most, e->foreign);
}

/* ---- starting -------------------------------------------------------------------------------- */

static bool same_key(const shr_event *a, const shr_event *b)
{
    return a->key[0] && strcmp(a->key, b->key) == 0;
}

/* In a process that is not known to have lost it. */
static bool runs(const shr_world *x, uint64_t seq)
{
    for (size_t i = 0; i < x->n_processes; i++)
        for (size_t k = 0; k < x->processes[i].n_running; k++) {
            const shr_running *r = &x->processes[i].running[k];
            if (r->seq == seq && !r->orphan && !r->timed_out)
                return true;
        }
    return false;
}

/* Another of its key that it must wait for; 0 = none. */
static uint64_t waits_for(const shr_world *x, uint64_t seq)
{
    for (uint64_t i = 1; i <= x->visible; i++) {
        const shr_event *e = &x->events[i];
        if (i == seq || !same_key(e, &x->events[seq]))
            continue;
        bool open = e->now.end == SIM_OPEN || e->now.end == SIM_DYING;
        bool blocks = e->blocks && e->now.end != SIM_ACKED;
        if (runs(x, i) || (i < seq && (blocks || (open && !e->redriven))))
            return i;
    }
    return 0;
}

/* Those that were redriven may come in any order; and what is told of a dead letter comes later. */
static bool beside_redriven(const shr_world *x, uint64_t seq)
{
    for (uint64_t i = 1; i <= x->visible; i++)
        if ((x->events[i].redriven || x->events[i].untold) &&
            same_key(&x->events[i], &x->events[seq]))
            return true;
    return false;
}

/* Could this one have been started before? */
static bool could_start(const shr_world *x, const shr_process *p, uint64_t seq)
{
    const shr_event *e = &x->events[seq];
    return e->now.end == SIM_OPEN && !e->suspect && !e->unheard &&
           seq <= x->store.shares[e->share].claimed && e->interrupted < x->opts.max_interruptions &&
           e->known_to == x->store.shares[e->share].token &&
           x->store.shares[e->share].owner == p->id && hk_cores_has(p->cores, e->share, NULL) &&
           !p->leaves[e->share] && !e->redriven && e->now.attempts == e->saved.attempts &&
           e->not_before <= x->w.mono && !runs(x, seq) && !waits_for(x, seq) &&
           !beside_redriven(x, seq);
}

void shr_audit_start(shr_world *x, const shr_process *p, const hk_started *s, hark_store_owned of)
{
    const shr_event *e = &x->events[s->seq];
    if (!shr_holds(x, p, of))
        sim_fail(&x->w, "%llu starts in process %llu, but its share is another's", S(s->seq),
                 S(p->id));
    if (p->paused)
        sim_fail(&x->w, "%llu starts in process %llu, which is paused", S(s->seq), S(p->id));
    if (p->leaves[of.share])
        sim_fail(&x->w, "%llu starts though its share is leaving", S(s->seq));
    if (runs(x, s->seq))
        sim_fail(&x->w, "%llu runs twice at a time", S(s->seq));
    if (e->now.end != SIM_OPEN)
        sim_fail(&x->w, "%llu comes again after it was settled", S(s->seq));
    if (s->attempt != e->now.attempts + 1 || e->now.attempts != e->saved.attempts)
        sim_fail(&x->w, "%llu: attempt %lld after %lld failed ones, %lld of them saved", S(s->seq),
                 (long long)s->attempt, (long long)e->now.attempts, (long long)e->saved.attempts);
    if (x->w.mono < e->not_before)
        sim_fail(&x->w, "%llu is tried again before its time", S(s->seq));
    if (waits_for(x, s->seq))
        sim_fail(&x->w, "%llu of key %s starts before %llu is settled", S(s->seq), e->key,
                 S(waits_for(x, s->seq)));
    if (!s->doomed)
        audit_record(x, p, s->seq);
    size_t n = 0;
    for (size_t i = 0; i < p->n_running; i++)
        n += !p->running[i].timed_out && hk_cores_payload(p->cores, p->running[i].lease);
    if (n + 1 > x->opts.workers)
        sim_fail(&x->w, "more run than there are workers (%zu)", x->opts.workers);
    for (uint64_t i = 1; i < s->seq && !solitary(x, e); i++)
        if (could_start(x, p, i))
            sim_fail(&x->w, "%llu starts before %llu, which could", S(s->seq), S(i));
}

/* By who has its share. */
void shr_audit_settle(shr_world *x, uint64_t seq, hark_verdict asked, hark_verdict came)
{
    sim_truth *t = &x->events[seq].now;
    x->events[seq].suspect = x->events[seq].killed = false;
    t->attempts += asked != HARK_ACK;
    t->end = came == HARK_ACK ? SIM_ACKED : came == HARK_REJECT ? SIM_DYING : SIM_OPEN;
}

/* ---- what is committed ----------------------------------------------------------------------- */

static void commit_truth(shr_world *x, uint64_t seq, sim_truth got)
{
    shr_event *e = &x->events[seq];
    if (e->saved.by_tx && e->saved.end == SIM_ACKED && got.end != SIM_ACKED)
        return; /* of before the ack */
    bool was_open = e->saved.end == SIM_OPEN;
    e->saved = got;
    if (got.end == SIM_DYING) {
        e->saved.end = e->now.end = SIM_DEAD;
        e->blocks = x->opts.park && e->key[0];
    }
    if (got.end != SIM_OPEN && was_open)
        e->redriven = false;
    if (got.end == SIM_ACKED)
        e->blocks = false;
}

void shr_audit_saved(shr_world *x, const shr_process *p, const hark_store_save *s)
{
    for (uint64_t i = 1; i <= x->n_events; i++) {
        if (x->events[i].share != s->share)
            continue;
        commit_truth(x, i, p->got[i]);
        x->events[i].suspect_saved = p->got_suspect[i];
    }
    for (size_t i = 0; i < s->n_put; i++)
        if (s->put[i].state == HARK_ROW_RETRY)
            x->events[s->put[i].sequence].not_before = s->put[i].due_ns - x->w.wall + x->w.mono;
}

/* Of all shares, whoever has committed last: what is there is what their owners committed. */
void shr_audit_store(shr_world *x)
{
    for (uint64_t i = 1; i <= x->n_events; i++) {
        const shr_event *e = &x->events[i];
        const shr_row *r = &x->store.rows[i];
        bool dead_row = r->there && r->row.state == HARK_ROW_DEAD;
        if (e->saved.end == SIM_OPEN && (store_settled(x, i) || dead_row))
            sim_fail(&x->w, "%llu is lost: it counts as settled in share %u, and is open", S(i),
                     e->share);
        if (e->saved.end != SIM_OPEN && !dead_row && !store_settled(x, i))
            sim_fail(&x->w, "%llu was settled and is open again in share %u", S(i), e->share);
        if (r->there && r->row.attempts != e->saved.attempts)
            sim_fail(&x->w, "%llu: its row says %lld attempts, there were %lld", S(i),
                     (long long)r->row.attempts, (long long)e->saved.attempts);
        int64_t counted = r->there ? r->row.interruptions : e->interrupted;
        if (counted < e->interrupted || counted > e->interrupted + e->suspect_saved)
            sim_fail(&x->w, "%llu: its row says %lld interruptions, there were %lld", S(i),
                     (long long)counted, (long long)e->interrupted);
    }
}

bool shr_audit_done(const shr_world *x)
{
    for (uint64_t i = 1; i <= x->n_events; i++)
        if (x->events[i].saved.end == SIM_OPEN || x->events[i].blocks)
            return false;
    for (uint32_t i = 0; i < SHARES; i++)
        if (x->store.shares[i].floor != x->n_events)
            return false;
    return true;
}

void shr_audit_end(shr_world *x)
{
    for (uint64_t i = 1; i <= x->n_events; i++)
        if (x->store.rows[i].there)
            sim_fail(&x->w, "%llu has a row when all is settled", S(i));
    for (uint64_t i = 1; i <= x->n_events; i++)
        if (x->events[i].poison && x->events[i].saved.end != SIM_DEAD)
            sim_fail(&x->w, "%llu kills whoever handles it, and is no dead letter", S(i));
    for (size_t i = 0; i < x->n_processes; i++) {
        shr_kill(x, &x->processes[i]);
        if (x->processes[i].payloads)
            sim_fail(&x->w, "%zu payloads are left when a process is over",
                     x->processes[i].payloads);
    }
}
