/* Tests of the CloudEvents JSON format: how events are read and written. What is refused is in
 * codec_refusal_test.c, that everything reads back in codec_roundtrip_test.c. */
#include "event/codec_test_i.h"

/* ---- reading ---------------------------------------------------------------------------------- */

static void test_the_four_required_attributes_make_an_event(void **state UNUSED)
{
    hark_event *e = must_decode(" \n{" REQUIRED "}\t ");
    assert_string_equal(hark_event_id(e), "1");
    assert_string_equal(hark_event_source(e), "/s");
    assert_string_equal(hark_event_type(e), "t");
    assert_null(hark_event_subject(e));
    assert_null(hark_event_datacontenttype(e));
    assert_int_equal(hark_event_dataversion(e), 1);
    check_data(e, NULL, 0);
    hark_event_unref(e);
}

static void test_every_attribute_is_read(void **state UNUSED)
{
    hark_event *e = must_decode(
        "{\"traceparent\":\"00-x\",\"causationid\":\"cause\",\"correlationid\":\"corr\","
        "\"partitionkey\":\"key\",\"dataschema\":\"urn:schema\",\"subject\":\"sub\","
        "\"time\":\"2018-04-05T17:31:00.50+02:00\",\"datacontenttype\":\"application/json\","
        "\"dataversion\":7,\"data\":{\"a\":1},\"comexample\":\"x\"," REQUIRED "}");
    char buf[HARK_TIME_TEXT];
    assert_string_equal(hark_event_traceparent(e), "00-x");
    assert_string_equal(hark_event_causationid(e), "cause");
    assert_string_equal(hark_event_correlationid(e), "corr");
    assert_string_equal(hark_event_partitionkey(e), "key");
    assert_string_equal(hark_event_dataschema(e), "urn:schema");
    assert_string_equal(hark_event_subject(e), "sub");
    assert_string_equal(hark_event_time_text(e, buf), "2018-04-05T17:31:00.50+02:00");
    assert_string_equal(hark_event_datacontenttype(e), "application/json");
    assert_int_equal(hark_event_dataversion(e), 7);
    assert_string_equal(hark_event_attr(e, "comexample"), "x");
    check_data(e, "{\"a\":1}", 7);
    hark_event_unref(e);
}

static void test_escapes_in_names_and_values_are_undone(void **state UNUSED)
{
    hark_event *e = must_decode("{\"spec\\u0076ersion\":\"1\\u002e0\",\"\\u0069d\":\"a\\/b\\\"\","
                                "\"source\":\"\\/s\",\"type\":\"gr\\u00fc\\u00df\","
                                "\"subject\":\"\\ud83c\\udf0e\",\"e\\u0078t\":\"\\u20ac\"}");
    assert_string_equal(hark_event_id(e), "a/b\"");
    assert_string_equal(hark_event_source(e), "/s");
    assert_string_equal(hark_event_type(e), "gr\xc3\xbc\xc3\x9f");
    assert_string_equal(hark_event_subject(e), "\xf0\x9f\x8c\x8e");
    assert_string_equal(hark_event_attr(e, "ext"), "\xe2\x82\xac");
    hark_event_unref(e);
}

static void test_json_data_is_kept_byte_for_byte(void **state UNUSED)
{
    static const char *const values[] = {"1.0",
                                         "1e400",
                                         "-0",
                                         "123456789012345678901234567890",
                                         "9007199254740993",
                                         "\"plain\"",
                                         "\"{\\\"not\\\":\\\"parsed\\\"}\"",
                                         "\"\\u00e9\\/\\ud83c\\udf0e \\u0000\"",
                                         "true",
                                         "null",
                                         "[]",
                                         "{}",
                                         "[ 1 ,\n 2 ]",
                                         "{ \"b\" : 1.50, \"a\":[{}, \"]}\"] }"};
    for (size_t i = 0; i < HK_COUNTOF(values); i++) {
        char text[512];
        (void)snprintf(text, sizeof text, "{" REQUIRED ", \"data\" : %s }", values[i]);
        hark_event *e = must_decode(text);
        check_data(e, values[i], strlen(values[i]));
        hark_event_unref(e);
        (void)snprintf(text, sizeof text,
                       "{\"data\":%s,\"datacontenttype\":\"application/ld+JSON; a=b\"," REQUIRED
                       "}",
                       values[i]);
        e = must_decode(text);
        check_data(e, values[i], strlen(values[i]));
        hark_event_unref(e);
    }
}

static void test_null_data_is_a_payload_and_absent_data_is_none(void **state UNUSED)
{
    hark_event *e = must_decode("{" REQUIRED ",\"data\":null}");
    check_data(e, "null", 4);
    char *text = must_encode(e);
    assert_non_null(strstr(text, "\"data\":null"));
    free(text);
    hark_event_unref(e);
    e = must_decode("{" REQUIRED "}");
    check_data(e, NULL, 0);
    text = must_encode(e);
    assert_null(strstr(text, "data"));
    free(text);
    hark_event_unref(e);
}

static void test_null_attributes_are_unset(void **state UNUSED)
{
    hark_event *e =
        must_decode("{" REQUIRED ",\"subject\":null,\"time\":null,\"dataversion\":null,"
                    "\"datacontenttype\":null,\"dataschema\":null,\"partitionkey\":null,"
                    "\"data_base64\":null,\"extension\":null}");
    assert_null(hark_event_subject(e));
    assert_null(hark_event_datacontenttype(e));
    assert_null(hark_event_dataschema(e));
    assert_null(hark_event_partitionkey(e));
    assert_null(hk_event_time_given(e));
    assert_int_equal(hark_event_dataversion(e), 1);
    assert_int_equal(hark_event_extensions(e), 0);
    check_data(e, NULL, 0);
    hark_event_unref(e);
}

static void test_other_data_is_the_content_of_a_json_string(void **state UNUSED)
{
    hark_event *e = must_decode("{" REQUIRED ",\"datacontenttype\":\"TEXT/Plain; CharSet=utf-8\","
                                "\"data\":\"caf\\u00e9 \\\"x\\\"\\n\\u0000end\"}");
    check_data(e, "caf\xc3\xa9 \"x\"\n\0end", 14);
    assert_string_equal(hark_event_datacontenttype(e), "TEXT/Plain; CharSet=utf-8");
    hark_event_unref(e);
    e = must_decode("{" REQUIRED ",\"datacontenttype\":\"text/xml\",\"data\":\"<a>1</a>\"}");
    check_data(e, "<a>1</a>", 8);
    hark_event_unref(e);
    e = must_decode("{" REQUIRED ",\"datacontenttype\":\"text/plain\",\"data\":\"\"}");
    check_data(e, "", 0);
    hark_event_unref(e);
}

static void test_base64_is_decoded(void **state UNUSED)
{
    static const char *const vectors[][2] = {/* RFC 4648 section 10 */
                                             {"", ""},
                                             {"f", "Zg=="},
                                             {"fo", "Zm8="},
                                             {"foo", "Zm9v"},
                                             {"foob", "Zm9vYg=="},
                                             {"fooba", "Zm9vYmE="},
                                             {"foobar", "Zm9vYmFy"}};
    for (size_t i = 0; i < HK_COUNTOF(vectors); i++) {
        char text[512];
        (void)snprintf(text, sizeof text,
                       "{" REQUIRED ",\"datacontenttype\":\"image/x\",\"data_base64\":\"%s\"}",
                       vectors[i][1]);
        hark_event *e = must_decode(text);
        check_data(e, vectors[i][0], strlen(vectors[i][0]));
        char *again = must_encode(e);
        (void)snprintf(text, sizeof text, "\"data_base64\":\"%s\"}", vectors[i][1]);
        assert_non_null(strstr(again, text));
        free(again);
        hark_event_unref(e);
    }
    hark_event *e = must_decode("{" REQUIRED ",\"data_base64\":\"\\/+\\u002b\\/\"}");
    check_data(e, "\xff\xef\xbf", 3); /* escaped slashes, as some writers have them */
    hark_event_unref(e);
}

static void test_base64_without_a_media_type_is_not_taken_as_json(void **state UNUSED)
{
    hark_event *e = must_decode("{" REQUIRED ",\"data_base64\":\"eyJhIjoxfQ==\"}"); /* {"a":1} */
    check_data(e, "{\"a\":1}", 7);
    assert_string_equal(hark_event_datacontenttype(e), "application/octet-stream");
    char *text = must_encode(e);
    assert_non_null(strstr(text, "\"data_base64\":\"eyJhIjoxfQ==\""));
    free(text);
    hark_event_unref(e);
    e = must_decode("{" REQUIRED ",\"data_base64\":\"AP8=\"}");
    check_data(e, "\0\xff", 2);
    assert_null(hark_event_datacontenttype(e));
    text = must_encode(e);
    assert_non_null(strstr(text, "\"data_base64\":\"AP8=\""));
    free(text);
    hark_event_unref(e);
    e = must_decode("{" REQUIRED
                    ",\"datacontenttype\":\"application/json\",\"data_base64\":\"eyJhIjoxfQ==\"}");
    check_data(e, "{\"a\":1}", 7); /* here it is JSON, by its own word */
    text = must_encode(e);
    assert_non_null(strstr(text, "\"data\":{\"a\":1}"));
    free(text);
    hark_event_unref(e);
}

static void check_extension(const hark_event *e, const char *name, const char *value,
                            hark_ext_kind kind)
{
    hark_ext x;
    for (size_t i = 0; hark_event_extension(e, i, &x); i++)
        if (strcmp(x.name, name) == 0) {
            assert_string_equal(x.value, value);
            assert_int_equal(x.kind, kind);
            return;
        }
    fail_msg("no extension %s", name);
}

static void test_extensions_keep_their_kinds(void **state UNUSED)
{
    hark_event *e =
        must_decode("{" REQUIRED ",\"s\":\"\",\"i\":2147483647,\"j\":-2147483648,\"k\":0,"
                    "\"t\":true,\"f\":false,\"str\":\"5\",\"123\":\"digits\"}");
    check_extension(e, "s", "", HARK_EXT_STRING);
    check_extension(e, "i", "2147483647", HARK_EXT_INTEGER);
    check_extension(e, "j", "-2147483648", HARK_EXT_INTEGER);
    check_extension(e, "k", "0", HARK_EXT_INTEGER);
    check_extension(e, "t", "true", HARK_EXT_BOOLEAN);
    check_extension(e, "f", "false", HARK_EXT_BOOLEAN);
    check_extension(e, "str", "5", HARK_EXT_STRING);
    check_extension(e, "123", "digits", HARK_EXT_STRING);
    hark_event_unref(e);
}

static void test_names_that_others_registered_are_ordinary_extensions(void **state UNUSED)
{
    hark_event *e = must_decode("{" REQUIRED ",\"recordedtime\":\"2026-01-31T12:00:00Z\","
                                "\"sequence\":\"0000041\",\"tracestate\":\"a=b\","
                                "\"abcdefghijklmnopqrstu\":\"21 characters\"}");
    check_extension(e, "recordedtime", "2026-01-31T12:00:00Z", HARK_EXT_STRING);
    check_extension(e, "sequence", "0000041", HARK_EXT_STRING);
    check_extension(e, "tracestate", "a=b", HARK_EXT_STRING);
    check_extension(e, "abcdefghijklmnopqrstu", "21 characters", HARK_EXT_STRING);
    assert_int_equal(hark_event_sequence(e), 0);
    hark_event_unref(e);
}

static void test_dataversion_may_be_a_number_or_its_digits(void **state UNUSED)
{
    hark_event *e = must_decode("{" REQUIRED ",\"dataversion\":2147483647}");
    assert_int_equal(hark_event_dataversion(e), 2147483647);
    hark_event_unref(e);
    e = must_decode("{" REQUIRED ",\"dataversion\":\"2\"}");
    assert_int_equal(hark_event_dataversion(e), 2);
    hark_event_unref(e);
}

static void test_defaults_fill_in_source_id_and_time_only(void **state UNUSED)
{
    const hark_event_spec *defaults =
        HARK_OPTS(hark_event_spec, .type = "not this", .subject = "not this", .id = "d-id",
                  .source = "/d", .time = "2026-01-31T12:00:00Z");
    const char *bare = "{\"specversion\":\"1.0\",\"type\":\"t\",\"id\":null}";
    const char *full = "{" REQUIRED ",\"time\":\"2000-01-01T00:00:00Z\"}";
    hark_event *e = NULL;
    assert_int_equal(decode(bare, strlen(bare), defaults, &e, NULL), HARK_OK);
    assert_string_equal(hark_event_id(e), "d-id");
    assert_string_equal(hark_event_source(e), "/d");
    assert_string_equal(hk_event_time_given(e), "2026-01-31T12:00:00Z");
    assert_null(hark_event_subject(e));
    hark_event_unref(e);
    assert_int_equal(decode(full, strlen(full), defaults, &e, NULL), HARK_OK);
    assert_string_equal(hark_event_id(e), "1");
    assert_string_equal(hark_event_source(e), "/s");
    assert_string_equal(hk_event_time_given(e), "2000-01-01T00:00:00Z");
    hark_event_unref(e);
    hark_errinfo ei = {0};
    const char *no_type = "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\"}";
    assert_int_equal(decode(no_type, strlen(no_type), defaults, &e, &ei), HARK_ESCHEMA);
    assert_non_null(strstr(ei.text, "type is missing"));
}

static void test_a_document_of_any_size_is_read(void **state UNUSED)
{
    enum { LONG = 20000, DATA = 1000000 };
    hk_buf b = {0};
    hk_buf_adds(&b, "{" REQUIRED ",\"subject\":\"");
    for (size_t i = 0; i < LONG; i++)
        hk_buf_adds(&b, i % 2 ? "\\u0061" : "b");
    hk_buf_adds(&b, "\",\"datacontenttype\":\"text/plain\",\"data\":\"");
    for (size_t i = 0; i < DATA; i++)
        hk_buf_adds(&b, i % 100 ? "x" : "\\n");
    hk_buf_adds(&b, "\"}");
    hark_event *e = must_decode(b.data);
    size_t len;
    const char *data = hark_event_data(e, &len);
    assert_int_equal(strlen(hark_event_subject(e)), LONG);
    assert_int_equal(len, DATA);
    assert_int_equal(data[100], '\n');
    assert_int_equal(data[DATA - 1], 'x');
    hark_event_unref(e);
    hk_buf_free(&b);
}

/* ---- depth ------------------------------------------------------------------------------------ */

static char *nested(const char *before, unsigned depth, const char *after)
{
    hk_buf b = {0};
    hk_buf_adds(&b, before);
    for (unsigned i = 0; i < depth; i++)
        hk_buf_addc(&b, '[');
    for (unsigned i = 0; i < depth; i++)
        hk_buf_addc(&b, ']');
    hk_buf_adds(&b, after);
    return hk_buf_steal(&b, NULL);
}

static void test_data_may_nest_as_deep_as_a_document_of_its_own(void **state UNUSED)
{
    hark_event *e = NULL, **batch = NULL, *again;
    hark_errinfo ei = {0};
    size_t n = 0;
    char *text = nested("{" REQUIRED ",\"data\":", HK_JSON_DEPTH_DEFAULT, "}");
    e = must_decode(text);
    free(text);
    text = must_encode(e);
    assert_non_null(strstr(text, "\"data\":[[[["));
    again = must_decode(text);
    hark_event_unref(again);
    hark_event_unref(e);
    free(text);

    text = nested("[{" REQUIRED ",\"data\":", HK_JSON_DEPTH_DEFAULT, "}]");
    assert_int_equal(hark_events_from_json(text, strlen(text), NULL, &batch, &n, &ei), HARK_OK);
    hark_events_free(batch, n);
    free(text);

    e = NULL;
    text = nested("{" REQUIRED ",\"data\":", HK_JSON_DEPTH_DEFAULT + 1, "}");
    assert_int_equal(decode(text, strlen(text), NULL, &e, &ei), HARK_ESYNTAX);
    assert_non_null(strstr(ei.text, "deep"));
    free(text);

    text = nested("{" REQUIRED ",\"data\":", 1000000, "}");
    assert_int_equal(decode(text, strlen(text), NULL, &e, &ei), HARK_ESYNTAX);
    free(text);
}

/* ---- writing ---------------------------------------------------------------------------------- */

static void check_encoded(const hark_event_spec *spec, const char *expected)
{
    hark_event *e = must_make(spec);
    char *text = must_encode(e);
    assert_string_equal(text, expected);
    free(text);
    hark_event_unref(e);
}

static void test_an_event_is_written_with_specversion_first_and_data_last(void **state UNUSED)
{
    const hark_ext x[] = {{.name = "flag", .value = "true", .kind = HARK_EXT_BOOLEAN},
                          {.name = "count", .value = "-5", .kind = HARK_EXT_INTEGER},
                          {.name = "note", .value = "a \"b\""}};
    check_encoded(
        HARK_OPTS(hark_event_spec, .type = "order:created", .id = "1", .source = "/s",
                  .subject = "sub", .key = "k", .time = "2018-04-05T17:31:00Z",
                  .dataschema = "urn:x", .correlationid = "c", .causationid = "a",
                  .traceparent = "t", .dataversion = 2, .json = "{\"n\": 1.0}", .extensions = x,
                  .n_extensions = 3),
        "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"order:created\","
        "\"subject\":\"sub\",\"time\":\"2018-04-05T17:31:00Z\","
        "\"datacontenttype\":\"application/json\",\"dataschema\":\"urn:x\",\"dataversion\":2,"
        "\"partitionkey\":\"k\",\"correlationid\":\"c\",\"causationid\":\"a\",\"traceparent\":"
        "\"t\","
        "\"count\":-5,\"flag\":true,\"note\":\"a \\\"b\\\"\",\"data\":{\"n\": 1.0}}");
}

static void check_data_written(const char *type, const char *data, size_t len, const char *expected)
{
    hark_event *e = must_make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s",
                                        .datacontenttype = type, .data = data, .data_len = len));
    char *text = must_encode(e);
    if (!strstr(text, expected))
        fail_msg("expected %s, got %s", expected, text);
    hark_event *again = must_decode(text);
    check_data(again, data, len);
    hark_event_unref(again);
    free(text);
    hark_event_unref(e);
}

static void test_data_is_written_as_what_it_is(void **state UNUSED)
{
    check_data_written(NULL, "[1.0]", 5, ",\"data\":[1.0]}");
    check_data_written("application/json", "\"text\"", 6, ",\"data\":\"text\"}");
    check_data_written("application/a+json;x=y", "1e400", 5, ",\"data\":1e400}");
    check_data_written("text/plain", "a\n\"b\"", 5, ",\"data\":\"a\\n\\\"b\\\"\"}");
    check_data_written("text/plain", "[1]", 3, ",\"data\":\"[1]\"}");
    check_data_written("TEXT/XML; charset=\"UTF-8\"", "<a/>", 4, ",\"data\":\"<a/>\"}");
    check_data_written("application/atom+xml", "<a/>", 4, ",\"data\":\"<a/>\"}");
    check_data_written("application/octet-stream", "abc", 3, ",\"data_base64\":\"YWJj\"}");
    check_data_written("image/png", "\x89PNG", 4, ",\"data_base64\":\"iVBORw==\"}");
    check_data_written("text/plain", "\xff", 1, ",\"data_base64\":\"/w==\"}");
    check_data_written("text/plain; charset=iso-8859-1", "abc", 3, ",\"data_base64\":\"YWJj\"}");
    check_data_written("text/plain", "", 0, ",\"data\":\"\"}");
}

static void test_data_that_only_claims_to_be_json_is_written_as_base64(void **state UNUSED)
{
    check_data_written("application/json", "{", 1, ",\"data_base64\":\"ew==\"}");
    check_data_written("application/json", "", 0, ",\"data_base64\":\"\"}");
    check_data_written("application/json", "1,\"id\":\"2\"", 10, ",\"data_base64\":");
    check_data_written("application/json", "{\"a\":1,\"a\":2}", 13, ",\"data_base64\":");
    check_data_written("application/json", "\"\xff\"", 3, ",\"data_base64\":");
    check_data_written(NULL, "\0\1\2", 3, ",\"data_base64\":\"AAEC\"}");
    char *deep = nested("", HK_JSON_DEPTH_DEFAULT + 1, "");
    check_data_written("application/json", deep, strlen(deep), ",\"data_base64\":");
    free(deep);
}

/* The one thing that does not come back: a reader cannot know it from the document's layout. */
static void test_white_space_around_json_data_belongs_to_the_document(void **state UNUSED)
{
    hark_event *e =
        must_make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .json = " {\"a\": 1}\n"));
    char *text = must_encode(e);
    assert_non_null(strstr(text, ",\"data\": {\"a\": 1}\n}"));
    hark_event *again = must_decode(text);
    check_data(again, "{\"a\": 1}", 8);
    hark_event_unref(again);
    hark_event_unref(e);
    free(text);
}

static void test_a_time_of_any_length_is_written_as_it_was_given(void **state UNUSED)
{
    const char *time = "2026-01-31T12:00:00."
                       "1234567890123456789012345678901234567890123456789012345678901234567890"
                       "+01:00";
    hark_event *e =
        must_make(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .time = time));
    char *text = must_encode(e);
    assert_non_null(strstr(text, time));
    free(text);
    hark_event_unref(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_the_four_required_attributes_make_an_event,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_every_attribute_is_read, no_event_is_left),
        cmocka_unit_test_teardown(test_escapes_in_names_and_values_are_undone, no_event_is_left),
        cmocka_unit_test_teardown(test_json_data_is_kept_byte_for_byte, no_event_is_left),
        cmocka_unit_test_teardown(test_null_data_is_a_payload_and_absent_data_is_none,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_null_attributes_are_unset, no_event_is_left),
        cmocka_unit_test_teardown(test_other_data_is_the_content_of_a_json_string,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_base64_is_decoded, no_event_is_left),
        cmocka_unit_test_teardown(test_base64_without_a_media_type_is_not_taken_as_json,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_extensions_keep_their_kinds, no_event_is_left),
        cmocka_unit_test_teardown(test_names_that_others_registered_are_ordinary_extensions,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_dataversion_may_be_a_number_or_its_digits, no_event_is_left),
        cmocka_unit_test_teardown(test_defaults_fill_in_source_id_and_time_only, no_event_is_left),
        cmocka_unit_test_teardown(test_a_document_of_any_size_is_read, no_event_is_left),
        cmocka_unit_test_teardown(test_data_may_nest_as_deep_as_a_document_of_its_own,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_an_event_is_written_with_specversion_first_and_data_last,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_data_is_written_as_what_it_is, no_event_is_left),
        cmocka_unit_test_teardown(test_data_that_only_claims_to_be_json_is_written_as_base64,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_white_space_around_json_data_belongs_to_the_document,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_a_time_of_any_length_is_written_as_it_was_given,
                                  no_event_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
