/* Replies that wait: for receipts, for deferred work, for workers. The loop goes on meanwhile, and
 * no wake-up is lost. */
#include "fixture.h"
#include "shelf.h"

#include "base/base.h"

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { MANY = 256 };

static fixture f;
static reply r;
static char v[256];

/* ---- a thread that resumes deferred contexts, and a gate for blocking handlers ---- */

static struct {
    shelf held;
    bool open;
    size_t blocked;
} helper = {.held = SHELF_INIT};

static size_t held(void)
{
    pthread_mutex_lock(&helper.held.lock);
    size_t n = helper.held.n;
    pthread_mutex_unlock(&helper.held.lock);
    return n;
}

static size_t blocked(void)
{
    pthread_mutex_lock(&helper.held.lock);
    size_t n = helper.blocked;
    pthread_mutex_unlock(&helper.held.lock);
    return n;
}

static void open_gate(bool open)
{
    pthread_mutex_lock(&helper.held.lock);
    helper.open = open;
    pthread_cond_broadcast(&helper.held.more);
    pthread_mutex_unlock(&helper.held.lock);
}

static void finish_held(hark_ctx *c)
{
    (void)hark_ctx_text(c, 200, hark_ctx_printf(c, "late %s", hark_ctx_param(c, "id")));
    hark_ctx_resume(c, HARK_OK);
}

static void *resumer(void *arg)
{
    (void)arg;
    for (hark_ctx *c; (c = shelf_take(&helper.held));)
        finish_held(c);
    return NULL;
}

/* ---- handlers ---- */

static hark_err publish(hark_ctx *c, void *ud)
{
    (void)ud;
    hark_err err = hark_ctx_publish(
        c, HARK_OPTS(hark_event_spec, .type = "order:placed", .json = "{\"id\":\"o1\"}"));
    return err ? err : hark_ctx_text(c, 201, hark_ctx_request_id(c));
}

typedef struct cup {
    int size;
} cup;
HARK_JSON_TABLE(cup_json, cup, HARK_JSON_INT(cup, size, .required = true, HARK_JSON_RANGE(1, 9)));

static hark_err publish_cup(hark_ctx *c, void *ud)
{
    (void)ud;
    cup k = {.size = hark_ctx_query(c, "size")[0] - '0'};
    hark_err err =
        hark_ctx_publish_json(c, HARK_OPTS(hark_event_spec, .type = "cup:made"), &cup_json, &k);
    return err ? err : hark_ctx_json(c, 201, &cup_json, &k);
}

static hark_err publish_three(hark_ctx *c, void *ud)
{
    for (int i = 0; i < 3; i++) {
        hark_err err = publish(c, ud);
        if (err)
            return err;
    }
    return HARK_OK;
}

static hark_err with_receipt(hark_ctx *c, hark_err err, const hark_receipt *receipt, void *ud)
{
    if (err)
        return hark_ctx_text(c, 418, "composed for the failure");
    return hark_ctx_text(
        c, 201,
        hark_ctx_printf(c, "%s %llu", (const char *)ud, (unsigned long long)receipt->sequence));
}

static hark_err publish_then(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_publish_then(c, HARK_OPTS(hark_event_spec, .type = "t", .json = "1"),
                                 with_receipt, hark_ctx_printf(c, "sequence"));
}

static hark_err defer(hark_ctx *c, void *ud)
{
    (void)ud;
    return shelf_defer(&helper.held, c);
}

static hark_err publish_and_defer(hark_ctx *c, void *ud)
{
    hark_err err = publish(c, NULL);
    return err ? err : defer(c, ud);
}

static hark_err block(hark_ctx *c, void *ud)
{
    (void)ud;
    pthread_mutex_lock(&helper.held.lock);
    helper.blocked++;
    while (!helper.open)
        pthread_cond_wait(&helper.held.more, &helper.held.lock);
    helper.blocked--;
    pthread_mutex_unlock(&helper.held.lock);
    return hark_ctx_text(c, 200, "unblocked");
}

static void start_app(fake_mode mode, const hark_app_opts *opts)
{
    static const hark_route_opts blocking = {.size = sizeof blocking, .blocking = 1};
    helper.held.closed = helper.open = false;
    fixture_new(&f, mode, opts);
    hark_get(f.app, "/hello", say_hello, NULL);
    hark_post(f.app, "/publish", publish, NULL);
    hark_post(f.app, "/publish3", publish_three, NULL);
    hark_post(f.app, "/cups", publish_cup, NULL);
    hark_post(f.app, "/then", publish_then, NULL);
    hark_get(f.app, "/defer/:id", defer, NULL);
    hark_get(f.app, "/both/:id", publish_and_defer, NULL);
    hark_route(f.app, "GET", "/block", block, NULL, &blocking);
    hark_route(f.app, "GET", "/workers/defer/:id", publish_and_defer, NULL, &blocking);
    hark_route(f.app, "POST", "/workers/publish", publish_three, NULL, &blocking);
    hark_group *g = NULL;
    hark_app_group(f.app, "/timed", &g);
    hark_group_use(g, hark_timeout(HARK_OPTS(hark_timeout_opts, .ms = 30, .status = 504)));
    hark_group_get(g, "/defer/:id", defer, NULL);
    hark_group_route(g, "GET", "/block", block, NULL, &blocking);
    hark_group_post(g, "/publish", publish, NULL);
    fixture_start(&f);
}

static void ask(const char *method, const char *target)
{
    client_do(f.port, method, target, NULL, NULL, &r);
}

static int request(const char *method, const char *target)
{
    char text[256];
    int fd = client_open(f.port);
    snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: a\r\n\r\n", method, target);
    client_sends(fd, text);
    return fd;
}

static bool quiet(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

/* ---- promises ---- */

static void test_a_reply_waits_for_its_receipt_and_the_loop_does_not(void **state)
{
    (void)state;
    start_app(FAKE_HELD, HARK_OPTS(hark_app_opts, .loops = 1));
    int fd = request("POST", "/publish");
    WAIT_UNTIL(fake_bus_waiting(f.bus) == 1);
    ask("GET", "/hello");
    EXPECT_STATUS(&r, 200);
    assert_true(quiet(fd));
    fake_bus_release(f.bus);
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 201);
    close(fd);
    fixture_end(&f);
}

static void test_a_struct_is_published_as_json_unless_it_breaks_its_table(void **state)
{
    (void)state;
    start_app(FAKE_ASYNC, NULL);
    ask("POST", "/cups?size=3");
    EXPECT_STATUS(&r, 201);
    ask("POST", "/cups?size=0");
    EXPECT_STATUS(&r, 500);
    assert_int_equal(fake_bus_count(f.bus, "cup:made"), 1);
    fixture_end(&f);
}

static void test_a_reply_waits_for_every_receipt(void **state)
{
    (void)state;
    start_app(FAKE_HELD, NULL);
    int fd = request("POST", "/publish3");
    WAIT_UNTIL(fake_bus_waiting(f.bus) == 3);
    fake_bus_release(f.bus);
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 201);
    assert_int_equal(fake_bus_count(f.bus, "order:placed"), 3);
    close(fd);
    fixture_end(&f);
}

static void test_events_carry_the_request_id(void **state)
{
    (void)state;
    start_app(FAKE_ASYNC, NULL);
    ask("POST", "/publish");
    EXPECT_STATUS(&r, 201);
    fake_bus_last(f.bus, "correlationid", v, sizeof v);
    assert_string_equal(v, r.body);
    fake_bus_last(f.bus, "causationid", v, sizeof v);
    assert_string_equal(v, r.body);
    fixture_end(&f);
}

static void expect_failure(fake_mode mode, hark_err err, int status, const char *retry)
{
    start_app(mode, NULL);
    fake_bus_outcome(f.bus, err);
    ask("POST", "/publish");
    EXPECT_STATUS(&r, status);
    EXPECT_PART(r.head, "application/problem+json");
    assert_string_equal(reply_header(&r, "Retry-After", v, sizeof v), retry);
    fixture_end(&f);
}

static void test_a_publish_that_failed_is_never_answered_as_if_it_had_not(void **state)
{
    (void)state;
    expect_failure(FAKE_ASYNC, HARK_ESTORE, 503, "1");
    expect_failure(FAKE_ASYNC, HARK_EFULL, 507, "1");
    expect_failure(FAKE_ASYNC, HARK_EUNKNOWN, 503, "1");
    expect_failure(FAKE_ASYNC, HARK_ECONFLICT, 409, "");
    expect_failure(FAKE_SYNC, HARK_EDURABILITY, 422, "");
    expect_failure(FAKE_FULL, HARK_OK, 503, "1");
}

static void test_a_reply_may_be_composed_from_the_receipt(void **state)
{
    (void)state;
    static const fake_mode modes[] = {FAKE_SYNC, FAKE_ASYNC};
    for (size_t i = 0; i < 2; i++) {
        start_app(modes[i], NULL);
        ask("POST", "/then");
        EXPECT_STATUS(&r, 201);
        assert_string_equal(r.body, "sequence 1");
        fake_bus_outcome(f.bus, HARK_ESTORE);
        ask("POST", "/then");
        EXPECT_STATUS(&r, 418);
        fixture_end(&f);
    }
}

/* Keeps MANY connections busy for some rounds; each request gets its reply. */
static void storm(const char *method, const char *target, int rounds, int status)
{
    static int fds[MANY];
    char text[256];
    snprintf(text, sizeof text, "%s %s HTTP/1.1\r\nHost: a\r\n\r\n", method, target);
    for (int i = 0; i < MANY; i++)
        assert_true((fds[i] = client_open(f.port)) >= 0);
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < MANY; i++)
            client_sends(fds[i], text);
        for (int i = 0; i < MANY; i++) {
            client_read(fds[i], false, &r);
            EXPECT_STATUS(&r, status);
        }
    }
    for (int i = 0; i < MANY; i++)
        close(fds[i]);
}

static void test_256_connections_publish_and_no_wake_up_is_lost(void **state)
{
    (void)state;
    start_app(FAKE_ASYNC, NULL);
    storm("POST", "/publish", 20, 201);
    storm("POST", "/publish3", 10, 201);
    assert_int_equal(fake_bus_count(f.bus, "order:placed"), MANY * (20 + 30));
    fixture_end(&f);
}

static void test_256_connections_are_resumed_from_another_thread(void **state)
{
    (void)state;
    pthread_t threads[2];
    start_app(FAKE_ASYNC, NULL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, resumer, NULL), 0);
    storm("GET", "/defer/7", 20, 200);
    storm("GET", "/both/7", 10, 200);
    storm("GET", "/workers/defer/7", 1, 200);
    shelf_close(&helper.held);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    fixture_end(&f);
}

static void test_blocking_handlers_do_not_hold_the_loop(void **state)
{
    (void)state;
    start_app(FAKE_SYNC, HARK_OPTS(hark_app_opts, .loops = 1, .workers = 2));
    int a = request("GET", "/block"), b = request("GET", "/block");
    WAIT_UNTIL(blocked() == 2);
    ask("GET", "/hello");
    EXPECT_STATUS(&r, 200);
    assert_true(quiet(a));
    open_gate(true);
    client_read(a, false, &r);
    EXPECT_STATUS(&r, 200);
    client_read(b, false, &r);
    EXPECT_STATUS(&r, 200);
    close(a);
    close(b);
    fixture_end(&f);
}

static void test_blocking_handlers_publish_too(void **state)
{
    (void)state;
    start_app(FAKE_ASYNC, NULL);
    for (int i = 0; i < 200; i++) {
        ask("POST", "/workers/publish");
        EXPECT_STATUS(&r, 201);
    }
    assert_int_equal(fake_bus_count(f.bus, "order:placed"), 600);
    fixture_end(&f);
}

static void test_too_many_blocking_requests_are_turned_away(void **state)
{
    (void)state;
    start_app(FAKE_SYNC, HARK_OPTS(hark_app_opts, .loops = 1, .workers = 1, .worker_queue = 1));
    int a = request("GET", "/block");
    WAIT_UNTIL(blocked() == 1);
    /* One more waits in the queue; of the two it is not known which comes first. */
    int b = request("GET", "/block"), c = request("GET", "/block");
    struct pollfd p[2] = {{.fd = b, .events = POLLIN}, {.fd = c, .events = POLLIN}};
    assert_int_equal(poll(p, 2, 30000), 1);
    client_read(p[0].revents ? b : c, false, &r);
    EXPECT_STATUS(&r, 503);
    assert_string_equal(reply_header(&r, "Retry-After", v, sizeof v), "1");
    open_gate(true);
    client_read(a, false, &r);
    EXPECT_STATUS(&r, 200);
    client_read(p[0].revents ? c : b, false, &r);
    EXPECT_STATUS(&r, 200);
    close(a);
    close(b);
    close(c);
    fixture_end(&f);
}

static void test_a_handler_that_takes_too_long_is_answered_for(void **state)
{
    (void)state;
    start_app(FAKE_HELD, HARK_OPTS(hark_app_opts, .loops = 1));
    int fd = request("GET", "/timed/defer/1");
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 504);
    EXPECT_PART(r.head, "X-Request-Id: ");
    client_sends(fd, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"); /* the connection is still good */
    client_read(fd, false, &r);
    EXPECT_STATUS(&r, 200);
    close(fd);
    finish_held(shelf_take(&helper.held)); /* the abandoned work ends late and harms nobody */
    ask("GET", "/timed/block");
    EXPECT_STATUS(&r, 504);
    open_gate(true);
    ask("POST", "/timed/publish");
    EXPECT_STATUS(&r, 504);
    fake_bus_release(f.bus);
    ask("GET", "/hello");
    EXPECT_STATUS(&r, 200);
    fixture_end(&f);
}

static void test_a_client_that_leaves_while_its_reply_waits_harms_nobody(void **state)
{
    (void)state;
    start_app(FAKE_HELD, NULL);
    for (int i = 0; i < 20; i++) {
        int a = request("POST", "/publish"), b = request("GET", "/defer/1");
        WAIT_UNTIL(fake_bus_waiting(f.bus) == 1 && held() == 1);
        close(a);
        close(b);
        fake_bus_release(f.bus);
        WAIT_UNTIL(fake_bus_waiting(f.bus) == 0);
        finish_held(shelf_take(&helper.held));
        ask("GET", "/hello");
        EXPECT_STATUS(&r, 200);
    }
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reply_waits_for_its_receipt_and_the_loop_does_not),
        cmocka_unit_test(test_a_reply_waits_for_every_receipt),
        cmocka_unit_test(test_a_struct_is_published_as_json_unless_it_breaks_its_table),
        cmocka_unit_test(test_events_carry_the_request_id),
        cmocka_unit_test(test_a_publish_that_failed_is_never_answered_as_if_it_had_not),
        cmocka_unit_test(test_a_reply_may_be_composed_from_the_receipt),
        cmocka_unit_test(test_256_connections_publish_and_no_wake_up_is_lost),
        cmocka_unit_test(test_256_connections_are_resumed_from_another_thread),
        cmocka_unit_test(test_blocking_handlers_do_not_hold_the_loop),
        cmocka_unit_test(test_blocking_handlers_publish_too),
        cmocka_unit_test(test_too_many_blocking_requests_are_turned_away),
        cmocka_unit_test(test_a_handler_that_takes_too_long_is_answered_for),
        cmocka_unit_test(test_a_client_that_leaves_while_its_reply_waits_harms_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
