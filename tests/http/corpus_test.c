/* Malformed requests, byte by byte as an attacker sends them: each is answered 400 (or what stands
 * beside it), the connection is closed, and no handler is called; alone, and pipelined after a good
 * request. */
#include "fixture.h"

#include "base/base.h"

#include <stdio.h>
#include <unistd.h>

typedef struct bad {
    const char *what;
    const char *bytes;
    size_t len;
    int status; /* 0: closed without a reply will do as well as 400 */
} bad;

#define BAD(what, bytes)                                                                           \
    {                                                                                              \
        what, bytes, sizeof(bytes) - 1, 400                                                        \
    }
#define BAD_AS(status, what, bytes)                                                                \
    {                                                                                              \
        what, bytes, sizeof(bytes) - 1, status                                                     \
    }
#define GET      "GET /trap HTTP/1.1\r\nHost: a\r\n"
#define POST     "POST /trap HTTP/1.1\r\nHost: a\r\n"
#define SMUGGLED "GET /trap HTTP/1.1\r\nHost: a\r\n\r\n"

static const bad corpus[] = {
    BAD("both Content-Length and Transfer-Encoding",
        POST "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" SMUGGLED),
    BAD("Transfer-Encoding and then Content-Length",
        POST "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" SMUGGLED),
    BAD("two Content-Lengths that agree", POST "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx"),
    BAD("two Content-Lengths that differ",
        POST "Content-Length: 0\r\nContent-Length: 34\r\n\r\n" SMUGGLED),
    BAD("a list of lengths", POST "Content-Length: 1, 1\r\n\r\nx"),
    BAD("a plus sign in Content-Length", POST "Content-Length: +5\r\n\r\nhello"),
    BAD("a negative Content-Length", POST "Content-Length: -1\r\n\r\n"),
    BAD("a hexadecimal Content-Length", POST "Content-Length: 0x5\r\n\r\nhello"),
    BAD("an empty Content-Length", POST "Content-Length:\r\n\r\n"),
    BAD("a Content-Length with a space in it", POST "Content-Length: 1 1\r\n\r\nx"),
    BAD_AS(0, "a Content-Length beyond 64 bits",
           POST "Content-Length: 99999999999999999999999\r\n\r\n"),
    BAD("Transfer-Encoding gzip, chunked",
        POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    BAD("Transfer-Encoding xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    BAD("Transfer-Encoding identity", POST "Transfer-Encoding: identity\r\n\r\n"),
    BAD("Transfer-Encoding chunked, chunked",
        POST "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    BAD("Transfer-Encoding twice",
        POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    BAD("Transfer-Encoding with a vertical tab",
        POST "Transfer-Encoding: \vchunked\r\n\r\n0\r\n\r\n"),
    BAD("Transfer-Encoding with a blank behind",
        POST "Transfer-Encoding: chunked \r\n\r\n0\r\n\r\n"),
    BAD("an empty Transfer-Encoding", POST "Transfer-Encoding:\r\n\r\n"),
    BAD("Transfer-Encoding in HTTP/1.0",
        "POST /trap HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    BAD("two Hosts", GET "Host: b\r\n\r\n"),
    BAD("two Hosts that agree", GET "Host: a\r\n\r\n"),
    BAD("no Host", "GET /trap HTTP/1.1\r\nX: y\r\n\r\n"),
    BAD("no header at all", "GET /trap HTTP/1.1\r\n\r\n"),
    BAD("a Host with a space", "GET /trap HTTP/1.1\r\nHost: a b\r\n\r\n"),
    BAD("an empty header name", GET ": x\r\n\r\n"),
    BAD("a space before the colon", GET "X : y\r\n\r\n"),
    BAD("a tab before the colon", GET "X\t: y\r\n\r\n"),
    BAD("a space in a header name", GET "X Y: z\r\n\r\n"),
    BAD("Transfer-Encoding with a space before the colon",
        POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    BAD("Content-Length with a space before the colon", POST "Content-Length : 1\r\n\r\nx"),
    BAD("a header name with a parenthesis", GET "X(y): z\r\n\r\n"),
    BAD("a header name with a control character", GET "X\x01: z\r\n\r\n"),
    BAD("a header name that is not ASCII", GET "X\xe4: z\r\n\r\n"),
    BAD("a line without a colon", GET "nonsense\r\n\r\n"),
    BAD("a NUL in a value", GET "X: a\0b\r\n\r\n"),
    BAD("a NUL at the end of a value", GET "X: a\0\r\nY: b\r\n\r\n"),
    BAD("a NUL that hides a header", GET "X: a\0\r\n\r\n"),
    BAD("a NUL in a header name", GET "X\0Y: z\r\n\r\n"),
    BAD("a control character in a value", GET "X: a\x02z\r\n\r\n"),
    BAD("a DEL in a value", GET "X: a\x7fz\r\n\r\n"),
    BAD("a bare CR in a value", GET "X: a\rb\r\n\r\n"),
    BAD("a folded line", GET "X: a\r\n b\r\n\r\n"),
    BAD("a folded line with a tab", GET "X: a\r\n\tb\r\nY: c\r\n\r\n"),
    BAD("a folded Transfer-Encoding", POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    BAD("a folded first line", "GET /trap HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n"),
    BAD("a bare LF after a header", GET "X: a\nY: b\r\n\r\n"),
    BAD("bare LFs after all headers", "GET /trap HTTP/1.1\nHost: a\n\n"),
    BAD("a bare LF after the request line", "GET /trap HTTP/1.1\nHost: a\r\n\r\n"),
    BAD("a bare LF before an empty name", GET "X: a\n: b\r\n\r\n"),
    BAD("an encoded NUL in the path", "GET /trap%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an encoded NUL in the query", "GET /trap?a=%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a broken escape", "GET /trap%2 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("an escape that is not hexadecimal", "GET /trap%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a path that is not UTF-8", "GET /trap%ff HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a raw byte above ASCII in the target", "GET /trap\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a control character in the target", "GET /trap\x01 HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a NUL in the target", "GET /trap\0x HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD_AS(0, "a tab in the request line", "GET\t/trap\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a space in the target", "GET /trap /x HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("two spaces in the request line", "GET  /trap HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a relative target", "GET trap HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a fragment in the target", "GET /trap#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD("a method that is no token", "G@T /trap HTTP/1.1\r\nHost: a\r\n\r\n"),
    BAD_AS(0, "no version", "GET /trap\r\nHost: a\r\n\r\n"),
    BAD_AS(0, "a version in lower case", "GET /trap http/1.1\r\nHost: a\r\n\r\n"),
    BAD_AS(505, "a version to come", "GET /trap HTTP/2.0\r\nHost: a\r\n\r\n"),
    BAD("a chunk size with a sign", POST "Transfer-Encoding: chunked\r\n\r\n+1\r\nx\r\n0\r\n\r\n"),
    BAD("a chunk size with 0x", POST "Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n"),
    BAD("an empty chunk size", POST "Transfer-Encoding: chunked\r\n\r\n\r\nx\r\n0\r\n\r\n"),
    BAD("a chunk longer than its size",
        POST "Transfer-Encoding: chunked\r\n\r\n1\r\nxyz\r\n0\r\n\r\n"),
    BAD_AS(413, "a chunk size beyond 64 bits",
           POST "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx\r\n0\r\n\r\n"),
    BAD("Content-Length in the trailers",
        POST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nContent-Length: 5\r\n\r\n"),
    BAD("a trailer name with a space",
        POST "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX Y: z\r\n\r\n"),
};

static fixture f;
static reply r;

static hark_err trap(hark_ctx *c, void *ud)
{
    (void)ud;
    /* A marker in the reply; the handler's thread cannot fail the test. */
    return hark_ctx_text(c, 299, "the handler was called");
}

static int setup(void **state)
{
    (void)state;
    fixture_new(&f, FAKE_SYNC, NULL);
    hark_any(f.app, "/*rest", trap, NULL);
    hark_get(f.app, "/good", say_hello, NULL);
    fixture_start(&f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&f);
    return 0;
}

static void check(int fd, const bad *b, const char *how)
{
    client_send(fd, b->bytes, b->len);
    client_read(fd, false, &r);
    bool status_ok = b->status ? r.status == b->status : r.status != 299 && r.status != 200;
    if (!status_ok)
        fail_msg("%s, %s: status %d %s", b->what, how, r.status, r.body);
    /* libmicrohttpd 0.9.75 writes the head of its own refusals of a length twice, hence the look at
     * what follows: it must end, and be no answer of a handler. */
    static char rest[4096];
    if (strstr(client_rest(fd, rest, sizeof rest), "HTTP/1.1 2"))
        fail_msg("%s, %s: the connection goes on: %s", b->what, how, rest);
}

static void test_each_is_refused_and_the_connection_closed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        int fd = client_open(f.port);
        check(fd, &corpus[i], "alone");
        close(fd);
    }
}

static void test_each_is_refused_after_a_good_request_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        int fd = client_open(f.port);
        client_sends(fd, "GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
        client_read(fd, false, &r);
        EXPECT_STATUS(&r, 200);
        check(fd, &corpus[i], "second");
        close(fd);
    }
}

static void test_each_is_refused_in_the_same_packet_as_a_good_request(void **state)
{
    (void)state;
    static const char good[] = "GET /good HTTP/1.1\r\nHost: a\r\n\r\n";
    static char both[4096];
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        bad b = corpus[i];
        memcpy(both, good, sizeof good - 1);
        memcpy(both + sizeof good - 1, b.bytes, b.len);
        int fd = client_open(f.port);
        client_send(fd, both, sizeof good - 1 + b.len);
        client_read(fd, false, &r);
        EXPECT_STATUS(&r, 200);
        b.len = 0;
        check(fd, &b, "pipelined");
        close(fd);
    }
}

static void test_each_is_refused_byte_by_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof *corpus; i++) {
        bad b = corpus[i];
        int fd = client_open(f.port);
        for (size_t at = 0; at < b.len; at++)
            client_send(fd, b.bytes + at, 1);
        b.len = 0;
        check(fd, &b, "byte by byte");
        close(fd);
    }
}

/* Sends a head made of a start, a run of 'a's and an end; returns the status. */
static int status_of(const char *start, size_t run, const char *finish)
{
    hk_buf b = {0};
    hk_buf_adds(&b, start);
    for (size_t i = 0; i < run; i++)
        hk_buf_addc(&b, 'a');
    hk_buf_adds(&b, finish);
    int fd = client_open(f.port);
    client_send(fd, b.data, b.len);
    client_read(fd, false, &r);
    close(fd);
    hk_buf_free(&b);
    return r.status;
}

static void test_a_target_of_more_than_8_kib_is_414(void **state)
{
    (void)state;
    static const char finish[] = " HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_int_equal(status_of("GET /", 8191, finish), 299);
    assert_int_equal(status_of("GET /", 8192, finish), 414);
    assert_int_equal(status_of("GET /", 9000, finish), 414);
    assert_int_equal(status_of("GET /", 18000, finish), 414);
}

static void test_too_many_or_too_large_headers_are_431(void **state)
{
    (void)state;
    hk_buf b = {0};
    hk_buf_adds(&b, GET);
    for (int i = 0; i < 110; i++)
        hk_buf_adds(&b, "X: y\r\n");
    hk_buf_adds(&b, "\r\n");
    assert_int_equal(status_of(b.data, 0, ""), 431);
    hk_buf_free(&b);
    assert_int_equal(status_of(GET "X: ", 20000, ""), 431);
}

static void test_good_requests_are_still_served_afterwards(void **state)
{
    (void)state;
    client_do(f.port, "GET", "/good", NULL, NULL, &r);
    EXPECT_STATUS(&r, 200);
    hark_app_stats stats = {.size = sizeof stats};
    assert_int_equal(hark_app_stats_get(f.app, &stats), HARK_OK);
    assert_true(stats.refused > 4 * 40); /* the others libmicrohttpd refuses itself */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_is_refused_and_the_connection_closed),
        cmocka_unit_test(test_each_is_refused_after_a_good_request_too),
        cmocka_unit_test(test_each_is_refused_in_the_same_packet_as_a_good_request),
        cmocka_unit_test(test_each_is_refused_byte_by_byte),
        cmocka_unit_test(test_a_target_of_more_than_8_kib_is_414),
        cmocka_unit_test(test_too_many_or_too_large_headers_are_431),
        cmocka_unit_test(test_good_requests_are_still_served_afterwards),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
