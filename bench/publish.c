/* Rows 3, 4 and those of the stores: publishing to a store of any kind. With --depth 1 one publisher
 * blocks on each receipt (row 4), else so many events are in flight. The log stays, for the peers that
 * take their rows from it; groups and bytes a commit are counted for the peers to use the same.
 */
#include "flight.h"
#include "iocount.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WARM_UP 200

static void publish_blocking(hark_bus *bus, long events, bench_lat *lat)
{
    const hark_event_spec *spec = HARK_OPTS(hark_event_spec, .type = BENCH_TYPE,
                                            .data = bench_data(), .data_len = BENCH_BYTES);
    for (long i = 0; i < events; i++) {
        int64_t start = bench_ns();
        hark_err err = hark_publish(bus, spec, NULL);
        if (err != HARK_OK)
            bench_die("publish: %s", hark_err_name(err));
        bench_lat_add(lat, bench_ns() - start);
    }
}

static void begin_result(const char *url)
{
    char name[32];
    snprintf(name, sizeof(name), "hark %.*s", (int)strcspn(url, ":") + 1, url);
    bench_out_begin(name);
}

int main(int argc, char **argv)
{
    long events = bench_number(argc, argv, "events", 200000);
    long depth = bench_number(argc, argv, "depth", 64);
    if (events < 1 || depth < 1)
        bench_die("--events and --depth: at least 1");
    const char *url = bench_text(argc, argv, "store", "sqlite:bench.db");
    flight_class(bench_text(argc, argv, "durability", "disk"));
    hark_bus *bus = flight_open(url);
    bench_lat lat;
    bench_lat_init(&lat, (size_t)events);
    flight_publish(bus, WARM_UP, 1, NULL);

    iocount io = iocount_now();
    uint64_t groups = flight_commits(bus);
    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    if (depth == 1)
        publish_blocking(bus, events, &lat);
    else
        flight_publish(bus, events, depth, &lat);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    iocount after = iocount_now();
    groups = flight_commits(bus) - groups;
    bool sqlite = strncmp(url, "sqlite:", 7) == 0; /* a commit's bytes go by its syncs */
    uint64_t commits = sqlite ? iocount_commits(io, after) : groups;

    begin_result(url);
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
