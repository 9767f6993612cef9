/* conn.c: a connection to a Redis server: connecting, logging in, sending, receiving, each with a
 * deadline. Commands are gathered and sent together; replies come in the same order. It belongs to
 * one thread at a time, repeats nothing and never connects by itself. */
#include "store/redis/conn_i.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static hark_err broken(const hk_redis_conn *c, const char *why, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ESTORE, "redis at %s: %.300s", c->url->place, why);
}

/* ---- waiting ---------------------------------------------------------------------------------- */

static int poll_ms(int64_t left_ns)
{
    int64_t ms = (left_ns + 999999) / 1000000;
    return ms > 60000 ? 60000 : (int)ms;
}

/* Until the descriptor can be read or written. */
static hark_err wait_for(const hk_redis_conn *c, int fd, short events, int64_t deadline,
                         hark_errinfo *ei)
{
    struct pollfd p[2] = {{.fd = fd, .events = events}, {.fd = c->wake, .events = POLLIN}};
    for (;;) {
        int64_t left = deadline - hk_mono_ns();
        int n = poll(p, 2, left > 0 ? poll_ms(left) : 0);
        if (n > 0 && p[1].revents)
            return hk_fail(ei, HARK_ECANCELED, "redis at %s: the store is being closed",
                           c->url->place);
        if (n > 0)
            return HARK_OK;
        if (n < 0 && errno != EINTR)
            return broken(c, strerror(errno), ei);
        if (left <= 0)
            return hk_fail(ei, HARK_ETIMEDOUT,
                           "redis at %s does not answer in time; is the server "
                           "stopped, or the network cut?",
                           c->url->place);
    }
}

hark_err hk_redis_in_time(hark_err err, hark_errinfo *ei)
{
    if (err == HARK_ETIMEDOUT && ei)
        ei->err = HARK_ESTORE;
    return err == HARK_ETIMEDOUT ? HARK_ESTORE : err;
}

/* ---- connecting ------------------------------------------------------------------------------- */

static hark_err connect_to(const hk_redis_conn *c, const struct addrinfo *a, int64_t deadline,
                           int *ret_fd, hark_errinfo *ei)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return broken(c, strerror(errno), ei);
    hark_err err = HARK_OK;
    int fault = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
    if (fault == EINPROGRESS) {
        socklen_t len = sizeof fault;
        err = wait_for(c, fd, POLLOUT, deadline, ei);
        if (!err && getsockopt(fd, SOL_SOCKET, SO_ERROR, &fault, &len) != 0)
            fault = errno;
    }
    if (!err && fault)
        err = hk_fail(ei, HARK_ESTORE, "redis at %s: %s; does a server listen there?",
                      c->url->place, strerror(fault));
    if (err)
        close(fd);
    else
        *ret_fd = fd;
    return err;
}

/* Until when the first of these addresses may be tried, so that each has its share. */
static int64_t share(const struct addrinfo *a, int64_t deadline)
{
    int64_t now = hk_mono_ns(), n = 0;
    for (; a; a = a->ai_next)
        n++;
    return now + (deadline - now) / n;
}

/* The first address that answers. */
static hark_err connect_any(const hk_redis_conn *c, int64_t deadline, int *ret_fd, hark_errinfo *ei)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *list;
    int fault = getaddrinfo(c->url->host, c->url->port, &hints, &list);
    if (fault)
        return hk_fail(ei, HARK_ESTORE, "redis at %s: the host is not found: %s", c->url->place,
                       gai_strerror(fault));
    hark_err err = HARK_ESTORE;
    for (struct addrinfo *a = list; a && (err == HARK_ESTORE || err == HARK_ETIMEDOUT);
         a = a->ai_next)
        err = connect_to(c, a, share(a, deadline), ret_fd, ei);
    freeaddrinfo(list);
    return err;
}

/* A peer that is gone without a word is noticed after about a minute, should nobody ask it. */
static void set_options(int fd)
{
    const int on = 1, idle = 15, interval = 15, count = 3;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count);
}

static hark_err adopt(hk_redis_conn *c, int fd, hark_errinfo *ei)
{
    set_options(fd);
    c->context = redisConnectFd(fd);
    if (!c->context) {
        close(fd);
        return hk_fail(ei, HARK_ENOMEM, "no memory for a connection to redis");
    }
    c->context->flags &= ~REDIS_BLOCK; /* nothing to read is no error: wait_for waits */
    return HARK_OK;
}

/* ---- logging in ------------------------------------------------------------------------------- */

bool hk_redis_is_error(const redisReply *r, const char *code)
{
    size_t len = strlen(code);
    return r->type == REDIS_REPLY_ERROR && r->len > len && memcmp(r->str, code, len) == 0 &&
           r->str[len] == ' ';
}

hark_err hk_redis_refused(const hk_redis_conn *c, const redisReply *r, hark_errinfo *ei)
{
    static const char *const denials[] = {"NOAUTH", "WRONGPASS", "NOPERM", "DENIED"};
    const char *hint = "";
    hark_err err = HARK_ESTORE;
    for (size_t i = 0; i < HK_COUNTOF(denials); i++)
        if (hk_redis_is_error(r, denials[i]))
            err = HARK_EDENIED;
    if (hk_redis_is_error(r, "NOAUTH"))
        hint = "; write user and password into the URL, //user:password@host";
    else if (hk_redis_is_error(r, "WRONGPASS"))
        hint = "; mend user and password in the URL";
    return hk_fail(ei, err, "redis at %s refuses: %.300s%s", c->url->place, r->str, hint);
}

hark_err hk_redis_strange(const hk_redis_conn *c, const char *command, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ESTORE,
                   "redis at %s: the reply to %s is not one that Redis gives; check that the host "
                   "and port in the URL are a Redis server's",
                   c->url->place, command);
}

/* A server from before users knows AUTH with a password alone. */
static void add_auth(hk_redis_conn *c)
{
    const hk_redis_url *u = c->url;
    hk_redis_arg args[3] = {{"AUTH", 4}};
    size_t n = 1;
    if (!u->password)
        return;
    if (u->user)
        args[n++] = (hk_redis_arg){u->user, strlen(u->user)};
    args[n++] = (hk_redis_arg){u->password, strlen(u->password)};
    hk_redis_add(c, args, n);
}

/* Does a server that has no WRONGPASS refuse the login so? */
static bool is_old_denial(const redisReply *r)
{
    static const char *const denials[] = {"ERR invalid password", "ERR Client sent AUTH",
                                          "ERR AUTH ", "ERR wrong number of arguments for 'auth'"};
    for (size_t i = 0; i < HK_COUNTOF(denials); i++)
        if (strncmp(r->str, denials[i], strlen(denials[i])) == 0)
            return true;
    return false;
}

/* A server that does not know AUTH repeats its arguments, the password among them. */
static void cut_args(redisReply *r)
{
    char *args = strstr(r->str, ", with args");
    if (!args)
        return;
    *args = '\0';
    r->len = (size_t)(args - r->str);
}

static hark_err auth_refused(const hk_redis_conn *c, redisReply *r, hark_errinfo *ei)
{
    cut_args(r);
    if (!is_old_denial(r))
        return hk_redis_refused(c, r, ei);
    return hk_fail(ei, HARK_EDENIED,
                   "redis at %s refuses the login: %.300s; mend user and password in the URL",
                   c->url->place, r->str);
}

static hark_err check_auth(hk_redis_conn *c, int64_t deadline, hark_errinfo *ei)
{
    redisReply *r = NULL;
    if (!c->url->password)
        return HARK_OK;
    hark_err err = hk_redis_in_time(hk_redis_reply(c, deadline, &r, ei), ei);
    if (err)
        return err;
    if (r->type == REDIS_REPLY_ERROR)
        err = auth_refused(c, r, ei);
    else if (r->type != REDIS_REPLY_STATUS)
        err = hk_redis_strange(c, "AUTH", ei);
    freeReplyObject(r);
    return err;
}

/* Who may not name a connection may still use it. */
static hark_err check_name(hk_redis_conn *c, int64_t deadline, hark_errinfo *ei)
{
    redisReply *r = NULL;
    hark_err err = hk_redis_in_time(hk_redis_reply(c, deadline, &r, ei), ei);
    if (err)
        return err;
    if (r->type == REDIS_REPLY_ERROR && !hk_redis_is_error(r, "NOPERM"))
        err = hk_redis_refused(c, r, ei);
    else if (r->type != REDIS_REPLY_ERROR && r->type != REDIS_REPLY_STATUS)
        err = hk_redis_strange(c, "CLIENT SETNAME", ei);
    freeReplyObject(r);
    return err;
}

static hark_err log_in(hk_redis_conn *c, const char *name, int64_t deadline, hark_errinfo *ei)
{
    const hk_redis_arg set_name[] = {{"CLIENT", 6}, {"SETNAME", 7}, {name, strlen(name)}};
    add_auth(c);
    hk_redis_add(c, set_name, 3);
    hark_err err = hk_redis_in_time(hk_redis_flush(c, deadline, ei), ei);
    if (!err)
        err = check_auth(c, deadline, ei);
    return err ? err : check_name(c, deadline, ei);
}

hark_err hk_redis_connect(hk_redis_conn *c, const hk_redis_url *url, const char *name, int wake,
                          hark_errinfo *ei)
{
    int64_t deadline = hk_mono_ns() + HK_REDIS_TIMEOUT_NS;
    int fd = -1;
    hk_redis_close(c);
    c->url = url;
    c->wake = wake;
    hark_err err = hk_redis_in_time(connect_any(c, deadline, &fd, ei), ei);
    if (!err)
        err = adopt(c, fd, ei);
    if (!err)
        err = log_in(c, name, deadline, ei);
    hk_redis_forget(c);
    if (err)
        hk_redis_close(c);
    return err;
}

void hk_redis_close(hk_redis_conn *c)
{
    if (c->context)
        redisFree(c->context);
    c->context = NULL;
    hk_buf_free(&c->out);
    c->sent = 0;
}

bool hk_redis_is_stale(const hk_redis_conn *c)
{
    struct pollfd p = {.fd = c->context->fd, .events = POLLIN};
    return c->context->err || poll(&p, 1, 0) != 0;
}

int64_t hk_redis_pause(uint64_t n)
{
    uint64_t random;
    int64_t most = INT64_C(50000000) << (n < 6 ? n - 1 : 5);
    if (most > INT64_C(1000000000))
        most = INT64_C(1000000000);
    hk_random(&random, sizeof random);
    return most / 4 + (int64_t)(random % (uint64_t)(most * 3 / 4));
}

/* ---- sending ---------------------------------------------------------------------------------- */

void hk_redis_add(hk_redis_conn *c, const hk_redis_arg *args, size_t n)
{
    hk_buf_addf(&c->out, "*%zu\r\n", n);
    for (size_t i = 0; i < n; i++) {
        hk_buf_addf(&c->out, "$%zu\r\n", args[i].len);
        hk_buf_add(&c->out, args[i].data, args[i].len);
        hk_buf_add(&c->out, "\r\n", 2);
    }
}

hark_err hk_redis_flush(hk_redis_conn *c, int64_t deadline, hark_errinfo *ei)
{
    if (c->out.failed)
        return hk_fail(ei, HARK_ENOMEM, "no memory to send to redis");
    while (c->sent < c->out.len) {
        ssize_t n = send(c->context->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n > 0) {
            c->sent += (size_t)n;
        } else if (n < 0 && errno == EAGAIN) {
            hark_err err = wait_for(c, c->context->fd, POLLOUT, deadline, ei);
            if (err)
                return err;
        } else if (n < 0 && errno != EINTR) {
            return broken(c, strerror(errno), ei);
        }
    }
    return HARK_OK;
}

void hk_redis_forget(hk_redis_conn *c)
{
    enum { KEEP = 1 << 20 }; /* so much memory may stay for the next time */
    if (c->out.failed || c->out.cap > KEEP)
        hk_buf_free(&c->out);
    else
        hk_buf_clear(&c->out);
    c->sent = 0;
}

/* ---- receiving -------------------------------------------------------------------------------- */

/* hiredis's word for what went wrong. */
static hark_err read_failed(const hk_redis_conn *c, hark_errinfo *ei)
{
    if (c->context->err == REDIS_ERR_EOF)
        return broken(c, "the server closed the connection", ei);
    if (c->context->err == REDIS_ERR_PROTOCOL)
        return broken(c, "what answers there does not speak Redis's protocol", ei);
    if (c->context->err == REDIS_ERR_OOM)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a reply of redis");
    return broken(c, c->context->errstr, ei);
}

hark_err hk_redis_look(hk_redis_conn *c, redisReply **ret, hark_errinfo *ei)
{
    void *reply = NULL;
    *ret = NULL;
    if (redisGetReplyFromReader(c->context, &reply) != REDIS_OK)
        return read_failed(c, ei);
    *ret = reply;
    return HARK_OK;
}

hark_err hk_redis_reply(hk_redis_conn *c, int64_t deadline, redisReply **ret, hark_errinfo *ei)
{
    for (;;) {
        hark_err err = hk_redis_look(c, ret, ei);
        if (err || *ret)
            return err;
        err = wait_for(c, c->context->fd, POLLIN, deadline, ei);
        if (err)
            return err;
        if (redisBufferRead(c->context) != REDIS_OK)
            return read_failed(c, ei);
    }
}
