/* orders_http: orders over HTTP. A POST may be repeated with its Idempotency-Key, and whoever placed
 * an order may wait until the totals, which a consumer adds up, show it. docs/how-to/idempotency.md and
 * docs/how-to/read-your-writes.md go through it.
 * Usage: orders_http [ADDR:PORT [STORE]], by default 127.0.0.1:8080 and sqlite:orders.db (its tables
 * are SQLite's; examples/shop/schema.c has some that PostgreSQL takes, too) */
#include <hark/hark.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { CREDIT = 100000 }; /* cents that a customer may owe */

typedef struct order {
    int64_t id, total; /* cents */
    char customer[40];
} order;

HARK_JSON_TABLE(order_json, order, HARK_JSON_INT(order, id, HARK_JSON_MIN(1)),
                HARK_JSON_CHARS(order, customer, .required = true, .min_len = 1),
                HARK_JSON_DECIMAL(order, total, 2, .required = true, HARK_JSON_RANGE(0, CREDIT)));
HARK_JSON_TABLE(total_json, order, HARK_JSON_DECIMAL(order, total, 2));

static hark_errinfo ei; /* of the main thread's last call that failed */

static void must(hark_err err)
{
    if (err)
        exit((fprintf(stderr, "orders_http: %s\n", ei.text), 1));
}

static hark_err make_tables(hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = hark_tx_exec(tx,
                                "CREATE TABLE IF NOT EXISTS orders(id INTEGER PRIMARY KEY, "
                                "customer TEXT NOT NULL, total INTEGER NOT NULL) STRICT",
                                HARK_NO_ARGS);
    return err ? err
               : hark_tx_exec(tx,
                              "CREATE TABLE IF NOT EXISTS totals(customer TEXT PRIMARY KEY, "
                              "total INTEGER NOT NULL) STRICT",
                              HARK_NO_ARGS);
}

/* ---- placing ---- */

static bool take_int(const hark_row *row, void *ud)
{
    *(int64_t *)ud = hark_row_int(row, 0);
    return true;
}

static hark_err place(hark_ctx *c, hark_tx *tx, void *ud)
{
    order *o = ud;
    int64_t owed = 0;
    hark_err err = hark_tx_query(tx, "SELECT sum(total) FROM orders WHERE customer = ?",
                                 HARK_ARGS(hark_text(o->customer)), take_int, &owed);
    if (!err && owed + o->total > CREDIT)
        return hark_ctx_fail(c, HARK_EDENIED, "%s has no credit left", o->customer);
    if (!err)
        err =
            hark_tx_query(tx, "INSERT INTO orders(customer, total) VALUES(?, ?) RETURNING id",
                          HARK_ARGS(hark_text(o->customer), hark_int(o->total)), take_int, &o->id);
    if (!err)
        err = hark_tx_publish_json(
            tx, HARK_OPTS(hark_event_spec, .type = "order:placed", .subject = o->customer),
            &order_json, o, NULL);
    return err ? err : hark_ctx_json(c, 201, &order_json, o);
}

static hark_err post_order(hark_ctx *c, void *ud)
{
    (void)ud;
    order *o = hark_ctx_alloc(c, sizeof *o); /* place runs when this has returned */
    if (!o)
        return HARK_ENOMEM;
    *o = (order){.id = 0};
    hark_err err = hark_ctx_bind(c, &order_json, o);
    if (err)
        return err; /* the reply lists what is wrong */
    return hark_ctx_transact(c, place, o, HARK_OPTS(hark_tx_opts, .deadline_ms = 1000));
}

/* ---- totals ---- */

static hark_err add_up(hark_tx *tx, void *ud)
{
    const order *o = ud;
    return hark_tx_exec(tx,
                        "INSERT INTO totals VALUES(?, ?) "
                        "ON CONFLICT DO UPDATE SET total = total + excluded.total",
                        HARK_ARGS(hark_text(o->customer), hark_int(o->total)));
}

static hark_verdict on_order(hark_delivery *d, void *ud)
{
    (void)ud;
    order o = {.id = 0};
    if (hark_delivery_bind(d, &order_json, &o))
        return HARK_REJECT;
    if (o.total == 0) {
        hark_delivery_explain(d, "order %" PRId64 " is about nothing", o.id);
        return HARK_REJECT;
    }
    return hark_delivery_transact(d, add_up, &o, NULL, NULL) ? HARK_RETRY : HARK_ACK;
}

static hark_err get_total(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_errinfo why;
    order o = {.total = 0};
    const char *customer = hark_ctx_param(c, "customer");
    hark_err err = hark_query(hark_ctx_bus(c), "SELECT total FROM totals WHERE customer = ?",
                              HARK_ARGS(hark_text(customer)), take_int, &o.total, &why);
    return err ? hark_ctx_fail(c, err, "%s", why.text) : hark_ctx_json(c, 200, &total_json, &o);
}

/* For the curious: what a client sees while the totals lag behind. */
static hark_err pause(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_errinfo why;
    hark_err err = hark_consumer_pause(hark_ctx_bus(c), "totals", &why);
    return err ? hark_ctx_fail(c, err, "%s", why.text) : hark_ctx_no_content(c);
}

static hark_err resume(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_errinfo why;
    hark_err err = hark_consumer_resume(hark_ctx_bus(c), "totals", &why);
    return err ? hark_ctx_fail(c, err, "%s", why.text) : hark_ctx_no_content(c);
}

/* ---- the app ---- */

static hark_app *make_app(hark_bus *bus)
{
    hark_app *app;
    const hark_route_opts *blocking = HARK_OPTS(hark_route_opts, .blocking = 1);
    must(hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &app, &ei));
    hark_app_use(app, hark_idempotency(HARK_OPTS(hark_idempotency_opts, .keep_ms = 3600 * 1000)));
    hark_app_use(app, hark_wait(HARK_OPTS(hark_wait_opts, .max_ms = 10000)));
    hark_post(app, "/orders", post_order, NULL);
    hark_route(app, "GET", "/totals/:customer", get_total, NULL, blocking);
    hark_route(app, "PUT", "/paused", pause, NULL, blocking);
    hark_route(app, "DELETE", "/paused", resume, NULL, blocking);
    return app;
}

int main(int argc, char **argv)
{
    hark_bus *bus;
    setvbuf(stdout, NULL, _IOLBF, 0);
    must(hark_open(argc > 2 ? argv[2] : "sqlite:orders.db", NULL, &bus, &ei));
    must(hark_transact(bus, make_tables, NULL, HARK_OPTS(hark_tx_opts, .deadline_ms = 1000), NULL,
                       &ei));
    must(hark_subscribe(bus, "order:placed", on_order, NULL,
                        HARK_OPTS(hark_sub_opts, .consumer = "totals"), NULL, &ei));
    hark_app *app = make_app(bus);
    must(hark_app_listen(app, argc > 1 ? argv[1] : "127.0.0.1:8080", &ei));
    printf("listening on port %d\n", hark_app_port(app));
    must(hark_app_run(app, &ei)); /* until SIGTERM or SIGINT */
    hark_app_unref(app);
    hark_bus_unref(bus);
}
