/* tx_fixture: closures as the bus would run them, and rows of the program's as text. <cmocka.h>
 * comes before it. */
#ifndef HK_SQLITE_TX_FIXTURE_I_H
#define HK_SQLITE_TX_FIXTURE_I_H

#include "store/sqlite/fixture_i.h"

#include <inttypes.h>

#define SECOND INT64_C(1000000000)

static inline void tx_begin(fixture *f)
{
    assert_ok(f, OPS.tx_begin(f->store, hk_mono_ns() + 60 * SECOND, true, &f->ei));
}

static inline hark_err tx_end(fixture *f, bool keep, hark_store_fate *fate)
{
    *fate = HARK_STORE_STAYS;
    return OPS.tx_end(f->store, keep, fate, &f->ei);
}

/* The closure ended well and its part stays. */
static inline void tx_keep(fixture *f)
{
    hark_store_fate fate;
    assert_ok(f, tx_end(f, true, &fate));
    assert_int_equal(HARK_STORE_STAYS, fate);
}

/* The closure itself gave up: its part is undone, the group goes on. */
static inline void tx_undo(fixture *f)
{
    hark_store_fate fate;
    assert_ok(f, tx_end(f, false, &fate));
    assert_int_equal(HARK_STORE_STAYS, fate);
}

/* The closure is refused at its end, and nothing else is. */
static inline void tx_refused(fixture *f, hark_err expected)
{
    hark_store_fate fate;
    assert_err(f, expected, tx_end(f, true, &fate));
    assert_int_equal(HARK_STORE_STAYS, fate);
}

/* The closure has undone the whole group. */
static inline void tx_gone(fixture *f, hark_err expected)
{
    hark_store_fate fate;
    assert_err(f, expected, tx_end(f, true, &fate));
    assert_int_equal(HARK_STORE_SPOILT, fate);
    OPS.rollback(f->store);
}

static inline sqlite3 *native(fixture *f)
{
    return OPS.tx_native(f->store);
}

static inline hark_err run(fixture *f, const char *sql)
{
    return OPS.tx_run(f->store, sql, HARK_NO_ARGS, NULL, NULL, NULL, &f->ei);
}

/* A group with one closure of these statements, committed. */
static inline void in_tx(fixture *f, const char *sql)
{
    begin(f);
    tx_begin(f);
    assert_ok(f, run(f, sql));
    tx_keep(f);
    commit(f);
}

/* A closure that is kept: a row and an event. */
static inline void good(fixture *f, int n)
{
    char sql[64], id[16];
    (void)snprintf(sql, sizeof sql, "INSERT INTO stock VALUES('good-%d', %d)", n, n);
    (void)snprintf(id, sizeof id, "good-%d", n);
    tx_begin(f);
    assert_ok(f, run(f, sql));
    (void)add(f, "good", id);
    tx_keep(f);
}

/* Values of rows: "a|1 b|2 ". */
typedef struct lines {
    char text[512];
    size_t at;
    size_t rows, most; /* most: stop after so many; 0 = all */
} lines;

static inline bool line(const hark_row *row, void *ud)
{
    lines *l = ud;
    for (size_t i = 0; i < row->n && l->at < sizeof l->text - 64; i++) {
        const hark_value *v = &row->values[i];
        const char *end = i + 1 < row->n ? "|" : " ";
        char *to = l->text + l->at;
        size_t room = sizeof l->text - l->at;
        int n = v->kind == HARK_NULL      ? snprintf(to, room, "null%s", end)
                : v->kind == HARK_INTEGER ? snprintf(to, room, "%" PRId64 "%s", v->integer, end)
                : v->kind == HARK_REAL    ? snprintf(to, room, "%.3f%s", v->real, end)
                : v->kind == HARK_TEXT ? snprintf(to, room, "%.40s%s", (const char *)v->data, end)
                                       : snprintf(to, room, "blob:%zu%s", v->len, end);
        l->at += (size_t)n;
    }
    return ++l->rows != l->most;
}

/* What a query beside the log gives. */
#define assert_query(f, expected, sql)                                                             \
    do {                                                                                           \
        lines l_ = {.rows = 0};                                                                    \
        assert_ok(f, OPS.query((f)->store, sql, HARK_NO_ARGS, line, &l_, &(f)->ei));               \
        assert_string_equal(expected, l_.text);                                                    \
    } while (0)

/* What a statement in the closure gives. */
#define assert_rows(f, expected, sql, ...)                                                         \
    do {                                                                                           \
        lines l_ = {.rows = 0};                                                                    \
        assert_ok(f, OPS.tx_run((f)->store, sql, __VA_ARGS__, line, &l_, NULL, &(f)->ei));         \
        assert_string_equal(expected, l_.text);                                                    \
    } while (0)

/* A log with a table of the program's. */
static inline int set_up_stock(void **state)
{
    (void)set_up(state);
    in_tx(*state, "CREATE TABLE stock(sku TEXT PRIMARY KEY, n INTEGER CHECK(n >= 0))");
    return 0;
}

#define STOCK(test) cmocka_unit_test_setup_teardown(test, set_up_stock, tear_down)

/* A group with two good closures, ready for the one that misbehaves. */
static inline void two_good(fixture *f)
{
    begin(f);
    good(f, 1);
    good(f, 2);
}

/* The group went on: a third closure joins, and the three are there, with sequences in a row. */
static inline void goes_on(fixture *f)
{
    good(f, 3);
    commit(f);
    assert_query(f, "good-1|1 good-2|2 good-3|3 ", "SELECT sku, n FROM stock ORDER BY sku");
    assert_reads(f, "1 2 3 end", .limit = 0);
}

/* The group was lost; without the culprit it is run again. */
static inline void begins_anew(fixture *f)
{
    assert_query(f, "0 ", "SELECT count(*) FROM stock");
    assert_reads(f, "end", .limit = 0);
    two_good(f);
    goes_on(f);
}

#endif
