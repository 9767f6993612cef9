/* timeout: an answer in the handler's place when it takes too long. The timer belongs to the loop;
 * what it needs of the request is written down beforehand, because somebody else may hold the
 * context when it fires. */
#include "http/http_i.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct state {
    int64_t ms;
    int status;
} state;

static hark_err run(hark_ctx *c, void *ud)
{
    const state *s = ud;
    if (c->deadline_id) /* an outer one counts */
        return hark_ctx_next(c);
    c->deadline_id = hark_ctx_request_id(c);
    c->deadline_status = s->status;
    c->deadline_ms = hk_mono_ms() + s->ms;
    if (hk_role_get() == HK_ROLE_LOOP)
        hk_loop_timer_add(c->loop, c);
    else
        hk_loop_post(c->loop, &c->timer_mail);
    return hark_ctx_next(c);
}

hark_middleware hark_timeout(const hark_timeout_opts *opts)
{
    hark_timeout_opts o;
    hark_middleware mw = {.fn = run, .free_ud = free};
    hark_errinfo ei = {0};
    mw.err = hk_opts_take(opts, &o, sizeof o, "hark_timeout_opts", &ei);
    if (!mw.err && (o.ms < 0 || (o.status && o.status != 503 && o.status != 504)))
        mw.err = hk_fail(&ei, HARK_EINVAL, "hark_timeout: ms is negative or status not 503 or 504");
    snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    state *s = mw.err ? NULL : calloc(1, sizeof *s);
    if (!s) {
        mw.err = mw.err ? mw.err : HARK_ENOMEM;
        return mw;
    }
    s->ms = o.ms ? o.ms : 30000;
    s->status = o.status ? (int)o.status : 503;
    mw.ud = s;
    return mw;
}
