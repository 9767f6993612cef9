/* quickstart: a service that creates users and orders, and two consumers that hear of them.
 *
 *     curl -X POST localhost:8080/users
 *     curl -X POST localhost:8080/orders -d '{"items":["tea","cup"],"total":12.5}' \
 *          -H 'Content-Type: application/json'
 *
 * A reply goes out when its event is safe on disk. Kill the program when you like: every event that
 * was answered with 201 reaches its consumer, after a restart if need be. */
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
    char id[40], user_id[40];
    char **items;
    size_t n_items;
    double total;
    char placed_at[40];
} order;

HARK_JSON_TABLE(user_json, user, HARK_JSON_CHARS(user, id),
                HARK_JSON_CHARS(user, name, .min_len = 1),
                HARK_JSON_CHARS(user, email, .min_len = 3), HARK_JSON_CHARS(user, created_at));
HARK_JSON_TABLE(order_json, order, HARK_JSON_CHARS(order, id), HARK_JSON_CHARS(order, user_id),
                HARK_JSON_LIST(order, items, n_items, .min_len = 1),
                HARK_JSON_DOUBLE(order, total, HARK_JSON_MIN(0)),
                HARK_JSON_CHARS(order, placed_at));

static void stamp(char prefix, char id[40], char at[40])
{
    uint64_t n = 0;
    time_t t = time(NULL);
    struct tm tm;
    (void)!getrandom(&n, sizeof n, 0);
    (void)snprintf(id, 40, "%c%016llx", prefix, (unsigned long long)n);
    (void)strftime(at, 40, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
}

/* Publishes a struct as JSON and answers 201 with it: the reply waits until the event is on disk. */
static hark_err publish_and_reply(hark_ctx *c, const char *type, const char *id,
                                  const hark_json_table *table, const void *value)
{
    char *json;
    hark_err err = hark_json_encode(table, value, &json, NULL, NULL);
    if (err)
        return err;
    err =
        hark_ctx_publish(c, HARK_OPTS(hark_event_spec, .type = type, .subject = id, .json = json));
    if (!err)
        err = hark_ctx_json_text(c, 201, json);
    free(json);
    return err;
}

static hark_err create_user(hark_ctx *c, void *ud)
{
    (void)ud;
    user u = {.name = "John Doe", .email = "john@example.com"};
    hark_err err = hark_ctx_bind_optional(c, &user_json, &u); /* what the body leaves out stays */
    stamp('u', u.id, u.created_at);
    return err ? err : publish_and_reply(c, "user:created", u.id, &user_json, &u);
}

static hark_err create_order(hark_ctx *c, void *ud)
{
    (void)ud;
    char *two[] = {"item1", "item2"};
    order o = {.user_id = "u123", .total = 29.99};
    hark_err err = hark_ctx_bind_optional(c, &order_json, &o);
    if (!o.items) {
        o.items = two;
        o.n_items = 2;
    }
    stamp('o', o.id, o.placed_at);
    return err ? err : publish_and_reply(c, "order:placed", o.id, &order_json, &o);
}

static hark_verdict on_user(hark_delivery *d, void *ud)
{
    (void)ud;
    user u = {0};
    size_t len;
    const char *json = hark_event_data(hark_delivery_event(d), &len);
    if (hark_json_decode(&user_json, json, len, &u, NULL))
        return HARK_REJECT; /* not a user: a dead letter */
    printf("User created: %s\n", u.name);
    return HARK_ACK;
}

static hark_verdict on_order(hark_delivery *d, void *ud)
{
    (void)ud;
    printf("Order placed: %s\n", hark_event_subject(hark_delivery_event(d)));
    return HARK_ACK;
}

int main(int argc, char **argv)
{
    const char *listen = "127.0.0.1:8080", *store = "sqlite:quickstart.db";
    for (int i = 1; i < argc; i += 2) {
        const char **to = strcmp(argv[i], "--listen") == 0  ? &listen
                          : strcmp(argv[i], "--store") == 0 ? &store
                                                            : NULL;
        if (!to || i + 1 == argc)
            return fprintf(stderr, "usage: quickstart [--listen ADDR:PORT] [--store URL]\n"), 64;
        *to = argv[i + 1];
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    hark_bus *bus = NULL;
    hark_app *app = NULL;
    hark_errinfo ei;
    hark_err err = hark_open(store, HARK_OPTS(hark_bus_opts, .source = "/quickstart"), &bus, &ei);
    if (!err)
        err = hark_subscribe(bus, "user:created", on_user, NULL,
                             HARK_OPTS(hark_sub_opts, .consumer = "users"), NULL, &ei);
    if (!err)
        err = hark_subscribe(bus, "order:placed", on_order, NULL,
                             HARK_OPTS(hark_sub_opts, .consumer = "orders"), NULL, &ei);
    if (!err)
        err = hark_app_new(HARK_OPTS(hark_app_opts, .bus = bus), &app, &ei);
    if (!err) {
        hark_app_use(app, hark_request_id(NULL));
        hark_app_use(app, hark_logger(NULL));
        hark_app_use(app, hark_recover(NULL));
        hark_app_use(app, hark_request_events(NULL));
        hark_post(app, "/users", create_user, NULL);
        hark_post(app, "/orders", create_order, NULL);
        err = hark_app_listen(app, listen, &ei);
    }
    if (!err) {
        printf("quickstart listens on http://%s, events go to %s\n", listen, store);
        err = hark_app_run(app, &ei);
    }
    if (err)
        fprintf(stderr, "quickstart: %s\n", ei.text);
    hark_app_unref(app);
    hark_bus_unref(bus);
    return err ? 1 : 0;
}
