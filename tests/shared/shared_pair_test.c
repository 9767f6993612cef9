/* Two buses on one log: what each publishes, reads and handles. */
#include "pair.h"

enum { EACH = 400 };

static void test_both_buses_are_on_one_log(void **state)
{
    pair p = pair_open(state);
    hark_bus_info a = {.size = sizeof a}, b = {.size = sizeof b};
    assert_ok(p.f, hark_bus_info_get(p.a, &a));
    assert_ok(p.f, hark_bus_info_get(p.b, &b));
    assert_string_equal(a.log_id, b.log_id);
    assert_u64(a.epoch, b.epoch);
    assert_u64(say_on(&p, p.a, "t", NULL) + 1, say_on(&p, p.b, "t", NULL));
    pair_close(&p);
}

/* ---- publishing from both at the same time ----------------------------------------------------- */

typedef struct talker {
    pthread_t thread;
    hark_bus *bus;
    const char *name;
    bool read_back;
} talker;

/* The event of a receipt is the newest one that its own bus reads. */
static void must_read(hark_bus *bus, uint64_t seq)
{
    hark_page *page;
    hark_errinfo ei;
    MUST(hark_read(bus, HARK_OPTS(hark_read_opts, .after = seq - 1, .limit = 1), &page, &ei) ==
         HARK_OK);
    MUST(hark_page_count(page) == 1 && hark_event_sequence(hark_page_event(page, 0)) == seq);
    hark_page_free(page);
}

static void *talk(void *arg)
{
    talker *t = arg;
    hark_receipt r;
    uint64_t last = 0;
    for (int i = 0; i < EACH; i++) {
        MUST(hark_publish(t->bus, HARK_OPTS(hark_event_spec, .type = "t", .key = t->name), &r) ==
             HARK_OK);
        MUST(r.sequence > last);
        last = r.sequence;
        if (t->read_back)
            must_read(t->bus, r.sequence);
    }
    return NULL;
}

static void talk_on_both(pair *p, bool read_back)
{
    talker t[2] = {{.bus = p->a, .name = "a", .read_back = read_back},
                   {.bus = p->b, .name = "b", .read_back = read_back}};
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&t[i].thread, NULL, talk, &t[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(t[i].thread, NULL);
}

static void test_live_subscribers_see_what_both_publish_in_order(void **state)
{
    pair p = pair_open(state);
    recorder *ra = recorder_new(), *rb = recorder_new();
    hark_sub *sa = listen_on(&p, p.a, ra, NULL), *sb = listen_on(&p, p.b, rb, NULL);
    talk_on_both(&p, false);
    WAIT_UNTIL(atomic_load(&ra->n) >= 2 * EACH);
    WAIT_UNTIL(atomic_load(&rb->n) >= 2 * EACH);
    assert_consecutive(ra, 1, 2 * EACH);
    assert_consecutive(rb, 1, 2 * EACH);
    assert_u64(stats_of(sa).gaps + stats_of(sa).dropped, 0);
    assert_u64(stats_of(sb).gaps + stats_of(sb).dropped, 0);
    end_sub(sa);
    end_sub(sb);
    recorder_free(ra);
    recorder_free(rb);
    pair_close(&p);
}

static void test_a_live_subscriber_hears_of_the_other_bus_while_its_own_says_nothing(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *s = listen_on(&p, p.a, r, NULL);
    for (size_t i = 1; i <= 20; i++) {
        uint64_t seq = say_on(&p, p.b, "t", NULL);
        WAIT_UNTIL(atomic_load(&r->n) == i);
        assert_u64(r->seen[i - 1].seq, seq);
    }
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

static void test_who_has_a_receipt_reads_the_event_on_the_same_bus(void **state)
{
    pair p = pair_open(state);
    talk_on_both(&p, true);
    WAIT_UNTIL(count_on(&p, p.a, "t") == 2 * EACH); /* of the other's last ones it hears soon */
    WAIT_UNTIL(count_on(&p, p.b, "t") == 2 * EACH);
    pair_close(&p);
}

static void test_the_same_id_on_both_buses_is_stored_once(void **state)
{
    pair p = pair_open(state);
    hark_receipt a, b;
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "t", .id = "same", .source = "/s", .json = "1");
    assert_ok(p.f, hark_publish_ei(p.a, spec, &a, &p.f->ei));
    assert_ok(p.f, hark_publish_ei(p.b, spec, &b, &p.f->ei));
    assert_u64(a.sequence, b.sequence);
    assert_true(b.duplicate);
    assert_err(p.f, HARK_ECONFLICT,
               hark_publish_ei(p.b,
                               HARK_OPTS(hark_event_spec, .type = "t", .id = "same", .source = "/s",
                                         .json = "2"),
                               &b, &p.f->ei));
    pair_close(&p);
}

static void test_a_subject_has_one_version_for_both_buses(void **state)
{
    pair p = pair_open(state);
    hark_receipt r;
    for (int64_t v = 0; v < 20; v++) {
        const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "t", .subject = "s",
                                                .expected_version = v ? v : HARK_EXPECT_NONE);
        assert_ok(p.f, hark_publish_ei(v % 2 ? p.a : p.b, spec, &r, &p.f->ei));
        assert_int_equal(r.subject_version, v + 1);
        assert_err(p.f, HARK_EVERSION, hark_publish_ei(v % 2 ? p.b : p.a, spec, &r, &p.f->ei));
        assert_int_equal(r.subject_version, v + 1);
    }
    pair_close(&p);
}

/* ---- a consumer on both ------------------------------------------------------------------------ */

static void test_two_buses_share_a_consumer_each_event_once_and_keys_in_order(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {0}, b = {0};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    size_t said = until_both_work(&p, &a, &b);
    size_t na = atomic_load(&a.n), nb = atomic_load(&b.n);
    for (int i = 0; i < 10; i++, said += SPREAD_KEYS)
        say_keys(&p);
    WAIT_UNTIL(atomic_load(&r->n) >= said);
    if (atomic_load(&a.n) == na || atomic_load(&b.n) == nb)
        fail_msg("both buses should have handled some of the last 1000 events: A %zu, B %zu",
                 atomic_load(&a.n) - na, atomic_load(&b.n) - nb);
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
    assert_u64(atomic_load(&r->n), said);
    assert_once_and_in_order(r);
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_events_without_a_key_are_shared_too(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {0}, b = {0};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    size_t said = until_both_work(&p, &a, &b);
    size_t na = atomic_load(&a.n), nb = atomic_load(&b.n);
    for (int i = 0; i < EACH; i++)
        (void)say_on(&p, i % 2 ? p.a : p.b, "t", NULL);
    WAIT_UNTIL(atomic_load(&r->n) >= said + EACH);
    assert_true(atomic_load(&a.n) > na && atomic_load(&b.n) > nb);
    assert_u64(atomic_load(&r->n), said + EACH);
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_a_retrying_key_is_retried_by_whoever_has_it(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    const hark_sub_opts *opts = OPTS(.start = HARK_START_FIRST, .workers = 4, .max_attempts = 3,
                                     .retry_delay_ms = 10, .retry_max_ms = 50);
    side a = {.verdict = HARK_RETRY}, b = {.verdict = HARK_RETRY};
    side_open(&p, p.a, &a, r, opts);
    side_open(&p, p.b, &b, r, opts);
    for (int i = 0; i < 2; i++)
        say_keys(&p);
    WAIT_UNTIL(consumer_on(&p, p.a).dead_letters == 2 * SPREAD_KEYS);
    assert_u64(atomic_load(&r->n), 6 * SPREAD_KEYS);
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_another_pattern_on_the_other_bus_is_refused(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *other, *s = listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST));
    assert_err(
        p.f, HARK_ECONFLICT,
        hark_subscribe(p.b, "u", record, r, OPTS(.start = HARK_START_FIRST), &other, &p.f->ei));
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

/* ---- coming and going -------------------------------------------------------------------------- */

/* Until the lease is over takes far longer than a test waits. */
static void test_a_closed_subscription_hands_its_shares_over_at_once(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {0}, b = {0};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    size_t said = until_both_work(&p, &a, &b);
    end_sub(a.sub);
    say_keys(&p);
    WAIT_UNTIL(atomic_load(&r->n) >= said + SPREAD_KEYS);
    assert_u64(atomic_load(&r->n), said + SPREAD_KEYS);
    assert_once_and_in_order(r);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_a_closed_bus_hands_its_shares_over_at_once(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    side a = {0}, b = {0};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    size_t said = until_both_work(&p, &a, &b);
    hark_sub_unref(a.sub);
    close_a(&p);
    say_keys(&p);
    WAIT_UNTIL(atomic_load(&r->n) >= said + SPREAD_KEYS);
    assert_u64(atomic_load(&r->n), said + SPREAD_KEYS);
    assert_once_and_in_order(r);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_who_joins_waits_for_what_runs_and_order_is_kept(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    latch at;
    latch_init(&at);
    side a = {.at = &at}, b = {0};
    side_open(&p, p.a, &a, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    for (int i = 0; i < 3; i++)
        say_keys(&p);
    WAIT_UNTIL(atomic_load(&at.arrived) == 4);
    side_open(&p, p.b, &b, r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    WAIT_UNTIL(atomic_load(&b.n) > 0); /* of shares of which nothing runs on A */
    latch_open(&at);
    WAIT_UNTIL(atomic_load(&r->n) >= 3 * SPREAD_KEYS);
    WAIT_UNTIL(consumer_on(&p, p.a).lag == 0);
    assert_u64(atomic_load(&r->n), 3 * SPREAD_KEYS);
    assert_once_and_in_order(r);
    end_sub(a.sub);
    end_sub(b.sub);
    recorder_free(r);
    pair_close(&p);
}

static void test_buses_that_come_and_go_lose_and_double_nothing(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    const hark_sub_opts *opts = OPTS(.start = HARK_START_FIRST, .workers = 4);
    side a = {0}, b = {0};
    size_t said = 0;
    side_open(&p, p.a, &a, r, opts);
    for (int i = 0; i < 6; i++) {
        side_open(&p, p.b, &b, r, opts);
        say_keys(&p);
        end_sub(i % 2 ? b.sub : a.sub);
        say_keys(&p);
        if (i % 2 == 0)
            side_open(&p, p.a, &a, r, opts);
        say_keys(&p);
        if (i % 2 == 0)
            end_sub(b.sub);
        said += 3 * SPREAD_KEYS;
    }
    WAIT_UNTIL(atomic_load(&r->n) >= said);
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
    assert_u64(atomic_load(&r->n), said);
    assert_once_and_in_order(r);
    end_sub(a.sub);
    recorder_free(r);
    pair_close(&p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_both_buses_are_on_one_log),
    TEST(test_live_subscribers_see_what_both_publish_in_order),
    TEST(test_a_live_subscriber_hears_of_the_other_bus_while_its_own_says_nothing),
    TEST(test_who_has_a_receipt_reads_the_event_on_the_same_bus),
    TEST(test_the_same_id_on_both_buses_is_stored_once),
    TEST(test_a_subject_has_one_version_for_both_buses),
    TEST(test_two_buses_share_a_consumer_each_event_once_and_keys_in_order),
    TEST(test_events_without_a_key_are_shared_too),
    TEST(test_a_retrying_key_is_retried_by_whoever_has_it),
    TEST(test_another_pattern_on_the_other_bus_is_refused),
    TEST(test_a_closed_subscription_hands_its_shares_over_at_once),
    TEST(test_a_closed_bus_hands_its_shares_over_at_once),
    TEST(test_who_joins_waits_for_what_runs_and_order_is_kept),
    TEST(test_buses_that_come_and_go_lose_and_double_nothing),
};

CONFORMANCE_MAIN("two buses")
