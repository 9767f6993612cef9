/* The proxy, between a test and a server that echoes. */
#include "proxy.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { ECHO_MAX = 16, HUNG_MS = 30000 };

/* ---- a server that echoes ----------------------------------------------------------------------- */

typedef struct fixture {
    pthread_t thread;
    int listener, port, stop[2]; /* a pipe */
    atomic_size_t heard;         /* bytes */
    proxy *proxy;
} fixture;

static struct sockaddr_in address(int port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sa;
}

/* false: the other side has ended. */
static bool echo_once(fixture *f, int fd)
{
    char buf[4096];
    ssize_t n = read(fd, buf, sizeof buf);
    if (n <= 0)
        return false;
    atomic_fetch_add(&f->heard, (size_t)n);
    return send(fd, buf, (size_t)n, MSG_NOSIGNAL) == n;
}

static void *echo(void *ud)
{
    fixture *f = ud;
    struct pollfd fds[2 + ECHO_MAX] = {{.fd = f->stop[0], .events = POLLIN},
                                       {.fd = f->listener, .events = POLLIN}};
    nfds_t n = 2;
    while (poll(fds, n, -1) > 0 && !fds[0].revents) {
        for (nfds_t i = 2; i < n; i++)
            if (fds[i].revents && !echo_once(f, fds[i].fd)) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        if (fds[1].revents && n < 2 + ECHO_MAX)
            fds[n++] = (struct pollfd){.fd = accept(f->listener, NULL, NULL), .events = POLLIN};
    }
    for (nfds_t i = 2; i < n; i++)
        if (fds[i].fd >= 0)
            close(fds[i].fd);
    return NULL;
}

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    struct sockaddr_in sa = address(0);
    socklen_t len = sizeof sa;
    assert_non_null(f);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(f->listener, ECHO_MAX), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&sa, &len), 0);
    assert_int_equal(pipe(f->stop), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, echo, f), 0);
    f->port = ntohs(sa.sin_port);
    f->proxy = proxy_new(f->port);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    proxy_free(f->proxy);
    assert_int_equal(write(f->stop[1], "x", 1), 1);
    pthread_join(f->thread, NULL);
    close(f->stop[0]);
    close(f->stop[1]);
    close(f->listener);
    free(f);
    return 0;
}

/* ---- a client ------------------------------------------------------------------------------------ */

static int dial(fixture *f)
{
    const struct timeval most = {.tv_sec = HUNG_MS / 1000};
    struct sockaddr_in sa = address(proxy_port(f->proxy));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most), 0);
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
        return fd;
    int err = errno;
    close(fd);
    errno = err;
    return -1;
}

static void say(int fd, const char *s)
{
    assert_int_equal(send(fd, s, strlen(s), MSG_NOSIGNAL), (int)strlen(s));
}

/* What comes, until it is as long as expected. */
static void expect(int fd, const char *s)
{
    char buf[256] = "";
    size_t len = strlen(s), n = 0;
    assert_true(len < sizeof buf);
    while (n < len) {
        ssize_t got = recv(fd, buf + n, len - n, 0);
        if (got <= 0)
            fail_msg("expected '%s', got '%s' and then %s", s, buf,
                     got ? strerror(errno) : "the end");
        n += (size_t)got;
    }
    assert_string_equal(buf, s);
}

static void ask(int fd, const char *s)
{
    say(fd, s);
    expect(fd, s);
}

static void expect_end(int fd)
{
    char c;
    ssize_t n = recv(fd, &c, 1, 0);
    if (n > 0 || (n < 0 && errno != ECONNRESET))
        fail_msg("expected the end, got %s", n > 0 ? "a byte" : strerror(errno));
    close(fd);
}

static bool has_data(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#define WAIT_UNTIL(cond)                                                                           \
    for (int64_t end_ = now_ms() + HUNG_MS; !(cond); sched_yield())                                \
        if (now_ms() > end_)                                                                       \
    fail_msg("hung, waiting for: %s", #cond)

/* ---- tests --------------------------------------------------------------------------------------- */

static void test_what_is_said_is_passed_on_both_ways(void **state)
{
    fixture *f = *state;
    int a = dial(f), b = dial(f);
    ask(a, "one");
    ask(b, "two");
    ask(a, "three");
    proxy_counts n = proxy_counted(f->proxy);
    assert_int_equal(n.connections, 2);
    assert_int_equal(n.cuts, 0);
    assert_int_equal(n.bytes[PROXY_TO_SERVER], 11);
    assert_int_equal(n.bytes[PROXY_TO_CLIENT], 11);
    close(a);
    close(b);
}

static void test_much_is_passed_on_whole(void **state)
{
    enum { MUCH = 1 << 20 };
    fixture *f = *state;
    char *out = malloc(MUCH), *in = malloc(MUCH);
    size_t sent = 0, got = 0;
    int fd = dial(f);
    assert_true(out && in);
    for (size_t i = 0; i < MUCH; i++)
        out[i] = (char)(i * 31 >> 7);
    while (got < MUCH) {
        struct pollfd p = {.fd = fd, .events = sent < MUCH ? POLLIN | POLLOUT : POLLIN};
        assert_int_equal(poll(&p, 1, HUNG_MS), 1);
        ssize_t n = p.revents & POLLOUT
                        ? send(fd, out + sent, MUCH - sent, MSG_NOSIGNAL | MSG_DONTWAIT)
                        : 0;
        sent += n > 0 ? (size_t)n : 0;
        n = p.revents & POLLIN ? recv(fd, in + got, MUCH - got, MSG_DONTWAIT) : 0;
        got += n > 0 ? (size_t)n : 0;
    }
    assert_memory_equal(in, out, MUCH);
    close(fd);
    free(out);
    free(in);
}

static void test_a_side_that_closes_ends_the_other(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    ask(fd, "bye");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    expect_end(fd); /* the server has seen it, and closed as well */
    assert_int_equal(proxy_counted(f->proxy).cuts, 0);
}

static void test_delayed_bytes_come_later(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_delay(f->proxy, 60);
    int64_t begin = now_ms();
    ask(fd, "late");
    assert_true(now_ms() - begin >= 120); /* there and back */
    proxy_delay(f->proxy, 0);
    ask(fd, "again");
    close(fd);
}

static void test_slices_are_single_bytes(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_slice(f->proxy, true);
    ask(fd, "a sentence");
    WAIT_UNTIL(proxy_counted(f->proxy).writes == 20);
    proxy_slice(f->proxy, false);
    ask(fd, "whole");
    assert_true(proxy_counted(f->proxy).writes < 30);
    close(fd);
}

static void test_held_bytes_are_passed_on_in_the_end(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    ask(fd, "before");
    proxy_hold(f->proxy, true);
    say(fd, "held");
    assert_int_equal(atomic_load(&f->heard), 6);
    assert_false(has_data(fd));
    proxy_hold(f->proxy, false);
    expect(fd, "held");
    close(fd);
}

static void test_a_cut_ends_all_connections_and_no_later_one(void **state)
{
    fixture *f = *state;
    int a = dial(f), b = dial(f);
    ask(a, "one");
    ask(b, "two");
    proxy_cut(f->proxy);
    assert_int_equal(proxy_counted(f->proxy).cuts, 2);
    expect_end(a);
    expect_end(b);
    int c = dial(f);
    ask(c, "three");
    close(c);
}

static void test_a_connection_is_cut_after_so_many_bytes_to_the_client(void **state)
{
    fixture *f = *state;
    int a = dial(f), b = dial(f);
    ask(b, "there");
    proxy_cut_after(f->proxy, PROXY_TO_CLIENT, 8);
    ask(a, "five.");
    say(a, "sentence");
    expect(a, "sen");
    expect_end(a);
    assert_int_equal(proxy_counted(f->proxy).cuts, 1);
    assert_int_equal(atomic_load(&f->heard), 18); /* the server was told all of it */
    ask(b, "still there");
    close(b);
}

static void test_a_connection_is_cut_after_so_many_bytes_to_the_server(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_cut_after(f->proxy, PROXY_TO_SERVER, 4);
    say(fd, "half of it");
    proxy_await_cuts(f->proxy, 1);
    WAIT_UNTIL(atomic_load(&f->heard) == 4);
    assert_int_equal(proxy_counted(f->proxy).bytes[PROXY_TO_SERVER], 4);
    expect_end(fd);
}

static void test_nothing_is_passed_on_before_a_cut_after_nothing(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_cut_after(f->proxy, PROXY_TO_SERVER, 0);
    say(fd, "x");
    expect_end(fd);
    assert_int_equal(proxy_counted(f->proxy).cuts, 1);
    assert_int_equal(atomic_load(&f->heard), 0);
}

static void test_the_answer_to_the_kth_request_is_lost(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_cut_reply(f->proxy, PROXY_TO_SERVER, "COMMIT", 2);
    ask(fd, "BEGIN;COMMIT");
    ask(fd, "COM MIT");
    say(fd, "COMMIT now");
    expect_end(fd);
    assert_int_equal(atomic_load(&f->heard), 29); /* the server has done it */
    fd = dial(f);
    ask(fd, "COMMIT"); /* once is enough */
    close(fd);
}

static void test_the_kth_answer_is_lost(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_cut_reply(f->proxy, PROXY_TO_CLIENT, "COMMIT", 2);
    ask(fd, "COMMIT");
    ask(fd, "ROLLBACK");
    say(fd, "a COMMIT");
    expect_end(fd);
    assert_int_equal(atomic_load(&f->heard), 22);
    assert_int_equal(proxy_counted(f->proxy).bytes[PROXY_TO_CLIENT], 14);
}

static void test_any_answer_can_be_lost(void **state)
{
    fixture *f = *state;
    for (unsigned k = 1; k <= 4; k++) {
        int fd = dial(f);
        proxy_cut_reply(f->proxy, PROXY_TO_CLIENT, "", k);
        for (unsigned i = 1; i < k; i++)
            ask(fd, "fine");
        say(fd, "lost");
        expect_end(fd);
        assert_int_equal(proxy_counted(f->proxy).cuts, k);
    }
}

static void test_a_needle_across_two_chunks_is_found(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_cut_reply(f->proxy, PROXY_TO_CLIENT, "COMMIT", 1);
    ask(fd, "a CO");
    ask(fd, "M");
    say(fd, "MIT");
    expect_end(fd);
}

static void test_a_needle_within_slices_is_found_once(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    proxy_cut_reply(f->proxy, PROXY_TO_CLIENT, "aa", 2);
    for (int i = 0; i < 3; i++)
        ask(fd, "a"); /* the third "a" begins the next */
    say(fd, "a");
    expect_end(fd);
}

static void test_a_black_hole_swallows_what_is_said_and_says_nothing(void **state)
{
    fixture *f = *state;
    int old = dial(f);
    ask(old, "before");
    proxy_black_hole(f->proxy, true);
    int new = dial(f); /* is accepted */
    say(old, "lost");
    say(new, "lost too");
    WAIT_UNTIL(proxy_counted(f->proxy).swallowed == 12);
    assert_int_equal(atomic_load(&f->heard), 6);
    proxy_black_hole(f->proxy, false);
    say(old, "mute");
    say(new, "mute");
    WAIT_UNTIL(proxy_counted(f->proxy).swallowed == 20);
    assert_false(has_data(old));
    assert_false(has_data(new));
    int later = dial(f);
    ask(later, "fine");
    close(old);
    close(new);
    close(later);
}

static void test_what_is_on_its_way_falls_into_the_black_hole(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    ask(fd, "before");
    proxy_delay(f->proxy, 3600000);
    say(fd, "late");
    proxy_black_hole(f->proxy, true);
    WAIT_UNTIL(proxy_counted(f->proxy).swallowed == 4);
    assert_int_equal(atomic_load(&f->heard), 6);
    close(fd);
}

static void test_refused_connections_are_refused_until_it_ends(void **state)
{
    fixture *f = *state;
    int fd = dial(f);
    ask(fd, "before");
    proxy_refuse(f->proxy, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(dial(f), -1);
        assert_int_equal(errno, ECONNREFUSED);
    }
    ask(fd, "still there");
    proxy_refuse(f->proxy, false);
    int new = dial(f);
    ask(new, "back");
    close(new);
    close(fd);
}

static void test_a_server_that_is_not_there_ends_connections(void **state)
{
    fixture *f = *state;
    proxy *p = f->proxy;
    assert_int_equal(shutdown(f->listener, SHUT_RDWR), 0);
    int fd = dial(f);
    expect_end(fd);
    assert_int_equal(proxy_counted(p).cuts, 0);
}

static void test_everything_passes_again(void **state)
{
    fixture *f = *state;
    proxy_slice(f->proxy, true);
    proxy_delay(f->proxy, 3600000);
    proxy_hold(f->proxy, true);
    proxy_black_hole(f->proxy, true);
    proxy_refuse(f->proxy, true);
    proxy_cut_after(f->proxy, PROXY_TO_CLIENT, 1);
    proxy_cut_reply(f->proxy, PROXY_TO_CLIENT, "", 1);
    proxy_pass(f->proxy);
    int fd = dial(f);
    ask(fd, "fine");
    close(fd);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_said_is_passed_on_both_ways),
        TEST(test_much_is_passed_on_whole),
        TEST(test_a_side_that_closes_ends_the_other),
        TEST(test_delayed_bytes_come_later),
        TEST(test_slices_are_single_bytes),
        TEST(test_held_bytes_are_passed_on_in_the_end),
        TEST(test_a_cut_ends_all_connections_and_no_later_one),
        TEST(test_a_connection_is_cut_after_so_many_bytes_to_the_client),
        TEST(test_a_connection_is_cut_after_so_many_bytes_to_the_server),
        TEST(test_nothing_is_passed_on_before_a_cut_after_nothing),
        TEST(test_the_answer_to_the_kth_request_is_lost),
        TEST(test_the_kth_answer_is_lost),
        TEST(test_any_answer_can_be_lost),
        TEST(test_a_needle_across_two_chunks_is_found),
        TEST(test_a_needle_within_slices_is_found_once),
        TEST(test_a_black_hole_swallows_what_is_said_and_says_nothing),
        TEST(test_what_is_on_its_way_falls_into_the_black_hole),
        TEST(test_refused_connections_are_refused_until_it_ends),
        TEST(test_a_server_that_is_not_there_ends_connections),
        TEST(test_everything_passes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
