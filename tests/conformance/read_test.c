/* Reading the log: pages, filters, directions, gaps; cursors; facts about the bus. */
#include "fixture.h"

#define READ(...) HARK_OPTS(hark_read_opts, __VA_ARGS__)

static hark_page *read_page(fixture *f, const hark_read_opts *opts)
{
    hark_page *page = NULL;
    assert_ok(f, hark_read(f->bus, opts, &page, &f->ei));
    return page;
}

static uint64_t seq_at(const hark_page *page, size_t i)
{
    return hark_event_sequence(hark_page_event(page, i));
}

/* Where reading goes on, with what follows in memory and with what only the store has. */
static void in_both_places(fixture *f, void (*check)(fixture *))
{
    check(f);
    if (!f->store->survives)
        return;
    reopen_bus(f, NULL);
    check(f);
}

static void check_pages(fixture *f)
{
    uint64_t after = 0, seen = 0;
    int pages = 0;
    do {
        hark_page *page = read_page(f, READ(.after = after, .limit = 100));
        for (size_t i = 0; i < hark_page_count(page); i++)
            assert_u64(seq_at(page, i), ++seen);
        assert_null(hark_page_event(page, hark_page_count(page)));
        after = hark_page_next(page);
        hark_page_free(page);
        pages++;
    } while (after);
    assert_u64(seen, 1050);
    assert_in_range(pages, 11, 12);
    uint64_t before = 0;
    seen = 1051;
    do {
        hark_page *page = read_page(f, READ(.before = before, .limit = 100, .descending = 1));
        for (size_t i = 0; i < hark_page_count(page); i++)
            assert_u64(seq_at(page, i), --seen);
        before = hark_page_next(page);
        hark_page_free(page);
    } while (before);
    assert_u64(seen, 1);
    hark_page *page = read_page(f, NULL); /* the default limit */
    assert_u64(hark_page_count(page), 1000);
    assert_u64(hark_page_next(page), 1000);
    hark_page_free(page);
}

static void test_the_log_is_read_page_by_page_both_ways(void **state)
{
    publish_many(*state, "t", 1050);
    in_both_places(*state, check_pages);
}

static void check_ranges(fixture *f)
{
    static const struct {
        uint64_t after, before, first, last; /* first 0 = nothing */
    } cases[] = {{0, 0, 1, 50},           {10, 0, 11, 50},       {0, 10, 1, 9},
                 {10, 20, 11, 19},        {49, 0, 50, 50},       {50, 0, 0, 0},
                 {10, 11, 0, 0},          {20, 10, 0, 0},        {0, 1, 0, 0},
                 {51, 0, 0, 0},           {1000, 0, 0, 0},       {0, 1000, 1, 50},
                 {HARK_SEQ_MAX, 0, 0, 0}, {UINT64_MAX, 0, 0, 0}, {0, UINT64_MAX, 1, 50}};
    for (size_t c = 0; c < HK_COUNTOF(cases); c++)
        for (int64_t down = 0; down < 2; down++) {
            hark_page *page = read_page(
                f, READ(.after = cases[c].after, .before = cases[c].before, .descending = down));
            uint64_t n = cases[c].first ? cases[c].last - cases[c].first + 1 : 0;
            if (hark_page_count(page) != n)
                fail_msg("after %llu before %llu: %zu events, expected %llu",
                         (unsigned long long)cases[c].after, (unsigned long long)cases[c].before,
                         hark_page_count(page), (unsigned long long)n);
            for (uint64_t i = 0; i < n; i++)
                assert_u64(seq_at(page, i), down ? cases[c].last - i : cases[c].first + i);
            uint64_t from, to;
            assert_false(hark_page_gap(page, &from, &to));
            assert_u64(hark_page_next(page), 0);
            hark_page_free(page);
        }
}

static void test_a_page_keeps_to_its_range(void **state)
{
    publish_many(*state, "t", 50);
    in_both_places(*state, check_ranges);
}

static void publish_mixed(fixture *f)
{
    static const char *const types[] = {"order:created", "order:paid", "user:created",
                                        "dead_letter",   "hark:stats", "rare"};
    for (size_t i = 0; i < 600; i++) {
        char subject[16];
        (void)snprintf(subject, sizeof subject, "s%zu", i % 7);
        const char *type = types[i == 333 ? 5 : i % 5];
        assert_ok(f, hark_publish(f->bus,
                                  HARK_OPTS(hark_event_spec, .type = type,
                                            .subject = i % 7 ? subject : NULL),
                                  NULL));
    }
}

/* Reads everything that matches, in small pages, both ways; compares with a look at each event. */
static void check_filter(fixture *f, const char *pattern, const char *subject)
{
    hark_page *all = read_page(f, READ(.limit = 10000)),
              *own = read_page(f, READ(.type = "hark:**", .limit = 10000)),
              *dead = read_page(f, READ(.type = "dead_letter", .limit = 10000));
    hark_page *sources[] = {all, own, dead};
    size_t expected = 0, up = 0, down = 0;
    for (int k = 0; k < 3; k++)
        for (size_t i = 0; i < hark_page_count(sources[k]); i++) {
            const hark_event *e = hark_page_event(sources[k], i);
            const char *s = hark_event_subject(e);
            expected += hark_pattern_match(pattern ? pattern : "**", hark_event_type(e)) &&
                        (!subject || (s && strcmp(s, subject) == 0));
        }
    for (uint64_t after = 0, last = 0, more = 1; more;) {
        hark_page *page =
            read_page(f, READ(.type = pattern, .subject = subject, .after = after, .limit = 7));
        for (size_t i = 0; i < hark_page_count(page); i++, up++) {
            const hark_event *e = hark_page_event(page, i);
            assert_true(hark_event_sequence(e) > last);
            last = hark_event_sequence(e);
            assert_true(hark_pattern_match(pattern ? pattern : "**", hark_event_type(e)));
        }
        more = after = hark_page_next(page);
        hark_page_free(page);
    }
    for (uint64_t before = 0, last = UINT64_MAX, more = 1; more;) {
        hark_page *page = read_page(f, READ(.type = pattern, .subject = subject, .before = before,
                                            .limit = 7, .descending = 1));
        for (size_t i = 0; i < hark_page_count(page); i++, down++) {
            assert_true(seq_at(page, i) < last);
            last = seq_at(page, i);
        }
        more = before = hark_page_next(page);
        hark_page_free(page);
    }
    if (up != expected || down != expected)
        fail_msg("type %s subject %s: %zu up, %zu down, expected %zu", pattern ? pattern : "-",
                 subject ? subject : "-", up, down, expected);
    for (int k = 0; k < 3; k++)
        hark_page_free(sources[k]);
}

static void check_filters(fixture *f)
{
    static const char *const patterns[] = {NULL,        "**",   "order:*", "order:paid",
                                           "*:created", "rare", "nothing", "dead_letter",
                                           "hark:**",   "*"};
    static const char *const subjects[] = {NULL, "s1", "s6", "nobody"};
    for (size_t i = 0; i < HK_COUNTOF(patterns); i++)
        for (size_t k = 0; k < HK_COUNTOF(subjects); k++)
            check_filter(f, patterns[i], subjects[k]);
}

static void test_types_and_subjects_choose(void **state)
{
    publish_mixed(*state);
    in_both_places(*state, check_filters);
}

static void check_own_types(fixture *f)
{
    hark_page *page = read_page(f, NULL);
    assert_u64(hark_page_count(page), 1);
    hark_page_free(page);
    page = read_page(f, READ(.type = "hark:*"));
    assert_u64(hark_page_count(page), 1);
    hark_page_free(page);
    page = read_page(f, READ(.type = "dead_letter"));
    assert_u64(hark_page_count(page), 1);
    hark_page_free(page);
}

static void test_harks_own_types_are_read_only_where_named(void **state)
{
    publish(*state, "t");
    publish(*state, "hark:x");
    publish(*state, "dead_letter");
    in_both_places(*state, check_own_types);
}

static void check_times(fixture *f)
{
    hark_page *all = read_page(f, READ(.limit = 10000));
    size_t n = hark_page_count(all);
    for (size_t i = 1; i < n; i++)
        assert_true(hark_event_recorded_ns(hark_page_event(all, i)) >=
                    hark_event_recorded_ns(hark_page_event(all, i - 1)));
    int64_t from = hark_event_recorded_ns(hark_page_event(all, n / 3));
    int64_t to = hark_event_recorded_ns(hark_page_event(all, 2 * n / 3)) + 1;
    size_t expected = 0;
    for (size_t i = 0; i < n; i++) {
        int64_t at = hark_event_recorded_ns(hark_page_event(all, i));
        expected += at >= from && at < to;
    }
    for (int64_t down = 0; down < 2; down++) {
        hark_page *page =
            read_page(f, READ(.from_ns = from, .to_ns = to, .limit = 10000, .descending = down));
        assert_u64(hark_page_count(page), expected);
        hark_page_free(page);
        page = read_page(f, READ(.to_ns = 1, .descending = down));
        assert_u64(hark_page_count(page), 0);
        hark_page_free(page);
        page = read_page(f, READ(.from_ns = hk_wall_ns() + 1000000000000, .descending = down));
        assert_u64(hark_page_count(page), 0);
        hark_page_free(page);
    }
    hark_page_free(all);
}

static void test_recorded_time_never_decreases_and_chooses(void **state)
{
    for (int i = 0; i < 30; i++)
        publish_many(*state, "t", 10);
    in_both_places(*state, check_times);
}

static void check_bytes(fixture *f)
{
    for (int64_t down = 0; down < 2; down++) {
        hark_page *page = read_page(f, READ(.limit_bytes = 10000, .descending = down));
        assert_in_range(hark_page_count(page), 1, 5);
        assert_u64(seq_at(page, 0), down ? 20 : 1);
        assert_true(hark_page_next(page) != 0);
        hark_page_free(page);
        page = read_page(f, READ(.limit_bytes = 1, .descending = down)); /* never none */
        assert_u64(hark_page_count(page), 1);
        hark_page_free(page);
        page = read_page(f, READ(.descending = down));
        assert_u64(hark_page_count(page), 20);
        hark_page_free(page);
    }
    size_t seen = 0;
    for (uint64_t after = 0, more = 1; more;) {
        hark_page *page = read_page(f, READ(.after = after, .limit_bytes = 10000));
        for (size_t i = 0; i < hark_page_count(page); i++)
            assert_u64(seq_at(page, i), ++seen);
        more = after = hark_page_next(page);
        hark_page_free(page);
    }
    assert_u64(seen, 20);
}

static void test_a_page_is_bounded_in_bytes(void **state)
{
    static char data[2500];
    fixture *f = *state;
    for (int i = 0; i < 20; i++)
        assert_ok(f, hark_publish(f->bus,
                                  HARK_OPTS(hark_event_spec, .type = "t", .data = data,
                                            .data_len = sizeof data,
                                            .datacontenttype = "application/octet-stream"),
                                  NULL));
    in_both_places(f, check_bytes);
}

static void test_bad_questions_are_refused(void **state)
{
    fixture *f = *state;
    hark_page *page = NULL;
    assert_err(f, HARK_EINVAL, hark_read(f->bus, READ(.type = "a:**:b"), &page, &f->ei));
    assert_err(f, HARK_EINVAL, hark_read(f->bus, READ(.limit = 10001), &page, &f->ei));
    assert_says(f, "10001");
    assert_err(f, HARK_EINVAL, hark_read(f->bus, &(hark_read_opts){.limit = 1}, &page, &f->ei));
    assert_null(page);
    hark_page_free(NULL);
}

static void test_what_is_no_longer_in_the_log_is_an_explicit_gap(void **state)
{
    fixture *f = *state;
    uint64_t from = 0, to = 0;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    publish_many(f, "t", 500);
    hark_page *page = read_page(f, READ(.after = 10, .limit = 20));
    if (f->store->keeps_all) {
        assert_false(hark_page_gap(page, &from, &to));
        assert_u64(seq_at(page, 0), 11);
    } else {
        assert_true(hark_page_gap(page, &from, &to));
        assert_u64(from, 11);
        assert_u64(to, 500 - 64);
        assert_u64(seq_at(page, 0), to + 1);
    }
    assert_u64(hark_page_count(page), 20);
    uint64_t next = hark_page_next(page);
    hark_page_free(page);
    page = read_page(f, READ(.after = next, .limit = 20)); /* told once */
    assert_false(hark_page_gap(page, &from, &to));
    assert_u64(seq_at(page, 0), next + 1);
    hark_page_free(page);
    page = read_page(f, READ(.after = 10, .before = 100));
    assert_int_equal(hark_page_gap(page, &from, &to), !f->store->keeps_all);
    if (!f->store->keeps_all)
        assert_u64(to, 99); /* of what was asked for */
    hark_page_free(page);
}

/* ---- cursors and facts -------------------------------------------------------------------------- */

static void test_a_cursor_comes_back_as_the_sequence(void **state)
{
    fixture *f = *state;
    static const uint64_t seqs[] = {0, 1, 42, HARK_SEQ_MAX};
    char text[HARK_CURSOR_TEXT];
    for (size_t i = 0; i < HK_COUNTOF(seqs); i++) {
        uint64_t seq = 7;
        hark_cursor_format(f->bus, seqs[i], text);
        assert_ok(f, hark_cursor_parse(f->bus, text, &seq, &f->ei));
        assert_u64(seq, seqs[i]);
        if (f->store->survives) {
            reopen_bus(f, NULL);
            assert_ok(f, hark_cursor_parse(f->bus, text, &seq, &f->ei));
        }
    }
}

static void test_a_cursor_of_another_log_or_epoch_is_a_gap(void **state)
{
    fixture *f = *state;
    char text[HARK_CURSOR_TEXT], other[HARK_CURSOR_TEXT + 8];
    uint64_t seq = 7;
    hark_cursor_format(f->bus, 5, text);
    memcpy(other, text, sizeof text);
    other[0] = text[0] == '0' ? '1' : '0';
    assert_err(f, HARK_EGAP, hark_cursor_parse(f->bus, other, &seq, &f->ei));
    assert_says(f, "another log or epoch");
    (void)snprintf(other, sizeof other, "%.8s.%s", text, "99-5");
    assert_err(f, HARK_EGAP, hark_cursor_parse(f->bus, other, &seq, &f->ei));
    assert_u64(seq, 7);
}

static void test_what_is_no_cursor_is_refused(void **state)
{
    fixture *f = *state;
    char good[HARK_CURSOR_TEXT], text[HARK_CURSOR_TEXT + 40];
    uint64_t seq = 7;
    hark_cursor_format(f->bus, 5, good);
    static const char *const bad[] = {"",
                                      "5",
                                      "x",
                                      "........-.",
                                      "0123456z.1-5",
                                      "01234567-1.5",
                                      "01234567.1-",
                                      "01234567.-5",
                                      "01234567.1-9007199254740992",
                                      "01234567.1-5 ",
                                      "01234567.1--5",
                                      "01234567.+1-5",
                                      "0123456.11-5",
                                      "01234567.1-99999999999999999999999"};
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        hark_err err = hark_cursor_parse(f->bus, bad[i], &seq, &f->ei);
        if (err != HARK_ESYNTAX)
            fail_msg("'%s': %s", bad[i], hark_err_name(err));
    }
    (void)snprintf(text, sizeof text, "%s1234567890123456789012", good);
    assert_err(f, HARK_ESYNTAX, hark_cursor_parse(f->bus, text, &seq, &f->ei));
    assert_u64(seq, 7);
}

static void test_facts_tell_of_the_log(void **state)
{
    fixture *f = *state;
    hark_bus_info info = {.size = sizeof info}, then;
    assert_ok(f, hark_bus_info_get(f->bus, &info));
    assert_string_equal(info.store, f->store->name);
    assert_int_equal(strlen(info.log_id), 32);
    assert_int_equal(info.durability, f->store->durability);
    assert_u64(info.first_sequence + info.last_sequence, 0);
    assert_true(info.epoch >= 1 && info.format >= 1);
    assert_false(info.read_only);
    publish_many(f, "t", 10);
    assert_ok(f, hark_bus_info_get(f->bus, &info));
    assert_u64(info.first_sequence, 1);
    assert_u64(info.last_sequence, 10);
    then = info;
    reopen_bus(f, NULL);
    assert_ok(f, hark_bus_info_get(f->bus, &info));
    assert_int_equal(strcmp(info.log_id, then.log_id) == 0, f->store->survives);
    assert_u64(info.last_sequence, f->store->survives ? 10 : 0);
    info.size = 8;
    assert_int_equal(hark_bus_info_get(f->bus, &info), HARK_EINVAL);
}

static const struct CMUnitTest tests[] = {
    TEST(test_the_log_is_read_page_by_page_both_ways),
    TEST(test_a_page_keeps_to_its_range),
    TEST(test_types_and_subjects_choose),
    TEST(test_harks_own_types_are_read_only_where_named),
    TEST(test_recorded_time_never_decreases_and_chooses),
    TEST(test_a_page_is_bounded_in_bytes),
    TEST(test_bad_questions_are_refused),
    TEST(test_what_is_no_longer_in_the_log_is_an_explicit_gap),
    TEST(test_a_cursor_comes_back_as_the_sequence),
    TEST(test_a_cursor_of_another_log_or_epoch_is_a_gap),
    TEST(test_what_is_no_cursor_is_refused),
    TEST(test_facts_tell_of_the_log),
};
CONFORMANCE_MAIN("read")
