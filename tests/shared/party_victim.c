/* A process of a crew (crew.h): it opens the log, consumes, and writes what it handles to the end of a file,
 * until it is told to end (SIGTERM: it drains) or is killed.
 *
 *   party_victim URL FILE CONSUMER PATTERN WHO [NAME=VALUE...]
 *
 * An event's key is "k<number>", its data its number in the key. Names: workers, work_us (of each event),
 * lease_ms (0 = default), retry_every and echo_every (numbers that these divide are retried once, and
 * publish an event of type "echo"; 0 = none), pull (not 0: hark_next instead of a handler). What is
 * in hand while the process stands still (SIGSTOP) is rejected when it goes on: if that still counted,
 * there would be a dead letter. A handler does so at once; who pulls, when the lease is known to be
 * over, so that the answer must be HARK_ESTALE. */
#include "crew.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS_MAX = 64, DRAIN_MS = 20000, HOLD_MS = 60000 };

static hark_bus *bus;
static hark_sub *sub;
static int file;
static uint32_t who;
static crew_how how = {.workers = 4};
static _Atomic int continued; /* counted by a handler of signals, on any thread */

/* ---- what it says ------------------------------------------------------------------------------ */

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
    char line[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    line[n++] = '\n';
    KIT_CHECK(write(file, line, (size_t)n) == n, "cannot write: %s", strerror(errno));
}

static long long now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- the work ---------------------------------------------------------------------------------- */

/* Takes so long, and no processor: a wait for what never comes. */
static void pause_us(unsigned us)
{
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_condattr_t monotonic;
    pthread_cond_t never;
    struct timespec end;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&never, &monotonic);
    clock_gettime(CLOCK_MONOTONIC, &end);
    long ns = end.tv_nsec + (long)us * 1000;
    end.tv_sec += ns / 1000000000;
    end.tv_nsec = ns % 1000000000;
    pthread_mutex_lock(&lock);
    while (pthread_cond_timedwait(&never, &lock, &end) == 0)
        continue;
    pthread_mutex_unlock(&lock);
    pthread_cond_destroy(&never);
    pthread_condattr_destroy(&monotonic);
}

typedef struct step {
    unsigned key, n;
} step;

static step step_of(const hark_delivery *d)
{
    const hark_event *e = hark_delivery_event(d);
    char text[16] = "";
    size_t len;
    const void *data = hark_event_data(e, &len);
    KIT_CHECK(hark_event_key(e) && data && len < sizeof text, "a strange event %s",
              hark_event_id(e));
    memcpy(text, data, len);
    return (step){(unsigned)strtoul(hark_event_key(e) + 1, NULL, 10),
                  (unsigned)strtoul(text, NULL, 10)};
}

/* Without the log it comes again. */
static bool echo(hark_delivery *d)
{
    hark_err err =
        hark_delivery_publish(d, HARK_OPTS(hark_event_spec, .type = CREW_ECHO, .json = "{}"), NULL);
    if (err)
        hark_delivery_explain(d, "echo: %s", hark_err_name(err));
    return err == HARK_OK;
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    int before = continued;
    int64_t attempt = hark_delivery_attempt(d);
    step s = step_of(d);
    (void)ud;
    say("H %u %d %u %u %llu %lld %lld", who, (int)getpid(), s.key, s.n,
        (unsigned long long)hark_delivery_sequence(d), (long long)attempt, now_us());
    if (how.work_us)
        pause_us(how.work_us);
    hark_verdict v = HARK_ACK;
    if (continued != before)
        v = HARK_REJECT;
    else if (how.retry_every && s.n % how.retry_every == 0 && attempt == 1)
        v = HARK_RETRY;
    else if (how.echo_every && s.n % how.echo_every == 0 && !echo(d))
        v = HARK_RETRY;
    say("%c %u %u %u", v == HARK_ACK ? 'A' : v == HARK_RETRY ? 'R' : 'X', who, s.key, s.n);
    return v;
}

/* The process stood still for longer than its lease; it learns of it by its next sign of life. */
static void await_loss(hark_delivery *d)
{
    int64_t end = kit_ms() + KIT_HUNG_MS / 4;
    while (hark_delivery_extend(d, HOLD_MS) != HARK_ESTALE) {
        KIT_CHECK(kit_ms() < end, "a delivery of a lost share can be extended");
        pause_us(1000);
    }
}

static void settle(hark_delivery *d)
{
    int before = continued;
    step s = step_of(d);
    int64_t verdict = (int64_t)handle(d, NULL);
    bool stood_still = continued != before;
    if (stood_still)
        await_loss(d);
    hark_err err = hark_settle(&d, HARK_OPTS(hark_settle_opts, .verdict = verdict));
    if (err == HARK_ESTALE)
        say("S %u %u %u", who, s.key, s.n);
    else
        KIT_CHECK(!stood_still && (err == HARK_OK || err == HARK_ECLOSED), "hark_settle%s: %s",
                  stood_still ? " of what another process has now" : "", hark_err_name(err));
}

static void *pull(void *arg)
{
    hark_delivery *d;
    hark_err err;
    while ((err = hark_next(sub, -1, &d)) == HARK_OK)
        settle(d);
    KIT_CHECK(err == HARK_ECLOSED, "hark_next: %s", hark_err_name(err));
    return arg;
}

/* ---- its life ---------------------------------------------------------------------------------- */

static void take_argument(const char *arg)
{
    unsigned pull_style = 0;
    const struct {
        const char *name;
        unsigned *to;
    } known[] = {{"workers=%u", &how.workers},       {"work_us=%u", &how.work_us},
                 {"lease_ms=%u", &how.lease_ms},     {"retry_every=%u", &how.retry_every},
                 {"echo_every=%u", &how.echo_every}, {"pull=%u", &pull_style}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t len = strlen(known[i].name) - 2;
        if (strncmp(arg, known[i].name, len) != 0)
            continue;
        *known[i].to = (unsigned)strtoul(arg + len, NULL, 10);
        how.pull |= pull_style != 0;
        return;
    }
    kit_fail("an unknown argument: %s", arg);
}

static void count_it(int sig)
{
    (void)sig;
    continued++;
}

static void subscribe(const char *consumer, const char *pattern)
{
    hark_errinfo ei;
    const hark_sub_opts o = {.size = sizeof o,
                             .consumer = consumer,
                             .start = HARK_START_FIRST,
                             .workers = how.workers,
                             .in_flight = how.workers,
                             .hold_ms = -1,
                             .retry_delay_ms = 10,
                             .retry_max_ms = 100,
                             .max_attempts = -1,
                             .max_interruptions = 1000000};
    if (hark_subscribe(bus, pattern, how.pull ? NULL : handle, NULL, &o, &sub, &ei))
        kit_fail("hark_subscribe: %s", ei.text);
}

static void live(const char *url, const char *consumer, const char *pattern, const sigset_t *end)
{
    pthread_t puller[WORKERS_MAX];
    hark_errinfo ei;
    int sig;
    if (hark_open(url, HARK_OPTS(hark_bus_opts, .lease_ms = how.lease_ms), &bus, &ei))
        kit_fail("hark_open: %s", ei.text);
    subscribe(consumer, pattern);
    for (unsigned i = 0; how.pull && i < how.workers; i++)
        KIT_CHECK(pthread_create(&puller[i], NULL, pull, NULL) == 0, "no thread");
    KIT_CHECK(write(STDOUT_FILENO, "up\n", 3) == 3, "nobody listens");
    (void)sigwait(end, &sig);
    if (hark_drain(bus, DRAIN_MS, &ei))
        kit_fail("hark_drain: %s", ei.text);
    for (unsigned i = 0; how.pull && i < how.workers; i++)
        pthread_join(puller[i], NULL);
    hark_sub_unref(sub);
    hark_bus_unref(bus);
}

int main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = count_it, .sa_flags = SA_RESTART};
    sigset_t end;
    KIT_CHECK(argc >= 6, "usage: party_victim URL FILE CONSUMER PATTERN WHO [NAME=VALUE...]");
    who = (uint32_t)strtoul(argv[5], NULL, 10);
    for (int i = 6; i < argc; i++)
        take_argument(argv[i]);
    KIT_CHECK(how.workers && how.workers <= WORKERS_MAX, "workers=%u", how.workers);
    file = open(argv[2], O_WRONLY | O_APPEND | O_CLOEXEC);
    KIT_CHECK(file >= 0, "cannot open %s: %s", argv[2], strerror(errno));
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    sigaction(SIGCONT, &sa, NULL);
    live(argv[1], argv[3], argv[4], &end);
    return 0;
}
