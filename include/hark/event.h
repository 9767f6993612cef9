/* hark/event.h: the event, an immutable CloudEvents 1.0.2 envelope with opaque data bytes.
 *
 * Format: CloudEvents 1.0.2 and its JSON event format (cloudevents.io). Extensions of ours are
 * `dataversion`, `correlationid`, `causationid`, `traceparent` and `partitionkey`; all but the
 * first are registered CloudEvents extensions.
 */
#ifndef HARK_EVENT_H
#define HARK_EVENT_H

#include <hark/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Durability classes of a receipt, in rising order (DESIGN promise 1). */
typedef enum hark_durability {
    HARK_ANY = 0,       /* no demand */
    HARK_MEMORY = 1,    /* lost with the process */
    HARK_OS = 2,        /* survives a crash of the process */
    HARK_DISK = 3,      /* fsync done: survives power loss */
    HARK_REPLICATED = 4 /* on more than one machine */
} hark_durability;

/* "memory", "os", "disk", "replicated"; "any" for HARK_ANY.
 * Ownership: static string.
 * Threads: any.
 * Blocks: no.
 * Errors: none; an unknown value gives "?". */
HARK_API const char *hark_durability_name(hark_durability d);

typedef enum hark_ext_kind {
    HARK_EXT_STRING = 0,
    HARK_EXT_INTEGER = 1, /* signed 32-bit, as decimal text */
    HARK_EXT_BOOLEAN = 2  /* "true" or "false" */
} hark_ext_kind;

/* A CloudEvents extension attribute: name of [a-z0-9], value as text. */
typedef struct hark_ext {
    const char *name;
    const char *value;
    hark_ext_kind kind;
    int reserved; /* 0 */
} hark_ext;

/* What an event is made from. Everything is borrowed for the call and copied. Only `type` must be
 * given to publish. Strings are UTF-8 without control characters. */
typedef struct hark_event_spec {
    size_t size;                 /* sizeof(hark_event_spec), set by HARK_OPTS */
    const char *type;            /* the event's name, e.g. "order:created" */
    const char *id;              /* NULL = a fresh UUIDv7 */
    const char *source;          /* NULL = the bus's source; a URI reference */
    const char *subject;         /* what the event is about, e.g. an order's id; may be NULL */
    const char *key;             /* `partitionkey`; NULL = order is kept by subject */
    const char *time;            /* RFC 3339, kept as written; NULL = now */
    const char *datacontenttype; /* NULL = none given (application/json when `json` is used) */
    const char *dataschema;      /* absolute URI or NULL */
    const char *correlationid;   /* NULL = stamped from the request or delivery, if any */
    const char *causationid;     /* NULL = likewise */
    const char *traceparent;     /* W3C trace context of the start; may be NULL */
    int64_t dataversion;         /* version of the data's structure; 0 = 1; up to 2^31-1 */
    const char *json;            /* data as NUL-terminated JSON text, instead of data/data_len */
    const void *data;            /* data bytes; NULL = no data */
    size_t data_len;             /* bytes of data */
    const hark_ext *extensions;  /* further extension attributes */
    size_t n_extensions;
    int64_t min_durability; /* a hark_durability the receipt must reach, else HARK_EDURABILITY */
    /* Version of the subject before this event: 0 = any, HARK_EXPECT_NONE = it has no event yet,
     * N = it is at N; else HARK_EVERSION. */
    int64_t expected_version;
} hark_event_spec;

/* The version of a subject counts its events, from 1; retention does not lower it. */
#define HARK_EXPECT_NONE (-1)

typedef struct hark_event hark_event;

/* Limits. An attribute's value may have 64 KiB; data is limited by the bus's max_event_bytes. */
#define HARK_TYPE_MAX       255
#define HARK_ATTR_MAX       65535
#define HARK_EXTENSIONS_MAX 64
#define HARK_SEQ_MAX        ((UINT64_C(1) << 53) - 1)

/* Makes an event from a spec. Publishing does this itself; useful for codecs and tests. `source`
 * must be given here.
 * Ownership: *ret holds one reference; the spec is copied.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_EINVAL (the text names the attribute), HARK_ETOOBIG, HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_event_new(const hark_event_spec *spec, hark_event **ret,
                                           hark_errinfo *ei);

/* Takes another reference.
 * Ownership: returns e; NULL stays NULL.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API hark_event *hark_event_ref(const hark_event *e);

/* Drops a reference; the last one recycles the event.
 * Ownership: takes the reference; NULL is fine; returns NULL.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API hark_event *hark_event_unref(const hark_event *e);

/* The attributes. Optional ones are NULL when absent; `correlationid` and the like are found by
 * hark_event_attr too. hark_event_key is what order is kept by: `partitionkey`, else `subject`.
 * Ownership: borrowed from the event.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_event_type(const hark_event *e);
HARK_API const char *hark_event_id(const hark_event *e);
HARK_API const char *hark_event_source(const hark_event *e);
HARK_API const char *hark_event_subject(const hark_event *e);
HARK_API const char *hark_event_key(const hark_event *e);
HARK_API const char *hark_event_partitionkey(const hark_event *e);
HARK_API const char *hark_event_datacontenttype(const hark_event *e);
HARK_API const char *hark_event_dataschema(const hark_event *e);
HARK_API const char *hark_event_correlationid(const hark_event *e);
HARK_API const char *hark_event_causationid(const hark_event *e);
HARK_API const char *hark_event_traceparent(const hark_event *e);

/* Version of the data's structure, 1 unless given.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API int64_t hark_event_dataversion(const hark_event *e);

/* The data bytes, exactly as published; NULL and 0 when there are none. One NUL follows them.
 * Ownership: borrowed from the event.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API const void *hark_event_data(const hark_event *e, size_t *ret_len);

/* `time` in nanoseconds since 1970 UTC, and as RFC 3339 text (the publisher's own text if given).
 * Ownership: hark_event_time_text writes into `buf` of at least HARK_TIME_TEXT bytes, returns it.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
#define HARK_TIME_TEXT 64
HARK_API int64_t hark_event_time_ns(const hark_event *e);
HARK_API const char *hark_event_time_text(const hark_event *e, char buf[HARK_TIME_TEXT]);

/* Place in the log and the time it was recorded there (ns since 1970 UTC); 0 outside a log.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API uint64_t hark_event_sequence(const hark_event *e);
HARK_API int64_t hark_event_recorded_ns(const hark_event *e);

/* Which event of its subject it is, from 1; 0 = it has no subject, is not from a log, is a copy
 * kept with a dead letter, or the store keeps no versions (`memory:`).
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API int64_t hark_event_subject_version(const hark_event *e);

/* Number of further extension attributes, and the i-th in order of name (false past the end).
 * Ownership: *ret borrows from the event.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API size_t hark_event_extensions(const hark_event *e);
HARK_API bool hark_event_extension(const hark_event *e, size_t i, hark_ext *ret);

/* Any string attribute or extension by name; NULL when absent. `time` and `dataversion` have
 * accessors of their own and are not found here.
 * Ownership: borrowed from the event.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API const char *hark_event_attr(const hark_event *e, const char *name);

/* Is this media type JSON: subtype `json` or `*+json`? NULL counts as JSON, as in CloudEvents.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API bool hark_media_is_json(const char *datacontenttype);

/* The event in the CloudEvents JSON format. JSON data is written byte for byte; other text as a
 * JSON string; anything else (or JSON that is not valid) as `data_base64`.
 * Ownership: *ret is malloc'ed and NUL-terminated; free() it.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_event_to_json(const hark_event *e, char **ret, size_t *ret_len);

/* Reads one event in the CloudEvents JSON format, `data` byte for byte. `spec` defaults (may be
 * NULL) fill in what the document leaves out: source, id and time only.
 * Ownership: *ret holds one reference.
 * Threads: any.
 * Blocks: no.
 * Errors: HARK_ESYNTAX (byte offset in the text), HARK_ESCHEMA (the text names the attribute),
 * HARK_ETOOBIG, HARK_ENOMEM. */
HARK_API HARK_MUST hark_err hark_event_from_json(const char *text, size_t len,
                                                 const hark_event_spec *defaults, hark_event **ret,
                                                 hark_errinfo *ei);

/* Reads a CloudEvents JSON batch, an array; all or none. [] gives 0 events.
 * Ownership: *ret is an array of *ret_n references; give it to hark_events_free.
 * Threads: any.
 * Blocks: no.
 * Errors: as hark_event_from_json; the text names the element as $[i]. */
HARK_API HARK_MUST hark_err hark_events_from_json(const char *text, size_t len,
                                                  const hark_event_spec *defaults,
                                                  hark_event ***ret, size_t *ret_n,
                                                  hark_errinfo *ei);

/* Drops every reference and the array.
 * Ownership: takes the array; NULL is fine.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_events_free(hark_event **events, size_t n);

/* A spec that borrows everything from an event, to publish it again elsewhere. `extensions` must
 * have room for hark_event_extensions(e); `time_buf` backs the time.
 * Ownership: the spec borrows from e and the buffers.
 * Threads: any.
 * Blocks: no.
 * Errors: none. */
HARK_API void hark_event_to_spec(const hark_event *e, hark_ext *extensions,
                                 char time_buf[HARK_TIME_TEXT], hark_event_spec *ret);

/* Patterns: a type in which `*` stands for one segment and a final `**` for any rest, also none.
 * Segments end at ':', '.' or '/'. hark's own types ("hark:..." and "dead_letter") match only where
 * the pattern names that first segment. Several patterns may be given with '|' between them:
 * "order:created|payment:*" matches what one of them matches; 255 bytes in all; what
 * a type with a '|' in its name is matched by is a wildcard only. Runs without recursion and without
 * going back, once through for each alternative.
 * Ownership: none.
 * Threads: any.
 * Blocks: no.
 * Errors: hark_pattern_check returns HARK_EINVAL with a text that says where. */
HARK_API HARK_MUST hark_err hark_pattern_check(const char *pattern, hark_errinfo *ei);
HARK_API bool hark_pattern_match(const char *pattern, const char *type);

#ifdef __cplusplus
}
#endif
#endif
