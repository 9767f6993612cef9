/* Middleware that waits before it lets a request through (hark_ctx_continue): the loop goes on
 * meanwhile, the chain goes on where it stopped, and who has gone meanwhile harms nobody. */
#include "fixture.h"
#include "shelf.h"

#include "base/base.h"

#include <stdio.h>
#include <unistd.h>

enum { MANY = 128 };

static fixture f;
static reply r;
static int key;

/* ---- contexts that wait, and a thread that gives them back ---- */

static struct {
    shelf held;
    size_t handled, ended;
} helper = {.held = SHELF_INIT};

static void bump(size_t *n)
{
    pthread_mutex_lock(&helper.held.lock);
    ++*n;
    pthread_mutex_unlock(&helper.held.lock);
}

static size_t look(const size_t *n)
{
    pthread_mutex_lock(&helper.held.lock);
    size_t v = *n;
    pthread_mutex_unlock(&helper.held.lock);
    return v;
}

/* ---- stations ---- */

static hark_err wait_here(hark_ctx *c, void *ud)
{
    (void)ud;
    return shelf_defer(&helper.held, c);
}

static hark_err go_on(hark_ctx *c, void *ud)
{
    hark_err err = hark_ctx_set(c, &key, ud);
    return err ? err : hark_ctx_next(c);
}

static hark_err refuse(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_fail(c, HARK_EDENIED, "not today");
}

static hark_err handler(hark_ctx *c, void *ud)
{
    (void)ud;
    bump(&helper.handled);
    const char *v = hark_ctx_get(c, &key);
    return hark_ctx_text(c, 200, v ? v : "nothing");
}

static hark_err role(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_text(c, 200, hk_role_get() == HK_ROLE_WORKER ? "worker" : "loop");
}

static void on_done(hark_ctx *c, const hark_outcome *outcome, void *ud)
{
    (void)c;
    (void)outcome;
    (void)ud;
    bump(&helper.ended);
}

static hark_err watch_end(hark_ctx *c, void *ud)
{
    (void)ud;
    (void)hark_ctx_on_done(c, on_done, NULL);
    return hark_ctx_next(c);
}

static void start_app(const hark_app_opts *opts)
{
    static const hark_route_opts blocking = {.size = sizeof blocking, .blocking = 1};
    hark_group *g = NULL, *twice = NULL, *timed = NULL;
    helper.held.closed = false;
    helper.handled = helper.ended = helper.held.n = 0;
    fixture_new(&f, FAKE_ASYNC, opts);
    hark_get(f.app, "/hello", say_hello, NULL);
    hark_app_use(f.app, (hark_middleware){.fn = watch_end});
    hark_app_group(f.app, "/late", &g);
    hark_group_use(g, (hark_middleware){.fn = wait_here});
    hark_group_get(g, "/it", handler, NULL);
    hark_group_route(g, "GET", "/role", role, NULL, &blocking);
    hark_group_group(g, "/twice", &twice);
    hark_group_use(twice, (hark_middleware){.fn = wait_here});
    hark_group_get(twice, "/it", handler, NULL);
    hark_group_route(twice, "GET", "/role", role, NULL, &blocking);
    hark_app_group(f.app, "/timed", &timed);
    hark_group_use(timed, hark_timeout(HARK_OPTS(hark_timeout_opts, .ms = 20, .status = 504)));
    hark_group_use(timed, (hark_middleware){.fn = wait_here});
    hark_group_get(timed, "/it", handler, NULL);
    fixture_start(&f);
}

static int request(const char *target)
{
    char text[256];
    int fd = client_open(f.port);
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", target);
    client_sends(fd, text);
    return fd;
}

static void expect(int fd, int status, const char *part)
{
    client_read(fd, false, &r);
    close(fd);
    EXPECT_STATUS(&r, status);
    EXPECT_PART(r.body, part);
}

/* ---- promises ---- */

static void test_a_middleware_goes_on_later_and_the_loop_does_not_wait(void **state)
{
    (void)state;
    start_app(HARK_OPTS(hark_app_opts, .loops = 1));
    int fd = request("/late/it");
    hark_ctx *c = shelf_take(&helper.held);
    client_do(f.port, "GET", "/hello", NULL, NULL, &r);
    EXPECT_STATUS(&r, 200);
    assert_int_equal(look(&helper.handled), 0);
    hark_ctx_continue(c, go_on, hark_ctx_printf(c, "brought along"));
    expect(fd, 200, "brought along");
    fd = request("/late/it");
    hark_ctx_continue(shelf_take(&helper.held), NULL, NULL);
    expect(fd, 200, "nothing");
    fixture_end(&f);
}

static void test_a_middleware_may_refuse_later(void **state)
{
    (void)state;
    start_app(NULL);
    int fd = request("/late/it");
    hark_ctx_continue(shelf_take(&helper.held), refuse, NULL);
    expect(fd, 403, "not today");
    fd = request("/late/it");
    hark_ctx *c = shelf_take(&helper.held);
    hark_ctx_resume(c, hark_ctx_fail(c, HARK_EDENIED, "nor tomorrow"));
    expect(fd, 403, "nor tomorrow");
    assert_int_equal(look(&helper.handled), 0);
    fixture_end(&f);
}

static void test_a_chain_may_wait_twice_and_blocking_routes_stay_with_the_workers(void **state)
{
    (void)state;
    start_app(NULL);
    int fd = request("/late/twice/it");
    hark_ctx_continue(shelf_take(&helper.held), go_on, NULL);
    hark_ctx_continue(shelf_take(&helper.held), NULL, NULL);
    expect(fd, 200, "nothing");
    fd = request("/late/role");
    hark_ctx_continue(shelf_take(&helper.held), go_on, NULL);
    expect(fd, 200, "worker");
    fd = request("/late/twice/role");
    hark_ctx_continue(shelf_take(&helper.held), go_on, NULL);
    hark_ctx_continue(shelf_take(&helper.held), go_on, NULL);
    expect(fd, 200, "worker");
    fixture_end(&f);
}

static void test_nobody_is_handled_who_has_been_answered_already(void **state)
{
    (void)state;
    start_app(NULL);
    int fd = request("/timed/it");
    expect(fd, 504, "too long");
    hark_ctx_continue(shelf_take(&helper.held), go_on, NULL);
    WAIT_UNTIL(look(&helper.ended) == 1);
    assert_int_equal(look(&helper.handled), 0);
    fixture_end(&f);
}

static void test_a_client_that_left_while_it_waited_leaves_nothing_behind(void **state)
{
    (void)state;
    start_app(NULL);
    int fd = request("/late/it");
    hark_ctx *c = shelf_take(&helper.held);
    close(fd);
    hark_ctx_continue(c, go_on, NULL);
    WAIT_UNTIL(look(&helper.ended) == 1);
    fixture_end(&f);
}

static void test_the_end_of_the_app_cuts_off_who_waits(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    start_app(HARK_OPTS(hark_app_opts, .drain_ms = 20));
    int fd = request("/late/it"), worker = request("/late/role");
    hark_ctx *a = shelf_take(&helper.held), *b = shelf_take(&helper.held);
    assert_int_equal(hark_app_stop(f.app, &ei), HARK_ETIMEDOUT);
    assert_true(client_ended(fd));
    assert_true(client_ended(worker));
    hark_app_unref(f.app);
    hark_ctx_continue(a, go_on, NULL);
    hark_ctx_continue(b, go_on, NULL);
    hark_bus_unref(f.bus);
    assert_int_equal(look(&helper.handled), 0);
    close(fd);
    close(worker);
}

static void *continuer(void *arg)
{
    (void)arg;
    for (hark_ctx *c; (c = shelf_take(&helper.held));)
        hark_ctx_continue(c, go_on, NULL);
    return NULL;
}

/* The holder may be done before the middleware has even returned. */
static void test_no_request_is_lost_between_two_threads(void **state)
{
    (void)state;
    static const char *const targets[] = {"/late/it", "/late/twice/it", "/late/twice/role"};
    static int fds[MANY];
    pthread_t thread;
    start_app(NULL);
    assert_int_equal(pthread_create(&thread, NULL, continuer, NULL), 0);
    for (int round = 0; round < 9; round++) {
        for (int i = 0; i < MANY; i++)
            fds[i] = request(targets[round % 3]);
        for (int i = 0; i < MANY; i++)
            expect(fds[i], 200, "");
    }
    shelf_close(&helper.held);
    pthread_join(thread, NULL);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_middleware_goes_on_later_and_the_loop_does_not_wait),
        cmocka_unit_test(test_a_middleware_may_refuse_later),
        cmocka_unit_test(test_a_chain_may_wait_twice_and_blocking_routes_stay_with_the_workers),
        cmocka_unit_test(test_nobody_is_handled_who_has_been_answered_already),
        cmocka_unit_test(test_a_client_that_left_while_it_waited_leaves_nothing_behind),
        cmocka_unit_test(test_the_end_of_the_app_cuts_off_who_waits),
        cmocka_unit_test(test_no_request_is_lost_between_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
