/* Attempts that take too long: held deliveries, handlers that hang, extension, late answers. */
#include "fixture.h"

#include <hark/operate.h>

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)

static hark_sub *pull(fixture *f, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, opts, &sub, &f->ei));
    return sub;
}

static void test_a_delivery_held_too_long_comes_again_and_the_late_answer_is_refused(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 2, .hold_ms = 30, .retry_delay_ms = 10));
    uint64_t seq = publish_keyed(f, "t", "k");
    hark_delivery *first, *second;
    assert_ok(f, hark_next(sub, HUNG_MS, &first));
    assert_ok(f, hark_next(sub, HUNG_MS, &second));
    assert_u64(hark_delivery_sequence(second), seq);
    assert_int_equal(hark_delivery_attempt(second), 2);
    assert_int_equal(hark_settle(&first, NULL), HARK_ESTALE);
    assert_u64(stats_of(sub).acked, 0);
    assert_ok(f, hark_settle(&second, NULL));
    assert_u64(stats_of(sub).acked, 1);
    assert_u64(stats_of(sub).timed_out, 1);
    end_sub(sub);
}

static void test_an_extended_delivery_does_not_time_out(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 2, .hold_ms = 30, .retry_delay_ms = 10));
    publish_keyed(f, "t", "k");
    hark_delivery *d, *none;
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_ok(f, hark_delivery_extend(d, 60000));
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 100, &none));
    assert_int_equal(hark_delivery_extend(d, 0), HARK_EINVAL);
    assert_ok(f, hark_settle(&d, NULL));
    end_sub(sub);
}

static void test_the_last_attempt_that_times_out_is_a_dead_letter(void **state)
{
    fixture *f = *state;
    hark_sub *sub =
        pull(f, OPTS(.workers = 4, .hold_ms = 10, .retry_delay_ms = 10, .max_attempts = 3));
    publish_keyed(f, "t", "k");
    hark_delivery *d[3], *none;
    for (int i = 0; i < 3; i++)
        assert_ok(f, hark_next(sub, HUNG_MS, &d[i]));
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 100, &none));
    assert_u64(stats_of(sub).rejected, 1);
    assert_u64(stats_of(sub).timed_out, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(hark_settle(&d[i], NULL), HARK_ESTALE);
    end_sub(sub);
}

/* Hangs at the first attempt of key "k" until the latch opens; keeps one delivery. */
typedef struct hanging {
    recorder *r;
    latch at;
    _Atomic(hark_delivery *) kept;
} hanging;

static hark_verdict hang(hark_delivery *d, void *ud)
{
    hanging *h = ud;
    const char *key = hark_event_key(hark_delivery_event(d));
    record_only(h->r, d);
    if (key && strcmp(key, "k") == 0 && hark_delivery_attempt(d) == 1)
        latch_wait(&h->at);
    return HARK_ACK;
}

static void test_a_handler_that_hangs_is_replaced_and_its_event_comes_again(void **state)
{
    fixture *f = *state;
    hanging h = {.r = recorder_new()};
    latch_init(&h.at);
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", hang, &h,
                                OPTS(.workers = 1, .handler_ms = 50, .retry_delay_ms = 10), &sub,
                                &f->ei));
    publish_keyed(f, "t", "k");
    for (int i = 0; i < 10; i++)
        publish_keyed(f, "t", "other");
    WAIT_UNTIL(stats_of(sub).acked == 11);
    assert_u64(stats_of(sub).timed_out, 1);
    latch_open(&h.at);
    WAIT_UNTIL(stats_of(sub).pending == 0);
    publish_keyed(f, "t", "other");
    WAIT_UNTIL(stats_of(sub).acked == 12);
    end_sub(sub);
    recorder_free(h.r);
}

static hark_verdict keep(hark_delivery *d, void *ud)
{
    hanging *h = ud;
    record_only(h->r, d);
    if (hark_delivery_attempt(d) > 1)
        return HARK_ACK;
    atomic_store(&h->kept, d);
    return HARK_LATER;
}

static void test_a_kept_delivery_times_out_by_hold_ms(void **state)
{
    fixture *f = *state;
    hanging h = {.r = recorder_new()};
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", keep, &h,
                                OPTS(.workers = 1, .hold_ms = 30, .retry_delay_ms = 10), &sub,
                                &f->ei));
    publish_keyed(f, "t", "k");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    hark_delivery *d = atomic_load(&h.kept);
    assert_int_equal(hark_settle(&d, NULL), HARK_ESTALE);
    assert_u64(stats_of(sub).acked, 1);
    end_sub(sub);
    recorder_free(h.r);
}

static void test_a_running_handler_is_taken_to_be_alive(void **state)
{
    fixture *f = *state;
    hanging h = {.r = recorder_new()};
    latch_init(&h.at);
    hark_sub *sub;
    assert_ok(
        f, hark_subscribe(f->bus, "t", hang, &h, OPTS(.workers = 2, .hold_ms = 10), &sub, &f->ei));
    publish_keyed(f, "t", "k");
    WAIT_UNTIL(atomic_load(&h.at.arrived) == 1);
    for (int i = 0; i < 200; i++)
        publish_keyed(f, "t", "other");
    WAIT_UNTIL(stats_of(sub).acked == 200);
    assert_u64(stats_of(sub).timed_out, 0);
    latch_open(&h.at);
    WAIT_UNTIL(stats_of(sub).acked == 201);
    end_sub(sub);
    recorder_free(h.r);
}

static hark_verdict extend_and_keep(hark_delivery *d, void *ud)
{
    hanging *h = ud;
    record_only(h->r, d);
    if (strcmp(hark_event_key(hark_delivery_event(d)), "k") != 0)
        return HARK_ACK;
    if (hark_delivery_extend(d, 60000))
        return HARK_REJECT;
    atomic_store(&h->kept, d);
    return HARK_LATER;
}

static void test_what_a_handler_extended_and_kept_has_the_time_it_asked_for(void **state)
{
    fixture *f = *state;
    hanging h = {.r = recorder_new()};
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", extend_and_keep, &h,
                                OPTS(.workers = 2, .hold_ms = 20, .retry_delay_ms = 10), &sub,
                                &f->ei));
    publish_keyed(f, "t", "k");
    WAIT_UNTIL(atomic_load(&h.kept));
    uint64_t others = 0;
    for (int64_t end = hk_mono_ns() + 100000000; hk_mono_ns() < end; others++) {
        publish_keyed(f, "t", "other");
        WAIT_UNTIL(stats_of(sub).acked == others + 1);
    }
    hark_delivery *d = atomic_load(&h.kept);
    assert_ok(f, hark_settle(&d, NULL));
    assert_u64(stats_of(sub).timed_out, 0);
    end_sub(sub);
    recorder_free(h.r);
}

static hark_verdict hang_once(hark_delivery *d, void *ud)
{
    hanging *h = ud;
    bool first = atomic_load(&h->r->n) == 0;
    record_only(h->r, d);
    if (first)
        latch_wait(&h->at);
    return HARK_ACK;
}

static void test_a_reset_while_a_handler_hangs_goes_on_beside_it(void **state)
{
    fixture *f = *state;
    hanging h = {.r = recorder_new()};
    latch_init(&h.at);
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", hang_once, &h, OPTS(.workers = 1, .handler_ms = 60000),
                                &sub, &f->ei));
    publish_keyed(f, "t", "k");
    WAIT_UNTIL(atomic_load(&h.at.arrived) == 1);
    (void)reset_to_first(f);
    WAIT_UNTIL(stats_of(sub).acked == 1);
    latch_open(&h.at);
    publish_keyed(f, "t", "k");
    WAIT_UNTIL(stats_of(sub).acked == 2);
    end_sub(sub);
    recorder_free(h.r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_what_a_handler_extended_and_kept_has_the_time_it_asked_for),
    TEST(test_a_reset_while_a_handler_hangs_goes_on_beside_it),
    TEST(test_a_delivery_held_too_long_comes_again_and_the_late_answer_is_refused),
    TEST(test_an_extended_delivery_does_not_time_out),
    TEST(test_the_last_attempt_that_times_out_is_a_dead_letter),
    TEST(test_a_handler_that_hangs_is_replaced_and_its_event_comes_again),
    TEST(test_a_kept_delivery_times_out_by_hold_ms),
    TEST(test_a_running_handler_is_taken_to_be_alive),
};

CONFORMANCE_MAIN("timeout")
