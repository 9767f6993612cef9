/* A reply as hark_idempotency stores it. Version 1, numbers big-endian:
 *     1 byte   the version
 *    16 bytes  digest of the request
 *     2 bytes  status, 2 bytes number of headers, 8 bytes length of the body
 *              content type and a NUL (nothing but the NUL: none)
 *              for each header its name and a NUL, its value and a NUL
 *              the body
 * What is read was perhaps written by another version, or damaged: nothing of it is trusted. */
#include "http/middleware/idempotency_i.h"

#include <string.h>

enum { VERSION = 1, FIXED = 1 + 16 + 2 + 2 + 8, HEADERS_MAX = 1000 };

static void put_number(hk_buf *b, uint64_t n, unsigned bytes)
{
    while (bytes--)
        hk_buf_addc(b, (char)(n >> (8 * bytes) & 0xff));
}

static void put_text(hk_buf *b, const char *s)
{
    hk_buf_add(b, s, strlen(s) + 1);
}

void hk_stored_write(hk_buf *b, const hark_ctx *c, const hk_noted *before, const uint8_t digest[16])
{
    uint64_t n = 0;
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        n += !hk_headers_noted(before, h);
    put_number(b, VERSION, 1);
    hk_buf_add(b, digest, 16);
    put_number(b, (uint64_t)c->reply.status, 2);
    put_number(b, n, 2);
    put_number(b, c->reply.len, 8);
    put_text(b, c->reply.content_type ? c->reply.content_type : "");
    for (const hk_out_header *h = c->out_headers; h; h = h->next)
        if (!hk_headers_noted(before, h)) {
            put_text(b, h->name);
            put_text(b, h->value);
        }
    hk_buf_add(b, c->reply.body, c->reply.len);
    if (n > HEADERS_MAX)
        b->failed = true;
}

/* ---- reading ---- */

typedef struct input {
    const uint8_t *at;
    size_t left;
} input;

static uint64_t number(input *in, unsigned bytes)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < bytes; i++)
        n = n << 8 | in->at[i];
    in->at += bytes;
    in->left -= bytes;
    return n;
}

static const char *text(input *in)
{
    const char *s = (const char *)in->at;
    const uint8_t *end = in->left ? memchr(in->at, 0, in->left) : NULL;
    if (!end || !hk_field_value(s, (size_t)(end - in->at)))
        return NULL;
    in->left -= (size_t)(end - in->at) + 1;
    in->at = end + 1;
    return s;
}

static bool headers(input *in, hk_stored *ret)
{
    ret->headers = (const char *)in->at;
    for (size_t i = 0; i < ret->n_headers; i++) {
        const char *name = text(in);
        if (!name || !hk_token(name, strlen(name)) || !text(in))
            return false;
    }
    return true;
}

static bool whole(input *in, hk_stored *ret)
{
    ret->digest = in->at;
    in->at += 16;
    in->left -= 16;
    ret->status = (int)number(in, 2);
    ret->n_headers = (size_t)number(in, 2);
    uint64_t len = number(in, 8);
    ret->type = text(in);
    if (!ret->type || ret->status < 200 || ret->status > 599 || ret->n_headers > HEADERS_MAX ||
        !headers(in, ret) || len != in->left)
        return false;
    ret->body = in->at;
    ret->len = in->left;
    return true;
}

hark_err hk_stored_read(const void *data, size_t len, hk_stored *ret, hark_errinfo *ei)
{
    input in = {data, len};
    *ret = (hk_stored){0};
    if (len < FIXED)
        return hk_fail(ei, HARK_EFORMAT, "a stored reply of %zu bytes, too short to be one", len);
    uint64_t version = number(&in, 1);
    if (version != VERSION)
        return hk_fail(ei, HARK_EFORMAT, "a stored reply of version %u; this library reads %d",
                       (unsigned)version, VERSION);
    if (!whole(&in, ret))
        return hk_fail(ei, HARK_EFORMAT, "a stored reply that is damaged");
    return HARK_OK;
}
