/* Whose is what: a share is one process's, by a token, and how far its deliveries may have come when a process dies. */
#include "log_kit.h"

#include <stdlib.h>
#include <string.h>

enum { AHEAD = 4096 }; /* as in shares.lua */

static void test_shares_are_divided_and_handed_over(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    assert_int_equal(c.ret_shares, 32);
    join(b, "c", &c);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(mine.n_claimed, 32);
    assert_int_equal(mine.ret_members, 1);
    hark_store_shares his = ask_shares(b, &c, NULL, 0, false);
    assert_int_equal(his.n_claimed, 0);
    hark_store_shares_clear(&mine);
    mine = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(mine.n_owned, 32);
    assert_int_equal(mine.n_give, 16);
    assert_int_equal(mine.ret_members, 2);
    hark_store_owned gone[16];
    for (size_t i = 0; i < 16; i++)
        gone[i] = mine.owned[mine.give[i]];
    hark_store_shares_clear(&mine);
    mine = ask_shares(a, &c, gone, 16, false);
    assert_int_equal(mine.n_owned, 16);
    assert_int_equal(mine.n_give, 0);
    hark_store_shares_clear(&his);
    his = ask_shares(b, &c, NULL, 0, false);
    assert_int_equal(his.n_claimed, 16);
    assert_true(his.claimed[0].token > gone[15].token);
    hark_store_shares_clear(&mine);
    hark_store_shares_clear(&his);
}

static hark_err save(process *p, const hark_store_consumer *c, hark_store_owned of, uint64_t floor,
                     uint64_t claimed)
{
    hark_err late = HARK_OK;
    const hark_store_row row = {.sequence = floor + 1, .state = HARK_ROW_RETRY, .key = "k"};
    const hark_store_save v = {.size = sizeof v,
                               .consumer = c->ret_id,
                               .generation = c->ret_generation,
                               .floor = floor,
                               .highest = floor + 1,
                               .put = &row,
                               .n_put = 1,
                               .share = of.share,
                               .token = of.token,
                               .claimed = claimed,
                               .late = &late};
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    assert_ok(p, p->ops->consumer_save(p->store, &v, &p->ei));
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    return late;
}

static hark_store_owned fifth(const hark_store_shares *s)
{
    assert_int_equal(s->n_claimed, 32);
    assert_int_equal(s->claimed[5].share, 5);
    return (hark_store_owned){5, s->claimed[5].token};
}

/* Beats of one process until the lease of another, which says nothing, is over. */
static hark_store_shares take_over(process *p, const hark_store_consumer *c)
{
    hark_store_shares s = {.size = sizeof s};
    do {
        hark_store_shares_clear(&s);
        beat(p);
        s = ask_shares(p, c, NULL, 0, false);
    } while (s.n_claimed == 0);
    return s;
}

static void test_a_silent_process_loses_its_shares_and_can_save_no_more(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    x->lease_ms = 300;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(save(a, &c, fifth(&mine), 40, 0), HARK_OK);
    hark_store_shares his = take_over(b, &c);
    assert_int_equal(his.n_claimed, 32);
    assert_int_equal(his.claimed[5].floor, 40);
    assert_int_equal(his.claimed[5].n_rows, 1);
    assert_int_equal(his.claimed[5].rows[0].sequence, 41);
    assert_string_equal(his.claimed[5].rows[0].key, "k");
    assert_int_equal(save(a, &c, fifth(&mine), 50, 0), HARK_ESTALE);
    assert_int_equal(save(b, &c, fifth(&his), 50, 0), HARK_OK);
    hark_store_shares_clear(&mine);
    hark_store_shares_clear(&his);
}

static void test_who_closes_a_consumer_leaves_its_shares_to_others(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    hark_store_shares_clear(&mine);
    mine = ask_shares(a, &c, NULL, 0, true);
    assert_int_equal(mine.n_owned, 0);
    hark_store_shares his = ask_shares(b, &c, NULL, 0, false);
    assert_int_equal(his.n_claimed, 32);
    assert_int_equal(his.ret_members, 1);
    hark_store_shares_clear(&mine);
    hark_store_shares_clear(&his);
}

static void publish_some(process *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)publish(p, "t", NULL, "k");
}

static void test_what_a_dead_process_may_have_run_is_suspect(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    x->lease_ms = 300;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    publish_some(a, 3);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(mine.claimed[5].claimed, AHEAD);
    assert_int_equal(mine.claimed[5].suspect, 0);
    publish_some(b, 4);
    hark_store_shares his = take_over(b, &c);
    assert_int_equal(his.claimed[5].claimed, AHEAD);
    assert_int_equal(his.claimed[5].suspect, 7);
    hark_store_shares_clear(&mine);
    hark_store_shares_clear(&his);
}

static void test_a_save_raises_how_far_deliveries_may_start(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    x->lease_ms = 300;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(save(a, &c, fifth(&mine), 0, 9000), HARK_OK);
    assert_int_equal(save(a, &c, fifth(&mine), 1, 5000), HARK_OK); /* never lower */
    assert_int_equal(save(a, &c, fifth(&mine), 1, 0), HARK_OK);
    hark_store_shares his = take_over(b, &c);
    assert_int_equal(his.claimed[5].claimed, 9000);
    assert_int_equal(his.claimed[6].claimed, AHEAD);
    hark_store_shares_clear(&mine);
    hark_store_shares_clear(&his);
}

static void test_what_is_given_up_in_order_is_not_suspect(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    publish_some(a, 3);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    const hark_store_owned of = fifth(&mine);
    hark_store_shares_clear(&mine);
    hark_store_shares his = ask_shares(b, &c, NULL, 0, false); /* now there are two */
    hark_store_shares_clear(&his);
    mine = ask_shares(a, &c, &of, 1, false);
    his = ask_shares(b, &c, NULL, 0, false);
    assert_int_equal(his.n_claimed, 1);
    assert_int_equal(his.claimed[0].suspect, 0);
    hark_store_shares_clear(&mine);
    mine = ask_shares(a, &c, NULL, 0, true); /* the others, as the consumer is closed */
    hark_store_shares_clear(&his);
    his = ask_shares(b, &c, NULL, 0, false);
    assert_int_equal(his.n_claimed, 31);
    for (size_t i = 0; i < 31; i++)
        assert_int_equal(his.claimed[i].suspect, 0);
    hark_store_shares_clear(&mine);
    hark_store_shares_clear(&his);
}

static void test_a_reset_leaves_nothing_suspect(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    hark_store_reset r = {.size = sizeof r};
    x->lease_ms = 300;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    publish_some(a, 3);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    r.consumer = c.ret_id;
    r.start = 1;
    assert_ok(b, b->ops->begin(b->store, &b->ei));
    assert_ok(b, b->ops->consumer_reset(b->store, &r, &b->ei));
    assert_ok(b, b->ops->commit(b->store, &b->ei));
    assert_int_equal(save(a, &c, fifth(&mine), 2, 0), HARK_ENOTFOUND);
    c.ret_generation = r.ret_generation;
    hark_store_shares his = take_over(b, &c);
    assert_int_equal(his.claimed[5].suspect, 0);
    hark_store_shares_clear(&mine);
    hark_store_shares_clear(&his);
}

/* Whether it is a replay was told before: what is delivered in between does not change it. */
static void test_a_reset_is_not_refused_for_what_is_delivered_meanwhile(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    hark_store_reset r = {.size = sizeof r, .start = 1, .rerun = {.id = "again"}};
    process *a = open_process(x, 0), *b = open_process(x, 1);
    join(a, "c", &c);
    publish_some(a, 3);
    hark_store_shares mine = ask_shares(a, &c, NULL, 0, false);
    r.consumer = c.ret_id;
    assert_ok(b, b->ops->begin(b->store, &b->ei));
    assert_ok(b, b->ops->consumer_reset(b->store, &r, &b->ei));
    assert_int_equal(r.rerun.upto, 0);
    assert_int_equal(save(a, &c, fifth(&mine), 2, 0), HARK_OK);
    assert_ok(b, b->ops->commit(b->store, &b->ei));
    hark_store_shares_clear(&mine);
    mine = ask_shares(a, &c, NULL, 0, false);
    assert_int_equal(mine.ret_generation, r.ret_generation);
    assert_string_equal(mine.ret_rerun.id, "");
    hark_store_shares_clear(&mine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_shares_are_divided_and_handed_over),
        LOG_TEST(test_a_silent_process_loses_its_shares_and_can_save_no_more),
        LOG_TEST(test_who_closes_a_consumer_leaves_its_shares_to_others),
        LOG_TEST(test_what_a_dead_process_may_have_run_is_suspect),
        LOG_TEST(test_a_save_raises_how_far_deliveries_may_start),
        LOG_TEST(test_what_is_given_up_in_order_is_not_suspect),
        LOG_TEST(test_a_reset_leaves_nothing_suspect),
        LOG_TEST(test_a_reset_is_not_refused_for_what_is_delivered_meanwhile),
    };
    return logs_main("redis log shares", tests, HK_COUNTOF(tests));
}
