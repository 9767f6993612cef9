/* What is read from Accept-Encoding, Origin and Authorization, also when they are hostile. */
#include "base/base.h"
#include "http/middleware/header_values_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A copy without room behind it, so that reading on is seen by the sanitizers. */
static char *tight(const char *s)
{
    char *copy = strdup(s);
    assert_non_null(copy);
    return copy;
}

static bool wants(const char *first, const char *second)
{
    hk_codings a = HK_CODINGS_NONE;
    char *one = tight(first), *two = tight(second ? second : "");
    hk_codings_read(&a, one);
    if (second)
        hk_codings_read(&a, two);
    free(one);
    free(two);
    return hk_codings_want_gzip(&a);
}

static void test_gzip_is_wanted_by_weight(void **state)
{
    (void)state;
    static const char *const yes[] = {
        "gzip",
        "GZip",
        "x-gzip",
        " gzip ",
        "deflate, gzip",
        "gzip;q=1",
        "gzip; q=0.001",
        "gzip;Q=1.000",
        "gzip\t; q=0.5",
        "*",
        "*;q=0.1, br",
        "identity;q=0.5, gzip;q=0.5",
        ",,gzip,,",
        "br;q=2, gzip",
        "identity;q=0, *",
        "gzip;q=0.9, *;q=0",
        "identity;q=0.2, *;q=0.3",
        "br, gzip;q=0.8, deflate;level=9",
    };
    static const char *const no[] = {
        "",
        "identity",
        "gzip;q=0",
        "gzip;q=0.000",
        "gzip, gzip;q=0", /* the lower weight counts */
        "gzip;q=0, gzip",
        "*;q=0",
        "gzip;q=0, *",
        "identity, gzip;q=0.5",
        "identity;q=1, *;q=0.9",
        "deflate, br",
        "xgzip",
        "gzipx",
        "gzip x",
        "\"gzip\"",
    };
    for (size_t i = 0; i < HK_COUNTOF(yes); i++)
        if (!wants(yes[i], NULL))
            fail_msg("'%s' wants gzip", yes[i]);
    for (size_t i = 0; i < HK_COUNTOF(no); i++)
        if (wants(no[i], NULL))
            fail_msg("'%s' does not want gzip", no[i]);
    assert_true(wants("br", "gzip"));
    assert_false(wants("gzip", "gzip;q=0"));
    assert_false(wants("gzip;q=0.5", "identity"));
}

static void test_a_malformed_coding_says_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "gzip;",
        "gzip;q",
        "gzip;q=",
        "gzip;q=2",
        "gzip;q=1.001",
        "gzip;q=0.1234",
        "gzip;q=-1",
        "gzip;q=+1",
        "gzip;q=.5",
        "gzip;q=1e9",
        "gzip;q=0x1",
        "gzip;q= 1",
        "gzip;q =1",
        "gzip;q=1;q=0",
        "gzip;level=9",
        "gzip;q=99999999999999999999",
        "gzip;;q=1",
        ";q=1",
        ";",
        ";;;;",
        "=",
        "gzip;q=\xff",
        "\xff\xfe",
        "gzip;q=0,5",
        "gzip;q=NaN",
        "gzip/1.0",
        "q=1",
        "gzip=1",
        "%67zip",
    };
    for (size_t i = 0; i < HK_COUNTOF(bad); i++)
        if (wants(bad[i], NULL))
            fail_msg("'%s' was taken for a wish", bad[i]);
    assert_true(wants("gzip;q=2, gzip", NULL));
}

static void expect_origin(const char *pattern, const char *origin, bool want)
{
    char *p = tight(pattern), *o = tight(origin);
    if (hk_origin_covers(p, o) != want)
        fail_msg("'%s' and '%s': expected %d", pattern, origin, want);
    free(p);
    free(o);
}

static void test_origins_match_exactly_or_by_one_label(void **state)
{
    (void)state;
    static const char exact[] = "https://shop.example", wild[] = "https://*.shop.example";
    static const char port[] = "http://*.local:8080";
    expect_origin("*", "https://any.example", true);
    expect_origin("*", "null", true);
    expect_origin("null", "null", true);
    expect_origin(exact, "https://shop.example", true);
    static const char *const not_exact[] = {
        "http://shop.example",
        "https://shop.example:443",
        "https://shop.example/",
        "https://shop.example.com",
        "https://SHOP.example",
        "https://a.shop.example",
        "https://shop.exampl",
        "null",
        "",
        "https://shop.example ",
        "https://shop.example, https://evil.example",
    };
    for (size_t i = 0; i < HK_COUNTOF(not_exact); i++)
        expect_origin(exact, not_exact[i], false);
    expect_origin(wild, "https://a.shop.example", true);
    expect_origin(wild, "https://a-1_b.shop.example", true);
    expect_origin(port, "http://x.local:8080", true);
    expect_origin(port, "http://x.local:80801", false);
    static const char *const not_wild[] = {
        "https://shop.example",
        "https://.shop.example",
        "https://a.b.shop.example",
        "http://a.shop.example",
        "https://a.shop.example.evil",
        "https://a.shop.example:444",
        "https://evil.example/.shop.example",
        "https://evil.example?.shop.example",
        "https://evil.example#.shop.example",
        "https://evil@a.shop.example",
        "https://a:b.shop.example",
        "https://*.shop.example",
        "https://\xc3\xa9.shop.example",
        "https://%61.shop.example",
        "https://ashop.example",
        "https://",
        "https:",
        "",
        "null",
    };
    for (size_t i = 0; i < HK_COUNTOF(not_wild); i++)
        expect_origin(wild, not_wild[i], false);
}

static void test_an_origin_that_no_browser_sends_is_no_pattern(void **state)
{
    (void)state;
    static const char *const good[] = {"*",
                                       "null",
                                       "https://shop.example",
                                       "http://localhost:3000",
                                       "https://*.shop.example:8443",
                                       "http://127.0.0.1",
                                       "http://[::1]:80",
                                       "app+x://host"};
    static const char *const bad[] = {"",
                                      "shop.example",
                                      "https://",
                                      "https://Shop.example",
                                      "https://shop.example/",
                                      "https://shop.example/a",
                                      "https://*",
                                      "https://*.",
                                      "https://*.*.example",
                                      "https://a.*.example",
                                      "https://*a.example",
                                      "https://a..example",
                                      "https://a.example.",
                                      "https://a:b",
                                      "https://a:",
                                      "https://a:123456",
                                      "https://a:0443",
                                      "https://[::1",
                                      "https://[]",
                                      "https://[::1]x",
                                      "https://u@a.example",
                                      "://a",
                                      "**"};
    for (size_t i = 0; i < HK_COUNTOF(good); i++)
        if (!hk_origin_pattern_ok(good[i]))
            fail_msg("'%s' was refused", good[i]);
    for (size_t i = 0; i < HK_COUNTOF(bad); i++)
        if (hk_origin_pattern_ok(bad[i]))
            fail_msg("'%s' was taken", bad[i]);
}

static void test_the_port_that_a_scheme_has_anyway_is_known(void **state)
{
    (void)state;
    assert_true(hk_origin_usual_port("https://a:443"));
    assert_true(hk_origin_usual_port("http://[::1]:80"));
    assert_true(hk_origin_usual_port("https://*.a.example:443"));
    assert_false(hk_origin_usual_port("http://a:443"));
    assert_false(hk_origin_usual_port("https://a:80"));
    assert_false(hk_origin_usual_port("https://a:4430"));
    assert_false(hk_origin_usual_port("http://[::80]"));
    assert_false(hk_origin_usual_port("https://a"));
    assert_false(hk_origin_usual_port("null"));
    assert_false(hk_origin_usual_port("*"));
}

static void test_lists_of_names_have_names_only(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ",", "a,", ",a", "a,,b", "a b", "a;b", "a\r\nb", "\xff"};
    assert_true(hk_names_ok("a"));
    assert_true(hk_names_ok("X-A, x-b ,c"));
    for (size_t i = 0; i < HK_COUNTOF(bad); i++)
        if (hk_names_ok(bad[i]))
            fail_msg("'%s' was taken", bad[i]);
}

static hk_credentials take(const char *value, const char *scheme, char key[64])
{
    const char *found = NULL;
    char *v = tight(value);
    hk_credentials c = hk_credentials_read(v, scheme, &found);
    snprintf(key, 64, "%s", found ? found : "");
    free(v);
    return c;
}

static void test_a_key_comes_behind_its_scheme_and_is_visible_ascii(void **state)
{
    (void)state;
    char key[64];
    static const char *const none[] = {"",  "Basic YTpi", "Bearerk",  "Beare k",   "Bear",
                                       "k", "Bearer\tk",  "Bearer=k", " Bearer k", "\377earer k"};
    static const char *const malformed[] = {"Bearer",          "Bearer ",      "Bearer    ",
                                            "Bearer a b",      "Bearer a,b c", "Bearer a\tb",
                                            "Bearer \xc3\xa9", "Bearer \x7f",  "Bearer a\x01"};
    assert_int_equal(take("Bearer abc", "Bearer", key), HK_CRED_KEY);
    assert_string_equal(key, "abc");
    assert_int_equal(take("bEARER   a.b-c_~+/==", "Bearer", key), HK_CRED_KEY);
    assert_string_equal(key, "a.b-c_~+/==");
    for (size_t i = 0; i < HK_COUNTOF(none); i++)
        if (take(none[i], "Bearer", key) != HK_CRED_NONE)
            fail_msg("'%s' was taken for ours", none[i]);
    for (size_t i = 0; i < HK_COUNTOF(malformed); i++)
        if (take(malformed[i], "Bearer", key) != HK_CRED_MALFORMED)
            fail_msg("'%s' is malformed", malformed[i]);
    assert_int_equal(take("abc", "", key), HK_CRED_KEY);
    assert_int_equal(take("", "", key), HK_CRED_MALFORMED);
    assert_int_equal(take("a b", "", key), HK_CRED_MALFORMED);
}

static void test_a_key_has_a_greatest_length(void **state)
{
    (void)state;
    char *key = malloc(HK_KEY_MAX + 2);
    assert_non_null(key);
    memset(key, 'k', HK_KEY_MAX + 1);
    key[HK_KEY_MAX + 1] = '\0';
    assert_false(hk_key_ok(key));
    key[HK_KEY_MAX] = '\0';
    assert_true(hk_key_ok(key));
    free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gzip_is_wanted_by_weight),
        cmocka_unit_test(test_a_malformed_coding_says_nothing),
        cmocka_unit_test(test_origins_match_exactly_or_by_one_label),
        cmocka_unit_test(test_an_origin_that_no_browser_sends_is_no_pattern),
        cmocka_unit_test(test_lists_of_names_have_names_only),
        cmocka_unit_test(test_a_key_comes_behind_its_scheme_and_is_visible_ascii),
        cmocka_unit_test(test_a_key_has_a_greatest_length),
        cmocka_unit_test(test_the_port_that_a_scheme_has_anyway_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
