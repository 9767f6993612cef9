/* Keys that fail for longer than the run beside keys that do not. --bad keys get --backlog events
 * in all; with --failing 1 each attempt at one of them asks for a retry in an hour, with 0 it is
 * acked like the others. Measured is how fast the others are handled.
 */
#include "flight.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

enum { BATCH = 1000 };

typedef struct work {
    pthread_mutex_t lock;
    pthread_cond_t done;
    atomic_long left; /* of the good ones */
    bool failing;
} work;

static hark_verdict on_event(hark_delivery *d, void *ud)
{
    work *w = ud;
    const char *key = hark_event_subject(hark_delivery_event(d));
    if (key[0] == 'b') {
        if (!w->failing)
            return HARK_ACK;
        hark_delivery_retry_after(d, 3600000);
        return HARK_RETRY;
    }
    if (atomic_fetch_sub(&w->left, 1) == 1) {
        pthread_mutex_lock(&w->lock);
        pthread_cond_signal(&w->done);
        pthread_mutex_unlock(&w->lock);
    }
    return HARK_ACK;
}

/* Good and bad ones mixed: every so many good ones a bad one. */
static void fill(hark_bus *bus, long keys, long bad, long good_events, long backlog)
{
    char text[BATCH][32];
    hark_event_spec specs[BATCH];
    const hark_event_spec *list[BATCH];
    long total = good_events + backlog, n_bad = 0;
    for (long i = 0; i < total;) {
        size_t n = 0;
        for (; n < BATCH && i < total; n++, i++) {
            bool is_bad = n_bad * total < i * backlog;
            long number = is_bad ? n_bad++ % bad : i % (keys - bad);
            (void)snprintf(text[n], sizeof(text[n]), "%s%ld", is_bad ? "bad" : "good", number);
            specs[n] = (hark_event_spec){.size = sizeof(specs[n]),
                                         .type = BENCH_TYPE,
                                         .subject = text[n],
                                         .data = bench_data(),
                                         .data_len = BENCH_BYTES};
            list[n] = &specs[n];
        }
        hark_errinfo ei;
        if (hark_publish_batch(bus, list, n, NULL, &ei) != HARK_OK)
            bench_die("publish: %s", ei.text);
    }
}

int main(int argc, char **argv)
{
    long keys = bench_number(argc, argv, "keys", 100000), bad = keys / 100;
    long events = bench_number(argc, argv, "events", 500000);
    long window = bench_number(argc, argv, "window", 1024);
    long backlog = bench_number(argc, argv, "backlog", 10 * window);
    hark_bus *bus = flight_open(bench_text(argc, argv, "store", "sqlite:bench.db"));
    work w = {.lock = PTHREAD_MUTEX_INITIALIZER,
              .done = PTHREAD_COND_INITIALIZER,
              .failing = bench_number(argc, argv, "failing", 0) != 0};
    hark_errinfo ei;
    hark_sub *s;
    atomic_store(&w.left, events);
    fill(bus, keys, bad, events, backlog);

    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    const hark_sub_opts *opts = HARK_OPTS(
        hark_sub_opts, .consumer = "bench", .start = HARK_START_FIRST, .window = (size_t)window,
        .workers = (size_t)bench_number(argc, argv, "workers", 2));
    if (hark_subscribe(bus, BENCH_TYPE, on_event, &w, opts, &s, &ei) != HARK_OK)
        bench_die("subscribe: %s", ei.text);
    pthread_mutex_lock(&w.lock);
    while (atomic_load(&w.left) > 0)
        pthread_cond_wait(&w.done, &w.lock);
    pthread_mutex_unlock(&w.lock);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;

    bench_out_begin("hark lanes");
    bench_out_number("failing", w.failing);
    bench_out_number("events", (double)events);
    bench_out_number("backlog", (double)backlog);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)events / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_end();
    hark_sub_unref(s);
    hark_bus_unref(bus);
    return 0;
}
