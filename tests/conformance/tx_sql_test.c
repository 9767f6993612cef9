/* What SQL a closure and hark_query run: what fails and how it is told, values, rows, the store's own handle. What is denied
 * is in tx_denied_test.c. */
#include "refused.h"

static void test_sql_that_fails_is_told_with_its_own_text(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const wrong[] = {
        "NONSENSE",
        "INSERT INTO nowhere VALUES(1)",
        "SELECT no_function(1)",
        "SELECT nothing FROM effects",
        "INSERT INTO effects VALUES(1, 2, 3)",
        "INSERT INTO effects(n) VALUES(abs(-9223372036854775808) + abs(-9223372036854775807))",
        NULL};
    static const char *const of_sqlite[] = {"SELECT RAISE(ABORT, 'outside')", NULL};
    static const char *const of_postgresql[] = {
        "SELECT 1 / 0",
        "INSERT INTO effects(n) VALUES('x')",
        "SELECT 'never ended",
        "CREATE INDEX ON effects(nothing)",
        "INSERT INTO effects(n) VALUES(1) RETURNING nothing",
        NULL};
    refused_with(f, HARK_ESQL, wrong);
    refused_with(f, HARK_ESQL, said_to(f, of_sqlite, of_postgresql));
    assert_err(f, HARK_ESQL, shop_sql(f, "INSERT INTO nowhere VALUES(1)"));
    assert_says(f, dialect_of(f)->no_table);
}

static void test_statements_that_are_not_one_are_refused(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    static const char *const wrong[] = {
        "",
        "  -- nothing",
        "INSERT INTO effects(n) VALUES(1); INSERT INTO effects(n) VALUES(2)",
        "INSERT INTO effects(n) VALUES(1); nonsense",
        "INSERT INTO effects(n) VALUES(?)",
        NULL};
    refused_with(f, HARK_EINVAL, wrong);
    assert_ok(f, shop_sql(f, "INSERT INTO effects(n) VALUES(1); -- only a comment behind it"));
}

static void test_a_constraint_of_the_programs_own_is_told_as_one(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE strict(id INTEGER PRIMARY KEY, n INT NOT NULL CHECK(n > "
                             "0), u TEXT UNIQUE)"));
    assert_ok(f, shop_sql(f, "CREATE TABLE child(id INTEGER PRIMARY KEY, parent INT REFERENCES "
                             "strict(id))"));
    assert_ok(f, shop_sql(f, "INSERT INTO strict VALUES(1, 1, 'a')"));
    static const char *const wrong[] = {
        "INSERT INTO strict VALUES(1, 1, 'b')", "INSERT INTO strict VALUES(2, NULL, 'b')",
        "INSERT INTO strict VALUES(2, 0, 'b')", "INSERT INTO strict VALUES(2, 1, 'a')",
        "INSERT INTO child VALUES(1, 77)",      NULL};
    assert_ok(f, shop_sql(f, "INSERT INTO child VALUES(2, 1)"));
    refused_with(f, HARK_ECONSTRAINT, wrong);
    assert_u64(shop_ask(f, "SELECT count(*) FROM strict"), 1);
    assert_u64(shop_ask(f, "SELECT count(*) FROM child"), 1);
}

static hark_err three_rows_of_which_one_fails(hark_tx *tx, shop_work *w)
{
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)", HARK_ARGS(hark_int(w->n)));
    w->seen = hark_tx_exec(tx, "INSERT INTO one(n) VALUES(7), (8), (1)", HARK_NO_ARGS);
    (void)snprintf(w->text, sizeof w->text, "%s", hark_tx_error(tx));
    return err ? err : shop_say(tx, w->n, NULL);
}

static void test_an_error_undoes_its_statement_and_the_closure_may_go_on(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = three_rows_of_which_one_fails, .n = 5};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "CREATE TABLE one(n INTEGER PRIMARY KEY)"));
    assert_ok(f, shop_sql(f, "INSERT INTO one VALUES(1)"));
    assert_ok(f, shop_run(f, &w, NULL));
    assert_int_equal(w.seen, HARK_ECONSTRAINT);
    assert_non_null(strstr(w.text, dialect_of(f)->one_twice));
    assert_u64(shop_ask(f, "SELECT count(*) FROM one"), 1);
    shop_has(f, 1);
}

/* ---- values ------------------------------------------------------------------------------------- */

static bool check_row(const hark_row *row, void *ud)
{
    size_t len = 0;
    ++*(int *)ud;
    assert_u64(row->n, 5);
    assert_string_equal(row->names[0], "i");
    assert_string_equal(row->names[4], "z");
    assert_int_equal(row->values[0].kind, HARK_INTEGER);
    assert_int_equal(row->values[1].kind, HARK_REAL);
    assert_int_equal(row->values[2].kind, HARK_TEXT);
    assert_int_equal(row->values[3].kind, HARK_BLOB);
    assert_int_equal(row->values[4].kind, HARK_NULL);
    assert_true(hark_row_int(row, 0) == INT64_MIN);
    assert_true(hark_row_real(row, 1) == 0.5);
    assert_string_equal(hark_row_text(row, 2), "12 Äpfel");
    assert_memory_equal(hark_row_blob(row, 3, &len), "a\0b", 3);
    assert_u64(len, 3);
    assert_true(hark_row_null(row, 4));
    assert_false(hark_row_null(row, 0));
    assert_null(hark_row_text(row, 4));
    assert_null(hark_row_text(row, 0));
    assert_null(hark_row_text(row, 9));
    assert_true(hark_row_int(row, 4) == 0 && hark_row_int(row, 9) == 0);
    return true;
}

static hark_err write_values(hark_tx *tx, shop_work *w)
{
    (void)w;
    return hark_tx_exec(tx, "INSERT INTO kinds VALUES(?, ?, ?, ?, ?)",
                        HARK_ARGS(hark_int(INT64_MIN), hark_real(0.5), hark_text("12 Äpfel"),
                                  hark_blob("a\0b", 3), hark_text(NULL)));
}

static hark_err read_values(hark_tx *tx, shop_work *w)
{
    int rows = 0;
    hark_err err = hark_tx_query(tx, "SELECT * FROM kinds", HARK_NO_ARGS, check_row, &rows);
    w->n = rows;
    return err;
}

static void test_values_of_every_kind_come_back_as_they_were_given(void **state)
{
    fixture *f = *state;
    shop_work r = {.then = read_values};
    int rows = 0;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, dialect_of(f)->kinds));
    assert_ok(f, shop_run(f, &(shop_work){.then = write_values}, NULL));
    assert_ok(f, shop_run(f, &r, NULL));
    assert_u64(r.n, 1);
    assert_ok(f, hark_query(f->bus, "SELECT * FROM kinds WHERE r = ? AND b = ?",
                            HARK_ARGS(hark_real(0.5), hark_blob("a\0b", 3)), check_row, &rows,
                            &f->ei));
    assert_int_equal(rows, 1);
}

static bool second_row_is_enough(const hark_row *row, void *ud)
{
    (void)row;
    return ++*(int64_t *)ud < 2;
}

static hark_err query_returning(hark_tx *tx, shop_work *w)
{
    return hark_tx_query(tx, "INSERT INTO effects(n) VALUES(1), (2), (3), (4) RETURNING n",
                         HARK_NO_ARGS, second_row_is_enough, &w->n);
}

static void test_a_query_that_has_seen_enough_leaves_what_it_wrote(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = query_returning};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(w.n, 2);
    assert_u64(shop_rows(f), 4);
}

/* ---- the store's own handle ---------------------------------------------------------------------- */

static hark_err use_native(hark_tx *tx, shop_work *w)
{
    hark_err err = dialect_of(w->ud)->native_rows(tx, 3);
    return !err && w->n ? HARK_ECANCELED : err;
}

static void test_the_stores_own_handle_writes_in_the_transaction(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = use_native, .ud = f}, gives_up = {.then = use_native, .n = 1, .ud = f};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(shop_rows(f), 3);
    assert_err(f, HARK_ECANCELED, shop_run(f, &gives_up, NULL));
    assert_u64(shop_rows(f), 3);
}

static hark_err mix_both(hark_tx *tx, shop_work *w)
{
    const dialect *d = dialect_of(w->ud);
    hark_err err = HARK_OK;
    for (int i = 0; i < 3 && !err; i++) {
        err = d->native(tx, "INSERT INTO effects(n) VALUES(-1)");
        err = err ? err : hark_tx_exec(tx, "DELETE FROM effects WHERE n = -1", HARK_NO_ARGS);
        if (!err && hark_tx_changes(tx) != 1)
            err = hark_tx_fail(tx, HARK_EINTERNAL, "%lld changes", (long long)hark_tx_changes(tx));
        err = err ? err : hark_tx_keep(tx, i ? "b" : "a", "x", 1, HOUR_MS);
        if (i == 2 && err == HARK_EEXIST)
            err = HARK_OK;
        w->n = i;
        err = err ? err : shop_both(tx, w);
    }
    return err;
}

static void test_the_stores_own_handle_and_the_librarys_calls_take_turns(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = mix_both, .ud = f};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    shop_has(f, 3);
    shop_agrees(f);
}

/* ---- the library's own calls right behind a native statement ----------------------------------------- */

typedef hark_err (*behind_fn)(hark_tx *tx, shop_work *w);

static hark_err keeps(hark_tx *tx, shop_work *w)
{
    (void)w;
    return hark_tx_keep(tx, "k", "x", 1, HOUR_MS);
}

static hark_err asks_what_is_kept(hark_tx *tx, shop_work *w)
{
    void *data = NULL;
    size_t len = 0;
    (void)w;
    hark_err err = hark_tx_kept(tx, "k", &data, &len);
    free(data);
    return err;
}

/* Its id and its subject are looked up. */
static hark_err says_by_name(hark_tx *tx, shop_work *w)
{
    return hark_tx_publish(
        tx, HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .id = "mine", .subject = "s"),
        &w->receipt);
}

static hark_err each_behind_native(hark_tx *tx, shop_work *w)
{
    static const behind_fn all[] = {keeps, asks_what_is_kept, says_by_name};
    hark_err err = HARK_OK;
    for (size_t i = 0; i < HK_COUNTOF(all) && !err; i++) {
        err = dialect_of(w->ud)->native(tx, "INSERT INTO effects(n) VALUES(1)");
        err = err ? err : all[i](tx, w);
    }
    return err;
}

static void test_the_librarys_calls_work_right_behind_a_native_statement(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = each_behind_native, .ud = f};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(w.receipt.subject_version, 1);
    assert_u64(shop_rows(f), 3);
    assert_u64(shop_events(f), 1);
    dialect_of(f)->look(f);
}

static hark_err only_native(hark_tx *tx, shop_work *w)
{
    return dialect_of(w->ud)->native(tx, "INSERT INTO effects(n) VALUES(1)");
}

static hark_verdict settle_natively(hark_delivery *d, void *ud)
{
    hark_errinfo ei = {0};
    shop_work w = {.then = only_native, .ud = ud};
    return hark_delivery_transact(d, shop_do, &w, SHOP_PATIENT, &ei) ? HARK_RETRY : HARK_ACK;
}

static void test_a_native_statement_is_committed_with_the_ack_of_its_delivery(void **state)
{
    fixture *f = *state;
    hark_sub *sub;
    if (!shop_open(f))
        return;
    assert_ok(f, hark_subscribe(f->bus, "t", settle_natively, f,
                                HARK_OPTS(hark_sub_opts, .consumer = "c", .retry_delay_ms = 10),
                                &sub, &f->ei));
    publish(f, "t");
    WAIT_UNTIL(stats_of(sub).acked == 1);
    assert_u64(stats_of(sub).retried, 0);
    assert_u64(shop_rows(f), 1);
    end_sub(sub);
}

static hark_err keeps_what_is_no_text(hark_tx *tx, shop_work *w)
{
    hark_err err = hark_tx_keep(tx, "\xff", "x", 1, HOUR_MS);
    w->seen = err;
    return shop_both(tx, w); /* the closure may go on */
}

static void test_a_key_that_is_no_text_does_not_end_the_transaction(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = keeps_what_is_no_text};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    shop_has(f, 1);
    if (strcmp(f->store->name, "postgresql") == 0)
        assert_int_equal(w.seen, HARK_EINVAL);
}

/* A failure of the library's own statement has ended the server's transaction, whatever the closure returns. */
static hark_err breaks_what_keeps(hark_tx *tx, shop_work *w)
{
    fixture *f = w->ud;
    hark_err err = dialect_of(f)->native(tx, in_log(f, "ALTER TABLE @kept RENAME TO other").s);
    w->seen = keeps(tx, w);
    return err;
}

static void test_a_failure_of_the_librarys_own_statement_undoes_the_closure(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = breaks_what_keeps, .ud = f},
              good = {.then = each_behind_native, .ud = f};
    if (!shop_open(f))
        return;
    if (strcmp(f->store->name, "postgresql") != 0) {
        left_out(f, "a failing statement of the library's own", "it is not reached natively");
        return;
    }
    assert_err(f, HARK_ESTORE, shop_run(f, &w, NULL));
    assert_int_equal(w.seen, HARK_ESTORE);
    assert_int_equal(atomic_load(&w.runs), 2); /* by itself the second time */
    assert_ok(f, shop_run(f, &good, NULL));
    dialect_of(f)->look(f);
}

/* PostgreSQL's indexes take no long names; whoever shares the commit must not notice. */
static hark_err says_at_length(hark_tx *tx, shop_work *w)
{
    static char subject[60001];
    memset(subject, 's', sizeof subject - 1);
    (void)w;
    return hark_tx_publish(tx, HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .subject = subject),
                           NULL);
}

static void test_a_subject_that_is_too_long_for_the_store_is_refused(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    bool takes = strcmp(f->store->name, "postgresql") != 0;
    shop_work w = {.then = says_at_length};
    assert_err(f, takes ? HARK_OK : HARK_ETOOBIG, shop_run(f, &w, NULL));
    assert_u64(shop_events(f), takes ? 1 : 0);
    assert_int_equal(atomic_load(&w.runs), 1);
}

/* ---- reading beside the log ------------------------------------------------------------------------ */

static hark_err write_and_wait(hark_tx *tx, shop_work *w)
{
    hark_err err = shop_both(tx, w);
    latch_wait(w->ud);
    return err;
}

static void told(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    (void)last, (void)ei;
    shop_work *w = ud;
    w->seen = err;
    atomic_fetch_add(&w->runs, 100);
}

static void test_a_query_beside_the_log_sees_what_is_committed_and_no_more(void **state)
{
    fixture *f = *state;
    latch at;
    latch_init(&at);
    shop_work w = {.then = write_and_wait, .ud = &at};
    if (!shop_open(f))
        return;
    assert_ok(f, hark_transact_async(f->bus, shop_do, told, &w, SHOP_PATIENT, &f->ei));
    WAIT_UNTIL(atomic_load(&at.arrived) == 1);
    assert_u64(shop_rows(f), 0); /* nor does it wait for the writer */
    latch_open(&at);
    WAIT_UNTIL(atomic_load(&w.runs) > 100);
    assert_ok(f, w.seen);
    assert_u64(shop_rows(f), 1);
}

static bool take_columns(const hark_row *row, void *ud)
{
    *(int64_t *)ud = (int64_t)row->n;
    return true;
}

static bool take_first_two(const hark_row *row, void *ud)
{
    int64_t *n = ud;
    n[0] = hark_row_int(row, 0);
    n[1] = hark_row_int(row, 1);
    return true;
}

static hark_err count_columns(hark_tx *tx, shop_work *w)
{
    return hark_tx_query(tx, "SELECT * FROM effects", HARK_NO_ARGS, take_columns, &w->n);
}

/* The same text is prepared once and kept. */
static void test_a_statement_that_was_used_before_sees_a_changed_table(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = count_columns};
    int64_t n = 0;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_sql(f, "INSERT INTO effects VALUES(1, 'x')"));
    static const char *const more[] = {"ALTER TABLE effects ADD COLUMN a int",
                                       "ALTER TABLE effects ADD COLUMN b int DEFAULT 7"};
    for (size_t i = 0; i <= HK_COUNTOF(more); i++) {
        assert_ok(f, shop_run(f, &w, NULL));
        assert_u64(w.n, dialect_of(f)->columns + (int64_t)i);
        assert_ok(
            f, hark_query(f->bus, "SELECT * FROM effects", HARK_NO_ARGS, take_columns, &n, &f->ei));
        assert_u64(n, dialect_of(f)->columns + (int64_t)i);
        if (i < HK_COUNTOF(more))
            assert_ok(f, shop_sql(f, more[i]));
    }
    assert_ok(f, shop_sql(f, "DROP TABLE effects"));
    assert_err(f, HARK_ESQL, shop_run(f, &w, NULL));
    assert_err(f, HARK_ESQL,
               hark_query(f->bus, "SELECT * FROM effects", HARK_NO_ARGS, take_columns, &n, &f->ei));
}

typedef struct asker {
    fixture *f;
    pthread_t thread;
    atomic_int *stop;
    int64_t seen;
} asker;

static void *ask_main(void *arg)
{
    asker *a = arg;
    while (!atomic_load(a->stop)) {
        int64_t n[2] = {0, 0};
        MUST(hark_query(a->f->bus, "SELECT count(*), count(DISTINCT n) FROM effects", HARK_NO_ARGS,
                        take_first_two, n, NULL) == HARK_OK);
        MUST(n[0] == n[1] && n[0] % 2 == 0 && n[0] >= a->seen);
        a->seen = n[0];
    }
    return NULL;
}

static hark_err write_two(hark_tx *tx, shop_work *w)
{
    for (int i = 0; i < 2; i++) {
        hark_err err =
            hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)", HARK_ARGS(hark_int(2 * w->n + i)));
        if (err)
            return err;
    }
    return HARK_OK;
}

static void test_queries_beside_the_writer_never_see_half_a_transaction(void **state)
{
    enum { ASKERS = 3, N = 150 };
    fixture *f = *state;
    asker a[ASKERS];
    atomic_int stop;
    atomic_init(&stop, 0);
    if (!shop_open(f))
        return;
    for (int i = 0; i < ASKERS; i++) {
        a[i] = (asker){.f = f, .stop = &stop};
        MUST(pthread_create(&a[i].thread, NULL, ask_main, &a[i]) == 0);
    }
    for (int64_t n = 0; n < N; n++)
        assert_ok(f, shop_run(f, &(shop_work){.then = write_two, .n = n}, NULL));
    atomic_store(&stop, 1);
    for (int i = 0; i < ASKERS; i++)
        pthread_join(a[i].thread, NULL);
    assert_u64(shop_rows(f), 2 * N);
}

static const struct CMUnitTest tests[] = {
    TEST(test_sql_that_fails_is_told_with_its_own_text),
    TEST(test_statements_that_are_not_one_are_refused),
    TEST(test_a_constraint_of_the_programs_own_is_told_as_one),
    TEST(test_an_error_undoes_its_statement_and_the_closure_may_go_on),
    TEST(test_values_of_every_kind_come_back_as_they_were_given),
    TEST(test_a_query_that_has_seen_enough_leaves_what_it_wrote),
    TEST(test_the_stores_own_handle_writes_in_the_transaction),
    TEST(test_the_stores_own_handle_and_the_librarys_calls_take_turns),
    TEST(test_the_librarys_calls_work_right_behind_a_native_statement),
    TEST(test_a_native_statement_is_committed_with_the_ack_of_its_delivery),
    TEST(test_a_key_that_is_no_text_does_not_end_the_transaction),
    TEST(test_a_failure_of_the_librarys_own_statement_undoes_the_closure),
    TEST(test_a_subject_that_is_too_long_for_the_store_is_refused),
    TEST(test_a_query_beside_the_log_sees_what_is_committed_and_no_more),
    TEST(test_a_statement_that_was_used_before_sees_a_changed_table),
    TEST(test_queries_beside_the_writer_never_see_half_a_transaction),
};

CONFORMANCE_MAIN("tx_sql")
