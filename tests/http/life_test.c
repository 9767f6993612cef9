/* Listening, stopping, and connections that are slow, idle or half-open. */
#include "fixture.h"

#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static fixture f;
static reply r;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static hark_ctx *held_ctx;

static hark_err defer(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_defer(c);
    pthread_mutex_lock(&lock);
    held_ctx = c;
    pthread_mutex_unlock(&lock);
    return err;
}

static hark_ctx *take_held(void)
{
    pthread_mutex_lock(&lock);
    hark_ctx *c = held_ctx;
    held_ctx = NULL;
    pthread_mutex_unlock(&lock);
    return c;
}

static hark_err publish(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_publish(c, HARK_OPTS(hark_event_spec, .type = "t", .json = "1"));
    return err ? err : hark_ctx_text(c, 201, "published");
}

static hark_err quit(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_app_quit(hark_ctx_app(c));
    return hark_ctx_text(c, 200, "bye");
}

static hark_err echo(hark_ctx *c, void *ud)
{
    size_t len;
    const void *body = hark_ctx_body(c, &len);
    (void)ud;
    return hark_ctx_bytes(c, 200, NULL, body, len);
}

static void routes(void)
{
    hark_get(f.app, "/hello", say_hello, NULL);
    hark_get(f.app, "/defer", defer, NULL);
    hark_post(f.app, "/publish", publish, NULL);
    hark_post(f.app, "/echo", echo, NULL);
    hark_get(f.app, "/quit", quit, NULL);
}

static void start_app(fake_mode mode, const hark_app_opts *opts)
{
    fixture_new(&f, mode, opts);
    routes();
    fixture_start(&f);
}

static int request(const char *text)
{
    int fd = client_open(f.port);
    client_sends(fd, text);
    return fd;
}

/* ---- listening ---- */

static void test_a_port_in_use_is_named_with_what_to_do(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    hark_app *other;
    char address[64], expected[128];
    start_app(FAKE_SYNC, NULL);
    snprintf(address, sizeof address, "127.0.0.1:%d", f.port);
    assert_int_equal(hark_app_new(NULL, &other, &ei), HARK_OK);
    assert_int_equal(hark_app_listen(other, address, &ei), HARK_EEXIST);
    snprintf(expected, sizeof expected, "cannot listen on %s: address already in use; ", address);
    EXPECT_PART(ei.text, expected);
    EXPECT_PART(ei.text, "choose another port");
    hark_app_unref(other);
    fixture_end(&f);
}

static void test_bad_addresses_are_refused_with_an_example(void **state)
{
    (void)state;
    static const char *const bad[] = {"",          "8080",        ":8080",      "127.0.0.1",
                                      "1.2.3:80",  "127.0.0.1:x", "[::1]",      "127.0.0.1:65536",
                                      "[::1:8080", "::1:8080x",   "127.0.0.1:", "example.com:80"};
    fixture_new(&f, FAKE_SYNC, NULL);
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        hark_errinfo ei = {0};
        if (hark_app_listen(f.app, bad[i], &ei) != HARK_EINVAL)
            fail_msg("'%s' was taken", bad[i]);
        EXPECT_PART(ei.text, "127.0.0.1:8080");
    }
    fixture_end(&f);
}

static void test_a_listening_socket_may_be_handed_over(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    fixture_new(&f, FAKE_SYNC, NULL);
    routes();
    assert_int_equal(hark_app_listen_fd(f.app, socket(AF_INET, SOCK_STREAM, 0), &ei), HARK_EINVAL);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(listen(fd, 10), 0);
    assert_int_equal(hark_app_listen_fd(f.app, fd, &ei), HARK_OK);
    assert_int_equal(hark_app_start(f.app, &ei), HARK_OK);
    f.port = hark_app_port(f.app);
    client_do(f.port, "GET", "/hello", NULL, NULL, &r);
    EXPECT_STATUS(&r, 200);
    fixture_end(&f);
}

static void test_faults_of_setting_up_are_kept_and_named(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    fixture_new(&f, FAKE_SYNC, NULL);
    routes();
    assert_int_equal(hark_get(f.app, "/hello", say_hello, NULL), HARK_EEXIST);
    hark_get(f.app, "no-slash", say_hello, NULL);
    assert_int_equal(hark_app_listen(f.app, "127.0.0.1:0", &ei), HARK_EEXIST);
    EXPECT_PART(ei.text, "GET /hello");
    fixture_end(&f);
    fixture_new(&f, FAKE_SYNC, NULL);
    assert_int_not_equal(
        hark_app_use(f.app, hark_timeout(HARK_OPTS(hark_timeout_opts, .status = 200))), HARK_OK);
    hark_group *g = NULL;
    assert_int_not_equal(hark_app_group(f.app, "api", &g), HARK_OK);
    assert_int_not_equal(hark_group_get(g, "/x", say_hello, NULL), HARK_OK);
    assert_int_equal(hark_app_listen(f.app, "127.0.0.1:0", &ei), HARK_EINVAL);
    EXPECT_PART(ei.text, "hark_timeout");
    fixture_end(&f);
}

/* ---- stopping ---- */

static void *stop_app(void *arg)
{
    hark_err *err = arg;
    *err = hark_app_stop(f.app, NULL);
    return NULL;
}

static void test_a_stop_finishes_what_is_in_flight(void **state)
{
    (void)state;
    pthread_t t;
    hark_err stopped = HARK_EINTERNAL;
    start_app(FAKE_HELD, NULL);
    int idle[2]; /* one for each loop, so that both are known to be stopping later on */
    for (int i = 0; i < 2; i++) {
        idle[i] = request("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
        client_read(idle[i], false, &r);
    }
    int busy = request("POST /publish HTTP/1.1\r\nHost: a\r\n\r\n");
    WAIT_UNTIL(fake_bus_waiting(f.bus) == 1);
    assert_int_equal(pthread_create(&t, NULL, stop_app, &stopped), 0);
    for (int i = 0; i < 2; i++) /* idle connections are closed at once */
        assert_true(client_ended(idle[i]));
    int late;
    WAIT_UNTIL((late = client_open(f.port)) < 0 || (close(late), false)); /* nobody gets in */
    fake_bus_release(f.bus);
    client_read(busy, false, &r);
    EXPECT_STATUS(&r, 201);
    EXPECT_PART(r.head, "Connection: close");
    assert_true(client_ended(busy));
    pthread_join(t, NULL);
    assert_int_equal(stopped, HARK_OK);
    close(idle[0]);
    close(idle[1]);
    close(busy);
    fixture_end(&f);
}

static void test_a_stop_cuts_off_what_outlasts_its_deadline(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    hark_ctx *c = NULL;
    start_app(FAKE_HELD, HARK_OPTS(hark_app_opts, .drain_ms = 20));
    int a = request("GET /defer HTTP/1.1\r\nHost: a\r\n\r\n");
    int b = request("POST /publish HTTP/1.1\r\nHost: a\r\n\r\n");
    WAIT_UNTIL(fake_bus_waiting(f.bus) == 1 && (c = c ? c : take_held()) != NULL);
    assert_int_equal(hark_app_stop(f.app, &ei), HARK_ETIMEDOUT);
    assert_true(client_ended(a));
    assert_true(client_ended(b));
    hark_app_unref(f.app);
    fake_bus_release(f.bus); /* late receipts and a late resume find nothing to harm */
    hark_bus_unref(f.bus);
    (void)hark_ctx_text(c, 200, "late");
    hark_ctx_resume(c, HARK_OK);
    close(a);
    close(b);
}

static void *run_app(void *arg)
{
    hark_errinfo ei = {0};
    hark_err *err = arg;
    *err = hark_app_run(f.app, &ei);
    return NULL;
}

static void run_and(void (*what)(void))
{
    pthread_t t;
    hark_err err = HARK_EINTERNAL;
    hark_errinfo ei = {0};
    fixture_new(&f, FAKE_ASYNC, NULL);
    routes();
    assert_int_equal(hark_app_listen(f.app, "127.0.0.1:0", &ei), HARK_OK);
    f.port = hark_app_port(f.app);
    assert_int_equal(pthread_create(&t, NULL, run_app, &err), 0);
    client_do(f.port, "POST", "/publish", NULL, NULL, &r); /* the backlog waits for the start */
    EXPECT_STATUS(&r, 201);
    what();
    pthread_join(t, NULL);
    assert_int_equal(err, HARK_OK);
    fixture_end(&f);
}

static void by_request(void)
{
    client_do(f.port, "GET", "/quit", NULL, NULL, &r);
    EXPECT_STATUS(&r, 200);
}

static void by_sigterm(void)
{
    kill(getpid(), SIGTERM);
}

static void by_sigint(void)
{
    kill(getpid(), SIGINT);
}

static void test_a_running_app_ends_on_signals_and_on_quit(void **state)
{
    (void)state;
    run_and(by_request);
    run_and(by_sigterm);
    run_and(by_sigint);
}

/* ---- the slow ---- */

static void test_a_head_that_does_not_come_is_given_up(void **state)
{
    (void)state;
    start_app(FAKE_SYNC, HARK_OPTS(hark_app_opts, .header_timeout_ms = 30));
    int a = client_open(f.port), b = request("GET /hel"), c = request("GET /hello HTTP/1.1\r\nHo");
    assert_true(client_ended(a));
    assert_true(client_ended(b));
    client_read(c, false, &r);
    EXPECT_STATUS(&r, 408);
    close(a);
    close(b);
    close(c);
    hark_app_stats s = {.size = sizeof s};
    assert_int_equal(hark_app_stats_get(f.app, &s), HARK_OK);
    assert_int_equal(s.timed_out, 3);
    fixture_end(&f);
}

static void test_dripping_a_head_does_not_extend_its_deadline(void **state)
{
    (void)state;
    start_app(FAKE_SYNC, HARK_OPTS(hark_app_opts, .header_timeout_ms = 100));
    int fd = request("GET /hello HTTP/1.1\r\nHost: a\r\n");
    struct timeval tick = {0, 5000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tick, sizeof tick);
    char ch;
    ssize_t n;
    do {
        client_sends(fd, "X: y\r\n");
        n = recv(fd, &ch, 1, 0);
    } while (n < 0 && (errno == EAGAIN || errno == EINTR));
    assert_true(n <= 0 || ch == 'H'); /* the 408 or the end, not silence for ever */
    close(fd);
    fixture_end(&f);
}

static void test_a_body_that_stalls_is_given_up(void **state)
{
    (void)state;
    start_app(FAKE_SYNC, HARK_OPTS(hark_app_opts, .idle_timeout_ms = 30));
    int fd = request("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc");
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 408);
    assert_true(client_ended(fd));
    close(fd);
    fixture_end(&f);
}

static void test_idle_connections_are_closed_in_the_end(void **state)
{
    (void)state;
    start_app(FAKE_SYNC, HARK_OPTS(hark_app_opts, .idle_timeout_ms = 30));
    int fd = request("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 200);
    assert_true(client_ended(fd));
    close(fd);
    fixture_end(&f);
}

static void test_connections_beyond_the_limit_are_closed_and_others_live(void **state)
{
    (void)state;
    int fds[64];
    start_app(FAKE_SYNC, HARK_OPTS(hark_app_opts, .loops = 1, .max_connections = 8));
    for (int i = 0; i < 64; i++)
        fds[i] = request("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    int served = 0;
    for (int i = 0; i < 64; i++) {
        client_read(fds[i], false, &r);
        served += r.status == 200;
    }
    assert_in_range(served, 8, 63);
    for (int i = 0; i < 64; i++)
        close(fds[i]);
    WAIT_UNTIL((client_do(f.port, "GET", "/hello", NULL, NULL, &r), r.status == 200));
    fixture_end(&f);
}

static void test_running_out_of_descriptors_ends_connections_and_nothing_else(void **state)
{
    (void)state;
    static int fds[2048], spare[2048];
    size_t n = 0, m = 0;
    struct rlimit before, few;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = 256;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    start_app(FAKE_SYNC, NULL);
    for (; n < 16; n++) { /* answered, so that the server has none to accept any more */
        fds[n] = client_open(f.port);
        client_sends(fds[n], "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
        client_read(fds[n], false, &r);
    }
    while (m < HK_COUNTOF(spare) && (spare[m] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        m++;
    assert_true(m > 0 && m < HK_COUNTOF(spare));
    close(spare[--m]); /* one for the client; the server has none left */
    int fd = client_open(f.port);
    assert_true(fd >= 0);
    assert_true(client_ended(fd));
    close(fd);
    while (m)
        close(spare[--m]);
    while (n)
        close(fds[--n]);
    WAIT_UNTIL((client_do(f.port, "GET", "/hello", NULL, NULL, &r), r.status == 200));
    fixture_end(&f);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_port_in_use_is_named_with_what_to_do),
        cmocka_unit_test(test_bad_addresses_are_refused_with_an_example),
        cmocka_unit_test(test_a_listening_socket_may_be_handed_over),
        cmocka_unit_test(test_faults_of_setting_up_are_kept_and_named),
        cmocka_unit_test(test_a_stop_finishes_what_is_in_flight),
        cmocka_unit_test(test_a_stop_cuts_off_what_outlasts_its_deadline),
        cmocka_unit_test(test_a_running_app_ends_on_signals_and_on_quit),
        cmocka_unit_test(test_a_head_that_does_not_come_is_given_up),
        cmocka_unit_test(test_dripping_a_head_does_not_extend_its_deadline),
        cmocka_unit_test(test_a_body_that_stalls_is_given_up),
        cmocka_unit_test(test_idle_connections_are_closed_in_the_end),
        cmocka_unit_test(test_connections_beyond_the_limit_are_closed_and_others_live),
        cmocka_unit_test(test_running_out_of_descriptors_ends_connections_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
