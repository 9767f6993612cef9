/* Rows 7 and 8: the server. POST /orders reads the order from JSON, publishes it durably and then
 * answers 201 with the order; besides that there are 100 plain JSON routes. Prints its port as
 * JSON and serves until SIGTERM.
 */
#include "flight.h"

#include <hark/http.h>
#include <hark/json.h>
#include <hark/middleware.h>
#include <hark/version.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct item {
    char *product_id;
    int quantity;
    double price;
} item;

typedef struct order {
    char *id;
    char *user_id;
    item *items;
    size_t n_items;
    double total;
    char *status;
    char *created_at;
} order;

HARK_JSON_TABLE(item_json, item, HARK_JSON_STR(item, product_id), HARK_JSON_INT(item, quantity),
                HARK_JSON_DOUBLE(item, price));
HARK_JSON_TABLE(order_json, order, HARK_JSON_STR(order, id), HARK_JSON_STR(order, user_id),
                HARK_JSON_ARRAY(order, items, n_items, &item_json), HARK_JSON_DOUBLE(order, total),
                HARK_JSON_STR(order, status), HARK_JSON_STR(order, created_at));

typedef struct thing {
    char id[64];
    int route;
    char name[16];
    bool ok;
} thing;

HARK_JSON_TABLE(thing_json, thing, HARK_JSON_CHARS(thing, id), HARK_JSON_INT(thing, route),
                HARK_JSON_CHARS(thing, name), HARK_JSON_BOOL(thing, ok));

#define ROUTES 100

static atomic_ulong orders;

static char *created_text(hark_ctx *c)
{
    int64_t ns = hark_ctx_started_ns(c);
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    return hark_ctx_printf(c, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", tm.tm_year + 1900,
                           tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                           (long)(ns % 1000000000));
}

static hark_err create_order(hark_ctx *c, void *ud)
{
    (void)ud;
    order o = {0};
    hark_err err = hark_ctx_bind(c, &order_json, &o);
    if (err != HARK_OK)
        return err;
    o.id = hark_ctx_printf(c, "order-%012lu", atomic_fetch_add(&orders, 1));
    o.status = hark_ctx_printf(c, "created");
    o.created_at = created_text(c);
    char *json;
    size_t len;
    err = hark_json_encode(&order_json, &o, &json, &len, NULL);
    if (err != HARK_OK)
        return err;
    err = hark_ctx_publish(c, HARK_OPTS(hark_event_spec, .type = BENCH_TYPE, .subject = o.id,
                                        .datacontenttype = "application/json", .data = json,
                                        .data_len = len, .min_durability = HARK_DISK));
    if (err == HARK_OK)
        err = hark_ctx_bytes(c, 201, "application/json", json, len);
    free(json);
    return err;
}

static hark_err show_thing(hark_ctx *c, void *ud)
{
    thing t = {.route = *(const int *)ud, .name = "thing", .ok = true};
    snprintf(t.id, sizeof(t.id), "%s", hark_ctx_param(c, "id"));
    return hark_ctx_json(c, 200, &thing_json, &t);
}

/* Faults of setting up are kept by the app, and hark_app_listen reports them. */
static void add_routes(hark_app *app)
{
    static int numbers[ROUTES];
    (void)hark_app_use(app, hark_recover(NULL));
    (void)hark_post(app, "/orders", create_order, NULL);
    for (int i = 0; i < ROUTES; i++) {
        char path[64];
        numbers[i] = i;
        snprintf(path, sizeof(path), "/api/v1/things%d/:id", i);
        (void)hark_get(app, path, show_thing, &numbers[i]);
    }
}

int main(int argc, char **argv)
{
    hark_errinfo ei;
    hark_app *app;
    hark_bus *bus = flight_open(bench_text(argc, argv, "store", "sqlite:bench.db"));
    const hark_app_opts *opts =
        HARK_OPTS(hark_app_opts, .bus = bus, .loops = (size_t)bench_number(argc, argv, "loops", 0));
    if (hark_app_new(opts, &app, &ei) != HARK_OK)
        bench_die("app: %s", ei.text);
    add_routes(app);
    if (hark_app_listen(app, bench_text(argc, argv, "listen", "127.0.0.1:0"), &ei) != HARK_OK)
        bench_die("listen: %s", ei.text);

    bench_out_begin("hark " HARK_VERSION);
    bench_out_number("port", hark_app_port(app));
    bench_out_end();
    if (hark_app_run(app, &ei) != HARK_OK)
        bench_die("run: %s", ei.text);
    hark_app_unref(app);
    hark_bus_unref(bus);
    return 0;
}
