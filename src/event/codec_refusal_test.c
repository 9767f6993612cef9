/* Tests of the CloudEvents JSON format: what is refused, and that the text says what and where. */
#include "event/codec_test_i.h"

/* ---- refusing --------------------------------------------------------------------------------- */

#define WITH(members) "{" REQUIRED "," members "}"
#define SCHEMA        HARK_ESCHEMA
#define SYNTAX        HARK_ESYNTAX

static const struct {
    const char *text;
    hark_err err;
    const char *name; /* stands in the text of the error, */
    const char *why;  /* as does this */
} refusals[] = {
    /* required attributes */
    {"{}", SCHEMA, "specversion", "missing"},
    {"{\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA, "specversion", "missing"},
    {"{\"specversion\":\"1.0\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA, "attribute id",
     "missing"},
    {"{\"specversion\":\"1.0\",\"id\":\"1\",\"type\":\"t\"}", SCHEMA, "attribute source",
     "missing"},
    {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\"}", SCHEMA, "attribute type",
     "missing"},
    {"{\"specversion\":null,\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA, "specversion",
     "missing"},
    {"{\"specversion\":\"1.0\",\"id\":null,\"source\":\"/s\",\"type\":\"t\"}", SCHEMA,
     "attribute id", "missing"},
    {"{\"specversion\":\"1.0\",\"id\":\"\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA,
     "attribute id", "empty"},
    {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"\",\"type\":\"t\"}", SCHEMA,
     "attribute source", "empty"},
    {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"\"}", SCHEMA,
     "attribute type", "empty"},
    {"{\"specversion\":\"\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA, "specversion",
     "''"},
    {"{\"specversion\":\"0.3\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA,
     "specversion", "0.3"},
    {"{\"specversion\":\"1.0.2\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA,
     "specversion", "CloudEvents 1.0"},
    {"{\"specversion\":1.0,\"id\":\"1\",\"source\":\"/s\",\"type\":\"t\"}", SCHEMA, "specversion",
     "a number"},
    /* kinds */
    {"{\"specversion\":\"1.0\",\"id\":1,\"source\":\"/s\",\"type\":\"t\"}", SCHEMA, "attribute id",
     "a number"},
    {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":[],\"type\":\"t\"}", SCHEMA,
     "attribute source", "an array"},
    {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":{}}", SCHEMA,
     "attribute type", "an object"},
    {WITH("\"subject\":true"), SCHEMA, "attribute subject", "a boolean"},
    {WITH("\"time\":1517251860"), SCHEMA, "attribute time", "a number"},
    {WITH("\"partitionkey\":5"), SCHEMA, "attribute partitionkey", "a number"},
    {WITH("\"correlationid\":5"), SCHEMA, "attribute correlationid", "a number"},
    {WITH("\"traceparent\":false"), SCHEMA, "attribute traceparent", "a boolean"},
    /* forms */
    {WITH("\"subject\":\"\""), SCHEMA, "attribute subject", "empty"},
    {WITH("\"time\":\"\""), SCHEMA, "attribute time", "empty"},
    {WITH("\"time\":\"2018-04-05 17:31:00\""), SCHEMA, "attribute time", "RFC 3339"},
    {WITH("\"dataschema\":\"\""), SCHEMA, "attribute dataschema", "empty"},
    {WITH("\"dataschema\":\"relative/path\""), SCHEMA, "attribute dataschema", "absolute URI"},
    {WITH("\"datacontenttype\":\"\""), SCHEMA, "attribute datacontenttype", "empty"},
    {WITH("\"datacontenttype\":\"json\""), SCHEMA, "attribute datacontenttype", "media type"},
    {"{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"a b\",\"type\":\"t\"}", SCHEMA,
     "attribute source", "URI reference"},
    /* characters */
    {WITH("\"subject\":\"a\\u0000b\""), SCHEMA, "attribute subject", "U+0000 at byte 1"},
    {WITH("\"subject\":\"a\\nb\""), SCHEMA, "attribute subject", "U+000A"},
    {WITH("\"subject\":\"\\u007f\""), SCHEMA, "attribute subject", "U+007F"},
    {WITH("\"subject\":\"\\u0085\""), SCHEMA, "attribute subject", "U+0085"},
    {WITH("\"subject\":\"x\\ufffe\""), SCHEMA, "attribute subject", "U+FFFE"},
    {WITH("\"subject\":\"\\ud83f\\udfff\""), SCHEMA, "attribute subject", "U+1FFFF"},
    {WITH("\"ext\":\"\\u0007\""), SCHEMA, "attribute ext", "U+0007"},
    {WITH("\"ext\":\"\\ufdd0\""), SCHEMA, "attribute ext", "U+FDD0"},
    /* names of extensions */
    {WITH("\"Upper\":\"x\""), SCHEMA, "attribute Upper", "lower-case"},
    {WITH("\"under_score\":\"x\""), SCHEMA, "attribute under_score", "lower-case"},
    {WITH("\"da-sh\":\"x\""), SCHEMA, "attribute da-sh", "lower-case"},
    {WITH("\"Data\":1"), SCHEMA, "attribute Data", "lower-case"},
    {WITH("\"\":\"x\""), SCHEMA, "attribute", "no name"},
    {WITH("\"\\u00e9\":\"x\""), SCHEMA, "attribute \xc3\xa9", "lower-case"},
    {WITH("\"ext\\u0000\":\"x\""), SCHEMA, "attribute ext", "U+0000"},
    /* values of extensions */
    {WITH("\"ext\":2147483648"), SCHEMA, "attribute ext", "32 bits"},
    {WITH("\"ext\":-2147483649"), SCHEMA, "attribute ext", "32 bits"},
    {WITH("\"ext\":123456789012345678901234567890"), SCHEMA, "attribute ext", "32 bits"},
    {WITH("\"ext\":1.5"), SCHEMA, "attribute ext", "without fraction"},
    {WITH("\"ext\":1.0"), SCHEMA, "attribute ext", "without fraction"},
    {WITH("\"ext\":1e3"), SCHEMA, "attribute ext", "as a string"},
    {WITH("\"ext\":{\"a\":1}"), SCHEMA, "attribute ext", "an object"},
    {WITH("\"ext\":[]"), SCHEMA, "attribute ext", "an array"},
    {WITH("\"dataversion\":0"), SCHEMA, "attribute dataversion", "from 1"},
    {WITH("\"dataversion\":-1"), SCHEMA, "attribute dataversion", "from 1"},
    {WITH("\"dataversion\":1.5"), SCHEMA, "attribute dataversion", "integer"},
    {WITH("\"dataversion\":2147483648"), SCHEMA, "attribute dataversion", "2147483647"},
    {WITH("\"dataversion\":\"\""), SCHEMA, "attribute dataversion", "integer"},
    {WITH("\"dataversion\":true"), SCHEMA, "attribute dataversion", "integer"},
    {WITH("\"dataversion\":[1]"), SCHEMA, "attribute dataversion", "integer"},
    /* data */
    {WITH("\"data\":1,\"data_base64\":\"AA==\""), SCHEMA, "data and data_base64", "keep the one"},
    {WITH("\"data\":null,\"data_base64\":\"AA==\""), SCHEMA, "data and data_base64", "both"},
    {WITH("\"datacontenttype\":\"text/plain\",\"data\":{}"), SCHEMA, "data is an object",
     "text/plain"},
    {WITH("\"datacontenttype\":\"text/plain\",\"data\":1"), SCHEMA, "data is a number",
     "JSON string"},
    {WITH("\"datacontenttype\":\"text/plain\",\"data\":null"), SCHEMA, "data is null",
     "JSON string"},
    {WITH("\"data_base64\":1"), SCHEMA, "data_base64", "a number"},
    {WITH("\"data_base64\":\"A\""), SCHEMA, "data_base64", "padding"},
    {WITH("\"data_base64\":\"AA\""), SCHEMA, "data_base64", "padding"},
    {WITH("\"data_base64\":\"AAA\""), SCHEMA, "data_base64", "padding"},
    {WITH("\"data_base64\":\"AA=\""), SCHEMA, "data_base64", "padding"},
    {WITH("\"data_base64\":\"A===\""), SCHEMA, "data_base64", "character 1"},
    {WITH("\"data_base64\":\"====\""), SCHEMA, "data_base64", "character 0"},
    {WITH("\"data_base64\":\"=\""), SCHEMA, "data_base64", "character 0"},
    {WITH("\"data_base64\":\"AA==AAAA\""), SCHEMA, "data_base64", "character 2"},
    {WITH("\"data_base64\":\"AAAA====\""), SCHEMA, "data_base64", "character 4"},
    {WITH("\"data_base64\":\"AB==\""), SCHEMA, "data_base64", "character 1"},
    {WITH("\"data_base64\":\"AAB=\""), SCHEMA, "data_base64", "character 2"},
    {WITH("\"data_base64\":\"A-_A\""), SCHEMA, "data_base64", "character 1"},
    {WITH("\"data_base64\":\"AAAA\\nAAAA\""), SCHEMA, "data_base64", "character 4"},
    {WITH("\"data_base64\":\"AA A\""), SCHEMA, "data_base64", "character 2"},
    {WITH("\"data_base64\":\"AA\\u0000A\""), SCHEMA, "data_base64", "character 2"},
    {WITH("\"data_base64\":\"AAA\\u00e9\""), SCHEMA, "data_base64", "RFC 4648"},
    /* documents that are no event */
    {"[]", SCHEMA, "an event is a JSON object", "batch"},
    {"\"text\"", SCHEMA, "an event is a JSON object", "a string"},
    {"null", SCHEMA, "an event is a JSON object", "null"},
    /* documents that are no JSON */
    {"", SYNTAX, "byte 0", "empty"},
    {"{", SYNTAX, "byte 1", "ends too early"},
    {"{\"id\":}", SYNTAX, "byte 6", "expected a value"},
    {"{\"id\":\"1\",}", SYNTAX, "byte 10", "member name"},
    {"{\"id\":\"1\"}x", SYNTAX, "byte 10", "after the document"},
    {"{\"id\":\"\\ud800\"}", SYNTAX, "byte 7", "surrogate"},
    {"{\"id\":\"\xff\"}", SYNTAX, "byte 7", "UTF-8"},
    {"{\"id\":\"a\nb\"}", SYNTAX, "byte 8", "control"},
    {"\xef\xbb\xbf{}", SYNTAX, "byte 0", "byte order mark"},
    {"{\"id\":\"1\",\"id\":\"2\"}", SYNTAX, "\"id\"", "twice"},
    {"{\"id\":\"1\",\"\\u0069d\":\"1\"}", SYNTAX, "\"\\u0069d\"", "keep one"},
    {WITH("\"ext\":1,\"ext\":null"), SYNTAX, "\"ext\"", "twice"},
    {WITH("\"data\":{\"a\":1,\"a\":1}"), SYNTAX, "\"a\"", "twice"},
};

static void test_every_refusal_names_what_is_wrong(void **state UNUSED)
{
    assert_true(HK_COUNTOF(refusals) >= 25);
    for (size_t i = 0; i < HK_COUNTOF(refusals); i++) {
        hark_event *e = NULL;
        hark_errinfo ei = {0};
        hark_err err = decode(refusals[i].text, strlen(refusals[i].text), NULL, &e, &ei);
        if (err != refusals[i].err || ei.err != err || e || !strstr(ei.text, refusals[i].name) ||
            !strstr(ei.text, refusals[i].why))
            fail_msg("%s\nexpected %s with '%s' and '%s', got %s: %s", refusals[i].text,
                     hark_err_name(refusals[i].err), refusals[i].name, refusals[i].why,
                     hark_err_name(err), ei.text);
        assert_int_equal(decode(refusals[i].text, strlen(refusals[i].text), NULL, &e, NULL), err);
        assert_null(e);
    }
}

static void test_a_nul_in_the_document_is_a_syntax_error(void **state UNUSED)
{
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    assert_int_equal(decode("{\"id\"\0:\"1\"}", 11, NULL, &e, &ei), HARK_ESYNTAX);
    assert_non_null(strstr(ei.text, "byte 5"));
}

static void test_a_long_quotation_in_a_refusal_is_cut_between_characters(void **state UNUSED)
{
    hk_buf b = {0};
    hk_buf_adds(&b, "{" REQUIRED ",\"time\":\"x");
    for (int i = 0; i < 100; i++)
        hk_buf_adds(&b, "\xe2\x82\xac");
    hk_buf_adds(&b, "\"}");
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    assert_int_equal(decode(b.data, b.len, NULL, &e, &ei), HARK_ESCHEMA);
    assert_int_equal(hk_utf8_valid(ei.text, strlen(ei.text)), strlen(ei.text));
    hk_buf_free(&b);
}

static void add_extensions(hk_buf *b, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        hk_buf_addf(b, ",\"x%02u\":%u", i, i);
}

static void test_as_many_extensions_as_the_limit_and_no_more(void **state UNUSED)
{
    hk_buf b = {0};
    hk_buf_adds(&b, "{" REQUIRED ",\"partitionkey\":\"p\",\"correlationid\":\"c\",\"causationid\":"
                    "\"a\",\"traceparent\":\"t\",\"dataversion\":2,\"unset\":null");
    add_extensions(&b, HARK_EXTENSIONS_MAX);
    size_t len = b.len;
    hk_buf_adds(&b, "}");
    hark_event *e = must_decode(b.data);
    assert_int_equal(hark_event_extensions(e), HARK_EXTENSIONS_MAX);
    char *text = must_encode(e);
    hark_event_unref(e);
    hark_event_unref(must_decode(text)); /* and what is written is within the limit too */
    free(text);
    b.len = len;
    hk_buf_adds(&b, ",\"onemore\":1}");
    hark_errinfo ei = {0};
    e = NULL;
    assert_int_equal(decode(b.data, b.len, NULL, &e, &ei), HARK_ETOOBIG);
    assert_non_null(strstr(ei.text, "onemore"));
    assert_non_null(strstr(ei.text, "64"));
    hk_buf_free(&b);
}

static void test_too_long_attributes_are_too_big_by_name(void **state UNUSED)
{
    hk_buf b = {0};
    hk_buf_adds(&b, "{\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"/s\",\"type\":\"");
    for (int i = 0; i < HARK_TYPE_MAX + 1; i++)
        hk_buf_addc(&b, 'a');
    hk_buf_adds(&b, "\"}");
    hark_event *e = NULL;
    hark_errinfo ei = {0};
    assert_int_equal(decode(b.data, b.len, NULL, &e, &ei), HARK_ETOOBIG);
    assert_non_null(strstr(ei.text, "attribute type has 256 bytes"));
    hk_buf_free(&b);
}

/* ---- batches ---------------------------------------------------------------------------------- */

static hark_err read_batch(const char *text, hark_event ***ret, size_t *ret_n, hark_errinfo *ei)
{
    return hark_events_from_json(text, strlen(text), NULL, ret, ret_n, ei);
}

static void test_an_empty_batch_has_no_events(void **state UNUSED)
{
    hark_event **events = NULL;
    size_t n = 99;
    assert_int_equal(read_batch(" [ ] ", &events, &n, NULL), HARK_OK);
    assert_int_equal(n, 0);
    hark_events_free(events, n);
}

static void test_a_batch_gives_its_events_in_order(void **state UNUSED)
{
    hark_event **events = NULL;
    size_t n = 0;
    hark_errinfo ei = {0};
    assert_int_equal(read_batch("[{" REQUIRED ",\"data\":1}, {" REQUIRED
                                ",\"data\":[2]},\n{" REQUIRED "}]",
                                &events, &n, &ei),
                     HARK_OK);
    assert_int_equal(n, 3);
    check_data(events[0], "1", 1);
    check_data(events[1], "[2]", 3);
    check_data(events[2], NULL, 0);
    hark_events_free(events, n);
}

static void test_one_bad_event_refuses_the_batch_and_is_pointed_out(void **state UNUSED)
{
    static const struct {
        const char *text;
        hark_err err;
        const char *starts, *says;
    } bad[] = {
        {"[{" REQUIRED "},{}]", SCHEMA, "$[1]: ", "specversion"},
        {"[{" REQUIRED "},{" REQUIRED "},{\"specversion\":\"0.3\"}]", SCHEMA,
         "$[2]: ", "specversion"},
        {"[{" REQUIRED ",\"Bad\":1},{" REQUIRED "}]", SCHEMA, "$[0]: ", "Bad"},
        {"[{" REQUIRED "},5]", SCHEMA, "$[1]: ", "a number"},
        {"[{" REQUIRED "},[]]", SCHEMA, "$[1]: ", "an array"},
        {"[null]", SCHEMA, "$[0]: ", "null"},
        {"[{" REQUIRED "},]", SYNTAX, "line 1", "expected a value"},
        {"{" REQUIRED "}", SCHEMA, "a batch", "an object"},
        {"", SYNTAX, "line 1", "empty"},
    };
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        hark_event **events = NULL;
        size_t n = 99;
        hark_errinfo ei = {0};
        assert_int_equal(read_batch(bad[i].text, &events, &n, &ei), bad[i].err);
        assert_int_equal(ei.err, bad[i].err);
        assert_null(events);
        assert_int_equal(n, 99);
        assert_int_equal(hk_slab_live(), 0); /* the good ones are gone too */
        if (strncmp(ei.text, bad[i].starts, strlen(bad[i].starts)) != 0 ||
            !strstr(ei.text, bad[i].says))
            fail_msg("%s\ngave: %s", bad[i].text, ei.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_refusal_names_what_is_wrong, no_event_is_left),
        cmocka_unit_test_teardown(test_a_nul_in_the_document_is_a_syntax_error, no_event_is_left),
        cmocka_unit_test_teardown(test_a_long_quotation_in_a_refusal_is_cut_between_characters,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_as_many_extensions_as_the_limit_and_no_more,
                                  no_event_is_left),
        cmocka_unit_test_teardown(test_too_long_attributes_are_too_big_by_name, no_event_is_left),
        cmocka_unit_test_teardown(test_an_empty_batch_has_no_events, no_event_is_left),
        cmocka_unit_test_teardown(test_a_batch_gives_its_events_in_order, no_event_is_left),
        cmocka_unit_test_teardown(test_one_bad_event_refuses_the_batch_and_is_pointed_out,
                                  no_event_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
