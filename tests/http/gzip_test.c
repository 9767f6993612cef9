/* hark_gzip: which replies are compressed for whom, and that they are what they were; together with
 * hark_idempotency, therefore on a real bus. */
#include "store_app.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

enum { MUCH = 5000 };
#define GZIP "Accept-Encoding: gzip\r\n"

static store_app a;
static reply r, plain;
static char v[256];

/* ---- handlers ---- */

static size_t asked(hark_ctx *c, const char *name, size_t usual)
{
    const char *text = hark_ctx_query(c, name);
    return text ? (size_t)strtoul(text, NULL, 10) : usual;
}

/* So many bytes of text; header, value, type, status and etag by the query. */
static hark_err text(hark_ctx *c, void *ud)
{
    size_t len = asked(c, "len", MUCH);
    char *body = hark_ctx_alloc(c, len + 1);
    const char *header = hark_ctx_query(c, "header"), *type = hark_ctx_query(c, "type");
    (void)ud;
    for (size_t i = 0; i < len; i++)
        body[i] = (char)('a' + i % 7);
    if (header)
        hark_ctx_set_header(c, header, hark_ctx_query(c, "value"));
    return hark_ctx_bytes(c, (int)asked(c, "status", 200), type ? type : "text/plain", body, len);
}

static hark_err tagged(hark_ctx *c, void *ud)
{
    const char *match = hark_ctx_header(c, "If-None-Match");
    hark_ctx_set_header(c, "ETag", "\"v1\"");
    if (match && strstr(match, "\"v1\""))
        return hark_ctx_bytes(c, 304, NULL, "", 0);
    return text(c, ud);
}

static hark_err noise(hark_ctx *c, void *ud)
{
    unsigned char *body = hark_ctx_alloc(c, MUCH);
    (void)ud;
    hk_random(body, MUCH);
    return hark_ctx_bytes(c, 200, "text/plain", body, MUCH);
}

static hark_err long_failure(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_fail(c, HARK_ESCHEMA, "%0900d", 1);
}

static hark_feed *feed;

static hark_err live(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_stream(c, feed, NULL);
}

static hark_err file(hark_ctx *c, void *ud)
{
    int fd = open(ud, O_RDONLY | O_CLOEXEC);
    return hark_ctx_file(c, 200, "text/plain", fd, 0, MUCH);
}

static hark_err place_in(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = store_insert(c, tx);
    return err ? err : text(c, ud);
}

static hark_err place(hark_ctx *c, void *ud)
{
    return hark_ctx_transact(c, place_in, ud, PATIENT);
}

/* ---- asking ---- */

static char path[96];

static void routes(void)
{
    hark_get(a.app, "/text", text, NULL);
    hark_get(a.app, "/tagged", tagged, NULL);
    hark_get(a.app, "/noise", noise, NULL);
    hark_get(a.app, "/fails", long_failure, NULL);
    hark_get(a.app, "/file", file, path);
    hark_post(a.app, "/orders", place, NULL);
    hark_post(a.app, "/plain", text, NULL);
}

static void start_with(const hark_gzip_opts *opts)
{
    store_app_new(&a, NULL);
    hark_app_use(a.app, hark_gzip(opts));
    routes();
    store_app_start(&a);
}

static void ask(const char *method, const char *target, const char *with)
{
    client_do(a.port, method, target, with, NULL, &r);
}

static void inflate_to(const reply *from, char *to, size_t size, size_t *ret_len)
{
    z_stream z = {0};
    reply copy = *from;
    z.next_in = (Bytef *)copy.body;
    z.avail_in = (uInt)copy.len;
    z.next_out = (Bytef *)to;
    z.avail_out = (uInt)size;
    assert_int_equal(inflateInit2(&z, 31), Z_OK);
    assert_int_equal(inflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(z.avail_in, 0);
    *ret_len = z.total_out;
    assert_int_equal(inflateEnd(&z), Z_OK);
}

/* It is compressed, smaller, and what `plain` is. */
static void expect_packed(const reply *got)
{
    static char out[65536];
    size_t len;
    EXPECT_HEADER(got, "Content-Encoding", "gzip");
    EXPECT_HEADER(got, "Vary", "Accept-Encoding");
    assert_true(got->len < plain.len);
    inflate_to(got, out, sizeof out, &len);
    assert_int_equal(len, plain.len);
    assert_memory_equal(out, plain.body, len);
}

static void expect_as_it_is(const char *target, const char *with, const char *vary)
{
    ask("GET", target, with);
    if (strstr(r.head, "Content-Encoding: gzip") || r.status == 0)
        fail_msg("%s: %s", target, r.head);
    EXPECT_HEADER(&r, "Vary", vary);
}

/* ---- promises ---- */

static void test_bodies_are_compressed_for_who_wants_it(void **state)
{
    (void)state;
    static const char *const types[] = {"text/plain",       "text/html;%20charset=utf-8",
                                        "application/json", "application/problem%2Bjson",
                                        "application/xml",  "application/atom%2Bxml",
                                        "image/svg%2Bxml",  "text/javascript",
                                        "Application/JSON", "application/javascript"};
    char target[100];
    start_with(NULL);
    for (size_t i = 0; i < HK_COUNTOF(types); i++) {
        snprintf(target, sizeof target, "/text?type=%s", types[i]);
        ask("GET", target, NULL);
        EXPECT_HEADER(&r, "Content-Encoding", "");
        EXPECT_HEADER(&r, "Vary", "Accept-Encoding");
        assert_int_equal(r.len, MUCH);
        plain = r;
        ask("GET", target, GZIP);
        expect_packed(&r);
    }
    ask("GET", "/text", "Accept-Encoding: br\r\nAccept-Encoding: x-gzip;q=0.5\r\n");
    expect_packed(&r);
    store_app_end(&a);
}

static void test_every_size_comes_out_as_it_went_in(void **state)
{
    (void)state;
    static const int64_t levels[] = {1, 6, 9};
    static const size_t sizes[] = {100, 511, 512, 513, 4096, 4097, 32768, 32769, 60000};
    char target[100];
    for (size_t l = 0; l < HK_COUNTOF(levels); l++) {
        start_with(HARK_OPTS(hark_gzip_opts, .min_bytes = 1, .level = levels[l]));
        for (size_t i = 0; i < HK_COUNTOF(sizes); i++) {
            snprintf(target, sizeof target, "/text?len=%zu", sizes[i]);
            ask("GET", target, NULL);
            plain = r;
            ask("GET", target, GZIP);
            expect_packed(&r);
        }
        store_app_end(&a);
    }
}

static void test_who_does_not_want_it_gets_the_body_as_it_is(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        NULL,
        "Accept-Encoding:\r\n",
        "Accept-Encoding: identity\r\n",
        "Accept-Encoding: gzip;q=0\r\n",
        "Accept-Encoding: gzip;q=0, *\r\n",
        "Accept-Encoding: gzip;q=0.4, identity;q=0.5\r\n",
        "Accept-Encoding: gzip\r\nAccept-Encoding: gzip;q=0\r\n",
        "Accept-Encoding: gzip;q=99999999999999999999\r\n",
        "Accept-Encoding: gzip;;;;;;;;;;;;;;;;q=1\r\n",
        "Accept-Encoding: ,;,;,;q=,gzip;q\r\n",
        "Accept-Encoding: \xff\xff;q=1\r\n",
        "Accept-Encoding: \"gzip\"\r\n",
        "TE: gzip\r\n",
        "Content-Encoding: gzip\r\n",
    };
    start_with(NULL);
    for (size_t i = 0; i < HK_COUNTOF(hostile); i++) {
        expect_as_it_is("/text", hostile[i], "Accept-Encoding");
        assert_int_equal(r.len, MUCH);
    }
    store_app_end(&a);
}

static void test_what_must_not_or_need_not_be_compressed_is_left(void **state)
{
    (void)state;
    static const char *const eligible[] = {"/text?len=1023", "/text?len=0", "/text?len=9001"};
    static const char *const never[] = {
        "/text?type=image/png",
        "/text?type=application/octet-stream",
        "/text?type=text/event-stream",
        "/text?type=application/jsonx",
        "/text?header=Content-Encoding&value=br",
        "/text?status=206",
        "/text?header=Content-Range&value=bytes%20*/9000&status=416",
        "/text?header=Content-Digest&value=sha-256%3D:AA%3D%3D:",
        "/text?header=Repr-Digest&value=sha-256%3D:AA%3D%3D:",
        "/text?header=Digest&value=sha-256%3DAA%3D%3D",
        "/text?header=content-md5&value=AA%3D%3D",
        "/text?header=Accept-Ranges&value=bytes",
        "/text?header=Cache-Control&value=max-age%3D1,%20No-Transform",
        "/text?header=content-type&value=image/png",
    };
    start_with(HARK_OPTS(hark_gzip_opts, .max_bytes = 9000));
    for (size_t i = 0; i < HK_COUNTOF(eligible); i++)
        expect_as_it_is(eligible[i], GZIP, "Accept-Encoding");
    for (size_t i = 0; i < HK_COUNTOF(never); i++)
        expect_as_it_is(never[i], GZIP, "");
    ask("GET", "/text?header=Accept-Ranges&value=none", GZIP);
    EXPECT_HEADER(&r, "Content-Encoding", "gzip");
    expect_as_it_is("/noise", GZIP, "Accept-Encoding"); /* it would not get smaller */
    assert_int_equal(r.len, MUCH);
    store_app_end(&a);
}

static void test_files_are_left(void **state)
{
    (void)state;
    static char bytes[MUCH];
    start_with(NULL);
    snprintf(path, sizeof path, "%s/f.txt", a.dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, bytes, sizeof bytes), MUCH);
    close(fd);
    expect_as_it_is("/file", GZIP, "");
    assert_int_equal(r.len, MUCH);
    unlink(path);
    store_app_end(&a);
}

static void test_streams_are_left_and_carry_the_headers_of_middleware(void **state)
{
    (void)state;
    store_app_new(&a, NULL);
    hark_app_use(a.app, hark_secure_headers(NULL));
    hark_app_use(a.app, hark_cors(NULL));
    hark_app_use(a.app, hark_gzip(HARK_OPTS(hark_gzip_opts, .min_bytes = 1)));
    hark_app_feed(a.app, NULL, &feed);
    hark_get(a.app, "/live", live, NULL);
    store_app_start(&a);
    ask("GET", "/live", GZIP "Origin: https://shop.example\r\n");
    EXPECT_STATUS(&r, 200);
    EXPECT_HEADER(&r, "Content-Type", "text/event-stream");
    EXPECT_HEADER(&r, "Content-Encoding", "");
    EXPECT_HEADER(&r, "X-Frame-Options", "SAMEORIGIN");
    EXPECT_HEADER(&r, "Access-Control-Allow-Origin", "*");
    store_app_end(&a);
}

static void test_problem_documents_are_compressed_too(void **state)
{
    (void)state;
    start_with(HARK_OPTS(hark_gzip_opts, .min_bytes = 100));
    ask("GET", "/fails", NULL);
    EXPECT_STATUS(&r, 422);
    plain = r;
    ask("GET", "/fails", GZIP);
    EXPECT_STATUS(&r, 422);
    expect_packed(&r);
    EXPECT_HEADER(&r, "Content-Type", "application/problem+json");
    store_app_end(&a);
}

static void test_head_shows_the_headers_of_get(void **state)
{
    (void)state;
    start_with(NULL);
    ask("GET", "/text", GZIP);
    snprintf(v, sizeof v, "%zu", r.len);
    ask("HEAD", "/text", GZIP);
    EXPECT_HEADER(&r, "Content-Encoding", "gzip");
    EXPECT_HEADER(&r, "Vary", "Accept-Encoding");
    EXPECT_HEADER(&r, "Content-Length", v);
    store_app_end(&a);
}

static void test_a_strong_tag_becomes_weak_and_still_finds_what_is_unchanged(void **state)
{
    (void)state;
    start_with(NULL);
    ask("GET", "/tagged", NULL);
    EXPECT_HEADER(&r, "ETag", "\"v1\"");
    ask("GET", "/tagged", GZIP);
    EXPECT_HEADER(&r, "Content-Encoding", "gzip");
    EXPECT_HEADER(&r, "ETag", "W/\"v1\"");
    ask("GET", "/tagged", GZIP "If-None-Match: W/\"v1\"\r\n");
    EXPECT_STATUS(&r, 304);
    EXPECT_HEADER(&r, "ETag", "W/\"v1\"");
    EXPECT_HEADER(&r, "Vary", "Accept-Encoding");
    ask("GET", "/tagged", "If-None-Match: \"v1\"\r\n");
    EXPECT_STATUS(&r, 304);
    EXPECT_HEADER(&r, "ETag", "\"v1\"");
    ask("GET", "/text?header=ETag&value=W/%22v2%22", GZIP);
    EXPECT_HEADER(&r, "Content-Encoding", "gzip");
    EXPECT_HEADER(&r, "ETag", "W/\"v2\"");
    store_app_end(&a);
}

static void set_tag(hark_ctx *c, int status, void *ud)
{
    (void)status;
    hark_ctx_set_header(c, "ETag", ud);
}

static hark_err tags_late(hark_ctx *c, void *ud)
{
    hark_ctx_on_reply(c, set_tag, ud);
    return hark_ctx_next(c);
}

static void test_a_tag_that_middleware_sets_on_the_way_out_becomes_weak_too(void **state)
{
    (void)state;
    static char tag[] = "\"v1\"";
    store_app_new(&a, NULL);
    hark_app_use(a.app, hark_gzip(NULL));
    hark_app_use(a.app, (hark_middleware){.fn = tags_late, .ud = tag});
    routes();
    store_app_start(&a);
    ask("GET", "/text", GZIP);
    EXPECT_HEADER(&r, "Content-Encoding", "gzip");
    EXPECT_HEADER(&r, "ETag", "W/\"v1\"");
    store_app_end(&a);
}

static void test_what_varies_by_more_says_both(void **state)
{
    (void)state;
    start_with(NULL);
    ask("GET", "/text?header=Vary&value=Accept,%20Cookie", GZIP);
    EXPECT_PART(r.head, "Vary: Accept, Cookie\r\n");
    EXPECT_PART(r.head, "Vary: Accept-Encoding\r\n");
    expect_as_it_is("/text?header=Vary&value=a,%20accept-encoding", NULL, "a, accept-encoding");
    store_app_end(&a);
}

static void test_what_is_skipped_is_left_alone(void **state)
{
    (void)state;
    static const char *const skip[] = {"/text", NULL};
    start_with(HARK_OPTS(hark_gzip_opts, .skip = skip));
    expect_as_it_is("/text", GZIP, "");
    store_app_end(&a);
}

/* In both orders of the two, with and without a transaction: each client gets the reply in a form
 * that it reads, whichever came first. */
static void test_a_keyed_reply_is_given_again_to_each_in_a_form_it_reads(void **state)
{
    (void)state;
    static const char *const targets[] = {"/orders", "/plain"};
    for (int order = 0; order < 2; order++) {
        store_app_new(&a, NULL);
        hark_app_use(a.app, order ? hark_gzip(NULL) : hark_idempotency(NULL));
        hark_app_use(a.app, order ? hark_idempotency(NULL) : hark_gzip(NULL));
        routes();
        store_app_start(&a);
        for (size_t i = 0; i < HK_COUNTOF(targets); i++) {
            const char *what = i ? "tea" : "milk";
            client_do(a.port, "POST", targets[i], KEY("k") GZIP, what, &r);
            EXPECT_STATUS(&r, 200);
            EXPECT_HEADER(&r, "Content-Encoding", "gzip");
            client_do(a.port, "POST", targets[i], KEY("k"), what, &plain);
            EXPECT_HEADER(&plain, "Idempotent-Replay", "true");
            EXPECT_HEADER(&plain, "Content-Encoding", "");
            assert_int_equal(plain.len, MUCH);
            expect_packed(&r);
            client_do(a.port, "POST", targets[i], KEY("k") GZIP, what, &r);
            EXPECT_HEADER(&r, "Idempotent-Replay", "true");
            EXPECT_HEADER(&r, "Content-Type", "text/plain");
            if (order) /* outside of it, gzip sees the replay */
                expect_packed(&r);
            else
                assert_memory_equal(r.body, plain.body, MUCH);
        }
        assert_int_equal(orders(&a), 1);
        store_app_end(&a);
    }
}

static void test_gzip_refuses_options_that_would_not_do_what_they_say(void **state)
{
    (void)state;
    store_app_new(&a, NULL);
    assert_int_equal(hark_app_use(a.app, hark_gzip(HARK_OPTS(hark_gzip_opts, .level = 10))),
                     HARK_EINVAL);
    assert_int_equal(hark_app_use(a.app, hark_gzip(HARK_OPTS(hark_gzip_opts, .max_bytes = 10))),
                     HARK_EINVAL);
    assert_int_equal(
        hark_app_use(a.app, hark_gzip(HARK_OPTS(hark_gzip_opts, .max_bytes = SIZE_MAX))),
        HARK_EINVAL);
    store_app_end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies_are_compressed_for_who_wants_it),
        cmocka_unit_test(test_every_size_comes_out_as_it_went_in),
        cmocka_unit_test(test_who_does_not_want_it_gets_the_body_as_it_is),
        cmocka_unit_test(test_what_must_not_or_need_not_be_compressed_is_left),
        cmocka_unit_test(test_files_are_left),
        cmocka_unit_test(test_streams_are_left_and_carry_the_headers_of_middleware),
        cmocka_unit_test(test_problem_documents_are_compressed_too),
        cmocka_unit_test(test_head_shows_the_headers_of_get),
        cmocka_unit_test(test_a_strong_tag_becomes_weak_and_still_finds_what_is_unchanged),
        cmocka_unit_test(test_what_varies_by_more_says_both),
        cmocka_unit_test(test_what_is_skipped_is_left_alone),
        cmocka_unit_test(test_a_keyed_reply_is_given_again_to_each_in_a_form_it_reads),
        cmocka_unit_test(test_gzip_refuses_options_that_would_not_do_what_they_say),
        cmocka_unit_test(test_a_tag_that_middleware_sets_on_the_way_out_becomes_weak_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
