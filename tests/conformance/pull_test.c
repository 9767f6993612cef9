/* Consumers in pull style: hark_next and hark_settle. */
#include "fixture.h"

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)

static hark_sub *subscribe(fixture *f, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, opts, &sub, &f->ei));
    return sub;
}

static hark_delivery *next(fixture *f, hark_sub *sub, uint64_t seq, int64_t attempt)
{
    hark_delivery *d = NULL;
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_u64(hark_delivery_sequence(d), seq);
    assert_int_equal(hark_delivery_attempt(d), attempt);
    assert_string_equal(hark_delivery_consumer(d), "c");
    return d;
}

static void test_pulled_deliveries_are_settled_one_by_one(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, OPTS(.retry_delay_ms = 10));
    uint64_t first = publish_many(f, "t", 3);
    hark_delivery *d = next(f, sub, first, 1), *other = NULL;
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 0, &other)); /* one worker: one at a time */
    assert_null(other);
    assert_ok(f, hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = HARK_RETRY)));
    assert_null(d);
    d = next(f, sub, first + 1, 1);
    assert_ok(f, hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = HARK_REJECT,
                                           .error = "not this one")));
    d = next(f, sub, first + 2, 1);
    assert_ok(f, hark_settle(&d, NULL)); /* ack is the default */
    d = next(f, sub, first, 2);
    assert_ok(f, hark_settle(&d, NULL));
    WAIT_UNTIL(stats_of(sub).position >= first + 2);
    hark_sub_stats s = stats_of(sub);
    assert_u64(s.delivered, 4);
    assert_u64(s.acked, 2);
    assert_u64(s.retried, 1);
    assert_u64(s.rejected, 1);
    end_sub(sub);
}

static void test_several_deliveries_are_out_when_there_are_several_workers(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, OPTS(.workers = 3));
    hark_delivery *d[3], *other;
    uint64_t first = publish_many(f, "t", 5);
    for (uint64_t i = 0; i < 3; i++)
        d[i] = next(f, sub, first + i, 1);
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 0, &other));
    assert_ok(f, hark_settle(&d[1], NULL)); /* in any order */
    d[1] = next(f, sub, first + 3, 1);
    assert_u64(stats_of(sub).position, first - 1); /* the floor stays below the first */
    assert_ok(f, hark_settle(&d[0], NULL));
    assert_ok(f, hark_settle(&d[1], NULL));
    assert_ok(f, hark_settle(&d[2], NULL));
    d[0] = next(f, sub, first + 4, 1);
    assert_ok(f, hark_settle(&d[0], NULL));
    end_sub(sub);
}

static void test_a_key_is_out_once_however_many_pull(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, OPTS(.workers = 3));
    uint64_t a1 = publish_keyed(f, "t", "a"), a2 = publish_keyed(f, "t", "a");
    uint64_t b1 = publish_keyed(f, "t", "b");
    hark_delivery *a = next(f, sub, a1, 1), *b = next(f, sub, b1, 1), *other;
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 0, &other));
    assert_ok(f, hark_settle(&a, NULL));
    a = next(f, sub, a2, 1);
    assert_ok(f, hark_settle(&a, NULL));
    assert_ok(f, hark_settle(&b, NULL));
    end_sub(sub);
}

static void test_a_bad_settle_is_a_retry_and_says_so(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, OPTS(.retry_delay_ms = 10));
    uint64_t seq = publish(f, "t");
    hark_delivery *d = next(f, sub, seq, 1);
    assert_err(f, HARK_EINVAL, hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = 77)));
    assert_null(d); /* taken also on error */
    d = next(f, sub, seq, 2);
    assert_err(f, HARK_EINVAL, hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = HARK_LATER)));
    d = next(f, sub, seq, 3);
    assert_err(f, HARK_EINVAL, hark_settle(&d, &(hark_settle_opts){.size = 0, .verdict = 1}));
    d = next(f, sub, seq, 4);
    assert_ok(f, hark_settle(&d, NULL));
    assert_err(f, HARK_EINVAL, hark_settle(&d, NULL)); /* nothing to settle */
    end_sub(sub);
}

static void test_the_delay_of_a_settle_counts(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, OPTS(.retry_delay_ms = 3600000));
    uint64_t seq = publish(f, "t");
    hark_delivery *d = next(f, sub, seq, 1);
    int64_t begin = hk_mono_ms();
    assert_ok(f,
              hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = HARK_RETRY, .delay_ms = 30)));
    d = next(f, sub, seq, 2);
    assert_true(hk_mono_ms() - begin >= 30);
    assert_ok(f, hark_settle(&d, NULL));
    end_sub(sub);
}

static void test_a_closed_subscription_lets_settle_but_gives_no_more(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, OPTS(.workers = 2)), *again = NULL;
    uint64_t first = publish_many(f, "t", 3);
    hark_delivery *a = next(f, sub, first, 1), *b = next(f, sub, first + 1, 1), *other;
    hark_sub_close(sub);
    assert_err(f, HARK_ECLOSED, hark_next(sub, -1, &other));
    assert_err(f, HARK_ETIMEDOUT, hark_sub_join(sub, 1)); /* two are out */
    assert_err(f, HARK_EEXIST,
               hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.workers = 2), &again, &f->ei));
    assert_ok(f, hark_settle(&b, NULL));
    assert_ok(f,
              hark_settle(&a, HARK_OPTS(hark_settle_opts, .verdict = HARK_RETRY, .delay_ms = 1)));
    assert_ok(f, hark_sub_join(sub, -1));
    hark_sub_unref(sub);
    sub = subscribe(f, OPTS(.workers = 2));
    uint64_t seen[2];
    for (int i = 0; i < 2; i++) { /* the retried one, and the one that nobody had */
        assert_ok(f, hark_next(sub, HUNG_MS, &a));
        seen[i] = hark_delivery_sequence(a);
        assert_int_equal(hark_delivery_attempt(a), seen[i] == first ? 2 : 1);
        assert_ok(f, hark_settle(&a, NULL));
    }
    assert_u64(seen[0] + seen[1], first + first + 2);
    end_sub(sub);
}

static void test_what_is_not_settled_comes_again(void **state)
{
    fixture *f = *state;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .drain_ms = 1));
    hark_sub *sub = subscribe(f, OPTS(.workers = 3));
    uint64_t first = publish_many(f, "t", 3);
    hark_delivery *d[3];
    for (uint64_t i = 0; i < 3; i++)
        d[i] = next(f, sub, first + i, 1);
    assert_ok(f, hark_settle(&d[1], NULL));
    hark_sub_unref(sub);
    close_bus(f); /* gives up waiting for the two */
    assert_string_equal(hark_event_type(hark_delivery_event(d[0])), "t"); /* still held */
    assert_err(f, HARK_ECLOSED, hark_settle(&d[0], NULL));
    assert_err(f, HARK_ECLOSED, hark_settle(&d[2], NULL));
    open_bus(f, NULL);
    if (!f->store->survives)
        return;
    sub = subscribe(f, OPTS(.workers = 3));
    d[0] = next(f, sub, first, 1); /* abandoned is not an attempt */
    d[2] = next(f, sub, first + 2, 1);
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 0, &d[1])); /* the acked one does not */
    assert_ok(f, hark_settle(&d[0], NULL));
    assert_ok(f, hark_settle(&d[2], NULL));
    end_sub(sub);
}

typedef struct puller {
    hark_sub *sub;
    pthread_t thread;
    recorder *r;
    hark_err end;
} puller;

static void *pull_main(void *arg)
{
    puller *p = arg;
    hark_delivery *d;
    while ((p->end = hark_next(p->sub, -1, &d)) == HARK_OK) {
        record_only(p->r, d);
        int64_t verdict = hark_delivery_sequence(d) % 10 == 0 && hark_delivery_attempt(d) == 1
                              ? HARK_RETRY
                              : HARK_ACK;
        MUST(hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = verdict)) == HARK_OK);
    }
    return NULL;
}

static void test_several_threads_pull_from_one_consumer(void **state)
{
    fixture *f = *state;
    for (size_t workers = 1; workers <= 4; workers += 3) {
        recorder *r = recorder_new();
        puller p[4];
        hark_sub *sub = subscribe(f, OPTS(.workers = workers, .retry_delay_ms = 10));
        for (int i = 0; i < 4; i++) {
            p[i] = (puller){.sub = sub, .r = r};
            MUST(pthread_create(&p[i].thread, NULL, pull_main, &p[i]) == 0);
        }
        publish_many(f, "t", 1000);
        WAIT_UNTIL(stats_of(sub).acked == 1000);
        assert_u64(atomic_load(&r->n), 1100);
        WAIT_UNTIL(stats_of(sub).pending == 0);
        hark_sub_close(sub);
        for (int i = 0; i < 4; i++) {
            pthread_join(p[i].thread, NULL);
            assert_int_equal(p[i].end, HARK_ECLOSED);
        }
        assert_ok(f, hark_sub_join(sub, -1));
        hark_sub_unref(sub);
        recorder_free(r);
    }
}

static void test_a_thread_that_must_not_block_may_pull_without_waiting(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, OPTS(.workers = 1));
    uint64_t seq = publish(f, "t");
    hark_delivery *d = NULL;
    hark_thread_nonblocking(true);
    hark_err waiting = hark_next(sub, 10, &d), at_once = hark_next(sub, 0, &d);
    hark_thread_nonblocking(false);
    assert_int_equal(waiting, HARK_EWRONGTHREAD);
    assert_int_equal(at_once, HARK_OK);
    assert_u64(hark_delivery_sequence(d), seq);
    assert_ok(f, hark_settle(&d, NULL));
    end_sub(sub);
}

static const struct CMUnitTest tests[] = {
    TEST(test_pulled_deliveries_are_settled_one_by_one),
    TEST(test_several_deliveries_are_out_when_there_are_several_workers),
    TEST(test_a_key_is_out_once_however_many_pull),
    TEST(test_a_bad_settle_is_a_retry_and_says_so),
    TEST(test_the_delay_of_a_settle_counts),
    TEST(test_a_closed_subscription_lets_settle_but_gives_no_more),
    TEST(test_what_is_not_settled_comes_again),
    TEST(test_several_threads_pull_from_one_consumer),
    TEST(test_a_thread_that_must_not_block_may_pull_without_waiting),
};
CONFORMANCE_MAIN("pull")
