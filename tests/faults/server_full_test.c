/* A server that has no room left, on its disk or in its memory: publishing is refused with a clear error, nothing
 * that has a receipt is lost, reading goes on, and everything goes on when there is room again. */
#include "kit.h"
#include "servers.h"

#include <hark/hark.h>

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BEFORE = 5, MOST = 400, SIZE = 48 * 1024 };

static const char *preload;

typedef struct full {
    server *server;
    hark_bus *bus;
    hark_sub *sub;
    uint64_t seed;
    unsigned said; /* numbers below it have a receipt */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned handled, times[MOST + 2]; /* by number */
} full;

static hark_verdict handle(hark_delivery *d, void *ud)
{
    full *x = ud;
    unsigned n = (unsigned)strtoul(hark_event_id(hark_delivery_event(d)), NULL, 10);
    pthread_mutex_lock(&x->lock);
    x->times[n]++;
    x->handled++;
    pthread_cond_broadcast(&x->changed);
    pthread_mutex_unlock(&x->lock);
    return HARK_ACK;
}

/* ---- publishing -------------------------------------------------------------------------------- */

/* An event that does not become much smaller when it is compressed. The same number is the same event. */
static hark_err publish(full *x, unsigned n, hark_receipt *ret, hark_errinfo *ei)
{
    static char json[SIZE];
    char id[16];
    uint64_t random = x->seed + n;
    json[0] = json[SIZE - 2] = '"';
    for (size_t i = 1; i < SIZE - 2; i++)
        json[i] = (char)('#' + kit_random(&random) % 57); /* no quote, and no backslash */
    (void)snprintf(id, sizeof id, "%u", n);
    return hark_publish_ei(
        x->bus, HARK_OPTS(hark_event_spec, .type = "t", .source = "/full", .id = id, .json = json),
        ret, ei);
}

static void must_publish(full *x)
{
    hark_errinfo ei = {.text = ""};
    hark_receipt r;
    hark_err err = publish(x, x->said, &r, &ei);
    if (err)
        fail_msg("event %u: %s: %s", x->said, hark_err_name(err), ei.text);
    x->said++;
}

/* Until there is no room; what the last one heard. */
static hark_err fill(full *x, hark_errinfo *ei)
{
    hark_receipt r;
    hark_err err = HARK_OK;
    while (x->said < MOST && !(err = publish(x, x->said, &r, ei)))
        x->said++;
    return err;
}

static void assert_full(full *x, const char *says)
{
    hark_errinfo ei = {.text = ""};
    hark_err err = fill(x, &ei);
    if (err != HARK_EFULL || !strstr(ei.text, says))
        fail_msg("after %u events: expected HARK_EFULL and '%s', got %s: %s", x->said, says,
                 hark_err_name(err), ei.text);
}

/* The event that was refused, until it is taken; whoever waits for nothing but that may ask again. */
static void go_on(full *x)
{
    hark_errinfo ei = {.text = ""};
    hark_receipt r;
    hark_err err;
    int64_t end = kit_ms() + KIT_HUNG_MS;
    while ((err = publish(x, x->said, &r, &ei)) && kit_ms() < end) {
        pthread_mutex_lock(&x->lock);
        kit_await_locked(&x->changed, &x->lock);
        pthread_mutex_unlock(&x->lock);
    }
    if (err)
        fail_msg("there is room again, and event %u is refused: %s: %s", x->said,
                 hark_err_name(err), ei.text);
    x->said++;
}

/* ---- the log ----------------------------------------------------------------------------------- */

static unsigned count(full *x)
{
    hark_page *page;
    hark_errinfo ei = {.text = ""};
    uint64_t after = 0;
    unsigned n = 0;
    do {
        if (hark_read(x->bus, HARK_OPTS(hark_read_opts, .type = "t", .after = after), &page, &ei))
            fail_msg("hark_read: %s", ei.text);
        n += (unsigned)hark_page_count(page);
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    return n;
}

/* All that has a receipt is there once, and was handled. */
static void assert_nothing_lost(full *x)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    assert_int_equal(count(x), x->said);
    pthread_mutex_lock(&x->lock);
    for (unsigned n = 0; n < x->said; n++)
        while (x->times[n] == 0) {
            if (kit_ms() > end)
                fail_msg("event %u of %u was not handled", n, x->said);
            kit_await_locked(&x->changed, &x->lock);
        }
    pthread_mutex_unlock(&x->lock);
}

static void set_up(full *x, const char *scheme, const char *const *settings)
{
    hark_errinfo ei = {.text = ""};
    *x = (full){.server = server_with_disk(scheme, settings, preload), .seed = kit_seed()};
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->changed, NULL);
    if (hark_open(server_url(x->server), NULL, &x->bus, &ei) ||
        hark_subscribe(x->bus, "t", handle, x, HARK_OPTS(hark_sub_opts, .consumer = "c"), &x->sub,
                       &ei))
        fail_msg("%s", ei.text);
    for (int i = 0; i < BEFORE; i++)
        must_publish(x);
}

static void tear_down(full *x)
{
    x->sub = hark_sub_unref(x->sub);
    x->bus = hark_bus_unref(x->bus);
    server_free(x->server);
    pthread_cond_destroy(&x->changed);
    pthread_mutex_destroy(&x->lock);
}

/* ---- the disk ---------------------------------------------------------------------------------- */

static void full_disk(const char *scheme, const char *const *settings, const char *says)
{
    full x;
    set_up(&x, scheme, settings);
    for (int round = 0; round < 2; round++) {
        server_disk_full(x.server, true);
        assert_full(&x, says);
        assert_int_equal(count(&x), x.said);
        server_disk_full(x.server, false);
        go_on(&x);
        must_publish(&x);
        assert_nothing_lost(&x);
    }
    tear_down(&x);
}

static void test_a_full_disk_of_postgresql_refuses_publishing_and_nothing_is_lost(void **state)
{
    (void)state;
    full_disk("postgresql", NULL, "free space on the server");
}

static void test_a_full_disk_of_redis_refuses_publishing_and_nothing_is_lost(void **state)
{
    (void)state;
    full_disk("redis", (const char *const[]){"--appendfsync", "everysec", NULL},
              "cannot write its files");
}

/* With `appendfsync always` Redis ends when it cannot write. */
static void test_a_redis_that_ends_for_a_full_disk_has_lost_nothing_when_it_is_back(void **state)
{
    full x;
    hark_errinfo ei = {.text = ""};
    (void)state;
    set_up(&x, "redis", NULL);
    server_disk_full(x.server, true);
    hark_class class = hark_err_class(fill(&x, &ei));
    if (class != HARK_CLASS_TRANSIENT && class != HARK_CLASS_UNKNOWN)
        fail_msg("the server ended after %u events, and the publisher heard: %s", x.said, ei.text);
    server_await_end(x.server);
    server_disk_full(x.server, false);
    server_start(x.server);
    go_on(&x);
    must_publish(&x);
    assert_nothing_lost(&x);
    tear_down(&x);
}

/* ---- memory ------------------------------------------------------------------------------------ */

static void say_to(server *s, const char *command)
{
    redisContext *c = redisConnect("127.0.0.1", server_port(s));
    redisReply *r = c && !c->err ? redisCommand(c, command) : NULL;
    if (!r || r->type == REDIS_REPLY_ERROR)
        fail_msg("%s: %s", command, r ? r->str : "no server");
    freeReplyObject(r);
    redisFree(c);
}

static void test_a_redis_without_memory_refuses_publishing_and_nothing_is_lost(void **state)
{
    full x;
    (void)state;
    set_up(&x, "redis", (const char *const[]){"--maxmemory", "8mb", NULL});
    assert_full(&x, "raise it, or let retention remove events");
    assert_int_equal(count(&x), x.said);
    say_to(x.server, "CONFIG SET maxmemory 100mb");
    go_on(&x);
    must_publish(&x);
    assert_nothing_lost(&x);
    tear_down(&x);
}

static bool take_lag(const hark_consumer_info *info, void *ud)
{
    *(uint64_t *)ud = info->lag;
    return true;
}

/* What takes no room goes on: what was handled is committed. */
static void await_settled(full *x)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    hark_errinfo ei = {.text = ""};
    uint64_t lag = 1;
    while (lag) {
        if (hark_consumers(x->bus, take_lag, &lag, &ei))
            fail_msg("hark_consumers: %s", ei.text);
        if (kit_ms() > end)
            fail_msg("%llu events were handled and are not settled", (unsigned long long)lag);
        pthread_mutex_lock(&x->lock);
        kit_await_locked(&x->changed, &x->lock);
        pthread_mutex_unlock(&x->lock);
    }
}

/* The way out that the error names. */
static void test_retention_gives_a_redis_without_memory_room_again(void **state)
{
    full x;
    hark_errinfo ei = {.text = ""};
    uint64_t removed = 0;
    (void)state;
    set_up(&x, "redis", (const char *const[]){"--maxmemory", "8mb", NULL});
    assert_full(&x, "let retention remove events");
    assert_nothing_lost(&x);
    await_settled(&x);
    if (hark_retain(x.bus, HARK_OPTS(hark_retention, .pattern = "t", .max_events = 10), &ei) ||
        hark_retain_now(x.bus, &removed, &ei))
        fail_msg("retention: %s", ei.text);
    go_on(&x);
    if (count(&x) > 12) /* a pass may run by itself, and leave what comes after it */
        fail_msg("of %u events 10 should stay, and %u are left", x.said, count(&x));
    tear_down(&x);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_disk_of_postgresql_refuses_publishing_and_nothing_is_lost),
        cmocka_unit_test(test_a_full_disk_of_redis_refuses_publishing_and_nothing_is_lost),
        cmocka_unit_test(test_a_redis_that_ends_for_a_full_disk_has_lost_nothing_when_it_is_back),
        cmocka_unit_test(test_a_redis_without_memory_refuses_publishing_and_nothing_is_lost),
        cmocka_unit_test(test_retention_gives_a_redis_without_memory_room_again),
    };
    KIT_CHECK(argc >= 2, "usage: server_full_test PRELOAD [TEST]");
    preload = argv[1];
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    (void)setenv("HARK_LOG", "error", 0); /* what was refused is looked at */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
