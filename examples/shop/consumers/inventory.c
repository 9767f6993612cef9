/* inventory.c: reserves stock for a new order, gives it back when the order is cancelled. */
#include "../consumers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* "2 x prod1, 1 x prod3", cut short when it is long. */
static const char *items_text(const order *o, char buf[120])
{
    size_t len = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < o->n_items && len < 100; i++)
        len += (size_t)snprintf(buf + len, 120 - len, "%s%" PRId64 " x %s", i ? ", " : "",
                                o->items[i].quantity, o->items[i].product_id);
    if (len >= 100)
        memcpy(buf + 100, "...", 4);
    return buf;
}

static void tell(const shop *s, const order *o)
{
    char items[120], money[MONEY_TEXT];
    story(s, "order %s: placed by %s, %s, %s", o->id, o->user_id, items_text(o, items),
          money_text(o->total, o->currency, money));
}

typedef struct reserving {
    const order *o;
    bool done;
} reserving;

static hark_err reserve(hark_tx *tx, void *ud)
{
    reserving *r = ud;
    return order_reserve(tx, r->o, &r->done);
}

static hark_err release(hark_tx *tx, void *ud)
{
    return order_release(tx, ud);
}

static hark_verdict created(shop *s, hark_delivery *d, const order *o)
{
    reserving r = {.o = o};
    hark_err err = hark_delivery_transact(d, reserve, &r, SHOP_TX, NULL);
    if (!err)
        tell(s, o); /* not before: it is told once, however many attempts it took */
    if (!err && r.done)
        story(s, "order %s: stock reserved", o->id);
    return verdict_of(err);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    order o;
    if (!read_order(d, &o))
        return HARK_REJECT;
    hark_verdict verdict = is_type(d, "order:created")
                               ? created(s, d, &o)
                               : verdict_of(hark_delivery_transact(d, release, &o, SHOP_TX, NULL));
    order_clear(&o);
    return verdict;
}

const consumer inventory = {
    .name = "inventory", .pattern = "order:created|order:cancelled", .handle = handle};
