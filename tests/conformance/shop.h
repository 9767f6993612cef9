/* A shop beside the log: a table "effects" of the program's own, and closures that write a row and
 * publish an event; shared by the tests of transactions. On a store without transactions every call
 * must say so, and the tests end there. */
#ifndef HK_CONFORMANCE_SHOP_H
#define HK_CONFORMANCE_SHOP_H

#include "dialect.h"

#define SHOP_TYPE "effect"
#define TX(...)   HARK_OPTS(hark_tx_opts, __VA_ARGS__)
/* No closure of a test is over its deadline because the machine is busy. */
#define SHOP_PATIENT TX(.deadline_ms = 10000)

/* A statement to be run by a closure, or what else it does; NULL sql = only `then`. */
typedef struct shop_work {
    const char *sql;
    hark_err (*then)(hark_tx *tx, struct shop_work *w);
    int64_t n; /* of the row and the event */
    hark_receipt receipt;
    hark_err seen; /* by the closure */
    char text[512];
    atomic_int runs;
    void *ud;
} shop_work;

static inline hark_err shop_do(hark_tx *tx, void *ud)
{
    shop_work *w = ud;
    atomic_fetch_add(&w->runs, 1);
    hark_err err = w->sql ? hark_tx_exec(tx, w->sql, HARK_NO_ARGS) : HARK_OK;
    return err || !w->then ? err : w->then(tx, w);
}

/* Only the event, with its number as data. */
static inline hark_err shop_say(hark_tx *tx, int64_t n, hark_receipt *ret)
{
    char json[24];
    (void)snprintf(json, sizeof json, "%lld", (long long)n);
    return hark_tx_publish(tx, HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .json = json), ret);
}

/* One row, one event. */
static inline hark_err shop_both(hark_tx *tx, shop_work *w)
{
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)", HARK_ARGS(hark_int(w->n)));
    return err ? err : shop_say(tx, w->n, &w->receipt);
}

static inline hark_err shop_run(fixture *f, shop_work *w, const hark_tx_opts *opts)
{
    f->ei = (hark_errinfo){0};
    return hark_transact(f->bus, shop_do, w, opts ? opts : SHOP_PATIENT, NULL, &f->ei);
}

static inline hark_err shop_sql(fixture *f, const char *sql)
{
    return shop_run(f, &(shop_work){.sql = sql}, NULL);
}

/* A list of statements, each in a transaction of its own. */
static inline void shop_all(fixture *f, const char *const *sql)
{
    for (; *sql; sql++)
        assert_ok(f, shop_sql(f, *sql));
}

static inline void shop_must_not_be_called(hark_err err, const hark_receipt *last,
                                           const hark_errinfo *ei, void *ud)
{
    (void)err, (void)last, (void)ei, (void)ud;
    must_failed("it is not called when the call had failed", __FILE__, __LINE__);
}

static inline bool shop_open(fixture *f)
{
    const dialect *d = dialect_of(f);
    if (d) {
        shop_all(f, d->effects);
        return true;
    }
    shop_work w = {.then = shop_both};
    assert_err(f, HARK_ENOTSUP, shop_run(f, &w, NULL));
    assert_says(f, f->store->name);
    assert_err(f, HARK_ENOTSUP,
               hark_transact_async(f->bus, shop_do, shop_must_not_be_called, &w, NULL, &f->ei));
    assert_err(f, HARK_ENOTSUP, hark_query(f->bus, "SELECT 1", HARK_NO_ARGS, NULL, NULL, &f->ei));
    assert_int_equal(atomic_load(&w.runs), 0);
    return false;
}

static inline bool shop_first(const hark_row *row, void *ud)
{
    *(int64_t *)ud = hark_row_int(row, 0);
    return false;
}

/* The number that a query gives, of what is committed; -1 when it gives no row. */
static inline int64_t shop_ask(fixture *f, const char *sql)
{
    int64_t n = -1;
    assert_ok(f, hark_query(f->bus, sql, HARK_NO_ARGS, shop_first, &n, &f->ei));
    return n;
}

static inline int64_t shop_rows(fixture *f)
{
    return shop_ask(f, "SELECT count(*) FROM effects");
}

/* The numbers of the events of a type, in the order of the log. */
static inline size_t shop_said(fixture *f, const char *type, int64_t *ret, size_t max)
{
    hark_page *page = NULL;
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = type, .limit = 10000), &page,
                           &f->ei));
    size_t n = hark_page_count(page);
    for (size_t i = 0; i < n && i < max; i++) {
        size_t len;
        const char *data = hark_event_data(hark_page_event(page, i), &len);
        ret[i] = data ? strtoll(data, NULL, 10) : -1;
    }
    hark_page_free(page);
    return n;
}

static inline size_t shop_events(fixture *f)
{
    return shop_said(f, SHOP_TYPE, NULL, 0);
}

/* Nothing is there but this many rows, each with its event. */
static inline void shop_has(fixture *f, size_t n)
{
    assert_u64(shop_rows(f), n);
    assert_u64(shop_events(f), n);
}

static inline bool shop_collect(const hark_row *row, void *ud)
{
    int64_t **at = ud;
    *(*at)++ = hark_row_int(row, 0);
    return true;
}

/* Rows and events are the same numbers in the same order. */
static inline void shop_agrees(fixture *f)
{
    enum { MOST = 8192 };
    static int64_t rows[MOST], events[MOST];
    size_t n = (size_t)shop_rows(f);
    int64_t *at = rows;
    assert_true(n < MOST);
    assert_ok(f, hark_query(f->bus, "SELECT n FROM effects ORDER BY rowid", HARK_NO_ARGS,
                            shop_collect, &at, &f->ei));
    assert_u64(shop_said(f, SHOP_TYPE, events, MOST), n);
    for (size_t i = 0; i < n; i++)
        if (rows[i] != events[i])
            fail_msg("row %zu is %lld, event %zu is %lld", i, (long long)rows[i], i,
                     (long long)events[i]);
}

/* Each event in a row of its own, no row twice. */
static inline void shop_each_once(fixture *f, size_t n)
{
    shop_has(f, n);
    assert_u64(shop_ask(f, "SELECT count(DISTINCT n) FROM effects"), n);
    shop_agrees(f);
}

/* Waits on the clock: what a closure does that is too slow. */
static inline void shop_dawdle(int64_t ms)
{
    for (int64_t end = hk_mono_ms() + ms; hk_mono_ms() < end;)
        continue;
}

#endif
