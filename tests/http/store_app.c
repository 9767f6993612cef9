/* See store_app.h. */
#include "store_app.h"

#include <unistd.h>

static hark_err make_table(hark_tx *tx, void *ud)
{
    (void)ud;
    return hark_tx_exec(
        tx, "CREATE TABLE IF NOT EXISTS orders(id INTEGER PRIMARY KEY, what TEXT UNIQUE)",
        HARK_NO_ARGS);
}

static void open_both(store_app *a, const hark_app_opts *opts)
{
    char url[96];
    hark_errinfo ei = {0};
    hark_app_opts o = opts ? *opts : (hark_app_opts){.size = sizeof o};
    snprintf(url, sizeof url, "sqlite:%s/x.db", a->dir);
    if (hark_open(url, NULL, &a->bus, &ei) ||
        hark_transact(a->bus, make_table, NULL, PATIENT, NULL, &ei))
        fail_msg("%s", ei.text);
    o.bus = a->bus;
    if (!o.loops)
        o.loops = 2;
    if (hark_app_new(&o, &a->app, &ei))
        fail_msg("%s", ei.text);
}

void store_app_new(store_app *a, const hark_app_opts *opts)
{
    *a = (store_app){.dir = "/tmp/hark-http-XXXXXX"};
    if (!mkdtemp(a->dir))
        fail_msg("no scratch directory");
    open_both(a, opts);
}

void store_app_start(store_app *a)
{
    hark_errinfo ei = {0};
    if (hark_app_listen(a->app, "127.0.0.1:0", &ei) || hark_app_start(a->app, &ei))
        fail_msg("%s", ei.text);
    a->port = hark_app_port(a->app);
}

void store_app_close(store_app *a)
{
    hark_app_unref(a->app);
    hark_bus_unref(a->bus);
    a->app = NULL;
    a->bus = NULL;
}

void store_app_again(store_app *a)
{
    store_app_close(a);
    open_both(a, NULL);
}

static void remove_all(const store_app *a)
{
    static const char *const names[] = {"x.db", "x.db-wal", "x.db-shm", "x.db-inflight"};
    char path[128];
    for (size_t i = 0; i < HK_COUNTOF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", a->dir, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(a->dir);
}

void store_app_end(store_app *a)
{
    hark_errinfo ei = {0};
    hark_err err = a->app ? hark_app_stop(a->app, &ei) : HARK_OK;
    store_app_close(a);
    remove_all(a);
    if (err)
        fail_msg("%s", ei.text);
}

hark_err store_insert(hark_ctx *c, hark_tx *tx)
{
    const hark_value what = hark_text(hark_ctx_body(c, NULL));
    hark_err err = hark_tx_exec(tx, "INSERT INTO orders(what) VALUES(?)", HARK_ARGS(what));
    if (err)
        return err;
    return hark_tx_publish(
        tx, HARK_OPTS(hark_event_spec, .type = "order:placed", .json = "{\"id\":1}"), NULL);
}

static bool take_count(const hark_row *row, void *ud)
{
    *(int64_t *)ud = hark_row_int(row, 0);
    return true;
}

int64_t orders(store_app *a)
{
    int64_t n = -1;
    hark_errinfo ei = {0};
    if (hark_query(a->bus, "SELECT count(*) FROM orders", HARK_NO_ARGS, take_count, &n, &ei))
        fail_msg("%s", ei.text);
    return n;
}

static hark_page *read_type(store_app *a, const char *type)
{
    hark_page *page;
    hark_errinfo ei = {0};
    if (hark_read(a->bus, HARK_OPTS(hark_read_opts, .type = type), &page, &ei))
        fail_msg("%s", ei.text);
    return page;
}

size_t events(store_app *a, const char *type)
{
    hark_page *page = read_type(a, type);
    size_t n = hark_page_count(page);
    hark_page_free(page);
    return n;
}

void event_attribute(store_app *a, const char *type, const char *what, char *ret, size_t size)
{
    hark_page *page = read_type(a, type);
    const hark_event *e = hark_page_event(page, 0);
    const char *v = !e                                   ? NULL
                    : strcmp(what, "correlationid") == 0 ? hark_event_correlationid(e)
                                                         : hark_event_causationid(e);
    snprintf(ret, size, "%s", v ? v : "");
    hark_page_free(page);
}

/* ---- waiting ---- */

void gate_shut(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = false;
    g->waiting = g->passed = 0;
    pthread_mutex_unlock(&g->lock);
}

void gate_pass(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->waiting++;
    pthread_cond_broadcast(&g->changed);
    while (!g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    g->passed++;
    pthread_mutex_unlock(&g->lock);
}

void gate_open(gate *g)
{
    pthread_mutex_lock(&g->lock);
    g->open = true;
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->lock);
}

void gate_await(gate *g, size_t waiting)
{
    pthread_mutex_lock(&g->lock);
    while (g->waiting < waiting)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

static void *call(void *arg)
{
    caller *c = arg;
    client_do(c->port, c->method, c->target, c->lines, c->body, &c->r);
    return NULL;
}

void caller_start(caller *c, int port, const char *method, const char *target, const char *lines,
                  const char *body)
{
    c->port = port;
    c->method = method;
    c->target = target;
    c->lines = lines;
    c->body = body;
    if (pthread_create(&c->thread, NULL, call, c))
        fail_msg("no thread");
}

void caller_join(caller *c)
{
    pthread_join(c->thread, NULL);
}
