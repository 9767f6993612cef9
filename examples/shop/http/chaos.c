/* http/chaos.c: GET /chaos and PUT /chaos/:consumer: what breaks on purpose (chaos.c). */
#include "../consumers.h"

#include <inttypes.h>

HARK_JSON_TABLE(chaos_json, chaos, HARK_JSON_CHARS(chaos, consumer),
                HARK_JSON_DOUBLE(chaos, fail_rate), HARK_JSON_INT(chaos, delay_ms),
                HARK_JSON_BOOL(chaos, crash), HARK_JSON_INT(chaos, poisoned));

typedef struct all_chaos {
    chaos *of;
    size_t n;
} all_chaos;

HARK_JSON_TABLE(all_json, all_chaos,
                HARK_JSON_ARRAY(all_chaos, of, n, &chaos_json, .as = "consumers"));

static hark_err get_chaos(hark_ctx *c, void *ud)
{
    shop *s = ud;
    all_chaos all = {.n = 0};
    while (consumer_at(all.n))
        all.n++;
    all.of = hark_ctx_alloc(c, all.n * sizeof *all.of);
    if (!all.of)
        return HARK_ENOMEM;
    for (size_t i = 0; i < all.n; i++)
        chaos_get(s, consumer_at(i)->name, &all.of[i]);
    return hark_ctx_json(c, 200, &all_json, &all);
}

/* What is not given stays as it is. */
typedef struct change {
    double fail_rate;
    int64_t delay_ms;
    bool crash, has_fail_rate, has_delay, has_crash;
} change;

HARK_JSON_TABLE_STRICT(change_json, change,
                       HARK_JSON_DOUBLE(change, fail_rate, HARK_JSON_RANGE(0.0, 1.0),
                                        HARK_JSON_HAS(change, has_fail_rate)),
                       HARK_JSON_INT(change, delay_ms, HARK_JSON_RANGE(0, 60000),
                                     HARK_JSON_HAS(change, has_delay)),
                       HARK_JSON_BOOL(change, crash, HARK_JSON_HAS(change, has_crash)));

/* One event at a time is poisoned: the second would make the first one forgotten. */
static bool apply(chaos *to, const void *ud)
{
    const change *new = ud;
    if (new->crash && to->poisoned)
        return false;
    if (new->has_fail_rate)
        to->fail_rate = new->fail_rate;
    if (new->has_delay)
        to->delay_ms = new->delay_ms;
    if (new->has_crash)
        to->crash = new->crash;
    if (new->has_crash && !new->crash)
        to->poisoned = 0; /* healed */
    return true;
}

static hark_err put_chaos(hark_ctx *c, void *ud)
{
    shop *s = ud;
    const char *name = hark_ctx_param(c, "consumer");
    change new = {.has_crash = false};
    chaos now;
    hark_errinfo ei;
    if (!consumer_named(name))
        return hark_ctx_fail(c, HARK_ENOTFOUND,
                             "there is no consumer %s; GET /chaos lists those there are", name);
    hark_err err = hark_ctx_bind(c, &change_json, &new);
    if (err)
        return err;
    err = chaos_change(s, name, apply, &new, &now, &ei);
    if (err == HARK_ECONFLICT)
        return hark_ctx_fail(c, err,
                             "event %" PRIu64 " crashes %s already; heal it first: {\"crash\": "
                             "false}",
                             now.poisoned, name);
    return err ? hark_ctx_fail(c, err, "%s", ei.text) : hark_ctx_json(c, 200, &chaos_json, &now);
}

void shop_chaos_routes(shop *s)
{
    hark_route(s->app, "GET", "/chaos", get_chaos, s, HARK_BLOCKING);
    hark_route(s->app, "PUT", "/chaos/:consumer", put_chaos, s, HARK_BLOCKING);
}
