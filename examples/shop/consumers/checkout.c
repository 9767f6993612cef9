/* checkout.c: the process manager. It sees to it that every order comes to an end: no stock, no
 * payment, or none in time (order_place has set the deadline), and the order is cancelled; inventory
 * and payment then undo their part. It never gives up. */
#include "../consumers.h"

#include <stdio.h>

typedef struct ending {
    job job;
    note n;
    bool done;
} ending;

/* Unless it was paid, or cancelled, in the meantime. */
static hark_err cancel_unpaid(hark_tx *tx, void *ud)
{
    ending *e = ud;
    e->done = false;
    hark_err err =
        hark_tx_query(tx, ORDER_UNPAID, HARK_ARGS(hark_text(e->n.order_id)), row_found, &e->done);
    return err || !e->done ? err : order_cancel(tx, e->n.order_id, e->n.reason, NULL);
}

static hark_verdict cancelled(job *j, hark_err err)
{
    const ending *e = (const ending *)j;
    if (!err && e->done)
        story(j->s, "order %s: cancelled: %s", e->n.order_id, e->n.reason);
    return verdict_of(err);
}

/* Nearly every order is paid by then: that needs no transaction. */
static hark_verdict due(shop *s, hark_delivery *d, ending *e)
{
    bool open = false;
    hark_err err = hark_query(s->bus, ORDER_UNPAID, HARK_ARGS(hark_text(e->n.order_id)), row_found,
                              &open, NULL);
    if (err || !open)
        return job_drop(&e->job, verdict_of(err));
    snprintf(e->n.reason, sizeof e->n.reason, "not paid in time");
    return job_do(&e->job, d, cancel_unpaid, cancelled);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    ending *e = job_new(s, sizeof *e, NULL);
    if (!e)
        return HARK_RETRY;
    if (!read_note(d, &e->n))
        return job_drop(&e->job, HARK_REJECT);
    return is_type(d, "payment:due") ? due(s, d, e) : job_do(&e->job, d, cancel_unpaid, cancelled);
}

const consumer checkout = {.name = "checkout",
                           .pattern = "inventory:rejected|payment:due|payment:failed",
                           .handle = handle,
                           .max_attempts = -1};
