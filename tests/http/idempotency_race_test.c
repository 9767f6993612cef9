/* Requests with the same Idempotency-Key at the same time, and those whose client or answer is gone
 * before their work has ended. */
#include "store_app.h"

#include <unistd.h>

enum { CLIENTS = 32 };

static store_app a, b;
static reply r;
static gate held = GATE;

#define K1 KEY("k1")

static hark_err insert(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err =
        hark_tx_exec(tx, "INSERT INTO orders(what) VALUES(hex(randomblob(8)))", HARK_NO_ARGS);
    (void)hark_ctx_set_header(c, "X-Made", "yes");
    return err ? err : hark_ctx_text(c, 201, hark_ctx_request_id(c));
}

static hark_err place(hark_ctx *c, void *ud)
{
    return hark_ctx_transact(c, insert, ud, PATIENT);
}

/* On a worker: waits first. */
static hark_err wait_and_place(hark_ctx *c, void *ud)
{
    gate_pass(&held);
    return hark_ctx_transact(c, insert, ud, PATIENT);
}

static hark_err wait_and_answer(hark_ctx *c, void *ud)
{
    (void)ud;
    gate_pass(&held);
    return hark_ctx_text(c, 200, hark_ctx_request_id(c));
}

/* In the closure: all writers wait with it. */
static hark_err wait_and_insert(hark_ctx *c, hark_tx *tx, void *ud)
{
    gate_pass(&held);
    return insert(c, tx, ud);
}

static hark_err place_slowly(hark_ctx *c, void *ud)
{
    return hark_ctx_transact(c, wait_and_insert, ud, PATIENT);
}

static void add_routes(hark_app *app)
{
    const hark_route_opts *blocking = HARK_OPTS(hark_route_opts, .blocking = 1);
    (void)hark_post(app, "/place", place, NULL);
    (void)hark_post(app, "/slow", place_slowly, NULL);
    (void)hark_route(app, "POST", "/wait-place", wait_and_place, NULL, blocking);
    (void)hark_route(app, "POST", "/wait-answer", wait_and_answer, NULL, blocking);
}

static void start(const hark_timeout_opts *timeout)
{
    gate_shut(&held);
    store_app_new(&a, NULL);
    if (timeout)
        (void)hark_app_use(a.app, hark_timeout(timeout));
    (void)hark_app_use(a.app, hark_idempotency(NULL));
    add_routes(a.app);
    store_app_start(&a);
}

/* Repeats a request until the key is free. */
static void post_until_free(const char *target, reply *ret)
{
    int64_t since = hk_mono_ms();
    do
        client_do(a.port, "POST", target, K1, "x", ret);
    while (ret->status == 409 && hk_mono_ms() - since < 30000);
}

static void test_a_key_is_taken_until_its_request_has_ended(void **state)
{
    (void)state;
    static const char *const paths[] = {"/wait-place", "/wait-answer"};
    for (size_t i = 0; i < HK_COUNTOF(paths); i++) {
        caller first;
        start(NULL);
        caller_start(&first, a.port, "POST", paths[i], K1, "x");
        gate_await(&held, 1);
        client_do(a.port, "POST", paths[i], K1, "x", &r);
        EXPECT_STATUS(&r, 409);
        EXPECT_HEADER(&r, "Retry-After", "1");
        EXPECT_PART(r.body, "still running");
        gate_open(&held);
        caller_join(&first);
        EXPECT_HEADER(&first.r, "Idempotent-Replay", "");
        client_do(a.port, "POST", paths[i], K1, "x", &r); /* at once */
        EXPECT_STATUS(&r, first.r.status);
        EXPECT_HEADER(&r, "Idempotent-Replay", "true");
        assert_string_equal(r.body, first.r.body);
        store_app_end(&a);
    }
}

static void *insist(void *arg)
{
    post_until_free("/place", arg);
    return NULL;
}

static void test_many_clients_with_one_key_make_one_row(void **state)
{
    (void)state;
    static reply replies[CLIENTS];
    pthread_t threads[CLIENTS];
    size_t firsts = 0;
    char v[16];
    start(NULL);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, insist, &replies[i]), 0);
    for (size_t i = 0; i < CLIENTS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < CLIENTS; i++) {
        EXPECT_STATUS(&replies[i], 201);
        EXPECT_HEADER(&replies[i], "X-Made", "yes");
        assert_string_equal(replies[i].body, replies[0].body);
        firsts += !reply_header(&replies[i], "Idempotent-Replay", v, sizeof v)[0];
    }
    assert_int_equal(firsts, 1);
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

/* Two middlewares on one log stand for two processes: each has running keys of its own. */
static void test_of_two_processes_one_is_first_and_both_give_its_reply(void **state)
{
    (void)state;
    static const char *const paths[] = {"/wait-place", "/wait-answer"};
    for (size_t i = 0; i < HK_COUNTOF(paths); i++) {
        caller one, two;
        hark_errinfo ei = {0};
        start(NULL);
        b = a;
        assert_int_equal(hark_app_new(HARK_OPTS(hark_app_opts, .bus = a.bus), &b.app, &ei), 0);
        (void)hark_app_use(b.app, hark_idempotency(NULL));
        add_routes(b.app);
        store_app_start(&b);
        caller_start(&one, a.port, "POST", paths[i], K1, "x");
        caller_start(&two, b.port, "POST", paths[i], K1, "x");
        gate_await(&held, 2);
        gate_open(&held);
        caller_join(&one);
        caller_join(&two);
        char v[2][16];
        bool replay_one = reply_header(&one.r, "Idempotent-Replay", v[0], sizeof v[0])[0];
        bool replay_two = reply_header(&two.r, "Idempotent-Replay", v[1], sizeof v[1])[0];
        assert_int_equal(replay_one + replay_two, 1);
        assert_int_equal(one.r.status, two.r.status);
        assert_string_equal(one.r.body, two.r.body);
        assert_int_equal(orders(&a), i == 0);
        hark_app_unref(b.app);
        store_app_end(&a);
    }
}

static void test_a_client_that_leaves_finds_its_reply_when_it_comes_again(void **state)
{
    (void)state;
    start(NULL);
    int fd = client_open(a.port);
    client_sends(fd, "POST /slow HTTP/1.1\r\nHost: x\r\n" K1 "Content-Length: 1\r\n\r\nx");
    gate_await(&held, 1);
    close(fd);
    client_do(a.port, "POST", "/slow", K1, "x", &r);
    EXPECT_STATUS(&r, 409);
    gate_open(&held);
    post_until_free("/slow", &r);
    EXPECT_STATUS(&r, 201);
    EXPECT_HEADER(&r, "Idempotent-Replay", "true");
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

static void test_work_that_was_answered_for_is_stored_when_it_ends(void **state)
{
    (void)state;
    static const char *const paths[] = {"/slow", "/wait-answer"};
    for (size_t i = 0; i < HK_COUNTOF(paths); i++) {
        start(HARK_OPTS(hark_timeout_opts, .ms = 1000));
        client_do(a.port, "POST", paths[i], K1, "x", &r);
        EXPECT_STATUS(&r, 503);
        EXPECT_PART(r.body, "took too long");
        gate_await(&held, 1);
        client_do(a.port, "POST", paths[i], K1, "x", &r);
        EXPECT_STATUS(&r, 409);
        gate_open(&held);
        post_until_free(paths[i], &r);
        EXPECT_STATUS(&r, i == 0 ? 201 : 200);
        EXPECT_HEADER(&r, "Idempotent-Replay", "true");
        assert_int_equal(orders(&a), i == 0);
        store_app_end(&a);
    }
}

static void test_an_app_that_stops_meanwhile_leaves_it_to_the_next(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    gate_shut(&held);
    store_app_new(&a, HARK_OPTS(hark_app_opts, .drain_ms = 50));
    (void)hark_app_use(a.app, hark_idempotency(NULL));
    add_routes(a.app);
    store_app_start(&a);
    int fd = client_open(a.port);
    client_sends(fd, "POST /slow HTTP/1.1\r\nHost: x\r\n" K1 "Content-Length: 1\r\n\r\nx");
    gate_await(&held, 1);
    assert_int_equal(hark_app_stop(a.app, &ei), HARK_ETIMEDOUT);
    a.app = hark_app_unref(a.app);
    gate_open(&held);
    close(fd);
    store_app_again(&a);
    (void)hark_app_use(a.app, hark_idempotency(NULL));
    add_routes(a.app);
    store_app_start(&a);
    client_do(a.port, "POST", "/slow", K1, "x", &r);
    EXPECT_STATUS(&r, 201);
    EXPECT_HEADER(&r, "Idempotent-Replay", "true");
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_is_taken_until_its_request_has_ended),
        cmocka_unit_test(test_many_clients_with_one_key_make_one_row),
        cmocka_unit_test(test_of_two_processes_one_is_first_and_both_give_its_reply),
        cmocka_unit_test(test_a_client_that_leaves_finds_its_reply_when_it_comes_again),
        cmocka_unit_test(test_work_that_was_answered_for_is_stored_when_it_ends),
        cmocka_unit_test(test_an_app_that_stops_meanwhile_leaves_it_to_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
