/* analytics.c: figures about orders, made of events alone (what they carry, when they were recorded),
 * so that reading the log again makes the same figures again. */
#include "../consumers.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

typedef struct fact {
    order o;
    const char *what; /* "created", "paid", "shipped", "cancelled" */
    char day[16];     /* "2031-05-17", UTC */
} fact;

/* ---- counting ---- */

static hark_err count(hark_tx *tx, const char *name, int64_t n)
{
    return hark_tx_exec(tx,
                        "INSERT INTO analytics_totals VALUES(?, ?) "
                        "ON CONFLICT DO UPDATE SET n = n + excluded.n",
                        HARK_ARGS(hark_text(name), hark_int(n)));
}

static hark_err count_day(hark_tx *tx, const fact *f)
{
    return hark_tx_exec(tx,
                        "INSERT INTO analytics_days VALUES(?, ?, 1, ?) "
                        "ON CONFLICT DO UPDATE SET n = n + 1, total = total + excluded.total",
                        HARK_ARGS(hark_text(f->day), hark_text(f->what), hark_int(f->o.total)));
}

static hark_err count_product(hark_tx *tx, const item *it, bool paid)
{
    return hark_tx_exec(
        tx,
        "INSERT INTO analytics_products VALUES(?, ?, ?) ON CONFLICT DO UPDATE "
        "SET ordered = ordered + excluded.ordered, revenue = revenue + excluded.revenue",
        HARK_ARGS(hark_text(it->product_id), hark_int(paid ? 0 : it->quantity),
                  hark_int(paid ? it->quantity * it->price : 0)));
}

static hark_err count_products(hark_tx *tx, const order *o, bool paid)
{
    int64_t units = 0;
    hark_err err = HARK_OK;
    for (size_t i = 0; i < o->n_items && !err; i++) {
        units += o->items[i].quantity;
        err = count_product(tx, &o->items[i], paid);
    }
    if (!err)
        err = paid ? count(tx, "revenue", o->total) : count(tx, "units", units);
    return err;
}

static hark_err enter(hark_tx *tx, void *ud)
{
    const fact *f = ud;
    char name[40];
    bool created = strcmp(f->what, "created") == 0, paid = strcmp(f->what, "paid") == 0;
    snprintf(name, sizeof name, "orders:%s", f->what);
    hark_err err = count(tx, name, 1);
    if (!err)
        err = count_day(tx, f);
    return err || !(created || paid) ? err : count_products(tx, &f->o, paid);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    (void)s;
    fact f;
    struct tm tm;
    time_t recorded = (time_t)(hark_delivery_recorded_ns(d) / 1000000000);
    if (!read_order(d, &f.o))
        return HARK_REJECT;
    f.what = hark_event_type(hark_delivery_event(d)) + strlen("order:");
    strftime(f.day, sizeof f.day, "%Y-%m-%d", gmtime_r(&recorded, &tm));
    hark_err err = hark_delivery_transact(d, enter, &f, SHOP_TX, NULL);
    order_clear(&f.o);
    return verdict_of(err);
}

const consumer analytics = {.name = "analytics", .pattern = "order:*", .handle = handle};

/* ---- rebuilding ---- */

/* Two at a time would empty what the other one counts. */
static pthread_mutex_t rebuilding = PTHREAD_MUTEX_INITIALIZER;

/* Emptying the tables and resetting the consumer are two commits. The mark says that both have to be
 * done (again) should the process end in between. */
static hark_err mark(hark_tx *tx, void *ud)
{
    (void)ud;
    return hark_tx_exec(
        tx, "INSERT INTO analytics_totals VALUES('rebuilding', 1) ON CONFLICT DO NOTHING",
        HARK_NO_ARGS);
}

static hark_err empty(hark_tx *tx, void *ud)
{
    (void)ud;
    static const char *const sql[] = {
        "DELETE FROM analytics_totals WHERE name <> 'rebuilding'",
        "DELETE FROM analytics_products",
        "DELETE FROM analytics_days",
    };
    hark_err err = HARK_OK;
    for (size_t i = 0; i < sizeof sql / sizeof *sql && !err; i++)
        err = hark_tx_exec(tx, sql[i], HARK_NO_ARGS);
    return err;
}

static hark_err unmark(hark_tx *tx, void *ud)
{
    (void)ud;
    return hark_tx_exec(tx, "DELETE FROM analytics_totals WHERE name = 'rebuilding'", HARK_NO_ARGS);
}

/* Paused, no new delivery begins; reset, those that still run are refused (HARK_ESTALE). From then on
 * nobody writes these tables, until the consumer goes on with the first event of the log. */
static hark_err rebuild(shop *s, hark_errinfo *ei)
{
    const char *name = analytics.name;
    hark_err err = hark_transact(s->bus, mark, NULL, SHOP_TX, NULL, ei);
    if (!err)
        err = hark_consumer_pause(s->bus, name, ei);
    if (!err)
        err = hark_consumer_reset(s->bus, name,
                                  HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), NULL, ei);
    if (!err)
        err = hark_transact(s->bus, empty, NULL, SHOP_TX, NULL, ei);
    if (!err)
        err = hark_consumer_resume(s->bus, name, ei);
    return err ? err : hark_transact(s->bus, unmark, NULL, SHOP_TX, NULL, ei);
}

hark_err analytics_rebuild(shop *s, hark_errinfo *ei)
{
    pthread_mutex_lock(&rebuilding);
    hark_err err = rebuild(s, ei);
    pthread_mutex_unlock(&rebuilding);
    return err;
}

static bool take_mark(const hark_row *row, void *ud)
{
    *(bool *)ud = row->n > 0;
    return true;
}

hark_err analytics_resume(shop *s, hark_errinfo *ei)
{
    bool marked = false;
    hark_err err = hark_query(s->bus, "SELECT 1 FROM analytics_totals WHERE name = 'rebuilding'",
                              HARK_NO_ARGS, take_mark, &marked, ei);
    return err || !marked ? err : analytics_rebuild(s, ei);
}
