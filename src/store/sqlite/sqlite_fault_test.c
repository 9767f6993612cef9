/* What goes wrong below the store: a full disk, a failed fsync, damage, readers beside a writer.
 * Failures of the file system are made by a VFS that stands before SQLite's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/slots_i.h"

#include <sys/stat.h>

/* ---- a VFS whose files fail on demand -------------------------------------------------------- */

static struct {
    int sync_error, write_error; /* SQLite's code for the next such calls; 0 = none */
} fault;

/* SQLite has a table of methods for databases and one for other files; both sync and write alike.
 */
static const sqlite3_io_methods *real_methods[2];
static sqlite3_io_methods faulty_methods[2];
static sqlite3_vfs faulty_vfs, *real_vfs;

static int faulty_sync(sqlite3_file *file, int flags)
{
    return fault.sync_error ? fault.sync_error : real_methods[0]->xSync(file, flags);
}

static int faulty_write(sqlite3_file *file, const void *data, int n, sqlite3_int64 at)
{
    return fault.write_error ? fault.write_error : real_methods[0]->xWrite(file, data, n, at);
}

static sqlite3_io_methods *faulty_twin(const sqlite3_io_methods *real)
{
    size_t i = 0;
    while (i < 1 && real_methods[i] && real_methods[i] != real)
        i++;
    real_methods[i] = real;
    faulty_methods[i] = *real;
    faulty_methods[i].xSync = faulty_sync;
    faulty_methods[i].xWrite = faulty_write;
    return &faulty_methods[i];
}

/* Opens a real file and slips other methods under it. */
static int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                       int *ret_flags)
{
    (void)vfs;
    int rc = real_vfs->xOpen(real_vfs, name, file, flags, ret_flags);
    if (rc == SQLITE_OK && file->pMethods)
        file->pMethods = faulty_twin(file->pMethods);
    return rc;
}

static int set_up_faulty(void **state)
{
    memset(&fault, 0, sizeof fault);
    real_vfs = sqlite3_vfs_find("unix");
    faulty_vfs = *real_vfs;
    faulty_vfs.zName = "faulty";
    faulty_vfs.xOpen = faulty_open;
    assert_int_equal(sqlite3_vfs_register(&faulty_vfs, 1), SQLITE_OK);
    return set_up(state);
}

static int tear_down_faulty(void **state)
{
    memset(&fault, 0, sizeof fault);
    (void)tear_down(state);
    sqlite3_vfs_unregister(&faulty_vfs);
    real_methods[0] = real_methods[1] = NULL;
    return 0;
}

/* ---- the disk -------------------------------------------------------------------------------- */

static void test_after_a_failed_fsync_the_outcome_is_unknown_and_writing_ends(void **state)
{
    fixture *f = *state;
    begin(f);
    (void)add(f, "t", "before");
    commit(f);
    begin(f);
    (void)add(f, "t", "unknown");
    fault.sync_error = SQLITE_IOERR_FSYNC;
    assert_err(f, HARK_EUNKNOWN, OPS.commit(f->store, &f->ei));
    assert_says(f, "open the log again");
    fault.sync_error = 0;
    assert_err(f, HARK_EREADONLY, OPS.begin(f->store, &f->ei));
    assert_says(f, "HARK_EUNKNOWN");
    assert_reads(f, "1 end", .limit = 10); /* reading goes on */
    assert_int_equal(hark_err_class(HARK_EUNKNOWN), HARK_CLASS_UNKNOWN);
    reopen_log(f);
    hark_store_append a = item(simple_event("t", "unknown"), 1);
    begin(f);
    assert_ok(f, append(f, &a, 1)); /* repeated with the same id: once in the log, either way */
    assert_int_equal(a.ret_sequence, 2);
    commit(f);
    drop_items(&a, 1);
}

/* Leaves the file of in-flight slots that a process would leave which died inside of event 1. */
static void leave_slots(fixture *f)
{
    hark_store_consumer c = {
        .size = sizeof c, .name = "c", .pattern = "t", .policy = "p", .start = 1};
    hark_store_slot *slot = NULL;
    char command[300];
    begin(f);
    (void)add(f, "t", "1");
    assert_ok(f, OPS.consumer_open(f->store, &c, &f->ei));
    commit(f);
    assert_ok(f, OPS.slots_take(f->store, 1, &slot, &f->ei));
    *slot = (hark_store_slot){.consumer = c.ret_id, .generation = 1, .sequence = 1, .attempt = 1};
    slot->check = hk_hash(slot, offsetof(hark_store_slot, address));
    slot->state = HARK_SLOT_RUNNING;
    hark_store_consumer_clear(&c);
    (void)snprintf(command, sizeof command, "cp '%s-inflight' '%s/kept'", f->path, f->dir);
    assert_int_equal(system(command), 0);
    close_log(f);
    (void)snprintf(command, sizeof command, "mv '%s/kept' '%s-inflight'", f->dir, f->path);
    assert_int_equal(system(command), 0);
}

static void assert_interrupted_once(fixture *f)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s-inflight", f->path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(number_sql(f->path, "SELECT sum(interruptions) FROM hark_deliveries"), 1);
}

static void test_on_a_full_disk_the_slots_of_a_dead_process_wait_for_the_next_opening(void **state)
{
    fixture *f = *state;
    hark_store_slot some, *slots = &some;
    assert_int_equal(setenv("HARK_LOG", "off", 1), 0);
    leave_slots(f);
    fault.write_error = SQLITE_FULL;
    assert_ok(f, open_log(f));
    assert_ok(f, OPS.slots_take(f->store, 1, &slots, &f->ei));
    assert_null(slots); /* the file is still the other process's */
    fault.write_error = 0;
    reopen_log(f);
    assert_interrupted_once(f);
}

static void test_slots_whose_merging_has_an_unknown_outcome_are_counted_once(void **state)
{
    fixture *f = *state;
    leave_slots(f);
    fault.sync_error = SQLITE_IOERR_FSYNC;
    assert_err(f, HARK_EUNKNOWN, open_log(f));
    fault.sync_error = 0;
    assert_ok(f, open_log(f));
    assert_interrupted_once(f);
}

static void test_a_write_error_at_commit_is_unknown_too(void **state)
{
    fixture *f = *state;
    begin(f);
    (void)add(f, "t", "1");
    fault.write_error = SQLITE_IOERR_WRITE;
    assert_err(f, HARK_EUNKNOWN, OPS.commit(f->store, &f->ei));
    fault.write_error = 0;
    assert_err(f, HARK_EREADONLY, OPS.begin(f->store, &f->ei));
}

static void test_on_a_full_disk_nothing_is_stored_and_writing_goes_on_later(void **state)
{
    fixture *f = *state;
    begin(f);
    (void)add(f, "t", "1");
    commit(f);
    begin(f);
    (void)add(f, "new-type", "2");
    fault.write_error = SQLITE_FULL;
    assert_err(f, HARK_EFULL, OPS.commit(f->store, &f->ei));
    assert_says(f, "free some space");
    assert_int_equal(hark_err_class(HARK_EFULL), HARK_CLASS_TRANSIENT);
    assert_reads(f, "1 end", .limit = 10);
    fault.write_error = 0;
    begin(f);
    assert_int_equal(add(f, "new-type", "2"), 2);
    commit(f);
    assert_reads(f, "2 end", .pattern = "new-type");
}

static void test_an_append_that_finds_no_room_fails_its_group_only(void **state)
{
    fixture *f = *state;
    char data[8192], limit[64];
    memset(data, 'x', sizeof data);
    (void)snprintf(limit, sizeof limit, "PRAGMA max_page_count = %lld",
                   (long long)number_sql(f->path, "PRAGMA page_count") + 2);
    assert_int_equal(sqlite3_exec(f->store->conn.db, limit, NULL, NULL, NULL), SQLITE_OK);
    hark_store_append a = item(event_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s",
                                                  .data = data, .data_len = sizeof data)),
                               1);
    begin(f);
    (void)add(f, "t", "1");
    hark_err err = HARK_OK;
    for (int i = 0; i < 4 && !err; i++) {
        hark_store_append big =
            item(event_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = data,
                                    .data_len = sizeof data)),
                 1);
        err = append(f, &big, 1);
        drop_items(&big, 1);
    }
    assert_err(f, HARK_EFULL, err);
    OPS.rollback(f->store);
    drop_items(&a, 1);
    begin(f);
    assert_int_equal(add(f, "t", "small"), 1);
    commit(f);
}

static void test_a_failed_checkpoint_ends_writing(void **state)
{
    fixture *f = *state;
    char data[4096];
    memset(data, 'x', sizeof data);
    begin(f);
    for (int i = 0; i < 1100; i++)
        (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = data,
                                    .data_len = sizeof data));
    commit(f);
    fault.sync_error = SQLITE_IOERR_FSYNC;
    assert_false(OPS.maintain(f->store, 1000000));
    fault.sync_error = 0;
    assert_err(f, HARK_EREADONLY, OPS.begin(f->store, &f->ei));
}

static void test_another_program_s_write_lock_is_a_passing_error(void **state)
{
    fixture *f = *state;
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_err(f, HARK_ESTORE, OPS.begin(f->store, &f->ei));
    assert_says(f, "another program holds a lock");
    sqlite3_close(db);
    begin(f);
    assert_int_equal(add(f, "t", "1"), 1);
    commit(f);
}

static void test_a_log_that_cannot_be_set_up_leaves_no_file(void **state)
{
    fixture *f = *state;
    hark_store *other = NULL;
    char path[112];
    (void)snprintf(path, sizeof path, "%s.new", f->path);
    fault.write_error = SQLITE_FULL;
    assert_err(f, HARK_EFULL, OPS.open(path, NULL, NULL, &other, &f->ei));
    assert_says(f, path);
    assert_int_equal(access(path, F_OK), -1);
    fault.write_error = 0;
    assert_ok(f, OPS.open(path, NULL, NULL, &other, &f->ei));
    OPS.close(other);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void test_a_damaged_event_is_never_served(void **state)
{
    static const char *const damage[] = {
        "UPDATE hark_events SET data = x'ff' || substr(data, 2) WHERE seq = 3",
        "UPDATE hark_events SET data = NULL WHERE seq = 3",
        "UPDATE hark_events SET recorded = recorded + 1 WHERE seq = 3",
        "UPDATE hark_events SET correlationid = 'x' WHERE seq = 3",
        "UPDATE hark_events SET attrs = '{' WHERE seq = 3",
        "UPDATE hark_events SET id = 'other' WHERE seq = 3",
        "UPDATE hark_events SET source_id = 99 WHERE seq = 3",
        "UPDATE hark_events SET check_sum = check_sum + 1 WHERE seq = 3",
        "UPDATE hark_types SET name = 'u' WHERE name = 't'"}; /* as only the third one's is */
    fixture *f = *state;
    page pg = {0};
    begin(f);
    (void)add(f, "s", "1");
    (void)add(f, "s", "2");
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .id = "3", .source = "/test",
                                .correlationid = "c", .json = "{}"));
    (void)add(f, "s", "4");
    commit(f);
    close_log(f);
    for (size_t i = 0; i < HK_COUNTOF(damage); i++) {
        char saved[112], sql[256];
        (void)snprintf(saved, sizeof saved, "%s.%zu", f->path, i);
        (void)snprintf(sql, sizeof sql, "VACUUM INTO '%s'", saved);
        run_sql(f->path, sql);
        run_sql(saved, damage[i]);
        assert_ok(f, OPS.open(saved, NULL, NULL, &f->store, &f->ei));
        assert_reads(f, "1 2 more from 2", .limit = 10); /* what lies before is good */
        assert_err(f, HARK_ECORRUPT, read_into(f, &pg, (hark_store_query){.after = 2}));
        assert_int_equal(pg.p.n, 0);
        assert_reads(f, "4 end", .after = 3);
        assert_reads(f, "4 more from 4", .limit = 10, .descending = 1);
        close_log(f);
    }
}

static void test_a_damaged_file_is_reported_not_served(void **state)
{
    fixture *f = *state;
    page pg = {0};
    struct stat st;
    char junk[4096];
    memset(junk, 0xa5, sizeof junk);
    begin(f);
    for (int i = 0; i < 200; i++)
        (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .subject = "s",
                                    .data = junk, .data_len = 500));
    commit(f);
    close_log(f);
    assert_int_equal(stat(f->path, &st), 0);
    FILE *file = fopen(f->path, "r+b");
    assert_non_null(file);
    for (long at = 4096; at < st.st_size; at += 4096) { /* all but the first page */
        assert_int_equal(fseek(file, at, SEEK_SET), 0);
        assert_int_equal(fwrite(junk, 1, sizeof junk, file), sizeof junk);
    }
    assert_int_equal(fclose(file), 0);
    hark_err err = open_log(f);
    if (!err)
        err = read_into(f, &pg, (hark_store_query){0});
    assert_err(f, HARK_ECORRUPT, err);
    assert_says(f, f->path);
    assert_says(f, "restore from a backup");
}

/* ---- readers beside the writer --------------------------------------------------------------- */

#define WRITES 300

static void *read_along(void *arg)
{
    fixture *f = arg;
    uint64_t seen = 0;
    while (seen < WRITES) {
        hark_event *events[32];
        hark_store_page p = {.events = events};
        hark_store_query q = {
            .size = sizeof q, .after = seen, .limit = 32, .pattern = seen % 2 ? "t:**" : NULL};
        hark_errinfo ei;
        if (OPS.read(f->store, &q, &p, &ei))
            return arg;
        for (size_t i = 0; i < p.n; i++) {
            if (hark_event_sequence(events[i]) != ++seen)
                seen = UINT64_MAX - 1000;
            (void)hark_event_unref(events[i]);
        }
    }
    return seen == WRITES ? NULL : arg;
}

static void test_readers_beside_the_writer_see_every_event_in_order(void **state)
{
    fixture *f = *state;
    pthread_t threads[12];
    for (size_t i = 0; i < HK_COUNTOF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_along, f), 0);
    for (int i = 0; i < WRITES; i++) {
        char type[16];
        (void)snprintf(type, sizeof type, "t:%d", i % 50);
        begin(f);
        (void)add(f, type, NULL);
        commit(f);
    }
    for (size_t i = 0; i < HK_COUNTOF(threads); i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

int main(void)
{
#define F(name) cmocka_unit_test_setup_teardown(name, set_up_faulty, tear_down_faulty)
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        F(test_after_a_failed_fsync_the_outcome_is_unknown_and_writing_ends),
        F(test_a_write_error_at_commit_is_unknown_too),
        F(test_on_a_full_disk_nothing_is_stored_and_writing_goes_on_later),
        T(test_an_append_that_finds_no_room_fails_its_group_only),
        F(test_a_failed_checkpoint_ends_writing),
        F(test_on_a_full_disk_the_slots_of_a_dead_process_wait_for_the_next_opening),
        F(test_slots_whose_merging_has_an_unknown_outcome_are_counted_once),
        F(test_a_log_that_cannot_be_set_up_leaves_no_file),
        T(test_another_program_s_write_lock_is_a_passing_error),
        T(test_a_damaged_event_is_never_served),
        T(test_a_damaged_file_is_reported_not_served),
        T(test_readers_beside_the_writer_see_every_event_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
