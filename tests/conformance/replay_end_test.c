/* How replays end before their time: cancelled, interrupted and gone on with, beside a store that
 * fails, without what the log no longer has; the list of all; replays into consumers. */
#include "outage.h"
#include "player.h"

/* ---- cancelled, interrupted ---------------------------------------------------------------------- */

static void test_a_cancel_ends_it_behind_what_its_handler_runs(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 100);
    (void)held_at(f, p, 31, REPLAY(.id = "r"));
    assert_ok(f, hark_replay_cancel(f->bus, "r", &f->ei));
    assert_u64(now_of(f, "r").state, HARK_REPLAY_STOPPED);
    assert_err(f, HARK_ECONFLICT, hark_replay_cancel(f->bus, "r", &f->ei));
    latch_open(&p->at);
    hark_replay_info info = ended(f, "r", HARK_REPLAY_STOPPED);
    assert_u64(info.done, 31);
    assert_consecutive(p->r, 1, 31);
    assert_err(f, HARK_ECONFLICT, hark_replay_cancel(f->bus, "r", &f->ei));
    assert_says(f, "ended");
    assert_err(f, HARK_ECONFLICT, hark_replay(f->bus, play, p, REPLAY(.id = "r"), NULL, &f->ei));
    assert_says(f, "cancelled");
    assert_u64(now_of(f, "r").done, 31);
    player_free(p);
}

static void test_a_cancel_ends_its_pauses_at_once(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 10);
    stick_at(p, 4);
    (void)started(f, p, REPLAY(.id = "retry"));
    WAIT_UNTIL(atomic_load(&p->r->n) == 4);
    assert_ok(f, hark_replay_cancel(f->bus, "retry", &f->ei));
    assert_u64(ended(f, "retry", HARK_REPLAY_STOPPED).done, 3);
    player_free(p);
}

static hark_verdict cancel_itself(hark_delivery *d, void *ud)
{
    hark_err *waited = ud;
    hark_errinfo ei;
    const char *id = hark_delivery_replay_id(d);
    if (hark_delivery_sequence(d) == 5) {
        *waited = hark_replay_wait(hark_delivery_bus(d), id, -1, INFO, &ei);
        MUST(hark_replay_cancel(hark_delivery_bus(d), id, &ei) == HARK_OK);
    }
    return HARK_ACK;
}

static void test_its_own_handler_may_cancel_it_but_not_wait_for_it(void **state)
{
    fixture *f = *state;
    hark_err waited = HARK_OK;
    publish_many(f, "t", 10);
    assert_ok(f, hark_replay(f->bus, cancel_itself, &waited, REPLAY(.id = "r"), NULL, &f->ei));
    assert_u64(ended(f, "r", HARK_REPLAY_STOPPED).done, 5);
    assert_int_equal(waited, HARK_EWRONGTHREAD);
}

static void test_a_drain_ends_it_and_a_later_bus_goes_on_with_it(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 100);
    publish_many(f, "u", 100);
    stick_at(p, 31);
    (void)started(f, p, REPLAY(.id = "r", .type = "t", .first = 11));
    WAIT_UNTIL(atomic_load(&p->r->n) == 21);
    assert_ok(f, hark_drain(f->bus, HUNG_MS, &f->ei));
    assert_err(f, HARK_ECLOSED, hark_replay_get(f->bus, "r", INFO, &f->ei));
    if (f->store->survives) {
        reopen_bus(f, NULL);
        hark_replay_info info = now_of(f, "r");
        assert_u64(info.state, HARK_REPLAY_INTERRUPTED);
        assert_u64(info.done, 20);
        assert_u64(info.total, 90);
        assert_u64(ended(f, "r", HARK_REPLAY_INTERRUPTED).position, 30); /* nobody runs it */
        p->fail_at = 0;
        (void)started(f, p, REPLAY(.id = "r"));
        assert_u64(ended(f, "r", HARK_REPLAYED).done, 90);
        assert_u64(atomic_load(&p->r->n), 21 + 70);
        for (size_t i = 0; i < 70; i++)
            assert_u64(p->r->seen[21 + i].seq, 31 + i);
    }
    player_free(p);
}

static void test_an_interrupted_one_can_be_cancelled(void **state)
{
    fixture *f = *state;
    if (!f->store->survives)
        return;
    player *p = player_new();
    publish_many(f, "t", 10);
    stick_at(p, 4);
    (void)started(f, p, REPLAY(.id = "r"));
    WAIT_UNTIL(atomic_load(&p->r->n) == 4);
    reopen_bus(f, NULL);
    assert_ok(f, hark_replay_cancel(f->bus, "r", &f->ei));
    assert_u64(now_of(f, "r").state, HARK_REPLAY_STOPPED);
    assert_err(f, HARK_ECONFLICT, hark_replay_cancel(f->bus, "r", &f->ei));
    assert_err(f, HARK_ECONFLICT, hark_replay(f->bus, play, p, REPLAY(.id = "r"), NULL, &f->ei));
    player_free(p);
}

static void test_it_goes_on_while_the_store_fails_and_ends_when_its_end_is_stored(void **state)
{
    fixture *f = *state;
    if (!has_outages(f))
        return;
    player *p = player_new();
    publish_many(f, "t", 100);
    (void)held_at(f, p, 10, REPLAY(.id = "r"));
    sqlite3 *outage = outage_begin(f);
    latch_open(&p->at);
    WAIT_UNTIL(now_of(f, "r").done == 100);
    assert_err(f, HARK_ETIMEDOUT, hark_replay_wait(f->bus, "r", 1, INFO, &f->ei));
    outage_end(outage);
    assert_u64(ended(f, "r", HARK_REPLAYED).done, 100);
    player_free(p);
}

/* ---- what the log no longer has ------------------------------------------------------------------ */

/* Only the newest 100 or so are left, beside a replay that has yet to read most. */
static void lose_most(fixture *f)
{
    if (!f->store->keeps_all) {
        publish_many(f, "u", 3000);
        return;
    }
    assert_ok(f,
              hark_retain(f->bus,
                          HARK_OPTS(hark_retention, .pattern = "t", .max_events = 100, .force = 1),
                          &f->ei));
    assert_ok(f, hark_retain_now(f->bus, NULL, &f->ei));
}

static void test_what_is_gone_before_its_turn_is_counted_and_told(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = f->store->keeps_all ? 64 : 1024));
    publish_many(f, "t", 1000);
    (void)held_at(f, p, 1, REPLAY(.id = "r"));
    assert_u64(now_of(f, "r").missing, 0);
    lose_most(f);
    latch_open(&p->at);
    hark_replay_info info = ended(f, "r", HARK_REPLAYED);
    assert_u64(info.total, 1000);
    assert_true(info.done < 500);
    assert_u64(info.missing, 1000 - info.done);
    assert_u64(info.left_ms, 0);
    assert_non_null(strstr(info.error, "of 1000 events were no longer in the log"));
    assert_u64(atomic_load(&p->r->n), info.done);
    assert_u64(now_of(f, "r").missing, info.missing); /* it is remembered */
    assert_string_equal(now_of(f, "r").error, info.error);
    player_free(p);
}

typedef struct stops {
    latch first, last; /* of a thousand */
} stops;

static hark_verdict stop_twice(hark_delivery *d, void *ud)
{
    stops *x = ud;
    uint64_t seq = hark_delivery_sequence(d);
    if (seq == 1 || seq == 1000)
        latch_wait(seq == 1 ? &x->first : &x->last);
    return HARK_ACK;
}

static void test_what_is_gone_is_counted_while_it_runs(void **state)
{
    fixture *f = *state;
    if (!f->store->keeps_all) /* there only by chance the last one is left */
        return;
    stops x;
    latch_init(&x.first);
    latch_init(&x.last);
    reopen_bus(f, HARK_OPTS(hark_bus_opts, .tail_events = 64));
    publish_many(f, "t", 1000);
    assert_ok(f, hark_replay(f->bus, stop_twice, &x, REPLAY(.id = "r"), NULL, &f->ei));
    WAIT_UNTIL(atomic_load(&x.first.arrived) == 1);
    lose_most(f);
    latch_open(&x.first);
    WAIT_UNTIL(atomic_load(&x.last.arrived) == 1);
    hark_replay_info info = now_of(f, "r");
    assert_u64(info.state, HARK_REPLAYING);
    assert_u64(info.missing, 1000 - info.done - 1);
    latch_open(&x.last);
    assert_u64(ended(f, "r", HARK_REPLAYED).missing, info.missing);
}

static void test_what_went_while_it_did_not_run_is_counted_and_told(void **state)
{
    fixture *f = *state;
    if (!f->store->keeps_all || !f->store->survives)
        return;
    player *p = player_new();
    publish(f, "u"); /* stays: what goes leaves a hole */
    publish_many(f, "t", 1000);
    stick_at(p, 102);
    (void)started(f, p, REPLAY(.id = "r", .type = "t"));
    WAIT_UNTIL(atomic_load(&p->r->n) == 101);
    reopen_bus(f, NULL);
    assert_u64(now_of(f, "r").missing, 0);
    assert_ok(f, hark_retain(f->bus, HARK_OPTS(hark_retention, .pattern = "t", .max_events = 200),
                             &f->ei));
    assert_ok(f, hark_retain_now(f->bus, NULL, &f->ei));
    hark_replay_info info = now_of(f, "r");
    assert_u64(info.state, HARK_REPLAY_INTERRUPTED);
    assert_u64(info.missing, 700);
    p->fail_at = 0;
    assert_u64(started(f, p, REPLAY(.id = "r")).missing, 700);
    info = ended(f, "r", HARK_REPLAYED);
    assert_u64(info.done, 300);
    assert_u64(info.missing, 700);
    reopen_bus(f, NULL);
    info = now_of(f, "r");
    assert_u64(info.missing, 700);
    assert_non_null(strstr(info.error, "700 of 1000 events"));
    player_free(p);
}

/* ---- the list ----------------------------------------------------------------------------------- */

typedef struct seen_ids {
    char ids[8][40];
    size_t n, most;
} seen_ids;

static bool note_id(const hark_replay_info *info, void *ud)
{
    seen_ids *s = ud;
    (void)snprintf(s->ids[s->n++], sizeof s->ids[0], "%s", info->id);
    return s->n < s->most;
}

static void test_all_of_them_are_listed(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 10);
    (void)started(f, p, REPLAY(.id = "one"));
    (void)ended(f, "one", HARK_REPLAYED);
    (void)started(f, p, REPLAY(.id = "two"));
    (void)ended(f, "two", HARK_REPLAYED);
    (void)held_at(f, p, 5, REPLAY(.id = "three"));
    seen_ids all = {.most = 8}, some = {.most = 2};
    assert_ok(f, hark_replays(f->bus, note_id, &all, &f->ei));
    assert_u64(all.n, 3);
    assert_string_equal(all.ids[0], "one");
    assert_string_equal(all.ids[1], "two");
    assert_string_equal(all.ids[2], "three");
    assert_ok(f, hark_replays(f->bus, note_id, &some, &f->ei));
    assert_u64(some.n, 2);
    latch_open(&p->at);
    (void)ended(f, "three", HARK_REPLAYED);
    player_free(p);
}

/* ---- into a consumer ------------------------------------------------------------------------------ */

typedef struct pupil {
    recorder *r;
    latch at;
    uint64_t stop_at;
    char ids[64][40]; /* of each delivery */
} pupil;

static hark_verdict learn(hark_delivery *d, void *ud)
{
    pupil *p = ud;
    const char *id = hark_delivery_replay_id(d);
    size_t i = atomic_load(&p->r->n);
    MUST(i < HK_COUNTOF(p->ids));
    (void)snprintf(p->ids[i], sizeof p->ids[i], "%s", id ? id : "");
    record_only(p->r, d);
    if (p->stop_at == hark_delivery_sequence(d) && id)
        latch_wait(&p->at);
    return HARK_ACK;
}

static pupil *pupil_new(fixture *f, hark_sub **ret)
{
    pupil *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->r = recorder_new();
    latch_init(&p->at);
    publish_many(f, "t", 20);
    assert_ok(f,
              hark_subscribe(f->bus, "t", learn, p,
                             HARK_OPTS(hark_sub_opts, .consumer = "c", .start = HARK_START_FIRST),
                             ret, &f->ei));
    WAIT_UNTIL(stats_of(*ret).position == 20);
    return p;
}

static void pupil_free(pupil *p, hark_sub *sub)
{
    end_sub(sub);
    recorder_free(p->r);
    free(p);
}

static void test_a_reset_consumer_is_a_replay_that_can_be_watched(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    pupil *p = pupil_new(f, &sub);
    hark_reset_result res = {.size = sizeof res};
    p->stop_at = 8;
    assert_ok(f, hark_consumer_reset(
                     f->bus, "c",
                     HARK_OPTS(hark_reset_opts, .start = HARK_START_SEQUENCE, .start_sequence = 6),
                     &res, &f->ei));
    assert_u64(res.from, 6);
    assert_u64(res.upto, 20);
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
    publish_many(f, "t", 5);
    hark_replay_info info;
    do
        info = now_of(f, res.replay_id); /* acks reach the store a little later */
    while (info.done < 2);
    assert_string_equal(info.consumer, "c");
    assert_string_equal(info.pattern, "t");
    assert_u64(info.state, HARK_REPLAYING);
    assert_u64(info.first, 6);
    assert_u64(info.last, 20);
    assert_u64(info.done, 2);
    assert_u64(info.total, 15);
    assert_err(f, HARK_ETIMEDOUT, hark_replay_wait(f->bus, res.replay_id, 1, INFO, &f->ei));
    latch_open(&p->at);
    info = ended(f, res.replay_id, HARK_REPLAYED);
    assert_u64(info.done, 15);
    WAIT_UNTIL(atomic_load(&p->r->n) == 20 + 15 + 5);
    for (size_t i = 0; i < 40; i++) {
        assert_u64(p->r->seen[i].seq, i < 20 ? i + 1 : i - 14);
        assert_string_equal(p->ids[i], i >= 20 && i < 35 ? res.replay_id : "");
    }
    seen_ids all = {.most = 8};
    assert_ok(f, hark_replays(f->bus, note_id, &all, &f->ei));
    assert_u64(all.n, 1);
    assert_err(f, HARK_ECONFLICT, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    pupil_free(p, sub);
}

static void test_cancelling_a_consumers_replay_puts_it_back_where_it_stood(void **state)
{
    enum { NEW = 40 };
    fixture *f = *state;
    hark_sub *sub;
    pupil *p = pupil_new(f, &sub);
    hark_reset_result res = {.size = sizeof res};
    p->stop_at = 1;
    WAIT_UNTIL(consumer_now(f).floor == 20);
    assert_ok(f, hark_consumer_reset(
                     f->bus, "c", HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST, .rate = 1),
                     &res, &f->ei));
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
    publish_many(f, "t", NEW); /* at the rate of the reset this wait would hang */
    assert_ok(f, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_replay_get(f->bus, res.replay_id, INFO, &f->ei));
    latch_open(&p->at);
    WAIT_UNTIL(stats_of(sub).acked == 20 + NEW);
    assert_u64(atomic_load(&p->r->n), 20 + 1 + NEW);
    assert_string_equal(p->ids[20], res.replay_id);
    for (size_t i = 21; i < 21 + NEW; i++) {
        assert_u64(p->r->seen[i].seq, i);
        assert_string_equal(p->ids[i], "");
    }
    pupil_free(p, sub);
}

static void test_a_cancelled_one_is_gone_after_a_restart_too(void **state)
{
    fixture *f = *state;
    if (!f->store->survives)
        return;
    hark_sub *sub;
    pupil *p = pupil_new(f, &sub);
    WAIT_UNTIL(consumer_now(f).floor == 20);
    assert_ok(f, hark_consumer_pause(f->bus, "c", &f->ei));
    hark_reset_result res = reset_to_first(f);
    end_sub(sub);
    assert_ok(f, hark_replay_cancel(f->bus, res.replay_id, &f->ei)); /* open nowhere */
    reopen_bus(f, NULL);
    assert_err(f, HARK_ENOTFOUND, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    assert_ok(f, hark_consumer_resume(f->bus, "c", &f->ei));
    assert_ok(f, hark_subscribe(f->bus, "t", learn, p, HARK_OPTS(hark_sub_opts, .consumer = "c"),
                                &sub, &f->ei));
    uint64_t next = publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(p->r->seen[20].seq, next);
    assert_string_equal(p->ids[20], "");
    pupil_free(p, sub);
}

typedef struct debtor {
    recorder *r;
    atomic_int pays;
} debtor;

/* Event 1 is retried until it pays. */
static hark_verdict owe(hark_delivery *d, void *ud)
{
    debtor *x = ud;
    bool later = hark_delivery_sequence(d) == 1 && !atomic_load(&x->pays);
    record_only(x->r, d);
    if (later)
        hark_delivery_retry_after(d, HOUR_MS);
    return later ? HARK_RETRY : HARK_ACK;
}

static void test_a_cancel_loses_nothing_that_was_retried_before_the_reset(void **state)
{
    fixture *f = *state;
    debtor x = {.r = recorder_new()};
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", owe, &x, HARK_OPTS(hark_sub_opts, .consumer = "c"),
                                &sub, &f->ei));
    publish_many(f, "t", 10);
    WAIT_UNTIL(stats_of(sub).acked == 9);
    assert_ok(f, hark_consumer_pause(f->bus, "c", &f->ei));
    hark_reset_result res = reset_to_first(f);
    atomic_store(&x.pays, 1);
    assert_ok(f, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    assert_ok(f, hark_consumer_resume(f->bus, "c", &f->ei));
    WAIT_UNTIL(stats_of(sub).acked == 9 + 10);
    assert_u64(times_seen(x.r, 1), 2);
    end_sub(sub);
    recorder_free(x.r);
}

/* Event 8 takes its time, when it is replayed. */
static hark_verdict linger(hark_delivery *d, void *ud)
{
    player *p = ud;
    record_only(p->r, d);
    if (hark_delivery_sequence(d) == 8 && hark_delivery_replay_id(d))
        latch_wait(&p->at);
    return HARK_ACK;
}

static void test_a_cancel_brings_nothing_back_that_was_settled_before_the_reset(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", linger, p,
                                HARK_OPTS(hark_sub_opts, .consumer = "c", .workers = 4), &sub,
                                &f->ei));
    publish_many(f, "t", 20);
    WAIT_UNTIL(consumer_now(f).floor == 20);
    hark_reset_result res = reset_to_first(f);
    publish_many(f, "t", 5);
    WAIT_UNTIL(stats_of(sub).acked == 20 + 24); /* all but event 8 */
    assert_ok(f, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    latch_open(&p->at);
    uint64_t last = publish(f, "t");
    WAIT_UNTIL(times_seen(p->r, last) == 1);
    for (uint64_t seq = 1; seq <= 20; seq++) /* what was done before: no third time */
        assert_u64(times_seen(p->r, seq), 2);
    end_sub(sub);
    player_free(p);
}

#define assert_quiet(f, call)                                                                      \
    do {                                                                                           \
        (f)->ei = (hark_errinfo){0};                                                               \
        assert_ok(f, call);                                                                        \
        assert_string_equal((f)->ei.text, "");                                                     \
    } while (0)

static void test_calls_that_do_well_leave_no_error_text(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    pupil *p = pupil_new(f, &sub);
    player *reader = player_new();
    hark_reset_result res = {.size = sizeof res};
    assert_quiet(f, hark_replay(f->bus, play, reader, REPLAY(.id = "fresh"), NULL, &f->ei));
    assert_quiet(f, hark_replay_wait(f->bus, "fresh", HUNG_MS, INFO, &f->ei));
    assert_quiet(f, hark_replay_get(f->bus, "fresh", INFO, &f->ei));
    for (int i = 0; i < 2; i++) {
        assert_quiet(f, hark_consumer_reset(f->bus, "c",
                                            HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST),
                                            &res, &f->ei));
        assert_quiet(f, hark_replay_get(f->bus, res.replay_id, INFO, &f->ei));
        assert_quiet(f, hark_replay_wait(f->bus, res.replay_id, HUNG_MS, INFO, &f->ei));
    }
    assert_ok(f, hark_consumer_pause(f->bus, "c", &f->ei));
    res = reset_to_first(f);
    assert_quiet(f, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    assert_says(f, res.replay_id);
    player_free(reader);
    pupil_free(p, sub);
}

#define T(fn) TEST(fn)
static const struct CMUnitTest tests[] = {
    T(test_a_cancel_ends_it_behind_what_its_handler_runs),
    T(test_a_cancel_ends_its_pauses_at_once),
    T(test_its_own_handler_may_cancel_it_but_not_wait_for_it),
    T(test_a_drain_ends_it_and_a_later_bus_goes_on_with_it),
    T(test_an_interrupted_one_can_be_cancelled),
    T(test_it_goes_on_while_the_store_fails_and_ends_when_its_end_is_stored),
    T(test_what_is_gone_before_its_turn_is_counted_and_told),
    T(test_what_is_gone_is_counted_while_it_runs),
    T(test_what_went_while_it_did_not_run_is_counted_and_told),
    T(test_all_of_them_are_listed),
    T(test_a_reset_consumer_is_a_replay_that_can_be_watched),
    T(test_cancelling_a_consumers_replay_puts_it_back_where_it_stood),
    T(test_a_cancelled_one_is_gone_after_a_restart_too),
    T(test_a_cancel_loses_nothing_that_was_retried_before_the_reset),
    T(test_a_cancel_brings_nothing_back_that_was_settled_before_the_reset),
    T(test_calls_that_do_well_leave_no_error_text),
};
CONFORMANCE_MAIN("ends of replays, replays into consumers")
