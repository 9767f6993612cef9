/* The crash guard of shares: nothing starts above what is claimed, and what may have killed the process that had the share before
 * starts only when that is on record. */
#include "delivery/cores_test_i.h"

/* A share that its last owner did not give up: what is open up to `suspect` may have been running. */
static void claim_of_dead(fixture *f, const hark_store_consumer *state, hk_reach reach)
{
    assert_int_equal(hk_cores_claim(f->cores, (hark_store_owned){0, 7}, state, reach, now(f)),
                     HARK_OK);
}

static void claim_suspects(fixture *f, uint64_t suspect)
{
    claim_of_dead(f, &(hark_store_consumer){0}, (hk_reach){.claimed = 10000, .suspect = suspect});
}

static void arrive_all(fixture *f, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)arrive(f, f->keys[0][i % 3]);
}

/* The save of the share, which is the only one. */
static const hark_store_save *the_save(fixture *f)
{
    hark_store_save *saves;
    assert_int_equal(collect(f, &saves), 1);
    return &saves[0];
}

static void saved(fixture *f, bool ok)
{
    assert_int_equal(hk_cores_saved(f->cores, ok), 0);
}

static void assert_put(const hark_store_save *s, uint64_t seq, int64_t state, int64_t interruptions)
{
    for (size_t i = 0; i < s->n_put; i++)
        if (s->put[i].sequence == seq) {
            assert_int_equal(s->put[i].state, state);
            assert_int_equal(s->put[i].interruptions, interruptions);
            return;
        }
    fail_msg("no row of %llu is put", (unsigned long long)seq);
}

/* Marked, committed and started. */
static hk_lease start_marked(fixture *f, uint64_t seq)
{
    assert_idle(f);
    save(f);
    return start(f, seq);
}

/* ---- how far --------------------------------------------------------------------------------- */

static void claim_up_to(fixture *f, uint64_t claimed)
{
    f->opts.claim_ahead = 10;
    cores_anew(f, SHARES);
    claim_of_dead(f, &(hark_store_consumer){0}, (hk_reach){.claimed = claimed});
}

static void test_nothing_starts_above_what_is_claimed_before_that_is_committed(void **state)
{
    fixture *f = *state;
    claim_up_to(f, 2);
    arrive_all(f, 3);
    (void)start(f, 1);
    (void)start(f, 2);
    assert_idle(f);
    assert_int_equal(dirt(f), HK_DIRTY_URGENT);
    assert_int_equal(the_save(f)->claimed, 13);
    assert_idle(f);
    saved(f, false);
    assert_idle(f);
    assert_int_equal(dirt(f), HK_DIRTY_URGENT);
    assert_int_equal(the_save(f)->claimed, 13);
    saved(f, true);
    (void)start(f, 3);
}

static void test_a_claim_is_raised_by_any_save_when_half_of_it_is_used_up(void **state)
{
    fixture *f = *state;
    claim_up_to(f, 10);
    arrive_all(f, 5);
    (void)settle(f, start(f, 1), HARK_ACK);
    assert_int_equal(the_save(f)->claimed, 0);
    saved(f, true);
    arrive_all(f, 1);
    (void)settle(f, start(f, 2), HARK_ACK);
    assert_int_equal(dirt(f), HK_DIRTY_LAZY);
    assert_int_equal(the_save(f)->claimed, 16);
    saved(f, true);
}

/* ---- marks ----------------------------------------------------------------------------------- */

static void test_a_suspect_starts_when_its_mark_is_committed(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 2);
    (void)start(f, 2); /* it was not there when the last owner was */
    assert_idle(f);
    assert_int_equal(dirt(f), HK_DIRTY_URGENT);
    const hark_store_save *s = the_save(f);
    assert_put(s, 1, HARK_ROW_COUNTS, 1);
    assert_int_equal(s->floor, 0);
    assert_idle(f);
    saved(f, true);
    (void)start(f, 1);
}

static void test_a_mark_that_was_not_committed_is_made_again_with_the_same_count(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    assert_idle(f);
    assert_put(the_save(f), 1, HARK_ROW_COUNTS, 1);
    saved(f, false);
    assert_idle(f);
    assert_int_equal(dirt(f), HK_DIRTY_URGENT);
    assert_put(the_save(f), 1, HARK_ROW_COUNTS, 1);
    saved(f, true);
    (void)start(f, 1);
}

static void test_a_suspect_that_is_acked_leaves_no_row(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    (void)settle(f, start_marked(f, 1), HARK_ACK);
    const hark_store_save *s = the_save(f);
    assert_int_equal(s->floor, 1);
    assert_int_equal(s->n_put, 0);
    assert_int_equal(s->n_drop, 1);
    assert_int_equal(s->drop[0], 1);
    saved(f, true);
}

static void
test_a_suspect_that_is_retried_has_the_counts_of_before_and_is_none_any_more(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    (void)settle(f, start_marked(f, 1), HARK_RETRY);
    const hark_store_save *s = the_save(f);
    assert_put(s, 1, HARK_ROW_RETRY, 0);
    assert_int_equal(s->put[0].attempts, 1);
    saved(f, true);
    f->clock += 20 * MS;
    (void)start(f, 1);
}

static void test_a_row_of_a_suspect_stays_what_it_is_with_an_interruption_more(void **state)
{
    fixture *f = *state;
    hark_store_row rows[] = {{.sequence = 1,
                              .state = HARK_ROW_RETRY,
                              .attempts = 2,
                              .interruptions = 3,
                              .due_ns = 5,
                              .key = f->keys[0][0]},
                             {.sequence = 2, .state = HARK_ROW_BEHIND, .key = f->keys[0][1]}};
    claim_of_dead(f, &(hark_store_consumer){.ret_floor = 2, .ret_rows = rows, .ret_n_rows = 2},
                  (hk_reach){.claimed = 10, .suspect = 2});
    assert_idle(f);
    const hark_store_save *s = the_save(f);
    assert_put(s, 1, HARK_ROW_RETRY, 4);
    assert_put(s, 2, HARK_ROW_BEHIND, 1);
    assert_int_equal(s->put[0].attempts, 2);
    saved(f, true);
    (void)start(f, 1);
    (void)start(f, 2);
}

static void test_an_event_that_is_read_again_is_marked_on_top_of_its_counts(void **state)
{
    fixture *f = *state;
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_COUNTS, .interruptions = 4};
    claim_of_dead(f, &(hark_store_consumer){.ret_rows = &row, .ret_n_rows = 1},
                  (hk_reach){.claimed = 10, .suspect = 1});
    arrive_all(f, 1);
    assert_idle(f);
    assert_put(the_save(f), 1, HARK_ROW_COUNTS, 5);
    saved(f, true);
    (void)start(f, 1);
}

static void test_what_was_interrupted_is_a_suspect_also_when_its_share_was_given_up(void **state)
{
    fixture *f = *state;
    hark_store_row rows[] = {{.sequence = 1, .state = HARK_ROW_BEHIND, .interruptions = 2},
                             {.sequence = 3, .state = HARK_ROW_COUNTS, .interruptions = 1}};
    claim_of_dead(f, &(hark_store_consumer){.ret_floor = 1, .ret_rows = rows, .ret_n_rows = 2},
                  (hk_reach){.claimed = 10});
    f->read = 1;
    arrive_all(f, 2);
    (void)start(f, 2);
    assert_idle(f);
    const hark_store_save *s = the_save(f);
    assert_put(s, 1, HARK_ROW_BEHIND, 3);
    assert_put(s, 3, HARK_ROW_COUNTS, 2);
    saved(f, true);
    (void)start(f, 1);
}

static void test_at_the_limit_a_suspect_is_a_dead_letter_that_does_not_start(void **state)
{
    fixture *f = *state;
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_COUNTS, .interruptions = 20};
    claim_of_dead(f, &(hark_store_consumer){.ret_rows = &row, .ret_n_rows = 1},
                  (hk_reach){.claimed = 10, .suspect = 1});
    arrive_all(f, 1);
    assert_idle(f);
    const hark_store_save *s = the_save(f);
    assert_int_equal(s->n_dead, 1);
    assert_string_equal(s->dead[0].reason, "interrupted");
    assert_int_equal(s->dead[0].interruptions, 20);
    assert_int_equal(s->n_drop, 1);
    saved(f, true);
}

static void test_a_suspect_that_is_postponed_is_still_one(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    assert_int_equal(hk_cores_postpone(f->cores, start_marked(f, 1), MS, "later", now(f)), HARK_OK);
    assert_put(the_save(f), 1, HARK_ROW_RETRY, 0);
    saved(f, true);
    f->clock += 2 * MS;
    assert_idle(f);
    assert_put(the_save(f), 1, HARK_ROW_RETRY, 1);
    saved(f, true);
    (void)start(f, 1);
}

static void test_what_is_redriven_here_is_no_suspect(void **state)
{
    fixture *f = *state;
    claim_of_dead(f, &(hark_store_consumer){.ret_floor = 1},
                  (hk_reach){.claimed = 10, .suspect = 1});
    assert_int_equal(hk_cores_redriven(f->cores, 1, f->keys[0][0], f->clock, 1), HARK_OK);
    (void)start(f, 1);
}

/* ---- how many -------------------------------------------------------------------------------- */

/* Those that start, and some ahead that were never interrupted. */
static void test_suspects_are_marked_as_many_as_start_and_some_ahead(void **state)
{
    fixture *f = *state;
    hark_store_row rows[12];
    assert_int_equal(f->opts.workers, 4);
    f->opts.window = 200;
    cores_anew(f, SHARES);
    for (size_t i = 0; i < 12; i++)
        rows[i] = (hark_store_row){.sequence = i + 1, .state = HARK_ROW_COUNTS, .interruptions = 1};
    claim_of_dead(f, &(hark_store_consumer){.ret_rows = rows, .ret_n_rows = 12},
                  (hk_reach){.claimed = 1000, .suspect = 100});
    for (unsigned i = 0; f->read < 100; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "x%u", i);
        if (hk_share_of(key, 0, SHARES) == 0)
            (void)arrive(f, key);
    }
    for (uint64_t i = 1; i <= 8; i += 4) {
        assert_idle(f);
        assert_int_equal(the_save(f)->n_put, 4); /* of those that were interrupted none is ahead */
        saved(f, true);
        for (uint64_t k = i; k < i + 4; k++)
            (void)settle(f, start(f, k), HARK_ACK);
        hk_cores_pause(f->cores, true); /* nothing is marked with this save */
        save(f);
        hk_cores_pause(f->cores, false);
    }
    assert_idle(f);
    assert_in_range(the_save(f)->n_put, f->opts.workers + 1, f->opts.workers * 8);
    saved(f, true);
}

static void test_what_was_interrupted_often_runs_alone_until_its_end_is_committed(void **state)
{
    fixture *f = *state;
    hark_store_row row = {.sequence = 2, .state = HARK_ROW_COUNTS, .interruptions = 10};
    claim_of_dead(f, &(hark_store_consumer){.ret_rows = &row, .ret_n_rows = 1},
                  (hk_reach){.claimed = 10, .suspect = 2});
    arrive_all(f, 3);
    hk_lease first = start_marked(f, 1);
    assert_idle(f); /* the third waits, too */
    (void)settle(f, first, HARK_ACK);
    assert_idle(f);
    assert_put(the_save(f), 2, HARK_ROW_COUNTS, 11);
    assert_idle(f);
    saved(f, true);
    hk_lease alone = start(f, 2);
    assert_idle(f);
    (void)settle(f, alone, HARK_ACK);
    assert_idle(f);
    assert_int_equal(dirt(f), HK_DIRTY_URGENT);
    (void)the_save(f);
    saved(f, false);
    assert_idle(f);
    save(f);
    (void)start(f, 3);
}

/* ---- not after all --------------------------------------------------------------------------- */

static void assert_unmarked(fixture *f)
{
    const hark_store_save *s = the_save(f);
    assert_int_equal(s->n_put, 0);
    assert_int_equal(s->n_drop, 1);
    assert_int_equal(s->drop[0], 1);
    saved(f, true);
}

static void test_what_did_not_run_is_unmarked_before_its_share_is_dry(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    assert_idle(f);
    save(f);
    hk_cores_leave(f->cores, 0, true);
    assert_false(hk_cores_dry(f->cores, 0));
    assert_unmarked(f);
    assert_true(hk_cores_dry(f->cores, 0));
    hk_cores_leave(f->cores, 0, false); /* it may stay: all over again */
    (void)start_marked(f, 1);
}

static void test_a_mark_under_way_is_taken_back_when_its_share_leaves(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    assert_idle(f);
    (void)the_save(f);
    hk_cores_leave(f->cores, 0, true);
    saved(f, true);
    assert_unmarked(f);
    assert_true(hk_cores_dry(f->cores, 0));
}

static void test_a_mark_that_was_not_collected_is_forgotten_when_its_share_leaves(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    assert_idle(f);
    hk_cores_leave(f->cores, 0, true);
    const hark_store_save *s = the_save(f);
    assert_int_equal(s->n_put + s->n_drop, 0);
    saved(f, true);
    assert_true(hk_cores_dry(f->cores, 0));
}

static void test_what_did_not_run_is_unmarked_by_a_pause_and_by_closing(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    assert_idle(f);
    save(f);
    hk_cores_pause(f->cores, true);
    assert_unmarked(f);
    hk_cores_pause(f->cores, false);
    assert_idle(f);
    save(f);
    hk_cores_finish(f->cores);
    assert_unmarked(f);
    hk_cores_pause(f->cores, false);
    assert_idle(f);
    assert_int_equal(dirt(f), HK_CLEAN);
}

static void test_what_is_abandoned_is_unmarked_and_may_still_end(void **state)
{
    fixture *f = *state;
    hark_store_row row = {.sequence = 2, .state = HARK_ROW_COUNTS, .interruptions = 3};
    claim_of_dead(f, &(hark_store_consumer){.ret_rows = &row, .ret_n_rows = 1},
                  (hk_reach){.claimed = 10, .suspect = 2});
    arrive_all(f, 2);
    hk_lease first = start_marked(f, 1), second = start(f, 2);
    hk_cores_finish(f->cores);
    hk_cores_abandon(f->cores);
    const hark_store_save *s = the_save(f);
    assert_int_equal(s->floor, 0);
    assert_put(s, 2, HARK_ROW_COUNTS, 3);
    assert_int_equal(s->n_drop, 1);
    assert_int_equal(s->drop[0], 1);
    saved(f, true);
    assert_int_equal(settle(f, first, HARK_ACK), HARK_OK);
    assert_int_equal(settle(f, second, HARK_RETRY), HARK_OK);
    s = the_save(f);
    assert_int_equal(s->floor, 2);
    assert_put(s, 2, HARK_ROW_RETRY, 3);
    saved(f, true);
}

static void test_what_was_not_worked_on_stays_marked_unless_it_rests(void **state)
{
    fixture *f = *state;
    claim_suspects(f, 1);
    arrive_all(f, 1);
    hk_cores_unstart(f->cores, start_marked(f, 1));
    hk_lease again = start(f, 1);
    hk_cores_leave(f->cores, 0, true);
    hk_cores_unstart(f->cores, again);
    assert_unmarked(f);
}

/* ---- others ---------------------------------------------------------------------------------- */

static void test_what_an_earlier_owner_left_is_dropped_as_stale(void **state)
{
    fixture *f = *state;
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_DEAD, .key = f->keys[0][0]};
    claim_of_dead(f, &(hark_store_consumer){.ret_floor = 1, .ret_rows = &row, .ret_n_rows = 1},
                  (hk_reach){.claimed = 10, .suspect = 2});
    const hark_store_save *s = the_save(f);
    assert_int_equal(s->n_stale, 1);
    assert_int_equal(s->n_drop, 1);
    assert_int_equal(s->drop[0], 1);
    saved(f, true);
}

static void test_without_a_token_nothing_is_marked_and_nothing_claimed(void **state)
{
    fixture *f = *state;
    cores_anew(f, 1);
    assert_int_equal(hk_cores_claim(f->cores, (hark_store_owned){0, 0}, &(hark_store_consumer){0},
                                    (hk_reach){.claimed = 0, .suspect = 100}, now(f)),
                     HARK_OK);
    arrive_all(f, 3);
    (void)settle(f, start(f, 1), HARK_ACK);
    (void)start(f, 2);
    const hark_store_save *s = the_save(f);
    assert_int_equal(s->claimed, 0);
    assert_int_equal(s->n_put, 0);
    saved(f, true);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_starts_above_what_is_claimed_before_that_is_committed),
        TEST(test_a_claim_is_raised_by_any_save_when_half_of_it_is_used_up),
        TEST(test_a_suspect_starts_when_its_mark_is_committed),
        TEST(test_a_mark_that_was_not_committed_is_made_again_with_the_same_count),
        TEST(test_a_suspect_that_is_acked_leaves_no_row),
        TEST(test_a_suspect_that_is_retried_has_the_counts_of_before_and_is_none_any_more),
        TEST(test_a_row_of_a_suspect_stays_what_it_is_with_an_interruption_more),
        TEST(test_an_event_that_is_read_again_is_marked_on_top_of_its_counts),
        TEST(test_what_was_interrupted_is_a_suspect_also_when_its_share_was_given_up),
        TEST(test_at_the_limit_a_suspect_is_a_dead_letter_that_does_not_start),
        TEST(test_a_suspect_that_is_postponed_is_still_one),
        TEST(test_what_is_redriven_here_is_no_suspect),
        TEST(test_suspects_are_marked_as_many_as_start_and_some_ahead),
        TEST(test_what_was_interrupted_often_runs_alone_until_its_end_is_committed),
        TEST(test_what_did_not_run_is_unmarked_before_its_share_is_dry),
        TEST(test_a_mark_under_way_is_taken_back_when_its_share_leaves),
        TEST(test_a_mark_that_was_not_collected_is_forgotten_when_its_share_leaves),
        TEST(test_what_did_not_run_is_unmarked_by_a_pause_and_by_closing),
        TEST(test_what_is_abandoned_is_unmarked_and_may_still_end),
        TEST(test_what_was_not_worked_on_stays_marked_unless_it_rests),
        TEST(test_what_an_earlier_owner_left_is_dropped_as_stale),
        TEST(test_without_a_token_nothing_is_marked_and_nothing_claimed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
