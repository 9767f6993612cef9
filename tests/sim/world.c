/* world.c: chance. A run is a storm, in which anything may happen at any moment, and then a calm: no
 * more faults, and everything must come to its end. */
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t sim_roll(sim_world *w, uint64_t n)
{
    w->rng += UINT64_C(0x9E3779B97F4A7C15); /* SplitMix64 */
    uint64_t z = w->rng;
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (z ^ z >> 31) % n;
}

bool sim_chance(sim_world *w, uint64_t one_in)
{
    return sim_roll(w, one_in) == 0;
}

hk_now sim_now(const sim_world *w)
{
    return (hk_now){.mono = w->mono, .wall = w->wall};
}

static void make_event(sim_world *w, sim_event *e, uint64_t keys)
{
    uint64_t k = sim_roll(w, keys + 2);
    e->matches = k != keys;
    if (k < keys)
        (void)snprintf(e->key, sizeof e->key, "k%d", (int)(k % 10));
    static const sim_script scripts[] = {SIM_ACK,    SIM_ACK,   SIM_ACK,    SIM_ACK,
                                         SIM_RETRY,  SIM_RETRY, SIM_REJECT, SIM_HANG,
                                         SIM_BROKEN, SIM_NEWER, SIM_CRASH};
    e->transacts = sim_chance(w, 2);
    e->script = scripts[sim_roll(w, sizeof scripts / sizeof *scripts)];
    e->times = sim_roll(w, 5) + 1;
    if ((e->script == SIM_REJECT || e->script == SIM_BROKEN) && sim_chance(w, 2))
        e->times = 1000; /* whenever it is redriven */
    e->limit = -1;
}

static void make_world(sim_world *w)
{
    uint64_t keys = sim_roll(w, 5) + 1;
    w->n_events = sim_roll(w, EVENTS - 8) + 8;
    for (uint64_t i = 1; i <= w->n_events; i++)
        make_event(w, &w->events[i], keys);
    w->opts =
        (hk_core_opts){.workers = sim_roll(w, 4) + 1,
                       .window = sim_roll(w, sim_chance(w, 2) ? 4 : 20) + 1,
                       .max_deferred = sim_roll(w, sim_chance(w, 2) ? 6 : 60) + 1,
                       .retry_delay_ns = (int64_t)sim_roll(w, 20) * MS,
                       .retry_max_ns = (int64_t)(sim_roll(w, 60) + 1) * MS,
                       .max_attempts = sim_chance(w, 5) ? -1 : (int64_t)sim_roll(w, 5) + 1,
                       .max_crashes = 3,
                       .max_interruptions = sim_chance(w, 2) ? 20 : (int64_t)sim_roll(w, 4) + 2,
                       .park = sim_chance(w, 2)};
    w->mono = (int64_t)sim_roll(w, 1000) * MS;
    w->wall = 500000 * HOUR + (int64_t)sim_roll(w, 1000) * MS;
    w->timeout = (int64_t)(sim_roll(w, 40) + 10) * MS;
    w->buries = sim_chance(w, 4);
    w->lazy = sim_chance(w, 2) ? 3 : 15;
    w->slow = sim_chance(w, 2) ? 1 : 8;
    w->start = sim_chance(w, 3) ? sim_roll(w, 6) : 0;
    w->visible = w->start;
    w->disk.floor = w->start;
    w->disk.generation = 1;
}

static const sim_letter *some_letter(sim_world *w)
{
    return w->disk.n_letters ? &w->disk.letters[sim_roll(w, w->disk.n_letters)] : NULL;
}

static void letter(sim_world *w)
{
    sim_tell(w);
    const sim_letter *l = some_letter(w);
    if (!l || w->tell != SIM_TOLD)
        return;
    if (sim_chance(w, 3))
        sim_discard(w, l->id);
    else
        sim_redrive(w, l->id, sim_chance(w, 2) ? 0 : (int64_t)sim_roll(w, 40) * MS);
}

/* All there are, one after the other, 3 ms apart. */
static void redrive_all(sim_world *w)
{
    for (uint64_t id = 1; id <= w->disk.last_letter; id++) {
        sim_tell(w);
        if (w->tell != SIM_TOLD)
            return; /* memory is out */
        if (disk_letter(&w->disk, id))
            sim_redrive(w, id, (int64_t)id * 3 * MS);
    }
}

static void pause_or_resume(sim_world *w)
{
    w->disk.paused = w->opts.paused = sim_chance(w, 2);
    sim_say(w, w->opts.paused ? "paused" : "resumed");
    hk_cores_pause(w->cores, w->opts.paused);
}

static bool untold(const sim_world *w)
{
    for (size_t i = 0; i < w->n_txs; i++)
        if (w->txs[i].state == SIM_TX_COMMITTED)
            return true;
    return false;
}

/* Between the commit of a transaction and its end is the worst time to be killed. */
static void commit(sim_world *w)
{
    sim_commit(w, !sim_chance(w, 4));
    if (untold(w) && sim_chance(w, 8))
        sim_restart(w, SIM_KILLED, 0);
}

static void save(sim_world *w)
{
    if (w->flight || (w->n_txs && sim_chance(w, 2))) {
        if (sim_chance(w, w->slow))
            commit(w);
        return;
    }
    hk_dirt dirt = hk_cores_dirt(w->cores, sim_now(w));
    if (dirt == HK_DIRTY_URGENT || (dirt == HK_DIRTY_LAZY && sim_chance(w, w->lazy)))
        sim_collect(w);
}

static void pass_time(sim_world *w)
{
    int64_t due = hk_cores_due(w->cores);
    int64_t step = (int64_t)sim_roll(w, 8) * MS;
    if (due > w->mono && due - w->mono < 100 * MS && sim_chance(w, 3))
        step = due - w->mono;
    w->mono += step;
    w->wall += step;
    if (sim_chance(w, 100))
        w->wall += (int64_t)sim_roll(w, 6) * HOUR - 3 * HOUR;
}

static void hand_gap(sim_world *w)
{
    uint64_t upto = sim_roll(w, w->visible + 1);
    hk_cores_gap_done(w->cores, upto);
    w->gap_handed = upto > w->gap_handed ? upto : w->gap_handed;
}

static void rare(sim_world *w)
{
    switch (sim_roll(w, 12)) {
    case 0:
        sim_restart(w, SIM_CLEAN, 0);
        break;
    case 1:
    case 2:
        sim_restart(w, SIM_KILLED, 0);
        break;
    case 3:
        if (w->tell == SIM_TOLD && sim_chance(w, 2))
            sim_reset(w);
        break;
    case 4:
        hand_gap(w);
        break;
    case 5:
    case 6:
        pause_or_resume(w);
        break;
    case 7:
        if (sim_chance(w, 2))
            redrive_all(w);
        break;
    default:
        letter(w);
    }
}

static void storm(sim_world *w)
{
    uint64_t steps = sim_roll(w, 600) + 50;
    for (uint64_t i = 0; i < steps; i++) {
        if (sim_chance(w, 4) && w->visible < w->n_events)
            w->visible += sim_roll(w, w->n_events - w->visible) / 2 + 1;
        switch (sim_roll(w, 7)) {
        case 0:
            sim_read(w);
            break;
        case 1:
            sim_start(w, sim_chance(w, 2));
            break;
        case 2:
        case 3:
            sim_handlers(w);
            break;
        case 4:
            save(w);
            break;
        case 5:
            pass_time(w);
            break;
        default:
            if (w->tell != SIM_TOLD && sim_chance(w, 2))
                sim_tell(w);
            else if (sim_chance(w, 4))
                rare(w);
        }
        if (sim_chance(w, 5))
            sim_tell_txs(w, false);
        sim_handlers(w); /* a lease that ran out is seen at once */
    }
}

/* True when there was one. */
static bool settle_letters(sim_world *w)
{
    for (size_t i = 0; i < w->disk.n_letters; i++) {
        sim_letter l = w->disk.letters[i];
        if (l.state != HARK_LETTER_DEAD || !w->events[l.seq].blocks ||
            l.generation != w->disk.generation)
            continue;
        if (w->redrives < 40 && sim_chance(w, 2))
            sim_redrive(w, l.id, 0);
        else
            sim_discard(w, l.id);
        sim_tell(w);
        return true;
    }
    return false;
}

/* To the next moment at which something happens by itself. */
static void to_next_moment(sim_world *w)
{
    int64_t next = hk_cores_due(w->cores);
    for (size_t i = 0; i < w->n_running; i++)
        if (w->running[i].ends < INT64_MAX && (next < 0 || w->running[i].ends < next))
            next = w->running[i].ends;
    for (size_t i = 0; i < w->n_running; i++) /* heartbeats come in time */
        if (w->running[i].beats && w->running[i].until - 1 < next)
            next = w->running[i].until - 1;
    if (next < 0)
        sim_fail(w, "it stands still: nothing runs, nothing is due, and not all is settled");
    if (next > w->mono) {
        w->wall += next - w->mono;
        w->mono = next;
    }
}

static void calm(sim_world *w)
{
    w->calm = true;
    sim_say(w, "-- calm --");
    w->visible = w->n_events;
    sim_tell(w);
    if (!w->knows)
        sim_restart(w, SIM_CLEAN, 0);
    w->disk.paused = w->opts.paused = false;
    hk_cores_pause(w->cores, false);
    for (size_t i = 0; i < w->n_running; i++)
        if (w->running[i].does == SIM_CRASH)
            w->running[i].does = SIM_ACK;
    for (size_t i = 0; !audit_done(w) || w->n_running || w->n_txs; i++) {
        if (i > 20000)
            sim_fail(w, "it never ends");
        sim_read(w);
        sim_handlers(w);
        sim_start(w, true);
        bool dirty = w->flight || w->n_txs || hk_cores_dirt(w->cores, sim_now(w)) != HK_CLEAN;
        sim_commit(w, true);
        sim_collect(w);
        sim_commit(w, true);
        sim_tell_txs(w, true);
        bool more = settle_letters(w) ||
                    (hk_cores_room(w->cores) > 0 && hk_cores_covered(w->cores) < w->visible);
        if (!dirty && !more && hk_cores_dirt(w->cores, sim_now(w)) == HK_CLEAN &&
            !(audit_done(w) && !w->n_running))
            to_next_moment(w);
    }
    audit_end(w);
}

void sim_run(uint64_t seed, bool loud)
{
    sim_world *w = calloc(1, sizeof *w);
    if (!w)
        abort();
    w->seed = seed;
    w->rng = seed * UINT64_C(0xD1342543DE82EF95) + 1;
    w->loud = loud;
    make_world(w);
    sim_boot(w);
    storm(w);
    calm(w);
    hk_cores_free(w->cores);
    free(w);
}
