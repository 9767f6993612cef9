/* http/order_feed.c: GET /orders/stream, what happens to orders as it happens: all of them, or those
 * of one user. Each event is encoded once, however many browsers watch. That an order's stock is
 * reserved is told by inventory:reserved, so the feed shows that too. */
#include "orders.h"

#include <stdlib.h>
#include <string.h>

enum { RETRY_MS = 500 }; /* a shop that crashed is back by then */

typedef struct change {
    char id[40], user_id[40], status[12];
    int64_t total;
    char reason[200];
} change;
HARK_JSON_TABLE(of_order, change, HARK_JSON_CHARS(change, id), HARK_JSON_CHARS(change, user_id),
                HARK_JSON_CHARS(change, status), HARK_JSON_INT(change, total),
                HARK_JSON_CHARS(change, reason));
HARK_JSON_TABLE(of_reserved, change, HARK_JSON_CHARS(change, id, .as = "order_id"),
                HARK_JSON_CHARS(change, user_id), HARK_JSON_INT(change, total));
HARK_JSON_TABLE(change_json, change, HARK_JSON_CHARS(change, id), HARK_JSON_CHARS(change, user_id),
                HARK_JSON_CHARS(change, status), HARK_JSON_DECIMAL(change, total, 2),
                HARK_JSON_CHARS(change, reason, .min_len = 1));

static hark_err read_change(const hark_event *e, change *ret)
{
    *ret = (change){.status = "reserved"};
    bool reserved = strcmp(hark_event_type(e), "inventory:reserved") == 0;
    return hark_event_bind(e, reserved ? &of_reserved : &of_order, ret, NULL);
}

static hark_err encode(hark_frame *f, const hark_event *e, void *ud)
{
    (void)ud;
    change now;
    hark_err err = read_change(e, &now);
    return err ? err : hark_frame_json(f, &change_json, &now);
}

static bool is_of_user(const hark_event *e, void *ud)
{
    const char *user = hark_event_attr(e, "userid");
    return user && strcmp(user, ud) == 0;
}

static hark_err get_stream(hark_ctx *c, void *ud)
{
    const char *user = hark_ctx_query(c, "user_id");
    if (!user)
        return hark_ctx_stream(c, ud, HARK_OPTS(hark_stream_opts, .retry_ms = RETRY_MS));
    char *copy = strdup(user); /* the stream outlives the request */
    if (!copy)
        return HARK_ENOMEM;
    return hark_ctx_stream(c, ud,
                           HARK_OPTS(hark_stream_opts, .filter = is_of_user, .ud = copy,
                                     .free_ud = free, .retry_ms = RETRY_MS));
}

void shop_order_feed(shop *s)
{
    hark_feed *feed;
    const hark_feed_opts *opts =
        HARK_OPTS(hark_feed_opts, .pattern = "order:*|inventory:reserved", .encode = encode);
    if (hark_app_feed(s->app, opts, &feed) == HARK_OK) /* else the app says so when it starts */
        hark_get(s->app, "/orders/stream", get_stream, feed);
}
