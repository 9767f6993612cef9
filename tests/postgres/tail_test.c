/* Following a log that others write to: what comes is seen, hints are sent, and history that a server lost is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "several_i.h"

#include <poll.h>
#include <pthread.h>

#define SECOND INT64_C(1000000000)

static hark_store_tail follow(fixture *f, uint64_t after, int64_t timeout_ns)
{
    hark_store_tail t = {.size = sizeof t};
    assert_ok(f, f->ops->tail(f->store, after, timeout_ns, &t, &f->ei));
    return t;
}

/* What it tells at the beginning, whatever has happened. */
static void begin_to_follow(fixture *f)
{
    hark_store_tail t = follow(f, 0, 0);
    assert_true(t.shares && t.schedules);
}

static void *add_one(void *arg)
{
    several *x = arg;
    add_some(&x->at[1], 1);
    return NULL;
}

static void test_what_others_append_ends_the_waiting(void **state)
{
    several *x = *state;
    pthread_t thread;
    begin_to_follow(&x->at[0]);
    assert_int_equal(pthread_create(&thread, NULL, add_one, x), 0);
    hark_store_tail t = {.last = 0};
    while (t.last == 0) /* it may also have something else to tell */
        t = follow(&x->at[0], 0, 60 * SECOND);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(t.last, 1);
    assert_int_equal(t.epoch, 1);
    assert_int_equal(t.lost_to, 0);
    hark_store_info info;
    x->at[0].ops->info(x->at[0].store, &info);
    assert_int_equal(info.last_sequence, 1);
    assert_int_equal(info.first_sequence, 1);
}

static void test_the_waiting_ends_in_time_and_when_it_is_told_to(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    begin_to_follow(f);
    int64_t began = hk_mono_ns();
    (void)follow(f, 0, SECOND / 20);
    assert_true(hk_mono_ns() - began >= SECOND / 20 - 1000000);
    f->ops->tail_wake(f->store); /* before, too */
    began = hk_mono_ns();
    (void)follow(f, 0, 600 * SECOND);
    assert_true(hk_mono_ns() - began < 300 * SECOND);
}

/* Of a connection that listens for the log's hints: the kind of the next one. */
static char next_hint(PGconn *c)
{
    PGnotify *n;
    while (!(n = PQnotifies(c))) {
        struct pollfd p = {.fd = PQsocket(c), .events = POLLIN};
        if (poll(&p, 1, 60000) <= 0 || !PQconsumeInput(c))
            fail_msg("no hint: %s", PQerrorMessage(c));
    }
    char kind = n->extra[0];
    PQfreemem(n);
    return kind;
}

static PGconn *listener(const several *x)
{
    char sql[64];
    PGconn *c = PQconnectdb(server_url(the_server));
    (void)snprintf(sql, sizeof sql, "LISTEN hark_%lld", run_in(x, "SELECT lock_no FROM %s.log"));
    PGresult *r = PQexec(c, sql);
    assert_int_equal(PQresultStatus(r), PGRES_COMMAND_OK);
    PQclear(r);
    return c;
}

static void test_others_are_given_a_hint_of_each_kind(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    hark_store_consumer c = consumer("c");
    begin_to_follow(f); /* and so it knows of others */
    PGconn *ear = listener(x);
    add_some(f, 1);
    (void)follow(f, 0, SECOND);
    assert_int_equal(next_hint(ear), 'e');
    assert_ok(f, load(f, &c));
    take_shares(f, c.ret_id, c.ret_generation);
    (void)follow(f, 1, SECOND / 20);
    assert_int_equal(next_hint(ear), 'c');
    hark_store_consumer_clear(&c);
    PQfinish(ear);
}

static void test_hints_of_schedules_reach_the_others(void **state)
{
    several *x = *state;
    fixture *a = &x->at[0], *b = &x->at[1];
    begin_to_follow(a);
    begin_to_follow(b);
    hark_store_schedule sch = {
        .due_ns = hk_wall_ns(),
        .event = event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = "s", .source = "/test"))};
    uint64_t seq;
    bool duplicate;
    write_ok(a, a->ops->schedule_add(a->store, &sch, &seq, &duplicate, &a->ei));
    (void)hark_event_unref(sch.event);
    hark_store_tail t = follow(b, 0, 60 * SECOND);
    assert_true(t.schedules);
    assert_false(follow(b, 0, 0).schedules);
}

/* The server goes back to sequence 3, as one that took over without having been waited for. */
static void
test_history_that_a_server_lost_is_told_and_its_sequences_are_not_used_again(void **state)
{
    several *x = *state;
    fixture *a = &x->at[0], *b = &x->at[1];
    add_some(a, 5);
    begin_to_follow(a);
    (void)follow(a, 0, 0);
    (void)run_in(x, "WITH d AS (DELETE FROM %s.events WHERE seq > 3) UPDATE %s.log SET last = 3");
    hark_store_tail t = follow(a, 5, 0);
    assert_int_equal(t.epoch, 2);
    assert_int_equal(t.lost_from, 4);
    assert_int_equal(t.lost_to, 5);
    assert_int_equal(t.last, 5);
    assert_int_equal(add(b, "t", NULL, NULL), 6);
    t = follow(a, 5, SECOND);
    assert_int_equal(t.last, 6);
    assert_int_equal(t.lost_to, 0);
    hark_store_info info;
    b->ops->close(b->store);
    open_store(b);
    b->ops->info(b->store, &info);
    assert_int_equal(info.epoch, 2);
}

static void test_another_server_raises_the_epoch_once(void **state)
{
    several *x = *state;
    add_some(&x->at[0], 2);
    (void)run_in(x, "UPDATE %s.log SET server = server + 1");
    for (size_t i = 0; i < SEVERAL; i++) {
        hark_store_info info;
        x->at[i].ops->close(x->at[i].store);
        open_store(&x->at[i]);
        x->at[i].ops->info(x->at[i].store, &info);
        assert_int_equal(info.epoch, 2);
        assert_int_equal(info.last_sequence, 2);
    }
    assert_int_equal(add(&x->at[0], "t", NULL, NULL), 3);
}

static void test_a_lost_connection_is_an_error_and_then_gone_on_after(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    hark_store_tail t = {.size = sizeof t};
    begin_to_follow(f);
    (void)run_in(x, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> "
                    "pg_backend_pid() AND application_name = 'hark'");
    assert_err(f, HARK_ESTORE, f->ops->tail(f->store, 0, 10 * SECOND, &t, &f->ei));
    t = follow(f, 0, 10 * SECOND);
    assert_true(t.shares && t.schedules); /* hints may have been missed */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEVERAL(test_what_others_append_ends_the_waiting),
        SEVERAL(test_the_waiting_ends_in_time_and_when_it_is_told_to),
        SEVERAL(test_others_are_given_a_hint_of_each_kind),
        SEVERAL(test_hints_of_schedules_reach_the_others),
        SEVERAL(test_history_that_a_server_lost_is_told_and_its_sequences_are_not_used_again),
        SEVERAL(test_another_server_raises_the_epoch_once),
        SEVERAL(test_a_lost_connection_is_an_error_and_then_gone_on_after),
    };
    (void)setenv("HARK_LOG", "error", 0);
    the_server = server_postgres(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_free(the_server);
    return failed;
}
