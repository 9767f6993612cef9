/* order.h: an order and what may happen to it. The rules are here, in one place: HTTP routes and
 * consumers call the same functions. Each runs within a transaction, moves the row from one state to
 * the next and publishes the event that says so, or changes nothing and says why.
 *
 *     created --reserve--> reserved --pay--> paid --ship--> shipped
 *        |  \--reject--> cancelled   |         |
 *        +------------- cancel ------+---------+--> cancelled (stock released, payment refunded)
 *
 * Money is in cents. Stock: each product's start = stock + reserved + sold, always.
 */
#ifndef SHOP_ORDER_H
#define SHOP_ORDER_H

#include "shop.h"

typedef struct item {
    char product_id[40];
    int64_t quantity;
    int64_t price; /* cents, of one; 0 in a request = the shop's */
} item;

typedef struct order {
    char id[40]; /* "ord-…" */
    char user_id[40];
    item *items; /* malloc'ed; order_clear */
    size_t n_items;
    int64_t total;      /* cents */
    char currency[4];   /* "EUR" */
    char status[12];    /* created, reserved, paid, shipped, cancelled */
    char reason[200];   /* of a cancellation; else empty */
    int64_t created_at; /* ns since 1970 */
} order;

void order_clear(order *o);
void order_new_id(char id[40]); /* "ord-", the time and 11 random letters and digits */

/* For lists: a query that begins with ORDER_SELECT gives a row for each item of an order o, which
 * order_add_row puts into it; false when memory is out. */
#define ORDER_SELECT                                                                               \
    "SELECT o.id, o.user_id, o.total, o.currency, o.status, o.reason, o.created_at, "              \
    "i.product_id, i.quantity, i.price "
bool order_add_row(order *o, const hark_row *row);

/* Loads one with its items; HARK_ENOTFOUND with a text. order_find reads beside the writer. */
hark_err order_load(hark_tx *tx, const char *id, order *ret);
hark_err order_find(hark_bus *bus, const char *id, order *ret, hark_errinfo *ei);

/* Places a new one, with the id that it has: looks up products and prices (a price or total that is
 * given must be ours), inserts it, publishes order:created, and schedules payment:due for due_ms after
 * it: no consumer that lags can put the deadline off. Fills in prices, total, currency, status,
 * created_at; so each run of a closure begins with what was asked for. HARK_ENOTFOUND: an unknown
 * user or product; HARK_ECONFLICT: another price. After these two ret_field is the JSON path of what
 * is wrong ("$.items[0].product_id"), and the text of the error reads on after it. After any error
 * the transaction must fail. */
hark_err order_place(hark_tx *tx, order *o, int64_t due_ms, char ret_field[40]);

/* Takes the order's stock, all of it or none. OK with *ret_done true: reserved, inventory:reserved
 * is published; false: inventory:rejected is (sold out), or nothing was to do (it is not `created`
 * any more: told in *ret_done false and no event). */
hark_err order_reserve(hark_tx *tx, const order *o, bool *ret_done);

/* A row if the order (its first argument) waits for its payment still. */
#define ORDER_UNPAID "SELECT 1 FROM orders WHERE id = ?1 AND status IN ('created', 'reserved')"

/* Paid with a provider's reference: reserved -> paid, order:paid. HARK_ECONFLICT with a text in every
 * other state ("is paid already"), HARK_ENOTFOUND. *ret (may be NULL) is the order afterwards, after
 * HARK_ECONFLICT too; order_clear it. */
hark_err order_pay(hark_tx *tx, const char *id, const char *reference, order *ret);

/* Shipped: paid -> shipped, reserved stock becomes sold, order:shipped. Errors as order_pay.
 * order_sell is the stock's part of it. */
hark_err order_ship(hark_tx *tx, const char *id, order *ret);
hark_err order_sell(hark_tx *tx, const order *o);

/* Cancelled from created, reserved or paid: its stock is released by the inventory consumer, its
 * payment refunded by the payment consumer, both on order:cancelled. Errors as order_pay. */
hark_err order_cancel(hark_tx *tx, const char *id, const char *reason, order *ret);

/* On order:cancelled: gives back what was reserved, once. If there was something, *ret_done is true and
 * inventory:released is published. */
hark_err order_release(hark_tx *tx, const order *o, bool *ret_done);

/* On order:cancelled: notes that what was paid is refunded, once. If there was something, *ret_cents
 * is how much and payment:refunded is published; else it is 0. */
hark_err order_refund(hark_tx *tx, const order *o, int64_t *ret_cents);

/* Puts so many more of a product on the shelf: inventory:restocked. HARK_ENOTFOUND. */
hark_err product_restock(hark_tx *tx, const char *sku, int64_t quantity);

#endif
