/* A program to be killed while it replays a log into a projection. Its consumer `live` keeps one
 * projection of all events, and somebody publishes all the while, as fast as `live` follows; the replay
 * makes another one, through a handler of its own or by the reset of the consumer `again`.
 *
 *   kill_replay_victim URL cancel CANCEL MARK STOP ANEW  replay `first` to beyond position CANCEL and
 *                                     cancels it; then replay `second`, anew or of the rest, which says
 *                                     "at" at sequence MARK, and waits at STOP to be killed
 *   kill_replay_victim URL go-on      goes on with `second`, then replays the tail, and ends
 *   kill_replay_victim URL reset MARK STOP             resets `again`, which waits at STOP
 *   kill_replay_victim URL rerun ID UPTO MARK STOP     goes on with that; STOP 0 = to the end
 *
 * It says "info " and what hark_replay_info has, "pace IDLE BESIDE" (events a second that go through
 * `live`), and "repeats N" (events that came to the replayed projection again in this life). */
#include "lines.h"
#include "projection.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

enum { ROUND = 16, IDLE_MS = 150, ROUNDS_BESIDE = 3 };

/* A handler that makes a projection, and can be told to stop half-way. */
typedef struct player {
    projection made;
    uint64_t mark, stop; /* sequences; 0 = none */
    bool said, opened;
    const char *replay_id; /* of every delivery up to `upto` */
    uint64_t upto;
} player;

static hark_bus *bus;
static hark_sub *live_sub, *again_sub;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static projection live_made;
static player first = {.replay_id = "first", .upto = UINT64_MAX};
static player second = {.replay_id = "second", .upto = UINT64_MAX};
static player tail = {.replay_id = "tail", .upto = UINT64_MAX};
static player again;
static projection before; /* what `again` had made when it was reset */
static bool resetting;
static char reset_id[40];
static pthread_t publisher;
static bool publishing; /* under the lock, as all below */
static uint64_t rounds;

/* ---- waiting ---- */

static void await_change(void)
{
    pthread_mutex_lock(&lock);
    kit_await_locked(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static uint64_t count_rounds(void)
{
    pthread_mutex_lock(&lock);
    uint64_t n = rounds;
    pthread_mutex_unlock(&lock);
    return n;
}

static uint64_t newest(void)
{
    hark_bus_info info = {.size = sizeof info};
    KIT_CHECK(hark_bus_info_get(bus, &info) == HARK_OK, "hark_bus_info_get");
    return info.last_sequence;
}

static void await_settled(hark_sub *sub)
{
    hark_sub_stats st = {.size = sizeof st};
    uint64_t last = newest();
    do {
        KIT_CHECK(hark_sub_stats_get(sub, &st) == HARK_OK, "hark_sub_stats_get");
        await_change();
    } while (st.position < last || st.pending);
}

/* ---- handlers ---- */

static hark_verdict live(hark_delivery *d, void *ud)
{
    (void)ud;
    KIT_CHECK(!hark_delivery_replay_id(d), "a replay to the live consumer");
    if (projection_apply(&live_made, hark_delivery_event(d))) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&changed);
        pthread_mutex_unlock(&lock);
    }
    return HARK_ACK;
}

static void pass_gate(player *p, uint64_t seq)
{
    pthread_mutex_lock(&lock);
    if (p->mark && seq >= p->mark && !p->said) {
        p->said = true;
        line_say("at");
    }
    while (p->stop && seq >= p->stop && !p->opened)
        kit_await_locked(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void check_id(const player *p, hark_delivery *d)
{
    const char *id = hark_delivery_replay_id(d);
    uint64_t seq = hark_delivery_sequence(d);
    if (seq <= p->upto)
        KIT_CHECK(id && (!p->replay_id || strcmp(id, p->replay_id) == 0),
                  "sequence %llu came with replay id %s, expected %s", (unsigned long long)seq,
                  id ? id : "(none)", p->replay_id ? p->replay_id : "one");
    else
        KIT_CHECK(!id, "sequence %llu, behind %llu, came with replay id %s",
                  (unsigned long long)seq, (unsigned long long)p->upto, id);
}

static hark_verdict play(hark_delivery *d, void *ud)
{
    player *p = ud;
    check_id(p, d);
    pass_gate(p, hark_delivery_sequence(d));
    (void)projection_apply(&p->made, hark_delivery_event(d));
    return HARK_ACK;
}

/* The consumer that is reset: until then it makes one projection, and then another. */
static hark_verdict play_again(hark_delivery *d, void *ud)
{
    pthread_mutex_lock(&lock);
    bool is_replay = resetting;
    pthread_mutex_unlock(&lock);
    if (is_replay)
        return play(d, ud);
    KIT_CHECK(!hark_delivery_replay_id(d), "a replay before the reset");
    (void)projection_apply(&before, hark_delivery_event(d));
    return HARK_ACK;
}

static hark_sub *consume(const char *name, hark_handler_fn fn, void *ud)
{
    hark_sub *sub;
    hark_errinfo ei;
    if (hark_subscribe(bus, PROJECTION_TYPE, fn, ud,
                       HARK_OPTS(hark_sub_opts, .consumer = name, .workers = 4,
                                 .start = HARK_START_FIRST, .retry_delay_ms = 10),
                       &sub, &ei))
        kit_fail("hark_subscribe: %s", ei.text);
    return sub;
}

/* ---- publishing beside it ---- */

static void publish_round(uint64_t *random)
{
    static char key[ROUND][8], data[ROUND][16];
    static hark_event_spec specs[ROUND];
    static const hark_event_spec *list[ROUND];
    hark_errinfo ei;
    for (size_t i = 0; i < ROUND; i++) {
        uint64_t r = kit_random(random);
        int len = snprintf(data[i], sizeof data[i], "%d", (int)(r >> 32) % 1000);
        (void)snprintf(key[i], sizeof key[i], "k%u", (unsigned)(r % PROJECTION_KEYS));
        specs[i] = *HARK_OPTS(hark_event_spec, .type = PROJECTION_TYPE, .key = key[i],
                              .data = data[i], .data_len = (size_t)len);
        list[i] = &specs[i];
    }
    if (hark_publish_batch(bus, list, ROUND, NULL, &ei))
        kit_fail("hark_publish_batch: %s", ei.text);
}

/* Rounds: publish some, wait until `live` has them. */
static void *publish(void *arg)
{
    uint64_t random = newest(), target = atomic_load(&live_made.applied);
    (void)arg;
    pthread_mutex_lock(&lock);
    while (publishing) {
        pthread_mutex_unlock(&lock);
        publish_round(&random);
        target += ROUND;
        pthread_mutex_lock(&lock);
        while (atomic_load(&live_made.applied) < target)
            pthread_cond_wait(&changed, &lock);
        rounds++;
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void start_publishing(void)
{
    publishing = true;
    KIT_CHECK(pthread_create(&publisher, NULL, publish, NULL) == 0, "pthread_create");
}

static void stop_publishing(void)
{
    pthread_mutex_lock(&lock);
    publishing = false;
    pthread_mutex_unlock(&lock);
    pthread_join(publisher, NULL);
}

static double rate_since(int64_t begin, uint64_t from)
{
    int64_t ms = kit_ms() - begin;
    return (double)((count_rounds() - from) * ROUND) * 1000 / (double)(ms ? ms : 1);
}

/* It is not stopped: some rounds come, be it after the end of a short replay. */
static void say_pace(double idle, int64_t begin, uint64_t from)
{
    while (count_rounds() < from + ROUNDS_BESIDE)
        await_change();
    line_say("pace %.0f %.0f", idle, rate_since(begin, from));
}

static double idle_pace(void)
{
    int64_t begin = kit_ms();
    uint64_t from = count_rounds();
    while (kit_ms() - begin < IDLE_MS || count_rounds() == from)
        await_change();
    return rate_since(begin, from);
}

/* ---- replays ---- */

static hark_replay_info look(const char *id)
{
    hark_replay_info info = {.size = sizeof info};
    hark_errinfo ei;
    if (hark_replay_get(bus, id, &info, &ei))
        kit_fail("hark_replay_get: %s", ei.text);
    return info;
}

static hark_replay_info say_info(hark_replay_info info)
{
    line_say("info %s %lld %llu %llu %llu %llu %llu %llu %s", info.id, (long long)info.state,
             (unsigned long long)info.first, (unsigned long long)info.last,
             (unsigned long long)info.position, (unsigned long long)info.done,
             (unsigned long long)info.total, (unsigned long long)info.rejected, info.error);
    return info;
}

static void replay(player *p, const char *file, bool anew, uint64_t from)
{
    hark_errinfo ei;
    projection_open(&p->made, file, anew);
    if (hark_replay(
            bus, play, p,
            HARK_OPTS(hark_replay_opts, .id = p->replay_id, .type = PROJECTION_TYPE, .first = from),
            NULL, &ei))
        kit_fail("hark_replay: %s", ei.text);
}

static hark_replay_info await_replay(const char *id)
{
    hark_replay_info info = {.size = sizeof info};
    hark_errinfo ei;
    if (hark_replay_wait(bus, id, -1, &info, &ei))
        kit_fail("hark_replay_wait: %s", ei.text);
    return say_info(info);
}

static uint64_t cancel_first(uint64_t at, double idle)
{
    hark_errinfo ei;
    int64_t begin = kit_ms();
    uint64_t from = count_rounds();
    replay(&first, "played", true, 0);
    while (look("first").position < at)
        await_change();
    say_pace(idle, begin, from);
    if (hark_replay_cancel(bus, "first", &ei))
        kit_fail("hark_replay_cancel: %s", ei.text);
    pthread_mutex_lock(&lock);
    first.opened = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return await_replay("first").position;
}

/* ---- lives ---- */

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

_Noreturn static void await_kill(void)
{
    for (;;)
        await_change();
}

static void end(void)
{
    hark_errinfo ei;
    if (hark_drain(bus, 10000, &ei))
        kit_fail("hark_drain: %s", ei.text);
    hark_sub_unref(live_sub);
    hark_sub_unref(again_sub);
    hark_bus_unref(bus);
    line_say("end");
}

static void cancel_and_go_on(char **args)
{
    uint64_t at = number(args[0]);
    bool anew = number(args[3]) != 0;
    await_settled(live_sub);
    line_say("caught up");
    start_publishing();
    double idle = idle_pace();
    first.stop = at + at / 5;
    uint64_t position = cancel_first(at, idle);
    second.mark = number(args[1]);
    second.stop = number(args[2]);
    replay(&second, "played", anew, anew ? 0 : position + 1);
    await_kill();
}

static void go_on(void)
{
    (void)say_info(look("first"));
    (void)say_info(look("second"));
    await_settled(live_sub);
    start_publishing();
    int64_t begin = kit_ms();
    replay(&second, "played", false, 0);
    hark_replay_info info = await_replay("second");
    say_pace(0, begin, 0);
    line_say("repeats %llu", atomic_load(&second.made.repeats));
    stop_publishing();
    await_settled(live_sub);
    replay(&tail, "played", false, info.last + 1);
    (void)await_replay("tail");
    end();
}

static void reset(char **args)
{
    hark_errinfo ei;
    hark_reset_result r = {.size = sizeof r};
    projection_open(&before, "before", true);
    projection_open(&again.made, "again", true);
    again_sub = consume("again", play_again, &again);
    await_settled(live_sub);
    await_settled(again_sub);
    line_say("caught up");
    pthread_mutex_lock(&lock);
    again.upto = newest();
    again.mark = number(args[0]);
    again.stop = number(args[1]);
    resetting = true;
    pthread_mutex_unlock(&lock);
    if (hark_consumer_reset(bus, "again", HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), &r,
                            &ei))
        kit_fail("hark_consumer_reset: %s", ei.text);
    KIT_CHECK(r.upto == again.upto && r.events == r.upto,
              "the reset says %llu events up to %llu, expected all up to %llu",
              (unsigned long long)r.events, (unsigned long long)r.upto,
              (unsigned long long)again.upto);
    line_say("reset %s %llu", r.replay_id, (unsigned long long)r.upto);
    start_publishing();
    await_kill();
}

static void rerun(char **args)
{
    (void)snprintf(reset_id, sizeof reset_id, "%s", args[0]);
    again.replay_id = reset_id;
    again.upto = number(args[1]);
    again.mark = number(args[2]);
    again.stop = number(args[3]);
    resetting = true;
    (void)say_info(look(reset_id));
    await_settled(live_sub);
    projection_open(&again.made, "again", false);
    again_sub = consume("again", play_again, &again);
    start_publishing();
    if (again.stop)
        await_kill();
    int64_t begin = kit_ms();
    (void)await_replay(reset_id);
    say_pace(0, begin, 0);
    line_say("repeats %llu", atomic_load(&again.made.repeats));
    stop_publishing();
    await_settled(live_sub);
    await_settled(again_sub);
    end();
}

int main(int argc, char **argv)
{
    hark_errinfo ei;
    KIT_CHECK(argc >= 3, "usage: kill_replay_victim URL cancel|go-on|reset|rerun ...");
    if (hark_open(argv[1], NULL, &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    projection_open(&live_made, "live", false);
    live_sub = consume("live", live, NULL);
    if (strcmp(argv[2], "cancel") == 0 && argc == 7)
        cancel_and_go_on(argv + 3);
    else if (strcmp(argv[2], "go-on") == 0 && argc == 3)
        go_on();
    else if (strcmp(argv[2], "reset") == 0 && argc == 5)
        reset(argv + 3);
    else if (strcmp(argv[2], "rerun") == 0 && argc == 7)
        rerun(argv + 3);
    else
        kit_fail("no such work: %s with %d arguments", argv[2], argc - 3);
    return 0;
}
