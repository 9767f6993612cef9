/* Retention and dead letters: what is being redriven is not forgotten with its event, and the attempts
 * go when neither event nor letter is left, in whichever order these go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"
#include "store/sqlite/trim_fixture_i.h"

static void force_all(fixture *f, size_t gaps_expected)
{
    hark_store_gap gaps[4];
    hark_store_trim t = {.pattern = "*",
                         .before_ns = INT64_MAX,
                         .budget_ns = LONG,
                         .force = 1,
                         .gaps = gaps,
                         .cap_gaps = HK_COUNTOF(gaps)};
    assert_ok(f, trim_once(f, &t));
    assert_int_equal(t.ret_n_gaps, gaps_expected);
    assert_reads(f, "end", .limit = 9);
}

/* One attempt, on record with nothing else. */
static void fail_attempt(fixture *f, const hark_store_consumer *c, uint64_t seq, int64_t number)
{
    hark_store_attempt a = {.sequence = seq, .number = number, .outcome = "reject", .error = "no"};
    hark_store_save v = save_of(c);
    v.attempts = &a;
    v.n_attempts = 1;
    save(f, &v);
}

static int64_t attempts(fixture *f)
{
    return number_sql(f->path, "SELECT count(*) FROM hark_attempts");
}

/* Five events, and a consumer past them; its numbers. */
static hark_store_consumer past_five(fixture *f)
{
    add_five(f);
    hark_store_consumer c = loaded(f, "c");
    assert_int_equal(c.ret_floor, 5);
    hark_store_consumer_clear(&c);
    return c;
}

/* The same with a dead letter at 2, after two attempts. */
static uint64_t one_letter(fixture *f, hark_store_consumer *ret)
{
    *ret = past_five(f);
    fail_attempt(f, ret, 2, 1);
    fail_attempt(f, ret, 2, 2);
    return bury(f, ret, 2, "rejected", false);
}

static void redrive(fixture *f, uint64_t id)
{
    hark_store_letter_done done = {0};
    begin(f);
    assert_ok(f, OPS.letter_redrive(f->store, id, 0, &done, &f->ei));
    commit(f);
    free(done.key);
}

static void discard(fixture *f, uint64_t id)
{
    hark_store_letter_done done = {0};
    begin(f);
    assert_ok(f, OPS.letter_discard(f->store, id, &done, &f->ei));
    commit(f);
    free(done.key);
}

static void reset(fixture *f, const hark_store_consumer *c)
{
    hark_store_reset r = {.size = sizeof r, .consumer = c->ret_id, .start = NOW};
    begin(f);
    assert_ok(f, OPS.consumer_reset(f->store, &r, &f->ei));
    commit(f);
}

/* ---- what is being redriven ------------------------------------------------------------------ */

static void test_forced_a_redrive_is_not_forgotten(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    redrive(f, one_letter(f, &c));
    force_all(f, 0); /* nobody misses it: it comes from its letter */
    c = loaded(f, "c");
    assert_int_equal(c.ret_n_rows, 1);
    assert_int_equal(c.ret_rows[0].sequence, 2);
    assert_int_equal(c.ret_rows[0].state, HARK_ROW_RETRY);
    hark_store_consumer_clear(&c);
}

static void test_forced_a_redrive_is_not_forgotten_while_it_waits_behind_its_lane(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    redrive(f, one_letter(f, &c));
    put_row(f, &c, &(hark_store_row){.sequence = 1, .state = HARK_ROW_RETRY, .key = "k"});
    put_row(f, &c, &(hark_store_row){.sequence = 2, .state = HARK_ROW_BEHIND, .key = "k"});
    force_all(f, 1); /* 1 is missed */
    assert_int_equal(number_sql(f->path, "SELECT sum(seq) FROM hark_deliveries"), 2);
    assert_int_equal(number_sql(f->path, "SELECT sum(last) FROM hark_gaps"), 1);
}

/* ---- attempts -------------------------------------------------------------------------------- */

static void test_attempts_stay_with_the_event_when_its_letter_goes_first(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    discard(f, one_letter(f, &c));
    assert_int_equal(attempts(f), 2);
    force_all(f, 0);
    assert_int_equal(attempts(f), 0);
}

static void test_attempts_go_with_a_discarded_letter_whose_event_went_first(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    uint64_t id = one_letter(f, &c);
    force_all(f, 0);
    assert_int_equal(attempts(f), 2);
    discard(f, id);
    assert_int_equal(attempts(f), 0);
}

static void test_attempts_go_with_the_head_of_a_parked_lane(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = past_five(f);
    fail_attempt(f, &c, 2, 1);
    uint64_t id = bury(f, &c, 2, "rejected", true);
    force_all(f, 0);
    assert_int_equal(attempts(f), 1);
    discard(f, id);
    assert_int_equal(attempts(f), 0);
}

static void test_attempts_go_when_a_redrive_is_settled_whose_event_went_first(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    redrive(f, one_letter(f, &c));
    force_all(f, 0);
    fail_attempt(f, &c, 2, 1);
    assert_int_equal(attempts(f), 3);
    drop_row(f, &c, 2);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_dead_letters"), 0);
    assert_int_equal(attempts(f), 0);
}

static void test_a_redriven_event_that_dies_again_keeps_its_attempts(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    uint64_t id = one_letter(f, &c);
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = 1, .limit = 1}));
    redrive(f, id);
    force_all(f, 0);
    hark_store_attempt a = {.sequence = 2, .number = 1, .outcome = "reject"};
    hark_store_dead dead = {.event = pg.events[0], .reason = "rejected"};
    hark_store_save v = save_of(&c);
    v.attempts = &a;
    v.dead = &dead;
    v.drop = &a.sequence;
    v.n_attempts = v.n_dead = v.n_drop = 1;
    save(f, &v);
    drop_page(&pg);
    assert_true(dead.ret_id > id);
    assert_int_equal(number_sql(f->path, "SELECT sum(id) FROM hark_dead_letters"), dead.ret_id);
    assert_int_equal(attempts(f), 3);
    discard(f, dead.ret_id);
    assert_int_equal(attempts(f), 0);
}

static void test_attempts_that_end_after_their_event_went_go_with_the_row(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = past_five(f);
    hark_store_row row = {.sequence = 3, .state = HARK_ROW_RETRY, .attempts = 1};
    force_all(f, 0);
    put_row(f, &c, &row); /* it was running */
    fail_attempt(f, &c, 3, 1);
    drop_row(f, &c, 3);
    assert_int_equal(attempts(f), 0);
    put_row(f, &c, &row);
    fail_attempt(f, &c, 3, 1);
    reset(f, &c);
    assert_int_equal(attempts(f), 0);
}

static void test_a_reset_keeps_the_attempts_of_letters(void **state)
{
    fixture *f = *state;
    hark_store_consumer c;
    uint64_t id = one_letter(f, &c);
    redrive(f, id);
    force_all(f, 0);
    reset(f, &c);
    assert_int_equal(attempts(f), 2);
    discard(f, id);
    assert_int_equal(attempts(f), 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_forced_a_redrive_is_not_forgotten),
        TEST(test_forced_a_redrive_is_not_forgotten_while_it_waits_behind_its_lane),
        TEST(test_attempts_stay_with_the_event_when_its_letter_goes_first),
        TEST(test_attempts_go_with_a_discarded_letter_whose_event_went_first),
        TEST(test_attempts_go_with_the_head_of_a_parked_lane),
        TEST(test_attempts_go_when_a_redrive_is_settled_whose_event_went_first),
        TEST(test_a_redriven_event_that_dies_again_keeps_its_attempts),
        TEST(test_attempts_that_end_after_their_event_went_go_with_the_row),
        TEST(test_a_reset_keeps_the_attempts_of_letters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
