/* Retention: what goes is old enough or beyond the newest so many, and what it leaves behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/trim_fixture_i.h"

/* ---- what goes ------------------------------------------------------------------------------- */

static void test_what_is_older_goes(void **state)
{
    fixture *f = *state;
    add_types(f, "abaab");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .before_ns = recorded(f, 4)}), 2);
    assert_reads(f, "2 4 5 end", .limit = 9);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "**", .before_ns = recorded(f, 5)}), 2);
    assert_reads(f, "5 end", .limit = 9);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "**", .before_ns = INT64_MAX}), 1);
    assert_reads(f, "end", .limit = 9);
}

static void test_the_newest_so_many_of_all_types_of_the_pattern_stay(void **state)
{
    fixture *f = *state;
    add_types(f, "abcabcab");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .keep = 8}), 0);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .keep = 2}), 1);
    assert_reads(f, "2 3 4 5 6 7 8 end", .limit = 9);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .keep = 3}), 4);
    assert_reads(f, "6 7 8 end", .limit = 9);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .keep = 3}), 0);
    add_types(f, "bb");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .keep = 3}), 2);
    assert_reads(f, "8 9 10 end", .limit = 9);
}

static void test_with_both_limits_what_is_over_either_goes(void **state)
{
    fixture *f = *state;
    add_types(f, "aaaaaa");
    int64_t third = recorded(f, 3);
    hark_store_trim t = {.pattern = "a", .keep = 5, .before_ns = third};
    assert_int_equal(trim(f, t), 2);
    t.keep = 1;
    assert_int_equal(trim(f, t), 3);
    assert_reads(f, "6 end", .limit = 9);
}

static void test_without_a_limit_nothing_goes(void **state)
{
    fixture *f = *state;
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .keep = 1}), 0);
    add_types(f, "aaa");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a"}), 0);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "x", .keep = 1}), 0);
}

static void test_own_types_go_only_where_they_are_named(void **state)
{
    fixture *f = *state;
    add_types(f, "aa");
    begin(f);
    hark_event *e;
    hark_store_append item;
    e = simple_event("dead_letter", "own");
    item = (hark_store_append){.event = e, .digest = {1}};
    assert_ok(f, append(f, &item, 1));
    (void)hark_event_unref(e);
    commit(f);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "**", .before_ns = INT64_MAX}), 2);
    assert_reads(f, "3 end", .limit = 9);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "dead_letter", .before_ns = INT64_MAX}),
                     1);
}

/* Every slice with no time at all: each must get on, and together they do what one call does. */
static void test_slices_however_short_come_to_the_end(void **state)
{
    fixture *f = *state;
    uint64_t removed = 0;
    begin(f);
    for (int i = 0; i < 3000; i++) {
        char type[8], id[16];
        (void)snprintf(type, sizeof type, "t%d", i % 3);
        (void)snprintf(id, sizeof id, "%d", i);
        (void)add(f, type, id);
    }
    commit(f);
    hark_store_trim t = {.pattern = "*", .keep = 1000, .ret_more = 1};
    for (int i = 0; t.ret_more; i++) {
        assert_true(i < 1000);
        assert_ok(f, trim_once(f, &t));
        removed += t.ret_removed;
        assert_true(t.ret_removed <= 3 * 128);
    }
    assert_int_equal(removed, 2000);
    assert_int_equal(first_sequence(f), 2001);
}

/* ---- against a model ------------------------------------------------------------------------- */

enum { MODEL_MAX = 600 };

typedef struct model {
    char type[MODEL_MAX + 1]; /* by sequence; 0 = gone */
    uint64_t n;
    unsigned seed;
} model;

static unsigned pick(model *m, unsigned n)
{
    m->seed = m->seed * 1103515245 + 12345;
    return (m->seed >> 16) % n;
}

static bool of(const char *pattern, char type)
{
    return type && (strcmp(pattern, "*") == 0 || *pattern == type);
}

/* Events before the sequence `young` are too old. */
static uint64_t model_trim(model *m, const char *pattern, uint64_t keep, uint64_t young)
{
    uint64_t removed = 0, kept = 0;
    for (uint64_t i = m->n; i > 0; i--) {
        if (!of(pattern, m->type[i]))
            continue;
        if (kept++ < keep && i >= young)
            continue;
        m->type[i] = 0;
        removed++;
    }
    return removed;
}

static void compare(fixture *f, const model *m)
{
    uint64_t first = 0, at = 0;
    page pg = {0};
    for (uint64_t i = m->n; i > 0; i--)
        first = m->type[i] ? i : first;
    assert_int_equal(first_sequence(f), first);
    assert_int_equal(last_sequence(f), m->n);
    for (bool end = false; !end; end = pg.p.end) {
        assert_ok(f, read_into(f, &pg, (hark_store_query){.after = at}));
        for (size_t i = 0; i < pg.p.n; i++) {
            uint64_t seq = hark_event_sequence(pg.events[i]);
            while (++at < seq)
                assert_int_equal(m->type[at], 0);
            assert_int_equal(m->type[seq], hark_event_type(pg.events[i])[0]);
        }
    }
    assert_int_equal(pg.p.covered, m->n);
    drop_page(&pg);
}

static void model_step(fixture *f, model *m)
{
    static const char *const patterns[] = {"*", "a", "b"};
    const char *pattern = patterns[pick(m, 3)];
    uint64_t keep = 1 + pick(m, 3) * 10, removed = 0, young = 0;
    char letters[24] = "";
    for (size_t i = 0, n = pick(m, 12); i < n && m->n < MODEL_MAX; i++)
        letters[i] = m->type[++m->n] = "aaabc"[pick(m, 5)];
    add_types(f, letters);
    if (pick(m, 6) == 0)
        reopen_log(f);
    hark_store_trim t = {.pattern = pattern, .keep = keep, .ret_more = 1};
    t.budget_ns = pick(m, 2) ? LONG : 0;
    if (m->n && m->type[m->n - m->n / 10] && pick(m, 4) == 0)
        young = m->n - m->n / 10;
    if (young)
        t.before_ns = recorded(f, young);
    for (; t.ret_more; removed += t.ret_removed)
        assert_ok(f, trim_once(f, &t));
    assert_int_equal(removed, model_trim(m, pattern, keep, young));
}

static void test_counts_are_exact_whatever_rules_work_side_by_side(void **state)
{
    fixture *f = *state;
    for (unsigned seed = 1; seed <= 4; seed++) {
        model m = {.seed = seed};
        print_message("seed %u\n", seed);
        for (int i = 0; i < 60; i++) {
            model_step(f, &m);
            compare(f, &m);
        }
        (void)tear_down(state);
        (void)set_up(state);
        f = *state;
    }
}

/* ---- what is left behind --------------------------------------------------------------------- */

static void test_sequences_and_times_go_on_after_the_newest_has_gone(void **state)
{
    fixture *f = *state;
    add_types(f, "aaa");
    int64_t last = recorded(f, 3);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .before_ns = INT64_MAX}), 3);
    assert_int_equal(first_sequence(f), 0);
    assert_int_equal(last_sequence(f), 3);
    reopen_log(f);
    assert_int_equal(last_sequence(f), 3);
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = 1}));
    assert_int_equal(pg.p.gap, 3);
    assert_int_equal(pg.p.covered, 3);
    assert_int_equal(number_sql(f->path, "SELECT value FROM hark_meta WHERE key = 'last_recorded'"),
                     last);
    add_types(f, "b");
    assert_int_equal(first_sequence(f), 4);
    assert_reads(f, "4 end", .limit = 9);
}

/* Appends one event a letter and removes those of a pattern, in one group. */
static void add_and_trim(fixture *f, const char *letters, const char *pattern)
{
    hark_store_trim t = {
        .size = sizeof t, .pattern = pattern, .before_ns = INT64_MAX, .budget_ns = LONG};
    uint64_t last = last_sequence(f);
    begin(f);
    for (; *letters; letters++) {
        char type[2] = {*letters, '\0'}, id[24];
        (void)snprintf(id, sizeof id, "at %d", (int)++last);
        (void)add(f, type, id);
    }
    assert_ok(f, OPS.trim(f->store, &t, &f->ei));
    commit(f);
}

static void test_the_first_is_known_when_a_group_appends_and_removes(void **state)
{
    fixture *f = *state;
    add_types(f, "ab");
    add_and_trim(f, "a", "*"); /* everything, what was appended too */
    assert_int_equal(first_sequence(f), 0);
    add_and_trim(f, "ab", "a");
    assert_int_equal(first_sequence(f), 5);
    assert_reads(f, "5 end", .limit = 9);
    add_and_trim(f, "", "*");
    add_and_trim(f, "a", "a");
    assert_int_equal(first_sequence(f), 0);
    assert_int_equal(last_sequence(f), 6);
    reopen_log(f);
    assert_int_equal(first_sequence(f), 0);
    assert_int_equal(last_sequence(f), 6);
    add_and_trim(f, "a", "b");
    assert_int_equal(first_sequence(f), 7);
}

static void test_the_newest_of_the_log_may_go_while_others_stay(void **state)
{
    fixture *f = *state;
    add_types(f, "bbaa");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .before_ns = INT64_MAX}), 2);
    page pg = {0};
    assert_ok(f, read_into(f, &pg, (hark_store_query){.after = 1}));
    assert_int_equal(pg.p.n, 1);
    assert_int_equal(pg.p.covered, 4);
    assert_int_equal(pg.p.end, 1);
    drop_page(&pg);
    reopen_log(f);
    add_types(f, "a");
    assert_reads(f, "1 2 5 end", .limit = 9);
}

static void test_a_rollback_undoes_it_and_it_comes_out_the_same_again(void **state)
{
    fixture *f = *state;
    add_types(f, "ababab");
    hark_store_trim t = {.size = sizeof t, .pattern = "*", .keep = 2, .budget_ns = LONG};
    begin(f);
    assert_ok(f, OPS.trim(f->store, &t, &f->ei));
    assert_int_equal(first_sequence(f), 1); /* others see nothing of it yet */
    OPS.rollback(f->store);
    assert_int_equal(first_sequence(f), 1);
    assert_reads(f, "1 2 3 4 5 6 end", .limit = 9);
    assert_int_equal(trim(f, t), 4);
    assert_int_equal(first_sequence(f), 5);
}

static void test_a_subject_keeps_counting_its_versions(void **state)
{
    fixture *f = *state;
    add_subject(f, "a", "s", "1");
    add_subject(f, "b", "s", "2");
    add_subject(f, "b", "s", "3");
    add_subject(f, "a", "other", "4");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "b", .before_ns = INT64_MAX}), 2);
    add_subject(f, "a", "s", "5");
    assert_int_equal(number_sql(f->path, "SELECT subject_version FROM hark_events WHERE id = '5'"),
                     4);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .before_ns = INT64_MAX}), 3);
    reopen_log(f);
    add_subject(f, "a", "s", "6");
    add_subject(f, "a", "other", "7");
    add_subject(f, "a", "new", "8");
    assert_int_equal(number_sql(f->path, "SELECT subject_version FROM hark_events WHERE id = '6'"),
                     5);
    assert_int_equal(number_sql(f->path, "SELECT subject_version FROM hark_events WHERE id = '7'"),
                     2);
    assert_int_equal(number_sql(f->path, "SELECT subject_version FROM hark_events WHERE id = '8'"),
                     1);
}

static void test_the_id_of_a_removed_event_is_free(void **state)
{
    fixture *f = *state;
    begin(f);
    (void)add(f, "a", "again");
    commit(f);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .before_ns = INT64_MAX}), 1);
    begin(f);
    assert_int_equal(add(f, "a", "again"), 2);
    commit(f);
}

static void test_attempts_go_with_their_event_but_not_those_of_a_dead_letter(void **state)
{
    fixture *f = *state;
    add_types(f, "aaa");
    run_sql(
        f->path,
        "INSERT INTO hark_attempts(consumer_id, generation, seq, number, started, ended, outcome) "
        "VALUES(1,1,1,1,0,0,'retry'), (1,1,2,1,0,0,'reject'), (2,1,2,1,0,0,'retry'), "
        "(1,1,3,1,0,0,'retry');"
        "INSERT INTO hark_dead_letters(consumer_id, generation, seq, reason, attempts, first, "
        "dead, state, recorded, type, envelope) VALUES(1,1,2,'rejected',1,0,0,1,0,'a','{}')");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .keep = 1}), 2);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_attempts"), 2);
    assert_int_equal(
        number_sql(f->path, "SELECT count(*) FROM hark_attempts WHERE consumer_id = 1 AND seq = 2"),
        1);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_is_older_goes),
        TEST(test_the_newest_so_many_of_all_types_of_the_pattern_stay),
        TEST(test_with_both_limits_what_is_over_either_goes),
        TEST(test_without_a_limit_nothing_goes),
        TEST(test_own_types_go_only_where_they_are_named),
        TEST(test_slices_however_short_come_to_the_end),
        TEST(test_counts_are_exact_whatever_rules_work_side_by_side),
        TEST(test_sequences_and_times_go_on_after_the_newest_has_gone),
        TEST(test_the_first_is_known_when_a_group_appends_and_removes),
        TEST(test_the_newest_of_the_log_may_go_while_others_stay),
        TEST(test_a_rollback_undoes_it_and_it_comes_out_the_same_again),
        TEST(test_a_subject_keeps_counting_its_versions),
        TEST(test_the_id_of_a_removed_event_is_free),
        TEST(test_attempts_go_with_their_event_but_not_those_of_a_dead_letter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
