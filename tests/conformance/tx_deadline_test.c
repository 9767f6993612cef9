/* Deadlines of a process manager: taken back, or moved, in a closure with all else that it does; from
 * deliveries, with ids of their own, once however often the event is delivered. */
#include "plan.h"

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", .retry_delay_ms = 10, __VA_ARGS__)

/* ---- cancelling ------------------------------------------------------------------------------------ */

static hark_err cancel(hark_tx *tx, void *ud)
{
    plan *p = ud;
    hark_err err = hark_tx_schedule_cancel(tx, p->ret);
    return err || !p->then ? err : hark_tx_fail(tx, p->then, "given up");
}

static void test_a_deadline_is_cancelled_with_the_closure_that_does_it(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1, .after_ms = 200}, much = {.n = 2, .after_ms = HOUR_MS};
    if (!shop_open(f))
        return;
    assert_ok(f, transact(f, order, &much));
    assert_ok(f, transact(f, cancel, &much));
    assert_waiting(f, 0);
    assert_ok(f, transact(f, order, &p));
    hark_err err = transact(f, cancel, &p);
    assert_err(f, HARK_ENOTFOUND, transact(f, cancel, &p));
    assert_says(f, "there is no schedule");
    let_all_come(f, 220);
    if (!err) /* it came first, on a machine that is very busy */
        assert_u64(shop_events(f), 0);
}

static void test_a_cancel_that_is_undone_leaves_the_deadline(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1, .after_ms = 100};
    if (!shop_open(f))
        return;
    assert_ok(f, transact(f, order, &p));
    p.then = HARK_ECONFLICT;
    hark_err err = transact(f, cancel, &p);
    assert_true(err == HARK_ECONFLICT || err == HARK_ENOTFOUND);
    WAIT_UNTIL(shop_events(f) == 1);
    shop_each_once(f, 1);
    assert_waiting(f, 0);
}

static hark_err wait_and_cancel(hark_tx *tx, void *ud)
{
    plan *p = ud;
    p->err = hark_tx_schedule_cancel(tx, p->ret);
    return p->err;
}

/* The closure comes before what has become due while the log was being written. */
static void test_what_is_due_is_cancelled_by_a_closure_before_it(void **state)
{
    fixture *f = *state;
    plan p = {.n = 1, .after_ms = 100};
    party *host = begin_party(state);
    if (!host)
        return;
    assert_ok(f, transact(f, order, &p));
    shut(host);
    assert_ok(f, hark_transact_async(f->bus, wait_and_cancel, planned, &p, SHOP_PATIENT, &f->ei));
    shop_dawdle(110);
    latch_open(&host->at);
    WAIT_UNTIL(atomic_load(&p.calls) == 1);
    let_all_come(f, 1);
    assert_u64(shop_events(f), p.err ? 1 : 0);
    assert_waiting(f, 0);
    clear_up(f, host);
}

static hark_err change_its_mind(hark_tx *tx, void *ud)
{
    plan *p = ud;
    for (p->n = 1; p->n < 4; p->n++) {
        hark_err err = schedule_it(tx, p);
        err = err ? err : hark_tx_schedule_cancel(tx, p->ret);
        if (err)
            return err;
    }
    return schedule_it(tx, p);
}

static void test_a_deadline_is_moved_in_one_closure(void **state)
{
    fixture *f = *state;
    int64_t said[2];
    plan p = {.id = "deadline", .after_ms = 20};
    if (!shop_open(f))
        return;
    assert_ok(f, transact(f, change_its_mind, &p));
    WAIT_UNTIL(shop_events(f) > 0);
    let_all_come(f, 1);
    assert_u64(shop_said(f, SHOP_TYPE, said, 2), 1);
    assert_u64(said[0], 4);
    assert_waiting(f, 0);
}

/* ---- from a delivery ---------------------------------------------------------------------------------- */

/* What a delivery's closure leaves: two events now, two later, all of one type. */
static hark_err serve_in_a_closure(hark_tx *tx, void *ud)
{
    plan *p = ud;
    hark_err err = shop_say(tx, 1, NULL);
    p->n = 2;
    err = err ? err : schedule_it(tx, p);
    err = err ? err : shop_say(tx, 3, NULL);
    p->n = 4;
    err = err ? err : schedule_it(tx, p);
    return err || !p->then ? err : hark_tx_fail(tx, p->then, "given up");
}

/* The first attempt fails; after a reset the content is another one. */
static hark_verdict serve(hark_delivery *d, void *ud)
{
    plan *p = ud;
    p->then = hark_delivery_attempt(d) == 1 ? HARK_ECONFLICT : HARK_OK;
    atomic_fetch_add(&p->runs, 1);
    return hark_delivery_transact(d, serve_in_a_closure, p, SHOP_PATIENT, NULL) ? HARK_RETRY
                                                                                : HARK_ACK;
}

static void assert_four_of_one_cause(fixture *f)
{
    hark_page *page;
    assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
    const char *cause = hark_event_id(hark_page_event(page, 0));
    size_t n = 0;
    for (size_t i = 1; i < hark_page_count(page); i++) {
        const hark_event *e = hark_page_event(page, i);
        if (strcmp(hark_event_type(e), SHOP_TYPE) != 0)
            continue;
        assert_string_equal(hark_event_causationid(e), cause);
        assert_string_equal(hark_event_correlationid(e), cause);
        n++; /* their ids differ, or they would be one */
    }
    hark_page_free(page);
    assert_u64(n, 4);
}

static void test_what_a_delivery_schedules_is_stamped_and_comes_once(void **state)
{
    fixture *f = *state;
    static plan p;
    hark_sub *sub;
    p = (plan){.after_ms = 5};
    if (!shop_open(f))
        return;
    assert_ok(f, hark_subscribe(f->bus, "t", serve, &p, OPTS(.workers = 1), &sub, &f->ei));
    publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 1 && shop_events(f) == 4);
    assert_four_of_one_cause(f);
    (void)reset_to_first(f);
    WAIT_UNTIL(atomic_load(&p.runs) == 4 && stats_of(sub).acked == 2);
    assert_u64(p.ret, 0); /* it was published long ago */
    let_all_come(f, 10);
    assert_four_of_one_cause(f);
    end_sub(sub);
}

static void test_a_second_delivery_finds_what_waits(void **state)
{
    fixture *f = *state;
    static plan p;
    hark_sub *sub;
    p = (plan){.after_ms = HOUR_MS};
    if (!shop_open(f))
        return;
    assert_ok(f, hark_subscribe(f->bus, "t", serve, &p, OPTS(.workers = 1), &sub, &f->ei));
    publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    hark_schedule_id waits = p.ret;
    (void)reset_to_first(f);
    WAIT_UNTIL(atomic_load(&p.runs) == 4 && stats_of(sub).acked == 2);
    assert_u64(p.ret, waits);
    assert_waiting(f, 2);
    end_sub(sub);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_deadline_is_cancelled_with_the_closure_that_does_it),
    TEST(test_a_cancel_that_is_undone_leaves_the_deadline),
    TEST(test_what_is_due_is_cancelled_by_a_closure_before_it),
    TEST(test_a_deadline_is_moved_in_one_closure),
    TEST(test_what_a_delivery_schedules_is_stamped_and_comes_once),
    TEST(test_a_second_delivery_finds_what_waits),
};

CONFORMANCE_MAIN("tx_deadline")
