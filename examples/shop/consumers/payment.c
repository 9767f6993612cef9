/* payment.c: charges the customer once the stock is reserved; refunds when a paid order is cancelled.
 * The provider is asked outside of the transaction, since it may take its time; what is not needed
 * then (the order was cancelled, or paid by hand) is taken back. */
#include "../consumers.h"

#include <stdio.h>

enum { PAUSE_MS = 200 }; /* after a charge without an answer */

typedef struct paying {
    const char *order_id;
    char reference[40];
    bool done; /* it was paid with this very charge: the event came again */
} paying;

static bool take_done(const hark_row *row, void *ud)
{
    *(bool *)ud = row->n > 0;
    return true;
}

static hark_err pay(hark_tx *tx, void *ud)
{
    paying *p = ud;
    p->done = false;
    hark_err err = order_pay(tx, p->order_id, p->reference, NULL);
    if (err != HARK_ECONFLICT)
        return err;
    hark_err looked = hark_tx_query(
        tx, "SELECT 1 FROM payments WHERE order_id = ? AND reference = ?",
        HARK_ARGS(hark_text(p->order_id), hark_text(p->reference)), take_done, &p->done);
    return looked ? looked : err;
}

static hark_err fail(hark_tx *tx, void *ud)
{
    return publish_note(tx, "payment:failed", ud);
}

static hark_err refund(hark_tx *tx, void *ud)
{
    return order_refund(tx, ud);
}

static hark_verdict charged(shop *s, hark_delivery *d, const note *n, paying *p)
{
    char money[MONEY_TEXT];
    hark_err err = hark_delivery_transact(d, pay, p, SHOP_TX, NULL);
    money_text(n->total, n->currency, money);
    if (!err)
        story(s, "order %s: paid %s", n->order_id, money);
    if (err != HARK_ECONFLICT && err != HARK_ENOTFOUND)
        return verdict_of(err);
    if (!p->done)
        story(s, "order %s: not to be paid any more, the charge of %s is taken back", n->order_id,
              money);
    return HARK_ACK;
}

static hark_verdict declined(shop *s, hark_delivery *d, const note *n)
{
    note failed = {.reason = "the card was declined"};
    snprintf(failed.order_id, sizeof failed.order_id, "%s", n->order_id);
    hark_err err = hark_delivery_transact(d, fail, &failed, SHOP_TX, NULL);
    if (!err)
        story(s, "order %s: %s", n->order_id, failed.reason);
    return verdict_of(err);
}

static hark_verdict reserved(shop *s, hark_delivery *d)
{
    note n;
    if (!read_note(d, &n))
        return HARK_REJECT;
    paying p = {.order_id = n.order_id};
    switch (provider_charge(s, n.order_id, hark_delivery_attempt(d), p.reference)) {
    case CHARGED:
        return charged(s, d, &n, &p);
    case DECLINED:
        return declined(s, d, &n);
    default:
        story(s, "order %s: the payment provider does not answer, asking again", n.order_id);
        hark_delivery_explain(d, "the payment provider does not answer");
        hark_delivery_retry_after(d, PAUSE_MS);
        return HARK_RETRY;
    }
}

static hark_verdict cancelled(hark_delivery *d)
{
    order o;
    if (!read_order(d, &o))
        return HARK_REJECT;
    hark_err err = hark_delivery_transact(d, refund, &o, SHOP_TX, NULL);
    order_clear(&o);
    return verdict_of(err);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    if (is_type(d, "order:cancelled"))
        return cancelled(d);
    return s->o.manual_payment ? HARK_ACK : reserved(s, d);
}

const consumer payment = {
    .name = "payment", .pattern = "inventory:reserved|order:cancelled", .handle = handle};
