/* tailer_test.c: what other processes append to a shared log comes here in order, beside what this one publishes. The store is
 * told what to answer. */
#include "bus/party_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))
#define MS     INT64_C(1000000)

enum { LOG = 64, UNITS = 8 };

struct hark_store {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    hark_event *log[LOG]; /* by sequence; NULL = it is not there */
    uint64_t last, gap, epoch;
    uint64_t lost_from, lost_to; /* told once */
    bool woken;
    size_t others; /* they append so many before the next commit */
    hark_err read_err, commit_err, verdict;
    bool repeats; /* what is appended is a duplicate of the last event */
    uint64_t reads;
    hark_store_append *units[UNITS];
    size_t n[UNITS], n_units;
};

typedef struct world {
    struct hark_store store;
    hark_bus bus;
    int races; /* a job's: it is the last of so many runs that is not overtaken */
} world;

/* ---- the store ---- */

static hark_event *event_new(void)
{
    const hark_event_spec spec = {.size = sizeof spec, .type = "other", .json = "1"};
    hark_event *e = NULL;
    assert_int_equal(hk_event_make(&spec, "/other", hk_wall_ns(), 1, 0, 0, &e, NULL), HARK_OK);
    return e;
}

/* Under the lock. NULL: no event has this sequence. */
static void put(struct hark_store *st, hark_event *e)
{
    assert_true(st->last + 1 < LOG);
    st->log[++st->last] = e;
    if (e)
        hark_event_stamp(e, st->last, 1000 + (int64_t)st->last);
    pthread_cond_broadcast(&st->changed);
}

static hark_err begin(hark_store *st, hark_errinfo *ei UNUSED)
{
    st->n_units = 0;
    return HARK_OK;
}

static hark_err append(hark_store *st, hark_store_append *items, size_t n, hark_errinfo *ei UNUSED)
{
    assert_non_null(items[0].late);
    assert_true(st->n_units < UNITS);
    st->units[st->n_units] = items;
    st->n[st->n_units++] = n;
    return HARK_OK;
}

static void commit_unit(struct hark_store *st, hark_store_append *items, size_t n)
{
    if (st->verdict) {
        *items[0].late = st->verdict;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        items[i].ret_duplicate = st->repeats;
        items[i].ret_sequence = st->last;
        if (st->repeats)
            continue;
        put(st, hark_event_ref(items[i].event));
        items[i].ret_sequence = st->last;
    }
}

static hark_err commit(hark_store *st, hark_errinfo *ei)
{
    pthread_mutex_lock(&st->lock);
    for (; st->others; st->others--)
        put(st, event_new());
    hark_err err = st->commit_err;
    for (size_t i = 0; !err && i < st->n_units; i++)
        commit_unit(st, st->units[i], st->n[i]);
    pthread_mutex_unlock(&st->lock);
    return err ? hk_fail(ei, err, "told to fail") : err;
}

static void rollback(hark_store *st UNUSED) {}

static hark_err read_log(hark_store *st, const hark_store_query *q, hark_store_page *ret,
                         hark_errinfo *ei)
{
    pthread_mutex_lock(&st->lock);
    hark_err err = st->read_err;
    uint64_t to = q->before && q->before <= st->last ? q->before - 1 : st->last;
    uint64_t seq = q->after;
    st->reads++;
    ret->n = 0;
    if (seq < st->gap)
        seq = (ret->gap = st->gap) < to ? st->gap : to;
    while (!err && seq < to && ret->n < q->limit)
        if (st->log[++seq] &&
            (!q->pattern || hark_pattern_match(q->pattern, hark_event_type(st->log[seq]))))
            ret->events[ret->n++] = hark_event_ref(st->log[seq]);
    ret->covered = seq;
    ret->end = seq >= to;
    pthread_cond_broadcast(&st->changed);
    pthread_mutex_unlock(&st->lock);
    return err ? hk_fail(ei, err, "told to fail") : err;
}

static hark_err tail(hark_store *st, uint64_t after, int64_t timeout_ns, hark_store_tail *ret,
                     hark_errinfo *ei UNUSED)
{
    int64_t end = hk_mono_ns() + timeout_ns;
    pthread_mutex_lock(&st->lock);
    while (st->last <= after && !st->woken && !st->lost_to && hk_mono_ns() < end)
        (void)hk_cond_wait(&st->changed, &st->lock, end - hk_mono_ns());
    st->woken = false;
    *ret = (hark_store_tail){.size = sizeof *ret,
                             .last = st->last,
                             .epoch = st->epoch,
                             .lost_from = st->lost_from,
                             .lost_to = st->lost_to};
    st->lost_from = st->lost_to = 0;
    pthread_mutex_unlock(&st->lock);
    return HARK_OK;
}

static void tail_wake(hark_store *st)
{
    pthread_mutex_lock(&st->lock);
    st->woken = true;
    pthread_cond_broadcast(&st->changed);
    pthread_mutex_unlock(&st->lock);
}

static hark_err schedules_due(hark_store *st UNUSED, int64_t ahead_ns UNUSED, size_t most UNUSED,
                              hark_store_schedule_fn fn UNUSED, void *ud UNUSED,
                              int64_t *ret_next_ns, hark_errinfo *ei UNUSED)
{
    *ret_next_ns = -1;
    return HARK_OK;
}

static void info(hark_store *st, hark_store_info *ret)
{
    *ret = (hark_store_info){.size = sizeof *ret, .shared = 1, .epoch = st->epoch};
}

static const hark_store_ops ops = {.size = sizeof ops,
                                   .scheme = "told",
                                   .info = info,
                                   .begin = begin,
                                   .append = append,
                                   .commit = commit,
                                   .rollback = rollback,
                                   .read = read_log,
                                   .tail = tail,
                                   .tail_wake = tail_wake,
                                   .schedules_due = schedules_due};

/* ---- the bus ---- */

static void make_locks(hark_bus *bus)
{
    pthread_rwlock_init(&bus->store_lock, NULL);
    pthread_mutex_init(&bus->lock, NULL);
    pthread_mutex_init(&bus->admin, NULL);
    pthread_mutex_init(&bus->writer.role, NULL);
    pthread_mutex_init(&bus->writer.sched_lock, NULL);
    hk_cond_init(&bus->changed);
    hk_gate_init(&bus->room);
    hk_gate_init(&bus->writer.room);
    hk_inbox_init(&bus->writer.inbox);
}

static int world_new(void **state)
{
    world *w = hk_zalloc_lines(sizeof *w);
    assert_non_null(w);
    pthread_mutex_init(&w->store.lock, NULL);
    hk_cond_init(&w->store.changed);
    w->store.epoch = 1;
    hark_bus *bus = &w->bus;
    make_locks(bus);
    hk_ref_init(&bus->users, 1);
    hk_ref_init(&bus->holds, 1);
    bus->ops = &ops;
    bus->store = &w->store;
    bus->store_open = true;
    bus->info.shared = 1;
    bus->source = hk_strdup("/here");
    bus->opts.source = bus->source;
    bus->opts.group_events = bus->opts.queue_events = 100;
    bus->opts.queue_bytes = bus->opts.max_event_bytes = 1000000;
    assert_int_equal(hk_tail_init(&bus->tail, 64, 1000000), HARK_OK);
    *state = w;
    return 0;
}

static int world_free(void **state)
{
    world *w = *state;
    hk_writer_stop(&w->bus);
    hk_tailer_stop(&w->bus);
    hk_dispatch_free(&w->bus.dispatch);
    hk_figures_free(&w->bus);
    hk_tail_free(&w->bus.tail);
    for (size_t i = 0; i < LOG; i++)
        hark_event_unref(w->store.log[i]);
    free(w->bus.writer.fresh);
    free(w->bus.source);
    free(w);
    return 0;
}

static void start(world *w)
{
    hark_errinfo ei = {0};
    if (hk_tailer_start(&w->bus, &ei))
        fail_msg("%s", ei.text);
    assert_int_equal(hk_writer_start(&w->bus), HARK_OK); /* publishers may find the tailer at it */
}

static hark_sub *subscribe(world *w)
{
    hark_sub *s = NULL;
    hark_errinfo ei = {0};
    if (hark_subscribe(&w->bus, "*", NULL, NULL, HARK_OPTS(hark_sub_opts, .flags = HARK_SUB_GAPS),
                       &s, &ei))
        fail_msg("%s", ei.text);
    return s;
}

static void unsubscribe(hark_sub *s)
{
    hark_sub_close(s);
    assert_int_equal(hark_sub_join(s, 20000), HARK_OK);
    hark_sub_unref(s);
}

static hark_err publish(world *w, hark_receipt *ret)
{
    return hark_publish(&w->bus, HARK_OPTS(hark_event_spec, .type = "own", .json = "1"), ret);
}

static void others_append(world *w, size_t n)
{
    pthread_mutex_lock(&w->store.lock);
    while (n--)
        put(&w->store, event_new());
    pthread_mutex_unlock(&w->store.lock);
}

static void expect(hark_sub *s, uint64_t seq, const char *type)
{
    hark_delivery *d = NULL;
    assert_int_equal(hark_next(s, 20000, &d), HARK_OK);
    assert_int_equal(hark_delivery_sequence(d), seq);
    assert_false(hark_delivery_gap(d, &seq, &seq));
    assert_string_equal(hark_event_type(hark_delivery_event(d)), type);
    assert_int_equal(hark_settle(&d, NULL), HARK_OK);
}

static void expect_gap(hark_sub *s, uint64_t from, uint64_t to)
{
    hark_delivery *d = NULL;
    uint64_t got_from = 0, got_to = 0;
    assert_int_equal(hark_next(s, 20000, &d), HARK_OK);
    assert_true(hark_delivery_gap(d, &got_from, &got_to));
    assert_int_equal(got_from, from);
    assert_int_equal(got_to, to);
    assert_int_equal(hark_delivery_gap_cause(d), HARK_GAP_LOG);
    assert_int_equal(hark_settle(&d, NULL), HARK_OK);
}

static void expect_nothing(hark_sub *s)
{
    hark_delivery *d;
    assert_int_equal(hark_next(s, 0, &d), HARK_ETIMEDOUT);
}

static void set(world *w, hark_err *which, hark_err to)
{
    pthread_mutex_lock(&w->store.lock);
    *which = to;
    pthread_mutex_unlock(&w->store.lock);
}

/* ---- tests ---- */

static void test_what_others_append_comes_in_order(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    others_append(w, 3);
    start(w);
    for (uint64_t seq = 1; seq <= 3; seq++)
        expect(s, seq, "other");
    others_append(w, 1);
    expect(s, 4, "other");
    unsubscribe(s);
}

static void
test_ones_own_event_comes_after_those_before_it_and_is_seen_with_its_receipt(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    hark_receipt got;
    w->store.others = 2;
    assert_int_equal(publish(w, &got), HARK_OK);
    assert_int_equal(got.sequence, 3);
    assert_int_equal(hk_bus_visible(&w->bus), 3);
    expect(s, 1, "other");
    expect(s, 2, "other");
    expect(s, 3, "own");
    expect_nothing(s);
    unsubscribe(s);
}

static void test_ones_own_events_alone_need_no_reading(void **state)
{
    world *w = *state;
    hark_receipt got;
    for (int i = 0; i < 3; i++)
        assert_int_equal(publish(w, &got), HARK_OK);
    assert_int_equal(got.sequence, 3);
    assert_int_equal(w->store.reads, 0);
}

static void test_what_could_not_be_shown_at_the_commit_comes_later_and_once(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    hark_receipt got;
    w->store.others = 1;
    w->store.read_err = HARK_ESTORE;
    assert_int_equal(publish(w, &got), HARK_OK);
    assert_int_equal(got.sequence, 2);
    assert_int_equal(publish(w, &got), HARK_OK);
    assert_int_equal(hk_bus_visible(&w->bus), 0);
    expect_nothing(s);
    start(w);
    set(w, &w->store.read_err, HARK_OK);
    expect(s, 1, "other");
    expect(s, 2, "own");
    expect(s, 3, "own");
    assert_int_equal(publish(w, &got), HARK_OK);
    expect(s, 4, "own");
    expect_nothing(s);
    unsubscribe(s);
}

static void test_publishers_and_the_tailer_together_show_everything_once(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    hark_receipt got;
    start(w);
    for (uint64_t i = 0; i < 15; i++) {
        pthread_mutex_lock(&w->store.lock);
        w->store.others = i % 3;
        pthread_mutex_unlock(&w->store.lock);
        assert_int_equal(publish(w, &got), HARK_OK);
        assert_true(hk_bus_visible(&w->bus) >= got.sequence);
        others_append(w, i % 2);
    }
    for (uint64_t seq = 1; seq <= w->store.last; seq++)
        expect(s, seq, hark_event_type(w->store.log[seq]));
    expect_nothing(s);
    unsubscribe(s);
}

static void test_sequences_that_are_missing_are_passed_over(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    hark_page *page;
    others_append(w, 1);
    put(&w->store, NULL);
    others_append(w, 1);
    put(&w->store, NULL);
    assert_int_equal(hk_tailer_catch_up(&w->bus, 4, NULL), HARK_OK);
    assert_int_equal(hk_bus_visible(&w->bus), 4);
    expect(s, 1, "other");
    expect(s, 3, "other");
    assert_int_equal(hark_read(&w->bus, NULL, &page, NULL), HARK_OK);
    assert_int_equal(hark_page_count(page), 2);
    hark_page_free(page);
    unsubscribe(s);
}

static void test_what_retention_took_first_is_a_gap_for_live_subscriptions(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    hark_receipt got;
    others_append(w, 6);
    w->store.gap = 5;
    assert_int_equal(publish(w, &got), HARK_OK);
    expect_gap(s, 1, 5);
    expect(s, 6, "other");
    expect(s, 7, "own");
    assert_int_equal(publish(w, &got), HARK_OK);
    expect(s, 8, "own");
    w->store.others = 2;
    w->store.gap = 11; /* what was just committed here is gone, too */
    assert_int_equal(publish(w, &got), HARK_OK);
    expect_gap(s, 9, 11);
    assert_int_equal(publish(w, &got), HARK_OK);
    expect(s, 12, "own");
    unsubscribe(s);
}

static void test_history_that_a_server_lost_is_a_gap_and_the_log_goes_on_above(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    others_append(w, 2);
    start(w);
    expect(s, 1, "other");
    pthread_mutex_lock(&w->store.lock);
    w->store.last = 10;
    w->store.lost_from = 3;
    w->store.lost_to = 10;
    w->store.epoch = 2;
    pthread_cond_broadcast(&w->store.changed);
    pthread_mutex_unlock(&w->store.lock);
    expect(s, 2, "other");
    expect_gap(s, 3, 10);
    others_append(w, 1);
    expect(s, 11, "other");
    assert_int_equal(hk_mark_get(&w->bus.epoch), 2);
    unsubscribe(s);
}

static void test_a_subscription_that_has_seen_what_was_lost_is_told_of_no_gap(void **state)
{
    world *w = *state;
    hark_sub *s = subscribe(w);
    others_append(w, 3);
    start(w);
    for (uint64_t seq = 1; seq <= 3; seq++)
        expect(s, seq, "other");
    pthread_mutex_lock(&w->store.lock);
    w->store.lost_from = 2;
    w->store.lost_to = 3;
    pthread_cond_broadcast(&w->store.changed);
    pthread_mutex_unlock(&w->store.lock);
    others_append(w, 1);
    expect(s, 4, "other");
    unsubscribe(s);
}

static void test_a_refusal_that_comes_with_the_commit_reaches_its_publisher(void **state)
{
    world *w = *state;
    hark_receipt got = {.sequence = 77};
    w->store.verdict = HARK_ECONFLICT;
    assert_int_equal(publish(w, &got), HARK_ECONFLICT);
    assert_int_equal(got.sequence, 77);
    assert_int_equal(hk_bus_visible(&w->bus), 0);
    w->store.verdict = HARK_OK;
    assert_int_equal(publish(w, &got), HARK_OK);
    assert_int_equal(got.sequence, 1);
}

static void test_after_a_commit_whose_outcome_is_unknown_publishing_goes_on(void **state)
{
    world *w = *state;
    hark_receipt got;
    w->store.commit_err = HARK_EUNKNOWN;
    assert_int_equal(publish(w, &got), HARK_EUNKNOWN);
    w->store.commit_err = HARK_OK;
    assert_int_equal(publish(w, &got), HARK_OK);
}

static hark_err loses_a_race(hark_bus *bus UNUSED, void *ud, hark_errinfo *ei UNUSED)
{
    world *w = ud;
    set(w, &w->store.commit_err, --w->races > 0 ? HARK_EAGAIN : HARK_OK);
    return HARK_OK;
}

/* Publishers in its group do not hear of it. */
static void test_a_job_that_others_overtake_is_repeated(void **state)
{
    world *w = *state;
    const hark_event_spec spec = {.size = sizeof spec, .type = "own", .json = "1"};
    w->races = 4;
    assert_int_equal(hark_publish_async(&w->bus, &spec, NULL, NULL), HARK_OK);
    assert_int_equal(hk_writer_start(&w->bus), HARK_OK);
    assert_int_equal(hk_writer_insist(&w->bus, loses_a_race, w, NULL), HARK_OK);
    assert_int_equal(w->races, 0);
    assert_int_equal(w->store.last, 1);
    assert_int_equal(hk_count_get(&w->bus.writer.queued_events), 0);
}

static void test_what_a_duplicate_repeats_is_seen_with_its_receipt(void **state)
{
    world *w = *state;
    hark_receipt got;
    w->store.others = 2;
    w->store.repeats = true;
    assert_int_equal(publish(w, &got), HARK_OK);
    assert_true(got.duplicate);
    assert_int_equal(got.sequence, 2);
    assert_int_equal(hk_bus_visible(&w->bus), 2);
}

static void test_reading_finds_what_is_not_shown_here_yet(void **state)
{
    world *w = *state;
    hark_page *page;
    hark_event *e = NULL;
    others_append(w, 2);
    assert_int_equal(hark_read(&w->bus, NULL, &page, NULL), HARK_OK);
    assert_int_equal(hark_page_count(page), 2);
    hark_page_free(page);
    assert_int_equal(hk_bus_read_one(&w->bus, 2, &e, NULL), HARK_OK);
    assert_non_null(e);
    hark_event_unref(e);
}

/* How often the log says so. */
static size_t count_in(FILE *log, const char *text)
{
    char line[1024];
    size_t n = 0;
    rewind(log);
    while (fgets(line, sizeof line, log))
        n += strstr(line, text) != NULL;
    return n;
}

static void test_that_commits_fail_is_told_once_and_that_they_go_well_again(void **state)
{
    enum { FAILS = 5 };
    world *w = *state;
    FILE *log = tmpfile();
    int before = dup(STDERR_FILENO);
    assert_true(log && before >= 0);
    start(w);
    set(w, &w->store.commit_err, HARK_ESTORE);
    assert_true(dup2(fileno(log), STDERR_FILENO) >= 0);
    for (int i = 0; i < FAILS; i++)
        assert_int_equal(publish(w, NULL), HARK_ESTORE);
    set(w, &w->store.commit_err, HARK_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(publish(w, NULL), HARK_OK);
    assert_true(dup2(before, STDERR_FILENO) >= 0);
    assert_int_equal(close(before), 0);
    assert_int_equal(count_in(log, "was not committed"), 1);
    assert_int_equal(count_in(log, "committed again"), 1);
    assert_int_equal(count_in(log, " 5 publishes and transactions were refused"), 1);
    assert_int_equal(fclose(log), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, world_new, world_free)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_what_others_append_comes_in_order),
        TEST(test_ones_own_event_comes_after_those_before_it_and_is_seen_with_its_receipt),
        TEST(test_ones_own_events_alone_need_no_reading),
        TEST(test_what_could_not_be_shown_at_the_commit_comes_later_and_once),
        TEST(test_publishers_and_the_tailer_together_show_everything_once),
        TEST(test_sequences_that_are_missing_are_passed_over),
        TEST(test_what_retention_took_first_is_a_gap_for_live_subscriptions),
        TEST(test_history_that_a_server_lost_is_a_gap_and_the_log_goes_on_above),
        TEST(test_a_subscription_that_has_seen_what_was_lost_is_told_of_no_gap),
        TEST(test_a_refusal_that_comes_with_the_commit_reaches_its_publisher),
        TEST(test_after_a_commit_whose_outcome_is_unknown_publishing_goes_on),
        TEST(test_a_job_that_others_overtake_is_repeated),
        TEST(test_what_a_duplicate_repeats_is_seen_with_its_receipt),
        TEST(test_reading_finds_what_is_not_shown_here_yet),
        TEST(test_that_commits_fail_is_told_once_and_that_they_go_well_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
