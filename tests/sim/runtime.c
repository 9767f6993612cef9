/* runtime.c: the process around the core, as src/bus is: it reads the log, runs handlers, saves, and
 * now and then dies and comes back. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static void drop(void *payload)
{
    sim_payload *p = payload;
    p->w->payloads--;
    p->w->arrived -= p->arrived;
    p->w->holding[p->seq]--;
    free(p);
}

static sim_payload *payload_new(sim_world *w, uint64_t seq, bool arrived)
{
    sim_payload *p = malloc(sizeof *p);
    if (!p)
        abort();
    *p = (sim_payload){.w = w, .seq = seq, .arrived = arrived};
    w->payloads++;
    w->arrived += arrived;
    w->holding[seq]++;
    return p;
}

bool sim_doomed(const sim_world *w, uint64_t seq)
{
    const sim_event *e = &w->events[seq];
    return e->crashes >= w->opts.max_crashes || e->interruptions >= w->opts.max_interruptions;
}

static void memory_may_be_out(sim_world *w)
{
    sim_memory_in = !w->calm && sim_chance(w, 20) ? (int)sim_roll(w, 6) : -1;
}

static bool memory_was_out(sim_world *w, hark_err err)
{
    sim_memory_in = -1;
    if (err && err != HARK_ENOMEM)
        sim_fail(w, "error %d where only memory may be out", (int)err);
    if (err && w->calm)
        sim_fail(w, "memory is out though it is not");
    return err != HARK_OK;
}

void sim_boot(sim_world *w)
{
    hark_store_consumer state;
    hark_store_row rows[EVENTS];
    (void)disk_consumer(&w->disk, &state, rows);
    w->opts.drop = drop;
    w->opts.paused = state.ret_paused;
    w->opts.seed = sim_roll(w, UINT64_MAX);
    w->cores = hk_cores_new(&w->opts, 1);
    if (!w->cores ||
        hk_cores_claim(w->cores, (hark_store_owned){0}, &state, (hk_reach){0}, sim_now(w)))
        abort();
    w->lazy_since = -1;
    w->n_replayed = 0;
    audit_boot(w);
}

void sim_read(sim_world *w)
{
    size_t room = hk_cores_room(w->cores);
    uint64_t seq = hk_cores_covered(w->cores) + 1;
    for (; seq <= w->visible && room > 0; seq++) {
        const sim_event *e = &w->events[seq];
        if (e->matches) {
            bool kept;
            sim_payload *p = payload_new(w, seq, true);
            w->events[seq].read = true;
            memory_may_be_out(w);
            hark_err err = hk_cores_arrive(w->cores, seq - 1, seq, e->key[0] ? e->key : NULL, p,
                                           sim_now(w), &kept);
            if (memory_was_out(w, err)) {
                drop(p);
                w->events[seq].read = false;
                return;
            }
            if (!kept)
                drop(p);
            room--;
        }
        hk_cores_cover(w->cores, seq - 1, seq);
        if (!w->calm && sim_chance(w, 12))
            break;
    }
    if (w->arrived > w->opts.window)
        sim_fail(w, "%zu events are in memory, the window is %zu", w->arrived, w->opts.window);
}

static sim_script act(const sim_world *w, sim_event *e)
{
    bool again = e->runs++ < e->times;
    if (!again || e->script == SIM_NEWER || (w->calm && e->script == SIM_CRASH))
        return SIM_ACK;
    return e->script;
}

static void die(sim_world *w, const hk_started *s)
{
    if (!sim_doomed(w, s->seq))
        sim_fail(w, "%llu may still run", (unsigned long long)s->seq);
    sim_say(w, "%llu must not run any more", (unsigned long long)s->seq);
    hk_cores_die(w->cores, s->lease, sim_now(w));
}

static int64_t duration(sim_world *w, sim_script does)
{
    if (does == SIM_HANG)
        return sim_chance(w, 2) ? INT64_MAX - w->mono : w->timeout * 3; /* for ever, or late */
    return (int64_t)sim_roll(w, sim_chance(w, 10) ? 400 : 6) * MS;
}

static void handle(sim_world *w, const hk_started *s, int64_t until)
{
    sim_script does = act(w, &w->events[s->seq]);
    int64_t takes = duration(w, does);
    if (w->n_running == RUNNING)
        sim_fail(w, "more than %d handlers run", RUNNING);
    w->running[w->n_running++] = (sim_running){.lease = s->lease,
                                               .seq = s->seq,
                                               .ends = w->mono + takes,
                                               .until = until,
                                               .live = true,
                                               .beats = does != SIM_HANG && takes >= w->timeout,
                                               .does = does};
    sim_say(w, "%llu starts, attempt %lld%s%s", (unsigned long long)s->seq, (long long)s->attempt,
            does == SIM_HANG ? ", hangs" : "", s->replayed ? ", replayed" : "");
}

static void bury(sim_world *w, const hk_started *s)
{
    sim_say(w, "%llu is buried", (unsigned long long)s->seq);
    if (hk_cores_bury(w->cores, s->lease, "upcast", "it breaks", sim_now(w)) ||
        !hk_cores_bury(w->cores, s->lease, "upcast", "it breaks", sim_now(w)))
        sim_fail(w, "%llu is not buried, or twice", (unsigned long long)s->seq);
    audit_bury(w, s->seq);
}

static void postpone(sim_world *w, const hk_started *s)
{
    int64_t delay = (int64_t)sim_roll(w, 60) * MS;
    sim_say(w, "%llu is postponed", (unsigned long long)s->seq);
    if (hk_cores_postpone(w->cores, s->lease, delay, "a newer version", sim_now(w)) ||
        !hk_cores_postpone(w->cores, s->lease, delay, "a newer version", sim_now(w)))
        sim_fail(w, "%llu is not postponed, or twice", (unsigned long long)s->seq);
    audit_postpone(w, s, delay);
}

/* Can it be brought to its handler? */
static bool make_ready(sim_world *w, const hk_started *s)
{
    sim_event *e = &w->events[s->seq];
    bool newer = e->script == SIM_NEWER && !w->knows;
    if ((e->script == SIM_BROKEN && e->runs++ < e->times) || (newer && w->buries))
        bury(w, s);
    else if (newer)
        postpone(w, s);
    else
        return true;
    return false;
}

static void run(sim_world *w, const hk_started *s, int64_t until)
{
    if (!s->payload &&
        hk_cores_payload_set(w->cores, s->lease, payload_new(w, s->seq, false)) != HARK_OK)
        sim_fail(w, "%llu: its lease is gone at once", (unsigned long long)s->seq);
    w->most_started = s->seq > w->most_started ? s->seq : w->most_started;
    if (s->doomed) {
        die(w, s);
        return;
    }
    audit_start(w, s);
    if (!make_ready(w, s))
        return;
    if (w->calm || !sim_chance(w, 25)) {
        handle(w, s, until);
        return;
    }
    sim_say(w, "%llu is unstarted", (unsigned long long)s->seq);
    hk_cores_unstart(w->cores, s->lease);
    audit_unstart(w, s);
}

void sim_start(sim_world *w, bool all)
{
    hk_started s;
    for (size_t i = 0; i < 200; i++) {
        if (!all && sim_chance(w, 3))
            return;
        if (w->n_running >= RUNNING - 1)
            return; /* too many that hang and are timed out */
        int64_t until = w->mono + w->timeout;
        if (!hk_cores_start(w->cores, sim_now(w), until, &s)) {
            audit_idle(w);
            return;
        }
        run(w, &s, until);
    }
    if (w->calm)
        sim_fail(w, "starting never ends");
}

static void answer(sim_world *w, sim_running *r)
{
    hark_verdict v = r->does == SIM_RETRY    ? HARK_RETRY
                     : r->does == SIM_REJECT ? HARK_REJECT
                                             : HARK_ACK;
    hark_verdict came = HARK_ACK;
    int64_t delay = v == HARK_RETRY && sim_chance(w, 4) ? (int64_t)sim_roll(w, 30) * MS : -1;
    hark_err err =
        hk_cores_settle(w->cores, r->lease, v, delay, v ? "because" : NULL, sim_now(w), &came);
    sim_say(w, "%llu answers %d: %d", (unsigned long long)r->seq, (int)v, (int)err);
    if (r->live != (err == HARK_OK) || (err && err != HARK_ESTALE))
        sim_fail(w, "%llu: an answer %s its time gave %d", (unsigned long long)r->seq,
                 r->live ? "within" : "after", (int)err);
    if (r->live)
        audit_settle(w, r->seq, v, came, delay, v == HARK_REJECT ? "reject" : "retry");
}

static void expire(sim_world *w)
{
    hk_lease lease;
    uint64_t seq;
    hark_verdict came;
    while (hk_cores_expire(w->cores, sim_now(w), &lease, &seq, &came)) {
        sim_say(w, "%llu is timed out", (unsigned long long)seq);
        size_t i = 0;
        while (i < w->n_running && !(w->running[i].live && w->running[i].seq == seq))
            i++;
        if (i == w->n_running || w->running[i].until > w->mono || w->running[i].sealed)
            sim_fail(w, "%llu is timed out before its time", (unsigned long long)seq);
        w->running[i].live = false;
        if (w->running[i].ends == INT64_MAX)
            w->running[i] = w->running[--w->n_running]; /* never heard of again */
        audit_settle(w, seq, HARK_RETRY, came, -1, "timeout");
    }
    for (size_t i = 0; i < w->n_running; i++)
        if (w->running[i].live && !w->running[i].sealed && w->running[i].until <= w->mono)
            sim_fail(w, "%llu is not timed out", (unsigned long long)w->running[i].seq);
}

static void beat(sim_world *w)
{
    for (size_t i = 0; i < w->n_running; i++) {
        sim_running *r = &w->running[i];
        if (!r->beats)
            continue;
        r->until = w->mono + w->timeout;
        if ((hk_cores_extend(w->cores, r->lease, r->until) == HARK_OK) != r->live)
            sim_fail(w, "%llu: its lease cannot be extended", (unsigned long long)r->seq);
    }
}

void sim_handlers(sim_world *w)
{
    beat(w); /* in time: the clock moves in steps */
    expire(w);
    for (size_t i = 0; i < w->n_running;) {
        sim_running r = w->running[i];
        if (r.ends > w->mono) {
            i++;
            continue;
        }
        if (r.does == SIM_CRASH && r.live) {
            sim_restart(w, SIM_CRASHED, r.seq);
            return;
        }
        if (r.does == SIM_ACK && w->events[r.seq].transacts && sim_transact(w, &w->running[i]))
            continue;
        w->running[i] = w->running[--w->n_running];
        answer(w, &r);
    }
}

void sim_collect(sim_world *w)
{
    if (w->flight || (w->tell != SIM_TOLD && w->tell_first) ||
        hk_cores_dirt(w->cores, sim_now(w)) == HK_CLEAN)
        return;
    hark_store_save *saves;
    size_t n;
    memory_may_be_out(w);
    if (memory_was_out(w, hk_cores_collect(w->cores, sim_now(w), &saves, &n)))
        return;
    if (n != 1)
        sim_fail(w, "%zu saves of one share", n);
    w->save = saves[0];
    w->flight = true;
    w->lazy_since = -1;
    audit_collect(w);
}

static void commit_save(sim_world *w, bool ok)
{
    sim_say(w, "saved: %s, floor %llu, %zu put, %zu dropped, %zu dead", ok ? "yes" : "no",
            (unsigned long long)w->save.floor, w->save.n_put, w->save.n_drop, w->save.n_dead);
    audit_commit(w, ok);
}

/* One group: transactions, and the save if there is one. */
static void group(sim_world *w, bool ok)
{
    bool save_first = sim_chance(w, 4);
    if (w->flight && save_first)
        commit_save(w, ok);
    sim_run_txs(w, ok);
    if (w->flight && !save_first)
        commit_save(w, ok);
}

void sim_commit(sim_world *w, bool ok)
{
    group(w, ok);
    if (sim_chance(w, 2)) /* handlers' threads may be faster than the writer */
        sim_tell_txs(w, false);
    if (w->flight)
        (void)hk_cores_saved(w->cores, ok);
    w->flight = false;
}

static void stop(sim_world *w)
{
    hk_cores_free(w->cores);
    w->cores = NULL;
    w->n_running = 0;
    w->flight = false;
    w->tell = SIM_TOLD;
    if (w->payloads)
        sim_fail(w, "%zu payloads are left when the core is gone", w->payloads);
}

/* What the store finds in the slots when it is opened again. */
static void count(sim_world *w, uint64_t seq, bool crash)
{
    if (!disk_count(&w->disk, seq, crash, w->wall))
        return;
    w->events[seq].crashes += crash;
    w->events[seq].interruptions += !crash;
    sim_say(w, "%llu counts %s", (unsigned long long)seq, crash ? "a crash" : "an interruption");
}

/* Settled, and the handler not yet back from it. */
static bool still_in_slot(sim_world *w, uint64_t seq)
{
    sim_end end = w->now[seq].end;
    return (end == SIM_ACKED || end == SIM_DEAD) && w->events[seq].read && !w->events[seq].blocks &&
           sim_chance(w, 30);
}

void sim_restart(sim_world *w, sim_stop how, uint64_t culprit)
{
    static const char *const words[] = {"ends", "is killed", "crashes"};
    if (sim_chance(w, 2)) /* committed, but nobody heard of it */
        group(w, true);
    sim_say(w, "the process %s", words[how]);
    for (size_t i = 0; how != SIM_CLEAN && i < w->n_running; i++)
        if (w->running[i].live)
            count(w, w->running[i].seq, how == SIM_CRASHED && w->running[i].seq == culprit);
    for (uint64_t seq = 1; how == SIM_KILLED && seq <= w->n_events; seq++)
        if (still_in_slot(w, seq))
            count(w, seq, false);
    stop(w);
    w->n_txs = 0;
    w->knows |= w->calm || sim_chance(w, 3);
    w->mono = (int64_t)sim_roll(w, 1000) * MS;
    if (sim_chance(w, 3))
        w->wall += (int64_t)sim_roll(w, 6) * HOUR - 3 * HOUR;
    w->opts.park = sim_chance(w, 8) ? !w->opts.park : w->opts.park;
    sim_boot(w);
}

void sim_tell(sim_world *w)
{
    const char *key = w->events[w->tell_seq].key;
    if (w->tell == SIM_TELL_REDRIVEN) {
        memory_may_be_out(w);
        hark_err err = hk_cores_redriven(w->cores, w->tell_seq, key[0] ? key : NULL, w->tell_due,
                                         w->tell_due_wall);
        if (memory_was_out(w, err))
            return;
        w->now[w->tell_seq] = (sim_truth){.end = SIM_OPEN};
        w->events[w->tell_seq].not_before = w->tell_due;
        w->events[w->tell_seq].read = true;
    } else if (w->tell == SIM_TELL_DISCARDED) {
        hk_cores_discarded(w->cores, w->tell_seq, key[0] ? key : NULL);
    }
    w->tell = SIM_TOLD;
}

void sim_redrive(sim_world *w, uint64_t id, int64_t in)
{
    sim_letter *l = disk_letter(&w->disk, id);
    uint64_t seq = l->seq;
    const sim_row *row = &w->disk.rows[seq];
    bool leftover = row->there && (row->row.state == HARK_ROW_COUNTS || !w->opts.park);
    if (leftover && w->flight)
        return; /* the save under way may drop it */
    hark_err err = disk_redrive(w, l, w->wall + in);
    sim_say(w, "dead letter %llu of %llu is redriven: %d", (unsigned long long)id,
            (unsigned long long)seq, (int)err);
    if (err)
        return;
    w->redrives++;
    audit_redriven(w, seq);
    w->tell = SIM_TELL_REDRIVEN;
    w->tell_seq = seq;
    w->tell_due = w->mono + in;
    w->tell_due_wall = w->wall + in;
    w->tell_first = leftover;
}

void sim_discard(sim_world *w, uint64_t id)
{
    sim_letter *l = disk_letter(&w->disk, id);
    uint64_t seq = l->seq;
    if (l->state != HARK_LETTER_DEAD)
        return;
    bool parked = disk_discard(w, l);
    sim_say(w, "dead letter %llu of %llu is discarded", (unsigned long long)id,
            (unsigned long long)seq);
    w->events[seq].letters--;
    if (parked)
        audit_discarded(w, seq);
    else if (hk_planted != 43)
        return; /* it may have a later letter, which parks its key: that one stays */
    w->tell = SIM_TELL_DISCARDED;
    w->tell_seq = seq;
    w->tell_first = false; /* a save of the same group is collected before */
}

void sim_reset(sim_world *w)
{
    hark_store_rerun rerun = {.id = ""};
    if (sim_chance(w, 2)) {
        rerun = (hark_store_rerun){.id = "r", .upto = w->disk.highest, .rate = 0};
        if (sim_chance(w, 2))
            rerun.rate = (int64_t)sim_roll(w, 150) + 5;
    }
    stop(w);
    w->start = sim_roll(w, rerun.id[0] ? w->visible / 4 + 1 : w->visible + 1);
    disk_reset(w, w->start, &rerun);
    sim_say(w, "reset to %llu%s, rate %lld", (unsigned long long)w->start,
            rerun.id[0] ? ", a replay" : "", (long long)rerun.rate);
    audit_reset(w);
    sim_boot(w);
}
