/* What browsers go by: hark_cors and hark_secure_headers. */
#include "fixture.h"

#include "base/base.h"

#include <stdio.h>

static fixture f;
static reply r;

static hark_err not_found(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_fail(c, HARK_ENOTFOUND, "no such order");
}

static hark_err negotiated(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_ctx_set_header(c, "Vary", "Accept");
    return hark_ctx_text(c, 200, "hello");
}

static hark_err framed(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_ctx_set_header(c, "X-Frame-Options", "DENY");
    hark_ctx_set_header(c, "Access-Control-Allow-Origin", "https://mine.example");
    return hark_ctx_text(c, 200, "hello");
}

static hark_err never(hark_ctx *c, void *ud)
{
    (void)c;
    (void)ud;
    abort(); /* no preflight gets here */
}

static void start(hark_middleware first)
{
    hark_errinfo ei = {0};
    fixture_new(&f, FAKE_ASYNC, NULL);
    if (hark_app_use(f.app, first) != HARK_OK)
        fail_msg("%s", hark_app_listen(f.app, "127.0.0.1:0", &ei) ? ei.text : "?");
    hark_get(f.app, "/hello", say_hello, NULL);
    hark_get(f.app, "/orders/:id", not_found, NULL);
    hark_get(f.app, "/negotiated", negotiated, NULL);
    hark_get(f.app, "/framed", framed, NULL);
    hark_post(f.app, "/orders", say_hello, NULL);
    hark_route(f.app, "OPTIONS", "/own", never, NULL, NULL);
    fixture_start(&f);
}

static void ask(const char *method, const char *target, const char *with)
{
    client_do(f.port, method, target, with, NULL, &r);
}

static void expect(const char *name, const char *want)
{
    EXPECT_HEADER(&r, name, want);
}

static void expect_no(const char *part)
{
    if (strstr(r.head, part))
        fail_msg("there is '%s' in: %s", part, r.head);
}

/* A constructor's refusal says this. */
static void refused(hark_middleware mw, const char *part)
{
    fixture_new(&f, FAKE_SYNC, NULL);
    assert_int_equal(hark_app_use(f.app, mw), HARK_EINVAL);
    EXPECT_PART(mw.text, part);
    fixture_end(&f);
}

#define FROM(origin) "Origin: " origin "\r\n"
#define PREFLIGHT    "Access-Control-Request-Method: PUT\r\n"

static const char *const ours[] = {"https://shop.example", "https://*.shop.example", NULL};

/* ---- cors ---- */

static void test_an_admitted_origin_may_read_replies_of_every_kind(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target;
        int status;
    } all[] = {{"GET", "/hello", 200},   {"HEAD", "/hello", 200},   {"GET", "/orders/1", 404},
               {"GET", "/nowhere", 404}, {"DELETE", "/hello", 405}, {"OPTIONS", "/hello", 204}};
    start(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours, .expose = "Hark-Seq, Location")));
    for (size_t i = 0; i < HK_COUNTOF(all); i++) {
        ask(all[i].method, all[i].target, FROM("https://a.shop.example"));
        EXPECT_STATUS(&r, all[i].status);
        expect("Access-Control-Allow-Origin", "https://a.shop.example");
        expect("Access-Control-Expose-Headers", "Hark-Seq, Location");
        expect("Vary", "Origin");
        expect_no("Access-Control-Allow-Credentials");
        expect_no("Access-Control-Allow-Methods");
    }
    fixture_end(&f);
}

static void test_other_origins_are_answered_without_leave_to_read(void **state)
{
    (void)state;
    static const char *const others[] = {
        FROM("https://evil.example"),
        FROM("null"),
        FROM(""),
        FROM("https://a.b.shop.example"),
        FROM("https://evil.example/.shop.example"),
        FROM("HTTPS://SHOP.EXAMPLE"),
        FROM("https://shop.example https://evil.example"),
        FROM("https://shop.example, https://evil.example"),
        FROM("https://shop.example") FROM("https://evil.example"),
        FROM("*"),
        FROM("\xff\xfe"),
        NULL,
    };
    start(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours, .credentials = 1, .max_age = 60)));
    for (size_t i = 0; i < HK_COUNTOF(others); i++) {
        ask("GET", "/hello", others[i]);
        EXPECT_STATUS(&r, 200);
        expect("Vary", "Origin"); /* a cache may have the reply for somebody else */
        expect_no("Access-Control-");
    }
    ask("OPTIONS", "/orders", FROM("https://evil.example") PREFLIGHT);
    EXPECT_STATUS(&r, 204);
    expect_no("Access-Control-Allow");
    expect_no("Access-Control-Max-Age");
    fixture_end(&f);
}

static void test_preflights_are_answered_for_every_path(void **state)
{
    (void)state;
    static const char *const paths[] = {"/hello", "/orders", "/own", "/nowhere", "/orders/%2F"};
    start(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours, .credentials = 1, .max_age = 600)));
    for (size_t i = 0; i < HK_COUNTOF(paths); i++) {
        ask("OPTIONS", paths[i],
            FROM("https://shop.example") PREFLIGHT
            "Access-Control-Request-Headers: content-type,x-mine\r\n");
        EXPECT_STATUS(&r, 204);
        expect("Access-Control-Allow-Origin", "https://shop.example");
        expect("Access-Control-Allow-Credentials", "true");
        expect("Access-Control-Allow-Methods", "GET, HEAD, PUT, PATCH, POST, DELETE");
        expect("Access-Control-Allow-Headers", "content-type,x-mine");
        expect("Access-Control-Max-Age", "600");
        EXPECT_PART(r.head, "Vary: Origin\r\n");
        EXPECT_PART(r.head, "Vary: Access-Control-Request-Method\r\n");
        EXPECT_PART(r.head, "Vary: Access-Control-Request-Headers\r\n");
        expect_no("Allow: ");
    }
    fixture_end(&f);
}

static void test_requested_headers_that_are_no_names_are_not_echoed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "a b", "a,,b", "", "a;b", "\xc3\xa9", "x\"y", "a\r\nAccess-Control-Request-Headers: b"};
    char lines[300];
    start(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours)));
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        snprintf(lines, sizeof lines,
                 FROM("https://shop.example") PREFLIGHT "Access-Control-Request-Headers: %s\r\n",
                 bad[i]);
        ask("OPTIONS", "/orders", lines);
        EXPECT_STATUS(&r, 204);
        expect_no("Access-Control-Allow-Headers");
    }
    fixture_end(&f);
}

static void test_lists_that_are_given_are_what_preflights_say(void **state)
{
    (void)state;
    start(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours, .methods = "GET, PUT",
                              .headers = "Content-Type", .max_age = -1)));
    ask("OPTIONS", "/orders",
        FROM("https://shop.example") PREFLIGHT "Access-Control-Request-Headers: x-other\r\n");
    expect("Access-Control-Allow-Methods", "GET, PUT");
    expect("Access-Control-Allow-Headers", "Content-Type");
    expect("Access-Control-Max-Age", "0");
    fixture_end(&f);
}

static void test_everybody_gets_the_same_reply_and_needs_no_vary(void **state)
{
    (void)state;
    start(hark_cors(NULL));
    ask("GET", "/hello", FROM("https://any.example"));
    expect("Access-Control-Allow-Origin", "*");
    expect("Vary", "");
    ask("GET", "/hello", NULL); /* it may be in a cache when a script asks */
    expect("Access-Control-Allow-Origin", "*");
    ask("OPTIONS", "/orders", FROM("null") PREFLIGHT);
    EXPECT_STATUS(&r, 204);
    expect("Access-Control-Allow-Origin", "*");
    expect_no("Max-Age");
    fixture_end(&f);
}

static bool admit(hark_ctx *c, const char *origin, void *ud)
{
    return strcmp(hark_ctx_path(c), ud) == 0 && strstr(origin, "friend");
}

static void test_a_function_may_admit_origins(void **state)
{
    (void)state;
    static char path[] = "/hello";
    start(hark_cors(HARK_OPTS(hark_cors_opts, .allow = admit, .ud = path, .credentials = 1)));
    ask("GET", "/hello", FROM("https://friend.example"));
    expect("Access-Control-Allow-Origin", "https://friend.example");
    expect("Access-Control-Allow-Credentials", "true");
    ask("GET", "/orders/1", FROM("https://friend.example"));
    expect("Access-Control-Allow-Origin", "");
    ask("GET", "/hello", FROM("https://other.example"));
    expect("Access-Control-Allow-Origin", "");
    fixture_end(&f);
}

static void test_what_a_handler_says_of_vary_and_origins_stands(void **state)
{
    (void)state;
    start(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours)));
    ask("GET", "/negotiated", FROM("https://shop.example"));
    EXPECT_PART(r.head, "Vary: Accept\r\n");
    EXPECT_PART(r.head, "Vary: Origin\r\n");
    ask("GET", "/framed", FROM("https://shop.example"));
    expect("Access-Control-Allow-Origin", "https://mine.example");
    fixture_end(&f);
}

static void test_cors_refuses_options_that_would_not_do_what_they_say(void **state)
{
    (void)state;
    static const char *const any[] = {"*", NULL}, *const path[] = {"https://a.example/", NULL};
    static const char *const null[] = {"https://a.example", "null", NULL};
    static const char *const https[] = {"https://*.a.example:443", NULL};
    static const char *const http[] = {"http://a.example:80", NULL};
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .credentials = 1)), "any page");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .origins = any, .credentials = 1)), "any page");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .origins = null, .credentials = 1)), "any page");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .origins = path)), "without a path");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .origins = https)), "would never match");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .origins = http)), "leave it out");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .methods = "GET PUT")), "methods");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .headers = "a\r\nb")), "headers");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .expose = "")), "expose");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours, .credentials = 1, .expose = "*")),
            "stands for nothing");
    refused(hark_cors(HARK_OPTS(hark_cors_opts, .max_age = -2)), "max_age");
}

/* ---- secure_headers ---- */

static void test_careful_headers_are_on_every_reply(void **state)
{
    (void)state;
    static const struct {
        const char *method, *target;
        int status;
    } all[] = {{"GET", "/hello", 200},
               {"GET", "/orders/1", 404},
               {"GET", "/nowhere", 404},
               {"DELETE", "/hello", 405},
               {"OPTIONS", "/hello", 204}};
    start(hark_secure_headers(NULL));
    for (size_t i = 0; i < HK_COUNTOF(all); i++) {
        ask(all[i].method, all[i].target, NULL);
        EXPECT_STATUS(&r, all[i].status);
        expect("X-Content-Type-Options", "nosniff");
        expect("X-Frame-Options", "SAMEORIGIN");
        expect("Referrer-Policy", "strict-origin-when-cross-origin");
        expect("Cross-Origin-Opener-Policy", "same-origin");
        expect_no("Content-Security-Policy");
        expect_no("Strict-Transport-Security");
    }
    fixture_end(&f);
}

static void test_options_change_and_leave_out_headers_and_the_handlers_stand(void **state)
{
    (void)state;
    start(hark_secure_headers(HARK_OPTS(hark_secure_headers_opts, .referrer_policy = "no-referrer",
                                        .opener_policy = "", .resource_policy = "same-site",
                                        .permissions_policy = "camera=()",
                                        .content_security_policy = "default-src 'self'")));
    ask("GET", "/framed", NULL);
    expect("X-Frame-Options", "DENY");
    assert_null(strstr(r.head, "SAMEORIGIN"));
    expect("Referrer-Policy", "no-referrer");
    expect_no("Cross-Origin-Opener-Policy");
    expect("Cross-Origin-Resource-Policy", "same-site");
    expect("Permissions-Policy", "camera=()");
    expect("Content-Security-Policy", "default-src 'self'");
    fixture_end(&f);
    start(hark_secure_headers(HARK_OPTS(hark_secure_headers_opts, .csp_report_only = 1,
                                        .content_security_policy = "default-src 'self'")));
    ask("GET", "/hello", NULL);
    expect("Content-Security-Policy-Report-Only", "default-src 'self'");
    expect_no("Content-Security-Policy:");
    fixture_end(&f);
}

static void test_strict_transport_is_said_behind_tls_only(void **state)
{
    (void)state;
    start(hark_secure_headers(
        HARK_OPTS(hark_secure_headers_opts, .hsts_max_age = 31536000, .hsts_preload = 1)));
    ask("GET", "/hello", NULL);
    expect_no("Strict-Transport-Security");
    ask("GET", "/hello", "X-Forwarded-Proto: http\r\n");
    expect_no("Strict-Transport-Security");
    ask("GET", "/nowhere", "X-Forwarded-Proto: https\r\n");
    expect("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload");
    fixture_end(&f);
    start(hark_secure_headers(
        HARK_OPTS(hark_secure_headers_opts, .hsts_max_age = 60, .hsts_this_host = 1)));
    ask("GET", "/hello", "X-Forwarded-Proto: https\r\n");
    expect("Strict-Transport-Security", "max-age=60");
    fixture_end(&f);
}

static void test_a_header_with_a_line_break_is_refused(void **state)
{
    (void)state;
    refused(hark_secure_headers(HARK_OPTS(hark_secure_headers_opts, .frame_options = "a\r\nb: c")),
            "X-Frame-Options");
    refused(hark_secure_headers(HARK_OPTS(hark_secure_headers_opts, .hsts_max_age = -1)),
            "hsts_max_age");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_admitted_origin_may_read_replies_of_every_kind),
        cmocka_unit_test(test_other_origins_are_answered_without_leave_to_read),
        cmocka_unit_test(test_preflights_are_answered_for_every_path),
        cmocka_unit_test(test_requested_headers_that_are_no_names_are_not_echoed),
        cmocka_unit_test(test_lists_that_are_given_are_what_preflights_say),
        cmocka_unit_test(test_everybody_gets_the_same_reply_and_needs_no_vary),
        cmocka_unit_test(test_a_function_may_admit_origins),
        cmocka_unit_test(test_what_a_handler_says_of_vary_and_origins_stands),
        cmocka_unit_test(test_cors_refuses_options_that_would_not_do_what_they_say),
        cmocka_unit_test(test_careful_headers_are_on_every_reply),
        cmocka_unit_test(test_options_change_and_leave_out_headers_and_the_handlers_stand),
        cmocka_unit_test(test_strict_transport_is_said_behind_tls_only),
        cmocka_unit_test(test_a_header_with_a_line_break_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
