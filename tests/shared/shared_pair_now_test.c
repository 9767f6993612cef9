/* Two buses: what "now" and "the newest" mean. The log's end in the store, not what a bus has heard of: a test asks one bus
 * as soon as the other one has its receipt, many times, so that who answers from what it was shown is found out. And what a bus
 * goes on with that could not be heard for a while. */
#include "bus/party_leave_i.h"
#include "pair.h"

enum { ROUNDS = 20 };

static void test_a_consumer_that_starts_now_sees_nothing_that_was_published_before(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    for (size_t i = 0; i < ROUNDS; i++) {
        char name[16];
        hark_sub *s;
        (void)snprintf(name, sizeof name, "now%zu", i);
        (void)say_on(&p, p.b, "t", "k");
        assert_ok(p.f, hark_subscribe(p.a, "t", record, r,
                                      HARK_OPTS(hark_sub_opts, .consumer = name), &s, &p.f->ei));
        uint64_t next = say_on(&p, p.b, "t", "k");
        WAIT_UNTIL(atomic_load(&r->n) == i + 1);
        assert_u64(r->seen[i].seq, next);
        end_sub(s);
    }
    recorder_free(r);
    pair_close(&p);
}

static void test_a_replay_without_an_end_goes_to_what_the_other_bus_published_last(void **state)
{
    pair p = pair_open(state);
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        hark_replay_info plan = {.size = sizeof plan};
        uint64_t last = say_on(&p, p.b, "t", "k");
        assert_ok(p.f, hark_replay(p.a, NULL, NULL,
                                   HARK_OPTS(hark_replay_opts, .type = "t", .dry_run = 1), &plan,
                                   &p.f->ei));
        assert_u64(plan.last, last);
        assert_u64(plan.total, i);
    }
    pair_close(&p);
}

static hark_reset_result reset_to_now(pair *p, int64_t dry_run)
{
    hark_reset_result ret = {.size = sizeof ret};
    assert_ok(p->f, hark_consumer_reset(
                        p->a, "c",
                        HARK_OPTS(hark_reset_opts, .start = HARK_START_NOW, .dry_run = dry_run),
                        &ret, &p->f->ei));
    return ret;
}

static void test_a_reset_to_now_passes_over_what_the_other_bus_has_published(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    end_sub(listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST)));
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t last = say_on(&p, p.b, "t", "k");
        assert_u64(reset_to_now(&p, 1).from, last + 1);
        last = say_on(&p, p.b, "t", "k");
        assert_u64(reset_to_now(&p, 0).from, last + 1);
    }
    recorder_free(r);
    pair_close(&p);
}

static void test_lag_counts_what_the_other_bus_has_published(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    end_sub(listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST)));
    for (uint64_t i = 1; i <= ROUNDS; i++) {
        (void)say_on(&p, p.b, "t", "k");
        assert_u64(consumer_on(&p, p.a).lag, i);
    }
    recorder_free(r);
    pair_close(&p);
}

/* The events come by the tail, and wake nobody. */
static void test_lag_comes_to_nothing_on_events_of_the_other_bus_that_are_for_nobody(void **state)
{
    enum { TIMES = 3 };
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *s = listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST));
    for (int i = 0; i < TIMES; i++) {
        uint64_t last = say_on(&p, p.b, "other", "k");
        WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
        assert_u64(consumer_on(&p, p.b).floor, last);
    }
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

typedef struct told {
    atomic_int n;
    hark_err err;
} told;

static void on_settled(hark_err err, const hark_settlement *s, const hark_errinfo *ei, void *ud)
{
    told *t = ud;
    (void)s;
    (void)ei;
    t->err = err;
    atomic_fetch_add(&t->n, 1);
}

static hark_err settled_on(pair *p, hark_bus *bus, uint64_t seq)
{
    told t = {.err = HARK_OK};
    assert_ok(p->f, hark_settled_async(bus, "c", seq, HUNG_MS, on_settled, &t, &p->f->ei));
    WAIT_UNTIL(atomic_load(&t.n) == 1);
    return t.err;
}

static void test_a_bus_waits_for_events_that_only_the_other_one_has_heard_of(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *s = listen_on(&p, p.b, r, OPTS(.start = HARK_START_FIRST));
    for (int i = 0; i < ROUNDS; i++)
        assert_int_equal(settled_on(&p, p.a, say_on(&p, p.b, "t", "k")), HARK_OK);
    for (int i = 0; i < ROUNDS; i++)
        assert_ok(p.f, hark_settled(p.a, "c", say_on(&p, p.b, "t", "k"), HUNG_MS, NULL, &p.f->ei));
    uint64_t nobodys = 2 * ROUNDS + 1;
    assert_int_equal(settled_on(&p, p.a, nobodys), HARK_EINVAL);
    assert_err(p.f, HARK_EINVAL, hark_settled(p.a, "c", nobodys, HUNG_MS, NULL, &p.f->ei));
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

/* Its lease runs out, as when the process is stopped for a while: whoever asks the store for it must wait. */
static void silence(hark_bus *bus, bool on)
{
    if (on)
        pthread_mutex_lock(&bus->party->calls);
    else
        pthread_mutex_unlock(&bus->party->calls);
}

static hark_err replay_on(pair *p, hark_bus *bus, recorder *r)
{
    return hark_replay(bus, record, r, HARK_OPTS(hark_replay_opts, .id = "r", .type = "t"), NULL,
                       &p->f->ei);
}

static void
test_who_was_silent_does_not_go_on_with_a_replay_that_the_other_bus_has_done(void **state)
{
    enum { N = 10, SHORT_LEASE_MS = 500 };
    pair p = pair_open(state);
    latch at;
    recorder *r = recorder_at(&at), *other = recorder_new();
    hark_replay_info end = {.size = sizeof end};
    reopen_bus(p.f, HARK_OPTS(hark_bus_opts, .lease_ms = SHORT_LEASE_MS));
    p.a = p.f->bus;
    for (int i = 0; i < N; i++)
        (void)say_on(&p, p.b, "t", "k");
    assert_ok(p.f, replay_on(&p, p.a, r));
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    silence(p.a, true);
    WAIT_UNTIL(replay_on(&p, p.b, other) == HARK_OK);
    assert_ok(p.f, hark_replay_wait(p.b, "r", HUNG_MS, &end, &p.f->ei));
    assert_int_equal(end.state, HARK_REPLAYED);
    silence(p.a, false);
    latch_open(&at);
    assert_ok(p.f, hark_replay_wait(p.a, "r", HUNG_MS, &end, &p.f->ei));
    assert_u64(atomic_load(&r->n), 1); /* what it had in hand */
    assert_u64(atomic_load(&other->n), N);
    end = (hark_replay_info){.size = sizeof end};
    assert_ok(p.f, hark_replay_get(p.b, "r", &end, &p.f->ei));
    assert_int_equal(end.state, HARK_REPLAYED);
    assert_u64(end.position, N);
    recorder_free(r);
    recorder_free(other);
    pair_close(&p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_consumer_that_starts_now_sees_nothing_that_was_published_before),
    TEST(test_a_replay_without_an_end_goes_to_what_the_other_bus_published_last),
    TEST(test_a_reset_to_now_passes_over_what_the_other_bus_has_published),
    TEST(test_lag_counts_what_the_other_bus_has_published),
    TEST(test_lag_comes_to_nothing_on_events_of_the_other_bus_that_are_for_nobody),
    TEST(test_a_bus_waits_for_events_that_only_the_other_one_has_heard_of),
    TEST(test_who_was_silent_does_not_go_on_with_a_replay_that_the_other_bus_has_done),
};

CONFORMANCE_MAIN("two buses: now")
