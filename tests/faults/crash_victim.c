/* A supervised consumer with 16 workers, one of whose orders in a thousand makes its handler crash.
 * Each handled order is appended to a file, before the ack. It says "ready PID" when a child has
 * subscribed and "done PID" when all is settled, and ends on SIGTERM.
 *     crash_victim URL FILE LAST_SEQUENCE */
#include "crash_work.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 16, LOOK_MS = 20 };

static const char *url;
static uint64_t last;
static int handled = -1;
static volatile uintptr_t nowhere;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

/* What an order takes, so that its neighbours are at work when one crashes. */
static void work_for(uint64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += (long)ms * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    pthread_mutex_lock(&lock);
    while (pthread_cond_timedwait(&never, &lock, &t) == 0)
        continue;
    pthread_mutex_unlock(&lock);
}

__attribute__((no_sanitize("undefined"))) static void crash(void)
{
    *(volatile char *)nowhere = 1;
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    size_t len;
    uint64_t n = strtoull(hark_event_data(hark_delivery_event(d), &len), NULL, 10);
    (void)ud;
    work_for(1 + n * 7919 % 40);
    if (crash_is_poison(n))
        crash();
    return write(handled, &n, sizeof n) == sizeof n ? HARK_ACK : HARK_RETRY;
}

static int fail(const char *text)
{
    (void)fprintf(stderr, "%s\n", text);
    return 3;
}

static void say(const char *what)
{
    (void)printf("%s %d\n", what, (int)getpid());
    (void)fflush(stdout);
}

static bool all_settled(hark_sub *sub)
{
    hark_sub_stats st = {.size = sizeof st};
    return hark_sub_stats_get(sub, &st) == HARK_OK && st.position >= last && !st.pending;
}

static void await_sigterm(hark_sub *sub, const sigset_t *term)
{
    const struct timespec look = {.tv_nsec = LOOK_MS * 1000000};
    bool done = false;
    while (sigtimedwait(term, NULL, &look) != SIGTERM) {
        if (done || !all_settled(sub))
            continue;
        done = true;
        say("done");
    }
}

static int child(void *ud)
{
    hark_bus *bus = NULL;
    hark_sub *sub = NULL;
    hark_errinfo ei;
    sigset_t term;
    (void)ud;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    sigprocmask(SIG_BLOCK, &term, NULL);
    if (hark_open(url, NULL, &bus, &ei) ||
        hark_subscribe(bus, CRASH_TYPE, handle, NULL,
                       HARK_OPTS(hark_sub_opts, .consumer = CRASH_CONSUMER, .workers = WORKERS,
                                 .start = HARK_START_FIRST, .retry_delay_ms = 10,
                                 .max_attempts = CRASH_ATTEMPTS),
                       &sub, &ei))
        return fail(ei.text);
    say("ready");
    await_sigterm(sub, &term);
    if (hark_drain(bus, 10000, &ei))
        return fail(ei.text);
    hark_sub_unref(sub);
    hark_bus_unref(bus);
    return 0;
}

int main(int argc, char **argv)
{
    int status = 0;
    hark_errinfo ei;
    if (argc != 4)
        return fail("usage: crash_victim URL FILE LAST_SEQUENCE");
    url = argv[1];
    last = strtoull(argv[3], NULL, 10);
    handled = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (handled < 0)
        return fail(strerror(errno));
    if (hark_supervise(HARK_OPTS(hark_supervise_opts, .stable_ms = 300, .backoff_ms = 20,
                                 .backoff_max_ms = 100),
                       child, NULL, &status, &ei))
        return fail(ei.text);
    return status;
}
