/* party_test_i.h: for tests of a process among others: a bus on a store that answers as a test tells it to, and one consumer,
 * opened by hand. No writer, no log, no workers. */
#ifndef HK_PARTY_TEST_I_H
#define HK_PARTY_TEST_I_H

#include "bus/party_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define UNUSED   __attribute__((unused))
#define MS       INT64_C(1000000)
#define AHEAD_NS (42000 * MS)

enum { SHARES = 8, CLAIMED = 4096 };

/* What it has for the one consumer, of generation 1 at first. What is released goes to another process if it was to be
 * given, else it is free again. */
struct hark_store {
    pthread_mutex_t lock;
    pthread_cond_t called;
    hark_err beat_err, shares_err;
    int64_t lease_ns, paused;
    uint64_t generation;
    hark_store_owned owned[SHARES], free[SHARES];
    size_t n_owned, n_free;
    uint32_t give[SHARES];
    size_t n_give;
    hark_store_news news; /* id 0 = none */
    uint64_t beats, missed, asked, left, news_done;
};

typedef struct world {
    struct hark_store store;
    hark_bus bus;
} world;

/* ---- the store ---- */

static bool takes(const struct hark_store *st, uint32_t share)
{
    for (size_t i = 0; i < st->n_give; i++)
        if (st->give[i] == share)
            return true;
    return false;
}

static void take_back(struct hark_store *st, hark_store_owned o)
{
    for (size_t i = 0; i < st->n_owned; i++) {
        if (st->owned[i].share != o.share || st->owned[i].token != o.token)
            continue;
        st->owned[i] = st->owned[--st->n_owned];
        if (!takes(st, o.share))
            st->free[st->n_free++] = (hark_store_owned){o.share, o.token + 1};
        return;
    }
}

static void take_all_back(struct hark_store *st)
{
    while (st->n_owned)
        take_back(st, st->owned[0]);
}

static void *copy(const void *from, size_t size)
{
    void *to = malloc(size + 1);
    assert_non_null(to);
    memcpy(to, from, size);
    return to;
}

static void answer(struct hark_store *st, hark_store_shares *x)
{
    x->owned = copy(st->owned, sizeof st->owned);
    x->n_owned = st->n_owned;
    x->give = copy(st->give, sizeof st->give);
    x->n_give = st->n_give;
    x->claimed = calloc(SHARES, sizeof *x->claimed);
    assert_non_null(x->claimed);
    for (; st->n_free; st->n_free--) {
        hark_store_owned o = st->free[st->n_free - 1];
        x->claimed[x->n_claimed++] =
            (hark_store_claim){.share = o.share, .token = o.token, .claimed = CLAIMED};
        st->owned[st->n_owned++] = o;
    }
    if (st->news.id > x->news_done) {
        x->news = copy(&st->news, sizeof st->news);
        x->n_news = 1;
    }
}

static hark_err shares_of(hark_store *st, hark_store_shares *x, hark_errinfo *ei)
{
    pthread_mutex_lock(&st->lock);
    hark_err err = st->shares_err;
    pthread_cond_broadcast(&st->called);
    if (err) {
        st->missed++;
        pthread_mutex_unlock(&st->lock);
        return hk_fail(ei, err, "told to fail");
    }
    st->asked++;
    st->left += x->leave != 0;
    st->news_done = x->news_done;
    for (size_t i = 0; i < x->n_release; i++)
        take_back(st, x->release[i]);
    if (x->leave || x->generation != st->generation)
        take_all_back(st);
    else
        answer(st, x);
    x->ret_generation = st->generation;
    x->ret_paused = st->paused;
    pthread_mutex_unlock(&st->lock);
    return HARK_OK;
}

static hark_err beat_of(hark_store *st, int64_t *ret_until, int64_t *ret_ahead, hark_errinfo *ei)
{
    pthread_mutex_lock(&st->lock);
    hark_err err = st->beat_err;
    st->beats += !err;
    st->missed += err != HARK_OK;
    *ret_until = hk_mono_ns() + st->lease_ns;
    *ret_ahead = AHEAD_NS;
    pthread_cond_broadcast(&st->called);
    pthread_mutex_unlock(&st->lock);
    return err ? hk_fail(ei, err, "told to fail") : err;
}

/* Nobody else appends. */
static hark_err tail_of(hark_store *st, uint64_t after, int64_t timeout_ns, hark_store_tail *ret,
                        hark_errinfo *ei UNUSED)
{
    pthread_mutex_lock(&st->lock);
    (void)hk_cond_wait(&st->called, &st->lock, timeout_ns);
    pthread_mutex_unlock(&st->lock);
    *ret = (hark_store_tail){.size = sizeof *ret, .last = after};
    return HARK_OK;
}

static void wake_tail(hark_store *st)
{
    pthread_mutex_lock(&st->lock);
    pthread_cond_broadcast(&st->called);
    pthread_mutex_unlock(&st->lock);
}

static const hark_store_ops ops = {.size = sizeof ops,
                                   .scheme = "told",
                                   .beat = beat_of,
                                   .shares = shares_of,
                                   .tail = tail_of,
                                   .tail_wake = wake_tail};

/* ---- the bus ---- */

static void make_locks(hark_bus *bus)
{
    pthread_rwlock_init(&bus->store_lock, NULL);
    pthread_mutex_init(&bus->lock, NULL);
    pthread_mutex_init(&bus->turn, NULL);
    pthread_mutex_init(&bus->admin, NULL);
    pthread_mutex_init(&bus->writer.role, NULL);
    pthread_mutex_init(&bus->writer.sched_lock, NULL);
    hk_cond_init(&bus->changed);
    hk_gate_init(&bus->room);
    hk_gate_init(&bus->watch);
    hk_inbox_init(&bus->writer.inbox);
    hk_settled_init(&bus->settled);
}

static int world_new(void **state)
{
    world *w = hk_zalloc_lines(sizeof *w);
    assert_non_null(w);
    pthread_mutex_init(&w->store.lock, NULL);
    hk_cond_init(&w->store.called);
    w->store.lease_ns = 10000 * MS;
    w->store.generation = 1;
    for (uint32_t i = 0; i < 4; i++)
        w->store.free[w->store.n_free++] = (hark_store_owned){i, 10 + i};
    make_locks(&w->bus);
    hk_ref_init(&w->bus.users, 1);
    hk_ref_init(&w->bus.holds, 1);
    w->bus.ops = &ops;
    w->bus.store = &w->store;
    w->bus.store_open = true;
    w->bus.info.shared = 1;
    *state = w;
    return 0;
}

/* As a drain does. What was to be saved is nobody's any more. */
static int world_free(void **state)
{
    world *w = *state;
    hk_mark_set(&w->bus.gate, HK_DRAINING);
    hk_party_stop(&w->bus);
    hk_mark_set_strong(&w->bus.gate, HK_CLOSED);
    for (hk_node *n = hk_inbox_take(&w->bus.writer.inbox), *next; n; n = next) {
        next = n->next;
        hk_sub_release(((hk_consumer *)(void *)n)->sub);
    }
    hk_party_free(&w->bus);
    hk_settled_free(&w->bus.settled);
    free(w);
    return 0;
}

static void start(world *w)
{
    hark_errinfo ei = {0};
    hark_err err = hk_party_start(&w->bus, &ei);
    if (err)
        fail_msg("%s", ei.text);
}

/* Waits until that is so of the store; 20 s are for ever. */
static void await(world *w, bool (*is_so)(const struct hark_store *st, uint64_t n), uint64_t n)
{
    int64_t end = hk_mono_ns() + 20000 * MS;
    pthread_mutex_lock(&w->store.lock);
    bool so;
    while (!(so = is_so(&w->store, n)) && hk_mono_ns() < end)
        (void)hk_cond_wait(&w->store.called, &w->store.lock, end - hk_mono_ns());
    pthread_mutex_unlock(&w->store.lock);
    assert_true(so);
}

static bool has_asked(const struct hark_store *st, uint64_t n)
{
    return st->asked >= n;
}

static bool has_missed(const struct hark_store *st, uint64_t n)
{
    return st->missed >= n;
}

static bool has_left(const struct hark_store *st, uint64_t n)
{
    return st->left >= n;
}

static bool has_told(const struct hark_store *st, uint64_t n)
{
    return st->news_done >= n;
}

/* A further question: it and those that followed from it (hk_shares_take's `again`) have been carried out, for who asks holds
 * `admin` until then. */
static void await_answer(world *w, hark_sub *s)
{
    pthread_mutex_lock(&w->store.lock);
    uint64_t n = w->store.asked;
    pthread_mutex_unlock(&w->store.lock);
    hk_party_doubt(s);
    await(w, has_asked, n + 1);
    pthread_mutex_lock(&w->bus.admin);
    pthread_mutex_unlock(&w->bus.admin);
}

static char payload; /* of every event */

static void drop_payload(void *it UNUSED) {}

/* ---- a consumer ---- */

static hk_consumer *consumer_new(hark_sub *s)
{
    hk_consumer *c = calloc(1, sizeof *c);
    assert_non_null(c);
    c->work.kind = HK_SAVE;
    c->sub = s;
    c->id = 7;
    c->generation = 1;
    c->shares = SHARES;
    c->handler_ns = c->hold_ns = -1;
    c->core_opts = (hk_core_opts){.workers = 4,
                                  .window = 64,
                                  .max_deferred = 64,
                                  .retry_delay_ns = MS,
                                  .retry_max_ns = MS,
                                  .max_attempts = 3,
                                  .max_crashes = 3,
                                  .max_interruptions = 3,
                                  .drop = drop_payload};
    c->cores = hk_cores_new(&c->core_opts, SHARES);
    assert_non_null(c->cores);
    pthread_mutex_init(&c->lock, NULL);
    return c;
}

static void list(hark_sub *s)
{
    hark_bus *bus = s->bus;
    pthread_mutex_lock(&bus->lock);
    hk_sub_hold(s);
    s->next = bus->subs;
    s->link = &bus->subs;
    if (s->next)
        s->next->link = &s->next;
    bus->subs = s;
    pthread_mutex_unlock(&bus->lock);
}

/* With `admin` held. The program's one reference is the caller's. */
static hark_sub *open_locked(world *w)
{
    const hark_sub_opts o = {.size = sizeof o};
    hark_errinfo ei = {0};
    hark_sub *s = hk_sub_new(&w->bus, "a", NULL, NULL, &o);
    assert_non_null(s);
    s->name = hk_strdup("c");
    s->consumer = consumer_new(s);
    hk_mark_set(&s->closed, HK_SUB_OPENING);
    list(s);
    hark_err err = hk_party_join(s, &ei);
    if (err)
        fail_msg("%s", ei.text);
    pthread_mutex_lock(&w->bus.lock);
    hk_mark_set(&s->closed, 0);
    pthread_mutex_unlock(&w->bus.lock);
    return s;
}

static hark_sub *open_consumer(world *w)
{
    pthread_mutex_lock(&w->bus.admin);
    hark_sub *s = open_locked(w);
    pthread_mutex_unlock(&w->bus.admin);
    return s;
}

/* Nothing of it runs, and all is saved. */
static void close_consumer(hark_sub *s)
{
    assert_true(hk_mark_move(&s->closed, 0, 1));
    hk_party_leave(s);
    assert_int_equal(hark_sub_join(s, 20000), HARK_OK);
    hk_sub_release(s);
}

static uint64_t token_of(hark_sub *s, uint32_t share)
{
    uint64_t token = 0;
    pthread_mutex_lock(&s->consumer->lock);
    (void)hk_cores_has(s->consumer->cores, share, &token);
    pthread_mutex_unlock(&s->consumer->lock);
    return token;
}

/* A sequence without a key that is of this share. */
static uint64_t sequence_of(uint32_t share)
{
    uint64_t seq = 1;
    while (hark_store_share_of(NULL, seq, SHARES) != share)
        seq++;
    return seq;
}

/* An event of this share comes and is started. */
static hk_lease run_one(hark_sub *s, uint32_t share)
{
    hk_cores *cores = s->consumer->cores;
    hk_started st = {0};
    bool kept;
    pthread_mutex_lock(&s->consumer->lock);
    hk_now now = hk_now_get();
    assert_int_equal(hk_cores_arrive(cores, 0, sequence_of(share), NULL, &payload, now, &kept), 0);
    assert_true(hk_cores_start(cores, now, -1, &st));
    assert_int_equal(st.lease.share, share);
    pthread_mutex_unlock(&s->consumer->lock);
    return st.lease;
}

/* Its handler acks, and that is saved. */
static void end_one(hark_sub *s, hk_lease lease)
{
    hk_consumer *c = s->consumer;
    hark_store_save *saves;
    size_t n;
    pthread_mutex_lock(&c->lock);
    hk_now now = hk_now_get();
    assert_int_equal(hk_cores_settle(c->cores, lease, HARK_ACK, 0, NULL, now, NULL), HARK_OK);
    assert_int_equal(hk_cores_collect(c->cores, now, &saves, &n), HARK_OK);
    (void)hk_cores_saved(c->cores, true);
    hk_consumer_unlock(c);
}

/* How many shares it says this process has. */
static size_t owned_by(world *w)
{
    pthread_mutex_lock(&w->store.lock);
    size_t n = w->store.n_owned;
    pthread_mutex_unlock(&w->store.lock);
    return n;
}

/* How often a consumer was said to be closed. */
static uint64_t left_in(world *w)
{
    pthread_mutex_lock(&w->store.lock);
    uint64_t n = w->store.left;
    pthread_mutex_unlock(&w->store.lock);
    return n;
}

static void with_store(world *w, void (*fn)(struct hark_store *st))
{
    pthread_mutex_lock(&w->store.lock);
    fn(&w->store);
    pthread_mutex_unlock(&w->store.lock);
}

#endif
