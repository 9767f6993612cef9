/* events.c: the tables of what events carry, and how they are published and read. versions.c brings
 * old ones up to date. Types are registered: what does not fit its table is not published. */
#include "events.h"
#include "user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

HARK_JSON_TABLE(item_data, item, HARK_JSON_CHARS(item, product_id, .required = true, .min_len = 1),
                HARK_JSON_INT(item, quantity, .required = true, HARK_JSON_MIN(1)),
                HARK_JSON_INT(item, price, .required = true, HARK_JSON_MIN(0)));
HARK_JSON_TABLE(order_data, order, HARK_JSON_CHARS(order, id, .required = true, .min_len = 1),
                HARK_JSON_CHARS(order, user_id, .required = true, .min_len = 1),
                HARK_JSON_ARRAY(order, items, n_items, &item_data, .required = true, .min_len = 1),
                HARK_JSON_INT(order, total, .required = true, HARK_JSON_MIN(0)),
                HARK_JSON_CHARS(order, currency, .required = true, .min_len = 3),
                HARK_JSON_CHARS(order, status, .required = true, .min_len = 1),
                HARK_JSON_CHARS(order, reason, .min_len = 1),
                HARK_JSON_TIME(order, created_at, .required = true));

#define ORDER_ID HARK_JSON_CHARS(note, order_id, .required = true, .min_len = 1)
#define REASON   HARK_JSON_CHARS(note, reason, .required = true, .min_len = 1)
#define MONEY                                                                                      \
    HARK_JSON_INT(note, total, .required = true, HARK_JSON_MIN(0)),                                \
        HARK_JSON_CHARS(note, currency, .required = true, .min_len = 3)
HARK_JSON_TABLE(id_data, note, ORDER_ID);
HARK_JSON_TABLE(reserved_data, note, ORDER_ID,
                HARK_JSON_CHARS(note, user_id, .required = true, .min_len = 1), MONEY);
HARK_JSON_TABLE(rejected_data, note, ORDER_ID, HARK_JSON_CHARS(note, product_id, .min_len = 1),
                REASON);
HARK_JSON_TABLE(failed_data, note, ORDER_ID, REASON);
HARK_JSON_TABLE(refunded_data, note, ORDER_ID, MONEY);
HARK_JSON_TABLE(restocked_data, note,
                HARK_JSON_CHARS(note, product_id, .as = "sku", .required = true, .min_len = 1),
                HARK_JSON_INT(note, quantity, .required = true, HARK_JSON_MIN(1)),
                HARK_JSON_INT(note, stock, .required = true, HARK_JSON_MIN(0)));
HARK_JSON_TABLE(user_data, user, HARK_JSON_CHARS(user, id, .required = true, .min_len = 1),
                HARK_JSON_CHARS(user, name, .required = true, .min_len = 1),
                HARK_JSON_CHARS(user, email, .required = true, .min_len = 3),
                HARK_JSON_TIME(user, created_at, .required = true));

static const hark_type types[] = {
    {.type = "user:created", .version = 1, .table = &user_data},
    {.type = "order:created", .version = 3, .table = &order_data},
    {.type = "order:paid", .version = 1, .table = &order_data},
    {.type = "order:shipped", .version = 1, .table = &order_data},
    {.type = "order:cancelled", .version = 1, .table = &order_data},
    {.type = "inventory:reserved", .version = 1, .table = &reserved_data},
    {.type = "inventory:rejected", .version = 1, .table = &rejected_data},
    {.type = "inventory:released", .version = 1, .table = &id_data},
    {.type = "inventory:restocked", .version = 1, .table = &restocked_data},
    {.type = "payment:due", .version = 1, .table = &id_data},
    {.type = "payment:failed", .version = 1, .table = &failed_data},
    {.type = "payment:refunded", .version = 1, .table = &refunded_data},
};
enum { TYPES = sizeof types / sizeof *types };

hark_err events_register(hark_bus *bus, hark_errinfo *ei)
{
    hark_err err = versions_register(bus, ei);
    for (size_t i = 0; i < TYPES && !err; i++) {
        hark_type type = types[i];
        type.size = sizeof type;
        err = hark_type_add(bus, &type, ei);
    }
    /* What an older shop has left and this one cannot read, it does not start on. */
    return err ? err : hark_versions_check(bus, NULL, NULL, ei);
}

const hark_json_table *order_table(void)
{
    return &order_data;
}

static const hark_type *type_named(const char *name)
{
    for (size_t i = 0; i < TYPES; i++)
        if (strcmp(types[i].type, name) == 0)
            return &types[i];
    return NULL;
}

static bool is_note(const hark_type *type)
{
    return type && type->table != &order_data && type->table != &user_data;
}

/* ---- publishing ---- */

hark_err publish_order(hark_tx *tx, const char *type, const order *o)
{
    const hark_type *known = type_named(type);
    if (!known || known->table != &order_data)
        return hark_tx_fail(tx, HARK_EINVAL, "%s is no event that carries an order", type);
    const hark_ext who = {.name = "userid", .value = o->user_id};
    return hark_tx_publish_json(tx,
                                HARK_OPTS(hark_event_spec, .type = type, .subject = o->id,
                                          .dataversion = known->version, .extensions = &who,
                                          .n_extensions = 1),
                                known->table, o, NULL);
}

hark_err publish_note(hark_tx *tx, const char *type, const note *n)
{
    const hark_type *known = type_named(type);
    if (!is_note(known))
        return hark_tx_fail(tx, HARK_EINVAL, "%s is no event that carries a note", type);
    const char *subject = n->order_id[0] ? n->order_id : n->product_id;
    const hark_ext who = {.name = "userid", .value = n->user_id};
    return hark_tx_publish_json(tx,
                                HARK_OPTS(hark_event_spec, .type = type, .subject = subject,
                                          .extensions = &who, .n_extensions = n->user_id[0] != 0),
                                known->table, n, NULL);
}

hark_err publish_user(hark_tx *tx, const user *u)
{
    const hark_ext who = {.name = "userid", .value = u->id};
    return hark_tx_publish_json(tx,
                                HARK_OPTS(hark_event_spec, .type = "user:created", .subject = u->id,
                                          .extensions = &who, .n_extensions = 1),
                                &user_data, u, NULL);
}

hark_err schedule_due(hark_tx *tx, const char *order_id, int64_t at)
{
    char id[64], json[80];
    snprintf(id, sizeof id, "due-%s", order_id); /* one deadline, however often it is asked for */
    snprintf(json, sizeof json, "{\"order_id\":\"%s\"}", order_id);
    const hark_event_spec *due =
        HARK_OPTS(hark_event_spec, .type = "payment:due", .id = id, .subject = order_id,
                  .datacontenttype = "application/json", .json = json);
    hark_err err = hark_tx_schedule(tx, due, hark_at(at), NULL);
    return err == HARK_EEXIST ? HARK_OK : err;
}

/* ---- reading ---- */

bool read_order(hark_delivery *d, order *ret)
{
    *ret = (order){.items = NULL};
    return hark_delivery_bind(d, &order_data, ret) == HARK_OK;
}

bool read_note(hark_delivery *d, note *ret)
{
    const char *name = hark_event_type(hark_delivery_event(d));
    const hark_type *type = type_named(name);
    *ret = (note){.total = 0};
    if (!is_note(type)) {
        hark_delivery_explain(d, "%s is no event that carries a note", name);
        return false;
    }
    return hark_delivery_bind(d, type->table, ret) == HARK_OK;
}

bool read_order_id(hark_delivery *d, char ret[40])
{
    const char *subject = hark_event_subject(hark_delivery_event(d));
    if (!subject || strlen(subject) >= 40) {
        hark_delivery_explain(d, "its subject is %s, expected an order's id",
                              subject ? "too long" : "missing");
        return false;
    }
    snprintf(ret, 40, "%s", subject);
    return true;
}
