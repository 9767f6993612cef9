/* Dead letters, on every store: they are kept whole, listed, and gone when nothing is owed. What is
 * redriven and discarded is in redrive_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

/* ---- one letter -------------------------------------------------------------------------------- */

typedef struct whole {
    hark_event *event;
    uint64_t id, consumer;
} whole;

static bool check_whole(void *ud, const hark_store_letter *l)
{
    const whole *w = ud;
    const hark_event *e = w->event;
    size_t len = 0;
    hark_ext ext;
    assert_int_equal(l->id, w->id);
    assert_int_equal(l->consumer_id, w->consumer);
    assert_int_equal(l->sequence, 1);
    assert_int_equal(l->generation, 1);
    assert_string_equal(l->consumer, "c");
    assert_string_equal(l->reason, "crash");
    assert_string_equal(l->error, "signal 11");
    assert_int_equal(l->attempts, 4);
    assert_int_equal(l->crashes, 3);
    assert_int_equal(l->interruptions, 2);
    assert_int_equal(l->first_ns, 70);
    assert_int_equal(l->dead_ns, 80);
    assert_int_equal(l->state, HARK_LETTER_DEAD);
    assert_int_equal(hark_event_sequence(l->event), 1);
    assert_int_equal(hark_event_recorded_ns(l->event), hark_event_recorded_ns(e));
    assert_int_equal(hark_event_time_ns(l->event), hark_event_time_ns(e));
    assert_string_equal(hark_event_type(l->event), "t");
    assert_string_equal(hark_event_id(l->event), "one");
    assert_string_equal(hark_event_source(l->event), "/shop");
    assert_string_equal(hark_event_subject(l->event), "s");
    assert_string_equal(hark_event_partitionkey(l->event), "k");
    assert_int_equal(hark_event_dataversion(l->event), 3);
    assert_memory_equal(hark_event_data(l->event, &len), "a\0b", 3);
    assert_int_equal(len, 3);
    assert_true(hark_event_extension(l->event, 0, &ext));
    assert_string_equal(ext.name, "region");
    assert_string_equal(ext.value, "north");
    return true;
}

static hark_event *unusual_event(fixture *f)
{
    static const hark_ext ext = {.name = "region", .value = "north"};
    uint64_t seq = add_spec(
        f, HARK_OPTS(hark_event_spec, .type = "t", .id = "one", .source = "/shop", .subject = "s",
                     .key = "k", .dataversion = 3, .time = "2026-01-31T12:00:00.120+01:00",
                     .data = "a\0b", .data_len = 3, .extensions = &ext, .n_extensions = 1));
    return event_at(f, seq);
}

/* Of an event with everything, a letter with everything. */
static whole bury_whole(fixture *f)
{
    hark_store_save v = save_of(f, "c");
    whole w = {.event = unusual_event(f), .consumer = v.consumer};
    hark_store_dead d = {.event = w.event,
                         .reason = "crash",
                         .error = "signal 11",
                         .attempts = 4,
                         .crashes = 3,
                         .interruptions = 2,
                         .first_ns = 70,
                         .dead_ns = 80};
    v.dead = &d;
    v.n_dead = 1;
    save(f, &v);
    w.id = d.ret_id;
    return w;
}

static void test_a_dead_letter_keeps_all_that_is_known(void **state)
{
    fixture *f = *state;
    whole w = bury_whole(f);
    restart(f);
    const hark_store_letters_query q = {.size = sizeof q, .id = w.id};
    assert_ok(f, f->ops->letters(f->store, &q, check_whole, &w, &f->ei));
    assert_letters_of(f, "1 of c", .id = w.id);
    hark_event_unref(w.event);
}

static bool check_bare(void *ud, const hark_store_letter *l)
{
    size_t len = 1;
    ++*(int *)ud;
    assert_null(l->error);
    assert_null(hark_event_key(l->event));
    assert_null(hark_event_data(l->event, &len));
    assert_int_equal(len, 0);
    return true;
}

static void test_what_is_not_known_stays_unknown(void **state)
{
    fixture *f = *state;
    int n = 0;
    uint64_t seq =
        add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .id = "1", .source = "/test"));
    hark_event *e = event_at(f, seq);
    hark_store_dead d = {.event = e, .reason = "interrupted"};
    hark_store_save v = save_of(f, "c");
    v.dead = &d;
    v.n_dead = 1;
    save(f, &v);
    hark_event_unref(e);
    const hark_store_letters_query q = {.size = sizeof q};
    assert_ok(f, f->ops->letters(f->store, &q, check_bare, &n, &f->ei));
    assert_int_equal(n, 1);
}

static void test_a_letter_outlives_what_the_log_keeps(void **state)
{
    fixture *f = *state;
    const hark_store_letters_query q = {.size = sizeof q};
    whole w = bury_whole(f);
    add_some(f, f->info.direct ? RETAINED + 1 : 1);
    assert_ok(f, f->ops->letters(f->store, &q, check_whole, &w, &f->ei));
    hark_event_unref(w.event);
}

/* ---- lists ------------------------------------------------------------------------------------- */

/* Letters 1 to 4 at sequences 1, 2, 2, 3. */
static void bury_four(fixture *f, uint64_t ids[4])
{
    (void)add(f, "order:placed", NULL, NULL);
    (void)add(f, "order:paid", NULL, NULL);
    (void)add(f, "user:left", NULL, NULL);
    ids[0] = bury(f, "a", 1, false);
    ids[1] = bury(f, "a", 2, false);
    ids[2] = bury(f, "b", 2, false);
    ids[3] = bury(f, "b", 3, true);
    for (size_t i = 1; i < 4; i++)
        assert_true(ids[i] > ids[i - 1]);
}

static void test_letters_are_listed_in_order_of_their_ids(void **state)
{
    fixture *f = *state;
    uint64_t ids[4];
    assert_letters(f, "");
    bury_four(f, ids);
    restart(f);
    assert_letters(f, "1 of a; 2 of a; 2 of b; 3 of b");
    assert_letters_of(f, "1 of a; 2 of a", .limit = 2);
    assert_letters_of(f, "2 of b; 3 of b", .after_id = ids[1]);
    assert_letters_of(f, "2 of b", .after_id = ids[1], .limit = 1);
    assert_letters_of(f, "2 of b", .id = ids[2]);
    assert_letters_of(f, "", .id = ids[2], .after_id = ids[2]);
    assert_letters_of(f, "", .id = ids[3] + 1);
    assert_letters_of(f, "2 of a", .consumer = "a", .after_id = ids[0]);
    assert_letters_of(f, "2 of a", .consumer = "a", .state = HARK_LETTER_DEAD, .after_id = ids[0]);
    assert_letters_of(f, "", .consumer = "a", .sequence = 1, .after_id = ids[0]);
    assert_letters_of(f, "2 of b; 3 of b", .consumer = "b", .limit = 2);
}

static void test_filters_are_all_to_be_met(void **state)
{
    fixture *f = *state;
    uint64_t ids[4];
    bury_four(f, ids);
    assert_letters_of(f, "2 of b; 3 of b", .consumer = "b");
    assert_letters_of(f, "", .consumer = "nobody");
    assert_letters_of(f, "1 of a; 2 of a; 2 of b", .pattern = "order:*");
    assert_letters_of(f, "2 of b", .pattern = "order:*", .consumer = "b");
    assert_letters_of(f, "2 of a; 2 of b", .sequence = 2);
    assert_letters_of(f, "2 of b", .sequence = 2, .consumer = "b");
    assert_letters_of(f, "", .sequence = 2, .consumer = "b", .id = ids[0]);
    assert_letters_of(f, "", .reason = "crash");
    assert_letters_of(f, "3 of b", .reason = "rejected", .from_ns = 2001);
    assert_letters_of(f, "1 of a", .to_ns = 2000);
    assert_letters_of(f, "2 of a; 2 of b", .from_ns = 2000, .to_ns = 3000);
    assert_letters_of(f, "", .state = HARK_LETTER_REDRIVEN);
    assert_letters_of(f, "1 of a; 2 of a", .state = HARK_LETTER_DEAD, .consumer = "a");
}

static void test_a_list_ends_when_it_is_told_to(void **state)
{
    fixture *f = *state;
    uint64_t ids[4];
    text t = {.most = 2};
    bury_four(f, ids);
    assert_string_equal("1 of a; 2 of a", letters_text(f, (hark_store_letters_query){0}, &t));
}

static void test_hundreds_of_letters_are_listed_without_a_gap(void **state)
{
    fixture *f = *state;
    enum { LETTERS = 300 };
    hark_store_dead d[LETTERS];
    hark_store_save v = save_of(f, "c");
    (void)add(f, "t", NULL, NULL);
    hark_event *e = event_at(f, 1);
    for (size_t i = 0; i < LETTERS; i++)
        d[i] = (hark_store_dead){.event = e, .reason = "rejected", .dead_ns = 1 + (int64_t)i};
    v.dead = d;
    v.n_dead = LETTERS;
    save(f, &v);
    hark_event_unref(e);
    text t = {.n = 0};
    (void)letters_text(f, (hark_store_letters_query){0}, &t);
    assert_int_equal(t.n, LETTERS);
    t.n = 0;
    (void)letters_text(f, (hark_store_letters_query){.limit = 299, .after_id = d[9].ret_id}, &t);
    assert_int_equal(t.n, LETTERS - 10);
}

/* ---- attempts ---------------------------------------------------------------------------------- */

static void fail_attempt(fixture *f, const char *name, uint64_t seq, int64_t number,
                         const char *outcome, const char *error)
{
    hark_store_save v = save_of(f, name);
    hark_store_attempt a = {
        .sequence = seq, .number = number, .ended_ns = 1, .outcome = outcome, .error = error};
    hark_store_row row = {.sequence = seq, .state = HARK_ROW_RETRY, .attempts = number};
    v.attempts = &a;
    v.put = &row;
    v.n_attempts = v.n_put = 1;
    save(f, &v);
}

static void test_attempts_are_listed_oldest_first(void **state)
{
    fixture *f = *state;
    add_some(f, 2);
    fail_attempt(f, "c", 2, 1, "retry", "busy");
    fail_attempt(f, "c", 2, 2, "timeout", NULL);
    fail_attempt(f, "c", 1, 1, "crash", "signal 11");
    fail_attempt(f, "d", 2, 1, "retry", "other");
    restart(f);
    assert_attempts(f, "1 retry busy; 2 timeout -", "c", 2);
    assert_attempts(f, "1 crash signal 11", "c", 1);
    assert_attempts(f, "", "c", 3);
    text t = {.most = 1};
    assert_string_equal("1 retry busy", attempts_text(f, "c", 2, &t));
}

static void test_a_dead_letter_keeps_every_attempt(void **state)
{
    fixture *f = *state;
    add_some(f, 1);
    fail_attempt(f, "c", 1, 1, "retry", "busy");
    fail_attempt(f, "c", 1, 2, "timeout", NULL);
    (void)bury(f, "c", 1, false);
    assert_rows(f, "", "c");
    assert_attempts(f, "1 retry busy; 2 timeout -; 1 reject no", "c", 1);
}

static bool check_times(void *ud, const hark_store_attempt *a)
{
    ++*(int *)ud;
    assert_int_equal(a->sequence, 1);
    assert_int_equal(a->started_ns, 5);
    assert_int_equal(a->ended_ns, 6);
    return true;
}

static void test_an_attempt_knows_its_times(void **state)
{
    fixture *f = *state;
    int n = 0;
    add_some(f, 1);
    (void)bury(f, "c", 1, false);
    assert_ok(f, f->ops->attempts(f->store, save_of(f, "c").consumer, 1, check_times, &n, &f->ei));
    assert_int_equal(n, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_a_dead_letter_keeps_all_that_is_known),
        EACH(test_what_is_not_known_stays_unknown),
        EACH(test_a_letter_outlives_what_the_log_keeps),
        EACH(test_letters_are_listed_in_order_of_their_ids),
        EACH(test_filters_are_all_to_be_met),
        EACH(test_a_list_ends_when_it_is_told_to),
        EACH(test_hundreds_of_letters_are_listed_without_a_gap),
        EACH(test_attempts_are_listed_oldest_first),
        EACH(test_a_dead_letter_keeps_every_attempt),
        EACH(test_an_attempt_knows_its_times),
    };
    return RUN_CONTRACT(tests);
}
