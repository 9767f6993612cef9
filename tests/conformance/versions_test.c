/* Event versions: upcasters on every way by which events are handed out, and which may be added. What
 * becomes of events that they fail at is in upcast_failure_test.c, of newer ones in newer_test.c. */
#include "grown.h"

#include "player.h"

static void test_a_consumer_sees_the_newest_version_and_the_log_keeps_the_first(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new();
    char text[64];
    grow_to_3(f, g);
    uint64_t seq = put(f, 1, "k", "x");
    put(f, 2, "k", "y");
    put(f, 3, "k", "z");
    hark_sub *s = consume(f, v, CONSUMER(.workers = 1));
    assert_seen(v, 0, "k 1 v3 x>2>3");
    assert_seen(v, 1, "k 1 v3 y>3");
    assert_seen(v, 2, "k 1 v3 z");
    WAIT_UNTIL(stats_of(s).acked == 3);
    assert_u64(stats_of(s).delivered, 3);
    assert_string_equal(read_as(f, seq, HARK_VERSION_STORED, text), "v1 x");
    end_sub(s);
    view_free(v);
    close_bus(f);
    assert_int_equal(atomic_load(&g[0].freed), 1);
    assert_int_equal(atomic_load(&g[1].freed), 1);
}

static void test_a_subscription_may_ask_for_a_version(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *stored = view_new(), *second = view_new();
    hark_sub *s, *t;
    grow_to_3(f, g);
    assert_ok(f, hark_subscribe(
                     f->bus, "o", look_at, stored,
                     HARK_OPTS(hark_sub_opts, .consumer = "c", .dataversion = HARK_VERSION_STORED),
                     &s, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "o", look_at, second,
                                HARK_OPTS(hark_sub_opts, .consumer = "d", .dataversion = 2), &t,
                                &f->ei));
    put(f, 1, "k", "x");
    assert_seen(stored, 0, "k 1 v1 x");
    assert_seen(second, 0, "k 1 v2 x>2");
    end_sub(s);
    end_sub(t);
    view_free(stored);
    view_free(second);
}

static void test_a_live_subscription_sees_the_newest_version(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new();
    hark_sub *s, *pull;
    hark_delivery *d;
    grow_to_3(f, g);
    assert_ok(f, hark_subscribe(f->bus, "o", look_at, v, NULL, &s, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "o", NULL, NULL, HARK_OPTS(hark_sub_opts, .dataversion = 2),
                                &pull, &f->ei));
    put(f, 1, NULL, "x");
    assert_seen(v, 0, "- 1 v3 x>2>3");
    assert_ok(f, hark_next(pull, HUNG_MS, &d));
    assert_int_equal(hark_event_dataversion(hark_delivery_event(d)), 2);
    assert_ok(f, hark_settle(&d, NULL));
    end_sub(s);
    end_sub(pull);
    view_free(v);
}

static void test_a_pulled_delivery_has_the_newest_version(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    hark_delivery *d;
    size_t len;
    grow_to_3(f, g);
    hark_sub *s = consume(f, NULL, CONSUMER(.workers = 1));
    put(f, 1, "k", "x");
    assert_ok(f, hark_next(s, HUNG_MS, &d));
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    assert_string_equal(data, "x>2>3");
    assert_u64(len, 5);
    assert_ok(f, hark_settle(&d, NULL));
    assert_err(f, HARK_ETIMEDOUT, hark_next(s, 0, &d));
    end_sub(s);
}

static void test_a_reader_gets_the_version_that_it_asks_for(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    char text[64];
    uint64_t seq = put(f, 1, "k", "x"), newer = put(f, 7, "k", "y");
    assert_string_equal(read_as(f, seq, HARK_VERSION_NEWEST, text), "v1 x");
    grow_to_3(f, g);
    assert_string_equal(read_as(f, seq, HARK_VERSION_NEWEST, text), "v3 x>2>3");
    assert_string_equal(read_as(f, seq, 2, text), "v2 x>2");
    assert_string_equal(read_as(f, seq, HARK_VERSION_STORED, text), "v1 x");
    assert_string_equal(read_as(f, newer, HARK_VERSION_NEWEST, text), "v7 y");
}

static void test_reading_what_cannot_be_brought_to_a_version_names_the_sequence(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    hark_page *page = NULL;
    char says[64];
    put(f, 2, "k", "fine");
    (void)snprintf(says, sizeof says,
                   "sequence %llu: o version 1: ", (unsigned long long)put(f, 1, "k", "x"));
    grow_to_3(f, g);
    atomic_store(&g[0].sick, 1);
    assert_err(f, HARK_EUPCAST, hark_read(f->bus, NULL, &page, &f->ei));
    assert_says(f, says);
    assert_says(f, "the upcaster from 1 to 2 failed: cannot read x");
    assert_err(f, HARK_EUPCAST,
               hark_read(f->bus, HARK_OPTS(hark_read_opts, .dataversion = 9), &page, &f->ei));
    assert_says(f, "no upcaster leads from version 2 to version 9; add one from 3 to 9");
    assert_null(page);
}

static hark_verdict look_twice(hark_delivery *d, void *ud)
{
    view *v = ud;
    view_note(v, d);
    return atomic_load(&v->n) % 2 ? HARK_RETRY : HARK_ACK;
}

static void test_a_replay_hands_out_the_version_that_it_is_asked_for(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new();
    grow_to_3(f, g);
    put(f, 1, "k", "x");
    assert_ok(f, hark_replay(f->bus, look_twice, v, REPLAY(.id = "r"), NULL, &f->ei));
    assert_u64(ended(f, "r", HARK_REPLAYED).done, 1);
    assert_seen(v, 0, "k 1 v3 x>2>3");
    assert_seen(v, 1, "k 2 v3 x>2>3");
    assert_ok(f, hark_replay(f->bus, look_at, v,
                             REPLAY(.id = "s", .dataversion = HARK_VERSION_STORED), NULL, &f->ei));
    (void)ended(f, "s", HARK_REPLAYED);
    assert_seen(v, 2, "k 1 v1 x");
    view_free(v);
}

static void test_what_a_replay_cannot_bring_to_a_version_counts_as_rejected(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new();
    grow_to_3(f, g);
    put(f, 1, "k", "x");
    put(f, 2, "k", "y");
    put(f, 5, "k", "z");
    atomic_store(&g[0].sick, 1);
    assert_ok(f, hark_replay(f->bus, look_at, v, REPLAY(.id = "r"), NULL, &f->ei));
    hark_replay_info info = ended(f, "r", HARK_REPLAYED);
    assert_u64(info.done, 3);
    assert_u64(info.rejected, 1);
    assert_seen(v, 0, "k 1 v3 y>3");
    assert_seen(v, 1, "k 1 v5 z");
    view_free(v);
}

/* ---- the event around the data ----------------------------------------------------------------- */

static hark_verdict compare(hark_delivery *d, void *ud)
{
    const hark_event *e = hark_delivery_event(d);
    char text[HARK_TIME_TEXT];
    hark_ext x;
    MUST(strcmp(hark_event_id(e), "i-1") == 0 && strcmp(hark_event_source(e), "/src") == 0);
    MUST(strcmp(hark_event_subject(e), "subj") == 0 && strcmp(hark_event_key(e), "k") == 0);
    MUST(strcmp(hark_event_time_text(e, text), "2026-01-31T12:00:00.50+01:00") == 0);
    MUST(strcmp(hark_event_datacontenttype(e), "text/plain") == 0);
    MUST(strcmp(hark_event_dataschema(e), "urn:s") == 0);
    MUST(strcmp(hark_event_correlationid(e), "cor") == 0);
    MUST(strcmp(hark_event_causationid(e), "cau") == 0);
    MUST(hark_event_extensions(e) == 1 && hark_event_extension(e, 0, &x));
    MUST(strcmp(x.name, "count") == 0 && strcmp(x.value, "7") == 0 && x.kind == HARK_EXT_INTEGER);
    MUST(hark_event_sequence(e) == hark_delivery_sequence(d) && hark_event_recorded_ns(e) > 0);
    MUST(hark_event_recorded_ns(e) == hark_delivery_recorded_ns(d));
    view_note(ud, d);
    return HARK_ACK;
}

static void test_only_the_data_changes(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new();
    hark_sub *s;
    const hark_ext ext = {.name = "count", .value = "7", .kind = HARK_EXT_INTEGER};
    grow_to_3(f, g);
    assert_ok(f, hark_subscribe(f->bus, "o", compare, v, CONSUMER(.workers = 1), &s, &f->ei));
    assert_ok(f,
              hark_publish_ei(f->bus,
                              HARK_OPTS(hark_event_spec, .type = "o", .id = "i-1", .source = "/src",
                                        .subject = "subj", .key = "k",
                                        .time = "2026-01-31T12:00:00.50+01:00",
                                        .datacontenttype = "text/plain", .dataschema = "urn:s",
                                        .correlationid = "cor", .causationid = "cau", .data = "x",
                                        .data_len = 1, .extensions = &ext, .n_extensions = 1),
                              NULL, &f->ei));
    assert_seen(v, 0, "k 1 v3 x>2>3");
    end_sub(s);
    view_free(v);
}

static hark_err nothing(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)event, (void)out, (void)ud;
    return HARK_OK;
}

static hark_err large(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)event;
    char *data = malloc(20000);
    memset(data, 'a', 20000);
    hark_err err = hark_upcast_data(out, data, *(size_t *)ud);
    free(data);
    return err;
}

static void test_an_upcaster_may_keep_the_bytes_and_make_large_ones(void **state)
{
    fixture *f = *state;
    size_t size = 20000, len;
    hark_page *page;
    assert_ok(f,
              hark_upcaster_add(
                  f->bus, HARK_OPTS(hark_upcaster, .type = "o", .from = 1, .to = 2, .fn = nothing),
                  &f->ei));
    assert_ok(f, hark_upcaster_add(f->bus,
                                   HARK_OPTS(hark_upcaster, .type = "o", .from = 2, .to = 3,
                                             .fn = large, .ud = &size),
                                   &f->ei));
    put(f, 1, "k", "x");
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .dataversion = 2), &page, &f->ei));
    assert_string_equal(hark_event_data(hark_page_event(page, 0), &len), "x");
    hark_page_free(page);
    assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
    (void)hark_event_data(hark_page_event(page, 0), &len);
    assert_u64(len, 20000);
    hark_page_free(page);
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .max_event_bytes = 10000));
    assert_ok(f, hark_upcaster_add(f->bus,
                                   HARK_OPTS(hark_upcaster, .type = "o", .from = 1, .to = 2,
                                             .fn = large, .ud = &size),
                                   &f->ei));
    put(f, 1, "k", "y");
    assert_err(f, HARK_EUPCAST, hark_read(f->bus, NULL, &page, &f->ei));
    assert_says(f, "max_event_bytes is 10000");
}

/* ---- adding ------------------------------------------------------------------------------------ */

static void test_a_chain_takes_no_gap_no_cycle_and_no_second_step(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew(), *other = &g[2];
    grow_to_3(f, g);
    assert_err(f, HARK_EGAP, grower_add(f, other, 4, 5));
    assert_says(f, "add 3 to 4 first");
    assert_err(f, HARK_EINVAL, grower_add(f, other, 3, 1));
    assert_says(f, "cycle");
    assert_err(f, HARK_EEXIST, grower_add(f, other, 1, 2));
    assert_err(f, HARK_EEXIST, grower_add(f, other, 1, 3));
    assert_err(f, HARK_EINVAL,
               hark_upcaster_add(
                   f->bus, HARK_OPTS(hark_upcaster, .type = "o:*", .from = 1, .to = 2, .fn = grow),
                   &f->ei));
    close_bus(f);
    assert_int_equal(atomic_load(&other->freed), 0);
    assert_int_equal(atomic_load(&g[0].freed), 1);
}

enum { GROWTH = 12 };
typedef struct growth {
    fixture *f;
    hark_err err;
} growth;

static hark_err count_up(const hark_event *event, hark_upcast *out, void *ud)
{
    char text[16];
    (void)ud;
    (void)snprintf(text, sizeof text, "%d", atoi(hark_event_data(event, NULL)) + 1);
    return hark_upcast_data(out, text, strlen(text));
}

static void *grow_on(void *arg)
{
    growth *g = arg;
    for (int64_t v = 1; v < GROWTH && !g->err; v++)
        g->err = hark_upcaster_add(
            g->f->bus,
            HARK_OPTS(hark_upcaster, .type = "o", .from = v, .to = v + 1, .fn = count_up), NULL);
    return NULL;
}

/* The data is the version's number. */
static hark_verdict agree(hark_delivery *d, void *ud)
{
    const hark_event *e = hark_delivery_event(d);
    MUST(atoi(hark_event_data(e, NULL)) == hark_event_dataversion(e));
    atomic_fetch_add((atomic_int *)ud, 1);
    return HARK_ACK;
}

static void test_a_chain_may_grow_while_events_are_handed_out(void **state)
{
    fixture *f = *state;
    growth g = {.f = f};
    pthread_t thread;
    atomic_int seen = 0;
    hark_sub *s, *live;
    assert_ok(f, hark_subscribe(f->bus, "o", agree, &seen, CONSUMER(.workers = 2), &s, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "o", agree, &seen, NULL, &live, &f->ei));
    assert_int_equal(pthread_create(&thread, NULL, grow_on, &g), 0);
    for (int i = 0; i < 100; i++)
        put(f, 1, NULL, "1");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(g.err, HARK_OK);
    WAIT_UNTIL(atomic_load(&seen) == 200);
    end_sub(s);
    end_sub(live);
}

static void test_a_version_that_is_none_is_refused_at_the_call(void **state)
{
    fixture *f = *state;
    hark_sub *s;
    hark_page *page;
    assert_err(f, HARK_EINVAL,
               hark_subscribe(f->bus, "o", NULL, NULL, HARK_OPTS(hark_sub_opts, .dataversion = -2),
                              &s, &f->ei));
    assert_says(f, "hark_sub_opts.dataversion is -2");
    assert_err(
        f, HARK_EINVAL,
        hark_subscribe(f->bus, "o", NULL, NULL, HARK_OPTS(hark_sub_opts, .newer = 3), &s, &f->ei));
    assert_err(f, HARK_EINVAL,
               hark_read(f->bus, HARK_OPTS(hark_read_opts, .dataversion = -2), &page, &f->ei));
    assert_err(f, HARK_EINVAL,
               hark_replay(f->bus, look_at, NULL, REPLAY(.dataversion = INT64_MAX), NULL, &f->ei));
    assert_says(f, "hark_replay_opts.dataversion");
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_consumer_sees_the_newest_version_and_the_log_keeps_the_first),
    TEST(test_a_subscription_may_ask_for_a_version),
    TEST(test_a_live_subscription_sees_the_newest_version),
    TEST(test_a_pulled_delivery_has_the_newest_version),
    TEST(test_a_reader_gets_the_version_that_it_asks_for),
    TEST(test_reading_what_cannot_be_brought_to_a_version_names_the_sequence),
    TEST(test_a_replay_hands_out_the_version_that_it_is_asked_for),
    TEST(test_what_a_replay_cannot_bring_to_a_version_counts_as_rejected),
    TEST(test_only_the_data_changes),
    TEST(test_an_upcaster_may_keep_the_bytes_and_make_large_ones),
    TEST(test_a_chain_takes_no_gap_no_cycle_and_no_second_step),
    TEST(test_a_chain_may_grow_while_events_are_handed_out),
    TEST(test_a_version_that_is_none_is_refused_at_the_call),
};

CONFORMANCE_MAIN("versions")
