/* What operators do with consumers: a reset to another place, a pause, and the list of all of them.
 * Registering and loading is in consumer.c. */
#include "store/sqlite/store_i.h"

#include <string.h>

static hark_err no_consumer(const hark_store *s, uint64_t id, hark_errinfo *ei)
{
    return hk_fail(ei, HARK_ENOTFOUND, "%s has no consumer %llu any more; list the consumers",
                   s->path, (unsigned long long)id);
}

/* ---- reset ----------------------------------------------------------------------------------- */

typedef struct place {
    uint64_t generation, highest, floor;
    uint64_t settled; /* see hark_store_rerun */
} place;

/* What is below the floor and still open has a row. When it is reset again while it replays, it stood
 * farther on before. */
static uint64_t settled_up_to(sqlite3_stmt *st, uint64_t floor)
{
    uint64_t before = (uint64_t)sqlite3_column_int64(st, 4);
    uint64_t open = (uint64_t)sqlite3_column_int64(st, 5); /* the first one; 0 = none */
    uint64_t settled = open && open <= floor ? open - 1 : floor;
    return before > settled ? before : settled;
}

/* The consumer as it is, and the floor that it will get. */
static hark_err find_place(hark_store *s, const hark_store_reset *r, place *ret, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hk_start at = {NULL, r->start, r->start_sequence, r->start_time_ns};
    bool row = false;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_AT, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)r->consumer);
    err = hk_conn_step(&s->conn, st, &row, "looking up a consumer", ei);
    if (!err && !row)
        err = no_consumer(s, r->consumer, ei);
    if (!err) {
        ret->generation = (uint64_t)sqlite3_column_int64(st, 0);
        ret->highest = (uint64_t)sqlite3_column_int64(st, 2);
        if (ret->highest < r->reached)
            ret->highest = r->reached;
        ret->floor = (uint64_t)sqlite3_column_int64(st, 1);
        ret->settled = settled_up_to(st, ret->floor);
    }
    if (!err && !r->keep) {
        at.name = (const char *)sqlite3_column_text(st, 3);
        err = at.name ? hk_start_floor(s, &at, &ret->floor, ei)
                      : hk_fail(ei, HARK_ENOMEM, "no memory to reset a consumer");
    }
    sqlite3_reset(st);
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

static hark_err set_place(hark_store *s, uint64_t consumer, const place *p,
                          const hark_store_rerun *rerun, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_RESET, &st, ei);
    s->n_acking = 0; /* of another generation from here on */
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, (int64_t)p->floor);
    hk_bind_str(st, 3, rerun->id[0] ? rerun->id : NULL);
    sqlite3_bind_int64(st, 4, (int64_t)rerun->from);
    sqlite3_bind_int64(st, 5, (int64_t)rerun->upto);
    sqlite3_bind_int64(st, 6, rerun->rate);
    sqlite3_bind_int64(st, 7, rerun->started_ns);
    sqlite3_bind_int64(st, 8, (int64_t)p->highest);
    sqlite3_bind_int64(st, 9, (int64_t)rerun->settled);
    err = hk_conn_run(&s->conn, st, "resetting a consumer", ei);
    sqlite3_bind_null(st, 3);
    return err;
}

/* Redriven letters whose delivery is dropped here are dead letters again: none is forgotten. But
 * where it was settled they have ended. */
static hark_err clear_state(hark_store *s, uint64_t consumer, hark_errinfo *ei)
{
    static const hk_sql all[] = {HK_SQL_ACKED_LETTERS, HK_SQL_ATTEMPTS_RESET,
                                 HK_SQL_DELIVERIES_CLEAR, HK_SQL_GAPS_CLEAR, HK_SQL_REDRIVEN_UNDO};
    hark_err err = HARK_OK;
    for (size_t i = 0; i < HK_COUNTOF(all) && !err; i++) {
        sqlite3_stmt *st;
        err = hk_conn_get(&s->conn, all[i], &st, ei);
        if (err)
            break;
        sqlite3_bind_int64(st, 1, (int64_t)consumer);
        err = hk_conn_run(&s->conn, st, "clearing a consumer's state", ei);
    }
    return err;
}

static hark_err end_rerun(hark_store *s, hark_store_reset *r, const place *p, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    hark_err err = hk_conn_get(&s->conn, HK_SQL_RERUN_END, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)r->consumer);
    r->rerun = (hark_store_rerun){0};
    r->ret_generation = p->generation;
    r->ret_floor = p->floor;
    return hk_conn_run(&s->conn, st, "ending a replay", ei);
}

hark_err hk_sqlite_consumer_reset(hark_store *s, hark_store_reset *r, hark_errinfo *ei)
{
    place p = {0};
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "consumer_reset outside of a group");
    hark_err err = find_place(s, r, &p, ei);
    if (err || r->keep)
        return hk_group_note(s, err ? err : end_rerun(s, r, &p, ei));
    hark_store_rerun rerun = plan_rerun(r, &p);
    err = set_place(s, r->consumer, &p, &rerun, ei);
    if (!err)
        err = clear_state(s, r->consumer, ei);
    if (err)
        return hk_group_note(s, err);
    r->rerun = rerun;
    r->ret_generation = p.generation + 1;
    r->ret_floor = p.floor;
    return HARK_OK;
}

hark_err hk_sqlite_consumer_pause(hark_store *s, uint64_t consumer, bool paused, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    if (!s->in_group)
        return hk_fail(ei, HARK_EINTERNAL, "consumer_pause outside of a group");
    hark_err err = hk_conn_get(&s->conn, HK_SQL_CONSUMER_PAUSE, &st, ei);
    if (err)
        return hk_group_note(s, err);
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    sqlite3_bind_int64(st, 2, paused);
    err = hk_conn_run(&s->conn, st, "pausing a consumer", ei);
    if (!err && sqlite3_changes(s->conn.db) == 0)
        err = no_consumer(s, consumer, ei);
    return hk_group_note(s, err);
}

/* ---- the list -------------------------------------------------------------------------------- */

/* Columns of HK_SQL_CONSUMERS. */
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
    L_RERUN
};

static bool load_row(sqlite3_stmt *st, hark_store_consumer_row *ret)
{
    *ret = (hark_store_consumer_row){.id = (uint64_t)sqlite3_column_int64(st, L_ID),
                                     .generation = (uint64_t)sqlite3_column_int64(st, L_GENERATION),
                                     .floor = (uint64_t)sqlite3_column_int64(st, L_FLOOR),
                                     .highest = (uint64_t)sqlite3_column_int64(st, L_HIGHEST),
                                     .paused = sqlite3_column_int64(st, L_PAUSED),
                                     .created_ns = sqlite3_column_int64(st, L_CREATED)};
    return hk_column_str(st, L_NAME, &ret->name) && hk_column_str(st, L_PATTERN, &ret->pattern) &&
           hk_column_str(st, L_POLICY, &ret->policy) && hk_rerun_columns(st, L_RERUN, &ret->rerun);
}

static hark_err count(hk_conn *c, hk_sql which, uint64_t consumer, uint64_t *const ret[], size_t n,
                      hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(c, which, &st, ei);
    if (err)
        return err;
    sqlite3_bind_int64(st, 1, (int64_t)consumer);
    err = hk_conn_step(c, st, &row, "counting a consumer's rows", ei);
    for (size_t i = 0; i < n && !err && row; i++)
        *ret[i] = (uint64_t)sqlite3_column_int64(st, (int)i);
    sqlite3_reset(st);
    return err;
}

static hark_err load_counts(hk_conn *c, hark_store_consumer_row *row, hark_errinfo *ei)
{
    uint64_t *rows[] = {&row->retrying, &row->behind, &row->parked, &row->dead, &row->dead_lanes};
    uint64_t *letters[] = {&row->letters};
    hark_err err = count(c, HK_SQL_CONSUMER_COUNTS, row->id, rows, HK_COUNTOF(rows), ei);
    return err ? err : count(c, HK_SQL_CONSUMER_LETTERS, row->id, letters, 1, ei);
}

static bool keep_row(hk_copies *c, const hark_store_consumer_row *row)
{
    static const size_t strings[] = {offsetof(hark_store_consumer_row, name),
                                     offsetof(hark_store_consumer_row, pattern),
                                     offsetof(hark_store_consumer_row, policy)};
    return hk_copies_add(c, row, sizeof *row, strings, HK_COUNTOF(strings));
}

static hark_err collect_all(hk_reader *r, void *ud, hark_errinfo *ei)
{
    sqlite3_stmt *st;
    bool row = false;
    hark_err err = hk_conn_get(&r->conn, HK_SQL_CONSUMERS, &st, ei);
    if (err)
        return err;
    while (!err) {
        hark_store_consumer_row one;
        err = hk_conn_step(&r->conn, st, &row, "listing consumers", ei);
        if (err || !row)
            break;
        bool loaded = load_row(st, &one);
        if (loaded)
            err = load_counts(&r->conn, &one, ei);
        if (!err && (!loaded || !keep_row(ud, &one)))
            err = hk_fail(ei, HARK_ENOMEM, "no memory to list the consumers");
    }
    sqlite3_reset(st);
    return err;
}

hark_err hk_sqlite_consumers(hark_store *s, hark_store_consumer_fn fn, void *ud, hark_errinfo *ei)
{
    hk_copies list = {0};
    hark_err err = hk_reader_run(s, collect_all, &list, ei);
    for (size_t i = 0; i < list.n && !err; i++)
        if (!fn(ud, list.rows[i]))
            break;
    hk_copies_free(&list);
    return err;
}
