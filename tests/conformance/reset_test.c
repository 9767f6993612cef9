/* Pause, resume and reset of consumers: where they start anew, what of it is a replay, what becomes
 * of what runs. */
#include "fixture.h"

#include <hark/operate.h>

#define OPTS(...)  HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)
#define RESET(...) HARK_OPTS(hark_reset_opts, __VA_ARGS__)

/* What came, and with which replay id. */
typedef struct seen {
    recorder *r;
    char replay[RECORD_MAX / 10][40];
    atomic_int reject;
} seen;

static hark_verdict see(hark_delivery *d, void *ud)
{
    seen *x = ud;
    size_t at = atomic_load(&x->r->n);
    const char *id = hark_delivery_replay_id(d);
    if (at < HK_COUNTOF(x->replay))
        (void)snprintf(x->replay[at], sizeof x->replay[at], "%s", id ? id : "");
    record_only(x->r, d);
    return atomic_load(&x->reject) ? HARK_REJECT : HARK_ACK;
}

static seen *seen_new(void)
{
    seen *x = calloc(1, sizeof *x);
    assert_non_null(x);
    x->r = recorder_new();
    return x;
}

static void seen_free(seen *x)
{
    recorder_free(x->r);
    free(x);
}

static hark_sub *subscribe(fixture *f, seen *x)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", see, x, OPTS(.workers = 1), &sub, &f->ei));
    return sub;
}

static void test_a_paused_consumer_starts_nothing_until_it_is_resumed(void **state)
{
    fixture *f = *state;
    seen *x = seen_new();
    hark_sub *sub = subscribe(f, x);
    publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_ok(f, hark_consumer_pause(f->bus, "c", &f->ei));
    assert_int_equal(consumer_now(f).paused, 1);
    publish_many(f, "t", 10);
    end_sub(sub);
    if (f->store->survives)
        reopen_bus(f, NULL);
    sub = subscribe(f, x);
    WAIT_UNTIL(stats_of(sub).pending == 10); /* read, and not started */
    assert_u64(atomic_load(&x->r->n), 1);
    assert_ok(f, hark_consumer_resume(f->bus, "c", &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 10);
    assert_int_equal(consumer_now(f).paused, 0);
    assert_err(f, HARK_ENOTFOUND, hark_consumer_pause(f->bus, "nobody", &f->ei));
    assert_says(f, "nobody");
    end_sub(sub);
    seen_free(x);
}

static void test_a_reset_to_the_start_replays_what_was_delivered_and_then_goes_on(void **state)
{
    fixture *f = *state;
    seen *x = seen_new();
    hark_sub *sub = subscribe(f, x);
    uint64_t first = publish_many(f, "t", 100);
    publish(f, "other");
    WAIT_UNTIL(stats_of(sub).acked == 100);
    hark_reset_result r = {.size = sizeof r}, dry = {.size = sizeof dry};
    assert_ok(f, hark_consumer_reset(f->bus, "c", RESET(.start = HARK_START_FIRST, .dry_run = 1),
                                     &dry, &f->ei));
    assert_u64(dry.events, 100);
    assert_u64(dry.upto, first + 99);
    assert_u64(consumer_now(f).generation, 1);
    r = reset_to_first(f);
    assert_u64(r.events, 100);
    assert_u64(consumer_now(f).generation, 2);
    WAIT_UNTIL(stats_of(sub).acked == 200);
    publish_many(f, "t", 10);
    WAIT_UNTIL(stats_of(sub).acked == 210);
    for (size_t i = 0; i < 210; i++) {
        const char *id = i >= 100 && i < 200 ? r.replay_id : "";
        assert_string_equal(x->replay[i], id);
        assert_u64(x->r->seen[i].seq, i < 100   ? first + i
                                      : i < 200 ? first + i - 100
                                                : first + i - 99);
    }
    assert_true(r.replay_id[0] != '\0');
    end_sub(sub);
    seen_free(x);
}

static void test_a_reset_goes_to_a_sequence_a_time_or_the_end(void **state)
{
    fixture *f = *state;
    seen *x = seen_new();
    hark_sub *sub = subscribe(f, x);
    uint64_t first = publish_many(f, "t", 20);
    WAIT_UNTIL(stats_of(sub).acked == 20);
    hark_reset_result r = {.size = sizeof r};
    assert_ok(f, hark_consumer_reset(
                     f->bus, "c", RESET(.start = HARK_START_SEQUENCE, .start_sequence = first + 15),
                     &r, &f->ei));
    assert_u64(r.events, 5);
    WAIT_UNTIL(stats_of(sub).acked == 25);
    assert_u64(x->r->seen[20].seq, first + 15);
    int64_t now = hk_wall_ns();
    uint64_t later = publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 26);
    assert_ok(f, hark_consumer_reset(f->bus, "c",
                                     RESET(.start = HARK_START_TIME, .start_time_ns = now), &r,
                                     &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 27);
    assert_u64(x->r->seen[26].seq, later);
    assert_err(f, HARK_EINVAL, hark_consumer_reset(f->bus, "c", NULL, &r, &f->ei));
    assert_says(f, ".start");
    assert_ok(f, hark_consumer_reset(f->bus, "c", RESET(.start = HARK_START_NOW), &r, &f->ei));
    assert_u64(r.events, 0);
    assert_string_equal(r.replay_id, "");
    uint64_t last = publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 28);
    assert_u64(x->r->seen[27].seq, last);
    end_sub(sub);
    seen_free(x);
}

static void test_a_reset_refuses_what_still_runs(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.workers = 2), &sub, &f->ei));
    uint64_t seq = publish(f, "t");
    hark_delivery *d, *again;
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_ok(f, hark_consumer_reset(f->bus, "c",
                                     RESET(.start = HARK_START_SEQUENCE, .start_sequence = seq),
                                     NULL, &f->ei));
    assert_ok(f, hark_next(sub, HUNG_MS, &again));
    assert_u64(hark_delivery_sequence(again), seq);
    assert_int_equal(hark_delivery_extend(d, 1000), HARK_ESTALE);
    assert_int_equal(hark_settle(&d, NULL), HARK_ESTALE);
    assert_u64(stats_of(sub).acked, 0);
    assert_ok(f, hark_settle(&again, NULL));
    assert_u64(stats_of(sub).acked, 1);
    end_sub(sub);
}

static void test_a_reset_drops_open_rows_and_keeps_dead_letters(void **state)
{
    fixture *f = *state;
    seen *x = seen_new();
    atomic_store(&x->reject, 1);
    hark_sub *sub = subscribe(f, x);
    publish_keyed(f, "t", "k");
    WAIT_UNTIL(consumer_now(f).dead_letters == 1);
    atomic_store(&x->reject, 0);
    (void)reset_to_first(f);
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(consumer_now(f).dead_letters, 1);
    end_sub(sub);
    seen_free(x);
}

static void test_a_replay_keeps_to_its_rate(void **state)
{
    fixture *f = *state;
    seen *x = seen_new();
    hark_sub *sub = subscribe(f, x);
    publish_many(f, "t", 100);
    WAIT_UNTIL(stats_of(sub).acked == 100);
    int64_t begin = hk_mono_ms();
    assert_ok(f, hark_consumer_reset(f->bus, "c", RESET(.start = HARK_START_FIRST, .rate = 200),
                                     NULL, &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 200);
    assert_true(hk_mono_ms() - begin >= 350); /* 100 at 200 a second, a tenth of it at once */
    publish_many(f, "t", 100);
    begin = hk_mono_ms();
    WAIT_UNTIL(stats_of(sub).acked == 300); /* no part of it: not held back */
    end_sub(sub);
    seen_free(x);
}

static void test_a_reset_during_delivery_loses_nothing(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, OPTS(.workers = 4), &sub, &f->ei));
    for (int round = 0; round < 20; round++) {
        uint64_t first = publish_many(f, "t", 50);
        assert_ok(f, hark_consumer_reset(
                         f->bus, "c", RESET(.start = HARK_START_SEQUENCE, .start_sequence = first),
                         NULL, &f->ei));
        WAIT_UNTIL(consumer_now(f).floor >= first + 49);
    }
    assert_u64(consumer_now(f).generation, 21);
    end_sub(sub);
    recorder_free(r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_paused_consumer_starts_nothing_until_it_is_resumed),
    TEST(test_a_reset_to_the_start_replays_what_was_delivered_and_then_goes_on),
    TEST(test_a_reset_goes_to_a_sequence_a_time_or_the_end),
    TEST(test_a_reset_refuses_what_still_runs),
    TEST(test_a_reset_drops_open_rows_and_keeps_dead_letters),
    TEST(test_a_replay_keeps_to_its_rate),
    TEST(test_a_reset_during_delivery_loses_nothing),
};

CONFORMANCE_MAIN("reset")
