/* Events that are newer than the program knows: delivered as they are, kept waiting in order, or made
 * dead letters, by the subscription's choice. */
#include "grown.h"

static void test_a_newer_event_is_delivered_as_it_is(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new(), *live = view_new();
    hark_sub *l;
    grow_to_3(f, g);
    hark_sub *s = consume(f, v, CONSUMER(.workers = 1));
    assert_ok(f, hark_subscribe(f->bus, "o", look_at, live, NULL, &l, &f->ei));
    put(f, 4, "k", "x");
    assert_seen(v, 0, "k 1 v4 x");
    assert_seen(live, 0, "k 1 v4 x");
    end_sub(s);
    end_sub(l);
    view_free(v);
    view_free(live);
}

/* A consumer that knows version 3 met "k" in versions 1, 4, 1, with another key after it. */
static hark_sub *meet_newer(fixture *f, view *v)
{
    grow_to_3(f, growers_anew());
    hark_sub *s = consume(f, v, CONSUMER(.workers = 2, .newer = HARK_NEWER_WAIT));
    put(f, 1, "k", "first");
    assert_seen(v, 0, "k 1 v3 first>2>3");
    put(f, 4, "k", "newer");
    put(f, 1, "k", "behind");
    put(f, 1, "free", "x");
    assert_seen(v, 1, "free 1 v3 x>2>3");
    WAIT_UNTIL(consumer_now(f).retrying == 1);
    return s;
}

static void test_a_newer_event_waits_and_only_its_key_with_it(void **state)
{
    fixture *f = *state;
    view *v = view_new();
    hark_why_info why = {.size = sizeof why};
    hark_sub *s = meet_newer(f, v);
    WAIT_UNTIL(hark_why(f->bus, "c", &why, &f->ei) == HARK_OK && why.code == HARK_WHY_LANE_WAITING);
    if (!strstr(why.text, "waits for a program that knows version 4 of o (this one reads 3)"))
        fail_msg("%s", why.text);
    assert_int_equal(why.attempts, 0);
    assert_u64(stats_of(s).delivered, 2);
    assert_u64(stats_of(s).retried + stats_of(s).rejected, 0);
    end_sub(s);
    assert_u64(atomic_load(&v->n), 2);
    view_free(v);
}

static void test_a_newer_event_goes_on_when_a_program_starts_that_knows_it(void **state)
{
    fixture *f = *state;
    view *v = view_new();
    end_sub(meet_newer(f, v));
    if (f->store->survives) {
        reopen_bus(f, NULL);
        grow_to_3(f, growers_anew());
    }
    assert_ok(f, grower_add(f, &growers[2], 3, 4));
    hark_sub *s = consume(f, v, CONSUMER(.workers = 2, .newer = HARK_NEWER_WAIT));
    assert_seen(v, 2, "k 1 v4 newer");
    assert_seen(v, 3, "k 1 v4 behind>2>3>4");
    WAIT_UNTIL(stats_of(s).acked == 2);
    WAIT_UNTIL(consumer_now(f).retrying == 0);
    end_sub(s);
    view_free(v);
}

static void test_a_pull_waits_for_another_program_too(void **state)
{
    fixture *f = *state;
    hark_delivery *d;
    grow_to_3(f, growers_anew());
    hark_sub *s =
        consume(f, NULL, CONSUMER(.dataversion = 2, .newer = HARK_NEWER_WAIT, .workers = 1));
    put(f, 3, "k", "x");
    uint64_t free_one = put(f, 1, "free", "y");
    assert_ok(f, hark_next(s, HUNG_MS, &d));
    assert_u64(hark_delivery_sequence(d), free_one);
    assert_ok(f, hark_settle(&d, NULL));
    assert_err(f, HARK_ETIMEDOUT, hark_next(s, 20, &d));
    end_sub(s);
}

static bool is_newer(const hark_dead_letter *l, void *ud)
{
    assert_string_equal(l->reason, "upcast");
    assert_string_equal(l->error,
                        "o version 4: it is newer than version 3, the newest that this program "
                        "knows");
    assert_int_equal(hark_event_dataversion(l->event), 4);
    *(uint64_t *)ud = l->id;
    return true;
}

static uint64_t letter_of_newer(fixture *f)
{
    uint64_t id = 0;
    assert_ok(f, hark_dead_letters(f->bus, NULL, is_newer, &id, &f->ei));
    return id;
}

static void test_a_newer_event_may_be_a_dead_letter(void **state)
{
    fixture *f = *state;
    view *v = view_new();
    grow_to_3(f, growers_anew());
    hark_sub *s = consume(f, v, CONSUMER(.workers = 1, .newer = HARK_NEWER_DEAD));
    put(f, 4, "k", "newer");
    put(f, 3, "k", "y");
    assert_seen(v, 0, "k 1 v3 y");
    WAIT_UNTIL(letter_of_newer(f) != 0);
    assert_ok(f, grower_add(f, &growers[2], 3, 4));
    assert_ok(f, hark_redrive(f->bus, letter_of_newer(f), &f->ei));
    assert_seen(v, 1, "k 1 v4 newer");
    end_sub(s);
    view_free(v);
}

static void test_a_live_subscription_passes_over_what_is_newer_unless_it_delivers(void **state)
{
    fixture *f = *state;
    hark_sub *s;
    hark_delivery *d;
    grow_to_3(f, growers_anew());
    assert_ok(f, hark_subscribe(f->bus, "o", NULL, NULL,
                                HARK_OPTS(hark_sub_opts, .newer = HARK_NEWER_WAIT), &s, &f->ei));
    for (int i = 0; i < 3; i++)
        put(f, 4, NULL, "newer");
    uint64_t known = put(f, 3, NULL, "y");
    assert_ok(f, hark_next(s, HUNG_MS, &d));
    assert_u64(hark_delivery_sequence(d), known);
    assert_ok(f, hark_settle(&d, NULL));
    assert_u64(stats_of(s).dropped, 3);
    assert_u64(stats_of(s).delivered, 1);
    end_sub(s);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_newer_event_is_delivered_as_it_is),
    TEST(test_a_newer_event_waits_and_only_its_key_with_it),
    TEST(test_a_newer_event_goes_on_when_a_program_starts_that_knows_it),
    TEST(test_a_pull_waits_for_another_program_too),
    TEST(test_a_newer_event_may_be_a_dead_letter),
    TEST(test_a_live_subscription_passes_over_what_is_newer_unless_it_delivers),
};

CONFORMANCE_MAIN("newer")
