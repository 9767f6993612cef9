/* tx_schedule.c: publishing later, from inside a closure. The store keeps the schedule at once, in
 * the group's transaction, where the closure's other rows are; the queue in memory learns of it only when the group is committed, and
 * only of what the last run did. Where a commit's outcome is unknown it learns nothing: the next
 * open finds what is stored. */
#include "bus/tx_i.h"

#include <stdlib.h>

static hark_err check_run(hark_tx *tx, const char *call)
{
    if (!tx->appended)
        return HARK_OK;
    return hk_fail(&tx->ei, HARK_EINVAL,
                   "%s after the closure has returned: call it in the closure itself", call);
}

static bool room_for_due(hark_tx *tx)
{
    if (tx->n_dues < tx->cap_dues)
        return true;
    size_t cap = tx->cap_dues ? tx->cap_dues * 2 : 4;
    hk_due *dues = realloc(tx->dues, cap * sizeof *dues);
    if (dues) {
        tx->dues = dues;
        tx->cap_dues = cap;
    }
    return dues != NULL;
}

static hark_err prepare(hark_tx *tx, const char *call)
{
    hark_err err = check_run(tx, call);
    if (!err && !room_for_due(tx))
        err = hk_fail(&tx->ei, HARK_ENOMEM, "no memory for the schedules of a transaction");
    return err;
}

static hark_err keep(hark_tx *tx, hk_scheduling *x, hark_schedule_id *ret)
{
    bool duplicate;
    hark_err err = hk_scheduling_keep(tx->bus, x, &duplicate, &tx->ei);
    if (err)
        return err;
    if (ret)
        *ret = x->due.id;
    if (!duplicate) {
        tx->dues[tx->n_dues++] = x->due;
        x->due.room = NULL;
    }
    return HARK_OK;
}

hark_err hark_tx_schedule(hark_tx *tx, const hark_event_spec *spec, hark_when when,
                          hark_schedule_id *ret)
{
    hark_event_spec s;
    hk_scheduling x;
    char id[HK_UUID_TEXT + 1];
    hark_err err = hk_opts_take(spec, &s, sizeof s, "hark_event_spec", &tx->ei);
    if (!err)
        err = prepare(tx, "hark_tx_schedule");
    if (err)
        return err;
    unsigned flags = hk_tx_stamp(tx, &s, id);
    err = hk_scheduling_make(tx->bus, &s, when, &x, &tx->ei);
    if (err)
        return err;
    x.sch.first_stands = (flags & HK_PUB_FIRST_STANDS) != 0;
    err = keep(tx, &x, ret);
    if (!err && x.sch.first_stands)
        tx->ordinal++;
    hk_scheduling_clear(tx->bus, &x);
    return err;
}

hark_err hark_tx_schedule_cancel(hark_tx *tx, hark_schedule_id id)
{
    hark_err err = prepare(tx, "hark_tx_schedule_cancel");
    if (!err)
        err = tx->bus->ops->schedule_drop(tx->bus->store, id, &tx->ei);
    if (!err)
        tx->dues[tx->n_dues++] = (hk_due){.id = id};
    return err;
}

void hk_tx_dues_queue(hark_tx *tx)
{
    for (size_t i = 0; i < tx->n_dues; i++)
        if (tx->dues[i].room)
            (void)hk_due_queue(tx->bus, &tx->dues[i]);
        else
            hk_schedule_done(tx->bus, tx->dues[i].id);
    if (tx->n_dues) /* the writer may be asleep, until what was due so far */
        hk_inbox_wake(&tx->bus->writer.inbox);
    hk_tx_dues_drop(tx);
}

void hk_tx_dues_drop(hark_tx *tx)
{
    while (tx->n_dues)
        hk_due_drop(tx->bus, &tx->dues[--tx->n_dues]);
}
