/* Promises of a consumer that is divided into shares: what starts, what is read, and whose it is.
 * What is saved of it is in cores_save_test.c. */
#include "delivery/cores_test_i.h"

/* ---- limits and order over all shares -------------------------------------------------------- */

static void test_no_more_run_than_there_are_workers_in_all_shares_together(void **state)
{
    fixture *f = *state;
    f->opts.workers = 2;
    cores_anew(f, SHARES);
    claim_all(f);
    for (uint32_t i = 0; i < SHARES; i++)
        (void)arrive(f, f->keys[i][0]);
    hk_lease first = start(f, 1);
    (void)start(f, 2);
    assert_idle(f);
    assert_int_equal(settle(f, first, HARK_ACK), HARK_OK);
    (void)start(f, 3);
    assert_idle(f);
}

static void test_the_lowest_sequence_of_all_shares_starts_first(void **state)
{
    fixture *f = *state;
    claim_all(f);
    const uint32_t order[] = {2, 0, 3, 3, 1, 0};
    for (size_t i = 0; i < 6; i++)
        (void)arrive(f, f->keys[order[i]][i % 3]);
    for (uint64_t seq = 1; seq <= 4; seq++)
        (void)start(f, seq);
    assert_idle(f);
}

static void test_an_event_without_a_key_is_of_the_share_of_its_sequence(void **state)
{
    fixture *f = *state;
    claim_all(f);
    for (uint64_t seq = 1; seq <= 4; seq++)
        (void)arrive(f, NULL);
    for (uint64_t seq = 1; seq <= 4; seq++) {
        hark_store_owned of;
        assert_int_equal(hk_cores_owned(f->cores, start(f, seq), &of), HARK_OK);
        assert_int_equal(of.share, hk_share_of(NULL, seq, SHARES));
    }
}

/* Processes of all versions must agree on it. */
static void test_the_share_of_a_key_is_the_same_for_ever(void **state)
{
    (void)state;
    assert_int_equal(hk_share_of("order-1", 0, 32), 3);
    assert_int_equal(hk_share_of("order-1", 77, 32), 3); /* wherever the event is */
    assert_int_equal(hk_share_of("", 0, 32), 16);
    assert_int_equal(hk_share_of("customer:4711 with a longer key", 0, 32), 31);
    assert_int_equal(hk_share_of(NULL, 1, 32), 18);
    assert_int_equal(hk_share_of(NULL, 2, 32), 2);
    assert_int_equal(hk_share_of(NULL, (UINT64_C(1) << 40) + 5, 32), 26);
    assert_int_equal(hk_share_of("order-1", 0, 1), 0);
}

static void test_the_window_is_that_of_all_shares_together(void **state)
{
    fixture *f = *state;
    claim_all(f);
    assert_int_equal(hk_cores_room(f->cores), 16);
    for (uint32_t i = 0; i < SHARES; i++)
        (void)arrive(f, f->keys[i][0]);
    assert_int_equal(hk_cores_room(f->cores), 12);
    hk_cores_drop(f->cores, 1);
    assert_int_equal(hk_cores_room(f->cores), 13);
}

static void test_the_ledger_is_that_of_all_shares_together(void **state)
{
    fixture *f = *state;
    f->opts.max_deferred = 3;
    cores_anew(f, SHARES);
    claim_all(f);
    for (uint32_t i = 0; i < 3; i++) {
        uint64_t seq = arrive(f, f->keys[i][0]);
        assert_int_equal(hk_cores_room(f->cores), 3 - i);
        assert_int_equal(settle(f, start(f, seq), HARK_RETRY), HARK_OK);
    }
    assert_int_equal(hk_cores_room(f->cores), 0);
}

static void test_there_is_no_room_where_no_share_is(void **state)
{
    fixture *f = *state;
    assert_int_equal(hk_cores_room(f->cores), 0);
    assert_int_equal(hk_cores_covered(f->cores), UINT64_MAX);
    assert_int_equal(hk_cores_due(f->cores), -1);
    assert_idle(f);
}

static void test_a_retry_that_comes_due_while_no_place_is_free_is_not_due_for_ever(void **state)
{
    fixture *f = *state;
    f->opts.workers = 1;
    cores_anew(f, SHARES);
    claim_all(f);
    (void)arrive(f, f->keys[0][0]);
    assert_int_equal(settle(f, start(f, 1), HARK_RETRY), HARK_OK);
    save(f);
    (void)arrive(f, f->keys[1][0]);
    hk_lease other = start(f, 2);
    assert_int_equal(hk_cores_due(f->cores), 10 * MS);
    f->clock = 10 * MS;
    assert_idle(f);
    assert_true(hk_cores_due(f->cores) < 0 || hk_cores_due(f->cores) > f->clock);
    assert_int_equal(settle(f, other, HARK_ACK), HARK_OK);
    (void)start(f, 1);
}

static void test_a_replays_pace_is_divided_among_the_shares(void **state)
{
    fixture *f = *state;
    hark_store_consumer replay = {.ret_rerun = {.id = "r", .upto = 10, .rate = 4}};
    assert_int_equal(hk_cores_claim(f->cores, (hark_store_owned){2, 1}, &replay,
                                    (hk_reach){.claimed = UINT64_MAX / 2}, now(f)),
                     HARK_OK);
    (void)arrive(f, f->keys[2][0]);
    (void)arrive(f, f->keys[2][1]);
    (void)start(f, 1);
    assert_idle(f);
    assert_int_equal(hk_cores_due(f->cores), 1000 * MS); /* 4 shares, 4 a second */
    f->clock = 1000 * MS;
    (void)start(f, 2);
}

static void test_a_pause_is_for_all_shares_and_for_those_that_come(void **state)
{
    fixture *f = *state;
    claim_at(f, 0, 1, 0);
    hk_cores_pause(f->cores, true);
    claim_at(f, 1, 1, 0);
    (void)arrive(f, f->keys[0][0]);
    (void)arrive(f, f->keys[1][0]);
    assert_idle(f);
    hk_cores_pause(f->cores, false);
    (void)start(f, 1);
    (void)start(f, 2);
}

/* ---- reading --------------------------------------------------------------------------------- */

static void test_what_is_of_a_share_elsewhere_is_not_kept(void **state)
{
    fixture *f = *state;
    claim_at(f, 1, 1, 0);
    assert_false(arrive_of(f, 0, 1, f->keys[0][0]));
    assert_true(arrive_of(f, 1, 2, f->keys[1][0]));
    (void)start(f, 2);
    assert_idle(f);
}

static void test_reading_begins_behind_the_share_that_has_come_least_far(void **state)
{
    fixture *f = *state;
    claim_at(f, 0, 1, 30);
    claim_at(f, 1, 1, 10);
    claim_at(f, 2, 1, 20);
    assert_int_equal(hk_cores_covered(f->cores), 10);
    hk_cores_drop(f->cores, 1);
    assert_int_equal(hk_cores_covered(f->cores), 20);
}

static void test_a_share_ignores_what_it_has_seen(void **state)
{
    fixture *f = *state;
    claim_at(f, 0, 1, 30);
    claim_at(f, 1, 1, 10);
    assert_false(arrive_of(f, 10, 11, f->keys[0][0]));
    assert_true(arrive_of(f, 11, 12, f->keys[1][0]));
    hk_cores_cover(f->cores, 12, 40);
    assert_int_equal(hk_cores_covered(f->cores), 40);
    assert_false(arrive_of(f, 12, 31, f->keys[0][0]));
}

static void test_a_share_claimed_while_a_page_was_read_is_left_alone_by_it(void **state)
{
    fixture *f = *state;
    claim_at(f, 0, 1, 20);
    uint64_t after = hk_cores_covered(f->cores); /* a page is being read from here on */
    claim_at(f, 1, 1, 5);
    assert_false(arrive_of(f, after, 21, f->keys[1][0]));
    assert_true(arrive_of(f, after, 22, f->keys[0][0]));
    hk_cores_cover(f->cores, after, 25);
    assert_int_equal(hk_cores_covered(f->cores), 5); /* nothing of it is skipped */
    assert_true(arrive_of(f, 5, 6, f->keys[1][0]));
    assert_true(arrive_of(f, 5, 21, f->keys[1][0]));
    (void)start(f, 6);
}

static void test_a_share_claimed_where_the_page_began_takes_part_in_it(void **state)
{
    fixture *f = *state;
    claim_at(f, 0, 1, 20);
    claim_at(f, 1, 1, 20);
    assert_true(arrive_of(f, 20, 21, f->keys[1][0]));
    assert_int_equal(hk_cores_covered(f->cores), 21);
}

/* ---- leaving --------------------------------------------------------------------------------- */

static void test_nothing_of_a_share_that_leaves_starts(void **state)
{
    fixture *f = *state;
    claim_all(f);
    (void)arrive(f, f->keys[1][0]);
    (void)arrive(f, f->keys[1][1]);
    (void)arrive(f, f->keys[2][0]);
    (void)start(f, 1);
    hk_cores_leave(f->cores, 1, true);
    (void)start(f, 3);
    assert_idle(f);
    hk_cores_pause(f->cores, false); /* does not change that */
    assert_idle(f);
    hk_cores_leave(f->cores, 1, false);
    (void)start(f, 2);
}

static void test_a_share_is_dry_when_nothing_runs_and_all_is_saved(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    claim_all(f);
    (void)arrive(f, f->keys[1][0]);
    hk_lease lease = start(f, 1);
    save(f);
    assert_false(hk_cores_dry(f->cores, 1)); /* it does not leave */
    hk_cores_leave(f->cores, 1, true);
    assert_false(hk_cores_dry(f->cores, 1)); /* it runs */
    assert_int_equal(settle(f, lease, HARK_ACK), HARK_OK);
    assert_false(hk_cores_dry(f->cores, 1)); /* that is to be saved */
    assert_int_equal(collect(f, &saves), 1);
    assert_false(hk_cores_dry(f->cores, 1)); /* and is being saved */
    (void)hk_cores_saved(f->cores, false);
    assert_false(hk_cores_dry(f->cores, 1)); /* and was not */
    save(f);
    assert_true(hk_cores_dry(f->cores, 1));
    assert_false(hk_cores_dry(f->cores, 0));
}

static void test_nothing_is_read_for_a_share_that_leaves(void **state)
{
    fixture *f = *state;
    claim_all(f);
    hk_cores_leave(f->cores, 1, true);
    (void)arrive(f, f->keys[1][0]);
    (void)arrive(f, f->keys[2][0]);
    assert_int_equal(hk_cores_covered(f->cores), 2);
    (void)start(f, 2);
    assert_idle(f);
    save(f);
    assert_true(hk_cores_dry(f->cores, 1)); /* and so it can become dry while others read on */
    hk_cores_leave(f->cores, 1, false);
    assert_int_equal(hk_cores_covered(f->cores), 0); /* what it has missed is read */
    assert_true(arrive_of(f, 0, 1, f->keys[1][0]));
    (void)start(f, 1);
}

static void test_there_is_no_room_while_all_shares_leave(void **state)
{
    fixture *f = *state;
    claim_at(f, 3, 1, 0);
    hk_cores_leave(f->cores, 3, true);
    assert_int_equal(hk_cores_room(f->cores), 0);
    assert_int_equal(hk_cores_covered(f->cores), UINT64_MAX);
}

static void test_a_retry_of_a_share_that_leaves_wakes_nobody(void **state)
{
    fixture *f = *state;
    claim_at(f, 1, 1, 0);
    (void)arrive(f, f->keys[1][0]);
    assert_int_equal(settle(f, start(f, 1), HARK_RETRY), HARK_OK);
    save(f);
    assert_int_equal(hk_cores_due(f->cores), 10 * MS);
    hk_cores_leave(f->cores, 1, true);
    assert_int_equal(hk_cores_due(f->cores), -1);
}

static void test_an_attempt_of_a_share_that_leaves_times_out(void **state)
{
    fixture *f = *state;
    hk_lease lease, ended;
    uint64_t seq;
    hark_verdict came;
    claim_all(f);
    (void)arrive(f, f->keys[2][0]);
    lease = start_until(f, 1, 5 * MS);
    hk_cores_leave(f->cores, 2, true);
    assert_int_equal(hk_cores_due(f->cores), 5 * MS);
    f->clock = 5 * MS;
    assert_true(hk_cores_expire(f->cores, now(f), &ended, &seq, &came));
    assert_true(hk_lease_same(lease, ended));
    assert_int_equal(seq, 1);
    assert_false(hk_cores_expire(f->cores, now(f), &ended, &seq, &came));
    assert_int_equal(settle(f, lease, HARK_ACK), HARK_ESTALE);
}

/* ---- gone, and back -------------------------------------------------------------------------- */

/* Nothing that is said for this lease is heard. */
static void assert_stale(fixture *f, hk_lease lease)
{
    hark_store_owned of;
    void *p = payload_new(f);
    assert_int_equal(settle(f, lease, HARK_ACK), HARK_ESTALE);
    assert_int_equal(hk_cores_extend(f->cores, lease, 1), HARK_ESTALE);
    assert_int_equal(hk_cores_seal(f->cores, lease), HARK_ESTALE);
    assert_int_equal(hk_cores_acked(f->cores, lease), HARK_ESTALE);
    assert_int_equal(hk_cores_postpone(f->cores, lease, 0, NULL, now(f)), HARK_ESTALE);
    assert_int_equal(hk_cores_bury(f->cores, lease, "upcast", NULL, now(f)), HARK_ESTALE);
    assert_int_equal(hk_cores_payload_set(f->cores, lease, p), HARK_ESTALE);
    assert_int_equal(hk_cores_owned(f->cores, lease, &of), HARK_ESTALE);
    assert_null(hk_cores_payload(f->cores, lease));
    hk_cores_keep(f->cores, lease, 1);
    hk_cores_unseal(f->cores, lease);
    hk_cores_unstart(f->cores, lease);
    hk_cores_die(f->cores, lease, now(f));
    drop(p);
}

static void test_answers_to_a_share_that_is_gone_are_stale(void **state)
{
    fixture *f = *state;
    claim_all(f);
    (void)arrive(f, f->keys[2][0]);
    hk_lease lease = start(f, 1);
    hk_cores_drop(f->cores, 2);
    assert_false(hk_cores_has(f->cores, 2, NULL));
    assert_stale(f, lease);
    hk_cores_drop(f->cores, 2);
    assert_int_equal(hk_cores_count(f->cores), 3);
}

static void test_answers_to_an_earlier_life_of_a_share_are_stale(void **state)
{
    fixture *f = *state;
    claim_at(f, 2, 1, 0);
    assert_true(arrive_of(f, 0, 1, f->keys[2][0]));
    hk_lease before = start(f, 1);
    hk_cores_drop(f->cores, 2);
    claim_at(f, 2, 3, 0);
    assert_true(arrive_of(f, 0, 1, f->keys[2][0]));
    hk_lease after = start(f, 1);
    assert_int_equal(before.place, after.place);
    assert_int_equal(before.token, after.token);
    assert_stale(f, before);
    assert_int_equal(settle(f, after, HARK_ACK), HARK_OK);
}

static void test_a_share_that_is_here_already_begins_anew(void **state)
{
    fixture *f = *state;
    uint64_t token;
    claim_at(f, 2, 1, 0);
    assert_true(arrive_of(f, 0, 1, f->keys[2][0]));
    hk_lease before = start(f, 1);
    claim_at(f, 2, 5, 0);
    assert_int_equal(hk_cores_count(f->cores), 1);
    assert_true(hk_cores_has(f->cores, 2, &token));
    assert_int_equal(token, 5);
    assert_stale(f, before);
    assert_int_equal(hk_cores_covered(f->cores), 0);
}

static void test_shares_are_listed_in_their_order(void **state)
{
    fixture *f = *state;
    claim_at(f, 3, 30, 0);
    claim_at(f, 0, 10, 0);
    claim_at(f, 2, 20, 0);
    hk_cores_drop(f->cores, 0);
    assert_int_equal(hk_cores_count(f->cores), 2);
    assert_int_equal(hk_cores_at(f->cores, 0).share, 2);
    assert_int_equal(hk_cores_at(f->cores, 0).token, 20);
    assert_int_equal(hk_cores_at(f->cores, 1).share, 3);
}

/* ---- one event ------------------------------------------------------------------------------- */

static void test_a_redrive_goes_to_the_share_of_its_key(void **state)
{
    fixture *f = *state;
    claim_at(f, 0, 1, 9);
    claim_at(f, 1, 1, 9);
    assert_int_equal(hk_cores_redriven(f->cores, 7, f->keys[1][0], 0, 0), HARK_OK);
    assert_int_equal(hk_cores_redriven(f->cores, 8, f->keys[3][0], 0, 0), HARK_OK); /* elsewhere */
    hark_store_owned of;
    assert_int_equal(hk_cores_owned(f->cores, start(f, 7), &of), HARK_OK);
    assert_int_equal(of.share, 1);
    assert_idle(f);
}

static void test_a_discard_goes_to_the_share_of_its_key(void **state)
{
    fixture *f = *state;
    f->opts.park = true;
    cores_anew(f, SHARES);
    claim_all(f);
    (void)arrive(f, f->keys[1][0]);
    assert_int_equal(settle(f, start(f, 1), HARK_REJECT), HARK_OK);
    (void)arrive(f, f->keys[1][0]);
    save(f);
    assert_idle(f);
    hk_cores_discarded(f->cores, 1, f->keys[2][0]);
    assert_idle(f);
    hk_cores_discarded(f->cores, 1, f->keys[1][0]);
    (void)start(f, 2);
}

static void test_how_far_an_event_is_is_known_where_its_share_is(void **state)
{
    fixture *f = *state;
    hk_stage stage;
    claim_at(f, 1, 1, 0);
    (void)arrive(f, f->keys[1][0]);
    assert_true(hk_cores_stage(f->cores, 1, f->keys[1][0], &stage));
    assert_int_equal(stage, HK_STAGE_OPEN);
    assert_int_equal(settle(f, start(f, 1), HARK_ACK), HARK_OK);
    assert_true(hk_cores_stage(f->cores, 1, f->keys[1][0], &stage));
    assert_int_equal(stage, HK_STAGE_DONE);
    assert_true(hk_cores_stage(f->cores, 2, f->keys[1][1], &stage));
    assert_int_equal(stage, HK_STAGE_AHEAD);
    assert_false(hk_cores_stage(f->cores, 1, f->keys[0][0], &stage));
}

static void test_facts_are_of_all_shares_together(void **state)
{
    fixture *f = *state;
    hk_core_facts x;
    claim_all(f);
    for (uint32_t i = 0; i < SHARES; i++)
        (void)arrive(f, f->keys[i][0]);
    f->clock = 3 * MS;
    assert_int_equal(settle(f, start(f, 1), HARK_RETRY), HARK_OK);
    (void)start(f, 2);
    f->clock = 4 * MS;
    (void)start(f, 3);
    save(f);
    hk_cores_facts_get(f->cores, &x);
    assert_int_equal(x.covered, 4);
    assert_int_equal(x.floor, 1);
    assert_int_equal(x.highest, 3);
    assert_int_equal(x.in_memory, 3);
    assert_int_equal(x.running, 2);
    assert_int_equal(x.ready, 1);
    assert_int_equal(x.waiting, 1);
    assert_int_equal(x.deferred, 1);
    assert_int_equal(x.oldest_running, 2);
    assert_int_equal(x.next_retry, 1);
    assert_string_equal(x.retry_key, f->keys[0][0]);
    assert_int_equal(hk_cores_running(f->cores, 0), 2);
    assert_int_equal(hk_cores_running(f->cores, 1), 3);
    assert_int_equal(hk_cores_running(f->cores, 2), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_more_run_than_there_are_workers_in_all_shares_together),
        TEST(the_lowest_sequence_of_all_shares_starts_first),
        TEST(an_event_without_a_key_is_of_the_share_of_its_sequence),
        TEST(the_share_of_a_key_is_the_same_for_ever),
        TEST(the_window_is_that_of_all_shares_together),
        TEST(the_ledger_is_that_of_all_shares_together),
        TEST(there_is_no_room_where_no_share_is),
        TEST(a_retry_that_comes_due_while_no_place_is_free_is_not_due_for_ever),
        TEST(a_replays_pace_is_divided_among_the_shares),
        TEST(a_pause_is_for_all_shares_and_for_those_that_come),
        TEST(what_is_of_a_share_elsewhere_is_not_kept),
        TEST(reading_begins_behind_the_share_that_has_come_least_far),
        TEST(a_share_ignores_what_it_has_seen),
        TEST(a_share_claimed_while_a_page_was_read_is_left_alone_by_it),
        TEST(a_share_claimed_where_the_page_began_takes_part_in_it),
        TEST(nothing_of_a_share_that_leaves_starts),
        TEST(a_share_is_dry_when_nothing_runs_and_all_is_saved),
        TEST(nothing_is_read_for_a_share_that_leaves),
        TEST(there_is_no_room_while_all_shares_leave),
        TEST(a_retry_of_a_share_that_leaves_wakes_nobody),
        TEST(an_attempt_of_a_share_that_leaves_times_out),
        TEST(answers_to_a_share_that_is_gone_are_stale),
        TEST(answers_to_an_earlier_life_of_a_share_are_stale),
        TEST(a_share_that_is_here_already_begins_anew),
        TEST(shares_are_listed_in_their_order),
        TEST(a_redrive_goes_to_the_share_of_its_key),
        TEST(a_discard_goes_to_the_share_of_its_key),
        TEST(how_far_an_event_is_is_known_where_its_share_is),
        TEST(facts_are_of_all_shares_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
