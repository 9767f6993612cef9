/* row.c: a column of a row as the type that is wanted. Stores hand out values as they have them. */
#include <hark/tx.h>

static const hark_value *column(const hark_row *row, size_t i)
{
    return i < row->n ? &row->values[i] : NULL;
}

bool hark_row_null(const hark_row *row, size_t i)
{
    const hark_value *v = column(row, i);
    return !v || v->kind == HARK_NULL;
}

/* Beyond what an int64_t holds it is the nearest one; not a number is 0. */
static int64_t whole(double real)
{
    if (real >= 9223372036854775808.0)
        return INT64_MAX;
    if (real < -9223372036854775808.0)
        return INT64_MIN;
    return real == real ? (int64_t)real : 0;
}

int64_t hark_row_int(const hark_row *row, size_t i)
{
    const hark_value *v = column(row, i);
    if (!v)
        return 0;
    if (v->kind == HARK_INTEGER)
        return v->integer;
    return v->kind == HARK_REAL ? whole(v->real) : 0;
}

double hark_row_real(const hark_row *row, size_t i)
{
    const hark_value *v = column(row, i);
    if (!v)
        return 0;
    if (v->kind == HARK_REAL)
        return v->real;
    return v->kind == HARK_INTEGER ? (double)v->integer : 0;
}

const char *hark_row_text(const hark_row *row, size_t i)
{
    const hark_value *v = column(row, i);
    return v && v->kind == HARK_TEXT ? v->data : NULL;
}

const void *hark_row_blob(const hark_row *row, size_t i, size_t *ret_len)
{
    const hark_value *v = column(row, i);
    bool bytes = v && (v->kind == HARK_BLOB || v->kind == HARK_TEXT);
    *ret_len = bytes ? v->len : 0;
    return bytes ? v->data : NULL;
}
