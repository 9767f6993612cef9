/* The reply to a request with a key: storing it, and giving the stored one again. The functions
 * that take a hark_tx run in its closure, those for hark_ctx_transact on whatever thread has the
 * context then, and only hk_keyed_holds on the loop by itself. */
#include "http/middleware/idempotency_i.h"

#include <stdlib.h>
#include <string.h>

/* A client that is told to come again is not to get the same answer then. */
bool hk_reply_storable(const hark_ctx *c)
{
    if (c->reply.status < 400)
        return true;
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        if (strcasecmp(h->name, "Retry-After") == 0)
            return false;
    return c->reply.status < 500;
}

void hk_keyed_leave(hk_keyed *k)
{
    free(k->found);
    k->found = NULL;
    if (k->running)
        hk_running_leave(&k->of->running, k->running);
    k->running = NULL;
}

hark_err hk_keyed_refuse(hark_ctx *c)
{
    (void)hark_ctx_fail(c, HARK_EINTERNAL,
                        "%s %s carries an %s: publish inside hark_ctx_transact, so that the event "
                        "and the stored reply are one",
                        c->method, hark_ctx_route(c), c->keyed->of->header);
    return c->kept = HARK_EINVAL;
}

void hk_keyed_settled(hark_ctx *c)
{
    c->keyed->settled = true;
}

/* ---- giving it again ---- */

static bool named_before(const hk_stored *s, const char *upto, const char *name)
{
    for (const char *h = s->headers; h < upto;) {
        if (strcasecmp(h, name) == 0)
            return true;
        h += strlen(h) + 1;
        h += strlen(h) + 1;
    }
    return false;
}

static void give_headers(hark_ctx *c, const hk_stored *s)
{
    const char *h = s->headers;
    for (size_t i = 0; i < s->n_headers; i++) {
        const char *value = h + strlen(h) + 1;
        if (named_before(s, h, h))
            (void)hark_ctx_add_header(c, h, value);
        else
            (void)hark_ctx_set_header(c, h, value);
        h = value + strlen(value) + 1;
    }
    (void)hark_ctx_set_header(c, "Idempotent-Replay", "true");
}

static hark_err give(hk_keyed *k, const hk_stored *s)
{
    hark_ctx *c = k->c;
    const char *type = s->type[0] ? s->type : NULL;
    hk_headers_back(c, k->before);
    give_headers(c, s);
    void *heap = k->found;
    k->found = NULL; /* the body lies in it */
    return hk_reply_set(c, s->status, type, s->body, s->len, heap);
}

hark_err hk_keyed_replay(hk_keyed *k)
{
    hark_ctx *c = k->c;
    hark_errinfo ei = {0};
    hk_stored s;
    k->settled = true;
    hark_err err = hk_stored_read(k->found, k->found_len, &s, &ei);
    if (err)
        return hark_ctx_fail(c, err, "%s: %s", k->of->header, ei.text);
    if (memcmp(s.digest, k->digest, sizeof k->digest) == 0)
        return give(k, &s);
    hk_headers_back(c, k->before);
    return hark_ctx_problem(c, 422, NULL, "the key was used for another request to this path");
}

/* ---- storing it ---- */

void hk_keyed_begin(hark_ctx *c)
{
    hk_keyed *k = c->keyed;
    free(k->found);
    k->found = NULL;
}

static hark_err keep(hk_keyed *k, hark_tx *tx, const hk_buf *b)
{
    if (b->failed)
        return HARK_ENOMEM;
    hark_err err = hark_tx_keep(tx, k->name, b->data, b->len, k->of->keep_ms);
    if (err != HARK_EEXIST)
        return err;
    err = hark_tx_kept(tx, k->name, &k->found, &k->found_len);
    if (err == HARK_ENOTFOUND) /* it has expired in between */
        return HARK_EAGAIN;
    return err ? err : HARK_EEXIST;
}

hark_err hk_keyed_keep(hark_ctx *c, hark_tx *tx)
{
    hk_keyed *k = c->keyed;
    hk_buf b = {0};
    if (c->reply.fd >= 0)
        return hark_tx_fail(tx, HARK_EINTERNAL,
                            "%s %s carries an %s: the reply is a file, which cannot be stored; "
                            "reply with hark_ctx_bytes",
                            c->method, hark_ctx_route(c), k->of->header);
    if (c->reply.len > k->of->max_bytes)
        return hark_tx_fail(tx, HARK_EINTERNAL,
                            "%s %s carries an %s: the reply has %zu bytes and cannot be stored; "
                            "max_bytes of hark_idempotency is %zu",
                            c->method, hark_ctx_route(c), k->of->header, c->reply.len,
                            k->of->max_bytes);
    hk_stored_write(&b, c, k->before, k->digest);
    hark_err err = keep(k, tx, &b);
    hk_buf_free(&b);
    return err;
}

bool hk_keyed_first(hark_ctx *c, hark_err err)
{
    hk_keyed *k = c->keyed;
    if (err != HARK_EEXIST || !k->found)
        return false;
    err = hk_keyed_replay(k);
    if (err)
        hk_problem_for(c, err);
    return true;
}

/* ---- storing it on its way out ---- */

static hark_err store(hark_tx *tx, void *ud)
{
    hk_keyed *k = ud;
    hk_keyed_begin(k->c);
    return hk_keyed_keep(k->c, tx);
}

/* The reply is worth nothing if a repeat could get another. What is no fault of the client's must
 * not look like one. */
static void not_stored(hk_keyed *k, hark_err err, const hark_errinfo *ei)
{
    hark_ctx *c = k->c;
    if (hark_err_http(err) < 500)
        err = HARK_EINTERNAL;
    hk_headers_back(c, k->before);
    if (err == HARK_EINTERNAL)
        (void)hark_ctx_fail(c, err, "%s", hk_err_says(err, ei));
    else
        (void)hark_ctx_fail(c, err, "the reply was not stored: %s", hark_err_text(err));
    hk_problem_for(c, err);
}

static void stored(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    hk_keyed *k = ud;
    (void)last;
    if (err && !hk_keyed_first(k->c, err))
        not_stored(k, err, ei);
    hark_ctx_resume(k->c, HARK_OK);
}

static bool start_storing(hk_keyed *k)
{
    hark_ctx *c = k->c;
    hark_errinfo ei = {0};
    c->deferred = c->away = true;
    hark_err err = hk_app_transact(c->app, store, stored, k, HK_KEYED_TX, &ei);
    if (!err)
        return true;
    c->deferred = c->away = false;
    not_stored(k, err, &ei);
    return false;
}

/* What middleware has answered in the handler's place (no credentials, too many requests) may be
 * answered otherwise the next time. */
static bool handled(const hk_keyed *k)
{
    return k->asked && k->c->at == k->c->chain->n;
}

bool hk_keyed_holds(hark_ctx *c)
{
    hk_keyed *k = c->keyed;
    if (handled(k) && !k->settled && !c->loop->dead) {
        k->settled = true;
        hk_ctx_compose(c);
        if (hk_reply_storable(c) && start_storing(k))
            return true;
    }
    hk_keyed_leave(k);
    return false;
}
