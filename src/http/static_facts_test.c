/* Dates, ranges and types of files. */
#include "http/http_i.h"
#include "http/middleware/static_files_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_dates_are_written_as_http_wants_them(void **state)
{
    (void)state;
    char text[HK_HTTP_DATE];
    hk_http_date(784111777, text);
    assert_string_equal(text, "Sun, 06 Nov 1994 08:49:37 GMT");
    hk_http_date(0, text);
    assert_string_equal(text, "Thu, 01 Jan 1970 00:00:00 GMT");
}

static void range(const char *text, uint64_t size, int status, uint64_t from, uint64_t len)
{
    uint64_t f = 0, n = size;
    assert_int_equal(hk_range(text, size, &f, &n), status);
    assert_int_equal(f, from);
    assert_int_equal(n, len);
}

static void test_one_range_is_understood_and_the_rest_ignored(void **state)
{
    (void)state;
    range("bytes=0-0", 10, 206, 0, 1);
    range("bytes=5-99", 10, 206, 5, 5);
    range("bytes=-99", 10, 206, 0, 10);
    range("bytes=-0", 10, 416, 0, 10);
    range("bytes=10-", 10, 416, 0, 10);
    range("bytes=0-", 0, 416, 0, 0);
    range("bytes=5-4", 10, 200, 0, 10);
    range("bytes=-", 10, 200, 0, 10);
    range("bytes=a-b", 10, 200, 0, 10);
    range("bytes=1-2,3-4", 10, 200, 0, 10);
    range("lines=1-2", 10, 200, 0, 10);
    range("bytes=99999999999999999999-", 10, 200, 0, 10);
}

static void test_types_go_by_the_end_of_the_name(void **state)
{
    (void)state;
    assert_string_equal(hk_media_of("a/b.HTML"), "text/html; charset=utf-8");
    assert_string_equal(hk_media_of("a.js/b"), "application/octet-stream");
    assert_string_equal(hk_media_of("noend"), "application/octet-stream");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dates_are_written_as_http_wants_them),
        cmocka_unit_test(test_one_range_is_understood_and_the_rest_ignored),
        cmocka_unit_test(test_types_go_by_the_end_of_the_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
