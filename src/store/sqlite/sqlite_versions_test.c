/* The counts of types and versions are exact as of the last commit: through groups that are rolled
 * back, parts that are undone, retention, and the death of the process at any moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/trim_fixture_i.h"

/* "a 1: 3; ", and dead letters if there are any: "a 1: 3 (1); ". */
static bool say_version(void *ud, const hark_store_version *v)
{
    hk_buf_addf(ud, "%s %d: %d", v->type, (int)v->version, (int)v->events);
    if (v->dead_letters)
        hk_buf_addf(ud, " (%d)", (int)v->dead_letters);
    hk_buf_adds(ud, "; ");
    return true;
}

#define assert_versions(f, expected)                                                               \
    do {                                                                                           \
        hk_buf text_ = {0};                                                                        \
        assert_ok(f, OPS.versions((f)->store, say_version, &text_, &(f)->ei));                     \
        assert_string_equal(text_.len ? text_.data : "", expected);                                \
        hk_buf_free(&text_);                                                                       \
    } while (0)

static hark_event *versioned(const char *type, int64_t version, const char *id)
{
    return event_of(HARK_OPTS(hark_event_spec, .type = type, .id = id, .source = "/test",
                              .dataversion = version));
}

static void add_version(fixture *f, const char *type, int64_t version)
{
    hark_store_append a = item(versioned(type, version, NULL), 1);
    assert_ok(f, append(f, &a, 1));
    drop_items(&a, 1);
}

static void commit_version(fixture *f, const char *type, int64_t version)
{
    begin(f);
    add_version(f, type, version);
    commit(f);
}

/* What a process that is killed now leaves, in place of this one's log. */
static void die(fixture *f)
{
    char command[400];
    (void)snprintf(command, sizeof command, "cp '%s' '%s/x' && cp '%s-wal' '%s/x-wal'", f->path,
                   f->dir, f->path, f->dir);
    assert_int_equal(system(command), 0);
    close_log(f);
    (void)snprintf(command, sizeof command, "mv '%s/x' '%s' && mv '%s/x-wal' '%s-wal'", f->dir,
                   f->path, f->dir, f->path);
    assert_int_equal(system(command), 0);
    assert_ok(f, open_log(f));
}

/* ---- what is undone -------------------------------------------------------------------------- */

static void test_a_group_that_is_rolled_back_counts_nothing(void **state)
{
    fixture *f = *state;
    commit_version(f, "a", 1);
    begin(f);
    add_version(f, "a", 1);
    add_version(f, "b", 1);
    OPS.rollback(f->store);
    assert_versions(f, "a 1: 1; ");
    commit_version(f, "c", 1); /* has the number that b had */
    assert_versions(f, "a 1: 1; c 1: 1; ");
}

static void test_a_group_shows_nothing_before_its_commit(void **state)
{
    fixture *f = *state;
    begin(f);
    add_version(f, "a", 1);
    assert_versions(f, "");
    commit(f);
    assert_versions(f, "a 1: 1; ");
}

static void test_a_refused_unit_counts_nothing(void **state)
{
    fixture *f = *state;
    begin(f);
    hark_store_append first = item(versioned("a", 1, "x"), 1);
    assert_ok(f, append(f, &first, 1));
    hark_store_append unit[] = {item(versioned("a", 1, NULL), 1), item(versioned("b", 7, NULL), 1),
                                item(versioned("a", 1, "x"), 2)};
    assert_err(f, HARK_ECONFLICT, append(f, unit, 3));
    add_version(f, "a", 1);
    commit(f);
    drop_items(&first, 1);
    drop_items(unit, 3);
    assert_versions(f, "a 1: 2; ");
    reopen_log(f);
    assert_versions(f, "a 1: 2; ");
}

static void savepoint(fixture *f, const char *sql)
{
    assert_ok(f, hk_conn_exec(&f->store->conn, sql, "testing", &f->ei));
}

static void test_a_part_of_a_group_that_is_undone_counts_nothing(void **state)
{
    fixture *f = *state;
    begin(f);
    add_version(f, "a", 1);
    hk_place before = f->store->now;
    size_t mark = hk_versions_mark(f->store);
    savepoint(f, "SAVEPOINT part");
    add_version(f, "a", 1);
    hk_place inner = f->store->now;
    size_t inner_mark = hk_versions_mark(f->store);
    savepoint(f, "SAVEPOINT inner");
    add_version(f, "a", 2);
    savepoint(f, "ROLLBACK TO inner; RELEASE inner");
    hk_versions_back(f->store, inner_mark);
    f->store->now = inner;
    add_version(f, "a", 3);
    savepoint(f, "ROLLBACK TO part; RELEASE part");
    hk_versions_back(f->store, mark);
    f->store->now = before;
    add_version(f, "a", 1);
    commit(f);
    assert_versions(f, "a 1: 2; ");
    reopen_log(f);
    assert_versions(f, "a 1: 2; ");
}

/* ---- retention ------------------------------------------------------------------------------- */

static bool note_times(void *ud, const hark_store_version *v)
{
    memcpy(ud, v, sizeof *v);
    return true;
}

static void bury_first(fixture *f)
{
    page pg = {0};
    hark_store_consumer c = {
        .size = sizeof c, .name = "c", .pattern = "none", .policy = "p", .start = 1};
    assert_ok(f, read_into(f, &pg, (hark_store_query){.limit = 1}));
    hark_store_dead dead = {.event = pg.events[0], .reason = "rejected", .dead_ns = 1};
    begin(f);
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    hark_store_save v = {
        .size = sizeof v, .consumer = c.ret_id, .generation = 1, .dead = &dead, .n_dead = 1};
    assert_ok(f, OPS.consumer_save(f->store, &v, &f->ei));
    commit(f);
    hark_store_consumer_clear(&c);
    drop_page(&pg);
}

static void test_retention_lowers_the_counts(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 6; i++)
        commit_version(f, i % 2 ? "a" : "b", 1 + i / 2);
    assert_versions(f, "a 1: 1; a 2: 1; a 3: 1; b 1: 1; b 2: 1; b 3: 1; ");
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .keep = 1}), 2);
    assert_versions(f, "a 3: 1; b 1: 1; b 2: 1; b 3: 1; ");
    reopen_log(f); /* now the table has counted all of them */
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "*", .keep = 1}), 3);
    assert_versions(f, "a 3: 1; ");
    commit_version(f, "b", 1);
    die(f);
    assert_versions(f, "a 3: 1; b 1: 1; ");
}

static void test_what_is_only_a_dead_letter_keeps_the_times_of_its_events(void **state)
{
    fixture *f = *state;
    hark_store_version v;
    commit_version(f, "a", 4);
    commit_version(f, "a", 4);
    int64_t first = recorded(f, 1), last = recorded(f, 2);
    bury_first(f);
    assert_int_equal(trim(f, (hark_store_trim){.pattern = "a", .before_ns = INT64_MAX}), 2);
    assert_versions(f, "a 4: 0 (1); ");
    assert_ok(f, OPS.versions(f->store, note_times, &v, &f->ei));
    assert_int_equal(v.first_ns, first);
    assert_int_equal(v.last_ns, last);
    commit_version(f, "a", 4);
    assert_ok(f, OPS.versions(f->store, note_times, &v, &f->ei));
    assert_int_equal(v.first_ns, first);
    assert_int_equal(v.last_ns, recorded(f, 3));
}

static void test_retention_that_is_rolled_back_leaves_the_counts(void **state)
{
    fixture *f = *state;
    hark_store_trim t = {.size = sizeof t, .pattern = "a", .keep = 1, .budget_ns = LONG};
    for (int i = 0; i < 4; i++)
        commit_version(f, "a", 1);
    begin(f);
    add_version(f, "a", 2);
    assert_ok(f, OPS.trim(f->store, &t, &f->ei));
    assert_int_equal(t.ret_removed, 4);
    OPS.rollback(f->store);
    assert_versions(f, "a 1: 4; ");
    begin(f);
    add_version(f, "a", 2);
    assert_ok(f, OPS.trim(f->store, &t, &f->ei));
    commit(f);
    assert_versions(f, "a 2: 1; ");
}

static void test_a_damaged_dead_letter_does_not_stand_in_the_way(void **state)
{
    fixture *f = *state;
    commit_version(f, "a", 1);
    commit_version(f, "b", 1);
    bury_first(f);
    run_sql(f->path, "UPDATE hark_dead_letters SET envelope = '{\"specversion\":'");
    assert_versions(f, "a 1: 1; b 1: 1; ");
}

/* ---- a crash at any moment ------------------------------------------------------------------- */

enum { TYPES = 3, VERSIONS = 3, GROUP = 300 };

typedef struct model {
    uint64_t n[TYPES][VERSIONS], group[TYPES][VERSIONS];
    unsigned seed;
} model;

static unsigned pick(model *m, unsigned n)
{
    m->seed = m->seed * 1103515245 + 12345;
    return (m->seed >> 16) % n;
}

static void add_group(fixture *f, model *m)
{
    static const char *const types[TYPES] = {"a", "b", "c"};
    memcpy(m->group, m->n, sizeof m->n);
    begin(f);
    for (int i = 0; i < GROUP; i++) {
        unsigned t = pick(m, TYPES), v = pick(m, VERSIONS);
        add_version(f, types[t], v + 1);
        m->group[t][v]++;
    }
}

static void assert_model(fixture *f, const model *m)
{
    hk_buf expected = {0};
    for (int t = 0; t < TYPES; t++)
        for (int v = 0; v < VERSIONS; v++)
            if (m->n[t][v])
                hk_buf_addf(&expected, "%c %d: %d; ", 'a' + t, v + 1, (int)m->n[t][v]);
    assert_versions(f, expected.len ? expected.data : "");
    hk_buf_free(&expected);
}

/* Of the events that are there, by a scan. */
static void scan(fixture *f, model *m)
{
    for (int t = 0; t < TYPES; t++)
        for (int v = 0; v < VERSIONS; v++) {
            char sql[200];
            (void)snprintf(sql, sizeof sql,
                           "SELECT count(*) FROM hark_events WHERE dataversion = %d AND type_id = "
                           "(SELECT id FROM hark_types WHERE name = '%c')",
                           v + 1, 'a' + t);
            m->n[t][v] = (uint64_t)number_sql(f->path, sql);
        }
}

static void step(fixture *f, model *m)
{
    add_group(f, m);
    if (pick(m, 4) == 0) {
        OPS.rollback(f->store);
        return;
    }
    commit(f);
    memcpy(m->n, m->group, sizeof m->n);
    if (pick(m, 6) == 0) {
        (void)trim(f, (hark_store_trim){.pattern = pick(m, 2) ? "*" : "b", .keep = 500});
        scan(f, m);
    }
}

static void test_counts_are_exact_whenever_the_process_dies(void **state)
{
    fixture *f = *state;
    model m = {.seed = 7};
    for (int i = 0; i < 60; i++) {
        step(f, &m);
        if (i % 3 == 0)
            assert_model(f, &m);
        if (pick(&m, 5) == 0)
            die(f);
        else if (pick(&m, 10) == 0)
            reopen_log(f);
    }
    assert_model(f, &m);
    scan(f, &m);
    assert_model(f, &m);
}

/* What is opened after a crash, and read at any time, has a bound. */
static void test_few_events_are_left_to_be_counted(void **state)
{
    fixture *f = *state;
    model m = {.seed = 3};
    uint64_t most = 0;
    for (int i = 0; i < 60; i++) {
        add_group(f, &m);
        commit(f);
        uint64_t left = f->store->now.last - f->store->tally.counted;
        most = left > most ? left : most;
        assert_int_equal(f->store->tally.counted,
                         number_sql(f->path, "SELECT value FROM hark_meta WHERE key = 'counted'"));
    }
    assert_true(most > 3000);
    assert_true(most < 4096);
    close_log(f);
    assert_int_equal(number_sql(f->path, "SELECT sum(count) FROM hark_versions"), 60 * GROUP);
    assert_ok(f, open_log(f));
    assert_int_equal(f->store->tally.n, 0);
}

/* Spoils the page that has the first event with this text in its data. */
static void spoil(fixture *f, const char *text)
{
    char bytes[4096];
    FILE *file = fopen(f->path, "r+b");
    assert_non_null(file);
    while (fread(bytes, sizeof bytes, 1, file) == 1) {
        if (!memmem(bytes, sizeof bytes, text, strlen(text)))
            continue;
        assert_int_equal(fseek(file, -(long)sizeof bytes, SEEK_CUR), 0);
        memset(bytes, 0xff, 16);
        assert_int_equal(fwrite(bytes, sizeof bytes, 1, file), 1);
        break;
    }
    assert_int_equal(fclose(file), 0);
}

static void test_damage_among_the_newest_events_does_not_keep_the_log_shut(void **state)
{
    fixture *f = *state;
    char data[3000];
    memset(data, ' ', sizeof data);
    begin(f);
    for (int i = 0; i < 8; i++) {
        memcpy(data, "number", 6);
        data[7] = (char)('0' + i);
        (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "a", .data = data,
                                    .data_len = sizeof data, .source = "/"));
    }
    commit(f);
    close_log(f);
    run_sql(f->path,
            "DELETE FROM hark_versions; UPDATE hark_meta SET value = 0 WHERE key = 'counted';"
            "PRAGMA wal_checkpoint(TRUNCATE)");
    spoil(f, "number 4");
    assert_int_equal(setenv("HARK_LOG", "off", 1), 0);
    assert_ok(f, open_log(f));
    assert_reads(f, "1 2 3 more from 3", .limit = 3);
    assert_err(f, HARK_ECORRUPT, OPS.versions(f->store, say_version, &(hk_buf){0}, &f->ei));
    close_log(f);
    run_sql(f->path, "DELETE FROM hark_meta WHERE key = 'counted'");
    assert_err(f, HARK_ECORRUPT, open_log(f));
    assert_says(f, "has no counted");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_group_that_is_rolled_back_counts_nothing),
        T(test_a_group_shows_nothing_before_its_commit),
        T(test_a_refused_unit_counts_nothing),
        T(test_a_part_of_a_group_that_is_undone_counts_nothing),
        T(test_retention_lowers_the_counts),
        T(test_what_is_only_a_dead_letter_keeps_the_times_of_its_events),
        T(test_retention_that_is_rolled_back_leaves_the_counts),
        T(test_a_damaged_dead_letter_does_not_stand_in_the_way),
        T(test_counts_are_exact_whenever_the_process_dies),
        T(test_few_events_are_left_to_be_counted),
        T(test_damage_among_the_newest_events_does_not_keep_the_log_shut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
