/* A program to be killed while it takes orders: POST /orders with a key writes one row and one event with
 * its stored reply. The id of an order is random, so that one that was made twice shows. It says "ready"
 * when it listens.
 *
 *   kill_posts_victim URL ADDRESS:PORT
 */
#include "kit.h"
#include "lines.h"

#include <hark/hark.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

typedef struct order {
    char key[64];
    const char *sku;
} order;

static const hark_tx_opts *patient(void)
{
    static const hark_tx_opts opts = {.size = sizeof opts, .deadline_ms = 10000};
    return &opts;
}

static hark_err place(hark_ctx *c, hark_tx *tx, void *ud)
{
    const order *o = ud;
    uint64_t random = 0;
    KIT_CHECK(getrandom(&random, sizeof random, 0) == sizeof random, "no random numbers");
    char *id = hark_ctx_printf(c, "o%016llx", (unsigned long long)random);
    char *json = id ? hark_ctx_printf(c, "{\"id\":\"%s\",\"sku\":\"%s\"}", id, o->sku) : NULL;
    char *location = id ? hark_ctx_printf(c, "/orders/%s", id) : NULL;
    if (!json || !location)
        return HARK_ENOMEM;
    hark_err err = hark_tx_exec(tx, "INSERT INTO orders(id, key) VALUES(?, ?)",
                                HARK_ARGS(hark_text(id), hark_text(o->key)));
    if (!err)
        err = hark_tx_publish(
            tx, HARK_OPTS(hark_event_spec, .type = "order:created", .subject = id, .json = json),
            NULL);
    if (!err)
        err = hark_ctx_set_header(c, "Location", location);
    return err ? err : hark_ctx_json_text(c, 201, json);
}

static hark_err create_order(hark_ctx *c, void *ud)
{
    size_t len;
    order *o = hark_ctx_alloc(c, sizeof *o);
    const char *key = hark_ctx_header(c, "Idempotency-Key");
    (void)ud;
    if (!o)
        return HARK_ENOMEM;
    (void)snprintf(o->key, sizeof o->key, "%s", key ? key : "");
    o->sku = hark_ctx_body(c, &len);
    return hark_ctx_transact(c, place, o, patient());
}

static hark_err make_table(hark_tx *tx, void *ud)
{
    (void)ud;
    return hark_tx_exec(tx, "CREATE TABLE IF NOT EXISTS orders(id TEXT, key TEXT)", HARK_NO_ARGS);
}

static void must(hark_err err, const char *what, const hark_errinfo *ei)
{
    if (err)
        kit_fail("%s: %s: %s", what, hark_err_name(err), ei->text);
}

int main(int argc, char **argv)
{
    hark_bus *bus = NULL;
    hark_app *app = NULL;
    hark_errinfo ei;
    KIT_CHECK(argc == 3, "usage: kill_posts_victim URL ADDRESS:PORT");
    must(hark_open(argv[1], NULL, &bus, &ei), "hark_open", &ei);
    must(hark_transact(bus, make_table, NULL, patient(), NULL, &ei), "the table", &ei);
    must(hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &app, &ei), "hark_app_new", &ei);
    hark_app_use(app, hark_recover(NULL));
    hark_app_use(app, hark_idempotency(HARK_OPTS(hark_idempotency_opts, .required = 1)));
    hark_post(app, "/orders", create_order, NULL);
    must(hark_app_listen(app, argv[2], &ei), "hark_app_listen", &ei);
    line_say("ready");
    must(hark_app_run(app, &ei), "hark_app_run", &ei);
    hark_app_unref(app);
    hark_bus_unref(bus);
    return 0;
}
