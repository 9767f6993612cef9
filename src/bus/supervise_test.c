/* Tests of when a crashed child is started again, and of what hark_supervise refuses and runs in
 * its own process. Whole programs are in tests/integration/supervise_run_test.c. */
#include "bus/supervise_i.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

static const hark_supervise_opts usual = {.size = sizeof usual,
                                          .backoff_ms = 100,
                                          .backoff_max_ms = 500,
                                          .stable_ms = 10000,
                                          .max_restarts = -1};

static void assert_pauses(const hark_supervise_opts *o, hk_series *s, const int64_t *pauses,
                          size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_int_equal(hk_series_next(s, o, 5), pauses[i]);
}

/* ---- when to start again ---- */

static void
test_two_restarts_come_at_once_and_then_pauses_double_to_their_limit(void **state UNUSED)
{
    static const int64_t pauses[] = {0, 0, 100, 200, 400, 500, 500, 500};
    hk_series s = {0};
    assert_pauses(&usual, &s, pauses, HK_COUNTOF(pauses));
}

static void test_a_long_run_ends_the_series(void **state UNUSED)
{
    static const int64_t pauses[] = {0, 0, 100, 200}, again[] = {0, 100};
    hk_series s = {0};
    assert_pauses(&usual, &s, pauses, HK_COUNTOF(pauses));
    assert_int_equal(hk_series_next(&s, &usual, 9999), 400);
    assert_int_equal(hk_series_next(&s, &usual, 10000), 0);
    assert_pauses(&usual, &s, again, HK_COUNTOF(again));
}

static void test_it_gives_up_after_so_many_in_a_row(void **state UNUSED)
{
    static const int64_t pauses[] = {0, 0, 100, -1};
    hark_supervise_opts o = usual;
    hk_series s = {0};
    o.max_restarts = 3;
    assert_pauses(&o, &s, pauses, HK_COUNTOF(pauses));
    s = (hk_series){.n = 3};
    assert_int_equal(hk_series_next(&s, &o, 20000), 0);
}

static void test_pauses_never_overflow(void **state UNUSED)
{
    hark_supervise_opts o = usual;
    hk_series s = {0};
    o.backoff_max_ms = INT64_MAX;
    for (int i = 0; i < 200; i++)
        assert_true(hk_series_next(&s, &o, 0) >= 0);
    assert_int_equal(hk_series_next(&s, &o, 0), INT64_MAX);
    o.backoff_ms = INT64_MAX;
    o.backoff_max_ms = 7;
    assert_int_equal(hk_series_next(&s, &o, 0), 7);
}

/* ---- what is refused ---- */

static int never(void *ud UNUSED)
{
    return 99;
}

static void assert_refused(const hark_supervise_opts *o, const char *why)
{
    int status = -1;
    hark_errinfo ei;
    assert_int_equal(hark_supervise(o, never, NULL, &status, &ei), HARK_EINVAL);
    if (!strstr(ei.text, why))
        fail_msg("'%s' does not say '%s'", ei.text, why);
    assert_int_equal(status, -1);
}

static void test_options_that_make_no_sense_are_refused(void **state UNUSED)
{
    static const char *const bad[] = {"localhost"};
    assert_refused(HARK_OPTS(hark_supervise_opts, .flags = 1), "flags");
    assert_refused(HARK_OPTS(hark_supervise_opts, .n_listen = 1), "n_listen");
    assert_refused(HARK_OPTS(hark_supervise_opts, .n_listen = 17, .listen = bad), "at most 16");
    assert_refused(HARK_OPTS(hark_supervise_opts, .n_listen = 1, .listen = bad), "'localhost'");
    assert_refused(HARK_OPTS(hark_supervise_opts, .stop_ms = -2), "stop_ms");
    assert_refused(HARK_OPTS(hark_supervise_opts, .backoff_ms = -1), "backoff_ms");
    assert_refused(HARK_OPTS(hark_supervise_opts, .backoff_max_ms = -1), "backoff_max_ms");
    assert_refused(HARK_OPTS(hark_supervise_opts, .stable_ms = -1), "stable_ms");
    assert_refused(HARK_OPTS(hark_supervise_opts, .max_restarts = -2), "max_restarts");
}

static void *stays(void *arg)
{
    hk_gate *gate = arg;
    unsigned seen = hk_gate_look(gate);
    if (seen == 0)
        (void)hk_gate_wait(gate, seen, -1);
    return NULL;
}

static void test_a_program_with_other_threads_is_refused(void **state UNUSED)
{
    pthread_t t;
    hk_gate gate;
    hk_gate_init(&gate);
    assert_int_equal(hk_thread_start(&t, "other", stays, &gate), HARK_OK);
    assert_refused(NULL, "other threads");
    hk_gate_open(&gate);
    pthread_join(t, NULL);
}

static void test_an_open_bus_is_refused(void **state UNUSED)
{
    (void)hk_count_add(&hk_buses, 1);
    assert_refused(NULL, "a bus is open");
    (void)hk_count_sub(&hk_buses, 1);
}

static void test_a_supervised_child_is_not_supervised_again(void **state UNUSED)
{
    hk_mark_set(&hk_supervisor, 1);
    assert_refused(NULL, "already");
    hk_mark_set(&hk_supervisor, 0);
}

/* ---- in this process ---- */

static int in_here(void *ud)
{
    *(pid_t *)ud = getpid();
    return 42;
}

static void test_it_can_be_told_to_run_in_this_process(void **state UNUSED)
{
    int status = -1;
    pid_t pid = 0;
    assert_int_equal(setenv("HARK_NO_SUPERVISE", "1", 1), 0);
    assert_int_equal(hark_supervise(NULL, in_here, &pid, &status, NULL), HARK_OK);
    assert_int_equal(unsetenv("HARK_NO_SUPERVISE"), 0);
    assert_int_equal(status, 42);
    assert_int_equal(pid, getpid());
    assert_int_equal(hark_supervise_restarts(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_restarts_come_at_once_and_then_pauses_double_to_their_limit),
        cmocka_unit_test(test_a_long_run_ends_the_series),
        cmocka_unit_test(test_it_gives_up_after_so_many_in_a_row),
        cmocka_unit_test(test_pauses_never_overflow),
        cmocka_unit_test(test_options_that_make_no_sense_are_refused),
        cmocka_unit_test(test_a_program_with_other_threads_is_refused),
        cmocka_unit_test(test_an_open_bus_is_refused),
        cmocka_unit_test(test_a_supervised_child_is_not_supervised_again),
        cmocka_unit_test(test_it_can_be_told_to_run_in_this_process),
    };
    return cmocka_run_group_tests_name("supervise", tests, NULL, NULL);
}
