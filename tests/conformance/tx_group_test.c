/* Closures that share a commit: whatever one of them does, the others are committed, each once and in
 * order, and all are told what came of theirs. Many culprits, and others in the same group, are in
 * tx_mixed_test.c. */
#include "party.h"

/* Where they share commits: 2 or 3 on a machine that is not busy. */
static void assert_shared(const fixture *f, uint64_t commits)
{
    if (f->store->tx_alone)
        assert_true(commits >= GROUP - 1);
    else
        assert_in_range(commits, 1, GROUP / 2);
}

static void with_one_culprit(void **state, const char *name, int64_t place)
{
    fixture *f = *state;
    const vice *v = dialect_of(f) ? vice_named(f, name) : NULL;
    party *p = begin_party(state);
    if (!p)
        return;
    shut(p);
    for (int64_t n = 0; n < GROUP; n++)
        invite(p, n, n == place ? v : NULL);
    uint64_t n = celebrate(p);
    assert_outcome(p);
    assert_shared(f, n);
    clear_up(*state, p);
}

#define CULPRIT(test, name)                                                                        \
    static void test(void **state)                                                                 \
    {                                                                                              \
        with_one_culprit(state, name, GROUP - 1);                                                  \
    }
CULPRIT(test_an_error_leaves_63, "returns an error")
CULPRIT(test_a_constraint_leaves_63, "constraint")
CULPRIT(test_or_rollback_leaves_63, "OR ROLLBACK")
CULPRIT(test_a_raise_in_a_trigger_leaves_63, "RAISE")
CULPRIT(test_a_deadline_in_sql_leaves_63, "late in SQL")
CULPRIT(test_a_deadline_in_c_leaves_63, "late in C")
CULPRIT(test_a_deferred_foreign_key_leaves_63, "deferred foreign key")
CULPRIT(test_a_statement_left_open_leaves_63, "statement left open")
CULPRIT(test_a_commit_leaves_63, "COMMIT")
CULPRIT(test_a_native_commit_leaves_63, "native COMMIT")
CULPRIT(test_a_native_rollback_leaves_63, "native ROLLBACK")
CULPRIT(test_a_change_of_settings_leaves_63, "settings")
CULPRIT(test_a_write_to_the_log_leaves_63, "write to the log")
CULPRIT(test_a_conflict_of_ids_leaves_63, "conflict of ids")
CULPRIT(test_another_version_leaves_63, "another version")
CULPRIT(test_going_on_after_a_rollback_leaves_63, "goes on after a rollback")
CULPRIT(test_going_on_natively_leaves_63, "goes on natively after a rollback")
CULPRIT(test_a_native_or_rollback_leaves_63, "native OR ROLLBACK")
CULPRIT(test_going_on_after_the_deadline_leaves_63, "goes on after the deadline")
CULPRIT(test_an_own_error_after_a_rollback_leaves_63, "own error after a rollback")
CULPRIT(test_a_copy_left_open_leaves_63, "COPY left open")
CULPRIT(test_a_native_commit_and_begin_leaves_63, "native COMMIT and BEGIN")
CULPRIT(test_a_native_error_that_is_swallowed_leaves_63, "native error swallowed")
CULPRIT(test_a_lost_connection_leaves_63, "lost connection")

static const char *spoils(void **state)
{
    const dialect *d = dialect_of(*state);
    return d ? d->spoiler : "";
}

static void test_a_culprit_in_front_leaves_63(void **state)
{
    with_one_culprit(state, spoils(state), 0);
}

static void test_a_culprit_in_the_middle_leaves_63(void **state)
{
    with_one_culprit(state, spoils(state), GROUP / 2);
}

static void test_without_culprits_all_are_there(void **state)
{
    party *p = begin_party(state);
    if (!p)
        return;
    shut(p);
    for (int64_t n = 0; n < GROUP; n++)
        invite(p, n, NULL);
    uint64_t n = celebrate(p);
    assert_outcome(p);
    assert_shared(*state, n);
    for (int i = 0; i < GROUP; i++)
        assert_int_equal(atomic_load(&p->guests[i].runs), 1);
    clear_up(*state, p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_without_culprits_all_are_there),
    TEST(test_an_error_leaves_63),
    TEST(test_a_constraint_leaves_63),
    TEST(test_or_rollback_leaves_63),
    TEST(test_a_raise_in_a_trigger_leaves_63),
    TEST(test_a_deadline_in_sql_leaves_63),
    TEST(test_a_deadline_in_c_leaves_63),
    TEST(test_a_deferred_foreign_key_leaves_63),
    TEST(test_a_statement_left_open_leaves_63),
    TEST(test_a_commit_leaves_63),
    TEST(test_a_native_commit_leaves_63),
    TEST(test_a_native_rollback_leaves_63),
    TEST(test_a_change_of_settings_leaves_63),
    TEST(test_a_write_to_the_log_leaves_63),
    TEST(test_a_conflict_of_ids_leaves_63),
    TEST(test_another_version_leaves_63),
    TEST(test_going_on_after_a_rollback_leaves_63),
    TEST(test_going_on_natively_leaves_63),
    TEST(test_a_native_or_rollback_leaves_63),
    TEST(test_going_on_after_the_deadline_leaves_63),
    TEST(test_an_own_error_after_a_rollback_leaves_63),
    TEST(test_a_copy_left_open_leaves_63),
    TEST(test_a_native_commit_and_begin_leaves_63),
    TEST(test_a_native_error_that_is_swallowed_leaves_63),
    TEST(test_a_lost_connection_leaves_63),
    TEST(test_a_culprit_in_front_leaves_63),
    TEST(test_a_culprit_in_the_middle_leaves_63),
};

CONFORMANCE_MAIN("tx_group")
