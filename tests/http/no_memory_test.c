/* Memory that runs out while a reply goes out: what would be wrong without a header that could not be
 * set does not go out either. The linker leads the calls for a request's memory here. */
#include "fixture.h"

#include "http/http_i.h"

#include <stdio.h>

void *__real_hk_arena_alloc(hk_arena *a, size_t size);
void *__wrap_hk_arena_alloc(hk_arena *a, size_t size);
char *__real_hk_arena_copy(hk_arena *a, const void *data, size_t len);
char *__wrap_hk_arena_copy(hk_arena *a, const void *data, size_t len);

static _Thread_local bool starved; /* for once: what comes behind may have memory again */

static bool fails(void)
{
    bool now = starved;
    starved = false;
    return now;
}

void *__wrap_hk_arena_alloc(hk_arena *a, size_t size)
{
    return fails() ? NULL : __real_hk_arena_alloc(a, size);
}

char *__wrap_hk_arena_copy(hk_arena *a, const void *data, size_t len)
{
    return fails() ? NULL : __real_hk_arena_copy(a, data, len);
}

static fixture f;
static reply r;
static char v[256];

/* Hooks run from the handler outwards, on the request's loop: the inner one before what stands
 * between the two. */
static void set(hark_ctx *c, int status, void *ud)
{
    (void)c;
    (void)status;
    starved = ud != NULL;
}

static hark_err around(hark_ctx *c, void *ud)
{
    (void)hark_ctx_on_reply(c, set, ud);
    return hark_ctx_next(c);
}

static hark_err text(hark_ctx *c, void *ud)
{
    char *body = hark_ctx_alloc(c, 2001);
    (void)ud;
    memset(body, 'a', 2000);
    body[2000] = '\0';
    (void)hark_ctx_set_header(c, "Cache-Control", "public, max-age=60");
    return hark_ctx_text(c, 200, body);
}

static void ask_through(hark_middleware mw, const char *target, const char *with)
{
    static char inner[] = "starves";
    fixture_new(&f, FAKE_SYNC, NULL);
    assert_int_equal(hark_app_use(f.app, (hark_middleware){.fn = around}), HARK_OK);
    assert_int_equal(hark_app_use(f.app, mw), HARK_OK);
    assert_int_equal(hark_app_use(f.app, (hark_middleware){.fn = around, .ud = inner}), HARK_OK);
    hark_get(f.app, "/text", text, NULL);
    fixture_start(&f);
    client_do(f.port, "GET", target, with, NULL, &r);
    fixture_end(&f);
}

static void expect(const char *name, const char *want)
{
    assert_string_equal(reply_header(&r, name, v, sizeof v), want);
}

static void test_leave_to_read_is_not_given_without_vary(void **state)
{
    (void)state;
    static const char *const ours[] = {"https://shop.example", NULL};
    ask_through(hark_cors(HARK_OPTS(hark_cors_opts, .origins = ours)), "/text",
                "Origin: https://shop.example\r\n");
    EXPECT_STATUS(&r, 200);
    expect("Access-Control-Allow-Origin", "");
    expect("Vary", "");
}

static void test_nothing_is_compressed_without_vary(void **state)
{
    (void)state;
    ask_through(hark_gzip(NULL), "/text", "Accept-Encoding: gzip\r\n");
    EXPECT_STATUS(&r, 200);
    expect("Content-Encoding", "");
    assert_int_equal(r.len, 2000);
}

static void test_a_reply_that_a_cache_could_give_to_others_does_not_go_out(void **state)
{
    (void)state;
    static const hark_auth_key keys[] = {{"s3cret", NULL}, {0}};
    const hark_key_auth_opts opts = {
        .size = sizeof opts, .keys = keys, .header = "X-Api-Key", .query = "key"};
    const hark_key_auth_opts usual = {.size = sizeof usual, .keys = keys, .query = "key"};
    ask_through(hark_key_auth(&opts), "/text", "X-Api-Key: s3cret\r\n");
    EXPECT_STATUS(&r, 503);
    expect("Cache-Control", "");
    EXPECT_PART(r.body, "out of memory");
    ask_through(hark_key_auth(&usual), "/text?key=s3cret", NULL);
    EXPECT_STATUS(&r, 503);
    expect("Cache-Control", "");
    ask_through(hark_key_auth(&usual), "/text", "Authorization: Bearer s3cret\r\n");
    EXPECT_STATUS(&r, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_leave_to_read_is_not_given_without_vary),
        cmocka_unit_test(test_nothing_is_compressed_without_vary),
        cmocka_unit_test(test_a_reply_that_a_cache_could_give_to_others_does_not_go_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
