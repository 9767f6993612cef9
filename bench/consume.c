/* Row 5 and those of the stores: a named consumer, end to end. The log holds the events; measured is
 * from registering the consumer at the first one until every event was delivered, handled and acked, and
 * the consumer's state is committed.
 *
 * --only publish ends when the events are in the log, --only consume finds them in the log of a server.
 */
#include "flight.h"

#include <pthread.h>
#include <string.h>

typedef struct work {
    pthread_mutex_t lock;
    pthread_cond_t done;
    long left;
    size_t bytes;
} work;

static hark_verdict on_event(hark_delivery *d, void *ud)
{
    work *w = ud;
    size_t len;
    hark_event_data(hark_delivery_event(d), &len);
    pthread_mutex_lock(&w->lock);
    w->bytes += len;
    if (--w->left == 0)
        pthread_cond_signal(&w->done);
    pthread_mutex_unlock(&w->lock);
    return HARK_ACK;
}

static void finish(hark_sub *s, long events)
{
    hark_sub_stats stats = {.size = sizeof(stats)};
    hark_sub_close(s);
    hark_err err = hark_sub_join(s, 60000);
    if (err != HARK_OK)
        bench_die("join: %s", hark_err_name(err));
    err = hark_sub_stats_get(s, &stats);
    if (err != HARK_OK || stats.acked != (uint64_t)events)
        bench_die("acked %llu of %ld", (unsigned long long)stats.acked, events);
}

static int end_of_publishing(hark_bus *bus)
{
    bench_out_begin("hark publish");
    bench_out_end();
    hark_bus_unref(bus);
    return 0;
}

int main(int argc, char **argv)
{
    long events = bench_number(argc, argv, "events", 300000);
    long workers = bench_number(argc, argv, "workers", 1);
    const char *only = bench_text(argc, argv, "only", "");
    flight_class(bench_text(argc, argv, "durability", "disk"));
    hark_bus *bus = flight_open(bench_text(argc, argv, "store", "sqlite:bench.db"));
    work w = {.lock = PTHREAD_MUTEX_INITIALIZER, .done = PTHREAD_COND_INITIALIZER, .left = events};
    hark_errinfo ei;
    hark_sub *s;
    if (strcmp(only, "consume") != 0)
        flight_publish(bus, events, 4096, NULL);
    if (strcmp(only, "publish") == 0)
        return end_of_publishing(bus);

    uint64_t commits = flight_commits(bus);
    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    const hark_sub_opts *opts =
        HARK_OPTS(hark_sub_opts, .consumer = bench_text(argc, argv, "consumer", "bench"),
                  .start = HARK_START_FIRST, .workers = (size_t)workers,
                  .window = (size_t)bench_number(argc, argv, "window", 0));
    if (hark_subscribe(bus, BENCH_TYPE, on_event, &w, opts, &s, &ei) != HARK_OK)
        bench_die("subscribe: %s", ei.text);
    pthread_mutex_lock(&w.lock);
    while (w.left > 0)
        pthread_cond_wait(&w.done, &w.lock);
    pthread_mutex_unlock(&w.lock);
    finish(s, events);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    commits = flight_commits(bus) - commits;

    bench_out_begin("hark consumer");
    bench_out_number("events", (double)events);
    bench_out_number("workers", (double)workers);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)events / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_number("group", commits ? (double)events / (double)commits : 0);
    bench_out_end();
    hark_sub_unref(s);
    hark_bus_unref(bus);
    return 0;
}
