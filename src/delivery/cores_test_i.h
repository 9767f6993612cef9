/* A consumer of several shares, for the tests of cores. Shares come empty unless said; what was
 * collected is not kept. */
#ifndef HK_CORES_TEST_I_H
#define HK_CORES_TEST_I_H

#include "delivery/delivery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

enum { SHARES = 4 };

typedef struct fixture {
    hk_core_opts opts;
    hk_cores *cores;
    int64_t clock;
    uint64_t read; /* the log's end, as far as `arrive` has come */
    size_t payloads;
    char keys[SHARES][3][8]; /* three keys of each share */
} fixture;

static fixture *current; /* for `drop` */

static inline void drop(void *payload)
{
    assert_non_null(payload);
    free(payload);
    current->payloads--;
}

static inline void *payload_new(fixture *f)
{
    void *p = malloc(1);
    assert_non_null(p);
    f->payloads++;
    return p;
}

static inline hk_now now(const fixture *f)
{
    return (hk_now){.mono = f->clock, .wall = f->clock + 1000000 * MS};
}

static inline void claim_at(fixture *f, uint32_t share, uint64_t token, uint64_t floor)
{
    const hark_store_consumer state = {.ret_floor = floor};
    assert_int_equal(hk_cores_claim(f->cores, (hark_store_owned){share, token}, &state,
                                    (hk_reach){.claimed = UINT64_MAX / 2}, now(f)),
                     HARK_OK);
}

static inline void claim_all(fixture *f)
{
    for (uint32_t i = 0; i < SHARES; i++)
        claim_at(f, i, 100 + i, 0);
}

static inline void cores_anew(fixture *f, uint32_t shares)
{
    hk_cores_free(f->cores);
    f->cores = hk_cores_new(&f->opts, shares);
    assert_non_null(f->cores);
}

static inline int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->opts = (hk_core_opts){.workers = 4,
                             .window = 16,
                             .max_deferred = 100,
                             .retry_delay_ns = 10 * MS,
                             .retry_max_ns = 1000 * MS,
                             .max_attempts = 3,
                             .max_crashes = 3,
                             .max_interruptions = 20,
                             .seed = 1,
                             .drop = drop};
    size_t n[SHARES] = {0};
    for (unsigned i = 0; i < 200; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%u", i % 1000);
        uint32_t share = hk_share_of(key, 0, SHARES);
        if (n[share] < 3)
            memcpy(f->keys[share][n[share]++], key, sizeof key);
    }
    cores_anew(f, SHARES);
    *state = current = f;
    return 0;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    hk_cores_free(f->cores);
    assert_int_equal(f->payloads, 0);
    free(f);
    return 0;
}

/* One event of a page that began behind `after`. */
static inline bool arrive_of(fixture *f, uint64_t after, uint64_t seq, const char *key)
{
    bool kept;
    void *p = payload_new(f);
    assert_int_equal(hk_cores_arrive(f->cores, after, seq, key, p, now(f), &kept), HARK_OK);
    hk_cores_cover(f->cores, after, seq);
    if (!kept)
        drop(p);
    return kept;
}

/* The next event of the log. */
static inline uint64_t arrive(fixture *f, const char *key)
{
    uint64_t after = f->read++;
    (void)arrive_of(f, after, f->read, key);
    return f->read;
}

static inline hk_lease start_until(fixture *f, uint64_t seq, int64_t until)
{
    hk_started s;
    assert_true(hk_cores_start(f->cores, now(f), until, &s));
    assert_int_equal(s.seq, seq);
    if (!s.payload)
        assert_int_equal(hk_cores_payload_set(f->cores, s.lease, payload_new(f)), HARK_OK);
    return s.lease;
}

static inline hk_lease start(fixture *f, uint64_t seq)
{
    return start_until(f, seq, -1);
}

static inline void assert_idle(fixture *f)
{
    hk_started s;
    assert_false(hk_cores_start(f->cores, now(f), -1, &s));
}

/* A retry comes after 10 ms. */
static inline hark_err settle(fixture *f, hk_lease lease, hark_verdict verdict)
{
    return hk_cores_settle(f->cores, lease, verdict, 10 * MS, NULL, now(f), NULL);
}

static inline size_t collect(fixture *f, hark_store_save **ret)
{
    size_t n;
    assert_int_equal(hk_cores_collect(f->cores, now(f), ret, &n), HARK_OK);
    return n;
}

static inline void save(fixture *f)
{
    hark_store_save *saves;
    (void)collect(f, &saves);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
}

static inline hk_dirt dirt(const fixture *f)
{
    return hk_cores_dirt(f->cores, now(f));
}

#endif
