/* shares.c: chance in the world of several processes: a storm, and a calm in which everything must
 * come to its end. */
#include "shares.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void make_event(shr_world *x, uint64_t seq, uint64_t keys, bool poisons)
{
    static const sim_script scripts[] = {SIM_ACK, SIM_ACK, SIM_ACK,   SIM_ACK,    SIM_ACK,
                                         SIM_ACK, SIM_ACK, SIM_RETRY, SIM_REJECT, SIM_HANG};
    shr_event *e = &x->events[seq];
    if (!sim_chance(&x->w, 12))
        (void)snprintf(e->key, sizeof e->key, "k%u", (unsigned)(sim_roll(&x->w, keys) % 100));
    e->share = hk_share_of(shr_key(e), seq, SHARES);
    e->script = scripts[sim_roll(&x->w, sizeof scripts / sizeof *scripts)];
    e->times = sim_roll(&x->w, 3) + 1;
    e->poison = poisons && sim_chance(&x->w, 40);
    e->transacts = sim_chance(&x->w, 4) && !e->poison;
}

static void make_world(shr_world *x)
{
    uint64_t keys = sim_chance(&x->w, 3) ? sim_roll(&x->w, 8) + 1 : KEYS;
    bool poisons = sim_chance(&x->w, 3);
    x->n_events = sim_roll(&x->w, PLACES - 40) + 40;
    for (uint64_t i = 1; i <= x->n_events; i++)
        make_event(x, i, keys, poisons);
    x->n_processes = sim_roll(&x->w, MEMBERS - 1) + 2;
    x->opts = (hk_core_opts){.workers = sim_roll(&x->w, 4) + 1,
                             .window = sim_roll(&x->w, 60) + 20,
                             .max_deferred = sim_roll(&x->w, 60) + 10,
                             .retry_delay_ns = (int64_t)sim_roll(&x->w, 20) * MS,
                             .retry_max_ns = 60 * MS,
                             .max_attempts = (int64_t)sim_roll(&x->w, 4) + 2,
                             .max_crashes = 3,
                             .max_interruptions =
                                 sim_chance(&x->w, 2) ? 20 : (int64_t)sim_roll(&x->w, 6) + 3,
                             .claim_ahead = sim_roll(&x->w, 12) + 4,
                             .park = sim_chance(&x->w, 2)};
    x->w.mono = (int64_t)sim_roll(&x->w, 1000) * MS;
    x->w.wall = 500000 * HOUR;
    x->timeout = (int64_t)(sim_roll(&x->w, 60) + 10) * MS;
}

/* Mostly in time. */
static void look_after_lease(shr_world *x, shr_process *p)
{
    if (p->lives_until - x->w.mono < LEASE / 2 && !sim_chance(&x->w, 10))
        shr_beat(x, p);
    if (x->w.mono - p->asked > LEASE / 6 && sim_chance(&x->w, 2))
        shr_ask(x, p);
}

static void letter(shr_world *x)
{
    uint64_t seq = sim_roll(&x->w, x->n_events) + 1;
    shr_event *e = &x->events[seq];
    if (e->saved.end != SIM_DEAD || e->now.end != SIM_DEAD || e->discarded ||
        x->store.n_news == NEWS)
        return;
    if (sim_chance(&x->w, 3))
        store_discard(x, seq);
    else
        store_redrive(x, seq);
    sim_say(&x->w, "dead letter of %llu is %s", (unsigned long long)seq,
            e->redriven ? "redriven" : "discarded");
}

static void kill_one(shr_world *x, shr_process *p)
{
    if (p->flight && sim_chance(&x->w, 2)) /* committed, but nobody heard of it */
        shr_commit(x, p, true);
    if (sim_chance(&x->w, 2)) /* others know at once */
        store_leave(x, p);
    shr_kill(x, p);
}

static void rare(shr_world *x, shr_process *p)
{
    switch (sim_roll(&x->w, 8)) {
    case 0:
        kill_one(x, p);
        break;
    case 1:
        p->hangs_until = x->w.mono + (int64_t)sim_roll(&x->w, 4) * LEASE;
        sim_say(&x->w, "process %llu hangs", (unsigned long long)p->id);
        break;
    case 2:
        if (!p->closing)
            shr_close(x, p);
        break;
    case 3:
        shr_pause(x, p, true);
        break;
    default:
        letter(x);
    }
}

static void save(shr_world *x, shr_process *p)
{
    hk_dirt dirt = hk_cores_dirt(p->cores, sim_now(&x->w));
    if (p->flight || sim_chance(&x->w, 4))
        shr_commit(x, p, !sim_chance(&x->w, 6));
    else if (dirt == HK_DIRTY_URGENT || (dirt == HK_DIRTY_LAZY && sim_chance(&x->w, 3)))
        shr_collect(x, p);
}

static void step(shr_world *x, shr_process *p)
{
    look_after_lease(x, p);
    if (!p->id) /* it was closed */
        return;
    if (sim_chance(&x->w, 8))
        shr_pause(x, p, false);
    switch (sim_roll(&x->w, 6)) {
    case 0:
        shr_read(x, p);
        break;
    case 1:
    case 2:
        shr_start(x, p);
        break;
    case 3:
        shr_handlers(x, p);
        break;
    default:
        save(x, p);
    }
    if (p->id && sim_chance(&x->w, 40))
        rare(x, p);
}

static void pass_time(shr_world *x, int64_t ns)
{
    x->w.mono += ns;
    x->w.wall += ns;
}

static void storm(shr_world *x)
{
    uint64_t steps = sim_roll(&x->w, 1500) + 300;
    for (uint64_t i = 0; i < steps; i++) {
        shr_process *p = &x->processes[sim_roll(&x->w, x->n_processes)];
        if (sim_chance(&x->w, 8) && x->visible < x->n_events)
            x->visible += sim_roll(&x->w, x->n_events - x->visible) / 6 + 1;
        if (!p->id && sim_chance(&x->w, 8))
            shr_boot(x, p);
        else if (p->id && p->hangs_until <= x->w.mono)
            step(x, p);
        if (sim_chance(&x->w, 2))
            pass_time(x, (int64_t)sim_roll(&x->w, 4) * MS);
    }
}

/* Dead letters that hold up their keys. */
static void settle_letters(shr_world *x)
{
    for (uint64_t i = 1; i <= x->n_events; i++) {
        shr_event *e = &x->events[i];
        if (!e->blocks || e->saved.end != SIM_DEAD || e->now.end != SIM_DEAD || e->discarded)
            continue;
        store_discard(x, i);
    }
}

static void calm_step(shr_world *x, shr_process *p)
{
    if (p->lives_until - x->w.mono < LEASE / 2)
        shr_beat(x, p);
    if (x->w.mono - p->asked > LEASE / 6)
        shr_ask(x, p);
    if (!p->id)
        return;
    shr_pause(x, p, false);
    shr_read(x, p);
    shr_handlers(x, p);
    if (!p->id) /* one of them has killed it */
        return;
    shr_start(x, p);
    if (hk_cores_dirt(p->cores, sim_now(&x->w)) != HK_CLEAN)
        shr_collect(x, p);
    shr_commit(x, p, true);
}

static void calm(shr_world *x)
{
    x->w.calm = true;
    sim_say(&x->w, "-- calm --");
    x->visible = x->n_events;
    if (!x->processes[0].id)
        shr_boot(x, &x->processes[0]);
    for (size_t i = 0; !shr_audit_done(x); i++) {
        if (i > 4000)
            sim_fail(&x->w, "it never ends");
        for (size_t k = 0; k < x->n_processes; k++)
            if (x->processes[k].id)
                calm_step(x, &x->processes[k]);
        if (!x->processes[0].id) /* it was being closed */
            shr_boot(x, &x->processes[0]);
        settle_letters(x);
        pass_time(x, 4 * MS);
    }
    shr_audit_end(x);
}

void shares_run(uint64_t seed, bool loud)
{
    shr_world *x = calloc(1, sizeof *x);
    if (!x)
        abort();
    x->w.seed = seed;
    x->w.rng = seed * UINT64_C(0xD1342543DE82EF95) + 7;
    x->w.loud = loud;
    make_world(x);
    storm(x);
    calm(x);
    free(x);
}
