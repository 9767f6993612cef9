/* Events that an upcaster fails at, or that none leads to the version wanted. */
#include "grown.h"

typedef struct letter {
    size_t n;
    uint64_t id, sequence;
    int64_t attempts, version;
    char reason[32], error[128], data[64], outcomes[64];
} letter;

static bool note_letter(const hark_dead_letter *l, void *ud)
{
    letter *x = ud;
    size_t len;
    const char *data = hark_event_data(l->event, &len);
    *x = (letter){.n = x->n + 1,
                  .id = l->id,
                  .sequence = l->sequence,
                  .attempts = l->attempts,
                  .version = hark_event_dataversion(l->event)};
    (void)snprintf(x->reason, sizeof x->reason, "%s", l->reason);
    (void)snprintf(x->error, sizeof x->error, "%s", l->error ? l->error : "");
    (void)snprintf(x->data, sizeof x->data, "%.*s", (int)len, data);
    for (size_t i = 0; i < l->n_log; i++)
        (void)snprintf(x->outcomes, sizeof x->outcomes, "%s", l->log[i].outcome);
    return true;
}

static letter letters(fixture *f)
{
    letter x = {0};
    assert_ok(f, hark_dead_letters(f->bus, HARK_OPTS(hark_dead_filter, .reason = "upcast"),
                                   note_letter, &x, &f->ei));
    return x;
}

static void
test_a_failing_upcaster_makes_a_dead_letter_that_is_redriven_when_it_is_mended(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new();
    grow_to_3(f, g);
    atomic_store(&g[1].sick, 1);
    hark_sub *s = consume(f, v, CONSUMER(.workers = 2));
    uint64_t seq = put(f, 1, "k", "x");
    put(f, 3, "k", "y");
    assert_seen(v, 0, "k 1 v3 y");
    WAIT_UNTIL(letters(f).n == 1);
    letter x = letters(f), one = {0};
    assert_u64(x.sequence, seq);
    assert_int_equal(x.attempts, 1);
    assert_int_equal(x.version, 1);
    assert_string_equal(x.data, "x");
    assert_string_equal(x.error, "o version 1: the upcaster from 2 to 3 failed: cannot read x>2");
    assert_ok(f, hark_dead_letter_get(f->bus, x.id, note_letter, &one, &f->ei));
    assert_string_equal(one.outcomes, "upcast");
    WAIT_UNTIL(stats_of(s).acked == 1);
    assert_u64(stats_of(s).rejected, 1);
    assert_u64(stats_of(s).delivered, 1);
    atomic_store(&g[1].sick, 0);
    assert_ok(f, hark_redrive(f->bus, x.id, &f->ei));
    assert_seen(v, 1, "k 1 v3 x>2>3");
    WAIT_UNTIL(letters(f).n == 0);
    end_sub(s);
    view_free(v);
}

static void test_a_pull_passes_over_what_its_upcaster_fails_at(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    hark_delivery *d;
    grow_to_3(f, g);
    atomic_store(&g[0].sick, 1);
    hark_sub *s = consume(f, NULL, CONSUMER(.workers = 1));
    put(f, 1, "k", "x");
    assert_err(f, HARK_ETIMEDOUT, hark_next(s, 20, &d));
    WAIT_UNTIL(letters(f).n == 1);
    put(f, 1, "k", "x");
    uint64_t good = put(f, 2, "k", "y");
    assert_ok(f, hark_next(s, HUNG_MS, &d));
    assert_u64(hark_delivery_sequence(d), good);
    assert_ok(f, hark_settle(&d, NULL));
    WAIT_UNTIL(letters(f).n == 2);
    end_sub(s);
}

static void test_a_version_below_the_chain_is_a_dead_letter_too(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    assert_ok(f, grower_add(f, g, 2, 3));
    hark_sub *s = consume(f, NULL, CONSUMER(.workers = 1));
    hark_delivery *d;
    put(f, 1, "k", "x");
    assert_err(f, HARK_ETIMEDOUT, hark_next(s, 20, &d));
    WAIT_UNTIL(letters(f).n == 1);
    assert_string_equal(letters(f).error,
                        "o version 1: no upcaster leads from version 1 to version "
                        "3; add one from 1 to 2");
    assert_int_equal(atomic_load(&g->calls), 0);
    end_sub(s);
}

static void test_a_live_subscription_passes_over_what_its_upcaster_fails_at(void **state)
{
    fixture *f = *state;
    grower *g = growers_anew();
    view *v = view_new();
    hark_sub *s;
    grow_to_3(f, g);
    atomic_store(&g[0].sick, 1);
    assert_ok(f, hark_subscribe(f->bus, "o", look_at, v, NULL, &s, &f->ei));
    for (int i = 0; i < 5; i++)
        put(f, 1, NULL, "x");
    put(f, 2, NULL, "y");
    assert_seen(v, 0, "- 1 v3 y>3");
    WAIT_UNTIL(stats_of(s).dropped == 5);
    WAIT_UNTIL(stats_of(s).delivered == 1);
    end_sub(s);
    view_free(v);
}

/* It is stuck in an upcaster until the test opens the latch. */
static hark_err wait_inside(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)event, (void)out;
    latch_wait(ud);
    return HARK_OK;
}

static void test_an_attempt_may_time_out_in_an_upcaster(void **state)
{
    fixture *f = *state;
    latch at;
    view *v = view_new();
    latch_init(&at);
    assert_ok(f, hark_upcaster_add(f->bus,
                                   HARK_OPTS(hark_upcaster, .type = "o", .from = 1, .to = 2,
                                             .fn = wait_inside, .ud = &at),
                                   &f->ei));
    hark_sub *s = consume(f, v, CONSUMER(.workers = 1, .handler_ms = 30, .max_attempts = 1));
    put(f, 1, "k", "x");
    put(f, 2, "k", "y");
    WAIT_UNTIL(stats_of(s).timed_out >= 1);
    assert_seen(v, 0, "k 1 v2 y"); /* by the thread that took its place */
    latch_open(&at);
    end_sub(s);
    assert_u64(atomic_load(&v->n), 1);
    view_free(v);
}

static hark_err short_of_memory(const hark_event *event, hark_upcast *out, void *ud)
{
    (void)event;
    return atomic_fetch_add((atomic_int *)ud, 1) == 0
               ? hark_upcast_fail(out, HARK_ENOMEM, "no memory just now")
               : HARK_OK;
}

static void test_an_upcaster_without_memory_is_called_again(void **state)
{
    fixture *f = *state;
    atomic_int calls = 0;
    view *v = view_new();
    assert_ok(f, hark_upcaster_add(f->bus,
                                   HARK_OPTS(hark_upcaster, .type = "o", .from = 1, .to = 2,
                                             .fn = short_of_memory, .ud = &calls),
                                   &f->ei));
    hark_sub *s = consume(f, v, CONSUMER(.workers = 1, .max_attempts = 1));
    put(f, 1, "k", "x");
    assert_seen(v, 0, "k 1 v2 x");
    assert_u64(letters(f).n, 0);
    end_sub(s);
    assert_int_equal(atomic_load(&calls), 2);
    view_free(v);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_failing_upcaster_makes_a_dead_letter_that_is_redriven_when_it_is_mended),
    TEST(test_a_pull_passes_over_what_its_upcaster_fails_at),
    TEST(test_a_version_below_the_chain_is_a_dead_letter_too),
    TEST(test_a_live_subscription_passes_over_what_its_upcaster_fails_at),
    TEST(test_an_attempt_may_time_out_in_an_upcaster),
    TEST(test_an_upcaster_without_memory_is_called_again),
};

CONFORMANCE_MAIN("upcast_failure")
