/* What tests call of the proxy, see proxy.h: they change what its thread goes by. */
#include "proxy_i.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HUNG_S = 60 };

static int bind_port(int *port)
{
    const int on = 1;
    struct sockaddr_in sa = proxy_address(*port);
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    proxy_must(fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
                   bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 &&
                   getsockname(fd, (struct sockaddr *)&sa, &len) == 0,
               "bind");
    *port = ntohs(sa.sin_port);
    return fd;
}

static void listen_locked(proxy *p)
{
    p->listener = bind_port(&p->port);
    proxy_must(listen(p->listener, 128) == 0, "listen");
}

/* Sockets that are closed here stay open as long as the thread polls them. */
static void changed(proxy *p)
{
    const uint64_t one = 1;
    uint64_t mine = ++p->asked;
    proxy_must(write(p->wake, &one, sizeof one) == sizeof one, "eventfd");
    while (p->seen < mine)
        pthread_cond_wait(&p->news, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

#define CHANGE(p, ...)                                                                             \
    do {                                                                                           \
        pthread_mutex_lock(&(p)->lock);                                                            \
        __VA_ARGS__;                                                                               \
        changed(p);                                                                                \
    } while (0)

proxy *proxy_new(int target_port)
{
    proxy *p = calloc(1, sizeof *p);
    pthread_condattr_t attr;
    proxy_must(p != NULL, "memory");
    *p = (proxy){.target = target_port, .left = {NO_LIMIT, NO_LIMIT}};
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->news, &attr);
    pthread_condattr_destroy(&attr);
    p->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    proxy_must(p->wake >= 0, "eventfd");
    p->holder = bind_port(&p->port); /* keeps the port while nobody listens */
    listen_locked(p);
    proxy_must(pthread_create(&p->thread, NULL, proxy_run, p) == 0, "thread");
    return p;
}

int proxy_port(const proxy *p)
{
    return p->port;
}

static void refuse_locked(proxy *p, bool on)
{
    if (on)
        proxy_close(&p->listener, false);
    else if (p->listener < 0)
        listen_locked(p);
}

void proxy_pass(proxy *p)
{
    CHANGE(p, p->slice = p->hold = p->hole = false; p->delay_ms = 0; p->needles_left = 0;
           p->left[0] = p->left[1] = NO_LIMIT; refuse_locked(p, false));
}

void proxy_delay(proxy *p, int64_t ms)
{
    CHANGE(p, p->delay_ms = ms);
}

void proxy_slice(proxy *p, bool on)
{
    CHANGE(p, p->slice = on);
}

void proxy_hold(proxy *p, bool on)
{
    CHANGE(p, p->hold = on);
}

void proxy_black_hole(proxy *p, bool on)
{
    CHANGE(p, p->hole = on);
}

void proxy_refuse(proxy *p, bool on)
{
    CHANGE(p, refuse_locked(p, on));
}

void proxy_cut(proxy *p)
{
    CHANGE(p, for (conn *c = p->conns; c; c = c->next) proxy_cut_locked(p, c));
}

void proxy_cut_after(proxy *p, proxy_way way, size_t n)
{
    CHANGE(p, p->left[way] = n);
}

void proxy_cut_reply(proxy *p, proxy_way way, const char *needle, unsigned k)
{
    proxy_must(strlen(needle) < NEEDLE_MAX, "a needle of at most 63 bytes");
    pthread_mutex_lock(&p->lock);
    memcpy(p->needle, needle, strlen(needle) + 1);
    p->needle_way = way;
    p->needles_left = k;
    for (conn *c = p->conns; c; c = c->next)
        c->way[0].n_tail = c->way[1].n_tail = 0;
    changed(p);
}

proxy_counts proxy_counted(proxy *p)
{
    pthread_mutex_lock(&p->lock);
    proxy_counts counts = p->counts;
    pthread_mutex_unlock(&p->lock);
    return counts;
}

void proxy_await_cuts(proxy *p, size_t n)
{
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += HUNG_S;
    pthread_mutex_lock(&p->lock);
    while (p->counts.cuts < n)
        proxy_must(pthread_cond_timedwait(&p->news, &p->lock, &end) == 0,
                   "a cut that does not come");
    pthread_mutex_unlock(&p->lock);
}

void proxy_free(proxy *p)
{
    if (!p)
        return;
    proxy_refuse(p, true);
    proxy_cut(p);
    CHANGE(p, p->stop = true);
    pthread_join(p->thread, NULL);
    proxy_free_conns(p);
    proxy_close(&p->holder, false);
    proxy_close(&p->wake, false);
    pthread_cond_destroy(&p->news);
    pthread_mutex_destroy(&p->lock);
    free(p);
}
