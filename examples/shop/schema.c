/* schema.c: the shop's tables, which live in the same file as the log, and what they hold at the
 * first start. */
#include "order.h"
#include "user.h"

static const char *const tables[] = {
    "CREATE TABLE IF NOT EXISTS users(id TEXT PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT "
    "NULL, "
    "created_at INTEGER NOT NULL) STRICT",
    /* What was there at the start, or came since, is in stock, reserved for an order, or sold. */
    "CREATE TABLE IF NOT EXISTS products(sku TEXT PRIMARY KEY, name TEXT NOT NULL, "
    "price INTEGER NOT NULL CHECK(price > 0), start INTEGER NOT NULL, "
    "stock INTEGER NOT NULL CHECK(stock >= 0), reserved INTEGER NOT NULL CHECK(reserved >= 0), "
    "sold INTEGER NOT NULL, CHECK(start = stock + reserved + sold)) STRICT, WITHOUT ROWID",
    /* Its rowid counts up: pages of a list go by it. holds: stock is reserved for it. */
    "CREATE TABLE IF NOT EXISTS orders(id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES "
    "users, "
    "total INTEGER NOT NULL, currency TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, "
    "created_at INTEGER NOT NULL, holds INTEGER NOT NULL DEFAULT 0) STRICT",
    "CREATE INDEX IF NOT EXISTS orders_of_user ON orders(user_id)",
    "CREATE TABLE IF NOT EXISTS order_items(order_id TEXT, line INTEGER, "
    "product_id TEXT NOT NULL REFERENCES products, quantity INTEGER NOT NULL CHECK(quantity > 0), "
    "price INTEGER NOT NULL, PRIMARY KEY(order_id, line)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS payments(order_id TEXT PRIMARY KEY, amount INTEGER NOT NULL, "
    "reference TEXT, paid_at INTEGER NOT NULL, refunded_at INTEGER) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS shipments(order_id TEXT PRIMARY KEY, tracking TEXT, "
    "shipped_at INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    /* An order has one customer: the key that finds theirs counts an order once, too. */
    "CREATE TABLE IF NOT EXISTS points(order_id TEXT, user_id TEXT, points INTEGER NOT NULL, "
    "PRIMARY KEY(user_id, order_id)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS mails(order_id TEXT, kind TEXT, sent_at INTEGER NOT NULL, "
    "PRIMARY KEY(order_id, kind)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS audit(seq INTEGER PRIMARY KEY, type TEXT NOT NULL, subject TEXT, "
    "userid TEXT, correlationid TEXT, causationid TEXT, recorded_at INTEGER NOT NULL) STRICT",
    /* Which events are in the figures below: one that comes again is not counted again. */
    "CREATE TABLE IF NOT EXISTS analytics_seen(seq INTEGER PRIMARY KEY) STRICT",
    "CREATE TABLE IF NOT EXISTS analytics_totals(name TEXT PRIMARY KEY, n INTEGER NOT NULL) "
    "STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS analytics_products(sku TEXT PRIMARY KEY, ordered INTEGER NOT NULL, "
    "gross INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS analytics_days(day TEXT, status TEXT, n INTEGER NOT NULL, "
    "total INTEGER NOT NULL, PRIMARY KEY(day, status)) STRICT, WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS chaos(consumer TEXT PRIMARY KEY, fail_rate REAL NOT NULL, "
    "delay_ms INTEGER NOT NULL, crash INTEGER NOT NULL, poisoned INTEGER NOT NULL) STRICT",
};

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

static hark_err make(hark_tx *tx, void *ud)
{
    const shop *s = ud;
    hark_err err = HARK_OK;
    for (size_t i = 0; i < sizeof tables / sizeof *tables && !err; i++)
        err = hark_tx_exec(tx, tables[i], HARK_NO_ARGS);
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
    return hark_transact(s->bus, make, s, HARK_OPTS(hark_tx_opts, .deadline_ms = 10000), NULL, ei);
}
