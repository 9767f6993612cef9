/* log.c: the log of the memory store: a ring of the newest events that any thread appends to.
 *
 * A publisher claims sequences, fills their slots, and then tries to become the one who makes
 * events visible: that one goes on in order as far as slots are filled, sets the recorded time and
 * hands the events on. A publisher that finds somebody at it leaves; the other one looks again
 * before it stops. So nobody waits for anybody, but for a ring that is a whole lap behind. */
#include "store/memory/memory_i.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 64 };

static hark_err mem_open(const char *rest, const hark_store_opts *opts, const hark_store_host *host,
                         hark_store **ret, hark_errinfo *ei)
{
    if (*rest && strcmp(rest, "//") != 0)
        return hk_fail(ei, HARK_EINVAL,
                       "store URL 'memory:%.80s': nothing may follow 'memory:'; use memory: or "
                       "sqlite:PATH",
                       rest);
    if (opts->existing)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "memory: is new each time it is opened; leave out HARK_OPEN_EXISTING");
    hark_store *s = hk_zalloc_lines(sizeof *s);
    if (!s)
        return hk_fail(ei, HARK_ENOMEM, "no memory for the store");
    if (hk_tail_init(&s->tail, opts->retain_events, opts->retain_bytes)) {
        free(s);
        return hk_fail(ei, HARK_ENOMEM, "no memory to retain %zu events", opts->retain_events);
    }
    s->host = *host;
    hk_random(s->log_id, sizeof s->log_id);
    hk_mem_index_init(&s->index, s->tail.lap);
    hk_mem_ledger_init(&s->ledger);
    *ret = s;
    return HARK_OK;
}

static void mem_close(hark_store *s)
{
    hk_mem_ledger_free(&s->ledger);
    hk_mem_index_free(&s->index);
    hk_tail_free(&s->tail);
    free(s);
}

static void mem_info(hark_store *s, hark_store_info *ret)
{
    uint64_t last = hk_mark_get(&s->tail.visible);
    *ret = (hark_store_info){.size = sizeof *ret,
                             .epoch = 1,
                             .format = 1,
                             .first_sequence = last ? hk_mark_get(&s->tail.oldest) : 0,
                             .last_sequence = last,
                             .durability = HARK_MEMORY,
                             .direct = 1};
    memcpy(ret->log_id, s->log_id, sizeof ret->log_id);
}

/* The word `claimed`: the last sequence given out, and in its lowest bit whether somebody seals. */
enum { SEALING = 1 };

static uint64_t claimed_sequence(uint64_t word)
{
    return word >> 1;
}

/* Makes what is filled visible, in order. */
static void show_filled(hark_store *s)
{
    hark_event *batch[BATCH];
    uint64_t seq = hk_mark_get(&s->tail.visible);
    size_t n = 0;
    for (hark_event *e; (e = hk_tail_filled(&s->tail, seq + 1));) {
        seq++;
        int64_t now = hk_event_made_ns(e);
        s->last_recorded = now > s->last_recorded ? now : s->last_recorded;
        hark_event_stamp(e, seq, s->last_recorded);
        hk_tail_admit(&s->tail, seq, e);
        batch[n++] = e; /* the second of the references that append was given */
        if (n == BATCH) {
            hk_tail_show(&s->tail, seq);
            s->host.committed(s->host.ud, batch, n);
            n = 0;
        }
    }
    if (n) {
        hk_tail_show(&s->tail, seq);
        s->host.committed(s->host.ud, batch, n);
    }
}

/* By the one who holds SEALING. It gives it back in the same step in which it sees that nothing is
 * claimed beyond what is visible; otherwise it looks once more after giving it back, and whoever
 * fills a slot tries to take it, so a filled slot is never left alone. */
static void seal_held(hark_store *s)
{
    for (;;) {
        show_filled(s);
        uint64_t visible = hk_mark_get(&s->tail.visible);
        if (hk_mark_move(&s->claimed, visible << 1 | SEALING, visible << 1))
            return;
        if (hk_tail_filled(&s->tail, visible + 1))
            continue;
        (void)hk_mark_clear(&s->claimed, SEALING);
        if (!hk_tail_filled(&s->tail, visible + 1) || hk_mark_raise(&s->claimed, SEALING) & SEALING)
            return;
    }
}

/* Seals unless somebody is at it. */
static void seal(hark_store *s)
{
    if (!(hk_mark_raise(&s->claimed, SEALING) & SEALING))
        seal_held(s);
}

/* Claims n sequences, and SEALING if nobody has it. */
static uint64_t claim(hark_store *s, uint64_t n, bool *ret_held)
{
    uint64_t word = hk_mark_get(&s->claimed);
    while (!hk_mark_move_seen(&s->claimed, &word, (word + (n << 1)) | SEALING))
        ;
    *ret_held = !(word & SEALING);
    return claimed_sequence(word) + 1;
}

static void fill(hark_store *s, uint64_t seq, hark_event *e, bool held)
{
    /* The slot's last occupant must be gone before it is filled. */
    while (HK_UNLIKELY(!hk_tail_slot_free(&s->tail, seq))) {
        if (held)
            show_filled(s);
        else
            seal(s);
        sched_yield();
    }
    hk_tail_fill(&s->tail, seq, e);
}

/* Waits until what was claimed so far can be read; for a reader's own publishes. */
static uint64_t settle_visible(hark_store *s)
{
    uint64_t claimed = claimed_sequence(hk_mark_look(&s->claimed));
    while (hk_mark_get(&s->tail.visible) < claimed) {
        seal(s);
        if (hk_mark_get(&s->tail.visible) < claimed)
            sched_yield(); /* a publisher is between claiming and filling: a few instructions */
    }
    return hk_mark_get(&s->tail.visible);
}

uint64_t hk_mem_wait_visible(hark_store *s)
{
    uint64_t claimed = claimed_sequence(hk_mark_look(&s->claimed));
    while (hk_mark_get(&s->tail.visible) < claimed)
        sched_yield(); /* whoever fills a slot sees to it that it is sealed */
    return hk_mark_get(&s->tail.visible);
}

/* What item repeats, if anything: an event of the log or an earlier item of its unit. */
static hark_err find_repeated(hark_store *s, hark_store_append *items, size_t i, uint64_t *ret_seq,
                              size_t *ret_item, hark_errinfo *ei)
{
    static const uint8_t key[16];
    hark_store_append *a = &items[i];
    hark_event *other = hk_mem_index_find(s, a->event);
    *ret_seq = other ? hark_event_sequence(other) : 0;
    *ret_item = i;
    for (size_t k = 0; !other && k < i; k++)
        if (!items[k].fresh_id && hk_mem_same_id(items[k].event, a->event)) {
            other = hark_event_ref(items[k].event);
            *ret_item = k;
        }
    if (!other)
        return HARK_OK;
    uint8_t digest[16], mine[16];
    hk_event_digest(other, key, digest);
    hk_event_digest(a->event, key, mine);
    hark_event_unref(other);
    a->ret_duplicate = 1;
    if (a->first_stands || memcmp(digest, mine, sizeof digest) == 0)
        return HARK_OK;
    return hk_fail(
        ei, HARK_ECONFLICT,
        "an event with id '%.60s' and source '%.60s' is in the log with other content (as "
        "sequence %llu); give a new event a new id",
        hark_event_id(a->event), hark_event_source(a->event), (unsigned long long)*ret_seq);
}

/* Marks the duplicates of a unit. Their sequence, or 1 + the index of the item that they repeat,
 * with the top bit set. */
#define OF_ITEM (UINT64_C(1) << 63)

static hark_err mark_duplicates(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    for (size_t i = 0; i < n; i++) {
        size_t item = i;
        uint64_t seq = 0;
        items[i].ret_duplicate = 0;
        hark_err err = items[i].fresh_id ? HARK_OK : find_repeated(s, items, i, &seq, &item, ei);
        if (err)
            return err;
        items[i].ret_sequence = seq ? seq : OF_ITEM | item;
    }
    return HARK_OK;
}

static void append_new(hark_store *s, hark_store_append *items, size_t n)
{
    size_t fresh = 0;
    for (size_t i = 0; i < n; i++)
        fresh += !items[i].ret_duplicate;
    bool held = false;
    uint64_t seq = fresh ? claim(s, fresh, &held) : 0;
    for (size_t i = 0; i < n; i++) {
        if (!items[i].ret_duplicate) {
            items[i].ret_sequence = seq;
            fill(s, seq++, items[i].event, held);
        } else if (items[i].ret_sequence & OF_ITEM) {
            items[i].ret_sequence = items[items[i].ret_sequence & ~OF_ITEM].ret_sequence;
        }
    }
    if (held)
        seal_held(s);
    else
        seal(s);
}

static hark_err no_versions(const hark_store_append *a, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTSUP,
                   "memory: keeps no versions of subjects, and an event of type %.100s has "
                   "expected_version %lld; use sqlite:PATH",
                   hark_event_type(a->event), (long long)a->expected);
}

static hark_err mem_append(hark_store *s, hark_store_append *items, size_t n, hark_errinfo *ei)
{
    bool own_ids = false;
    for (size_t i = 0; i < n; i++) {
        items[i].ret_duplicate = 0;
        items[i].ret_subject_version = 0;
        if (HK_UNLIKELY(items[i].expected != 0))
            return no_versions(&items[i], ei);
        own_ids |= !items[i].fresh_id;
    }
    if (!own_ids) {
        append_new(s, items, n);
        return HARK_OK;
    }
    pthread_mutex_lock(&s->index.lock);
    (void)settle_visible(s);
    hark_err err = hk_mem_index_update(s);
    if (!err)
        err = mark_duplicates(s, items, n, ei);
    if (!err)
        append_new(s, items, n);
    pthread_mutex_unlock(&s->index.lock);
    return err;
}

static hark_err mem_read(hark_store *s, const hark_store_query *q, hark_store_page *ret,
                         hark_errinfo *ei)
{
    (void)ei;
    (void)settle_visible(s);
    hk_tail_read(&s->tail, q, ret);
    return HARK_OK;
}

static hark_err mem_count(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei)
{
    (void)ei;
    uint64_t visible = settle_visible(s), oldest = hk_mark_get(&s->tail.oldest), n = 0;
    uint64_t high = q->before && q->before - 1 < visible ? q->before - 1 : visible;
    for (uint64_t seq = q->after + 1 > oldest ? q->after + 1 : oldest; seq <= high; seq++) {
        hark_event *e = hk_tail_get(&s->tail, seq); /* NULL: overwritten meanwhile */
        n += e && hk_query_wants(q, e);
        hark_event_unref(e);
    }
    *ret = n;
    return HARK_OK;
}

static hark_err mem_begin(hark_store *s, hark_errinfo *ei)
{
    (void)s, (void)ei;
    return HARK_OK;
}

static void mem_rollback(hark_store *s)
{
    (void)s;
}

const hark_store_ops hk_store_memory = {
    .size = sizeof(hark_store_ops),
    .scheme = "memory",
    .open = mem_open,
    .close = mem_close,
    .info = mem_info,
    .begin = mem_begin,
    .commit = mem_begin,
    .rollback = mem_rollback,
    .append = mem_append,
    .read = mem_read,
    .consumer_open = hk_mem_consumer_open,
    .consumer_save = hk_mem_consumer_save,
    .consumer_reset = hk_mem_consumer_reset,
    .consumer_pause = hk_mem_consumer_pause,
    .consumers = hk_mem_consumers,
    .letters = hk_mem_letters,
    .attempts = hk_mem_attempts,
    .letter_redrive = hk_mem_letter_redrive,
    .letter_discard = hk_mem_letter_discard,
    .schedule_add = hk_mem_schedule_add,
    .schedule_drop = hk_mem_schedule_drop,
    .schedules = hk_mem_schedules,
    .replay_put = hk_mem_replay_put,
    .replays = hk_mem_replays,
    .count = mem_count,
    .versions = hk_mem_versions,
};
