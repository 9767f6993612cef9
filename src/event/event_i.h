/* event_i.h: layout of an event. One block: this head, the attribute strings, then the data with a
 * NUL, then `extra`. Large data has a block of its own. */
#ifndef HK_EVENT_I_H
#define HK_EVENT_I_H

#include "event/event.h"

enum {
    HK_AT_TYPE,
    HK_AT_ID,
    HK_AT_SOURCE,
    HK_AT_SUBJECT,
    HK_AT_KEY,
    HK_AT_CONTENTTYPE,
    HK_AT_SCHEMA,
    HK_AT_CORRELATION,
    HK_AT_CAUSATION,
    HK_AT_TRACE,
    HK_AT_TIME,
    HK_AT_COUNT
};

/* Data up to this many bytes lies in the event's own block. */
#define HK_INLINE_DATA 4096

struct hark_event {
    hk_ref ref; /* first: see hk_slab_alloc */
    int32_t dataversion;
    uint64_t seq;
    int64_t recorded_ns;
    int64_t subject_version; /* 0 = not known */
    int64_t time_ns;
    char *data; /* inside the block or malloc'ed */
    size_t data_len;
    uint32_t footprint;
    uint16_t n_ext;
    uint16_t ext_at;   /* offset of the extension table */
    uint16_t extra_at; /* offset of the extra room; 0 = none */
    uint16_t type_len;
    uint16_t at[HK_AT_COUNT]; /* offsets of the strings; 0 = absent */
};

/* An extension in the block; name and value are offsets. */
typedef struct hk_ext_entry {
    uint16_t name, value;
    uint16_t kind;
} hk_ext_entry;

/* Names of the string attributes in HK_AT_ order. */
extern const char *const hk_attr_names[HK_AT_COUNT];

#endif
