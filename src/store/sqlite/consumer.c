/* Registers consumers and loads their durable state. All of it runs in the writer's transaction, so
 * a new consumer's start is resolved against the log as this group leaves it. */
#include "store/sqlite/store_i.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* hark_store_consumer.start, the values of hark_start in <hark/bus.h>. */
enum { START_NOW, START_FIRST, START_SEQUENCE, START_TIME };

/* Columns of HK_SQL_CONSUMER_FIND. */
enum { C_ID, C_PATTERN, C_POLICY, C_GENERATION, C_FLOOR, C_HIGHEST, C_SETTLED, C_PAUSED, C_RERUN };

/* Columns of HK_SQL_DELIVERIES. */
enum { D_SEQ, D_STATE, D_ATTEMPTS, D_CRASHES, D_INTERRUPTIONS, D_DUE, D_FIRST, D_KEY, D_ERROR };

hark_err hk_start_floor(hark_store *s, const hk_start *at, uint64_t *ret, hark_errinfo *ei)
{
    uint64_t begin = 0;
    hark_err err = HARK_OK;
    *ret = s->now.last;
    switch (at->start) {
    case START_NOW:
        return HARK_OK;
    case START_SEQUENCE:
        if (at->sequence > HARK_SEQ_MAX)
            return hk_fail(
                ei, HARK_EINVAL,
                "consumer %s: start_sequence %llu is over 2^53 - 1, the highest that there can be",
                at->name, (unsigned long long)at->sequence);
        *ret = at->sequence ? at->sequence - 1 : 0;
        return HARK_OK;
    case START_FIRST:
    case START_TIME:
        err = hk_conn_number(&s->conn, HK_SQL_FIRST_SEQ, &begin, ei);
        break;
    default:
        return hk_fail(ei, HARK_EINVAL,
                       "consumer %s: start %lld is not a hark_start; give one of <hark/bus.h>",
                       at->name, (long long)at->start);
    }
    if (err || begin == 0)
        return err;
    if (at->start == START_TIME)
        err = hk_seek_time(&s->conn, at->time_ns, begin, s->now.last, &begin, ei);
    *ret = begin - 1;
    return err;
}

bool hk_rerun_columns(sqlite3_stmt *st, int col, hark_store_rerun *ret)
{
    const char *id;
    *ret = (hark_store_rerun){.from = (uint64_t)sqlite3_column_int64(st, col + 1),
                              .upto = (uint64_t)sqlite3_column_int64(st, col + 2),
                              .rate = sqlite3_column_int64(st, col + 3),
                              .started_ns = sqlite3_column_int64(st, col + 4),
                              .settled = (uint64_t)sqlite3_column_int64(st, col + 5)};
    if (!hk_column_str(st, col, &id))
        return false;
    if (id)
        (void)snprintf(ret->id, sizeof ret->id, "%s", id);
    return true;
}

static hark_err no_memory(const hark_store_consumer *c, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory for the state of consumer %s", c->name);
}

static hark_err add(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    uint64_t floor;
    hk_start at = {c->name, c->start, c->start_sequence, c->start_time_ns};
    hark_err err = hk_start_floor(s, &at, &floor, ei);
    if (!err)
        err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_ADD, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, c->name);
    hk_bind_str(st, 2, c->pattern);
    hk_bind_str(st, 3, c->policy);
    sqlite3_bind_int64(st, 4, c->start);
    sqlite3_bind_int64(st, 5, (int64_t)c->start_sequence);
    sqlite3_bind_int64(st, 6, c->start_time_ns);
    sqlite3_bind_int64(st, 7, hk_wall_ns());
    sqlite3_bind_int64(st, 8, (int64_t)floor);
    err = hk_conn_run(&s->conn, st, "registering a consumer", ei);
    if (err)
        return err;
    c->ret_id = (uint64_t)sqlite3_last_insert_rowid(s->conn.db);
    c->ret_created = 1;
    c->ret_generation = 1;
    c->ret_floor = c->ret_highest = floor;
    c->ret_pattern = hk_strdup(c->pattern);
    c->ret_policy = hk_strdup(c->policy);
    return c->ret_pattern && c->ret_policy ? HARK_OK : no_memory(c, ei);
}

static hark_err damaged(const hark_store *s, const hark_store_consumer *c, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ECORRUPT,
                   "%s: the state of consumer %s is damaged; restore the file from a backup",
                   s->path, c->name);
}

static hark_err load_state(hark_store *s, sqlite3_stmt *st, hark_store_consumer *c,
                           hark_errinfo *ei)
{
    const uint8_t *settled = sqlite3_column_blob(st, C_SETTLED);
    size_t len = (size_t)sqlite3_column_bytes(st, C_SETTLED);
    c->ret_created = 0;
    c->ret_id = (uint64_t)sqlite3_column_int64(st, C_ID);
    c->ret_generation = (uint64_t)sqlite3_column_int64(st, C_GENERATION);
    c->ret_floor = (uint64_t)sqlite3_column_int64(st, C_FLOOR);
    c->ret_highest = (uint64_t)sqlite3_column_int64(st, C_HIGHEST);
    c->ret_paused = sqlite3_column_int64(st, C_PAUSED);
    if (!hk_rerun_columns(st, C_RERUN, &c->ret_rerun))
        return no_memory(c, ei);
    if (len == 0)
        return HARK_OK;
    hark_err err = hk_ranges_decode(c->ret_floor, settled, len, &c->ret_settled, &c->ret_n_settled);
    if (err == HARK_ENOMEM)
        return no_memory(c, ei);
    return err ? damaged(s, c, ei) : HARK_OK;
}

/* Copies a column's text; false when memory is out. */
static bool copy_text(sqlite3_stmt *st, int col, const char **ret)
{
    const char *s = (const char *)sqlite3_column_text(st, col);
    *ret = hk_strdup(s);
    return *ret || (!s && sqlite3_column_type(st, col) == SQLITE_NULL);
}

static bool load_row(sqlite3_stmt *st, hark_store_row *r)
{
    *r = (hark_store_row){.sequence = (uint64_t)sqlite3_column_int64(st, D_SEQ),
                          .state = sqlite3_column_int64(st, D_STATE),
                          .attempts = sqlite3_column_int64(st, D_ATTEMPTS),
                          .crashes = sqlite3_column_int64(st, D_CRASHES),
                          .interruptions = sqlite3_column_int64(st, D_INTERRUPTIONS),
                          .due_ns = sqlite3_column_int64(st, D_DUE),
                          .first_ns = sqlite3_column_int64(st, D_FIRST)};
    bool key = copy_text(st, D_KEY, &r->key), error = copy_text(st, D_ERROR, &r->error);
    return key && error;
}

/* Sequences of rows that only say that they are settled. */
typedef struct acked {
    uint64_t *seqs;
    size_t n, cap;
} acked;

static bool note_acked(acked *a, uint64_t seq)
{
    if (a->n == a->cap) {
        size_t more = a->cap ? a->cap * 2 : 64;
        uint64_t *seqs = realloc(a->seqs, more * sizeof *seqs);
        if (!seqs)
            return false;
        a->seqs = seqs;
        a->cap = more;
    }
    a->seqs[a->n++] = seq;
    return true;
}

static bool room_for_row(hark_store_consumer *c, size_t *cap)
{
    if (c->ret_n_rows < *cap)
        return true;
    size_t more = *cap ? *cap * 2 : 16;
    hark_store_row *rows = realloc(c->ret_rows, more * sizeof *rows);
    if (!rows)
        return false;
    c->ret_rows = rows;
    *cap = more;
    return true;
}

static bool take_row(sqlite3_stmt *st, hark_store_consumer *c, size_t *cap, acked *a)
{
    if (sqlite3_column_int64(st, D_STATE) == HK_ROW_SETTLED)
        return note_acked(a, (uint64_t)sqlite3_column_int64(st, D_SEQ));
    return room_for_row(c, cap) && load_row(st, &c->ret_rows[c->ret_n_rows++]);
}

static hark_err read_rows(hark_store *s, hark_store_consumer *c, acked *a, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    size_t cap = 0;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_DELIVERIES, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)c->ret_id);
    while (!err) {
        bool row;
        err = hk_conn_step(&s->conn, st, &row, "loading a consumer", ei);
        if (err || !row)
            break;
        if (!take_row(st, c, &cap, a))
            err = hk_fail(ei, HARK_ENOMEM, "no memory for the open rows of consumer %s", c->name);
    }
    sqlite3_reset(st);
    return err;
}

/* Whoever only looks (`find`) may do so while the consumer is at work. */
static hark_err load_rows(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    acked a = {0};
    hark_err err = read_rows(s, c, &a, ei);
    if (!err)
        err = hk_acks_fold(s, c, a.seqs, a.n, !c->find, ei);
    free(a.seqs);
    return err;
}

static hark_err load_gap(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_GAPS, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)c->ret_id);
    err = hk_conn_step(&s->conn, st, &row, "loading a consumer's gaps", ei);
    if (!err && row) {
        c->ret_gap_from = (uint64_t)sqlite3_column_int64(st, 0);
        c->ret_gap_to = (uint64_t)sqlite3_column_int64(st, 1);
    }
    sqlite3_reset(st);
    return err;
}

static hark_err update(hark_store *s, const hark_store_consumer *c, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_UPDATE, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)c->ret_id);
    hk_bind_str(st, 2, c->pattern);
    hk_bind_str(st, 3, c->policy);
    return hk_conn_run(&s->conn, st, "updating a consumer", ei);
}

/* Pattern and policy as they will be registered after this call. */
static hark_err load_terms(sqlite3_stmt *st, hark_store_consumer *c, bool *ret_differs,
                           hark_errinfo *ei)
{
    const char *pattern = (const char *)sqlite3_column_text(st, C_PATTERN);
    const char *policy = (const char *)sqlite3_column_text(st, C_POLICY);
    if (!pattern || !policy)
        return no_memory(c, ei);
    return hk_consumer_terms(c, pattern, policy, ret_differs, ei);
}

static hark_err load(hark_store *s, sqlite3_stmt *st, hark_store_consumer *c, hark_errinfo *ei)
{
    bool differs = false;
    hark_err err = load_terms(st, c, &differs, ei);
    if (!err)
        err = load_state(s, st, c, ei);
    sqlite3_reset(st);
    if (!err)
        err = load_rows(s, c, ei);
    if (!err)
        err = load_gap(s, c, ei);
    if (!err && differs)
        err = update(s, c, ei);
    return err;
}

static hark_err add_unless_find(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    if (c->find)
        return hk_fail(ei, HARK_ENOTFOUND,
                       "no consumer %s is registered in %s; check the name, or subscribe with it",
                       c->name, s->path);
    return add(s, c, ei);
}

hark_err hk_sqlite_consumer_open(hark_store *s, hark_store_consumer *c, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hk_consumer_unfilled(c);
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "consumer_open outside of a group");
    hark_err err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_FIND, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, c->name);
    err = hk_conn_step(&s->conn, st, &row, "looking up a consumer", ei);
    if (!err && row)
        err = load(s, st, c, ei);
    sqlite3_reset(st);
    if (!err && !row)
        err = add_unless_find(s, c, ei);
    if (err)
        hark_store_consumer_clear(c);
    return err;
}
