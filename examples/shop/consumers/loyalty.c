/* loyalty.c: a point for each whole EUR that is paid, and at least one. */
#include "../consumers.h"

static hark_err credit(hark_tx *tx, void *ud)
{
    const order *o = ud;
    int64_t points = o->total >= 200 ? o->total / 100 : 1;
    return hark_tx_exec(
        tx, "INSERT INTO points(order_id, user_id, points) VALUES(?, ?, ?) ON CONFLICT DO NOTHING",
        HARK_ARGS(hark_text(o->id), hark_text(o->user_id), hark_int(points)));
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    (void)s;
    order o;
    if (!read_order(d, &o))
        return HARK_REJECT;
    hark_err err = hark_delivery_transact(d, credit, &o, SHOP_TX, NULL);
    order_clear(&o);
    return verdict_of(err);
}

const consumer loyalty = {.name = "loyalty", .pattern = "order:paid", .handle = handle};
