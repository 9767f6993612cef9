/* Two processes, as two buses, on one log of a Redis server: a consumer that both have open, while connections and data
 * are lost. */
#include "../conformance/fixture.h"
#include "proxy.h"
#include "servers.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 20, MOST = 20000 };

static server *redis;
static unsigned fresh_logs;

/* What handlers saw, in whichever process. */
typedef struct seen {
    pthread_mutex_t lock;
    unsigned times[MOST]; /* by number */
    long last[KEYS];      /* number, by key */
    size_t n, by[2], disorders;
} seen;

typedef struct pair {
    char url[2][120];
    proxy *way; /* of the second one */
    hark_bus *bus[2];
    hark_sub *sub[2];
    hark_errinfo ei;
    seen seen;
} pair;

typedef struct member {
    pair *p;
    size_t i;
} member;

static hark_verdict see(hark_delivery *d, void *ud)
{
    member *m = ud;
    seen *s = &m->p->seen;
    const hark_event *e = hark_delivery_event(d);
    if (!e)
        return HARK_ACK; /* a gap */
    size_t len;
    const char *data = hark_event_data(e, &len);
    char text[16];
    (void)snprintf(text, sizeof text, "%.*s", (int)len, data);
    long number = strtol(text, NULL, 10);
    MUST(number >= 0 && number < MOST);
    pthread_mutex_lock(&s->lock);
    s->n += s->times[number]++ == 0;
    s->by[m->i]++;
    s->disorders += s->times[number] == 1 && number < s->last[number % KEYS];
    s->last[number % KEYS] = number > s->last[number % KEYS] ? number : s->last[number % KEYS];
    pthread_mutex_unlock(&s->lock);
    return HARK_ACK;
}

static int pair_set_up(void **state)
{
    pair *p = calloc(1, sizeof *p);
    assert_non_null(p);
    pthread_mutex_init(&p->seen.lock, NULL);
    p->way = proxy_new(server_port(redis));
    fresh_logs++;
    (void)snprintf(p->url[0], sizeof p->url[0], "redis://127.0.0.1:%d?log=b%u", server_port(redis),
                   fresh_logs);
    (void)snprintf(p->url[1], sizeof p->url[1], "redis://127.0.0.1:%d?log=b%u", proxy_port(p->way),
                   fresh_logs);
    for (size_t i = 0; i < 2; i++)
        assert_ok(p, hark_open(p->url[i], NULL, &p->bus[i], &p->ei));
    *state = p;
    return 0;
}

static int pair_tear_down(void **state)
{
    pair *p = *state;
    for (size_t i = 0; i < 2; i++) {
        hark_sub_unref(p->sub[i]);
        hark_bus_unref(p->bus[i]);
    }
    proxy_free(p->way);
    pthread_mutex_destroy(&p->seen.lock);
    free(p);
    return 0;
}

static void join(pair *p, size_t i)
{
    member *m = malloc(sizeof *m);
    assert_non_null(m);
    *m = (member){p, i};
    assert_ok(p, hark_subscribe(p->bus[i], "t", see, m,
                                HARK_OPTS(hark_sub_opts, .consumer = "c", .workers = 4,
                                          .start = HARK_START_FIRST, .free_ud = free,
                                          .flags = HARK_SUB_GAPS),
                                &p->sub[i], &p->ei));
}

/* Until it is stored, by an id of its own. */
static void publish_number(pair *p, size_t i, unsigned number)
{
    char key[16], data[16], id[24];
    (void)snprintf(key, sizeof key, "k%u", number % KEYS);
    (void)snprintf(data, sizeof data, "%u", number);
    (void)snprintf(id, sizeof id, "id-%u", number);
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = "t", .id = id,
                                            .source = "/test", .key = key, .json = data);
    int64_t until = 0;
    while (hark_publish(p->bus[i], spec, NULL))
        wait_yield(&until, "it is stored", __FILE__, __LINE__);
}

static size_t seen_of(pair *p)
{
    pthread_mutex_lock(&p->seen.lock);
    size_t n = p->seen.n;
    pthread_mutex_unlock(&p->seen.lock);
    return n;
}

static size_t seen_by(pair *p, size_t i)
{
    pthread_mutex_lock(&p->seen.lock);
    size_t n = p->seen.by[i];
    pthread_mutex_unlock(&p->seen.lock);
    return n;
}

static void assert_each_once(pair *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(p->seen.times[i], 1);
    assert_int_equal(p->seen.disorders, 0);
}

static void test_a_consumer_is_divided_between_processes(void **state)
{
    pair *p = *state;
    unsigned n = 0;
    join(p, 0);
    while (n < 200)
        publish_number(p, 0, n++);
    WAIT_UNTIL(seen_of(p) == n);
    join(p, 1);
    while (seen_by(p, 1) == 0) { /* it has got its part */
        publish_number(p, n % 2, n);
        n++;
        WAIT_UNTIL(seen_of(p) == n);
    }
    for (unsigned upto = n + 600; n < upto; n++)
        publish_number(p, n % 2, n);
    WAIT_UNTIL(seen_of(p) == n);
    assert_each_once(p, n);
    assert_true(seen_by(p, 0) > 0 && seen_by(p, 1) > 0);
}

static void test_who_leaves_hands_over_what_is_left(void **state)
{
    pair *p = *state;
    unsigned n = 0;
    join(p, 0);
    join(p, 1);
    for (; n < 300; n++)
        publish_number(p, n % 2, n);
    hark_sub_close(p->sub[1]);
    for (; n < 600; n++)
        publish_number(p, n % 2, n);
    WAIT_UNTIL(seen_of(p) == n);
    assert_each_once(p, n);
}

static void test_events_are_stored_once_though_every_tenth_reply_is_lost(void **state)
{
    pair *p = *state;
    unsigned n = 0;
    join(p, 0);
    for (; n < 200; n++) {
        if (n % 10 == 5)
            proxy_cut_reply(p->way, PROXY_TO_SERVER, "commit", 1);
        publish_number(p, 1, n);
    }
    WAIT_UNTIL(seen_of(p) == n);
    assert_each_once(p, n);
}

static void test_everybody_goes_on_after_the_server_was_killed(void **state)
{
    pair *p = *state;
    unsigned n = 0;
    join(p, 0);
    join(p, 1);
    for (; n < 200; n++)
        publish_number(p, n % 2, n);
    server_kill(redis);
    server_start(redis);
    for (; n < 400; n++)
        publish_number(p, n % 2, n);
    WAIT_UNTIL(seen_of(p) == n);
}

static void test_everybody_goes_on_after_the_server_lost_its_data(void **state)
{
    pair *p = *state;
    unsigned n = 0;
    join(p, 0);
    join(p, 1);
    for (; n < 100; n++)
        publish_number(p, n % 2, n);
    WAIT_UNTIL(seen_of(p) == n);
    server_stop(redis);
    char command[300];
    (void)snprintf(command, sizeof command, "rm -rf '%s'/data/*", server_dir(redis));
    assert_int_equal(system(command), 0);
    server_start(redis);
    for (; n < 200; n++)
        publish_number(p, n % 2, n);
    WAIT_UNTIL(seen_of(p) == n);
    hark_receipt r;
    assert_ok(p,
              hark_publish_ei(p->bus[0], HARK_OPTS(hark_event_spec, .type = "other"), &r, &p->ei));
    assert_true(r.sequence > 4096);
}

static int start_server(void **state)
{
    (void)state;
    redis = server_redis(NULL);
    return 0;
}

static int stop_server(void **state)
{
    (void)state;
    server_free(redis);
    return 0;
}

#define PAIR_TEST(fn) cmocka_unit_test_setup_teardown(fn, pair_set_up, pair_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR_TEST(test_a_consumer_is_divided_between_processes),
        PAIR_TEST(test_who_leaves_hands_over_what_is_left),
        PAIR_TEST(test_events_are_stored_once_though_every_tenth_reply_is_lost),
        PAIR_TEST(test_everybody_goes_on_after_the_server_was_killed),
        PAIR_TEST(test_everybody_goes_on_after_the_server_lost_its_data),
    };
    (void)setenv("HARK_LOG", "error", 0);
    return cmocka_run_group_tests_name("redis log bus", tests, start_server, stop_server);
}
