/* Dead letters, as far as only this store has it: copies that stand alone, damage, a list that holds
 * nothing back, and redriving undone with its group. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"
#include "store/sqlite/store_i.h"

/* The ids of letters as text: "1 3 ". */
static bool note(void *ud, const hark_store_letter *l)
{
    char *text = ud;
    size_t at = strlen(text);
    (void)snprintf(text + at, 64 - at, "%llu ", (unsigned long long)l->id);
    return true;
}

/* Letters 1 to 5 of "c", at five events. */
static void five_letters(fixture *f, bool park)
{
    add_five(f);
    hark_store_consumer c = loaded(f, "c");
    for (uint64_t seq = 1; seq <= 5; seq++)
        assert_int_equal(bury(f, &c, seq, "rejected", park), seq);
    hark_store_consumer_clear(&c);
}

static bool take_event(void *ud, const hark_store_letter *l)
{
    *(hark_event **)ud = hark_event_ref(l->event);
    return false;
}

static hark_event *event_of_letter(fixture *f, uint64_t id)
{
    hark_event *e = NULL;
    assert_ok(f, OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .id = id), take_event,
                             &e, &f->ei));
    assert_non_null(e);
    return e;
}

static void assert_same_event(const hark_event *a, const hark_event *b)
{
    char *x, *y;
    size_t n, m;
    assert_int_equal(hark_event_sequence(a), hark_event_sequence(b));
    assert_int_equal(hark_event_recorded_ns(a), hark_event_recorded_ns(b));
    assert_int_equal(hark_event_time_ns(a), hark_event_time_ns(b));
    assert_int_equal(hark_event_to_json(a, &x, &n), HARK_OK);
    assert_int_equal(hark_event_to_json(b, &y, &m), HARK_OK);
    assert_string_equal(x, y);
    free(x);
    free(y);
    const void *p = hark_event_data(a, &n), *q = hark_event_data(b, &m);
    assert_int_equal(p == NULL, q == NULL);
    assert_int_equal(n, m);
    if (p)
        assert_memory_equal(p, q, n);
}

static void test_a_letter_has_the_whole_event_when_the_log_has_lost_it(void **state)
{
    fixture *f = *state;
    hark_ext ext[] = {{.name = "agent", .value = "x \"y\""},
                      {.name = "flag", .value = "true", .kind = HARK_EXT_BOOLEAN},
                      {.name = "level", .value = "-7", .kind = HARK_EXT_INTEGER}};
    page pg = {0};
    begin(f);
    (void)add_spec(
        f, HARK_OPTS(hark_event_spec, .type = "t", .id = "1", .source = "/s", .subject = "sub",
                     .key = "k", .time = "2026-01-31T13:00:00.50+01:00", .json = " {\"n\": 1}",
                     .dataschema = "urn:x", .correlationid = "co", .causationid = "ca",
                     .dataversion = 3, .extensions = ext, .n_extensions = 3,
                     .traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = "a\0b",
                                .data_len = 3, .datacontenttype = "text/plain"));
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s", .data = ""));
    (void)add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/s"));
    commit(f);
    hark_store_consumer c = loaded(f, "c");
    for (uint64_t seq = 1; seq <= 4; seq++)
        assert_int_equal(bury(f, &c, seq, "rejected", false), seq);
    assert_ok(f, read_into(f, &pg, (hark_store_query){0}));
    run_sql(f->path, "DELETE FROM hark_events WHERE seq < 4");
    for (uint64_t id = 1; id <= 4; id++) {
        hark_event *e = event_of_letter(f, id);
        assert_same_event(e, pg.events[id - 1]);
        hark_event_unref(e);
    }
    drop_page(&pg);
    hark_store_consumer_clear(&c);
}

static void test_a_damaged_letter_is_told_and_the_others_are_listed(void **state)
{
    fixture *f = *state;
    char before[64] = "", behind[64] = "";
    five_letters(f, false);
    run_sql(f->path, "UPDATE hark_dead_letters SET envelope = '{' WHERE id = 3");
    assert_err(f, HARK_ECORRUPT,
               OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .limit = 0), note, before,
                           &f->ei));
    assert_says(f, "dead letter 3 is damaged");
    assert_string_equal(before, "1 2 ");
    assert_ok(f, OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .after_id = 3), note,
                             behind, &f->ei));
    assert_string_equal(behind, "4 5 ");
}

static void test_a_damaged_letter_can_only_be_discarded(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    five_letters(f, false);
    run_sql(f->path, "UPDATE hark_dead_letters SET envelope = '{' WHERE id = 2");
    begin(f);
    assert_err(f, HARK_ECORRUPT, OPS.letter_redrive(f->store, 2, 77, &done, &f->ei));
    assert_says(f, "dead letter 2 is damaged; discard it");
    assert_ok(f, OPS.letter_discard(f->store, 2, &done, &f->ei));
    commit(f);
    assert_null(done.key);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_dead_letters"), 4);
}

static void test_a_rolled_back_redrive_has_not_happened(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    five_letters(f, true);
    begin(f);
    assert_ok(f, OPS.letter_redrive(f->store, 1, 77, &done, &f->ei));
    free(done.key);
    assert_ok(f, OPS.letter_discard(f->store, 2, &done, &f->ei));
    free(done.key);
    OPS.rollback(f->store);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_dead_letters WHERE state = 1"),
                     5);
    assert_int_equal(number_sql(f->path, "SELECT count(*) FROM hark_deliveries WHERE state = 4"),
                     5);
}

static bool at_rest(fixture *f)
{
    pthread_mutex_lock(&f->store->lock_readers);
    bool rests = f->store->n_busy == 0;
    pthread_mutex_unlock(&f->store->lock_readers);
    return rests;
}

static bool letter_at_rest(void *ud, const hark_store_letter *l)
{
    assert_non_null(hark_event_id(l->event));
    assert_true(at_rest(ud));
    return true;
}

static bool consumer_at_rest(void *ud, const hark_store_consumer_row *row)
{
    assert_non_null(row->name);
    assert_true(at_rest(ud));
    return true;
}

static bool attempt_at_rest(void *ud, const hark_store_attempt *a)
{
    assert_non_null(a->outcome);
    assert_true(at_rest(ud));
    return true;
}

static bool replay_at_rest(void *ud, const hark_store_replay *r)
{
    assert_non_null(r->id);
    assert_true(at_rest(ud));
    return true;
}

static void test_no_list_holds_back_checkpoints_while_it_is_shown(void **state)
{
    fixture *f = *state;
    five_letters(f, false);
    const hark_store_letters_query q = {.size = sizeof q};
    const hark_store_attempt failed = {.sequence = 1, .number = 1, .outcome = "retry"};
    const hark_store_replay replay = {.id = "r", .pattern = "t"};
    hark_store_consumer c = loaded(f, "c");
    hark_store_save v = save_of(&c);
    v.attempts = &failed;
    v.n_attempts = 1;
    hark_store_consumer_clear(&c);
    save(f, &v);
    begin(f);
    assert_ok(f, OPS.replay_put(f->store, &replay, &f->ei));
    commit(f);
    assert_ok(f, OPS.letters(f->store, &q, letter_at_rest, f, &f->ei));
    assert_ok(f, OPS.consumers(f->store, consumer_at_rest, f, &f->ei));
    assert_ok(f, OPS.attempts(f->store, c.ret_id, 1, attempt_at_rest, f, &f->ei));
    assert_ok(f, OPS.replays(f->store, replay_at_rest, f, &f->ei));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_letter_has_the_whole_event_when_the_log_has_lost_it),
        T(test_a_damaged_letter_is_told_and_the_others_are_listed),
        T(test_a_damaged_letter_can_only_be_discarded),
        T(test_a_rolled_back_redrive_has_not_happened),
        T(test_no_list_holds_back_checkpoints_while_it_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
