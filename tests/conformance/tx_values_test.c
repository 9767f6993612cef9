/* Placeholders and values of a program's statements, as far as the stores' dialects agree; what only one of them has
 * is left out on the others with a reason. */
#include "shop.h"

#include <locale.h>

static bool sum_up(const hark_row *row, void *ud)
{
    int64_t *sum = ud;
    for (size_t i = 0; i < row->n; i++)
        *sum = *sum * 10 + hark_row_int(row, i);
    return true;
}

static hark_err numbered(hark_tx *tx, shop_work *w)
{
    static const char *const same[] = {
        "SELECT n, ?1 + 0, ?2 + 0, ?1 + 0 FROM effects WHERE n = ?2",
        "SELECT n, ? + 0, ? + 0, ?1 + 0 FROM effects WHERE n = ?2 -- what?",
        "SELECT n, ?/*?*/+ 0,?+0, ?1+0 FROM effects WHERE note = 'why?' AND n = ?2;"};
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n, note) VALUES(?2, ?1)",
                                HARK_ARGS(hark_text("why?"), hark_int(4)));
    for (size_t i = 0; i < HK_COUNTOF(same) && !err; i++) {
        w->n = 0;
        err = hark_tx_query(tx, same[i], HARK_ARGS(hark_int(3), hark_int(4)), sum_up, &w->n);
        if (!err && w->n != 4343)
            err = hark_tx_fail(tx, HARK_EINTERNAL, "%s: %lld", same[i], (long long)w->n);
    }
    return err;
}

static void test_placeholders_may_have_numbers(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = numbered}, NULL));
}

enum { MANY = 300 };

static hark_err with_many(hark_tx *tx, shop_work *w)
{
    hark_value args[MANY];
    char sql[64 + MANY * 5] = "INSERT INTO effects(n) VALUES";
    for (int i = 0; i < MANY; i++) {
        args[i] = hark_int(i);
        size_t at = strlen(sql);
        (void)snprintf(sql + at, sizeof sql - at, "%s(?)", i ? "," : "");
    }
    hark_err err = hark_tx_exec(tx, sql, args, MANY);
    w->n = hark_tx_changes(tx);
    return err;
}

static void test_a_statement_takes_many_arguments(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = with_many};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(w.n, MANY);
    assert_u64(shop_ask(f, "SELECT sum(n) FROM effects"), MANY * (MANY - 1) / 2);
}

/* Three times as many as are kept prepared, twice over, some with a blob in place of a text. */
static hark_err many_statements(hark_tx *tx, shop_work *w)
{
    hark_err err = HARK_OK;
    for (int i = 0; i < 192 && !err; i++) {
        char sql[80];
        (void)snprintf(sql, sizeof sql, "SELECT length(?), %d + 0", i % 96);
        int64_t sum = 0;
        err = hark_tx_query(tx, sql, HARK_ARGS(i % 3 ? hark_text("abc") : hark_blob("a\0b\0", 4)),
                            sum_up, &sum);
        if (!err && sum != (i % 3 ? 30 : 40) + i % 96)
            err = hark_tx_fail(tx, HARK_EINTERNAL, "%s: %lld", sql, (long long)sum);
    }
    (void)w;
    return err;
}

static void test_a_closure_runs_more_statements_than_are_kept(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    for (int i = 0; i < 2; i++)
        assert_ok(f, shop_run(f, &(shop_work){.then = many_statements}, NULL));
}

static bool take_reals(const hark_row *row, void *ud)
{
    double *real = ud;
    *real = hark_row_real(row, 0);
    return true;
}

static const double reals[] = {0.1,     -0.5,   1e300,    4.9e-324, 1.7976931348623157e308,
                               1.0 / 3, 123456, -1.25e-9, 0};

static hark_err reals_there_and_back(hark_tx *tx, shop_work *w)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < HK_COUNTOF(reals) && !err; i++) {
        double back = -1;
        err = hark_tx_exec(tx, "INSERT INTO kinds(r) VALUES(?)", HARK_ARGS(hark_real(reals[i])));
        err = err ? err
                  : hark_tx_query(tx, "SELECT r FROM kinds WHERE r = ?",
                                  HARK_ARGS(hark_real(reals[i])), take_reals, &back);
        if (!err && (back < reals[i] || back > reals[i]))
            err = hark_tx_fail(tx, HARK_EINTERNAL, "%.17g became %.17g", reals[i], back);
    }
    (void)w;
    return err;
}

static void test_reals_are_exact_in_every_locale(void **state)
{
    static const char *const locales[] = {"C", "de_DE.UTF-8", "fr_FR.UTF-8"};
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, dialect_of(f)->kinds));
    for (size_t i = 0; i < HK_COUNTOF(locales); i++) {
        if (!setlocale(LC_NUMERIC, locales[i])) /* not every machine has all */
            continue;
        assert_ok(f, shop_sql(f, "DELETE FROM kinds"));
        assert_ok(f, shop_run(f, &(shop_work){.then = reals_there_and_back}, NULL));
    }
    (void)setlocale(LC_NUMERIC, "C");
}

static hark_err bad_arguments(hark_tx *tx, shop_work *w)
{
    static const char sql[] = "INSERT INTO effects(note) VALUES(?)";
    const hark_value odd = {.kind = 77}, nothing = {.kind = HARK_TEXT, .len = 3};
    MUST(hark_tx_exec(tx, sql, &odd, 1) == HARK_EINVAL);
    MUST(hark_tx_exec(tx, sql, &nothing, 1) == HARK_EINVAL);
    MUST(hark_tx_exec(tx, sql, NULL, 1) == HARK_EINVAL);
    MUST(hark_tx_exec(tx, NULL, HARK_NO_ARGS) == HARK_EINVAL);
    MUST(hark_tx_exec(tx, sql, HARK_ARGS(hark_int(1), hark_int(2))) == HARK_EINVAL);
    return shop_both(tx, w);
}

static void test_arguments_that_are_none_are_refused(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = bad_arguments}, NULL));
    shop_has(f, 1);
}

/* ---- PostgreSQL's own ------------------------------------------------------------------------------ */

static bool only_there(fixture *f, const char *what)
{
    if (shop_open(f) && strcmp(f->store->name, "postgresql") != 0)
        left_out(f, what, "it is PostgreSQL's own");
    return dialect_of(f) != NULL;
}

static bool take_kinds(const hark_row *row, void *ud)
{
    char *kinds = ud;
    for (size_t i = 0; i < row->n; i++)
        kinds[i] = "NIRTB"[row->values[i].kind];
    return true;
}

static void test_types_of_postgresql_become_the_kinds_of_values(void **state)
{
    fixture *f = *state;
    char kinds[16] = "";
    if (!only_there(f, "its types"))
        return;
    assert_ok(f, hark_query(f->bus,
                            "SELECT 1::int2, 2, 3::int8, true, 0.5::float4, 1e5::float8, 12.34, "
                            "'a'::bytea, 'x', now(), '{}'::jsonb, NULL, 'int8'::regtype::oid",
                            HARK_NO_ARGS, take_kinds, kinds, &f->ei));
    assert_string_equal(kinds, "IIIIRRRBTTTNI");
}

static void test_a_doubled_question_mark_is_the_operator(void **state)
{
    fixture *f = *state;
    int64_t n = 0;
    if (!only_there(f, "the operator ?"))
        return;
    assert_ok(f, hark_query(f->bus, "SELECT '{\"a\": 1}'::jsonb ?? ?, '[\"b\"]'::jsonb ??| ?",
                            HARK_ARGS(hark_text("a"), hark_text("{b,c}")), sum_up, &n, &f->ei));
    assert_u64(n, 11);
}

static void test_a_text_with_a_nul_is_refused(void **state)
{
    fixture *f = *state;
    if (!only_there(f, "no NUL in texts"))
        return;
    const hark_value nul = {.kind = HARK_TEXT, .data = "a\0b", .len = 3};
    assert_err(f, HARK_EINVAL, hark_query(f->bus, "SELECT ?", &nul, 1, NULL, NULL, &f->ei));
    assert_says(f, "blob");
}

/* A deferred constraint is looked at when the closure ends, also one that a trigger keeps, and what was broken for
 * a while is fine. */
static hark_err break_and_mend(hark_tx *tx, shop_work *w)
{
    static const char *const all[] = {"INSERT INTO child VALUES(8)",
                                      "INSERT INTO parent VALUES(8)"};
    for (size_t i = 0; i < HK_COUNTOF(all) - (size_t)w->n; i++) {
        hark_err err = hark_tx_exec(tx, all[i], HARK_NO_ARGS);
        if (err)
            return err;
    }
    return shop_both(tx, w);
}

static void test_deferred_constraints_are_looked_at_when_the_closure_ends(void **state)
{
    fixture *f = *state;
    shop_work broken = {.then = break_and_mend, .n = 1}, mended = {.then = break_and_mend};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE parent(n INTEGER PRIMARY KEY)"));
    assert_ok(f, shop_sql(f, "CREATE TABLE child(parent INT REFERENCES parent(n) "
                             "DEFERRABLE INITIALLY DEFERRED)"));
    assert_err(f, HARK_ECONSTRAINT, shop_run(f, &broken, NULL));
    shop_has(f, 0);
    assert_ok(f, shop_run(f, &mended, NULL));
    assert_err(f, HARK_ECONSTRAINT, shop_sql(f, "DELETE FROM parent"));
    shop_has(f, 1);
}

static const struct CMUnitTest tests[] = {
    TEST(test_placeholders_may_have_numbers),
    TEST(test_a_statement_takes_many_arguments),
    TEST(test_a_closure_runs_more_statements_than_are_kept),
    TEST(test_reals_are_exact_in_every_locale),
    TEST(test_arguments_that_are_none_are_refused),
    TEST(test_deferred_constraints_are_looked_at_when_the_closure_ends),
    TEST(test_types_of_postgresql_become_the_kinds_of_values),
    TEST(test_a_doubled_question_mark_is_the_operator),
    TEST(test_a_text_with_a_nul_is_refused),
};

CONFORMANCE_MAIN("tx_values")
