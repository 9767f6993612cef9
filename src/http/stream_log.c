/* Reading the log for clients that are behind the ring. Reading blocks, so one thread of the app does
 * it, one page at a time for whoever asked first, and mails the page to the client's loop. What the
 * client's socket does not take of it is dropped, and read again when it does. */
#include "http/stream_i.h"

#include <stdlib.h>
#include <string.h>

enum {
    PAGE_EVENTS = 128,
    PAGE_BYTES = 256 * 1024, /* of what is sent */
    READ_BYTES = 1 << 20,    /* of events */
    SAY_EVERY_MS = 10000
};

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
    /* the thread's: */
    hark_frame frame;
    hk_buf bytes;
    int64_t said_ms; /* when it last complained of the log; 0 = never */
    size_t unsaid;   /* complaints since then */
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
                              .dataversion = version,
                              .limit_bytes = READ_BYTES};
    return hark_read(u->bus, &o, ret, ei);
}

static void add(hk_page *p, hk_block *b)
{
    if (!b)
        return;
    p->blocks[p->n++] = b;
    p->bytes += b->len;
}

static hark_err add_gap(hk_page *p, const hark_page *page)
{
    uint64_t from, to;
    if (!hark_page_gap(page, &from, &to))
        return HARK_OK;
    hk_block *b = hk_feed_gap(p->feed, from, to, "retention");
    add(p, b);
    p->upto = to;
    return b ? HARK_OK : HARK_ENOMEM;
}

/* An event that upcasters fail at stands in the way: live clients do not get it either. */
static hark_err read_past(const hk_catchup *u, hk_page *p, hark_page **ret, hark_errinfo *ei)
{
    hark_err err = read_some(u, p, 1, p->feed->dataversion, ret, ei);
    if (err != HARK_EUPCAST)
        return err;
    hark_errinfo why = *ei;
    err = read_some(u, p, 1, HARK_VERSION_STORED, ret, ei);
    const hark_event *e = err ? NULL : hark_page_event(*ret, 0);
    if (!e)
        return err;
    if (hk_feed_first_of(p->feed, hark_event_type(e)))
        hk_log(HK_WARN,
               "http: a feed of '%s' passes over an event, and further ones of type '%s' are not "
               "logged: %s",
               p->feed->pattern, hark_event_type(e), why.text);
    err = add_gap(p, *ret);
    p->upto = hark_event_sequence(e);
    hark_page_free(*ret);
    *ret = NULL;
    return err;
}

/* What was seen of the ring before it was read: at the end of the log nothing up to it is missing. */
static hark_err encode_page(hk_catchup *u, hk_page *p, const hark_page *page, uint64_t seen)
{
    size_t i = 0, n = hark_page_count(page);
    hark_err err = add_gap(p, page);
    for (; !err && i < n && p->bytes < PAGE_BYTES && !hk_mark_get(&p->unwanted); i++) {
        const hark_event *e = hark_page_event(page, i);
        hk_block *b;
        err = hk_feed_encode(p->feed, &u->frame, &u->bytes, e, &b);
        add(p, b);
        p->upto = hark_event_sequence(e);
    }
    if (err || i < n)
        return err;
    uint64_t next = hark_page_next(page);
    if (next == 0)
        next = seen;
    if (next > p->upto)
        p->upto = next;
    return HARK_OK;
}

/* Not for every client that comes and finds the log in trouble. */
static void complain(hk_catchup *u, const hk_page *p, const hark_errinfo *ei)
{
    int64_t now = hk_mono_ms();
    if (u->said_ms && now - u->said_ms < SAY_EVERY_MS) {
        u->unsaid++;
        return;
    }
    hk_log(
        HK_ERROR,
        "http: clients of a feed of '%s' cannot catch up, and come back: %s (%zu more times since "
        "this was last said)",
        p->feed->pattern, hk_err_says(p->err, ei), u->unsaid);
    u->said_ms = now;
    u->unsaid = 0;
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
    if (!p->err && page)
        p->err = encode_page(u, p, page, seen);
    if (p->err && p->err != HARK_ECLOSED)
        complain(u, p, &ei);
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

static void take_page(hk_stream *s, const hk_page *p)
{
    s->page = NULL;
    if (s->blocked) /* a heartbeat has filled the socket: the page is read again */
        return;
    bool whole = !p->err && send_page(s, p);
    if (p->err || s->gone) /* it comes back, and may find the log in a better state */
        hk_stream_close(s);
    else if (whole && s->asks)
        hk_stream_asked(s);
    else if (whole)
        hk_stream_go_on(s);
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

bool hk_catchup_is_this(const hark_app *app)
{
    return app->catchup && pthread_equal(app->catchup->thread, pthread_self());
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
    if (pthread_join(u->thread, NULL)) {
        hk_log(HK_ERROR, "http: the thread that reads the log cannot be ended; it is left alone");
        return;
    }
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
