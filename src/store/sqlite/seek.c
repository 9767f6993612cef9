/* Finds places by binary search, with one look-up of a few microseconds a probe: recorded times
 * never decrease with the sequence, and the versions of a subject rise with it, so neither needs an
 * index of its own. */
#include "store/sqlite/store_i.h"

/* Gives the smallest key at or above `key` that exists, and its value; false: there is none. */
typedef struct probe {
    hk_conn *conn;
    sqlite3_stmt *st;
    int key_param;
} probe;

static hark_err look(const probe *p, int64_t key, bool *ret_found, int64_t *ret_key,
                     int64_t *ret_value, hark_errinfo *ei)
{
    sqlite3_bind_int64(p->st, p->key_param, key);
    hark_err err = hk_conn_step(p->conn, p->st, ret_found, "finding a place", ei);
    if (!err && *ret_found) {
        *ret_key = sqlite3_column_int64(p->st, 0);
        *ret_value = sqlite3_column_int64(p->st, 1);
    }
    sqlite3_reset(p->st);
    return err;
}

/* The smallest key of [low, high] whose value is at least `value`; high + 1 when there is none. */
static hark_err bisect(const probe *p, int64_t low, int64_t high, int64_t value, int64_t *ret,
                       hark_errinfo *ei)
{
    int64_t best = high + 1;
    while (low <= high) {
        int64_t middle = low + (high - low) / 2, key = 0, found_value = 0;
        bool found;
        hark_err err = look(p, middle, &found, &key, &found_value, ei);
        if (err)
            return err;
        if (found && key <= high && found_value < value) {
            low = key + 1;
            continue;
        }
        if (found && key <= high)
            best = key;
        high = middle - 1;
    }
    *ret = best;
    return HARK_OK;
}

hark_err hk_seek_time(hk_conn *c, int64_t recorded, uint64_t first, uint64_t last, uint64_t *ret,
                      hark_errinfo *ei)
{
    probe p = {.conn = c, .st = hk_conn_stmt(c, HK_SQL_RECORDED_FROM, ei), .key_param = 1};
    int64_t seq = 0;
    if (!p.st)
        return HARK_ESTORE;
    hark_err err = bisect(&p, (int64_t)first, (int64_t)last, recorded, &seq, ei);
    if (!err)
        *ret = (uint64_t)seq;
    return err;
}

static hark_err subject_bounds(hk_conn *c, const char *subject, int64_t *ret_first,
                               int64_t *ret_last, hark_errinfo *ei)
{
    sqlite3_stmt *st = hk_conn_stmt(c, HK_SQL_SUBJECT_BOUNDS, ei);
    bool row;
    if (!st)
        return HARK_ESTORE;
    hk_bind_str(st, 1, subject);
    hark_err err = hk_conn_step(c, st, &row, "reading a subject", ei);
    *ret_first = !err && row ? sqlite3_column_int64(st, 0) : 0;
    *ret_last = !err && row ? sqlite3_column_int64(st, 1) : 0;
    sqlite3_reset(st);
    return err;
}

hark_err hk_seek_subject(hk_conn *c, const char *subject, uint64_t seq, int64_t *ret,
                         hark_errinfo *ei)
{
    int64_t first, last;
    hark_err err = subject_bounds(c, subject, &first, &last, ei);
    probe p = {.conn = c, .key_param = 2};
    if (!err && !(p.st = hk_conn_stmt(c, HK_SQL_SUBJECT_FROM, ei)))
        err = HARK_ESTORE;
    if (err)
        return err;
    if (first == 0) { /* no such subject */
        *ret = 1;
        return HARK_OK;
    }
    hk_bind_str(p.st, 1, subject);
    return bisect(&p, first, last, (int64_t)seq, ret, ei);
}

hark_err hk_seek_bounds(hk_conn *c, const hark_store_query *q, uint64_t first, uint64_t last,
                        uint64_t *ret_low, uint64_t *ret_high, hark_errinfo *ei)
{
    uint64_t at = 0;
    hark_err err = HARK_OK;
    *ret_low = q->after < HARK_SEQ_MAX ? q->after + 1 : HARK_SEQ_MAX;
    *ret_high = q->before && q->before <= last ? q->before - 1 : last;
    if (first && q->from_ns) {
        err = hk_seek_time(c, q->from_ns, first, last, &at, ei);
        if (!err && at > *ret_low)
            *ret_low = at;
    }
    if (!err && first && q->to_ns) {
        err = hk_seek_time(c, q->to_ns, first, last, &at, ei);
        if (!err && at <= *ret_high)
            *ret_high = at ? at - 1 : 0;
    }
    return err;
}
