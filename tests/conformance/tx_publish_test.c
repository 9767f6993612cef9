/* Transactions: what closures publish: receipts, conflicts, limits, stamps, structs; and what they keep under
 * a key. */
#include "shop.h"

static hark_err say_three(hark_tx *tx, void *ud)
{
    hark_receipt *r = ud;
    hark_err err = HARK_OK;
    for (int i = 0; i < 3 && !err; i++)
        err = hark_tx_publish(tx,
                              HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .subject = "s",
                                        .id = i == 1 ? "the second" : NULL),
                              &r[i]);
    if (!err && (r[0].sequence || r[2].sequence))
        err = hark_tx_fail(tx, HARK_EINTERNAL, "a receipt before the commit");
    return err;
}

static void test_receipts_are_filled_in_after_the_commit(void **state)
{
    fixture *f = *state;
    hark_receipt r[3] = {{0}}, last = {0};
    if (!shop_open(f))
        return;
    uint64_t before = publish(f, "other");
    assert_ok(f, hark_transact(f->bus, say_three, r, SHOP_PATIENT, &last, &f->ei));
    for (uint64_t i = 0; i < 3; i++) {
        assert_u64(r[i].sequence, before + 1 + i);
        assert_u64(r[i].subject_version, i + 1);
        assert_u64(r[i].durability, HARK_DISK);
        assert_u64(r[i].duplicate, 0);
        assert_true(strlen(r[i].id) > 0);
    }
    assert_string_equal(r[1].id, "the second");
    assert_memory_equal(&last, &r[2], sizeof last);
}

static void test_the_receipt_of_a_transaction_without_events_has_only_its_durability(void **state)
{
    fixture *f = *state;
    hark_receipt last;
    memset(&last, 0x55, sizeof last);
    if (!shop_open(f))
        return;
    shop_work w = {.sql = "INSERT INTO effects VALUES(1, 'x')"};
    assert_ok(f, hark_transact(f->bus, shop_do, &w, SHOP_PATIENT, &last, &f->ei));
    const hark_receipt expected = {.durability = HARK_DISK};
    assert_memory_equal(&last, &expected, sizeof last);
}

/* ---- what is published ------------------------------------------------------------------------- */

static hark_err say_with_id(hark_tx *tx, shop_work *w)
{
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(1)", HARK_NO_ARGS);
    return err ? err
               : hark_tx_publish(tx,
                                 HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .id = "one",
                                           .json = w->n ? "1" : "0"),
                                 &w->receipt);
}

static void test_a_conflict_of_ids_undoes_the_rows(void **state)
{
    fixture *f = *state;
    shop_work first = {.then = say_with_id}, other = {.then = say_with_id, .n = 1};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &first, NULL));
    assert_err(f, HARK_ECONFLICT, shop_run(f, &other, NULL));
    assert_int_equal(f->ei.err, HARK_ECONFLICT);
    shop_has(f, 1);
    uint64_t seq = first.receipt.sequence;
    assert_ok(f, shop_run(f, &first, NULL)); /* the same again is no conflict */
    assert_u64(first.receipt.sequence, seq);
    assert_true(first.receipt.duplicate != 0);
    assert_u64(shop_rows(f), 2);
    assert_u64(shop_events(f), 1);
}

static hark_err say_expecting(hark_tx *tx, shop_work *w)
{
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(1)", HARK_NO_ARGS);
    return err ? err
               : hark_tx_publish(tx,
                                 HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .subject = "s",
                                           .expected_version = w->n),
                                 &w->receipt);
}

static void test_another_version_than_expected_undoes_the_rows(void **state)
{
    fixture *f = *state;
    shop_work none = {.then = say_expecting, .n = HARK_EXPECT_NONE};
    shop_work one = {.then = say_expecting, .n = 1};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &none, NULL));
    assert_u64(none.receipt.subject_version, 1);
    assert_err(f, HARK_EVERSION, shop_run(f, &none, NULL));
    shop_has(f, 1);
    assert_ok(f, shop_run(f, &one, NULL));
    assert_u64(one.receipt.subject_version, 2);
    assert_err(f, HARK_EVERSION, shop_run(f, &one, NULL));
    shop_has(f, 2);
}

static hark_err say_two_expecting(hark_tx *tx, shop_work *w)
{
    hark_receipt *r = w->ud;
    for (int64_t i = 0; i < 2; i++) {
        hark_err err = hark_tx_publish(tx,
                                       HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .subject = "s",
                                                 .expected_version = i ? i : HARK_EXPECT_NONE),
                                       &r[i]);
        if (err)
            return err;
    }
    return hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(1), (2)", HARK_NO_ARGS);
}

static void test_versions_go_on_within_a_closure(void **state)
{
    fixture *f = *state;
    hark_receipt r[2] = {{0}};
    shop_work w = {.then = say_two_expecting, .ud = r};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(r[0].subject_version, 1);
    assert_u64(r[1].subject_version, 2);
    assert_err(f, HARK_EVERSION, shop_run(f, &w, NULL));
    shop_has(f, 2);
}

static hark_err say_twice(hark_tx *tx, shop_work *w)
{
    hark_receipt *r = w->ud;
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(1)", HARK_NO_ARGS);
    for (int i = 0; i < 2 && !err; i++)
        err = hark_tx_publish(tx,
                              HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .id = "twice",
                                        .json = i && w->n ? "2" : "1"),
                              &r[i]);
    return err;
}

static void test_an_id_that_a_closure_uses_twice_is_a_repeat_or_a_conflict(void **state)
{
    fixture *f = *state;
    hark_receipt r[2] = {{0}};
    shop_work other = {.then = say_twice, .n = 1, .ud = r}, same = {.then = say_twice, .ud = r};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_ECONFLICT, shop_run(f, &other, NULL));
    shop_has(f, 0);
    assert_ok(f, shop_run(f, &same, NULL));
    assert_true(!r[0].duplicate && r[1].duplicate);
    assert_u64(r[0].sequence, r[1].sequence);
    shop_has(f, 1);
}

static hark_err note_the_sequence(hark_tx *tx, const hark_receipt *last, void *ud)
{
    shop_work *w = ud;
    w->receipt = *last;
    w->seen = shop_say(tx, 9, NULL);
    hark_err err = hark_tx_exec(tx, "INSERT INTO effects(n) VALUES(?)",
                                HARK_ARGS(hark_int((int64_t)last->sequence)));
    return err || !w->n ? err : hark_tx_fail(tx, HARK_ECONFLICT, "too late");
}

static hark_err say_and_then(hark_tx *tx, shop_work *w)
{
    hark_tx_then(tx, note_the_sequence, w);
    return w->sql ? HARK_OK : shop_say(tx, 1, NULL);
}

static void test_what_is_done_after_appending_knows_the_sequence(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = say_and_then}, fails = {.then = say_and_then, .n = 1};
    shop_work silent = {.sql = "SELECT 1", .then = say_and_then};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_ECONFLICT, shop_run(f, &fails, NULL));
    assert_string_equal(f->ei.text, "too late");
    shop_has(f, 0);
    uint64_t before = publish(f, "other");
    assert_ok(f, shop_run(f, &w, NULL));
    assert_u64(w.receipt.sequence, before + 1);
    assert_u64(shop_ask(f, "SELECT n FROM effects"), before + 1);
    assert_true(w.seen != HARK_OK); /* nothing more is published */
    shop_has(f, 1);
    assert_ok(f, shop_run(f, &silent, NULL));
    assert_u64(silent.receipt.sequence, 0);
    assert_u64(shop_events(f), 1);
}

static hark_err say_many(hark_tx *tx, shop_work *w)
{
    hark_err err = HARK_OK;
    for (int64_t i = 0; i < w->n && !err; i++)
        err = shop_say(tx, i, NULL);
    w->seen = err;
    return err;
}

static void test_a_transaction_publishes_at_most_4096_events(void **state)
{
    fixture *f = *state;
    shop_work most = {.then = say_many, .n = 4096}, over = {.then = say_many, .n = 4097};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_ETOOBIG, shop_run(f, &over, TX(.deadline_ms = 10000)));
    assert_int_equal(over.seen, HARK_ETOOBIG);
    assert_says(f, "4096");
    assert_u64(shop_events(f), 0);
    assert_ok(f, shop_run(f, &most, TX(.deadline_ms = 10000)));
    assert_u64(shop_events(f), 4096);
}

static hark_err say_badly_and_go_on(hark_tx *tx, shop_work *w)
{
    w->seen = hark_tx_publish(tx, HARK_OPTS(hark_event_spec, .type = ""), NULL);
    (void)snprintf(w->text, sizeof w->text, "%s", hark_tx_error(tx));
    return shop_both(tx, w);
}

static void test_a_bad_event_is_refused_at_its_call_and_the_closure_may_go_on(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = say_badly_and_go_on};
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_int_equal(w.seen, HARK_EINVAL);
    assert_non_null(strstr(w.text, "type"));
    shop_has(f, 1);
}

static hark_err say_stamped(hark_tx *tx, shop_work *w)
{
    (void)w;
    hark_err err = shop_say(tx, 0, NULL);
    hark_tx_stamp(tx, "the story", "the cause");
    err = err ? err : shop_say(tx, 1, NULL);
    return err ? err
               : hark_tx_publish(
                     tx, HARK_OPTS(hark_event_spec, .type = SHOP_TYPE, .causationid = "its own"),
                     NULL);
}

static void test_stamps_are_given_to_what_has_none(void **state)
{
    fixture *f = *state;
    hark_page *page;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = say_stamped}, NULL));
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = SHOP_TYPE), &page, &f->ei));
    assert_u64(hark_page_count(page), 3);
    const hark_event *e[3];
    for (size_t i = 0; i < 3; i++)
        e[i] = hark_page_event(page, i);
    assert_null(hark_event_correlationid(e[0]));
    assert_string_equal(hark_event_correlationid(e[1]), "the story");
    assert_string_equal(hark_event_causationid(e[1]), "the cause");
    assert_string_equal(hark_event_correlationid(e[2]), "the story");
    assert_string_equal(hark_event_causationid(e[2]), "its own");
    hark_page_free(page);
}

typedef struct sale {
    char sku[16];
    int64_t n;
} sale;
HARK_JSON_TABLE(sale_json, sale, HARK_JSON_CHARS(sale, sku),
                HARK_JSON_INT(sale, n, HARK_JSON_RANGE(1, 100)));

static hark_err say_sale(hark_tx *tx, shop_work *w)
{
    const sale s = {.sku = "tea", .n = -7}, t = {.sku = "tea", .n = 8};
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = SHOP_TYPE);
    w->seen = hark_tx_publish_json(tx, spec, &sale_json, &s, NULL);
    return hark_tx_publish_json(tx, spec, &sale_json, &t, &w->receipt);
}

static void test_a_struct_is_published_through_its_table(void **state)
{
    fixture *f = *state;
    shop_work w = {.then = say_sale};
    hark_page *page;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &w, NULL));
    assert_int_equal(w.seen, HARK_ESCHEMA);
    assert_ok(f, hark_read(f->bus, HARK_OPTS(hark_read_opts, .type = SHOP_TYPE), &page, &f->ei));
    assert_u64(hark_page_count(page), 1);
    size_t len;
    assert_string_equal(hark_event_data(hark_page_event(page, 0), &len),
                        "{\"sku\":\"tea\",\"n\":8}");
    hark_page_free(page);
}

/* ---- values kept under a key -------------------------------------------------------------------- */

static hark_err keep_it(hark_tx *tx, shop_work *w)
{
    w->seen = hark_tx_keep(tx, "key", "a value", 8, w->n);
    return w->seen ? w->seen : shop_both(tx, w);
}

static hark_err get_it(hark_tx *tx, shop_work *w)
{
    void *got = NULL;
    size_t len = 0;
    hark_err err = hark_tx_kept(tx, "key", &got, &len);
    if (!err)
        (void)snprintf(w->text, sizeof w->text, "%zu %s", len, (const char *)got);
    free(got);
    return err;
}

static void test_a_kept_value_is_there_once_with_its_transaction(void **state)
{
    fixture *f = *state;
    shop_work keep = {.then = keep_it, .n = HOUR_MS}, get = {.then = get_it};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_ENOTFOUND, shop_run(f, &get, NULL));
    assert_ok(f, shop_run(f, &keep, NULL));
    assert_ok(f, shop_run(f, &get, NULL));
    assert_string_equal(get.text, "8 a value");
    assert_err(f, HARK_EEXIST, shop_run(f, &keep, NULL));
    shop_has(f, 1);
    reopen_bus(f, NULL);
    assert_ok(f, shop_run(f, &get, NULL));
    assert_err(f, HARK_EEXIST, shop_run(f, &keep, NULL));
    shop_has(f, 1);
}

static hark_err keep_and_fail(hark_tx *tx, shop_work *w)
{
    hark_err err = keep_it(tx, w);
    return err ? err : HARK_ECANCELED;
}

static void test_a_kept_value_vanishes_with_its_transaction_and_with_its_time(void **state)
{
    fixture *f = *state;
    shop_work lost = {.then = keep_and_fail, .n = HOUR_MS}, get = {.then = get_it};
    shop_work brief = {.then = keep_it, .n = 20}, again = {.then = keep_it, .n = HOUR_MS};
    if (!shop_open(f))
        return;
    assert_err(f, HARK_ECANCELED, shop_run(f, &lost, NULL));
    assert_err(f, HARK_ENOTFOUND, shop_run(f, &get, NULL));
    assert_ok(f, shop_run(f, &brief, NULL));
    WAIT_UNTIL(shop_run(f, &get, NULL) == HARK_ENOTFOUND);
    assert_ok(f, shop_run(f, &again, NULL));
    assert_ok(f, shop_run(f, &get, NULL));
}

static hark_err keep_badly(hark_tx *tx, shop_work *w)
{
    static char key[1026];
    memset(key, 'k', sizeof key - 1);
    const hark_err got[] = {hark_tx_keep(tx, "", "x", 1, 1), hark_tx_keep(tx, NULL, "x", 1, 1),
                            hark_tx_keep(tx, key, "x", 1, 1), hark_tx_keep(tx, "key", "x", 1, 0),
                            hark_tx_keep(tx, "key", "x", 1, -1)};
    for (size_t i = 0; i < HK_COUNTOF(got); i++)
        if (got[i] != HARK_EINVAL)
            return hark_tx_fail(tx, HARK_EINTERNAL, "call %zu gave %s", i, hark_err_name(got[i]));
    return hark_tx_keep(tx, key + 1, "", 0, w->n);
}

static void test_bad_keys_and_times_are_refused(void **state)
{
    fixture *f = *state;
    if (!shop_open(f))
        return;
    assert_ok(f, shop_run(f, &(shop_work){.then = keep_badly, .n = INT64_MAX}, NULL));
}

static const struct CMUnitTest tests[] = {
    TEST(test_receipts_are_filled_in_after_the_commit),
    TEST(test_the_receipt_of_a_transaction_without_events_has_only_its_durability),
    TEST(test_a_conflict_of_ids_undoes_the_rows),
    TEST(test_another_version_than_expected_undoes_the_rows),
    TEST(test_versions_go_on_within_a_closure),
    TEST(test_an_id_that_a_closure_uses_twice_is_a_repeat_or_a_conflict),
    TEST(test_a_transaction_publishes_at_most_4096_events),
    TEST(test_a_bad_event_is_refused_at_its_call_and_the_closure_may_go_on),
    TEST(test_stamps_are_given_to_what_has_none),
    TEST(test_a_struct_is_published_through_its_table),
    TEST(test_a_kept_value_is_there_once_with_its_transaction),
    TEST(test_a_kept_value_vanishes_with_its_transaction_and_with_its_time),
    TEST(test_bad_keys_and_times_are_refused),
    TEST(test_what_is_done_after_appending_knows_the_sequence),
};

CONFORMANCE_MAIN("tx_publish")
