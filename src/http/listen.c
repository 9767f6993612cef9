/* Binding addresses, with errors that say which one and what to do about it. */
#include "http/http_i.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct address {
    struct sockaddr_in6 sa; /* or sockaddr_in, by family */
    socklen_t len;
} address;

static bool parse_host(const char *host, uint16_t port, bool v6, address *ret)
{
    memset(ret, 0, sizeof *ret);
    if (v6) {
        ret->sa.sin6_family = AF_INET6;
        ret->sa.sin6_port = htons(port);
        ret->len = sizeof(struct sockaddr_in6);
        return inet_pton(AF_INET6, host, &ret->sa.sin6_addr) == 1;
    }
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &in4.sin_addr) != 1)
        return false;
    memcpy(&ret->sa, &in4, sizeof in4);
    ret->len = sizeof in4;
    return true;
}

static hark_err parse(const char *text, address *ret, hark_errinfo *ei)
{
    char host[64];
    uint64_t port;
    const char *colon = text ? strrchr(text, ':') : NULL;
    size_t n = colon ? (size_t)(colon - text) : 0;
    bool v6 = n > 2 && text[0] == '[' && text[n - 1] == ']';
    size_t from = v6 ? 1 : 0, len = v6 ? n - 2 : n;
    if (colon && len < sizeof host && hk_parse_u64(colon + 1, strlen(colon + 1), &port) &&
        port <= 65535) {
        memcpy(host, text + from, len);
        host[len] = '\0';
        if (parse_host(host, (uint16_t)port, v6, ret))
            return HARK_OK;
    }
    return hk_fail(ei, HARK_EINVAL,
                   "'%.100s' is no address to listen on; write it as 127.0.0.1:8080 or [::1]:8080",
                   text ? text : "(null)");
}

static hark_err bind_failed(const char *text, int e, hark_errinfo *ei)
{
    switch (e) {
    case EADDRINUSE:
        return hk_fail(ei, HARK_EEXIST,
                       "cannot listen on %s: address already in use; stop the other program or "
                       "choose another port (0 takes a free one)",
                       text);
    case EACCES:
        return hk_fail(ei, HARK_EDENIED,
                       "cannot listen on %s: not allowed; ports below 1024 need a privilege, "
                       "choose another one",
                       text);
    case EADDRNOTAVAIL:
        return hk_fail(ei, HARK_EINVAL,
                       "cannot listen on %s: this machine has no such address; 127.0.0.1 is this "
                       "machine only, 0.0.0.0 is all of its addresses",
                       text);
    default:
        return hk_fail(ei, HARK_ESYS, "cannot listen on %s: %s", text, strerror(e));
    }
}

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
    app->listeners[app->n_listeners++] = fd;
    return HARK_OK;
}

hark_err hark_app_listen(hark_app *app, const char *text, hark_errinfo *ei)
{
    address a;
    int on = 1;
    hark_err err = kept_fault(app, ei);
    if (!err)
        err = parse(text, &a, ei);
    if (err)
        return err;
    int fd = socket(a.sa.sin6_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return bind_failed(text, errno, ei);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.sa.sin6_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a.sa, a.len) != 0 || listen(fd, (int)app->opts.backlog) != 0) {
        int e = errno;
        close(fd);
        return bind_failed(text, e, ei);
    }
    return add_listener(app, fd, ei);
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
    struct sockaddr_in6 sa = {0};
    struct sockaddr_in in4;
    socklen_t len = sizeof sa;
    if (app->port)
        return app->port;
    if (app->n_listeners == 0 || getsockname(app->listeners[0], (struct sockaddr *)&sa, &len) != 0)
        return 0;
    memcpy(&in4, &sa, sizeof in4);
    return sa.sin6_family == AF_INET6  ? ntohs(sa.sin6_port)
           : sa.sin6_family == AF_INET ? ntohs(in4.sin_port)
                                       : 0;
}
