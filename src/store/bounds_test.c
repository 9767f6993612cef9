/* What the memory store's ledger keeps, and lists that are read while others write. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/memory/memory.h"
#include "store/store_test_i.h"

/* ---- bounds ------------------------------------------------------------------------------------ */

/* An event that the log need not have. */
static hark_event *event_from_afar(uint64_t seq)
{
    hark_event *e =
        event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = "far", .source = "/test"));
    hark_event_stamp(e, seq, 1);
    return e;
}

/* n letters of events from `seq` on, in saves of up to 1024; the id of the last. */
static uint64_t bury_many(fixture *f, uint64_t seq, size_t n)
{
    enum { BATCH = 1024 };
    hark_store_dead dead[BATCH];
    hark_store_save v = save_of(f, "c");
    v.dead = dead;
    for (size_t left = n; left; left -= v.n_dead) {
        v.n_dead = left < BATCH ? left : BATCH;
        for (size_t i = 0; i < v.n_dead; i++)
            dead[i] = (hark_store_dead){
                .event = event_from_afar(seq++), .reason = "rejected", .dead_ns = 1};
        save(f, &v);
        for (size_t i = 0; i < v.n_dead; i++)
            hark_event_unref(dead[i].event);
    }
    return dead[v.n_dead - 1].ret_id;
}

typedef struct ids {
    uint64_t first, last, n;
} ids;

static bool note_id(void *ud, const hark_store_letter *l)
{
    ids *x = ud;
    x->first = x->n ? x->first : l->id;
    assert_true(l->id > x->last);
    x->last = l->id;
    x->n++;
    return true;
}

static ids all_ids(fixture *f)
{
    ids x = {0};
    const hark_store_letters_query q = {.size = sizeof q};
    assert_ok(f, f->ops->letters(f->store, &q, note_id, &x, &f->ei));
    return x;
}

static void test_the_newest_dead_letters_are_kept(void **state)
{
    fixture *f = *state;
    uint64_t last = bury_many(f, 1, HK_MEM_LETTERS + 100);
    ids x = all_ids(f);
    assert_int_equal(x.n, HK_MEM_LETTERS);
    assert_int_equal(x.last, last);
    assert_int_equal(x.first, last - HK_MEM_LETTERS + 1);
}

static void test_bytes_of_dead_letters_are_bounded(void **state)
{
    fixture *f = *state;
    enum { SIZE = 8 << 20 };
    char *data = calloc(1, SIZE);
    assert_non_null(data);
    uint64_t seq = add_spec(f, HARK_OPTS(hark_event_spec, .type = "t", .source = "/test",
                                         .data = data, .data_len = SIZE));
    free(data);
    uint64_t last = 0;
    for (size_t i = 0; i < 100; i++)
        last = bury(f, "c", seq, false);
    ids x = all_ids(f);
    assert_int_equal(x.n, HK_MEM_LETTER_BYTES / SIZE - 1); /* each is a little more than its data */
    assert_int_equal(x.last, last);
}

static void test_the_head_of_a_parked_lane_is_kept_however_old_it_is(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    (void)add(f, "t", NULL, "k");
    add_some(f, 1);
    uint64_t parked = bury(f, "c", 1, true), loose = bury(f, "c", 2, false);
    (void)bury_many(f, 3, HK_MEM_LETTERS);
    assert_int_equal(all_ids(f).n, HK_MEM_LETTERS + 1);
    assert_letters_of(f, "1 of c", .id = parked);
    assert_letters_of(f, "", .id = loose);
    write_ok(f, f->ops->letter_redrive(f->store, parked, 0, &done, &f->ei));
    free(done.key);
    (void)bury_many(f, HK_MEM_LETTERS + 3, 10);
    assert_letters_of(f, "1 of c redriven", .id = parked);
    drop_row(f, "c", 1);
    assert_int_equal(all_ids(f).n, HK_MEM_LETTERS);
}

static void test_the_newest_attempts_of_an_event_are_kept(void **state)
{
    fixture *f = *state;
    text t = {.most = 1};
    char first[32];
    hark_store_row row = {.sequence = 1, .state = HARK_ROW_RETRY};
    add_some(f, 1);
    for (int64_t i = 1; i <= HK_MEM_ATTEMPTS + 5; i++) {
        hark_store_attempt a = {.sequence = 1, .number = i, .outcome = "retry"};
        hark_store_save v = save_of(f, "c");
        v.put = &row;
        v.attempts = &a;
        v.n_put = v.n_attempts = 1;
        save(f, &v);
    }
    (void)snprintf(first, sizeof first, "%d retry -", 6);
    assert_string_equal(first, attempts_text(f, "c", 1, &t));
    t = (text){.n = 0};
    (void)attempts_text(f, "c", 1, &t);
    assert_int_equal(t.n, HK_MEM_ATTEMPTS);
}

static void test_attempts_go_when_nothing_is_left_of_their_event(void **state)
{
    fixture *f = *state;
    hark_store_letter_done done = {0};
    add_some(f, 2);
    uint64_t id = bury(f, "c", 1, true);
    (void)bury(f, "c", 2, false);
    write_ok(f, f->ops->letter_discard(f->store, id, &done, &f->ei));
    free(done.key);
    assert_attempts(f, "", "c", 1);
    drop_row(f, "c", 2);
    assert_attempts(f, "1 reject no", "c", 2);
}

/* ---- lists beside writes ----------------------------------------------------------------------- */

static bool redrive_it(void *ud, const hark_store_letter *l)
{
    fixture *f = ud;
    hark_store_letter_done done = {0};
    if (l->state == HARK_LETTER_DEAD)
        assert_ok(f, f->ops->letter_redrive(f->store, l->id, 0, &done, &f->ei));
    free(done.key);
    assert_string_equal(l->consumer, "c"); /* still lent */
    return true;
}

static void test_who_lists_letters_may_redrive_them(void **state)
{
    fixture *f = *state;
    const hark_store_letters_query q = {.size = sizeof q};
    add_some(f, 3);
    for (uint64_t seq = 1; seq <= 3; seq++)
        (void)bury(f, "c", seq, false);
    assert_ok(f, f->ops->letters(f->store, &q, redrive_it, f, &f->ei));
    assert_rows(f, "1 retry; 2 retry; 3 retry", "c");
}

typedef struct reader {
    fixture *f;
    uint64_t consumer;
    hk_mark stop, rounds, wrong;
} reader;

static bool look_at_consumer(void *ud, const hark_store_consumer_row *row)
{
    return *(bool *)ud = *(bool *)ud && strcmp(row->name, "c") == 0 && row->retrying <= 1;
}

static bool look_at_letter(void *ud, const hark_store_letter *l)
{
    return *(bool *)ud = *(bool *)ud && hark_event_sequence(l->event) == l->sequence;
}

static bool look_at_attempt(void *ud, const hark_store_attempt *a)
{
    return *(bool *)ud = *(bool *)ud && strcmp(a->outcome, "reject") == 0;
}

static void *list_all(void *arg)
{
    reader *r = arg;
    const hark_store_ops *ops = r->f->ops;
    const hark_store_letters_query q = {.size = sizeof q};
    while (!hk_mark_get(&r->stop)) {
        bool ok = true;
        if (ops->consumers(r->f->store, look_at_consumer, &ok, NULL) ||
            ops->letters(r->f->store, &q, look_at_letter, &ok, NULL) ||
            ops->attempts(r->f->store, r->consumer, 1, look_at_attempt, &ok, NULL) || !ok)
            hk_mark_set(&r->wrong, 1);
        hk_mark_set(&r->rounds, hk_mark_get(&r->rounds) + 1);
    }
    return NULL;
}

static void test_lists_are_whole_while_others_write(void **state)
{
    fixture *f = *state;
    reader r = {.f = f, .consumer = save_of(f, "c").consumer};
    pthread_t thread;
    add_some(f, 2);
    assert_int_equal(pthread_create(&thread, NULL, list_all, &r), 0);
    for (int i = 0; i < 100 || hk_mark_get(&r.rounds) < 20; i++) {
        hark_store_letter_done done = {0};
        uint64_t id = bury(f, "c", 1, false), other = bury(f, "c", 2, true);
        write_ok(f, f->ops->letter_redrive(f->store, id, 0, &done, &f->ei));
        free(done.key);
        write_ok(f, f->ops->letter_discard(f->store, other, &done, &f->ei));
        free(done.key);
        drop_row(f, "c", 1);
    }
    hk_mark_set(&r.stop, 1);
    pthread_join(thread, NULL);
    assert_int_equal(hk_mark_get(&r.wrong), 0);
    assert_letters(f, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON("memory", test_the_newest_dead_letters_are_kept),
        ON("memory", test_bytes_of_dead_letters_are_bounded),
        ON("memory", test_the_head_of_a_parked_lane_is_kept_however_old_it_is),
        ON("memory", test_the_newest_attempts_of_an_event_are_kept),
        ON("memory", test_attempts_go_when_nothing_is_left_of_their_event),
        ON("memory", test_who_lists_letters_may_redrive_them),
        EACH(test_lists_are_whole_while_others_write),
    };
    (void)setenv("HARK_LOG", "error", 0); /* the warning is expected */
    return RUN_CONTRACT(tests);
}
