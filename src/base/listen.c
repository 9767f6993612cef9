/* listen.c: sockets to listen on: parsing an address, binding it, with errors that say which one
 * and what to do about it; and the sockets that a process was handed by systemd or by a parent.
 * These are kept in one table for the process, since so they came. */
#include "base/base.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST_FD = 3 }; /* as systemd does it */

typedef struct address {
    struct sockaddr_in6 sa; /* or sockaddr_in, by family */
    socklen_t len;
} address;

/* ---- addresses ---- */

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

/* ---- binding ---- */

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

hark_err hk_listen_bind(const char *text, int backlog, int *ret_fd, hark_errinfo *ei)
{
    address a;
    int on = 1;
    hark_err err = parse(text, &a, ei);
    if (err)
        return err;
    int fd = socket(a.sa.sin6_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return bind_failed(text, errno, ei);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a.sa.sin6_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a.sa, a.len) != 0 || listen(fd, backlog) != 0) {
        int e = errno;
        close(fd);
        return bind_failed(text, e, ei);
    }
    *ret_fd = fd;
    return HARK_OK;
}

/* ---- what was handed over ---- */

static struct {
    pthread_mutex_t lock;
    pid_t pid; /* whom it was handed to: a child of that process has none of it */
    size_t n;
    int fds[HK_INHERITED_MAX]; /* -1 = taken */
} inherited = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t number_of(const char *variable)
{
    const char *s = getenv(variable);
    uint64_t n = 0;
    return s && hk_parse_u64(s, strlen(s), &n) ? n : 0;
}

static bool is_listening(int fd)
{
    int listening = 0, type = 0;
    socklen_t n = sizeof listening, m = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) == 0 && listening &&
           getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &m) == 0 && type == SOCK_STREAM;
}

static void read_environment_locked(void)
{
    uint64_t n = number_of("LISTEN_FDS");
    inherited.pid = getpid();
    inherited.n = 0;
    if (number_of("LISTEN_PID") != (uint64_t)getpid())
        return;
    while (inherited.n < n && inherited.n < HK_INHERITED_MAX) {
        inherited.fds[inherited.n] = FIRST_FD + (int)inherited.n;
        inherited.n++;
    }
}

/* Close-on-exec is set on all of them: programs that this one starts have no business with them. */
static void look_locked(void)
{
    if (inherited.pid != getpid())
        read_environment_locked();
    for (size_t i = 0; i < inherited.n; i++)
        if (inherited.fds[i] >= 0)
            (void)fcntl(inherited.fds[i], F_SETFD, FD_CLOEXEC);
}

/* A socket for all addresses of both kinds, as systemd binds a bare port, has IPv4's too. */
static bool covers_both(int fd, const struct sockaddr_in6 *bound)
{
    int only = 1;
    socklen_t n = sizeof only;
    return IN6_IS_ADDR_UNSPECIFIED(&bound->sin6_addr) &&
           getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &n) == 0 && !only;
}

static bool is_bound_to(int fd, const address *want)
{
    struct sockaddr_in6 bound = {0};
    struct sockaddr_in bound4, want4;
    socklen_t len = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &len) != 0)
        return false;
    /* the port is at the same place in both kinds */
    if (want->sa.sin6_port && want->sa.sin6_port != bound.sin6_port)
        return false;
    memcpy(&bound4, &bound, sizeof bound4);
    memcpy(&want4, &want->sa, sizeof want4);
    if (bound.sin6_family == AF_INET6 && want->sa.sin6_family == AF_INET)
        return want4.sin_addr.s_addr == htonl(INADDR_ANY) && covers_both(fd, &bound);
    if (bound.sin6_family != want->sa.sin6_family)
        return false;
    if (bound.sin6_family == AF_INET6)
        return memcmp(&bound.sin6_addr, &want->sa.sin6_addr, sizeof bound.sin6_addr) == 0;
    return bound.sin6_family == AF_INET && bound4.sin_addr.s_addr == want4.sin_addr.s_addr;
}

static int take_locked(const address *want)
{
    for (size_t i = 0; i < inherited.n; i++) {
        int fd = inherited.fds[i];
        if (fd < 0 || !is_listening(fd) || !is_bound_to(fd, want))
            continue;
        inherited.fds[i] = -1;
        return fd;
    }
    return -1;
}

hark_err hk_listen_inherited(const char *text, int *ret_fd, hark_errinfo *ei)
{
    address a;
    hark_err err = parse(text, &a, ei);
    if (err)
        return err;
    pthread_mutex_lock(&inherited.lock);
    look_locked();
    *ret_fd = take_locked(&a);
    pthread_mutex_unlock(&inherited.lock);
    if (*ret_fd >= 0)
        (void)fcntl(*ret_fd, F_SETFL, fcntl(*ret_fd, F_GETFL) | O_NONBLOCK);
    return HARK_OK;
}

size_t hk_listen_rest(int *ret_fds, size_t max)
{
    size_t n = 0;
    pthread_mutex_lock(&inherited.lock);
    look_locked();
    for (size_t i = 0; i < inherited.n && n < max; i++) {
        if (inherited.fds[i] < 0)
            continue;
        ret_fds[n++] = inherited.fds[i];
        inherited.fds[i] = -1;
    }
    pthread_mutex_unlock(&inherited.lock);
    return n;
}

/* ---- handing over ---- */

static bool is_among(int fd, const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fds[i] == fd)
            return true;
    return false;
}

void hk_listen_arrange(int *fds, size_t n)
{
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++)
        if (!is_among(fd, fds, n) && fcntl(fd, F_GETFD) >= 0)
            return;
    /* first all out of the way, then each to its place */
    for (size_t i = 0; i < n; i++) {
        int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FD + (int)n);
        if (fd < 0)
            return;
        close(fds[i]);
        fds[i] = fd;
    }
    for (size_t i = 0; i < n; i++) {
        int to = FIRST_FD + (int)i;
        if (dup3(fds[i], to, O_CLOEXEC) != to)
            return;
        close(fds[i]);
        fds[i] = to;
    }
}

static bool announce(size_t n)
{
    char pid[24], count[24];
    (void)snprintf(pid, sizeof pid, "%d", (int)getpid());
    (void)snprintf(count, sizeof count, "%zu", n);
    for (int fd = FIRST_FD; fd < FIRST_FD + (int)n; fd++)
        (void)fcntl(fd, F_SETFD, 0); /* until they are looked at, as systemd does */
    return setenv("LISTEN_PID", pid, 1) == 0 && setenv("LISTEN_FDS", count, 1) == 0;
}

hark_err hk_listen_give(const int *fds, size_t n)
{
    bool in_place = n > 0 && n <= HK_INHERITED_MAX;
    for (size_t i = 0; i < n; i++)
        in_place = in_place && fds[i] == FIRST_FD + (int)i;
    (void)unsetenv("LISTEN_FDNAMES");
    if (in_place && !announce(n))
        return HARK_ENOMEM;
    if (!in_place) {
        (void)unsetenv("LISTEN_PID");
        (void)unsetenv("LISTEN_FDS");
    }
    pthread_mutex_lock(&inherited.lock);
    inherited.pid = getpid();
    inherited.n = n < HK_INHERITED_MAX ? n : HK_INHERITED_MAX;
    memcpy(inherited.fds, fds, inherited.n * sizeof *fds);
    pthread_mutex_unlock(&inherited.lock);
    return HARK_OK;
}

int hk_listen_port(int fd)
{
    struct sockaddr_in6 sa = {0};
    struct sockaddr_in in4;
    socklen_t len = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)&sa, &len) != 0)
        return 0;
    memcpy(&in4, &sa, sizeof in4);
    return sa.sin6_family == AF_INET6  ? ntohs(sa.sin6_port)
           : sa.sin6_family == AF_INET ? ntohs(in4.sin_port)
                                       : 0;
}
