/* A handler for replays that can be told how to answer, and waiting for the end of a replay; shared
 * by the tests of replays. */
#ifndef HK_CONFORMANCE_PLAYER_H
#define HK_CONFORMANCE_PLAYER_H

#include "fixture.h"

#define REPLAY(...) HARK_OPTS(hark_replay_opts, __VA_ARGS__)
#define INFO        (&(hark_replay_info){.size = sizeof(hark_replay_info)})

/* ---- a handler that can be told how to answer -------------------------------------------------- */

typedef struct player {
    recorder *r;
    latch at;
    uint64_t stop_at; /* waits at the latch in this sequence; 0 = nowhere */
    uint64_t fail_at; /* this sequence fails `failures` times */
    int64_t failures; /* -1 = always */
    int64_t delay_ms; /* before its next attempt */
    uint64_t every;   /* rejects each sequence that this divides; 0 = none */
    char replay_id[40];
    atomic_int wrong_id;
} player;

static inline player *player_new(void)
{
    player *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->r = recorder_new();
    latch_init(&p->at);
    return p;
}

static inline void player_free(player *p)
{
    recorder_free(p->r);
    free(p);
}

static inline hark_verdict play(hark_delivery *d, void *ud)
{
    player *p = ud;
    uint64_t seq = hark_delivery_sequence(d);
    const char *id = hark_delivery_replay_id(d);
    record_only(p->r, d);
    if (!id || (p->replay_id[0] && strcmp(id, p->replay_id) != 0) || hark_delivery_consumer(d))
        atomic_fetch_add(&p->wrong_id, 1);
    if (seq == p->stop_at)
        latch_wait(&p->at);
    if (seq == p->fail_at && (p->failures < 0 || hark_delivery_attempt(d) <= p->failures)) {
        hark_delivery_explain(d, "not today");
        hark_delivery_retry_after(d, p->delay_ms);
        return HARK_RETRY;
    }
    return p->every && seq % p->every == 0 ? HARK_REJECT : HARK_ACK;
}

static inline hark_replay_info started(fixture *f, player *p, const hark_replay_opts *opts)
{
    hark_replay_info info = {.size = sizeof info};
    if (opts->id)
        (void)snprintf(p->replay_id, sizeof p->replay_id, "%s", opts->id);
    assert_ok(f, hark_replay(f->bus, play, p, opts, &info, &f->ei));
    return info;
}

/* Begun, and its handler stands in sequence `seq` until the latch is opened. */
static inline hark_replay_info held_at(fixture *f, player *p, uint64_t seq,
                                       const hark_replay_opts *opts)
{
    p->stop_at = seq;
    hark_replay_info info = started(f, p, opts);
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
    return info;
}

/* Sequence `seq` fails whenever it comes, and asks for an hour's pause each time. */
static inline void stick_at(player *p, uint64_t seq)
{
    p->fail_at = seq;
    p->failures = -1;
    p->delay_ms = HOUR_MS;
}

static inline hark_replay_info ended(fixture *f, const char *id, int64_t state)
{
    hark_replay_info info = {.size = sizeof info};
    assert_ok(f, hark_replay_wait(f->bus, id, HUNG_MS, &info, &f->ei));
    if (info.state != state)
        fail_msg("replay %s has state %lld, expected %lld: %s", id, (long long)info.state,
                 (long long)state, info.error);
    return info;
}

static inline hark_replay_info now_of(fixture *f, const char *id)
{
    hark_replay_info info = {.size = sizeof info};
    assert_ok(f, hark_replay_get(f->bus, id, &info, &f->ei));
    return info;
}

static inline uint64_t times_seen(recorder *r, uint64_t seq)
{
    uint64_t n = 0;
    for (size_t i = 0; i < atomic_load(&r->n); i++)
        n += r->seen[i].seq == seq;
    return n;
}

#endif
