/* How many events does a query ask for? Counted in the indexes, in slices of a read transaction
 * each, so that a long count never holds back a checkpoint. What is published or removed meanwhile
 * may or may not be among it. */
#include "store/sqlite/store_i.h"

#include <stdlib.h>

#define SLICE 65536 /* index entries */

/* ---- the types of a pattern ------------------------------------------------------------------ */

typedef struct type_ids {
    const char *pattern;
    int64_t *ids;
    size_t n, cap;
} type_ids;

static hark_err add_id(type_ids *t, int64_t id, hark_errinfo *ei)
{
    if (t->n == t->cap) {
        size_t more = t->cap ? t->cap * 2 : 64;
        int64_t *ids = realloc(t->ids, more * sizeof *ids);
        if (!ids)
            return hk_fail(ei, HARK_ENOMEM, "no memory for the types of a pattern");
        t->ids = ids;
        t->cap = more;
    }
    t->ids[t->n++] = id;
    return HARK_OK;
}

static hark_err all_ids(hk_reader *r, type_ids *t, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = true;
    hark_err err = hk_conn_get(&r->conn, HK_SQL_TYPES_ABOVE, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, 0);
    while (!err && row) {
        err = hk_conn_step(&r->conn, st, &row, "reading the types", ei);
        if (!err && row)
            err = add_id(t, sqlite3_column_int64(st, 0), ei);
    }
    sqlite3_reset(st);
    return err;
}

static hark_err collect_ids(hk_reader *r, void *ud, hark_errinfo *ei)
{
    type_ids *t = ud;
    const hk_type_set *set = NULL;
    hark_err err = hk_type_set_get(r, t->pattern, &set, ei);
    if (!err && !set)
        return all_ids(r, t, ei);
    for (int64_t id = 0; !err && id <= set->seen; id++)
        if (hk_type_set_has(set, id))
            err = add_id(t, id, ei);
    return err;
}

hark_err hk_type_ids(hark_store *s, const char *pattern, int64_t **ret, size_t *ret_n,
                     hark_errinfo *ei)
{
    type_ids t = {.pattern = pattern};
    hark_err err = hk_reader_run(s, collect_ids, &t, ei);
    if (err) {
        free(t.ids);
        return err;
    }
    *ret = t.ids;
    *ret_n = t.n;
    return HARK_OK;
}

/* ---- counting -------------------------------------------------------------------------------- */

typedef struct counting {
    const hark_store_query *q;
    int64_t *types;
    size_t n_types, type; /* the one in hand */
    uint64_t low, high;   /* sequences, inclusive */
    int64_t at, to;       /* what is left: sequences of a type, or versions of the subject */
    uint64_t total;
    bool done;
} counting;

static hark_err set_bounds(hk_reader *r, void *ud, hark_errinfo *ei)
{
    counting *c = ud;
    const hark_store_query *q = c->q;
    uint64_t first = 0, last = 0;
    hark_err err = hk_conn_number(&r->conn, HK_SQL_FIRST_SEQ, &first, ei);
    if (!err && first)
        err = hk_conn_number(&r->conn, HK_SQL_LAST_SEQ, &last, ei);
    if (!err)
        err = hk_seek_bounds(&r->conn, q, first, last, &c->low, &c->high, ei);
    c->done = c->low > c->high || c->n_types == 0;
    c->at = (int64_t)c->low;
    c->to = (int64_t)c->high;
    if (err || c->done || !q->subject)
        return err;
    err = hk_seek_subject(&r->conn, q->subject, c->low, &c->at, ei);
    if (!err)
        err = hk_seek_subject(&r->conn, q->subject, c->high + 1, &c->to, ei);
    c->to--;
    return err;
}

static hark_err count_type(hk_reader *r, counting *c, int64_t *left, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&r->conn, HK_SQL_COUNT_TYPE, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, c->types[c->type]);
    sqlite3_bind_int64(st, 2, c->at);
    sqlite3_bind_int64(st, 3, c->to);
    sqlite3_bind_int64(st, 4, *left);
    err = hk_conn_step(&r->conn, st, &row, "counting events", ei);
    int64_t n = !err && row ? sqlite3_column_int64(st, 0) : 0;
    c->total += (uint64_t)n;
    if (n == *left) {
        c->at = sqlite3_column_int64(st, 1) + 1;
    } else {
        c->at = (int64_t)c->low;
        c->done = ++c->type == c->n_types;
    }
    *left -= n + 1;
    sqlite3_reset(st);
    return err;
}

static hark_err count_types(hk_reader *r, void *ud, hark_errinfo *ei)
{
    counting *c = ud;
    int64_t left = SLICE;
    hark_err err = HARK_OK;
    while (!err && !c->done && left > 0)
        err = count_type(r, c, &left, ei);
    return err;
}

static hark_err count_subject(hk_reader *r, void *ud, hark_errinfo *ei)
{
    counting *c = ud;
    const hk_type_set *set = NULL;
    sqlite3_stmt *st;
    bool row = true;
    hark_err err = hk_type_set_get(r, c->q->pattern, &set, ei);
    if (!err)
        err = hk_conn_get(&r->conn, HK_SQL_COUNT_SUBJECT, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, c->q->subject);
    sqlite3_bind_int64(st, 2, c->at);
    sqlite3_bind_int64(st, 3, c->to);
    sqlite3_bind_int64(st, 4, SLICE);
    c->done = true;
    for (size_t i = 0; !err && row && i < SLICE; i++) {
        err = hk_conn_step(&r->conn, st, &row, "counting events", ei);
        if (err || !row)
            break;
        c->total += !set || hk_type_set_has(set, sqlite3_column_int64(st, 1));
        c->at = sqlite3_column_int64(st, 0) + 1;
        c->done = i + 1 < SLICE;
    }
    sqlite3_reset(st);
    return err;
}

hark_err hk_sqlite_count(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei)
{
    counting c = {.q = q};
    hark_err err = hk_type_ids(s, q->pattern, &c.types, &c.n_types, ei);
    if (!err)
        err = hk_reader_run(s, set_bounds, &c, ei);
    while (!err && !c.done)
        err = hk_reader_run(s, q->subject ? count_subject : count_types, &c, ei);
    free(c.types);
    if (!err)
        *ret = c.total;
    return err;
}
