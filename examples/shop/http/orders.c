/* http/orders.c: POST /orders and PUT /orders/:id/pay, ship, cancel. Each is a transaction: the rows
 * and the event are there, and the client is told, or none of it. What may happen to an order is
 * decided in order.c; here is only what HTTP has to do with it. Reading is in order_lists.c. */
#include "orders.h"

#include <stdio.h>
#include <string.h>

/* Money in a request is the shop's or nothing: 0, which is "not given" inside, is refused. */
#define MOST_CENTS 1000000000000
HARK_JSON_TABLE(wanted_item, item,
                HARK_JSON_CHARS(item, product_id, .required = true, .min_len = 1),
                HARK_JSON_INT(item, quantity, .required = true, HARK_JSON_RANGE(1, 1000)),
                HARK_JSON_DECIMAL(item, price, 2, HARK_JSON_RANGE(1, MOST_CENTS)));
HARK_JSON_TABLE(wanted_order, order,
                HARK_JSON_CHARS(order, user_id, .required = true, .min_len = 1),
                HARK_JSON_ARRAY(order, items, n_items, &wanted_item, .required = true, .min_len = 1,
                                .max_len = 50),
                HARK_JSON_CHARS(order, currency),
                HARK_JSON_DECIMAL(order, total, 2, HARK_JSON_RANGE(1, MOST_CENTS)));

/* ---- POST /orders ---- */

typedef struct placing {
    const shop *s;
    order asked;  /* as the client wants it */
    order placed; /* made from it by each run of the closure; its items are the request's memory */
    item teapots[1]; /* what who asks for nothing gets */
} placing;

static hark_err place(hark_ctx *c, hark_tx *tx, void *ud)
{
    placing *p = ud;
    order *o = &p->placed;
    item *items = o->items;
    char field[40];
    *o = p->asked;
    o->items = memcpy(items, p->asked.items, o->n_items * sizeof *items);
    hark_err err = order_place(tx, o, p->s->o.payment_due_ms, field);
    if (err == HARK_ENOTFOUND || err == HARK_ECONFLICT) /* status 422, as for other bad fields */
        return hark_ctx_fail_at(c, HARK_ESCHEMA, field, "%s", hark_tx_error(tx));
    if (err)
        return err;
    hark_ctx_set_header(c, "Location", hark_ctx_printf(c, "/orders/%s", o->id));
    return hark_ctx_json(c, 201, &order_json, o);
}

/* What `curl -X POST` orders, as in the guide. */
static void ask_for_teapots(placing *p)
{
    p->teapots[0] = (item){.product_id = "prod1", .quantity = 2};
    p->asked = (order){.user_id = "user123", .items = p->teapots, .n_items = 1, .currency = "EUR"};
}

static hark_err post_order(hark_ctx *c, void *ud)
{
    placing *p = hark_ctx_alloc(c, sizeof *p); /* place runs when this has returned */
    if (!p)
        return HARK_ENOMEM;
    *p = (placing){.s = ud, .asked = {.currency = "EUR"}};
    size_t len;
    hark_ctx_body(c, &len);
    if (len == 0)
        ask_for_teapots(p);
    hark_err err = hark_ctx_bind_optional(c, &wanted_order, &p->asked);
    if (err)
        return err; /* the reply lists what is wrong */
    if (strcmp(p->asked.currency, "EUR") != 0)
        return hark_ctx_fail_at(c, HARK_ESCHEMA, "$.currency", "is \"%s\", expected EUR",
                                p->asked.currency);
    order_new_id(p->asked.id);
    p->placed.items = hark_ctx_alloc(c, p->asked.n_items * sizeof(item));
    return p->placed.items ? hark_ctx_transact(c, place, p, SHOP_TX) : HARK_ENOMEM;
}

/* ---- PUT /orders/:id/pay, ship, cancel ---- */

typedef struct moving {
    const shop *s;
    const char *id;
    const char *done;   /* as it is told on the console */
    char reference[40]; /* in the body of pay */
    char reason[200];   /* in that of cancel */
    order o;
} moving;
HARK_JSON_TABLE(pay_body, moving, HARK_JSON_CHARS(moving, reference, .min_len = 1));
HARK_JSON_TABLE(cancel_body, moving, HARK_JSON_CHARS(moving, reason, .min_len = 1));

/* It is committed when the reply goes out. */
static void tell(hark_ctx *c, const hark_outcome *outcome, void *ud)
{
    moving *m = ud;
    (void)c;
    if (outcome->status == 200)
        story(m->s, "order %s: %s by hand%s%s", m->id, m->done, m->o.reason[0] ? ": " : "",
              m->o.reason);
    order_clear(&m->o);
}

static moving *begin(hark_ctx *c, const shop *s, const char *done)
{
    moving *m = hark_ctx_alloc(c, sizeof *m);
    if (!m)
        return NULL;
    *m = (moving){
        .s = s, .id = hark_ctx_param(c, "id"), .done = done, .reason = "the customer cancelled it"};
    return hark_ctx_on_done(c, tell, m) ? NULL : m;
}

static hark_err reply(hark_ctx *c, hark_err err, const order *o)
{
    return err ? err : hark_ctx_json(c, 200, &order_json, o);
}

static hark_err pay(hark_ctx *c, hark_tx *tx, void *ud)
{
    moving *m = ud;
    order_clear(&m->o); /* of a run before this one */
    hark_err err = order_pay(tx, m->id, m->reference[0] ? m->reference : NULL, &m->o);
    if (err != HARK_ECONFLICT || strcmp(m->o.status, "created") != 0)
        return reply(c, err, &m->o);
    hark_ctx_set_header(c, "Retry-After", "1"); /* nothing was changed, so this may be committed */
    return hark_ctx_problem(c, 409, NULL, hark_tx_error(tx));
}

static hark_err ship(hark_ctx *c, hark_tx *tx, void *ud)
{
    moving *m = ud;
    order_clear(&m->o);
    hark_err err = take_turn(m->s, tx);
    if (!err)
        err = order_ship(tx, m->id, &m->o);
    return reply(c, err, &m->o);
}

static hark_err cancel(hark_ctx *c, hark_tx *tx, void *ud)
{
    moving *m = ud;
    order_clear(&m->o);
    hark_err err = order_cancel(tx, m->id, m->reason, &m->o);
    return reply(c, err, &m->o);
}

/* What customers write is shown to others, on a console too. */
static hark_err refuse_control(hark_ctx *c, const char *path, const char *text)
{
    return text_is_plain(text) ? HARK_OK
                               : hark_ctx_fail_at(c, HARK_ESCHEMA, path,
                                                  "has a control character, expected letters");
}

static hark_err put_pay(hark_ctx *c, void *ud)
{
    moving *m = begin(c, ud, "paid");
    hark_err err = m ? hark_ctx_bind_optional(c, &pay_body, m) : HARK_ENOMEM;
    if (!err)
        err = refuse_control(c, "$.reference", m->reference);
    return err ? err : hark_ctx_transact(c, pay, m, SHOP_TX);
}

static hark_err put_ship(hark_ctx *c, void *ud)
{
    moving *m = begin(c, ud, "shipped");
    return m ? hark_ctx_transact(c, ship, m, SHOP_TX) : HARK_ENOMEM;
}

static hark_err put_cancel(hark_ctx *c, void *ud)
{
    moving *m = begin(c, ud, "cancelled");
    hark_err err = m ? hark_ctx_bind_optional(c, &cancel_body, m) : HARK_ENOMEM;
    if (!err)
        err = refuse_control(c, "$.reason", m->reason);
    return err ? err : hark_ctx_transact(c, cancel, m, SHOP_TX);
}

void shop_order_routes(shop *s)
{
    hark_post(s->app, "/orders", post_order, s);
    hark_put(s->app, "/orders/:id/pay", put_pay, s);
    hark_put(s->app, "/orders/:id/ship", put_ship, s);
    hark_put(s->app, "/orders/:id/cancel", put_cancel, s);
    shop_order_lists(s);
}
