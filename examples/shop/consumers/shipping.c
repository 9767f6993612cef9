/* shipping.c: ships what is paid. */
#include "../consumers.h"

#include <string.h>

static hark_err ship(hark_tx *tx, void *ud)
{
    return order_ship(tx, ud, NULL);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    char id[40] = "";
    if (s->o.manual_shipping)
        return HARK_ACK;
    if (!read_order_id(d, id))
        return HARK_REJECT;
    hark_err err = hark_delivery_transact(d, ship, id, SHOP_TX, NULL);
    if (err == HARK_ECONFLICT)
        return HARK_ACK; /* shipped by hand, or cancelled meanwhile */
    if (!err)
        story(s, "order %s: shipped, parcel track-%s", id, id + strlen("ord-"));
    return verdict_of(err);
}

const consumer shipping = {.name = "shipping", .pattern = "order:paid", .handle = handle};
