/* http/inventory.c: GET /inventory, and PUT /inventory/:sku to restock. */
#include "../order.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct product {
    char sku[40], name[100];
    int64_t price, stock, reserved, sold;
} product;
HARK_JSON_TABLE(product_json, product, HARK_JSON_CHARS(product, sku),
                HARK_JSON_CHARS(product, name), HARK_JSON_DECIMAL(product, price, 2),
                HARK_JSON_INT(product, stock), HARK_JSON_INT(product, reserved),
                HARK_JSON_INT(product, sold));

#define SELECT_PRODUCT "SELECT sku, name, price, stock, reserved, sold FROM products "

static void take(product *p, const hark_row *row)
{
    *p = (product){.price = hark_row_int(row, 2),
                   .stock = hark_row_int(row, 3),
                   .reserved = hark_row_int(row, 4),
                   .sold = hark_row_int(row, 5)};
    snprintf(p->sku, sizeof p->sku, "%s", hark_row_text(row, 0));
    snprintf(p->name, sizeof p->name, "%s", hark_row_text(row, 1));
}

/* ---- GET /inventory ---- */

typedef struct list {
    product *items;
    size_t n_items;
    bool no_memory;
} list;
HARK_JSON_TABLE(list_json, list, HARK_JSON_ARRAY(list, items, n_items, &product_json));

static bool take_row(const hark_row *row, void *ud)
{
    list *l = ud;
    product *more = realloc(l->items, (l->n_items + 1) * sizeof *more);
    l->no_memory = !more;
    if (!more)
        return false;
    l->items = more;
    take(&l->items[l->n_items++], row);
    return true;
}

static hark_err get_inventory(hark_ctx *c, void *ud)
{
    const shop *s = ud;
    list l = {.items = NULL};
    hark_errinfo ei;
    hark_err err =
        hark_query(s->bus, SELECT_PRODUCT "ORDER BY sku", HARK_NO_ARGS, take_row, &l, &ei);
    if (err)
        err = hark_ctx_fail(c, err, "%s", ei.text);
    else
        err = l.no_memory ? HARK_ENOMEM : hark_ctx_json(c, 200, &list_json, &l);
    free(l.items);
    return err;
}

/* ---- PUT /inventory/:sku ---- */

typedef struct restocking {
    const shop *s;
    const char *sku;
    int64_t add;
    product p;
} restocking;
HARK_JSON_TABLE(restock_body, restocking,
                HARK_JSON_INT(restocking, add, .required = true, HARK_JSON_RANGE(1, 1000000)));

static bool take_product(const hark_row *row, void *ud)
{
    take(ud, row);
    return true;
}

static hark_err restock(hark_ctx *c, hark_tx *tx, void *ud)
{
    restocking *r = ud;
    hark_err err = take_turn(r->s, tx);
    if (!err)
        err = product_restock(tx, r->sku, r->add);
    if (!err)
        err = hark_tx_query(tx, SELECT_PRODUCT "WHERE sku = ?", HARK_ARGS(hark_text(r->sku)),
                            take_product, &r->p);
    return err ? err : hark_ctx_json(c, 200, &product_json, &r->p);
}

static hark_err put_inventory(hark_ctx *c, void *ud)
{
    restocking *r = hark_ctx_alloc(c, sizeof *r); /* restock runs when this has returned */
    if (!r)
        return HARK_ENOMEM;
    *r = (restocking){.s = ud, .sku = hark_ctx_param(c, "sku")};
    hark_err err = hark_ctx_bind(c, &restock_body, r);
    return err ? err : hark_ctx_transact(c, restock, r, SHOP_TX);
}

void shop_inventory_routes(shop *s)
{
    hark_route(s->app, "GET", "/inventory", get_inventory, s, HARK_BLOCKING);
    hark_put(s->app, "/inventory/:sku", put_inventory, s);
}
