/* Live replies: what clients are shown, where they go on after a break, and what is between them and
 * the program: middleware, filters, receipts. One store a run. */
#include "stream_kit.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

static live l;
static reader a, b;
static message m;

/* The data of an event, as it is. */
static hark_err data_only(hark_frame *f, const hark_event *e, void *ud)
{
    size_t len;
    const void *data = hark_event_data(e, &len);
    (void)ud;
    hark_err err =
        hark_frame_name(f, strcmp(hark_event_type(e), "order:named") == 0 ? "named" : NULL);
    return err ? err : hark_frame_data(f, data, len);
}

#define ALL(...) HARK_OPTS(hark_feed_opts, .pattern = "order:**", .encode = data_only, __VA_ARGS__)

static shown all, other;

static void start(const hark_bus_opts *bus_opts, const hark_feed_opts *feed_opts)
{
    live_new(&l, bus_opts, NULL);
    all = (shown){.feed = live_feed(&l, feed_opts)};
    live_route(&l, "/live", &all);
    live_start(&l);
}

static int end_all(void **state)
{
    (void)state;
    live_end(&l);
    return 0;
}

static void publish_numbers(size_t from, size_t to)
{
    char json[32];
    for (size_t i = from; i < to; i++) {
        snprintf(json, sizeof json, "%zu", i);
        live_publish(&l, "order:placed", json);
    }
}

static void expect_numbers(reader *r, size_t from, size_t to)
{
    char want[32];
    for (size_t i = from; i < to; i++) {
        snprintf(want, sizeof want, "%zu", i);
        EXPECT_NEXT(r, want);
    }
}

/* ---- what clients are shown ---- */

static void test_two_clients_are_shown_the_same_events_with_ids(void **state)
{
    (void)state;
    start(NULL, ALL(0));
    reader_open(&a, &l, "/live", NULL);
    reader_open(&b, &l, "/live", NULL);
    assert_int_equal(hark_feed_readers(all.feed), 2);
    live_publish(&l, "other:placed", "0");
    uint64_t seq = live_publish(&l, "order:placed", "{\"n\":\n1}");
    EXPECT_NEXT(&a, "{\"n\":\n1}");
    EXPECT_NEXT(&b, "{\"n\":\n1}");
    assert_int_equal(reader_seq(&a), seq);
    assert_string_equal(a.last_id, b.last_id);
    live_publish(&l, "order:named", "2");
    assert_true(reader_next(&a, &m));
    assert_string_equal(m.event, "named");
    reader_close(&a);
    reader_close(&b);
}

static void test_without_an_encoder_the_message_is_the_cloudevent(void **state)
{
    (void)state;
    start(NULL, HARK_OPTS(hark_feed_opts, .pattern = "order:**"));
    reader_open(&a, &l, "/live", NULL);
    live_publish(&l, "order:placed", "{\"n\":1}");
    assert_true(reader_next(&a, &m));
    EXPECT_PART(m.data, "\"type\":\"order:placed\"");
    EXPECT_PART(m.data, "\"data\":{\"n\":1}");
    reader_close(&a);
}

static hark_err odd_only(hark_frame *f, const hark_event *e, void *ud)
{
    size_t len;
    const char *data = hark_event_data(e, &len);
    (void)ud;
    int n = atoi(data);
    if (n % 4 == 0)
        return HARK_ESCHEMA;
    return n % 2 ? hark_frame_data(f, data, len) : HARK_OK;
}

static void test_events_without_data_or_with_an_error_are_left_out(void **state)
{
    (void)state;
    start(NULL, HARK_OPTS(hark_feed_opts, .pattern = "order:**", .encode = odd_only));
    reader_open(&a, &l, "/live", NULL);
    publish_numbers(0, 8);
    static const char *const odd[] = {"1", "3", "5", "7"};
    for (size_t i = 0; i < HK_COUNTOF(odd); i++)
        EXPECT_NEXT(&a, odd[i]);
    reader_close(&a);
    reader_open(&a, &l, "/live", NULL); /* an error is told once, and ends nothing */
    publish_numbers(8, 10);
    EXPECT_NEXT(&a, "9");
    reader_close(&a);
}

static void test_what_came_before_is_not_shown(void **state)
{
    (void)state;
    start(NULL, ALL(0));
    publish_numbers(0, 10);
    reader_open(&a, &l, "/live", NULL);
    publish_numbers(10, 12);
    expect_numbers(&a, 10, 12);
    reader_close(&a);
}

static void test_a_stream_may_begin_with_the_oldest_event(void **state)
{
    (void)state;
    live_new(&l, NULL, NULL);
    publish_numbers(0, 300);
    all = (shown){.feed = live_feed(&l, ALL(.keep = 8))};
    other = (shown){all.feed, {.after = "first"}};
    live_route(&l, "/first", &other);
    live_start(&l);
    reader_open(&a, &l, "/first", NULL);
    expect_numbers(&a, 0, 300);
    publish_numbers(300, 310);
    expect_numbers(&a, 300, 310);
    reader_close(&a);
}

/* ---- coming back ---- */

static void test_a_client_that_comes_back_goes_on_behind_its_last_event(void **state)
{
    (void)state;
    start(NULL, ALL(0));
    reader_open(&a, &l, "/live", NULL);
    publish_numbers(0, 5);
    expect_numbers(&a, 0, 3);
    reader_again(&a, &l, "/live");
    publish_numbers(5, 7);
    expect_numbers(&a, 3, 7);
    reader_close(&a);
}

static void test_a_client_without_headers_says_it_in_the_query(void **state)
{
    char target[128];
    (void)state;
    start(NULL, ALL(0));
    reader_open(&a, &l, "/live", NULL);
    publish_numbers(0, 5);
    expect_numbers(&a, 0, 3);
    snprintf(target, sizeof target, "/live?lastEventId=%s", a.last_id);
    reader_close(&a);
    reader_open(&a, &l, target, NULL);
    expect_numbers(&a, 3, 5);
    reader_close(&a);
}

static void test_a_client_that_left_before_any_event_misses_none(void **state)
{
    (void)state;
    start(NULL, ALL(0));
    publish_numbers(0, 3);
    reader_open(&a, &l, "/live", NULL);
    reader_close(&a);
    publish_numbers(3, 6);
    reader_again(&a, &l, "/live");
    expect_numbers(&a, 3, 6);
    reader_close(&a);
}

static void test_who_is_older_than_what_the_feed_keeps_reads_the_log(void **state)
{
    (void)state;
    start(NULL, ALL(.keep = 4));
    reader_open(&a, &l, "/live", NULL);
    publish_numbers(0, 1);
    expect_numbers(&a, 0, 1);
    reader_close(&a);
    publish_numbers(1, 1000);
    reader_again(&a, &l, "/live");
    expect_numbers(&a, 1, 1000);
    publish_numbers(1000, 1010);
    expect_numbers(&a, 1000, 1010);
    reader_close(&a);
}

static void *publish_all(void *arg)
{
    const size_t *n = arg;
    publish_numbers(0, *n);
    return NULL;
}

/* Every number comes once and in order, wherever the connection breaks. */
static void test_nothing_is_lost_or_repeated_while_a_client_keeps_coming_back(void **state)
{
    size_t n = strcmp(kit_store, "memory") == 0 ? 6000 : 2000;
    unsigned dice = 7;
    pthread_t publisher;
    (void)state;
    start(NULL, ALL(.keep = 16));
    reader_open(&a, &l, "/live", NULL);
    assert_int_equal(pthread_create(&publisher, NULL, publish_all, &n), 0);
    for (size_t i = 0; i < n; i++) {
        expect_numbers(&a, i, i + 1);
        dice = dice * 1103515245 + 12345;
        if ((dice >> 16) % 20 == 0)
            reader_again(&a, &l, "/live");
    }
    pthread_join(publisher, NULL);
    reader_close(&a);
}

static hk_gate feed_may_go_on;
static hk_mark held;

/* The feed's own thread waits before its first event; the one that reads the log does not. */
static hark_err held_data(hark_frame *f, const hark_event *e, void *ud)
{
    char thread[16] = "";
    unsigned shut = hk_gate_look(&feed_may_go_on);
    (void)pthread_getname_np(pthread_self(), thread, sizeof thread);
    if (strcmp(thread, "hark-catchup") != 0 && hk_mark_swap(&held, 1) == 0)
        (void)hk_gate_wait(&feed_may_go_on, shut, -1);
    return data_only(f, e, ud);
}

/* The log is ahead of the feed: what a client has read there is not shown again. */
static void test_what_was_read_from_the_log_is_not_repeated_by_the_feed(void **state)
{
    (void)state;
    hk_gate_init(&feed_may_go_on);
    hk_mark_set(&held, 0);
    live_new(&l, NULL, NULL);
    publish_numbers(0, 1); /* which the client has to read from the log */
    all = (shown){
        live_feed(&l, HARK_OPTS(hark_feed_opts, .pattern = "order:**", .encode = held_data)),
        {.after = "first"}};
    live_route(&l, "/first", &all);
    live_start(&l);
    publish_numbers(1, 100);
    reader_open(&a, &l, "/first", NULL);
    expect_numbers(&a, 0, 100);
    WAIT_UNTIL(hk_mark_get(&held));
    hk_gate_open(&feed_may_go_on);
    publish_numbers(100, 102);
    expect_numbers(&a, 100, 102);
    reader_close(&a);
}

static void test_what_the_log_no_longer_has_is_told_as_a_gap(void **state)
{
    char want[128];
    hark_errinfo ei = {0};
    bool memory = strcmp(kit_store, "memory") == 0;
    (void)state;
    start(HARK_OPTS(hark_bus_opts, .tail_events = 64), ALL(.keep = 4));
    reader_open(&a, &l, "/live", NULL);
    publish_numbers(0, 1);
    expect_numbers(&a, 0, 1);
    reader_close(&a);
    reader_open(&b, &l, "/live", NULL);
    for (size_t i = 1; i < 100; i++) { /* the feed keeps up */
        publish_numbers(i, i + 1);
        expect_numbers(&b, i, i + 1);
    }
    reader_close(&b);
    if (!memory &&
        (hark_retain(l.bus, HARK_OPTS(hark_retention, .pattern = "order:**", .max_events = 10),
                     &ei) ||
         hark_retain_now(l.bus, NULL, &ei)))
        fail_msg("%s", ei.text);
    uint64_t seen = reader_seq(&a);
    reader_again(&a, &l, "/live");
    assert_true(reader_next(&a, &m));
    assert_string_equal(m.event, "gap");
    size_t left = memory ? 64 : 10;
    snprintf(want, sizeof want, "{\"from\":%llu,\"to\":%llu,\"reason\":\"retention\"}",
             (unsigned long long)seen + 1, (unsigned long long)(seen + 99 - left));
    assert_string_equal(m.data, want);
    expect_numbers(&a, 100 - left, 100);
    reader_close(&a);
}

static void test_a_cursor_of_another_log_is_told_and_goes_on_from_now(void **state)
{
    (void)state;
    start(NULL, ALL(0));
    publish_numbers(0, 3);
    static const char *const others[] = {"Last-Event-ID: 00000000.1-2\r\n", NULL};
    for (size_t i = 0; i < 2; i++) {
        char line[128];
        if (!others[i]) /* of this log, but it has not got so far */
            snprintf(line, sizeof line, "Last-Event-ID: %s99\r\n", a.last_id);
        reader_open(&a, &l, "/live", others[i] ? others[i] : line);
        assert_string_not_equal(a.last_id, "");
        live_publish(&l, "order:placed", "9");
        EXPECT_NEXT(&a, "9");
        reader_close(&a);
    }
}

static void test_a_cursor_that_cannot_be_read_is_refused(void **state)
{
    reply r;
    (void)state;
    start(NULL, ALL(0));
    client_do(l.port, "GET", "/live", "Last-Event-ID: x\r\n", NULL, &r);
    EXPECT_STATUS(&r, 400);
    EXPECT_PART(r.body, "Last-Event-ID");
}

/* ---- filters ---- */

static bool is_even(const hark_event *e, void *ud)
{
    size_t len;
    (void)ud;
    return atoi(hark_event_data(e, &len)) % 2 == 0;
}

static hk_count freed;

static void count_free(void *ud)
{
    (void)ud;
    (void)hk_count_add(&freed, 1);
}

static void test_patterns_and_filters_leave_out_but_move_the_place_on(void **state)
{
    (void)state;
    live_new(&l, NULL, NULL);
    all = (shown){.feed = live_feed(&l, ALL(.keep = 8))};
    other = (shown){all.feed,
                    {.pattern = "order:placed|order:paid",
                     .filter = is_even,
                     .free_ud = count_free,
                     .heartbeat_ms = 20}};
    live_route(&l, "/even", &other);
    live_start(&l);
    uint64_t before = hk_count_get(&freed);
    reader_open(&a, &l, "/even", NULL);
    publish_numbers(0, 3);
    EXPECT_NEXT(&a, "0");
    EXPECT_NEXT(&a, "2");
    live_publish(&l, "order:gone", "4");
    uint64_t last = live_publish(&l, "order:placed", "5");
    while (reader_seq(&a) < last) { /* a checkpoint: an id without data */
        assert_true(reader_block(&a, &m));
        assert_false(m.has_data);
    }
    reader_again(&a, &l, "/even");
    live_publish(&l, "order:paid", "6");
    EXPECT_NEXT(&a, "6");
    reader_close(&a);
    WAIT_UNTIL(hk_count_get(&freed) == before + 2);
}

static void test_an_idle_client_gets_comments(void **state)
{
    (void)state;
    live_new(&l, NULL, NULL);
    all = (shown){.feed = live_feed(&l, ALL(0))};
    other = (shown){all.feed, {.heartbeat_ms = 20}};
    live_route(&l, "/beat", &other);
    live_start(&l);
    reader_open(&a, &l, "/beat", NULL);
    for (int i = 0; i < 3; i++) {
        assert_true(reader_block(&a, &m));
        assert_true(m.comment);
    }
    publish_numbers(0, 1);
    expect_numbers(&a, 0, 1);
    assert_true(reader_block(&a, &m)); /* no id: it has that */
    assert_true(m.comment);
    reader_close(&a);
}

/* ---- feeds of the program ---- */

static void test_messages_of_the_program_and_the_newest_that_are_kept(void **state)
{
    char text[8];
    (void)state;
    live_new(&l, NULL, NULL);
    all = (shown){.feed = live_feed(&l, HARK_OPTS(hark_feed_opts, .keep = 4))};
    other = (shown){all.feed, {.last = 1}};
    live_route(&l, "/live", &all);
    live_route(&l, "/newest", &other);
    live_start(&l);
    for (int i = 0; i < 10; i++) {
        int n = snprintf(text, sizeof text, "%d", i);
        assert_int_equal(hark_feed_send(all.feed, NULL, text, (size_t)n), HARK_OK);
    }
    reader_open(&a, &l, "/newest", NULL);
    reader_open(&b, &l, "/live", NULL);
    EXPECT_NEXT(&a, "9");
    assert_int_equal(hark_feed_send(all.feed, "stock", "x\r\ny", 4), HARK_OK);
    assert_int_equal(hark_feed_send(all.feed, "a\nid: 5", "x", 1), HARK_EINVAL);
    EXPECT_NEXT(&a, "x\ny");
    assert_true(reader_next(&b, &m));
    assert_string_equal(m.event, "stock");
    assert_string_equal(m.id, "");
    reader_close(&a);
    reader_close(&b);
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_teardown(name, end_all)
    const struct CMUnitTest tests[] = {
        T(test_two_clients_are_shown_the_same_events_with_ids),
        T(test_without_an_encoder_the_message_is_the_cloudevent),
        T(test_events_without_data_or_with_an_error_are_left_out),
        T(test_what_came_before_is_not_shown),
        T(test_a_stream_may_begin_with_the_oldest_event),
        T(test_a_client_that_comes_back_goes_on_behind_its_last_event),
        T(test_a_client_without_headers_says_it_in_the_query),
        T(test_a_client_that_left_before_any_event_misses_none),
        T(test_who_is_older_than_what_the_feed_keeps_reads_the_log),
        T(test_nothing_is_lost_or_repeated_while_a_client_keeps_coming_back),
        T(test_what_was_read_from_the_log_is_not_repeated_by_the_feed),
        T(test_what_the_log_no_longer_has_is_told_as_a_gap),
        T(test_a_cursor_of_another_log_is_told_and_goes_on_from_now),
        T(test_a_cursor_that_cannot_be_read_is_refused),
        T(test_patterns_and_filters_leave_out_but_move_the_place_on),
        T(test_an_idle_client_gets_comments),
        T(test_messages_of_the_program_and_the_newest_that_are_kept),
    };
    if (argc > 1)
        kit_store = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
