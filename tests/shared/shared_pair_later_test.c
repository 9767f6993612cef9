/* Two buses on one log: schedules, replays and retention belong to the log, not to the bus that began them. */
#include "pair.h"

static hark_schedule_id schedule_on(pair *p, hark_bus *bus, const char *key, int64_t ms)
{
    hark_schedule_id id = 0;
    assert_ok(p->f, hark_schedule(bus, HARK_OPTS(hark_event_spec, .type = "t", .key = key),
                                  hark_after(ms), &id, &p->f->ei));
    return id;
}

static bool count_schedule(const hark_schedule_info *info, void *ud)
{
    (void)info;
    ++*(size_t *)ud;
    return true;
}

static size_t schedules_on(pair *p, hark_bus *bus)
{
    size_t n = 0;
    assert_ok(p->f, hark_schedules(bus, count_schedule, &n, &p->f->ei));
    return n;
}

/* ---- schedules --------------------------------------------------------------------------------- */

static void test_what_a_closed_bus_has_scheduled_the_other_one_publishes_once(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *s = listen_on(&p, p.b, r, NULL);
    for (int i = 0; i < 10; i++)
        (void)schedule_on(&p, p.a, "k", 300);
    close_a(&p);
    WAIT_UNTIL(atomic_load(&r->n) >= 10);
    WAIT_UNTIL(schedules_on(&p, p.b) == 0);
    assert_u64(count_on(&p, p.b, "t"), 10);
    assert_u64(atomic_load(&r->n), 10);
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

static void test_what_is_due_on_both_buses_is_published_once(void **state)
{
    enum { N = 100 };
    pair p = pair_open(state);
    recorder *ra = recorder_new(), *rb = recorder_new();
    hark_sub *sa = listen_on(&p, p.a, ra, NULL), *sb = listen_on(&p, p.b, rb, NULL);
    for (int i = 0; i < N; i++)
        (void)schedule_on(&p, i % 2 ? p.a : p.b, "k", 400);
    WAIT_UNTIL(atomic_load(&ra->n) >= N && atomic_load(&rb->n) >= N);
    WAIT_UNTIL(schedules_on(&p, p.a) == 0);
    assert_consecutive(ra, 1, N);
    assert_consecutive(rb, 1, N);
    assert_u64(count_on(&p, p.b, "t"), N);
    end_sub(sa);
    end_sub(sb);
    recorder_free(ra);
    recorder_free(rb);
    pair_close(&p);
}

static void test_a_schedule_comes_before_a_later_one_of_the_other_bus(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *s = listen_on(&p, p.a, r, NULL);
    (void)schedule_on(&p, p.a, "hour", HOUR_MS);
    (void)schedule_on(&p, p.b, "soon", 100);
    (void)schedule_on(&p, p.a, "later", 600);
    WAIT_UNTIL(atomic_load(&r->n) == 2);
    assert_string_equal(r->seen[0].key, "soon");
    assert_string_equal(r->seen[1].key, "later");
    assert_u64(schedules_on(&p, p.b), 1);
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

static void test_the_other_bus_cancels_a_schedule(void **state)
{
    pair p = pair_open(state);
    recorder *r = recorder_new();
    hark_sub *s = listen_on(&p, p.a, r, NULL);
    hark_schedule_id id = schedule_on(&p, p.a, "cancelled", 700);
    (void)schedule_on(&p, p.b, "control", 1000);
    assert_ok(p.f, hark_schedule_cancel(p.b, id, &p.f->ei));
    assert_err(p.f, HARK_ENOTFOUND, hark_schedule_cancel(p.a, id, &p.f->ei));
    assert_u64(schedules_on(&p, p.a), 1);
    WAIT_UNTIL(atomic_load(&r->n) >= 1);
    assert_string_equal(r->seen[0].key, "control");
    WAIT_UNTIL(count_on(&p, p.b, "t") == 1);
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

static void test_the_same_event_scheduled_on_both_is_one_schedule(void **state)
{
    pair p = pair_open(state);
    hark_schedule_id a, b;
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "t", .id = "x", .source = "/s", .json = "1");
    assert_ok(p.f, hark_schedule(p.a, spec, hark_after(HOUR_MS), &a, &p.f->ei));
    assert_ok(p.f, hark_schedule(p.b, spec, hark_after(HOUR_MS), &b, &p.f->ei));
    assert_u64(a, b);
    assert_u64(schedules_on(&p, p.b), 1);
    pair_close(&p);
}

/* ---- replays ----------------------------------------------------------------------------------- */

#define REPLAY(...) HARK_OPTS(hark_replay_opts, .id = "r", .type = "t", __VA_ARGS__)

static void replay_on(pair *p, hark_bus *bus, recorder *r)
{
    assert_ok(p->f, hark_replay(bus, record, r, REPLAY(), NULL, &p->f->ei));
}

static hark_replay_info replay_seen(pair *p, hark_bus *bus)
{
    hark_replay_info info = {.size = sizeof info};
    assert_ok(p->f, hark_replay_get(bus, "r", &info, &p->f->ei));
    return info;
}

static void test_a_replay_that_runs_is_refused_on_the_other_bus(void **state)
{
    pair p = pair_open(state);
    latch at;
    recorder *r = recorder_at(&at), *other = recorder_new();
    for (int i = 0; i < 10; i++)
        (void)say_on(&p, p.a, "t", "k");
    replay_on(&p, p.a, r);
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_err(p.f, HARK_EEXIST, hark_replay(p.b, record, other, REPLAY(), NULL, &p.f->ei));
    assert_u64(atomic_load(&other->n), 0);
    if (replay_seen(&p, p.b).state != HARK_REPLAYING)
        fail_msg("the other bus should see a replay under way (%d), and sees state %lld",
                 HARK_REPLAYING, (long long)replay_seen(&p, p.b).state);
    assert_err(p.f, HARK_EEXIST, hark_replay_cancel(p.b, "r", &p.f->ei));
    hark_replay_info end = {.size = sizeof end};
    assert_err(p.f, HARK_ETIMEDOUT, hark_replay_wait(p.b, "r", 100, &end, &p.f->ei));
    latch_open(&at);
    assert_ok(p.f, hark_replay_wait(p.b, "r", HUNG_MS, &end, &p.f->ei));
    assert_int_equal(end.state, HARK_REPLAYED);
    assert_int_equal(replay_seen(&p, p.a).state, HARK_REPLAYED);
    assert_consecutive(r, 1, 10);
    assert_err(p.f, HARK_ECONFLICT, hark_replay(p.b, record, other, REPLAY(), NULL, &p.f->ei));
    recorder_free(r);
    recorder_free(other);
    pair_close(&p);
}

/* Until its process ends; what it has done by then is not done again, but for the last few. */
static void test_a_replay_of_a_closed_bus_is_taken_up_by_the_other_one(void **state)
{
    pair p = pair_open(state);
    latch at;
    recorder *r = recorder_at(&at), *other = recorder_new();
    for (int i = 0; i < 10; i++)
        (void)say_on(&p, p.a, "t", "k");
    replay_on(&p, p.a, r);
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_err(p.f, HARK_ETIMEDOUT, hark_drain(p.a, 100, &p.f->ei));
    latch_open(&at);
    close_a(&p);
    replay_on(&p, p.b, other);
    hark_replay_info end = {.size = sizeof end};
    assert_ok(p.f, hark_replay_wait(p.b, "r", HUNG_MS, &end, &p.f->ei));
    assert_int_equal(end.state, HARK_REPLAYED);
    size_t n = atomic_load(&other->n);
    assert_true(n >= 9 && other->seen[n - 1].seq == 10);
    WAIT_UNTIL(atomic_load(&r->n) >= 1);
    recorder_free(r);
    recorder_free(other);
    pair_close(&p);
}

/* ---- retention --------------------------------------------------------------------------------- */

static uint64_t retain_one_on(pair *p, hark_bus *bus)
{
    uint64_t removed = 0;
    assert_ok(p->f, hark_retain(bus, HARK_OPTS(hark_retention, .pattern = "t", .max_events = 1),
                                &p->f->ei));
    assert_ok(p->f, hark_retain_now(bus, &removed, &p->f->ei));
    return removed;
}

static void test_nothing_goes_that_a_consumer_of_the_other_bus_has_yet_to_see(void **state)
{
    enum { N = 50 };
    pair p = pair_open(state);
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *s = listen_on(&p, p.a, r, OPTS(.start = HARK_START_FIRST));
    for (int i = 0; i < N; i++)
        (void)say_on(&p, p.b, "t", "k");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_u64(retain_one_on(&p, p.b), 0);
    latch_open(&at);
    WAIT_UNTIL(consumer_on(&p, p.b).lag == 0);
    assert_consecutive(r, 1, N);
    (void)retain_one_on(&p, p.b); /* a pass may have run by itself meanwhile */
    assert_u64(count_on(&p, p.b, "t"), 1);
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

static void test_nothing_goes_that_a_replay_of_the_other_bus_has_yet_to_see(void **state)
{
    enum { N = 50 };
    pair p = pair_open(state);
    latch at;
    recorder *r = recorder_at(&at);
    for (int i = 0; i < N; i++)
        (void)say_on(&p, p.b, "t", "k");
    WAIT_UNTIL(count_on(&p, p.a, "t") == N); /* A has heard of all */
    replay_on(&p, p.a, r);
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_u64(retain_one_on(&p, p.b), 0);
    latch_open(&at);
    hark_replay_info end = {.size = sizeof end};
    assert_ok(p.f, hark_replay_wait(p.a, "r", HUNG_MS, &end, &p.f->ei));
    if (end.state != HARK_REPLAYED || end.done != N || end.missing || atomic_load(&r->n) != N)
        fail_msg(
            "the replay should have handled %d events, and none should be missing: the handler "
            "saw %zu, state %lld, done %llu of %llu, missing %llu, error '%s'",
            N, atomic_load(&r->n), (long long)end.state, (unsigned long long)end.done,
            (unsigned long long)end.total, (unsigned long long)end.missing, end.error);
    assert_consecutive(r, 1, N);
    recorder_free(r);
    pair_close(&p);
}

/* Each came as an event or is part of a gap; gaps are told before what is in memory already. */
static void assert_no_hole(const recorder *r, uint64_t first, uint64_t last)
{
    for (uint64_t seq = first; seq <= last; seq++) {
        bool told = false;
        for (size_t i = 0; i < atomic_load(&r->n); i++) {
            const recorded *x = &r->seen[i];
            told = told || (x->gap_to ? x->gap_from <= seq && seq <= x->gap_to : x->seq == seq);
        }
        if (!told)
            fail_msg("sequence %llu should have come, or be part of a gap: of %llu to %llu neither "
                     "happened with all",
                     (unsigned long long)seq, (unsigned long long)first, (unsigned long long)last);
    }
}

/* What the other bus trims by force while this one's consumer lags behind is told as a gap. */
static void test_what_the_other_bus_removes_by_force_is_a_gap(void **state)
{
    enum { N = 50 };
    pair p = pair_open(state);
    recorder *r = recorder_new();
    uint64_t removed = 0;
    for (int i = 0; i < N; i++)
        (void)say_on(&p, p.b, "t", "k");
    hark_sub *s =
        listen_on(&p, p.a, r,
                  OPTS(.start = HARK_START_SEQUENCE, .start_sequence = N, .flags = HARK_SUB_GAPS));
    WAIT_UNTIL(consumer_on(&p, p.a).lag == 0);
    assert_ok(p.f, hark_consumer_pause(p.b, "c", &p.f->ei));
    WAIT_UNTIL(why_on(&p, p.a) == HARK_WHY_PAUSED);
    for (int i = 0; i < N; i++)
        (void)say_on(&p, p.b, "t", "k");
    assert_ok(p.f, hark_retain(
                       p.b, HARK_OPTS(hark_retention, .pattern = "t", .max_events = 1, .force = 1),
                       &p.f->ei));
    assert_ok(p.f, hark_retain_now(p.b, &removed, &p.f->ei));
    assert_u64(count_on(&p, p.b, "t"), 1);
    assert_ok(p.f, hark_consumer_resume(p.b, "c", &p.f->ei));
    WAIT_UNTIL(consumer_on(&p, p.a).lag == 0);
    assert_no_hole(r, N, 2 * N);
    end_sub(s);
    recorder_free(r);
    pair_close(&p);
}

static const struct CMUnitTest tests[] = {
    TEST(test_what_a_closed_bus_has_scheduled_the_other_one_publishes_once),
    TEST(test_what_is_due_on_both_buses_is_published_once),
    TEST(test_a_schedule_comes_before_a_later_one_of_the_other_bus),
    TEST(test_the_other_bus_cancels_a_schedule),
    TEST(test_the_same_event_scheduled_on_both_is_one_schedule),
    TEST(test_a_replay_that_runs_is_refused_on_the_other_bus),
    TEST(test_a_replay_of_a_closed_bus_is_taken_up_by_the_other_one),
    TEST(test_nothing_goes_that_a_consumer_of_the_other_bus_has_yet_to_see),
    TEST(test_nothing_goes_that_a_replay_of_the_other_bus_has_yet_to_see),
    TEST(test_what_the_other_bus_removes_by_force_is_a_gap),
};

CONFORMANCE_MAIN("two buses: later")
