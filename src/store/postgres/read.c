/* read: a page, by one statement and so in one snapshot, with where the log begins and ends. Four ways lead through the
 * log: by sequence, by sequence with a filter on types, by the index of types with a merge over few of them, and by
 * subject. Ranges of (type, seq) and (subject, seq) are compared as pairs: only the index over both can do that. */
#include "store/postgres/store_i.h"

#include "event/event.h"

enum {
    FEW_TYPES = 8,
    LOOK_MAX = 16384 /* positions that one call looks at when a filter lets few through */
};

/* ---- statements -------------------------------------------------------------------------------- */

#define OF_EVENT "(SELECT " HK_PG_COLUMNS " FROM @events e WHERE e.seq = q.seq LIMIT 1)"
#define BETWEEN  "seq >= l.low AND seq <= l.high"
#define PLAIN(dir)                                                                                 \
    "SELECT " HK_PG_COLUMNS " FROM @events WHERE " BETWEEN " ORDER BY seq " dir " LIMIT $5"
#define PAIRS(col, value, dir)                                                                     \
    "(e." col ", e.seq) >= (" value ", l.low) AND (e." col ", e.seq) <= (" value ", l.high) "      \
    "ORDER BY e." col " " dir ", e.seq " dir " LIMIT $5"
#define BY_TYPE(dir)                                                                               \
    "SELECT t.* FROM (SELECT k.seq FROM unnest($7::text[]) x(type) CROSS JOIN LATERAL (SELECT "    \
    "seq FROM @events e WHERE " PAIRS("type", "x.type",                                            \
                                      dir) ") k ORDER BY k.seq " dir                               \
                                           " LIMIT $5) q CROSS JOIN LATERAL " OF_EVENT " t"
#define BY_SUBJECT(dir)                                                                            \
    "SELECT " HK_PG_COLUMNS " FROM @events e WHERE e.subject IS NOT NULL AND ($8::int8 = 1 OR "    \
    "type = ANY($7::text[])) AND " PAIRS("subject", "$9::text", dir)
#define FILTERED(dir, within)                                                                      \
    "SELECT " HK_PG_COLUMNS " FROM @events WHERE " within " AND type = ANY($7::text[]) ORDER BY "  \
    "seq " dir " LIMIT $5"
/* Rows until their data is more than $6 bytes. They come in the order of the window: what is LATERAL to one row can only be
 * read along with it, and to sort them again would cost as much as to read them. take_rows looks. */
#define PAGE(inner, dir)                                                                           \
    "WITH " HK_PG_BOUNDS " SELECT e.*, l.last, l.first, l.low, l.high, " HK_PG_KINDS               \
    " FROM l LEFT JOIN LATERAL "                                                                   \
    "(SELECT " HK_PG_COLUMNS " FROM (SELECT p.*, sum(octet_length(data)) OVER (ORDER BY seq " dir  \
    ") - coalesce(octet_length(data), 0) AS before FROM (" inner ") p) w WHERE "                   \
    "coalesce(before, 0) < $6::int8) e ON true"

static const hk_pg_sql plain[] = {{"read_up", PAGE(PLAIN(""), "")},
                                  {"read_down", PAGE(PLAIN("DESC"), "DESC")}};
static const hk_pg_sql by_type[] = {{"read_type_up", PAGE(BY_TYPE(""), "")},
                                    {"read_type_down", PAGE(BY_TYPE("DESC"), "DESC")}};
static const hk_pg_sql by_subject[] = {{"read_subject_up", PAGE(BY_SUBJECT(""), "")},
                                       {"read_subject_down", PAGE(BY_SUBJECT("DESC"), "DESC")}};
static const hk_pg_sql filtered[] = {
    {"read_filter_up",
     PAGE(FILTERED("", "seq >= l.low AND seq <= least(l.high, l.low + 16383)"), "")},
    {"read_filter_down",
     PAGE(FILTERED("DESC", "seq <= l.high AND seq >= greatest(l.low, l.high - 16383)"), "DESC")}};
_Static_assert(LOOK_MAX == 16384, "the statements above say the same");

enum { LAST = 16, FIRST, LOW, HIGH, KINDS }; /* columns behind those of the event */

/* ---- a page ------------------------------------------------------------------------------------ */

typedef struct walk {
    hark_store *s;
    const hark_store_query *q;
    hark_store_page *page;
    hk_pg_array types;
    bool all_types;
    uint64_t upto; /* the log's end when the types were read */
    uint64_t low, high, first, last;
    bool full, window;
} walk;

void hk_pg_bounds_args(const hark_store_query *q, uint64_t upto, hk_pg_args *args)
{
    uint64_t high = q->before ? q->before - 1 : HARK_SEQ_MAX;
    hk_pg_int(args, q->after < HARK_SEQ_MAX ? (int64_t)q->after + 1 : (int64_t)HARK_SEQ_MAX);
    hk_pg_int(args, (int64_t)(high < upto ? high : upto));
    hk_pg_int(args, q->from_ns);
    hk_pg_int(args, q->to_ns);
}

static const hk_pg_sql *choose(walk *w)
{
    bool down = w->q->descending != 0;
    if (w->q->subject)
        return &by_subject[down];
    if (w->all_types)
        return &plain[down];
    if (w->types.n <= FEW_TYPES)
        return &by_type[down];
    w->window = true;
    return &filtered[down];
}

static hark_err fetch(walk *w, hk_pg *c, PGresult **ret, hark_errinfo *ei)
{
    const hk_pg_sql *sql = choose(w);
    const hark_store_query *q = w->q;
    hk_pg_args args = {0};
    hark_err err = HARK_OK;
    hk_pg_bounds_args(q, w->upto, &args);
    hk_pg_int(&args, q->limit < INT32_MAX ? (int64_t)q->limit : INT32_MAX);
    hk_pg_int(&args,
              q->limit_bytes && q->limit_bytes < INT64_MAX ? (int64_t)q->limit_bytes : INT64_MAX);
    if (sql != &plain[0] && sql != &plain[1])
        err = hk_pg_arg_array(&args, &w->types, ei);
    if (q->subject) {
        hk_pg_int(&args, w->all_types);
        hk_pg_text(&args, q->subject);
    }
    return err ? err : hk_pg_run(c, sql, &args, ret, "reading events", ei);
}

static hark_err take_rows(walk *w, const PGresult *r, hark_errinfo *ei)
{
    size_t bytes = 0, len;
    hark_err err = HARK_OK;
    if (PQgetisnull(r, 0, 0)) /* nothing but where the log is */
        return HARK_OK;
    for (int i = 0; i < PQntuples(r) && !w->full; i++) {
        hark_event *e;
        uint64_t before = w->page->n ? w->page->covered : 0;
        err = hk_pg_row(w->s, r, i, &e, ei);
        if (!err && before && (hark_event_sequence(e) > before) == (w->q->descending != 0)) {
            (void)hark_event_unref(e);
            err = hk_fail(ei, HARK_EINTERNAL, "%s gives events in another order", w->s->where);
        }
        if (err)
            break;
        w->page->events[w->page->n++] = e;
        w->page->covered = hark_event_sequence(e);
        (void)hark_event_data(e, &len);
        bytes += len;
        w->full = w->page->n >= w->q->limit || (w->q->limit_bytes && bytes >= w->q->limit_bytes);
    }
    return err;
}

/* Every position that was asked for was looked at, or as many as one call looks at. */
static void finish(walk *w)
{
    const hark_store_query *q = w->q;
    if (w->window && w->low <= w->high && w->high - w->low >= LOOK_MAX) {
        w->page->covered = q->descending ? w->high - LOOK_MAX + 1 : w->low + LOOK_MAX - 1;
        return;
    }
    w->page->end = 1;
    if (q->descending) {
        w->page->covered = q->after + 1;
        return;
    }
    uint64_t to = q->before && q->before <= w->last ? q->before - 1 : w->last;
    w->page->covered = to > q->after ? to : q->after;
}

static hark_err take_page(walk *w, const PGresult *r, hark_errinfo *ei)
{
    if (PQntuples(r) == 0)
        return hk_fail(ei, HARK_ECORRUPT,
                       "%s: the table %s.log does not have its one row; restore from a backup",
                       w->s->where, w->s->schema);
    uint64_t last = (uint64_t)hk_pg_get_int(r, 0, LAST);
    w->last = last < w->upto ? last : w->upto;
    w->first = (uint64_t)hk_pg_get_int(r, 0, FIRST);
    w->low = (uint64_t)hk_pg_get_int(r, 0, LOW);
    w->high = (uint64_t)hk_pg_get_int(r, 0, HIGH);
    hk_pg_show(w->s, w->first, last);
    uint64_t gone = w->first ? w->first - 1 : w->last;
    if (!w->q->descending)
        w->page->gap = gone > w->q->after ? gone : 0;
    w->page->covered = w->q->descending ? w->high + 1 : w->low - 1;
    hark_err err = take_rows(w, r, ei);
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

/* By the types that the connection knows; *ret_known false: there are others since. */
static hark_err fetch_known(walk *w, hk_pg *c, PGresult **ret, bool *ret_known, hark_errinfo *ei)
{
    int64_t kinds;
    w->upto = HARK_SEQ_MAX;
    hark_err err = hk_pg_types_known(c, w->q->pattern, &w->types, &w->all_types, &kinds, ei);
    if (!err)
        err = fetch(w, c, ret, ei);
    *ret_known = err || kinds < 0 || PQntuples(*ret) == 0 || hk_pg_get_int(*ret, 0, KINDS) == kinds;
    return err;
}

static hark_err fetch_anew(walk *w, hk_pg *c, PGresult **ret, hark_errinfo *ei)
{
    PQclear(*ret);
    *ret = NULL;
    w->window = false;
    hark_err err = hk_pg_types_at(c, w->q->pattern, &w->types, &w->all_types, &w->upto, ei);
    return err ? err : fetch(w, c, ret, ei);
}

static hark_err read_page(hk_pg *c, void *ud, hark_errinfo *ei)
{
    walk *w = ud;
    PGresult *r = NULL;
    bool known;
    w->full = w->window = false;
    hark_err err = fetch_known(w, c, &r, &known, ei);
    if (!known)
        err = fetch_anew(w, c, &r, ei);
    if (!err)
        err = take_page(w, r, ei);
    PQclear(r);
    if (err)
        drop_page(w->page);
    return err;
}

hark_err hk_pg_read(hark_store *s, const hark_store_query *q, hark_store_page *ret,
                    hark_errinfo *ei)
{
    walk w = {.s = s, .q = q, .page = ret};
    ret->n = 0;
    ret->end = 0;
    ret->covered = q->after;
    if (q->limit == 0)
        return hk_fail(ei, HARK_EINVAL, "a page of 0 events");
    hark_err err = hk_pg_reader_run(s, read_page, &w, ei);
    hk_pg_array_free(&w.types);
    return err;
}
