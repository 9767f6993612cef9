/* loyalty.c: a point for each whole EUR that is paid, and at least one. */
#include "../consumers.h"

typedef struct reward {
    job job;
    order o;
} reward;

static void clear(job *j)
{
    order_clear(&((reward *)j)->o);
}

static hark_err credit(hark_tx *tx, void *ud)
{
    const order *o = &((reward *)ud)->o;
    int64_t points = o->total >= 200 ? o->total / 100 : 1;
    return hark_tx_exec(
        tx, "INSERT INTO points(order_id, user_id, points) VALUES(?, ?, ?) ON CONFLICT DO NOTHING",
        HARK_ARGS(hark_text(o->id), hark_text(o->user_id), hark_int(points)));
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    reward *r = job_new(s, sizeof *r, clear);
    if (!r)
        return HARK_RETRY;
    return read_order(d, &r->o) ? job_do(&r->job, d, credit, NULL) : job_drop(&r->job, HARK_REJECT);
}

const consumer loyalty = {.name = "loyalty", .pattern = "order:paid", .handle = handle};
