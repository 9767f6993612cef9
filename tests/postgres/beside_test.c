/* What must not wait: a beat for a commit that hangs, the log's own reading for queries of the program's that hold their
 * connections. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "several_i.h"

#include <pthread.h>

enum { QUERIES = 6 };

/* ---- queries of the program's ------------------------------------------------------------------- */

typedef struct hall {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t shown;
    bool go_on;
} hall;

typedef struct asking {
    fixture *f;
    hall *hall;
    hark_err err;
} asking;

static bool hold_on(const hark_row *row, void *ud)
{
    hall *h = ((asking *)ud)->hall;
    (void)row;
    pthread_mutex_lock(&h->lock);
    h->shown++;
    pthread_cond_broadcast(&h->changed);
    while (!h->go_on)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
    return true;
}

static void *ask(void *arg)
{
    asking *a = arg;
    hark_errinfo ei;
    a->err = a->f->ops->query(a->f->store, "SELECT 1", NULL, 0, hold_on, a, &ei);
    return NULL;
}

static void test_queries_that_hold_their_rows_leave_a_connection_to_read_with(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    hall h = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    asking a[QUERIES];
    pthread_t threads[QUERIES];
    hark_event *e[4];
    const hark_store_query q = {.size = sizeof q, .limit = 4};
    hark_store_page page = {.events = e};
    add_some(f, 2);
    for (size_t i = 0; i < QUERIES; i++) {
        a[i] = (asking){.f = f, .hall = &h, .err = HARK_EINTERNAL};
        assert_int_equal(pthread_create(&threads[i], NULL, ask, &a[i]), 0);
    }
    pthread_mutex_lock(&h.lock);
    while (h.shown < 3)
        pthread_cond_wait(&h.changed, &h.lock);
    pthread_mutex_unlock(&h.lock);
    assert_ok(f, f->ops->read(f->store, &q, &page, &f->ei));
    drop_events(NULL, e, page.n);
    assert_int_equal(page.n, 2);
    pthread_mutex_lock(&h.lock);
    h.go_on = true;
    pthread_cond_broadcast(&h.changed);
    pthread_mutex_unlock(&h.lock);
    for (size_t i = 0; i < QUERIES; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(a[i].err, HARK_OK);
    }
    assert_int_equal(h.shown, QUERIES);
}

/* ---- beats --------------------------------------------------------------------------------------- */

static PGconn *lock_in(const several *x, const char *what)
{
    char sql[128];
    PGconn *c = PQconnectdb(server_url(the_server));
    (void)snprintf(sql, sizeof sql, "BEGIN; SELECT 1 FROM %s.%s FOR UPDATE", x->schema, what);
    PGresult *r = PQexec(c, sql);
    assert_int_equal(PQresultStatus(r), PGRES_TUPLES_OK);
    PQclear(r);
    return c;
}

/* What a commit has locked that waits for a standby, as long as it does. */
static void test_a_beat_does_not_wait_for_a_commit_that_hangs(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    int64_t until, ahead;
    PGconn *c = lock_in(x, "tickets");
    int64_t since = hk_mono_ns();
    assert_ok(f, f->ops->beat(f->store, &until, &ahead, &f->ei));
    assert_true(until > since);
    PQfinish(c);
}

/* ---- values that are kept ------------------------------------------------------------------------ */

static void test_what_was_kept_goes_by_the_servers_clock(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    (void)run_in(x,
                 "INSERT INTO %s.kept VALUES('over', 1, ''), ('kept', (extract(epoch FROM now()) "
                 "+ 3600)::int8 * 1000000000, '')");
    int64_t until = hk_mono_ns() + INT64_C(20000000000);
    while (run_in(x, "SELECT count(*) FROM %s.kept") > 1 && hk_mono_ns() < until)
        (void)f->ops->maintain(f->store, 0);
    assert_int_equal(run_in(x, "SELECT count(*) FROM %s.kept WHERE key = 'kept'"), 1);
    assert_int_equal(run_in(x, "SELECT count(*) FROM %s.kept"), 1);
}

typedef struct sweeping {
    fixture *f;
    pthread_mutex_t lock;
    bool done;
} sweeping;

static void *sweep(void *arg)
{
    sweeping *w = arg;
    (void)w->f->ops->maintain(w->f->store, 0);
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static bool is_done(sweeping *w)
{
    pthread_mutex_lock(&w->lock);
    bool done = w->done;
    pthread_mutex_unlock(&w->lock);
    return done;
}

/* Its time was over, and a transaction that keeps it anew is under way. */
static void test_what_is_being_kept_anew_is_not_swept(void **state)
{
    several *x = *state;
    sweeping w = {.f = &x->at[0], .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t thread;
    (void)run_in(x, "INSERT INTO %s.kept VALUES('again', 1, '')");
    PGconn *c = lock_in(x, "kept");
    char sql[128];
    (void)snprintf(sql, sizeof sql, "UPDATE %s.kept SET until = 9000000000000000000", x->schema);
    PQclear(PQexec(c, sql));
    assert_int_equal(pthread_create(&thread, NULL, sweep, &w), 0);
    while (!is_done(&w) && !run_in(x, "SELECT count(*) FROM pg_locks WHERE NOT granted"))
        ;
    PQclear(PQexec(c, "COMMIT"));
    assert_int_equal(pthread_join(thread, NULL), 0);
    PQfinish(c);
    assert_int_equal(run_in(x, "SELECT count(*) FROM %s.kept"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEVERAL(test_queries_that_hold_their_rows_leave_a_connection_to_read_with),
        SEVERAL(test_a_beat_does_not_wait_for_a_commit_that_hangs),
        SEVERAL(test_what_was_kept_goes_by_the_servers_clock),
        SEVERAL(test_what_is_being_kept_anew_is_not_swept),
    };
    (void)setenv("HARK_LOG", "error", 0);
    the_server = server_postgres(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_free(the_server);
    return failed;
}
