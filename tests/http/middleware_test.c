/* Each middleware that comes with the layer, in a chain over real sockets. */
#include "fixture.h"

#include "base/base.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static fixture f;
static reply r;
static char v[512];

/* ---- what the logger wrote ---- */

static struct {
    pthread_mutex_t lock;
    char last[2048];
    size_t lines;
} logged = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_line(const char *line, size_t len, void *ud)
{
    (void)ud;
    pthread_mutex_lock(&logged.lock);
    snprintf(logged.last, sizeof logged.last, "%.*s", (int)len, line);
    logged.lines++;
    pthread_mutex_unlock(&logged.lock);
}

static size_t lines(void)
{
    pthread_mutex_lock(&logged.lock);
    size_t n = logged.lines;
    pthread_mutex_unlock(&logged.lock);
    return n;
}

static void expect_line(const char *part)
{
    pthread_mutex_lock(&logged.lock);
    char text[2048];
    memcpy(text, logged.last, sizeof text);
    pthread_mutex_unlock(&logged.lock);
    EXPECT_PART(text, part);
}

/* ---- handlers and middleware of the tests ---- */

static hark_err not_found(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_fail(c, HARK_ENOTFOUND, "no such order");
}

static hark_err show_status(hark_ctx *c, void *ud)
{
    hark_err err = hark_ctx_next(c);
    (void)ud;
    hark_ctx_set_header(c, "X-Seen", hark_ctx_printf(c, "%d %d", (int)err, hark_ctx_status(c)));
    return err;
}

static hark_err mark(hark_ctx *c, void *ud)
{
    hark_ctx_add_header(c, "X-Mark", ud);
    return hark_ctx_next(c);
}

static hark_err stop_here(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_text(c, 403, "not you");
}

static hark_err twice(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_next(c);
    return err ? err : hark_ctx_next(c);
}

static void on_reply(hark_ctx *c, int status, void *ud)
{
    hark_ctx_set_header(c, "X-Status", hark_ctx_printf(c, "%d %s", status, (const char *)ud));
}

static hark_err hooked(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_ctx_on_reply(c, on_reply, hark_ctx_printf(c, "hook"));
    return hark_ctx_next(c);
}

static hark_err body_size(hark_ctx *c, void *ud)
{
    size_t len;
    (void)ud;
    (void)hark_ctx_body(c, &len);
    return hark_ctx_text(c, 200, hark_ctx_printf(c, "%zu", len));
}

static hark_middleware mw(hark_http_fn fn, const char *text)
{
    union {
        const char *in;
        void *out;
    } ud = {text};
    return (hark_middleware){.fn = fn, .ud = ud.out};
}

static void begin(fake_mode mode)
{
    fixture_new(&f, mode, HARK_OPTS(hark_app_opts, .body_limit = 100));
    hark_get(f.app, "/hello", say_hello, NULL);
    hark_get(f.app, "/orders/:id", not_found, NULL);
}

static void ask(const char *method, const char *target, const char *with)
{
    client_do(f.port, method, target, with, NULL, &r);
}

/* ---- promises ---- */

static void test_middleware_runs_from_the_app_inwards_in_order(void **state)
{
    (void)state;
    hark_group *api = NULL, *v1 = NULL;
    begin(FAKE_SYNC);
    hark_app_use(f.app, mw(mark, "app1"));
    hark_app_use(f.app, mw(mark, "app2"));
    hark_app_group(f.app, "/api", &api);
    hark_group_use(api, mw(mark, "api"));
    hark_group_group(api, "/v:n", &v1);
    assert_null(v1); /* ':' inside a segment: refused, and kept */
    fixture_end(&f);
    begin(FAKE_SYNC);
    hark_app_use(f.app, mw(mark, "app1"));
    hark_app_group(f.app, "/api", &api);
    hark_group_group(api, "/:version", &v1);
    hark_group_use(v1, mw(mark, "v1"));
    hark_group_get(v1, "/hello", say_hello, NULL);
    hark_app_use(f.app, mw(mark, "app2"));
    hark_group_use(api, mw(mark, "api"));
    fixture_start(&f);
    ask("GET", "/api/2/hello", NULL);
    EXPECT_STATUS(&r, 200);
    EXPECT_PART(r.head, "X-Mark: app1\r\nX-Mark: app2\r\nX-Mark: api\r\nX-Mark: v1\r\n");
    ask("GET", "/nothing", NULL);
    EXPECT_STATUS(&r, 404);
    EXPECT_PART(r.head, "X-Mark: app1\r\nX-Mark: app2\r\n");
    assert_null(strstr(r.head, "X-Mark: api"));
    fixture_end(&f);
}

static void test_middleware_may_answer_itself_and_calls_next_at_most_once(void **state)
{
    (void)state;
    hark_group *g = NULL, *h = NULL;
    begin(FAKE_SYNC);
    hark_app_group(f.app, "/closed", &g);
    hark_group_use(g, mw(stop_here, NULL));
    hark_group_get(g, "/hello", say_hello, NULL);
    hark_app_group(f.app, "/twice", &h);
    hark_group_use(h, mw(twice, NULL));
    hark_group_get(h, "/hello", say_hello, NULL);
    fixture_start(&f);
    ask("GET", "/closed/hello", NULL);
    EXPECT_STATUS(&r, 403);
    ask("GET", "/twice/hello", NULL);
    EXPECT_STATUS(&r, 500);
    fixture_end(&f);
}

static void test_hooks_see_the_final_status(void **state)
{
    (void)state;
    begin(FAKE_ASYNC);
    hark_app_use(f.app, mw(hooked, NULL));
    fixture_start(&f);
    ask("GET", "/orders/1", NULL);
    assert_string_equal(reply_header(&r, "X-Status", v, sizeof v), "404 hook");
    fixture_end(&f);
}

static void add_mark(hark_ctx *c, int status, void *ud)
{
    (void)status;
    hark_ctx_add_header(c, "X-Mark", ud);
}

static hark_err marks_late(hark_ctx *c, void *ud)
{
    hark_ctx_on_reply(c, add_mark, ud);
    return hark_ctx_next(c);
}

static void test_hooks_on_replies_run_from_the_handler_outwards(void **state)
{
    (void)state;
    begin(FAKE_SYNC);
    hark_app_use(f.app, mw(marks_late, "outer"));
    hark_app_use(f.app, mw(marks_late, "inner"));
    hark_app_use(f.app, mw(mark, "handler"));
    fixture_start(&f);
    ask("GET", "/hello", NULL);
    EXPECT_PART(r.head, "X-Mark: handler\r\nX-Mark: inner\r\nX-Mark: outer\r\n");
    fixture_end(&f);
}

static void test_recover_answers_errors_where_it_stands(void **state)
{
    (void)state;
    begin(FAKE_SYNC);
    hark_app_use(f.app, mw(show_status, NULL));
    hark_app_use(f.app, hark_recover(NULL));
    fixture_start(&f);
    ask("GET", "/orders/1", NULL);
    EXPECT_STATUS(&r, 404);
    EXPECT_PART(r.body, "no such order");
    assert_string_equal(reply_header(&r, "X-Seen", v, sizeof v), "0 404");
    fixture_end(&f);
}

static void test_the_logger_writes_one_line_for_each_request(void **state)
{
    (void)state;
    static const int64_t formats[] = {HARK_LOG_TEXT, HARK_LOG_JSON};
    for (size_t i = 0; i < 2; i++) {
        begin(FAKE_SYNC);
        hark_app_use(f.app, hark_logger(HARK_OPTS(hark_logger_opts, .format = formats[i],
                                                  .write = on_line)));
        fixture_start(&f);
        size_t before = lines();
        ask("GET", "/hello?a=%0Ab\"", NULL);
        WAIT_UNTIL(lines() == before + 1);
        expect_line(
            i ? "\"path\":\"/hello?a=%0Ab\\\"\",\"route\":\"/hello\",\"status\":200,\"bytes\":5"
              : " GET /hello?a=%0Ab\" 200 5B ");
        ask("GET", "/nothing", NULL);
        WAIT_UNTIL(lines() == before + 2);
        expect_line("404");
        fixture_end(&f);
    }
}

static void test_request_ids_are_taken_if_sane_and_sent_back(void **state)
{
    (void)state;
    begin(FAKE_SYNC);
    hark_app_use(f.app, hark_request_id(NULL));
    fixture_start(&f);
    ask("GET", "/hello", "X-Request-Id: abc-123_4.5\r\n");
    assert_string_equal(reply_header(&r, "X-Request-Id", v, sizeof v), "abc-123_4.5");
    ask("GET", "/hello", "X-Request-Id: abc 123\r\n");
    assert_int_equal(strlen(reply_header(&r, "X-Request-Id", v, sizeof v)), HK_UUID_TEXT);
    ask("GET", "/hello", NULL);
    assert_int_equal(strlen(reply_header(&r, "X-Request-Id", v, sizeof v)), HK_UUID_TEXT);
    ask("GET", "/orders/1", "X-Request-Id: me\r\n");
    EXPECT_PART(r.body, "\"requestid\":\"me\"");
    fixture_end(&f);
}

static void test_the_innermost_body_limit_counts(void **state)
{
    (void)state;
    hark_group *g = NULL;
    char body[400];
    memset(body, 'x', sizeof body);
    body[300] = '\0';
    begin(FAKE_SYNC);
    hark_app_use(f.app, hark_body_limit(200));
    hark_post(f.app, "/outer", body_size, NULL);
    hark_app_group(f.app, "/g", &g);
    hark_group_use(g, hark_body_limit(300));
    hark_group_post(g, "/inner", body_size, NULL);
    fixture_start(&f);
    client_do(f.port, "POST", "/outer", NULL, body, &r);
    EXPECT_STATUS(&r, 413);
    client_do(f.port, "POST", "/g/inner", NULL, body, &r);
    EXPECT_STATUS(&r, 200);
    assert_string_equal(r.body, "300");
    fixture_end(&f);
}

static bool skip_one(hark_ctx *c, void *ud)
{
    (void)ud;
    return strcmp(hark_ctx_path(c), "/orders/skip-me") == 0;
}

static void test_each_request_is_an_event_but_for_what_is_left_out(void **state)
{
    (void)state;
    static const char *const skip[] = {"/hello", "/static/*", NULL};
    begin(FAKE_ASYNC);
    hark_app_use(f.app, hark_request_id(NULL));
    hark_app_use(f.app, hark_request_events(HARK_OPTS(hark_request_events_opts, .skip = skip,
                                                      .skip_fn = skip_one, .source = "/test")));
    fixture_start(&f);
    ask("GET", "/hello", NULL);
    ask("GET", "/static/a/b", NULL);
    ask("GET", "/orders/skip-me", NULL);
    ask("GET", "/orders/7%22", "X-Request-Id: r1\r\n");
    WAIT_UNTIL(fake_bus_count(f.bus, "request:completed") == 1);
    fake_bus_last(f.bus, "data", v, sizeof v);
    EXPECT_PART(v, "{\"path\":\"/orders/7\\\"\",\"route\":\"/orders/:id\",\"method\":\"GET\","
                   "\"status\":404,\"time\":\"20");
    EXPECT_PART(v, "\"duration_ms\":");
    EXPECT_PART(v, "\"request_id\":\"r1\"}");
    fake_bus_last(f.bus, "source", v, sizeof v);
    assert_string_equal(v, "/test");
    fake_bus_last(f.bus, "correlationid", v, sizeof v);
    assert_string_equal(v, "r1");
    fixture_end(&f);
    begin(FAKE_SYNC);
    hark_app_use(f.app, hark_request_events(NULL));
    fixture_start(&f);
    for (int i = 0; i < 10; i++)
        ask("GET", "/hello", NULL);
    WAIT_UNTIL(fake_bus_count(f.bus, "request:completed") == 10);
    fixture_end(&f);
}

static uint64_t dropped(void)
{
    hark_app_stats s = {.size = sizeof s};
    assert_int_equal(hark_app_stats_get(f.app, &s), HARK_OK);
    return s.events_dropped;
}

static void test_request_events_never_slow_or_change_a_reply(void **state)
{
    (void)state;
    begin(FAKE_FULL);
    hark_app_use(f.app, hark_request_events(NULL));
    fixture_start(&f);
    ask("GET", "/hello", NULL);
    EXPECT_STATUS(&r, 200);
    WAIT_UNTIL(dropped() == 1);
    fixture_end(&f);
    begin(FAKE_HELD); /* nobody answers the publish, and the reply does not wait for it */
    hark_app_use(f.app, hark_request_events(NULL));
    fixture_start(&f);
    ask("GET", "/hello", NULL);
    EXPECT_STATUS(&r, 200);
    WAIT_UNTIL(fake_bus_waiting(f.bus) == 1);
    fake_bus_outcome(f.bus, HARK_ESTORE);
    fixture_end(&f);
}

/* ---- files ---- */

static char dir[64];

static void put_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

static void in_dir(int (*fn)(const char *), const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    (void)fn(path);
}

static int make_dir(const char *path)
{
    return mkdir(path, 0700);
}

static void make_files(void)
{
    char path[256];
    snprintf(dir, sizeof dir, "/tmp/hark-static-XXXXXX");
    assert_non_null(mkdtemp(dir));
    in_dir(make_dir, "pub");
    in_dir(make_dir, "pub/sub");
    put_file("secret.txt", "secret");
    put_file("pub/index.html", "<p>index</p>");
    put_file("pub/a.txt", "0123456789");
    put_file("pub/.hidden", "hidden");
    put_file("pub/sub/index.html", "sub");
    snprintf(path, sizeof path, "%s/pub/out", dir);
    assert_int_equal(symlink("../secret.txt", path), 0);
    snprintf(path, sizeof path, "%s/pub/abs", dir);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    snprintf(path, sizeof path, "%s/pub/in", dir);
    assert_int_equal(symlink("a.txt", path), 0);
}

static void remove_files(void)
{
    static const char *const names[] = {
        "pub/out",     "pub/abs",   "pub/in",         "pub/sub/index.html",
        "pub/.hidden", "pub/a.txt", "pub/index.html", "secret.txt"};
    for (size_t i = 0; i < HK_COUNTOF(names); i++)
        in_dir(unlink, names[i]);
    in_dir(rmdir, "pub/sub");
    in_dir(rmdir, "pub");
    (void)rmdir(dir);
}

static void begin_static(void)
{
    char root[128];
    make_files();
    begin(FAKE_SYNC);
    snprintf(root, sizeof root, "%s/pub", dir);
    hark_app_use(f.app, hark_static_files(HARK_OPTS(hark_static_opts, .root = root, .prefix = "/s",
                                                    .max_age = 60)));
    hark_get(f.app, "/s/route", say_hello, NULL);
    fixture_start(&f);
}

static void end_static(void)
{
    fixture_end(&f);
    remove_files();
}

static void test_files_are_served_with_type_and_validators(void **state)
{
    (void)state;
    char etag[128], with[640];
    begin_static();
    ask("GET", "/s/a.txt", NULL);
    EXPECT_STATUS(&r, 200);
    assert_string_equal(r.body, "0123456789");
    assert_string_equal(reply_header(&r, "Content-Type", v, sizeof v), "text/plain; charset=utf-8");
    assert_string_equal(reply_header(&r, "Cache-Control", v, sizeof v), "public, max-age=60");
    reply_header(&r, "ETag", etag, sizeof etag);
    snprintf(with, sizeof with, "If-None-Match: %s\r\n", etag);
    ask("GET", "/s/a.txt", with);
    EXPECT_STATUS(&r, 304);
    reply_header(&r, "Last-Modified", v, sizeof v);
    snprintf(with, sizeof with, "If-Modified-Since: %s\r\n", v);
    ask("GET", "/s/a.txt", with);
    EXPECT_STATUS(&r, 304);
    ask("HEAD", "/s/a.txt", NULL);
    EXPECT_STATUS(&r, 200);
    assert_string_equal(reply_header(&r, "Content-Length", v, sizeof v), "10");
    ask("GET", "/s/", NULL);
    assert_string_equal(r.body, "<p>index</p>");
    ask("GET", "/s/sub?x=y", NULL);
    EXPECT_STATUS(&r, 301);
    assert_string_equal(reply_header(&r, "Location", v, sizeof v), "/s/sub/?x=y");
    ask("GET", "/s/sub/", NULL);
    assert_string_equal(r.body, "sub");
    ask("GET", "/s/in", NULL); /* a link that stays inside */
    assert_string_equal(r.body, "0123456789");
    ask("GET", "/s/route", NULL); /* what is not there goes on to the routes */
    assert_string_equal(r.body, "hello");
    ask("POST", "/s/a.txt", NULL);
    EXPECT_STATUS(&r, 404);
    end_static();
}

static void test_a_range_of_a_file_is_served(void **state)
{
    (void)state;
    begin_static();
    ask("GET", "/s/a.txt", "Range: bytes=2-4\r\n");
    EXPECT_STATUS(&r, 206);
    assert_string_equal(r.body, "234");
    assert_string_equal(reply_header(&r, "Content-Range", v, sizeof v), "bytes 2-4/10");
    ask("GET", "/s/a.txt", "Range: bytes=8-\r\n");
    assert_string_equal(r.body, "89");
    ask("GET", "/s/a.txt", "Range: bytes=-3\r\n");
    assert_string_equal(r.body, "789");
    ask("GET", "/s/a.txt", "Range: bytes=10-\r\n");
    EXPECT_STATUS(&r, 416);
    ask("GET", "/s/a.txt", "Range: bytes=1-2,4-5\r\n");
    EXPECT_STATUS(&r, 200);
    ask("GET", "/s/a.txt", "Range: bytes=2-4\r\nIf-Range: \"other\"\r\n");
    EXPECT_STATUS(&r, 200);
    end_static();
}

static void test_nothing_outside_the_directory_is_reached(void **state)
{
    (void)state;
    static const char *const bad[] = {"/s/../secret.txt",
                                      "/s/%2e%2e/secret.txt",
                                      "/s/..%2fsecret.txt",
                                      "/s/sub/../../secret.txt",
                                      "/s/out",
                                      "/s/abs",
                                      "/s//etc/passwd",
                                      "/s/%2fetc/passwd",
                                      "/s/.hidden",
                                      "/s/./a.txt",
                                      "/s/sub%2findex.html",
                                      "/s/a.txt/",
                                      "//s/a.txt"};
    begin_static();
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        ask("GET", bad[i], NULL);
        if (r.status != 404)
            fail_msg("%s: status %d %s", bad[i], r.status, r.body);
    }
    ask("GET", "/s/a%00.txt", NULL);
    EXPECT_STATUS(&r, 400);
    end_static();
}

static void test_a_root_that_is_not_there_is_refused(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    begin(FAKE_SYNC);
    hark_app_use(f.app,
                 hark_static_files(HARK_OPTS(hark_static_opts, .root = "/nonexistent/hark")));
    assert_int_equal(hark_app_listen(f.app, "127.0.0.1:0", &ei), HARK_ENOTFOUND);
    EXPECT_PART(ei.text, "/nonexistent/hark");
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_middleware_runs_from_the_app_inwards_in_order),
        cmocka_unit_test(test_middleware_may_answer_itself_and_calls_next_at_most_once),
        cmocka_unit_test(test_hooks_see_the_final_status),
        cmocka_unit_test(test_recover_answers_errors_where_it_stands),
        cmocka_unit_test(test_the_logger_writes_one_line_for_each_request),
        cmocka_unit_test(test_request_ids_are_taken_if_sane_and_sent_back),
        cmocka_unit_test(test_the_innermost_body_limit_counts),
        cmocka_unit_test(test_each_request_is_an_event_but_for_what_is_left_out),
        cmocka_unit_test(test_request_events_never_slow_or_change_a_reply),
        cmocka_unit_test(test_files_are_served_with_type_and_validators),
        cmocka_unit_test(test_a_range_of_a_file_is_served),
        cmocka_unit_test(test_nothing_outside_the_directory_is_reached),
        cmocka_unit_test(test_a_root_that_is_not_there_is_refused),
        cmocka_unit_test(test_hooks_on_replies_run_from_the_handler_outwards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
