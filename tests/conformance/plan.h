/* Orders with deadlines: closures that write a row and schedule an event, for the tests of
 * hark_tx_schedule, and looking at what waits. */
#ifndef HK_CONFORMANCE_PLAN_H
#define HK_CONFORMANCE_PLAN_H

#include "party.h"

/* An order with its deadline. */
typedef struct plan {
    int64_t n, after_ms;
    const char *id; /* of the event; NULL = a new one */
    hark_err then;  /* not HARK_OK: it is given up when both are there */
    hark_schedule_id ret;
    atomic_int runs, calls;
    hark_err err;
    fixture *f; /* where a closure needs it */
} plan;

static inline hark_err schedule_it(hark_tx *tx, plan *p)
{
    char json[24];
    (void)snprintf(json, sizeof json, "%lld", (long long)p->n);
    return hark_tx_schedule(
        tx, HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .id = p->id, .json = json),
        hark_after(p->after_ms), &p->ret);
}

static inline hark_err order(hark_tx *tx, void *ud)
{
    plan *p = ud;
    atomic_fetch_add(&p->runs, 1);
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)", HARK_ARGS(hark_int(p->n)));
    err = err ? err : schedule_it(tx, p);
    return err || !p->then ? err : hark_tx_fail(tx, p->then, "given up");
}

static inline hark_err transact(fixture *f, hark_tx_fn fn, plan *p)
{
    f->ei = (hark_errinfo){0};
    return hark_transact(f->bus, fn, p, SHOP_PATIENT, NULL, &f->ei);
}

static inline bool count(const hark_schedule_info *info, void *ud)
{
    (void)info;
    ++*(size_t *)ud;
    return true;
}

/* The `done` of one. */
static inline void planned(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    plan *p = ud;
    (void)last, (void)ei;
    p->err = err;
    atomic_fetch_add(&p->calls, 1);
}

static inline uint64_t in_memory(fixture *f)
{
    hark_stats s = {.size = sizeof s};
    assert_ok(f, hark_stats_get(f->bus, &s));
    return s.schedules;
}

/* The store and the queue in memory, which learns of it after the commit, know of as many. */
static inline void assert_waiting(fixture *f, size_t expected)
{
    size_t n = 0;
    assert_ok(f, hark_schedules(f->bus, count, &n, &f->ei));
    assert_u64(n, expected);
    WAIT_UNTIL(in_memory(f) == expected);
}

/* What is due before now has come when this returns. */
static inline void let_all_come(fixture *f, int64_t ms)
{
    size_t n = shop_said(f, "mark", NULL, 0);
    assert_ok(f, hark_schedule(f->bus, HARK_OPTS(hark_event_spec, .type = "mark"), hark_after(ms),
                               NULL, &f->ei));
    WAIT_UNTIL(shop_said(f, "mark", NULL, 0) > n);
}

#endif
