/* Live replies in trouble: the app's end on odd threads, no memory, events that cannot be shown, what
 * is lost between log and feed. One store a run. */
#include "stream_kit.h"

#include <hark/versions.h>

#include <pthread.h>
#include <unistd.h>

static live l;
static reader a;
static message m;
static shown all, first;

static int end_all(void **state)
{
    (void)state;
    live_end(&l);
    return 0;
}

static bool reads_log(void)
{
    char name[16] = "";
    (void)pthread_getname_np(pthread_self(), name, sizeof name);
    return strcmp(name, "hark-catchup") == 0;
}

static hk_count encoded_from_log;

static hark_err data_only(hark_frame *f, const hark_event *e, void *ud)
{
    size_t len;
    const void *data = hark_event_data(e, &len);
    (void)ud;
    (void)hk_count_add(&encoded_from_log, reads_log());
    return hark_frame_data(f, data, len < 100 ? len : 100);
}

static void make_feed(hark_feed_fn encode, size_t keep_bytes)
{
    all = (shown){.feed = live_feed(&l, HARK_OPTS(hark_feed_opts, .pattern = "order:**",
                                                  .encode = encode, .keep_bytes = keep_bytes))};
    first = (shown){all.feed, {.after = "first"}};
    live_route(&l, "/live", &all);
    live_route(&l, "/first", &first);
}

static void begin(hark_feed_fn encode)
{
    live_new(&l, NULL, NULL);
    make_feed(encode, 0);
    live_start(&l);
}

static void publish_numbers(const char *type, size_t from, size_t to)
{
    char json[32];
    for (size_t i = from; i < to; i++) {
        snprintf(json, sizeof json, "%zu", i);
        live_publish(&l, type, json);
    }
}

static void expect_numbers(size_t from, size_t to)
{
    char want[32];
    for (size_t i = from; i < to; i++) {
        snprintf(want, sizeof want, "%zu", i);
        EXPECT_NEXT(&a, want);
    }
}

/* Asks for a stream behind a sequence. */
static void open_behind(reader *r, uint64_t seq)
{
    char cursor[HARK_CURSOR_TEXT], line[HARK_CURSOR_TEXT + 32];
    hark_cursor_format(l.bus, seq, cursor);
    snprintf(line, sizeof line, "Last-Event-ID: %s\r\n", cursor);
    reader_open(r, &l, "/live", line);
}

/* ---- the app's end ---- */

static hk_gate may_go_on;
static hk_mark inside, encoded, stopped;

static hark_err slow(hark_frame *f, const hark_event *e, void *ud)
{
    (void)e, (void)ud;
    hk_mark_set(&inside, 1);
    (void)hk_gate_wait(&may_go_on, 0, -1);
    hk_mark_set(&encoded, 1);
    return hark_frame_data(f, "x", 1);
}

typedef struct end {
    hark_err err;
    bool waited; /* for the encoder */
} end;

static hark_verdict stop_app(hark_delivery *d, void *ud)
{
    end *x = ud;
    hark_errinfo ei = {0};
    (void)d;
    x->err = hark_app_stop(l.app, &ei);
    x->waited = hk_mark_get(&encoded);
    hk_mark_set(&stopped, 1);
    return HARK_ACK;
}

static void test_a_handler_of_the_bus_may_stop_the_app_and_waits_for_its_encoders(void **state)
{
    hark_sub *s;
    hark_errinfo ei = {0};
    end x = {.err = HARK_EINTERNAL};
    (void)state;
    hk_gate_init(&may_go_on);
    hk_mark_set(&inside, 0);
    hk_mark_set(&encoded, 0);
    hk_mark_set(&stopped, 0);
    begin(slow);
    assert_int_equal(hark_subscribe(l.bus, "quit:now", stop_app, &x, NULL, &s, &ei), HARK_OK);
    reader_open(&a, &l, "/live", NULL);
    publish_numbers("order:placed", 0, 1);
    WAIT_UNTIL(hk_mark_get(&inside));
    publish_numbers("quit:now", 0, 1);
    assert_false(reader_next(&a, &m)); /* the loops are at their end */
    assert_false(hk_mark_get(&stopped));
    hk_gate_open(&may_go_on);
    WAIT_UNTIL(hk_mark_get(&stopped));
    assert_int_equal(x.err, HARK_OK);
    assert_true(x.waited);
    reader_close(&a);
    hark_sub_unref(s);
}

static hk_mark refused[2]; /* on the subscription's thread, on the one that reads the log */

static hark_err stopper(hark_frame *f, const hark_event *e, void *ud)
{
    hark_errinfo ei = {0};
    hk_mark_set(&refused[reads_log()], (uint64_t)hark_app_stop(l.app, &ei));
    return data_only(f, e, ud);
}

static void test_an_encoder_that_stops_its_app_is_refused_and_nothing_is_stopped(void **state)
{
    (void)state;
    live_new(&l, NULL, NULL);
    publish_numbers("order:placed", 0, 1);
    make_feed(stopper, 0);
    live_start(&l);
    reader_open(&a, &l, "/first", NULL);
    expect_numbers(0, 1);
    publish_numbers("order:placed", 1, 2);
    expect_numbers(1, 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(hk_mark_get(&refused[i]), (uint64_t)HARK_EWRONGTHREAD);
    reader_close(&a);
}

static hark_ctx *taken[2];
static hk_count n_taken, freed;

static hark_err hold(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_defer(c);
    taken[hk_count_get(&n_taken)] = c;
    (void)hk_count_add(&n_taken, 1);
    return err;
}

static void resume_other(void *ud)
{
    (void)ud;
    (void)hk_count_add(&freed, 1);
    hark_ctx_resume(taken[1], HARK_OK);
}

static void test_a_stream_given_back_after_the_end_is_freed_without_a_lock(void **state)
{
    hark_errinfo ei = {0};
    int fds[2];
    (void)state;
    live_new(&l, NULL, HARK_OPTS(hark_app_opts, .loops = 1, .drain_ms = 50));
    make_feed(NULL, 0);
    hark_get(l.app, "/hold", hold, NULL);
    live_start(&l);
    uint64_t before = hk_count_get(&freed);
    hk_count_set(&n_taken, 0);
    for (size_t i = 0; i < 2; i++) {
        fds[i] = client_open(l.port);
        client_sends(fds[i], "GET /hold HTTP/1.1\r\nHost: t\r\n\r\n");
        WAIT_UNTIL(hk_count_get(&n_taken) == i + 1);
    }
    assert_int_equal(hark_app_stop(l.app, &ei), HARK_ETIMEDOUT);
    assert_int_equal(
        hark_ctx_stream(taken[0], all.feed, HARK_OPTS(hark_stream_opts, .free_ud = resume_other)),
        HARK_OK);
    hark_ctx_resume(taken[0], HARK_OK);
    assert_int_equal(hk_count_get(&freed), before + 1);
    close(fds[0]);
    close(fds[1]);
}

/* ---- no memory ---- */

static hk_mark fails[2]; /* as `refused`: how often more */

static hark_err out_of_memory(hark_frame *f, const hark_event *e, void *ud)
{
    hk_mark *left = &fails[reads_log()];
    size_t len;
    if (atoi(hark_event_data(e, &len)) == 5 && hk_mark_get(left)) {
        (void)hk_mark_add(left, -1);
        return HARK_ENOMEM;
    }
    return data_only(f, e, ud);
}

static void test_an_event_without_memory_comes_from_the_log(void **state)
{
    (void)state;
    begin(out_of_memory);
    hk_mark_set(&fails[0], 1);
    hk_mark_set(&fails[1], 0);
    reader_open(&a, &l, "/live", NULL);
    publish_numbers("order:placed", 0, 10);
    expect_numbers(0, 10);
    assert_int_equal(hk_mark_get(&fails[0]), 0);
    reader_close(&a);
}

static void test_without_memory_there_either_the_client_comes_back_for_it(void **state)
{
    (void)state;
    begin(out_of_memory);
    hk_mark_set(&fails[0], 1);
    hk_mark_set(&fails[1], 1);
    reader_open(&a, &l, "/live", NULL);
    publish_numbers("order:placed", 0, 5);
    expect_numbers(0, 5);
    publish_numbers("order:placed", 5, 10);
    assert_false(reader_next(&a, &m));
    reader_again(&a, &l, "/live");
    expect_numbers(5, 10);
    reader_close(&a);
}

static void test_keep_bytes_bounds_the_events_too(void **state)
{
    static char json[60 * 1024];
    (void)state;
    live_new(&l, NULL, NULL);
    make_feed(data_only, 64 * 1024);
    live_start(&l);
    snprintf(json, sizeof json, "\"%0*d\"", (int)sizeof json - 16, 0);
    reader_open(&a, &l, "/live", NULL);
    uint64_t seq = live_publish(&l, "order:placed", json);
    live_publish(&l, "order:placed", json);
    live_publish(&l, "order:placed", json);
    for (int i = 0; i < 3; i++)
        assert_true(reader_next(&a, &m));
    reader_close(&a);
    uint64_t before = hk_count_get(&encoded_from_log);
    open_behind(&a, seq);
    for (int i = 0; i < 2; i++)
        assert_true(reader_next(&a, &m));
    assert_true(hk_count_get(&encoded_from_log) > before);
    reader_close(&a);
}

/* ---- between the log and the feed ---- */

/* The linker puts this in the place of hark_bus_info_get. Once, it returns only when events have come
 * that it does not tell of. */
hark_err __real_hark_bus_info_get(hark_bus *bus, hark_bus_info *ret);
hark_err __wrap_hark_bus_info_get(hark_bus *bus, hark_bus_info *ret);

static hk_mark armed, asked;

hark_err __wrap_hark_bus_info_get(hark_bus *bus, hark_bus_info *ret)
{
    hark_err err = __real_hark_bus_info_get(bus, ret);
    if (hk_mark_swap(&armed, 0) == 0)
        return err;
    hk_mark_set(&asked, 1);
    (void)hk_gate_wait(&may_go_on, 0, -1);
    return err;
}

static hk_count shown_live;

static hark_err count_live(hark_frame *f, const hark_event *e, void *ud)
{
    (void)hk_count_add(&shown_live, !reads_log());
    return data_only(f, e, ud);
}

/* When the second one is encoded, the feed has the first one. */
static void *publish_meanwhile(void *arg)
{
    (void)arg;
    WAIT_UNTIL(hk_mark_get(&asked));
    uint64_t before = hk_count_get(&shown_live);
    publish_numbers("order:placed", 0, 2);
    WAIT_UNTIL(hk_count_get(&shown_live) == before + 2);
    hk_gate_open(&may_go_on);
    return NULL;
}

static void test_nothing_is_missed_between_the_first_id_and_the_first_event(void **state)
{
    pthread_t publisher;
    (void)state;
    begin(count_live);
    hk_gate_init(&may_go_on);
    hk_mark_set(&asked, 0);
    hk_mark_set(&armed, 1);
    assert_int_equal(pthread_create(&publisher, NULL, publish_meanwhile, NULL), 0);
    reader_open(&a, &l, "/live", NULL);
    assert_int_equal(reader_seq(&a), 0);
    pthread_join(publisher, NULL);
    expect_numbers(0, 2);
    reader_close(&a);
}

static void test_who_has_missed_nothing_while_there_was_no_feed_does_not_read_the_log(void **state)
{
    enum { CLIENTS = 20 };
    static reader r[CLIENTS];
    (void)state;
    live_new(&l, NULL, NULL);
    uint64_t seq = live_publish(&l, "order:placed", "0");
    publish_numbers("other:placed", 0, 10);
    make_feed(data_only, 0); /* as after a restart */
    live_start(&l);
    publish_numbers("other:placed", 0, 10);
    uint64_t before = hk_count_get(&encoded_from_log);
    for (size_t i = 0; i < CLIENTS; i++)
        open_behind(&r[i], seq);
    live_publish(&l, "order:placed", "1");
    for (size_t i = 0; i < CLIENTS; i++) {
        EXPECT_NEXT(&r[i], "1");
        reader_close(&r[i]);
    }
    assert_int_equal(hk_count_get(&encoded_from_log), before);
}

static void test_a_quiet_client_is_told_of_no_gap_in_what_is_not_for_it(void **state)
{
    (void)state;
    live_new(&l, HARK_OPTS(hark_bus_opts, .tail_events = 64), NULL);
    make_feed(data_only, 0);
    live_start(&l);
    reader_open(&a, &l, "/live", NULL);
    reader_close(&a);
    publish_numbers("other:placed", 0, 200);
    reader_again(&a, &l, "/live");
    publish_numbers("order:placed", 0, 1);
    expect_numbers(0, 1);
    reader_close(&a);
}

static hark_err cannot(const hark_event *e, hark_upcast *out, void *ud)
{
    (void)e, (void)ud;
    return hark_upcast_fail(out, HARK_ESCHEMA, "it cannot be read");
}

/* The oldest event that is left cannot be shown; what is gone before it is told all the same. */
static void test_an_event_that_is_passed_over_hides_no_gap(void **state)
{
    enum { KEPT = 10 };
    char want[96];
    hark_errinfo ei = {0};
    bool memory = strcmp(kit_store, "memory") == 0;
    const size_t left = memory ? 64 : KEPT;
    (void)state;
    live_new(&l, HARK_OPTS(hark_bus_opts, .tail_events = 64), NULL);
    const hark_upcaster up = {
        .size = sizeof up, .type = "order:odd", .from = 1, .to = 2, .fn = cannot};
    assert_int_equal(hark_upcaster_add(l.bus, &up, &ei), HARK_OK);
    uint64_t seq = live_publish(&l, "order:placed", "0");
    publish_numbers("order:placed", 1, 100);
    uint64_t odd = live_publish(&l, "order:odd", "0");
    publish_numbers("order:placed", 0, left - 1);
    if (!memory &&
        (hark_retain(l.bus, HARK_OPTS(hark_retention, .pattern = "order:**", .max_events = KEPT),
                     &ei) ||
         hark_retain_now(l.bus, NULL, &ei)))
        fail_msg("%s", ei.text);
    make_feed(data_only, 0);
    live_start(&l);
    open_behind(&a, seq);
    assert_true(reader_next(&a, &m));
    assert_string_equal(m.event, "gap");
    snprintf(want, sizeof want, "{\"from\":%llu,\"to\":%llu,\"reason\":\"retention\"}",
             (unsigned long long)seq + 1, (unsigned long long)odd - 1);
    assert_string_equal(m.data, want);
    expect_numbers(0, left - 1);
    reader_close(&a);
}

/* ---- what is refused ---- */

static hark_err show_then_status(hark_ctx *c, void *ud)
{
    hark_err err = show(c, ud);
    (void)hark_ctx_set_status(c, 202);
    return err;
}

static void test_a_streams_status_and_short_times_are_refused(void **state)
{
    static const hark_stream_opts odd[] = {
        {.heartbeat_ms = 9}, {.stall_ms = 9}, {.stall_ms = -1}, {.retry_ms = INT32_MAX}};
    static shown cases[HK_COUNTOF(odd)];
    char path[16];
    reply r;
    (void)state;
    live_new(&l, NULL, NULL);
    make_feed(data_only, 0);
    hark_get(l.app, "/status", show_then_status, &all);
    for (size_t i = 0; i < HK_COUNTOF(odd); i++) {
        cases[i] = (shown){all.feed, odd[i]};
        snprintf(path, sizeof path, "/%zu", i);
        live_route(&l, path, &cases[i]);
    }
    live_start(&l);
    client_do(l.port, "GET", "/status", NULL, NULL, &r);
    EXPECT_STATUS(&r, 500);
    for (size_t i = 0; i < HK_COUNTOF(odd); i++) {
        snprintf(path, sizeof path, "/%zu", i);
        client_do(l.port, "GET", path, NULL, NULL, &r);
        EXPECT_STATUS(&r, 500);
    }
}

int main(int argc, char **argv)
{
#define T(name) cmocka_unit_test_teardown(name, end_all)
    const struct CMUnitTest tests[] = {
        T(test_a_handler_of_the_bus_may_stop_the_app_and_waits_for_its_encoders),
        T(test_an_encoder_that_stops_its_app_is_refused_and_nothing_is_stopped),
        T(test_a_stream_given_back_after_the_end_is_freed_without_a_lock),
        T(test_an_event_without_memory_comes_from_the_log),
        T(test_without_memory_there_either_the_client_comes_back_for_it),
        T(test_keep_bytes_bounds_the_events_too),
        T(test_nothing_is_missed_between_the_first_id_and_the_first_event),
        T(test_who_has_missed_nothing_while_there_was_no_feed_does_not_read_the_log),
        T(test_a_quiet_client_is_told_of_no_gap_in_what_is_not_for_it),
        T(test_an_event_that_is_passed_over_hides_no_gap),
        T(test_a_streams_status_and_short_times_are_refused),
    };
    if (argc > 1)
        kit_store = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
