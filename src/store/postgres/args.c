/* args: the arguments of a statement in PostgreSQL's binary form, and columns of many rows as arrays.
 * Nothing is copied but numbers and arrays: the rest is borrowed until the statement was sent. */
#include "store/postgres/conn_i.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

enum { ARRAY_HEAD = 20 }; /* dimensions, nulls, type, length, lower bound: 4 bytes each */

static void arg(hk_pg_args *a, const void *value, size_t len, int format)
{
    assert(a->n < HK_PG_ARGS_MAX);
    a->values[a->n] = value;
    a->lengths[a->n] = (int)len;
    a->formats[a->n] = format;
    a->n++;
}

void hk_pg_int(hk_pg_args *a, int64_t v)
{
    assert(a->n < HK_PG_ARGS_MAX);
    a->numbers[a->n] = htobe64((uint64_t)v);
    arg(a, &a->numbers[a->n], sizeof a->numbers[0], 1);
}

void hk_pg_text(hk_pg_args *a, const char *s)
{
    hk_pg_text_n(a, s, s ? strlen(s) : 0);
}

/* In binary form, where text needs no NUL at its end. */
void hk_pg_text_n(hk_pg_args *a, const char *s, size_t len)
{
    arg(a, s, len, 1);
}

void hk_pg_blob(hk_pg_args *a, const void *p, size_t len)
{
    arg(a, p, len, 1);
}

/* ---- arrays ------------------------------------------------------------------------------------ */

static void put32(char *to, uint32_t v)
{
    v = htobe32(v);
    memcpy(to, &v, sizeof v);
}

static void begin(hk_pg_array *a)
{
    static const char head[ARRAY_HEAD] = {0};
    if (a->bytes.len == 0)
        hk_buf_add(&a->bytes, head, sizeof head);
}

static void element(hk_pg_array *a, const void *p, size_t len)
{
    char size[4];
    begin(a);
    put32(size, p ? (uint32_t)len : UINT32_MAX); /* -1 = NULL */
    hk_buf_add(&a->bytes, size, sizeof size);
    if (p)
        hk_buf_add(&a->bytes, p, len);
    a->nulls |= !p;
    a->n++;
}

void hk_pg_array_int(hk_pg_array *a, int64_t v)
{
    uint64_t wire = htobe64((uint64_t)v);
    assert(a->kind == HK_PG_INT8);
    element(a, &wire, sizeof wire);
}

void hk_pg_array_add(hk_pg_array *a, const void *p, size_t len)
{
    assert(a->kind != HK_PG_INT8 || !p);
    element(a, p, len);
}

void hk_pg_array_back(hk_pg_array *a, size_t n)
{
    size_t at = ARRAY_HEAD;
    uint32_t len;
    if (n >= a->n)
        return;
    for (size_t i = 0; i < n && at + sizeof len <= a->bytes.len; i++) {
        memcpy(&len, a->bytes.data + at, sizeof len);
        len = be32toh(len);
        at += sizeof len + (len == UINT32_MAX ? 0 : len);
    }
    if (a->bytes.len > at)
        a->bytes.len = at;
    a->n = n;
}

void hk_pg_array_clear(hk_pg_array *a)
{
    hk_buf_clear(&a->bytes);
    a->n = 0;
    a->nulls = false;
}

void hk_pg_array_free(hk_pg_array *a)
{
    hk_buf_free(&a->bytes);
    a->n = 0;
    a->nulls = false;
}

hark_err hk_pg_arg_array(hk_pg_args *args, hk_pg_array *a, hark_errinfo *ei)
{
    begin(a);
    if (a->bytes.failed)
        return hk_fail(ei, HARK_ENOMEM, "no memory for %zu rows of a statement; try again", a->n);
    char *head = a->bytes.data;
    put32(head, a->n ? 1 : 0);
    put32(head + 4, a->nulls);
    put32(head + 8, (uint32_t)a->kind);
    put32(head + 12, (uint32_t)a->n);
    put32(head + 16, 1);
    arg(args, head, a->n ? a->bytes.len : 12, 1);
    return HARK_OK;
}
