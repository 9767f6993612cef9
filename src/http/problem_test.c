/* Problem documents are valid JSON whatever goes into them. */
#include "http/http_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(const char *want, int status, const char *title, const char *detail,
                   const char *id, const char *faults)
{
    hk_buf b = {0};
    hk_problem_write(&b, status, title, detail, id, faults);
    assert_string_equal(b.data, want);
    hk_buf_free(&b);
}

static void test_a_problem_has_type_title_and_status(void **state)
{
    (void)state;
    expect("{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404}", 404, NULL, NULL,
           NULL, NULL);
    expect("{\"type\":\"about:blank\",\"title\":\"Too bad\",\"status\":400,\"detail\":\"why\","
           "\"requestid\":\"r1\",\"errors\":[]}",
           400, "Too bad", "why", "r1", "[]");
}

static void test_texts_are_escaped_and_cut_at_what_is_no_utf8(void **state)
{
    (void)state;
    expect("{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
           "\"detail\":\"a\\\"b\\\\c\\n\"}",
           400, NULL, "a\"b\\c\n\xff tail", NULL, NULL);
}

static void test_every_error_has_a_status_with_a_name(void **state)
{
    (void)state;
#define CHECK(name, value, cls, http, text)                                                        \
    if ((http) >= 400 && strstr(hk_status_text(http), " Error") && (http) != 500)                  \
        fail_msg("%d has no name", http);
    HARK_ERR_MAP(CHECK)
#undef CHECK
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_problem_has_type_title_and_status),
        cmocka_unit_test(test_texts_are_escaped_and_cut_at_what_is_no_utf8),
        cmocka_unit_test(test_every_error_has_a_status_with_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
