/* order_stock.c: stock and money of an order. Each product's start = stock + reserved + sold, which
 * the table itself checks; an order that holds stock says so in its row, so that it gives it back
 * once. */
#include "events.h"

#include <inttypes.h>
#include <stdio.h>

static hark_err change_status(hark_tx *tx, const char *id, const char *from, const char *to,
                              int64_t holds)
{
    return hark_tx_exec(tx, "UPDATE orders SET status = ?, holds = ? WHERE id = ? AND status = ?",
                        HARK_ARGS(hark_text(to), hark_int(holds), hark_text(id), hark_text(from)));
}

static note note_of(const order *o)
{
    note n = {.total = o->total};
    snprintf(n.order_id, sizeof n.order_id, "%s", o->id);
    snprintf(n.user_id, sizeof n.user_id, "%s", o->user_id);
    snprintf(n.currency, sizeof n.currency, "%s", o->currency);
    return n;
}

/* ---- an item's way from the shelf to the customer --------------------------------------------- */

#define RESERVE "UPDATE products SET stock = stock - ?2, reserved = reserved + ?2 WHERE sku = ?1"
#define RELEASE "UPDATE products SET stock = stock + ?2, reserved = reserved - ?2 WHERE sku = ?1"
#define SELL    "UPDATE products SET reserved = reserved - ?2, sold = sold + ?2 WHERE sku = ?1"

static hark_err move_item(hark_tx *tx, const char *sql, const item *it)
{
    return hark_tx_exec(tx, sql, HARK_ARGS(hark_text(it->product_id), hark_int(it->quantity)));
}

/* The first `n` items of an order. */
static hark_err move_items(hark_tx *tx, const char *sql, const order *o, size_t n)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < n && !err; i++)
        err = move_item(tx, sql, &o->items[i]);
    return err;
}

/* ---- reserving -------------------------------------------------------------------------------- */

static bool take_missing(const hark_row *row, void *ud)
{
    note *n = ud;
    snprintf(n->product_id, sizeof n->product_id, "%s", hark_row_text(row, 0));
    n->quantity = hark_row_int(row, 2);
    n->stock = hark_row_int(row, 3);
    snprintf(n->reason, sizeof n->reason, "%s is sold out: %" PRId64 " wanted, %" PRId64 " left",
             hark_row_text(row, 1), n->quantity, n->stock);
    return false;
}

/* The order stays `created`: whoever hears inventory:rejected cancels it. */
static hark_err reject(hark_tx *tx, const order *o)
{
    note n = note_of(o);
    hark_err err = change_status(tx, o->id, "reserved", "created", 0);
    if (!err)
        err = hark_tx_query(
            tx,
            "SELECT sku, name, CAST(sum(quantity) AS BIGINT), stock FROM order_items JOIN "
            "products ON sku = product_id WHERE order_id = ? GROUP BY sku "
            "HAVING stock < sum(quantity)",
            HARK_ARGS(hark_text(o->id)), take_missing, &n);
    return err ? err : publish_note(tx, "inventory:rejected", &n);
}

/* All items or none: when one is refused, those before it go back. */
static hark_err take_stock(hark_tx *tx, const order *o)
{
    for (size_t i = 0; i < o->n_items; i++) {
        hark_err err = move_item(tx, RESERVE, &o->items[i]);
        if (err) {
            hark_err back = move_items(tx, RELEASE, o, i);
            return back ? back : err;
        }
    }
    return HARK_OK;
}

hark_err order_reserve(hark_tx *tx, const order *o, bool *ret_done)
{
    *ret_done = false;
    hark_err err = change_status(tx, o->id, "created", "reserved", 1);
    if (err || !hark_tx_changes(tx))
        return err;
    err = take_stock(tx, o);
    if (err == HARK_ECONSTRAINT) /* stock would be negative */
        return reject(tx, o);
    note n = note_of(o);
    if (!err)
        err = publish_note(tx, "inventory:reserved", &n);
    *ret_done = !err;
    return err;
}

/* ---- afterwards ------------------------------------------------------------------------------- */

hark_err order_sell(hark_tx *tx, const order *o)
{
    return move_items(tx, SELL, o, o->n_items);
}

hark_err order_release(hark_tx *tx, const order *o, bool *ret_done)
{
    *ret_done = false;
    hark_err err = hark_tx_exec(
        tx, "UPDATE orders SET holds = 0 WHERE id = ? AND status = 'cancelled' AND holds = 1",
        HARK_ARGS(hark_text(o->id)));
    if (err || !hark_tx_changes(tx))
        return err;
    err = move_items(tx, RELEASE, o, o->n_items);
    note n = note_of(o);
    *ret_done = !err;
    return err ? err : publish_note(tx, "inventory:released", &n);
}

static bool take_number(const hark_row *row, void *ud)
{
    *(int64_t *)ud = hark_row_int(row, 0);
    return true;
}

hark_err order_refund(hark_tx *tx, const order *o, int64_t *ret_cents)
{
    note n = note_of(o);
    *ret_cents = 0;
    hark_err err = hark_tx_query(
        tx,
        "UPDATE payments SET refunded_at = ? WHERE order_id = ? AND refunded_at IS NULL "
        "RETURNING amount",
        HARK_ARGS(hark_int(shop_now()), hark_text(o->id)), take_number, ret_cents);
    n.total = *ret_cents;
    return err || !n.total ? err : publish_note(tx, "payment:refunded", &n);
}

hark_err product_restock(hark_tx *tx, const char *sku, int64_t quantity)
{
    note n = {.quantity = quantity, .stock = -1};
    snprintf(n.product_id, sizeof n.product_id, "%s", sku);
    hark_err err =
        hark_tx_query(tx,
                      "UPDATE products SET start = start + ?1, stock = stock + ?1 "
                      "WHERE sku = ?2 RETURNING stock",
                      HARK_ARGS(hark_int(quantity), hark_text(sku)), take_number, &n.stock);
    if (!err && n.stock < 0)
        return hark_tx_fail(tx, HARK_ENOTFOUND, "there is no product %s", sku);
    return err ? err : publish_note(tx, "inventory:restocked", &n);
}
