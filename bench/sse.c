/* Row 9: live replies. A bus in memory and an app with one loop; readers are in a child process, so
 * that neither their time nor their memory counts.
 *
 *   sse --mode one   --readers 1000 --events 300    each event waits until all have the last one
 *   sse --mode burst --readers 1000 --events 20000  in bursts of --burst 1000
 *   sse --mode idle  --readers 10000                resident memory with so many that only wait
 *   sse --mode raw   --readers 1000 --events 300    as `one`, but a bare loop of send(2)
 *
 * CPU time is the server's without the publishing thread: the loop and the feed's thread. Over
 * loopback the kernel does the receivers' part of TCP in the sender's time.
 */
#include "bench.h"

#include <errno.h>
#include <hark/bus.h>
#include <hark/http.h>
#include <hark/stream.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHUNK 65536

typedef struct plan {
    long readers, round; /* events that are sent before all are waited for */
    long port;
} plan;

/* ---- the readers ------------------------------------------------------------------------------- */

static size_t count_braces(const char *s, size_t n)
{
    size_t braces = 0;
    for (size_t i = 0; i < n; i++)
        braces += s[i] == '{';
    return braces;
}

static int open_reader(long port)
{
    static const char request[] = "GET /live HTTP/1.1\r\nHost: bench\r\n\r\n";
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 ||
        send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != (ssize_t)sizeof(request) - 1)
        bench_die("reader: %s", strerror(errno));
    return fd;
}

/* Reads all there is; a byte on `done` says that all readers have one more round. */
static void read_for_ever(int poller, size_t round_braces, int done)
{
    static char chunk[CHUNK];
    struct epoll_event events[256];
    size_t braces = 0;
    for (;;) {
        int n = epoll_wait(poller, events, 256, -1);
        for (int i = 0; i < n; i++) {
            ssize_t got = recv(events[i].data.fd, chunk, sizeof(chunk), MSG_DONTWAIT);
            if (got == 0)
                _exit(0); /* the server has ended */
            braces += got > 0 ? count_braces(chunk, (size_t)got) : 0;
        }
        for (; braces >= round_braces; braces -= round_braces)
            if (write(done, "x", 1) != 1)
                _exit(1);
    }
}

static _Noreturn void be_readers(int start, int done)
{
    plan p;
    if (read(start, &p, sizeof(p)) != (ssize_t)sizeof(p))
        _exit(1);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    for (long i = 0; i < p.readers; i++) {
        int fd = open_reader(p.port);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) != 0)
            bench_die("reader: epoll: %s", strerror(errno));
    }
    size_t each = count_braces(bench_data(), strlen(bench_data()));
    read_for_ever(poller, each * (size_t)p.round * (size_t)p.readers, done);
    _exit(1);
}

/* ---- the server -------------------------------------------------------------------------------- */

static hark_bus *bus;
static hark_app *app;
static hark_feed *feed;

static hark_err data_only(hark_frame *f, const hark_event *e, void *ud)
{
    size_t len;
    const void *data = hark_event_data(e, &len);
    (void)ud;
    return hark_frame_data(f, data, len);
}

static hark_err live(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_stream(c, feed, NULL);
}

static void start_server(void)
{
    hark_errinfo ei = {0};
    if (hark_open("memory:", NULL, &bus, &ei) ||
        hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus, .loops = 1, .max_connections = 20000,
                               .backlog = 4096),
                     &app, &ei))
        bench_die("%s", ei.text);
    hark_app_feed(app, HARK_OPTS(hark_feed_opts, .pattern = BENCH_TYPE, .encode = data_only),
                  &feed);
    hark_get(app, "/live", live, NULL);
    if (hark_app_listen(app, "127.0.0.1:0", &ei) || hark_app_start(app, &ei))
        bench_die("%s", ei.text);
}

static void raise_limit(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

static void await_readers(long n)
{
    const struct timespec pause = {.tv_nsec = 5000000};
    int64_t until = bench_ns() + INT64_C(60000000000);
    while (hark_feed_readers(feed) < (size_t)n) {
        if (bench_ns() > until)
            bench_die("only %zu readers; is the limit of open files (ulimit -n) over %ld?",
                      hark_feed_readers(feed), n + 100);
        nanosleep(&pause, NULL);
    }
}

static double resident_mib(void)
{
    long size = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &size, &resident) != 2)
        bench_die("/proc/self/statm cannot be read");
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1048576;
}

/* CPU seconds of all threads but this one. */
static double others_cpu(void)
{
    struct timespec own;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &own);
    return bench_cpu() - (double)own.tv_sec - (double)own.tv_nsec / 1e9;
}

static void publish(long n)
{
    for (long i = 0; i < n; i++)
        if (hark_publish(bus, HARK_OPTS(hark_event_spec, .type = BENCH_TYPE, .json = bench_data()),
                         NULL))
            bench_die("publish failed");
}

static void send_rounds(long rounds, long round, int done)
{
    char x;
    for (long i = 0; i < rounds; i++) {
        publish(round);
        if (read(done, &x, 1) != 1)
            bench_die("the readers have ended");
    }
}

static void report_sent(const plan *p, long rounds, double seconds, double cpu)
{
    double deliveries = (double)rounds * (double)p->round * (double)p->readers;
    bench_out_number("rate", deliveries / seconds);
    bench_out_number("per_core", deliveries / cpu);
    bench_out_number("events_per_second", (double)rounds * (double)p->round / seconds);
    bench_out_number("seconds", seconds);
    bench_out_number("cpu_seconds", cpu);
}

static void measure(const plan *p, long events, int done)
{
    long rounds = events / p->round < 1 ? 1 : events / p->round;
    send_rounds(rounds < 10 ? 1 : rounds / 10, p->round, done); /* warm */
    int64_t from = bench_ns();
    double cpu = others_cpu();
    send_rounds(rounds, p->round, done);
    cpu = others_cpu() - cpu;
    report_sent(p, rounds, (double)(bench_ns() - from) / 1e9, cpu);
}

/* ---- what the kernel takes for the same bytes ------------------------------------------------- */

static int *accept_readers(int listener, long n)
{
    char request[256];
    int *fds = calloc((size_t)n, sizeof(*fds)), one = 1;
    for (long i = 0; fds && i < n; i++) {
        fds[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fds[i] < 0)
            bench_die("accept: %s", strerror(errno));
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        while (recv(fds[i], request, sizeof(request), 0) < 0 && errno == EAGAIN)
            sched_yield();
    }
    return fds;
}

static void send_raw(const int *fds, long n, long rounds, int done)
{
    char block[1024], x;
    int len = snprintf(block, sizeof(block), "id: 0fa4e000.1-100\ndata: %s\n\n", bench_data());
    for (long i = 0; i < rounds; i++) {
        for (long k = 0; k < n; k++)
            if (send(fds[k], block, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) != len)
                bench_die("send: %s", strerror(errno));
        if (read(done, &x, 1) != 1)
            bench_die("the readers have ended");
    }
}

static void measure_raw(plan *p, long events, int start, int done)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof(sa);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(listener, (struct sockaddr *)&sa, sizeof(sa)) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&sa, &len) != 0)
        bench_die("listen: %s", strerror(errno));
    p->port = ntohs(sa.sin_port);
    if (write(start, p, sizeof(*p)) != (ssize_t)sizeof(*p))
        bench_die("no readers: %s", strerror(errno));
    int *fds = accept_readers(listener, p->readers);
    send_raw(fds, p->readers, events / 10 + 1, done);
    int64_t from = bench_ns();
    double cpu = bench_cpu();
    send_raw(fds, p->readers, events, done);
    cpu = bench_cpu() - cpu;
    bench_out_begin("raw");
    report_sent(p, events, (double)(bench_ns() - from) / 1e9, cpu);
    bench_out_end();
    free(fds);
}

static void serve(plan *p, const char *mode, long events, int start, int done)
{
    start_server();
    double before = resident_mib();
    int64_t from = bench_ns();
    p->port = hark_app_port(app);
    if (write(start, p, sizeof(*p)) != (ssize_t)sizeof(*p))
        bench_die("no readers: %s", strerror(errno));
    await_readers(p->readers);
    bench_out_begin(mode);
    bench_out_number("readers", (double)p->readers);
    bench_out_number("rss_mib", resident_mib());
    bench_out_number("bytes_per_reader", (resident_mib() - before) * 1048576 / (double)p->readers);
    if (events) {
        measure(p, events, done);
    } else {
        bench_out_number("seconds", (double)(bench_ns() - from) / 1e9);
        bench_out_number("cpu_seconds", others_cpu());
    }
    bench_out_end();
    hark_app_unref(app);
    hark_bus_unref(bus);
}

int main(int argc, char **argv)
{
    const char *mode = bench_text(argc, argv, "mode", "one");
    bool burst = strcmp(mode, "burst") == 0, idle = strcmp(mode, "idle") == 0;
    plan p = {.readers = bench_number(argc, argv, "readers", idle ? 10000 : 1000),
              .round = burst ? bench_number(argc, argv, "burst", 1000) : 1};
    long events = idle ? 0 : bench_number(argc, argv, "events", burst ? 20000 : 300);
    int start[2], done[2];
    raise_limit();
    if (pipe(start) != 0 || pipe(done) != 0)
        bench_die("pipe: %s", strerror(errno));
    pid_t child = fork(); /* before there are threads */
    if (child < 0)
        bench_die("no readers: %s", strerror(errno));
    if (child == 0)
        be_readers(start[0], done[1]);
    if (strcmp(mode, "raw") == 0)
        measure_raw(&p, events, start[1], done[0]);
    else
        serve(&p, mode, events, start[1], done[0]);
    kill(child, SIGTERM);
    waitpid(child, NULL, 0);
    return 0;
}
