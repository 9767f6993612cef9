/* Taking connections in. The first loop accepts for all and deals them out in turn, so that loops
 * are loaded evenly and a listening socket handed over by a parent needs nothing special. When
 * descriptors run out, one kept in reserve is given up to accept and close, so that clients see an
 * end and the loop does not spin. */
#include "http/http_i.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

typedef struct newcomer {
    hk_mail mail;
    int fd;
    socklen_t len;
    struct sockaddr_storage addr;
} newcomer;

size_t hk_accept_limit(const hk_loop *l)
{
    return l->app->opts.max_connections / l->app->n_loops + 1;
}

static void add(hk_loop *l, int fd, const struct sockaddr_storage *addr, socklen_t len)
{
    size_t n = hk_count_get(&l->counts.connections) + hk_count_get(&l->counts.streams);
    if (n >= hk_accept_limit(l)) {
        close(fd);
        return;
    }
    if (l->stopping) /* a request may be on its way already: it is still answered */
        l->next_sweep_ms = l->now_ms + 20;
    (void)MHD_add_connection(l->daemon, fd, (const struct sockaddr *)addr, len);
}

static void add_mail(hk_loop *l, hk_mail *m)
{
    newcomer *n = (newcomer *)(void *)m;
    if (!l->daemon)
        close(n->fd);
    else
        add(l, n->fd, &n->addr, n->len);
    free(n);
}

static void deal(hk_loop *l, int fd, const struct sockaddr_storage *addr, socklen_t len)
{
    int on = 1;
    if (addr->ss_family != AF_UNIX)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    hk_loop *to = &l->app->loops[l->app->next_loop++ % l->app->n_loops];
    if (to == l || l->stopping) { /* others may have ended by now */
        add(l, fd, addr, len);
        return;
    }
    newcomer *n = malloc(sizeof *n);
    if (!n) {
        close(fd);
        return;
    }
    *n = (newcomer){.mail = {NULL, add_mail}, .fd = fd, .len = len, .addr = *addr};
    hk_loop_post(to, &n->mail);
}

static void shed(hark_app *app, int listener)
{
    if (app->reserve_fd >= 0)
        close(app->reserve_fd);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    app->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void accept_some(hk_loop *l, int listener)
{
    for (int i = 0; i < 64; i++) {
        struct sockaddr_storage addr;
        socklen_t len = sizeof addr;
        int fd = accept4(listener, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            deal(l, fd, &addr, len);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE)
            shed(l->app, listener);
        else if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void on_listener(hk_loop *l, hk_watch *w, uint32_t events)
{
    const hk_listener *from = (hk_listener *)(void *)w;
    (void)events;
    accept_some(l, from->fd);
}

hark_err hk_accept_start(hk_loop *l)
{
    hark_app *app = l->app;
    app->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (size_t i = 0; i < app->n_listeners; i++) {
        app->listeners[i].watch.fn = on_listener;
        if (!hk_loop_watch(l, app->listeners[i].fd, &app->listeners[i].watch, EPOLLIN))
            return HARK_ESYS;
    }
    return HARK_OK;
}

void hk_accept_end(hk_loop *l)
{
    hark_app *app = l->app;
    for (size_t i = 0; i < app->n_listeners; i++) {
        int fd = app->listeners[i].fd;
        accept_some(l, fd);
        (void)epoll_ctl(l->epfd, EPOLL_CTL_DEL, fd, NULL);
        close(fd);
        app->listeners[i].fd = -1;
    }
    app->n_listeners = 0;
}
