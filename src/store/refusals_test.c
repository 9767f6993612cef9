/* What a store refuses within a group leaves nothing of itself, and the group goes on with what is not refused: the
 * ledger's calls, each between two others of the same group that stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

enum { GONE = 4711 };

/* In one group: an event is appended, the call is refused, another event is appended; both are there. */
#define refused_within(f, expected, call)                                                          \
    do {                                                                                           \
        begin(f);                                                                                  \
        append_one(f);                                                                             \
        assert_err(f, expected, call);                                                             \
        append_one(f);                                                                             \
        commit(f);                                                                                 \
        restart(f);                                                                                \
        assert_int_equal(2, newest(f));                                                            \
    } while (0)

static void append_one(fixture *f)
{
    hark_store_append a = {
        .event = event_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/test", .json = "1"))};
    hk_event_digest(a.event, f->info.log_id, a.digest);
    if (f->info.direct)
        hk_event_ref_n(a.event, 2);
    assert_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    (void)hark_event_unref(a.event);
}

static uint64_t newest(fixture *f)
{
    hark_store_info info = {.size = sizeof info};
    f->ops->info(f->store, &info);
    return info.last_sequence;
}

static void test_a_save_of_nobody_leaves_nothing(void **state)
{
    fixture *f = *state;
    hark_event *e = event_of(HARK_OPTS(hark_event_spec, .type = "t", .source = "/test"));
    hark_event_stamp(e, 1, 5);
    hark_store_save v = save_of(f, "c");
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_RETRY};
    hark_store_attempt attempt = {.sequence = 1, .number = 1, .outcome = "retry"};
    hark_store_dead dead = {.event = e, .reason = "rejected"};
    uint64_t two = 2;
    put_row(f, "c", (hark_store_row){.sequence = 2, .state = HARK_ROW_RETRY});
    v.generation++;
    v.floor = v.highest = 7;
    v.put = &row;
    v.attempts = &attempt;
    v.dead = &dead;
    v.drop = &two;
    v.n_put = v.n_attempts = v.n_dead = v.n_drop = 1;
    refused_within(f, HARK_ENOTFOUND, f->ops->consumer_save(f->store, &v, &f->ei));
    v.n_dead = 0;
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_save(f->store, &v, &f->ei));
    assert_rows(f, "2 retry", "c");
    assert_attempts(f, "", "c", 1);
    assert_letters(f, "");
    hark_event_unref(e);
}

static void test_a_reset_or_pause_of_nobody_is_refused(void **state)
{
    fixture *f = *state;
    hark_store_reset r = {.size = sizeof r, .consumer = GONE, .start = FIRST};
    refused_within(f, HARK_ENOTFOUND, f->ops->consumer_reset(f->store, &r, &f->ei));
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_pause(f->store, GONE, true, &f->ei));
}

static void test_a_reset_to_no_place_is_refused(void **state)
{
    fixture *f = *state;
    hark_store_save v = save_of(f, "c");
    hark_store_reset r = {
        .size = sizeof r, .consumer = v.consumer, .start = SEQUENCE, .start_sequence = UINT64_MAX};
    put_row(f, "c", (hark_store_row){.sequence = 2, .state = HARK_ROW_RETRY});
    refused_within(f, HARK_EINVAL, f->ops->consumer_reset(f->store, &r, &f->ei));
    assert_rows(f, "2 retry", "c");
    assert_int_equal(save_of(f, "c").generation, v.generation);
}

static void test_a_consumer_of_other_terms_is_refused(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    (void)save_of(f, "c");
    c.pattern = "u";
    refused_within(f, HARK_ECONFLICT, f->ops->consumer_open(f->store, &c, &f->ei));
    assert_null(c.ret_pattern);
}

static void test_a_letter_that_is_not_there_is_refused(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    refused_within(f, HARK_ENOTFOUND, f->ops->letter_redrive(f->store, GONE, 1, &done, &f->ei));
    write_err(f, HARK_ENOTFOUND, f->ops->letter_discard(f->store, GONE, &done, &f->ei));
}

static hark_store_schedule schedule_of(fixture *f, hark_event *e)
{
    hark_store_schedule s = {.event = e, .due_ns = 5, .created_ns = 1};
    hk_event_digest(e, f->info.log_id, s.digest);
    return s;
}

static void test_a_schedule_that_conflicts_is_refused(void **state)
{
    fixture *f = *state;
    uint64_t seq = 0;
    bool duplicate = false;
    hark_event *e = event_of(
        HARK_OPTS(hark_event_spec, .type = "t", .id = "x", .source = "/test", .json = "1"));
    hark_event *other = event_of(
        HARK_OPTS(hark_event_spec, .type = "t", .id = "x", .source = "/test", .json = "2"));
    hark_store_schedule one = schedule_of(f, e), two = schedule_of(f, other);
    write_ok(f, f->ops->schedule_add(f->store, &one, &seq, &duplicate, &f->ei));
    refused_within(f, HARK_ECONFLICT,
                   f->ops->schedule_add(f->store, &two, &seq, &duplicate, &f->ei));
    write_err(f, HARK_ENOTFOUND, f->ops->schedule_drop(f->store, GONE, &f->ei));
    write_ok(f, f->ops->schedule_drop(f->store, one.id, &f->ei));
    hark_event_unref(e);
    hark_event_unref(other);
}

/* What is appended in the same group is seen. */
static void test_a_schedule_repeats_an_event_of_its_own_group(void **state)
{
    fixture *f = *state;
    uint64_t seq = 0;
    bool duplicate = false;
    hark_event *e = event_of(
        HARK_OPTS(hark_event_spec, .type = "t", .id = "x", .source = "/test", .json = "1"));
    hark_event *again = event_of(
        HARK_OPTS(hark_event_spec, .type = "t", .id = "x", .source = "/test", .json = "1"));
    hark_store_schedule s = schedule_of(f, again);
    hark_store_append a = {.event = e};
    memcpy(a.digest, s.digest, sizeof a.digest);
    if (f->info.direct)
        hk_event_ref_n(e, 2);
    begin(f);
    append_one(f);
    assert_ok(f, f->ops->append(f->store, &a, 1, &f->ei));
    assert_ok(f, f->ops->schedule_add(f->store, &s, &seq, &duplicate, &f->ei));
    commit(f);
    assert_true(duplicate);
    assert_int_equal(seq, 2);
    hark_event_unref(e);
    hark_event_unref(again);
}

/* And a consumer that is registered in the group of the first event begins with it. */
static void test_a_consumer_begins_with_an_event_of_its_own_group(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c"), now = consumer("now");
    now.start = NOW;
    begin(f);
    append_one(f);
    append_one(f);
    assert_ok(f, f->ops->consumer_open(f->store, &c, &f->ei));
    assert_ok(f, f->ops->consumer_open(f->store, &now, &f->ei));
    commit(f);
    assert_int_equal(c.ret_floor, 0);
    assert_int_equal(now.ret_floor, 2);
    hark_store_consumer_clear(&c);
    hark_store_consumer_clear(&now);
}

static void test_a_row_put_twice_is_as_it_was_put_last(void **state)
{
    fixture *f = *state;
    hark_store_save v = save_of(f, "c");
    hark_store_row rows[] = {{.sequence = 1, .state = HARK_ROW_RETRY},
                             {.sequence = 2, .state = HARK_ROW_RETRY},
                             {.sequence = 1, .state = HARK_ROW_PARKED, .key = "k"}};
    v.put = rows;
    v.n_put = 3;
    save(f, &v);
    assert_rows(f, "1 parked; 2 retry", "c");
}

/* Ids go up in the order in which the letters were given, however large they are. */
static void test_letters_of_one_save_have_ids_in_order(void **state)
{
    fixture *f = *state;
    enum { N = 20 };
    hark_event *events[N];
    hark_store_dead dead[N];
    hark_store_save v = save_of(f, "c");
    for (size_t i = 0; i < N; i++) {
        char id[24];
        (void)snprintf(id, sizeof id, "%zu", i);
        events[i] = event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = id, .source = "/test"));
        hark_event_stamp(events[i], N - i, 5);
        dead[i] = (hark_store_dead){.event = events[i], .reason = "rejected"};
    }
    v.dead = dead;
    v.n_dead = N;
    save(f, &v);
    for (size_t i = 1; i < N; i++)
        assert_true(dead[i].ret_id > dead[i - 1].ret_id);
    assert_letters_of(f, "20 of c; 19 of c; 18 of c", .limit = 3);
    for (size_t i = 0; i < N; i++)
        hark_event_unref(events[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_a_save_of_nobody_leaves_nothing),
        EACH(test_a_reset_or_pause_of_nobody_is_refused),
        EACH(test_a_reset_to_no_place_is_refused),
        EACH(test_a_consumer_of_other_terms_is_refused),
        EACH(test_a_letter_that_is_not_there_is_refused),
        EACH(test_a_schedule_that_conflicts_is_refused),
        EACH(test_a_schedule_repeats_an_event_of_its_own_group),
        EACH(test_a_consumer_begins_with_an_event_of_its_own_group),
        EACH(test_a_row_put_twice_is_as_it_was_put_last),
        EACH(test_letters_of_one_save_have_ids_in_order),
    };
    return RUN_CONTRACT(tests);
}
