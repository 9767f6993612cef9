/* What is published through a delivery: derived ids, so that a redelivery publishes no twins, and
 * stamped causes. */
#include "fixture.h"

#define SPEC(...) HARK_OPTS(hark_event_spec, __VA_ARGS__)
#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", .retry_delay_ms = 10, __VA_ARGS__)

typedef struct answers {
    int64_t retries;
    hark_receipt r[16][2]; /* by attempt */
    char data[32];
} answers;

static hark_verdict answer(hark_delivery *d, void *ud)
{
    answers *a = ud;
    int64_t attempt = hark_delivery_attempt(d);
    char json[48];
    (void)snprintf(json, sizeof json, "{\"attempt\":%lld}", (long long)attempt);
    MUST(hark_delivery_publish(d, SPEC(.type = "answer", .json = json), &a->r[attempt][0]) ==
         HARK_OK);
    MUST(hark_delivery_publish(d, SPEC(.type = "answer:second"), &a->r[attempt][1]) == HARK_OK);
    return attempt <= a->retries ? HARK_RETRY : HARK_ACK;
}

/* The events of a pattern that the log has. */
static hark_page *read_all(fixture *f, const char *pattern)
{
    hark_page *page;
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = pattern), &page, &f->ei));
    return page;
}

static void test_a_redelivery_publishes_no_twins(void **state)
{
    fixture *f = *state;
    answers a = {.retries = 2};
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "ask", answer, &a, OPTS(.workers = 1), &sub, &f->ei));
    publish(f, "ask");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    end_sub(sub);
    for (int k = 0; k < 2; k++) {
        assert_false(a.r[1][k].duplicate);
        for (int i = 2; i <= 3; i++) { /* other content, and yet no conflict: the first stands */
            assert_true(a.r[i][k].duplicate);
            assert_u64(a.r[i][k].sequence, a.r[1][k].sequence);
            assert_string_equal(a.r[i][k].id, a.r[1][k].id);
        }
    }
    assert_string_not_equal(a.r[1][0].id, a.r[1][1].id);
    hark_page *page = read_all(f, "answer");
    size_t len;
    assert_u64(hark_page_count(page), 1);
    assert_string_equal(hark_event_data(hark_page_event(page, 0), &len), "{\"attempt\":1}");
    hark_page_free(page);
}

static void test_each_delivery_and_consumer_derives_ids_of_its_own(void **state)
{
    fixture *f = *state;
    answers a = {.retries = 0}, b = {.retries = 0};
    hark_sub *sub, *other;
    assert_ok(f, hark_subscribe(f->bus, "ask", answer, &a, OPTS(.workers = 1), &sub, &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "ask", answer, &b,
                                HARK_OPTS(hark_sub_opts, .consumer = "d"), &other, &f->ei));
    publish(f, "ask");
    publish(f, "ask");
    WAIT_UNTIL(stats_of(sub).acked == 2 && stats_of(other).acked == 2);
    end_sub(sub);
    end_sub(other);
    hark_page *page = read_all(f, "answer:**");
    assert_u64(hark_page_count(page), 8);
    hark_page_free(page);
}

static void test_a_repeat_after_a_failure_gets_the_same_id(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d;
    hark_receipt r[2];
    assert_ok(f, hark_subscribe(f->bus, "ask", NULL, NULL, OPTS(.workers = 1), &sub, &f->ei));
    publish(f, "ask");
    for (int i = 0; i < 2; i++) {
        assert_ok(f, hark_next(sub, -1, &d));
        if (i == 0) /* the first attempt: refused once, then done */
            assert_err(f, HARK_EDURABILITY,
                       hark_delivery_publish(
                           d, SPEC(.type = "answer", .min_durability = HARK_REPLICATED), NULL));
        assert_ok(f, hark_delivery_publish(d, SPEC(.type = "answer"), &r[i]));
        assert_ok(
            f, hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = i ? HARK_ACK : HARK_RETRY)));
    }
    assert_string_equal(r[0].id, r[1].id);
    assert_true(r[1].duplicate);
    end_sub(sub);
}

static void test_causes_are_stamped(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d;
    assert_ok(f, hark_subscribe(f->bus, "ask", NULL, NULL, OPTS(.workers = 1), &sub, &f->ei));
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "ask", .id = "plain"), NULL));
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "ask", .id = "second", .correlationid = "flow"),
                              NULL));
    static const char *const cause[] = {"plain", "second"}, *const correlation[] = {"plain",
                                                                                    "flow"};
    for (int i = 0; i < 2; i++) {
        assert_ok(f, hark_next(sub, -1, &d));
        assert_ok(f, hark_delivery_publish(d, SPEC(.type = "answer"), NULL));
        assert_ok(f, hark_delivery_publish(d,
                                           SPEC(.type = "answer", .id = i ? "own-2" : "own-1",
                                                .correlationid = "mine", .causationid = "me"),
                                           NULL));
        assert_ok(f, hark_settle(&d, NULL));
    }
    end_sub(sub);
    hark_page *page = read_all(f, "answer");
    assert_u64(hark_page_count(page), 4);
    for (size_t i = 0; i < 4; i++) {
        const hark_event *e = hark_page_event(page, i);
        bool own = i % 2;
        assert_string_equal(hark_event_causationid(e), own ? "me" : cause[i / 2]);
        assert_string_equal(hark_event_correlationid(e), own ? "mine" : correlation[i / 2]);
        if (own)
            assert_string_equal(hark_event_id(e), i == 1 ? "own-1" : "own-2");
    }
    hark_page_free(page);
}

static void test_an_id_of_ones_own_may_conflict(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d;
    assert_ok(f, hark_subscribe(f->bus, "ask", NULL, NULL, OPTS(.workers = 1), &sub, &f->ei));
    publish(f, "ask");
    assert_ok(f, hark_next(sub, -1, &d));
    assert_ok(f, hark_delivery_publish(d, SPEC(.type = "x", .id = "i"), NULL));
    assert_err(f, HARK_ECONFLICT, hark_delivery_publish(d, SPEC(.type = "y", .id = "i"), NULL));
    assert_ok(f, hark_settle(&d, NULL));
    end_sub(sub);
}

static void test_a_live_delivery_stamps_causes_and_takes_fresh_ids(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    hark_delivery *d;
    hark_receipt r[2];
    assert_ok(f, hark_subscribe(f->bus, "ask", NULL, NULL, NULL, &sub, &f->ei));
    assert_ok(f, hark_publish(f->bus, SPEC(.type = "ask", .id = "plain"), NULL));
    assert_ok(f, hark_next(sub, -1, &d));
    for (int i = 0; i < 2; i++)
        assert_ok(f, hark_delivery_publish(d, SPEC(.type = "answer"), &r[i]));
    assert_ok(f, hark_settle(&d, NULL));
    assert_string_not_equal(r[0].id, r[1].id);
    hark_page *page = read_all(f, "answer");
    assert_string_equal(hark_event_causationid(hark_page_event(page, 0)), "plain");
    hark_page_free(page);
    end_sub(sub);
}

static void test_derived_ids_are_the_same_after_a_restart(void **state)
{
    fixture *f = *state;
    hark_receipt r[2];
    if (!f->store->survives)
        return; /* with its log the deliveries end too */
    for (int i = 0; i < 2; i++) {
        hark_sub *sub;
        hark_delivery *d;
        reopen_bus(f, HARK_OPTS(hark_bus_opts, .drain_ms = 1));
        assert_ok(f, hark_subscribe(f->bus, "ask", NULL, NULL, OPTS(.workers = 1), &sub, &f->ei));
        if (i == 0)
            publish(f, "ask");
        assert_ok(f, hark_next(sub, -1, &d));
        assert_ok(f, hark_delivery_publish(d, SPEC(.type = "answer"), &r[i]));
        hark_sub_unref(sub);
        close_bus(f); /* abandoned */
        assert_err(f, HARK_ECLOSED, hark_settle(&d, NULL));
        open_bus(f, NULL);
    }
    assert_string_equal(r[0].id, r[1].id);
    assert_true(r[1].duplicate);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_redelivery_publishes_no_twins),
    TEST(test_each_delivery_and_consumer_derives_ids_of_its_own),
    TEST(test_a_repeat_after_a_failure_gets_the_same_id),
    TEST(test_causes_are_stamped),
    TEST(test_an_id_of_ones_own_may_conflict),
    TEST(test_a_live_delivery_stamps_causes_and_takes_fresh_ids),
    TEST(test_derived_ids_are_the_same_after_a_restart),
};
CONFORMANCE_MAIN("derived")
