/* Retention in the store redis: what is old goes, what somebody has yet to see stays, and what is removed by force is told
 * as a gap. */
#include "log_kit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

static uint64_t trim_with(process *p, hark_store_trim *t)
{
    uint64_t removed = 0;
    t->size = sizeof *t;
    t->budget_ns = SECOND;
    do {
        assert_ok(p, p->ops->begin(p->store, &p->ei));
        assert_ok(p, p->ops->trim(p->store, t, &p->ei));
        assert_ok(p, p->ops->commit(p->store, &p->ei));
        removed += t->ret_removed;
    } while (t->ret_more);
    return removed;
}

/* To the newest so many of a pattern. */
static uint64_t keep(process *p, const char *pattern, uint64_t n)
{
    hark_store_trim t = {.pattern = pattern, .keep = n};
    return trim_with(p, &t);
}

static void publish_some(process *p, const char *type, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)publish(p, type, NULL, NULL);
}

static uint64_t count_of(process *p, const char *pattern)
{
    const hark_store_query q = {.size = sizeof q, .pattern = pattern};
    uint64_t n = 0;
    assert_ok(p, p->ops->count(p->store, &q, &n, &p->ei));
    return n;
}

static uint64_t first(process *p)
{
    hark_store_tail t;
    assert_ok(p, p->ops->tail(p->store, 0, 0, &t, &p->ei));
    p->ops->info(p->store, &p->info);
    return p->info.first_sequence;
}

static void test_the_newest_are_kept(void **state)
{
    logs *x = *state;
    process *p = open_process(x, 0);
    publish_some(p, "t", 700);
    assert_int_equal(keep(p, "**", 100), 600);
    assert_int_equal(count(p), 100);
    assert_int_equal(first(p), 601);
    assert_int_equal(keep(p, "**", 100), 0);
    assert_int_equal(publish(p, "t", NULL, NULL), 701);
}

static void test_a_rule_is_for_the_types_of_its_pattern(void **state)
{
    logs *x = *state;
    process *p = open_process(x, 0);
    for (int i = 0; i < 300; i++) {
        (void)publish(p, "order:placed", NULL, NULL);
        (void)publish(p, "user:left", NULL, NULL);
    }
    assert_int_equal(keep(p, "order:*", 10), 290);
    assert_int_equal(count_of(p, "order:*"), 10);
    assert_int_equal(count_of(p, "user:*"), 300);
    assert_int_equal(first(p), 2);
}

static void test_an_id_whose_event_is_gone_may_come_again(void **state)
{
    logs *x = *state;
    process *p = open_process(x, 0);
    assert_int_equal(publish(p, "t", "one", NULL), 1);
    assert_int_equal(publish(p, "t", "two", NULL), 2);
    assert_int_equal(keep(p, "**", 1), 1);
    assert_int_equal(publish(p, "t", "one", NULL), 3);
    assert_int_equal(publish(p, "t", "two", NULL), 2);
}

static void test_what_is_old_goes(void **state)
{
    logs *x = *state;
    process *p = open_process(x, 0);
    hark_event *e = NULL;
    hark_store_page page = {.events = &e};
    const hark_store_query q = {.size = sizeof q, .after = 3, .limit = 1};
    publish_some(p, "t", 6);
    assert_ok(p, p->ops->read(p->store, &q, &page, &p->ei));
    hark_store_trim t = {.pattern = "**", .before_ns = hark_event_recorded_ns(e)};
    (void)hark_event_unref(e);
    assert_int_equal(trim_with(p, &t), 3);
    assert_int_equal(first(p), 4);
}

/* All of a consumer's shares stand there. */
static void stand_at(process *p, const hark_store_consumer *c, uint64_t floor)
{
    hark_store_shares s = ask_shares(p, c, NULL, 0, false);
    assert_int_equal(s.n_claimed, 32);
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    for (size_t i = 0; i < s.n_claimed; i++) {
        const hark_store_save v = {.size = sizeof v,
                                   .consumer = c->ret_id,
                                   .generation = c->ret_generation,
                                   .floor = floor,
                                   .highest = floor,
                                   .share = s.claimed[i].share,
                                   .token = s.claimed[i].token};
        assert_ok(p, p->ops->consumer_save(p->store, &v, &p->ei));
    }
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    hark_store_shares_clear(&s);
}

static void test_what_a_consumer_has_yet_to_see_stays(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    process *p = open_process(x, 0), *other = open_process(x, 1);
    publish_some(p, "t", 20);
    join(p, "c", &c);
    assert_int_equal(keep(other, "**", 1), 0);
    stand_at(p, &c, 12);
    assert_int_equal(keep(other, "**", 1), 12);
    assert_int_equal(first(other), 13);
}

static void test_what_a_replay_has_yet_to_see_stays_while_its_process_lives(void **state)
{
    logs *x = *state;
    x->lease_ms = 200;
    process *p = open_process(x, 0), *other = open_process(x, 1);
    hark_store_replay r = {
        .id = "r", .pattern = "**", .first = 1, .last = 20, .position = 5, .holds = 1};
    publish_some(p, "t", 20);
    beat(p);
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    assert_ok(p, p->ops->replay_put(p->store, &r, &p->ei));
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    beat(p);
    uint64_t removed = keep(other, "**", 1);
    assert_true(removed == 5 || removed == 19); /* on a slow machine the lease is over */
    while (removed < 19)
        removed += keep(other, "**", 1);
    assert_int_equal(count(other), 1);
}

static void test_what_is_removed_by_force_is_told_as_a_gap(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    hark_store_gap gaps[4];
    hark_store_trim t = {.pattern = "**", .keep = 5, .force = 1, .gaps = gaps, .cap_gaps = 4};
    process *p = open_process(x, 0);
    publish_some(p, "t", 20);
    join(p, "c", &c);
    stand_at(p, &c, 7);
    assert_int_equal(trim_with(p, &t), 15);
    assert_int_equal(t.ret_n_gaps, 1);
    assert_int_equal(gaps[0].consumer, c.ret_id);
    assert_int_equal(gaps[0].from, 8);
    assert_int_equal(gaps[0].to, 15);
    hark_store_shares s = ask_shares(p, &c, NULL, 0, false);
    assert_int_equal(s.ret_gap_from, 8);
    assert_int_equal(s.ret_gap_to, 15);
    hark_store_shares_clear(&s);
}

/* The log begins farther on with the slice itself, whatever becomes of the rest. */
static void test_the_newest_stay_when_two_remove_at_once(void **state)
{
    logs *x = *state;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    hark_store_trim t = {.size = sizeof t, .pattern = "**", .keep = 100};
    publish_some(a, "t", 600);
    assert_ok(a, a->ops->begin(a->store, &a->ei));
    assert_ok(a, a->ops->trim(a->store, &t, &a->ei)); /* one slice, for want of time */
    assert_ok(a, a->ops->commit(a->store, &a->ei));
    assert_true(t.ret_more && t.ret_removed < 500);
    assert_int_equal(first(b), t.ret_removed + 1);
    assert_int_equal(keep(b, "**", 100), 500 - t.ret_removed);
    assert_int_equal(keep(a, "**", 100), 0);
    assert_int_equal(count(a), 100);
}

static void test_the_newest_stay_when_a_slice_is_asked_for_twice(void **state)
{
    logs *x = *state;
    char url[160];
    proxy *way = proxy_new(server_port(redis));
    process *p = &x->p[0], *other = open_process(x, 1);
    url_at(x, proxy_port(way), url, sizeof url);
    assert_ok(p, try_open(p, url, 0));
    publish_some(other, "t", 300);
    proxy_cut_reply(way, PROXY_TO_SERVER, "$4\r\ntrim\r\n", 1);
    (void)keep(p, "**", 200); /* how many it removed the first time it was not told */
    proxy_await_cuts(way, 1);
    assert_int_equal(count(other), 200);
    assert_int_equal(first(other), 101);
    close_process(p);
    proxy_free(way);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_the_newest_are_kept),
        LOG_TEST(test_a_rule_is_for_the_types_of_its_pattern),
        LOG_TEST(test_an_id_whose_event_is_gone_may_come_again),
        LOG_TEST(test_what_is_old_goes),
        LOG_TEST(test_what_a_consumer_has_yet_to_see_stays),
        LOG_TEST(test_what_a_replay_has_yet_to_see_stays_while_its_process_lives),
        LOG_TEST(test_what_is_removed_by_force_is_told_as_a_gap),
        LOG_TEST(test_the_newest_stay_when_two_remove_at_once),
        LOG_TEST(test_the_newest_stay_when_a_slice_is_asked_for_twice),
    };
    return logs_main("redis log trim", tests, HK_COUNTOF(tests));
}
