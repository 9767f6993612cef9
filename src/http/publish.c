/* Publishing from a request, and replies that come later. A receipt arrives on the writer's thread
 * and travels to the request's loop; if the context is held by a worker or a deferred holder then,
 * it waits until it is given back. */
#include "http/http_i.h"
#include "http/keyed_i.h"

#include <stdlib.h>
#include <string.h>

void hk_ctx_published(hark_ctx *c, const hark_receipt *receipt)
{
    if (receipt->sequence > c->published)
        c->published = receipt->sequence;
}

void hk_ctx_say_published(hark_ctx *c)
{
    char cursor[HARK_CURSOR_TEXT];
    if (!c->published)
        return;
    hark_cursor_format(hark_ctx_bus(c), c->published, cursor);
    (void)hark_ctx_set_header(c, "Hark-Seq", cursor);
}

/* The outcome of a publish takes effect: on the loop, or in the call itself with `memory:`. */
void hk_pub_apply(hark_ctx *c, hk_pub *p)
{
    c->open_pubs--;
    if (c->loop->dead)
        return;
    if (!p->err)
        hk_ctx_published(c, &p->receipt);
    if (p->fn) {
        hark_err err = p->fn(c, p->err, p->err ? NULL : &p->receipt, p->ud);
        if (err && !c->err)
            c->err = err;
    } else if (p->err && !c->pub_err) {
        c->pub_err = p->err;
        (void)hark_ctx_fail(c, p->err, "the event was not published: %s", hark_err_text(p->err));
    }
}

static void on_receipt(hk_loop *l, hk_mail *m)
{
    hk_pub *p = (hk_pub *)(void *)m;
    hark_ctx *c = p->c;
    (void)l;
    hk_pub **tail = &c->early;
    while (*tail)
        tail = &(*tail)->next;
    p->next = NULL;
    *tail = p;
    hk_ctx_settle(c);
}

static void on_published(hark_err err, const hark_receipt *receipt, void *ud)
{
    hk_pub *p = ud;
    p->err = err;
    if (!err && receipt)
        p->receipt = *receipt;
    if (pthread_equal(p->caller, pthread_self()) && p->inside) {
        p->came = true;
        return;
    }
    hk_loop_post(p->c->loop, &p->mail);
}

static hark_err take_spec(hark_ctx *c, const hark_event_spec *spec, hark_event_spec *ret)
{
    hark_errinfo ei = {0};
    hark_err err = hk_opts_take(spec, ret, sizeof *ret, "hark_event_spec", &ei);
    if (err)
        return hark_ctx_fail(c, HARK_EINTERNAL, "%s", ei.text);
    if (!ret->correlationid)
        ret->correlationid = hark_ctx_request_id(c);
    if (!ret->causationid)
        ret->causationid = hark_ctx_request_id(c);
    return HARK_OK;
}

static hark_err start(hark_ctx *c, hk_pub *p, const hark_event_spec *spec)
{
    c->open_pubs++;
    p->inside = true;
    hark_err err = hk_app_publish(c->app, spec, on_published, p);
    if (err) {
        c->open_pubs--;
        return hark_ctx_fail(c, err, "the event was not published: %s", hark_err_text(err));
    }
    p->inside = false;
    if (p->came)
        hk_pub_apply(c, p);
    return HARK_OK;
}

hark_err hark_ctx_publish_then(hark_ctx *c, const hark_event_spec *spec, hark_ctx_published_fn fn,
                               void *ud)
{
    hark_event_spec full;
    if (c->keyed)
        return hk_keyed_refuse(c);
    if (!c->app->has_bus)
        return hark_ctx_fail(c, HARK_ENOTSUP, "the app has no bus to publish on");
    hark_err err = take_spec(c, spec, &full);
    if (err)
        return err;
    hk_pub *p = hk_arena_alloc(&c->arena, sizeof *p);
    if (!p)
        return HARK_ENOMEM;
    memset(p, 0, sizeof *p);
    p->mail.fn = on_receipt;
    p->c = c;
    p->fn = fn;
    p->ud = ud;
    p->caller = pthread_self();
    return start(c, p, &full);
}

hark_err hark_ctx_publish(hark_ctx *c, const hark_event_spec *spec)
{
    return hark_ctx_publish_then(c, spec, NULL, NULL);
}

hark_err hark_ctx_publish_json(hark_ctx *c, const hark_event_spec *spec,
                               const hark_json_table *table, const void *from)
{
    hark_event_spec s;
    hark_errinfo ei = {0};
    char *json = NULL;
    hark_err err = hk_opts_take(spec, &s, sizeof s, "hark_event_spec", &ei);
    if (!err && (s.json || s.data || s.data_len))
        err = hk_fail(&ei, HARK_EINVAL,
                      "the spec has data of its own; leave out .json and .data, the struct is "
                      "the data");
    if (!err && !hark_media_is_json(s.datacontenttype))
        err = hk_fail(&ei, HARK_EINVAL, "datacontenttype is '%.80s', but the struct becomes JSON",
                      s.datacontenttype);
    if (!err)
        err = hark_json_encode(table, from, &json, NULL, &ei);
    if (err) /* the handler's fault, not the client's */
        return hark_ctx_fail(c, HARK_EINTERNAL, "the event was not published: %s", ei.text);
    s.json = json;
    err = hark_ctx_publish(c, &s);
    free(json);
    return err;
}

/* ---- deferring ---- */

hark_err hark_ctx_defer(hark_ctx *c)
{
    if (c->deferred)
        return hark_ctx_fail(c, HARK_EINVAL, "the reply is deferred already");
    c->deferred = true;
    return HARK_OK;
}

void hk_ctx_resumed(hk_loop *l, hk_mail *m)
{
    hark_ctx *c = (hark_ctx *)((char *)m - offsetof(hark_ctx, resume_mail));
    (void)l;
    if (c->on_worker) { /* its handler has not returned yet */
        c->resumed = true;
        return;
    }
    c->deferred = false;
    c->away = false;
    if (c->go_on && !c->detached && !c->err) {
        hk_ctx_go_on(c);
        return;
    }
    if (c->resume_err && !c->err)
        c->err = c->resume_err;
    hk_ctx_settle(c);
}

void hark_ctx_resume(hark_ctx *c, hark_err err)
{
    c->resume_err = err;
    hk_loop_post(c->loop, &c->resume_mail);
}

static hark_err next_station(hark_ctx *c, void *ud)
{
    (void)ud;
    return hark_ctx_next(c);
}

void hark_ctx_continue(hark_ctx *c, hark_http_fn fn, void *ud)
{
    c->go_on = fn ? fn : next_station;
    c->go_on_ud = ud;
    hk_loop_post(c->loop, &c->resume_mail);
}
