/* order.c: an order's row: loading it, placing it, and its way from one state to the next. What
 * happens to stock and to money on that way is in order_stock.c. */
#include "events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FROM_ORDERS "FROM orders o JOIN order_items i ON i.order_id = o.id "

void order_clear(order *o)
{
    free(o->items);
    *o = (order){.items = NULL};
}

void order_new_id(char id[40])
{
    shop_new_id(id, "ord-");
}

/* ---- loading ---------------------------------------------------------------------------------- */

static void copy(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "");
}

static void take_head(order *o, const hark_row *row)
{
    copy(o->id, sizeof o->id, hark_row_text(row, 0));
    copy(o->user_id, sizeof o->user_id, hark_row_text(row, 1));
    o->total = hark_row_int(row, 2);
    copy(o->currency, sizeof o->currency, hark_row_text(row, 3));
    copy(o->status, sizeof o->status, hark_row_text(row, 4));
    copy(o->reason, sizeof o->reason, hark_row_text(row, 5));
    o->created_at = hark_row_int(row, 6);
}

bool order_add_row(order *o, const hark_row *row)
{
    enum { STEP = 4 };
    if (o->n_items % STEP == 0) {
        item *more = realloc(o->items, (o->n_items + STEP) * sizeof *more);
        if (!more)
            return false;
        o->items = more;
    }
    if (o->n_items == 0)
        take_head(o, row);
    item *it = &o->items[o->n_items++];
    copy(it->product_id, sizeof it->product_id, hark_row_text(row, 7));
    it->quantity = hark_row_int(row, 8);
    it->price = hark_row_int(row, 9);
    return true;
}

typedef struct loading {
    order *o;
    bool no_memory;
} loading;

static bool take_row(const hark_row *row, void *ud)
{
    loading *l = ud;
    l->no_memory = !order_add_row(l->o, row);
    return !l->no_memory;
}

#define LOAD ORDER_SELECT FROM_ORDERS "WHERE o.id = ? ORDER BY i.line"

hark_err order_load(hark_tx *tx, const char *id, order *ret)
{
    *ret = (order){.items = NULL};
    loading l = {.o = ret};
    hark_err err = hark_tx_query(tx, LOAD, HARK_ARGS(hark_text(id)), take_row, &l);
    if (!err && l.no_memory)
        err = HARK_ENOMEM;
    if (!err && ret->n_items == 0)
        err = hark_tx_fail(tx, HARK_ENOTFOUND, "there is no order %s", id);
    if (err)
        order_clear(ret);
    return err;
}

hark_err order_find(hark_bus *bus, const char *id, order *ret, hark_errinfo *ei)
{
    *ret = (order){.items = NULL};
    loading l = {.o = ret};
    hark_err err = hark_query(bus, LOAD, HARK_ARGS(hark_text(id)), take_row, &l, ei);
    if (!err && l.no_memory)
        err = hark_errinfo_set(ei, HARK_ENOMEM, "no memory for order %s", id);
    if (!err && ret->n_items == 0)
        err = hark_errinfo_set(ei, HARK_ENOTFOUND, "there is no order %s", id);
    if (err)
        order_clear(ret);
    return err;
}

/* ---- placing ---------------------------------------------------------------------------------- */

static bool take_number(const hark_row *row, void *ud)
{
    *(int64_t *)ud = hark_row_int(row, 0);
    return false;
}

#define PLACE_ITEM                                                                                 \
    "INSERT INTO order_items SELECT CAST(? AS TEXT), CAST(? AS BIGINT), sku, CAST(? AS BIGINT), "  \
    "price FROM products WHERE sku = ? RETURNING price"

/* Inserts line `i` at the shop's price; no row of it: no such product. */
static hark_err place_item(hark_tx *tx, order *o, size_t i, char field[40])
{
    item *it = &o->items[i];
    int64_t price = 0;
    hark_err err = hark_tx_query(tx, PLACE_ITEM,
                                 HARK_ARGS(hark_text(o->id), hark_int((int64_t)i),
                                           hark_int(it->quantity), hark_text(it->product_id)),
                                 take_number, &price);
    if (err)
        return err;
    snprintf(field, 40, "$.items[%u].%s", (unsigned)i, price ? "price" : "product_id");
    if (!price)
        return hark_tx_fail(tx, HARK_ENOTFOUND, "is \"%s\", which is none of our products",
                            it->product_id);
    if (it->price && it->price != price)
        return hark_tx_fail(tx, HARK_ECONFLICT,
                            "is %" PRId64 ".%02d, but %s costs %" PRId64 ".%02d", it->price / 100,
                            (int)(it->price % 100), it->product_id, price / 100,
                            (int)(price % 100));
    it->price = price;
    return HARK_OK;
}

static hark_err add_up(hark_tx *tx, order *o, char field[40])
{
    int64_t total = 0, line;
    for (size_t i = 0; i < o->n_items; i++)
        if (__builtin_mul_overflow(o->items[i].price, o->items[i].quantity, &line) ||
            __builtin_add_overflow(total, line, &total)) {
            snprintf(field, 40, "$.items[%u].quantity", (unsigned)i);
            return hark_tx_fail(tx, HARK_ECONFLICT, "makes the total too large to count");
        }
    snprintf(field, 40, "$.total");
    if (o->total && o->total != total)
        return hark_tx_fail(tx, HARK_ECONFLICT,
                            "is %" PRId64 ".%02d, but the items cost %" PRId64 ".%02d",
                            o->total / 100, (int)(o->total % 100), total / 100, (int)(total % 100));
    o->total = total;
    return HARK_OK;
}

#define PLACE_HEAD                                                                                 \
    "INSERT INTO orders SELECT CAST(? AS TEXT), id, CAST(? AS BIGINT), CAST(? AS TEXT), "          \
    "CAST(? AS TEXT), NULL, CAST(? AS BIGINT), 0 FROM users WHERE id = ?"

static hark_err place_head(hark_tx *tx, const order *o, char field[40])
{
    hark_err err = hark_tx_exec(tx, PLACE_HEAD,
                                HARK_ARGS(hark_text(o->id), hark_int(o->total),
                                          hark_text(o->currency), hark_text(o->status),
                                          hark_int(o->created_at), hark_text(o->user_id)));
    snprintf(field, 40, "$.user_id");
    if (!err && !hark_tx_changes(tx))
        return hark_tx_fail(tx, HARK_ENOTFOUND, "is \"%s\", who is none of our customers",
                            o->user_id);
    return err;
}

hark_err order_place(hark_tx *tx, order *o, int64_t due_ms, char ret_field[40])
{
    hark_err err = HARK_OK;
    copy(o->currency, sizeof o->currency, "EUR");
    copy(o->status, sizeof o->status, "created");
    o->created_at = shop_now();
    for (size_t i = 0; i < o->n_items && !err; i++)
        err = place_item(tx, o, i, ret_field);
    if (!err)
        err = add_up(tx, o, ret_field);
    if (!err)
        err = place_head(tx, o, ret_field);
    if (!err)
        err = publish_order(tx, "order:created", o);
    return err ? err : schedule_due(tx, o->id, o->created_at + due_ms * 1000000);
}

/* ---- from one state to the next --------------------------------------------------------------- */

static hark_err refuse(hark_tx *tx, const order *o, const char *wanted)
{
    const char *s = o->status;
    if (strcmp(s, wanted) == 0)
        return hark_tx_fail(tx, HARK_ECONFLICT, "order %s is %s already", o->id, s);
    if (strcmp(s, "cancelled") == 0)
        return hark_tx_fail(tx, HARK_ECONFLICT, "order %s is cancelled: %s", o->id, o->reason);
    if (strcmp(s, "created") == 0 && strcmp(wanted, "paid") == 0)
        return hark_tx_fail(tx, HARK_ECONFLICT,
                            "order %s is created: its stock is being reserved, try again in a "
                            "moment",
                            o->id);
    if (strcmp(wanted, "shipped") == 0)
        return hark_tx_fail(tx, HARK_ECONFLICT, "order %s is %s: it must be paid first", o->id, s);
    return hark_tx_fail(tx, HARK_ECONFLICT, "order %s is %s: it can't be %s any more", o->id, s,
                        wanted);
}

/* Runs an UPDATE that changes the order if it is in the right state, and loads what it is then. */
static hark_err move(hark_tx *tx, const char *sql, const hark_value *args, size_t n, const char *id,
                     const char *wanted, order *ret)
{
    *ret = (order){.items = NULL};
    hark_err err = hark_tx_exec(tx, sql, args, n);
    if (err)
        return err;
    bool moved = hark_tx_changes(tx) > 0;
    err = order_load(tx, id, ret);
    return err || moved ? err : refuse(tx, ret, wanted);
}

/* Gives the order to the caller, who may not want it, or have use for it after this error. */
static hark_err give(hark_err err, order *o, order *ret)
{
    if (ret && (!err || err == HARK_ECONFLICT))
        *ret = *o;
    else
        order_clear(o);
    return err;
}

hark_err order_pay(hark_tx *tx, const char *id, const char *reference, order *ret)
{
    order o;
    hark_err err =
        move(tx, "UPDATE orders SET status = 'paid' WHERE id = ? AND status = 'reserved'",
             HARK_ARGS(hark_text(id)), id, "paid", &o);
    if (!err)
        err = hark_tx_exec(
            tx, "INSERT INTO payments(order_id, amount, reference, paid_at) VALUES(?, ?, ?, ?)",
            HARK_ARGS(hark_text(id), hark_int(o.total), hark_text(reference),
                      hark_int(shop_now())));
    if (!err)
        err = publish_order(tx, "order:paid", &o);
    return give(err, &o, ret);
}

hark_err order_ship(hark_tx *tx, const char *id, order *ret)
{
    order o;
    hark_err err =
        move(tx, "UPDATE orders SET status = 'shipped', holds = 0 WHERE id = ? AND status = 'paid'",
             HARK_ARGS(hark_text(id)), id, "shipped", &o);
    if (!err)
        err = order_sell(tx, &o);
    if (!err)
        err = hark_tx_exec(tx, "INSERT INTO shipments VALUES(?1, 'track-' || substr(?1, 5), ?2)",
                           HARK_ARGS(hark_text(id), hark_int(shop_now())));
    if (!err)
        err = publish_order(tx, "order:shipped", &o);
    return give(err, &o, ret);
}

hark_err order_cancel(hark_tx *tx, const char *id, const char *reason, order *ret)
{
    order o;
    hark_err err = move(tx,
                        "UPDATE orders SET status = 'cancelled', reason = ? "
                        "WHERE id = ? AND status IN ('created', 'reserved', 'paid')",
                        HARK_ARGS(hark_text(reason), hark_text(id)), id, "cancelled", &o);
    if (!err)
        err = publish_order(tx, "order:cancelled", &o);
    return give(err, &o, ret);
}
