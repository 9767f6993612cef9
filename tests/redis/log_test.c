/* Several processes on one log of a Redis server: what one does the others see. */
#include "log_kit.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

/* ---- the log ----------------------------------------------------------------------------------- */

static size_t read_types(process *p, uint64_t after, char *ret, size_t size)
{
    hark_event *events[64];
    const hark_store_query q = {.size = sizeof q, .after = after, .limit = 64};
    hark_store_page page = {.events = events};
    size_t len = 0;
    assert_ok(p, p->ops->read(p->store, &q, &page, &p->ei));
    ret[0] = '\0';
    for (size_t i = 0; i < page.n; i++) {
        assert_int_equal(hark_event_sequence(events[i]), after + i + 1);
        len += (size_t)snprintf(ret + len, size - len, "%s ", hark_event_type(events[i]));
        (void)hark_event_unref(events[i]);
    }
    return page.n;
}

static void test_sequences_are_contiguous_whoever_appends(void **state)
{
    logs *x = *state;
    char types[256];
    process *a = open_process(x, 0), *b = open_process(x, 1);
    assert_int_equal(publish(a, "a", NULL, NULL), 1);
    assert_int_equal(publish(b, "b", NULL, NULL), 2);
    assert_int_equal(publish(a, "c", NULL, NULL), 3);
    assert_int_equal(read_types(a, 0, types, sizeof types), 3);
    assert_string_equal(types, "a b c ");
    assert_memory_equal(a->info.log_id, b->info.log_id, 16);
}

static void test_an_event_is_in_the_log_once_whoever_repeats_it(void **state)
{
    logs *x = *state;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    uint64_t seq;
    assert_int_equal(publish(a, "t", "one", NULL), 1);
    assert_int_equal(publish(b, "t", "one", NULL), 1);
    assert_err(b, HARK_ECONFLICT, "at sequence 1 with other content",
               try_publish(b, "other", "one", NULL, &seq));
    assert_int_equal(count(a), 1);
}

static void test_a_group_fails_when_its_promise_cannot_be_kept(void **state)
{
    logs *x = *state;
    hark_event *e = NULL;
    hark_errinfo ei;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    hark_store_append item = {.ret_sequence = 0};
    assert_int_equal(
        0, hark_event_new(HARK_OPTS(hark_event_spec, .type = "t", .source = "/test"), &e, &ei));
    item.event = e;
    assert_ok(a, a->ops->begin(a->store, &a->ei));
    assert_ok(a, a->ops->append(a->store, &item, 1, &a->ei));
    assert_int_equal(item.ret_sequence, 1);
    assert_int_equal(publish(b, "quicker", NULL, NULL), 1);
    assert_err(a, HARK_EAGAIN, "another process was quicker", a->ops->commit(a->store, &a->ei));
    assert_int_equal(count(a), 1);
    (void)hark_event_unref(e);
}

/* The few of a rare type are found without reading all others, and none is passed over. */
static hark_event *event_of(const process *p, const char *id, const char *subject, const char *json,
                            hark_store_append *ret)
{
    hark_errinfo ei;
    hark_event *e = NULL;
    assert_int_equal(0, hark_event_new(HARK_OPTS(hark_event_spec, .type = "t", .source = "/test",
                                                 .id = id, .subject = subject, .json = json),
                                       &e, &ei));
    *ret = (hark_store_append){.event = e, .fresh_id = !id};
    hk_event_digest(e, p->info.log_id, ret->digest);
    return e;
}

static void test_units_of_one_group_have_a_verdict_each(void **state)
{
    enum {
        FRESH,
        FIRST,
        AGAIN,
        OTHER,
        BATCH,
        BATCH_OF = 3,
        VERSIONED = BATCH + BATCH_OF,
        WRONG,
        LAST,
        ALL
    };
    logs *x = *state;
    hark_store_append a[ALL];
    hark_err late[ALL];
    hark_errinfo ei = {0};
    process *p = open_process(x, 0);
    (void)event_of(p, NULL, NULL, "1", &a[FRESH]);
    (void)event_of(p, "one", NULL, "1", &a[FIRST]);
    (void)event_of(p, "one", NULL, "1", &a[AGAIN]);
    (void)event_of(p, "one", NULL, "2", &a[OTHER]);
    (void)event_of(p, NULL, NULL, "1", &a[BATCH]);
    (void)event_of(p, "one", NULL, "1", &a[BATCH + 1]);
    (void)event_of(p, NULL, "s", "1", &a[BATCH + 2]);
    (void)event_of(p, NULL, "s", "1", &a[VERSIONED]);
    (void)event_of(p, NULL, "s", "1", &a[WRONG]);
    (void)event_of(p, NULL, NULL, "1", &a[LAST]);
    a[VERSIONED].expected = 1;
    a[WRONG].expected = 7;
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    for (size_t i = 0; i < ALL; i += i == BATCH ? BATCH_OF : 1) {
        a[i].late = &late[i];
        assert_ok(p, p->ops->append(p->store, &a[i], i == BATCH ? BATCH_OF : 1, &ei));
    }
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    assert_int_equal(late[FRESH], HARK_OK);
    assert_int_equal(a[FRESH].ret_sequence, 1);
    assert_int_equal(hark_event_sequence(a[FIRST].event), 2);
    assert_int_equal(late[AGAIN], HARK_OK);
    assert_true(a[AGAIN].ret_duplicate);
    assert_int_equal(a[AGAIN].ret_sequence, 2);
    assert_int_equal(late[OTHER], HARK_ECONFLICT);
    assert_int_equal(a[OTHER].ret_sequence, 2);
    assert_int_equal(late[BATCH], HARK_OK);
    assert_int_equal(a[BATCH].ret_sequence, 3);
    assert_true(a[BATCH + 1].ret_duplicate);
    assert_int_equal(a[BATCH + 2].ret_sequence, 4);
    assert_int_equal(a[BATCH + 2].ret_subject_version, 1);
    assert_int_equal(a[VERSIONED].ret_sequence, 5);
    assert_int_equal(a[VERSIONED].ret_subject_version, 2);
    assert_int_equal(late[WRONG], HARK_EVERSION);
    assert_int_equal(a[WRONG].ret_subject_version, 2);
    assert_int_equal(late[LAST], HARK_OK);
    assert_int_equal(hark_event_sequence(a[LAST].event), 6);
    assert_int_equal(count(p), 6);
    for (size_t i = 0; i < ALL; i++)
        (void)hark_event_unref(a[i].event);
}

static void test_a_rare_type_is_found_far_away(void **state)
{
    enum { FAR = 6000, AT_ONCE = 500 };
    logs *x = *state;
    hark_errinfo ei;
    hark_event *e = NULL, *found[4];
    hark_store_append items[AT_ONCE] = {{.ret_sequence = 0}};
    const hark_store_query q = {.size = sizeof q, .pattern = "rare", .limit = 4};
    hark_store_page page = {.events = found};
    process *p = open_process(x, 0);
    for (int i = 0; i < FAR / AT_ONCE; i++) {
        assert_ok(p, p->ops->begin(p->store, &p->ei));
        for (int k = 0; k < AT_ONCE; k++) {
            assert_int_equal(
                0, hark_event_new(HARK_OPTS(hark_event_spec, .type = "t", .source = "/test"), &e,
                                  &ei));
            items[k].event = e;
            items[k].fresh_id = 1;
        }
        assert_ok(p, p->ops->append(p->store, items, AT_ONCE, &p->ei));
        assert_ok(p, p->ops->commit(p->store, &p->ei));
        for (int k = 0; k < AT_ONCE; k++)
            (void)hark_event_unref(items[k].event);
    }
    assert_int_equal(publish(p, "rare", NULL, NULL), FAR + 1);
    (void)publish(p, "t", NULL, NULL);
    assert_int_equal(publish(p, "rare", NULL, NULL), FAR + 3);
    (void)publish(p, "t", NULL, NULL);
    assert_ok(p, p->ops->read(p->store, &q, &page, &p->ei));
    assert_int_equal(page.n, 2);
    assert_true(page.end);
    assert_int_equal(page.covered, FAR + 4);
    assert_int_equal(hark_event_sequence(found[0]), FAR + 1);
    assert_int_equal(hark_event_sequence(found[1]), FAR + 3);
    (void)hark_event_unref(found[0]);
    (void)hark_event_unref(found[1]);
}

/* ---- waiting ----------------------------------------------------------------------------------- */

typedef struct waiter {
    process *p;
    uint64_t after;
    hark_store_tail ret;
    hark_err err;
    pthread_t thread;
} waiter;

static void *wait_for_tail(void *arg)
{
    waiter *w = arg;
    w->err = w->p->ops->tail(w->p->store, w->after, 20 * SECOND, &w->ret, &w->p->ei);
    return NULL;
}

/* Until it has told all that is known already. */
static void settle(process *p, uint64_t after)
{
    hark_store_tail ret;
    do
        assert_ok(p, p->ops->tail(p->store, after, 0, &ret, &p->ei));
    while (ret.shares || ret.schedules);
}

static void begin_waiting(waiter *w)
{
    settle(w->p, w->after);
    assert_int_equal(0, pthread_create(&w->thread, NULL, wait_for_tail, w));
}

static void end_waiting(waiter *w)
{
    assert_int_equal(0, pthread_join(w->thread, NULL));
    assert_ok(w->p, w->err);
}

static void test_who_waits_is_told_of_what_others_append(void **state)
{
    logs *x = *state;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    waiter w = {.p = a, .after = publish(b, "t", NULL, NULL)};
    begin_waiting(&w);
    (void)publish(b, "t", NULL, NULL);
    end_waiting(&w);
    assert_int_equal(w.ret.last, 2);
    assert_int_equal(w.ret.epoch, 1);
}

static void test_who_waits_is_told_of_a_pause(void **state)
{
    logs *x = *state;
    hark_store_consumer c;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    waiter w = {.p = a};
    join(b, "c", &c);
    begin_waiting(&w);
    assert_ok(b, b->ops->begin(b->store, &b->ei));
    assert_ok(b, b->ops->consumer_pause(b->store, c.ret_id, true, &b->ei));
    assert_ok(b, b->ops->commit(b->store, &b->ei));
    end_waiting(&w);
    assert_true(w.ret.shares);
}

static void test_who_waits_can_be_woken(void **state)
{
    logs *x = *state;
    process *a = open_process(x, 0);
    waiter w = {.p = a};
    begin_waiting(&w);
    a->ops->tail_wake(a->store);
    end_waiting(&w);
    assert_int_equal(w.ret.last, 0);
    w.after = 0;
    begin_waiting(&w); /* what was left of the last time is no harm */
    assert_int_equal(publish(a, "t", NULL, NULL), 1);
    end_waiting(&w);
    assert_int_equal(w.ret.last, 1);
}

/* ---- schedules --------------------------------------------------------------------------------- */

static bool note_id(void *ud, const hark_store_schedule *s)
{
    *(uint64_t *)ud = s->id;
    return true;
}

static uint64_t schedule(process *p, const char *id, int64_t due_ns)
{
    hark_errinfo ei;
    hark_store_schedule sch = {.due_ns = due_ns, .created_ns = 1};
    uint64_t seq;
    bool duplicate;
    assert_int_equal(0, hark_event_new(HARK_OPTS(hark_event_spec, .type = "later", .id = id,
                                                 .source = "/test", .json = "1"),
                                       &sch.event, &ei));
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    assert_ok(p, p->ops->schedule_add(p->store, &sch, &seq, &duplicate, &p->ei));
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    (void)hark_event_unref(sch.event);
    return sch.id;
}

/* In one group: the schedule is dropped, and its event appended. */
static void begin_firing(process *p, uint64_t id, hark_store_append *a)
{
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    assert_ok(p, p->ops->schedule_drop(p->store, id, &p->ei));
    assert_ok(p, p->ops->append(p->store, a, 1, &p->ei));
}

static void test_a_schedule_is_published_by_one_of_those_who_find_it_due(void **state)
{
    logs *x = *state;
    hark_errinfo ei;
    hark_err late[3] = {HARK_OK};
    hark_store_append items[3] = {{.late = &late[0]}, {.late = &late[1]}, {.late = &late[2]}};
    uint64_t found = 0;
    int64_t next = 0;
    process *a = open_process(x, 0), *b = open_process(x, 1);
    uint64_t id = schedule(a, "s", 1);
    (void)schedule(a, "far", hk_wall_ns() + 3600 * SECOND);
    assert_ok(b, b->ops->schedules_due(b->store, 0, 10, note_id, &found, &next, &b->ei));
    assert_int_equal(found, id);
    assert_true(next > 3500 * SECOND);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(0,
                         hark_event_new(HARK_OPTS(hark_event_spec, .type = "t", .source = "/test"),
                                        &items[i].event, &ei));
    begin_firing(a, id, &items[0]);
    begin_firing(b, id, &items[1]);
    assert_ok(b, b->ops->append(b->store, &items[2], 1, &b->ei)); /* another unit of the group */
    assert_ok(a, a->ops->commit(a->store, &a->ei));
    assert_ok(b, b->ops->commit(b->store, &b->ei));
    assert_int_equal(late[0], HARK_OK);
    assert_int_equal(late[1], HARK_ENOTFOUND);
    assert_int_equal(late[2], HARK_OK);
    assert_int_equal(count(a), 2);
    for (size_t i = 0; i < 3; i++)
        (void)hark_event_unref(items[i].event);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOG_TEST(test_sequences_are_contiguous_whoever_appends),
        LOG_TEST(test_an_event_is_in_the_log_once_whoever_repeats_it),
        LOG_TEST(test_a_group_fails_when_its_promise_cannot_be_kept),
        LOG_TEST(test_units_of_one_group_have_a_verdict_each),
        LOG_TEST(test_a_rare_type_is_found_far_away),
        LOG_TEST(test_who_waits_is_told_of_what_others_append),
        LOG_TEST(test_who_waits_is_told_of_a_pause),
        LOG_TEST(test_who_waits_can_be_woken),
        LOG_TEST(test_a_schedule_is_published_by_one_of_those_who_find_it_due),
    };
    return logs_main("redis log", tests, HK_COUNTOF(tests));
}
