/* Counting what a query asks for gives what reading it gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/store_i.h"

enum { EVENTS = 200 };

/* Types a, b, c in turn, subject s on every fifth, one group for each ten; then some are removed. */
static int set_up_events(void **state)
{
    (void)set_up(state);
    fixture *f = *state;
    for (int i = 0; i < EVENTS; i++) {
        char type[2] = {(char)('a' + i % 3), '\0'}, id[16];
        (void)snprintf(id, sizeof id, "%d", i);
        if (i % 10 == 0)
            begin(f);
        (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = type, .id = id, .source = "/test",
                                    .subject = i % 5 == 0 ? "s" : NULL));
        if (i % 10 == 9)
            commit(f);
    }
    begin(f);
    (void)add(f, "dead_letter", "own");
    assert_ok(f, OPS.trim(f->store,
                          &(hark_store_trim){.size = sizeof(hark_store_trim),
                                             .pattern = "b",
                                             .keep = 40,
                                             .budget_ns = INT64_C(60000000000)},
                          &f->ei));
    commit(f);
    return 0;
}

static uint64_t count(fixture *f, hark_store_query q)
{
    uint64_t n = 12345;
    q.size = sizeof q;
    assert_ok(f, OPS.count(f->store, &q, &n, &f->ei));
    return n;
}

static uint64_t count_by_reading(fixture *f, hark_store_query q)
{
    page pg = {0};
    uint64_t n = 0;
    for (bool end = false; !end; end = pg.p.end) {
        assert_ok(f, read_into(f, &pg, q));
        n += pg.p.n;
        q.after = pg.p.covered;
    }
    drop_page(&pg);
    return n;
}

static void test_counting_gives_what_reading_gives(void **state)
{
    fixture *f = *state;
    static const char *const patterns[] = {NULL, "*", "**", "a", "b", "x", "dead_letter"};
    static const struct {
        uint64_t after, before;
    } ranges[] = {{0, 0}, {10, 0}, {0, 11}, {20, 151}, {50, 51}, {50, 52}, {300, 0}, {0, 999}};
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = 99, .limit = 1}));
    int64_t middle = hark_event_recorded_ns(pg.events[0]);
    drop_page(&pg);
    for (size_t i = 0; i < HK_COUNTOF(patterns) * HK_COUNTOF(ranges) * 6; i++) {
        hark_store_query q = {.pattern = patterns[i % 7],
                              .after = ranges[i / 7 % 8].after,
                              .before = ranges[i / 7 % 8].before,
                              .from_ns = i / 56 % 3 == 1 ? middle : 0,
                              .to_ns = i / 56 % 3 == 2 ? middle : 0,
                              .subject = i / 168 ? "s" : NULL};
        assert_int_equal(count(f, q), count_by_reading(f, q));
    }
}

static void test_limits_and_direction_do_not_matter(void **state)
{
    fixture *f = *state;
    assert_int_equal(count(f, (hark_store_query){.pattern = "b", .limit = 3}), 40);
    assert_int_equal(count(f, (hark_store_query){.pattern = "b", .descending = 1}), 40);
    assert_int_equal(count(f, (hark_store_query){.subject = "nobody"}), 0);
}

static void test_more_than_a_slice_is_counted(void **state)
{
    fixture *f = *state;
    run_sql(
        f->path,
        "INSERT INTO hark_types VALUES(1, 'a'), (2, 'b'); INSERT INTO hark_sources VALUES(1, 's');"
        "INSERT INTO hark_events(seq, recorded, source_id, id, type_id, time, dataversion, "
        "check_sum, digest, subject, subject_version) "
        "WITH n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < 150000) "
        "SELECT i, i, 1, i, 1 + i % 2, 1, 1, 1, x'00', 's', i FROM n");
    assert_int_equal(count(f, (hark_store_query){.pattern = "*"}), 150000);
    assert_int_equal(count(f, (hark_store_query){.pattern = "b", .after = 10}), 74995);
    assert_int_equal(count(f, (hark_store_query){.pattern = "a", .subject = "s"}), 75000);
    assert_int_equal(count(f, (hark_store_query){.from_ns = 101, .to_ns = 140001}), 139900);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counting_gives_what_reading_gives, set_up_events,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_limits_and_direction_do_not_matter, set_up_events,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_more_than_a_slice_is_counted, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
