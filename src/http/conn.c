/* Connections as libmicrohttpd shows them: its callbacks, and what becomes of a connection that is
 * too slow, refused, or idle when the app stops. */
#include "http/http_i.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { LINGER_MS = 1000, LINGER_BYTES = 1 << 20 };

void hk_conn_stage(hk_conn *k, hk_stage stage, uint64_t moved)
{
    k->stage = stage;
    k->since_ms = k->loop->now_ms;
    k->moved = moved;
}

/* ---- requests ---- */

static void *on_target(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    hk_conn *k = info ? info->socket_context : NULL;
    (void)cls;
    if (!k || k->req)
        return NULL;
    k->loop->active = true;
    hk_conn_stage(k, HK_STAGE_HEAD, 0);
    k->limit_ms = k->loop->app->opts.header_timeout_ms;
    hark_ctx *c = hk_ctx_new(k);
    if (!c)
        return NULL;
    c->raw_len = uri ? strlen(uri) : 0;
    c->target_len = c->raw_len < HK_TARGET_MAX ? c->raw_len : HK_TARGET_MAX;
    c->target = hk_arena_copy(&c->arena, uri ? uri : "", c->target_len);
    if (!c->target)
        c->target = "";
    k->req = c;
    return k;
}

/* Paths and arguments are decoded by us, once. */
static size_t keep_raw(void *cls, struct MHD_Connection *mhd, char *s)
{
    (void)cls;
    (void)mhd;
    return strlen(s);
}

static enum MHD_Result begin(hk_conn *k, hark_ctx *c, const char *method, const char *url,
                             const char *version)
{
    const char *why = NULL;
    c->guarded = true;
    int status = hk_guard(c, method, url, version, &why);
    if (status) {
        hk_count_bump(&k->loop->counts.refused, 1);
        hk_ctx_refuse(c, status, why);
        return MHD_YES;
    }
    hk_dispatch(c);
    if (c->content_length > c->body_limit) {
        hk_ctx_refuse(c, 413, "the body is longer than this route takes");
        return MHD_YES;
    }
    hk_conn_stage(k, HK_STAGE_BODY, 0);
    return MHD_YES;
}

static enum MHD_Result take_body(hk_conn *k, hark_ctx *c, const char *data, size_t *len)
{
    size_t n = *len;
    *len = 0;
    k->moved += n;
    if (n > c->body_limit - c->body.len) {
        hk_conn_abort(k, 413);
        return MHD_NO;
    }
    if (!c->body.cap && c->content_length <= HK_BODY_KEEP)
        (void)hk_buf_reserve(&c->body, (size_t)c->content_length + 1);
    hk_buf_add(&c->body, data, n);
    if (!c->body.failed)
        return MHD_YES;
    hk_conn_abort(k, 503);
    return MHD_NO;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **con_cls)
{
    hk_conn *k = *con_cls;
    hark_ctx *c = k ? k->req : NULL;
    const char *why;
    (void)cls;
    if (!c || c->ran) /* out of memory, or cut off */
        return MHD_NO;
    if (!c->guarded)
        return begin(k, c, method, url, version);
    if (*len)
        return take_body(k, c, data, len);
    int status = hk_guard_trailers(c, &why);
    if (status) {
        hk_count_bump(&k->loop->counts.refused, 1);
        hk_ctx_refuse(c, status, why);
        return MHD_YES;
    }
    hk_ctx_run(c);
    if (!c->queued) {
        c->suspended = true;
        MHD_suspend_connection(mhd);
    }
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode how)
{
    hk_conn *k = *con_cls;
    (void)cls;
    (void)mhd;
    if (!k || !k->req)
        return;
    hark_ctx *c = k->req;
    k->req = NULL;
    hk_conn_stage(k, HK_STAGE_HEAD, 0);
    k->limit_ms = k->loop->app->opts.idle_timeout_ms;
    hk_ctx_done(c, how == MHD_REQUEST_TERMINATED_COMPLETED_OK || c->taken);
}

/* ---- connections ---- */

static void keep_peer(hk_conn *k, const struct sockaddr *sa)
{
    if (sa && sa->sa_family == AF_INET6)
        memcpy(&k->peer, sa, sizeof(struct sockaddr_in6));
    else if (sa && sa->sa_family == AF_INET)
        memcpy(&k->peer, sa, sizeof(struct sockaddr_in));
}

static void on_start(hk_loop *l, struct MHD_Connection *mhd, void **socket_context)
{
    hk_conn *k = calloc(1, sizeof *k);
    *socket_context = k;
    if (!k)
        return;
    k->loop = l;
    k->mhd = mhd;
    k->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    keep_peer(k, MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)->client_addr);
    k->limit_ms = l->app->opts.header_timeout_ms;
    hk_conn_stage(k, HK_STAGE_HEAD, 0);
    k->next = l->conns;
    if (k->next)
        k->next->prev = k;
    l->conns = k;
    hk_count_bump(&l->counts.accepted, 1);
    hk_count_bump(&l->counts.connections, 1);
}

static void on_end(hk_loop *l, hk_conn *k)
{
    if (k->prev)
        k->prev->next = k->next;
    else
        l->conns = k->next;
    if (k->next)
        k->next->prev = k->prev;
    hk_count_bump(&l->counts.connections, (uint64_t)-1);
    if (k->linger && l->daemon)
        hk_conn_linger_fd(l, fcntl(k->fd, F_DUPFD_CLOEXEC, 0));
    free(k);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **socket_context,
                          enum MHD_ConnectionNotificationCode what)
{
    if (what == MHD_CONNECTION_NOTIFY_STARTED)
        on_start(cls, mhd, socket_context);
    else if (*socket_context)
        on_end(cls, *socket_context);
}

struct MHD_Daemon *hk_conn_daemon(hk_loop *l)
{
    const hark_app_opts *o = &l->app->opts;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        on_request, l, MHD_OPTION_URI_LOG_CALLBACK, on_target, l, MHD_OPTION_UNESCAPE_CALLBACK,
        keep_raw, l, MHD_OPTION_NOTIFY_COMPLETED, on_completed, l, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, l, MHD_OPTION_CONNECTION_MEMORY_LIMIT, o->memory_per_connection,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)hk_accept_limit(l), MHD_OPTION_CONNECTION_TIMEOUT,
        0u, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

/* ---- the slow and the idle ---- */

static void end(hk_conn *k)
{
    k->shut = true;
    (void)shutdown(k->fd, SHUT_RDWR); /* libmicrohttpd sees the end and cleans up */
}

static bool too_slow(const hk_conn *k, const hark_app_opts *o)
{
    int64_t age = k->loop->now_ms - k->since_ms;
    int64_t grace = o->idle_timeout_ms + (int64_t)(k->moved / HK_MIN_RATE) * 1000;
    switch (k->stage) {
    case HK_STAGE_HEAD:
        return age > k->limit_ms;
    case HK_STAGE_BODY:
    case HK_STAGE_SEND:
        return age > grace;
    case HK_STAGE_RUN:
        break;
    }
    return false;
}

static bool idle(const hk_conn *k)
{
    int waiting = 0;
    return k->stage == HK_STAGE_HEAD && !k->req && ioctl(k->fd, FIONREAD, &waiting) == 0 &&
           waiting == 0;
}

/* The client has left in the middle of a request. libmicrohttpd (0.9.75) does not notice when the end
 * comes together with the last bytes, since its epoll tells each change once. */
static bool gone(const hk_conn *k)
{
    char next;
    return (k->stage == HK_STAGE_HEAD || k->stage == HK_STAGE_BODY) &&
           recv(k->fd, &next, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

void hk_conn_sweep(hk_loop *l)
{
    for (hk_conn *k = l->conns; k; k = k->next) {
        if (k->shut)
            continue;
        if (gone(k) || (l->stopping && idle(k))) {
            end(k);
        } else if (too_slow(k, &l->app->opts)) {
            hk_count_bump(&l->counts.timed_out, 1);
            if (k->req && (k->stage == HK_STAGE_HEAD || k->stage == HK_STAGE_BODY))
                hk_conn_abort(k, 408);
            end(k);
        }
    }
    for (hk_conn *k = l->lingers, *next; k; k = next) {
        next = k->next;
        if (l->now_ms - k->since_ms > LINGER_MS)
            hk_conn_linger_end(l, k);
    }
}

/* libmicrohttpd takes no reply while a body is being received, so this one goes past it. */
void hk_conn_abort(hk_conn *k, int status)
{
    hk_buf body = {0}, all = {0};
    hk_problem_write(&body, status, NULL, NULL, NULL, NULL);
    hk_buf_addf(&all,
                "HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
                "Content-Length: %zu\r\n\r\n",
                status, hk_status_text(status), body.len);
    hk_buf_add(&all, body.data, body.len);
    if (!all.failed && !body.failed) {
        ssize_t n = send(k->fd, all.data, all.len, MSG_NOSIGNAL | MSG_DONTWAIT);
        (void)n; /* a client that does not read gets no reply */
    }
    hk_buf_free(&all);
    hk_buf_free(&body);
    if (k->req) {
        k->req->ran = true;
        k->req->outcome.status = status;
    }
    k->linger = true;
}

/* ---- lingering: closing with unread input would reset the connection and lose the reply ---- */

static void read_lingering(hk_loop *l, hk_watch *w, uint32_t events)
{
    hk_conn *k = (hk_conn *)(void *)w;
    char sink[16384];
    (void)events;
    for (int i = 0; i < 8; i++) {
        ssize_t n = recv(k->fd, sink, sizeof sink, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        k->moved += n > 0 ? (uint64_t)n : 0;
        if (n <= 0 || k->moved > LINGER_BYTES) {
            hk_conn_linger_end(l, k);
            return;
        }
    }
}

void hk_conn_linger_fd(hk_loop *l, int fd)
{
    hk_conn *k = fd < 0 ? NULL : calloc(1, sizeof *k);
    if (!k) {
        if (fd >= 0)
            close(fd);
        return;
    }
    k->watch.fn = read_lingering;
    k->loop = l;
    k->fd = fd;
    (void)shutdown(k->fd, SHUT_WR);
    hk_conn_stage(k, HK_STAGE_HEAD, 0);
    k->next = l->lingers;
    if (k->next)
        k->next->prev = k;
    l->lingers = k;
    l->n_lingers++;
    if (!hk_loop_watch(l, k->fd, &k->watch, EPOLLIN | EPOLLRDHUP))
        hk_conn_linger_end(l, k);
}

void hk_conn_linger_end(hk_loop *l, hk_conn *k)
{
    if (k->prev)
        k->prev->next = k->next;
    else
        l->lingers = k->next;
    if (k->next)
        k->next->prev = k->prev;
    l->n_lingers--;
    close(k->fd);
    free(k);
}
