/* Servers that are too old, or no servers of that kind: fakes that greet as such do. Opening a log says what it
 * found, what it needs, and what to do. */
#include "kit.h"

#include <hark/hark.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct fake {
    int listener, port, end[2]; /* a pipe: closed at the end */
    pthread_t thread;
    const char *version;
    void (*serve)(const struct fake *f, int fd);
} fake;

/* ---- a server of one thread -------------------------------------------------------------------- */

/* False: the client has gone, or the test ends. */
static bool read_some(const fake *f, int fd, unsigned char *buf, size_t size, size_t *ret)
{
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = f->end[0], .events = POLLIN}};
    if (poll(p, 2, -1) < 1 || p[1].revents)
        return false;
    ssize_t n = recv(fd, buf, size, 0);
    *ret = n > 0 ? (size_t)n : 0;
    return n > 0;
}

static bool read_all(const fake *f, int fd, unsigned char *buf, size_t size)
{
    for (size_t n = 0, more; n < size; n += more)
        if (!read_some(f, fd, buf + n, size - n, &more))
            return false;
    return true;
}

static void say(int fd, const void *text, size_t len)
{
    (void)send(fd, text, len, MSG_NOSIGNAL);
}

static void *run(void *arg)
{
    const fake *f = arg;
    struct pollfd p[2] = {{.fd = f->listener, .events = POLLIN},
                          {.fd = f->end[0], .events = POLLIN}};
    while (poll(p, 2, -1) > 0 && !p[1].revents) {
        int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        f->serve(f, fd);
        (void)close(fd);
    }
    return NULL;
}

static void fake_start(fake *f, const char *version, void (*serve)(const fake *f, int fd))
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof sa;
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    *f = (fake){.version = version, .serve = serve};
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(f->listener, (struct sockaddr *)&sa, len), 0);
    assert_int_equal(listen(f->listener, 8), 0);
    assert_int_equal(getsockname(f->listener, (struct sockaddr *)&sa, &len), 0);
    f->port = ntohs(sa.sin_port);
    assert_int_equal(pipe(f->end), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
}

static void fake_end(fake *f)
{
    (void)close(f->end[1]);
    pthread_join(f->thread, NULL);
    (void)close(f->end[0]);
    (void)close(f->listener);
}

static void refused(const fake *f, const char *scheme, hark_err expected, const char *found,
                    const char *advice)
{
    char url[96];
    bool of_redis = strcmp(scheme, "redis") == 0;
    hark_bus *bus = NULL;
    hark_errinfo ei = {.text = ""};
    (void)snprintf(url, sizeof url, "%s127.0.0.1:%d%s",
                   of_redis ? "redis://" : "postgresql://hark@", f->port, of_redis ? "" : "/hark");
    hark_err err = hark_open(url, NULL, &bus, &ei);
    if (err != expected || !strstr(ei.text, found) || !strstr(ei.text, advice))
        fail_msg("%s: expected %s, '%s' and '%s', got %s: %s", url, hark_err_name(expected), found,
                 advice, hark_err_name(err), ei.text);
    assert_null(bus);
}

/* ---- PostgreSQL -------------------------------------------------------------------------------- */

enum { NO_LOGIN = 0x30000 }; /* of a startup message: the protocol; others ask for encryption */

static uint32_t number_at(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A message: its kind, its length, and so many bytes. */
static void message(int fd, char kind, const void *body, size_t len)
{
    unsigned char all[256] = {(unsigned char)kind, 0, 0, 0, (unsigned char)(len + 4)};
    memcpy(all + 5, body, len);
    say(fd, all, len + 5);
}

static void parameter(int fd, const char *name, const char *value)
{
    char both[128];
    int n = snprintf(both, sizeof both, "%s%c%s", name, '\0', value);
    message(fd, 'S', both, (size_t)n + 1);
}

static void serve_postgres(const fake *f, int fd)
{
    unsigned char buf[1024];
    size_t n;
    do { /* no encryption; then who it is, which is all the same */
        if (!read_all(f, fd, buf, 8) || number_at(buf) < 8 || number_at(buf) > sizeof buf ||
            !read_all(f, fd, buf + 8, number_at(buf) - 8))
            return;
        if (number_at(buf + 4) != NO_LOGIN)
            say(fd, "N", 1);
    } while (number_at(buf + 4) != NO_LOGIN);
    message(fd, 'R', "\0\0\0\0", 4); /* welcome */
    parameter(fd, "server_version", f->version);
    parameter(fd, "client_encoding", "UTF8");
    message(fd, 'K', "\0\0\0\1\0\0\0\2", 8);
    message(fd, 'Z', "I", 1);
    while (read_some(f, fd, buf, sizeof buf, &n)) /* whatever else it wants */
        continue;
}

static void test_an_old_postgresql_is_refused_with_what_to_do(void **state)
{
    fake f;
    (void)state;
    fake_start(&f, "12.22 (Debian 12.22-1)", serve_postgres);
    refused(&f, "postgresql", HARK_EFORMAT, "runs PostgreSQL 12.22; a log needs 14 or newer",
            "upgrade the server");
    fake_end(&f);
    fake_start(&f, "9.6.24", serve_postgres);
    refused(&f, "postgresql", HARK_EFORMAT, "runs PostgreSQL 9.6", "upgrade the server");
    fake_end(&f);
}

/* ---- Redis ------------------------------------------------------------------------------------- */

static void info(const fake *f, int fd)
{
    char text[128], reply[192];
    int n =
        snprintf(text, sizeof text, "# Server\r\nredis_version:%s\r\nrole:master\r\n", f->version);
    n = snprintf(reply, sizeof reply, "$%d\r\n%s\r\n", n, text);
    say(fd, reply, (size_t)n);
}

/* Each command is an array; what it says is good, and INFO tells the version. */
static void serve_redis(const fake *f, int fd)
{
    unsigned char buf[4096];
    size_t n;
    while (read_some(f, fd, buf, sizeof buf - 1, &n)) {
        buf[n] = '\0';
        for (const char *p = (const char *)buf; (p = strchr(p, '*')) != NULL; p++) {
            const char *end = strchr(p + 1, '*');
            size_t len = end ? (size_t)(end - p) : strlen(p);
            if (memmem(p, len, "INFO", 4))
                info(f, fd);
            else if (memmem(p, len, "CONFIG", 6))
                say(fd, "*0\r\n", 4);
            else
                say(fd, "+OK\r\n", 5);
        }
    }
}

static void test_an_old_redis_is_refused_with_what_to_do(void **state)
{
    fake f;
    (void)state;
    fake_start(&f, "6.0.16", serve_redis);
    refused(&f, "redis", HARK_EFORMAT, "is Redis 6.0.16, and a log needs 6.2 or newer",
            "use a newer server");
    fake_end(&f);
    fake_start(&f, "5.0.3", serve_redis);
    refused(&f, "redis", HARK_EFORMAT, "is Redis 5.0.3", "use a newer server");
    fake_end(&f);
}

/* ---- others ------------------------------------------------------------------------------------ */

static void serve_http(const fake *f, int fd)
{
    static const char bad[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    unsigned char buf[1024];
    size_t n;
    if (read_some(f, fd, buf, sizeof buf, &n))
        say(fd, bad, sizeof bad - 1);
}

static void test_a_server_of_another_kind_is_named_and_doubted(void **state)
{
    fake f;
    (void)state;
    fake_start(&f, "", serve_http);
    refused(&f, "postgresql", HARK_ESTORE, "127.0.0.1", "see that the server runs");
    refused(&f, "redis", HARK_ESTORE, "127.0.0.1", "does not speak Redis's protocol");
    fake_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_old_postgresql_is_refused_with_what_to_do),
        cmocka_unit_test(test_an_old_redis_is_refused_with_what_to_do),
        cmocka_unit_test(test_a_server_of_another_kind_is_named_and_doubted),
    };
    (void)setenv("HARK_LOG", "error", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
