/* What a user can get wrong when starting the quickstart: each is answered with one line on standard
 * error and an exit status that is not 0, and leaves the directory as it was, byte for byte. */
#include "kit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *program;
static kit_output output;
static char dir[160];   /* this test's own */
static char store[256]; /* sqlite:DIR/x.db */
static char file[200];  /* DIR/x.db */

static int fresh_dir(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s/t-XXXXXX", kit_dir());
    assert_non_null(mkdtemp(dir));
    (void)snprintf(file, sizeof file, "%s/x.db", dir);
    (void)snprintf(store, sizeof store, "sqlite:%s", file);
    return 0;
}

/* The names in the directory and the content of its files, as one number. The index of a WAL is
 * memory of those who have the database open, not content. */
static uint64_t state_of(const char *where)
{
    char *names = kit_list(where), *save = NULL, path[512];
    uint64_t h = kit_hash(names, strlen(names));
    for (char *n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save)) {
        size_t len = 0;
        (void)snprintf(path, sizeof path, "%s/%s", where, n);
        bool index = strlen(n) > 4 && strcmp(n + strlen(n) - 4, "-shm") == 0;
        char *all = index ? NULL : kit_slurp(path, &len);
        h = h * 31 + (all ? kit_hash(all, len) : 0);
        free(all);
    }
    free(names);
    return h;
}

static void run_refused(const char *listen, const char *url, const char *const *parts)
{
    const char *argv[] = {program, "--listen", listen, "--store", url, NULL};
    kit_run(argv, &(kit_how){.in_dir = dir, .no_override = true}, &output);
    const char *newline = strchr(output.err, '\n');
    if (!WIFEXITED(output.status) || WEXITSTATUS(output.status) == 0)
        fail_msg("%s %s: expected a refusal, got wait status %d: %s%s", listen, url, output.status,
                 output.out, output.err);
    if (!newline || newline == output.err || newline[1] || output.out[0])
        fail_msg("%s %s: expected one line on stderr and nothing else, got: %s%s", listen, url,
                 output.out, output.err);
    for (; *parts; parts++)
        if (!strstr(output.err, *parts))
            fail_msg("%s %s: expected '%s' in: %s", listen, url, *parts, output.err);
}

/* Refused for its address, and no other file is there than before: the log was open for a moment,
 * and is closed. */
static void refused_address(const char *listen, const char *word, const char *word2)
{
    const char *parts[] = {word, word2, NULL};
    char *names = kit_list(dir);
    run_refused(listen, store, parts);
    char *now = kit_list(dir);
    assert_string_equal(names, now);
    free(names);
    free(now);
}

/* Refused for its store, and every file is as before. */
static void refused(const char *url, const char *word, const char *word2)
{
    const char *parts[] = {word, word2, NULL};
    uint64_t before = state_of(dir);
    char *names = kit_list(dir);
    run_refused("127.0.0.1:0", url, parts);
    char *now = kit_list(dir);
    assert_string_equal(names, now);
    if (state_of(dir) != before)
        fail_msg("%s: a file has changed", url);
    free(names);
    free(now);
}

/* A log as a run of the quickstart leaves it. */
static void make_log(void)
{
    int port = 0;
    kit_proc p = kit_quickstart(program, store, kit_path("stderr"), &port);
    kit_stop(&p, port);
}

static void patch_log(long at, const unsigned char bytes[4])
{
    FILE *f = fopen(file, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, 4, f), 4);
    assert_int_equal(fclose(f), 0);
}

/* ---- the command line ---- */

static void run_usage(const char *const *argv)
{
    kit_run(argv, &(kit_how){.in_dir = dir}, &output);
    char *names = kit_list(dir);
    assert_true(kit_exited(output.status, 64));
    assert_non_null(strstr(output.err, "usage: quickstart"));
    assert_ptr_equal(strchr(output.err, '\n'), output.err + strlen(output.err) - 1);
    assert_string_equal(output.out, "");
    assert_string_equal(names, "");
    free(names);
}

static void test_an_unknown_option_gets_the_usage(void **state)
{
    (void)state;
    run_usage((const char *[]){program, "--sotre", store, NULL});
    run_usage((const char *[]){program, "--store", NULL});
    run_usage((const char *[]){program, "--listen", "127.0.0.1:0", "--store", NULL});
    run_usage((const char *[]){program, "extra", NULL});
    run_usage((const char *[]){program, "", "", NULL});
}

static void test_a_malformed_address_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "8080",
                                      ":",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      ":8080",
                                      "127.0.0.1:-1",
                                      "127.0.0.1:x",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:80 ",
                                      "1.2.3:80",
                                      "1.2.3.4.5:80",
                                      "[::1:80",
                                      "[zz]:80",
                                      "example.invalid:80",
                                      "[::1]8080",
                                      "127.0.0.1:0x50",
                                      "127.0.0.1:99999999999999999999"};
    (void)state;
    make_log();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused_address(bad[i], "127.0.0.1:8080", bad[i]);
}

static int listen_somewhere(int *ret_port)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    *ret_port = ntohs(sa.sin_port);
    return fd;
}

static void test_a_port_in_use_is_refused(void **state)
{
    char address[32];
    int port = 0, fd = listen_somewhere(&port);
    (void)state;
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", port);
    make_log();
    refused_address(address, address, "in use");
    close(fd);
}

static void test_an_address_of_another_machine_is_refused(void **state)
{
    (void)state;
    make_log();
    refused_address("192.0.2.1:0", "192.0.2.1:0", "no such address");
}

/* ---- the store's URL ---- */

static void test_an_unknown_store_is_refused(void **state)
{
    static const char *const bad[] = {"",           "nonsense",    "mongo:x.db", "sqlite",
                                      ":x.db",      "sqlite3:x",   "SQLITE x",   "http://x/",
                                      "sqlitex.db", "memory:what", "sqlite:"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refused(bad[i], "quickstart: ", bad[i]);
}

static void test_a_directory_is_refused(void **state)
{
    char url[256];
    (void)state;
    (void)snprintf(url, sizeof url, "sqlite:%s", dir);
    refused(url, dir, "is a directory");
}

static void test_a_missing_directory_is_refused(void **state)
{
    char url[256];
    (void)state;
    (void)snprintf(url, sizeof url, "sqlite:%s/nowhere/x.db", dir);
    refused(url, "/nowhere/x.db", "create its directory");
}

static void test_a_directory_without_the_right_to_write_is_refused(void **state)
{
    (void)state;
    assert_int_equal(chmod(dir, 0555), 0);
    refused(store, file, "ermission");
    assert_int_equal(chmod(dir, 0755), 0);
}

static void test_a_file_without_the_right_to_write_is_refused(void **state)
{
    (void)state;
    make_log();
    assert_int_equal(chmod(file, 0444), 0);
    refused(store, file, "ermission");
}

static void test_a_log_in_a_directory_without_the_right_to_write_is_refused(void **state)
{
    (void)state;
    make_log();
    assert_int_equal(chmod(dir, 0555), 0);
    refused(store, file, "");
    assert_int_equal(chmod(dir, 0755), 0);
}

static void test_a_device_is_refused(void **state)
{
    (void)state;
    refused("sqlite:/dev/null", "/dev/null", "not a regular file");
}

static void test_a_second_writing_process_is_refused_and_told_the_pid_of_the_first(void **state)
{
    char link_to[256], url[300], pid[64];
    int port = 0;
    const char *parts[] = {pid, "x.db", NULL}, *linked[] = {pid, "y.db", NULL};
    (void)state;
    kit_proc p = kit_quickstart(program, store, kit_path("stderr"), &port);
    (void)snprintf(pid, sizeof pid, "process %d", (int)p.pid);
    (void)snprintf(link_to, sizeof link_to, "%s/y.db", dir);
    (void)snprintf(url, sizeof url, "sqlite:%s", link_to);
    assert_int_equal(symlink(file, link_to), 0);
    char *names = kit_list(dir);
    run_refused("127.0.0.1:0", store, parts);
    run_refused("127.0.0.1:0", url, linked);
    char *now = kit_list(dir);
    assert_string_equal(names, now);
    free(names);
    free(now);
    kit_stop(&p, port);
}

/* ---- what is in the file ---- */

static void test_a_log_of_a_newer_format_is_refused(void **state)
{
    (void)state;
    make_log();
    patch_log(60, (const unsigned char[]){0, 0, 0, 99}); /* user_version */
    refused(store, file, "format 99");
}

static void test_a_file_with_another_application_id_is_refused(void **state)
{
    (void)state;
    make_log();
    patch_log(68, (const unsigned char[]){'t', 'e', 's', 't'});
    refused(store, file, "another program");
}

static void sql(sqlite3 *db, const char *text)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", text, sqlite3_errmsg(db));
}

static void make_foreign(const char *journal, bool leave_wal)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    if (leave_wal)
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sql(db, journal);
    sql(db, "CREATE TABLE things(name); INSERT INTO things VALUES('mine')");
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_the_database_of_another_program_is_refused(void **state)
{
    (void)state;
    make_foreign("PRAGMA journal_mode=DELETE", false);
    refused(store, file, "another program");
}

static void test_a_wal_database_of_another_program_is_refused(void **state)
{
    (void)state;
    make_foreign("PRAGMA journal_mode=WAL", false);
    refused(store, file, "another program");
}

static void test_a_database_of_another_program_with_a_log_to_recover_is_refused(void **state)
{
    (void)state;
    make_foreign("PRAGMA journal_mode=WAL", true);
    refused(store, file, "another program");
}

static void test_what_is_no_database_is_refused(void **state)
{
    static const char zeros[4096];
    static const struct {
        const char *what;
        size_t len;
    } bad[] = {{"x", 1},      {"Dear diary,\nit rained.\n", 23}, {zeros, 100},
               {zeros, 4096}, {"SQLite format 3", 16},           {"SQLite format 3", 15}};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        kit_write_file(file, bad[i].what, bad[i].len);
        refused(store, file, "");
    }
}

static void test_a_log_cut_short_is_refused(void **state)
{
    (void)state;
    make_log();
    assert_int_equal(truncate(file, 4096), 0);
    refused(store, file, "");
    assert_int_equal(unlink(file), 0);
    make_log();
    assert_int_equal(truncate(file, 100), 0);
    refused(store, file, "");
}

#define CASE(f) cmocka_unit_test_setup(f, fresh_dir)

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: bad_start_test QUICKSTART");
    kit_guard();
    program = kit_program(argv[1]);
    const struct CMUnitTest tests[] = {
        CASE(test_an_unknown_option_gets_the_usage),
        CASE(test_a_malformed_address_is_refused),
        CASE(test_a_port_in_use_is_refused),
        CASE(test_an_address_of_another_machine_is_refused),
        CASE(test_an_unknown_store_is_refused),
        CASE(test_a_directory_is_refused),
        CASE(test_a_missing_directory_is_refused),
        CASE(test_a_directory_without_the_right_to_write_is_refused),
        CASE(test_a_file_without_the_right_to_write_is_refused),
        CASE(test_a_log_in_a_directory_without_the_right_to_write_is_refused),
        CASE(test_a_device_is_refused),
        CASE(test_a_second_writing_process_is_refused_and_told_the_pid_of_the_first),
        CASE(test_a_log_of_a_newer_format_is_refused),
        CASE(test_a_file_with_another_application_id_is_refused),
        CASE(test_the_database_of_another_program_is_refused),
        CASE(test_a_wal_database_of_another_program_is_refused),
        CASE(test_a_database_of_another_program_with_a_log_to_recover_is_refused),
        CASE(test_what_is_no_database_is_refused),
        CASE(test_a_log_cut_short_is_refused),
    };
    return cmocka_run_group_tests_name("bad start", tests, NULL, NULL);
}
