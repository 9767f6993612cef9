/* The proxy's thread. It polls and then looks at every connection, whatever the poll has said: the calls
 * of the tests may have changed anything meanwhile. There are few connections. */
#include "proxy_i.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void proxy_must(bool good, const char *what)
{
    if (good)
        return;
    (void)fprintf(stderr, "FAILED: proxy: %s: %s\n", what, strerror(errno));
    abort();
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- connections ---- */

void proxy_close(int *fd, bool reset)
{
    const struct linger at_once = {.l_onoff = 1};
    if (*fd < 0)
        return;
    if (reset)
        (void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    (void)close(*fd);
    *fd = -1;
}

static void end_locked(conn *c, bool reset)
{
    proxy_close(&c->fd[0], reset);
    proxy_close(&c->fd[1], reset);
}

void proxy_cut_locked(proxy *p, conn *c)
{
    if (c->fd[0] < 0)
        return;
    end_locked(c, true);
    p->counts.cuts++;
    pthread_cond_broadcast(&p->news);
}

struct sockaddr_in proxy_address(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sa;
}

static int connect_target(const proxy *p)
{
    const struct sockaddr_in sa = proxy_address(p->target);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    proxy_must(fd >= 0, "socket");
    (void)connect(fd, (const struct sockaddr *)&sa, sizeof sa); /* a write tells if it failed */
    return fd;
}

static bool accept_locked(proxy *p)
{
    const int on = 1;
    int fd = p->listener < 0 || p->n_conns == CONNS_MAX
                 ? -1
                 : accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return false;
    conn *c = calloc(1, sizeof *c);
    proxy_must(c != NULL, "memory");
    c->fd[0] = fd;
    c->fd[1] = p->hole ? -1 : connect_target(p);
    c->mute = p->hole;
    c->next = p->conns;
    c->way[PROXY_TO_SERVER].to = c->way[PROXY_TO_CLIENT].from = 1;
    for (int i = 0; i < 2; i++)
        if (c->fd[i] >= 0)
            (void)setsockopt(c->fd[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    p->conns = c;
    p->n_conns++;
    p->counts.connections++;
    return true;
}

/* ---- passing on ---- */

static bool has_needle(const proxy *p, stream *s)
{
    char seam[2 * NEEDLE_MAX];
    size_t len = strlen(p->needle), head = s->n < len ? s->n : len;
    bool there = memmem(s->buf, s->n, p->needle, len) != NULL;
    memcpy(seam, s->tail, s->n_tail);
    memcpy(seam + s->n_tail, s->buf, head);
    there = there || memmem(seam, s->n_tail + head, p->needle, len) != NULL;
    /* the next seam: what may be the beginning of a needle, unless a whole one was counted */
    size_t all = s->n_tail + head, keep = len && !there ? len - 1 : 0;
    const char *end = s->n >= keep ? s->buf + s->n : seam + all;
    size_t there_is = s->n >= keep ? s->n : all;
    s->n_tail = keep < there_is ? keep : there_is;
    memcpy(s->tail, end - s->n_tail, s->n_tail);
    return there;
}

/* What the plans say of a chunk that has come; false: the connection is cut. */
static bool judge_locked(proxy *p, conn *c, proxy_way way)
{
    stream *s = &c->way[way];
    if (way == PROXY_TO_CLIENT && c->doomed && c->way[PROXY_TO_SERVER].n == 0) {
        proxy_cut_locked(p, c);
        return false;
    }
    if (s->n && p->needles_left && p->needle_way == way && has_needle(p, s) &&
        --p->needles_left == 0) {
        if (way == PROXY_TO_CLIENT)
            proxy_cut_locked(p, c);
        else
            c->doomed = true;
    }
    return c->fd[0] >= 0;
}

static bool may_read(const proxy *p, const conn *c, proxy_way way)
{
    const stream *s = &c->way[way];
    return c->fd[s->from] >= 0 && s->n == 0 && !s->eof && (!p->hold || p->hole || c->mute);
}

static void swallow_locked(proxy *p, conn *c, stream *s)
{
    p->counts.swallowed += s->n;
    c->mute = c->mute || s->n > 0;
    s->n = 0;
    if (s->eof && s->from == 1)
        proxy_close(&c->fd[1], false);
    else if (s->eof)
        end_locked(c, false);
}

static void pull_locked(proxy *p, conn *c, proxy_way way)
{
    stream *s = &c->way[way];
    if (p->hole && s->n > 0)
        swallow_locked(p, c, s);
    if (!may_read(p, c, way))
        return;
    ssize_t n = read(c->fd[s->from], s->buf, sizeof s->buf);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    s->eof = n <= 0;
    s->at = 0;
    s->n = n > 0 ? (size_t)n : 0;
    s->due = now_ms() + p->delay_ms;
    if (p->hole || c->mute)
        swallow_locked(p, c, s);
    else if (n < 0)
        end_locked(c, true);
    else
        (void)judge_locked(p, c, way);
}

static bool may_write(const proxy *p, const conn *c, proxy_way way)
{
    const stream *s = &c->way[way];
    return c->fd[s->to] >= 0 && s->n > 0 && !p->hold && !c->mute;
}

static void push_locked(proxy *p, conn *c, proxy_way way)
{
    stream *s = &c->way[way];
    if (may_write(p, c, way) && now_ms() >= s->due) {
        size_t most = p->slice ? 1 : s->n, left = p->left[way];
        if (left == 0)
            goto cut;
        ssize_t n = send(c->fd[s->to], s->buf + s->at, most < left ? most : left, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            end_locked(c, true);
        if (n <= 0)
            return;
        s->at += (size_t)n;
        s->n -= (size_t)n;
        p->counts.bytes[way] += (size_t)n;
        p->counts.writes++;
        p->left[way] = left == NO_LIMIT ? left : left - (size_t)n;
        if (p->left[way] == 0)
            goto cut;
    }
    if (s->eof && s->n == 0 && !s->shut && c->fd[s->to] >= 0) {
        s->shut = true;
        (void)shutdown(c->fd[s->to], SHUT_WR);
    }
    return;
cut:
    p->left[way] = NO_LIMIT;
    proxy_cut_locked(p, c);
}

static void step_locked(proxy *p)
{
    for (conn **at = &p->conns; *at;) {
        conn *c = *at;
        for (int way = 0; way < 2; way++) {
            pull_locked(p, c, (proxy_way)way);
            push_locked(p, c, (proxy_way)way);
        }
        if (c->way[0].shut && c->way[1].shut)
            end_locked(c, false);
        if (c->fd[0] >= 0) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        free(c);
        p->n_conns--;
    }
}

/* ---- the thread ---- */

static int watch_locked(const proxy *p, struct pollfd *fds, nfds_t *ret_n)
{
    int64_t now = now_ms(), wait = -1;
    nfds_t n = 0;
    fds[n++] = (struct pollfd){.fd = p->wake, .events = POLLIN};
    fds[n++] = (struct pollfd){.fd = p->n_conns < CONNS_MAX ? p->listener : -1, .events = POLLIN};
    for (const conn *c = p->conns; c; c = c->next)
        for (int way = 0; way < 2; way++) {
            const stream *s = &c->way[way];
            bool later = may_write(p, c, (proxy_way)way) && s->due > now;
            if (may_read(p, c, (proxy_way)way))
                fds[n++] = (struct pollfd){.fd = c->fd[s->from], .events = POLLIN};
            else if (later)
                wait = wait < 0 || s->due - now < wait ? s->due - now : wait;
            else if (may_write(p, c, (proxy_way)way))
                fds[n++] = (struct pollfd){.fd = c->fd[s->to], .events = POLLOUT};
        }
    *ret_n = n;
    return (int)wait;
}

void *proxy_run(void *ud)
{
    proxy *p = ud;
    struct pollfd fds[2 + 2 * CONNS_MAX];
    nfds_t n;
    uint64_t wakes;
    pthread_mutex_lock(&p->lock);
    while (!p->stop) {
        int wait = watch_locked(p, fds, &n);
        pthread_mutex_unlock(&p->lock);
        proxy_must(poll(fds, n, wait) >= 0 || errno == EINTR, "poll");
        pthread_mutex_lock(&p->lock);
        (void)!read(p->wake, &wakes, sizeof wakes);
        p->seen = p->asked; /* what was closed meanwhile is closed now that the poll is over */
        pthread_cond_broadcast(&p->news);
        while (accept_locked(p))
            continue;
        step_locked(p);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

void proxy_free_conns(proxy *p)
{
    step_locked(p);
}
