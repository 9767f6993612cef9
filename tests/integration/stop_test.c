/* The quickstart is asked to stop, as a service manager or a user at a terminal does: requests in
 * flight get their answers, it ends with status 0 within its deadline, and it can be started again
 * at once. */
#include "client.h"
#include "kit.h"
#include "load.h"

#include <hark/hark.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { CONNECTIONS = 64, ROUNDS = 6, DRAIN_MS = 5000 };

static const char *program;
static uint64_t seed;
static char url[200];
static reply r;

static int fresh_log(void **state)
{
    char dir[128];
    (void)state;
    (void)snprintf(dir, sizeof dir, "%s/t-XXXXXX", kit_dir());
    assert_non_null(mkdtemp(dir));
    (void)snprintf(url, sizeof url, "sqlite:%s/x.db", dir);
    return 0;
}

/* Its end, well and in time; a sanitizer's report would be in its standard error. */
static void ends_well(kit_proc *p, int64_t asked)
{
    char sink[4096];
    while (read(p->out, sink, sizeof sink) > 0)
        continue;
    int status = kit_wait(p, KIT_HUNG_MS);
    int64_t took = kit_ms() - asked;
    if (!kit_exited(status, 0))
        fail_msg("wait status %d: %s", status, kit_slurp(kit_path("stderr"), NULL));
    if (took > DRAIN_MS)
        fail_msg("it took %lld ms to stop", (long long)took);
}

/* ---- under load ---- */

static void load_for(load *l, kit_proc *p, size_t answers)
{
    char sink[32768];
    struct pollfd fds[2] = {{.fd = p->out, .events = POLLIN},
                            {.fd = load_poller(l), .events = POLLIN}};
    size_t until = load_acked(l) + answers;
    while (load_acked(l) < until) {
        KIT_CHECK(poll(fds, 2, KIT_HUNG_MS) > 0, "no answers");
        if (fds[0].revents)
            KIT_CHECK(read(p->out, sink, sizeof sink) > 0, "it ended by itself");
        if (fds[1].revents)
            load_step(l);
    }
}

/* What was answered is in the log, and what is in the log was answered. */
static void log_is_what_was_answered(load *l)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    hark_page *page = NULL;
    uint64_t after = 0;
    size_t n, in_log = 0;
    request *all = load_requests(l, &n);
    if (hark_open(url, NULL, &bus, &ei))
        fail_msg("the log does not open: %s", ei.text);
    do {
        if (hark_read(bus, HARK_OPTS(hark_read_opts, .after = after, .limit = 10000), &page, &ei))
            fail_msg("the log cannot be read: %s", ei.text);
        for (size_t i = 0; i < hark_page_count(page); i++) {
            const hark_event *e = hark_page_event(page, i);
            bool user = strcmp(hark_event_type(e), "user:created") == 0;
            size_t len;
            if (!user && strcmp(hark_event_type(e), "order:placed") != 0)
                continue;
            long k = load_number(hark_event_data(e, &len), user);
            assert_in_range(k, 0, n - 1);
            if (!all[k].acked || all[k].seq)
                fail_msg("request %ld is in the log %s", k, all[k].seq ? "twice" : "unanswered");
            all[k].seq = hark_event_sequence(e);
            in_log++;
        }
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    hark_bus_unref(bus);
    assert_int_equal(in_log, load_acked(l));
    printf("%zu requests, all answered, all in the log\n", in_log);
}

static void stop_under_load(int sig)
{
    load *l = load_new(seed, CONNECTIONS);
    uint64_t random = seed + (uint64_t)sig;
    for (int i = 0; i < ROUNDS; i++) {
        int port = 0;
        kit_proc p = kit_quickstart(program, url, kit_path("stderr"), &port);
        load_connect(l, port);
        load_for(l, &p, 64 + kit_random(&random) % 2000);
        int64_t asked = kit_ms();
        kill(p.pid, sig);
        load_finish(l);
        ends_well(&p, asked);
    }
    log_is_what_was_answered(l);
    load_free(l);
}

static void test_sigterm_under_load_answers_what_is_in_flight(void **state)
{
    (void)state;
    stop_under_load(SIGTERM);
}

static void test_sigint_under_load_answers_what_is_in_flight(void **state)
{
    (void)state;
    stop_under_load(SIGINT);
}

/* ---- a request that is half sent ---- */

static void await_refusal(int port)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    for (int fd; (fd = client_open(port)) >= 0; close(fd))
        KIT_CHECK(kit_ms() < end, "it goes on taking connections");
}

static void test_a_request_half_sent_is_finished(void **state)
{
    static const char first[] = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    static const char head[] = "POST /orders HTTP/1.1\r\nHost: test\r\n"
                               "Content-Type: application/json\r\nContent-Length: 16\r\n\r\n"
                               "{\"items\"";
    int port = 0;
    (void)state;
    kit_proc p = kit_quickstart(program, url, kit_path("stderr"), &port);
    int fd = client_open(port);
    client_sends(fd, first);
    client_read(fd, false, &r);
    assert_int_equal(r.status, 404);
    client_sends(fd, head);
    int64_t asked = kit_ms();
    kill(p.pid, SIGTERM);
    await_refusal(port);
    client_sends(fd, ":[\"a\"] }");
    client_read(fd, false, &r);
    assert_int_equal(r.status, 201);
    assert_true(client_ended(fd));
    close(fd);
    ends_well(&p, asked);
}

static void test_idle_connections_do_not_delay_the_end(void **state)
{
    int fds[32], port = 0;
    (void)state;
    kit_proc p = kit_quickstart(program, url, kit_path("stderr"), &port);
    for (int i = 0; i < 32; i++) {
        fds[i] = client_open(port);
        client_sends(fds[i], "GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client_read(fds[i], false, &r);
        assert_int_equal(r.status, 404);
    }
    int64_t asked = kit_ms();
    kill(p.pid, SIGTERM);
    ends_well(&p, asked);
    for (int i = 0; i < 32; i++) {
        assert_true(client_ended(fds[i]));
        close(fds[i]);
    }
}

static void test_it_starts_again_at_once_on_the_same_port_and_log(void **state)
{
    char address[32];
    int port = 0;
    (void)state;
    kit_proc p = kit_quickstart(program, url, kit_path("stderr"), &port);
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", port);
    client_do(port, "POST", "/users", NULL, NULL, &r);
    assert_int_equal(r.status, 201);
    kit_stop(&p, port);
    const char *argv[] = {program, "--listen", address, "--store", url, NULL};
    p = kit_start(argv, &(kit_how){.err_path = kit_path("stderr")});
    char line[256] = "";
    KIT_CHECK(read(p.out, line, sizeof line - 1) > 0, "it did not start again: %s",
              kit_slurp(kit_path("stderr"), NULL));
    kit_stop(&p, port);
}

#define CASE(f) cmocka_unit_test_setup(f, fresh_log)

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 2, "usage: stop_test QUICKSTART");
    kit_guard();
    program = kit_program(argv[1]);
    seed = kit_seed();
    const struct CMUnitTest tests[] = {
        CASE(test_sigterm_under_load_answers_what_is_in_flight),
        CASE(test_sigint_under_load_answers_what_is_in_flight),
        CASE(test_a_request_half_sent_is_finished),
        CASE(test_idle_connections_do_not_delay_the_end),
        CASE(test_it_starts_again_at_once_on_the_same_port_and_log),
    };
    return cmocka_run_group_tests_name("stop", tests, NULL, NULL);
}
