/* shipping.c: ships what is paid. It never gives up: who has paid gets the goods. */
#include "../consumers.h"

#include <string.h>

typedef struct parcel {
    job job;
    char order_id[40];
} parcel;

static hark_err ship(hark_tx *tx, void *ud)
{
    const parcel *p = ud;
    hark_err err = take_turn(p->job.s, tx);
    return err ? err : order_ship(tx, p->order_id, NULL);
}

static hark_verdict shipped(job *j, hark_err err)
{
    const char *id = ((parcel *)j)->order_id;
    if (err == HARK_ECONFLICT)
        return HARK_ACK; /* shipped by hand, or cancelled meanwhile */
    if (!err)
        story(j->s, "order %s: shipped, parcel track-%s", id, id + strlen("ord-"));
    return verdict_of(err);
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    if (s->o.manual_shipping)
        return HARK_ACK;
    parcel *p = job_new(s, sizeof *p, NULL);
    if (!p)
        return HARK_RETRY;
    return read_order_id(d, p->order_id) ? job_do(&p->job, d, ship, shipped)
                                         : job_drop(&p->job, HARK_REJECT);
}

const consumer shipping = {
    .name = "shipping", .pattern = "order:paid", .handle = handle, .max_attempts = -1};
