/* A small supervised service for supervise_run_test: GET / tells who answers, GET /crash and GET
 * /abort end the process, POST /orders is durable. It says on its standard output when each child
 * is there. Other modes are children that misbehave.
 *     supervise_victim MODE URL STABLE_MS BACKOFF_MS MAX_RESTARTS */
#include <hark/hark.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *mode, *url;
static volatile uintptr_t nowhere;

__attribute__((no_sanitize("undefined"))) static void crash(void)
{
    *(volatile char *)nowhere = 1;
}

static hark_err on_root(hark_ctx *c, void *ud)
{
    char text[64];
    (void)ud;
    (void)snprintf(text, sizeof text, "%d %llu", (int)getpid(),
                   (unsigned long long)hark_supervise_restarts());
    return hark_ctx_text(c, 200, text);
}

static hark_err on_crash(hark_ctx *c, void *ud)
{
    (void)ud;
    crash();
    return hark_ctx_text(c, 200, "still there");
}

static hark_err on_abort(hark_ctx *c, void *ud)
{
    (void)c;
    (void)ud;
    abort();
}

static hark_err on_order(hark_ctx *c, void *ud)
{
    size_t len;
    const void *body = hark_ctx_body(c, &len);
    (void)ud;
    hark_err err = hark_ctx_publish(
        c, HARK_OPTS(hark_event_spec, .type = "order:placed", .data = body, .data_len = len));
    return err ? err : hark_ctx_text(c, 201, "placed");
}

static void say(const char *what, int port)
{
    (void)printf("%s %d %d %llu\n", what, (int)getpid(), port,
                 (unsigned long long)hark_supervise_restarts());
    (void)fflush(stdout);
}

static int fail(const char *text)
{
    (void)fprintf(stderr, "%s\n", text);
    return 3;
}

static int serve(void)
{
    hark_bus *bus = NULL;
    hark_app *app = NULL;
    hark_errinfo ei;
    if (hark_open(url, NULL, &bus, &ei) ||
        hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &app, &ei))
        return fail(ei.text);
    hark_get(app, "/", on_root, NULL);
    hark_get(app, "/crash", on_crash, NULL);
    hark_get(app, "/abort", on_abort, NULL);
    hark_post(app, "/orders", on_order, NULL);
    if (hark_app_listen(app, "127.0.0.1:0", &ei))
        return fail(ei.text);
    say("ready", hark_app_port(app));
    if (hark_app_run(app, &ei))
        return fail(ei.text);
    hark_app_unref(app);
    hark_bus_unref(bus);
    return 0;
}

static int child(void *ud)
{
    (void)ud;
    if (strcmp(mode, "serve") == 0)
        return serve();
    if (strcmp(mode, "deaf") == 0)
        (void)signal(SIGTERM, SIG_IGN);
    say(mode, 0);
    if (strcmp(mode, "crash") == 0)
        crash();
    if (strcmp(mode, "exit") == 0)
        return 7;
    for (;;)
        (void)pause();
}

int main(int argc, char **argv)
{
    static const char *const listen[] = {"127.0.0.1:0"};
    int status = 0;
    hark_errinfo ei;
    if (argc != 6)
        return fail("usage: supervise_victim MODE URL STABLE_MS BACKOFF_MS MAX_RESTARTS");
    mode = argv[1];
    url = argv[2];
    if (hark_supervise(HARK_OPTS(hark_supervise_opts, .listen = listen, .n_listen = 1,
                                 .stop_ms = strcmp(mode, "deaf") == 0 ? 50 : 0,
                                 .stable_ms = atoll(argv[3]), .backoff_ms = atoll(argv[4]),
                                 .backoff_max_ms = 60000, .max_restarts = atoll(argv[5])),
                       child, NULL, &status, &ei))
        return fail(ei.text);
    return status;
}
