/* redis+pubsub: when something is missed: who is told, when, and how much is counted. */
#include "kit.h"

/* Says something every time until it has come through: a connection may be on its way back. */
static void wait_through(kit *k, listener *l, const char *type)
{
    size_t n = atomic_load(&l->n);
    int64_t until = 0;
    for (int i = 0; atomic_load(&l->n) == n || l->list[atomic_load(&l->n) - 1].cause; i++) {
        (void)say(k->other, type, i, &k->f.ei);
        wait_yield(&until, "an event comes through", __FILE__, __LINE__);
    }
}

static void test_a_killed_connection_is_a_gap_before_what_comes_next(void **state)
{
    kit *k = *state;
    listener *l = listen_to(k, k->f.bus, "a"), *other = listen_to(k, k->f.bus, "never:*");
    assert_ok(&k->f, say(k->other, "a", 1, &k->f.ei));
    wait_heard(l, 1);
    assert_int_equal(kill_clients("hark-subscribe"), 2); /* both buses */
    wait_heard(l, 2);
    wait_heard(other, 1); /* whatever it waits for, it may have missed some */
    wait_through(k, l, "a");
    const heard *gap = &l->list[1];
    assert_int_equal(gap->cause, HARK_GAP_CONNECTION);
    assert_u64(gap->from, 2);
    assert_u64(gap->to, 2);
    assert_u64(gap->seq, 2);
    assert_u64(l->list[2].seq, 3);
    hark_sub_stats stats = stats_of(l->sub);
    assert_u64(stats.gaps, 1);
    assert_u64(stats.gap_events, 1);
    assert_u64(stats.dropped, 0);
    assert_int_equal(other->list[0].cause, HARK_GAP_CONNECTION);
}

static void test_gaps_are_only_counted_without_the_flag(void **state)
{
    kit *k = *state;
    listener *l = listen_with(k, k->f.bus, "a", NULL, NULL);
    assert_true(kill_clients("hark-subscribe") > 0);
    WAIT_UNTIL(stats_of(l->sub).gaps == 1);
    wait_through(k, l, "a");
    assert_int_equal(gap_in(l), HEARD_MAX);
    assert_u64(stats_of(l->sub).gap_events, 1);
}

static void test_a_puller_is_handed_the_gap(void **state)
{
    kit *k = *state;
    hark_sub *s = NULL;
    hark_delivery *d = NULL;
    uint64_t from = 0, to = 0;
    assert_ok(&k->f,
              hark_subscribe(k->f.bus, "a", NULL, NULL,
                             HARK_OPTS(hark_sub_opts, .flags = HARK_SUB_GAPS), &s, &k->f.ei));
    assert_true(kill_clients("hark-subscribe") > 0);
    assert_ok(&k->f, hark_next(s, HUNG_MS, &d));
    assert_true(hark_delivery_gap(d, &from, &to));
    assert_u64(from, 1);
    assert_u64(to, 1);
    assert_int_equal(hark_delivery_gap_cause(d), HARK_GAP_CONNECTION);
    assert_int_equal(hark_settle(&d, NULL), HARK_OK);
    end_sub(s);
}

static void test_a_restart_of_the_server_is_a_gap_and_then_it_goes_on(void **state)
{
    kit *k = *state;
    listener *a = listen_to(k, k->f.bus, "a"), *b = listen_to(k, k->other, "a");
    assert_ok(&k->f, say(k->other, "a", 1, &k->f.ei));
    wait_heard(a, 1);
    wait_heard(b, 1);
    for (int i = 0; i < 2; i++) {
        size_t before = atomic_load(&a->n);
        server_kill(redis);
        server_start(redis);
        WAIT_UNTIL(gap_from(a, before) != HEARD_MAX); /* events said before may come first */
        assert_int_equal(a->list[gap_from(a, before)].cause, HARK_GAP_CONNECTION);
        wait_through(k, a, "a");
        wait_through(k, b, "a");
    }
    for (size_t i = 1; i < atomic_load(&a->n); i++)
        assert_true(a->list[i].seq > a->list[i - 1].seq);
}

/* ---- messages that are no events -------------------------------------------------------------- */

static void test_a_message_that_is_no_event_is_a_gap_of_its_type(void **state)
{
    kit *k = *state;
    listener *l = listen_to(k, k->f.bus, "order:*"), *other = listen_to(k, k->f.bus, "stock:*");
    assert_ok(&k->f, say(k->f.bus, "order:made", 1, &k->f.ei));
    assert_non_null(ask("PUBLISH %sorder:made {\"id\":1", k->prefix));
    assert_non_null(ask("PUBLISH %sorder:made not_json", k->prefix)); /* grows the gap */
    assert_ok(&k->f, say(k->f.bus, "order:made", 2, &k->f.ei));
    assert_ok(&k->f, say(k->f.bus, "stock:low", 3, &k->f.ei));
    wait_heard(other, 1);
    WAIT_UNTIL(stats_of(l->sub).delivered == 2);
    size_t gap = gap_in(l), n = atomic_load(&l->n);
    assert_int_equal(gap, 1);
    assert_int_equal(l->list[1].cause, HARK_GAP_UNREADABLE);
    assert_u64(l->list[1].from, 2);
    assert_u64(l->list[n - 2].to, 3); /* told at once or one by one */
    assert_u64(l->list[n - 1].seq, 4);
    assert_u64(stats_of(l->sub).gap_events, 2);
    assert_int_equal(other->list[0].cause, HARK_GAP_NONE);
    assert_u64(stats_of(other->sub).gaps, 0);
}

static void test_an_event_on_the_channel_of_another_type_is_not_taken(void **state)
{
    kit *k = *state;
    listener *l = listen_to(k, k->f.bus, "a"), *b = listen_to(k, k->f.bus, "b");
    assert_non_null(ask("PUBLISH %sa {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/"
                        "x\",\"type\":\"b\"}",
                        k->prefix));
    wait_heard(l, 1);
    assert_int_equal(l->list[0].cause, HARK_GAP_UNREADABLE);
    assert_ok(&k->f, say(k->f.bus, "b", 1, &k->f.ei));
    wait_heard(b, 1);
    assert_u64(b->list[0].seq, 2);
}

/* ---- slow subscribers ------------------------------------------------------------------------- */

enum { RING = 64, SAID = 500 };

/* A handler that is stuck in its first event while many more come. */
static listener *fall_behind(kit *k, hark_overflow overflow)
{
    listener *l = listen_with(
        k, k->f.bus, "a", &k->at,
        HARK_OPTS(hark_sub_opts, .ring = RING, .overflow = overflow, .flags = HARK_SUB_GAPS));
    listener *all = listen_with(k, k->f.bus, "**", NULL, HARK_OPTS(hark_sub_opts, .ring = 4096));
    assert_ok(&k->f, say(k->other, "a", 0, &k->f.ei));
    wait_heard(l, 1);
    for (int i = 1; i < SAID; i++)
        assert_ok(&k->f, say(k->other, "a", i, &k->f.ei));
    wait_heard(all, SAID);
    return l;
}

static uint64_t accounted(listener *l)
{
    hark_sub_stats stats = stats_of(l->sub);
    return stats.delivered + stats.dropped;
}

static void test_a_slow_subscriber_is_told_what_it_missed(void **state)
{
    kit *k = *state;
    listener *l = fall_behind(k, HARK_OVERFLOW_LOG);
    latch_open(&k->at);
    WAIT_UNTIL(gap_in(l) != HEARD_MAX);
    assert_ok(&k->f, say(k->other, "a", SAID, &k->f.ei));
    WAIT_UNTIL(atomic_load(&l->n) > 0 && l->list[atomic_load(&l->n) - 1].seq == SAID + 1);
    hark_sub_stats stats = stats_of(l->sub);
    uint64_t next = 1, missed = 0;
    for (size_t i = 0; i < atomic_load(&l->n); i++) { /* every position once, in order */
        const heard *x = &l->list[i];
        assert_u64(x->cause ? x->from : x->seq, next);
        assert_true(!x->cause || x->cause == HARK_GAP_OVERFLOW);
        missed += x->cause ? x->to - x->from + 1 : 0;
        next = x->cause ? x->to + 1 : x->seq + 1;
    }
    assert_true(missed >= SAID - 2 * RING - 2); /* the ring, and a batch in hand */
    assert_u64(stats.dropped, missed);
    assert_u64(stats.gap_events, missed);
}

static void test_the_oldest_are_dropped_and_counted(void **state)
{
    kit *k = *state;
    listener *l = fall_behind(k, HARK_OVERFLOW_OLDEST);
    latch_open(&k->at);
    WAIT_UNTIL(l->list[atomic_load(&l->n) - 1].seq == SAID);
    WAIT_UNTIL(accounted(l) == SAID);
    hark_sub_stats stats = stats_of(l->sub);
    assert_true(stats.dropped > 0);
    assert_int_equal(gap_in(l), HEARD_MAX);
    assert_u64(stats.gaps, 0);
}

static void test_the_newest_are_dropped_and_counted(void **state)
{
    kit *k = *state;
    listener *l = fall_behind(k, HARK_OVERFLOW_NEWEST);
    latch_open(&k->at);
    WAIT_UNTIL(accounted(l) == SAID);
    hark_sub_stats stats = stats_of(l->sub);
    assert_true(stats.dropped > 0);
    assert_true(l->list[atomic_load(&l->n) - 1].seq < SAID);
    assert_int_equal(gap_in(l), HEARD_MAX);
}

/* More gaps than the queue has room for, between events that do come. */
static void test_many_gaps_are_told_in_their_places(void **state)
{
    kit *k = *state;
    enum { ROUNDS = 40 };
    listener *l = listen_with(k, k->f.bus, "a", &k->at,
                              HARK_OPTS(hark_sub_opts, .ring = 1024, .flags = HARK_SUB_GAPS));
    listener *end = listen_to(k, k->f.bus, "end");
    for (int i = 0; i < ROUNDS; i++) {
        assert_ok(&k->f, say(k->f.bus, "a", i, &k->f.ei));
        assert_non_null(ask("PUBLISH %sa x", k->prefix));
    }
    assert_ok(&k->f, say(k->f.bus, "end", 0, &k->f.ei));
    wait_heard(end, 1);
    latch_open(&k->at);
    WAIT_UNTIL(l->list[atomic_load(&l->n) - 1].cause &&
               l->list[atomic_load(&l->n) - 1].to == 2 * ROUNDS);
    uint64_t next = 1;
    for (size_t i = 0; i < atomic_load(&l->n); i++) {
        assert_u64(l->list[i].cause ? l->list[i].from : l->list[i].seq, next);
        next = l->list[i].cause ? l->list[i].to + 1 : next + 1;
    }
    hark_sub_stats stats = stats_of(l->sub);
    assert_u64(stats.delivered + stats.gap_events, 2 * ROUNDS);
    assert_u64(stats.delivered + stats.dropped, ROUNDS);
}

static void test_a_slow_subscriber_delays_no_other(void **state)
{
    kit *k = *state;
    (void)fall_behind(k, HARK_OVERFLOW_LOG); /* waits until the other one has heard all */
    latch_open(&k->at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(test_a_killed_connection_is_a_gap_before_what_comes_next),
        KIT_TEST(test_gaps_are_only_counted_without_the_flag),
        KIT_TEST(test_a_puller_is_handed_the_gap),
        KIT_TEST(test_a_restart_of_the_server_is_a_gap_and_then_it_goes_on),
        KIT_TEST(test_a_message_that_is_no_event_is_a_gap_of_its_type),
        KIT_TEST(test_an_event_on_the_channel_of_another_type_is_not_taken),
        KIT_TEST(test_a_slow_subscriber_is_told_what_it_missed),
        KIT_TEST(test_the_oldest_are_dropped_and_counted),
        KIT_TEST(test_the_newest_are_dropped_and_counted),
        KIT_TEST(test_many_gaps_are_told_in_their_places),
        KIT_TEST(test_a_slow_subscriber_delays_no_other),
    };
    return kit_main("redis+pubsub, gaps", tests, HK_COUNTOF(tests));
}
