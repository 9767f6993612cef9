/* load: an HTTP/1.1 load generator. One thread, so many keep-alive connections on epoll, each of
 * which sends its next request when the answer to the last one is complete.
 *
 *   load --port 8080 --path /orders --method POST --body '{…}' --connections 64
 *        --seconds 5 [--warmup 1] [--pid SERVER] [--expect 201] [--host 127.0.0.1]
 *   load … --count 5000 [--then pay,ship]
 *
 * With --count it sends so many requests and ends with the last answer; --then has it follow each
 * with PUT PATH/ID/pay and PUT PATH/ID/ship, where ID is the "id" of the answer. Its own CPU time is
 * reported apart from the server's, which is read from /proc/PID/stat at both ends of the measured
 * time. An answer must carry Content-Length.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT 16384

typedef struct conn {
    int fd;
    size_t filled; /* of in[] */
    int64_t start;
    size_t step; /* 0 = the request, then those of --then */
    char id[64];
    char in[INPUT];
} conn;

static char *request;
static size_t request_len;
static int expect;
static bool measuring;
static uint64_t good, bad;
static bench_lat lat;
static long left = -1;      /* of --count: still to be sent; -1 = as many as the time allows */
static size_t unanswered;   /* connections that wait for an answer */
static const char *then[8]; /* of --then */
static size_t n_then;
static const char *base_path; /* of --path */

static void make_request(int argc, char **argv, const char *host, long port)
{
    const char *body = bench_text(argc, argv, "body", "");
    size_t cap = strlen(body) + 4096;
    request = malloc(cap);
    if (!request)
        bench_die("out of memory");
    int n = snprintf(request, cap, "%s %s HTTP/1.1\r\nHost: %s:%ld\r\n",
                     bench_text(argc, argv, "method", "GET"), bench_text(argc, argv, "path", "/"),
                     host, port);
    if (*body)
        n += snprintf(request + n, cap - (size_t)n,
                      "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    n += snprintf(request + n, cap - (size_t)n, "\r\n%s", body);
    request_len = (size_t)n;
}

static void open_conn(conn *c, const struct sockaddr_in *to, int poller)
{
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (const struct sockaddr *)to, sizeof(*to)) != 0)
        bench_die("cannot connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &e) != 0)
        bench_die("epoll: %s", strerror(errno));
}

/* Requests are far smaller than a socket's buffer, which is empty between them. */
static void send_bytes(conn *c, const char *bytes, size_t len)
{
    c->start = bench_ns();
    if (send(c->fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
        bench_die("send: %s", strerror(errno));
    unanswered++;
}

static void send_request(conn *c)
{
    if (left == 0)
        return;
    left -= left > 0;
    c->step = 0;
    send_bytes(c, request, request_len);
}

static void send_then(conn *c)
{
    char text[512];
    int n = snprintf(text, sizeof(text), "PUT %s/%s/%s HTTP/1.1\r\nHost: load\r\n\r\n", base_path,
                     c->id, then[c->step++]);
    if (n < 0 || (size_t)n >= sizeof(text))
        bench_die("--path: too long");
    send_bytes(c, text, (size_t)n);
}

static const char *find_header(const char *head, const char *name)
{
    size_t n = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, n) == 0 && line[2 + n] == ':')
            return line + 3 + n;
    return NULL;
}

static void take_id(conn *c, const char *body)
{
    static const char mark[] = "\"id\":\"";
    const char *id = strstr(body, mark);
    size_t n = id ? strcspn(id + sizeof(mark) - 1, "\"") : 0;
    if (n == 0 || n >= sizeof(c->id))
        bench_die("an answer without an id: %.200s", body);
    snprintf(c->id, sizeof(c->id), "%.*s", (int)n, id + sizeof(mark) - 1);
}

/* Takes one answer from the input if it is complete; returns its status, else 0. */
static int take_answer(conn *c)
{
    c->in[c->filled] = '\0';
    char *end = strstr(c->in, "\r\n\r\n");
    if (!end)
        return 0;
    char keep = end[2];
    end[2] = '\0'; /* so that the search stays in the head */
    const char *length = find_header(c->in, "Content-Length");
    size_t body = length ? strtoul(length, NULL, 10) : 0;
    if (!length)
        bench_die("an answer without Content-Length:\n%s", c->in);
    end[2] = keep;
    size_t whole = (size_t)(end + 4 - c->in) + body;
    if (whole >= INPUT)
        bench_die("an answer of %zu bytes, too long for this program", whole);
    if (c->filled < whole)
        return 0;
    int status = (int)strtol(c->in + sizeof("HTTP/1.1"), NULL, 10);
    if (n_then && c->step == 0 && status == expect)
        take_id(c, end + 4);
    memmove(c->in, c->in + whole, c->filled - whole);
    c->filled -= whole;
    return status;
}

static void read_answers(conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->filled, INPUT - 1 - c->filled, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0)
        bench_die("the server closed a connection%s%s", n ? ": " : "", n ? strerror(errno) : "");
    c->filled += (size_t)n;
    int status = take_answer(c);
    if (!status)
        return;
    unanswered--;
    bool ok = status == expect || (c->step > 0 && status == 200);
    bool last = !ok || c->step == n_then;
    if (measuring) {
        bench_lat_add(&lat, bench_ns() - c->start);
        good += ok && last;
        bad += !ok;
    }
    if (last)
        send_request(c);
    else
        send_then(c);
}

static void run_until(int poller, int64_t end)
{
    struct epoll_event events[256];
    while (bench_ns() < end && (left != 0 || unanswered > 0)) {
        int n = epoll_wait(poller, events, 256, 100);
        for (int i = 0; i < n; i++)
            read_answers(events[i].data.ptr);
    }
}

static void take_then(char *names)
{
    for (char *name; (name = strsep(&names, ",")) != NULL && *name;) {
        if (n_then == sizeof(then) / sizeof(*then))
            bench_die("--then: at most %zu", n_then);
        then[n_then++] = name;
    }
}

/* began: by the monotonic clock */
static void report(double began, double seconds, double own_cpu, double server_cpu)
{
    bench_out_begin("http load");
    bench_out_number("requests", (double)good);
    bench_out_number("errors", (double)bad);
    bench_out_number("began", began);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)good / seconds);
    bench_out_number("load_cpu_seconds", own_cpu);
    bench_out_number("cpu_seconds", server_cpu);
    bench_out_number("cpu_us_per_request", good ? server_cpu * 1e6 / (double)good : 0);
    bench_out_lat(&lat);
    bench_out_end();
}

static void take_options(int argc, char **argv)
{
    left = bench_number(argc, argv, "count", -1);
    expect = (int)bench_number(argc, argv, "expect", 200);
    base_path = bench_text(argc, argv, "path", "/");
    char *names = strdup(bench_text(argc, argv, "then", ""));
    if (!names)
        bench_die("out of memory");
    take_then(names);
}

int main(int argc, char **argv)
{
    const char *host = bench_text(argc, argv, "host", "127.0.0.1");
    long port = bench_number(argc, argv, "port", 8080);
    long count = bench_number(argc, argv, "connections", 64);
    long pid = bench_number(argc, argv, "pid", 0);
    int64_t run_ns = bench_number(argc, argv, "seconds", 5) * 1000000000;
    int64_t warm_ns = bench_number(argc, argv, "warmup", 1) * 1000000000;
    if (count < 1 || port < 1 || port > 65535)
        bench_die("--connections and --port: out of range");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1)
        bench_die("--host: not an IPv4 address");
    take_options(argc, argv);
    make_request(argc, argv, host, port);
    bench_lat_init(&lat, 8000000);

    int poller = epoll_create1(EPOLL_CLOEXEC);
    conn *conns = calloc((size_t)count, sizeof(*conns));
    if (poller < 0 || !conns)
        bench_die("out of memory");
    for (long i = 0; i < count; i++)
        open_conn(&conns[i], &to, poller);
    measuring = left >= 0; /* all of them count then, and nothing is a warm-up */
    int64_t begin = bench_ns();
    double own = bench_cpu(), server = bench_cpu_of(pid);
    for (long i = 0; i < count; i++)
        send_request(&conns[i]);
    if (!measuring) {
        run_until(poller, bench_ns() + warm_ns);
        measuring = true;
        begin = bench_ns(), own = bench_cpu(), server = bench_cpu_of(pid);
    }
    run_until(poller, begin + run_ns);
    if (left > 0 || (left == 0 && unanswered > 0))
        bench_die("--count: not done within --seconds");
    double seconds = (double)(bench_ns() - begin) / 1e9;
    report((double)begin / 1e9, seconds, bench_cpu() - own, bench_cpu_of(pid) - server);
    for (long i = 0; i < count; i++)
        close(conns[i].fd);
    return bad ? 1 : 0;
}
