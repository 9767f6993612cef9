/* The progress of replays into ad-hoc handlers, so that they can be gone on with after a restart.
 */
#include "store/sqlite/store_i.h"

/* Columns of HK_SQL_REPLAYS; HK_SQL_REPLAY_PUT has them as parameters from 1. */
enum {
    R_ID,
    R_PATTERN,
    R_FIRST,
    R_LAST,
    R_FROM,
    R_TO,
    R_RATE,
    R_POSITION,
    R_DONE,
    R_TOTAL,
    R_REJECTED,
    R_STATE,
    R_STARTED,
    R_CHANGED,
    R_ERROR
};

static void bind(sqlite3_stmt *st, const hark_store_replay *r)
{
    hk_bind_str(st, 1 + R_ID, r->id);
    hk_bind_str(st, 1 + R_PATTERN, r->pattern);
    sqlite3_bind_int64(st, 1 + R_FIRST, (int64_t)r->first);
    sqlite3_bind_int64(st, 1 + R_LAST, (int64_t)r->last);
    sqlite3_bind_int64(st, 1 + R_FROM, r->from_ns);
    sqlite3_bind_int64(st, 1 + R_TO, r->to_ns);
    sqlite3_bind_int64(st, 1 + R_RATE, r->rate);
    sqlite3_bind_int64(st, 1 + R_POSITION, (int64_t)r->position);
    sqlite3_bind_int64(st, 1 + R_DONE, (int64_t)r->done);
    sqlite3_bind_int64(st, 1 + R_TOTAL, (int64_t)r->total);
    sqlite3_bind_int64(st, 1 + R_REJECTED, (int64_t)r->rejected);
    sqlite3_bind_int64(st, 1 + R_STATE, r->state);
    sqlite3_bind_int64(st, 1 + R_STARTED, r->started_ns);
    sqlite3_bind_int64(st, 1 + R_CHANGED, r->changed_ns);
    hk_bind_str(st, 1 + R_ERROR, r->error);
}

hark_err hk_sqlite_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "replay_put outside of a group");
    hark_err err = hk_conn_get(&s->conn, HK_SQL_REPLAY_PUT, &st, ei);
    if (err)
        return hk_group_note(s, err);
    bind(st, r);
    err = hk_conn_run(&s->conn, st, "saving a replay", ei);
    sqlite3_clear_bindings(st);
    return hk_group_note(s, err);
}

static bool load(sqlite3_stmt *st, hark_store_replay *ret)
{
    *ret = (hark_store_replay){.first = (uint64_t)sqlite3_column_int64(st, R_FIRST),
                               .last = (uint64_t)sqlite3_column_int64(st, R_LAST),
                               .from_ns = sqlite3_column_int64(st, R_FROM),
                               .to_ns = sqlite3_column_int64(st, R_TO),
                               .rate = sqlite3_column_int64(st, R_RATE),
                               .position = (uint64_t)sqlite3_column_int64(st, R_POSITION),
                               .done = (uint64_t)sqlite3_column_int64(st, R_DONE),
                               .total = (uint64_t)sqlite3_column_int64(st, R_TOTAL),
                               .rejected = (uint64_t)sqlite3_column_int64(st, R_REJECTED),
                               .state = sqlite3_column_int64(st, R_STATE),
                               .started_ns = sqlite3_column_int64(st, R_STARTED),
                               .changed_ns = sqlite3_column_int64(st, R_CHANGED)};
    return hk_column_str(st, R_ID, &ret->id) && hk_column_str(st, R_PATTERN, &ret->pattern) &&
           hk_column_str(st, R_ERROR, &ret->error);
}

static hark_err list_replays(hk_reader *r, void *ud, hark_errinfo *ei)
{
    static const size_t strings[] = {offsetof(hark_store_replay, id),
                                     offsetof(hark_store_replay, pattern),
                                     offsetof(hark_store_replay, error)};
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&r->conn, HK_SQL_REPLAYS, &st, ei);
    if (err)
        return err;
    while (!err) {
        hark_store_replay one;
        err = hk_conn_step(&r->conn, st, &row, "listing replays", ei);
        if (err || !row)
            break;
        if (!load(st, &one) || !hk_copies_add(ud, &one, sizeof one, strings, HK_COUNTOF(strings)))
            err = hk_fail(ei, HARK_ENOMEM, "no memory to list the replays");
    }
    sqlite3_reset(st);
    return err;
}

hark_err hk_sqlite_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei)
{
    hk_copies list = {0};
    hark_err err = hk_reader_run(s, list_replays, &list, ei);
    for (size_t i = 0; i < list.n && !err; i++)
        if (!fn(ud, list.rows[i]))
            break;
    hk_copies_free(&list);
    return err;
}
