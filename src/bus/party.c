/* party.c: a process among others on a shared store. Its thread, hark-party, says that the process lives, asks for each open
 * consumer what of it is its own, and has shares.c carry out the answers; party_leave.c is about consumers that are
 * closed. Who asks holds `admin`; the thread never waits for that, since others hold it across jobs of the writer, and beats
 * must go on. When they have paused for longer than the lease, deliveries start again only when all consumers were asked for: others
 * may have had their shares since. */
#include "bus/party_leave_i.h"

#include <stdlib.h>

enum { TRIES = 4 };
#define BUSY_NS INT64_C(2000000)    /* somebody else holds `admin`: it is tried again then */
#define WAIT_NS INT64_C(10000000)   /* an opener waits so long for a save that is under way */
#define REST_NS INT64_C(1000000000) /* the thread never sleeps for longer */
/* The server's clock is known no better than that: nearer, it counts as ours. */
#define SAME_CLOCK_NS INT64_C(50000000)

/* ---- the store ------------------------------------------------------------------------------- */

hark_err hk_party_call(hk_party *p, hark_store_shares *x, hark_errinfo *ei)
{
    hark_err err = hk_store_enter(p->bus, ei);
    if (err)
        return err;
    pthread_mutex_lock(&p->calls);
    err = p->bus->ops->shares(p->bus->store, x, ei);
    pthread_mutex_unlock(&p->calls);
    hk_store_leave(p->bus);
    return err;
}

static hark_err call_beat(hk_party *p, int64_t *ret_until, int64_t *ret_ahead, hark_errinfo *ei)
{
    hark_err err = hk_store_enter(p->bus, ei);
    if (err)
        return err;
    pthread_mutex_lock(&p->calls);
    err = p->bus->ops->beat(p->bus->store, ret_until, ret_ahead, ei);
    pthread_mutex_unlock(&p->calls);
    hk_store_leave(p->bus);
    return err;
}

/* ---- beats ----------------------------------------------------------------------------------- */

static void tell(const hk_party *p, hk_tiding what, const char *why)
{
    const char *scheme = p->bus->ops->scheme;
    int64_t left = p->rhythm.until - hk_mono_ns();
    if (what == HK_TIDING_TROUBLE)
        hk_log(HK_WARN,
               "%s: the store does not hear that this process lives: %s; its consumers go on for "
               "%lld ms, then they wait until it does",
               scheme, why, (long long)(left > 0 ? left / 1000000 : 0));
    else if (what == HK_TIDING_OVER)
        hk_log(HK_WARN,
               "%s: the lease of this process is over: its consumers start nothing until the store "
               "answers, and other processes may take them over",
               scheme);
}

/* When nothing keeps consumers from going on any more. */
static void tell_well(hk_party *p)
{
    if (!p->well || p->rhythm.lapsed)
        return;
    p->well = false;
    hk_log(HK_WARN, "%s: the store answers again, consumers go on", p->bus->ops->scheme);
}

/* From one beat to the next it goes by the monotonic clock: who sets ours does not set the server's. */
static void set_clock(hk_party *p, int64_t ahead)
{
    hk_now now = hk_now_get();
    now.wall += llabs(ahead) < SAME_CLOCK_NS ? 0 : ahead;
    hk_mark_set(&p->clock, (uint64_t)(now.wall - now.mono));
}

static hark_err beat(hk_party *p, hark_errinfo *ei)
{
    int64_t until = 0, ahead = 0, began = hk_mono_ns(), before = p->rhythm.until;
    hark_err err = call_beat(p, &until, &ahead, ei);
    int64_t now = hk_mono_ns();
    if (err) {
        tell(p, hk_rhythm_missed(&p->rhythm, now), hk_err_says(err, ei));
        if (ei)
            p->why = *ei;
        return err;
    }
    p->well |= hk_rhythm_beaten(&p->rhythm, began, now, until) == HK_TIDING_WELL;
    set_clock(p, ahead);
    if (now >= before) {
        p->lapsed_at = now;
        (void)hk_mark_add(&p->lapses, 1); /* before it lives again */
    }
    if (!p->rhythm.lapsed)
        hk_mark_set(&p->until, (uint64_t)until);
    tell_well(p);
    return HARK_OK;
}

void hk_party_beat_if_due(hk_party *p)
{
    hark_errinfo ei = {0};
    int64_t now = hk_mono_ns();
    tell(p, hk_rhythm_look(&p->rhythm, now), NULL);
    if (now >= hk_rhythm_beat(&p->rhythm, p->busy))
        (void)beat(p, &ei);
}

bool hk_party_lives(const hark_bus *bus)
{
    return !bus->party || hk_mono_ns() < (int64_t)hk_mark_get(&bus->party->until);
}

uint64_t hk_party_lapses(const hark_bus *bus)
{
    return bus->party ? hk_mark_get(&bus->party->lapses) : 0;
}

hk_now hk_now_get(void)
{
    return (hk_now){.mono = hk_mono_ns(), .wall = hk_wall_ns()};
}

hk_now hk_bus_now(const hark_bus *bus)
{
    hk_now now = hk_now_get();
    if (bus->party)
        now.wall = now.mono + (int64_t)hk_mark_get(&bus->party->clock);
    return now;
}

int64_t hk_party_ahead(const hark_bus *bus)
{
    return bus->party ? hk_bus_now(bus).wall - hk_wall_ns() : 0;
}

/* ---- asking ---------------------------------------------------------------------------------- */

static hark_err ask_once(hk_party *p, hark_sub *s, bool *ret_again, hark_errinfo *ei)
{
    hark_store_shares x;
    hark_err err = hk_shares_ask(s, &x);
    if (!err)
        err = hk_party_call(p, &x, ei);
    if (!err)
        err = hk_shares_take(s, &x, ret_again);
    free((void *)(uintptr_t)x.release);
    hark_store_shares_clear(&x);
    return err;
}

/* Under `admin`. When it is in doubt after that, the thread asks again. */
static hark_err ask(hk_party *p, hark_sub *s, int64_t wait_ns, hark_errinfo *ei)
{
    bool again = true;
    hark_err err = HARK_OK;
    for (int i = 0; i < TRIES && again && !err; i++) {
        unsigned seen = hk_gate_look(&s->gate);
        if (i > 0 && wait_ns)
            (void)hk_gate_wait(&s->gate, seen, wait_ns);
        err = ask_once(p, s, &again, ei);
    }
    if (!err && again)
        hk_party_doubt(s);
    return err;
}

hark_err hk_party_join(hark_sub *s, hark_errinfo *ei)
{
    hk_party *p = s->bus->party;
    if (!p)
        return HARK_OK;
    if (hk_mark_get(&s->closed) == HK_SUB_OPENING) { /* else these are the thread's */
        hk_party_forgive(p, s->consumer->id);
        s->consumer->member.joined = true; /* also when the answer does not come */
        s->consumer->member.asked = s->consumer->member.answered = hk_mono_ns();
    }
    return ask(p, s, WAIT_NS, ei);
}

static void stop_delivering(hk_consumer *c)
{
    pthread_mutex_lock(&c->lock);
    c->stale = true;
    hk_consumer_unlock(c);
}

/* It goes on with what it has, unless that may be others' by now. */
static void not_answered(hk_party *p, hark_sub *s, hark_err err, const hark_errinfo *ei)
{
    hk_member *m = &s->consumer->member;
    m->again = hk_mono_ns() + hk_rhythm_pause(&p->rhythm, ++m->fails);
    if (err == HARK_ECLOSED)
        return;
    if (!m->told && err == HARK_ENOTFOUND)
        hk_log(HK_WARN, "consumer %s is not registered any more, nothing of it is delivered: %s",
               s->name, hk_err_says(err, ei));
    else if (!m->told)
        hk_log(HK_WARN, "consumer %s: what of it is this process's is not known just now: %s",
               s->name, hk_err_says(err, ei));
    m->told = true;
    bool passes = hark_err_class(err) == HARK_CLASS_TRANSIENT;
    if (err == HARK_ENOTFOUND || (p->rhythm.lapsed && !passes)) {
        stop_delivering(s->consumer);
        m->answered = m->asked;
    }
}

static bool is_owed(const hk_party *p, const hk_member *m)
{
    return m->answered < p->lapsed_at;
}

/* Asks for a consumer if that is due; when to look again. */
static int64_t see_to(hk_party *p, hark_sub *s, uint64_t pokes)
{
    hk_member *m = &s->consumer->member;
    int64_t now = hk_mono_ns();
    bool hinted = m->pokes != pokes || hk_mark_get(&m->doubted);
    int64_t due = is_owed(p, m) ? now : hk_rhythm_ask(m->asked, hinted);
    due = m->fails ? m->again : due;
    if (p->rhythm.fails) /* the next beat tells whether that has any use */
        return -1;
    if (due > now)
        return due;
    if (pthread_mutex_trylock(&p->bus->admin) != 0)
        return now + BUSY_NS;
    hark_errinfo ei = {0};
    m->pokes = pokes;
    (void)hk_mark_swap(&m->doubted, 0);
    m->asked = hk_mono_ns();
    hark_err err = ask(p, s, 0, &ei);
    m->answered = err ? m->answered : m->asked;
    pthread_mutex_unlock(&p->bus->admin);
    m->told &= err != HARK_OK;
    m->fails = err ? m->fails : 0;
    if (err)
        not_answered(p, s, err, &ei);
    return err ? m->again : hk_rhythm_ask(m->asked, false);
}

/* The first open consumer that this round has not looked at, with a hold. */
static hark_sub *next_open(hk_party *p)
{
    hark_bus *bus = p->bus;
    pthread_mutex_lock(&bus->lock);
    hark_sub *s = bus->subs;
    while (s && (hk_mark_get(&s->closed) || !s->consumer || s->consumer->member.round == p->round))
        s = s->next;
    if (s) {
        s->consumer->member.round = p->round;
        hk_sub_hold(s);
    }
    pthread_mutex_unlock(&bus->lock);
    return s;
}

static void wake_all(hark_bus *bus)
{
    pthread_mutex_lock(&bus->lock);
    for (hark_sub *s = bus->subs; s; s = s->next)
        if (!hk_mark_get(&s->closed) && s->consumer)
            hk_gate_open(&s->gate);
    pthread_mutex_unlock(&bus->lock);
}

/* After a lapse, when all have been asked for; should that have taken longer than the new lease, it is asked again. */
static void go_on(hk_party *p)
{
    if (hk_mono_ns() >= p->rhythm.until)
        return;
    p->rhythm.lapsed = false;
    hk_mark_set(&p->until, (uint64_t)p->rhythm.until);
    wake_all(p->bus);
    tell_well(p);
}

static int64_t see_to_all(hk_party *p)
{
    uint64_t pokes = hk_mark_get(&p->pokes);
    int64_t due = -1;
    bool owed = false, busy = false;
    p->round++;
    for (hark_sub *s; (s = next_open(p));) {
        hk_party_beat_if_due(p);
        due = hk_sooner(due, see_to(p, s, pokes));
        owed |= is_owed(p, &s->consumer->member);
        busy = true;
        hk_sub_release(s);
    }
    p->busy = busy;
    if (p->rhythm.lapsed && !owed)
        go_on(p);
    return due;
}

void hk_party_poke(hark_bus *bus)
{
    if (!bus->party)
        return;
    (void)hk_mark_add(&bus->party->pokes, 1);
    hk_gate_open(&bus->party->gate);
}

void hk_party_doubt(hark_sub *s)
{
    if (!s->bus->party)
        return;
    (void)hk_mark_swap(&s->consumer->member.doubted, 1);
    hk_gate_open(&s->bus->party->gate);
}

/* ---- life ------------------------------------------------------------------------------------ */

static void *party_main(void *arg)
{
    hk_party *p = arg;
    (void)hk_role_set(
        HK_ROLE_WRITER); /* it gives back data of the program, which must not block it */
    for (;;) {
        unsigned seen = hk_gate_look(&p->gate); /* before looking at anything else */
        bool stopping = hk_mark_get(&p->stopping);
        hk_party_beat_if_due(p);
        int64_t due = hk_bus_accepts(p->bus) ? see_to_all(p) : -1;
        due = hk_sooner(due, hk_party_see_off(p));
        if (stopping && hk_party_all_gone(p))
            break;
        due = hk_sooner(due, hk_rhythm_due(&p->rhythm, p->busy)) - hk_mono_ns();
        if (due > 0)
            (void)hk_gate_wait(&p->gate, seen, due < REST_NS ? due : REST_NS);
    }
    return NULL;
}

static hark_err start_thread(hk_party *p, hark_errinfo *ei)
{
    p->ended = false;
    hark_err err = hk_thread_start(&p->thread, "hark-party", party_main, p);
    p->running = !err;
    p->ended = err != HARK_OK;
    return err ? hk_fail(ei, err,
                         "the thread that says to the store that this process lives cannot "
                         "be started: %s",
                         hark_err_text(err))
               : err;
}

hark_err hk_party_start(hark_bus *bus, hark_errinfo *ei)
{
    if (!bus->info.shared)
        return HARK_OK;
    hk_party *p = calloc(1, sizeof *p);
    if (!p)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a part in a shared log");
    p->bus = bus;
    p->ended = true;
    pthread_mutex_init(&p->calls, NULL);
    pthread_mutex_init(&p->lock, NULL);
    hk_gate_init(&p->gate);
    hk_random(&p->rhythm.rng, sizeof p->rhythm.rng);
    bus->party = p;
    hark_err err = beat(p, ei);
    if (!err)
        err = start_thread(p, ei);
    if (!err)
        err = hk_tailer_start(bus, ei);
    if (err)
        hk_party_stop(bus);
    return err;
}

void hk_party_stop(hark_bus *bus)
{
    hk_party *p = bus->party;
    if (!p)
        return;
    hk_tailer_stop(bus);
    if (!p->running)
        return;
    p->running = false;
    hk_mark_set(&p->stopping, 1);
    hk_gate_open(&p->gate);
    pthread_join(p->thread, NULL);
}

void hk_party_free(hark_bus *bus)
{
    hk_party *p = bus->party;
    if (!p)
        return;
    pthread_mutex_destroy(&p->calls);
    pthread_mutex_destroy(&p->lock);
    free(p);
    bus->party = NULL;
}
