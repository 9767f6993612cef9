/* checkout.c: the process manager. It sees to it that every order comes to an end: no stock, no
 * payment, or none in time, and the order is cancelled; inventory and payment then undo their part. */
#include "../consumers.h"

#include <stdio.h>
#include <string.h>

typedef struct ending {
    const char *order_id, *reason;
    bool cancelled;
} ending;

static bool take_open(const hark_row *row, void *ud)
{
    const char *status = hark_row_text(row, 0);
    *(bool *)ud = strcmp(status, "created") == 0 || strcmp(status, "reserved") == 0;
    return true;
}

#define STATUS "SELECT status FROM orders WHERE id = ?"

/* Unless it was paid, or cancelled, in the meantime. */
static hark_err cancel_unpaid(hark_tx *tx, void *ud)
{
    ending *e = ud;
    bool open = false;
    hark_err err = hark_tx_query(tx, STATUS, HARK_ARGS(hark_text(e->order_id)), take_open, &open);
    e->cancelled = open;
    return err || !open ? err : order_cancel(tx, e->order_id, e->reason, NULL);
}

static hark_verdict cancel(shop *s, hark_delivery *d, const note *n, const char *reason)
{
    ending e = {.order_id = n->order_id, .reason = reason};
    hark_err err = hark_delivery_transact(d, cancel_unpaid, &e, SHOP_TX, NULL);
    if (!err && e.cancelled)
        story(s, "order %s: cancelled: %s", n->order_id, reason);
    return verdict_of(err);
}

/* Nearly every order is paid by then: that needs no transaction. */
static hark_verdict due(shop *s, hark_delivery *d, const note *n)
{
    bool open = false;
    hark_err err =
        hark_query(s->bus, STATUS, HARK_ARGS(hark_text(n->order_id)), take_open, &open, NULL);
    if (err)
        return verdict_of(err);
    return open ? cancel(s, d, n, "not paid in time") : HARK_ACK;
}

typedef struct deadline {
    char order_id[40];
    int64_t after_ms;
} deadline;

static hark_err set_deadline(hark_tx *tx, void *ud)
{
    const deadline *t = ud;
    return schedule_due(tx, t->order_id, t->after_ms);
}

static hark_verdict created(shop *s, hark_delivery *d)
{
    deadline t = {.after_ms = s->o.payment_due_ms};
    if (!read_order_id(d, t.order_id))
        return HARK_REJECT;
    return verdict_of(hark_delivery_transact(d, set_deadline, &t, SHOP_TX, NULL));
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    note n;
    if (is_type(d, "order:created"))
        return created(s, d);
    if (!read_note(d, &n))
        return HARK_REJECT;
    return is_type(d, "payment:due") ? due(s, d, &n) : cancel(s, d, &n, n.reason);
}

const consumer checkout = {.name = "checkout",
                           .pattern = "order:created|inventory:rejected|payment:due|payment:failed",
                           .handle = handle};
