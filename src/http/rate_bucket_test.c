/* The token buckets of hark_rate_limit, at times of the test's choice. */
#include "base/base.h"
#include "http/middleware/rate_bucket_i.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define S INT64_C(1000000000)

static hk_rate_rule rule(int64_t rate, int64_t per_ms, int64_t burst)
{
    hk_rate_rule r = {0};
    assert_true(hk_rate_rule_make(rate, per_ms, burst, &r));
    return r;
}

/* How many of `tries` at one time are allowed. */
static int allowed(const hk_rate_rule *r, int64_t *full_at, int64_t now, int tries)
{
    int n = 0;
    for (int i = 0; i < tries; i++)
        n += hk_rate_take(r, full_at, now).allowed;
    return n;
}

static void test_a_full_bucket_allows_its_burst_and_then_as_much_as_comes_back(void **state)
{
    (void)state;
    hk_rate_rule r = rule(2, 1000, 5);
    int64_t full_at = 0, now = 100 * S;
    assert_int_equal(allowed(&r, &full_at, now, 9), 5);
    assert_int_equal(allowed(&r, &full_at, now + S / 2 - 1, 9), 0);
    assert_int_equal(allowed(&r, &full_at, now + S / 2, 9), 1);
    assert_int_equal(allowed(&r, &full_at, now + 2 * S, 9), 3);
    assert_int_equal(allowed(&r, &full_at, now + 1000 * S, 9), 5); /* never more than the burst */
}

static void test_what_is_refused_costs_nothing(void **state)
{
    (void)state;
    hk_rate_rule r = rule(1, 1000, 1);
    int64_t full_at = 0;
    assert_int_equal(allowed(&r, &full_at, S, 1), 1);
    assert_int_equal(allowed(&r, &full_at, S + S / 2, 1000), 0);
    assert_int_equal(allowed(&r, &full_at, 2 * S, 1), 1);
}

static void test_the_verdict_says_what_is_left_and_how_long_to_wait(void **state)
{
    (void)state;
    hk_rate_rule r = rule(1, 1000, 3);
    int64_t full_at = 0;
    hk_rate_verdict v = hk_rate_take(&r, &full_at, 10 * S);
    assert_true(v.allowed && v.left == 2 && v.full_ns == S);
    v = hk_rate_take(&r, &full_at, 10 * S);
    assert_true(v.allowed && v.left == 1 && v.full_ns == 2 * S);
    v = hk_rate_take(&r, &full_at, 10 * S);
    assert_true(v.allowed && v.left == 0 && v.full_ns == 3 * S);
    v = hk_rate_take(&r, &full_at, 10 * S + 1);
    assert_true(!v.allowed && v.left == 0 && v.wait_ns == S - 1 && v.full_ns == 3 * S - 1);
    assert_int_equal(allowed(&r, &full_at, 10 * S + 1 + v.wait_ns, 2), 1); /* it is the truth */
}

static void test_a_clock_that_seems_to_go_back_gives_nothing_away(void **state)
{
    (void)state;
    hk_rate_rule r = rule(1, 1000, 2);
    int64_t full_at = 0;
    assert_int_equal(allowed(&r, &full_at, 10 * S, 5), 2);
    assert_int_equal(allowed(&r, &full_at, 9 * S, 5), 0);
    assert_int_equal(allowed(&r, &full_at, 11 * S, 5), 1);
}

static void test_rules_that_cannot_be_counted_are_refused(void **state)
{
    (void)state;
    hk_rate_rule r = {7, 7};
    static const int64_t bad[][3] = {
        {0, 1000, 1},         {-1, 1000, 1},        {1, 0, 1},         {1, -1, 1},
        {1, 1000, 0},         {1, 1000, -1},        {INT64_MAX, 1, 1}, {1, INT64_MAX, 1},
        {1, 1000, INT64_MAX}, {1, 86400000, 40000},
    };
    for (size_t i = 0; i < HK_COUNTOF(bad); i++)
        assert_false(hk_rate_rule_make(bad[i][0], bad[i][1], bad[i][2], &r));
    assert_int_equal(r.step_ns, 7);
    assert_true(hk_rate_rule_make(1000000, 1, INT64_C(3000000000000000000), &r));
    int64_t full_at = 0; /* the greatest there is */
    assert_int_equal(allowed(&r, &full_at, INT64_C(3000000000000000000), 3), 3);
}

/* ---- the table ---- */

static hk_rate_verdict ask(hk_rate_slot *set, const hk_rate_rule *r, uint64_t who, int64_t now)
{
    const uint64_t id[2] = {who, ~who};
    hk_rate_slot *slot = hk_rate_find(set, id, now);
    return hk_rate_take(r, &slot->full_at_ns, now);
}

static void test_a_client_that_was_refused_outlives_a_crowd_of_others(void **state)
{
    (void)state;
    hk_rate_slot set[HK_RATE_WAYS] = {0};
    hk_rate_rule r = rule(1, 1000, 4);
    for (int i = 0; i < 4; i++)
        assert_true(ask(set, &r, 1, 10 * S).allowed);
    for (uint64_t who = 2; who < 10000; who++) /* each asks three times, as often as that pays */
        for (int i = 0; i < 3; i++)
            assert_true(ask(set, &r, who, 10 * S).allowed);
    assert_false(ask(set, &r, 1, 10 * S).allowed);
}

static void test_full_buckets_go_before_all_others(void **state)
{
    (void)state;
    hk_rate_slot set[HK_RATE_WAYS] = {0};
    hk_rate_rule r = rule(1, 1000, 4);
    for (uint64_t who = 1; who <= HK_RATE_WAYS; who++)
        for (uint64_t i = 0; i < (who == 3 ? 1 : 2); i++)
            assert_true(ask(set, &r, who, 10 * S).allowed);
    /* after a second only that of the third is full */
    assert_true(ask(set, &r, 100, 11 * S).allowed);
    for (uint64_t who = 1; who <= HK_RATE_WAYS; who++)
        if (who != 3)
            assert_int_equal(ask(set, &r, who, 11 * S).left, 2);
}

static void test_a_newcomer_never_inherits_a_bucket(void **state)
{
    (void)state;
    hk_rate_slot set[HK_RATE_WAYS] = {0};
    hk_rate_rule r = rule(1, 1000, 2);
    for (uint64_t who = 1; who <= HK_RATE_WAYS; who++)
        for (int i = 0; i < 3; i++)
            (void)ask(set, &r, who, 10 * S);
    assert_int_equal(ask(set, &r, 100, 10 * S).left, 1);
}

static size_t peer(const char *text, uint8_t ret[HK_RATE_PEER])
{
    struct sockaddr_in6 sa = {0};
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(1234)};
    memset(ret, 0, HK_RATE_PEER);
    if (inet_pton(AF_INET, text, &in4.sin_addr) == 1) {
        memcpy(&sa, &in4, sizeof in4);
    } else if (inet_pton(AF_INET6, text, &sa.sin6_addr) == 1) {
        sa.sin6_family = AF_INET6;
        sa.sin6_port = htons(4321);
    }
    return hk_rate_peer(&sa, ret);
}

static bool same_peer(const char *a, const char *b)
{
    uint8_t x[HK_RATE_PEER], y[HK_RATE_PEER];
    size_t n = peer(a, x);
    return n == peer(b, y) && memcmp(x, y, n) == 0;
}

static void test_a_peer_is_its_address_or_its_network_of_ipv6(void **state)
{
    (void)state;
    assert_true(same_peer("192.0.2.1", "192.0.2.1"));
    assert_true(same_peer("192.0.2.1", "::ffff:192.0.2.1"));
    assert_false(same_peer("192.0.2.1", "192.0.2.2"));
    assert_true(same_peer("2001:db8::1", "2001:db8:0:0:ffff::2"));
    assert_false(same_peer("2001:db8::1", "2001:db8:0:1::1"));
    assert_false(same_peer("::1", "0.0.0.1"));
    assert_true(same_peer("unix", "unix"));
    assert_false(same_peer("unix", "0.0.0.0"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_bucket_allows_its_burst_and_then_as_much_as_comes_back),
        cmocka_unit_test(test_what_is_refused_costs_nothing),
        cmocka_unit_test(test_the_verdict_says_what_is_left_and_how_long_to_wait),
        cmocka_unit_test(test_a_clock_that_seems_to_go_back_gives_nothing_away),
        cmocka_unit_test(test_rules_that_cannot_be_counted_are_refused),
        cmocka_unit_test(test_a_client_that_was_refused_outlives_a_crowd_of_others),
        cmocka_unit_test(test_full_buckets_go_before_all_others),
        cmocka_unit_test(test_a_newcomer_never_inherits_a_bucket),
        cmocka_unit_test(test_a_peer_is_its_address_or_its_network_of_ipv6),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
