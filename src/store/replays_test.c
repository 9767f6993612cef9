/* Counting events, and the progress of replays into ad-hoc handlers, on every store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

/* ---- counting ---------------------------------------------------------------------------------- */

static uint64_t count(fixture *f, hark_store_query q)
{
    uint64_t n = 99;
    q.size = sizeof q;
    assert_ok(f, f->ops->count(f->store, &q, &n, &f->ei));
    return n;
}

#define assert_count(f, expected, ...)                                                             \
    assert_int_equal(expected, count(f, (hark_store_query){__VA_ARGS__}))

static void add_six(fixture *f)
{
    static const char *const types[] = {"order:placed", "order:paid",   "user:left",
                                        "order:placed", "order:placed", "user:left"};
    for (size_t i = 0; i < HK_COUNTOF(types); i++)
        (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = types[i], .source = "/test",
                                    .subject = i % 2 ? "odd" : "even"));
}

static void test_an_empty_log_counts_nothing(void **state)
{
    fixture *f = *state;
    assert_count(f, 0, .after = 0);
    assert_count(f, 0, .pattern = "**", .before = 7);
}

static void test_what_a_query_asks_for_is_counted(void **state)
{
    fixture *f = *state;
    add_six(f);
    assert_count(f, 6, .after = 0);
    assert_count(f, 3, .pattern = "order:placed");
    assert_count(f, 4, .pattern = "order:*");
    assert_count(f, 0, .pattern = "none");
    assert_count(f, 3, .subject = "odd");
    assert_count(f, 1, .subject = "even", .pattern = "user:*");
    assert_count(f, 0, .subject = "neither");
    assert_count(f, 4, .after = 2);
    assert_count(f, 2, .after = 2, .before = 5);
    assert_count(f, 1, .after = 2, .before = 5, .pattern = "order:placed");
    assert_count(f, 0, .after = 6);
    assert_count(f, 0, .after = 3, .before = 4);
    assert_count(f, 1, .after = 4, .subject = "odd");
}

static void test_a_count_keeps_to_times(void **state)
{
    fixture *f = *state;
    add_six(f);
    hark_event *e = event_at(f, 6);
    int64_t last = hark_event_recorded_ns(e);
    hark_event_unref(e);
    assert_count(f, 6, .from_ns = 1);
    assert_count(f, 6, .to_ns = last + 1);
    assert_count(f, 0, .from_ns = last + 1);
    assert_count(f, 0, .to_ns = 1);
    assert_true(count(f, (hark_store_query){.from_ns = last}) >= 1);
    assert_count(f, 3, .from_ns = 1, .to_ns = last + 1, .pattern = "order:placed");
    assert_count(f, 3, .from_ns = 1, .to_ns = last + 1, .subject = "odd");
}

static void test_a_count_ignores_limits_and_direction(void **state)
{
    fixture *f = *state;
    add_six(f);
    assert_count(f, 6, .limit = 2, .limit_bytes = 1);
    assert_count(f, 3, .pattern = "order:placed", .limit = 1, .descending = 1);
}

static void test_what_is_no_longer_kept_is_not_counted(void **state)
{
    fixture *f = *state;
    add_some(f, f->info.direct ? RETAINED + 10 : 20);
    assert_count(f, f->info.direct ? RETAINED : 20, .after = 0);
    assert_count(f, f->info.direct ? 0 : 5, .before = 6);
}

/* ---- replays ----------------------------------------------------------------------------------- */

static void put(fixture *f, const char *id, int64_t started_ns, int64_t status, const char *error)
{
    const hark_store_replay r = {.id = id,
                                 .pattern = "order:*",
                                 .first = 3,
                                 .last = 90,
                                 .from_ns = 4,
                                 .to_ns = 5,
                                 .rate = 6,
                                 .position = 7,
                                 .done = 8,
                                 .total = 9,
                                 .rejected = 10,
                                 .state = status,
                                 .started_ns = started_ns,
                                 .changed_ns = 12,
                                 .error = error};
    write_ok(f, f->ops->replay_put(f->store, &r, &f->ei));
}

static bool say_replay(void *ud, const hark_store_replay *r)
{
    assert_string_equal(r->pattern, "order:*");
    assert_int_equal(r->first, 3);
    assert_int_equal(r->last, 90);
    assert_int_equal(r->from_ns, 4);
    assert_int_equal(r->to_ns, 5);
    assert_int_equal(r->rate, 6);
    assert_int_equal(r->position, 7);
    assert_int_equal(r->done, 8);
    assert_int_equal(r->total, 9);
    assert_int_equal(r->rejected, 10);
    assert_int_equal(r->changed_ns, 12);
    say(ud, "%s %lld %lld %s", r->id, (long long)r->started_ns, (long long)r->state,
        r->error ? r->error : "-");
    return entry_ends(ud);
}

static const char *replays_text(fixture *f, text *t)
{
    assert_ok(f, f->ops->replays(f->store, say_replay, t, &f->ei));
    return text_end(t);
}

static void test_replays_are_listed_in_order_of_their_beginning(void **state)
{
    fixture *f = *state;
    text none = {.n = 0}, all = {.n = 0}, two = {.most = 2};
    assert_string_equal("", replays_text(f, &none));
    put(f, "late", 30, 1, NULL);
    put(f, "early", 10, 4, "the handler failed");
    put(f, "middle", 20, 2, NULL);
    restart(f);
    assert_string_equal("early 10 4 the handler failed; middle 20 2 -; late 30 1 -",
                        replays_text(f, &all));
    assert_string_equal("early 10 4 the handler failed; middle 20 2 -", replays_text(f, &two));
}

static void test_progress_replaces_what_was_known_of_a_replay(void **state)
{
    fixture *f = *state;
    text t = {.n = 0};
    put(f, "a", 10, 1, "broken");
    put(f, "b", 11, 1, NULL);
    put(f, "a", 10, 2, NULL);
    restart(f);
    assert_string_equal("a 10 2 -; b 11 1 -", replays_text(f, &t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_an_empty_log_counts_nothing),
        EACH(test_what_a_query_asks_for_is_counted),
        EACH(test_a_count_keeps_to_times),
        EACH(test_a_count_ignores_limits_and_direction),
        EACH(test_what_is_no_longer_kept_is_not_counted),
        EACH(test_replays_are_listed_in_order_of_their_beginning),
        EACH(test_progress_replaces_what_was_known_of_a_replay),
    };
    return RUN_CONTRACT(tests);
}
