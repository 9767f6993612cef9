/* Tests of the event object: what it keeps, its digest and its end. What it refuses is in
 * event_refusal_test.c. */
#include "event/event_test_i.h"

/* ---- keeping ----------------------------------------------------------------------------------
 */

static void check_full(const hark_event *e)
{
    char buf[HARK_TIME_TEXT];
    size_t len;
    assert_string_equal(hark_event_type(e), "order:created");
    assert_string_equal(hark_event_id(e), "id-1");
    assert_string_equal(hark_event_source(e), "/shop");
    assert_string_equal(hark_event_subject(e), "order-7");
    assert_string_equal(hark_event_partitionkey(e), "customer-3");
    assert_string_equal(hark_event_key(e), "customer-3");
    assert_string_equal(hark_event_datacontenttype(e), "application/json");
    assert_string_equal(hark_event_dataschema(e), "https://example.com/order.json");
    assert_string_equal(hark_event_correlationid(e), "c-1");
    assert_string_equal(hark_event_causationid(e), "c-0");
    assert_memory_equal(hark_event_traceparent(e), "00-0af7", 7);
    assert_string_equal(hark_event_time_text(e, buf), "2026-01-31T12:00:00.120+01:00");
    assert_string_equal(hk_event_time_given(e), "2026-01-31T12:00:00.120+01:00");
    assert_int_equal(hark_event_time_ns(e), INT64_C(1769857200120000000));
    assert_int_equal(hark_event_dataversion(e), 3);
    const char *data = hark_event_data(e, &len);
    assert_int_equal(len, 14);
    assert_memory_equal(data, "{\"total\": 1.0}", 15); /* with the NUL that follows */
    assert_int_equal(hk_event_type_len(e), strlen("order:created"));
    assert_int_equal(hark_event_sequence(e), 0);
    assert_int_equal(hark_event_recorded_ns(e), 0);
}

static void test_every_field_survives(void **state UNUSED)
{
    hark_event_spec spec = full_spec();
    hark_event *e = make(&spec);
    check_full(e);
    assert_true(hk_event_footprint(e) >= 14);
    hark_event_unref(e);
}

static void test_an_event_does_not_change_with_what_it_was_made_from(void **state UNUSED)
{
    char type[] = "order:created", id[] = "id-1", data[] = "{\"total\": 1.0}", value[] = "kept";
    hark_ext x = {.name = "note", .value = value};
    hark_event_spec spec = full_spec();
    spec.type = type;
    spec.id = id;
    spec.data = data;
    spec.extensions = &x;
    spec.n_extensions = 1;
    hark_event *e = make(&spec);
    memset(type, 'x', sizeof type - 1);
    memset(id, 'x', sizeof id - 1);
    memset(data, 'x', sizeof data - 1);
    memset(value, 'x', sizeof value - 1);
    check_full(e);
    assert_string_equal(hark_event_attr(e, "note"), "kept");
    hark_event_unref(e);
}

static void test_extensions_are_kept_in_order_of_name_with_their_kinds(void **state UNUSED)
{
    static const hark_ext expected[] = {
        {"apple", "true", HARK_EXT_BOOLEAN, 0},
        {"count", "-2147483648", HARK_EXT_INTEGER, 0},
        {"empty", "", HARK_EXT_STRING, 0},
        {"zebra", "last", HARK_EXT_STRING, 0},
    };
    hark_event_spec spec = full_spec();
    hark_event *e = make(&spec);
    hark_ext x;
    assert_int_equal(hark_event_extensions(e), HK_COUNTOF(expected));
    for (size_t i = 0; i < HK_COUNTOF(expected); i++) {
        assert_true(hark_event_extension(e, i, &x));
        assert_string_equal(x.name, expected[i].name);
        assert_string_equal(x.value, expected[i].value);
        assert_int_equal(x.kind, expected[i].kind);
    }
    assert_false(hark_event_extension(e, HK_COUNTOF(expected), &x));
    hark_event_unref(e);
}

static void test_attributes_are_found_by_name(void **state UNUSED)
{
    static const char *const names[][2] = {{"type", "order:created"},
                                           {"id", "id-1"},
                                           {"source", "/shop"},
                                           {"subject", "order-7"},
                                           {"partitionkey", "customer-3"},
                                           {"datacontenttype", "application/json"},
                                           {"dataschema", "https://example.com/order.json"},
                                           {"correlationid", "c-1"},
                                           {"causationid", "c-0"},
                                           {"zebra", "last"},
                                           {"count", "-2147483648"}};
    static const char *const absent[] = {"time", "dataversion", "data", "gone", "", "other"};
    hark_event_spec spec = full_spec();
    hark_event *e = make(&spec);
    for (size_t i = 0; i < HK_COUNTOF(names); i++)
        assert_string_equal(hark_event_attr(e, names[i][0]), names[i][1]);
    for (size_t i = 0; i < HK_COUNTOF(absent); i++)
        assert_null(hark_event_attr(e, absent[i]));
    hark_event_unref(e);
}

static void test_extensions_with_a_field_of_their_own_go_there(void **state UNUSED)
{
    const hark_ext x[] = {{.name = "partitionkey", .value = "p"},
                          {.name = "correlationid", .value = "c"},
                          {.name = "causationid", .value = "a"},
                          {.name = "traceparent", .value = "t"},
                          {.name = "dataversion", .value = "9", .kind = HARK_EXT_INTEGER}};
    hark_event *e = make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .extensions = x,
                                   .n_extensions = HK_COUNTOF(x)));
    assert_int_equal(hark_event_extensions(e), 0);
    assert_string_equal(hark_event_partitionkey(e), "p");
    assert_string_equal(hark_event_correlationid(e), "c");
    assert_string_equal(hark_event_causationid(e), "a");
    assert_string_equal(hark_event_traceparent(e), "t");
    assert_int_equal(hark_event_dataversion(e), 9);
    hark_event_unref(e);
}

static void test_a_bare_event_gets_an_id_a_time_and_nothing_else(void **state UNUSED)
{
    int64_t before = hk_wall_ns();
    hark_event *e = make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s"));
    size_t len = 99;
    char buf[HARK_TIME_TEXT];
    assert_int_equal(strlen(hark_event_id(e)), HK_UUID_TEXT);
    assert_in_range(hark_event_time_ns(e), before, hk_wall_ns());
    assert_int_equal(strlen(hark_event_time_text(e, buf)), 30);
    assert_null(hk_event_time_given(e));
    assert_int_equal(hark_event_dataversion(e), 1);
    assert_null(hark_event_subject(e));
    assert_null(hark_event_key(e));
    assert_null(hark_event_datacontenttype(e));
    assert_null(hark_event_data(e, &len));
    assert_int_equal(len, 0);
    assert_int_equal(hark_event_extensions(e), 0);
    hark_event_unref(e);
}

static void test_the_bus_source_is_used_when_the_spec_has_none(void **state UNUSED)
{
    hark_event *a = NULL, *b = NULL;
    hark_event_spec spec = full_spec();
    assert_int_equal(hk_event_make(&spec, "/bus", 5, 1, 0, 0, &a, NULL), HARK_OK);
    assert_string_equal(hark_event_source(a), "/shop");
    spec.source = NULL;
    spec.time = NULL;
    assert_int_equal(hk_event_make(&spec, "/bus", 5, 1, 0, 0, &b, NULL), HARK_OK);
    assert_string_equal(hark_event_source(b), "/bus");
    assert_int_equal(hark_event_time_ns(b), 5);
    assert_int_equal(hk_event_made_ns(b), 5);
    hark_event_unref(a);
    hark_event_unref(b);
}

static void test_order_is_kept_by_key_else_by_subject(void **state UNUSED)
{
    hark_event *a = make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .subject = "sub"));
    hark_event *b = make(
        HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .subject = "sub", .key = "key"));
    assert_string_equal(hark_event_key(a), "sub");
    assert_string_equal(hark_event_key(b), "key");
    hark_event_unref(a);
    hark_event_unref(b);
}

static void test_json_text_is_data_of_type_json(void **state UNUSED)
{
    hark_event *e = make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .json = "[1,2]"));
    size_t len;
    assert_string_equal(hark_event_datacontenttype(e), "application/json");
    assert_memory_equal(hark_event_data(e, &len), "[1,2]", 6);
    assert_int_equal(len, 5);
    hark_event_unref(e);
}

static void test_empty_data_is_not_absent_data(void **state UNUSED)
{
    hark_event *e = make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = ""));
    size_t len = 99;
    assert_non_null(hark_event_data(e, &len));
    assert_int_equal(len, 0);
    hark_event_unref(e);
}

static void test_data_of_any_size_keeps_every_byte(void **state UNUSED)
{
    static const size_t sizes[] = {0, 1, 7, 63, 64, 4095, 4096, 4097, 65535, 65536, 1000000};
    for (size_t s = 0; s < HK_COUNTOF(sizes); s++) {
        unsigned char *data = malloc(sizes[s] + 1);
        assert_non_null(data);
        for (size_t i = 0; i < sizes[s]; i++)
            data[i] = (unsigned char)(i * 7 + s);
        hark_event_spec spec = full_spec();
        spec.data = data;
        spec.data_len = sizes[s];
        hark_event *e = make(&spec);
        size_t len;
        const char *kept = hark_event_data(e, &len);
        assert_int_equal(len, sizes[s]);
        assert_memory_equal(kept, data, len);
        assert_int_equal(kept[len], '\0');
        assert_true(hk_event_footprint(e) >= len);
        free(data);
        assert_string_equal(hark_event_attr(e, "zebra"), "last");
        hark_event_unref(e);
    }
}

static void test_extra_room_is_zeroed_aligned_and_writable(void **state UNUSED)
{
    static const size_t sizes[] = {1, 8, 24, 500};
    for (size_t i = 0; i < 2 * HK_COUNTOF(sizes); i++) {
        hark_event_spec spec = full_spec();
        size_t n = sizes[i / 2];
        char big[5000] = {0};
        if (i % 2) {
            spec.data = big;
            spec.data_len = sizeof big;
        }
        hark_event *e = NULL;
        assert_int_equal(hk_event_make(&spec, NULL, 5, 1, n, 0, &e, NULL), HARK_OK);
        unsigned char *extra = hk_event_extra(e);
        assert_non_null(extra);
        assert_int_equal((uintptr_t)extra % 8, 0);
        for (size_t k = 0; k < n; k++)
            assert_int_equal(extra[k], 0);
        memset(extra, 0xFF, n);
        assert_string_equal(hark_event_attr(e, "zebra"), "last");
        hark_event_unref(e);
    }
    hark_event *e = make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s"));
    assert_null(hk_event_extra(e));
    hark_event_unref(e);
}

static void test_a_spec_made_from_an_event_makes_the_same_event(void **state UNUSED)
{
    hark_event_spec spec = full_spec(), again;
    hark_ext x[HARK_EXTENSIONS_MAX];
    char buf[HARK_TIME_TEXT];
    hark_event *e = make(&spec);
    hark_event_to_spec(e, x, buf, &again);
    hark_event *copy = make(&again);
    check_full(copy);
    assert_int_equal(hark_event_extensions(copy), hark_event_extensions(e));
    hark_event_unref(e);
    hark_event_unref(copy);
}

static void test_stamping_sets_sequence_and_recorded_time(void **state UNUSED)
{
    hark_event_spec spec = full_spec();
    hark_event *e = make(&spec);
    hark_event_stamp(e, HARK_SEQ_MAX, 1234567890);
    assert_true(hark_event_sequence(e) == HARK_SEQ_MAX);
    assert_int_equal(hark_event_recorded_ns(e), 1234567890);
    assert_string_equal(hark_event_id(e), "id-1");
    hark_event_unref(e);
}

/* ---- references --------------------------------------------------------------------------------
 */

static void test_the_last_reference_frees_the_event(void **state UNUSED)
{
    static char large[HARK_ATTR_MAX];
    hark_event_spec spec = full_spec();
    spec.data = large; /* with a block of its own, which the leak checker watches */
    spec.data_len = sizeof large;
    hark_event *e = make(&spec);
    assert_ptr_equal(hark_event_ref(e), e);
    hk_event_ref_n(e, 2);
    assert_int_equal(hk_slab_live(), 1);
    for (int i = 0; i < 3; i++)
        assert_null(hark_event_unref(e));
    assert_string_equal(hark_event_id(e), "id-1");
    assert_int_equal(hk_slab_live(), 1);
    assert_null(hark_event_unref(e));
    assert_int_equal(hk_slab_live(), 0);
    assert_null(hark_event_unref(NULL));
    assert_null(hark_event_ref(NULL));
}

static void test_a_list_of_events_is_freed_whole(void **state UNUSED)
{
    hark_event **list = calloc(3, sizeof *list);
    assert_non_null(list);
    for (size_t i = 0; i < 3; i++)
        list[i] = make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s"));
    hark_events_free(list, 3);
    hark_events_free(NULL, 0);
}

static void *drop_references(void *arg)
{
    for (int i = 0; i < 10000; i++) {
        hark_event_ref(arg);
        hark_event_unref(arg);
    }
    hark_event_unref(arg);
    return NULL;
}

static void test_references_may_be_dropped_on_many_threads(void **state UNUSED)
{
    hark_event_spec spec = full_spec();
    hark_event *e = NULL;
    pthread_t t[3];
    assert_int_equal(hk_event_make(&spec, NULL, 5, 3, 0, 0, &e, NULL), HARK_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&t[i], NULL, drop_references, e), 0);
    for (size_t i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(hk_slab_live(), 0);
}

/* ---- digest ------------------------------------------------------------------------------------
 */

static void digest_of(const hark_event_spec *spec, uint8_t ret[16])
{
    static const uint8_t key[16] = {1, 2, 3};
    hark_event *e = make(spec);
    hk_event_digest(e, key, ret);
    hark_event_unref(e);
}

static void check_digest(const hark_event_spec *other, bool equal)
{
    hark_event_spec spec = full_spec();
    uint8_t a[16], b[16];
    digest_of(&spec, a);
    digest_of(other, b);
    if (equal)
        assert_memory_equal(a, b, 16);
    else
        assert_memory_not_equal(a, b, 16);
}

static void test_the_digest_does_not_look_at_time_trace_or_identity(void **state UNUSED)
{
    hark_event_spec spec = full_spec();
    check_digest(&spec, true);
    spec.time = "2000-01-01T00:00:00Z";
    spec.traceparent = NULL;
    spec.correlationid = NULL;
    spec.causationid = "other";
    spec.id = "other";
    spec.source = "/other";
    spec.n_extensions = 0;
    check_digest(&spec, true);
}

static void test_the_digest_differs_when_any_part_of_the_content_differs(void **state UNUSED)
{
    static const char *const parts[] = {"type", "subject", "partitionkey", "datacontenttype",
                                        "dataschema"};
    for (size_t i = 0; i < HK_COUNTOF(parts); i++)
        for (size_t k = 0; k < HK_COUNTOF(fields); k++) {
            if (strcmp(fields[k].name, parts[i]) != 0)
                continue;
            hark_event_spec spec = full_spec();
            set(&spec, fields[k].field, i == 4 ? "urn:other" : "text/other");
            check_digest(&spec, false);
            if (strcmp(parts[i], "type") == 0)
                continue;
            set(&spec, fields[k].field, NULL);
            check_digest(&spec, false);
        }
    hark_event_spec spec = full_spec();
    spec.dataversion = 4;
    check_digest(&spec, false);
    spec = full_spec();
    spec.data_len = 13;
    check_digest(&spec, false);
    spec.data_len = 0;
    check_digest(&spec, false);
    spec.data = NULL;
    check_digest(&spec, false);
}

static void test_the_digest_tells_absent_from_empty_and_part_from_part(void **state UNUSED)
{
    uint8_t a[16], b[16];
    digest_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = ""), a);
    digest_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s"), b);
    assert_memory_not_equal(a, b, 16);
    digest_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .subject = "x"), a);
    digest_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .key = "x"), b);
    assert_memory_not_equal(a, b, 16);
    digest_of(HARK_OPTS(hark_event_spec, .type = "tx", .source = "/s", .subject = "y"), a);
    digest_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .subject = "xy"), b);
    assert_memory_not_equal(a, b, 16);
}

static void test_the_digest_depends_on_the_log(void **state UNUSED)
{
    const uint8_t one[16] = {1}, two[16] = {2};
    uint8_t a[16], b[16];
    hark_event_spec spec = full_spec();
    hark_event *e = make(&spec);
    hk_event_digest(e, one, a);
    hk_event_digest(e, two, b);
    assert_memory_not_equal(a, b, 16);
    hark_event_unref(e);
}

/* ---- small things ------------------------------------------------------------------------------
 */

static void test_media_types_of_json_are_known(void **state UNUSED)
{
    static const char *const json[] = {"application/json",
                                       "APPLICATION/JSON",
                                       "text/json",
                                       "application/json; charset=utf-8",
                                       "application/json;x=y",
                                       "application/vnd.api+JSON",
                                       "application/ld+json ; a=b"};
    static const char *const other[] = {
        "text/plain", "application/jsonl", "application/x-json", "json",
        "+json",      "application/+json", "text/xml+jsons",     "text/plain; a=application/json"};
    assert_true(hark_media_is_json(NULL));
    for (size_t i = 0; i < HK_COUNTOF(json); i++)
        if (!hark_media_is_json(json[i]))
            fail_msg("%s is JSON", json[i]);
    for (size_t i = 0; i < HK_COUNTOF(other); i++)
        if (hark_media_is_json(other[i]))
            fail_msg("%s is not JSON", other[i]);
}

static void test_durability_classes_have_names(void **state UNUSED)
{
    assert_string_equal(hark_durability_name(HARK_ANY), "any");
    assert_string_equal(hark_durability_name(HARK_DISK), "disk");
    assert_string_equal(hark_durability_name(HARK_REPLICATED), "replicated");
    assert_string_equal(hark_durability_name((hark_durability)9), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_field_survives, no_event_is_left),
        cmocka_unit_test_teardown(test_an_event_does_not_change_with_what_it_was_made_from,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_extensions_are_kept_in_order_of_name_with_their_kinds,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_attributes_are_found_by_name, no_event_is_left),
        cmocka_unit_test_teardown(test_extensions_with_a_field_of_their_own_go_there,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_a_bare_event_gets_an_id_a_time_and_nothing_else,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_the_bus_source_is_used_when_the_spec_has_none,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_order_is_kept_by_key_else_by_subject, no_event_is_left),
        cmocka_unit_test_teardown(test_json_text_is_data_of_type_json, no_event_is_left),
        cmocka_unit_test_teardown(test_empty_data_is_not_absent_data, no_event_is_left),
        cmocka_unit_test_teardown(test_data_of_any_size_keeps_every_byte, no_event_is_left),
        cmocka_unit_test_teardown(test_extra_room_is_zeroed_aligned_and_writable, no_event_is_left),
        cmocka_unit_test_teardown(test_a_spec_made_from_an_event_makes_the_same_event,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_stamping_sets_sequence_and_recorded_time, no_event_is_left),
        cmocka_unit_test_teardown(test_the_last_reference_frees_the_event, no_event_is_left),
        cmocka_unit_test_teardown(test_a_list_of_events_is_freed_whole, no_event_is_left),
        cmocka_unit_test_teardown(test_references_may_be_dropped_on_many_threads, no_event_is_left),
        cmocka_unit_test_teardown(test_the_digest_does_not_look_at_time_trace_or_identity,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_the_digest_differs_when_any_part_of_the_content_differs,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_the_digest_tells_absent_from_empty_and_part_from_part,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_the_digest_depends_on_the_log, no_event_is_left),
        cmocka_unit_test_teardown(test_media_types_of_json_are_known, no_event_is_left),
        cmocka_unit_test_teardown(test_durability_classes_have_names, no_event_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
