/* request_id: each request has an id, the client's if it is sane, and the reply carries it. */
#include "http/http_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct state {
    char header[64];
    bool ignore;
} state;

static bool sane(const char *id)
{
    size_t len = strlen(id);
    for (size_t i = 0; i < len; i++) {
        char ch = id[i];
        bool ok = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                  (ch >= '0' && ch <= '9') || strchr("._:/+=-", ch);
        if (!ok)
            return false;
    }
    return len >= 1 && len <= 128;
}

static hark_err run(hark_ctx *c, void *ud)
{
    const state *s = ud;
    const char *id = s->ignore ? NULL : hark_ctx_header(c, s->header);
    if (id && sane(id))
        c->request_id = id;
    (void)hark_ctx_set_header(c, s->header, hark_ctx_request_id(c));
    return hark_ctx_next(c);
}

hark_middleware hark_request_id(const hark_request_id_opts *opts)
{
    hark_request_id_opts o;
    hark_middleware mw = {.fn = run, .free_ud = free};
    hark_errinfo ei = {0};
    mw.err = hk_opts_take(opts, &o, sizeof o, "hark_request_id_opts", &ei);
    const char *header = o.header ? o.header : "X-Request-Id";
    if (!mw.err && (strlen(header) > 63 || !hk_token(header, strlen(header))))
        mw.err = hk_fail(&ei, HARK_EINVAL, "hark_request_id: '%.70s' is no header name", header);
    snprintf(mw.text, sizeof mw.text, "%.199s", ei.text);
    state *s = mw.err ? NULL : calloc(1, sizeof *s);
    if (!s) {
        mw.err = mw.err ? mw.err : HARK_ENOMEM;
        return mw;
    }
    memcpy(s->header, header, strlen(header) + 1);
    s->ignore = o.ignore != 0;
    mw.ud = s;
    return mw;
}
