/* Feeds: what there is to read. Messages are encoded once and kept in a ring, bounded by count and
 * bytes; loops are told by one mail while it is on its way, and take blocks from here in batches.
 * Nothing here knows a client's socket. No encoder is called with the lock held. */
#include "http/stream_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- encoding ---- */

void hk_feed_id(const hark_feed *f, uint64_t seq, char ret[HARK_CURSOR_TEXT])
{
    hark_cursor_format(f->app->bus, seq, ret);
}

bool hk_feed_first_of(hark_feed *f, const char *type)
{
    pthread_mutex_lock(&f->lock);
    size_t i = 0;
    while (i < f->n_muted && strcmp(f->muted[i], type) != 0)
        i++;
    bool first = i == f->n_muted && i < HK_MUTED_MAX && (f->muted[i] = hk_strdup(type));
    f->n_muted += first;
    pthread_mutex_unlock(&f->lock);
    return first;
}

static void complain(hark_feed *f, const hark_event *e, hark_err err)
{
    if (hk_feed_first_of(f, hark_event_type(e)))
        hk_log(HK_ERROR,
               "http: the feed of '%s' shows no message of sequence %llu, and further ones of type "
               "'%s' are not logged: its encoder returned %s (%s)",
               f->pattern, (unsigned long long)hark_event_sequence(e), hark_event_type(e),
               hark_err_name(err), hark_err_text(err));
}

static hk_block *block_of(hark_feed *f, const hark_frame *w, hk_buf *bytes, const hark_event *e)
{
    char id[HARK_CURSOR_TEXT];
    uint64_t seq = hark_event_sequence(e);
    hk_feed_id(f, seq, id);
    hk_frame_write(bytes, w, id);
    return hk_block_new(bytes, seq, e);
}

hark_err hk_feed_encode(hark_feed *f, hark_frame *w, hk_buf *bytes, const hark_event *e,
                        hk_block **ret)
{
    *ret = NULL;
    hark_err err = f->encode(w, e, f->ud);
    if (!err && w->has_text) {
        *ret = block_of(f, w, bytes, e);
        err = *ret ? HARK_OK : HARK_ENOMEM;
    }
    if (err && err != HARK_ENOMEM)
        complain(f, e, err);
    hk_frame_clear(w);
    hk_bytes_clear(bytes);
    return err == HARK_ENOMEM ? err : HARK_OK;
}

hk_block *hk_feed_gap(hark_feed *f, uint64_t from, uint64_t to, const char *reason)
{
    char id[HARK_CURSOR_TEXT];
    hk_buf bytes = {0};
    hk_feed_id(f, to, id);
    hk_gap_write(&bytes, from, to, reason, id);
    hk_block *b = hk_block_new(&bytes, to, NULL);
    hk_buf_free(&bytes);
    return b;
}

/* ---- the ring ---- */

static void drop_oldest(hark_feed *f)
{
    hk_block *old = f->ring[f->first++ & f->mask];
    f->kept_bytes -= old->cost;
    if (old->seq)
        f->low = old->seq;
    hk_block_put(old);
}

void hk_feed_clear(hark_feed *f)
{
    while (f->end > f->first)
        drop_oldest(f);
}

static void keep(hark_feed *f, hk_block *b)
{
    while (f->end > f->first &&
           (f->end - f->first >= f->keep || f->kept_bytes + b->cost > f->keep_bytes))
        drop_oldest(f);
    f->ring[f->end++ & f->mask] = b;
    f->kept_bytes += b->cost;
}

/* Whom to tell: a bit for each loop. */
static uint64_t to_be_told(hark_feed *f)
{
    uint64_t loops = 0;
    for (size_t i = 0; i < f->n_at; i++)
        if (f->at[i].n && !f->at[i].posted) {
            f->at[i].posted = true;
            loops |= UINT64_C(1) << i;
        }
    return loops;
}

static void tell(hark_feed *f, uint64_t loops)
{
    for (size_t i = 0; loops; i++, loops >>= 1)
        if (loops & 1)
            hk_loop_post(&f->app->loops[i], &f->at[i].mail);
}

void hk_feed_append(hark_feed *f, hk_block *b, uint64_t to)
{
    pthread_mutex_lock(&f->lock);
    bool news = !to || to > f->seen;
    if (news)
        f->seen = to;
    if (news && b)
        keep(f, b);
    uint64_t loops = news && b ? to_be_told(f) : 0;
    pthread_mutex_unlock(&f->lock);
    if (!news)
        hk_block_put(b);
    tell(f, loops);
}

/* The number of a block that never was kept: whoever is about to read it has missed it. */
void hk_feed_lose(hark_feed *f, uint64_t to)
{
    uint64_t loops = 0;
    pthread_mutex_lock(&f->lock);
    if (to > f->seen) {
        hk_feed_clear(f);
        f->first = ++f->end;
        f->low = f->seen = to;
        loops = to_be_told(f);
    }
    pthread_mutex_unlock(&f->lock);
    tell(f, loops);
}

void hk_feed_begin(hark_feed *f, uint64_t seq)
{
    pthread_mutex_lock(&f->lock);
    if (seq > f->low)
        f->low = seq;
    if (seq > f->seen)
        f->seen = seq;
    pthread_mutex_unlock(&f->lock);
}

/* ---- the program sends ---- */

static hark_err send_frame(hark_feed *f, hark_frame *w, hark_err err)
{
    hk_buf bytes = {0};
    if (!err)
        hk_frame_write(&bytes, w, NULL);
    hk_block *b = err ? NULL : hk_block_new(&bytes, 0, NULL);
    hk_buf_free(&bytes);
    hk_frame_free(w);
    if (!b)
        return err ? err : HARK_ENOMEM;
    hk_feed_append(f, b, 0);
    return HARK_OK;
}

hark_err hark_feed_send(hark_feed *f, const char *name, const void *text, size_t len)
{
    hark_frame w = {0};
    if (f->pattern)
        return HARK_EINVAL;
    hark_err err = hark_frame_name(&w, name);
    return send_frame(f, &w, err ? err : hark_frame_data(&w, text, len));
}

hark_err hark_feed_send_json(hark_feed *f, const char *name, const hark_json_table *table,
                             const void *from)
{
    hark_frame w = {0};
    if (f->pattern)
        return HARK_EINVAL;
    hark_err err = hark_frame_name(&w, name);
    return send_frame(f, &w, err ? err : hark_frame_json(&w, table, from));
}

/* ---- reading ---- */

void hk_feed_enter(hk_readers *r)
{
    pthread_mutex_lock(&r->feed->lock);
    r->n++;
    pthread_mutex_unlock(&r->feed->lock);
    (void)hk_count_add(&r->feed->readers, 1);
}

void hk_feed_leave(hk_readers *r)
{
    pthread_mutex_lock(&r->feed->lock);
    r->n--;
    pthread_mutex_unlock(&r->feed->lock);
    (void)hk_count_sub(&r->feed->readers, 1);
}

void hk_feed_heard(hk_readers *r)
{
    pthread_mutex_lock(&r->feed->lock);
    r->posted = false;
    pthread_mutex_unlock(&r->feed->lock);
}

size_t hark_feed_readers(const hark_feed *feed)
{
    union {
        const hark_feed *in;
        hark_feed *out;
    } f = {feed};
    return (size_t)hk_count_get(&f.out->readers);
}

void hk_batch_drop(hk_batch *b)
{
    while (b->n)
        hk_block_put(b->blocks[--b->n]);
    b->some = false;
}

bool hk_feed_batch(hark_feed *f, uint64_t *next, hk_batch *b)
{
    size_t bytes = 0;
    hk_batch_drop(b);
    pthread_mutex_lock(&f->lock);
    bool kept = *next >= f->first;
    if (!kept)
        *next = f->first;
    b->first = *next;
    for (uint64_t i = *next; i < f->end && b->n < HK_BATCH && bytes < HK_BATCH_BYTES; i++) {
        hk_block *k = hk_block_ref(f->ring[i & f->mask]);
        b->iov[b->n] = (struct iovec){k->bytes, k->len};
        b->blocks[b->n++] = k;
        bytes += k->len;
    }
    b->last = b->first + b->n == f->end;
    b->seen = f->seen;
    pthread_mutex_unlock(&f->lock);
    b->some = true;
    return kept;
}

uint64_t hk_feed_end(hark_feed *f, uint64_t *ret_seen)
{
    pthread_mutex_lock(&f->lock);
    uint64_t end = f->end;
    *ret_seen = f->seen;
    pthread_mutex_unlock(&f->lock);
    return end;
}

uint64_t hk_feed_newest(hark_feed *f, size_t n)
{
    pthread_mutex_lock(&f->lock);
    uint64_t kept = f->end - f->first, at = f->end - (n < kept ? n : kept);
    pthread_mutex_unlock(&f->lock);
    return at;
}

uint64_t hk_feed_seen_at(hark_feed *f, uint64_t next)
{
    pthread_mutex_lock(&f->lock);
    uint64_t seen = next == f->end ? f->seen : 0;
    pthread_mutex_unlock(&f->lock);
    return seen;
}

uint64_t hk_feed_seen(hark_feed *f)
{
    pthread_mutex_lock(&f->lock);
    uint64_t seen = f->seen;
    pthread_mutex_unlock(&f->lock);
    return seen;
}

/* The first block behind a sequence. */
static uint64_t find(const hark_feed *f, uint64_t seq)
{
    uint64_t from = f->first, to = f->end;
    while (from < to) {
        uint64_t mid = from + (to - from) / 2;
        if (f->ring[mid & f->mask]->seq <= seq)
            from = mid + 1;
        else
            to = mid;
    }
    return from;
}

bool hk_feed_join(hark_feed *f, uint64_t seq, uint64_t *ret_next)
{
    pthread_mutex_lock(&f->lock);
    bool told = seq >= f->low;
    if (told)
        *ret_next = find(f, seq);
    pthread_mutex_unlock(&f->lock);
    return told;
}
