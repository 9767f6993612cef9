/* Statements that are refused: what they do to the closure that runs them, and to what comes after it. */
#ifndef HK_CONFORMANCE_REFUSED_H
#define HK_CONFORMANCE_REFUSED_H

#include "shop.h"

/* A row and an event go before it, so that it shows when they stay. */
static inline hark_err both_then_sql(hark_tx *tx, void *ud)
{
    shop_work *w = ud, before = {.n = -1};
    atomic_fetch_add(&w->runs, 1);
    hark_err err = shop_both(tx, &before);
    if (!err)
        err = w->seen = hark_tx_exec(tx, w->sql, HARK_NO_ARGS);
    (void)snprintf(w->text, sizeof w->text, "%s", hark_tx_error(tx));
    return err;
}

static inline hark_err run_after_both(fixture *f, shop_work *w)
{
    f->ei = (hark_errinfo){0};
    return hark_transact(f->bus, both_then_sql, w, SHOP_PATIENT, NULL, &f->ei);
}

/* The bus goes on: one more row, one more event, and what is there agrees. */
static inline void goes_on(fixture *f, size_t *n)
{
    assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = (int64_t)*n}, NULL));
    shop_has(f, ++*n);
    shop_agrees(f);
}

/* `@name` is the log's own table of that name; the list ends with NULL. */
static inline void refused_with(fixture *f, hark_err expected, const char *const *sql)
{
    size_t n = (size_t)shop_rows(f);
    for (; *sql; sql++) {
        sql_text text = in_log(f, *sql);
        shop_work w = {.sql = text.s};
        hark_err err = run_after_both(f, &w);
        if (err != expected || w.seen != expected)
            fail_msg("%s: expected %s, got %s: %s", text.s, hark_err_name(expected),
                     hark_err_name(err), f->ei.text);
        assert_int_equal(f->ei.err, expected);
        assert_true(strlen(f->ei.text) > 0);
        assert_string_equal(f->ei.text, w.text);
        goes_on(f, &n);
    }
}

#endif
