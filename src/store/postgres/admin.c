/* What operators do with consumers: a reset to another place, a pause, and the list of all of them. Registering and
 * loading is in consumer.c. */
#include "store/postgres/ledger_i.h"

static const hk_pg_sql lock_one = {"admin_lock",
                                   "SELECT 1 FROM @consumers WHERE id = $1::int8 FOR UPDATE"};
/* A group that has saved some of them is waited for. */
static const hk_pg_sql lock_shares = {"admin_lock_shares",
                                      "SELECT 1 FROM @shares WHERE consumer_id = $1::int8 ORDER BY "
                                      "share FOR UPDATE"};
/* The last one: the first row that is open; 0 = there is none. */
static const hk_pg_sql find = {
    "admin_find",
    "SELECT c.generation, h.floor, h.highest, c.name, c.rerun_settled, (SELECT min(r.seq) FROM "
    "@deliveries r WHERE r.consumer_id = $1::int8 AND r.state <> 6) FROM @consumers c CROSS JOIN "
    "LATERAL (SELECT min(s.floor) AS floor, max(s.highest) AS highest FROM @shares s WHERE "
    "s.consumer_id = c.id) h WHERE c.id = $1::int8"};
enum { F_GENERATION, F_FLOOR, F_HIGHEST, F_NAME, F_SETTLED, F_OPEN };

static const hk_pg_sql set_rerun = {
    "admin_reset",
    "UPDATE @consumers SET generation = generation + 1, rerun_id = $2::text, rerun_from = "
    "$3::int8, rerun_upto = $4::int8, rerun_rate = $5::int8, rerun_started = $6::int8, "
    "rerun_settled = $7::int8 WHERE id = $1::int8"};
/* Whoever has a share loses it, and what is saved for it by then is refused. */
static const hk_pg_sql set_place = {
    "admin_reset_shares",
    "UPDATE @shares SET owner = NULL, token = token + 1, floor = $2::int8, highest = $3::int8, "
    "settled = NULL, claimed = 0, suspect = 0 WHERE consumer_id = $1::int8"};
static const hk_pg_sql rerun_end = {
    "admin_rerun_end",
    "UPDATE @consumers SET rerun_id = NULL, rerun_from = 0, rerun_upto = 0, rerun_rate = 0, "
    "rerun_started = 0, rerun_settled = 0 WHERE id = $1::int8"};
static const hk_pg_sql pause_one = {
    "admin_pause", "UPDATE @consumers SET paused = $2::int8 <> 0 WHERE id = $1::int8"};

/* Redriven letters whose delivery is dropped here are dead letters again: none is forgotten. But where it was
 * settled they have ended. In this order. */
static const hk_pg_sql clear[] = {
    {"clear_acked_letters",
     "DELETE FROM @dead_letters d WHERE d.consumer_id = $1::int8 AND d.state = 2 AND d.seq IN "
     "(SELECT r.seq FROM @deliveries r WHERE r.consumer_id = $1::int8 AND r.state = 6)"},
    {"clear_attempts",
     "DELETE FROM @attempts a WHERE a.consumer_id = $1::int8 AND a.seq IN (SELECT r.seq FROM "
     "@deliveries r WHERE r.consumer_id = $1::int8) AND " HK_PG_NO_EVENT " AND " HK_PG_NO_LETTER},
    {"clear_deliveries", "DELETE FROM @deliveries WHERE consumer_id = $1::int8"},
    {"clear_gaps", "DELETE FROM @gaps WHERE consumer_id = $1::int8"},
    {"clear_news", "DELETE FROM @news WHERE consumer_id = $1::int8"},
    {"clear_redriven",
     "UPDATE @dead_letters SET state = 1 WHERE consumer_id = $1::int8 AND state = 2"}};

static hark_err no_consumer(const hark_store *s, uint64_t id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTFOUND, "%s has no consumer %llu any more; list the consumers",
                   s->where, (unsigned long long)id);
}

/* ---- reset ----------------------------------------------------------------------------------- */

typedef struct place {
    uint64_t generation, highest, floor;
    uint64_t settled; /* see hark_store_rerun */
} place;

/* What is below the floor and still open has a row. When it is reset again while it replays, it stood farther on
 * before. */
static uint64_t settled_up_to(const PGresult *r, uint64_t floor)
{
    uint64_t before = (uint64_t)hk_pg_get_int(r, 0, F_SETTLED);
    uint64_t open = (uint64_t)hk_pg_get_int(r, 0, F_OPEN);
    uint64_t settled = open && open <= floor ? open - 1 : floor;
    return before > settled ? before : settled;
}

/* The consumer as it is. */
static void take_place(const PGresult *r, const hark_store_reset *reset, place *ret)
{
    ret->generation = (uint64_t)hk_pg_get_int(r, 0, F_GENERATION);
    ret->highest = (uint64_t)hk_pg_get_int(r, 0, F_HIGHEST);
    if (ret->highest < reset->reached)
        ret->highest = reset->reached;
    ret->floor = (uint64_t)hk_pg_get_int(r, 0, F_FLOOR);
    ret->settled = settled_up_to(r, ret->floor);
}

/* And the floor that it will get. */
static hark_err find_place(hark_store *s, const hark_store_reset *reset, place *ret,
                           hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    PGresult *r = NULL;
    hk_pg_int(&args, (int64_t)reset->consumer);
    hark_err err = hk_pg_send(&s->w, &lock_one, &args, ei);
    if (!err && !reset->keep)
        err = hk_pg_send(&s->w, &lock_shares, &args, ei);
    if (!err)
        err = hk_pg_run(&s->w, &find, &args, &r, "looking up a consumer", ei);
    if (!err && PQntuples(r) == 0)
        err = no_consumer(s, reset->consumer, ei);
    if (!err)
        take_place(r, reset, ret);
    if (!err && !reset->keep) {
        hk_pg_start at = {hk_pg_get_text(r, 0, F_NAME, NULL), reset->start, reset->start_sequence,
                          reset->start_time_ns};
        err = hk_pg_start_floor(s, &at, &ret->floor, ei);
    }
    PQclear(r);
    return err;
}

/* A replay reaches as far as the consumer had come; where it had not come there is none. */
static hark_store_rerun plan_rerun(const hark_store_reset *r, const place *p)
{
    hark_store_rerun rerun = r->rerun;
    if (rerun.id[0] == '\0' || p->highest <= p->floor)
        return (hark_store_rerun){0};
    rerun.from = p->floor + 1;
    rerun.upto = p->highest;
    rerun.settled = p->settled;
    rerun.started_ns = hk_wall_ns();
    return rerun;
}

static hark_err move(hark_store *s, uint64_t consumer, const place *p,
                     const hark_store_rerun *rerun, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0}, at;
    hark_err err = HARK_OK;
    hk_pg_int(&args, (int64_t)consumer);
    for (size_t i = 0; i < HK_COUNTOF(clear) && !err; i++)
        err = hk_pg_send(&s->w, &clear[i], &args, ei);
    hk_pg_head(&at, consumer, p->floor);
    hk_pg_int(&at, (int64_t)p->highest);
    if (!err)
        err = hk_pg_send(&s->w, &set_place, &at, ei);
    hk_pg_text(&args, rerun->id[0] ? rerun->id : NULL);
    hk_pg_int(&args, (int64_t)rerun->from);
    hk_pg_int(&args, (int64_t)rerun->upto);
    hk_pg_int(&args, rerun->rate);
    hk_pg_int(&args, rerun->started_ns);
    hk_pg_int(&args, (int64_t)rerun->settled);
    return err ? err : hk_pg_run(&s->w, &set_rerun, &args, NULL, "resetting a consumer", ei);
}

static hark_err end_rerun(hark_store *s, hark_store_reset *r, const place *p, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    hk_pg_int(&args, (int64_t)r->consumer);
    r->rerun = (hark_store_rerun){0};
    r->ret_generation = p->generation;
    r->ret_floor = p->floor;
    return hk_pg_run(&s->w, &rerun_end, &args, NULL, "ending a replay", ei);
}

hark_err hk_pg_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei)
{
    place p = {0};
    hark_err err = hk_pg_enter(s, "consumer_reset", ei);
    if (!err)
        err = hk_pg_saves_flush(s, ei);
    s->saves.tell = true;
    if (!err)
        err = find_place(s, r, &p, ei);
    if (err || r->keep)
        return err ? err : end_rerun(s, r, &p, ei);
    hark_store_rerun rerun = plan_rerun(r, &p);
    err = move(s, r->consumer, &p, &rerun, ei);
    if (err)
        return err;
    r->rerun = rerun;
    r->ret_generation = p.generation + 1;
    r->ret_floor = p.floor;
    return HARK_OK;
}

hark_err hk_pg_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei)
{
    hk_pg_args args = {.n = 0};
    uint64_t changed = 0;
    hark_err err = hk_pg_enter(s, "consumer_pause", ei);
    if (err)
        return err;
    s->saves.tell = true;
    hk_pg_int(&args, (int64_t)consumer);
    hk_pg_int(&args, paused);
    err = hk_pg_run_count(&s->w, &pause_one, &args, &changed, "pausing a consumer", ei);
    return !err && changed == 0 ? no_consumer(s, consumer, ei) : err;
}

/* ---- the list -------------------------------------------------------------------------------- */

/* What a lane whose head is a dead letter has besides it is parked, whatever it was saved as. */
static const hk_pg_sql list_all = {
    "admin_list",
    "WITH r AS (SELECT consumer_id, state, partitionkey, state < 4 AND partitionkey IS NOT NULL "
    "AND "
    "bool_or(state = 4) OVER (PARTITION BY consumer_id, partitionkey COLLATE \"C\") AS parks "
    "FROM @deliveries), "
    "n AS (SELECT consumer_id, count(*) FILTER (WHERE state = 1 AND NOT parks) AS retrying, "
    "count(*) FILTER (WHERE state IN (2, 3) AND NOT parks) AS behind, "
    "count(*) FILTER (WHERE parks) AS parked, count(*) FILTER (WHERE state = 4) AS dead, "
    "count(DISTINCT partitionkey COLLATE \"C\") FILTER (WHERE state = 4) + "
    "count(*) FILTER (WHERE state = 4 AND partitionkey IS NULL) AS lanes FROM r "
    "GROUP BY consumer_id), "
    "l AS (SELECT consumer_id, count(*) AS letters FROM @dead_letters WHERE state = 1 "
    "GROUP BY consumer_id) "
    "SELECT c.id, c.name, c.pattern, c.policy, c.generation, h.floor, h.highest, c.paused, "
    "c.created, n.retrying, n.behind, n.parked, n.dead, n.lanes, l.letters, c.rerun_id, "
    "c.rerun_from, c.rerun_upto, c.rerun_rate, c.rerun_started, c.rerun_settled FROM @consumers c "
    "CROSS JOIN LATERAL (SELECT min(s.floor) AS floor, max(s.highest) AS highest FROM @shares s "
    "WHERE s.consumer_id = c.id) h "
    "LEFT JOIN n ON n.consumer_id = c.id LEFT JOIN l ON l.consumer_id = c.id ORDER BY c.name"};
enum {
    L_ID,
    L_NAME,
    L_PATTERN,
    L_POLICY,
    L_GENERATION,
    L_FLOOR,
    L_HIGHEST,
    L_PAUSED,
    L_CREATED,
    L_RETRYING,
    L_BEHIND,
    L_PARKED,
    L_DEAD,
    L_LANES,
    L_LETTERS,
    L_RERUN
};

static uint64_t count(const PGresult *r, int row, int col)
{
    return (uint64_t)hk_pg_get_int(r, row, col);
}

static void load_row(const PGresult *r, int row, hark_store_consumer_row *ret)
{
    *ret = (hark_store_consumer_row){.name = hk_pg_get_text(r, row, L_NAME, NULL),
                                     .pattern = hk_pg_get_text(r, row, L_PATTERN, NULL),
                                     .policy = hk_pg_get_text(r, row, L_POLICY, NULL),
                                     .id = count(r, row, L_ID),
                                     .generation = count(r, row, L_GENERATION),
                                     .floor = count(r, row, L_FLOOR),
                                     .highest = count(r, row, L_HIGHEST),
                                     .paused = hk_pg_get_int(r, row, L_PAUSED),
                                     .created_ns = hk_pg_get_int(r, row, L_CREATED),
                                     .retrying = count(r, row, L_RETRYING),
                                     .behind = count(r, row, L_BEHIND),
                                     .parked = count(r, row, L_PARKED),
                                     .dead = count(r, row, L_DEAD),
                                     .dead_lanes = count(r, row, L_LANES),
                                     .letters = count(r, row, L_LETTERS)};
    hk_pg_get_rerun(r, row, L_RERUN, &ret->rerun);
}

static hark_err read_list(hk_pg *c, void *ud, hark_errinfo *ei)
{
    return hk_pg_run(c, &list_all, NULL, ud, "listing consumers", ei);
}

hark_err hk_pg_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei)
{
    PGresult *r = NULL;
    hark_err err = hk_pg_reader_run(s, read_list, &r, ei);
    for (int i = 0; !err && i < PQntuples(r); i++) {
        hark_store_consumer_row row;
        load_row(r, i, &row);
        if (!fn(ud, &row))
            break;
    }
    PQclear(r);
    return err;
}
