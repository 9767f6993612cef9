/* hark_tx_schedule: a row and an event that comes later are committed, or vanish, as one; each
 * schedule once, however often its closure runs. Cancelling, and what deliveries schedule, are in
 * tx_deadline_test.c. */
#include "outage.h"
#include "plan.h"

#include "servers.h"

/* ---- both or neither --------------------------------------------------------------------------- */

static void test_a_row_and_its_deadline_are_there_together(void **state)
{
    fixture *f = *state;
    plan soon = {.n = 1, .after_ms = 40}, much = {.n = 2, .after_ms = HOUR_MS};
    if (!shop_open(f))
        return;
    int64_t begin = hk_mono_ms();
    assert_ok(f, transact(f, order, &soon));
    assert_ok(f, transact(f, order, &much));
    assert_true(soon.ret > 0 && much.ret > soon.ret);
    assert_u64(shop_rows(f), 2);
    WAIT_UNTIL(shop_events(f) == 1);
    assert_true(hk_mono_ms() - begin >= 40);
    assert_waiting(f, 1);
    assert_ok(f, hark_schedule_cancel(f->bus, much.ret, &f->ei));
    assert_waiting(f, 0);
    assert_err(f, HARK_ENOTFOUND, hark_schedule_cancel(f->bus, soon.ret, &f->ei));
}

static void test_a_closure_that_fails_leaves_neither(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1, .after_ms = 1, .id = "x", .then = HARK_ECONFLICT};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_ECONFLICT, transact(f, order, &p));
    assert_waiting(f, 0);
    let_all_come(f, 20);
    shop_has(f, 0);
    p.then = HARK_OK; /* its id is free */
    assert_ok(f, transact(f, order, &p));
    WAIT_UNTIL(shop_events(f) == 1);
    shop_each_once(f, 1);
}

static hark_err order_slowly(hark_tx *tx, void *ud)
{
    hark_err err = order(tx, ud);
    shop_dawdle(25);
    return err;
}

static void test_a_closure_over_its_deadline_leaves_neither(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_EDEADLINE,
               hark_transact(f->bus, order_slowly, &p, TX(.deadline_ms = 20), NULL, &f->ei));
    assert_waiting(f, 0);
    let_all_come(f, 1);
    shop_has(f, 0);
}

static void test_a_group_that_fails_leaves_neither(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1, .id = "x"};
    hark_err err = HARK_OK;
    if (!shop_open(f))
        return;
    sqlite3 *db = f->server ? NULL : outage_begin(f);
    if (f->server)
        server_stop(f->server);
    err = transact(f, order, &p);
    if (f->server)
        server_start(f->server);
    else
        outage_end(db);
    assert_int_equal(hark_err_class(err), HARK_CLASS_TRANSIENT);
    assert_waiting(f, 0);
    WAIT_UNTIL(!transact(f, order, &p)); /* the store does not connect again at once */
    WAIT_UNTIL(shop_events(f) == 1);
    shop_each_once(f, 1);
}

static void test_a_deadline_outlives_the_process(void **state)
{
    fixture *f = *state;
    plan soon = {.n = 1, .after_ms = 30}, much = {.n = 2, .after_ms = HOUR_MS};
    if (!shop_open(f))
        return;
    assert_ok(f, transact(f, order, &soon));
    assert_ok(f, transact(f, order, &much));
    reopen_bus(f, NULL);
    WAIT_UNTIL(shop_events(f) == 1);
    assert_waiting(f, 1);
    assert_u64(shop_rows(f), 2);
}

/* ---- runs that are undone ------------------------------------------------------------------------ */

static hark_err plan_only(hark_tx *tx, void *ud)
{
    plan *p = ud;
    atomic_fetch_add(&p->runs, 1);
    hark_err err = hark_tx_exec(tx, "INSERT INTO plans VALUES(?)", HARK_ARGS(hark_int(p->n)));
    char json[24];
    (void)snprintf(json, sizeof json, "%lld", (long long)p->n);
    return err ? err
               : hark_tx_schedule(tx, HARK_OPTS(hark_event_spec, .type = "plan", .json = json),
                                  hark_after(p->after_ms), &p->ret);
}

static void send(fixture *f, plan *p)
{
    assert_ok(f, hark_transact_async(f->bus, plan_only, planned, p, SHOP_PATIENT, &f->ei));
}

static void assert_each_came_once(fixture *f, const plan *plans, size_t n)
{
    int64_t said[1024];
    bool seen[1024] = {false};
    assert_true(n <= HK_COUNTOF(said));
    for (size_t i = 0; i < n; i++)
        WAIT_UNTIL(atomic_load(&plans[i].calls) == 1);
    WAIT_UNTIL(shop_said(f, "plan", NULL, 0) >= n);
    let_all_come(f, 1);
    assert_u64(shop_said(f, "plan", said, HK_COUNTOF(said)), n);
    assert_u64(shop_ask(f, "SELECT count(*) FROM plans"), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(plans[i].err, HARK_OK);
        assert_true(said[i] >= 0 && (size_t)said[i] < n && !seen[said[i]]);
        seen[said[i]] = true;
        for (size_t k = 0; k < i; k++)
            assert_true(plans[k].ret != plans[i].ret);
    }
    assert_waiting(f, 0);
}

/* Among closures some of which undo the whole group. */
static void test_of_a_closure_that_runs_twice_one_schedule_is_left(void **state)
{
    fixture *f = *state;
    static plan plans[GROUP];
    int again = 0;
    party *p = begin_party(state);
    if (!p)
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE plans(n int)"));
    shut(p);
    for (int64_t n = 0; n < GROUP; n++) {
        plans[n] = (plan){.n = n, .after_ms = n % 3};
        send(f, &plans[n]);
        invite(p, n, n % 16 == 15 ? spoiler(f) : NULL);
    }
    (void)celebrate(p);
    assert_each_came_once(f, plans, GROUP);
    for (int i = 0; i < GROUP; i++)
        again += atomic_load(&plans[i].runs) > 1;
    assert_true(f->store->tx_alone ? again == 0 : again > 0);
    assert_outcome(p);
    clear_up(f, p);
}

/* Two more than later when it runs for the first time. */
static hark_err be_fickle(hark_tx *tx, void *ud)
{
    plan *p = ud;
    bool first = atomic_fetch_add(&p->runs, 1) == 0;
    hark_err err = HARK_OK;
    for (int i = 0; !err && i < (first ? 3 : 1); i++)
        err = schedule_it(tx, p);
    return err;
}

static void test_what_an_undone_run_has_scheduled_is_forgotten(void **state)
{
    fixture *f = *state;
    static plan fickle;
    party *p = begin_party(state);
    fickle = (plan){.after_ms = HOUR_MS};
    if (!p)
        return;
    shut(p);
    assert_ok(f, hark_transact_async(f->bus, be_fickle, planned, &fickle, SHOP_PATIENT, &f->ei));
    for (int64_t n = 0; n < GROUP; n++)
        invite(p, n, n ? NULL : spoiler(f));
    (void)celebrate(p);
    assert_int_equal(fickle.err, HARK_OK);
    /* once: on a machine so busy that they did not share a group */
    assert_waiting(f, atomic_load(&fickle.runs) > 1 ? 1 : 3);
    clear_up(f, p);
}

enum { THREADS = 4, EACH = 100 };

typedef struct planner {
    fixture *f;
    plan *plans;
} planner;

/* Every other one is waited for: its thread may lead the group. */
static void *plan_many(void *arg)
{
    planner *x = arg;
    for (int i = 0; i < EACH; i++) {
        plan *p = &x->plans[i];
        if (i % 2)
            MUST(hark_transact_async(x->f->bus, plan_only, planned, p, SHOP_PATIENT, NULL) ==
                 HARK_OK);
        else
            planned(hark_transact(x->f->bus, plan_only, p, SHOP_PATIENT, NULL, NULL), NULL, NULL,
                    p);
    }
    return NULL;
}

static void test_closures_of_many_threads_have_each_their_schedule(void **state)
{
    fixture *f = *state;
    static plan plans[THREADS * EACH];
    planner planners[THREADS];
    pthread_t threads[THREADS];
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE plans(n int)"));
    for (int64_t n = 0; n < THREADS * EACH; n++)
        plans[n] = (plan){.n = n, .after_ms = n * 7 % 20};
    for (size_t i = 0; i < THREADS; i++) {
        planners[i] = (planner){.f = f, .plans = plans + i * EACH};
        assert_int_equal(pthread_create(&threads[i], NULL, plan_many, &planners[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_each_came_once(f, plans, THREADS * EACH);
}

/* ---- repeats, and what is refused ------------------------------------------------------------------- */

static hark_err schedule_thrice(hark_tx *tx, void *ud)
{
    plan *p = ud;
    hark_err err = order(tx, p);
    hark_schedule_id first = p->ret;
    if (err || (err = schedule_it(tx, p)) != HARK_OK)
        return err;
    MUST(p->ret == first);
    p->n++;
    MUST(schedule_it(tx, p) == HARK_ECONFLICT && p->ret == first);
    MUST(strstr(hark_tx_error(tx), "other content"));
    p->n--;
    p->id = "taken";
    MUST(schedule_it(tx, p) == HARK_EEXIST && p->ret == first);
    MUST(strstr(hark_tx_error(tx), "in the log already"));
    p->id = "x";
    return HARK_OK;
}

static void test_the_same_event_is_scheduled_once_and_the_closure_goes_on(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1, .id = "x", .after_ms = HOUR_MS};
    if (!shop_open(f))
        return;
    assert_ok(f,
              hark_publish_ei(
                  f->bus, HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .id = "taken", .json = "1"),
                  NULL, &f->ei));
    assert_ok(f, transact(f, schedule_thrice, &p));
    hark_schedule_id first = p.ret;
    assert_ok(f, transact(f, schedule_thrice, &p));
    assert_u64(p.ret, first);
    assert_u64(shop_rows(f), 2);
    assert_waiting(f, 1);
}

static hark_err too_late(hark_tx *tx, const hark_receipt *last, void *ud)
{
    plan *p = ud;
    (void)last;
    MUST(schedule_it(tx, p) == HARK_EINVAL && hark_tx_schedule_cancel(tx, 1) == HARK_EINVAL);
    MUST(strstr(hark_tx_error(tx), "after the closure has returned"));
    return HARK_OK;
}

static hark_err schedule_wrongly(hark_tx *tx, void *ud)
{
    const hark_event_spec *versioned =
        HARK_OPTS(hark_event_spec, .type = "t", .subject = "s", .expected_version = 1);
    MUST(hark_tx_schedule(tx, versioned, hark_after(1), NULL) == HARK_EINVAL);
    MUST(strstr(hark_tx_error(tx), "expected_version"));
    const hark_event_spec *good = HARK_OPTS(hark_event_spec, .type = "t");
    MUST(hark_tx_schedule(tx, good, hark_after(-1), NULL) == HARK_EINVAL);
    MUST(strstr(hark_tx_error(tx), "after_ms"));
    MUST(hark_tx_schedule(tx, HARK_OPTS(hark_event_spec, .type = ""), hark_after(1), NULL) ==
         HARK_EINVAL);
    MUST(hark_tx_schedule_cancel(tx, 77) == HARK_ENOTFOUND);
    hark_tx_then(tx, too_late, ud);
    return HARK_OK;
}

static void test_what_is_refused_changes_nothing(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1};
    if (!shop_open(f))
        return;
    assert_ok(f, transact(f, schedule_wrongly, &p));
    assert_waiting(f, 0);
}

/* The ids that the log takes are no change of the program's. */
static hark_err alter_and_schedule(hark_tx *tx, void *ud)
{
    plan *p = ud;
    const dialect *d = dialect_of(p->f);
    hark_err err = d->native(tx, d->counting);
    err = err ? err : order(tx, ud);
    return err ? err : d->native(tx, "INSERT INTO a VALUES(7)");
}

static void test_a_closure_that_makes_tables_natively_may_schedule(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1, .f = f};
    if (!shop_open(f))
        return;
    assert_ok(f, transact(f, alter_and_schedule, &p));
    WAIT_UNTIL(shop_events(f) == 1);
    shop_each_once(f, 1);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_row_and_its_deadline_are_there_together),
    TEST(test_a_closure_that_fails_leaves_neither),
    TEST(test_a_closure_over_its_deadline_leaves_neither),
    TEST(test_a_group_that_fails_leaves_neither),
    TEST(test_a_deadline_outlives_the_process),
    TEST(test_of_a_closure_that_runs_twice_one_schedule_is_left),
    TEST(test_what_an_undone_run_has_scheduled_is_forgotten),
    TEST(test_closures_of_many_threads_have_each_their_schedule),
    TEST(test_the_same_event_is_scheduled_once_and_the_closure_goes_on),
    TEST(test_what_is_refused_changes_nothing),
    TEST(test_a_closure_that_makes_tables_natively_may_schedule),
};

CONFORMANCE_MAIN("tx_schedule")
