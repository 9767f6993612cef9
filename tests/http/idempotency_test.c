/* Requests with an Idempotency-Key: what is stored and given again, and what is not. Who runs when
 * and who leaves in between is in idempotency_race_test.c, what a key is in
 * idempotency_key_test.c. */
#include "store_app.h"

#include <fcntl.h>
#include <unistd.h>

static store_app a;
static reply r, again;

static struct { /* what handlers were called with and saw; requests come one by one here */
    int calls;
    hark_err err;
} seen;

/* ---- handlers ---- */

static hark_err place_in(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = store_insert(c, tx);
    (void)hark_ctx_set_header(c, "Location", "/orders/1");
    (void)hark_ctx_add_header(c, "Set-Cookie", "a=1");
    (void)hark_ctx_add_header(c, "Set-Cookie", "b=2");
    return err ? err
               : hark_ctx_json_text(c, 201,
                                    hark_ctx_printf(c, "{\"call\":%d,\"id\":\"%s\"}", seen.calls,
                                                    hark_ctx_request_id(c)));
}

static hark_err place(hark_ctx *c, void *ud)
{
    seen.calls++;
    return hark_ctx_transact(c, place_in, ud, PATIENT);
}

/* The reply that the query asks for, without a transaction: ?status=…&retry=… */
static hark_err answer(hark_ctx *c, void *ud)
{
    (void)ud;
    const char *retry = hark_ctx_query(c, "retry");
    seen.calls++;
    if (retry)
        (void)hark_ctx_set_header(c, "Retry-After", retry);
    return hark_ctx_text(c, atoi(hark_ctx_query(c, "status")),
                         hark_ctx_printf(c, "call %d", seen.calls));
}

static hark_err refuse(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_fail(c, HARK_ESCHEMA, "call %d is wrong", ++seen.calls);
}

static hark_err answer_in(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = store_insert(c, tx);
    seen.calls--;
    return err ? err : answer(c, ud);
}

static hark_err answer_with_rows(hark_ctx *c, void *ud)
{
    seen.calls++;
    return hark_ctx_transact(c, answer_in, ud, PATIENT);
}

static hark_err fail_at_first(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = store_insert(c, tx);
    if (err || seen.calls > 1)
        return err ? err : hark_ctx_text(c, 201, "made");
    (void)hark_ctx_set_header(c, "Location", "/orders/1");
    return hark_tx_exec(tx, "INSERT INTO no_such_table VALUES(1)", HARK_NO_ARGS);
}

static hark_err place_at_last(hark_ctx *c, void *ud)
{
    seen.calls++;
    return hark_ctx_transact(c, fail_at_first, ud, PATIENT);
}

static hark_err publish(hark_ctx *c, void *ud)
{
    (void)ud;
    seen.calls++;
    seen.err = hark_ctx_publish(c, HARK_OPTS(hark_event_spec, .type = "order:loose"));
    return hark_ctx_text(c, 201, "published"); /* the refusal cannot be overlooked */
}

static hark_err big(hark_ctx *c, void *ud)
{
    static const char zeros[2000];
    (void)ud;
    return hark_ctx_bytes(c, 200, NULL, zeros, sizeof zeros);
}

static hark_err big_in(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = store_insert(c, tx);
    return err ? err : big(c, ud);
}

static hark_err place_big(hark_ctx *c, void *ud)
{
    return hark_ctx_transact(c, big_in, ud, PATIENT);
}

static hark_err file(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_file(c, 200, "text/plain", open("/dev/null", O_RDONLY | O_CLOEXEC), 0, 0);
}

/* Middleware behind it: turns away who gives no password. */
static hark_err need_authorization(hark_ctx *c, void *ud)
{
    (void)ud;
    if (hark_ctx_header(c, "X-Password"))
        return hark_ctx_next(c);
    return hark_ctx_fail(c, HARK_EUNAUTHORIZED, "who are you?");
}

static void add_routes(void)
{
    hark_group *g = NULL;
    (void)hark_app_group(a.app, "/private", &g);
    (void)hark_group_use(g, (hark_middleware){.fn = need_authorization});
    (void)hark_group_post(g, "/answer", answer, NULL);
    (void)hark_post(a.app, "/orders", place, NULL);
    (void)hark_post(a.app, "/answer", answer, NULL);
    (void)hark_post(a.app, "/refuse", refuse, NULL);
    (void)hark_post(a.app, "/rows", answer_with_rows, NULL);
    (void)hark_post(a.app, "/at-last", place_at_last, NULL);
    (void)hark_post(a.app, "/publish", publish, NULL);
    (void)hark_post(a.app, "/big", big, NULL);
    (void)hark_post(a.app, "/place-big", place_big, NULL);
    (void)hark_post(a.app, "/file", file, NULL);
}

static void start_with(const hark_idempotency_opts *opts)
{
    seen.calls = 0;
    store_app_new(&a, NULL);
    (void)hark_app_use(a.app, hark_request_id(NULL));
    (void)hark_app_use(a.app, hark_idempotency(opts));
    add_routes();
    store_app_start(&a);
}

static void post(const char *target, const char *lines, const char *body, reply *ret)
{
    client_do(a.port, "POST", target, lines, body, ret);
}

/* ---- what is stored ---- */

static void test_a_repeat_gets_the_same_reply_and_says_so(void **state)
{
    (void)state;
    char seq[64];
    start_with(NULL);
    post("/orders", KEY("k1"), "tea", &r);
    post("/orders", KEY("k1"), "tea", &again);
    EXPECT_STATUS(&r, 201);
    EXPECT_REPLAY(&r, &again);
    EXPECT_HEADER(&again, "Location", "/orders/1");
    EXPECT_HEADER(&again, "Content-Type", "application/json");
    assert_true(reply_header(&r, "Hark-Seq", seq, sizeof seq)[0]);
    EXPECT_HEADER(&again, "Hark-Seq", seq);
    EXPECT_PART(again.head, "Set-Cookie: a=1\r\n");
    EXPECT_PART(again.head, "Set-Cookie: b=2\r\n");
    assert_int_equal(seen.calls, 1);
    assert_int_equal(orders(&a), 1);
    assert_int_equal(events(&a, "order:placed"), 1);
    store_app_end(&a);
}

static void test_a_repeat_is_known_after_a_restart(void **state)
{
    (void)state;
    start_with(NULL);
    post("/orders", KEY("k1"), "tea", &r);
    store_app_again(&a);
    (void)hark_app_use(a.app, hark_idempotency(NULL));
    add_routes();
    store_app_start(&a);
    post("/orders", KEY("k1"), "tea", &again);
    EXPECT_REPLAY(&r, &again);
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

static void test_what_outer_middleware_adds_is_of_the_new_request(void **state)
{
    (void)state;
    start_with(NULL);
    post("/orders", KEY("k1") "X-Request-Id: first\r\n", "tea", &r);
    post("/orders", KEY("k1") "X-Request-Id: second\r\n", "tea", &again);
    EXPECT_REPLAY(&r, &again);
    EXPECT_HEADER(&again, "X-Request-Id", "second");
    EXPECT_PART(again.body, "\"id\":\"first\"");
    store_app_end(&a);
}

static void test_a_refusal_is_stored(void **state)
{
    (void)state;
    start_with(NULL);
    post("/refuse", KEY("k1"), "x", &r);
    post("/refuse", KEY("k1"), "x", &again);
    EXPECT_STATUS(&r, 422);
    EXPECT_PART(r.body, "call 1 is wrong");
    EXPECT_REPLAY(&r, &again);
    post("/answer?status=404", KEY("k2"), "x", &r);
    post("/answer?status=404", KEY("k2"), "x", &again);
    EXPECT_REPLAY(&r, &again);
    post("/nowhere", KEY("k3"), "x", &r);
    post("/nowhere", KEY("k3"), "x", &again);
    EXPECT_STATUS(&r, 404);
    EXPECT_REPLAY(&r, &again);
    store_app_end(&a);
}

static void test_a_reply_without_a_transaction_is_stored(void **state)
{
    (void)state;
    start_with(NULL);
    post("/answer?status=200", KEY("k1"), "x", &r);
    post("/answer?status=200", KEY("k1"), "x", &again);
    EXPECT_STATUS(&r, 200);
    EXPECT_REPLAY(&r, &again);
    store_app_end(&a);
}

static void test_a_fault_of_the_server_is_not_stored(void **state)
{
    (void)state;
    start_with(NULL);
    for (int i = 1; i <= 2; i++) {
        post("/answer?status=500", KEY("k1"), "x", &r);
        EXPECT_STATUS(&r, 500);
        assert_int_equal(seen.calls, i);
    }
    post("/answer?status=503", KEY("k2"), "x", &r);
    assert_int_equal(seen.calls, 3);
    store_app_end(&a);
}

static void test_a_reply_that_says_to_come_again_is_not_stored(void **state)
{
    (void)state;
    start_with(NULL);
    for (int i = 1; i <= 2; i++) {
        post("/answer?status=429&retry=1", KEY("k1"), "x", &r);
        EXPECT_STATUS(&r, 429);
        EXPECT_HEADER(&r, "Retry-After", "1");
        assert_int_equal(seen.calls, i);
    }
    store_app_end(&a);
}

static void test_what_middleware_answers_for_the_handler_is_not_stored(void **state)
{
    (void)state;
    start_with(NULL);
    post("/private/answer?status=404", KEY("k1"), "x", &r);
    EXPECT_STATUS(&r, 401);
    post("/private/answer?status=404", KEY("k1") "X-Password: y\r\n", "x", &r);
    EXPECT_STATUS(&r, 404);
    EXPECT_HEADER(&r, "Idempotent-Replay", "");
    post("/private/answer?status=404", KEY("k1"), "x", &again);
    EXPECT_REPLAY(&r, &again);
    store_app_end(&a);
}

static void test_a_stored_reply_expires(void **state)
{
    (void)state;
    start_with(HARK_OPTS(hark_idempotency_opts, .keep_ms = 300));
    int64_t since = hk_mono_ms();
    post("/answer?status=200", KEY("k1"), "x", &r);
    do {
        post("/answer?status=200", KEY("k1"), "x", &again);
        EXPECT_STATUS(&again, 200);
    } while (seen.calls == 1 && hk_mono_ms() - since < 30000);
    assert_int_equal(seen.calls, 2);
    assert_true(hk_mono_ms() - since >= 250);
    store_app_end(&a);
}

/* ---- with rows ---- */

static void test_a_closure_that_fails_leaves_nothing_and_may_be_repeated(void **state)
{
    (void)state;
    start_with(NULL);
    post("/at-last", KEY("k1"), "tea", &r);
    EXPECT_STATUS(&r, 500);
    EXPECT_HEADER(&r, "Location", "");
    assert_int_equal(orders(&a), 0);
    assert_int_equal(events(&a, "order:placed"), 0);
    post("/at-last", KEY("k1"), "tea", &r);
    EXPECT_STATUS(&r, 201);
    EXPECT_HEADER(&r, "Idempotent-Replay", "");
    assert_int_equal(orders(&a), 1);
    post("/at-last", KEY("k1"), "tea", &again);
    EXPECT_REPLAY(&r, &again);
    store_app_end(&a);
}

static void test_a_reply_that_is_not_stored_undoes_its_transaction(void **state)
{
    (void)state;
    start_with(NULL);
    post("/rows?status=503&retry=9", KEY("k1"), "tea", &r);
    EXPECT_STATUS(&r, 503);
    EXPECT_PART(r.body, "call 1");
    EXPECT_HEADER(&r, "Retry-After", "9");
    post("/rows?status=429&retry=9", KEY("k1"), "tea", &r);
    EXPECT_STATUS(&r, 429);
    post("/rows?status=500", NULL, "tea", &r);
    EXPECT_STATUS(&r, 500);
    assert_int_equal(orders(&a), 0);
    post("/rows?status=409", KEY("k2"), "tea", &r);
    EXPECT_STATUS(&r, 409);
    assert_int_equal(orders(&a), 1);
    post("/rows?status=409", KEY("k2"), "tea", &again);
    EXPECT_REPLAY(&r, &again);
    store_app_end(&a);
}

static void test_publishing_outside_of_the_transaction_is_refused(void **state)
{
    (void)state;
    start_with(NULL);
    post("/publish", KEY("k1"), "x", &r);
    EXPECT_STATUS(&r, 500);
    assert_int_equal(seen.err, HARK_EINVAL);
    assert_int_equal(events(&a, "order:loose"), 0);
    post("/publish", NULL, "x", &r);
    EXPECT_STATUS(&r, 201);
    assert_int_equal(events(&a, "order:loose"), 1);
    store_app_end(&a);
}

static void test_events_about_requests_are_published_all_the_same(void **state)
{
    (void)state;
    seen.calls = 0;
    store_app_new(&a, NULL);
    (void)hark_app_use(a.app, hark_request_events(NULL));
    (void)hark_app_use(a.app, hark_idempotency(NULL));
    add_routes();
    store_app_start(&a);
    post("/orders", KEY("k1"), "tea", &r);
    post("/orders", KEY("k1"), "tea", &again);
    EXPECT_REPLAY(&r, &again);
    int64_t since = hk_mono_ms();
    while (events(&a, "request:completed") < 2 && hk_mono_ms() - since < 30000)
        continue;
    assert_int_equal(events(&a, "request:completed"), 2);
    store_app_end(&a);
}

static void test_what_cannot_be_stored_is_an_error(void **state)
{
    (void)state;
    start_with(HARK_OPTS(hark_idempotency_opts, .max_bytes = 1999));
    static const char *const paths[] = {"/big", "/place-big", "/file"};
    for (size_t i = 0; i < HK_COUNTOF(paths); i++) {
        post(paths[i], KEY("k1"), "x", &r);
        EXPECT_STATUS(&r, 500);
        post(paths[i], NULL, "y", &r);
        EXPECT_STATUS(&r, 200);
    }
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_repeat_gets_the_same_reply_and_says_so),
        cmocka_unit_test(test_a_repeat_is_known_after_a_restart),
        cmocka_unit_test(test_what_outer_middleware_adds_is_of_the_new_request),
        cmocka_unit_test(test_a_refusal_is_stored),
        cmocka_unit_test(test_a_reply_without_a_transaction_is_stored),
        cmocka_unit_test(test_a_fault_of_the_server_is_not_stored),
        cmocka_unit_test(test_a_reply_that_says_to_come_again_is_not_stored),
        cmocka_unit_test(test_what_middleware_answers_for_the_handler_is_not_stored),
        cmocka_unit_test(test_a_stored_reply_expires),
        cmocka_unit_test(test_a_closure_that_fails_leaves_nothing_and_may_be_repeated),
        cmocka_unit_test(test_a_reply_that_is_not_stored_undoes_its_transaction),
        cmocka_unit_test(test_publishing_outside_of_the_transaction_is_refused),
        cmocka_unit_test(test_events_about_requests_are_published_all_the_same),
        cmocka_unit_test(test_what_cannot_be_stored_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
