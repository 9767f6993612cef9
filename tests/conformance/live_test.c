/* Live subscriptions: from now on, in the log's order, by pattern, until closed. */
#include "fixture.h"

static hark_sub *subscribe(fixture *f, const char *pattern, recorder *r, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, pattern, record, r, opts, &sub, &f->ei));
    return sub;
}

static void test_a_live_subscription_sees_what_comes_from_now_on(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    publish_many(f, "t", 50);
    hark_sub *sub = subscribe(f, "t", r, NULL);
    uint64_t first = publish_many(f, "t", 500);
    WAIT_UNTIL(atomic_load(&r->n) == 500);
    assert_consecutive(r, first, 500);
    WAIT_UNTIL(stats_of(sub).delivered == 500);
    hark_sub_stats s = stats_of(sub);
    assert_u64(s.dropped + s.gaps + s.gap_events + s.pending, 0);
    assert_u64(s.position, first + 499);
    end_sub(sub);
    recorder_free(r);
}

static hark_verdict check_event(hark_delivery *d, void *ud)
{
    const hark_event *e = hark_delivery_event(d);
    uint64_t from, to;
    MUST(strcmp(hark_event_type(e), "order:created") == 0);
    MUST(strcmp(hark_event_subject(e), "s") == 0);
    MUST(hark_delivery_sequence(d) == hark_event_sequence(e));
    MUST(hark_delivery_recorded_ns(d) == hark_event_recorded_ns(e));
    MUST(hark_delivery_attempt(d) == 1);
    MUST(hark_delivery_consumer(d) == NULL);
    MUST(hark_delivery_replay_id(d) == NULL);
    MUST(hark_delivery_bus(d) == ((fixture *)ud)->bus);
    MUST(!hark_delivery_gap(d, &from, &to));
    MUST(hark_event_recorded_ns(e) > 0);
    return HARK_REJECT; /* a live subscription ignores it */
}

static void test_a_delivery_carries_the_event_and_its_place(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "order:*", check_event, f, NULL, &sub, &f->ei));
    assert_ok(f, hark_publish(f->bus,
                              HARK_OPTS(hark_event_spec, .type = "order:created", .subject = "s"),
                              NULL));
    WAIT_UNTIL(stats_of(sub).delivered == 1);
    assert_u64(stats_of(sub).rejected, 0);
    end_sub(sub);
}

static void test_patterns_choose_among_types(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *pattern;
        size_t n; /* of the types below */
    } cases[] = {{"order:created", 1}, {"order:*", 2}, {"order:**", 3},
                 {"*:created", 2},     {"**", 5},      {"*", 1},
                 {"dead_letter", 1},   {"hark:**", 1}, {"hark:stats", 1},
                 {"order:paid:*", 1}};
    static const char *const types[] = {"order:created", "order:paid", "order:paid:twice",
                                        "user.created",  "plain",      "dead_letter",
                                        "hark:stats"};
    recorder *r[HK_COUNTOF(cases)];
    hark_sub *sub[HK_COUNTOF(cases)];
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        r[i] = recorder_new();
        sub[i] = subscribe(f, cases[i].pattern, r[i], NULL);
    }
    for (size_t i = 0; i < HK_COUNTOF(types); i++)
        publish(f, types[i]);
    for (size_t i = 0; i < HK_COUNTOF(cases); i++) {
        size_t expected = 0;
        for (size_t k = 0; k < HK_COUNTOF(types); k++)
            expected += hark_pattern_match(cases[i].pattern, types[k]);
        int64_t until = 0;
        while (atomic_load(&r[i]->n) < expected)
            wait_yield(&until, cases[i].pattern, __FILE__, __LINE__);
        end_sub(sub[i]);
        assert_u64(atomic_load(&r[i]->n), expected);
        if (strcmp(cases[i].pattern, "*:created") != 0) /* '.' is a separator too */
            assert_u64(expected, cases[i].n);
        recorder_free(r[i]);
    }
}

static void test_bad_subscriptions_are_refused_with_a_reason(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *pattern;
        hark_sub_opts opts;
        const char *says;
    } bad[] = {
        {"", {.size = sizeof(hark_sub_opts)}, ""},
        {"**:x", {.size = sizeof(hark_sub_opts)}, "**"},
        {"t", {.size = 0, .ring = 1}, "size"},
        {"t", {.size = sizeof(hark_sub_opts), .flags = 64}, "flags"},
        {"t", {.size = sizeof(hark_sub_opts), .overflow = 9}, "overflow"},
        {"t", {.size = sizeof(hark_sub_opts), .start = 9}, "start"},
        {"t", {.size = sizeof(hark_sub_opts), .consumer = "a b"}, "a b"},
        {"t", {.size = sizeof(hark_sub_opts), .consumer = ""}, "consumer"},
        {"t", {.size = sizeof(hark_sub_opts), .consumer = "c", .retry_delay_ms = 5}, "retry_delay"},
        {"t",
         {.size = sizeof(hark_sub_opts), .consumer = "c", .retry_delay_ms = 90, .retry_max_ms = 80},
         "retry_max_ms"},
        {"t", {.size = sizeof(hark_sub_opts), .consumer = "c", .max_attempts = -2}, "max_attempts"},
        {"t", {.size = sizeof(hark_sub_opts), .consumer = "c", .workers = 5000}, "workers"},
    };
    recorder *r = recorder_new();
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        hark_sub *sub = NULL;
        hark_sub_opts o = bad[i].opts;
        o.free_ud = recorder_freed;
        assert_err(f, HARK_EINVAL,
                   hark_subscribe(f->bus, bad[i].pattern, record, r, &o, &sub, &f->ei));
        assert_says(f, bad[i].says);
        assert_null(sub);
    }
    assert_int_equal(atomic_load(&r->freed), 0); /* ud stays ours when the call fails */
    recorder_free(r);
}

static void test_user_data_is_freed_once_after_the_last_call(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub = subscribe(f, "t", r, HARK_OPTS(hark_sub_opts, .free_ud = recorder_freed));
    publish_many(f, "t", 10);
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    hark_sub_close(sub);
    hark_sub_close(sub);
    assert_int_equal(hark_sub_join(sub, 0), HARK_ETIMEDOUT);
    assert_int_equal(atomic_load(&r->freed), 0); /* a call still runs */
    latch_open(&at);
    assert_ok(f, hark_sub_join(sub, -1));
    assert_int_equal(atomic_load(&r->freed), 1);
    assert_u64(atomic_load(&r->n), 1); /* and no other one started */
    hark_sub_unref(sub);
    close_bus(f);
    assert_int_equal(atomic_load(&r->freed), 1);
    recorder_free(r);
}

static void test_a_subscription_lives_on_when_its_handle_is_dropped(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub_unref(subscribe(f, "t", r, HARK_OPTS(hark_sub_opts, .free_ud = recorder_freed)));
    assert_ok(f, hark_subscribe(f->bus, "t", record, r,
                                HARK_OPTS(hark_sub_opts, .free_ud = recorder_freed), NULL, &f->ei));
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&r->n) == 2);
    assert_int_equal(atomic_load(&r->freed), 0);
    close_bus(f);
    WAIT_UNTIL(atomic_load(&r->freed) == 2);
    recorder_free(r);
}

static void test_a_subscription_may_outlive_its_bus(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = subscribe(f, "t", r, NULL), *pull;
    hark_delivery *d;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, NULL, &pull, &f->ei));
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&r->n) == 1);
    close_bus(f);
    assert_int_equal(hark_next(pull, 0, &d), HARK_ECLOSED);
    assert_u64(stats_of(sub).delivered, 1);
    hark_sub_close(sub);
    assert_ok(f, hark_sub_join(sub, -1));
    hark_sub_unref(sub);
    assert_ok(f, hark_sub_join(pull, -1));
    hark_sub_unref(pull);
    recorder_free(r);
}

/* ---- pull style ---------------------------------------------------------------------------------- */

static void test_pulling_gives_events_one_by_one(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d = NULL;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, NULL, &sub, &f->ei));
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 0, &d));
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 1, &d));
    assert_null(d);
    uint64_t first = publish_many(f, "t", 100);
    for (uint64_t i = 0; i < 100; i++) {
        assert_ok(f, hark_next(sub, -1, &d));
        assert_u64(hark_delivery_sequence(d), first + i);
        assert_ok(f, hark_settle(&d, NULL));
        assert_null(d);
    }
    assert_u64(stats_of(sub).delivered, 100);
    hark_sub_close(sub);
    assert_err(f, HARK_ECLOSED, hark_next(sub, -1, &d));
    assert_ok(f, hark_sub_join(sub, -1));
    hark_sub_unref(sub);
}

static void *pull_one(void *arg)
{
    hark_delivery *d;
    hark_err err = hark_next(arg, -1, &d);
    if (!err)
        MUST(hark_settle(&d, NULL) == HARK_OK);
    return (void *)(intptr_t)err;
}

static void test_a_sleeping_puller_is_woken_by_an_event_and_by_the_end(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    pthread_t t;
    void *err;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, NULL, &sub, &f->ei));
    MUST(pthread_create(&t, NULL, pull_one, sub) == 0);
    publish(f, "t");
    pthread_join(t, &err);
    assert_int_equal((intptr_t)err, HARK_OK);
    MUST(pthread_create(&t, NULL, pull_one, sub) == 0);
    hark_sub_close(sub);
    pthread_join(t, &err);
    assert_int_equal((intptr_t)err, HARK_ECLOSED);
    hark_sub_unref(sub);
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, NULL, &sub, &f->ei));
    MUST(pthread_create(&t, NULL, pull_one, sub) == 0);
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    pthread_join(t, &err);
    assert_int_equal((intptr_t)err, HARK_ECLOSED);
    hark_sub_unref(sub);
}

static void test_a_kept_delivery_outlives_subscription_and_bus(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, NULL, &sub, &f->ei));
    publish_keyed(f, "t", "the-key");
    assert_ok(f, hark_next(sub, -1, &d));
    hark_sub_unref(sub);
    close_bus(f);
    assert_string_equal(hark_event_key(hark_delivery_event(d)), "the-key");
    assert_err(f, HARK_ECLOSED,
               hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = "x"), NULL));
    assert_ok(f, hark_settle(&d, NULL));
    assert_err(f, HARK_EINVAL, hark_settle(&d, NULL)); /* settled already: cleared */
}

static void test_pulling_where_a_handler_is_given_is_refused(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_delivery *d;
    hark_sub *sub = subscribe(f, "t", r, NULL);
    assert_err(f, HARK_EINVAL, hark_next(sub, 0, &d));
    assert_err(f, HARK_EINVAL, hark_sub_join(sub, 0)); /* not closed */
    end_sub(sub);
    assert_err(f, HARK_EINVAL, hark_subscribe(f->bus, "t", NULL, NULL, NULL, NULL, &f->ei));
    recorder_free(r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_live_subscription_sees_what_comes_from_now_on),
    TEST(test_a_delivery_carries_the_event_and_its_place),
    TEST(test_patterns_choose_among_types),
    TEST(test_bad_subscriptions_are_refused_with_a_reason),
    TEST(test_user_data_is_freed_once_after_the_last_call),
    TEST(test_a_subscription_lives_on_when_its_handle_is_dropped),
    TEST(test_a_subscription_may_outlive_its_bus),
    TEST(test_pulling_gives_events_one_by_one),
    TEST(test_a_sleeping_puller_is_woken_by_an_event_and_by_the_end),
    TEST(test_a_kept_delivery_outlives_subscription_and_bus),
    TEST(test_pulling_where_a_handler_is_given_is_refused),
};
CONFORMANCE_MAIN("live")
