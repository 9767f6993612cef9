/* bench: what the benchmark programs share. Options of the form --name value, clocks, CPU time,
 * a latency recorder, the event they all publish, and a result printed as one line of JSON.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_TYPE  "order:placed"
#define BENCH_BYTES 256

/* Ends the program with one line on stderr. */
_Noreturn void bench_die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Value of --name, or the default. Unknown options are not noticed; bench/run is the caller. */
const char *bench_text(int argc, char **argv, const char *name, const char *otherwise);
long bench_number(int argc, char **argv, const char *name, long otherwise);

int64_t bench_ns(void);        /* monotonic */
double bench_cpu(void);        /* seconds of CPU this process has used */
double bench_cpu_of(long pid); /* of another process and all its threads; -1 = not readable */
const char *bench_data(void);  /* JSON text of BENCH_BYTES bytes */
void bench_scratch(char *path, size_t size, const char *dir, const char *name);

/* ---- latencies --------------------------------------------------------------------------------
 */

typedef struct bench_lat {
    int64_t *ns;
    size_t n, cap;
} bench_lat;
void bench_lat_init(bench_lat *l, size_t cap);
void bench_lat_add(bench_lat *l, int64_t ns); /* beyond the capacity nothing is kept */
void bench_lat_free(bench_lat *l);

/* ---- the result -------------------------------------------------------------------------------
 */

/* Begin, add fields, end: {"name":"…","rate":…}. */
void bench_out_begin(const char *name);
void bench_out_number(const char *key, double value);
void bench_out_text(const char *key, const char *value);
/* Microseconds: p50_us p90_us p99_us p999_us max_us. Sorts the recorder. */
void bench_out_lat(bench_lat *l);
void bench_out_end(void);

#endif
