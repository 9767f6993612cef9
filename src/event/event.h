/* event: the event object, CloudEvents codecs, patterns. Front header for the folders above; users
 * see <hark/event.h>. May use base and json. */
#ifndef HK_EVENT_H
#define HK_EVENT_H

#include "base/base.h"

#include <hark/event.h>
#include <hark/json.h>
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
/* The admitting thread's: what is not shown yet up to `seq` will never come, or is gone again. The log goes on after it; what was kept
 * is let go. `seq` is not below what was shown. */
void hk_tail_skip(hk_tail *t, uint64_t seq);
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

/* ---- versions of data: what the program knows of them (upcast.c) ----------------------------- */

struct hark_upcast; /* <hark/versions.h> */

/* An upcaster. */
typedef struct hk_step {
    int64_t from, to;
    hark_err (*fn)(const hark_event *event, struct hark_upcast *out, void *ud);
    void *ud;
    void (*free_ud)(void *ud);
} hk_step;

/* A registered version of a type. */
typedef struct hk_shape {
    int64_t version;
    const hark_json_table *table;
} hk_shape;

/* What is known of one type; never changed. Both lists are in order of version; of the steps each
 * begins where the one before it ends. */
typedef struct hk_known {
    const struct hk_known *next; /* another type's, or what was known of this one before */
    uint64_t hash;
    const char *type;
    const hk_step *steps;
    size_t n_steps;
    const hk_shape *shapes;
    size_t n_shapes;
} hk_known;

/* What is known of all types; never changed: adding makes another one, which takes over the one
 * that it was made from (NULL = the first), so that readers of that one may go on. When adding
 * fails, it is as it was. Errors: those of hark_upcaster_add and hark_type_add that concern what is
 * added. */
typedef struct hk_chains hk_chains;
hark_err hk_chains_add_step(hk_chains *v, const char *type, const hk_step *step, hk_chains **ret,
                            hark_errinfo *ei);
hark_err hk_chains_add_shape(hk_chains *v, const char *type, const hk_shape *shape, hk_chains **ret,
                             hark_errinfo *ei);
void hk_chains_free(hk_chains *v); /* calls free_ud of each step; NULL is fine */
/* NULL: nothing is known of this type. */
const hk_known *hk_chains_find(const hk_chains *v, const char *type, size_t len);
/* The newest version known: the end of the chain or the highest one registered; 0 = k is NULL. */
int64_t hk_known_newest(const hk_known *k);
const hark_json_table *hk_known_table(const hk_known *k, int64_t version); /* or NULL */

/* How a stored version comes to be the one that is wanted. */
typedef enum hk_fit {
    HK_FIT_STORED, /* it is that one, or is wanted as it is */
    HK_FIT_STEPS,  /* by these steps */
    HK_FIT_NEWER,  /* it is newer */
    HK_FIT_NONE    /* no steps lead there: `ei` says what is missing */
} hk_fit;
typedef struct hk_upcast_path {
    const hk_step *steps;
    size_t n;
    int64_t to; /* 0 = as it is stored */
} hk_upcast_path;
/* `wanted` as `dataversion` in hark_sub_opts. */
hk_fit hk_known_plan(const hk_known *k, int64_t stored, int64_t wanted, hk_upcast_path *ret,
                     hark_errinfo *ei);

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
