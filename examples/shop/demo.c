/* demo.c: customers, for a look at a shop that is busy. One thread orders for all of them at a steady
 * rate, by the same code as POST /orders, now and then cancels an order, and has what runs low put
 * back on the shelves. */
#include "order.h"
#include "user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CUSTOMERS = 8, PRODUCTS = 32, SECOND = 1000000000 };
enum { ONE_IN_CANCELS = 25, LOW_STOCK = 100, RESTOCK = 500 };

typedef struct demo {
    shop *s;
    pthread_t thread;
    unsigned seed;
    char users[CUSTOMERS][40], products[PRODUCTS][40];
    size_t n_users, n_products;
    char last[40]; /* the order placed last */
    char low[40];  /* a product of which there is little left */
    hark_errinfo ei;
} demo;

static size_t pick(demo *d, size_t n)
{
    return (size_t)rand_r(&d->seed) % n;
}

/* ---- what a customer does --------------------------------------------------------------------- */

typedef struct wish {
    const char *user, *product[3];
    int64_t quantity[3];
    size_t n;
    char id[40];
    int64_t due_ms;
} wish;

static hark_err place(hark_tx *tx, void *ud)
{
    const wish *w = ud;
    item items[3] = {{.quantity = 0}};
    order o = {.items = items, .n_items = w->n};
    char field[40];
    snprintf(o.id, sizeof o.id, "%s", w->id);
    snprintf(o.user_id, sizeof o.user_id, "%s", w->user);
    for (size_t i = 0; i < w->n; i++) {
        snprintf(items[i].product_id, sizeof items[i].product_id, "%s", w->product[i]);
        items[i].quantity = w->quantity[i];
    }
    return order_place(tx, &o, w->due_ms, field);
}

static hark_err order_something(demo *d)
{
    wish w = {.user = d->users[pick(d, d->n_users)],
              .n = 1 + pick(d, 3),
              .due_ms = d->s->o.payment_due_ms};
    for (size_t i = 0; i < w.n; i++) {
        w.product[i] = d->products[pick(d, d->n_products)];
        w.quantity[i] = (int64_t)(1 + pick(d, 3));
    }
    order_new_id(w.id);
    hark_err err = hark_transact(d->s->bus, place, &w, SHOP_TX, NULL, &d->ei);
    if (!err)
        snprintf(d->last, sizeof d->last, "%s", w.id);
    return err;
}

static hark_err cancel(hark_tx *tx, void *ud)
{
    const demo *d = ud;
    hark_err err = order_cancel(tx, d->last, "the customer thought better of it", NULL);
    return err == HARK_ECONFLICT ? HARK_OK : err; /* too late */
}

static bool take_low(const hark_row *row, void *ud)
{
    snprintf(ud, 40, "%s", hark_row_text(row, 0));
    return true;
}

static hark_err restock(hark_tx *tx, void *ud)
{
    const demo *d = ud;
    hark_err err = take_turn(d->s, tx);
    return err ? err : product_restock(tx, d->low, RESTOCK);
}

static hark_err restock_one(demo *d)
{
    d->low[0] = '\0';
    hark_err err = hark_query(d->s->bus, "SELECT sku FROM products WHERE stock < ? LIMIT 1",
                              HARK_ARGS(hark_int(LOW_STOCK)), take_low, d->low, &d->ei);
    return err || !d->low[0] ? err : hark_transact(d->s->bus, restock, d, SHOP_TX, NULL, &d->ei);
}

static hark_err step(demo *d)
{
    hark_err err = order_something(d);
    if (!err && pick(d, ONE_IN_CANCELS) == 0)
        err = hark_transact(d->s->bus, cancel, d, SHOP_TX, NULL, &d->ei);
    return err || pick(d, 10) ? err : restock_one(d);
}

static void *work(void *ud)
{
    demo *d = ud;
    int64_t pause = SECOND / d->s->o.demo, next = mono_now();
    while (rest_until(d->s, next)) {
        if (step(d))
            story(d->s, "a customer goes away: %s", d->ei.text);
        next += pause;
        if (mono_now() - next > SECOND) /* slower than the rate: do not try to catch up */
            next = mono_now();
    }
    return NULL;
}

/* ---- who and what there is -------------------------------------------------------------------- */

static hark_err add_customers(hark_tx *tx, void *ud)
{
    static const char *const names[] = {"Ann", "Bob", "Cleo", "Dora", "Eve", "Fay", "Gus"};
    (void)ud;
    hark_err err = HARK_OK;
    for (size_t i = 0; i < sizeof names / sizeof *names && !err; i++) {
        user u = {.created_at = shop_now()};
        shop_new_id(u.id, "usr-");
        snprintf(u.name, sizeof u.name, "%s", names[i]);
        snprintf(u.email, sizeof u.email, "%s@example.com", names[i]);
        err = user_add(tx, &u);
    }
    return err;
}

static bool take_user(const hark_row *row, void *ud)
{
    demo *d = ud;
    snprintf(d->users[d->n_users++], sizeof d->users[0], "%s", hark_row_text(row, 0));
    return true;
}

static bool take_product(const hark_row *row, void *ud)
{
    demo *d = ud;
    snprintf(d->products[d->n_products++], sizeof d->products[0], "%s", hark_row_text(row, 0));
    return true;
}

static hark_err read_users(demo *d, hark_errinfo *ei)
{
    d->n_users = 0;
    return hark_query(d->s->bus, "SELECT id FROM users ORDER BY created_at, id LIMIT ?",
                      HARK_ARGS(hark_int(CUSTOMERS)), take_user, d, ei);
}

static hark_err look_around(demo *d, hark_errinfo *ei)
{
    hark_err err = read_users(d, ei);
    if (!err && d->n_users == 1) /* only user123 */
        err = hark_transact(d->s->bus, add_customers, NULL, SHOP_TX, NULL, ei);
    if (!err)
        err = read_users(d, ei);
    return err ? err
               : hark_query(d->s->bus, "SELECT sku FROM products ORDER BY sku LIMIT ?",
                            HARK_ARGS(hark_int(PRODUCTS)), take_product, d, ei);
}

hark_err demo_start(shop *s, hark_errinfo *ei)
{
    demo *d = malloc(sizeof *d);
    if (!d)
        return hark_errinfo_set(ei, HARK_ENOMEM, "demo: no memory");
    *d = (demo){.s = s, .seed = (unsigned)mono_now()};
    hark_err err = look_around(d, ei);
    if (!err && pthread_create(&d->thread, NULL, work, d))
        err = hark_errinfo_set(ei, HARK_ESYS, "demo: no thread is to be had");
    if (err)
        free(d);
    else
        s->demo = d;
    return err;
}

void demo_stop(shop *s)
{
    demo *d = s->demo;
    if (!d)
        return;
    pthread_join(d->thread, NULL); /* after rest_end */
    free(d);
    s->demo = NULL;
}
