/* What an app listens on: addresses that it binds or that the process was handed bound (base does
 * both), and sockets of the program's own. */
#include "http/http_i.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static hark_err kept_fault(hark_app *app, hark_errinfo *ei)
{
    return app->fault.err ? hk_fail(ei, app->fault.err, "%s", app->fault.text) : HARK_OK;
}

static hark_err add_listener(hark_app *app, int fd, hark_errinfo *ei)
{
    if (app->started || app->n_listeners == HK_LISTENERS_MAX) {
        close(fd);
        return hk_fail(ei, HARK_EINVAL, "%s",
                       app->started ? "the app has been started" : "too many addresses");
    }
    app->listeners[app->n_listeners++].fd = fd;
    return HARK_OK;
}

hark_err hark_app_listen(hark_app *app, const char *text, hark_errinfo *ei)
{
    int fd = -1;
    hark_err err = kept_fault(app, ei);
    if (!err)
        err = hk_listen_inherited(text, &fd, ei);
    if (!err && fd < 0)
        err = hk_listen_bind(text, (int)app->opts.backlog, &fd, ei);
    return err ? err : add_listener(app, fd, ei);
}

hark_err hark_app_listen_fd(hark_app *app, int fd, hark_errinfo *ei)
{
    int listening = 0, type = 0;
    socklen_t n = sizeof listening, m = sizeof type;
    hark_err err = kept_fault(app, ei);
    if (!err &&
        (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) != 0 ||
         getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) != 0 || !listening || type != SOCK_STREAM))
        err = hk_fail(ei, HARK_EINVAL, "descriptor %d is no listening stream socket", fd);
    int flags = err ? -1 : fcntl(fd, F_GETFL);
    if (!err && (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
                 fcntl(fd, F_SETFD, FD_CLOEXEC) != 0))
        err = hk_fail(ei, HARK_ESYS, "descriptor %d: %s", fd, strerror(errno));
    if (!err)
        return add_listener(app, fd, ei);
    close(fd);
    return err;
}

int hark_app_port(const hark_app *app)
{
    if (app->port)
        return app->port;
    return app->n_listeners ? hk_listen_port(app->listeners[0].fd) : 0;
}
