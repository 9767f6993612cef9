/* Promises of saving a consumer that is divided into shares: which of them are saved and when, and
 * what follows from the verdict of each. */
#include "delivery/cores_test_i.h"

/* ---- what, and when -------------------------------------------------------------------------- */

static void test_only_shares_that_have_changed_are_saved(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    claim_all(f);
    (void)arrive(f, f->keys[1][0]);
    (void)arrive(f, f->keys[3][0]);
    save(f); /* how far all have read */
    assert_int_equal(settle(f, start(f, 1), HARK_ACK), HARK_OK);
    (void)start(f, 2);
    assert_int_equal(collect(f, &saves), 2);
    assert_int_equal(saves[0].share, 1);
    assert_int_equal(saves[0].token, 101);
    assert_int_equal(saves[0].floor, 2);
    assert_int_equal(saves[1].share, 3);
    assert_int_equal(saves[1].token, 103);
    assert_int_equal(saves[1].floor, 1);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    assert_int_equal(dirt(f), HK_CLEAN);
    assert_int_equal(collect(f, &saves), 0);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
}

static void test_how_far_shares_have_read_is_saved_once_a_second(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    claim_all(f);
    hk_cores_cover(f->cores, 0, 1);
    assert_int_equal(dirt(f), HK_DIRTY_LAZY);
    assert_int_equal(collect(f, &saves), SHARES);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    assert_int_equal(hk_cores_due(f->cores), -1);
    f->clock = 400 * MS;
    hk_cores_cover(f->cores, 1, 2);
    assert_int_equal(dirt(f), HK_CLEAN);
    assert_int_equal(hk_cores_due(f->cores), 1000 * MS);
    assert_int_equal(collect(f, &saves), 0);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    f->clock = 1000 * MS;
    assert_int_equal(dirt(f), HK_DIRTY_LAZY);
    assert_int_equal(collect(f, &saves), SHARES);
    assert_int_equal(saves[2].floor, 2);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
}

static void test_a_save_that_is_due_is_waited_for_no_more(void **state)
{
    fixture *f = *state;
    claim_all(f);
    hk_cores_cover(f->cores, 0, 1);
    save(f);
    hk_cores_cover(f->cores, 1, 2);
    assert_int_equal(hk_cores_due(f->cores), 1000 * MS);
    f->clock = 1001 * MS;
    assert_idle(f); /* from here on it is a matter of dirt */
    assert_int_equal(hk_cores_due(f->cores), -1);
    assert_int_equal(dirt(f), HK_DIRTY_LAZY);
}

static void test_what_else_is_new_does_not_wait_for_that(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    claim_all(f);
    hk_cores_cover(f->cores, 0, 1);
    save(f);
    f->read = 1;
    (void)arrive(f, f->keys[2][0]);
    assert_int_equal(dirt(f), HK_CLEAN);
    hk_lease lease = start(f, 2);
    assert_int_equal(dirt(f), HK_DIRTY_LAZY);
    assert_int_equal(settle(f, lease, HARK_RETRY), HARK_OK);
    assert_int_equal(dirt(f), HK_DIRTY_URGENT);
    assert_int_equal(collect(f, &saves), 1);
    assert_int_equal(saves[0].share, 2);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
}

static void test_with_one_share_all_is_saved_at_once(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    cores_anew(f, 1);
    claim_at(f, 0, 0, 0);
    for (uint64_t i = 0; i < 3; i++) {
        hk_cores_cover(f->cores, i, i + 1);
        assert_int_equal(dirt(f), HK_DIRTY_LAZY);
        assert_int_equal(collect(f, &saves), 1);
        assert_int_equal(saves[0].floor, i + 1);
        assert_int_equal(hk_cores_saved(f->cores, true), 0);
        assert_int_equal(hk_cores_due(f->cores), -1);
    }
}

static void test_a_consumer_that_is_closed_saves_at_once(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    claim_all(f);
    hk_cores_cover(f->cores, 0, 1);
    save(f);
    hk_cores_cover(f->cores, 1, 2);
    assert_int_equal(dirt(f), HK_CLEAN);
    hk_cores_finish(f->cores);
    assert_int_equal(dirt(f), HK_DIRTY_LAZY);
    assert_int_equal(collect(f, &saves), SHARES);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
}

static void test_a_share_that_leaves_saves_at_once(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    claim_all(f);
    hk_cores_cover(f->cores, 0, 1);
    save(f);
    hk_cores_cover(f->cores, 1, 2);
    hk_cores_leave(f->cores, 3, true);
    assert_int_equal(dirt(f), HK_DIRTY_LAZY);
    assert_int_equal(collect(f, &saves), 1);
    assert_int_equal(saves[0].share, 3);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    assert_true(hk_cores_dry(f->cores, 3));
}

static void test_the_verdict_on_a_save_with_dead_letters_is_needed_at_once(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    claim_all(f);
    (void)arrive(f, f->keys[1][0]);
    (void)arrive(f, f->keys[2][0]);
    assert_int_equal(settle(f, start(f, 1), HARK_REJECT), HARK_OK);
    assert_int_equal(collect(f, &saves), SHARES);
    for (uint32_t i = 0; i < SHARES; i++)
        assert_int_equal(saves[i].late == NULL, i == 1);
    hk_cores_refused(f->cores, 1, HARK_ESTALE);
    assert_int_equal(hk_cores_saved(f->cores, true), 1);
    assert_false(hk_cores_has(f->cores, 1, NULL));
}

static void test_a_gap_is_saved_with_one_share(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    hk_cores_gap_done(f->cores, 7); /* no share is here yet */
    claim_at(f, 2, 1, 0);
    claim_at(f, 3, 1, 0);
    assert_int_equal(collect(f, &saves), 1);
    assert_int_equal(saves[0].share, 2);
    assert_int_equal(saves[0].gap_done, 7);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    claim_at(f, 1, 1, 0);
    hk_cores_gap_done(f->cores, 9);
    assert_int_equal(collect(f, &saves), 1);
    assert_int_equal(saves[0].share, 1);
    assert_int_equal(saves[0].gap_done, 9);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
}

/* ---- verdicts -------------------------------------------------------------------------------- */

/* A retry in each share is being saved. */
static hark_store_save *retries(fixture *f)
{
    hark_store_save *saves;
    claim_all(f);
    for (uint32_t i = 0; i < SHARES; i++)
        assert_int_equal(settle(f, start(f, arrive(f, f->keys[i][0])), HARK_RETRY), HARK_OK);
    assert_int_equal(collect(f, &saves), SHARES);
    return saves;
}

static void test_of_a_share_that_was_lost_nothing_is_saved_and_it_is_gone(void **state)
{
    fixture *f = *state;
    *retries(f)[2].late = HARK_ESTALE;
    assert_int_equal(hk_cores_saved(f->cores, true), 1);
    assert_false(hk_cores_has(f->cores, 2, NULL));
    f->clock = 10 * MS;
    (void)start(f, 1);
    (void)start(f, 2);
    (void)start(f, 4);
    assert_idle(f);
}

static void test_a_share_is_lost_also_when_its_group_was_not_committed(void **state)
{
    fixture *f = *state;
    *retries(f)[2].late = HARK_ESTALE;
    assert_int_equal(hk_cores_saved(f->cores, false), 1);
    assert_false(hk_cores_has(f->cores, 2, NULL));
    assert_int_equal(hk_cores_count(f->cores), SHARES - 1);
}

static void test_what_was_refused_otherwise_is_collected_again(void **state)
{
    fixture *f = *state;
    hark_store_save *saves = retries(f);
    *saves[1].late = HARK_ENOTFOUND;
    hk_cores_refused(f->cores, 3, HARK_ESTORE);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    assert_int_equal(hk_cores_count(f->cores), SHARES);
    f->clock = 10 * MS;
    (void)start(f, 1);
    (void)start(f, 3);
    assert_idle(f); /* the others are not committed */
    assert_int_equal(dirt(f), HK_DIRTY_URGENT);
    save(f);
    (void)start(f, 2);
    (void)start(f, 4);
}

static void test_a_group_that_failed_saves_nothing_of_any_share(void **state)
{
    fixture *f = *state;
    hark_store_save *saves;
    (void)retries(f);
    assert_int_equal(hk_cores_saved(f->cores, false), 0);
    f->clock = 10 * MS;
    assert_idle(f);
    assert_int_equal(collect(f, &saves), SHARES);
    assert_int_equal(saves[0].n_put, 1);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    (void)start(f, 1);
}

/* ---- a share that goes while it is saved ----------------------------------------------------- */

static void test_a_share_that_was_dropped_stays_gone_when_it_is_saved(void **state)
{
    fixture *f = *state;
    hark_store_save *saves = retries(f);
    hk_cores_drop(f->cores, 0);
    assert_false(hk_cores_has(f->cores, 0, NULL));
    assert_int_equal(saves[0].n_put, 1); /* what the store is writing is there */
    assert_string_equal(saves[0].put[0].key, f->keys[0][0]);
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    assert_int_equal(hk_cores_count(f->cores), SHARES - 1);
    f->clock = 10 * MS;
    (void)start(f, 2);
}

static void test_a_share_that_came_back_is_not_changed_by_the_save_of_before(void **state)
{
    fixture *f = *state;
    hark_store_save *saves = retries(f);
    claim_at(f, 0, 200, 4);
    *saves[0].late = HARK_ESTALE; /* which is the earlier life's */
    assert_int_equal(hk_cores_saved(f->cores, true), 0);
    uint64_t token;
    assert_true(hk_cores_has(f->cores, 0, &token));
    assert_int_equal(token, 200);
    assert_int_equal(dirt(f), HK_CLEAN);
}

static void test_what_is_being_saved_may_be_freed(void **state)
{
    fixture *f = *state;
    (void)retries(f);
    hk_cores_drop(f->cores, 1); /* tear_down frees the rest */
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_shares_that_have_changed_are_saved),
        TEST(how_far_shares_have_read_is_saved_once_a_second),
        TEST(a_save_that_is_due_is_waited_for_no_more),
        TEST(what_else_is_new_does_not_wait_for_that),
        TEST(with_one_share_all_is_saved_at_once),
        TEST(a_consumer_that_is_closed_saves_at_once),
        TEST(a_share_that_leaves_saves_at_once),
        TEST(the_verdict_on_a_save_with_dead_letters_is_needed_at_once),
        TEST(a_gap_is_saved_with_one_share),
        TEST(of_a_share_that_was_lost_nothing_is_saved_and_it_is_gone),
        TEST(a_share_is_lost_also_when_its_group_was_not_committed),
        TEST(what_was_refused_otherwise_is_collected_again),
        TEST(a_group_that_failed_saves_nothing_of_any_share),
        TEST(a_share_that_was_dropped_stays_gone_when_it_is_saved),
        TEST(a_share_that_came_back_is_not_changed_by_the_save_of_before),
        TEST(what_is_being_saved_may_be_freed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
