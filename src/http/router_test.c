/* Routes are found as the rules say, and what cannot be a route is refused with a reason. */
#include "http/router_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static hk_router router;

static int setup(void **state)
{
    (void)state;
    return hk_router_init(&router) == HARK_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    hk_router_free(&router);
    return 0;
}

static hark_err add_ei(const char *method, const char *path, hark_errinfo *ei)
{
    hk_route_entry *e;
    return hk_router_add(&router, method, path, NULL, &e, ei);
}

static void add(const char *method, const char *path)
{
    hark_errinfo ei = {0};
    if (add_ei(method, path, &ei))
        fail_msg("%s", ei.text);
}

static hk_path split(const char *text)
{
    hk_path p = {.text = text, .len = strlen(text)};
    for (size_t i = 0; i < p.len;) {
        size_t n = strcspn(text + i + 1, "/");
        p.off[p.n] = (uint16_t)(i + 1);
        p.seg_len[p.n++] = (uint16_t)n;
        i += n + 1;
    }
    return p;
}

static bool look(const char *method, const char *path, hk_match *m)
{
    hk_path p = split(path);
    return hk_router_match(&router, hk_method_of(method, strlen(method)), method, &p, m);
}

/* Checks which pattern answers, and its values joined by '|'. */
static void expect(const char *method, const char *path, const char *pattern, const char *values)
{
    hk_match m;
    char got[256] = "";
    if (!look(method, path, &m)) {
        if (pattern)
            fail_msg("%s %s: nothing, expected %s", method, path, pattern);
        return;
    }
    if (!pattern)
        fail_msg("%s %s: %s, expected nothing", method, path, m.route->pattern);
    assert_string_equal(m.route->pattern, pattern);
    for (size_t i = 0; i < m.n_values; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%.*s", i ? "|" : "",
                 (int)m.values[i].len, m.values[i].s);
    assert_string_equal(got, values ? values : "");
}

static void test_text_goes_before_name_before_rest(void **state)
{
    (void)state;
    add("GET", "/orders/new");
    add("GET", "/orders/:id");
    add("GET", "/orders/*rest");
    expect("GET", "/orders/new", "/orders/new", NULL);
    expect("GET", "/orders/7", "/orders/:id", "7");
    expect("GET", "/orders/7/items", "/orders/*rest", "7/items");
    expect("GET", "/orders/", "/orders/*rest", "");
    expect("GET", "/orders", NULL, NULL);
}

static void test_a_choice_that_fails_further_on_is_taken_back(void **state)
{
    (void)state;
    add("GET", "/a/b/c");
    add("GET", "/a/:x/d");
    add("GET", "/:y/b/e");
    add("GET", "/*rest");
    expect("GET", "/a/b/c", "/a/b/c", NULL);
    expect("GET", "/a/b/d", "/a/:x/d", "b");
    expect("GET", "/a/b/e", "/:y/b/e", "a");
    expect("GET", "/a/b/f", "/*rest", "a/b/f");
}

static void test_a_method_of_another_place_is_found(void **state)
{
    (void)state;
    add("GET", "/users/me");
    add("PUT", "/users/:id");
    expect("PUT", "/users/me", "/users/:id", "me");
    hk_match m;
    assert_false(look("DELETE", "/users/me", &m));
    hk_buf allow = {0};
    hk_router_allow(&m, &allow);
    assert_string_equal(allow.data, "GET, HEAD, PUT, OPTIONS");
    hk_buf_free(&allow);
}

static void test_head_is_answered_by_get_and_any_by_the_route_for_all(void **state)
{
    (void)state;
    add("GET", "/a");
    add(NULL, "/a");
    add("HEAD", "/b");
    add("PURGE", "/b");
    expect("HEAD", "/a", "/a", NULL);
    expect("BREW", "/a", "/a", NULL);
    expect("HEAD", "/b", "/b", NULL);
    expect("PURGE", "/b", "/b", NULL);
    expect("BREW", "/b", NULL, NULL);
    expect("GET", "/b", NULL, NULL);
}

static void test_a_name_takes_no_empty_segment(void **state)
{
    (void)state;
    add("GET", "/users/:id");
    add("GET", "/");
    expect("GET", "/users/", NULL, NULL);
    expect("GET", "/users//", NULL, NULL);
    expect("GET", "/", "/", NULL);
    expect("GET", "//", NULL, NULL);
}

static void refuse(const char *path, const char *part)
{
    hark_errinfo ei = {0};
    assert_int_not_equal(add_ei("GET", path, &ei), HARK_OK);
    if (!strstr(ei.text, part))
        fail_msg("'%s' does not say '%s'", ei.text, part);
}

static void test_malformed_paths_are_refused_with_the_reason(void **state)
{
    (void)state;
    refuse("orders", "begins with '/'");
    refuse("/:", "without a name");
    refuse("/a:b", "must begin a segment");
    refuse("/*rest/x", "must come last");
    refuse("/:a/:a", "twice");
    refuse("/:a b", "[A-Za-z0-9_-]");
    refuse("/a b", "character");
    refuse("/a/../b", "a segment '..'");
    refuse("/a?x=1", "character");
    refuse(NULL, "begins with '/'");
}

static void test_the_same_place_twice_is_refused_and_names_the_first(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    add("GET", "/users/:id");
    add("POST", "/users/:id");
    assert_int_equal(add_ei("GET", "/users/:name", &ei), HARK_EEXIST);
    assert_non_null(strstr(ei.text, "GET /users/:name"));
    assert_non_null(strstr(ei.text, "/users/:id"));
}

static void test_a_hundred_thousand_routes_are_each_found(void **state)
{
    (void)state;
    char path[64];
    for (int i = 0; i < 100000; i++) {
        snprintf(path, sizeof path, "/t%d/x%d/:id", i % 1000, i);
        add("GET", path);
    }
    for (int i = 0; i < 100000; i += 777) {
        char pattern[64];
        snprintf(path, sizeof path, "/t%d/x%d/v", i % 1000, i);
        snprintf(pattern, sizeof pattern, "/t%d/x%d/:id", i % 1000, i);
        expect("GET", path, pattern, "v");
    }
    expect("GET", "/t1/x2/v", NULL, NULL);
}

static void test_the_longest_route_fits_the_stack(void **state)
{
    (void)state;
    char path[256] = "", too_long[300];
    for (int i = 0; i < HK_ROUTE_SEGMENTS; i++)
        memcpy(path + 2 * i, "/a", 2);
    add("GET", path);
    expect("GET", path, path, NULL);
    snprintf(too_long, sizeof too_long, "%s/a", path);
    refuse(too_long, "more than");
    expect("GET", too_long, NULL, NULL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_text_goes_before_name_before_rest),
        T(test_a_choice_that_fails_further_on_is_taken_back),
        T(test_a_method_of_another_place_is_found),
        T(test_head_is_answered_by_get_and_any_by_the_route_for_all),
        T(test_a_name_takes_no_empty_segment),
        T(test_malformed_paths_are_refused_with_the_reason),
        T(test_the_same_place_twice_is_refused_and_names_the_first),
        T(test_a_hundred_thousand_routes_are_each_found),
        T(test_the_longest_route_fits_the_stack),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
