/* Connections that are lost: what becomes of the group in hand, and of a commit without an answer. And opening: who is let in, and
 * who hears why not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/store_test_i.h"

#include "proxy.h"
#include "servers.h"

#include <libpq-fe.h>
#include <pthread.h>

static server *the_server;
static unsigned n_logs;

typedef struct lost {
    fixture f;
    proxy *proxy;
} lost;

static int set_up_lost(void **state)
{
    lost *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->proxy = proxy_new(server_port(the_server));
    (void)snprintf(l->f.url, sizeof l->f.url, "postgresql://hark@127.0.0.1:%d/hark?log=lost%u",
                   proxy_port(l->proxy), ++n_logs);
    open_store(&l->f);
    *state = l;
    return 0;
}

static int tear_down_lost(void **state)
{
    lost *l = *state;
    l->f.ops->close(l->f.store);
    proxy_free(l->proxy);
    free(l);
    return 0;
}

static hark_err append(fixture *f, const char *id)
{
    hark_store_append a = {
        .event = event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = id, .source = "/test"))};
    hk_event_digest(a.event, f->info.log_id, a.digest);
    hark_err err = f->ops->append(f->store, &a, 1, &f->ei);
    (void)hark_event_unref(a.event);
    return err;
}

/* The next group that the store begins, once it has connected again. */
static void begin_again(fixture *f)
{
    int64_t until = hk_mono_ns() + INT64_C(20000000000);
    hark_err err;
    while ((err = f->ops->begin(f->store, &f->ei)) == HARK_ESTORE && hk_mono_ns() < until)
        (void)f->ops->maintain(f->store, 0);
    if (err)
        fail_msg("begin: %s: %s", hark_err_name(err), f->ei.text);
}

static void assert_last(fixture *f, uint64_t last)
{
    hark_event *e[8];
    const hark_store_query q = {.size = sizeof q, .limit = 8};
    hark_store_page page = {.events = e};
    hark_store_info now;
    f->ops->info(f->store, &now);
    assert_int_equal(now.last_sequence, last);
    assert_ok(f, f->ops->read(f->store, &q, &page, &f->ei));
    assert_int_equal(page.n, last);
    for (size_t i = 0; i < page.n; i++)
        (void)hark_event_unref(e[i]);
}

static void test_a_group_whose_connection_is_lost_stores_nothing(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    begin(f);
    assert_ok(f, append(f, "a"));
    proxy_cut(l->proxy);
    assert_err(f, HARK_ESTORE, f->ops->commit(f->store, &f->ei));
    begin_again(f);
    assert_ok(f, append(f, "a"));
    commit(f);
    assert_last(f, 1);
}

static void test_a_commit_that_never_came_there_stores_nothing(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    begin(f);
    assert_ok(f, append(f, "a"));
    proxy_cut_after(l->proxy, PROXY_TO_SERVER, 1);
    assert_err(f, HARK_ESTORE, f->ops->commit(f->store, &f->ei));
    assert_says(f, "nothing was stored");
    begin_again(f);
    commit(f);
    assert_last(f, 0);
}

static void test_a_commit_without_an_answer_is_found_out(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    for (uint64_t i = 1; i <= 5; i++) {
        begin(f);
        assert_ok(f, append(f, NULL));
        proxy_cut_reply(l->proxy, PROXY_TO_CLIENT, "COMMIT", 1);
        assert_ok(f, f->ops->commit(f->store, &f->ei));
        assert_int_equal(proxy_counted(l->proxy).cuts > 0, 1);
        assert_last(f, i);
    }
    begin(f);
    assert_ok(f, append(f, "after"));
    commit(f);
    assert_last(f, 6);
}

static void test_what_cannot_be_found_out_is_unknown_and_writing_goes_on(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    begin(f);
    assert_ok(f, append(f, "a"));
    proxy_refuse(l->proxy, true);
    proxy_cut_reply(l->proxy, PROXY_TO_CLIENT, "COMMIT", 1);
    assert_err(f, HARK_EUNKNOWN, f->ops->commit(f->store, &f->ei));
    assert_says(f, "repeating with the same id is safe");
    proxy_pass(l->proxy);
    proxy_refuse(l->proxy, false);
    begin_again(f);
    assert_ok(f, append(f, "a")); /* it was stored: a repeat */
    assert_ok(f, append(f, "b"));
    commit(f);
    assert_last(f, 2);
}

static void test_a_server_that_is_gone_is_an_error_until_it_is_back(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    add_some(f, 2);
    server_kill(the_server);
    hark_err err = f->ops->begin(f->store, &f->ei);
    if (!err) {
        err = append(f, "b");
        err = err ? err : f->ops->commit(f->store, &f->ei);
        f->ops->rollback(f->store);
    }
    server_start(the_server);
    assert_int_equal(err, HARK_ESTORE);
    begin_again(f);
    assert_ok(f, append(f, "b"));
    commit(f);
    assert_last(f, 3);
}

static void test_a_log_that_others_went_on_with_is_gone_on_with(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    fixture other = {0};
    add_some(f, 1);
    proxy_refuse(l->proxy, true);
    proxy_cut(l->proxy);
    (void)snprintf(other.url, sizeof other.url, "postgresql://hark@127.0.0.1:%d/hark?log=lost%u",
                   server_port(the_server), n_logs);
    open_store(&other);
    add_some(&other, 2);
    other.ops->close(other.store);
    proxy_refuse(l->proxy, false);
    begin_again(f);
    if (append(f, "x")) { /* where it noticed */
        f->ops->rollback(f->store);
        begin_again(f);
        assert_ok(f, append(f, "x"));
    }
    commit(f);
    assert_last(f, 4);
}

static void test_statements_that_a_closure_removed_are_prepared_anew(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    hark_store_fate fate;
    begin(f);
    assert_ok(f, f->ops->tx_begin(f->store, hk_mono_ns() + INT64_C(5000000000), false, &f->ei));
    PGconn *pg = f->ops->tx_native(f->store);
    assert_non_null(pg);
    PQclear(PQexec(pg, "DEALLOCATE ALL"));
    assert_true(f->ops->tx_end(f->store, true, &fate, &f->ei) != HARK_OK);
    assert_int_equal(fate, HARK_STORE_SPOILT);
    f->ops->rollback(f->store);
    begin_again(f);
    assert_ok(f, append(f, "a"));
    commit(f);
    assert_last(f, 1);
}

/* ---- opening ----------------------------------------------------------------------------------- */

static hark_err try_open(const char *url, const hark_store_opts *opts, hark_errinfo *ei)
{
    const hark_store_ops *ops;
    const char *rest;
    hark_store *s = NULL;
    hark_err err = hk_store_find(url, &ops, &rest, ei);
    if (!err)
        err = ops->open(rest, opts, NULL, &s, ei);
    if (!err)
        ops->close(s);
    return err;
}

static void assert_open(hark_err expected, const char *says, const char *fmt, int port)
{
    char url[160];
    hark_errinfo ei = {0};
    (void)snprintf(url, sizeof url, fmt, port);
    hark_err err = try_open(url, NULL, &ei);
    if (err != expected || !strstr(ei.text, says) || strstr(ei.text, "secret"))
        fail_msg("%s: expected %s and '%s', got %s: %s", url, hark_err_name(expected), says,
                 hark_err_name(err), ei.text);
}

static void run_sql(const char *sql)
{
    PGconn *c = PQconnectdb(server_url(the_server));
    PGresult *r = PQexec(c, sql);
    if (PQresultStatus(r) != PGRES_COMMAND_OK && PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(c));
    PQclear(r);
    PQfinish(c);
}

static void test_who_cannot_get_in_hears_why(void **state)
{
    (void)state;
    int port = server_port(the_server);
    assert_open(HARK_EDENIED, "nobody_here", "postgresql://nobody_here:secret@127.0.0.1:%d/hark",
                port);
    assert_open(HARK_ENOTFOUND, "nosuch at 127.0.0.1", "postgres://hark@127.0.0.1:%d/nosuch", port);
    assert_open(HARK_ESTORE, "see that the server runs", "postgresql://hark:secret@127.0.0.1:%d/x",
                1);
}

static void test_a_database_of_another_encoding_is_refused(void **state)
{
    (void)state;
    run_sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0");
    assert_open(HARK_EFORMAT, "UTF8", "postgresql://hark@127.0.0.1:%d/latin",
                server_port(the_server));
}

static void test_a_role_without_the_right_hears_so(void **state)
{
    (void)state;
    run_sql("CREATE ROLE guest LOGIN");
    assert_open(HARK_EDENIED, "permission denied", "postgresql://guest@127.0.0.1:%d/hark?log=guest",
                server_port(the_server));
}

static void test_tables_that_are_not_ours_are_left_alone(void **state)
{
    (void)state;
    run_sql("CREATE SCHEMA hark_theirs; CREATE TABLE hark_theirs.log(line text)");
    assert_open(HARK_EFORMAT, "not hark's", "postgresql://hark@127.0.0.1:%d/hark?log=theirs",
                server_port(the_server));
}

static void test_a_log_of_before_several_processes_is_refused(void **state)
{
    (void)state;
    run_sql("CREATE SCHEMA hark_old; CREATE TABLE hark_old.log(one int, log_id bytea, format int, "
            "epoch int8, lock_no int, last int8, ticket int8)");
    assert_open(HARK_EFORMAT, "never released", "postgresql://hark@127.0.0.1:%d/hark?log=old",
                server_port(the_server));
}

static void test_existing_asks_for_a_log_that_is_there(void **state)
{
    (void)state;
    const hark_store_opts opts = {.size = sizeof opts, .existing = 1};
    char url[128];
    hark_errinfo ei = {0};
    (void)snprintf(url, sizeof url, "%s?log=existing", server_url(the_server));
    assert_int_equal(try_open(url, &opts, &ei), HARK_ENOTFOUND);
    assert_int_equal(try_open(url, NULL, &ei), HARK_OK);
    assert_int_equal(try_open(url, &opts, &ei), HARK_OK);
}

static void test_a_second_process_is_welcome(void **state)
{
    lost *l = *state;
    hark_errinfo ei = {0};
    assert_int_equal(try_open(l->f.url, NULL, &ei), HARK_OK);
}

/* Passwords are asked for from now on, but from hark. */
static void ask_for_passwords(void)
{
    char path[256], old[8192];
    (void)snprintf(path, sizeof path, "%s/data/pg_hba.conf", server_dir(the_server));
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t n = fread(old, 1, sizeof old - 1, file);
    old[n] = '\0';
    assert_int_equal(fclose(file), 0);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "host all keyed all scram-sha-256\n%s", old);
    assert_int_equal(fclose(file), 0);
    run_sql("CREATE ROLE keyed LOGIN PASSWORD 'right'");
    run_sql("SELECT pg_reload_conf()");
}

static void test_a_wrong_password_is_told_without_it(void **state)
{
    (void)state;
    int port = server_port(the_server);
    ask_for_passwords();
    assert_open(HARK_EDENIED, "does not let keyed in; check user and password",
                "postgresql://keyed:secret@127.0.0.1:%d/hark", port);
    assert_open(HARK_EDENIED, "without a password", "postgresql://keyed@127.0.0.1:%d/hark", port);
}

static void test_the_class_is_the_servers(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    assert_int_equal(f->info.durability, HARK_DISK);
    run_sql("ALTER DATABASE hark SET synchronous_commit = off");
    f->ops->close(f->store);
    open_store(f);
    run_sql("ALTER DATABASE hark RESET synchronous_commit");
    assert_int_equal(f->info.durability, HARK_MEMORY);
}

/* ---- a commit that is still under way ------------------------------------------------------------ */

/* Of a statement that gives one number. */
static long long number(const char *sql)
{
    PGconn *c = PQconnectdb(server_url(the_server));
    PGresult *r = PQexec(c, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(c));
    long long n = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
    PQclear(r);
    PQfinish(c);
    return n;
}

/* From then on, new connections have it. */
static void have_standbys(const char *names)
{
    char sql[160];
    (void)snprintf(sql, sizeof sql, "ALTER SYSTEM SET synchronous_standby_names = '%s'", names);
    run_sql(sql);
    run_sql("SELECT pg_reload_conf()");
    (void)snprintf(sql, sizeof sql,
                   "SELECT (current_setting('synchronous_standby_names') = '%s')::int", names);
    while (!number(sql))
        ;
}

static bool no_schedule(void *ud, const hark_store_schedule *s)
{
    (void)ud;
    (void)s;
    return false;
}

/* The writer connects again while commits would wait for a standby: nothing of its own is ended by force from then on. */
static void become_replicated(lost *l)
{
    fixture *f = &l->f;
    have_standbys("nobody");
    proxy_cut(l->proxy);
    assert_err(f, HARK_ESTORE, f->ops->schedules(f->store, 1, 0, false, no_schedule, NULL, &f->ei));
    begin_again(f);
    f->ops->rollback(f->store);
    f->ops->info(f->store, &f->info);
    assert_int_equal(f->info.durability, HARK_REPLICATED);
    have_standbys("");
}

#define WAITING "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

static void *cut_when_it_waits(void *arg)
{
    while (!number(WAITING))
        ;
    proxy_cut(arg);
    return NULL;
}

/* The group is at the server, up to its COMMIT, and waits for the log when the connection is lost. */
static void test_what_is_told_not_to_be_stored_is_not_stored_later(void **state)
{
    lost *l = *state;
    fixture *f = &l->f;
    hark_err late = HARK_EINTERNAL;
    pthread_t thread;
    char sql[160];
    become_replicated(l);
    PGconn *c = PQconnectdb(server_url(the_server));
    (void)snprintf(sql, sizeof sql,
                   "SELECT pg_advisory_lock(1751216747, lock_no) FROM hark_lost%u.log", n_logs);
    PQclear(PQexec(c, sql));
    hark_store_append a = {
        .event = event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = "a", .source = "/test")),
        .late = &late};
    hk_event_digest(a.event, f->info.log_id, a.digest);
    assert_int_equal(pthread_create(&thread, NULL, cut_when_it_waits, l->proxy), 0);
    begin(f);
    assert_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    assert_err(f, HARK_ESTORE, f->ops->commit(f->store, &f->ei));
    assert_says(f, "nothing was stored");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(number(WAITING), 1);
    PQfinish(c);
    while (number("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
        ;
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM hark_lost%u.events", n_logs);
    assert_int_equal(number(sql), 0);
    begin_again(f);
    assert_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    commit(f);
    assert_int_equal(a.ret_sequence, 1);
    assert_int_equal(a.ret_duplicate, 0);
    (void)hark_event_unref(a.event);
}

#define LOST(test) cmocka_unit_test_setup_teardown(test, set_up_lost, tear_down_lost)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_cannot_get_in_hears_why),
        cmocka_unit_test(test_a_database_of_another_encoding_is_refused),
        cmocka_unit_test(test_a_role_without_the_right_hears_so),
        cmocka_unit_test(test_tables_that_are_not_ours_are_left_alone),
        cmocka_unit_test(test_a_log_of_before_several_processes_is_refused),
        cmocka_unit_test(test_existing_asks_for_a_log_that_is_there),
        cmocka_unit_test(test_a_wrong_password_is_told_without_it),
        LOST(test_a_second_process_is_welcome),
        LOST(test_the_class_is_the_servers),
        LOST(test_a_group_whose_connection_is_lost_stores_nothing),
        LOST(test_a_commit_that_never_came_there_stores_nothing),
        LOST(test_a_commit_without_an_answer_is_found_out),
        LOST(test_what_cannot_be_found_out_is_unknown_and_writing_goes_on),
        LOST(test_statements_that_a_closure_removed_are_prepared_anew),
        LOST(test_what_is_told_not_to_be_stored_is_not_stored_later),
        LOST(test_a_server_that_is_gone_is_an_error_until_it_is_back),
        LOST(test_a_log_that_others_went_on_with_is_gone_on_with),
    };
    (void)setenv("HARK_LOG", "error", 0);
    the_server = server_postgres(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_free(the_server);
    return failed;
}
