/* URLs of stores on Redis: what they are taken apart into, and what is refused. */
#include "store/redis/conn_i.h"

#include <setjmp.h>
#include <string.h>

#include <cmocka.h>

static hk_redis_url taken(const char *rest)
{
    hk_redis_url u = {0};
    hark_errinfo ei = {0};
    if (hk_redis_url_take("redis", rest, &u, &ei))
        fail_msg("%s: %s", rest, ei.text);
    return u;
}

static void assert_refused(const char *rest, const char *part)
{
    hk_redis_url u = {0};
    hark_errinfo ei = {0};
    assert_int_equal(hk_redis_url_take("redis", rest, &u, &ei), HARK_EINVAL);
    if (!strstr(ei.text, part))
        fail_msg("%s: expected '%s' in: %s", rest, part, ei.text);
    assert_null(strstr(ei.text, "secret"));
    assert_null(u.host);
}

static void test_a_host_alone_has_the_usual_port(void **state)
{
    (void)state;
    hk_redis_url u = taken("//db.example");
    assert_string_equal(u.host, "db.example");
    assert_string_equal(u.port, "6379");
    assert_string_equal(u.place, "db.example:6379");
    assert_null(u.user);
    assert_null(u.password);
    assert_null(u.path);
    assert_null(u.query);
    hk_redis_url_clear(&u);
}

static void test_all_parts_are_taken(void **state)
{
    (void)state;
    hk_redis_url u = taken("//me:s%3Ac%40%2Fx@h:7000/a/b%20?log=x%20");
    assert_string_equal(u.user, "me");
    assert_string_equal(u.password, "s:c@/x");
    assert_string_equal(u.host, "h");
    assert_string_equal(u.port, "7000");
    assert_string_equal(u.path, "a/b ");
    assert_string_equal(u.query, "log=x%20");
    hk_redis_url_clear(&u);
}

static void test_a_password_needs_no_user_and_may_hold_signs(void **state)
{
    (void)state;
    hk_redis_url u = taken("//:a@b:c@h/");
    assert_null(u.user);
    assert_string_equal(u.password, "a@b:c");
    assert_string_equal(u.host, "h");
    assert_null(u.path);
    hk_redis_url_clear(&u);
}

static void test_ipv6_addresses_stand_in_brackets(void **state)
{
    (void)state;
    hk_redis_url u = taken("//[::1]:7001/p");
    assert_string_equal(u.host, "::1");
    assert_string_equal(u.port, "7001");
    assert_string_equal(u.place, "[::1]:7001");
    hk_redis_url_clear(&u);
    u = taken("//[fe80::2]");
    assert_string_equal(u.host, "fe80::2");
    assert_string_equal(u.port, "6379");
    hk_redis_url_clear(&u);
}

static void test_what_is_wrong_is_said_without_the_password(void **state)
{
    (void)state;
    assert_refused("localhost", "//");
    assert_refused("//", "no host");
    assert_refused("//u:secret@/x", "no host");
    assert_refused("//u:secret@:7000", "no host");
    assert_refused("//secret@h", "without a password");
    assert_refused("//u:secret@h:", "not a port");
    assert_refused("//u:secret@h:0", "65535");
    assert_refused("//u:secret@h:65536", "65535");
    assert_refused("//u:secret@h:6379x", "65535");
    assert_refused("//u:secret@[::1", "]");
    assert_refused("//u:secret@[::1]7", "not a port");
    assert_refused("//u:secret%4@h", "password");
    assert_refused("//u:secret%00@h", "password");
    assert_refused("//u%zz:secret@h", "user name");
    assert_refused("//u:secret@h/a%", "path");
    assert_refused("//u:secret@h/a#b", "#");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_host_alone_has_the_usual_port),
        cmocka_unit_test(test_all_parts_are_taken),
        cmocka_unit_test(test_a_password_needs_no_user_and_may_hold_signs),
        cmocka_unit_test(test_ipv6_addresses_stand_in_brackets),
        cmocka_unit_test(test_what_is_wrong_is_said_without_the_password),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
