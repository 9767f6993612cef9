/* Lists dead letters and the failed attempts behind them. Letters are found by their narrow columns first, and
 * loaded page by page: their events are only read when they are asked for. A page is shown when its
 * connection was given back. */
#include "store/postgres/ledger_i.h"

#include <stdio.h>

/* A page has so many letters, of about so many bytes of data, and looks at so many rows. */
enum { PAGE = 64, PAGE_BYTES = 4 << 20, LOOK_MAX = 1024 };

#define CONSUMER "d.consumer_id = (SELECT c.id FROM @consumers c WHERE c.name = $2::text)"
#define FIND     "SELECT d.id, d.type FROM @dead_letters d WHERE "
#define FILTERS                                                                                    \
    " AND d.id > $1::int8 AND ($3::int8 = 0 OR d.seq = $3::int8) AND ($4::int8 = 0 OR "            \
    "d.state = $4::int8) AND ($5::text IS NULL OR d.reason = $5::text) AND ($6::int8 = 0 OR "      \
    "d.dead >= $6::int8) AND ($7::int8 = 0 OR d.dead < $7::int8) ORDER BY d.id LIMIT $9::int8"

/* Each leads to as few letters as can be; parameters are the same for all. */
static const hk_pg_sql find_one = {
    "letters_find_one", FIND "d.id = $8::int8 AND ($2::text IS NULL OR " CONSUMER ")" FILTERS};
static const hk_pg_sql find_all = {"letters_find_all",
                                   FIND "$8::int8 = 0 AND $2::text IS NULL" FILTERS};
static const hk_pg_sql find_of = {"letters_find_of", FIND "$8::int8 = 0 AND " CONSUMER FILTERS};
static const hk_pg_sql find_at = {"letters_find_at",
                                  FIND "$8::int8 = 0 AND d.seq = $3::int8 AND " CONSUMER FILTERS};

/* The server sums up the bytes without reading them. */
static const hk_pg_sql load_page = {
    "letters_load",
    "SELECT q.id, q.seq, q.generation, q.consumer_id, c.name, q.reason, q.error, q.attempts, "
    "q.crashes, q.interruptions, q.first, q.dead, q.state, q.recorded, q.envelope, q.data FROM "
    "(SELECT d.*, coalesce(sum(octet_length(d.data)) OVER (ORDER BY d.id ROWS BETWEEN UNBOUNDED "
    "PRECEDING AND 1 PRECEDING), 0) AS before FROM unnest($1::int8[]) AS x(id) CROSS JOIN LATERAL "
    "(SELECT * FROM @dead_letters l WHERE l.id = x.id LIMIT 1) d) q "
    "LEFT JOIN @consumers c ON c.id = q.consumer_id WHERE q.before < $2::int8 ORDER BY q.id"};
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
    L_ENVELOPE,
    L_DATA
};

typedef struct list {
    const hark_store_letters_query *q;
    uint64_t after;  /* all up to here was looked at */
    size_t most;     /* letters in this page */
    hk_pg_array ids; /* of them */
    uint64_t looked; /* and all up to here was looked at, */
    bool end;        /* to the last one */
    PGresult *page;
} list;

/* ---- finding --------------------------------------------------------------------------------- */

static const hk_pg_sql *statement(const hark_store_letters_query *q)
{
    return q->id ? &find_one : !q->consumer ? &find_all : q->sequence ? &find_at : &find_of;
}

static hark_err run_find(const list *l, hk_pg *c, PGresult **ret, hark_errinfo *ei)
{
    const hark_store_letters_query *q = l->q;
    hk_pg_args args = {.n = 0};
    hk_pg_int(&args, (int64_t)l->after);
    hk_pg_text(&args, q->consumer);
    hk_pg_int(&args, (int64_t)q->sequence);
    hk_pg_int(&args, q->state);
    hk_pg_text(&args, q->reason);
    hk_pg_int(&args, q->from_ns);
    hk_pg_int(&args, q->to_ns);
    hk_pg_int(&args, (int64_t)q->id);
    hk_pg_int(&args, q->pattern ? LOOK_MAX : (int64_t)l->most);
    return hk_pg_run(c, statement(q), &args, ret, "listing dead letters", ei);
}

/* Ids of those whose type is asked for. */
static hark_err find(list *l, hk_pg *c, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = run_find(l, c, &r, ei);
    if (err)
        return err;
    int n = PQntuples(r), i = 0;
    hk_pg_array_clear(&l->ids);
    l->looked = l->after;
    for (; i < n && l->ids.n < l->most; i++) {
        l->looked = (uint64_t)hk_pg_get_int(r, i, 0);
        if (!l->q->pattern || hark_pattern_match(l->q->pattern, hk_pg_get_text(r, i, 1, NULL)))
            hk_pg_array_int(&l->ids, (int64_t)l->looked);
    }
    l->end = l->q->id || n == 0;
    PQclear(r);
    return HARK_OK;
}

/* ---- loading --------------------------------------------------------------------------------- */

static hark_err read_page(hk_pg *c, void *ud, hark_errinfo *ei)
{
    list *l = ud;
    hk_pg_args args = {.n = 0};
    size_t n;
    hark_err err = find(l, c, ei);
    if (err || l->ids.n == 0)
        return err;
    err = hk_pg_arg_array(&args, &l->ids, ei);
    hk_pg_int(&args, PAGE_BYTES);
    if (!err)
        err = hk_pg_run(c, &load_page, &args, &l->page, "loading dead letters", ei);
    n = err ? 0 : (size_t)PQntuples(l->page);
    if (n > 0 && n < l->ids.n) { /* the others may have been too large for this page */
        l->looked = (uint64_t)hk_pg_get_int(l->page, (int)n - 1, L_ID);
        l->end = false;
    }
    return err;
}

static void load(const PGresult *r, int row, hark_store_letter *ret)
{
    const char *name = hk_pg_get_text(r, row, L_NAME, NULL);
    *ret = (hark_store_letter){.id = (uint64_t)hk_pg_get_int(r, row, L_ID),
                               .sequence = (uint64_t)hk_pg_get_int(r, row, L_SEQ),
                               .generation = (uint64_t)hk_pg_get_int(r, row, L_GENERATION),
                               .consumer = name ? name : "?",
                               .consumer_id = (uint64_t)hk_pg_get_int(r, row, L_CONSUMER),
                               .reason = hk_pg_get_text(r, row, L_REASON, NULL),
                               .error = hk_pg_get_text(r, row, L_ERROR, NULL),
                               .attempts = hk_pg_get_int(r, row, L_ATTEMPTS),
                               .crashes = hk_pg_get_int(r, row, L_CRASHES),
                               .interruptions = hk_pg_get_int(r, row, L_INTERRUPTIONS),
                               .first_ns = hk_pg_get_int(r, row, L_FIRST),
                               .dead_ns = hk_pg_get_int(r, row, L_DEAD),
                               .state = hk_pg_get_int(r, row, L_STATE)};
}

/* The letter's own copy of the event. */
static hark_err load_event(const PGresult *r, int row, const hark_store_letter *l, hark_event **ret,
                           hark_errinfo *ei)
{
    char what[48];
    size_t len, data_len;
    const char *json = hk_pg_get_text(r, row, L_ENVELOPE, &len);
    const void *data = hk_pg_get_blob(r, row, L_DATA, &data_len);
    (void)snprintf(what, sizeof what, "dead letter %llu", (unsigned long long)l->id);
    hark_err err = hk_envelope_event(json, len, data, data_len, what, ret, ei);
    if (!err)
        hark_event_stamp(*ret, l->sequence, hk_pg_get_int(r, row, L_RECORDED));
    return err;
}

/* Shows the page up to what cannot be shown; *ret_more false: no more is wanted. */
static hark_err show(const list *l, hark_store_letter_fn fn, void *ud, bool *ret_more,
                     hark_errinfo *ei)
{
    hark_err err = HARK_OK;
    int n = l->page ? PQntuples(l->page) : 0;
    for (int i = 0; i < n && !err && *ret_more; i++) {
        hark_store_letter x;
        hark_event *e = NULL;
        load(l->page, i, &x);
        err = load_event(l->page, i, &x, &e, ei);
        if (err)
            break;
        x.event = e;
        *ret_more = fn(ud, &x);
        hark_event_unref(e);
    }
    return err;
}

hark_err hk_pg_letters(hark_store *s, const hark_store_letters_query *q, hark_store_letter_fn fn,
                       void *ud, hark_errinfo *ei)
{
    list l = {.q = q, .after = q->after_id, .ids = {.kind = HK_PG_INT8}};
    size_t left = q->limit ? q->limit : SIZE_MAX;
    hark_err err = HARK_OK;
    for (bool more = true; !err && more && !l.end && left > 0;) {
        l.most = left < PAGE ? left : PAGE;
        l.page = NULL;
        err = hk_pg_reader_run(s, read_page, &l, ei);
        if (!err)
            err = show(&l, fn, ud, &more, ei);
        left -= l.page ? (size_t)PQntuples(l.page) : 0;
        l.after = l.looked;
        PQclear(l.page);
    }
    hk_pg_array_free(&l.ids);
    return err;
}

/* ---- attempts -------------------------------------------------------------------------------- */

static const hk_pg_sql list_attempts = {
    "attempts", "SELECT number, started, ended, outcome, error FROM @attempts WHERE "
                "seq = $2::int8 AND consumer_id = $1::int8 ORDER BY id"};

typedef struct attempt_list {
    uint64_t consumer, sequence;
    PGresult *all;
} attempt_list;

static hark_err read_attempts(hk_pg *c, void *ud, hark_errinfo *ei)
{
    attempt_list *l = ud;
    hk_pg_args args;
    hk_pg_head(&args, l->consumer, l->sequence);
    return hk_pg_run(c, &list_attempts, &args, &l->all, "listing attempts", ei);
}

hark_err hk_pg_attempts(hark_store *s, uint64_t consumer, uint64_t sequence,
                        hark_store_attempt_fn fn, void *ud, hark_errinfo *ei)
{
    attempt_list l = {.consumer = consumer, .sequence = sequence};
    hark_err err = hk_pg_reader_run(s, read_attempts, &l, ei);
    for (int i = 0; !err && i < PQntuples(l.all); i++) {
        const hark_store_attempt a = {.sequence = sequence,
                                      .number = hk_pg_get_int(l.all, i, 0),
                                      .started_ns = hk_pg_get_int(l.all, i, 1),
                                      .ended_ns = hk_pg_get_int(l.all, i, 2),
                                      .outcome = hk_pg_get_text(l.all, i, 3, NULL),
                                      .error = hk_pg_get_text(l.all, i, 4, NULL)};
        if (!fn(ud, &a))
            break;
    }
    PQclear(l.all);
    return err;
}
