/* The durable state of consumers, on every store: what was saved is what is loaded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

static uint64_t start_at(fixture *f, const char *name, int64_t start, uint64_t sequence,
                         int64_t time)
{
    hark_store_consumer c = consumer(name);
    c.start = start;
    c.start_sequence = sequence;
    c.start_time_ns = time;
    assert_ok(f, load(f, &c));
    assert_true(c.ret_created);
    assert_int_equal(c.ret_generation, 1);
    assert_int_equal(c.ret_highest, c.ret_floor);
    assert_true(f->info.shared ? c.ret_shares > 1 : c.ret_shares == 1);
    hark_store_consumer_clear(&c);
    return c.ret_floor;
}

static void test_a_new_consumer_starts_where_it_was_told_to(void **state)
{
    fixture *f = *state;
    assert_int_equal(start_at(f, "empty-now", NOW, 0, 0), 0);
    assert_int_equal(start_at(f, "empty-first", FIRST, 0, 0), 0);
    assert_int_equal(start_at(f, "empty-time", TIME, 0, 1), 0);
    add_some(f, 5);
    hark_event *third = event_at(f, 3), *second = event_at(f, 2);
    int64_t at = hark_event_recorded_ns(third);
    uint64_t expected = hark_event_recorded_ns(second) < at ? 2 : 1;
    hark_event_unref(second);
    hark_event_unref(third);
    assert_int_equal(start_at(f, "now", NOW, 0, 0), 5);
    assert_int_equal(start_at(f, "first", FIRST, 0, 0), 0);
    assert_int_equal(start_at(f, "sequence", SEQUENCE, 4, 0), 3);
    assert_int_equal(start_at(f, "sequence-0", SEQUENCE, 0, 0), 0);
    assert_int_equal(start_at(f, "future", SEQUENCE, 100, 0), 99);
    assert_int_equal(start_at(f, "time", TIME, 0, at), expected);
    assert_int_equal(start_at(f, "time-0", TIME, 0, 0), 0);
    assert_int_equal(start_at(f, "time-end", TIME, 0, INT64_MAX), 5);
}

static void test_a_start_that_cannot_be_registers_nobody(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c");
    c.start = 4;
    assert_err(f, HARK_EINVAL, load(f, &c));
    assert_says(f, "4 is not a hark_start");
    c.start = SEQUENCE;
    c.start_sequence = HARK_SEQ_MAX + 1;
    assert_err(f, HARK_EINVAL, load(f, &c));
    c.find = 1;
    assert_err(f, HARK_ENOTFOUND, load(f, &c));
}

static void test_the_first_registration_fixes_pattern_policy_and_start(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c"), other = consumer("c");
    assert_ok(f, load(f, &c));
    other.start = SEQUENCE;
    other.start_sequence = 4;
    assert_ok(f, load(f, &other));
    assert_int_equal(other.ret_floor, 0);
    hark_store_consumer_clear(&other);
    other.policy = "{\"n\":1}";
    assert_err(f, HARK_ECONFLICT, load(f, &other));
    assert_says(f, "consumer c is registered for t with {}");
    other.policy = "{}";
    other.pattern = "u";
    assert_err(f, HARK_ECONFLICT, load(f, &other));
    other.update = 1;
    assert_ok(f, load(f, &other));
    assert_false(other.ret_created);
    assert_int_equal(other.ret_id, c.ret_id);
    assert_string_equal(other.ret_pattern, "u");
    hark_store_consumer_clear(&c);
    assert_err(f, HARK_ECONFLICT, load(f, &c));
    hark_store_consumer_clear(&other);
    restart(f);
    other.update = 0;
    assert_ok(f, load(f, &other));
    hark_store_consumer_clear(&other);
}

static void test_looking_for_a_consumer_compares_nothing_and_registers_nobody(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = consumer("c"), look = {.size = sizeof look, .name = "c", .find = 1};
    assert_err(f, HARK_ENOTFOUND, load(f, &look));
    assert_err(f, HARK_ENOTFOUND, load(f, &look));
    assert_ok(f, load(f, &c));
    assert_ok(f, load(f, &look));
    assert_int_equal(look.ret_id, c.ret_id);
    assert_false(look.ret_created);
    assert_string_equal(look.ret_pattern, "t");
    assert_string_equal(look.ret_policy, "{}");
    hark_store_consumer_clear(&c);
    hark_store_consumer_clear(&look);
    assert_null(look.ret_pattern);
}

static void save_example(fixture *f, const hark_store_range *ranges, size_t n)
{
    hark_store_row rows[] = {{.sequence = 13,
                              .state = HARK_ROW_RETRY,
                              .attempts = 2,
                              .crashes = 1,
                              .interruptions = 3,
                              .due_ns = 77,
                              .first_ns = 66,
                              .key = "k",
                              .error = "failed"},
                             {.sequence = 11, .state = HARK_ROW_BEHIND}};
    hark_store_save v = save_of(f, "c");
    v.floor = 10;
    v.highest = 1000;
    v.settled = ranges;
    v.n_settled = n;
    v.put = rows;
    v.n_put = 2;
    save(f, &v);
}

static void test_state_comes_back_as_it_was_saved(void **state)
{
    fixture *f = *state;
    hark_store_range ranges[] = {{12, 12}, {14, 300}, {1000000, HARK_SEQ_MAX}};
    save_example(f, ranges, 3);
    restart(f);
    hark_store_consumer c = look_at(f, "c");
    assert_int_equal(c.ret_floor, 10);
    assert_int_equal(c.ret_highest, 1000);
    assert_int_equal(c.ret_n_settled, 3);
    assert_memory_equal(c.ret_settled, ranges, sizeof ranges);
    assert_int_equal(c.ret_n_rows, 2);
    assert_int_equal(c.ret_rows[0].sequence, 11);
    assert_null(c.ret_rows[0].key);
    assert_null(c.ret_rows[0].error);
    const hark_store_row *r = &c.ret_rows[1];
    assert_int_equal(r->sequence, 13);
    assert_int_equal(r->state, HARK_ROW_RETRY);
    assert_int_equal(r->attempts, 2);
    assert_int_equal(r->crashes, 1);
    assert_int_equal(r->interruptions, 3);
    assert_int_equal(r->due_ns, 77);
    assert_int_equal(r->first_ns, 66);
    assert_string_equal(r->key, "k");
    assert_string_equal(r->error, "failed");
    hark_store_consumer_clear(&c);
}

static void test_rows_are_replaced_and_dropped(void **state)
{
    fixture *f = *state;
    hark_store_row rows[] = {{.sequence = 1, .state = HARK_ROW_RETRY},
                             {.sequence = 2, .state = HARK_ROW_BEHIND},
                             {.sequence = 3, .state = HARK_ROW_COUNTS}};
    hark_store_save v = save_of(f, "c");
    v.put = rows;
    v.n_put = 3;
    save(f, &v);
    rows[1].state = HARK_ROW_PARKED;
    uint64_t drop[] = {1, 7};
    v.put = &rows[1];
    v.n_put = 1;
    v.drop = drop;
    v.n_drop = 2;
    save(f, &v);
    assert_rows(f, "2 parked; 3 counts", "c");
}

static void test_a_row_that_is_dropped_and_put_is_there(void **state)
{
    fixture *f = *state;
    put_row(f, "c", (hark_store_row){.sequence = 4, .state = HARK_ROW_RETRY});
    hark_store_row row = {.sequence = 4, .state = HARK_ROW_DEAD};
    uint64_t drop = 4;
    hark_store_save v = save_of(f, "c");
    v.put = &row;
    v.drop = &drop;
    v.n_put = v.n_drop = 1;
    save(f, &v);
    assert_rows(f, "4 dead", "c");
}

static void test_consumers_do_not_touch_each_others_rows(void **state)
{
    fixture *f = *state;
    put_row(f, "a", (hark_store_row){.sequence = 4, .state = HARK_ROW_RETRY});
    put_row(f, "b", (hark_store_row){.sequence = 4, .state = HARK_ROW_BEHIND});
    drop_row(f, "a", 4);
    assert_rows(f, "", "a");
    assert_rows(f, "4 behind", "b");
}

static void test_a_save_of_another_generation_changes_nothing(void **state)
{
    fixture *f = *state;
    hark_store_save v = save_of(f, "c");
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_RETRY};
    v.generation++;
    v.floor = 9;
    v.put = &row;
    v.n_put = 1;
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_save(f->store, &v, &f->ei));
    v.generation--;
    v.consumer++;
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_save(f->store, &v, &f->ei));
    assert_rows(f, "", "c");
    assert_int_equal(save_of(f, "c").floor, 0);
}

/* ---- many rows --------------------------------------------------------------------------------- */

enum { PLACES = 3000, SAVES = 200, CHANGES = 64 };

static uint64_t draw(uint64_t *rng, uint64_t below)
{
    *rng = *rng * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (*rng >> 33) % below;
}

/* Puts and drops at random, in the store and in `open`. */
static void change_some(fixture *f, uint64_t *rng, bool open[PLACES + 1])
{
    hark_store_row put[CHANGES];
    uint64_t drop[CHANGES];
    hark_store_save v = save_of(f, "c");
    v.put = put;
    v.drop = drop;
    for (size_t i = 0; i < CHANGES; i++) {
        uint64_t seq = 1 + draw(rng, PLACES);
        bool puts = draw(rng, 3) != 0;
        if (!puts && !open[seq])
            continue;
        if (puts)
            put[v.n_put++] = (hark_store_row){.sequence = seq, .state = HARK_ROW_RETRY};
        else
            drop[v.n_drop++] = seq;
        open[seq] |= puts;
    }
    for (size_t i = 0; i < v.n_drop; i++)
        open[drop[i]] = false;
    for (size_t i = 0; i < v.n_put; i++)
        open[put[i].sequence] = true;
    save(f, &v);
}

static void test_thousands_of_rows_come_back_in_order(void **state)
{
    fixture *f = *state;
    bool open[PLACES + 1] = {false};
    uint64_t rng = 7, seq = 0;
    for (size_t i = 0; i < SAVES; i++)
        change_some(f, &rng, open);
    restart(f);
    hark_store_consumer c = look_at(f, "c");
    for (size_t i = 0; i < c.ret_n_rows; i++) {
        do
            seq++;
        while (seq <= PLACES && !open[seq]);
        assert_int_equal(c.ret_rows[i].sequence, seq);
    }
    while (seq++ < PLACES)
        assert_false(seq <= PLACES && open[seq]);
    hark_store_consumer_clear(&c);
}

/* ---- pause and list ---------------------------------------------------------------------------- */

static void test_a_pause_lasts_until_it_is_lifted(void **state)
{
    fixture *f = *state;
    hark_store_save v = save_of(f, "c");
    hark_store_consumer c = consumer("c");
    write_ok(f, f->ops->consumer_pause(f->store, v.consumer, true, &f->ei));
    restart(f);
    assert_ok(f, load(f, &c));
    assert_true(c.ret_paused);
    hark_store_consumer_clear(&c);
    write_ok(f, f->ops->consumer_pause(f->store, v.consumer, false, &f->ei));
    assert_ok(f, load(f, &c));
    assert_false(c.ret_paused);
    hark_store_consumer_clear(&c);
    write_err(f, HARK_ENOTFOUND, f->ops->consumer_pause(f->store, 99, true, &f->ei));
}

static bool say_consumer(void *ud, const hark_store_consumer_row *r)
{
    text *t = ud;
    say(t, "%s %s %s %llu/%llu%s %llu %llu %llu %llu %llu %llu", r->name, r->pattern, r->policy,
        (unsigned long long)r->floor, (unsigned long long)r->highest, r->paused ? " paused" : "",
        (unsigned long long)r->retrying, (unsigned long long)r->behind,
        (unsigned long long)r->parked, (unsigned long long)r->dead,
        (unsigned long long)r->dead_lanes, (unsigned long long)r->letters);
    assert_true(r->id && r->created_ns > 0);
    assert_int_equal(r->generation, 1);
    return entry_ends(t);
}

static const char *consumers_text(fixture *f, text *t)
{
    assert_ok(f, f->ops->consumers(f->store, say_consumer, t, &f->ei));
    return text_end(t);
}

static void test_consumers_are_listed_by_name_with_what_they_have_open(void **state)
{
    fixture *f = *state;
    hark_store_row rows[] = {{.sequence = 1, .state = HARK_ROW_RETRY},
                             {.sequence = 2, .state = HARK_ROW_BEHIND},
                             {.sequence = 3, .state = HARK_ROW_BEHIND},
                             {.sequence = 6, .state = HARK_ROW_PARKED, .key = "a"},
                             {.sequence = 7, .state = HARK_ROW_PARKED, .key = "a"},
                             {.sequence = 8, .state = HARK_ROW_PARKED, .key = "b"},
                             {.sequence = 9, .state = HARK_ROW_COUNTS},
                             {.sequence = 10, .state = HARK_ROW_DEAD}};
    text t = {.n = 0}, first = {.most = 1};
    assert_string_equal("", consumers_text(f, &t));
    add_some(f, 3);
    (void)add(f, "t", NULL, "a");
    (void)add(f, "t", NULL, "b");
    hark_store_save v = save_of(f, "m");
    v.highest = 9;
    v.put = rows;
    v.n_put = HK_COUNTOF(rows);
    save(f, &v);
    (void)bury(f, "m", 4, true);
    (void)bury(f, "m", 5, true);
    (void)bury(f, "m", 3, false);
    (void)save_of(f, "z");
    v = save_of(f, "a");
    write_ok(f, f->ops->consumer_pause(f->store, v.consumer, true, &f->ei));
    assert_string_equal("a t {} 0/0 paused 0 0 0 0 0 0; m t {} 0/9 1 1 3 3 3 3; "
                        "z t {} 0/0 0 0 0 0 0 0",
                        consumers_text(f, &t));
    assert_string_equal("a t {} 0/0 paused 0 0 0 0 0 0", consumers_text(f, &first));
}

/* A head that was retried before it died left rows behind it; one that is redriven leaves rows that
 * were parked. */
static void test_what_a_lane_has_behind_a_dead_head_is_parked(void **state)
{
    fixture *f = *state;
    hark_store_row rows[] = {{.sequence = 2, .state = HARK_ROW_BEHIND, .key = "a"},
                             {.sequence = 3, .state = HARK_ROW_BEHIND, .key = "b"},
                             {.sequence = 4, .state = HARK_ROW_PARKED, .key = "a"},
                             {.sequence = 5, .state = HARK_ROW_RETRY, .key = "a"},
                             {.sequence = 6, .state = HARK_ROW_RETRY, .key = "b"},
                             {.sequence = 7, .state = HARK_ROW_DEAD, .key = "a"},
                             {.sequence = 8, .state = HARK_ROW_BEHIND},
                             {.sequence = 9, .state = HARK_ROW_COUNTS, .key = "a"}};
    hark_store_letter_done done = {0};
    text t = {.n = 0};
    (void)add(f, "t", NULL, "a");
    hark_store_save v = save_of(f, "c");
    v.put = rows;
    v.n_put = HK_COUNTOF(rows);
    save(f, &v);
    uint64_t id = bury(f, "c", 1, true);
    assert_string_equal("c t {} 0/1 1 2 3 2 1 1", consumers_text(f, &t));
    drop_row(f, "c", 7);
    t = (text){.n = 0};
    assert_string_equal("c t {} 0/1 1 2 3 1 1 1", consumers_text(f, &t));
    write_ok(f, f->ops->letter_redrive(f->store, id, 1, &done, &f->ei));
    free(done.key);
    t = (text){.n = 0};
    assert_string_equal("c t {} 0/1 3 4 0 0 0 0", consumers_text(f, &t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        EACH(test_a_new_consumer_starts_where_it_was_told_to),
        EACH(test_a_start_that_cannot_be_registers_nobody),
        EACH(test_the_first_registration_fixes_pattern_policy_and_start),
        EACH(test_looking_for_a_consumer_compares_nothing_and_registers_nobody),
        EACH(test_state_comes_back_as_it_was_saved),
        EACH(test_rows_are_replaced_and_dropped),
        EACH(test_a_row_that_is_dropped_and_put_is_there),
        EACH(test_consumers_do_not_touch_each_others_rows),
        EACH(test_a_save_of_another_generation_changes_nothing),
        EACH(test_thousands_of_rows_come_back_in_order),
        EACH(test_a_pause_lasts_until_it_is_lifted),
        EACH(test_consumers_are_listed_by_name_with_what_they_have_open),
        EACH(test_what_a_lane_has_behind_a_dead_head_is_parked),
    };
    return RUN_CONTRACT(tests);
}
