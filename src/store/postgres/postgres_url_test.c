/* A store URL of PostgreSQL's taken apart: what goes to libpq, what texts say of it, which log it names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/postgres/store_i.h"

#include <stdlib.h>
#include <string.h>

typedef struct parts {
    char *info, *where, *schema;
    hark_errinfo ei;
} parts;

static hark_err take(const char *rest, parts *p)
{
    *p = (parts){0};
    return hk_pg_url(rest, &p->info, &p->where, &p->schema, &p->ei);
}

static void release(parts *p)
{
    free(p->info);
    free(p->where);
    free(p->schema);
}

static void assert_parts(const char *rest, const char *info, const char *where, const char *schema)
{
    parts p;
    if (take(rest, &p))
        fail_msg("%s: %s", rest, p.ei.text);
    assert_string_equal(p.info, info);
    assert_string_equal(p.where, where);
    assert_string_equal(p.schema, schema);
    release(&p);
}

static void assert_refused(const char *rest, const char *says)
{
    parts p;
    assert_int_equal(take(rest, &p), HARK_EINVAL);
    if (!strstr(p.ei.text, says))
        fail_msg("expected '%s' in: %s", says, p.ei.text);
    assert_null(strstr(p.ei.text, "secret"));
}

static void test_the_log_is_named_by_a_parameter_that_libpq_never_sees(void **state)
{
    (void)state;
    assert_parts("//u@h:5433/d", "postgresql://u@h:5433/d", "d at h:5433", "hark");
    assert_parts("//u@h:5433/d?log=shop", "postgresql://u@h:5433/d", "d at h:5433", "hark_shop");
    assert_parts("//u@h:5433/d?sslmode=prefer&log=a_1&application_name=x",
                 "postgresql://u@h:5433/d?sslmode=prefer&application_name=x", "d at h:5433",
                 "hark_a_1");
    assert_parts("//u@h:5433/d?log=a&sslmode=prefer", "postgresql://u@h:5433/d?sslmode=prefer",
                 "d at h:5433", "hark_a");
}

static void test_texts_name_the_database_and_never_the_password(void **state)
{
    (void)state;
    assert_parts("//u:secret@h:5433/d", "postgresql://u:secret@h:5433/d", "d at h:5433", "hark");
    assert_parts("//u:secret@:5433/d?host=/run/pg", "postgresql://u:secret@:5433/d?host=/run/pg",
                 "d at /run/pg:5433", "hark");
    assert_parts("//a:1,b:2/d", "postgresql://a:1,b:2/d", "d at a,b:1,2", "hark");
}

static void test_a_log_has_a_name_that_is_an_identifier(void **state)
{
    (void)state;
    assert_refused("//h/d?log=", "log= in the store URL");
    assert_refused("//h/d?log=Shop", "log=Shop");
    assert_refused("//h/d?log=a%22b", "a-z, 0-9 and _");
    assert_refused("//h/d?log=aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff",
                   "1 to 58");
}

static void test_what_is_no_url_of_postgresql_is_refused(void **state)
{
    (void)state;
    assert_refused("", "write postgresql://");
    assert_refused("d", "write postgresql://");
    assert_refused("//u:secret@[::1/d", "write postgresql://");
    assert_refused("//u:secret@h/d?nosuch=1", "\"nosuch\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_log_is_named_by_a_parameter_that_libpq_never_sees),
        cmocka_unit_test(test_texts_name_the_database_and_never_the_password),
        cmocka_unit_test(test_a_log_has_a_name_that_is_an_identifier),
        cmocka_unit_test(test_what_is_no_url_of_postgresql_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
