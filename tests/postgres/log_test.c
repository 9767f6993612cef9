/* Several processes write to one log: sequences, repeats, versions, schedules, replays and retention are as of one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "several_i.h"

#include <pthread.h>

/* ---- sequences --------------------------------------------------------------------------------- */

enum { GROUPS = 40 };

/* Groups of one to three events, of which some are given up. */
static void *append_many(void *arg)
{
    fixture *f = arg;
    hark_store_append a;
    for (int i = 0; i < GROUPS; i++) {
        if (f->ops->begin(f->store, &f->ei))
            return f->ei.text;
        for (int j = 0; j <= i % 3; j++)
            if (append_id(f, NULL, j ? "about" : NULL, &a))
                return f->ei.text;
        if (i % 5 == 4)
            f->ops->rollback(f->store);
        else if (f->ops->commit(f->store, &f->ei))
            return f->ei.text;
    }
    return NULL;
}

static void check_page(const hark_store_page *page, uint64_t *seq, int64_t *recorded,
                       int64_t *version)
{
    for (size_t i = 0; i < page->n; i++) {
        hark_event *e = page->events[i];
        assert_int_equal(hark_event_sequence(e), ++*seq);
        assert_true(hark_event_recorded_ns(e) >= *recorded);
        *recorded = hark_event_recorded_ns(e);
        if (hark_event_subject(e))
            assert_int_equal(hark_event_subject_version(e), ++*version);
        (void)hark_event_unref(e);
    }
}

static void test_sequences_and_versions_have_no_holes_whoever_appends(void **state)
{
    several *x = *state;
    pthread_t threads[SEVERAL];
    hark_event *events[64];
    hark_store_page page = {.events = events};
    uint64_t seq = 0;
    int64_t recorded = 0, version = 0;
    void *why;
    for (size_t i = 0; i < SEVERAL; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_many, &x->at[i]), 0);
    for (size_t i = 0; i < SEVERAL; i++) {
        assert_int_equal(pthread_join(threads[i], &why), 0);
        if (why)
            fail_msg("append: %s", (char *)why);
    }
    do {
        const hark_store_query q = {.size = sizeof q, .after = seq, .limit = 64};
        assert_ok(&x->at[0], x->at[0].ops->read(x->at[0].store, &q, &page, &x->at[0].ei));
        check_page(&page, &seq, &recorded, &version);
    } while (!page.end);
    assert_int_equal(seq, run_in(x, "SELECT last FROM %s.log"));
    assert_true(seq > GROUPS * SEVERAL);
}

static void test_what_is_in_the_log_is_a_repeat_for_all(void **state)
{
    several *x = *state;
    hark_store_append a;
    (void)add(&x->at[0], "t", "one", NULL);
    (void)add(&x->at[1], "t", "two", NULL);
    begin(&x->at[2]);
    assert_err(&x->at[2], HARK_ECONFLICT, append_id(&x->at[2], "one", NULL, &a));
    assert_int_equal(a.ret_sequence, 1);
    assert_ok(&x->at[2], append_id(&x->at[2], "three", NULL, &a));
    commit(&x->at[2]);
    assert_int_equal(a.ret_sequence, 3);
    begin(&x->at[0]);
    assert_ok(&x->at[0], append_id(&x->at[0], "three", NULL, &a));
    commit(&x->at[0]);
    assert_true(a.ret_duplicate);
    assert_int_equal(a.ret_sequence, 3);
}

static void test_a_group_without_events_does_not_wait_for_one_with(void **state)
{
    several *x = *state;
    hark_store_append a;
    hark_store_consumer c = consumer("c");
    begin(&x->at[0]);
    assert_ok(&x->at[0], append_id(&x->at[0], NULL, NULL, &a));
    assert_ok(&x->at[1], load(&x->at[1], &c));
    hark_store_consumer_clear(&c);
    commit(&x->at[0]);
    assert_int_equal(a.ret_sequence, 1);
}

static void test_a_group_that_stands_still_lets_the_log_go(void **state)
{
    several *x = *state;
    hark_store_append a;
    begin(&x->at[0]);
    assert_ok(&x->at[0], append_id(&x->at[0], NULL, NULL, &a));
    assert_int_equal(add(&x->at[1], "t", NULL, NULL), 1); /* waits for seconds */
    assert_err(&x->at[0], HARK_ESTORE, x->at[0].ops->commit(x->at[0].store, &x->at[0].ei));
    assert_says(&x->at[0], "nothing was stored");
    assert_int_equal(add(&x->at[0], "t", NULL, NULL), 2);
}

static void *open_one(void *arg)
{
    hark_errinfo ei = {0};
    const hark_store_ops *ops;
    const char *rest;
    hark_store *s = NULL;
    hark_err err = hk_store_find(arg, &ops, &rest, &ei);
    if (!err)
        err = ops->open(rest, NULL, NULL, &s, &ei);
    if (!err)
        ops->close(s);
    else
        (void)fprintf(stderr, "%s\n", ei.text);
    return err ? arg : NULL;
}

static void test_a_new_log_may_be_opened_by_several_at_once(void **state)
{
    (void)state;
    enum { OPENERS = 6 };
    pthread_t threads[OPENERS];
    char url[128];
    void *why;
    (void)snprintf(url, sizeof url, "%s?log=at_once", server_url(the_server));
    for (size_t i = 0; i < OPENERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_one, url), 0);
    for (size_t i = 0; i < OPENERS; i++) {
        assert_int_equal(pthread_join(threads[i], &why), 0);
        assert_null(why);
    }
}

static void test_a_process_that_was_forgotten_is_registered_again(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    hark_store_append a;
    (void)run_in(x, "WITH t AS (DELETE FROM %s.tickets) DELETE FROM %s.processes");
    begin(f);
    assert_ok(f, append_id(f, NULL, NULL, &a));
    assert_err(f, HARK_ESTORE, f->ops->commit(f->store, &f->ei));
    assert_int_equal(add(f, "t", NULL, NULL), 1);
    assert_int_equal(run_in(x, "SELECT count(*) FROM %s.processes"), 1);
}

/* ---- schedules --------------------------------------------------------------------------------- */

static uint64_t schedule(fixture *f, const char *id, int64_t due_ns, bool *ret_duplicate)
{
    hark_store_schedule sch = {
        .due_ns = due_ns,
        .created_ns = hk_wall_ns(),
        .event = event_of(HARK_OPTS(hark_event_spec, .type = "t", .id = id, .source = "/test"))};
    uint64_t seq = 0;
    hk_event_digest(sch.event, f->info.log_id, sch.digest);
    write_ok(f, f->ops->schedule_add(f->store, &sch, &seq, ret_duplicate, &f->ei));
    (void)hark_event_unref(sch.event);
    return sch.id;
}

static void test_a_schedule_is_everybodys_and_goes_once(void **state)
{
    several *x = *state;
    fixture *a = &x->at[0], *b = &x->at[1];
    bool duplicate;
    uint64_t id = schedule(a, "later", hk_wall_ns(), &duplicate);
    assert_false(duplicate);
    assert_int_equal(schedule(b, "later", hk_wall_ns(), &duplicate), id);
    assert_true(duplicate);
    write_ok(b, b->ops->schedule_drop(b->store, id, &b->ei));
    write_err(a, HARK_ENOTFOUND, a->ops->schedule_drop(a->store, id, &a->ei));
}

static void test_who_holds_the_log_does_not_wait_for_a_closure_that_cancels(void **state)
{
    several *x = *state;
    fixture *a = &x->at[0], *b = &x->at[1];
    bool duplicate;
    hark_store_fate fate;
    hark_store_append e;
    uint64_t id = schedule(a, "later", hk_wall_ns(), &duplicate);
    begin(a);
    assert_ok(a, a->ops->tx_begin(a->store, hk_mono_ns() + INT64_C(5000000000), false, &a->ei));
    assert_ok(a, a->ops->schedule_drop(a->store, id, &a->ei));
    begin(b);
    assert_ok(b, append_id(b, NULL, NULL, &e));
    assert_err(b, HARK_ELOCKED, b->ops->schedule_drop(b->store, id, &b->ei));
    commit(b);
    assert_ok(a, append_id(a, NULL, NULL, &e));
    assert_ok(a, a->ops->tx_end(a->store, true, &fate, &a->ei));
    commit(a);
    assert_int_equal(e.ret_sequence, 2);
}

static bool count_one(void *ud, const hark_store_schedule *s)
{
    assert_null(s->event);
    *(size_t *)ud += 1;
    return true;
}

static void test_due_schedules_come_by_the_servers_clock(void **state)
{
    several *x = *state;
    fixture *f = &x->at[1];
    const int64_t hour = INT64_C(3600000000000);
    bool duplicate;
    size_t n = 0;
    int64_t next = 0;
    assert_ok(f, f->ops->schedules_due(f->store, 0, 10, count_one, &n, &next, &f->ei));
    assert_int_equal(next, -1);
    (void)schedule(&x->at[0], "a", hk_wall_ns() - hour, &duplicate);
    (void)schedule(&x->at[0], "b", hk_wall_ns() - 1, &duplicate);
    (void)schedule(&x->at[0], "c", hk_wall_ns() + hour, &duplicate);
    assert_ok(f, f->ops->schedules_due(f->store, 0, 10, count_one, &n, &next, &f->ei));
    assert_int_equal(n, 2);
    assert_in_range(next, 1, (uint64_t)hour);
    assert_ok(f, f->ops->schedules_due(f->store, 0, 1, count_one, &n, &next, &f->ei));
    assert_int_equal(n, 3);
    assert_int_equal(next, 0);
    assert_ok(f, f->ops->schedules_due(f->store, 2 * hour, 10, count_one, &n, &next, &f->ei));
    assert_int_equal(n, 6);
    assert_int_equal(next, -1);
}

/* ---- replays, retention ------------------------------------------------------------------------- */

static hark_store_replay replay(int64_t holds)
{
    return (hark_store_replay){
        .id = "r", .pattern = "**", .first = 1, .last = 8, .position = 3, .holds = holds};
}

static bool copy_one(void *ud, const hark_store_replay *r)
{
    *(hark_store_replay *)ud = *r;
    return true;
}

static hark_store_replay listed(fixture *f)
{
    hark_store_replay r = {.position = 0};
    assert_ok(f, f->ops->replays(f->store, copy_one, &r, &f->ei));
    return r;
}

static void test_a_replay_that_is_under_way_is_nobody_elses(void **state)
{
    several *x = *state;
    fixture *a = &x->at[0], *b = &x->at[1];
    hark_store_replay r = replay(1);
    write_ok(a, a->ops->replay_put(a->store, &r, &a->ei));
    assert_int_equal(listed(a).holds, 1);
    assert_int_equal(listed(a).elsewhere, 0);
    assert_int_equal(listed(b).elsewhere, 1);
    write_err(b, HARK_EEXIST, b->ops->replay_put(b->store, &r, &b->ei));
    r.holds = 0;
    write_ok(a, a->ops->replay_put(a->store, &r, &a->ei));
    assert_int_equal(listed(b).elsewhere, 0);
    r.holds = 1;
    write_ok(b, b->ops->replay_put(b->store, &r, &b->ei));
    (void)run_in(x, "UPDATE %s.processes SET until = '-infinity'");
    assert_int_equal(listed(a).elsewhere, 0);
    write_ok(a, a->ops->replay_put(a->store, &r, &a->ei));
}

/* All but the newest. */
static hark_store_trim trim_all(bool force, hark_store_gap *gaps)
{
    return (hark_store_trim){.size = sizeof(hark_store_trim),
                             .pattern = "**",
                             .keep = 1,
                             .force = force,
                             .budget_ns = INT64_C(1000000000),
                             .gaps = gaps,
                             .cap_gaps = 4};
}

static void test_a_replay_holds_back_the_retention_of_others(void **state)
{
    several *x = *state;
    fixture *a = &x->at[0], *b = &x->at[1];
    hark_store_replay r = replay(1);
    hark_store_gap gaps[4];
    hark_store_trim t = trim_all(false, gaps);
    add_some(a, 10);
    write_ok(a, a->ops->replay_put(a->store, &r, &a->ei));
    write_ok(b, b->ops->trim(b->store, &t, &b->ei));
    assert_int_equal(t.ret_removed, 3);
    (void)run_in(x, "UPDATE %s.processes SET until = '-infinity' WHERE id = (SELECT owner FROM "
                    "%s.replays)");
    write_ok(b, b->ops->trim(b->store, &t, &b->ei));
    assert_int_equal(t.ret_removed, 6);
}

static void test_one_process_at_a_time_removes_events(void **state)
{
    several *x = *state;
    fixture *a = &x->at[0], *b = &x->at[1];
    hark_store_gap gaps[4];
    hark_store_trim t = trim_all(false, gaps);
    add_some(a, 3);
    begin(a);
    assert_ok(a, a->ops->trim(a->store, &t, &a->ei));
    write_err(b, HARK_ELOCKED, b->ops->trim(b->store, &t, &b->ei));
    commit(a);
    write_ok(b, b->ops->trim(b->store, &t, &b->ei));
    assert_int_equal(run_in(x, "SELECT count(*) FROM %s.events"), 1);
}

/* Each share has its own floor: what lies above the lowest stays, and when forced, is missed by whose it is only. */
static void test_the_lowest_floor_of_its_shares_is_a_consumers(void **state)
{
    several *x = *state;
    fixture *f = &x->at[0];
    hark_store_gap gaps[4];
    hark_store_trim t = trim_all(false, gaps);
    add_some(f, 10);
    hark_store_save v = save_of(f, "c"), late;
    v.floor = v.highest = 9;
    save(f, &v);
    const held *h = hold(f, v.consumer, v.generation);
    uint32_t share = share_of(f, h, 6);
    late = part_of(f, h, &v, share);
    late.floor = 5;
    write_ok(f, f->ops->consumer_save(f->store, &late, &f->ei));
    write_ok(&x->at[1], x->at[1].ops->trim(x->at[1].store, &t, &x->at[1].ei));
    assert_int_equal(t.ret_removed, 5);
    t = trim_all(true, gaps);
    write_ok(&x->at[1], x->at[1].ops->trim(x->at[1].store, &t, &x->at[1].ei));
    assert_int_equal(t.ret_removed, 4);
    assert_int_equal(t.ret_n_gaps, 1);
    assert_int_equal(gaps[0].from, 6);
    uint64_t to = 6;
    for (uint64_t seq = 7; seq <= 9; seq++)
        to = share_of(f, h, seq) == share ? seq : to;
    assert_int_equal(gaps[0].to, to);
    free((void *)(uintptr_t)late.put);
    free((void *)(uintptr_t)late.drop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEVERAL(test_sequences_and_versions_have_no_holes_whoever_appends),
        SEVERAL(test_what_is_in_the_log_is_a_repeat_for_all),
        SEVERAL(test_a_group_without_events_does_not_wait_for_one_with),
        SEVERAL(test_a_group_that_stands_still_lets_the_log_go),
        cmocka_unit_test(test_a_new_log_may_be_opened_by_several_at_once),
        SEVERAL(test_a_process_that_was_forgotten_is_registered_again),
        SEVERAL(test_a_schedule_is_everybodys_and_goes_once),
        SEVERAL(test_who_holds_the_log_does_not_wait_for_a_closure_that_cancels),
        SEVERAL(test_due_schedules_come_by_the_servers_clock),
        SEVERAL(test_a_replay_that_is_under_way_is_nobody_elses),
        SEVERAL(test_a_replay_holds_back_the_retention_of_others),
        SEVERAL(test_one_process_at_a_time_removes_events),
        SEVERAL(test_the_lowest_floor_of_its_shares_is_a_consumers),
    };
    (void)setenv("HARK_LOG", "error", 0);
    the_server = server_postgres(NULL);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_free(the_server);
    return failed;
}
