/* Peer: Redis as a durable log: XADD, pipelined, so many at a time as hark has in flight. The
 * server is started by bench/run with `appendonly yes` and `appendfsync always`.
 */
#include "bench.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redisContext *connect_to(const char *socket)
{
    redisContext *c = redisConnectUnix(socket);
    if (!c || c->err)
        bench_die("redis: %s", c ? c->errstr : "out of memory");
    redisReply *r = redisCommand(c, "CONFIG GET appendfsync");
    if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        strcmp(r->element[1]->str, "always") != 0)
        bench_die("redis: appendfsync is not 'always'");
    freeReplyObject(r);
    return c;
}

static void append(redisContext *c, long i)
{
    char id[40], time[40];
    snprintf(id, sizeof(id), "018f0000-0000-7000-8000-%012lx", i);
    snprintf(time, sizeof(time), "%020lld", (long long)bench_ns());
    const char *argv[] = {"XADD", "log",      "*",    "id", id,     "source",    "/b",
                          "type", BENCH_TYPE, "time", time, "data", bench_data()};
    size_t len[sizeof(argv) / sizeof(argv[0])];
    int argc = sizeof(argv) / sizeof(argv[0]);
    for (int k = 0; k < argc; k++)
        len[k] = strlen(argv[k]);
    if (redisAppendCommandArgv(c, argc, argv, len) != REDIS_OK)
        bench_die("redis: %s", c->errstr);
}

static void take_reply(redisContext *c)
{
    void *reply;
    if (redisGetReply(c, &reply) != REDIS_OK)
        bench_die("redis: %s", c->errstr);
    redisReply *r = reply;
    if (r->type == REDIS_REPLY_ERROR)
        bench_die("redis: %s", r->str);
    freeReplyObject(r);
}

int main(int argc, char **argv)
{
    long events = bench_number(argc, argv, "events", 100000);
    long depth = bench_number(argc, argv, "depth", 64);
    long pid = bench_number(argc, argv, "pid", 0);
    redisContext *c = connect_to(bench_text(argc, argv, "socket", "redis.sock"));

    int64_t begin = bench_ns();
    double cpu = bench_cpu(), server = bench_cpu_of(pid);
    for (long done = 0; done < events;) {
        long n = events - done < depth ? events - done : depth;
        for (long i = 0; i < n; i++)
            append(c, done + i);
        for (long i = 0; i < n; i++)
            take_reply(c);
        done += n;
    }
    double seconds = (double)(bench_ns() - begin) / 1e9;
    double all_cpu = bench_cpu() - cpu + bench_cpu_of(pid) - server;
    freeReplyObject(redisCommand(c, "DEL log"));
    redisFree(c);

    bench_out_begin("redis XADD, appendfsync always");
    bench_out_number("events", (double)events);
    bench_out_number("depth", (double)depth);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)events / seconds);
    bench_out_number("cpu_seconds", all_cpu);
    bench_out_end();
    return 0;
}
