/* hark_delivery_transact in handlers: what one writes is there exactly once, with its ack; what becomes of it
 * when it fails; dead letters; order in a key. Deliveries that are held are in tx_held_test.c. */
#include "patient.h"
#include "shop.h"

#undef OPTS
#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", .retry_delay_ms = 10, __VA_ARGS__)

/* A handler that settles by transaction. */
typedef struct clerk {
    recorder *r;
    hark_sub *sub;
    hark_err (*then)(hark_tx *tx, shop_work *w);
    int64_t failures; /* attempts of each event whose closure fails */
    hark_verdict after;
    bool park_after; /* wait at the latch when it is settled */
    latch at;
    atomic_int failed, settled;
    hark_err last;
    char text[512];
} clerk;

static hark_err both_and_refuse(hark_tx *tx, shop_work *w)
{
    hark_err err = shop_both(tx, w);
    return err ? err : hark_tx_fail(tx, HARK_ECONFLICT, "refused %lld", (long long)w->n);
}

static hark_verdict serve(hark_delivery *d, void *ud)
{
    clerk *k = ud;
    hark_errinfo ei = {0};
    bool fail = hark_delivery_attempt(d) <= k->failures;
    shop_work w = {.then = fail      ? both_and_refuse
                           : k->then ? k->then
                                     : shop_both,
                   .n = (int64_t)hark_delivery_sequence(d),
                   .ud = k};
    record_only(k->r, d);
    hark_err err = hark_delivery_transact(d, shop_do, &w, SHOP_PATIENT, &ei);
    if (err) {
        pthread_mutex_lock(&k->r->lock);
        k->last = err;
        (void)snprintf(k->text, sizeof k->text, "%s", ei.text);
        pthread_mutex_unlock(&k->r->lock);
        atomic_fetch_add(&k->failed, 1);
        return HARK_RETRY;
    }
    MUST(w.receipt.sequence > 0);
    atomic_fetch_add(&k->settled, 1);
    if (k->park_after)
        latch_wait(&k->at);
    return k->after;
}

static void hire(fixture *f, clerk *k, const hark_sub_opts *opts)
{
    assert_ok(f, hark_subscribe(f->bus, "t", serve, k, opts, &k->sub, &f->ei));
}

static clerk *clerk_new(fixture *f, const hark_sub_opts *opts)
{
    clerk *k = calloc(1, sizeof *k);
    assert_non_null(k);
    k->r = recorder_new();
    latch_init(&k->at);
    if (opts)
        hire(f, k, opts);
    return k;
}

static void clerk_free(clerk *k)
{
    if (k->sub)
        end_sub(k->sub);
    recorder_free(k->r);
    free(k);
}

static void test_a_store_without_transactions_says_so_and_the_delivery_stays(void **state)
{
    fixture *f = *state;
    if (shop_open(f))
        return;
    clerk *k = clerk_new(f, OPTS(.max_attempts = 2));
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).rejected == 1);
    assert_int_equal(k->last, HARK_ENOTSUP);
    assert_non_null(strstr(k->text, f->store->name));
    assert_int_equal(atomic_load(&k->settled), 0);
    clerk_free(k);
}

static void test_effect_and_ack_are_one(void **state)
{
    enum { N = 200 };
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, OPTS(.workers = 4, .start = HARK_START_FIRST));
    publish_many(f, "t", N);
    WAIT_UNTIL(stats_of(k->sub).acked == N);
    shop_each_once(f, N);
    assert_u64(atomic_load(&k->r->n), N);
    end_sub(k->sub);
    reopen_bus(f, NULL);
    hire(f, k, OPTS(.workers = 4, .start = HARK_START_FIRST));
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).acked == 1);
    assert_u64(atomic_load(&k->r->n), N + 1);
    shop_each_once(f, N + 1);
    clerk_free(k);
}

typedef struct attempts {
    size_t n;
    char error[8][64];
} attempts;

static bool take_log(const hark_dead_letter *l, void *ud)
{
    attempts *a = ud;
    for (a->n = 0; a->n < l->n_log && a->n < 8; a->n++)
        (void)snprintf(a->error[a->n], sizeof a->error[0], "%s", l->log[a->n].error);
    return true;
}

static void test_a_closure_that_fails_leaves_its_text_with_the_attempt(void **state)
{
    fixture *f = *state;
    attempts a = {.n = 0};
    char expected[64];
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    k->failures = 3;
    hire(f, k, OPTS(.max_attempts = 3));
    uint64_t seq = publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).rejected == 1);
    WAIT_UNTIL(letters(f, NULL).n == 1);
    (void)snprintf(expected, sizeof expected, "refused %llu", (unsigned long long)seq);
    assert_string_equal(k->text, expected);
    assert_ok(f, hark_dead_letter_get(f->bus, letters(f, NULL).id, take_log, &a, &f->ei));
    assert_u64(a.n, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(a.error[i], expected);
    shop_has(f, 0);
    clerk_free(k);
}

static void test_after_a_failure_the_next_attempt_does_it(void **state)
{
    enum { N = 40 };
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    k->failures = 2;
    hire(f, k, OPTS(.workers = 4));
    publish_many(f, "t", N);
    WAIT_UNTIL(stats_of(k->sub).acked == N);
    assert_int_equal(atomic_load(&k->failed), 2 * N);
    assert_u64(stats_of(k->sub).retried, 2 * N);
    shop_each_once(f, N);
    clerk_free(k);
}

static void test_what_the_handler_answers_after_its_commit_changes_nothing(void **state)
{
    fixture *f = *state;
    const hark_verdict answers[] = {HARK_RETRY, HARK_REJECT, HARK_ACK};
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    for (size_t i = 0; i < HK_COUNTOF(answers); i++) {
        k->after = answers[i];
        hire(f, k, OPTS(.workers = 1));
        publish(f, "t");
        publish(f, "t");
        WAIT_UNTIL(stats_of(k->sub).acked == 2);
        end_sub(k->sub);
        reopen_bus(f, NULL);
    }
    hire(f, k, OPTS(.workers = 1));
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).acked == 1);
    assert_u64(stats_of(k->sub).retried, 0);
    assert_u64(atomic_load(&k->r->n), 7);
    shop_each_once(f, 7);
    assert_u64(letters(f, NULL).n, 0);
    clerk_free(k);
}

/* One in four each: an ack, a transaction, one after two failures, a reject. */
static hark_verdict serve_in_all_ways(hark_delivery *d, void *ud)
{
    clerk *k = ud;
    uint64_t seq = hark_delivery_sequence(d);
    if (seq % 4 == 0)
        return HARK_ACK;
    if (seq % 4 == 1)
        return HARK_REJECT;
    if (seq % 4 == 2 && hark_delivery_attempt(d) <= 2)
        return HARK_RETRY;
    return serve(d, k);
}

static void test_transactions_and_plain_answers_mix(void **state)
{
    enum { N = 200 };
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    const hark_sub_opts *opts = OPTS(.workers = 4, .start = HARK_START_FIRST);
    assert_ok(f, hark_subscribe(f->bus, "t", serve_in_all_ways, k, opts, &k->sub, &f->ei));
    publish_many(f, "t", N);
    WAIT_UNTIL(stats_of(k->sub).acked == N * 3 / 4);
    WAIT_UNTIL(letters(f, NULL).n == N / 4);
    shop_each_once(f, N / 2);
    end_sub(k->sub);
    reopen_bus(f, NULL);
    assert_ok(f, hark_subscribe(f->bus, "t", serve_in_all_ways, k, opts, &k->sub, &f->ei));
    while (publish(f, "t") % 4 != 3)
        continue;
    WAIT_UNTIL(shop_rows(f) == N / 2 + 1 && consumer_now(f).behind == 0);
    shop_each_once(f, (size_t)shop_rows(f));
    clerk_free(k);
}

/* ---- what is published ---------------------------------------------------------------------------- */

static hark_verdict publish_and_serve(hark_delivery *d, void *ud)
{
    MUST(hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = "before"), NULL) == HARK_OK);
    return serve(d, ud);
}

static void test_a_redelivery_publishes_no_twins(void **state)
{
    fixture *f = *state;
    hark_page *page;
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    k->failures = 2;
    assert_ok(
        f, hark_subscribe(f->bus, "t", publish_and_serve, k, OPTS(.workers = 1), &k->sub, &f->ei));
    publish(f, "t");
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).acked == 2);
    assert_u64(shop_said(f, "before", NULL, 0), 2);
    shop_has(f, 2);
    assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
    const hark_event *cause = hark_page_event(page, 0);
    for (size_t i = 1, children = 0; children < 2; i++) { /* "before" and "effect" of the first */
        const hark_event *e = hark_page_event(page, i);
        assert_non_null(e);
        const char *id = hark_event_causationid(e);
        if (!id || strcmp(id, hark_event_id(cause)) != 0)
            continue;
        assert_string_equal(hark_event_correlationid(e), hark_event_id(cause));
        children++;
    }
    hark_page_free(page);
    clerk_free(k);
}

static hark_verdict serve_live(hark_delivery *d, void *ud)
{
    hark_verdict v = serve(d, ud);
    MUST(v == HARK_ACK);
    return v;
}

static void test_a_live_subscription_has_nothing_to_ack(void **state)
{
    fixture *f = *state;
    hark_page *page;
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    assert_ok(f, hark_subscribe(f->bus, "t", serve_live, k, NULL, &k->sub, &f->ei));
    for (int i = 0; i < 5; i++)
        publish(f, "t");
    WAIT_UNTIL(atomic_load(&k->settled) == 5);
    shop_each_once(f, 5);
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = SHOP_TYPE), &page, &f->ei));
    assert_non_null(hark_event_causationid(hark_page_event(page, 0)));
    hark_page_free(page);
    clerk_free(k);
}

/* ---- the end -------------------------------------------------------------------------------------- */

static void test_a_join_waits_for_a_handler_that_goes_on_after_its_transaction(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    k->park_after = true;
    hire(f, k, OPTS(.workers = 1));
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&k->at.arrived) == 1);
    hark_sub_close(k->sub);
    assert_int_equal(hark_sub_join(k->sub, 50), HARK_ETIMEDOUT);
    shop_each_once(f, 1);
    latch_open(&k->at);
    assert_int_equal(hark_sub_join(k->sub, HUNG_MS), HARK_OK);
    clerk_free(k);
}

/* ---- dead letters ----------------------------------------------------------------------------------- */

static hark_verdict reject_or_serve(hark_delivery *d, void *ud)
{
    clerk *k = ud;
    if (k->failures)
        return HARK_REJECT;
    return serve(d, k);
}

static void redriven_and_settled(fixture *f, hark_dead_policy policy)
{
    enum { N = 12 };
    uint64_t n = 0;
    clerk *k = clerk_new(f, NULL);
    const hark_sub_opts *opts = OPTS(.workers = 4, .dead_policy = policy);
    k->failures = 1;
    assert_ok(f, hark_subscribe(f->bus, "t", reject_or_serve, k, opts, &k->sub, &f->ei));
    for (int i = 0; i < N; i++)
        publish_keyed(f, "t", i % 2 ? "a" : "b");
    size_t dead = policy == HARK_DEAD_PARK ? 2 : N;
    WAIT_UNTIL(letters(f, NULL).n == dead);
    end_sub(k->sub);
    k->failures = 0;
    assert_ok(f, hark_subscribe(f->bus, "t", reject_or_serve, k, opts, &k->sub, &f->ei));
    assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &n, &f->ei));
    assert_u64(n, dead);
    WAIT_UNTIL(stats_of(k->sub).acked == N);
    WAIT_UNTIL(letters(f, FILTER(.redriven = 1)).n == 0);
    assert_u64(consumer_now(f).parked, 0);
    shop_each_once(f, N);
    end_sub(k->sub);
    reopen_bus(f, NULL);
    assert_u64(letters(f, FILTER(.redriven = 1)).n, 0);
    hire(f, k, opts);
    publish(f, "t");
    WAIT_UNTIL(stats_of(k->sub).acked == 1);
    shop_each_once(f, N + 1);
    clerk_free(k);
}

static void test_a_redriven_letter_goes_when_a_transaction_settles_it(void **state)
{
    if (shop_open(*state))
        redriven_and_settled(*state, HARK_DEAD_CONTINUE);
}

static void test_a_parked_lane_goes_on_when_a_transaction_settles_its_letter(void **state)
{
    if (shop_open(*state))
        redriven_and_settled(*state, HARK_DEAD_PARK);
}

/* ---- order ------------------------------------------------------------------------------------------ */

static hark_err note_key(hark_tx *tx, shop_work *w)
{
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n, note) VALUES(?, ?)",
                                HARK_ARGS(hark_int(w->n), hark_text(w->ud)));
    return err ? err : shop_say(tx, w->n, &w->receipt);
}

static hark_verdict serve_by_key(hark_delivery *d, void *ud)
{
    clerk *k = ud;
    char key[16];
    uint64_t seq = hark_delivery_sequence(d);
    (void)snprintf(key, sizeof key, "%s", hark_event_key(hark_delivery_event(d)));
    bool fail = seq % 7 == 0 && hark_delivery_attempt(d) <= 2;
    shop_work w = {.then = fail ? both_and_refuse : note_key, .n = (int64_t)seq, .ud = key};
    if (!hark_delivery_transact(d, shop_do, &w, SHOP_PATIENT, NULL))
        return seq % 5 == 0 ? HARK_RETRY : HARK_ACK;
    atomic_fetch_add(&k->failed, 1);
    return HARK_RETRY;
}

static void test_order_in_a_key_holds_with_four_workers(void **state)
{
    enum { N = 640, KEYS = 16 };
    fixture *f = *state;
    if (!shop_open(f))
        return;
    clerk *k = clerk_new(f, NULL);
    assert_ok(f, hark_subscribe(f->bus, "t", serve_by_key, k,
                                OPTS(.workers = 4, .start = HARK_START_FIRST), &k->sub, &f->ei));
    for (int i = 0; i < N; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i % KEYS);
        assert_ok(f, hark_publish_async(f->bus, HARK_OPTS(hark_event_spec, .type = "t", .key = key),
                                        NULL, NULL));
    }
    WAIT_UNTIL(stats_of(k->sub).acked == N);
    assert_true(atomic_load(&k->failed) > 0);
    shop_each_once(f, N);
    assert_u64(shop_ask(f, "SELECT count(*) FROM effects a JOIN effects b ON a.note = b.note AND "
                           "a.rowid < b.rowid AND a.n > b.n"),
               0);
    assert_u64(shop_ask(f, "SELECT count(DISTINCT note) FROM effects"), KEYS);
    clerk_free(k);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_store_without_transactions_says_so_and_the_delivery_stays),
    TEST(test_effect_and_ack_are_one),
    TEST(test_a_closure_that_fails_leaves_its_text_with_the_attempt),
    TEST(test_after_a_failure_the_next_attempt_does_it),
    TEST(test_what_the_handler_answers_after_its_commit_changes_nothing),
    TEST(test_transactions_and_plain_answers_mix),
    TEST(test_a_redelivery_publishes_no_twins),
    TEST(test_a_live_subscription_has_nothing_to_ack),
    TEST(test_a_join_waits_for_a_handler_that_goes_on_after_its_transaction),
    TEST(test_a_redriven_letter_goes_when_a_transaction_settles_it),
    TEST(test_a_parked_lane_goes_on_when_a_transaction_settles_its_letter),
    TEST(test_order_in_a_key_holds_with_four_workers),
};

CONFORMANCE_MAIN("tx_delivery")
