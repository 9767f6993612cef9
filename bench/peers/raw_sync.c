/* Peer: the floor under every durable write on this disk: write the bytes of one commit and
 * fdatasync, one after the other. The file is preallocated, written once and then overwritten, as
 * a write-ahead log is that has been reset; a file that grows would be slower.
 */
#include "bench.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES (16L << 20)

static int open_file(const char *dir, long chunk, char *data)
{
    char path[4096];
    bench_scratch(path, sizeof(path), dir, "raw");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        bench_die("%s: cannot open", path);
    unlink(path);
    memset(data, 'x', (size_t)chunk);
    for (long at = 0; at + chunk <= FILE_BYTES; at += chunk)
        if (pwrite(fd, data, (size_t)chunk, at) != chunk)
            bench_die("%s: cannot write", path);
    if (fsync(fd) != 0)
        bench_die("%s: cannot sync", path);
    return fd;
}

int main(int argc, char **argv)
{
    long writes = bench_number(argc, argv, "events", 2000);
    long chunk = bench_number(argc, argv, "bytes", 16384);
    if (chunk <= 0 || chunk > FILE_BYTES)
        bench_die("--bytes: between 1 and %ld", FILE_BYTES);
    char *data = malloc((size_t)chunk);
    if (!data)
        bench_die("out of memory");
    int fd = open_file(bench_text(argc, argv, "dir", "."), chunk, data);
    bench_lat lat;
    bench_lat_init(&lat, (size_t)writes);

    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    long at = 0;
    for (long i = 0; i < writes; i++) {
        int64_t start = bench_ns();
        if (pwrite(fd, data, (size_t)chunk, at) != chunk || fdatasync(fd) != 0)
            bench_die("cannot write");
        bench_lat_add(&lat, bench_ns() - start);
        at = at + 2 * chunk <= FILE_BYTES ? at + chunk : 0;
    }
    double seconds = (double)(bench_ns() - begin) / 1e9;

    bench_out_begin("raw write + fdatasync");
    bench_out_number("events", (double)writes);
    bench_out_number("bytes", (double)chunk);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)writes / seconds);
    bench_out_number("cpu_seconds", bench_cpu() - cpu);
    bench_out_lat(&lat);
    bench_out_end();
    bench_lat_free(&lat);
    free(data);
    close(fd);
    return 0;
}
