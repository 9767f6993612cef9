/* redis+pubsub: while the server is away, hangs, or its replies are lost: what publishers are told,
 * and that it goes on afterwards. */
#include "kit.h"

/* A bus whose connections go through a proxy. */
static hark_bus *open_through(kit *k, proxy *p)
{
    char url[160];
    hark_bus *bus = NULL;
    kit_url(k, proxy_port(p), url, sizeof url);
    assert_ok(&k->f, hark_open(url, NULL, &bus, &k->f.ei));
    return bus;
}

static void wait_published(kit *k, hark_bus *bus, int number)
{
    WAIT_UNTIL(say(bus, "a", number, &k->f.ei) == HARK_OK);
}

static void test_publishing_without_a_server_fails_and_keeps_nothing(void **state)
{
    kit *k = *state;
    listener *l = listen_to(k, k->other, "a");
    server_stop(redis);
    for (int i = 0; i < 50; i++)
        assert_err(&k->f, HARK_ESTORE, say(k->f.bus, "a", i, &k->f.ei));
    assert_says(&k->f, "127.0.0.1");
    server_start(redis);
    wait_heard(l, 1); /* it is subscribed again */
    assert_int_equal(l->list[0].cause, HARK_GAP_CONNECTION);
    wait_published(k, k->f.bus, 1000);
    wait_heard(l, 2);
    assert_string_equal(l->list[1].data, "1000"); /* and none of those before */
}

static void test_whoever_insists_gets_through_when_the_server_is_back(void **state)
{
    kit *k = *state;
    proxy *p = proxy_new(server_port(redis));
    hark_bus *bus = open_through(k, p);
    listener *l = listen_to(k, k->other, "a");
    proxy_refuse(p, true);
    proxy_cut(p);
    WAIT_UNTIL(say(bus, "a", 0, &k->f.ei) == HARK_ESTORE);
    proxy_pass(p);
    assert_ok(&k->f,
              hark_publish_with_retry(bus, HARK_OPTS(hark_event_spec, .type = "a", .id = "i"), NULL,
                                      NULL, &k->f.ei));
    WAIT_UNTIL(atomic_load(&l->n) > 0 && !l->list[atomic_load(&l->n) - 1].cause);
    hark_bus_unref(bus);
    proxy_free(p);
}

static void test_a_lost_reply_is_an_unknown_outcome(void **state)
{
    kit *k = *state;
    proxy *p = proxy_new(server_port(redis));
    hark_bus *bus = open_through(k, p);
    listener *l = listen_to(k, k->other, "a");
    proxy_cut_reply(p, PROXY_TO_SERVER, "PUBLISH", 1);
    assert_err(&k->f, HARK_EUNKNOWN, say(bus, "a", 7, &k->f.ei));
    assert_int_equal(hark_err_class(HARK_EUNKNOWN), HARK_CLASS_UNKNOWN);
    wait_heard(l, 1);
    assert_string_equal(l->list[0].data, "7"); /* in truth it was published */
    wait_published(k, bus, 8);                 /* on another connection */
    wait_heard(l, 2);
    assert_string_equal(l->list[1].data, "8");
    hark_bus_unref(bus);
    proxy_free(p);
}

static void test_an_idle_connection_that_was_closed_costs_nobody_a_publish(void **state)
{
    kit *k = *state;
    listener *l = listen_to(k, k->other, "a");
    assert_ok(&k->f, say(k->f.bus, "a", 1, &k->f.ei));
    wait_heard(l, 1);
    for (int i = 2; i < 10; i++) {
        assert_int_equal(kill_clients("hark-publish"), i == 2 ? 2 : 1);
        assert_ok(&k->f, say(k->f.bus, "a", i, &k->f.ei));
    }
    wait_heard(l, 9);
    assert_int_equal(gap_in(l), HEARD_MAX);
}

static void test_a_hung_server_makes_nobody_wait_for_long(void **state)
{
    kit *k = *state;
    listener *l = listen_to(k, k->other, "a");
    server_freeze(redis);
    int64_t began = hk_mono_ms();
    assert_err(&k->f, HARK_EUNKNOWN, say(k->f.bus, "a", 1, &k->f.ei));
    assert_true(hk_mono_ms() - began < 9000);
    assert_says(&k->f, "does not answer");
    server_thaw(redis);
    wait_published(k, k->f.bus, 2);
    WAIT_UNTIL(atomic_load(&l->n) > 0 && strcmp(l->list[atomic_load(&l->n) - 1].data, "2") == 0);
}

static void test_a_subscriber_notices_that_nothing_comes_any_more(void **state)
{
    kit *k = *state;
    proxy *p = proxy_new(server_port(redis));
    hark_bus *bus = open_through(k, p);
    listener *l = listen_to(k, bus, "a");
    proxy_black_hole(p, true); /* no word that the connection is of no use */
    assert_ok(&k->f, say(k->f.bus, "a", 1, &k->f.ei));
    WAIT_UNTIL(kill_clients("no such client") == 0 && proxy_counted(p).swallowed > 0);
    proxy_black_hole(p, false);
    wait_heard(l, 1);
    assert_int_equal(l->list[0].cause, HARK_GAP_CONNECTION);
    hark_bus_unref(bus);
    proxy_free(p);
}

/* Bytes come one by one, commands and replies are torn anywhere. */
static void test_torn_packets_change_nothing(void **state)
{
    kit *k = *state;
    proxy *p = proxy_new(server_port(redis));
    hark_bus *bus = open_through(k, p);
    listener *l = listen_to(k, bus, "a");
    proxy_slice(p, true);
    for (int i = 0; i < 20; i++)
        assert_ok(&k->f, say(bus, "a", i, &k->f.ei));
    wait_heard(l, 20);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(atoi(l->list[i].data), (int)i);
    hark_bus_unref(bus);
    proxy_free(p);
}

/* ---- the end ---------------------------------------------------------------------------------- */

enum { THREADS = 4 };

typedef struct publisher {
    pthread_t thread;
    hark_bus *bus;
    atomic_int said;
    hark_err err; /* that ended it */
} publisher;

static void *publish_until_it_fails(void *ud)
{
    publisher *p = ud;
    hark_errinfo ei = {0};
    do
        atomic_fetch_add(&p->said, 1);
    while (!(p->err = say(p->bus, "a", 1, &ei)));
    return NULL;
}

static void test_closing_while_others_publish_and_listen(void **state)
{
    kit *k = *state;
    publisher p[THREADS];
    hark_bus *bus = NULL;
    assert_ok(&k->f, hark_open(k->f.url, NULL, &bus, &k->f.ei));
    listener *l = listen_to(k, bus, "a");
    (void)listen_to(k, k->f.bus, "a");
    for (int i = 0; i < THREADS; i++) {
        p[i] = (publisher){.bus = bus};
        MUST(pthread_create(&p[i].thread, NULL, publish_until_it_fails, &p[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        WAIT_UNTIL(atomic_load(&p[i].said) > 100);
    wait_heard(l, 100);
    assert_ok(&k->f, hark_drain(bus, HUNG_MS, &k->f.ei));
    for (int i = 0; i < THREADS; i++) {
        pthread_join(p[i].thread, NULL);
        assert_int_equal(p[i].err, HARK_ECLOSED);
    }
    assert_err(&k->f, HARK_ECLOSED, say(bus, "a", 1, &k->f.ei));
    hark_bus_info info = {.size = sizeof info};
    assert_int_equal(hark_bus_info_get(bus, &info), HARK_OK);
    assert_true(info.last_sequence > 0);
    hark_bus_unref(bus);
}

static void test_closing_while_the_server_is_away(void **state)
{
    kit *k = *state;
    hark_bus *bus = NULL;
    assert_ok(&k->f, hark_open(k->f.url, NULL, &bus, &k->f.ei));
    (void)listen_to(k, bus, "a");
    server_stop(redis);
    assert_err(&k->f, HARK_ESTORE, say(bus, "a", 1, &k->f.ei));
    int64_t began = hk_mono_ms();
    hark_bus_unref(bus);
    assert_true(hk_mono_ms() - began < 4000); /* it does not wait for the server */
    server_start(redis);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        KIT_TEST(test_publishing_without_a_server_fails_and_keeps_nothing),
        KIT_TEST(test_whoever_insists_gets_through_when_the_server_is_back),
        KIT_TEST(test_a_lost_reply_is_an_unknown_outcome),
        KIT_TEST(test_an_idle_connection_that_was_closed_costs_nobody_a_publish),
        KIT_TEST(test_a_hung_server_makes_nobody_wait_for_long),
        KIT_TEST(test_a_subscriber_notices_that_nothing_comes_any_more),
        KIT_TEST(test_torn_packets_change_nothing),
        KIT_TEST(test_closing_while_others_publish_and_listen),
        KIT_TEST(test_closing_while_the_server_is_away),
    };
    return kit_main("redis+pubsub, outages", tests, HK_COUNTOF(tests));
}
