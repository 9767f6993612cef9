/* syscall_victim under strace, which ends it at its n-th call of one kind, for every n there is, or
 * makes that call fail. Whatever was hit: the log opens again, what got a receipt is there as it was
 * published, what was refused is not, and the consumer gets every event. */
#include "kit.h"
#include "syscall_work.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { POINTS_MAX = 2000 };

static const char *victim, *strace;
static kit_output output;

/* What the victim said. */
typedef struct said {
    bool opened, ended, delivered[SYSCALL_ALL], asked[SYSCALL_EVENTS];
    bool schedule_asked, redriven;
    int schedule_class;
    int open_err, err[SYSCALL_EVENTS], cls[SYSCALL_EVENTS], read_only;
    uint64_t seq[SYSCALL_EVENTS];
} said;

/* One run: where it was and what came of it. */
typedef struct point {
    char what[160]; /* the injection */
    char dir[160], url[200];
    bool injected, killed;
    said said;
} point;

static void parse(said *s, char *text)
{
    char *save = NULL;
    int i, err, cls;
    unsigned long long seq;
    memset(s, 0, sizeof *s);
    for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
        if (sscanf(l, "O %d %d", &err, &cls) == 2) {
            s->opened = true;
            s->open_err = err;
        } else if (sscanf(l, "P %d %d %d %llu", &i, &err, &cls, &seq) == 4) {
            s->asked[i] = true;
            s->err[i] = err;
            s->cls[i] = cls;
            s->seq[i] = seq;
        } else if (sscanf(l, "C %d %d", &err, &cls) == 2) {
            s->schedule_asked = true;
            s->schedule_class = cls;
        } else if (sscanf(l, "L %d %d", &err, &cls) == 2) {
            s->redriven = !err;
        } else if (sscanf(l, "D %d", &i) == 1) {
            s->delivered[i] = true;
        } else if (sscanf(l, "R %d", &i) == 1) {
            s->read_only = i;
        } else if (strcmp(l, "E") == 0) {
            s->ended = true;
        } else {
            fail_msg("a strange line: %s", l);
        }
    }
}

/* Runs the victim on a fresh log with one injection, e.g. "fdatasync:error=EIO:when=3". */
static void run(point *p, const char *call, const char *how, int n, const char *more)
{
    char trace[64], inject[192], patience[16], log[200];
    (void)snprintf(p->what, sizeof p->what, "%s:%s:when=%d%s", call, how, n, more);
    (void)snprintf(p->dir, sizeof p->dir, "%s/t-XXXXXX", kit_dir());
    assert_non_null(mkdtemp(p->dir));
    (void)snprintf(p->url, sizeof p->url, "sqlite:%s/x.db", p->dir);
    (void)snprintf(log, sizeof log, "%s/strace", kit_dir());
    (void)snprintf(trace, sizeof trace, "trace=%s", call);
    (void)snprintf(inject, sizeof inject, "inject=%s", p->what);
    bool fails = strncmp(how, "error", 5) == 0; /* then the consumer may be unable to go on */
    (void)snprintf(patience, sizeof patience, "%d", fails ? 400 : KIT_HUNG_MS);
    const char *argv[] = {strace, "-f", "-qq",  "-e",   trace,    "-e", inject,
                          "-o",   log,  victim, p->url, patience, NULL};
    kit_run(argv, NULL, &output);
    char *text = kit_slurp(log, NULL);
    p->injected = text && strstr(text, "INJECTED");
    free(text);
    p->killed = WIFSIGNALED(output.status) && WTERMSIG(output.status) == 9;
    if (!p->killed && !kit_exited(output.status, 0))
        fail_msg("%s: wait status %d: %s%s", p->what, output.status, output.out, output.err);
    parse(&p->said, output.out);
}

/* ---- afterwards ---- */

typedef struct after {
    uint64_t seq[SYSCALL_ALL]; /* in the log; 0 = not there */
    bool delivered[SYSCALL_ALL];
    int schedules, letters, announced;
} after;

static void look_at(const point *p, hark_bus *bus, after *a)
{
    hark_page *page = NULL;
    hark_errinfo ei;
    uint64_t last = 0;
    char data[16384];
    memset(a->seq, 0, sizeof a->seq);
    if (hark_read(bus, NULL, &page, &ei))
        fail_msg("%s: the log cannot be read: %s", p->what, ei.text);
    for (size_t k = 0; k < hark_page_count(page); k++) {
        const hark_event *e = hark_page_event(page, k);
        size_t len;
        const void *bytes = hark_event_data(e, &len);
        int i = atoi(hark_event_id(e) + 2);
        if (strncmp(hark_event_id(e), "e-", 2) != 0 || i < 0 || i >= SYSCALL_ALL || a->seq[i])
            fail_msg("%s: event %s is one too many", p->what, hark_event_id(e));
        if (len != syscall_data(i, data) || memcmp(bytes, data, len) != 0)
            fail_msg("%s: event %d has other data", p->what, i);
        a->seq[i] = hark_event_sequence(e);
        if (a->seq[i] <= last)
            fail_msg("%s: sequence %d after %d", p->what, (int)a->seq[i], (int)last);
        last = a->seq[i];
    }
    hark_page_free(page);
}

static void receipts_are_true(const point *p, const after *a)
{
    for (int i = 0; i < SYSCALL_EVENTS; i++) {
        const said *s = &p->said;
        if (!s->asked[i])
            continue;
        if (s->cls[i] == HARK_CLASS_OK && a->seq[i] != s->seq[i])
            fail_msg("%s: event %d has a receipt of %d; in the log it is at %d", p->what, i,
                     (int)s->seq[i], (int)a->seq[i]);
        if (s->cls[i] != HARK_CLASS_OK && s->cls[i] != HARK_CLASS_UNKNOWN && a->seq[i])
            fail_msg("%s: event %d got %s, and yet it is in the log", p->what, i,
                     hark_err_name((hark_err)s->err[i]));
    }
}

/* Published again under their ids, what is there keeps its place and what is not gets one. */
static void publish_again(const point *p, hark_bus *bus, after *a)
{
    for (int i = 0; i < SYSCALL_EVENTS; i++) {
        hark_receipt r = {0};
        hark_err err = syscall_publish(bus, i, &r);
        if (err)
            fail_msg("%s: the log takes no events any more: %s", p->what, hark_err_name(err));
        if (a->seq[i] ? !r.duplicate || r.sequence != a->seq[i] : r.duplicate != 0)
            fail_msg("%s: event %d, at %d before, got %d%s", p->what, i, (int)a->seq[i],
                     (int)r.sequence, r.duplicate ? " as a duplicate" : "");
    }
}

static hark_verdict take(hark_delivery *d, void *ud)
{
    after *a = ud;
    a->delivered[atoi(hark_event_id(hark_delivery_event(d)) + 2)] = true;
    return HARK_ACK;
}

static bool count_schedule(const hark_schedule_info *info, void *ud)
{
    (void)info;
    ++*(int *)ud;
    return true;
}

static bool count_letter(const hark_dead_letter *l, void *ud)
{
    (void)l;
    ++*(int *)ud;
    return true;
}

/* What was kept is published, soon, as it is overdue; what was refused is nowhere. */
static void schedule_is_true(const point *p, hark_bus *bus, after *a)
{
    int64_t end = kit_ms() + KIT_HUNG_MS;
    hark_errinfo ei;
    do { /* the schedules first: one of them may become an event in between */
        a->schedules = 0;
        if (hark_schedules(bus, count_schedule, &a->schedules, &ei))
            fail_msg("%s: hark_schedules: %s", p->what, ei.text);
        look_at(p, bus, a);
        if (kit_ms() > end)
            fail_msg("%s: an overdue schedule stays", p->what);
    } while (a->schedules && !a->seq[SYSCALL_LATE]);
    int cls = p->said.schedule_class;
    bool asked = p->said.schedule_asked;
    if (asked && cls == HARK_CLASS_OK && !a->seq[SYSCALL_LATE])
        fail_msg("%s: a schedule is lost", p->what);
    if (asked && cls != HARK_CLASS_OK && cls != HARK_CLASS_UNKNOWN && a->seq[SYSCALL_LATE])
        fail_msg("%s: a schedule was refused, and yet its event is there", p->what);
}

/* A dead letter is announced, once, and one that was redriven is none any more. */
static void letter_is_true(const point *p, hark_bus *bus, after *a)
{
    hark_page *page = NULL;
    hark_errinfo ei;
    if (hark_dead_letters(bus, NULL, count_letter, &a->letters, &ei) ||
        hark_read(bus, HARK_OPTS(hark_read_opts, .type = "dead_letter"), &page, &ei))
        fail_msg("%s: the dead letters cannot be read: %s", p->what, ei.text);
    a->announced = (int)hark_page_count(page);
    hark_page_free(page);
    if (a->letters > 1 || a->announced > 1 || a->letters > a->announced)
        fail_msg("%s: %d dead letters, and %d announcements", p->what, a->letters, a->announced);
    if (p->said.redriven && (a->letters || !a->announced))
        fail_msg("%s: after its redrive: %d dead letters, %d announcements", p->what, a->letters,
                 a->announced);
}

static bool is_settled(const point *p, hark_sub *sub, uint64_t last)
{
    hark_sub_stats st = {.size = sizeof st};
    if (hark_sub_stats_get(sub, &st))
        fail_msg("%s: no figures of the consumer", p->what);
    return st.position >= last && !st.pending;
}

static void consume_the_rest(const point *p, hark_bus *bus, after *a)
{
    hark_bus_info info = {.size = sizeof info};
    hark_sub *sub = NULL;
    hark_errinfo ei;
    int left = 0;
    int64_t end = kit_ms() + KIT_HUNG_MS;
    assert_int_equal(hark_bus_info_get(bus, &info), HARK_OK);
    hark_err err = syscall_consume(bus, take, a, &sub);
    if (err)
        fail_msg("%s: the consumer: %s", p->what, hark_err_name(err));
    if (hark_redrive_all(bus, NULL, 0, NULL, &ei))
        fail_msg("%s: hark_redrive_all: %s", p->what, ei.text);
    while (!is_settled(p, sub, info.last_sequence))
        if (kit_ms() > end)
            fail_msg("%s: the consumer hangs", p->what);
    hark_sub_close(sub);
    assert_int_equal(hark_sub_join(sub, KIT_HUNG_MS), HARK_OK);
    hark_sub_unref(sub);
    for (int i = 0; i < SYSCALL_ALL; i++)
        if (a->seq[i] && !a->delivered[i] && !p->said.delivered[i])
            fail_msg("%s: event %d never came", p->what, i);
    if (a->letters && !a->delivered[2])
        fail_msg("%s: the redrive of a dead letter never came", p->what);
    if (hark_dead_letters(bus, HARK_OPTS(hark_dead_filter, .redriven = 1), count_letter, &left,
                          &ei))
        fail_msg("%s: hark_dead_letters: %s", p->what, ei.text);
    if (left)
        fail_msg("%s: %d dead letters are left", p->what, left);
}

static void audit(const point *p)
{
    hark_bus *bus = NULL;
    hark_errinfo ei;
    after a = {0};
    if (hark_open(p->url, NULL, &bus, &ei))
        fail_msg("%s: the log does not open: %s", p->what, ei.text);
    schedule_is_true(p, bus, &a);
    receipts_are_true(p, &a);
    letter_is_true(p, bus, &a);
    publish_again(p, bus, &a);
    look_at(p, bus, &a);
    consume_the_rest(p, bus, &a);
    hark_bus_unref(bus);
}

static void remove_log(const point *p)
{
    char *names = kit_list(p->dir), *save = NULL, path[512];
    if (strcmp(names, "x.db ") != 0)
        fail_msg("%s: a closed log leaves %s", p->what, names);
    for (char *n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save)) {
        (void)snprintf(path, sizeof path, "%s/%s", p->dir, n);
        assert_int_equal(remove(path), 0);
    }
    free(names);
    assert_int_equal(remove(p->dir), 0);
}

/* ---- ended at each call ---- */

static void killed_at_each(const char *call)
{
    for (int n = 1;; n += kit_brief() ? 4 : 1) {
        point p = {0};
        assert_true(n < POINTS_MAX);
        run(&p, call, "signal=SIGKILL", n, "");
        audit(&p);
        remove_log(&p);
        if (p.killed)
            continue;
        printf("%s: %d points\n", call, n - 1);
        assert_true(n > 1);
        return;
    }
}

#define KILLED_AT(call)                                                                            \
    static void test_killed_at_each_##call(void **state)                                           \
    {                                                                                              \
        (void)state;                                                                               \
        killed_at_each(#call);                                                                     \
    }
KILLED_AT(fdatasync)
KILLED_AT(pwrite64)
KILLED_AT(write)
KILLED_AT(openat)
KILLED_AT(ftruncate)
KILLED_AT(unlink)
KILLED_AT(fcntl)
KILLED_AT(close)

/* ---- one call fails ---- */

typedef void (*check_fn)(const point *p);

/* Calls of which there are many fail at every so many in a short run. */
static int step_of(const char *call)
{
    return kit_long() || strcmp(call, "pwrite64") != 0 ? 1 : kit_brief() ? 15 : 5;
}

/* Fails the n-th call, for each n; `more` is "+" for all from there on. Returns how many of the
 * publishes failed with that error. */
static int failed_at_each(const char *call, const char *how, const char *more, hark_err wanted,
                          check_fn check)
{
    int hits = 0;
    for (int n = 1;; n += step_of(call)) {
        point p = {0};
        assert_true(n < POINTS_MAX);
        run(&p, call, how, n, more);
        if (!p.said.opened || (!p.said.open_err && !p.said.ended))
            fail_msg("%s: it stopped in the middle: %s", p.what, output.err);
        check(&p);
        audit(&p);
        remove_log(&p);
        for (int i = 0; i < SYSCALL_EVENTS; i++)
            hits += p.said.asked[i] && p.said.err[i] == (int)wanted;
        if (p.injected)
            continue;
        printf("%s:%s%s: %d points, %d publishes got %s\n", call, how, more, n - 1, hits,
               hark_err_name(wanted));
        return hits;
    }
}

/* After a publish whose outcome is unknown nothing is taken any more. */
static void read_only_after_unknown(const point *p)
{
    bool unknown = false;
    for (int i = 0; i < SYSCALL_EVENTS && p->said.asked[i]; i++) {
        if (unknown && p->said.cls[i] != HARK_CLASS_FATAL)
            fail_msg("%s: after an unknown outcome event %d got %s", p->what, i,
                     hark_err_name((hark_err)p->said.err[i]));
        unknown = unknown || p->said.cls[i] == HARK_CLASS_UNKNOWN;
    }
    if (unknown && !p->said.read_only)
        fail_msg("%s: the bus is not read-only", p->what);
}

/* What failed for want of space was not stored, and when there is space again writing goes on. */
static void goes_on(const point *p)
{
    for (int i = 0; i < SYSCALL_EVENTS && p->said.asked[i]; i++) {
        if (p->said.cls[i] != HARK_CLASS_OK && p->said.cls[i] != HARK_CLASS_TRANSIENT)
            fail_msg("%s: event %d got %s", p->what, i, hark_err_name((hark_err)p->said.err[i]));
        if (i && p->said.cls[i] && p->said.cls[i - 1])
            fail_msg("%s: one failure, and events %d and %d were refused", p->what, i - 1, i);
    }
    if (p->said.read_only)
        fail_msg("%s: the bus is read-only", p->what);
}

static void refused_as_transient(const point *p)
{
    for (int i = 0; i < SYSCALL_EVENTS && p->said.asked[i]; i++)
        if (p->said.cls[i] != HARK_CLASS_OK && p->said.cls[i] != HARK_CLASS_TRANSIENT)
            fail_msg("%s: event %d got %s", p->what, i, hark_err_name((hark_err)p->said.err[i]));
}

static void test_a_failed_fdatasync_is_an_unknown_outcome_and_ends_writing(void **state)
{
    (void)state;
    assert_true(
        failed_at_each("fdatasync", "error=EIO", "", HARK_EUNKNOWN, read_only_after_unknown) > 0);
}

static void test_a_disk_whose_syncs_all_fail(void **state)
{
    (void)state;
    assert_true(
        failed_at_each("fdatasync", "error=EIO", "+", HARK_EUNKNOWN, read_only_after_unknown) > 0);
}

static void test_a_disk_that_is_full_once(void **state)
{
    (void)state;
    assert_true(failed_at_each("pwrite64", "error=ENOSPC", "", HARK_EFULL, goes_on) > 0);
}

static void test_a_disk_that_stays_full(void **state)
{
    (void)state;
    assert_true(failed_at_each("pwrite64", "error=ENOSPC", "+", HARK_EFULL, refused_as_transient) >
                0);
}

static void test_a_failed_write_is_an_unknown_outcome_and_ends_writing(void **state)
{
    (void)state;
    assert_true(
        failed_at_each("pwrite64", "error=EIO", "", HARK_EUNKNOWN, read_only_after_unknown) > 0);
}

/* ---- may strace do its work here? ---- */

static bool strace_works(void)
{
    const char *argv[] = {strace,
                          "-f",
                          "-qq",
                          "-o",
                          kit_path("probe"),
                          "-e",
                          "trace=openat",
                          "-e",
                          "inject=openat:signal=SIGKILL:when=1",
                          "/bin/sh",
                          "-c",
                          ":",
                          NULL};
    kit_run(argv, NULL, &output);
    return WIFSIGNALED(output.status) && WTERMSIG(output.status) == 9;
}

int main(int argc, char **argv)
{
    KIT_CHECK(argc == 3, "usage: syscall_test VICTIM STRACE");
    kit_guard();
    victim = kit_program(argv[1]);
    strace = argv[2];
    KIT_CHECK(*strace, "strace is not installed; script/setup installs it");
    if (!strace_works()) {
        printf("skipped: this machine does not let strace trace a process: %s\n", output.err);
        return 77;
    }
    const char *options = getenv("ASAN_OPTIONS");
    char *all = NULL; /* the leak checker does not work in a process that is traced */
    KIT_CHECK(asprintf(&all, "%s:detect_leaks=0", options ? options : "") > 0, "out of memory");
    (void)setenv("ASAN_OPTIONS", all, 1);
    free(all);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_each_fdatasync),
        cmocka_unit_test(test_killed_at_each_pwrite64),
        cmocka_unit_test(test_killed_at_each_write),
        cmocka_unit_test(test_killed_at_each_openat),
        cmocka_unit_test(test_killed_at_each_ftruncate),
        cmocka_unit_test(test_killed_at_each_unlink),
        cmocka_unit_test(test_killed_at_each_fcntl),
        cmocka_unit_test(test_killed_at_each_close),
        cmocka_unit_test(test_a_failed_fdatasync_is_an_unknown_outcome_and_ends_writing),
        cmocka_unit_test(test_a_disk_whose_syncs_all_fail),
        cmocka_unit_test(test_a_disk_that_is_full_once),
        cmocka_unit_test(test_a_disk_that_stays_full),
        cmocka_unit_test(test_a_failed_write_is_an_unknown_outcome_and_ends_writing),
    };
    return cmocka_run_group_tests_name("system calls", tests, NULL, NULL);
}
