/* Shares of consumers, on the stores that several processes have open: each belongs to one of them, they are divided fairly, and a
 * share comes as its last owner left it. What a former owner tells is in shares_fence_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/shares_test_i.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* ---- balance ----------------------------------------------------------------------------------- */

static void test_who_is_alone_has_all_and_two_have_half_each(void **state)
{
    process a, b;
    size_t all = two(&a, &b, *state, 0);
    assert_int_equal(a.x.ret_members, 1);
    assert_int_equal(a.x.n_give, 0);
    ask(&b);
    assert_int_equal(b.n, 0);
    assert_int_equal(b.x.ret_members, 2);
    ask(&a);
    assert_int_equal(a.x.ret_members, 2);
    assert_int_equal(a.n, all); /* until it gives them */
    assert_int_equal(a.x.n_give, all / 2);
    give(&a);
    assert_int_equal(a.n, all / 2);
    assert_int_equal(a.x.n_give, 0);
    ask(&b);
    assert_int_equal(b.n, all / 2);
    for (size_t i = 0; i < all; i++)
        assert_true(a.has[i] != b.has[i]);
    ask(&a);
    assert_int_equal(a.n, all / 2);
    assert_int_equal(a.x.n_claimed, 0);
    end(&a, &b);
}

static void test_what_is_asked_again_changes_nothing(void **state)
{
    process a, b;
    size_t all = two(&a, &b, *state, 0);
    uint64_t token = a.token[0];
    ask(&a);
    ask(&a);
    assert_int_equal(a.x.n_owned, all);
    assert_int_equal(a.x.n_claimed, 0);
    assert_int_equal(a.token[0], token);
    end(&a, &b);
}

static void test_who_leaves_leaves_all_to_the_others(void **state)
{
    process a, b;
    size_t all = two(&a, &b, *state, 0);
    ask(&b);
    ask_with(&a, (hark_store_shares){.leave = 1});
    assert_int_equal(a.n, 0);
    assert_int_equal(a.x.ret_members, 1);
    ask(&b);
    assert_int_equal(b.n, all);
    assert_int_equal(b.x.ret_members, 1);
    ask(&a); /* it has come back */
    assert_int_equal(a.n, 0);
    assert_int_equal(a.x.ret_members, 2);
    end(&a, &b);
}

static void test_who_closes_the_store_leaves_all(void **state)
{
    process a, b;
    size_t all = two(&a, &b, *state, 0);
    a.f->ops->close(a.store);
    a.store = NULL;
    ask(&b);
    assert_int_equal(b.n, all);
    assert_int_equal(b.x.ret_members, 1);
    end(&a, &b);
}

/* ---- who is gone ------------------------------------------------------------------------------- */

static void test_shares_of_a_silent_process_are_taken_when_its_lease_is_over(void **state)
{
    fixture *f = *state;
    process a, b;
    int64_t until = 0, ahead = 0;
    size_t all = two(&a, &b, f, SHORT_LEASE);
    await_shares(&b, all);
    assert_int_equal(b.x.ret_members, 1);
    ask(&a); /* it is over, and gets nothing */
    assert_int_equal(a.n, 0);
    int64_t before = hk_mono_ns();
    assert_ok(f, f->ops->beat(a.store, &until, &ahead, &f->ei));
    assert_true(until >= before + (int64_t)SHORT_LEASE * 1000000);
    assert_true(until <= hk_mono_ns() + (int64_t)SHORT_LEASE * 1000000);
    assert_true(ahead > -INT64_C(1000000000) && ahead < INT64_C(1000000000));
    end(&a, &b);
}

static void test_who_beats_keeps_its_shares(void **state)
{
    fixture *f = *state;
    process a, b;
    size_t all = two(&a, &b, f, SHORT_LEASE);
    int64_t until = 0, ahead = 0, end_at = hk_mono_ns() + INT64_C(3) * SHORT_LEASE * 1000000;
    while (hk_mono_ns() < end_at) {
        assert_ok(f, f->ops->beat(a.store, &until, &ahead, &f->ei));
        ask(&b);
        assert_int_equal(b.n, 0);
    }
    ask(&a);
    assert_int_equal(a.n, all);
    end(&a, &b);
}

/* A process that has all shares; it waits to be killed. */
static pid_t start_child(fixture *f)
{
    int fds[2];
    char c = 0;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        process p;
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        join(&p, f, open_another(f, 0));
        ask(&p);
        if (p.n > 0)
            (void)!write(fds[1], "x", 1);
        for (;;)
            (void)pause();
    }
    (void)close(fds[1]);
    assert_int_equal(read(fds[0], &c, 1), 1);
    (void)close(fds[0]);
    return pid;
}

static void test_shares_of_a_process_that_was_killed_here_are_taken_at_once(void **state)
{
    fixture *f = *state;
    process b;
    siginfo_t info;
    pid_t pid = start_child(f);
    join(&b, f, f->store);
    ask(&b);
    assert_int_equal(b.n, 0);
    assert_int_equal(b.x.ret_members, 2);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    ask(&b);
    assert_true(b.n > 1);
    assert_int_equal(b.x.ret_members, 1);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    hark_store_shares_clear(&b.x);
}

/* ---- state ------------------------------------------------------------------------------------- */

static void test_a_share_comes_as_its_last_owner_left_it(void **state)
{
    fixture *f = *state;
    process a, b;
    hark_store_range settled[] = {{5, 6}, {9, 9}};
    hark_store_row rows[] = {
        {.sequence = 8, .state = HARK_ROW_BEHIND, .key = "k"},
        {.sequence = 7, .state = HARK_ROW_RETRY, .attempts = 2, .key = "k", .error = "no"}};
    size_t all = two(&a, &b, f, 0);
    hark_store_save v = save_by(&a, 3);
    v.floor = 4;
    v.highest = 9;
    v.settled = settled;
    v.put = rows;
    v.n_settled = v.n_put = 2;
    write_by(&a, &v);
    ask_with(&a, (hark_store_shares){.leave = 1});
    ask(&b);
    assert_int_equal(b.n, all);
    const hark_store_claim *c = claimed(&b, 3);
    assert_int_equal(c->floor, 4);
    assert_int_equal(c->highest, 9);
    assert_int_equal(c->n_settled, 2);
    assert_memory_equal(c->settled, settled, sizeof settled);
    assert_int_equal(c->n_rows, 2);
    assert_int_equal(c->rows[0].sequence, 7);
    assert_int_equal(c->rows[0].attempts, 2);
    assert_string_equal(c->rows[0].error, "no");
    assert_int_equal(c->rows[1].sequence, 8);
    assert_string_equal(c->rows[1].key, "k");
    assert_int_equal(claimed(&b, 2)->n_rows, 0);
    assert_int_equal(claimed(&b, 2)->floor, 0);
    end(&a, &b);
}

static void test_what_was_acked_comes_as_settled(void **state)
{
    fixture *f = *state;
    process a, b;
    hark_store_row row = {.sequence = 2, .state = HARK_ROW_RETRY};
    (void)two(&a, &b, f, 0);
    if (!f->ops->ack)
        skip();
    hark_store_save v = save_by(&a, 3);
    v.put = &row;
    v.n_put = 1;
    write_by(&a, &v);
    hark_store_owned of = {3, a.token[3]};
    assert_ok(f, f->ops->begin(a.store, &f->ei));
    assert_ok(f, f->ops->ack(a.store, a.consumer, 1, of, 1, &f->ei));
    assert_ok(f, f->ops->ack(a.store, a.consumer, 1, of, 2, &f->ei));
    assert_ok(f, f->ops->ack(a.store, a.consumer, 1, of, 7, &f->ei));
    assert_ok(f, f->ops->commit(a.store, &f->ei));
    ask_with(&a, (hark_store_shares){.leave = 1});
    ask(&b);
    const hark_store_claim *c = claimed(&b, 3);
    assert_int_equal(c->floor, 2);
    assert_int_equal(c->highest, 7);
    assert_int_equal(c->n_settled, 1);
    assert_int_equal(c->settled[0].first, 7);
    assert_int_equal(c->n_rows, 0);
    ask_with(&b, (hark_store_shares){.leave = 1}); /* nothing is left but what b was told */
    ask(&a);
    assert_int_equal(claimed(&a, 3)->floor, 2);
    assert_int_equal(claimed(&a, 3)->n_settled, 1);
    assert_rows(f, "", "c");
    end(&a, &b);
}

/* ---- registering ------------------------------------------------------------------------------- */

static void *register_too(void *ud)
{
    process *p = ud;
    fixture *f = p->f;
    hark_errinfo ei = {0};
    hark_store_consumer c = consumer("new");
    c.start = NOW;
    hark_err err = f->ops->begin(p->store, &ei);
    if (!err)
        err = f->ops->consumer_open(p->store, &c, &ei);
    p->consumer = err || c.ret_created ? 0 : c.ret_id;
    if (!err)
        err = f->ops->commit(p->store, &ei);
    hark_store_consumer_clear(&c);
    return NULL;
}

static void test_of_two_that_register_at_once_the_second_finds_the_first(void **state)
{
    fixture *f = *state;
    process second = {.f = f, .store = open_another(f, 0)};
    hark_store_consumer c = consumer("new");
    pthread_t thread;
    begin(f);
    assert_ok(f, f->ops->consumer_open(f->store, &c, &f->ei));
    assert_int_equal(pthread_create(&thread, NULL, register_too, &second), 0);
    commit(f);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(second.consumer, c.ret_id);
    assert_true(c.ret_created);
    hark_store_consumer_clear(&c);
    f->ops->close(second.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARED(test_who_is_alone_has_all_and_two_have_half_each),
        SHARED(test_what_is_asked_again_changes_nothing),
        SHARED(test_who_leaves_leaves_all_to_the_others),
        SHARED(test_who_closes_the_store_leaves_all),
        SHARED(test_shares_of_a_silent_process_are_taken_when_its_lease_is_over),
        SHARED(test_who_beats_keeps_its_shares),
        SHARED(test_shares_of_a_process_that_was_killed_here_are_taken_at_once),
        SHARED(test_a_share_comes_as_its_last_owner_left_it),
        SHARED(test_what_was_acked_comes_as_settled),
        SHARED(test_of_two_that_register_at_once_the_second_finds_the_first),
    };
    return RUN_CONTRACT(tests);
}
