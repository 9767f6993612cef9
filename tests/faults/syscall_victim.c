/* A short life, to be ended or disturbed at each of its system calls: open a log, publish three
 * events and schedule one, consume them with a retry and a dead letter, redrive that, close. It says
 * what each call returned, one line one write:
 *
 *     O error class             hark_open
 *     P i error class sequence  hark_publish of event i
 *     R read_only               after them
 *     C error class             hark_schedule
 *     D i                       a delivery of event i
 *     L error class             hark_redrive
 *     E                         the end
 *
 *   syscall_victim URL PATIENCE_MS
 */
#include "kit.h"
#include "syscall_work.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static int n_came;
static bool redriven;
static hark_bus *bus;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *fmt, ...)
{
    char line[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    (void)!write(STDOUT_FILENO, line, (size_t)n);
}

static hark_verdict handle(hark_delivery *d, void *ud)
{
    int i = atoi(hark_event_id(hark_delivery_event(d)) + 2);
    (void)ud;
    say("D %d\n", i);
    pthread_mutex_lock(&lock);
    n_came++;
    bool mended = redriven;
    pthread_cond_signal(&came);
    pthread_mutex_unlock(&lock);
    if (i == 2 && !mended)
        return HARK_REJECT;
    return i == 1 && hark_delivery_attempt(d) == 1 ? HARK_RETRY : HARK_ACK;
}

static void await(int n, int64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000 + (t.tv_nsec + ms % 1000 * 1000000) / 1000000000;
    t.tv_nsec = (t.tv_nsec + ms % 1000 * 1000000) % 1000000000;
    pthread_mutex_lock(&lock);
    while (n_came < n && pthread_cond_timedwait(&came, &lock, &t) == 0)
        continue;
    pthread_mutex_unlock(&lock);
}

static bool take_letter(const hark_dead_letter *l, void *ud)
{
    *(uint64_t *)ud = l->id;
    return false;
}

static bool is_read_only(void)
{
    hark_bus_info info = {.size = sizeof info};
    return hark_bus_info_get(bus, &info) != HARK_OK || info.read_only;
}

/* A dead letter is there when it is committed, which is after the handler's answer. */
static uint64_t await_letter(int64_t ms)
{
    uint64_t id = 0;
    int64_t end = kit_ms() + ms;
    while (!id && kit_ms() < end && !is_read_only()) {
        if (hark_dead_letters(bus, NULL, take_letter, &id, NULL))
            break;
        (void)sched_yield();
    }
    return id;
}

static void redrive(int64_t ms)
{
    uint64_t id = await_letter(ms);
    if (!id)
        return;
    pthread_mutex_lock(&lock);
    redriven = true;
    int before = n_came;
    pthread_mutex_unlock(&lock);
    hark_err err = hark_redrive(bus, id, NULL);
    say("L %d %d\n", (int)err, (int)hark_err_class(err));
    if (!err && !is_read_only())
        await(before + 1, ms);
}

/* How many deliveries there will be before the redrive. */
static int publish_all(void)
{
    static const int deliveries[SYSCALL_EVENTS] = {1, 2, 1};
    int n = 0;
    for (int i = 0; i < SYSCALL_EVENTS; i++) {
        hark_receipt r = {0};
        hark_err err = syscall_publish(bus, i, &r);
        say("P %d %d %d %llu\n", i, (int)err, (int)hark_err_class(err),
            (unsigned long long)r.sequence);
        n += err ? 0 : deliveries[i];
    }
    hark_err err = syscall_schedule(bus);
    say("C %d %d\n", (int)err, (int)hark_err_class(err));
    return n + !err;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 64;
    int64_t patience = atoll(argv[2]);
    hark_err err = hark_open(argv[1], NULL, &bus, NULL);
    say("O %d %d\n", (int)err, (int)hark_err_class(err));
    if (err)
        return 0;
    int coming = publish_all();
    say("R %d\n", (int)is_read_only());
    if (!syscall_consume(bus, handle, NULL, NULL) && coming && !is_read_only()) {
        await(coming, patience);
        redrive(patience);
    }
    hark_err drained = hark_drain(bus, 5000, NULL);
    (void)drained;
    hark_bus_unref(bus);
    say("E\n");
    return 0;
}
