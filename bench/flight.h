/* flight: publishes asynchronously with a bounded number of events in flight. */
#ifndef BENCH_FLIGHT_H
#define BENCH_FLIGHT_H

#include "bench.h"

#include <hark/bus.h>
#include <hark/operate.h>

/* What --durability says: "memory", "os" or "disk", which is the default. What is published from now on is
 * to be of this class at least. */
void flight_class(const char *name);
/* Opens a store of that class, in a fresh file if the store is SQLite. */
hark_bus *flight_open(const char *url);
/* Groups that were committed; 0 where there are none. */
uint64_t flight_commits(hark_bus *bus);

/* One thing in flight. Whoever is told of its end calls flight_landed with the ticket. */
typedef struct flight_ticket flight_ticket;
typedef void (*flight_start)(hark_bus *bus, flight_ticket *t);
void flight_landed(flight_ticket *t, hark_err err, const hark_receipt *receipt);

/* Starts `n` things, at most `depth` of them in flight at any time, and waits for all. */
void flight_run(hark_bus *bus, flight_start start, long n, long depth, bench_lat *lat);

/* Publishes `events` events, at most `depth` without a receipt at any time, and waits for all
 * receipts. Each must be of the class that is wanted and no duplicate. `lat` (may be NULL) gets the time from
 * each publish to its receipt. */
void flight_publish(hark_bus *bus, long events, long depth, bench_lat *lat);

#endif
