/* See client.h. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void hung(const char *what)
{
    fprintf(stderr, "hung: %s\n", what);
    abort();
}

int client_open(int port)
{
    return client_open_from(port, "127.0.0.1");
}

int client_open_from(int port, const char *address)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    struct sockaddr_in own = {.sin_family = AF_INET};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && strcmp(address, "127.0.0.1") != 0 &&
        (inet_pton(AF_INET, address, &own.sin_addr) != 1 ||
         bind(fd, (struct sockaddr *)&own, sizeof own) != 0)) {
        close(fd);
        return -1;
    }
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof sa) != 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

void client_send(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len) {
        ssize_t n = send(fd, p, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* the server closed: what it answered is still to be read */
        p += n;
        len -= (size_t)n;
    }
}

void client_sends(int fd, const char *text)
{
    client_send(fd, text, strlen(text));
}

static ssize_t get(int fd, void *buf, size_t len)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (poll(&p, 1, 30000) == 0)
        hung("no reply");
    return recv(fd, buf, len, 0);
}

static bool read_head(int fd, reply *r)
{
    size_t n = 0;
    r->head[0] = '\0';
    while (n < sizeof r->head - 1) {
        if (get(fd, r->head + n, 1) != 1)
            return false;
        r->head[++n] = '\0';
        if (n >= 4 && memcmp(r->head + n - 4, "\r\n\r\n", 4) == 0)
            return true;
    }
    return false;
}

const char *reply_header(const reply *r, const char *name, char *buf, size_t size)
{
    size_t len = strlen(name);
    for (const char *s = strstr(r->head, "\r\n"); s; s = strstr(s, "\r\n")) {
        s += 2;
        if (strncasecmp(s, name, len) == 0 && s[len] == ':') {
            const char *v = s + len + 1 + strspn(s + len + 1, " ");
            snprintf(buf, size, "%.*s", (int)strcspn(v, "\r"), v);
            return buf;
        }
    }
    snprintf(buf, size, "%s", "");
    return buf;
}

void client_read(int fd, bool head_only, reply *r)
{
    char v[64];
    *r = (reply){0};
    do {
        if (!read_head(fd, r))
            return;
        r->status = atoi(r->head + 9);
    } while (r->status == 100);
    if (head_only || r->status == 204 || r->status == 304)
        return;
    size_t want = (size_t)atoll(reply_header(r, "Content-Length", v, sizeof v));
    while (r->len < want && r->len < sizeof r->body - 1) {
        size_t room = sizeof r->body - 1 - r->len;
        ssize_t n = get(fd, r->body + r->len, want - r->len < room ? want - r->len : room);
        if (n <= 0)
            break;
        r->len += (size_t)n;
    }
    r->body[r->len] = '\0';
}

const char *client_rest(int fd, char *buf, size_t size)
{
    size_t n = 0;
    char sink[512];
    for (;;) {
        bool room = n < size - 1;
        ssize_t got = get(fd, room ? buf + n : sink, room ? size - 1 - n : sizeof sink);
        if (got <= 0)
            break;
        n += room ? (size_t)got : 0;
    }
    buf[n] = '\0';
    return buf;
}

bool client_ended(int fd)
{
    char ch;
    return get(fd, &ch, 1) <= 0;
}

void client_do(int port, const char *method, const char *target, const char *lines,
               const char *body, reply *ret)
{
    char head[16384];
    int fd = client_open(port);
    *ret = (reply){0};
    if (fd < 0)
        return;
    int n = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: test\r\n%s", method, target,
                     lines ? lines : "");
    if (body)
        n += snprintf(head + n, sizeof head - (size_t)n, "Content-Length: %zu\r\n", strlen(body));
    client_send(fd, head, (size_t)n);
    client_sends(fd, "\r\n");
    if (body)
        client_sends(fd, body);
    client_read(fd, strcmp(method, "HEAD") == 0, ret);
    close(fd);
}
