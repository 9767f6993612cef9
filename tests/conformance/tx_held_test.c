/* hark_delivery_transact on deliveries that are held: what settles them, those that come late, and closures
 * that wait while the time runs out, the consumer is reset or the bus drained. */
#include "shop.h"

/* So long that a busy machine has begun the transaction by then. */
enum { HOLD_MS = 250 };

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", .retry_delay_ms = 10, __VA_ARGS__)

static hark_err both_and_refuse(hark_tx *tx, shop_work *w)
{
    hark_err err = shop_both(tx, w);
    return err ? err : hark_tx_fail(tx, HARK_ECONFLICT, "refused %lld", (long long)w->n);
}

static hark_sub *pull(fixture *f, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, opts, &sub, &f->ei));
    return sub;
}

static hark_err transact(fixture *f, hark_delivery *d, shop_work *w)
{
    f->ei = (hark_errinfo){0};
    return hark_delivery_transact(d, shop_do, w, SHOP_PATIENT, &f->ei);
}

static void test_a_pulled_delivery_is_settled_by_its_transaction(void **state)
{
    fixture *f = *state;
    const hark_verdict answers[] = {HARK_ACK, HARK_RETRY, HARK_REJECT};
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 1));
    hark_delivery *d, *none;
    for (size_t i = 0; i < HK_COUNTOF(answers); i++) {
        shop_work w = {.then = shop_both, .n = (int64_t)publish_keyed(f, "t", "k")};
        assert_ok(f, hark_next(sub, HUNG_MS, &d));
        assert_ok(f, transact(f, d, &w));
        assert_err(f, HARK_ESTALE, transact(f, d, &w));
        assert_int_equal(f->ei.err, HARK_ESTALE);
        assert_int_equal(atomic_load(&w.runs), 1);
        assert_ok(f, hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = answers[i])));
        assert_u64(stats_of(sub).acked, i + 1);
    }
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 50, &none));
    assert_u64(stats_of(sub).retried + stats_of(sub).rejected, 0);
    shop_each_once(f, HK_COUNTOF(answers));
    end_sub(sub);
}

static void test_the_lane_goes_on_before_the_settled_delivery_is_given_back(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    hark_delivery *first, *second;
    shop_work w = {.then = shop_both, .n = 1};
    publish_keyed(f, "t", "k");
    uint64_t seq = publish_keyed(f, "t", "k");
    assert_ok(f, hark_next(sub, HUNG_MS, &first));
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 50, &second));
    assert_ok(f, transact(f, first, &w));
    assert_ok(f, hark_next(sub, HUNG_MS, &second));
    assert_u64(hark_delivery_sequence(second), seq);
    assert_ok(f, hark_settle(&second, NULL));
    assert_ok(f, hark_settle(&first, NULL));
    assert_u64(stats_of(sub).acked, 2);
    end_sub(sub);
}

static void test_an_attempt_that_has_timed_out_writes_nothing(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2, .hold_ms = HOLD_MS));
    hark_delivery *first, *second;
    shop_work late = {.then = shop_both, .n = 1}, w = {.then = shop_both, .n = 2};
    publish_keyed(f, "t", "k");
    assert_ok(f, hark_next(sub, HUNG_MS, &first));
    assert_ok(f, hark_next(sub, HUNG_MS, &second));
    assert_ok(f, hark_delivery_extend(second, HOUR_MS));
    assert_err(f, HARK_ESTALE, transact(f, first, &late));
    assert_int_equal(atomic_load(&late.runs), 0);
    assert_true(strlen(f->ei.text) > 0);
    shop_has(f, 0);
    assert_int_equal(hark_settle(&first, NULL), HARK_ESTALE);
    assert_ok(f, transact(f, second, &w));
    assert_ok(f, hark_settle(&second, NULL));
    shop_each_once(f, 1);
    end_sub(sub);
}

/* A transaction of a delivery on a thread of its own; its closure waits at the latch. */
typedef struct waiting {
    hark_delivery *d;
    pthread_t thread;
    latch at;
    shop_work w;
    hark_err (*then)(hark_tx *tx, shop_work *w);
    hark_err err;
} waiting;

static hark_err wait_then(hark_tx *tx, shop_work *w)
{
    waiting *x = w->ud;
    latch_wait(&x->at);
    return x->then(tx, w);
}

static void *waiting_main(void *arg)
{
    waiting *x = arg;
    x->err = hark_delivery_transact(x->d, shop_do, &x->w, SHOP_PATIENT, NULL);
    return NULL;
}

static void begin_waiting(fixture *f, waiting *x, hark_sub *sub)
{
    latch_init(&x->at);
    x->w = (shop_work){.then = wait_then, .n = 1, .ud = x};
    assert_ok(f, hark_next(sub, HUNG_MS, &x->d));
    MUST(pthread_create(&x->thread, NULL, waiting_main, x) == 0);
    WAIT_UNTIL(atomic_load(&x->at.arrived) == 1);
}

static void end_waiting(waiting *x)
{
    latch_open(&x->at);
    MUST(pthread_join(x->thread, NULL) == 0);
}

static void test_an_attempt_does_not_time_out_while_its_commit_is_under_way(void **state)
{
    fixture *f = *state;
    waiting x = {.then = shop_both};
    hark_delivery *none;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2, .hold_ms = HOLD_MS));
    publish_keyed(f, "t", "k");
    begin_waiting(f, &x, sub);
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 2 * HOLD_MS, &none));
    end_waiting(&x);
    assert_ok(f, x.err);
    assert_ok(f, hark_settle(&x.d, NULL));
    assert_u64(stats_of(sub).timed_out, 0);
    assert_u64(stats_of(sub).acked, 1);
    shop_each_once(f, 1);
    end_sub(sub);
}

static void test_an_attempt_whose_time_ended_in_a_commit_that_failed_comes_again(void **state)
{
    fixture *f = *state;
    waiting x = {.then = both_and_refuse};
    hark_delivery *none, *second;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2, .hold_ms = HOLD_MS));
    publish_keyed(f, "t", "k");
    begin_waiting(f, &x, sub);
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 2 * HOLD_MS, &none));
    end_waiting(&x);
    assert_int_equal(x.err, HARK_ECONFLICT);
    assert_ok(f, hark_next(sub, HUNG_MS, &second));
    assert_u64(hark_delivery_attempt(second), 2);
    assert_int_equal(hark_settle(&x.d, NULL), HARK_ESTALE);
    assert_ok(f, hark_settle(&second, NULL));
    shop_has(f, 0);
    end_sub(sub);
}

static void *reset_main(void *arg)
{
    hark_reset_result res = {.size = sizeof res};
    MUST(hark_consumer_reset(((fixture *)arg)->bus, "c",
                             HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), &res,
                             NULL) == HARK_OK);
    return NULL;
}

static void test_a_reset_meets_a_closure_that_waits(void **state)
{
    fixture *f = *state;
    waiting x = {.then = shop_both};
    pthread_t resetter;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    begin_waiting(f, &x, sub);
    MUST(pthread_create(&resetter, NULL, reset_main, f) == 0);
    end_waiting(&x);
    MUST(pthread_join(resetter, NULL) == 0);
    assert_true(x.err == HARK_OK || x.err == HARK_ESTALE);
    size_t done = x.err == HARK_OK;
    assert_u64(shop_rows(f), done);
    assert_u64(shop_events(f), done);
    (void)!hark_settle(&x.d, NULL);
    hark_delivery *again; /* of the new generation, whatever the old one did */
    assert_ok(f, hark_next(sub, HUNG_MS, &again));
    assert_ok(f, transact(f, again, &(shop_work){.then = shop_both, .n = 2}));
    assert_ok(f, hark_settle(&again, NULL));
    assert_u64(shop_rows(f), done + 1);
    assert_u64(shop_events(f), 1); /* the derived id is the same */
    end_sub(sub);
}

static void test_a_delivery_from_before_a_reset_writes_nothing(void **state)
{
    fixture *f = *state;
    hark_delivery *d, *again;
    shop_work late = {.then = shop_both};
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    (void)reset_to_first(f);
    assert_err(f, HARK_ESTALE, transact(f, d, &late));
    assert_int_equal(atomic_load(&late.runs), 0);
    assert_int_equal(hark_settle(&d, NULL), HARK_ESTALE);
    assert_ok(f, hark_next(sub, HUNG_MS, &again));
    assert_ok(f, hark_settle(&again, NULL));
    shop_has(f, 0);
    end_sub(sub);
}

static void *drain_main(void *arg)
{
    MUST(hark_drain(arg, HUNG_MS, NULL) == HARK_OK);
    return NULL;
}

static void test_a_drain_lets_a_deliverys_transaction_end(void **state)
{
    fixture *f = *state;
    waiting x = {.then = shop_both};
    pthread_t drainer;
    hark_delivery *none;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    begin_waiting(f, &x, sub);
    MUST(pthread_create(&drainer, NULL, drain_main, f->bus) == 0);
    WAIT_UNTIL(hark_publish_async(f->bus, HARK_OPTS(hark_event_spec, .type = "other"), NULL,
                                  NULL) == HARK_ECLOSED);
    end_waiting(&x);
    assert_ok(f, x.err);
    (void)!hark_settle(&x.d, NULL);
    MUST(pthread_join(drainer, NULL) == 0);
    end_sub(sub);
    reopen_bus(f, NULL);
    sub = pull(f, OPTS(.workers = 2));
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 50, &none));
    shop_each_once(f, 1);
    end_sub(sub);
}

static void test_a_close_lets_a_deliverys_transaction_end(void **state)
{
    fixture *f = *state;
    waiting x = {.then = shop_both};
    hark_delivery *none;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    begin_waiting(f, &x, sub);
    hark_sub_close(sub);
    assert_int_equal(hark_sub_join(sub, 50), HARK_ETIMEDOUT);
    end_waiting(&x);
    assert_ok(f, x.err);
    assert_int_equal(hark_sub_join(sub, 50), HARK_ETIMEDOUT); /* it is held */
    assert_ok(f, hark_settle(&x.d, NULL));
    assert_int_equal(hark_sub_join(sub, HUNG_MS), HARK_OK);
    hark_sub_unref(sub);
    sub = pull(f, OPTS(.workers = 2));
    assert_err(f, HARK_ETIMEDOUT, hark_next(sub, 50, &none));
    shop_each_once(f, 1);
    end_sub(sub);
}

typedef struct impatient {
    fixture *f;
    pthread_t thread;
    hark_err err;
    atomic_int done;
} impatient;

static void *impatient_main(void *arg)
{
    impatient *x = arg;
    x->err = hark_drain(x->f->bus, 60, NULL);
    atomic_store(&x->done, 1);
    return NULL;
}

/* Whichever comes first: rows and ack are there together, or neither. */
static void test_a_drain_whose_time_is_up_meets_a_closure_that_waits(void **state)
{
    fixture *f = *state;
    waiting x = {.then = shop_both};
    impatient drain = {.f = f};
    hark_delivery *again = NULL;
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    begin_waiting(f, &x, sub);
    MUST(pthread_create(&drain.thread, NULL, impatient_main, &drain) == 0);
    int64_t until = hk_mono_ms() + 150;
    WAIT_UNTIL(atomic_load(&drain.done) || hk_mono_ms() > until);
    end_waiting(&x);
    MUST(pthread_join(drain.thread, NULL) == 0);
    bool done = x.err == HARK_OK;
    (void)!hark_settle(&x.d, NULL);
    end_sub(sub);
    reopen_bus(f, NULL);
    sub = pull(f, OPTS(.workers = 2));
    assert_int_equal(hark_next(sub, done ? 50 : HUNG_MS, &again), done ? HARK_ETIMEDOUT : HARK_OK);
    shop_has(f, done);
    if (again)
        assert_ok(f, hark_settle(&again, NULL));
    end_sub(sub);
}

static hark_err transact_again(hark_tx *tx, shop_work *w)
{
    waiting *x = w->ud;
    w->seen = hark_delivery_transact(x->d, shop_do, &x->w, SHOP_PATIENT, NULL);
    return shop_both(tx, w);
}

static void test_a_closure_inside_a_closure_is_refused(void **state)
{
    fixture *f = *state;
    waiting x = {.w = {.then = shop_both, .n = 2}};
    shop_work w = {.then = transact_again, .n = 1, .ud = &x};
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    assert_ok(f, hark_next(sub, HUNG_MS, &x.d));
    assert_ok(f, transact(f, x.d, &w));
    assert_int_equal(w.seen, HARK_EWRONGTHREAD);
    assert_int_equal(atomic_load(&x.w.runs), 0);
    assert_ok(f, hark_settle(&x.d, NULL));
    assert_u64(stats_of(sub).acked, 1);
    shop_each_once(f, 1);
    end_sub(sub);
}

/* ---- beside each other: of two threads that hold one delivery, one settles it -------------------------- */

static void *rival_main(void *arg)
{
    waiting *x = arg;
    x->err = hark_delivery_transact(x->d, shop_do, &x->w, SHOP_PATIENT, NULL);
    return NULL;
}

static void test_one_of_two_transactions_of_a_delivery_settles_it(void **state)
{
    fixture *f = *state;
    waiting x = {.then = shop_both}, y = {.w = {.then = shop_both, .n = 2}};
    if (!shop_open(f))
        return;
    hark_sub *sub = pull(f, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    begin_waiting(f, &x, sub);
    y.d = x.d;
    MUST(pthread_create(&y.thread, NULL, rival_main, &y) == 0);
    MUST(pthread_join(y.thread, NULL) == 0);
    assert_int_equal(y.err, HARK_ESTALE);
    assert_int_equal(atomic_load(&y.w.runs), 0);
    end_waiting(&x);
    assert_ok(f, x.err);
    assert_ok(f, hark_settle(&x.d, NULL));
    shop_each_once(f, 1);
    end_sub(sub);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_pulled_delivery_is_settled_by_its_transaction),
    TEST(test_the_lane_goes_on_before_the_settled_delivery_is_given_back),
    TEST(test_an_attempt_that_has_timed_out_writes_nothing),
    TEST(test_an_attempt_does_not_time_out_while_its_commit_is_under_way),
    TEST(test_an_attempt_whose_time_ended_in_a_commit_that_failed_comes_again),
    TEST(test_a_reset_meets_a_closure_that_waits),
    TEST(test_a_delivery_from_before_a_reset_writes_nothing),
    TEST(test_a_drain_lets_a_deliverys_transaction_end),
    TEST(test_a_close_lets_a_deliverys_transaction_end),
    TEST(test_a_drain_whose_time_is_up_meets_a_closure_that_waits),
    TEST(test_a_closure_inside_a_closure_is_refused),
    TEST(test_one_of_two_transactions_of_a_delivery_settles_it),
};

CONFORMANCE_MAIN("tx_held")
