/* Tests of a handler's transaction: the sealed lease, and the ack that the store has committed. */
#include "delivery/delivery_test_i.h"

enum { SETTLED_ROW = 6 };

/* What hark_store_ops.ack leaves in the ledger. */
static void ack_on_disk(fixture *f, uint64_t seq)
{
    put_row(&f->disk, &(hark_store_row){.sequence = seq, .state = SETTLED_ROW});
}

static bool expire(fixture *f, uint64_t seq)
{
    hk_lease lease;
    uint64_t got;
    hark_verdict v;
    if (!hk_core_expire(f->core, now(f), &lease, &got, &v))
        return false;
    assert_int_equal(got, seq);
    return true;
}

static hk_lease sealed(fixture *f, uint64_t seq, int64_t until)
{
    hk_lease lease = start_until(f, seq, until).lease;
    assert_int_equal(hk_core_seal(f->core, lease), HARK_OK);
    return lease;
}

static void test_a_sealed_attempt_does_not_time_out(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    hk_lease lease = sealed(f, 1, f->clock + 5 * MS);
    (void)start_until(f, 2, f->clock + 7 * MS);
    assert_int_equal(hk_core_due(f->core), f->clock + 7 * MS);
    f->clock += 100 * MS;
    assert_true(expire(f, 2));
    assert_false(expire(f, 1));
    assert_int_equal(facts(f).running, 1);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_OK);
    assert_int_equal(facts(f).running, 0);
}

static void test_an_unsealed_attempt_times_out_when_its_time_had_been(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    int64_t until = f->clock + 5 * MS;
    hk_lease lease = sealed(f, 1, until);
    assert_int_equal(hk_core_due(f->core), -1);
    hk_core_unseal(f->core, lease);
    assert_int_equal(hk_core_due(f->core), until);
    assert_false(expire(f, 1));
    f->clock = until;
    assert_true(expire(f, 1));
}

static void test_an_attempt_whose_time_passed_while_sealed_times_out_at_once(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    hk_lease lease = sealed(f, 1, f->clock + 5 * MS);
    f->clock += 50 * MS;
    hk_core_unseal(f->core, lease);
    assert_true(hk_core_due(f->core) <= f->clock);
    assert_true(expire(f, 1));
    begin_save(f);
    assert_string_equal(f->flight.attempts[0].outcome, "timeout");
    commit(f);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_ESTALE);
}

static void test_extending_a_sealed_attempt_counts_once_it_is_unsealed(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    hk_lease lease = sealed(f, 1, f->clock + 5 * MS);
    int64_t until = f->clock + 30 * MS;
    assert_int_equal(hk_core_extend(f->core, lease, until), HARK_OK);
    assert_int_equal(hk_core_due(f->core), -1);
    f->clock += 20 * MS;
    hk_core_unseal(f->core, lease);
    assert_false(expire(f, 1));
    assert_int_equal(hk_core_due(f->core), until);
}

static void test_a_seal_needs_a_lease_and_there_is_only_one(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    const hk_lease nobody = {.place = SIZE_MAX, .token = 1};
    assert_int_equal(hk_core_seal(f->core, nobody), HARK_ESTALE);
    assert_int_equal(hk_core_acked(f->core, nobody), HARK_ESTALE);
    hk_core_unseal(f->core, nobody);
    hk_lease old = start_until(f, 1, f->clock + 5 * MS).lease;
    f->clock += 5 * MS;
    assert_true(expire(f, 1));
    assert_int_equal(hk_core_seal(f->core, old), HARK_ESTALE);
    hk_lease next = sealed(f, 2, -1); /* in the same place */
    assert_int_equal(next.place, old.place);
    assert_int_equal(hk_core_seal(f->core, next), HARK_ESTALE);
    hk_core_unseal(f->core, old);
    assert_int_equal(hk_core_acked(f->core, old), HARK_ESTALE);
    hk_core_unseal(f->core, next);
    assert_int_equal(hk_core_seal(f->core, next), HARK_OK);
}

static void test_the_next_in_the_place_of_a_sealed_one_times_out(void **state)
{
    fixture *f = *state;
    f->opts.workers = 1;
    core_anew(f);
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    assert_int_equal(hk_core_acked(f->core, sealed(f, 1, f->clock + MS)), HARK_OK);
    (void)start_until(f, 2, f->clock + 5 * MS);
    f->clock += 5 * MS;
    assert_true(expire(f, 2));
}

static void test_a_sealed_attempt_may_be_abandoned_or_answered(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    hk_core_unstart(f->core, sealed(f, 1, f->clock + 5 * MS));
    hk_lease lease = start_until(f, 1, f->clock + 5 * MS).lease;
    assert_int_equal(hk_core_due(f->core), f->clock + 5 * MS); /* not sealed */
    assert_int_equal(hk_core_seal(f->core, lease), HARK_OK);
    assert_int_equal(settle(f, lease, HARK_RETRY), HARK_RETRY);
    save(f);
    assert_int_equal(row_on_disk(&f->disk, 1)->attempts, 1);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_ESTALE);
}

static void test_the_row_of_a_committed_ack_goes_with_the_next_save(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    arrive(f, 2, NULL);
    hk_lease lease = sealed(f, 1, -1);
    (void)start(f, 2, 1);
    ack_on_disk(f, 1);
    save(f); /* says that 1 is open: the row knows better */
    assert_int_equal(f->disk.floor, 0);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_OK);
    assert_int_equal(facts(f).deferred, 0);
    assert_int_equal(facts(f).in_memory, 1);
    assert_int_equal(hk_core_dirt(f->core), HK_DIRTY_LAZY); /* the row tells meanwhile */
    begin_save(f);
    assert_int_equal(f->flight.n_drop, 1);
    assert_int_equal(f->flight.drop[0], 1);
    commit(f);
    assert_int_equal(f->disk.floor, 1);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(hk_core_dirt(f->core), HK_CLEAN);
}

static void test_the_row_of_a_committed_ack_in_place_of_a_retry_goes_too(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    arrive(f, 2, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    f->clock += 10 * MS;
    hk_lease lease = start(f, 1, 2);
    assert_int_equal(hk_core_seal(f->core, lease), HARK_OK);
    ack_on_disk(f, 1);
    assert_int_equal(facts(f).deferred, 2);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_OK);
    assert_int_equal(facts(f).deferred, 1);
    settle(f, start(f, 2, 1), HARK_ACK); /* its lane is free at once */
    assert_int_equal(facts(f).deferred, 0);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(f->disk.floor, 2);
}

static void test_a_failed_save_drops_the_row_of_an_ack_another_time(void **state)
{
    fixture *f = *state;
    arrive(f, 1, NULL);
    hk_lease lease = sealed(f, 1, -1);
    ack_on_disk(f, 1);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_OK);
    begin_save(f);
    assert_int_equal(f->flight.n_drop, 1);
    hk_core_saved(f->core, false);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

/* It was behind a retry, its row was not saved yet when its turn came. */
static void test_an_ack_while_its_row_is_being_saved_drops_the_row_with_the_next(void **state)
{
    fixture *f = *state;
    arrive(f, 1, "a");
    settle(f, start(f, 1, 1), HARK_RETRY);
    save(f);
    arrive(f, 2, "a");
    f->clock += 10 * MS;
    settle(f, start(f, 1, 2), HARK_ACK);
    hk_lease lease = sealed(f, 2, -1);
    begin_save(f);
    assert_int_equal(f->flight.n_put, 1);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_OK);
    commit(f);
    ack_on_disk(f, 2);
    begin_save(f);
    assert_int_equal(f->flight.n_put, 0);
    assert_int_equal(f->flight.n_drop, 1);
    assert_int_equal(f->flight.drop[0], 2);
    commit(f);
    assert_int_equal(f->disk.n_rows, 0);
    assert_int_equal(facts(f).deferred, 0);
}

static void test_a_committed_ack_drops_a_row_that_only_counted(void **state)
{
    fixture *f = *state;
    count_on_disk(&f->disk, 1, 1, 0);
    restart(f);
    arrive(f, 1, NULL);
    hk_lease lease = sealed(f, 1, -1);
    ack_on_disk(f, 1);
    assert_int_equal(hk_core_acked(f->core, lease), HARK_OK);
    save(f);
    assert_int_equal(f->disk.n_rows, 0);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_a_sealed_attempt_does_not_time_out),
        TEST(test_an_unsealed_attempt_times_out_when_its_time_had_been),
        TEST(test_an_attempt_whose_time_passed_while_sealed_times_out_at_once),
        TEST(test_extending_a_sealed_attempt_counts_once_it_is_unsealed),
        TEST(test_a_seal_needs_a_lease_and_there_is_only_one),
        TEST(test_the_next_in_the_place_of_a_sealed_one_times_out),
        TEST(test_a_sealed_attempt_may_be_abandoned_or_answered),
        TEST(test_the_row_of_a_committed_ack_goes_with_the_next_save),
        TEST(test_the_row_of_a_committed_ack_in_place_of_a_retry_goes_too),
        TEST(test_a_failed_save_drops_the_row_of_an_ack_another_time),
        TEST(test_an_ack_while_its_row_is_being_saved_drops_the_row_with_the_next),
        TEST(test_a_committed_ack_drops_a_row_that_only_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
