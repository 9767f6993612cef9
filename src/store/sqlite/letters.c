/* Lists dead letters and the failed attempts behind them, on a reading connection. An index leads
 * to the letters of one consumer; the other filters look at each row, at its event last. They are
 * read in pages, a short read transaction each, and shown after it. */
#include "store/sqlite/store_i.h"

#include <stdio.h>
#include <string.h>

/* Columns of HK_SQL_LETTERS and the other statements of that kind. */
enum {
    L_ID,
    L_SEQ,
    L_GENERATION,
    L_CONSUMER,
    L_NAME,
    L_REASON,
    L_ERROR,
    L_ATTEMPTS,
    L_CRASHES,
    L_INTERRUPTIONS,
    L_FIRST,
    L_DEAD,
    L_STATE,
    L_RECORDED,
    L_TYPE,
    L_ENVELOPE,
    L_DATA
};

/* A page has so many letters, of about so many bytes, and looks at so many rows. */
enum { PAGE = 64, PAGE_BYTES = 4 << 20, LOOK_MAX = 4096 };

typedef struct list {
    const hark_store_letters_query *q;
    hk_conn *conn;
    uint64_t consumer; /* by the name in q */
    uint64_t after;    /* all up to here was looked at */
    size_t most;       /* letters in this page */
    size_t bytes;      /* of their data */
    bool end;          /* it is the last page */
    hk_copies page;
} list;

static hark_err no_memory(hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOMEM, "no memory to list dead letters");
}

/* 0: nobody has this name. */
static hark_err find_consumer(list *l, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(l->conn, HK_SQL_CONSUMER_FIND, &st, ei);
    if (err)
        return err;
    hk_bind_str(st, 1, l->q->consumer);
    err = hk_conn_step(l->conn, st, &row, "looking up a consumer", ei);
    l->consumer = !err && row ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    sqlite3_reset(st);
    return err;
}

/* The statement that leads to the fewest letters, bound. */
static hark_err choose(const list *l, sqlite3_stmt **ret, hark_errinfo *ei)
{
    const hark_store_letters_query *q = l->q;
    hk_sql which = q->id          ? HK_SQL_LETTER
                   : !q->consumer ? HK_SQL_LETTERS
                   : q->sequence  ? HK_SQL_LETTERS_AT
                   : q->state     ? HK_SQL_LETTERS_OF_STATE
                                  : HK_SQL_LETTERS_OF;
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(l->conn, which, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)(q->id ? q->id : l->after));
    if (!q->id && q->consumer)
        sqlite3_bind_int64(st, 2, (int64_t)l->consumer);
    if (which == HK_SQL_LETTERS_AT)
        sqlite3_bind_int64(st, 3, (int64_t)q->sequence);
    else if (which == HK_SQL_LETTERS_OF_STATE)
        sqlite3_bind_int64(st, 3, q->state);
    *ret = st;
    return HARK_OK;
}

/* Everything but the event; false when memory is out. */
static bool load(sqlite3_stmt *st, hark_store_letter *ret)
{
    *ret = (hark_store_letter){.id = (uint64_t)sqlite3_column_int64(st, L_ID),
                               .sequence = (uint64_t)sqlite3_column_int64(st, L_SEQ),
                               .generation = (uint64_t)sqlite3_column_int64(st, L_GENERATION),
                               .consumer_id = (uint64_t)sqlite3_column_int64(st, L_CONSUMER),
                               .attempts = sqlite3_column_int64(st, L_ATTEMPTS),
                               .first_ns = sqlite3_column_int64(st, L_FIRST),
                               .dead_ns = sqlite3_column_int64(st, L_DEAD),
                               .state = sqlite3_column_int64(st, L_STATE)};
    return hk_column_str(st, L_NAME, &ret->consumer) && hk_column_str(st, L_REASON, &ret->reason) &&
           hk_column_str(st, L_ERROR, &ret->error);
}

static bool wanted(const list *l, const hark_store_letter *x, const char *type)
{
    const hark_store_letters_query *q = l->q;
    return x->id > q->after_id && (!q->consumer || x->consumer_id == l->consumer) &&
           (!q->reason || strcmp(x->reason, q->reason) == 0) &&
           (!q->sequence || x->sequence == q->sequence) && (!q->state || x->state == q->state) &&
           (!q->from_ns || x->dead_ns >= q->from_ns) && (!q->to_ns || x->dead_ns < q->to_ns) &&
           (!q->pattern || hark_pattern_match(q->pattern, type));
}

/* The letter's own copy of the event. */
static hark_err load_event(sqlite3_stmt *st, uint64_t id, uint64_t seq, hark_event **ret,
                           hark_errinfo *ei)
{
    char what[48];
    const char *json;
    const void *data;
    size_t len;
    if (!hk_column_str(st, L_ENVELOPE, &json) || !hk_column_data(st, L_DATA, &data, &len))
        return no_memory(ei);
    (void)snprintf(what, sizeof what, "dead letter %llu", (unsigned long long)id);
    hark_err err = hk_envelope_event(json, (size_t)sqlite3_column_bytes(st, L_ENVELOPE), data, len,
                                     what, ret, ei);
    if (!err)
        hark_event_stamp(*ret, seq, sqlite3_column_int64(st, L_RECORDED));
    return err;
}

/* The copy takes the event over. */
static hark_err keep(list *l, hark_store_letter *x, hark_event *e, hark_errinfo *ei)
{
    static const size_t strings[] = {offsetof(hark_store_letter, consumer),
                                     offsetof(hark_store_letter, reason),
                                     offsetof(hark_store_letter, error)};
    size_t len;
    x->event = e;
    (void)hark_event_data(e, &len);
    l->bytes += len;
    if (hk_copies_add(&l->page, x, sizeof *x, strings, HK_COUNTOF(strings)))
        return HARK_OK;
    hark_event_unref(e);
    return no_memory(ei);
}

/* Takes the row that `st` stands at into the page, if it is asked for. */
static hark_err look_at(list *l, sqlite3_stmt *st, hark_errinfo *ei)
{
    hark_store_letter x;
    hark_event *e;
    const char *type;
    if (!load(st, &x) || !hk_column_str(st, L_TYPE, &type))
        return no_memory(ei);
    l->after = x.id;
    if (!wanted(l, &x, type))
        return HARK_OK;
    hark_err err = load_event(st, x.id, x.sequence, &e, ei);
    if (err)
        return err;
    x.crashes =
        sqlite3_column_int64(st, L_CRASHES); /* behind the data: only when they are needed */
    x.interruptions = sqlite3_column_int64(st, L_INTERRUPTIONS);
    x.consumer = x.consumer ? x.consumer : "?";
    return keep(l, &x, e, ei);
}

static hark_err read_page(hk_reader *r, void *ud, hark_errinfo *ei)
{
    list *l = ud;
    sqlite3_stmt *st = NULL;
    l->conn = &r->conn;
    hark_err err = l->q->consumer ? find_consumer(l, ei) : HARK_OK;
    l->end = l->q->id || (l->q->consumer && !l->consumer);
    if (err || (l->end && !l->q->id))
        return err;
    err = choose(l, &st, ei);
    for (size_t i = 0; !err && i < LOOK_MAX && l->page.n < l->most && l->bytes < PAGE_BYTES; i++) {
        bool row = false;
        err = hk_conn_step(&r->conn, st, &row, "listing dead letters", ei);
        l->end |= !err && !row;
        if (err || !row)
            break;
        err = look_at(l, st, ei);
    }
    if (st)
        sqlite3_reset(st);
    return err;
}

/* Empties the page; false: no more is wanted. */
static bool show(list *l, hark_store_letter_fn fn, void *ud)
{
    bool more = true;
    for (size_t i = 0; i < l->page.n; i++) {
        const hark_store_letter *x = l->page.rows[i];
        more = more && fn(ud, x);
        hark_event_unref(x->event);
    }
    hk_copies_clear(&l->page);
    return more;
}

/* What was found before an error is shown. */
hark_err hk_sqlite_letters(hark_store *s, const hark_store_letters_query *q,
                           hark_store_letter_fn fn, void *ud, hark_errinfo *ei)
{
    list l = {.q = q, .after = q->after_id};
    size_t left = q->limit ? q->limit : SIZE_MAX;
    hark_err err = HARK_OK;
    for (bool more = true; !err && more && !l.end && left > 0;) {
        l.most = left < PAGE ? left : PAGE;
        l.bytes = 0;
        err = hk_reader_run(s, read_page, &l, ei);
        left -= l.page.n;
        if (!show(&l, fn, ud)) {
            more = false;
            err = HARK_OK; /* the caller has what it wanted, as if it had been read one by one */
        }
    }
    hk_copies_free(&l.page);
    return err;
}

/* ---- attempts -------------------------------------------------------------------------------- */

typedef struct attempt_list {
    uint64_t consumer, sequence;
    hk_copies all;
} attempt_list;

static bool load_attempt(sqlite3_stmt *st, hark_store_attempt *ret)
{
    ret->number = sqlite3_column_int64(st, 0);
    ret->started_ns = sqlite3_column_int64(st, 1);
    ret->ended_ns = sqlite3_column_int64(st, 2);
    return hk_column_str(st, 3, &ret->outcome) && hk_column_str(st, 4, &ret->error);
}

static hark_err list_attempts(hk_reader *r, void *ud, hark_errinfo *ei)
{
    static const size_t strings[] = {offsetof(hark_store_attempt, outcome),
                                     offsetof(hark_store_attempt, error)};
    attempt_list *l = ud;
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&r->conn, HK_SQL_ATTEMPTS, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)l->consumer);
    sqlite3_bind_int64(st, 2, (int64_t)l->sequence);
    while (!err) {
        hark_store_attempt a = {.sequence = l->sequence};
        err = hk_conn_step(&r->conn, st, &row, "listing attempts", ei);
        if (err || !row)
            break;
        if (!load_attempt(st, &a) ||
            !hk_copies_add(&l->all, &a, sizeof a, strings, HK_COUNTOF(strings)))
            err = hk_fail(ei, HARK_ENOMEM, "no memory to list attempts");
    }
    sqlite3_reset(st);
    return err;
}

hark_err hk_sqlite_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                            hark_store_attempt_fn fn, void *ud, hark_errinfo *ei)
{
    attempt_list l = {.consumer = consumer, .sequence = sequence};
    hark_err err = hk_reader_run(s, list_attempts, &l, ei);
    for (size_t i = 0; i < l.all.n && !err; i++)
        if (!fn(ud, l.all.rows[i]))
            break;
    hk_copies_free(&l.all);
    return err;
}
