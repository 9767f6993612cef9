/* main.c: the shop as a process. It runs supervised, in a child that is started again when it
 * crashes: there it opens the bus, makes its tables, tells the bus its events, starts its consumers
 * and serves HTTP until it is told to end. */
#include "consumers.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* ---- HTTP ------------------------------------------------------------------------------------- */

/* The page's files are no requests that anybody wants to count. */
static bool is_page(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_route(c)[0] == '\0' && hark_ctx_status(c) < 400;
}

static void use_middleware(hark_app *app, const char *page)
{
    static const char *const live[] = {"/stats/stream", "/orders/stream", NULL};
    hark_app_use(app, hark_recover(NULL));
    hark_app_use(app, hark_request_id(NULL));
    hark_app_use(app, hark_secure_headers(HARK_OPTS(
                          hark_secure_headers_opts,
                          .content_security_policy = "default-src 'self'; img-src 'self' data:")));
    hark_app_use(app, hark_request_events(
                          HARK_OPTS(hark_request_events_opts, .skip = live, .skip_fn = is_page)));
    hark_app_use(app, hark_gzip(NULL));
    hark_app_use(app, hark_idempotency(NULL));
    hark_app_use(app, hark_wait(NULL));
    hark_app_use(app, hark_static_files(HARK_OPTS(hark_static_opts, .root = page)));
}

static hark_err open_app(shop *s, hark_errinfo *ei)
{
    hark_err err = hark_app_new(HARK_OPTS(hark_app_opts, .bus = s->bus), &s->app, ei);
    if (err)
        return err;
    use_middleware(s->app, s->o.page);
    shop_order_routes(s);
    shop_user_routes(s);
    shop_inventory_routes(s);
    shop_letter_routes(s);
    shop_chaos_routes(s);
    err = shop_stats_routes(s, ei);
    return err ? err : hark_app_listen(s->app, s->o.listen, ei);
}

static void print_address(const shop *s)
{
    const char *colon = strrchr(s->o.listen, ':');
    printf("shop: http://%.*s:%d/\n", (int)(colon - s->o.listen), s->o.listen,
           hark_app_port(s->app));
    if (hark_supervise_restarts())
        printf("shop: started again after a crash; crashes so far: %" PRIu64 "\n",
               hark_supervise_restarts());
}

/* ---- the process ------------------------------------------------------------------------------ */

static hark_err open_shop(shop *s, hark_errinfo *ei)
{
    hark_err err = story_start(s, ei);
    if (!err)
        err = hark_open(s->o.store, HARK_OPTS(hark_bus_opts, .source = "/shop"), &s->bus, ei);
    if (!err)
        err = events_register(s->bus, ei); /* the first rows have events */
    if (!err)
        err = shop_schema(s, ei);
    if (!err)
        err = chaos_open(s, ei);
    if (!err)
        err = open_app(s, ei);
    if (!err)
        err = consumers_start(s, ei);
    if (!err && s->o.demo)
        err = demo_start(s, ei);
    return err;
}

/* Requests have ended. Deliveries that run are waited for; what is left of them comes again at the
 * next start. */
static void close_shop(shop *s)
{
    hark_errinfo ei;
    rest_end(s); /* those who dawdle answer now */
    demo_stop(s);
    shop_stats_stop(s);
    if (s->bus && hark_drain(s->bus, 5000, &ei))
        fprintf(stderr, "shop: %s\n", ei.text);
    s->app = hark_app_unref(s->app);
    s->bus = hark_bus_unref(s->bus);
    chaos_close(s);
    story_stop(s);
    rest_close(s);
}

static int serve(void *ud)
{
    shop s = {.o = *(const options *)ud};
    hark_errinfo ei;
    signal(SIGPIPE, SIG_IGN);         /* a shop does not end with its console */
    setvbuf(stdout, NULL, _IOLBF, 0); /* a crash takes along what is not written yet */
    rest_open(&s);
    hark_err err = open_shop(&s, &ei);
    if (!err) {
        print_address(&s);
        err = hark_app_run(s.app, &ei); /* until SIGTERM or SIGINT */
    }
    if (err)
        fprintf(stderr, "shop: %s\n", ei.text);
    close_shop(&s);
    return err ? 1 : 0;
}

int main(int argc, char **argv)
{
    options o;
    int status;
    hark_errinfo ei;
    if (!options_parse(&o, argc, argv, &status))
        return status;
    if (o.no_supervise)
        return serve(&o);
    const char *addresses[] = {o.listen};
    if (hark_supervise(HARK_OPTS(hark_supervise_opts, .listen = addresses, .n_listen = 1), serve,
                       &o, &status, &ei)) {
        fprintf(stderr, "shop: %s\n", ei.text);
        return 1;
    }
    return status;
}
