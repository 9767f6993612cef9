/* Clients read what they wrote: Hark-Seq on replies, Hark-Wait on requests. On a real bus in memory, with
 * consumers that the test pulls for. */
#include "client.h"

#include "base/base.h"

#include <hark/hark.h>
#include <hark/middleware.h>

#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { HUNG_MS = 30000, MANY = 200 };

static hark_bus *bus;
static hark_app *app;
static hark_sub *sub;
static int port;
static reply r;
static hark_errinfo ei;

/* ---- the program ------------------------------------------------------------------------------- */

static hark_err publish(hark_ctx *c, void *ud)
{
    const char *type = ud;
    hark_err err = hark_ctx_publish(c, HARK_OPTS(hark_event_spec, .type = type, .json = "1"));
    return err ? err : hark_ctx_text(c, 201, "published");
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

static hark_err publish_and_fail(hark_ctx *c, void *ud)
{
    hark_err err = publish(c, ud);
    return err ? err : hark_ctx_fail(c, HARK_EDENIED, "no");
}

static hark_err publish_badly(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_publish(c, HARK_OPTS(hark_event_spec, .type = "", .json = "1"));
}

static hark_err read_it(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_text(c, 200, hk_role_get() == HK_ROLE_WORKER ? "worker" : "loop");
}

static void new_app(const hark_app_opts *opts, const hark_wait_opts *wait)
{
    static const hark_route_opts blocking = {.size = sizeof blocking, .blocking = 1};
    static char t[] = "t", other[] = "other";
    hark_app_opts o = *opts;
    o.bus = bus;
    assert_int_equal(hark_app_new(&o, &app, &ei), HARK_OK);
    hark_app_use(app, hark_wait(wait));
    hark_post(app, "/t", publish, t);
    hark_post(app, "/other", publish, other);
    hark_post(app, "/three", publish_three, t);
    hark_post(app, "/fail", publish_and_fail, t);
    hark_post(app, "/bad", publish_badly, NULL);
    hark_get(app, "/read", read_it, NULL);
    hark_route(app, "GET", "/block", read_it, NULL, &blocking);
    if (hark_app_listen(app, "127.0.0.1:0", &ei) || hark_app_start(app, &ei))
        fail_msg("%s", ei.text);
    port = hark_app_port(app);
}

static void open_with(const hark_app_opts *opts, const hark_wait_opts *wait)
{
    if (hark_open("memory:", NULL, &bus, &ei) ||
        hark_subscribe(bus, "t", NULL, NULL, HARK_OPTS(hark_sub_opts, .consumer = "c"), &sub, &ei))
        fail_msg("%s", ei.text);
    new_app(opts, wait);
}

static void open_all(void)
{
    open_with(HARK_OPTS(hark_app_opts, .loops = 1, .workers = 1), NULL);
}

static void close_bus(void)
{
    hark_sub_unref(sub);
    hark_bus_unref(bus);
}

static void close_all(void)
{
    assert_int_equal(hark_app_stop(app, &ei), HARK_OK);
    hark_app_unref(app);
    close_bus();
}

/* ---- clients ----------------------------------------------------------------------------------- */

#define EXPECT_STATUS(want)                                                                        \
    do {                                                                                           \
        if (r.status != (want))                                                                    \
            fail_msg("status %d, expected %d: %s", r.status, (want), r.body);                      \
    } while (0)
#define EXPECT_PART(part)                                                                          \
    do {                                                                                           \
        if (!strstr(r.body, (part)))                                                               \
            fail_msg("'%s' has no '%s'", r.body, (part));                                          \
    } while (0)

/* Publishes and returns the cursor that the reply tells of. */
static const char *written(const char *target)
{
    static char cursor[HARK_CURSOR_TEXT];
    client_do(port, "POST", target, NULL, NULL, &r);
    return reply_header(&r, "Hark-Seq", cursor, sizeof cursor);
}

static void ask(const char *target, const char *wait)
{
    char lines[400];
    (void)snprintf(lines, sizeof lines, "Hark-Wait: %s\r\n", wait);
    client_do(port, "GET", target, lines, NULL, &r);
}

static int request(const char *target, const char *cursor, const char *max)
{
    char text[400];
    int fd = client_open(port);
    (void)snprintf(text, sizeof text,
                   "GET %s HTTP/1.1\r\nHost: a\r\nHark-Wait: consumer=c; seq=%s; max=%s\r\n\r\n",
                   target, cursor, max);
    client_sends(fd, text);
    return fd;
}

static bool quiet(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

static void settle_next(int64_t verdict)
{
    hark_delivery *d;
    assert_int_equal(hark_next(sub, HUNG_MS, &d), HARK_OK);
    assert_int_equal(hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = verdict)), HARK_OK);
}

static uint64_t sequence_of(const char *cursor)
{
    uint64_t seq = 0;
    if (hark_cursor_parse(bus, cursor, &seq, &ei))
        fail_msg("%s", ei.text);
    return seq;
}

/* ---- Hark-Seq ---------------------------------------------------------------------------------- */

static void test_a_reply_says_what_its_request_has_published(void **state)
{
    (void)state;
    open_all();
    assert_int_equal(sequence_of(written("/t")), 1);
    EXPECT_STATUS(201);
    assert_int_equal(sequence_of(written("/three")), 4);
    assert_int_equal(sequence_of(written("/fail")), 5);
    EXPECT_STATUS(403);
    assert_string_equal(written("/bad"), "");
    EXPECT_STATUS(400);
    char v[64];
    client_do(port, "GET", "/read", NULL, NULL, &r);
    assert_string_equal(reply_header(&r, "Hark-Seq", v, sizeof v), "");
    close_all();
}

/* ---- Hark-Wait: settled ------------------------------------------------------------------------ */

static void test_a_request_waits_for_the_consumer_and_the_loop_does_not(void **state)
{
    (void)state;
    open_all();
    const char *cursor = written("/t");
    int fd = request("/read", cursor, "5s");
    client_do(port, "GET", "/read", NULL, NULL, &r);
    EXPECT_STATUS(200);
    assert_true(quiet(fd));
    settle_next(HARK_ACK);
    client_read(fd, false, &r);
    EXPECT_STATUS(200);
    close(fd);
    fd = request("/read", cursor, "0ms"); /* settled already */
    client_read(fd, false, &r);
    EXPECT_STATUS(200);
    close(fd);
    close_all();
}

static void test_a_request_waits_without_holding_a_worker(void **state)
{
    (void)state;
    open_all();
    const char *cursor = written("/t");
    int a = request("/block", cursor, "5s"), b = request("/block", cursor, "5s");
    client_do(port, "GET", "/block", NULL, NULL, &r); /* by the only worker */
    EXPECT_STATUS(200);
    settle_next(HARK_ACK);
    client_read(a, false, &r);
    assert_string_equal(r.body, "worker");
    client_read(b, false, &r);
    assert_string_equal(r.body, "worker");
    close(a);
    close(b);
    close_all();
}

static void test_an_event_of_no_concern_is_not_waited_for(void **state)
{
    (void)state;
    open_all();
    char wait[200];
    (void)snprintf(wait, sizeof wait, "consumer=c; seq=%s; max=0ms", written("/other"));
    ask("/read", wait);
    EXPECT_STATUS(200);
    close_all();
}

static void test_hundreds_wait_at_the_same_time(void **state)
{
    static int fds[MANY];
    (void)state;
    open_with(HARK_OPTS(hark_app_opts, .loops = 2), HARK_OPTS(hark_wait_opts, .max_ms = HUNG_MS));
    const char *cursor = written("/t");
    for (int i = 0; i < MANY; i++)
        fds[i] = request("/read", cursor, "60s");
    settle_next(HARK_ACK);
    for (int i = 0; i < MANY; i++) {
        client_read(fds[i], false, &r);
        EXPECT_STATUS(200);
        close(fds[i]);
    }
    close_all();
}

/* ---- Hark-Wait: in vain ------------------------------------------------------------------------ */

static void test_who_waits_in_vain_hears_the_lag(void **state)
{
    (void)state;
    open_with(HARK_OPTS(hark_app_opts, .loops = 1), HARK_OPTS(hark_wait_opts, .max_ms = 40));
    char wait[200], part[100];
    const char *cursor = written("/three");
    static const char *const most[] = {"max=20ms", "max=900s", "max=99999999999999999999999s"};
    for (size_t i = 0; i < HK_COUNTOF(most); i++) { /* the last is no number */
        (void)snprintf(wait, sizeof wait, "consumer=c; seq=%s; %s", cursor, most[i]);
        ask("/read", wait);
        EXPECT_STATUS(i < 2 ? 409 : 400);
    }
    (void)snprintf(wait, sizeof wait, "consumer=c; seq=%s", cursor);
    ask("/read", wait);
    EXPECT_STATUS(409);
    EXPECT_PART("\"consumer\":\"c\"");
    EXPECT_PART("\"lag\":3");
    EXPECT_PART("\"detail\":\"consumer c has not settled");
    (void)snprintf(part, sizeof part, "\"seq\":\"%s\"", cursor);
    EXPECT_PART(part);
    char v[64];
    assert_string_equal(reply_header(&r, "Content-Type", v, sizeof v), "application/problem+json");
    close_all();
}

static bool note_id(const hark_dead_letter *letter, void *ud)
{
    *(uint64_t *)ud = letter->id;
    return true;
}

static void test_a_dead_letter_is_told_with_its_id(void **state)
{
    (void)state;
    open_all();
    uint64_t id = 0;
    char part[100];
    int fd = request("/read", written("/t"), "5s");
    settle_next(HARK_REJECT);
    client_read(fd, false, &r);
    close(fd);
    EXPECT_STATUS(424);
    assert_int_equal(hark_dead_letters(bus, NULL, note_id, &id, &ei), HARK_OK);
    (void)snprintf(part, sizeof part, "\"consumer\":\"c\",\"dead_letter\":%llu",
                   (unsigned long long)id);
    EXPECT_PART(part);
    close_all();
}

static void expect_refusal(const char *wait, int status, const char *part)
{
    ask("/read", wait);
    if (r.status != status)
        fail_msg("'%s': status %d, expected %d: %s", wait, r.status, status, r.body);
    EXPECT_PART(part);
}

static void test_what_cannot_be_waited_for_is_refused(void **state)
{
    (void)state;
    open_all();
    char wait[300];
    const char *cursor = written("/t");
    static const struct {
        const char *format, *part;
    } bad[] = {
        {"", "name=value"},
        {"c", "name=value"},
        {"seq=%s", "consumer is missing"},
        {"consumer=; seq=%s", "consumer is missing"},
        {"consumer=a b; seq=%s", "no name"},
        {"consumer=c", "seq is missing"},
        {"consumer=c; seq=%s;", "name=value"},
        {"consumer=c; seq=%s; for=1s", "'for' is not known"},
        {"consumer=c; seq=%s; consumer=d", "twice"},
        {"consumer=c; seq=%s; max=1", "max is '1'"},
        {"consumer=c; seq=%s; max=ms", "max is 'ms'"},
        {"consumer=c; seq=%s; max=-1s", "max is '-1s'"},
        {"consumer=c; seq=%s; max=1 s", "max is '1 s'"},
        {"consumer=c; seq=7", "not a cursor"},
        {"consumer=c; seq=%s7", "not in the log yet"},
    };
    for (size_t i = 0; i < HK_COUNTOF(bad); i++) {
        (void)snprintf(wait, sizeof wait, bad[i].format, cursor);
        expect_refusal(wait, 400, bad[i].part);
    }
    (void)snprintf(wait, sizeof wait, "consumer=nobody; seq=%s", cursor);
    expect_refusal(wait, 404, "no consumer 'nobody'");
    expect_refusal("consumer=c; seq=00000000.1-1", 410, "another log");
    (void)snprintf(wait, sizeof wait,
                   "Hark-Wait: consumer=c; seq=%s\r\nhark-wait: consumer=c; seq=%s\r\n", cursor,
                   cursor);
    client_do(port, "GET", "/read", wait, NULL, &r);
    EXPECT_STATUS(400);
    EXPECT_PART("more than once");
    settle_next(HARK_ACK);
    (void)snprintf(wait, sizeof wait, " max =\t2s;seq= %s ;  consumer=c  ", cursor);
    ask("/read", wait);
    EXPECT_STATUS(200);
    close_all();
}

/* ---- ends -------------------------------------------------------------------------------------- */

static uint64_t answered(void)
{
    hark_app_stats stats = {.size = sizeof stats};
    assert_int_equal(hark_app_stats_get(app, &stats), HARK_OK);
    return stats.requests;
}

static void test_a_client_that_leaves_while_it_waits_leaves_nothing_behind(void **state)
{
    (void)state;
    open_all();
    int fd = request("/read", written("/t"), "5s");
    client_do(port, "GET", "/read", NULL, NULL, &r);
    close(fd);
    settle_next(HARK_ACK);
    while (answered() < 3)
        (void)sched_yield();
    close_all();
}

static void test_the_end_of_the_bus_is_told_to_who_waits(void **state)
{
    (void)state;
    open_all();
    int fd = request("/read", written("/t"), "5s");
    client_do(port, "GET", "/read", NULL, NULL, &r); /* the other one waits by now */
    assert_int_equal(hark_drain(bus, HUNG_MS, &ei), HARK_OK);
    client_read(fd, false, &r);
    EXPECT_STATUS(503);
    close(fd);
    close_all();
}

static void test_the_end_of_the_app_waits_for_who_waits_or_cuts_off(void **state)
{
    (void)state;
    for (int cut = 0; cut < 2; cut++) {
        open_with(HARK_OPTS(hark_app_opts, .loops = 1, .drain_ms = cut ? 10 : HUNG_MS),
                  HARK_OPTS(hark_wait_opts, .max_ms = cut ? HUNG_MS : 100));
        int fd = request("/read", written("/t"), "60s");
        client_do(port, "GET", "/read", NULL, NULL, &r);
        assert_int_equal(hark_app_stop(app, &ei), cut ? HARK_ETIMEDOUT : HARK_OK);
        if (cut)
            assert_true(client_ended(fd));
        else
            client_read(fd, false, &r);
        close(fd);
        if (!cut)
            EXPECT_STATUS(409);
        hark_app_unref(app); /* what was cut off is given back when the bus ends */
        close_bus();
    }
}

static void test_limits_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    hark_middleware mw = hark_wait(HARK_OPTS(hark_wait_opts, .max_ms = -1));
    assert_int_equal(mw.err, HARK_EINVAL);
    assert_non_null(strstr(mw.text, "max_ms is -1"));
    assert_null(mw.ud);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_reply_says_what_its_request_has_published),
        cmocka_unit_test(test_a_request_waits_for_the_consumer_and_the_loop_does_not),
        cmocka_unit_test(test_a_request_waits_without_holding_a_worker),
        cmocka_unit_test(test_an_event_of_no_concern_is_not_waited_for),
        cmocka_unit_test(test_hundreds_wait_at_the_same_time),
        cmocka_unit_test(test_who_waits_in_vain_hears_the_lag),
        cmocka_unit_test(test_a_dead_letter_is_told_with_its_id),
        cmocka_unit_test(test_what_cannot_be_waited_for_is_refused),
        cmocka_unit_test(test_a_client_that_leaves_while_it_waits_leaves_nothing_behind),
        cmocka_unit_test(test_the_end_of_the_bus_is_told_to_who_waits),
        cmocka_unit_test(test_the_end_of_the_app_waits_for_who_waits_or_cuts_off),
        cmocka_unit_test(test_limits_that_make_no_sense_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
