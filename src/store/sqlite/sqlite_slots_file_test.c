/* The file of in-flight slots: whose it is, what is in it, when it comes and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/slots_fixture_i.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static void copy_file(const char *from, const char *to)
{
    char command[300];
    (void)snprintf(command, sizeof command, "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

static void test_dying_before_the_file_is_removed_counts_nothing_twice(void **state)
{
    fixture *f = *state;
    char path[128], kept[160];
    inflight(f, path);
    (void)snprintf(kept, sizeof kept, "%s/kept", f->dir);
    die_with(f, 4, one_crash);
    copy_file(path, kept);
    for (int i = 0; i < 3; i++) {
        assert_ok(f, open_log(f));
        assert_false(has_file(f));
        assert_rows(f, "one", "3:5:0:0:1 7:5:0:1:0 ");
        close_log(f);
        copy_file(kept, path); /* as if it had died after the commit */
    }
}

static void test_the_slots_of_another_log_are_not_counted(void **state)
{
    fixture *f = *state;
    die_with(f, 4, one_crash);
    run_sql(f->path, "UPDATE hark_meta SET value = randomblob(16) WHERE key = 'log_id'");
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "");
    assert_false(has_file(f));
}

static void test_closed_in_order_no_file_is_left(void **state)
{
    fixture *f = *state;
    hark_store_slot *slots = NULL;
    assert_ok(f, open_log(f));
    assert_false(has_file(f)); /* nobody has asked for slots */
    assert_ok(f, OPS.slots_take(f->store, 2, &slots, &f->ei));
    assert_true(has_file(f));
    running(&slots[0], 1, 3, 1);
    close_log(f);
    assert_false(has_file(f));
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "");       /* abandoned: neither an attempt nor an interruption */
    slots[0].state = HARK_SLOT_FREE; /* its handler ends at last */
}

static void test_the_file_is_private_and_all_of_it_is_there(void **state)
{
    fixture *f = *state;
    hark_store_slot *slots = NULL;
    struct stat st;
    char path[128];
    inflight(f, path);
    assert_ok(f, open_log(f));
    assert_ok(f, OPS.slots_take(f->store, 2000, &slots, &f->ei));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_size % (64 * 1024), 0);
    assert_true(st.st_size >= 64 * 2000);
    assert_true(st.st_blocks * 512 >= st.st_size);
    OPS.slots_give(f->store, slots, 2000);
}

static void test_slots_never_move_and_are_zero_when_taken(void **state)
{
    fixture *f = *state;
    hark_store_slot *slots[40], zero = {0};
    assert_ok(f, open_log(f));
    for (size_t i = 0; i < HK_COUNTOF(slots); i++) {
        assert_ok(f, OPS.slots_take(f->store, 100, &slots[i], &f->ei));
        for (size_t j = 0; j < 100; j++) {
            assert_memory_equal(&slots[i][j], &zero, sizeof zero);
            running(&slots[i][j], i, j, 1);
        }
    }
    for (size_t i = 0; i < HK_COUNTOF(slots); i++)
        for (size_t j = 0; j < 100; j++)
            assert_true(slots[i][j].consumer == i && slots[i][j].sequence == j);
    OPS.slots_give(f->store, slots[5], 100);
    hark_store_slot *again = NULL;
    assert_ok(f, OPS.slots_take(f->store, 100, &again, &f->ei));
    assert_ptr_equal(again, slots[5]);
    assert_memory_equal(&again[99], &zero, sizeof zero);
}

static void *take_and_give(void *arg)
{
    fixture *f = arg;
    for (int i = 0; i < 200; i++) {
        hark_store_slot *slots = NULL;
        if (OPS.slots_take(f->store, 7, &slots, NULL) != HARK_OK || !slots)
            return f;
        running(&slots[3], 1, 1, i);
        if (slots[3].attempt != i)
            return f;
        OPS.slots_give(f->store, slots, 7);
    }
    return NULL;
}

static void test_any_thread_takes_and_gives(void **state)
{
    fixture *f = *state;
    pthread_t threads[4];
    void *failed;
    assert_ok(f, open_log(f));
    for (size_t i = 0; i < HK_COUNTOF(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, f), 0);
    for (size_t i = 0; i < HK_COUNTOF(threads); i++) {
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
}

static void no_slots(fixture *f)
{
    hark_store_slot some, *slots = &some;
    assert_ok(f, open_log(f));
    assert_ok(f, OPS.slots_take(f->store, 2, &slots, &f->ei));
    assert_null(slots);
    OPS.slots_give(f->store, slots, 2);
    close_log(f);
}

static void write_text(const char *path, const char *text, size_t len)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void test_what_is_not_ours_is_left_alone_and_the_log_opens_without_slots(void **state)
{
    fixture *f = *state;
    struct stat st;
    char path[128], target[160];
    inflight(f, path);
    (void)snprintf(target, sizeof target, "%s/target", f->dir);
    assert_int_equal(setenv("HARK_LOG", "off", 1), 0);
    write_text(path, "a letter to my aunt", 19);
    no_slots(f);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 19);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0700), 0);
    no_slots(f);
    assert_int_equal(rmdir(path), 0);
    write_text(target, "", 0);
    assert_int_equal(symlink(target, path), 0);
    no_slots(f);
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_size, 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    no_slots(f);
}

static void test_a_file_that_was_never_finished_is_replaced(void **state)
{
    fixture *f = *state;
    static const char zeros[65536];
    static const size_t lengths[] = {0, 64, 65536};
    char path[128];
    inflight(f, path);
    for (size_t i = 0; i < HK_COUNTOF(lengths); i++) {
        hark_store_slot *slots = NULL;
        write_text(path, zeros, lengths[i]);
        assert_ok(f, open_log(f));
        assert_ok(f, OPS.slots_take(f->store, 2, &slots, &f->ei));
        assert_non_null(slots);
        OPS.slots_give(f->store, slots, 2);
        close_log(f);
    }
}

static void test_a_file_that_was_cut_or_flipped_is_read_as_far_as_it_is_good(void **state)
{
    fixture *f = *state;
    char path[128];
    inflight(f, path);
    die_with(f, 4, one_crash);
    assert_int_equal(truncate(path, 64 * 2 + 30), 0); /* the header, one slot, and half of one */
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "3:5:0:0:1 ");
    close_log(f);
    die_with(f, 4, one_crash);
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 40), 1); /* in the header's run */
    assert_int_equal(close(fd), 0);
    assert_ok(f, open_log(f));
    assert_rows(f, "one", "3:5:0:0:1 ");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up_log, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dying_before_the_file_is_removed_counts_nothing_twice),
        TEST(test_the_slots_of_another_log_are_not_counted),
        TEST(test_closed_in_order_no_file_is_left),
        TEST(test_the_file_is_private_and_all_of_it_is_there),
        TEST(test_slots_never_move_and_are_zero_when_taken),
        TEST(test_any_thread_takes_and_gives),
        TEST(test_what_is_not_ours_is_left_alone_and_the_log_opens_without_slots),
        TEST(test_a_file_that_was_never_finished_is_replaced),
        TEST(test_a_file_that_was_cut_or_flipped_is_read_as_far_as_it_is_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
