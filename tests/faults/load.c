/* See load.h. */
#include "load.h"

#include "kit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT   16384
#define PAD_MAX 6000

typedef struct conn {
    int fd;
    size_t request; /* in flight */
    size_t filled;
    char in[INPUT];
} conn;

struct load {
    uint64_t random;
    int poller;
    size_t n_conns, n, cap, acked;
    request *requests;
    conn *conns;
};

load *load_new(uint64_t seed, size_t connections)
{
    load *l = calloc(1, sizeof *l);
    KIT_CHECK(l && (l->conns = calloc(connections, sizeof *l->conns)), "out of memory");
    l->random = seed;
    l->n_conns = connections;
    l->poller = epoll_create1(EPOLL_CLOEXEC);
    for (size_t i = 0; i < connections; i++)
        l->conns[i].fd = -1;
    return l;
}

void load_free(load *l)
{
    close(l->poller);
    free(l->conns);
    free(l->requests);
    free(l);
}

/* ---- requests ---- */

static size_t new_request(load *l)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 65536;
        l->requests = realloc(l->requests, l->cap * sizeof *l->requests);
        KIT_CHECK(l->requests != NULL, "out of memory");
    }
    uint64_t r = kit_random(&l->random);
    l->requests[l->n] =
        (request){.user = r % 8 == 0, .pad = (r >> 8) % 16 ? (r >> 16) % 64 : (r >> 16) % PAD_MAX};
    return l->n++;
}

static void send_request(load *l, conn *c)
{
    char pad[PAD_MAX + 1], body[PAD_MAX + 256], all[PAD_MAX + 512];
    size_t i = c->request = new_request(l);
    const request *r = &l->requests[i];
    memset(pad, 'a' + (int)(i % 26), r->pad);
    pad[r->pad] = '\0';
    int n = r->user ? snprintf(body, sizeof body, "{\"name\":\"usr-%zu.\"}", i)
                    : snprintf(body, sizeof body,
                               "{\"items\":[\"ord-%zu.\",\"%s\"],\"total\":%zu.5}", i, pad, i);
    int m = snprintf(all, sizeof all,
                     "POST /%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                     "Content-Length: %d\r\n\r\n%s",
                     r->user ? "users" : "orders", n, body);
    /* a request is smaller than the socket's buffer; after the server's death it goes nowhere */
    (void)!send(c->fd, all, (size_t)m, MSG_NOSIGNAL);
}

long load_number(const char *data, bool user)
{
    const char *at = strstr(data, user ? "usr-" : "ord-");
    char *end = NULL;
    long n = at ? strtol(at + 4, &end, 10) : -1;
    return end && *end == '.' ? n : -1;
}

/* ---- answers ---- */

static void take_created(load *l, conn *c, const char *body, size_t len)
{
    request *r = &l->requests[c->request];
    const char *id = strstr(body, "\"id\":\"");
    KIT_CHECK(id && load_number(body, r->user) == (long)c->request,
              "request %zu got an answer that is not its own: %.300s", c->request, body);
    KIT_CHECK(sscanf(id + 6, "%31[^\"]", r->id) == 1, "an answer without an id: %.300s", body);
    r->len = len;
    r->hash = kit_hash(body, len);
    r->acked = true;
    l->acked++;
}

/* Takes one answer from the input if it is complete. */
static bool take_answer(load *l, conn *c)
{
    c->in[c->filled] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end)
        return false;
    const char *length = strcasestr(c->in, "\r\nContent-Length:");
    KIT_CHECK(length && length < end, "an answer without Content-Length: %.300s", c->in);
    size_t body = strtoul(length + strlen("\r\nContent-Length:"), NULL, 10);
    size_t whole = (size_t)(end + 4 - c->in) + body;
    KIT_CHECK(whole < INPUT, "an answer of %zu bytes", whole);
    if (c->filled < whole)
        return false;
    KIT_CHECK(strncmp(c->in, "HTTP/1.1 201", 12) == 0 && c->filled == whole,
              "expected one 201, got: %.500s", c->in);
    take_created(l, c, end + 4, body);
    c->filled = 0;
    return true;
}

/* Reads what has arrived; false when the connection has ended. */
static bool read_some(conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->filled, INPUT - 1 - c->filled, MSG_DONTWAIT);
    if (n > 0)
        c->filled += (size_t)n;
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* ---- connections ---- */

void load_connect(load *l, int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int on = 1;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (size_t i = 0; i < l->n_conns; i++) {
        conn *c = &l->conns[i];
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        c->filled = 0;
        KIT_CHECK(c->fd >= 0 && connect(c->fd, (struct sockaddr *)&sa, sizeof sa) == 0 &&
                      epoll_ctl(l->poller, EPOLL_CTL_ADD, c->fd, &e) == 0,
                  "connect: %s", strerror(errno));
        (void)setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        send_request(l, c);
    }
}

int load_poller(const load *l)
{
    return l->poller;
}

void load_step(load *l)
{
    struct epoll_event events[64];
    int n = epoll_wait(l->poller, events, 64, 0);
    for (int i = 0; i < n; i++) {
        conn *c = events[i].data.ptr;
        KIT_CHECK(read_some(c), "a living server closed a connection: %s", strerror(errno));
        if (take_answer(l, c))
            send_request(l, c);
    }
}

void load_disconnect(load *l)
{
    for (size_t i = 0; i < l->n_conns; i++) {
        conn *c = &l->conns[i];
        if (c->fd < 0)
            continue;
        while (read_some(c) && errno != EAGAIN && c->filled < INPUT - 1)
            errno = 0;
        (void)take_answer(l, c);
        close(c->fd);
        c->fd = -1;
    }
}

static void finish_one(load *l, conn *c)
{
    struct pollfd in = {.fd = c->fd, .events = POLLIN};
    bool answered = false, open = true;
    while (open) {
        KIT_CHECK(poll(&in, 1, KIT_HUNG_MS) == 1, "a stopping server leaves a connection open");
        open = read_some(c);
        answered = take_answer(l, c) || answered;
    }
    KIT_CHECK(answered && !c->filled, "request %zu, sent before the stop, got %s", c->request,
              answered ? "more than its answer" : "no answer");
    close(c->fd);
    c->fd = -1;
}

void load_finish(load *l)
{
    for (size_t i = 0; i < l->n_conns; i++)
        finish_one(l, &l->conns[i]);
}

size_t load_acked(const load *l)
{
    return l->acked;
}

request *load_requests(load *l, size_t *ret_n)
{
    *ret_n = l->n;
    return l->requests;
}
