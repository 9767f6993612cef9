/* Tests of what everything stands on: buffers, strings, options, error texts, thread roles. */
#include "base/base.h"

#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

/* ---- buffers --------------------------------------------------------------------------------- */

static void test_a_buffer_keeps_every_byte_and_ends_in_nul(void **state UNUSED)
{
    hk_buf b = {0};
    for (unsigned i = 0; i < 100000; i++) {
        hk_buf_addc(&b, (char)(i % 251));
        assert_int_equal(b.data[b.len], '\0');
    }
    assert_int_equal(b.len, 100000);
    for (unsigned i = 0; i < 100000; i++)
        assert_int_equal((unsigned char)b.data[i], i % 251);
    hk_buf_free(&b);
    assert_null(b.data);
}

static void test_a_buffer_takes_bytes_strings_and_formats(void **state UNUSED)
{
    hk_buf b = {0};
    hk_buf_adds(&b, "one ");
    hk_buf_add(&b, "two-", 3);
    hk_buf_addf(&b, " %d%c%s", 3, ' ', "four");
    hk_buf_add(&b, NULL, 0);
    assert_string_equal(b.data, "one two 3 four");
    assert_int_equal(b.len, strlen("one two 3 four"));
    hk_buf_free(&b);
}

static void test_a_format_may_be_longer_than_the_buffer(void **state UNUSED)
{
    hk_buf b = {0};
    hk_buf_addf(&b, "%05000d", 7);
    assert_int_equal(b.len, 5000);
    assert_int_equal(b.data[4999], '7');
    hk_buf_free(&b);
}

static void test_an_impossible_reserve_is_remembered_as_failure(void **state UNUSED)
{
    hk_buf b = {0};
    hk_buf_adds(&b, "kept");
    assert_false(hk_buf_reserve(&b, SIZE_MAX));
    assert_true(b.failed);
    hk_buf_adds(&b, " not this");
    assert_int_equal(b.len, 4);
    assert_null(hk_buf_steal(&b, NULL)); /* and nothing leaks */
    assert_null(b.data);
}

static void test_clearing_keeps_the_memory_and_forgives_a_failure(void **state UNUSED)
{
    hk_buf b = {0};
    hk_buf_adds(&b, "something");
    size_t cap = b.cap;
    (void)hk_buf_reserve(&b, SIZE_MAX);
    hk_buf_clear(&b);
    assert_false(b.failed);
    assert_int_equal(b.cap, cap);
    assert_string_equal(b.data, "");
    hk_buf_free(&b);
}

static void test_stealing_hands_over_a_string_even_when_empty(void **state UNUSED)
{
    hk_buf b = {0};
    size_t len = 99;
    char *s = hk_buf_steal(&b, &len);
    assert_non_null(s);
    assert_int_equal(len, 0);
    assert_string_equal(s, "");
    free(s);
    hk_buf_adds(&b, "again");
    s = hk_buf_steal(&b, &len);
    assert_string_equal(s, "again");
    assert_int_equal(len, 5);
    assert_null(b.data);
    free(s);
}

static void check_json(const char *in, size_t len, const char *expected)
{
    hk_buf b = {0};
    hk_buf_add_json_string(&b, in, len);
    assert_string_equal(b.data, expected);
    hk_buf_free(&b);
}

static void test_json_strings_escape_quotes_backslashes_and_controls(void **state UNUSED)
{
    check_json("", 0, "\"\"");
    check_json("plain", 5, "\"plain\"");
    check_json("a\"b\\c/d", 7, "\"a\\\"b\\\\c/d\"");
    check_json("\n\r\t\b\f", 5, "\"\\n\\r\\t\\u0008\\u000c\"");
    check_json("\0\x1f\x7f", 3, "\"\\u0000\\u001f\\u007f\"");
    check_json("gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8e", 11,
               "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x8e\"");
    check_json("only\"first", 4, "\"only\"");
}

/* ---- strings --------------------------------------------------------------------------------- */

static void check_utf8(const char *s, size_t len, size_t valid)
{
    assert_int_equal(hk_utf8_valid(s, len), valid);
    char padded[64] = "01234567"; /* the same past the first word */
    memcpy(padded + 8, s, len);
    assert_int_equal(hk_utf8_valid(padded, len + 8), valid + 8);
}

static void test_utf8_is_valid_up_to_the_first_malformed_sequence(void **state UNUSED)
{
    check_utf8("", 0, 0);
    check_utf8("abc\0def", 7, 7);
    check_utf8("\xc3\xa9", 2, 2);
    check_utf8("\xe2\x82\xac", 3, 3);
    check_utf8("\xf0\x9f\x8c\x8e", 4, 4);
    check_utf8("\xf4\x8f\xbf\xbf", 4, 4); /* U+10FFFF */
    check_utf8("\xee\x80\x80", 3, 3);     /* U+E000, just after the surrogates */
    check_utf8("\xed\x9f\xbf", 3, 3);     /* U+D7FF, just before them */
}

static void test_utf8_refuses_what_rfc_3629_refuses(void **state UNUSED)
{
    check_utf8("ok\x80", 3, 2);             /* a lone continuation */
    check_utf8("ok\xc3", 3, 2);             /* cut off */
    check_utf8("ok\xe2\x82", 4, 2);         /* cut off */
    check_utf8("ok\xf0\x9f\x8c", 5, 2);     /* cut off */
    check_utf8("ok\xc0\xa0", 4, 2);         /* overlong */
    check_utf8("ok\xc1\xbf", 4, 2);         /* overlong */
    check_utf8("ok\xe0\x9f\xbf", 5, 2);     /* overlong */
    check_utf8("ok\xf0\x8f\xbf\xbf", 6, 2); /* overlong */
    check_utf8("ok\xed\xa0\x80", 5, 2);     /* a surrogate */
    check_utf8("ok\xf4\x90\x80\x80", 6, 2); /* past U+10FFFF */
    check_utf8("ok\xf5\x80\x80\x80", 6, 2);
    check_utf8("ok\xff", 3, 2);
    check_utf8("ok\xc3z", 4, 2);
    check_utf8("ok\xe2\x82z", 5, 2);
}

static bool parses(const char *s, uint64_t expected)
{
    uint64_t n = 42;
    return hk_parse_u64(s, strlen(s), &n) && n == expected;
}

static void test_decimals_are_read_up_to_the_largest(void **state UNUSED)
{
    assert_true(parses("0", 0));
    assert_true(parses("7", 7));
    assert_true(parses("007", 7));
    assert_true(parses("9007199254740993", UINT64_C(9007199254740993)));
    assert_true(parses("18446744073709551615", UINT64_MAX));
}

static void test_decimals_refuse_signs_spaces_and_overflow(void **state UNUSED)
{
    static const char *const bad[] = {"",
                                      " 1",
                                      "1 ",
                                      "+1",
                                      "-1",
                                      "0x1",
                                      "1.0",
                                      "1e3",
                                      "18446744073709551616",
                                      "99999999999999999999",
                                      "184467440737095516150"};
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        uint64_t n = 42;
        assert_false(hk_parse_u64(bad[i], strlen(bad[i]), &n));
        assert_int_equal(n, 42);
    }
}

static void test_duplicating_no_string_gives_none(void **state UNUSED)
{
    assert_null(hk_strdup(NULL));
    char *s = hk_strdup("copy");
    assert_string_equal(s, "copy");
    free(s);
}

/* ---- options --------------------------------------------------------------------------------- */

typedef struct old_opts {
    size_t size;
    int64_t a;
} old_opts;

typedef struct new_opts {
    size_t size;
    int64_t a;
    int64_t b;
} new_opts;

static void test_no_options_mean_all_defaults(void **state UNUSED)
{
    new_opts o = {.size = 1, .a = 2, .b = 3};
    assert_int_equal(hk_opts_take(NULL, &o, sizeof o, "new_opts", NULL), HARK_OK);
    assert_int_equal(o.size, sizeof o);
    assert_int_equal(o.a, 0);
    assert_int_equal(o.b, 0);
}

static void test_options_of_an_older_caller_are_filled_up_with_zeros(void **state UNUSED)
{
    new_opts o = {.b = 3};
    hark_err err = hk_opts_take(HARK_OPTS(old_opts, .a = 5), &o, sizeof o, "new_opts", NULL);
    assert_int_equal(err, HARK_OK);
    assert_int_equal(o.a, 5);
    assert_int_equal(o.b, 0);
    assert_int_equal(o.size, sizeof o);
}

static void test_larger_options_are_accepted_while_their_tail_is_zero(void **state UNUSED)
{
    old_opts o;
    hark_err err = hk_opts_take(HARK_OPTS(new_opts, .a = 5), &o, sizeof o, "old_opts", NULL);
    assert_int_equal(err, HARK_OK);
    assert_int_equal(o.a, 5);
    assert_int_equal(o.size, sizeof o);
}

static void test_options_with_an_unknown_tail_are_refused(void **state UNUSED)
{
    old_opts o;
    hark_errinfo ei = {0};
    hark_err err = hk_opts_take(HARK_OPTS(new_opts, .b = 1), &o, sizeof o, "old_opts", &ei);
    assert_int_equal(err, HARK_EINVAL);
    assert_int_equal(ei.err, HARK_EINVAL);
    assert_non_null(strstr(ei.text, "old_opts"));
    assert_non_null(strstr(ei.text, "byte 16"));
}

static void test_options_without_a_believable_size_are_refused(void **state UNUSED)
{
    const size_t sizes[] = {0, 1, sizeof(size_t) - 1, 65537, SIZE_MAX};
    for (size_t i = 0; i < HK_COUNTOF(sizes); i++) {
        old_opts o, given = {.size = sizes[i], .a = 1};
        hark_errinfo ei = {0};
        assert_int_equal(hk_opts_take(&given, &o, sizeof o, "old_opts", &ei), HARK_EINVAL);
        assert_non_null(strstr(ei.text, "HARK_OPTS(old_opts"));
    }
}

/* ---- error texts ----------------------------------------------------------------------------- */

static void test_a_failure_fills_code_and_text(void **state UNUSED)
{
    hark_errinfo ei = {0};
    assert_int_equal(hk_fail(&ei, HARK_EFULL, "disk %d of %s", 3, "four"), HARK_EFULL);
    assert_int_equal(ei.err, HARK_EFULL);
    assert_string_equal(ei.text, "disk 3 of four");
    assert_int_equal(hk_fail(NULL, HARK_EFULL, "nobody reads this"), HARK_EFULL);
    assert_int_equal(hark_errinfo_set(&ei, HARK_ENOTFOUND, "no %s\nhere", "cup"), HARK_ENOTFOUND);
    assert_int_equal(ei.err, HARK_ENOTFOUND);
    assert_string_equal(ei.text, "no cup?here");
    assert_int_equal(hark_errinfo_set(NULL, HARK_EFULL, "nobody reads this"), HARK_EFULL);
}

static void test_a_long_text_is_cut_and_never_overflows(void **state UNUSED)
{
    struct {
        hark_errinfo ei;
        char guard[16];
    } s;
    memset(&s, 'g', sizeof s);
    (void)hk_fail(&s.ei, HARK_EINVAL, "%02000d", 1);
    assert_int_equal(strlen(s.ei.text), sizeof s.ei.text - 1);
    (void)hk_wrap(&s.ei, HARK_EINVAL, "%02000d", 2);
    assert_int_equal(strlen(s.ei.text), sizeof s.ei.text - 1);
    (void)hk_wrap(&s.ei, HARK_EINVAL, "%0500d", 3);
    assert_int_equal(strlen(s.ei.text), sizeof s.ei.text - 1);
    for (size_t i = 0; i < sizeof s.guard; i++)
        assert_int_equal(s.guard[i], 'g');
}

static void test_wrapping_puts_the_context_before_the_cause(void **state UNUSED)
{
    hark_errinfo ei = {0};
    (void)hk_fail(&ei, HARK_EINVAL, "no such file");
    assert_int_equal(hk_wrap(&ei, HARK_ESTORE, "open %s", "x.db"), HARK_ESTORE);
    assert_string_equal(ei.text, "open x.db: no such file");
    assert_int_equal(ei.err, HARK_ESTORE);
    ei.text[0] = '\0';
    (void)hk_wrap(&ei, HARK_EFULL, "append");
    assert_string_equal(ei.text, "append: no space left in the store");
    assert_int_equal(hk_wrap(NULL, HARK_EFULL, "append"), HARK_EFULL);
}

static void test_an_error_text_is_one_line_of_utf8_whatever_it_quotes(void **state UNUSED)
{
    hark_errinfo ei = {0};
    (void)hk_fail(&ei, HARK_EINVAL, "name '%.3s' and '%s'", "ab\xc3\xa9", "x\r\n\xff\x7fy");
    assert_string_equal(ei.text, "name 'ab?' and 'x????y'");
    (void)hk_fail(&ei, HARK_EINVAL, "%0506d\xc3\xa9", 1);
    assert_int_equal(hk_utf8_valid(ei.text, strlen(ei.text)), strlen(ei.text));
}

static void test_every_code_has_a_name_a_text_a_class_and_a_status(void **state UNUSED)
{
#define X(name, value, cls, http, text)                                                            \
    assert_int_equal(HARK_##name, value);                                                          \
    assert_string_equal(hark_err_name(HARK_##name), "HARK_" #name);                                \
    assert_string_equal(hark_err_text(HARK_##name), text);                                         \
    assert_int_equal(hark_err_class(HARK_##name), HARK_CLASS_##cls);                               \
    assert_int_equal(hark_err_http(HARK_##name), http);
    HARK_ERR_MAP(X)
#undef X
    assert_string_equal(hark_err_name((hark_err)9999), "HARK_?");
    assert_int_equal(hark_err_class((hark_err)9999), HARK_CLASS_UNKNOWN);
    assert_int_equal(hark_err_http((hark_err)9999), 500);
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *look_around(void *arg)
{
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    int *seen = arg;
    seen[0] = (int)hk_role_get();
    seen[1] = sigismember(&blocked, SIGTERM);
    seen[2] = sigismember(&blocked, SIGSEGV);
    (void)hk_role_set(HK_ROLE_WRITER);
    seen[3] = hk_role_may_block();
    return NULL;
}

static void test_a_thread_starts_as_a_user_with_all_but_faults_blocked(void **state UNUSED)
{
    int seen[4] = {-1, -1, -1, -1};
    pthread_t t;
    sigset_t mine;
    assert_int_equal(hk_thread_start(&t, "a name that is longer than fifteen", look_around, seen),
                     HARK_OK);
    pthread_join(t, NULL);
    assert_int_equal(seen[0], HK_ROLE_USER);
    assert_int_equal(seen[1], 1);
    assert_int_equal(seen[2], 0);
    assert_int_equal(seen[3], false);
    pthread_sigmask(SIG_SETMASK, NULL, &mine);
    assert_int_equal(sigismember(&mine, SIGTERM), 0); /* the caller's own mask is as before */
}

static void test_only_users_and_handlers_may_block(void **state UNUSED)
{
    assert_true(hk_role_may_block());
    assert_int_equal(hk_role_set(HK_ROLE_HANDLER), HK_ROLE_USER);
    assert_true(hk_role_may_block());
    assert_int_equal(hk_role_set(HK_ROLE_LOOP), HK_ROLE_HANDLER);
    assert_false(hk_role_may_block());
    (void)hk_role_set(HK_ROLE_CLOSURE);
    assert_false(hk_role_may_block());
    (void)hk_role_set(HK_ROLE_USER);
}

static void test_an_array_grows_and_keeps_what_it_has(void **state)
{
    (void)state;
    uint64_t *list = NULL;
    size_t cap = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        list = hk_array_room(list, i, &cap, 3, sizeof *list);
        assert_non_null(list);
        assert_true(cap > i);
        list[i] = i;
    }
    assert_int_equal(cap, 1536); /* 3, 6, 12, ... */
    for (uint64_t i = 0; i < 1000; i++)
        assert_int_equal(list[i], i);
    free(list);
}

static void test_names_are_short_and_of_plain_characters(void **state)
{
    (void)state;
    assert_true(hk_name_valid("a", 3));
    assert_true(hk_name_valid("aZ9", 3));
    assert_true(hk_name_valid("_.:-", 4));
    assert_false(hk_name_valid("", 3));
    assert_false(hk_name_valid("abcd", 3));
    assert_false(hk_name_valid("a b", 3));
    assert_false(hk_name_valid("a/b", 3));
    assert_false(hk_name_valid("\xc3\xa4", 3));
}

static void test_a_failure_without_a_text_is_told_by_its_code(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    assert_string_equal(hk_err_says(HARK_ENOMEM, &ei), hark_err_text(HARK_ENOMEM));
    (void)hk_fail(&ei, HARK_ENOMEM, "no memory for %s", "this");
    assert_string_equal(hk_err_says(HARK_ENOMEM, &ei), "no memory for this");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_buffer_keeps_every_byte_and_ends_in_nul),
        cmocka_unit_test(test_a_buffer_takes_bytes_strings_and_formats),
        cmocka_unit_test(test_a_format_may_be_longer_than_the_buffer),
        cmocka_unit_test(test_an_impossible_reserve_is_remembered_as_failure),
        cmocka_unit_test(test_clearing_keeps_the_memory_and_forgives_a_failure),
        cmocka_unit_test(test_stealing_hands_over_a_string_even_when_empty),
        cmocka_unit_test(test_json_strings_escape_quotes_backslashes_and_controls),
        cmocka_unit_test(test_utf8_is_valid_up_to_the_first_malformed_sequence),
        cmocka_unit_test(test_utf8_refuses_what_rfc_3629_refuses),
        cmocka_unit_test(test_decimals_are_read_up_to_the_largest),
        cmocka_unit_test(test_decimals_refuse_signs_spaces_and_overflow),
        cmocka_unit_test(test_duplicating_no_string_gives_none),
        cmocka_unit_test(test_no_options_mean_all_defaults),
        cmocka_unit_test(test_options_of_an_older_caller_are_filled_up_with_zeros),
        cmocka_unit_test(test_larger_options_are_accepted_while_their_tail_is_zero),
        cmocka_unit_test(test_options_with_an_unknown_tail_are_refused),
        cmocka_unit_test(test_options_without_a_believable_size_are_refused),
        cmocka_unit_test(test_a_failure_fills_code_and_text),
        cmocka_unit_test(test_a_long_text_is_cut_and_never_overflows),
        cmocka_unit_test(test_wrapping_puts_the_context_before_the_cause),
        cmocka_unit_test(test_an_error_text_is_one_line_of_utf8_whatever_it_quotes),
        cmocka_unit_test(test_every_code_has_a_name_a_text_a_class_and_a_status),
        cmocka_unit_test(test_a_thread_starts_as_a_user_with_all_but_faults_blocked),
        cmocka_unit_test(test_only_users_and_handlers_may_block),
        cmocka_unit_test(test_an_array_grows_and_keeps_what_it_has),
        cmocka_unit_test(test_names_are_short_and_of_plain_characters),
        cmocka_unit_test(test_a_failure_without_a_text_is_told_by_its_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
