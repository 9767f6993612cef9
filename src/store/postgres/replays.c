/* The progress of replays into ad-hoc handlers, so that they can be gone on with after a restart. One that is under way has an
 * owner, the process, and is nobody else's as long as that lives. */
#include "store/postgres/ledger_i.h"

#define COLUMNS                                                                                    \
    "id, pattern, first, last, from_ns, to_ns, rate, position, done, total, rejected, state, "     \
    "started, changed, error, owner"

static const hk_pg_sql put = {
    "replay_put",
    "INSERT INTO @replays AS r(" COLUMNS
    ") VALUES($1::text, $2::text, $3::int8, $4::int8, $5::int8, "
    "$6::int8, $7::int8, $8::int8, $9::int8, $10::int8, $11::int8, $12::int8, $13::int8, "
    "$14::int8, $15::text, $16::int8) ON CONFLICT (id) DO UPDATE SET pattern = excluded.pattern, "
    "first = excluded.first, last = excluded.last, from_ns = excluded.from_ns, "
    "to_ns = excluded.to_ns, rate = excluded.rate, position = excluded.position, "
    "done = excluded.done, total = excluded.total, rejected = excluded.rejected, "
    "state = excluded.state, started = excluded.started, changed = excluded.changed, "
    "error = excluded.error, owner = excluded.owner WHERE r.owner IS NULL OR r.owner = "
    "$17::int8 OR NOT EXISTS(SELECT 1 FROM @processes p WHERE p.id = r.owner AND p.until > "
    "clock_timestamp())"};
static const hk_pg_sql list_all = {
    "replays", "SELECT " COLUMNS ", owner <> $1::int8 AND EXISTS(SELECT 1 FROM @processes p WHERE "
               "p.id = owner AND p.until > clock_timestamp()) FROM @replays ORDER BY started, id"};
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
    R_ERROR,
    R_OWNER,
    R_ELSEWHERE
};

hark_err hk_pg_replay_put(hark_store *s, const hark_store_replay *r, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    int64_t me = (int64_t)hk_mark_get(&s->process);
    uint64_t changed = 0;
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
    if (r->holds)
        hk_pg_int(&args, me);
    else
        hk_pg_text(&args, NULL);
    hk_pg_int(&args, me);
    err = hk_pg_run_count(&s->w, &put, &args, &changed, "saving a replay", ei);
    if (!err && changed == 0)
        err = hk_fail(ei, HARK_EEXIST,
                      "replay %s is under way in another process; wait for it, or stop it there",
                      r->id);
    return err;
}

typedef struct listing {
    uint64_t me;
    PGresult *r;
} listing;

static hark_err read_list(hk_pg *c, void *ud, hark_errinfo *ei)
{
    listing *l = ud;
    hk_pg_args args = {.n = 0};
    hk_pg_int(&args, (int64_t)l->me);
    return hk_pg_run(c, &list_all, &args, &l->r, "listing replays", ei);
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
                               .error = hk_pg_get_text(r, row, R_ERROR, NULL),
                               .holds = !PQgetisnull(r, row, R_OWNER),
                               .elsewhere = hk_pg_get_int(r, row, R_ELSEWHERE)};
}

hark_err hk_pg_replays(hark_store *s, hark_store_replay_fn fn, void *ud, hark_errinfo *ei)
{
    listing l = {.me = hk_mark_get(&s->process)};
    hark_err err = hk_pg_reader_run(s, read_list, &l, ei);
    for (int i = 0; !err && i < PQntuples(l.r); i++) {
        hark_store_replay one;
        load(l.r, i, &one);
        if (!fn(ud, &one))
            break;
    }
    PQclear(l.r);
    return err;
}
