/* Whose file is it? Logs of this and older formats open; a newer one, another program's and what is
 * no database at all are refused and left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"

#include <sys/stat.h>

static void write_file(const char *path, const void *bytes, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void test_an_empty_file_becomes_a_log(void **state)
{
    fixture *f = *state;
    write_file(f->path, "", 0);
    assert_ok(f, open_log(f));
}

static void test_a_file_that_is_no_database_is_refused_and_left_alone(void **state)
{
    fixture *f = *state;
    char text[2048];
    memset(text, 'x', sizeof text);
    for (size_t len = 5; len < sizeof text; len += 2000) {
        write_file(f->path, text, len);
        assert_err(f, HARK_EFORMAT, open_log(f));
        assert_says(f, "is not a database");
        struct stat st;
        assert_int_equal(stat(f->path, &st), 0);
        assert_int_equal(st.st_size, len);
    }
}

static void test_the_database_of_another_program_is_refused(void **state)
{
    fixture *f = *state;
    run_sql(f->path, "CREATE TABLE accounts(id INTEGER PRIMARY KEY)");
    assert_err(f, HARK_EFORMAT, open_log(f));
    assert_says(f, "another program");
    run_sql(f->path, "PRAGMA application_id = 252006673");
    assert_err(f, HARK_EFORMAT, open_log(f));
    assert_says(f, "0x0f055111");
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM sqlite_master"), 1);
    run_sql(f->path, "DROP TABLE accounts");
    assert_err(f, HARK_EFORMAT, open_log(f)); /* empty, but marked as theirs */
}

static void test_a_log_of_a_newer_version_is_refused(void **state)
{
    fixture *f = *state;
    assert_ok(f, open_log(f));
    close_log(f);
    run_sql(f->path, "PRAGMA user_version = 7");
    assert_err(f, HARK_EFORMAT, open_log(f));
    assert_says(f, "made by a newer version (format 7; this library knows 1)");
}

/* The root of the sources, from how the compiler was called for this file. */
static void golden_path(char ret[512])
{
    static const char here[] = "src/store/sqlite/sqlite_format_test.c";
    const char *file = __FILE__;
    size_t root = strlen(file) - strlen(here);
    assert_string_equal(file + root, here);
    (void)snprintf(ret, 512, "%.*stests/data/golden/format-1.sqlite", (int)root, file);
}

static void copy_file(const char *from, const char *to)
{
    char buf[4096];
    size_t n;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    if (!in || !out)
        fail_msg("cannot copy %s", from);
    while ((n = fread(buf, 1, sizeof buf, in)) > 0)
        assert_int_equal(fwrite(buf, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
    assert_int_equal(fclose(in), 0);
}

static void test_a_log_of_format_1_opens_as_it_was_written(void **state)
{
    fixture *f = *state;
    char golden[512];
    page pg = {0};
    golden_path(golden);
    copy_file(golden, f->path);
    assert_ok(f, open_log(f));
    assert_reads(f, "1 2 3 end", .limit = 10);
    assert_reads(f, "1 3 end", .pattern = "order:*");
    assert_reads(f, "1 3 end", .subject = "o-1");
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_string_equal(hark_event_traceparent(pg.events[2]),
                        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_string_equal(hark_event_attr(pg.events[2], "agent"), "golden");
    drop_page(&pg);
    hark_store_consumer c = {
        .size = sizeof c, .name = "billing", .pattern = "order:*", .policy = "golden"};
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    assert_int_equal(c.ret_floor, 1);
    assert_int_equal(c.ret_n_settled, 1);
    assert_int_equal(c.ret_settled[0].first, 3);
    assert_int_equal(c.ret_n_rows, 1);
    assert_string_equal(c.ret_rows[0].error, "card declined");
    hark_store_consumer_clear(&c);
    assert_int_equal(add(f, "t", "goes-on"), 4);
    commit(f);
}

/* Not a test: writes the golden file anew. Only for a new format, never for an old one. */
static void write_golden(fixture *f)
{
    hark_ext ext = {.name = "agent", .value = "golden"};
    hark_store_consumer c = {
        .size = sizeof c, .name = "billing", .pattern = "order:*", .policy = "golden", .start = 1};
    assert_ok(f, open_log(f));
    begin(f);
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "order:created", .id = "1",
                                .source = "/golden", .subject = "o-1", .json = "{\"total\":1}"));
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "user:created", .id = "2",
                                .source = "/golden", .data = "\0\1", .data_len = 2));
    (void)add_spec(
        f, HARK_OPTS(hark_event_spec, .type = "order:paid", .id = "3", .source = "/golden",
                     .subject = "o-1", .key = "k", .time = "2026-01-31T12:00:00Z",
                     .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                     .json = "null", .extensions = &ext, .n_extensions = 1));
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    hark_store_range settled = {3, 3};
    hark_store_row row = {.sequence = 2,
                          .state = HARK_ROW_RETRY,
                          .attempts = 1,
                          .due_ns = 5,
                          .first_ns = 4,
                          .key = "k",
                          .error = "card declined"};
    hark_store_save save = {.size = sizeof save,
                            .consumer = c.ret_id,
                            .generation = c.ret_generation,
                            .floor = 1,
                            .highest = 3,
                            .settled = &settled,
                            .n_settled = 1,
                            .put = &row,
                            .n_put = 1};
    assert_ok(f, OPS.consumer_save(f->store, &save, &f->ei));
    commit(f);
    close_log(f);
}

static void maybe_write_golden(void **state)
{
    fixture *f = *state;
    const char *to = getenv("HARK_WRITE_GOLDEN");
    if (!to)
        return;
    write_golden(f);
    copy_file(f->path, to);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_dir, tear_down)
    const struct CMUnitTest tests[] = {
        T(maybe_write_golden),
        T(test_an_empty_file_becomes_a_log),
        T(test_a_file_that_is_no_database_is_refused_and_left_alone),
        T(test_the_database_of_another_program_is_refused),
        T(test_a_log_of_a_newer_version_is_refused),
        T(test_a_log_of_format_1_opens_as_it_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
