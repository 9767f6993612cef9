/* Acks as a part of a group: settled with its commit, whatever the consumer's floor and rows say,
 * and until its next save. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"
#include "store/sqlite/slots_i.h"

static void ack(fixture *f, const hark_store_consumer *c, uint64_t seq)
{
    begin(f);
    assert_ok(f, OPS.ack(f->store, c->ret_id, c->ret_generation, NO_SHARE, seq, &f->ei));
    commit(f);
}

/* A log of five events, and a consumer of them; give it to hark_store_consumer_clear. */
static hark_store_consumer five(fixture *f)
{
    hark_store_consumer c = consumer("c");
    add_five(f);
    c.start = FIRST;
    assert_ok(f, load(f, &c));
    return c;
}

/* "1 3-5 | 2": floor, settled ranges, rows. `find`: only looks. */
static const char *state_text(fixture *f, bool find, char ret[128])
{
    hark_store_consumer c = consumer("c");
    c.find = find;
    assert_ok(f, load(f, &c));
    int at = snprintf(ret, 128, "%d", (int)c.ret_floor);
    for (size_t i = 0; i < c.ret_n_settled; i++)
        at += snprintf(ret + at, 128 - (size_t)at, " %d-%d", (int)c.ret_settled[i].first,
                       (int)c.ret_settled[i].last);
    at += snprintf(ret + at, 128 - (size_t)at, " |");
    for (size_t i = 0; i < c.ret_n_rows; i++)
        at += snprintf(ret + at, 128 - (size_t)at, " %d", (int)c.ret_rows[i].sequence);
    hark_store_consumer_clear(&c);
    return ret;
}

#define assert_state(f, find, expected)                                                            \
    do {                                                                                           \
        char text_[128];                                                                           \
        assert_string_equal(expected, state_text(f, find, text_));                                 \
    } while (0)

static int64_t count_rows(fixture *f)
{
    return number_sql(f->path, "SELECT count(*) FROM hark_deliveries");
}

/* ---- acking ---------------------------------------------------------------------------------- */

static void test_an_acked_delivery_is_settled_when_its_consumer_is_loaded(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    ack(f, &c, 3);
    assert_state(f, true, "0 3-3 |");
    assert_int_equal(count_rows(f), 1); /* looking leaves it: the consumer may be at work */
    assert_state(f, false, "0 3-3 |");
    assert_int_equal(count_rows(f), 0); /* it is in the settled set now */
    assert_state(f, false, "0 3-3 |");
    assert_int_equal(number_sql(f->path, "SELECT highest FROM hark_consumers"), 3);
    hark_store_consumer_clear(&c);
}

static void test_an_ack_takes_the_place_of_an_open_row(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    put_row(f, &c, &(hark_store_row){.sequence = 2, .state = HARK_ROW_RETRY, .error = "no"});
    put_row(f, &c, &(hark_store_row){.sequence = 4, .state = HARK_ROW_BEHIND});
    ack(f, &c, 2);
    assert_state(f, true, "0 2-2 | 4");
    drop_row(f, &c, 2); /* the next save, which forgets that it is settled in this test */
    assert_state(f, true, "0 | 4");
    hark_store_consumer_clear(&c);
}

static void test_an_ack_comes_and_goes_with_its_group_and_its_savepoint(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    begin(f);
    assert_ok(f, OPS.ack(f->store, c.ret_id, 1, NO_SHARE, 2, &f->ei));
    OPS.rollback(f->store);
    assert_state(f, true, "0 |");
    begin(f);
    assert_ok(f, hk_conn_exec(&f->store->conn, "SAVEPOINT x", "testing", &f->ei));
    assert_ok(f, OPS.ack(f->store, c.ret_id, 1, NO_SHARE, 2, &f->ei));
    assert_ok(f, hk_conn_exec(&f->store->conn, "ROLLBACK TO x; RELEASE x", "testing", &f->ei));
    assert_ok(f, OPS.ack(f->store, c.ret_id, 1, NO_SHARE, 3, &f->ei));
    commit(f);
    assert_state(f, true, "0 3-3 |");
    hark_store_consumer_clear(&c);
}

static void test_an_ack_of_another_generation_is_stale(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    hark_store_reset r = {.size = sizeof r, .consumer = c.ret_id, .start = FIRST};
    begin(f);
    assert_ok(f, OPS.consumer_reset(f->store, &r, &f->ei));
    assert_err(f, HARK_ESTALE, OPS.ack(f->store, c.ret_id, 1, NO_SHARE, 2, &f->ei));
    assert_says(f, "sequence 2");
    assert_err(f, HARK_ESTALE, OPS.ack(f->store, 77, 1, NO_SHARE, 2, &f->ei));
    assert_ok(f, OPS.ack(f->store, c.ret_id, 2, NO_SHARE, 4, &f->ei)); /* the group goes on */
    commit(f);
    assert_state(f, true, "0 4-4 |");
    hark_store_consumer_clear(&c);
}

static void test_a_second_ack_is_stale(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    ack(f, &c, 2);
    begin(f);
    assert_err(f, HARK_ESTALE, OPS.ack(f->store, c.ret_id, 1, NO_SHARE, 2, &f->ei));
    assert_says(f, "has settled it");
    assert_ok(f, OPS.ack(f->store, c.ret_id, 1, NO_SHARE, 3, &f->ei));
    commit(f);
    assert_state(f, true, "0 2-3 |");
    hark_store_consumer_clear(&c);
}

static void test_a_save_collected_before_the_ack_does_not_undo_it(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    ack(f, &c, 2);
    put_row(f, &c, &(hark_store_row){.sequence = 2, .state = HARK_ROW_BEHIND});
    assert_state(f, true, "0 2-2 |");
    drop_row(f, &c, 2);
    put_row(f, &c, &(hark_store_row){.sequence = 2, .state = HARK_ROW_BEHIND});
    assert_state(f, true, "0 | 2");
    hark_store_consumer_clear(&c);
}

/* ---- what goes with it ----------------------------------------------------------------------- */

static void redrive(fixture *f, uint64_t id)
{
    hark_store_letter_done done = {0};
    begin(f);
    assert_ok(f, OPS.letter_redrive(f->store, id, 1, &done, &f->ei));
    commit(f);
    free(done.key);
}

static int64_t count_letters(fixture *f)
{
    return number_sql(f->path, "SELECT count(*) FROM hark_dead_letters");
}

static void test_a_redriven_letter_goes_with_its_acked_delivery(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    uint64_t id = bury(f, &c, 2, "rejected", false);
    redrive(f, id);
    run_sql(f->path, "INSERT INTO hark_attempts VALUES(1, 1, 1, 2, 1, 5, 6, 'retry', NULL);"
                     "DELETE FROM hark_events WHERE seq = 2");
    ack(f, &c, 2);
    assert_state(f, true, "0 2-2 |");
    assert_int_equal(count_letters(f), 1);
    assert_state(f, false, "0 2-2 |");
    assert_int_equal(count_letters(f), 0);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_attempts"), 0);
    hark_store_consumer_clear(&c);
}

static void test_a_save_after_it_drops_the_row_and_the_redriven_letter(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    redrive(f, bury(f, &c, 2, "rejected", true));
    ack(f, &c, 2);
    drop_row(f, &c, 2);
    assert_int_equal(count_rows(f), 0);
    assert_int_equal(count_letters(f), 0);
    hark_store_consumer_clear(&c);
}

static void test_a_reset_does_not_revive_what_was_acked(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    uint64_t acked = bury(f, &c, 2, "rejected", false), open = bury(f, &c, 3, "rejected", false);
    redrive(f, acked);
    redrive(f, open);
    ack(f, &c, 2);
    hark_store_reset r = {.size = sizeof r, .consumer = c.ret_id, .start = NOW};
    begin(f);
    assert_ok(f, OPS.consumer_reset(f->store, &r, &f->ei));
    commit(f);
    assert_int_equal(count_rows(f), 0);
    assert_int_equal(number_sql(f->path, "SELECT seq FROM hark_dead_letters WHERE state = 1"), 3);
    assert_int_equal(count_letters(f), 1);
    hark_store_consumer_clear(&c);
}

/* A letter of an earlier generation, of an event that was acked in this one. */
static uint64_t old_letter(fixture *f, hark_store_consumer *c)
{
    uint64_t id = bury(f, c, 2, "rejected", false);
    hark_store_reset r = {.size = sizeof r, .consumer = c->ret_id, .start = FIRST};
    begin(f);
    assert_ok(f, OPS.consumer_reset(f->store, &r, &f->ei));
    commit(f);
    assert_ok(f, load(f, c));
    ack(f, c, 2);
    return id;
}

/* A save may be under way that drops the row: with it, it would drop the redrive. */
static void test_an_older_letter_waits_for_the_save_that_tells_of_the_ack(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    hark_store_consumer c = five(f);
    uint64_t id = old_letter(f, &c);
    begin(f);
    assert_err(f, HARK_EAGAIN, OPS.letter_redrive(f->store, id, 1, &done, &f->ei));
    commit(f);
    assert_state(f, false, "0 2-2 |");
    assert_int_equal(count_letters(f), 1);
    hark_store_consumer_clear(&c);
}

static void test_an_older_letter_of_an_acked_event_can_be_discarded(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = five(f);
    hark_store_letter_done done = {0};
    uint64_t id = old_letter(f, &c);
    begin(f);
    assert_ok(f, OPS.letter_discard(f->store, id, &done, &f->ei));
    commit(f);
    free(done.key);
    assert_int_equal(done.parked, 0);
    assert_int_equal(count_letters(f), 0);
    assert_state(f, false, "0 2-2 |");
    hark_store_consumer_clear(&c);
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
    hark_store_consumer c = five(f);
    put_row(f, &c, &(hark_store_row){.sequence = 4, .state = HARK_ROW_BEHIND, .key = "k"});
    ack(f, &c, 2);
    ack(f, &c, 3);
    assert_ok(f, OPS.consumers(f->store, look, &row, &f->ei));
    assert_int_equal(row.retrying + row.parked + row.dead + row.dead_lanes + row.letters, 0);
    assert_int_equal(row.behind, 1);
    hark_store_consumer_clear(&c);
}

/* ---- retention ------------------------------------------------------------------------------- */

static uint64_t trim(fixture *f, hark_store_trim *t)
{
    t->size = sizeof *t;
    t->pattern = "t";
    t->before_ns = INT64_MAX;
    t->budget_ns = INT64_C(60000000000);
    begin(f);
    assert_ok(f, OPS.trim(f->store, t, &f->ei));
    commit(f);
    return t->ret_removed;
}

static void test_an_acked_row_below_the_floor_holds_nothing(void **state)
{
    fixture *f = *state;
    hark_store_trim t = {0};
    hark_store_consumer c = five(f);
    hark_store_save v = save_of(&c);
    uint64_t id = bury(f, &c, 2, "rejected", false);
    v.floor = v.highest = 5;
    save(f, &v);
    redrive(f, id);
    ack(f, &c, 2);
    assert_int_equal(trim(f, &t), 5);
    assert_state(f, false, "5 |");
    assert_int_equal(count_letters(f), 0);
    hark_store_consumer_clear(&c);
}

static void test_forced_retention_tells_no_gap_of_what_was_acked(void **state)
{
    fixture *f = *state;
    hark_store_gap gaps[2];
    hark_store_trim t = {.force = 1, .gaps = gaps, .cap_gaps = 2};
    hark_store_consumer c = five(f);
    for (uint64_t seq = 1; seq <= 5; seq++)
        if (seq != 3)
            ack(f, &c, seq);
    assert_int_equal(trim(f, &t), 5);
    assert_int_equal(t.ret_n_gaps, 1);
    assert_int_equal(gaps[0].from, 3);
    assert_int_equal(gaps[0].to, 3);
    assert_state(f, false, "2 4-5 |");
    hark_store_consumer_clear(&c);
}

/* ---- a crash after it ------------------------------------------------------------------------ */

/* The process dies while its slot still says that it has the event in hand. */
static void die_in(fixture *f, uint64_t seq, uint32_t slot_state)
{
    hark_store_slot *slot = NULL;
    char command[500];
    assert_ok(f, OPS.slots_take(f->store, 1, &slot, &f->ei));
    *slot = (hark_store_slot){.consumer = 1, .generation = 1, .sequence = seq, .attempt = 1};
    slot->check = hk_hash(slot, offsetof(hark_store_slot, address));
    slot->state = slot_state;
    (void)snprintf(command, sizeof command,
                   "cd '%s' && mkdir x && cp log.db log.db-wal log.db-inflight x", f->dir);
    assert_int_equal(system(command), 0);
    close_log(f);
    (void)snprintf(command, sizeof command, "cd '%s' && mv x/* . && rmdir x", f->dir);
    assert_int_equal(system(command), 0);
    assert_ok(f, open_log(f));
}

static void test_a_crash_after_an_ack_counts_nothing(void **state)
{
    fixture *f = *state;
    static const uint32_t slots[] = {HARK_SLOT_RUNNING, HARK_SLOT_CRASHED};
    hark_store_consumer c = five(f);
    for (size_t i = 0; i < HK_COUNTOF(slots); i++) {
        ack(f, &c, 2 + i);
        die_in(f, 2 + i, slots[i]);
        assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_attempts"), 0);
        assert_int_equal(
            number_sql(f->path, "SELECT sum(crashes + interruptions) FROM hark_deliveries"), 0);
        assert_state(f, true, i ? "0 2-3 |" : "0 2-2 |");
    }
    die_in(f, 4, HARK_SLOT_RUNNING); /* and the one who did not ack is counted */
    assert_state(f, false, "0 2-3 | 4");
    hark_store_consumer_clear(&c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_an_acked_delivery_is_settled_when_its_consumer_is_loaded),
        T(test_an_ack_takes_the_place_of_an_open_row),
        T(test_an_ack_comes_and_goes_with_its_group_and_its_savepoint),
        T(test_an_ack_of_another_generation_is_stale),
        T(test_a_second_ack_is_stale),
        T(test_a_save_collected_before_the_ack_does_not_undo_it),
        T(test_a_redriven_letter_goes_with_its_acked_delivery),
        T(test_a_save_after_it_drops_the_row_and_the_redriven_letter),
        T(test_a_reset_does_not_revive_what_was_acked),
        T(test_an_older_letter_waits_for_the_save_that_tells_of_the_ack),
        T(test_an_older_letter_of_an_acked_event_can_be_discarded),
        T(test_acked_rows_are_not_among_those_counted),
        T(test_an_acked_row_below_the_floor_holds_nothing),
        T(test_forced_retention_tells_no_gap_of_what_was_acked),
        T(test_a_crash_after_an_ack_counts_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
