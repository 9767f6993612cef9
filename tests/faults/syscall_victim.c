/* A short life, to be ended or disturbed at each of its system calls: open a log, publish three
 * events, consume them, close. It says what each call returned, one line one write:
 *
 *     O error class             hark_open
 *     P i error class sequence  hark_publish of event i
 *     R read_only               after them
 *     D i                       a delivery of event i
 *     E                         the end
 *
 *   syscall_victim URL PATIENCE_MS
 */
#include "kit.h"
#include "syscall_work.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t came = PTHREAD_COND_INITIALIZER;
static int n_came;

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
    (void)ud;
    say("D %s\n", hark_event_id(hark_delivery_event(d)) + 2);
    pthread_mutex_lock(&lock);
    n_came++;
    pthread_cond_signal(&came);
    pthread_mutex_unlock(&lock);
    return HARK_ACK;
}

static void await(int n, int64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    pthread_mutex_lock(&lock);
    while (n_came < n && pthread_cond_timedwait(&came, &lock, &t) == 0)
        continue;
    pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
    hark_bus *bus = NULL;
    hark_bus_info info = {.size = sizeof info};
    int published = 0;
    if (argc != 3)
        return 64;
    hark_err err = hark_open(argv[1], NULL, &bus, NULL);
    say("O %d %d\n", (int)err, (int)hark_err_class(err));
    if (err)
        return 0;
    for (int i = 0; i < SYSCALL_EVENTS; i++) {
        hark_receipt r = {0};
        err = syscall_publish(bus, i, &r);
        say("P %d %d %d %llu\n", i, (int)err, (int)hark_err_class(err),
            (unsigned long long)r.sequence);
        published += !err;
    }
    if (!hark_bus_info_get(bus, &info))
        say("R %d\n", (int)info.read_only);
    if (!syscall_consume(bus, handle, NULL, NULL) && published)
        await(published, atoll(argv[2]));
    hark_err drained = hark_drain(bus, 5000, NULL);
    (void)drained;
    hark_bus_unref(bus);
    say("E\n");
    return 0;
}
