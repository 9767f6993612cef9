/* count: how many events does a query ask for? The whole log, or types of it, are in the table of versions; anything else is
 * counted in the indexes, in slices, so that no statement takes long. What is published or removed
 * meanwhile may or may not be among it. */
#include "store/postgres/store_i.h"

#define SLICE 1000000 /* sequences */

static const hk_pg_sql all_there = {
    "count_all", "SELECT coalesce(sum(count), 0)::int8 FROM @versions WHERE $1::int8 = 1 OR type = "
                 "ANY($2::text[])"};
static const hk_pg_sql bounds = {"count_bounds",
                                 "WITH " HK_PG_BOUNDS " SELECT low, high, first FROM l"};
static const hk_pg_sql by_place = {"count_range", "SELECT count(*) FROM @events WHERE seq >= "
                                                  "$1::int8 AND seq <= $2::int8"};
static const hk_pg_sql by_type = {
    "count_types",
    "SELECT coalesce(sum(n), 0)::int8 FROM unnest($3::text[]) x(type) CROSS JOIN LATERAL (SELECT "
    "count(*) AS n FROM @events e WHERE (e.type, e.seq) >= (x.type, $1::int8) AND (e.type, e.seq) "
    "<= (x.type, $2::int8)) c"};
static const hk_pg_sql by_subject = {
    "count_subject",
    "SELECT count(*) FROM @events e WHERE e.subject IS NOT NULL AND (e.subject, e.seq) >= "
    "($5::text, $1::int8) AND (e.subject, e.seq) <= ($5, $2::int8) AND ($4::int8 = 1 OR type = "
    "ANY($3::text[]))"};

typedef struct counting {
    const hark_store_query *q;
    hk_pg_array types;
    bool all;
    uint64_t upto, at, high, total;
} counting;

static hark_err number(hk_pg *c, const hk_pg_sql *sql, const hk_pg_args *args, uint64_t *ret,
                       hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_run(c, sql, args, &r, "counting events", ei);
    if (!err)
        *ret = (uint64_t)hk_pg_get_int(r, 0, 0);
    PQclear(r);
    return err;
}

static hark_err count_there(hk_pg *c, counting *n, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_int(&args, n->all);
    hark_err err = hk_pg_arg_array(&args, &n->types, ei);
    return err ? err : number(c, &all_there, &args, &n->total, ei);
}

static hark_err set_bounds(hk_pg *c, counting *n, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    PGresult *r = NULL;
    hk_pg_bounds_args(n->q, n->upto, &args);
    hark_err err = hk_pg_run(c, &bounds, &args, &r, "counting events", ei);
    if (!err && PQntuples(r) > 0) {
        uint64_t first = (uint64_t)hk_pg_get_int(r, 0, 2);
        n->at = (uint64_t)hk_pg_get_int(r, 0, 0);
        n->at = n->at > first ? n->at : first;
        n->high = first ? (uint64_t)hk_pg_get_int(r, 0, 1) : 0;
    }
    PQclear(r);
    return err;
}

static hark_err count_slice(hk_pg *c, counting *n, uint64_t to, hark_errinfo *ei)
{
    const hark_store_query *q = n->q;
    const hk_pg_sql *sql = q->subject ? &by_subject : n->all ? &by_place : &by_type;
    hk_pg_args args = {0};
    uint64_t found = 0;
    hark_err err = HARK_OK;
    hk_pg_int(&args, (int64_t)n->at);
    hk_pg_int(&args, (int64_t)to);
    if (sql != &by_place)
        err = hk_pg_arg_array(&args, &n->types, ei);
    if (sql == &by_subject) {
        hk_pg_int(&args, n->all);
        hk_pg_text(&args, q->subject);
    }
    if (!err)
        err = number(c, sql, &args, &found, ei);
    n->total += found;
    return err;
}

static hark_err count(hk_pg *c, void *ud, hark_errinfo *ei)
{
    counting *n = ud;
    const hark_store_query *q = n->q;
    bool whole = !q->subject && !q->after && !q->before && !q->from_ns && !q->to_ns;
    n->total = n->at = n->high = 0;
    hark_err err = hk_pg_types_at(c, q->pattern, &n->types, &n->all, &n->upto, ei);
    if (!err && whole)
        return count_there(c, n, ei);
    if (!err)
        err = set_bounds(c, n, ei);
    while (!err && n->at <= n->high && n->high) {
        uint64_t to = n->high - n->at < SLICE ? n->high : n->at + SLICE - 1;
        err = count_slice(c, n, to, ei);
        n->at = to + 1;
    }
    return err;
}

hark_err hk_pg_count(hark_store *s, const hark_store_query *q, uint64_t *ret, hark_errinfo *ei)
{
    counting n = {.q = q};
    hark_err err = hk_pg_reader_run(s, count, &n, ei);
    hk_pg_array_free(&n.types);
    if (!err)
        *ret = n.total;
    return err;
}
