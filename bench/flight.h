/* flight: publishes asynchronously with a bounded number of events in flight. */
#ifndef BENCH_FLIGHT_H
#define BENCH_FLIGHT_H

#include "bench.h"

#include <hark/bus.h>

/* Opens a store of class `disk`, in a fresh file if the store is SQLite. */
hark_bus *flight_open(const char *url);

/* Publishes `events` events, at most `depth` without a receipt at any time, and waits for all
 * receipts. Each must be of class `disk` and no duplicate. `lat` (may be NULL) gets the time from
 * each publish to its receipt. */
void flight_publish(hark_bus *bus, long events, long depth, bench_lat *lat);

#endif
