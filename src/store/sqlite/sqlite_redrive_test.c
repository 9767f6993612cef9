/* What becomes of dead letters: redriven, discarded, refused; and that none is doubled or
 * forgotten. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"

static hark_err redrive(fixture *f, uint64_t id, hark_store_letter_done *ret)
{
    begin(f);
    hark_err err = OPS.letter_redrive(f->store, id, 77, ret, &f->ei);
    commit(f);
    return err;
}

static hark_err discard(fixture *f, uint64_t id, hark_store_letter_done *ret)
{
    begin(f);
    hark_err err = OPS.letter_discard(f->store, id, ret, &f->ei);
    commit(f);
    return err;
}

static void reset(fixture *f, const hark_store_consumer *c, uint64_t sequence)
{
    hark_store_reset r = {
        .size = sizeof r, .consumer = c->ret_id, .start = SEQUENCE, .start_sequence = sequence};
    begin(f);
    assert_ok(f, OPS.consumer_reset(f->store, &r, &f->ei));
    commit(f);
}

/* Three events: with a key of its own, with a subject, with neither. */
static void add_three(fixture *f)
{
    begin(f);
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .id = "1", .source = "/s", .key = "k",
                                .subject = "s", .json = "{\"n\":1}"));
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .id = "2", .source = "/s",
                                .subject = "s", .json = "{\"n\":1}"));
    (void)add(f, "t", "3");
    commit(f);
}

/* A consumer that starts at the first event, with a dead letter at each of the three. */
static hark_store_consumer three_letters(fixture *f, bool park)
{
    hark_store_consumer c = consumer("c");
    add_three(f);
    c.start = FIRST;
    assert_ok(f, load(f, &c));
    for (uint64_t seq = 1; seq <= 3; seq++)
        assert_int_equal(bury(f, &c, seq, "rejected", park), seq);
    hark_store_consumer_clear(&c);
    return c; /* its numbers */
}

static int64_t letters_in(fixture *f, int64_t state)
{
    char sql[80];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM dead_letters WHERE state = %lld",
                   (long long)state);
    return number_sql(f->path, sql);
}

static void assert_fresh_row(const hark_store_row *r, uint64_t seq, const char *key)
{
    assert_int_equal(r->sequence, seq);
    assert_int_equal(r->state, HARK_ROW_RETRY);
    assert_int_equal(r->attempts + r->crashes + r->interruptions + r->first_ns, 0);
    assert_int_equal(r->due_ns, 77);
    assert_null(r->error);
    if (key)
        assert_string_equal(r->key, key);
    else
        assert_null(r->key);
}

static void test_a_redriven_letter_is_an_open_row_in_its_lane_again(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = three_letters(f, false);
    static const char *const keys[] = {"k", "s", NULL};
    for (uint64_t id = 1; id <= 3; id++) {
        hark_store_letter_done done = {0};
        assert_ok(f, redrive(f, id, &done));
        assert_int_equal(done.consumer, c.ret_id);
        assert_int_equal(done.generation, 1);
        assert_int_equal(done.sequence, id);
        assert_int_equal(done.parked, 0);
        if (keys[id - 1])
            assert_string_equal(done.key, keys[id - 1]);
        else
            assert_null(done.key);
        free(done.key);
    }
    reopen_log(f);
    c = loaded(f, "c");
    assert_int_equal(c.ret_n_rows, 3);
    for (uint64_t seq = 1; seq <= 3; seq++)
        assert_fresh_row(&c.ret_rows[seq - 1], seq, keys[seq - 1]);
    assert_int_equal(letters_in(f, HARK_LETTER_REDRIVEN), 3);
    hark_store_consumer_clear(&c);
}

static void test_the_head_of_a_parked_lane_retries_when_it_is_redriven(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, true);
    assert_ok(f, redrive(f, 1, &done));
    assert_int_not_equal(done.parked, 0);
    assert_string_equal(done.key, "k");
    free(done.key);
    c = loaded(f, "c");
    assert_int_equal(c.ret_n_rows, 3);
    assert_fresh_row(&c.ret_rows[0], 1, "k");
    assert_int_equal(c.ret_rows[1].state, HARK_ROW_DEAD);
    hark_store_consumer_clear(&c);
}

static void test_a_letter_is_redriven_once(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0}, untouched = {.consumer = 99};
    (void)three_letters(f, false);
    assert_ok(f, redrive(f, 1, &done));
    free(done.key);
    reopen_log(f);
    assert_err(f, HARK_ECONFLICT, redrive(f, 1, &untouched));
    assert_says(f, "dead letter 1 is being redriven already");
    assert_err(f, HARK_ECONFLICT, discard(f, 1, &untouched));
    assert_err(f, HARK_ENOTFOUND, redrive(f, 9, &untouched));
    assert_err(f, HARK_ENOTFOUND, discard(f, 9, &untouched));
    assert_int_equal(untouched.consumer, 99);
}

static void test_an_event_that_is_being_retried_is_not_redriven(void **state)
{
    fixture *f = *state;
    static const int64_t states[] = {HARK_ROW_RETRY, HARK_ROW_BEHIND, HARK_ROW_PARKED};
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, false);
    for (size_t i = 0; i < HK_COUNTOF(states); i++) {
        hark_store_row row = {.sequence = 1, .state = states[i], .attempts = 2};
        put_row(f, &c, &row);
        assert_err(f, HARK_ECONFLICT, redrive(f, 1, &done));
    }
    assert_int_equal(number_sql(f->path, "SELECT attempts FROM deliveries"), 2);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 3);
}

static void test_a_redriven_letter_goes_with_its_row(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, false);
    assert_ok(f, redrive(f, 1, &done));
    free(done.key);
    drop_row(f, &c, 2); /* another's */
    assert_int_equal(letters_in(f, HARK_LETTER_REDRIVEN), 1);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 2);
    drop_row(f, &c, 1);
    assert_int_equal(letters_in(f, HARK_LETTER_REDRIVEN), 0);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 2);
}

static void test_an_event_that_dies_again_has_one_letter_the_new_one(void **state)
{
    fixture *f = *state;
    for (int park = 0; park <= 1; park++) {
        hark_store_letter_done done = {0};
        char name[2] = {(char)('a' + park), 0};
        hark_store_consumer c = loaded(f, name);
        hark_store_consumer_clear(&c);
        if (!park)
            add_three(f);
        uint64_t first = bury(f, &c, 1, "rejected", park);
        assert_ok(f, redrive(f, first, &done));
        free(done.key);
        uint64_t second = bury(f, &c, 1, "rejected", park);
        assert_true(second > first);
        assert_int_equal(letters_in(f, HARK_LETTER_REDRIVEN), 0);
        assert_int_equal(letters_in(f, HARK_LETTER_DEAD), park + 1);
    }
}

static void test_one_delivery_answers_for_all_letters_of_an_event(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, false);
    reset(f, &c, 1);
    c = loaded(f, "c");
    hark_store_consumer_clear(&c);
    uint64_t again = bury(f, &c, 1, "rejected", true);
    assert_ok(f, redrive(f, 1, &done)); /* the letter of the first generation */
    free(done.key);
    assert_err(f, HARK_ECONFLICT, redrive(f, again, &done));
    drop_row(f, &c, 1);
    assert_int_equal(letters_in(f, HARK_LETTER_REDRIVEN), 0);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 2); /* at 2 and 3 */
}

static void test_after_a_reset_only_what_lies_behind_is_redriven(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, false);
    reset(f, &c, 2);
    assert_err(f, HARK_EAGAIN, redrive(f, 2, &done));
    assert_says(f, "comes to sequence 2 by itself");
    assert_ok(f, redrive(f, 1, &done));
    assert_int_equal(done.generation, 2);
    free(done.key);
    c = loaded(f, "c");
    assert_int_equal(c.ret_n_rows, 1);
    assert_fresh_row(&c.ret_rows[0], 1, "k");
    hark_store_consumer_clear(&c);
}

static void test_a_reset_in_the_middle_of_a_redrive_forgets_no_letter(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, false);
    assert_ok(f, redrive(f, 1, &done));
    free(done.key);
    reset(f, &c, 4);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 3);
    assert_ok(f, redrive(f, 1, &done));
    free(done.key);
}

static void test_discarding_frees_a_parked_lane(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, true);
    assert_ok(f, discard(f, 2, &done));
    assert_int_equal(done.consumer, c.ret_id);
    assert_int_equal(done.sequence, 2);
    assert_int_not_equal(done.parked, 0);
    assert_string_equal(done.key, "s");
    free(done.key);
    reopen_log(f);
    c = loaded(f, "c");
    assert_int_equal(c.ret_n_rows, 2);
    assert_int_equal(c.ret_rows[1].sequence, 3);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 2);
    hark_store_consumer_clear(&c);
}

static void test_discarding_leaves_open_rows_that_are_not_parked(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_RETRY};
    hark_store_consumer c = three_letters(f, false);
    put_row(f, &c, &row);
    assert_ok(f, discard(f, 1, &done));
    free(done.key);
    assert_int_equal(done.parked, 0);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM deliveries"), 1);
}

static void test_an_older_letter_does_not_free_the_lane_of_a_newer_one(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = three_letters(f, true);
    reset(f, &c, 1);
    c = loaded(f, "c");
    hark_store_consumer_clear(&c);
    (void)bury(f, &c, 1, "rejected", true);
    assert_ok(f, discard(f, 1, &done));
    free(done.key);
    assert_int_equal(done.parked, 0);
    assert_int_equal(number_sql(f->path, "SELECT state FROM deliveries"), HARK_ROW_DEAD);
}

static void test_a_damaged_letter_can_only_be_discarded(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    (void)three_letters(f, false);
    run_sql(f->path, "UPDATE dead_letters SET envelope = '{' WHERE id = 2");
    assert_err(f, HARK_ECORRUPT, redrive(f, 2, &done));
    assert_says(f, "dead letter 2 is damaged; discard it");
    assert_ok(f, discard(f, 2, &done));
    assert_null(done.key);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 2);
}

static void test_a_rolled_back_redrive_has_not_happened(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    (void)three_letters(f, true);
    begin(f);
    assert_ok(f, OPS.letter_redrive(f->store, 1, 77, &done, &f->ei));
    free(done.key);
    assert_ok(f, OPS.letter_discard(f->store, 2, &done, &f->ei));
    free(done.key);
    OPS.rollback(f->store);
    assert_int_equal(letters_in(f, HARK_LETTER_DEAD), 3);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM deliveries WHERE state = 4"), 3);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_redriven_letter_is_an_open_row_in_its_lane_again),
        T(test_the_head_of_a_parked_lane_retries_when_it_is_redriven),
        T(test_a_letter_is_redriven_once),
        T(test_an_event_that_is_being_retried_is_not_redriven),
        T(test_a_redriven_letter_goes_with_its_row),
        T(test_an_event_that_dies_again_has_one_letter_the_new_one),
        T(test_one_delivery_answers_for_all_letters_of_an_event),
        T(test_after_a_reset_only_what_lies_behind_is_redriven),
        T(test_a_reset_in_the_middle_of_a_redrive_forgets_no_letter),
        T(test_discarding_frees_a_parked_lane),
        T(test_discarding_leaves_open_rows_that_are_not_parked),
        T(test_an_older_letter_does_not_free_the_lane_of_a_newer_one),
        T(test_a_damaged_letter_can_only_be_discarded),
        T(test_a_rolled_back_redrive_has_not_happened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
