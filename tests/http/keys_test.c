/* Who may ask, and how often: hark_key_auth and hark_rate_limit. */
#include "fixture.h"

#include "base/base.h"

#include <stdio.h>
#include <unistd.h>

static fixture f;
static reply r;
static char v[512];

static hark_err who(hark_ctx *c, void *ud)
{
    const char *user = hark_key_auth_user(c);
    (void)ud;
    return hark_ctx_text(c, 200, user ? user : "nobody");
}

/* Says of caches what the query says. */
static hark_err cached(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_ctx_set_header(c, "Vary", "Accept");
    hark_ctx_add_header(c, "Cache-Control", hark_ctx_query(c, "say"));
    hark_ctx_add_header(c, "Cache-Control", "max-age=60");
    return hark_ctx_text(c, 200, "a secret");
}

static hark_err refuse(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_fail(c, HARK_ESCHEMA, "not so");
}

static void begin(hark_middleware mw)
{
    hark_errinfo ei = {0};
    fixture_new(&f, FAKE_SYNC, NULL);
    if (hark_app_use(f.app, mw) != HARK_OK)
        fail_msg("%s", hark_app_listen(f.app, "127.0.0.1:0", &ei) ? ei.text : "?");
    hark_get(f.app, "/me", who, NULL);
    hark_get(f.app, "/health", who, NULL);
    hark_get(f.app, "/cached", cached, NULL);
    hark_get(f.app, "/open/*rest", who, NULL);
    hark_get(f.app, "/files/:name", who, NULL);
    hark_get(f.app, "/:id", who, NULL);
    hark_post(f.app, "/me", refuse, NULL);
}

static void start(hark_middleware mw)
{
    begin(mw);
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

static void expect_user(const char *want)
{
    EXPECT_STATUS(&r, 200);
    assert_string_equal(r.body, want);
}

static void refused(hark_middleware mw, const char *part)
{
    fixture_new(&f, FAKE_SYNC, NULL);
    assert_int_equal(hark_app_use(f.app, mw), HARK_EINVAL);
    EXPECT_PART(mw.text, part);
    fixture_end(&f);
}

static const hark_auth_key keys[] = {
    {"open-sesame", "ann"}, {"s3cret", "bob"}, {"bare", NULL}, {0}};

#define BEARER(key) "Authorization: Bearer " key "\r\n"

/* ---- key_auth ---- */

static void test_a_known_key_passes_and_says_whose_it_is(void **state)
{
    (void)state;
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys)));
    ask("GET", "/me", BEARER("open-sesame"));
    expect_user("ann");
    ask("GET", "/me", "authorization: bearer s3cret\r\n");
    expect_user("bob");
    ask("GET", "/me", BEARER("bare"));
    expect_user("");
    ask("POST", "/me", BEARER("s3cret"));
    EXPECT_STATUS(&r, 422); /* what comes of it is the handler's */
    fixture_end(&f);
}

static void test_without_a_known_key_nothing_is_to_be_had(void **state)
{
    (void)state;
    static const char *const without[] = {NULL, "Authorization: Basic YTpi\r\n",
                                          "Authorization: \r\n", "Authorization: open-sesame\r\n",
                                          "X-Api-Key: open-sesame\r\n"};
    static const char *const unknown[] = {BEARER("open-sesam"), BEARER("open-sesame1"),
                                          BEARER("OPEN-SESAME"), BEARER("=")};
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys)));
    for (size_t i = 0; i < HK_COUNTOF(without); i++) {
        ask("GET", "/me", without[i]);
        EXPECT_STATUS(&r, 401);
        expect("WWW-Authenticate", "Bearer realm=\"api\"");
        expect("Content-Type", "application/problem+json");
    }
    for (size_t i = 0; i < HK_COUNTOF(unknown); i++) {
        ask("GET", "/me", unknown[i]);
        EXPECT_STATUS(&r, 401);
        expect("WWW-Authenticate", "Bearer realm=\"api\", error=\"invalid_token\"");
    }
    ask("GET", "/nowhere/at/all", NULL); /* nor what there is */
    EXPECT_STATUS(&r, 401);
    ask("GET", "/me?key=open-sesame", NULL);
    EXPECT_STATUS(&r, 401);
    fixture_end(&f);
}

static void test_a_malformed_or_second_key_is_a_bad_request(void **state)
{
    (void)state;
    static const char *const bad[] = {
        BEARER(""),
        BEARER("a b"),
        BEARER("open-sesame x"),
        BEARER("\xc3\xa9"),
        BEARER("open-sesame") BEARER("open-sesame"),
        BEARER("open-sesame") "Authorization: Basic YTpi\r\n",
    };
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys)));
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        ask("GET", "/me", bad[i]);
        EXPECT_STATUS(&r, 400);
        expect("WWW-Authenticate", "Bearer realm=\"api\", error=\"invalid_request\"");
    }
    fixture_end(&f);
}

static void test_the_key_may_have_a_header_of_its_own_or_stand_in_the_query(void **state)
{
    (void)state;
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .header = "X-Api-Key",
                                  .query = "key", .realm = "the shop")));
    ask("GET", "/me", "x-api-key: s3cret\r\n");
    expect_user("bob");
    ask("GET", "/me?a=1&key=open%2Dsesame", NULL);
    expect_user("ann");
    expect("Cache-Control", "private");
    ask("GET", "/me", BEARER("s3cret"));
    EXPECT_STATUS(&r, 401);
    expect("WWW-Authenticate", "Key realm=\"the shop\", header=\"X-Api-Key\"");
    ask("GET", "/me?key=s3cret", "X-Api-Key: s3cret\r\n");
    EXPECT_STATUS(&r, 400);
    ask("GET", "/me?key=", NULL);
    EXPECT_STATUS(&r, 400);
    ask("GET", "/me?key=a%20b", NULL);
    EXPECT_STATUS(&r, 400);
    fixture_end(&f);
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .scheme = "Token")));
    ask("GET", "/me", "Authorization: Token s3cret\r\n");
    expect_user("bob");
    fixture_end(&f);
}

static void test_several_keys_in_the_query_are_a_bad_request_as_well(void **state)
{
    (void)state;
    static const char *const bad[] = {"/me?key=s3cret&key=wrong",      "/me?key=wrong&key=s3cret",
                                      "/me?key=s3cret&key=s3cret",     "/me?key=s3cret&key",
                                      "/me?a=1&&key=s3cret&%6bey=b&c", "/me?key&key=s3cret"};
    static const char *const good[] = {"/me?keys=1&ke=2&key=s3cret&Key=3&key%20=4&=key",
                                       "/me?%6be%79=s3cret&"};
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .query = "key")));
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        ask("GET", bad[i], NULL);
        if (r.status != 400)
            fail_msg("%s: %d", bad[i], r.status);
        expect("Cache-Control", "private");
    }
    for (size_t i = 0; i < HK_COUNTOF(good); i++) {
        ask("GET", good[i], NULL);
        expect_user("bob");
    }
    fixture_end(&f);
}

static void test_no_cache_gives_a_reply_behind_a_key_to_somebody_else(void **state)
{
    (void)state;
    static const char *const skip[] = {"/health", NULL};
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .header = "X-Api-Key",
                                  .query = "key", .skip = skip)));
    ask("GET", "/me", "X-Api-Key: s3cret\r\n");
    expect_user("bob");
    expect("Vary", "X-Api-Key");
    ask("GET", "/me", NULL);
    EXPECT_STATUS(&r, 401);
    expect("Vary", "X-Api-Key");
    ask("GET", "/cached?say=public", "X-Api-Key: s3cret\r\n");
    EXPECT_PART(r.head, "Vary: Accept\r\n");
    EXPECT_PART(r.head, "Vary: X-Api-Key\r\n");
    expect("Cache-Control", "public");
    ask("GET", "/health", NULL);
    expect("Vary", "");
    ask("GET", "/cached?key=s3cret&say=public", NULL);
    EXPECT_STATUS(&r, 200);
    expect("Cache-Control", "private");
    assert_null(strstr(r.head, "max-age"));
    ask("GET", "/cached?key=s3cret&say=public,%20no-cache", NULL);
    expect("Cache-Control", "private, no-cache");
    ask("GET", "/cached?key=s3cret&say=no-store", NULL); /* which is more */
    expect("Cache-Control", "no-store");
    fixture_end(&f);
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys)));
    ask("GET", "/cached?say=public", BEARER("s3cret")); /* caches know of Authorization */
    expect("Vary", "Accept");
    expect("Cache-Control", "public");
    fixture_end(&f);
}

static hark_err check(hark_ctx *c, const char *key, const char **ret_user, void *ud)
{
    if (strcmp(key, "down") == 0)
        return hark_ctx_fail(c, HARK_EAGAIN, "the directory is away");
    if (strcmp(key, "blocked") == 0)
        return HARK_EDENIED;
    if (strcmp(key, "nameless") == 0)
        return HARK_OK;
    *ret_user = ud;
    return strcmp(key, "carol") == 0 ? HARK_OK : HARK_EUNAUTHORIZED;
}

static void test_a_function_may_know_keys_and_fail_in_its_own_way(void **state)
{
    (void)state;
    static char carol[] = "carol";
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .check = check, .ud = carol)));
    ask("GET", "/me", BEARER("carol"));
    expect_user("carol");
    ask("GET", "/me", BEARER("nameless"));
    expect_user("");
    ask("GET", "/me", BEARER("s3cret"));
    expect_user("bob");
    ask("GET", "/me", BEARER("other"));
    EXPECT_STATUS(&r, 401);
    ask("GET", "/me", BEARER("blocked"));
    EXPECT_STATUS(&r, 403);
    ask("GET", "/me", BEARER("down"));
    EXPECT_STATUS(&r, 503);
    EXPECT_PART(r.body, "the directory is away");
    fixture_end(&f);
}

static void test_what_is_left_out_cannot_be_stretched(void **state)
{
    (void)state;
    static const char *const skip[] = {"/health", "/open/*", "/files/:name", NULL};
    static const char *const open[] = {"/health",   "/health?a", "/%68ealth",
                                       "/open/a/b", "/open/",    "/files/x"};
    static const char *const shut[] = {"/me",
                                       "/open",
                                       "/healt",
                                       "/health/x",
                                       "/Health",
                                       "/open%2Fx",
                                       "/open%2fx",
                                       "/health%2F",
                                       "/%2Fhealth",
                                       "/files/a/b",
                                       "//open/x",
                                       "/me?/open/x",
                                       "/x%2F..%2Fopen%2Fx"};
    start(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .skip = skip)));
    for (size_t i = 0; i < HK_COUNTOF(open); i++) {
        ask("GET", open[i], NULL);
        if (r.status != 200 || strcmp(r.body, "nobody") != 0)
            fail_msg("%s: %d", open[i], r.status);
    }
    for (size_t i = 0; i < HK_COUNTOF(shut); i++) {
        ask("GET", shut[i], NULL);
        if (r.status != 401)
            fail_msg("%s: %d", shut[i], r.status);
    }
    fixture_end(&f);
}

static void test_key_auth_refuses_options_that_would_not_do_what_they_say(void **state)
{
    (void)state;
    static const hark_auth_key spaced[] = {{"a b", NULL}, {0}}, empty[] = {{"", NULL}, {0}};
    refused(hark_key_auth(NULL), "would refuse all");
    refused(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = spaced)), "key 1 of the list");
    refused(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = empty)), "key 1 of the list");
    refused(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .header = "a b")), "header");
    refused(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .header = "")), "header");
    refused(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .scheme = "a b")), "scheme");
    refused(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys, .realm = "a\"b")), "realm");
}

/* ---- rate_limit ---- */

/* One an hour: what a test allows does not come back while it runs. */
#define HOURLY .rate = 1, .per_ms = 3600000

static void test_beyond_the_burst_a_client_is_told_when_to_come_again(void **state)
{
    (void)state;
    start(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, HOURLY, .burst = 3)));
    for (int left = 2; left >= 0; left--) {
        ask("GET", left == 1 ? "/nowhere/at/all" : "/me", NULL);
        EXPECT_STATUS(&r, left == 1 ? 404 : 200);
        expect("RateLimit-Policy", "\"default\";q=3;w=10800");
        reply_header(&r, "RateLimit", v, sizeof v);
        assert_int_equal(v[12] - '0', left); /* "default";r=N */
    }
    ask("GET", "/me", NULL);
    EXPECT_STATUS(&r, 429);
    expect("Content-Type", "application/problem+json");
    EXPECT_PART(r.body, "\"title\":\"Too Many Requests\"");
    EXPECT_PART(r.body, "more than 1 requests in 3600000 ms");
    int after = atoi(reply_header(&r, "Retry-After", v, sizeof v));
    assert_in_range(after, 3000, 3600);
    snprintf(v, sizeof v, "RateLimit: \"default\";r=0;t=%d\r\n", after);
    EXPECT_PART(r.head, v);
    fixture_end(&f);
}

static int status_from(const char *address)
{
    int fd = client_open_from(f.port, address);
    assert_true(fd >= 0);
    client_sends(fd, "GET /me HTTP/1.1\r\nHost: a\r\n\r\n");
    client_read(fd, false, &r);
    close(fd);
    return r.status;
}

static void test_each_peer_has_a_bucket_of_its_own(void **state)
{
    (void)state;
    start(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, HOURLY)));
    assert_int_equal(status_from("127.0.0.1"), 200);
    assert_int_equal(status_from("127.0.0.1"), 429);
    assert_int_equal(status_from("127.0.0.2"), 200);
    assert_int_equal(status_from("127.0.0.2"), 429);
    assert_int_equal(status_from("127.0.0.1"), 429);
    fixture_end(&f);
}

static const char *by_header(hark_ctx *c, void *ud)
{
    return hark_ctx_header(c, ud);
}

static void test_each_key_has_a_bucket_and_none_is_not_limited(void **state)
{
    (void)state;
    static char header[] = "X-Tenant";
    static const char *const skip[] = {"/health", NULL};
    start(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, HOURLY, .key = by_header, .ud = header,
                                    .skip = skip, .no_headers = 1)));
    ask("GET", "/me", "X-Tenant: a\r\n");
    EXPECT_STATUS(&r, 200);
    ask("GET", "/me", "X-Tenant: b\r\n");
    EXPECT_STATUS(&r, 200);
    ask("GET", "/me", "X-Tenant: a\r\n");
    EXPECT_STATUS(&r, 429);
    assert_null(strstr(r.head, "RateLimit"));
    ask("GET", "/health", "X-Tenant: a\r\n");
    EXPECT_STATUS(&r, 200);
    for (int i = 0; i < 5; i++) {
        ask("GET", "/me", NULL);
        EXPECT_STATUS(&r, 200);
    }
    fixture_end(&f);
}

static const char *by_user(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_key_auth_user(c);
}

static void test_policies_add_up_and_may_go_by_the_user(void **state)
{
    (void)state;
    begin(hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = keys)));
    hark_app_use(
        f.app, hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, HOURLY, .burst = 3, .name = "all")));
    hark_app_use(f.app, hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, HOURLY, .key = by_user,
                                                  .name = "user")));
    fixture_start(&f);
    ask("GET", "/me", BEARER("s3cret"));
    EXPECT_STATUS(&r, 200);
    EXPECT_PART(r.head, "RateLimit-Policy: \"all\";q=3;w=10800\r\n");
    EXPECT_PART(r.head, "RateLimit-Policy: \"user\";q=1;w=3600\r\n");
    ask("GET", "/me", BEARER("s3cret"));
    EXPECT_STATUS(&r, 429);
    EXPECT_PART(r.head, "RateLimit: \"all\";r=1;");
    EXPECT_PART(r.head, "RateLimit: \"user\";r=0;");
    ask("GET", "/me", BEARER("open-sesame"));
    EXPECT_STATUS(&r, 200);
    fixture_end(&f);
}

enum { CALLERS = 4, CALLS = 50, BURST = 60 };

static void *call(void *arg)
{
    int *n = arg;
    reply *mine = malloc(sizeof *mine);
    for (int i = 0; mine && i < CALLS; i++) {
        client_do(f.port, "GET", "/me", NULL, NULL, mine);
        *n += mine->status == 200;
    }
    free(mine);
    return NULL;
}

static void test_loops_together_allow_the_burst_and_no_more(void **state)
{
    (void)state;
    pthread_t threads[CALLERS];
    int passed[CALLERS] = {0}, all = 0;
    start(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, HOURLY, .burst = BURST, .clients = 1)));
    for (int i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call, &passed[i]), 0);
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        all += passed[i];
    }
    assert_int_equal(all, BURST);
    fixture_end(&f);
}

static void test_rate_limit_refuses_options_that_would_not_do_what_they_say(void **state)
{
    (void)state;
    refused(hark_rate_limit(NULL), "rate 0");
    refused(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, .rate = -1)), "rate -1");
    refused(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, .rate = 1, .burst = INT64_MAX)),
            "burst");
    refused(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, .rate = 1, .name = "a\"b")), "name");
    refused(hark_rate_limit(HARK_OPTS(hark_rate_limit_opts, .rate = 1, .clients = SIZE_MAX)),
            "clients");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_known_key_passes_and_says_whose_it_is),
        cmocka_unit_test(test_without_a_known_key_nothing_is_to_be_had),
        cmocka_unit_test(test_a_malformed_or_second_key_is_a_bad_request),
        cmocka_unit_test(test_the_key_may_have_a_header_of_its_own_or_stand_in_the_query),
        cmocka_unit_test(test_a_function_may_know_keys_and_fail_in_its_own_way),
        cmocka_unit_test(test_what_is_left_out_cannot_be_stretched),
        cmocka_unit_test(test_key_auth_refuses_options_that_would_not_do_what_they_say),
        cmocka_unit_test(test_beyond_the_burst_a_client_is_told_when_to_come_again),
        cmocka_unit_test(test_each_key_has_a_bucket_and_none_is_not_limited),
        cmocka_unit_test(test_policies_add_up_and_may_go_by_the_user),
        cmocka_unit_test(test_loops_together_allow_the_burst_and_no_more),
        cmocka_unit_test(test_rate_limit_refuses_options_that_would_not_do_what_they_say),
        cmocka_unit_test(test_several_keys_in_the_query_are_a_bad_request_as_well),
        cmocka_unit_test(test_no_cache_gives_a_reply_behind_a_key_to_somebody_else),
        cmocka_unit_test(test_each_peer_has_a_bucket_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
