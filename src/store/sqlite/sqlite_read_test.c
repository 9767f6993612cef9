/* Reading the log: by sequence, type, subject and time, both ways, without gap, repeat or scan. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/store_i.h"

/* 40 events of 20 types: type n at sequences n and n + 20, ids "0" to "39". */
static void add_twenty_types(fixture *f)
{
    begin(f);
    for (int i = 0; i < 40; i++) {
        char type[16], id[16];
        (void)snprintf(type, sizeof type, "k:%c", 'a' + i % 20);
        (void)snprintf(id, sizeof id, "%d", i);
        (void)add(f, type, id);
    }
    commit(f);
}

static void test_a_read_tells_what_is_no_longer_there(void **state)
{
    fixture *f = *state;
    page pg = {0};
    add_twenty_types(f);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_int_equal(pg.p.gap, 0);
    run_sql(f->path, "DELETE FROM hark_events WHERE seq <= 10");
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = 3, .pattern = "k:l"}));
    assert_int_equal(pg.p.gap, 10);
    assert_int_equal(pg.p.n, 2);
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = 10}));
    assert_int_equal(pg.p.gap, 0);
    run_sql(f->path, "INSERT INTO hark_meta VALUES('last_sequence', 40); DELETE FROM hark_events");
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    assert_int_equal(pg.p.gap, 40);
    assert_int_equal(pg.p.covered, 40);
    assert_true(pg.p.end);
}

static void test_subject_versions_count_each_subject(void **state)
{
    fixture *f = *state;
    static const char *const subjects[] = {"a", "b", "a", "a", "b"};
    begin(f);
    for (size_t i = 0; i < 5; i++)
        (void)add_spec(
            f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .subject = subjects[i]));
    (void)add(f, "t", "none");
    commit(f);
    assert_int_equal(
        number_sql(f->path, "SELECT group_concat(subject_version, '') FROM hark_events"), 11232);
    reopen_log(f);
    begin(f);
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .subject = "a"));
    commit(f);
    assert_int_equal(number_sql(f->path, "SELECT subject_version FROM hark_events WHERE seq = 7"),
                     4);
    assert_reads(f, "1 3 4 7 end", .subject = "a");
    assert_reads(f, "3 4 end", .subject = "a", .after = 1, .before = 7);
    assert_reads(f, "4 3 end", .subject = "a", .after = 1, .before = 7, .descending = 1);
    assert_reads(f, "7 4 more from 4", .subject = "a", .limit = 2, .descending = 1);
    assert_reads(f, "end", .subject = "nobody");
}

static void test_reading_by_type_both_ways(void **state)
{
    fixture *f = *state;
    assert_reads(f, "end", .pattern = "k:a");
    add_twenty_types(f);
    assert_reads(f, "1 21 end", .pattern = "k:a");
    assert_reads(f, "21 1 end", .pattern = "k:a", .descending = 1);
    assert_reads(f, "21 end", .pattern = "k:a", .after = 1);
    assert_reads(f, "1 end", .pattern = "k:a", .before = 21);
    assert_reads(f, "end", .pattern = "k:zzz");
    assert_reads(f, "1 2 more from 2", .pattern = "k:*", .limit = 2);
    begin(f);
    (void)add(f, "late:one", "x");
    (void)add(f, "late:two", "y");
    (void)add(f, "late:one", "z");
    commit(f);
    assert_reads(f, "41 42 43 end", .pattern = "late:*"); /* a merge of two types */
    assert_reads(f, "43 42 more from 42", .pattern = "late:*", .descending = 1, .limit = 2);
    assert_reads(f, "40 more from 40", .pattern = "k:*", .after = 39, .limit = 1);
    assert_reads(f, "40 end", .pattern = "k:*", .after = 39);
}

static void test_pages_cover_the_log_without_gap_or_repeat(void **state)
{
    fixture *f = *state;
    add_twenty_types(f);
    static const char *const patterns[] = {NULL, "**", "k:*", "k:c"};
    static const size_t expected[] = {40, 40, 40, 2};
    for (size_t i = 0; i < 4; i++)
        for (int down = 0; down < 2; down++) {
            page pg = {0};
            size_t n = 0;
            uint64_t after = 0, before = 0;
            do {
                assert_ok(f, read_into(f, &pg,
                                       (hark_store_query){.pattern = patterns[i],
                                                          .after = after,
                                                          .before = before,
                                                          .limit = 7,
                                                          .descending = down}));
                n += pg.p.n;
                *(down ? &before : &after) = pg.p.covered;
            } while (!pg.p.end);
            drop_page(&pg);
            assert_int_equal(n, expected[i]);
        }
}

static void test_hark_s_own_types_match_only_by_name(void **state)
{
    fixture *f = *state;
    begin(f);
    (void)add(f, "hark:started", "1");
    (void)add(f, "dead_letter", "2");
    (void)add(f, "order", "3");
    commit(f);
    assert_reads(f, "1 2 3 end", .limit = 10);
    assert_reads(f, "3 end", .pattern = "**");
    assert_reads(f, "1 end", .pattern = "hark:**");
    assert_reads(f, "2 end", .pattern = "dead_letter");
}

static void test_recorded_times_bound_a_read(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 5; i++) {
        char id[8];
        (void)snprintf(id, sizeof id, "%d", i);
        begin(f);
        (void)add(f, "t", id);
        commit(f);
    }
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    int64_t second = hark_event_recorded_ns(pg.events[1]),
            fourth = hark_event_recorded_ns(pg.events[3]);
    drop_page(&pg);
    assert_reads(f, "2 3 end", .from_ns = second, .to_ns = fourth);
    assert_reads(f, "3 2 end", .from_ns = second, .to_ns = fourth, .descending = 1);
    assert_reads(f, "4 5 end", .from_ns = fourth);
    assert_reads(f, "end", .from_ns = INT64_MAX);
    assert_reads(f, "end", .to_ns = 1);
    assert_reads(f, "1 2 3 4 5 end", .to_ns = INT64_MAX);
}

static void test_a_page_stops_at_its_limit_of_bytes(void **state)
{
    fixture *f = *state;
    add_twenty_types(f);
    assert_reads(f, "1 2 3 more from 3", .limit_bytes = 15); /* 7 bytes of data each */
}

static void test_events_with_and_without_extras_mix(void **state)
{
    fixture *f = *state;
    begin(f);
    for (int i = 0; i < 30; i++)
        (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s",
                                    .correlationid = i % 7 == 3 ? "c" : NULL));
    commit(f);
    for (int down = 0; down < 2; down++)
        for (int again = 0; again < 2; again++) {
            page pg = {0};
            assert_ok(f, read_into(f, &pg, (hark_store_query){.descending = down}));
            assert_int_equal(pg.p.n, 30);
            for (size_t i = 0; i < 30; i++) {
                uint64_t seq = down ? 30 - i : i + 1;
                assert_int_equal(hark_event_sequence(pg.events[i]), seq);
                assert_int_equal(hark_event_correlationid(pg.events[i]) != NULL,
                                 (seq - 1) % 7 == 3);
            }
            drop_page(&pg);
        }
}

static char *plan_of(const char *path, hk_sql which)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *st = NULL;
    hk_buf sql = {0}, plan = {0};
    hk_buf_addf(&sql, "EXPLAIN QUERY PLAN %s", hk_sql_text(which));
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql.data, -1, &st, NULL), SQLITE_OK);
    while (sqlite3_step(st) == SQLITE_ROW)
        hk_buf_addf(&plan, "%s;", (const char *)sqlite3_column_text(st, 3));
    sqlite3_finalize(st);
    sqlite3_close(db);
    hk_buf_free(&sql);
    return plan.data;
}

static void assert_plan(fixture *f, hk_sql which, const char *part)
{
    char *plan = plan_of(f->path, which);
    if (!strstr(plan, part) || strstr(plan, "TEMP B-TREE") || strstr(plan, "SCAN"))
        fail_msg("%s: expected '%s', got: %s", hk_sql_text(which), part, plan);
    free(plan);
}

static void test_no_read_scans_or_sorts(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < HK_TYPE_CURSORS; i += 7) {
        assert_plan(f, (hk_sql)(HK_SQL_TYPE_UP + i),
                    "USING INDEX hark_events_by_type (type_id=? AND rowid>? AND rowid<?)");
        assert_plan(f, (hk_sql)(HK_SQL_TYPE_DOWN + i),
                    "USING INDEX hark_events_by_type (type_id=? AND");
    }
    assert_plan(f, HK_SQL_SCAN_UP, "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)");
    assert_plan(f, HK_SQL_NARROW_DOWN, "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)");
    assert_plan(f, HK_SQL_SUBJECT_UP, "USING INDEX hark_events_by_subject (subject=? AND");
    assert_plan(f, HK_SQL_SUBJECT_VERSION,
                "USING COVERING INDEX hark_events_by_subject (subject=?)");
    assert_plan(f, HK_SQL_SUBJECT_FROM,
                "USING COVERING INDEX hark_events_by_subject (subject=? AND");
    assert_plan(f, HK_SQL_FIND_EVENT, "USING INDEX hark_events_by_id (id=? AND source_id=?)");
    assert_plan(f, HK_SQL_RECORDED_FROM, "USING INTEGER PRIMARY KEY");
    assert_plan(f, HK_SQL_DELIVERIES, "USING PRIMARY KEY (consumer_id=?)");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_read_tells_what_is_no_longer_there),
        T(test_subject_versions_count_each_subject),
        T(test_reading_by_type_both_ways),
        T(test_pages_cover_the_log_without_gap_or_repeat),
        T(test_hark_s_own_types_match_only_by_name),
        T(test_recorded_times_bound_a_read),
        T(test_a_page_stops_at_its_limit_of_bytes),
        T(test_events_with_and_without_extras_mix),
        T(test_no_read_scans_or_sorts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
