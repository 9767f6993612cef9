/* consumers.h: who listens to what. Each consumer is one file in consumers/ with one struct like this;
 * the list of all is in consumers.c. To add one: write its file, add a line to the list (and one to
 * meson.build). */
#ifndef SHOP_CONSUMERS_H
#define SHOP_CONSUMERS_H

#include "events.h"

typedef struct consumer {
    const char *name;
    const char *pattern;
    hark_verdict (*handle)(shop *s, hark_delivery *d);
    int64_t max_attempts; /* 0 = the default, 10; -1 = never gives up while it may pass */
    bool as_stored;       /* it does not look at the data: no upcaster need run */
    bool takes_time;      /* it waits for others: several at a time (--workers) */
} consumer;

extern const consumer inventory;    /* order:created|order:cancelled: reserves, releases stock */
extern const consumer payment;      /* inventory:reserved|order:cancelled: charges, refunds */
extern const consumer shipping;     /* order:paid: ships */
extern const consumer notification; /* order:*|payment:failed: mails to the customer */
extern const consumer analytics; /* order:*|payment:refunded: figures that a replay can rebuild */
extern const consumer loyalty;   /* order:paid: points */
extern const consumer audit;     /* every event: who, what, when */
/* inventory:rejected|payment:due|payment:failed: the process manager, which ends what goes wrong; the
 * rest is compensation */
extern const consumer checkout;

/* Subscribes all; each handler runs behind its chaos switch. */
hark_err consumers_start(shop *s, hark_errinfo *ei);
const consumer *consumer_named(const char *name); /* NULL: there is none */
const consumer *consumer_at(size_t i);            /* NULL: that was the last */

/* What an event makes a consumer do: a transaction, and with it the delivery is settled. It outlives
 * the handler, whose thread goes on to the next event meanwhile, so that many share one commit.
 * Each consumer has a struct of its own for what it has read from the event, with this first. */
typedef struct job job;
struct job {
    shop *s;
    void (*clear)(job *j); /* what is in the consumer's part; NULL = nothing to be freed */
    hark_verdict (*over)(job *j, hark_err err);
};
/* Zeroed, of the size of the consumer's struct. NULL: no memory; answer HARK_RETRY. */
void *job_new(shop *s, size_t size, void (*clear)(job *j));
hark_verdict job_drop(job *j, hark_verdict verdict);

/* Runs `fn` on the job. `over` (or NULL) is told what became of it, on a thread that must not wait,
 * and says what becomes of the delivery if it failed. Return what this returns. */
hark_verdict job_do(job *j, hark_delivery *d, hark_tx_fn fn,
                    hark_verdict (*over)(job *j, hark_err err));

/* What becomes of a delivery whose transaction failed: again later for what passes, a dead letter for
 * what does not. The text of the error is with the attempt already. */
hark_verdict verdict_of(hark_err err);

bool is_type(const hark_delivery *d, const char *type);

/* For queries that only ask whether there is a row: `ud` is a bool, false before. */
bool row_found(const hark_row *row, void *ud);

/* "21.98 EUR" */
#define MONEY_TEXT 32
const char *money_text(int64_t cents, const char *currency, char buf[MONEY_TEXT]);

/* analytics.c: empties the figures and has the consumer read the whole log again, while the shop goes
 * on. analytics_resume does the rest of a rebuild that a crash has interrupted: at each start. */
hark_err analytics_rebuild(shop *s, hark_errinfo *ei);
hark_err analytics_resume(shop *s, hark_errinfo *ei);

/* provider.c: the simulated payment provider. The same order gets the same answer, however often it
 * is charged, and a charge goes back once, however often that is asked for: that is what real ones
 * do with an idempotency key. Both take their time. */
typedef enum charge { CHARGED, DECLINED, NO_ANSWER, INTERRUPTED /* the shop ends */ } charge;
charge provider_charge(shop *s, const char *order_id, int64_t attempt, char reference[40]);
bool provider_refund(shop *s, const char *reference); /* false: the shop ends, ask again */

#endif
