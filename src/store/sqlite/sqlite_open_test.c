/* Opening a log: whose file is it, who writes it, is it whole? Each refusal says what, where and
 * how to mend it, and leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/fixture_i.h"
#include "store/sqlite/store_i.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* ---- paths ----------------------------------------------------------------------------------- */

static hark_err open_at(fixture *f, const char *rest)
{
    return OPS.open(rest, NULL, NULL, &f->store, &f->ei);
}

static void test_a_url_must_name_a_file(void **state)
{
    fixture *f = *state;
    assert_err(f, HARK_EINVAL, open_at(f, ""));
    assert_says(f, "sqlite:PATH");
    assert_err(f, HARK_EINVAL, open_at(f, "//"));
    assert_err(f, HARK_EINVAL, open_at(f, ":memory:"));
    assert_says(f, "durable");
    assert_null(f->store);
}

static void test_two_slashes_before_the_path_are_fine(void **state)
{
    fixture *f = *state;
    char rest[112];
    (void)snprintf(rest, sizeof rest, "//%s", f->path);
    assert_ok(f, open_at(f, rest));
    assert_int_equal(access(f->path, F_OK), 0);
}

static void test_paths_that_cannot_be_a_log(void **state)
{
    fixture *f = *state;
    assert_err(f, HARK_EINVAL, open_at(f, f->dir));
    assert_says(f, "is a directory");
    assert_err(f, HARK_EINVAL, open_at(f, "/dev/null"));
    assert_says(f, "regular file");
    assert_err(f, HARK_ESYS, open_at(f, "/nowhere/at/all.db"));
    assert_says(f, "/nowhere/at/all.db");
    assert_says(f, "create its directory first");
    assert_err(f, HARK_ESYS, open_at(f, "/proc/hark.db"));
    assert_null(f->store);
}

static void test_what_must_be_there_is_not_made(void **state)
{
    fixture *f = *state;
    const hark_store_opts there = {.size = sizeof there, .existing = 1};
    assert_err(f, HARK_ENOTFOUND, OPS.open(f->path, &there, NULL, &f->store, &f->ei));
    assert_says(f, f->path);
    assert_int_equal(access(f->path, F_OK), -1);

    int fd = open(f->path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    close(fd);
    assert_err(f, HARK_ENOTFOUND, OPS.open(f->path, &there, NULL, &f->store, &f->ei));
    assert_says(f, "empty");
    assert_int_equal(access(f->path, F_OK), 0); /* nor is it taken away */

    assert_ok(f, open_at(f, f->path));
    OPS.close(f->store);
    f->store = NULL;
    assert_ok(f, OPS.open(f->path, &there, NULL, &f->store, &f->ei));
}

static void test_the_log_stays_readable_after_a_change_of_directory(void **state)
{
    fixture *f = *state;
    char old[512];
    assert_non_null(getcwd(old, sizeof old));
    assert_int_equal(chdir(f->dir), 0);
    hark_err err = open_at(f, "log.db");
    assert_int_equal(chdir(old), 0);
    assert_ok(f, err);
    assert_reads(f, "end", .limit = 1);
}

static void test_a_replaced_file_is_not_read_as_the_log(void **state)
{
    fixture *f = *state;
    page pg = {0};
    char moved[112];
    (void)snprintf(moved, sizeof moved, "%s.moved", f->path);
    assert_ok(f, open_log(f));
    assert_int_equal(rename(f->path, moved), 0);
    assert_err(f, HARK_ESTORE, read_into(f, &pg, (hark_store_query){0}));
    assert_says(f, "moved or replaced");
    assert_int_equal(rename(moved, f->path), 0);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
}

/* ---- one writer ------------------------------------------------------------------------------ */

static void test_a_second_open_in_this_process_is_refused(void **state)
{
    fixture *f = *state;
    hark_store *second = NULL;
    char link[112];
    (void)snprintf(link, sizeof link, "%s.link", f->path);
    assert_ok(f, open_log(f));
    assert_int_equal(symlink(f->path, link), 0);
    assert_err(f, HARK_EEXIST, OPS.open(f->path, NULL, NULL, &second, &f->ei));
    assert_err(f, HARK_EEXIST, OPS.open(link, NULL, NULL, &second, &f->ei));
    assert_says(f, "open in this process already");
    begin(f);
    (void)add(f, "t", "still-works");
    commit(f);
    reopen_log(f);
}

/* Opens `path` in a process of its own; returns what it got and the text. */
static hark_err open_elsewhere(const char *path, hark_errinfo *ret)
{
    int fds[2];
    struct {
        hark_err err;
        hark_errinfo ei;
    } answer = {0};
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    if (pid == 0) {
        hark_store *s = NULL;
        answer.err = OPS.open(path, NULL, NULL, &s, &answer.ei);
        _exit(write(fds[1], &answer, sizeof answer) != sizeof answer);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &answer, sizeof answer), sizeof answer);
    close(fds[0]);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    *ret = answer.ei;
    return answer.err;
}

static void assert_refused_elsewhere(fixture *f, const char *path)
{
    char holder[48];
    (void)snprintf(holder, sizeof holder, "written by process %d;", (int)getpid());
    assert_err(f, HARK_ELOCKED, open_elsewhere(path, &f->ei));
    assert_says(f, holder);
}

static void test_a_second_process_is_refused_and_told_the_holder_s_pid(void **state)
{
    fixture *f = *state;
    char soft[112], hard[112];
    (void)snprintf(soft, sizeof soft, "%s.soft", f->path);
    (void)snprintf(hard, sizeof hard, "%s.hard", f->path);
    assert_ok(f, open_log(f));
    assert_int_equal(symlink(f->path, soft), 0);
    assert_int_equal(link(f->path, hard), 0);
    assert_refused_elsewhere(f, f->path);
    assert_refused_elsewhere(f, soft);
    assert_refused_elsewhere(f, hard);
    begin(f);
    (void)add(f, "t", "1");
    commit(f);
    close_log(f);
    assert_int_equal(unlink(hard), 0);
    assert_ok(f, open_elsewhere(f->path, &f->ei));
    assert_ok(f, open_log(f)); /* the other process is gone and so is its lock */
}

static void test_readers_coming_and_going_do_not_drop_the_lock(void **state)
{
    fixture *f = *state;
    assert_ok(f, open_log(f));
    assert_reads(f, "end", .limit = 1);
    hk_readers_close(f->store);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_events"), 0);
    assert_refused_elsewhere(f, f->path);
}

static void test_a_file_with_two_names_is_refused(void **state)
{
    fixture *f = *state;
    char hard[112];
    (void)snprintf(hard, sizeof hard, "%s.hard", f->path);
    assert_ok(f, open_log(f));
    close_log(f);
    assert_int_equal(link(f->path, hard), 0);
    assert_err(f, HARK_EINVAL, open_log(f));
    assert_says(f, "2 names");
}

/* A process that appends and then dies without a word. */
static void append_and_die(const fixture *f, int commits)
{
    pid_t pid = fork();
    if (pid == 0) {
        fixture child = *f;
        hark_store_append a = {.digest = {1}};
        if (open_log(&child))
            _exit(1);
        for (int i = 0; i <= commits; i++) {
            char id[16];
            (void)snprintf(id, sizeof id, "%d", i);
            a.event = simple_event("t", id);
            if (OPS.begin(child.store, NULL) || OPS.append(child.store, &a, 1, NULL))
                _exit(1);
            if (i < commits && OPS.commit(child.store, NULL))
                _exit(1);
        }
        (void)kill(getpid(), SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
}

static void test_after_a_kill_all_that_was_committed_is_there_and_no_more(void **state)
{
    fixture *f = *state;
    append_and_die(f, 3);
    assert_ok(f, open_log(f));
    assert_reads(f, "1 2 3 end", .limit = 10);
    begin(f);
    assert_int_equal(add(f, "t", "3"), 4);
    commit(f);
}

static void test_a_log_keeps_its_identity(void **state)
{
    fixture *f = *state;
    hark_store_info a, b;
    assert_ok(f, open_log(f));
    OPS.info(f->store, &a);
    reopen_log(f);
    OPS.info(f->store, &b);
    assert_memory_equal(a.log_id, b.log_id, 16);
    assert_int_equal(b.epoch, 1);
    assert_int_equal(b.format, 3);
    close_log(f);
    char wal[112];
    (void)snprintf(wal, sizeof wal, "%s-wal", f->path);
    assert_int_equal(access(wal, F_OK), -1); /* closed in order: one file */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up_dir, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_url_must_name_a_file),
        T(test_two_slashes_before_the_path_are_fine),
        T(test_what_must_be_there_is_not_made),
        T(test_paths_that_cannot_be_a_log),
        T(test_the_log_stays_readable_after_a_change_of_directory),
        T(test_a_replaced_file_is_not_read_as_the_log),
        T(test_a_second_open_in_this_process_is_refused),
        T(test_a_second_process_is_refused_and_told_the_holder_s_pid),
        T(test_readers_coming_and_going_do_not_drop_the_lock),
        T(test_a_file_with_two_names_is_refused),
        T(test_after_a_kill_all_that_was_committed_is_there_and_no_more),
        T(test_a_log_keeps_its_identity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
