/* A transaction of a request. The closure runs on the thread that writes the log and composes the
 * reply there, while the request is deferred: the loop leaves the context alone until it is given
 * back. What a run has composed is forgotten when it runs again or is undone. What hark_idempotency
 * stores with it is in middleware/idempotency.c. */
#include "http/keyed_i.h"

#include <string.h>

typedef struct work {
    hark_ctx *c;
    hark_ctx_tx_fn fn;
    void *ud;
    const char *request_id;
    const hk_noted *headers; /* as they were before the first run */
    bool as_composed;        /* undone, but the reply goes out as it is */
} work;

hark_err hk_app_transact(hark_app *app, hark_tx_fn fn, hark_transacted_fn done, void *ud,
                         const hark_tx_opts *opts, hark_errinfo *ei)
{
    pthread_rwlock_rdlock(&app->bus_lock);
    hark_err err = app->bus ? hark_transact_async(app->bus, fn, done, ud, opts, ei)
                            : hk_fail(ei, HARK_ECLOSED, "the app has been let go");
    pthread_rwlock_unlock(&app->bus_lock);
    return err;
}

static void forget(work *w)
{
    hark_ctx *c = w->c;
    w->as_composed = false;
    hk_reply_clear(&c->reply);
    hk_headers_back(c, w->headers);
    c->kept = HARK_OK;
    c->detail = NULL;
    c->faults = NULL;
    if (c->keyed)
        hk_keyed_begin(c);
}

/* With the reply goes the cursor of the last event, which is known now. */
static hark_err keep(hark_tx *tx, const hark_receipt *last, void *ud)
{
    hark_ctx *c = ((work *)ud)->c;
    char cursor[HARK_CURSOR_TEXT];
    if (last->sequence) {
        hark_cursor_format(hark_tx_bus(tx), last->sequence, cursor);
        (void)hark_ctx_set_header(c, "Hark-Seq", cursor);
    }
    return c->kept ? c->kept : hk_keyed_keep(c, tx);
}

/* The closure is content; is its reply fit to be sent? */
static hark_err judge(work *w, hark_tx *tx)
{
    hark_ctx *c = w->c;
    if (c->kept)
        return hark_tx_fail(tx, HARK_EINTERNAL, "the reply cannot be composed: %s",
                            c->detail ? c->detail : hark_err_text(c->kept));
    if (!c->reply.status)
        return hark_tx_fail(tx, HARK_EINTERNAL, "the transaction of %s %s composed no reply",
                            c->method, hark_ctx_route(c));
    if (c->whole && !hk_reply_storable(c)) {
        w->as_composed = true;
        return HARK_ECANCELED;
    }
    if (c->keyed)
        hark_tx_then(tx, keep, w);
    return HARK_OK;
}

static hark_err run(hark_tx *tx, void *ud)
{
    work *w = ud;
    forget(w);
    hark_tx_stamp(tx, w->request_id, w->request_id);
    hark_err err = w->fn(w->c, tx, w->ud);
    /* SQL that is denied, not what the client may not do */
    if (err == HARK_EDENIED && w->c->detail_of != err)
        return hark_tx_fail(tx, HARK_EINTERNAL, "%s", hark_tx_error(tx));
    return err ? err : judge(w, tx);
}

/* What of a text is a client's to see: not the program's SQL. */
static int shown(hark_err err, const char *text)
{
    const char *sql = err == HARK_ECONSTRAINT ? strstr(text, ", in: ") : NULL;
    return sql ? (int)(sql - text) : (int)strlen(text);
}

/* What the closure said of its own error counts; else what the transaction says, unless it is about
 * the store and of no use to a client. */
static void explain(work *w, hark_err err, const hark_errinfo *ei)
{
    hark_ctx *c = w->c;
    int status = hark_err_http(err);
    const char *own = c->detail_of == err ? c->detail : NULL;
    const char *faults = own ? c->faults : NULL;
    bool tell = status <= 500 || err == HARK_ENOTSUP || err == HARK_EDEADLINE;
    forget(w);
    if (own)
        (void)hark_ctx_fail(c, err, "%s", own);
    else if (tell)
        (void)hark_ctx_fail(c, err, "%.*s", shown(err, hk_err_says(err, ei)), hk_err_says(err, ei));
    else
        (void)hark_ctx_fail(c, err, "the transaction was not committed: %s", hark_err_text(err));
    c->faults = faults;
    if (!own && (!tell || err == HARK_ECONSTRAINT))
        hk_log(HK_WARN, "%s %s: %s: %s", c->method, c->path.text, hark_err_name(err),
               hk_err_says(err, ei));
}

static void done(hark_err err, const hark_receipt *last, const hark_errinfo *ei, void *ud)
{
    work *w = ud;
    hark_ctx *c = w->c;
    if (err == HARK_ECANCELED && w->as_composed) {
        err = HARK_OK;
        if (c->keyed)
            hk_keyed_settled(c);
    } else if (err && c->keyed && hk_keyed_first(c, err)) {
        err = HARK_OK;
    } else if (err) {
        explain(w, err, ei);
    } else {
        if (last && last->sequence)
            hk_ctx_published(c, last);
        if (c->keyed)
            hk_keyed_settled(c);
    }
    hark_ctx_resume(c, err);
}

hark_err hark_ctx_transact(hark_ctx *c, hark_ctx_tx_fn fn, void *ud, const hark_tx_opts *opts)
{
    hark_errinfo ei = {0};
    if (!fn)
        return hark_ctx_fail(c, HARK_EINVAL, "hark_ctx_transact: no closure");
    if (!c->app->has_bus)
        return hark_ctx_fail(c, HARK_ENOTSUP, "the app has no bus for a transaction");
    if (c->kept) /* the reply will be an error, so nothing may be committed */
        return c->kept;
    work *w = hk_arena_alloc(&c->arena, sizeof *w);
    hk_noted *headers = hk_headers_note(c);
    if (!w || !headers)
        return HARK_ENOMEM;
    *w = (work){c, fn, ud, hark_ctx_request_id(c), headers, false};
    hark_err err = hark_ctx_defer(c);
    if (err)
        return err;
    err = hk_app_transact(c->app, run, done, w, opts, &ei);
    if (!err)
        return HARK_OK;
    c->deferred = false;
    explain(w, err, &ei);
    return err;
}
