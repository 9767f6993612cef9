/* Retention and consumers: what one has yet to see stays, or, forced, makes a gap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/trim_fixture_i.h"

/* ---- who holds ------------------------------------------------------------------------------- */

static hark_store_consumer register_at(fixture *f, const char *name, const char *pattern,
                                       uint64_t floor)
{
    hark_store_consumer c = {.size = sizeof c,
                             .name = name,
                             .pattern = pattern,
                             .policy = "p",
                             .start = 2, /* at a sequence */
                             .start_sequence = floor + 1};
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    commit(f);
    hark_store_consumer_clear(&c); /* the numbers stay */
    return c;
}

static void put_row(fixture *f, const hark_store_consumer *c, uint64_t seq, int64_t state)
{
    hark_store_row row = {.sequence = seq, .state = state, .attempts = 1, .key = "k"};
    begin(f);
    assert_ok(f, OPS.consumer_save(f->store,
                                   &(hark_store_save){.size = sizeof(hark_store_save),
                                                      .consumer = c->ret_id,
                                                      .generation = c->ret_generation,
                                                      .floor = c->ret_floor,
                                                      .highest = c->ret_floor,
                                                      .put = &row,
                                                      .n_put = 1},
                                   &f->ei));
    commit(f);
}

static void test_what_a_consumer_has_yet_to_see_stays(void **state)
{
    fixture *f = *state;
    add_types(f, "ababab");
    (void)register_at(f, "c", "a", 3);
    (void)register_at(f, "ahead", "*", 6);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .before_ns = INT64_MAX}), 5);
    assert_reads(f, "5 end", .limit = 9); /* the only a above 3 */
    (void)register_at(f, "all", "**", 0);
    add_types(f, "b");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .before_ns = INT64_MAX}), 0);
}

static void test_open_rows_stay_one_by_one(void **state)
{
    fixture *f = *state;
    add_types(f, "aaaaaaaa");
    hark_store_consumer c = register_at(f, "c", "a", 8), d = register_at(f, "d", "x", 8);
    put_row(f, &c, 2, HARK_ROW_RETRY);
    put_row(f, &c, 5, HARK_ROW_PARKED);
    put_row(f, &c, 7, HARK_ROW_DEAD);
    put_row(f, &d, 8, HARK_ROW_COUNTS);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .before_ns = INT64_MAX}), 4);
    assert_reads(f, "2 5 7 8 end", .limit = 9);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .keep = 1}), 0);
}

static void test_many_open_rows_do_not_stop_short_slices(void **state)
{
    fixture *f = *state;
    begin(f);
    for (int i = 0; i < 1000; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%d", i);
        (void)add(f, "a", id);
    }
    commit(f);
    hark_store_consumer c = register_at(f, "c", "a", 1000);
    run_sql(f->path, "INSERT INTO hark_deliveries SELECT 1, seq, 3, 0, 0, 0, 0, 0, 'k', NULL FROM "
                     "hark_events WHERE seq <= 900");
    assert_int_equal(c.ret_id, 1);
    hark_store_trim t = {.pattern = "a", .before_ns = INT64_MAX, .ret_more = 1};
    uint64_t removed = 0;
    for (int i = 0; t.ret_more; i++) {
        assert_true(i < 100);
        assert_ok(f, trim_once(f, &t));
        removed += t.ret_removed;
    }
    assert_int_equal(removed, 100);
}

static void test_a_running_replay_holds_what_comes(void **state)
{
    fixture *f = *state;
    add_types(f, "aaaaa");
    hark_store_trim t = {.pattern = "a", .before_ns = INT64_MAX, .hold = 3};
    assert_int_equal(trim(f, t), 2);
    assert_reads(f, "3 4 5 end", .limit = 9);
    t.force = 1;
    assert_int_equal(trim(f, t), 3);
}

/* ---- forced ---------------------------------------------------------------------------------- */

static void test_forced_whoever_misses_something_is_told(void **state)
{
    fixture *f = *state;
    hark_store_gap gaps[4];
    add_types(f, "ababab");
    hark_store_consumer c = register_at(f, "c", "a", 1);
    (void)register_at(f, "ahead", "*", 6);
    (void)register_at(f, "other", "x", 0);
    hark_store_trim t = {.pattern = "*",
                         .before_ns = INT64_MAX,
                         .budget_ns = LONG,
                         .force = 1,
                         .gaps = gaps,
                         .cap_gaps = 4};
    assert_ok(f, trim_once(f, &t));
    assert_int_equal(t.ret_removed, 6);
    assert_int_equal(t.ret_n_gaps, 1);
    assert_int_equal(gaps[0].consumer, c.ret_id);
    assert_int_equal(gaps[0].from, 3);
    assert_int_equal(gaps[0].to, 5);
    c = register_at(f, "c", "a", 1);
    assert_int_equal(c.ret_gap_from, 3);
    assert_int_equal(c.ret_gap_to, 5);
    add_types(f, "aa");
    assert_ok(f, trim_once(f, &t));
    c = register_at(f, "c", "a", 1);
    assert_int_equal(c.ret_gap_from, 3); /* joined with what it was not handed yet */
    assert_int_equal(c.ret_gap_to, 8);
}

static void test_forced_what_is_settled_is_not_missed(void **state)
{
    fixture *f = *state;
    hark_store_gap gaps[4];
    add_types(f, "aaaaaaaa");
    hark_store_consumer c = register_at(f, "c", "a", 1);
    hark_store_range settled[] = {{3, 4}, {6, 9}};
    begin(f);
    assert_ok(f, OPS.consumer_save(f->store,
                                   &(hark_store_save){.size = sizeof(hark_store_save),
                                                      .consumer = c.ret_id,
                                                      .generation = 1,
                                                      .floor = 1,
                                                      .highest = 8,
                                                      .settled = settled,
                                                      .n_settled = 2},
                                   &f->ei));
    commit(f);
    hark_store_trim t = {
        .pattern = "*", .keep = 2, .budget_ns = LONG, .force = 1, .gaps = gaps, .cap_gaps = 4};
    assert_ok(f, trim_once(f, &t));
    assert_int_equal(t.ret_n_gaps, 1);
    assert_int_equal(gaps[0].from, 2);
    assert_int_equal(gaps[0].to, 5);
}

static void test_forced_open_rows_go_with_their_events_but_heads_of_parked_lanes(void **state)
{
    fixture *f = *state;
    hark_store_gap gaps[4];
    add_types(f, "aaaaaaaa");
    hark_store_consumer c = register_at(f, "c", "a", 8);
    put_row(f, &c, 2, HARK_ROW_RETRY);
    put_row(f, &c, 3, HARK_ROW_PARKED);
    put_row(f, &c, 5, HARK_ROW_DEAD);
    put_row(f, &c, 8, HARK_ROW_PARKED);
    hark_store_trim t = {
        .pattern = "*", .keep = 2, .budget_ns = LONG, .force = 1, .gaps = gaps, .cap_gaps = 4};
    assert_ok(f, trim_once(f, &t));
    assert_int_equal(t.ret_removed, 6);
    assert_int_equal(gaps[0].from, 2);
    assert_int_equal(gaps[0].to, 3);
    assert_int_equal(
        number_sql(f->path, "SELECT count(*) FROM hark_deliveries WHERE seq IN (5, 8)"), 2);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_deliveries"), 2);
}

static void test_forced_room_for_few_gaps_takes_more_calls(void **state)
{
    fixture *f = *state;
    hark_store_gap gap[1];
    add_types(f, "ab");
    (void)register_at(f, "c", "a", 0);
    (void)register_at(f, "d", "b", 0);
    hark_store_trim t = {
        .pattern = "*", .before_ns = INT64_MAX, .budget_ns = LONG, .force = 1, .gaps = gap};
    assert_err(f, HARK_EINVAL, trim_once(f, &t));
    assert_says(f, "room for 0 gaps, and 1 consumers have one");
    assert_reads(f, "1 2 end", .limit = 9);
    t.cap_gaps = 1;
    for (uint64_t i = 1; i <= 2; i++) {
        assert_ok(f, trim_once(f, &t));
        assert_int_equal(t.ret_more, i == 1);
        assert_int_equal(t.ret_removed, 1);
        assert_int_equal(gap[0].consumer, i);
    }
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_a_consumer_has_yet_to_see_stays),
        TEST(test_open_rows_stay_one_by_one),
        TEST(test_many_open_rows_do_not_stop_short_slices),
        TEST(test_a_running_replay_holds_what_comes),
        TEST(test_forced_whoever_misses_something_is_told),
        TEST(test_forced_what_is_settled_is_not_missed),
        TEST(test_forced_open_rows_go_with_their_events_but_heads_of_parked_lanes),
        TEST(test_forced_room_for_few_gaps_takes_more_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
