/* event: the event object, CloudEvents codecs, patterns. Front header for the folders above; users
 * see <hark/event.h>. May use base and json. */
#ifndef HK_EVENT_H
#define HK_EVENT_H

#include "base/base.h"

#include <hark/event.h>
#include <hark/store.h>

/* Flags of hk_event_make. */
enum {
    HK_EVENT_TRUSTED = 1 /* the spec comes from our own store: skip the checks of attributes */
};

/* Makes an event with `refs` references. `now_ns` becomes `time` unless the spec gives one, and is
 * kept as the provisional recorded time. `source` is used when the spec gives none. `extra` bytes
 * of zeroed room, 8-aligned, live as long as the event (hk_event_extra). The spec is complete:
 * source is set; id NULL = a fresh UUIDv7. */
hark_err hk_event_make(const hark_event_spec *spec, const char *source, int64_t now_ns,
                       unsigned refs, size_t extra, unsigned flags, hark_event **ret,
                       hark_errinfo *ei);

void *hk_event_extra(hark_event *e);
void hk_event_ref_n(hark_event *e, unsigned n); /* n more references */
/* The clock reading that the event was made with, until a log stamps it. */
int64_t hk_event_made_ns(const hark_event *e);
/* Bytes that the event occupies, for accounting. */
size_t hk_event_footprint(const hark_event *e);
size_t hk_event_type_len(const hark_event *e);
/* The publisher's own text for `time`; NULL when it was made from the clock. */
const char *hk_event_time_given(const hark_event *e);
/* Hints the processor that the event will be read and released soon. */
static inline void hk_event_prefetch(const hark_event *e)
{
    __builtin_prefetch(e, 1, 3);
}

/* Digest over what makes a repeat a duplicate: type, subject, datacontenttype, dataschema,
 * dataversion, partitionkey and data (DESIGN promise 3). `key` is the log's id. */
void hk_event_digest(const hark_event *e, const uint8_t key[16], uint8_t ret[16]);

/* ---- a tail: the newest events of a log, in memory
 * ----------------------------------------------- */

/* Any thread fills positions that were claimed for it and are free; one thread at a time admits
 * them in order, which bounds what is kept, and shows them; any thread reads what was shown. */
typedef struct hk_tail {
    hk_seqring *ring;
    size_t lap;       /* positions of the ring: twice what is kept, so that slots are free early */
    size_t capacity;  /* events kept */
    size_t max_bytes; /* and their bytes, but for the newest event */
    size_t bytes;     /* the admitting thread's */
    uint32_t *sizes;  /* likewise; by sequence modulo lap */
    hk_mark *types; /* likewise a hash of the type, so that readers pass over events unseen; 0 = not
                         known, as before hk_tail_know_types */
    _Alignas(HK_CACHELINE) hk_mark visible; /* last sequence shown */
    hk_mark oldest;                         /* first one kept */
    hk_mark know_types;
} hk_tail;

hark_err hk_tail_init(hk_tail *t, size_t events, size_t bytes);
void hk_tail_free(hk_tail *t); /* a zeroed one is fine */
/* There are readers of few types among many: what is admitted from now on is noted by its type. */
void hk_tail_know_types(hk_tail *t);
/* The log goes on after `seq`; nothing is kept yet. */
void hk_tail_start(hk_tail *t, uint64_t seq);
static inline bool hk_tail_slot_free(hk_tail *t, uint64_t seq)
{
    return seq < hk_mark_get(&t->oldest) + t->lap;
}
void hk_tail_fill(hk_tail *t, uint64_t seq, hark_event *e); /* takes over one reference */
hark_event *hk_tail_filled(hk_tail *t, uint64_t seq);       /* borrowed; NULL = not filled yet */
void hk_tail_admit(hk_tail *t, uint64_t seq, const hark_event *e);
static inline void hk_tail_show(hk_tail *t, uint64_t seq)
{
    hk_mark_set(&t->visible, seq);
}
hark_event *hk_tail_get(hk_tail *t, uint64_t seq); /* a reference; NULL = not kept */

/* Whether an event is one that a query asks for, its range of sequences aside. */
bool hk_query_wants(const hark_store_query *q, const hark_event *e);
/* Answers a query from what is kept and shown; never blocks. What was asked for below `oldest` is
 * passed over. Walks a bounded number of positions. */
void hk_tail_read(hk_tail *t, const hark_store_query *q, hark_store_page *ret);

/* ---- patterns -----------------------------------------------------------------------------------
 */

static inline bool hk_type_separator(char c)
{
    return c == ':' || c == '.' || c == '/';
}

/* ---- attribute rules (CloudEvents 1.0.2 section 3)
 * ------------------------------------------------ */

/* A String: UTF-8, no control characters, no noncharacters. `max` bytes at most. */
hark_err hk_attr_check(const char *name, const char *value, size_t len, size_t max,
                       hark_errinfo *ei);
/* An extension's name: [a-z0-9]+, not a core attribute's and not "data". */
hark_err hk_ext_name_check(const char *name, hark_errinfo *ei);
/* An extension's value against its kind. */
hark_err hk_ext_check(const hark_ext *x, hark_errinfo *ei);

#endif
