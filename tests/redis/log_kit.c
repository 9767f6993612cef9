/* The kit of the tests of the store redis:. */
#include "log_kit.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

server *redis;

int logs_main(const char *subject, const struct CMUnitTest *tests, size_t n)
{
    (void)setenv("HARK_LOG", "error", 0); /* warnings are expected */
    redis = server_redis(NULL);
    int failed = _cmocka_run_group_tests(subject, tests, n, NULL, NULL);
    server_free(redis);
    return failed;
}

static unsigned fresh_logs;

void url_at(const logs *x, int port, char *ret, size_t size)
{
    (void)snprintf(ret, size, "redis://127.0.0.1:%d%s", port, strchr(x->url + 18, '?'));
}

int logs_set_up(void **state)
{
    logs *x = calloc(1, sizeof *x);
    assert_non_null(x);
    (void)snprintf(x->url, sizeof x->url, "%s?log=l%u", server_url(redis), ++fresh_logs);
    *state = x;
    return 0;
}

int logs_tear_down(void **state)
{
    logs *x = *state;
    for (size_t i = 0; i < PROCESSES; i++)
        close_process(&x->p[i]);
    free(x);
    return 0;
}

hark_err try_open(process *p, const char *url, int64_t lease_ms)
{
    const hark_store_opts opts = {.size = sizeof opts, .lease_ms = lease_ms};
    const hark_store_host host = {.size = sizeof host};
    const char *rest;
    hark_err err = hk_store_find(url, &p->ops, &rest, &p->ei);
    if (!err)
        err = p->ops->open(rest, &opts, &host, &p->store, &p->ei);
    if (!err)
        p->ops->info(p->store, &p->info);
    return err;
}

process *open_process(logs *x, size_t i)
{
    process *p = &x->p[i];
    assert_ok(p, try_open(p, x->url, x->lease_ms));
    beat(p);
    return p;
}

void close_process(process *p)
{
    if (p->store)
        p->ops->close(p->store);
    p->store = NULL;
}

void beat(process *p)
{
    int64_t until, ahead;
    assert_ok(p, p->ops->beat(p->store, &until, &ahead, &p->ei));
}

/* ---- events ------------------------------------------------------------------------------------ */

hark_err try_publish(process *p, const char *type, const char *id, const char *key,
                     uint64_t *ret_sequence)
{
    hark_event *e = NULL;
    hark_errinfo ei;
    hark_err late = HARK_OK;
    hark_store_append a = {.late = &late};
    assert_int_equal(0, hark_event_new(HARK_OPTS(hark_event_spec, .type = type, .id = id,
                                                 .source = "/test", .key = key, .json = "1"),
                                       &e, &ei));
    a.event = e;
    hk_event_digest(e, p->info.log_id, a.digest);
    hark_err err = p->ops->begin(p->store, &p->ei);
    if (!err)
        err = p->ops->append(p->store, &a, 1, &p->ei);
    if (!err)
        err = p->ops->commit(p->store, &p->ei);
    else
        p->ops->rollback(p->store);
    if (!err)
        err = late;
    *ret_sequence = a.ret_sequence;
    (void)hark_event_unref(e);
    return err;
}

uint64_t publish(process *p, const char *type, const char *id, const char *key)
{
    uint64_t seq = 0;
    assert_ok(p, try_publish(p, type, id, key, &seq));
    return seq;
}

uint64_t count(process *p)
{
    const hark_store_query q = {.size = sizeof q};
    uint64_t n = 0;
    assert_ok(p, p->ops->count(p->store, &q, &n, &p->ei));
    return n;
}

/* ---- consumers --------------------------------------------------------------------------------- */

void join(process *p, const char *name, hark_store_consumer *ret)
{
    *ret = (hark_store_consumer){
        .size = sizeof *ret, .name = name, .pattern = "**", .policy = "{}", .start = 1};
    assert_ok(p, p->ops->begin(p->store, &p->ei));
    assert_ok(p, p->ops->consumer_open(p->store, ret, &p->ei));
    assert_ok(p, p->ops->commit(p->store, &p->ei));
    hark_store_consumer_clear(ret);
}

hark_store_shares ask_shares(process *p, const hark_store_consumer *c,
                             const hark_store_owned *release, size_t n, bool leaves)
{
    hark_store_shares x = {.size = sizeof x,
                           .consumer = c->ret_id,
                           .generation = c->ret_generation,
                           .release = release,
                           .n_release = n,
                           .leave = leaves};
    assert_ok(p, p->ops->shares(p->store, &x, &p->ei));
    return x;
}

/* ---- the server -------------------------------------------------------------------------------- */

const char *say_to(server *s, const char *fmt, ...)
{
    static char text[512];
    char command[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    redisContext *c = redisConnect("127.0.0.1", server_port(s));
    redisReply *r = c && !c->err ? redisCommand(c, command) : NULL;
    bool good = r && r->type != REDIS_REPLY_ERROR;
    if (good && r->type == REDIS_REPLY_INTEGER)
        (void)snprintf(text, sizeof text, "%lld", r->integer);
    else if (good)
        (void)snprintf(text, sizeof text, "%s", r->str ? r->str : "");
    if (r)
        freeReplyObject(r);
    if (c)
        redisFree(c);
    return good ? text : NULL;
}
