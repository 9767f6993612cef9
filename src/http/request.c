/* The life of a context, from the request line to the last byte of the reply. All of it runs on the
 * connection's loop but the chain of a blocking route. A context ends when both the connection and
 * everybody who may still call in (worker, holder, receipts) are done with it. */
#include "http/http_i.h"
#include "http/keyed_i.h"
#include "http/stream_i.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { FREE_CTX_MAX = 256 };

/* ---- begin ---- */

static void live_add(hk_loop *l, hark_ctx *c)
{
    c->next = l->live;
    if (c->next)
        c->next->prev = c;
    l->live = c;
    l->n_live++;
}

static void live_drop(hk_loop *l, hark_ctx *c)
{
    if (c->prev)
        c->prev->next = c->next;
    else
        l->live = c->next;
    if (c->next)
        c->next->prev = c->prev;
    l->n_live--;
}

static hark_ctx *ctx_take(hk_loop *l)
{
    hark_ctx *c = l->free_ctx;
    hk_buf body = {0};
    if (c) {
        l->free_ctx = c->next;
        l->n_free_ctx--;
        body = c->body;
    } else {
        c = malloc(HK_CTX_BLOCK);
        if (!c)
            return NULL;
    }
    memset(c, 0, offsetof(hark_ctx, path));
    c->body = body;
    c->path.n = c->path.len = 0;
    return c;
}

static void on_work_done(hk_loop *l, hk_mail *m);
static void on_timer_mail(hk_loop *l, hk_mail *m);

hark_ctx *hk_ctx_new(hk_conn *k)
{
    hk_loop *l = k->loop;
    hark_ctx *c = ctx_take(l);
    if (!c)
        return NULL;
    hk_arena_init(&c->arena, c + 1, HK_CTX_BLOCK - sizeof *c);
    c->loop = l;
    c->app = l->app;
    c->conn = k;
    c->peer = k->peer;
    c->method = "";
    c->path.text = "";
    c->reply.fd = -1;
    c->work_mail.fn = on_work_done;
    c->resume_mail.fn = hk_ctx_resumed;
    c->timer_mail.fn = on_timer_mail;
    c->started_ns = hk_wall_ns();
    c->started_mono_ns = hk_mono_ns();
    live_add(l, c);
    return c;
}

/* ---- end ---- */

static void clean(hark_ctx *c)
{
    for (hk_bound *b = c->bound; b; b = b->next)
        hark_json_free(b->table, b->copy);
    if (c->loop->dead && c->reply.stream) { /* the lock is held, and it calls its owner */
        c->reply.stream->next = c->loop->unopened;
        c->loop->unopened = c->reply.stream;
        c->reply.stream = NULL;
    }
    hk_reply_clear(&c->reply);
    hk_arena_reset(&c->arena);
    if (c->body.cap > HK_BODY_KEEP)
        hk_buf_free(&c->body);
    else
        hk_buf_clear(&c->body);
}

static void ctx_free(hark_ctx *c)
{
    hk_buf_free(&c->body);
    free(c);
}

static void release(hark_ctx *c)
{
    hk_loop *l = c->loop;
    for (hk_hook *h = l->daemon ? c->done_hooks : NULL; h; h = h->next)
        h->done(c, &c->outcome, h->ud);
    live_drop(l, c);
    clean(c);
    if (l->daemon && l->n_free_ctx < FREE_CTX_MAX) {
        c->next = l->free_ctx;
        l->free_ctx = c;
        l->n_free_ctx++;
        return;
    }
    ctx_free(c);
    if (l->dead)
        l->orphans_done++;
}

void hk_ctx_free_all(hk_loop *l)
{
    for (hark_ctx *c = l->free_ctx, *next; c; c = next) {
        next = c->next;
        ctx_free(c);
    }
    l->free_ctx = NULL;
}

static bool busy(const hark_ctx *c)
{
    return hk_ctx_held(c) || c->open_pubs > 0;
}

void hk_ctx_done(hark_ctx *c, bool complete)
{
    hk_loop_timer_drop(c->loop, c);
    c->conn = NULL;
    c->outcome.size = sizeof c->outcome;
    c->outcome.complete = complete;
    c->outcome.duration_ns = hk_mono_ns() - c->started_mono_ns;
    hk_count_bump(&c->loop->counts.requests, 1);
    if (busy(c))
        c->detached = true;
    else
        release(c);
}

/* ---- the reply goes out ---- */

static void give(hark_ctx *c, struct MHD_Response *r, int status, uint64_t bytes)
{
    hk_conn *k = c->conn;
    bool given = r && MHD_queue_response(k->mhd, (unsigned)status, r) == MHD_YES;
    if (r)
        MHD_destroy_response(r);
    c->queued = true;
    hk_conn_stage(k, HK_STAGE_SEND, bytes);
    if (given) {
        c->outcome.status = status;
        c->outcome.bytes = c->method_id == HK_HEAD ? 0 : bytes;
    } else {
        (void)shutdown(k->fd, SHUT_RDWR);
    }
    if (!c->suspended)
        return;
    c->suspended = false;
    MHD_resume_connection(k->mhd);
}

static void send_reply(hark_ctx *c)
{
    hk_ctx_say_published(c);
    for (hk_hook *h = c->reply_hooks; h; h = h->next)
        h->reply(c, c->reply.status, h->ud);
    if (c->reply.stream) {
        hk_stream_begin(c);
        return;
    }
    if (c->loop->stopping)
        c->close = true;
    struct MHD_Response *r = hk_reply_make(c);
    give(c, r, c->reply.status, c->reply.len);
}

static hark_err verdict(const hark_ctx *c)
{
    if (c->kept)
        return c->kept == HARK_ENOMEM ? HARK_ENOMEM : HARK_EINTERNAL;
    if (c->err)
        return c->err;
    if (c->pub_err)
        return c->pub_err;
    return c->reply.status ? HARK_OK : HARK_EINTERNAL;
}

void hk_ctx_compose(hark_ctx *c)
{
    hark_err err = verdict(c);
    if (err == HARK_EINTERNAL && !c->detail)
        (void)hark_ctx_fail(c, err, "no reply was set for %s %s", c->method, hark_ctx_route(c));
    if (err)
        hk_problem_for(c, err);
    c->err = c->pub_err = c->kept = HARK_OK;
}

static void finish(hark_ctx *c)
{
    if (c->keyed && hk_keyed_holds(c))
        return;
    if (c->detached) {
        if (!c->conn)
            release(c);
        return;
    }
    hk_ctx_compose(c);
    send_reply(c);
}

void hk_ctx_settle(hark_ctx *c)
{
    while (!hk_ctx_held(c)) {
        hk_pub *p = c->early;
        if (!p)
            break;
        c->early = p->next;
        hk_pub_apply(c, p);
        c->away = c->deferred;
    }
    if (!busy(c))
        finish(c);
}

void hk_ctx_refuse(hark_ctx *c, int status, const char *why)
{
    c->ran = true;
    c->conn->linger = true;
    hk_log(HK_DEBUG, "http: refused with %d: %s", status, why);
    (void)hark_ctx_problem(c, status, NULL, why);
    c->close = true;
    struct MHD_Response *r = hk_reply_make(c);
    give(c, r, status, c->reply.len);
}

/* ---- the chain ---- */

hark_err hark_ctx_next(hark_ctx *c)
{
    if (c->at >= c->chain->n)
        return hark_ctx_fail(c, HARK_EINTERNAL, "hark_ctx_next was called twice");
    const hk_link *link = &c->chain->links[c->at++];
    return link->fn(c, link->ud);
}

void hk_ctx_chain(hark_ctx *c)
{
    hark_http_fn fn = c->go_on;
    c->go_on = NULL;
    c->err = fn ? fn(c, c->go_on_ud) : hark_ctx_next(c);
}

void hk_ctx_go_on(hark_ctx *c)
{
    if (c->route && c->route->blocking) {
        c->on_worker = true;
        if (hk_workers_push(&c->app->workers, c))
            return;
        c->on_worker = false;
        c->err = hark_ctx_fail(c, HARK_EAGAIN, "too many requests wait for a worker");
    } else {
        hk_ctx_chain(c);
        c->away = c->deferred;
    }
    hk_ctx_settle(c);
}

void hk_ctx_run(hark_ctx *c)
{
    c->ran = true;
    hk_conn_stage(c->conn, HK_STAGE_RUN, 0);
    hk_ctx_go_on(c);
}

static void on_work_done(hk_loop *l, hk_mail *m)
{
    hark_ctx *c = (hark_ctx *)((char *)m - offsetof(hark_ctx, work_mail));
    (void)l;
    c->on_worker = false;
    c->away = c->deferred;
    if (c->resumed) {
        c->resumed = false;
        hk_ctx_resumed(l, &c->resume_mail);
        return;
    }
    hk_ctx_settle(c);
}

/* ---- in the handler's place ---- */

void hk_ctx_detach(hark_ctx *c)
{
    if (!c->conn || !c->suspended)
        return;
    c->detached = true;
    c->suspended = false;
    hk_loop_timer_drop(c->loop, c);
    MHD_resume_connection(c->conn->mhd); /* on_request then ends it */
}

static void on_timer_mail(hk_loop *l, hk_mail *m)
{
    hark_ctx *c = (hark_ctx *)((char *)m - offsetof(hark_ctx, timer_mail));
    if (l->daemon && c->conn && !c->queued)
        hk_loop_timer_add(l, c);
}

/* Reads only what cannot change any more: somebody else may be writing the rest. */
void hk_ctx_expire(hark_ctx *c)
{
    hk_buf b = {0};
    if (!c->conn || !c->suspended)
        return;
    hk_problem_write(&b, c->deadline_status, NULL, "the request took too long", c->deadline_id,
                     NULL);
    struct MHD_Response *r =
        b.failed ? NULL : MHD_create_response_from_buffer(b.len, b.data, MHD_RESPMEM_MUST_COPY);
    if (r) {
        MHD_add_response_header(r, "Content-Type", "application/problem+json");
        MHD_add_response_header(r, "X-Request-Id", c->deadline_id);
        if (c->loop->stopping)
            MHD_add_response_header(r, "Connection", "close");
    }
    c->detached = true;
    give(c, r, c->deadline_status, b.len);
    hk_buf_free(&b);
}
