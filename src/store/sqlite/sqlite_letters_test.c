/* Dead letters as a list: each with its own copy of the event, found by filters, with its
 * attempts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/sqlite/ledger_fixture_i.h"
#include "store/sqlite/store_i.h"

/* The ids of the letters that a query finds, as text: "1 3 ". */
typedef struct ids {
    char text[128];
    size_t n, most;
} ids;

static bool note(void *ud, const hark_store_letter *l)
{
    ids *s = ud;
    size_t at = strlen(s->text);
    (void)snprintf(s->text + at, sizeof s->text - at, "%llu ", (unsigned long long)l->id);
    return ++s->n != s->most;
}

#define assert_finds(f, expected, ...)                                                             \
    do {                                                                                           \
        ids ids_ = {0};                                                                            \
        assert_ok(f, OPS.letters((f)->store, HARK_OPTS(hark_store_letters_query, __VA_ARGS__),     \
                                 note, &ids_, &(f)->ei));                                          \
        assert_string_equal(ids_.text, expected);                                                  \
    } while (0)

/* Letters 1 to 5: of "a" at 1, 2 and 3, of "b" at 1 and 4; 4 is of another type. */
static void five_letters(fixture *f)
{
    begin(f);
    (void)add(f, "order:paid", "1");
    (void)add(f, "order:paid", "2");
    (void)add(f, "order:sent", "3");
    (void)add(f, "user:made", "4");
    commit(f);
    hark_store_consumer a = loaded(f, "a"), b = loaded(f, "b");
    assert_int_equal(bury(f, &a, 1, "rejected", false), 1);
    assert_int_equal(bury(f, &a, 2, "max_attempts", false), 2);
    assert_int_equal(bury(f, &b, 1, "rejected", false), 3);
    assert_int_equal(bury(f, &b, 4, "crash", false), 4);
    assert_int_equal(bury(f, &a, 3, "rejected", false), 5);
    run_sql(f->path, "UPDATE dead_letters SET state = 2 WHERE id = 5");
    hark_store_consumer_clear(&a);
    hark_store_consumer_clear(&b);
}

static void test_each_filter_lets_through_what_it_names(void **state)
{
    fixture *f = *state;
    five_letters(f);
    assert_finds(f, "1 2 3 4 5 ", .limit = 0);
    assert_finds(f, "4 ", .id = 4);
    assert_finds(f, "", .id = 9);
    assert_finds(f, "1 2 5 ", .consumer = "a");
    assert_finds(f, "", .consumer = "nobody");
    assert_finds(f, "1 2 ", .consumer = "a", .state = HARK_LETTER_DEAD);
    assert_finds(f, "5 ", .state = HARK_LETTER_REDRIVEN);
    assert_finds(f, "1 3 5 ", .reason = "rejected");
    assert_finds(f, "1 3 ", .sequence = 1);
    assert_finds(f, "3 ", .sequence = 1, .consumer = "b");
    assert_finds(f, "1 2 3 5 ", .pattern = "order:*");
    assert_finds(f, "2 5 ", .from_ns = 20, .to_ns = 40);
    assert_finds(f, "", .id = 4, .consumer = "a");
    assert_finds(f, "", .id = 4, .pattern = "order:*");
}

static void test_pages_follow_each_other_by_id(void **state)
{
    fixture *f = *state;
    five_letters(f);
    assert_finds(f, "1 2 ", .limit = 2);
    assert_finds(f, "3 4 ", .limit = 2, .after_id = 2);
    assert_finds(f, "5 ", .limit = 2, .after_id = 4);
    assert_finds(f, "5 ", .consumer = "a", .after_id = 2);
    assert_finds(f, "2 ", .consumer = "a", .state = HARK_LETTER_DEAD, .after_id = 1);
    assert_finds(f, "", .consumer = "a", .sequence = 1, .after_id = 1);
    assert_finds(f, "1 3 ", .reason = "rejected", .limit = 2); /* of those that were found */
    ids two = {.most = 2};
    assert_ok(f, OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .limit = 4), note, &two,
                             &f->ei));
    assert_string_equal(two.text, "1 2 "); /* the caller said stop */
}

/* The one letter that is there; its event is the caller's. */
typedef struct one {
    hark_store_letter l;
    char consumer[16], reason[16], error[16];
    hark_event *event;
} one;

static bool take_one(void *ud, const hark_store_letter *l)
{
    one *o = ud;
    o->l = *l;
    (void)snprintf(o->consumer, sizeof o->consumer, "%s", l->consumer);
    (void)snprintf(o->reason, sizeof o->reason, "%s", l->reason);
    (void)snprintf(o->error, sizeof o->error, "%s", l->error);
    o->event = hark_event_ref(l->event);
    return false;
}

static hark_event *event_of_letter(fixture *f, uint64_t id)
{
    one o = {0};
    assert_ok(f, OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .id = id), take_one, &o,
                             &f->ei));
    assert_non_null(o.event);
    return o.event;
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
    run_sql(f->path, "DELETE FROM events WHERE seq < 4");
    for (uint64_t id = 1; id <= 4; id++) {
        hark_event *e = event_of_letter(f, id);
        assert_same_event(e, pg.events[id - 1]);
        hark_event_unref(e);
    }
    drop_page(&pg);
    hark_store_consumer_clear(&c);
}

static void test_a_letter_tells_how_it_came_about(void **state)
{
    fixture *f = *state;
    one o = {0};
    begin(f);
    (void)add(f, "t", "1");
    commit(f);
    hark_store_consumer c = loaded(f, "c");
    (void)bury(f, &c, 1, "crash", false);
    hark_store_consumer_clear(&c);
    reopen_log(f);
    assert_ok(f, OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .limit = 0), take_one,
                             &o, &f->ei));
    hark_event_unref(o.event);
    assert_string_equal(o.consumer, "c");
    assert_string_equal(o.reason, "crash");
    assert_string_equal(o.error, "no");
    assert_int_equal(o.l.consumer_id, c.ret_id);
    assert_int_equal(o.l.generation, 1);
    assert_int_equal(o.l.sequence, 1);
    assert_int_equal(o.l.attempts, 3);
    assert_int_equal(o.l.crashes, 2);
    assert_int_equal(o.l.interruptions, 1);
    assert_int_equal(o.l.first_ns, 5);
    assert_int_equal(o.l.dead_ns, 10);
    assert_int_equal(o.l.state, HARK_LETTER_DEAD);
}

static void test_a_damaged_letter_is_told_and_the_others_are_listed(void **state)
{
    fixture *f = *state;
    ids found = {0};
    five_letters(f);
    run_sql(f->path, "UPDATE dead_letters SET envelope = '{' WHERE id = 3");
    assert_err(f, HARK_ECORRUPT,
               OPS.letters(f->store, HARK_OPTS(hark_store_letters_query, .limit = 0), note, &found,
                           &f->ei));
    assert_says(f, "dead letter 3 is damaged");
    assert_string_equal(found.text, "1 2 ");
    assert_finds(f, "4 5 ", .after_id = 3);
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

static void test_no_list_holds_back_checkpoints_while_it_is_shown(void **state)
{
    fixture *f = *state;
    five_letters(f);
    const hark_store_letters_query q = {.size = sizeof q};
    assert_ok(f, OPS.letters(f->store, &q, letter_at_rest, f, &f->ei));
    assert_ok(f, OPS.consumers(f->store, consumer_at_rest, f, &f->ei));
}

static bool note_attempt(void *ud, const hark_store_attempt *a)
{
    char *text = ud;
    size_t at = strlen(text);
    (void)snprintf(text + at, 128 - at, "%lld:%s:%s ", (long long)a->number, a->outcome,
                   a->error ? a->error : "-");
    return a->number < 3;
}

static void test_attempts_are_those_of_one_consumer_at_one_event(void **state)
{
    fixture *f = *state;
    hark_store_consumer c = loaded(f, "c"), other = loaded(f, "other");
    hark_store_attempt of_c[] = {
        {.sequence = 7, .number = 1, .started_ns = 1, .outcome = "retry", .error = "busy"},
        {.sequence = 8, .number = 1, .started_ns = 1, .outcome = "retry"},
        {.sequence = 7, .number = 2, .started_ns = 2, .outcome = "crash"},
        {.sequence = 7, .number = 3, .started_ns = 3, .outcome = "reject", .error = "bad"},
        {.sequence = 7, .number = 4, .started_ns = 4, .outcome = "reject", .error = "not shown"}};
    hark_store_save v = save_of(&c), w = save_of(&other);
    char text[128] = "";
    v.attempts = of_c;
    v.n_attempts = HK_COUNTOF(of_c);
    w.attempts = of_c;
    w.n_attempts = 1;
    save(f, &v);
    save(f, &w);
    assert_ok(f, OPS.attempts(f->store, c.ret_id, 7, note_attempt, text, &f->ei));
    assert_string_equal(text, "1:retry:busy 2:crash:- 3:reject:bad ");
    hark_store_consumer_clear(&c);
    hark_store_consumer_clear(&other);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_each_filter_lets_through_what_it_names),
        T(test_pages_follow_each_other_by_id),
        T(test_a_letter_has_the_whole_event_when_the_log_has_lost_it),
        T(test_a_letter_tells_how_it_came_about),
        T(test_a_damaged_letter_is_told_and_the_others_are_listed),
        T(test_no_list_holds_back_checkpoints_while_it_is_shown),
        T(test_attempts_are_those_of_one_consumer_at_one_event),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
