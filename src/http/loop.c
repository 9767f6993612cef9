/* An event loop: one thread, one libmicrohttpd daemon, one mailbox. libmicrohttpd's own threads
 * lose wake-ups of suspended connections (0.9.75), so the loop waits itself, on the daemon's epoll
 * descriptor and an eventfd, and everything that touches a connection runs here. The eventfd is
 * written only when the loop sleeps, once for a batch. */
#include "http/http_i.h"
#include "http/stream_i.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- mailbox ---- */

static void wake(hk_loop *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->wake_fd, &one, sizeof one);
    (void)n; /* fails only when it is readable already */
}

/* The loop has ended: the sender does what is left, one at a time. */
static void post_dead(hk_loop *l, hk_mail *m)
{
    m->fn(l, m);
    size_t drop = l->orphans_done;
    l->orphans_done = 0;
    hk_stream *unopened = l->unopened;
    l->unopened = NULL;
    hark_app *app = l->app;
    pthread_mutex_unlock(&l->lock);
    for (hk_stream *next; unopened; unopened = next) {
        next = unopened->next;
        hk_stream_free(unopened);
    }
    while (drop--)
        hk_app_put(app);
}

void hk_loop_post(hk_loop *l, hk_mail *m)
{
    m->next = NULL;
    pthread_mutex_lock(&l->lock);
    if (l->dead) {
        post_dead(l, m);
        return;
    }
    if (l->last)
        l->last->next = m;
    else
        l->first = m;
    l->last = m;
    bool was_asleep = l->sleeping;
    l->sleeping = false;
    if (was_asleep) /* under the lock: the loop cannot end and close the descriptor meanwhile */
        wake(l);
    pthread_mutex_unlock(&l->lock);
}

bool hk_loop_take(hk_loop *l, bool may_sleep)
{
    pthread_mutex_lock(&l->lock);
    hk_mail *m = l->first;
    l->first = l->last = NULL;
    l->sleeping = may_sleep && !m;
    pthread_mutex_unlock(&l->lock);
    bool some = m != NULL;
    for (hk_mail *next; m; m = next) {
        next = m->next; /* m may be gone afterwards */
        m->fn(l, m);
    }
    return some;
}

/* ---- timers of requests ---- */

/* Deadlines mostly come in order, so the place is found from the end. */
void hk_loop_timer_add(hk_loop *l, hark_ctx *c)
{
    hark_ctx *before = l->last_timer;
    while (before && before->deadline_ms > c->deadline_ms)
        before = before->timer_prev;
    c->timer_prev = before;
    c->timer_next = before ? before->timer_next : l->timers;
    if (before)
        before->timer_next = c;
    else
        l->timers = c;
    if (c->timer_next)
        c->timer_next->timer_prev = c;
    else
        l->last_timer = c;
    c->timed = true;
}

void hk_loop_timer_drop(hk_loop *l, hark_ctx *c)
{
    if (!c->timed)
        return;
    if (c->timer_prev)
        c->timer_prev->timer_next = c->timer_next;
    else
        l->timers = c->timer_next;
    if (c->timer_next)
        c->timer_next->timer_prev = c->timer_prev;
    else
        l->last_timer = c->timer_prev;
    c->timed = false;
}

static void run_timers(hk_loop *l)
{
    while (l->timers && l->timers->deadline_ms <= l->now_ms) {
        hark_ctx *c = l->timers;
        hk_loop_timer_drop(l, c);
        hk_ctx_expire(c);
    }
}

/* ---- the loop ---- */

/* How often connections are looked over for being slow. */
static int64_t sweep_every(const hk_loop *l)
{
    const hark_app_opts *o = &l->app->opts;
    int64_t least =
        o->header_timeout_ms < o->idle_timeout_ms ? o->header_timeout_ms : o->idle_timeout_ms;
    int64_t every = least / 8;
    if (l->stopping || every < 5)
        every = 5;
    return every > 1000 ? 1000 : every;
}

static int timeout_of(hk_loop *l)
{
    MHD_UNSIGNED_LONG_LONG mhd;
    bool again = l->again || l->behind;
    l->again = false;
    if (again || (MHD_get_timeout(l->daemon, &mhd) == MHD_YES && mhd == 0))
        return 0;
    int64_t until = l->conns || l->lingers || l->stopping ? l->next_sweep_ms : INT64_MAX;
    if (l->timers && l->timers->deadline_ms < until)
        until = l->timers->deadline_ms;
    if (l->streams && l->next_streams_ms < until)
        until = l->next_streams_ms;
    if (until == INT64_MAX)
        return -1;
    int64_t left = until - l->now_ms;
    return left < 0 ? 0 : left > 1000 ? 1000 : (int)left;
}

static void on_wake(hk_loop *l, hk_watch *w, uint32_t events)
{
    uint64_t n;
    ssize_t r = read(l->wake_fd, &n, sizeof n);
    (void)r, (void)w, (void)events;
}

static void on_mhd(hk_loop *l, hk_watch *w, uint32_t events)
{
    (void)l, (void)w, (void)events; /* MHD_run follows anyway */
}

/* While requests come in, libmicrohttpd is asked again at once, which saves a system call for each
 * batch; the other descriptors get their turn every millisecond, or when there is nothing to do. */
static bool go_on(hk_loop *l)
{
    bool busy = l->active && l->now_ms == l->waited_ms;
    l->active = false;
    return busy;
}

static void wait_events(hk_loop *l)
{
    struct epoll_event events[128];
    l->now_ms = hk_mono_ms();
    if (go_on(l))
        return;
    int timeout = timeout_of(l);
    if (hk_loop_take(l, timeout != 0))
        timeout = 0;
    int n = epoll_wait(l->epfd, events, (int)HK_COUNTOF(events), timeout);
    l->now_ms = l->waited_ms = hk_mono_ms();
    for (int i = 0; i < n; i++) {
        hk_watch *w = events[i].data.ptr;
        w->fn(l, w, events[i].events);
    }
}

static bool finished(hk_loop *l)
{
    if (!l->stopping)
        return false;
    if (!l->conns && l->n_live == 0 && !l->lingers)
        return true;
    l->cut = l->now_ms >= l->stop_at_ms && (l->n_live || l->conns);
    return l->now_ms >= l->stop_at_ms;
}

static void round_(hk_loop *l)
{
    wait_events(l);
    (void)hk_loop_take(l, false);
    run_timers(l);
    hk_streams_run(l);
    if (l->now_ms >= l->next_sweep_ms) {
        hk_conn_sweep(l);
        l->next_sweep_ms = l->now_ms + sweep_every(l);
    }
    MHD_run(l->daemon);
}

/* Takes leave of what is still there: contexts that others hold live on until they are given
 * back; connections are cut. */
static void shut(hk_loop *l)
{
    for (hark_ctx *c = l->live; c; c = c->next)
        hk_ctx_detach(c);
    hk_streams_end(l);
    MHD_run(l->daemon);
    MHD_stop_daemon(l->daemon);
    l->daemon = NULL;
    while (l->lingers) /* stopping the daemon may have added some */
        hk_conn_linger_end(l, l->lingers);
    pthread_mutex_lock(&l->lock);
    while (l->first) { /* nobody else will run them; they may post more */
        pthread_mutex_unlock(&l->lock);
        (void)hk_loop_take(l, false);
        pthread_mutex_lock(&l->lock);
    }
    l->dead = true;
    hk_ref_get(&l->app->refs, (unsigned)l->n_live);
    pthread_mutex_unlock(&l->lock);
    hk_ctx_free_all(l);
}

static void *loop_main(void *arg)
{
    hk_loop *l = arg;
    hk_role_set(HK_ROLE_LOOP);
    while (!finished(l))
        round_(l);
    shut(l);
    return NULL;
}

static void on_stop(hk_loop *l, hk_mail *m)
{
    (void)m;
    l->stopping = true;
    l->stop_at_ms = l->now_ms + l->app->opts.drain_ms;
    l->next_sweep_ms = l->now_ms;
    hk_streams_end(l);
    if (l->index == 0)
        hk_accept_end(l);
}

void hk_loop_stop(hk_loop *l)
{
    l->stop_mail.fn = on_stop;
    hk_loop_post(l, &l->stop_mail);
}

bool hk_loop_watch(hk_loop *l, int fd, hk_watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    return epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &e) == 0;
}

hark_err hk_loop_start(hk_loop *l)
{
    char name[16] = "hark-loop";
    l->now_ms = hk_mono_ms();
    l->epfd = epoll_create1(EPOLL_CLOEXEC);
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->dead_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (l->epfd < 0 || l->wake_fd < 0 || l->dead_fd < 0)
        return HARK_ESYS;
    l->daemon = hk_conn_daemon(l);
    if (!l->daemon)
        return HARK_ENOMEM;
    l->mhd_fd = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    l->wake_watch.fn = on_wake;
    l->mhd_watch.fn = on_mhd;
    if (!hk_loop_watch(l, l->wake_fd, &l->wake_watch, EPOLLIN) ||
        !hk_loop_watch(l, l->mhd_fd, &l->mhd_watch, EPOLLIN))
        return HARK_ESYS;
    hark_err err = l->index == 0 ? hk_accept_start(l) : HARK_OK;
    if (!err)
        err = hk_thread_start(&l->thread, name, loop_main, l);
    l->running = !err;
    return err;
}
