/* Tests of sockets to listen on: binding them, finding those that a process was handed, handing
 * them over. Each runs in a forked child, since what was handed over belongs to a process. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

/* In a child a failed check ends it with its line. */
#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond))                                                                               \
            fail_here(__LINE__, #cond);                                                            \
    } while (0)

static _Noreturn void fail_here(int line, const char *what)
{
    (void)fprintf(stderr, "line %d: %s\n", line, what);
    _exit(1);
}

static void run_child(void (*fn)(void))
{
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int fd = 3; fd < 40; fd++)
            (void)close(fd);
        fn();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int bind_one(const char *address)
{
    int fd = -1;
    hark_errinfo ei = {0};
    if (hk_listen_bind(address, 16, &fd, &ei))
        fail_here(__LINE__, ei.text);
    return fd;
}

static const char *address_of(int fd, char text[32])
{
    (void)snprintf(text, 32, "127.0.0.1:%d", hk_listen_port(fd));
    return text;
}

static int take(const char *address)
{
    int fd = -2;
    CHECK(hk_listen_inherited(address, &fd, NULL) == HARK_OK);
    return fd;
}

/* As a service manager does it: LISTEN_PID says who is meant. */
static void hand_over(pid_t to, int n)
{
    char pid[24], count[24];
    (void)snprintf(pid, sizeof pid, "%d", (int)to);
    (void)snprintf(count, sizeof count, "%d", n);
    CHECK(setenv("LISTEN_PID", pid, 1) == 0 && setenv("LISTEN_FDS", count, 1) == 0);
    for (int fd = 3; fd < 3 + n; fd++)
        CHECK(fcntl(fd, F_SETFD, 0) == 0 || errno == EBADF);
}

/* ---- binding ---- */

static void in_use(void)
{
    char text[32];
    int fd = -1, first = bind_one("127.0.0.1:0");
    hark_errinfo ei;
    CHECK(hk_listen_bind(address_of(first, text), 16, &fd, &ei) == HARK_EEXIST);
    CHECK(strstr(ei.text, text) && strstr(ei.text, "already in use"));
    CHECK(fd == -1);
    CHECK(fcntl(first, F_GETFD) == FD_CLOEXEC);
    CHECK(fcntl(first, F_GETFL) & O_NONBLOCK);
}

static void test_an_address_in_use_is_told(void **state UNUSED)
{
    run_child(in_use);
}

static void test_what_is_no_address_is_told(void **state UNUSED)
{
    static const char *const bad[] = {"",           "8080",    "127.0.0.1",       "127.0.0.1:",
                                      ":8080",      "[::1:80", "127.0.0.1:65536", "127.0.0.1:-1",
                                      "[]:80",      "::1:80",  "host.example:80", "127.0.0.1:80x",
                                      "1.2.3.4.5:1"};
    int fd = -7;
    hark_errinfo ei;
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        assert_int_equal(hk_listen_bind(bad[i], 16, &fd, &ei), HARK_EINVAL);
        assert_non_null(strstr(ei.text, bad[i]));
        assert_int_equal(hk_listen_inherited(bad[i], &fd, &ei), HARK_EINVAL);
    }
    assert_int_equal(hk_listen_bind(NULL, 16, &fd, &ei), HARK_EINVAL);
    assert_int_equal(fd, -7);
}

/* ---- taking what was handed over ---- */

static void by_address(void)
{
    char a[32], b[32];
    CHECK(bind_one("127.0.0.1:0") == 3 && bind_one("127.0.0.1:0") == 4);
    hand_over(getpid(), 2);
    CHECK(take(address_of(4, b)) == 4);
    CHECK(take(b) == -1); /* once */
    CHECK(take("127.0.0.1:1") == -1);
    CHECK(take(address_of(3, a)) == 3);
    CHECK(fcntl(3, F_GETFD) == FD_CLOEXEC && fcntl(4, F_GETFD) == FD_CLOEXEC);
}

static void test_a_socket_that_was_handed_over_is_found_by_its_address_once(void **state UNUSED)
{
    run_child(by_address);
}

static void by_host(void)
{
    char a[32];
    CHECK(bind_one("0.0.0.0:0") == 3 && bind_one("127.0.0.1:0") == 4 &&
          bind_one("127.0.0.1:0") == 5);
    hand_over(getpid(), 3);
    CHECK(take(address_of(4, a)) == 4);
    CHECK(take("127.0.0.1:0") == 5);
    CHECK(take("localhost:0") == -1);
    CHECK(take("0.0.0.0:0") == 3);
}

static void test_port_0_takes_the_first_one_left_with_that_host(void **state UNUSED)
{
    run_child(by_host);
}

static void of_others(void)
{
    char a[32];
    CHECK(bind_one("127.0.0.1:0") == 3);
    hand_over(getppid(), 1);
    CHECK(take(address_of(3, a)) == -1);
}

static void test_what_was_handed_to_another_process_is_left_alone(void **state UNUSED)
{
    run_child(of_others);
}

static void odd_ones(void)
{
    char a[32];
    int on = 0;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6};
    CHECK(socket(AF_INET, SOCK_DGRAM, 0) == 3 && open("/dev/null", O_RDONLY) == 4);
    int fd = socket(AF_INET6, SOCK_STREAM, 0); /* as systemd binds a bare port */
    if (fd < 0)
        _exit(0); /* no IPv6 here */
    CHECK(fd == 5 && setsockopt(5, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0);
    CHECK(bind(5, (struct sockaddr *)&any, sizeof any) == 0 && listen(5, 16) == 0);
    hand_over(getpid(), 4); /* and one that is not there */
    (void)snprintf(a, sizeof a, "0.0.0.0:%d", hk_listen_port(5));
    CHECK(take(address_of(5, (char[32]){0})) == -1);
    CHECK(take(a) == 5);
    CHECK(fcntl(5, F_GETFL) & O_NONBLOCK);
}

static void test_what_is_no_listening_socket_is_passed_over(void **state UNUSED)
{
    CHECK(setenv("LISTEN_PID", "x", 1) == 0);
    run_child(odd_ones);
}

/* ---- handing over ---- */

static void moved_into_place(void)
{
    char a[32], b[32], names[8] = "names";
    int fds[2] = {-1, -1};
    CHECK(open("/dev/null", O_RDONLY) == 3 && open("/dev/null", O_RDONLY) == 4);
    CHECK((fds[1] = bind_one("127.0.0.1:0")) == 5);
    CHECK(close(3) == 0 && close(4) == 0);
    CHECK((fds[0] = bind_one("127.0.0.1:0")) == 3);
    CHECK(dup2(3, 4) == 4 && close(3) == 0);
    fds[0] = 4;
    (void)address_of(fds[0], a);
    (void)address_of(fds[1], b);
    CHECK(setenv("LISTEN_FDNAMES", names, 1) == 0);
    hk_listen_arrange(fds, 2);
    CHECK(fds[0] == 3 && fds[1] == 4 && fcntl(5, F_GETFD) < 0);
    CHECK(hk_listen_give(fds, 2) == HARK_OK);
    CHECK(atoi(getenv("LISTEN_PID")) == getpid() && atoi(getenv("LISTEN_FDS")) == 2);
    CHECK(getenv("LISTEN_FDNAMES") == NULL);
    CHECK(fcntl(3, F_GETFD) == 0 && fcntl(4, F_GETFD) == 0);
    CHECK(take(b) == 4 && take(a) == 3);
    CHECK(fcntl(3, F_GETFD) == FD_CLOEXEC);
}

static void test_sockets_are_handed_over_from_descriptor_3_on(void **state UNUSED)
{
    run_child(moved_into_place);
}

static void no_place(void)
{
    char a[32];
    CHECK(open("/dev/null", O_RDONLY) == 3);
    int fd = bind_one("127.0.0.1:0");
    (void)address_of(fd, a);
    hand_over(getpid(), 0);
    hk_listen_arrange(&fd, 1);
    CHECK(fd == 4);
    CHECK(hk_listen_give(&fd, 1) == HARK_OK);
    CHECK(getenv("LISTEN_PID") == NULL && getenv("LISTEN_FDS") == NULL);
    CHECK(take(a) == 4);
}

static void test_a_descriptor_of_the_programs_own_is_not_overwritten(void **state UNUSED)
{
    run_child(no_place);
}

static void the_rest(void)
{
    char a[32];
    int fds[4] = {0};
    CHECK(bind_one("127.0.0.1:0") == 3 && bind_one("127.0.0.1:0") == 4 &&
          bind_one("127.0.0.1:0") == 5);
    hand_over(getpid(), 3);
    CHECK(take(address_of(4, a)) == 4);
    CHECK(hk_listen_rest(fds, 1) == 1 && fds[0] == 3);
    CHECK(hk_listen_rest(fds, 4) == 1 && fds[0] == 5);
    CHECK(hk_listen_rest(fds, 4) == 0);
}

static void test_what_nobody_took_can_be_passed_on(void **state UNUSED)
{
    run_child(the_rest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_address_in_use_is_told),
        cmocka_unit_test(test_what_is_no_address_is_told),
        cmocka_unit_test(test_a_socket_that_was_handed_over_is_found_by_its_address_once),
        cmocka_unit_test(test_port_0_takes_the_first_one_left_with_that_host),
        cmocka_unit_test(test_what_was_handed_to_another_process_is_left_alone),
        cmocka_unit_test(test_what_is_no_listening_socket_is_passed_over),
        cmocka_unit_test(test_sockets_are_handed_over_from_descriptor_3_on),
        cmocka_unit_test(test_a_descriptor_of_the_programs_own_is_not_overwritten),
        cmocka_unit_test(test_what_nobody_took_can_be_passed_on),
    };
    return cmocka_run_group_tests_name("listen", tests, NULL, NULL);
}
