/* Why a consumer does not move: scripted stalls, and what hark_why says of each. A stall is made and
 * then looked at until it shows; none depends on how fast the machine is. */
#include "fixture.h"

#include "bus/bus_i.h"

#include <hark/operate.h>
#include <sqlite3.h>

#define OPTS(...) HARK_OPTS(hark_sub_opts, .consumer = "c", __VA_ARGS__)
#define HOUR_MS   3600000
#define NS        INT64_C(1000000000)

static hark_why_info why(fixture *f, const char *consumer)
{
    hark_why_info r = {.size = sizeof r};
    assert_ok(f, hark_why(f->bus, consumer, &r, &f->ei));
    return r;
}

/* Waits for a verdict of why. */
static hark_why_info wait_why(fixture *f, hark_why_code code)
{
    hark_why_info r = why(f, "c");
    int64_t until = hk_mono_ms() + 25000;
    while (r.code != code && hk_mono_ms() < until)
        r = why(f, "c");
    if (r.code != code)
        fail_msg("expected code %d, got %d: %s", (int)code, (int)r.code, r.text);
    return r;
}

static void assert_text(const hark_why_info *r, const char *part)
{
    if (!strstr(r->text, part))
        fail_msg("expected '%s' in: %s", part, r->text);
}

static void assert_about(const hark_why_info *r, uint64_t seq, const char *key)
{
    char text[64];
    assert_u64(r->sequence, seq);
    assert_string_equal(r->key, key);
    (void)snprintf(text, sizeof text, "sequence %llu of key \"%s\"", (unsigned long long)seq, key);
    assert_text(r, "consumer c ");
    assert_text(r, text);
}

static hark_sub *subscribe(fixture *f, hark_handler_fn fn, void *ud, const hark_sub_opts *opts)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", fn, ud, opts, &sub, &f->ei));
    return sub;
}

static hark_verdict ack(hark_delivery *d, void *ud)
{
    (void)d;
    (void)ud;
    return HARK_ACK;
}

static hark_verdict retry_much_later(hark_delivery *d, void *ud)
{
    (void)ud;
    hark_delivery_retry_after(d, HOUR_MS);
    return HARK_RETRY;
}

static hark_verdict reject(hark_delivery *d, void *ud)
{
    (void)ud;
    hark_delivery_explain(d, "not today");
    return HARK_REJECT;
}

static hark_verdict wait_at(hark_delivery *d, void *ud)
{
    (void)d;
    latch_wait(ud);
    return HARK_ACK;
}

/* The key says what becomes of it: "retry", "reject", "wait", anything else is acked. */
static hark_verdict as_key_says(hark_delivery *d, void *ud)
{
    const char *key = hark_event_key(hark_delivery_event(d));
    if (strcmp(key, "retry") == 0)
        return retry_much_later(d, ud);
    if (strcmp(key, "reject") == 0)
        return reject(d, ud);
    return strcmp(key, "wait") == 0 ? wait_at(d, ud) : HARK_ACK;
}

/* ---- ten stalls ----------------------------------------------------------------------------------- */

static void test_a_consumer_that_settled_everything_is_idle(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, ack, NULL, OPTS(.workers = 2));
    publish_keyed(f, "t", "k");
    uint64_t last = publish(f, "t");
    WAIT_UNTIL(stats_of(sub).position == last);
    hark_why_info r = wait_why(f, HARK_WHY_IDLE);
    assert_u64(r.lag, 0);
    assert_u64(r.running + r.waiting + r.behind + r.parked + r.parked_keys, 0);
    assert_u64(r.sequence, 0);
    assert_string_equal(r.key, "");
    assert_text(&r, "consumer c is idle");
    end_sub(sub);
}

static void test_events_of_other_types_keep_nobody_busy(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, ack, NULL, OPTS(.workers = 2));
    publish(f, "t");
    (void)wait_why(f, HARK_WHY_IDLE);
    publish_many(f, "other", 50); /* they do not even wake it */
    hark_why_info r = why(f, "c");
    assert_u64(r.code, HARK_WHY_IDLE);
    assert_u64(r.lag, 0);
    end_sub(sub);
}

static void test_one_with_events_to_take_is_catching_up(void **state)
{
    fixture *f = *state;
    hark_delivery *d;
    hark_sub *sub = subscribe(f, NULL, NULL, OPTS(.workers = 2));
    publish_many(f, "t", 5);
    hark_why_info r = wait_why(f, HARK_WHY_CATCHING_UP);
    assert_u64(r.lag, 5);
    assert_text(&r, "5 positions of the log to go");
    assert_text(&r, "hark_next");
    assert_ok(f, hark_next(sub, -1, &d));
    assert_ok(f, hark_settle(&d, NULL));
    r = wait_why(f, HARK_WHY_CATCHING_UP);
    assert_u64(r.lag, 4);
    end_sub(sub);
}

static void test_a_lane_that_retries_is_named_with_its_next_attempt(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, retry_much_later, NULL, OPTS(.workers = 2));
    int64_t before = hk_wall_ns();
    uint64_t first = publish_keyed(f, "t", "order-7");
    publish_keyed(f, "t", "order-7");
    WAIT_UNTIL(why(f, "c").behind == 1);
    hark_why_info r = wait_why(f, HARK_WHY_LANE_WAITING);
    assert_about(&r, first, "order-7");
    assert_u64(r.waiting, 1);
    assert_u64(r.attempts, 1);
    assert_true(r.since_ns >= before && r.since_ns <= hk_wall_ns());
    assert_true(r.next_ns > before + HOUR_MS * INT64_C(900000));
    assert_true(r.next_ns <= hk_wall_ns() + HOUR_MS * INT64_C(1000000));
    assert_text(&r, "failed 1 time,");
    assert_text(&r, "next attempt in 59 min");
    assert_text(&r, "1 event behind retries");
    end_sub(sub);
}

static void test_a_worker_that_does_not_come_back_is_named(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub = subscribe(f, wait_at, &at, OPTS(.workers = 1));
    int64_t before = hk_wall_ns();
    uint64_t first = publish_keyed(f, "t", "slow");
    publish_keyed(f, "t", "other");
    hark_why_info r = wait_why(f, HARK_WHY_WORKER_BUSY);
    assert_about(&r, first, "slow");
    assert_u64(r.running, 1);
    assert_true(r.since_ns >= before && r.since_ns <= hk_wall_ns() - NS);
    assert_text(&r, "1 of 1 worker at work");
    assert_text(&r, "has been running for ");
    latch_open(&at);
    (void)wait_why(f, HARK_WHY_IDLE);
    end_sub(sub);
}

static void test_a_parked_key_is_named_until_it_is_discarded(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, reject, NULL, OPTS(.dead_policy = HARK_DEAD_PARK));
    int64_t before = hk_wall_ns();
    uint64_t first = publish_keyed(f, "t", "order-7");
    (void)wait_why(f, HARK_WHY_PARKED);
    publish_keyed(f, "t", "order-7");
    WAIT_UNTIL(why(f, "c").parked == 1);
    hark_why_info r = wait_why(f, HARK_WHY_PARKED);
    assert_about(&r, first, "order-7");
    assert_u64(r.parked_keys, 1);
    assert_true(r.since_ns >= before && r.since_ns <= hk_wall_ns());
    assert_text(&r, "redrive or discard");
    assert_text(&r, "1 event behind them");
    end_sub(sub);
    r = wait_why(f, HARK_WHY_PARKED); /* nobody here has it open, but that is not what is missing */
    assert_about(&r, first, "order-7");
    assert_u64(r.parked, 1);
}

static void test_a_paused_consumer_says_so_until_it_is_resumed(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, ack, NULL, OPTS(.workers = 2));
    assert_ok(f, hark_consumer_pause(f->bus, "c", &f->ei));
    publish_many(f, "t", 3);
    hark_why_info r = why(f, "c");
    assert_u64(r.code, HARK_WHY_PAUSED);
    assert_u64(r.lag, 3);
    assert_text(&r, "hark_consumer_resume");
    end_sub(sub);
    assert_u64(why(f, "c").code, HARK_WHY_PAUSED); /* it is durable */
    sub = subscribe(f, ack, NULL, OPTS(.workers = 2));
    assert_u64(why(f, "c").code, HARK_WHY_PAUSED);
    assert_ok(f, hark_consumer_resume(f->bus, "c", &f->ei));
    (void)wait_why(f, HARK_WHY_IDLE);
    end_sub(sub);
}

/* Commits of SQLite fail while another program holds the file; a store in memory has no way to fail,
 * there the mark of a failed group is set by hand, until the next group clears it. */
static hark_why_info while_the_store_fails(fixture *f, latch *at)
{
    hark_why_info r;
    sqlite3 *db = NULL;
    if (strcmp(f->store->name, "sqlite") != 0) {
        do {
            hk_mark_set(&f->bus->writer.last_failed_ns, (uint64_t)hk_wall_ns());
            r = why(f, "c");
        } while (r.code != HARK_WHY_STORE_FAILING);
        hk_mark_set(&f->bus->writer.last_failed_ns, 0);
        latch_open(at);
        return r;
    }
    assert_int_equal(sqlite3_open(strchr(f->url, ':') + 1, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    latch_open(at); /* the ack cannot be saved */
    r = wait_why(f, HARK_WHY_STORE_FAILING);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    return r;
}

static void test_a_store_that_does_not_commit_is_failing_until_it_does(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub = subscribe(f, wait_at, &at, OPTS(.workers = 1));
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    hark_why_info r = while_the_store_fails(f, &at);
    assert_true(r.since_ns > 0 && r.since_ns <= hk_wall_ns());
    assert_text(&r, "commits fail");
    (void)wait_why(f, HARK_WHY_IDLE);
    end_sub(sub);
}

/* What it handles while nothing is committed comes again after a crash: that is bounded. */
static void test_a_consumer_runs_no_further_ahead_of_a_failing_store_than_its_window(void **state)
{
    fixture *f = *state;
    hark_delivery *d;
    hark_sub *sub;
    sqlite3 *db = NULL;
    if (strcmp(f->store->name, "sqlite") != 0)
        return; /* see above: it does not fail */
    assert_ok(f, hark_subscribe(f->bus, "t", NULL, NULL, OPTS(.window = 4), &sub, &f->ei));
    publish_many(f, "t", 50);
    assert_int_equal(sqlite3_open(strchr(f->url, ':') + 1, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_ok(f, hark_next(sub, HUNG_MS, &d));
    assert_ok(f, hark_settle(&d, NULL));
    (void)wait_why(f, HARK_WHY_STORE_FAILING);
    while (!hark_next(sub, 300, &d))
        assert_ok(f, hark_settle(&d, NULL));
    assert_in_range(stats_of(sub).acked, 4, 5);
    assert_u64(why(f, "c").code, HARK_WHY_STORE_FAILING);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    while (stats_of(sub).acked < 50) {
        assert_ok(f, hark_next(sub, HUNG_MS, &d));
        assert_ok(f, hark_settle(&d, NULL));
    }
    end_sub(sub);
}

static void test_a_store_that_takes_no_more_writes_is_failing_for_good(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, ack, NULL, OPTS(.workers = 1));
    (void)wait_why(f, HARK_WHY_IDLE);
    hk_mark_set(&f->bus->read_only, 1);
    hark_why_info r = why(f, "c");
    assert_u64(r.code, HARK_WHY_STORE_FAILING);
    assert_text(&r, "no more writes");
    hk_mark_set(&f->bus->read_only, 0);
    end_sub(sub);
}

static void test_a_window_full_of_one_key_names_what_runs(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub = subscribe(f, wait_at, &at, OPTS(.workers = 2, .window = 4));
    uint64_t first = publish_keyed(f, "t", "hot");
    for (int i = 0; i < 9; i++)
        publish_keyed(f, "t", "hot");
    hark_why_info r = wait_why(f, HARK_WHY_WINDOW_FULL);
    assert_about(&r, first, "hot");
    assert_u64(r.lag, 10);
    assert_u64(r.running, 1);
    assert_true(r.since_ns > 0);
    assert_text(&r, "window is full");
    latch_open(&at);
    (void)wait_why(f, HARK_WHY_IDLE);
    end_sub(sub);
}

static void test_a_full_ledger_that_holds_up_others_says_so(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, retry_much_later, NULL, OPTS(.workers = 2, .max_deferred = 2));
    uint64_t first = publish_keyed(f, "t", "a");
    WAIT_UNTIL(why(f, "c").waiting == 1);
    publish_keyed(f, "t", "b");
    WAIT_UNTIL(why(f, "c").waiting == 2);
    hark_why_info r = wait_why(f, HARK_WHY_LANE_WAITING); /* it is full, but nobody else waits */
    publish_keyed(f, "t", "c");
    r = wait_why(f, HARK_WHY_LEDGER_FULL);
    assert_about(&r, first, "a");
    assert_u64(r.lag, 1);
    assert_u64(r.waiting, 2);
    assert_true(r.next_ns > hk_wall_ns());
    assert_text(&r, "max_deferred");
    end_sub(sub);
}

static void test_a_replay_at_a_rate_is_throttled(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, ack, NULL, OPTS(.workers = 2));
    uint64_t last = publish_many(f, "t", 100) + 99;
    WAIT_UNTIL(consumer_now(f).highest == last);
    hark_reset_result reset = {.size = sizeof reset};
    assert_ok(f, hark_consumer_reset(
                     f->bus, "c", HARK_OPTS(hark_reset_opts, .start = HARK_START_FIRST, .rate = 1),
                     &reset, &f->ei));
    hark_why_info r = wait_why(f, HARK_WHY_THROTTLED);
    assert_text(&r, "held to 1 event a second");
    assert_text(&r, reset.replay_id);
    assert_true(r.lag > 50);
    end_sub(sub);
}

static void test_a_consumer_that_nobody_opened_says_what_waits(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, ack, NULL, OPTS(.workers = 2));
    publish(f, "t");
    (void)wait_why(f, HARK_WHY_IDLE);
    end_sub(sub);
    hark_why_info r = why(f, "c");
    assert_u64(r.code, HARK_WHY_NOT_OPEN);
    assert_text(&r, "nothing waits for it");
    publish(f, "other");
    r = why(f, "c");
    assert_text(&r, "nothing waits for it");
    publish(f, "t");
    r = why(f, "c");
    assert_u64(r.code, HARK_WHY_NOT_OPEN);
    assert_text(&r, "events wait");
    assert_true(r.lag >= 1);
}

static void test_rows_of_a_consumer_that_nobody_opened_are_counted(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub = subscribe(f, as_key_says, &at, OPTS(.workers = 2));
    publish_keyed(f, "t", "retry");
    publish_keyed(f, "t", "retry");
    WAIT_UNTIL(why(f, "c").behind == 1);
    end_sub(sub);
    hark_why_info r = why(f, "c");
    assert_u64(r.code, HARK_WHY_NOT_OPEN);
    assert_u64(r.waiting, 1);
    assert_u64(r.behind, 1);
    assert_text(&r, "2 rows of its ledger wait");
}

/* ---- when several things are so ------------------------------------------------------------------- */

static void test_an_event_without_a_key_is_named_by_its_sequence(void **state)
{
    fixture *f = *state;
    hark_sub *sub = subscribe(f, retry_much_later, NULL, OPTS(.workers = 2));
    uint64_t seq = publish(f, "t");
    hark_why_info r = wait_why(f, HARK_WHY_LANE_WAITING);
    assert_u64(r.sequence, seq);
    assert_string_equal(r.key, "");
    assert_text(&r, "which has no key");
    end_sub(sub);
}

static void test_one_slow_handler_among_idle_workers_is_told(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub = subscribe(f, as_key_says, &at, OPTS(.workers = 4));
    uint64_t slow = publish_keyed(f, "t", "wait");
    publish_keyed(f, "t", "fine");
    hark_why_info r = wait_why(f, HARK_WHY_WORKER_BUSY);
    assert_about(&r, slow, "wait");
    assert_text(&r, "1 of 4 workers at work");
    latch_open(&at);
    end_sub(sub);
}

static void test_of_a_slow_handler_and_a_retry_the_older_trouble_is_told(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub = subscribe(f, as_key_says, &at, OPTS(.workers = 4));
    uint64_t retry = publish_keyed(f, "t", "retry");
    (void)wait_why(f, HARK_WHY_LANE_WAITING);
    publish_keyed(f, "t", "wait");
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    hark_why_info r = wait_why(f, HARK_WHY_LANE_WAITING);
    assert_about(&r, retry, "retry");
    assert_u64(r.running, 1);
    latch_open(&at);
    end_sub(sub);
}

static void test_a_retry_is_told_before_a_parked_key_which_is_mentioned(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub =
        subscribe(f, as_key_says, &at, OPTS(.workers = 2, .dead_policy = HARK_DEAD_PARK));
    publish_keyed(f, "t", "reject");
    uint64_t retry = publish_keyed(f, "t", "retry");
    WAIT_UNTIL(why(f, "c").parked_keys == 1);
    hark_why_info r = wait_why(f, HARK_WHY_LANE_WAITING);
    assert_about(&r, retry, "retry");
    assert_text(&r, "1 key parked");
    end_sub(sub);
}

static void test_a_pause_is_told_before_anything_that_it_causes(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    hark_sub *sub = subscribe(f, as_key_says, &at, OPTS(.workers = 2));
    publish_keyed(f, "t", "retry");
    (void)wait_why(f, HARK_WHY_LANE_WAITING);
    assert_ok(f, hark_consumer_pause(f->bus, "c", &f->ei));
    publish_many(f, "t", 10);
    hark_why_info r = why(f, "c");
    assert_u64(r.code, HARK_WHY_PAUSED);
    assert_text(&r, "1 event waiting for a retry");
    end_sub(sub);
}

static void test_a_long_key_is_cut_at_a_character(void **state)
{
    fixture *f = *state;
    char key[201];
    for (size_t i = 0; i < 200; i += 2)
        memcpy(key + i, "\xc3\xa4", 2);
    key[200] = '\0';
    memcpy(key, "x", 1);
    memmove(key + 1, key + 2, 199); /* one byte, then two-byte characters */
    hark_sub *sub = subscribe(f, retry_much_later, NULL, OPTS(.workers = 2));
    publish_keyed(f, "t", key);
    hark_why_info r = wait_why(f, HARK_WHY_LANE_WAITING);
    assert_u64(strlen(r.key), 127);
    assert_u64(hk_utf8_valid(r.key, 127), 127);
    assert_u64(hk_utf8_valid(r.text, strlen(r.text)), strlen(r.text));
    assert_text(&r, "next attempt in");
    end_sub(sub);
}

/* ---- refusals ------------------------------------------------------------------------------------- */

static void test_what_cannot_be_answered_is_refused(void **state)
{
    fixture *f = *state;
    hark_why_info r = {.size = 8};
    assert_err(f, HARK_EINVAL, hark_why(f->bus, "c", &r, &f->ei));
    r.size = sizeof r;
    assert_err(f, HARK_EINVAL, hark_why(f->bus, NULL, &r, &f->ei));
    assert_string_equal(hark_why_name(HARK_WHY_LANE_WAITING), "lane-waiting");
    assert_string_equal(hark_why_name(-1), "other");
    assert_err(f, HARK_ENOTFOUND, hark_why(f->bus, "nobody", &r, &f->ei));
    assert_says(f, "no consumer 'nobody' is registered");
    bool was = hark_thread_nonblocking(true);
    hark_err err = hark_why(f->bus, "c", &r, &f->ei);
    (void)hark_thread_nonblocking(was);
    assert_int_equal(err, HARK_EWRONGTHREAD);
    assert_ok(f, hark_drain(f->bus, -1, &f->ei));
    assert_err(f, HARK_ECLOSED, hark_why(f->bus, "c", &r, &f->ei));
}

static const struct CMUnitTest tests[] = {
    TEST(test_a_consumer_that_settled_everything_is_idle),
    TEST(test_events_of_other_types_keep_nobody_busy),
    TEST(test_one_with_events_to_take_is_catching_up),
    TEST(test_a_lane_that_retries_is_named_with_its_next_attempt),
    TEST(test_a_worker_that_does_not_come_back_is_named),
    TEST(test_a_parked_key_is_named_until_it_is_discarded),
    TEST(test_a_paused_consumer_says_so_until_it_is_resumed),
    TEST(test_a_store_that_does_not_commit_is_failing_until_it_does),
    TEST(test_a_consumer_runs_no_further_ahead_of_a_failing_store_than_its_window),
    TEST(test_a_store_that_takes_no_more_writes_is_failing_for_good),
    TEST(test_a_window_full_of_one_key_names_what_runs),
    TEST(test_a_full_ledger_that_holds_up_others_says_so),
    TEST(test_a_replay_at_a_rate_is_throttled),
    TEST(test_a_consumer_that_nobody_opened_says_what_waits),
    TEST(test_rows_of_a_consumer_that_nobody_opened_are_counted),
    TEST(test_an_event_without_a_key_is_named_by_its_sequence),
    TEST(test_one_slow_handler_among_idle_workers_is_told),
    TEST(test_of_a_slow_handler_and_a_retry_the_older_trouble_is_told),
    TEST(test_a_retry_is_told_before_a_parked_key_which_is_mentioned),
    TEST(test_a_pause_is_told_before_anything_that_it_causes),
    TEST(test_a_long_key_is_cut_at_a_character),
    TEST(test_what_cannot_be_answered_is_refused),
};
CONFORMANCE_MAIN("why")
