/* Reading what one has written: who waits for a consumer goes on when it has settled the event, not
 * before, and is told when it never will. */
#include "patient.h"

enum { SHORT_MS = 30, MANY = 200 };

static hark_settlement s;

static hark_err settled(fixture *f, uint64_t seq, int64_t timeout_ms)
{
    s = (hark_settlement){.lag = 999, .dead_letter = 999};
    return hark_settled(f->bus, "c", seq, timeout_ms, &s, &f->ei);
}

/* ---- waiters that do not block ----------------------------------------------------------------- */

typedef struct answer {
    atomic_int times;
    hark_err err;
    hark_settlement s;
    hark_errinfo ei;
    bool may_block;
} answer;

static void on_answer(hark_err err, const hark_settlement *got, const hark_errinfo *ei, void *ud)
{
    answer *a = ud;
    a->err = err;
    a->s = *got;
    a->ei = *ei;
    a->may_block = hk_role_may_block();
    atomic_fetch_add(&a->times, 1);
}

static void ask(fixture *f, uint64_t seq, int64_t timeout_ms, answer *a)
{
    *a = (answer){.err = HARK_EINTERNAL};
    assert_ok(f, hark_settled_async(f->bus, "c", seq, timeout_ms, on_answer, a, &f->ei));
}

static void expect(answer *a, hark_err err)
{
    WAIT_UNTIL(atomic_load(&a->times) == 1);
    if (a->err != err)
        fail_msg("expected %s, got %s: %s", hark_err_name(err), hark_err_name(a->err), a->ei.text);
    assert_false(a->may_block);
}

static hark_sub *pull(fixture *f, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, opts, &sub, &f->ei));
    return sub;
}

static void ack_next(fixture *f, hark_sub *sub)
{
    hark_delivery *d;
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_ok(f, hark_settle(&d, NULL));
}

/* ---- settled ----------------------------------------------------------------------------------- */

static void test_what_is_settled_is_told_at_once(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    uint64_t seq = say(f, "k", "fine");
    WAIT_UNTIL(stats_of(p->sub).acked == 1);
    assert_ok(f, settled(f, seq, 0));
    assert_u64(s.lag, 0);
    assert_u64(s.dead_letter, 0);
    assert_ok(f, hark_settled(f->bus, "c", seq, -1, NULL, &f->ei));
    answer a;
    ask(f, seq, 0, &a);
    expect(&a, HARK_OK);
    patient_end(p);
}

static void test_a_waiter_goes_on_when_the_event_is_settled_and_not_before(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    recorder *r = recorder_at(&at);
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, OPTS(.workers = 1), &sub, &f->ei));
    uint64_t seq = publish(f, "t");
    answer a;
    ask(f, seq, -1, &a);
    assert_err(f, HARK_ETIMEDOUT, settled(f, seq, SHORT_MS));
    assert_int_equal(atomic_load(&a.times), 0);
    latch_open(&at);
    expect(&a, HARK_OK);
    assert_ok(f, settled(f, seq, 0));
    end_sub(sub);
    recorder_free(r);
}

/* Who polls every 50 ms has just looked, so each waiter would be late; on a busy machine some are. */
static void test_a_waiter_is_woken_and_does_not_poll(void **state)
{
    enum { ROUNDS = 20, MOST_MS = 12 };
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 1));
    int late = 0;
    for (int i = 0; i < ROUNDS; i++) {
        answer a, idle;
        hark_delivery *d;
        uint64_t seq = publish(f, "t");
        ask(f, seq, HOUR_MS, &a);
        assert_ok(f, hark_next(sub, HUNG_MS, &d));
        ask(f, seq, 0, &idle); /* when it is answered the first one has been looked at */
        expect(&idle, HARK_ETIMEDOUT);
        int64_t began = hk_mono_ms();
        assert_ok(f, hark_settle(&d, NULL));
        expect(&a, HARK_OK);
        late += hk_mono_ms() - began > MOST_MS;
    }
    if (late == ROUNDS)
        fail_msg("each of %d waiters went on after more than %d ms", ROUNDS, MOST_MS);
    end_sub(sub);
}

static void test_an_event_of_no_concern_is_not_waited_for(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 1)); /* which nobody pulls from */
    uint64_t mine = publish(f, "t"), other = publish(f, "other");
    assert_err(f, HARK_ETIMEDOUT, settled(f, mine, 0));
    assert_ok(f, settled(f, other, 0));
    assert_u64(s.lag, 0);
    end_sub(sub);
    assert_ok(f, settled(f, other, 0));
}

static void test_two_hundred_wait_at_the_same_time(void **state)
{
    fixture *f = *state;
    static answer a[MANY];
    latch at;
    latch_init(&at);
    recorder *r = recorder_at(&at);
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, OPTS(.workers = 2), &sub, &f->ei));
    for (int i = 0; i < MANY; i++)
        ask(f, publish(f, "t"), HUNG_MS, &a[i]);
    latch_open(&at);
    for (int i = 0; i < MANY; i++)
        expect(&a[i], HARK_OK);
    end_sub(sub);
    recorder_free(r);
}

/* ---- not yet ----------------------------------------------------------------------------------- */

static void test_who_waited_in_vain_hears_how_far_behind_the_consumer_is(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 1));
    publish(f, "t");
    publish(f, "t");
    uint64_t third = publish(f, "t");
    assert_err(f, HARK_ETIMEDOUT, settled(f, third, SHORT_MS));
    assert_u64(s.lag, 3);
    assert_says(f, "consumer c has not settled event");
    ack_next(f, sub);
    answer a;
    ask(f, third, SHORT_MS, &a);
    expect(&a, HARK_ETIMEDOUT);
    assert_u64(a.s.lag, 2);
    end_sub(sub);
}

static hark_verdict waits_for_itself(hark_delivery *d, void *ud)
{
    answer *a = ud;
    a->err =
        hark_settled(hark_delivery_bus(d), "c", hark_delivery_sequence(d), SHORT_MS, &a->s, &a->ei);
    atomic_fetch_add(&a->times, 1);
    return HARK_ACK;
}

static void test_a_handler_that_waits_for_its_own_event_waits_in_vain(void **state)
{
    fixture *f = *state;
    answer a = {.err = HARK_OK};
    hark_sub *sub;
    assert_ok(f,
              hark_subscribe(f->bus, "t", waits_for_itself, &a, OPTS(.workers = 1), &sub, &f->ei));
    uint64_t seq = publish(f, "t");
    assert_ok(f, settled(f, seq, HUNG_MS));
    expect(&a, HARK_ETIMEDOUT);
    assert_u64(a.s.lag, 1);
    end_sub(sub);
}

static void test_what_cannot_be_waited_for_is_refused(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 1));
    uint64_t seq = publish(f, "t");
    assert_err(f, HARK_ENOTFOUND, hark_settled(f->bus, "nobody", seq, 0, &s, &f->ei));
    assert_says(f, "no consumer 'nobody'");
    assert_err(f, HARK_EINVAL, hark_settled(f->bus, NULL, seq, 0, &s, &f->ei));
    assert_err(f, HARK_EINVAL, settled(f, seq + 1, 0));
    assert_says(f, "not in the log yet");
    assert_err(f, HARK_EINVAL, settled(f, seq, -2));
    assert_u64(s.lag, 999);
    assert_err(f, HARK_EINVAL, hark_settled_async(f->bus, "c", seq, 0, NULL, NULL, &f->ei));
    (void)hark_thread_nonblocking(true);
    hark_err err = settled(f, seq, 0);
    (void)hark_thread_nonblocking(false);
    assert_int_equal(err, HARK_EWRONGTHREAD);
    answer a = {.err = HARK_OK};
    assert_ok(f, hark_settled_async(f->bus, "nobody", seq, -1, on_answer, &a, &f->ei));
    expect(&a, HARK_ENOTFOUND);
    end_sub(sub);
}

/* ---- dead letters ------------------------------------------------------------------------------ */

static void test_a_dead_letter_is_told_with_its_id(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    answer a;
    uint64_t seq = say(f, "k", "bad");
    ask(f, seq, -1, &a);
    expect(&a, HARK_EDEAD);
    found x = letters(f, NULL); /* it is committed by then */
    assert_u64(x.n, 1);
    assert_u64(a.s.dead_letter, x.id);
    assert_err(f, HARK_EDEAD, settled(f, seq, -1));
    assert_u64(s.dead_letter, x.id);
    assert_says(f, "hark_redrive");
    end_sub(p->sub);
    assert_err(f, HARK_EDEAD, settled(f, seq, -1));
    assert_u64(s.dead_letter, x.id);
    patient_free(p);
}

static void test_a_redriven_dead_letter_is_waited_for_again(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 1, .hold_ms = -1));
    hark_delivery *d;
    uint64_t seq = publish_keyed(f, "t", "k");
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_ok(f, hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = HARK_REJECT)));
    assert_err(f, HARK_EDEAD, settled(f, seq, HUNG_MS));
    answer a;
    assert_ok(f, hark_redrive(f->bus, s.dead_letter, &f->ei));
    ask(f, seq, -1, &a);
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_err(f, HARK_ETIMEDOUT, settled(f, seq, SHORT_MS));
    assert_u64(s.lag, 1);
    assert_ok(f, hark_settle(&d, NULL));
    expect(&a, HARK_OK);
    assert_ok(f, settled(f, seq, 0));
    end_sub(sub);
}

static void test_what_is_parked_waits_for_the_dead_letter_before_it(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1, .dead_policy = HARK_DEAD_PARK));
    found x = bury(f, 1);
    uint64_t behind = say(f, "k", "fine");
    answer a;
    ask(f, behind, -1, &a);
    assert_err(f, HARK_EDEAD, settled(f, x.sequence, HUNG_MS));
    assert_u64(s.dead_letter, x.id);
    assert_err(f, HARK_ETIMEDOUT, settled(f, behind, SHORT_MS));
    assert_true(s.lag >= 1);
    assert_ok(f, hark_discard(f->bus, x.id, &f->ei));
    expect(&a, HARK_OK);
    assert_ok(f, settled(f, x.sequence, 0));
    patient_end(p);
}

/* ---- not open here ----------------------------------------------------------------------------- */

static void test_of_a_consumer_that_is_not_open_the_stored_state_tells(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 4, .hold_ms = -1));
    uint64_t first = publish_keyed(f, "t", "a"), second = publish_keyed(f, "t", "b");
    uint64_t third = publish_keyed(f, "t", "c");
    hark_delivery *d;
    ack_next(f, sub);
    assert_ok(f, hark_next(sub, HUNG_MS, &d)); /* the second: later, by a row of the ledger */
    assert_ok(f, hark_settle(
                     &d, HARK_OPTS(hark_settle_opts, .verdict = HARK_RETRY, .delay_ms = HOUR_MS)));
    ack_next(f, sub);
    uint64_t fourth = publish_keyed(f, "t", "d");
    end_sub(sub);
    assert_ok(f, settled(f, first, 0));
    assert_err(f, HARK_ETIMEDOUT, settled(f, second, SHORT_MS));
    assert_ok(f, settled(f, third, 0));
    assert_err(f, HARK_ETIMEDOUT, settled(f, fourth, SHORT_MS));
    assert_u64(s.lag, 1);
    answer a;
    ask(f, fourth, -1, &a);
    sub = pull(f, OPTS(.workers = 4));
    ack_next(f, sub);
    expect(&a, HARK_OK);
    end_sub(sub);
}

static void test_a_waiter_outlives_the_end_of_the_subscription(void **state)
{
    fixture *f = *state;
    hark_sub *sub = pull(f, OPTS(.workers = 1));
    answer a;
    ask(f, publish(f, "t"), -1, &a);
    end_sub(sub);
    sub = pull(f, OPTS(.workers = 1));
    ack_next(f, sub);
    expect(&a, HARK_OK);
    end_sub(sub);
}

static void test_a_reset_lets_wait_again(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    recorder *r = recorder_new();
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, OPTS(.workers = 1), &sub, &f->ei));
    uint64_t seq = publish(f, "t");
    assert_ok(f, settled(f, seq, HUNG_MS));
    r->at = &at;
    (void)reset_to_first(f);
    assert_err(f, HARK_ETIMEDOUT, settled(f, seq, SHORT_MS));
    latch_open(&at);
    assert_ok(f, settled(f, seq, HUNG_MS));
    end_sub(sub);
    recorder_free(r);
}

/* ---- the end ----------------------------------------------------------------------------------- */

typedef struct blocked {
    fixture *f;
    uint64_t seq;
    hark_err err;
} blocked;

static void *blocks(void *arg)
{
    blocked *b = arg;
    hark_errinfo ei;
    b->err = hark_settled(b->f->bus, "c", b->seq, -1, NULL, &ei);
    return NULL;
}

static void test_a_drain_tells_everybody_who_waits(void **state)
{
    fixture *f = *state;
    static answer a[MANY];
    hark_sub *sub = pull(f, OPTS(.workers = 1));
    blocked b = {.f = f, .seq = publish(f, "t")};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, blocks, &b), 0);
    for (int i = 0; i < MANY; i++)
        ask(f, b.seq, i % 2 ? -1 : HOUR_MS, &a[i]);
    assert_ok(f, hark_drain(f->bus, HUNG_MS, &f->ei));
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(atomic_load(&a[i].times), 1); /* before the drain returns */
        expect(&a[i], HARK_ECLOSED);
    }
    pthread_join(thread, NULL);
    assert_int_equal(b.err, HARK_ECLOSED);
    assert_err(f, HARK_ECLOSED, settled(f, b.seq, -1));
    answer late;
    assert_err(f, HARK_ECLOSED,
               hark_settled_async(f->bus, "c", b.seq, -1, on_answer, &late, &f->ei));
    hark_sub_unref(sub);
}

static const struct CMUnitTest tests[] = {
    TEST(test_what_is_settled_is_told_at_once),
    TEST(test_a_waiter_goes_on_when_the_event_is_settled_and_not_before),
    TEST(test_a_waiter_is_woken_and_does_not_poll),
    TEST(test_an_event_of_no_concern_is_not_waited_for),
    TEST(test_two_hundred_wait_at_the_same_time),
    TEST(test_who_waited_in_vain_hears_how_far_behind_the_consumer_is),
    TEST(test_a_handler_that_waits_for_its_own_event_waits_in_vain),
    TEST(test_what_cannot_be_waited_for_is_refused),
    TEST(test_a_dead_letter_is_told_with_its_id),
    TEST(test_a_redriven_dead_letter_is_waited_for_again),
    TEST(test_what_is_parked_waits_for_the_dead_letter_before_it),
    TEST(test_of_a_consumer_that_is_not_open_the_stored_state_tells),
    TEST(test_a_waiter_outlives_the_end_of_the_subscription),
    TEST(test_a_reset_lets_wait_again),
    TEST(test_a_drain_tells_everybody_who_waits),
};
CONFORMANCE_MAIN("settled")
