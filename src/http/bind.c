/* JSON bodies into C structs; every fault goes into the `errors` of the problem document. */
#include "http/http_i.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "application/json", "application/problem+json", with parameters or without. */
static bool json_type(const char *type)
{
    size_t len = strcspn(type, ";");
    while (len && (type[len - 1] == ' ' || type[len - 1] == '\t'))
        len--;
    if (len == 16 && strncasecmp(type, "application/json", 16) == 0)
        return true;
    return len > 5 && memchr(type, '/', len) && strncasecmp(type + len - 5, "+json", 5) == 0;
}

static hark_err check_type(hark_ctx *c)
{
    const char *type = hark_ctx_header(c, "Content-Type");
    if (!type)
        return hark_ctx_fail(c, HARK_EMEDIA, "a body needs Content-Type: application/json");
    if (!json_type(type))
        return hark_ctx_fail(c, HARK_EMEDIA, "Content-Type is %.100s, expected application/json",
                             type);
    return HARK_OK;
}

/* "$.items[2].sku" as a JSON Pointer (RFC 6901): "/items/2/sku". Quoted names are left out. */
static void add_pointer(hk_buf *b, const char *path)
{
    hk_buf_adds(b, ",\"pointer\":\"#");
    for (const char *s = *path == '$' ? path + 1 : path; *s; s++) {
        if (*s == '.' || *s == '[')
            hk_buf_addc(b, '/');
        else if (*s == '~')
            hk_buf_adds(b, "~0");
        else if (*s != ']' && (unsigned char)*s > ' ' && *s != '"' && *s != '\\')
            hk_buf_addc(b, *s);
    }
    hk_buf_addc(b, '"');
}

static void add_fault(hk_buf *b, const hark_json_error *e)
{
    hk_buf_adds(b, b->len > 1 ? ",{\"path\":" : "{\"path\":");
    hk_buf_add_json_string(b, e->path, hk_utf8_valid(e->path, strlen(e->path)));
    if (!strchr(e->path, '"'))
        add_pointer(b, e->path);
    hk_buf_adds(b, ",\"detail\":");
    hk_buf_add_json_string(b, e->text, hk_utf8_valid(e->text, strlen(e->text)));
    if (*e->rule) /* found by decoding */
        hk_buf_addf(b, ",\"rule\":\"%s\",\"offset\":%llu", e->rule, (unsigned long long)e->offset);
    hk_buf_addc(b, '}');
}

/* For the error that hark_ctx_fail was called with just now. */
static void set_faults(hark_ctx *c, const hark_json_error *list, size_t n)
{
    hk_buf b = {0};
    hk_buf_addc(&b, '[');
    for (size_t i = 0; i < n; i++)
        add_fault(&b, &list[i]);
    hk_buf_addc(&b, ']');
    c->faults = b.failed ? NULL : hk_arena_copy(&c->arena, b.data, b.len);
    hk_buf_free(&b);
}

static hark_err report(hark_ctx *c, hark_err err, const hark_json_errors *errors)
{
    const hark_json_error *e = &errors->list[0];
    size_t all = errors->count + errors->more;
    if (!errors->count)
        return hark_ctx_fail(c, err, "the body: %s", hark_err_text(err));
    if (all == 1)
        (void)hark_ctx_fail(c, err, "the body: %s %s", e->path, e->text);
    else
        (void)hark_ctx_fail(c, err, "the body has %zu faults; the first: %s %s", all, e->path,
                            e->text);
    set_faults(c, errors->list, errors->count);
    return err;
}

hark_err hark_ctx_fail_at(hark_ctx *c, hark_err err, const char *path, const char *fmt, ...)
{
    va_list ap;
    hark_json_error e = {.rule = ""};
    snprintf(e.path, sizeof e.path, "%s", path);
    va_start(ap, fmt);
    vsnprintf(e.text, sizeof e.text, fmt, ap);
    va_end(ap);
    (void)hark_ctx_fail(c, err, "the body: %s %s", e.path, e.text);
    set_faults(c, &e, 1);
    return err;
}

/* A flat copy of the struct keeps track of what the request has to free. */
static hark_err own(hark_ctx *c, const hark_json_table *table, void *ret_struct)
{
    hk_bound *b = hk_arena_alloc(&c->arena, sizeof *b);
    void *copy = hk_arena_alloc(&c->arena, table->struct_size);
    if (!b || !copy) {
        hark_json_free(table, ret_struct);
        return HARK_ENOMEM;
    }
    memcpy(copy, ret_struct, table->struct_size);
    *b = (hk_bound){c->bound, table, copy};
    c->bound = b;
    return HARK_OK;
}

hark_err hark_ctx_bind(hark_ctx *c, const hark_json_table *table, void *ret_struct)
{
    if (c->body.len == 0)
        return hark_ctx_fail(c, HARK_ESYNTAX, "the body is empty, expected a JSON document");
    hark_err err = check_type(c);
    if (err)
        return err;
    err = hark_json_decode(table, c->body.data, c->body.len, ret_struct, NULL);
    if (!err)
        return own(c, table, ret_struct);
    if (err == HARK_EINVAL)
        return hark_ctx_fail(c, HARK_EINTERNAL, "the field table cannot be used");
    /* Again, for the list of faults, which is too large to have ready for each request. */
    hark_json_errors *errors = hk_arena_alloc(&c->arena, sizeof *errors);
    if (!errors)
        return HARK_ENOMEM;
    err = hark_json_decode(table, c->body.data, c->body.len, ret_struct, errors);
    return err ? report(c, err, errors) : own(c, table, ret_struct);
}

hark_err hark_ctx_bind_optional(hark_ctx *c, const hark_json_table *table, void *ret_struct)
{
    return c->body.len ? hark_ctx_bind(c, table, ret_struct) : HARK_OK;
}

hark_err hark_ctx_query_int(hark_ctx *c, const char *name, int64_t min, int64_t max, int64_t *ret)
{
    char *end;
    const char *text = hark_ctx_query(c, name);
    if (!text)
        return HARK_OK;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (*end || end == text || errno || isspace((unsigned char)*text) || n < min || n > max)
        return hark_ctx_fail(c, HARK_EINVAL,
                             "the query's %s is \"%.60s\", expected a whole number from %" PRId64
                             " to %" PRId64,
                             name, text, min, max);
    *ret = n;
    return HARK_OK;
}
