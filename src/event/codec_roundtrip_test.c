/* Tests of the CloudEvents JSON format: whatever is written reads back the same; whatever is damaged
 * is refused or reads back the same. */
#include "event/codec_test_i.h"

/* ---- there and back ------------------------------------------------------------------------------ */

static uint64_t random_state;

static unsigned pick(unsigned below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(random_state >> 33) % below;
}

/* Pieces that are legal in any attribute, and such that are not in a URI. */
static const char *const pieces[] = {"a",
                                     "Z9",
                                     ":",
                                     "/",
                                     "%20",
                                     "\xc3\xa9",
                                     "\xe2\x82\xac",
                                     "\xf0\x9f\x8c\x8e",
                                     "-._~",
                                     "\xee\x80\x80",
                                     "?x=1&y",
                                     "longerpiece",
                                     " ",
                                     "\"",
                                     "\\",
                                     "<b>",
                                     "{}",
                                     "\\u0041",
                                     "null",
                                     "'"};
enum { URI_PIECES = 12 };

static const char *random_text(hk_buf *pool, unsigned n_pieces)
{
    size_t start = pool->len;
    for (unsigned n = 1 + pick(6); n; n--)
        hk_buf_adds(pool, pieces[pick(n_pieces)]);
    hk_buf_addc(pool, '\0');
    return (const char *)start; /* an offset until the pool stands still */
}

static const char *settle(const hk_buf *pool, const char *offset)
{
    return offset == NULL ? NULL : pool->data + (uintptr_t)offset;
}

static void random_json(hk_buf *b, unsigned depth)
{
    static const char *const leaves[] = {"null",
                                         "true",
                                         "false",
                                         "0",
                                         "-1.50",
                                         "1e400",
                                         "12345678901234567890",
                                         "\"\"",
                                         "\"\\u00e9\\n\"",
                                         "\"\xf0\x9f\x8c\x8e\""};
    unsigned kind = depth ? pick(4) : 0;
    if (kind < 2) {
        hk_buf_adds(b, leaves[pick(HK_COUNTOF(leaves))]);
        return;
    }
    hk_buf_addc(b, kind == 2 ? '[' : '{');
    for (unsigned i = 0, n = pick(4); i < n; i++) {
        hk_buf_adds(b, i ? " ,\n" : "");
        if (kind == 3)
            hk_buf_addf(b, "\"k%u\" :", i);
        random_json(b, depth - 1);
    }
    hk_buf_addc(b, kind == 2 ? ']' : '}');
}

static void random_bytes(hk_buf *b)
{
    static const unsigned sizes[] = {1, 2, 3, 4, 30, 300, 5000};
    for (unsigned n = pick(sizes[pick(HK_COUNTOF(sizes))] + 1); n; n--)
        hk_buf_addc(b, (char)pick(256));
}

static void random_data(hk_buf *data, hark_event_spec *spec)
{
    static const char *const types[] = {NULL,
                                        "application/json",
                                        "APPLICATION/vnd.x+JSON; charset=utf-8",
                                        "text/plain",
                                        "text/plain; charset=utf-16",
                                        "application/xml",
                                        "application/octet-stream",
                                        "image/png"};
    spec->datacontenttype = types[pick(HK_COUNTOF(types))];
    switch (pick(5)) {
    case 0:
        return; /* none */
    case 1:
    case 2:
        random_json(data, 5);
        break;
    case 3:
        for (unsigned n = pick(8); n; n--)
            hk_buf_adds(data, pieces[pick(HK_COUNTOF(pieces))]);
        break;
    default:
        random_bytes(data);
        break;
    }
    /* white space around JSON is the stated exception */
    while (data->len && strchr(" \t\r\n", data->data[data->len - 1]))
        data->len--;
    size_t skip = 0;
    while (skip < data->len && strchr(" \t\r\n", data->data[skip]))
        skip++;
    spec->data = data->data ? data->data + skip : "";
    spec->data_len = data->len - skip;
}

static size_t random_extensions(hk_buf *pool, hark_ext *x, char names[][16])
{
    static const char *const integers[] = {"0", "-1", "2147483647", "-2147483648", "42"};
    size_t n = pick(3) ? pick(6) : pick(HARK_EXTENSIONS_MAX + 1);
    for (size_t i = 0; i < n; i++) {
        hark_ext_kind kind = (hark_ext_kind)pick(3);
        (void)snprintf(names[i], 16, "%c%ux%zu", (char)('a' + (int)pick(26)), pick(100), i);
        x[i] = (hark_ext){.name = names[i], .kind = kind};
        x[i].value = kind == HARK_EXT_STRING    ? random_text(pool, HK_COUNTOF(pieces))
                     : kind == HARK_EXT_INTEGER ? integers[pick(HK_COUNTOF(integers))]
                     : pick(2)                  ? "true"
                                                : "false";
    }
    for (size_t i = 0; i < n; i++)
        if (x[i].kind == HARK_EXT_STRING)
            x[i].value = settle(pool, x[i].value);
    return n;
}

static hark_event *random_event(void)
{
    static const char *const times[] = {NULL, "2026-01-31T12:00:00Z", "1985-04-12t23:20:50.520z",
                                        "1996-12-19T16:39:57.000001-08:00"};
    hk_buf pool = {0}, ext_pool = {0}, data = {0};
    hark_ext x[HARK_EXTENSIONS_MAX];
    char names[HARK_EXTENSIONS_MAX][16];
    hark_event_spec spec = {.size = sizeof spec};
    const char **any[] = {&spec.subject,     &spec.key,         &spec.correlationid,
                          &spec.causationid, &spec.traceparent, &spec.id};
    hk_buf_addc(&pool, '\0'); /* so that no text has offset 0, which means none */
    hk_buf_addc(&ext_pool, '\0');
    spec.type = random_text(&pool, HK_COUNTOF(pieces));
    spec.source = random_text(&pool, URI_PIECES);
    for (size_t i = 0; i < HK_COUNTOF(any); i++)
        *any[i] = pick(3) ? random_text(&pool, HK_COUNTOF(pieces)) : NULL;
    spec.type = settle(&pool, spec.type);
    spec.source = settle(&pool, spec.source);
    for (size_t i = 0; i < HK_COUNTOF(any); i++)
        *any[i] = settle(&pool, *any[i]);
    spec.dataschema = pick(4) ? NULL : "https://example.com/schema?v=1#x";
    spec.time = times[pick(HK_COUNTOF(times))];
    spec.dataversion = pick(2) ? 0 : 1 + (int64_t)pick(INT32_MAX);
    spec.extensions = x;
    spec.n_extensions = random_extensions(&ext_pool, x, names);
    random_data(&data, &spec);
    hark_event *e = must_make(&spec);
    hk_buf_free(&pool);
    hk_buf_free(&ext_pool);
    hk_buf_free(&data);
    return e;
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_extensions(const hark_event *a, const hark_event *b)
{
    hark_ext x, y;
    if (hark_event_extensions(a) != hark_event_extensions(b))
        return false;
    for (size_t i = 0; hark_event_extension(a, i, &x) && hark_event_extension(b, i, &y); i++)
        if (!same_text(x.name, y.name) || !same_text(x.value, y.value) || x.kind != y.kind)
            return false;
    return true;
}

static bool same(const hark_event *a, const hark_event *b)
{
    static const char *const names[] = {
        "id",         "source",       "type",          "subject",     "datacontenttype",
        "dataschema", "partitionkey", "correlationid", "causationid", "traceparent"};
    char s[HARK_TIME_TEXT], t[HARK_TIME_TEXT];
    size_t n, m;
    const char *d = hark_event_data(a, &n), *f = hark_event_data(b, &m);
    for (size_t i = 0; i < HK_COUNTOF(names); i++)
        if (!same_text(hark_event_attr(a, names[i]), hark_event_attr(b, names[i])))
            return false;
    return same_text(hark_event_time_text(a, s), hark_event_time_text(b, t)) &&
           hark_event_time_ns(a) == hark_event_time_ns(b) &&
           hark_event_dataversion(a) == hark_event_dataversion(b) && n == m && !d == !f &&
           (!d || memcmp(d, f, n) == 0) && same_extensions(a, b);
}

static void test_what_is_written_reads_back_the_same(void **state UNUSED)
{
    enum { ROUNDS = 20000 };
    for (unsigned i = 0; i < ROUNDS; i++) {
        random_state = i; /* the seed to repeat it */
        hark_event *e = random_event();
        char *text = must_encode(e);
        hark_event *again = must_decode(text);
        if (!same(e, again))
            fail_msg("seed %u: %s", i, text);
        char *twice = must_encode(again);
        assert_string_equal(text, twice);
        free(text);
        free(twice);
        hark_event_unref(again);
        hark_event_unref(e);
    }
}

static void test_batches_read_back_the_same(void **state UNUSED)
{
    enum { ROUNDS = 200, EVENTS = 20 };
    for (unsigned i = 0; i < ROUNDS; i++) {
        hark_event *e[EVENTS], **again = NULL;
        hk_buf b = {0};
        hark_errinfo ei = {0};
        size_t n = 0, count = i % EVENTS;
        random_state = i;
        for (size_t k = 0; k < count; k++) {
            e[k] = random_event();
            char *text = must_encode(e[k]);
            hk_buf_adds(&b, k ? ", " : "[");
            hk_buf_adds(&b, text);
            free(text);
        }
        hk_buf_adds(&b, count ? "]" : "[]");
        if (hark_events_from_json(b.data, b.len, NULL, &again, &n, &ei))
            fail_msg("seed %u: %s", i, ei.text);
        assert_int_equal(n, count);
        for (size_t k = 0; k < n; k++) {
            assert_true(same(e[k], again[k]));
            hark_event_unref(e[k]);
        }
        hark_events_free(again, n);
        hk_buf_free(&b);
    }
}

/* ---- damage ------------------------------------------------------------------------------------ */

static const char sample[] =
    "{\"specversion\":\"1.0\",\"id\":\"a-1\",\"source\":\"/s\",\"type\":\"t\\u0065st\",\"time\":"
    "\"2018-04-05T17:31:00.5Z\",\"count\":-12,\"flag\":true,\"gone\":null,\"dataversion\":3,"
    "\"datacontenttype\":\"application/json\",\"data\":{\"a\":[1,\"\\n\xc3\xa9\"]}}";

static void test_a_document_cut_anywhere_is_a_syntax_error(void **state UNUSED)
{
    for (size_t len = 0; len < sizeof sample - 1; len++) {
        hark_event *e = NULL;
        hark_errinfo ei = {0};
        assert_int_equal(decode(sample, len, NULL, &e, &ei), HARK_ESYNTAX);
        assert_true(strlen(ei.text) > 0);
    }
}

static void test_a_damaged_document_is_refused_or_reads_back_the_same(void **state UNUSED)
{
    enum { ROUNDS = 100000 };
    unsigned accepted = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        char text[sizeof sample];
        memcpy(text, sample, sizeof sample);
        random_state = i;
        for (unsigned n = 1 + pick(3); n; n--)
            text[pick(sizeof sample - 1)] =
                pick(2) ? (char)pick(256) : sample[pick(sizeof sample - 1)];
        hark_event *e = NULL, *again = NULL;
        hark_errinfo ei = {0};
        hark_err err = decode(text, sizeof sample - 1, NULL, &e, &ei);
        if (err) {
            if ((err != HARK_ESYNTAX && err != HARK_ESCHEMA) || ei.err != err || !ei.text[0])
                fail_msg("seed %u: %s %s", i, hark_err_name(err), ei.text);
            continue;
        }
        accepted++;
        char *written = must_encode(e);
        again = must_decode(written);
        if (!same(e, again))
            fail_msg("seed %u: %s", i, written);
        free(written);
        hark_event_unref(again);
        hark_event_unref(e);
    }
    assert_true(accepted > ROUNDS / 100); /* else the test looks at nothing */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_what_is_written_reads_back_the_same, no_event_is_left),
        cmocka_unit_test_teardown(test_batches_read_back_the_same, no_event_is_left),
        cmocka_unit_test_teardown(test_a_document_cut_anywhere_is_a_syntax_error, no_event_is_left),
        cmocka_unit_test_teardown(test_a_damaged_document_is_refused_or_reads_back_the_same,
                                  no_event_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
