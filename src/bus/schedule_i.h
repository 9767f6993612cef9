/* schedule_i.h: an event to be published later on its way into the store and into the queue of what
 * is due when; for schedule.c, which has the calls that wait for a commit, and tx_schedule.c, which
 * has those of closures. */
#ifndef HK_SCHEDULE_I_H
#define HK_SCHEDULE_I_H

#include "bus/bus_i.h"

/* What the queue is to learn after the commit. The room is taken before, so that it cannot fail. */
typedef struct hk_due {
    hk_sched_entry *room; /* NULL: nothing */
    uint64_t id;
    int64_t due; /* mono for by_delay, else wall */
    bool by_delay;
} hk_due;

/* True: taken over; hk_inbox_wake is the caller's. False: the bus is closed, nothing has changed. */
bool hk_due_queue(hark_bus *bus, hk_due *due);
void hk_due_drop(hark_bus *bus, hk_due *due);

typedef struct hk_scheduling {
    hark_store_schedule sch;
    hk_due due; /* its id is not known before it is kept */
} hk_scheduling;

/* The event of a spec that was taken, checked as one that is published; nothing is stored yet. */
hark_err hk_scheduling_make(hark_bus *bus, const hark_event_spec *spec, hark_when when,
                            hk_scheduling *ret, hark_errinfo *ei);
/* In a group. *ret_duplicate: due.id is that of a schedule that was there already, or with
 * first_stands 0 when its event is in the log. HARK_EEXIST: it is in the log. */
hark_err hk_scheduling_keep(hark_bus *bus, hk_scheduling *x, bool *ret_duplicate, hark_errinfo *ei);
void hk_scheduling_clear(hark_bus *bus, hk_scheduling *x);

#endif
