/* The progress of replays into ad-hoc handlers, so that they can be gone on with after a restart. */
#include "store/postgres/ledger_i.h"

#define COLUMNS                                                                                    \
    "id, pattern, first, last, from_ns, to_ns, rate, position, done, total, rejected, state, "     \
    "started, changed, error"

static const hk_pg_sql put = {
    "replay_put",
    "INSERT INTO @replays(" COLUMNS ") VALUES($1::text, $2::text, $3::int8, $4::int8, $5::int8, "
    "$6::int8, $7::int8, $8::int8, $9::int8, $10::int8, $11::int8, $12::int8, $13::int8, "
    "$14::int8, $15::text) ON CONFLICT (id) DO UPDATE SET pattern = excluded.pattern, "
    "first = excluded.first, last = excluded.last, from_ns = excluded.from_ns, "
    "to_ns = excluded.to_ns, rate = excluded.rate, position = excluded.position, "
    "done = excluded.done, total = excluded.total, rejected = excluded.rejected, "
    "state = excluded.state, started = excluded.started, changed = excluded.changed, "
    "error = excluded.error"};
static const hk_pg_sql list_all = {"replays",
                                   "SELECT " COLUMNS " FROM @replays ORDER BY started, id"};
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

hark_err hk_pg_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    const int64_t numbers[] = {(int64_t)r->first, (int64_t)r->last,  r->from_ns,
                               r->to_ns,          r->rate,           (int64_t)r->position,
                               (int64_t)r->done,  (int64_t)r->total, (int64_t)r->rejected,
                               r->state,          r->started_ns,     r->changed_ns};
    hark_err err = hk_pg_enter(s, "replay_put", ei);
    if (err)
        return err;
    hk_pg_text(&args, r->id);
    hk_pg_text(&args, r->pattern);
    for (size_t i = 0; i < HK_COUNTOF(numbers); i++)
        hk_pg_int(&args, numbers[i]);
    hk_pg_text(&args, r->error);
    return hk_pg_run(&s->w, &put, &args, NULL, "saving a replay", ei);
}

static hark_err read_list(hk_pg *c, void *ud, hark_errinfo *ei)
{
    return hk_pg_run(c, &list_all, NULL, ud, "listing replays", ei);
}

static void load(const PGresult *r, int row, hark_store_replay *ret)
{
    *ret = (hark_store_replay){.id = hk_pg_get_text(r, row, R_ID, NULL),
                               .pattern = hk_pg_get_text(r, row, R_PATTERN, NULL),
                               .first = (uint64_t)hk_pg_get_int(r, row, R_FIRST),
                               .last = (uint64_t)hk_pg_get_int(r, row, R_LAST),
                               .from_ns = hk_pg_get_int(r, row, R_FROM),
                               .to_ns = hk_pg_get_int(r, row, R_TO),
                               .rate = hk_pg_get_int(r, row, R_RATE),
                               .position = (uint64_t)hk_pg_get_int(r, row, R_POSITION),
                               .done = (uint64_t)hk_pg_get_int(r, row, R_DONE),
                               .total = (uint64_t)hk_pg_get_int(r, row, R_TOTAL),
                               .rejected = (uint64_t)hk_pg_get_int(r, row, R_REJECTED),
                               .state = hk_pg_get_int(r, row, R_STATE),
                               .started_ns = hk_pg_get_int(r, row, R_STARTED),
                               .changed_ns = hk_pg_get_int(r, row, R_CHANGED),
                               .error = hk_pg_get_text(r, row, R_ERROR, NULL)};
}

hark_err hk_pg_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_reader_run(s, read_list, &r, ei);
    for (int i = 0; !err && i < PQntuples(r); i++) {
        hark_store_replay one;
        load(r, i, &one);
        if (!fn(ud, &one))
            break;
    }
    PQclear(r);
    return err;
}
