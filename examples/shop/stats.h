/* stats.h: the figures of GET /stats, as they are at one moment. */
#ifndef SHOP_STATS_H
#define SHOP_STATS_H

#include "consumers.h"

typedef struct type_figures {
    char type[64];
    int64_t count; /* since the shop was started */
    double per_second;
} type_figures;

typedef struct consumer_figures {
    char name[40];
    int64_t lag, open, running, retrying, dead_letters;
    double per_second;
    char why[512];     /* one sentence */
    char why_code[24]; /* "idle", "catching-up", ... */
} consumer_figures;

typedef struct product_figures {
    char sku[40];
    int64_t ordered;
    int64_t gross; /* of all that was paid; what is refunded counts in the orders' revenue alone */
} product_figures;

typedef struct event_figures {
    int64_t total; /* in the log */
    double per_second;
    type_figures *by_type;
    size_t n_types;
} event_figures;

typedef struct order_figures {
    int64_t created, paid, shipped, cancelled, revenue, units;
} order_figures;

typedef struct stats {
    int64_t time;
    event_figures events;
    consumer_figures *consumers;
    size_t n_consumers;
    order_figures orders; /* analytics.c counts them */
    product_figures *products;
    size_t n_products;
    bool no_memory; /* for one of the lists: what is there is not all */
} stats;

/* Blocks on the store. stats_clear() it afterwards, also after an error. */
hark_err stats_gather(shop *s, stats *ret, hark_errinfo *ei);
void stats_clear(stats *st);
const hark_json_table *stats_table(void);

#endif
