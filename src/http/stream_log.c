/* Reading the log for clients that are behind the ring. Reading blocks, so one thread of the app does
 * it, one page at a time for whoever asked first, and mails the page to the client's loop. What the
 * client's socket does not take of it is dropped, and read again when it does. */
#include "http/stream_i.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE_EVENTS = 128, PAGE_BYTES = 256 * 1024 };

struct hk_page {
    hk_mail mail;
    hk_page *next; /* in the queue */
    hk_mark unwanted;
    hk_loop *loop;
    hark_feed *feed;
    uint64_t after;
    /* loop: */
    hk_stream *stream; /* NULL: it has left */
    /* the answer: */
    hark_err err;
    bool at_end;   /* there was nothing more */
    uint64_t upto; /* it tells all up to this sequence */
    size_t n, bytes;
    hk_block *blocks[PAGE_EVENTS + 1]; /* a gap comes first */
};

struct hk_catchup {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t thread;
    hk_page *first, *last;
    bool stopping;
    hark_bus *bus;
    hark_frame frame; /* the thread's */
    hk_buf bytes;     /* likewise */
};

static void page_free(hk_page *p)
{
    while (p->n)
        hk_block_put(p->blocks[--p->n]);
    free(p);
}

/* ---- the thread ---- */

static hark_err read_some(const hk_catchup *u, const hk_page *p, size_t limit, int64_t version,
                          hark_page **ret, hark_errinfo *ei)
{
    const hark_read_opts o = {.size = sizeof o,
                              .type = p->feed->pattern,
                              .after = p->after,
                              .limit = limit,
                              .dataversion = version};
    return hark_read(u->bus, &o, ret, ei);
}

/* An event that upcasters fail at stands in the way: live clients do not get it either. */
static hark_err read_past(const hk_catchup *u, hk_page *p, hark_page **ret, hark_errinfo *ei)
{
    hark_err err = read_some(u, p, 1, p->feed->dataversion, ret, ei);
    if (err != HARK_EUPCAST)
        return err;
    hk_log(HK_WARN, "http: a feed of '%s' passes over an event: %s", p->feed->pattern, ei->text);
    err = read_some(u, p, 1, HARK_VERSION_STORED, ret, ei);
    const hark_event *e = err ? NULL : hark_page_event(*ret, 0);
    if (!e)
        return err;
    p->after = p->upto = hark_event_sequence(e);
    hark_page_free(*ret);
    *ret = NULL;
    return HARK_OK;
}

static void add(hk_page *p, hk_block *b)
{
    if (!b)
        return;
    p->blocks[p->n++] = b;
    p->bytes += b->len;
}

/* What was seen of the ring before it was read: at the end of the log nothing up to it is missing. */
static void encode_page(hk_catchup *u, hk_page *p, const hark_page *page, uint64_t seen)
{
    uint64_t from, to;
    size_t i = 0, n = hark_page_count(page);
    if (hark_page_gap(page, &from, &to)) {
        add(p, hk_feed_gap(p->feed, from, to, "retention"));
        p->upto = to;
    }
    for (; i < n && p->bytes < PAGE_BYTES && !hk_mark_get(&p->unwanted); i++) {
        const hark_event *e = hark_page_event(page, i);
        add(p, hk_feed_encode(p->feed, &u->frame, &u->bytes, e));
        p->upto = hark_event_sequence(e);
    }
    if (i < n)
        return;
    uint64_t next = hark_page_next(page);
    p->at_end = next == 0;
    if (p->at_end)
        next = seen;
    if (next > p->upto)
        p->upto = next;
}

static void read_page(hk_catchup *u, hk_page *p)
{
    hark_errinfo ei = {0};
    hark_page *page = NULL;
    uint64_t seen = hk_feed_seen(p->feed);
    p->upto = p->after;
    p->err = read_some(u, p, PAGE_EVENTS, p->feed->dataversion, &page, &ei);
    if (p->err == HARK_EUPCAST)
        p->err = read_past(u, p, &page, &ei);
    if (p->err && p->err != HARK_ECLOSED)
        hk_log(HK_ERROR, "http: clients of a feed of '%s' cannot catch up: %s", p->feed->pattern,
               hk_err_says(p->err, &ei));
    if (page)
        encode_page(u, p, page, seen);
    hark_page_free(page);
}

static hk_page *take(hk_catchup *u)
{
    pthread_mutex_lock(&u->lock);
    while (!u->first && !u->stopping)
        pthread_cond_wait(&u->more, &u->lock);
    hk_page *p = u->stopping ? NULL : u->first;
    if (p)
        u->first = p->next;
    if (!u->first)
        u->last = NULL;
    pthread_mutex_unlock(&u->lock);
    return p;
}

static void *catchup_main(void *arg)
{
    hk_catchup *u = arg;
    for (hk_page *p; (p = take(u));) {
        if (!hk_mark_get(&p->unwanted))
            read_page(u, p);
        hk_loop_post(p->loop, &p->mail);
    }
    return NULL;
}

/* ---- on the loop ---- */

/* True: all of it has gone out. */
static bool send_page(hk_stream *s, const hk_page *p)
{
    size_t i = 0;
    while (i < p->n && !s->blocked && !s->gone) {
        size_t n = p->n - i < HK_BATCH ? p->n - i : HK_BATCH;
        i += hk_stream_send(s, p->blocks + i, NULL, n);
    }
    if (i < p->n || s->gone)
        return false;
    if (p->upto > s->seen)
        s->seen = p->upto;
    return !s->blocked;
}

/* Without a block of the feed there is nowhere to go over to, and news will come. */
static void wait_or_go_on(hk_stream *s, bool at_end)
{
    uint64_t next;
    if (at_end && hk_feed_join(s->feed, s->seen, &next) == HK_JOIN_EMPTY)
        hk_stream_wait(s);
    else
        hk_stream_go_on(s);
}

static void take_page(hk_stream *s, const hk_page *p)
{
    s->page = NULL;
    if (s->blocked) /* a heartbeat has filled the socket: the page is read again */
        return;
    bool whole = !p->err && send_page(s, p);
    if (p->err || s->gone) /* it comes back, and may find the log in a better state */
        hk_stream_close(s);
    else if (whole)
        wait_or_go_on(s, p->at_end);
}

static void on_page(hk_loop *l, hk_mail *m)
{
    hk_page *p = (hk_page *)(void *)m;
    (void)l;
    if (p->stream)
        take_page(p->stream, p);
    page_free(p);
}

bool hk_catchup_ask(hk_stream *s)
{
    hk_catchup *u = s->feed->app->catchup;
    hk_page *p = calloc(1, sizeof *p);
    if (!p)
        return false;
    *p = (hk_page){
        .mail = {NULL, on_page}, .loop = s->loop, .feed = s->feed, .after = s->seen, .stream = s};
    s->page = p;
    pthread_mutex_lock(&u->lock);
    if (u->last)
        u->last->next = p;
    else
        u->first = p;
    u->last = p;
    pthread_cond_signal(&u->more);
    pthread_mutex_unlock(&u->lock);
    return true;
}

void hk_catchup_forget(hk_stream *s)
{
    if (!s->page)
        return;
    s->page->stream = NULL;
    hk_mark_set(&s->page->unwanted, 1);
    s->page = NULL;
}

/* ---- life ---- */

hark_err hk_catchup_start(hark_app *app)
{
    hk_catchup *u = calloc(1, sizeof *u);
    if (!u)
        return HARK_ENOMEM;
    pthread_mutex_init(&u->lock, NULL);
    hk_cond_init(&u->more);
    u->bus = app->bus;
    hark_err err = hk_thread_start(&u->thread, "hark-catchup", catchup_main, u);
    if (!err) {
        app->catchup = u;
        return HARK_OK;
    }
    pthread_cond_destroy(&u->more);
    pthread_mutex_destroy(&u->lock);
    free(u);
    return err;
}

void hk_catchup_stop(hark_app *app)
{
    hk_catchup *u = app->catchup;
    if (!u)
        return;
    pthread_mutex_lock(&u->lock);
    u->stopping = true;
    pthread_cond_signal(&u->more);
    pthread_mutex_unlock(&u->lock);
    pthread_join(u->thread, NULL);
    for (hk_page *p = u->first, *next; p; p = next) {
        next = p->next;
        page_free(p);
    }
    hk_frame_free(&u->frame);
    hk_buf_free(&u->bytes);
    pthread_cond_destroy(&u->more);
    pthread_mutex_destroy(&u->lock);
    free(u);
    app->catchup = NULL;
}
