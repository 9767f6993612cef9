/* Problem documents (RFC 9457): what an error looks like to a client. */
#include "http/http_i.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *hk_status_text(int status)
{
    switch (status) {
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 415:
        return "Unsupported Media Type";
    case 422:
        return "Unprocessable Content";
    case 424:
        return "Failed Dependency";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 499:
        return "Client Closed Request";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    case 507:
        return "Insufficient Storage";
    default:
        return status < 500 ? "Client Error" : "Server Error";
    }
}

static void member(hk_buf *b, const char *name, const char *value)
{
    if (!value || !*value)
        return;
    hk_buf_addf(b, ",\"%s\":", name);
    hk_buf_add_json_string(b, value, hk_utf8_valid(value, strlen(value)));
}

size_t hk_problem_write(hk_buf *b, int status, const char *title, const char *detail,
                        const char *request_id, const char *faults)
{
    hk_buf_adds(b, "{\"type\":\"about:blank\"");
    member(b, "title", title ? title : hk_status_text(status));
    hk_buf_addf(b, ",\"status\":%d", status);
    member(b, "detail", detail);
    member(b, "requestid", request_id);
    if (faults)
        hk_buf_addf(b, ",\"errors\":%s", faults);
    hk_buf_addc(b, '}');
    return b->len;
}

static hark_err set_problem(hark_ctx *c, int status, const char *title, const char *detail,
                            const char *faults)
{
    hk_buf b = {0};
    hk_problem_write(&b, status, title, detail, c->request_id, faults);
    size_t len;
    char *text = hk_buf_steal(&b, &len);
    if (!text)
        return c->kept = HARK_ENOMEM;
    return hk_reply_set(c, status, "application/problem+json", text, len, text);
}

hark_err hark_ctx_problem(hark_ctx *c, int status, const char *title, const char *detail)
{
    return set_problem(c, status, title, detail, NULL);
}

hark_err hark_ctx_fail(hark_ctx *c, hark_err err, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    c->detail = hk_arena_copy(&c->arena, text, strlen(text));
    c->detail_of = err;
    c->faults = NULL; /* those of another error */
    return err;
}

/* The detail of a fault of our own is for the log, not for the client. */
static const char *detail_for(hark_ctx *c, hark_err err, int status)
{
    const char *detail = c->detail && c->detail_of == err ? c->detail : hark_err_text(err);
    if (status != 500)
        return detail;
    hk_log(HK_ERROR, "%s %s: %s: %s", c->method, c->path.text, hark_err_name(err), detail);
    return NULL;
}

hark_err hark_ctx_problem_of(hark_ctx *c, hark_err err)
{
    int status = hark_err_http(err);
    const char *detail = detail_for(c, err, status);
    const char *faults = c->detail_of == err && status != 500 ? c->faults : NULL;
    hark_err e = set_problem(c, status, NULL, detail, faults);
    if (!e && (status == 503 || status == 507))
        e = hark_ctx_set_header(c, "Retry-After", "1");
    return e;
}

void hk_problem_bare(hark_ctx *c)
{
    static const char bare[] = "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\","
                               "\"status\":503,\"detail\":\"out of memory\"}";
    (void)hk_reply_set(c, 503, "application/problem+json", bare, sizeof bare - 1, NULL);
}

/* The last resort: nothing here may fail for want of memory. */
void hk_problem_for(hark_ctx *c, hark_err err)
{
    c->kept = HARK_OK;
    if (hark_ctx_problem_of(c, err) || c->reply.status == 0)
        hk_problem_bare(c);
}
