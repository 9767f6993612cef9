/* Row 6: reads the whole log in order, page by page, and looks at every event. The database stays,
 * for the raw loop over the same rows.
 */
#include "flight.h"

static long read_all(hark_bus *bus, size_t limit, size_t *bytes)
{
    long events = 0;
    uint64_t after = 0, last = 0;
    do {
        hark_page *page;
        hark_errinfo ei;
        const hark_read_opts *opts = HARK_OPTS(hark_read_opts, .after = after, .limit = limit);
        if (hark_read(bus, opts, &page, &ei) != HARK_OK)
            bench_die("read: %s", ei.text);
        size_t n = hark_page_count(page);
        for (size_t i = 0; i < n; i++) {
            const hark_event *e = hark_page_event(page, i);
            size_t len;
            const char *data = hark_event_data(e, &len);
            if (hark_event_sequence(e) <= last || !data || data[0] != '{')
                bench_die("read: wrong event after %llu", (unsigned long long)last);
            last = hark_event_sequence(e);
            *bytes += len;
        }
        events += (long)n;
        after = hark_page_next(page);
        hark_page_free(page);
    } while (after);
    return events;
}

int main(int argc, char **argv)
{
    long events = bench_number(argc, argv, "events", 500000);
    long limit = bench_number(argc, argv, "limit", 0);
    hark_bus *bus = flight_open(bench_text(argc, argv, "store", "sqlite:bench.db"));
    flight_publish(bus, events, 4096, NULL);

    size_t bytes = 0;
    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    long found = read_all(bus, (size_t)limit, &bytes);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    if (found != events || bytes != (size_t)events * BENCH_BYTES)
        bench_die("read: %ld of %ld events", found, events);

    bench_out_begin("hark read");
    bench_out_number("events", (double)events);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)events / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_end();
    hark_bus_unref(bus);
    return 0;
}
