/* Publishing later: at a time, after a delay; once, whatever happens; listing and cancelling. */
#include "fixture.h"

#include <hark/operate.h>

#define EVENT(...) HARK_OPTS(hark_event_spec, .type = "t", __VA_ARGS__)

static bool count(const hark_schedule_info *info, void *ud)
{
    assert_u64(hark_event_sequence(info->event), 0);
    ++*(size_t *)ud;
    return true;
}

static size_t waiting(fixture *f)
{
    size_t n = 0;
    assert_ok(f, hark_schedules(f->bus, count, &n, &f->ei));
    return n;
}

static hark_sub *listen(fixture *f, recorder *r)
{
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", record, r, NULL, &sub, &f->ei));
    return sub;
}

static void test_an_event_comes_after_its_delay_and_not_before(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = listen(f, r);
    hark_schedule_id id = 0;
    int64_t begin = hk_mono_ms();
    assert_ok(f, hark_schedule(f->bus, EVENT(.json = "1"), hark_after(60), &id, &f->ei));
    assert_true(id > 0);
    assert_u64(waiting(f), 1);
    WAIT_UNTIL(atomic_load(&r->n) == 1);
    assert_true(hk_mono_ms() - begin >= 60);
    WAIT_UNTIL(waiting(f) == 0);
    assert_err(f, HARK_ENOTFOUND, hark_schedule_cancel(f->bus, id, &f->ei));
    end_sub(sub);
    recorder_free(r);
}

static void test_events_come_in_order_of_their_times(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = listen(f, r);
    int64_t now = hk_wall_ns();
    const char *keys[] = {"c", "a", "d", "b"};
    int64_t at[] = {80, 40, 100, 60};
    for (int i = 0; i < 4; i++)
        assert_ok(f, hark_schedule(f->bus, EVENT(.subject = keys[i]),
                                   hark_at(now + at[i] * 1000000), NULL, &f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(r->seen[i].key[0], 'a' + i);
    end_sub(sub);
    recorder_free(r);
}

static void test_what_is_overdue_comes_at_once(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = listen(f, r);
    assert_ok(f, hark_schedule(f->bus, EVENT(.json = "1"), hark_at(1), NULL, &f->ei));
    assert_ok(f, hark_schedule(f->bus, EVENT(.json = "1"), hark_after(0), NULL, &f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == 2);
    end_sub(sub);
    recorder_free(r);
}

static void test_a_cancelled_one_never_comes(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = listen(f, r);
    hark_schedule_id id;
    assert_ok(f, hark_schedule(f->bus, EVENT(.json = "1"), hark_after(50), &id, &f->ei));
    assert_ok(f, hark_schedule_cancel(f->bus, id, &f->ei));
    assert_err(f, HARK_ENOTFOUND, hark_schedule_cancel(f->bus, id, &f->ei));
    assert_ok(f, hark_schedule(f->bus, EVENT(.subject = "later"), hark_after(100), NULL, &f->ei));
    WAIT_UNTIL(atomic_load(&r->n) == 1);
    assert_string_equal(r->seen[0].key, "later");
    end_sub(sub);
    recorder_free(r);
}

static void test_the_same_event_is_scheduled_once(void **state)
{
    fixture *f = *state;
    hark_schedule_id a, b;
    assert_ok(f,
              hark_schedule(f->bus, EVENT(.id = "x", .json = "1"), hark_after(60000), &a, &f->ei));
    assert_ok(f,
              hark_schedule(f->bus, EVENT(.id = "x", .json = "1"), hark_after(50000), &b, &f->ei));
    assert_u64(a, b);
    assert_u64(waiting(f), 1);
    assert_err(f, HARK_ECONFLICT,
               hark_schedule(f->bus, EVENT(.id = "x", .json = "2"), hark_after(60000), &b, &f->ei));
    assert_says(f, "x");
    hark_receipt r;
    assert_ok(f, hark_publish_ei(f->bus, EVENT(.id = "y", .json = "1"), &r, &f->ei));
    assert_err(f, HARK_EEXIST,
               hark_schedule(f->bus, EVENT(.id = "y", .json = "1"), hark_after(60000), &b, &f->ei));
    assert_err(f, HARK_ECONFLICT,
               hark_schedule(f->bus, EVENT(.id = "y", .json = "2"), hark_after(60000), &b, &f->ei));
}

static void test_what_was_published_meanwhile_is_not_published_again(void **state)
{
    fixture *f = *state;
    recorder *r = recorder_new();
    hark_sub *sub = listen(f, r);
    assert_ok(f,
              hark_schedule(f->bus, EVENT(.id = "x", .json = "1"), hark_after(60), NULL, &f->ei));
    hark_receipt receipt;
    assert_ok(f, hark_publish_ei(f->bus, EVENT(.id = "x", .json = "1"), &receipt, &f->ei));
    WAIT_UNTIL(waiting(f) == 0);
    publish(f, "t");
    WAIT_UNTIL(atomic_load(&r->n) == 2);
    assert_true(r->seen[1].seq == r->seen[0].seq + 1);
    end_sub(sub);
    recorder_free(r);
}

static void test_schedules_outlive_the_process_where_the_store_does(void **state)
{
    fixture *f = *state;
    if (!f->store->survives)
        return;
    assert_ok(f, hark_schedule(f->bus, EVENT(.subject = "soon"), hark_after(1), NULL, &f->ei));
    assert_ok(f, hark_schedule(f->bus, EVENT(.subject = "much"), hark_after(600000), NULL, &f->ei));
    reopen_bus(f, NULL);
    hark_bus_info info = {.size = sizeof info};
    WAIT_UNTIL(hark_bus_info_get(f->bus, &info) == HARK_OK && info.last_sequence == 1);
    WAIT_UNTIL(waiting(f) == 1);
}

static void test_its_time_is_when_it_comes_unless_it_brings_one(void **state)
{
    fixture *f = *state;
    int64_t begin = hk_wall_ns();
    assert_ok(f, hark_schedule(f->bus, EVENT(.subject = "a"), hark_after(30), NULL, &f->ei));
    assert_ok(f, hark_schedule(f->bus, EVENT(.subject = "b", .time = "2001-02-03T04:05:06Z"),
                               hark_after(60), NULL, &f->ei));
    hark_bus_info info = {.size = sizeof info};
    WAIT_UNTIL(hark_bus_info_get(f->bus, &info) == HARK_OK && info.last_sequence == 2);
    hark_page *page;
    assert_ok(f, hark_read(f->bus, NULL, &page, &f->ei));
    assert_true(hark_event_time_ns(hark_page_event(page, 0)) >= begin + 30000000);
    assert_true(hark_event_time_ns(hark_page_event(page, 1)) < begin);
    hark_page_free(page);
}

static void test_bad_times_are_refused(void **state)
{
    fixture *f = *state;
    hark_when both = {.at_ns = 1, .after_ms = 1};
    assert_err(f, HARK_EINVAL,
               hark_schedule(f->bus, EVENT(.json = "1"), hark_after(-1), NULL, &f->ei));
    assert_says(f, "after_ms");
    assert_err(f, HARK_EINVAL,
               hark_schedule(f->bus, EVENT(.json = "1"), hark_at(-5), NULL, &f->ei));
    assert_err(f, HARK_EINVAL, hark_schedule(f->bus, EVENT(.json = "1"), both, NULL, &f->ei));
    assert_ok(f, hark_schedule(f->bus, EVENT(.json = "1"), hark_after(INT64_MAX), NULL, &f->ei));
    assert_u64(waiting(f), 1);
}

static int by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* How late each one came, by its subject, its number; by when it was due, or added if that was
 * later. */
typedef struct lateness {
    _Atomic size_t n;
    _Atomic int64_t due[1000];
    int64_t late[1000];
} lateness;

static hark_verdict measure(hark_delivery *d, void *ud)
{
    lateness *l = ud;
    int64_t i = strtoll(hark_event_subject(hark_delivery_event(d)), NULL, 10);
    l->late[i] = hk_wall_ns() - atomic_load(&l->due[i]);
    atomic_fetch_add(&l->n, 1);
    return HARK_ACK;
}

static void test_a_thousand_schedules_come_on_time(void **state)
{
    fixture *f = *state;
    lateness *l = calloc(1, sizeof *l);
    assert_non_null(l);
    hark_sub *sub;
    assert_ok(f, hark_subscribe(f->bus, "t", measure, l, NULL, &sub, &f->ei));
    int64_t base = hk_wall_ns() + 500000000;
    for (int64_t i = 0; i < 1000; i++) {
        char number[32];
        int64_t at = base + (i * 7919 % 1000) * 1000000, now = hk_wall_ns();
        (void)snprintf(number, sizeof number, "%lld", (long long)i);
        atomic_store(&l->due[i], at > now ? at : now);
        assert_ok(f, hark_schedule(f->bus, EVENT(.subject = number), hark_at(at), NULL, &f->ei));
    }
    WAIT_UNTIL(atomic_load(&l->n) == 1000);
    qsort(l->late, 1000, sizeof l->late[0], by_size);
    print_message("late by: median %lld us, p99 %lld us, most %lld us\n",
                  (long long)l->late[500] / 1000, (long long)l->late[990] / 1000,
                  (long long)l->late[999] / 1000);
    assert_true(l->late[0] >= 0); /* none early; how late is the machine's affair too */
    end_sub(sub);
    free(l);
}

static const struct CMUnitTest tests[] = {
    TEST(test_an_event_comes_after_its_delay_and_not_before),
    TEST(test_events_come_in_order_of_their_times),
    TEST(test_what_is_overdue_comes_at_once),
    TEST(test_a_cancelled_one_never_comes),
    TEST(test_the_same_event_is_scheduled_once),
    TEST(test_what_was_published_meanwhile_is_not_published_again),
    TEST(test_schedules_outlive_the_process_where_the_store_does),
    TEST(test_its_time_is_when_it_comes_unless_it_brings_one),
    TEST(test_bad_times_are_refused),
    TEST(test_a_thousand_schedules_come_on_time),
};

CONFORMANCE_MAIN("schedule")
