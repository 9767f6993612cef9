/* Whose file is it? Logs of this and older formats open; a newer one, another program's and what is
 * no database at all are refused and left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/store_i.h"

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
    assert_says(f, "made by a newer version (format 7; this library knows 3)");
}

/* The golden file of a format: the root of the sources is known from how the compiler was called
 * for this file. */
static void golden_path(int format, char ret[512])
{
    static const char here[] = "src/store/sqlite/sqlite_format_test.c";
    const char *file = __FILE__;
    size_t root = strlen(file) - strlen(here);
    assert_string_equal(file + root, here);
    (void)snprintf(ret, 512, "%.*stests/data/golden/format-%d.sqlite", (int)root, file, format);
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

static void open_golden(fixture *f, int format)
{
    char golden[512];
    golden_path(format, golden);
    copy_file(golden, f->path);
    assert_ok(f, open_log(f));
    assert_int_equal(number_sql(f->path, "PRAGMA user_version"), HK_SQLITE_FORMAT);
}

/* What every format holds. */
static void assert_golden_events(fixture *f)
{
    page pg = {0};
    assert_reads(f, "1 2 3 end", .limit = 10);
    assert_reads(f, "1 3 end", .pattern = "order:*");
    assert_reads(f, "1 3 end", .subject = "o-1");
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_string_equal(hark_event_traceparent(pg.events[2]),
                        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    assert_string_equal(hark_event_attr(pg.events[2], "agent"), "golden");
    drop_page(&pg);
}

/* Opens the golden consumer; the group goes on. */
static void assert_golden_consumer(fixture *f, hark_store_consumer *c)
{
    *c = (hark_store_consumer){
        .size = sizeof *c, .name = "billing", .pattern = "order:*", .policy = "golden"};
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, c, &f->ei));
    assert_int_equal(c->ret_floor, 1);
    assert_int_equal(c->ret_n_settled, 1);
    assert_int_equal(c->ret_settled[0].first, 3);
    assert_int_equal(c->ret_n_rows, 1);
    assert_string_equal(c->ret_rows[0].error, "card declined");
}

static bool count_letter(void *ud, const hark_store_letter *l)
{
    *(uint64_t *)ud += l->id;
    return true;
}

static uint64_t letter_ids(fixture *f)
{
    uint64_t sum = 0;
    assert_ok(f, OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .state = 1),
                             count_letter, &sum, &f->ei));
    return sum;
}

static void test_a_log_of_format_1_opens_as_it_was_written_and_goes_on(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    open_golden(f, 1);
    assert_golden_events(f);
    assert_golden_consumer(f, &c);
    assert_int_equal(c.ret_paused, 0);
    assert_string_equal(c.ret_rerun.id, "");
    assert_int_equal(c.ret_gap_to, 0);
    hark_store_consumer_clear(&c);
    assert_int_equal(add(f, "t", "goes-on"), 4);
    commit(f);
    assert_int_equal(letter_ids(f), 0);
    reopen_log(f); /* once migrated it is as any other */
    assert_golden_consumer(f, &c);
    hark_store_consumer_clear(&c);
    commit(f);
}

static void test_dead_letters_of_format_1_are_listed_and_redriven(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    char golden[512];
    golden_path(1, golden);
    copy_file(golden, f->path);
    run_sql(f->path, "INSERT INTO dead_letters VALUES(6, 1, 1, 3, 'rejected', NULL, 2, 5, 6, 1, 7,"
                     "'order:paid', '{\"specversion\":\"1.0\",\"id\":\"3\",\"source\":"
                     "\"/golden\",\"type\":\"order:paid\",\"partitionkey\":\"k\"}', 'null')");
    assert_ok(f, open_log(f));
    assert_int_equal(letter_ids(f), 6);
    begin(f);
    assert_ok(f, OPS.letter_redrive(f->store, 6, 1, &done, &f->ei));
    commit(f);
    assert_string_equal(done.key, "k");
    free(done.key);
}

/* The schema as one text; it ends up the same whichever format a log began with. */
static void schema_of(fixture *f, hk_buf *ret)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    hk_buf_clear(ret);
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT name, ifnull(sql, 0) FROM sqlite_master ORDER BY 1",
                                        -1, &st, NULL),
                     SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW)
        hk_buf_addf(ret, "%s: %s\n", sqlite3_column_text(st, 0), sqlite3_column_text(st, 1));
    assert_int_equal(sqlite3_finalize(st), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_a_log_of_any_format_has_the_schema_of_a_new_one(void **state)
{
    fixture *f = *state;
    hk_buf fresh = {0}, golden = {0};
    assert_ok(f, open_log(f));
    schema_of(f, &fresh);
    for (int format = 1; format <= HK_SQLITE_FORMAT; format++) {
        close_log(f);
        open_golden(f, format);
        schema_of(f, &golden);
        assert_string_equal(golden.data, fresh.data);
    }
    hk_buf_free(&fresh);
    hk_buf_free(&golden);
}

static bool count_schedule(void *ud, const hark_store_schedule *s)
{
    *(uint64_t *)ud += s->id;
    assert_string_equal(hark_event_id(s->event), "later");
    assert_int_equal(s->due_ns, 9);
    return true;
}

static bool count_replay(void *ud, const hark_store_replay *r)
{
    *(uint64_t *)ud += r->done;
    assert_string_equal(r->id, "again");
    return true;
}

static void test_a_log_of_format_2_opens_as_it_was_written(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    uint64_t schedules = 0, replays = 0;
    open_golden(f, 2);
    assert_golden_events(f);
    assert_golden_consumer(f, &c);
    assert_int_equal(c.ret_paused, 1);
    assert_int_equal(c.ret_generation, 2);
    assert_string_equal(c.ret_rerun.id, "rerun");
    assert_int_equal(c.ret_rerun.from, 2);
    assert_int_equal(c.ret_rerun.upto, 3);
    assert_int_equal(c.ret_gap_from, 1);
    assert_int_equal(c.ret_gap_to, 1);
    hark_store_consumer_clear(&c);
    commit(f);
    assert_int_equal(letter_ids(f), 1);
    assert_ok(f, OPS.schedules(f->store, 0, 0, true, count_schedule, &schedules, &f->ei));
    assert_ok(f, OPS.replays(f->store, count_replay, &replays, &f->ei));
    assert_int_equal(schedules, 1);
    assert_int_equal(replays, 12);
}

/* "order:paid 2: 1 0 0; ": events, dead letters, schedules. */
static bool say_version(void *ud, const hark_store_version *v)
{
    hk_buf_addf(ud, "%s %d: %d %d %d; ", v->type, (int)v->version, (int)v->events,
                (int)v->dead_letters, (int)v->schedules);
    assert_int_not_equal(v->first_ns, 0);
    assert_true(v->last_ns >= v->first_ns);
    return true;
}

static void assert_versions(fixture *f, const char *expected)
{
    hk_buf text = {0};
    assert_ok(f, OPS.versions(f->store, say_version, &text, &f->ei));
    assert_string_equal(text.len ? text.data : "", expected);
    hk_buf_free(&text);
}

static void test_a_log_of_an_older_format_is_counted_when_it_is_migrated(void **state)
{
    fixture *f = *state;
    open_golden(f, 1);
    assert_versions(f, "order:created 1: 1 0 0; order:paid 1: 1 0 0; user:created 1: 1 0 0; ");
    close_log(f);
    open_golden(f, 2);
    assert_versions(f, "order:created 1: 1 1 1; order:paid 1: 1 0 0; user:created 1: 1 0 0; ");
    assert_int_equal(number_sql(f->path, "SELECT sum(count) FROM hark_versions"), 3);
    assert_int_equal(number_sql(f->path, "SELECT value FROM hark_meta WHERE key = 'counted'"), 3);
    begin(f);
    (void)add(f, "order:paid", "4");
    commit(f);
    reopen_log(f);
    assert_versions(f, "order:created 1: 1 1 1; order:paid 1: 2 0 0; user:created 1: 1 0 0; ");
}

static void test_what_stands_in_the_way_of_a_new_format_is_named(void **state)
{
    fixture *f = *state;
    char golden[512];
    golden_path(2, golden);
    copy_file(golden, f->path);
    run_sql(f->path, "CREATE TABLE hark_meta(mine)");
    assert_err(f, HARK_EFORMAT, OPS.open(f->path, NULL, NULL, &f->store, &f->ei));
    assert_says(f, "hark_meta");
    assert_says(f, "rename or drop");
    assert_int_equal(number_sql(f->path, "PRAGMA user_version"), 2);
    run_sql(f->path, "DROP TABLE hark_meta");
    assert_ok(f, OPS.open(f->path, NULL, NULL, &f->store, &f->ei));
}

static void test_a_log_of_format_3_opens_as_it_was_written(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    open_golden(f, 3);
    assert_golden_events(f);
    assert_golden_consumer(f, &c);
    hark_store_consumer_clear(&c);
    c = (hark_store_consumer){.size = sizeof c, .name = "tx", .find = 1};
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    assert_int_equal(c.ret_n_rows, 0); /* the row says that 2 is settled */
    assert_int_equal(c.ret_n_settled, 1);
    assert_int_equal(c.ret_settled[0].first, 2);
    hark_store_consumer_clear(&c);
    commit(f);
    assert_versions(f, "order:created 1: 1 1 1; order:paid 2: 1 0 0; user:created 1: 1 0 0; ");
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_kept WHERE until = 7"), 1);
}

/* ---- not tests: writing the golden file anew, for a new format only -------------------------- */

static void write_events(fixture *f)
{
    hark_ext ext = {.name = "agent", .value = "golden"};
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "order:created", .id = "1",
                                .source = "/golden", .subject = "o-1", .json = "{\"total\":1}"));
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "user:created", .id = "2",
                                .source = "/golden", .data = "\0\1", .data_len = 2));
    (void)add_spec(
        f, HARK_OPTS(hark_event_spec, .type = "order:paid", .id = "3", .source = "/golden",
                     .subject = "o-1", .key = "k", .dataversion = 2, .time = "2026-01-31T12:00:00Z",
                     .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                     .json = "null", .extensions = &ext, .n_extensions = 1));
}

static void save_state(fixture *f, const hark_store_consumer *c, uint64_t generation,
                       hark_store_dead *dead)
{
    hark_store_range settled = {3, 3};
    hark_store_row row = {.sequence = 2,
                          .state = HARK_ROW_RETRY,
                          .attempts = 1,
                          .due_ns = 5,
                          .first_ns = 4,
                          .key = "k",
                          .error = "card declined"};
    hark_store_save v = {.size = sizeof v,
                         .consumer = c->ret_id,
                         .generation = generation,
                         .floor = 1,
                         .highest = 3,
                         .settled = &settled,
                         .n_settled = 1,
                         .put = &row,
                         .n_put = 1,
                         .dead = dead,
                         .n_dead = dead ? 1 : 0};
    assert_ok(f, OPS.consumer_save(f->store, &v, &f->ei));
}

static void write_consumer(fixture *f)
{
    hark_event *e = simple_event("order:created", "1");
    hark_store_consumer c = {
        .size = sizeof c, .name = "billing", .pattern = "order:*", .policy = "golden", .start = 1};
    hark_store_dead dead = {.event = e, .reason = "rejected", .attempts = 1, .crashes = 1};
    hark_event_stamp(e, 1, 1);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    save_state(f, &c, 1, &dead);
    hark_store_reset r = {.size = sizeof r,
                          .consumer = c.ret_id,
                          .start = 2,
                          .start_sequence = 2,
                          .rerun = {.id = "rerun"}};
    assert_ok(f, OPS.consumer_reset(f->store, &r, &f->ei));
    save_state(f, &c, 2, NULL);
    assert_ok(f, OPS.consumer_pause(f->store, c.ret_id, true, &f->ei));
    hark_store_consumer_clear(&c);
    hark_event_unref(e);
}

static void write_ack(fixture *f)
{
    hark_store_consumer c = {
        .size = sizeof c, .name = "tx", .pattern = "**", .policy = "golden", .start = 1};
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    assert_ok(f, OPS.ack(f->store, c.ret_id, 1, NO_SHARE, 2, &f->ei));
    hark_store_consumer_clear(&c);
}

static void write_others(fixture *f)
{
    uint64_t sequence;
    bool duplicate;
    hark_event *e = simple_event("order:created", "later");
    hark_store_schedule sch = {.due_ns = 9, .created_ns = 8, .event = e};
    hark_store_replay replay = {.id = "again", .pattern = "order:**", .done = 12, .state = 1};
    assert_ok(f, OPS.schedule_add(f->store, &sch, &sequence, &duplicate, &f->ei));
    assert_ok(f, OPS.replay_put(f->store, &replay, &f->ei));
    hark_event_unref(e);
}

static void write_golden(fixture *f)
{
    assert_ok(f, open_log(f));
    begin(f);
    write_events(f);
    write_consumer(f);
    write_ack(f);
    write_others(f);
    commit(f);
    close_log(f);
    run_sql(f->path, "INSERT INTO hark_gaps VALUES(1, 1, 1);"
                     "INSERT INTO hark_kept VALUES('key', 7, 'reply');"
                     "PRAGMA wal_checkpoint(TRUNCATE)");
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
        T(test_a_log_of_format_1_opens_as_it_was_written_and_goes_on),
        T(test_dead_letters_of_format_1_are_listed_and_redriven),
        T(test_a_log_of_format_2_opens_as_it_was_written),
        T(test_a_log_of_an_older_format_is_counted_when_it_is_migrated),
        T(test_what_stands_in_the_way_of_a_new_format_is_named),
        T(test_a_log_of_format_3_opens_as_it_was_written),
        T(test_a_log_of_any_format_has_the_schema_of_a_new_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
