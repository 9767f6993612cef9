/* http/orders.h: what the files that serve /orders share. */
#ifndef SHOP_HTTP_ORDERS_H
#define SHOP_HTTP_ORDERS_H

#include "../events.h"

/* An order in a reply: money as decimal numbers. */
HARK_JSON_TABLE(item_json, item, HARK_JSON_CHARS(item, product_id), HARK_JSON_INT(item, quantity),
                HARK_JSON_DECIMAL(item, price, 2));
HARK_JSON_TABLE(order_json, order, HARK_JSON_CHARS(order, id), HARK_JSON_CHARS(order, user_id),
                HARK_JSON_ARRAY(order, items, n_items, &item_json),
                HARK_JSON_DECIMAL(order, total, 2), HARK_JSON_CHARS(order, currency),
                HARK_JSON_CHARS(order, status), HARK_JSON_CHARS(order, reason, .min_len = 1),
                HARK_JSON_TIME(order, created_at));

void shop_order_lists(shop *s); /* order_lists.c: GET /orders, /orders/:id */
void shop_order_feed(shop *s);  /* order_feed.c: GET /orders/stream */

#endif
