/* tx_delivery.c: transactions that belong to a delivery: its ack is part of them. While one is under way
 * the delivery is sealed: neither its time nor anybody else ends it. */
#include "bus/tx_i.h"

#include <stdlib.h>

static hark_err seal(hark_delivery *d, hark_errinfo *ei)
{
    if (d->gap_to)
        return hk_fail(ei, HARK_EINVAL, "the delivery is a gap: there is no event to settle");
    return d->sub->consumer ? hk_consumer_seal(d, ei) : HARK_OK;
}

static void unseal(hark_delivery *d, bool committed)
{
    if (d->sub->consumer)
        hk_consumer_unseal(d, committed);
}

/* What the attempt is remembered by, unless the handler has said something. */
static void explain(hark_delivery *d, hark_err err, const hark_errinfo *why)
{
    if (err && !d->error)
        hark_delivery_explain(d, "%s", hk_err_says(err, why));
}

/* ---- waiting for it -------------------------------------------------------------------------- */

static hark_err run(hark_delivery *d, hark_tx_fn fn, void *ud, const hark_tx_opts *opts,
                    hark_errinfo *ei)
{
    hark_tx *tx;
    hark_err err = hk_tx_new(d->sub->bus, fn, ud, opts, HK_PUB_INSIDE, true, &tx, ei);
    if (err)
        return err;
    tx->delivery = d;
    err = hk_tx_wait(tx, NULL, ei);
    if (!err)
        d->ordinal = tx->ordinal;
    hk_tx_free(tx);
    return err;
}

hark_err hark_delivery_transact(hark_delivery *d, hark_tx_fn fn, void *ud, const hark_tx_opts *opts,
                                hark_errinfo *ei)
{
    hark_bus *bus = d->sub->bus;
    hark_errinfo why = {0};
    hark_err err = hk_tx_may_wait("hark_delivery_transact", &why);
    if (!err)
        err = seal(d, &why);
    if (!err) {
        hk_bus_running(bus, 1); /* a drain waits for it, whoever holds the delivery */
        err = run(d, fn, ud, opts, &why);
        unseal(d, !err);
        hk_bus_running(bus, -1);
    }
    explain(d, err, &why);
    if (err && ei)
        *ei = why;
    return err;
}

/* ---- without waiting ------------------------------------------------------------------------- */

void hk_tx_tell(hark_tx *tx)
{
    tx->ei = (hark_errinfo){0}; /* of a failure that the closure went on after */
    if (tx->delivery_done)
        (void)tx->delivery_done(tx->delivery, HARK_OK, &tx->ei, tx->ud);
    hk_tx_free(tx);
}

/* Of a consumer, it is settled with all others that the group has settled. */
static void committed(hark_tx *tx, hark_delivery *d)
{
    hark_bus *bus = tx->bus;
    if (d->sub->consumer) {
        hk_consumer_committed(d, tx);
        return;
    }
    hk_tx_tell(tx);
    hk_delivery_clear(d);
    free(d);
    hk_bus_running(bus, -1);
}

static void failed(hark_tx *tx, hark_delivery *d, hark_err err)
{
    hark_verdict verdict = HARK_RETRY;
    unseal(d, false);
    explain(d, err, &tx->ei);
    if (tx->delivery_done)
        verdict = tx->delivery_done(d, err, &tx->ei, tx->ud);
    err = hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = verdict));
    if (err) /* too late: the event has come, or comes, again */
        hk_log(HK_DEBUG, "an answer after a transaction: %s", hark_err_text(err));
    hk_bus_running(tx->bus, -1);
    hk_tx_free(tx);
}

void hk_tx_settle(hark_tx *tx, hark_err err)
{
    if (err)
        failed(tx, tx->delivery, err);
    else
        committed(tx, tx->delivery);
}

static hark_err check(const hark_delivery *d, hark_errinfo *ei)
{
    if (!d)
        return hk_fail(ei, HARK_EINVAL, "hark_delivery_transact_async without a delivery");
    if (hk_role_get() == HK_ROLE_CLOSURE)
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "hark_delivery_transact_async inside a closure: it would happen with each "
                       "run");
    return HARK_OK;
}

hark_err hark_delivery_transact_async(hark_delivery **dp, hark_tx_fn fn, hark_delivery_done_fn done,
                                      void *ud, const hark_tx_opts *opts, hark_errinfo *ei)
{
    hark_tx *tx;
    hark_delivery *d = *dp;
    hark_errinfo why = {0};
    hark_err err = check(d, &why);
    if (!err)
        err = seal(d, &why);
    if (!err) {
        err = hk_tx_new(d->sub->bus, fn, ud, opts, HK_PUB_INSIDE, hk_role_may_block(), &tx, &why);
        if (err)
            unseal(d, false);
    }
    if (err) {
        if (d)
            explain(d, err, &why);
        if (ei)
            *ei = why;
        return err;
    }
    *dp = NULL;
    tx->delivery = d;
    tx->slot = d->slot;
    tx->later = true;
    tx->delivery_done = done;
    hk_bus_running(d->sub->bus, 1);             /* a drain waits for it */
    hk_writer_push(tx->bus, &tx->request.work); /* both may be gone after this */
    return HARK_OK;
}
