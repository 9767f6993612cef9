/* hark_ctx_transact: rows, events and the reply are one, and whoever waits for the reply, or does not
 * wait any more, sees no half of it. */
#include "store_app.h"

#include <unistd.h>

enum { CROWD = 24 };

static store_app a;
static reply r;
static gate held = GATE;

/* ---- closures ---- */

static hark_err place(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = store_insert(c, tx);
    (void)hark_ctx_add_header(c, "X-Run", "once");
    return err ? err : hark_ctx_text(c, 201, hark_ctx_request_id(c));
}

static hark_err refuse(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = place(c, tx, ud);
    return err ? err : hark_ctx_fail(c, HARK_ECONFLICT, "sold out");
}

static hark_err refuse_a_field(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = place(c, tx, ud);
    return err ? err : hark_ctx_fail_at(c, HARK_ESCHEMA, "$.items[2].sku", "is \"%s\"", "rum");
}

static hark_err refuse_otherwise(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)refuse_a_field(c, tx, ud);
    return hark_ctx_fail(c, HARK_ESCHEMA, "on the whole");
}

static hark_err refuse_by_tx(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = place(c, tx, ud);
    return err ? err : hark_tx_fail(tx, HARK_ECONFLICT, "sold out, says the table");
}

static hark_err wrong_sql(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = place(c, tx, ud);
    return err ? err : hark_tx_exec(tx, "INSERT INTO secret_table VALUES(1)", HARK_NO_ARGS);
}

static hark_err denied_sql(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = place(c, tx, ud);
    return err ? err : hark_tx_exec(tx, "DELETE FROM hark_events", HARK_NO_ARGS);
}

static hark_err no_reply(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    return store_insert(c, tx);
}

static hark_err wrong_reply(hark_ctx *c, hark_tx *tx, void *ud)
{
    hark_err err = place(c, tx, ud);
    (void)hark_ctx_set_header(c, "no header", "x");
    return err;
}

static hark_err sorry(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = store_insert(c, tx);
    return err ? err : hark_ctx_text(c, 500, "committed all the same");
}

static hark_err spoil(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)c;
    (void)ud;
    hark_err err = hark_tx_exec(tx, "INSERT INTO orders(what) VALUES('spoilt')", HARK_NO_ARGS);
    assert_int_equal(err, HARK_OK);
    return hark_tx_exec(tx, "INSERT OR ROLLBACK INTO orders(what) VALUES('spoilt')", HARK_NO_ARGS);
}

static hark_err wait_and_place(hark_ctx *c, hark_tx *tx, void *ud)
{
    gate_pass(&held);
    return place(c, tx, ud);
}

/* ---- handlers ---- */

typedef struct closure {
    hark_ctx_tx_fn fn;
    int64_t deadline_ms; /* 0 = patient */
} closure;

static hark_err transact(hark_ctx *c, void *ud)
{
    const closure *k = ud;
    (void)hark_ctx_add_header(c, "X-Before", "kept");
    (void)hark_ctx_text(c, 418, "set before");
    return hark_ctx_transact(c, k->fn, NULL,
                             k->deadline_ms ? HARK_OPTS(hark_tx_opts, .deadline_ms = k->deadline_ms)
                                            : PATIENT);
}

static hark_err transact_deferred(hark_ctx *c, void *ud)
{
    hark_err err = hark_ctx_defer(c);
    if (err)
        return err;
    hark_ctx_resume(c, transact(c, ud));
    return HARK_OK;
}

static hark_err transact_after_fault(hark_ctx *c, void *ud)
{
    (void)hark_ctx_set_header(c, "no header", "x");
    return transact(c, ud);
}

static const struct route {
    const char *path;
    hark_http_fn fn;
    closure closure;
    bool blocking;
} routes[] = {
    {"/place", transact, {place, 0}, false},
    {"/worker", transact, {place, 0}, true},
    {"/refuse", transact, {refuse, 0}, false},
    {"/refuse-a-field", transact, {refuse_a_field, 0}, false},
    {"/refuse-otherwise", transact, {refuse_otherwise, 0}, false},
    {"/refuse-by-tx", transact, {refuse_by_tx, 0}, false},
    {"/wrong-sql", transact, {wrong_sql, 0}, false},
    {"/denied-sql", transact, {denied_sql, 0}, false},
    {"/no-reply", transact, {no_reply, 0}, false},
    {"/wrong-reply", transact, {wrong_reply, 0}, false},
    {"/sorry", transact, {sorry, 0}, false},
    {"/spoil", transact, {spoil, 0}, false},
    {"/wait", transact, {wait_and_place, 0}, false},
    {"/late", transact, {wait_and_place, 1}, false},
    {"/nothing", transact, {NULL, 0}, false},
    {"/deferred", transact_deferred, {place, 0}, false},
    {"/after-fault", transact_after_fault, {place, 0}, false},
};

static void add_routes(hark_app *app)
{
    for (size_t i = 0; i < HK_COUNTOF(routes); i++) {
        union {
            const closure *in;
            void *out;
        } ud = {&routes[i].closure};
        (void)hark_route(app, "POST", routes[i].path, routes[i].fn, ud.out,
                         HARK_OPTS(hark_route_opts, .blocking = routes[i].blocking));
    }
}

static void start(const hark_timeout_opts *timeout)
{
    gate_shut(&held);
    store_app_new(&a, NULL);
    if (timeout)
        (void)hark_app_use(a.app, hark_timeout(timeout));
    add_routes(a.app);
    store_app_start(&a);
}

static void post(const char *target, const char *body)
{
    client_do(a.port, "POST", target, NULL, body, &r);
}

/* ---- it is committed ---- */

static void test_the_reply_comes_with_rows_and_events(void **state)
{
    (void)state;
    char v[64];
    start(NULL);
    post("/place", "tea");
    EXPECT_STATUS(&r, 201);
    EXPECT_HEADER(&r, "X-Before", "kept");
    EXPECT_HEADER(&r, "X-Run", "once");
    assert_int_equal(orders(&a), 1);
    assert_int_equal(events(&a, "order:placed"), 1);
    event_attribute(&a, "order:placed", "correlationid", v, sizeof v);
    assert_string_equal(v, r.body);
    event_attribute(&a, "order:placed", "causationid", v, sizeof v);
    assert_string_equal(v, r.body);
    assert_true(reply_header(&r, "Hark-Seq", v, sizeof v)[0]);
    store_app_end(&a);
}

static void test_a_worker_may_use_one_too(void **state)
{
    (void)state;
    start(NULL);
    post("/worker", "tea");
    EXPECT_STATUS(&r, 201);
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

static void test_without_idempotency_a_reply_of_500_is_committed(void **state)
{
    (void)state;
    start(NULL);
    post("/sorry", "tea");
    EXPECT_STATUS(&r, 500);
    EXPECT_PART(r.body, "all the same");
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

/* One of them undoes what the others share with it, so they run again. */
static void test_a_run_that_is_repeated_leaves_nothing_in_the_reply(void **state)
{
    (void)state;
    static caller callers[CROWD];
    char bodies[CROWD][8];
    caller plug;
    start(NULL);
    caller_start(&plug, a.port, "POST", "/wait", NULL, "plug"); /* so that the rest makes a group */
    gate_await(&held, 1);
    for (size_t i = 0; i < CROWD; i++) {
        snprintf(bodies[i], sizeof bodies[i], "%zu", i);
        caller_start(&callers[i], a.port, "POST", i % 8 == 5 ? "/spoil" : "/place", NULL,
                     bodies[i]);
    }
    gate_open(&held);
    caller_join(&plug);
    size_t good = 0;
    for (size_t i = 0; i < CROWD; i++) {
        caller_join(&callers[i]);
        if (i % 8 == 5) {
            EXPECT_STATUS(&callers[i].r, 409);
            continue;
        }
        EXPECT_STATUS(&callers[i].r, 201);
        const char *first = strstr(callers[i].r.head, "X-Run: once");
        assert_non_null(first);
        assert_null(strstr(first + 1, "X-Run: once"));
        good++;
    }
    assert_int_equal(orders(&a), good + 1);
    assert_int_equal(events(&a, "order:placed"), good + 1);
    store_app_end(&a);
}

/* ---- it is undone ---- */

static void expect_undone(const char *path, int status, const char *part, const char *hidden)
{
    post(path, "tea");
    EXPECT_STATUS(&r, status);
    EXPECT_HEADER(&r, "Content-Type", "application/problem+json");
    EXPECT_HEADER(&r, "X-Before", "kept");
    EXPECT_HEADER(&r, "X-Run", "");
    if (part)
        EXPECT_PART(r.body, part);
    if (hidden)
        assert_null(strstr(r.body, hidden));
    assert_int_equal(orders(&a), 0);
    assert_int_equal(events(&a, "order:placed"), 0);
}

static void test_an_error_of_the_closure_becomes_the_reply_and_leaves_nothing(void **state)
{
    (void)state;
    start(NULL);
    expect_undone("/refuse", 409, "sold out", NULL);
    expect_undone("/refuse-a-field", 422,
                  "\"errors\":[{\"path\":\"$.items[2].sku\",\"pointer\":\"#/items/2/sku\","
                  "\"detail\":\"is \\\"rum\\\"\"}]",
                  NULL);
    expect_undone("/refuse-otherwise", 422, "on the whole", "errors");
    expect_undone("/refuse-by-tx", 409, "sold out, says the table", NULL);
    expect_undone("/wrong-sql", 500, NULL, "secret_table");
    expect_undone("/denied-sql", 500, NULL, "hark_events");
    expect_undone("/no-reply", 500, NULL, NULL);
    expect_undone("/wrong-reply", 500, NULL, NULL);
    store_app_end(&a);
}

static void test_a_broken_constraint_is_a_conflict(void **state)
{
    (void)state;
    start(NULL);
    post("/place", "tea");
    post("/place", "tea");
    EXPECT_STATUS(&r, 409);
    EXPECT_PART(r.body, "orders.what");
    assert_null(strstr(r.body, "INSERT")); /* the program's SQL is not the client's to see */
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

static void test_a_closure_that_is_late_is_to_be_repeated(void **state)
{
    (void)state;
    caller c;
    start(NULL);
    caller_start(&c, a.port, "POST", "/late", NULL, "tea");
    gate_await(&held, 1);
    int64_t since = hk_mono_ms();
    while (hk_mono_ms() - since < 3)
        continue;
    gate_open(&held);
    caller_join(&c);
    EXPECT_STATUS(&c.r, 503);
    EXPECT_HEADER(&c.r, "Retry-After", "1");
    assert_int_equal(orders(&a), 0);
    store_app_end(&a);
}

/* ---- it is not begun ---- */

static void test_what_cannot_be_begun_is_refused(void **state)
{
    (void)state;
    start(NULL);
    post("/nothing", "tea");
    EXPECT_STATUS(&r, 400);
    post("/deferred", "tea");
    EXPECT_STATUS(&r, 400);
    EXPECT_PART(r.body, "deferred already");
    post("/after-fault", "tea");
    EXPECT_STATUS(&r, 500);
    assert_int_equal(orders(&a), 0);
    store_app_end(&a);
}

static void expect_not_supported(hark_bus *bus, const char *part)
{
    hark_errinfo ei = {0};
    store_app m = {0};
    assert_int_equal(hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &m.app, &ei), HARK_OK);
    add_routes(m.app);
    store_app_start(&m);
    client_do(m.port, "POST", "/place", NULL, "tea", &r);
    EXPECT_STATUS(&r, 501);
    EXPECT_PART(r.body, part);
    hark_app_unref(m.app);
}

static void test_a_bus_without_transactions_says_so(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    hark_bus *bus = NULL;
    assert_int_equal(hark_open("memory:", NULL, &bus, &ei), HARK_OK);
    expect_not_supported(bus, "no transactions");
    expect_not_supported(NULL, "no bus");
    hark_bus_unref(bus);
}

/* ---- nobody waits any more ---- */

static void test_the_work_goes_on_when_somebody_answers_in_its_place(void **state)
{
    (void)state;
    start(HARK_OPTS(hark_timeout_opts, .ms = 1000));
    post("/wait", "tea");
    EXPECT_STATUS(&r, 503);
    EXPECT_PART(r.body, "took too long");
    gate_open(&held);
    post("/place", "coffee");
    EXPECT_STATUS(&r, 201);
    assert_int_equal(orders(&a), 2);
    store_app_end(&a);
}

static void test_the_work_goes_on_when_the_client_has_left(void **state)
{
    (void)state;
    start(NULL);
    int fd = client_open(a.port);
    client_sends(fd, "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    gate_await(&held, 1);
    close(fd);
    gate_open(&held);
    post("/place", "coffee");
    EXPECT_STATUS(&r, 201);
    assert_int_equal(orders(&a), 2);
    store_app_end(&a);
}

static void test_an_app_may_end_while_a_closure_runs(void **state)
{
    (void)state;
    hark_errinfo ei = {0};
    gate_shut(&held);
    store_app_new(&a, HARK_OPTS(hark_app_opts, .drain_ms = 50));
    add_routes(a.app);
    store_app_start(&a);
    int fd = client_open(a.port);
    client_sends(fd, "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    gate_await(&held, 1);
    assert_int_equal(hark_app_stop(a.app, &ei), HARK_ETIMEDOUT);
    a.app = hark_app_unref(a.app);
    gate_open(&held);
    close(fd);
    store_app_again(&a);
    assert_int_equal(orders(&a), 1);
    store_app_end(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_reply_comes_with_rows_and_events),
        cmocka_unit_test(test_a_worker_may_use_one_too),
        cmocka_unit_test(test_without_idempotency_a_reply_of_500_is_committed),
        cmocka_unit_test(test_a_run_that_is_repeated_leaves_nothing_in_the_reply),
        cmocka_unit_test(test_an_error_of_the_closure_becomes_the_reply_and_leaves_nothing),
        cmocka_unit_test(test_a_broken_constraint_is_a_conflict),
        cmocka_unit_test(test_a_closure_that_is_late_is_to_be_repeated),
        cmocka_unit_test(test_what_cannot_be_begun_is_refused),
        cmocka_unit_test(test_a_bus_without_transactions_says_so),
        cmocka_unit_test(test_the_work_goes_on_when_somebody_answers_in_its_place),
        cmocka_unit_test(test_the_work_goes_on_when_the_client_has_left),
        cmocka_unit_test(test_an_app_may_end_while_a_closure_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
