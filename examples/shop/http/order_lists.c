/* http/order_lists.c: GET /orders/:id, and GET /orders in pages, newest first. They read beside the
 * writer, on the worker pool. A page says in Hark-Seq where the log was before it was read: a client
 * that goes on with GET /orders/stream from there misses nothing. */
#include "orders.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static hark_err get_order(hark_ctx *c, void *ud)
{
    const shop *s = ud;
    order o;
    hark_errinfo ei;
    hark_err err = order_find(s->bus, hark_ctx_param(c, "id"), &o, &ei);
    if (err)
        return hark_ctx_fail(c, err, "%s", ei.text);
    err = hark_ctx_json(c, 200, &order_json, &o);
    order_clear(&o);
    return err;
}

/* ---- a page ---- */

typedef struct page {
    const char *user_id, *status, *after; /* NULL = any */
    int64_t limit;
    order *orders;
    size_t n_orders;
    char next[40]; /* the last one's id, if there are more */
    bool no_memory;
} page;
HARK_JSON_TABLE(page_json, page, HARK_JSON_ARRAY(page, orders, n_orders, &order_json),
                HARK_JSON_CHARS(page, next, .min_len = 1));

/* An order's rows come one after the other. */
static bool take_row(const hark_row *row, void *ud)
{
    page *p = ud;
    const char *id = hark_row_text(row, 0);
    if (p->n_orders == 0 || strcmp(p->orders[p->n_orders - 1].id, id) != 0)
        p->orders[p->n_orders++] = (order){.items = NULL};
    p->no_memory = !order_add_row(&p->orders[p->n_orders - 1], row);
    return !p->no_memory;
}

static void when(const char *value, hark_value *args, size_t *n)
{
    if (value)
        args[(*n)++] = hark_text(value);
}

/* Only the conditions that are asked for, so that the right index is used: user_id has one, and all
 * else goes down by id, which is by time, newest first. Returns the number of arguments. */
static size_t write_sql(const page *p, char *sql, size_t size, hark_value args[4])
{
    size_t n = 0;
    snprintf(sql, size,
             ORDER_SELECT "FROM (SELECT * FROM orders WHERE true%s%s%s ORDER BY id DESC LIMIT ?) "
                          "AS o JOIN order_items i ON i.order_id = o.id "
                          "ORDER BY o.id DESC, i.line",
             p->user_id ? " AND user_id = ?" : "", p->status ? " AND status = ?" : "",
             p->after ? " AND id < ?" : "");
    when(p->user_id, args, &n);
    when(p->status, args, &n);
    when(p->after, args, &n);
    args[n++] = hark_int(p->limit + 1);
    return n;
}

static hark_err read_page(hark_bus *bus, page *p, hark_errinfo *ei)
{
    char sql[600];
    hark_value args[4];
    size_t n = write_sql(p, sql, sizeof sql, args);
    hark_err err = hark_query(bus, sql, args, n, take_row, p, ei);
    if (err || p->n_orders <= (size_t)p->limit)
        return err;
    order_clear(&p->orders[--p->n_orders]);
    snprintf(p->next, sizeof p->next, "%s", p->orders[p->n_orders - 1].id);
    return HARK_OK;
}

/* ---- GET /orders ---- */

static bool is_status(const char *text)
{
    static const char *const all[] = {"created", "reserved", "paid", "shipped", "cancelled"};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(text, all[i]) == 0)
            return true;
    return false;
}

static hark_err exists(hark_ctx *c, hark_bus *bus, const char *id)
{
    order o;
    hark_errinfo ei;
    hark_err err = order_find(bus, id, &o, &ei);
    if (err)
        return hark_ctx_fail(c, err == HARK_ENOTFOUND ? HARK_EINVAL : err,
                             "the query's after is \"%.60s\": %s", id, ei.text);
    order_clear(&o);
    return HARK_OK;
}

static hark_err read_query(hark_ctx *c, hark_bus *bus, page *p)
{
    p->limit = 20;
    hark_err err = hark_ctx_query_int(c, "limit", 1, 100, &p->limit);
    if (err)
        return err;
    p->user_id = hark_ctx_query(c, "user_id");
    p->status = hark_ctx_query(c, "status");
    p->after = hark_ctx_query(c, "after");
    if (p->status && !is_status(p->status))
        return hark_ctx_fail(c, HARK_EINVAL,
                             "the query's status is \"%.60s\", expected created, reserved, paid, "
                             "shipped or cancelled",
                             p->status);
    return p->after ? exists(c, bus, p->after) : HARK_OK;
}

static void tell_place(hark_ctx *c, hark_bus *bus)
{
    hark_bus_info info = {.size = sizeof info};
    char cursor[HARK_CURSOR_TEXT];
    if (hark_bus_info_get(bus, &info))
        return;
    hark_cursor_format(bus, info.last_sequence, cursor);
    hark_ctx_set_header(c, "Hark-Seq", cursor);
}

static hark_err reply(hark_ctx *c, const page *p)
{
    return p->no_memory ? HARK_ENOMEM : hark_ctx_json(c, 200, &page_json, p);
}

static hark_err get_orders(hark_ctx *c, void *ud)
{
    const shop *s = ud;
    page p = {.orders = NULL};
    hark_errinfo ei;
    hark_err err = read_query(c, s->bus, &p);
    if (err)
        return err;
    p.orders = calloc((size_t)p.limit + 1, sizeof *p.orders);
    if (!p.orders)
        return HARK_ENOMEM;
    tell_place(c, s->bus); /* before reading: what comes in between is seen twice, not missed */
    err = read_page(s->bus, &p, &ei);
    err = err ? hark_ctx_fail(c, err, "%s", ei.text) : reply(c, &p);
    for (size_t i = 0; i < p.n_orders; i++)
        order_clear(&p.orders[i]);
    free(p.orders);
    return err;
}

void shop_order_lists(shop *s)
{
    hark_route(s->app, "GET", "/orders", get_orders, s, HARK_BLOCKING);
    hark_route(s->app, "GET", "/orders/:id", get_order, s, HARK_BLOCKING);
    shop_order_feed(s);
}
