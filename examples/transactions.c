/* transactions: a shop whose tables are in the same file as its events. An order takes from stock and
 * publishes, or neither; a consumer writes each parcel exactly once. docs/how-to/transactions.md goes
 * through it. Usage: transactions [STORE], by default sqlite:transactions.db; its tables are SQLite's,
 * examples/shop/schema.c has some that PostgreSQL takes, too */
#include <hark/hark.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static hark_bus *bus;
static hark_errinfo ei; /* of the main thread's last call that failed */

static void must(hark_err err)
{
    if (err)
        exit((fprintf(stderr, "transactions: %s\n", ei.err == err ? ei.text : hark_err_text(err)),
              1));
}

static hark_err make_tables(hark_tx *tx, void *ud)
{
    (void)ud;
    const char *sql[] = {
        "CREATE TABLE IF NOT EXISTS stock(sku TEXT PRIMARY KEY, n INTEGER CHECK(n >= 0))",
        "CREATE TABLE IF NOT EXISTS orders(id INTEGER PRIMARY KEY, customer, sku REFERENCES stock)",
        "CREATE TABLE IF NOT EXISTS parcels(order_id INTEGER PRIMARY KEY REFERENCES orders)",
        "INSERT INTO stock VALUES('tea', 2) ON CONFLICT DO UPDATE SET n = 2"};
    hark_err err = HARK_OK;
    for (size_t i = 0; i < sizeof sql / sizeof *sql && !err; i++)
        err = hark_tx_exec(tx, sql[i], HARK_NO_ARGS);
    return err;
}

typedef struct order {
    const char *customer, *sku;
    int64_t id; /* set by the transaction */
} order;

HARK_JSON_TABLE(order_json, order, HARK_JSON_INT(order, id, .required = true));

static bool take_id(const hark_row *row, void *ud)
{
    ((order *)ud)->id = hark_row_int(row, 0);
    return true;
}

static hark_err place(hark_tx *tx, void *ud)
{
    order *o = ud;
    hark_err err =
        hark_tx_exec(tx, "UPDATE stock SET n = n - 1 WHERE sku = ?", HARK_ARGS(hark_text(o->sku)));
    if (err == HARK_ECONSTRAINT)
        return hark_tx_fail(tx, HARK_ECONFLICT, "%s is sold out", o->sku);
    if (!err && !hark_tx_changes(tx))
        return hark_tx_fail(tx, HARK_ENOTFOUND, "there is no %s", o->sku);
    if (!err)
        err = hark_tx_query(tx, "INSERT INTO orders(customer, sku) VALUES(?, ?) RETURNING id",
                            HARK_ARGS(hark_text(o->customer), hark_text(o->sku)), take_id, o);
    const hark_event_spec *placed =
        HARK_OPTS(hark_event_spec, .type = "order:placed", .subject = o->customer);
    return err ? err : hark_tx_publish_json(tx, placed, &order_json, o, NULL);
}

static uint64_t buy(const char *customer, const char *sku)
{
    hark_receipt at = {.sequence = 0};
    order o = {.customer = customer, .sku = sku};
    const hark_tx_opts *opts = HARK_OPTS(hark_tx_opts, .deadline_ms = 1000);
    hark_err err = hark_transact(bus, place, &o, opts, &at, &ei);
    if (err)
        printf("%s gets no %s: %s\n", customer, sku, ei.text);
    else
        printf("%s gets %s, order %" PRId64 "\n", customer, sku, o.id);
    return at.sequence;
}

static hark_err pack(hark_tx *tx, void *ud)
{
    const order *o = ud;
    hark_err err = hark_tx_exec(tx, "INSERT INTO parcels VALUES(?)", HARK_ARGS(hark_int(o->id)));
    const hark_event_spec *sent = HARK_OPTS(hark_event_spec, .type = "parcel:packed");
    return err ? err : hark_tx_publish_json(tx, sent, &order_json, o, NULL);
}

static hark_verdict on_order(hark_delivery *d, void *ud)
{
    (void)ud;
    order o = {.id = 0};
    if (hark_delivery_bind(d, &order_json, &o))
        return HARK_REJECT;
    return hark_delivery_transact(d, pack, &o, NULL, NULL) ? HARK_RETRY : HARK_ACK;
}

static hark_err dawdle(hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = hark_tx_exec(tx, "UPDATE stock SET n = 1000000", HARK_NO_ARGS);
    const char *sql = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
                      "SELECT count(*) FROM c"; /* it never ends */
    return err ? err : hark_tx_exec(tx, sql, HARK_NO_ARGS);
}

static hark_err meddle(hark_tx *tx, void *ud)
{
    return hark_tx_exec(tx, ud, HARK_NO_ARGS);
}

/* What harms nobody but the one who does it. */
static void misbehave(void)
{
    char commit[] = "COMMIT", log[] = "DELETE FROM hark_events";
    char *const denied[] = {commit, log};
    const hark_tx_opts *brief = HARK_OPTS(hark_tx_opts, .deadline_ms = 20);
    if (hark_transact(bus, dawdle, NULL, brief, NULL, &ei))
        printf("undone: %s\n", ei.text);
    for (size_t i = 0; i < 2; i++)
        if (hark_transact(bus, meddle, denied[i], NULL, NULL, &ei))
            printf("undone: %s\n", ei.text);
}

static bool print_row(const hark_row *row, void *ud)
{
    (void)ud;
    printf("%s: %" PRId64 " orders, %" PRId64 " without a parcel\n", hark_row_text(row, 0),
           hark_row_int(row, 1), hark_row_int(row, 2));
    return true;
}

static void print_customers(void)
{
    must(hark_query(bus,
                    "SELECT customer, count(*), count(*) - count(order_id) FROM orders "
                    "LEFT JOIN parcels ON order_id = id GROUP BY customer ORDER BY customer",
                    HARK_NO_ARGS, print_row, NULL, &ei));
}

int main(int argc, char **argv)
{
    must(hark_open(argc > 1 ? argv[1] : "sqlite:transactions.db", NULL, &bus, &ei));
    must(hark_transact(bus, make_tables, NULL, HARK_OPTS(hark_tx_opts, .deadline_ms = 1000), NULL,
                       &ei));
    must(hark_subscribe(bus, "order:placed", on_order, NULL,
                        HARK_OPTS(hark_sub_opts, .consumer = "packing"), NULL, &ei));
    buy("ann", "tea");
    uint64_t last = buy("bob", "tea");
    buy("cleo", "tea");
    buy("cleo", "rum");
    misbehave();
    must(hark_settled(bus, "packing", last, 30000, NULL, &ei));
    print_customers();
    must(hark_drain(bus, 5000, &ei));
    hark_bus_unref(bus);
}
