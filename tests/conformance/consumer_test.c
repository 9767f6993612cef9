/* Consumers: where they start, acks that last, one owner, order by key, workers. */
#include "fixture.h"

#define OPTS(...) HARK_OPTS(hark_sub_opts, __VA_ARGS__)

static hark_sub *subscribe(fixture *f, recorder *r, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, opts, &sub, &f->ei));
    return sub;
}

static void assert_starts_at(fixture *f, const hark_sub_opts *opts, uint64_t first, uint64_t last)
{
    recorder *r = recorder_new();
    hark_sub *sub = subscribe(f, r, opts);
    WAIT_UNTIL(stats_of(sub).acked == last - first + 1);
    assert_consecutive(r, first, last - first + 1);
    WAIT_UNTIL(stats_of(sub).position >= last);
    assert_u64(stats_of(sub).pending, 0);
    end_sub(sub);
    recorder_free(r);
}

static void test_a_new_consumer_starts_where_it_is_told(void **state)
{
    fixture *f = *state;
    publish_many(f, "t", 100);
    hark_page *page;
    assert_ok(f,
              hark_read(f->bus, HARK_OPTS(hark_read_opts, .after = 49, .limit = 1), &page, NULL));
    int64_t at = hark_event_recorded_ns(hark_page_event(page, 0));
    hark_page_free(page);
    uint64_t from = 0; /* the first one recorded at or after that */
    for (uint64_t seq = 1; !from; seq++) {
        assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .after = seq - 1, .limit = 1),
                               &page, NULL));
        if (hark_event_recorded_ns(hark_page_event(page, 0)) >= at)
            from = seq;
        hark_page_free(page);
    }
    assert_starts_at(f, OPTS(.consumer = "first", .start = HARK_START_FIRST), 1, 100);
    assert_starts_at(f, OPTS(.consumer = "seq", .start = HARK_START_SEQUENCE, .start_sequence = 71),
                     71, 100);
    assert_starts_at(f, OPTS(.consumer = "time", .start = HARK_START_TIME, .start_time_ns = at),
                     from, 100);
    recorder *now = recorder_new(), *far = recorder_new(), *later = recorder_new();
    hark_sub *s_now = subscribe(f, now, OPTS(.consumer = "now"));
    hark_sub *s_far = subscribe(
        f, far, OPTS(.consumer = "far", .start = HARK_START_SEQUENCE, .start_sequence = 111));
    hark_sub *s_later = subscribe(f, later,
                                  OPTS(.consumer = "later", .start = HARK_START_TIME,
                                       .start_time_ns = hk_wall_ns() + INT64_C(3600000000000)));
    publish_many(f, "t", 20);
    WAIT_UNTIL(atomic_load(&now->n) == 20 && atomic_load(&far->n) == 10);
    assert_consecutive(now, 101, 20);
    assert_consecutive(far, 111, 10);
    /* In an hour, so "not before what there is now"; what comes afterwards is not judged again. */
    WAIT_UNTIL(atomic_load(&later->n) == 20);
    end_sub(s_now);
    end_sub(s_far);
    end_sub(s_later);
    recorder_free(now);
    recorder_free(far);
    recorder_free(later);
}

static void test_the_start_is_fixed_by_the_first_registration(void **state)
{
    fixture *f = *state;
    publish_many(f, "t", 10);
    assert_starts_at(f, OPTS(.consumer = "c", .start = HARK_START_SEQUENCE, .start_sequence = 6), 6,
                     10);
    recorder *r = recorder_new();
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c", .start = HARK_START_FIRST));
    uint64_t next = publish(f, "t");
    WAIT_UNTIL(atomic_load(&r->n) == 1);
    assert_u64(r->seen[0].seq, next);
    end_sub(sub);
    recorder_free(r);
}

static void test_nothing_is_lost_or_repeated_over_a_new_subscription(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    uint64_t first = publish_many(f, "t", 10);
    for (int round = 0; round < 20; round++) { /* wherever the end comes */
        hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c", .start = HARK_START_FIRST));
        size_t before = atomic_load(&r->n);
        publish_many(f, "t", 50);
        WAIT_UNTIL(atomic_load(&r->n) > before);
        end_sub(sub);
        publish_many(f, "t", 5); /* while nobody is there */
    }
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c"));
    WAIT_UNTIL(atomic_load(&r->n) == 10 + 20 * 55);
    end_sub(sub);
    assert_consecutive(r, first, 10 + 20 * 55);
    recorder_free(r);
}

static void test_nothing_is_lost_or_repeated_over_a_new_bus(void **state)
{
    fixture *f = *state;
    if (!f->store->survives)
        return; /* its log ends with the bus; the previous test is its promise */
    recorder *r = recorder_new();
    uint64_t first = publish_many(f, "t", 10);
    for (int round = 0; round < 5; round++) {
        hark_sub_unref(subscribe(f, r, OPTS(.consumer = "c", .start = HARK_START_FIRST)));
        size_t before = atomic_load(&r->n);
        publish_many(f, "t", 50);
        WAIT_UNTIL(atomic_load(&r->n) > before);
        reopen_bus(f, NULL);
        publish_many(f, "t", 5);
    }
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c"));
    WAIT_UNTIL(atomic_load(&r->n) == 10 + 5 * 55);
    end_sub(sub);
    assert_consecutive(r, first, 10 + 5 * 55);
    recorder_free(r);
}

static void test_a_consumer_is_open_once_in_a_process(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c")), *other = NULL;
    assert_err(f, HARK_EEXIST,
               hark_subscribe(f->bus, "t", record, r, OPTS(.consumer = "c"), &other, &f->ei));
    assert_says(f, "'c'");
    assert_null(other);
    end_sub(sub);
    end_sub(subscribe(f, r, OPTS(.consumer = "c"))); /* free again */
    recorder_free(r);
}

static void test_another_pattern_or_policy_is_a_conflict_unless_update_is_set(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c", .max_attempts = 5));
    uint64_t first = publish_many(f, "t", 3);
    WAIT_UNTIL(stats_of(sub).acked == 3);
    end_sub(sub);
    static const hark_sub_opts others[] = {
        {.size = sizeof(hark_sub_opts), .consumer = "c"},
        {.size = sizeof(hark_sub_opts), .consumer = "c", .max_attempts = 6},
        {.size = sizeof(hark_sub_opts), .consumer = "c", .max_attempts = 5, .retry_delay_ms = 10},
        {.size = sizeof(hark_sub_opts), .consumer = "c", .max_attempts = 5, .max_deferred = 10}};
    for (size_t i = 0; i < HK_COUNTOF(others); i++) {
        assert_err(f, HARK_ECONFLICT,
                   hark_subscribe(f->bus, "t", record, r, &others[i], &sub, &f->ei));
        assert_says(f, "update");
    }
    assert_err(f, HARK_ECONFLICT,
               hark_subscribe(f->bus, "u", record, r, OPTS(.consumer = "c", .max_attempts = 5),
                              &sub, &f->ei));
    /* what is no policy may differ */
    end_sub(subscribe(f, r, OPTS(.consumer = "c", .max_attempts = 5, .workers = 4, .window = 10)));
    publish(f, "u");
    assert_ok(f, hark_subscribe(f->bus, "u", record, r, OPTS(.consumer = "c", .update = 1), &sub,
                                &f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == 4); /* goes on where it was, with the new pattern */
    assert_consecutive(r, first, 4);
    end_sub(sub);
    recorder_free(r);
}

static void test_one_worker_gives_log_order(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c"));
    uint64_t first = 0;
    for (int i = 0; i < 300; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%d", i % 7);
        uint64_t seq = publish_keyed(f, "t", i % 3 ? key : NULL);
        first = first ? first : seq;
    }
    WAIT_UNTIL(atomic_load(&r->n) == 300);
    assert_consecutive(r, first, 300);
    end_sub(sub);
    recorder_free(r);
}

/* ---- several workers ------------------------------------------------------------------------------- */

enum { KEYS = 5 };

typedef struct lanes {
    recorder *r;
    atomic_int busy[KEYS], running, most;
    latch at; /* the first KEYS calls meet here */
    bool meet;
} lanes;

static hark_verdict in_lanes(hark_delivery *d, void *ud)
{
    lanes *l = ud;
    int k = hark_event_key(hark_delivery_event(d))[1] - '0';
    MUST(atomic_fetch_add(&l->busy[k], 1) == 0); /* one at a time inside a lane */
    int now = atomic_fetch_add(&l->running, 1) + 1;
    for (int most = atomic_load(&l->most); now > most;)
        if (atomic_compare_exchange_weak(&l->most, &most, now))
            break;
    record_only(l->r, d);
    if (l->meet)
        latch_wait(&l->at);
    atomic_fetch_sub(&l->running, 1);
    atomic_fetch_sub(&l->busy[k], 1);
    return HARK_ACK;
}

static void publish_lanes(fixture *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%zu", i * 7 % KEYS);
        publish_keyed(f, "t", key);
    }
}

static void assert_keys_in_order(recorder *r)
{
    for (char k = '0'; k < '0' + KEYS; k++) {
        uint64_t last = 0;
        for (size_t i = 0; i < atomic_load(&r->n); i++)
            if (r->seen[i].key[1] == k) {
                if (r->seen[i].seq <= last)
                    fail_msg("key k%c: %llu after %llu", k, (unsigned long long)r->seen[i].seq,
                             (unsigned long long)last);
                last = r->seen[i].seq;
            }
    }
}

static void test_lanes_run_in_parallel_and_each_in_order(void **state)
{
    fixture *f = *state;
    lanes l = {.r = recorder_new()};
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", in_lanes, &l, OPTS(.consumer = "c", .workers = 3),
                                &sub, &f->ei));
    publish_lanes(f, 500);
    WAIT_UNTIL(stats_of(sub).acked == 500);
    assert_u64(atomic_load(&l.r->n), 500);
    assert_keys_in_order(l.r);
    assert_true(atomic_load(&l.most) <= 3);
    end_sub(sub);
    recorder_free(l.r);
}

static void test_as_many_lanes_run_as_there_are_workers(void **state)
{
    fixture *f = *state;
    lanes l = {.r = recorder_new(), .meet = true};
    hark_sub *sub;
    latch_init(&l.at);
    publish_lanes(f, 20); /* four of each key */
    assert_ok(f, hark_subscribe(f->bus, "t", in_lanes, &l,
                                OPTS(.consumer = "c", .workers = 8, .start = HARK_START_FIRST),
                                &sub, &f->ei));
    WAIT_UNTIL(atomic_load(&l.at.arrived) == KEYS); /* all lanes, and no lane twice */
    assert_u64(stats_of(sub).pending, 20);
    latch_open(&l.at);
    WAIT_UNTIL(stats_of(sub).acked == 20);
    assert_int_equal(atomic_load(&l.most), KEYS);
    assert_keys_in_order(l.r);
    end_sub(sub);
    recorder_free(l.r);
}

static void test_events_without_a_key_are_lanes_of_their_own(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c", .workers = 4));
    publish_many(f, "t", 10);
    WAIT_UNTIL(atomic_load(&at.arrived) == 4);
    latch_open(&at);
    WAIT_UNTIL(stats_of(sub).acked == 10);
    end_sub(sub);
    recorder_free(r);
}

static void test_consumers_do_not_see_each_others_state(void **state)
{
    fixture *f = *state;
    recorder *r[3];
    hark_sub *sub[3];
    static const char *const names[] = {"a", "b", "a.b"};
    for (int i = 0; i < 3; i++) {
        r[i] = recorder_new();
        sub[i] = subscribe(f, r[i], OPTS(.consumer = names[i]));
    }
    uint64_t first = publish_many(f, "t", 200);
    for (int i = 0; i < 3; i++) {
        WAIT_UNTIL(stats_of(sub[i]).acked == 200);
        assert_consecutive(r[i], first, 200);
        end_sub(sub[i]);
        recorder_free(r[i]);
    }
}

static void test_user_data_of_a_consumer_is_freed_once_after_the_last_call(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub = subscribe(f, r, OPTS(.consumer = "c", .workers = 3, .free_ud = recorder_freed));
    publish_many(f, "t", 10);
    WAIT_UNTIL(atomic_load(&at.arrived) == 3);
    hark_sub_close(sub);
    assert_int_equal(hark_sub_join(sub, 1), HARK_ETIMEDOUT);
    assert_int_equal(atomic_load(&r->freed), 0);
    latch_open(&at);
    assert_ok(f, hark_sub_join(sub, -1));
    assert_int_equal(atomic_load(&r->freed), 1);
    assert_u64(atomic_load(&r->n), 3);
    hark_sub_unref(sub);
    recorder_free(r);
}

/* Nothing wakes it for events that are not for it; nobody asks it for how far it is either. */
static void test_lag_comes_to_nothing_when_the_newest_events_are_not_for_the_consumer(void **state)
{
    enum { ROUNDS = 3 };
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *s;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, HARK_OPTS(hark_sub_opts, .consumer = "c"),
                                &s, &f->ei));
    publish(f, "t");
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t last = publish_many(f, "other", 5) + 4;
        WAIT_UNTIL(consumer_now(f).lag == 0);
        assert_u64(consumer_now(f).floor, last);
    }
    assert_u64(atomic_load(&r->n), 1);
    end_sub(s);
    recorder_free(r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_new_consumer_starts_where_it_is_told),
    TEST(test_the_start_is_fixed_by_the_first_registration),
    TEST(test_nothing_is_lost_or_repeated_over_a_new_subscription),
    TEST(test_nothing_is_lost_or_repeated_over_a_new_bus),
    TEST(test_a_consumer_is_open_once_in_a_process),
    TEST(test_another_pattern_or_policy_is_a_conflict_unless_update_is_set),
    TEST(test_one_worker_gives_log_order),
    TEST(test_lanes_run_in_parallel_and_each_in_order),
    TEST(test_as_many_lanes_run_as_there_are_workers),
    TEST(test_events_without_a_key_are_lanes_of_their_own),
    TEST(test_consumers_do_not_see_each_others_state),
    TEST(test_user_data_of_a_consumer_is_freed_once_after_the_last_call),
    TEST(test_lag_comes_to_nothing_when_the_newest_events_are_not_for_the_consumer),
};
CONFORMANCE_MAIN("consumer")
