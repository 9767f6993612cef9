/* Transactions of one row and one event on SQLite, class disk, beside row 3 of plain publishes. */
#include "flight.h"
#include "iocount.h"

#include <hark/tx.h>

static hark_err create(hark_tx *tx, void *ud)
{
    (void)ud;
    return hark_tx_exec(tx,
                        "CREATE TABLE orders(id INTEGER PRIMARY KEY, customer TEXT NOT NULL, "
                        "total INTEGER NOT NULL)",
                        HARK_NO_ARGS);
}

static hark_err order(hark_tx *tx, void *ud)
{
    (void)ud;
    hark_err err = hark_tx_exec(tx, "INSERT INTO orders(customer, total) VALUES(?, ?)",
                                HARK_ARGS(hark_text("user123"), hark_int(4999)));
    if (err)
        return err;
    return hark_tx_publish(tx,
                           HARK_OPTS(hark_event_spec, .type = BENCH_TYPE, .data = bench_data(),
                                     .data_len = BENCH_BYTES),
                           NULL);
}

static void on_done(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    if (err)
        bench_die("transact: %s", ei->text);
    flight_landed(ud, err, last);
}

static void start(hark_bus *bus, flight_ticket *t)
{
    hark_errinfo ei;
    if (hark_transact_async(bus, order, on_done, t, NULL, &ei) != HARK_OK)
        bench_die("transact: %s", ei.text);
}

int main(int argc, char **argv)
{
    long events = bench_number(argc, argv, "events", 100000);
    long depth = bench_number(argc, argv, "depth", 64);
    if (events < 1 || depth < 1)
        bench_die("--events and --depth: at least 1");
    hark_bus *bus = flight_open(bench_text(argc, argv, "store", "sqlite:bench.db"));
    hark_errinfo ei;
    if (hark_transact(bus, create, NULL, NULL, NULL, &ei) != HARK_OK)
        bench_die("create: %s", ei.text);
    bench_lat lat;
    bench_lat_init(&lat, (size_t)events);

    iocount io = iocount_now();
    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    flight_run(bus, start, events, depth, &lat);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    uint64_t commits = iocount_commits(io, iocount_now());

    bench_out_begin("hark_transact sqlite:");
    bench_out_number("events", (double)events);
    bench_out_number("depth", (double)depth);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)events / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_number("group", commits ? (double)events / (double)commits : 0);
    bench_out_lat(&lat);
    bench_out_end();
    hark_bus_unref(bus);
    bench_lat_free(&lat);
    return 0;
}
