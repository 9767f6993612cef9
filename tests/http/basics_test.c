/* Requests and replies over real sockets. */
#include "fixture.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static reply r;
static char v[256];

/* ---- handlers ---- */

static hark_err echo(hark_ctx *c, void *ud)
{
    size_t len;
    const char *body = hark_ctx_body(c, &len);
    (void)ud;
    return hark_ctx_bytes(c, 200, "text/plain", body, len);
}

static hark_err show(hark_ctx *c, void *ud)
{
    const char *q = hark_ctx_query(c, "q"), *h = hark_ctx_header(c, "x-h");
    const char *id = hark_ctx_param(c, "id"), *rest = hark_ctx_param(c, "rest");
    (void)ud;
    return hark_ctx_text(c, 200,
                         hark_ctx_printf(c, "%s %s [%s] id=%s rest=%s q=%s h=%s %s",
                                         hark_ctx_method(c), hark_ctx_path(c), hark_ctx_route(c),
                                         id ? id : "-", rest ? rest : "-", q ? q : "-", h ? h : "-",
                                         hark_ctx_remote(c)));
}

typedef struct order {
    char *name;
    long total;
    char **items;
    size_t n_items;
} order;

HARK_JSON_TABLE(order_json, order, HARK_JSON_STR(order, name, .required = true),
                HARK_JSON_INT(order, total, HARK_JSON_RANGE(1, 1000)),
                HARK_JSON_LIST(order, items, n_items));

static hark_err take_order(hark_ctx *c, void *ud)
{
    order o = {.total = 7};
    hark_err err =
        ud ? hark_ctx_bind_optional(c, &order_json, &o) : hark_ctx_bind(c, &order_json, &o);
    if (err)
        return err;
    if (!o.name)
        o.name = hark_ctx_printf(c, "John Doe");
    return hark_ctx_json(c, 201, &order_json, &o);
}

static hark_err fail_with(hark_ctx *c, void *ud)
{
    hark_err err = *(const hark_err *)ud;
    return hark_ctx_fail(c, err, "what went wrong");
}

static hark_err fail_at(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_fail_at(c, HARK_ESCHEMA, "$.items[1].sku", "is sold out");
}

/* Blames a place, and then thinks better of it. */
static hark_err fail_at_first(hark_ctx *c, void *ud)
{
    (void)hark_ctx_fail_at(c, HARK_ESCHEMA, "$.items[1].sku", "is sold out");
    return *(const hark_err *)ud;
}

static hark_err fail_at_before(hark_ctx *c, void *ud)
{
    (void)hark_ctx_fail_at(c, HARK_ESCHEMA, "$.items[1].sku", "is sold out");
    return hark_ctx_fail(c, *(const hark_err *)ud, "what went wrong");
}

static hark_err count(hark_ctx *c, void *ud)
{
    (void)ud;
    int64_t n = 20;
    hark_err err = hark_ctx_query_int(c, "n", -5, 100, &n);
    return err ? err : hark_ctx_text(c, 200, hark_ctx_printf(c, "%" PRId64, n));
}

static hark_err forget(hark_ctx *c, void *ud)
{
    (void)c;
    (void)ud;
    return HARK_OK;
}

static hark_err bad_header(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_ctx_set_header(c, "X-Evil", "a\r\nX-More: b");
    return hark_ctx_text(c, 200, "hello");
}

static hark_err rich(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_ctx_add_header(c, "X-A", "0");
    hark_ctx_add_header(c, "X-B", "b");
    hark_ctx_add_header(c, "x-a", "1");
    hark_ctx_set_header(c, "x-A", "2");
    hark_ctx_add_header(c, "Set-Cookie", "a=1");
    hark_ctx_add_header(c, "Set-Cookie", "b=2");
    hark_ctx_text(c, 500, "thought better of it");
    return hark_ctx_redirect(c, 303, "/elsewhere");
}

static fixture f;

static int setup(void **state)
{
    static const hark_err not_found = HARK_ENOTFOUND, internal = HARK_EINTERNAL,
                          again = HARK_EAGAIN, schema = HARK_ESCHEMA;
    static int optional;
    union {
        const void *in;
        void *out;
    } nf = {&not_found}, in = {&internal}, ag = {&again}, sc = {&schema};
    (void)state;
    fixture_new(&f, FAKE_SYNC, HARK_OPTS(hark_app_opts, .body_limit = 1000));
    hark_get(f.app, "/hello", say_hello, NULL);
    hark_post(f.app, "/echo", echo, NULL);
    hark_get(f.app, "/users/:id", show, NULL);
    hark_get(f.app, "/files/*rest", show, NULL);
    hark_post(f.app, "/orders", take_order, NULL);
    hark_post(f.app, "/maybe", take_order, &optional);
    hark_get(f.app, "/fail/404", fail_with, nf.out);
    hark_get(f.app, "/fail/500", fail_with, in.out);
    hark_get(f.app, "/fail/503", fail_with, ag.out);
    hark_get(f.app, "/fail/at", fail_at, NULL);
    hark_get(f.app, "/fail/at-first/404", fail_at_first, nf.out);
    hark_get(f.app, "/fail/at-first/500", fail_at_first, in.out);
    hark_get(f.app, "/fail/at-before/404", fail_at_before, nf.out);
    hark_get(f.app, "/fail/at-before/422", fail_at_before, sc.out);
    hark_get(f.app, "/count", count, NULL);
    hark_get(f.app, "/forget", forget, NULL);
    hark_get(f.app, "/bad-header", bad_header, NULL);
    hark_get(f.app, "/rich", rich, NULL);
    hark_route(f.app, "POST", "/big", echo, NULL, HARK_OPTS(hark_route_opts, .body_limit = 60000));
    fixture_start(&f);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fixture_end(&f);
    return 0;
}

static void ask(const char *method, const char *target)
{
    client_do(f.port, method, target, NULL, NULL, &r);
}

/* ---- promises ---- */

static void test_params_query_and_headers_reach_the_handler(void **state)
{
    (void)state;
    client_do(f.port, "GET", "/users/a%20b?x=1&q=c%2Bd+e", "X-H:  v  \r\n", NULL, &r);
    EXPECT_STATUS(&r, 200);
    EXPECT_PART(r.body, "GET /users/a b [/users/:id] id=a b rest=- q=c+d e h=v 127.0.0.1:");
    ask("GET", "/files/a/b/c.txt");
    EXPECT_PART(r.body, "[/files/*rest] id=- rest=a/b/c.txt");
}

static void test_what_is_not_there_is_404_and_another_method_405_with_allow(void **state)
{
    (void)state;
    ask("GET", "/nothing");
    EXPECT_STATUS(&r, 404);
    EXPECT_PART(r.head, "application/problem+json");
    EXPECT_PART(r.body, "\"status\":404");
    ask("DELETE", "/hello");
    EXPECT_STATUS(&r, 405);
    assert_string_equal(reply_header(&r, "Allow", v, sizeof v), "GET, HEAD, OPTIONS");
    ask("OPTIONS", "/hello");
    EXPECT_STATUS(&r, 204);
    assert_string_equal(reply_header(&r, "Allow", v, sizeof v), "GET, HEAD, OPTIONS");
}

static void test_head_is_get_without_a_body(void **state)
{
    (void)state;
    ask("HEAD", "/hello");
    EXPECT_STATUS(&r, 200);
    assert_string_equal(reply_header(&r, "Content-Length", v, sizeof v), "5");
    assert_int_equal(r.len, 0);
}

static void test_a_connection_serves_many_requests(void **state)
{
    (void)state;
    int fd = client_open(f.port);
    for (int i = 0; i < 50; i++) {
        client_sends(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        client_read(fd, false, &r);
        EXPECT_STATUS(&r, 200);
        assert_string_equal(r.body, "abc");
    }
    close(fd);
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    int fd = client_open(f.port);
    client_sends(fd, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
                     "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
                     "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
                     "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"
                     "HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n");
    static const char *const bodies[] = {"hello", "hi", "abc"};
    for (int i = 0; i < 3; i++) {
        client_read(fd, false, &r);
        EXPECT_STATUS(&r, 200);
        assert_string_equal(r.body, bodies[i]);
    }
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 404);
    client_read(fd, true, &r);
    EXPECT_STATUS(&r, 200);
    close(fd);
}

static void test_a_request_may_come_byte_by_byte(void **state)
{
    (void)state;
    static const char text[] = "POST /echo?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    int fd = client_open(f.port);
    for (size_t i = 0; i < sizeof text - 1; i++)
        client_send(fd, text + i, 1);
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 200);
    assert_string_equal(r.body, "abc");
    close(fd);
}

static void test_http_1_0_gets_its_reply_and_the_end(void **state)
{
    (void)state;
    int fd = client_open(f.port);
    client_sends(fd, "GET /hello HTTP/1.0\r\n\r\n");
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 200);
    assert_true(client_ended(fd));
    close(fd);
}

static void test_json_bodies_become_structs_and_back(void **state)
{
    (void)state;
    client_do(f.port, "POST", "/orders", "Content-Type: application/json; charset=utf-8\r\n",
              "{\"name\":\"A\\u00e4\",\"total\":9,\"items\":[\"x\",\"y\"]}", &r);
    EXPECT_STATUS(&r, 201);
    assert_string_equal(r.body, "{\"name\":\"A\xc3\xa4\",\"total\":9,\"items\":[\"x\",\"y\"]}");
    assert_string_equal(reply_header(&r, "Content-Type", v, sizeof v), "application/json");
}

static void test_every_fault_of_a_body_is_reported_with_its_place(void **state)
{
    (void)state;
    client_do(f.port, "POST", "/orders", "Content-Type: application/json\r\n",
              "{\"total\":0,\"items\":[1]}", &r);
    EXPECT_STATUS(&r, 422);
    EXPECT_PART(r.body, "\"errors\":[");
    EXPECT_PART(r.body, "\"pointer\":\"#/total\"");
    EXPECT_PART(r.body, "\"pointer\":\"#/items/0\"");
    client_do(f.port, "POST", "/orders", "Content-Type: application/json\r\n", "{\"name\":", &r);
    EXPECT_STATUS(&r, 400);
    client_do(f.port, "POST", "/orders", "Content-Type: text/plain\r\n", "{\"name\":\"a\"}", &r);
    EXPECT_STATUS(&r, 415);
    client_do(f.port, "POST", "/orders", NULL, "{\"name\":\"a\"}", &r);
    EXPECT_STATUS(&r, 415);
    client_do(f.port, "POST", "/orders", NULL, NULL, &r);
    EXPECT_STATUS(&r, 400);
}

static void test_an_optional_body_may_be_left_out(void **state)
{
    (void)state;
    client_do(f.port, "POST", "/maybe", NULL, NULL, &r);
    EXPECT_STATUS(&r, 201);
    assert_string_equal(r.body, "{\"name\":\"John Doe\",\"total\":7,\"items\":[]}");
    client_do(f.port, "POST", "/maybe", "Content-Type: application/json\r\n", "{}", &r);
    EXPECT_STATUS(&r, 422);
}

static void test_errors_become_problem_documents(void **state)
{
    (void)state;
    ask("GET", "/fail/404");
    EXPECT_STATUS(&r, 404);
    EXPECT_PART(r.body, "what went wrong");
    ask("GET", "/fail/503");
    EXPECT_STATUS(&r, 503);
    assert_string_equal(reply_header(&r, "Retry-After", v, sizeof v), "1");
    ask("GET", "/fail/500");
    EXPECT_STATUS(&r, 500);
    assert_null(strstr(r.body, "what went wrong")); /* for the log only */
    ask("GET", "/forget");
    EXPECT_STATUS(&r, 500);
}

static void test_a_handler_may_blame_a_place_of_the_body_too(void **state)
{
    (void)state;
    ask("GET", "/fail/at");
    EXPECT_STATUS(&r, 422);
    EXPECT_PART(r.body, "\"detail\":\"the body: $.items[1].sku is sold out\"");
    EXPECT_PART(r.body, "\"errors\":[{\"path\":\"$.items[1].sku\",\"pointer\":\"#/items/1/sku\","
                        "\"detail\":\"is sold out\"}]}");
}

static void test_the_places_of_an_error_are_not_those_of_another(void **state)
{
    (void)state;
    static const char *const others[] = {"/fail/at-first/404", "/fail/at-first/500",
                                         "/fail/at-before/404", "/fail/at-before/422"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        ask("GET", others[i]);
        EXPECT_STATUS(&r, atoi(strrchr(others[i], '/') + 1));
        if (strstr(r.body, "errors") || strstr(r.body, "sold out"))
            fail_msg("%s: %s", others[i], r.body);
    }
}

static void test_a_number_of_the_query_is_whole_and_within_its_bounds(void **state)
{
    (void)state;
    static const char *const good[][2] = {
        {"/count", "20"}, {"/count?n=100", "100"}, {"/count?n=-5", "-5"}, {"/count?m=x", "20"}};
    static const char *const wrong[] = {"",     "x",   "1x", "1.5",
                                        "%201", "101", "-6", "99999999999999999999"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        ask("GET", good[i][0]);
        assert_string_equal(r.body, good[i][1]);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char target[40];
        snprintf(target, sizeof target, "/count?n=%s", wrong[i]);
        ask("GET", target);
        EXPECT_STATUS(&r, 400);
        EXPECT_PART(r.body, "expected a whole number from -5 to 100");
    }
}

static void test_nobody_writes_headers_of_their_own(void **state)
{
    (void)state;
    ask("GET", "/bad-header");
    EXPECT_STATUS(&r, 500);
    assert_null(strstr(r.head, "X-More"));
}

static void test_the_last_reply_counts_and_headers_are_set_or_added(void **state)
{
    (void)state;
    ask("GET", "/rich");
    EXPECT_STATUS(&r, 303);
    assert_string_equal(reply_header(&r, "Location", v, sizeof v), "/elsewhere");
    EXPECT_PART(r.head, "X-A: 2\r\nX-B: b\r\nSet-Cookie: a=1\r\n"); /* one, in the first's place */
    assert_null(strcasestr(strstr(r.head, "X-B"), "X-A"));
    EXPECT_PART(r.head, "Set-Cookie: a=1\r\n");
    EXPECT_PART(r.head, "Set-Cookie: b=2\r\n");
    assert_int_equal(r.len, 0);
}

static void test_a_body_over_the_limit_is_413_from_its_length_alone(void **state)
{
    (void)state;
    int fd = client_open(f.port);
    client_sends(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 413);
    assert_true(client_ended(fd));
    close(fd);
    fd = client_open(f.port);
    client_sends(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n"
                     "Expect: 100-continue\r\n\r\n");
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 413);
    close(fd);
}

static void test_a_chunked_body_is_cut_as_soon_as_it_passes_the_limit(void **state)
{
    (void)state;
    char chunk[512];
    int fd = client_open(f.port);
    int n = snprintf(chunk, sizeof chunk, "190\r\n%400s\r\n", "x");
    client_sends(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; i++)
        client_send(fd, chunk, (size_t)n);
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 413);
    assert_true(client_ended(fd));
    close(fd);
}

static void test_a_client_that_goes_on_sending_still_reads_its_413(void **state)
{
    (void)state;
    static char block[65536];
    int fd = client_open(f.port);
    memset(block, 'x', sizeof block);
    client_sends(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 524288\r\n\r\n");
    for (int i = 0; i < 8; i++)
        client_send(fd, block, sizeof block);
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 413);
    close(fd);
}

static void test_a_route_may_take_larger_bodies(void **state)
{
    (void)state;
    static char head[128], block[60000];
    int fd = client_open(f.port);
    memset(block, 'y', sizeof block);
    snprintf(head, sizeof head,
             "POST /big HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\nExpect: 100-continue\r\n\r\n",
             sizeof block);
    client_sends(fd, head);
    client_send(fd, block, sizeof block);
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 200);
    assert_int_equal(r.len, sizeof block);
    assert_memory_equal(r.body, block, sizeof block);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_params_query_and_headers_reach_the_handler),
        cmocka_unit_test(test_what_is_not_there_is_404_and_another_method_405_with_allow),
        cmocka_unit_test(test_head_is_get_without_a_body),
        cmocka_unit_test(test_a_connection_serves_many_requests),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_a_request_may_come_byte_by_byte),
        cmocka_unit_test(test_http_1_0_gets_its_reply_and_the_end),
        cmocka_unit_test(test_json_bodies_become_structs_and_back),
        cmocka_unit_test(test_every_fault_of_a_body_is_reported_with_its_place),
        cmocka_unit_test(test_an_optional_body_may_be_left_out),
        cmocka_unit_test(test_errors_become_problem_documents),
        cmocka_unit_test(test_a_handler_may_blame_a_place_of_the_body_too),
        cmocka_unit_test(test_the_places_of_an_error_are_not_those_of_another),
        cmocka_unit_test(test_a_number_of_the_query_is_whole_and_within_its_bounds),
        cmocka_unit_test(test_nobody_writes_headers_of_their_own),
        cmocka_unit_test(test_the_last_reply_counts_and_headers_are_set_or_added),
        cmocka_unit_test(test_a_body_over_the_limit_is_413_from_its_length_alone),
        cmocka_unit_test(test_a_chunked_body_is_cut_as_soon_as_it_passes_the_limit),
        cmocka_unit_test(test_a_client_that_goes_on_sending_still_reads_its_413),
        cmocka_unit_test(test_a_route_may_take_larger_bodies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
