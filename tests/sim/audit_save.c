/* audit_save.c: the promises about what is saved: dead letters with a cause, the attempt log, pauses,
 * and on the disk each event in one place. */
#include "sim.h"

#include <string.h>

#define S(seq) ((unsigned long long)(seq))

static void audit_dead(sim_world *w, const hark_store_dead *d)
{
    uint64_t seq = ((const sim_payload *)(const void *)d->event)->seq;
    const sim_event *e = &w->events[seq];
    sim_truth *t = &w->now[seq];
    const char *reason = e->reason;
    if (t->end == SIM_OPEN && sim_doomed(w, seq) && !e->running) {
        t->end = SIM_DYING;
        reason = e->crashes >= w->opts.max_crashes ? "crash" : "interrupted";
        if (audit_waits_for(w, seq))
            sim_fail(w, "%llu is dead-lettered before %llu is settled", S(seq),
                     S(audit_waits_for(w, seq)));
    }
    if (!audit_concerns(w, seq) || t->end != SIM_DYING || w->saved[seq].end == SIM_DEAD)
        sim_fail(w, "%llu is dead-lettered without a cause", S(seq));
    if (sim_doomed(w, seq))
        reason = e->crashes >= w->opts.max_crashes ? "crash" : "interrupted";
    if (strcmp(d->reason, reason) != 0 || d->attempts != t->attempts || d->crashes != e->crashes ||
        d->interruptions != e->interruptions)
        sim_fail(w, "%llu: its dead letter says %s, %lld attempts, %lld crashes", S(seq), d->reason,
                 (long long)d->attempts, (long long)d->crashes);
}

static void audit_put(sim_world *w, const hark_store_row *row)
{
    sim_event *e = &w->events[row->sequence];
    const sim_truth *t = &w->now[row->sequence];
    if (!audit_concerns(w, row->sequence) || t->end == SIM_ACKED)
        sim_fail(w, "%llu has a row, but is settled", S(row->sequence));
    if (row->attempts != t->attempts)
        sim_fail(w, "%llu: its row says %lld attempts, there were %lld", S(row->sequence),
                 (long long)row->attempts, (long long)t->attempts);
    if (strcmp(row->key ? row->key : "", e->key) != 0)
        sim_fail(w, "%llu: its row has another key", S(row->sequence));
    if (e->postponed)
        audit_postponed(w, row);
    if (!audit_unsaved(w, row->sequence) || t->end != SIM_OPEN)
        return;
    int64_t pause = row->due_ns - e->settled_wall;
    bool right = e->given >= 0 ? pause == e->given : pause >= 0 && pause <= e->limit;
    if (row->state != HARK_ROW_RETRY || !right)
        sim_fail(w, "%llu: a pause of %lld ns in state %lld, at most %lld are right",
                 S(row->sequence), (long long)pause, (long long)row->state,
                 (long long)(e->given >= 0 ? e->given : e->limit));
    e->not_before = e->settled_mono + pause;
}

static void audit_log(sim_world *w)
{
    size_t expected = 0;
    for (uint64_t i = 1; i <= w->n_events; i++)
        expected += audit_unsaved(w, i) && !(w->tell == SIM_TELL_REDRIVEN && i == w->tell_seq);
    if (w->save.n_attempts != expected)
        sim_fail(w, "%zu attempts are logged, %zu failed", w->save.n_attempts, expected);
    for (size_t i = 0; i < w->save.n_attempts; i++) {
        const hark_store_attempt *a = &w->save.attempts[i];
        if (!audit_unsaved(w, a->sequence) || a->number != w->now[a->sequence].attempts ||
            strcmp(a->outcome, w->events[a->sequence].outcome) != 0)
            sim_fail(w, "%llu: attempt %lld is logged as %s", S(a->sequence), (long long)a->number,
                     a->outcome);
    }
}

void audit_collect(sim_world *w)
{
    const hark_store_save *s = &w->save;
    for (size_t i = 0; i < s->n_dead; i++)
        audit_dead(w, &s->dead[i]);
    for (size_t i = 0; i < s->n_put; i++)
        audit_put(w, &s->put[i]);
    audit_log(w);
    memcpy(w->collected, w->now, sizeof w->now);
    for (uint64_t i = 1; i <= w->n_events; i++) {
        if (w->now[i].end == SIM_DYING && s->n_dead == 0)
            sim_fail(w, "%llu failed for good, and no dead letter is saved", S(i));
        if (w->events[i].postponed == SIM_POSTPONED)
            sim_fail(w, "%llu is postponed, and no row is saved", S(i));
        if (w->events[i].untold)
            w->collected[i] = w->saved[i];
    }
    if (w->tell == SIM_TELL_REDRIVEN)
        w->collected[w->tell_seq] = w->saved[w->tell_seq];
    uint64_t highest = w->disk.highest > w->most_started ? w->disk.highest : w->most_started;
    if (s->highest != highest)
        sim_fail(w, "%llu is saved as the highest, it is %llu", S(s->highest), S(highest));
}

static void audit_ranges(sim_world *w)
{
    const hark_store_save *s = &w->save;
    if (s->floor < w->disk.floor)
        sim_fail(w, "the floor goes back from %llu to %llu", S(w->disk.floor), S(s->floor));
    if (s->n_settled > EVENTS + 1)
        sim_fail(w, "%zu settled ranges", s->n_settled);
    for (size_t i = 0; i < s->n_settled; i++) {
        uint64_t below = i ? s->settled[i - 1].last : s->floor;
        if (s->settled[i].first <= below || s->settled[i].last < s->settled[i].first)
            sim_fail(w, "settled ranges overlap: %llu-%llu above %llu", S(s->settled[i].first),
                     S(s->settled[i].last), S(below));
    }
}

/* Each event is in one place on the disk: settled, in a row, or to be read. */
static void audit_place(sim_world *w, uint64_t seq)
{
    const sim_event *e = &w->events[seq];
    const sim_row *r = &w->disk.rows[seq];
    bool row = disk_row(&w->disk, seq);
    bool dead = row && r->row.state == HARK_ROW_DEAD, settled = disk_settled(&w->disk, seq);
    audit_effects(w, seq);
    switch (w->saved[seq].end) {
    case SIM_OPEN:
        if (dead || (settled && !row))
            sim_fail(w, "%llu is lost", S(seq));
        if (!settled && row)
            sim_fail(w, "%llu has a row and would be read again", S(seq));
        if (row && (r->row.attempts != w->saved[seq].attempts || r->row.crashes != e->crashes))
            sim_fail(w, "%llu: its row says %lld attempts, %lld crashes", S(seq),
                     (long long)r->row.attempts, (long long)r->row.crashes);
        if (r->there && (r->row.crashes != e->crashes || r->row.interruptions != e->interruptions))
            sim_fail(w, "%llu: its counts are forgotten", S(seq));
        break;
    case SIM_ACKED:
        if (!settled || row)
            sim_fail(w, "%llu would come again, though its ack was committed", S(seq));
        break;
    default:
        if (!settled || dead != e->blocks || row != dead)
            sim_fail(w, "%llu: its dead letter %s", S(seq),
                     e->blocks ? "does not park its key" : "leaves a row or would come again");
    }
}

static void audit_disk(sim_world *w)
{
    size_t letters[EVENTS + 1] = {0}, rows = 0;
    for (size_t i = 0; i < w->disk.n_letters; i++)
        letters[w->disk.letters[i].seq]++;
    for (uint64_t i = 1; i <= w->n_events; i++) {
        if (letters[i] != w->events[i].letters)
            sim_fail(w, "%llu has %zu dead letters, it should have %zu", S(i), letters[i],
                     w->events[i].letters);
        if (audit_concerns(w, i) && i <= w->visible)
            audit_place(w, i);
        else if (disk_row(&w->disk, i))
            sim_fail(w, "%llu has a row and does not concern the consumer", S(i));
        rows += disk_row(&w->disk, i);
    }
    size_t most = w->opts.max_deferred + w->opts.window + w->opts.workers + w->redrives;
    if (rows > most)
        sim_fail(w, "the ledger has %zu rows, at most %zu may be there", rows, most);
}

void audit_commit_truth(sim_world *w, uint64_t seq)
{
    sim_event *e = &w->events[seq];
    sim_truth *t = &w->saved[seq];
    sim_end before = t->end;
    *t = w->collected[seq];
    if (t->end == SIM_DYING) {
        t->end = SIM_DEAD;
        w->now[seq].end = SIM_DEAD;
        e->letters++;
        e->blocks = w->opts.park && e->key[0];
    }
    if (t->end == SIM_OPEN || before != SIM_OPEN)
        return;
    e->letters -= e->redriven ? e->answers : 0; /* those that were redriven go */
    e->redriven = false;
    if (t->end == SIM_ACKED)
        e->blocks = false;
}

void audit_commit(sim_world *w, bool ok)
{
    audit_postponed_saved(w, ok);
    if (!ok)
        return;
    audit_ranges(w);
    disk_save(w, &w->save);
    for (uint64_t i = 1; i <= w->n_events; i++)
        audit_commit_truth(w, i);
    audit_disk(w);
}
