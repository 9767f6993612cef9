/* Retention: by count and age of a pattern, never past what somebody has yet to see, unless it is
 * forced; then with an explicit gap. The log is looked at through a bus opened anew, since the newest
 * events stay readable from memory for a while. */
#include "fixture.h"

#include <hark/operate.h>

#define RULE(...) HARK_OPTS(hark_retention, __VA_ARGS__)
#define OPTS(...) HARK_OPTS(hark_sub_opts, __VA_ARGS__)

static bool retains(const fixture *f)
{
    return f->store->keeps_all;
}

static uint64_t retain_now(fixture *f)
{
    uint64_t removed = 0;
    assert_ok(f, hark_retain_now(f->bus, &removed, &f->ei));
    return removed;
}

/* The sequences that the log has of a type; the first is returned, 0 = none. */
static uint64_t stored(fixture *f, const char *type, size_t *ret_n)
{
    hark_page *page;
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = type, .limit = 10000), &page,
                           &f->ei));
    const hark_event *e = hark_page_event(page, 0);
    uint64_t first = e ? hark_event_sequence(e) : 0;
    *ret_n = hark_page_count(page);
    hark_page_free(page);
    return first;
}

static void assert_stored(fixture *f, const char *type, uint64_t first, size_t n)
{
    size_t got;
    uint64_t got_first = stored(f, type, &got);
    if (got != n || got_first != first)
        fail_msg("%zu events of type %s from %llu are stored, expected %zu from %llu", got, type,
                 (unsigned long long)got_first, n, (unsigned long long)first);
}

static uint64_t oldest(fixture *f)
{
    hark_bus_info info = {.size = sizeof info};
    MUST(hark_bus_info_get(f->bus, &info) == HARK_OK);
    return info.first_sequence;
}

/* ---- rules ---------------------------------------------------------------------------------------- */

static void test_a_store_without_it_says_so(void **state)
{
    fixture *f = *state;
    if (retains(f))
        return;
    assert_err(f, HARK_ENOTSUP, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 1), &f->ei));
    assert_says(f, "tail_events");
    assert_err(f, HARK_ENOTSUP, hark_retain_now(f->bus, NULL, &f->ei));
}

static void test_wrong_rules_are_refused(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    assert_err(f, HARK_EINVAL, hark_retain(f->bus, RULE(.max_events = 1), &f->ei));
    assert_says(f, "pattern");
    assert_err(f, HARK_EINVAL,
               hark_retain(f->bus, RULE(.pattern = "**:a", .max_events = 1), &f->ei));
    assert_err(f, HARK_EINVAL, hark_retain(f->bus, RULE(.pattern = "t", .max_age_ms = -1), &f->ei));
    assert_says(f, "max_age_ms");
    publish_many(f, "t", 5);
    assert_u64(retain_now(f), 0); /* no rules */
}

static void test_the_newest_of_a_pattern_are_kept(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    publish_many(f, "t", 100);
    publish_many(f, "u", 100);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 10), &f->ei));
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "u", .max_events = 30), &f->ei));
    WAIT_UNTIL(oldest(f) > 90); /* without being asked */
    (void)retain_now(f);
    assert_u64(retain_now(f), 0);
    reopen_bus(f, NULL);
    assert_stored(f, "t", 91, 10);
    assert_stored(f, "u", 171, 30);
    assert_u64(publish(f, "t"), 201);
}

static void test_asking_for_it_now_tells_how_many_it_removed(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    publish_many(f, "t", 1000);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 1000), &f->ei));
    assert_u64(retain_now(f), 0);
    publish_many(f, "t", 2000);
    uint64_t before = oldest(f) - 1; /* a turn of the writer's may have come first */
    uint64_t removed = retain_now(f);
    assert_true(removed <= 2000 - before);
    assert_u64(oldest(f), 2001);
    reopen_bus(f, NULL);
    assert_stored(f, "t", 2001, 1000);
}

static void test_what_is_old_goes(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    publish_many(f, "t", 100);
    publish_many(f, "u", 5);
    int64_t then = hk_wall_ns();
    WAIT_UNTIL(hk_wall_ns() > then + 20000000);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_age_ms = 3600000), &f->ei));
    assert_u64(retain_now(f), 0);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_age_ms = 1), &f->ei));
    (void)retain_now(f);
    reopen_bus(f, NULL);
    assert_stored(f, "t", 0, 0);
    assert_stored(f, "u", 101, 5);
}

static void test_a_rule_without_limits_ends_the_one_before(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 1), &f->ei));
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t"), &f->ei));
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "never there"), &f->ei));
    publish_many(f, "t", 10);
    assert_u64(retain_now(f), 0);
    assert_u64(oldest(f), 1);
}

/* ---- what somebody has yet to see ------------------------------------------------------------------ */

static void test_nothing_goes_that_a_consumer_has_yet_to_see(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub;
    publish_many(f, "u", 3);
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, OPTS(.consumer = "slow", .window = 4), &sub,
                                &f->ei));
    publish_many(f, "t", 500);
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "**", .max_events = 1), &f->ei));
    (void)retain_now(f);
    assert_u64(oldest(f), 4);
    latch_open(&at);
    WAIT_UNTIL(stats_of(sub).position == 503);
    assert_consecutive(r, 4, 500);
    assert_u64(stats_of(sub).gaps, 0);
    WAIT_UNTIL(oldest(f) == 503); /* now it may, in its own time */
    end_sub(sub);
    recorder_free(r);
}

static void test_a_consumer_of_other_types_holds_nothing_back(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "u", record, r, OPTS(.consumer = "u"), &sub, &f->ei));
    publish(f, "u");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    publish_many(f, "t", 100);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 1), &f->ei));
    (void)retain_now(f);
    latch_open(&at);
    end_sub(sub);
    reopen_bus(f, NULL);
    assert_stored(f, "t", 101, 1);
    recorder_free(r);
}

typedef struct parking {
    recorder *r;
    atomic_int forgiving;
} parking;

static hark_verdict reject_k1(hark_delivery *d, void *ud)
{
    parking *p = ud;
    const char *key = hark_event_key(hark_delivery_event(d));
    if (key && strcmp(key, "k1") == 0 && !atomic_load(&p->forgiving))
        return HARK_REJECT;
    record_only(p->r, d);
    return HARK_ACK;
}

static bool first_letter(const hark_dead_letter *l, void *ud)
{
    *(uint64_t *)ud = l->id;
    return false;
}

static void test_nothing_goes_that_waits_in_a_parked_key(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    parking p = {.r = recorder_new()};
    hark_sub *sub;
    publish_many(f, "u", 10);
    assert_ok(f,
              hark_subscribe(f->bus, "t", reject_k1, &p,
                             OPTS(.consumer = "c", .dead_policy = HARK_DEAD_PARK), &sub, &f->ei));
    uint64_t dead = publish_keyed(f, "t", "k1"); /* its announcement comes anywhere behind */
    publish_keyed(f, "t", "k2");
    uint64_t behind = publish_keyed(f, "t", "k1");
    for (int i = 0; i < 20; i++)
        publish_keyed(f, "t", "k2");
    WAIT_UNTIL(stats_of(sub).acked == 21);
    uint64_t letter = 0;
    do
        assert_ok(f, hark_dead_letters(f->bus, NULL, first_letter, &letter, &f->ei));
    while (!letter);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "**", .max_events = 1), &f->ei));
    (void)retain_now(f);
    end_sub(sub);
    reopen_bus(f, NULL);
    hark_page *page;
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = "t"), &page, &f->ei));
    assert_true(hark_page_count(page) >= 2);
    bool there = false;
    for (size_t i = 0; i < hark_page_count(page); i++)
        there |= hark_event_sequence(hark_page_event(page, i)) == behind;
    hark_page_free(page);
    assert_true(there);
    atomic_store(&p.forgiving, 1);
    assert_ok(f,
              hark_subscribe(f->bus, "t", reject_k1, &p,
                             OPTS(.consumer = "c", .dead_policy = HARK_DEAD_PARK), &sub, &f->ei));
    assert_ok(f, hark_redrive(f->bus, letter, &f->ei));
    WAIT_UNTIL(atomic_load(&p.r->n) == 23);
    assert_u64(p.r->seen[21].seq, dead);
    assert_u64(p.r->seen[22].seq, behind);
    end_sub(sub);
    recorder_free(p.r);
}

static void test_nothing_goes_that_a_running_replay_has_yet_to_read(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    latch at;
    recorder *r = recorder_at(&at);
    publish_many(f, "t", 1000);
    hark_replay_info info = {.size = sizeof info};
    assert_ok(f, hark_replay(f->bus, record, r, HARK_OPTS(hark_replay_opts, .first = 101), &info,
                             &f->ei));
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 1), &f->ei));
    (void)retain_now(f);
    assert_u64(oldest(f), 101);
    latch_open(&at);
    assert_ok(f, hark_replay_wait(f->bus, info.id, 30000, &info, &f->ei));
    assert_u64(info.done, 900);
    assert_consecutive(r, 101, 900);
    (void)retain_now(f);
    assert_u64(oldest(f), 1000);
    recorder_free(r);
}

/* ---- forced ----------------------------------------------------------------------------------------- */

static void test_forced_it_hands_a_closed_consumer_a_gap_when_it_comes_back(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    recorder *r = recorder_new();
    hark_sub *sub;
    const hark_sub_opts *opts = OPTS(.consumer = "c", .flags = HARK_SUB_GAPS);
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, opts, &sub, &f->ei));
    publish_many(f, "t", 10);
    WAIT_UNTIL(stats_of(sub).position == 10);
    end_sub(sub);
    publish_many(f, "t", 100);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 20, .force = 1), &f->ei));
    (void)retain_now(f);
    assert_u64(oldest(f), 91);
    reopen_bus(f, NULL);
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, opts, &sub, &f->ei));
    WAIT_UNTIL(stats_of(sub).position == 110);
    assert_u64(atomic_load(&r->n), 10 + 1 + 20);
    assert_u64(r->seen[10].gap_from, 11);
    assert_u64(r->seen[10].gap_to, 90);
    for (size_t i = 0; i < 20; i++)
        assert_u64(r->seen[11 + i].seq, 91 + i);
    assert_u64(stats_of(sub).gap_events, 80);
    end_sub(sub);
    recorder_free(r);
}

static void test_forced_it_hands_an_open_consumer_a_gap(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    latch at;
    recorder *r = recorder_at(&at);
    hark_sub *sub;
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64)); /* it reads on from the store */
    assert_ok(f, hark_subscribe(f->bus, "t", record, r,
                                OPTS(.consumer = "c", .window = 4, .flags = HARK_SUB_GAPS), &sub,
                                &f->ei));
    publish_many(f, "t", 1000);
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 100, .force = 1), &f->ei));
    (void)retain_now(f);
    assert_u64(oldest(f), 901);
    latch_open(&at);
    WAIT_UNTIL(stats_of(sub).position == 1000);
    size_t n = atomic_load(&r->n);
    bool told = false;
    for (size_t i = 0; i < n; i++)
        told |= r->seen[i].gap_to == 900;
    assert_true(told);
    assert_u64(r->seen[n - 1].seq, 1000);
    assert_u64(r->seen[n - 100].seq, 901); /* what there is comes all */
    end_sub(sub);
    recorder_free(r);
}

static void *retain_beside(void *ud)
{
    MUST(hark_retain_now(ud, NULL, NULL) == HARK_OK);
    return NULL;
}

/* Each event from `first` to `last` was seen, or is part of a gap. */
static bool accounted(recorder *r, uint64_t first, uint64_t last)
{
    size_t n = atomic_load(&r->n);
    bool told = true;
    for (uint64_t seq = first; seq <= last && told; seq++) {
        told = false;
        for (size_t i = 0; i < n && !told; i++)
            told = r->seen[i].gap_to ? seq >= r->seen[i].gap_from && seq <= r->seen[i].gap_to
                                     : r->seen[i].seq == seq;
    }
    return told;
}

static void test_forced_while_a_consumer_is_being_opened_it_tells_it_too(void **state)
{
    fixture *f = *state;
    if (!retains(f))
        return;
    enum { ROUNDS = 40, EACH = 200 };
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    publish(f, "u"); /* stays: what goes leaves a hole, which no page of the log shows */
    assert_ok(f, hark_retain(f->bus, RULE(.pattern = "t", .max_events = 10, .force = 1), &f->ei));
    for (int round = 0; round < ROUNDS; round++) {
        recorder *r = recorder_new();
        hark_sub *sub;
        pthread_t beside;
        const hark_sub_opts *opts =
            OPTS(.consumer = "c", .flags = HARK_SUB_GAPS, .start = HARK_START_FIRST);
        uint64_t first = publish_many(f, "t", EACH);
        MUST(pthread_create(&beside, NULL, retain_beside, f->bus) == 0);
        assert_ok(f, hark_subscribe(f->bus, "t", record, r, opts, &sub, &f->ei));
        pthread_join(beside, NULL);
        if (round > 0) /* before, it was not known */
            WAIT_UNTIL(accounted(r, first, first + EACH - 1));
        end_sub(sub);
        recorder_free(r);
    }
}

#define T(fn) TEST(fn)
static const struct CMUnitTest tests[] = {
    T(test_a_store_without_it_says_so),
    T(test_wrong_rules_are_refused),
    T(test_the_newest_of_a_pattern_are_kept),
    T(test_asking_for_it_now_tells_how_many_it_removed),
    T(test_what_is_old_goes),
    T(test_a_rule_without_limits_ends_the_one_before),
    T(test_nothing_goes_that_a_consumer_has_yet_to_see),
    T(test_a_consumer_of_other_types_holds_nothing_back),
    T(test_nothing_goes_that_waits_in_a_parked_key),
    T(test_nothing_goes_that_a_running_replay_has_yet_to_read),
    T(test_forced_it_hands_a_closed_consumer_a_gap_when_it_comes_back),
    T(test_forced_it_hands_an_open_consumer_a_gap),
    T(test_forced_while_a_consumer_is_being_opened_it_tells_it_too),
};
CONFORMANCE_MAIN("retention")
