/* Consumers far behind the head: reading on from the log, the bound of the window, gaps. */
#include "fixture.h"

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)

static hark_sub *subscribe(fixture *f, const char *pattern, recorder *r, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, pattern, record, r, opts, &sub, &f->ei));
    return sub;
}

static void test_a_consumer_far_behind_catches_up_from_the_log(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 16384));
    uint64_t first = publish_many(f, "t", 10000);
    if (f->store->survives) /* nothing of it is in memory then */
        reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 256));
    hark_sub *sub = subscribe(f, "t", r, OPTS(.start = HARK_START_FIRST));
    publish_many(f, "t", 500); /* while it reads */
    WAIT_UNTIL(stats_of(sub).acked == 10500);
    assert_consecutive(r, first, 10500);
    WAIT_UNTIL(stats_of(sub).position == first + 10499);
    assert_u64(stats_of(sub).gaps, 0);
    end_sub(sub);
    recorder_free(r);
}

static void test_many_workers_catch_up_without_loss(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    char *seen = calloc(10001, 1);
    assert_non_null(seen);
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 16384));
    publish_many(f, "t", 10000);
    hark_sub *sub = subscribe(f, "t", r, OPTS(.start = HARK_START_FIRST, .workers = 4));
    WAIT_UNTIL(stats_of(sub).acked == 10000);
    for (size_t i = 0; i < 10000; i++) {
        assert_in_range(r->seen[i].seq, 1, 10000);
        assert_false(seen[r->seen[i].seq]);
        seen[r->seen[i].seq] = 1;
    }
    end_sub(sub);
    free(seen);
    recorder_free(r);
}

static void test_a_rare_type_is_found_far_back(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 16384));
    uint64_t rare[3];
    for (int i = 0; i < 3; i++) {
        publish_many(f, "common", 3000);
        rare[i] = publish(f, "rare");
    }
    publish_many(f, "common", 3000);
    hark_sub *sub = subscribe(f, "rare", r, OPTS(.start = HARK_START_FIRST));
    WAIT_UNTIL(stats_of(sub).acked == 3);
    for (int i = 0; i < 3; i++)
        assert_u64(r->seen[i].seq, rare[i]);
    WAIT_UNTIL(stats_of(sub).position == rare[2] + 3000); /* it knows what it need not look at */
    end_sub(sub);
    recorder_free(r);
}

static void test_one_consumer_listens_to_several_patterns_in_log_order(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    uint64_t expected[40];
    size_t n = 0;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 16384));
    for (int i = 0; i < 20; i++) {
        if (i == 10 &&
            f->store->survives) /* what came before is read from the log, later from memory */
            reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 16384));
        publish_many(f, "order:shipped", 100);
        expected[n++] = publish(f, "order:created");
        publish(f, "order");
        expected[n++] = publish(f, "payment:card:failed");
    }
    hark_sub *sub = subscribe(f, "order:created|payment:**", r, OPTS(.start = HARK_START_FIRST));
    WAIT_UNTIL(stats_of(sub).acked == n);
    for (size_t i = 0; i < n; i++)
        assert_u64(r->seen[i].seq, expected[i]);
    hark_sub *plain; /* without wildcards, and what comes while it listens */
    recorder *later = recorder_new();
    assert_ok(f, hark_subscribe(f->bus, "order:created|payment:failed", record, later,
                                HARK_OPTS(hark_sub_opts, .consumer = "plain"), &plain, &f->ei));
    for (int i = 0; i < 10; i++) {
        publish(f, "order");
        publish(f, i % 2 ? "order:created" : "payment:failed");
    }
    WAIT_UNTIL(stats_of(plain).acked == 10);
    end_sub(plain);
    recorder_free(later);
    WAIT_UNTIL(stats_of(sub).acked == n + 10);
    hark_page *page;
    assert_ok(f,
              hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = "x|order:created", .limit = 100),
                        &page, &f->ei));
    assert_u64(hark_page_count(page), 25);
    hark_page_free(page);
    end_sub(sub);
    recorder_free(r);
}

static void test_the_window_bounds_what_is_in_memory(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub = subscribe(f, "t", r, OPTS(.window = 32));
    publish_many(f, "t", 3000);
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_in_range(stats_of(sub).pending, 1, 32);
    latch_open(&at);
    while (stats_of(sub).acked < 3000)
        assert_in_range(stats_of(sub).pending, 0, 32);
    end_sub(sub);
    recorder_free(r);
}

/* ---- gaps ---------------------------------------------------------------------------------------- */

static hark_verdict record_gap(hark_delivery *d, void *ud)
{
    uint64_t from, to;
    recorder *r = ud;
    bool gap = hark_delivery_gap(d, &from, &to);
    MUST(gap == (hark_delivery_event(d) == NULL));
    MUST(!gap || hark_delivery_sequence(d) == to);
    record_only(r, d);
    if (r->at)
        latch_wait(r->at);
    return gap ? HARK_REJECT : HARK_ACK; /* for a gap any answer is an ack */
}

static void test_what_the_log_no_longer_has_is_told_as_one_gap(void **state)
{
    fixture *f = *state;
    for (int64_t flags = 0; flags <= HARK_SUB_GAPS; flags += HARK_SUB_GAPS) {
        latch at;
        recorder *r = recorder_at(&at);
        hark_sub *sub;
        reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
        assert_ok(f, hark_subscribe(f->bus, "t", record_gap, r,
                                    HARK_OPTS(hark_sub_opts, .flags = flags, .window = 8,
                                              .consumer = flags ? "told" : "counted"),
                                    &sub, &f->ei));
        uint64_t first = publish(f, "t");
        WAIT_UNTIL(atomic_load(&at.arrived) == 1);
        publish_many(f, "t", 1000);
        latch_open(&at);
        WAIT_UNTIL(stats_of(sub).position == first + 1000 && stats_of(sub).pending == 0);
        hark_sub_stats s = stats_of(sub);
        assert_u64(s.acked + s.gap_events, 1001);
        assert_u64(s.rejected, 0);
        assert_u64(s.delivered, s.acked);
        assert_ascending(r);
        if (f->store->keeps_all) {
            assert_u64(s.gaps, 0);
            assert_consecutive(r, first, 1001);
        } else {
            assert_true(s.gaps >= 1); /* more if it is overtaken once more */
            WAIT_UNTIL(atomic_load(&r->n) == s.acked + (flags ? s.gaps : 0));
            uint64_t expected = first; /* every position is told of once */
            for (size_t i = 0; flags && i < atomic_load(&r->n); i++) {
                assert_u64(r->seen[i].gap_to ? r->seen[i].gap_from : r->seen[i].seq, expected);
                expected = r->seen[i].seq + 1;
            }
        }
        end_sub(sub);
        recorder_free(r);
    }
}

static void test_a_start_before_the_oldest_event_is_a_gap(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    publish_many(f, "t", 500);
    hark_bus_info info = {.size = sizeof info};
    assert_ok(f, hark_bus_info_get(f->bus, &info));
    assert_ok(f, hark_subscribe(f->bus, "t", record_gap, r,
                                OPTS(.start = HARK_START_SEQUENCE, .start_sequence = 2,
                                     .flags = HARK_SUB_GAPS),
                                &sub, &f->ei));
    WAIT_UNTIL(stats_of(sub).position == 500);
    hark_sub_stats s = stats_of(sub);
    assert_u64(s.acked, 500 - (info.first_sequence > 2 ? info.first_sequence : 2) + 1);
    assert_u64(s.gap_events, info.first_sequence > 2 ? info.first_sequence - 2 : 0);
    assert_u64(s.gaps, !f->store->keeps_all);
    end_sub(sub);
    recorder_free(r);
}

static hark_verdict retry_once(hark_delivery *d, void *ud)
{
    record_only(ud, d);
    hark_delivery_retry_after(d, 300);
    return hark_delivery_event(d) && hark_delivery_attempt(d) == 1 ? HARK_RETRY : HARK_ACK;
}

/* Was this position handed out as a gap, or as part of one? */
static unsigned told(recorder *r, uint64_t seq)
{
    for (size_t i = 0; i < atomic_load(&r->n); i++)
        if (r->seen[i].gap_from <= seq && r->seen[i].gap_to >= seq)
            return 1;
    return 0;
}

static void test_a_retry_whose_event_is_gone_is_a_gap_and_its_key_goes_on(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    assert_ok(
        f, hark_subscribe(f->bus, "t", retry_once, r, OPTS(.flags = HARK_SUB_GAPS), &sub, &f->ei));
    uint64_t a = publish_keyed(f, "t", "k"), b = publish_keyed(f, "t", "k");
    WAIT_UNTIL(stats_of(sub).retried == 1 && stats_of(sub).pending == 2);
    publish_many(f, "other", 500);
    WAIT_UNTIL(stats_of(sub).pending == 0);
    hark_sub_stats s = stats_of(sub);
    if (f->store->keeps_all) {
        assert_u64(s.acked, 2);
        assert_u64(s.gaps, 0);
    } else {
        /* the retry may be faster than 500 publishes */
        WAIT_UNTIL(stats_of(sub).acked + told(r, a) + told(r, b) == 2);
    }
    end_sub(sub);
    recorder_free(r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_consumer_far_behind_catches_up_from_the_log),
    TEST(test_many_workers_catch_up_without_loss),
    TEST(test_a_rare_type_is_found_far_back),
    TEST(test_one_consumer_listens_to_several_patterns_in_log_order),
    TEST(test_the_window_bounds_what_is_in_memory),
    TEST(test_what_the_log_no_longer_has_is_told_as_one_gap),
    TEST(test_a_start_before_the_oldest_event_is_a_gap),
    TEST(test_a_retry_whose_event_is_gone_is_a_gap_and_its_key_goes_on),
};
CONFORMANCE_MAIN("catchup")
