/* bench: see bench.h. */
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void bench_die(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

const char *bench_text(int argc, char **argv, const char *name, const char *otherwise)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0)
            return argv[i + 1];
    return otherwise;
}

long bench_number(int argc, char **argv, const char *name, long otherwise)
{
    const char *text = bench_text(argc, argv, name, NULL);
    if (!text)
        return otherwise;
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno || *end || end == text)
        bench_die("--%s: '%s' is not a number", name, text);
    return value;
}

int64_t bench_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

double bench_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return seconds(u.ru_utime) + seconds(u.ru_stime);
}

double bench_cpu_of(long pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *p = strrchr(text, ')'); /* the name may hold anything */
    unsigned long utime, stime;
    if (!p ||
        sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &utime, &stime) != 2)
        return -1;
    return (double)(utime + stime) / (double)sysconf(_SC_CLK_TCK);
}

const char *bench_data(void)
{
    static char data[BENCH_BYTES + 1];
    if (!data[0]) {
        const char head[] = "{\"user_id\":\"u123\",\"total\":21.98,\"note\":\"";
        memset(data, 'x', BENCH_BYTES);
        memcpy(data, head, sizeof(head) - 1);
        memcpy(data + BENCH_BYTES - 2, "\"}", 2);
    }
    return data;
}

void bench_scratch(char *path, size_t size, const char *dir, const char *name)
{
    if ((size_t)snprintf(path, size, "%s/%s", dir, name) >= size)
        bench_die("--dir: too long");
}

/* ---- latencies --------------------------------------------------------------------------------
 */

void bench_lat_init(bench_lat *l, size_t cap)
{
    l->ns = calloc(cap ? cap : 1, sizeof(*l->ns));
    if (!l->ns)
        bench_die("out of memory");
    memset(l->ns, 0, cap * sizeof(*l->ns)); /* page faults belong to no measurement */
    l->n = 0;
    l->cap = cap;
}

void bench_lat_add(bench_lat *l, int64_t ns)
{
    if (l->n < l->cap)
        l->ns[l->n++] = ns;
}

void bench_lat_free(bench_lat *l)
{
    free(l->ns);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_us(const bench_lat *l, double q)
{
    if (l->n == 0)
        return 0;
    size_t i = (size_t)(q * (double)l->n);
    return (double)l->ns[i < l->n ? i : l->n - 1] / 1e3;
}

/* ---- the result -------------------------------------------------------------------------------
 */

void bench_out_begin(const char *name)
{
    printf("{\"name\":\"%s\"", name);
}
void bench_out_number(const char *key, double value)
{
    printf(",\"%s\":%.9g", key, value);
}
void bench_out_text(const char *key, const char *value)
{
    printf(",\"%s\":\"%s\"", key, value);
}

void bench_out_lat(bench_lat *l)
{
    qsort(l->ns, l->n, sizeof(*l->ns), by_value);
    bench_out_number("p50_us", quantile_us(l, 0.50));
    bench_out_number("p90_us", quantile_us(l, 0.90));
    bench_out_number("p99_us", quantile_us(l, 0.99));
    bench_out_number("p999_us", quantile_us(l, 0.999));
    bench_out_number("max_us", quantile_us(l, 1));
}

void bench_out_end(void)
{
    puts("}");
    fflush(stdout);
}
