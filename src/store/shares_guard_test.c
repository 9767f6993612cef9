/* The crash guard of shares, on the stores that several processes have open: what of a share may have been running when its last owner
 * went, and what an earlier owner left beside what is redriven meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/shares_test_i.h"

enum { SHARE = 3, EVENTS = 5 };

static void add_events(fixture *f)
{
    for (int i = 0; i < EVENTS; i++)
        (void)add(f, "t", NULL, "k");
}

static void raise_to(process *p, uint64_t upto)
{
    hark_store_save v = save_by(p, SHARE);
    v.claimed = upto;
    write_by(p, &v);
}

/* The other one dies without a word: its lease ends. */
static const hark_store_claim *take_from_dead(process *b, size_t all)
{
    await_shares(b, all);
    return claimed(b, SHARE);
}

static const hark_store_claim *hand_over(process *a, process *b)
{
    ask_with(a, (hark_store_shares){.leave = 1});
    ask(b);
    return claimed(b, SHARE);
}

static void test_a_new_share_has_no_suspects_and_may_start_what_is_there(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    (void)two(&a, &b, f, 0);
    const hark_store_claim *c = claimed(&a, SHARE);
    assert_int_equal(c->suspect, 0);
    assert_true(c->claimed > EVENTS);
    end(&a, &b);
}

static void test_what_was_given_up_in_order_has_no_suspects(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    (void)two(&a, &b, f, 0);
    raise_to(&a, 100000);
    const hark_store_claim *c = hand_over(&a, &b);
    assert_int_equal(c->suspect, 0);
    assert_true(c->claimed > EVENTS);
    assert_true(c->claimed < 100000); /* what the last owner said is forgotten */
    end(&a, &b);
}

static void test_what_is_released_share_by_share_has_no_suspects(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    (void)two(&a, &b, f, 0);
    ask(&b);
    ask(&a);
    give(&a);
    ask(&b);
    assert_true(b.x.n_claimed > 0);
    for (size_t i = 0; i < b.x.n_claimed; i++)
        assert_int_equal(b.x.claimed[i].suspect, 0);
    end(&a, &b);
}

static void test_of_a_dead_owner_all_up_to_the_log_s_end_is_suspect(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    size_t all = two(&a, &b, f, SHORT_LEASE);
    uint64_t before = claimed(&a, SHARE)->claimed;
    add_events(f);
    const hark_store_claim *c = take_from_dead(&b, all);
    assert_int_equal(c->suspect, 2 * EVENTS);
    assert_true(c->claimed >= before);
    assert_true(c->claimed > 2 * EVENTS);
    end(&a, &b);
}

static void test_what_a_dead_owner_had_claimed_is_not_taken_back(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    size_t all = two(&a, &b, f, SHORT_LEASE);
    raise_to(&a, 100000);
    raise_to(&a, 50000); /* a save never lowers it, */
    raise_to(&a, 0);     /* nor does one that says nothing */
    const hark_store_claim *c = take_from_dead(&b, all);
    assert_int_equal(c->claimed, 100000);
    assert_int_equal(c->suspect, EVENTS);
    end(&a, &b);
}

/* Whoever gives a share up in order need not have come to all that its dead owner ran. */
static void test_suspects_stay_when_a_share_is_given_up_in_order(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    size_t all = two(&a, &b, f, SHORT_LEASE);
    assert_int_equal(take_from_dead(&b, all)->suspect, EVENTS);
    int64_t until = 0, ahead = 0;
    assert_ok(f, f->ops->beat(a.store, &until, &ahead, &f->ei));
    ask(&a); /* it is no member, and has nothing, any more */
    raise_to(&b, 100000);
    assert_int_equal(hand_over(&b, &a)->suspect, EVENTS);
    assert_int_equal(hand_over(&a, &b)->suspect, EVENTS);
    end(&a, &b);
}

static void test_after_a_reset_nothing_is_suspect(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    (void)two(&a, &b, f, 0);
    raise_to(&a, 100000);
    hark_store_reset r = {.size = sizeof r, .consumer = b.consumer, .start = FIRST};
    write_ok(f, f->ops->consumer_reset(f->store, &r, &f->ei));
    a.generation = r.ret_generation;
    ask(&a);
    assert_int_equal(claimed(&a, SHARE)->suspect, 0);
    end(&a, &b);
}

/* What a share's new owner finds to be of no use, and has not dropped yet, somebody redrives. */
static void test_what_is_redriven_meanwhile_is_not_dropped_as_stale(void **state)
{
    fixture *f = *state;
    process a, b;
    add_events(f);
    size_t all = two(&a, &b, f, 0);
    uint32_t share = hark_store_share_of("k", 1, (uint32_t)all);
    hark_event *e = event_at(f, 1);
    hark_store_dead d = {.event = e, .reason = "rejected", .dead_ns = 5};
    const hark_store_row rows[] = {{.sequence = 1, .state = HARK_ROW_DEAD, .key = "k"},
                                   {.sequence = 2, .state = HARK_ROW_COUNTS, .interruptions = 1}};
    hark_store_save v = save_by(&a, share);
    v.floor = v.highest = 2;
    v.dead = &d;
    v.n_dead = 1;
    v.put = rows;
    v.n_put = 2;
    write_by(&a, &v);
    (void)hark_event_unref(e);
    hark_store_letter_done done = {0};
    write_ok(f, f->ops->letter_redrive(f->store, d.ret_id, 77, &done, &f->ei));
    free(done.key);
    const uint64_t stale[] = {1, 2};
    v = save_by(&a, share);
    v.floor = v.highest = 2;
    v.drop = stale;
    v.n_drop = v.n_stale = 2;
    write_by(&a, &v);
    assert_rows(f, "1 retry", "c");
    v.n_stale = 0; /* it was handled */
    write_by(&a, &v);
    assert_rows(f, "", "c");
    end(&a, &b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SHARED(test_a_new_share_has_no_suspects_and_may_start_what_is_there),
        SHARED(test_what_was_given_up_in_order_has_no_suspects),
        SHARED(test_what_is_released_share_by_share_has_no_suspects),
        SHARED(test_of_a_dead_owner_all_up_to_the_log_s_end_is_suspect),
        SHARED(test_what_a_dead_owner_had_claimed_is_not_taken_back),
        SHARED(test_suspects_stay_when_a_share_is_given_up_in_order),
        SHARED(test_after_a_reset_nothing_is_suspect),
        SHARED(test_what_is_redriven_meanwhile_is_not_dropped_as_stale),
    };
    return RUN_CONTRACT(tests);
}
