/* hark_delivery_transact_async: a handler that does not wait for its transaction. What it writes is
 * there exactly once, with its ack; one worker has many under way; order in a key holds. */
#include "patient.h"
#include "shop.h"

#undef OPTS
#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", .retry_delay_ms = 10, __VA_ARGS__)

typedef struct clerk {
    hark_sub *sub;
    recorder *r;         /* of calls of the handler */
    int64_t failures;    /* attempts of each event whose closure fails */
    hark_verdict answer; /* to a failure */
    atomic_int handled, done, failed, refused;
    hark_err last;
    char text[512];
} clerk;

typedef struct job {
    shop_work w;
    clerk *k;
    bool fail;
    atomic_int calls;
} job;

static hark_err both_or_refuse(hark_tx *tx, shop_work *w)
{
    job *j = (job *)w;
    hark_err err = shop_both(tx, w);
    return err || !j->fail ? err : hark_tx_fail(tx, HARK_ECONFLICT, "refused");
}

static hark_verdict over(hark_delivery *d, hark_err err, const hark_errinfo *ei, void *ud)
{
    job *j = ud;
    clerk *k = j->k;
    MUST(hark_delivery_event(d) && atomic_fetch_add(&j->calls, 1) == 0);
    MUST((err != HARK_OK) == (ei->text[0] != '\0'));
    if (err) {
        k->last = err;
        (void)snprintf(k->text, sizeof k->text, "%s", ei->text);
        atomic_fetch_add(&k->failed, 1);
    }
    hark_verdict answer = k->answer;
    free(j);
    atomic_fetch_add(&k->done, 1);
    return err ? answer : HARK_REJECT; /* after a commit what is said does not matter */
}

static hark_verdict serve(hark_delivery *d, void *ud)
{
    clerk *k = ud;
    hark_errinfo ei = {0};
    job *j = calloc(1, sizeof *j);
    MUST(j != NULL);
    j->k = k;
    j->fail = hark_delivery_attempt(d) <= k->failures;
    j->w.then = both_or_refuse;
    j->w.n = (int64_t)hark_delivery_sequence(d);
    record_only(k->r, d);
    atomic_fetch_add(&k->handled, 1);
    hark_delivery *mine = d;
    hark_err err = hark_delivery_transact_async(&mine, shop_do, over, j, SHOP_PATIENT, &ei);
    if (!err) {
        MUST(mine == NULL);
        return HARK_LATER;
    }
    MUST(mine == d && ei.text[0]);
    k->last = err;
    free(j);
    atomic_fetch_add(&k->refused, 1);
    return HARK_REJECT;
}

static clerk *hire(fixture *f, const hark_sub_opts *opts)
{
    clerk *k = calloc(1, sizeof *k);
    assert_non_null(k);
    k->r = recorder_new();
    k->answer = HARK_RETRY;
    assert_ok(f, hark_subscribe(f->bus, "t", serve, k, opts, &k->sub, &f->ei));
    return k;
}

static void dismiss(clerk *k)
{
    end_sub(k->sub);
    recorder_free(k->r);
    free(k);
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void test_a_store_without_transactions_says_so_and_the_handler_answers(void **state)
{
    fixture *f = *state;
    if (shop_open(f))
        return;
    clerk *k = hire(f, OPTS(.in_flight = 8));
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).rejected == 1);
    assert_int_equal(k->last, HARK_ENOTSUP);
    assert_int_equal(atomic_load(&k->done), 0);
    dismiss(k);
}

static void test_effect_and_ack_are_one(void **state)
{
    enum { N = 2000 };
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = hire(f, OPTS(.in_flight = 64, .start = HARK_START_FIRST));
    publish_many(f, "t", N);
    WAIT_UNTIL(stats_of(k->sub).acked == N);
    shop_each_once(f, N);
    assert_u64(atomic_load(&k->handled), N);
    assert_u64(stats_of(k->sub).rejected, 0);
    dismiss(k);
    reopen_bus(f, NULL);
    k = hire(f, OPTS(.in_flight = 64));
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).acked == 1);
    assert_u64(atomic_load(&k->handled), 1);
    shop_each_once(f, N + 1);
    dismiss(k);
}

static hark_err block_and_write(hark_tx *tx, void *ud)
{
    job *j = ud;
    latch_wait(j->w.ud);
    return shop_do(tx, ud);
}

typedef struct crowd {
    latch at;
    clerk k;
} crowd;

/* Its first transaction keeps the writer busy, so that all that is in flight piles up. */
static hark_verdict serve_crowd(hark_delivery *d, void *ud)
{
    crowd *x = ud;
    job *j = calloc(1, sizeof *j);
    MUST(j != NULL);
    j->k = &x->k;
    j->w.then = shop_both;
    j->w.n = (int64_t)hark_delivery_sequence(d);
    j->w.ud = &x->at;
    hark_tx_fn fn = atomic_fetch_add(&x->k.handled, 1) == 0 ? block_and_write : shop_do;
    MUST(hark_delivery_transact_async(&d, fn, over, j, SHOP_PATIENT, NULL) == HARK_OK);
    return HARK_LATER;
}

static void test_in_flight_is_the_limit(void **state)
{
    fixture *f = *state;
    crowd x = {.k = {.answer = HARK_RETRY}};
    if (!shop_open(f))
        return;
    latch_init(&x.at);
    publish_many(f, "t", 200);
    assert_ok(f,
              hark_subscribe(f->bus, "t", serve_crowd, &x,
                             OPTS(.in_flight = 32, .start = HARK_START_FIRST), &x.k.sub, &f->ei));
    WAIT_UNTIL(atomic_load(&x.k.handled) == 32); /* all but the first wait behind it */
    WAIT_UNTIL(atomic_load(&x.at.arrived) == 1);
    assert_int_equal(atomic_load(&x.k.done), 0);
    assert_int_equal(atomic_load(&x.k.handled), 32);
    latch_open(&x.at);
    WAIT_UNTIL(stats_of(x.k.sub).acked == 200);
    shop_each_once(f, 200);
    end_sub(x.k.sub);
}

static void test_order_in_a_key_holds(void **state)
{
    enum { N = 600, KEYS = 7 };
    fixture *f = *state;
    uint64_t last[KEYS] = {0};
    if (!shop_open(f))
        return;
    clerk *k = hire(f, OPTS(.workers = 2, .in_flight = 64));
    for (int i = 0; i < N; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "%d", i % KEYS);
        assert_ok(f, hark_publish_async(f->bus,
                                        HARK_OPTS(hark_event_spec, .type = "t", .subject = key),
                                        NULL, NULL));
    }
    WAIT_UNTIL(stats_of(k->sub).acked == N);
    shop_each_once(f, N);
    for (size_t i = 0; i < N; i++) {
        int key = atoi(k->r->seen[i].key);
        assert_true(k->r->seen[i].seq > last[key]);
        last[key] = k->r->seen[i].seq;
    }
    dismiss(k);
}

static void test_a_failure_is_retried_and_leaves_nothing(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = hire(f, OPTS(.in_flight = 16));
    k->failures = 2;
    publish_many(f, "t", 50);
    WAIT_UNTIL(stats_of(k->sub).acked == 50);
    assert_int_equal(k->last, HARK_ECONFLICT);
    assert_string_equal(k->text, "refused");
    assert_u64(stats_of(k->sub).retried, 100);
    assert_int_equal(atomic_load(&k->failed), 100);
    shop_each_once(f, 50);
    dismiss(k);
}

static bool take_error(const hark_dead_letter *l, void *ud)
{
    (void)snprintf(ud, 64, "%s", l->error ? l->error : "");
    return true;
}

static void test_what_done_answers_to_a_failure_counts(void **state)
{
    fixture *f = *state;
    char error[64] = "";
    if (!shop_open(f))
        return;
    clerk *k = hire(f, OPTS(.in_flight = 16));
    k->failures = 100;
    k->answer = HARK_REJECT;
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).rejected == 1);
    while (!error[0]) /* until it is committed */
        assert_ok(f, hark_dead_letters(f->bus, NULL, take_error, error, &f->ei));
    assert_string_equal(error, "refused");
    k->answer = HARK_ACK;
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).acked == 1);
    shop_has(f, 0);
    dismiss(k);
}

static void test_without_done_a_failure_is_retried(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d;
    shop_work bad = {.sql = "INSERT INTO nowhere VALUES(1)"}, good = {.then = shop_both, .n = 1};
    if (!shop_open(f))
        return;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.workers = 1), &sub, &f->ei));
    publish(f, "t");
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_ok(f, hark_delivery_transact_async(&d, shop_do, NULL, &bad, SHOP_PATIENT, &f->ei));
    assert_null(d);
    assert_ok(f, hark_next(sub, HUNG_MS, &d)); /* the next attempt */
    assert_u64(hark_delivery_attempt(d), 2);
    assert_ok(f, hark_delivery_transact_async(&d, shop_do, NULL, &good, SHOP_PATIENT, &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 1);
    shop_each_once(f, 1);
    end_sub(sub);
}

static void test_a_drain_waits_for_what_is_under_way(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = hire(f, OPTS(.in_flight = 64));
    publish_many(f, "t", 1000);
    WAIT_UNTIL(atomic_load(&k->handled) > 10);
    assert_ok(f, hark_drain(f->bus, HUNG_MS, &f->ei));
    assert_int_equal(atomic_load(&k->handled), atomic_load(&k->done) + atomic_load(&k->refused));
    dismiss(k);
    reopen_bus(f, NULL);
    k = hire(f, OPTS(.in_flight = 64));
    WAIT_UNTIL(shop_rows(f) == 1000);
    shop_each_once(f, 1000);
    dismiss(k);
}

static void test_an_attempt_that_has_timed_out_is_refused(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d, *again;
    shop_work w = {.then = shop_both, .n = 1};
    if (!shop_open(f))
        return;
    assert_ok(
        f, hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.workers = 2, .hold_ms = 1), &sub, &f->ei));
    publish(f, "t");
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_ok(f, hark_next(sub, HUNG_MS, &again)); /* its time is up: it comes again */
    hark_delivery *late = d;
    assert_err(f, HARK_ESTALE,
               hark_delivery_transact_async(&late, shop_do, NULL, &w, SHOP_PATIENT, &f->ei));
    assert_ptr_equal(late, d);
    assert_int_equal(hark_settle(&d, NULL), HARK_ESTALE);
    (void)!hark_settle(&again, NULL);
    shop_has(f, 0);
    end_sub(sub);
}

static hark_err begin_inside(hark_tx *tx, void *ud)
{
    hark_delivery **d = ud;
    hark_errinfo ei;
    hark_err err = hark_delivery_transact_async(d, shop_do, NULL, NULL, NULL, &ei);
    return hark_tx_fail(tx, err, "%s", ei.text);
}

static void test_inside_a_closure_it_is_refused(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d, *none = NULL;
    if (!shop_open(f))
        return;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.workers = 1), &sub, &f->ei));
    publish(f, "t");
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_err(f, HARK_EWRONGTHREAD,
               hark_transact(f->bus, begin_inside, &d, SHOP_PATIENT, NULL, &f->ei));
    assert_non_null(d);
    assert_ok(f, hark_settle(&d, NULL));
    assert_err(f, HARK_EINVAL,
               hark_delivery_transact_async(&none, shop_do, NULL, NULL, NULL, &f->ei));
    end_sub(sub);
}

static void test_a_live_subscription_may_use_it_too(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = hire(f, NULL);
    publish_many(f, "t", 20);
    WAIT_UNTIL(atomic_load(&k->done) == 20);
    shop_each_once(f, 20);
    dismiss(k);
}

static void test_bad_limits_are_refused(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    assert_err(
        f, HARK_EINVAL,
        hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.workers = 4, .in_flight = 2), &sub, &f->ei));
    assert_says(f, "in_flight");
    assert_err(f, HARK_EINVAL,
               hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.in_flight = 4097), &sub, &f->ei));
    assert_says(f, "4096");
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_store_without_transactions_says_so_and_the_handler_answers),
    TEST(test_effect_and_ack_are_one),
    TEST(test_in_flight_is_the_limit),
    TEST(test_order_in_a_key_holds),
    TEST(test_a_failure_is_retried_and_leaves_nothing),
    TEST(test_what_done_answers_to_a_failure_counts),
    TEST(test_without_done_a_failure_is_retried),
    TEST(test_a_drain_waits_for_what_is_under_way),
    TEST(test_an_attempt_that_has_timed_out_is_refused),
    TEST(test_inside_a_closure_it_is_refused),
    TEST(test_a_live_subscription_may_use_it_too),
    TEST(test_bad_limits_are_refused),
};

CONFORMANCE_MAIN("transactions that a handler does not wait for")
