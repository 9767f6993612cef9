/* values: arguments of the program's as the server gets them, and rows as the program does. Numbers go and come as
 * text, in whatever locale the program has set: of the C library's conversions everything is used but the
 * decimal point. */
#include "store/postgres/program_i.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From the server's catalog, where they never change. */
enum { BOOL = 16, BYTEA = 17, INT8 = 20, INT2 = 21, INT4 = 23, OID = 26, FLOAT4 = 700 };
enum { FLOAT8 = 701, NUMERIC = 1700 };

enum {
    ARGS_MAX = 65535,       /* of the protocol */
    BYTES_MAX = 1000 << 20, /* a message has at most 1 GiB */
    DIGITS_MOST = 400 /* no double has more before its point, and they decide those behind it */
};

void hk_pg_values_free(hk_pg_values *v)
{
    free(v->in);
    free(v->lengths);
    free(v->formats);
    free(v->types);
    free(v->out);
    free(v->names);
    hk_buf_free(&v->text);
    hk_buf_free(&v->bytes);
    *v = (hk_pg_values){0};
}

/* An array with room for n; what was in it is of no interest. */
static bool room(void *list, size_t n, size_t item)
{
    void **at = list;
    free(*at);
    *at = calloc(n, item);
    return *at != NULL;
}

/* ---- arguments --------------------------------------------------------------------------------- */

static hark_err no_memory(const char *sql, hark_errinfo *ei)
{
    char head[HK_SQL_BEGINNING + 4];
    return hk_fail(ei, HARK_ENOMEM, "no memory for the arguments of: %s; free some, then try again",
                   hk_sql_beginning(sql, head));
}

static hark_err room_for_args(hk_pg_values *v, const hk_pg_ask *ask, hark_errinfo *ei)
{
    size_t n = ask->n > 8 ? ask->n : 8;
    if (ask->n <= v->cap_in)
        return HARK_OK;
    v->cap_in = 0;
    if (!room(&v->in, n, sizeof *v->in) || !room(&v->lengths, n, sizeof *v->lengths) ||
        !room(&v->formats, n, sizeof *v->formats) || !room(&v->types, n, sizeof *v->types))
        return no_memory(ask->sql, ei);
    v->cap_in = n;
    return HARK_OK;
}

static hark_err check(const hk_pg_ask *ask, size_t i, hark_errinfo *ei)
{
    const hark_value *a = &ask->args[i];
    char head[HK_SQL_BEGINNING + 4];
    if (a->kind < HARK_NULL || a->kind > HARK_BLOB || (a->kind >= HARK_TEXT && !a->data && a->len))
        return hk_fail(ei, HARK_EINVAL,
                       "argument %zu is no value (kind %lld); make it with hark_int, hark_text, "
                       "..., in: %s",
                       i + 1, (long long)a->kind, hk_sql_beginning(ask->sql, head));
    if (a->kind == HARK_TEXT && a->len && memchr(a->data, '\0', a->len))
        return hk_fail(ei, HARK_EINVAL,
                       "argument %zu has a NUL in its text, which PostgreSQL does not store; give "
                       "it as a blob, in: %s",
                       i + 1, hk_sql_beginning(ask->sql, head));
    if (a->kind >= HARK_TEXT && a->len > BYTES_MAX)
        return hk_fail(ei, HARK_ETOOBIG,
                       "argument %zu has %zu bytes; PostgreSQL takes at most %d, in: %s", i + 1,
                       a->len, BYTES_MAX, hk_sql_beginning(ask->sql, head));
    return HARK_OK;
}

/* What the locale has for a point becomes one. */
static void put_real(hk_buf *b, double real)
{
    char text[64];
    bool point = false;
    (void)snprintf(text, sizeof text, "%.17g", real);
    if (isnan(real)) /* the C library may give it a sign */
        memcpy(text, "NaN", sizeof "NaN");
    for (const char *s = text; *s; s++) {
        bool plain = strchr("+-0123456789abcdefintyN", *s) != NULL;
        if (plain)
            hk_buf_addc(b, *s);
        else if (!point)
            hk_buf_addc(b, '.');
        point = point || !plain;
    }
}

static void put(hk_pg_values *v, size_t i, const hark_value *a)
{
    static const char nothing[1] = "";
    v->in[i] =
        a->kind == HARK_NULL ? NULL : nothing; /* texts have their place when all are there */
    v->lengths[i] = 0;
    v->formats[i] = 0;
    v->types[i] = 0;
    if (a->kind == HARK_BLOB) {
        v->in[i] = a->len ? a->data : nothing;
        v->lengths[i] = (int)a->len;
        v->formats[i] = 1;
        v->types[i] = BYTEA;
    } else if (a->kind == HARK_INTEGER) {
        hk_buf_addf(&v->text, "%lld", (long long)a->integer);
    } else if (a->kind == HARK_REAL) {
        put_real(&v->text, a->real);
    } else if (a->kind == HARK_TEXT) {
        hk_buf_add(&v->text, a->data, a->len);
    }
    if (a->kind != HARK_NULL && a->kind != HARK_BLOB)
        hk_buf_add(&v->text, "", 1);
}

hark_err hk_pg_values_in(hk_pg_values *v, const hk_pg_ask *ask, hark_errinfo *ei)
{
    size_t bytes = 0;
    hark_err err = HARK_OK;
    if (ask->n > ARGS_MAX)
        return hk_fail(ei, HARK_EINVAL, "a statement has at most %d arguments, not %zu", ARGS_MAX,
                       ask->n);
    err = room_for_args(v, ask, ei);
    hk_buf_clear(&v->text);
    for (size_t i = 0; !err && i < ask->n; i++) {
        err = check(ask, i, ei);
        bytes += ask->args[i].kind >= HARK_TEXT ? ask->args[i].len : 0;
        if (!err && bytes > BYTES_MAX)
            err = hk_fail(ei, HARK_ETOOBIG, "the arguments have more than %d bytes", BYTES_MAX);
        if (!err)
            put(v, i, &ask->args[i]);
    }
    if (!err && v->text.failed)
        err = no_memory(ask->sql, ei);
    const char *at = v->text.data;
    for (size_t i = 0; !err && i < ask->n; i++)
        if (ask->args[i].kind != HARK_NULL && ask->args[i].kind != HARK_BLOB) {
            v->in[i] = at;
            at += strlen(at) + 1;
        }
    return err;
}

/* ---- rows -------------------------------------------------------------------------------------- */

/* Digits without their point, and where it was as an exponent: the same number in every locale. */
static double real_of(const char *s)
{
    char text[DIGITS_MOST + 40];
    size_t n = 0, digits = 0;
    long point = 0;
    bool fraction = false;
    if (!strpbrk(s, "0123456789"))
        return strtod(s, NULL); /* NaN, Infinity */
    if (*s == '-')
        text[n++] = *s++;
    for (; *s && *s != 'e' && *s != 'E'; s++) {
        if (*s == '.') {
            fraction = true;
        } else if (digits < DIGITS_MOST) {
            text[n++] = *s;
            digits += digits || *s != '0';
            point -= fraction;
        } else {
            point += !fraction;
        }
    }
    if (*s)
        point += strtol(s + 1, NULL, 10);
    (void)snprintf(text + n, sizeof text - n, "e%ld", point);
    return strtod(text, NULL);
}

static unsigned hex(char c)
{
    return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

/* "\x6162"; conn.c asks for this form. */
static void blob_of(hk_buf *bytes, const char *s, size_t len, hark_value *ret)
{
    ret->kind = HARK_BLOB;
    ret->len = len >= 2 ? (len - 2) / 2 : 0;
    ret->data = bytes->data + bytes->len;
    for (size_t i = 2; i + 1 < len; i += 2)
        hk_buf_addc(bytes, (char)(hex(s[i]) << 4 | hex(s[i + 1])));
    hk_buf_addc(bytes, '\0');
}

static void column(hk_pg_values *v, const PGresult *r, int row, int i)
{
    hark_value *ret = &v->out[i];
    const char *s = PQgetvalue(r, row, i);
    *ret = (hark_value){0};
    if (PQgetisnull(r, row, i))
        return;
    switch (PQftype(r, i)) {
    case BOOL:
        ret->kind = HARK_INTEGER;
        ret->integer = *s == 't';
        return;
    case INT2:
    case INT4:
    case INT8:
    case OID:
        ret->kind = HARK_INTEGER;
        ret->integer = strtoll(s, NULL, 10);
        return;
    case FLOAT4:
    case FLOAT8:
    case NUMERIC:
        ret->kind = HARK_REAL;
        ret->real = real_of(s);
        return;
    case BYTEA:
        blob_of(&v->bytes, s, (size_t)PQgetlength(r, row, i), ret);
        return;
    default:
        ret->kind = HARK_TEXT;
        ret->data = s;
        ret->len = (size_t)PQgetlength(r, row, i);
    }
}

/* Room for all at once: what is in it must not move. */
static bool room_for_blobs(hk_pg_values *v, const PGresult *r, int row)
{
    size_t bytes = 1;
    for (int i = 0; i < PQnfields(r); i++)
        if (PQftype(r, i) == BYTEA)
            bytes += (size_t)PQgetlength(r, row, i) / 2 + 1;
    hk_buf_clear(&v->bytes);
    return hk_buf_reserve(&v->bytes, bytes);
}

bool hk_pg_values_row(hk_pg_values *v, const PGresult *r, int row, hark_row *ret)
{
    size_t n = (size_t)PQnfields(r);
    if (n > v->cap_out) {
        v->cap_out = 0;
        if (!room(&v->out, n, sizeof *v->out) || !room(&v->names, n, sizeof *v->names))
            return false;
        v->cap_out = n;
    }
    if (!room_for_blobs(v, r, row))
        return false;
    for (int i = 0; i < (int)n; i++) {
        v->names[i] = PQfname(r, i);
        column(v, r, row, i);
    }
    *ret = (hark_row){.n = n, .values = v->out, .names = v->names};
    return true;
}
