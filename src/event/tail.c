/* tail.c: the newest events of a log in memory: the log itself of a store without a file, and the
 * near end of all others. Built on hk_seqring; see event.h for who may do what. */
#include "event/event.h"

#include <stdlib.h>
#include <string.h>

/* No call walks more positions than this, so that none takes long. */
enum { SCAN_MAX = 65536 };

static void drop(hk_ref *count)
{
    hark_event_unref((hark_event *)(void *)count);
}

hark_err hk_tail_init(hk_tail *t, size_t events, size_t bytes)
{
    *t = (hk_tail){.capacity = events, .max_bytes = bytes};
    t->ring = hk_seqring_new(2 * events, drop);
    t->lap = t->ring ? hk_seqring_capacity(t->ring) : 1;
    t->sizes = calloc(t->lap, sizeof *t->sizes);
    t->types = calloc(t->lap, sizeof *t->types);
    if (!t->ring || !t->sizes || !t->types) {
        hk_tail_free(t);
        return HARK_ENOMEM;
    }
    hk_tail_start(t, 0);
    return HARK_OK;
}

void hk_tail_free(hk_tail *t)
{
    hk_seqring_free(t->ring);
    free(t->sizes);
    free(t->types);
    *t = (hk_tail){0};
}

void hk_tail_know_types(hk_tail *t)
{
    hk_mark_set(&t->know_types, 1);
}

void hk_tail_start(hk_tail *t, uint64_t seq)
{
    hk_mark_set(&t->oldest, seq + 1);
    hk_mark_set(&t->visible, seq);
}

void hk_tail_fill(hk_tail *t, uint64_t seq, hark_event *e)
{
    hk_seqring_put(t->ring, seq, (hk_ref *)(void *)e);
}

hark_event *hk_tail_filled(hk_tail *t, uint64_t seq)
{
    if (!hk_seqring_has(t->ring, seq))
        return NULL;
    return (hark_event *)(void *)hk_seqring_peek(t->ring, seq);
}

static uint64_t type_hash(const char *type, size_t len)
{
    return hk_hash(type, len) | 1;
}

void hk_tail_admit(hk_tail *t, uint64_t seq, const hark_event *e)
{
    uint64_t oldest = hk_mark_get(&t->oldest);
    uint32_t size = (uint32_t)hk_event_footprint(e);
    t->bytes += size;
    t->sizes[seq & (t->lap - 1)] = size;
    if (HK_UNLIKELY(hk_mark_get(&t->know_types)))
        hk_mark_set(&t->types[seq & (t->lap - 1)],
                    type_hash(hark_event_type(e), hk_event_type_len(e)));
    while (seq - oldest >= t->capacity || (t->bytes > t->max_bytes && oldest < seq)) {
        t->bytes -= t->sizes[oldest & (t->lap - 1)];
        hk_seqring_evict(t->ring, oldest);
        hk_mark_set(&t->oldest, ++oldest); /* from here on the slot may be filled again */
    }
}

void hk_tail_skip(hk_tail *t, uint64_t seq)
{
    uint64_t visible = hk_mark_get(&t->visible);
    for (uint64_t at = hk_mark_get(&t->oldest); at <= visible; at++)
        hk_seqring_evict(t->ring, at);
    t->bytes = 0;
    hk_mark_set(&t->oldest, seq + 1); /* first: readers look at `visible` first */
    hk_mark_set(&t->visible, seq);
}

hark_event *hk_tail_get(hk_tail *t, uint64_t seq)
{
    return (hark_event *)(void *)hk_seqring_get(t->ring, seq);
}

bool hk_query_wants(const hark_store_query *q, const hark_event *e)
{
    int64_t at = hark_event_recorded_ns(e);
    const char *subject = hark_event_subject(e);
    return (!q->pattern || hark_pattern_match(q->pattern, hark_event_type(e))) &&
           (!q->subject || (subject && strcmp(q->subject, subject) == 0)) &&
           (!q->from_ns || at >= q->from_ns) && (!q->to_ns || at < q->to_ns);
}

static void read_down(hk_tail *t, const hark_store_query *q, hark_store_page *ret)
{
    uint64_t visible = hk_mark_get(&t->visible), oldest = hk_mark_get(&t->oldest);
    uint64_t low = q->after + 1 > oldest ? q->after + 1 : oldest;
    uint64_t seq = q->before && q->before - 1 < visible ? q->before - 1 : visible;
    size_t bytes = 0;
    for (size_t i = 0; seq >= low && seq > 0; seq--, i++) {
        if (ret->n == q->limit || i == SCAN_MAX || (q->limit_bytes && bytes >= q->limit_bytes)) {
            ret->end = 0;
            break;
        }
        hark_event *e = hk_tail_get(t, seq);
        if (!e)
            break; /* evicted meanwhile, and so is all below */
        if (hk_query_wants(q, e)) {
            ret->events[ret->n++] = e;
            bytes += hk_event_footprint(e);
        } else {
            hark_event_unref(e);
        }
    }
    ret->covered = seq + 1;
}

/* What a walk knows of types by their hashes: the only one that it wants, or some that it has found
 * not to be wanted. */
enum { UNWANTED = 64 };
typedef struct known_types {
    uint64_t only; /* 0 = the pattern may match several */
    uint64_t unwanted[UNWANTED];
} known_types;

/* Is the event at a position of a type that is not wanted? Only if that is certain: the look at the
 * position comes second, so the hash was not of the lap after it. *ret_hash is 0 when not known. */
static bool pass_over(hk_tail *t, uint64_t seq, const known_types *x, uint64_t *ret_hash)
{
    uint64_t hash = hk_mark_get(&t->types[seq & (t->lap - 1)]);
    *ret_hash = hash;
    if (!hash || (x->only ? x->only == hash : x->unwanted[hash >> 1 & (UNWANTED - 1)] != hash))
        return false;
    return hk_seqring_has(t->ring, seq);
}

static void learn(known_types *x, uint64_t hash, const hark_store_query *q, const hark_event *e)
{
    if (hash && q->pattern && !hark_pattern_match(q->pattern, hark_event_type(e)))
        x->unwanted[hash >> 1 & (UNWANTED - 1)] = hash;
}

static void read_up(hk_tail *t, const hark_store_query *q, hark_store_page *ret)
{
    uint64_t visible = hk_mark_get(&t->visible), oldest = hk_mark_get(&t->oldest);
    uint64_t high = q->before && q->before - 1 < visible ? q->before - 1 : visible;
    uint64_t seq = q->after + 1, hash;
    size_t bytes = 0;
    known_types types = {0};
    if (q->pattern && !strpbrk(q->pattern, "*|"))
        types.only = type_hash(q->pattern, strlen(q->pattern));
    if (seq < oldest) {
        ret->gap = oldest - 1 < high ? oldest - 1 : high;
        seq = ret->gap + 1;
    }
    for (size_t i = 0; seq <= high; seq++, i++) {
        if (ret->n == q->limit || i == SCAN_MAX || (q->limit_bytes && bytes >= q->limit_bytes)) {
            ret->end = 0;
            break;
        }
        if (pass_over(t, seq, &types, &hash))
            continue;
        hark_event *e = hk_tail_get(t, seq);
        if (!e && ret->n == 0) { /* evicted meanwhile: the gap is longer */
            ret->gap = seq;
            continue;
        }
        if (!e) { /* what lies before goes out, the next call tells of the gap */
            ret->end = 0;
            break;
        }
        if (hk_query_wants(q, e)) {
            ret->events[ret->n++] = e;
            bytes += hk_event_footprint(e);
            continue;
        }
        learn(&types, hash, q, e);
        hark_event_unref(e);
    }
    ret->covered = seq - 1;
}

void hk_tail_read(hk_tail *t, const hark_store_query *q, hark_store_page *ret)
{
    ret->n = 0;
    ret->gap = 0;
    ret->end = 1;
    if (q->descending)
        read_down(t, q, ret);
    else
        read_up(t, q, ret);
}
