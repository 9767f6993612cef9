/* The kit of the tests of redis+pubsub:, see kit.h. */
#include "kit.h"

#include <hiredis/hiredis.h>
#include <unistd.h>

server *redis;

/* ---- the server ------------------------------------------------------------------------------- */

static redisContext *control;
static redisReply *last;

static int start_server(void **state)
{
    (void)state;
    redis = server_redis((const char *const[]){"--appendonly", "no", NULL});
    return 0;
}

static void hang_up(void)
{
    if (last)
        freeReplyObject(last);
    if (control)
        redisFree(control);
    last = NULL;
    control = NULL;
}

static int stop_server(void **state)
{
    (void)state;
    hang_up();
    server_free(redis);
    return 0;
}

int kit_main(const char *subject, const struct CMUnitTest *tests, size_t n)
{
    return _cmocka_run_group_tests(subject, tests, n, start_server, stop_server);
}

/* The connection is made anew when the server was another one meanwhile. */
static redisReply *command(const char *text)
{
    for (int attempt = 0; attempt < 2; attempt++) {
        if (!control || control->err) {
            hang_up();
            control = redisConnect("127.0.0.1", server_port(redis));
            MUST(control);
            freeReplyObject(redisCommand(control, "CLIENT SETNAME control"));
        }
        redisReply *r = redisCommand(control, text);
        if (r)
            return r;
    }
    return NULL;
}

const char *ask(const char *fmt, ...)
{
    static char text[512], number[32];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    redisReply *r = command(text);
    if (last)
        freeReplyObject(last);
    last = r;
    if (!r || r->type == REDIS_REPLY_ERROR)
        return NULL;
    if (r->type != REDIS_REPLY_INTEGER)
        return r->str ? r->str : "";
    (void)snprintf(number, sizeof number, "%lld", r->integer);
    return number;
}

size_t kill_clients(const char *name)
{
    char mark[64], ids[32][24];
    size_t n = 0;
    (void)snprintf(mark, sizeof mark, " name=%s", name);
    const char *list = ask("CLIENT LIST");
    for (const char *line = list; line && *line && n < 32; line = strchr(line, '\n') + 1) {
        size_t len = strcspn(line, "\n");
        const char *at = strstr(line, mark);
        if (at && at < line + len && sscanf(line, "id=%23s", ids[n]) == 1)
            n++;
    }
    for (size_t i = 0; i < n; i++)
        MUST(ask("CLIENT KILL ID %s", ids[i]));
    return n;
}

/* ---- buses ------------------------------------------------------------------------------------ */

void kit_url(const kit *k, int port, char *ret, size_t size)
{
    (void)snprintf(ret, size, "redis+pubsub://127.0.0.1:%d/%s", port, k->prefix);
}

int kit_set_up(void **state)
{
    static int number;
    kit *k = calloc(1, sizeof *k);
    assert_non_null(k);
    k->f.live_blocks = hk_slab_live();
    latch_init(&k->at);
    (void)snprintf(k->prefix, sizeof k->prefix, "t%d:", ++number);
    kit_url(k, server_port(redis), k->f.url, sizeof k->f.url);
    assert_ok(&k->f, hark_open(k->f.url, NULL, &k->f.bus, &k->f.ei));
    assert_ok(&k->f, hark_open(k->f.url, NULL, &k->other, &k->f.ei));
    *state = k;
    return 0;
}

int kit_tear_down(void **state)
{
    kit *k = *state;
    for (size_t i = 0; i < k->n_listeners; i++) {
        end_sub(k->listeners[i]->sub);
        free(k->listeners[i]);
    }
    hark_bus_unref(k->f.bus);
    hark_bus_unref(k->other);
    WAIT_UNTIL(hk_slab_live() == k->f.live_blocks); /* threads may be in their last step */
    free(k);
    return 0;
}

/* ---- listening -------------------------------------------------------------------------------- */

static hark_verdict hear(hark_delivery *d, void *ud)
{
    listener *l = ud;
    const hark_event *e = hark_delivery_event(d);
    size_t n = atomic_load(&l->n), len = 0;
    MUST(n < HEARD_MAX);
    heard *x = &l->list[n];
    const char *data = e ? hark_event_data(e, &len) : NULL;
    x->seq = hark_delivery_sequence(d);
    x->cause = hark_delivery_gap_cause(d);
    MUST(hark_delivery_gap(d, &x->from, &x->to) == (e == NULL));
    (void)snprintf(x->type, sizeof x->type, "%s", e ? hark_event_type(e) : "");
    (void)snprintf(x->data, sizeof x->data, "%.*s", (int)len, data ? data : "");
    atomic_store(&l->n, n + 1);
    if (l->at)
        latch_wait(l->at);
    return HARK_ACK;
}

listener *listen_with(kit *k, hark_bus *bus, const char *pattern, latch *at,
                      const hark_sub_opts *opts)
{
    listener *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->at = at;
    assert_ok(&k->f, hark_subscribe(bus, pattern, hear, l, opts, &l->sub, &k->f.ei));
    k->listeners[k->n_listeners++] = l;
    return l;
}

listener *listen_to(kit *k, hark_bus *bus, const char *pattern)
{
    return listen_with(k, bus, pattern, NULL, HARK_OPTS(hark_sub_opts, .flags = HARK_SUB_GAPS));
}

void wait_heard(listener *l, size_t n)
{
    WAIT_UNTIL(atomic_load(&l->n) >= n);
}

size_t gap_from(listener *l, size_t at)
{
    size_t n = atomic_load(&l->n);
    for (size_t i = at; i < n; i++)
        if (l->list[i].cause)
            return i;
    return HEARD_MAX;
}

size_t gap_in(listener *l)
{
    return gap_from(l, 0);
}

hark_err say(hark_bus *bus, const char *type, int number, hark_errinfo *ei)
{
    char json[24];
    (void)snprintf(json, sizeof json, "%d", number);
    return hark_publish_ei(bus, HARK_OPTS(hark_event_spec, .type = type, .json = json), NULL, ei);
}
