/* shares_test_i.h: two stores that are open on one log and stand for two processes, and what each has of a consumer. <cmocka.h>
 * comes before it. */
#ifndef HK_SHARES_TEST_I_H
#define HK_SHARES_TEST_I_H

#include "store/store_test_i.h"

/* One behaviour, on each store that is shared. */
#define SHARED(test) ON("postgresql", test), ON("redis", test)

enum { SHORT_LEASE = 200, PATIENCE = 20 }; /* ms, s */

/* One process, and what it has of the consumer. */
typedef struct process {
    fixture *f;
    hark_store *store;
    uint64_t consumer, generation;
    bool has[HARK_SHARES_MAX];
    uint64_t token[HARK_SHARES_MAX];
    size_t n;
    hark_store_shares x; /* the last answer */
} process;

static inline hark_store *open_another(fixture *f, int64_t lease_ms)
{
    const char *rest = NULL;
    const hark_store_opts opts = {.size = sizeof opts, .existing = 1, .lease_ms = lease_ms};
    const hark_store_host host = {.size = sizeof host, .committed = drop_events};
    hark_store *s = NULL;
    assert_ok(f, hk_store_find(f->url, &f->ops, &rest, &f->ei));
    assert_ok(f, f->ops->open(rest, &opts, &host, &s, &f->ei));
    return s;
}

/* The consumer "c", as this process has it open. */
static inline void join(process *p, fixture *f, hark_store *s)
{
    hark_store_consumer c = consumer("c");
    int64_t until = 0, ahead = 0;
    *p = (process){.f = f, .store = s};
    assert_ok(f, f->ops->beat(s, &until, &ahead, &f->ei));
    assert_ok(f, f->ops->begin(s, &f->ei));
    assert_ok(f, f->ops->consumer_open(s, &c, &f->ei));
    assert_ok(f, f->ops->commit(s, &f->ei));
    p->consumer = c.ret_id;
    p->generation = c.ret_generation;
    hark_store_consumer_clear(&c);
}

static inline void take(process *p, uint32_t share, uint64_t token)
{
    assert_true(token > p->token[share]);
    p->has[share] = true;
    p->token[share] = token;
}

/* Carries out the last answer. */
static inline void carry_out(process *p)
{
    bool still[HARK_SHARES_MAX] = {false};
    for (size_t i = 0; i < p->x.n_owned; i++) {
        const hark_store_owned *o = &p->x.owned[i];
        assert_true(p->has[o->share]);
        assert_int_equal(o->token, p->token[o->share]);
        still[o->share] = true;
    }
    memcpy(p->has, still, sizeof still);
    for (size_t i = 0; i < p->x.n_claimed; i++)
        take(p, p->x.claimed[i].share, p->x.claimed[i].token);
    p->n = p->x.n_owned + p->x.n_claimed;
}

static inline void ask_with(process *p, hark_store_shares x)
{
    hark_store_shares_clear(&p->x);
    p->x = x;
    p->x.size = sizeof x;
    p->x.consumer = p->consumer;
    p->x.generation = p->generation;
    assert_ok(p->f, p->f->ops->shares(p->store, &p->x, &p->f->ei));
    carry_out(p);
}

static inline void ask(process *p)
{
    ask_with(p, (hark_store_shares){0});
}

/* Gives up what it was told to. */
static inline void give(process *p)
{
    hark_store_owned list[HARK_SHARES_MAX];
    size_t n = p->x.n_give;
    for (size_t i = 0; i < n; i++)
        list[i] = (hark_store_owned){p->x.give[i], p->token[p->x.give[i]]};
    ask_with(p, (hark_store_shares){.release = list, .n_release = n});
}

/* Asks until it has so many. */
static inline void await_shares(process *p, size_t n)
{
    int64_t until = hk_mono_ns() + (int64_t)PATIENCE * 1000000000;
    do
        ask(p);
    while (p->n != n && hk_mono_ns() < until);
    assert_int_equal(p->n, n);
}

/* Two processes, of which the first has all shares; how many there are. */
static inline size_t two(process *a, process *b, fixture *f, int64_t lease_ms)
{
    join(a, f, open_another(f, lease_ms));
    join(b, f, f->store);
    assert_int_equal(a->consumer, b->consumer);
    ask(a);
    assert_true(a->n > 1);
    return a->n;
}

static inline void end(process *a, process *b)
{
    hark_store_shares_clear(&a->x);
    hark_store_shares_clear(&b->x);
    if (a->store)
        a->f->ops->close(a->store);
}

static inline hark_store_save save_by(const process *p, uint32_t share)
{
    return (hark_store_save){.size = sizeof(hark_store_save),
                             .consumer = p->consumer,
                             .generation = p->generation,
                             .share = share,
                             .token = p->token[share]};
}

static inline void write_by(process *p, const hark_store_save *v)
{
    assert_ok(p->f, p->f->ops->begin(p->store, &p->f->ei));
    assert_ok(p->f, p->f->ops->consumer_save(p->store, v, &p->f->ei));
    assert_ok(p->f, p->f->ops->commit(p->store, &p->f->ei));
}

static inline const hark_store_claim *claimed(const process *p, uint32_t share)
{
    for (size_t i = 0; i < p->x.n_claimed; i++)
        if (p->x.claimed[i].share == share)
            return &p->x.claimed[i];
    fail_msg("share %u was not claimed", share);
    return NULL;
}

#endif
