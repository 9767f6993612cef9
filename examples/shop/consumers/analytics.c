/* analytics.c: figures about orders, made of events alone (what they carry, when they were recorded),
 * so that reading the log again makes the same figures again. Revenue is what was paid less what was
 * refunded; that of a product is gross. */
#include "../consumers.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- counting ---- */

typedef struct figure {
    job job;
    uint64_t sequence;
    int64_t recorded;
    hark_event *event;
    const char *what; /* part of its type: what became of the order */
    order o;
    note n; /* of a refund, which has no order */
} figure;

static void clear(job *j)
{
    figure *f = (figure *)j;
    order_clear(&f->o);
    hark_event_unref(f->event);
}

static hark_err count(hark_tx *tx, const char *name, int64_t n)
{
    return hark_tx_exec(tx,
                        "INSERT INTO analytics_totals VALUES(?, ?) "
                        "ON CONFLICT(name) DO UPDATE SET n = analytics_totals.n + excluded.n",
                        HARK_ARGS(hark_text(name), hark_int(n)));
}

/* By the day on which it was recorded, UTC. */
static hark_err count_day(hark_tx *tx, const figure *f)
{
    struct tm tm;
    time_t recorded = (time_t)(f->recorded / 1000000000);
    char day[16];
    strftime(day, sizeof day, "%Y-%m-%d", gmtime_r(&recorded, &tm));
    return hark_tx_exec(tx,
                        "INSERT INTO analytics_days VALUES(?, ?, 1, ?) "
                        "ON CONFLICT(day, status) DO UPDATE SET n = analytics_days.n + 1, "
                        "total = analytics_days.total + excluded.total",
                        HARK_ARGS(hark_text(day), hark_text(f->what), hark_int(f->o.total)));
}

static hark_err count_product(hark_tx *tx, const item *it, bool paid)
{
    return hark_tx_exec(
        tx,
        "INSERT INTO analytics_products AS a VALUES(?, ?, ?) ON CONFLICT(sku) DO UPDATE "
        "SET ordered = a.ordered + excluded.ordered, gross = a.gross + excluded.gross",
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

static hark_err count_order(hark_tx *tx, const figure *f)
{
    char name[40];
    bool created = strcmp(f->what, "created") == 0, paid = strcmp(f->what, "paid") == 0;
    snprintf(name, sizeof name, "orders:%s", f->what);
    hark_err err = count(tx, name, 1);
    if (!err)
        err = count_day(tx, f);
    return err || !(created || paid) ? err : count_products(tx, &f->o, paid);
}

/* Until a rebuild has emptied the figures nothing is entered: it would be lost. */
static hark_err wait_for_rebuild(hark_tx *tx)
{
    bool marked = false;
    hark_err err =
        hark_tx_query(tx, "SELECT 1 FROM analytics_totals WHERE name = 'rebuilding' AND n > 0",
                      HARK_NO_ARGS, row_found, &marked);
    return err || !marked ? err : hark_tx_fail(tx, HARK_EAGAIN, "the figures are being emptied");
}

/* A dead letter from before a rebuild may come after it: the rebuild has counted it then. */
static hark_err enter(hark_tx *tx, void *ud)
{
    const figure *f = ud;
    hark_err err = take_turn(f->job.s, tx);
    if (!err)
        err = hark_tx_exec(tx,
                           "INSERT INTO analytics_seen SELECT CAST(? AS BIGINT) WHERE NOT EXISTS "
                           "(SELECT 1 FROM analytics_totals WHERE name = 'rebuilding' AND n > 0) "
                           "ON CONFLICT DO NOTHING",
                           HARK_ARGS(hark_int((int64_t)f->sequence)));
    if (err)
        return err;
    if (!hark_tx_changes(tx))
        return wait_for_rebuild(tx);
    return f->what ? count_order(tx, f) : count(tx, "revenue", -f->n.total);
}

static bool read_figure(hark_delivery *d, figure *f)
{
    f->event = hark_event_ref(hark_delivery_event(d));
    f->sequence = hark_delivery_sequence(d);
    f->recorded = hark_delivery_recorded_ns(d);
    if (is_type(d, "payment:refunded"))
        return read_note(d, &f->n);
    f->what = hark_event_type(f->event) + strlen("order:");
    return read_order(d, &f->o);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    figure *f = job_new(s, sizeof *f, clear);
    if (!f)
        return HARK_RETRY;
    return read_figure(d, f) ? job_do(&f->job, d, enter, NULL) : job_drop(&f->job, HARK_REJECT);
}

const consumer analytics = {
    .name = "analytics", .pattern = "order:*|payment:refunded", .handle = handle};

/* ---- rebuilding ---- */

/* Emptying the tables, resetting the consumer and letting it go on are several commits, and another
 * process that shares the database may rebuild at the same time. So there is a mark in the table:
 * positive, the figures are yet to be emptied; negative, the consumer is yet to go on. Its number is
 * that of the rebuild that came last: others see that they have been overtaken, and leave the rest to it.
 * A mark that is still there at the next start of a shop tells that all has to be done again. */
typedef struct rebuilding {
    shop *s;
    int64_t number;
} rebuilding;

static hark_err mark(hark_tx *tx, void *ud)
{
    const rebuilding *r = ud;
    return hark_tx_exec(tx,
                        "INSERT INTO analytics_totals VALUES('rebuilding', ?) "
                        "ON CONFLICT(name) DO UPDATE SET n = excluded.n",
                        HARK_ARGS(hark_int(r->number)));
}

static hark_err empty(hark_tx *tx, void *ud)
{
    static const char *const sql[] = {
        "DELETE FROM analytics_totals WHERE name <> 'rebuilding'",
        "DELETE FROM analytics_products",
        "DELETE FROM analytics_days",
        "DELETE FROM analytics_seen",
    };
    const rebuilding *r = ud;
    hark_err err = take_turn(r->s, tx);
    if (!err)
        err = hark_tx_exec(tx,
                           "UPDATE analytics_totals SET n = -n WHERE name = 'rebuilding' AND n = ?",
                           HARK_ARGS(hark_int(r->number)));
    bool overtaken = !err && !hark_tx_changes(tx);
    for (size_t i = 0; i < sizeof sql / sizeof *sql && !err && !overtaken; i++)
        err = hark_tx_exec(tx, sql[i], HARK_NO_ARGS);
    return err;
}

static hark_err unmark(hark_tx *tx, void *ud)
{
    const rebuilding *r = ud;
    return hark_tx_exec(
        tx, "DELETE FROM analytics_totals WHERE name = 'rebuilding' AND (n = ? OR n = ?)",
        HARK_ARGS(hark_int(r->number), hark_int(-r->number)));
}

/* Paused, no new delivery begins; reset, those that still run are refused (HARK_ESTALE). */
static hark_err start_again(rebuilding *r, hark_errinfo *ei)
{
    hark_bus *bus = r->s->bus;
    hark_err err = hark_transact(bus, mark, r, SHOP_TX, NULL, ei);
    if (!err)
        err = hark_consumer_pause(bus, analytics.name, ei);
    if (!err)
        err = hark_consumer_reset(bus, analytics.name,
                                  HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), NULL, ei);
    return err ? err : hark_transact(bus, empty, r, SHOP_TX, NULL, ei);
}

/* The consumer goes on after a failure, too: what has not been emptied has its rows in analytics_seen. */
hark_err analytics_rebuild(shop *s, hark_errinfo *ei)
{
    rebuilding r = {.s = s, .number = shop_now()};
    hark_errinfo why, later;
    hark_err err = start_again(&r, &why);
    hark_err left = hark_consumer_resume(s->bus, analytics.name, &later);
    if (!left)
        left = hark_transact(s->bus, unmark, &r, SHOP_TX, NULL, &later);
    if (left)
        return hark_errinfo_set(ei, left,
                                "analytics does not go on: %s; the next start of a shop mends that",
                                later.text);
    return err ? hark_errinfo_set(ei, err, "the figures stay as they are: %s; try again", why.text)
               : HARK_OK;
}

hark_err analytics_resume(shop *s, hark_errinfo *ei)
{
    bool marked = false;
    hark_err err = hark_query(s->bus, "SELECT 1 FROM analytics_totals WHERE name = 'rebuilding'",
                              HARK_NO_ARGS, row_found, &marked, ei);
    return err || !marked ? err : analytics_rebuild(s, ei);
}
