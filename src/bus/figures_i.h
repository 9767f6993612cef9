/* figures_i.h: what is counted of a bus, its types and its consumers (stats.c), where it happens. A part of bus_i.h. */
#ifndef HK_FIGURES_I_H
#define HK_FIGURES_I_H

#include "base/base.h"
#include "delivery/delivery.h"
#include "event/event.h"

#include <hark/bus.h>

enum { HK_TYPES_MAX = 4096, HK_TYPE_BUCKETS = 1024 };

/* Of one type. Linked once, freed with the bus; written by dispatch. */
typedef struct hk_type_figures {
    struct hk_type_figures *next;  /* set before it is linked */
    struct hk_type_figures *chain; /* dispatch's: same bucket */
    hk_count count, bytes, first_ns, last_ns;
    hk_rate rate;
    char type[];
} hk_type_figures;

/* What the bus as a whole published, and at what rate, is the sum over its types. */
typedef struct hk_figures {
    hk_mark types; /* the list's head, a pointer; newest first */
    /* dispatch's */
    hk_type_figures *buckets[HK_TYPE_BUCKETS];
    hk_type_figures *other; /* of the types beyond the first HK_TYPES_MAX; NULL = none yet */
    size_t n_types;
    /* the writer's */
    hk_count duplicates, commits, failed_commits;
    hk_hist commit;
} hk_figures;

/* Of one consumer; written under its lock. */
typedef struct hk_consumer_figures {
    hk_hist wait, handler;
    hk_rate rate;
} hk_consumer_figures;

struct hk_consumer;

void hk_figures_free(hark_bus *bus);
/* Dispatch's. `type` NULL: of those that have no figures of their own; NULL without memory. */
hk_type_figures *hk_figures_type(hark_bus *bus, const char *type, size_t len);
/* Dispatch's, for each event, on the hot path: plain stores and no clock. The event is stamped. `t`
 * NULL: of an unknown type. */
static inline void hk_figures_shown(hark_bus *bus, hk_type_figures *t, const hark_event *e)
{
    if (HK_UNLIKELY(!t) && !(t = hk_figures_type(bus, NULL, 0)))
        return;
    int64_t at = hk_event_made_ns(e);
    size_t bytes;
    (void)hark_event_data(e, &bytes);
    if (HK_UNLIKELY(!hk_count_get(&t->count)))
        hk_count_set(&t->first_ns, (uint64_t)at);
    hk_count_set(&t->last_ns, (uint64_t)at);
    hk_count_bump(&t->bytes, bytes);
    hk_rate_add(&t->rate, at, 1);
    hk_count_bump(&t->count, 1);
}
/* The writer's: an event was made then and is committed now, wall clock. */
void hk_figures_committed(hark_bus *bus, int64_t made_ns, int64_t now_wall);
/* Under the consumer's lock. */
void hk_figures_started(struct hk_consumer *c, const hark_delivery *d, hk_now now);
void hk_figures_settled(struct hk_consumer *c, const hark_delivery *d, hk_now now);

#endif
