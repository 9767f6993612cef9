/* events.h: the shop's events. All of an order have its id as subject, so they keep their order; what
 * they carry is JSON. Where a customer is known, the attribute `userid` says who, so that it need not
 * be looked for in the data.
 *
 *     type                 version  data
 *     user:created         1        id, name, email, created_at
 *     order:created        3        id, user_id, items [product_id, quantity, price], total, currency, status,
 *                                   created_at; money in cents. Version 2 had no currency; version 1 had
 *                                   prices and total as decimal numbers, {"price": 10.99}
 *     inventory:reserved   1        order_id, user_id, total, currency
 *     inventory:rejected   1        order_id, product_id, reason
 *     inventory:released   1        order_id
 *     inventory:restocked  1        sku, quantity, stock
 *     payment:due          1        order_id; scheduled with order:created
 *     payment:failed       1        order_id, reason
 *     payment:refunded     1        order_id, total, currency
 *     order:paid           1        the order as order:created 3, with its status
 *     order:shipped        1        likewise
 *     order:cancelled      1        likewise, with reason
 *     request:completed    1        made by hark_request_events
 */
#ifndef SHOP_EVENTS_H
#define SHOP_EVENTS_H

#include "order.h"

/* What an event says that is not a whole order. */
typedef struct note {
    char order_id[40], user_id[40], product_id[40];
    char reason[200];
    int64_t total;
    char currency[4];
    int64_t quantity, stock;
} note;

/* Registers types, versions and upcasters: before anything is subscribed. */
hark_err events_register(hark_bus *bus, hark_errinfo *ei);
hark_err versions_register(hark_bus *bus, hark_errinfo *ei); /* versions.c: the upcasters */

/* The data of order:created 3, and of the other events that carry a whole order. */
const hark_json_table *order_table(void);

/* Publishes within a transaction, with the order's id as subject (of inventory:restocked: the sku,
 * which a note has as product_id). */
hark_err publish_order(hark_tx *tx, const char *type, const order *o);
hark_err publish_note(hark_tx *tx, const char *type, const note *n);
/* `user:created`, with the user's id as subject. */
struct user;
hark_err publish_user(hark_tx *tx, const struct user *u);
/* `payment:due`, at that time (ns since 1970). */
hark_err schedule_due(hark_tx *tx, const char *order_id, int64_t at);

/* Reads a delivery's event: an order's (newest version), or a note. What cannot be read is explained
 * to the delivery: answer HARK_REJECT. order_clear() the order afterwards. */
bool read_order(hark_delivery *d, order *ret);
bool read_note(hark_delivery *d, note *ret);

/* Which order it is about: its subject. For consumers that need to know no more. */
bool read_order_id(hark_delivery *d, char ret[40]);

#endif
