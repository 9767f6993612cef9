/* Who has yet to see what retention wants to remove? A consumer whose pattern matches holds what is
 * above its floor, and whatever its pattern is now, every event that it has as an open row. When it is
 * forced nothing is held: those who miss something get a gap, kept in the ledger until it was handed
 * out, and lose their open rows there, but for those whose dead letters have their own copy: heads of
 * parked lanes, and what is being redriven. */
#include "store/sqlite/trim_i.h"

#include <stdlib.h>
#include <string.h>

/* ---- loading --------------------------------------------------------------------------------- */

/* What a consumer has of an event in the batch. */
typedef enum mark {
    NO_ROW,
    OPEN,
    COPIED, /* open, and a dead letter has the event */
    ACKED   /* the row says that it is settled */
} mark;

/* The first row of a consumer from a sequence on; 0 = none. */
static hark_err next_row(hk_trimming *w, uint64_t consumer, uint64_t seq, uint64_t *ret,
                         mark *ret_mark, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&w->s->conn, HK_SQL_TRIM_ROW_FROM, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)seq);
    err = hk_conn_step(&w->s->conn, st, &row, "looking for open rows", ei);
    *ret = !err && row ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    *ret_mark = err || !row                                     ? NO_ROW
                : sqlite3_column_int64(st, 1) == HK_ROW_SETTLED ? ACKED
                : sqlite3_column_int64(st, 2)                   ? COPIED
                                                                : OPEN;
    sqlite3_reset(st);
    return err;
}

static hark_err no_memory(const hk_trimming *w, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory to remove events of %s", w->t->pattern);
}

static hark_err load_settled(hk_trimming *w, sqlite3_stmt *st, hk_holder *h, hark_errinfo *ei)
{
    const uint8_t *bytes = sqlite3_column_blob(st, 3);
    size_t len = (size_t)sqlite3_column_bytes(st, 3);
    hark_err err = HARK_OK;
    if (w->t->force && len)
        err = hk_ranges_decode(h->floor, bytes, len, &h->settled, &h->n_settled);
    if (err == HARK_ENOMEM)
        return no_memory(w, ei);
    const char *name = err ? (const char *)sqlite3_column_text(st, 4) : NULL;
    return err ? hk_fail(ei, err,
                         "%s: the state of consumer %s is damaged; restore the file from a backup",
                         w->s->path, name ? name : "?")
               : HARK_OK;
}

static hark_err add_holder(hk_trimming *w, sqlite3_stmt *st, hk_holder *h, hark_errinfo *ei)
{
    if (w->n_holders == w->cap_holders) {
        size_t more = w->cap_holders ? w->cap_holders * 2 : 16;
        hk_holder *holders = realloc(w->holders, more * sizeof *holders);
        if (!holders)
            return no_memory(w, ei);
        w->holders = holders;
        w->cap_holders = more;
    }
    h->pattern = hk_strdup((const char *)sqlite3_column_text(st, 1));
    w->holders[w->n_holders++] = *h;
    if (!h->pattern)
        return no_memory(w, ei);
    return load_settled(w, st, &w->holders[w->n_holders - 1], ei);
}

/* Most consumers are past the limit and have no rows; they hold nothing. */
static hark_err load_holder(hk_trimming *w, sqlite3_stmt *st, hark_errinfo *ei)
{
    hk_holder h = {.id = (uint64_t)sqlite3_column_int64(st, 0),
                   .floor = (uint64_t)sqlite3_column_int64(st, 2)};
    mark first;
    hark_err err = next_row(w, h.id, 0, &h.row, &first, ei);
    if (h.row >= w->limit)
        h.row = 0;
    if (err || (h.floor + 1 >= w->limit && h.row == 0))
        return err;
    return add_holder(w, st, &h, ei);
}

hark_err hk_holders_load(hk_trimming *w, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = true;
    hark_err err = hk_conn_get(&w->s->conn, HK_SQL_TRIM_CONSUMERS, &st, ei);
    if (err)
        return err;
    while (!err && row) {
        err = hk_conn_step(&w->s->conn, st, &row, "looking who has yet to see events", ei);
        if (!err && row)
            err = load_holder(w, st, ei);
    }
    sqlite3_reset(st);
    return err;
}

void hk_holders_free(hk_trimming *w)
{
    for (size_t i = 0; i < w->n_holders; i++) {
        free(w->holders[i].pattern);
        free(w->holders[i].settled);
    }
    free(w->holders);
}

/* ---- holding --------------------------------------------------------------------------------- */

hark_err hk_holders_match(hk_trimming *w, int64_t type, uint64_t *ret_limit, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    *ret_limit = w->limit;
    if (w->n_holders == 0)
        return HARK_OK;
    hark_err err = hk_conn_get(&w->s->conn, HK_SQL_TYPE_NAME, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, type);
    err = hk_conn_step(&w->s->conn, st, &row, "reading a name", ei);
    const char *name = !err && row ? (const char *)sqlite3_column_text(st, 0) : NULL;
    if (!err && !name)
        err = no_memory(w, ei);
    for (size_t i = 0; i < w->n_holders && !err; i++) {
        hk_holder *h = &w->holders[i];
        h->matches = hark_pattern_match(h->pattern, name);
        if (h->matches && !w->t->force && h->floor + 1 < *ret_limit)
            *ret_limit = h->floor + 1;
    }
    sqlite3_reset(st);
    return err;
}

/* Walks the batch and the rows of one consumer side by side. */
static hark_err mark_rows(hk_trimming *w, const hk_holder *h, const uint64_t *seqs, size_t n,
                          mark marks[HK_TRIM_BATCH], hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    size_t i = 0;
    while (!err && i < n && h->row && h->row <= seqs[n - 1]) {
        uint64_t row;
        mark m;
        err = next_row(w, h->id, seqs[i], &row, &m, ei);
        if (err || row == 0)
            break;
        while (i < n && seqs[i] < row)
            i++;
        if (i < n && seqs[i] == row)
            marks[i++] = m;
    }
    return err;
}

hark_err hk_holders_keep(hk_trimming *w, uint64_t *seqs, size_t *n, hark_errinfo *ei)
{
    bool held[HK_TRIM_BATCH] = {false};
    hark_err err = HARK_OK;
    size_t left = 0;
    for (size_t i = 0; i < w->n_holders && !err; i++) {
        mark marks[HK_TRIM_BATCH] = {NO_ROW};
        err = mark_rows(w, &w->holders[i], seqs, *n, marks, ei);
        for (size_t j = 0; j < *n; j++)
            held[j] |= marks[j] == OPEN || marks[j] == COPIED;
    }
    for (size_t i = 0; i < *n; i++)
        if (!held[i]) {
            w->versions[left] = w->versions[i];
            seqs[left++] = seqs[i];
        }
    *n = left;
    return err;
}

/* ---- forcing --------------------------------------------------------------------------------- */

static bool has_settled(const hk_holder *h, uint64_t seq)
{
    return seq <= h->floor || hk_ranges_have(h->settled, h->n_settled, seq);
}

static void misses(hk_holder *h, uint64_t seq)
{
    if (h->first == 0)
        h->first = seq;
    h->last = seq;
}

static hark_store_gap *gap_of(hk_trimming *w, const hk_holder *h)
{
    for (size_t i = 0; i < w->t->ret_n_gaps; i++)
        if (w->t->gaps[i].consumer == h->id)
            return &w->t->gaps[i];
    return NULL;
}

/* What does each have yet to see of the batch? Returns how many the caller has not been told of. */
static hark_err find_misses(hk_trimming *w, const uint64_t *seqs, size_t n, size_t *ret_new,
                            hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    *ret_new = 0;
    for (size_t i = 0; i < w->n_holders && !err; i++) {
        mark marks[HK_TRIM_BATCH] = {NO_ROW};
        hk_holder *h = &w->holders[i];
        h->first = h->last = 0;
        err = mark_rows(w, h, seqs, n, marks, ei);
        for (size_t j = 0; j < n; j++)
            if (marks[j] == OPEN || (marks[j] != ACKED && h->matches && !has_settled(h, seqs[j])))
                misses(h, seqs[j]);
        *ret_new += h->first && !gap_of(w, h);
    }
    return err;
}

static hark_err drop_rows(hk_trimming *w, const hk_holder *h, const uint64_t *seqs, size_t n,
                          hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&w->s->conn, HK_SQL_TRIM_ROW, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)h->id);
    for (size_t i = 0; i < n && !err && h->row && h->row <= seqs[n - 1]; i++) {
        sqlite3_bind_int64(st, 2, (int64_t)seqs[i]);
        err = hk_conn_run(&w->s->conn, st, "dropping a row whose event is removed", ei);
    }
    return err;
}

static void tell(hk_trimming *w, const hk_holder *h)
{
    hark_store_gap *gap = gap_of(w, h);
    if (!gap) {
        gap = &w->t->gaps[w->t->ret_n_gaps++];
        *gap = (hark_store_gap){.consumer = h->id, .from = h->first, .to = h->last};
    }
    gap->from = h->first < gap->from ? h->first : gap->from;
    gap->to = h->last > gap->to ? h->last : gap->to;
}

hark_err hk_holders_miss(hk_trimming *w, const uint64_t *seqs, size_t n, bool *ret_room,
                         hark_errinfo *ei)
{
    size_t more = 0;
    hark_err err = find_misses(w, seqs, n, &more, ei);
    *ret_room = w->t->ret_n_gaps + more <= w->t->cap_gaps;
    if (err || *ret_room) {
        for (size_t i = 0; i < w->n_holders && !err; i++) {
            if (w->holders[i].first == 0)
                continue;
            tell(w, &w->holders[i]);
            err = drop_rows(w, &w->holders[i], seqs, n, ei);
        }
        return err;
    }
    if (w->t->ret_n_gaps == 0 && w->t->ret_removed == 0)
        return hk_fail(ei, HARK_EINVAL, "room for %zu gaps, and %zu consumers have one",
                       w->t->cap_gaps, more);
    return HARK_OK;
}

static hark_err save_gap(hk_trimming *w, const hark_store_gap *g, hark_errinfo *ei)
{
    sqlite3_stmt *find, *clear, *put;
    uint64_t first = g->from, last = g->to;
    bool row = false;
    hark_err err = hk_conn_get(&w->s->conn, HK_SQL_GAPS, &find, ei);
    if (!err)
        err = hk_conn_get(&w->s->conn, HK_SQL_GAPS_CLEAR, &clear, ei);
    if (!err)
        err = hk_conn_get(&w->s->conn, HK_SQL_GAP_ADD, &put, ei);
    if (err)
        return err;
    sqlite3_bind_int64(find, 1, (int64_t)g->consumer);
    err = hk_conn_step(&w->s->conn, find, &row, "looking for a gap", ei);
    if (!err && row && sqlite3_column_type(find, 0) != SQLITE_NULL) {
        uint64_t a = (uint64_t)sqlite3_column_int64(find, 0);
        uint64_t b = (uint64_t)sqlite3_column_int64(find, 1);
        first = a < first ? a : first;
        last = b > last ? b : last;
    }
    sqlite3_reset(find);
    sqlite3_bind_int64(clear, 1, (int64_t)g->consumer);
    if (!err)
        err = hk_conn_run(&w->s->conn, clear, "joining gaps", ei);
    sqlite3_bind_int64(put, 1, (int64_t)g->consumer);
    sqlite3_bind_int64(put, 2, (int64_t)first);
    sqlite3_bind_int64(put, 3, (int64_t)last);
    return err ? err : hk_conn_run(&w->s->conn, put, "recording a gap", ei);
}

hark_err hk_holders_save_gaps(hk_trimming *w, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t i = 0; i < w->t->ret_n_gaps && !err; i++)
        err = save_gap(w, &w->t->gaps[i], ei);
    return err;
}
