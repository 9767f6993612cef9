/* Requests that a quickstart must refuse: each gets a problem document, the process lives on and
 * answers the next one, and nothing of it is in the log. */
#include "client.h"
#include "kit.h"

#include <hark/hark.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT (1024 * 1024) /* of a body: the app's default */

typedef struct server {
    kit_proc proc;
    int port;
    size_t orders; /* that were answered with 201 */
    char url[200];
} server;

static const char *program;
static server srv;
static reply r;
static char big[LIMIT * 2 + 4096];

static void order_is_taken(const char *body)
{
    client_do(srv.port, "POST", "/orders", "Content-Type: application/json\r\n", body, &r);
    if (r.status != 201)
        fail_msg("a good order got %d %s", r.status, r.body);
    srv.orders++;
}

/* The last reply is a problem document of that status. */
static void is_problem(const char *what, int status)
{
    char type[128], want[32];
    (void)snprintf(want, sizeof want, "\"status\":%d", status);
    if (r.status != status)
        fail_msg("%.200s: expected %d, got %d %s", what, status, r.status, r.body);
    assert_string_equal(reply_header(&r, "Content-Type", type, sizeof type),
                        "application/problem+json");
    if (r.body[0] != '{' || !strstr(r.body, want) || !strstr(r.body, "\"title\":"))
        fail_msg("%.200s: no problem document: %s", what, r.body);
}

static void send_body(const void *body, size_t len, const char *lines)
{
    char head[512];
    int fd = client_open(srv.port);
    assert_true(fd >= 0);
    int n = snprintf(head, sizeof head,
                     "POST /orders HTTP/1.1\r\nHost: test\r\n%sContent-Length: %zu\r\n\r\n", lines,
                     len);
    client_send(fd, head, (size_t)n);
    client_send(fd, body, len);
    client_read(fd, false, &r);
    close(fd);
}

static void refused_body(const void *body, size_t len, int status)
{
    send_body(body, len, "Content-Type: application/json\r\n");
    is_problem(body, status);
}

static void refused_text(const char *body, int status)
{
    refused_body(body, strlen(body), status);
}

/* Raw bytes that end the connection. */
static void refused_raw(const char *bytes, int status)
{
    int fd = client_open(srv.port);
    assert_true(fd >= 0);
    client_sends(fd, bytes);
    client_read(fd, false, &r);
    is_problem(bytes, status);
    if (!client_ended(fd))
        fail_msg("%.200s: the connection goes on", bytes);
    close(fd);
}

/* ---- bodies ---- */

static void test_malformed_json(void **state)
{
    static const char *const bad[] = {"{",
                                      "}",
                                      "{\"items\":[\"a\"]",
                                      "{\"items\":[\"a\",]}",
                                      "nonsense",
                                      "{'items':1}",
                                      "{\"items\":[\"a\"]}x",
                                      "{\"total\":01}",
                                      "{\"total\":.5}",
                                      "{\"total\":NaN}",
                                      "{\"items\":[\"\\x\"]}",
                                      "{\"items\":[\"\\ud800\"]}",
                                      "{\"items\":[\"a\nb\"]}",
                                      "{,}",
                                      "[",
                                      "\"",
                                      "\xef\xbb\xbf{}",
                                      "{\"total\":1e}",
                                      "{\"a\":tru}",
                                      " "};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_text(bad[i], 400);
}

static void test_wrong_types(void **state)
{
    static const char *const bad[] = {"{\"items\":5}",
                                      "{\"items\":[1]}",
                                      "{\"items\":[]}",
                                      "{\"total\":\"x\"}",
                                      "{\"total\":-1}",
                                      "{\"total\":[1]}",
                                      "{\"user_id\":{}}",
                                      "[]",
                                      "\"items\"",
                                      "5",
                                      "{\"total\":1e400}",
                                      "{\"items\":[[1]]}",
                                      "{\"user_id\":\"0123456789012345678901234567890123456789\"}"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_text(bad[i], 422);
}

static void test_duplicate_keys(void **state)
{
    (void)state;
    refused_text("{\"total\":1,\"total\":2}", 400);
    refused_text("{\"total\":1,\"tot\\u0061l\":2}", 400);
}

static void test_nul_and_invalid_utf8(void **state)
{
    (void)state;
    refused_body("{\"items\":[\"a\0b\"]}", 17, 400);
    refused_body("{\"total\":1}\0", 12, 400);
    refused_text("{\"items\":[\"\xff\"]}", 400);
    refused_text("{\"items\":[\"\xc0\x80\"]}", 400);
    refused_text("{\"items\":[\"\xed\xa0\x80\"]}", 400);
    refused_text("{\"items\":[\"\xf4\x90\x80\x80\"]}", 400);
    refused_text("{\"items\":[\"\xe2\x82\"]}", 400);
    refused_text("{\"items\":[\"\\u0000\"]}", 422);
}

static void test_nesting_of_100000(void **state)
{
    (void)state;
    memset(big, '[', 100000);
    refused_body(big, 100000, 400);
    memset(big + 100000, ']', 100000);
    refused_body(big, 200000, 400);
    size_t n = 0;
    for (int i = 0; i < 100000; i++, n += 5)
        memcpy(big + n, "{\"a\":", 5);
    refused_body(big, n, 400);
}

static void test_another_media_type(void **state)
{
    (void)state;
    send_body("total=1", 7, "Content-Type: application/x-www-form-urlencoded\r\n");
    is_problem("a form", 415);
}

/* ---- sizes ---- */

static void test_a_body_over_the_limit_is_refused_from_its_head(void **state)
{
    char head[256];
    (void)state;
    (void)snprintf(head, sizeof head,
                   "POST /orders HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                   "Content-Length: %d\r\n\r\n",
                   LIMIT + 1);
    int fd = client_open(srv.port);
    client_sends(fd, head);
    client_read(fd, false, &r);
    is_problem(head, 413);
    close(fd);
}

static void test_a_body_over_the_limit_is_refused_when_it_is_sent(void **state)
{
    (void)state;
    memset(big, ' ', LIMIT + 1);
    send_body(big, LIMIT + 1, "Content-Type: application/json\r\n");
    is_problem("a long body", 413);
}

static void test_a_body_at_the_limit_is_read(void **state)
{
    static const char body[] = "{\"items\":[\"a\"]}";
    (void)state;
    memset(big, ' ', LIMIT);
    memcpy(big, body, sizeof body - 1);
    send_body(big, LIMIT, "Content-Type: application/json\r\n");
    assert_int_equal(r.status, 201);
    srv.orders++;
}

static void test_chunks_over_the_limit(void **state)
{
    (void)state;
    int fd = client_open(srv.port);
    client_sends(fd, "POST /orders HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n");
    memset(big, ' ', 65536);
    for (int i = 0; i <= LIMIT / 65536; i++) {
        client_sends(fd, "10000\r\n");
        client_send(fd, big, 65536);
        client_sends(fd, "\r\n");
    }
    client_sends(fd, "0\r\n\r\n");
    client_read(fd, false, &r);
    is_problem("chunks", 413);
    close(fd);
}

static void test_a_head_over_the_limit(void **state)
{
    (void)state;
    int fd = client_open(srv.port);
    memset(big, 'a', 65536);
    client_sends(fd, "GET / HTTP/1.1\r\nHost: test\r\nX-Long: ");
    client_send(fd, big, 65536);
    client_sends(fd, "\r\n\r\n");
    client_read(fd, false, &r);
    if (r.status && (r.status < 400 || r.status > 499)) /* or the connection is cut */
        fail_msg("a head of 64 KiB got %d", r.status);
    close(fd);
}

/* ---- framing ---- */

static void test_ambiguous_framing(void **state)
{
#define POST "POST /orders HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
    (void)state;
    refused_raw(POST "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                400);
    refused_raw(POST "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                400);
    refused_raw(POST "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", 400);
    refused_raw(POST "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400);
    refused_raw(POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400);
    refused_raw(POST "Transfer-Encoding: identity\r\n\r\n{}", 400);
    refused_raw(POST "Host: other\r\nContent-Length: 2\r\n\r\n{}", 400);
}

static void test_unknown_paths_and_methods(void **state)
{
    char allow[64];
    (void)state;
    client_do(srv.port, "GET", "/nowhere", NULL, NULL, &r);
    is_problem("GET /nowhere", 404);
    client_do(srv.port, "DELETE", "/orders", NULL, NULL, &r);
    is_problem("DELETE /orders", 405);
    assert_non_null(strstr(reply_header(&r, "Allow", allow, sizeof allow), "POST"));
}

static void test_clients_that_leave_in_the_middle(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        int fd = client_open(srv.port);
        assert_true(fd >= 0);
        client_sends(fd, i % 2 ? POST "Content-Length: 1000\r\n\r\n{\"items\":[" : "POST /ord");
        close(fd);
    }
}

/* ---- before and after ---- */

static int each_begins_with_an_order(void **state)
{
    (void)state;
    order_is_taken("{\"items\":[\"before\"],\"total\":1}");
    return 0;
}

static int each_ends_with_an_order(void **state)
{
    (void)state;
    order_is_taken(NULL);
    return 0;
}

static int launch(void **state)
{
    (void)state;
    (void)snprintf(srv.url, sizeof srv.url, "sqlite:%s/x.db", kit_dir());
    srv.proc = kit_quickstart(program, srv.url, kit_path("stderr"), &srv.port);
    return 0;
}

/* The same process still runs, ends well, and its log has the good orders and nothing else. */
static int land(void **state)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    hark_page *page = NULL;
    size_t orders = 0;
    (void)state;
    if (getenv("XX"))
        system("cp /tmp/hark-*/stderr /tmp/xx.err");
    kit_stop(&srv.proc, srv.port);
    if (hark_open(srv.url, NULL, &bus, &ei) ||
        hark_read(bus, HARK_OPTS(hark_read_opts, .limit = 10000), &page, &ei))
        kit_fail("the log: %s", ei.text);
    for (size_t i = 0; i < hark_page_count(page); i++) {
        const char *type = hark_event_type(hark_page_event(page, i));
        orders += strcmp(type, "order:placed") == 0;
        KIT_CHECK(strcmp(type, "order:placed") == 0 || strcmp(type, "request:completed") == 0,
                  "an event of type %s", type);
    }
    KIT_CHECK(hark_page_next(page) == 0, "the log is longer than this test");
    KIT_CHECK(orders == srv.orders, "%zu orders were answered with 201, %zu are in the log",
              srv.orders, orders);
    hark_page_free(page);
    hark_bus_unref(bus);
    return 0;
}

#define CASE(f)                                                                                    \
    cmocka_unit_test_setup_teardown(f, each_begins_with_an_order, each_ends_with_an_order)

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: bad_request_test QUICKSTART");
    kit_guard();
    const struct CMUnitTest tests[] = {
        CASE(test_malformed_json),
        CASE(test_wrong_types),
        CASE(test_duplicate_keys),
        CASE(test_nul_and_invalid_utf8),
        CASE(test_nesting_of_100000),
        CASE(test_another_media_type),
        CASE(test_a_body_over_the_limit_is_refused_from_its_head),
        CASE(test_a_body_over_the_limit_is_refused_when_it_is_sent),
        CASE(test_a_body_at_the_limit_is_read),
        CASE(test_chunks_over_the_limit),
        CASE(test_a_head_over_the_limit),
        CASE(test_ambiguous_framing),
        CASE(test_unknown_paths_and_methods),
        CASE(test_clients_that_leave_in_the_middle),
    };
    program = kit_program(argv[1]);
    return cmocka_run_group_tests_name("bad request", tests, launch, land);
}
