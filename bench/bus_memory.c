/* Rows 1 and 2: events with a fresh id and time and 256 bytes on `memory:`, from one publisher to
 * live subscribers, each on a thread of its own. Nothing is dropped: the publisher waits for a
 * subscriber whose ring is full.
 */
#include "bench.h"

#include <hark/bus.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct reader {
    _Alignas(64) uint64_t events; /* each reader's counters on a cache line of their own */
    size_t bytes;
    uint64_t expected;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool finished;
} reader;

static hark_verdict on_event(hark_delivery *d, void *ud)
{
    reader *r = ud;
    size_t len;
    const char *data = hark_event_data(hark_delivery_event(d), &len);
    if (data && data[0] == '{')
        r->bytes += len;
    if (++r->events == r->expected) {
        pthread_mutex_lock(&r->lock);
        r->finished = true;
        pthread_cond_signal(&r->done);
        pthread_mutex_unlock(&r->lock);
    }
    return HARK_ACK;
}

static hark_sub *subscribe(hark_bus *bus, reader *r, uint64_t expected, size_t ring)
{
    hark_sub *s;
    hark_errinfo ei;
    r->expected = expected;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->done, NULL);
    const hark_sub_opts *opts =
        HARK_OPTS(hark_sub_opts, .ring = ring, .overflow = HARK_OVERFLOW_WAIT);
    if (hark_subscribe(bus, BENCH_TYPE, on_event, r, opts, &s, &ei) != HARK_OK)
        bench_die("subscribe: %s", ei.text);
    return s;
}

static void wait_for(reader *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->finished)
        pthread_cond_wait(&r->done, &r->lock);
    pthread_mutex_unlock(&r->lock);
    if (r->bytes != r->expected * BENCH_BYTES)
        bench_die("bytes were lost");
}

static void publish_all(hark_bus *bus, long events)
{
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = BENCH_TYPE,
                                            .data = bench_data(), .data_len = BENCH_BYTES);
    for (long i = 0; i < events; i++) {
        hark_err err = hark_publish(bus, spec, NULL);
        if (err != HARK_OK)
            bench_die("publish: %s", hark_err_name(err));
    }
}

int main(int argc, char **argv)
{
    long events = bench_number(argc, argv, "events", 5000000);
    long n = bench_number(argc, argv, "subscribers", 1);
    long ring = bench_number(argc, argv, "ring", 0);
    hark_bus *bus;
    hark_errinfo ei;
    if (events < 1 || n < 1 || n > 1024 || ring < 0)
        bench_die("--events, --subscribers or --ring: out of range");
    if (hark_open("memory:", NULL, &bus, &ei) != HARK_OK)
        bench_die("open: %s", ei.text);
    reader *readers = aligned_alloc(64, (size_t)n * sizeof(*readers));
    hark_sub **subs = calloc((size_t)n, sizeof(*subs));
    if (!readers || !subs)
        bench_die("out of memory");
    for (long i = 0; i < n; i++) {
        readers[i] = (reader){0};
        subs[i] = subscribe(bus, &readers[i], (uint64_t)events, (size_t)ring);
    }

    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    publish_all(bus, events);
    for (long i = 0; i < n; i++)
        wait_for(&readers[i]);
    double seconds = (double)(bench_ns() - begin) / 1e9;

    bench_out_begin("hark memory:");
    bench_out_number("events", (double)events);
    bench_out_number("deliveries", (double)(events * n));
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)(events * n) / seconds);
    bench_out_number("cpu_seconds", bench_cpu() - cpu);
    bench_out_end();
    for (long i = 0; i < n; i++)
        hark_sub_unref(subs[i]);
    hark_bus_unref(bus);
    free(subs);
    free(readers);
    return 0;
}
