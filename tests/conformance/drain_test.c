/* The orderly end: what is refused, what may still run, who is named when time is up. */
#include "fixture.h"

#define SPEC(...) HARK_OPTS(hark_event_spec, __VA_ARGS__)

typedef struct busy {
    fixture *f;
    latch at;
    hark_err publish, derived, batch, subscribe, drain, late;
    atomic_int calls, returned;
    bool wait_more; /* after what it does while draining */
    latch more;
} busy;

static hark_verdict work_on(hark_delivery *d, void *ud)
{
    busy *b = ud;
    hark_sub *sub = NULL;
    hark_bus *bus = hark_delivery_bus(d);
    const hark_event_spec *spec = SPEC(.type = "answer");
    atomic_fetch_add(&b->calls, 1);
    latch_wait(&b->at);
    b->publish = hark_publish(bus, spec, NULL);
    b->derived = hark_delivery_publish(d, spec, NULL);
    b->batch = hark_publish_batch(bus, &spec, 1, NULL, NULL);
    b->subscribe = hark_subscribe(bus, "x", record, NULL, NULL, &sub, NULL);
    b->drain = hark_drain(bus, 0, NULL);
    if (b->wait_more) {
        latch_wait(&b->more);
        b->late = hark_publish(bus, spec, NULL);
    }
    atomic_fetch_add(&b->returned, 1);
    return HARK_ACK;
}

static hark_sub *subscribe(busy *b, const char *name)
{
    hark_sub *sub;
    latch_init(&b->at);
    latch_init(&b->more);
    assert_ok(b->f, hark_subscribe(b->f->bus, "t", work_on, b,
                                   HARK_OPTS(hark_sub_opts, .consumer = name), &sub, &b->f->ei));
    return sub;
}

typedef struct drainer {
    hark_bus *bus;
    pthread_t thread;
    int64_t timeout_ms;
    hark_err err;
    atomic_int done;
} drainer;

static void *drain_main(void *arg)
{
    drainer *x = arg;
    x->err = hark_drain(x->bus, x->timeout_ms, NULL);
    atomic_store(&x->done, 1);
    return NULL;
}

static void start_drain(drainer *x, hark_bus *bus, int64_t timeout_ms)
{
    *x = (drainer){.bus = bus, .timeout_ms = timeout_ms};
    MUST(pthread_create(&x->thread, NULL, drain_main, x) == 0);
}

static void test_a_running_handler_may_still_publish_and_settle(void **state)
{
    fixture *f = *state;
    static const char *const names[] = {NULL, "c"};
    for (int i = 0; i < 2; i++) {
        busy b = {.f = f};
        drainer x;
        hark_sub *sub = subscribe(&b, names[i]);
        uint64_t first = publish_many(f, "t", 3);
        WAIT_UNTIL(atomic_load(&b.at.arrived) == 1);
        start_drain(&x, f->bus, -1);
        WAIT_UNTIL(hark_publish(f->bus, SPEC(.type = "outside"), NULL) == HARK_ECLOSED);
        assert_int_equal(atomic_load(&x.done), 0); /* waits for the handler */
        latch_open(&b.at);
        pthread_join(x.thread, NULL);
        assert_int_equal(x.err, HARK_OK);
        assert_int_equal(b.publish, HARK_OK);
        assert_int_equal(b.derived, HARK_OK);
        assert_int_equal(b.batch, HARK_OK);
        assert_int_equal(b.subscribe, HARK_ECLOSED);
        assert_int_equal(b.drain, HARK_EWRONGTHREAD);
        assert_int_equal(atomic_load(&b.calls), 1); /* no new delivery was begun */
        if (names[i])
            assert_u64(stats_of(sub).acked, 1);
        assert_ok(f, hark_sub_join(sub, -1));
        hark_sub_unref(sub);
        reopen_bus(f, NULL);
        if (names[i] && f->store->survives) {
            recorder *r = recorder_new();
            assert_ok(f, hark_subscribe(f->bus, "t", record, r,
                                        HARK_OPTS(hark_sub_opts, .consumer = "c"), &sub, &f->ei));
            WAIT_UNTIL(atomic_load(&r->n) == 2);
            assert_consecutive(r, first + 1, 2); /* the settled one does not come again */
            hark_page *page;
            assert_ok(
                f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = "answer"), &page, &f->ei));
            assert_u64(hark_page_count(page), 6); /* of both rounds */
            hark_page_free(page);
            end_sub(sub);
            recorder_free(r);
        }
    }
}

static void test_everything_from_outside_is_refused_afterwards(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    const hark_event_spec *spec = SPEC(.type = "t");
    hark_sub *sub, *pull, *late = NULL;
    hark_delivery *d;
    hark_page *page;
    hark_bus_info info = {.size = sizeof info};
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, NULL, &sub, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, HARK_OPTS(hark_sub_opts, .consumer = "p"),
                                &pull, &f->ei));
    publish(f, "t");
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    assert_ok(f, hark_drain(f->bus, -1, &f->ei)); /* again is fine */
    assert_ok(f, hark_drain(f->bus, 0, &f->ei));
    assert_err(f, HARK_ECLOSED, hark_publish_ei(f->bus, spec, NULL, &f->ei));
    assert_says(f, "closed");
    assert_err(f, HARK_ECLOSED, hark_publish_async(f->bus, spec, NULL, NULL));
    assert_err(f, HARK_ECLOSED, hark_publish_batch(f->bus, &spec, 1, NULL, &f->ei));
    assert_err(f, HARK_ECLOSED, hark_subscribe(f->bus, "t", record, r, NULL, &late, &f->ei));
    assert_err(f, HARK_ECLOSED,
               hark_subscribe(f->bus, "t", record, r, HARK_OPTS(hark_sub_opts, .consumer = "c"),
                              &late, &f->ei));
    assert_null(late);
    assert_err(f, HARK_ECLOSED, hark_next(pull, -1, &d));
    if (!f->store->direct) /* what is in memory may still be read */
        assert_err(f, HARK_ECLOSED,
                   hark_read(f->bus, HARK_OPTS(hark_read_opts, .descending = 1), &page, &f->ei));
    assert_ok(f, hark_bus_info_get(f->bus, &info));
    assert_u64(info.last_sequence, 1);
    assert_ok(f, hark_sub_join(sub, -1)); /* both have ended */
    assert_ok(f, hark_sub_join(pull, -1));
    hark_sub_unref(sub);
    hark_sub_unref(pull);
    recorder_free(r);
}

static void test_time_up_names_the_deliveries_that_still_run(void **state)
{
    fixture *f = *state;
    busy b = {.f = f, .wait_more = true};
    hark_sub *sub = subscribe(&b, "stock");
    uint64_t seq = publish(f, "t");
    WAIT_UNTIL(atomic_load(&b.at.arrived) == 1);
    assert_err(f, HARK_ETIMEDOUT, hark_drain(f->bus, 1, &f->ei));
    char says[64];
    (void)snprintf(says, sizeof says, "consumer stock: sequence %llu", (unsigned long long)seq);
    assert_says(f, says);
    assert_ok(f, hark_drain(f->bus, -1, &f->ei)); /* it is done */
    latch_open(&b.at);                            /* the abandoned one finds everything closed */
    WAIT_UNTIL(atomic_load(&b.more.arrived) == 1);
    assert_int_equal(b.publish, HARK_ECLOSED);
    assert_int_equal(b.derived, HARK_ECLOSED);
    latch_open(&b.more);
    assert_ok(f, hark_sub_join(sub, -1));
    assert_int_equal(b.late, HARK_ECLOSED);
    assert_u64(stats_of(sub).acked, 0);
    hark_sub_unref(sub);
    reopen_bus(f, NULL);
    if (!f->store->survives)
        return;
    recorder *r = recorder_new(); /* abandoned: neither acked nor an attempt */
    assert_ok(f, hark_subscribe(f->bus, "t", record, r,
                                HARK_OPTS(hark_sub_opts, .consumer = "stock"), &sub, &f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == 1);
    assert_u64(r->seen[0].seq, seq);
    assert_int_equal(r->seen[0].attempt, 1);
    end_sub(sub);
    recorder_free(r);
}

static void test_a_live_handler_is_named_too(void **state)
{
    fixture *f = *state;
    busy b = {.f = f};
    hark_sub *sub = subscribe(&b, NULL);
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&b.at.arrived) == 1);
    assert_err(f, HARK_ETIMEDOUT, hark_drain(f->bus, 1, &f->ei));
    assert_says(f, "live");
    latch_open(&b.at);
    assert_ok(f, hark_sub_join(sub, -1));
    hark_sub_unref(sub);
}

static void test_two_threads_may_drain(void **state)
{
    fixture *f = *state;
    busy b = {.f = f};
    drainer x[2];
    hark_sub *sub = subscribe(&b, "c");
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&b.at.arrived) == 1);
    start_drain(&x[0], f->bus, -1);
    start_drain(&x[1], f->bus, -1);
    WAIT_UNTIL(hark_publish(f->bus, SPEC(.type = "outside"), NULL) == HARK_ECLOSED);
    latch_open(&b.at);
    for (int i = 0; i < 2; i++) {
        pthread_join(x[i].thread, NULL);
        assert_int_equal(x[i].err, HARK_OK);
    }
    hark_sub_unref(sub);
}

static void test_acks_of_an_instant_ago_are_in_the_log_after_a_drain(void **state)
{
    fixture *f = *state;
    if (!f->store->survives)
        return;
    for (int round = 0; round < 5; round++) {
        hark_sub *sub;
        recorder *r = recorder_new();
        assert_ok(f, hark_subscribe(f->bus, "t", record, r,
                                    HARK_OPTS(hark_sub_opts, .consumer = "c"), &sub, &f->ei));
        publish_many(f, "t", 200);
        WAIT_UNTIL(stats_of(sub).acked == 200);
        assert_ok(f, hark_drain(f->bus, -1, &f->ei));
        hark_sub_unref(sub);
        recorder_free(r);
        reopen_bus(f, NULL);
        r = recorder_new();
        assert_ok(f, hark_subscribe(f->bus, "t", record, r,
                                    HARK_OPTS(hark_sub_opts, .consumer = "c"), &sub, &f->ei));
        uint64_t next = publish(f, "t");
        WAIT_UNTIL(stats_of(sub).acked == 1);
        assert_consecutive(r, next, 1);
        end_sub(sub);
        recorder_free(r);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_running_handler_may_still_publish_and_settle),
    TEST(test_everything_from_outside_is_refused_afterwards),
    TEST(test_time_up_names_the_deliveries_that_still_run),
    TEST(test_a_live_handler_is_named_too),
    TEST(test_two_threads_may_drain),
    TEST(test_acks_of_an_instant_ago_are_in_the_log_after_a_drain),
};
CONFORMANCE_MAIN("drain")
