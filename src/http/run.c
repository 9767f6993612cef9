/* Starting, stopping, and running until a signal. */
#include "http/http_i.h"
#include "http/stream_i.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static hark_err may_start(hark_app *app, hark_errinfo *ei)
{
    if (app->fault.err)
        return hk_fail(ei, app->fault.err, "%s", app->fault.text);
    if (app->started)
        return hk_fail(ei, HARK_EINVAL, "the app has been started already");
    if (app->n_listeners == 0)
        return hk_fail(ei, HARK_EINVAL, "nothing to listen on; call hark_app_listen first");
    return HARK_OK;
}

static bool needs_workers(const hark_app *app)
{
    for (const hk_route *r = app->routes; r; r = r->next)
        if (r->blocking)
            return true;
    return false;
}

static hark_err make_loops(hark_app *app)
{
    app->loops = calloc(app->opts.loops, sizeof *app->loops);
    if (!app->loops)
        return HARK_ENOMEM;
    app->n_loops = app->opts.loops;
    for (size_t i = 0; i < app->n_loops; i++) {
        hk_loop *l = &app->loops[i];
        l->app = app;
        l->index = i;
        l->epfd = l->wake_fd = l->dead_fd = -1;
        pthread_mutex_init(&l->lock, NULL);
    }
    return HARK_OK;
}

static bool open_quit(hark_app *app)
{
    if (app->quit_fd < 0)
        app->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return app->quit_fd >= 0;
}

hark_err hark_app_start(hark_app *app, hark_errinfo *ei)
{
    hark_err err = may_start(app, ei);
    if (!err)
        err = hk_app_freeze(app, ei);
    if (err)
        return err;
    app->port = hark_app_port(app); /* the listeners are closed on stop */
    app->started = true;
    err = open_quit(app) ? make_loops(app) : HARK_ESYS;
    if (!err)
        err = hk_feeds_start(app);
    if (!err && needs_workers(app))
        err = hk_workers_start(&app->workers, app->opts.workers, app->opts.worker_queue);
    /* The first loop accepts for all, so it comes last. */
    for (size_t i = app->n_loops; i-- > 0 && !err;)
        err = hk_loop_start(&app->loops[i]);
    if (!err)
        return HARK_OK;
    (void)hk_fail(ei, err, "the app cannot be started: %s", hark_err_text(err));
    hark_err stopped = hark_app_stop(app, NULL);
    (void)stopped;
    return err;
}

/* ---- stopping ---- */

static void end_loop(hk_loop *l)
{
    if (l->running)
        pthread_join(l->thread, NULL);
    else if (l->daemon)
        MHD_stop_daemon(l->daemon);
    l->running = false;
    l->daemon = NULL;
    if (l->epfd >= 0)
        close(l->epfd);
    if (l->wake_fd >= 0)
        close(l->wake_fd);
    if (l->dead_fd >= 0)
        close(l->dead_fd);
    l->epfd = l->wake_fd = l->dead_fd = -1;
}

hark_err hark_app_stop(hark_app *app, hark_errinfo *ei)
{
    bool cut = false;
    hk_role role = hk_role_get();
    if (!hk_role_may_block() || role == HK_ROLE_WORKER)
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "an app cannot be stopped from a handler; use hark_app_quit");
    if (hk_feeds_call(app))
        return hk_fail(ei, HARK_EWRONGTHREAD,
                       "an app cannot be stopped from the encoder of a feed; use hark_app_quit");
    if (!app->started || app->stopped)
        return HARK_OK;
    app->stopped = true;
    for (size_t i = 0; i < app->n_loops; i++)
        if (app->loops[i].running)
            hk_loop_stop(&app->loops[i]);
    for (size_t i = app->n_loops; i-- > 0;) {
        end_loop(&app->loops[i]);
        cut = cut || app->loops[i].cut;
    }
    hk_workers_stop(&app->workers);
    hk_feeds_end(app);
    if (!cut)
        return HARK_OK;
    hk_log(HK_WARN, "http: requests were cut off after %lld ms", (long long)app->opts.drain_ms);
    return hk_fail(ei, HARK_ETIMEDOUT, "requests were still running after %lld ms",
                   (long long)app->opts.drain_ms);
}

/* ---- running until a signal ---- */

/* The one thing that a signal handler can reach: the descriptor plus 1, while hark_app_run waits.
 * The handler may run on any thread. */
static hk_mark signal_fd;
static hk_mark
    answering; /* handlers at work: the descriptor is not closed before they are through */

static void wake(int fd)
{
    uint64_t one = 1;
    ssize_t n = write(fd, &one, sizeof one);
    (void)n;
}

/* How often SIGTERM and SIGINT came while it waits: from others, and from hark_supervise, which
 * passes on what the service manager has perhaps sent to this process as well: that counts once. */
static hk_count asked[2][2];

static bool is_second(int sig, const siginfo_t *si)
{
    uint64_t supervisor = hk_mark_get(&hk_supervisor);
    bool passed_on = supervisor && si->si_code <= 0 && (uint64_t)si->si_pid == supervisor;
    return hk_count_add(&asked[sig == SIGINT][passed_on], 1) > 1;
}

static void on_signal(int sig, siginfo_t *si, void *context)
{
    int saved = errno;
    (void)hk_mark_add(&answering, 1);
    uint64_t fd = hk_mark_get_strong(&signal_fd);
    (void)context;
    if (is_second(sig, si)) {
        (void)signal(sig, SIG_DFL);
        (void)raise(sig); /* when this handler returns */
    } else if (fd) {
        wake((int)fd - 1);
    }
    (void)hk_mark_add(&answering, -1);
    errno = saved;
}

static void forget_signals(void)
{
    for (int i = 0; i < 4; i++)
        (void)hk_count_sub(&asked[i / 2][i % 2], hk_count_get(&asked[i / 2][i % 2]));
}

void hark_app_quit(hark_app *app)
{
    if (app->quit_fd >= 0)
        wake(app->quit_fd);
}

static void await_quit(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        continue;
}

/* The signals are ours before the first request comes in: whoever has got an answer may ask for the
 * end. */
hark_err hark_app_run(hark_app *app, hark_errinfo *ei)
{
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO}, term, intr;
    if (!hk_role_may_block())
        return hk_fail(ei, HARK_EWRONGTHREAD, "hark_app_run blocks; this thread must not");
    hark_err err = may_start(app, ei);
    if (err)
        return err;
    if (!open_quit(app))
        return hk_fail(ei, HARK_ESYS, "the app cannot be started: %s", strerror(errno));
    sigset_t both, before;
    sigemptyset(&both);
    sigaddset(&both, SIGTERM);
    sigaddset(&both, SIGINT);
    forget_signals();
    hk_mark_set(&signal_fd, (uint64_t)app->quit_fd + 1);
    sigaction(SIGTERM, &sa, &term);
    sigaction(SIGINT, &sa, &intr);
    pthread_sigmask(SIG_UNBLOCK, &both, &before);
    err = hark_app_start(app, ei);
    if (!err) {
        await_quit(app->quit_fd);
        err = hark_app_stop(app, ei);
    }
    hk_mark_set_strong(&signal_fd, 0);
    while (hk_mark_look(&answering))
        (void)sched_yield();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGINT, &intr, NULL);
    return err;
}
