/* A core and the store behind it, for the tests of this folder. */
#ifndef HK_DELIVERY_TEST_I_H
#define HK_DELIVERY_TEST_I_H

#include "delivery/core_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS INT64_C(1000000)

enum { ROWS = 4096 };

/* What was committed last. */
typedef struct disk {
    uint64_t floor, highest;
    hark_store_range settled[ROWS];
    size_t n_settled;
    hark_store_row rows[ROWS];
    char keys[ROWS][4], errors[ROWS][24];
    size_t n_rows;
    size_t n_dead, n_attempts;
    uint64_t gap_done;
    hark_store_rerun rerun;
} disk;

typedef struct fixture {
    hk_core_opts opts;
    hk_core *core;
    disk disk;
    int64_t clock;
    size_t payloads; /* out */
    hark_store_save flight;
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

static inline hk_now now(fixture *f)
{
    return (hk_now){.mono = f->clock, .wall = f->clock + 1000000 * MS};
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
    f->core = hk_core_new(&f->opts);
    assert_non_null(f->core);
    *state = current = f;
    return 0;
}

static inline int tear_down(void **state)
{
    fixture *f = *state;
    hk_core_free(f->core);
    assert_int_equal(f->payloads, 0);
    free(f);
    return 0;
}

static inline void arrive(fixture *f, uint64_t seq, const char *key)
{
    bool kept;
    void *p = payload_new(f);
    assert_int_equal(hk_core_arrive(f->core, seq, key, p, now(f), &kept), HARK_OK);
    hk_core_cover(f->core, seq);
    if (!kept)
        drop(p);
}

static inline hk_started start_until(fixture *f, uint64_t seq, int64_t until)
{
    hk_started s;
    assert_true(hk_core_start(f->core, now(f), until, &s));
    assert_int_equal(s.seq, seq);
    if (!s.payload)
        assert_int_equal(hk_core_payload_set(f->core, s.lease, payload_new(f)), HARK_OK);
    assert_non_null(hk_core_payload(f->core, s.lease));
    return s;
}

static inline hk_lease start(fixture *f, uint64_t seq, int64_t attempt)
{
    hk_started s = start_until(f, seq, -1);
    assert_int_equal(s.attempt, attempt);
    assert_false(s.doomed);
    return s.lease;
}

static inline void assert_idle(fixture *f)
{
    hk_started s;
    assert_false(hk_core_start(f->core, now(f), -1, &s));
}

static inline hark_verdict settle_in(fixture *f, hk_lease lease, hark_verdict verdict,
                                     int64_t delay)
{
    hark_verdict came;
    assert_int_equal(
        hk_core_settle(f->core, lease, verdict, delay, verdict ? "because" : NULL, now(f), &came),
        HARK_OK);
    return came;
}

/* A retry comes after 10 ms. */
static inline hark_verdict settle(fixture *f, hk_lease lease, hark_verdict verdict)
{
    return settle_in(f, lease, verdict, 10 * MS);
}

static inline hk_core_facts facts(fixture *f)
{
    hk_core_facts x;
    hk_core_facts_get(f->core, &x);
    return x;
}

static inline void begin_save(fixture *f)
{
    assert_int_equal(hk_core_collect(f->core, &f->flight), HARK_OK);
}

static inline void put_row(disk *d, const hark_store_row *row)
{
    size_t at = 0;
    while (at < d->n_rows && d->rows[at].sequence != row->sequence)
        at++;
    if (at == d->n_rows) {
        assert_true(++d->n_rows < ROWS);
        for (; at > 0 && d->rows[at - 1].sequence > row->sequence; at--) { /* ascending */
            d->rows[at] = d->rows[at - 1];
            memcpy(d->keys[at], d->keys[at - 1], sizeof d->keys[at]);
            memcpy(d->errors[at], d->errors[at - 1], sizeof d->errors[at]);
        }
    }
    d->rows[at] = *row;
    (void)snprintf(d->keys[at], sizeof d->keys[at], "%s", row->key ? row->key : "");
    (void)snprintf(d->errors[at], sizeof d->errors[at], "%s", row->error ? row->error : "");
}

static inline void drop_row(disk *d, uint64_t seq)
{
    size_t at = 0;
    while (at < d->n_rows && d->rows[at].sequence != seq)
        at++;
    if (at == d->n_rows)
        return; /* settled before its row was ever saved */
    for (d->n_rows--; at < d->n_rows; at++) {
        d->rows[at] = d->rows[at + 1];
        memcpy(d->keys[at], d->keys[at + 1], sizeof d->keys[at]);
        memcpy(d->errors[at], d->errors[at + 1], sizeof d->errors[at]);
    }
}

static inline void commit(fixture *f)
{
    const hark_store_save *s = &f->flight;
    disk *d = &f->disk;
    assert_true(s->floor >= d->floor); /* never goes back */
    assert_true(s->n_settled < ROWS);
    d->floor = s->floor;
    d->highest = s->highest;
    for (size_t i = 0; i < s->n_settled; i++) {
        assert_true(s->settled[i].first > (i ? s->settled[i - 1].last : s->floor));
        assert_true(s->settled[i].last >= s->settled[i].first);
        d->settled[i] = s->settled[i];
    }
    d->n_settled = s->n_settled;
    for (size_t i = 0; i < s->n_drop; i++)
        drop_row(d, s->drop[i]);
    for (size_t i = 0; i < s->n_put; i++)
        put_row(d, &s->put[i]);
    for (size_t i = 0; i < s->n_dead; i++)
        assert_non_null(s->dead[i].event); /* the bytes are at hand */
    d->gap_done = s->gap_done > d->gap_done ? s->gap_done : d->gap_done;
    d->n_dead += s->n_dead;
    d->n_attempts += s->n_attempts;
    hk_core_saved(f->core, true);
}

static inline void save(fixture *f)
{
    begin_save(f);
    commit(f);
}

/* What a crash that found this one running leaves: its row counts it, or a row that only counts. */
static inline void count_on_disk(disk *d, uint64_t seq, int64_t crashes, int64_t interruptions)
{
    size_t at = 0;
    while (at < d->n_rows && d->rows[at].sequence != seq)
        at++;
    hark_store_row row = {.sequence = seq, .state = HARK_ROW_COUNTS, .first_ns = 77};
    if (at < d->n_rows) {
        row = d->rows[at];
        row.key = d->keys[at][0] ? d->keys[at] : NULL;
    }
    char key[sizeof d->keys[0]];
    (void)snprintf(key, sizeof key, "%s", row.key ? row.key : "");
    row.key = key;
    row.crashes += crashes;
    row.interruptions += interruptions;
    row.error = crashes ? "SIGSEGV at 0x0" : row.error;
    put_row(d, &row);
}

static inline const hark_store_row *row_on_disk(const disk *d, uint64_t seq)
{
    for (size_t i = 0; i < d->n_rows; i++)
        if (d->rows[i].sequence == seq)
            return &d->rows[i];
    return NULL;
}

static inline void core_anew(fixture *f)
{
    hk_core_free(f->core);
    f->core = hk_core_new(&f->opts);
    assert_non_null(f->core);
}

/* The process ends without another word, and starts from what was committed. */
static inline void restart(fixture *f)
{
    disk *d = &f->disk;
    core_anew(f);
    for (size_t i = 0; i < d->n_rows; i++) {
        d->rows[i].key = d->keys[i][0] ? d->keys[i] : NULL;
        d->rows[i].error = d->errors[i][0] ? d->errors[i] : NULL;
    }
    const hark_store_consumer state = {.ret_floor = d->floor,
                                       .ret_highest = d->highest,
                                       .ret_settled = d->settled,
                                       .ret_n_settled = d->n_settled,
                                       .ret_rows = d->rows,
                                       .ret_n_rows = d->n_rows,
                                       .ret_rerun = d->rerun};
    assert_int_equal(hk_core_load(f->core, &state, now(f)), HARK_OK);
}

#endif
