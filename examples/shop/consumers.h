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
    int64_t max_attempts; /* 0 = the default, 10; -1 = never gives up */
    bool as_stored;       /* it does not look at the data: no upcaster need run */
} consumer;

extern const consumer inventory;    /* order:created|order:cancelled: reserves, releases stock */
extern const consumer payment;      /* inventory:reserved|order:cancelled: charges, refunds */
extern const consumer shipping;     /* order:paid: ships */
extern const consumer notification; /* order:*|payment:failed: mails to the customer */
extern const consumer analytics;    /* order:*: figures that a replay can rebuild */
extern const consumer loyalty;      /* order:paid: points */
extern const consumer audit;        /* every event: who, what, when */
/* order:created|inventory:rejected|payment:due|payment:failed: the process manager, which sees to the
 * payment's deadline and to compensation */
extern const consumer checkout;

/* Subscribes all; each handler runs behind its chaos switch. */
hark_err consumers_start(shop *s, hark_errinfo *ei);
const consumer *consumer_named(const char *name); /* NULL: there is none */
const consumer *consumer_at(size_t i);            /* NULL: that was the last */

/* What a handler answers after hark_delivery_transact: again later for what passes, a dead letter for
 * what does not. The text of the error is with the attempt already. */
hark_verdict verdict_of(hark_err err);

void take_time(int64_t ms);
bool is_type(const hark_delivery *d, const char *type);

/* "21.98 EUR" */
#define MONEY_TEXT 32
const char *money_text(int64_t cents, const char *currency, char buf[MONEY_TEXT]);

/* analytics.c: empties the figures and has the consumer read the whole log again, while the shop goes
 * on. analytics_resume does the rest of a rebuild that a crash has interrupted: at each start. */
hark_err analytics_rebuild(shop *s, hark_errinfo *ei);
hark_err analytics_resume(shop *s, hark_errinfo *ei);

/* provider.c: the simulated payment provider. The same order gets the same answer, however often it
 * is charged: that is what real ones do with an idempotency key. */
typedef enum charge { CHARGED, DECLINED, NO_ANSWER } charge;
charge provider_charge(const shop *s, const char *order_id, int64_t attempt, char reference[40]);

#endif
