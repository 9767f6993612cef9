/* Clients of live replies, on their loop: sending what the feed has, in batches that readers at the
 * same place share, waiting for sockets, heartbeats, and the end. A client that is blocked costs a
 * position and at most one block that went out in part. */
#include "http/stream_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { HEARD_MAX = 64 * 1024, BEATS_AT_ONCE = 512, LOOK_EVERY = 16, SLICE_NS = 1000000 };

/* ---- those who read the ring ---- */

static void list_leave(hk_stream *s)
{
    if (!s->rhere)
        return;
    if (s->of->turn == s)
        s->of->turn = s->rnext;
    *s->rhere = s->rnext;
    if (s->rnext)
        s->rnext->rhere = s->rhere;
    s->rhere = NULL;
}

static void list_enter(hk_stream *s)
{
    hk_stream **list = &s->of->ready;
    list_leave(s);
    s->rnext = *list;
    if (s->rnext)
        s->rnext->rhere = &s->rnext;
    s->rhere = list;
    *list = s;
}

/* Its readers get their turn, in this round or one of the next. */
static void fall_behind(hk_loop *l, hk_readers *r)
{
    r->again = true;
    if (r->behind)
        return;
    r->behind = true;
    r->next = l->behind;
    l->behind = r;
}

/* ---- sending ---- */

static void block(hk_stream *s)
{
    if (!s->blocked)
        s->blocked_ms = s->loop->now_ms;
    s->blocked = true;
    list_leave(s);
}

/* What the kernel took; 0 when nothing now, or never again (gone). */
static size_t put(hk_stream *s, const struct iovec *iov, size_t n)
{
    struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
    ssize_t sent = n == 1 ? send(s->fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                          : sendmsg(s->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
        s->sent_ms = s->blocked_ms = s->loop->now_ms;
        return (size_t)sent;
    }
    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        s->gone = true;
    return 0;
}

/* The rest of the block that went out in part; true when nothing is left of it. */
static bool flush(hk_stream *s)
{
    if (!s->part)
        return true;
    const struct iovec rest = {s->part->bytes + s->off, s->part->len - s->off};
    s->off += put(s, &rest, 1);
    if (s->off < s->part->len) {
        block(s);
        return false;
    }
    hk_block_put(s->part);
    s->part = NULL;
    return true;
}

static bool wants(const hk_stream *s, const hk_block *b)
{
    if (b->seq && b->seq <= s->seen)
        return false;
    if (!b->event)
        return true;
    return (!s->pattern || hark_pattern_match(s->pattern, hark_event_type(b->event))) &&
           (!s->filter || s->filter(b->event, s->ud));
}

typedef struct picked {
    size_t n;
    uint8_t at[HK_BATCH]; /* which of the blocks */
    struct iovec iov[HK_BATCH];
} picked;

static void pick(const hk_stream *s, hk_block *const *blocks, size_t n, picked *ret)
{
    ret->n = 0;
    for (size_t i = 0; i < n; i++)
        if (wants(s, blocks[i])) {
            ret->at[ret->n] = (uint8_t)i;
            ret->iov[ret->n++] = (struct iovec){blocks[i]->bytes, blocks[i]->len};
        }
}

static size_t place(const picked *p, size_t i)
{
    return p ? p->at[i] : i;
}

/* Up to which of n blocks, sent as these, it went: whole ones, and one in part. */
static size_t took(hk_stream *s, hk_block *const *blocks, size_t n, const struct iovec *iov,
                   const picked *p, size_t m)
{
    size_t sent = put(s, iov, m), i = 0;
    while (i < m && sent >= iov[i].iov_len)
        sent -= iov[i++].iov_len;
    size_t begun = i + (sent > 0);
    if (begun)
        s->told = blocks[place(p, begun - 1)]->seq;
    if (i == m)
        return n;
    block(s);
    if (sent) {
        s->part = hk_block_ref(blocks[place(p, i)]);
        s->off = sent;
    }
    return place(p, i) + (sent > 0);
}

size_t hk_stream_send(hk_stream *s, hk_block *const *blocks, const struct iovec *iov, size_t n)
{
    picked own;
    size_t done = n;
    if (iov && !s->pattern && !s->filter && (!blocks[0]->seq || blocks[0]->seq > s->seen)) {
        done = took(s, blocks, n, iov, NULL, n);
    } else {
        pick(s, blocks, n, &own);
        if (own.n)
            done = took(s, blocks, n, own.iov, &own, own.n);
    }
    if (done && blocks[done - 1]->seq > s->seen)
        s->seen = blocks[done - 1]->seq;
    return done;
}

/* ---- the ring ---- */

static bool covers(const hk_batch *b, uint64_t at)
{
    return b->some && at >= b->first &&
           (at < b->first + b->n || (b->last && at == b->first + b->n));
}

/* True: there is more for it. */
static bool serve(hk_stream *s, hk_batch *b)
{
    if (!covers(b, s->at) && !hk_feed_batch(s->feed, &s->at, b) && s->feed->pattern) {
        s->from_log = true;
        hk_stream_go_on(s);
        return false;
    }
    size_t i = (size_t)(s->at - b->first);
    if (i < b->n)
        s->at += hk_stream_send(s, b->blocks + i, b->iov + i, b->n - i);
    if (s->gone) {
        hk_stream_close(s);
        return false;
    }
    if (s->blocked)
        return false;
    if (b->last && b->seen > s->seen)
        s->seen = b->seen;
    return !b->last;
}

/* For about a millisecond, so that requests of the loop get their turn too; the next round goes on
 * where this one stopped. */
static void serve_some(hk_loop *l, hk_readers *r)
{
    hk_batch b;
    int64_t until = hk_mono_ns() + SLICE_NS;
    bool again = r->turn && r->again;
    b.some = false;
    b.n = 0;
    r->again = false;
    if (!r->turn)
        r->turn = r->ready;
    for (unsigned n = 1; r->turn; n++) {
        hk_stream *s = r->turn;
        r->turn = s->rnext;
        again = serve(s, &b) || again;
        if (n % LOOK_EVERY == 0 && hk_mono_ns() >= until)
            break;
    }
    hk_batch_drop(&b);
    again = again || r->again;
    if (r->turn || again)
        fall_behind(l, r);
    r->again = again;
}

void hk_stream_go_on(hk_stream *s)
{
    if (!flush(s)) {
        if (s->gone)
            hk_stream_close(s);
        return;
    }
    if (s->page) /* it is still being read */
        return;
    if (s->from_log && (s->asks || !hk_feed_join(s->feed, s->seen, &s->at))) {
        list_leave(s);
        if (!hk_catchup_ask(s))
            hk_stream_close(s);
        return;
    }
    s->from_log = false;
    list_enter(s);
    fall_behind(s->loop, s->of);
}

void hk_stream_news(hk_loop *l, hk_mail *m)
{
    hk_readers *r = (hk_readers *)(void *)m;
    if (l->dead) /* this is whoever appends; the loop has ended, and so have its readers */
        return;
    hk_feed_heard(r);
    fall_behind(l, r);
}

/* ---- the socket ---- */

/* Clients have nothing to say: it is dropped. False: it has left, or talks too much. */
static bool hear(hk_stream *s)
{
    char sink[4096];
    for (;;) {
        ssize_t n = recv(s->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        s->heard += (size_t)n;
        if (n == 0 || s->heard > HEARD_MAX)
            return false;
    }
}

static void on_socket(hk_loop *l, hk_watch *w, uint32_t events)
{
    hk_stream *s = (hk_stream *)(void *)w;
    (void)l;
    if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) || ((events & EPOLLIN) && !hear(s))) {
        hk_stream_close(s);
    } else if ((events & EPOLLOUT) && s->blocked) {
        s->blocked = false;
        hk_stream_go_on(s);
    }
}

/* ---- life ---- */

static void plan_sweeps(hk_loop *l, const hk_stream *s)
{
    int64_t every = (s->heartbeat_ms < s->stall_ms ? s->heartbeat_ms : s->stall_ms) / 4;
    every = every < 5 ? 5 : every > 1000 ? 1000 : every;
    if (!l->streams || every < l->streams_every_ms) {
        l->streams_every_ms = every;
        l->next_streams_ms = l->now_ms + every;
    }
}

void hk_stream_add(hk_stream *s)
{
    hk_loop *l = s->loop;
    s->of = &s->feed->at[l->index];
    s->watch.fn = on_socket;
    s->sent_ms = l->now_ms;
    plan_sweeps(l, s);
    s->next = l->streams;
    if (s->next)
        s->next->prev = s;
    l->streams = s;
    hk_count_bump(&l->counts.streams, 1);
    hk_feed_enter(s->of);
    if (hk_loop_watch(l, s->fd, &s->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET))
        hk_stream_go_on(s);
    else
        hk_stream_close(s);
}

void hk_stream_close(hk_stream *s)
{
    hk_loop *l = s->loop;
    list_leave(s);
    hk_catchup_forget(s);
    if (l->sweep_at == s)
        l->sweep_at = s->next;
    if (s->prev)
        s->prev->next = s->next;
    else
        l->streams = s->next;
    if (s->next)
        s->next->prev = s->prev;
    hk_count_bump(&l->counts.streams, (uint64_t)-1);
    hk_feed_leave(s->of);
    /* A child of the process may have the socket too; then closing would leave it registered. */
    (void)epoll_ctl(l->epfd, EPOLL_CTL_DEL, s->fd, NULL);
    close(s->fd);
    hk_stream_free(s);
}

void hk_streams_end(hk_loop *l)
{
    while (l->streams)
        hk_stream_close(l->streams);
}

/* ---- heartbeats, and those who stall ---- */

/* The place that the client would come back to, if it has moved since it was told, else a comment. */
static void beat(hk_stream *s)
{
    char id[HARK_CURSOR_TEXT];
    hk_buf b = {0};
    uint64_t seen = s->from_log || !s->rhere ? 0 : hk_feed_seen_at(s->feed, s->at);
    if (seen > s->seen)
        s->seen = seen;
    if (s->seen > s->told) {
        hk_feed_id(s->feed, s->seen, id);
        hk_buf_addf(&b, "id: %s\n\n", id);
    } else {
        hk_buf_adds(&b, ":\n\n");
    }
    s->part = hk_block_new(&b, 0, NULL);
    s->off = 0;
    hk_buf_free(&b);
    if (s->part && s->seen > s->told)
        s->told = s->seen;
    if (!flush(s) && s->gone)
        hk_stream_close(s);
}

/* True: it was sent a heartbeat. */
static bool look_over(hk_stream *s)
{
    hk_loop *l = s->loop;
    if (s->blocked) {
        if (l->now_ms - s->blocked_ms >= s->stall_ms) {
            hk_count_bump(&l->counts.streams_cut, 1);
            hk_stream_close(s);
        }
        return false;
    }
    if (l->now_ms - s->sent_ms >= s->heartbeat_ms) {
        beat(s);
        return true;
    }
    if (s->doubt_ms)
        hk_stream_doubt(s);
    return false;
}

/* Goes on where the last one stopped. */
static void sweep(hk_loop *l)
{
    int beats = 0;
    if (!l->sweep_at)
        l->sweep_at = l->streams;
    while (l->sweep_at && beats < BEATS_AT_ONCE) {
        hk_stream *s = l->sweep_at;
        l->sweep_at = s->next;
        beats += look_over(s);
    }
    l->next_streams_ms = l->now_ms + (l->sweep_at ? 1 : l->streams_every_ms);
}

void hk_streams_run(hk_loop *l)
{
    hk_readers *r = l->behind;
    l->behind = NULL;
    for (hk_readers *next; r; r = next) {
        next = r->next;
        r->behind = false;
        serve_some(l, r);
    }
    if (l->streams && l->now_ms >= l->next_streams_ms)
        sweep(l);
}
