/* An app on a log that another process appends to, here another bus: clients come with what that one has
 * told them, before this one has heard of it. */
#include "servers.h"
#include "store_app.h"
#include "stream_kit.h"

#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <unistd.h>

static server *on;
static live l;
static hark_bus *other;
static hark_sub *consumer;
static shown all;
static reader a;
static message m;
static reply r;

/* ---- the two ----------------------------------------------------------------------------------- */

static hark_err data_only(hark_frame *f, const hark_event *e, void *ud)
{
    size_t len;
    const void *data = hark_event_data(e, &len);
    (void)ud;
    return hark_frame_data(f, data, len);
}

static hark_err say_read(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_text(c, 200, "read");
}

static bool is_sql(void)
{
    return strncmp(kit_url, "postgresql", 10) == 0;
}

static hark_verdict take(hark_delivery *d, void *ud)
{
    (void)d, (void)ud;
    return HARK_ACK;
}

static int open_both(void **state)
{
    hark_errinfo ei = {0};
    (void)state;
    live_new(&l, NULL, NULL);
    if (hark_open(kit_url, NULL, &other, &ei))
        fail_msg("%s", ei.text);
    hark_app_use(l.app, hark_wait(NULL));
    all = (shown){
        .feed = live_feed(&l, HARK_OPTS(hark_feed_opts, .pattern = "t", .encode = data_only))};
    live_route(&l, "/live", &all);
    hark_get(l.app, "/read", say_read, NULL);
    live_start(&l);
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    reader_close(&a);
    consumer = hark_sub_unref(consumer);
    other = hark_bus_unref(other);
    live_end(&l);
    return 0;
}

/* The consumer "c" is open in the other process alone. */
static void consume_there(void)
{
    hark_errinfo ei = {0};
    if (hark_subscribe(other, "t", take, NULL, HARK_OPTS(hark_sub_opts, .consumer = "c"), &consumer,
                       &ei))
        fail_msg("%s", ei.text);
}

static uint64_t say_there(const char *json)
{
    hark_receipt got;
    hark_errinfo ei = {0};
    if (hark_publish_ei(other, HARK_OPTS(hark_event_spec, .type = "t", .json = json), &got, &ei))
        fail_msg("%s", ei.text);
    return got.sequence;
}

/* Until it is stored: a server has just been started. */
static void say_again(const char *json)
{
    hark_errinfo ei = {0};
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = "t", .id = json, .source = "/again", .json = json);
    WAIT_UNTIL(hark_publish_ei(other, spec, NULL, &ei) == HARK_OK);
}

static void come_with(uint64_t seq)
{
    char line[128], cursor[HARK_CURSOR_TEXT];
    hark_cursor_format(other, seq, cursor);
    (void)snprintf(line, sizeof line, "Last-Event-ID: %s\r\n", cursor);
    reader_open(&a, &l, "/live", line);
}

/* ---- streams ----------------------------------------------------------------------------------- */

static void test_a_client_hears_of_what_another_process_publishes(void **state)
{
    (void)state;
    reader_open(&a, &l, "/live", NULL);
    uint64_t seq = say_there("1");
    EXPECT_NEXT(&a, "1");
    assert_int_equal(reader_seq(&a), seq);
}

static void test_a_client_that_is_ahead_of_this_process_goes_on_behind_its_cursor(void **state)
{
    (void)state;
    uint64_t seq = say_there("1");
    come_with(seq + 2);
    say_there("2");
    say_there("3");
    say_there("4");
    EXPECT_NEXT(&a, "4");
    assert_int_equal(reader_seq(&a), seq + 3);
}

static void test_a_cursor_that_the_log_does_not_come_to_is_of_another_log(void **state)
{
    (void)state;
    uint64_t seq = say_there("1");
    come_with(seq + 1000);
    say_there("2"); /* in vain: it is below */
    assert_true(reader_next(&a, &m));
    assert_string_equal(m.event, "gap");
    assert_string_equal(m.data, "{\"reason\":\"other log\"}");
    assert_int_equal(reader_seq(&a), seq + 1);
    say_there("3");
    EXPECT_NEXT(&a, "3");
}

static void test_a_client_that_comes_back_is_told_nothing_twice(void **state)
{
    (void)state;
    uint64_t seq = say_there("1");
    come_with(seq);
    say_there("2");
    EXPECT_NEXT(&a, "2");
    reader_again(&a, &l, "/live");
    say_there("3");
    EXPECT_NEXT(&a, "3");
    assert_int_equal(reader_seq(&a), seq + 2);
}

/* The client is cut off, and comes back. */
static void test_a_server_that_is_away_is_not_taken_for_another_log(void **state)
{
    (void)state;
    uint64_t seq = say_there("1");
    come_with(seq + 1);
    server_kill(on);
    assert_false(reader_next(&a, &m));
    server_start(on);
    say_again("2");
    reader_again(&a, &l, "/live");
    say_again("3");
    EXPECT_NEXT(&a, "3");
}

static void sql(const char *text)
{
    PGconn *pg = PQconnectdb(kit_url);
    PGresult *res = PQexec(pg, text);
    if (PQresultStatus(res) != PGRES_COMMAND_OK)
        fail_msg("%s", PQerrorMessage(pg));
    PQclear(res);
    PQfinish(pg);
}

static void flush_all(void)
{
    redisContext *c = redisConnect("127.0.0.1", server_port(on));
    redisReply *got = redisCommand(c, "FLUSHALL");
    assert_non_null(got);
    freeReplyObject(got);
    redisFree(c);
}

/* PostgreSQL: a restore that was noticed (docs/format-postgresql.md). */
static void lose_history(void)
{
    if (is_sql())
        sql("UPDATE hark.log SET epoch = epoch + 1, lost_from = last + 1, lost_to = last + 1000, "
            "last = last + 1000");
    else
        flush_all();
}

static uint64_t epoch_here(void)
{
    char cursor[HARK_CURSOR_TEXT];
    hark_cursor_format(l.bus, 0, cursor);
    return strtoull(strchr(cursor, '.') + 1, NULL, 10);
}

static void test_after_a_loss_of_history_clients_go_on_in_the_new_epoch(void **state)
{
    (void)state;
    uint64_t epoch = epoch_here();
    come_with(say_there("1"));
    lose_history();
    WAIT_UNTIL(epoch_here() == epoch + 1);
    assert_true(reader_next(&a, &m));
    assert_string_equal(m.event, "gap");
    say_again("4");
    EXPECT_NEXT(&a, "4");
    reader_again(&a, &l, "/live"); /* no gap: the id is of this epoch */
    say_again("5");
    EXPECT_NEXT(&a, "5");
}

/* ---- Hark-Wait --------------------------------------------------------------------------------- */

static void ask(uint64_t seq, const char *max, reply *ret)
{
    char line[200], cursor[HARK_CURSOR_TEXT];
    hark_cursor_format(other, seq, cursor);
    (void)snprintf(line, sizeof line, "Hark-Wait: consumer=c; seq=%s; max=%s\r\n", cursor, max);
    client_do(l.port, "GET", "/read", line, NULL, ret);
}

static void test_a_request_waits_for_what_another_process_has_published(void **state)
{
    (void)state;
    consume_there();
    for (int i = 0; i < 20; i++) {
        ask(say_there("1"), "5s", &r);
        if (r.status != 200)
            fail_msg("status %d: %s", r.status, r.body);
    }
}

static void test_a_request_may_come_before_its_event(void **state)
{
    char cursor[HARK_CURSOR_TEXT], text[300];
    (void)state;
    consume_there();
    hark_cursor_format(other, say_there("1") + 1, cursor);
    int fd = client_open(l.port);
    (void)snprintf(text, sizeof text,
                   "GET /read HTTP/1.1\r\nHost: a\r\nHark-Wait: consumer=c; seq=%s; max=5s\r\n\r\n",
                   cursor);
    client_sends(fd, text);
    client_do(l.port, "GET", "/read", NULL, NULL, &r);
    say_there("2");
    client_read(fd, false, &r);
    if (r.status != 200)
        fail_msg("status %d: %s", r.status, r.body);
    close(fd);
}

static void test_a_sequence_that_the_log_does_not_come_to_is_refused(void **state)
{
    static const char *const most[] = {"0ms", "5s"};
    (void)state;
    consume_there();
    uint64_t seq = say_there("1");
    for (size_t i = 0; i < HK_COUNTOF(most); i++) {
        ask(seq + 1000, most[i], &r);
        if (r.status != 400 || !strstr(r.body, "not in the log yet"))
            fail_msg("status %d: %s", r.status, r.body);
    }
}

/* ---- one key in two processes ------------------------------------------------------------------ */

static gate held = GATE;

static hark_err insert(hark_ctx *c, hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = hark_tx_exec(tx, "INSERT INTO orders VALUES(gen_random_uuid())", HARK_NO_ARGS);
    return err ? err : hark_ctx_text(c, 201, hark_ctx_request_id(c));
}

/* On a worker: waits first. */
static hark_err wait_and_place(hark_ctx *c, void *ud)
{
    gate_pass(&held);
    return hark_ctx_transact(c, insert, ud, PATIENT);
}

static hark_err make_table(hark_tx *tx, void *ud)
{
    (void)ud;
    return hark_tx_exec(tx, "CREATE TABLE orders(id uuid PRIMARY KEY)", HARK_NO_ARGS);
}

static void app_with_keys(store_app *app, hark_bus *bus)
{
    hark_errinfo ei = {0};
    *app = (store_app){.bus = bus};
    assert_int_equal(hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &app->app, &ei), HARK_OK);
    (void)hark_app_use(app->app, hark_idempotency(NULL));
    (void)hark_route(app->app, "POST", "/place", wait_and_place, NULL,
                     HARK_OPTS(hark_route_opts, .blocking = 1));
    store_app_start(app);
}

static void test_of_two_processes_one_is_first_and_both_give_its_reply(void **state)
{
    store_app here, there;
    caller one, two;
    char v[2][16];
    hark_errinfo ei = {0};
    (void)state;
    if (!is_sql())
        skip();
    if (hark_transact(l.bus, make_table, NULL, PATIENT, NULL, &ei))
        fail_msg("%s", ei.text);
    app_with_keys(&here, l.bus);
    app_with_keys(&there, other);
    caller_start(&one, here.port, "POST", "/place", KEY("k"), "x");
    caller_start(&two, there.port, "POST", "/place", KEY("k"), "x");
    gate_await(&held, 2);
    gate_open(&held);
    caller_join(&one);
    caller_join(&two);
    bool replay_one = reply_header(&one.r, "Idempotent-Replay", v[0], sizeof v[0])[0];
    bool replay_two = reply_header(&two.r, "Idempotent-Replay", v[1], sizeof v[1])[0];
    if (one.r.status != 201 || two.r.status != 201)
        fail_msg("%d: %s; %d: %s", one.r.status, one.r.body, two.r.status, two.r.body);
    assert_int_equal(replay_one + replay_two, 1);
    assert_string_equal(one.r.body, two.r.body);
    assert_int_equal(orders(&here), 1);
    hark_app_unref(here.app);
    hark_app_unref(there.app);
}

int main(int argc, char **argv)
{
#define T(t) cmocka_unit_test_setup_teardown(t, open_both, close_both)
    const struct CMUnitTest tests[] = {
        T(test_a_client_hears_of_what_another_process_publishes),
        T(test_a_client_that_is_ahead_of_this_process_goes_on_behind_its_cursor),
        T(test_a_cursor_that_the_log_does_not_come_to_is_of_another_log),
        T(test_a_client_that_comes_back_is_told_nothing_twice),
        T(test_after_a_loss_of_history_clients_go_on_in_the_new_epoch),
        T(test_a_request_waits_for_what_another_process_has_published),
        T(test_a_request_may_come_before_its_event),
        T(test_a_sequence_that_the_log_does_not_come_to_is_refused),
        T(test_of_two_processes_one_is_first_and_both_give_its_reply),
        T(test_a_server_that_is_away_is_not_taken_for_another_log),
    };
#undef T
    on = server_of(argc > 1 ? argv[1] : "postgresql");
    if (!on)
        return 2;
    kit_url = server_url(on);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    server_free(on);
    return failed;
}
