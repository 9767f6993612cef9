/* shop.h: what the files of the shop share: its options, and the one struct that holds what is open.
 * order.h has the orders and what may happen to them, events.h the events, consumers.h who listens. */
#ifndef SHOP_H
#define SHOP_H

#include <hark/hark.h>

#include <pthread.h>

typedef struct options {         /* options.c; shop --help tells */
    const char *store;           /* "sqlite:shop.db", or postgresql: */
    const char *listen;          /* "127.0.0.1:8080" */
    const char *page;            /* directory of the page */
    int64_t payment_due_ms;      /* from the order until it must be paid; 15 min */
    int64_t payment_delay_ms;    /* the provider's answer takes so long; 0 */
    double payment_fail_rate;    /* of cards declined, 0 to 1 */
    double payment_timeout_rate; /* of charges that get no answer at first, 0 to 1 */
    int64_t manual_payment;      /* wait for PUT /orders/:id/pay */
    int64_t manual_shipping;     /* wait for PUT /orders/:id/ship */
    int64_t stock;               /* of each product at the first start; 1000 */
    int64_t workers;             /* payments at a time */
    int64_t demo;                /* customers who place so many orders a second; 0 = none */
    int64_t no_supervise;
    int64_t quiet; /* no story on the console */
} options;

typedef struct switches switches; /* chaos.c */
typedef struct teller teller;     /* story.c */

typedef struct rest { /* rest.c */
    pthread_mutex_t lock;
    pthread_cond_t ended;
    bool over;
} rest;

typedef struct shop {
    options o;
    hark_bus *bus;
    hark_app *app;
    rest rest;
    teller *teller; /* NULL = nothing is told */
    switches *chaos;
    hark_feed *stats; /* GET /stats/stream */
    pthread_t ticker; /* http/stats.c: sends them once a second */
    bool ticks;
    bool takes_turns;  /* schema.c: other processes may work on the same tables */
    struct demo *demo; /* demo.c; NULL = there are no such customers */
} shop;

/* Closures wait for others on a busy machine; this is ample for the longest of ours. */
#define SHOP_TX HARK_OPTS(hark_tx_opts, .deadline_ms = 2000)

/* schema.c: makes the tables that are missing, and at the first start the products and user123, with
 * their events. */
hark_err shop_schema(shop *s, hark_errinfo *ei);
/* First in every closure that changes rows which many orders share (a product, a figure). Several
 * shops on one PostgreSQL database would lock those in different orders, wait for each other, and be
 * told of a deadlock; so they take turns, until the transaction ends. One alone has nobody to wait for. */
hark_err take_turn(const shop *s, hark_tx *tx);

/* routes: one file each in http/; each adds its own. */
void shop_order_routes(
    shop *s); /* POST /orders, GET /orders[/:id], PUT /orders/:id/pay, ship, cancel */
void shop_user_routes(shop *s);      /* POST /users, GET /users/:id */
void shop_inventory_routes(shop *s); /* GET /inventory, PUT /inventory/:sku */
void shop_letter_routes(shop *s);    /* GET /dead-letters, POST /dead-letters/:id/redrive */
void shop_chaos_routes(shop *s);     /* GET /chaos, PUT /chaos/:consumer */
hark_err
shop_stats_routes(shop *s,
                  hark_errinfo *ei); /* GET /stats, GET /stats/stream, POST /analytics/rebuild */
void shop_stats_stop(shop *s);       /* its thread */

/* chaos.c: what PUT /chaos/:consumer says; kept in the table `chaos`, so that a poisoned event stays
 * poisoned over a crash. chaos_strikes is called before a consumer's handler: it may take its time,
 * crash the process, or say that this attempt fails (true; the delivery has the reason). */
typedef struct chaos {
    char consumer[40];
    double fail_rate;  /* of attempts, 0 to 1 */
    int64_t delay_ms;  /* of each attempt */
    bool crash;        /* poison the next event that it sees */
    uint64_t poisoned; /* sequence of the event that crashes it; 0 = none */
} chaos;
hark_err chaos_open(shop *s, hark_errinfo *ei);
void chaos_close(shop *s);
bool chaos_strikes(shop *s, const char *consumer, hark_delivery *d);
void chaos_get(shop *s, const char *consumer, chaos *ret);
/* Has `fn` change what is set for a consumer, and keeps it: one at a time, so that no change is lost.
 * Blocks until it is committed, and known to all shops on these tables. *ret is what is set then.
 * `fn` false: nothing is changed, and that is HARK_ECONFLICT. */
hark_err chaos_change(shop *s, const char *consumer, bool (*fn)(chaos *c, const void *ud),
                      const void *ud, chaos *ret, hark_errinfo *ei);

/* rest.c: waiting, until a time or the end of the shop, which rest_end announces to all who wait. */
void rest_open(shop *s);
void rest_end(shop *s);
void rest_close(shop *s);
int64_t mono_now(void);                    /* ns; no clock change moves it */
bool rest_until(shop *s, int64_t mono_ns); /* false: the shop ends */
bool take_time(shop *s, int64_t ms);       /* likewise */

/* text.c: what customers write comes to a console: a control character there is no letter of a name. */
bool text_is_plain(const char *text);
void text_make_plain(char *text); /* each becomes a '?' */

/* ids.c: a prefix, the time and random letters; the time, ns since 1970 UTC. */
void shop_new_id(char id[40], const char *prefix);
int64_t shop_now(void);

/* story.c: a line on the console, "order ord-7f3a: paid 21.98 EUR". Does not block: a thread writes
 * the lines, in their order, and says how many it had to leave out because nobody reads them. */
hark_err story_start(shop *s, hark_errinfo *ei);
void story_stop(shop *s); /* what was told is written first */
void story(const shop *s, const char *fmt, ...) HARK_PRINTF(2, 3);

/* demo.c: customers at a steady rate, on a thread of their own; stops when the process does. */
hark_err demo_start(shop *s, hark_errinfo *ei);
void demo_stop(shop *s);

/* options.c: false: say nothing more, exit with *ret_status (--help, or a mistake told on stderr). */
bool options_parse(options *o, int argc, char **argv, int *ret_status);

#endif
