/* Live subscribers that fall behind their ring: each policy's counters are exact, and nobody else is
 * delayed. */
#include "fixture.h"

static hark_sub *subscribe(fixture *f, recorder *r, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, opts, &sub, &f->ei));
    return sub;
}

/* Publishes one event, on which the handler stands still, then n more. */
static uint64_t block_and_publish(fixture *f, latch *at, size_t n)
{
    uint64_t first = publish(f, "t");
    WAIT_UNTIL(atomic_load(&at->arrived) == 1);
    publish_many(f, "t", n);
    return first;
}

/* The handler goes on and gets all that it will get. */
static hark_sub_stats let_go(hark_sub *sub, latch *at, size_t published)
{
    latch_open(at);
    hark_sub_stats s;
    int64_t until = 0;
    for (;;) {
        s = stats_of(sub);
        if (s.delivered + s.dropped + s.gap_events >= published && s.pending == 0)
            return s;
        wait_yield(&until, "every event to be accounted for", __FILE__, __LINE__);
    }
}

static void test_newest_keeps_what_came_first_and_counts_the_rest(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub =
        subscribe(f, r, HARK_OPTS(hark_sub_opts, .ring = 16, .overflow = HARK_OVERFLOW_NEWEST));
    uint64_t first = block_and_publish(f, &at, 1000);
    WAIT_UNTIL(stats_of(sub).dropped == 1000 - 16);
    hark_sub_stats s = let_go(sub, &at, 1001);
    assert_u64(s.delivered, 17);
    assert_u64(s.dropped, 1000 - 16);
    assert_u64(s.gap_events, 0);
    assert_consecutive(r, first, 17);
    uint64_t next = publish(f, "t"); /* and then it sees what comes */
    WAIT_UNTIL(atomic_load(&r->n) == 18);
    assert_u64(r->seen[17].seq, next);
    end_sub(sub);
    recorder_free(r);
}

static void test_oldest_keeps_what_came_last_and_counts_the_rest(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub =
        subscribe(f, r, HARK_OPTS(hark_sub_opts, .ring = 16, .overflow = HARK_OVERFLOW_OLDEST));
    uint64_t first = block_and_publish(f, &at, 1000);
    WAIT_UNTIL(stats_of(sub).dropped == 1000 - 16);
    hark_sub_stats s = let_go(sub, &at, 1001);
    assert_u64(s.delivered, 17);
    assert_u64(s.dropped, 1000 - 16);
    assert_u64(atomic_load(&r->n), 17);
    assert_u64(r->seen[0].seq, first);
    for (uint64_t i = 1; i < 17; i++)
        assert_u64(r->seen[i].seq, first + 1000 - 16 + i);
    end_sub(sub);
    recorder_free(r);
}

static void test_the_log_policy_reads_on_and_loses_nothing_that_the_log_keeps(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub = subscribe(f, r, HARK_OPTS(hark_sub_opts, .ring = 16));
    uint64_t first = block_and_publish(f, &at, 5000);
    WAIT_UNTIL(stats_of(sub).catching_up);
    hark_sub_stats s = let_go(sub, &at, 5001);
    assert_u64(s.delivered, 5001);
    assert_u64(s.dropped + s.gaps + s.gap_events, 0);
    publish_many(f, "t", 300); /* back at the ring, maybe behind once more */
    WAIT_UNTIL(atomic_load(&r->n) == 5301);
    assert_consecutive(r, first, 5301);
    end_sub(sub);
    recorder_free(r);
}

static void test_what_the_log_no_longer_has_is_a_counted_gap(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    hark_sub *sub = subscribe(f, r, HARK_OPTS(hark_sub_opts, .ring = 16, .flags = HARK_SUB_GAPS));
    uint64_t first = block_and_publish(f, &at, 1000);
    hark_sub_stats s = let_go(sub, &at, 1001);
    assert_u64(s.delivered + s.gap_events, 1001);
    assert_u64(s.dropped, 0);
    if (f->store->keeps_all) {
        assert_u64(s.gaps, 0);
        assert_consecutive(r, first, 1001);
    } else {
        assert_u64(s.gaps, 1);
        assert_u64(s.gap_events, 1000 - 16 - 64);
        assert_u64(atomic_load(&r->n), s.delivered + 1); /* told of the gap, in its place */
        assert_u64(r->seen[17].gap_from, first + 17);
        assert_u64(r->seen[17].gap_to, first + 17 + s.gap_events - 1);
        assert_u64(r->seen[18].seq, r->seen[17].gap_to + 1);
        assert_ascending(r);
    }
    end_sub(sub);
    recorder_free(r);
}

static void test_a_puller_is_told_of_gaps_too(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d;
    uint64_t from, to, next = 0;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL,
                                HARK_OPTS(hark_sub_opts, .ring = 16, .flags = HARK_SUB_GAPS), &sub,
                                &f->ei));
    next = publish_many(f, "t", 1000);
    for (uint64_t end = next + 1000; next < end;) {
        assert_ok(f, hark_next(sub, -1, &d));
        if (hark_delivery_gap(d, &from, &to)) {
            assert_false(f->store->keeps_all);
            assert_null(hark_delivery_event(d));
            assert_u64(from, next);
            assert_u64(hark_delivery_sequence(d), to);
            next = to + 1;
        } else {
            assert_u64(hark_delivery_sequence(d), next);
            next++;
        }
        assert_ok(f, hark_settle(&d, NULL));
    }
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 0, &d));
    hark_sub_unref(sub);
}

/* ---- waiting ------------------------------------------------------------------------------------- */

typedef struct flood {
    fixture *f;
    pthread_t thread;
    int n;
    atomic_int done;
} flood;

static void *flood_main(void *arg)
{
    flood *x = arg;
    for (int i = 0; i < x->n; i++) {
        hark_err err = hark_publish(x->f->bus, HARK_OPTS(hark_event_spec, .type = "t"), NULL);
        if (err)
            must_failed(hark_err_name(err), __FILE__, __LINE__);
        atomic_fetch_add(&x->done, 1);
    }
    return NULL;
}

static const hark_sub_opts waiting = {
    .size = sizeof waiting, .ring = 16, .overflow = HARK_OVERFLOW_WAIT};

/* Is who must not wait told to come again? */
static bool is_full(fixture *f)
{
    (void)hark_thread_nonblocking(true);
    hark_err err = hark_publish(f->bus, HARK_OPTS(hark_event_spec, .type = "u"), NULL);
    (void)hark_thread_nonblocking(false);
    MUST(err == HARK_EAGAIN || err == (f->store->direct ? HARK_OK : HARK_EWRONGTHREAD));
    return err == HARK_EAGAIN;
}

static void test_publishers_wait_for_a_full_waiting_subscriber_and_nothing_is_lost(void **state)
{
    fixture *f = *state;
    enum { EACH = 200, THREADS = 4 };
    latch at;
    recorder *r = recorder_at(&at);
    flood x[THREADS];
    hark_sub *sub = subscribe(f, r, &waiting);
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1); /* here the reader stands */
    for (int i = 0; i < THREADS; i++) {
        x[i] = (flood){.f = f, .n = EACH};
        MUST(pthread_create(&x[i].thread, NULL, flood_main, &x[i]) == 0);
    }
    WAIT_UNTIL(is_full(f));
    assert_err(f, HARK_EAGAIN,
               hark_publish_async(f->bus, HARK_OPTS(hark_event_spec, .type = "u"), NULL, NULL));
    int done = 0;
    for (int i = 0; i < THREADS; i++)
        done += atomic_load(&x[i].done);
    assert_in_range(done, 16 - THREADS, 16 + 2 * THREADS);
    latch_open(&at);
    for (int i = 0; i < THREADS; i++)
        pthread_join(x[i].thread, NULL);
    WAIT_UNTIL(atomic_load(&r->n) == THREADS * EACH + 1);
    WAIT_UNTIL(stats_of(sub).delivered == THREADS * EACH + 1);
    assert_ascending(r);
    hark_sub_stats s = stats_of(sub);
    assert_u64(s.dropped + s.gaps + s.gap_events, 0);
    end_sub(sub);
    recorder_free(r);
}

static void test_a_batch_over_the_ring_reaches_a_waiting_subscriber_whole(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = subscribe(f, r, &waiting);
    uint64_t first = publish_many(f, "t", 3000);
    WAIT_UNTIL(atomic_load(&r->n) == 3000);
    assert_consecutive(r, first, 3000);
    end_sub(sub);
    recorder_free(r);
}

static void test_a_waiting_subscriber_loses_nothing_however_short_the_log_is(void **state)
{
    fixture *f = *state;
    enum { THREADS = 4 };
    int each = f->store->direct ? 5000 : 300;
    recorder *r = recorder_new();
    flood x[THREADS];
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    hark_sub *sub = subscribe(f, r, &waiting);
    for (int i = 0; i < THREADS; i++) {
        x[i] = (flood){.f = f, .n = each};
        MUST(pthread_create(&x[i].thread, NULL, flood_main, &x[i]) == 0);
    }
    publish_many(f, "t", 3000); /* in batches larger than the ring and the log */
    for (int i = 0; i < THREADS; i++)
        pthread_join(x[i].thread, NULL);
    size_t published = (size_t)(THREADS * each) + 3000;
    WAIT_UNTIL(stats_of(sub).delivered + stats_of(sub).gap_events == published);
    assert_u64(stats_of(sub).gap_events, 0);
    assert_u64(atomic_load(&r->n), published);
    assert_ascending(r);
    end_sub(sub);
    recorder_free(r);
}

static void test_closing_a_full_subscriber_lets_publishers_go(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    flood x = {.f = f, .n = 300};
    hark_sub *sub = subscribe(f, r, &waiting);
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    MUST(pthread_create(&x.thread, NULL, flood_main, &x) == 0);
    WAIT_UNTIL(is_full(f));
    hark_sub_close(sub);
    pthread_join(x.thread, NULL); /* though its handler still stands */
    latch_open(&at);
    end_sub(sub);
    recorder_free(r);
}

static hark_verdict publish_inside(hark_delivery *d, void *ud)
{
    recorder *r = ud;
    hark_err err =
        hark_publish(hark_delivery_bus(d), HARK_OPTS(hark_event_spec, .type = "u"), NULL);
    MUST(err == HARK_OK || err == HARK_EAGAIN);
    if (err == HARK_EAGAIN)
        atomic_fetch_add(&r->freed, 1);
    record_only(r, d);
    return HARK_ACK;
}

static void test_a_handler_never_waits_for_a_full_subscriber(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at), *handler = recorder_new();
    hark_sub *full = subscribe(f, r, &waiting), *sub;
    assert_ok(f, hark_subscribe(f->bus, "go", publish_inside, handler, NULL, &sub, &f->ei));
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    const hark_event_spec *specs[20], *t = HARK_OPTS(hark_event_spec, .type = "t"),
                                      *go = HARK_OPTS(hark_event_spec, .type = "go");
    for (int i = 0; i < 20; i++) /* a batch goes in as a whole */
        specs[i] = i < 19 ? t : go;
    assert_ok(f, hark_publish_batch(f->bus, specs, 20, NULL, &f->ei));
    WAIT_UNTIL(atomic_load(&handler->n) == 1);
    assert_int_equal(atomic_load(&handler->freed), 1);
    latch_open(&at);
    WAIT_UNTIL(atomic_load(&r->n) == 20);
    end_sub(full);
    end_sub(sub);
    recorder_free(r);
    recorder_free(handler);
}

/* ---- one blocked subscriber ------------------------------------------------------------------------ */

static void test_a_blocked_subscriber_never_delays_another(void **state)
{
    fixture *f = *state;
    recorder *stuck[4], *free_one = recorder_new();
    hark_sub *sub[5];
    latch at;
    latch_init(&at);
    for (int i = 0; i < 3; i++) { /* every policy but to wait */
        stuck[i] = recorder_new();
        stuck[i]->at = &at;
        sub[i] = subscribe(f, stuck[i],
                           HARK_OPTS(hark_sub_opts, .ring = 16, .overflow = HARK_OVERFLOW_LOG + i));
    }
    stuck[3] = recorder_new();
    stuck[3]->at = &at;
    sub[3] = subscribe(f, stuck[3], HARK_OPTS(hark_sub_opts, .consumer = "stuck"));
    sub[4] = subscribe(f, free_one, NULL);
    uint64_t first = publish_many(f, "t", 2000);
    WAIT_UNTIL(atomic_load(&free_one->n) == 2000);
    assert_consecutive(free_one, first, 2000);
    for (int i = 0; i < 4; i++) /* with room or without, they got no further */
        assert_true(atomic_load(&stuck[i]->n) <= 1);
    latch_open(&at);
    WAIT_UNTIL(atomic_load(&stuck[0]->n) == 2000);
    WAIT_UNTIL(atomic_load(&stuck[3]->n) == 2000);
    for (int i = 0; i < 5; i++)
        end_sub(sub[i]);
    for (int i = 0; i < 4; i++)
        recorder_free(stuck[i]);
    recorder_free(free_one);
}

static void test_counters_are_exact_whoever_reads_how_fast(void **state)
{
    fixture *f = *state;
    recorder *r[3];
    hark_sub *sub[3];
    for (int i = 0; i < 3; i++) {
        r[i] = recorder_new();
        sub[i] = subscribe(f, r[i],
                           HARK_OPTS(hark_sub_opts, .ring = 16, .overflow = HARK_OVERFLOW_LOG + i));
    }
    flood x[2] = {{.f = f, .n = f->store->direct ? 8000 : 800},
                  {.f = f, .n = f->store->direct ? 8000 : 800}};
    for (int i = 0; i < 2; i++)
        MUST(pthread_create(&x[i].thread, NULL, flood_main, &x[i]) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(x[i].thread, NULL);
    size_t published = (size_t)x[0].n * 2;
    for (int i = 0; i < 3; i++) {
        WAIT_UNTIL(stats_of(sub[i]).delivered + stats_of(sub[i]).dropped +
                       stats_of(sub[i]).gap_events >=
                   published);
        hark_sub_stats s = stats_of(sub[i]);
        assert_u64(s.delivered + s.dropped + s.gap_events, published);
        assert_u64(atomic_load(&r[i]->n), s.delivered);
        assert_ascending(r[i]);
        end_sub(sub[i]);
        recorder_free(r[i]);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(test_newest_keeps_what_came_first_and_counts_the_rest),
    TEST(test_oldest_keeps_what_came_last_and_counts_the_rest),
    TEST(test_the_log_policy_reads_on_and_loses_nothing_that_the_log_keeps),
    TEST(test_what_the_log_no_longer_has_is_a_counted_gap),
    TEST(test_a_puller_is_told_of_gaps_too),
    TEST(test_publishers_wait_for_a_full_waiting_subscriber_and_nothing_is_lost),
    TEST(test_a_batch_over_the_ring_reaches_a_waiting_subscriber_whole),
    TEST(test_a_waiting_subscriber_loses_nothing_however_short_the_log_is),
    TEST(test_closing_a_full_subscriber_lets_publishers_go),
    TEST(test_a_handler_never_waits_for_a_full_subscriber),
    TEST(test_a_blocked_subscriber_never_delays_another),
    TEST(test_counters_are_exact_whoever_reads_how_fast),
};
CONFORMANCE_MAIN("overflow")
