/* Figures of the bus, of types and of consumers: what they count, and that they are exact once things
 * have come to rest. */
#include "fixture.h"

#include <hark/operate.h>

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)
#define HOUR_MS   3600000

static hark_stats bus_stats(fixture *f)
{
    hark_stats s = {.size = sizeof s};
    assert_ok(f, hark_stats_get(f->bus, &s));
    return s;
}

/* ---- looking one entry up ---------------------------------------------------------------------- */

typedef struct wanted_type {
    const char *type;
    size_t n, calls;
    hark_type_stats found; /* its string is not kept */
} wanted_type;

static bool look_for_type(const hark_type_stats *s, void *ud)
{
    wanted_type *w = ud;
    w->calls++;
    if (strcmp(s->type, w->type) == 0) {
        w->n++;
        w->found = *s;
    }
    return true;
}

static hark_type_stats type_stats(fixture *f, const char *type)
{
    wanted_type w = {.type = type};
    assert_ok(f, hark_stats_types(f->bus, look_for_type, &w));
    assert_true(w.n <= 1);
    return w.found;
}

static size_t count_types(fixture *f)
{
    wanted_type w = {.type = ""};
    assert_ok(f, hark_stats_types(f->bus, look_for_type, &w));
    return w.calls;
}

typedef struct wanted_consumer {
    const char *name;
    size_t n, calls;
    hark_consumer_stats found;
} wanted_consumer;

static bool look_for_consumer(const hark_consumer_stats *s, void *ud)
{
    wanted_consumer *w = ud;
    w->calls++;
    if (strcmp(s->consumer, w->name) == 0) {
        w->n++;
        w->found = *s;
    }
    return true;
}

static hark_consumer_stats consumer_stats(fixture *f, const char *name)
{
    wanted_consumer w = {.name = name};
    assert_ok(f, hark_stats_consumers(f->bus, look_for_consumer, &w));
    assert_u64(w.n, 1);
    return w.found;
}

static size_t count_consumers(fixture *f)
{
    wanted_consumer w = {.name = ""};
    assert_ok(f, hark_stats_consumers(f->bus, look_for_consumer, &w));
    return w.calls;
}

static void assert_latency(const hark_latency *l, uint64_t count, int64_t most)
{
    assert_u64(l->count, count);
    assert_true(l->p50_ns <= l->p90_ns && l->p90_ns <= l->p99_ns && l->p99_ns <= l->p999_ns);
    assert_true(l->p999_ns <= l->max_ns && l->max_ns <= most);
    assert_true(l->mean_ns >= 0 && l->mean_ns <= l->max_ns);
}

static int64_t recorded_of(fixture *f, uint64_t seq)
{
    hark_page *page;
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .after = seq - 1, .before = seq + 1),
                           &page, &f->ei));
    assert_u64(hark_page_count(page), 1);
    int64_t at = hark_event_recorded_ns(hark_page_event(page, 0));
    hark_page_free(page);
    return at;
}

static hark_sub *subscribe(fixture *f, const char *pattern, hark_handler_fn fn, void *ud,
                           const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, pattern, fn, ud, opts, &sub, &f->ei));
    return sub;
}

/* ---- the bus ------------------------------------------------------------------------------------- */

static void test_a_fresh_bus_has_no_figures(void **state)
{
    fixture *f = *state;
    hark_stats s = bus_stats(f);
    assert_u64(s.published + s.duplicates + s.failed_commits + s.schedules, 0);
    assert_u64(s.last_sequence, 0);
    assert_true(s.rate == 0);
    assert_latency(&s.commit, 0, 0);
    assert_u64(count_types(f), 0);
    assert_u64(count_consumers(f), 0);
}

static void test_what_is_published_is_counted(void **state)
{
    fixture *f = *state;
    int64_t before = hk_mono_ns();
    publish_many(f, "a", 700);
    uint64_t last = publish_many(f, "b", 300) + 299;
    WAIT_UNTIL(bus_stats(f).published == 1000);
    hark_stats s = bus_stats(f);
    assert_u64(s.last_sequence, last);
    assert_u64(s.failed_commits, 0);
    if (f->store->direct) {
        assert_u64(s.commit.count, 0);
    } else {
        assert_true(s.commits >= 3); /* batches of 500 */
        assert_latency(&s.commit, 1000, hk_mono_ns() - before);
        assert_true(s.commit.max_ns > 0);
    }
    WAIT_UNTIL(bus_stats(f).rate > 0); /* the second that it was in is full then */
}

static void test_repeats_are_counted_apart(void **state)
{
    fixture *f = *state;
    hark_receipt r;
    for (int i = 0; i < 3; i++)
        assert_ok(f, hark_publish_ei(f->bus, HARK_OPTS(hark_event_spec, .type = "a", .id = "one"),
                                     &r, &f->ei));
    WAIT_UNTIL(bus_stats(f).published == 1);
    assert_u64(bus_stats(f).duplicates, f->store->direct ? 0 : 2);
    assert_u64(type_stats(f, "a").count, 1);
}

static void test_schedules_that_wait_are_counted(void **state)
{
    fixture *f = *state;
    hark_schedule_id id;
    assert_ok(f, hark_schedule(f->bus, HARK_OPTS(hark_event_spec, .type = "a"), hark_after(HOUR_MS),
                               &id, &f->ei));
    assert_u64(bus_stats(f).schedules, 1);
    assert_ok(f, hark_schedule_cancel(f->bus, id, &f->ei));
    assert_u64(bus_stats(f).schedules, 0);
}

static void test_an_unknown_size_is_refused(void **state)
{
    fixture *f = *state;
    hark_stats s = {.size = 8};
    assert_int_equal(hark_stats_get(f->bus, &s), HARK_EINVAL);
}

/* ---- types --------------------------------------------------------------------------------------- */

static void test_a_type_has_its_count_bytes_and_times(void **state)
{
    fixture *f = *state;
    uint64_t first = 0, last = 0;
    for (size_t n = 0; n < 10; n++) {
        hark_receipt r;
        assert_ok(f, hark_publish_ei(f->bus,
                                     HARK_OPTS(hark_event_spec, .type = "a", .data = "0123456789",
                                               .data_len = n),
                                     &r, &f->ei));
        first = first ? first : r.sequence;
        last = r.sequence;
        publish(f, "b");
    }
    WAIT_UNTIL(bus_stats(f).published == 20);
    hark_type_stats t = type_stats(f, "a");
    assert_u64(t.count, 10);
    assert_u64(t.bytes, 45);
    assert_u64(t.first_ns, recorded_of(f, first));
    assert_u64(t.last_ns, recorded_of(f, last));
    assert_u64(type_stats(f, "b").count, 10);
    assert_u64(type_stats(f, "b").bytes, 0);
    assert_u64(count_types(f), 2);
    WAIT_UNTIL(type_stats(f, "a").rate > 0);
}

static bool count_and_stop(const hark_type_stats *s, void *ud)
{
    (void)s;
    return ++*(size_t *)ud < 2;
}

static void test_a_list_ends_when_it_is_told_to(void **state)
{
    fixture *f = *state;
    size_t calls = 0;
    publish(f, "a");
    publish(f, "b");
    publish(f, "c");
    WAIT_UNTIL(bus_stats(f).published == 3);
    assert_ok(f, hark_stats_types(f->bus, count_and_stop, &calls));
    assert_u64(calls, 2);
}

static void publish_types(fixture *f, size_t from, size_t to)
{
    enum { BATCH = 100 };
    static char names[BATCH][24];
    hark_event_spec specs[BATCH];
    const hark_event_spec *list[BATCH];
    for (size_t done = from; done < to;) {
        size_t n = to - done < BATCH ? to - done : BATCH;
        for (size_t i = 0; i < n; i++) {
            (void)snprintf(names[i], sizeof names[i], "type:%zu", done + i);
            specs[i] = (hark_event_spec){.size = sizeof specs[i], .type = names[i]};
            list[i] = &specs[i];
        }
        assert_ok(f, hark_publish_batch(f->bus, list, n, NULL, &f->ei));
        done += n;
    }
}

static void test_types_beyond_the_first_4096_are_counted_together(void **state)
{
    fixture *f = *state;
    publish_types(f, 0, 4096);
    WAIT_UNTIL(bus_stats(f).published == 4096);
    assert_u64(count_types(f), 4096);
    assert_u64(type_stats(f, "other types").count, 0);
    publish_types(f, 4000, 4200);
    WAIT_UNTIL(bus_stats(f).published == 4296);
    assert_u64(count_types(f), 4097);
    assert_u64(type_stats(f, "type:0").count, 1);
    assert_u64(type_stats(f, "type:4095").count, 2);
    assert_u64(type_stats(f, "type:4096").count, 0);
    assert_u64(type_stats(f, "other types").count, 104);
}

static void test_figures_begin_anew_with_the_bus(void **state)
{
    fixture *f = *state;
    publish(f, "a");
    WAIT_UNTIL(bus_stats(f).published == 1);
    reopen_bus(f, NULL);
    assert_u64(bus_stats(f).published, 0);
    assert_u64(count_types(f), 0);
}

static atomic_bool done;

static void *read_all_the_time(void *arg)
{
    fixture *f = arg;
    uint64_t last = 0;
    while (!atomic_load(&done)) {
        hark_stats s = {.size = sizeof s};
        wanted_type t = {.type = "type:7"};
        wanted_consumer c = {.name = "c"};
        MUST(hark_stats_get(f->bus, &s) == HARK_OK);
        MUST(s.published >= last);
        last = s.published;
        MUST(hark_stats_types(f->bus, look_for_type, &t) == HARK_OK);
        MUST(hark_stats_consumers(f->bus, look_for_consumer, &c) == HARK_OK);
        MUST(t.n <= 1 && c.n <= 1);
    }
    return NULL;
}

static void test_figures_are_read_beside_the_counting(void **state)
{
    fixture *f = *state;
    pthread_t reader;
    recorder *r = recorder_new();
    atomic_store(&done, false);
    assert_int_equal(pthread_create(&reader, NULL, read_all_the_time, f), 0);
    for (int i = 0; i < 5; i++) {
        hark_sub *sub = subscribe(f, "**", record, r, OPTS(.workers = 2));
        publish_types(f, 0, 400);
        publish_many(f, "t", 400);
        end_sub(sub);
    }
    atomic_store(&done, true);
    pthread_join(reader, NULL);
    WAIT_UNTIL(bus_stats(f).published == 4000);
    recorder_free(r);
}

/* ---- consumers ------------------------------------------------------------------------------------ */

/* Retries each event once. */
static hark_verdict second_time(hark_delivery *d, void *ud)
{
    (void)ud;
    hark_delivery_retry_after(d, 0);
    return hark_delivery_attempt(d) == 1 ? HARK_RETRY : HARK_ACK;
}

static void test_a_consumer_has_its_counts_and_latencies(void **state)
{
    fixture *f = *state;
    int64_t before = hk_mono_ns();
    hark_sub *sub = subscribe(f, "t", second_time, NULL, OPTS(.workers = 2));
    uint64_t last = publish_many(f, "t", 20) + 19;
    WAIT_UNTIL(consumer_stats(f, "c").acked == 20);
    WAIT_UNTIL(consumer_stats(f, "c").deferred == 0 && consumer_stats(f, "c").running == 0);
    hark_consumer_stats s = consumer_stats(f, "c");
    int64_t most = hk_mono_ns() - before;
    assert_u64(s.delivered, 40);
    assert_u64(s.retried, 20);
    assert_u64(s.rejected + s.timed_out + s.gaps + s.gap_events + s.in_memory, 0);
    assert_u64(s.floor, last);
    assert_u64(s.lag, 0);
    assert_u64(s.oldest_ns, 0);
    assert_latency(&s.wait, 20, most); /* of first attempts */
    assert_latency(&s.handler, 40, most);
    WAIT_UNTIL(consumer_stats(f, "c").rate > 0);
    end_sub(sub);
}

static void test_handler_time_is_the_handlers(void **state)
{
    fixture *f = *state;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub = subscribe(f, "t", record, r, OPTS(.workers = 1));
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    int64_t from = hk_mono_ns();
    assert_u64(consumer_stats(f, "c").running, 1);
    WAIT_UNTIL(hk_mono_ns() - from > 20000000);
    int64_t held = hk_mono_ns() - from;
    latch_open(&at);
    WAIT_UNTIL(consumer_stats(f, "c").handler.count == 1);
    hark_consumer_stats s = consumer_stats(f, "c");
    assert_true(s.handler.max_ns >= held && s.handler.p50_ns == s.handler.max_ns);
    end_sub(sub);
    recorder_free(r);
}

static void test_the_oldest_event_that_is_not_settled_has_its_time(void **state)
{
    fixture *f = *state;
    hark_delivery *d;
    hark_sub *sub = subscribe(f, "t", NULL, NULL, OPTS(.workers = 2));
    publish(f, "other");
    uint64_t first = publish(f, "t");
    publish(f, "other");
    uint64_t second = publish(f, "t");
    hark_consumer_stats s = consumer_stats(f, "c");
    assert_u64(s.lag, 4);
    assert_u64(s.oldest_ns, recorded_of(f, first));
    assert_ok(f, hark_next(sub, -1, &d));
    assert_u64(consumer_stats(f, "c").oldest_ns, recorded_of(f, first)); /* out, not settled */
    assert_ok(f, hark_settle(&d, NULL));
    assert_u64(consumer_stats(f, "c").oldest_ns, recorded_of(f, second));
    assert_ok(f, hark_next(sub, -1, &d));
    assert_ok(f, hark_settle(&d, NULL));
    publish(f, "other");
    assert_u64(consumer_stats(f, "c").oldest_ns, 0); /* what follows is not for it */
    assert_u64(consumer_stats(f, "c").lag, 0);
    end_sub(sub);
}

static hark_verdict retry_much_later(hark_delivery *d, void *ud)
{
    (void)ud;
    hark_delivery_retry_after(d, HOUR_MS);
    return HARK_RETRY;
}

static void test_an_event_that_retries_is_the_oldest_though_the_floor_is_past_it(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, "t", retry_much_later, NULL, OPTS(.workers = 2));
    uint64_t seq = publish_keyed(f, "t", "k");
    publish(f, "other");
    WAIT_UNTIL(consumer_stats(f, "c").floor >= seq);
    WAIT_UNTIL(consumer_stats(f, "c").oldest_ns != 0); /* its row is committed */
    hark_consumer_stats s = consumer_stats(f, "c");
    assert_u64(s.deferred, 1);
    assert_u64(s.lag, 0);
    assert_u64(s.oldest_ns, recorded_of(f, seq));
    end_sub(sub);
}

static void test_only_open_consumers_are_listed(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *live, *a, *b;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, NULL, &live, &f->ei));
    assert_u64(count_consumers(f), 0);
    a = subscribe(f, "t", record, r, HARK_OPTS(hark_sub_opts, .consumer = "a"));
    b = subscribe(f, "t", record, r, HARK_OPTS(hark_sub_opts, .consumer = "b"));
    assert_u64(count_consumers(f), 2);
    end_sub(a);
    assert_u64(count_consumers(f), 1);
    (void)consumer_stats(f, "b");
    end_sub(b);
    end_sub(live);
    recorder_free(r);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_fresh_bus_has_no_figures),
    TEST(test_what_is_published_is_counted),
    TEST(test_repeats_are_counted_apart),
    TEST(test_schedules_that_wait_are_counted),
    TEST(test_an_unknown_size_is_refused),
    TEST(test_a_type_has_its_count_bytes_and_times),
    TEST(test_a_list_ends_when_it_is_told_to),
    TEST(test_types_beyond_the_first_4096_are_counted_together),
    TEST(test_figures_begin_anew_with_the_bus),
    TEST(test_figures_are_read_beside_the_counting),
    TEST(test_a_consumer_has_its_counts_and_latencies),
    TEST(test_handler_time_is_the_handlers),
    TEST(test_the_oldest_event_that_is_not_settled_has_its_time),
    TEST(test_an_event_that_retries_is_the_oldest_though_the_floor_is_past_it),
    TEST(test_only_open_consumers_are_listed),
};
CONFORMANCE_MAIN("stats")
