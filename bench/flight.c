/* flight: see flight.h. The publisher sleeps only when `depth` events are in flight, and is woken
 * once a quarter of them has landed.
 */
#include "flight.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct flight {
    pthread_mutex_t lock;
    pthread_cond_t landed;
    long done;
    long wanted; /* the publisher sleeps until so many are done; 0 = it does not sleep */
} flight;

/* What memory: keeps, so that a consumer finds all that was published before it. */
enum { ALL_EVENTS = 1 << 20, ALL_BYTES = 1 << 30 };

static hark_durability least = HARK_DISK;

struct flight_ticket {
    flight *f;
    int64_t start;
    int64_t took;
};

void flight_class(const char *name)
{
    static const char *const names[] = {"memory", "os", "disk"};
    static const hark_durability classes[] = {HARK_MEMORY, HARK_OS, HARK_DISK};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0) {
            least = classes[i];
            return;
        }
    bench_die("--durability: '%s' is none of memory, os, disk", name);
}

hark_bus *flight_open(const char *url)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-inflight"};
    bool memory = strncmp(url, "memory:", 7) == 0;
    hark_bus *bus;
    hark_errinfo ei;
    if (strncmp(url, "sqlite:", 7) == 0)
        for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
            char path[4096];
            snprintf(path, sizeof(path), "%s%s", url + 7, suffixes[i]);
            unlink(path);
        }
    const hark_bus_opts *opts =
        HARK_OPTS(hark_bus_opts, .min_durability = least, .tail_events = memory ? ALL_EVENTS : 0,
                  .tail_bytes = memory ? ALL_BYTES : 0);
    if (hark_open(url, opts, &bus, &ei) != HARK_OK)
        bench_die("open %s: %s", url, ei.text);
    return bus;
}

uint64_t flight_commits(hark_bus *bus)
{
    hark_stats stats = {.size = sizeof(stats)};
    hark_err err = hark_stats_get(bus, &stats);
    if (err != HARK_OK)
        bench_die("stats: %s", hark_err_name(err));
    return stats.commits;
}

void flight_landed(flight_ticket *t, hark_err err, const hark_receipt *receipt)
{
    flight *f = t->f;
    if (err != HARK_OK)
        bench_die("receipt: %s", hark_err_name(err));
    if (receipt->durability < least || receipt->duplicate)
        bench_die("receipt: durability %d, duplicate %d", (int)receipt->durability,
                  (int)receipt->duplicate);
    t->took = bench_ns() - t->start;
    pthread_mutex_lock(&f->lock);
    f->done++;
    bool wake = f->wanted && f->done >= f->wanted;
    if (wake)
        f->wanted = 0;
    pthread_mutex_unlock(&f->lock);
    if (wake)
        pthread_cond_signal(&f->landed);
}

static void wait_until_done(flight *f, long done)
{
    pthread_mutex_lock(&f->lock);
    while (f->done < done) {
        f->wanted = done;
        pthread_cond_wait(&f->landed, &f->lock);
    }
    f->wanted = 0;
    pthread_mutex_unlock(&f->lock);
}

void flight_run(hark_bus *bus, flight_start start, long events, long depth, bench_lat *lat)
{
    flight f = {.lock = PTHREAD_MUTEX_INITIALIZER, .landed = PTHREAD_COND_INITIALIZER};
    flight_ticket *tickets = malloc((size_t)events * sizeof(*tickets));
    if (!tickets)
        bench_die("out of memory");
    long known_done = 0; /* looked up only when the known count does not do */
    for (long i = 0; i < events; i++) {
        if (i - known_done >= depth) {
            wait_until_done(&f, i - depth + 1 + depth / 4);
            pthread_mutex_lock(&f.lock);
            known_done = f.done;
            pthread_mutex_unlock(&f.lock);
        }
        tickets[i] = (flight_ticket){.f = &f, .start = bench_ns()};
        start(bus, &tickets[i]);
    }
    wait_until_done(&f, events);
    if (lat)
        for (long i = 0; i < events; i++)
            bench_lat_add(lat, tickets[i].took);
    free(tickets);
}

static void on_receipt(hark_err err, const hark_receipt *receipt, void *ud)
{
    flight_landed(ud, err, receipt);
}

static void start_publish(hark_bus *bus, flight_ticket *t)
{
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = BENCH_TYPE, .data = bench_data(),
                  .data_len = BENCH_BYTES, .min_durability = least);
    hark_err err = hark_publish_async(bus, spec, on_receipt, t);
    if (err != HARK_OK)
        bench_die("publish: %s", hark_err_name(err));
}

void flight_publish(hark_bus *bus, long events, long depth, bench_lat *lat)
{
    flight_run(bus, start_publish, events, depth, lat);
}
