/* inventory.c: reserves stock for a new order, gives it back when the order is cancelled. It never
 * gives up: neither shall an order wait for ever, nor stock be lost. */
#include "../consumers.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct movement {
    job job;
    order o;
    bool done;
} movement;

static void clear(job *j)
{
    order_clear(&((movement *)j)->o);
}

/* "2 x prod1, 1 x prod3", cut short when it is long. */
static const char *items_text(const order *o, char buf[120])
{
    size_t len = 0;
    buf[0] = '\0';
    for (size_t i = 0; i < o->n_items && len < 100; i++)
        len += (size_t)snprintf(buf + len, 120 - len, "%s%" PRId64 " x %s", i ? ", " : "",
                                o->items[i].quantity, o->items[i].product_id);
    if (len >= 100)
        memcpy(buf + 100, "...", 4);
    return buf;
}

static void tell(const shop *s, const order *o)
{
    char items[120], money[MONEY_TEXT];
    story(s, "order %s: placed by %s, %s, %s", o->id, o->user_id, items_text(o, items),
          money_text(o->total, o->currency, money));
}

static hark_err reserve(hark_tx *tx, void *ud)
{
    movement *m = ud;
    hark_err err = take_turn(m->job.s, tx);
    return err ? err : order_reserve(tx, &m->o, &m->done);
}

static hark_verdict reserved(job *j, hark_err err)
{
    const movement *m = (const movement *)j;
    if (!err)
        tell(j->s, &m->o); /* not before: it is told once, however many attempts it took */
    if (!err && m->done)
        story(j->s, "order %s: stock reserved", m->o.id);
    return verdict_of(err);
}

static hark_err release(hark_tx *tx, void *ud)
{
    movement *m = ud;
    hark_err err = take_turn(m->job.s, tx);
    return err ? err : order_release(tx, &m->o, &m->done);
}

static hark_verdict released(job *j, hark_err err)
{
    const movement *m = (const movement *)j;
    if (!err && m->done)
        story(j->s, "order %s: stock given back", m->o.id);
    return verdict_of(err);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    movement *m = job_new(s, sizeof *m, clear);
    if (!m)
        return HARK_RETRY;
    if (!read_order(d, &m->o))
        return job_drop(&m->job, HARK_REJECT);
    return is_type(d, "order:created") ? job_do(&m->job, d, reserve, reserved)
                                       : job_do(&m->job, d, release, released);
}

const consumer inventory = {.name = "inventory",
                            .pattern = "order:created|order:cancelled",
                            .handle = handle,
                            .max_attempts = -1};
