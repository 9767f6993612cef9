/* Live replies: connections. They are taken from libmicrohttpd with nothing left behind, cost little,
 * and end when the client leaves, stalls, or the app stops. One store a run. */
#include "stream_kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static live l;
static reader a, b;
static message m;
static shown all, other;

static void begin(const hark_app_opts *opts, const hark_feed_opts *feed_opts)
{
    live_new(&l, NULL, opts);
    all = (shown){.feed = live_feed(&l, feed_opts)};
    live_route(&l, "/live", &all);
}

#define SENT HARK_OPTS(hark_feed_opts, .keep = 64)

static int end_all(void **state)
{
    (void)state;
    live_end(&l);
    return 0;
}

static void say(const char *text)
{
    assert_int_equal(hark_feed_send(all.feed, NULL, text, strlen(text)), HARK_OK);
}

/* ---- the takeover ---- */

static int local_port(int fd)
{
    struct sockaddr_in sa = {0};
    socklen_t len = sizeof sa;
    return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 ? ntohs(sa.sin_port) : -1;
}

static int peer_port(int fd)
{
    struct sockaddr_in sa = {0};
    socklen_t len = sizeof sa;
    bool known = getpeername(fd, (struct sockaddr *)&sa, &len) == 0 && sa.sin_family == AF_INET;
    return known ? ntohs(sa.sin_port) : -1;
}

/* How many epoll sets watch a socket, by this descriptor's list (its inode number in hex). */
static size_t watched(int fd, unsigned long inode)
{
    char path[64], line[256], want[40];
    size_t n = 0;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    snprintf(want, sizeof want, " ino:%lx ", inode);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        n += strncmp(line, "tfd:", 4) == 0 && strstr(line, want) != NULL;
    if (f)
        fclose(f);
    return n;
}

typedef struct found {
    size_t descriptors, watches;
    unsigned long inode;
} found;

static void each_descriptor(void (*fn)(int fd, int port, found *ret), int port, found *ret)
{
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.')
            fn(atoi(e->d_name), port, ret);
    closedir(d);
}

static void find_socket(int fd, int port, found *ret)
{
    struct stat st;
    if (peer_port(fd) != port || fstat(fd, &st) != 0)
        return;
    ret->descriptors++;
    ret->inode = (unsigned long)st.st_ino;
}

static void find_watch(int fd, int port, found *ret)
{
    (void)port;
    ret->watches += watched(fd, ret->inode);
}

/* The server's end of this client's connection. */
static found server_side(const reader *r)
{
    found f = {0};
    each_descriptor(find_socket, local_port(r->fd), &f);
    each_descriptor(find_watch, 0, &f);
    return f;
}

static void test_nothing_but_the_stream_refers_to_its_socket(void **state)
{
    (void)state;
    begin(NULL, SENT);
    live_start(&l);
    reader_open(&a, &l, "/live", NULL);
    WAIT_UNTIL(live_stats(&l).connections == 0);
    found f = server_side(&a);
    assert_int_equal(f.descriptors, 1);
    assert_int_equal(f.watches, 1);
    say("still there");
    EXPECT_NEXT(&a, "still there");
    reader_close(&a);
}

static hark_err add_header(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_set_header(c, "X-Before", "1");
    return err ? err : hark_ctx_next(c);
}

static void late_header(hark_ctx *c, int status, void *ud)
{
    (void)ud;
    if (status == 200)
        (void)hark_ctx_set_header(c, "X-On-Reply", "2");
}

static hk_count done, complete;

static void count_done(hark_ctx *c, const hark_outcome *o, void *ud)
{
    (void)c, (void)ud;
    (void)hk_count_add(&done, 1);
    (void)hk_count_add(&complete, o->complete && o->status == 200);
}

static hark_err hooked(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_on_reply(c, late_header, NULL);
    if (!err)
        err = hark_ctx_on_done(c, count_done, NULL);
    return err ? err : hark_ctx_next(c);
}

#define EXPECT_IN_HEAD(r, line) EXPECT_PART((r)->head, "\r\n" line)
#define USE(function)           ((hark_middleware){.fn = function})

static void test_the_head_has_what_middleware_sets_and_the_request_is_done(void **state)
{
    (void)state;
    begin(NULL, SENT);
    hark_app_use(l.app, hark_request_id(NULL));
    hark_app_use(l.app, USE(add_header));
    hark_app_use(l.app, USE(hooked));
    live_start(&l);
    uint64_t before = hk_count_get(&complete);
    reader_open(&a, &l, "/live", "X-Request-Id: request-7\r\n");
    EXPECT_IN_HEAD(&a, "X-Request-Id: ");
    EXPECT_IN_HEAD(&a, "X-Before: 1");
    EXPECT_IN_HEAD(&a, "X-On-Reply: 2");
    EXPECT_IN_HEAD(&a, "Content-Type: text/event-stream");
    EXPECT_IN_HEAD(&a, "Cache-Control: no-store");
    EXPECT_IN_HEAD(&a, "X-Accel-Buffering: no");
    EXPECT_IN_HEAD(&a, "Connection: close");
    EXPECT_IN_HEAD(&a, "Date: ");
    WAIT_UNTIL(hk_count_get(&complete) == before + 1);
    reader_close(&a);
}

static void test_head_gets_the_head_only(void **state)
{
    reply r;
    char rest[64];
    (void)state;
    begin(NULL, SENT);
    live_start(&l);
    int fd = client_open(l.port);
    client_sends(fd, "HEAD /live HTTP/1.1\r\nHost: test\r\n\r\n");
    client_read(fd, true, &r);
    EXPECT_STATUS(&r, 200);
    EXPECT_PART(r.head, "text/event-stream");
    assert_string_equal(client_rest(fd, rest, sizeof rest), "");
    close(fd);
    assert_int_equal(live_stats(&l).streams, 0);
}

static void test_retry_is_spread_by_a_quarter(void **state)
{
    (void)state;
    long least = 100000, most = 0;
    begin(NULL, SENT);
    other = (shown){all.feed, {.retry_ms = 10000}};
    live_route(&l, "/slow", &other);
    live_start(&l);
    for (int i = 0; i < 40; i++) {
        reader_open(&a, &l, "/slow", NULL);
        reader_close(&a);
        least = a.retry < least ? a.retry : least;
        most = a.retry > most ? a.retry : most;
    }
    assert_in_range(least, 7500, 9999);
    assert_in_range(most, 10001, 12500);
}

/* ---- ends ---- */

static void test_a_client_that_leaves_is_forgotten(void **state)
{
    (void)state;
    begin(NULL, SENT);
    live_start(&l);
    reader_open(&a, &l, "/live", NULL);
    reader_open(&b, &l, "/live", NULL);
    assert_int_equal(live_stats(&l).streams, 2);
    reader_close(&a);
    WAIT_UNTIL(live_stats(&l).streams == 1);
    (void)shutdown(b.fd, SHUT_WR);
    WAIT_UNTIL(live_stats(&l).streams == 0);
    WAIT_UNTIL(hark_feed_readers(all.feed) == 0);
    assert_false(reader_next(&b, &m));
    reader_close(&b);
}

static void test_a_client_that_talks_is_not_heard_for_ever(void **state)
{
    char talk[4096] = {0};
    (void)state;
    begin(NULL, SENT);
    live_start(&l);
    reader_open(&a, &l, "/live", NULL);
    client_send(a.fd, talk, sizeof talk);
    say("heard");
    EXPECT_NEXT(&a, "heard");
    for (int i = 0; i < 32; i++)
        client_send(a.fd, talk, sizeof talk);
    WAIT_UNTIL(live_stats(&l).streams == 0);
    reader_close(&a);
}

static void test_stopping_does_not_wait_for_streams(void **state)
{
    hark_errinfo ei = {0};
    (void)state;
    begin(NULL, HARK_OPTS(hark_feed_opts, .pattern = "order:**"));
    live_start(&l);
    reader_open(&a, &l, "/live", NULL);
    reader_open(&b, &l, "/live", NULL);
    int64_t before = hk_mono_ms();
    assert_int_equal(hark_app_stop(l.app, &ei), HARK_OK);
    assert_true(hk_mono_ms() - before < 2000);
    assert_false(reader_next(&a, &m));
    assert_false(reader_next(&b, &m));
    assert_int_equal(live_stats(&l).streams, 0);
    live_publish(&l, "order:placed", "1"); /* comes after the feed's end */
    reader_close(&a);
    reader_close(&b);
}

static void test_a_bus_that_ends_first_ends_only_those_that_read_its_log(void **state)
{
    hark_errinfo ei = {0};
    (void)state;
    live_new(&l, NULL, NULL);
    live_publish(&l, "order:placed", "1"); /* which only the log has */
    all = (shown){.feed = live_feed(&l, HARK_OPTS(hark_feed_opts, .pattern = "order:**"))};
    live_route(&l, "/live", &all);
    other = (shown){all.feed, {.after = "first"}};
    live_route(&l, "/first", &other);
    live_start(&l);
    reader_open(&a, &l, "/live", NULL);
    assert_int_equal(hark_drain(l.bus, -1, &ei), HARK_OK);
    assert_int_equal(live_stats(&l).streams, 1);
    reader_open(&b, &l, "/first", NULL);
    assert_false(reader_next(&b, &m));
    reader_close(&a);
    reader_close(&b);
}

/* ---- the slow ---- */

static void shrink(int fd)
{
    int least = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
}

static long resident_kib(void)
{
    long pages = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &pages, &resident) != 2)
        resident = 0;
    if (f)
        fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static void test_a_client_that_never_reads_is_cut_and_delays_nobody(void **state)
{
    enum { MESSAGES = 4000, BYTES = 4000 };
    static char text[BYTES + 1];
    (void)state;
    memset(text, 'x', BYTES);
    begin(NULL, HARK_OPTS(hark_feed_opts, .keep = 64));
    other = (shown){all.feed, {.stall_ms = 200}};
    live_route(&l, "/brief", &other);
    live_start(&l);
    reader_open(&a, &l, "/brief", NULL);
    shrink(a.fd);
    reader_open(&b, &l, "/live", NULL);
    for (int i = 0; i < 100; i++) {
        say(text);
        EXPECT_NEXT(&b, text);
    }
    long before = resident_kib();
    for (int i = 0; i < MESSAGES; i++) {
        say(text);
        EXPECT_NEXT(&b, text);
    }
#ifndef __SANITIZE_ADDRESS__ /* which keeps what was freed for a while */
    assert_true(resident_kib() - before < 8 * 1024);
#else
    (void)before;
#endif
    WAIT_UNTIL(live_stats(&l).streams_cut == 1);
    WAIT_UNTIL(live_stats(&l).streams == 1);
    reader_close(&a);
    reader_close(&b);
}

/* What it has missed in the ring it gets from the log, in the end. */
static void test_a_slow_client_gets_all_from_the_log(void **state)
{
    enum { EVENTS = 1500, BYTES = 2000 };
    static char json[BYTES];
    (void)state;
    begin(NULL, HARK_OPTS(hark_feed_opts, .pattern = "order:**", .keep = 8));
    live_start(&l);
    reader_open(&a, &l, "/live", NULL);
    for (int i = 0; i < EVENTS; i++) {
        snprintf(json, sizeof json, "{\"n\":%d,\"x\":\"%01900d\"}", i, 0);
        live_publish(&l, "order:placed", json);
    }
    for (int i = 0; i < EVENTS; i++) {
        char want[32];
        assert_true(reader_next(&a, &m));
        snprintf(want, sizeof want, "{\"n\":%d,", i);
        EXPECT_PART(m.data, want);
    }
    reader_close(&a);
}

/* ---- many ---- */

static void test_a_thousand_clients_at_once(void **state)
{
    enum { CLIENTS = 1000 };
    struct rlimit files;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files), 0);
    files.rlim_cur = files.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files), 0);
    begin(NULL, HARK_OPTS(hark_feed_opts, .pattern = "order:**"));
    live_start(&l);
    reader *r = calloc(CLIENTS, sizeof *r);
    assert_non_null(r);
    for (int i = 0; i < CLIENTS; i++)
        reader_open(&r[i], &l, "/live", NULL);
    assert_int_equal(live_stats(&l).streams, CLIENTS);
    for (int n = 0; n < 5; n++)
        live_publish(&l, "order:placed", "{}");
    for (int i = 0; i < CLIENTS; i++) {
        for (int n = 0; n < 5; n++)
            assert_true(reader_next(&r[i], &m));
        assert_string_equal(r[i].last_id, r[0].last_id);
        reader_close(&r[i]);
    }
    WAIT_UNTIL(live_stats(&l).streams == 0);
    free(r);
}

static void test_too_many_streams_are_told_to_come_back(void **state)
{
    reply r;
    char rest[64];
    (void)state;
    begin(HARK_OPTS(hark_app_opts, .loops = 1, .max_connections = 7), SENT);
    live_start(&l);
    int kept[7];
    for (size_t i = 0; i < 7; i++) {
        kept[i] = client_open(l.port);
        client_sends(kept[i], "GET /live HTTP/1.1\r\nHost: test\r\n\r\n");
        client_read(kept[i], true, &r);
        EXPECT_STATUS(&r, 200);
    }
    WAIT_UNTIL(live_stats(&l).connections == 0);
    int fd = client_open(l.port);
    client_sends(fd, "GET /live HTTP/1.1\r\nHost: test\r\n\r\n");
    client_read(fd, true, &r);
    EXPECT_STATUS(&r, 200);
    EXPECT_PART(client_rest(fd, rest, sizeof rest), "retry: ");
    close(fd);
    assert_int_equal(live_stats(&l).streams, 7);
    for (size_t i = 0; i < 7; i++)
        close(kept[i]);
}

/* ---- with the rest of the layer ---- */

static hark_err publish_then_show(hark_ctx *c, void *ud)
{
    hark_err err =
        hark_ctx_publish(c, HARK_OPTS(hark_event_spec, .type = "order:placed", .json = "1"));
    return err ? err : show(c, ud);
}

static void test_a_stream_comes_after_the_receipts_of_its_request(void **state)
{
    (void)state;
    begin(NULL, HARK_OPTS(hark_feed_opts, .pattern = "order:**"));
    hark_get(l.app, "/publish", publish_then_show, &all);
    live_start(&l);
    reader_open(&a, &l, "/publish", NULL);
    EXPECT_IN_HEAD(&a, "Hark-Seq: ");
    uint64_t seq = live_publish(&l, "order:placed", "2");
    assert_true(reader_next(&a, &m));
    assert_int_equal(reader_seq(&a), seq);
    reader_close(&a);
}

static void *resume(void *arg)
{
    hark_ctx *c = arg;
    hark_ctx_resume(c, show(c, &all));
    return NULL;
}

static hark_err show_later(hark_ctx *c, void *ud)
{
    pthread_t thread;
    (void)ud;
    hark_err err = hark_ctx_defer(c);
    if (!err && pthread_create(&thread, NULL, resume, c) == 0)
        pthread_detach(thread);
    return err;
}

static void test_a_deferred_request_and_a_worker_may_reply_with_a_stream(void **state)
{
    (void)state;
    begin(NULL, SENT);
    hark_app_use(l.app, hark_timeout(HARK_OPTS(hark_timeout_opts, .ms = 60000)));
    hark_get(l.app, "/later", show_later, NULL);
    hark_route(l.app, "GET", "/worker", show, &all, HARK_BLOCKING);
    live_start(&l);
    reader_open(&a, &l, "/later", NULL);
    reader_open(&b, &l, "/worker", NULL);
    say("x");
    EXPECT_NEXT(&a, "x");
    EXPECT_NEXT(&b, "x");
    reader_close(&a);
    reader_close(&b);
}

static void test_a_timeout_does_not_touch_a_stream_that_has_begun(void **state)
{
    (void)state;
    begin(NULL, SENT);
    other = (shown){all.feed, {.heartbeat_ms = 30}};
    hark_app_use(l.app, hark_timeout(HARK_OPTS(hark_timeout_opts, .ms = 20)));
    live_route(&l, "/beat", &other);
    live_start(&l);
    reader_open(&a, &l, "/beat", NULL);
    for (int i = 0; i < 4; i++) {
        assert_true(reader_block(&a, &m));
        assert_true(m.comment);
    }
    reader_close(&a);
}

static hark_err show_then_text(hark_ctx *c, void *ud)
{
    hark_err err = show(c, ud);
    return err ? err : hark_ctx_text(c, 200, "no stream");
}

static void test_the_last_reply_counts_and_faulty_options_are_told(void **state)
{
    reply r;
    (void)state;
    begin(NULL, SENT);
    other = (shown){all.feed, {.pattern = "order:**"}};
    live_route(&l, "/faulty", &other);
    hark_get(l.app, "/text", show_then_text, &all);
    live_start(&l);
    client_do(l.port, "GET", "/text", NULL, NULL, &r);
    assert_string_equal(r.body, "no stream");
    client_do(l.port, "GET", "/faulty", NULL, NULL, &r);
    EXPECT_STATUS(&r, 500);
}

static void test_a_feed_needs_what_it_is_made_of(void **state)
{
    hark_feed *f = NULL;
    hark_errinfo ei = {0};
    hark_app *app;
    (void)state;
    begin(NULL, SENT);
    live_start(&l);
    assert_int_equal(hark_app_feed(l.app, SENT, &f), HARK_EINVAL);
    assert_int_equal(hark_app_new(NULL, &app, &ei), HARK_OK);
    assert_int_equal(hark_app_feed(app, HARK_OPTS(hark_feed_opts, .pattern = "a"), &f),
                     HARK_EINVAL);
    assert_null(f);
    hark_app_unref(app);
}

static void test_an_app_that_never_ran_ends_its_feeds(void **state)
{
    (void)state;
    begin(NULL, HARK_OPTS(hark_feed_opts, .pattern = "order:**"));
    live_publish(&l, "order:placed", "1");
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_teardown(name, end_all)
    const struct CMUnitTest tests[] = {
        T(test_nothing_but_the_stream_refers_to_its_socket),
        T(test_the_head_has_what_middleware_sets_and_the_request_is_done),
        T(test_head_gets_the_head_only),
        T(test_retry_is_spread_by_a_quarter),
        T(test_a_client_that_leaves_is_forgotten),
        T(test_a_client_that_talks_is_not_heard_for_ever),
        T(test_stopping_does_not_wait_for_streams),
        T(test_a_bus_that_ends_first_ends_only_those_that_read_its_log),
        T(test_a_client_that_never_reads_is_cut_and_delays_nobody),
        T(test_a_slow_client_gets_all_from_the_log),
        T(test_a_thousand_clients_at_once),
        T(test_too_many_streams_are_told_to_come_back),
        T(test_a_stream_comes_after_the_receipts_of_its_request),
        T(test_a_deferred_request_and_a_worker_may_reply_with_a_stream),
        T(test_a_timeout_does_not_touch_a_stream_that_has_begun),
        T(test_the_last_reply_counts_and_faulty_options_are_told),
        T(test_a_feed_needs_what_it_is_made_of),
        T(test_an_app_that_never_ran_ends_its_feeds),
    };
    if (argc > 1)
        kit_store = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
