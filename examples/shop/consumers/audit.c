/* audit.c: a row for each event that ever happened, dead letters too, under its place in the log. */
#include "../consumers.h"

static hark_err enter(hark_tx *tx, void *ud)
{
    const hark_event *e = ud;
    return hark_tx_exec(tx, "INSERT INTO audit VALUES(?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        HARK_ARGS(hark_int((int64_t)hark_event_sequence(e)),
                                  hark_text(hark_event_type(e)), hark_text(hark_event_subject(e)),
                                  hark_text(hark_event_correlationid(e)),
                                  hark_int(hark_event_recorded_ns(e))));
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    (void)s;
    hark_event *e = hark_event_ref(hark_delivery_event(d)); /* closures take no const */
    hark_err err = hark_delivery_transact(d, enter, e, SHOP_TX, NULL);
    hark_event_unref(e);
    return verdict_of(err);
}

const consumer audit = {
    .name = "audit", .pattern = "**|dead_letter", .handle = handle, .as_stored = true};
