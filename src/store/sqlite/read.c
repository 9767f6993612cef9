/* Reads a page: one short read transaction, so that no reader ever holds back a checkpoint for
 * longer than a page takes. Four ways lead through the log: by sequence, by sequence with a filter
 * on types, by the type index with a merge over few types, and by subject. */
#include "store/sqlite/store_i.h"

/* Rows that one call looks at when a filter lets few through. */
#define LOOK_MAX 16384

typedef struct walk {
    const hark_store_query *q;
    hk_reader *r;
    hark_store_page *page;
    const hk_type_set *types; /* NULL = every type */
    uint64_t low, high;       /* sequences to look at, inclusive */
    uint64_t first, last;     /* oldest that there is, 0 = none; newest that was */
    size_t bytes;
    hk_row_form form;
    bool full;
    bool widen; /* a narrow row did not tell all */
} walk;

static void reset(sqlite3_stmt *st)
{
    if (st)
        sqlite3_reset(st);
}

/* Takes the row that a statement stands at into the page. */
static hark_err take_row(walk *w, sqlite3_stmt *st, hark_errinfo *ei)
{
    hark_event *e;
    size_t len;
    hark_err err = hk_row_load(&w->r->conn, st, w->r->names, &w->form, &e, ei);
    if (err)
        return err;
    if (!e) {
        w->widen = true;
        return HARK_OK;
    }
    w->page->events[w->page->n++] = e;
    w->page->covered = hark_event_sequence(e);
    (void)hark_event_data(e, &len);
    w->bytes += len;
    w->full = w->page->n >= w->q->limit || (w->q->limit_bytes && w->bytes >= w->q->limit_bytes);
    return HARK_OK;
}

/* Follows one statement to its end, or until the page is full. */
static hark_err follow(walk *w, sqlite3_stmt *st, hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    for (size_t looked = 0; !err && !w->full && !w->widen; looked++) {
        bool row;
        err = hk_conn_step(&w->r->conn, st, &row, "reading events", ei);
        if (err || !row)
            break;
        if (!w->types || hk_type_set_has(w->types, sqlite3_column_int64(st, HK_COL_TYPE)))
            err = take_row(w, st, ei);
        else
            w->page->covered = (uint64_t)sqlite3_column_int64(st, HK_COL_SEQ);
        w->full |= looked >= LOOK_MAX;
    }
    sqlite3_reset(st);
    return err;
}

static hark_err scan(walk *w, hark_errinfo *ei)
{
    hk_sql which = w->form.narrow ? HK_SQL_NARROW_UP : HK_SQL_SCAN_UP;
    sqlite3_stmt *st = hk_conn_stmt(&w->r->conn, (hk_sql)(which + (w->q->descending != 0)), ei);
    if (!st)
        return HARK_ESTORE;
    sqlite3_bind_int64(st, 1, (int64_t)w->low);
    sqlite3_bind_int64(st, 2, (int64_t)w->high);
    return follow(w, st, ei);
}

/* Begins with narrow rows unless the last page was better off with whole ones, and reads whole ones
 * from the first row on that needs it. */
static hark_err walk_sequence(walk *w, hark_errinfo *ei)
{
    w->form.narrow = !w->r->wide;
    hark_err err = scan(w, ei);
    if (!err && w->widen) {
        w->form.narrow = w->widen = false;
        if (w->q->descending)
            w->high = w->page->covered - 1;
        else
            w->low = w->page->covered + 1;
        err = scan(w, ei);
    }
    w->r->wide = w->form.extras;
    return err;
}

static hark_err walk_subject(walk *w, hark_errinfo *ei)
{
    hk_sql which = w->q->descending ? HK_SQL_SUBJECT_DOWN : HK_SQL_SUBJECT_UP;
    int64_t first, beyond;
    hark_err err = hk_seek_subject(&w->r->conn, w->q->subject, w->low, &first, ei);
    if (!err)
        err = hk_seek_subject(&w->r->conn, w->q->subject, w->high + 1, &beyond, ei);
    sqlite3_stmt *st = err ? NULL : hk_conn_stmt(&w->r->conn, which, ei);
    if (!st)
        return err ? err : HARK_ESTORE;
    hk_bind_str(st, 1, w->q->subject);
    sqlite3_bind_int64(st, 2, first);
    sqlite3_bind_int64(st, 3, beyond - 1);
    return follow(w, st, ei);
}

/* ---- the merge: a cursor a type, each standing at its next row ------------------------------- */

typedef struct cursor {
    sqlite3_stmt *st;
    uint64_t seq; /* 0 = at its end */
} cursor;

static hark_err advance(walk *w, cursor *c, hark_errinfo *ei)
{
    bool row;
    hark_err err = hk_conn_step(&w->r->conn, c->st, &row, "reading events of a type", ei);
    c->seq = !err && row ? (uint64_t)sqlite3_column_int64(c->st, HK_COL_SEQ) : 0;
    return err;
}

static hark_err start_cursors(walk *w, cursor *c, size_t n, hark_errinfo *ei)
{
    int which = w->q->descending ? HK_SQL_TYPE_DOWN : HK_SQL_TYPE_UP;
    for (size_t i = 0; i < n; i++) {
        c[i].st = hk_conn_stmt(&w->r->conn, (hk_sql)(which + (int)i), ei);
        if (!c[i].st)
            return HARK_ESTORE;
        sqlite3_bind_int64(c[i].st, 1, w->types->few[i]);
        sqlite3_bind_int64(c[i].st, 2, (int64_t)w->low);
        sqlite3_bind_int64(c[i].st, 3, (int64_t)w->high);
        hark_err err = advance(w, &c[i], ei);
        if (err)
            return err;
    }
    return HARK_OK;
}

static cursor *next_cursor(const walk *w, cursor *c, size_t n)
{
    cursor *best = NULL;
    for (size_t i = 0; i < n; i++)
        if (c[i].seq && (!best || (w->q->descending ? c[i].seq > best->seq : c[i].seq < best->seq)))
            best = &c[i];
    return best;
}

static hark_err walk_types(walk *w, hark_errinfo *ei)
{
    cursor cursors[HK_TYPE_CURSORS] = {{0}}, *c;
    size_t n = w->types->n_match;
    hark_err err = start_cursors(w, cursors, n, ei);
    while (!err && !w->full && (c = next_cursor(w, cursors, n))) {
        err = take_row(w, c->st, ei);
        if (!err && !w->full)
            err = advance(w, c, ei);
    }
    for (size_t i = 0; i < n; i++)
        reset(cursors[i].st);
    return err;
}

/* ---- the page -------------------------------------------------------------------------------- */

/* Which sequences does the query allow, and which of them are gone? */
static hark_err set_bounds(walk *w, hark_errinfo *ei)
{
    const hark_store_query *q = w->q;
    hark_err err = hk_conn_number(&w->r->conn, HK_SQL_FIRST_SEQ, &w->first, ei);
    if (!err)
        err = hk_conn_number(&w->r->conn, HK_SQL_LAST_EVER, &w->last, ei);
    if (err)
        return err;
    uint64_t gone = w->first ? w->first - 1 : w->last;
    if (!q->descending)
        w->page->gap = gone > q->after ? gone : 0;
    return hk_seek_bounds(&w->r->conn, q, w->first, w->last, &w->low, &w->high, ei);
}

/* Walked to the end: every position that the query allows was looked at. */
static void finish(walk *w)
{
    const hark_store_query *q = w->q;
    w->page->end = 1;
    if (q->descending) {
        w->page->covered = q->after + 1;
        return;
    }
    uint64_t to = q->before && q->before <= w->last ? q->before - 1 : w->last;
    w->page->covered = to > q->after ? to : q->after;
}

static hark_err walk_log(walk *w, hark_errinfo *ei)
{
    hark_err err = set_bounds(w, ei);
    if (!err)
        err = hk_type_set_get(w->r, w->q->pattern, &w->types, ei);
    if (err)
        return err;
    w->page->covered = w->q->descending ? w->high + 1 : w->low - 1;
    if (w->low <= w->high && !(w->types && w->types->n_match == 0)) {
        if (w->q->subject)
            err = walk_subject(w, ei);
        else if (w->types && hk_type_set_by_index(w->types))
            err = walk_types(w, ei);
        else
            err = walk_sequence(w, ei);
    }
    if (!err && !w->full)
        finish(w);
    /* What lies before a damaged place is good; the next page begins with the error. */
    return err == HARK_ECORRUPT && w->page->n > 0 ? HARK_OK : err;
}

static void drop_page(hark_store_page *page)
{
    for (; page->n > 0; page->n--)
        (void)hark_event_unref(page->events[page->n - 1]);
}

hark_err hk_read(hark_store *s, const hark_store_query *q, hark_store_page *ret, hark_errinfo *ei)
{
    walk w = {.q = q, .page = ret};
    ret->n = 0;
    ret->end = 0;
    ret->covered = q->after;
    if (q->limit == 0)
        return hk_fail(ei, HARK_EINVAL, "a page of 0 events");
    hark_err err = hk_reader_take(s, &w.r, ei);
    if (err)
        return err;
    err = hk_conn_do(&w.r->conn, HK_SQL_BEGIN_READ, "beginning to read", ei);
    if (!err) {
        err = walk_log(&w, ei);
        (void)hk_conn_do(&w.r->conn, HK_SQL_COMMIT, "ending to read", NULL);
    }
    if (err)
        drop_page(ret);
    hk_reader_give(s, w.r);
    return err;
}
