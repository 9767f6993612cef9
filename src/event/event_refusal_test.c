/* Tests of the event object: each bad attribute is refused with a text that names it. */
#include "event/event_test_i.h"

/* ---- refusals ----------------------------------------------------------------------------------
 */

static void refused(const hark_event_spec *spec, hark_err expected, const char *name,
                    const char *why)
{
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    hark_err err = hark_event_new(spec, &e, &ei);
    if (err != expected || ei.err != err || e || !strstr(ei.text, name) || !strstr(ei.text, why))
        fail_msg("expected %s naming '%s' and saying '%s', got %s: %s", hark_err_name(expected),
                 name, why, hark_err_name(err), ei.text);
}

static void test_a_missing_type_or_source_is_refused(void **state UNUSED)
{
    refused(HARK_OPTS(hark_event_spec, .source = "/s"), HARK_EINVAL, "type", "missing");
    refused(HARK_OPTS(hark_event_spec, .type = "t"), HARK_EINVAL, "source", "missing");
}

static void test_an_empty_attribute_is_refused_by_name(void **state UNUSED)
{
    for (size_t i = 0; i < HK_COUNTOF(fields); i++) {
        hark_event_spec spec = full_spec();
        set(&spec, fields[i].field, "");
        refused(&spec, HARK_EINVAL, fields[i].name, "empty");
    }
}

static void test_characters_that_cloudevents_forbids_are_refused_by_name(void **state UNUSED)
{
    static const char *const bad[][2] = {{"a\nb", "U+000A at byte 1"},
                                         {"\x7f", "U+007F at byte 0"},
                                         {"long enough\x1f", "U+001F"},
                                         {"long enough\x7f for a word", "U+007F"},
                                         {"x\xc2\x85", "U+0085 at byte 1"},
                                         {"x\xef\xbf\xbe", "U+FFFE"},
                                         {"x\xef\xb7\x90", "U+FDD0"},
                                         {"x\xf0\x9f\xbf\xbf", "U+1FFFF"},
                                         {"x\xff", "not UTF-8 at byte 1"},
                                         {"\xed\xa0\x80", "not UTF-8 at byte 0"},
                                         {"12345678\xc0\xa0", "UTF-8 at byte 8"}};
    for (size_t i = 0; i < HK_COUNTOF(fields); i++)
        for (size_t k = 0; k < HK_COUNTOF(bad); k++) {
            hark_event_spec spec = full_spec();
            set(&spec, fields[i].field, bad[k][0]);
            refused(&spec, HARK_EINVAL, fields[i].name,
                    strcmp(fields[i].name, "time") == 0 ? "" : bad[k][1]);
        }
}

static void test_other_languages_and_emoji_are_fine(void **state UNUSED)
{
    hark_event *e = make(HARK_OPTS(hark_event_spec, .type = "bestellung:ge\xc3\xa4ndert",
                                   .source = "/gesch\xc3\xa4"
                                             "ft",
                                   .subject = "\xf0\x9f\x8c\x8e \xe2\x82\xac"));
    assert_string_equal(hark_event_subject(e), "\xf0\x9f\x8c\x8e \xe2\x82\xac");
    hark_event_unref(e);
}

static void test_malformed_attributes_are_refused_by_name(void **state UNUSED)
{
    static const char *const bad[][2] = {
        {"dataschema", "/relative"},   {"dataschema", "order.json"},
        {"dataschema", "https:"},      {"dataschema", "https://x/ y"},
        {"source", "with space"},      {"source", "<tag>"},
        {"datacontenttype", "json"},   {"datacontenttype", "/json"},
        {"datacontenttype", "a/"},     {"datacontenttype", "text/plain, text/html"},
        {"time", "yesterday"},         {"time", "2026-02-30T00:00:00Z"},
        {"time", "2026-01-31T12:00Z"}, {"time", "9999-01-01T00:00:00Z"}};
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        hark_event_spec spec = full_spec();
        for (size_t k = 0; k < HK_COUNTOF(fields); k++)
            if (strcmp(fields[k].name, bad[i][0]) == 0)
                set(&spec, fields[k].field, bad[i][1]);
        refused(&spec, HARK_EINVAL, bad[i][0], "must be");
    }
}

static void test_odd_but_legal_attributes_are_accepted(void **state UNUSED)
{
    static const char *const good[][2] = {
        {"source", "1-555-123-4567"},
        {"source", "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66"},
        {"source", "mailto:cncf-wg-serverless@lists.cncf.io"},
        {"source", "#frag"},
        {"dataschema", "urn:x"},
        {"dataschema", "a+b-c.d:e"},
        {"datacontenttype", "TEXT/Plain; CharSet=utf-8"},
        {"datacontenttype", "application/vnd.api+json;q=\"a b\""},
        {"time", "2026-01-31t12:00:00.123456789123z"}};
    for (size_t i = 0; i < HK_COUNTOF(good); i++) {
        hark_event_spec spec = full_spec();
        for (size_t k = 0; k < HK_COUNTOF(fields); k++)
            if (strcmp(fields[k].name, good[i][0]) == 0)
                set(&spec, fields[k].field, good[i][1]);
        hark_event_unref(make(&spec));
    }
}

static void test_attributes_beyond_their_limits_are_too_big(void **state UNUSED)
{
    static char long_text[HARK_ATTR_MAX + 2];
    memset(long_text, 'a', HARK_ATTR_MAX + 1);
    hark_event_spec spec = full_spec();
    spec.subject = long_text;
    refused(&spec, HARK_ETOOBIG, "subject", "65536 bytes");
    spec = full_spec();
    spec.type = long_text + HARK_ATTR_MAX + 1 - HARK_TYPE_MAX; /* just fits */
    hark_event_unref(make(&spec));
    spec.type--;
    refused(&spec, HARK_ETOOBIG, "type", "256 bytes");
    spec = full_spec();
    spec.subject = long_text + 30000;
    spec.correlationid = long_text + 30000;
    refused(&spec, HARK_ETOOBIG, "attributes", "together");
}

static void refused_extension(hark_ext x, hark_err expected, const char *name, const char *why)
{
    hark_event_spec spec = full_spec();
    spec.extensions = &x;
    spec.n_extensions = 1;
    refused(&spec, expected, name, why);
}

static void test_bad_extension_names_are_refused(void **state UNUSED)
{
    static const char *const bad[] = {"Upper",
                                      "under_score",
                                      "da-sh",
                                      "sp ace",
                                      "\xc3\xa9",
                                      "data",
                                      "id",
                                      "time",
                                      "type",
                                      "source",
                                      "subject",
                                      "specversion",
                                      "datacontenttype",
                                      "dataschema",
                                      "data_base64",
                                      "new\nline"};
    for (size_t i = 0; i < HK_COUNTOF(bad); i++)
        refused_extension((hark_ext){.name = bad[i], .value = "v"}, HARK_EINVAL, "attribute",
                          i == 4 || i == 15 ? "" : bad[i]);
    refused_extension((hark_ext){.name = "", .value = "v"}, HARK_EINVAL, "extension", "no name");
    refused_extension((hark_ext){.value = "v"}, HARK_EINVAL, "extension", "no name");
}

static void test_bad_extension_values_are_refused_by_name(void **state UNUSED)
{
    static const char *const integers[] = {"2147483648", "-2147483649", "1.5", "1e3", "", "-",
                                           "+1",         "007",         "-01", " 1",  "x"};
    for (size_t i = 0; i < HK_COUNTOF(integers); i++)
        refused_extension((hark_ext){"number", integers[i], HARK_EXT_INTEGER, 0}, HARK_EINVAL,
                          "number", "32 bits");
    refused_extension((hark_ext){"flag", "TRUE", HARK_EXT_BOOLEAN, 0}, HARK_EINVAL, "flag",
                      "true or false");
    refused_extension((hark_ext){"flag", "1", HARK_EXT_BOOLEAN, 0}, HARK_EINVAL, "flag",
                      "true or false");
    refused_extension((hark_ext){"odd", "1", (hark_ext_kind)7, 0}, HARK_EINVAL, "odd", "kind");
    refused_extension((hark_ext){"text", "a\tb", HARK_EXT_STRING, 0}, HARK_EINVAL, "text",
                      "U+0009");
}

static void test_an_attribute_given_twice_is_refused_by_name(void **state UNUSED)
{
    const hark_ext twice[] = {{.name = "note", .value = "a"}, {.name = "note", .value = "b"}};
    hark_event_spec spec = full_spec();
    spec.extensions = twice;
    spec.n_extensions = 2;
    refused(&spec, HARK_EINVAL, "note", "twice");
    refused_extension((hark_ext){.name = "partitionkey", .value = "x"}, HARK_EINVAL, "partitionkey",
                      "twice");
    refused_extension((hark_ext){.name = "traceparent", .value = "x"}, HARK_EINVAL, "traceparent",
                      "twice");
    refused_extension((hark_ext){.name = "dataversion", .value = "2"}, HARK_EINVAL, "dataversion",
                      "twice");
}

static void test_as_many_extensions_as_the_limit_and_no_more(void **state UNUSED)
{
    static char names[HARK_EXTENSIONS_MAX + 1][8];
    static hark_ext x[HARK_EXTENSIONS_MAX + 1];
    for (size_t i = 0; i < HK_COUNTOF(x); i++) {
        names[i][0] = 'x';
        names[i][1] = (char)('0' + (int)i / 10);
        names[i][2] = (char)('0' + (int)i % 10);
        x[HARK_EXTENSIONS_MAX - i] = (hark_ext){.name = names[i], .value = names[i]};
    }
    hark_event_spec spec = full_spec();
    spec.extensions = x;
    spec.n_extensions = HARK_EXTENSIONS_MAX;
    hark_event *e = make(&spec);
    hark_ext got;
    for (size_t i = 0; i < HARK_EXTENSIONS_MAX; i++) {
        assert_true(hark_event_extension(e, i, &got));
        assert_string_equal(got.name, names[i + 1]);
    }
    hark_event_unref(e);
    spec.n_extensions++;
    refused(&spec, HARK_ETOOBIG, "extension", "65");
}

static void test_a_bad_dataversion_is_refused(void **state UNUSED)
{
    static const char *const bad[] = {"0", "-1", "1.5", "2147483648", "x", ""};
    hark_event_spec spec = full_spec();
    spec.dataversion = -1;
    refused(&spec, HARK_EINVAL, "dataversion", "integer");
    spec.dataversion = INT64_C(2147483648);
    refused(&spec, HARK_EINVAL, "dataversion", "integer");
    spec.dataversion = 0;
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        hark_ext x = {.name = "dataversion", .value = bad[i]};
        spec.extensions = &x;
        spec.n_extensions = 1;
        refused(&spec, HARK_EINVAL, "dataversion", "integer");
    }
}

static void test_contradictory_data_is_refused(void **state UNUSED)
{
    refused(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .json = "1", .data = "1",
                      .data_len = 1),
            HARK_EINVAL, "data", "twice");
    refused(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data_len = 1), HARK_EINVAL,
            "data_len", "NULL");
    hark_event_spec no_size = full_spec();
    no_size.size = 0;
    refused(&no_size, HARK_EINVAL, "hark_event_spec", "HARK_OPTS");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_missing_type_or_source_is_refused, no_event_is_left),
        cmocka_unit_test_teardown(test_an_empty_attribute_is_refused_by_name, no_event_is_left),
        cmocka_unit_test_teardown(test_characters_that_cloudevents_forbids_are_refused_by_name,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_other_languages_and_emoji_are_fine, no_event_is_left),
        cmocka_unit_test_teardown(test_malformed_attributes_are_refused_by_name, no_event_is_left),
        cmocka_unit_test_teardown(test_odd_but_legal_attributes_are_accepted, no_event_is_left),
        cmocka_unit_test_teardown(test_attributes_beyond_their_limits_are_too_big,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_bad_extension_names_are_refused, no_event_is_left),
        cmocka_unit_test_teardown(test_bad_extension_values_are_refused_by_name, no_event_is_left),
        cmocka_unit_test_teardown(test_an_attribute_given_twice_is_refused_by_name,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_as_many_extensions_as_the_limit_and_no_more,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_a_bad_dataversion_is_refused, no_event_is_left),
        cmocka_unit_test_teardown(test_contradictory_data_is_refused, no_event_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
