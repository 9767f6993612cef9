/* Attempts that fail: retry, order behind a retrying key, the last attempt, rejection, restarts. */
#include "fixture.h"

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)

/* Fails the events of one key a number of times. */
typedef struct failing {
    recorder *r;
    const char *key;
    int64_t times; /* attempts that fail */
    hark_verdict verdict;
    int64_t after_ms; /* asked for by the handler; -1 = not */
    atomic_int hold;  /* not 0: goes on failing */
} failing;

static hark_verdict fail_some(hark_delivery *d, void *ud)
{
    failing *x = ud;
    const char *key = hark_event_key(hark_delivery_event(d));
    record_only(x->r, d);
    if (!key || strcmp(key, x->key) != 0 ||
        (hark_delivery_attempt(d) > x->times && !atomic_load(&x->hold)))
        return HARK_ACK;
    hark_delivery_explain(d, "attempt %lld of %s", (long long)hark_delivery_attempt(d), key);
    if (x->after_ms >= 0)
        hark_delivery_retry_after(d, x->after_ms);
    return x->verdict;
}

static hark_sub *subscribe(fixture *f, failing *x, const hark_sub_opts *opts)
{
    hark_sub *sub;
    x->r = x->r ? x->r : recorder_new();
    assert_ok(f, hark_subscribe(f->bus, "t", fail_some, x, opts, &sub, &f->ei));
    return sub;
}

/* Of the deliveries of a key: sequences in order, and each one's attempts from 1. */
static void assert_key_in_order(recorder *r, const char *key)
{
    uint64_t seq = 0;
    int64_t attempt = 0;
    for (size_t i = 0; i < atomic_load(&r->n); i++) {
        const recorded *x = &r->seen[i];
        if (strcmp(x->key, key) != 0)
            continue;
        if (x->seq < seq || (x->seq == seq && x->attempt != attempt + 1) ||
            (x->seq > seq && x->attempt != 1))
            fail_msg("key %s: attempt %lld of %llu came after attempt %lld of %llu", key,
                     (long long)x->attempt, (unsigned long long)x->seq, (long long)attempt,
                     (unsigned long long)seq);
        seq = x->seq;
        attempt = x->attempt;
    }
}

static void test_a_retry_comes_with_the_next_attempt(void **state)
{
    fixture *f = *state;
    failing x = {.key = "k", .times = 2, .verdict = HARK_RETRY, .after_ms = -1};
    hark_sub *sub = subscribe(f, &x, OPTS(.retry_delay_ms = 20));
    uint64_t seq = publish_keyed(f, "t", "k");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(atomic_load(&x.r->n), 3);
    for (int64_t i = 0; i < 3; i++) {
        assert_u64(x.r->seen[i].seq, seq);
        assert_int_equal(x.r->seen[i].attempt, i + 1);
    }
    hark_sub_stats s = stats_of(sub);
    assert_u64(s.delivered, 3);
    assert_u64(s.retried, 2);
    assert_u64(s.rejected, 0);
    WAIT_UNTIL(stats_of(sub).pending == 0);
    end_sub(sub);
    recorder_free(x.r);
}

static void test_a_handler_may_choose_the_delay(void **state)
{
    fixture *f = *state;
    failing x = {.key = "k", .times = 3, .verdict = HARK_RETRY, .after_ms = 0};
    hark_sub *sub = subscribe(f, &x, OPTS(.retry_delay_ms = 3600000));
    publish_keyed(f, "t", "k");
    WAIT_UNTIL(stats_of(sub).acked == 1); /* and not in an hour */
    end_sub(sub);
    recorder_free(x.r);
}

static void test_order_is_kept_while_one_key_retries_and_others_go_on(void **state)
{
    fixture *f = *state;
    failing x = {.key = "bad", .times = 1, .verdict = HARK_RETRY, .after_ms = -1, .hold = 1};
    hark_sub *sub = subscribe(f, &x, OPTS(.retry_delay_ms = 10, .workers = 3, .max_attempts = -1));
    for (int i = 0; i < 100; i++) {
        publish_keyed(f, "t", "bad");
        publish_keyed(f, "t", "good");
        publish_keyed(f, "t", NULL);
    }
    WAIT_UNTIL(stats_of(sub).acked == 200);                      /* all but the bad key's */
    for (size_t i = 0, bad = 0; i < atomic_load(&x.r->n); i++) { /* only its first one was tried */
        const recorded *seen = &x.r->seen[i];
        if (strcmp(seen->key, "bad") == 0) {
            bad = bad ? bad : seen->seq;
            assert_u64(seen->seq, bad);
        }
    }
    WAIT_UNTIL(stats_of(sub).pending == 100);
    atomic_store(&x.hold, 0);
    WAIT_UNTIL(stats_of(sub).acked == 300);
    assert_key_in_order(x.r, "bad");
    assert_key_in_order(x.r, "good");
    WAIT_UNTIL(stats_of(sub).pending == 0);
    end_sub(sub);
    recorder_free(x.r);
}

static void test_with_one_worker_a_retrying_key_does_not_stop_the_log(void **state)
{
    fixture *f = *state;
    failing x = {.key = "bad", .times = 0, .verdict = HARK_RETRY, .after_ms = -1, .hold = 1};
    hark_sub *sub = subscribe(f, &x, OPTS(.retry_delay_ms = 10, .max_attempts = -1, .window = 8));
    publish_keyed(f, "t", "bad");
    for (int i = 0; i < 50; i++) { /* more than the window holds */
        publish_keyed(f, "t", "bad");
        publish_keyed(f, "t", "good");
    }
    WAIT_UNTIL(stats_of(sub).acked == 50);
    atomic_store(&x.hold, 0);
    WAIT_UNTIL(stats_of(sub).acked == 101);
    assert_key_in_order(x.r, "bad");
    assert_key_in_order(x.r, "good");
    end_sub(sub);
    recorder_free(x.r);
}

static void test_only_a_full_ledger_holds_up_other_keys(void **state)
{
    fixture *f = *state;
    failing x = {.key = "bad", .times = 0, .verdict = HARK_RETRY, .after_ms = -1, .hold = 1};
    hark_sub *sub = subscribe(
        f, &x, OPTS(.retry_delay_ms = 10, .max_attempts = -1, .window = 4, .max_deferred = 10));
    for (int i = 0; i < 40; i++)
        publish_keyed(f, "t", "bad");
    uint64_t good = publish_keyed(f, "t", "good");
    WAIT_UNTIL(stats_of(sub).retried >= 3);
    assert_in_range(stats_of(sub).pending, 1, 10 + 4);
    for (size_t i = 0; i < atomic_load(&x.r->n); i++)
        assert_true(x.r->seen[i].seq != good);
    atomic_store(&x.hold, 0);
    WAIT_UNTIL(stats_of(sub).acked == 41);
    assert_key_in_order(x.r, "bad");
    end_sub(sub);
    recorder_free(x.r);
}

static void test_after_the_last_attempt_it_is_a_dead_letter_and_the_key_goes_on(void **state)
{
    fixture *f = *state;
    failing x = {.key = "bad", .times = 100, .verdict = HARK_RETRY, .after_ms = 0};
    hark_sub *sub = subscribe(f, &x, OPTS(.max_attempts = 3));
    publish_keyed(f, "t", "bad");
    publish_keyed(f, "t", "bad");
    publish_keyed(f, "t", "good");
    WAIT_UNTIL(stats_of(sub).rejected == 2 && stats_of(sub).acked == 1);
    hark_sub_stats s = stats_of(sub);
    assert_u64(s.retried, 4);
    assert_u64(s.delivered, 7);
    assert_key_in_order(x.r, "bad");
    WAIT_UNTIL(stats_of(sub).position >= 3);
    end_sub(sub);
    recorder_free(x.r);
}

static void test_a_rejected_event_never_comes_again(void **state)
{
    fixture *f = *state;
    failing x = {.key = "bad", .times = 100, .verdict = HARK_REJECT, .after_ms = -1};
    hark_sub *sub = subscribe(f, &x, OPTS(.workers = 2));
    for (int i = 0; i < 50; i++)
        publish_keyed(f, "t", i % 2 ? "bad" : "good");
    WAIT_UNTIL(stats_of(sub).rejected == 25 && stats_of(sub).acked == 25);
    assert_u64(stats_of(sub).retried, 0);
    end_sub(sub);
    sub = subscribe(f, &x, OPTS(.workers = 2));
    publish_keyed(f, "t", "good");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(atomic_load(&x.r->n), 51);
    end_sub(sub);
    recorder_free(x.r);
}

static hark_verdict answer_nonsense(hark_delivery *d, void *ud)
{
    record_only(ud, d);
    return hark_delivery_attempt(d) == 1 ? (hark_verdict)77 : HARK_ACK;
}

static void test_an_unknown_answer_is_a_retry(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", answer_nonsense, r, OPTS(.retry_delay_ms = 10), &sub,
                                &f->ei));
    publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(atomic_load(&r->n), 2);
    end_sub(sub);
    recorder_free(r);
}

/* Ends the subscription, or the whole bus where its state survives that. */
static void restart(fixture *f, hark_sub *sub)
{
    end_sub(sub);
    if (f->store->survives)
        reopen_bus(f, NULL);
}

static void test_attempts_and_lanes_survive_a_restart(void **state)
{
    fixture *f = *state;
    failing x = {.key = "bad", .times = 1, .verdict = HARK_RETRY, .after_ms = -1};
    const hark_sub_opts *opts = OPTS(.retry_delay_ms = 50, .workers = 2);
    hark_sub *sub = subscribe(f, &x, opts);
    uint64_t first = publish_keyed(f, "t", "bad");
    for (int i = 0; i < 10; i++) {
        publish_keyed(f, "t", "bad");
        publish_keyed(f, "t", "good");
    }
    WAIT_UNTIL(stats_of(sub).acked >= 10 && stats_of(sub).retried >= 1);
    restart(f, sub);
    sub = subscribe(f, &x, opts);
    publish_keyed(f, "t", "bad"); /* behind those that wait in the ledger */
    WAIT_UNTIL(stats_of(sub).pending == 0 && stats_of(sub).position >= first + 21);
    end_sub(sub);
    assert_key_in_order(x.r, "bad");
    assert_key_in_order(x.r, "good");
    size_t acked[2] = {0};
    for (size_t i = 0; i < atomic_load(&x.r->n); i++)
        if (strcmp(x.r->seen[i].key, "bad") == 0)
            acked[0] += x.r->seen[i].attempt == 2; /* each bad one: twice */
        else
            acked[1]++;
    assert_u64(acked[0], 12);
    assert_u64(acked[1], 10);
    recorder_free(x.r);
}

static void test_restarts_at_any_moment_lose_nothing_and_keep_order(void **state)
{
    fixture *f = *state;
    failing x = {.key = "k1", .times = 2, .verdict = HARK_RETRY, .after_ms = 1};
    const hark_sub_opts *opts = OPTS(.retry_delay_ms = 10, .workers = 3, .window = 16);
    uint64_t last = 0;
    for (int i = 0; i < 150; i++) {
        char key[4] = {'k', (char)('0' + i % 4), '\0'};
        last = publish_keyed(f, "t", key);
    }
    const hark_sub_opts *begin =
        OPTS(.retry_delay_ms = 10, .workers = 3, .window = 16, .start = HARK_START_FIRST);
    hark_sub *sub = subscribe(f, &x, begin);
    for (int i = 0; i < 12; i++) {
        size_t before = atomic_load(&x.r->n);
        WAIT_UNTIL(atomic_load(&x.r->n) > before || stats_of(sub).position >= last);
        restart(f, sub);
        sub = subscribe(f, &x, opts);
    }
    WAIT_UNTIL(stats_of(sub).position >= last && stats_of(sub).pending == 0);
    end_sub(sub);
    for (char k = '0'; k < '4'; k++) /* in an orderly end nothing comes twice */
        assert_key_in_order(x.r, (char[]){'k', k, '\0'});
    size_t done = 0;
    for (size_t i = 0; i < atomic_load(&x.r->n); i++)
        done += strcmp(x.r->seen[i].key, "k1") == 0 ? x.r->seen[i].attempt == 3 : 1;
    assert_u64(done, 150);
    recorder_free(x.r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_retry_comes_with_the_next_attempt),
    TEST(test_a_handler_may_choose_the_delay),
    TEST(test_order_is_kept_while_one_key_retries_and_others_go_on),
    TEST(test_with_one_worker_a_retrying_key_does_not_stop_the_log),
    TEST(test_only_a_full_ledger_holds_up_other_keys),
    TEST(test_after_the_last_attempt_it_is_a_dead_letter_and_the_key_goes_on),
    TEST(test_a_rejected_event_never_comes_again),
    TEST(test_an_unknown_answer_is_a_retry),
    TEST(test_attempts_and_lanes_survive_a_restart),
    TEST(test_restarts_at_any_moment_lose_nothing_and_keep_order),
};
CONFORMANCE_MAIN("retry")
