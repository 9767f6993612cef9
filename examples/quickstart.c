/* quickstart: creates users and orders (curl -X POST localhost:8080/users), and two consumers hear
 * of them. A reply goes out when the log has its event (SQLite: on disk): kill the program when you
 * like, every event that was answered with 201 reaches its consumer, after a restart if need be. */
#include <hark/hark.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

typedef struct user {
    char id[40], name[128], email[128], created_at[40];
} user;
typedef struct order {
    char id[40], user_id[40], placed_at[40], **items;
    size_t n_items;
    double total;
} order;

HARK_JSON_TABLE(user_json, user, HARK_JSON_CHARS(user, id), HARK_JSON_CHARS(user, created_at),
                HARK_JSON_CHARS(user, name, .min_len = 1), HARK_JSON_CHARS(user, email));
HARK_JSON_TABLE(order_json, order, HARK_JSON_CHARS(order, id), HARK_JSON_CHARS(order, user_id),
                HARK_JSON_LIST(order, items, n_items, .min_len = 1),
                HARK_JSON_CHARS(order, placed_at),
                HARK_JSON_DOUBLE(order, total, HARK_JSON_MIN(0)));

static void stamp(char prefix, char id[40], char at[40])
{
    uint64_t n = 0;
    time_t t = time(NULL);
    (void)!getrandom(&n, sizeof n, 0);
    (void)snprintf(id, 40, "%c%016llx", prefix, (unsigned long long)n);
    (void)strftime(at, 40, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &(struct tm){0}));
}

static hark_err create_user(hark_ctx *c, void *ud)
{
    (void)ud;
    user u = {.name = "John Doe", .email = "john@example.com"};
    hark_err err = hark_ctx_bind_optional(c, &user_json, &u); /* what the body leaves out stays */
    stamp('u', u.id, u.created_at);
    if (!err)
        err = hark_ctx_publish_json(
            c, HARK_OPTS(hark_event_spec, .type = "user:created", .subject = u.id), &user_json, &u);
    return err ? err : hark_ctx_json(c, 201, &user_json, &u); /* goes out when that is on disk */
}

static hark_err create_order(hark_ctx *c, void *ud)
{
    (void)ud;
    char *two[] = {"item1", "item2"};
    order o = {.user_id = "u123", .total = 29.99};
    hark_err err = hark_ctx_bind_optional(c, &order_json, &o);
    if (!o.items)
        o.items = two, o.n_items = 2;
    stamp('o', o.id, o.placed_at);
    if (!err)
        err = hark_ctx_publish_json(
            c, HARK_OPTS(hark_event_spec, .type = "order:placed", .subject = o.id), &order_json,
            &o);
    return err ? err : hark_ctx_json(c, 201, &order_json, &o);
}

static hark_verdict on_user(hark_delivery *d, void *ud)
{
    (void)ud;
    size_t len;
    const char *json = hark_event_data(hark_delivery_event(d), &len);
    user u = {.name = ""};
    if (hark_json_decode(&user_json, json, len, &u, NULL))
        return HARK_REJECT; /* not a user: a dead letter */
    printf("User created: %s\n", u.name);
    return HARK_ACK;
}

static hark_verdict on_order(hark_delivery *d, void *ud)
{
    (void)ud, printf("Order placed: %s\n", hark_event_subject(hark_delivery_event(d)));
    return HARK_ACK;
}

static hark_bus *bus;
static hark_app *app;

static void must(hark_err err, const hark_errinfo *ei)
{
    if (err)
        exit((fprintf(stderr, "quickstart: %s\n", ei->text), hark_app_unref(app),
              hark_bus_unref(bus), 1));
}

static const char usage[] =
    "usage: quickstart [--listen ADDR:PORT] [--store URL]; a URL is sqlite:PATH, "
    "postgresql://HOST/DATABASE, redis://HOST or memory:\n";

int main(int argc, char **argv)
{
    const char *listen = "127.0.0.1:8080", *store = "sqlite:quickstart.db";
    for (int i = 1; i < argc; i += 2) {
        const char **to = strcmp(argv[i], "--listen") == 0 ? &listen : &store;
        if (i + 1 == argc || (to == &store && strcmp(argv[i], "--store") != 0))
            return fputs(usage, stderr), 64;
        *to = argv[i + 1];
    }
    hark_errinfo ei;
    setvbuf(stdout, NULL, _IOLBF, 0);
    must(hark_open(store, NULL, &bus, &ei), &ei);
    const hark_sub_opts *users = HARK_OPTS(hark_sub_opts, .consumer = "users");
    const hark_sub_opts *orders = HARK_OPTS(hark_sub_opts, .consumer = "orders");
    must(hark_subscribe(bus, "user:created", on_user, NULL, users, NULL, &ei), &ei);
    must(hark_subscribe(bus, "order:placed", on_order, NULL, orders, NULL, &ei), &ei);
    must(hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &app, &ei), &ei);
    hark_app_use(app, hark_logger(NULL));
    hark_app_use(app, hark_recover(NULL));
    hark_app_use(app, hark_request_events(NULL));
    hark_post(app, "/users", create_user, NULL);
    hark_post(app, "/orders", create_order, NULL);
    must(hark_app_listen(app, listen, &ei), &ei);
    const char *at = strrchr(store, '@'); /* before it stands a password */
    printf("listening on port %d, events go to %s\n", hark_app_port(app), at ? at + 1 : store);
    must(hark_app_run(app, &ei), &ei); /* until SIGTERM or SIGINT */
    hark_app_unref(app);
    hark_bus_unref(bus);
}
