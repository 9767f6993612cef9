/* order_versions.h: order:created as it grew, for every program that reads it: versions.c, and
 * version_gate.c, which proves that nothing is left out.
 *   1: total is a double. 2: total is in cents. 3: it has a currency. */
#ifndef ORDER_VERSIONS_H
#define ORDER_VERSIONS_H

#include <hark/hark.h>
#include <stdio.h>

typedef struct order_1 {
    char customer[40];
    double total;
} order_1;
typedef struct order_2 {
    char customer[40];
    int64_t total; /* cents */
} order_2;
typedef struct order_3 {
    char customer[40], currency[4];
    int64_t total; /* cents */
} order_3;

HARK_JSON_TABLE(order_1_json, order_1, HARK_JSON_CHARS(order_1, customer, .required = true),
                HARK_JSON_DOUBLE(order_1, total, .required = true, HARK_JSON_RANGE(0.0, 1e6)));
HARK_JSON_TABLE(order_2_json, order_2, HARK_JSON_CHARS(order_2, customer, .required = true),
                HARK_JSON_INT(order_2, total, .required = true, HARK_JSON_MIN(0)));
HARK_JSON_TABLE(order_3_json, order_3, HARK_JSON_CHARS(order_3, customer, .required = true),
                HARK_JSON_INT(order_3, total, .required = true, HARK_JSON_MIN(0)),
                HARK_JSON_CHARS(order_3, currency, .required = true, .min_len = 3));

static hark_err to_cents(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)ud;
    hark_errinfo ei;
    order_1 old = {.total = 0};
    order_2 new = {.total = 0};
    hark_err err = hark_event_bind(event, &order_1_json, &old, &ei);
    if (err)
        return hark_upcast_fail(out, err, "%s", ei.text);
    snprintf(new.customer, sizeof new.customer, "%s", old.customer);
    new.total = (int64_t)(old.total * 100 + 0.5);
    return hark_upcast_json(out, &order_2_json, &new);
}

static hark_err with_currency(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)ud;
    hark_errinfo ei;
    order_2 old = {.total = 0};
    order_3 new = {.currency = "EUR"}; /* there was no other one then */
    hark_err err = hark_event_bind(event, &order_2_json, &old, &ei);
    if (err)
        return hark_upcast_fail(out, err, "%s", ei.text);
    snprintf(new.customer, sizeof new.customer, "%s", old.customer);
    new.total = old.total;
    return hark_upcast_json(out, &order_3_json, &new);
}

static hark_err order_versions_add(hark_bus *bus, hark_errinfo *ei)
{
    const hark_upcaster *steps[] = {
        HARK_OPTS(hark_upcaster, .type = "order:created", .from = 1, .to = 2, .fn = to_cents),
        HARK_OPTS(hark_upcaster, .type = "order:created", .from = 2, .to = 3, .fn = with_currency),
    };
    hark_err err = HARK_OK;
    for (size_t i = 0; i < sizeof steps / sizeof *steps && !err; i++)
        err = hark_upcaster_add(bus, steps[i], ei);
    if (err)
        return err;
    return hark_type_add(
        bus, HARK_OPTS(hark_type, .type = "order:created", .version = 3, .table = &order_3_json),
        ei);
}

#endif
