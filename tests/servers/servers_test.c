/* The servers: started, killed, frozen and stopped, and nothing of them left behind. */
#include "servers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { HUNG_S = 60 };

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- PostgreSQL ----------------------------------------------------------------------------------- */

static PGconn *pg_connect(const char *url)
{
    PGconn *c = PQconnectdb(url);
    if (PQstatus(c) != CONNECTION_OK)
        fail_msg("%s: %s", url, PQerrorMessage(c));
    return c;
}

/* The first field of what a statement gives. */
static void pg_says(PGconn *c, const char *sql, const char *expected)
{
    PGresult *r = PQexec(c, sql);
    ExecStatusType status = PQresultStatus(r);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(c));
    if (expected)
        assert_string_equal(PQgetvalue(r, 0, 0), expected);
    PQclear(r);
}

static void test_postgres_is_as_it_was_ordered(void **state)
{
    server *s = server_postgres((const char *const[]){"work_mem=5MB", "max_connections=7", NULL});
    PGconn *c = pg_connect(server_url(s));
    (void)state;
    assert_int_equal(PQping(server_url(s)), PQPING_OK);
    pg_says(c, "SELECT current_user || '/' || current_database()", "hark/hark");
    pg_says(c, "SHOW fsync", "on");
    pg_says(c, "SHOW listen_addresses", "127.0.0.1");
    pg_says(c, "SHOW unix_socket_directories", "");
    pg_says(c, "SHOW server_encoding", "UTF8");
    pg_says(c, "SHOW work_mem", "5MB");
    pg_says(c, "SHOW max_connections", "7");
    assert_int_not_equal(server_port(s), 5432);
    PQfinish(c);
    server_free(s);
}

static void test_postgres_keeps_what_was_committed_before_a_kill(void **state)
{
    server *s = *state;
    int port = server_port(s);
    PGconn *c = pg_connect(server_url(s));
    pg_says(c, "CREATE TABLE kept AS SELECT 42 AS n", NULL);
    pg_says(c, "BEGIN; INSERT INTO kept VALUES (43)", NULL);
    server_kill(s);
    assert_int_equal(PQping(server_url(s)), PQPING_NO_RESPONSE);
    PQreset(c);
    assert_int_equal(PQstatus(c), CONNECTION_BAD);
    PQfinish(c);
    server_start(s);
    assert_int_equal(server_port(s), port);
    c = pg_connect(server_url(s));
    pg_says(c, "SELECT string_agg(n::text, ',') FROM kept", "42");
    pg_says(c, "DROP TABLE kept", NULL);
    PQfinish(c);
}

static void test_postgres_can_be_killed_again_and_again(void **state)
{
    server *s = *state;
    for (int i = 0; i < 3; i++) {
        PGconn *c = pg_connect(server_url(s));
        if (i == 0)
            pg_says(c, "CREATE TABLE again (n int)", NULL);
        pg_says(c, "INSERT INTO again VALUES (1)", NULL);
        server_kill(s);
        PQfinish(c);
        server_start(s);
    }
    PGconn *c = pg_connect(server_url(s));
    pg_says(c, "SELECT count(*) FROM again", "3");
    PQfinish(c);
}

/* The state ('T' = stopped) and the parent of a process. */
static char state_of(pid_t pid, int *ret_parent)
{
    char path[64], line[512] = "", state = '?';
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    (void)fclose(f);
    const char *end = strrchr(line, ')');
    assert_int_equal(end ? sscanf(end, ") %c %d", &state, ret_parent) : 0, 2);
    return state;
}

static bool has_data(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_postgres_and_its_sessions_stand_still_when_frozen(void **state)
{
    server *s = *state;
    PGconn *c = pg_connect(server_url(s));
    int parent;
    server_freeze(s);
    assert_int_equal(state_of(PQbackendPID(c), &parent), 'T');
    assert_int_equal(state_of(parent, &parent), 'T');
    assert_int_equal(PQsendQuery(c, "SELECT 7"), 1);
    assert_int_equal(PQflush(c), 0);
    assert_false(has_data(PQsocket(c)));
    server_thaw(s);
    PGresult *r = PQgetResult(c);
    assert_string_equal(PQgetvalue(r, 0, 0), "7");
    PQclear(r);
    PQfinish(c);
}

static void test_postgres_ends_its_sessions_when_stopped(void **state)
{
    server *s = *state;
    PGconn *c = pg_connect(server_url(s));
    server_stop(s);
    PGresult *r = PQexec(c, "SELECT 1");
    assert_int_not_equal(PQresultStatus(r), PGRES_TUPLES_OK);
    PQclear(r);
    PQfinish(c);
    assert_int_equal(PQping(server_url(s)), PQPING_NO_RESPONSE);
    server_start(s);
    assert_int_equal(PQping(server_url(s)), PQPING_OK);
}

static void test_a_frozen_postgres_can_be_stopped(void **state)
{
    server *s = *state;
    server_freeze(s);
    server_stop(s);
    server_start(s);
    assert_int_equal(PQping(server_url(s)), PQPING_OK);
}

static int start_postgres(void **state)
{
    *state = server_postgres(NULL);
    return 0;
}

static int start_redis(void **state)
{
    *state = server_redis(NULL);
    return 0;
}

static int end_server(void **state)
{
    server_free(*state);
    return 0;
}

/* ---- Redis ---------------------------------------------------------------------------------------- */

static int dial(int port)
{
    const struct timeval most = {.tv_sec = HUNG_S};
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most), 0);
    if (connect(fd, (struct sockaddr *)&sa, sizeof sa) == 0)
        return fd;
    close(fd);
    return -1;
}

static void hears(int fd, const char *expected)
{
    char buf[128] = "";
    size_t n = 0;
    while (n < strlen(expected)) {
        ssize_t got = recv(fd, buf + n, strlen(expected) - n, 0);
        if (got <= 0)
            fail_msg("expected '%s', got '%s' and the end", expected, buf);
        n += (size_t)got;
    }
    assert_string_equal(buf, expected);
}

static void says(int fd, const char *command, const char *expected)
{
    assert_int_equal(send(fd, command, strlen(command), MSG_NOSIGNAL), (int)strlen(command));
    hears(fd, expected);
}

static void test_redis_is_as_it_was_ordered(void **state)
{
    server *s = server_redis((const char *const[]){"--maxmemory", "12345678", NULL});
    int fd = dial(server_port(s));
    (void)state;
    assert_int_equal(strncmp(server_url(s), "redis://127.0.0.1:", 18), 0);
    assert_int_not_equal(server_port(s), 6379);
    says(fd, "PING\r\n", "+PONG\r\n");
    says(fd, "CONFIG GET appendfsync\r\n", "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways\r\n");
    says(fd, "CONFIG GET maxmemory\r\n", "*2\r\n$9\r\nmaxmemory\r\n$8\r\n12345678\r\n");
    close(fd);
    server_free(s);
}

static void test_redis_with_a_password_is_started(void **state)
{
    server *s = server_redis((const char *const[]){"--requirepass", "secret", NULL});
    int fd = dial(server_port(s));
    (void)state;
    says(fd, "PING\r\n", "-NOAUTH");
    close(fd);
    server_free(s);
}

static void test_redis_keeps_what_was_answered_before_a_kill(void **state)
{
    server *s = *state;
    int port = server_port(s), fd = dial(port);
    says(fd, "SET k v\r\n", "+OK\r\n");
    server_kill(s);
    assert_int_equal(dial(port), -1);
    close(fd);
    server_start(s);
    assert_int_equal(server_port(s), port);
    fd = dial(port);
    says(fd, "GET k\r\n", "$1\r\nv\r\n");
    close(fd);
}

static void test_redis_says_nothing_while_frozen(void **state)
{
    server *s = *state;
    int fd = dial(server_port(s));
    says(fd, "PING\r\n", "+PONG\r\n");
    server_freeze(s);
    assert_int_equal(send(fd, "PING\r\n", 6, MSG_NOSIGNAL), 6);
    assert_false(has_data(fd));
    server_thaw(s);
    hears(fd, "+PONG\r\n");
    close(fd);
}

static void test_redis_stops_and_starts(void **state)
{
    server *s = *state;
    int fd = dial(server_port(s));
    says(fd, "SET stop ped\r\n", "+OK\r\n");
    server_stop(s);
    assert_int_equal(dial(server_port(s)), -1);
    close(fd);
    server_start(s);
    fd = dial(server_port(s));
    says(fd, "GET stop\r\n", "$3\r\nped\r\n");
    close(fd);
}

/* ---- what is left behind ---------------------------------------------------------------------------- */

static void test_servers_stand_side_by_side(void **state)
{
    server *a = server_redis(NULL), *b = server_redis(NULL);
    (void)state;
    assert_int_not_equal(server_port(a), server_port(b));
    assert_string_not_equal(server_dir(a), server_dir(b));
    server_free(a);
    int fd = dial(server_port(b));
    says(fd, "PING\r\n", "+PONG\r\n");
    close(fd);
    server_free(b);
}

static void test_nothing_is_left_of_a_server_that_is_freed(void **state)
{
    server *(*const kinds[])(const char *const *) = {server_postgres, server_redis};
    (void)state;
    for (int i = 0; i < 6; i++) {
        char dir[128];
        server *s = kinds[i % 2](NULL);
        int port = server_port(s);
        (void)snprintf(dir, sizeof dir, "%s", server_dir(s));
        assert_true(exists(dir));
        if (i / 2 == 1)
            server_kill(s);
        if (i / 2 == 2)
            server_freeze(s);
        server_free(s);
        assert_false(exists(dir));
        assert_int_equal(dial(port), -1);
    }
    server_free(NULL);
}

/* What a program tells of the servers that it has started. */
typedef struct left {
    char dir[2][96];
    int port[2];
} left;

static _Noreturn void start_and_end(int out, int how)
{
    const struct rlimit none = {0};
    server *s[2] = {server_postgres(NULL), server_redis(NULL)};
    left l = {.port = {server_port(s[0]), server_port(s[1])}};
    for (int i = 0; i < 2; i++)
        (void)snprintf(l.dir[i], sizeof l.dir[i], "%s", server_dir(s[i]));
    (void)setrlimit(RLIMIT_CORE, &none);
    if (write(out, &l, sizeof l) != (ssize_t)sizeof l)
        _exit(2);
    if (how == 0)
        exit(0);
    (void)signal(how, SIG_DFL);
    (void)raise(how);
    _exit(3);
}

static void test_nothing_outlives_its_program_however_it_ends(void **state)
{
    const int ends[] = {0, SIGABRT, SIGKILL, SIGTERM};
    (void)state;
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int out[2], status;
        left l;
        assert_int_equal(pipe(out), 0);
        pid_t pid = fork();
        if (pid == 0) {
            (void)setpgid(0, 0);
            start_and_end(out[1], ends[i]);
        }
        close(out[1]);
        assert_int_equal(read(out[0], &l, sizeof l), sizeof l);
        close(out[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WIFSIGNALED(status) ? WTERMSIG(status) : 0, ends[i]);
        while (waitpid(-1, NULL, 0) > 0) /* what it left behind comes to us, and ends */
            continue;
        for (int k = 0; k < 2; k++) {
            assert_false(exists(l.dir[k]));
            assert_int_equal(dial(l.port[k]), -1);
        }
    }
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

/* As if it were from long ago. */
static void make_old(const char *dir)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    assert_int_equal(utimensat(AT_FDCWD, dir, long_ago, 0), 0);
}

static void test_what_a_killed_keeper_leaves_is_swept_away_later(void **state)
{
    server *s = server_postgres(NULL), *alive = server_redis(NULL);
    char dir[96];
    int port = server_port(s), postmaster, keeper;
    PGconn *c = pg_connect(server_url(s));
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s", server_dir(s));
    (void)state_of(PQbackendPID(c), &postmaster);
    (void)state_of(postmaster, &keeper);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    assert_int_equal(kill(keeper, SIGKILL), 0);
    server_free(s);
    assert_int_equal(waitpid(postmaster, NULL, 0), postmaster);
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    PQfinish(c);
    assert_int_equal(dial(port), -1); /* the server has not outlived its keeper, but this has: */
    assert_true(exists(dir));
    make_old(dir);
    make_old(server_dir(alive));
    server_free(server_redis(NULL));
    assert_false(exists(dir));
    assert_true(exists(server_dir(alive)));
    server_free(alive);
}

/* All that a child says until its end. */
static void slurp(int fd, char *buf, size_t size)
{
    size_t n = 0;
    ssize_t got = 1;
    while (got > 0 && n < size - 1) {
        got = read(fd, buf + n, size - 1 - n);
        n += got > 0 ? (size_t)got : 0;
    }
    buf[n] = '\0';
    close(fd);
}

static void test_what_does_not_start_aborts_with_the_servers_own_words(void **state)
{
    const struct rlimit none = {0};
    char said[8192];
    int err[2], status;
    (void)state;
    assert_int_equal(pipe(err), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGABRT, SIG_DFL);
        (void)dup2(err[1], STDERR_FILENO);
        close(err[1]);
        (void)server_postgres((const char *const[]){"nonsense=1", NULL});
        _exit(0);
    }
    close(err[1]);
    slurp(err[0], said, sizeof said);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    if (!strstr(said, "PostgreSQL") || !strstr(said, "unrecognized configuration parameter"))
        fail_msg("it said: %s", said);
}

int main(void)
{
    const struct CMUnitTest alone[] = {
        cmocka_unit_test(test_postgres_is_as_it_was_ordered),
        cmocka_unit_test(test_redis_is_as_it_was_ordered),
        cmocka_unit_test(test_redis_with_a_password_is_started),
        cmocka_unit_test(test_servers_stand_side_by_side),
        cmocka_unit_test(test_nothing_is_left_of_a_server_that_is_freed),
        cmocka_unit_test(test_nothing_outlives_its_program_however_it_ends),
        cmocka_unit_test(test_what_a_killed_keeper_leaves_is_swept_away_later),
        cmocka_unit_test(test_what_does_not_start_aborts_with_the_servers_own_words),
    };
    const struct CMUnitTest on_postgres[] = {
        cmocka_unit_test(test_postgres_keeps_what_was_committed_before_a_kill),
        cmocka_unit_test(test_postgres_can_be_killed_again_and_again),
        cmocka_unit_test(test_postgres_and_its_sessions_stand_still_when_frozen),
        cmocka_unit_test(test_postgres_ends_its_sessions_when_stopped),
        cmocka_unit_test(test_a_frozen_postgres_can_be_stopped),
    };
    const struct CMUnitTest on_redis[] = {
        cmocka_unit_test(test_redis_keeps_what_was_answered_before_a_kill),
        cmocka_unit_test(test_redis_says_nothing_while_frozen),
        cmocka_unit_test(test_redis_stops_and_starts),
    };
    int failed = cmocka_run_group_tests(alone, NULL, NULL);
    failed += cmocka_run_group_tests(on_postgres, start_postgres, end_server);
    failed += cmocka_run_group_tests(on_redis, start_redis, end_server);
    return failed;
}
