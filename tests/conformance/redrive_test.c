/* Redriving dead letters, alone and by the thousand, at once and at a rate. */
#include "patient.h"

static void test_a_redriven_event_comes_once_more_with_attempts_from_one(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    found x = bury(f, 1);
    atomic_store(&p->sick, 0);
    assert_ok(f, hark_redrive(f->bus, x.id, &f->ei));
    WAIT_UNTIL(stats_of(p->sub).acked == 1);
    assert_u64(atomic_load(&p->r->n), 2);
    assert_u64(p->r->seen[1].seq, x.sequence);
    assert_int_equal(p->r->seen[1].attempt, 1);
    WAIT_UNTIL(letters(f, FILTER(.redriven = 1)).n == 0);
    hark_err again = hark_redrive(f->bus, x.id, &f->ei);
    assert_true(again == HARK_ENOTFOUND || again == HARK_ECONFLICT);
    assert_u64(atomic_load(&p->r->n), 2);
    patient_end(p);
}

static void test_redriven_twice_at_the_same_time_it_comes_once(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    uint64_t id = bury(f, 1).id;
    latch at;
    latch_init(&at);
    p->r->at = &at;
    atomic_store(&p->sick, 0);
    assert_ok(f, hark_redrive(f->bus, id, &f->ei));
    assert_err(f, HARK_ECONFLICT, hark_redrive(f->bus, id, &f->ei));
    latch_open(&at);
    WAIT_UNTIL(stats_of(p->sub).acked == 1);
    assert_u64(atomic_load(&p->r->n), 2);
    patient_end(p);
}

static void test_a_redrive_without_its_consumer_waits_for_it(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    found x = bury(f, 1);
    end_sub(p->sub);
    assert_ok(f, hark_redrive(f->bus, x.id, &f->ei));
    atomic_store(&p->sick, 0);
    patient_subscribe(f, p, OPTS(.workers = 1));
    WAIT_UNTIL(stats_of(p->sub).acked == 1);
    assert_u64(p->r->seen[1].seq, x.sequence);
    assert_u64(atomic_load(&p->r->n), 2);
    patient_end(p);
}

static void test_a_redriven_event_that_dies_again_is_one_dead_letter(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    uint64_t id = bury(f, 1).id;
    assert_ok(f, hark_redrive(f->bus, id, &f->ei));
    WAIT_UNTIL(letters(f, FILTER(.after_id = id)).n == 1);
    assert_u64(letters(f, FILTER(.redriven = 1)).n, 1);
    patient_end(p);
}

static void test_a_thousand_are_redriven_at_once_or_at_a_rate(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    uint64_t n = 0;
    for (int i = 0; i < 1000; i++)
        say(f, i % 2 ? "a" : "b", "bad");
    WAIT_UNTIL(letters(f, NULL).n == 1000);
    atomic_store(&p->sick, 0);
    assert_ok(f, hark_redrive_all(f->bus, FILTER(.limit = 300), 1000, &n, &f->ei));
    assert_u64(n, 300);
    assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &n, &f->ei));
    assert_u64(n, 700);
    WAIT_UNTIL(stats_of(p->sub).acked == 1000);
    assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &n, &f->ei));
    assert_u64(n, 0);
    assert_u64(atomic_load(&p->r->n), 2000);
    patient_end(p);
}

/* A redrive on a thread of its own. */
typedef struct feeder {
    hark_bus *bus;
    int64_t rate;
    pthread_t thread;
    uint64_t count;
    hark_err err;
    hark_errinfo ei;
    atomic_int done;
} feeder;

static void *feed_main(void *arg)
{
    feeder *x = arg;
    x->err = hark_redrive_all(x->bus, NULL, x->rate, &x->count, &x->ei);
    atomic_store(&x->done, 1);
    return NULL;
}

static void start_feeder(feeder *x, fixture *f, int64_t rate)
{
    *x = (feeder){.bus = f->bus, .rate = rate};
    MUST(pthread_create(&x->thread, NULL, feed_main, x) == 0);
}

enum { MANY = 40, KEYS = 5 };
static const char *const keys[KEYS] = {"k0", "k1", "k2", "k3", "k4"};

/* Many dead letters of a consumer that defers at most ten events, and a cure for them. */
static patient *many_letters(fixture *f)
{
    patient *p = patient_new(f, OPTS(.max_deferred = 10));
    for (size_t i = 0; i < MANY; i++)
        say(f, keys[i % KEYS], "bad");
    WAIT_UNTIL(letters(f, NULL).n == MANY);
    atomic_store(&p->sick, 0);
    return p;
}

/* At one a second it would go on for longer than this test waits for anything. */
static void
test_events_of_all_keys_go_on_during_a_redrive_of_more_than_may_be_deferred(void **state)
{
    fixture *f = *state;
    patient *p = many_letters(f);
    feeder x;
    start_feeder(&x, f, 1);
    WAIT_UNTIL(stats_of(p->sub).acked >= 1);
    for (size_t i = 0; i < 2 * KEYS; i++)
        say(f, i < KEYS ? keys[i] : "other", "good");
    WAIT_UNTIL(stats_of(p->sub).acked >= 2 * KEYS + 1);
    assert_int_equal(atomic_load(&x.done), 0);
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    pthread_join(x.thread, NULL);
    assert_int_equal(x.err, HARK_ECLOSED);
    hark_sub_unref(p->sub);
    close_bus(f);
    patient_free(p);
}

static void test_a_drain_ends_a_paced_redrive_and_another_one_does_the_rest(void **state)
{
    fixture *f = *state;
    patient *p = many_letters(f);
    feeder x;
    uint64_t rest = 0;
    start_feeder(&x, f, 1);
    WAIT_UNTIL(stats_of(p->sub).acked >= 1);
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    pthread_join(x.thread, NULL);
    assert_int_equal(x.err, HARK_ECLOSED);
    assert_non_null(strstr(x.ei.text, "the rest"));
    assert_true(x.count >= 1 && x.count < MANY);
    hark_sub_unref(p->sub);
    reopen_bus(f, NULL);
    if (f->store->survives) {
        patient_subscribe(f, p, OPTS(.max_deferred = 10));
        assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &rest, &f->ei));
        assert_u64(rest, MANY - x.count);
        WAIT_UNTIL(letters(f, FILTER(.redriven = 1)).n == 0);
        assert_u64(atomic_load(&p->r->n), 2 * MANY);
        end_sub(p->sub);
    }
    patient_free(p);
}

static void test_a_paced_redrive_is_no_faster_than_its_rate(void **state)
{
    static const struct {
        int64_t rate, least_ms;
        size_t n;
    } paces[] = {{4, 500, 3}, {20, 400, 10}, {200, 100, 25}}; /* the first unit is due at once */
    fixture *f = *state;
    patient *p = many_letters(f);
    uint64_t n = 0, all = 0;
    for (size_t i = 0; i < HK_COUNTOF(paces); i++) {
        int64_t begin = hk_mono_ns();
        assert_ok(f,
                  hark_redrive_all(f->bus, FILTER(.limit = paces[i].n), paces[i].rate, &n, &f->ei));
        assert_true(hk_mono_ns() - begin >= paces[i].least_ms * 1000000);
        assert_u64(n, paces[i].n);
        all += n;
    }
    WAIT_UNTIL(stats_of(p->sub).acked == all);
    patient_end(p);
}

static void test_what_dies_again_is_not_redriven_by_the_same_call(void **state)
{
    fixture *f = *state;
    patient *p = many_letters(f);
    uint64_t n = 0;
    atomic_store(&p->sick, 1);
    assert_ok(f, hark_redrive_all(f->bus, NULL, 200, &n, &f->ei));
    assert_u64(n, MANY);
    WAIT_UNTIL(letters(f, NULL).n == MANY);
    assert_u64(atomic_load(&p->r->n), 2 * MANY);
    patient_end(p);
}

static void test_a_redrive_that_passes_over_a_letter_leaves_no_error_text(void **state)
{
    fixture *f = *state;
    patient *p = patient_new(f, OPTS(.workers = 1));
    uint64_t n = 0;
    (void)bury(f, 1);
    (void)reset_to_first(f);
    WAIT_UNTIL(letters(f, NULL).n == 2); /* both of one event: one delivery answers for them */
    atomic_store(&p->sick, 0);
    f->ei = (hark_errinfo){0};
    assert_ok(f, hark_redrive_all(f->bus, NULL, 0, &n, &f->ei));
    assert_u64(n, 1);
    assert_string_equal(f->ei.text, "");
    WAIT_UNTIL(letters(f, FILTER(.redriven = 1)).n == 0);
    assert_u64(atomic_load(&p->r->n), 3);
    patient_end(p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_redriven_event_comes_once_more_with_attempts_from_one),
    TEST(test_redriven_twice_at_the_same_time_it_comes_once),
    TEST(test_a_redrive_without_its_consumer_waits_for_it),
    TEST(test_a_redriven_event_that_dies_again_is_one_dead_letter),
    TEST(test_a_thousand_are_redriven_at_once_or_at_a_rate),
    TEST(test_events_of_all_keys_go_on_during_a_redrive_of_more_than_may_be_deferred),
    TEST(test_a_drain_ends_a_paced_redrive_and_another_one_does_the_rest),
    TEST(test_a_paced_redrive_is_no_faster_than_its_rate),
    TEST(test_what_dies_again_is_not_redriven_by_the_same_call),
    TEST(test_a_redrive_that_passes_over_a_letter_leaves_no_error_text),
};

CONFORMANCE_MAIN("redrive")
