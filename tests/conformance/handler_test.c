/* What a handler may do: drop its own subscription, subscribe another, publish and wait for the
 * receipt, keep a delivery. On live subscriptions and consumers alike, without a deadlock. */
#include "fixture.h"

typedef struct actor {
    fixture *f;
    hark_sub *own;
    recorder *other; /* of a subscription made inside */
    hark_sub *made;
    bool consumer; /* asks for one */
    atomic_int calls;
    atomic_int freed;
    hark_err err;
    hark_receipt receipt;
    hark_delivery *kept[8];
    latch ready; /* `own` is set */
} actor;

static void actor_freed(void *ud)
{
    atomic_fetch_add(&((actor *)ud)->freed, 1);
}

/* Runs with a live subscription and with a consumer. */
static const char *const names[] = {NULL, "c", NULL, "d"};

static hark_sub *subscribe(actor *a, hark_handler_fn fn, const char *name)
{
    latch_init(&a->ready);
    assert_ok(a->f, hark_subscribe(a->f->bus, "t", fn, a,
                                   HARK_OPTS(hark_sub_opts, .consumer = name, .workers = 1,
                                             .free_ud = actor_freed),
                                   &a->own, &a->f->ei));
    latch_open(&a->ready);
    return a->own;
}

static hark_verdict close_own(hark_delivery *d, void *ud)
{
    actor *a = ud;
    (void)d;
    latch_wait(&a->ready);
    MUST(atomic_load(&a->freed) == 0);
    atomic_fetch_add(&a->calls, 1);
    hark_sub_close(a->own);
    a->err = hark_sub_join(a->own, -1);
    hark_sub_unref(a->own); /* the program's reference */
    return HARK_ACK;
}

static void test_a_handler_may_drop_its_own_subscription(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        actor a = {.f = f};
        subscribe(&a, close_own, names[i]);
        publish_many(f, "t", 20);
        WAIT_UNTIL(atomic_load(&a.freed) == 1);
        assert_int_equal(atomic_load(&a.calls), 1);
        assert_int_equal(a.err, HARK_EWRONGTHREAD); /* joining itself would never end */
    }
}

static void test_what_a_handler_answers_after_dropping_itself_counts(void **state)
{
    fixture *f = *state;
    actor a = {.f = f};
    recorder *r = recorder_new();
    subscribe(&a, close_own, "c");
    uint64_t first = publish_many(f, "t", 3);
    WAIT_UNTIL(atomic_load(&a.freed) == 1);
    hark_sub *again = NULL;
    WAIT_UNTIL(hark_subscribe(f->bus, "t", record, r, HARK_OPTS(hark_sub_opts, .consumer = "c"),
                              &again, &f->ei) == HARK_OK); /* its name is free soon */
    WAIT_UNTIL(atomic_load(&r->n) == 2);
    assert_consecutive(r, first + 1, 2); /* the first one was acked */
    end_sub(again);
    recorder_free(r);
}

static hark_verdict subscribe_other(hark_delivery *d, void *ud)
{
    actor *a = ud;
    if (atomic_load(&a->calls) == 0) {
        const char *name = !a->consumer ? NULL : hark_delivery_consumer(d) ? "inner2" : "inner1";
        MUST(hark_subscribe(hark_delivery_bus(d), "t", record, a->other,
                            HARK_OPTS(hark_sub_opts, .consumer = name), &a->made, NULL) == HARK_OK);
    }
    atomic_fetch_add(&a->calls, 1);
    return HARK_ACK;
}

static void test_a_handler_may_subscribe_another(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < HK_COUNTOF(names); i++) {
        actor a = {.f = f, .other = recorder_new(), .consumer = i >= 2};
        hark_sub *sub = subscribe(&a, subscribe_other, names[i]);
        publish(f, "t");
        WAIT_UNTIL(atomic_load(&a.calls) == 1 && stats_of(sub).delivered == 1);
        if (names[i])
            WAIT_UNTIL(stats_of(sub).acked == 1);
        uint64_t seq = publish(f, "t");
        WAIT_UNTIL(atomic_load(&a.other->n) == 1);
        assert_u64(a.other->seen[0].seq, seq);
        WAIT_UNTIL(atomic_load(&a.calls) == 2);
        end_sub(a.made);
        end_sub(sub);
        recorder_free(a.other);
    }
}

static hark_verdict publish_and_wait(hark_delivery *d, void *ud)
{
    actor *a = ud;
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "answer");
    hark_receipt r[3];
    MUST(hark_publish(a->f->bus, spec, &r[0]) == HARK_OK);
    MUST(hark_delivery_publish(d, spec, &r[1]) == HARK_OK);
    MUST(hark_publish_batch(a->f->bus, &spec, 1, &r[2], NULL) == HARK_OK);
    MUST(r[0].sequence < r[1].sequence && r[1].sequence < r[2].sequence);
    MUST(r[0].durability == a->f->store->durability);
    hark_page *page;
    MUST(hark_read(a->f->bus, HARK_OPTS(hark_read_opts, .after = r[2].sequence - 1), &page, NULL) ==
         HARK_OK);
    MUST(hark_page_count(page) >= 1); /* reads its own writes */
    hark_page_free(page);
    atomic_fetch_add(&a->calls, 1);
    return HARK_ACK;
}

static void test_a_handler_may_publish_and_wait_for_the_receipt(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        actor a = {.f = f}, b = {.f = f};
        hark_sub *sub = subscribe(&a, publish_and_wait, names[i]), *second;
        assert_ok(f, hark_subscribe(f->bus, "t", publish_and_wait, &b,
                                    HARK_OPTS(hark_sub_opts, .consumer = names[i] ? "d" : NULL),
                                    &second, &f->ei));
        publish_many(f, "t", 50);
        WAIT_UNTIL(atomic_load(&a.calls) == 50 && atomic_load(&b.calls) == 50);
        end_sub(sub);
        end_sub(second);
    }
}

static hark_verdict publish_own_type(hark_delivery *d, void *ud)
{
    actor *a = ud;
    if (atomic_fetch_add(&a->calls, 1) < 200)
        MUST(hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = "t"), NULL) == HARK_OK);
    return HARK_ACK;
}

static void test_a_handler_may_publish_what_it_subscribes_to(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        actor a = {.f = f};
        hark_sub *sub = subscribe(&a, publish_own_type, names[i]);
        publish(f, "t");
        WAIT_UNTIL(atomic_load(&a.calls) == 201);
        end_sub(sub);
    }
}

static hark_verdict keep(hark_delivery *d, void *ud)
{
    actor *a = ud;
    a->kept[atomic_load(&a->calls)] = d;
    atomic_fetch_add(&a->calls, 1);
    return HARK_LATER;
}

static void test_a_delivery_kept_for_later_is_settled_from_outside(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        actor a = {.f = f};
        hark_sub *sub = subscribe(&a, keep, names[i]);
        uint64_t first = publish_many(f, "t", 3);
        for (int k = 0; k < 3; k++) { /* a consumer has one worker: the next one comes then */
            WAIT_UNTIL(atomic_load(&a.calls) >= k + 1);
            if (names[i])
                assert_int_equal(atomic_load(&a.calls), k + 1);
            assert_u64(hark_delivery_sequence(a.kept[k]), first + (uint64_t)k);
            assert_string_equal(hark_event_type(hark_delivery_event(a.kept[k])), "t");
            assert_ok(
                f, hark_delivery_publish(a.kept[k], HARK_OPTS(hark_event_spec, .type = "x"), NULL));
            assert_ok(f, hark_settle(&a.kept[k], NULL));
        }
        if (names[i])
            WAIT_UNTIL(stats_of(sub).acked == 3);
        end_sub(sub);
    }
}

static hark_verdict settle_at_once(hark_delivery *d, void *ud)
{
    actor *a = ud;
    MUST(hark_settle(&d, NULL) == HARK_OK);
    MUST(d == NULL);
    atomic_fetch_add(&a->calls, 1);
    return HARK_LATER;
}

static void test_a_kept_delivery_may_be_settled_before_the_handler_returns(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        actor a = {.f = f};
        hark_sub *sub = subscribe(&a, settle_at_once, names[i]);
        publish_many(f, "t", 100);
        WAIT_UNTIL(atomic_load(&a.calls) == 100);
        end_sub(sub);
        assert_int_equal(atomic_load(&a.calls), 100);
    }
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_handler_may_drop_its_own_subscription),
    TEST(test_what_a_handler_answers_after_dropping_itself_counts),
    TEST(test_a_handler_may_subscribe_another),
    TEST(test_a_handler_may_publish_and_wait_for_the_receipt),
    TEST(test_a_handler_may_publish_what_it_subscribes_to),
    TEST(test_a_delivery_kept_for_later_is_settled_from_outside),
    TEST(test_a_kept_delivery_may_be_settled_before_the_handler_returns),
};
CONFORMANCE_MAIN("handler")
