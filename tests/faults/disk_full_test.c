/* A disk that is full, and has room again. Publishing gets HARK_EFULL and goes on within a second
 * after there is room; meanwhile reading and consuming go on, and what could not be committed is not
 * taken for done. The disk is the one of crash_vfs. */
#include "crash_vfs.h"
#include "kit.h"

#include <ftw.h>
#include <hark/hark.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { EVENTS = 2000, SIZE = 1500, SOON_MS = 1000, KEYS = 5 };
/* What a sanitizer and a busy machine add to it. */
#define SLACK_MS 4000

typedef struct fixture {
    char url[256];
    hark_bus *bus;
    hark_sub *sub;
    uint64_t seq[EVENTS]; /* of receipts; 0 = none */
    bool refused[EVENTS];
    size_t n; /* events published, or not */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open; /* handlers go on */
    hark_verdict verdict[EVENTS];
    unsigned taken[EVENTS]; /* deliveries */
    size_t all_taken;
} fixture;

static fixture f;

/* ---- arranging ---- */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    return at->level ? remove(path) : 0;
}

static void open_bus(void)
{
    hark_errinfo ei;
    if (hark_open(f.url, HARK_OPTS(hark_bus_opts, .drain_ms = 500), &f.bus, &ei))
        fail_msg("hark_open: %s", ei.text);
}

static void close_bus(void)
{
    f.sub = hark_sub_unref(f.sub);
    f.bus = hark_bus_unref(f.bus);
}

static int set_up(void **state)
{
    (void)state;
    memset(&f, 0, sizeof f);
    (void)mkdir(kit_path("log"), 0755);
    assert_int_equal(nftw(kit_path("log"), remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    (void)snprintf(f.url, sizeof f.url, "sqlite:%s/x.db", kit_path("log"));
    pthread_mutex_init(&f.lock, NULL);
    pthread_cond_init(&f.changed, NULL);
    f.open = true;
    crash_vfs_on();
    open_bus();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    crash_room(-1);
    close_bus();
    crash_vfs_off();
    return 0;
}

static hark_err publish(size_t size)
{
    char id[16], key[8];
    static char data[1 << 20];
    hark_receipt r;
    size_t n = f.n++;
    assert_true(n < EVENTS && size <= sizeof data);
    memset(data, 'a' + (int)(n % 26), size);
    (void)snprintf(id, sizeof id, "e-%zu", n);
    (void)snprintf(key, sizeof key, "k%zu", n % KEYS);
    hark_err err =
        hark_publish(f.bus,
                     HARK_OPTS(hark_event_spec, .type = "full:event", .id = id, .source = "/full",
                               .key = key, .data = data, .data_len = size),
                     &r);
    f.seq[n] = err ? 0 : r.sequence;
    f.refused[n] = err != HARK_OK;
    return err;
}

static void publish_some(size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(publish(SIZE), HARK_OK);
}

/* Publishes until the disk is full. */
static void fill(size_t size)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; !err && i < 400; i++)
        err = publish(size);
    assert_int_equal(err, HARK_EFULL);
    assert_int_equal(hark_err_class(err), HARK_CLASS_TRANSIENT);
}

static size_t number_of(const hark_event *e)
{
    return strtoul(hark_event_id(e) + 2, NULL, 10);
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    size_t n = number_of(hark_delivery_event(d));
    (void)ud;
    pthread_mutex_lock(&f.lock);
    while (!f.open)
        pthread_cond_wait(&f.changed, &f.lock);
    f.taken[n]++;
    f.all_taken++;
    hark_verdict v = f.verdict[n];
    if (v == HARK_RETRY)
        f.verdict[n] = HARK_ACK; /* the next time */
    pthread_mutex_unlock(&f.lock);
    return v;
}

static void hold_handlers(bool hold)
{
    pthread_mutex_lock(&f.lock);
    f.open = !hold;
    pthread_cond_broadcast(&f.changed);
    pthread_mutex_unlock(&f.lock);
}

static void consume(void)
{
    hark_errinfo ei;
    if (hark_subscribe(f.bus, "full:*", handle, NULL,
                       HARK_OPTS(hark_sub_opts, .consumer = "eater", .workers = 2,
                                 .start = HARK_START_FIRST, .retry_delay_ms = 10),
                       &f.sub, &ei))
        fail_msg("hark_subscribe: %s", ei.text);
}

/* ---- waiting and comparing ---- */

static void await(bool (*done)(void), const char *what, int64_t ms)
{
    int64_t end = kit_ms() + ms;
    while (!done()) {
        if (kit_ms() > end)
            fail_msg("not within %lld ms: %s", (long long)ms, what);
        (void)sched_yield();
    }
}

static size_t refused_before;

static bool one_more_refused(void)
{
    return crash_refused() > refused_before;
}

static size_t stored(void)
{
    size_t n = 0;
    while (n < f.n && f.seq[n])
        n++;
    return n;
}

static bool each_was_taken(void)
{
    bool all = true;
    pthread_mutex_lock(&f.lock);
    for (size_t i = 0; i < f.n; i++)
        all = all && (!f.seq[i] || f.taken[i]);
    pthread_mutex_unlock(&f.lock);
    return all;
}

/* A reject lets the rest of its key go on when it is committed, not before. */
static bool each_lane_was_taken(void)
{
    bool all = true;
    pthread_mutex_lock(&f.lock);
    for (size_t i = 0; i < KEYS; i++)
        all = all && f.taken[i];
    pthread_mutex_unlock(&f.lock);
    return all;
}

static bool all_settled(void)
{
    hark_sub_stats st = {.size = sizeof st};
    hark_bus_info info = {.size = sizeof info};
    return !hark_sub_stats_get(f.sub, &st) && !hark_bus_info_get(f.bus, &info) && !st.pending &&
           st.position >= info.last_sequence;
}

static bool count_letter(const hark_dead_letter *l, void *ud)
{
    unsigned *letters = ud;
    letters[number_of(l->event)]++;
    return true;
}

/* Each event that was rejected is a dead letter, once; no other is. */
static size_t dead_letters(void)
{
    static unsigned letters[EVENTS];
    hark_errinfo ei;
    size_t all = 0;
    memset(letters, 0, sizeof letters);
    if (hark_dead_letters(f.bus, NULL, count_letter, letters, &ei))
        fail_msg("hark_dead_letters: %s", ei.text);
    for (size_t i = 0; i < EVENTS; i++) {
        if (letters[i] > 1 || (letters[i] && f.verdict[i] != HARK_REJECT))
            fail_msg("event %zu has %u dead letters", i, letters[i]);
        all += letters[i];
    }
    return all;
}

/* The log has exactly what got a receipt. */
static void log_is_right(void)
{
    hark_page *page = NULL;
    hark_errinfo ei;
    bool there[EVENTS] = {false};
    uint64_t after = 0;
    do {
        if (hark_read(f.bus, HARK_OPTS(hark_read_opts, .after = after), &page, &ei))
            fail_msg("hark_read: %s", ei.text);
        for (size_t i = 0; i < hark_page_count(page); i++) {
            const hark_event *e = hark_page_event(page, i);
            size_t n = number_of(e);
            if (f.refused[n] || f.seq[n] != hark_event_sequence(e))
                fail_msg("event %zu is at %d; its receipt said %d", n, (int)hark_event_sequence(e),
                         (int)f.seq[n]);
            there[n] = true;
        }
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    for (size_t i = 0; i < f.n; i++)
        if (f.seq[i] && !there[i])
            fail_msg("event %zu is lost", i);
}

/* With room again: publishing goes on soon. */
static void goes_on_soon(void)
{
    int64_t begin = kit_ms();
    crash_room(-1);
    hark_err err;
    do {
        err = publish(SIZE);
        assert_true(err == HARK_OK || err == HARK_EFULL || err == HARK_ESTORE);
        if (err)
            (void)sched_yield();
    } while (err && kit_ms() - begin <= SOON_MS);
    if (err)
        fail_msg("%d ms after there was room: %s", SOON_MS, hark_err_name(err));
}

static void is_not_read_only(void)
{
    hark_bus_info info = {.size = sizeof info};
    assert_int_equal(hark_bus_info_get(f.bus, &info), HARK_OK);
    assert_int_equal(info.read_only, 0);
}

/* ---- the promises ---- */

static void test_a_full_disk_refuses_publishing_and_nothing_is_lost(void **state)
{
    (void)state;
    publish_some(50);
    crash_room(100000);
    fill(SIZE);
    for (int i = 0; i < 5; i++)
        assert_int_equal(publish(SIZE), HARK_EFULL);
    is_not_read_only();
    log_is_right();
    goes_on_soon();
    publish_some(20);
    log_is_right();
    close_bus();
    open_bus();
    log_is_right();
}

static void test_consuming_goes_on_while_the_disk_is_full(void **state)
{
    (void)state;
    hold_handlers(true);
    consume();
    publish_some(40);
    crash_room(50000);
    fill(SIZE);
    crash_room(0);
    hold_handlers(false);
    await(each_was_taken, "every event handled on a full disk", KIT_HUNG_MS);
    log_is_right();
    goes_on_soon();
    await(all_settled, "everything settled", SOON_MS + SLACK_MS);
    for (size_t i = 0; i < f.n; i++)
        assert_true(f.taken[i] == (f.seq[i] ? 1 : 0));
}

static void test_a_dead_letter_is_written_as_soon_as_there_is_room(void **state)
{
    (void)state;
    size_t rejected = 0;
    hold_handlers(true);
    consume();
    publish_some(40);
    crash_room(50000);
    fill(SIZE);
    crash_room(0);
    for (size_t i = 0; i < stored(); i++) {
        f.verdict[i] = i % 4 == 1 ? HARK_REJECT : i % 4 == 2 ? HARK_RETRY : HARK_ACK;
        rejected += f.verdict[i] == HARK_REJECT;
    }
    refused_before = crash_refused();
    hold_handlers(false);
    await(one_more_refused, "a commit of the consumer's", KIT_HUNG_MS);
    assert_int_equal(dead_letters(), 0);
    goes_on_soon();
    await(each_was_taken, "every event handled", KIT_HUNG_MS);
    await(all_settled, "everything settled", KIT_HUNG_MS);
    assert_int_equal(dead_letters(), rejected);
    close_bus();
    open_bus();
    assert_int_equal(dead_letters(), rejected);
    log_is_right();
}

static void test_what_was_not_committed_comes_again_after_a_restart(void **state)
{
    (void)state;
    hold_handlers(true);
    consume();
    publish_some(30);
    crash_room(0);
    fill(SIZE);
    for (size_t i = 0; i < f.n; i++)
        f.verdict[i] = HARK_REJECT;
    hold_handlers(false);
    await(each_lane_was_taken, "an event of each key handled", KIT_HUNG_MS);
    close_bus();
    size_t before = f.all_taken;
    crash_room(-1);
    open_bus();
    assert_int_equal(dead_letters(), 0);
    memset(f.taken, 0, sizeof f.taken);
    consume();
    await(each_was_taken, "every event again", KIT_HUNG_MS);
    await(all_settled, "everything settled", KIT_HUNG_MS);
    assert_int_equal(f.all_taken - before, stored());
    assert_int_equal(dead_letters(), stored());
}

static void test_a_checkpoint_that_finds_no_room_loses_nothing(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(publish(900000), HARK_OK);
    crash_room(2000000); /* enough for the write-ahead log, not for copying it */
    fill(300000);
    is_not_read_only();
    log_is_right();
    goes_on_soon();
    for (int i = 0; i < 4; i++)
        assert_int_equal(publish(900000), HARK_OK);
    log_is_right();
    crash_room(0);
    close_bus(); /* its checkpoint finds none either */
    crash_room(-1);
    open_bus();
    log_is_right();
    publish_some(3);
}

static bool last_came(void)
{
    hark_page *page = NULL;
    if (hark_read(f.bus, HARK_OPTS(hark_read_opts, .type = "late:event"), &page, NULL))
        return false;
    bool came = hark_page_count(page) == 1;
    hark_page_free(page);
    return came;
}

static void test_a_schedule_that_came_due_on_a_full_disk_is_published_later(void **state)
{
    hark_errinfo ei;
    (void)state;
    publish_some(5);
    if (hark_schedule(f.bus, HARK_OPTS(hark_event_spec, .type = "late:event", .json = "1"),
                      hark_after(200), NULL, &ei))
        fail_msg("hark_schedule: %s", ei.text);
    crash_room(0);
    refused_before = crash_refused();
    await(one_more_refused, "an attempt to publish it", KIT_HUNG_MS);
    assert_false(last_came());
    crash_room(-1);
    await(last_came, "the scheduled event", SOON_MS + SLACK_MS);
}

int main(void)
{
    kit_guard();
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_a_full_disk_refuses_publishing_and_nothing_is_lost),
        TEST(test_consuming_goes_on_while_the_disk_is_full),
        TEST(test_a_dead_letter_is_written_as_soon_as_there_is_room),
        TEST(test_what_was_not_committed_comes_again_after_a_restart),
        TEST(test_a_checkpoint_that_finds_no_room_loses_nothing),
        TEST(test_a_schedule_that_came_due_on_a_full_disk_is_published_later),
    };
    return cmocka_run_group_tests_name("full disk", tests, NULL, NULL);
}
