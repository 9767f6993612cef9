/* idempotency: a request that carries a key may be repeated. Its way: it enters the set of running
 * keys; a transaction looks for a stored reply; if there is none the handler runs, and the reply is
 * stored either with the handler's own transaction (hark_ctx_transact) or, on its way out, by one
 * that does nothing else (idempotency_reply.c). The key is left before the reply goes out, so that
 * whoever has read it may repeat at once. */
#include "http/middleware/idempotency_i.h"
#include "http/middleware/shared_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_MAX = 255 };

static bool key_ok(const char *key)
{
    size_t len = strlen(key);
    for (size_t i = 0; i < len; i++)
        if (key[i] < ' ' || key[i] > '~')
            return false;
    return len >= 1 && len <= KEY_MAX;
}

/* ---- what a key stands for ---- */

static void add_text(hk_sip *s, const char *text)
{
    uint8_t there = text != NULL;
    hk_sip_add(s, &there, 1);
    if (text)
        hk_sip_add(s, text, strlen(text) + 1);
}

/* Whom and what the key belongs to, in a form that is safe to store. */
static char *scope(hark_ctx *c, const char *key)
{
    static const uint8_t public_key[16] = "hark idempotency";
    uint8_t out[16];
    char hex[33];
    hk_sip s;
    hk_sip_init(&s, public_key);
    add_text(&s, hark_ctx_path(c));
    add_text(&s, hark_ctx_header(c, "Authorization"));
    if (hk_key_auth_digest(c)) /* the key may have come in another header, or in the query */
        hk_sip_add(&s, hk_key_auth_digest(c), HK_KEY_DIGEST);
    hk_sip_end(&s, out);
    for (size_t i = 0; i < sizeof out; i++)
        (void)snprintf(hex + 2 * i, 3, "%02x", out[i]);
    return hark_ctx_printf(c, "hark:http:%s:%s:%s", hark_ctx_method(c), hex, key);
}

/* What must be the same in a repeat. */
static void digest(hark_ctx *c, uint8_t ret[16])
{
    static const uint8_t public_key[16] = "hark request v1.";
    size_t len;
    const void *body = hark_ctx_body(c, &len);
    hk_sip s;
    hk_sip_init(&s, public_key);
    add_text(&s, strchr(hark_ctx_target(c), '?'));
    add_text(&s, hark_ctx_header(c, "Content-Type"));
    hk_sip_add(&s, body, len);
    hk_sip_end(&s, ret);
}

/* ---- the request ---- */

static hark_err go_on(hark_ctx *c, void *ud)
{
    hk_keyed *k = ud;
    k->asked = true;
    return hark_ctx_next(c);
}

static hark_err look(hark_tx *tx, void *ud)
{
    hk_keyed *k = ud;
    hk_keyed_begin(k->c);
    hark_err err = hark_tx_kept(tx, k->name, &k->found, &k->found_len);
    return err == HARK_ENOTFOUND ? HARK_OK : err;
}

static void looked(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    hk_keyed *k = ud;
    (void)last;
    if (err)
        hark_ctx_resume(k->c, hark_ctx_fail(k->c, err, "%s", hk_err_says(err, ei)));
    else if (k->found)
        hark_ctx_resume(k->c, hk_keyed_replay(k));
    else
        hark_ctx_continue(k->c, go_on, k);
}

static void on_done(hark_ctx *c, const hark_outcome *o, void *ud)
{
    (void)c;
    (void)o;
    hk_keyed_leave(ud);
}

static hark_err start(hark_ctx *c, hk_keyed *k)
{
    hark_errinfo ei = {0};
    hark_err err = hk_running_enter(&k->of->running, k->name, &k->running);
    if (err == HARK_EEXIST) {
        (void)hark_ctx_set_header(c, "Retry-After", "1");
        return hark_ctx_problem(c, 409, NULL, "the first request with this key is still running");
    }
    if (err)
        return err;
    c->keyed = k;
    err = hark_ctx_defer(c);
    if (err)
        return err;
    err = hk_app_transact(c->app, look, looked, k, HK_KEYED_TX, &ei);
    if (!err)
        return HARK_OK;
    c->deferred = false;
    return hark_ctx_fail(c, err, "%s", hk_err_says(err, &ei));
}

static hark_err run(hark_ctx *c, void *ud)
{
    hk_idempotency *s = ud;
    const char *key = hark_ctx_header(c, s->header);
    bool adds = c->method_id == HK_POST || c->method_id == HK_PATCH;
    if (c->keyed || (!adds && c->method_id != HK_PUT))
        return hark_ctx_next(c);
    c->whole = true;
    if (!key && s->required && adds)
        return hark_ctx_fail(c, HARK_EINVAL, "%s %s needs a header %s", hark_ctx_method(c),
                             hark_ctx_route(c), s->header);
    if (!key)
        return hark_ctx_next(c);
    if (!key_ok(key) || hk_ctx_headers(c, s->header) > 1)
        return hark_ctx_fail(c, HARK_EINVAL, "%s is not one key of 1 to %d printable characters",
                             s->header, KEY_MAX);
    hk_keyed *k = hk_arena_alloc(&c->arena, sizeof *k);
    if (!k)
        return HARK_ENOMEM;
    *k = (hk_keyed){.of = s, .c = c, .name = scope(c, key), .before = hk_headers_note(c)};
    if (!k->name || !k->before || hark_ctx_on_done(c, on_done, k))
        return HARK_ENOMEM;
    digest(c, k->digest);
    return start(c, k);
}

/* ---- making one ---- */

hark_err hk_keyed_check(hark_app *app, const hark_middleware *m, hark_errinfo *ei)
{
    if (m->fn != run)
        return HARK_OK;
    hark_bus_info info = {.size = sizeof info};
    if (!app->has_bus)
        return hk_fail(ei, HARK_EINVAL,
                       "hark_idempotency needs an app with a bus; set hark_app_opts.bus");
    if (hark_bus_info_get(app->bus, &info) || !info.transactions)
        return hk_fail(ei, HARK_ENOTSUP,
                       "hark_idempotency needs a bus with transactions; take one on sqlite:");
    return HARK_OK;
}

static void free_state(void *ud)
{
    hk_idempotency *s = ud;
    hk_running_clear(&s->running);
    free(s);
}

static hark_err check(const hark_idempotency_opts *o, const char *header, hark_errinfo *ei)
{
    if (strlen(header) > HK_KEY_HEADER_MAX || !hk_token(header, strlen(header)))
        return hk_fail(
            ei, HARK_EINVAL,
            "hark_idempotency: '%.70s' is no header name; up to %d letters, digits and '-'", header,
            HK_KEY_HEADER_MAX);
    if (o->keep_ms < 0)
        return hk_fail(ei, HARK_EINVAL, "hark_idempotency: keep_ms is %lld; 1 or more, 0 = 24 h",
                       (long long)o->keep_ms);
    return HARK_OK;
}

static hk_idempotency *make(const hark_idempotency_opts *o, const char *header)
{
    hk_idempotency *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    if (hk_running_init(&s->running)) {
        free(s);
        return NULL;
    }
    memcpy(s->header, header, strlen(header) + 1);
    s->keep_ms = o->keep_ms ? o->keep_ms : INT64_C(24) * 3600 * 1000;
    s->max_bytes = o->max_bytes ? o->max_bytes : 1 << 20;
    s->required = o->required != 0;
    return s;
}

hark_middleware hark_idempotency(const hark_idempotency_opts *opts)
{
    hark_idempotency_opts o;
    hark_middleware mw = {.fn = run};
    hark_errinfo ei = {0};
    hark_err err = hk_opts_take(opts, &o, sizeof o, "hark_idempotency_opts", &ei);
    const char *header = o.header ? o.header : "Idempotency-Key";
    if (!err)
        err = check(&o, header, &ei);
    if (!err) {
        mw.ud = make(&o, header);
        mw.free_ud = mw.ud ? free_state : NULL;
        err = mw.ud ? HARK_OK : hk_fail(&ei, HARK_ENOMEM, "hark_idempotency: out of memory");
    }
    mw.err = err;
    (void)snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    return mw;
}
