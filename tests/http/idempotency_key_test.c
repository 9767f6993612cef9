/* Which requests belong together by their Idempotency-Key, and what is no key. */
#include "store_app.h"

static store_app a;
static reply r, again;

static hark_err place_in(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = store_insert(c, tx);
    (void)hark_ctx_set_header(c, "Location", "/orders/1");
    return err ? err : hark_ctx_text(c, 201, hark_ctx_request_id(c));
}

static hark_err place(hark_ctx *c, void *ud)
{
    return hark_ctx_transact(c, place_in, ud, PATIENT);
}

static void start_with(const hark_idempotency_opts *opts)
{
    store_app_new(&a, NULL);
    (void)hark_app_use(a.app, hark_idempotency(opts));
    (void)hark_post(a.app, "/orders", place, NULL);
    (void)hark_patch(a.app, "/orders", place, NULL);
    (void)hark_put(a.app, "/orders", place, NULL);
    (void)hark_delete(a.app, "/orders", place, NULL);
    (void)hark_post(a.app, "/orders/:shop", place, NULL);
    store_app_start(&a);
}

static void post(const char *target, const char *lines, const char *body, reply *ret)
{
    client_do(a.port, "POST", target, lines, body, ret);
}

static void test_a_key_belongs_to_method_path_and_authorization(void **state)
{
    (void)state;
    start_with(NULL);
    post("/orders", KEY("k1"), "1", &r);
    post("/orders", KEY("k1") "Authorization: Bearer one\r\n", "2", &r);
    post("/orders", KEY("k1") "Authorization: Bearer two\r\n", "3", &r);
    post("/orders", KEY("k2"), "4", &r);
    post("/orders/a", KEY("k1"), "5", &r);
    post("/orders/b", KEY("k1"), "6", &r);
    client_do(a.port, "PATCH", "/orders", KEY("k1"), "7", &r);
    EXPECT_STATUS(&r, 201);
    assert_int_equal(orders(&a), 7);
    post("/orders/%61", KEY("k1"), "5", &again);
    EXPECT_HEADER(&again, "Idempotent-Replay", "true");
    store_app_end(&a);
}

static void test_another_request_under_the_same_key_gets_422(void **state)
{
    (void)state;
    start_with(NULL);
    post("/orders", KEY("k1"), "tea", &r);
    post("/orders", KEY("k1"), "coffee", &again);
    EXPECT_STATUS(&again, 422);
    EXPECT_HEADER(&again, "Content-Type", "application/problem+json");
    EXPECT_HEADER(&again, "Location", "");
    post("/orders", KEY("k1") "Content-Type: text/plain\r\n", "tea", &again);
    EXPECT_STATUS(&again, 422);
    post("/orders?x=1", KEY("k1"), "tea", &again);
    EXPECT_STATUS(&again, 422);
    post("/orders", KEY("k1"), "tea", &again);
    EXPECT_REPLAY(&r, &again);
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

static void test_a_key_is_checked(void **state)
{
    (void)state;
    char line[400], key[257];
    start_with(NULL);
    memset(key, 'k', 256);
    key[256] = '\0';
    snprintf(line, sizeof line, "Idempotency-Key: %s\r\n", key);
    post("/orders", line, "1", &r);
    EXPECT_STATUS(&r, 400);
    EXPECT_PART(r.body, "1 to 255 printable");
    snprintf(line, sizeof line, "Idempotency-Key: %s\r\n", key + 1);
    post("/orders", line, "2", &r);
    EXPECT_STATUS(&r, 201);
    post("/orders", "Idempotency-Key:\r\n", "3", &r);
    EXPECT_STATUS(&r, 400);
    post("/orders", KEY("k\xc3\xa9"), "4", &r);
    EXPECT_STATUS(&r, 400);
    post("/orders", KEY("a") "idempotency-key: b\r\n", "5", &r);
    EXPECT_STATUS(&r, 400);
    post("/orders", NULL, "6", &r);
    EXPECT_STATUS(&r, 201);
    store_app_end(&a);
}

static void test_a_key_may_be_required_under_a_name_of_choice(void **state)
{
    (void)state;
    start_with(HARK_OPTS(hark_idempotency_opts, .required = 1, .header = "X-Once"));
    post("/orders", KEY("k1"), "1", &r);
    EXPECT_STATUS(&r, 400);
    EXPECT_PART(r.body, "POST /orders needs a header X-Once");
    post("/orders", "X-Once: k1\r\n", "2", &r);
    EXPECT_STATUS(&r, 201);
    client_do(a.port, "PUT", "/orders", NULL, "3", &r);
    EXPECT_STATUS(&r, 201);
    store_app_end(&a);
}

static void test_a_put_that_carries_a_key_is_repeated_too(void **state)
{
    (void)state;
    start_with(NULL);
    client_do(a.port, "PUT", "/orders", KEY("k1"), "1", &r);
    EXPECT_STATUS(&r, 201);
    client_do(a.port, "PUT", "/orders", KEY("k1"), "1", &again);
    EXPECT_REPLAY(&r, &again);
    client_do(a.port, "PUT", "/orders", KEY("k1"), "2", &again);
    EXPECT_STATUS(&again, 422);
    post("/orders", KEY("k1"), "3", &again); /* another method, another request */
    EXPECT_HEADER(&again, "Idempotent-Replay", "");
    assert_int_equal(orders(&a), 2);
    store_app_end(&a);
}

/* Both have no name, so that only the keys tell them apart. */
static const hark_auth_key nameless[] = {{"key-one", NULL}, {"key-two", NULL}, {0}};

static void behind_keys(void)
{
    (void)hark_app_use(a.app, hark_key_auth(HARK_OPTS(hark_key_auth_opts, .keys = nameless,
                                                      .header = "X-Api-Key", .query = "key")));
    (void)hark_app_use(a.app, hark_idempotency(NULL));
    (void)hark_post(a.app, "/orders", place, NULL);
    store_app_start(&a);
}

static void test_clients_with_keys_of_their_own_never_get_each_others_replies(void **state)
{
    (void)state;
    reply *first = calloc(1, sizeof *first);
    assert_non_null(first);
    store_app_new(&a, NULL);
    behind_keys();
    post("/orders", KEY("1") "X-Api-Key: key-one\r\n", "tea", first);
    EXPECT_STATUS(first, 201);
    post("/orders", KEY("1") "X-Api-Key: key-two\r\n", "milk", &r);
    EXPECT_STATUS(&r, 201);
    EXPECT_HEADER(&r, "Idempotent-Replay", "");
    assert_string_not_equal(r.body, first->body);
    post("/orders?key=key-one", KEY("2"), "coffee", &r);
    post("/orders?key=key-two", KEY("2"), "water", &again);
    EXPECT_HEADER(&again, "Idempotent-Replay", "");
    assert_int_equal(orders(&a), 4);
    store_app_again(&a); /* a key is the same client afterwards */
    behind_keys();
    post("/orders", KEY("1") "X-Api-Key: key-one\r\n", "tea", &again);
    EXPECT_REPLAY(first, &again);
    post("/orders?key=key-one", KEY("2"), "coffee", &again);
    EXPECT_REPLAY(&r, &again);
    assert_int_equal(orders(&a), 4);
    store_app_end(&a);
    free(first);
}

static void test_methods_that_may_be_repeated_anyway_are_let_through(void **state)
{
    (void)state;
    start_with(NULL);
    client_do(a.port, "DELETE", "/orders", KEY("k1"), "1", &r);
    client_do(a.port, "DELETE", "/orders", KEY("k1"), "2", &again);
    EXPECT_STATUS(&again, 201);
    EXPECT_HEADER(&again, "Idempotent-Replay", "");
    store_app_end(&a);
}

static void test_a_bus_without_transactions_is_refused(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    hark_bus *bus = NULL;
    hark_app *app = NULL;
    assert_int_equal(hark_open("memory:", NULL, &bus, &ei), HARK_OK);
    assert_int_equal(hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &app, &ei), HARK_OK);
    assert_int_equal(hark_app_use(app, hark_idempotency(NULL)), HARK_ENOTSUP);
    assert_int_equal(hark_app_listen(app, "127.0.0.1:0", &ei), HARK_ENOTSUP);
    EXPECT_PART(ei.text, "needs a bus with transactions");
    hark_app_unref(app);
    hark_bus_unref(bus);
    assert_int_equal(hark_app_new(NULL, &app, &ei), HARK_OK);
    assert_int_equal(hark_app_use(app, hark_idempotency(NULL)), HARK_EINVAL);
    hark_app_unref(app);
}

static void test_wrong_options_are_refused(void **state)
{
    (void)state;
    hark_middleware mw = hark_idempotency(HARK_OPTS(hark_idempotency_opts, .header = "no header"));
    assert_int_equal(mw.err, HARK_EINVAL);
    EXPECT_PART(mw.text, "'no header' is no header name");
    mw = hark_idempotency(HARK_OPTS(hark_idempotency_opts, .keep_ms = -1));
    assert_int_equal(mw.err, HARK_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_key_belongs_to_method_path_and_authorization),
        cmocka_unit_test(test_another_request_under_the_same_key_gets_422),
        cmocka_unit_test(test_a_key_is_checked),
        cmocka_unit_test(test_a_key_may_be_required_under_a_name_of_choice),
        cmocka_unit_test(test_a_put_that_carries_a_key_is_repeated_too),
        cmocka_unit_test(test_clients_with_keys_of_their_own_never_get_each_others_replies),
        cmocka_unit_test(test_methods_that_may_be_repeated_anyway_are_let_through),
        cmocka_unit_test(test_a_bus_without_transactions_is_refused),
        cmocka_unit_test(test_wrong_options_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
