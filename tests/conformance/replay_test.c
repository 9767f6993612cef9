/* Replays into a handler: what comes, by range, type and time, how answers count, and what can be seen
 * while it runs. Their ends are in replay_end_test.c. */
#include "player.h"

/* ---- what is replayed ---------------------------------------------------------------------------- */

static void test_a_range_comes_in_order_once_with_the_replays_id(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 1000);
    hark_replay_info info = started(f, p, REPLAY(.id = "again", .first = 101, .last = 900));
    assert_string_equal(info.id, "again");
    assert_string_equal(info.pattern, "**");
    assert_u64(info.first, 101);
    assert_u64(info.last, 900);
    assert_u64(info.total, 800);
    info = ended(f, "again", HARK_REPLAYED);
    assert_u64(info.done, 800);
    assert_u64(info.position, 900);
    assert_u64(info.rejected, 0);
    assert_u64(info.left_ms, 0);
    assert_consecutive(p->r, 101, 800);
    assert_int_equal(atomic_load(&p->wrong_id), 0);
    assert_u64(p->r->seen[0].attempt, 1);
    info = now_of(f, "again"); /* it is remembered */
    assert_u64(info.state, HARK_REPLAYED);
    assert_u64(info.done, 800);
    player_free(p);
}

static void test_free_ud_comes_once_after_the_last_call(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    publish_many(f, "t", 20);
    hark_replay_info info = {.size = sizeof info};
    assert_ok(f, hark_replay(f->bus, record, r, REPLAY(.free_ud = recorder_freed), &info, &f->ei));
    (void)ended(f, info.id, HARK_REPLAYED);
    assert_int_equal(atomic_load(&r->freed), 1);
    assert_consecutive(r, 1, 20);
    assert_err(f, HARK_EINVAL,
               hark_replay(f->bus, record, r, REPLAY(.rate = -1, .free_ud = recorder_freed), NULL,
                           &f->ei));
    assert_int_equal(atomic_load(&r->freed), 1); /* not when the call fails */
    recorder_free(r);
}

static void test_only_what_the_pattern_matches_comes(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    for (int i = 0; i < 30; i++) {
        publish_many(f, "a:x", 3);
        publish(f, "a:y");
        publish(f, "b");
    }
    hark_replay_info info = started(f, p, REPLAY(.id = "y", .type = "a:y"));
    assert_u64(info.total, 30);
    assert_u64(ended(f, "y", HARK_REPLAYED).done, 30);
    assert_u64(atomic_load(&p->r->n), 30);
    for (size_t i = 0; i < 30; i++)
        assert_u64(p->r->seen[i].seq, 5 * i + 4);
    info = started(f, p, REPLAY(.id = "a", .type = "a:*"));
    assert_u64(ended(f, "a", HARK_REPLAYED).done, 120);
    player_free(p);
}

static void test_only_what_was_recorded_in_time_comes(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    for (int i = 0; i < 100; i++)
        publish(f, "t");
    hark_page *page;
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .limit = 100), &page, NULL));
    int64_t from = hark_event_recorded_ns(hark_page_event(page, 30));
    int64_t to = hark_event_recorded_ns(hark_page_event(page, 69));
    uint64_t first = 0, n = 0;
    for (size_t i = 0; i < 100; i++) {
        int64_t at = hark_event_recorded_ns(hark_page_event(page, i));
        if (at < from || at >= to)
            continue;
        first = first ? first : i + 1;
        n++;
    }
    hark_page_free(page);
    (void)started(f, p, REPLAY(.id = "then", .from_ns = from, .to_ns = to));
    assert_u64(ended(f, "then", HARK_REPLAYED).total, n);
    assert_consecutive(p->r, first, n);
    player_free(p);
}

static void test_what_is_published_later_is_not_part_of_it(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 10);
    (void)held_at(f, p, 5, REPLAY(.id = "r", .last = 1000));
    publish_many(f, "t", 10);
    latch_open(&p->at);
    assert_u64(ended(f, "r", HARK_REPLAYED).done, 10);
    assert_consecutive(p->r, 1, 10);
    player_free(p);
}

static void test_an_empty_range_ends_at_once(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    (void)started(f, p, REPLAY(.id = "log"));
    assert_u64(ended(f, "log", HARK_REPLAYED).total, 0);
    publish_many(f, "t", 10);
    (void)started(f, p, REPLAY(.id = "beyond", .first = 11));
    assert_u64(ended(f, "beyond", HARK_REPLAYED).total, 0);
    assert_u64(atomic_load(&p->r->n), 0);
    player_free(p);
}

static void test_a_dry_run_counts_and_touches_nothing(void **state)
{
    fixture *f = *state;
    hark_replay_info info = {.size = sizeof info};
    publish_many(f, "t", 50);
    publish_many(f, "u", 7);
    assert_ok(f, hark_replay(f->bus, NULL, NULL, REPLAY(.dry_run = 1, .type = "u"), &info, &f->ei));
    assert_u64(info.total, 7);
    assert_u64(info.done, 0);
    assert_u64(info.state, 0);
    assert_ok(f, hark_replay(f->bus, NULL, NULL, REPLAY(.dry_run = 1, .id = "x", .first = 41),
                             &info, &f->ei));
    assert_u64(info.total, 17);
    assert_err(f, HARK_ENOTFOUND, hark_replay_get(f->bus, "x", &info, &f->ei));
    assert_says(f, "'x'");
}

static void test_wrong_options_are_refused(void **state)
{
    fixture *f = *state;
    static const hark_replay_opts wrong[] = {
        {.size = sizeof(hark_replay_opts), .id = ""},
        {.size = sizeof(hark_replay_opts), .id = "a b"},
        {.size = sizeof(hark_replay_opts), .id = "0123456789012345678901234567890123456789"},
        {.size = sizeof(hark_replay_opts), .type = "**:a"},
        {.size = sizeof(hark_replay_opts), .first = 10, .last = 9},
        {.size = sizeof(hark_replay_opts), .from_ns = 10, .to_ns = 10},
        {.size = sizeof(hark_replay_opts), .from_ns = -1},
        {.size = sizeof(hark_replay_opts), .rate = -1},
    };
    for (size_t i = 0; i < HK_COUNTOF(wrong); i++)
        if (hark_replay(f->bus, record, NULL, &wrong[i], NULL, &f->ei) != HARK_EINVAL)
            fail_msg("options %zu were not refused", i);
    assert_err(f, HARK_EINVAL, hark_replay(f->bus, NULL, NULL, NULL, NULL, &f->ei));
    hark_replay_info none = {0};
    assert_err(f, HARK_EINVAL, hark_replay(f->bus, record, NULL, NULL, &none, &f->ei));
    assert_err(f, HARK_EINVAL, hark_replay_get(f->bus, "x", &none, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_replay_cancel(f->bus, "x", &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_replay_wait(f->bus, "x", 0, INFO, &f->ei));
}

/* ---- answers of the handler ---------------------------------------------------------------------- */

static void test_a_retry_repeats_the_event_and_the_rest_waits(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 10);
    p->fail_at = 4;
    p->failures = 10;
    (void)started(f, p, REPLAY(.id = "r"));
    assert_u64(ended(f, "r", HARK_REPLAYED).done, 10);
    assert_u64(atomic_load(&p->r->n), 20);
    for (size_t i = 0; i < 20; i++) {
        assert_u64(p->r->seen[i].seq, i < 3 ? i + 1 : i < 14 ? 4 : i - 9);
        assert_u64(p->r->seen[i].attempt, i >= 3 && i < 14 ? i - 2 : 1);
    }
    player_free(p);
}

static void test_what_fails_eleven_times_breaks_it_and_it_is_gone_on_with_there(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 10);
    p->fail_at = 4;
    p->failures = -1;
    (void)started(f, p, REPLAY(.id = "r", .type = "t"));
    hark_replay_info info = ended(f, "r", HARK_REPLAY_BROKEN);
    assert_non_null(strstr(info.error, "not today"));
    assert_non_null(strstr(info.error, "sequence 4"));
    assert_u64(info.done, 3);
    assert_u64(info.position, 3);
    assert_u64(times_seen(p->r, 4), 11);
    p->fail_at = 0;
    size_t before = atomic_load(&p->r->n);
    publish_many(f, "t", 10); /* the range is its own */
    info = started(f, p, REPLAY(.id = "r", .first = 8));
    assert_string_equal(info.error, "");
    info = ended(f, "r", HARK_REPLAYED);
    assert_u64(info.done, 10);
    assert_u64(info.total, 10);
    assert_u64(atomic_load(&p->r->n), before + 7);
    assert_u64(p->r->seen[before].seq, 4);
    assert_u64(p->r->seen[before].attempt, 1);
    player_free(p);
}

static void test_a_reject_is_counted_and_passed_over(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 100);
    p->every = 10;
    (void)started(f, p, REPLAY(.id = "r"));
    hark_replay_info info = ended(f, "r", HARK_REPLAYED);
    assert_u64(info.rejected, 10);
    assert_u64(info.done, 100);
    assert_consecutive(p->r, 1, 100);
    uint64_t letters = publish(f, "u"); /* no dead letter, and no event of one */
    assert_u64(letters, 101);
    player_free(p);
}

static hark_verdict keeps(hark_delivery *d, void *ud)
{
    recorder *r = ud;
    record_only(r, d);
    if (hark_delivery_attempt(d) > 1)
        return HARK_ACK;
    MUST(hark_settle(&d, NULL) == HARK_OK); /* settled at once, by whoever it was given to */
    return HARK_LATER;
}

static void test_a_delivery_cannot_be_kept(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_replay_info info = {.size = sizeof info};
    publish_many(f, "t", 2);
    assert_ok(f, hark_replay(f->bus, keeps, r, NULL, &info, &f->ei));
    (void)ended(f, info.id, HARK_REPLAYED);
    assert_u64(atomic_load(&r->n), 4); /* each came again */
    recorder_free(r);
}

static hark_verdict republish(hark_delivery *d, void *ud)
{
    hark_receipt receipt;
    (void)ud;
    MUST(hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = "copy"), &receipt) == HARK_OK);
    return HARK_ACK;
}

static void test_a_handler_may_publish(void **state)
{
    fixture *f = *state;
    hark_replay_info info = {.size = sizeof info};
    hark_page *page;
    publish_many(f, "t", 5);
    assert_ok(f, hark_replay(f->bus, republish, NULL, REPLAY(.type = "t"), &info, &f->ei));
    (void)ended(f, info.id, HARK_REPLAYED);
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .after = 5), &page, NULL));
    assert_u64(hark_page_count(page), 5);
    for (size_t i = 0; i < 5; i++)
        assert_non_null(hark_event_causationid(hark_page_event(page, i)));
    hark_page_free(page);
}

/* ---- while it runs ------------------------------------------------------------------------------- */

static void test_its_progress_can_be_watched(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 100);
    (void)held_at(f, p, 31, REPLAY(.id = "r"));
    hark_replay_info info = now_of(f, "r");
    assert_u64(info.state, HARK_REPLAYING);
    assert_u64(info.done, 30);
    assert_u64(info.position, 30);
    assert_u64(info.total, 100);
    assert_string_equal(info.consumer, "");
    assert_true(info.rate > 0);
    assert_true(info.left_ms >= 0);
    assert_err(f, HARK_ETIMEDOUT, hark_replay_wait(f->bus, "r", 1, INFO, &f->ei));
    assert_err(f, HARK_EEXIST, hark_replay(f->bus, play, p, REPLAY(.id = "r"), NULL, &f->ei));
    latch_open(&p->at);
    (void)ended(f, "r", HARK_REPLAYED);
    assert_err(f, HARK_ECONFLICT, hark_replay(f->bus, play, p, REPLAY(.id = "r"), NULL, &f->ei));
    player_free(p);
}

static void test_it_keeps_to_its_rate(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    publish_many(f, "t", 60);
    int64_t began = hk_mono_ms();
    (void)started(f, p, REPLAY(.id = "r", .rate = 200));
    hark_replay_info info = ended(f, "r", HARK_REPLAYED);
    int64_t took = hk_mono_ms() - began;
    if (took < 59 * 5 - 25) /* a pause may be made up for */
        fail_msg("60 events at 200 a second took %lld ms", (long long)took);
    assert_true(info.rate > 0 && info.rate < 250);
    assert_consecutive(p->r, 1, 60);
    player_free(p);
}

static void test_live_consumers_go_on_beside_it(void **state)
{
    fixture *f = *state;
    player *p = player_new();
    recorder *r = recorder_new();
    hark_sub *sub;
    publish_many(f, "t", 100);
    (void)held_at(f, p, 50, REPLAY(.id = "r"));
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, HARK_OPTS(hark_sub_opts, .consumer = "c"),
                                &sub, &f->ei));
    publish_many(f, "t", 500);
    WAIT_UNTIL(stats_of(sub).acked == 500);
    assert_consecutive(r, 101, 500);
    latch_open(&p->at);
    (void)ended(f, "r", HARK_REPLAYED);
    end_sub(sub);
    recorder_free(r);
    player_free(p);
}

#define T(fn) TEST(fn)
static const struct CMUnitTest tests[] = {
    T(test_a_range_comes_in_order_once_with_the_replays_id),
    T(test_free_ud_comes_once_after_the_last_call),
    T(test_only_what_the_pattern_matches_comes),
    T(test_only_what_was_recorded_in_time_comes),
    T(test_what_is_published_later_is_not_part_of_it),
    T(test_an_empty_range_ends_at_once),
    T(test_a_dry_run_counts_and_touches_nothing),
    T(test_wrong_options_are_refused),
    T(test_a_retry_repeats_the_event_and_the_rest_waits),
    T(test_what_fails_eleven_times_breaks_it_and_it_is_gone_on_with_there),
    T(test_a_reject_is_counted_and_passed_over),
    T(test_a_delivery_cannot_be_kept),
    T(test_a_handler_may_publish),
    T(test_its_progress_can_be_watched),
    T(test_it_keeps_to_its_rate),
    T(test_live_consumers_go_on_beside_it),
};
CONFORMANCE_MAIN("replays")
