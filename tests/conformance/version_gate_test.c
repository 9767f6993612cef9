/* The version gate: what is stored is listed by type and version, and what the program has no path
 * from is named. */
#include "grown.h"

typedef struct list {
    size_t n, max;
    char text[512]; /* "o 1: 2+0+0 reads 3;" for each */
    char why[256];  /* of the last one that is not readable */
    int64_t first_ns, last_ns;
} list;

static bool add_line(const hark_version_info *v, void *ud)
{
    list *x = ud;
    size_t at = strlen(x->text);
    (void)snprintf(x->text + at, sizeof x->text - at, "%s %d: %d+%d+%d reads %d%s;", v->type,
                   (int)v->version, (int)v->events, (int)v->dead_letters, (int)v->schedules,
                   (int)v->reads, v->readable ? "" : " not");
    if (!v->readable)
        (void)snprintf(x->why, sizeof x->why, "%s", v->why);
    else
        assert_string_equal(v->why, "");
    x->first_ns = v->first_ns;
    x->last_ns = v->last_ns;
    return ++x->n != x->max;
}

static list listed(fixture *f)
{
    list x = {0};
    assert_ok(f, hark_versions(f->bus, add_line, &x, &f->ei));
    return x;
}

static void test_every_version_in_the_log_is_listed_with_its_count_and_times(void **state)
{
    fixture *f = *state;
    int64_t before = hk_wall_ns();
    put(f, 2, "k", "x");
    put(f, 1, "k", "x");
    put(f, 1, "k", "x");
    publish(f, "a");
    assert_ok(f, hark_schedule(f->bus, HARK_OPTS(hark_event_spec, .type = "p", .dataversion = 4),
                               hark_after(HOUR_MS), NULL, &f->ei));
    list x = listed(f);
    assert_string_equal(x.text, "a 1: 1+0+0 reads 0;o 1: 2+0+0 reads 0;o 2: 1+0+0 reads 0;"
                                "p 4: 0+0+1 reads 0;");
    list two = {.max = 3};
    assert_ok(f, hark_versions(f->bus, add_line, &two, &f->ei));
    assert_u64(two.n, 3);
    assert_true(two.first_ns >= before && two.first_ns <= two.last_ns);
    assert_true(two.last_ns <= hk_wall_ns());
    assert_err(f, HARK_EINVAL, hark_versions(f->bus, NULL, NULL, &f->ei));
}

static void test_the_gate_passes_when_everything_has_a_path(void **state)
{
    fixture *f = *state;
    list bad = {0};
    assert_ok(f, hark_versions_check(f->bus, add_line, &bad, &f->ei));
    put(f, 1, "k", "x");
    put(f, 2, "k", "x");
    put(f, 3, "k", "x");
    publish(f, "unknown");
    assert_ok(f, hark_versions_check(f->bus, NULL, NULL, &f->ei));
    grow_to_3(f, growers_anew());
    assert_ok(f, hark_versions_check(f->bus, add_line, &bad, &f->ei));
    assert_u64(bad.n, 0);
    assert_string_equal(listed(f).text, "o 1: 1+0+0 reads 3;o 2: 1+0+0 reads 3;o 3: 1+0+0 reads 3;"
                                        "unknown 1: 1+0+0 reads 0;");
}

static hark_verdict reject(hark_delivery *d, void *ud)
{
    (void)d, (void)ud;
    return HARK_REJECT;
}

static bool count_letter(const hark_dead_letter *l, void *ud)
{
    (void)l;
    ++*(size_t *)ud;
    return true;
}

static size_t letters(fixture *f)
{
    size_t n = 0;
    assert_ok(f, hark_dead_letters(f->bus, NULL, count_letter, &n, &f->ei));
    return n;
}

static void test_the_gate_fails_with_type_version_and_counts(void **state)
{
    fixture *f = *state;
    hark_sub *s;
    list bad = {0};
    assert_ok(f, hark_subscribe(f->bus, "o", reject, NULL,
                                CONSUMER(.workers = 1, .dataversion = HARK_VERSION_STORED), &s,
                                &f->ei));
    put(f, 1, "k", "x");
    WAIT_UNTIL(letters(f) == 1);
    end_sub(s);
    for (int i = 0; i < 11; i++)
        put(f, 1, "k", "x");
    put(f, 2, "k", "x");
    assert_ok(f, grower_add(f, &growers_anew()[0], 2, 3));
    assert_err(f, HARK_EUPCAST, hark_versions_check(f->bus, add_line, &bad, &f->ei));
    assert_string_equal(
        f->ei.text, "o version 1: 12 events and 1 dead letter in the log, and no upcaster leads "
                    "from version 1 to version 3; add one from 1 to 2");
    assert_string_equal(bad.text, "o 1: 12+1+0 reads 3 not;");
    assert_string_equal(bad.why,
                        "no upcaster leads from version 1 to version 3; add one from 1 to 2");
    assert_ok(f, grower_add(f, &growers[1], 1, 2));
    assert_ok(f, hark_versions_check(f->bus, NULL, NULL, &f->ei));
}

static void test_the_gate_says_how_many_more_there_are(void **state)
{
    fixture *f = *state;
    list bad = {.max = 1};
    put(f, 1, "k", "x");
    put(f, 4, "k", "x");
    put(f, 5, "k", "x");
    assert_ok(f, hark_schedule(f->bus, HARK_OPTS(hark_event_spec, .type = "o"), hark_after(HOUR_MS),
                               NULL, &f->ei));
    assert_ok(f, grower_add(f, &growers_anew()[0], 2, 3));
    assert_err(f, HARK_EUPCAST, hark_versions_check(f->bus, add_line, &bad, &f->ei));
    assert_string_equal(f->ei.text,
                        "o version 1: 1 event and 1 schedule in the log, and no upcaster "
                        "leads from version 1 to version 3; add one from 1 to 2; and 2 "
                        "more like it");
    assert_u64(bad.n, 1);
}

static void test_what_is_newer_does_not_pass_the_gate(void **state)
{
    fixture *f = *state;
    grow_to_3(f, growers_anew());
    put(f, 5, "k", "x");
    assert_err(f, HARK_EUPCAST, hark_versions_check(f->bus, NULL, NULL, &f->ei));
    assert_string_equal(f->ei.text, "o version 5: 1 event in the log, and it is newer than version "
                                    "3, the newest that this program knows");
}

static void test_what_is_only_scheduled_counts_too(void **state)
{
    fixture *f = *state;
    assert_ok(f, hark_schedule(f->bus, HARK_OPTS(hark_event_spec, .type = "o", .dataversion = 1),
                               hark_after(HOUR_MS), NULL, &f->ei));
    assert_ok(f, grower_add(f, &growers_anew()[0], 2, 3));
    assert_err(f, HARK_EUPCAST, hark_versions_check(f->bus, NULL, NULL, &f->ei));
    assert_says(f, "o version 1: 1 schedule in the log");
}

static void test_the_gate_finds_what_another_program_left(void **state)
{
    fixture *f = *state;
    if (!f->store->survives)
        return;
    grow_to_3(f, growers_anew());
    put(f, 1, "k", "x");
    put(f, 3, "k", "x");
    reopen_bus(f, NULL);
    assert_ok(f, hark_versions_check(f->bus, NULL, NULL, &f->ei));
    assert_ok(f, grower_add(f, &growers_anew()[0], 2, 3));
    assert_err(f, HARK_EUPCAST, hark_versions_check(f->bus, NULL, NULL, &f->ei));
    assert_says(f, "o version 1: 1 event in the log");
}

static const struct CMUnitTest tests[] = {
    TEST(test_every_version_in_the_log_is_listed_with_its_count_and_times),
    TEST(test_the_gate_passes_when_everything_has_a_path),
    TEST(test_the_gate_fails_with_type_version_and_counts),
    TEST(test_the_gate_says_how_many_more_there_are),
    TEST(test_what_is_newer_does_not_pass_the_gate),
    TEST(test_what_is_only_scheduled_counts_too),
    TEST(test_the_gate_finds_what_another_program_left),
};

CONFORMANCE_MAIN("version_gate")
