/* What becomes of dead letters, on every store: redriven once and gone when that is settled, or
 * discarded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

#define DUE 5000

static hark_store_letter_done redrive(fixture *f, uint64_t id)
{
    hark_store_letter_done done = {0};
    write_ok(f, f->ops->letter_redrive(f->store, id, DUE, &done, &f->ei));
    return done;
}

static void refuse_redrive(fixture *f, hark_err expected, uint64_t id)
{
    hark_store_letter_done done = {0};
    write_err(f, expected, f->ops->letter_redrive(f->store, id, DUE, &done, &f->ei));
    assert_null(done.key);
}

static void refuse_discard(fixture *f, hark_err expected, uint64_t id)
{
    hark_store_letter_done done = {0};
    write_err(f, expected, f->ops->letter_discard(f->store, id, &done, &f->ei));
    assert_null(done.key);
}

static void assert_done(fixture *f, hark_store_letter_done *d, const char *name, uint64_t seq,
                        const char *key, bool parked)
{
    hark_store_save v = save_of(f, name);
    assert_int_equal(d->consumer, v.consumer);
    assert_int_equal(d->generation, v.generation);
    assert_int_equal(d->sequence, seq);
    assert_int_equal(!!d->parked, parked);
    if (key)
        assert_string_equal(d->key, key);
    else
        assert_null(d->key);
    free(d->key);
}

/* Its only row is as new. */
static void assert_fresh_row(fixture *f, const char *name, uint64_t seq, const char *key)
{
    hark_store_consumer c = look_at(f, name);
    assert_int_equal(c.ret_n_rows, 1);
    const hark_store_row *r = c.ret_rows;
    assert_int_equal(r->sequence, seq);
    assert_int_equal(r->state, HARK_ROW_RETRY);
    assert_int_equal(r->due_ns, DUE);
    assert_int_equal(r->attempts | r->crashes | r->interruptions | r->first_ns, 0);
    assert_null(r->error);
    if (key)
        assert_string_equal(r->key, key);
    else
        assert_null(r->key);
    hark_store_consumer_clear(&c);
}

static void reset_to(fixture *f, const char *name, uint64_t sequence)
{
    hark_store_reset r = {.size = sizeof r,
                          .consumer = save_of(f, name).consumer,
                          .start = SEQUENCE,
                          .start_sequence = sequence};
    write_ok(f, f->ops->consumer_reset(f->store, &r, &f->ei));
}

/* ---- redrive ----------------------------------------------------------------------------------- */

static void test_a_redriven_letter_is_an_open_row_that_begins_anew(void **state)
{
    fixture *f = *state;
    (void)add(f, "t", NULL, "k");
    uint64_t id = bury(f, "c", 1, false);
    hark_store_letter_done done = redrive(f, id);
    restart(f);
    assert_done(f, &done, "c", 1, "k", false);
    assert_fresh_row(f, "c", 1, "k");
    assert_letters(f, "1 of c redriven");
    assert_letters_of(f, "1 of c redriven", .state = HARK_LETTER_REDRIVEN);
    assert_letters_of(f, "", .state = HARK_LETTER_DEAD);
}

static void test_an_event_without_a_key_is_redriven_without_one(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    hark_store_letter_done done = redrive(f, bury(f, "c", 1, false));
    assert_done(f, &done, "c", 1, NULL, false);
    assert_fresh_row(f, "c", 1, NULL);
}

static void test_an_event_with_a_subject_only_is_redriven_in_the_lane_of_that(void **state)
{
    fixture *f = *state;
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/test", .subject = "s"));
    hark_store_letter_done done = redrive(f, bury(f, "c", 1, false));
    assert_done(f, &done, "c", 1, "s", false);
    assert_fresh_row(f, "c", 1, "s");
}

static void test_the_head_of_a_parked_lane_is_redriven_in_its_place(void **state)
{
    fixture *f = *state;
    (void)add(f, "t", NULL, "k");
    hark_store_letter_done done = redrive(f, bury(f, "c", 1, true));
    restart(f);
    assert_done(f, &done, "c", 1, "k", true);
    assert_fresh_row(f, "c", 1, "k");
    assert_letters(f, "1 of c redriven");
}

static void test_a_redriven_letter_goes_with_its_row(void **state)
{
    fixture *f = *state;
    add_some(f, 2);
    uint64_t id = bury(f, "c", 1, false);
    (void)bury(f, "c", 2, false);
    free(redrive(f, id).key);
    put_row(f, "c", (hark_store_row){.sequence = 1, .state = HARK_ROW_RETRY, .attempts = 1});
    assert_letters(f, "1 of c redriven; 2 of c");
    drop_row(f, "c", 1);
    drop_row(f, "c", 2);
    restart(f);
    assert_letters(f, "2 of c");
    refuse_redrive(f, HARK_ENOTFOUND, id);
}

static void test_a_letter_is_redriven_once(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    uint64_t id = bury(f, "c", 1, false);
    free(redrive(f, id).key);
    restart(f);
    refuse_redrive(f, HARK_ECONFLICT, id);
    assert_says(f, "dead letter 1 ");
    assert_letters(f, "1 of c redriven");
    assert_rows(f, "1 retry", "c");
}

static void test_an_event_that_is_being_retried_is_not_redriven(void **state)
{
    fixture *f = *state;
    add_some(f, 3);
    uint64_t retried = bury(f, "c", 1, false), behind = bury(f, "c", 2, false);
    uint64_t parked = bury(f, "c", 3, false);
    put_row(f, "c", (hark_store_row){.sequence = 1, .state = HARK_ROW_RETRY, .due_ns = 9});
    put_row(f, "c", (hark_store_row){.sequence = 2, .state = HARK_ROW_BEHIND});
    put_row(f, "c", (hark_store_row){.sequence = 3, .state = HARK_ROW_PARKED});
    refuse_redrive(f, HARK_ECONFLICT, retried);
    refuse_redrive(f, HARK_ECONFLICT, behind);
    refuse_redrive(f, HARK_ECONFLICT, parked);
    assert_rows(f, "1 retry; 2 behind; 3 parked", "c");
    assert_letters_of(f, "1 of c; 2 of c; 3 of c", .state = HARK_LETTER_DEAD);
}

static void test_after_a_reset_the_consumer_comes_to_the_event_by_itself(void **state)
{
    fixture *f = *state;
    (void)add(f, "t", NULL, "k");
    uint64_t id = bury(f, "c", 1, true);
    reset_to(f, "c", 1);
    refuse_redrive(f, HARK_EAGAIN, id);
    assert_says(f, "was reset and comes to sequence 1 by itself");
    assert_rows(f, "", "c");
    hark_store_save v = save_of(f, "c");
    v.floor = v.highest = 1; /* it came past it */
    save(f, &v);
    hark_store_letter_done done = redrive(f, id);
    assert_int_equal(done.generation, 2);
    assert_done(f, &done, "c", 1, "k", false);
    assert_fresh_row(f, "c", 1, "k");
}

static void test_an_event_above_the_floor_is_redriven_in_the_same_generation(void **state)
{
    fixture *f = *state;
    add_some(f, 3);
    uint64_t id = bury(f, "c", 3, false);
    hark_store_range settled = {3, 3};
    hark_store_save v = save_of(f, "c");
    assert_int_equal(v.floor, 0);
    v.settled = &settled;
    v.n_settled = 1;
    save(f, &v);
    hark_store_letter_done done = redrive(f, id);
    assert_done(f, &done, "c", 3, NULL, false);
    assert_fresh_row(f, "c", 3, NULL);
}

static void test_a_redriven_event_that_dies_again_has_one_letter(void **state)
{
    fixture *f = *state;
    (void)add(f, "t", NULL, "k");
    uint64_t first = bury(f, "c", 1, true);
    free(redrive(f, first).key);
    uint64_t second = bury(f, "c", 1, true);
    assert_true(second > first);
    assert_letters_of(f, "1 of c", .id = second);
    assert_letters_of(f, "", .id = first);
    assert_attempts(f, "1 reject no; 1 reject no", "c", 1);
    hark_store_letter_done done = redrive(f, second);
    assert_done(f, &done, "c", 1, "k", true);
    (void)bury(f, "c", 1, false);
    assert_letters(f, "1 of c");
    assert_rows(f, "", "c");
}

static void test_one_delivery_answers_for_all_letters_of_an_event(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    uint64_t old = bury(f, "c", 1, false);
    reset_to(f, "c", 1);
    uint64_t new = bury(f, "c", 1, false);
    assert_letters(f, "1 of c; 1 of c");
    free(redrive(f, new).key);
    assert_letters(f, "1 of c redriven; 1 of c redriven");
    refuse_redrive(f, HARK_ECONFLICT, old);
    drop_row(f, "c", 1);
    assert_letters(f, "");
}

static void test_letters_of_other_consumers_stay(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    uint64_t id = bury(f, "a", 1, false);
    (void)bury(f, "b", 1, false);
    free(redrive(f, id).key);
    assert_letters(f, "1 of a redriven; 1 of b");
    assert_rows(f, "", "b");
    drop_row(f, "b", 1);
    assert_letters(f, "1 of a redriven; 1 of b");
    drop_row(f, "a", 1);
    assert_letters(f, "1 of b");
}

/* ---- discard ----------------------------------------------------------------------------------- */

static hark_store_letter_done discard(fixture *f, uint64_t id)
{
    hark_store_letter_done done = {0};
    write_ok(f, f->ops->letter_discard(f->store, id, &done, &f->ei));
    return done;
}

static void test_a_discarded_letter_is_gone(void **state)
{
    fixture *f = *state;
    (void)add(f, "t", NULL, "k");
    uint64_t id = bury(f, "c", 1, false);
    hark_store_letter_done done = discard(f, id);
    restart(f);
    assert_done(f, &done, "c", 1, "k", false);
    assert_letters(f, "");
    refuse_discard(f, HARK_ENOTFOUND, id);
    refuse_redrive(f, HARK_ENOTFOUND, id);
}

static void test_discarding_the_head_of_a_parked_lane_drops_its_row(void **state)
{
    fixture *f = *state;
    (void)add(f, "t", NULL, "k");
    (void)add(f, "t", NULL, "k");
    uint64_t id = bury(f, "c", 1, true);
    put_row(f, "c", (hark_store_row){.sequence = 2, .state = HARK_ROW_PARKED, .key = "k"});
    hark_store_letter_done done = discard(f, id);
    restart(f);
    assert_done(f, &done, "c", 1, "k", true);
    assert_rows(f, "2 parked", "c");
    assert_letters(f, "");
}

static void test_what_is_being_redriven_is_not_discarded(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    uint64_t id = bury(f, "c", 1, false);
    free(redrive(f, id).key);
    refuse_discard(f, HARK_ECONFLICT, id);
    assert_letters(f, "1 of c redriven");
    assert_rows(f, "1 retry", "c");
}

static void test_a_row_that_is_not_dead_outlives_the_letter(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    uint64_t id = bury(f, "c", 1, false);
    put_row(f, "c", (hark_store_row){.sequence = 1, .state = HARK_ROW_RETRY});
    hark_store_letter_done done = discard(f, id);
    assert_done(f, &done, "c", 1, NULL, false);
    assert_rows(f, "1 retry", "c");
}

static void test_an_old_letter_does_not_free_the_lane_of_a_new_one(void **state)
{
    fixture *f = *state;
    (void)add(f, "t", NULL, "k");
    uint64_t old = bury(f, "c", 1, true);
    reset_to(f, "c", 1);
    uint64_t new = bury(f, "c", 1, true);
    hark_store_letter_done done = discard(f, old);
    assert_done(f, &done, "c", 1, "k", false);
    assert_rows(f, "1 dead", "c");
    assert_letters_of(f, "1 of c", .id = new);
    free(discard(f, new).key);
    assert_rows(f, "", "c");
}

static void test_there_is_no_letter_that_was_never_written(void **state)
{
    fixture *f = *state;
    refuse_redrive(f, HARK_ENOTFOUND, 1);
    refuse_discard(f, HARK_ENOTFOUND, 1);
    refuse_discard(f, HARK_ENOTFOUND, 0);
}

static void test_ids_of_letters_are_not_used_again(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    uint64_t first = bury(f, "c", 1, false);
    free(discard(f, first).key);
    restart(f);
    assert_true(bury(f, "c", 1, false) > first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_a_redriven_letter_is_an_open_row_that_begins_anew),
        EACH(test_an_event_without_a_key_is_redriven_without_one),
        EACH(test_an_event_with_a_subject_only_is_redriven_in_the_lane_of_that),
        EACH(test_the_head_of_a_parked_lane_is_redriven_in_its_place),
        EACH(test_a_redriven_letter_goes_with_its_row),
        EACH(test_a_letter_is_redriven_once),
        EACH(test_an_event_that_is_being_retried_is_not_redriven),
        EACH(test_after_a_reset_the_consumer_comes_to_the_event_by_itself),
        EACH(test_an_event_above_the_floor_is_redriven_in_the_same_generation),
        EACH(test_a_redriven_event_that_dies_again_has_one_letter),
        EACH(test_one_delivery_answers_for_all_letters_of_an_event),
        EACH(test_letters_of_other_consumers_stay),
        EACH(test_a_discarded_letter_is_gone),
        EACH(test_discarding_the_head_of_a_parked_lane_drops_its_row),
        EACH(test_what_is_being_redriven_is_not_discarded),
        EACH(test_a_row_that_is_not_dead_outlives_the_letter),
        EACH(test_an_old_letter_does_not_free_the_lane_of_a_new_one),
        EACH(test_there_is_no_letter_that_was_never_written),
        EACH(test_ids_of_letters_are_not_used_again),
    };
    return RUN_CONTRACT(tests);
}
