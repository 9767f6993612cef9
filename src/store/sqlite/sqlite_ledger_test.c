/* The durable state of consumers: what was saved is what is loaded, in one step with the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"
#include "store/sqlite/store_i.h"

static uint64_t start_at(fixture *f, const char *name, int64_t start, uint64_t sequence,
                         int64_t time)
{
    hark_store_consumer c = consumer(name);
    c.start = start;
    c.start_sequence = sequence;
    c.start_time_ns = time;
    assert_ok(f, load(f, &c));
    assert_true(c.ret_created);
    assert_int_equal(c.ret_generation, 1);
    assert_int_equal(c.ret_highest, c.ret_floor);
    hark_store_consumer_clear(&c);
    return c.ret_floor;
}

static void test_a_new_consumer_starts_where_it_was_told_to(void **state)
{
    fixture *f = *state;
    assert_int_equal(start_at(f, "empty-now", NOW, 0, 0), 0);
    assert_int_equal(start_at(f, "empty-first", FIRST, 0, 0), 0);
    assert_int_equal(start_at(f, "empty-time", TIME, 0, 1), 0);
    add_five(f);
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    int64_t third = hark_event_recorded_ns(pg.events[2]);
    drop_page(&pg);
    assert_int_equal(start_at(f, "now", NOW, 0, 0), 5);
    assert_int_equal(start_at(f, "first", FIRST, 0, 0), 0);
    assert_int_equal(start_at(f, "sequence", SEQUENCE, 4, 0), 3);
    assert_int_equal(start_at(f, "sequence-0", SEQUENCE, 0, 0), 0);
    assert_int_equal(start_at(f, "future", SEQUENCE, 100, 0), 99);
    assert_int_equal(start_at(f, "time", TIME, 0, third), 2);
    assert_int_equal(start_at(f, "time-0", TIME, 0, 0), 0);
    assert_int_equal(start_at(f, "time-end", TIME, 0, INT64_MAX), 5);
}

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

static void test_the_first_registration_fixes_pattern_policy_and_start(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c"), other = consumer("c");
    assert_ok(f, load(f, &c));
    add_five(f);
    assert_ok(f, load(f, &other));
    assert_false(other.ret_created);
    assert_int_equal(other.ret_id, c.ret_id);
    assert_int_equal(other.ret_floor, 0);
    other.policy = "q";
    assert_err(f, HARK_ECONFLICT, load(f, &other));
    assert_says(f, "consumer c is registered for t with p");
    other.update = 1;
    assert_ok(f, load(f, &other));
    assert_err(f, HARK_ECONFLICT, load(f, &c));
    reopen_log(f);
    other.update = 0;
    assert_ok(f, load(f, &other));
    hark_store_consumer_clear(&c);
    hark_store_consumer_clear(&other);
}

static void test_state_comes_back_as_it_was_saved(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    assert_ok(f, load(f, &c));
    hark_store_range ranges[] = {{12, 12}, {14, 300}, {1000000, HARK_SEQ_MAX}};
    hark_store_row rows[] = {{.sequence = 13,
                              .state = HARK_ROW_RETRY,
                              .attempts = 2,
                              .crashes = 1,
                              .interruptions = 3,
                              .due_ns = 77,
                              .first_ns = 66,
                              .key = "k",
                              .error = "failed"},
                             {.sequence = 11, .state = HARK_ROW_BEHIND}};
    hark_store_save v = save_of(&c);
    v.floor = 10;
    v.highest = 1000;
    v.settled = ranges;
    v.n_settled = 3;
    v.put = rows;
    v.n_put = 2;
    save(f, &v);
    reopen_log(f);
    assert_ok(f, load(f, &c));
    assert_int_equal(c.ret_floor, 10);
    assert_int_equal(c.ret_highest, 1000);
    assert_int_equal(c.ret_n_settled, 3);
    assert_memory_equal(c.ret_settled, ranges, sizeof ranges);
    assert_int_equal(c.ret_n_rows, 2);
    assert_int_equal(c.ret_rows[0].sequence, 11);
    assert_null(c.ret_rows[0].key);
    assert_null(c.ret_rows[0].error);
    const hark_store_row *r = &c.ret_rows[1];
    assert_int_equal(r->sequence, 13);
    assert_int_equal(r->state, HARK_ROW_RETRY);
    assert_int_equal(r->attempts, 2);
    assert_int_equal(r->crashes, 1);
    assert_int_equal(r->interruptions, 3);
    assert_int_equal(r->due_ns, 77);
    assert_int_equal(r->first_ns, 66);
    assert_string_equal(r->key, "k");
    assert_string_equal(r->error, "failed");
    hark_store_consumer_clear(&c);
}

static void test_rows_are_replaced_and_dropped(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    assert_ok(f, load(f, &c));
    hark_store_save v = save_of(&c);
    hark_store_row rows[] = {{.sequence = 1, .state = HARK_ROW_RETRY},
                             {.sequence = 2, .state = HARK_ROW_BEHIND}};
    uint64_t drop[] = {1};
    v.put = rows;
    v.n_put = 2;
    save(f, &v);
    rows[1].state = HARK_ROW_PARKED;
    v.put = &rows[1];
    v.n_put = 1;
    v.drop = drop;
    v.n_drop = 1;
    save(f, &v);
    assert_ok(f, load(f, &c));
    assert_int_equal(c.ret_n_rows, 1);
    assert_int_equal(c.ret_rows[0].sequence, 2);
    assert_int_equal(c.ret_rows[0].state, HARK_ROW_PARKED);
    assert_int_equal(c.ret_n_settled, 0);
    hark_store_consumer_clear(&c);
}

static void test_a_dead_letter_keeps_its_own_copy_and_the_attempts(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    assert_ok(f, load(f, &c));
    hark_store_append a = item(event_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s",
                                                  .data = "a\0b", .data_len = 3)),
                               1);
    hark_store_attempt attempt = {.sequence = 1,
                                  .number = 1,
                                  .started_ns = 5,
                                  .ended_ns = 6,
                                  .outcome = "reject",
                                  .error = "no"};
    hark_store_dead dead = {.event = a.event,
                            .reason = "rejected",
                            .error = "no",
                            .attempts = 1,
                            .first_ns = 5,
                            .dead_ns = 6};
    hark_store_save v = save_of(&c);
    v.floor = v.highest = 1;
    v.attempts = &attempt;
    v.n_attempts = 1;
    v.dead = &dead;
    v.n_dead = 1;
    begin(f);
    assert_ok(f, append(f, &a, 1));
    assert_ok(f, OPS.consumer_save(f->store, &v, &f->ei));
    commit(f);
    drop_items(&a, 1);
    assert_int_equal(dead.ret_id, 1);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM dead_letters WHERE consumer_id = 1 "
                                         "AND seq = 1 AND reason = 'rejected' AND type = 't' "
                                         "AND data = x'610062' AND json_valid(envelope)"),
                     1);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM attempts WHERE consumer_id = 1 AND "
                                         "seq = 1 AND number = 1 AND outcome = 'reject'"),
                     1);
    hark_store_consumer_clear(&c);
}

static void test_a_save_of_another_generation_changes_nothing(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    assert_ok(f, load(f, &c));
    hark_store_save v = save_of(&c);
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_RETRY};
    v.generation++;
    v.floor = 9;
    v.put = &row;
    v.n_put = 1;
    begin(f);
    assert_err(f, HARK_ENOTFOUND, OPS.consumer_save(f->store, &v, &f->ei));
    assert_int_equal(add(f, "t", "the-group-goes-on"), 1);
    commit(f);
    assert_ok(f, load(f, &c));
    assert_int_equal(c.ret_floor, 0);
    assert_int_equal(c.ret_n_rows, 0);
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
        (void)snprintf(sql, sizeof sql, "UPDATE consumers SET settled = %s", bad[i]);
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
        T(test_a_new_consumer_starts_where_it_was_told_to),
        T(test_now_counts_the_events_of_the_same_group),
        T(test_the_first_registration_fixes_pattern_policy_and_start),
        T(test_state_comes_back_as_it_was_saved),
        T(test_rows_are_replaced_and_dropped),
        T(test_a_dead_letter_keeps_its_own_copy_and_the_attempts),
        T(test_a_save_of_another_generation_changes_nothing),
        T(test_a_save_that_fails_half_way_ends_the_group),
        T(test_state_and_events_roll_back_together),
        T(test_a_damaged_settled_set_is_refused),
        cmocka_unit_test(test_ranges_are_as_documented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
