/* How replays end before their time: cancelled, interrupted and gone on with, beside a store that
 * fails; the list of all; replays into consumers. */
#include "outage.h"
#include "player.h"

/* ---- cancelled, interrupted ---------------------------------------------------------------------- */

static void test_a_cancel_ends_it_behind_what_its_handler_runs(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 100);
    p->stop_at = 31;
    (void)started(f, p, REPLAY(.id = "r"));
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
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
    p->fail_at = 4;
    p->failures = -1;
    p->delay_ms = HOUR_MS;
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
    p->fail_at = 31;
    p->failures = -1;
    p->delay_ms = HOUR_MS;
    (void)started(f, p, REPLAY(.id = "r", .type = "t", .first = 11));
    WAIT_UNTIL(atomic_load(&p->r->n) == 21);
    assert_ok(f, hark_drain(f->bus, 10000, &f->ei));
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
    p->fail_at = 4;
    p->failures = -1;
    p->delay_ms = HOUR_MS;
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
    p->stop_at = 10;
    (void)started(f, p, REPLAY(.id = "r"));
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
    sqlite3 *outage = outage_begin(f);
    latch_open(&p->at);
    WAIT_UNTIL(now_of(f, "r").done == 100);
    assert_err(f, HARK_ETIMEDOUT, hark_replay_wait(f->bus, "r", 1, INFO, &f->ei));
    outage_end(outage);
    assert_u64(ended(f, "r", HARK_REPLAYED).done, 100);
    player_free(p);
}

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
    p->stop_at = 5;
    (void)started(f, p, REPLAY(.id = "three"));
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
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

static void test_cancelling_a_consumers_replay_puts_it_behind_it(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    pupil *p = pupil_new(f, &sub);
    hark_reset_result res = {.size = sizeof res};
    p->stop_at = 3;
    assert_ok(f, hark_consumer_reset(f->bus, "c",
                                     HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST), &res,
                                     &f->ei));
    WAIT_UNTIL(atomic_load(&p->at.arrived) == 1);
    publish_many(f, "t", 2);
    assert_ok(f, hark_replay_cancel(f->bus, res.replay_id, &f->ei));
    latch_open(&p->at);
    WAIT_UNTIL(atomic_load(&p->r->n) == 20 + 3 + 2);
    assert_u64(p->r->seen[23].seq, 21);
    assert_u64(p->r->seen[24].seq, 22);
    assert_string_equal(p->ids[24], "");
    assert_err(f, HARK_ENOTFOUND, hark_replay_get(f->bus, res.replay_id, INFO, &f->ei));
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
    T(test_all_of_them_are_listed),
    T(test_a_reset_consumer_is_a_replay_that_can_be_watched),
    T(test_cancelling_a_consumers_replay_puts_it_behind_it),
};
CONFORMANCE_MAIN("ends of replays, replays into consumers")
