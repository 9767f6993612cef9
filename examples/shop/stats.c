/* stats.c: gathers the figures of GET /stats: what hark counts by itself, why each consumer stands
 * where it stands, and what analytics.c has counted. */
#include "stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for one more element of `size` bytes and returns it, zeroed; NULL: no memory. */
static void *one_more(stats *st, void **list, size_t *n, size_t size)
{
    char *more = realloc(*list, (*n + 1) * size);
    st->no_memory |= !more;
    if (!more)
        return NULL;
    *list = more;
    return memset(more + (*n)++ * size, 0, size);
}

/* ---- events ---- */

static bool take_type(const hark_type_stats *t, void *ud)
{
    stats *st = ud;
    void *list = st->events.by_type;
    type_figures *f = one_more(st, &list, &st->events.n_types, sizeof *f);
    if (!f)
        return false;
    st->events.by_type = list;
    snprintf(f->type, sizeof f->type, "%s", t->type);
    f->count = (int64_t)t->count;
    f->per_second = t->rate;
    return true;
}

static hark_err gather_events(shop *s, stats *st)
{
    hark_stats bus = {.size = sizeof bus};
    hark_err err = hark_stats_get(s->bus, &bus);
    st->events.total = (int64_t)bus.last_sequence;
    st->events.per_second = bus.rate;
    return err ? err : hark_stats_types(s->bus, take_type, st);
}

/* ---- consumers ---- */

static consumer_figures *find(stats *st, const char *name)
{
    for (size_t i = 0; i < st->n_consumers; i++)
        if (strcmp(st->consumers[i].name, name) == 0)
            return &st->consumers[i];
    return NULL;
}

static hark_err list_consumers(stats *st)
{
    for (size_t i = 0; consumer_at(i); i++) {
        void *list = st->consumers;
        consumer_figures *f = one_more(st, &list, &st->n_consumers, sizeof *f);
        if (!f)
            return HARK_ENOMEM;
        st->consumers = list;
        snprintf(f->name, sizeof f->name, "%s", consumer_at(i)->name);
    }
    return HARK_OK;
}

static bool take_stored(const hark_consumer_info *info, void *ud)
{
    consumer_figures *f = find(ud, info->name);
    if (f) {
        f->retrying = (int64_t)info->retrying;
        f->dead_letters = (int64_t)info->dead_letters;
    }
    return true;
}

static bool take_counted(const hark_consumer_stats *c, void *ud)
{
    consumer_figures *f = find(ud, c->consumer);
    if (f) {
        f->lag =
            (int64_t)(c->lag + c->deferred); /* hark's lag passes over what waits for a retry */
        f->open = (int64_t)(c->in_memory + c->deferred);
        f->running = (int64_t)c->running;
        f->per_second = c->rate;
    }
    return true;
}

static hark_err ask_why(shop *s, consumer_figures *f, hark_errinfo *ei)
{
    hark_why_info why = {.size = sizeof why};
    hark_err err = hark_why(s->bus, f->name, &why, ei);
    if (err)
        return err;
    snprintf(f->why, sizeof f->why, "%s", why.text);
    snprintf(f->why_code, sizeof f->why_code, "%s", hark_why_name(why.code));
    return HARK_OK;
}

static hark_err gather_consumers(shop *s, stats *st, hark_errinfo *ei)
{
    hark_err err = list_consumers(st);
    if (!err)
        err = hark_consumers(s->bus, take_stored, st, ei);
    if (!err)
        err = hark_stats_consumers(s->bus, take_counted, st);
    for (size_t i = 0; i < st->n_consumers && !err; i++)
        err = ask_why(s, &st->consumers[i], ei);
    return err;
}

/* ---- what analytics.c has counted ---- */

static bool take_totals(const hark_row *row, void *ud)
{
    stats *st = ud;
    const struct {
        const char *name;
        int64_t *n;
    } of[] = {
        {"orders:created", &st->orders.created}, {"orders:paid", &st->orders.paid},
        {"orders:shipped", &st->orders.shipped}, {"orders:cancelled", &st->orders.cancelled},
        {"revenue", &st->orders.revenue},        {"units", &st->orders.units},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++)
        if (strcmp(of[i].name, hark_row_text(row, 0)) == 0)
            *of[i].n = hark_row_int(row, 1);
    return true;
}

static bool take_product(const hark_row *row, void *ud)
{
    stats *st = ud;
    void *list = st->products;
    product_figures *f = one_more(st, &list, &st->n_products, sizeof *f);
    if (!f)
        return false;
    st->products = list;
    snprintf(f->sku, sizeof f->sku, "%s", hark_row_text(row, 0));
    f->ordered = hark_row_int(row, 1);
    f->gross = hark_row_int(row, 2);
    return true;
}

static hark_err gather_orders(shop *s, stats *st, hark_errinfo *ei)
{
    hark_err err = hark_query(s->bus, "SELECT name, n FROM analytics_totals", HARK_NO_ARGS,
                              take_totals, st, ei);
    return err ? err
               : hark_query(s->bus,
                            "SELECT sku, ordered, gross FROM analytics_products ORDER BY sku",
                            HARK_NO_ARGS, take_product, st, ei);
}

/* ---- all of it ---- */

hark_err stats_gather(shop *s, stats *ret, hark_errinfo *ei)
{
    *ret = (stats){.time = shop_now()};
    ei->text[0] = '\0'; /* not all of these calls explain */
    hark_err err = gather_events(s, ret);
    if (!err)
        err = gather_consumers(s, ret, ei);
    if (!err)
        err = gather_orders(s, ret, ei);
    return !err && ret->no_memory ? hark_errinfo_set(ei, HARK_ENOMEM, "no memory for the figures")
                                  : err;
}

HARK_JSON_TABLE(type_json, type_figures, HARK_JSON_CHARS(type_figures, type),
                HARK_JSON_INT(type_figures, count), HARK_JSON_DOUBLE(type_figures, per_second));
HARK_JSON_TABLE(events_json, event_figures, HARK_JSON_INT(event_figures, total),
                HARK_JSON_DOUBLE(event_figures, per_second),
                HARK_JSON_ARRAY(event_figures, by_type, n_types, &type_json));
HARK_JSON_TABLE(consumer_json, consumer_figures, HARK_JSON_CHARS(consumer_figures, name),
                HARK_JSON_INT(consumer_figures, lag), HARK_JSON_INT(consumer_figures, open),
                HARK_JSON_INT(consumer_figures, running), HARK_JSON_INT(consumer_figures, retrying),
                HARK_JSON_INT(consumer_figures, dead_letters),
                HARK_JSON_DOUBLE(consumer_figures, per_second),
                HARK_JSON_CHARS(consumer_figures, why),
                HARK_JSON_CHARS(consumer_figures, why_code));
HARK_JSON_TABLE(orders_json, order_figures, HARK_JSON_INT(order_figures, created),
                HARK_JSON_INT(order_figures, paid), HARK_JSON_INT(order_figures, shipped),
                HARK_JSON_INT(order_figures, cancelled),
                HARK_JSON_DECIMAL(order_figures, revenue, 2), HARK_JSON_INT(order_figures, units));
HARK_JSON_TABLE(product_json, product_figures, HARK_JSON_CHARS(product_figures, sku),
                HARK_JSON_INT(product_figures, ordered),
                HARK_JSON_DECIMAL(product_figures, gross, 2));
HARK_JSON_TABLE(stats_json, stats, HARK_JSON_TIME(stats, time),
                HARK_JSON_OBJECT(stats, events, &events_json),
                HARK_JSON_ARRAY(stats, consumers, n_consumers, &consumer_json),
                HARK_JSON_OBJECT(stats, orders, &orders_json),
                HARK_JSON_ARRAY(stats, products, n_products, &product_json));

const hark_json_table *stats_table(void)
{
    return &stats_json;
}

void stats_clear(stats *st)
{
    hark_json_free(&stats_json, st);
}
