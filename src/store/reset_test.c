/* Resetting a consumer, on every store: it starts anew, what was open is dropped, what was given up
 * stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

static hark_store_reset reset_of(fixture *f, const char *name, int64_t start)
{
    return (hark_store_reset){
        .size = sizeof(hark_store_reset), .consumer = save_of(f, name).consumer, .start = start};
}

static void reset(fixture *f, hark_store_reset *r)
{
    write_ok(f, f->ops->consumer_reset(f->store, r, &f->ei));
}

/* A consumer in the middle of ten events. */
static void work_a_while(fixture *f)
{
    hark_store_range settled = {4, 5};
    hark_store_row row = {.sequence = 3, .state = HARK_ROW_RETRY};
    add_some(f, 10);
    hark_store_save v = save_of(f, "c");
    v.floor = 2;
    v.highest = 6;
    v.settled = &settled;
    v.put = &row;
    v.n_settled = v.n_put = 1;
    save(f, &v);
    (void)bury(f, "c", 6, true);
}

static void test_a_reset_drops_what_is_open_and_keeps_what_was_given_up(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_reset r = reset_of(f, "c", FIRST);
    reset(f, &r);
    assert_int_equal(r.ret_generation, 2);
    assert_int_equal(r.ret_floor, 0);
    restart(f);
    hark_store_consumer c = look_at(f, "c");
    assert_int_equal(c.ret_generation, 2);
    assert_int_equal(c.ret_floor, 0);
    assert_int_equal(c.ret_highest, 6);
    assert_int_equal(c.ret_n_settled, 0);
    assert_int_equal(c.ret_n_rows, 0);
    assert_string_equal(c.ret_rerun.id, "");
    hark_store_consumer_clear(&c);
    assert_letters(f, "6 of c");
    assert_attempts(f, "1 reject no", "c", 6);
}

static void test_a_reset_starts_where_it_is_told_to(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_reset r = reset_of(f, "c", NOW);
    reset(f, &r);
    assert_int_equal(r.ret_floor, 10);
    r = reset_of(f, "c", SEQUENCE);
    r.start_sequence = 5;
    reset(f, &r);
    assert_int_equal(r.ret_floor, 4);
    r = reset_of(f, "c", TIME);
    r.start_time_ns = INT64_MAX;
    reset(f, &r);
    assert_int_equal(r.ret_floor, 10);
    r = reset_of(f, "c", TIME);
    reset(f, &r);
    assert_int_equal(r.ret_floor, 0);
    assert_int_equal(r.ret_generation, 5);
}

static void test_a_refused_reset_changes_nothing(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_reset r = reset_of(f, "c", 4);
    write_err(f, HARK_EINVAL, f->ops->consumer_reset(f->store, &r, &f->ei));
    r.start = SEQUENCE;
    r.start_sequence = HARK_SEQ_MAX + 1;
    write_err(f, HARK_EINVAL, f->ops->consumer_reset(f->store, &r, &f->ei));
    r.start = NOW;
    r.consumer = 99;
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_reset(f->store, &r, &f->ei));
    assert_rows(f, "3 retry; 6 dead", "c");
    assert_int_equal(save_of(f, "c").generation, 1);
}

static void test_a_save_from_before_a_reset_is_refused(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_save late = save_of(f, "c");
    hark_store_reset r = reset_of(f, "c", FIRST);
    reset(f, &r);
    late.floor = 9;
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_save(f->store, &late, &f->ei));
    assert_int_equal(save_of(f, "c").floor, 0);
}

static void test_other_consumers_go_on(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    put_row(f, "d", (hark_store_row){.sequence = 3, .state = HARK_ROW_RETRY});
    hark_store_reset r = reset_of(f, "c", FIRST);
    reset(f, &r);
    assert_rows(f, "3 retry", "d");
    assert_int_equal(save_of(f, "d").generation, 1);
}

/* ---- replays ----------------------------------------------------------------------------------- */

static bool check_rerun(void *ud, const hark_store_consumer_row *row)
{
    const hark_store_rerun *r = ud;
    assert_string_equal(row->rerun.id, r->id);
    assert_int_equal(row->rerun.from, r->from);
    assert_int_equal(row->rerun.upto, r->upto);
    assert_int_equal(row->rerun.rate, r->rate);
    assert_int_equal(row->rerun.started_ns, r->started_ns);
    assert_int_equal(row->rerun.settled, r->settled);
    return true;
}

static void assert_rerun(fixture *f, hark_store_rerun r)
{
    hark_store_consumer c = look_at(f, "c");
    const hark_store_consumer_row row = {.rerun = c.ret_rerun};
    assert_true(check_rerun(&r, &row));
    hark_store_consumer_clear(&c);
    assert_ok(f, f->ops->consumers(f->store, check_rerun, &r, &f->ei));
}

static hark_store_reset start_replay(fixture *f, uint64_t sequence)
{
    hark_store_reset r = reset_of(f, "c", SEQUENCE);
    r.start_sequence = sequence;
    r.rerun = (hark_store_rerun){.id = "again", .rate = 100};
    reset(f, &r);
    return r;
}

static void test_a_replay_goes_from_the_start_to_the_highest_delivered(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_reset r = start_replay(f, 3);
    assert_string_equal(r.rerun.id, "again");
    assert_int_equal(r.rerun.from, 3);
    assert_int_equal(r.rerun.upto, 6);
    assert_int_equal(r.rerun.rate, 100);
    assert_true(r.rerun.started_ns > 0);
    restart(f);
    assert_rerun(f, r.rerun);
}

static void test_a_reset_beyond_all_that_was_delivered_replays_nothing(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_reset r = start_replay(f, 7);
    assert_string_equal(r.rerun.id, "");
    assert_int_equal(r.ret_floor, 6);
    assert_rerun(f, (hark_store_rerun){.id = ""});
    r = start_replay(f, 6);
    assert_int_equal(r.rerun.from, 6);
    assert_int_equal(r.rerun.upto, 6);
}

static void test_a_replay_knows_up_to_where_all_was_settled(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_reset r = start_replay(f, 1);
    assert_int_equal(r.rerun.settled, 2);
    r = start_replay(f, 1); /* it had not come as far again */
    assert_int_equal(r.rerun.settled, 2);
    assert_rerun(f, r.rerun);
    hark_store_row open = {.sequence = 4, .state = HARK_ROW_RETRY};
    hark_store_save v = save_of(f, "c");
    v.floor = 6;
    v.put = &open;
    v.n_put = 1;
    save(f, &v);
    r = start_replay(f, 1); /* the row is below the floor */
    assert_int_equal(r.rerun.settled, 3);
    restart(f);
    assert_rerun(f, r.rerun);
}

static void test_a_replay_knows_of_deliveries_that_were_not_saved(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    hark_store_reset r = reset_of(f, "c", FIRST);
    r.rerun = (hark_store_rerun){.id = "again"};
    r.reached = 9;
    reset(f, &r);
    assert_int_equal(r.rerun.upto, 9);
    r.reached = 3; /* less than what is known */
    reset(f, &r);
    assert_int_equal(r.rerun.upto, 9);
    assert_int_equal(save_of(f, "c").highest, 9);
}

static void test_a_plain_reset_ends_a_replay(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    (void)start_replay(f, 3);
    hark_store_reset r = reset_of(f, "c", NOW);
    reset(f, &r);
    assert_rerun(f, (hark_store_rerun){.id = ""});
}

static void test_ending_a_replay_keeps_all_else(void **state)
{
    fixture *f = *state;
    work_a_while(f);
    (void)start_replay(f, 3);
    hark_store_range settled = {5, 5};
    hark_store_row row = {.sequence = 4, .state = HARK_ROW_RETRY};
    hark_store_save v = save_of(f, "c");
    v.floor = 3;
    v.highest = 7;
    v.settled = &settled;
    v.put = &row;
    v.n_settled = v.n_put = 1;
    save(f, &v);
    hark_store_reset r = reset_of(f, "c", FIRST);
    r.keep = 1;
    reset(f, &r);
    assert_int_equal(r.ret_generation, v.generation);
    assert_int_equal(r.ret_floor, 3);
    restart(f);
    assert_rerun(f, (hark_store_rerun){.id = ""});
    hark_store_consumer c = look_at(f, "c");
    assert_int_equal(c.ret_generation, v.generation);
    assert_int_equal(c.ret_floor, 3);
    assert_int_equal(c.ret_highest, 7);
    assert_int_equal(c.ret_n_settled, 1);
    hark_store_consumer_clear(&c);
    assert_rows(f, "4 retry", "c");
    assert_letters(f, "6 of c");
    r.consumer = 99;
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_reset(f->store, &r, &f->ei));
}

static void test_what_was_being_redriven_is_a_dead_letter_again(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    add_some(f, 2);
    uint64_t id = bury(f, "c", 1, false);
    (void)bury(f, "c", 2, false);
    write_ok(f, f->ops->letter_redrive(f->store, id, 0, &done, &f->ei));
    free(done.key);
    assert_letters(f, "1 of c redriven; 2 of c");
    hark_store_reset r = reset_of(f, "c", NOW);
    reset(f, &r);
    restart(f);
    assert_letters(f, "1 of c; 2 of c");
    assert_rows(f, "", "c");
    write_ok(f, f->ops->letter_redrive(f->store, id, 0, &done, &f->ei));
    free(done.key);
    assert_rows(f, "1 retry", "c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_a_reset_drops_what_is_open_and_keeps_what_was_given_up),
        EACH(test_a_reset_starts_where_it_is_told_to),
        EACH(test_a_refused_reset_changes_nothing),
        EACH(test_a_save_from_before_a_reset_is_refused),
        EACH(test_other_consumers_go_on),
        EACH(test_a_replay_goes_from_the_start_to_the_highest_delivered),
        EACH(test_a_reset_beyond_all_that_was_delivered_replays_nothing),
        EACH(test_a_replay_knows_up_to_where_all_was_settled),
        EACH(test_a_replay_knows_of_deliveries_that_were_not_saved),
        EACH(test_a_plain_reset_ends_a_replay),
        EACH(test_ending_a_replay_keeps_all_else),
        EACH(test_what_was_being_redriven_is_a_dead_letter_again),
    };
    return RUN_CONTRACT(tests);
}
