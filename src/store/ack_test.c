/* Acks as a part of a group, on the stores that have transactions: settled with its commit, whatever the consumer's
 * floor and rows say, and until its next save. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/store_test_i.h"

/* One behaviour, on each store that has acks. */
#define BOTH(test) ON("sqlite", test), ON("postgresql", test)

/* A log of five events, and a save of a consumer of them that changes nothing. */
static hark_store_save five(fixture *f)
{
    add_some(f, 5);
    return save_of(f, "c");
}

static void ack(fixture *f, const hark_store_save *v, uint64_t seq)
{
    hark_store_owned of = owned_at(f, v, seq);
    write_ok(f, f->ops->ack(f->store, v->consumer, v->generation, of, seq, &f->ei));
}

/* As an open row, by a save that was collected as `v`. */
static void put(fixture *f, const hark_store_save *v, uint64_t seq, hark_row_state row)
{
    hark_store_row r = {.sequence = seq, .state = row, .key = "k", .error = "no"};
    hark_store_save with = *v;
    with.put = &r;
    with.n_put = 1;
    save(f, &with);
}

static void drop(fixture *f, const hark_store_save *v, uint64_t seq)
{
    hark_store_save with = *v;
    with.drop = &seq;
    with.n_drop = 1;
    save(f, &with);
}

/* As by whoever has it from now on. */
static void load_anew(fixture *f)
{
    hark_store_consumer c = consumer("c");
    assert_ok(f, load(f, &c));
    if (f->info.shared)
        take_shares(f, c.ret_id, c.ret_generation);
    hark_store_consumer_clear(&c);
}

/* "1 3-5 | 2": floor, settled ranges, rows. `find`: only looks. */
static const char *state_text(fixture *f, bool find, text *t)
{
    if (!find)
        load_anew(f);
    hark_store_consumer c = look_at(f, "c");
    say(t, "%d", (int)c.ret_floor);
    for (size_t i = 0; i < c.ret_n_settled; i++)
        say(t, " %d-%d", (int)c.ret_settled[i].first, (int)c.ret_settled[i].last);
    say(t, " |");
    for (size_t i = 0; i < c.ret_n_rows; i++)
        say(t, " %d", (int)c.ret_rows[i].sequence);
    hark_store_consumer_clear(&c);
    return t->s;
}

#define assert_state(f, find, expected)                                                            \
    do {                                                                                           \
        text t_ = {.n = 0};                                                                        \
        assert_string_equal(expected, state_text(f, find, &t_));                                   \
    } while (0)

/* ---- acking ------------------------------------------------------------------------------------ */

static void test_an_acked_delivery_is_settled_when_its_consumer_is_loaded(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    ack(f, &v, 3);
    assert_state(f, true, "0 3-3 |");
    restart(f);
    assert_state(f, false, "0 3-3 |");
    assert_state(f, true, "0 3-3 |"); /* it is in the settled set now */
    put(f, &v, 3, HARK_ROW_BEHIND);   /* which is so no more when a save says so */
    assert_state(f, true, "0 | 3");
}

static void test_acks_join_what_is_settled_and_raise_the_floor(void **state)
{
    fixture *f = *state;
    hark_store_range settled[] = {{3, 3}, {5, 7}, {9, 9}};
    hark_store_save v = five(f);
    v.settled = settled;
    v.n_settled = 3;
    v.highest = 9;
    save(f, &v);
    ack(f, &v, 8);
    assert_state(f, true, "0 3-3 5-9 |");
    ack(f, &v, 4);
    assert_state(f, true, "0 3-9 |");
    ack(f, &v, 1);
    assert_state(f, true, "1 3-9 |");
    ack(f, &v, 2);
    ack(f, &v, 12);
    assert_state(f, false, "9 12-12 |");
    assert_state(f, false, "9 12-12 |");
}

static void test_an_ack_takes_the_place_of_an_open_row(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    put(f, &v, 2, HARK_ROW_RETRY);
    put(f, &v, 4, HARK_ROW_BEHIND);
    ack(f, &v, 2);
    assert_state(f, true, "0 2-2 | 4");
    drop(f, &v, 2); /* the next save, which forgets that it is settled in this test */
    assert_state(f, true, "0 | 4");
}

static void test_an_ack_goes_with_its_group(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    hark_store_owned of = owned_at(f, &v, 2);
    begin(f);
    assert_ok(f, f->ops->ack(f->store, v.consumer, v.generation, of, 2, &f->ei));
    f->ops->rollback(f->store);
    assert_state(f, true, "0 |");
}

static void test_an_ack_of_another_generation_is_stale(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    hark_store_reset r = {.size = sizeof r, .consumer = v.consumer, .start = FIRST};
    hark_store_owned before = owned_at(f, &v, 2);
    write_ok(f, f->ops->consumer_reset(f->store, &r, &f->ei));
    v.generation = 2;
    hark_store_owned of = owned_at(f, &v, 4);
    begin(f);
    assert_err(f, HARK_ESTALE, f->ops->ack(f->store, v.consumer, 1, before, 2, &f->ei));
    assert_says(f, "sequence 2");
    assert_err(f, HARK_ESTALE, f->ops->ack(f->store, 77, 1, before, 2, &f->ei));
    assert_ok(f, f->ops->ack(f->store, v.consumer, 2, of, 4, &f->ei)); /* the group goes on */
    commit(f);
    assert_state(f, true, "0 4-4 |");
}

static void test_a_second_ack_is_stale(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    ack(f, &v, 2);
    hark_store_owned second = owned_at(f, &v, 2), third = owned_at(f, &v, 3);
    begin(f);
    assert_err(f, HARK_ESTALE, f->ops->ack(f->store, v.consumer, 1, second, 2, &f->ei));
    assert_says(f, "has settled it");
    assert_ok(f, f->ops->ack(f->store, v.consumer, 1, third, 3, &f->ei));
    commit(f);
    assert_state(f, true, "0 2-3 |");
}

static void test_a_save_collected_before_the_ack_does_not_undo_it(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    ack(f, &v, 2);
    put(f, &v, 2, HARK_ROW_BEHIND);
    assert_state(f, true, "0 2-2 |");
    drop(f, &v, 2);
    put(f, &v, 2, HARK_ROW_BEHIND);
    assert_state(f, true, "0 | 2");
}

/* ---- what goes with it ------------------------------------------------------------------------- */

static void redrive(fixture *f, uint64_t id)
{
    hark_store_letter_done done = {0};
    write_ok(f, f->ops->letter_redrive(f->store, id, 1, &done, &f->ei));
    free(done.key);
}

static void test_a_redriven_letter_goes_with_its_acked_delivery(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    redrive(f, bury(f, "c", 2, false));
    ack(f, &v, 2);
    assert_state(f, true, "0 2-2 |");
    assert_letters(f, "2 of c redriven");
    assert_state(f, false, "0 2-2 |");
    assert_letters(f, "");
}

static void test_a_save_after_it_drops_the_redriven_letter(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    redrive(f, bury(f, "c", 2, true));
    ack(f, &v, 2);
    drop(f, &v, 2);
    assert_letters(f, "");
}

static void test_a_reset_does_not_revive_what_was_acked(void **state)
{
    fixture *f = *state;
    hark_store_save v = five(f);
    redrive(f, bury(f, "c", 2, false));
    redrive(f, bury(f, "c", 3, false));
    ack(f, &v, 2);
    hark_store_reset r = {.size = sizeof r, .consumer = v.consumer, .start = NOW};
    write_ok(f, f->ops->consumer_reset(f->store, &r, &f->ei));
    assert_letters(f, "3 of c");
    assert_state(f, true, "5 |");
}

/* A letter of an earlier generation, of an event that was acked in this one. */
static uint64_t old_letter(fixture *f)
{
    hark_store_save v = five(f);
    uint64_t id = bury(f, "c", 2, false);
    hark_store_reset r = {.size = sizeof r, .consumer = v.consumer, .start = FIRST};
    write_ok(f, f->ops->consumer_reset(f->store, &r, &f->ei));
    v.generation = r.ret_generation;
    ack(f, &v, 2);
    return id;
}

/* A save may be under way that drops the row: with it, it would drop the redrive. */
static void test_an_older_letter_waits_for_the_save_that_tells_of_the_ack(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    uint64_t id = old_letter(f);
    write_err(f, HARK_EAGAIN, f->ops->letter_redrive(f->store, id, 1, &done, &f->ei));
    assert_state(f, false, "0 2-2 |");
    assert_letters(f, "2 of c");
}

static void test_an_older_letter_of_an_acked_event_can_be_discarded(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    uint64_t id = old_letter(f);
    write_ok(f, f->ops->letter_discard(f->store, id, &done, &f->ei));
    free(done.key);
    assert_int_equal(done.parked, 0);
    assert_letters(f, "");
    assert_state(f, false, "0 2-2 |");
}

static bool look(void *ud, const hark_store_consumer_row *row)
{
    memcpy(ud, row, sizeof *row);
    return true;
}

static void test_acked_rows_are_not_among_those_counted(void **state)
{
    fixture *f = *state;
    hark_store_consumer_row row;
    hark_store_save v = five(f);
    put(f, &v, 4, HARK_ROW_BEHIND);
    ack(f, &v, 2);
    ack(f, &v, 3);
    assert_ok(f, f->ops->consumers(f->store, look, &row, &f->ei));
    assert_int_equal(row.retrying + row.parked + row.dead + row.dead_lanes + row.letters, 0);
    assert_int_equal(row.behind, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_an_acked_delivery_is_settled_when_its_consumer_is_loaded),
        BOTH(test_acks_join_what_is_settled_and_raise_the_floor),
        BOTH(test_an_ack_takes_the_place_of_an_open_row),
        BOTH(test_an_ack_goes_with_its_group),
        BOTH(test_an_ack_of_another_generation_is_stale),
        BOTH(test_a_second_ack_is_stale),
        BOTH(test_a_save_collected_before_the_ack_does_not_undo_it),
        BOTH(test_a_redriven_letter_goes_with_its_acked_delivery),
        BOTH(test_a_save_after_it_drops_the_redriven_letter),
        BOTH(test_a_reset_does_not_revive_what_was_acked),
        BOTH(test_an_older_letter_waits_for_the_save_that_tells_of_the_ack),
        BOTH(test_an_older_letter_of_an_acked_event_can_be_discarded),
        BOTH(test_acked_rows_are_not_among_those_counted),
    };
    return RUN_CONTRACT(tests);
}
