/* hark/versions.h: what events look like as programs grow: upcasters, registered types, the version
 * gate.
 *
 * Every event has a `dataversion`, 1 unless given. Stored bytes never change. A program that knows
 * newer versions adds upcasters, each from one version of a type to a later one; those of a type
 * form one chain without a gap, whose end is the newest version that the program knows. Consumers,
 * live subscriptions, replays and readers are handed that version, or the one that they ask for
 * (`dataversion` in their options).
 *
 * Add upcasters and types right after hark_open: what is handed out before sees the older chain.
 */
#ifndef HARK_VERSIONS_H
#define HARK_VERSIONS_H

#include <hark/bus.h>
#include <hark/json.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- upcasters ------------------------------------------------------------------------------- */

/* The new data, as an upcaster makes it. */
typedef struct hark_upcast hark_upcast;

/* Makes the data of version `to` from an event of version `from`. It is a pure function: it may run
 * on any thread, several at once, and again for each delivery, and gives the same each time. An
 * error (say why with hark_upcast_fail) makes a consumer's delivery a dead letter with reason
 * "upcast"; redrive it when the upcaster is mended. HARK_ENOMEM only makes it wait for a second.
 * Giving no data and returning HARK_OK keeps the bytes. */
typedef hark_err (*hark_upcast_fn)(const hark_event *event, hark_upcast *out, void *ud);

typedef struct hark_upcaster {
    size_t size;
    const char *type; /* of events, not a pattern */
    int64_t from, to; /* versions; from < to */
    hark_upcast_fn fn;
    void *ud;
    void (*free_ud)(void *ud); /* when the bus is closed; may be NULL */
} hark_upcaster;

/* Adds a step to the chain of a type: the first one, or one that begins where the chain ends, or
 * ends where it begins.
 * Ownership: the strings are copied; ud goes to free_ud (not when this call fails).
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL (from or to below 1, to <= from: that would be a cycle; a pattern instead of
 * a type; no function), HARK_EEXIST (the chain has a step from that version, or over it), HARK_EGAP
 * (the step touches the chain nowhere: the text names the step that is missing), HARK_ECLOSED,
 * HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_upcaster_add(hark_bus *bus, const hark_upcaster *upcaster,
                                              hark_errinfo *ei);

/* Gives the new data: bytes, or a struct as JSON through its field table. The last call counts.
 * Ownership: copied.
 * Threads: the upcaster's.
 * Blocks: no.
 * Errors: HARK_ENOMEM, HARK_ETOOBIG; json: as hark_json_encode. Return it. */
HARK_API HARK_MUST hark_err hark_upcast_data(hark_upcast *out, const void *data, size_t len);
HARK_API HARK_MUST hark_err hark_upcast_json(hark_upcast *out, const hark_json_table *table,
                                             const void *from);

/* Returns `err` after keeping a text: return hark_upcast_fail(out, HARK_ESCHEMA, "…").
 * Ownership: copied.
 * Threads: the upcaster's.
 * Blocks: no.
 * Errors: the one given. */
HARK_API HARK_MUST hark_err hark_upcast_fail(hark_upcast *out, hark_err err, const char *fmt, ...)
    HARK_PRINTF(3, 4);

/* ---- typed events ---------------------------------------------------------------------------- */

/* One version of a type, as the program knows it. */
typedef struct hark_type {
    size_t size;
    const char *type;
    int64_t version;              /* 0 = 1 */
    const hark_json_table *table; /* of its data; must stay as long as the bus */
} hark_type;

/* Registers a version of a type. From then on what is published of that type must be JSON that fits
 * the table of its version, else HARK_ESCHEMA with the JSON path; a version that is not registered,
 * while others of its type are, is refused too. The highest one counts as known to the program, as
 * the end of a chain of upcasters does.
 * Ownership: the type's name is copied, the table borrowed.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL (table or name: the text says where), HARK_EEXIST, HARK_ECLOSED,
 * HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_type_add(hark_bus *bus, const hark_type *type, hark_errinfo *ei);

/* Publishes a struct as JSON through its field table; the spec gives the rest and no data.
 * hark_delivery_publish_json as hark_delivery_publish.
 * Ownership: everything is copied.
 * Threads: as hark_publish.
 * Blocks: as hark_publish.
 * Errors: as hark_publish; HARK_ESCHEMA (the struct breaks the table's rules), HARK_EINVAL
 * (table). */
HARK_API HARK_MUST hark_err hark_publish_json(hark_bus *bus, const hark_event_spec *spec,
                                              const hark_json_table *table, const void *from,
                                              hark_receipt *ret, hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_delivery_publish_json(hark_delivery *d,
                                                       const hark_event_spec *spec,
                                                       const hark_json_table *table,
                                                       const void *from, hark_receipt *ret,
                                                       hark_errinfo *ei);

/* Reads an event's JSON data into a struct through a field table, as hark_json_decode does.
 * hark_delivery_bind also keeps the faults with the attempt: answer HARK_REJECT.
 * Ownership: what the struct owns is the caller's: hark_json_free.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EMEDIA (its datacontenttype is not JSON), HARK_ESYNTAX, HARK_ESCHEMA, HARK_ETOOBIG,
 * HARK_EINVAL, HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_event_bind(const hark_event *event, const hark_json_table *table,
                                            void *ret_struct, hark_errinfo *ei);
HARK_API HARK_MUST hark_err hark_delivery_bind(hark_delivery *d, const hark_json_table *table,
                                               void *ret_struct);

/* ---- the version gate ------------------------------------------------------------------------ */

/* What the store has of one version of one type. Strings are borrowed for the call. */
typedef struct hark_version_info {
    const char *type;
    int64_t version;
    uint64_t events;       /* in the log */
    uint64_t dead_letters; /* their own copies */
    uint64_t schedules;    /* still to be published */
    /* Recorded times of the first and last one seen, also when it is no longer retained; 0 = only
     * scheduled or dead. */
    int64_t first_ns, last_ns;
    int64_t reads;    /* newest version that the program knows; 0 = none of this type */
    int64_t readable; /* not 0: there is a path to it, or the program knows nothing of it */
    const char *why;  /* if not: what is missing; else "" */
} hark_version_info;

typedef bool (*hark_version_fn)(const hark_version_info *info, void *ud);

/* Lists every (type, version) that the store has, in order; fn returns false to stop.
 * Ownership: info is borrowed for the call.
 * Threads: any that may block.
 * Blocks: on the store; fn must not call the bus.
 * Errors: HARK_EINVAL (no function), HARK_ENOTSUP (the store does not count them), HARK_ECLOSED,
 * HARK_EWRONGTHREAD, and the store's. */
HARK_API HARK_MUST hark_err hark_versions(hark_bus *bus, hark_version_fn fn, void *ud,
                                          hark_errinfo *ei);

/* Proves that everything stored has a path to what the program reads. Call it at start, after the
 * upcasters and types were added, and refuse to go on, or warn. fn (may be NULL) gets those that
 * have none.
 * Ownership: info is borrowed for the call.
 * Threads: any that may block.
 * Blocks: on the store; fn must not call the bus.
 * Errors: HARK_EUPCAST: the text names type, version and count of the first, and how many more
 * there are; as hark_versions. */
HARK_API HARK_MUST hark_err hark_versions_check(hark_bus *bus, hark_version_fn fn, void *ud,
                                                hark_errinfo *ei);

#ifdef __cplusplus
}
#endif
#endif
