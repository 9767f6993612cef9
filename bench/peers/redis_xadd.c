/* Peer: Redis as a durable log, by hand.
 *
 *   redis_xadd --port P --depth 64               XADD, pipelined, so many at a time
 *   redis_xadd --port P --depth 64 --group 32    the same and SET NX of the id, in one script a group
 *   redis_xadd --port P --read STREAM --group 4096
 *                                                XRANGE in pages, and HSET once in so many events
 *
 * bench/run starts the server; --fsync is what its appendfsync has to be. The script's arguments are put
 * together while the one before is under way, so that the server never waits for them.
 */
#include "bench.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIELDS = 5 };

typedef struct peer {
    redisContext *c;
    long events, depth, group;
    const char *page;
    char sha[41];
} peer;

static const char script[] =
    "for i = 1, #ARGV, 5 do "
    "if redis.call('SET', KEYS[2] .. ARGV[i], 1, 'NX') then "
    "redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'source', ARGV[i + 1], 'type', ARGV[i + 2], "
    "'time', ARGV[i + 3], 'data', ARGV[i + 4]) end end return #ARGV / 5";

/* ---- the connection ---------------------------------------------------------------------------- */

static redisReply *take_reply(redisContext *c)
{
    void *reply;
    if (redisGetReply(c, &reply) != REDIS_OK)
        bench_die("redis: %s", c->errstr);
    redisReply *r = reply;
    if (r->type == REDIS_REPLY_ERROR)
        bench_die("redis: %s", r->str);
    return r;
}

static redisReply *ask(redisContext *c, int argc, const char **argv)
{
    if (redisAppendCommandArgv(c, argc, argv, NULL) != REDIS_OK)
        bench_die("redis: %s", c->errstr);
    return take_reply(c);
}

static redisContext *connect_to(int port, const char *fsync)
{
    redisContext *c = redisConnect("127.0.0.1", port);
    if (!c || c->err)
        bench_die("redis: %s", c ? c->errstr : "out of memory");
    redisReply *r = ask(c, 3, (const char *[]){"CONFIG", "GET", "appendfsync"});
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || strcmp(r->element[1]->str, fsync) != 0)
        bench_die("redis: appendfsync is not '%s'", fsync);
    freeReplyObject(r);
    return c;
}

/* ---- XADD, pipelined --------------------------------------------------------------------------- */

typedef struct fields {
    char id[40], time[40];
} fields;

static void name_event(fields *f, long i)
{
    snprintf(f->id, sizeof(f->id), "018f0000-0000-7000-8000-%012lx", i);
    snprintf(f->time, sizeof(f->time), "%020lld", (long long)bench_ns());
}

static void append(redisContext *c, long i)
{
    fields f;
    name_event(&f, i);
    const char *argv[] = {"XADD", "log",      "*",    "id",   f.id,   "source",    "/b",
                          "type", BENCH_TYPE, "time", f.time, "data", bench_data()};
    if (redisAppendCommandArgv(c, sizeof(argv) / sizeof(argv[0]), argv, NULL) != REDIS_OK)
        bench_die("redis: %s", c->errstr);
}

static void write_plain(const peer *p)
{
    for (long done = 0; done < p->events;) {
        long n = p->events - done < p->depth ? p->events - done : p->depth;
        for (long i = 0; i < n; i++)
            append(p->c, done + i);
        for (long i = 0; i < n; i++)
            freeReplyObject(take_reply(p->c));
        done += n;
    }
}

/* ---- XADD and SET NX, in a script -------------------------------------------------------------- */

static void load_script(peer *p)
{
    redisReply *r = ask(p->c, 3, (const char *[]){"SCRIPT", "LOAD", script});
    snprintf(p->sha, sizeof(p->sha), "%s", r->str);
    freeReplyObject(r);
}

/* The call for a group, as it goes over the wire. */
static int format_group(const peer *p, long from, long n, char **ret)
{
    const char **argv = calloc((size_t)(5 + FIELDS * n), sizeof(*argv));
    fields *f = calloc((size_t)n, sizeof(*f));
    if (!argv || !f)
        bench_die("out of memory");
    const char *head[] = {"EVALSHA", p->sha, "2", "{log}:s", "{log}:id:"};
    memcpy(argv, head, sizeof(head));
    for (long i = 0; i < n; i++) {
        name_event(&f[i], from + i);
        const char *one[FIELDS] = {f[i].id, "/b", BENCH_TYPE, f[i].time, bench_data()};
        memcpy(argv + 5 + FIELDS * i, one, sizeof(one));
    }
    int len = redisFormatCommandArgv(ret, (int)(5 + FIELDS * n), argv, NULL);
    if (len < 0)
        bench_die("out of memory");
    free(f);
    free(argv);
    return len;
}

static void end_group(const peer *p, long *done)
{
    redisReply *r = take_reply(p->c);
    if (r->type != REDIS_REPLY_INTEGER)
        bench_die("redis: the script does not answer with a number");
    *done += (long)r->integer;
    freeReplyObject(r);
}

/* As many groups are under way as the depth has room for, and the next one is ready. */
static void write_groups(const peer *p)
{
    for (long from = 0, done = 0; done < p->events;) {
        long n = p->events - from < p->group ? p->events - from : p->group;
        char *text = NULL;
        int len = n > 0 ? format_group(p, from, n, &text) : 0;
        while (from > done && (n == 0 || from + n - done > p->depth))
            end_group(p, &done);
        if (n > 0 && redisAppendFormattedCommand(p->c, text, (size_t)len) != REDIS_OK)
            bench_die("redis: %s", p->c->errstr);
        for (int sent = 0; n > 0 && !sent;)
            if (redisBufferWrite(p->c, &sent) != REDIS_OK)
                bench_die("redis: %s", p->c->errstr);
        redisFreeCommand(text);
        from += n;
    }
}

/* ---- reading ----------------------------------------------------------------------------------- */

/* The bytes are looked at, as a consumer does; *ret_last is the last entry's number. */
static long look_at(const redisReply *page, long *ret_last, size_t *bytes)
{
    for (size_t i = 0; i < page->elements; i++) {
        const redisReply *entry = page->element[i], *values = entry->element[1];
        for (size_t k = 0; k < values->elements; k++)
            *bytes += (size_t)values->element[k]->len;
        *ret_last = strtol(entry->element[0]->str, NULL, 10);
    }
    return (long)page->elements;
}

static void note_place(const peer *p, long last)
{
    char text[24];
    snprintf(text, sizeof(text), "%ld", last);
    freeReplyObject(ask(p->c, 4, (const char *[]){"HSET", "ledger", "floor", text}));
}

static void read_pages(const peer *p, const char *stream)
{
    size_t bytes = 0;
    char from[24];
    for (long seen = 0, noted = 0, last = 0; seen < p->events;) {
        snprintf(from, sizeof(from), "%ld", last + 1);
        redisReply *r =
            ask(p->c, 6, (const char *[]){"XRANGE", stream, from, "+", "COUNT", p->page});
        long n = look_at(r, &last, &bytes);
        freeReplyObject(r);
        if (n == 0)
            bench_die("redis: %ld of %ld entries in %s", seen, p->events, stream);
        seen += n;
        if (seen - noted >= p->group || seen >= p->events) {
            note_place(p, last);
            noted = seen;
        }
    }
    if (bytes < (size_t)p->events * BENCH_BYTES)
        bench_die("redis: entries of %zu bytes in all", bytes);
}

int main(int argc, char **argv)
{
    peer p = {.events = bench_number(argc, argv, "events", 100000),
              .depth = bench_number(argc, argv, "depth", 64),
              .group = bench_number(argc, argv, "group", 0),
              .page = bench_text(argc, argv, "page", "128")};
    const char *fsync = bench_text(argc, argv, "fsync", "always");
    const char *stream = bench_text(argc, argv, "read", NULL);
    p.c = connect_to((int)bench_number(argc, argv, "port", 6379), fsync);
    if (p.group > 0 && !stream)
        load_script(&p);

    int64_t begin = bench_ns();
    double cpu = bench_cpu();
    if (stream)
        read_pages(&p, stream);
    else if (p.group > 0)
        write_groups(&p);
    else
        write_plain(&p);
    double seconds = (double)(bench_ns() - begin) / 1e9;
    cpu = bench_cpu() - cpu;
    redisFree(p.c);

    bench_out_begin(stream ? "redis XRANGE" : p.group > 0 ? "redis script" : "redis XADD");
    bench_out_text("fsync", fsync);
    bench_out_number("events", (double)p.events);
    bench_out_number("depth", (double)p.depth);
    bench_out_number("group", (double)p.group);
    bench_out_number("seconds", seconds);
    bench_out_number("rate", (double)p.events / seconds);
    bench_out_number("cpu_seconds", cpu);
    bench_out_end();
    return 0;
}
