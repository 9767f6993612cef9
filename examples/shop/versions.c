/* versions.c: order:created as it grew. Version 1 had its money as decimal numbers, read as doubles;
 * 2 has cents; 3 has a currency. A stored event stays what it is; whoever reads it gets version 3. */
#include "events.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- version 1 ---- */

typedef struct item_1 {
    char product_id[40];
    int64_t quantity;
    double price;
} item_1;
typedef struct order_1 {
    char id[40], user_id[40], status[12];
    item_1 *items;
    size_t n_items;
    double total;
    int64_t created_at;
} order_1;

/* Up to a million million, doubles are dense enough to tell all cents apart. */
#define MONEY_1 .required = true, HARK_JSON_RANGE(0.0, 1e12)

HARK_JSON_TABLE(item_1_json, item_1,
                HARK_JSON_CHARS(item_1, product_id, .required = true, .min_len = 1),
                HARK_JSON_INT(item_1, quantity, .required = true, HARK_JSON_MIN(1)),
                HARK_JSON_DOUBLE(item_1, price, MONEY_1));
HARK_JSON_TABLE(order_1_json, order_1, HARK_JSON_CHARS(order_1, id, .required = true, .min_len = 1),
                HARK_JSON_CHARS(order_1, user_id, .required = true, .min_len = 1),
                HARK_JSON_ARRAY(order_1, items, n_items, &item_1_json, .required = true,
                                .min_len = 1),
                HARK_JSON_DOUBLE(order_1, total, MONEY_1), HARK_JSON_CHARS(order_1, status),
                HARK_JSON_TIME(order_1, created_at));

/* ---- version 2: as 3, without a currency ---- */

HARK_JSON_TABLE(item_2_json, item,
                HARK_JSON_CHARS(item, product_id, .required = true, .min_len = 1),
                HARK_JSON_INT(item, quantity, .required = true, HARK_JSON_MIN(1)),
                HARK_JSON_INT(item, price, .required = true, HARK_JSON_MIN(0)));
HARK_JSON_TABLE(order_2_json, order, HARK_JSON_CHARS(order, id, .required = true, .min_len = 1),
                HARK_JSON_CHARS(order, user_id, .required = true, .min_len = 1),
                HARK_JSON_ARRAY(order, items, n_items, &item_2_json, .required = true,
                                .min_len = 1),
                HARK_JSON_INT(order, total, .required = true, HARK_JSON_MIN(0)),
                HARK_JSON_CHARS(order, status), HARK_JSON_TIME(order, created_at));

/* ---- the steps ---- */

/* The nearest cent: of a number that was meant to have two places, exactly that number. */
static int64_t cents(double money)
{
    return (int64_t)(money * 100 + 0.5);
}

/* Version 1 and 2 may leave status and time out; every new order is "created". */
static void fill_in(const hark_event *event, order *o)
{
    if (!o->status[0])
        snprintf(o->status, sizeof o->status, "created");
    if (!o->created_at)
        o->created_at = hark_event_time_ns(event);
}

static bool to_order_2(const order_1 *old, order *ret)
{
    *ret = (order){.total = cents(old->total), .created_at = old->created_at};
    snprintf(ret->id, sizeof ret->id, "%s", old->id);
    snprintf(ret->user_id, sizeof ret->user_id, "%s", old->user_id);
    snprintf(ret->status, sizeof ret->status, "%s", old->status);
    ret->items = calloc(old->n_items, sizeof *ret->items);
    ret->n_items = ret->items ? old->n_items : 0;
    for (size_t i = 0; i < ret->n_items; i++) {
        snprintf(ret->items[i].product_id, sizeof ret->items[i].product_id, "%s",
                 old->items[i].product_id);
        ret->items[i].quantity = old->items[i].quantity;
        ret->items[i].price = cents(old->items[i].price);
    }
    return ret->items != NULL;
}

static hark_err to_cents(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)ud;
    hark_errinfo ei;
    order_1 old = {.items = NULL};
    order o;
    hark_err err = hark_event_bind(event, &order_1_json, &old, &ei);
    if (err)
        return hark_upcast_fail(out, err, "%s", ei.text);
    err = to_order_2(&old, &o) ? HARK_OK : HARK_ENOMEM;
    hark_json_free(&order_1_json, &old);
    if (err)
        return err;
    fill_in(event, &o);
    err = hark_upcast_json(out, &order_2_json, &o);
    hark_json_free(&order_2_json, &o);
    return err;
}

static hark_err with_currency(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)ud;
    hark_errinfo ei;
    order o = {.currency = "EUR"}; /* there was no other one then */
    hark_err err = hark_event_bind(event, &order_2_json, &o, &ei);
    if (err)
        return hark_upcast_fail(out, err, "%s", ei.text);
    fill_in(event, &o);
    err = hark_upcast_json(out, order_table(), &o);
    hark_json_free(&order_2_json, &o);
    return err;
}

hark_err versions_register(hark_bus *bus, hark_errinfo *ei)
{
    const char *type = "order:created";
    hark_err err = hark_upcaster_add(
        bus, HARK_OPTS(hark_upcaster, .type = type, .from = 1, .to = 2, .fn = to_cents), ei);
    return err ? err
               : hark_upcaster_add(bus,
                                   HARK_OPTS(hark_upcaster, .type = type, .from = 2, .to = 3,
                                             .fn = with_currency),
                                   ei);
}
