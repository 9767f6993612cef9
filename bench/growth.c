/* Row 12: what an event costs when the log has grown, or when there are many consumers. The log is
 * filled with --stored events first (a file that has them already is used again), then --events
 * events are published and each is handled and acked by one of --consumers consumers: in turn by the
 * first --active of them, the others have nothing to do.
 */
#include "flight.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { DEPTH = 1024 };

typedef struct progress {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    atomic_long published, handled;
    atomic_int waiting;
} progress;

/* Opens the store and brings it to `stored` events. */
static hark_bus *open_filled(const char *url, long stored)
{
    hark_bus *bus;
    hark_errinfo ei;
    hark_bus_info info = {.size = sizeof(info)};
    if (hark_open(url, NULL, &bus, &ei) != HARK_OK)
        bench_die("open %s: %s", url, ei.text);
    if (hark_bus_info_get(bus, &info) != HARK_OK)
        bench_die("no facts about the bus");
    long there = (long)info.last_sequence;
    for (long left = stored - there; left > 0; left -= 100000)
        flight_publish(bus, left < 100000 ? left : 100000, 4096, NULL);
    return bus;
}

static void wake(progress *p)
{
    if (!atomic_load(&p->waiting))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->moved);
    pthread_mutex_unlock(&p->lock);
}

static void wait_for(progress *p, atomic_long *count, long least)
{
    if (atomic_load(count) >= least)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->waiting, 1);
    while (atomic_load(count) < least)
        pthread_cond_wait(&p->moved, &p->lock);
    atomic_store(&p->waiting, 0);
    pthread_mutex_unlock(&p->lock);
}

static hark_verdict on_event(hark_delivery *d, void *ud)
{
    progress *p = ud;
    (void)d;
    atomic_fetch_add(&p->handled, 1);
    wake(p);
    return HARK_ACK;
}

static void on_receipt(hark_err err, const hark_receipt *receipt, void *ud)
{
    progress *p = ud;
    (void)receipt;
    if (err != HARK_OK)
        bench_die("receipt: %s", hark_err_name(err));
    atomic_fetch_add(&p->published, 1);
    wake(p);
}

static void type_of(long consumer, char type[32])
{
    (void)snprintf(type, 32, "growth:%ld", consumer);
}

static hark_sub *subscribe(hark_bus *bus, long i, progress *p)
{
    char type[32], name[32];
    hark_sub *s;
    hark_errinfo ei;
    type_of(i, type);
    (void)snprintf(name, sizeof(name), "consumer%ld", i);
    if (hark_subscribe(bus, type, on_event, p, HARK_OPTS(hark_sub_opts, .consumer = name), &s,
                       &ei) != HARK_OK)
        bench_die("subscribe: %s", ei.text);
    return s;
}

static void publish(hark_bus *bus, long events, long consumers, progress *p)
{
    char type[32];
    for (long i = 0; i < events; i++) {
        wait_for(p, &p->published, i - DEPTH + 1);
        type_of(i % consumers, type);
        hark_err err = hark_publish_async(
            bus,
            HARK_OPTS(hark_event_spec, .type = type, .data = bench_data(), .data_len = BENCH_BYTES),
            on_receipt, p);
        if (err != HARK_OK)
            bench_die("publish: %s", hark_err_name(err));
    }
    wait_for(p, &p->handled, events);
}

int main(int argc, char **argv)
{
    long stored = bench_number(argc, argv, "stored", 1000);
    long events = bench_number(argc, argv, "events", 50000);
    long consumers = bench_number(argc, argv, "consumers", 1);
    long active = bench_number(argc, argv, "active", consumers);
    hark_bus *bus = open_filled(bench_text(argc, argv, "store", "sqlite:growth.db"), stored);
    progress p = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
    hark_sub **subs = calloc((size_t)consumers, sizeof(*subs));
    if (!subs)
        bench_die("out of memory");
    for (long i = 0; i < consumers; i++)
        subs[i] = subscribe(bus, i, &p);
    publish(bus, active * 2, active, &p);
    atomic_store(&p.handled, 0);
    atomic_store(&p.published, 0);

    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    publish(bus, events, active, &p);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;

    bench_out_begin("hark growth");
    bench_out_number("stored", (double)stored);
    bench_out_number("consumers", (double)consumers);
    bench_out_number("events", (double)events);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)events / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_number("cpu_us_per_event", cpu * 1e6 / (double)events);
    bench_out_end();
    for (long i = 0; i < consumers; i++)
        hark_sub_unref(subs[i]);
    hark_bus_unref(bus);
    free(subs);
    return 0;
}
