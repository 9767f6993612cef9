/* payment.c: charges the customer once the stock is reserved; refunds when a paid order is cancelled.
 * The provider is asked outside of the transaction, since it may take its time; what is not needed
 * then (the order was cancelled, or paid by hand) goes back to the customer. It never gives up, and
 * acks nothing before the provider has done its part: money is neither kept nor given twice. */
#include "../consumers.h"

#include <stdio.h>

enum { PAUSE_MS = 200 }; /* after a charge without an answer */

/* ---- charging ---- */

typedef struct collection {
    job job;
    note n;
    char reference[40];
    bool done;
} collection;

/* `done` in the end: it was paid with this very charge, the event came again. */
static hark_err pay(hark_tx *tx, void *ud)
{
    collection *c = ud;
    c->done = false;
    hark_err err = order_pay(tx, c->n.order_id, c->reference, NULL);
    if (err != HARK_ECONFLICT)
        return err;
    hark_err looked = hark_tx_query(
        tx, "SELECT 1 FROM payments WHERE order_id = ? AND reference = ?",
        HARK_ARGS(hark_text(c->n.order_id), hark_text(c->reference)), row_found, &c->done);
    return looked ? looked : err;
}

/* A charge that is not wanted is taken back by the next attempt: here is no time for it. */
static hark_verdict paid(job *j, hark_err err)
{
    const collection *c = (const collection *)j;
    char money[MONEY_TEXT];
    if (!err)
        story(j->s, "order %s: paid %s", c->n.order_id,
              money_text(c->n.total, c->n.currency, money));
    if (err == HARK_ECONFLICT || err == HARK_ENOTFOUND)
        return c->done ? HARK_ACK : HARK_RETRY;
    return verdict_of(err);
}

/* Asked from the second attempt on: nearly always the first one sees to it that it is paid. */
static hark_err wanted(const collection *c, bool *ret)
{
    *ret = false;
    return hark_query(c->job.s->bus,
                      ORDER_UNPAID " UNION ALL SELECT 1 FROM payments WHERE order_id = ?1 "
                                   "AND reference = ?2",
                      HARK_ARGS(hark_text(c->n.order_id), hark_text(c->reference)), row_found, ret,
                      NULL);
}

static hark_verdict take_back(collection *c)
{
    char money[MONEY_TEXT];
    shop *s = c->job.s;
    if (!provider_refund(s, c->reference))
        return job_drop(&c->job, HARK_RETRY);
    story(s, "order %s: not to be paid any more, the charge of %s is taken back", c->n.order_id,
          money_text(c->n.total, c->n.currency, money));
    return job_drop(&c->job, HARK_ACK);
}

static hark_verdict charged(hark_delivery *d, collection *c)
{
    bool is_wanted = true;
    hark_err err = hark_delivery_attempt(d) > 1 ? wanted(c, &is_wanted) : HARK_OK;
    if (err)
        return job_drop(&c->job, verdict_of(err));
    return is_wanted ? job_do(&c->job, d, pay, paid) : take_back(c);
}

/* ---- when that fails ---- */

/* `done`: there was somebody to be told. The order may be cancelled already, or paid by hand. */
static hark_err decline(hark_tx *tx, void *ud)
{
    collection *c = ud;
    c->done = false;
    hark_err err =
        hark_tx_query(tx, ORDER_UNPAID, HARK_ARGS(hark_text(c->n.order_id)), row_found, &c->done);
    return err || !c->done ? err : publish_note(tx, "payment:failed", &c->n);
}

static hark_verdict declined(job *j, hark_err err)
{
    const collection *c = (const collection *)j;
    if (!err && c->done)
        story(j->s, "order %s: %s", c->n.order_id, c->n.reason);
    return verdict_of(err);
}

static hark_verdict no_answer(hark_delivery *d, collection *c)
{
    story(c->job.s, "order %s: the payment provider does not answer, asking again", c->n.order_id);
    hark_delivery_explain(d, "the payment provider does not answer");
    hark_delivery_retry_after(d, PAUSE_MS);
    return job_drop(&c->job, HARK_RETRY);
}

static hark_verdict charge_for(shop *s, hark_delivery *d)
{
    collection *c = job_new(s, sizeof *c, NULL);
    if (!c)
        return HARK_RETRY;
    if (!read_note(d, &c->n))
        return job_drop(&c->job, HARK_REJECT);
    switch (provider_charge(s, c->n.order_id, hark_delivery_attempt(d), c->reference)) {
    case CHARGED:
        return charged(d, c);
    case DECLINED:
        snprintf(c->n.reason, sizeof c->n.reason, "the card was declined");
        return job_do(&c->job, d, decline, declined);
    case NO_ANSWER:
        return no_answer(d, c);
    default:
        hark_delivery_explain(d, "the shop ends");
        return job_drop(&c->job, HARK_RETRY);
    }
}

/* ---- refunding ---- */

typedef struct repayment {
    job job;
    order o;
    char reference[40]; /* empty: the provider had no part in it */
    bool due;
    int64_t cents;
} repayment;

static void clear(job *j)
{
    order_clear(&((repayment *)j)->o);
}

static bool take_payment(const hark_row *row, void *ud)
{
    repayment *r = ud;
    const char *reference = hark_row_text(row, 0);
    r->due = true;
    snprintf(r->reference, sizeof r->reference, "%s", reference ? reference : "");
    return true;
}

static hark_err refund(hark_tx *tx, void *ud)
{
    repayment *r = ud;
    return order_refund(tx, &r->o, &r->cents);
}

static hark_verdict refunded(job *j, hark_err err)
{
    const repayment *r = (const repayment *)j;
    char money[MONEY_TEXT];
    if (!err && r->cents)
        story(j->s, "order %s: refunded %s", r->o.id, money_text(r->cents, r->o.currency, money));
    return verdict_of(err);
}

/* The provider first: after a crash in between it is asked again, and does it once. */
static hark_verdict pay_back(shop *s, hark_delivery *d)
{
    repayment *r = job_new(s, sizeof *r, clear);
    if (!r)
        return HARK_RETRY;
    if (!read_order(d, &r->o))
        return job_drop(&r->job, HARK_REJECT);
    hark_err err = hark_query(
        s->bus, "SELECT reference FROM payments WHERE order_id = ? AND refunded_at IS NULL",
        HARK_ARGS(hark_text(r->o.id)), take_payment, r, NULL);
    if (err || !r->due) /* it was never paid, nor can it be any more */
        return job_drop(&r->job, verdict_of(err));
    if (r->reference[0] && !provider_refund(s, r->reference))
        return job_drop(&r->job, HARK_RETRY);
    return job_do(&r->job, d, refund, refunded);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    if (is_type(d, "order:cancelled"))
        return pay_back(s, d);
    return s->o.manual_payment ? HARK_ACK : charge_for(s, d);
}

const consumer payment = {.name = "payment",
                          .pattern = "inventory:reserved|order:cancelled",
                          .handle = handle,
                          .takes_time = true,
                          .max_attempts = -1};
