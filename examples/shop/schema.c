/* schema.c: the shop's tables, which live in the same place as the log, and what they hold at the
 * first start. */
#include "order.h"
#include "user.h"

#include <string.h>

/* In both dialects: NUMBER is an integer of 64 bits, a KEYED table is one tree in the order of its key. */
#define TABLES(NUMBER, PLAIN, KEYED)                                                                                    \
    {                                                                                                                   \
        "CREATE TABLE IF NOT EXISTS users(id TEXT PRIMARY KEY, name TEXT NOT NULL, "                                    \
        "email TEXT NOT NULL, created_at " NUMBER                                                                       \
        " NOT NULL)" PLAIN, /* What was there at the start, or came since, is in stock, reserved, or sold. */           \
            "CREATE TABLE IF NOT EXISTS products(sku TEXT PRIMARY KEY, name TEXT NOT NULL, "                            \
            "price " NUMBER " NOT NULL CHECK(price > 0), start " NUMBER " NOT NULL, "                                   \
            "stock " NUMBER " NOT NULL CHECK(stock >= 0), "                                                             \
            "reserved " NUMBER " NOT NULL CHECK(reserved >= 0), sold " NUMBER " NOT NULL, "                             \
            "CHECK(start = stock + reserved + sold))" KEYED, /* Ids go by the time. holds: stock is reserved for it. */ \
            "CREATE TABLE IF NOT EXISTS orders(id TEXT PRIMARY KEY, "                                                   \
            "user_id TEXT NOT NULL REFERENCES users, total " NUMBER " NOT NULL, "                                       \
            "currency TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, "                                               \
            "created_at " NUMBER " NOT NULL, holds " NUMBER " NOT NULL DEFAULT 0)" KEYED,                               \
            "CREATE INDEX IF NOT EXISTS orders_of_user ON orders(user_id, id)",                                         \
            "CREATE TABLE IF NOT EXISTS order_items(order_id TEXT, line " NUMBER ", "                                   \
            "product_id TEXT NOT NULL REFERENCES products, "                                                            \
            "quantity " NUMBER " NOT NULL CHECK(quantity > 0), price " NUMBER " NOT NULL, "                             \
            "PRIMARY KEY(order_id, line))" KEYED,                                                                       \
            "CREATE TABLE IF NOT EXISTS payments(order_id TEXT PRIMARY KEY, "                                           \
            "amount " NUMBER " NOT NULL, reference TEXT, paid_at " NUMBER " NOT NULL, "                                 \
            "refunded_at " NUMBER ")" KEYED,                                                                            \
            "CREATE TABLE IF NOT EXISTS shipments(order_id TEXT PRIMARY KEY, tracking TEXT, "                           \
            "shipped_at " NUMBER                                                                                        \
            " NOT NULL)" KEYED, /* An order has one customer: the key that finds theirs counts an order once, too. */   \
            "CREATE TABLE IF NOT EXISTS points(order_id TEXT, user_id TEXT, "                                           \
            "points " NUMBER " NOT NULL, PRIMARY KEY(user_id, order_id))" KEYED,                                        \
            "CREATE TABLE IF NOT EXISTS mails(order_id TEXT, kind TEXT, "                                               \
            "sent_at " NUMBER " NOT NULL, PRIMARY KEY(order_id, kind))" KEYED,                                          \
            "CREATE TABLE IF NOT EXISTS audit(seq " NUMBER " PRIMARY KEY, type TEXT NOT NULL, "                         \
            "subject TEXT, userid TEXT, correlationid TEXT, causationid TEXT, "                                         \
            "recorded_at " NUMBER                                                                                       \
            " NOT NULL)" PLAIN, /* Which events are in the figures below: one that comes again is not counted again. */ \
            "CREATE TABLE IF NOT EXISTS analytics_seen(seq " NUMBER " PRIMARY KEY)" PLAIN,                              \
            "CREATE TABLE IF NOT EXISTS analytics_totals(name TEXT PRIMARY KEY, "                                       \
            "n " NUMBER " NOT NULL)" KEYED,                                                                             \
            "CREATE TABLE IF NOT EXISTS analytics_products(sku TEXT PRIMARY KEY, "                                      \
            "ordered " NUMBER " NOT NULL, gross " NUMBER " NOT NULL)" KEYED,                                            \
            "CREATE TABLE IF NOT EXISTS analytics_days(day TEXT, status TEXT, n " NUMBER                                \
            " NOT NULL, total " NUMBER " NOT NULL, PRIMARY KEY(day, status))" KEYED,                                    \
            "CREATE TABLE IF NOT EXISTS chaos(consumer TEXT PRIMARY KEY, fail_rate REAL NOT "                           \
            "NULL, "                                                                                                    \
            "delay_ms " NUMBER " NOT NULL, crash " NUMBER " NOT NULL, "                                                 \
            "poisoned " NUMBER " NOT NULL)" PLAIN,                                                                      \
            NULL                                                                                                        \
    }
static const char *const on_sqlite[] = TABLES("INTEGER", " STRICT", " STRICT, WITHOUT ROWID");
static const char *const on_postgresql[] = TABLES("BIGINT", "", "");

static hark_err first_user(hark_tx *tx)
{
    const user john = {
        .id = "user123", .name = "John Doe", .email = "john@example.com", .created_at = shop_now()};
    return user_add(tx, &john);
}

/* Stock comes as it always does, with an event; the shelf of a product that is there stays as it is. */
static hark_err first_product(hark_tx *tx, const char *sku, const char *name, int64_t price,
                              int64_t stock)
{
    hark_err err =
        hark_tx_exec(tx, "INSERT INTO products VALUES(?, ?, ?, 0, 0, 0, 0) ON CONFLICT DO NOTHING",
                     HARK_ARGS(hark_text(sku), hark_text(name), hark_int(price)));
    return err || !hark_tx_changes(tx) || !stock ? err : product_restock(tx, sku, stock);
}

/* Two shops may start at once, and the second of two CREATE TABLE IF NOT EXISTS would fail. */
static hark_err make_tables(hark_tx *tx, void *ud)
{
    const shop *s = ud;
    hark_err err = take_turn(s, tx);
    const char *const *tables = s->takes_turns ? on_postgresql : on_sqlite;
    for (; *tables && !err; tables++)
        err = hark_tx_exec(tx, *tables, HARK_NO_ARGS);
    return err;
}

static hark_err fill_tables(hark_tx *tx, void *ud)
{
    const shop *s = ud;
    hark_err err = take_turn(s, tx);
    if (!err)
        err = first_user(tx);
    if (!err)
        err = first_product(tx, "prod1", "Teapot", 1099, s->o.stock);
    if (!err)
        err = first_product(tx, "prod2", "Cup", 450, s->o.stock);
    return err ? err : first_product(tx, "prod3", "Tea, 100 g", 725, s->o.stock);
}

hark_err shop_schema(shop *s, hark_errinfo *ei)
{
    const hark_tx_opts *ample = HARK_OPTS(hark_tx_opts, .deadline_ms = 10000);
    hark_bus_info info = {.size = sizeof info};
    hark_err err = hark_bus_info_get(s->bus, &info);
    if (err)
        return hark_errinfo_set(ei, err, "the log tells nothing of itself: %s", hark_err_text(err));
    s->takes_turns = strcmp(info.store, "sqlite") != 0;
    err = hark_transact(s->bus, make_tables, s, ample, NULL, ei);
    return err ? err : hark_transact(s->bus, fill_tables, s, ample, NULL, ei);
}

/* ---- turns ------------------------------------------------------------------------------------ */

hark_err take_turn(const shop *s, hark_tx *tx)
{
    return s->takes_turns ? hark_tx_exec(tx, "SELECT pg_advisory_xact_lock(7077)", HARK_NO_ARGS)
                          : HARK_OK;
}
