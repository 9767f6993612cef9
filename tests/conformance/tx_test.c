/* Transactions: rows and events are committed or vanish as one; the form without waiting, who may call
 * what from where, deadlines, order, the end of the bus. What closures publish and keep is in
 * tx_publish_test.c, what SQL may do in tx_sql_test.c, deliveries in tx_delivery_test.c, groups in
 * tx_group_test.c. */
#include "shop.h"

static void test_rows_and_events_are_there_together(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    for (int i = 0; i < 10; i++)
        assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = i}, NULL));
    shop_has(f, 10);
    shop_agrees(f);
    reopen_bus(f, NULL);
    shop_has(f, 10);
    shop_agrees(f);
}

static hark_err both_and_fail(hark_tx *tx, shop_work *w)
{
    hark_err err = shop_both(tx, w);
    return err ? err : hark_tx_fail(tx, HARK_ECONFLICT, "the shop is %s", "closed today");
}

static void test_a_closure_that_fails_leaves_neither_and_its_text_is_kept(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    shop_work w = {.then = both_and_fail, .n = 1};
    assert_err(f, HARK_ECONFLICT, shop_run(f, &w, NULL));
    assert_string_equal(f->ei.text, "the shop is closed today");
    assert_int_equal(f->ei.err, HARK_ECONFLICT);
    assert_u64(w.receipt.sequence, 0);
    shop_has(f, 0);
    assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = 2}, NULL));
    shop_has(f, 1);
}

static hark_err fail_without_text(hark_tx *tx, shop_work *w)
{
    (void)shop_both(tx, w);
    return HARK_ETOOBIG;
}

static void test_an_error_without_a_text_gets_one(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_err(f, HARK_ETOOBIG, shop_run(f, &(shop_work){.then = fail_without_text}, NULL));
    assert_int_equal(f->ei.err, HARK_ETOOBIG);
    assert_true(strlen(f->ei.text) > 0);
    shop_has(f, 0);
}

static bool sum_up(const hark_row *row, void *ud)
{
    assert_u64(row->n, 1);
    *(int64_t *)ud += hark_row_int(row, 0);
    return true;
}

static hark_err write_and_look(hark_tx *tx, shop_work *w)
{
    hark_err err = HARK_OK;
    for (int i = 1; i <= 4 && !err; i++)
        err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?), (?)",
                           HARK_ARGS(hark_int(i), hark_int(10 * i)));
    if (!err && hark_tx_changes(tx) != 2)
        return hark_tx_fail(tx, HARK_EINTERNAL, "%lld changes", (long long)hark_tx_changes(tx));
    return err ? err : hark_tx_query(tx, "SELECT n FROM effects", HARK_NO_ARGS, sum_up, &w->n);
}

static void test_a_closure_sees_its_own_writes(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = write_and_look};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(w.n, 110);
}

/* ---- without waiting --------------------------------------------------------------------------- */

typedef struct heard {
    shop_work w;
    atomic_int calls;
    hark_err err;
    hark_receipt last;
    bool had_last;
    char text[512];
    int64_t place; /* the how-manieth to hear */
} heard;

static atomic_int hearers;

static void hear(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    heard *h = ud;
    h->err = err;
    h->had_last = last != NULL;
    if (last)
        h->last = *last;
    (void)snprintf(h->text, sizeof h->text, "%s", err ? ei->text : "");
    h->place = atomic_fetch_add(&hearers, 1);
    atomic_fetch_add(&h->calls, 1);
}

static hark_err send_off(fixture *f, heard *h, const hark_tx_opts *opts)
{
    return hark_transact_async(f->bus, shop_do, hear, &h->w, opts ? opts : SHOP_PATIENT, &f->ei);
}

static void test_the_outcome_is_told_once_to_who_does_not_wait(void **state)
{
    fixture *f = *state;
    heard good = {.w = {.then = shop_both, .n = 1}}, bad = {.w = {.then = both_and_fail, .n = 2}};
    if (!shop_open(f))
        return;
    assert_ok(f, send_off(f, &good, NULL));
    assert_ok(f, send_off(f, &bad, NULL));
    WAIT_UNTIL(atomic_load(&good.calls) + atomic_load(&bad.calls) == 2);
    assert_ok(f, good.err);
    assert_true(good.had_last);
    assert_u64(good.last.sequence, good.w.receipt.sequence);
    assert_true(good.last.sequence > 0);
    assert_int_equal(bad.err, HARK_ECONFLICT);
    assert_false(bad.had_last);
    assert_string_equal(bad.text, "the shop is closed today");
    shop_has(f, 1);
}

static void test_bad_calls_are_refused_and_call_nothing(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = shop_both};
    if (!shop_open(f))
        return;
    int runs = atomic_load(&w.runs);
    assert_err(f, HARK_EINVAL, hark_transact(f->bus, NULL, &w, NULL, NULL, &f->ei));
    assert_err(f, HARK_EINVAL, hark_transact_async(f->bus, shop_do, NULL, &w, NULL, &f->ei));
    assert_err(f, HARK_EINVAL, shop_run(f, &w, TX(.deadline_ms = -1)));
    assert_err(f, HARK_EINVAL, shop_run(f, &w, TX(.deadline_ms = 10001)));
    assert_says(f, "10001");
    assert_err(f, HARK_EDURABILITY, shop_run(f, &w, TX(.min_durability = HARK_REPLICATED)));
    assert_err(f, HARK_EDURABILITY,
               hark_transact_async(f->bus, shop_do, shop_must_not_be_called, &w,
                                   TX(.min_durability = HARK_REPLICATED), &f->ei));
    assert_err(f, HARK_EINVAL,
               hark_transact_async(f->bus, shop_do, shop_must_not_be_called, &w,
                                   TX(.deadline_ms = 10001), &f->ei));
    assert_int_equal(atomic_load(&w.runs), runs);
    assert_ok(f, shop_run(f, &w, TX(.min_durability = HARK_DISK, .deadline_ms = 10000)));
}

/* ---- who may call what ------------------------------------------------------------------------- */

static hark_err call_the_bus(hark_tx *tx, shop_work *w)
{
    hark_bus *bus = hark_tx_bus(tx);
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "forbidden");
    hark_page *page;
    hark_errinfo ei;
    hark_schedule_id id;
    shop_work inner = {.then = shop_both};
    const hark_err got[] = {
        hark_publish(bus, spec, NULL),
        hark_publish_batch(bus, &spec, 1, NULL, NULL),
        hark_publish_async(bus, spec, NULL, NULL),
        hark_transact(bus, shop_do, &inner, NULL, NULL, &ei),
        hark_transact_async(bus, shop_do, shop_must_not_be_called, &inner, NULL, &ei),
        hark_query(bus, "SELECT 1", HARK_NO_ARGS, NULL, NULL, &ei),
        hark_schedule(bus, spec, hark_after(0), &id, &ei),
        hark_read(bus, NULL, &page, &ei),
        hark_drain(bus, 0, &ei),
    };
    for (size_t i = 0; i < HK_COUNTOF(got); i++)
        if (got[i] != HARK_EWRONGTHREAD)
            return hark_tx_fail(tx, HARK_EINTERNAL, "call %zu gave %s", i, hark_err_name(got[i]));
    return shop_both(tx, w);
}

static void test_what_blocks_or_publishes_beside_is_refused_inside_a_closure(void **state)
{
    fixture *f = *state;
    heard h = {.w = {.then = call_the_bus, .n = 2}};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = call_the_bus, .n = 1}, NULL));
    assert_ok(f, send_off(f, &h, NULL)); /* on the writer's thread */
    WAIT_UNTIL(atomic_load(&h.calls) == 1);
    if (h.err)
        fail_msg("%s", h.text);
    shop_has(f, 2);
    assert_u64(shop_said(f, "forbidden", NULL, 0), 0);
    publish(f, "other"); /* this thread may again */
}

typedef struct clerk {
    fixture *f;
    hark_err err;
    atomic_int done;
} clerk;

static hark_verdict transact_in_handler(hark_delivery *d, void *ud)
{
    clerk *k = ud;
    shop_work w = {.then = shop_both, .n = (int64_t)hark_delivery_sequence(d)};
    k->err = hark_transact(hark_delivery_bus(d), shop_do, &w, SHOP_PATIENT, NULL, NULL);
    atomic_fetch_add(&k->done, 1);
    return HARK_ACK;
}

static void test_a_handler_may_transact(void **state)
{
    fixture *f = *state;
    clerk k = {.f = f};
    hark_sub *live, *consumer;
    bool works = shop_open(f);
    assert_ok(f, hark_subscribe(f->bus, "t", transact_in_handler, &k, NULL, &live, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "u", transact_in_handler, &k,
                                HARK_OPTS(hark_sub_opts, .consumer = "c"), &consumer, &f->ei));
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&k.done) == 1);
    assert_int_equal(k.err, works ? HARK_OK : HARK_ENOTSUP);
    publish(f, "u");
    WAIT_UNTIL(atomic_load(&k.done) == 2);
    assert_int_equal(k.err, works ? HARK_OK : HARK_ENOTSUP);
    end_sub(live);
    end_sub(consumer);
    if (works)
        shop_has(f, 2);
}

/* ---- deadlines --------------------------------------------------------------------------------- */

static hark_err both_and_dawdle(hark_tx *tx, shop_work *w)
{
    hark_err err = shop_both(tx, w);
    shop_dawdle(60);
    return err;
}

static void test_a_closure_over_its_deadline_is_undone(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_err(f, HARK_EDEADLINE,
               shop_run(f, &(shop_work){.then = both_and_dawdle}, TX(.deadline_ms = 20)));
    assert_int_equal(f->ei.err, HARK_EDEADLINE);
    assert_int_equal(hark_err_class(HARK_EDEADLINE), HARK_CLASS_TRANSIENT);
    shop_has(f, 0);
    assert_ok(f, shop_run(f, &(shop_work){.then = both_and_dawdle}, TX(.deadline_ms = 5000)));
    shop_has(f, 1);
}

static void test_a_statement_over_the_deadline_is_interrupted(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const endless[] = {
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
        "INSERT INTO effects(n) WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) "
        "SELECT n FROM r",
    };
    for (size_t i = 0; i < HK_COUNTOF(endless); i++) {
        int64_t begin = hk_mono_ms();
        assert_err(f, HARK_EDEADLINE,
                   shop_run(f, &(shop_work){.sql = endless[i]}, TX(.deadline_ms = 20)));
        assert_true(hk_mono_ms() - begin >= 20);
        shop_has(f, 0);
        publish(f, "other");
    }
}

static hark_err swallow_the_deadline(hark_tx *tx, shop_work *w)
{
    w->seen = hark_tx_exec(tx,
                           "INSERT INTO effects(n) WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL "
                           "SELECT n + 1 FROM r) SELECT n FROM r",
                           HARK_NO_ARGS);
    return HARK_OK;
}

static void test_a_deadline_that_the_closure_swallows_still_counts(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = swallow_the_deadline};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_EDEADLINE, shop_run(f, &w, TX(.deadline_ms = 20)));
    assert_int_equal(w.seen, HARK_EDEADLINE);
    shop_has(f, 0);
}

/* ---- order, and the end ------------------------------------------------------------------------- */

static void test_closures_and_publishes_of_one_thread_keep_their_order(void **state)
{
    enum { N = 300 };
    fixture *f = *state;
    static heard all[N];
    int64_t said[N + 1];
    if (!shop_open(f))
        return;
    memset(all, 0, sizeof all);
    for (int i = 0; i < N; i++) {
        char json[24];
        (void)snprintf(json, sizeof json, "%d", i);
        all[i].w = (shop_work){.then = shop_both, .n = i};
        if (i % 3 == 1)
            assert_ok(f, hark_publish_async(
                             f->bus, HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .json = json),
                             NULL, NULL));
        else
            assert_ok(f, send_off(f, &all[i], NULL));
    }
    assert_ok(f, shop_run(f, &(shop_work){.then = shop_both, .n = N}, NULL));
    assert_u64(shop_said(f, SHOP_TYPE, said, N + 1), N + 1);
    for (int i = 0; i <= N; i++)
        assert_u64(said[i], i);
    for (int i = 3; i < N; i += 3)
        assert_true(all[i].place > all[i - 1].place);
}

static hark_err wait_and_both(hark_tx *tx, shop_work *w)
{
    latch_wait(w->ud);
    return shop_both(tx, w);
}

static void test_a_full_queue_refuses_a_closure_and_calls_nothing(void **state)
{
    enum { ROOM = 4 };
    fixture *f = *state;
    latch at;
    heard first = {.w = {.then = wait_and_both, .ud = &at}};
    static heard all[ROOM];
    shop_work w = {.then = shop_both};
    latch_init(&at);
    if (!shop_open(f))
        return;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .queue_events = ROOM));
    memset(all, 0, sizeof all);
    assert_ok(f, send_off(f, &first, TX(.deadline_ms = 10000)));
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    int sent = 0;
    for (hark_err err = HARK_OK; !err; sent += err == HARK_OK) {
        assert_true(sent < ROOM);
        all[sent].w = (shop_work){.then = shop_both, .n = sent + 1};
        err = send_off(f, &all[sent], NULL);
        if (err)
            assert_int_equal(err, HARK_EAGAIN);
    }
    assert_err(f, HARK_EAGAIN,
               hark_transact_async(f->bus, shop_do, shop_must_not_be_called, &w, NULL, &f->ei));
    latch_open(&at);
    for (int i = 0; i < sent; i++)
        WAIT_UNTIL(atomic_load(&all[i].calls) == 1);
    WAIT_UNTIL(atomic_load(&first.calls) == 1);
    shop_has(f, (size_t)sent + 1);
    assert_int_equal(atomic_load(&w.runs), 0);
    assert_ok(f, shop_run(f, &w, NULL));
}

typedef struct drainer {
    hark_bus *bus;
    pthread_t thread;
    hark_err err;
} drainer;

static void *drain_main(void *arg)
{
    drainer *x = arg;
    x->err = hark_drain(x->bus, HUNG_MS, NULL);
    return NULL;
}

static void test_a_drain_waits_for_closures_that_wait_and_refuses_new_ones(void **state)
{
    enum { N = 20 };
    fixture *f = *state;
    latch at;
    heard first = {.w = {.then = wait_and_both, .ud = &at}};
    static heard all[N];
    drainer x = {.bus = f->bus};
    latch_init(&at);
    if (!shop_open(f))
        return;
    memset(all, 0, sizeof all);
    assert_ok(f, send_off(f, &first, TX(.deadline_ms = 10000)));
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    for (int i = 0; i < N; i++) {
        all[i].w = (shop_work){.then = shop_both, .n = i + 1};
        assert_ok(f, send_off(f, &all[i], NULL));
    }
    MUST(pthread_create(&x.thread, NULL, drain_main, &x) == 0);
    shop_work late = {.then = shop_both};
    WAIT_UNTIL(hark_publish_async(f->bus, HARK_OPTS(hark_event_spec, .type = "other"), NULL,
                                  NULL) == HARK_ECLOSED);
    assert_err(f, HARK_ECLOSED, shop_run(f, &late, NULL));
    latch_open(&at);
    MUST(pthread_join(x.thread, NULL) == 0);
    assert_ok(f, x.err);
    assert_int_equal(atomic_load(&first.calls), 1);
    assert_ok(f, first.err);
    for (int i = 0; i < N; i++) {
        assert_int_equal(atomic_load(&all[i].calls), 1);
        assert_ok(f, all[i].err);
    }
    assert_err(f, HARK_ECLOSED, shop_run(f, &late, NULL));
    assert_err(f, HARK_ECLOSED,
               hark_transact_async(f->bus, shop_do, shop_must_not_be_called, &late, NULL, &f->ei));
    assert_err(f, HARK_ECLOSED, hark_query(f->bus, "SELECT 1", HARK_NO_ARGS, NULL, NULL, &f->ei));
    assert_int_equal(atomic_load(&late.runs), 0);
    reopen_bus(f, NULL);
    shop_has(f, N + 1);
    shop_agrees(f);
}

static const struct CMUnitTest tests[] = {
    TEST(test_rows_and_events_are_there_together),
    TEST(test_a_closure_that_fails_leaves_neither_and_its_text_is_kept),
    TEST(test_an_error_without_a_text_gets_one),
    TEST(test_a_closure_sees_its_own_writes),
    TEST(test_the_outcome_is_told_once_to_who_does_not_wait),
    TEST(test_bad_calls_are_refused_and_call_nothing),
    TEST(test_what_blocks_or_publishes_beside_is_refused_inside_a_closure),
    TEST(test_a_handler_may_transact),
    TEST(test_a_closure_over_its_deadline_is_undone),
    TEST(test_a_statement_over_the_deadline_is_interrupted),
    TEST(test_a_deadline_that_the_closure_swallows_still_counts),
    TEST(test_closures_and_publishes_of_one_thread_keep_their_order),
    TEST(test_a_drain_waits_for_closures_that_wait_and_refuses_new_ones),
    TEST(test_a_full_queue_refuses_a_closure_and_calls_nothing),
};

CONFORMANCE_MAIN("tx")
