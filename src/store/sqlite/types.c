/* Which types does a pattern match? Each reader keeps the answer for the patterns it was asked
 * last, as a bitmap over type numbers, and adds the types that have come since. */
#include "store/sqlite/store_i.h"

#include <stdlib.h>
#include <string.h>

static bool own_type(const char *name)
{
    return strncmp(name, "hark:", 5) == 0 || strcmp(name, "dead_letter") == 0;
}

static bool set_bit(hk_type_set *t, int64_t id)
{
    size_t byte = (size_t)id / 8;
    if (byte >= t->n_bytes) {
        size_t n = t->n_bytes ? t->n_bytes : 64;
        while (n <= byte)
            n *= 2;
        uint8_t *bits = realloc(t->bits, n);
        if (!bits)
            return false;
        memset(bits + t->n_bytes, 0, n - t->n_bytes);
        t->bits = bits;
        t->n_bytes = n;
    }
    t->bits[byte] |= (uint8_t)(1U << (id % 8));
    return true;
}

static bool add_type(hk_type_set *t, int64_t id, const char *name)
{
    if (!hark_pattern_match(t->pattern, name)) {
        t->n_other += !own_type(name);
    } else {
        if (!set_bit(t, id))
            return false;
        if (t->n_match < HK_TYPE_CURSORS)
            t->few[t->n_match] = id;
        t->n_match++;
    }
    t->seen = id;
    return true;
}

static hark_err add_new_types(hk_reader *r, hk_type_set *t, hark_errinfo *ei)
{
    sqlite3_stmt *st = hk_conn_stmt(&r->conn, HK_SQL_TYPES_ABOVE, ei);
    hark_err err = st ? HARK_OK : HARK_ESTORE;
    bool row = true;
    if (st)
        sqlite3_bind_int64(st, 1, t->seen);
    while (!err && row) {
        err = hk_conn_step(&r->conn, st, &row, "reading the types", ei);
        if (!err && row &&
            !add_type(t, sqlite3_column_int64(st, 0), (const char *)sqlite3_column_text(st, 1)))
            err = hk_fail(ei, HARK_ENOMEM, "no memory for the types of pattern %s", t->pattern);
    }
    sqlite3_reset(st);
    return err;
}

static void clear(hk_type_set *t)
{
    free(t->pattern);
    free(t->bits);
    memset(t, 0, sizeof *t);
}

static hk_type_set *find(hk_reader *r, const char *pattern)
{
    for (size_t i = 0; i < HK_TYPE_SETS; i++)
        if (r->sets[i].pattern && strcmp(r->sets[i].pattern, pattern) == 0)
            return &r->sets[i];
    hk_type_set *t = &r->sets[r->next_set];
    r->next_set = (r->next_set + 1) % HK_TYPE_SETS;
    clear(t);
    t->pattern = hk_strdup(pattern);
    return t;
}

hark_err hk_type_set_get(hk_reader *r, const char *pattern, const hk_type_set **ret,
                         hark_errinfo *ei)
{
    if (!pattern) {
        *ret = NULL;
        return HARK_OK;
    }
    hk_type_set *t = find(r, pattern);
    if (!t->pattern)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a pattern");
    *ret = t;
    return add_new_types(r, t, ei);
}

bool hk_type_set_has(const hk_type_set *t, int64_t id)
{
    size_t byte = (size_t)id / 8;
    return id >= 0 && byte < t->n_bytes && (t->bits[byte] >> (id % 8) & 1);
}

/* Walking the index pays when few types match and others would be walked over. */
bool hk_type_set_by_index(const hk_type_set *t)
{
    return t->n_match <= HK_TYPE_CURSORS && t->n_other > 0;
}

void hk_type_sets_free(hk_reader *r)
{
    for (size_t i = 0; i < HK_TYPE_SETS; i++)
        clear(&r->sets[i]);
}
