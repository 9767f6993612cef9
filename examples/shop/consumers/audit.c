/* audit.c: a row for each event that ever happened, dead letters too, under its place in the log: what
 * it was about, who it concerns, and which event or request it came of. */
#include "../consumers.h"

typedef struct entry {
    job job;
    hark_event *event;
    uint64_t sequence;
    int64_t recorded;
} entry;

static void clear(job *j)
{
    hark_event_unref(((entry *)j)->event);
}

static hark_err enter(hark_tx *tx, void *ud)
{
    const entry *row = ud;
    const hark_event *e = row->event;
    return hark_tx_exec(
        tx,
        "INSERT INTO audit(seq, type, subject, userid, correlationid, causationid, recorded_at) "
        "VALUES(?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        HARK_ARGS(hark_int((int64_t)row->sequence), hark_text(hark_event_type(e)),
                  hark_text(hark_event_subject(e)), hark_text(hark_event_attr(e, "userid")),
                  hark_text(hark_event_correlationid(e)), hark_text(hark_event_causationid(e)),
                  hark_int(row->recorded)));
}

static hark_verdict handle(shop *s, hark_delivery *d)
{
    entry *e = job_new(s, sizeof *e, clear);
    if (!e)
        return HARK_RETRY;
    e->event = hark_event_ref(hark_delivery_event(d));
    e->sequence = hark_delivery_sequence(d);
    e->recorded = hark_delivery_recorded_ns(d);
    return job_do(&e->job, d, enter, NULL);
}

const consumer audit = {
    .name = "audit", .pattern = "**|dead_letter", .handle = handle, .as_stored = true};
