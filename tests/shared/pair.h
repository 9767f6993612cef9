/* A pair: two buses of one process on one log. The fixture's is A, the other one B. */
#ifndef HK_SHARED_PAIR_H
#define HK_SHARED_PAIR_H

#include "fixture.h"

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)

/* No share changes hands for want of a sign of life while a test runs. */
enum { LONG_LEASE_MS = 20 * HUNG_MS };

typedef struct pair {
    fixture *f;
    hark_bus *a, *b;
} pair;

static inline hark_bus *another(fixture *f)
{
    hark_bus *bus = NULL;
    assert_ok(f,
              hark_open(f->url, HARK_OPTS(hark_bus_opts, .lease_ms = LONG_LEASE_MS), &bus, &f->ei));
    return bus;
}

static inline pair pair_open(void **state)
{
    fixture *f = *state;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .lease_ms = LONG_LEASE_MS));
    return (pair){.f = f, .a = f->bus, .b = another(f)};
}

/* A is closed by the fixture, unless the test has done so. */
static inline void pair_close(pair *p)
{
    p->b = hark_bus_unref(p->b);
}

static inline void close_a(pair *p)
{
    close_bus(p->f);
    p->a = NULL;
}

static inline uint64_t say_on(pair *p, hark_bus *bus, const char *type, const char *key)
{
    hark_receipt r;
    assert_ok(p->f, hark_publish_ei(bus, HARK_OPTS(hark_event_spec, .type = type, .key = key), &r,
                                    &p->f->ei));
    return r.sequence;
}

static inline hark_sub *listen_on(pair *p, hark_bus *bus, recorder *r, const hark_sub_opts *opts)
{
    hark_sub *s;
    assert_ok(p->f, hark_subscribe(bus, "t", record, r, opts, &s, &p->f->ei));
    return s;
}

/* Events of the type in the log, as a bus reads it. */
static inline size_t count_on(pair *p, hark_bus *bus, const char *type)
{
    hark_page *page;
    assert_ok(p->f, hark_read(bus, HARK_OPTS(hark_read_opts, .type = type, .limit = 10000), &page,
                              &p->f->ei));
    size_t n = hark_page_count(page);
    hark_page_free(page);
    return n;
}

/* One log is seen once for each bus; a test's waiting may see it for a moment as it was. */
typedef struct consumer_seen {
    hark_consumer_info info;
    bool found;
} consumer_seen;

static inline bool take_consumer(const hark_consumer_info *info, void *ud)
{
    consumer_seen *x = ud;
    if (strcmp(info->name, "c") == 0)
        *x = (consumer_seen){.info = *info, .found = true};
    return true;
}

/* Consumer "c" as a bus finds it in the store; its strings are gone. */
static inline hark_consumer_info consumer_on(pair *p, hark_bus *bus)
{
    consumer_seen x = {.found = false};
    assert_ok(p->f, hark_consumers(bus, take_consumer, &x, &p->f->ei));
    assert_true(x.found);
    return x.info;
}

static inline int64_t why_on(pair *p, hark_bus *bus)
{
    hark_why_info why = {.size = sizeof why};
    assert_ok(p->f, hark_why(bus, "c", &why, &p->f->ei));
    return why.code;
}

/* ---- a consumer that is open on both ----------------------------------------------------------- */

/* One recorder for both, so that what it saw is in order of time. */
typedef struct side {
    recorder *r;
    atomic_size_t n;
    hark_verdict verdict;
    latch *at; /* every call waits here; may be NULL */
    hark_sub *sub;
} side;

static inline hark_verdict take_side(hark_delivery *d, void *ud)
{
    side *s = ud;
    record_only(s->r, d);
    atomic_fetch_add(&s->n, 1);
    if (s->at)
        latch_wait(s->at);
    return s->verdict;
}

static inline void side_open(pair *p, hark_bus *bus, side *s, recorder *r,
                             const hark_sub_opts *opts)
{
    s->r = r;
    assert_ok(p->f, hark_subscribe(bus, "t", take_side, s, opts, &s->sub, &p->f->ei));
}

enum { SPREAD_KEYS = 100 };

/* One event for each of many keys, in turn from both buses. */
static inline void say_keys(pair *p)
{
    char key[16];
    for (int i = 0; i < SPREAD_KEYS; i++) {
        (void)snprintf(key, sizeof key, "k%d", i);
        (void)say_on(p, i % 2 && p->a ? p->a : p->b, "t", key);
    }
}

/* Publishes until both sides have handled something and all is handled; returns how many events. */
static inline size_t until_both_work(pair *p, const side *a, const side *b)
{
    size_t said = 0;
    for (int64_t end = hk_mono_ms() + HUNG_MS;
         atomic_load(&a->n) == 0 || atomic_load(&b->n) == 0;) {
        if (hk_mono_ms() > end)
            fail_msg("both buses should get events of %zu; A got %zu, B %zu", said,
                     atomic_load(&a->n), atomic_load(&b->n));
        say_keys(p);
        said += SPREAD_KEYS;
        WAIT_UNTIL(atomic_load(&a->n) + atomic_load(&b->n) >= said);
    }
    return said;
}

/* Each event came once, and those of a key in order. */
static inline void assert_once_and_in_order(const recorder *r)
{
    size_t n = atomic_load(&r->n);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++) {
            if (r->seen[i].seq == r->seen[k].seq)
                fail_msg("sequence %llu came as number %zu and again as number %zu",
                         (unsigned long long)r->seen[i].seq, i, k);
            if (strcmp(r->seen[i].key, r->seen[k].key) == 0 && r->seen[i].seq > r->seen[k].seq)
                fail_msg("key %s: sequence %llu came before %llu", r->seen[i].key,
                         (unsigned long long)r->seen[i].seq, (unsigned long long)r->seen[k].seq);
        }
}

#endif
