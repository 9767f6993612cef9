/* tx_i.h: a transaction, for the two files that make it: tx.c (its life, publishing) and
 * tx_schedule.c (what it schedules). */
#ifndef HK_TX_I_H
#define HK_TX_I_H

#include "bus/bus_i.h"
#include "bus/schedule_i.h"

struct hark_tx {
    hk_request request; /* its items are the events of the last run */
    hark_bus *bus;
    hark_tx_fn fn;
    void *ud;
    hark_transacted_fn done;             /* async; NULL: somebody waits, or `later` */
    bool later;                          /* async, with a delivery: */
    hark_delivery_done_fn delivery_done; /* or NULL */
    int64_t deadline_ns;                 /* of a run, and of all that failed and are run again */
    int64_t failed_ns;                   /* what those took until now */
    hark_errinfo failed;                 /* what the last of them was given up for */
    hark_delivery *delivery;             /* that it belongs to; NULL = none */
    hark_store_slot *slot; /* of the delivery whose handler waits for it; NULL = none */
    /* of the run */
    hark_errinfo ei;
    hark_receipt **receipts; /* the program's, as many as items; some NULL */
    size_t cap;
    hk_due *dues; /* what it scheduled, and without room what it cancelled, in that order */
    size_t n_dues, cap_dues;
    uint64_t ordinal; /* of the next derived id */
    int64_t changes;
    const char *correlationid, *causationid;
    hark_tx_then_fn then;
    void *then_ud;
    bool appended; /* nothing more can be published */
};

/* tx.c: as a delivery stamps what it publishes, or as hark_tx_stamp said. Returns HK_PUB_ flags. */
unsigned hk_tx_stamp(hark_tx *tx, hark_event_spec *s, char id[HK_UUID_TEXT + 1]);

/* tx_delivery.c: a transaction whose delivery was handed over with it is committed or has failed. */
void hk_tx_settle(hark_tx *tx, hark_err err);

/* tx.c: a transaction that is ready to be pushed and has its room in the queue. */
hark_err hk_tx_new(hark_bus *bus, hark_tx_fn fn, void *ud, const hark_tx_opts *opts, unsigned flags,
                   bool may_wait, hark_tx **ret, hark_errinfo *ei);
hark_err hk_tx_wait(hark_tx *tx, hark_receipt *ret, hark_errinfo *ei);
hark_err hk_tx_may_wait(const char *call, hark_errinfo *ei);
void hk_tx_free(hark_tx *tx);

/* tx_schedule.c: what the run scheduled and cancelled: it is committed, or undone. */
void hk_tx_dues_queue(hark_tx *tx);
void hk_tx_dues_drop(hark_tx *tx);

#endif
