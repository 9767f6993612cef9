/* Messages of Server-Sent Events: nothing that a program puts into one can be read as another. */
#include "http/stream_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define EXPECT_WRITTEN(f, id, want)                                                                \
    do {                                                                                           \
        hk_buf b_ = {0};                                                                           \
        hk_frame_write(&b_, f, id);                                                                \
        assert_string_equal(b_.data, want);                                                        \
        hk_buf_free(&b_);                                                                          \
    } while (0)

static void test_a_message_has_id_name_and_data(void **state)
{
    hark_frame f = {0};
    (void)state;
    assert_int_equal(hark_frame_name(&f, "order"), HARK_OK);
    assert_int_equal(hark_frame_data(&f, "{}", 2), HARK_OK);
    EXPECT_WRITTEN(&f, "0fa4e000.1-7", "id: 0fa4e000.1-7\nevent: order\ndata: {}\n\n");
    EXPECT_WRITTEN(&f, NULL, "event: order\ndata: {}\n\n");
    hk_frame_free(&f);
}

static void test_the_last_name_and_data_count(void **state)
{
    hark_frame f = {0};
    (void)state;
    assert_int_equal(hark_frame_name(&f, "long name"), HARK_OK);
    assert_int_equal(hark_frame_name(&f, NULL), HARK_OK);
    assert_int_equal(hark_frame_data(&f, "first text", 10), HARK_OK);
    assert_int_equal(hark_frame_data(&f, "b", 1), HARK_OK);
    EXPECT_WRITTEN(&f, NULL, "data: b\n\n");
    hk_frame_free(&f);
}

static void test_a_name_with_control_characters_is_refused(void **state)
{
    static const char *const bad[] = {"a\rb", "a\nb", "a\r\ndata: x", "\n",
                                      "\x01", "\x7f", "a\tb",         "\xc3"};
    hark_frame f = {0};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(bad); i++)
        assert_int_equal(hark_frame_name(&f, bad[i]), HARK_EINVAL);
    hk_frame_free(&f);
}

static void test_data_is_split_at_every_end_of_line(void **state)
{
    static const char *const cases[][2] = {
        {"a\nb", "data: a\ndata: b\n\n"},
        {"a\rb", "data: a\ndata: b\n\n"},
        {"a\r\nb", "data: a\ndata: b\n\n"},
        {"a\n\rb", "data: a\ndata: \ndata: b\n\n"},
        {"a\r\n\r\nid: 9", "data: a\ndata: \ndata: id: 9\n\n"},
        {"a\r", "data: a\ndata: \n\n"},
        {"a\r\rb\n\nc", "data: a\ndata: \ndata: b\ndata: \ndata: c\n\n"},
        {"\r\n\n\r", "data: \ndata: \ndata: \ndata: \n\n"},
        {"a\r\n", "data: a\ndata: \n\n"},
        {"\n", "data: \ndata: \n\n"},
        {"", "data: \n\n"},
        {" x", "data:  x\n\n"},
    };
    hark_frame f = {0};
    (void)state;
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        assert_int_equal(hark_frame_data(&f, cases[i][0], strlen(cases[i][0])), HARK_OK);
        EXPECT_WRITTEN(&f, NULL, cases[i][1]);
    }
    hk_frame_free(&f);
}

static void test_data_is_utf8(void **state)
{
    hark_frame f = {0};
    (void)state;
    assert_int_equal(hark_frame_data(&f, "\xff", 1), HARK_EINVAL);
    assert_int_equal(hark_frame_data(&f, "\xc3\xa4", 2), HARK_OK);
    EXPECT_WRITTEN(&f, NULL, "data: \xc3\xa4\n\n");
    hk_frame_free(&f);
}

static void test_a_zero_byte_of_data_stays_in_its_line(void **state)
{
    hark_frame f = {0};
    hk_buf b = {0};
    (void)state;
    assert_int_equal(hark_frame_data(&f, "a\0\nb", 4), HARK_OK);
    hk_frame_write(&b, &f, NULL);
    assert_int_equal(b.len, 18);
    assert_memory_equal(b.data, "data: a\0\ndata: b\n\n", 18);
    hk_buf_free(&b);
    hk_frame_free(&f);
}

static void test_a_gap_says_what_is_missing(void **state)
{
    hk_buf b = {0};
    (void)state;
    hk_gap_write(&b, 3, 9, "retention", "0fa4e000.1-9");
    hk_gap_write(&b, 0, 0, "other log", "0fa4e000.1-2");
    assert_string_equal(b.data, "id: 0fa4e000.1-9\nevent: gap\n"
                                "data: {\"from\":3,\"to\":9,\"reason\":\"retention\"}\n\n"
                                "id: 0fa4e000.1-2\nevent: gap\n"
                                "data: {\"reason\":\"other log\"}\n\n");
    hk_buf_free(&b);
}

/* A second look for every end of line would take minutes. */
static void test_a_mebibyte_of_ends_of_line_is_written_in_one_pass(void **state)
{
    enum { LEN = 1 << 20 };
    static const char ends[] = "\r\n";
    char *text = malloc(LEN);
    (void)state;
    assert_non_null(text);
    for (int i = 0; i < 2; i++) {
        hark_frame f = {0};
        hk_buf b = {0};
        memset(text, ends[i], LEN);
        assert_int_equal(hark_frame_data(&f, text, LEN), HARK_OK);
        int64_t before = hk_mono_ms();
        hk_frame_write(&b, &f, NULL);
        assert_true(hk_mono_ms() - before < 3000);
        assert_int_equal(b.len, (LEN + 1) * strlen("data: \n") + 1);
        hk_buf_free(&b);
        hk_frame_free(&f);
    }
    free(text);
}

static void test_a_large_message_leaves_no_large_buffer(void **state)
{
    enum { LEN = 200 * 1024 };
    static char text[LEN];
    hark_frame f = {0};
    (void)state;
    assert_int_equal(hark_frame_data(&f, text, LEN), HARK_OK);
    hk_frame_clear(&f);
    assert_int_equal(f.text.cap, 0);
    assert_int_equal(hark_frame_data(&f, text, 100), HARK_OK);
    hk_frame_clear(&f);
    assert_true(f.text.cap > 0);
    hk_frame_free(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message_has_id_name_and_data),
        cmocka_unit_test(test_the_last_name_and_data_count),
        cmocka_unit_test(test_a_name_with_control_characters_is_refused),
        cmocka_unit_test(test_data_is_split_at_every_end_of_line),
        cmocka_unit_test(test_data_is_utf8),
        cmocka_unit_test(test_a_zero_byte_of_data_stays_in_its_line),
        cmocka_unit_test(test_a_gap_says_what_is_missing),
        cmocka_unit_test(test_a_mebibyte_of_ends_of_line_is_written_in_one_pass),
        cmocka_unit_test(test_a_large_message_leaves_no_large_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
