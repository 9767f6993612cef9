/* versions_i.h: which version of an event's data is handed out, and what may be published:
 * versions.c, fit.c (consumers), typed.c (registered types). */
#ifndef HK_VERSIONS_I_H
#define HK_VERSIONS_I_H

#include "bus/bus_i.h"

/* versions.c: which version of an event's data is handed out. */
/* May anything but the stored one be wanted? */
static inline bool hk_upcast_matters(hark_bus *bus, int64_t wanted)
{
    return wanted > 0 || (wanted == 0 && hk_mark_get(&bus->versions) != 0);
}
hark_err hk_upcast_opt_check(const char *opts, int64_t wanted, hark_errinfo *ei);
/* What is known of an event's type; NULL = nothing. It lives as long as the bus. */
const hk_known *hk_upcast_known(hark_bus *bus, const hark_event *e);
/* What has to be done to hand it out; as hk_known_plan, with its type and version before the
 * text. */
hk_fit hk_upcast_plan(hark_bus *bus, const hark_event *e, int64_t wanted, hk_upcast_path *ret,
                      hark_errinfo *ei);
/* And does it, without any lock: *e, a reference, is replaced when upcasters run. HK_FIT_NONE:
 * ei->err is HARK_EUPCAST, or HARK_ENOMEM, which may pass. */
hk_fit hk_upcast_event(hark_bus *bus, hark_event **e, int64_t wanted, hark_errinfo *ei);
void hk_upcast_free(hark_bus *bus);

/* typed.c: the spec with a struct as its data, which *ret_json owns: free() it, also after an
 * error. */
hark_err hk_spec_with_json(const hark_event_spec *given, const hark_json_table *table,
                           const void *from, hark_event_spec *ret, char **ret_json,
                           hark_errinfo *ei);
/* Whether an event of a registered type is what it should be. HARK_ESCHEMA, HARK_ENOMEM. */
hark_err hk_type_check(hark_bus *bus, const hark_event *e, hark_errinfo *ei);

/* fit.c: events in the version that the consumer reads. */
/* Under the lock: true, and it is ended, when what was started cannot be handed out; it has its
 * payload. */
bool hk_consumer_refuse(hk_consumer *c, const hk_started *st, hk_now now);
/* Without any lock, as it calls upcasters: brings the delivery's event to that version. False: the
 * delivery is settled, and only to be cleared. */
bool hk_consumer_brought(hark_delivery *d);
static inline bool hk_consumer_fit(hark_delivery *d)
{
    return !d->event || HK_LIKELY(!hk_upcast_matters(d->sub->bus, d->sub->dataversion)) ||
           hk_consumer_brought(d);
}

#endif
