/* Closures that were begun without being undoable: what succeeds stays; what fails and has changed
 * nothing harms nobody; what fails after a change asks for the group to be run again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/tx_fixture_i.h"

static void tx_begin_bare(fixture *f)
{
    assert_ok(f, OPS.tx_begin(f->store, hk_mono_ns() + 60 * SECOND, false, &f->ei));
}

static void gives_up(fixture *f, hark_store_fate expected)
{
    hark_store_fate fate;
    assert_ok(f, tx_end(f, false, &fate));
    assert_int_equal(expected, fate);
}

/* It asks for another run; then it is undone by itself. */
static void gives_up_twice(fixture *f, const char *sql)
{
    two_good(f);
    tx_begin_bare(f);
    assert_ok(f, run(f, sql));
    gives_up(f, HARK_STORE_AGAIN);
    OPS.rollback(f->store);
    two_good(f);
    tx_begin(f);
    assert_ok(f, run(f, sql));
    tx_undo(f);
    goes_on(f);
}

static void test_what_succeeds_stays(void **state)
{
    fixture *f = *state;
    begin(f);
    for (int n = 1; n <= 3; n++) {
        char sql[64], id[16];
        (void)snprintf(sql, sizeof sql, "INSERT INTO stock VALUES('good-%d', %d)", n, n);
        (void)snprintf(id, sizeof id, "good-%d", n);
        tx_begin_bare(f);
        assert_ok(f, run(f, sql));
        (void)add(f, "good", id);
        tx_keep(f);
    }
    commit(f);
    reopen_log(f);
    assert_query(f, "good-1|1 good-2|2 good-3|3 ", "SELECT sku, n FROM stock ORDER BY sku");
    assert_reads(f, "1 2 3 end", .limit = 0);
}

static void test_what_read_only_may_fail(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_bare(f);
    assert_rows(f, "2 ", "SELECT count(*) FROM stock", HARK_NO_ARGS);
    gives_up(f, HARK_STORE_STAYS);
    goes_on(f);
}

static void test_what_was_refused_may_fail(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_bare(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT INTO stock VALUES('bad', 1), ('good-1', 1)"));
    gives_up(f, HARK_STORE_STAYS);
    goes_on(f);
}

static void test_a_row_asks_for_another_run(void **state)
{
    gives_up_twice(*state, "INSERT INTO stock VALUES('bad', 1)");
}

static void test_a_row_changed_or_deleted_asks_for_another_run(void **state)
{
    fixture *f = *state;
    in_tx(f, "INSERT INTO stock VALUES('old', 1)");
    begin(f);
    tx_begin_bare(f);
    assert_ok(f, run(f, "UPDATE stock SET n = 2 WHERE sku = 'old'"));
    gives_up(f, HARK_STORE_AGAIN);
    OPS.rollback(f->store);
    begin(f);
    tx_begin_bare(f);
    assert_ok(f, run(f, "DELETE FROM stock"));
    gives_up(f, HARK_STORE_AGAIN);
    OPS.rollback(f->store);
    assert_query(f, "old|1 ", "SELECT sku, n FROM stock");
}

static void test_part_of_a_statement_asks_for_another_run(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_bare(f);
    assert_err(f, HARK_ECONSTRAINT,
               run(f, "INSERT OR FAIL INTO stock VALUES('bad', 1), ('good-1', 1)"));
    gives_up(f, HARK_STORE_AGAIN);
    OPS.rollback(f->store);
    begins_anew(f);
}

static void test_a_table_asks_for_another_run(void **state)
{
    gives_up_twice(*state, "CREATE TABLE bad(a)");
}

static void test_an_id_used_up_asks_for_another_run(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE ticket(id INTEGER PRIMARY KEY AUTOINCREMENT, who UNIQUE)");
    in_tx(f, "INSERT INTO ticket(who) VALUES('first')");
    gives_up_twice(f, "INSERT OR IGNORE INTO ticket VALUES(9223372036854775807, 'first')");
    in_tx(f, "INSERT INTO ticket(who) VALUES('second')");
    assert_query(f, "1|first 2|second ", "SELECT id, who FROM ticket ORDER BY id");
}

static void test_a_trigger_asks_for_another_run(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE TABLE seen(sku)");
    in_tx(f, "CREATE VIEW in_stock AS SELECT sku FROM stock");
    in_tx(f, "CREATE TRIGGER see INSTEAD OF INSERT ON in_stock BEGIN "
             "INSERT INTO seen VALUES(new.sku); END");
    gives_up_twice(f, "INSERT INTO in_stock VALUES('bad')");
    assert_query(f, "0 ", "SELECT count(*) FROM seen");
}

static void test_a_search_index_asks_for_another_run(void **state)
{
    fixture *f = *state;
    in_tx(f, "CREATE VIRTUAL TABLE found USING fts5(text)");
    gives_up_twice(f, "INSERT INTO found VALUES('bad')");
    assert_query(f, "0 ", "SELECT count(*) FROM found WHERE found MATCH 'bad'");
}

static void test_an_event_asks_for_another_run(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_bare(f);
    (void)add(f, "bad", "bad");
    gives_up(f, HARK_STORE_AGAIN);
    OPS.rollback(f->store);
    begins_anew(f);
}

static void test_a_repeated_event_may_fail(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_bare(f);
    (void)add(f, "good", "good-1");
    gives_up(f, HARK_STORE_STAYS);
    goes_on(f);
}

static void test_the_programs_own_handle_asks_for_another_run(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_bare(f);
    assert_int_equal(sqlite3_exec(native(f), "SELECT 1", NULL, NULL, NULL), SQLITE_OK);
    gives_up(f, HARK_STORE_AGAIN);
    OPS.rollback(f->store);
    begins_anew(f);
}

static void test_a_refused_end_asks_for_another_run(void **state)
{
    fixture *f = *state;
    hark_store_fate fate;
    in_tx(f, "CREATE TABLE item(sku REFERENCES stock DEFERRABLE INITIALLY DEFERRED)");
    two_good(f);
    tx_begin_bare(f);
    assert_ok(f, run(f, "INSERT INTO item VALUES('nobody')"));
    assert_err(f, HARK_ECONSTRAINT, tx_end(f, true, &fate));
    assert_int_equal(HARK_STORE_AGAIN, fate);
    OPS.rollback(f->store);
    begins_anew(f);
}

static void test_what_undoes_its_group_is_not_run_again(void **state)
{
    fixture *f = *state;
    two_good(f);
    tx_begin_bare(f);
    assert_err(f, HARK_ECONSTRAINT, run(f, "INSERT OR ROLLBACK INTO stock VALUES('good-1', 1)"));
    tx_gone(f, HARK_ECONSTRAINT);
    begins_anew(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STOCK(test_what_succeeds_stays),
        STOCK(test_what_read_only_may_fail),
        STOCK(test_what_was_refused_may_fail),
        STOCK(test_a_row_asks_for_another_run),
        STOCK(test_a_row_changed_or_deleted_asks_for_another_run),
        STOCK(test_part_of_a_statement_asks_for_another_run),
        STOCK(test_a_table_asks_for_another_run),
        STOCK(test_an_id_used_up_asks_for_another_run),
        STOCK(test_a_trigger_asks_for_another_run),
        STOCK(test_a_search_index_asks_for_another_run),
        STOCK(test_an_event_asks_for_another_run),
        STOCK(test_a_repeated_event_may_fail),
        STOCK(test_the_programs_own_handle_asks_for_another_run),
        STOCK(test_a_refused_end_asks_for_another_run),
        STOCK(test_what_undoes_its_group_is_not_run_again),
    };
    return cmocka_run_group_tests_name("sqlite_again", tests, NULL, NULL);
}
