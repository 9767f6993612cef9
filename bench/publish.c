/* Rows 3 and 4: durable publishing on SQLite. With --depth 1 one publisher blocks on each receipt
 * (row 4), else so many events are in flight (row 3). The database stays, for the raw loop over
 * the same rows; groups and bytes a commit are counted for the peers to use the same.
 */
#include "flight.h"
#include "iocount.h"

#include <stdlib.h>

#define WARM_UP 200

static void publish_blocking(hark_bus *bus, long events, bench_lat *lat)
{
    const hark_event_spec *spec =
        HARK_OPTS(hark_event_spec, .type = BENCH_TYPE, .data = bench_data(),
                  .data_len = BENCH_BYTES, .min_durability = HARK_DISK);
    for (long i = 0; i < events; i++) {
        int64_t start = bench_ns();
        hark_err err = hark_publish(bus, spec, NULL);
        if (err != HARK_OK)
            bench_die("publish: %s", hark_err_name(err));
        bench_lat_add(lat, bench_ns() - start);
    }
}

int main(int argc, char **argv)
{
    long events = bench_number(argc, argv, "events", 200000);
    long depth = bench_number(argc, argv, "depth", 64);
    if (events < 1 || depth < 1)
        bench_die("--events and --depth: at least 1");
    hark_bus *bus = flight_open(bench_text(argc, argv, "store", "sqlite:bench.db"));
    bench_lat lat;
    bench_lat_init(&lat, (size_t)events);
    flight_publish(bus, WARM_UP, 1, NULL);

    iocount io = iocount_now();
    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    if (depth == 1)
        publish_blocking(bus, events, &lat);
    else
        flight_publish(bus, events, depth, &lat);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    iocount after = iocount_now();
    uint64_t commits = iocount_commits(io, after);

    bench_out_begin("hark sqlite:");
    bench_out_number("events", (double)events);
    bench_out_number("depth", (double)depth);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)events / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_number("commits", (double)commits);
    bench_out_number("group", commits ? (double)events / (double)commits : 0);
    bench_out_number("bytes_per_commit",
                     commits ? (double)(after.wal_bytes - io.wal_bytes) / (double)commits : 0);
    bench_out_number("syncs", (double)(after.syncs - io.syncs));
    bench_out_lat(&lat);
    bench_out_end();
    hark_bus_unref(bus);
    bench_lat_free(&lat);
    return 0;
}
