/* What is kept under a key for some time: the answer to a request, the mark of a message that was
 * worked on. An expired one counts as none at once, and is removed by housekeeping, whose clock is
 * the wall's once and the monotonic one from then on: a clock that is set ahead must not remove
 * all. */
#include "store/sqlite/store_i.h"

#include <stdlib.h>
#include <string.h>

#define SLICE 200 /* rows removed in one go */
#define PAUSE INT64_C(1000000000)
#define SHARE 8 /* while there are more, sweeping takes one part in so many of the time */

hark_err hk_kept_put(hark_store *s, const char *key, const void *data, size_t len, int64_t until,
                     int64_t now, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "keep outside of a group");
    if (hk_append_size(s, len, NULL) != HARK_OK)
        return hk_fail(ei, HARK_ETOOBIG, "a value of %zu bytes is too large for SQLite; keep less",
                       len);
    hark_err err = hk_conn_get(&s->conn, HK_SQL_KEEP, &st, ei);
    if (err)
        return hk_group_note(s, err);
    hk_bind_str(st, 1, key);
    sqlite3_bind_int64(st, 2, until);
    sqlite3_bind_blob64(st, 3, len ? data : "", len, SQLITE_STATIC);
    sqlite3_bind_int64(st, 4, now);
    err = hk_conn_run(&s->conn, st, "keeping a value", ei);
    sqlite3_clear_bindings(st);
    if (!err && sqlite3_changes(s->conn.db) == 0)
        err = hk_fail(ei, HARK_EEXIST,
                      "a value is kept under '%.100s' already; read it, or use another key", key);
    return hk_group_note(s, err);
}

/* The caller's own copy, with a NUL behind. */
static hark_err copy_out(sqlite3_stmt *st, void **ret, size_t *ret_len, hark_errinfo *ei)
{
    const void *data;
    size_t len;
    char *copy = hk_column_data(st, 0, &data, &len) ? malloc(len + 1) : NULL;
    if (!copy)
        return hk_fail(ei, HARK_ENOMEM, "no memory for a kept value; free some, then try again");
    if (len)
        memcpy(copy, data, len);
    copy[len] = '\0';
    *ret = copy;
    *ret_len = len;
    return HARK_OK;
}

hark_err hk_kept_get(hark_store *s, const char *key, int64_t now, void **ret, size_t *ret_len,
                     hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_KEPT, &st, ei);
    if (err)
        return hk_group_note(s, err);
    hk_bind_str(st, 1, key);
    sqlite3_bind_int64(st, 2, now);
    err = hk_conn_step(&s->conn, st, &row, "reading a kept value", ei);
    if (!err && row)
        err = copy_out(st, ret, ret_len, ei);
    else if (!err)
        err = hk_fail(ei, HARK_ENOTFOUND, "nothing is kept under '%.100s'; keep it first", key);
    sqlite3_reset(st);
    sqlite3_clear_bindings(st);
    return hk_group_note(s, err);
}

/* Removes a slice of those whose time was over at `now`; *ret_n says how many. */
static hark_err sweep(hark_store *s, int64_t now, int *ret_n, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    int64_t oldest = 0;
    *ret_n = 0;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_KEPT_OLDEST, &st, ei);
    if (!err)
        err = hk_conn_int(&s->conn, st, INT64_MAX, &oldest, ei);
    if (err || oldest > now)
        return err;
    err = hk_conn_get(&s->conn, HK_SQL_KEPT_SWEEP, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, now);
    sqlite3_bind_int(st, 2, SLICE);
    err = hk_conn_run(&s->conn, st, "removing what was kept long enough", ei);
    if (!err)
        *ret_n = sqlite3_changes(s->conn.db);
    return err;
}

void hk_kept_sweep(hark_store *s)
{
    int64_t start = hk_mono_ns();
    hark_errinfo ei;
    int n = 0;
    if (HK_LIKELY(start < s->next_sweep) || s->in_group)
        return;
    if (!s->sweep_wall) {
        s->sweep_wall = hk_wall_ns();
        s->sweep_mono = start;
    }
    hark_err err = sweep(s, s->sweep_wall + (start - s->sweep_mono), &n, &ei);
    int64_t now = hk_mono_ns();
    s->next_sweep = now + (n < SLICE ? PAUSE : (now - start) * SHARE);
    if (err)
        hk_log(hark_err_class(hk_group_note(s, err)) == HARK_CLASS_TRANSIENT ? HK_WARN : HK_ERROR,
               "%s", ei.text);
}
