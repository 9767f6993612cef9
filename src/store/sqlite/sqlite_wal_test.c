/* The write-ahead log: a commit writes few pages, the file is overwritten instead of growing, and
 * what holds it back is waited for a little, never for long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/store_i.h"

#include <sys/stat.h>

#define BUDGET 2000000

/* One group of ten events of a page each, and the housekeeping after it. */
static void add_group(fixture *f)
{
    char data[4096];
    memset(data, 'x', sizeof data);
    begin(f);
    for (int i = 0; i < 10; i++)
        (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = data,
                                    .data_len = sizeof data));
    commit(f);
    assert_false(OPS.maintain(f->store, BUDGET));
}

static long wal_bytes(const fixture *f)
{
    char wal[112];
    struct stat st;
    (void)snprintf(wal, sizeof wal, "%s-wal", f->path);
    return stat(wal, &st) == 0 ? (long)st.st_size : -1;
}

static void test_a_commit_of_one_event_writes_three_pages(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 100; i++) {
        begin(f);
        (void)add(f, "t", NULL);
        commit(f);
    }
    int before = f->store->wal_pages;
    for (int i = 0; i < 200; i++) {
        begin(f);
        (void)add(f, "t", NULL);
        commit(f);
    }
    int pages = f->store->wal_pages - before;
    assert_in_range(pages, 600, 600 + 200 / 3); /* and a new page now and then */
}

static void test_the_log_starts_over_instead_of_growing(void **state)
{
    fixture *f = *state;
    for (int i = 0; i < 400; i++)
        add_group(f);
    assert_true(f->store->wal_pages < 2200);
    assert_true(wal_bytes(f) < 2300 * 4200);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_events"), 4000);
}

/* Reads the same page again and again until there is an event of type "stop". */
static void *read_on(void *arg)
{
    fixture *f = arg;
    bool stop = false;
    while (!stop) {
        hark_event *events[64];
        hark_store_page p = {.events = events};
        hark_store_query q = {.size = sizeof q, .limit = 64};
        hark_errinfo ei;
        for (int i = 0; i < 2; i++) {
            if (OPS.read(f->store, &q, &p, &ei))
                return arg;
            for (size_t j = 0; j < p.n; j++)
                (void)hark_event_unref(events[j]);
            stop = q.pattern && p.n > 0;
            q.pattern = "stop";
        }
    }
    return NULL;
}

static void test_busy_readers_do_not_keep_the_log_growing(void **state)
{
    fixture *f = *state;
    pthread_t threads[4];
    for (size_t i = 0; i < HK_COUNTOF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, f), 0);
    int most = 0;
    for (int i = 0; i < 2000; i++) {
        add_group(f);
        most = f->store->wal_pages > most ? f->store->wal_pages : most;
    }
    begin(f);
    (void)add(f, "stop", NULL);
    commit(f);
    for (size_t i = 0; i < HK_COUNTOF(threads); i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_true(most < 16384);
}

/* A connection of another program that stands in the middle of reading. */
static sqlite3 *stay_reading(fixture *f)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN; SELECT * FROM hark_types", NULL, NULL, NULL),
                     SQLITE_OK);
    return db;
}

static void test_a_reader_that_stays_is_left_alone_and_the_log_recovers(void **state)
{
    fixture *f = *state;
    f->store->wal_limit = 2500;
    add_group(f);
    sqlite3 *reader = stay_reading(f);
    for (int i = 0; i < 250; i++)
        add_group(f);
    assert_true(f->store->wal_pages > 2500);
    assert_true(f->store->next_cut > 0); /* tried once, and not again for a while */
    assert_true(f->store->next_cut < hk_mono_ns() + 2000000000LL);
    sqlite3_close(reader);
    f->store->next_cut = 0;
    for (int i = 0; i < 101; i++)
        add_group(f);
    add_group(f);
    assert_true(f->store->wal_pages < 2000);
    assert_true(wal_bytes(f) < 2000 * 4200);
}

static void test_closing_leaves_one_file(void **state)
{
    fixture *f = *state;
    add_group(f);
    assert_true(wal_bytes(f) > 0);
    assert_reads(f, "1 more from 1", .limit = 1);
    close_log(f);
    assert_int_equal(wal_bytes(f), -1);
}

static void test_closing_beside_a_reader_still_saves_everything_in_the_file(void **state)
{
    fixture *f = *state;
    add_group(f);
    sqlite3 *reader = stay_reading(f);
    close_log(f);
    sqlite3_close(reader);
    assert_ok(f, open_log(f));
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_events"), 10);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_commit_of_one_event_writes_three_pages),
        T(test_the_log_starts_over_instead_of_growing),
        T(test_a_reader_that_stays_is_left_alone_and_the_log_recovers),
        T(test_busy_readers_do_not_keep_the_log_growing),
        T(test_closing_leaves_one_file),
        T(test_closing_beside_a_reader_still_saves_everything_in_the_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
