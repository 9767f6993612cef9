/* See stream_kit.h. */
#include "stream_kit.h"

#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

const char *kit_store = "memory";
const char *kit_url;

void live_new(live *l, const hark_bus_opts *bus_opts, const hark_app_opts *opts)
{
    char url[96] = "memory:";
    hark_errinfo ei = {0};
    hark_app_opts o = opts ? *opts : (hark_app_opts){.size = sizeof o};
    *l = (live){.dir = "/tmp/hark-live-XXXXXX"};
    if (!mkdtemp(l->dir))
        fail_msg("no scratch directory");
    if (strcmp(kit_store, "sqlite") == 0)
        snprintf(url, sizeof url, "sqlite:%s/x.db", l->dir);
    if (hark_open(kit_url ? kit_url : url, bus_opts, &l->bus, &ei))
        fail_msg("%s", ei.text);
    o.bus = l->bus;
    o.loops = o.loops ? o.loops : 2;
    if (hark_app_new(&o, &l->app, &ei))
        fail_msg("%s", ei.text);
}

void live_start(live *l)
{
    hark_errinfo ei = {0};
    if (hark_app_listen(l->app, "127.0.0.1:0", &ei) || hark_app_start(l->app, &ei))
        fail_msg("%s", ei.text);
    l->port = hark_app_port(l->app);
}

static void remove_all(const live *l)
{
    static const char *const names[] = {"x.db", "x.db-wal", "x.db-shm", "x.db-inflight"};
    char path[128];
    for (size_t i = 0; i < HK_COUNTOF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", l->dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(l->dir);
}

void live_end(live *l)
{
    hark_errinfo ei = {0};
    hark_err err = hark_app_stop(l->app, &ei);
    hark_app_unref(l->app);
    hark_bus_unref(l->bus);
    remove_all(l);
    if (err)
        fail_msg("%s", ei.text);
}

hark_feed *live_feed(live *l, const hark_feed_opts *opts)
{
    hark_feed *f = NULL;
    assert_int_equal(hark_app_feed(l->app, opts, &f), HARK_OK);
    return f;
}

hark_err show(hark_ctx *c, void *ud)
{
    const shown *s = ud;
    hark_stream_opts o = s->opts;
    o.size = sizeof o;
    return hark_ctx_stream(c, s->feed, &o);
}

void live_route(live *l, const char *path, const shown *s)
{
    union {
        const shown *in;
        void *out;
    } ud = {s};
    hark_get(l->app, path, show, ud.out);
    hark_post(l->app, path, show, ud.out);
}

uint64_t live_publish(live *l, const char *type, const char *json)
{
    hark_receipt r;
    hark_err err = hark_publish(l->bus, HARK_OPTS(hark_event_spec, .type = type, .json = json), &r);
    if (err)
        fail_msg("publish: %s", hark_err_name(err));
    return r.sequence;
}

hark_app_stats live_stats(live *l)
{
    hark_app_stats s = {.size = sizeof s};
    assert_int_equal(hark_app_stats_get(l->app, &s), HARK_OK);
    return s;
}

void kit_yield(int64_t *until_ms, const char *what, const char *file, int line)
{
    if (!*until_ms)
        *until_ms = hk_mono_ms() + 30000;
    if (hk_mono_ms() > *until_ms) {
        fprintf(stderr, "%s:%d: hung waiting for %s\n", file, line, what);
        abort();
    }
    sched_yield();
}

/* ---- the reader ---- */

/* More bytes; false at the end. */
static bool more(reader *r)
{
    struct pollfd p = {.fd = r->fd, .events = POLLIN};
    if (r->at) {
        memmove(r->buf, r->buf + r->at, r->n - r->at);
        r->n -= r->at;
        r->at = 0;
    }
    if (r->n == sizeof r->buf - 1)
        fail_msg("a block of more than %zu bytes", r->n);
    if (poll(&p, 1, 30000) == 0) {
        fprintf(stderr, "hung: nothing comes on a stream\n");
        abort();
    }
    ssize_t n = recv(r->fd, r->buf + r->n, sizeof r->buf - 1 - r->n, 0);
    if (n <= 0)
        return false;
    r->n += (size_t)n;
    r->buf[r->n] = '\0';
    return true;
}

/* What lies before `end`, which goes with it; NULL at the end of the stream. */
static char *upto(reader *r, const char *end)
{
    size_t len = strlen(end);
    for (;;) {
        char *found = r->n > r->at ? memmem(r->buf + r->at, r->n - r->at, end, len) : NULL;
        if (found) {
            char *from = r->buf + r->at;
            *found = '\0';
            r->at = (size_t)(found - r->buf) + len;
            return from;
        }
        if (!more(r))
            return NULL;
    }
}

static void put(char *out, size_t size, const char *s)
{
    snprintf(out, size, "%s", s);
}

static void take_line(reader *r, message *m, const char *line)
{
    size_t n = strlen(m->data);
    if (strncmp(line, "id: ", 4) == 0) {
        put(m->id, sizeof m->id, line + 4);
        put(r->last_id, sizeof r->last_id, line + 4);
    } else if (strncmp(line, "event: ", 7) == 0) {
        put(m->event, sizeof m->event, line + 7);
    } else if (strncmp(line, "retry: ", 7) == 0) {
        m->retry = atol(line + 7);
    } else if (strncmp(line, "data: ", 6) == 0) {
        snprintf(m->data + n, sizeof m->data - n, "%s%s", m->has_data ? "\n" : "", line + 6);
        m->has_data = true;
    } else if (line[0] == ':') {
        m->comment = true;
    } else {
        fail_msg("'%s' is no field", line);
    }
}

bool reader_block(reader *r, message *m)
{
    *m = (message){.retry = -1};
    char *block = upto(r, "\n\n"), *save = NULL;
    for (char *line = block ? strtok_r(block, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        take_line(r, m, line);
    return block != NULL;
}

bool reader_next(reader *r, message *m)
{
    while (reader_block(r, m))
        if (m->has_data)
            return true;
    return false;
}

void reader_open(reader *r, live *l, const char *target, const char *lines)
{
    char request[2048];
    message m;
    *r = (reader){.fd = client_open(l->port)};
    if (r->fd < 0)
        fail_msg("no connection");
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: test\r\n%s\r\n", target,
             lines ? lines : "");
    client_sends(r->fd, request);
    char *head = upto(r, "\r\n\r\n");
    put(r->head, sizeof r->head, head ? head : "");
    if (strncmp(r->head, "HTTP/1.1 200 ", 13) != 0)
        fail_msg("no stream but: %s", r->head);
    if (!reader_block(r, &m) || m.retry < 0)
        fail_msg("the stream does not begin with retry");
    r->retry = m.retry;
}

void reader_again(reader *r, live *l, const char *target)
{
    char line[128], id[64];
    reader_close(r);
    put(id, sizeof id, r->last_id);
    snprintf(line, sizeof line, "Last-Event-ID: %s\r\n", id);
    reader_open(r, l, target, line);
    put(r->last_id, sizeof r->last_id, id);
}

uint64_t reader_seq(const reader *r)
{
    const char *dash = strchr(r->last_id, '-');
    return dash ? strtoull(dash + 1, NULL, 10) : 0;
}

void reader_close(reader *r)
{
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
}
