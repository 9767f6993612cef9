/* Tests of patterns: what matches, what must not, and that hostile input costs no time. */
#include "event/event.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static const struct {
    const char *pattern, *type;
    bool match;
} table[] = {
    /* names */
    {"order:created", "order:created", true},
    {"order:created", "order:create", false},
    {"order:created", "order:created2", false},
    {"order:created", "Order:created", false},
    {"order:created", "order.created", false},
    {"order:created", "order", false},
    {"order", "order:created", false},
    {"com.example/order.v1", "com.example/order.v1", true},
    /* one segment */
    {"*", "order", true},
    {"*", "order:created", false},
    {"order:*", "order:created", true},
    {"order:*", "order:item:added", false},
    {"order:*", "order", false},
    {"order:*", "order:", false},
    {"order:*", "order.created", false},
    {"*:created", "order:created", true},
    {"*:created", "order:cancelled", false},
    {"*:created", ":created", false},
    {"order:*:added", "order:item:added", true},
    {"order:*:added", "order:item:line:added", false},
    {"*:*", "order:created", true},
    {"*.*", "order:created", false},
    {"*/*.*", "a/b.c", true},
    /* any rest */
    {"**", "order", true},
    {"**", "order:created", true},
    {"**", "a.b/c:d", true},
    {"order:**", "order:created", true},
    {"order:**", "order:item:added", true},
    {"order:**", "order:item.added/now", true},
    {"order:**", "order", true},
    {"order:**", "order:", true},
    {"order:**", "orders:created", false},
    {"order:**", "orders", false},
    {"order.**", "order", true},
    {"order.**", "order:created", false},
    {"*:**", "order", true},
    {"*:**", "order:created:twice", true},
    {"order:*:**", "order:item", true},
    {"order:*:**", "order", false},
    /* hark's own */
    {"**", "hark:started", false},
    {"*:started", "hark:started", false},
    {"*:**", "hark:started", false},
    {"*", "dead_letter", false},
    {"**", "dead_letter", false},
    {"*:**", "dead_letter", false},
    {"hark:started", "hark:started", true},
    {"hark:*", "hark:started", true},
    {"hark:**", "hark:consumer:stuck", true},
    {"dead_letter", "dead_letter", true},
    {"dead_letter:**", "dead_letter", true},
    {"**", "hark", true},
    {"**", "harken:done", true},
    {"**", "hark.started", true},
    {"**", "dead_letters", true},
    {"**", "dead_letter:opened", true},
    {"**", "order:hark:x", true},
    /* several */
    {"order:created|payment:failed", "order:created", true},
    {"order:created|payment:failed", "payment:failed", true},
    {"order:created|payment:failed", "payment:created", false},
    {"order:created|payment:failed", "order:created|payment:failed", false},
    {"order:*|payment:**|x", "payment:card:failed", true},
    {"order:*|payment:**|x", "payment", true},
    {"order:**|x", "order", true},
    {"order:**|x", "order:", true},
    {"order:*|payment:**|x", "order:item:added", false},
    {"order:*|payment:**|x", "x", true},
    {"order:*|payment:**|x", "xx", false},
    {"a|b", "a:b", false},
    {"a|b", "a|", false},
    {"a:b|c", "a:b:c", false},
    {"**|x", "dead_letter", false},
    {"**|dead_letter", "dead_letter", true},
    {"dead_letter|**", "hark:started", false},
    {"**|hark:*", "hark:started", true},
};

static void test_a_pattern_matches_what_the_table_says(void **state UNUSED)
{
    for (size_t i = 0; i < HK_COUNTOF(table); i++) {
        hark_errinfo ei = {0};
        if (hark_pattern_check(table[i].pattern, &ei))
            fail_msg("'%s' was refused: %s", table[i].pattern, ei.text);
        if (hark_pattern_match(table[i].pattern, table[i].type) != table[i].match)
            fail_msg("'%s' and '%s': expected %s", table[i].pattern, table[i].type,
                     table[i].match ? "a match" : "no match");
    }
}

static void test_a_bad_pattern_is_refused_with_the_place(void **state UNUSED)
{
    static const struct {
        const char *pattern, *text;
    } bad[] = {
        {"", "empty"},
        {"order:*x", "byte 6"},
        {"order:x*", "byte 6"},
        {"ord*er", "byte 0"},
        {"order:***", "byte 6"},
        {"**:created", "byte 0"},
        {"order:**:x", "byte 6"},
        {"order:**:", "byte 6"},
        {"|order", "byte 0"},
        {"order|", "byte 6"},
        {"a||b", "byte 2"},
        {"a|b*", "byte 2"},
        {"a:**:x|b", "byte 2"},
        {"a|**:x", "byte 2"},
        {"order\n", "U+000A"},
        {"order:\xff", "UTF-8"},
    };
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        hark_errinfo ei = {0};
        assert_int_equal(hark_pattern_check(bad[i].pattern, &ei), HARK_EINVAL);
        if (!strstr(ei.text, bad[i].text))
            fail_msg("'%s': '%s' should say '%s'", bad[i].pattern, ei.text, bad[i].text);
    }
    assert_int_equal(hark_pattern_check(NULL, NULL), HARK_EINVAL);
}

static void test_a_pattern_may_be_as_long_as_a_type(void **state UNUSED)
{
    char p[HARK_TYPE_MAX + 2];
    memset(p, 'a', sizeof p);
    p[HARK_TYPE_MAX] = '\0';
    assert_int_equal(hark_pattern_check(p, NULL), HARK_OK);
    p[HARK_TYPE_MAX] = 'a';
    p[HARK_TYPE_MAX + 1] = '\0';
    assert_int_equal(hark_pattern_check(p, NULL), HARK_ETOOBIG);
}

/* ---- against a plain definition -----------------------------------------------------------------
 */

static size_t part(const char *s)
{
    return strcspn(s, ":./");
}

/* The same in the obvious way: cut both at their separators and compare part by part. */
static bool obvious(const char *p, const char *t)
{
    if (strcmp(p, "**") == 0)
        return true;
    size_t n = part(p), m = part(t);
    bool here = n == 1 && *p == '*' ? m > 0 : n == m && strncmp(p, t, n) == 0;
    if (!here)
        return false;
    if (!t[m])
        return !p[n] || strcmp(p + n + 1, "**") == 0;
    return p[n] == t[m] && obvious(p + n + 1, t + m + 1);
}

enum { NAME_ROOM = 64 };

static void append(char *to, const char *what)
{
    size_t len = strlen(to);
    (void)snprintf(to + len, NAME_ROOM - len, "%s", what);
}

static void random_name(uint64_t *seed, const char *const *parts, size_t n_parts, char *ret)
{
    *ret = '\0';
    for (;;) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        unsigned r = (unsigned)(*seed >> 33);
        append(ret, parts[r % n_parts]);
        if (r / 8 % 3 == 0 || strlen(ret) > 24)
            return;
        append(ret, r / 64 % 8 ? ":" : ".");
    }
}

static void test_random_patterns_match_as_the_plain_definition_says(void **state UNUSED)
{
    static const char *const in_pattern[] = {"a", "b", "aa", "*", "*", ""};
    static const char *const in_type[] = {"a", "b", "aa", "", "a"};
    uint64_t seed = 7;
    unsigned matches = 0;
    for (int i = 0; i < 300000; i++) {
        char p[NAME_ROOM], t[NAME_ROOM];
        random_name(&seed, in_pattern, HK_COUNTOF(in_pattern), p);
        random_name(&seed, in_type, HK_COUNTOF(in_type), t);
        if (i % 3 == 0)
            append(p, ":**");
        bool match = hark_pattern_match(p, t);
        if (match != obvious(p, t))
            fail_msg("seed 7, round %d: '%s' and '%s' gave %d", i, p, t, match);
        char both[2 * NAME_ROOM], other[NAME_ROOM];
        random_name(&seed, in_pattern, HK_COUNTOF(in_pattern), other);
        (void)snprintf(both, sizeof both, "%s|%s", i % 2 ? p : other, i % 2 ? other : p);
        if (hark_pattern_match(both, t) != (match || obvious(other, t)))
            fail_msg("seed 7, round %d: '%s' and '%s'", i, both, t);
        matches += match;
    }
    assert_true(matches > 1000);
}

/* ---- hostile input
 * ------------------------------------------------------------------------------ */

/* A megabyte of what makes backtracking matchers explode; with anything but one walk over both this
 * would not end. */
static void test_hostile_input_is_walked_once(void **state UNUSED)
{
    enum { SEGMENTS = 500000 };
    char *p = malloc(2 * SEGMENTS + 8), *t = malloc(2 * SEGMENTS + 8);
    assert_non_null(p);
    assert_non_null(t);
    for (size_t i = 0; i < SEGMENTS; i++) {
        memcpy(p + 2 * i, "*:", 2);
        memcpy(t + 2 * i, "a:", 2);
    }
    memcpy(p + 2 * SEGMENTS, "b", 2);
    memcpy(t + 2 * SEGMENTS, "c", 2);
    assert_false(hark_pattern_match(p, t));
    memcpy(t + 2 * SEGMENTS, "b", 2);
    assert_true(hark_pattern_match(p, t));
    memcpy(p + 2 * SEGMENTS, "**", 3);
    assert_true(hark_pattern_match(p, t));
    memset(p, '*', 2 * SEGMENTS);
    assert_false(hark_pattern_match(p, t));
    memset(t, 'a', 2 * SEGMENTS);
    assert_false(hark_pattern_match(p, t));
    assert_true(hark_pattern_match("**", t));
    free(p);
    free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_pattern_matches_what_the_table_says),
        cmocka_unit_test(test_a_bad_pattern_is_refused_with_the_place),
        cmocka_unit_test(test_a_pattern_may_be_as_long_as_a_type),
        cmocka_unit_test(test_random_patterns_match_as_the_plain_definition_says),
        cmocka_unit_test(test_hostile_input_is_walked_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
