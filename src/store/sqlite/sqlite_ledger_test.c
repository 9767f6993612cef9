/* Saves and loads of consumers, as far as only this store has it: one group with the log, damage, and
 * the settled set as bytes. The rest is in the tests of every store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"
#include "store/sqlite/store_i.h"

static void test_now_counts_the_events_of_the_same_group(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    begin(f);
    (void)add(f, "t", "1");
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    commit(f);
    assert_int_equal(c.ret_floor, 1);
    hark_store_consumer_clear(&c);
}

static void test_a_save_that_fails_half_way_ends_the_group(void **state)
{
    fixture *f = *state;
    char big[2001];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    begin(f);
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .id = "1", .source = "/test",
                                .data = big, .data_len = sizeof big));
    commit(f);
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){.limit = 1}));
    hark_store_consumer c = loaded(f, "c");
    hark_store_dead dead = {.event = pg.events[0], .reason = "rejected", .error = big};
    hark_store_save v = save_of(&c);
    v.floor = v.highest = 9;
    v.dead = &dead;
    v.n_dead = 1;
    hark_store_consumer_clear(&c);
    int limit = sqlite3_limit(f->store->conn.db, SQLITE_LIMIT_LENGTH, 3000);
    begin(f);
    /* not of the class refused: a group goes on after that */
    assert_err(f, HARK_ESTORE, OPS.consumer_save(f->store, &v, &f->ei));
    assert_says(f, "HARK_ETOOBIG");
    OPS.rollback(f->store);
    (void)sqlite3_limit(f->store->conn.db, SQLITE_LIMIT_LENGTH, limit);
    drop_page(&pg);
    c = loaded(f, "c");
    assert_int_equal(c.ret_floor, 1);
    hark_store_consumer_clear(&c);
}

static void test_state_and_events_roll_back_together(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    assert_ok(f, load(f, &c));
    hark_store_save v = save_of(&c);
    v.floor = 1;
    begin(f);
    (void)add(f, "t", "1");
    assert_ok(f, OPS.consumer_save(f->store, &v, &f->ei));
    OPS.rollback(f->store);
    assert_ok(f, load(f, &c));
    assert_int_equal(c.ret_floor, 0);
    assert_reads(f, "end", .limit = 1);
    hark_store_consumer_clear(&c);
}

static void test_a_damaged_settled_set_is_refused(void **state)
{
    fixture *f = *state;
    static const char *const bad[] = {"x'01'", "x'80'", "x'0180'", "x'ffffffffffffffffff01'",
                                      "x'00ffffffffffffff7f'"};
    hark_store_consumer c = consumer("c");
    assert_ok(f, load(f, &c));
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        char sql[96];
        (void)snprintf(sql, sizeof sql, "UPDATE hark_consumers SET settled = %s", bad[i]);
        run_sql(f->path, sql);
        assert_err(f, HARK_ECORRUPT, load(f, &c));
        assert_says(f, "consumer c is damaged");
    }
    hark_store_consumer_clear(&c);
}

static void test_ranges_are_as_documented(void **state)
{
    (void)state;
    hark_store_range ranges[] = {{12, 12}, {14, 300}}, *got = NULL;
    static const uint8_t bytes[] = {1, 0, 1, 0x9e, 2};
    hk_buf b = {0};
    size_t n = 0;
    hk_ranges_encode(10, ranges, 2, &b);
    assert_int_equal(b.len, sizeof bytes);
    assert_memory_equal(b.data, bytes, sizeof bytes);
    assert_int_equal(hk_ranges_decode(10, bytes, sizeof bytes, &got, &n), HARK_OK);
    assert_int_equal(n, 2);
    assert_memory_equal(got, ranges, sizeof ranges);
    free(got);
    hk_buf_free(&b);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_now_counts_the_events_of_the_same_group),
        T(test_a_save_that_fails_half_way_ends_the_group),
        T(test_state_and_events_roll_back_together),
        T(test_a_damaged_settled_set_is_refused),
        cmocka_unit_test(test_ranges_are_as_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
