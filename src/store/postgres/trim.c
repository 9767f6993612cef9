/* Retention: removes old events of a pattern, oldest first, a slice at a time, for about as long as it is told. What is in the
 * way is found and judged here; the server only deletes what it is told by number. One process at a time does so, with a
 * lock of its own, and holds the log meanwhile, as whoever appends: both change the table of versions, and rows of
 * consumers. */
#include "store/postgres/trim_i.h"

#include <string.h>

/* The tables may have been small when a statement was planned, and the plan is kept. The rest is as in writer.c. */
static const hk_pg_sql along_indexes = {"trim_plan",
                                        "SELECT set_config('enable_bitmapscan', $1::text, true)"};
static const hk_pg_sql try_lock = {
    "trim_lock", "SELECT pg_try_advisory_xact_lock(($1::int8)::int4, ($2::int8)::int4)"};
/* Of replays that are under way: $1 is the number of what all of them have handed out, plus 1. Those of processes that are
 * gone are not: whoever takes one up is told what it misses. */
static const hk_pg_sql replays_hold = {
    "trim_replays", "SELECT min(greatest(r.position, r.first - 1) + 1) FROM @replays r JOIN "
                    "@processes p ON p.id = r.owner AND (p.until > clock_timestamp() OR p.id = "
                    "$1::int8) WHERE r.position < r.last"};
static const hk_pg_sql by_age = {
    "trim_age", "SELECT min(seq) FROM (SELECT seq FROM @events WHERE recorded = (SELECT "
                "min(recorded) FROM @events WHERE recorded >= $1::int8) OFFSET 0) a"};
static const hk_pg_sql count_all = {
    "trim_count", "SELECT coalesce(sum(count), 0)::int8 FROM @versions WHERE type "
                  "= ANY($1::text[])"};
#define NTH(dir)                                                                                   \
    "SELECT k.seq FROM unnest($1::text[]) x(type) CROSS JOIN LATERAL (SELECT seq FROM @events e "  \
    "WHERE (e.type, e.seq) >= (x.type, 0::int8) AND (e.type, e.seq) <= (x.type, "                  \
    "9007199254740992::int8) ORDER BY e.type " dir ", e.seq " dir " LIMIT $2::int8 + 1) k ORDER "  \
    "BY k.seq " dir " OFFSET $2 LIMIT 1"
static const hk_pg_sql nth_up = {"trim_nth_up", NTH("")};
static const hk_pg_sql nth_down = {"trim_nth_down", NTH("DESC")};
static const hk_pg_sql nth_of_all_up = {
    "trim_nth_all_up", "SELECT seq FROM @events ORDER BY seq OFFSET $1::int8 LIMIT 1"};
static const hk_pg_sql nth_of_all_down = {
    "trim_nth_all_down", "SELECT seq FROM @events ORDER BY seq DESC OFFSET $1::int8 LIMIT 1"};
static const hk_pg_sql old_by_type = {
    "trim_old",
    "SELECT k.seq, x.type, k.partitionkey FROM unnest($3::text[], $4::int8[]) x(type, lim) CROSS "
    "JOIN LATERAL (SELECT seq, partitionkey FROM @events e WHERE (e.type, e.seq) >= (x.type, "
    "$1::int8) AND (e.type, e.seq) < "
    "(x.type, least(x.lim, $2::int8)) ORDER BY e.type, e.seq LIMIT 500) k ORDER BY k.seq LIMIT "
    "500"};
static const hk_pg_sql old_of_all = {
    "trim_old_all",
    "SELECT seq, type, partitionkey FROM @events WHERE seq >= $1::int8 AND seq < $2::int8 ORDER "
    "BY seq LIMIT 500"};
_Static_assert(HK_PG_SLICE == 500, "the statements above say the same");
static const hk_pg_sql remove_them = {
    "trim_remove",
    "WITH d AS (DELETE FROM @events WHERE seq = ANY($1::int8[]) RETURNING type, dataversion), "
    "v AS (UPDATE @versions v SET count = v.count - g.n FROM (SELECT type, dataversion, count(*) "
    "AS n FROM d GROUP BY type, dataversion) g WHERE v.type = g.type AND v.version = "
    "g.dataversion), "
    "a AS (DELETE FROM @attempts a WHERE a.seq = ANY($1) AND (SELECT 1 FROM @dead_letters l WHERE "
    "l.consumer_id = a.consumer_id AND l.seq = a.seq LIMIT 1) IS NULL), "
    "r AS (DELETE FROM @deliveries r USING unnest($2::int8[], $3::int8[], $4::int8[]) x(consumer, "
    "share, at) WHERE r.consumer_id = x.consumer AND r.share = x.share::int4 AND r.seq = x.at) "
    "SELECT count(*) FROM d"};
static const hk_pg_sql first_left = {"trim_first", "SELECT min(seq) FROM @events"};

/* A number, 0 where there is none. */
static hark_err number(hk_pg_trimming *w, const hk_pg_sql *sql, const hk_pg_args *args,
                       uint64_t *ret, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_run(&w->s->w, sql, args, &r, "removing old events", ei);
    if (!err)
        *ret = PQntuples(r) > 0 ? (uint64_t)hk_pg_get_int(r, 0, 0) : 0;
    PQclear(r);
    return err;
}

static hark_err plan(hk_pg_trimming *w, const char *bitmaps, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_text(&args, bitmaps);
    return hk_pg_send(&w->s->w, &along_indexes, &args, ei);
}

/* ---- what may go ------------------------------------------------------------------------------- */

static hk_pg_pass *find_pass(hark_store *s, const hark_store_trim *t)
{
    uint64_t key[2] = {hk_hash(t->pattern, strlen(t->pattern)), t->keep};
    uint64_t rule = hk_hash(key, sizeof key) | 1;
    for (size_t i = 0; i < HK_PG_PASSES; i++)
        if (s->passes[i].rule == rule)
            return &s->passes[i];
    hk_pg_pass *p = &s->passes[s->next_pass];
    s->next_pass = (s->next_pass + 1) % HK_PG_PASSES;
    *p = (hk_pg_pass){.rule = rule};
    return p;
}

/* The sequence from which on there are exactly `keep` events of the pattern; 0 when there are not more than that.
 * Counted from the nearer end. */
static hark_err limit_by_count(hk_pg_trimming *w, uint64_t *ret, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    uint64_t total = 0, keep = w->t->keep;
    hark_err err = hk_pg_arg_array(&args, &w->types, ei);
    if (!err)
        err = number(w, &count_all, &args, &total, ei);
    if (err || total <= keep)
        return err;
    bool down = keep < total - keep;
    if (w->all_types)
        args.n = 0;
    hk_pg_int(&args, (int64_t)(down ? keep - 1 : total - keep));
    const hk_pg_sql *sql =
        w->all_types ? (down ? &nth_of_all_down : &nth_of_all_up) : (down ? &nth_down : &nth_up);
    return number(w, sql, &args, ret, ei);
}

static hark_err limit_by_age(hk_pg_trimming *w, uint64_t *ret, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hk_pg_int(&args, w->t->before_ns);
    hark_err err = number(w, &by_age, &args, ret, ei);
    if (!err && *ret == 0)
        *ret = w->last + 1;
    return err;
}

static hark_err limit_by_replays(hk_pg_trimming *w, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    uint64_t hold = 0;
    hk_pg_int(&args, (int64_t)hk_mark_get(&w->s->process));
    hark_err err = number(w, &replays_hold, &args, &hold, ei);
    if (!err && hold && hold < w->limit)
        w->limit = hold;
    return err;
}

/* Whichever is over goes. */
static hark_err set_limit(hk_pg_trimming *w, hark_errinfo *ei)
{
    uint64_t age = 0, count = 0;
    hark_err err = w->t->before_ns ? limit_by_age(w, &age, ei) : HARK_OK;
    if (!err && w->t->keep)
        err = limit_by_count(w, &count, ei);
    w->limit = age > count ? age : count;
    if (w->t->force || err)
        return err;
    if (w->t->hold && w->t->hold < w->limit)
        w->limit = w->t->hold;
    return limit_by_replays(w, ei);
}

/* The limit of each type; the highest is the walk's. */
static hark_err set_limits(hk_pg_trimming *w, hark_errinfo *ei)
{
    static const hk_pg_sql names = {"trim_names", "SELECT type FROM unnest($1::text[]) x(type)"};
    hk_pg_args args = {0};
    PGresult *r = NULL;
    uint64_t most = 0;
    hark_err err = hk_pg_arg_array(&args, &w->types, ei);
    if (!err)
        err = hk_pg_run(&w->s->w, &names, &args, &r, "removing old events", ei);
    for (int i = 0; !err && i < PQntuples(r); i++) {
        uint64_t limit = hk_pg_holders_limit(w, hk_pg_get_text(r, i, 0, NULL));
        most = limit > most ? limit : most;
        hk_pg_array_int(&w->limits, (int64_t)limit);
        if (limit != w->limit)
            w->all_types = false; /* not all alike: type by type */
    }
    PQclear(r);
    w->limit = most;
    return err;
}

static bool is_any(const hk_pg_trimming *w)
{
    return w->first && w->limit > w->first;
}

static hark_err lock(hk_pg_trimming *w, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    uint64_t got = 0;
    hk_pg_int(&args, HK_PG_TRIM_LOCK);
    hk_pg_int(&args, w->s->lock_no);
    hark_err err = number(w, &try_lock, &args, &got, ei);
    if (!err && !got)
        err = hk_fail(ei, HARK_ELOCKED, "%s: another process removes old events this moment",
                      w->s->where);
    return err ? err : hk_pg_log_take(w->s, "trim", ei);
}

static hark_err prepare(hk_pg_trimming *w, hark_errinfo *ei)
{
    hark_store *s = w->s;
    hk_pg_args none = {0};
    hark_err err = hk_pg_append_flush(s, ei);
    if (!err)
        err = hk_pg_enter(s, "trim", ei);
    if (!err)
        err = lock(w, ei);
    w->last = s->now.last;
    if (!err)
        err = plan(w, "off", ei);
    if (!err)
        err = number(w, &first_left, &none, &w->first, ei);
    if (!err)
        err = hk_pg_types(&s->w, w->t->pattern, &w->types, &w->all_types, ei);
    if (!err)
        err = set_limit(w, ei);
    if (!err && is_any(w))
        err = hk_pg_holders_load(w, ei);
    return err || !is_any(w) ? err : set_limits(w, ei);
}

/* ---- removing ---------------------------------------------------------------------------------- */

static hark_err remove_gone(hk_pg_trimming *w, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    uint64_t n = 0;
    if (w->gone.n == 0)
        return HARK_OK;
    hark_err err = hk_pg_arg_array(&args, &w->gone, ei);
    if (!err)
        err = hk_pg_arg_array(&args, &w->rows_of, ei);
    if (!err)
        err = hk_pg_arg_array(&args, &w->rows_in, ei);
    if (!err)
        err = hk_pg_arg_array(&args, &w->rows_at, ei);
    if (!err)
        err = number(w, &remove_them, &args, &n, ei);
    w->t->ret_removed += n;
    return err;
}

static hark_err find_slice(hk_pg_trimming *w, PGresult **ret, hark_errinfo *ei)
{
    hk_pg_args args = {0};
    hark_err err = HARK_OK;
    hk_pg_int(&args, (int64_t)w->pass->from);
    hk_pg_int(&args, (int64_t)w->limit);
    if (!w->all_types)
        err = hk_pg_arg_array(&args, &w->types, ei);
    if (!err && !w->all_types)
        err = hk_pg_arg_array(&args, &w->limits, ei);
    return err ? err
               : hk_pg_run(&w->s->w, w->all_types ? &old_of_all : &old_by_type, &args, ret,
                           "looking for old events", ei);
}

/* *ret_n: looked at; fewer than a slice: these were the last. */
static hark_err remove_slice(hk_pg_trimming *w, size_t *ret_n, bool *ret_room, hark_errinfo *ei)
{
    hk_pg_old old[HK_PG_SLICE];
    PGresult *r = NULL;
    hark_err err = find_slice(w, &r, ei);
    *ret_n = err ? 0 : (size_t)PQntuples(r);
    *ret_room = true;
    for (size_t i = 0; i < *ret_n; i++)
        old[i] = (hk_pg_old){.seq = (uint64_t)hk_pg_get_int(r, (int)i, 0),
                             .type = hk_pg_get_text(r, (int)i, 1, NULL),
                             .key = hk_pg_get_text(r, (int)i, 2, NULL)};
    if (*ret_n)
        err = hk_pg_holders_judge(w, old, *ret_n, ret_room, ei);
    if (!err && *ret_n && *ret_room) {
        err = remove_gone(w, ei);
        w->pass->from = old[*ret_n - 1].seq + 1;
    }
    PQclear(r);
    return err;
}

static hark_err remove_slices(hk_pg_trimming *w, hark_errinfo *ei)
{
    bool room = true;
    hark_err err = HARK_OK;
    for (size_t n = HK_PG_SLICE, i = 0; !err && n == HK_PG_SLICE && room; i++) {
        if (i && hk_mono_ns() >= w->until) {
            w->t->ret_more = 1;
            return HARK_OK;
        }
        err = remove_slice(w, &n, &room, ei);
    }
    if (!room)
        w->t->ret_more = 1;
    return err;
}

static hark_err finish(hk_pg_trimming *w, hark_errinfo *ei)
{
    hk_pg_args none = {0};
    hark_err err = HARK_OK;
    if (w->t->ret_removed) {
        err = number(w, &first_left, &none, &w->s->first_left, ei);
        w->s->trimmed = true;
        w->s->saves.tell = w->s->saves.tell || w->t->ret_n_gaps > 0;
    }
    if (!err && w->t->ret_removed)
        err = hk_pg_holders_save_gaps(w, ei);
    return err ? err : plan(w, "on", ei);
}

static void release(hk_pg_trimming *w)
{
    hk_pg_holders_free(w);
    hk_pg_array_free(&w->types);
    hk_pg_array_free(&w->limits);
    hk_pg_array_free(&w->ids);
    hk_pg_array_free(&w->gone);
    hk_pg_array_free(&w->rows_of);
    hk_pg_array_free(&w->rows_in);
    hk_pg_array_free(&w->rows_at);
}

hark_err hk_pg_trim(hark_store *s, hark_store_trim *t, hark_errinfo *ei)
{
    hk_pg_trimming w = {.s = s,
                        .t = t,
                        .until = hk_mono_ns() + t->budget_ns,
                        .limits.kind = HK_PG_INT8,
                        .ids.kind = HK_PG_INT8,
                        .gone.kind = HK_PG_INT8,
                        .rows_of.kind = HK_PG_INT8,
                        .rows_in.kind = HK_PG_INT8,
                        .rows_at.kind = HK_PG_INT8};
    t->ret_removed = 0;
    t->ret_more = 0;
    t->ret_n_gaps = 0;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "trim outside of a group");
    if (t->before_ns == 0 && t->keep == 0)
        return HARK_OK;
    w.pass = find_pass(s, t);
    hark_err err = prepare(&w, ei);
    if (!err && is_any(&w))
        err = remove_slices(&w, ei);
    if (!err)
        err = finish(&w, ei);
    if (!err && !t->ret_more)
        w.pass->from = 0;
    release(&w);
    return hk_pg_note(s, err);
}
