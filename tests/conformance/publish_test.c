/* What a publisher is promised: receipts, repeats, batches, refusals. */
#include "fixture.h"

#define SPEC(...) HARK_OPTS(hark_event_spec, __VA_ARGS__)

static void test_a_receipt_tells_place_class_and_id(void **state)
{
    fixture *f = *state;
    hark_receipt r = {0};
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "order:created", .id = "one"), &r));
    assert_u64(r.sequence, 1);
    assert_int_equal(r.durability, f->store->durability);
    assert_false(r.duplicate);
    assert_string_equal(r.id, "one");
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "order:created"), &r));
    assert_int_equal(strlen(r.id), HK_UUID_TEXT); /* a fresh one */
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "order:created"), NULL));
}

static void test_an_id_that_does_not_fit_the_receipt_is_left_out(void **state)
{
    fixture *f = *state;
    char id[65];
    hark_receipt r = {0};
    memset(id, 'x', 64);
    id[64] = '\0';
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = id), &r));
    assert_string_equal(r.id, "");
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = id + 1), &r));
    assert_string_equal(r.id, id + 1);
}

static void test_sequences_strictly_increase(void **state)
{
    fixture *f = *state;
    for (uint64_t i = 1, last = 0; i <= 200; i++) {
        uint64_t seq = publish(f, "t");
        assert_true(seq > last);
        last = seq;
    }
}

static void test_the_same_event_again_gets_the_first_sequence(void **state)
{
    fixture *f = *state;
    hark_receipt first, again;
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "a", .json = "[1]"), &first));
    publish(f, "t");
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "a", .json = "[1]"), &again));
    assert_u64(again.sequence, first.sequence);
    assert_true(again.duplicate);
    assert_string_equal(again.id, "a");
    assert_u64(publish(f, "t"), first.sequence + 2); /* nothing was stored for the repeat */
}

static void test_time_and_trace_do_not_make_another_event(void **state)
{
    fixture *f = *state;
    hark_receipt r;
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "a"), NULL));
    assert_ok(f, hark_publish(f->bus,
                              SPEC(.type = "t", .id = "a", .time = "2020-01-01T00:00:00Z",
                                   .correlationid = "c"),
                              &r));
    assert_true(r.duplicate);
}

static void test_the_same_id_with_other_content_is_a_conflict(void **state)
{
    fixture *f = *state;
    static const hark_event_spec others[] = {
        {.size = sizeof(hark_event_spec), .type = "u", .id = "the-id"},
        {.size = sizeof(hark_event_spec), .type = "t", .id = "the-id", .subject = "s"},
        {.size = sizeof(hark_event_spec), .type = "t", .id = "the-id", .key = "k"},
        {.size = sizeof(hark_event_spec), .type = "t", .id = "the-id", .dataversion = 2},
        {.size = sizeof(hark_event_spec), .type = "t", .id = "the-id", .json = "1"},
        {.size = sizeof(hark_event_spec), .type = "t", .id = "the-id", .dataschema = "u:x"},
    };
    hark_receipt r = {.sequence = 99};
    uint64_t first = 0;
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "the-id"), &r));
    first = r.sequence;
    r.sequence = 99;
    for (size_t i = 0; i < HK_COUNTOF(others); i++) {
        assert_err(f, HARK_ECONFLICT, hark_publish_ei(f->bus, &others[i], &r, &f->ei));
        assert_says(f, "the-id");
        assert_u64(r.sequence, 99); /* untouched */
    }
    assert_u64(publish(f, "t"), first + 1); /* and nothing was stored */
}

static void test_the_same_id_of_another_source_is_another_event(void **state)
{
    fixture *f = *state;
    hark_receipt a, b;
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "1", .source = "/a"), &a));
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "1", .source = "/b"), &b));
    assert_false(b.duplicate);
    assert_true(b.sequence > a.sequence);
}

static void test_the_bus_gives_its_source_to_events_without(void **state)
{
    fixture *f = *state;
    hark_receipt a, b;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .source = "/shop"));
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "1"), &a));
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "1", .source = "/shop"), &b));
    assert_true(b.duplicate);
    assert_u64(a.sequence, b.sequence);
}

static void test_repeats_are_found_after_many_other_events(void **state)
{
    fixture *f = *state;
    hark_receipt first, again;
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "old"), &first));
    publish_many(f, "filler", 3000);
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "old"), &again));
    assert_u64(again.sequence, first.sequence);
}

static void test_a_repeat_is_found_after_the_bus_was_opened_again(void **state)
{
    fixture *f = *state;
    hark_receipt first, again;
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "old"), &first));
    reopen_bus(f, NULL);
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "old"), &again));
    if (f->store->survives) {
        assert_u64(again.sequence, first.sequence);
        assert_true(again.duplicate);
        assert_u64(publish(f, "t"), first.sequence + 1);
    } else {
        assert_false(again.duplicate);
    }
}

/* ---- batches ------------------------------------------------------------------------------------ */

static void test_a_batch_gets_neighbouring_sequences(void **state)
{
    fixture *f = *state;
    const hark_event_spec *specs[] = {SPEC(.type = "a"), SPEC(.type = "b", .id = "x"),
                                      SPEC(.type = "c")};
    hark_receipt r[3];
    publish(f, "t");
    assert_ok(f, hark_publish_batch(f->bus, specs, 3, r, &f->ei));
    for (uint64_t i = 0; i < 3; i++) {
        assert_u64(r[i].sequence, 2 + i);
        assert_int_equal(r[i].durability, f->store->durability);
        assert_false(r[i].duplicate);
    }
    assert_string_equal(r[1].id, "x");
    assert_ok(f, hark_publish_batch(f->bus, specs, 1, NULL, NULL));
    assert_ok(f, hark_publish_batch(f->bus, NULL, 0, NULL, NULL));
}

static void test_repeats_inside_a_batch_are_one_event(void **state)
{
    fixture *f = *state;
    hark_receipt r[4];
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "old"), NULL));
    const hark_event_spec *specs[] = {SPEC(.type = "t", .id = "new"),
                                      SPEC(.type = "t", .id = "old"),
                                      SPEC(.type = "t", .id = "new"), SPEC(.type = "t")};
    assert_ok(f, hark_publish_batch(f->bus, specs, 4, r, &f->ei));
    assert_u64(r[0].sequence, 2);
    assert_u64(r[1].sequence, 1);
    assert_u64(r[2].sequence, 2);
    assert_u64(r[3].sequence, 3);
    assert_false(r[0].duplicate);
    assert_true(r[1].duplicate);
    assert_true(r[2].duplicate);
    assert_false(r[3].duplicate);
}

static void assert_log_has(fixture *f, size_t n)
{
    hark_page *page;
    assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
    assert_u64(hark_page_count(page), n);
    hark_page_free(page);
}

static void test_a_batch_with_a_conflict_leaves_nothing(void **state)
{
    fixture *f = *state;
    hark_receipt r[3] = {{.sequence = 99}};
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .id = "old"), NULL));
    const hark_event_spec *with_log[] = {SPEC(.type = "t"), SPEC(.type = "t", .id = "n1"),
                                         SPEC(.type = "u", .id = "old")};
    assert_err(f, HARK_ECONFLICT, hark_publish_batch(f->bus, with_log, 3, r, &f->ei));
    assert_says(f, "old");
    const hark_event_spec *with_itself[] = {SPEC(.type = "t", .id = "n2"), SPEC(.type = "t"),
                                            SPEC(.type = "u", .id = "n2")};
    assert_err(f, HARK_ECONFLICT, hark_publish_batch(f->bus, with_itself, 3, r, &f->ei));
    assert_says(f, "n2");
    assert_u64(r[0].sequence, 99);
    assert_log_has(f, 1);
    assert_u64(publish(f, "t"), 2);
    /* what was taken back may be published otherwise */
    assert_ok(f, hark_publish_ei(f->bus, SPEC(.type = "v", .id = "n1"), &r[0], &f->ei));
    assert_false(r[0].duplicate);
}

static void test_a_batch_with_a_bad_event_leaves_nothing_and_names_it(void **state)
{
    fixture *f = *state;
    const hark_event_spec *specs[] = {SPEC(.type = "t"), SPEC(.type = "t"), SPEC(.type = "")};
    assert_err(f, HARK_EINVAL, hark_publish_batch(f->bus, specs, 3, NULL, &f->ei));
    assert_says(f, "event 2 of the batch");
    assert_says(f, "type");
    assert_log_has(f, 0);
}

static void test_a_batch_has_a_limit(void **state)
{
    fixture *f = *state;
    static const hark_event_spec *specs[4097];
    const hark_event_spec *spec = SPEC(.type = "t");
    for (size_t i = 0; i < 4097; i++)
        specs[i] = spec;
    assert_err(f, HARK_ETOOBIG, hark_publish_batch(f->bus, specs, 4097, NULL, &f->ei));
    assert_says(f, "4096");
    assert_ok(f, hark_publish_batch(f->bus, specs, 4096, NULL, &f->ei));
    assert_u64(publish(f, "t"), 4097);
}

/* ---- refusals ----------------------------------------------------------------------------------- */

static void test_a_class_that_the_store_does_not_reach_is_refused(void **state)
{
    fixture *f = *state;
    for (int64_t want = HARK_ANY; want <= HARK_REPLICATED; want++) {
        hark_event_spec spec = {.size = sizeof spec, .type = "t", .min_durability = want};
        hark_err expected = want > f->store->durability ? HARK_EDURABILITY : HARK_OK;
        f->ei.text[0] = '\0';
        assert_err(f, expected, hark_publish_ei(f->bus, &spec, NULL, &f->ei));
        if (expected)
            assert_says(f, hark_durability_name((hark_durability)want));
    }
    assert_log_has(f, (size_t)f->store->durability + 1);
    close_bus(f);
    assert_err(f, HARK_EDURABILITY,
               hark_open(f->url, HARK_OPTS(hark_bus_opts, .min_durability = HARK_REPLICATED),
                         &f->bus, &f->ei));
    assert_says(f, "replicated");
}

static void test_a_lease_too_short_to_keep_is_refused(void **state)
{
    fixture *f = *state;
    hark_bus *bus;
    for (int64_t ms = -1; ms < 500; ms += 500) {
        assert_err(f, HARK_EINVAL,
                   hark_open(f->url, HARK_OPTS(hark_bus_opts, .lease_ms = ms), &bus, &f->ei));
        assert_says(f, "lease_ms");
    }
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .lease_ms = 500));
}

static void test_data_over_the_limit_is_refused(void **state)
{
    fixture *f = *state;
    char data[1001] = {0};
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .max_event_bytes = 1000));
    assert_err(
        f, HARK_ETOOBIG,
        hark_publish_ei(f->bus, SPEC(.type = "t", .data = data, .data_len = 1001), NULL, &f->ei));
    assert_says(f, "1001");
    assert_says(f, "1000");
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "t", .data = data, .data_len = 1000), NULL));
    char json[1003];
    memset(json, ' ', sizeof json);
    json[0] = '1';
    json[1001] = '\0';
    assert_err(f, HARK_ETOOBIG,
               hark_publish_ei(f->bus, SPEC(.type = "t", .json = json), NULL, &f->ei));
    assert_log_has(f, 1);
}

static void test_a_bad_attribute_is_named(void **state)
{
    fixture *f = *state;
    static const struct {
        hark_event_spec spec;
        const char *says;
    } bad[] = {
        {{.size = sizeof(hark_event_spec)}, "type"},
        {{.size = sizeof(hark_event_spec), .type = "a\nb"}, "type"},
        {{.size = sizeof(hark_event_spec), .type = "t", .id = ""}, "id"},
        {{.size = sizeof(hark_event_spec), .type = "t", .source = "a b"}, "source"},
        {{.size = sizeof(hark_event_spec), .type = "t", .subject = "\xff"}, "subject"},
        {{.size = sizeof(hark_event_spec), .type = "t", .time = "yesterday"}, "time"},
        {{.size = sizeof(hark_event_spec), .type = "t", .dataschema = "no"}, "dataschema"},
        {{.size = sizeof(hark_event_spec), .type = "t", .dataversion = -1}, "dataversion"},
    };
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        assert_err(f, HARK_EINVAL, hark_publish_ei(f->bus, &bad[i].spec, NULL, &f->ei));
        assert_says(f, bad[i].says);
        assert_err(f, HARK_EINVAL, hark_publish_async(f->bus, &bad[i].spec, NULL, NULL));
    }
    assert_err(
        f, HARK_EINVAL,
        hark_publish_ei(f->bus, &(hark_event_spec){.type = "t"}, NULL, &f->ei)); /* no size */
    assert_err(f, HARK_EINVAL, hark_publish_ei(f->bus, NULL, NULL, &f->ei));
    assert_log_has(f, 0);
}

static void test_an_event_is_read_as_it_was_published(void **state)
{
    fixture *f = *state;
    static const char data[] = {'{', 0, (char)0xff, '\n', '}'};
    const hark_ext ext[] = {{.name = "tenant", .value = "acme"},
                            {.name = "count", .value = "7", .kind = HARK_EXT_INTEGER}};
    assert_ok(f,
              hark_publish(
                  f->bus,
                  SPEC(.type = "order:created", .id = "e1", .source = "/s", .subject = "order-1",
                       .key = "k", .dataversion = 3, .datacontenttype = "application/octet-stream",
                       .dataschema = "https://x.example/s", .correlationid = "cor",
                       .causationid = "cau", .time = "2026-01-02T03:04:05.60+01:00", .data = data,
                       .data_len = sizeof data, .extensions = ext, .n_extensions = 2),
                  NULL));
    for (int round = 0; round < (f->store->survives ? 2 : 1); round++) {
        hark_page *page;
        assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
        const hark_event *e = hark_page_event(page, 0);
        char text[HARK_TIME_TEXT];
        size_t len;
        assert_string_equal(hark_event_type(e), "order:created");
        assert_string_equal(hark_event_id(e), "e1");
        assert_string_equal(hark_event_source(e), "/s");
        assert_string_equal(hark_event_subject(e), "order-1");
        assert_string_equal(hark_event_key(e), "k");
        assert_string_equal(hark_event_dataschema(e), "https://x.example/s");
        assert_string_equal(hark_event_datacontenttype(e), "application/octet-stream");
        assert_string_equal(hark_event_correlationid(e), "cor");
        assert_string_equal(hark_event_causationid(e), "cau");
        assert_string_equal(hark_event_attr(e, "tenant"), "acme");
        assert_string_equal(hark_event_attr(e, "count"), "7");
        assert_string_equal(hark_event_time_text(e, text), "2026-01-02T03:04:05.60+01:00");
        assert_u64(hark_event_dataversion(e), 3);
        assert_memory_equal(hark_event_data(e, &len), data, sizeof data);
        assert_u64(len, sizeof data);
        assert_u64(hark_event_sequence(e), 1);
        assert_true(hark_event_recorded_ns(e) > 0);
        hark_page_free(page);
        if (f->store->survives)
            reopen_bus(f, NULL);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_receipt_tells_place_class_and_id),
    TEST(test_an_id_that_does_not_fit_the_receipt_is_left_out),
    TEST(test_sequences_strictly_increase),
    TEST(test_the_same_event_again_gets_the_first_sequence),
    TEST(test_time_and_trace_do_not_make_another_event),
    TEST(test_the_same_id_with_other_content_is_a_conflict),
    TEST(test_the_same_id_of_another_source_is_another_event),
    TEST(test_the_bus_gives_its_source_to_events_without),
    TEST(test_repeats_are_found_after_many_other_events),
    TEST(test_a_repeat_is_found_after_the_bus_was_opened_again),
    TEST(test_a_batch_gets_neighbouring_sequences),
    TEST(test_repeats_inside_a_batch_are_one_event),
    TEST(test_a_batch_with_a_conflict_leaves_nothing),
    TEST(test_a_batch_with_a_bad_event_leaves_nothing_and_names_it),
    TEST(test_a_batch_has_a_limit),
    TEST(test_a_class_that_the_store_does_not_reach_is_refused),
    TEST(test_a_lease_too_short_to_keep_is_refused),
    TEST(test_data_over_the_limit_is_refused),
    TEST(test_a_bad_attribute_is_named),
    TEST(test_an_event_is_read_as_it_was_published),
};
CONFORMANCE_MAIN("publish")
